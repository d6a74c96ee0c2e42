"""Streams and their ends over gRPC: only what ended in peace is committed; everything is bounded; all waits end."""

import asyncio
import logging
import resource
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_support import OBJECTS, RawCall, Served, info_of, retry_of, served, until
from prism_sdk.frames import PUT_TAG, frame
from prism_sdk.stubs.prism.objectstore import object_store_pb2 as pb

HEADER = pb.PutObjectRequest(namespace="user-uploads", key="k").SerializeToString()
GET = pb.GetObjectRequest(namespace="user-uploads", key="k").SerializeToString()
HEAD = pb.HeadObjectRequest(namespace="user-uploads", key="k").SerializeToString()
UNLIMITED = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))


@pytest.fixture
async def served_here() -> AsyncIterator[Served]:
    async with served() as one:
        yield one


def channel(one: Served, *options: tuple[str, int]) -> Any:
    return grpc.aio.insecure_channel(one.address, options=(*UNLIMITED, *options))


def put_call(open_channel: Any, **options: Any) -> Any:
    return open_channel.stream_unary(f"{OBJECTS}PutObject")(**options)


class TestEndOfAPut:
    async def test_a_stream_that_is_closed_in_peace_is_committed(self, served_here: Served) -> None:
        async with channel(served_here) as opened:
            call = put_call(opened)
            await call.write(HEADER)
            await call.write(frame(PUT_TAG, b"x" * 1000))
            await call.done_writing()
            pb.PutObjectResponse.FromString(await call)
        assert served_here.shelf.committed == ["k"]
        assert served_here.shelf.received_bytes == 1000

    @pytest.mark.parametrize("repeat", range(3))
    async def test_a_message_over_the_limit_commits_nothing(self, served_here: Served, repeat: int) -> None:
        async with channel(served_here) as opened:
            call = put_call(opened)
            await call.write(HEADER)
            await call.write(frame(PUT_TAG, b"x" * 1000))
            await call.write(frame(PUT_TAG, bytes(6 << 20)))
            await call.done_writing()
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await call
        assert failed.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await self._nothing_committed(served_here)

    @pytest.mark.parametrize("repeat", range(3))
    async def test_a_client_that_cancels_commits_nothing(self, served_here: Served, repeat: int) -> None:
        async with channel(served_here) as opened:
            call = put_call(opened)
            await call.write(HEADER)
            await call.write(frame(PUT_TAG, b"x" * 1000))
            await until(lambda: served_here.shelf.received_bytes == 1000)
            call.cancel()
            await self._nothing_committed(served_here)

    async def test_a_deadline_commits_nothing(self, served_here: Served) -> None:
        async with channel(served_here) as opened:
            call = put_call(opened, timeout=0.3)
            await call.write(HEADER)
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await call
        assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await self._nothing_committed(served_here)

    @pytest.mark.parametrize(
        "ending",
        [
            lambda call: call.reset(),
            lambda call: None,
        ],
        ids=["RST_STREAM", "connection cut"],
    )
    async def test_a_stream_that_breaks_commits_nothing(
        self, served_here: Served, ending: Callable[[RawCall], None]
    ) -> None:
        call = await RawCall.begin(served_here.address, f"{OBJECTS}PutObject")
        call.message(HEADER)
        call.message(frame(PUT_TAG, b"x" * 1000))
        await call.flush()
        await until(lambda: served_here.shelf.received_bytes == 1000)
        ending(call)
        await call.cut()
        await self._nothing_committed(served_here)

    async def test_the_raw_client_is_able_to_end_in_peace(self, served_here: Served) -> None:
        call = await RawCall.begin(served_here.address, f"{OBJECTS}PutObject")
        call.message(HEADER, end=True)
        await call.flush()
        await until(lambda: served_here.shelf.committed == ["k"])
        call.close()

    async def _nothing_committed(self, one: Served) -> None:
        await until(lambda: len(one.shelf.ended) == len(one.shelf.begun))
        await asyncio.sleep(0)
        assert one.shelf.begun == ["k"]
        assert one.shelf.committed == []


