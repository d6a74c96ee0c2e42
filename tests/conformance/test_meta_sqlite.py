"""The SQLite driver keeps the port's promises, also with a locked, full or damaged file and killed processes."""

import asyncio
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from prism.errors import ErrorCode
from prism.meta import Meta, Txn, View, open_meta, tuples
from prism.meta.driver import Driver
from prism.meta.sqlite import SqliteDriver
from prism.meta.sqlite_file import open_writer
from prism.testing.faulty_meta import FaultyMeta
from prism.testing.meta_suite import MetaSuite, fill, key, put, refused, under, value_of

P = "space"


class TestSqlite(MetaSuite):
    @pytest.fixture
    async def driver(self, tmp_path: Path) -> AsyncIterator[Driver]:
        driver = SqliteDriver(tmp_path / "catalog.sqlite")
        yield driver
        await driver.close()

    @pytest.fixture
    def beside(self, tmp_path: Path) -> Callable[[], Driver]:
        return lambda: SqliteDriver(tmp_path / "catalog.sqlite")


class TestFaultyRoundSqlite(TestSqlite):
    """The layer changes nothing while it injects nothing, and marks every transaction."""

    @pytest.fixture
    async def driver(self, tmp_path: Path) -> AsyncIterator[Driver]:
        driver = FaultyMeta(SqliteDriver(tmp_path / "catalog.sqlite"))
        yield driver
        await driver.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder to make" / "catalog ?#%.sqlite"


@pytest.fixture
async def meta(path: Path) -> AsyncIterator[Meta]:
    meta = await open_meta(f"sqlite:///{path}")
    yield meta
    await meta.close()


def raw(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None)


async def test_many_bodies_share_a_commit(path: Path, meta: Meta) -> None:
    """A commit writes the log's pages once, so 200 callers at once must cost far fewer than 200 times one page."""
    await put(meta, key("a"), b"")
    before = Path(f"{path}-wal").stat().st_size
    await asyncio.gather(*(put(meta, key("n", n), b"x") for n in range(200)))
    assert Path(f"{path}-wal").stat().st_size - before < 60 * 4096
    assert len(await under(meta, key("n"))) == 200


async def test_commits_are_synced_and_bytes_survive_without_a_close(path: Path, meta: Meta, tmp_path: Path) -> None:
    """What is on the disk when `transact` returns is enough: a copy of the files taken then holds it."""
    await put(meta, key("a"), b"1")
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", f"{tmp_path}/copy{suffix}")
    copy = await open_meta(f"sqlite:///{tmp_path}/copy")
    assert await value_of(copy, key("a")) == b"1"
    await copy.close()


async def test_instances_that_make_the_file_at_once_all_get_it(tmp_path: Path) -> None:
    for turn in range(5):
        instances = [Meta(SqliteDriver(tmp_path / f"{turn}.sqlite")) for _ in range(4)]
        await asyncio.gather(*(put(meta, key("n", n), b"") for n, meta in enumerate(instances)))
        assert len(await under(instances[0], key("n"))) == 4
        await asyncio.gather(*(meta.close() for meta in instances))


async def test_a_locked_file_is_waited_for_and_then_said_to_be_locked(path: Path, meta: Meta) -> None:
    await put(meta, key("a"), b"1")
    impatient = Meta(SqliteDriver(path, busy_seconds=0.1))
    holder = raw(path)
    holder.execute("BEGIN IMMEDIATE")
    errors = await asyncio.gather(*(refused(put(impatient, key("n", n), b"")) for n in range(3)))
    assert {error.code for error in errors} == {ErrorCode.CATALOG_DOWN}
    assert all("locked" in error.message and error.retryable for error in errors)
    assert await value_of(impatient, key("a")) == b"1"
    patient = asyncio.ensure_future(put(meta, key("b"), b"2"))
    await asyncio.sleep(0.05)
    assert not patient.done()
    holder.execute("ROLLBACK")
    holder.close()
    await patient
    await put(impatient, key("c"), b"3")
    assert await value_of(meta, key("c")) == b"3"
    assert await under(meta, key("n")) == []
    await impatient.close()


