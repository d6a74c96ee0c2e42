"""Uploads in parts: each part an object of its own, put together by the store (compose) when all have arrived.

The XML API's own multipart uploads take no preconditions, so their completion would replace whatever lies under the
key; a composition is create-only, pinned to each part's generation, and reports the checksum of the whole. Parts lie
in a folder of the namespace's staging area that no physical key begins with and that listings leave out, one folder per
key and upload, beside a marker that stands for the upload being open. What lands by a URL after the upload was over
makes its folder show up among the key's open uploads again, so that whoever looks for those removes it.
"""

import asyncio
import base64
import contextlib
import hashlib
import itertools
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Sequence
from datetime import datetime
from typing import TypeVar

from .driver import BadPart, EtagMismatch, NotFound, OpenMultipart, Part, Stored, WriteOptions
from .gcs_objects import MOST_COMPOSED, Objects, entry_of
from .gcs_upload import upload as send

__all__ = ["Parts"]

T = TypeVar("T")
_FOLDER = "~staging/~.parts"
_MARKER = "open"
_UPLOAD = re.compile(r"[0-9a-f]{32}\Z")
_NUMBER = re.compile(r"[0-9]{5}\Z")
_AT_ONCE = 8
_DELETES_AT_ONCE = 32
_Pinned = tuple[str, str]
"""Name and generation."""


class Parts:
    """The uploads in parts of one namespace; `prefix` stands in front of all its keys."""

    def __init__(self, objects: Objects, prefix: str) -> None:
        self._objects = objects
        self.folder = f"{prefix}{_FOLDER}/"
        self.beyond = f"{prefix}{_FOLDER}0"
        """Sorts after every name in the folder, before every other one that does."""

    def name(self, key: str, upload: str, number: int) -> str:
        """Where a part lies. `NotFound` for an upload that this store never named."""
        return f"{self._base(key, upload)}{number:05}"

    async def create(self, key: str, options: WriteOptions) -> str:
        """Pass the gate, write the marker, which names the key for people who look."""
        upload = secrets.token_hex(16)
        marked = WriteOptions(metadata={"prism-key": key}, gate=options.gate)
        await send(self._objects.http, self._base(key, upload) + _MARKER, _nothing(), marked, self._objects.kms_key)
        return upload

    async def put(self, key: str, upload: str, number: int, chunks: AsyncIterator[bytes], size_bytes: int) -> Part:
        """Write a part; nothing of it stays when it has another size than was said."""
        await self._objects.head(self._base(key, upload) + _MARKER)
        counted = _Counted(chunks, number, size_bytes)
        options = WriteOptions(create_only=False, gate=counted.check)
        name = self.name(key, upload, number)
        made = await send(self._objects.http, name, counted.pieces(), options, self._objects.kms_key)
        return Part(number=number, etag=made["generation"], size_bytes=int(made["size"]), crc32c=made.get("crc32c"))

    async def arrived(self, key: str, upload: str) -> list[Part]:
        """The parts by number; `NotFound` without the marker."""
        base = self._base(key, upload)
        found: list[Part] = []
        is_open = False
        async for item in self._objects.all(base):
            entry, name = entry_of(item), item["name"].removeprefix(base)
            is_open = is_open or name == _MARKER
            if _NUMBER.match(name):
                part = Part(
                    number=int(name), etag=entry.etag, size_bytes=entry.size_bytes, crc32c=item.get("crc32c") or None
                )
                found.append(part)
        if not is_open:
            raise NotFound(key)
        return found

    async def complete(self, key: str, upload: str, parts: Sequence[Part], options: WriteOptions) -> Stored:
        """Check, pass the gate, compose, remove the parts. What cannot be removed then stays an open upload."""
        _check(parts, await self.arrived(key, upload))
        if options.gate is not None:
            await options.gate()
        sources = [(self.name(key, upload, part.number), part.etag) for part in parts]
        try:
            stored = await self._compose(self._base(key, upload), sources, key, options)
        except EtagMismatch as error:
            raise BadPart("a part was sent again or removed meanwhile") from error
        with contextlib.suppress(Exception):  # the object is made: its caller must know
            await self.clear(key, upload)
        return stored

    async def _compose(self, base: str, sources: Sequence[_Pinned], key: str, options: WriteOptions) -> Stored:
        """Of more than the store takes at once, joined ones first."""
        for level in itertools.count(1):
            if len(sources) <= MOST_COMPOSED:
                break
            batches = [sources[at : at + MOST_COMPOSED] for at in range(0, len(sources), MOST_COMPOSED)]
            names = [f"{base}joined-{level}-{at:03}" for at in range(len(batches))]
            joined = await _all_of(_AT_ONCE, [self._join(*each) for each in zip(names, batches, strict=True)])
            sources = list(joined)
        return await self._objects.compose(sources, key, options)

    async def _join(self, name: str, sources: Sequence[_Pinned]) -> _Pinned:
        stored = await self._objects.compose(sources, name, WriteOptions(create_only=False))
        return name, stored.etag

    async def clear(self, key: str, upload: str) -> None:
        """Remove the parts, and the marker when they are gone; nothing there is fine."""
        if not _UPLOAD.match(upload):
            return
        base = self._base(key, upload)
        names = [item["name"] async for item in self._objects.all(base)]
        parts = [name for name in names if name != base + _MARKER]
        await _all_of(_DELETES_AT_ONCE, [self._objects.delete(name, {}) for name in parts])
        await self._objects.delete(base + _MARKER, {})

    async def open(self, key: str) -> list[OpenMultipart]:
        """Every upload of the key of which something lies there."""
        folder = self._folder_of(key)
        began: dict[str, datetime] = {}
        async for item in self._objects.all(folder):
            upload, landed_at = item["name"].removeprefix(folder).partition("/")[0], entry_of(item).landed_at
            began[upload] = min(landed_at, began.get(upload, landed_at))
        return [OpenMultipart(key, upload, started_at) for upload, started_at in began.items()]

    def _base(self, key: str, upload: str) -> str:
        if not _UPLOAD.match(upload):
            raise NotFound(key)
        return f"{self._folder_of(key)}{upload}/"

    def _folder_of(self, key: str) -> str:
        digest = hashlib.blake2b(key.encode(), digest_size=20).digest()
        return f"{self.folder}{base64.b32hexencode(digest).decode().lower()}/"


