"""A store that is started again while large objects are on their way: Prism's own put, a client's upload in parts, and
one by the S3 API. What was acknowledged is there, what was cut can be repeated, and nothing else is left."""

import asyncio
import contextlib
import hashlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError
from s3_buckets import new_bucket
from stores import real_store
from trouble import MIB, World, held, s3_client, world_over

from prism.testing.services import PrivateServer, private_minio

PART = 5 * MIB
BIG = secrets.token_bytes(2 * PART + MIB)


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[tuple[World, PrivateServer]]:
    """`shaky` lies on a MinIO that the test may stop."""
    (tmp_path / "minio").mkdir()
    async with (
        private_minio(tmp_path / "minio") as server,
        new_bucket(server.service, request_seconds=2.0) as store,
        real_store("minio") as other,
        world_over({"shaky": store, "steady": other}, tmp_path) as world,
    ):
        yield world, server


@contextlib.asynccontextmanager
async def away(world: World, server: PrivateServer) -> AsyncIterator[None]:
    """Killed as by a power cut; back at the end of the block."""
    await server.kill()
    try:
        yield
    finally:
        await server.start()
    await world.tells_trouble(False)


async def test_during_a_large_put(own: tuple[World, PrivateServer]) -> None:
    world, server = own
    half, go_on = asyncio.Event(), asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        for at in range(0, 3 * len(BIG), MIB):
            if at == 20 * MIB:
                half.set()
                await go_on.wait()
            yield (BIG * 3)[at : at + MIB]

    put = asyncio.create_task(world.put("shaky", "big", body()))
    await half.wait()
    async with away(world, server):
        go_on.set()
        answer = await put
        assert (answer.status, answer.code) == (503, "STORE_DOWN"), answer
        await world.works("steady")
    assert (await world.get("shaky", "big")).status == 404
    assert (await world.put("shaky", "big", BIG)).status in {200, 201}
    await world.clean()
    space = world.running.app.namespaces.get("shaky")
    (stored,) = [entry.key for entry in await space.store.list("big~", "", 10)]
    assert await space.store.open_multiparts(stored) == []


async def test_during_an_upload_in_parts(own: tuple[World, PrivateServer]) -> None:
    """Straight to the store: what had arrived is still there, and the client goes on with the rest."""
    world, server = own
    asked = {"namespace": "shaky", "key": "big", "in_parts": True, "size_bytes": len(BIG), "part_size_bytes": PART}
    ticket = (await world.api.post("/v1/uploads", json=asked)).json()
    where = f"/v1/uploads/{ticket['upload_id']}"
    parts: list[Any] = (await world.api.post(f"{where}/parts", json={"numbers": [1, 2, 3]})).json()["parts"]
    async with httpx.AsyncClient(timeout=30) as client:

        async def send(number: int) -> int:
            part, piece = parts[number - 1], BIG[(number - 1) * PART :][:PART]
            return (await client.put(part["url"], content=piece, headers=part["headers"])).status_code

        assert await send(1) == 200
        async with away(world, server):
            with pytest.raises(httpx.TransportError):
                await send(2)
            for method, tail in (("GET", ""), ("POST", "/complete")):
                answer = await world.api.request(method, f"{where}{tail}")
                assert (answer.status_code, answer.json()["error"]["code"]) == (503, "STORE_DOWN"), answer.text
        assert [part["number"] for part in (await world.api.get(where)).json()["parts"]] == [1]
        assert [await send(2), await send(3)] == [200, 200]
    done = await world.api.post(f"{where}/complete", json={"checksum_sha256": hashlib.sha256(BIG).hexdigest()})
    assert done.status_code == 200, done.text
    assert (await world.get("shaky", "big")).holds == held(BIG)
    await world.clean()


async def test_during_an_upload_by_the_s3_api(own: tuple[World, PrivateServer]) -> None:
    world, server = own
    s3 = s3_client(world.running, "shaky")
    bucket = world.running.app.namespaces.get("shaky").rules.own_bucket
    here = {"Bucket": bucket, "Key": "big"}
    this = {**here, "UploadId": (await asyncio.to_thread(s3.create_multipart_upload, **here))["UploadId"]}
    etags: dict[int, str] = {}

    async def send(number: int) -> None:
        piece = BIG[(number - 1) * PART :][:PART]
        answer = await asyncio.to_thread(s3.upload_part, **this, PartNumber=number, Body=piece)
        etags[number] = answer["ETag"]

    async def complete() -> Any:
        chosen = {"Parts": [{"PartNumber": number, "ETag": etag} for number, etag in sorted(etags.items())]}
        return await asyncio.to_thread(s3.complete_multipart_upload, **this, MultipartUpload=chosen)

    await send(1)
    async with away(world, server):
        with pytest.raises(ClientError, match="ServiceUnavailable"):
            await send(2)
        with pytest.raises(ClientError, match="ServiceUnavailable"):
            await complete()
    await send(2)
    await send(3)
    await complete()
    assert (await world.get("shaky", "big")).holds == held(BIG)
    await world.clean()
