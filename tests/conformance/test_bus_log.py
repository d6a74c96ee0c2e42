"""The log keeps the bus's contract over each embedded catalog, and leaves nothing of what never became visible."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import TypeVar

import pytest

from prism.bus.driver import Driver, Message, TopicPartition
from prism.bus.log import LogDriver
from prism.errors import ErrorCode, PrismError
from prism.failpoints import FailpointError, arm
from prism.meta import Meta, View, open_meta, tuples
from prism.meta.driver import Body
from prism.meta.memory import MemoryDriver
from prism.testing.bus_suite import GROUP, TOPIC, Broker, BusSuite, drain, values

T = TypeVar("T")


def broker_on(meta: Meta) -> Broker:
    ids = count()

    async def open_driver(now: Callable[[], datetime]) -> Driver:
        return LogDriver(meta, now=now, new_id=lambda: f"v{next(ids)}", partitions=2)

    return Broker(open_driver)


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm("")


class TestLogInMemory(BusSuite):
    @pytest.fixture
    async def broker(self) -> AsyncIterator[Broker]:
        meta = await open_meta("memory:")
        yield broker_on(meta)
        await meta.close()


class TestLogInSqlite(BusSuite):
    @pytest.fixture
    async def broker(self, tmp_path: Path) -> AsyncIterator[Broker]:
        meta = await open_meta(f"sqlite:///{tmp_path}/catalog.db")
        yield broker_on(meta)
        await meta.close()


async def rows(meta: Meta, kind: str) -> int:
    """How many rows of a kind stand in the topic's partitions."""

    async def body(view: View) -> int:
        found = 0
        for number in range(2):
            found += len(await view.range(*tuples.span((f"log/{TOPIC}/{number}", kind)), limit=10_000))
        return found

    return await meta.read(body)


LARGE = Message(key="k", value=b"x" * 9_000_000)


async def test_a_publish_that_dies_half_way_is_not_seen_and_its_pieces_are_cleared() -> None:
    meta = await open_meta("memory:")
    broker = broker_on(meta)
    bus = await broker.bus()
    for point in ("bus.log.after_pieces=raise@1", "bus.log.after_pieces=raise@2", "bus.log.before_visible=raise@1"):
        arm(point)
        with pytest.raises(FailpointError):
            await bus.publish(TOPIC, [LARGE])
    arm("")
    assert await rows(meta, "c") > 0
    assert await drain(bus) == []
    assert [await bus.lag(GROUP, TopicPartition(TOPIC, n)) for n in range(2)] == [0, 0]
    await bus.trim(TOPIC, broker.time)
    assert await rows(meta, "c") > 0, "a writer that is still at work keeps its pieces"
    broker.time += timedelta(hours=1)
    await bus.trim(TOPIC, broker.time)
    assert (await rows(meta, "c"), await rows(meta, "w")) == (0, 0)


class Slow(MemoryDriver):
    """Awaits `meanwhile` once, before the transaction number `at`."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at
        self.meanwhile: Callable[[], Awaitable[object]] | None = None

    async def transact(self, partition: bytes, body: Body[T], prefetch: Sequence[bytes]) -> T:
        self.at -= 1
        if self.at == 0 and self.meanwhile is not None:
            await self.meanwhile()
        return await super().transact(partition, body, prefetch)


async def test_a_writer_that_was_taken_for_dead_cannot_make_its_message_visible() -> None:
    slow = Slow(at=5)  # the topic, three runs of pieces, and then the one that makes it visible
    meta = Meta(slow)
    broker = broker_on(meta)
    bus, other = await broker.bus(), await broker.bus()

    async def an_hour_passes() -> None:
        broker.time += timedelta(hours=1)
        await other.trim(TOPIC, broker.time)
        assert await rows(meta, "c") == 0

    slow.meanwhile = an_hour_passes
    with pytest.raises(PrismError) as failed:
        await bus.publish(TOPIC, [LARGE])
    assert failed.value.code is ErrorCode.BUS_DOWN
    assert (await rows(meta, "c"), await rows(meta, "m")) == (0, 0)
    await bus.publish(TOPIC, [LARGE])
    assert [len(value) for value in values(await drain(bus))] == [9_000_000]


async def test_the_pieces_of_a_trimmed_message_go_with_it() -> None:
    meta = await open_meta("memory:")
    broker = broker_on(meta)
    bus = await broker.bus()
    await bus.publish(TOPIC, [LARGE])
    assert await rows(meta, "c") == 100
    broker.time += timedelta(hours=1)
    assert await bus.trim(TOPIC, broker.time) == 1
    assert (await rows(meta, "c"), await rows(meta, "m"), await rows(meta, "w")) == (0, 0, 0)


async def test_messages_are_there_after_a_restart(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/catalog.db"
    meta = await open_meta(url)
    await (await broker_on(meta).bus()).publish(TOPIC, [Message(key="k", value=b"1"), LARGE])
    await meta.close()
    meta = await open_meta(url)
    bus = await broker_on(meta).bus()
    assert [len(value) for value in values(await drain(bus))] == [1, 9_000_000]
    await meta.close()


async def test_a_catalog_that_is_down_is_a_bus_that_is_down() -> None:
    meta = await open_meta("memory:")
    bus = await broker_on(meta).bus()
    await bus.publish(TOPIC, [Message(key="k", value=b"1")])
    await meta.close()
    with pytest.raises(PrismError) as down:
        await bus.publish(TOPIC, [Message(key="k", value=b"2")])
    assert down.value.code is ErrorCode.BUS_DOWN
    assert down.value.retryable
