"""An export holds everything, appears whole or not at all, and fills an empty catalog with the same rows."""

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from world import World

from prism.deployment import identify
from prism.errors import ErrorCode, PrismError
from prism.failpoints import FailpointError, arm
from prism.meta import Key, Meta, Txn, View
from prism.meta.memory import MemoryDriver, MemorySpace
from prism.model import ObjectRef, PutOptions
from prism.rebuilding import Rebuild, rebuild
from prism.snapshots import SnapshotReport, export, restore
from prism.workers.fsck import fsck


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm("")


async def everything(meta: Meta) -> list[tuple[Key, bytes]]:
    async def body(view: View) -> list[tuple[Key, bytes]]:
        return [(entry.key, entry.value) for entry in await view.range(b"", b"\xf0", limit=100_000)]

    return await meta.read(body)


async def filled(world: World) -> Meta:
    """A catalog with rows of every kind, counters and bytes elements among them."""
    prism = world.start()
    meta = prism.meta
    await identify(meta, world.clock())
    for n in range(700):
        await prism.put(f"k{n}", b"x", metadata={"name": "ü\n" * (n % 3 == 5)})
    await prism.put("a", b"1", ns="kept")
    await prism.put("a", b"22", ns="kept")
    await prism.delete("k1")
    await prism.presign_put("soon")
    await prism.delete_folder("folder/")
    return meta


async def exported(world: World, meta: Meta, file: Path) -> SnapshotReport:
    return await export(meta, file, (await identify(meta, world.clock())).id, world.clock())


async def test_what_is_restored_is_what_was_exported(world: World, tmp_path: Path) -> None:
    meta = await filled(world)
    rows = await everything(meta)
    heard: list[int] = []
    report = await exported(world, meta, tmp_path / "one.gz")
    assert report.rows == len(rows)
    assert report.namespaces["things"] == {"objects": 699, "uploads": 1, "garbage": 1}
    assert report.namespaces["kept"] == {"objects": 1, "versions": 1}
    fresh = Meta(MemoryDriver())
    restored = await restore(fresh, tmp_path / "one.gz", heard.append)
    assert (restored.rows, restored.sha256, restored.namespaces) == (report.rows, report.sha256, report.namespaces)
    assert heard[-1] == len(rows)
    assert await everything(fresh) == rows
    assert [path.name for path in tmp_path.iterdir()] == ["one.gz"]
    assert (tmp_path / "one.gz").stat().st_mode & 0o077 == 0, "it holds the key of continuation tokens"


class Writing(Meta):
    """A catalog that is written to while somebody holds a snapshot of it."""

    def __init__(self, world: World) -> None:
        super().__init__(MemoryDriver(world.space))
        self._world = world

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[View]:
        async with super().snapshot() as view:
            await self._world.start().put("k0", b"later")
            yield view


async def test_an_export_is_one_moment_though_writes_go_on(world: World, tmp_path: Path) -> None:
    meta = await filled(world)
    rows = await everything(meta)
    await exported(world, Writing(world), tmp_path / "one.gz")
    fresh = Meta(MemoryDriver())
    await restore(fresh, tmp_path / "one.gz")
    assert await everything(fresh) == rows


async def test_a_catalog_that_is_not_empty_is_refused(world: World, tmp_path: Path) -> None:
    meta = await filled(world)
    await exported(world, meta, tmp_path / "one.gz")
    rows = await everything(meta)
    with pytest.raises(PrismError, match="not empty") as refused:
        await restore(meta, tmp_path / "one.gz")
    assert refused.value.code is ErrorCode.PRECONDITION_FAILED
    assert await everything(meta) == rows


async def test_a_file_is_never_overwritten(world: World, tmp_path: Path) -> None:
    meta = await filled(world)
    (tmp_path / "one.gz").write_text("precious")
    with pytest.raises(PrismError, match="exists"):
        await exported(world, meta, tmp_path / "one.gz")
    assert (tmp_path / "one.gz").read_text() == "precious"


