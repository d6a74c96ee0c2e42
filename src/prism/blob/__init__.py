"""Port 1, bytes: `BlobStore` is the front door, `open_blob` makes one from a namespace's store configuration.

The front door checks keys, cuts what callers send into pieces that drivers take (at most 8 MiB, never empty), splits
long deletions, and maps what a driver raises. `NotFound`, `EtagMismatch` and `AlreadyExists` come out as they are, the
caller decides what they mean; an exception of the caller's own chunks or gate comes out unchanged; all else is
STORE_DOWN. It holds no state and does not retry: layers do (`layers.py`).
"""

import errno
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from datetime import datetime

import msgspec

from ..config import GCSStore, LocalStore, MemoryStore, S3Store, StoreConfig
from ..errors import ErrorCode, PrismError
from ..model import ByteRange
from .driver import (
    AlreadyExists,
    BlobEntry,
    BlobInfo,
    Body,
    Capabilities,
    CopyPower,
    DeleteResult,
    Driver,
    EtagMismatch,
    NoSpace,
    NotFound,
    Opened,
    Stored,
    Throttled,
    WriteOptions,
)
from .layers import Observe, StoreMetrics

__all__ = ["BlobStore", "Driver", "StoreMetrics", "check_physical", "mapped", "open_blob"]

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
) -> "BlobStore":
    """Open a namespace's store. `name` labels its metrics, `wrap` puts a layer round the bare driver (tests).

    Errors: UNIMPLEMENTED for a backend without a driver, STORE_DOWN when a local folder cannot be used.
    """
    driver: Driver
    if isinstance(store, MemoryStore):
        from .memory import MemoryDriver

        driver = MemoryDriver()
    elif isinstance(store, LocalStore):
        from .local import open_local

        try:
            driver = await open_local(store.root)
        except OSError as error:
            what = f"cannot be used: {error.strerror}"
            raise PrismError(ErrorCode.STORE_DOWN, f"the store's folder {str(store.root)!r} {what}") from error
    else:
        backend = "minio and s3" if isinstance(store, S3Store) else "gcs" if isinstance(store, GCSStore) else "azure"
        what = f"there is no driver yet for {backend}; allowed so far: local, memory"
        raise PrismError(ErrorCode.UNIMPLEMENTED, f"namespaces.{name}.backend: {what}")
    driver = wrap(driver)
    return BlobStore(driver if metrics is None else Observe(driver, metrics, name))


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
            return await self._driver.put(key, pieces, caller.options)
        except Exception as error:
            if error is caller.error:
                raise
            raise mapped(error) from error
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
        try:
            return await driver.copy(source, if_match, key, caller.options)
        except Exception as error:
            if error is caller.error:
                raise
            raise mapped(error) from error

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
        case NotFound() | EtagMismatch() | AlreadyExists() | PrismError():
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
