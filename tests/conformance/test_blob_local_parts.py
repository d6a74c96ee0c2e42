"""Objects in parts on the local store: they outlive a process, whenever it dies, and show nothing and leave nothing."""

import asyncio
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from local_files import files_below

from prism.blob import BlobStore
from prism.blob.driver import NotFound, Part, WriteOptions
from prism.blob.local import open_local
from prism.errors import ErrorCode, PrismError
from prism.testing.blob_calls import absent, content_of, stream

OPTIONS = WriteOptions(content_type="a/b", metadata={"k": "v"})


async def send(store: BlobStore, upload: str, number: int, content: bytes) -> Part:
    return await store.put_part("d/k", upload, number, stream(content), len(content))


async def refused(work: object) -> PrismError:
    assert asyncio.iscoroutine(work)
    with pytest.raises(PrismError) as raised:
        await work
    assert raised.value.code is ErrorCode.STORE_DOWN
    return raised.value


async def test_an_upload_outlives_its_process(root: Path, store: BlobStore) -> None:
    upload = await store.create_multipart("d/k", OPTIONS)
    first = await send(store, upload, 1, b"first ")
    await store.close()
    later = BlobStore(await open_local(root))
    assert [one.upload for one in await later.open_multiparts("d/k")] == [upload]
    assert await later.list_parts("d/k", upload) == [first]
    second = await send(later, upload, 2, b"second")
    await later.complete_multipart("d/k", upload, [first, second], OPTIONS)
    assert await content_of(later, "d/k") == b"first second"
    info = await later.head("d/k")
    assert info is not None
    assert (info.content_type, dict(info.metadata)) == ("a/b", {"k": "v"})
    await later.close()


async def test_what_arrives_is_under_no_key(root: Path, store: BlobStore) -> None:
    upload = await store.create_multipart("d/k", OPTIONS)
    await send(store, upload, 1, b"x")
    paths = files_below(root)
    assert len(paths) == 2
    for path in paths:
        folder = path.rpartition("/")[0] + "/"
        for prefix in ("", "~", "~=parts/", folder, path):
            assert await store.list(prefix) == []
        with pytest.raises(NotFound):
            await store.get(path)
        assert await store.head(path) is None
        (result,) = await store.delete_many([path])
        assert result.error is None
    assert files_below(root) == paths


@pytest.mark.parametrize("end", ["complete", "abort"])
async def test_an_upload_that_is_over_leaves_nothing(root: Path, store: BlobStore, end: str) -> None:
    upload = await store.create_multipart("d/k", OPTIONS)
    parts = [await send(store, upload, number, bytes(100)) for number in (1, 2, 1)]
    if end == "complete":
        await store.complete_multipart("d/k", upload, parts[:0:-1], OPTIONS)
        await store.delete_many(["d/k"])
    else:
        await store.abort_multipart("d/k", upload)
    assert files_below(root) == []
    await store.close()
    assert list(root.iterdir()) == []


async def test_parts_that_fail_leave_nothing(root: Path, store: BlobStore) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield bytes(3 * 2**20)
        raise ConnectionResetError

    upload = await store.create_multipart("d/k", OPTIONS)
    before = files_below(root)
    with pytest.raises(ConnectionResetError):
        await store.put_part("d/k", upload, 1, chunks(), 4 * 2**20)
    assert files_below(root) == before


async def test_parts_and_the_end_of_their_upload_race_and_leave_nothing(root: Path, store: BlobStore) -> None:
    """In two processes: a part is taken or finds its upload over; the folders come and go under their feet."""
    other = BlobStore(await open_local(root))

    async def sending(upload: str, number: int) -> None:
        try:
            while True:
                await send(store, upload, number, bytes(1000))
        except NotFound:
            return

    for _ in range(10):
        upload = await store.create_multipart("d/k", OPTIONS)
        senders = [asyncio.create_task(sending(upload, number)) for number in range(1, 5)]
        while len(await other.list_parts("d/k", upload)) < 4:
            await asyncio.sleep(0)
        await other.abort_multipart("d/k", upload)
        await asyncio.gather(*senders)
        assert not await store.open_multiparts("d/k")
    assert files_below(root) == []
    await other.close()


async def test_of_completions_and_aborts_one_decides(root: Path, store: BlobStore) -> None:
    other = BlobStore(await open_local(root))
    for _ in range(20):
        upload = await store.create_multipart("d/k", OPTIONS)
        part = await send(store, upload, 1, b"x")
        results = await asyncio.gather(
            store.complete_multipart("d/k", upload, [part], OPTIONS),
            other.complete_multipart("d/k", upload, [part], OPTIONS),
            other.abort_multipart("d/k", upload),
            return_exceptions=True,
        )
        completed = [result for result in results[:2] if not isinstance(result, BaseException)]
        assert len(completed) <= 1
        assert (await store.head("d/k") is not None) == bool(completed)
        assert not await other.open_multiparts("d/k")
        await store.delete_many(["d/k"])
    assert files_below(root) == []
    await other.close()


