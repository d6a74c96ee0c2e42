"""A rebuild beside everything else that goes on: what is named stays, nobody is counted twice, memory is bounded."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest
from world import Process, World, pieces

from prism.blob.driver import WriteOptions
from prism.errors import ErrorCode, PrismError
from prism.failpoints import arm
from prism.keys import Layout
from prism.meta.memory import MemorySpace
from prism.metadata import for_store
from prism.rebuilding import Rebuild, rebuild
from prism.walking import WalkReport


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm("")


def lose_catalog(world: World) -> Process:
    """A process on a new, empty catalog over the same stores."""
    world.space = MemorySpace()
    world._look = world.start().meta
    return world.start()


def counts(report: WalkReport) -> dict[str, int]:
    return {kind: found.count for kind, found in report.kinds.items() if found.count}


async def lay(world: World, key: str, content: bytes, ns: str, **fields: object) -> str:
    """Bytes of Prism's form without a row."""
    version = world.new_version_id()
    physical = Layout(ns).physical(ns, key, version)
    await world.blobs[ns].put(
        physical,
        pieces(content, 1000),
        WriteOptions(metadata=for_store(key, version, {}, **fields)),  # type: ignore[arg-type]
    )
    return physical


@pytest.mark.parametrize(("ns", "kind"), [("kept", "versions"), ("brief", "older")])
async def test_very_many_contents_of_one_key(world: World, ns: str, kind: str) -> None:
    for n in range(1100):
        await lay(world, "busy", f"{n}".encode(), ns)
        world.clock.forward(1)
    await lay(world, "other", b"x", ns)
    prism = world.start()
    report = await rebuild(prism.spaces[ns], Rebuild())
    served = await prism.get("busy", ns=ns)
    assert served == b"1099"
    if ns == "kept":
        assert len(await world.referenced(ns)) == 1101
    else:
        assert counts(report) == {"objects": 2, kind: 1099}
    assert (await world.counters(ns)).objects == (await world.counted(ns)).objects


async def test_the_content_that_landed_last_is_served(world: World) -> None:
    promised_first = world.new_version_id()
    world.clock.forward(10)
    await lay(world, "a", b"landed first", "brief")
    world.clock.forward(10)
    await world.blobs["brief"].put(
        Layout("brief").physical("brief", "a", promised_first), pieces(b"landed last"), WriteOptions()
    )
    prism = world.start()
    await rebuild(prism.spaces["brief"], Rebuild())
    assert await prism.get("a", ns="brief") == b"landed last"


async def test_two_rebuilds_at_once_name_everything_once(world: World) -> None:
    for n in range(300):
        for _ in range(2):
            await lay(world, f"k{n}", b"x", "kept")
    one, other = world.start(), world.start()
    await asyncio.gather(
        rebuild(one.spaces["kept"], Rebuild(add=True)), rebuild(other.spaces["kept"], Rebuild(add=True))
    )
    assert len(await world.referenced("kept")) == 600
    assert len(await world.rows("kept", "v")) == 300
    await world.check("kept")


async def test_what_is_promised_or_condemned_is_left_alone(world: World) -> None:
    prism = world.start()
    upload = await prism.presign_put("promised")
    await world.land(world.physical("promised", upload), b"landed")
    await prism.put("deleted", b"x")
    await prism.delete("deleted")
    await prism.put("current", b"x")
    report = await rebuild(prism.spaces["things"], Rebuild(add=True))
    assert counts(report) == {"known": 3}
    await world.check()


async def test_its_own_garbage_does_not_come_back(world: World) -> None:
    prism = world.start()
    await lay(world, "stray", b"x", "brief")
    await world.lived()
    assert counts(await rebuild(prism.spaces["brief"], Rebuild(add=True))) == {"garbage": 1}
    assert await prism.list(ns="brief") == []


