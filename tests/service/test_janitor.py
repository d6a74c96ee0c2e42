"""The janitor does all that is due, deletes nothing early, and leaves nothing over, whatever fails on the way."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest
from faults import Moody, Pausing
from prometheus_client import CollectorRegistry
from world import Process, World

from prism.blob.driver import WriteOptions
from prism.catalog import leases
from prism.catalog import uploads as promises
from prism.catalog.rows import counter_key
from prism.errors import ErrorCode, PrismError
from prism.failpoints import FailpointError, arm
from prism.holding import new_promise
from prism.keys import OWNER
from prism.meta import Txn
from prism.model import Declared
from prism.workers.duty import Hold
from prism.workers.janitor import Janitor, Report


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm("")


class Household:
    """A process whose stores misbehave as told."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.stores: list[Moody] = []
        self.process = world.start(wrap_blob=self._wrap)
        self.things, self.kept, self.brief = self.stores
        self.registry = CollectorRegistry()
        self.janitor = Janitor(
            self.process.namespaces,
            self.process.meta,
            self.process.bus,
            world.config.janitor,
            now=world.clock,
            registry=self.registry,
        )

    def _wrap(self, driver: object) -> Moody:
        self.stores.append(Moody(driver))  # type: ignore[arg-type]  # the world's memory stores
        return self.stores[-1]

    async def round(self) -> Report:
        return await self.janitor.run_once()

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, {"namespace": "things", **labels})


@pytest.fixture
def home(world: World) -> Household:
    return Household(world)


async def test_what_a_client_uploaded_is_found_without_any_call_back(home: Household, world: World) -> None:
    upload = await home.process.presign_put("a")
    await world.land(world.physical("a", upload), b"bytes")
    world.clock.forward(61)
    report = await home.round()
    assert report.namespaces["things"].verified == 1
    assert list(await world.referenced()) == [world.physical("a", upload)]
    assert not await world.promised()


async def test_a_promise_is_looked_at_until_it_is_dead_and_broken_only_then(home: Household, world: World) -> None:
    upload = await home.process.presign_put("a", seconds=600)
    dead = next(iter((await world.promised()).values())).dead
    while world.clock() < dead - timedelta(seconds=1):
        await home.round()
        await home.round()
        assert await world.promised(), "broken before its death"
        world.clock.forward(min(300, (dead - timedelta(seconds=1) - world.clock()).total_seconds()) or 1)
    assert 3 < len(home.things.heads) < 20
    await world.land(world.physical("a", upload), b"late")
    world.clock.forward(2)
    assert (await home.round()).namespaces["things"].verified == 1
    assert await home.process.get("a") == b"late"


async def test_an_empty_promise_and_one_with_other_bytes_end_when_dead(home: Household, world: World) -> None:
    await home.process.presign_put("a")
    upload = await home.process.presign_put("b", declared=Declared(size_bytes=99))
    await world.land(world.physical("b", upload), b"not ninety-nine")
    world.clock.forward(3600)
    await home.round()
    assert len(await world.promised()) == 2
    world.clock.forward(2 * 3600)
    report = await home.round()
    assert report.namespaces["things"].broken == 2
    assert not await world.promised()
    assert await world.stored() == {}


async def test_the_promise_of_a_writer_that_died_is_broken_and_its_bytes_go(home: Household, world: World) -> None:
    arm("objects.put.before_commit=raise@1")
    with pytest.raises(FailpointError):
        await home.process.put("a", b"x")
    arm("objects.put.after_bytes=raise@1")
    with pytest.raises(FailpointError):
        await home.process.put("b", b"x")
    await world.rest(home.process)
    assert await world.stored() == {}


async def test_expired_objects_go_and_their_bytes_after_the_grace(home: Household, world: World) -> None:
    await home.process.put("a", b"x", ns="brief")
    world.clock.forward(59)
    await home.round()
    assert len(await world.referenced("brief")) == 1
    world.clock.forward(2)
    assert (await home.round()).namespaces["brief"].expired == 1
    assert not await world.referenced("brief")
    world.clock.forward(3590)
    await home.round()
    assert len(await world.stored("brief")) == 1, "bytes went before the grace was over"
    world.clock.forward(120)
    assert (await home.round()).namespaces["brief"].garbage_removed == 1
    assert await world.stored("brief") == {}


async def test_an_overwritten_object_does_not_expire_by_its_old_hint(home: Household, world: World) -> None:
    await home.process.put("a", b"old", ns="brief")
    world.clock.forward(30)
    await home.process.put("a", b"new", ns="brief")
    world.clock.forward(31)
    assert (await home.round()).namespaces["brief"].expired == 0
    assert await home.process.get("a", ns="brief") == b"new"


