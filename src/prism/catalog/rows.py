"""Records and key layout of the catalog; nothing else builds or parses a catalog key.

All keys of a namespace begin with its name, so that they are one partition. Values are JSON that an operator can read;
counters are little-endian integers. Instants inside keys are microseconds since 1970, so that they sort.

    o bucket key            the current object            u bucket key vid     a client's promise (URL)
    v bucket key ordinal    kept older versions           w bucket key vid     a Prism process's promise
    g physical-key          condemned bytes               d due bucket key vid when to look at a client's promise
    t due physical-key      when to delete them           e at bucket key      when an object expires (+ ordinal:
    k bucket folder         deletion marks                                     a kept version)
    p bucket key vid number parts that came by Prism      q due physical-key     when to forget parts that came after
                                                                                 the object was made of others
    a physical-key          adopted bytes: which object   i name               how far an import or rebuild came
    b bucket                further buckets               c                    deletion counter, number of marks
    x stamp                 outbox                        n name               counters
                                                          l name               leases
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeVar

import msgspec

from ..errors import ErrorCode
from ..meta import Key
from ..model import Bindable, Declared, Frozen, Precondition

__all__ = [
    "AdoptionRow",
    "BucketRow",
    "Condemned",
    "CursorRow",
    "Hint",
    "LeaseRow",
    "MarkRow",
    "NamespaceRow",
    "ObjectRow",
    "PartRow",
    "PromiseRow",
    "Refused",
    "Rules",
    "Sealed",
    "Taken",
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


class Rules(Frozen, frozen=True, kw_only=True):
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
    times_cut: timedelta = timedelta(0)
    """How much later than the store says bytes may have landed: lifetimes that count from it get that much more."""
    returned_write_is_final: bool = False
    """A put that returned can land no second time, so its key is dead at once for its writer."""
    max_open_uploads: int = 32


class ObjectRow(Row, frozen=True, kw_only=True):
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
    expires_at: datetime | None = None
    crc32c: str | None = None
    sha256: str | None = None
    landed_at: datetime | None = None
    """The store's clock when the bytes arrived by URL; None when a Prism process wrote them."""
    adopted: bool = False
    """The bytes were in the store before Prism: their key is not of its form, and others may write it."""
    own: bool = False
    """Of adopted bytes: Prism may delete them when the object goes; else only the row goes."""


class VersionRow(Row, frozen=True, kw_only=True):
    """One older version; `row` is None for the marker that a delete leaves."""

    row: ObjectRow | None
    at: datetime
    generation: int


class Taken(Row, frozen=True, kw_only=True):
    """Bytes of a staging key that were looked at already: what lies there with the same pair is nothing new."""

    etag: str
    landed_at: datetime
    version_id: str = ""
    """What they became; empty when a precondition refused them."""


class Sealed(Row, frozen=True, kw_only=True):
    """The parts of an upload were chosen and are put together: what the object will be, recorded before the store is
    told, so that whoever finds the bytes after a crash says the same of them."""

    at: datetime
    """Not before then do the bytes land, whatever the store says: some date an object by its first part."""
    etag: str
    replaces: str | None = None
    """The version that was current then."""
    declared: Declared = Declared()
    precondition: Precondition = Precondition()
    held: tuple[Bindable, ...] = ()
    """As the promise said them before: they count again should other parts be chosen."""


class PromiseRow(Row, frozen=True, kw_only=True):
    """Bytes that may land: where, by whom, until when, and what was declared about them."""

    bucket: str
    key: str
    version_id: str
    physical_key: str
    kind: Literal["process", "client"]
    bound: bool = False
    """It is one upload's own: no other URL shares it, and one through Prism works once (a second use is refused)."""
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
    way: Literal["prism", "store", "staging"] = "prism"
    """Where a client's URL points: to Prism's S3 API; to the store, where the bytes stay where they land; or to a
    staging key of the store, from which they are copied when they are recognised."""
    held: tuple[Bindable, ...] = ()
    """What the store itself holds the sender to; what else was declared is checked when the bytes are recognised."""
    taken: Taken | None = None
    """What was last taken from a staging key; of a recognition copy's promise: what had been taken before it."""
    unlike: Taken | None = None
    """What lies there was read and is not as declared."""
    leftover: bool = False
    """The object that came of what was taken was deleted: those staging bytes go before the promise's time."""
    copy_of: str | None = None
    """Of a recognition copy's own promise: the version id of the staging promise whose bytes it takes."""
    upload: str | None = None
    """The store's name of a multipart upload; empty while it is being begun."""
    part_size_bytes: int | None = None
    sealed: Sealed | None = None
    """Until then nothing of an upload in parts can land."""
    restored: bool = False
    """It comes out of a backup: whether its writer, a Prism process, kept it after that, nobody knows any more."""


