"""A store on the local filesystem: durable, whole or absent, never outside its folder.

A put is two hops to a thread: bytes into a draft and fsync, then, once the gate is passed, link and folder fsync. While
one piece is written the next one is received; a read fetches one piece ahead; nothing more is held, whatever the size
of the object or the speed of the other side. Several processes may share the folder. The blocking part is `files.py`,
that of uploads in parts `parts.py`.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ..digests import Digests
from ..model import ByteRange
from .drafts import Draft
from .driver import (
    BadPart,
    BlobEntry,
    BlobInfo,
    Capabilities,
    DeleteResult,
    Opened,
    OpenMultipart,
    Part,
    Signed,
    Stored,
    WriteOptions,
)
from .files import CHUNK_BYTES, Files, OpenedFile, clock
from .folders import Descriptor
from .parts import PartFiles
from .threads import Threads

__all__ = ["LocalDriver", "open_local"]

T = TypeVar("T")
_BATCH_BYTES = 2**20
_BATCH_PIECES = 4096
_THREADS = 8


async def open_local(
    root: Path,
    *,
    threads: int = _THREADS,
    late_write_seconds: float = 10.0,
    anonymous: bool = True,
    attributes: bool = True,
    folded: bool = False,
    reserve_bytes: int | None = None,
    sync: Callable[[int], None] = os.fsync,
) -> "LocalDriver":
    """Open the store below `root`, which is made if it is missing. OSError when it cannot be used.

    A write that a busy disk kept from being linked for `late_write_seconds` fails instead. `anonymous` false keeps
    drafts in a temporary folder, `attributes` false keeps fields in sidecars, `folded` writes names in small
    ASCII letters: what the driver does by itself where the filesystem asks for it. A put that would
    leave less than `reserve_bytes` of the disk fails: None means 32 MiB or a quarter of it. `sync` makes a
    descriptor's content durable.
    """
    pool = Threads(threads, "prism-store")
    try:
        files = await pool.run(
            lambda: Files(
                root,
                anonymous=anonymous,
                attributes=attributes,
                folded=folded,
                reserve_bytes=reserve_bytes,
                sync=sync,
            )
        )
    except BaseException:
        await pool.close()
        raise
    return LocalDriver(files, pool, late_write_seconds)


class LocalDriver:
    """Blobs as files. `landed_at` is the file's time of last change, `etag` that time and the size."""

    def __init__(self, files: Files, threads: Threads, late_write_seconds: float) -> None:
        self._files = files
        self._parts = PartFiles(files)
        self._threads = threads
        self._capabilities = Capabilities(
            multipart=True,
            copy=True,
            conditional_put=True,
            open_survives_delete=True,
            returned_write_is_final=True,
            late_write_seconds=late_write_seconds,
        )
        self._endings: set[asyncio.Task[None]] = set()

    @property
    def capabilities(self) -> Capabilities:
        """A write lands soon after its gate, or fails: the thread looks at the clock before it links."""
        return self._capabilities

    @property
    def folded(self) -> bool:
        """Whether names are written so that a filesystem that folds case keeps them apart."""
        return self._files.folders.folded

    async def put(self, key: str, chunks: AsyncIterator[bytes], options: WriteOptions) -> Stored:
        """Draft, fsync, gate, link, folder fsync."""
        async with self._writing() as writing:
            pieces = await writing.take(chunks, options.observe)
            draft = await writing.make(lambda draft: self._files.complete(draft, pieces, options))
            return await self._publish(writing, draft, key, options)

    async def copy(self, source: str, if_match: str, key: str, options: WriteOptions) -> Stored:
        """Copied by the kernel, sharing blocks where the filesystem can."""
        options = msgspec.structs.replace(options, create_only=True)
        async with self._writing() as writing:
            draft = await writing.make(lambda _: self._files.copy(source, if_match, options))
            return await self._publish(writing, draft, key, options)

    async def create_multipart(self, key: str, options: WriteOptions) -> str:
        """Gate, then a folder for the parts."""
        if options.gate is not None:
            await options.gate()
        return await self._threads.run(self._parts.begin, key, options)

    async def put_part(self, key: str, upload: str, number: int, chunks: AsyncIterator[bytes], size_bytes: int) -> Part:
        """Draft, fsync, rename, folder fsync."""
        await self._threads.run(self._parts.check, key, upload)
        digests = Digests()
        async with self._writing() as writing:
            pieces = await writing.take(_bounded(chunks, number, size_bytes), digests.update)
            draft = await writing.make(lambda draft: self._parts.seal(draft, pieces, digests, number, size_bytes))
            return await writing.give(lambda: self._parts.place(draft, key, upload, number))

    async def sign_part(
        self, key: str, upload: str, number: int, now: datetime, lasting_seconds: int, size_bytes: int | None
    ) -> Signed:
        """There are no URLs: `capabilities.sign` says so."""
        raise NotImplementedError("a local store does not sign")

    async def list_parts(self, key: str, upload: str) -> Sequence[Part]:
        """What lies in the folder."""
        return await self._threads.run(self._parts.parts, key, upload)

    async def complete_multipart(self, key: str, upload: str, parts: Sequence[Part], options: WriteOptions) -> Stored:
        """Joined by the kernel, sharing blocks where the filesystem can; then as a put, and the folder goes."""
        async with self._writing() as writing:
            draft = await writing.make(lambda _: self._parts.join(key, upload, parts, options))
            return await self._publish(writing, draft, key, options, upload)

    async def abort_multipart(self, key: str, upload: str) -> None:
        """Remove the folder."""
        await self._threads.run(self._parts.forget, key, upload)

    async def open_multiparts(self, key: str) -> Sequence[OpenMultipart]:
        """The folders of the key."""
        return await self._threads.run(self._parts.of, key)

    async def get(self, key: str, byte_range: ByteRange | None, if_match: str | None) -> Opened:
        """One hop for a small object: opened, read and closed."""
        opened = await self._threads.run(self._files.open, key, byte_range, if_match)
        offset, length = (0, opened.info.size_bytes) if byte_range is None else (byte_range.offset, byte_range.length)
        return Opened(opened.info, _FileBody(self._threads, opened, offset, length))

    async def head(self, key: str) -> BlobInfo:
        """What the file says."""
        return await self._threads.run(self._files.head, key)

    async def delete_many(self, keys: Sequence[str]) -> list[DeleteResult]:
        """Unlink; one fsync per folder."""
        return await self._threads.run(self._files.delete, keys)

    async def list(self, prefix: str, start_after: str, limit: int) -> list[BlobEntry]:
        """Read the folders that the page needs."""
        return await self._threads.run(self._files.list, prefix, start_after, limit)

    async def now(self) -> datetime:
        """The filesystem's clock."""
        return await self._threads.run(self._files.now)

    async def close(self) -> None:
        """Wait for writes under way, then remove the temporary folder."""
        while self._endings:
            await asyncio.wait(self._endings)
        await self._threads.close()
        self._files.close()

    async def _publish(
        self, writing: "_Writing", draft: Draft, key: str, options: WriteOptions, upload: str = ""
    ) -> Stored:
        if options.gate is not None:
            await options.gate()
        stored = Stored(draft.etag, draft.size_bytes)
        until = clock() + self._capabilities.late_write_seconds
        if upload:
            await writing.give(lambda: self._parts.publish(draft, key, upload, until, options.create_only))
        else:
            await writing.give(lambda: self._files.publish(draft, key, until, options.create_only))
        return stored

    @contextlib.asynccontextmanager
    async def _writing(self) -> AsyncIterator["_Writing"]:
        """A draft that goes when anything fails."""
        writing = _Writing(self._files, self._threads)
        try:
            yield writing
        except BaseException:
            await self._to_end(writing.discard())
            raise

    async def _to_end(self, work: Coroutine[None, None, None]) -> None:
        """Clean up, also when the caller is cancelled once more."""
        ending = asyncio.ensure_future(work)
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)
        await asyncio.shield(ending)


