"""Bodies as S3 clients send them: plain, in signed and unsigned pieces, with trailers, cut short, altered, stalled."""

import asyncio
import base64
import hashlib
import hmac
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from urllib.parse import urlsplit

import pytest
from s3_support import BUCKET, Answer, Raw, s3_code

from prism.testing.running import Running, running_app

TARGET = f"/{BUCKET}/key"
SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
EMPTY = hashlib.sha256(b"").hexdigest()


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    async with running_app() as running:
        yield running


@pytest.fixture
def raw(running: Running) -> Raw:
    return Raw(running.s3)


def crc32(content: bytes) -> str:
    return base64.b64encode(zlib.crc32(content).to_bytes(4, "big")).decode()


async def stored(raw: Raw) -> bytes | None:
    answer = await raw.send("GET", TARGET)
    return answer.body if answer.status == 200 else None


async def put_pieces(
    raw: Raw,
    mode: str,
    pieces: Sequence[bytes],
    trailers: Sequence[tuple[str, str]] = (),
    *,
    length: int | None = None,
    alter: Callable[[bytes], bytes] = lambda encoded: encoded,
    chunked_transfer: bool = False,
) -> Answer:
    """A put in `aws-chunked` pieces, signed by hand as the documentation says."""
    content = b"".join(pieces)
    headers = {
        "Content-Encoding": "aws-chunked",
        "x-amz-decoded-content-length": str(len(content) if length is None else length),
    }
    if trailers:
        headers["x-amz-trailer"] = ",".join(name for name, _ in trailers)
    request, _ = raw.sign("PUT", TARGET, headers, b"", mode)
    stamp = request.headers["X-Amz-Date"]
    scope = f"{stamp[:8]}/us-east-1/s3/aws4_request"
    key = f"AWS4{raw.pair[1]}".encode()
    for part in (stamp[:8], "us-east-1", "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    previous = request.headers["Authorization"][-64:]
    encoded = b""
    for piece in [*pieces, b""]:
        encoded += b"%x" % len(piece)
        if mode != UNSIGNED_TRAILER:
            digest = hashlib.sha256(piece).hexdigest()
            text = f"AWS4-HMAC-SHA256-PAYLOAD\n{stamp}\n{scope}\n{previous}\n{EMPTY}\n{digest}"
            previous = hmac.digest(key, text.encode(), "sha256").hex()
            encoded += b";chunk-signature=" + previous.encode()
        encoded += b"\r\n" + (piece + b"\r\n" if piece else b"")
    lines = "".join(f"{name}:{value}\n" for name, value in trailers)
    encoded += lines.replace("\n", "\r\n").encode()
    if mode == SIGNED_TRAILER:
        digest = hashlib.sha256(lines.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256-TRAILER\n{stamp}\n{scope}\n{previous}\n{digest}"
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        encoded += f"x-amz-trailer-signature:{signature}\r\n".encode()
    encoded = alter(encoded + b"\r\n")
    sent = dict(request.headers.items())
    if chunked_transfer:
        sent["Transfer-Encoding"] = "chunked"
        encoded = b"%x\r\n%b\r\n0\r\n\r\n" % (len(encoded), encoded)
    else:
        sent["Content-Length"] = str(len(encoded))
    return await asyncio.to_thread(raw.exchange, "PUT", TARGET, sent, encoded)


PIECES = [b"a" * 65536, b"b" * 65536, b"c" * 1000]
LARGE = [bytes([number % 251]) * (1 << 20) for number in range(5)]


@pytest.mark.parametrize("mode", [SIGNED, SIGNED_TRAILER, UNSIGNED_TRAILER])
@pytest.mark.parametrize("pieces", [[], [b"x"], PIECES, LARGE, [b"".join(LARGE)]], ids=len)
async def test_pieces_become_the_content(raw: Raw, mode: str, pieces: list[bytes]) -> None:
    content = b"".join(pieces)
    trailers = [] if mode == SIGNED else [("x-amz-checksum-crc32", crc32(content))]
    answer = await put_pieces(raw, mode, pieces, trailers)
    assert answer.status == 200, answer
    assert answer.headers["etag"] == f'"{hashlib.md5(content).hexdigest()}"'
    assert await stored(raw) == content


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
async def test_other_checksums_behind_the_body(raw: Raw, algorithm: str) -> None:
    value = base64.b64encode(hashlib.new(algorithm, b"".join(LARGE)).digest()).decode()
    trailers = [(f"x-amz-checksum-{algorithm}", value)]
    assert (await put_pieces(raw, UNSIGNED_TRAILER, LARGE, trailers)).status == 200
    assert s3_code(await put_pieces(raw, UNSIGNED_TRAILER, [b"other"], trailers)) == "BadDigest"


async def test_pieces_inside_a_chunked_transfer(raw: Raw) -> None:
    trailers = [("x-amz-checksum-crc32", crc32(b"".join(PIECES)))]
    assert (await put_pieces(raw, UNSIGNED_TRAILER, PIECES, trailers, chunked_transfer=True)).status == 200
    assert await stored(raw) == b"".join(PIECES)


@pytest.mark.parametrize("mode", [SIGNED, SIGNED_TRAILER, UNSIGNED_TRAILER])
async def test_what_was_altered_is_not_stored(raw: Raw, mode: str) -> None:
    trailers = [] if mode == SIGNED else [("x-amz-checksum-crc32", crc32(b"".join(PIECES)))]
    mismatch = "BadDigest" if mode == UNSIGNED_TRAILER else "SignatureDoesNotMatch"
    cases: list[tuple[Callable[[bytes], bytes], set[str]]] = [
        (lambda e: e.replace(b"aaaa", b"aaba", 1), {mismatch}),
        (lambda e: e[:-2], {"IncompleteBody"}),
        (lambda e: e[:70_000], {"IncompleteBody"}),
        (lambda e: e + b"0\r\n\r\n", {"InvalidRequest"}),
        (lambda e: e.replace(b"10000", b"10001", 1), {"InvalidRequest", "SignatureDoesNotMatch", "IncompleteBody"}),
        (lambda e: e.replace(b"10000", b"zzzzz", 1), {"InvalidRequest"}),
        (lambda e: e.replace(b"10000", b"1" * 4000, 1), {"InvalidRequest"}),
        (lambda e: e.replace(b"chunk-signature=", b"chunk-signature=0", 1) if mode != UNSIGNED_TRAILER else b"x", {
            "InvalidRequest", "IncompleteBody"
        }),
    ]  # fmt: skip
    if trailers:
        other = crc32(b"other").encode()
        right = trailers[0][1].encode()
        cases.append((lambda e: e.replace(right, other), {mismatch}))
        cases.append((lambda e: e.replace(b"x-amz-checksum-crc32:", b"x-amz-checksum-sha1:"), {
            "MalformedTrailerError", "SignatureDoesNotMatch"
        }))  # fmt: skip
    for number, (alter, codes) in enumerate(cases):
        answer = await put_pieces(raw, mode, PIECES, trailers, alter=alter)
        assert s3_code(answer) in codes, number
    assert await stored(raw) is None


async def test_the_decoded_length_must_be_right(raw: Raw) -> None:
    for length in (len(b"".join(PIECES)) - 1, len(b"".join(PIECES)) + 1):
        assert s3_code(await put_pieces(raw, SIGNED, PIECES, length=length)) == "IncompleteBody"
    assert await stored(raw) is None


async def test_a_body_needs_a_length(raw: Raw) -> None:
    headers = {"Transfer-Encoding": "chunked"}
    answer = await raw.send("PUT", TARGET, b"", headers=headers, mode="UNSIGNED-PAYLOAD", length=False)
    assert (answer.status, s3_code(answer)) == (411, "MissingContentLength")
    request, _ = raw.sign("PUT", TARGET, {"Content-Encoding": "aws-chunked"}, b"", SIGNED)
    sent = {**dict(request.headers.items()), "Content-Length": "0"}
    answer = await asyncio.to_thread(raw.exchange, "PUT", TARGET, sent, b"")
    assert (answer.status, s3_code(answer)) == (411, "MissingContentLength")


async def test_the_signed_hash_is_compared_with_the_body(raw: Raw) -> None:
    wrong = hashlib.sha256(b"this").hexdigest()
    assert s3_code(await raw.send("PUT", TARGET, b"that", mode=wrong)) == "BadDigest"
    assert s3_code(await raw.send("PUT", TARGET, b"that", mode="nonsense")) == "InvalidArgument"
    assert s3_code(await raw.send("PUT", TARGET, b"that", mode="STREAMING-NEW")) == "NotImplemented"
    assert await stored(raw) is None
    assert (await raw.send("PUT", TARGET, b"that", mode="UNSIGNED-PAYLOAD")).status == 200


async def test_unknown_checksums_are_refused_not_ignored(raw: Raw) -> None:
    answer = await raw.send("PUT", TARGET, b"x", headers={"x-amz-checksum-crc64nvme": "AAAAAAAAAAA="})
    assert (answer.status, s3_code(answer)) == (501, "NotImplemented")
    answer = await raw.send("PUT", TARGET, b"x", headers={"x-amz-checksum-crc32": "not base64"})
    assert s3_code(answer) == "InvalidArgument"


async def test_continue_is_said_before_the_body_and_not_to_the_refused(raw: Raw) -> None:
    for pair, expected in ((raw.pair, b"100 Continue"), (("nobody", "secret"), b"403 Forbidden")):
        request, _ = Raw(raw.url, pair).sign("PUT", TARGET, {}, b"body", None)
        netloc = urlsplit(raw.url).netloc
        head = {"Host": netloc, **dict(request.headers.items()), "Content-Length": "4", "Expect": "100-continue"}
        reader, writer = await asyncio.open_connection(*netloc.split(":"))
        try:
            writer.write(f"PUT {TARGET} HTTP/1.1\r\n".encode())
            writer.write("".join(f"{name}: {value}\r\n" for name, value in head.items()).encode() + b"\r\n")
            first = await asyncio.wait_for(reader.readline(), 5)
            assert expected in first or (b"403" in expected and b"100" in first)
            writer.write(b"body")
            rest = await asyncio.wait_for(reader.readuntil(b"x-amz-request-id"), 5)
            assert (b"200 OK" in rest) == (pair == raw.pair)
        finally:
            writer.close()
    assert await stored(raw) == b"body"


async def test_an_empty_body_that_expects_it_is_told_to_continue(raw: Raw) -> None:
    request, _ = raw.sign("PUT", TARGET, {}, b"", None)
    netloc = urlsplit(raw.url).netloc
    head = {"Host": netloc, **dict(request.headers.items()), "Content-Length": "0", "Expect": "100-continue"}
    reader, writer = await asyncio.open_connection(*netloc.split(":"))
    text = f"PUT {TARGET} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in head.items()) + "\r\n"
    for _ in range(2):
        writer.write(text.encode())
        said = await asyncio.wait_for(reader.readuntil(b"nosniff\r\n\r\n"), 5)
        assert said.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    writer.close()


async def test_a_client_that_leaves_stores_nothing(running: Running, raw: Raw) -> None:
    request, _ = raw.sign("PUT", TARGET, {}, b"", "UNSIGNED-PAYLOAD")
    netloc = urlsplit(raw.url).netloc
    head = {"Host": netloc, **dict(request.headers.items()), "Content-Length": "4000000"}
    _, writer = await asyncio.open_connection(*netloc.split(":"))
    writer.write(f"PUT {TARGET} HTTP/1.1\r\n".encode())
    writer.write("".join(f"{name}: {value}\r\n" for name, value in head.items()).encode() + b"\r\n" + b"x" * 2_000_000)
    await writer.drain()
    writer.close()
    async with asyncio.timeout(10):
        while not any(one.action == "object.put" for one in running.audit.records):
            await asyncio.sleep(0.01)
    put = next(one for one in running.audit.records if one.action == "object.put")
    assert put.outcome == "CANCELLED"
    assert await stored(raw) is None


async def test_a_client_that_stands_still_is_ended() -> None:
    async with running_app(overrides={"limits.idle_seconds": "0.3"}) as running:
        raw = Raw(running.s3)
        request, _ = raw.sign("PUT", TARGET, {}, b"", "UNSIGNED-PAYLOAD")
        netloc = urlsplit(raw.url).netloc
        head = {"Host": netloc, **dict(request.headers.items()), "Content-Length": "4000"}
        reader, writer = await asyncio.open_connection(*netloc.split(":"))
        writer.write(f"PUT {TARGET} HTTP/1.1\r\n".encode())
        writer.write("".join(f"{name}: {value}\r\n" for name, value in head.items()).encode() + b"\r\nsome")
        said = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        assert b"503" in said.splitlines()[0]
        assert await stored(raw) is None
