"""Objects that come in parts: S3's multipart uploads, for long bodies and for clients that send the parts themselves.

S3 wants the length of a part before its first byte, so a part of a body of unknown length has to be complete before it
is sent: up to `_HELD_BYTES` in memory, a few at a time, larger ones (of which only huge bodies have any) in a temporary
file. A body that fails or is cancelled leaves no open upload: its parts are waited for, a late one would stay, then it
is aborted. When the store takes long over that, it goes on behind the caller's back, and `close` waits for it.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from ..errors import PrismError
from .driver import (
    AlreadyExists,
    BadPart,
    EtagMismatch,
    NoSpace,
    NotFound,
    OpenMultipart,
    Part,
    Stored,
    Throttled,
    WriteOptions,
)
from .obstores import Cut, quoted, unquoted
from .s3_requests import Requests, StoreAnswered

__all__ = ["SMALLEST_PART_BYTES", "Begun", "Uploads", "part_bytes", "tagging"]

SMALLEST_PART_BYTES = 5 * 2**20
_HELD_BYTES = 8 * 2**20
_LARGEST_PART_BYTES = 5 * 2**30
_GROWS_EVERY = 1000
_AT_A_TIME = 2
_MOST_HELD_PARTS = 16
_UNDO_SECONDS = 5.0
_BAD = {
    "InvalidPart": "a part is missing, or its etag is another",
    "InvalidPartOrder": "the parts are not in order",
    "EntityTooSmall": "a part other than the last is smaller than 5 MiB",
}
_OVER = frozenset({"NoSuchUpload"})


def part_bytes(number: int) -> int:
    """The size of part `number` of a body of unknown length: 10,000 of them hold more than 5 TiB."""
    return min(_HELD_BYTES << (number - 1) // _GROWS_EVERY, _LARGEST_PART_BYTES)


class Uploads:
    """The multipart uploads of one bucket. `written` are the parameters that every new object gets."""

    def __init__(self, requests: Requests, written: Mapping[str, str]) -> None:
        self._requests = requests
        self._written = written
        self._held = asyncio.Semaphore(_MOST_HELD_PARTS)
        self._aftermath: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def begun(self, key: str, options: WriteOptions, fields: Mapping[str, str]) -> AsyncIterator["Begun"]:
        """A new upload, of which nothing stays when the block fails or is cancelled."""
        upload = Begun(self, key)
        try:
            await upload.begin(self.create(key, options, fields))
            yield upload
        except BaseException:
            left = asyncio.ensure_future(upload.undo())
            self._aftermath.add(left)
            left.add_done_callback(self._aftermath.discard)
            await asyncio.wait([left], timeout=_UNDO_SECONDS)
            raise

    async def put(
        self,
        key: str,
        first: bytes | bytearray | memoryview,
        cut: Cut,
        options: WriteOptions,
        fields: Mapping[str, str],
    ) -> Stored:
        """Store `first` and the rest of a body as one object."""
        async with self.begun(key, options, fields) as upload:
            await self._send_body(upload, first, cut)
            return await self.complete(key, upload.name, await upload.parts(), options)

    async def _send_body(self, upload: "Begun", body: bytes | bytearray | memoryview, cut: Cut) -> None:
        number = 1
        while body:
            await upload.start(self.send_part(upload.key, upload.name, number, body, len(body)))
            number += 1
            if part_bytes(number) > _HELD_BYTES:
                break
            body = await cut.take(part_bytes(number))
        await self._send_spooled(upload, number, cut)

    async def _send_spooled(self, upload: "Begun", number: int, cut: Cut) -> None:
        while not await cut.is_over():
            with tempfile.TemporaryFile(prefix="prism-part-") as file:
                size = 0
                async for piece in cut.pieces(part_bytes(number)):
                    size += await asyncio.to_thread(file.write, piece)
                file.seek(0)
                await upload.start(self.send_part(upload.key, upload.name, number, file, size))
                await upload.parts()
            number += 1

    async def send_part(self, key: str, upload: str, number: int, body: Any, size_bytes: int) -> Part:
        """Send a part that is at hand; few at a time, as they are held in memory."""
        async with self._held:
            return await self._send(key, upload, number, body, size_bytes)

    async def _send(self, key: str, upload: str, number: int, body: Any, size_bytes: int) -> Part:
        about = {"Key": key, "UploadId": upload, "PartNumber": number, "ContentLength": size_bytes}
        sent = bytes(body) if isinstance(body, memoryview) else body
        try:
            answer = await self._requests.ask("upload_part", _OVER, Body=sent, **about)
        except StoreAnswered:
            raise NotFound from None
        return Part(number=number, etag=unquoted(answer["ETag"]), size_bytes=size_bytes)

    # -- uploads whose parts come by several requests

    async def create(self, key: str, options: WriteOptions, fields: Mapping[str, str]) -> str:
        """Begin an upload; the gate is passed before."""
        if options.gate is not None:
            await options.gate()
        answer = await self._requests.ask("create_multipart_upload", Key=key, **self.written(options, fields))
        return str(answer["UploadId"])

    def written(self, options: WriteOptions, fields: Mapping[str, str]) -> dict[str, Any]:
        """The parameters of a request that makes an object."""
        parameters: dict[str, Any] = {"Metadata": dict(fields), **self._written}
        if options.content_type:
            parameters["ContentType"] = options.content_type
        if options.tags:
            parameters["Tagging"] = tagging(options.tags)
        return parameters

    async def put_part(self, key: str, upload: str, number: int, chunks: AsyncIterator[bytes], size_bytes: int) -> Part:
        """Store one part of exactly `size_bytes`."""
        if size_bytes > _HELD_BYTES:
            return await self._send_flowing(key, upload, number, chunks, size_bytes)
        cut = Cut(chunks, None, None)
        body = await cut.take(size_bytes)
        if len(body) < size_bytes or not await cut.is_over():
            raise BadPart(f"part {number} is not of the {size_bytes} bytes that were declared")
        return await self.send_part(key, upload, number, body, size_bytes)

    async def _send_flowing(
        self, key: str, upload: str, number: int, chunks: AsyncIterator[bytes], size_bytes: int
    ) -> Part:
        feed = _Feed(chunks, size_bytes)
        try:
            return await self._send(key, upload, number, feed, size_bytes)
        except Exception as error:  # noqa: BLE001 - what the chunks raised comes out in its place
            raise feed.error or error from None
        finally:
            await feed.stop()

    async def list_parts(self, key: str, upload: str) -> Sequence[Part]:
        """What has arrived, by number."""
        found: list[Part] = []
        marker: dict[str, int] = {}
        while True:
            try:
                page = await self._requests.ask("list_parts", _OVER, Key=key, UploadId=upload, **marker)
            except StoreAnswered:
                raise NotFound from None
            found += map(_part, page.get("Parts", ()))
            if not page.get("IsTruncated") or not page.get("Parts"):
                return found
            marker = {"PartNumberMarker": found[-1].number}

    async def complete(self, key: str, upload: str, parts: Sequence[Part], options: WriteOptions) -> Stored:
        """Make the object; the gate is passed before. A store that knows no conditional completion is asked before
        whether the key is taken: keys are never used twice, so nobody else can take it in between."""
        if not parts:
            raise BadPart("an object needs at least one part")
        if options.create_only and await self._is_taken(key):
            raise AlreadyExists
        if options.gate is not None:
            await options.gate()
        listed = [{"PartNumber": part.number, "ETag": quoted(part.etag)} for part in parts]
        only = {"IfNoneMatch": "*"} if options.create_only else {}
        try:
            answer = await self._requests.ask(
                "complete_multipart_upload",
                _OVER.union(_BAD),
                Key=key,
                UploadId=upload,
                MultipartUpload={"Parts": listed},
                **only,
            )
        except EtagMismatch:
            raise AlreadyExists from None
        except StoreAnswered as error:
            raise (NotFound() if error.code in _OVER else BadPart(_BAD[error.code])) from None
        return Stored(unquoted(answer["ETag"]), sum(part.size_bytes for part in parts))

    async def _is_taken(self, key: str) -> bool:
        try:
            await self._requests.ask("head_object", Key=key)
        except NotFound:
            return False
        return True

    async def abort(self, key: str, upload: str) -> None:
        """Forget an upload; one that is over is fine."""
        try:
            await self._requests.ask("abort_multipart_upload", _OVER, Key=key, UploadId=upload)
        except (StoreAnswered, NotFound):
            return

    async def open(self, key: str) -> Sequence[OpenMultipart]:
        """The open uploads of exactly this key."""
        found: list[OpenMultipart] = []
        marker: dict[str, str] = {}
        while True:
            page = await self._requests.ask("list_multipart_uploads", Prefix=key, **marker)
            listed = [upload for upload in page.get("Uploads", ()) if upload["Key"] == key]
            found += (OpenMultipart(key, upload["UploadId"], upload["Initiated"]) for upload in listed)
            if not page.get("IsTruncated") or len(listed) < len(page.get("Uploads", ())):
                return found
            marker = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    async def close(self) -> None:
        """Wait until what failed has been undone, or the store takes too long over that."""
        if self._aftermath:
            await asyncio.wait(self._aftermath, timeout=_UNDO_SECONDS)


class Begun:
    """An upload under way: its name, and its parts in flight, few at a time."""

    def __init__(self, uploads: Uploads, key: str) -> None:
        self.key = key
        self.name = ""
        self._uploads = uploads
        self._beginning: asyncio.Task[str] | None = None
        self._flying: list[asyncio.Task[Part]] = []
        self._landed: list[Part] = []

    async def begin(self, creating: Coroutine[Any, Any, str]) -> None:
        """Let the upload begin; one that began while the caller left is known, too."""
        self._beginning = asyncio.ensure_future(creating)
        self.name = await asyncio.shield(self._beginning)

    async def start(self, sending: Coroutine[Any, Any, Part], at_a_time: int = _AT_A_TIME) -> None:
        """Send a part, when fewer than `at_a_time` are in flight."""
        self._flying.append(asyncio.ensure_future(sending))
        while len(self._flying) >= at_a_time:
            await self._first()

    async def parts(self) -> Sequence[Part]:
        """All parts, when they have arrived."""
        while self._flying:
            await self._first()
        return self._landed

    async def _first(self) -> None:
        self._landed.append(await asyncio.shield(self._flying[0]))
        del self._flying[0]

    async def undo(self) -> None:
        """Leave nothing."""
        assert self._beginning is not None
        await asyncio.gather(self._beginning, *self._flying, return_exceptions=True)
        with contextlib.suppress(PrismError, NoSpace, Throttled, OSError):
            for name in await self._names(self._beginning):
                await self._uploads.abort(self.key, name)

    async def _names(self, beginning: "asyncio.Task[str]") -> Sequence[str]:
        """The upload's name. When nobody heard the store's answer, what is open: the key is this writer's alone."""
        error = beginning.exception()
        if error is None:
            return [beginning.result()]
        heard = not isinstance(error, ConnectionError | TimeoutError)
        return [] if heard else [one.upload for one in await self._uploads.open(self.key)]


