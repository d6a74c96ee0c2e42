"""A metadata driver round a driver that fails on demand: conflicts, unknown outcomes, a store that is down or slow.

Faults are queued with `inject` and taken one per call, so a test says exactly which attempt meets which; without any
the driver only passes calls on. Its outcomes may be unknown, so the front door marks every transaction that goes
through it."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from enum import Enum
from typing import Any, TypeVar

from ..meta.driver import Body, Conflict, Driver, Snapshot, Transaction, UnknownOutcome

__all__ = ["Fault", "FaultyMeta", "StoreDown"]

T = TypeVar("T")


class StoreDown(Exception):
    """What the faulty driver raises as its library's failure."""


class Fault(Enum):
    """What happens to one call."""

    CONFLICT = "the body runs, and the transaction loses to another"
    COMMITTED = "the transaction is committed, and its answer is lost"
    LOST = "the transaction is not committed, and its answer is lost"
    LATE = "its answer is lost, and it tries to commit at `release`; for drivers whose transactions do not hold a lock"
    DOWN = "the store fails before the body runs"
    SLOW = "the call waits for `delay_seconds` first"


class FaultyMeta:
    """The driver round `inner`; `calls` counts transactions, the front door's own among them."""

    outcome_may_be_unknown = True

    def __init__(self, inner: Driver, *, delay_seconds: float = 0.05) -> None:
        self._inner = inner
        self._delay_seconds = delay_seconds
        self._transactions: deque[Fault | None] = deque()
        self._reads: deque[Fault | None] = deque()
        self._always: Fault | None = None
        self._gate = asyncio.Event()
        self._late: list[asyncio.Task[Any]] = []
        self.calls = 0

    @property
    def failures(self) -> tuple[type[Exception], ...]:
        return (*self._inner.failures, StoreDown)

    def explain(self, failure: Exception) -> str:
        return "the store is down" if isinstance(failure, StoreDown) else self._inner.explain(failure)

    def inject(self, *faults: Fault | None) -> None:
        """Queue what the next transactions meet; None lets one pass."""
        self._transactions.extend(faults)

    def inject_reads(self, *faults: Fault | None) -> None:
        """Queue what the next snapshots meet: DOWN or SLOW."""
        self._reads.extend(faults)

    def always(self, fault: Fault | None) -> None:
        """What every further transaction meets once the queue is empty; None ends it."""
        self._always = fault

    async def release(self) -> list[bool]:
        """Let the late transactions try to commit now; says of each whether it did."""
        self._gate.set()
        ended = await asyncio.gather(*self._late, return_exceptions=True)
        self._late.clear()
        self._gate = asyncio.Event()
        return [not isinstance(outcome, BaseException) for outcome in ended]

    def snapshot(self) -> AbstractAsyncContextManager[Snapshot]:
        return self._snapshot(self._reads.popleft() if self._reads else None)

    @asynccontextmanager
    async def _snapshot(self, fault: Fault | None) -> AsyncIterator[Snapshot]:
        await self._before(fault)
        async with self._inner.snapshot() as snapshot:
            yield snapshot

    async def _before(self, fault: Fault | None) -> None:
        if fault is Fault.DOWN:
            raise StoreDown
        if fault is Fault.SLOW:
            await asyncio.sleep(self._delay_seconds)

    async def transact(self, partition: bytes, body: Body[T], prefetch: Sequence[bytes]) -> T:
        self.calls += 1
        fault = self._transactions.popleft() if self._transactions else self._always
        await self._before(fault)
        match fault:
            case Fault.CONFLICT:
                return await self._inner.transact(partition, _failing(body, Conflict()), prefetch)
            case Fault.LOST:
                return await self._inner.transact(partition, _failing(body, UnknownOutcome()), prefetch)
            case Fault.COMMITTED:
                await self._inner.transact(partition, body, prefetch)
                raise UnknownOutcome
            case Fault.LATE:
                return await self._begin_late(partition, body, prefetch)
        return await self._inner.transact(partition, body, prefetch)

    async def _begin_late(self, partition: bytes, body: Body[T], prefetch: Sequence[bytes]) -> T:
        ran, gate = asyncio.Event(), self._gate

        async def held(tx: Transaction) -> T:
            answer = await body(tx)
            ran.set()
            await gate.wait()
            return answer

        task = asyncio.ensure_future(self._inner.transact(partition, held, prefetch))
        waiting = asyncio.ensure_future(ran.wait())
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            waiting.cancel()
            return task.result()
        self._late.append(task)
        raise UnknownOutcome

    async def close(self) -> None:
        for task in self._late:
            task.cancel()
        await asyncio.gather(*self._late, return_exceptions=True)
        await self._inner.close()


def _failing(body: Body[T], error: Exception) -> Body[T]:
    """Runs the body, then fails, so that nothing of it is committed."""

    async def run(tx: Transaction) -> T:
        await body(tx)
        raise error

    return run
