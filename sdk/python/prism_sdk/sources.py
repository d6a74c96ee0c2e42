"""What is uploaded: bytes, a binary file or an iterable of bytes, cut into pieces of at most 1 MiB.

Bytes and seekable files can be read again, so a put of them may be repeated; their size is known, and is declared, so
that a file which is cut short meanwhile is refused. Iterables are read once.
"""

import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import IO, Any, Protocol

import google_crc32c

from .checksums import crc32c_text
from .frames import CHUNK_BYTES

__all__ = ["AsyncSource", "Source", "async_source_of", "source_of"]


class Source(Protocol):
    """Data to upload."""

    size_bytes: int | None
    checksum_crc32c: str | None
    """Known before it is read, or None."""
    replayable: bool
    blocking: bool
    """Reading it may wait, for a disk or a peer."""

    def pieces(self) -> Iterator[bytes | memoryview]:
        """The data from its beginning, in pieces that are not empty."""
        ...


class AsyncSource(Protocol):
    """Data to upload that arrives asynchronously."""

    size_bytes: int | None
    checksum_crc32c: str | None
    replayable: bool
    blocking: bool

    def pieces(self) -> AsyncIterator[bytes | memoryview]:
        """As `Source.pieces`."""
        ...


class _Bytes:
    replayable = True
    blocking = False

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size_bytes: int | None = len(data)
        self.checksum_crc32c: str | None = crc32c_text(google_crc32c.extend(0, data))

    def pieces(self) -> Iterator[bytes | memoryview]:
        view = memoryview(self._data)
        for start in range(0, len(view), CHUNK_BYTES):
            yield view[start : start + CHUNK_BYTES]


class _File:
    blocking = True
    checksum_crc32c: str | None = None

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.replayable = _seekable(file)
        self._start = file.tell() if self.replayable else 0
        self.size_bytes: int | None = None
        if self.replayable:
            self.size_bytes = file.seek(0, os.SEEK_END) - self._start
            file.seek(self._start)

    def pieces(self) -> Iterator[bytes | memoryview]:
        if self.replayable:
            self._file.seek(self._start)
        while piece := self._file.read(CHUNK_BYTES):
            yield from _cut(piece)


class _Iterable:
    replayable = False
    blocking = False
    size_bytes: int | None = None
    checksum_crc32c: str | None = None

    def __init__(self, data: Iterable[bytes]) -> None:
        self._data = data

    def pieces(self) -> Iterator[bytes | memoryview]:
        for piece in self._data:
            yield from _cut(piece)


class _AsyncIterable:
    replayable = False
    blocking = False
    size_bytes: int | None = None
    checksum_crc32c: str | None = None

    def __init__(self, data: AsyncIterable[bytes]) -> None:
        self._data = data

    async def pieces(self) -> AsyncIterator[bytes | memoryview]:
        async for piece in self._data:
            for part in _cut(piece):
                yield part


def source_of(data: Any) -> Source:
    """TypeError for what cannot be uploaded."""
    if isinstance(data, bytes | bytearray | memoryview):
        return _Bytes(bytes(data))
    if isinstance(data, str):
        raise TypeError("data is text: encode it, for example data.encode()")
    if hasattr(data, "read"):
        return _File(data)
    if isinstance(data, Iterable):
        return _Iterable(data)
    raise TypeError(f"data is bytes, a binary file or an iterable of bytes, not {type(data).__name__}")


def async_source_of(data: Any) -> Source | AsyncSource:
    """As `source_of`, and asynchronous iterables."""
    return _AsyncIterable(data) if isinstance(data, AsyncIterable) else source_of(data)


def _seekable(file: Any) -> bool:
    seekable = getattr(file, "seekable", None)
    return bool(seekable and seekable())


def _cut(piece: Any) -> Iterator[bytes]:
    """A caller's piece as bytes of at most 1 MiB."""
    if not isinstance(piece, bytes | bytearray | memoryview):
        hint = "open the file with mode 'rb'" if isinstance(piece, str) else "pieces are bytes"
        raise TypeError(f"data gave a {type(piece).__name__}: {hint}")
    for start in range(0, len(piece), CHUNK_BYTES):
        part = piece[start : start + CHUNK_BYTES] if len(piece) > CHUNK_BYTES else piece
        yield bytes(part)
