"""Thousands of calls to a store that fails, by the real program: memory, threads and descriptors stay as they were."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
from moody_front import Front, Mood, front_before
from stores import config_on, real_store
from trouble import MIB

from prism.testing.services import service

FAILING = Mood(status=500, code="InternalError")
SLACK_BYTES = 24 * MIB
READY = b"prism ready "


class Program(msgspec.Struct, frozen=True):
    """A `prism serve` in a process of its own."""

    pid: int
    http: str

    def resident_bytes(self) -> int:
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def threads(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/task").iterdir()))

    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))


@contextlib.asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Program]:
    command = (sys.executable, "-m", "prism", "serve", "--config", str(folder / "prism.json"))
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command, "--data-dir", str(folder / "data"), stdout=asyncio.subprocess.PIPE, stderr=log
        )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            line = await process.stdout.readline()
        assert line.startswith(READY), (folder / "log").read_text()
        yield Program(process.pid, json.loads(line.removeprefix(READY))["http"])
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 30) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@contextlib.asynccontextmanager
async def over(folder: Path) -> AsyncIterator[tuple[Program, Front]]:
    async with real_store("minio") as store, front_before(service("minio").address) as front:
        shaky = msgspec.structs.replace(store, endpoint=front.url, request_seconds=2.0)
        ports = {name: {"address": "127.0.0.1:0"} for name in ("grpc", "http", "s3")}
        config_on({"shaky": shaky}, folder, server=ports, janitor={"interval_seconds": 1})
        async with serving(folder) as program:
            yield program, front


async def failing(api: httpx.AsyncClient, count: int) -> None:
    """So many calls of every size, some at once: all are told that the store is down."""
    slots = asyncio.Semaphore(16)

    async def one(number: int) -> int:
        async with slots:
            size = (10, 10, 10, 100_000, 9 * MIB)[number % 5] if number % 50 == 4 else 1000
            path = f"/v1/namespaces/shaky/objects/k{number}"
            put = await api.put(path, content=bytes(size))
            got = await api.get("/v1/namespaces/shaky/objects/before")
            return 503 if (put.status_code, got.status_code) == (503, 503) else 0

    assert set(await asyncio.gather(*map(one, range(count)))) == {503}


async def test_what_a_failing_store_costs_is_bounded(tmp_path: Path) -> None:
    async with over(tmp_path) as (program, front), httpx.AsyncClient(base_url=program.http, timeout=60) as api:
        assert (await api.put("/v1/namespaces/shaky/objects/before", content=bytes(9 * MIB))).is_success
        front.turns(FAILING)
        await failing(api, 300)
        before = (program.resident_bytes(), program.threads(), program.descriptors())
        for _ in range(3):
            await failing(api, 300)
        after = (program.resident_bytes(), program.threads(), program.descriptors())
        assert after[0] < before[0] + SLACK_BYTES, (before, after)
        assert after[1] <= before[1] + 4
        assert after[2] <= before[2] + 8
        front.turns(None)
        assert (await api.get("/v1/namespaces/shaky/objects/before")).status_code == 200
