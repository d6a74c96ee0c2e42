"""The record that proves garbage says no more than is true: it is behind, it notices an exchanged catalog, and it knows
no process but its own."""

import asyncio

from world import World

from prism.catalog import lives
from prism.identifiers import VersionIds
from prism.life import Life
from prism.meta import Meta, View
from prism.meta.memory import MemoryDriver


async def proven(meta: Meta, *version_ids: str) -> frozenset[str]:
    async def body(view: View) -> frozenset[str]:
        return await lives.proven(view, version_ids)

    return await meta.read(body)


async def begun(world: World, meta: Meta) -> tuple[Life, VersionIds]:
    ids = VersionIds(world.clock)
    life = Life(meta, ids, world.clock)
    await life.begin()
    return life, ids


async def rows(meta: Meta) -> dict[object, bytes]:
    async def body(view: View) -> dict[object, bytes]:
        return {entry.key: entry.value for entry in await view.range(b"", b"\xf0", limit=1000)}

    return await meta.read(body)


async def exchange(meta: Meta, earlier: dict[object, bytes]) -> None:
    """An older catalog comes to the place of this one."""

    async def body(tx: object) -> None:
        for key, value in earlier.items():
            tx.set(key, value)  # type: ignore[attr-defined]  # a transaction

    await meta.transact(lives.PARTITION, body)  # type: ignore[arg-type]  # as above


async def test_an_id_is_proven_only_long_after_it_was_given_out(world: World) -> None:
    meta = Meta(MemoryDriver())
    life, ids = await begun(world, meta)
    first = ids()
    for _ in range(5):
        await life.beat()
        assert await proven(meta, first) == frozenset()
    second = ids()
    await life.beat()
    assert await proven(meta, first, second) == {first}


async def test_the_end_in_order_proves_the_rest(world: World) -> None:
    meta = Meta(MemoryDriver())
    life, ids = await begun(world, meta)
    given = [ids() for _ in range(3)]
    await life.end()
    assert await proven(meta, *given) == set(given)
    assert await proven(meta, ids()) == frozenset()


async def test_a_process_that_gave_nothing_out_leaves_no_row(world: World) -> None:
    meta = Meta(MemoryDriver())
    life, _ = await begun(world, meta)
    await life.beat()
    await life.end()
    assert await rows(meta) == {}


async def test_others_ids_and_other_forms_are_never_proven(world: World) -> None:
    meta = Meta(MemoryDriver())
    life, ids = await begun(world, meta)
    mine = ids()
    await life.end()
    other = VersionIds(world.clock)()
    assert await proven(meta, mine, other, mine[:14] + "f" * 12, "not-an-id-of-this-form-at-all") == {mine}


async def test_a_restored_catalog_does_not_know_what_came_after_its_backup(world: World) -> None:
    meta = Meta(MemoryDriver())
    life, ids = await begun(world, meta)
    before = ids()
    for _ in range(6):
        await life.beat()
    backup = await rows(meta)
    after = ids()
    await life.end()
    assert await proven(meta, before, after) == {before, after}
    restored = Meta(MemoryDriver())
    await exchange(restored, backup)
    assert await proven(restored, before, after) == {before}


async def test_a_catalog_exchanged_under_a_process_is_noticed(world: World) -> None:
    meta = Meta(MemoryDriver())
    life, ids = await begun(world, meta)
    for _ in range(6):
        await life.beat()
    backup = await rows(meta)
    await life.beat()
    lost = ids()
    await exchange(meta, backup)
    for _ in range(8):
        await life.beat()
    later = ids()
    await life.end()
    assert lost[14:] != later[14:], "it went on as another process"
    assert lost < later
    assert await proven(meta, lost, later) == {later}


async def test_a_clock_that_goes_back_changes_nothing(world: World) -> None:
    meta = Meta(MemoryDriver())
    life, ids = await begun(world, meta)
    given = [ids()]
    world.clock.forward(-86_400)
    given.append(ids())
    await life.end()
    assert given == sorted(given)
    assert await proven(meta, *given) == set(given)


async def test_a_catalog_that_is_down_makes_the_record_older_and_ends_nothing(world: World) -> None:
    meta = Meta(MemoryDriver())
    life, ids = await begun(world, meta)
    given = ids()
    await meta.close()
    running = asyncio.create_task(life.run())
    await asyncio.sleep(0)
    running.cancel()
    await life.end()
    assert given