class _Writing:
    """A draft and the one job that may be at work on it; a caller that is cancelled does not cancel the job."""

    def __init__(self, files: Files, threads: Threads) -> None:
        self._files = files
        self._threads = threads
        self._draft: Draft | None = None
        self._job: asyncio.Future[Draft] | None = None
        self._giving: asyncio.Future[Any] | None = None

    async def take(self, chunks: AsyncIterator[bytes], observe: Callable[[bytes], None] | None) -> list[bytes]:
        """Write the chunks as they come, one batch while the next is received; the last ones are returned."""
        pieces: list[bytes] = []
        size = 0
        async for chunk in chunks:
            pieces.append(chunk)
            size += len(chunk)
            if size >= _BATCH_BYTES or len(pieces) >= _BATCH_PIECES:
                await self._finished()
                self._job = self._threads.run(self._files.write, self._draft, pieces, observe)
                pieces, size = [], 0
        return pieces

    async def make(self, step: Callable[[Draft | None], Draft]) -> Draft:
        """Finish the draft, durable."""
        await self._finished()
        self._job = self._threads.run(step, self._draft)
        self._draft = await asyncio.shield(self._job)
        return self._draft

    async def give(self, step: Callable[[], T]) -> T:
        """Give the draft its name. One whose caller leaves before is not named."""
        giving = self._giving = self._threads.run(step)
        try:
            return await asyncio.shield(giving)
        except asyncio.CancelledError:
            assert self._draft is not None
            self._draft.abandoned = True
            raise

    async def discard(self) -> None:
        """Leave no draft. What was linked before the caller left stays for whoever has seen it."""
        if self._giving is not None:
            await asyncio.wait([self._giving])
        elif self._job is not None:
            await asyncio.wait([self._job])
            if self._job.exception() is None:  # a step that fails takes its draft along
                draft = self._job.result()
                with contextlib.suppress(RuntimeError):  # closed meanwhile
                    await self._threads.run(draft.close)

    async def _finished(self) -> None:
        if self._job is not None:
            self._draft = await asyncio.shield(self._job)


async def _bounded(chunks: AsyncIterator[bytes], number: int, size_bytes: int) -> AsyncIterator[bytes]:
    """The chunks of a part, as long as they are not more than was said."""
    left = size_bytes
    async for chunk in chunks:
        left -= len(chunk)
        if left < 0:
            raise BadPart(f"part {number} has more than the {size_bytes} bytes that were said")
        yield chunk


class _FileBody:
    """An open file read in pieces of 1 MiB, one ahead of the reader."""

    def __init__(self, threads: Threads, opened: OpenedFile, offset: int, length: int) -> None:
        self._threads = threads
        self._descriptor = opened.descriptor
        self._first = opened.first
        self._at = offset + len(opened.first)
        self._end = offset + length

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunk, self._first = self._first, b""
        while chunk:
            following = self._read_ahead()
            yield chunk
            if following is None:
                return
            chunk = await following

    async def aclose(self) -> None:
        """Let the file go; a read under way keeps it until it is done."""
        self._descriptor = None
        self._first = b""

    def _read_ahead(self) -> "asyncio.Future[bytes] | None":
        size = min(CHUNK_BYTES, self._end - self._at)
        if size <= 0 or self._descriptor is None:
            return None
        at, self._at = self._at, self._at + size
        return self._threads.run(_pread, self._descriptor, size, at)


def _pread(descriptor: Descriptor, size: int, at: int) -> bytes:
    return os.pread(descriptor.fd, size, at)
