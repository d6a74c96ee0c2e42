"""Layers: a driver round a driver, composed in one line: `Observe(Retry(Limit(Timeout(driver))))`.

The order, once: a retry gets a fresh deadline and takes its slot anew, so a call that backs off holds none; waiting for
a slot does not count as the store's slowness; what is observed is what the caller waited for, retries included. A local
or memory store is observed only: there is no network to wait for, and a 4 KiB put must not pay for four wrappers. No
layer holds more than one piece of a stream, but `Retry`, which holds a small body whole to send it again; a caller's
stream is never asked for twice.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime
from typing import Generic, TypeVar

import msgspec
from prometheus_client import CollectorRegistry, Histogram

from ..model import ByteRange
from .driver import (
    AlreadyExists,
    BadPart,
    BlobEntry,
    BlobInfo,
    Body,
    Bound,
    BucketSettings,
    Capabilities,
    ConditionalDeletePower,
    CopyPower,
    DeleteResult,
    Driver,
    EtagMismatch,
    MultipartPower,
    NoSpace,
    NotFound,
    Opened,
    OpenMultipart,
    Part,
    SettingsPower,
    Signed,
    SignPower,
    Stored,
    Throttled,
    WriteOptions,
)

__all__ = ["Layer", "Limit", "Observe", "Retry", "StoreMetrics", "Timeout", "is_transient"]

T = TypeVar("T")
_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
_ANSWERS = (NotFound, AlreadyExists, EtagMismatch, BadPart)
_COPY_TIMES = 10
_OUTCOMES: tuple[tuple[type[BaseException], str], ...] = (
    (NotFound, "not_found"),
    (AlreadyExists, "exists"),
    (EtagMismatch, "changed"),
    (BadPart, "bad_part"),
    (Throttled, "throttled"),
    (NoSpace, "full"),
    (TimeoutError, "timeout"),
    (asyncio.CancelledError, "cancelled"),
)


def is_transient(error: Exception) -> bool:
    """Whether the same call may succeed in a moment."""
    return isinstance(error, Throttled | ConnectionError | TimeoutError)


class Layer:
    """The verbs of a driver, each handed to `_call`; a layer says there what happens round a call."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    @property
    def capabilities(self) -> Capabilities:
        """Those of the driver inside."""
        return self._driver.capabilities

    async def _call(self, name: str, do: Callable[[], Awaitable[T]]) -> T:
        raise NotImplementedError(name)

    async def _sign(self, do: Callable[[], Awaitable[Signed]]) -> Signed:
        return await do()

    async def put(self, key: str, chunks: AsyncIterator[bytes], options: WriteOptions) -> Stored:
        """Store a stream."""
        return await self._call("put", lambda: self._driver.put(key, chunks, options))

    async def get(self, key: str, byte_range: ByteRange | None, if_match: str | None) -> Opened:
        """Open a read."""
        return await self._call("get", lambda: self._driver.get(key, byte_range, if_match))

    async def head(self, key: str) -> BlobInfo:
        """Look at a key."""
        return await self._call("head", lambda: self._driver.head(key))

    async def delete_many(self, keys: Sequence[str]) -> list[DeleteResult]:
        """Delete keys."""
        return await self._call("delete", lambda: self._driver.delete_many(keys))

    async def list(self, prefix: str, start_after: str, limit: int) -> list[BlobEntry]:
        """List keys."""
        return await self._call("list", lambda: self._driver.list(prefix, start_after, limit))

    async def copy(self, source: str, if_match: str, key: str, options: WriteOptions) -> Stored:
        """Copy inside the store."""
        driver = self._driver
        assert isinstance(driver, CopyPower)
        return await self._call("copy", lambda: driver.copy(source, if_match, key, options))

    async def delete_if(self, key: str, if_match: str) -> None:
        """Delete pinned bytes."""
        driver = self._driver
        assert isinstance(driver, ConditionalDeletePower)
        await self._call("delete_if", lambda: driver.delete_if(key, if_match))

    async def sign_get(
        self, key: str, now: datetime, lasting_seconds: int, content_type: str | None, disposition: str | None
    ) -> Signed:
        """No call to the store: a layer has its say in `_sign` only."""
        driver = self._driver
        assert isinstance(driver, SignPower)
        return await self._sign(lambda: driver.sign_get(key, now, lasting_seconds, content_type, disposition))

    async def sign_put(self, key: str, now: datetime, lasting_seconds: int, bound: Bound) -> Signed:
        """Likewise."""
        driver = self._driver
        assert isinstance(driver, SignPower)
        return await self._sign(lambda: driver.sign_put(key, now, lasting_seconds, bound))

    async def sign_part(
        self, key: str, upload: str, number: int, now: datetime, lasting_seconds: int, size_bytes: int | None
    ) -> Signed:
        """Likewise."""
        return await self._sign(lambda: self._parts.sign_part(key, upload, number, now, lasting_seconds, size_bytes))

    async def create_multipart(self, key: str, options: WriteOptions) -> str:
        """Begin an upload in parts."""
        return await self._call("create_multipart", lambda: self._parts.create_multipart(key, options))

    async def put_part(self, key: str, upload: str, number: int, chunks: AsyncIterator[bytes], size_bytes: int) -> Part:
        """Store a part."""
        return await self._call("put_part", lambda: self._parts.put_part(key, upload, number, chunks, size_bytes))

    async def list_parts(self, key: str, upload: str) -> Sequence[Part]:
        """What has arrived."""
        return await self._call("list_parts", lambda: self._parts.list_parts(key, upload))

    async def complete_multipart(self, key: str, upload: str, parts: Sequence[Part], options: WriteOptions) -> Stored:
        """Make the object."""
        return await self._call(
            "complete_multipart", lambda: self._parts.complete_multipart(key, upload, parts, options)
        )

    async def abort_multipart(self, key: str, upload: str) -> None:
        """Forget an upload."""
        await self._call("abort_multipart", lambda: self._parts.abort_multipart(key, upload))

    async def open_multiparts(self, key: str) -> Sequence[OpenMultipart]:
        """What is open."""
        return await self._call("open_multiparts", lambda: self._parts.open_multiparts(key))

    @property
    def _parts(self) -> MultipartPower:
        assert isinstance(self._driver, MultipartPower)
        return self._driver

    async def settings(self) -> BucketSettings:
        """What the bucket does by itself; all unknown where the driver cannot ask."""
        driver = self._driver
        return await self._call("settings", driver.settings) if isinstance(driver, SettingsPower) else BucketSettings()

    async def now(self) -> datetime:
        """The store's clock."""
        return await self._call("now", self._driver.now)

    async def close(self) -> None:
        """Close the driver inside."""
        await self._driver.close()


