"""The body of an S3 request: how long it is, how it is encoded, what it must hash to, and its content in large pieces.

A body is plain or `aws-chunked`; its checksums stand in headers or come after it. What a header declares early is left
to the service to check (CRC-32C, SHA-256, MD5, size); the rest is computed here while the content passes, in a thread
where it is much, and a body that does not match ends with an error before its end.
"""

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator

import google_crc32c
import msgspec

from ..blob.sigv4 import STREAMING
from ..errors import ErrorCode, PrismError
from ..model import Declared
from .headers import hex_of_base64
from .s3_checksums import PREFIX, Checksums, algorithm
from .s3_chunked import Unchunker
from .s3_exchange import S3Request, invalid, unimplemented
from .transfer import incoming

__all__ = ["Incoming", "incoming_body", "read_document"]

_SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
_SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
_UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
_NO_CHECKSUM = frozenset({"x-amz-checksum-algorithm", "x-amz-checksum-mode", "x-amz-checksum-type"})
_IN_PLACE_BYTES = 1 << 17
"""Up to here hashing is quicker than handing it to a thread."""
_HEX_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_LENGTH = re.compile(r"[0-9]{1,15}\Z")


class Incoming(msgspec.Struct, frozen=True):
    """A body that was looked at but not read: iterate `chunks` once. `checksums` are the headers that declared one."""

    declared: Declared
    chunks: AsyncIterator[bytes]
    checksums: dict[str, str]


def incoming_body(request: S3Request) -> Incoming:
    """What is coming. INVALID_ARGUMENT for what is malformed or has no length (MissingContentLength), UNIMPLEMENTED for
    checksums and encodings that Prism does not know."""
    encoded = _is_chunked(request)
    length = _length(request, "x-amz-decoded-content-length" if encoded else "content-length")
    headers = {n: v for n, v in request.headers.items() if n.startswith(PREFIX) and n not in _NO_CHECKSUM}
    expected = {algorithm(name, value): value for name, value in headers.items()}
    checksums = Checksums()
    for name in expected.keys() - {"crc32c", "sha256"}:
        checksums.want(name)
    declared = _declared(request, length, expected, encoded)
    if encoded:
        chunks = _unchunked(request, length, expected, checksums)
    else:
        chunks = _checked(incoming(request, length), expected, checksums) if checksums else incoming(request, length)
    return Incoming(declared, chunks, headers)


async def read_document(request: S3Request, least_bytes: int = 0) -> bytes:
    """A body that is not an object's bytes, whole; empty when there is none. TOO_LARGE, CHECKSUM_MISMATCH.

    `least_bytes` may always come, whatever `limits.max_json_bytes` says.
    """
    largest = max(request.services.config.limits.max_json_bytes, least_bytes)
    if not request.unread:
        return b""
    body = incoming_body(request)
    if (body.declared.size_bytes or 0) > largest:
        raise PrismError(ErrorCode.TOO_LARGE, f"a body that is not an object's bytes has at most {largest} bytes")
    content = b"".join([piece async for piece in body.chunks])
    found = Declared(
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        crc32c=base64.b64encode(google_crc32c.value(content).to_bytes(4, "big")).decode(),
        md5=hashlib.md5(content, usedforsecurity=False).hexdigest(),
    )
    for field in Declared.__struct_fields__:
        if getattr(body.declared, field) not in {None, getattr(found, field)}:
            raise PrismError(ErrorCode.CHECKSUM_MISMATCH, f"the body's {field} is not the declared one")
    return content


def _is_chunked(request: S3Request) -> bool:
    mode = request.claim.payload_hash
    if mode.startswith(STREAMING):
        if mode not in {_SIGNED, _SIGNED_TRAILER, _UNSIGNED_TRAILER}:
            raise unimplemented(f"the payload {mode[:80]}")
        return True
    tokens = [token.strip().lower() for token in request.headers.get("content-encoding", "").split(",")]
    return "aws-chunked" in tokens


def _length(request: S3Request, name: str) -> int:
    text = request.headers.get(name)
    if text is None:
        raise invalid("MissingContentLength", f"the request needs the header {name}")
    if not _LENGTH.match(text):
        raise invalid("InvalidArgument", f"header {name} is a number of bytes")
    return int(text)


def _declared(request: S3Request, length: int, expected: dict[str, str], encoded: bool) -> Declared:
    payload, md5 = request.claim.payload_hash, request.headers.get("content-md5")
    sha256 = None if "sha256" not in expected else base64.b64decode(expected["sha256"]).hex()
    if _HEX_SHA256.match(payload) and not encoded:
        if sha256 not in {None, payload}:
            raise PrismError(ErrorCode.CHECKSUM_MISMATCH, "the two SHA-256 that were declared differ")
        sha256 = payload
    elif payload != "UNSIGNED-PAYLOAD" and not payload.startswith(STREAMING):
        raise invalid("InvalidArgument", "x-amz-content-sha256 is the body's SHA-256 in hexadecimal, or a mode of S3's")
    return Declared(
        size_bytes=length, sha256=sha256, crc32c=expected.get("crc32c"), md5=None if md5 is None else _md5(md5)
    )


def _md5(text: str) -> str:
    try:
        return hex_of_base64("Content-MD5", text, 16)
    except PrismError as error:
        raise invalid("InvalidDigest", error.message) from error


async def _checked(
    chunks: AsyncIterator[bytes], expected: dict[str, str], checksums: Checksums
) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        if len(chunk) > _IN_PLACE_BYTES:
            await asyncio.to_thread(checksums.update, chunk)
        else:
            checksums.update(chunk)
        yield chunk
    checksums.check(expected)


async def _unchunked(
    request: S3Request, length: int, expected: dict[str, str], checksums: Checksums
) -> AsyncIterator[bytes]:
    """The content of an encoded body, its signatures, trailers and length checked."""
    mode = request.claim.payload_hash
    signed = mode in {_SIGNED, _SIGNED_TRAILER}
    decoder = Unchunker(request.chain if signed else None, signed_trailer=mode == _SIGNED_TRAILER)
    announced = {t for text in request.headers.get("x-amz-trailer", "").split(",") if (t := text.strip().lower())}
    for name in announced:
        checksums.want(algorithm(name))

    def content_of(block: bytes) -> bytes:
        content = b"".join(decoder.feed(block))
        checksums.update(content)
        return content

    wire_length = request.headers.get("content-length")
    passed = 0
    async for block in incoming(request, None if wire_length is None else int(wire_length)):
        slow = len(block) > _IN_PLACE_BYTES and (signed or checksums)
        content = await asyncio.to_thread(content_of, block) if slow else content_of(block)
        passed += len(content)
        if passed > length:
            break
        if content:
            yield content
    if passed != length:
        raise PrismError(ErrorCode.SIZE_MISMATCH, f"{passed} bytes came, {length} were announced")
    decoder.end()
    if decoder.trailers.keys() != announced:
        raise invalid("MalformedTrailerError", "the trailing headers are not those that x-amz-trailer announced")
    checksums.check(expected | {algorithm(name, value): value for name, value in decoder.trailers.items()})
