"""The bytes of a memory store and their order: what all ways into it (put, parts, a client's request) share.

Everything happens at once, between two turns of the event loop: bytes are there whole or not at all, and of two that
want the same key create-only the later one is refused. Whoever has a gate to pass passes it before.
"""

import bisect
import hashlib
import itertools
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from datetime import datetime
from typing import Literal

import google_crc32c
import msgspec

from ..digests import crc32c_text
from ..model import ByteRange
from .driver import AlreadyExists, BlobEntry, BlobInfo, EtagMismatch, NotFound, Stored, WriteOptions

__all__ = ["Blob", "Blobs", "Checksum", "MemoryBody", "checksum"]

Checksum = Literal["crc32c", "sha256", "md5"]
_CHUNK_BYTES = 2**20


class Blob(msgspec.Struct, frozen=True):
    """One object: what is said of it, its bytes, and the tags beside them."""

    info: BlobInfo
    content: bytes
    tags: Mapping[str, str]


class Blobs:
    """All objects of one store. `checksums` are computed of whatever lands."""

    def __init__(self, now: Callable[[], datetime], checksums: Collection[Checksum]) -> None:
        self._now = now
        self._checksums = frozenset(checksums)
        self._blobs: dict[str, Blob] = {}
        self._order: list[str] = []  # code points sort as UTF-8 bytes do
        self._numbers = itertools.count(1)

    def etag(self) -> str:
        """One that no other bytes have."""
        return f"m-{next(self._numbers):x}"

    def find(self, key: str, if_match: str | None = None) -> Blob:
        """What lies under the key; `NotFound`, `EtagMismatch`."""
        blob = self._blobs.get(key)
        if blob is None:
            raise NotFound(key)
        if if_match is not None and if_match != blob.info.etag:
            raise EtagMismatch(key)
        return blob

    def refuse_taken(self, key: str, options: WriteOptions) -> None:
        """`AlreadyExists` when a create-only write finds the key taken."""
        if options.create_only and key in self._blobs:
            raise AlreadyExists(key)

    def land(
        self, key: str, content: bytes, options: WriteOptions, verified: Collection[Checksum] = frozenset()
    ) -> Stored:
        """Appear. `verified`: what was checked on the way in, which the store then knows of the bytes."""
        self.refuse_taken(key, options)
        known = {name: checksum(name, content) for name in self._checksums | frozenset(verified)}
        info = BlobInfo(
            etag=self.etag(),
            size_bytes=len(content),
            landed_at=self._now(),
            content_type=options.content_type,
            metadata=dict(options.metadata),
            crc32c=known.get("crc32c"),
            sha256=known.get("sha256"),
            md5=known.get("md5"),
        )
        if key not in self._blobs:
            bisect.insort(self._order, key)
        self._blobs[key] = Blob(info, content, dict(options.tags))
        return Stored(info.etag, info.size_bytes)

    def forget(self, key: str) -> None:
        """Delete; absent is fine."""
        if self._blobs.pop(key, None) is not None:
            del self._order[bisect.bisect_left(self._order, key)]

    def page(self, prefix: str, start_after: str, limit: int) -> list[BlobEntry]:
        """Keys in order."""
        at = bisect.bisect_left(self._order, prefix)
        if start_after:
            at = max(at, bisect.bisect_right(self._order, start_after))
        found = itertools.takewhile(lambda key: key.startswith(prefix), itertools.islice(self._order, at, at + limit))
        return [_entry(key, self._blobs[key].info) for key in found]


class MemoryBody:
    """A stretch of bytes in pieces of at most 1 MiB."""

    def __init__(self, content: bytes, served: ByteRange) -> None:
        self._content: bytes | None = content
        self._served = served

    async def __aiter__(self) -> AsyncIterator[bytes]:
        at, end = self._served.offset, self._served.offset + self._served.length
        while at < end and self._content is not None:
            chunk = self._content[at : min(at + _CHUNK_BYTES, end)]
            at += len(chunk)
            yield chunk

    async def aclose(self) -> None:
        """Let the bytes go."""
        self._content = None


def checksum(name: Checksum, content: bytes) -> str:
    """In the text form of `BlobInfo`."""
    match name:
        case "crc32c":
            return crc32c_text(google_crc32c.value(content))
        case "sha256":
            return hashlib.sha256(content).hexdigest()
        case "md5":
            return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _entry(key: str, info: BlobInfo) -> BlobEntry:
    return BlobEntry(key, info.size_bytes, info.etag, info.landed_at)
