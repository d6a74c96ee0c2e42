"""Through Prism to MinIO, against obstore driving the same MinIO directly, in the same run.

Client, Prism and MinIO share the cores; nothing is pinned, because what is asked is what a caller gets of the machine.
Needs `make services` once, which builds MinIO. The notes give the CPU time of each process.
"""

import asyncio
import contextlib
import os
import statistics
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

import obstore
from obstore.store import S3Store

from prism.app import open_app
from prism.config import load
from prism.identifiers import utc_now
from prism.model import Caller, Declared, ObjectRef, Principal, PutOptions
from prism.testing import servers
from prism.testing.services import Service, free_port, program, serves
from prism.tickets import UploadRequest

from . import http_load
from .http_load import Measured
from .seeding import seed
from .servers import Server, prism_on
from .table import Row

__all__ = ["Sizes", "measure"]

_BUCKET = "prism-objects"
_SPACE = "/v1/namespaces/user-uploads"
_OBJECTS = f"{_SPACE}/objects"
_SIZE = 64 << 20
_PIECE = 1 << 20
_SMALL = bytes(4096)
_LANDED = b"landed"
_AT_ONCE = 16
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Sizes:
    """How much of each is done."""

    rounds: int
    count: int
    listed: int
    pending: int
    huge_bytes: int


def measure(folder: Path, sizes: Sizes) -> Iterator[Row]:
    """All rows of a remote store."""
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    with _minio(folder / "minio") as (minio, pid):
        store = _direct(minio)
        config = folder / "prism.yaml"
        config.write_text(_YAML.format(data=folder / "data", minio=minio))
        with prism_on(config) as server:
            yield from _large(server, store, pid, sizes.rounds)
            yield from _small_rows(server, store, sizes)
            yield from _presigns(server, sizes.count)
            yield from _huge(server, sizes.huge_bytes)
        yield from _listing(folder / "data", config, store, sizes.listed)
        yield from _recognition(config, store, sizes.pending)


_YAML = """
data_dir: "{data}"
namespaces:
  - name: user-uploads
    backend: minio
    endpoint: "{minio.url}"
    access_key: "{minio.access_key}"
    secret_key: "{minio.secret_key}"
    bucket: prism-objects
    default_ttl_seconds: 7776000
"""


@contextlib.contextmanager
def _minio(folder: Path) -> Iterator[tuple[Service, int]]:
    """A server of this run's own with an empty bucket, and its process id."""
    port = free_port()
    service = Service(url=f"http://127.0.0.1:{port}", access_key="prism-bench", secret_key="prism-bench-secret")
    command = servers.minio(
        program("minio"), folder, port, access_key=service.access_key, secret_key=service.secret_key
    )
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command.arguments, env={**os.environ, **command.environment}, **quiet)
    try:
        deadline = time.monotonic() + 30
        while not serves(command):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("MinIO did not start")
            time.sleep(0.05)
        _make_bucket(service)
        yield service, process.pid
    finally:
        process.terminate()
        process.wait(20)


def _make_bucket(minio: Service) -> None:
    from botocore.session import Session

    client = Session().create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=minio.url,
        aws_access_key_id=minio.access_key,
        aws_secret_access_key=minio.secret_key,
    )
    client.create_bucket(Bucket=_BUCKET)


def _direct(minio: Service) -> S3Store:
    return S3Store(
        _BUCKET,
        endpoint=minio.url,
        access_key_id=minio.access_key,
        secret_access_key=minio.secret_key,
        region="us-east-1",
        client_options={"allow_http": True},
    )


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


# -- 64 MiB


def _large(server: Server, store: S3Store, pid: int, rounds: int) -> Iterator[Row]:
    base = server.endpoints["http"]
    through: dict[str, Callable[[], float]] = {
        "put": lambda: http_load.put_stream(base, f"{_OBJECTS}/large", _SIZE),
        "get": lambda: http_load.get_stream(base, f"{_OBJECTS}/large"),
    }
    direct: dict[str, Callable[[], float]] = {
        "put": lambda: asyncio.run(_timed(_put_direct(store))),
        "get": lambda: asyncio.run(_timed(_get_direct(store))),
    }
    for verb in ("put", "get"):
        through[verb](), direct[verb]()
        yield _alternating(f"HTTP {verb} 64 MiB to MinIO", server, pid, through[verb], direct[verb], rounds)


