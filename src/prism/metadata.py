"""User metadata: what is accepted, and how it and Prism's own fields travel beside the bytes in a store.

Keys are lower-case ASCII (they become header names), values are text without control characters, all together at most
2 KB by default, so that every store and every API can carry them unchanged.
"""

import re
from collections.abc import Mapping

from .errors import ErrorCode, PrismError

__all__ = ["KEY_FIELD", "VERSION_FIELD", "check_metadata", "for_store", "from_store"]

KEY_FIELD = "prism-key"
VERSION_FIELD = "prism-version"
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


def for_store(key: str, version_id: str, metadata: Mapping[str, str]) -> Mapping[str, str]:
    """User metadata and Prism's own fields together, as the store keeps them beside the bytes."""
    return {**metadata, KEY_FIELD: key, VERSION_FIELD: version_id}


def from_store(metadata: Mapping[str, str]) -> Mapping[str, str]:
    """User metadata alone, of what a store keeps beside the bytes."""
    return {name: value for name, value in metadata.items() if not name.startswith("prism-")}