async def test_no_bytes_are_deleted_before_their_time(home: Household, world: World) -> None:
    await home.process.put("a", b"one")
    await home.process.put("a", b"two")
    await home.process.put("b", b"x")
    for _ in range(80):
        due = {key: row.due for key, row in (await world.condemned()).items()}
        home.things.deletions.clear()
        await home.round()
        assert all(due[key] <= world.clock() for key in home.things.deletions)
        world.clock.forward(60)
    assert len(await world.stored()) == 2
    assert not await world.condemned()


async def test_bytes_that_a_url_can_reach_are_deleted_promptly_and_once_more(home: Household, world: World) -> None:
    upload = await home.process.presign_put("a", seconds=3600)
    physical = world.physical("a", upload)
    await world.land(physical, b"first")
    assert await home.process.get("a") == b"first"
    await home.process.delete("a")
    world.clock.forward(11)
    await home.round()
    assert await world.stored() == {}
    assert list(await world.condemned()) == [physical]
    await world.land(physical, b"late")
    await world.rest(home.process)
    assert await world.stored() == {}
    with pytest.raises(PrismError) as absent:
        await home.process.get("a")
    assert absent.value.code is ErrorCode.OBJECT_NOT_FOUND


async def test_many_keys_are_deleted_in_several_calls_at_once(world: World) -> None:
    process = world.start(wrap_meta=Pausing)
    for n in range(33):
        await process.put(f"k{n}", b"123")
        await process.delete(f"k{n}")
    world.clock.forward(300)
    config = type(world.config.janitor)(batch=5)
    janitor = Janitor(process.namespaces, process.meta, process.bus, config, now=world.clock)
    tally = (await janitor.run_once()).namespaces["things"]
    assert (tally.deleted, tally.garbage_removed, tally.deleted_bytes) == (33, 33, 99)
    assert await world.stored() == {}
    assert not await world.condemned()


@pytest.mark.parametrize("ahead", [-6, 6, 3600, -86400])
async def test_nothing_is_deleted_while_the_clocks_differ(home: Household, world: World, ahead: int) -> None:
    await home.process.put("a", b"x")
    await home.process.delete("a")
    world.clock.forward(3600)
    home.things.ahead = timedelta(seconds=ahead)
    report = await home.round()
    assert f"{abs(ahead)} s" in report.namespaces["things"].stopped
    assert report.failed
    assert len(await world.stored()) == 1
    assert list(home.janitor.trouble()) == ["things"]
    assert home.metric("prism_deletion_stopped") == 1
    home.things.ahead = timedelta(seconds=4)
    assert not (await home.round()).failed
    assert home.janitor.trouble() == {}
    assert home.metric("prism_deletion_stopped") == 0
    assert await world.stored() == {}


async def test_keys_that_cannot_be_deleted_hold_up_nobody(home: Household, world: World) -> None:
    for n in range(40):
        await home.process.put(f"k{n:02}", b"x")
        await home.process.delete(f"k{n:02}")
    world.clock.forward(3600)
    home.things.refuses = lambda key: key < "k20"
    report = await home.round()
    assert report.namespaces["things"].deleted == 20
    assert [failure.step for failure in report.namespaces["things"].failures] == ["delete"]
    assert home.metric("prism_janitor_errors_total", step="delete") == 1
    assert len(await world.stored()) == 20
    home.things.refuses = lambda key: False
    world.clock.forward(61)
    assert (await home.round()).namespaces["things"].deleted == 20
    await world.check()


async def test_uploads_that_cannot_be_looked_at_hold_up_nobody(home: Household, world: World) -> None:
    for n in range(40):
        upload = await home.process.presign_put(f"k{n:02}")
        await world.land(world.physical(f"k{n:02}", upload), b"x")
    world.clock.forward(61)
    home.things.refuses = lambda key: key < "k20"
    report = await home.round()
    assert report.namespaces["things"].verified == 20
    assert [failure.code for failure in report.namespaces["things"].failures] == [ErrorCode.STORE_DOWN]
    home.things.refuses = lambda key: False
    world.clock.forward(200)
    assert (await home.round()).namespaces["things"].verified == 20


async def test_a_dead_promise_whose_store_is_down_is_not_broken(home: Household, world: World) -> None:
    upload = await home.process.presign_put("a")
    await world.land(world.physical("a", upload), b"x")
    home.things.refuses = lambda key: True
    world.clock.forward(3 * 3600)
    await home.round()
    assert len(await world.promised()) == 1
    home.things.refuses = lambda key: False
    world.clock.forward(61)
    assert (await home.round()).namespaces["things"].verified == 1


