"""The outbox reaches the bus in order, at least once, whatever fails on the way."""

from collections.abc import Iterator
from datetime import timedelta

import msgspec
import pytest
from world import World

from prism.bus import Bus, Received, TopicPartition
from prism.bus.memory import MemoryDriver, Topics
from prism.catalog import leases, outbox
from prism.catalog.outbox import OBJECT_EVENTS
from prism.errors import ErrorCode
from prism.failpoints import FailpointError, arm
from prism.meta import Txn
from prism.testing.faulty_bus import FaultyBus
from prism.workers.janitor import Janitor
from prism.workers.relay import SEQUENCE_HEADER, SOURCE_HEADER


class Note(msgspec.Struct):
    text: str


class Line:
    """A process's janitor on a bus that outlives it and fails on demand."""

    def __init__(self, world: World, topics: Topics) -> None:
        self.world = world
        self.process = world.start()
        self.driver = FaultyBus(MemoryDriver(world.clock, topics=topics, partitions=2))
        self.bus = Bus(self.driver)
        self.janitor = Janitor(
            self.process.namespaces, self.process.meta, self.bus, world.config.janitor, now=world.clock
        )

    async def delivered(self, topic: str = OBJECT_EVENTS) -> list[Received]:
        """Everything on the bus, by the place in the outbox."""
        fresh = Bus(MemoryDriver(self.world.clock, topics=self.driver._driver._topics))
        found: list[Received] = []
        for number in range(await fresh.partitions(topic)):
            found += await fresh.poll("test", TopicPartition(topic, number), 1000)
        return found

    async def waiting(self) -> int:
        return len(await self.world.rows("kept", "x"))


@pytest.fixture
def topics() -> Topics:
    return Topics()


@pytest.fixture
def line(world: World, topics: Topics) -> Line:
    return Line(world, topics)


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm("")


def told(found: list[Received]) -> list[tuple[str, str]]:
    """Type and key of object events."""
    events = [msgspec.json.decode(received.message.value) for received in found]
    return [(event["type"], event["key"]) for event in events]


async def test_what_happened_arrives_in_order_with_its_place_in_the_outbox(line: Line) -> None:
    for n in range(3):
        await line.process.put("a", b"x" * n, ns="kept")
    await line.process.delete("a", ns="kept")
    report = await line.janitor.run_once()
    found = await line.delivered()
    assert told(found) == [("object.created", "a")] * 3 + [("object.deleted", "a")]
    assert {received.message.headers[SOURCE_HEADER] for received in found} == {"kept"}
    places = [received.message.headers[SEQUENCE_HEADER] for received in found]
    assert places == sorted(set(places))
    assert report.namespaces["kept"].relayed == 4
    assert await line.waiting() == 0


@pytest.mark.parametrize("meanwhile", ["nothing", "put", "delete", "copy"])
async def test_an_expiry_is_told_once_whoever_comes_upon_it(line: Line, world: World, meanwhile: str) -> None:
    process = line.process
    await process.put("f/other", b"2", ns="kept")
    await process.put("f/k", b"1", ns="kept", ttl=timedelta(seconds=60))
    world.clock.forward(61)
    if meanwhile == "put":
        await process.put("f/k", b"2", ns="kept")
    elif meanwhile == "delete":
        assert not await process.delete("f/k", ns="kept")
    elif meanwhile == "copy":
        await process.copy("f/other", "f/k", ns="kept")
    await line.janitor.run_once()
    assert [kind for kind, key in told(await line.delivered()) if key == "f/k"] == [
        "object.created",
        "object.expired",
        *(["object.created"] if meanwhile in {"put", "copy"} else []),
    ]


async def test_what_was_deleted_with_its_folder_does_not_expire_as_well(line: Line, world: World) -> None:
    await line.process.put("f/k", b"1", ns="kept", ttl=timedelta(seconds=60))
    await line.process.delete_folder("f/", ns="kept")
    world.clock.forward(61)
    await line.janitor.run_once()
    assert [kind for kind, _ in told(await line.delivered())] == ["object.created", "folder.deleted"]


async def test_nothing_is_said_where_nobody_asked_for_events(line: Line) -> None:
    await line.process.put("a", b"x")
    await line.janitor.run_once()
    assert await line.delivered() == []


