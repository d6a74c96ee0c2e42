"""Port 1, bytes: `BlobStore` is the front door, `open_blob` makes one from a namespace's store configuration.

The front door checks keys, cuts what callers send into pieces that drivers take (at most 8 MiB, never empty), splits
long deletions, and maps what a driver raises. `NotFound`, `EtagMismatch`, `AlreadyExists`, `BadPart` come out as they
are, the caller decides what they mean; an exception of the caller's own chunks or gate comes out unchanged; all else is
STORE_DOWN. It holds no state and does not retry: layers do (`layers.py`).
"""

import errno
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime
from typing import TypeVar

import msgspec

from ..config import AzureStore, GCSStore, LocalStore, MemoryStore, RemoteStore, S3Store, StoreConfig
from ..errors import ErrorCode, PrismError
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
from .found import Abilities, Found
from .layers import Guarded, Limit, Observe, Retry, StoreMetrics, Timeout

__all__ = ["BlobStore", "Driver", "StoreMetrics", "check_physical", "mapped", "open_blob"]

T = TypeVar("T")
MAX_PIECE_BYTES = 8 * 2**20
_MAX_KEY_BYTES = 1024
_MAX_KEYS = 1000
_SAID = {
    errno.EROFS: "the store is read-only at the moment; nothing was stored",
    errno.EIO: "the store's disk reports an error; nothing was stored",
    errno.EACCES: "the store does not let Prism in; nothing was stored",
    errno.ESTALE: "the store's folder is gone",
}
_MANGLED = re.compile(r"[\x00-\x1f\x7f]|\A/|/\Z|//|(?:\A|/)\.{1,2}(?:/|\Z)")


def _as_it_is(driver: Driver) -> Driver:
    return driver


async def open_blob(
    store: StoreConfig,
    *,
    name: str = "",
    metrics: StoreMetrics | None = None,
    wrap: Callable[[Driver], Driver] = _as_it_is,
    found: Abilities | None = None,
) -> "BlobStore":
    """Open a namespace's store. `name` labels its metrics, `wrap` puts a layer round the bare driver (tests), `found`
    is what a probe found of this very server, which counts more than what its kind usually can.

    A remote store is asked nothing yet. STORE_DOWN when a local folder cannot be used.
    """
    driver = wrap(await _open_driver(store))
    if found is not None:
        driver = Found(driver, found)
    if isinstance(store, RemoteStore):
        bounded = Timeout(driver, seconds=store.request_seconds)
        driver = Retry(Limit(bounded, concurrent=store.max_connections))
    return BlobStore(driver if metrics is None else Observe(driver, metrics, name))


async def _open_driver(store: StoreConfig) -> Driver:
    match store:
        case MemoryStore():
            from .memory import MemoryDriver

            return MemoryDriver()
        case LocalStore():
            return await _open_local(store)
        case S3Store():
            from .s3 import open_s3

            return await open_s3(store)
        case GCSStore():
            from .gcs import open_gcs

            return await open_gcs(store)
        case AzureStore():
            from .azure import open_azure

            return await open_azure(store)


async def _open_local(store: LocalStore) -> Driver:
    from .local import open_local

    try:
        return await open_local(store.root)
    except OSError as error:
        what = f"cannot be used: {error.strerror}"
        raise PrismError(ErrorCode.STORE_DOWN, f"the store's folder {str(store.root)!r} {what}") from error


