"""A small world for tests of the services: memory catalog, memory stores, a clock that only tests move, no servers.

What is durable (catalog space, store contents) belongs to the world; `start` makes a fresh process over it, so that a
test can let one die and look at what the next one finds.
"""

import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from prometheus_client import CollectorRegistry

from prism import direct
from prism.access import Access
from prism.audit import MemoryAudit
from prism.blob import BlobStore
from prism.blob import driver as blob
from prism.blob.driver import Signed
from prism.blob.memory import MemoryDriver as MemoryBlobs
from prism.bus import Bus
from prism.bus.memory import MemoryDriver as MemoryBus
from prism.catalog.lives import PARTITION, LifeRow
from prism.catalog.rows import Condemned, ObjectRow, PromiseRow, VersionRow, decode, encode
from prism.catalog.usage import Counted, Counters, counted, counters
from prism.config import Config, load
from prism.continuation import Continuations
from prism.identifiers import version_ids
from prism.keys import Layout
from prism.meta import Meta, Txn, View, tuples
from prism.meta import driver as meta
from prism.meta.memory import MemoryDriver as MemoryCatalog
from prism.meta.memory import MemorySpace
from prism.model import (
    Bindable,
    ByteRange,
    Caller,
    CopyOptions,
    ObjectInfo,
    ObjectRef,
    PresignedURL,
    PutOptions,
    RangeSpec,
)
from prism.namespaces import Namespace, Namespaces, Tasks, rules_of
from prism.objects import ObjectStore
from prism.uploads import UPLOAD_PARAMETER, Uploads
from prism.workers.janitor import Janitor

START = datetime(2026, 11, 24, 12, tzinfo=UTC)
NAMESPACES = """
namespaces:
  - {name: things, backend: memory, bucket: things, allow_infinite_ttl: true, config: {default_ttl_seconds: 7776000}}
  - {name: kept, backend: memory, bucket: kept, versioning: true, allow_infinite_ttl: true, events: true}
  - {name: brief, backend: memory, bucket: brief, config: {default_ttl_seconds: 60}}
"""


