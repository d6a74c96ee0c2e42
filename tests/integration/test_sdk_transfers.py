"""Files that the SDK moves straight to and from where signed URLs lead: whole, verified, and resumed after anything."""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from line import Line, line
from prism_sdk import (
    AsyncPrismClient,
    ChecksumMismatch,
    DataLoss,
    FileChanged,
    InvalidArgument,
    ObjectNotFound,
    PreconditionFailed,
    PrismClient,
    StoreUnreachable,
    Timeouts,
    Unavailable,
)
from sdk_support import in_thread

from prism.testing.clocks import ShiftedClock
from prism.testing.running import Running, running_app
from prism.testing.transferring import run

SPACE = "user-uploads"
PART = 256 << 10
RANGE = 8 << 20


class World:
    """A Prism whose signed URLs lead through a line that the test meddles with, and a client of it."""

    def __init__(
        self, running: Running, line: Line, clock: ShiftedClock, client: AsyncPrismClient, folder: Path
    ) -> None:
        self.running, self.line, self.clock, self.client, self.folder = running, line, clock, client, folder
        self.source, self.target = folder / "source.png", folder / "target"

    async def upload(self, content: bytes, key: str = "k", **options: Any) -> Any:
        if not self.source.exists() or self.source.read_bytes() != content:
            self.source.write_bytes(content)
        return await self.client.upload_file("", key, self.source, **{"part_size_bytes": PART, **options})

    async def read(self, key: str = "k") -> bytes | None:
        try:
            async with self.client.get_object("", key) as opened:
                return await opened.read()
        except ObjectNotFound:
            return None

    async def run(self, action: str, path: Path, die_at: int = 0, largest_file: int = 0) -> tuple[int, str]:
        return await run(self.running.grpc, SPACE, action, "k", path, die_at, largest_file, PART)

    def left(self) -> set[str]:
        """Files beside source and target."""
        return {path.name for path in self.folder.iterdir()} - {"source.png", "target", "data"}


