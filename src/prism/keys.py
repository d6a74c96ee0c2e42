"""Logical and physical keys: validation, layout, parsing, prefixes; nothing else formats a key.

A logical key is 1 to 1,024 bytes of UTF-8, any characters but NUL, as the user wrote it; it is never normalised. A
physical key is where its bytes lie in a namespace's store: `{prefix}{key}~{version id}` in the namespace's own bucket,
`{prefix}~{bucket}/{key}~{version id}` in others; unique per upload, never reused, readable in front. What a client
sends by a URL that may write more than once lands behind `{prefix}~staging/`, one such key per promise, laid out alike.

`~` followed by a letter or digit stands only in front of a version id or a bucket, so no physical key is ever a folder
of another one. What a store or a filesystem mangles is written with `~` and another sign: `~_HH` is a byte (`~` itself,
control characters, backslash, a folder's last dot), `~_` alone an empty folder name, `~-/` continues a name that is too
long for one folder, and `~~{hash}` ends the readable head of a key that is too long for a store (the whole key is in
the store's metadata). Letter case and Unicode forms are kept; a filesystem that folds them is its driver's affair.
"""

import base64
import hashlib
import re
from collections.abc import Iterator
from typing import NamedTuple

from .errors import ErrorCode, PrismError

__all__ = [
    "OWNER",
    "Layout",
    "Parsed",
    "ancestors",
    "check_bucket",
    "check_folder",
    "check_key",
    "check_prefix",
    "is_version_id",
]

OWNER = "~owner"
"""Name of the owner marker below a namespace's prefix: the one key without a row."""
MAX_KEY_BYTES = 1024
_MAX_PHYSICAL_BYTES = 1024
_MAX_NAME_BYTES = 180
_VERSION = r"[0-9a-z][0-9a-z-]{19,39}"
_TAIL_BYTES = len("~~") + 26 + len("~") + 40
_RESERVED = frozenset({"owner", "staging"})
_STAGING = "~staging/"

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\Z")
_VERSION_ID = re.compile(_VERSION + r"\Z")
_PHYSICAL = re.compile(rf"(?P<name>.*)~(?P<version>{_VERSION})\Z", re.DOTALL)
_HASHED = re.compile(r"(?P<head>.*)~~[0-9a-z]{26}\Z", re.DOTALL)
_IN_BUCKET = re.compile(r"~(?P<escape>_?)(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/")
_UNSAFE = re.compile("[~\\\\\x00-\x1f\x7f-\x9f\ufffe\uffff]")
_MANGLED = re.compile(_UNSAFE.pattern + r"|//|\./|\A/")
_ESCAPES = re.compile(r"(?:~_[0-9A-F]{2})+")


def check_key(key: str) -> None:
    """INVALID_ARGUMENT unless `key` is 1 to 1,024 bytes of UTF-8 without NUL."""
    if not key:
        raise PrismError(ErrorCode.INVALID_ARGUMENT, "a key is not empty")
    _check_text(key, "a key")


def check_prefix(text: str) -> None:
    """INVALID_ARGUMENT unless `text` could be the beginning of a key; empty is fine (also for delimiters)."""
    if text:
        _check_text(text, "a prefix")


def check_folder(prefix: str) -> None:
    """INVALID_ARGUMENT unless `prefix` is a legal key that ends in `/`."""
    if not prefix.endswith("/"):
        raise PrismError(ErrorCode.INVALID_ARGUMENT, "a folder ends in '/'")
    _check_text(prefix, "a folder")


def is_version_id(text: str) -> bool:
    """Whether it has the form of a version id: 20 to 40 of a-z 0-9 -, beginning with a letter or digit."""
    return _VERSION_ID.match(text) is not None


def check_bucket(name: str) -> None:
    """INVALID_ARGUMENT unless `name` is 3 to 63 of a-z 0-9 . -, beginning and ending with a letter or digit."""
    if not _BUCKET.match(name):
        raise PrismError(
            ErrorCode.INVALID_ARGUMENT,
            f"bucket {name[:80]!r}: use 3 to 63 of a-z 0-9 . -, beginning and ending with a letter or digit",
        )


def _check_text(text: str, what: str) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise PrismError(ErrorCode.INVALID_ARGUMENT, f"{what} is UTF-8; lone surrogates are none") from error
    if size > MAX_KEY_BYTES:
        raise PrismError(ErrorCode.INVALID_ARGUMENT, f"{what} has at most {MAX_KEY_BYTES} bytes; this one has {size}")
    if "\x00" in text:
        raise PrismError(ErrorCode.INVALID_ARGUMENT, f"{what} holds no NUL")


def ancestors(key: str) -> list[str]:
    """The folders whose deletion takes `key` along: every beginning of it that ends in `/`, shortest first.

    `a/b/c` -> `a/`, `a/b/`; `a/` -> `a/` (a deleted folder takes its placeholder along); `/x` -> `/`; `a//b` -> `a/`,
    `a//`. So a mark on a folder covers exactly the keys that begin with it.
    """
    return [key[: at + 1] for at, char in enumerate(key) if char == "/"]


def _base32(data: bytes) -> str:
    return base64.b32hexencode(data).decode().rstrip("=").lower()


class Parsed(NamedTuple):
    """What a physical key says. `key` is None when it was too long to be written in full. `staging`: it is the key of a
    client's URL, never of an object; its version id is the promise's."""

    bucket: str
    key: str | None
    version_id: str
    staging: bool = False


