"""Hostile names, headers and bodies over HTTP: stored and found exactly, or refused with a code; nothing in between."""

import json
import unicodedata
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest
from http_support import OBJECTS, Served, asked, configured, listening, raw, served

from prism.server.s3 import s3_app
from prism.server.s3_exchange import refused as s3_refused


@pytest.fixture
async def prism(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(configured(tmp_path, limits__max_json_bytes=4096)) as world:
        yield world


KEYS = [
    *("a", "a/", "a//b", "/a", "//", ".", "..", "../../etc/passwd", "a/./b", "a/../b", "a b", " a ", "a+b", "a%20b"),
    *(
        "%2e%2e",
        "a%2Fb",
        "a/b",
        "a?b",
        "a#b",
        "a&b=c",
        "a\\b",
        "a\r\nX-Evil: 1",
        "a\tb",
        "\x7f",
        "A",
        "🎉/🎊",
        "a;b",
        "~a",
    ),
    *(unicodedata.normalize(form, "Ünïcödé") for form in ("NFC", "NFD")),
    *("k" * 1024, "é" * 512, "objects", "a'\"<>"),
]


async def test_every_key_is_stored_and_found_exactly(prism: Served) -> None:
    for number, key in enumerate(KEYS):
        stored = await asked(prism.port, f"{OBJECTS}/{quote(key, safe='')}", "PUT", body=b"%d" % number)
        assert stored.status == 200, (key, stored.body)
    for number, key in enumerate(KEYS):
        # The same name with its slashes as they are.
        got = await asked(prism.port, f"{OBJECTS}/{quote(key, safe='/')}")
        assert (got.status, got.body) == (200, b"%d" % number), key
        assert "x-evil" not in got.headers
    listed = [one["key"] for one in (await prism.client.get(OBJECTS)).json()["objects"]]
    assert listed == sorted(KEYS, key=str.encode)


@pytest.mark.parametrize(
    "target", ["", "%00", "a%00b", "%", "a%2", "%zz", "%ff", "%ed%a0%80", "k" * 1025, "%C3%A9" * 513]
)
async def test_what_is_no_key_is_refused(prism: Served, target: str) -> None:
    for method in ("PUT", "GET", "DELETE"):
        refused = await asked(prism.port, f"{OBJECTS}/{target}", method)
        assert (refused.status, refused.code) == (400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    "target",
    [
        *("/nope", "//", "/v1", "/v1/namespaces/", "/v1/namespaces//objects", "/V1/namespaces", "/docs/", "/healthz/"),
        *(
            "/v1/namespaces/things",
            "/v1/namespaces/things/",
            "/v1/namespaces/things/object/x",
            "/v1/namespaces/things/copy/",
        ),
        *("/v1/%6eamespaces", "/v1/namespaces/things/%6fbjects/x", "/v1/namespaces/things/objects%2Fx", "/../healthz"),
        "/v1//namespaces/things/objects/x",
    ],
)
async def test_paths_match_to_the_byte(prism: Served, target: str) -> None:
    refused = await asked(prism.port, target)
    assert (refused.status, refused.code) == (404, "NOT_FOUND")


async def test_a_namespace_is_decoded_once(prism: Served) -> None:
    assert (await asked(prism.port, "/v1/namespaces/th%69ngs/usage")).status == 200
    unknown = await asked(prism.port, "/v1/namespaces/th%2569ngs/usage")
    assert (unknown.status, unknown.code) == (404, "NAMESPACE_NOT_FOUND")


async def test_methods_that_a_path_has_not(prism: Served) -> None:
    for method, target, allow in (
        ("POST", f"{OBJECTS}/k", "DELETE, GET, HEAD, PUT"),
        ("OPTIONS", OBJECTS, "DELETE, GET, HEAD"),
        ("GET", "/v1/namespaces/things/copy", "POST"),
        ("TRACE", "/healthz", "GET, HEAD"),
    ):
        refused = await asked(prism.port, target, method)
        assert (refused.status, refused.headers["allow"], refused.code) == (405, allow, "METHOD_NOT_ALLOWED")


async def test_errors_of_head_have_no_body(prism: Served) -> None:
    async with raw(prism.port) as connection:
        for target, status in ((f"{OBJECTS}/absent", 404), ("/nope", 404), ("/healthz", 200)):
            await connection.send(b"HEAD %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % target.encode())
            assert (await connection.answer(bodiless=True)).status == status


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("nope=1", "nope"),
        ("max_results=x", "max_results"),
        ("max_results=-1", "max_results"),
        ("max_results=99999999999999999999", "max_results"),
        ("prefix=a&prefix=b", "prefix"),
        ("prefix=%ff", "prefix"),
        ("prefix=%z", "prefix"),
        ("token=forged", "token"),
        ("&".join(f"p{number}=1" for number in range(100)), "parameters"),
    ],
)
async def test_queries_are_refused_by_name(prism: Served, query: str, told: str) -> None:
    refused = await asked(prism.port, f"{OBJECTS}?{query}")
    assert (refused.status, refused.code) == (400, "INVALID_ARGUMENT")
    assert told in refused.body.decode()