async def test_one_namespace_in_trouble_leaves_the_others_alone(home: Household, world: World) -> None:
    for ns in ("things", "brief"):
        await home.process.put("a", b"x", ns=ns)
        await home.process.delete("a", ns=ns)
    world.clock.forward(3600)
    home.things.refuses = lambda key: True
    report = await home.round()
    assert report.namespaces["things"].failures
    assert not report.namespaces["brief"].failures
    assert await world.stored("brief") == {}


@pytest.mark.parametrize("passes", [61, 0])
async def test_a_holder_that_lost_its_lease_writes_nothing_more(home: Household, world: World, passes: int) -> None:
    """Whether it slept through its lease, or the other one's clock is ahead."""
    await home.process.put("a", b"x")
    await home.process.delete("a")
    world.clock.forward(60)

    async def others_take_over() -> None:
        world.clock.forward(passes)
        theirs = world.clock() + timedelta(seconds=61 - passes)

        async def body(tx: Txn) -> object:
            return await leases.take(tx, "things", "janitor", "other", theirs, timedelta(seconds=60))

        assert await home.process.meta.transact("things", body) is not None

    home.things.before_delete = others_take_over
    report = await home.round()
    assert report.namespaces["things"].busy
    assert report.namespaces["things"].garbage_removed == 0
    assert await world.stored() == {}
    assert len(await world.condemned()) == 1, "the row stays for the new holder"
    home.things.before_delete = None
    world.clock.forward(122)
    await home.round()
    assert not await world.condemned()


async def test_a_lease_is_renewed_while_the_work_lasts(home: Household, world: World) -> None:
    mine = Hold(home.process.meta, "things", "janitor", "me", world.clock)
    other = Hold(home.process.meta, "things", "janitor", "other", world.clock)

    async def work(tx: Txn) -> None:
        """Nothing to write."""

    assert await mine.take()
    for _ in range(5):
        world.clock.forward(25)
        await mine.transact(work)
        assert not await other.take()
    world.clock.forward(61)
    assert await other.take()
    with pytest.raises(PrismError) as lost:
        await mine.transact(work)
    assert lost.value.code is ErrorCode.LEASE_LOST


async def test_a_lease_from_a_clock_that_was_wrong_keeps_nobody_out_for_years(home: Household, world: World) -> None:
    dead = Hold(home.process.meta, "things", "janitor", "dead", world.clock)
    world.clock.forward(365 * 86_400)
    assert await dead.take()
    world.clock.forward(-365 * 86_400)
    mine = Hold(home.process.meta, "things", "janitor", "me", world.clock)
    assert await mine.take()

    async def work(tx: Txn) -> None:
        """Nothing to write."""

    with pytest.raises(PrismError) as lost:
        await dead.transact(work)
    assert lost.value.code is ErrorCode.LEASE_LOST


async def test_two_janitors_do_not_work_on_one_namespace(home: Household, world: World) -> None:
    await home.process.put("a", b"x")
    await home.process.delete("a")
    world.clock.forward(300)
    other = world.start()
    reports: list[Report] = []

    async def meanwhile() -> None:
        reports.append(await other.janitor.run_once())

    home.things.before_delete = meanwhile
    await home.round()
    assert reports[0].namespaces["things"].busy
    assert not await world.condemned()


POINTS = (
    "janitor.after_lock",
    "janitor.after_look",
    "janitor.before_break",
    "janitor.before_expire",
    "janitor.after_list",
    "janitor.before_delete",
    "janitor.after_delete",
    "janitor.after_removed",
    "janitor.before_release",
    "purge.after_step",
    "purge.after_garbage",
    "purge.before_remove",
    "purge.after_remove",
)


async def script(process: Process, world: World) -> None:
    """A little of everything."""
    for ns in ("things", "kept", "brief"):
        for key in ("a", "a/b", "ab", "f/1", "f/2", "g/1"):
            await process.put(key, b"one", ns=ns)
        await process.put("a", b"two", ns=ns)
        await process.delete("ab", ns=ns)
        upload = await process.presign_put("u", ns=ns)
        await world.land(world.physical("u", upload, ns), b"landed", ns=ns)
        await process.presign_put("never", ns=ns)
        await process.presign_put("f/never", ns=ns)
        await process.delete_folder("f/", ns=ns)
        await process.put("f/3", b"new", ns=ns)
        await process.put("brief", b"x", ns=ns, ttl=timedelta(seconds=60))
        await dead_writer(process, ns)