class Layout:
    """Where a namespace's blobs lie in its store. `prefix` is empty or ends in `/`."""

    def __init__(self, own_bucket: str, prefix: str = "") -> None:
        self._own = own_bucket
        self._prefix = prefix

    @property
    def owner(self) -> str:
        """The physical key of the owner marker."""
        return self._prefix + OWNER

    def physical(self, bucket: str, key: str, version_id: str) -> str:
        """The physical key of one upload of a legal key. ValueError unless the version id is 20 to 40 of a-z 0-9 -."""
        return self._placed(self._start(bucket), key, version_id)

    def staging(self, bucket: str, key: str, version_id: str) -> str:
        """The physical key that a URL for an upload of a legal key writes to, until it is copied; as `physical`."""
        return self._placed(self._start(bucket, _STAGING), key, version_id)

    def _placed(self, start: str, key: str, version_id: str) -> str:
        if not _VERSION_ID.match(version_id):
            raise ValueError(f"version id {version_id[:60]!r}: 20 to 40 of a-z 0-9 -, beginning with a letter or digit")
        if len(key) <= _MAX_NAME_BYTES and key.isascii() and not _MANGLED.search(key):
            return f"{start}{key}~{version_id}"
        whole = start + "".join(_units(key))
        if len(whole.encode()) + 1 + len(version_id) <= _MAX_PHYSICAL_BYTES:
            return f"{whole}~{version_id}"
        digest = _base32(hashlib.blake2b(key.encode(), digest_size=16).digest())
        return f"{self._head(start, key)}~~{digest}~{version_id}"

    def parse(self, physical: str) -> Parsed | None:
        """The upload that lies under a physical key; None for a key that this layout never makes (foreign, marker)."""
        found = _PHYSICAL.match(physical)
        if found is None or not physical.startswith(self._prefix):
            return None
        name, version_id = found["name"][len(self._prefix) :], found["version"]
        staging = name.startswith(_STAGING)
        name = name.removeprefix(_STAGING)
        bucket = self._own
        if inside := _IN_BUCKET.match(name):
            bucket, name = inside["bucket"], name[inside.end() :]
            if bool(inside["escape"]) != (bucket in _RESERVED) or bucket == self._own:
                return None
        if _HASHED.match(name):
            long = len(physical.encode()) > _MAX_PHYSICAL_BYTES - 64
            return Parsed(bucket, None, version_id, staging) if long else None
        key = _decoded(name)
        if not key or len(key.encode()) > MAX_KEY_BYTES:
            return None
        parsed = Parsed(bucket, key, version_id, staging)
        return parsed if self.place(parsed) == physical else None

    def adoptable(self, physical: str) -> str | None:
        """The logical key that foreign bytes have once they are adopted; None for a key of Prism's form, whichever
        deployment or namespace laid it out. The answer need not be a legal key."""
        name = physical.removeprefix(self._prefix)
        laid_out = _PHYSICAL.match(name) or any(folder.startswith("~") for folder in name.split("/"))
        return None if laid_out else name

    def place(self, parsed: Parsed, key: str = "") -> str:
        """The physical key that says this; `key` for one that was too long to be written in full."""
        lay = self.staging if parsed.staging else self.physical
        return lay(parsed.bucket, parsed.key or key, parsed.version_id)

    def folder_prefix(self, bucket: str, folder: str, *, staging: bool = False) -> str:
        """What the physical keys of all uploads below a folder begin with (their staging keys, when asked for).

        Only they do, unless the folder's name is so long (from about 700 bytes) that keys below it may be cut within
        it; then neighbours with the same first 700 bytes begin alike, and `parse` cannot always tell them apart.
        """
        return self._head(self._start(bucket, _STAGING if staging else ""), folder)

    def _start(self, bucket: str, under: str = "") -> str:
        if bucket == self._own:
            return self._prefix + under
        return f"{self._prefix}{under}~{'_' if bucket in _RESERVED else ''}{bucket}/"

    def _head(self, start: str, text: str) -> str:
        """As much of the encoded text as every physical key that begins with it shows."""
        room = _MAX_PHYSICAL_BYTES - _TAIL_BYTES - len(start)
        kept: list[str] = []
        for unit in _units(text):
            room -= len(unit.encode())
            if room < 0:
                break
            kept.append(unit)
        return start + "".join(kept)


def _units(text: str) -> Iterator[str]:
    """The encoded text in pieces that are never cut; what extends `text` after a `/` only adds pieces at the end."""
    segments = text.split("/")
    last = len(segments) - 1
    for at, segment in enumerate(segments):
        folder = at < last
        room = _MAX_NAME_BYTES
        for unit in _named(segment, folder):
            size = len(unit.encode())
            if size > room:
                yield "~-/"
                room = _MAX_NAME_BYTES
            room -= size
            yield unit
        if folder:
            yield "/"


def _named(segment: str, folder: bool) -> Iterator[str]:
    if folder and not segment:
        yield "~_"
    dotted = folder and segment.endswith(".")
    for char in segment[:-1] if dotted else segment:
        yield "".join(f"~_{byte:02X}" for byte in char.encode()) if _UNSAFE.match(char) else char
    if dotted:
        yield "~_2E"


def _decoded(name: str) -> str | None:
    """The text whose encoding `name` may be (the caller encodes it again to know); None when it is no UTF-8."""
    segments = name.replace("~-/", "").split("/")
    folders = ["" if segment == "~_" else segment for segment in segments[:-1]]
    try:
        return _ESCAPES.sub(_unescaped, "/".join([*folders, segments[-1]]))
    except UnicodeDecodeError:
        return None


def _unescaped(escapes: re.Match[str]) -> str:
    return bytes.fromhex(escapes[0].replace("~_", "")).decode()
