"""For tests of HTTP: the application on a real socket over memory stores, and a client that writes raw bytes."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import msgspec
import uvicorn
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from prism.access import Access, Policy
from prism.audit import MemoryAudit
from prism.blob import BlobStore
from prism.blob.memory import MemoryDriver as MemoryBlobs
from prism.config import Config, load
from prism.continuation import Continuations
from prism.errors import PrismError
from prism.identifiers import version_ids
from prism.keys import Layout
from prism.meta import Meta
from prism.meta.memory import MemoryDriver as MemoryCatalog
from prism.meta.memory import MemorySpace
from prism.namespaces import Namespace, Namespaces, Tasks, rules_of
from prism.objects import ObjectStore
from prism.server.http import http_app
from prism.server.http_exchange import Reply, refused
from prism.server.services import Services
from prism.serving.protocol import bounded_protocol
from prism.sessions import Sessions
from prism.testing.clocks import StillClock
from prism.uploads import Uploads

OBJECTS = "/v1/namespaces/things/objects"
_NAMESPACES = """
namespaces:
  - {name: things, backend: memory, bucket: things, allow_infinite_ttl: true, default_ttl_seconds: 7776000}
  - {name: others, backend: memory, bucket: others}
"""


Wrap = Callable[[Any], Any]


def as_it_is(driver: Any) -> Any:
    """No wrapping."""
    return driver


class World:
    """Services over memory, composed for one test."""

    def __init__(self, config: Config, policy: Policy | None = None, wrap_blob: Wrap = as_it_is) -> None:
        self.config = config
        self.clock = StillClock()
        self.audit = MemoryAudit()
        self.unready: dict[str, str] = {}
        registry = CollectorRegistry()
        meta, tasks, new_id = Meta(MemoryCatalog(MemorySpace())), Tasks(), version_ids(self.clock)
        stores = {space.name: BlobStore(wrap_blob(MemoryBlobs(now=self.clock))) for space in config.namespaces}
        self.namespaces = Namespaces(
            Namespace(
                config=space,
                rules=rules_of(space, config.limits, stores[space.name]),
                layout=Layout(space.bucket),
                store=stores[space.name],
                meta=meta,
                limits=config.limits,
                now=self.clock,
                new_version_id=new_id,
                tasks=tasks,
            )
            for space in config.namespaces
        )
        access = Access(config, registry, self.audit, self.clock, policy=policy)

        async def ready() -> Mapping[str, str]:
            return self.unready

        uploads = Uploads(self.namespaces, access, lambda: "http://s3.example")
        self.services = Services(
            config=config,
            access=access,
            objects=ObjectStore(self.namespaces, access, Continuations(b"k" * 32)),
            uploads=uploads,
            sessions=Sessions(self.namespaces, access, uploads),
            registry=registry,
            ready=ready,
            now=self.clock,
            new_request_id=lambda: "made-by-the-server",
        )


def configured(tmp_path: Path, **overrides: Any) -> Config:
    """Two memory namespaces, with these settings (`limits__idle_seconds=1`)."""
    path = tmp_path / "prism.yaml"
    path.write_text(_NAMESPACES)
    given = {name.replace("__", "."): str(value) for name, value in overrides.items()}
    return load(path, {}, data_dir=tmp_path / "data", overrides=given)


class Served(World):
    """A world whose HTTP API listens."""

    port: int
    connections: set[Any]
    client: httpx.AsyncClient

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def put(self, key: str, content: bytes, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await self.client.put(f"{OBJECTS}/{key}", content=content, headers=named)
        assert answer.status_code == 200, answer.text
        return answer


@contextlib.asynccontextmanager
async def served(config: Config, policy: Policy | None = None, wrap_blob: Wrap = as_it_is) -> AsyncIterator[Served]:
    """The HTTP API on a free port."""
    world = Served(config, policy, wrap_blob)
    world.connections = set()
    async with listening(http_app(world.services), config, world.connections) as port:
        world.port = port
        async with httpx.AsyncClient(base_url=world.url, timeout=20) as world.client:
            yield world


@contextlib.asynccontextmanager
async def listening(
    app: ASGIApp,
    config: Config,
    connections: set[Any] | None = None,
    refused: Callable[[PrismError, str], Reply] = refused,
) -> AsyncIterator[int]:
    """An application behind the protocol that serves it in earnest; `connections` holds those that are open."""
    settings = uvicorn.Config(app, lifespan="off", ws="none", access_log=False, log_config=None)
    settings.load()
    state = ServerState()
    state.connections = set() if connections is None else connections
    protocol = bounded_protocol(config.limits, refused)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: protocol(config=settings, server_state=state, app_state={}), "127.0.0.1", 0
    )
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for connection in list(state.connections):
            connection.transport.abort()
        for task in state.tasks:
            task.cancel()
        await asyncio.gather(*state.tasks, return_exceptions=True)


class Answer(msgspec.Struct):
    """What came back on a raw connection."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["error"]["code"])


class Raw:
    """A connection on which every byte is the test's own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
        await self.writer.drain()

    async def answer(self, *, bodiless: bool = False, seconds: float = 10) -> Answer:
        """The next whole answer."""
        async with asyncio.timeout(seconds):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.rstrip().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            size = 0 if bodiless else int(headers.get("content-length", 0))
            return Answer(int(first.split()[1]), headers, await self.reader.readexactly(size))

    async def closed(self, seconds: float = 10) -> bytes:
        """What still comes until the server ends the connection."""
        async with asyncio.timeout(seconds):
            try:
                return await self.reader.read(1 << 26)
            except ConnectionResetError:
                return b""


@contextlib.asynccontextmanager
async def raw(port: int) -> AsyncIterator[Raw]:
    """Connect."""
    connection = Raw(*await asyncio.open_connection("127.0.0.1", port))
    try:
        yield connection
    finally:
        connection.writer.transport.abort()


async def asked(port: int, target: str | bytes, method: str = "GET", *headers: bytes, body: bytes = b"") -> Answer:
    """One request with the target and the header lines as they stand."""
    path = target.encode("latin-1") if isinstance(target, str) else target
    lines = [b"%s %s HTTP/1.1" % (method.encode(), path), b"Host: localhost", *headers]
    if body:
        lines.append(b"Content-Length: %d" % len(body))
    async with raw(port) as connection:
        await connection.send(b"\r\n".join([*lines, b"", body]))
        return await connection.answer(bodiless=method == "HEAD")


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Poll until it holds."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)
