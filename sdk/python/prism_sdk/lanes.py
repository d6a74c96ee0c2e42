"""Several parts of one transfer at a time, each in a thread of its own, and one stop for all of them.

The threads are daemons: whoever interrupts the transfer is not kept waiting for a server that does not answer.
"""

import threading
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from .errors import Cancelled, InvalidArgument

__all__ = ["Lanes", "Moved"]

T = TypeVar("T")
Progress = Callable[[int, int], object]
_MOST = 64
_RELEASE_SECONDS = 2.0
_LOOK_SECONDS = 0.1


class Lanes:
    """At most `parallel` parts in flight."""

    def __init__(self, parallel: int, stopped: threading.Event | None = None) -> None:
        if not 1 <= parallel <= _MOST:
            raise InvalidArgument(f"parallel is 1 to {_MOST}")
        self.parallel = parallel
        self._stopped = stopped or threading.Event()
        self._failed = threading.Event()

    def fresh(self) -> "Lanes":
        """For another beginning of the same transfer: only `stop` goes for both, not a failure of this one."""
        return Lanes(self.parallel, self._stopped)

    def stop(self) -> None:
        """From any thread: nothing more is begun, and what is under way ends at its next piece."""
        self._stopped.set()

    def check(self) -> None:
        """CANCELLED after `stop` or a failure in another lane; asked between pieces."""
        if self._ended:
            raise Cancelled("the transfer was stopped")

    def pause(self, seconds: float) -> None:
        """Wait, or be stopped."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._ended:
            self._stopped.wait(min(left, _LOOK_SECONDS))
        self.check()

    @property
    def _ended(self) -> bool:
        return self._stopped.is_set() or self._failed.is_set()

    def run(self, items: Iterable[T], work: Callable[[T], None]) -> None:
        """Do the work for each item. The first failure stops the rest and is raised."""
        self.check()
        failures: list[BaseException] = []
        waiting, taking = iter(items), threading.Lock()

        def lane() -> None:
            try:
                while not self._ended:
                    with taking:
                        item = next(waiting)
                    work(item)
            except StopIteration:
                return
            except BaseException as error:  # noqa: BLE001 raised again in the caller's thread
                failures.append(error)
                self._failed.set()

        threads = [threading.Thread(target=lane, name="prism-part", daemon=True) for _ in range(self.parallel)]
        try:
            for thread in threads:
                thread.start()
            self._wait(threads)
        except BaseException:
            self._failed.set()
            _join(threads, _RELEASE_SECONDS)
            raise
        if failures:
            raise failures[0]
        self.check()

    def _wait(self, threads: Iterable[threading.Thread]) -> None:
        for thread in threads:
            while thread.is_alive() and not self._ended:
                thread.join(_LOOK_SECONDS)
        if self._ended:
            _join(threads, _RELEASE_SECONDS)


def _join(threads: Iterable[threading.Thread], seconds: float) -> None:
    until = time.monotonic() + seconds
    for thread in threads:
        if thread.ident is not None:
            thread.join(max(0.0, until - time.monotonic()))


class Moved:
    """How far the transfer is; tells the caller one call at a time, and never less than before."""

    def __init__(self, total_bytes: int, progress: Progress | None) -> None:
        self._total = total_bytes
        self._progress = progress
        self._lock = threading.Lock()
        self._done = self._told = 0

    def add(self, size_bytes: int) -> None:
        """So much more was moved; less than nothing when a part begins again."""
        with self._lock:
            self._done += size_bytes
            if self._progress is not None and self._done > self._told:
                self._told = self._done
                self._progress(self._done, self._total)

    def begin_again(self) -> None:
        """Nothing counts as moved."""
        with self._lock:
            self._done = 0