async def test_a_bus_that_is_down_loses_nothing_and_stops_nothing_else(line: Line, world: World) -> None:
    await line.process.put("a", b"x", ns="kept")
    await line.process.put("b", b"x", ns="brief")
    world.clock.forward(61)
    line.driver.down = True
    report = await line.janitor.run_once()
    assert {failure.step for failure in report.namespaces["kept"].failures} == {"relay"}
    assert {failure.code for failure in report.namespaces["kept"].failures} == {ErrorCode.BUS_DOWN}
    assert report.failed
    assert report.namespaces["brief"].expired == 1
    assert await line.waiting() == 1
    line.driver.down = False
    assert not (await line.janitor.run_once()).failed
    assert told(await line.delivered()) == [("object.created", "a")]


async def test_a_lost_answer_repeats_the_message_and_keeps_the_order(line: Line) -> None:
    for n in range(3):
        await line.process.put("a", b"x" * n, ns="kept")
    line.driver.lose("publish")
    await line.janitor.run_once()
    await line.janitor.run_once()
    places = [received.message.headers[SEQUENCE_HEADER] for received in await line.delivered()]
    assert len(places) == 6
    assert places[:3] == places[3:] == sorted(set(places))
    assert await line.waiting() == 0


async def test_the_relay_stops_at_the_first_failure(line: Line) -> None:
    space = line.process.spaces["kept"]

    async def body(tx: Txn) -> None:
        for topic, text in (("one", "1"), ("two", "2"), ("one", "3")):
            outbox.record(tx, "kept", topic, "k", Note(text), space.now())

    await space.meta.transact("kept", body)
    calls = line.driver.publish

    async def second_fails(topic: str, messages: object) -> None:
        if topic == "two":
            line.driver.fail("publish")
        await calls(topic, messages)  # type: ignore[arg-type]  # what the relay hands over

    line.driver.publish = second_fails  # type: ignore[method-assign]  # the second topic of the run is refused
    await line.janitor.run_once()
    assert [r.message.value for r in await line.delivered("one")] == [b'{"text":"1"}']
    assert await line.delivered("two") == []
    assert await line.waiting() == 2
    line.driver.publish = calls  # type: ignore[method-assign]
    await line.janitor.run_once()
    assert [r.message.value for r in await line.delivered("one")] == [b'{"text":"1"}', b'{"text":"3"}']
    assert await line.waiting() == 0


async def test_one_relay_at_a_time(line: Line, world: World) -> None:
    await line.process.put("a", b"x", ns="kept")

    async def body(tx: Txn) -> object:
        return await leases.take(tx, "kept", "relay", "somebody else", world.clock(), timedelta(seconds=60))

    await line.process.meta.transact("kept", body)
    assert (await line.janitor.run_once()).namespaces["kept"].busy
    assert await line.delivered() == []
    world.clock.forward(61)
    await line.janitor.run_once()
    assert len(await line.delivered()) == 1


@pytest.mark.parametrize("hit", [1, 2])
@pytest.mark.parametrize("point", ["relay.after_fetch", "relay.after_publish", "relay.before_sent"])
async def test_a_crash_anywhere_loses_nothing(world: World, topics: Topics, point: str, hit: int) -> None:
    line = Line(world, topics)
    arm(f"{point}=raise@{hit}")
    for n in range(2):
        for key in ("a", "b", "c"):
            await line.process.put(key, b"x" * n, ns="kept")
        try:
            await line.janitor.run_once()
        except FailpointError:
            break
    else:
        pytest.fail(f"{point} was never reached {hit} times")
    arm("")
    world.clock.forward(61)
    line = Line(world, topics)
    await line.process.put("a", b"last", ns="kept")
    await line.janitor.run_once()
    assert await line.waiting() == 0
    places: dict[str, list[str]] = {}
    for received in await line.delivered():
        seen = places.setdefault(received.message.key, [])
        if received.message.headers[SEQUENCE_HEADER] not in seen:
            seen.append(received.message.headers[SEQUENCE_HEADER])
    assert sum(map(len, places.values())) == 3 * hit + 1
    assert all(seen == sorted(seen) for seen in places.values())