async def test_names_of_uploads_do_not_leave_the_folder(root: Path, store: BlobStore) -> None:
    (root / "outside").mkdir()
    for upload in ("", ".", "..", "../../outside", "x" * 32, "A" * 32, "0" * 32):
        with pytest.raises(NotFound):
            await send(store, upload, 1, b"x")
        with pytest.raises(NotFound):
            await store.list_parts("d/k", upload)
        await store.abort_multipart("d/k", upload)
    assert (root / "outside").exists()


async def test_the_last_of_a_disk_is_left_to_the_catalog(root: Path) -> None:
    store = BlobStore(await open_local(root))
    upload = await store.create_multipart("d/k", OPTIONS)
    part = await send(store, upload, 1, b"x")
    await store.close()
    full = BlobStore(await open_local(root, reserve_bytes=2**60))
    for work in (
        full.create_multipart("d/k", OPTIONS),
        send(full, upload, 2, b"x"),
        full.complete_multipart("d/k", upload, [part], OPTIONS),
    ):
        assert "full" in (await refused(work)).message
    await full.abort_multipart("d/k", upload)
    assert files_below(root) == []
    await full.close()


async def test_a_late_thread_completes_nothing(root: Path) -> None:
    store = BlobStore(await open_local(root, late_write_seconds=-1))
    upload = await store.create_multipart("d/k", OPTIONS)
    part = await send(store, upload, 1, b"x")
    await refused(store.complete_multipart("d/k", upload, [part], OPTIONS))
    assert await absent(store, "d/k")
    assert await store.list_parts("d/k", upload) == [part]
    await store.close()


async def test_a_store_whose_folder_vanished_is_down(root: Path) -> None:
    store = BlobStore(await open_local(root))
    upload = await store.create_multipart("d/k", OPTIONS)
    shutil.rmtree(root)
    for work in (
        store.create_multipart("d/k", OPTIONS),
        send(store, upload, 1, b"x"),
        store.list_parts("d/k", upload),
        store.open_multiparts("d/k"),
    ):
        await refused(work)
    await store.close()


CRASHING = """
import asyncio, sys
from pathlib import Path
from prism.blob import BlobStore
from prism.blob.driver import WriteOptions
from prism.blob.local import open_local
from prism.failpoints import arm

async def chunks(text):
    yield text

async def main():
    rich = sys.argv[2] == "anonymous"
    store = BlobStore(await open_local(Path(sys.argv[1]), anonymous=rich, attributes=rich))
    arm(sys.argv[3] + "=exit@" + sys.argv[4])
    options = WriteOptions(metadata={"k": "v"})
    upload = await store.create_multipart("d/k", options)
    parts = [await store.put_part("d/k", upload, at, chunks(b"x" * 1000), 1000) for at in (1, 2)]
    if "forget" in sys.argv[3]:
        await store.abort_multipart("d/k", upload)
    await store.complete_multipart("d/k", upload, parts, options)

asyncio.run(main())
"""
BEGUN = ["before_begin_parts", "after_begin_parts"]
SENT = [f"{when}_part_{step}" for step in ("fsync", "rename") for when in ("before", "after")]
JOINED = ["before_fsync", "after_fsync", "before_join_parts", "before_rename"]
VISIBLE = ["after_rename", "before_folder_fsync", "after_folder_fsync", "after_join_parts"]
FORGOTTEN = ["before_forget_parts", "after_forget_parts"]


@pytest.mark.crash
@pytest.mark.parametrize(
    ("step", "at"),
    [*((step, 1) for step in [*BEGUN, *SENT, *JOINED, *VISIBLE, *FORGOTTEN]), *((step, 2) for step in SENT)],
)
async def test_a_process_that_dies_leaves_a_whole_object_or_an_open_upload(root: Path, step: str, at: int) -> None:
    kind = "named" if len(step) % 2 else "anonymous"
    command = [sys.executable, "-c", CRASHING, str(root), kind, f"blob.local.{step}", str(at)]
    died = await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE)
    _, said = await asyncio.wait_for(died.communicate(), 60)
    assert died.returncode == 137, said.decode()
    rich = kind == "anonymous"
    store = BlobStore(await open_local(root, anonymous=rich, attributes=rich))
    assert [entry.key for entry in await store.list("")] == (["d/k"] if step in VISIBLE else [])
    if step in VISIBLE:
        assert await content_of(store, "d/k") == b"x" * 2000
    opened = await store.open_multiparts("d/k")
    assert len(opened) == (step not in {"before_begin_parts", "after_forget_parts"})
    for one in opened:
        parts = await store.list_parts("d/k", one.upload)
        assert all(part.size_bytes == 1000 for part in parts)
        if step in JOINED:
            await store.complete_multipart("d/k", one.upload, parts, WriteOptions())
            assert await content_of(store, "d/k") == b"x" * 2000
        await store.abort_multipart("d/k", one.upload)
    assert not await store.open_multiparts("d/k")
    await store.delete_many(["d/k"])
    await store.close()
    assert files_below(root) == []
