"""The check names exactly what its repair condemns, deletes nothing, and touches nothing that is named, young or
foreign."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from faults import Moody
from world import World, pieces

from prism.blob.driver import WriteOptions
from prism.catalog import sweep
from prism.catalog.sweep import Stray
from prism.failpoints import FailpointError, arm
from prism.keys import OWNER, Layout
from prism.meta import Txn
from prism.metadata import for_store
from prism.workers.fsck import FsckReport, fsck

ODD = ("a", "a/b", "a!", "aé", "ab", "a//b", "~x", "x/../y", "long" * 250, "l/" * 400 + "end", "dot./x", "é" * 500)


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm("")


class Check:
    """A namespace under check."""

    def __init__(self, world: World, ns: str = "things") -> None:
        self.world, self.ns = world, ns
        self.stores: dict[int, Moody] = {}
        self.process = world.start(wrap_blob=lambda driver: self.stores.setdefault(len(self.stores), Moody(driver)))
        self.space = self.process.spaces[ns]
        self.store = self.stores[list(self.process.spaces).index(ns)]
        self.found: set[tuple[str, str]] = set()

    async def run(self, repair: bool = False, lived: bool = True, **options: object) -> FsckReport:
        self.found = set()
        if lived:
            await self.world.lived()
        return await fsck(
            self.space,
            repair,
            found=lambda kind, key: self.found.add((kind, key)),
            **options,  # type: ignore[arg-type]
        )

    async def stray(self, key: str, content: bytes = b"stray", bucket: str = "") -> str:
        """Bytes of Prism's own form that nobody names."""
        version = self.world.new_version_id()
        own = self.space.rules.own_bucket
        physical = Layout(own).physical(bucket or own, key, version)
        await self.put(physical, content, key, version)
        return physical

    async def put(self, physical: str, content: bytes = b"x", key: str = "", version: str = "") -> None:
        options = WriteOptions(metadata=for_store(key, version, {}) if key else {})
        await self.world.blobs[self.ns].put(physical, pieces(content, 1000), options)

    def counts(self, report: FsckReport) -> dict[str, int]:
        return {kind: findings.count for kind, findings in report.kinds.items() if findings.count}


@pytest.fixture
def check(world: World) -> Check:
    return Check(world)


async def test_a_namespace_in_order_is_clean(check: Check, world: World) -> None:
    for key in ODD:
        await check.process.put(key, b"x")
    await check.process.put("a", b"xx")
    upload = await check.process.presign_put("p")
    await world.land(world.physical("p", upload), b"landed")
    await check.put(OWNER)
    world.clock.forward(7200)
    report = await check.run(repair=True)
    assert check.counts(report) == {"referenced": len(ODD), "condemned": 1, "promised": 1}
    assert report.kinds["referenced"].size_bytes == len(ODD) + 1
    assert report.clean
    assert check.found == set()


async def test_kept_versions_and_other_buckets_are_named(world: World) -> None:
    check = Check(world, "kept")
    for n in range(6):
        await check.process.put("a", b"x" * n, ns="kept")
    await check.process.objects.create_bucket(check.process.caller, "kept", "more")
    await check.process.put("a", b"x", ns="kept", bucket="more")
    await check.process.delete("a", ns="kept")
    world.clock.forward(7200)
    report = await check.run()
    assert check.counts(report) == {"referenced": 7}
    assert report.clean


async def test_the_dry_run_names_what_the_repair_condemns_and_changes_nothing(check: Check, world: World) -> None:
    await check.process.put("a", b"x")
    strays = {await check.stray(key) for key in (*ODD, "in/other")} | {await check.stray("x", bucket="more")}
    world.clock.forward(7200)
    dry = await check.run()
    named = set(check.found)
    assert named == {("unnamed", key) for key in strays}
    assert dry.kinds["unnamed"].size_bytes == 5 * len(strays)
    assert not await world.condemned()
    repaired = await check.run(repair=True)
    assert check.found == named
    assert check.counts(repaired) == check.counts(dry)
    assert set(await world.condemned()) == strays
    assert set(await world.stored()) >= strays, "a repair never deletes"


async def test_a_second_repair_finds_nothing_and_the_janitor_deletes_after_the_quarantine(
    check: Check, world: World
) -> None:
    stray = await check.stray("a")
    await check.process.put("a", b"x")
    world.clock.forward(7200)
    await check.run(repair=True, quarantine=timedelta(hours=24))
    again = await check.run(repair=True)
    assert check.counts(again) == {"referenced": 1, "condemned": 1}
    world.clock.forward(23 * 3600)
    await check.process.rounds()
    assert stray in await world.stored()
    world.clock.forward(2 * 3600)
    await check.process.rounds()
    assert set(await world.stored()) == set(await world.referenced())
    await world.check()


async def test_young_bytes_are_left_alone(check: Check, world: World) -> None:
    await check.stray("old")
    world.clock.forward(1800)
    await check.stray("young")
    world.clock.forward(1801)
    report = await check.run(repair=True)
    assert check.counts(report) == {"unnamed": 1, "young": 1}
    assert report.kinds["unnamed"].samples[0].startswith("old~")
    assert len(await world.condemned()) == 1


