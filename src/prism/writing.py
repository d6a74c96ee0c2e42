"""A write that passes through Prism: promise, bytes, settle, commit.

The promise and the bytes travel together; only what makes the bytes visible waits for the promise (the gate). While the
body flows the promise is renewed; what fails or is cancelled is given up at once and leaves nothing but a garbage row.
Once the bytes are down the write runs to its end even if the caller leaves.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

from . import recognition
from .blob.driver import Stored, WriteOptions
from .catalog import objects as transitions
from .catalog import uploads as promises
from .catalog.objects import Facts, Superseded
from .catalog.rows import ObjectRow, PromiseRow, Refused
from .digests import Digests
from .errors import ErrorCode, PrismError
from .failpoints import failpoint
from .holding import Hold, give_up, write_options
from .meta import Txn
from .namespaces import Namespace

__all__ = ["Flow", "capped", "streamed", "write"]


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


def streamed(
    chunks: AsyncIterator[bytes], max_bytes: int, *, etag: str | None = None, crc32c: str | None = None
) -> Callable[["Flow"], Awaitable[Stored]]:
    """The transfer of a caller's stream of at most `max_bytes`; etag and checksum where they are known before."""

    async def transfer(flow: Flow) -> Stored:
        source = flow.watched(capped(chunks, max_bytes))
        return await flow.space.store.put(flow.promise.physical_key, source, flow.options(etag=etag, crc32c=crc32c))

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
        self.digests = digests
        self._hold = Hold(space, promise)
        self.ended = False
        self.reserved = asyncio.ensure_future(self._reserve())

    @property
    def promise(self) -> PromiseRow:
        """As it stands."""
        return self._hold.promise

    async def _reserve(self) -> list[PromiseRow]:
        failpoint("objects.put.before_promise")

        async def body(tx: Txn) -> list[PromiseRow]:
            return await promises.promise(tx, self.space.rules, self.promise)

        others = await self.space.meta.transact(self.space.name, body, promises.promise_reads(self.space.rules))
        failpoint("objects.put.after_promise")
        return others

    def options(self, *, etag: str | None = None, crc32c: str | None = None) -> WriteOptions:
        """What the store is told: where to stop until the promise stands, who looks at the bytes, and what is known."""
        return write_options(self.promise, self.gate, observe=self.digests.update, etag=etag, crc32c=crc32c)

    async def gate(self) -> None:
        """Nothing becomes visible before the promise is durable, after its time, or with bytes other than declared."""
        await asyncio.shield(self.reserved)
        await self._hold.gate()
        if self.ended:
            self.digests.check(self.promise.declared)

    async def alongside(self, work: Callable[[], Coroutine[object, object, Stored]]) -> Stored:
        """Await the store's own work, in which no chunk passes by, keeping the promise alive meanwhile."""
        await asyncio.shield(self.reserved)
        return await self._hold.alongside(work())

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
        if self._hold.due:
            await asyncio.shield(self.reserved)
            await self._hold.renew()


async def _give_up(space: Namespace, flow: Flow) -> None:
    """Condemn what was promised, if it was."""
    try:
        await flow.reserved
    except PrismError:
        return
    await give_up(space, flow.promise)


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
