"""The contract of a blob driver: immutable bytes under names.

The front door (`BlobStore`) validates, bounds, times and maps errors; a driver may assume clean input and raises
`NotFound`, `EtagMismatch`, `AlreadyExists`, `NoSpace`, `Throttled`, or what its library raises (mapped to STORE_DOWN).
The caller guarantees: keys come from `prism.keys` (1 to 1,024 bytes of UTF-8, nothing a filesystem mangles: no empty,
`.` or `..` segment, no control character, no leading or trailing `/`), a key is written at most once unless it was
deleted, ranges lie inside the object, chunks are non-empty `bytes` or `memoryview`s of at most 8 MiB.
A driver must keep memory bounded whatever the size of the object or the speed of the other side, leave nothing of a put
that failed or was cancelled before its bytes were visible, and clear at start what it wrote aside before a crash.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol, runtime_checkable

import msgspec

from ..model import ByteRange

__all__ = [
    "AlreadyExists",
    "BlobEntry",
    "BlobInfo",
    "Body",
    "Capabilities",
    "CopyPower",
    "DeleteResult",
    "Driver",
    "EtagMismatch",
    "NoSpace",
    "NotFound",
    "Opened",
    "Stored",
    "Throttled",
    "WriteOptions",
]


class NotFound(Exception):
    """No bytes under this key."""


class EtagMismatch(Exception):
    """The bytes under the key are others than the caller pinned (`if_match`)."""


class AlreadyExists(Exception):
    """A create-only put found bytes under the key; nothing was changed."""


class NoSpace(Exception):
    """The store is full; nothing became visible."""


class Throttled(Exception):
    """The store asks to come back later."""

    def __init__(self, retry_after_seconds: float | None = None) -> None:
        super().__init__("throttled")
        self.retry_after_seconds = retry_after_seconds


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a driver can do beyond the required verbs, and how late its writes may land."""

    sign: bool = False
    """The store verifies presigned URLs itself; else URLs point to Prism's own S3 API."""
    copy: bool = False
    """Server-side copy pinned to an etag (`CopyPower`)."""
    conditional_put: bool = False
    """`create_only` puts are refused by the store itself when the key exists."""
    conditional_delete: bool = False
    open_survives_delete: bool = False
    """An opened read goes on after the key was deleted, so deleted bytes need no read grace."""
    returned_write_is_final: bool = False
    """Bytes of a put that returned cannot land again later (no request of it is still under way anywhere)."""
    late_write_seconds: float = 60.0
    """How long after a writer's last permitted start its bytes may still appear (request timeout; plus 900 s where the
    store accepts signed headers that long)."""


class WriteOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a put is to be done.

    `gate` is awaited once before anything becomes visible under the key (a local store before its rename, a remote one
    before its first byte), after `observe` saw all that was written by then; a retry awaits it again before it writes
    again. When it raises, the put fails with that exception and leaves nothing. `observe` is called
    with each chunk, once, in order, off the event loop where the driver writes in threads (this is where hashing goes).
    """

    content_type: str = ""
    metadata: Mapping[str, str] = {}
    """User metadata and Prism's own fields together; stored beside the bytes for `catalog rebuild`."""
    create_only: bool = True
    gate: Callable[[], Awaitable[None]] | None = None
    observe: Callable[[bytes], None] | None = None


class Stored(msgspec.Struct, frozen=True):
    """A finished put: the store's own etag (pins reads) and the size in bytes."""

    etag: str
    size_bytes: int


class BlobInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What the store says of one key. `landed_at` is the store's clock when the bytes became visible."""

    etag: str
    size_bytes: int
    landed_at: datetime
    content_type: str = ""
    metadata: Mapping[str, str] = {}


class BlobEntry(msgspec.Struct, frozen=True):
    """One listed key."""

    key: str
    size_bytes: int
    etag: str
    landed_at: datetime


class DeleteResult(msgspec.Struct, frozen=True):
    """Of one key: None when its bytes are gone (absent is fine), else why not."""

    key: str
    error: Exception | None = None


class Body(Protocol):
    """An opened read: iterate once, in chunks of at most 1 MiB; `aclose` releases it at any time, twice too."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> None: ...


class Opened(msgspec.Struct, frozen=True):
    """A read that has begun: what the store says of the whole object, and the bytes asked for."""

    info: BlobInfo
    body: Body


class Driver(Protocol):
    """What a store must do to hold Prism's bytes."""

    @property
    def capabilities(self) -> Capabilities: ...

    async def put(self, key: str, chunks: AsyncIterator[bytes], options: WriteOptions) -> Stored:
        """Store the whole of `chunks` under `key`, durable when it returns, visible whole or not at all.

        Raises `AlreadyExists` with `create_only`. An exception from `chunks` or the gate comes out unchanged. A put
        that fails or is cancelled takes nothing back that was visible: somebody may have referenced it.
        """
        ...

    async def get(self, key: str, byte_range: ByteRange | None, if_match: str | None) -> Opened:
        """Open the bytes (a zero-length object gives an empty body). `if_match` pins the store's etag."""
        ...

    async def head(self, key: str) -> BlobInfo:
        """What the store says of a key; those bytes are durable when it returns, since a reference may follow."""
        ...

    async def delete_many(self, keys: Sequence[str]) -> list[DeleteResult]:
        """Delete; idempotent; a result per key in the given order; durable when it returns. At most 1,000 keys."""
        ...

    async def list(self, prefix: str, start_after: str, limit: int) -> list[BlobEntry]:
        """At most `limit` keys with `prefix` that sort after `start_after` (by UTF-8 bytes), in that order."""
        ...

    async def now(self) -> datetime:
        """The store's clock (a local store: the filesystem's), compared by the janitor with its own before deleting."""
        ...

    async def close(self) -> None: ...


@runtime_checkable
class CopyPower(Protocol):
    """Drivers with `capabilities.copy`."""

    async def copy(self, source: str, if_match: str, key: str, options: WriteOptions) -> Stored:
        """Copy inside the store; `EtagMismatch` or `NotFound` when the source changed. Never overwrites `key`."""
        ...
