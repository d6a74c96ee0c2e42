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
    """At most `concurrent` calls at a time, an open read counting until it is closed; waiting longer is `Throttled`.

    Only `waiting` may wait: the callers of a store that is silent must not fill the process, or those of other stores
    would find no place in it.
    """

    def __init__(
        self, driver: Driver, *, concurrent: int, wait_seconds: float = 10.0, waiting: int | None = None
    ) -> None:
        super().__init__(driver)
        self._slots = asyncio.Semaphore(concurrent)
        self._wait_seconds = wait_seconds
        self._places = max(64, 2 * concurrent) if waiting is None else waiting

    async def _enter(self) -> None:
        if self._slots.locked() and not self._places:
            raise Throttled
        self._places -= 1
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._slots.acquire()
        except TimeoutError as error:
            raise Throttled from error
        finally:
            self._places += 1

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