@pytest.fixture(params=["memory", "local"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    clock = ShiftedClock()
    async with AsyncExitStack() as stack:
        before = await stack.enter_async_context(line())
        running = await stack.enter_async_context(
            running_app(
                data_dir=tmp_path / "data" if request.param == "local" else None,
                overrides={"server.s3.public_url": f"http://{before.address}"},
                now=clock,
            )
        )
        before.target = running.s3.removeprefix("http://")
        client = await stack.enter_async_context(
            AsyncPrismClient(SPACE, endpoint=running.grpc, timeouts=Timeouts(stall_seconds=10))
        )
        yield World(running, before, clock, client, tmp_path)


def once(marker: bytes, instead: Callable[[bytes], bytes | None]) -> Callable[[bytes], bytes | None]:
    """Meddles with the first piece that has the marker."""
    met = False

    def meddle(piece: bytes) -> bytes | None:
        nonlocal met
        if met or marker not in piece:
            return piece
        met = True
        return instead(piece)

    return meddle


@pytest.mark.parametrize("size", [0, 1, PART, PART + 1, 3 * PART], ids=str)
async def test_a_file_goes_and_comes(world: World, size: int) -> None:
    content, up, down = os.urandom(size), list[tuple[int, int]](), list[tuple[int, int]]()
    result = await world.upload(content, metadata={"a": "b"}, ttl_seconds=600, progress=lambda *at: up.append(at))
    assert result.size_bytes == size
    assert result.expires_at is not None
    info = await world.client.download_file("", "k", world.target, progress=lambda *at: down.append(at))
    assert world.target.read_bytes() == content
    assert (info.content_type, dict(info.metadata), info.etag) == ("image/png", {"a": "b"}, result.etag)
    assert info.checksum_crc32c == result.checksum_crc32c
    for seen in (up, down):
        assert seen == sorted(seen)
        assert not size or seen[-1] == (size, size)
    assert world.left() == set()


def test_the_synchronous_client_does_the_same(tmp_path: Path) -> None:
    content = os.urandom(2 * RANGE + 5)
    (tmp_path / "in").write_bytes(content)
    with in_thread(running_app) as running, PrismClient(SPACE, endpoint=running.grpc) as client:
        with (tmp_path / "in").open("rb") as file:
            file.read(7)
            assert client.upload_file("", "k", file, content_type="a/b").size_bytes == len(content)
        assert client.download_file("", "k", tmp_path / "out", parallel=2).content_type == "a/b"
        assert (tmp_path / "out").read_bytes() == content
        ticket = client.create_upload("", "parts", in_parts=True, size_bytes=len(content))
        assert "://" not in repr(ticket) + repr(client.sign_parts(ticket.upload_id, [1]))
        assert (client.get_upload(ticket.upload_id).state, ticket.parts) == ("open", 3)
        with pytest.raises(InvalidArgument):
            client.complete_upload(ticket.upload_id)
        client.abort_upload(ticket.upload_id)
        assert client.get_upload(ticket.upload_id).state == "gone"
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}


async def test_an_upload_goes_on_after_a_kill(world: World) -> None:
    content = os.urandom(20 * PART)
    world.source.write_bytes(content)
    ended, said = await world.run("upload", world.source, die_at=8 * PART)
    assert ended == -signal.SIGKILL, said
    assert len(world.left()) == 1
    assert await world.read() is None
    seen: list[int] = []
    result = await world.upload(content, progress=lambda done, total: seen.append(done))
    assert seen[0] >= 4 * PART, "what had arrived was sent again"
    assert (result.size_bytes, await world.read()) == (len(content), content)
    assert world.left() == set()


async def test_a_source_that_changed_begins_anew(world: World) -> None:
    old, new = os.urandom(12 * PART), os.urandom(12 * PART)
    world.source.write_bytes(old)
    ended, _ = await world.run("upload", world.source, die_at=6 * PART)
    assert ended == -signal.SIGKILL
    seen: list[int] = []
    await world.upload(new, progress=lambda done, total: seen.append(done))
    assert seen[0] <= 4 * PART
    assert await world.read() == new


async def test_a_source_that_changes_under_way_is_never_stored(world: World) -> None:
    def change(done: int, total: int) -> None:
        with world.source.open("r+b") as file:
            file.truncate(PART // 2)

    with pytest.raises(FileChanged):
        await world.upload(os.urandom(8 * PART), progress=change)
    assert await world.read() is None
    assert world.left() == set()


async def test_a_download_goes_on_after_a_kill(world: World) -> None:
    content = os.urandom(4 * RANGE)
    await world.upload(content, part_size_bytes=RANGE)
    world.target.write_bytes(b"older")
    ended, said = await world.run("download", world.target, die_at=3 * RANGE)
    assert ended == -signal.SIGKILL, said
    assert world.target.read_bytes() == b"older"
    seen: list[int] = []
    await world.client.download_file("", "k", world.target, parallel=1, progress=lambda done, total: seen.append(done))
    assert seen[-1] == len(content)
    assert world.target.read_bytes() == content
    assert world.left() == set()


async def test_a_download_of_what_was_overwritten_meanwhile_is_all_new(world: World) -> None:
    old, new = os.urandom(3 * RANGE), os.urandom(3 * RANGE)
    await world.upload(old, part_size_bytes=RANGE)
    ended, _ = await world.run("download", world.target, die_at=2 * RANGE)
    assert ended == -signal.SIGKILL
    await world.upload(new, part_size_bytes=RANGE)
    await world.client.download_file("", "k", world.target)
    assert world.target.read_bytes() == new
    assert world.left() == set()


async def test_an_object_that_is_overwritten_while_it_is_read_is_never_mixed(world: World) -> None:
    old, new = os.urandom(4 * RANGE), os.urandom(4 * RANGE)
    await world.upload(old, part_size_bytes=RANGE)
    (world.folder / "data").mkdir(exist_ok=True)
    (world.folder / "data" / "new").write_bytes(new)
    with PrismClient(SPACE, endpoint=world.running.grpc) as other:
        overwritten: list[Any] = []

        def overwrite(done: int, total: int) -> None:
            if not overwritten and done > RANGE:
                overwritten.append(other.upload_file("", "k", world.folder / "data" / "new"))

        info = await world.client.download_file("", "k", world.target, parallel=2, progress=overwrite)
    assert info.etag == overwritten[0].etag
    assert world.target.read_bytes() == new


@pytest.mark.parametrize("parts", [1, 6])
async def test_a_line_that_breaks_costs_a_repeat(world: World, parts: int) -> None:
    content = b"MARKER".join([os.urandom(parts * PART // 2 - 6)] * 2)
    world.line.up = once(b"MARKER", lambda piece: None)
    await world.upload(content)
    assert await world.read() == content
    world.line.down = once(b"MARKER", lambda piece: None)
    await world.client.download_file("", "k", world.target)
    assert world.target.read_bytes() == content


@pytest.mark.parametrize("parts", [1, 6])
async def test_bytes_that_change_on_their_way_are_never_stored(world: World, parts: int) -> None:
    content = b"MARKER".join([os.urandom(parts * PART // 2 - 6)] * 2)
    world.line.up = once(b"MARKER", lambda piece: piece.replace(b"MARKER", b"MARKET"))
    with pytest.raises(ChecksumMismatch):
        await world.upload(content)
    assert await world.read() is None
    assert world.left() == set()
    await world.upload(content)
    world.target.write_bytes(b"older")
    world.line.down = once(b"MARKER", lambda piece: piece.replace(b"MARKER", b"MARKET"))
    with pytest.raises(DataLoss):
        await world.client.download_file("", "k", world.target)
    assert world.target.read_bytes() == b"older"
    assert world.left() == set()


async def test_urls_that_expired_are_replaced(world: World) -> None:
    content, passed = os.urandom(20 * PART), list[int]()

    def pass_time(done: int, total: int) -> None:
        if not passed and done >= 4 * PART:
            passed.append(done)
            world.clock.ahead += timedelta(hours=2)

    await world.upload(content, progress=pass_time)
    assert passed
    assert await world.read() == content
    long = os.urandom(5 * RANGE)
    await world.upload(long, key="long", part_size_bytes=RANGE)
    passed.clear()
    await world.client.download_file("", "long", world.target, parallel=1, progress=pass_time)
    assert world.target.read_bytes() == long


async def test_who_stops_may_go_on_and_who_may_not_gives_up(world: World) -> None:
    content, begun = os.urandom(16 * PART), asyncio.Event()
    loop = asyncio.get_running_loop()
    for resume in (True, False):
        begun.clear()
        uploading = asyncio.create_task(
            world.upload(
                content,
                resume=resume,
                parallel=1,
                progress=lambda done, total: done >= 4 * PART and loop.call_soon_threadsafe(begun.set),
            )
        )
        await asyncio.wait_for(begun.wait(), 10)
        uploading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await uploading
        assert len(world.left()) == (1 if resume else 0) or uploading.done()
        if resume:
            await world.upload(content)
            assert await world.read() == content
            await world.client.delete_object("", "k")
    assert world.left() == set()


async def test_a_precondition_is_kept(world: World) -> None:
    await world.upload(b"first")
    for size in (10, 3 * PART):
        with pytest.raises(PreconditionFailed):
            await world.upload(os.urandom(size), if_none_match="*")
    assert await world.read() == b"first"
    assert world.left() == set()


async def test_a_disk_that_is_full_leaves_nothing(world: World) -> None:
    await world.upload(os.urandom(RANGE + 1), part_size_bytes=RANGE)
    ended, said = await world.run("download", world.target, largest_file=RANGE)
    assert (ended, said.partition(":")[0]) == (1, "OSError")
    assert str(world.target) in said
    assert not world.target.exists()
    assert world.left() == set()


async def test_without_a_way_to_the_store(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with line() as before:
        nowhere = before.address
    (tmp_path / "in").write_bytes(b"content")
    async with (
        running_app(overrides={"server.s3.public_url": f"http://{nowhere}"}) as running,
        AsyncPrismClient(SPACE, endpoint=running.grpc) as client,
    ):
        with pytest.raises(StoreUnreachable) as caught:
            await client.upload_file("", "k", tmp_path / "in")
        assert nowhere not in str(caught.value)
        await client.put_object("", "k", b"content")
        await client.download_file("", "k", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"content"
    assert [record.message for record in caplog.records if record.name == "prism_sdk"] == [
        "the store cannot be reached from here: reading through Prism instead of straight from the store"
    ]


async def test_no_signature_is_told(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await world.upload(os.urandom(3 * PART))
    await world.client.download_file("", "k", world.target)
    world.line.up = lambda piece: None
    hurried = AsyncPrismClient(SPACE, endpoint=world.running.grpc, timeouts=Timeouts(transfer_seconds=1))
    with pytest.raises(Unavailable, match="the connection to the store broke") as caught:
        await hurried.upload_file("", "other", world.source)
    await hurried.close()
    assert caught.value.__cause__ is None
    told = [record.getMessage() for record in caplog.records if not record.name.startswith("uvicorn")]  # the server's
    assert "X-Amz-Signature" not in "".join(told) + str(caught.value)


async def test_what_cannot_be_sent_in_parts_is_refused(world: World) -> None:
    os.mkfifo(world.folder / "pipe")
    with pytest.raises(TypeError, match="put_object"):
        await world.client.upload_file("", "k", iter([b""]))  # type: ignore[arg-type]  # what the test is about
    with pytest.raises(IsADirectoryError):
        await world.client.upload_file("", "k", world.folder)
    with (world.folder / "pipe").open("r+b", buffering=0) as pipe, pytest.raises(InvalidArgument, match="put_object"):
        await world.client.upload_file("", "k", pipe)
    with pytest.raises(InvalidArgument, match="parallel"):
        await world.upload(b"x", parallel=0)
    (world.folder / "pipe").unlink()