class StoreMetrics:
    """Prometheus metrics of all stores of one process; make it once per registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.seconds = Histogram(
            "prism_store_call_seconds",
            "Time of calls to blob stores; of a put the whole transfer, of a get until the first byte can be read.",
            ["store", "call", "outcome"],
            buckets=_BUCKETS,
            registry=registry,
        )


class Observe(Layer):
    """Counts and times the calls to one store by what came of them."""

    def __init__(self, driver: Driver, metrics: StoreMetrics, store: str) -> None:
        super().__init__(driver)
        self._seconds = metrics.seconds
        self._store = store
        self._children: dict[tuple[str, str], Histogram] = {}

    async def _call(self, name: str, do: Callable[[], Awaitable[T]]) -> T:
        started = time.perf_counter()
        outcome = "ok"
        try:
            return await do()
        except BaseException as error:
            outcome = next((text for kind, text in _OUTCOMES if isinstance(error, kind)), "failed")
            raise
        finally:
            self._child(name, outcome).observe(time.perf_counter() - started)

    def _child(self, name: str, outcome: str) -> Histogram:
        child = self._children.get((name, outcome))
        if child is None:
            child = self._children[name, outcome] = self._seconds.labels(self._store, name, outcome)
        return child


class Retry(Layer):
    """Repeats calls that failed for a moment, a few times, after waits that grow and vary.

    A body of up to `held_bytes` is held and sent again; a longer one is sent once. The gate is asked anew before each
    attempt (no write starts after the writer's time), `observe` sees each piece once. `budget` retries may be under way
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
        budget: int = 50,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        super().__init__(driver)
        self._transient = transient
        self._attempts = attempts
        self._first_wait = first_wait_seconds
        self._longest_wait = longest_wait_seconds
        self._held_bytes = held_bytes
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
        held, whole = await self._hold(chunks)
        if not whole:
            return await self._driver.put(key, _chained(held, chunks), options)
        return await self._send(options, lambda asked: self._driver.put(key, _chained(held, None), asked))

    async def put_part(self, key: str, upload: str, number: int, chunks: AsyncIterator[bytes], size_bytes: int) -> Part:
        """Likewise; a part that is sent twice is one part."""
        held, whole = await self._hold(chunks)
        if not whole:
            return await self._parts.put_part(key, upload, number, _chained(held, chunks), size_bytes)
        return await self._call(
            "put_part", lambda: self._parts.put_part(key, upload, number, _chained(held, None), size_bytes)
        )

    async def _hold(self, chunks: AsyncIterator[bytes]) -> tuple[list[bytes], bool]:
        """The body as far as it is held, and whether that is all of it."""
        held: list[bytes] = []
        size = 0
        async for chunk in chunks:
            held.append(chunk)
            size += len(chunk)
            if size > self._held_bytes:
                return held, False
        return held, True

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


async def _chained(held: Sequence[bytes], rest: AsyncIterator[bytes] | None) -> AsyncIterator[bytes]:
    for chunk in held:
        yield chunk
    if rest is not None:
        async for chunk in rest:
            yield chunk


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
