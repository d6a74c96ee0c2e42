"""HTTP header values, parsed and written: entity tags, ranges, dates, metadata, and what a browser must not run.

Parsing follows RFC 9110; what it says to ignore is ignored here, what would change the meaning of a write is refused.

User metadata travels in header values by one rule, the same on every HTTP-based API: a value of printable ASCII stands
as it is; any other, and one that itself begins like an extended value, is written as RFC 8187 says: `UTF-8''` and the
value in UTF-8, percent-encoded. Reading undoes exactly that; a raw value that is not ASCII is taken as UTF-8. So every
value comes back as it was given, and no value can end a header line.
"""

import base64
import binascii
import re
from datetime import UTC, datetime
from email.utils import formatdate
from functools import lru_cache
from urllib.parse import quote, unquote_to_bytes

from ..errors import ErrorCode, PrismError
from ..model import RangeSpec

__all__ = [
    "SANDBOX",
    "Header",
    "hex_of_base64",
    "http_date",
    "is_inert",
    "parse_date",
    "parse_etags",
    "parse_if_range",
    "parse_range",
    "read_text",
    "write_text",
]

Header = tuple[bytes, bytes]
SANDBOX: Header = (b"content-security-policy", b"sandbox; default-src 'none'")
"""Goes with content that is not inert: no script, no form, no plugin, an origin of its own."""

_ETAG = re.compile(r'[ \t]*(?:(W/)?"([\x21\x23-\x7e\x80-\xff]*)")?[ \t]*(?:,|\Z)')
_RANGE = re.compile(r"([0-9]*)-([0-9]*)\Z")
_EXTENDED = re.compile(r"utf-8'[a-z0-9-]{0,40}'", re.IGNORECASE)
_PRINTABLE = re.compile(r"[\x20-\x7e]*\Z")
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_DATES = ("%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y")
_MEDIA_TYPE = re.compile(r"([a-z]+)/([a-z0-9!#$&^_.+-]+)[ \t]*(?:;[^,]*)?\Z", re.IGNORECASE)
_INERT_TREES = frozenset({"image", "audio", "video", "font"})
_INERT = frozenset(
    {
        *("text/plain", "text/csv", "application/octet-stream", "application/json", "application/pdf"),
        *("application/zip", "application/gzip", "application/x-tar", "application/zstd"),
    }
)


def parse_etags(name: str, text: str | None, *, weak: bool) -> tuple[str, ...] | None:
    """The tags of If-Match or If-None-Match without quotes; `("*",)` for any, None when the header is absent.

    `weak`: tags are compared weakly (If-None-Match), so `W/` is dropped; else a weak tag matches nothing, and is left
    out.
    INVALID_ARGUMENT for what is no list of tags: guessing could turn a condition into none.
    """
    if text is None:
        return None
    if text.strip(" \t") == "*":
        return ("*",)
    tags, at = [], 0
    while at < len(text):
        found = _ETAG.match(text, at)
        if found is None:
            raise PrismError(ErrorCode.INVALID_ARGUMENT, f'{name} is a list of tags in double quotes, "…", or *')
        at = found.end()
        # The tag "*" in quotes is a tag like others; none of ours looks so.
        if found[2] is not None and found[2] != "*" and (weak or not found[1]):
            tags.append(found[2])
    return tuple(tags)


def parse_if_range(text: str | None) -> str | datetime | None:
    """A strong tag without quotes, or a date. What is neither matches nothing, so the whole object is served."""
    if text is None:
        return None
    found = re.fullmatch(r'"([\x21\x23-\x7e\x80-\xff]+)"', text)
    if found is not None:
        return found[1]
    return parse_date(text) or ""


def parse_range(text: str | None) -> RangeSpec | None:
    """One byte range; None for none, for another unit, for several ranges and for what is no range (section 14.2: the
    whole object is served then)."""
    if text is None:
        return None
    unit, _, ranges = text.partition("=")
    specs = [spec for part in ranges.split(",") if (spec := part.strip(" \t"))]
    if unit.strip(" \t").lower() != "bytes" or len(specs) != 1:
        return None
    found = _RANGE.match(specs[0])
    if found is None or not any(found.groups()):
        return None
    first, last = (_position(digits) for digits in found.groups())
    if first is None:
        return RangeSpec(suffix=last)
    if last is not None and last < first:
        return None
    return RangeSpec(start=first, end=last)


def _position(digits: str) -> int | None:
    """No object is larger than 10^18 bytes."""
    digits = digits.lstrip("0") or digits[:1]
    if not digits:
        return None
    return int(digits) if len(digits) <= 18 else 10**18


@lru_cache(maxsize=256)
def parse_date(text: str | None) -> datetime | None:
    """An HTTP date in any of the three forms of section 5.6.7; None for anything else, as the RFC says to ignore it."""
    for form in _DATES if text else ():
        try:
            return datetime.strptime(text or "", form).replace(tzinfo=UTC)
        except ValueError:
            continue
    return None


def http_date(when: datetime) -> bytes:
    """`Sun, 06 Nov 1994 08:49:37 GMT`."""
    return _imf(int(when.timestamp()))


@lru_cache(maxsize=4096)
def _imf(seconds: int) -> bytes:
    return formatdate(seconds, usegmt=True).encode()


def write_text(value: str) -> bytes:
    """Metadata's value as a header value."""
    if _PRINTABLE.match(value) and not _EXTENDED.match(value):
        return value.encode()
    return b"UTF-8''" + quote(value, safe="").encode()


def read_text(name: str, value: bytes) -> str:
    """Metadata's value from a header value; INVALID_ARGUMENT when it is no UTF-8."""
    try:
        text = value.decode()
        found = _EXTENDED.match(text)
        if found is None:
            return text
        encoded = text[found.end() :].encode()
        if _BROKEN_ESCAPE.search(encoded):
            raise PrismError(ErrorCode.INVALID_ARGUMENT, f"header {name}: a % is followed by two hexadecimal digits")
        return unquote_to_bytes(encoded).decode()
    except UnicodeDecodeError as error:
        raise PrismError(ErrorCode.INVALID_ARGUMENT, f"header {name} is not UTF-8") from error


def hex_of_base64(name: str, text: str, size_bytes: int) -> str:
    """A digest that comes in base64, in hex; INVALID_ARGUMENT unless it has `size_bytes` bytes."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != size_bytes:
        raise PrismError(ErrorCode.INVALID_ARGUMENT, f"header {name} is {size_bytes} bytes in base64")
    return raw.hex()


@lru_cache(maxsize=1024)
def is_inert(content_type: str) -> bool:
    """Whether a browser shows or saves this type without running anything in it; what is unknown counts as active."""
    found = _MEDIA_TYPE.match(content_type)
    if found is None:
        return False
    tree, kind = found[1].lower(), found[2].lower()
    return f"{tree}/{kind}" in _INERT or (tree in _INERT_TREES and not kind.startswith("svg") and "xml" not in kind)
