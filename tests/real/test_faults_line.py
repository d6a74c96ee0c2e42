"""A bad line to the store: slow, narrow, cut in mid-body, silent, refused. What users of Prism notice of it."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import msgspec
import pytest
from botocore.exceptions import ClientError
from google.rpc import error_details_pb2, status_pb2
from prism_sdk.stubs.prism.objectstore import object_store_pb2 as messages
from stores import KINDS, real_store
from trouble import MIB, World, held, s3_client, world_over

from prism.testing.toxiproxy import Proxy, proxy_before

BIG = secrets.token_bytes(12 * MIB)
SMALL = b"small"
BOUND_SECONDS = 30.0
"""Four attempts of a second, their waits, what is undone for five seconds, and two slow cores."""
STEADY_SECONDS = 5.0
ABSENT = (404, "OBJECT_NOT_FOUND")
DOWN = (503, "STORE_DOWN")


@contextlib.asynccontextmanager
async def over(kind: str, folder: Path, request_seconds: float = 1.0) -> AsyncIterator[tuple[World, Proxy]]:
    """A Prism whose namespace `shaky` reaches its store by the line."""
    async with real_store(kind) as store, real_store("minio") as other:
        at = urlsplit(store.endpoint)
        async with proxy_before(at.netloc) as line:
            shaky = msgspec.structs.replace(store, endpoint=f"{line.url}{at.path}", request_seconds=request_seconds)
            async with world_over({"shaky": shaky, "steady": other}, folder) as world:
                yield world, line


@pytest.fixture(params=KINDS)
async def each(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[World, Proxy]]:
    async with over(request.param, tmp_path) as found:
        yield found


@pytest.fixture
async def minio(tmp_path: Path) -> AsyncIterator[tuple[World, Proxy]]:
    async with over("minio", tmp_path) as found:
        yield found


async def steady(world: World) -> None:
    """The other namespace is served at its usual pace."""
    for _ in range(3):
        put = await world.put("steady", "k", SMALL)
        got = await world.get("steady", "k")
        assert (put.status in {200, 201}, got.holds) == (True, held(SMALL))
        assert put.seconds + got.seconds < STEADY_SECONDS


async def down(world: World) -> None:
    """Small and large, in and out: all are told STORE_DOWN in bounded time, nothing shows, the others are served."""
    calls = [world.put("shaky", "small", SMALL), world.put("shaky", "big", BIG), world.get("shaky", "before")]
    *answers, _, _ = await asyncio.gather(*calls, world.tells_trouble(), steady(world))
    for answer in answers:
        assert (answer.status, answer.code) == DOWN, answer
        assert "127.0.0.1" not in answer.message
        assert answer.seconds < BOUND_SECONDS
    assert await world.keys("shaky") == ["before"]


async def healed(world: World) -> None:
    """It goes on by itself, and nothing of what failed is left anywhere."""
    await world.tells_trouble(False)
    for key in ("small", "big"):
        assert (await world.get("shaky", key)).status == 404
    await world.works()
    assert (await world.put("shaky", "big", BIG)).status in {200, 201}
    assert (await world.get("shaky", "big")).holds == held(BIG)
    assert (await world.get("shaky", "before")).holds == held(BIG)
    await world.clean()


async def begun(world: World) -> None:
    assert (await world.put("shaky", "before", BIG)).status in {200, 201}
    assert not await world.not_ready()


async def test_connections_are_refused(each: tuple[World, Proxy]) -> None:
    world, line = each
    await begun(world)
    await line.disable()
    await down(world)
    await line.enable()
    await healed(world)


async def test_the_store_is_silent(each: tuple[World, Proxy]) -> None:
    world, line = each
    await begun(world)
    await line.timeout(0)
    await down(world)
    await line.heal_all()
    await healed(world)


async def test_every_api_says_so(minio: tuple[World, Proxy]) -> None:
    world, line = minio
    await begun(world)
    await line.disable()

    def by_s3() -> None:
        s3 = s3_client(world.running, "shaky")
        bucket = s3.list_buckets()["Buckets"][0]["Name"]
        for call in (
            lambda: s3.put_object(Bucket=bucket, Key="small", Body=SMALL),
            lambda: s3.get_object(Bucket=bucket, Key="before"),
            lambda: s3.create_multipart_upload(Bucket=bucket, Key="big"),
        ):
            with pytest.raises(ClientError) as failed:
                call()
            found = failed.value.response
            assert (found["ResponseMetadata"]["HTTPStatusCode"], found["Error"]["Code"]) == (503, "ServiceUnavailable")

    await asyncio.to_thread(by_s3)
    async with grpc.aio.insecure_channel(world.running.grpc) as channel:
        put = channel.stream_unary(
            "/prism.objectstore.ObjectStoreService/PutObject",
            request_serializer=messages.PutObjectRequest.SerializeToString,
            response_deserializer=messages.PutObjectResponse.FromString,
        )
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await put([messages.PutObjectRequest(namespace="shaky", key="small", chunk=SMALL)])
    assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
    details = dict(failed.value.trailing_metadata())["grpc-status-details-bin"]
    info = error_details_pb2.ErrorInfo()
    assert status_pb2.Status.FromString(details).details[0].Unpack(info)
    assert info.reason == "STORE_DOWN"


@pytest.mark.parametrize("direction", ["upstream", "downstream"])
async def test_cut_in_mid_body(minio: tuple[World, Proxy], direction: str) -> None:
    """Short bodies pass; long ones are cut on their way to the store, or on their way back."""
    world, line = minio
    await begun(world)
    await line.limit_data(3 * MIB, direction=direction)  # type: ignore[arg-type]  # one of the two
    await cut(world, writes=direction == "upstream")
    await line.heal_all()
    await healed(world)


@pytest.mark.parametrize("direction", ["upstream", "downstream"])
async def test_reset_in_mid_body(minio: tuple[World, Proxy], direction: str) -> None:
    world, line = minio
    await begun(world)
    await line.bandwidth(2048, direction=direction)  # type: ignore[arg-type]  # one of the two
    await line.reset_peer(400, direction=direction)  # type: ignore[arg-type]
    await cut(world, writes=direction == "upstream")
    await line.heal_all()
    await healed(world)


async def cut(world: World, *, writes: bool) -> None:
    """A write that cannot end is told so; a read that began breaks off, and is never taken for whole."""
    await steady(world)
    if writes:
        answer = await world.put("shaky", "big", BIG)
        assert (answer.status, answer.code) == DOWN, answer
        assert await world.keys("shaky") == ["before"]
    else:
        answer = await world.get("shaky", "before")
        assert answer.status == 0 or (answer.status, answer.code) == DOWN, answer
    assert answer.seconds < BOUND_SECONDS
    assert answer.holds != held(BIG)


async def test_a_slow_and_narrow_line_is_no_failure(tmp_path: Path) -> None:
    """As long as a part of a body passes within `request_seconds`, the whole takes the time that it needs."""
    async with over("minio", tmp_path, request_seconds=10) as (world, line):
        for direction in ("upstream", "downstream"):
            await line.latency(150, direction=direction)  # type: ignore[arg-type]  # one of the two
            await line.bandwidth(6 * 1024, direction=direction)  # type: ignore[arg-type]  # as above
        put, _ = await asyncio.gather(world.put("shaky", "big", BIG), steady(world))
        got, _ = await asyncio.gather(world.get("shaky", "big"), steady(world))
        assert (put.status in {200, 201}, got.holds) == (True, held(BIG))
        assert min(put.seconds, got.seconds) > 1
        assert not await world.not_ready()


async def test_many_callers_of_a_silent_store_hold_up_nobody_else(tmp_path: Path) -> None:
    """Not even when they are more than the requests that a server has in progress at a time (512)."""
    async with over("minio", tmp_path, request_seconds=5) as (world, line):
        await begun(world)
        await line.timeout(0)
        crowd = [asyncio.ensure_future(caller(world.running.http, number)) for number in range(600)]
        await world.tells_trouble()
        assert sum(not one.done() for one in crowd) > 100
        for _ in range(3):
            await steady(world)
        async with asyncio.timeout(BOUND_SECONDS):
            assert set(await asyncio.gather(*crowd)) <= {b"503", b"429"}
        await line.heal_all()
        await world.tells_trouble(False)
        await world.works()


async def caller(url: str, number: int) -> bytes:
    """A small put to `shaky` on a connection of its own, by no library that would count among hundreds; its status."""
    at = urlsplit(url)
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    path = f"/v1/namespaces/shaky/objects/crowd{number}"
    writer.write(f"PUT {path} HTTP/1.1\r\nHost: {at.netloc}\r\nContent-Length: 1\r\n\r\nx".encode())
    try:
        return (await reader.readline()).split()[1]
    finally:
        writer.transport.abort()
