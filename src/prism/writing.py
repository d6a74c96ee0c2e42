"""A write that passes through Prism: promise, bytes, settle, commit.

The promise and the bytes travel together; only what makes the bytes visible waits for the promise (the gate). While the
body flows the promise is renewed; what fails or is cancelled is given up at once and leaves nothing but a garbage row.
Once the bytes are down the write runs to its end even if the caller leaves.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from datetime import timedelta

from . import recognition
from .blob.driver import Stored, WriteOptions
from .catalog import objects as transitions
from .catalog import uploads as promises
from .catalog.objects import Facts, Superseded
from .catalog.rows import ObjectRow, PromiseRow, Refused
from .digests import Digests
from .errors import ErrorCode, PrismError
from .failpoints import failpoint
from .meta import Txn
from .metadata import for_store
from .model import Declared, Precondition
from .namespaces import Namespace

__all__ = ["HOLD", "Flow", "capped", "new_promise", "streamed", "write"]

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


async def write(
    space: Namespace,
    promise: PromiseRow,
    transfer: Callable[["Flow"], Awaitable[Stored]],
    digests: Digests,
    describe: Callable[[Stored], Facts],
) -> ObjectRow:
    """Make the promise, let `transfer` bring the bytes to its physical key, and commit what `describe` says of them."""
    flow = Flow(space, promise, digests)
    try:
        stored = await transfer(flow)
        failpoint("objects.put.after_bytes")
        digests.check(promise.declared)
        facts = describe(stored)
    except BaseException:
        await space.tasks.to_end(_give_up(space, flow))
        raise
    return await space.tasks.to_end(_finish(space, flow, facts))


def streamed(chunks: AsyncIterator[bytes], max_bytes: int) -> Callable[["Flow"], Awaitable[Stored]]:
    """The transfer of a caller's stream of at most `max_bytes`."""

    async def transfer(flow: Flow) -> Stored:
        source = flow.watched(capped(chunks, max_bytes))
        return await flow.space.store.put(flow.promise.physical_key, source, flow.options())

    return transfer


async def capped(chunks: AsyncIterator[bytes], max_bytes: int) -> AsyncIterator[bytes]:
    """The same chunks; TOO_LARGE as soon as they are more than `max_bytes`."""
    passed = 0
    async for chunk in chunks:
        passed += len(chunk)
        if passed > max_bytes:
            raise PrismError(ErrorCode.TOO_LARGE, f"an object here holds at most {max_bytes} bytes")
        yield chunk


class Flow:
    """One write under way: its promise as it stands, and what has passed so far."""

    def __init__(self, space: Namespace, promise: PromiseRow, digests: Digests) -> None:
        self.space = space
        self.promise = promise
        self.digests = digests
        self.ended = False
        self.reserved = asyncio.ensure_future(self._reserve())

    async def _reserve(self) -> list[PromiseRow]:
        failpoint("objects.put.before_promise")

        async def body(tx: Txn) -> list[PromiseRow]:
            return await promises.promise(tx, self.space.rules, self.promise)

        others = await self.space.meta.transact(self.space.name, body, promises.promise_reads(self.space.rules))
        failpoint("objects.put.after_promise")
        return others

    def options(self) -> WriteOptions:
        """What the store is told: where to stop until the promise stands, and who looks at the bytes."""
        promise = self.promise
        return WriteOptions(
            content_type=promise.content_type,
            metadata=for_store(promise.key, promise.version_id, promise.metadata),
            create_only=True,
            gate=self.gate,
            observe=self.digests.update,
        )

    async def gate(self) -> None:
        """Nothing becomes visible before the promise is durable, after its time, or with bytes other than declared."""
        await asyncio.shield(self.reserved)
        await self.renew()
        if self.space.now() >= self.promise.writable_until:
            raise PrismError(ErrorCode.STORE_DOWN, "the store did not take the bytes in time; nothing was stored")
        if self.ended:
            self.digests.check(self.promise.declared)

    async def alongside(self, work: Coroutine[object, object, Stored]) -> Stored:
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

    async def watched(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The caller's chunks on their way to the store, keeping the promise alive."""
        async for chunk in chunks:
            await self.renew()
            yield chunk
            failpoint("objects.put.mid_body")
        self.ended = True

    async def renew(self) -> None:
        """Move the deadline when a third of the hold is over; a promise that was refused ends the body early."""
        if self.reserved.done():
            self.reserved.result()
        now = self.space.now()
        if now < self.promise.writable_until - HOLD * 2 / 3:
            return
        await asyncio.shield(self.reserved)

        async def body(tx: Txn) -> PromiseRow:
            return await promises.renew(tx, self.space.rules, self.promise, now + HOLD)

        self.promise = await self.space.meta.transact(self.space.name, body)


async def _give_up(space: Namespace, flow: Flow) -> None:
    """Condemn what was promised. Should the catalog be down as well, the janitor breaks the promise when it is dead."""
    try:
        await flow.reserved

        async def body(tx: Txn) -> bool:
            return await promises.abandon(tx, space.rules, flow.promise, space.now())

        await space.meta.transact(space.name, body)
    except PrismError:
        return


async def _finish(space: Namespace, flow: Flow, facts: Facts) -> ObjectRow:
    """The bytes are down: look at the key's open uploads, then commit. Runs to its end whoever leaves."""
    try:
        others = await flow.reserved
        if others:
            await recognition.settle(space, others)
        failpoint("objects.put.before_commit")

        async def body(tx: Txn) -> ObjectRow | Superseded | Refused:
            return await transitions.commit(tx, space.rules, flow.promise, facts, space.now())

        outcome = await space.meta.transact(space.name, body, transitions.commit_reads(space.rules, flow.promise))
    except BaseException:
        await _give_up(space, flow)
        raise
    failpoint("objects.put.after_commit")
    if isinstance(outcome, Refused):
        raise PrismError(outcome.code, outcome.message)
    return outcome.row if isinstance(outcome, Superseded) else outcome