class TestBounds:
    async def test_a_slow_reader_holds_the_store_back(self, served_here: Served) -> None:
        before = _rss_bytes()
        # Without the probe the client's window stays small, so that what is ahead is the server's and the sockets' own.
        async with channel(served_here, ("grpc.http2.bdp_probe", 0)) as opened:
            call = opened.unary_stream(f"{OBJECTS}GetObject")(GET)
            received = 0
            for _ in range(20):
                received += len(await call.read())
                await asyncio.sleep(0.01)
            await _steady(lambda: served_here.shelf.produced_bytes)
            ahead = served_here.shelf.produced_bytes - received
            call.cancel()
        assert ahead <= 16 << 20
        assert _rss_bytes() - before < 100 << 20
        await until(lambda: served_here.shelf.ended == ["k"])

    async def test_a_slow_store_holds_the_writer_back(self, served_here: Served) -> None:
        served_here.shelf.may_read.clear()
        sent = 0
        async with channel(served_here) as opened:
            call = put_call(opened)
            await call.write(HEADER)

            async def send() -> None:
                nonlocal sent
                piece = frame(PUT_TAG, bytes(1 << 20))
                for _ in range(300):
                    await call.write(piece)
                    sent += len(piece)

            sending = asyncio.ensure_future(send())
            await _steady(lambda: sent)
            assert 0 < sent <= 24 << 20
            sending.cancel()
            call.cancel()

    async def test_a_reader_that_takes_nothing_is_ended(self) -> None:
        async with served(idle_seconds=0.3) as one, channel(one) as opened:
            opened.unary_stream(f"{OBJECTS}GetObject")(GET)
            await until(lambda: one.shelf.ended == ["k"], 10)
            assert one.shelf.produced_bytes < 64 << 20

    async def test_a_writer_that_sends_nothing_is_told_so(self) -> None:
        async with served(idle_seconds=0.3) as one, channel(one) as opened:
            call = put_call(opened)
            await call.write(HEADER)
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await call
            assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert info_of(failed.value).reason == "DEADLINE_EXCEEDED"
            assert one.shelf.committed == []

    async def test_a_writer_that_drips_is_ended(self) -> None:
        async with served(idle_seconds=0.3, min_transfer_bytes_per_second=100_000) as one, channel(one) as opened:
            call = put_call(opened)
            await call.write(HEADER)

            async def drip() -> None:
                while True:
                    await call.write(frame(PUT_TAG, b"x"))
                    await asyncio.sleep(0.05)

            dripping = asyncio.ensure_future(drip())
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await call
            await asyncio.wait([dripping])
            assert dripping.exception() is not None
            assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert "slower" in str(failed.value.details())

    async def test_a_chunk_of_4_mib_is_taken_and_a_larger_one_refused(self, served_here: Served) -> None:
        async with channel(served_here) as opened:
            call = put_call(opened)
            await call.write(frame(PUT_TAG, bytes(4 << 20), HEADER))
            await call.done_writing()
            await call
            assert served_here.shelf.received_bytes == 4 << 20
            for first in (HEADER, frame(PUT_TAG, bytes((4 << 20) + 1), HEADER)):
                call = put_call(opened)
                await call.write(first)
                if first is HEADER:
                    await call.write(frame(PUT_TAG, bytes((4 << 20) + 1)))
                with pytest.raises(grpc.aio.AioRpcError) as failed:
                    await call
                assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert served_here.shelf.committed == ["k"]

    @pytest.mark.parametrize("own_connections", [1, 0])
    async def test_more_requests_than_allowed_are_told_to_come_back(self, own_connections: int) -> None:
        async with served(max_requests=2) as one:
            one.shelf.may_read.clear()
            channels = [channel(one, ("grpc.use_local_subchannel_pool", own_connections)) for _ in range(3)]
            heads = [opened.unary_unary(f"{OBJECTS}HeadObject") for opened in channels]
            waiting = [asyncio.ensure_future(_answer(head(HEAD))) for head in heads[:2]]
            await until(lambda: len(one.shelf.begun) == 2)
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await heads[2](HEAD, timeout=10)
            assert failed.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert info_of(failed.value).reason == "RATE_LIMITED"
            assert info_of(failed.value).metadata["retryable"] == "true"
            wait = retry_of(failed.value)
            assert wait is not None
            assert wait.retry_delay.ToMilliseconds() > 0
            one.shelf.may_read.set()
            await asyncio.gather(*waiting)
            await heads[2](HEAD)
            for opened in channels:
                await opened.close()

    async def test_connections_have_a_limit(self) -> None:
        async with served(max_connections=2) as one:
            calls, heard = [], []
            for _ in range(3):
                calls.append(await RawCall.begin(one.address, f"{OBJECTS}PutObject"))
                heard.append(bool(await calls[-1].heard()))
            assert heard == [True, True, False]
            for call in calls:
                call.close()

    async def test_headers_have_a_limit(self) -> None:
        async with served(max_header_bytes=4096) as one, channel(one) as opened:
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await opened.unary_unary(f"{OBJECTS}HeadObject")(HEAD, metadata=(("x-long", "y" * 8192),))
            assert failed.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert one.shelf.begun == []

    async def test_a_request_that_takes_too_long_is_ended(self) -> None:
        async with served(request_seconds=0.2) as one, channel(one) as opened:
            one.shelf.may_read.clear()
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await opened.unary_unary(f"{OBJECTS}HeadObject")(HEAD)
            assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert one.shelf.ended == ["k"]

    async def test_a_client_that_cancels_stops_the_work(self, served_here: Served) -> None:
        served_here.shelf.may_read.clear()
        async with channel(served_here) as opened:
            call = opened.unary_unary(f"{OBJECTS}HeadObject")(HEAD)
            await until(lambda: served_here.shelf.begun == ["k"])
            call.cancel()
            await until(lambda: served_here.shelf.ended == ["k"])


