"""Uploads in parts of a memory store, as strict as the strictest real one.

Type, metadata and tags are those given at the beginning, as S3 has it; a completion that says others is a mistake of
the program that another store would not show. An upload that is refused at its completion stays open.
"""

import itertools
from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec

from .driver import BadPart, NotFound, OpenMultipart, Part, Stored, WriteOptions
from .memory_blobs import Blobs, checksum

__all__ = ["Multiparts"]


class _Open(msgspec.Struct):
    key: str
    options: WriteOptions
    started_at: datetime
    parts: dict[int, tuple[Part, bytes]]


class Multiparts:
    """The open uploads of one store."""

    def __init__(self, blobs: Blobs, now: Callable[[], datetime], smallest_part_bytes: int) -> None:
        self._blobs = blobs
        self._now = now
        self._smallest_part_bytes = smallest_part_bytes
        self._open: dict[str, _Open] = {}
        self._numbers = itertools.count(1)

    def begin(self, key: str, options: WriteOptions) -> str:
        """A new upload's name."""
        upload = f"u-{next(self._numbers):x}"
        self._open[upload] = _Open(key, options, self._now(), {})
        return upload

    def put(self, key: str, upload: str, number: int, content: bytes) -> Part:
        """Take a part, also in place of one with its number."""
        found = self._find(key, upload)
        crc32c = checksum("crc32c", content)
        part = Part(number=number, etag=self._blobs.etag(), size_bytes=len(content), crc32c=crc32c)
        found.parts[number] = part, content
        return part

    def parts(self, key: str, upload: str) -> list[Part]:
        """What has arrived, by number."""
        return [part for _, (part, _) in sorted(self._find(key, upload).parts.items())]

    def check(self, key: str, upload: str, parts: Sequence[Part], options: WriteOptions) -> None:
        """`NotFound`, `BadPart`, `AlreadyExists`: why these parts do not make the object."""
        found = self._find(key, upload)
        begun = found.options
        if (options.content_type, options.metadata, options.tags) != (begun.content_type, begun.metadata, begun.tags):
            raise ValueError("content type, metadata and tags at completion differ from those at the beginning")
        if not parts:
            raise BadPart("there are no parts")
        if any(later.number <= part.number for part, later in itertools.pairwise(parts)):
            raise BadPart("the parts are not in the order of their numbers")
        for part in parts:
            arrived = found.parts.get(part.number)
            if arrived is None or arrived[0].etag != part.etag:
                raise BadPart(f"part {part.number} did not arrive with this etag")
        for part in parts[:-1]:
            if found.parts[part.number][0].size_bytes < self._smallest_part_bytes:
                raise BadPart(f"part {part.number} has less than {self._smallest_part_bytes} bytes")
        self._blobs.refuse_taken(key, options)

    def complete(self, key: str, upload: str, parts: Sequence[Part], options: WriteOptions) -> Stored:
        """Make the object of these parts, what else arrived is forgotten."""
        self.check(key, upload, parts, options)
        arrived = self._open[upload].parts
        stored = self._blobs.land(key, b"".join(arrived[part.number][1] for part in parts), options)
        del self._open[upload]
        return stored

    def forget(self, key: str, upload: str) -> None:
        """Abort; over is fine."""
        found = self._open.get(upload)
        if found is not None and found.key == key:
            del self._open[upload]

    def of(self, key: str) -> list[OpenMultipart]:
        """The open uploads of exactly this key."""
        return [OpenMultipart(key, name, found.started_at) for name, found in self._open.items() if found.key == key]

    def _find(self, key: str, upload: str) -> _Open:
        found = self._open.get(upload)
        if found is None or found.key != key:
            raise NotFound(key)
        return found
