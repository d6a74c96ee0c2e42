"""Many objects: pages of a long list, and the deletion of a folder."""

import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

from . import http_load
from .seeding import SPACE, seed
from .servers import SERVER_CPU, Server, prism
from .table import Row

__all__ = ["folder_delete", "listing"]

_OBJECTS = f"/v1/namespaces/{SPACE}/objects"


def listing(folder: Path, sizes: tuple[int, int, int]) -> Iterator[Row]:
    """The p50 of a page of 1,000 at three sizes of the namespace; the middle one is the size that the target names."""
    found = []
    for size in sizes:
        data = folder / f"list-{size}"
        with prism(data):
            pass
        seed(data, "list/", size)
        with prism(data) as server:
            found.append(_page_p50(server, size))
        shutil.rmtree(data)
    middle = found[1]
    yield Row(f"list 1,000 of {sizes[1]:,} keys, p50", middle, "ms", target="< 10 ms", met=middle < 10)
    growth = found[2] / found[0]
    yield Row(
        f"list 1,000 of {sizes[2]:,} keys, p50",
        found[2],
        "ms",
        target=f"<= 1.5x of {sizes[0]:,}",
        met=growth <= 1.5,
        note=f"{found[0]:.2f} ms of {sizes[0]:,}: {growth:.2f}x",
    )


def _page_p50(server: Server, size: int) -> float:
    chosen = random.Random(1)
    starts = [f"list/{chosen.randrange(max(1, size - 1000)):08d}" for _ in range(60)]
    asks = (
        http_load.request(server.endpoints["http"], "GET", f"{_OBJECTS}?prefix=list/&start_after={start}")
        for start in starts
    )
    return asyncio.run(http_load.run(server.endpoints["http"], asks, 1)).p50 * 1000


def folder_delete(folder: Path, count: int) -> Iterator[Row]:
    """How soon a deleted folder is gone, and how fast its rows and files go."""
    data = folder / "folder"
    with prism(data):
        pass
    seed(data, "gone/", count, body=b"x" * 64)
    quiet = {"PRISM_JANITOR__INTERVAL_SECONDS": "86400", "PRISM_LIMITS__READ_GRACE_SECONDS": "0"}
    with prism(data, settings=quiet) as server:
        took = _delete_folder(server, count)
    yield Row(f"folder delete of {count:,}: gone", took * 1000, "ms", target="< 50 ms", met=took < 0.05)
    seconds = _janitor(data, quiet)
    unlinked = _bare_unlink(folder / "bare-unlink", count)
    rate = count / seconds["purge"]
    yield Row("folder delete: rows purged", rate, "/s", target=">= 5,000/s", met=rate >= 5000)
    files = count / seconds["delete"]
    ratio = files / unlinked
    yield Row("folder delete: files", files, "/s", unlinked, ratio, ">= 0.7 of bare unlink", ratio >= 0.7)


def _delete_folder(server: Server, count: int) -> float:
    base = server.endpoints["http"]
    last = http_load.request(base, "GET", f"{_OBJECTS}?prefix=gone/&start_after=gone/{count - 2:08d}")
    asyncio.run(http_load.run(base, iter([last]), 1))
    began = time.perf_counter()
    asyncio.run(http_load.run(base, iter([http_load.request(base, "DELETE", f"{_OBJECTS}?prefix=gone/")]), 1))
    with urlopen(f"{base}{_OBJECTS}?prefix=gone/&max_results=1") as answer:
        assert not json.load(answer)["objects"]
    return time.perf_counter() - began


def _janitor(data: Path, settings: dict[str, str]) -> dict[str, float]:
    """One round of the janitor on the server's core; seconds by step."""
    command = [sys.executable, "-m", "prism", "janitor", "--once", "--data-dir", str(data), "--output", "json"]
    done = subprocess.run(
        ["taskset", "-c", str(SERVER_CPU), *command], capture_output=True, text=True, check=True, env=_env(settings)
    )
    return {name: float(seconds) for name, seconds in json.loads(done.stdout)["namespaces"][SPACE]["seconds"].items()}


def _env(settings: dict[str, str]) -> dict[str, str]:

    return {**os.environ, **settings}


def _bare_unlink(folder: Path, count: int) -> float:
    folder.mkdir()
    paths = [folder / f"{number:08d}" for number in range(count)]
    for path in paths:
        path.write_bytes(b"x" * 64)
    began = time.perf_counter()
    for path in paths:
        path.unlink()
    return count / (time.perf_counter() - began)
