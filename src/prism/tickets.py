"""What somebody who wants to upload declares, what he is told, and the id by which he comes back.

An upload's id names namespace, bucket, key and version id; it is not sealed, because it grants nothing: every call that
names an upload is decided like any other. This module holds and checks values and does nothing else.
"""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from .errors import ErrorCode, PrismError
from .keys import check_key, is_version_id
from .model import Declared, Frozen, ObjectRef, Precondition, PutOptions

__all__ = [
    "MAX_PARTS",
    "MAX_SIGNED_PARTS",
    "Arrived",
    "Chosen",
    "NotBound",
    "OpenUpload",
    "OpenUploads",
    "PartURL",
    "Ticket",
    "UploadName",
    "UploadRequest",
    "UploadStatus",
    "declared_of",
]

MAX_PARTS = 10_000
MAX_SIGNED_PARTS = 100
_MAX_ID_CHARACTERS = 4096
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_CRC32C = re.compile(r"[A-Za-z0-9+/]{5}[AQgw]==\Z")


def declared_of(sha256: str = "", crc32c: str = "", size_bytes: int | None = None) -> Declared:
    """What a sender says of the whole object; empty texts say nothing. INVALID_ARGUMENT for what is no such thing."""
    sha256 = sha256.lower()
    if sha256 and not _SHA256.match(sha256):
        raise PrismError(ErrorCode.INVALID_ARGUMENT, "checksum_sha256 is 64 hexadecimal digits")
    if crc32c and not _CRC32C.match(crc32c):
        raise PrismError(ErrorCode.INVALID_ARGUMENT, "checksum_crc32c is 4 bytes, big-endian, in base64")
    if size_bytes is not None and size_bytes < 0:
        raise PrismError(ErrorCode.INVALID_ARGUMENT, "size_bytes is 0 or more")
    return Declared(size_bytes=size_bytes, sha256=sha256 or None, crc32c=crc32c or None)


class UploadName(msgspec.Struct, frozen=True):
    """One upload: the object that it is to become, and the version id that its content will have."""

    ref: ObjectRef
    version_id: str

    @property
    def upload_id(self) -> str:
        """As clients carry it."""
        ref = self.ref
        raw = msgspec.json.encode((ref.namespace, ref.bucket, ref.key, self.version_id))
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    @classmethod
    def of(cls, upload_id: str) -> "UploadName":
        """INVALID_ARGUMENT for anything that `upload_id` never gives."""
        if len(upload_id) > _MAX_ID_CHARACTERS:
            raise _malformed()
        try:
            raw = base64.b64decode(upload_id + "=" * (-len(upload_id) % 4), altchars=b"-_", validate=True)
            namespace, bucket, key, version_id = msgspec.json.decode(raw, type=tuple[str, str, str, str])
            check_key(key)
        except (binascii.Error, ValueError, PrismError) as error:
            raise _malformed() from error
        found = cls(ObjectRef(namespace, bucket, key), version_id)
        if found.upload_id != upload_id or not is_version_id(version_id):
            raise _malformed()  # base64 and JSON have several spellings of one value
        return found


def _malformed() -> PrismError:
    return PrismError(ErrorCode.INVALID_ARGUMENT, "the upload id is not one that was given out here")


class UploadRequest(Frozen, frozen=True, kw_only=True):
    """`expires_in` is that of the URLs, None or zero: 3600 s; `part_size_bytes` 0 lets the server choose."""

    ref: ObjectRef
    options: PutOptions = PutOptions()
    expires_in: timedelta | None = None
    in_parts: bool = False
    part_size_bytes: int = 0


class NotBound(msgspec.Struct, frozen=True):
    """A declared fact that the store does not hold the sender to, and how it is checked instead."""

    what: str
    checked_by: str


class Ticket(Frozen, frozen=True, kw_only=True):
    """Where to send the bytes. Of an upload in parts `url` is empty: its URLs are asked for part by part."""

    upload_id: str
    url: str = ""
    headers: Mapping[str, str] = {}
    """Send exactly these."""
    expires_at: datetime
    """The URL's end; of an upload in parts, when it is given up unless something happens."""
    not_bound: tuple[NotBound, ...] = ()
    in_parts: bool = False
    part_size_bytes: int = 0
    parts: int = 0


class PartURL(Frozen, frozen=True, kw_only=True):
    """Where to PUT one part of exactly `size_bytes` (None: any size)."""

    number: int
    url: str
    headers: Mapping[str, str]
    size_bytes: int | None
    expires_at: datetime


class Arrived(Frozen, frozen=True, kw_only=True):
    """A part that is there. `etag` is its MD5 when it came through Prism, else the store's."""

    number: int
    etag: str
    size_bytes: int
    crc32c: str | None = None


class UploadStatus(Frozen, frozen=True, kw_only=True):
    """`open`: may still be completed. `completed`: is, or was, the object. `gone`: given up, refused or expired."""

    state: Literal["open", "completed", "gone"]
    expires_at: datetime | None = None
    in_parts: bool = False
    part_size_bytes: int = 0
    size_bytes: int | None = None
    parts: Sequence[Arrived] = ()


class Chosen(Frozen, frozen=True, kw_only=True):
    """How an upload is to be completed: of which parts (number, etag; None: of all), and what is known only now."""

    parts: Sequence[tuple[int, str]] | None = None
    declared: Declared = Declared()
    precondition: Precondition = Precondition()
    smallest_part_bytes: int = 0
    """Of every part but the last."""


class OpenUpload(Frozen, frozen=True, kw_only=True):
    """One upload in parts that is neither complete nor given up."""

    key: str
    version_id: str
    started_at: datetime


class OpenUploads(Frozen, frozen=True, kw_only=True):
    """A page in the order of keys and beginnings; `truncated`: more follow after its last entry."""

    uploads: Sequence[OpenUpload] = ()
    common_prefixes: Sequence[str] = ()
    after: tuple[str, str] | None = None
    """Where to go on: key (or common prefix) and version id; None at the end."""
