"""A blob driver round a driver that fails on demand, as remote stores do: slow, throttled, down, hanging, full, reset
in mid-body, a write that lands after its call failed, bytes that are lost.

Faults are queued per verb with `inject` and taken one per call, so a test says exactly which attempt meets which;
without any the driver only passes calls on.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from enum import Enum
from typing import TypeVar

import msgspec

from ..blob.driver import (
    BlobEntry,
    BlobInfo,
    Body,
    Capabilities,
    CopyPower,
    DeleteResult,
    Driver,
    NoSpace,
    Opened,
    Stored,
    Throttled,
    WriteOptions,
)
from ..model import ByteRange

__all__ = ["Fault", "FaultyBlob"]

T = TypeVar("T")


class Fault(Enum):
    """What happens to one call."""

    SLOW = "the call waits for `delay_seconds` first"
    THROTTLED = "the store asks to come back later"
    DOWN = "the store refuses the connection"
    HANG = "the call does not go on until `release`"
    RESET = "the connection breaks in mid-body (put: after the first piece; get: within the first piece)"
    FULL = "the store has no space"
    LATE = "put: the whole body is taken, the answer is lost, and the bytes appear at `land`"
    ANSWER_LOST = "the call is done, and its answer is lost"


class FaultyBlob:
    """The driver round `inner`; `calls` counts calls per verb. Verbs: put get head delete list copy now."""

    def __init__(self, inner: Driver, *, delay_seconds: float = 0.05, writes_may_be_late: bool = False) -> None:
        self._inner = inner
        self._delay_seconds = delay_seconds
        self._writes_may_be_late = writes_may_be_late
        self._queued: dict[str, deque[Fault | None]] = defaultdict(deque)
        self._always: dict[str, Fault | None] = {}
        self._released = asyncio.Event()
        self._late: list[tuple[str, list[bytes], WriteOptions]] = []
        self.calls: dict[str, int] = defaultdict(int)

    @property
    def capabilities(self) -> Capabilities:
        """Those of the driver inside; with `writes_may_be_late` it says so."""
        able = self._inner.capabilities
        if not self._writes_may_be_late:
            return able
        return msgspec.structs.replace(able, returned_write_is_final=False, late_write_seconds=60.0)

    def inject(self, verb: str, *faults: Fault | None) -> None:
        """Queue what the next calls of `verb` meet; None lets one pass."""
        self._queued[verb].extend(faults)

    def always(self, verb: str, fault: Fault | None) -> None:
        """What every further call of `verb` meets once its queue is empty; None ends it."""
        self._always[verb] = fault

    def release(self) -> None:
        """Let the hanging calls go on."""
        self._released.set()
        self._released = asyncio.Event()

    async def land(self) -> list[Exception | None]:
        """Let the late writes appear now; says of each what became of it."""
        late, self._late = self._late, []
        outcomes: list[Exception | None] = []
        for key, pieces, options in late:
            try:
                await self._inner.put(key, _pieces(pieces), options)
            except Exception as error:  # noqa: BLE001 - a store tells nobody what became of a late write; the test is told
                outcomes.append(error)
            else:
                outcomes.append(None)
        return outcomes

    async def lose(self, key: str) -> None:
        """The store loses an object."""
        await self._inner.delete_many([key])

    async def put(self, key: str, chunks: AsyncIterator[bytes], options: WriteOptions) -> Stored:
        """Store a stream."""
        fault = await self._meet("put")
        if fault is Fault.RESET:
            chunks = _broken(chunks)
        if fault is Fault.LATE:
            await self._hold(key, chunks, options)
            raise ConnectionResetError("the answer is lost")
        stored = await self._inner.put(key, chunks, options)
        return _answered(fault, stored)

    async def get(self, key: str, byte_range: ByteRange | None, if_match: str | None) -> Opened:
        """Open a read."""
        fault = await self._meet("get")
        opened = _answered(fault, await self._inner.get(key, byte_range, if_match))
        return Opened(opened.info, _BrokenBody(opened.body)) if fault is Fault.RESET else opened

    async def head(self, key: str) -> BlobInfo:
        """Look at a key."""
        await self._meet("head")
        return await self._inner.head(key)

    async def delete_many(self, keys: Sequence[str]) -> list[DeleteResult]:
        """Delete keys; RESET fails the second half of them, key by key."""
        fault = await self._meet("delete")
        kept = keys[len(keys) // 2 :] if fault is Fault.RESET else ()
        results = await self._inner.delete_many(keys[: len(keys) - len(kept)])
        return _answered(fault, [*results, *(DeleteResult(key, ConnectionResetError()) for key in kept)])

    async def list(self, prefix: str, start_after: str, limit: int) -> list[BlobEntry]:
        """List keys."""
        await self._meet("list")
        return await self._inner.list(prefix, start_after, limit)

    async def copy(self, source: str, if_match: str, key: str, options: WriteOptions) -> Stored:
        """Copy inside the store."""
        fault = await self._meet("copy")
        assert isinstance(self._inner, CopyPower)
        return _answered(fault, await self._inner.copy(source, if_match, key, options))

    async def now(self) -> datetime:
        """The store's clock."""
        await self._meet("now")
        return await self._inner.now()

    async def close(self) -> None:
        """Close the driver inside."""
        await self._inner.close()

    async def _hold(self, key: str, chunks: AsyncIterator[bytes], options: WriteOptions) -> None:
        """The store has the whole body, and the gate let it go: nobody can stop it any more."""
        held: list[bytes] = []
        async for chunk in chunks:
            if options.observe is not None:
                options.observe(chunk)
            held.append(bytes(chunk))
        if options.gate is not None:
            await options.gate()
        self._late.append((key, held, msgspec.structs.replace(options, gate=None, observe=None)))

    async def _meet(self, verb: str) -> Fault | None:
        self.calls[verb] += 1
        queued = self._queued[verb]
        fault = queued.popleft() if queued else self._always.get(verb)
        if fault is Fault.SLOW:
            await asyncio.sleep(self._delay_seconds)
        elif fault is Fault.HANG:
            await self._released.wait()
        elif fault is Fault.THROTTLED:
            raise Throttled(self._delay_seconds)
        elif fault is Fault.FULL:
            raise NoSpace
        elif fault is Fault.DOWN:
            raise ConnectionRefusedError("the store is down")
        return fault


def _answered(fault: Fault | None, answer: T) -> T:
    if fault is Fault.ANSWER_LOST:
        raise ConnectionResetError("the answer is lost")
    return answer


async def _pieces(pieces: Sequence[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def _broken(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield chunk
        break
    raise ConnectionResetError("the connection broke")


class _BrokenBody:
    """Half of the first piece, then a broken connection."""

    def __init__(self, body: Body) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._body:
            if len(chunk) > 1:
                yield chunk[: len(chunk) // 2]
            break
        raise ConnectionResetError("the connection broke")

    async def aclose(self) -> None:
        """Close the body inside."""
        await self._body.aclose()
