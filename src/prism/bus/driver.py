"""The contract of the bus: durable messages, at least once, ordered per key.

`publish` returns when the message is durable. A consumer group reads each partition from its committed offset;
a batch that was not committed is delivered again. Messages with one key stand in one partition, in publish order.
Offsets grow by commit order without a follower missing any; they need not be dense. A driver keeps messages for the
retention asked for at least, and drops older ones only once it is told the time (`trim`).
Non-guarantees: exactly once; order between keys; one consumer per partition (the worker's lease sees to that).
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import msgspec

__all__ = ["Driver", "Message", "Received", "TopicPartition"]


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What is published: `key` orders, `value` is the payload (at most 20 MiB), `headers` are short."""

    key: str
    value: bytes
    headers: dict[str, str] = {}


class TopicPartition(msgspec.Struct, frozen=True):
    """One ordered log of a topic."""

    topic: str
    partition: int


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """A delivered message; committing `offset + 1` says that it and all before it are done with."""

    source: TopicPartition
    offset: int
    published_at: datetime
    message: Message


class Driver(Protocol):
    """What a broker must do. Every method may be called from many tasks of one event loop."""

    @property
    def failures(self) -> tuple[type[Exception], ...]:
        """The types of what its library raises when the broker fails; the front door maps them to BUS_DOWN."""
        ...

    async def partitions(self, topic: str) -> int:
        """How many partitions the topic has; it is created when absent, and the count never changes."""
        ...

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        """Durable when it returns, in the given order per key; after an exception any prefix may be there."""
        ...

    async def poll(self, group: str, source: TopicPartition, limit: int) -> list[Received]:
        """At most `limit` messages from the group's position on; empty when there are none now. The position of a
        driver instance moves on with each poll and goes back to the committed offset on a new instance or `rewind`."""
        ...

    async def commit(self, group: str, source: TopicPartition, offset: int) -> None:
        """The group is done with everything below `offset`; durable when it returns; never moves backwards."""
        ...

    async def rewind(self, group: str, source: TopicPartition) -> None:
        """Back to the committed offset: what was polled since will be delivered again."""
        ...

    async def lag(self, group: str, source: TopicPartition) -> int:
        """How many messages the group has not committed."""
        ...

    async def trim(self, topic: str, before: datetime) -> int:
        """Drop messages published before `before` (bounded work a call); the number dropped."""
        ...

    async def close(self) -> None: ...
