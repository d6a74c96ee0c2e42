"""Files that the SDK moves straight to and from real stores, and what it makes of lines that fail on the way."""

import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from prism_sdk import AsyncPrismClient, PermissionDenied, Timeouts, Unavailable
from stores import KINDS, config_on, real_store

from prism.testing.clocks import ShiftedClock
from prism.testing.running import Running, running_app
from prism.testing.services import service
from prism.testing.toxiproxy import Proxy, proxy_before
from prism.testing.transferring import run

MIB = 1 << 20
PART = 5 * MIB
LARGE = os.urandom(2 * PART + 12345)


class World:
    """A Prism over one real store, and a client of it."""

    def __init__(
        self, kind: str, running: Running, clock: ShiftedClock, client: AsyncPrismClient, folder: Path
    ) -> None:
        self.kind, self.running, self.clock, self.client, self.folder = kind, running, clock, client, folder
        self.source, self.target = folder / "source.bin", folder / "target"

    async def upload(self, content: bytes, **options: Any) -> Any:
        if not self.source.exists() or self.source.read_bytes() != content:
            self.source.write_bytes(content)
        return await self.client.upload_file("", "k", self.source, **{"part_size_bytes": PART, **options})

    async def download(self, **options: Any) -> bytes:
        await self.client.download_file("", "k", self.target, **options)
        return self.target.read_bytes()

    async def run(self, action: str, path: Path, die_at: int = 0, part_bytes: int = PART) -> tuple[int, str]:
        return await run(self.running.grpc, self.kind, action, "k", path, die_at, part_bytes=part_bytes)

    async def moved_by_prism(self) -> int:
        """How many puts and gets of objects passed through Prism itself."""
        return sum(record.action in {"put", "get"} for record in self.running.audit.records)

    def left(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()} - {"source.bin", "target", "data", "prism.json"}


async def world_on(stack: AsyncExitStack, kind: str, folder: Path, **settings: Any) -> World:
    clock = ShiftedClock()
    store = await stack.enter_async_context(real_store(kind, **settings))
    config = config_on({kind: store}, folder)
    running = await stack.enter_async_context(running_app(data_dir=folder / "data", config=config, now=clock))
    timeouts = Timeouts(stall_seconds=5)
    client = await stack.enter_async_context(AsyncPrismClient(kind, endpoint=running.grpc, timeouts=timeouts))
    return World(kind, running, clock, client, folder)


@pytest.fixture(params=KINDS)
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        yield await world_on(stack, request.param, tmp_path)


async def test_files_of_every_size_go_and_come(world: World) -> None:
    for content in (b"", b"small", LARGE[:PART], LARGE):
        seen: list[int] = []
        result = await world.upload(content, ttl_seconds=600, progress=lambda done, total, seen=seen: seen.append(done))
        assert (result.size_bytes, seen[-1:]) == (len(content), [len(content)] if content else [])
        assert await world.download() == content
    assert world.left() == set()
    assert await world.moved_by_prism() == 0


async def test_transfers_go_on_after_a_kill(world: World) -> None:
    content = os.urandom(6 * PART)
    world.source.write_bytes(content)
    ended, said = await world.run("upload", world.source, die_at=5 * PART + MIB)
    assert ended == -signal.SIGKILL, said
    seen: list[int] = []
    await world.upload(content, progress=lambda done, total: seen.append(done))
    assert seen[0] >= PART
    ended, said = await world.run("download", world.target, die_at=20 * MIB)
    assert ended == -signal.SIGKILL, said
    assert not world.target.exists()
    assert await world.download() == content
    assert world.left() == set()


async def test_urls_that_expired_are_replaced(world: World) -> None:
    world.clock.ahead = -timedelta(seconds=3598)
    waited: list[int] = []

    def wait(done: int, total: int) -> None:
        if not waited:
            waited.append(done)
            time.sleep(2.5)  # the URLs that were signed so far end meanwhile; stores ask the real time
            world.clock.ahead = timedelta(0)

    await world.upload(LARGE, parallel=1, progress=wait)
    assert waited
    assert await world.download() == LARGE


async def test_refused_urls_end_in_an_error_and_the_upload_can_go_on(world: World) -> None:
    world.clock.ahead = -timedelta(seconds=3605)
    with pytest.raises(PermissionDenied, match="signed URL"):
        await world.upload(LARGE)
    assert len(world.left()) == 1
    world.clock.ahead = timedelta(0)
    await world.upload(LARGE)
    assert await world.download() == LARGE
    assert world.left() == set()


async def test_little_memory_is_needed(world: World) -> None:
    with world.source.open("wb") as file:
        for _ in range(256):
            file.write(os.urandom(MIB))
    for action, path in (("upload", world.source), ("download", world.target)):
        ended, said = await world.run(action, path, part_bytes=0)
        assert ended == 0, said
        assert int(said) < 100 * 1024, f"{action}: {said} KiB"
    assert world.target.stat().st_size == 256 * MIB


@pytest.fixture
async def line(tmp_path: Path) -> AsyncIterator[tuple[World, Proxy]]:
    """A MinIO to which only clients go by a line that fails."""
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(proxy_before(service("minio").address))
        yield await world_on(stack, "minio", tmp_path, public_endpoint=proxy.url), proxy


async def test_a_line_that_breaks_costs_a_repeat(line: tuple[World, Proxy]) -> None:
    world, proxy = line
    toxic = await proxy.limit_data(3 * MIB, direction="upstream")
    with pytest.raises(Unavailable):
        await world.upload(LARGE, parallel=1)
    assert len(world.left()) == 1
    await proxy.heal(toxic)
    await world.upload(LARGE)
    await proxy.limit_data(6 * MIB)
    assert await world.download(parallel=2) == LARGE, "each connection brings some of it"
    assert world.left() == set()


async def test_no_url_is_shown_when_nobody_answers(line: tuple[World, Proxy]) -> None:
    world, proxy = line
    await proxy.disable()
    with pytest.raises(Unavailable) as caught:
        await world.upload(LARGE)
    assert urlsplit(proxy.url).netloc not in str(caught.value)
    await proxy.enable()
    await world.upload(LARGE)
    assert await world.download() == LARGE
