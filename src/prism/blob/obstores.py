"""What the drivers on obstore share: its errors in the port's words, bodies in and out, metadata in headers.

An exception that leaves here carries nothing of the library's text, which holds URLs and the store's answer; it is
replaced, never chained. obstore tells refusals apart by class, but of all other answers it gives the status and the
kind of failure only inside of its text: they are read there, once, and nowhere else.
Nothing here holds more than one part of a body, or retries.
"""

import asyncio
import base64
import binascii
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, TypeVar

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

from ..errors import ErrorCode, PrismError
from ..model import ByteRange
from .driver import AlreadyExists, BlobInfo, EtagMismatch, NoSpace, NotFound, Opened, Stored, Throttled, WriteOptions
from .threads import Threads

__all__ = [
    "CLIENT_TIMEOUT",
    "NO_RETRIES",
    "Cut",
    "OddHeaders",
    "answered",
    "asked",
    "fitted",
    "head",
    "linger",
    "open_read",
    "plain_metadata",
    "put_whole",
    "quoted",
    "translated",
    "unquoted",
]

T = TypeVar("T")
NO_RETRIES: Any = {
    "max_retries": 0,
    "retry_timeout": timedelta(seconds=1),
    "backoff": {"init_backoff": timedelta(seconds=1), "max_backoff": timedelta(seconds=1), "base": 2},
}
"""obstore repeats nothing: the layers do, and they know what may be repeated."""
CLIENT_TIMEOUT = timedelta(days=1)
"""obstore's own deadline counts whole transfers; the `Timeout` layer bounds every step instead."""
_ODD_HEADER = "header contained non UTF-8 characters"
_CHUNK_BYTES = 2**20
_FETCH_BYTES = 2**19
_SHORT_BYTES = 2**16
_LINGER_SECONDS = 0.05
_STATUS = re.compile(r"status code: (\d{3})\b")
_KIND = re.compile(r"\bkind: (Connect|Timeout|Request|Interrupted|Decode)\b")
_CODE = re.compile(r"<Code>([A-Za-z0-9]{1,64})</Code>")
_FULL = frozenset({"XMinioStorageFull", "QuotaExceeded", "XMinioAdminBucketQuotaExceeded"})
_NO_BUCKET = frozenset({"NoSuchBucket", "ContainerNotFound"})
_LOCKED_OUT = frozenset({"ExpiredToken", "InvalidToken", "InvalidAccessKeyId", "SignatureDoesNotMatch"})
_RACES = frozenset({"ConditionalRequestConflict", "OperationAborted", "ExistingObjectIsDirectory"})
"""What passes: two conditional writers at once, or (Versity) a folder that a neighbour's deletion is just removing."""
_BUSY = frozenset({"SlowDown", "SlowDownRead", "SlowDownWrite", "ServerBusy", "TooManyRequests"})
_PLAIN = re.compile(r"[!-~](?: ?[!-~])*\Z")
_WORD = re.compile(r"=\?utf-8\?b\?([A-Za-z0-9+/]*={0,2})\?=\Z")
_ATTRIBUTES = frozenset(
    {"cache-control", "content-disposition", "content-encoding", "content-language", "content-type", "storage-class"}
)


# -- errors


class OddHeaders(Exception):
    """The object is there, but obstore cannot read what was said of it when it was sent: ask in another way."""


def answered(status: int, code: str, bucket: str, retry_after_seconds: float | None = None) -> Exception:
    """What an error answer of the store means: HTTP status, the store's own name of the error, seconds it asks for."""
    if status == 507 or code in _FULL:
        return NoSpace()
    if code in _NO_BUCKET:
        return PrismError(ErrorCode.STORE_DOWN, f"the store has no bucket {bucket!r}: create it, or correct its name")
    if code == "RequestTimeTooSkewed":
        return PrismError(ErrorCode.STORE_DOWN, "the store refuses Prism's clock: it is minutes off")
    if status in {401, 403} or code in _LOCKED_OUT:
        clock = "" if code else ", and this machine's clock"  # an answer to a HEAD has no body, and so no code
        what = f"check the credentials and their rights for the bucket {bucket!r}{clock}"
        return PrismError(ErrorCode.STORE_DOWN, f"the store does not let Prism in: {what}", context={"cause": code})
    if status in {429, 503} or code in _BUSY:
        return Throttled(retry_after_seconds)
    if status in {408, 500, 502, 504} or code in _RACES:
        return ConnectionError(f"the store answered {status}")
    plain = {404: NotFound, 412: EtagMismatch, 409: AlreadyExists}
    if status in plain:
        return plain[status]()
    said = f"{status} {code}".strip()
    return PrismError(ErrorCode.STORE_DOWN, f"the store refuses the request: {said}", context={"cause": said})


