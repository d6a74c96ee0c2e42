"""The contract of a blob driver: immutable bytes under names.

The front door (`BlobStore`) validates, bounds, times and maps errors; a driver may assume clean input and raises
`NotFound`, `EtagMismatch`, `AlreadyExists`, `NoSpace`, `Throttled`, or what its library raises (mapped to STORE_DOWN).
The caller guarantees: keys come from `prism.keys` (1 to 1,024 bytes of UTF-8, nothing a filesystem mangles: no empty,
`.` or `..` segment, no control character, no leading or trailing `/`), a key is written at most once unless it was
deleted, ranges lie inside the object, chunks are non-empty `bytes` or `memoryview`s of at most 8 MiB.
A driver must keep memory bounded whatever the size of the object or the speed of the other side, leave nothing of a put
that failed or was cancelled before its bytes were visible, and clear at start what it wrote aside before a crash. A
listing may meet keys that nobody here laid out (`a//b`, `/a`, control characters): it gives them as they are, and reads
and deletes of keys taken from a listing work.

Rare powers are protocols of their own, each with its capability: `CopyPower`, `SignPower` (URLs that the store verifies
itself) and `MultipartPower` (objects that come in parts, from several requests). A driver without one lacks its methods
or declares that it cannot.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol, runtime_checkable

import msgspec

from ..model import Bindable, ByteRange

__all__ = [
    "AlreadyExists",
    "BadPart",
    "BlobEntry",
    "BlobInfo",
    "Body",
    "Bound",
    "BucketSettings",
    "Capabilities",
    "ConditionalDeletePower",
    "CopyPower",
    "DeleteResult",
    "Driver",
    "EtagMismatch",
    "MultipartPower",
    "NoSpace",
    "NotFound",
    "OpenMultipart",
    "Opened",
    "Part",
    "SettingsPower",
    "SignPower",
    "Signed",
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


class BadPart(Exception):
    """Parts that do not make an object: one is missing, too small, or its etag or checksum is another. Says which."""


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a driver can do beyond the required verbs, and how late its writes may land."""

    sign: bool = False
    """The store verifies presigned URLs itself (`SignPower`); else URLs point to Prism's own S3 API."""
    binds: frozenset[Bindable] = frozenset()
    """What a presigned PUT can be bound to. Without `create_only` a URL may write twice."""
    may_bind: frozenset[Bindable] = frozenset()
    """What else it could be bound to on a server that insists on it; a probe of that very server tells."""
    multipart: bool = False
    """Objects may come in parts (`MultipartPower`)."""
    smallest_part_bytes: int = 1
    """Of every part but the last."""
    largest_part_bytes: int = 5 * 2**30
    most_parts: int = 10_000
    tags: bool = False
    """`WriteOptions.tags` are kept beside the bytes."""
    copy: bool = False
    """Server-side copy pinned to an etag (`CopyPower`)."""
    conditional_put: bool = False
    """`create_only` puts are refused by the store itself when the key exists."""
    conditional_delete: bool = False
    """`delete_if` spares bytes that are others than the caller pinned."""
    open_survives_delete: bool = False
    """An opened read goes on after the key was deleted, so deleted bytes need no read grace."""
    returned_write_is_final: bool = False
    """Bytes of a put that returned cannot land again later (no request of it is still under way anywhere)."""
    times_cut_seconds: float = 0.0
    """Up to this much later than the store tells (`landed_at`) something may have happened: its times have no more
    digits."""
    late_write_seconds: float = 60.0
    """How long after a writer's last permitted start its bytes may still appear (request timeout; plus 900 s where the
    store accepts signed headers that long)."""


class WriteOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a put is to be done.

    `gate` is awaited before anything becomes visible under the key, after `observe` saw all bytes of the body (a local
    store before its rename, a remote one before the request that makes the object). A driver that sends a long body in
    parts awaits it once more before it begins (a crash would leave an open multipart upload); a retry awaits it again
    before it writes again. When it raises, the put fails with that exception and leaves nothing. `observe` is called
    with each chunk, once, in order, off the event loop where the driver writes in threads (this is where hashing goes).
    """

    content_type: str = ""
    metadata: Mapping[str, str] = {}
    """User metadata and Prism's own fields together, kept beside the bytes for `catalog rebuild`. Names are lower-case
    ASCII, values any text: the driver encodes what its store's headers cannot carry, and gives it back as it was. What
    does not fit into the store's limit (S3: 2 KB in all) is left away, Prism's own fields (`prism-…`) last."""
    tags: Mapping[str, str] = {}
    """The store's own object tags, where it has them (`capabilities.tags`); else they are left away."""
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
    crc32c: str | None = None
    """Of the whole content, where the store computed or verified it itself: base64 of the big-endian CRC-32C."""
    sha256: str | None = None
    """Likewise, hex."""
    md5: str | None = None
    """Likewise, hex."""
    offline: bool = False
    """The bytes lie in a tier from which nothing can be read or copied (others may send theirs there)."""


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


