"""What every bus driver must do, as a class: a driver's test is a subclass with a `broker` fixture.

`Broker.driver()` opens a further driver on the same durable state, as another process or a restart would. The clock is
the broker's own and moves only when a test moves it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from ..bus import MAX_MESSAGE_BYTES, Bus
from ..bus.driver import Driver, Message, Received, TopicPartition
from ..errors import ErrorCode, PrismError

__all__ = ["Broker", "BusSuite"]

GROUP = "workers"
TOPIC = "events"


class Broker:
    """Durable state that drivers are opened on. `open_driver(now)` gives a new driver; all are closed at the end."""

    def __init__(self, open_driver: Callable[[Callable[[], datetime]], Awaitable[Driver]]) -> None:
        self._open = open_driver
        self._drivers: list[Driver] = []
        self.time = datetime(2026, 1, 1, tzinfo=UTC)

    async def driver(self) -> Driver:
        """A further driver on the same state."""
        driver = await self._open(lambda: self.time)
        self._drivers.append(driver)
        return driver

    async def bus(self) -> Bus:
        """A front door over a further driver."""
        return Bus(await self.driver())

    async def close(self) -> None:
        """Close every driver that was opened."""
        for driver in self._drivers:
            await driver.close()


def message(key: str, value: bytes | str, **headers: str) -> Message:
    """A message, briefly."""
    return Message(key=key, value=value.encode() if isinstance(value, str) else value, headers=headers)


async def sources(bus: Bus, topic: str = TOPIC) -> list[TopicPartition]:
    """All partitions of the topic."""
    return [TopicPartition(topic, number) for number in range(await bus.partitions(topic))]


async def source_of(bus: Bus, key: str, topic: str = TOPIC) -> TopicPartition:
    """The partition in which a key's messages stand, found by asking."""
    for source in await sources(bus, topic):
        found = await bus.poll("finders", source, 100)
        await bus.rewind("finders", source)
        if any(received.message.key == key for received in found):
            return source
    raise AssertionError(f"no partition holds {key!r}")


async def drain(bus: Bus, group: str = GROUP, topic: str = TOPIC) -> list[Received]:
    """Everything that the group has not polled yet."""
    found: list[Received] = []
    for source in await sources(bus, topic):
        while batch := await bus.poll(group, source, 7):
            found += batch
    return found


def values(found: Sequence[Received]) -> list[str]:
    """The payloads as text."""
    return [received.message.value.decode() for received in found]