class PartRow(Row, frozen=True, kw_only=True):
    """What Prism computed of a part that passed through it; it counts while the store's part has `store_etag`."""

    store_etag: str
    md5: str
    """Hex: the part's etag for clients."""
    crc32c: str


class Condemned(Row, frozen=True, kw_only=True):
    """Bytes to be deleted at or after `due`, and once more when the key is dead if that is later."""

    due: datetime
    dead: datetime
    condemned_at: datetime
    reason: str
    store_etag: str | None = None
    size_bytes: int = 0
    unfinished: bool = False
    """It was a promise: a multipart upload of the key may be open and is aborted first."""
    pinned: bool = False
    """Only bytes with `store_etag` are deleted, and that landed then: others may write this key."""
    landed_at: datetime | None = None
    """Of pinned bytes: the same content, written again, may have the same etag."""


class AdoptionRow(Row, frozen=True, kw_only=True):
    """Foreign bytes that an import takes up, and afterwards the hint to the object whose row may name them."""

    bucket: str
    key: str
    version_id: str


class CursorRow(Row, frozen=True, kw_only=True):
    """How far a walk through the store came, so that it goes on there when it was interrupted."""

    after: str
    began_at: datetime


class MarkRow(Row, frozen=True, kw_only=True):
    """A folder was deleted when the namespace's deletion counter rose to `counter`."""

    counter: int
    at: datetime


class NamespaceRow(Row, frozen=True, kw_only=True):
    """The deletion counter and how many marks stand."""

    deletions: int = 0
    marks: int = 0


class BucketRow(Row, frozen=True, kw_only=True):
    """A bucket beside the namespace's own."""

    created_at: datetime


class LeaseRow(Row, frozen=True, kw_only=True):
    """Who may do a named work until when; `token` grows with every change of holder and fences late writers."""

    holder: str
    token: int
    until: datetime


class Refused(Frozen, frozen=True, kw_only=True):
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


def parts_of(namespace: str, promise: PromiseRow) -> Key:
    return (namespace, "p", promise.bucket, promise.key, promise.version_id)


def part_key(namespace: str, promise: PromiseRow, number: int) -> Key:
    return (*parts_of(namespace, promise), number)


def due_key(namespace: str, promise: PromiseRow, due: datetime) -> Key:
    return (namespace, "d", microseconds(due), promise.bucket, promise.key, promise.version_id)


def late_parts_key(namespace: str, due: datetime, physical_key: str) -> Key:
    return (namespace, "q", microseconds(due), physical_key)


def garbage_key(namespace: str, physical_key: str) -> Key:
    return (namespace, "g", physical_key)


def garbage_due_key(namespace: str, due: datetime, physical_key: str) -> Key:
    return (namespace, "t", microseconds(due), physical_key)


def expiry_key(namespace: str, at: datetime, bucket: str, key: str, ordinal: int | None = None) -> Key:
    own = (namespace, "e", microseconds(at), bucket, key)
    return own if ordinal is None else (*own, ordinal)


class Hint(msgspec.Struct, frozen=True):
    """An entry of the expiry index: this content may be due at `at`. `ordinal` names a kept version, None the
    current."""

    at: datetime
    bucket: str
    key: str
    ordinal: int | None = None

    def row_key(self, namespace: str) -> Key:
        """Where the row stands that decides."""
        if self.ordinal is None:
            return object_key(namespace, self.bucket, self.key)
        return (*versions_of(namespace, self.bucket, self.key), self.ordinal)

    def index_key(self, namespace: str) -> Key:
        """Where the hint itself stands."""
        return expiry_key(namespace, self.at, self.bucket, self.key, self.ordinal)


def hint_of(key: Key) -> Hint:
    """The hint that an index key is."""
    ordinal = int(key[5]) if len(key) > 5 else None
    return Hint(instant(int(key[2])), str(key[3]), str(key[4]), ordinal)


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


def adoption_key(namespace: str, physical_key: str) -> Key:
    return (namespace, "a", physical_key)


def cursor_key(namespace: str, name: str) -> Key:
    return (namespace, "i", name)


def lease_key(namespace: str, name: str) -> Key:
    return (namespace, "l", name)
