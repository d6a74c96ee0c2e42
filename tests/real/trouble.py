"""For tests of stores in trouble: a Prism with two namespaces, `shaky` over a store that is broken on purpose and
`steady` over one that is not, asked as its users do; and what must hold after every failure."""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import boto3
import httpx
import msgspec
from botocore.config import Config as Settings
from stores import config_on

from prism.app import Wraps
from prism.config import Config, RemoteStore
from prism.testing.clocks import ShiftedClock, ShiftedStore
from prism.testing.running import Running, running_app

__all__ = ["MIB", "Answer", "World", "held", "s3_client", "world_of", "world_over"]

T = TypeVar("T")
MIB = 2**20
_SOON_SECONDS = 20.0


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What Prism's HTTP API said, and after how long."""

    status: int
    code: str
    message: str
    holds: str
    """SHA-256 of the body; see `held`."""
    seconds: float
    headers: Mapping[str, str]


def held(content: bytes) -> str:
    """Contents are compared by this: a difference between two megabytes is nothing to read."""
    return hashlib.sha256(content).hexdigest()


class World:
    """One Prism, and a client of its HTTP API."""

    def __init__(self, running: Running, api: httpx.AsyncClient, clock: ShiftedClock) -> None:
        self.running = running
        self.api = api
        self.clock = clock

    async def put(self, space: str, key: str, content: bytes | AsyncIterator[bytes]) -> Answer:
        """Store an object."""
        return await self._ask("PUT", f"/v1/namespaces/{space}/objects/{key}", content=content)

    async def get(self, space: str, key: str) -> Answer:
        """Read it whole."""
        return await self._ask("GET", f"/v1/namespaces/{space}/objects/{key}")

    async def delete(self, space: str, key: str) -> Answer:
        """Remove it."""
        return await self._ask("DELETE", f"/v1/namespaces/{space}/objects/{key}")

    async def keys(self, space: str) -> list[str]:
        """What a listing shows."""
        answer = await self.api.get(f"/v1/namespaces/{space}/objects")
        assert answer.status_code == 200, answer.text
        return [one["key"] for one in answer.json()["objects"]]

    async def _ask(self, method: str, path: str, **sent: Any) -> Answer:
        start = time.monotonic()
        try:
            answer = await self.api.request(method, path, **sent)
        except httpx.RemoteProtocolError:  # a body that was cut off: never taken for whole
            return Answer(status=0, code="CUT", message="", holds="", seconds=time.monotonic() - start, headers={})
        told: Any = {} if answer.is_success or not answer.content else answer.json()["error"]
        return Answer(
            status=answer.status_code,
            code=told.get("code", ""),
            message=told.get("message", ""),
            holds=held(answer.content),
            seconds=time.monotonic() - start,
            headers=answer.headers,
        )

    async def not_ready(self) -> Mapping[str, str]:
        """What `/readyz` names; the process lives in any case."""
        assert (await self.api.get("/healthz")).status_code == 200
        answer = await self.api.get("/readyz")
        found: Mapping[str, str] = answer.json()["not_ready"]
        assert (answer.status_code == 200) == (not found)
        return found

    async def until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        """Look again until it holds."""
        async with asyncio.timeout(_SOON_SECONDS):
            while not await holds():
                await asyncio.sleep(0.1)

    async def tells_trouble(self, trouble: bool = True) -> None:
        """Readiness comes to say so of `shaky`, and of it alone."""

        async def said() -> bool:
            return ("store of shaky" in await self.not_ready()) is trouble

        await self.until(said)
        assert "store of steady" not in await self.not_ready()

    async def works(self, space: str = "shaky") -> None:
        """Prism serves it, without having been started again."""
        assert (await self.put(space, "works", b"works")).status in {200, 201}
        assert (await self.get(space, "works")).holds == held(b"works")
        assert (await self.delete(space, "works")).status in {200, 204}

    async def clean(self, space: str = "shaky") -> None:
        """When all times are over, the store holds what is referenced and nothing else."""
        for _ in range(6):
            self.clock.ahead += timedelta(hours=6)
            report = await self.running.app.janitor.run_once()
            assert not report.failed, report
        found = self.running.app.namespaces.get(space)
        prefix = found.layout.owner.removesuffix("~owner")
        stored = [entry.key.removeprefix(prefix) for entry in await found.store.list(prefix, "", 1000)]
        assert sorted(key.rpartition("~")[0] for key in stored) == sorted(["", *await self.keys(space)]), stored


@contextlib.asynccontextmanager
async def world_over(stores: Mapping[str, RemoteStore], folder: Path, **settings: Any) -> AsyncIterator[World]:
    """A Prism over these stores, with a client whose patience is longer than what Prism may take."""
    async with world_of(config_on(stores, folder, **settings)) as world:
        yield world


@contextlib.asynccontextmanager
async def world_of(config: Config) -> AsyncIterator[World]:
    """As `world_over`, of a whole configuration."""
    clock = ShiftedClock()
    wraps = Wraps(blob=lambda driver: ShiftedStore(driver, clock))
    async with (
        running_app(config=config, now=clock, wraps=wraps) as running,
        httpx.AsyncClient(base_url=running.http, timeout=120) as api,
    ):
        yield World(running, api, clock)


def s3_client(running: Running, space: str) -> Any:
    """Amazon's own library at Prism's S3 endpoint; it repeats nothing."""
    settings = Settings(
        s3={"addressing_style": "path"}, retries={"total_max_attempts": 1, "mode": "standard"}, read_timeout=120
    )
    session = boto3.session.Session(space, f"prism-local-{space}", region_name="us-east-1")
    return session.client("s3", endpoint_url=running.s3, config=settings)
