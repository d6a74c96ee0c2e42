"""A small pool of threads for blocking calls of one event loop.

Results that arrive together are handed to the loop in one wake-up, which makes a hop several times cheaper than the
standard executor's. The queue holds at most one job per call under way; threads are started when they are needed.
A call that nobody waits for any more before a thread was free for it never begins: what was given up while a store was
silent must not reach it later.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar, TypeVarTuple

__all__ = ["Threads"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
_Job = tuple["asyncio.Future[Any]", Callable[..., Any], tuple[Any, ...]]
_LONGEST_SECONDS = 5.0


class Threads:
    """At most `limit` threads. Use it from the loop that made it; `run` after `close` is a RuntimeError."""

    def __init__(self, limit: int, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._limit = limit
        self._name = name
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._waiting: dict[asyncio.Future[Any], bool] = {}
        """Calls that have not begun. Whoever takes one out, a thread or the loop, decides what becomes of it."""
        self._results: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._waking = False
        self._threads: list[threading.Thread] = []
        self._under_way = 0
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()

    def run(self, function: Callable[[*Ts], T], *arguments: *Ts) -> "asyncio.Future[T]":
        """Call `function` in a thread. Cancelling the future keeps the call from beginning, and does not stop one that
        has."""
        if self._closed:
            raise RuntimeError("the store is closed")
        future: asyncio.Future[T] = self._loop.create_future()
        self._under_way += 1
        self._idle.clear()
        if self._under_way > len(self._threads) < self._limit:
            thread = threading.Thread(target=self._work, name=f"{self._name}-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._waiting[future] = True
        self._jobs.put((future, function, arguments))
        return future

    def withdraw(self, call: "asyncio.Future[Any]") -> bool:
        """Cancel a call that has not begun, so that it never does; whether that was so."""
        return self._waiting.pop(call, False) and call.cancel()

    async def close(self, longest_seconds: float = _LONGEST_SECONDS) -> None:
        """Wait for what is under way, then let the threads go. What hangs is left behind after so many seconds, and
        what has not begun then never does; a process that ends does not wait for it."""
        self._closed = True
        try:
            async with asyncio.timeout(longest_seconds):
                await self._idle.wait()
        except TimeoutError:
            for call in list(self._waiting):
                self.withdraw(call)
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads if self._idle.is_set() else ():
            thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, function, arguments = job
            result: Any = None
            failure: BaseException | None = None
            try:
                if self._waiting.pop(future, False) and not future.cancelled():
                    result = function(*arguments)
            except BaseException as error:  # noqa: BLE001 - handed to whoever awaits the call
                failure = error
            self._results.append((future, result, failure))
            del job, future, function, arguments, result, failure
            if not self._waking:
                self._waking = True
                self._wake()

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:
            return  # the loop is gone, and with it everybody who waited

    def _deliver(self) -> None:
        self._waking = False
        while self._results:
            future, result, failure = self._results.popleft()
            self._under_way -= 1
            if future.done():
                continue
            if failure is None:
                future.set_result(result)
            else:
                future.set_exception(failure)
        if not self._under_way:
            self._idle.set()
