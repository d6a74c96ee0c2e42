"""Port 3, durable ordered messages: `Bus` is the front door, `open_bus` makes one from a URL.

The front door validates, bounds each call in time, and maps whatever a driver raises to BUS_DOWN. Delivery is at least
once and ordered per key; see `driver.py` for the contract. Nothing is parked or retried here: the relay and the
consumer loop decide about that.
"""

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from ..errors import ErrorCode, PrismError
from ..meta import Meta
from .driver import Driver, Message, Received, TopicPartition

__all__ = ["MAX_MESSAGE_BYTES", "Bus", "Driver", "Message", "Received", "TopicPartition", "open_bus"]

MAX_MESSAGE_BYTES = 20 * 2**20
_MAX_KEY_BYTES = 2048
_MAX_HEADER_BYTES = 4096
_MAX_BATCH = 10_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}\Z")


class Bus:
    """The bus as everybody uses it. Errors of every method: INVALID_ARGUMENT, and BUS_DOWN when the broker fails or
    takes longer than `call_seconds`."""

    def __init__(self, driver: Driver, call_seconds: float = 30.0) -> None:
        self._driver = driver
        self._call_seconds = call_seconds

    async def partitions(self, topic: str) -> int:
        """How many partitions the topic has; makes the topic when it is new."""
        _check_name("topic", topic)
        async with self._mapped():
            return await self._driver.partitions(topic)

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        """Durable when it returns, in order per key. After an error any of them may be there: publish again."""
        _check_name("topic", topic)
        for message in messages:
            _check_message(message)
        if messages:
            async with self._mapped():
                await self._driver.publish(topic, messages)

    async def poll(self, group: str, source: TopicPartition, limit: int = 100) -> list[Received]:
        """The next messages of the group, at most `limit` and about 32 MiB; empty when there are none now."""
        _check_name("group", group)
        _check_name("topic", source.topic)
        if not 1 <= limit <= _MAX_BATCH:
            raise PrismError(ErrorCode.INVALID_ARGUMENT, f"a poll asks for 1 to {_MAX_BATCH} messages")
        async with self._mapped():
            return await self._driver.poll(group, source, limit)

    async def commit(self, group: str, source: TopicPartition, offset: int) -> None:
        """Everything below `offset` is done with; durable when it returns; a smaller offset than before is ignored."""
        _check_name("group", group)
        if offset < 0:
            raise PrismError(ErrorCode.INVALID_ARGUMENT, "an offset is not negative")
        async with self._mapped():
            await self._driver.commit(group, source, offset)

    async def rewind(self, group: str, source: TopicPartition) -> None:
        """What was polled since the last commit will be delivered again."""
        _check_name("group", group)
        async with self._mapped():
            await self._driver.rewind(group, source)

    async def lag(self, group: str, source: TopicPartition) -> int:
        """How many messages the group has not committed."""
        _check_name("group", group)
        async with self._mapped():
            return await self._driver.lag(group, source)

    async def trim(self, topic: str, before: datetime) -> int:
        """Drop messages published before `before`, a bounded number a call; returns how many."""
        _check_name("topic", topic)
        async with self._mapped():
            return await self._driver.trim(topic, before)

    async def close(self) -> None:
        """Release the driver. Messages whose publish returned stay."""
        await self._driver.close()

    @asynccontextmanager
    async def _mapped(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._call_seconds):
                yield
        except PrismError as error:
            if error.code is ErrorCode.INVALID_ARGUMENT:
                raise
            raise PrismError(ErrorCode.BUS_DOWN, "the event log is not available; try again") from error
        except TimeoutError as error:
            raise PrismError(ErrorCode.BUS_DOWN, "the event log did not answer in time; try again") from error
        except self._driver.failures as error:
            raise PrismError(ErrorCode.BUS_DOWN, "the event log is not available; try again") from error


def _check_name(what: str, name: str) -> None:
    if not _NAME.match(name):
        raise PrismError(ErrorCode.INVALID_ARGUMENT, f"a {what} has 1 to 200 of A-Z a-z 0-9 . _ -, not {name[:80]!r}")


def _check_message(message: Message) -> None:
    if len(message.value) > MAX_MESSAGE_BYTES:
        raise PrismError(ErrorCode.INVALID_ARGUMENT, f"a message holds at most {MAX_MESSAGE_BYTES} bytes")
    if len(message.key.encode()) > _MAX_KEY_BYTES:
        raise PrismError(ErrorCode.INVALID_ARGUMENT, f"a message's key has at most {_MAX_KEY_BYTES} bytes")
    if sum(len(name.encode()) + len(value.encode()) for name, value in message.headers.items()) > _MAX_HEADER_BYTES:
        raise PrismError(ErrorCode.INVALID_ARGUMENT, f"a message's headers have at most {_MAX_HEADER_BYTES} bytes")


def _as_it_is(driver: Driver) -> Driver:
    return driver


async def open_bus(
    url: str,
    meta: Meta,
    *,
    now: Callable[[], datetime],
    new_id: Callable[[], str] = lambda: secrets.token_hex(8),
    partitions: int = 4,
    wrap: Callable[[Driver], Driver] = _as_it_is,
) -> Bus:
    """The bus that `url` names: `log:` keeps topics in `meta`, `memory:` in this process; others are UNIMPLEMENTED.

    `partitions` is the number that new topics get; `wrap` puts a layer (a faulty one, in tests) round the driver.
    """
    scheme, _, rest = url.partition(":")
    if scheme == "memory" and not rest:
        from .memory import MemoryDriver

        return Bus(wrap(MemoryDriver(now=now, partitions=partitions)))
    if scheme == "log" and not rest:
        from .log import LogDriver

        return Bus(wrap(LogDriver(meta, now=now, new_id=new_id, partitions=partitions)))
    raise PrismError(ErrorCode.UNIMPLEMENTED, f"there is no bus {scheme[:40]!r} here: use 'log:' or 'memory:'")