def translated(error: Exception, bucket: str) -> Exception:
    """The port's exception for one of obstore's; any other comes back as it is."""
    if not isinstance(error, BaseError | FileNotFoundError):
        return error
    text = str(error)
    found = _CODE.search(text)
    code = found[1] if found else ""
    match error:
        case FileNotFoundError():
            return answered(404, code, bucket)
        case AlreadyExistsError():
            return ConnectionError("the store saw two writers at once") if code in _RACES else AlreadyExists()
        case PreconditionError():
            return EtagMismatch()
        case PermissionDeniedError() | UnauthenticatedError():
            return answered(403, code, bucket)
    if status := _STATUS.search(text):
        return answered(int(status[1]), code, bucket)
    if _ODD_HEADER in text:
        return OddHeaders()
    kind = _KIND.search(text)
    if kind and kind[1] == "Timeout":
        return TimeoutError("the store does not answer in time")
    if kind:
        return ConnectionError("the connection to the store failed")
    return PrismError(ErrorCode.STORE_DOWN, "the store fails at the moment", context={"cause": type(error).__name__})


async def asked(call: Awaitable[T], bucket: str) -> T:
    """The answer of one of obstore's calls, its failure in the port's words."""
    try:
        return await call
    except Exception as error:
        known = translated(error, bucket)
        if known is error:
            raise
    raise known


async def linger() -> None:
    """The end of a driver's `close`: the loop lives on until obstore's threads have let go of it."""
    await asyncio.sleep(_LINGER_SECONDS)


# -- etags and metadata


def unquoted(etag: str | None) -> str:
    """An etag as Prism keeps it: without the quotes of HTTP."""
    return (etag or "").removeprefix('"').removesuffix('"')


def quoted(etag: str) -> str:
    """An etag as HTTP writes it."""
    return f'"{etag}"'


def fitted(metadata: Mapping[str, str], limit_bytes: int, overhead_bytes: int = 0) -> dict[str, str]:
    """Metadata as headers carry it: ASCII values, at most `limit_bytes` in all, each counting `overhead_bytes` more.

    What does not fit is left away; Prism's own fields (`prism-…`) are taken first.
    """
    fields: dict[str, str] = {}
    for name, value in sorted(metadata.items(), key=lambda field: not field[0].startswith("prism-")):
        shown = _escaped(name)
        coded = value if _PLAIN.match(value) and not _WORD.match(value) else _word(value)
        size = len(shown) + len(coded) + overhead_bytes
        if size <= limit_bytes:
            limit_bytes -= size
            fields[shown] = coded
    return fields


def plain_metadata(fields: Mapping[str, str]) -> dict[str, str]:
    """Metadata as it was before `fitted`; what others wrote comes as they wrote it."""
    return {_unescaped(name.lower()): _unworded(value) for name, value in fields.items()}


def _word(value: str) -> str:
    return f"=?utf-8?b?{base64.b64encode(value.encode()).decode()}?="


