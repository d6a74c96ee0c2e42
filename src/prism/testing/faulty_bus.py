"""A bus that fails on demand, round any driver: before or after the driver did its work, for the calls a test names.

What a real broker does to its clients: refuse, lose the answer of a publish that took place, deliver again.
"""

from collections.abc import Sequence
from datetime import datetime

from ..bus.driver import Driver, Message, Received, TopicPartition

__all__ = ["BusFault", "FaultyBus"]


class BusFault(Exception):
    """The failure that a test asked for."""


class FaultyBus:
    """`fail(verb, times)` makes the next calls of a verb fail before, `lose(verb, times)` after the driver did them.
    `down` makes every call fail until it is False again."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._before: dict[str, int] = {}
        self._after: dict[str, int] = {}
        self.down = False

    @property
    def failures(self) -> tuple[type[Exception], ...]:
        return (*self._driver.failures, BusFault)

    def fail(self, verb: str, times: int = 1) -> None:
        """The next `times` calls of `verb` change nothing and raise."""
        self._before[verb] = times

    def lose(self, verb: str, times: int = 1) -> None:
        """The next `times` calls of `verb` take effect and raise all the same."""
        self._after[verb] = times

    def _enter(self, verb: str) -> None:
        if self.down or _counted(self._before, verb):
            raise BusFault(verb)

    def _leave(self, verb: str) -> None:
        if _counted(self._after, verb):
            raise BusFault(verb)

    async def partitions(self, topic: str) -> int:
        self._enter("partitions")
        return await self._driver.partitions(topic)

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        self._enter("publish")
        await self._driver.publish(topic, messages)
        self._leave("publish")

    async def poll(self, group: str, source: TopicPartition, limit: int) -> list[Received]:
        self._enter("poll")
        found = await self._driver.poll(group, source, limit)
        self._leave("poll")
        return found

    async def commit(self, group: str, source: TopicPartition, offset: int) -> None:
        self._enter("commit")
        await self._driver.commit(group, source, offset)
        self._leave("commit")

    async def rewind(self, group: str, source: TopicPartition) -> None:
        self._enter("rewind")
        await self._driver.rewind(group, source)

    async def lag(self, group: str, source: TopicPartition) -> int:
        self._enter("lag")
        return await self._driver.lag(group, source)

    async def trim(self, topic: str, before: datetime) -> int:
        self._enter("trim")
        return await self._driver.trim(topic, before)

    async def close(self) -> None:
        await self._driver.close()


def _counted(faults: dict[str, int], verb: str) -> bool:
    left = faults.get(verb, 0)
    if left:
        faults[verb] = left - 1
    return left > 0
