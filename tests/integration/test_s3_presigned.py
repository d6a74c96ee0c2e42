"""Presigned URLs of a local namespace: they do what they were made for, as they were made, until they end."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from s3_support import BUCKET, SPACE, boto

from prism.model import Caller, ObjectRef, PresignedURL, Principal, PutOptions
from prism.testing.clocks import StillClock
from prism.testing.running import Running, running_app

CALLER = Caller(principal=Principal(name="anonymous", kind="anonymous"), request_id="a" * 26, api="test")
ORIGIN = "https://pages.example.com"


class World:
    """A running Prism with its clock, and a client without credentials."""

    def __init__(self, running: Running, clock: StillClock, client: httpx.AsyncClient) -> None:
        self.running = running
        self.clock = clock
        self.client = client

    async def url(self, method: str, key: str = "key", seconds: int = 600, **options: Any) -> PresignedURL:
        uploads = self.running.app.services.uploads
        return await uploads.presign(CALLER, ObjectRef(SPACE, "", key), method, timedelta(seconds=seconds), **options)

    async def put(self, key: str, content: bytes) -> None:
        url = await self.url("PUT", key)
        assert (await self.client.put(url.url, content=content)).status_code == 200


@pytest.fixture
async def world() -> AsyncIterator[World]:
    clock = StillClock()
    async with (
        running_app(now=clock, overrides={"server.cors_origins": ORIGIN}) as running,
        httpx.AsyncClient(timeout=20, limits=httpx.Limits(max_connections=200)) as client,
    ):
        yield World(running, clock, client)


def code(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.text.partition("<Code>")[2].partition("</Code>")[0]


async def test_put_get_delete(world: World) -> None:
    for key in ("key", "a//b", "a/../b", "trail/", "é 😀+%2F", ".."):
        for content in (b"one", b"x" * 3_000_000, b""):
            await world.put(key, content)
            got = await world.client.get((await world.url("GET", key)).url)
            assert (got.status_code, got.content) == (200, content), key
        assert (await world.client.delete((await world.url("DELETE", key)).url)).status_code == 204
        got = await world.client.get((await world.url("PUT", key)).url)
        assert code(got) == (403, "SignatureDoesNotMatch")
        listed = await world.running.app.services.objects.list(CALLER, SPACE, "")
        assert listed.objects == ()


async def test_the_body_keeps_the_promise_of_its_url(world: World) -> None:
    url = await world.url("PUT")
    assert "x-prism-upload=" in url.url
    first = await world.client.put(url.url, content=b"first")
    assert first.status_code == 200
    info = await world.running.app.services.objects.head(CALLER, ObjectRef(SPACE, "", "key"))
    assert f"x-prism-upload={info.version_id}&" in url.url
    assert (await world.client.put(url.url, content=b"second")).status_code == 200
    got = await world.client.get((await world.url("GET")).url)
    assert got.content == b"second"


async def test_nothing_of_a_url_can_be_changed(world: World) -> None:
    await world.put("key", b"content")
    await world.put("other", b"other")
    for method in ("GET", "PUT", "DELETE"):
        url = (await world.url(method)).url
        altered = [
            (method, url.replace("/key?", "/other?")),
            (method, url.replace(f"/{BUCKET}/", "/prism-builds/")),
            (method, url.replace("X-Amz-Expires=600", "X-Amz-Expires=3600")),
            (method, url + "&response-content-type=text%2Fhtml"),
            (method, url.replace("x-prism-upload=", "x-prism-upload=x") + ("" if method == "PUT" else "&a=b")),
            ("PUT" if method == "GET" else "GET", url),
            ("DELETE" if method != "DELETE" else "PUT", url),
        ]
        for verb, other in altered:
            assert code(await world.client.request(verb, other)) == (403, "SignatureDoesNotMatch"), other
        without = url.partition("&X-Amz-Signature")[0]
        assert code(await world.client.request(method, without)) == (400, "AuthorizationQueryParametersError")
        copies = {"x-amz-copy-source": f"/{BUCKET}/other"}
        assert code(await world.client.request(method, url, headers=copies)) == (403, "AccessDenied")
    got = await world.client.get((await world.url("GET")).url)
    assert got.content == b"content"


async def test_a_url_ends(world: World) -> None:
    await world.put("key", b"content")
    urls = {method: (await world.url(method, seconds=60)).url for method in ("GET", "PUT", "DELETE")}
    world.clock.forward(seconds=59)
    assert (await world.client.get(urls["GET"])).status_code == 200
    world.clock.forward(seconds=1)
    for method, url in urls.items():
        denied = await world.client.request(method, url)
        assert code(denied) == (403, "AccessDenied")
        assert "expired" in denied.text


async def test_a_content_type_that_is_bound_must_be_sent(world: World) -> None:
    url = await world.url("PUT", options=PutOptions(content_type="image/png"))
    assert url.headers == {"content-type": "image/png"}
    for headers in ({}, {"content-type": "text/html"}):
        refused = await world.client.put(url.url, content=b"x", headers=headers)
        assert code(refused) == (403, "SignatureDoesNotMatch")
    assert (await world.client.put(url.url, content=b"x", headers=url.headers)).status_code == 200
    got = await world.client.get((await world.url("GET")).url)
    assert got.headers["content-type"] == "image/png"


async def test_answers_can_be_given_another_name_and_type(world: World) -> None:
    await world.put("key", b"<b>hi</b>")
    plain = await world.client.get((await world.url("GET")).url)
    assert "content-security-policy" not in plain.headers
    wanted = {"response_content_type": "text/html", "response_content_disposition": 'attachment; filename="a.html"'}
    got = await world.client.get((await world.url("GET", **wanted)).url)
    assert got.headers["content-type"] == "text/html"
    assert got.headers["content-disposition"] == 'attachment; filename="a.html"'
    assert got.headers["content-security-policy"].startswith("sandbox")
    split = await world.url("GET", response_content_type="text/html\r\nset-cookie: a=b")
    assert code(await world.client.get(split.url)) == (400, "InvalidArgument")


async def test_urls_that_boto3_signs(world: World) -> None:
    world.clock.at = datetime.now(UTC)
    s3 = boto(world.running.s3, signature_version="s3v4")
    here = {"Bucket": BUCKET, "Key": "é /+"}
    put = s3.generate_presigned_url("put_object", Params={**here, "Metadata": {"n": "1"}}, ExpiresIn=60)
    assert code(await world.client.put(put, content=b"x"))[0] == 403
    assert (await world.client.put(put, content=b"x", headers={"x-amz-meta-n": "1"})).status_code == 200
    get = s3.generate_presigned_url("get_object", Params=here, ExpiresIn=60)
    ranged = await world.client.get(get, headers={"range": "bytes=0-0"})
    assert (ranged.status_code, ranged.content, ranged.headers["x-amz-meta-n"]) == (206, b"x", "1")
    head = s3.generate_presigned_url("head_object", Params=here, ExpiresIn=60)
    assert (await world.client.head(head)).status_code == 200
    listed = s3.generate_presigned_url("list_objects_v2", Params={"Bucket": BUCKET}, ExpiresIn=60)
    assert "<Key>%C3%A9%20/%2B</Key>" in (await world.client.get(listed)).text
    week = s3.generate_presigned_url("get_object", Params=here, ExpiresIn=3601)
    assert code(await world.client.get(week)) == (400, "AuthorizationQueryParametersError")
    bucket = s3.generate_presigned_url("create_bucket", Params={"Bucket": "made-by-url"}, ExpiresIn=60)
    assert code(await world.client.put(bucket)) == (403, "AccessDenied")


async def test_browsers_may_put_from_the_pages_that_are_named(world: World) -> None:
    url = (await world.url("PUT", options=PutOptions(content_type="image/png"))).url
    asks = {"origin": ORIGIN, "access-control-request-method": "PUT", "access-control-request-headers": "content-type"}
    allowed = await world.client.options(url, headers=asks)
    assert allowed.status_code == 204
    assert allowed.headers["access-control-allow-origin"] == ORIGIN
    assert "PUT" in allowed.headers["access-control-allow-methods"]
    put = await world.client.put(url, content=b"x", headers={"origin": ORIGIN, "content-type": "image/png"})
    assert (put.status_code, put.headers["access-control-allow-origin"]) == (200, ORIGIN)
    assert "*" in put.headers["access-control-expose-headers"]
    denied = await world.client.put(url, content=b"x", headers={"origin": ORIGIN, "content-type": "text/html"})
    assert (denied.status_code, denied.headers["access-control-allow-origin"]) == (403, ORIGIN)
    foreign = await world.client.options(url, headers={**asks, "origin": "https://evil.example.com"})
    assert "access-control-allow-origin" not in foreign.headers
    assert foreign.status_code == 403


async def test_a_hundred_at_once(world: World) -> None:
    async def one(number: int) -> bytes:
        key, content = f"many/{number}", bytes([number]) * 10_000
        await world.put(key, content)
        got = await world.client.get((await world.url("GET", key)).url)
        assert got.content == content
        return content

    await asyncio.gather(*(one(number) for number in range(100)))
    listed = await world.running.app.services.objects.list(CALLER, SPACE, "", "many/")
    assert len(listed.objects) == 100


async def test_what_urls_did_is_on_record_and_their_signatures_are_not(world: World) -> None:
    await world.put("key", b"content")
    url = (await world.url("DELETE")).url
    await world.client.delete(url + "x")
    await world.client.delete(url)
    records = [one for one in world.running.audit.records if one.api == "s3"]
    assert [(one.action, one.principal, one.kind, one.outcome, one.namespace, one.key) for one in records] == [
        ("object.put", SPACE, "presigned", "OK", SPACE, "key"),
        ("object.delete", SPACE, "unverified", "SIGNATURE_MISMATCH", SPACE, "key"),
        ("object.delete", SPACE, "presigned", "OK", SPACE, "key"),
    ]
    assert url.rpartition("=")[2] not in repr(world.running.audit.records)