async def dead_writer(process: Process, ns: str) -> None:
    """A writer that died before its first byte."""
    space = process.spaces[ns]
    wanted = new_promise(space, space.bucket(""), "w", content_type="x/y", metadata={}, ttl_seconds=None)

    async def body(tx: Txn) -> None:
        await promises.promise(tx, space.rules, wanted)

    await process.meta.transact(ns, body)


@pytest.mark.parametrize("hit", [1, 2])
@pytest.mark.parametrize("point", POINTS)
async def test_a_crash_anywhere_leaves_nothing_over(world: World, point: str, hit: int) -> None:
    process = world.start()
    await script(process, world)
    arm(f"{point}=raise@{hit}")
    crashed = False
    for _ in range(8):
        try:
            await process.janitor.run_once()
        except FailpointError:
            crashed = True
            break
        world.clock.forward(1800)
    arm("")
    assert crashed, f"{point} was not reached {hit} times"
    world.clock.forward(61)
    process = world.start()
    for ns in ("things", "kept", "brief"):
        await world.check(ns)
        await world.rest(process, ns)
    assert await process.list("") == ["a", "a/b", "f/3", "g/1", "u"]
    assert await process.list("", ns="brief") == []


async def test_at_rest_the_store_holds_what_is_referenced_and_the_owner_marker(home: Household, world: World) -> None:
    async def marker():  # type: ignore[no-untyped-def]  # a body of one piece
        yield b"{}"

    for ns in ("things", "kept", "brief"):
        await world.blobs[ns].put(OWNER, marker(), WriteOptions())
    await script(home.process, world)
    for _ in range(6):
        await home.round()
        world.clock.forward(4 * 3600)
    await home.round()
    for ns in ("things", "kept", "brief"):
        assert set(await world.stored(ns)) == {OWNER, *await world.referenced(ns)}
        for kind in ("u", "w", "d", "g", "t", "k", "x"):
            assert not await world.rows(ns, kind)


async def test_the_audit_corrects_counters_and_says_by_how_much(home: Household, world: World) -> None:
    await home.process.put("a", b"four")

    async def body(tx: Txn) -> None:
        tx.add(counter_key("things", "objects"), 5)
        tx.add(counter_key("things", "bytes"), -3)

    await home.process.meta.transact("things", body)
    world.clock.forward(25 * 3600)
    tally = (await home.round()).namespaces["things"]
    assert (tally.drift_objects, tally.drift_bytes) == (-5, 3)
    assert (home.metric("prism_usage_drift_objects"), home.metric("prism_usage_drift_bytes")) == (-5, 3)
    assert (await world.counters()).objects == 1


async def test_backlogs_and_their_ages_are_shown(home: Household, world: World) -> None:
    await home.process.put("a", b"1234")
    await home.process.delete("a")
    await home.process.presign_put("b")
    world.clock.forward(70)
    home.things.refuses = lambda key: True
    await home.round()
    assert home.metric("prism_promises") == 1
    assert home.metric("prism_garbage_objects") == 1
    assert home.metric("prism_garbage_bytes") == 4
    assert home.metric("prism_backlog") == 0
    home.things.ahead = timedelta(hours=1)
    world.clock.forward(70)
    await home.round()
    assert home.metric("prism_oldest_seconds", of="garbage") == pytest.approx(10)
    home.things.refuses, home.things.ahead = lambda key: False, timedelta(0)
    await home.round()
    assert home.metric("prism_garbage_bytes") == 0
    assert home.metric("prism_janitor_deleted_total") == 1
    assert home.metric("prism_oldest_seconds", of="garbage") == 0


async def test_the_loop_works_until_it_is_told_to_stop(home: Household, world: World) -> None:
    await home.process.put("a", b"x")
    await home.process.delete("a")
    world.clock.forward(60)
    home.things.refuses = lambda key: True
    stop = asyncio.Event()
    config = type(world.config.janitor)(interval_seconds=0.01)
    janitor = Janitor(home.process.namespaces, home.process.meta, home.process.bus, config, now=world.clock)
    arm("janitor.after_lock=raise@2")
    running = asyncio.ensure_future(janitor.run(stop))
    async with asyncio.timeout(10):
        while await world.stored():
            await asyncio.sleep(0.005)
            world.clock.forward(1)
            home.things.refuses = lambda key: False
    stop.set()
    async with asyncio.timeout(5):
        await running
