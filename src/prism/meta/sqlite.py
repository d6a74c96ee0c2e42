"""The catalog in one SQLite file that several processes may share: WAL, synchronous FULL, group commit, snapshot
readers.

One writer a process takes the file's write lock, runs the queued bodies back to back, each on an overlay of its own so
that one failing body fails alone, and commits them with one fsync, which is all that runs in a thread; bodies that come
meanwhile are the next batch. So transactions never conflict. Snapshots read beside the writer on connections of their
own. What goes wrong drops the connection and fails the batch; the next batch opens it again. Nothing is ever half
applied."""

import asyncio
import sqlite3
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from ..failpoints import failpoint
from .driver import Body, Closed, UnknownOutcome
from .overlay import Overlay
from .sqlite_batch import Batch
from .sqlite_file import (
    LOG_BYTES,
    Rows,
    Turn,
    fence,
    is_busy,
    is_unwritten,
    make_file,
    open_reader,
    open_writer,
    trim_log,
)
from .sqlite_file import explain as explained

__all__ = ["SqliteDriver"]

T = TypeVar("T")
_READER_SECONDS = 5.0
_QUEUE_SECONDS = 10.0
_QUEUE = 10_000
_BATCH_SECONDS = 0.005
_BATCH_BODIES = 256
_BATCH_BYTES = 2_000_000
_READERS = 8


class _Unable(Exception):
    """The driver itself refuses: too many wait, or waited too long."""


class _Job:
    """A body that waits for its batch, and who waits for its answer."""

    __slots__ = ("answer", "body", "done", "since")

    def __init__(self, body: Body[Any], done: asyncio.Future[Any]) -> None:
        self.body = body
        self.done = done
        self.since = time.monotonic()
        self.answer: Any = None

    def fail(self, error: BaseException) -> None:
        if not self.done.done():
            self.done.set_exception(error)

    def succeed(self) -> None:
        if not self.done.done():
            self.done.set_result(self.answer)


class _Transaction:
    """A body's writes over the batch that it is part of."""

    __slots__ = ("_batch", "add", "clear_range", "overlay")

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self.overlay = Overlay()
        self.add = self.overlay.add
        self.clear_range = self.overlay.clear_range

    async def get(self, key: bytes) -> bytes | None:
        return self.overlay.get(self._batch, key)

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        get, batch = self.overlay.get, self._batch
        return [get(batch, key) for key in keys]

    async def peek(self, key: bytes) -> bytes | None:
        return self.overlay.get(self._batch, key)

    async def range(self, start: bytes, end: bytes, limit: int, reverse: bool) -> list[tuple[bytes, bytes]]:
        return self.overlay.range(self._batch, start, end, limit, reverse)

    def set(self, key: bytes, value: bytes) -> None:
        self.overlay.write(key, value)

    def clear(self, key: bytes) -> None:
        self.overlay.write(key, None)

    def append(self, prefix: bytes, suffix: bytes, value: bytes) -> None:
        self.overlay.appends.append((prefix, suffix, value))


class _Snapshot:
    """A read transaction on a reader of its own; SQLite takes the snapshot at the first read."""

    __slots__ = ("_reader", "_readers")

    def __init__(self, readers: "_Readers") -> None:
        self._readers = readers

    async def __aenter__(self) -> "_Snapshot":
        self._reader = await self._readers.take()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._readers.give_back(self._reader, broken=isinstance(error, sqlite3.Error))

    async def get(self, key: bytes) -> bytes | None:
        return self._reader.get(key)

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        get = self._reader.get
        return [get(key) for key in keys]

    async def range(self, start: bytes, end: bytes, limit: int, reverse: bool) -> list[tuple[bytes, bytes]]:
        return self._reader.range(start, end, limit, reverse)


