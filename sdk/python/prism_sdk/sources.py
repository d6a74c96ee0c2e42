"""What is uploaded: bytes, a binary file or an iterable of bytes, cut into pieces of at most 1 MiB.

Bytes and seekable files can be read again, so a put of them may be repeated; their size is known, and is declared, so
that a file which is cut short meanwhile is refused. Iterables are read once.
"""

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from concurrent.futures import Future
from typing import IO, Any

import google_crc32c

from .checksums import crc32c_text
from .frames import CHUNK_BYTES

__all__ = ["Source", "async_source_of", "source_of"]


class Source(ABC):
    """Data to upload. It is read in a thread of gRPC's."""

    size_bytes: int | None = None
    checksum_crc32c: str | None = None
    """Known before it is read, or None."""
    replayable = False

    @abstractmethod
    def pieces(self) -> Iterator[bytes | memoryview]:
        """The data from its beginning, in pieces that are not empty."""

    def release(self) -> None:
        """Nobody waits for the next piece any more."""
        return


class _Bytes(Source):
    replayable = True

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size_bytes = len(data)
        self.checksum_crc32c = crc32c_text(google_crc32c.extend(0, data))

    def pieces(self) -> Iterator[bytes | memoryview]:
        view = memoryview(self._data)
        for start in range(0, len(view), CHUNK_BYTES):
            yield view[start : start + CHUNK_BYTES]


class _File(Source):
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.replayable = _seekable(file)
        self._start = file.tell() if self.replayable else 0
        if self.replayable:
            self.size_bytes = file.seek(0, os.SEEK_END) - self._start
            file.seek(self._start)

    def pieces(self) -> Iterator[bytes | memoryview]:
        if self.replayable:
            self._file.seek(self._start)
        while piece := self._file.read(CHUNK_BYTES):
            yield from _cut(piece)


class _Iterable(Source):
    def __init__(self, data: Iterable[bytes]) -> None:
        self._data = data

    def pieces(self) -> Iterator[bytes | memoryview]:
        for piece in self._data:
            yield from _cut(piece)


class _AsyncIterable(Source):
    """Pieces are made in the event loop and waited for in the thread that sends them."""

    def __init__(self, data: AsyncIterable[bytes], loop: asyncio.AbstractEventLoop) -> None:
        self._data = data
        self._loop = loop
        self._waiting: Future[bytes | None] | None = None

    def pieces(self) -> Iterator[bytes | memoryview]:
        iterator = aiter(self._data)
        while True:
            self._waiting = asyncio.run_coroutine_threadsafe(_next(iterator), self._loop)
            piece = self._waiting.result()
            if piece is None:
                return
            yield from _cut(piece)

    def release(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()


async def _next(iterator: AsyncIterator[bytes]) -> bytes | None:
    return await anext(iterator, None)


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


def async_source_of(data: Any) -> Source:
    """As `source_of`, and asynchronous iterables of the running event loop."""
    if isinstance(data, AsyncIterable):
        return _AsyncIterable(data, asyncio.get_running_loop())
    return source_of(data)


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
