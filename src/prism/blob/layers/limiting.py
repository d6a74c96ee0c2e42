"""Bounds how many calls a store has to answer at a time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from ...model import ByteRange
from ..driver import Body, Driver, Opened, Throttled
from .layer import Layer

__all__ = ["Limit"]

T = TypeVar("T")


class Limit(Layer):
    """At most `concurrent` calls at a time, an open read counting until it is closed; waiting longer is `Throttled`."""

    def __init__(self, driver: Driver, *, concurrent: int, wait_seconds: float = 10.0) -> None:
        super().__init__(driver)
        self._slots = asyncio.Semaphore(concurrent)
        self._wait_seconds = wait_seconds

    async def _enter(self) -> None:
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._slots.acquire()
        except TimeoutError as error:
            raise Throttled from error

    async def _call(self, name: str, do: Callable[[], Awaitable[T]]) -> T:
        await self._enter()
        try:
            return await do()
        finally:
            self._slots.release()

    async def get(self, key: str, byte_range: ByteRange | None, if_match: str | None) -> Opened:
        """Open a read that keeps its slot."""
        await self._enter()
        try:
            opened = await self._driver.get(key, byte_range, if_match)
        except BaseException:
            self._slots.release()
            raise
        return Opened(opened.info, _SlotBody(opened.body, self._slots))


class _SlotBody:
    """A body that gives its slot back once."""

    def __init__(self, body: Body, slots: asyncio.Semaphore) -> None:
        self._body = body
        self._slots: asyncio.Semaphore | None = slots

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._body:
            yield chunk

    async def aclose(self) -> None:
        slots, self._slots = self._slots, None
        if slots is not None:
            slots.release()
        await self._body.aclose()