class _Feed:
    """A body that a thread reads while the loop brings it, one piece at a time."""

    def __init__(self, chunks: AsyncIterator[bytes], size_bytes: int) -> None:
        self.error: Exception | None = None
        self._chunks = chunks
        self._missing = size_bytes
        self._loop = asyncio.get_running_loop()
        self._left: bytes | memoryview = b""
        self._pulling: asyncio.Task[Any] | None = None
        self._stopped = False

    def read(self, size: int = -1) -> bytes | memoryview:
        """The next bytes, at most `size`: called by the thread that sends them."""
        if not self._left:
            self._left = memoryview(asyncio.run_coroutine_threadsafe(self._pull(), self._loop).result())
        size = len(self._left) if size < 0 else size
        piece, self._left = self._left[:size], self._left[size:]
        return piece

    async def _pull(self) -> bytes:
        if self._stopped:
            raise ConnectionAbortedError
        self._pulling = asyncio.current_task()
        try:
            chunk = await anext(self._chunks, b"")
            self._missing -= len(chunk)
            if self._missing < 0 or (self._missing and not chunk):
                raise BadPart("a part is not of the size that was declared")
        except Exception as error:
            self.error = error
            raise
        return chunk

    async def stop(self) -> None:
        """Bring nothing more; the chunks are the caller's again."""
        self._stopped = True
        if self._pulling is not None and not self._pulling.done():
            self._pulling.cancel()
            await asyncio.wait([self._pulling])


def tagging(tags: Mapping[str, str]) -> str:
    """Object tags as a header carries them."""
    return urlencode(tags)


def _part(listed: Mapping[str, Any]) -> Part:
    return Part(
        number=listed["PartNumber"],
        etag=unquoted(listed["ETag"]),
        size_bytes=listed["Size"],
        crc32c=listed.get("ChecksumCRC32C"),
    )