async def test_a_file_that_is_no_catalog_is_said_to_be_none(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    path.write_bytes(b"this is no database. " * 500)
    error = await refused(open_meta(f"sqlite:///{path}"))
    assert error.code == ErrorCode.CATALOG_DOWN
    assert "no SQLite database" in error.message
    assert str(tmp_path) not in error.message
    folder = tmp_path / "folder"
    folder.mkdir()
    assert "cannot be opened" in (await refused(open_meta(f"sqlite:///{folder}"))).message
    (tmp_path / "file").touch()
    assert "cannot be opened" in (await refused(open_meta(f"sqlite:///{tmp_path}/file/catalog"))).message


async def test_a_damaged_page_is_said_to_be_damage_and_other_rows_are_served(path: Path) -> None:
    meta = await open_meta(f"sqlite:///{path}")
    await fill(meta, [(key("r", n), bytes(1000)) for n in range(200)])
    await meta.close()
    whole = path.read_bytes()
    page = whole.rfind(tuples.pack(key("r", 100))) // 4096
    path.write_bytes(whole[: page * 4096] + b"\xff" * 4096 + whole[(page + 1) * 4096 :])
    meta = await open_meta(f"sqlite:///{path}")
    error = await refused(under(meta, key("r")))
    assert error.code == ErrorCode.CATALOG_DOWN
    assert "damaged" in error.message
    assert await value_of(meta, key("r", 0)) == bytes(1000)
    await meta.close()


async def test_the_log_stays_bounded_while_somebody_always_reads(path: Path, meta: Meta) -> None:
    stop = False

    async def read_on() -> None:
        async def body(view: View) -> None:
            await view.get(key("a"))
            await asyncio.sleep(0.02)
            await view.get(key("a"))

        while not stop:
            await meta.read(body)

    readers = [asyncio.ensure_future(read_on()) for _ in range(3)]
    for n in range(30):
        await fill(meta, [(key("a", n % 3, i), os.urandom(90_000)) for i in range(50)])
    stop = True
    await asyncio.gather(*readers)
    assert Path(f"{path}-wal").stat().st_size < 100 * 2**20


async def test_a_snapshot_held_by_all_readers_makes_further_ones_wait(meta: Meta) -> None:
    gate = asyncio.Event()

    async def hold(view: View) -> bytes | None:
        await gate.wait()
        return await view.get(key("a"))

    held = [asyncio.ensure_future(meta.read(hold)) for _ in range(30)]
    await asyncio.sleep(0)
    await put(meta, key("a"), b"1")
    gate.set()
    assert set(await asyncio.gather(*held)) <= {b"1", None}


async def test_descriptors_and_threads_return_to_their_baseline(tmp_path: Path) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async def round_trip(n: int) -> None:
        meta = await open_meta(f"sqlite:///{tmp_path}/{n}.sqlite")
        await asyncio.gather(*(put(meta, key(i), b"") for i in range(10)), *(value_of(meta, key(i)) for i in range(10)))
        await meta.close()

    await round_trip(0)
    before = descriptors()
    for n in range(5):
        await round_trip(n)
    async with asyncio.timeout(10):
        while descriptors() > before:
            await asyncio.sleep(0.01)


# several processes

_WORKER = """
    import asyncio, sys
    from prism.meta import open_meta, tuples

    async def main(path, name, rounds):
        meta = await open_meta(f"sqlite:///{path}")

        async def one(n):
            async def body(tx):
                seen = int(await tx.get(("space", "n")) or b"0")
                tx.set(("space", "n"), str(seen + 1).encode())
                tx.add(("space", "added"), 1)
                tx.append(("space", "log"), f"{name}.{n}".encode())
                tx.append(("space", "log"), f"{name}.{n}+".encode())
            await meta.transact("space", body)
            print(n, flush=True)

        for start in range(0, rounds, 4):
            await asyncio.gather(*(one(n) for n in range(start, start + 4)))
        await meta.close()

    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


def _start(code: str, *arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


async def _wait(process: "subprocess.Popen[str]") -> tuple[list[str], str]:
    out, err = await asyncio.wait_for(asyncio.to_thread(process.communicate), 60)
    return out.split(), err


async def _follow(meta: Meta, processes: "list[subprocess.Popen[str]]") -> list[str]:
    """Read the log as a follower does, until every writer is gone and nothing is left."""
    seen: list[str] = []
    start, end = tuples.span(key("log"))
    while True:
        gone = all(process.poll() is not None for process in processes)

        async def body(view: View, start: bytes = start) -> list[tuple[bytes, str]]:
            return [(row.raw, row.value.decode()) for row in await view.range(start, end, limit=50)]

        rows = await meta.read(body)
        seen += [value for _, value in rows]
        start = rows[-1][0] + b"\x00" if rows else start
        if gone and not rows:
            return seen
        await asyncio.sleep(0.002)


@pytest.mark.crash
async def test_processes_share_the_file_and_one_may_be_killed(path: Path, meta: Meta) -> None:
    """Three count and append, a fourth is killed in the middle of it; the others finish, nothing is lost or doubled."""
    doomed = _start(_WORKER, path, "doomed", 1_000_000)
    workers = [_start(_WORKER, path, f"w{n}", 200) for n in range(3)]
    following = asyncio.ensure_future(_follow(meta, [*workers, doomed]))
    assert doomed.stdout is not None
    for _ in range(20):
        await asyncio.wait_for(asyncio.to_thread(doomed.stdout.readline), 60)
    doomed.send_signal(signal.SIGKILL)
    told = await asyncio.wait_for(asyncio.to_thread(doomed.stdout.read), 60)  # with what readline has read ahead
    await _wait(doomed)
    acknowledged = 20 + len(told.split())
    for worker in workers:
        lines, errors = await _wait(worker)
        assert sorted(map(int, lines)) == list(range(200)), errors
    seen = await asyncio.wait_for(following, 60)
    log = [row.value.decode() for row in await under(meta, key("log"))]
    assert seen == log
    assert len(set(log)) == len(log)
    assert [entry + "+" for entry in log[::2]] == log[1::2]
    killed = sum(entry.startswith("doomed") for entry in log[::2])
    assert acknowledged <= killed <= acknowledged + 4
    counted = len(log) // 2
    assert counted == 600 + killed
    assert await value_of(meta, key("n")) == str(counted).encode()
    assert await value_of(meta, key("added")) == counted.to_bytes(8, "little")


@pytest.mark.crash
async def test_a_busy_process_does_not_starve_another(path: Path, meta: Meta) -> None:
    busy = _start(_WORKER, path, "busy", 1_000_000)
    assert busy.stdout is not None
    await asyncio.wait_for(asyncio.to_thread(busy.stdout.readline), 60)
    draining = asyncio.ensure_future(asyncio.to_thread(busy.stdout.read))
    loop = asyncio.get_running_loop()
    waits = []
    for n in range(40):
        began = loop.time()
        await put(meta, key("mine", n), b"")
        waits.append(loop.time() - began)
    busy.kill()
    await draining
    await _wait(busy)
    assert sorted(waits)[len(waits) // 2] < 0.25
    assert max(waits) < 2.5


_FULL_DISK = """
    import asyncio, resource, sys
    from pathlib import Path
    from prism.errors import PrismError
    from prism.meta import open_meta

    async def main(path, room):
        meta = await open_meta(f"sqlite:///{path}")

        async def put(n, value):
            async def body(tx):
                tx.set(("space", "a", n), value)
                tx.set(("space", "b", n), value)
            await meta.transact("space", body)

        async def read(n):
            return await meta.read(lambda view: view.get_many([("space", "a", n), ("space", "b", n)]))

        await put(0, b"x")
        size = Path(f"{path}-wal").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + int(room), resource.RLIM_INFINITY))
        failed = None
        for n in range(1, 40):
            try:
                await put(n, b"y" * 50_000)
            except PrismError as error:
                failed = n
                print(error.code, error.retryable, error.message)
                break
        assert await read(0) == [b"x", b"x"]
        assert await read(failed) == [None, None]
        assert failed == 1 or await read(failed - 1) == [b"y" * 50_000] * 2
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert await read(failed) == [None, None]
        await put(failed, b"z")
        assert await read(failed) == [b"z", b"z"]
        await meta.close()
        meta = await open_meta(f"sqlite:///{path}")
        assert await meta.read(lambda view: view.get(("space", "a", failed))) == b"z"
        await meta.close()

    asyncio.run(main(sys.argv[1], sys.argv[2]))