class BusSuite:
    """Subclass it and give a `broker` fixture."""

    async def test_a_message_arrives_as_it_was_published(self, broker: Broker) -> None:
        bus = await broker.bus()
        sent = message("clé", b"\x00\xff\n{}\n", sequence="0007")
        await bus.publish(TOPIC, [sent])
        (found,) = await drain(bus)
        assert found.message == sent
        assert found.published_at == broker.time

    async def test_nothing_is_there_before_anything_was_published(self, broker: Broker) -> None:
        bus = await broker.bus()
        assert await drain(bus) == []
        assert [await bus.lag(GROUP, source) for source in await sources(bus)] == [0] * await bus.partitions(TOPIC)

    async def test_the_number_of_partitions_does_not_change(self, broker: Broker) -> None:
        first = await (await broker.bus()).partitions(TOPIC)
        assert first >= 1
        assert await (await broker.bus()).partitions(TOPIC) == first

    async def test_messages_of_a_key_stay_in_order(self, broker: Broker) -> None:
        bus = await broker.bus()
        for round_number in range(6):
            await bus.publish(TOPIC, [message(f"k{n % 5}", f"{round_number}.{n}") for n in range(20)])
        found = await drain(bus)
        assert len(found) == 120
        for key in {received.message.key for received in found}:
            mine = [r for r in found if r.message.key == key]
            assert len({r.source for r in mine}) == 1
            order = [tuple(map(int, r.message.value.split(b"."))) for r in mine]
            assert order == sorted(order)

    async def test_a_poll_gives_no_more_than_was_asked_for(self, broker: Broker) -> None:
        bus = await broker.bus()
        await bus.publish(TOPIC, [message("k", str(n)) for n in range(10)])
        source = await source_of(bus, "k")
        assert values(await bus.poll(GROUP, source, 3)) == ["0", "1", "2"]
        assert values(await bus.poll(GROUP, source, 100)) == [str(n) for n in range(3, 10)]
        assert await bus.poll(GROUP, source, 100) == []

    async def test_what_was_not_committed_comes_again_after_a_rewind(self, broker: Broker) -> None:
        bus = await broker.bus()
        await bus.publish(TOPIC, [message("k", str(n)) for n in range(5)])
        source = await source_of(bus, "k")
        first = await bus.poll(GROUP, source, 5)
        await bus.commit(GROUP, source, first[1].offset + 1)
        await bus.rewind(GROUP, source)
        assert values(await bus.poll(GROUP, source, 5)) == ["2", "3", "4"]

    async def test_a_restart_goes_on_at_the_committed_offset(self, broker: Broker) -> None:
        bus = await broker.bus()
        await bus.publish(TOPIC, [message("k", str(n)) for n in range(4)])
        source = await source_of(bus, "k")
        first = await bus.poll(GROUP, source, 3)
        await bus.commit(GROUP, source, first[0].offset + 1)
        again = await broker.bus()
        assert values(await again.poll(GROUP, source, 10)) == ["1", "2", "3"]
        assert [r.offset for r in first] == sorted({r.offset for r in first})

    async def test_a_commit_never_moves_backwards(self, broker: Broker) -> None:
        bus = await broker.bus()
        await bus.publish(TOPIC, [message("k", str(n)) for n in range(4)])
        source = await source_of(bus, "k")
        found = await bus.poll(GROUP, source, 4)
        await bus.commit(GROUP, source, found[2].offset + 1)
        await bus.commit(GROUP, source, found[0].offset + 1)
        await bus.rewind(GROUP, source)
        assert values(await bus.poll(GROUP, source, 4)) == ["3"]

    async def test_groups_do_not_touch(self, broker: Broker) -> None:
        bus = await broker.bus()
        await bus.publish(TOPIC, [message("k", "1"), message("k", "2")])
        source = await source_of(bus, "k")
        mine = await bus.poll(GROUP, source, 2)
        await bus.commit(GROUP, source, mine[-1].offset + 1)
        assert values(await bus.poll("others", source, 2)) == ["1", "2"]
        assert (await bus.lag(GROUP, source), await bus.lag("others", source)) == (0, 2)

    async def test_topics_do_not_touch(self, broker: Broker) -> None:
        bus = await broker.bus()
        await bus.publish("a", [message("k", "1")])
        await bus.publish("a.b", [message("k", "2")])
        assert values(await drain(bus, topic="a")) == ["1"]
        assert values(await drain(bus, topic="a.b")) == ["2"]

    async def test_two_instances_see_one_log(self, broker: Broker) -> None:
        one, two = await broker.bus(), await broker.bus()
        await one.publish(TOPIC, [message("k", "1")])
        await two.publish(TOPIC, [message("k", "2")])
        assert values(await drain(one)) == ["1", "2"]
        assert values(await drain(two)) == ["1", "2"]

    async def test_a_follower_misses_nothing_of_concurrent_publishers(self, broker: Broker) -> None:
        buses = [await broker.bus() for _ in range(3)]
        follower = await broker.bus()
        count, found = 25, list[str]()

        async def publisher(number: int) -> None:
            for n in range(count):
                await buses[number % 3].publish(TOPIC, [message("k", f"{number}:{n}")])

        async def follow() -> None:
            source = TopicPartition(TOPIC, 0)
            while len(found) < 6 * count:
                for source in await sources(follower):
                    found.extend(values(await follower.poll(GROUP, source, 5)))
                await asyncio.sleep(0)

        async with asyncio.timeout(30):
            await asyncio.gather(follow(), *(publisher(number) for number in range(6)))
        assert sorted(found) == sorted(f"{number}:{n}" for number in range(6) for n in range(count))
        for number in range(6):
            mine = [value for value in found if value.startswith(f"{number}:")]
            assert mine == [f"{number}:{n}" for n in range(count)]

    async def test_lag_counts_what_is_not_committed(self, broker: Broker) -> None:
        bus = await broker.bus()
        await bus.publish(TOPIC, [message("k", str(n)) for n in range(7)])
        source = await source_of(bus, "k")
        assert await bus.lag(GROUP, source) == 7
        found = await bus.poll(GROUP, source, 3)
        assert await bus.lag(GROUP, source) == 7
        await bus.commit(GROUP, source, found[-1].offset + 1)
        assert await bus.lag(GROUP, source) == 4
        assert await (await broker.bus()).lag(GROUP, source) == 4

    @pytest.mark.parametrize("size", [0, 89_000, 90_001, 100_000, 100_001, 5_000_000, MAX_MESSAGE_BYTES])
    async def test_messages_of_every_size(self, broker: Broker, size: int) -> None:
        bus = await broker.bus()
        value = (bytes(range(251)) * (size // 251 + 1))[:size]
        await bus.publish(TOPIC, [message("k", "before"), message("k", value), message("k", "after")])
        found = [received.message.value for received in await drain(await broker.bus())]
        assert [len(found[0]), len(found[2])] == [6, 5]
        assert found[1] == value

    async def test_a_message_that_is_too_large_is_refused(self, broker: Broker) -> None:
        bus = await broker.bus()
        with pytest.raises(PrismError) as refused:
            await bus.publish(TOPIC, [message("k", b"x" * (MAX_MESSAGE_BYTES + 1))])
        assert refused.value.code is ErrorCode.INVALID_ARGUMENT
        assert await drain(bus) == []

    @pytest.mark.parametrize("topic", ["", "a/b", "ä", "x" * 201, ".x"])
    async def test_a_topic_with_a_bad_name_is_refused(self, broker: Broker, topic: str) -> None:
        bus = await broker.bus()
        with pytest.raises(PrismError) as refused:
            await bus.publish(topic, [message("k", "1")])
        assert refused.value.code is ErrorCode.INVALID_ARGUMENT

    async def test_trim_drops_the_old_and_keeps_the_young(self, broker: Broker) -> None:
        bus = await broker.bus()
        await bus.publish(TOPIC, [message("k", "old"), message("k", b"x" * 300_000)])
        broker.time += timedelta(hours=2)
        await bus.publish(TOPIC, [message("k", "young")])
        assert await bus.trim(TOPIC, broker.time - timedelta(hours=3)) == 0
        assert await bus.trim(TOPIC, broker.time - timedelta(hours=1)) == 2
        assert await bus.trim(TOPIC, broker.time - timedelta(hours=1)) == 0
        assert values(await drain(bus)) == ["young"]
        assert await bus.lag(GROUP, await source_of(bus, "k")) == 1

    async def test_trim_is_bounded_and_comes_to_an_end(self, broker: Broker) -> None:
        bus = await broker.bus()
        for _ in range(4):
            await bus.publish(TOPIC, [message("k", str(n)) for n in range(500)])
        broker.time += timedelta(hours=2)
        calls, dropped = 0, 0
        while some := await bus.trim(TOPIC, broker.time):
            dropped, calls = dropped + some, calls + 1
            assert some <= 1000
        assert (dropped, calls) == (2000, calls)
        assert calls >= 2
        assert await drain(bus) == []

    async def test_offsets_go_on_after_everything_was_trimmed(self, broker: Broker) -> None:
        bus = await broker.bus()
        await bus.publish(TOPIC, [message("k", "1")])
        source = await source_of(bus, "k")
        (first,) = await bus.poll(GROUP, source, 5)
        await bus.commit(GROUP, source, first.offset + 1)
        broker.time += timedelta(hours=1)
        assert await bus.trim(TOPIC, broker.time) == 1
        again = await broker.bus()
        await again.publish(TOPIC, [message("k", "2")])
        (second,) = await again.poll(GROUP, source, 5)
        assert second.offset > first.offset
        assert second.message.value == b"2"