class Clock:
    """The time of a world."""

    def __init__(self) -> None:
        self.at = START

    def __call__(self) -> datetime:
        return self.at

    def forward(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


async def pieces(content: bytes, size: int = 4) -> AsyncIterator[bytes]:
    """A body in small pieces."""
    for at in range(0, len(content), size):
        yield content[at : at + size]


def _same_meta(driver: meta.Driver) -> meta.Driver:
    return driver


def _same_blob(driver: blob.Driver) -> blob.Driver:
    return driver


class Remote:
    """A store as a network makes it: deletion ends open reads, and a write may land a while after its call."""

    def __init__(self, driver: MemoryBlobs) -> None:
        self._driver = driver
        self.capabilities = blob.Capabilities(copy=True, conditional_put=True, late_write_seconds=60.0)

    def __getattr__(self, name: str) -> object:
        return getattr(self._driver, name)


class Process:
    """One running Prism: its services and its janitor."""

    def __init__(
        self,
        world: "World",
        wrap_meta: Callable[[meta.Driver], meta.Driver] = _same_meta,
        wrap_blob: Callable[[blob.Driver], blob.Driver] = _same_blob,
    ) -> None:
        config = world.config
        self._world = world
        self.meta = Meta(wrap_meta(MemoryCatalog(world.space)))
        self.audit = MemoryAudit()
        self.tasks = Tasks()
        self.spaces = {
            space.name: self._namespace(world, space.name, wrap_blob(world.drivers[space.name]))
            for space in config.namespaces
        }
        self.namespaces = Namespaces(self.spaces.values())
        self.access = Access(config, CollectorRegistry(), self.audit, world.clock)
        self.objects = ObjectStore(self.namespaces, self.access, Continuations(b"k" * 32))
        self.uploads = Uploads(self.namespaces, self.access, lambda: "http://s3.example")
        self.caller = Caller(principal=self.access.anonymous(), request_id="request-1", api="test")
        self.bus = Bus(MemoryBus(now=world.clock))
        self.janitor = Janitor(self.namespaces, self.meta, self.bus, config.janitor, now=world.clock)

    def _namespace(self, world: "World", name: str, driver: blob.Driver) -> Namespace:
        config = next(space for space in world.config.namespaces if space.name == name)
        store = BlobStore(driver)
        return Namespace(
            config=config,
            rules=rules_of(config, world.config.limits, store),
            layout=Layout(config.bucket),
            store=store,
            meta=self.meta,
            limits=world.config.limits,
            now=world.clock,
            new_version_id=world.new_version_id,
            tasks=self.tasks,
        )

    async def put(
        self, key: str, content: bytes, *, ns: str = "things", bucket: str = "", **options: object
    ) -> ObjectInfo:
        wanted = PutOptions(**options)  # type: ignore[arg-type]  # a test's own keywords
        return await self.objects.put(self.caller, ObjectRef(ns, bucket, key), pieces(content), wanted)

    async def get(self, key: str, wanted: RangeSpec | None = None, *, ns: str = "things", bucket: str = "") -> bytes:
        opened = await self.objects.get(self.caller, ObjectRef(ns, bucket, key), wanted)
        return b"".join([chunk async for chunk in opened.chunks()])

    async def head(self, key: str, *, ns: str = "things", bucket: str = "") -> ObjectInfo:
        return await self.objects.head(self.caller, ObjectRef(ns, bucket, key))

    async def delete(self, key: str, *, ns: str = "things", bucket: str = "", precondition: object = None) -> bool:
        return await self.objects.delete(self.caller, ObjectRef(ns, bucket, key), precondition)  # type: ignore[arg-type]

    async def delete_folder(self, folder: str, *, ns: str = "things", bucket: str = "") -> None:
        await self.objects.delete_prefix(self.caller, ns, bucket, folder)

    async def copy(
        self, source: str, target: str, *, ns: str = "things", to: str = "", **options: object
    ) -> ObjectInfo:
        wanted = CopyOptions(**options)  # type: ignore[arg-type]  # a test's own keywords
        return await self.objects.copy(self.caller, ObjectRef(ns, "", source), ObjectRef(to or ns, "", target), wanted)

    async def list(self, prefix: str = "", *, ns: str = "things", bucket: str = "", **asked: object) -> list[str]:
        """Keys and common prefixes of all pages, as they come."""
        found: list[str] = []
        token = ""
        while True:
            page = await self.objects.list(self.caller, ns, bucket, prefix, token=token, **asked)  # type: ignore[arg-type]
            found += sorted([*(info.key for info in page.objects), *page.common_prefixes])
            token = page.next_token or ""
            if not token:
                return found

    async def presign_put(
        self, key: str, *, ns: str = "things", bucket: str = "", seconds: int = 600, **options: object
    ) -> str:
        """Make a promise and its URL; returns the upload id that the URL carries."""
        wanted = PutOptions(**options)  # type: ignore[arg-type]  # a test's own keywords
        ref, at = ObjectRef(ns, bucket, key), self._world.clock()
        url = await self.uploads.presign(self.caller, ref, "PUT", timedelta(seconds=seconds), options=wanted)
        query = dict(part.split("=", 1) for part in url.url.partition("?")[2].split("&"))
        self._world.made[query[UPLOAD_PARAMETER]] = at
        return query[UPLOAD_PARAMETER]

    async def presign(
        self, key: str, method: str = "PUT", *, ns: str = "things", seconds: int = 600, **options: object
    ) -> PresignedURL:
        """A URL as clients get it."""
        wanted = PutOptions(**options)  # type: ignore[arg-type]  # a test's own keywords
        ref = ObjectRef(ns, "", key)
        return await self.uploads.presign(self.caller, ref, method, timedelta(seconds=seconds), options=wanted)

    async def declare(
        self, key: str, *, ns: str = "things", seconds: int = 600, **options: object
    ) -> tuple[PromiseRow, Signed]:
        """A declared upload straight to the store: its promise and its URL."""
        space, now = self.spaces[ns], self._world.clock()
        wanted = PutOptions(**options)  # type: ignore[arg-type]  # a test's own keywords
        upload = await direct.promise(space, space.bucket(""), key, now + timedelta(seconds=seconds), wanted)
        return upload, await direct.sign(space, upload, now, seconds)

    async def confirm(self, upload: PromiseRow, *, ns: str = "things") -> ObjectRow:
        """The client says that its bytes are there."""
        return await direct.confirm(self.spaces[ns], upload.bucket, upload.key, upload.version_id)

    async def keep(
        self, key: str, upload_id: str, content: bytes, *, ns: str = "things", bucket: str = ""
    ) -> ObjectInfo:
        """The body of a presigned PUT arrives at Prism's S3 API."""
        ref = ObjectRef(ns, bucket, key)
        return await self.uploads.keep(self.caller, ref, upload_id, pieces(content), PutOptions())

    async def rounds(self, count: int = 1) -> None:
        for _ in range(count):
            await self.janitor.run_once()


class World:
    """What outlives processes, and looks at it from outside."""

    def __init__(self, config: Config, binds: frozenset[Bindable] | None = None) -> None:
        """`binds`: the store of `things` signs URLs and binds this to them; None: it does not sign."""
        self.config = config
        self.clock = Clock()
        self.space = MemorySpace()
        self.blobs: Mapping[str, MemoryBlobs] = {space.name: MemoryBlobs(now=self.clock) for space in config.namespaces}
        self.drivers: Mapping[str, blob.Driver] = {**self.blobs, "things": Remote(self.blobs["things"])}
        if binds is not None:
            signing = MemoryBlobs(now=self.clock, signs=True, binds=binds)
            self.blobs = {**self.blobs, "things": signing}
            self.drivers = dict(self.blobs)
        self.new_version_id = version_ids(self.clock)
        self.made: dict[str, datetime] = {}
        """When each upload's URL was handed out, by its id."""
        self._look = Meta(MemoryCatalog(self.space))

    def start(self, **wraps: object) -> Process:
        """A fresh process over what is there."""
        return Process(self, **wraps)  # type: ignore[arg-type]  # wrap_meta, wrap_blob

    async def lived(self) -> None:
        """All version ids so far were given out long ago, and the catalog says that it knows all about them."""
        ids = self.new_version_id

        async def body(tx: Txn) -> None:
            tx.set((PARTITION, ids.process), encode(LifeRow(first=0, proven=ids.last, at=self.clock())))

        await self._look.transact(PARTITION, body)

    def physical(self, key: str, upload_id: str, ns: str = "things", bucket: str = "") -> str:
        """Where the bytes of an upload are promised to land."""
        own = next(space.bucket for space in self.config.namespaces if space.name == ns)
        return Layout(own).physical(bucket or own, key, upload_id.removeprefix("b-"))

    async def send(self, url: PresignedURL | Signed, content: bytes, ns: str = "things", **headers: str) -> int:
        """A client's PUT by a URL of the store; the status it hears. Headers of its own replace those it was told."""
        given = {**url.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return (await self.blobs[ns].receive("PUT", url.url, given, content)).status

    async def land(self, physical: str, content: bytes, *, ns: str = "things") -> bool:
        """A client's PUT reaches the store itself, bound to create only; False: 412."""
        try:
            await self.blobs[ns].put(physical, pieces(content), blob.WriteOptions(content_type="image/png"))
        except blob.AlreadyExists:
            return False
        return True

    async def stored(self, ns: str = "things") -> dict[str, bytes]:
        """Everything that lies in a store, by physical key."""
        found = {}
        for entry in await self.blobs[ns].list("", "", 100_000):
            opened = await self.blobs[ns].get(entry.key, None, None)
            found[entry.key] = b"".join([chunk async for chunk in opened.body])
        return found

    async def rows(self, ns: str, kind: str) -> list[tuple[tuple[object, ...], bytes]]:
        """All rows of a kind, as the catalog holds them."""

        async def body(view: View) -> list[tuple[tuple[object, ...], bytes]]:
            start, end = tuples.span((ns, kind))
            return [(entry.key, entry.value) for entry in await view.range(start, end, limit=10_000)]

        return await self._look.read(body)

    async def referenced(self, ns: str = "things") -> dict[str, ObjectRow]:
        """Rows that hold bytes, kept versions included, by physical key."""
        current = [decode(ObjectRow, value) for _, value in await self.rows(ns, "o")]
        kept = [decode(VersionRow, value).row for _, value in await self.rows(ns, "v")]
        return {row.physical_key: row for row in [*current, *kept] if row is not None}

    async def promised(self, ns: str = "things") -> dict[str, PromiseRow]:
        """Promises, by physical key."""
        rows = [*await self.rows(ns, "u"), *await self.rows(ns, "w")]
        return {row.physical_key: row for row in (decode(PromiseRow, value) for _, value in rows)}

    async def condemned(self, ns: str = "things") -> dict[str, Condemned]:
        """Garbage rows, by physical key."""
        return {str(key[-1]): decode(Condemned, value) for key, value in await self.rows(ns, "g")}

    async def counters(self, ns: str = "things") -> Counters:
        async def body(view: View) -> Counters:
            return await counters(view, ns)

        return await self._look.read(body)

    async def counted(self, ns: str = "things") -> Counted:
        async def body(view: View) -> Counted:
            return await counted(view, ns)

        return await self._look.read(body)

    async def check(self, ns: str = "things") -> None:
        """What must hold at any instant: every byte is named once, every row has its bytes, counters count."""
        stored, referenced = await self.stored(ns), await self.referenced(ns)
        promised, condemned = await self.promised(ns), await self.condemned(ns)
        for key in stored:
            names = [key in referenced, key in promised, key in condemned]
            assert sum(names) == 1, f"{key} is named {names} (referenced, promised, condemned)"
        for key, row in referenced.items():
            assert key in stored, f"{key} is referenced and its bytes are gone"
            assert len(stored[key]) == row.size_bytes
        found, truth = await self.counters(ns), await self.counted(ns)
        assert (found.objects, found.size_bytes) == (truth.objects, truth.size_bytes)
        assert (found.uploads, found.garbage) == (len(promised), len(condemned))

    async def rest(self, process: Process, ns: str = "things") -> None:
        """Let everything come to rest, and check that nothing is left over."""
        for _ in range(4):
            await process.rounds(2)
            self.clock.forward(4 * 3600)
        await process.rounds(2)
        await self.check(ns)
        assert not await self.promised(ns)
        assert not await self.condemned(ns)
        assert set(await self.stored(ns)) == set(await self.referenced(ns))
        for kind in ("k", "d", "t", "x", "q"):
            assert not await self.rows(ns, kind), f"rows of kind {kind} are left at rest"


def make_world(extra: str = "") -> World:
    """A world of the three namespaces above."""
    return World(configured(NAMESPACES + extra))


def configured(text: str) -> Config:
    """The configuration in a piece of YAML."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "prism.yaml"
        path.write_text(text)
        return load(path, {}, data_dir=Path("/nowhere"), overrides={"meta.url": "memory:"})


__all__ = ["START", "ByteRange", "Clock", "Process", "World", "configured", "make_world", "pieces"]
