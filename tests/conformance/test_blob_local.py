"""The local driver keeps the port's promises, also on filesystems that lack something, and leaves nothing aside."""

import asyncio
import fcntl
import gc
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from local_files import files_below

from prism.blob import BlobStore, Driver, open_blob
from prism.blob.driver import AlreadyExists, NotFound, WriteOptions
from prism.blob.folders import Folders
from prism.blob.listing import Listing
from prism.blob.local import LocalDriver, open_local
from prism.config import LocalStore
from prism.errors import ErrorCode, PrismError
from prism.testing.blob_foreign_suite import FOREIGN_KEYS, Foreign
from prism.testing.blob_multipart_suite import MultipartSuite
from prism.testing.blob_signing_suite import UnsignedSuite
from prism.testing.blob_suite import HOSTILE_KEYS, BlobSuite, content_of, put

FILES = tuple(key for key in FOREIGN_KEYS if not {"", ".", ".."} & set(key.split("/")))
"""Foreign keys that a filesystem can hold."""


class TestLocal(BlobSuite, MultipartSuite, UnsignedSuite):
    hostile_keys = HOSTILE_KEYS
    foreign_keys = FILES

    @pytest.fixture
    async def driver(self, tmp_path: Path) -> Driver:
        return await open_local(tmp_path / "blobs")

    @pytest.fixture
    def foreign(self, tmp_path: Path) -> Foreign:
        async def write(key: str, content: bytes) -> None:
            path = tmp_path / "blobs" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

        return write


class TestPoorFilesystem(BlobSuite, MultipartSuite):
    """No anonymous files, no extended attributes."""

    hostile_keys = HOSTILE_KEYS
    foreign_keys = FILES

    @pytest.fixture
    async def driver(self, tmp_path: Path) -> Driver:
        return await open_local(tmp_path / "blobs", anonymous=False, attributes=False)


class TestFoldingFilesystem(BlobSuite, MultipartSuite):
    """Names are written so that no two of them are equal but for case or Unicode form; long ones are refused there."""

    hostile_keys = tuple(key for key in HOSTILE_KEYS if "ää" not in key)
    foreign_keys = FILES

    @pytest.fixture
    async def driver(self, tmp_path: Path) -> Driver:
        return await open_local(tmp_path / "blobs", folded=True)


async def test_nothing_remains_after_deletion_and_close(store: BlobStore, root: Path) -> None:
    keys = ["a/b/c", "a/b/d", "e", "a~b/" + "x" * 200]
    for key in keys:
        await put(store, key, b"x", options=WriteOptions(metadata={"k": key}))
    with pytest.raises(AlreadyExists):
        await put(store, "e", b"y")
    await store.delete_many(keys)
    assert files_below(root) == []
    await store.close()
    assert list(root.iterdir()) == []


async def test_a_failed_put_leaves_no_file(store: BlobStore, root: Path) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield bytes(3 * 2**20)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await store.put("a/b", chunks(), WriteOptions())
    await store.close()
    assert files_below(root) == []


async def test_metadata_too_large_for_an_attribute_goes_to_a_sidecar(root: Path) -> None:
    store = BlobStore(await open_local(root))
    metadata = {"k": "v" * 60_000}
    await put(store, "d/k", b"x", options=WriteOptions(metadata=metadata))
    info = await store.head("d/k")
    assert info is not None
    assert dict(info.metadata) == metadata
    assert [entry.key for entry in await store.list("")] == ["d/k"]
    await store.delete_many(["d/k"])
    assert files_below(root) == []
    await store.close()


async def test_a_left_over_sidecar_does_not_stand_in_the_way(root: Path) -> None:
    root.mkdir()
    (root / "k~=m").write_bytes(b'{"content_type": "old/old"}')
    store = BlobStore(await open_local(root, attributes=False))
    assert await store.head("k") is None
    await put(store, "k", b"x", options=WriteOptions(content_type="new/new"))
    info = await store.head("k")
    assert info is not None
    assert info.content_type == "new/new"
    await store.close()