class TestErrors:
    async def test_what_nobody_foresaw_is_internal_and_keeps_its_text_inside(
        self, served_here: Served, caplog: pytest.LogCaptureFixture
    ) -> None:
        request = pb.HeadObjectRequest(namespace="user-uploads", key="unforeseen").SerializeToString()
        async with channel(served_here) as opened:
            with caplog.at_level(logging.ERROR), pytest.raises(grpc.aio.AioRpcError) as failed:
                await opened.unary_unary(f"{OBJECTS}HeadObject")(request)
        assert failed.value.code() is grpc.StatusCode.INTERNAL
        assert info_of(failed.value).reason == "INTERNAL"
        assert "secret" not in repr(failed.value)

    async def test_the_request_id_is_the_callers_if_it_is_one(self, served_here: Served) -> None:
        async with channel(served_here) as opened:
            head = opened.unary_unary(f"{OBJECTS}HeadObject")
            for sent, answered in (("mine-1.2_3", "mine-1.2_3"), ("a b", None), ("x" * 65, None), (None, None)):
                call = head(HEAD, metadata=(("x-request-id", sent),) if sent else None)
                await call
                assert dict(await call.trailing_metadata())["x-request-id"] == (answered or "made-by-the-server")
            unknown = opened.unary_unary(f"{OBJECTS}Unknown")
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await unknown(b"", metadata=(("x-request-id", "mine-2"),))
        assert failed.value.code() is grpc.StatusCode.UNIMPLEMENTED
        info = info_of(failed.value)
        assert (info.reason, info.domain, info.metadata["request_id"]) == ("UNIMPLEMENTED", "prism", "mine-2")
        assert dict(failed.value.trailing_metadata())["x-request-id"] == "mine-2"

    @pytest.mark.parametrize("raw", [b"\xff\xff", b"\x0a\x05ab", b"\x1a\x02\xc3\x28"], ids=["tag", "short", "utf-8"])
    async def test_bytes_that_are_no_message_are_refused(self, served_here: Served, raw: bytes) -> None:
        async with channel(served_here) as opened:
            for call in (
                opened.unary_unary(f"{OBJECTS}HeadObject")(raw),
                opened.stream_unary(f"{OBJECTS}PutObject")(iter([raw])),
            ):
                with pytest.raises(grpc.aio.AioRpcError) as failed:
                    await call
                assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert served_here.shelf.begun == []


class TestHealthAndReflection:
    CHECK = "/grpc.health.v1.Health/"

    async def _status(self, opened: Any, service: str) -> int:
        raw = await opened.unary_unary(f"{self.CHECK}Check")(
            health_pb2.HealthCheckRequest(service=service).SerializeToString()
        )
        return int(health_pb2.HealthCheckResponse.FromString(raw).status)

    async def test_health_follows_readiness(self, served_here: Served) -> None:
        async with channel(served_here) as opened:
            for name in ("", "prism.objectstore.ObjectStoreService", "prism.objectstore.NamespaceService"):
                assert await self._status(opened, name) == health_pb2.HealthCheckResponse.SERVING
            served_here.unready["catalog"] = "down"
            assert await self._status(opened, "") == health_pb2.HealthCheckResponse.NOT_SERVING
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await self._status(opened, "no.such.Service")
        assert failed.value.code() is grpc.StatusCode.NOT_FOUND
        assert {record.action for record in served_here.audit.records} == {"server.health"}

    async def test_a_watcher_hears_of_a_shutdown(self, served_here: Served) -> None:
        async with channel(served_here) as opened:
            watch = opened.unary_stream(f"{self.CHECK}Watch")(b"")
            first = health_pb2.HealthCheckResponse.FromString(await watch.read())
            assert first.status == health_pb2.HealthCheckResponse.SERVING
            stopping = asyncio.ensure_future(served_here.server.stop(5))
            last = health_pb2.HealthCheckResponse.FromString(await watch.read())
            assert last.status == health_pb2.HealthCheckResponse.NOT_SERVING
            assert await watch.read() is grpc.aio.EOF
            await asyncio.wait_for(stopping, 3)

    @pytest.mark.parametrize("version", ["v1", "v1alpha"])
    async def test_reflection_tells_the_services_and_their_files(self, served_here: Served, version: str) -> None:
        asked = [
            reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString(),
            reflection_pb2.ServerReflectionRequest(
                file_containing_symbol="prism.objectstore.ObjectStoreService"
            ).SerializeToString(),
        ]
        async with channel(served_here) as opened:
            call = opened.stream_stream(f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo")(
                iter(asked)
            )
            answers = [reflection_pb2.ServerReflectionResponse.FromString(raw) async for raw in call]
        names = {one.name for one in answers[0].list_services_response.service}
        assert {"prism.objectstore.ObjectStoreService", "prism.objectstore.NamespaceService"} <= names
        assert any(b"PutObjectRequest" in raw for raw in answers[1].file_descriptor_response.file_descriptor_proto)
        assert [record.action for record in served_here.audit.records] == ["server.docs"]


async def _answer(call: Any) -> bytes:
    return bytes(await call)


async def _steady(value: Callable[[], int]) -> None:
    """Wait until a number has stopped growing."""
    seen, same = -1, 0
    async with asyncio.timeout(10):
        while same < 10:
            await asyncio.sleep(0.03)
            now = value()
            seen, same = now, same + 1 if now == seen else 0


def _rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