def _alternating(
    what: str, server: Server, pid: int, through: Callable[[], float], direct: Callable[[], float], rounds: int
) -> Row:
    ours, theirs, spent = [], [], [0.0, 0.0, 0.0]
    for _ in range(rounds):
        before = (time.process_time(), server.cpu_seconds, _cpu(pid))
        ours.append(through())
        after = (time.process_time(), server.cpu_seconds, _cpu(pid))
        spent = [sum_ + (end - start) for sum_, start, end in zip(spent, before, after, strict=True)]
        theirs.append(direct())
    gigabytes = rounds * _SIZE / 1e9
    client, prism_, minio = (seconds / gigabytes for seconds in spent)
    ratio = statistics.median(theirs) / statistics.median(ours)
    return Row(
        what,
        _SIZE / 1e6 / statistics.median(ours),
        "MB/s",
        _SIZE / 1e6 / statistics.median(theirs),
        ratio,
        ">= 0.6 of direct",
        ratio >= 0.6,
        f"CPU-s/GB: client {client:.2f}, Prism {prism_:.2f}, MinIO {minio:.2f}",
    )


async def _timed(work: Awaitable[None]) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


async def _put_direct(store: S3Store) -> None:
    piece = bytes(_PIECE)

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(_SIZE // _PIECE):
            yield piece

    await obstore.put_async(store, "direct/large", pieces())


async def _get_direct(store: S3Store) -> None:
    got = 0
    answer = await obstore.get_async(store, "direct/large")
    async for chunk in answer.stream(min_chunk_size=_PIECE):
        got += len(chunk)
    assert got == _SIZE


# -- 4 KiB


def _small_rows(server: Server, store: S3Store, sizes: Sizes) -> Iterator[Row]:
    base, count = server.endpoints["http"], sizes.count
    for verb, target in (("put", 0.35), ("get", 0.45)):
        ours, theirs = [], []
        for turn in range(sizes.rounds):
            where = turn if verb == "put" else 0
            paths = (f"{_OBJECTS}/small/{where}/{i % 50}/{i}" for i in range(count))
            body = _SMALL if verb == "put" else b""
            requests = (http_load.request(base, verb.upper(), path, body) for path in paths)
            ours.append(asyncio.run(http_load.run(base, requests, _AT_ONCE)).per_second)
            theirs.append(asyncio.run(_small_direct(store, verb, where, count)))
        ratio = statistics.median(ours) / statistics.median(theirs)
        yield Row(
            f"HTTP {verb} 4 KiB to MinIO, 16 at a time",
            statistics.median(ours),
            "/s",
            statistics.median(theirs),
            ratio,
            f">= {target} of direct",
            ratio >= target,
        )


async def _small_direct(store: S3Store, verb: str, turn: int, count: int) -> float:
    numbers = iter(range(count))

    async def one(number: int) -> None:
        key = f"direct/{turn}/{number % 50}/{number}"
        if verb == "put":
            await obstore.put_async(store, key, _SMALL, use_multipart=False)
        else:
            answer = await obstore.get_async(store, key)
            await answer.bytes_async()

    return await _rate(one, numbers, count)


async def _rate(one: Callable[[int], Awaitable[None]], numbers: Iterator[int], count: int) -> float:
    async def worker() -> None:
        for number in numbers:
            await one(number)

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(_AT_ONCE)))
    return count / (time.perf_counter() - began)


# -- URLs


def _presigns(server: Server, count: int) -> Iterator[Row]:
    base = server.endpoints["http"]
    for method, least in (("PUT", 2500), ("GET", 5000)):
        made = (
            b'{"key": "%s", "method": "%s", "expires_in_seconds": 600}' % (key.encode(), method.encode())
            for key in (
                f"small/0/{i % 50}/{i % count}" if method == "GET" else f"signed/{i % 50}/{i}" for i in range(count * 2)
            )
        )
        requests = (
            http_load.request(base, "POST", f"{_SPACE}/presign", body, "Content-Type: application/json\r\n")
            for body in made
        )
        rate = asyncio.run(http_load.run(base, requests, _AT_ONCE)).per_second
        yield Row(f"HTTP presign {method} for MinIO", rate, "/s", target=f">= {least:,}/s", met=rate >= least)


# -- memory