def _altered(content: bytes) -> dict[str, bytes]:
    lines = gzip.decompress(content).splitlines(keepends=True)
    return {
        "cut": content[: len(content) // 2],
        "cut in the last bytes": content[:-3],
        "no footer": gzip.compress(b"".join(lines[:-1])),
        "a row left out": gzip.compress(b"".join(lines[:5] + lines[6:])),
        "a row changed": gzip.compress(b"".join(lines).replace(b"size_bytes", b"size_bytez", 1)),
        "something behind": gzip.compress(b"".join([*lines, lines[4]])),
        "only the header": gzip.compress(lines[0]),
        "empty": b"",
        "empty archive": gzip.compress(b""),
        "text": b"these are not the rows you are looking for\n",
        "other lines": gzip.compress(b'{"a":1}\n{"b":2}\n'),
        "one endless line": gzip.compress(b"x" * 3_000_000),
    }


async def test_a_file_that_is_not_whole_is_refused_before_anything_is_written(world: World, tmp_path: Path) -> None:
    meta = await filled(world)
    await exported(world, meta, tmp_path / "one.gz")
    for name, content in _altered((tmp_path / "one.gz").read_bytes()).items():
        (tmp_path / "bad.gz").write_bytes(content)
        fresh = Meta(MemoryDriver())
        with pytest.raises(PrismError) as refused:
            await restore(fresh, tmp_path / "bad.gz")
        assert refused.value.code is ErrorCode.INVALID_ARGUMENT, name
        assert await everything(fresh) == [], name


async def test_a_newer_program_s_file_is_refused(world: World, tmp_path: Path) -> None:
    meta = await filled(world)
    await exported(world, meta, tmp_path / "one.gz")
    text = gzip.decompress((tmp_path / "one.gz").read_bytes())
    (tmp_path / "newer.gz").write_bytes(gzip.compress(text.replace(b'"schema":1', b'"schema":2', 1)))
    with pytest.raises(PrismError) as refused:
        await restore(Meta(MemoryDriver()), tmp_path / "newer.gz")
    assert refused.value.code is ErrorCode.SCHEMA_MISMATCH


async def test_an_export_that_dies_leaves_no_file_of_its_name(world: World, tmp_path: Path) -> None:
    meta = await filled(world)
    arm("export.before_rename=raise@1")
    with pytest.raises(FailpointError):
        await exported(world, meta, tmp_path / "one.gz")
    arm("")
    assert not (tmp_path / "one.gz").exists()
    await exported(world, meta, tmp_path / "one.gz")


@pytest.mark.parametrize("point", ["restore.after_begin", "restore.after_batch"])
async def test_a_restore_that_dies_is_not_served_and_can_be_repeated(world: World, tmp_path: Path, point: str) -> None:
    meta = await filled(world)
    await exported(world, meta, tmp_path / "one.gz")
    await world.start().put("another", b"x")
    await exported(world, meta, tmp_path / "two.gz")
    fresh = Meta(MemoryDriver())
    arm(f"{point}=raise@1")
    with pytest.raises(FailpointError):
        await restore(fresh, tmp_path / "two.gz")
    arm("")
    with pytest.raises(PrismError, match="restore"):
        await identify(fresh, world.clock())
    with pytest.raises(PrismError, match="another file"):
        await restore(fresh, tmp_path / "one.gz")
    await restore(fresh, tmp_path / "two.gz")
    assert await everything(fresh) == await everything(meta)
    assert await identify(fresh, world.clock()) == await identify(meta, world.clock())


async def test_every_element_of_a_key_survives(world: World, tmp_path: Path) -> None:
    meta = Meta(MemoryDriver())
    values: dict[Key, bytes] = {
        ("p", "a\x00b", 0, -5, 2**70, True, False, b"\x00\xff", b"stamp-of-12b"): b"\x00\xff\xfe",
        ("p", "ü☃"): "☃\x01".encode(),
        ("q",): b"",
    }
    for partition in ("p", "q"):

        async def body(tx: Txn, partition: str = partition) -> None:
            for key, value in values.items():
                if key[0] == partition:
                    tx.set(key, value)

        await meta.transact(partition, body)
    await export(meta, tmp_path / "one.gz", "id", world.clock())
    fresh = Meta(MemoryDriver())
    await restore(fresh, tmp_path / "one.gz")
    assert dict(await everything(fresh)) == values


async def test_what_was_being_written_during_the_export_is_not_deleted_after_a_restore(
    world: World, tmp_path: Path
) -> None:
    """Its writer was told that it is stored, after the export."""
    prism = world.start()
    await identify(prism.meta, world.clock())
    going_on = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b"first "
        await going_on.wait()
        yield b"last"

    put = prism.objects.put(prism.caller, ObjectRef("things", "", "k"), slowly(), PutOptions())
    writing = asyncio.ensure_future(put)
    while not await world.promised():
        await asyncio.sleep(0)
    await world.lived()
    await exported(world, prism.meta, tmp_path / "one.gz")
    going_on.set()
    await writing
    world.space = MemorySpace()
    await restore(Meta(MemoryDriver(world.space)), tmp_path / "one.gz")
    world._look = Meta(MemoryDriver(world.space))
    after = world.start()
    for _ in range(3):
        world.clock.forward(4 * 3600)
        await after.rounds(2)
    assert not await world.promised()
    space = after.spaces["things"]
    report = await fsck(space, repair=True)
    assert report.kinds["unproven"].count == 1
    await after.rounds(2)
    await rebuild(space, Rebuild(add=True))
    assert await after.get("k") == b"first last"
    await world.rest(after)