class _Readers:
    """At most eight read connections, opened when needed and kept."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: list[Rows] = []
        self._free = asyncio.Semaphore(_READERS)
        self.made = False
        self.closed = False

    async def take(self) -> Rows:
        if self.closed:
            raise Closed
        if self._free.locked():
            await self._wait()
        else:
            await self._free.acquire()
        try:
            if not self.made:  # nothing was written by this process yet, so the file may be absent
                await asyncio.to_thread(make_file, self._path)
                self.made = True
            reader = self._idle.pop() if self._idle else Rows(open_reader(self._path))
            reader.connection.execute("BEGIN")
        except BaseException:
            self._free.release()
            raise
        return reader

    async def _wait(self) -> None:
        try:
            await asyncio.wait_for(self._free.acquire(), _READER_SECONDS)
        except TimeoutError as error:
            raise _Unable("all of the catalog's readers have been busy for too long") from error

    def give_back(self, reader: Rows, *, broken: bool) -> None:
        self._free.release()
        if broken or self.closed:
            reader.connection.close()
            return
        try:
            reader.connection.execute("COMMIT")
        except sqlite3.Error:
            reader.connection.close()
        else:
            self._idle.append(reader)

    def close(self) -> None:
        self.closed = True
        while self._idle:
            self._idle.pop().connection.close()


class SqliteDriver:
    """A driver over the file at `path`, which is created when absent, folders above it included."""

    failures: tuple[type[Exception], ...] = (sqlite3.Error, _Unable)
    outcome_may_be_unknown = False

    def __init__(self, path: str | Path, *, busy_seconds: float = 5.0) -> None:
        """`busy_seconds` is how long a batch waits while others hold the file's write lock."""
        self._path = Path(path)
        self._busy_seconds = busy_seconds
        self._turn = Turn(self._path)
        self._readers = _Readers(self._path)
        self._writer: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="prism-catalog")
        self._queue: deque[_Job] = deque()
        self._running: asyncio.Task[None] | None = None
        self._log_bytes = LOG_BYTES
        self._closed = False

    def explain(self, failure: Exception) -> str:
        return str(failure) if isinstance(failure, _Unable) else explained(failure)

    def snapshot(self) -> _Snapshot:
        return _Snapshot(self._readers)

    async def transact(self, partition: bytes, body: Body[T], prefetch: Sequence[bytes]) -> T:
        if self._closed:
            raise Closed
        if len(self._queue) >= _QUEUE:
            raise _Unable(f"{_QUEUE} transactions are waiting for the catalog already")
        loop = asyncio.get_running_loop()
        job = _Job(body, loop.create_future())
        self._queue.append(job)
        if self._running is None:
            self._running = loop.create_task(self._work())
        answer: T = await job.done
        return answer

    async def close(self) -> None:
        """Finish the queued bodies and close every connection."""
        if self._closed:
            return
        self._closed = True
        if self._running is not None:
            await self._running
        self._readers.close()
        self._drop_writer()
        await self._in_thread(self._turn.close)
        self._thread.shutdown(wait=False)

    async def _work(self) -> None:
        """Batch after batch until nothing is queued."""
        batch: list[_Job] = []
        try:
            while self._queue:
                batch = []
                await self._run_batch(batch)
                await asyncio.sleep(0)  # those who just got their answers may join the next batch
        finally:
            self._running = None
            for job in (*batch, *self._queue):  # only when this task was cancelled is anybody left
                job.done.cancel()
            if self._queue:
                self._queue.clear()

    async def _run_batch(self, jobs: list[_Job]) -> None:
        try:
            writer = await self._begin()
        except self.failures as error:
            while self._queue:
                self._queue.popleft().fail(error)
            self._drop_writer()
            return
        batch = Batch(writer)
        try:
            await self._run_bodies(batch, jobs)
            if batch.dirty:
                batch.finish()
                await self._in_thread(self._commit, writer)
            else:
                writer.execute("ROLLBACK")
        except (sqlite3.Error, UnknownOutcome) as error:
            self._roll_back(writer, error)
            for job in jobs:
                job.fail(error)
        except BaseException:
            self._drop_writer()
            raise
        else:
            for job in jobs:
                job.succeed()

    async def _run_bodies(self, batch: Batch, jobs: list[_Job]) -> None:
        """Run queued bodies until the batch is full or nobody waits; `jobs` are those whose writes are in it."""
        ends = time.monotonic() + _BATCH_SECONDS
        while self._queue and len(jobs) < _BATCH_BODIES and batch.size < _BATCH_BYTES:
            job = self._queue.popleft()
            now = time.monotonic()
            if job.done.done():
                continue
            if now - job.since > _QUEUE_SECONDS:
                job.fail(_Unable(f"the transaction waited {_QUEUE_SECONDS:g} seconds for the catalog"))
                continue
            await self._run_body(batch, job, jobs)
            if now > ends:
                break

    async def _run_body(self, batch: Batch, job: _Job, jobs: list[_Job]) -> None:
        tx = _Transaction(batch)
        try:
            job.answer = await job.body(tx)
        except sqlite3.Error as error:
            job.fail(error)
            raise
        except Exception as error:  # noqa: BLE001 - a body's exception is its caller's, whatever it is
            job.fail(error)
        except asyncio.CancelledError as error:
            job.fail(error)
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
        else:
            jobs.append(job)
            if tx.overlay.dirty:
                batch.apply(tx.overlay)

    async def _begin(self) -> sqlite3.Connection:
        """Take the file's write lock. While other processes hold it the loop goes on; whoever came first goes first."""
        if self._writer is None:
            self._writer = await self._in_thread(open_writer, self._path)
            self._readers.made = True
        writer, give_up = self._writer, time.monotonic() + self._busy_seconds
        await self._turn.take(min(1.0, self._busy_seconds))
        try:
            while True:
                try:
                    writer.execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError as error:
                    if not is_busy(error) or time.monotonic() > give_up:
                        raise
                else:
                    return writer
                await asyncio.sleep(0.0005)
        finally:
            self._turn.give_back()

    def _commit(self, writer: sqlite3.Connection) -> None:
        """In the thread. Pages of a commit whose sync failed may still stand in the log: another commit over them makes
        sure that they are gone, and `UnknownOutcome` says that this was not possible."""
        failpoint("meta.sqlite.before_commit")
        try:
            writer.execute("COMMIT")
        except sqlite3.Error as error:
            if not is_unwritten(error):
                self._fence(writer, error)
            raise
        failpoint("meta.sqlite.after_commit")
        with suppress(sqlite3.Error, OSError):  # the commit stands; what is wrong now meets the next one
            self._log_bytes = trim_log(writer, self._path, self._log_bytes)

    @staticmethod
    def _fence(writer: sqlite3.Connection, failure: sqlite3.Error) -> None:
        try:
            fence(writer)
        except sqlite3.Error:
            raise UnknownOutcome from failure

    def _roll_back(self, writer: sqlite3.Connection, failure: Exception) -> None:
        """After a write that found no room the connection is good, and keeps the file readable; else it is dropped."""
        if is_unwritten(failure):
            with suppress(sqlite3.Error):
                if writer.in_transaction:
                    writer.execute("ROLLBACK")
                return
        self._drop_writer()

    def _drop_writer(self) -> None:
        """Close the connection, in the thread: a commit that is still running there ends first."""
        if self._writer is not None:
            self._thread.submit(self._writer.close)
            self._writer = None

    async def _in_thread(self, work: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)