@runtime_checkable
class ConditionalDeletePower(Protocol):
    """Drivers with `capabilities.conditional_delete`."""

    async def delete_if(self, key: str, if_match: str) -> None:
        """Delete bytes while they are the pinned ones: absent is fine, `EtagMismatch` when others lie there now."""
        ...


class BucketSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a bucket does with bytes by itself. None: this store does not say, or does not let us ask."""

    versioning: bool | None = None
    """Overwritten and deleted bytes stay as versions of the store's own, so deletions free nothing."""
    object_lock: bool | None = None
    """Bytes cannot be deleted before their retention ends."""
    soft_delete_seconds: int | None = None
    """How long deleted bytes are kept and charged; 0: not at all."""
    expires_objects: bool | None = None
    """A lifecycle rule of the bucket deletes or moves objects by itself, behind Prism's back."""
    aborts_uploads_days: int | None = None
    """After so many days the bucket aborts open multipart uploads; 0: never."""


@runtime_checkable
class SettingsPower(Protocol):
    """Drivers that can ask what the bucket does by itself."""

    async def settings(self) -> BucketSettings:
        """The bucket's settings now. What the credentials may not ask is None."""
        ...


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """What a presigned PUT is to insist on. A driver binds of it what its `capabilities.binds` name and leaves out the
    rest: the caller knows what that is, and checks it when it recognises the bytes."""

    create_only: bool = False
    size_bytes: int | None = None
    content_type: str = ""
    metadata: Mapping[str, str] = {}
    tags: Mapping[str, str] = {}
    sha256: str | None = None
    """Hex."""
    crc32c: str | None = None
    """Base64."""
    md5: str | None = None
    """Hex."""


class Signed(msgspec.Struct, frozen=True):
    """A presigned request: send exactly these headers with it (more are allowed where the store allows them)."""

    url: str
    headers: Mapping[str, str] = {}


@runtime_checkable
class SignPower(Protocol):
    """Drivers with `capabilities.sign`. No request is made, but credentials may be refreshed. `lasting_seconds` is 1 to
    3600, `now` the caller's clock. URLs name the host that clients see (`public_endpoint` where it is given)."""

    async def sign_get(
        self, key: str, now: datetime, lasting_seconds: int, content_type: str | None, disposition: str | None
    ) -> Signed:
        """A GET of the whole object or of ranges, answered with these response headers when they are given."""
        ...

    async def sign_put(self, key: str, now: datetime, lasting_seconds: int, bound: Bound) -> Signed:
        """A PUT of the whole object."""
        ...


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One part of a multipart upload as the store took it. Numbers begin with 1."""

    number: int
    etag: str
    size_bytes: int
    crc32c: str | None = None


class OpenMultipart(msgspec.Struct, frozen=True):
    """A multipart upload that is neither complete nor aborted."""

    key: str
    upload: str
    started_at: datetime


@runtime_checkable
class MultipartPower(Protocol):
    """Drivers with `capabilities.multipart`: an object that comes in parts, by several requests, invisible until it is
    completed. `upload` is the store's own name of it. Content type, metadata and tags are given both to
    `create_multipart` and to `complete_multipart`, the same ones: stores keep those of one or the other."""

    async def create_multipart(self, key: str, options: WriteOptions) -> str:
        """Begin; `options.gate` is awaited before. Returns the upload's name, which goes into signed URLs."""
        ...

    async def put_part(self, key: str, upload: str, number: int, chunks: AsyncIterator[bytes], size_bytes: int) -> Part:
        """Store one part of `size_bytes`, through Prism. A part sent again replaces the first. `BadPart` when the bytes
        are more or fewer, and nothing is stored then; `NotFound` when the upload is over."""
        ...

    async def sign_part(
        self, key: str, upload: str, number: int, now: datetime, lasting_seconds: int, size_bytes: int | None
    ) -> Signed:
        """A PUT of one part, bound to its size where the store can (`capabilities.sign`)."""
        ...

    async def list_parts(self, key: str, upload: str) -> Sequence[Part]:
        """The parts that have arrived, by number. `NotFound` when the upload is over."""
        ...

    async def complete_multipart(self, key: str, upload: str, parts: Sequence[Part], options: WriteOptions) -> Stored:
        """Make the object of these parts, which are in the order of their numbers (gaps are fine), and forget the
        others; `options.gate` is awaited before. `BadPart` when they do not make one, `AlreadyExists` where the key is
        taken (with `create_only`): the upload stays open then. `NotFound` when it is over."""
        ...

    async def abort_multipart(self, key: str, upload: str) -> None:
        """Forget the upload and its parts; one that is over is fine."""
        ...

    async def open_multiparts(self, key: str) -> Sequence[OpenMultipart]:
        """The open uploads of exactly this key, for whoever removes what a writer or a client left behind."""
        ...