def _huge(server: Server, size_bytes: int) -> Iterator[Row]:
    base = server.endpoints["http"]
    for verb in ("up", "down"):
        seen = [server.rss_bytes]
        done = threading.Event()

        def watch(seen: list[int] = seen, done: threading.Event = done) -> None:
            while not done.wait(0.05):
                seen.append(server.rss_bytes)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            if verb == "up":
                seconds = http_load.put_stream(base, f"{_OBJECTS}/huge", size_bytes)
            else:
                seconds = http_load.get_stream(base, f"{_OBJECTS}/huge")
        finally:
            done.set()
            watcher.join()
        peak = max(seen) / 1e6
        what = f"memory, {size_bytes / 2**30:g} GiB {verb} through Prism to MinIO"
        yield Row(what, peak, "MB", target="< 300 MB", met=peak < 300, note=f"{size_bytes / 1e6 / seconds:,.0f} MB/s")


# -- list


def _listing(data: Path, config: Path, store: S3Store, count: int) -> Iterator[Row]:
    seed(data, "listed/", count)
    asyncio.run(_fill(store, count))
    with prism_on(config) as server:
        base = server.endpoints["http"]
        path = f"{_OBJECTS}?prefix=listed/&max_results=1000"
        asks = [http_load.request(base, "GET", path) for _ in range(30)]
        ours: Measured = asyncio.run(http_load.run(base, iter(asks), 1))
    theirs = statistics.median(asyncio.run(_list_direct(store)) for _ in range(10))
    ratio = theirs / ours.p50
    yield Row(
        f"list 1,000 of {count:,} keys",
        ours.p50 * 1e3,
        "ms",
        theirs * 1e3,
        ratio,
        ">= 5x the store's own",
        ratio >= 5,
    )


async def _fill(store: S3Store, count: int) -> None:
    async def one(number: int) -> None:
        await obstore.put_async(store, f"listed/{number:08d}", b"", use_multipart=False)

    await _rate(one, iter(range(count)), count)


async def _list_direct(store: S3Store) -> float:
    began = time.perf_counter()
    async for page in obstore.list(store, "listed/", chunk_size=1000):
        assert page
        break
    return time.perf_counter() - began


# -- recognition


def _recognition(config: Path, store: S3Store, count: int) -> Iterator[Row]:
    declared = asyncio.run(_recognised(config, store, count, "declared"))
    ratio = declared.per_second / declared.heads
    what = f"recognition of {count:,} declared uploads that nobody confirmed"
    yield Row(what, declared.per_second, "/s", declared.heads, ratio, ">= 0.6 of the store's HEADs", ratio >= 0.6)
    bare = asyncio.run(_recognised(config, store, count // 10, "bare"))
    what = f"recognition of {count // 10:,} uploads by bare URLs, each a copy in the store"
    yield Row(what, bare.per_second, "/s", bare.copies, bare.per_second / bare.copies, "", None, "against copies alone")


@dataclass(frozen=True)
class Recognised:
    """How fast the janitor took what had landed, and how fast the store answers HEADs and makes copies, per second."""

    per_second: float
    heads: float
    copies: float


async def _recognised(config: Path, store: S3Store, count: int, way: str) -> Recognised:
    """The janitor's verifier over uploads that have landed, and HEADs of the same keys at the same concurrency."""
    caller = Caller(principal=Principal(name="bench", kind="anonymous"), request_id="bench", api="bench")
    keys = []
    async with open_app(load(config, {})) as app:
        for number in range(count):
            ref = ObjectRef("user-uploads", "", f"pending/{way}/{number:06d}")
            if way == "declared":
                options = PutOptions(declared=Declared(size_bytes=len(_LANDED)))
                url = (await app.services.sessions.create(caller, UploadRequest(ref=ref, options=options))).url
            else:
                url = (await app.services.uploads.presign(caller, ref, "PUT", timedelta(seconds=600))).url
            keys.append(unquote(urlsplit(url).path.removeprefix(f"/{_BUCKET}/")))

    async def put(number: int) -> None:
        await obstore.put_async(store, keys[number], _LANDED, use_multipart=False)

    async def head(number: int) -> None:
        await obstore.head_async(store, keys[number])

    async def copy(number: int) -> None:
        await obstore.copy_async(store, keys[number], f"copies/{way}/{number}")

    await _rate(put, iter(range(count)), count)
    heads = await _rate(head, iter(range(count)), count)
    copies = 0.0 if way == "declared" else await _rate(copy, iter(range(count)), count)
    later = timedelta(seconds=61)
    async with open_app(load(config, {}), now=lambda: utc_now() + later) as app:
        began = time.perf_counter()
        report = await app.janitor.run_once()
        seconds = time.perf_counter() - began
    verified = sum(tally.verified for tally in report.namespaces.values())
    assert verified == count, f"{verified} of {count} were recognised"
    return Recognised(count / seconds, heads, copies)
