"""What a local store says is done would survive a power cut: files before their names, names before the answer."""

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from prism.blob import BlobStore
from prism.blob.driver import WriteOptions
from prism.blob.local import open_local
from prism.errors import ErrorCode, PrismError
from prism.failpoints import FailpointError, arm
from prism.testing.blob_suite import content_of, put, stream


class Disk:
    """What of a folder would be there after a power cut: files as they were at their last sync, names at their
    folder's."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files: dict[int, int] = {}
        self._folders: dict[int, dict[str, int]] = {}
        self.fails = ""
        """The next sync of a "file" or "folder" fails."""

    def sync(self, fd: int) -> None:
        status = os.fstat(fd)
        kind = "folder" if stat.S_ISDIR(status.st_mode) else "file"
        if self.fails == kind:
            self.fails = ""
            raise OSError(5, "the disk fails")
        os.fsync(fd)
        if kind == "file":
            self._files[status.st_ino] = status.st_size
            return
        with os.scandir(fd) as entries:
            names = {entry.name: entry.inode() for entry in entries if entry.name != "~=prism"}
        self._folders[status.st_ino] = names

    def survives(self, key: str) -> bool:
        """Whether the whole file would be found there."""
        inode = self._root.stat().st_ino
        for name in key.split("/"):
            inode = self._folders.get(inode, {}).get(name, 0)
        return inode != 0 and self._files.get(inode) == (self._root / key).stat().st_size

    def named(self, key: str) -> bool:
        """Whether its name would be found in its folder."""
        path, _, name = key.rpartition("/")
        return any(name in names for names in self._folders.values()) if path else False


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path / "blobs")


@pytest.fixture(params=["anonymous", "named"])
async def store(tmp_path: Path, disk: Disk, request: pytest.FixtureRequest) -> AsyncIterator[BlobStore]:
    rich = request.param == "anonymous"
    store = BlobStore(await open_local(tmp_path / "blobs", anonymous=rich, attributes=rich, sync=disk.sync))
    yield store
    await store.close()


@pytest.mark.parametrize("key", ["k", "a/b/c/k"])
@pytest.mark.parametrize("size", [0, 1, 3 * 2**20])
async def test_what_was_put_survives(store: BlobStore, disk: Disk, key: str, size: int) -> None:
    await put(store, key, bytes(size), options=WriteOptions(metadata={"a": "b"}))
    assert disk.survives(key)


async def test_what_was_put_survives_with_its_sidecar(tmp_path: Path, disk: Disk) -> None:
    store = BlobStore(await open_local(tmp_path / "blobs", attributes=False, sync=disk.sync))
    await put(store, "a/k", b"x", options=WriteOptions(metadata={"a": "b"}))
    assert disk.survives("a/k~=m")
    await store.close()


async def test_a_copy_survives(store: BlobStore, disk: Disk) -> None:
    stored = await put(store, "a", b"content")
    await store.copy("a", stored.etag, "b/c", WriteOptions())
    assert disk.survives("b/c")


async def test_parts_and_their_object_survive(tmp_path: Path, store: BlobStore, disk: Disk) -> None:
    upload = await store.create_multipart("d/k", WriteOptions(metadata={"a": "b"}))
    (begun,) = (tmp_path / "blobs").glob("~=parts/*/*/begun")
    folder = str(begun.parent.relative_to(tmp_path / "blobs"))
    assert disk.survives(f"{folder}/begun"), "the upload's name was told, and a power cut takes it"
    for content in (b"first", b"again"):
        part = await store.put_part("d/k", upload, 1, stream(content), 5)
        assert disk.survives(f"{folder}/1")
    await store.complete_multipart("d/k", upload, [part], WriteOptions(metadata={"a": "b"}))
    assert disk.survives("d/k")
    assert not disk.named(folder), "after a power cut nobody would remove these parts"


async def test_an_aborted_upload_stays_away(tmp_path: Path, store: BlobStore, disk: Disk) -> None:
    upload = await store.create_multipart("d/k", WriteOptions())
    await store.put_part("d/k", upload, 1, stream(b"x"), 1)
    (folder,) = (tmp_path / "blobs").glob("~=parts/*/*")
    assert disk.named(str(folder.relative_to(tmp_path / "blobs")))
    await store.abort_multipart("d/k", upload)
    assert not disk.named(str(folder.relative_to(tmp_path / "blobs")))


async def test_a_part_that_could_not_be_synced_is_not_there(store: BlobStore, disk: Disk) -> None:
    upload = await store.create_multipart("d/k", WriteOptions())
    disk.fails = "file"
    with pytest.raises(PrismError) as caught:
        await store.put_part("d/k", upload, 1, stream(b"x"), 1)
    assert caught.value.code is ErrorCode.STORE_DOWN
    assert not await store.list_parts("d/k", upload)


@pytest.mark.parametrize("step", ["after_rename", "after_folder_fsync", "after_join_parts"])
async def test_a_completion_that_fails_takes_nothing_back_that_was_visible(store: BlobStore, step: str) -> None:
    upload = await store.create_multipart("d/k", WriteOptions())
    part = await store.put_part("d/k", upload, 1, stream(b"x"), 1)
    arm(f"blob.local.{step}=raise")
    with pytest.raises((PrismError, FailpointError)):
        await store.complete_multipart("d/k", upload, [part], WriteOptions())
    arm("")
    assert await content_of(store, "d/k") == b"x"
    assert [one.upload for one in await store.open_multiparts("d/k")] == [upload]
    await store.abort_multipart("d/k", upload)
    assert await content_of(store, "d/k") == b"x"


async def test_a_folder_that_another_process_has_just_made(tmp_path: Path, store: BlobStore, disk: Disk) -> None:
    (tmp_path / "blobs" / "a" / "b").mkdir(parents=True)
    assert await store.head("a/b/k") is None
    await put(store, "a/b/k", b"x")
    assert disk.survives("a/b/k")


async def test_what_was_deleted_stays_deleted(store: BlobStore, disk: Disk) -> None:
    for key in ("d/gone", "d/stays"):
        await put(store, key, b"x")
    assert disk.named("d/gone")
    await store.delete_many(["d/gone"])
    assert not disk.named("d/gone")
    assert disk.survives("d/stays")


async def test_a_file_that_could_not_be_synced_is_not_there(store: BlobStore, disk: Disk) -> None:
    disk.fails = "file"
    with pytest.raises(PrismError) as caught:
        await put(store, "k", b"x")
    assert caught.value.code is ErrorCode.STORE_DOWN
    assert await store.head("k") is None


async def test_a_deletion_that_could_not_be_synced_is_no_deletion(store: BlobStore, disk: Disk) -> None:
    await put(store, "d/k", b"x")
    await put(store, "d/l", b"x")
    disk.fails = "folder"
    (result,) = await store.delete_many(["d/k"])
    assert result.error is not None
    (again,) = await store.delete_many(["d/k"])
    assert again.error is None
    assert not disk.named("d/k")


async def test_what_a_look_tells_survives(store: BlobStore, disk: Disk) -> None:
    await put(store, "d/old", b"x")
    arm("blob.local.after_rename=raise")
    with pytest.raises((PrismError, FailpointError)):
        await put(store, "d/k", b"content")
    arm("")
    assert not disk.survives("d/k")
    assert await store.head("d/k") is not None
    assert disk.survives("d/k"), "a look led to a reference, and the bytes were lost in a power cut"


@pytest.mark.parametrize("step", ["after_rename", "before_folder_fsync", "after_folder_fsync"])
async def test_a_put_that_fails_takes_nothing_back_that_was_visible(store: BlobStore, step: str) -> None:
    arm(f"blob.local.{step}=raise")
    with pytest.raises((PrismError, FailpointError)):
        await put(store, "d/k", b"content")
    arm("")
    assert await content_of(store, "d/k") == b"content"


async def test_a_put_that_is_cancelled_takes_nothing_back_that_was_visible(tmp_path: Path, store: BlobStore) -> None:
    for at in range(30):
        path = tmp_path / "blobs" / "d" / str(at)
        task = asyncio.create_task(put(store, f"d/{at}", b"content"))
        while not path.exists() and not task.done():
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert path.read_bytes() == b"content"