class BlobStore:
    """A namespace's bytes. Keys are physical keys from `prism.keys`."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    @property
    def capabilities(self) -> Capabilities:
        """What the store can do."""
        return self._driver.capabilities

    async def put(self, key: str, chunks: AsyncIterator[bytes], options: WriteOptions) -> Stored:
        """Store the whole of `chunks` (pieces of any size), durable when it returns, visible whole or not at all.

        Raises `AlreadyExists` with `create_only`; what `chunks` or the gate raises; STORE_DOWN.
        """
        check_physical(key)
        caller = _Caller(chunks, options)
        pieces = caller.pieces()
        try:
            return await caller.call(self._driver.put(key, pieces, caller.options))
        finally:
            await pieces.aclose()

    async def get(self, key: str, byte_range: ByteRange | None = None, if_match: str | None = None) -> Opened:
        """Open the bytes; a range must lie inside the object. Raises `NotFound`, `EtagMismatch`, STORE_DOWN."""
        try:
            opened = await self._driver.get(key, byte_range, if_match)
        except Exception as error:
            raise mapped(error) from error
        return Opened(opened.info, _MappedBody(opened.body))

    async def head(self, key: str) -> BlobInfo | None:
        """What the store says of the key; None when nothing lies there."""
        try:
            return await self._driver.head(key)
        except NotFound:
            return None
        except Exception as error:
            raise mapped(error) from error

    async def delete_many(self, keys: Sequence[str]) -> list[DeleteResult]:
        """Delete any number of keys; absent is fine. A result per key in the given order; its error is mapped."""
        results: list[DeleteResult] = []
        for start in range(0, len(keys), _MAX_KEYS):
            batch = keys[start : start + _MAX_KEYS]
            try:
                done = await self._driver.delete_many(batch)
            except Exception as error:
                raise mapped(error) from error
            results += (r if r.error is None else DeleteResult(r.key, mapped(r.error)) for r in done)
        return results

    async def list(self, prefix: str, start_after: str = "", limit: int = _MAX_KEYS) -> list[BlobEntry]:
        """At most `limit` (1 to 1,000) keys with `prefix` after `start_after`, in byte order."""
        try:
            return await self._driver.list(prefix, start_after, max(1, min(limit, _MAX_KEYS)))
        except Exception as error:
            raise mapped(error) from error

    async def copy(self, source: str, if_match: str, key: str, options: WriteOptions) -> Stored:
        """Copy inside the store, pinned to the source's etag; `NotFound` or `EtagMismatch` when that changed.

        UNIMPLEMENTED where `capabilities.copy` is false.
        """
        check_physical(key)
        driver = self._driver
        if not self.capabilities.copy or not isinstance(driver, CopyPower):
            raise PrismError(ErrorCode.UNIMPLEMENTED, "this store cannot copy by itself")
        caller = _Caller(None, options)
        return await caller.call(driver.copy(source, if_match, key, caller.options))

    async def delete_if(self, key: str, if_match: str) -> None:
        """Delete the pinned bytes; absent is fine. `EtagMismatch` when others lie there; UNIMPLEMENTED where
        `capabilities.conditional_delete` is false."""
        driver = self._driver
        if not self.capabilities.conditional_delete or not isinstance(driver, ConditionalDeletePower):
            raise PrismError(ErrorCode.UNIMPLEMENTED, "this store cannot delete on condition")
        await _asked(driver.delete_if(key, if_match))

    async def sign_get(
        self,
        key: str,
        now: datetime,
        lasting_seconds: int,
        content_type: str | None = None,
        disposition: str | None = None,
    ) -> Signed:
        """A URL that reads the key, with these response headers when given. UNIMPLEMENTED where `capabilities.sign` is
        false; STORE_DOWN when there are no credentials to sign with at the moment."""
        return await _asked(self._signer.sign_get(key, now, lasting_seconds, content_type, disposition))

    async def sign_put(self, key: str, now: datetime, lasting_seconds: int, bound: Bound) -> Signed:
        """A URL that writes the key, bound to what of `bound` is in `capabilities.binds`."""
        check_physical(key)
        return await _asked(self._signer.sign_put(key, now, lasting_seconds, bound))

    async def create_multipart(self, key: str, options: WriteOptions) -> str:
        """Begin an object in parts; the gate's exception comes out unchanged. UNIMPLEMENTED where
        `capabilities.multipart` is false."""
        check_physical(key)
        caller = _Caller(None, options)
        return await caller.call(self._parts.create_multipart(key, caller.options))

    async def put_part(self, key: str, upload: str, number: int, chunks: AsyncIterator[bytes], size_bytes: int) -> Part:
        """Store one part of exactly `size_bytes`; `NotFound` when the upload is over."""
        caller = _Caller(chunks, WriteOptions())
        pieces = caller.pieces()
        try:
            return await caller.call(self._parts.put_part(key, upload, number, pieces, size_bytes))
        finally:
            await pieces.aclose()

    async def sign_part(
        self, key: str, upload: str, number: int, now: datetime, lasting_seconds: int, size_bytes: int | None = None
    ) -> Signed:
        """A URL that writes one part. UNIMPLEMENTED where `capabilities.sign` or `.multipart` is false."""
        assert self._signer
        return await _asked(self._parts.sign_part(key, upload, number, now, lasting_seconds, size_bytes))

    async def list_parts(self, key: str, upload: str) -> Sequence[Part]:
        """The parts that have arrived, by number; `NotFound` when the upload is over."""
        return await _asked(self._parts.list_parts(key, upload))

    async def complete_multipart(self, key: str, upload: str, parts: Sequence[Part], options: WriteOptions) -> Stored:
        """Make the object. `BadPart`, `AlreadyExists`, `NotFound` come out as they are, the gate's exception too."""
        check_physical(key)
        caller = _Caller(None, options)
        return await caller.call(self._parts.complete_multipart(key, upload, parts, caller.options))

    async def abort_multipart(self, key: str, upload: str) -> None:
        """Forget an upload and its parts; one that is over is fine."""
        await _asked(self._parts.abort_multipart(key, upload))

    async def open_multiparts(self, key: str) -> Sequence[OpenMultipart]:
        """The open uploads of this key; none where the store has no multipart uploads."""
        return await _asked(self._parts.open_multiparts(key)) if self.capabilities.multipart else ()

    @property
    def _signer(self) -> SignPower:
        if not self.capabilities.sign or not isinstance(self._driver, SignPower):
            raise PrismError(ErrorCode.UNIMPLEMENTED, "this store cannot sign URLs")
        return self._driver

    @property
    def _parts(self) -> MultipartPower:
        if not self.capabilities.multipart or not isinstance(self._driver, MultipartPower):
            raise PrismError(ErrorCode.UNIMPLEMENTED, "this store takes no objects in parts")
        return self._driver

    def behind(self, guard: Callable[[], None]) -> "BlobStore":
        """The same store; every call asks `guard` first, and fails with what that raises."""
        return BlobStore(Guarded(self._driver, guard))

    async def settings(self) -> BucketSettings:
        """What the bucket does with bytes by itself, as far as the store says."""
        driver = self._driver
        return await _asked(driver.settings()) if isinstance(driver, SettingsPower) else BucketSettings()

    async def now(self) -> datetime:
        """The store's clock."""
        try:
            return await self._driver.now()
        except Exception as error:
            raise mapped(error) from error

    async def close(self) -> None:
        """Release what the driver holds; reads under way fail."""
        await self._driver.close()


