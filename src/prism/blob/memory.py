"""A store in this process's memory: for tests and trials, gone with the process.

It keeps the whole contract (order, create-only, pinned reads and copies, nothing visible before the gate) and is what
the suites of other rooms run on. An opened read keeps its bytes when the key is deleted.
"""

import bisect
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime

import msgspec

from ..model import ByteRange
from .driver import (
    AlreadyExists,
    BlobEntry,
    BlobInfo,
    Capabilities,
    DeleteResult,
    EtagMismatch,
    NotFound,
    Opened,
    Stored,
    WriteOptions,
)

__all__ = ["MemoryDriver"]

_CHUNK_BYTES = 2**20
_CAPABILITIES = Capabilities(
    copy=True,
    conditional_put=True,
    open_survives_delete=True,
    returned_write_is_final=True,
    late_write_seconds=0.0,
)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class _Blob(msgspec.Struct, frozen=True):
    info: BlobInfo
    content: bytes


class MemoryDriver:
    """All bytes in one dictionary. `now` is the store's clock."""

    def __init__(self, now: Callable[[], datetime] = _utc_now) -> None:
        self._now = now
        self._blobs: dict[str, _Blob] = {}
        self._order: list[str] = []  # code points sort as UTF-8 bytes do
        self._numbers = itertools.count(1)

    @property
    def capabilities(self) -> Capabilities:
        """Everything but signing and conditional deletes."""
        return _CAPABILITIES

    async def put(self, key: str, chunks: AsyncIterator[bytes], options: WriteOptions) -> Stored:
        """Gather the chunks, pass the gate, appear."""
        self._refuse_existing(key, options)
        gathered: list[bytes] = []
        async for chunk in chunks:
            if options.observe is not None:
                options.observe(chunk)
            gathered.append(chunk)
        return await self._appear(key, b"".join(gathered), options)

    async def get(self, key: str, byte_range: ByteRange | None, if_match: str | None) -> Opened:
        """Open the bytes as they are now."""
        blob = self._find(key)
        if if_match is not None and if_match != blob.info.etag:
            raise EtagMismatch(key)
        served = byte_range or ByteRange(0, len(blob.content))
        return Opened(blob.info, _MemoryBody(blob.content, served))

    async def head(self, key: str) -> BlobInfo:
        """What is known of the key."""
        return self._find(key).info

    async def delete_many(self, keys: Sequence[str]) -> list[DeleteResult]:
        """Forget the keys."""
        for key in keys:
            if self._blobs.pop(key, None) is not None:
                del self._order[bisect.bisect_left(self._order, key)]
        return [DeleteResult(key) for key in keys]

    async def list(self, prefix: str, start_after: str, limit: int) -> list[BlobEntry]:
        """Keys in order."""
        at = bisect.bisect_left(self._order, prefix)
        if start_after:
            at = max(at, bisect.bisect_right(self._order, start_after))
        found = itertools.takewhile(lambda key: key.startswith(prefix), itertools.islice(self._order, at, at + limit))
        return [_entry(key, self._blobs[key].info) for key in found]

    async def copy(self, source: str, if_match: str, key: str, options: WriteOptions) -> Stored:
        """The same bytes under another key."""
        self._refuse_existing(key, options)
        blob = self._find(source)
        if blob.info.etag != if_match:
            raise EtagMismatch(source)
        return await self._appear(key, blob.content, msgspec.structs.replace(options, create_only=True))

    async def now(self) -> datetime:
        """The clock that was given."""
        return self._now()

    async def close(self) -> None:
        """Nothing to release."""

    def _find(self, key: str) -> _Blob:
        blob = self._blobs.get(key)
        if blob is None:
            raise NotFound(key)
        return blob

    def _refuse_existing(self, key: str, options: WriteOptions) -> None:
        if options.create_only and key in self._blobs:
            raise AlreadyExists(key)

    async def _appear(self, key: str, content: bytes, options: WriteOptions) -> Stored:
        if options.gate is not None:
            await options.gate()
        self._refuse_existing(key, options)
        info = BlobInfo(
            etag=f"m-{next(self._numbers):x}",
            size_bytes=len(content),
            landed_at=self._now(),
            content_type=options.content_type,
            metadata=dict(options.metadata),
        )
        if key not in self._blobs:
            bisect.insort(self._order, key)
        self._blobs[key] = _Blob(info, content)
        return Stored(info.etag, info.size_bytes)


class _MemoryBody:
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


def _entry(key: str, info: BlobInfo) -> BlobEntry:
    return BlobEntry(key, info.size_bytes, info.etag, info.landed_at)