async def test_a_store_whose_clock_is_behind_makes_bytes_no_older(check: Check, world: World) -> None:
    await check.stray("a")
    world.clock.forward(7200)
    check.store.ahead = timedelta(hours=-1, minutes=-30)
    assert check.counts(await check.run(repair=True)) == {"young": 1}


async def test_bytes_that_an_unconsumed_message_may_name_are_left_alone(check: Check, world: World) -> None:
    before = world.clock()
    world.clock.forward(60)
    await check.stray("a")
    world.clock.forward(7200)
    assert check.counts(await check.run(repair=True, oldest_unconsumed=before)) == {"young": 1}
    assert not await world.condemned()


@pytest.mark.parametrize("key", ["holiday.jpg", "a~b", "~other", "a~notaversion", "deep/down/there", "~things/a~0123"])
async def test_keys_of_another_form_are_only_reported(check: Check, world: World, key: str) -> None:
    await check.put(key)
    world.clock.forward(7200)
    report = await check.run(repair=True)
    assert check.found == {("foreign", key)}
    assert report.clean
    assert not await world.condemned()


async def test_a_cut_key_without_its_name_is_foreign(check: Check, world: World) -> None:
    physical = Layout("things").physical("things", "long" * 250, world.new_version_id())
    await check.put(physical)
    world.clock.forward(7200)
    await check.run(repair=True)
    assert check.found == {("foreign", physical)}


async def test_lost_and_changed_bytes_are_reported_and_their_rows_stay(check: Check, world: World) -> None:
    for key in ("lost", "changed", "same", "swapped"):
        await check.process.put(key, b"12345")
    physical = {key.partition("~")[0]: key for key in await world.stored()}
    await world.blobs["things"].delete_many([physical["lost"], physical["changed"], physical["swapped"]])
    await check.put(physical["changed"], b"1")
    await check.put(physical["swapped"], b"54321")
    world.clock.forward(7200)
    report = await check.run(repair=True)
    assert check.found == {("missing", physical["lost"]), *(("differing", physical[k]) for k in ("changed", "swapped"))}
    assert not report.clean
    assert len(await world.referenced()) == 4
    assert not await world.condemned()


async def test_a_row_that_went_meanwhile_is_not_missing(check: Check, world: World) -> None:
    await check.process.put("a", b"x")
    (physical,) = await world.stored()
    await world.blobs["things"].delete_many([physical])
    real = check.store.head

    async def head(key: str) -> object:
        await check.process.delete("a")
        return await real(key)

    check.store.head = head  # type: ignore[method-assign,assignment]  # the deletion comes between look and look
    assert (await check.run()).clean


@pytest.mark.parametrize("repair", [False, True])
async def test_garbage_that_is_deleted_meanwhile_is_not_unnamed(check: Check, world: World, repair: bool) -> None:
    await check.process.put("a", b"x")
    await check.process.delete("a")
    world.clock.forward(7200)
    check.store.after_list = check.process.rounds
    report = await check.run(repair)
    assert await world.stored() == {}
    assert report.clean
    assert not await world.condemned()


async def test_condemning_looks_again(check: Check, world: World) -> None:
    await check.process.put("a", b"x")
    ((physical, row),) = (await world.referenced()).items()
    stray = Stray(
        physical_key=physical, bucket="things", key="a", version_id=row.version_id, size_bytes=1, store_etag=""
    )

    async def body(tx: Txn) -> list[Stray]:
        return await sweep.condemn_unnamed(tx, check.space.rules, [stray], world.clock(), timedelta(0))

    assert await check.process.meta.transact("things", body) == []
    assert not await world.condemned()


async def test_many_keys_take_few_listings(check: Check, world: World) -> None:
    for n in range(1300):
        await check.process.put(f"img{n}", b"")
    for n in range(0, 1300, 50):
        await check.stray(f"img{n}/thumb")
    for n in range(12):
        await check.process.put("d" + "/d" * n, b"")
    for n in range(1100):
        await check.process.put("d" + "/d" * 12 + f"/{n}", b"")
    world.clock.forward(7200)
    report = await check.run(repair=True)
    assert check.counts(report) == {"referenced": 2412, "unnamed": 26}
    assert check.store.lists <= 10
    assert len(report.kinds["unnamed"].samples) == 20
    assert len(check.store.heads) == 26, "only the unnamed are looked at one by one"


@pytest.mark.parametrize("point", ["fsck.after_list", "fsck.before_condemn", "fsck.after_condemn"])
async def test_a_crash_in_the_repair_leaves_a_repair_to_be_repeated(check: Check, world: World, point: str) -> None:
    strays = {await check.stray(f"k{n:03}") for n in range(300)}
    world.clock.forward(7200)
    arm(f"{point}=raise@1")
    with pytest.raises(FailpointError):
        await check.run(repair=True)
    arm("")
    await check.run(repair=True)
    assert set(await world.condemned()) == strays
    await world.check()
