"""The composition root: from a configuration to services over opened ports. The only room that knows all the others.

`open_app` opens the catalog, the stores and the bus, makes sure that the stores are this deployment's own, and builds
what servers and workers are handed. On leaving, work that was begun runs to its end (bounded), then everything is
closed in reverse. Nothing listens here and no loop runs here; `serving` does that.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

import msgspec
import structlog
from prometheus_client import CollectorRegistry

from .abilities import recall
from .access import Access
from .audit import AuditSink, FileAudit
from .blob import BlobStore, StoreMetrics, open_blob
from .blob.driver import Driver as BlobDriver
from .bus import Bus, open_bus
from .bus.driver import Driver as BusDriver
from .claims import claimed
from .config import Config
from .continuation import Continuations
from .deployment import Deployment, identify, is_mine
from .errors import ErrorCode, PrismError
from .identifiers import new_request_id, utc_now, version_ids
from .keys import Layout
from .life import Life
from .meta import Meta, open_meta
from .meta.driver import Driver as MetaDriver
from .namespaces import Namespace, Namespaces, Tasks, rules_of
from .objects import ObjectStore
from .readiness import Look, Readiness
from .server.services import Services
from .sessions import Sessions
from .uploads import Uploads
from .workers.janitor import Janitor

__all__ = ["App", "Wraps", "open_app"]

D = TypeVar("D")


def _as_it_is(driver: D) -> D:
    return driver


class Wraps(msgspec.Struct, frozen=True, kw_only=True):
    """What is put round each driver below its front door: faulty or shifted variants, for tests."""

    meta: Callable[[MetaDriver], MetaDriver] = _as_it_is
    blob: Callable[[BlobDriver], BlobDriver] = _as_it_is
    bus: Callable[[BusDriver], BusDriver] = _as_it_is


class PublicURL:
    """Where clients reach the S3 endpoint: as configured, or else where this process listens."""

    def __init__(self, config: Config) -> None:
        endpoint = config.server.s3
        scheme = "https" if config.server.tls else "http"
        self._fixed = endpoint.public_url is not None
        self._url = endpoint.public_url or f"{scheme}://{endpoint.address}"

    def __call__(self) -> str:
        return self._url

    def listens_at(self, url: str) -> None:
        """The endpoint is served here, on a port that may have been picked only now."""
        if not self._fixed:
            self._url = url


class App(msgspec.Struct, frozen=True, kw_only=True):
    """One process's Prism, opened: `services` for servers, `janitor` for the background, the ports for tools."""

    config: Config
    services: Services
    namespaces: Namespaces
    meta: Meta
    bus: Bus
    janitor: Janitor
    registry: CollectorRegistry
    readiness: Readiness
    deployment: Deployment
    s3_url: PublicURL


@contextlib.asynccontextmanager
async def open_app(
    config: Config,
    *,
    now: Callable[[], datetime] = utc_now,
    new_request_id: Callable[[], str] = new_request_id,
    registry: CollectorRegistry | None = None,
    audit: AuditSink | None = None,
    wraps: Wraps | None = None,
    claims: bool = True,
) -> AsyncIterator[App]:
    """Open everything that `config` names and give it, composed; on leaving, finish what was begun and close.

    Without `claims` nobody looks at whose the stores are: for the rebuild, which looks itself. Errors: INVALID_ARGUMENT
    (a folder cannot be written), SCHEMA_MISMATCH, PERMISSION_DENIED (a store is another's), CATALOG_DOWN, STORE_DOWN
    (a local store; a remote one is claimed when it can be reached), UNIMPLEMENTED for drivers that do not exist yet.
    """
    registry, wraps = registry or CollectorRegistry(), wraps or Wraps()
    async with contextlib.AsyncExitStack() as stack:
        _make_folder(config)
        sink = audit or FileAudit(config.audit, registry)
        stack.callback(sink.close)
        meta = await open_meta(config.meta.url, wrap=wraps.meta)
        stack.push_async_callback(meta.close)
        deployment = await identify(meta, now())
        bus = await open_bus(config.bus.url, meta, now=now, wrap=wraps.bus)
        stack.push_async_callback(bus.close)
        tasks, metrics, new_id = Tasks(), StoreMetrics(registry), version_ids(now)
        opened: list[Namespace] = []
        stores: list[BlobStore] = []
        stack.push_async_callback(_close, stores)
        for space in config.namespaces:
            found = await recall(meta, space.name, space.store)
            store = await open_blob(space.store, name=space.name, metrics=metrics, wrap=wraps.blob, found=found)
            stores.append(store)
            opened.append(
                Namespace(
                    config=space,
                    rules=rules_of(space, config.limits, store),
                    layout=Layout(space.bucket, getattr(space.store, "prefix", "")),
                    store=store,
                    meta=meta,
                    limits=config.limits,
                    now=now,
                    new_version_id=new_id,
                    tasks=tasks,
                )
            )
        if claims:
            opened = await stack.enter_async_context(claimed(opened, deployment))
        await stack.enter_async_context(_living(Life(meta, new_id, now), tasks, config.server.shutdown_seconds))
        yield _compose(config, Namespaces(opened), meta, bus, deployment, registry, sink, now, new_request_id)