async def test_a_misspelt_parameter_never_reaches_another_bucket(prism: Served) -> None:
    for method in ("PUT", "GET", "HEAD", "DELETE"):
        assert (await asked(prism.port, f"{OBJECTS}/k?buket=x", method)).status == 400


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "INVALID_ARGUMENT"),
        (b"[]", 400, "INVALID_ARGUMENT"),
        (b'{"key": "\xff"}', 400, "INVALID_ARGUMENT"),
        (b'{"key": 5}', 400, "INVALID_ARGUMENT"),
        (b'{"key": "k", "nope": 1}', 400, "INVALID_ARGUMENT"),
        (b'{"key": "k", "method": "POST"}', 400, "INVALID_ARGUMENT"),
        (b'{"key": "k", "method": "PUT", "expires_in_seconds": 3601}', 400, "INVALID_ARGUMENT"),
        (b'{"key": "k", "method": "PUT", "expires_in_seconds": 999999999999999999}', 400, "INVALID_ARGUMENT"),
        (b'{"key": "k", "method": "PUT", "expires_in_seconds": -1}', 400, "INVALID_ARGUMENT"),
        (b'{"key": "k", "ttl_seconds": 5}', 400, "INVALID_ARGUMENT"),
        (b'{"key": "k", "method": "PUT", "metadata": {"a\\r\\nb": "1"}}', 400, "INVALID_ARGUMENT"),
        (b'{"key": "k", "method": "DELETE", "response_content_type": "a/b"}', 400, "INVALID_ARGUMENT"),
        (b'{"key": ' + b"[" * 2000, 400, "INVALID_ARGUMENT"),
        (b'{"key": "k", "nope": ' + b"[" * 2000 + b"]" * 2000 + b"}", 400, "INVALID_ARGUMENT"),
        (b" " * 5000, 413, "TOO_LARGE"),
        (b'{"key": "absent"}', 404, "OBJECT_NOT_FOUND"),
    ],
)
async def test_json_bodies(prism: Served, body: bytes, status: int, code: str) -> None:
    answer = await asked(prism.port, "/v1/namespaces/things/presign", "POST", body=body)
    assert (answer.status, answer.code) == (status, code)
    lines = (b"Transfer-Encoding: chunked", b"")
    async with raw(prism.port) as connection:
        await connection.send(
            b"POST /v1/namespaces/things/presign HTTP/1.1\r\nHost: localhost\r\n" + b"\r\n".join(lines)
        )
        chunk = b"%x\r\n%s\r\n" % (len(body), body) if body else b""
        await connection.send(b"\r\n" + chunk + b"0\r\n\r\n")
        assert (await connection.answer()).status == status


async def test_request_ids(prism: Served) -> None:
    for given, told in (
        (b"my-id.1_2", "my-id.1_2"),
        (b"x" * 128, "x" * 128),
        (b"x" * 129, "made-by-the-server"),
        (b"a b", "made-by-the-server"),
        (b"", "made-by-the-server"),
    ):
        answer = await asked(prism.port, f"{OBJECTS}/absent", "GET", b"X-Request-Id: " + given)
        assert answer.headers["x-request-id"] == told
        assert f'"request_id":"{told}"'.encode() in answer.body
        assert prism.audit.records[-1].request_id == told


@pytest.mark.parametrize(
    "lines",
    [
        (b"Host: a", b"Host: b"),
        (b"Host: localhost", b"Content-Length: 1", b"Content-Length: 2"),
        (b"Host: localhost", b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        (b"Host: localhost", b"Content-Length: -1"),
        (b"Host: localhost", b"Content-Length: 1x"),
        (b"Host: localhost", b"Content-Type: a/b", b"Content-Type: text/html"),
        (b"Host: localhost", b"Prism-TTL-Seconds: 5", b"Prism-TTL-Seconds: 6"),
        (b"Host: localhost", b"Prism-Meta-A: 5", b"Prism-Meta-A: 6"),
        (b"Host: localhost", b"Na me: x"),
        (b"X-Without: host",),
    ],
)
async def test_heads_that_could_be_read_in_two_ways(prism: Served, lines: tuple[bytes, ...]) -> None:
    async with raw(prism.port) as connection:
        head = b"\r\n".join([b"PUT /v1/namespaces/things/objects/k HTTP/1.1", *lines, b"", b""])
        await connection.send(head + b"0\r\n\r\n")
        answer = await connection.answer()
        assert (answer.status, answer.code) == (400, "INVALID_ARGUMENT")
        assert json.loads(answer.body)["error"]["request_id"] == answer.headers["x-request-id"]
    assert (await prism.client.get(f"{OBJECTS}/k")).status_code == 404


async def test_a_head_without_end(prism: Served) -> None:
    async with raw(prism.port) as connection:
        await connection.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 200_000)
        answer = await connection.answer()
        assert (answer.status, answer.code) == (431, "TOO_LARGE")
        assert json.loads(answer.body)["error"]["request_id"] == answer.headers["x-request-id"]


async def test_what_is_no_http_is_told_so_in_the_words_of_s3(prism: Served) -> None:
    async with listening(s3_app(prism.services), prism.config, refused=s3_refused) as port, raw(port) as connection:
        await connection.send(b"\x16\x03\x01 hello\r\n\r\n")
        answer = await connection.answer()
    assert (answer.status, answer.headers["content-type"]) == (400, "application/xml")
    assert b"<Code>InvalidArgument</Code>" in answer.body
    assert f"<RequestId>{answer.headers['x-amz-request-id']}</RequestId>".encode() in answer.body


async def test_a_connection_too_many_is_told_so_and_those_before_it_are_served(tmp_path: Path) -> None:
    config = configured(tmp_path, limits__max_connections=3)
    async with served(config) as prism, raw(prism.port), raw(prism.port), raw(prism.port) as second:
        await second.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await second.answer()).status == 200
        answer = await asked(prism.port, "/healthz")
        assert (answer.status, answer.code, answer.headers["retry-after"]) == (429, "RATE_LIMITED", "1")
        await second.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await second.answer()).status == 200


async def test_conditions_in_several_lines_are_one_list(prism: Served) -> None:
    etag = (await prism.put("k", b"1")).headers["etag"].encode()
    lines = (b'If-None-Match: "x"', b"If-None-Match: " + etag)
    assert (await asked(prism.port, f"{OBJECTS}/k", "GET", *lines)).status == 304
