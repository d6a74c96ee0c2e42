"""A namespace as the services use it: its configuration, its catalog rules, its store and where bytes lie in it."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

import msgspec

from .blob import BlobStore
from .catalog.rows import Rules
from .config import Limits, NamespaceConfig
from .errors import ErrorCode, PrismError
from .keys import Layout
from .meta import Meta

__all__ = ["Namespace", "Namespaces", "Tasks", "at_once", "rules_of"]

S = TypeVar("S")
T = TypeVar("T")


class Tasks:
    """Work that runs to its end although the caller who began it may leave; `drain` waits for all of it."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[object]] = set()
        self._shared: dict[Hashable, asyncio.Task[Any]] = {}

    async def to_end(self, work: Coroutine[object, object, T]) -> T:
        """Await `work`; a cancellation of the caller does not reach it."""
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    async def once(self, name: Hashable, begin: Callable[[], Coroutine[object, object, T]]) -> T:
        """As `to_end`; those who ask for work of the same name while it runs share it and its outcome."""
        task: asyncio.Task[T] | None = self._shared.get(name)
        if task is None:
            task = self._shared[name] = asyncio.ensure_future(begin())
            self._running.add(task)
            task.add_done_callback(self._done)
            task.add_done_callback(lambda _: self._shared.pop(name, None))
        return await asyncio.shield(task)

    def _done(self, task: asyncio.Task[object]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()

    async def drain(self) -> None:
        """Wait until nothing is left running; the caller bounds the wait."""
        while self._running:
            await asyncio.wait(self._running)


async def at_once(do: Callable[[S], Awaitable[T]], items: Sequence[S], most: int = 32) -> list[T]:
    """Do it for each, at most so many at a time; the results in order. The first failure comes out when all is over."""
    if len(items) == 1:
        return [await do(items[0])]
    slots = asyncio.Semaphore(most)

    async def one(item: S) -> T:
        async with slots:
            return await do(item)

    results = await asyncio.gather(*map(one, items), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results  # type: ignore[return-value]  # no exception is left among them


class Namespace(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the services need to serve one namespace."""

    config: NamespaceConfig
    rules: Rules
    layout: Layout
    store: BlobStore
    meta: Meta
    limits: Limits
    now: Callable[[], datetime]
    new_version_id: Callable[[], str]
    tasks: Tasks

    @property
    def name(self) -> str:
        return self.rules.namespace

    @property
    def largest_bytes(self) -> int:
        """The largest object that may be stored."""
        return min(self.limits.max_object_bytes, self.config.max_object_bytes or self.limits.max_object_bytes)

    def bucket(self, asked: str) -> str:
        """The bucket meant: an empty one is the namespace's own."""
        return asked or self.rules.own_bucket


class Namespaces:
    """The namespaces that this process serves, by name."""

    def __init__(self, served: Iterable[Namespace]) -> None:
        self._by_name: Mapping[str, Namespace] = {space.name: space for space in served}

    def __iter__(self) -> Iterator[Namespace]:
        return iter(self._by_name.values())

    def get(self, name: str) -> Namespace:
        """NAMESPACE_NOT_FOUND when it is not configured."""
        space = self._by_name.get(name)
        if space is None:
            raise PrismError(ErrorCode.NAMESPACE_NOT_FOUND, f"there is no namespace {name[:80]!r}")
        return space


def rules_of(config: NamespaceConfig, limits: Limits, store: BlobStore) -> Rules:
    """The catalog's rules, from the configuration and from what the store can do."""
    able = store.capabilities
    return Rules(
        namespace=config.name,
        own_bucket=config.bucket,
        versioning=config.versioning,
        events=config.events,
        clock_skew=timedelta(seconds=limits.clock_skew_seconds),
        max_transfer=timedelta(seconds=limits.max_transfer_seconds),
        read_grace=timedelta(seconds=0 if able.open_survives_delete else limits.read_grace_seconds),
        overwrite_grace=timedelta(seconds=limits.overwrite_grace_seconds),
        expiry_grace=timedelta(seconds=limits.expiry_grace_seconds),
        late_write=timedelta(seconds=able.late_write_seconds),
        times_cut=timedelta(seconds=able.times_cut_seconds),
        returned_write_is_final=able.returned_write_is_final,
        max_open_uploads=limits.max_open_uploads_per_key,
    )
