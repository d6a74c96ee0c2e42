"""Memory and start: idle, while ten large transfers run, and how soon a server is ready."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import http_load
from .servers import Server, prism
from .table import Row

__all__ = ["measure"]

_OBJECTS = "/v1/namespaces/user-uploads/objects"
_AT_ONCE = 10


def measure(folder: Path, size_bytes: int) -> Iterator[Row]:
    """Three rows, transfers of `size_bytes` each: five puts and five gets at the same time."""
    data = folder / "memory"
    with prism(data):
        pass
    with prism(data) as server:
        yield Row("ready after", server.ready_seconds, "s", target="< 1.5 s", met=server.ready_seconds < 1.5)
        time.sleep(1)
        idle = server.rss_bytes / 1e6
        yield Row("memory idle", idle, "MB", target="< 150 MB", met=idle < 150)
        base = server.endpoints["http"]
        http_load.put_stream(base, f"{_OBJECTS}/big", size_bytes)
        peak = _peak(server, lambda number: _transfer(base, number, size_bytes)) / 1e6
        what = f"memory, {_AT_ONCE} transfers of {size_bytes >> 20:,} MiB"
        yield Row(what, peak, "MB", target="< 250 MB", met=peak < 250)


def _transfer(base: str, number: int, size_bytes: int) -> float:
    if number % 2:
        return http_load.get_stream(base, f"{_OBJECTS}/big")
    return http_load.put_stream(base, f"{_OBJECTS}/big/{number}", size_bytes)


def _peak(server: Server, transfer: Callable[[int], float]) -> float:
    """The largest resident size seen while the transfers run."""
    done = threading.Event()
    seen = [server.rss_bytes]

    def watch() -> None:
        while not done.wait(0.05):
            seen.append(server.rss_bytes)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(transfer, range(_AT_ONCE)))
    finally:
        done.set()
        watcher.join()
    return max(seen)
