"""The gRPC client of the measurements, on the project's own stubs."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
from prism_sdk.stubs.prism.objectstore import object_store_pb2 as pb
from prism_sdk.stubs.prism.objectstore import object_store_pb2_grpc as services

from .http_load import Measured

__all__ = ["connect", "get", "put", "run"]

Stub = services.ObjectStoreServiceStub
_OPTIONS = [("grpc.max_receive_message_length", 5 << 20)]


def connect(address: str) -> tuple[grpc.aio.Channel, Stub]:
    """A channel and its stub; the caller closes the channel."""
    channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
    return channel, Stub(channel)


async def put(stub: Stub, key: str, size_bytes: int) -> float:
    """Put zeros in pieces of 1 MiB; the seconds it took."""
    piece = bytes(1 << 20)

    async def messages() -> AsyncIterator[pb.PutObjectRequest]:
        yield pb.PutObjectRequest(namespace="user-uploads", key=key)
        for _ in range(size_bytes >> 20):
            yield pb.PutObjectRequest(chunk=piece)

    began = time.perf_counter()
    answer = await stub.PutObject(messages())
    assert answer.size_bytes == size_bytes
    return time.perf_counter() - began


async def get(stub: Stub, key: str, size_bytes: int) -> float:
    """Get and throw away; the seconds it took."""
    began, got = time.perf_counter(), 0
    async for message in stub.GetObject(pb.GetObjectRequest(namespace="user-uploads", key=key)):
        got += len(message.chunk)
    assert got == size_bytes
    return time.perf_counter() - began


async def run(call: Callable[[int], Awaitable[object]], count: int, concurrency: int) -> Measured:
    """Await `call(i)` for every i below `count`, at most `concurrency` at a time."""
    latencies: list[float] = []
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            began = time.perf_counter()
            await call(number)
            latencies.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return Measured(count / (time.perf_counter() - began), latencies)