async def test_staging_keys_and_nameless_ones_are_no_objects(world: World) -> None:
    layout = Layout("brief")
    for physical in (
        layout.staging("brief", "a", world.new_version_id()),
        layout.physical("brief", "long" * 250, world.new_version_id()),
        "foreign",
    ):
        await world.blobs["brief"].put(physical, pieces(b"x"), WriteOptions())
    prism = world.start()
    assert counts(await rebuild(prism.spaces["brief"], Rebuild())) == {"staging": 1, "nameless": 1, "foreign": 1}
    assert await prism.list(ns="brief") == []


async def test_what_has_no_known_expiry_does_not_expire_and_what_is_over_is_over(world: World) -> None:
    now = world.clock()
    await lay(world, "for ever", b"x", "brief")
    await lay(world, "soon", b"x", "brief", expires_at=now + timedelta(hours=1))
    await lay(world, "from landing", b"x", "brief", ttl_seconds=60)
    await lay(world, "over", b"x", "brief", expires_at=now - timedelta(hours=1))
    prism = world.start()
    assert counts(await rebuild(prism.spaces["brief"], Rebuild())) == {"objects": 3, "expired": 1}
    lives = {key: (await prism.head(key, ns="brief")).expires_at for key in ("for ever", "soon", "from landing")}
    assert lives == {
        "for ever": None,
        "soon": now + timedelta(hours=1, seconds=1),
        "from landing": now + timedelta(seconds=60),
    }
    world.clock.forward(2 * 3600)
    await prism.rounds(2)
    assert await prism.list(ns="brief") == ["for ever"]
    await world.rest(prism, "brief")
    assert len(await world.stored("brief")) == 1


async def test_the_lifetime_of_a_long_write_began_at_its_end(world: World) -> None:
    version, began = world.new_version_id(), world.clock()
    fields = for_store("a", version, {}, expires_at=began + timedelta(hours=1))
    world.clock.forward(600)
    physical = Layout("brief").physical("brief", "a", version)
    await world.blobs["brief"].put(physical, pieces(b"x"), WriteOptions(metadata=fields))
    prism = world.start()
    await rebuild(prism.spaces["brief"], Rebuild())
    expires_at = (await prism.head("a", ns="brief")).expires_at
    assert expires_at == began + timedelta(seconds=3600 + 600 + 1), "nothing expires early"


async def test_a_newer_content_overtakes_the_row_of_a_restored_catalog_and_spares_its_bytes(world: World) -> None:
    prism = world.start()
    await prism.put("a", b"old", ns="brief")
    (old,) = await world.stored("brief")
    world.clock.forward(1)
    await lay(world, "a", b"new", "brief")
    assert counts(await rebuild(prism.spaces["brief"], Rebuild(add=True))) == {"objects": 1, "known": 1}
    assert await prism.get("a", ns="brief") == b"new"
    world.clock.forward(6 * 86_400)
    await prism.rounds(2)
    assert old in await world.stored("brief"), "they stay for a week"
    await world.check("brief")


async def test_an_older_content_never_replaces_a_row(world: World) -> None:
    older = await lay(world, "a", b"old", "brief")
    world.clock.forward(1)
    prism = world.start()
    await prism.put("a", b"current", ns="brief")
    assert counts(await rebuild(prism.spaces["brief"], Rebuild(add=True))) == {"older": 1, "known": 1}
    assert await prism.get("a", ns="brief") == b"current"
    assert older in await world.stored("brief")


async def test_a_catalog_in_use_is_refused_unless_told(world: World) -> None:
    prism = world.start()
    await prism.put("a", b"x")
    with pytest.raises(PrismError) as refused:
        await rebuild(prism.spaces["things"], Rebuild())
    assert refused.value.code is ErrorCode.PRECONDITION_FAILED
    fresh = lose_catalog(world)
    assert counts(await rebuild(fresh.spaces["things"], Rebuild())) == {"objects": 1}
    assert await fresh.get("a") == b"x"
