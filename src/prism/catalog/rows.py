"""Records and key layout of the catalog; nothing else builds or parses a catalog key.

All keys of a namespace begin with its name, so that they are one partition. Values are JSON that an operator can read;
counters are little-endian integers. Instants inside keys are microseconds since 1970, so that they sort.

    o bucket key            the current object            u bucket key vid     a client's promise (URL)
    v bucket key ordinal    kept older versions           w bucket key vid     a Prism process's promise
    g physical-key          condemned bytes               d due vid            when to look at a client's promise
    t due physical-key      when to delete them           e expiry bucket key  when an object expires
    k bucket folder         deletion marks                c                    deletion counter, number of marks
    b bucket                further buckets               n name               counters
    x stamp                 outbox                        l name               leases
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeVar

import msgspec

from ..errors import ErrorCode
from ..meta import Key
from ..model import Declared, Frozen, Precondition

__all__ = [
    "BucketRow",
    "Condemned",
    "LeaseRow",
    "MarkRow",
    "NamespaceRow",
    "ObjectRow",
    "PromiseRow",
    "Refused",
    "Rules",
    "VersionRow",
    "decode",
    "encode",
    "instant",
    "microseconds",
]

T = TypeVar("T", bound=msgspec.Struct)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Row(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of the records: frozen, JSON, defaults left out, unknown fields of a newer program ignored."""


class Rules(Frozen):
    """What the catalog must know of a namespace's configuration; all graces as in the configuration's `limits`."""

    namespace: str
    own_bucket: str
    versioning: bool = False
    events: bool = False
    clock_skew: timedelta = timedelta(seconds=5)
    max_transfer: timedelta = timedelta(seconds=3600)
    read_grace: timedelta = timedelta(seconds=10)
    """Between an unlink by the user and the first deletion of the bytes; zero where open reads survive deletion."""
    overwrite_grace: timedelta = timedelta(seconds=3600)
    expiry_grace: timedelta = timedelta(seconds=3600)
    late_write: timedelta = timedelta(seconds=60)
    """How long after its last permitted start a Prism process's write may still land."""
    returned_write_is_final: bool = False
    """A put that returned can land no second time, so its key is dead at once for its writer."""
    max_open_uploads: int = 32


class ObjectRow(Row):
    """The current content of a key, or a kept older one: where its bytes are and everything a reader must know."""

    physical_key: str
    version_id: str
    size_bytes: int
    etag: str
    store_etag: str
    content_type: str
    metadata: Mapping[str, str]
    modified_at: datetime
    generation: int
    dead: datetime
    """From then on no writer or URL can reach the physical key."""
    ordinal: int = 0
    """Place in the order of commits of this key, kept versions included."""
    expires_at: datetime | None = None
    crc32c: str | None = None
    sha256: str | None = None
    landed_at: datetime | None = None
    """The store's clock when the bytes arrived by URL; None when a Prism process wrote them."""


class VersionRow(Row):
    """One older version; `row` is None for the marker that a delete leaves."""

    row: ObjectRow | None
    at: datetime
    generation: int


class PromiseRow(Row):
    """Bytes that may land: where, by whom, until when, and what was declared about them."""

    bucket: str
    key: str
    version_id: str
    physical_key: str
    kind: Literal["process", "client"]
    bound: bool = False
    """The URL works once and its bytes stay where they land; a second use is refused, not a new write."""
    created_at: datetime
    writable_until: datetime
    dead: datetime
    generation: int = 0
    content_type: str = ""
    metadata: Mapping[str, str] = {}
    ttl_seconds: int | None = None
    declared: Declared = Declared()
    precondition: Precondition = Precondition()
    due: datetime | None = None
    """When the janitor looks at it next (client promises)."""


class Condemned(Row):
    """Bytes to be deleted at or after `due`, and once more when the key is dead if that is later."""

    due: datetime
    dead: datetime
    condemned_at: datetime
    reason: str
    store_etag: str | None = None
    size_bytes: int = 0


class MarkRow(Row):
    """A folder was deleted when the namespace's deletion counter rose to `counter`."""

    counter: int
    at: datetime


class NamespaceRow(Row):
    """The deletion counter and how many marks stand."""

    deletions: int = 0
    marks: int = 0


class BucketRow(Row):
    """A bucket beside the namespace's own."""

    created_at: datetime


class LeaseRow(Row):
    """Who may do a named work until when; `token` grows with every change of holder and fences late writers."""

    holder: str
    token: int
    until: datetime


class Refused(Frozen):
    """A transition that did not happen, and why; what it left behind (condemned bytes) is committed."""

    code: ErrorCode
    message: str


_encoder = msgspec.json.Encoder()
_decoders: dict[type, msgspec.json.Decoder[msgspec.Struct]] = {}


def encode(row: msgspec.Struct) -> bytes:
    """JSON of a record."""
    return _encoder.encode(row)


def decode(kind: type[T], value: bytes) -> T:
    """The record of `kind` in `value`."""
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    return decoder.decode(value)  # type: ignore[return-value]  # the cache is keyed by the very type asked for


def microseconds(at: datetime) -> int:
    """An instant as it stands in keys."""
    return (at - _EPOCH) // _MICROSECOND


def instant(value: int) -> datetime:
    """The instant of a key's element."""
    return _EPOCH + timedelta(microseconds=value)


def object_key(namespace: str, bucket: str, key: str) -> Key:
    return (namespace, "o", bucket, key)


def versions_of(namespace: str, bucket: str, key: str) -> Key:
    return (namespace, "v", bucket, key)


def promise_key(namespace: str, promise: PromiseRow) -> Key:
    kind = "u" if promise.kind == "client" else "w"
    return (namespace, kind, promise.bucket, promise.key, promise.version_id)


def promises_of(namespace: str, bucket: str, key: str) -> Key:
    return (namespace, "u", bucket, key)


def due_key(namespace: str, promise: PromiseRow, due: datetime) -> Key:
    return (namespace, "d", microseconds(due), promise.bucket, promise.key, promise.version_id)


def garbage_key(namespace: str, physical_key: str) -> Key:
    return (namespace, "g", physical_key)


def garbage_due_key(namespace: str, due: datetime, physical_key: str) -> Key:
    return (namespace, "t", microseconds(due), physical_key)


def expiry_key(namespace: str, at: datetime, bucket: str, key: str) -> Key:
    return (namespace, "e", microseconds(at), bucket, key)


def mark_key(namespace: str, bucket: str, folder: str) -> Key:
    return (namespace, "k", bucket, folder)


def namespace_key(namespace: str) -> Key:
    return (namespace, "c")


def bucket_key(namespace: str, bucket: str) -> Key:
    return (namespace, "b", bucket)


def counter_key(namespace: str, name: str) -> Key:
    return (namespace, "n", name)


def outbox_prefix(namespace: str) -> Key:
    return (namespace, "x")


def lease_key(namespace: str, name: str) -> Key:
    return (namespace, "l", name)