def _unworded(value: str) -> str:
    found = _WORD.match(value)
    if found is None:
        return value
    try:
        return base64.b64decode(found[1], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return value


def _escaped(name: str) -> str:
    """obstore takes some names for the object's own headers."""
    return f"{name}~" if name.rstrip("~") in _ATTRIBUTES else name


def _unescaped(name: str) -> str:
    return name[:-1] if name.endswith("~") and name.rstrip("~") in _ATTRIBUTES else name


# -- bodies in


class Cut:
    """The body of a put, taken in parts. Every chunk is observed once, in order, big ones in a thread."""

    def __init__(
        self, chunks: AsyncIterator[bytes], observe: Callable[[bytes], None] | None, threads: Threads | None
    ) -> None:
        self._chunks = chunks
        self._observe = observe
        self._threads = threads
        self._left: bytes | memoryview = b""

    async def take(self, size_bytes: int) -> bytes | bytearray | memoryview:
        """The next `size_bytes`, held whole; fewer only at the end of the body."""
        part: bytes | bytearray | memoryview = b""
        async for piece in self.pieces(size_bytes):
            if not part:
                part = piece
                continue
            if not isinstance(part, bytearray):
                part = bytearray(part)
            part += piece
        return part

    async def pieces(self, size_bytes: int) -> AsyncIterator[bytes | memoryview]:
        """The next `size_bytes` as they come."""
        while size_bytes and not await self.is_over():
            piece, self._left = self._left, b""
            if len(piece) > size_bytes:
                piece, self._left = memoryview(piece)[:size_bytes], memoryview(piece)[size_bytes:]
            size_bytes -= len(piece)
            yield piece

    async def is_over(self) -> bool:
        """Whether the body has ended; waits for its next chunk to know."""
        if not self._left:
            self._left = await anext(self._chunks, b"")
            if self._left and self._observe is not None:
                await self._look(self._left)
        return not self._left

    async def _look(self, chunk: bytes | memoryview) -> None:
        assert self._observe is not None
        if self._threads is None or len(chunk) < _SHORT_BYTES:
            self._observe(chunk)  # type: ignore[arg-type]  # views are welcome where bytes are
        else:
            await self._threads.run(self._observe, chunk)  # type: ignore[arg-type]  # as above


async def put_whole(
    store: Any,
    bucket: str,
    key: str,
    body: bytes | bytearray | memoryview,
    options: WriteOptions,
    metadata: Mapping[str, str],
) -> Stored:
    """One request that makes the object; `metadata` comes from `fitted`. The gate has been passed."""
    attributes: Any = dict(metadata)
    if options.content_type:
        attributes["Content-Type"] = options.content_type
    sent = obstore.put_async(
        store,
        key,
        body,
        attributes=attributes,
        tags=dict(options.tags) or None,
        mode="create" if options.create_only else "overwrite",
        use_multipart=False,
    )
    result = await asked(sent, bucket)
    return Stored(unquoted(result["e_tag"]), len(body))


# -- bodies out


async def head(store: Any, bucket: str, key: str) -> BlobInfo:
    """What the store says of a key."""
    result = await asked(obstore.get_async(store, key, options={"head": True}), bucket)
    return _info(result)


async def open_read(
    store: Any, bucket: str, key: str, byte_range: ByteRange | None, if_match: str | None, version: str | None = None
) -> Opened:
    """Open the bytes; `if_match` is an etag as Prism keeps it. A range of nothing reads nothing."""
    options: Any = {}
    if if_match is not None:
        options["if_match"] = quoted(if_match)
    if version is not None:
        options["version"] = version
    empty = byte_range is not None and not byte_range.length
    if empty:
        options["head"] = True
    elif byte_range is not None:
        options["range"] = (byte_range.offset, byte_range.offset + byte_range.length)
    result = await asked(obstore.get_async(store, key, options=options), bucket)
    info = _info(result)
    length = byte_range.length if byte_range is not None else info.size_bytes
    return Opened(info, _Reading(None if empty else result, bucket, length))


class _Reading:
    """A read under way. The connection is asked for more only when the reader is."""

    def __init__(self, result: Any, bucket: str, length: int) -> None:
        self._result = result
        self._bucket = bucket
        self._length = length

    async def __aiter__(self) -> AsyncIterator[bytes]:
        result, self._result = self._result, None
        if result is None:
            return
        left = self._length
        stream = result.stream(min_chunk_size=_FETCH_BYTES)
        while (chunk := await asked(_next(stream), self._bucket)) is not None:
            left -= len(chunk)
            for piece in _short(chunk):
                yield piece
        if left:
            raise ConnectionError("the store sent fewer bytes than it said")

    async def aclose(self) -> None:
        """Let the connection go."""
        self._result = None


async def _next(stream: Any) -> Any:
    try:
        return await anext(stream)
    except StopAsyncIteration:
        return None


def _short(chunk: Any) -> Iterator[bytes]:
    if len(chunk) <= _CHUNK_BYTES:
        yield bytes(chunk)
        return
    view = memoryview(chunk)
    for start in range(0, len(view), _CHUNK_BYTES):
        yield bytes(view[start : start + _CHUNK_BYTES])


def _info(result: Any) -> BlobInfo:
    meta, attributes = result.meta, dict(result.attributes)
    fields = {name: value for name, value in attributes.items() if name.lower() not in _ATTRIBUTES}
    return BlobInfo(
        etag=unquoted(meta["e_tag"]),
        size_bytes=meta["size"],
        landed_at=meta["last_modified"],
        content_type=attributes.get("Content-Type", ""),
        metadata=plain_metadata(fields),
    )