class _Counted:
    """The bytes of a part, which must be as many as were said."""

    def __init__(self, chunks: AsyncIterator[bytes], number: int, size_bytes: int) -> None:
        self._chunks = chunks
        self._number = number
        self._size_bytes = size_bytes
        self._seen = 0
        self._over = False

    async def pieces(self) -> AsyncIterator[bytes]:
        """The chunks."""
        async for chunk in self._chunks:
            self._seen += len(chunk)
            yield chunk
        self._over = True

    async def check(self) -> None:
        """`BadPart` when there are too many so far, or too few in all."""
        if self._seen > self._size_bytes or (self._over and self._seen < self._size_bytes):
            raise BadPart(f"part {self._number} has {self._seen} bytes, {self._size_bytes} were said")


def _check(parts: Sequence[Part], arrived: Sequence[Part]) -> None:
    if not parts:
        raise BadPart("there are no parts")
    if any(later.number <= part.number for part, later in itertools.pairwise(parts)):
        raise BadPart("the parts are not in the order of their numbers")
    etags = {part.number: part.etag for part in arrived}
    for part in parts:
        if etags.get(part.number) != part.etag:
            raise BadPart(f"part {part.number} did not arrive with this etag")


async def _all_of(at_once: int, calls: Sequence[Awaitable[T]]) -> list[T]:
    """Their results in order, when all have ended; the first failure when there is one."""
    slots = asyncio.Semaphore(at_once)

    async def one(call: Awaitable[T]) -> T:
        async with slots:
            return await call

    results = await asyncio.gather(*map(one, calls), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""
