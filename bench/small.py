"""Small objects: puts, gets, heads, deletes and presigning at 16 at a time; 1 MB one at a time."""

import asyncio
import json
import os
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from prism_sdk.stubs.prism.objectstore import object_store_pb2 as pb

from . import grpc_load, http_load
from .http_load import Measured
from .servers import SERVER_CPU, Server, bare, prism
from .table import Row

__all__ = ["measure"]

_SPACE = "/v1/namespaces/user-uploads"
_OBJECTS = f"{_SPACE}/objects"
_BODY = bytes(4096)
_AT_ONCE = 16


def measure(folder: Path, count: int, rounds: int) -> Iterator[Row]:
    """All rows of small operations; `count` of each in a round."""
    with prism(folder / "prism") as server:
        yield from _puts(server, folder, count, rounds)
        yield from _gets(server, count)
        with bare("bare_grpc", folder) as plain:
            yield from _heads(server, plain, count, rounds)
        yield from _presigns(server, count)
        yield from _deletes(server, count, rounds)
        yield from _megabytes(server, 60 if count > 1000 else 10)


def _http(server: Server, requests: Iterator[bytes], at_once: int = _AT_ONCE) -> Measured:
    return asyncio.run(http_load.run(server.endpoints["http"], requests, at_once))


def _puts(server: Server, folder: Path, count: int, rounds: int) -> Iterator[Row]:
    base = server.endpoints["http"]
    ours, theirs = [], []
    for turn in range(rounds):
        paths = (f"{_OBJECTS}/small/{turn}/{i % 50}/{i}" for i in range(count))
        ours.append(_http(server, (http_load.request(base, "PUT", path, _BODY) for path in paths)).per_second)
        theirs.append(_bare_files(folder / f"bare-{turn}", count))
    yield _against("HTTP put 4 KiB, 16 at a time, durable", ours, theirs, 0.4)

    async def over_grpc() -> Measured:
        channel, stub = grpc_load.connect(server.endpoints["grpc"])

        async def put(number: int) -> None:
            message = pb.PutObjectRequest(namespace="user-uploads", key=f"grpc/{number % 50}/{number}", chunk=_BODY)
            await stub.PutObject(iter([message]))

        try:
            return await grpc_load.run(put, count, _AT_ONCE)
        finally:
            await channel.close()

    rate = asyncio.run(over_grpc()).per_second
    ratio = rate / statistics.median(theirs)
    yield Row(
        "gRPC put 4 KiB, 16 at a time, durable",
        rate,
        "/s",
        statistics.median(theirs),
        ratio,
        ">= 0.4 of bare",
        ratio >= 0.4,
    )


def _bare_files(folder: Path, count: int) -> float:
    """Write, fsync, rename, fsync of the folder, on the server's core with as many threads as there are callers."""
    for number in range(50):
        (folder / str(number)).mkdir(parents=True)
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {SERVER_CPU})
    try:
        began = time.perf_counter()
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda number: _bare_file(folder, number), range(count)))
        return count / (time.perf_counter() - began)
    finally:
        os.sched_setaffinity(0, before)


def _bare_file(folder: Path, number: int) -> None:
    temporary, final = folder / f"{number}.tmp", folder / str(number % 50) / str(number)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    os.write(descriptor, _BODY)
    os.fsync(descriptor)
    os.close(descriptor)
    temporary.rename(final)
    directory = os.open(final.parent, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(directory)
    os.close(directory)


def _gets(server: Server, count: int) -> Iterator[Row]:
    base = server.endpoints["http"]
    paths = (f"{_OBJECTS}/small/0/{i % 50}/{i}" for i in range(count))
    rate = _http(server, (http_load.request(base, "GET", path) for path in paths)).per_second
    yield Row("HTTP get 4 KiB, 16 at a time", rate, "/s", target=">= 2,500/s", met=rate >= 2500)


def _heads(server: Server, plain: Server, count: int, rounds: int) -> Iterator[Row]:
    async def heads(where: Server) -> float:
        channel, stub = grpc_load.connect(where.endpoints["grpc"])

        async def head(number: int) -> None:
            await stub.HeadObject(pb.HeadObjectRequest(namespace="user-uploads", key=f"small/0/{number % 50}/{number}"))

        try:
            await grpc_load.run(head, count // 10, _AT_ONCE)
            return (await grpc_load.run(head, count, _AT_ONCE)).per_second
        finally:
            await channel.close()

    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(asyncio.run(heads(server)))
        theirs.append(asyncio.run(heads(plain)))
    yield _against("gRPC Head, 16 at a time", ours, theirs, 0.7)


def _presigns(server: Server, count: int) -> Iterator[Row]:
    base = server.endpoints["http"]

    def asks(method: str) -> Iterator[bytes]:
        for i in range(count * 2):
            key = f"small/0/{i % 50}/{i % count}" if method == "GET" else f"signed/{i % 50}/{i}"
            body = json.dumps({"key": key, "method": method, "expires_in_seconds": 600}).encode()
            yield http_load.request(base, "POST", f"{_SPACE}/presign", body, "Content-Type: application/json\r\n")

    for method, least in (("PUT", 3000), ("GET", 6000)):
        rate = _http(server, asks(method)).per_second
        yield Row(f"HTTP presign {method}", rate, "/s", target=f">= {least:,}/s", met=rate >= least)

    async def over_grpc() -> float:
        channel, stub = grpc_load.connect(server.endpoints["grpc"])

        async def presign(number: int) -> None:
            await stub.GetPresignedURL(
                pb.PresignedURLRequest(namespace="user-uploads", key=f"grpc-signed/{number}", method="PUT")
            )

        try:
            return (await grpc_load.run(presign, count, _AT_ONCE)).per_second
        finally:
            await channel.close()

    rate = asyncio.run(over_grpc())
    yield Row("gRPC presign PUT", rate, "/s", target=">= 2,000/s", met=rate >= 2000)


def _deletes(server: Server, count: int, rounds: int) -> Iterator[Row]:
    base = server.endpoints["http"]
    rates = []
    for turn in range(rounds):
        paths = (f"{_OBJECTS}/small/{turn}/{i % 50}/{i}" for i in range(count))
        rates.append(_http(server, (http_load.request(base, "DELETE", path) for path in paths)).per_second)
    rate = statistics.median(rates)
    yield Row("HTTP delete, 16 at a time", rate, "/s", target=">= 1,200/s", met=rate >= 1200)


def _megabytes(server: Server, count: int) -> Iterator[Row]:
    base, body = server.endpoints["http"], bytes(1_000_000)
    puts = _http(server, (http_load.request(base, "PUT", f"{_OBJECTS}/mb/{i}", body) for i in range(count)), 1)
    gets = _http(server, (http_load.request(base, "GET", f"{_OBJECTS}/mb/{i}") for i in range(count)), 1)
    for verb, run, most in (("put", puts, 10), ("get", gets, 5)):
        yield Row(f"HTTP {verb} 1 MB, p50", run.p50 * 1000, "ms", target=f"< {most} ms", met=run.p50 * 1000 < most)


def _against(what: str, ours: list[float], theirs: list[float], least: float) -> Row:
    figure, baseline = statistics.median(ours), statistics.median(theirs)
    ratio = figure / baseline
    return Row(what, figure, "/s", baseline, ratio, f">= {least} of bare", ratio >= least)