"""


@pytest.mark.parametrize("room", [300_000, 10_000, 0])
async def test_a_full_disk_is_said_to_be_full_and_recovered_from(path: Path, room: int) -> None:
    """The process may write no more to its files, as on a full disk, until room is made."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    process = _start(_FULL_DISK, path, room)
    out, errors = await asyncio.to_thread(process.communicate)
    assert process.returncode == 0, errors
    assert out.startswith("CATALOG_DOWN True"), out


def test_each_commit_is_synced(path: Path) -> None:
    """SQLite syncs the log with every commit in this mode only; no test can cut the power."""
    writer = open_writer(path)
    assert writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert writer.execute("PRAGMA synchronous").fetchone() == (2,)
    writer.close()


async def test_a_failing_read_takes_only_its_batch_down(path: Path, meta: Meta) -> None:
    """Somebody drops the table under us: said to be down; once it is back, so is everything."""
    await put(meta, key("a"), b"1")
    vandal = raw(path)
    vandal.execute("ALTER TABLE space RENAME TO away")
    for work in (put(meta, key("a"), b"2"), value_of(meta, key("a"))):
        assert (await refused(work)).code == ErrorCode.CATALOG_DOWN
    vandal.execute("DROP TABLE IF EXISTS space")
    vandal.execute("ALTER TABLE away RENAME TO space")
    vandal.close()

    async def more(tx: Txn) -> bytes | None:
        return await tx.get(key("a"))

    assert await meta.transact(P, more) == b"1"
    assert await value_of(meta, key("a")) == b"1"
