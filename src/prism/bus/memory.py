"""The bus in this process's memory: a real driver, gone with the process; for tests and `memory:` configurations.

Several drivers on one `Topics` behave as several processes on one broker: what is published and committed is common,
where a driver stands in a partition is its own. A partition holds a bounded number of messages; beyond it, publishing
fails.
"""

from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import islice

from .codec import partition_of
from .driver import Message, Received, TopicPartition

__all__ = ["MemoryDriver", "PartitionFull", "Topics"]

_MAX_MESSAGES = 1_000_000
_POLL_BYTES = 32 * 2**20
_TRIM = 1000


class PartitionFull(Exception):
    """Nobody trims this partition; nothing of the call after the message that did not fit was taken."""


class _Partition:
    def __init__(self) -> None:
        self.first = 0
        self.messages: deque[Received] = deque()
        self.committed: dict[str, int] = {}

    @property
    def next(self) -> int:
        return self.first + len(self.messages)


class Topics:
    """The state that drivers share."""

    def __init__(self) -> None:
        self.by_name: dict[str, list[_Partition]] = {}


class MemoryDriver:
    """Topics in memory; `topics` is given to let several drivers share them."""

    failures: tuple[type[Exception], ...] = (PartitionFull,)

    def __init__(
        self,
        now: Callable[[], datetime],
        *,
        partitions: int = 4,
        topics: Topics | None = None,
        max_messages: int = _MAX_MESSAGES,
    ) -> None:
        self._now = now
        self._partitions = partitions
        self._topics = topics or Topics()
        self._max_messages = max_messages
        self._positions: dict[tuple[str, TopicPartition], int] = {}

    async def partitions(self, topic: str) -> int:
        return len(self._topic(topic))

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        partitions, at = self._topic(topic), self._now()
        for message in messages:
            number = partition_of(message.key, len(partitions))
            found = partitions[number]
            if len(found.messages) >= self._max_messages:
                raise PartitionFull(f"{topic} holds {self._max_messages} messages in partition {number}")
            source = TopicPartition(topic, number)
            found.messages.append(Received(source=source, offset=found.next, published_at=at, message=message))

    async def poll(self, group: str, source: TopicPartition, limit: int) -> list[Received]:
        found = self._partition(source)
        position = self._positions.get((group, source), found.committed.get(group, 0))
        taken: list[Received] = []
        size = 0
        for received in islice(found.messages, max(0, position - found.first), None):
            size += len(received.message.value)
            if len(taken) == limit or (taken and size > _POLL_BYTES):
                break
            taken.append(received)
        if taken:
            self._positions[group, source] = taken[-1].offset + 1
        return taken

    async def commit(self, group: str, source: TopicPartition, offset: int) -> None:
        committed = self._partition(source).committed
        committed[group] = max(offset, committed.get(group, 0))

    async def rewind(self, group: str, source: TopicPartition) -> None:
        self._positions.pop((group, source), None)

    async def lag(self, group: str, source: TopicPartition) -> int:
        found = self._partition(source)
        return max(0, found.next - max(found.first, found.committed.get(group, 0)))

    async def trim(self, topic: str, before: datetime) -> int:
        dropped = 0
        for found in self._topic(topic):
            while found.messages and found.messages[0].published_at < before and dropped < _TRIM:
                found.messages.popleft()
                found.first += 1
                dropped += 1
        return dropped

    async def close(self) -> None:
        self._positions.clear()

    def _topic(self, topic: str) -> list[_Partition]:
        return self._topics.by_name.setdefault(topic, [_Partition() for _ in range(self._partitions)])

    def _partition(self, source: TopicPartition) -> _Partition:
        return self._topic(source.topic)[source.partition]
