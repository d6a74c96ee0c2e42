"""What a store that signs URLs shows to clients, in memory: URLs with a signature, and the request side that checks it.

A request is judged as a real store judges it: method, key, expiry and every signed header first (403), then the body
against what its headers say of it (400), then the key (404, 412, 416). Headers that were not signed may be added and
count. The expiry is looked at when a request begins: one that began in time may land at any time later.
"""

import base64
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Protocol, runtime_checkable
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import msgspec

from ..model import Bindable, ByteRange
from .driver import AlreadyExists, Bound, NotFound, Signed, WriteOptions
from .memory_blobs import Blob, Blobs, Checksum, checksum
from .memory_parts import Multiparts

__all__ = ["Answer", "Front", "Receiving", "Refused", "Signer"]

_META = "x-memory-meta-"
_RANGE = re.compile(r"bytes=(\d*)-(\d*)\Z")


class Answer(msgspec.Struct, frozen=True):
    """What a client gets: the status, headers with names in small letters, the body."""

    status: int
    headers: Mapping[str, str] = {}
    content: bytes = b""


@runtime_checkable
class Receiving(Protocol):
    """A driver whose store's client side can be called."""

    async def receive(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | AsyncIterator[bytes] = b""
    ) -> Answer:
        """One HTTP request to the store."""
        ...


class Signer:
    """Makes the store's URLs and checks them. `address` is what they begin with."""

    def __init__(self, address: str, binds: frozenset[Bindable]) -> None:
        self._address = address
        self._binds = binds
        self._secret = secrets.token_bytes(32)

    def get(
        self, key: str, now: datetime, lasting_seconds: int, content_type: str | None, disposition: str | None
    ) -> Signed:
        """A GET; what the answer is to say stands in the query."""
        said = {"response-content-type": content_type, "response-content-disposition": disposition}
        query = {name: value for name, value in said.items() if value is not None}
        return self._sign("GET", key, now, lasting_seconds, {}, query)

    def put(self, key: str, now: datetime, lasting_seconds: int, bound: Bound) -> Signed:
        """A PUT with these facts bound, as far as the store binds them."""
        return self._sign("PUT", key, now, lasting_seconds, dict(_bound_headers(bound, self._binds)), {})

    def part(
        self, key: str, upload: str, number: int, now: datetime, lasting_seconds: int, size_bytes: int | None
    ) -> Signed:
        """A PUT of a part."""
        headers = dict(_bound_headers(Bound(size_bytes=size_bytes), self._binds))
        return self._sign("PUT", key, now, lasting_seconds, headers, {"upload": upload, "part": str(number)})

    def opened(self, method: str, url: str, headers: Mapping[str, str], now: datetime) -> tuple[str, dict[str, str]]:
        """Key and query of a request; `Refused` with 403 when its URL was not signed so, or is over."""
        split = urlsplit(url)
        query = dict(parse_qsl(split.query, keep_blank_values=True))
        signature = query.pop("signature", "")
        key = unquote(split.path[1:])
        names = [name for name in query.get("headers", "").split(";") if name]
        expected = self._signature(method, key, query, {name: headers.get(name, "") for name in names})
        if not hmac.compare_digest(signature, expected):
            raise Refused(403)
        if now.timestamp() >= float(query["expires"]):
            raise Refused(403)
        return key, query

    def _sign(
        self,
        method: str,
        key: str,
        now: datetime,
        lasting_seconds: int,
        headers: Mapping[str, str],
        query: Mapping[str, str],
    ) -> Signed:
        expires = (now + timedelta(seconds=lasting_seconds)).timestamp()
        whole = {**query, "expires": repr(expires), "headers": ";".join(sorted(headers))}
        whole["signature"] = self._signature(method, key, whole, headers)
        return Signed(f"{self._address}/{quote(key)}?{urlencode(whole)}", headers)

    def _signature(self, method: str, key: str, query: Mapping[str, str], headers: Mapping[str, str]) -> str:
        signed = json.dumps([method, key, sorted(query.items()), sorted(headers.items())]).encode()
        return hmac.new(self._secret, signed, hashlib.sha256).hexdigest()


