"""A blob driver round a driver that fails on demand, as remote stores do: slow, throttled, down, hanging, full, reset
in mid-body, a write that lands after its call failed, bytes that are lost.

Faults are queued per verb with `inject` and taken one per call, so a test says exactly which attempt meets which;
without any the driver only passes calls on. What clients send to the store themselves (`receive`) meets faults, too.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from enum import Enum
from typing import TypeVar

import msgspec

from ..blob.driver import (
    Body,
    Capabilities,
    CopyPower,
    DeleteResult,
    Driver,
    NoSpace,
    Opened,
    Part,
    Signed,
    Stored,
    Throttled,
    WriteOptions,
)
from ..blob.layers import Layer
from ..blob.memory_front import Answer, Receiving, Refused
from ..model import ByteRange

__all__ = ["Fault", "FaultyBlob"]

T = TypeVar("T")


class Fault(Enum):
    """What happens to one call."""

    SLOW = "the call waits for `delay_seconds` first"
    THROTTLED = "the store asks to come back later"
    DOWN = "the store refuses the connection"
    HANG = "the call does not go on until `release`"
    RESET = "the connection breaks: in mid-body (a put or part after the first piece, a get within it), else before"
    FULL = "the store has no space"
    LATE = "a write: all of it is taken, the answer is lost, and it is done at `land`"
    ANSWER_LOST = "the call is done, and its answer is lost"


class FaultyBlob(Layer):
    """The driver round `inner`; `calls` counts calls per verb.

    Verbs: put get head delete list copy now settings, delete_if, sign (all URLs), create_multipart put_part list_parts
    complete_multipart abort_multipart open_multiparts, and receive (a client's own request to the store: a throttled
    one is answered 503, a full one 507). LATE is for put, copy, put_part, complete_multipart and receive.
    """

    def __init__(self, inner: Driver, *, delay_seconds: float = 0.05, writes_may_be_late: bool = False) -> None:
        super().__init__(inner)
        self._delay_seconds = delay_seconds
        self._writes_may_be_late = writes_may_be_late
        self._queued: dict[str, deque[Fault | None]] = defaultdict(deque)
        self._always: dict[str, Fault | None] = {}
        self._released = asyncio.Event()
        self._late: list[Callable[[], Awaitable[object]]] = []
        self._under_way: set[asyncio.Task[Answer]] = set()
        self.calls: dict[str, int] = defaultdict(int)

    @property
    def capabilities(self) -> Capabilities:
        """Those of the driver inside; with `writes_may_be_late` it says so."""
        able = self._driver.capabilities
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
        for do in late:
            try:
                await do()
            except Exception as error:  # noqa: BLE001 - a store tells nobody what became of a late write; the test is told
                outcomes.append(error)
            else:
                outcomes.append(None)
        return outcomes

    async def lose(self, key: str) -> None:
        """The store loses an object."""
        await self._driver.delete_many([key])

    async def put(self, key: str, chunks: AsyncIterator[bytes], options: WriteOptions) -> Stored:
        """Store a stream."""
        fault = await self._meet("put")
        if fault is Fault.LATE:
            held = await _gathered(chunks, options)
            return await self._later(options, lambda given: self._driver.put(key, _pieces(held), given))
        return _answered(fault, await self._driver.put(key, _broken(chunks, fault), options))

    async def get(self, key: str, byte_range: ByteRange | None, if_match: str | None) -> Opened:
        """Open a read."""
        fault = await self._meet("get")
        opened = _answered(fault, await self._driver.get(key, byte_range, if_match))
        return Opened(opened.info, _BrokenBody(opened.body)) if fault is Fault.RESET else opened

    async def delete_many(self, keys: Sequence[str]) -> list[DeleteResult]:
        """Delete keys; RESET fails the second half of them, key by key."""
        fault = await self._meet("delete")
        kept = keys[len(keys) // 2 :] if fault is Fault.RESET else ()
        results = await self._driver.delete_many(keys[: len(keys) - len(kept)])
        return _answered(fault, [*results, *(DeleteResult(key, ConnectionResetError()) for key in kept)])

    async def copy(self, source: str, if_match: str, key: str, options: WriteOptions) -> Stored:
        """Copy inside the store."""
        inner = self._driver
        assert isinstance(inner, CopyPower)
        return await self._write("copy", options, lambda given: inner.copy(source, if_match, key, given))

    async def put_part(self, key: str, upload: str, number: int, chunks: AsyncIterator[bytes], size_bytes: int) -> Part:
        """Store a part."""
        fault = await self._meet("put_part")
        if fault is Fault.LATE:
            held = await _gathered(chunks, WriteOptions())
            return await self._later(
                WriteOptions(), lambda _: self._parts.put_part(key, upload, number, _pieces(held), size_bytes)
            )
        broken = _broken(chunks, fault)
        return _answered(fault, await self._parts.put_part(key, upload, number, broken, size_bytes))

    async def complete_multipart(self, key: str, upload: str, parts: Sequence[Part], options: WriteOptions) -> Stored:
        """Make the object."""
        return await self._write(
            "complete_multipart", options, lambda given: self._parts.complete_multipart(key, upload, parts, given)
        )

    async def receive(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | AsyncIterator[bytes] = b""
    ) -> Answer:
        """A client's request to the store. LATE: it began in time and its body is through at `land`; a request that is
        refused by its headers is answered at once."""
        inner = self._driver
        assert isinstance(inner, Receiving)
        try:
            fault = await self._meet("receive")
        except Throttled:
            return Answer(503, {"retry-after": "1"})
        except NoSpace:
            return Answer(507)
        if fault is Fault.RESET:
            raise ConnectionResetError("the connection broke")
        if fault is Fault.LATE:
            return await self._receive_late(inner, method, url, headers, body)
        return _answered(fault, await inner.receive(method, url, headers, body))

    async def close(self) -> None:
        """Close the driver inside; what did not land never does."""
        self._late.clear()
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        await self._driver.close()

    async def _call(self, name: str, do: Callable[[], Awaitable[T]]) -> T:
        fault = await self._meet(name)
        if fault is Fault.RESET:
            raise ConnectionResetError("the connection broke")
        return _answered(fault, await do())

    async def _sign(self, do: Callable[[], Awaitable[Signed]]) -> Signed:
        return await self._call("sign", do)

    async def _write(self, verb: str, options: WriteOptions, do: Callable[[WriteOptions], Awaitable[T]]) -> T:
        fault = await self._meet(verb)
        if fault is Fault.RESET:
            raise ConnectionResetError("the connection broke")
        return await self._later(options, do) if fault is Fault.LATE else _answered(fault, await do(options))

    async def _later(self, options: WriteOptions, do: Callable[[WriteOptions], Awaitable[T]]) -> T:
        """The store has all of it, and the gate let it go: nobody can stop it any more."""
        if options.gate is not None:
            await options.gate()
        given = msgspec.structs.replace(options, gate=None, observe=None)
        self._late.append(lambda: do(given))
        raise ConnectionResetError("the answer is lost")

    async def _receive_late(
        self, inner: Receiving, method: str, url: str, headers: Mapping[str, str], body: bytes | AsyncIterator[bytes]
    ) -> Answer:
        content = body if isinstance(body, bytes) else b"".join([chunk async for chunk in body])
        begun, through = asyncio.Event(), asyncio.Event()

        async def arriving() -> AsyncIterator[bytes]:
            begun.set()
            await through.wait()
            yield content

        async def done() -> None:
            through.set()
            if (answer := await task).status >= 300:
                raise Refused(answer.status)

        given = {"Content-Length": str(len(content)), **headers}
        task = asyncio.create_task(inner.receive(method, url, given, arriving()))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        beginning = asyncio.create_task(begun.wait())
        await asyncio.wait([task, beginning], return_when=asyncio.FIRST_COMPLETED)
        beginning.cancel()
        if task.done():
            return await task
        self._late.append(done)
        raise ConnectionResetError("the answer is lost")

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


async def _gathered(chunks: AsyncIterator[bytes], options: WriteOptions) -> list[bytes]:
    held: list[bytes] = []
    async for chunk in chunks:
        if options.observe is not None:
            options.observe(chunk)
        held.append(bytes(chunk))
    return held


async def _broken(chunks: AsyncIterator[bytes], fault: Fault | None) -> AsyncIterator[bytes]:
    """The chunks; with RESET only the first."""
    async for chunk in chunks:
        yield chunk
        if fault is Fault.RESET:
            break
    if fault is Fault.RESET:
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
