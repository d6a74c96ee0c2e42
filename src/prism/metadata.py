"""User metadata: what is accepted, and how it and Prism's own fields travel beside the bytes in a store.

Keys are lower-case ASCII (they become header names), values are text without control characters, all together at most
2 KB by default, so that every store and every API can carry them unchanged.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from .errors import ErrorCode, PrismError

__all__ = [
    "CRC32C_FIELD",
    "ETAG_FIELD",
    "EXPIRES_FIELD",
    "KEY_FIELD",
    "TTL_FIELD",
    "TTL_TAG",
    "VERSION_FIELD",
    "carried_metadata",
    "carried_type",
    "check_metadata",
    "expires_of",
    "for_store",
    "from_store",
    "tags_for",
    "ttl_of",
]

KEY_FIELD = "prism-key"
VERSION_FIELD = "prism-version"
EXPIRES_FIELD = "prism-expires"
"""Unix seconds: the object's expiry, or the earliest it can be where the write's end decides. Absent: no expiry."""
TTL_FIELD = "prism-ttl"
"""Seconds from the moment at which the bytes landed, for those that a client sends itself. Absent: no expiry."""
ETAG_FIELD = "prism-etag"
"""The client's etag, where it was known before the bytes; else it is the store's MD5, or follows from the version."""
CRC32C_FIELD = "prism-crc32c"
"""Of the whole content, base64, where it was known before the bytes."""
TTL_TAG = "ttl"
"""The object tag that says in Unix seconds when an object expires."""
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}\Z")
_CONTENT_TYPE = re.compile(r"[!-~]+(?: [ -~]*)?\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u0080-\u009f\ud800-\udfff]")


def check_metadata(metadata: Mapping[str, str], content_type: str, limit_bytes: int) -> None:
    """INVALID_ARGUMENT for metadata or a content type that some store or API could not carry unchanged."""
    size = 0
    for name, value in metadata.items():
        if not _NAME.match(name) or name.startswith("prism-"):
            raise PrismError(
                ErrorCode.INVALID_ARGUMENT,
                f"metadata name {name[:80]!r}: use 1 to 128 of a-z 0-9 . _ -, not beginning with 'prism-'",
            )
        if _CONTROL.search(value) or value != value.strip(" "):
            raise PrismError(
                ErrorCode.INVALID_ARGUMENT,
                f"metadata {name!r}: a value has no control characters and no spaces at its ends",
            )
        size += len(name) + len(value.encode())
    if size > limit_bytes:
        raise PrismError(
            ErrorCode.INVALID_ARGUMENT,
            f"metadata has {size} bytes, names and values together; {limit_bytes} are allowed",
        )
    if content_type and (len(content_type) > 255 or not _CONTENT_TYPE.match(content_type)):
        raise PrismError(ErrorCode.INVALID_ARGUMENT, "a content type is at most 255 printable ASCII characters")


def carried_type(*said: str | None) -> str:
    """The first content type that every API can carry, of those that others said of an object."""
    for content_type in said:
        try:
            check_metadata({}, content_type or "", 0)
        except PrismError:
            continue
        if content_type:
            return content_type
    return "application/octet-stream"


def carried_metadata(metadata: Mapping[str, str], limit_bytes: int) -> Mapping[str, str]:
    """Of what a store keeps beside the bytes (others may have written it) the metadata that every API can carry."""
    kept: dict[str, str] = {}
    for name, value in sorted(from_store(metadata).items()):
        try:
            check_metadata({**kept, name: value}, "", limit_bytes)
        except PrismError:
            continue
        kept[name] = value
    return kept


def for_store(
    key: str,
    version_id: str,
    metadata: Mapping[str, str],
    *,
    expires_at: datetime | None = None,
    ttl_seconds: int | None = None,
    etag: str | None = None,
    crc32c: str | None = None,
) -> Mapping[str, str]:
    """User metadata and Prism's own fields together, as the store keeps them beside the bytes; what is None is left
    away."""
    known = {
        EXPIRES_FIELD: None if expires_at is None else str(_unix(expires_at)),
        TTL_FIELD: None if ttl_seconds is None else str(ttl_seconds),
        ETAG_FIELD: etag,
        CRC32C_FIELD: crc32c,
    }
    own = {KEY_FIELD: key, VERSION_FIELD: version_id}
    return {**metadata, **own, **{name: value for name, value in known.items() if value is not None}}


def from_store(metadata: Mapping[str, str]) -> Mapping[str, str]:
    """User metadata alone, of what a store keeps beside the bytes."""
    return {name: value for name, value in metadata.items() if not name.startswith("prism-")}


def tags_for(expires_at: datetime | None) -> Mapping[str, str]:
    """The store's own tags of an object that expires then."""
    return {} if expires_at is None else {TTL_TAG: str(_unix(expires_at))}


def expires_of(metadata: Mapping[str, str]) -> datetime | None:
    """What `for_store` wrote as the expiry; None when there is none, or nothing that could be one."""
    seconds = _whole(metadata.get(EXPIRES_FIELD, ""))
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def ttl_of(metadata: Mapping[str, str]) -> int | None:
    """What `for_store` wrote as the lifetime in seconds; None as above."""
    return _whole(metadata.get(TTL_FIELD, ""))


def _whole(text: str) -> int | None:
    """A number of seconds that a date can hold (strangers may have written it)."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 11 else None


def _unix(at: datetime) -> int:
    """The first whole second at or after an instant: what is published never ends early."""
    return -int(-at.timestamp() // 1)