async def test_symbolic_links_are_not_followed(store: BlobStore, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (root / "folder").symlink_to(outside)
    (root / "file").symlink_to(outside / "secret")
    for key in ("folder/secret", "file"):
        with pytest.raises(NotFound):
            await store.get(key)
        assert await store.head(key) is None
    assert (await store.delete_many(["folder/secret"]))[0].error is None
    assert await store.list("") == []
    assert await store.list("folder/") == []
    with pytest.raises(PrismError) as raised:
        await put(store, "folder/new", b"x")
    assert raised.value.code is ErrorCode.STORE_DOWN
    with pytest.raises(AlreadyExists):
        await put(store, "file", b"x")
    assert [path.name for path in outside.iterdir()] == ["secret"]


async def test_foreign_files_do_no_harm(store: BlobStore, root: Path) -> None:
    (root / "foreign").write_bytes(b"12345")
    os.mkfifo(root / "pipe")
    (root / os.fsdecode(b"not-\xff-text")).write_bytes(b"x")
    (root / "empty" / "er").mkdir(parents=True)
    assert [(entry.key, entry.size_bytes) for entry in await store.list("")] == [("foreign", 5)]
    assert await content_of(store, "foreign") == b"12345"
    assert await store.head("pipe") is None
    assert await store.head("empty") is None


async def test_the_stores_own_names_are_no_keys(store: BlobStore, root: Path) -> None:
    await put(store, "k", b"x", options=WriteOptions(metadata={"a": "b"}))
    for key in ("~=prism", "k~=m", "~=prism/x"):
        assert await store.head(key) is None
        assert (await store.delete_many([key]))[0].error is None
        with pytest.raises(PrismError):
            await put(store, key, b"x")
    info = await store.head("k")
    assert info is not None
    assert dict(info.metadata) == {"a": "b"}


async def test_drafts_of_dead_processes_are_cleared_and_living_ones_are_not(root: Path) -> None:
    living = BlobStore(await open_local(root, anonymous=False))
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        yield bytes(2 * 2**20)
        begun.set()
        await go_on.wait()

    task = asyncio.ensure_future(living.put("k", chunks(), WriteOptions()))
    await begun.wait()
    dead = root / "~=prism" / "1-dead"
    dead.mkdir()
    (dead / "draft").write_bytes(b"x")
    second = BlobStore(await open_local(root, anonymous=False))
    assert not dead.exists()
    go_on.set()
    assert (await task).size_bytes == 2 * 2**20
    assert await content_of(second, "k") == bytes(2 * 2**20)
    await second.close()
    await living.close()
    assert files_below(root) == ["k"]


async def test_a_draft_folder_that_is_locked_elsewhere_stays(root: Path) -> None:
    (root / "~=prism" / "1-alive").mkdir(parents=True)
    held = os.open(root / "~=prism" / "1-alive", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    await (await open_local(root)).close()
    assert (root / "~=prism" / "1-alive").exists()
    os.close(held)


async def test_two_processes_share_a_store(root: Path) -> None:
    """Folders come and go under each other's feet."""
    one, other = BlobStore(await open_local(root)), BlobStore(await open_local(root))

    async def live(mine: BlobStore, theirs: BlobStore, number: int) -> None:
        for turn in range(20):
            key = f"a/b/{number}-{turn}"
            await put(mine, key, b"x")
            assert await content_of(theirs, key) == b"x"
            await theirs.delete_many([key])
            assert await mine.head(key) is None

    pairs = [(one, other), (other, one)] * 3
    await asyncio.gather(*(live(*pair, number) for number, pair in enumerate(pairs)))
    assert await one.list("") == await other.list("") == []
    await one.close()
    await other.close()


async def test_a_store_whose_folder_vanished_is_down_and_not_empty(root: Path, tmp_path: Path) -> None:
    store = BlobStore(await open_local(root))
    await put(store, "a/k", b"x")
    for path in sorted(root.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    root.rmdir()
    for attempt in (store.get("a/k"), store.head("a/k"), put(store, "a/n", b"x")):
        with pytest.raises(PrismError) as raised:
            await attempt
        assert raised.value.code is ErrorCode.STORE_DOWN
    await store.close()


async def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(PrismError, match="file") as raised:
        await open_blob(LocalStore(root=tmp_path / "file"))
    assert raised.value.code is ErrorCode.STORE_DOWN


async def test_the_last_of_a_disk_is_left_to_the_catalog(root: Path) -> None:
    """A disk filled by puts to its last byte would let nobody delete anything: that takes a transaction."""
    store = BlobStore(await open_local(root))
    stored = await put(store, "k", b"x")
    await store.close()
    full = BlobStore(await open_local(root, reserve_bytes=2**60))
    for work in (put(full, "l", b"x"), full.copy("k", stored.etag, "l", WriteOptions())):
        with pytest.raises(PrismError) as raised:
            await work
        assert raised.value.code is ErrorCode.STORE_DOWN
        assert "full" in raised.value.message
    assert await content_of(full, "k") == b"x"
    await full.now()
    (result,) = await full.delete_many(["k"])
    assert result.error is None
    assert files_below(root) == []
    await full.close()


async def test_late_threads_do_not_publish(root: Path) -> None:
    driver = await open_local(root, late_write_seconds=-1)
    store = BlobStore(driver)
    with pytest.raises(PrismError) as raised:
        await put(store, "k", b"x")
    assert raised.value.code is ErrorCode.STORE_DOWN
    assert files_below(root) == []
    await store.close()


async def test_descriptors_and_threads_return_to_their_baseline(root: Path) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    gc.collect()
    before = descriptors()
    store = BlobStore(await open_local(root))
    for at in range(200):
        await put(store, f"{at}/{at}/k", bytes(2 * 2**20 if at < 3 else 10))
    opened = [await store.get(f"{at}/{at}/k") for at in range(200)]
    assert descriptors() < before + 64 + 3 + 16
    for read in opened:
        await read.body.aclose()
    await store.close()
    del read, opened
    del store
    assert descriptors() <= before


@pytest.mark.parametrize("batch", [1, 3, 1000])
def test_a_big_folder_is_listed_in_batches(tmp_path: Path, batch: int) -> None:
    names = sorted(f"{at:03}{'/x' if at % 7 == 0 else ''}" for at in range(40))
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    listing = Listing(Folders(str(tmp_path)), batch=batch)
    for start in ("", "000", "007", "007/", "007/x", "0070", "038", "039"):
        assert [entry.key for entry in listing.after("", start)] == [name for name in names if name > start]
    assert [entry.key for entry in listing.after("01", "012")] == [name for name in names if "013" <= name < "02"]


CRASHING = """
import asyncio, sys
from pathlib import Path
from prism.blob import BlobStore
from prism.blob.driver import WriteOptions
from prism.blob.local import open_local
from prism.failpoints import arm

async def chunks():
    yield b"x" * 3_000_000

async def main():
    rich = sys.argv[2] == "anonymous"
    store = BlobStore(await open_local(Path(sys.argv[1]), anonymous=rich, attributes=rich))
    arm(sys.argv[3] + "=exit@1")
    if "delete" in sys.argv[3]:
        await store.delete_many(["d/old"])
    else:
        await store.put("d/new", chunks(), WriteOptions(metadata={"k": "v"}))

asyncio.run(main())
"""
STEPS = ("open", "fsync", "rename", "folder_fsync", "delete")


@pytest.mark.crash
@pytest.mark.parametrize("kind", ["anonymous", "named"])
@pytest.mark.parametrize("point", [f"blob.local.{when}_{step}" for step in STEPS for when in ("before", "after")])
async def test_a_process_that_dies_leaves_whole_objects_and_no_drafts(root: Path, kind: str, point: str) -> None:
    rich = kind == "anonymous"
    store = BlobStore(await open_local(root, anonymous=rich, attributes=rich))
    await put(store, "d/old", b"old")
    await store.close()
    command = [sys.executable, "-c", CRASHING, str(root), kind, point]
    died = await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE)
    _, said = await asyncio.wait_for(died.communicate(), 60)
    assert died.returncode == 137, said.decode()
    store = BlobStore(await open_local(root, anonymous=rich, attributes=rich))
    keys = [entry.key for entry in await store.list("")]
    assert set(keys) <= {"d/old", "d/new"}
    if "d/new" in keys:
        assert point.endswith(("after_rename", "folder_fsync"))
        assert await content_of(store, "d/new") == b"x" * 3_000_000
        info = await store.head("d/new")
        assert info is not None
        assert dict(info.metadata) == {"k": "v"}
    assert ("d/old" in keys) == (point != "blob.local.after_delete")
    results = await store.delete_many(["d/new", "d/old"])
    assert not [result for result in results if result.error]
    await store.close()
    assert files_below(root) == []


async def test_the_filesystem_is_asked_what_it_can_do(root: Path) -> None:
    driver = await open_local(root)
    assert isinstance(driver, LocalDriver)
    assert driver.capabilities.late_write_seconds <= 30
    assert not driver.folded
    await driver.close()
