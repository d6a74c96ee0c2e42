"""A Prism process's promise while its bytes are on their way: made for a fresh key, renewed, given up; and what the
store is told of them.

The promise lets a write begin for a minute; whoever works longer renews it. What fails is given up at once and leaves
nothing but a garbage row; what dies is broken by the janitor.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import datetime, timedelta
from typing import TypeVar

from .blob.driver import WriteOptions
from .catalog import uploads as promises
from .catalog.objects import whole_second
from .catalog.rows import PromiseRow
from .errors import ErrorCode, PrismError
from .meta import Txn
from .metadata import for_store, tags_for
from .model import Declared, Precondition
from .namespaces import Namespace

__all__ = ["HOLD", "Hold", "give_up", "new_promise", "write_options"]

T = TypeVar("T")
HOLD = timedelta(seconds=60)
"""How long a process's promise lets a write begin; renewed after a third of it while the body flows."""
_NOTHING_DECLARED = Declared()
_ALWAYS = Precondition()


def new_promise(
    space: Namespace,
    bucket: str,
    key: str,
    *,
    content_type: str,
    metadata: Mapping[str, str],
    ttl_seconds: int | None,
    declared: Declared = _NOTHING_DECLARED,
    precondition: Precondition = _ALWAYS,
) -> PromiseRow:
    """A process's promise for a fresh physical key, not yet made."""
    now = space.now()
    version_id = space.new_version_id()
    return PromiseRow(
        bucket=bucket,
        key=key,
        version_id=version_id,
        physical_key=space.layout.physical(bucket, key, version_id),
        kind="process",
        created_at=now,
        writable_until=now + HOLD,
        dead=now + HOLD + space.rules.late_write,
        content_type=content_type,
        metadata=metadata,
        ttl_seconds=ttl_seconds,
        declared=declared,
        precondition=precondition,
    )


def write_options(
    promise: PromiseRow,
    gate: Callable[[], Awaitable[None]],
    *,
    begun: datetime | None = None,
    observe: Callable[[bytes], None] | None = None,
    etag: str | None = None,
    crc32c: str | None = None,
) -> WriteOptions:
    """What the store is told of a write, and keeps for a rebuild of the catalog. `begun` is what the lifetime counts
    from, when it is known; for a client's bytes it is not, and the lifetime itself is kept."""
    lasting, at = promise.ttl_seconds, begun or promise.created_at
    expires_at = None if lasting is None else whole_second(at + timedelta(seconds=lasting))
    client = promise.kind == "client"
    return WriteOptions(
        content_type=promise.content_type,
        metadata=for_store(
            promise.key,
            promise.version_id,
            promise.metadata,
            expires_at=None if client else expires_at,
            ttl_seconds=lasting if client else None,
            etag=etag,
            crc32c=crc32c,
        ),
        tags=tags_for(expires_at),
        create_only=True,
        gate=gate,
        observe=observe,
    )


class Hold:
    """A promise that stands, kept alive by whoever works on it."""

    def __init__(self, space: Namespace, promise: PromiseRow) -> None:
        self.space = space
        self.promise = promise

    @property
    def due(self) -> bool:
        """Whether a third of the hold is over."""
        return self.space.now() >= self.promise.writable_until - HOLD * 2 / 3

    async def renew(self) -> None:
        """Move the deadline when that is due. OUTCOME_UNKNOWN or DELETED_MEANWHILE when the promise stands no more."""
        if not self.due:
            return
        until = self.space.now() + HOLD

        async def body(tx: Txn) -> PromiseRow:
            return await promises.renew(tx, self.space.rules, self.promise, until)

        self.promise = await self.space.meta.transact(self.space.name, body)

    async def gate(self) -> None:
        """Nothing becomes visible after the promise's time."""
        await self.renew()
        if self.space.now() >= self.promise.writable_until:
            raise PrismError(ErrorCode.STORE_DOWN, "the store did not take the bytes in time; nothing was stored")

    async def alongside(self, work: Coroutine[object, object, T]) -> T:
        """Await the store's own work, in which no chunk passes by, keeping the promise alive meanwhile."""
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=(HOLD / 3).total_seconds())
                if not task.done():
                    await self.renew()
            return task.result()
        except BaseException:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            raise


async def give_up(space: Namespace, promise: PromiseRow) -> None:
    """Condemn what was promised. Should the catalog be down as well, the janitor breaks the promise when it is dead."""

    async def body(tx: Txn) -> bool:
        return await promises.abandon(tx, space.rules, promise, space.now())

    try:
        await space.meta.transact(space.name, body)
    except PrismError:
        return
