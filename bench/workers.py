"""What `--workers` brings: the same load on one process and on two, both with both cores, the load beside them."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

from . import http_load
from .servers import prism
from .table import Row

__all__ = ["measure"]

_OBJECTS = "/v1/namespaces/user-uploads/objects"


def measure(folder: Path, count: int) -> Iterator[Row]:
    """Rates of 4 KiB puts and gets with one worker and with two."""
    rates: dict[int, tuple[float, float]] = {}
    for workers in (1, 2):
        with prism(folder / f"workers-{workers}", workers=workers, cpus="0,1") as server:
            base = server.endpoints["http"]
            paths = [f"{_OBJECTS}/{i % 50}/{i}" for i in range(count)]
            puts = (http_load.request(base, "PUT", path, bytes(4096)) for path in paths)
            gets = (http_load.request(base, "GET", path) for path in paths)
            put = asyncio.run(http_load.run(base, puts, 32)).per_second
            rates[workers] = put, asyncio.run(http_load.run(base, gets, 32)).per_second
    for place, verb in enumerate(("put", "get")):
        one, two = rates[1][place], rates[2][place]
        yield Row(f"HTTP {verb} 4 KiB, two workers", two, "/s", one, two / one, note="bare: one worker, same two cores")
