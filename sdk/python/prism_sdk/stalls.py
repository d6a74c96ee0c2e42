"""Ends calls on which nothing moves. Waiting for a synchronous stream has no timeout of its own, so one thread watches.

The thread lives only while something is watched. Time that the caller's own code takes is not counted.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["StallWatch", "Watched"]


class Watched:
    """One call. `stalled` says that it was ended here."""

    def __init__(self, cancel: Callable[[], object]) -> None:
        self.cancel = cancel
        self.stalled = False
        self.waiting_since: float | None = None

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Within it, the call waits for the other side."""
        self.waiting_since = time.monotonic()
        try:
            yield
        finally:
            self.waiting_since = None


class StallWatch:
    """Watches the calls of one client."""

    def __init__(self, stall_seconds: float) -> None:
        self._seconds = stall_seconds
        self._changed = threading.Condition()
        self._calls: set[Watched] = set()
        self._thread: threading.Thread | None = None

    def add(self, call: Watched) -> None:
        """Watch a call until it is removed."""
        with self._changed:
            self._calls.add(call)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="prism-stalls", daemon=True)
                self._thread.start()

    def remove(self, call: Watched) -> None:
        """The call is over."""
        with self._changed:
            self._calls.discard(call)

    def _run(self) -> None:
        idle_rounds = 0
        while True:
            with self._changed:
                self._changed.wait(self._seconds / 4)
                idle_rounds = 0 if self._calls else idle_rounds + 1
                if idle_rounds > 4:
                    self._thread = None
                    return
                calls = list(self._calls)
            before = time.monotonic() - self._seconds
            for call in calls:
                since = call.waiting_since
                if since is not None and since < before and not call.stalled:
                    call.stalled = True
                    call.cancel()
