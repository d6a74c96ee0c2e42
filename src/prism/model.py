"""Frozen values that the rooms hand each other: what an object is, what a caller asks, what a page holds.

Wire messages are turned into these once, at the edge. Times are aware `datetime`s in UTC, sizes are bytes. This module
knows no other room and does nothing but hold and check values.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal

import msgspec

__all__ = [
    "Action",
    "Bindable",
    "ByteRange",
    "Caller",
    "Conditions",
    "CopyOptions",
    "Declared",
    "ExpiringObject",
    "ExpiringPage",
    "ListPage",
    "ObjectInfo",
    "ObjectRef",
    "Precondition",
    "PresignedURL",
    "Principal",
    "PutOptions",
    "RangeSpec",
    "Usage",
]


Bindable = Literal["create_only", "size", "content_type", "metadata", "sha256", "crc32c", "md5"]
"""What a signed PUT may insist on, so that the store itself refuses everything else."""


class Frozen(msgspec.Struct, frozen=True, kw_only=True):
    """Base of the values below: immutable, built by keyword."""


class ObjectRef(msgspec.Struct, frozen=True):
    """The name of an object as a caller says it. An empty `bucket` means the namespace's own bucket."""

    namespace: str
    bucket: str
    key: str


class Principal(Frozen, frozen=True):
    """Who calls. `kind` is `anonymous` (embedded default), `access_key` (S3 key pair) or `presigned` (a signed URL)."""

    name: str
    kind: str
    namespaces: frozenset[str] | None = None
    """The namespaces this credential is good for; None: not bound to any."""


class Caller(Frozen, frozen=True):
    """One request: its principal, its id (in every error, log line and audit record) and the API it came through."""

    principal: Principal
    request_id: str
    api: str


class Action(StrEnum):
    """What the decision function is asked for; the audit record names it too."""

    PUT = "object.put"
    GET = "object.get"
    HEAD = "object.head"
    DELETE = "object.delete"
    COPY_SOURCE = "object.copy_source"
    LIST = "object.list"
    PRESIGN_GET = "object.presign_get"
    PRESIGN_PUT = "object.presign_put"
    PRESIGN_DELETE = "object.presign_delete"
    CREATE_UPLOAD = "upload.create"
    READ_UPLOAD = "upload.read"
    SIGN_PARTS = "upload.sign_parts"
    PUT_PART = "upload.put_part"
    COMPLETE_UPLOAD = "upload.complete"
    ABORT_UPLOAD = "upload.abort"
    LIST_UPLOADS = "upload.list"
    DELETE_PREFIX = "prefix.delete"
    LIST_EXPIRING = "namespace.list_expiring"
    USAGE = "namespace.usage"
    LIST_NAMESPACES = "namespace.list"
    LIST_BUCKETS = "bucket.list"
    HEAD_BUCKET = "bucket.head"
    CREATE_BUCKET = "bucket.create"
    DELETE_BUCKET = "bucket.delete"
    READ_DOCS = "server.docs"
    READ_HEALTH = "server.health"
    READ_METRICS = "server.metrics"
    READ_UI = "server.ui"


class ObjectInfo(Frozen, frozen=True):
    """What is known of one object; the bytes are elsewhere.

    `etag` carries no quotes; it is an MD5 hex digest only when it has no dash (RFC 9110 section 8.8.3; S3's habit).
    `version_id` names this very content, `versioned` says whether the namespace keeps versions (then it is shown).
    """

    namespace: str
    bucket: str
    key: str
    size_bytes: int
    etag: str
    content_type: str
    metadata: Mapping[str, str]
    last_modified: datetime
    expires_at: datetime | None
    version_id: str
    versioned: bool
    crc32c: str | None = None
    """Base64 of the big-endian CRC-32C of the whole content, as S3 and GCS write it."""
    sha256: str | None = None
    """Hex digest, when it was declared or asked for."""

    @property
    def object_id(self) -> str:
        """What every API calls it."""
        return f"{self.namespace}/{self.bucket}/{self.key}"


class RangeSpec(Frozen, frozen=True):
    """A range as asked: `start` and inclusive `end`, or the last `suffix` bytes (RFC 9110 section 14.1.2)."""

    start: int | None = None
    end: int | None = None
    suffix: int | None = None


class ByteRange(msgspec.Struct, frozen=True):
    """A range as served, within the object: offset and length in bytes."""

    offset: int
    length: int


class Precondition(Frozen, frozen=True):
    """What must hold of the current object for a write (`If-Match`, `If-None-Match: *`), judged at commit."""

    if_match: tuple[str, ...] | None = None
    """Etags without quotes; `("*",)`: any current object."""
    if_none_match: tuple[str, ...] | None = None
    """Etags that must not be current; `("*",)`: put-if-absent."""


class Conditions(Frozen, frozen=True):
    """The conditional headers of a read (RFC 9110 section 13.1), evaluated in the order of section 13.2.2."""

    if_match: tuple[str, ...] | None = None
    if_none_match: tuple[str, ...] | None = None
    if_modified_since: datetime | None = None
    if_unmodified_since: datetime | None = None
    if_range: str | datetime | None = None
    """A range is served only while the object has this etag, or this very modification time; else the whole object."""


class Declared(Frozen, frozen=True):
    """What the writer says beforehand; bytes that differ are refused (CHECKSUM_MISMATCH, SIZE_MISMATCH)."""

    size_bytes: int | None = None
    sha256: str | None = None
    """Hex."""
    crc32c: str | None = None
    """Base64 of 4 bytes, big-endian."""
    md5: str | None = None
    """Hex."""


class PutOptions(Frozen, frozen=True):
    """Everything about a put but its name and its bytes.

    `ttl`: None takes the namespace's default; `no_expiration` is allowed only where the namespace says so.
    `md5_etag`: make the etag the MD5 of the content (S3 clients compare it); costs CPU, so only the S3 API asks.
    """

    content_type: str = ""
    metadata: Mapping[str, str] = {}
    ttl: timedelta | None = None
    no_expiration: bool = False
    precondition: Precondition = Precondition()
    declared: Declared = Declared()
    md5_etag: bool = False
    want_sha256: bool = False


class CopyOptions(Frozen, frozen=True):
    """A copy keeps content type and metadata unless given; its TTL is the destination's default unless given."""

    ttl: timedelta | None = None
    no_expiration: bool = False
    content_type: str | None = None
    metadata: Mapping[str, str] | None = None
    precondition: Precondition = Precondition()
    source_if_match: tuple[str, ...] | None = None


class ListPage(Frozen, frozen=True):
    """One page in byte order of the keys. It may be short, even empty, while `next_token` is not None."""

    objects: tuple[ObjectInfo, ...]
    common_prefixes: tuple[str, ...]
    next_token: str | None


class ExpiringObject(Frozen, frozen=True):
    """A live object that is due within the window asked for."""

    bucket: str
    key: str
    size_bytes: int
    expires_at: datetime


class ExpiringPage(Frozen, frozen=True):
    """Objects in the order of their expiry."""

    objects: tuple[ExpiringObject, ...]
    next_token: str | None


class PresignedURL(Frozen, frozen=True):
    """`headers` are the headers that are bound by the signature and must be sent as given (none but Host by
    default)."""

    url: str
    method: str
    expires_at: datetime
    headers: Mapping[str, str] = {}


class Usage(Frozen, frozen=True):
    """What a namespace holds, from counters: rows referenced, kept versions and not yet purged ones included."""

    namespace: str
    objects: int
    size_bytes: int
