"""Declared uploads and uploads in parts, to every real store: sent by a plain HTTP client, by boto3, and resumed."""

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config
from stores import KINDS, prism_on, real_store

from prism.testing.running import Running
from prism.tickets import UploadName

MIB = 2**20
BIG = bytes(range(251)) * 50_000
SHA256 = hashlib.sha256(BIG).hexdigest()
PART = 5 * MIB


class World:
    """A Prism with one namespace over a real store, and two clients without credentials."""

    def __init__(self, running: Running, api: httpx.AsyncClient) -> None:
        self.running = running
        self.api = api

    async def create(self, key: str, **fields: Any) -> Any:
        answer = await self.api.post("/v1/uploads", json={"namespace": "things", "key": key, **fields})
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def ask(self, method: str, ticket: Any, tail: str = "", body: Any = None) -> httpx.Response:
        return await self.api.request(method, f"/v1/uploads/{ticket['upload_id']}{tail}", json=body)

    async def send(self, url: Any, content: bytes) -> int:
        async with httpx.AsyncClient(timeout=60) as client:
            answer = await client.put(url["url"], content=content, headers=url["headers"])
        return answer.status_code

    async def read(self, key: str) -> bytes:
        answer = await self.api.get(f"/v1/namespaces/things/objects/{key}")
        assert answer.status_code == 200, answer.text
        return answer.content

    async def left_open(self, ticket: Any) -> int:
        """Uploads in parts that the store still has of it."""
        space, name = self.running.app.namespaces.get("things"), UploadName.of(ticket["upload_id"])
        physical_key = space.layout.physical(name.ref.bucket, name.ref.key, name.version_id)
        return len(await space.store.open_multiparts(physical_key))


@pytest.fixture(params=KINDS)
async def world(request: Any, tmp_path: Path) -> AsyncIterator[World]:
    async with (
        real_store(request.param) as store,
        prism_on({"things": store}, tmp_path) as running,
        httpx.AsyncClient(base_url=running.http, timeout=60) as api,
    ):
        yield World(running, api)


async def test_at_once(world: World) -> None:
    content = b"declared" * 1000
    declared = {
        "size_bytes": len(content),
        "content_type": "image/png",
        "metadata": {"n": "1"},
        "checksum_sha256": hashlib.sha256(content).hexdigest(),
        "if_none_match": ["*"],
    }
    ticket = await world.create("a/k", **declared)
    assert (await world.ask("POST", ticket, "/complete")).status_code == 503
    assert await world.send(ticket, content) in {200, 201}
    done = await world.ask("POST", ticket, "/complete")
    assert done.status_code == 200, done.text
    assert done.json()["checksum_sha256"] == declared["checksum_sha256"]
    assert (await world.ask("POST", ticket, "/complete")).json() == done.json()
    assert await world.read("a/k") == content
    late = await world.create("a/k", if_none_match=["*"])
    assert await world.send(late, b"late") in {200, 201}
    assert (await world.ask("POST", late, "/complete")).status_code == 412
    assert await world.read("a/k") == content


async def test_in_parts_and_resumed(world: World) -> None:
    ticket = await world.create("big", in_parts=True, size_bytes=len(BIG), part_size_bytes=PART, content_type="a/b")
    assert ticket["parts"] == 3
    for numbers in ([3], [1, 2]):
        signed = (await world.ask("POST", ticket, "/parts", {"numbers": numbers})).json()["parts"]
        sent = await asyncio.gather(
            *(world.send(part, BIG[(part["number"] - 1) * PART :][: part["size_bytes"]]) for part in signed)
        )
        assert set(sent) <= {200, 201}
        there = (await world.ask("GET", ticket)).json()["parts"]
        assert {part["number"] for part in there} == ({3} if numbers == [3] else {1, 2, 3})
    done = await world.ask("POST", ticket, "/complete", {"checksum_sha256": SHA256})
    assert done.status_code == 200, done.text
    assert (await world.ask("POST", ticket, "/complete")).json() == done.json()
    assert await world.read("big") == BIG
    assert await world.left_open(ticket) == 0


async def test_given_up(world: World) -> None:
    ticket = await world.create("big", in_parts=True, size_bytes=len(BIG), part_size_bytes=PART)
    (part,) = (await world.ask("POST", ticket, "/parts", {"numbers": [1]})).json()["parts"]
    assert await world.send(part, BIG[:PART]) in {200, 201}
    assert (await world.ask("DELETE", ticket)).status_code == 204
    assert await world.left_open(ticket) == 0
    assert (await world.ask("POST", ticket, "/complete")).status_code == 404


async def test_boto3_through_prism(world: World) -> None:
    """Managed transfers and presigned parts of S3 clients, to a namespace on any store."""

    def work() -> None:
        s3 = boto3.session.Session("things", "prism-local-things", region_name="us-east-1").client(
            "s3", endpoint_url=world.running.s3, config=Config(s3={"addressing_style": "path"})
        )
        bucket = s3.list_buckets()["Buckets"][0]["Name"]
        s3.upload_fileobj(io.BytesIO(BIG), bucket, "managed", ExtraArgs={"Metadata": {"n": "1"}})
        digests = [hashlib.md5(BIG[at : at + 8 * MIB]).digest() for at in range(0, len(BIG), 8 * MIB)]
        head = s3.head_object(Bucket=bucket, Key="managed")
        assert (head["ETag"], head["Metadata"]) == (f'"{hashlib.md5(b"".join(digests)).hexdigest()}-2"', {"n": "1"})
        back = io.BytesIO()
        s3.download_fileobj(bucket, "managed", back)
        assert back.getvalue() == BIG
        upload = s3.create_multipart_upload(Bucket=bucket, Key="never")["UploadId"]
        s3.upload_part(Bucket=bucket, Key="never", UploadId=upload, PartNumber=1, Body=b"x")
        assert len(s3.list_parts(Bucket=bucket, Key="never", UploadId=upload)["Parts"]) == 1
        s3.abort_multipart_upload(Bucket=bucket, Key="never", UploadId=upload)
        assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)

    await in_thread(work)


async def in_thread(work: Callable[[], None]) -> None:
    await asyncio.to_thread(work)
