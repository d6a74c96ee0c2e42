"""What the clients return: frozen values. Times are aware UTC `datetime`s, sizes are bytes, etags carry no quotes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

__all__ = [
    "CopyResult",
    "ExpiringObject",
    "ListPage",
    "ListedObject",
    "ObjectInfo",
    "PartURL",
    "PresignedURL",
    "PutResult",
    "UploadStatus",
    "UploadTicket",
    "UploadedPart",
    "Usage",
]


@dataclass(frozen=True, slots=True)
class PutResult:
    """A put that is durable. `version_id` is empty unless the namespace keeps versions."""

    object_id: str
    etag: str
    size_bytes: int
    version_id: str
    expires_at: datetime | None
    checksum_crc32c: str
    """Base64 of the big-endian CRC-32C."""


@dataclass(frozen=True, slots=True)
class CopyResult:
    """A copy that is durable."""

    object_id: str
    etag: str
    size_bytes: int
    version_id: str
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What is known of an object. `size_bytes` is the whole object's, also when a range was asked for."""

    content_type: str
    size_bytes: int
    metadata: Mapping[str, str]
    etag: str
    last_modified: datetime
    expires_at: datetime | None
    version_id: str
    checksum_crc32c: str


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object as a list shows it."""

    key: str
    size_bytes: int
    etag: str
    last_modified: datetime
    content_type: str
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page of a list; it may be short, even empty, while `next_token` is not."""

    objects: tuple[ListedObject, ...]
    common_prefixes: tuple[str, ...]
    next_token: str


@dataclass(frozen=True, slots=True)
class ExpiringObject:
    """An object that expires within the window asked for."""

    bucket: str
    key: str
    size_bytes: int
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class PresignedURL:
    """`headers` must be sent with the request as given."""

    url: str
    expires_at: datetime
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class UploadTicket:
    """Where to send the bytes: by `method` to `url` with exactly these `headers`. Of an upload in parts these are
    empty, and the URLs of its parts are asked for. `not_bound`: what this store cannot hold the sender to, and how
    Prism checks it instead."""

    upload_id: str
    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    expires_at: datetime
    not_bound: Mapping[str, str]
    in_parts: bool
    part_size_bytes: int
    parts: int


@dataclass(frozen=True, slots=True)
class UploadedPart:
    """A part that has arrived."""

    number: int
    etag: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class UploadStatus:
    """`state`: `open` (may still be completed), `completed` (is or was the object) or `gone`."""

    state: str
    expires_at: datetime | None
    in_parts: bool
    part_size_bytes: int
    parts: tuple[UploadedPart, ...]
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class PartURL:
    """Where to send one part of exactly `size_bytes`, with exactly these `headers`."""

    number: int
    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    size_bytes: int
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Usage:
    """What a namespace holds."""

    objects: int
    size_bytes: int