async def _close(stores: Sequence[BlobStore]) -> None:
    """All at once: each that is silent takes a few seconds."""
    await asyncio.gather(*(store.close() for store in stores))


def _make_folder(config: Config) -> None:
    try:
        config.data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=config.data_dir):
            return
    except OSError as error:
        why = f"data_dir: {str(config.data_dir)!r} cannot be written: {error.strerror}"
        raise PrismError(ErrorCode.INVALID_ARGUMENT, why, context={"key": "data_dir"}) from error


def _compose(
    config: Config,
    namespaces: Namespaces,
    meta: Meta,
    bus: Bus,
    deployment: Deployment,
    registry: CollectorRegistry,
    audit: AuditSink,
    now: Callable[[], datetime],
    new_request_id: Callable[[], str],
) -> App:
    access = Access(config, registry, audit, now)
    continuations = Continuations(bytes.fromhex(deployment.continuation_key))
    s3_url = PublicURL(config)
    retention = timedelta(hours=config.bus.retention_hours)

    async def is_ours(space: Namespace) -> bool:
        return await is_mine(space.store, space.layout.owner, deployment, space.name)

    janitor = Janitor(
        namespaces, meta, bus, config.janitor, now=now, registry=registry, retention=retention, is_ours=is_ours
    )
    readiness = Readiness(dict(_looks(namespaces, meta, audit, janitor, deployment)))
    uploads = Uploads(namespaces, access, s3_url)
    services = Services(
        config=config,
        access=access,
        objects=ObjectStore(namespaces, access, continuations),
        uploads=uploads,
        sessions=Sessions(namespaces, access, uploads),
        registry=registry,
        ready=readiness,
        now=now,
        new_request_id=new_request_id,
    )
    return App(
        config=config,
        services=services,
        namespaces=namespaces,
        meta=meta,
        bus=bus,
        janitor=janitor,
        registry=registry,
        readiness=readiness,
        deployment=deployment,
        s3_url=s3_url,
    )


def _looks(
    namespaces: Namespaces, meta: Meta, audit: AuditSink, janitor: Janitor, deployment: Deployment
) -> Iterator[tuple[str, Look]]:
    """What readiness looks at."""

    async def catalog() -> str:
        await identify(meta, utc_now())
        return ""

    async def record() -> str:
        return audit.failing

    yield "catalog", catalog
    yield "audit", record
    for space in namespaces:
        yield f"store of {space.name}", _store_look(space, deployment)
        yield f"janitor of {space.name}", _janitor_look(janitor, space.name)


def _janitor_look(janitor: Janitor, namespace: str) -> Look:
    async def look() -> str:
        return janitor.trouble().get(namespace, "")

    return look


def _store_look(space: Namespace, deployment: Deployment) -> Look:
    async def look() -> str:
        mine = await is_mine(space.store, space.layout.owner, deployment, space.name)
        return "" if mine else "its owner marker is gone, or names somebody else"

    return look


@contextlib.asynccontextmanager
async def _living(life: Life, tasks: Tasks, longest_seconds: float) -> AsyncIterator[None]:
    """The process's record of the ids it gives out, open while it works. What was begun runs to its end, and only then
    the record is closed; a store or catalog that hangs is not waited for without end."""
    await life.begin()
    beating = asyncio.create_task(life.run())
    try:
        yield
    finally:
        beating.cancel()
        await asyncio.wait([beating])
        try:
            await asyncio.wait_for(tasks.drain(), longest_seconds)
        except TimeoutError:
            structlog.get_logger("prism.app").warning("work was left unfinished; the janitor will look after it")
        else:
            await life.end()
