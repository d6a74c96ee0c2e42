"""64 MiB transfers over gRPC and HTTP, against bare servers, in alternating runs."""

import asyncio
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

from . import grpc_load, http_load
from .servers import Server, bare, prism
from .table import Row

__all__ = ["measure"]

_SIZE = 64 << 20
_OBJECTS = "/v1/namespaces/user-uploads/objects"


def measure(folder: Path, rounds: int) -> Iterator[Row]:
    """Four rows: gRPC put and get, HTTP put and get."""
    with prism(folder / "prism") as server, bare("bare_http", folder) as plain, bare("bare_grpc", folder) as stub:
        for verb, target in (("put", 0.6), ("get", 0.5)):
            yield _row(f"gRPC {verb} 64 MiB", server, stub, _over_grpc(verb), rounds, target)
        for verb, target in (("put", 0.6), ("get", 0.6)):
            yield _row(f"HTTP {verb} 64 MiB", server, plain, _over_http(verb), rounds, target)


Transfer = Callable[[Server, bool], float]


def _over_grpc(verb: str) -> Transfer:
    async def once(server: Server) -> float:
        channel, stub = grpc_load.connect(server.endpoints["grpc"])
        try:
            return await getattr(grpc_load, verb)(stub, "large", _SIZE)
        finally:
            await channel.close()

    return lambda server, _bare: asyncio.run(once(server))


def _over_http(verb: str) -> Transfer:
    def once(server: Server, is_bare: bool) -> float:
        path = "/large" if is_bare else f"{_OBJECTS}/large"
        base = server.endpoints["http"]
        return http_load.put_stream(base, path, _SIZE) if verb == "put" else http_load.get_stream(base, path)

    return once


def _row(what: str, server: Server, plain: Server, transfer: Transfer, rounds: int, target: float) -> Row:
    ours, theirs = [], []
    transfer(server, False)
    transfer(plain, True)
    cpu = server.cpu_seconds
    bare_cpu = plain.cpu_seconds
    for _ in range(rounds):
        ours.append(transfer(server, False))
        theirs.append(transfer(plain, True))
    gigabytes = rounds * _SIZE / 1e9
    used, bare_used = (server.cpu_seconds - cpu) / gigabytes, (plain.cpu_seconds - bare_cpu) / gigabytes
    ratio = statistics.median(theirs) / statistics.median(ours)
    return Row(
        what,
        _SIZE / 1e6 / statistics.median(ours),
        "MB/s",
        baseline=_SIZE / 1e6 / statistics.median(theirs),
        ratio=ratio,
        target=f">= {target} of bare",
        met=ratio >= target,
        note=f"{used:.2f} CPU-s/GB, bare {bare_used:.2f}",
    )
