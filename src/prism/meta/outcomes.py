"""Unknown commit results: a marker per transaction says afterwards whether it was committed, and fences it if it was
not.

Every attempt reads its marker and writes its own number there. After an unknown outcome another transaction looks:
finds the number, and the attempt is committed; or writes a fence, and the attempt, whose read is stale now, can no
longer be. Markers are slots that are used again, one per transaction in flight, so they do not pile up; those of
processes that died are swept when a partition is first used. They lie in a range of their own in front of which the
partition's name stands."""

import os
import time
from collections.abc import Callable
from typing import TypeVar

from .driver import Body, Conflict, Driver, Transaction, UnknownOutcome
from .waiting import pause

__all__ = ["RESERVED", "Markers", "Slot"]

T = TypeVar("T")
RESERVED = b"\xf8"
"""What the front door's own keys begin with; no encoded tuple does."""
_FENCE = bytes(8)
_STALE_SECONDS = 86_400
_SWEEP = 256
_LOOKS = 12


class Slot:
    """The marker of one transaction in flight: its key, and the number of the attempt that is written there."""

    __slots__ = ("key", "mark")

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.mark = b""


class Markers:
    """The slots of one process, by partition. `unix_time` and the `process` id (8 bytes) are given by tests."""

    def __init__(
        self, driver: Driver, unix_time: Callable[[], float] = time.time, process: bytes | None = None
    ) -> None:
        self._driver = driver
        self._unix_time = unix_time
        self._process = process or os.urandom(8)
        self._attempts = 0
        self._free: dict[bytes, list[Slot]] = {}
        self._made: dict[bytes, int] = {}

    async def take(self, partition: bytes) -> Slot:
        """A slot that no transaction in flight uses."""
        if partition not in self._made:
            self._made[partition] = 0
            self._free[partition] = []
            await self._sweep(partition)
        free = self._free[partition]
        if free:
            return free.pop()
        self._made[partition] += 1
        return Slot(RESERVED + partition + b"m" + self._process + self._made[partition].to_bytes(4, "big"))

    def give_back(self, partition: bytes, slot: Slot) -> None:
        """The transaction ended. Even one that may still commit late cannot: the slot's next user is in its way."""
        self._free[partition].append(slot)

    def marked(self, slot: Slot, body: Body[T]) -> Body[T]:
        """The body of one attempt that reads and writes the slot."""
        self._attempts += 1
        slot.mark = self._attempts.to_bytes(8, "big")
        value = slot.mark + self._now()

        async def run(tx: Transaction) -> T:
            await tx.get(slot.key)
            answer = await body(tx)
            tx.set(slot.key, value)
            return answer

        return run

    async def committed(self, partition: bytes, slot: Slot) -> bool:
        """Whether the slot's last attempt was committed; if not, it never will be. Raises `UnknownOutcome` when the
        store did not say in a bounded number of looks."""

        async def look(tx: Transaction) -> bool:
            found = await tx.get(slot.key)
            if found is not None and found[:8] == slot.mark:
                return True
            tx.set(slot.key, _FENCE + self._now())
            return False

        unsaid: tuple[type[Exception], ...] = (Conflict, UnknownOutcome, *self._driver.failures)
        for attempt in range(_LOOKS):
            try:
                return await self._driver.transact(partition, look, (slot.key,))
            except unsaid:
                await pause(attempt)
        raise UnknownOutcome

    def _now(self) -> bytes:
        return int(self._unix_time()).to_bytes(8, "big")

    async def _sweep(self, partition: bytes) -> None:
        """Drop the markers of processes that ended long ago; those that stay are swept another time."""
        oldest = (int(self._unix_time()) - _STALE_SECONDS).to_bytes(8, "big")
        start, end = RESERVED + partition + b"m", RESERVED + partition + b"n"

        async def body(tx: Transaction) -> None:
            for key, value in await tx.range(start, end, _SWEEP, False):
                if value[8:] < oldest:
                    tx.clear(key)

        try:
            await self._driver.transact(partition, body, ())
        except (Conflict, UnknownOutcome):
            return
