"""Requests that no client of S3 should send, and callers without a right: refused by name and recorded."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from s3_support import BUCKET, Raw, s3_code

from prism.server.s3_routing import OPERATIONS
from prism.testing.running import Running, running_app

TARGET = f"/{BUCKET}/key"


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    async with running_app() as running:
        yield running


@pytest.fixture
def raw(running: Running) -> Raw:
    return Raw(running.s3)


_TARGETS = {"service": "/", "bucket": f"/{BUCKET}", "object": TARGET}
_BODIES = {
    "delete": b"<Delete><Object><Key>k</Key></Object></Delete>",
    "uploadId": b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>e</ETag></Part>"
    b"</CompleteMultipartUpload>",
}


@pytest.mark.parametrize(("level", "method", "mark"), OPERATIONS, ids=str)
async def test_every_operation_asks_who_calls_and_records_it(
    running: Running, raw: Raw, level: str, method: str, mark: str
) -> None:
    target = _TARGETS[level] + (f"?{mark}=2" if mark else "") + ("&partNumber=1" if mark == "uploadId" else "")
    for sender, signed, status, name, outcome in (
        (raw, False, 403, "anonymous", "UNAUTHENTICATED"),
        (Raw(raw.url, ("nobody", "secret")), True, 403, "nobody", "UNKNOWN_ACCESS_KEY"),
        (Raw(raw.url, (raw.pair[0], "guess")), True, 403, raw.pair[0], "SIGNATURE_MISMATCH"),
    ):
        answer = await sender.send(method, target, signed=signed)
        assert answer.status == status
        assert (answer.body == b"") == (method == "HEAD")
        record = running.audit.records[-1]
        action = OPERATIONS[level, method, mark].action
        assert (record.principal, record.kind, record.action, record.outcome) == (name, "unverified", action, outcome)
        assert record.request_id == answer.headers["x-amz-request-id"]
    before = len(running.audit.records)
    await raw.send(method, target, _BODIES.get(mark, b"") if method == "POST" else b"")
    assert any(one.kind == "access_key" and one.namespace == raw.pair[0] for one in running.audit.records[before:])


async def test_codes_of_bad_credentials(raw: Raw) -> None:
    assert s3_code(await raw.send("GET", TARGET, signed=False)) == "AccessDenied"
    assert s3_code(await Raw(raw.url, ("nobody", "x")).send("GET", TARGET)) == "InvalidAccessKeyId"
    assert s3_code(await Raw(raw.url, (raw.pair[0], "x")).send("GET", TARGET)) == "SignatureDoesNotMatch"
    elsewhere = await Raw(raw.url, raw.pair, "eu-west-1").send("GET", TARGET)
    assert s3_code(elsewhere) == "AuthorizationHeaderMalformed"
    assert b"<Region>us-east-1</Region>" in elsewhere.body
    unsigned = await raw.send("PUT", TARGET, b"x", unsigned_headers={"x-amz-copy-source": f"/{BUCKET}/other"})
    assert s3_code(unsigned) == "AccessDenied"
    owner = await raw.send("GET", TARGET, headers={"x-amz-expected-bucket-owner": "somebody"})
    assert s3_code(owner) == "AccessDenied"


BOMB = b"""<?xml version="1.0"?><!DOCTYPE d [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<Delete><Object><Key>&b;</Key></Object></Delete>"""
OUTSIDE = b"""<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]><Delete><Object><Key>&x;</Key></Object></Delete>"""


@pytest.mark.parametrize(
    "body",
    [
        *(BOMB, OUTSIDE, b"", b"{}", b"<Delete>", b"<Delete/>", b"<Other/>", b"<Delete>&x;</Delete>"),
        *(b"<Delete>" + b"<a>" * 50 + b"</a>" * 50 + b"</Delete>", b"<Delete>" + b"<Object/>" * 20_000 + b"</Delete>"),
        *(b"<Delete>" + b"<Object><Key>k</Key></Object>" * 1001 + b"</Delete>", b"<Delete>\xff</Delete>"),
    ],
    ids=lambda body: body[:40].decode("latin-1"),
)
async def test_xml_that_is_a_trap_or_a_mistake(raw: Raw, body: bytes) -> None:
    answer = await raw.send("POST", f"/{BUCKET}?delete", body)
    assert (answer.status, s3_code(answer)) == (400, "MalformedXML")


async def test_xml_that_is_too_large_is_not_read(raw: Raw) -> None:
    answer = await raw.send("POST", f"/{BUCKET}?delete", b"<Delete>" + b" " * 2_000_000 + b"</Delete>")
    assert s3_code(answer) == "EntityTooLarge"


@pytest.mark.parametrize(
    ("target", "code"),
    [
        (f"/{BUCKET}/a%zz", "InvalidArgument"),
        (f"/{BUCKET}/%ff", "InvalidArgument"),
        (f"/{BUCKET}/a%00b", "InvalidArgument"),
        ("//key", "InvalidBucketName"),
        (f"/{BUCKET}/{'k' * 1025}", "InvalidArgument"),
        (f"/{BUCKET}/k?response-content-type=a%0D%0Ab", "InvalidArgument"),
        (f"/{BUCKET}?list-type=3", "InvalidArgument"),
        (f"/{BUCKET}?max-keys=-1", "InvalidArgument"),
        (f"/{BUCKET}?max-keys=1&max-keys=2", "InvalidArgument"),
        (f"/{BUCKET}?list-type=2&continuation-token=", "InvalidArgument"),
        (f"/{BUCKET}?list-type=2&encoding-type=base64", "InvalidArgument"),
        (f"/{BUCKET}?prefix=%ff", "InvalidArgument"),
        (f"/{BUCKET}?acl&policy", "InvalidArgument"),
        ("/none-such?list-type=2", "NoSuchBucket"),
        (f"/{BUCKET}/k?partNumber=1", "NotImplemented"),
    ],
)
async def test_targets_that_mean_nothing(raw: Raw, target: str, code: str) -> None:
    answer = await raw.send("GET", target)
    assert s3_code(answer) == code
    assert b"NotImplemented" not in answer.body or answer.status == 501


async def test_methods_that_mean_nothing(raw: Raw) -> None:
    assert (await raw.send("PATCH", TARGET)).status == 405
    assert s3_code(await raw.send("POST", "/")) == "MethodNotAllowed"
    assert s3_code(await raw.send("POST", f"/{BUCKET}")) == "NotImplemented"
    assert s3_code(await raw.send("OPTIONS", TARGET, signed=False)) == "AccessDenied"


async def test_metadata_cannot_add_headers(raw: Raw) -> None:
    note = {"x-amz-meta-note": "UTF-8''a%0D%0Aset-cookie%3A%20b"}
    assert s3_code(await raw.send("PUT", TARGET, b"x", headers=note)) == "InvalidArgument"
    assert s3_code(await raw.send("PUT", TARGET, b"x", headers={"x-amz-meta-n": "x" * 3000})) == "InvalidArgument"
    spoken = {"x-amz-meta-note": "UTF-8''%C3%A9%0A".removesuffix("%0A")}
    assert (await raw.send("PUT", TARGET, b"x", headers=spoken)).status == 200
    assert (await raw.send("GET", TARGET)).headers["x-amz-meta-note"] == "UTF-8''%C3%A9"


async def test_keys_that_xml_cannot_hold_are_listed_as_references(raw: Raw) -> None:
    assert (await raw.send("PUT", f"/{BUCKET}/a%01%26%3C%0D", b"x")).status == 200
    assert b"<Key>a&#x1;&amp;&lt;&#xD;</Key>" in (await raw.send("GET", f"/{BUCKET}?list-type=2")).body
    encoded = await raw.send("GET", f"/{BUCKET}?encoding-type=url&list-type=2")
    assert b"<Key>a%01%26%3C%0D</Key>" in encoded.body


async def test_a_connection_goes_on_after_an_error_and_its_body(raw: Raw) -> None:
    netloc = urlsplit(raw.url).netloc
    request, _ = Raw(raw.url, ("nobody", "x")).sign("PUT", TARGET, {}, b"body", None)
    head = {"Host": netloc, **dict(request.headers.items()), "Content-Length": "4"}
    text = f"PUT {TARGET} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in head.items())
    reader, writer = await asyncio.open_connection(*netloc.split(":"))
    for _ in range(2):
        writer.write(text.encode() + b"\r\nbody")
        said = await asyncio.wait_for(reader.readuntil(b"</Error>"), 5)
        assert b"InvalidAccessKeyId" in said
        assert b"connection: close" not in said
    writer.close()


async def test_a_large_body_that_is_refused_gets_its_answer(raw: Raw) -> None:
    answer = await Raw(raw.url, ("nobody", "x")).send("PUT", TARGET, b"x" * 3_000_000)
    assert s3_code(answer) == "InvalidAccessKeyId"
    assert answer.headers["connection"] == "close"
