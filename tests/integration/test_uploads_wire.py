"""The upload API as it is spoken: the same over gRPC as over HTTP, upload ids that are no names, browsers, records."""

import asyncio
import base64
import itertools
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from prism_sdk.stubs.prism.objectstore import uploads_pb2 as pb
from prism_sdk.stubs.prism.objectstore.uploads_pb2_grpc import UploadServiceStub
from upload_support import SPACE, World, world_over

from prism.model import ObjectRef
from prism.testing.running import running_app
from prism.tickets import UploadName

PAGE = "https://pages.example.com"


@pytest.fixture(params=["memory", "signing"])
async def world(request: Any, tmp_path: Path) -> AsyncIterator[World]:
    async with world_over(request.param, tmp_path) as world:
        yield world


@pytest.fixture
async def stub(world: World) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(world.running.grpc) as channel:
        yield UploadServiceStub(channel)


def as_ticket(made: Any) -> dict[str, Any]:
    return {"url": made.url, "headers": dict(made.headers)}


async def test_at_once_over_grpc(world: World, stub: Any) -> None:
    made = await stub.CreateUpload(
        pb.CreateUploadRequest(namespace=SPACE, key="k", size_bytes=7, content_type="a/b", metadata={"n": "1"})
    )
    assert (made.method, made.in_parts, made.parts, list(made.not_bound)) == ("PUT", False, 0, [])
    assert made.expires_at - world.clock().timestamp() == pytest.approx(3600, abs=5)
    assert (await stub.GetUpload(pb.GetUploadRequest(upload_id=made.upload_id))).state == "open"
    with pytest.raises(grpc.aio.AioRpcError) as early:
        await stub.CompleteUpload(pb.CompleteUploadRequest(upload_id=made.upload_id))
    assert early.value.code() is grpc.StatusCode.UNAVAILABLE
    assert (await world.send(as_ticket(made), b"content")).status == 200
    done = await stub.CompleteUpload(pb.CompleteUploadRequest(upload_id=made.upload_id))
    assert (done.object_id, done.size_bytes) == (f"{SPACE}/prism-objects/k", 7)
    assert (await stub.GetUpload(pb.GetUploadRequest(upload_id=made.upload_id))).state == "completed"
    with pytest.raises(grpc.aio.AioRpcError) as over:
        await stub.AbortUpload(pb.AbortUploadRequest(upload_id=made.upload_id))
    assert over.value.code() is grpc.StatusCode.NOT_FOUND


async def test_in_parts_over_grpc_and_http_alike(world: World, stub: Any) -> None:
    asked = pb.CreateUploadRequest(namespace=SPACE, key="k", size_bytes=10, in_parts=True, part_size_bytes=4)
    made = await stub.CreateUpload(asked)
    assert (made.url, made.method, made.part_size_bytes, made.parts) == ("", "", 4, 3)
    signed = await stub.SignParts(pb.SignPartsRequest(upload_id=made.upload_id, numbers=[1, 2, 3]))
    for part in signed.parts:
        piece = b"0123456789"[(part.number - 1) * 4 :][:4]
        assert part.size_bytes == len(piece)
        assert (await world.send(as_ticket(part), piece)).status == 200
    found = await stub.GetUpload(pb.GetUploadRequest(upload_id=made.upload_id))
    told = await world.ask("GET", {"upload_id": made.upload_id})
    assert [(p.number, p.etag, p.size_bytes) for p in found.parts] == [
        (p["number"], p["etag"], p["size_bytes"]) for p in told["parts"]
    ]
    assert (found.state, found.size_bytes, found.part_size_bytes) == ("open", 10, 4)
    done = await stub.CompleteUpload(pb.CompleteUploadRequest(upload_id=made.upload_id))
    again = await world.complete({"upload_id": made.upload_id})
    assert (again["etag"], again["checksum_crc32c"]) == (done.etag, done.checksum_crc32c)
    assert await world.read() == b"0123456789"


async def test_what_cannot_be_over_grpc(stub: Any) -> None:
    for fields in ({"size_bytes": -1}, {"checksum_crc32c": "x"}, {"expires_in_seconds": 3601}, {"in_parts": True}):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stub.CreateUpload(pb.CreateUploadRequest(namespace=SPACE, key="k", **fields))
        assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT, fields
    for upload_id in ("", "x", "A" * 2**20):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stub.GetUpload(pb.GetUploadRequest(upload_id=upload_id))
        assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def sealed(*names: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(names, separators=(",", ":")).encode()).decode().rstrip("=")


MALFORMED = [
    "x",
    "%00",
    "A" * 5000,
    base64.urlsafe_b64encode(b"[" * 3000).decode().rstrip("="),
    sealed(SPACE, "b", "k"),
    sealed(SPACE, "b", "k", 1),
    sealed(SPACE, "b", "k", "0" * 26) + "=",
    sealed(SPACE, "b", "", "0" * 26),
    sealed(SPACE, "b", "k\x00", "0" * 26),
    sealed(SPACE, "b", "k" * 1025, "0" * 26),
    sealed(SPACE, "b", "k", "../" * 9),
    sealed(SPACE, "b", "k", "0" * 26).replace("W", "w", 1),
]


