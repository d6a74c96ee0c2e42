"""Repeats what failed for a moment. What a repetition may do twice, and what it must not, is decided here alone."""

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Generic, TypeVar

import msgspec

from ..driver import (
    AlreadyExists,
    BadPart,
    CopyPower,
    DeleteResult,
    Driver,
    EtagMismatch,
    NotFound,
    Part,
    Stored,
    Throttled,
    WriteOptions,
)
from .layer import Layer

__all__ = ["Retry", "is_transient"]

T = TypeVar("T")
_ANSWERS = (NotFound, AlreadyExists, EtagMismatch, BadPart)


def is_transient(error: Exception) -> bool:
    """Whether the same call may succeed in a moment."""
    return isinstance(error, Throttled | ConnectionError | TimeoutError)


class Retry(Layer):
    """Repeats calls that failed for a moment, a few times, after waits that grow and vary.

    A body of up to `held_bytes` is held and sent again; a longer one is sent once, and so is one that comes while
    `held_in_all_bytes` are held. The gate is asked anew before each attempt (no write starts after the writer's time),
    `observe` sees each piece once. `budget` retries may be under way
    in a row without an answer in between; beyond that, calls fail at once, so that a store that is down is not stormed.
    """

    def __init__(
        self,
        driver: Driver,
        *,
        transient: Callable[[Exception], bool] = is_transient,
        attempts: int = 4,
        first_wait_seconds: float = 0.1,
        longest_wait_seconds: float = 2.0,
        held_bytes: int = 8 * 2**20,
        held_in_all_bytes: int = 128 * 2**20,
        budget: int = 50,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        super().__init__(driver)
        self._transient = transient
        self._attempts = attempts
        self._first_wait = first_wait_seconds
        self._longest_wait = longest_wait_seconds
        self._held_bytes = held_bytes
        self._room_bytes = held_in_all_bytes
        self._budget = self._left = budget
        self._sleep = sleep

    async def _call(self, name: str, do: Callable[[], Awaitable[T]]) -> T:
        return await self._repeat(do, self._transient)

    async def _repeat(self, do: Callable[[], Awaitable[T]], may: Callable[[Exception], bool]) -> T:
        attempt = 1
        while True:
            try:
                result = await do()
            except Exception as error:
                if isinstance(error, _ANSWERS):
                    self._left = self._budget
                wait = self._wait(error, attempt) if may(error) else None
                if wait is None:
                    raise
            else:
                self._left = self._budget
                return result
            self._left -= 1
            attempt += 1
            await self._sleep(wait)

    def _wait(self, error: Exception, attempt: int) -> float | None:
        """Seconds until the next attempt; None when there is none."""
        if attempt >= self._attempts or self._left <= 0:
            return None
        longest = min(self._longest_wait, self._first_wait * 2 ** (attempt - 1))
        asked = error.retry_after_seconds if isinstance(error, Throttled) else None
        if asked is not None and asked > self._longest_wait:
            return None
        return (asked or 0.0) + random.uniform(longest / 2, longest)  # noqa: S311 - jitter, not a secret

    async def put(self, key: str, chunks: AsyncIterator[bytes], options: WriteOptions) -> Stored:
        """Hold a small body and send it as often as needed; pass a long one on."""
        async with self._holding(chunks) as (held, whole):
            if not whole:
                return await self._driver.put(key, _passed_on(held, chunks), options)
            return await self._send(options, lambda asked: self._driver.put(key, _again(held), asked))

    async def put_part(self, key: str, upload: str, number: int, chunks: AsyncIterator[bytes], size_bytes: int) -> Part:
        """Likewise; a part that is sent twice is one part."""
        async with self._holding(chunks) as (held, whole):
            if not whole:
                return await self._parts.put_part(key, upload, number, _passed_on(held, chunks), size_bytes)
            return await self._call(
                "put_part", lambda: self._parts.put_part(key, upload, number, _again(held), size_bytes)
            )

    @contextlib.asynccontextmanager
    async def _holding(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[tuple[deque[bytes], bool]]:
        """The body as far as it is held, and whether that is all of it; what is to be passed on takes no room."""
        held: deque[bytes] = deque()
        size, whole = 0, True
        try:
            async for chunk in chunks:
                held.append(chunk)
                size += len(chunk)
                self._room_bytes -= len(chunk)
                if size > self._held_bytes or self._room_bytes < 0:
                    self._room_bytes += size
                    size, whole = 0, False
                    break
            yield held, whole
        finally:
            self._room_bytes += size

    async def create_multipart(self, key: str, options: WriteOptions) -> str:
        """As a small put; a repetition may leave an open upload, which `open_multiparts` shows."""
        return await self._send(options, lambda asked: self._parts.create_multipart(key, asked))

    async def complete_multipart(self, key: str, upload: str, parts: Sequence[Part], options: WriteOptions) -> Stored:
        """As a small put; when it had happened all the same, the repetition's `NotFound` comes out as the failure."""
        return await self._send(options, lambda asked: self._parts.complete_multipart(key, upload, parts, asked))

    async def copy(self, source: str, if_match: str, key: str, options: WriteOptions) -> Stored:
        """As a small put."""
        driver = self._driver
        assert isinstance(driver, CopyPower)
        return await self._send(options, lambda asked: driver.copy(source, if_match, key, asked))

    async def _send(self, options: WriteOptions, send: Callable[[WriteOptions], Awaitable[T]]) -> T:
        sending = _Sending(options, send)
        return await self._repeat(sending.attempt, lambda error: not sending.over and self._transient(error))

    async def delete_many(self, keys: Sequence[str]) -> list[DeleteResult]:
        """Repeat what failed for a moment, key by key."""
        results: dict[str, DeleteResult] = {}

        async def attempt() -> None:
            left = [key for key in keys if key not in results or results[key].error is not None]
            results.update((result.key, result) for result in await self._driver.delete_many(left))
            for result in results.values():
                if result.error is not None and self._transient(result.error):
                    raise _SomeLeft(result.error)

        with contextlib.suppress(_SomeLeft):
            await self._repeat(attempt, lambda error: isinstance(error, _SomeLeft) or self._transient(error))
        return [results[key] for key in keys]


class _SomeLeft(Exception):
    """Some keys of a deletion failed for a moment."""


class _Sending(Generic[T]):
    """One write that may be sent several times. `over`: the caller's gate refused, or what came of it is unknown."""

    def __init__(self, options: WriteOptions, send: Callable[[WriteOptions], Awaitable[T]]) -> None:
        self.over = False
        self._options = options
        self._send = send
        self._failed: Exception | None = None
        self._observed = 0
        self._passed = 0

    async def attempt(self) -> T:
        """Send once. Bytes that an earlier, failed attempt may have left there are not taken for this one's."""
        self._passed = 0
        given = self._options
        asked = msgspec.structs.replace(given, observe=given.observe and self._observe, gate=given.gate and self._gate)
        try:
            return await self._send(asked)
        except (AlreadyExists, NotFound, BadPart) as error:
            self.over = True
            raise self._failed or error from error
        except Exception as error:
            self._failed = error
            raise

    def _observe(self, chunk: bytes) -> None:
        self._passed += 1
        if self._passed > self._observed and self._options.observe is not None:
            self._observed = self._passed
            self._options.observe(chunk)

    async def _gate(self) -> None:
        assert self._options.gate is not None
        self.over = True
        await self._options.gate()
        self.over = False


async def _again(held: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in held:
        yield chunk


async def _passed_on(held: deque[bytes], rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Each piece is let go of as it is handed on."""
    while held:
        yield held.popleft()
    async for chunk in rest:
        yield chunk