def check_physical(key: str) -> None:
    """ValueError for a key that `prism.keys` never lays out: a mistake of the program, not of a caller."""
    if not key or len(key.encode()) > _MAX_KEY_BYTES or _MANGLED.search(key):
        raise ValueError(f"not a physical key: {key[:80]!r}")


def mapped(error: Exception) -> Exception:
    """What leaves the front door for what a driver raised. The driver's own text stays behind: it may hold a URL."""
    match error:
        case NotFound() | EtagMismatch() | AlreadyExists() | BadPart() | PrismError():
            return error
        case NoSpace():
            return PrismError(
                ErrorCode.STORE_DOWN, "the store is full; nothing was stored", context={"cause": "NoSpace"}
            )
        case Throttled():
            wait = error.retry_after_seconds
            return PrismError(ErrorCode.STORE_DOWN, "the store asks to come back later", retry_after_seconds=wait)
        case TimeoutError():
            return PrismError(ErrorCode.STORE_DOWN, "the store does not answer in time")
        case OSError(errno=errno.ENAMETOOLONG):
            return PrismError(ErrorCode.INVALID_ARGUMENT, "a part of the key is too long for the store's filesystem")
        case OSError(errno=number) if number in _SAID:
            return PrismError(ErrorCode.STORE_DOWN, _SAID[number], context={"cause": errno.errorcode[number]})
        case _:
            cause = {"cause": type(error).__name__}
            return PrismError(ErrorCode.STORE_DOWN, "the store fails at the moment; try again", context=cause)


async def _asked(call: Awaitable[T]) -> T:
    try:
        return await call
    except Exception as error:
        raise mapped(error) from error


class _Caller:
    """What belongs to the caller of one write: its chunks and gate, and the exception that came from them."""

    def __init__(self, chunks: AsyncIterator[bytes] | None, options: WriteOptions) -> None:
        self.error: Exception | None = None
        self._chunks = chunks
        self._gate = options.gate
        self.options = options if options.gate is None else msgspec.structs.replace(options, gate=self._pass)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The chunks as drivers take them."""
        assert self._chunks is not None
        try:
            async for chunk in self._chunks:
                if not chunk:
                    continue
                if len(chunk) <= MAX_PIECE_BYTES:
                    yield chunk
                    continue
                whole = memoryview(chunk)
                for start in range(0, len(whole), MAX_PIECE_BYTES):
                    yield whole[start : start + MAX_PIECE_BYTES]  # type: ignore[misc]  # drivers take views
        except Exception as error:
            self.error = error
            raise

    async def call(self, call: Awaitable[T]) -> T:
        """The driver's answer; what the caller raised comes out as it is, all else mapped."""
        try:
            return await call
        except Exception as error:
            if error is self.error:
                raise
            raise mapped(error) from error

    async def _pass(self) -> None:
        assert self._gate is not None
        try:
            await self._gate()
        except Exception as error:
            self.error = error
            raise


class _MappedBody:
    """A driver's body whose failures leave as `PrismError`."""

    __slots__ = ("_body",)

    def __init__(self, body: Body) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._body:
                yield chunk
        except Exception as error:
            raise mapped(error) from error

    async def aclose(self) -> None:
        """Release the read."""
        await self._body.aclose()