class Front:
    """The store's side of its clients' requests."""

    def __init__(self, blobs: Blobs, multiparts: Multiparts, signer: Signer, now: Callable[[], datetime]) -> None:
        self._blobs = blobs
        self._multiparts = multiparts
        self._signer = signer
        self._now = now

    async def receive(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | AsyncIterator[bytes] = b""
    ) -> Answer:
        """Judge one request and do what it asks."""
        given = {name.lower(): value for name, value in headers.items()}
        if isinstance(body, bytes):
            given.setdefault("content-length", str(len(body)))
        try:
            key, query = self._signer.opened(method, url, given, self._now())
            if method == "GET":
                return self._get(key, query, given)
            content = body if isinstance(body, bytes) else b"".join([chunk async for chunk in body])
            return self._put(key, query, given, content)
        except Refused as refused:
            return Answer(refused.status)

    def _get(self, key: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        try:
            blob = self._blobs.find(key)
        except NotFound as error:
            raise Refused(404) from error
        served = _served(headers.get("range", ""), len(blob.content))
        answer = _said_of(blob)
        for name in ("content-type", "content-disposition"):
            if (said := query.get(f"response-{name}")) is not None:
                answer[name] = said
        if served is None:
            return Answer(200, answer, blob.content)
        end = served.offset + served.length
        answer["content-length"] = str(served.length)
        answer["content-range"] = f"bytes {served.offset}-{end - 1}/{len(blob.content)}"
        return Answer(206, answer, blob.content[served.offset : end])

    def _put(self, key: str, query: Mapping[str, str], headers: Mapping[str, str], content: bytes) -> Answer:
        if headers.get("content-length", str(len(content))) != str(len(content)):
            raise Refused(400)
        verified = _verified(headers, content)
        try:
            if "upload" in query:
                etag = self._multiparts.put(key, query["upload"], int(query["part"]), content).etag
            else:
                etag = self._blobs.land(key, content, _options(headers), verified).etag
        except AlreadyExists as error:
            raise Refused(412) from error
        except NotFound as error:
            raise Refused(404) from error
        return Answer(200, {"etag": f'"{etag}"'})


class Refused(Exception):
    """The request is answered with this status, and nothing was done."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def _bound_headers(bound: Bound, binds: frozenset[Bindable]) -> list[tuple[str, str]]:
    headers: list[tuple[str, str]] = []
    if bound.create_only and "create_only" in binds:
        headers.append(("if-none-match", "*"))
    if bound.size_bytes is not None and "size" in binds:
        headers.append(("content-length", str(bound.size_bytes)))
    if bound.content_type and "content_type" in binds:
        headers.append(("content-type", bound.content_type))
    if "metadata" in binds:
        headers += [(_META + name, quote(value, safe="")) for name, value in bound.metadata.items()]
    if bound.tags:
        headers.append(("x-memory-tags", urlencode(bound.tags)))
    if bound.sha256 is not None and "sha256" in binds:
        headers.append(("x-memory-sha256", bound.sha256))
    if bound.crc32c is not None and "crc32c" in binds:
        headers.append(("x-memory-crc32c", bound.crc32c))
    if bound.md5 is not None and "md5" in binds:
        headers.append(("content-md5", base64.b64encode(bytes.fromhex(bound.md5)).decode()))
    return headers


def _verified(headers: Mapping[str, str], content: bytes) -> set[Checksum]:
    """The checksums that came with the body, which are its own; `Refused` with 400 when one is not."""
    expected: dict[Checksum, str | None] = {
        "sha256": headers.get("x-memory-sha256"),
        "crc32c": headers.get("x-memory-crc32c"),
        "md5": None,
    }
    if (md5 := headers.get("content-md5")) is not None:
        expected["md5"] = base64.b64decode(md5).hex()
    given = {name for name, value in expected.items() if value is not None}
    if any(checksum(name, content) != expected[name] for name in given):
        raise Refused(400)
    return given


def _options(headers: Mapping[str, str]) -> WriteOptions:
    meta = {name[len(_META) :]: unquote(value) for name, value in headers.items() if name.startswith(_META)}
    return WriteOptions(
        content_type=headers.get("content-type", ""),
        metadata=meta,
        tags=dict(parse_qsl(headers.get("x-memory-tags", ""), keep_blank_values=True)),
        create_only=headers.get("if-none-match") == "*",
    )


def _said_of(blob: Blob) -> dict[str, str]:
    return {
        "etag": f'"{blob.info.etag}"',
        "content-length": str(len(blob.content)),
        "content-type": blob.info.content_type or "application/octet-stream",
        "last-modified": format_datetime(blob.info.landed_at, usegmt=True),
        "accept-ranges": "bytes",
        **{_META + name: quote(value, safe="") for name, value in blob.info.metadata.items()},
    }


def _served(asked: str, size: int) -> ByteRange | None:
    """The range that a header asks for; None for the whole, `Refused` with 416 when it lies outside."""
    found = _RANGE.match(asked)
    if found is None or found[1] == found[2] == "":
        return None
    first = int(found[1]) if found[1] else max(0, size - int(found[2]))
    last = min(int(found[2]), size - 1) if found[1] and found[2] else size - 1
    if first > last:
        raise Refused(416)
    return ByteRange(first, last - first + 1)