async def test_upload_ids_that_were_never_given_out() -> None:
    async with running_app() as running, httpx.AsyncClient(base_url=running.http) as client:
        ways = (("GET", ""), ("POST", "/complete"), ("POST", "/parts"), ("DELETE", ""))
        for upload_id, (method, tail) in itertools.product(MALFORMED, ways):
            body = {"numbers": [1]} if tail == "/parts" else None
            answer = await client.request(method, f"/v1/uploads/{upload_id}{tail}", json=body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "INVALID_ARGUMENT"), upload_id


async def test_names_of_uploads_that_are_not_there() -> None:
    names = [
        (UploadName(ObjectRef(SPACE, "prism-objects", "k"), "0" * 26), "OBJECT_NOT_FOUND"),
        (UploadName(ObjectRef(SPACE, "never", "k"), "0" * 26), "BUCKET_NOT_FOUND"),
        (UploadName(ObjectRef("never", "b", "k"), "0" * 26), "NAMESPACE_NOT_FOUND"),
    ]
    async with running_app() as running, httpx.AsyncClient(base_url=running.http) as client:
        for name, code in names:
            for method, tail in (("GET", ""), ("POST", "/complete"), ("POST", "/parts"), ("DELETE", "")):
                body = {"numbers": [1]} if tail == "/parts" else None
                answer = await client.request(method, f"/v1/uploads/{name.upload_id}{tail}", json=body)
                assert (answer.status_code, answer.json()["error"]["code"]) == (404, code), (method, tail)


async def test_an_id_of_another_object_opens_nothing(world: World) -> None:
    ticket = await world.create("mine", in_parts=True, size_bytes=4, part_size_bytes=4)
    name = UploadName.of(ticket["upload_id"])
    for ref in (ObjectRef(SPACE, "prism-objects", "other"), ObjectRef("build-artifacts", "prism-builds", "mine")):
        other = {"upload_id": UploadName(ref, name.version_id).upload_id}
        assert (await world.complete(other, status=404))["code"] == "OBJECT_NOT_FOUND"
        await world.ask("DELETE", other, status=404)
    assert (await world.ask("GET", ticket))["state"] == "open"


async def test_bodies_that_are_no_declarations() -> None:
    async with running_app() as running, httpx.AsyncClient(base_url=running.http) as client:
        for content, status in ((b"", 400), (b"[" * 100_000, 400), (b'{"key": 1}', 400), (b" " * 1_100_000, 413)):
            answer = await client.post("/v1/uploads", content=content)
            assert answer.status_code == status, content[:20]
        assert (await client.put("/v1/uploads", content=b"{}")).status_code == 405
        assert (await client.get("/v1/uploads/")).status_code == 404
        assert (await client.get("/v1/uploads/x/other")).status_code == 404


async def test_browsers_may_upload_from_the_pages_that_are_named() -> None:
    async with running_app(overrides={"server.cors_origins": PAGE}) as running, httpx.AsyncClient() as client:
        asked = {"origin": PAGE, "access-control-request-headers": "content-type"}
        page = {"origin": PAGE}
        preflight = await client.options(
            f"{running.http}/v1/uploads", headers=asked | {"access-control-request-method": "POST"}
        )
        assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (204, PAGE)
        declared = {"namespace": SPACE, "key": "k", "size_bytes": 10, "in_parts": True, "part_size_bytes": 5}
        made = await client.post(f"{running.http}/v1/uploads", json=declared, headers=page)
        assert made.headers["access-control-allow-origin"] == PAGE
        upload = f"{running.http}/v1/uploads/{made.json()['upload_id']}"
        signed = await client.post(f"{upload}/parts", json={"numbers": [1, 2]}, headers=page)
        for part in signed.json()["parts"]:
            preflight = await client.options(
                part["url"], headers=asked | {"access-control-request-method": part["method"]}
            )
            assert preflight.status_code == 204
            sent = await client.put(part["url"], content=b"x" * 5, headers=page)
            assert (sent.status_code, sent.headers["access-control-allow-origin"]) == (200, PAGE)
            assert "ETag" in sent.headers["access-control-expose-headers"]
        assert (await client.post(f"{upload}/complete", headers=page)).status_code == 200
        foreign = await client.post(f"{running.http}/v1/uploads", json=declared, headers={"origin": "https://evil"})
        assert foreign.status_code == 403


async def test_each_step_is_on_record_and_no_url_is(world: World) -> None:
    ticket = await world.create(in_parts=True, size_bytes=4, part_size_bytes=4)
    await world.send_parts(ticket, b"1234")
    await world.complete(ticket)
    records = [one for one in world.running.audit.records if one.api == "http"]
    assert [(one.action, one.outcome) for one in records] == [
        ("upload.create", "OK"),
        ("upload.sign_parts", "OK"),
        ("upload.complete", "OK"),
    ]
    told = json.dumps([one.detail for one in world.running.audit.records])
    assert "ignature" not in told
    assert ticket["upload_id"] not in told


async def test_many_at_once(world: World) -> None:
    """Declared, sent and completed side by side, each completed by two callers."""

    async def one(number: int) -> None:
        content = b"%d" % number * 50
        ticket = await world.create(f"many/{number}", in_parts=True, size_bytes=len(content), part_size_bytes=20)
        await world.send_parts(ticket, content)
        first, second = await asyncio.gather(world.complete(ticket), world.complete(ticket))
        assert first == second
        assert await world.read(f"many/{number}") == content

    await asyncio.gather(*(one(number) for number in range(20)))
    await world.until_clean()
