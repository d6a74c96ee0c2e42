"""A deleted folder is purged in bounded steps, whatever is put below it meanwhile, and nothing beside it is touched."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from world import Process, World

from prism.failpoints import FailpointError, arm
from prism.workers.janitor import Janitor


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm("")


def small_steps(world: World, process: Process, batch: int = 7) -> Janitor:
    """A janitor that takes a few rows at a time."""
    config = type(world.config.janitor)(batch=batch)
    return Janitor(process.namespaces, process.meta, process.bus, config, now=world.clock)


NEIGHBOURS = ("f", "fa", "F/1", "f0", "e/f/1", "f!/1")


async def test_a_folder_goes_and_its_neighbours_stay(world: World, prism: Process) -> None:
    for key in (*NEIGHBOURS, *(f"f/{n:03}" for n in range(60)), "f/sub/1", "f/sub/2/3"):
        await prism.put(key, b"x")
    await prism.delete_folder("f/")
    await prism.put("f/000", b"new")
    await prism.put("f/sub/9", b"new")
    tally = (await small_steps(world, prism).run_once()).namespaces["things"]
    assert (tally.purged, tally.marks_removed) == (61, 1)
    assert not await world.rows("things", "k")
    await world.rest(prism)
    assert await prism.list() == sorted([*NEIGHBOURS, "f/000", "f/sub/9"])


async def test_promises_below_the_folder_are_condemned_and_late_bytes_go(world: World, prism: Process) -> None:
    upload = await prism.presign_put("f/a")
    await prism.presign_put("g/a")
    await prism.delete_folder("f/")
    assert (await small_steps(world, prism).run_once()).namespaces["things"].purged == 1
    assert len(await world.promised()) == 1
    await world.land(world.physical("f/a", upload), b"late")
    await world.rest(prism)
    assert await world.stored() == {}


async def test_kept_versions_go_with_their_folder(world: World, prism: Process) -> None:
    for n in range(5):
        await prism.put("f/a", b"x" * n, ns="kept")
    await prism.delete("f/a", ns="kept")
    await prism.delete_folder("f/", ns="kept")
    await world.rest(prism, "kept")
    assert await world.stored("kept") == {}
    assert not await world.rows("kept", "v")


async def test_older_garbage_below_the_folder_is_deleted_at_once(world: World, prism: Process) -> None:
    for key in ("f/a", "g/a"):
        await prism.put(key, b"one")
        await prism.put(key, b"two")
    await prism.delete_folder("f/")
    await prism.janitor.run_once()
    world.clock.forward(130)
    await prism.janitor.run_once()
    assert {key.partition("/")[0] for key in await world.stored()} == {"g"}
    assert len(await world.stored()) == 2, "a neighbour's overwritten bytes keep their grace"


async def test_a_folder_deleted_again_while_it_is_purged(world: World, prism: Process) -> None:
    for n in range(20):
        await prism.put(f"f/{n:02}", b"x")
    await prism.delete_folder("f/")
    arm("purge.after_step=raise@2")
    janitor = small_steps(world, prism)
    with pytest.raises(FailpointError):
        await janitor.run_once()
    arm("")
    await prism.put("f/00", b"new")
    await prism.delete_folder("f/")
    await prism.delete_folder("f/0/")
    world.clock.forward(61)
    await janitor.run_once()
    assert not await world.rows("things", "k")
    assert not await world.referenced()
    await world.rest(prism)
    assert await world.stored() == {}


async def test_a_purge_meets_writes_between_its_steps(world: World, prism: Process) -> None:
    for n in range(40):
        await prism.put(f"f/{n:02}", b"old")
    await prism.delete_folder("f/")
    janitor = small_steps(world, prism, batch=5)
    for n in range(10):
        arm(f"purge.after_step=raise@{1 + n % 2}")
        with pytest.raises(FailpointError):
            await janitor.run_once()
        arm("")
        await prism.put(f"f/{3 * n:02}", b"new")
        await world.check()
        world.clock.forward(61)
    await janitor.run_once()
    assert not await world.rows("things", "k")
    assert {row.size_bytes for row in (await world.referenced()).values()} == {3}
    assert await prism.list() == [f"f/{3 * n:02}" for n in range(10)]


async def test_counters_count_until_the_purge(world: World, prism: Process) -> None:
    for n in range(3):
        await prism.put(f"f/{n}", b"12")
    await prism.delete_folder("f/")
    assert (await world.counters()).size_bytes == 6
    await prism.janitor.run_once()
    assert (await world.counters()).size_bytes == 0
    assert (await world.counters()).garbage_bytes == 6


async def test_the_bytes_stay_for_reads_under_way(world: World, prism: Process) -> None:
    await prism.put("f/a", b"x")
    grace = prism.spaces["things"].rules.read_grace
    await prism.delete_folder("f/")
    await prism.janitor.run_once()
    assert len(await world.stored()) == (1 if grace > timedelta(0) else 0)
