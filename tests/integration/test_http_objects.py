"""Objects over HTTP: what is put comes back, with the headers, conditions and ranges of RFC 9110."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from http_support import OBJECTS, Served, asked, configured, served

from prism.blob.driver import Body, Opened
from prism.server.headers import read_text, write_text

CONTENT = bytes(range(100))


@pytest.fixture
async def prism(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(configured(tmp_path)) as world:
        yield world


async def test_put_get_head_delete(prism: Served) -> None:
    stored = (await prism.put("a/b.bin", CONTENT, content_type="image/png", prism_meta_who="me")).json()
    assert (stored["namespace"], stored["bucket"], stored["key"]) == ("things", "things", "a/b.bin")
    assert (stored["size_bytes"], stored["expires_at"]) == (100, "2027-02-22T12:00:00Z")
    got = await prism.client.get(f"{OBJECTS}/a/b.bin")
    head = await prism.client.head(f"{OBJECTS}/a/b.bin")
    assert (got.content, head.content) == (CONTENT, b"")
    assert list(got.headers.items()) == list(head.headers.items())
    assert stored["object_id"] == "things/things/a/b.bin"  # as gRPC names it
    told = dict(got.headers)
    assert told["etag"] == f'"{stored["etag"]}"'
    assert told["last-modified"] == "Tue, 24 Nov 2026 12:00:00 GMT"
    assert told["prism-expires-at"] == "2027-02-22T12:00:00Z"
    assert told["prism-checksum-crc32c"] == stored["checksum_crc32c"]
    assert (told["content-type"], told["content-length"], told["accept-ranges"]) == ("image/png", "100", "bytes")
    assert (told["prism-meta-who"], told["x-content-type-options"]) == ("me", "nosniff")
    for deleted in (True, False):
        assert (await prism.client.delete(f"{OBJECTS}/a/b.bin")).json() == {"deleted": deleted}
    gone = await prism.client.get(f"{OBJECTS}/a/b.bin")
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "OBJECT_NOT_FOUND")


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 3_000_000])
async def test_every_size_comes_back_whole(prism: Served, size: int) -> None:
    content = hashlib.shake_128(b"x").digest(size)
    await prism.put("k", content)
    got = await prism.client.get(f"{OBJECTS}/k")
    assert (got.content == content, got.headers["content-length"]) == (True, str(size))
    assert (await prism.client.head(f"{OBJECTS}/k")).headers["content-length"] == str(size)


RANGES = [
    # Range, status, Content-Range, first and last byte
    ("bytes=0-9", 206, "bytes 0-9/100", (0, 10)),
    ("bytes=90-", 206, "bytes 90-99/100", (90, 100)),
    ("bytes=90-1000", 206, "bytes 90-99/100", (90, 100)),
    ("bytes=-10", 206, "bytes 90-99/100", (90, 100)),
    ("bytes=-1000", 206, "bytes 0-99/100", (0, 100)),
    ("bytes=0-99", 206, "bytes 0-99/100", (0, 100)),
    ("BYTES = 1-1", 206, "bytes 1-1/100", (1, 2)),
    ("bytes=5-99999999999999999999999999", 206, "bytes 5-99/100", (5, 100)),
    ("bytes=,7-8,", 206, "bytes 7-8/100", (7, 9)),
    ("bytes=0-1,4-5", 200, None, (0, 100)),
    ("bytes=9-8", 200, None, (0, 100)),
    ("bytes=a-b", 200, None, (0, 100)),
    ("bytes=-", 200, None, (0, 100)),
    ("bytes=", 200, None, (0, 100)),
    ("bytes=+1-2", 200, None, (0, 100)),
    ("lines=0-1", 200, None, (0, 100)),
    ("bytes=100-", 416, "bytes */100", None),
    ("bytes=100-200", 416, "bytes */100", None),
    ("bytes=-0", 416, "bytes */100", None),
    ("bytes=99999999999999999999999999-", 416, "bytes */100", None),
]


@pytest.mark.parametrize(("asked_for", "status", "told", "span"), RANGES, ids=[row[0] for row in RANGES])
async def test_ranges(
    prism: Served, asked_for: str, status: int, told: str | None, span: tuple[int, int] | None
) -> None:
    await prism.put("k", CONTENT)
    got = await prism.client.get(f"{OBJECTS}/k", headers={"range": asked_for})
    assert (got.status_code, got.headers.get("content-range")) == (status, told)
    if span is not None:
        assert got.content == CONTENT[span[0] : span[1]]
    head = await prism.client.head(f"{OBJECTS}/k", headers={"range": asked_for})
    assert (head.status_code, head.headers["content-length"]) == (200, "100")


async def test_a_range_of_an_empty_object(prism: Served) -> None:
    await prism.put("k", b"")
    suffix = await prism.client.get(f"{OBJECTS}/k", headers={"range": "bytes=-5"})
    assert (suffix.status_code, suffix.content) == (200, b"")
    first = await prism.client.get(f"{OBJECTS}/k", headers={"range": "bytes=0-"})
    assert (first.status_code, first.headers["content-range"]) == (416, "bytes */0")


SAME, BEFORE, AFTER = "Tue, 24 Nov 2026 12:00:00 GMT", "Tue, 24 Nov 2026 11:59:59 GMT", "Tue, 24 Nov 2026 12:00:01 GMT"
CONDITIONS = [
    # headers ({e} is the etag), status
    ({"if-match": '"{e}"'}, 200),
    ({"if-match": '"x", "{e}"'}, 200),
    ({"if-match": '"x",, "y"'}, 412),
    ({"if-match": "*"}, 200),
    ({"if-match": '"*"'}, 412),
    ({"if-match": 'W/"{e}"'}, 412),
    ({"if-match": "{e}"}, 400),
    ({"if-none-match": '"{e}"'}, 304),
    ({"if-none-match": 'W/"{e}"'}, 304),
    ({"if-none-match": '"a,b", W/"{e}"'}, 304),
    ({"if-none-match": "*"}, 304),
    ({"if-none-match": '"x"'}, 200),
    ({"if-none-match": '"x'}, 400),
    ({"if-modified-since": SAME}, 304),
    ({"if-modified-since": AFTER}, 304),
    ({"if-modified-since": BEFORE}, 200),
    ({"if-modified-since": "Tuesday, 24-Nov-26 12:00:00 GMT"}, 304),
    ({"if-modified-since": "Tue Nov 24 12:00:00 2026"}, 304),
    ({"if-modified-since": "yesterday"}, 200),
    ({"if-unmodified-since": SAME}, 200),
    ({"if-unmodified-since": BEFORE}, 412),
    ({"if-unmodified-since": "yesterday"}, 200),
    ({"if-match": '"{e}"', "if-unmodified-since": BEFORE}, 200),
    ({"if-none-match": '"x"', "if-modified-since": AFTER}, 200),
    ({"if-none-match": '"{e}"', "if-modified-since": BEFORE}, 304),
    ({"if-match": '"x"', "if-none-match": '"{e}"'}, 412),
    ({"if-match": '"{e}"', "if-none-match": '"{e}"'}, 304),
]


@pytest.mark.parametrize(("headers", "status"), CONDITIONS, ids=[str(row[0]) for row in CONDITIONS])
async def test_conditions_of_reads(prism: Served, headers: dict[str, str], status: int) -> None:
    etag = (await prism.put("k", CONTENT)).json()["etag"]
    sent = {name: value.replace("{e}", etag) for name, value in headers.items()}
    for method in ("GET", "HEAD"):
        got = await prism.client.request(method, f"{OBJECTS}/k", headers=sent)
        assert got.status_code == status
        if status == 304:
            assert (got.content, got.headers["etag"], got.headers["last-modified"]) == (b"", f'"{etag}"', SAME)
            assert "content-type" not in got.headers


@pytest.mark.parametrize(
    ("if_range", "status"),
    [('"{e}"', 206), ('W/"{e}"', 200), ('"x"', 200), (SAME, 206), (BEFORE, 200), (AFTER, 200), ("{e}", 200)],
)
async def test_if_range(prism: Served, if_range: str, status: int) -> None:
    etag = (await prism.put("k", CONTENT)).json()["etag"]
    for range_asked, length in (("bytes=0-9", 10), ("bytes=500-", None)):
        headers = {"range": range_asked, "if-range": if_range.replace("{e}", etag)}
        got = await prism.client.get(f"{OBJECTS}/k", headers=headers)
        wanted = status if status == 200 or length else 416
        assert got.status_code == wanted
        assert wanted == 416 or len(got.content) == (length if wanted == 206 else 100)


async def test_writes_keep_their_conditions(prism: Served) -> None:
    async def put(key: str, **headers: str) -> int:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return (await prism.client.put(f"{OBJECTS}/{key}", content=b"1", headers=named)).status_code

    assert await put("k", if_match="*") == 412
    answers = await asyncio.gather(*(put("k", if_none_match="*") for _ in range(8)))
    assert sorted(answers) == [200] + [412] * 7
    etag = (await prism.client.head(f"{OBJECTS}/k")).headers["etag"]
    assert await put("k", if_match=f'"x", W/{etag}') == 412
    assert await put("k", if_match=etag) == 200
    assert await put("k", if_match=etag) == 412
    assert await put("k", if_match="no quotes") == 400
    refused = await prism.client.delete(f"{OBJECTS}/k", headers={"if-match": etag})
    assert (refused.status_code, refused.json()["error"]["code"]) == (412, "PRECONDITION_FAILED")


async def test_lifetimes(prism: Served) -> None:
    await prism.put("short", b"1", prism_ttl_seconds="60")
    assert (await prism.put("long", b"1", prism_no_expiration="true")).json()["expires_at"] is None
    assert "prism-expires-at" not in (await prism.client.head(f"{OBJECTS}/long")).headers
    prism.clock.forward(seconds=59.999)
    assert (await prism.client.get(f"{OBJECTS}/short")).status_code == 200
    prism.clock.forward(seconds=0.001)
    assert (await prism.client.get(f"{OBJECTS}/short")).status_code == 404


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("prism-ttl-seconds", "-1"),
        ("prism-ttl-seconds", "1.5"),
        ("prism-ttl-seconds", "0"),
        ("prism-ttl-seconds", ""),
        ("prism-ttl", "60"),
        ("prism-no-expiration", "yes"),
        ("prism-checksum-sha256", "abc"),
        ("prism-checksum-crc32c", "!!!!"),
        ("content-md5", "abc"),
        ("content-range", "bytes 0-1/5"),
        ("content-encoding", "gzip"),
        ("prism-meta-UPPER_", "x" * 3000),
        ("prism-meta-", "x"),
        ("prism-meta-prism-key", "x"),
        ("prism-meta-a", "UTF-8''%zz"),
        ("prism-meta-a", "UTF-8''%0d%0aSet-Cookie: x"),
        ("prism-meta-a", "UTF-8''%ff"),
        ("content-type", "text/html\tx"),
    ],
)
async def test_what_a_put_cannot_take_is_refused_by_name(prism: Served, header: str, value: str) -> None:
    refused = await prism.client.put(f"{OBJECTS}/k", content=b"1", headers={header: value})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "INVALID_ARGUMENT")
    assert (await prism.client.head(f"{OBJECTS}/k")).status_code == 404


async def test_checksums_are_compared(prism: Served) -> None:
    content = b"the content"
    right = {
        "prism-checksum-sha256": hashlib.sha256(content).hexdigest().upper(),
        "content-md5": base64.b64encode(hashlib.md5(content).digest()).decode(),
        "prism-checksum-crc32c": (await prism.put("a", content)).json()["checksum_crc32c"],
    }
    stored = (await prism.client.put(f"{OBJECTS}/k", content=content, headers=right)).json()
    assert stored["checksum_sha256"] == right["prism-checksum-sha256"].lower()
    for name, value in right.items():
        other = await prism.client.put(f"{OBJECTS}/x", content=content + b"!", headers={name: value})
        assert (other.status_code, other.json()["error"]["code"]) == (400, "CHECKSUM_MISMATCH")
    assert (await prism.client.head(f"{OBJECTS}/x")).status_code == 404


@pytest.mark.parametrize(
    "value", ["plain", "100%", "a%20b", "grüße 🎉", "UTF-8''not%20encoded", "utf-8'en'x", 'q"; x=y', ""]
)
async def test_metadata_comes_back_exactly(prism: Served, value: str) -> None:
    written = write_text(value)
    assert written.isascii()
    assert read_text("x", written) == value
    answer = await prism.client.put(f"{OBJECTS}/k", content=b"1", headers=[(b"prism-meta-x", written)])
    assert answer.status_code == 200
    got = await prism.client.get(f"{OBJECTS}/k")
    assert dict(got.headers.raw)[b"prism-meta-x"] == written


async def test_raw_utf8_in_metadata_is_taken(prism: Served) -> None:
    line = b"Prism-Meta-Who: gr\xc3\xbc\xc3\x9fe"
    assert (await asked(prism.port, f"{OBJECTS}/k", "PUT", line, body=b"1")).status == 200
    got = await prism.client.get(f"{OBJECTS}/k")
    assert got.headers["prism-meta-who"] == "UTF-8''gr%C3%BC%C3%9Fe"
    refused = await asked(prism.port, f"{OBJECTS}/k", "PUT", b"Prism-Meta-Who: \xff", body=b"1")
    assert (refused.status, refused.code) == (400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    ("content_type", "sandboxed"),
    [
        ("text/html", True),
        ("TEXT/HTML; charset=utf-8", True),
        ("image/svg+xml", True),
        ("application/xml", True),
        ("application/xhtml+xml", True),
        ("text/javascript", True),
        ("nonsense", True),
        ("text/plain, text/html", True),
        ("text/plain;x=, text/html", True),
        ("multipart/x-mixed-replace; boundary=x", True),
        ("image/png", False),
        ("text/plain; charset=utf-8", False),
        ("video/mp4", False),
        ("application/json", False),
    ],
)
async def test_what_a_browser_would_run_is_sandboxed(prism: Served, content_type: str, sandboxed: bool) -> None:
    await prism.put("k", b"<script>alert(1)</script>", content_type=content_type)
    for headers in ({}, {"range": "bytes=0-3"}):
        got = await prism.client.get(f"{OBJECTS}/k", headers=headers)
        assert got.headers["content-type"] == content_type
        assert got.headers["x-content-type-options"] == "nosniff"
        assert got.headers.get("content-security-policy", "").startswith("sandbox") == sandboxed


async def test_bytes_that_changed_are_never_served_as_whole(tmp_path: Path) -> None:
    """A small object is answered with an error, a large one breaks off before its end."""
    async with served(configured(tmp_path), wrap_blob=Spoiling) as prism:
        for key, size in (("small", 1000), ("large", 3_000_000)):
            await prism.put(key, bytes(size))
        small = await prism.client.get(f"{OBJECTS}/small")
        assert (small.status_code, small.json()["error"]["code"]) == (500, "DATA_LOSS")
        with pytest.raises(httpx.RemoteProtocolError):
            await prism.client.get(f"{OBJECTS}/large")
        assert (await prism.client.get("/healthz")).status_code == 200


class Spoiling:
    """A store that gives other bytes than it took."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)

    async def get(self, *asked: Any) -> Opened:
        opened: Opened = await self._driver.get(*asked)
        return Opened(opened.info, _Spoilt(opened.body))


class _Spoilt:
    def __init__(self, body: Body) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._body:
            yield b"!" + bytes(chunk)[1:]

    async def aclose(self) -> None:
        await self._body.aclose()
