"""Bounds how long a store may be silent, whatever the size of an object or the speed of the other side."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec

from ...model import ByteRange
from ..driver import Body, CopyPower, Driver, Opened, Part, Signed, Stored, WriteOptions
from .layer import Layer

__all__ = ["Timeout"]

T = TypeVar("T")
_COPY_TIMES = 10


class Timeout(Layer):
    """The store moves on within `seconds`, or the call is a `TimeoutError`. Time that the other side takes (the next
    piece of a put, the gate, a slow reader) does not count. A copy, which may be many requests, has ten times as long;
    signing is bounded, too, since it may have to fetch credentials."""

    def __init__(self, driver: Driver, *, seconds: float) -> None:
        super().__init__(driver)
        self._seconds = seconds

    async def _call(self, name: str, do: Callable[[], Awaitable[T]]) -> T:
        async with asyncio.timeout(self._seconds):
            return await do()

    async def _sign(self, do: Callable[[], Awaitable[Signed]]) -> Signed:
        return await self._call("sign", do)

    async def put(self, key: str, chunks: AsyncIterator[bytes], options: WriteOptions) -> Stored:
        """Store a stream, the clock standing still while the caller is waited for."""
        async with asyncio.timeout(self._seconds) as deadline:
            clock = _Clock(deadline, self._seconds)
            return await self._driver.put(key, clock.pieces(chunks), clock.options(options))

    async def copy(self, source: str, if_match: str, key: str, options: WriteOptions) -> Stored:
        """Copy inside the store, the clock standing still during the gate."""
        driver = self._driver
        assert isinstance(driver, CopyPower)
        seconds = self._seconds * _COPY_TIMES
        async with asyncio.timeout(seconds) as deadline:
            return await driver.copy(source, if_match, key, _Clock(deadline, seconds).options(options))

    async def put_part(self, key: str, upload: str, number: int, chunks: AsyncIterator[bytes], size_bytes: int) -> Part:
        """As a put."""
        async with asyncio.timeout(self._seconds) as deadline:
            pieces = _Clock(deadline, self._seconds).pieces(chunks)
            return await self._parts.put_part(key, upload, number, pieces, size_bytes)

    async def create_multipart(self, key: str, options: WriteOptions) -> str:
        """Begin, the clock standing still during the gate."""
        async with asyncio.timeout(self._seconds) as deadline:
            return await self._parts.create_multipart(key, _Clock(deadline, self._seconds).options(options))

    async def complete_multipart(self, key: str, upload: str, parts: Sequence[Part], options: WriteOptions) -> Stored:
        """Make the object, the clock standing still during the gate."""
        async with asyncio.timeout(self._seconds) as deadline:
            clock = _Clock(deadline, self._seconds)
            return await self._parts.complete_multipart(key, upload, parts, clock.options(options))

    async def get(self, key: str, byte_range: ByteRange | None, if_match: str | None) -> Opened:
        """Open a read whose every piece is timed."""
        opened = await super().get(key, byte_range, if_match)
        return Opened(opened.info, _TimedBody(opened.body, self._seconds))


class _Clock:
    """A deadline that is moved on when the store is waited for, and lifted while the caller is."""

    def __init__(self, deadline: asyncio.Timeout, seconds: float) -> None:
        self._deadline = deadline
        self._seconds = seconds

    def _go_on(self) -> None:
        if not self._deadline.expired():
            self._deadline.reschedule(asyncio.get_running_loop().time() + self._seconds)

    def _stand_still(self) -> None:
        if not self._deadline.expired():
            self._deadline.reschedule(None)

    async def pieces(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The chunks, with the clock standing still while each is awaited."""
        self._stand_still()
        async for chunk in chunks:
            self._go_on()
            yield chunk
            self._stand_still()
        self._go_on()

    def options(self, options: WriteOptions) -> WriteOptions:
        """The same, with a gate that is not timed."""
        gate = options.gate
        if gate is None:
            return options

        async def untimed() -> None:
            self._stand_still()
            await gate()
            self._go_on()

        return msgspec.structs.replace(options, gate=untimed)


class _TimedBody:
    """A body whose every piece comes in time."""

    def __init__(self, body: Body, seconds: float) -> None:
        self._body = body
        self._seconds = seconds

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces = aiter(self._body)
        while True:
            try:
                async with asyncio.timeout(self._seconds):
                    chunk = await anext(pieces)
            except StopAsyncIteration:
                return
            yield chunk

    async def aclose(self) -> None:
        await self._body.aclose()
