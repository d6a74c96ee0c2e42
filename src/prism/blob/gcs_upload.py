"""Bytes on their way into an object of Google Cloud Storage: one request for a short body, a resumable session for a
long one.

Nothing is visible before the last request was answered. At most one piece of 8 MiB is held. The store is told the
checksum of a short body and refuses others; of a long one, the checksum it computed is compared with ours.
"""

import asyncio
import base64
import contextlib
import secrets
import urllib.parse
from collections.abc import AsyncIterator
from typing import Any

import google_crc32c
import msgspec

from .driver import AlreadyExists, WriteOptions
from .gcs_http import Answer, Http, Piece
from .gcs_signing import METADATA_BYTES
from .obstores import Cut, fitted

__all__ = ["described", "upload"]

_PIECE_BYTES = 8 * 2**20
"""A multiple of 256 KiB, as sessions want it."""
_LOOKED_BYTES = 2**20
_LEAVING_SECONDS = 5.0


async def upload(
    http: Http, name: str, chunks: AsyncIterator[bytes], options: WriteOptions, kms_key: str | None
) -> dict[str, Any]:
    """Make an object of the chunks; the store's resource of it. `AlreadyExists` with `create_only`."""
    query = {"name": name, "ifGenerationMatch": 0 if options.create_only else None, "kmsKeyName": kms_key}
    seen = _Seen(options)
    cut = Cut(chunks, seen.observe, http.threads)
    piece = await cut.take(_PIECE_BYTES)
    if not await cut.is_over():
        session = _Session(http, query, options, seen, piece)
        del piece  # held once
        return await session.send(cut)
    body, content_type = _related({**described(options), "name": name, "crc32c": seen.crc32c}, piece)
    await _pass(options)
    answer = await http.ask(
        "POST",
        f"/upload/storage/v1/b/{http.bucket}/o",
        {"uploadType": "multipart", **query},
        headers={"Content-Type": content_type},
        body=body,
    )
    return _made(http, answer, options)


def described(options: WriteOptions) -> dict[str, Any]:
    """Content type and metadata as the JSON API takes them."""
    return {
        "contentType": options.content_type or "application/octet-stream",
        "metadata": fitted(options.metadata, METADATA_BYTES),
    }


class _Seen:
    """Size and checksum of the body so far."""

    def __init__(self, options: WriteOptions) -> None:
        self.size_bytes = 0
        self._value = 0
        self._observe = options.observe

    @property
    def crc32c(self) -> str:
        """As the store writes it."""
        return base64.b64encode(self._value.to_bytes(4, "big")).decode()

    def observe(self, chunk: bytes) -> None:
        """One more chunk."""
        self.size_bytes += len(chunk)
        for at in range(0, len(chunk), _LOOKED_BYTES):
            piece = chunk if len(chunk) <= _LOOKED_BYTES else memoryview(chunk)[at : at + _LOOKED_BYTES]
            self._value = google_crc32c.extend(self._value, bytes(piece))  # it takes no views
        if self._observe is not None:
            self._observe(chunk)


class _Session:
    """A resumable upload: pieces in order, of which the store may take less than was sent."""

    def __init__(self, http: Http, query: dict[str, Any], options: WriteOptions, seen: _Seen, first: Piece) -> None:
        self._http = http
        self._query = query
        self._options = options
        self._seen = seen
        self._piece = first
        self._path = ""
        self._session: dict[str, str] = {}
        self._sent = 0

    async def send(self, cut: Cut) -> dict[str, Any]:
        """All of the body: its first piece, and what is left."""
        await _pass(self._options)
        await self._begin()
        try:
            while not await cut.is_over():
                await self._put(last=False)
                self._piece = b""
                self._piece = await cut.take(_PIECE_BYTES)
            await _pass(self._options)
            answer = await self._put(last=True)
        except BaseException:
            await self._abort()
            raise
        resource = _made(self._http, answer, self._options)
        if resource.get("crc32c") != self._seen.crc32c or resource.get("size") != str(self._seen.size_bytes):
            raise ConnectionError("the store keeps other bytes than it was sent")
        return resource

    async def _begin(self) -> None:
        path = f"/upload/storage/v1/b/{self._http.bucket}/o"
        answer = await self._http.ask_json(
            "POST", path, {"uploadType": "resumable", **self._query}, described(self._options)
        )
        _refuse(self._http, answer, self._options, "NoSuchBucket")
        location = urllib.parse.urlsplit(answer.headers.get("location", ""))
        # Only path and query are taken from the answer: credentials go to the configured host and to no other.
        self._path, self._session = location.path, dict(urllib.parse.parse_qsl(location.query))
        if not self._path or not self._session:
            raise ConnectionError("the store began no upload")

    async def _put(self, *, last: bool) -> Answer:
        start, end = self._sent, self._sent + len(self._piece)
        while True:
            left = memoryview(self._piece)[self._sent - start :]
            total = str(end) if last else "*"
            answer = await self._http.ask(
                "PUT",
                self._path,
                self._session,
                headers={"Content-Range": f"bytes {self._sent}-{end - 1}/{total}" if left else f"bytes */{end}"},
                body=[left],
            )
            if answer.status in {200, 201} and last:
                self._sent = end
                return answer
            if answer.status != 308:
                _refuse(self._http, answer, self._options, "")
                raise ConnectionError("the store ended the upload early")
            taken = _taken(answer)
            if not self._sent < taken <= end:
                raise ConnectionError("the store takes no more of the upload")
            self._sent = taken
            if taken == end and not last:
                return answer

    async def _abort(self) -> None:
        """Forget the session; one that stays is invisible and ends by itself within a week."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_LEAVING_SECONDS):
                await self._http.ask("DELETE", self._path, self._session, headers={"Content-Length": "0"})


def _taken(answer: Answer) -> int:
    """How many bytes a session has: one more than the last of its range."""
    _, _, last = answer.headers.get("range", "").partition("-")
    return int(last) + 1 if last.isascii() and last.isdigit() else 0


def _related(resource: dict[str, Any], content: Piece) -> tuple[list[Piece], str]:
    """A body of two parts, the object's description and its bytes, and its type."""
    boundary = secrets.token_hex(16)
    head = (
        b"--%(b)s\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n%(json)s\r\n"
        b"--%(b)s\r\nContent-Type: %(type)s\r\n\r\n"
    ) % {
        b"b": boundary.encode(),
        b"json": msgspec.json.encode(resource),
        b"type": resource["contentType"].encode(),
    }
    return [head, content, f"\r\n--{boundary}--\r\n".encode()], f"multipart/related; boundary={boundary}"


async def _pass(options: WriteOptions) -> None:
    if options.gate is not None:
        await options.gate()


def _made(http: Http, answer: Answer, options: WriteOptions) -> dict[str, Any]:
    _refuse(http, answer, options, "NoSuchBucket")
    return answer.resource


def _refuse(http: Http, answer: Answer, options: WriteOptions, absent: str) -> None:
    if answer.status in {200, 201}:
        return
    if answer.status == 412 and options.create_only:
        raise AlreadyExists
    raise http.refusal(answer, absent)
