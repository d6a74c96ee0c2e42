"""The SQLite file itself: how connections are opened, how processes take turns, how its log stays small, what errors
mean.

One table without row ids, keyed by blobs, which SQLite compares bytewise. Each connection's cache is bounded; the log
is checkpointed by commits, and truncated when readers have kept it from being used again for too long.
"""

import asyncio
import fcntl
import os
import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

__all__ = [
    "LOG_BYTES",
    "STAMP_KEY",
    "Rows",
    "Turn",
    "explain",
    "fence",
    "is_busy",
    "is_unwritten",
    "open_reader",
    "open_writer",
    "trim_log",
]

STAMP_KEY = b"\xf8\x00stamp"
"""The last stamp that was given out, of all partitions."""
_TABLE = "CREATE TABLE IF NOT EXISTS space (k BLOB PRIMARY KEY, v BLOB NOT NULL) WITHOUT ROWID"
_GET = "SELECT v FROM space WHERE k = ?"
_UP = "SELECT k, v FROM space WHERE k >= ? AND k < ? ORDER BY k LIMIT ?"
_DOWN = "SELECT k, v FROM space WHERE k >= ? AND k < ? ORDER BY k DESC LIMIT ?"
_FENCE = "INSERT INTO space (k, v) VALUES (?, x'') ON CONFLICT (k) DO UPDATE SET v = v"
_FENCE_KEY = b"\xf8\x00fence"
_WRITER_CACHE_KIB, _READER_CACHE_KIB = 16_384, 4096
_OPEN_WAIT_MS, _READER_WAIT_MS, _TRIM_WAIT_MS = 5000, 250, 100
_CHECKPOINT_PAGES = 4000
LOG_BYTES = 64 * 2**20
"""How large the log may grow before a commit stops to empty it."""

_SENTENCES = {
    sqlite3.SQLITE_FULL: "the disk that holds the catalog is full; free some space",
    sqlite3.SQLITE_READONLY: "the catalog's file or folder may not be written to",
    sqlite3.SQLITE_BUSY: "another program keeps the catalog's file locked",
    sqlite3.SQLITE_LOCKED: "another program keeps the catalog's file locked",
    sqlite3.SQLITE_CORRUPT: "the catalog's file is damaged; restore it or rebuild it from the buckets",
    sqlite3.SQLITE_NOTADB: "the catalog's file is no SQLite database; it was overwritten or the path is wrong",
    sqlite3.SQLITE_CANTOPEN: "the catalog's file cannot be opened; its folder must exist and be writable",
    sqlite3.SQLITE_IOERR: "reading or writing the catalog's file failed",
}


def _primary(error: Exception) -> int:
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else 0


def explain(error: Exception) -> str:
    """What an operator should know about an error of SQLite."""
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return f"{_SENTENCES.get(_primary(error), 'the catalog failed')} ({name})"


def is_busy(error: Exception) -> bool:
    """Whether somebody else holds the lock, so that waiting may help."""
    return _primary(error) == sqlite3.SQLITE_BUSY


def is_unwritten(error: Exception) -> bool:
    """Whether a commit failed before its last page was in the log, so that no recovery can find it there."""
    return getattr(error, "sqlite_errorcode", 0) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE)


class Rows:
    """Reads on one connection."""

    __slots__ = ("_execute", "connection")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self._execute = connection.execute

    def get(self, key: bytes) -> bytes | None:
        row = self._execute(_GET, (key,)).fetchone()
        return None if row is None else row[0]

    def range(self, start: bytes, end: bytes, limit: int, reverse: bool) -> list[tuple[bytes, bytes]]:
        return self._execute(_DOWN if reverse else _UP, (start, end, limit)).fetchall()


def _connect(path: Path, mode: str, cache_kib: int) -> sqlite3.Connection:
    where = f"file:{quote(str(path))}?mode={mode}"
    wait = _OPEN_WAIT_MS / 1000
    connection = sqlite3.connect(where, uri=True, isolation_level=None, check_same_thread=False, timeout=wait)
    connection.execute(f"PRAGMA cache_size = -{cache_kib}")
    return connection


def open_writer(path: Path) -> sqlite3.Connection:
    """A connection that commits durably and never waits for locks by itself; makes the file when it is absent."""
    with suppress(OSError):  # opening says it better
        path.parent.mkdir(parents=True, exist_ok=True)
    connection = _connect(path, "rwc", _WRITER_CACHE_KIB)
    try:
        _use_log(connection)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = OFF")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
        connection.execute(_TABLE)
        connection.execute("PRAGMA busy_timeout = 0")
    except BaseException:
        connection.close()
        raise
    return connection


def _use_log(connection: sqlite3.Connection) -> None:
    """Switch the file to WAL. Two that do so at once are told BUSY without any wait, whatever their busy timeout."""
    give_up = time.monotonic() + _OPEN_WAIT_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() > give_up:
                raise
            time.sleep(0.002)
        else:
            return


def make_file(path: Path) -> None:
    """Make the file and its table when they are absent."""
    open_writer(path).close()


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection for snapshots; it refuses to write. It waits shortly while another process recovers the log."""
    connection = _connect(path, "rw", _READER_CACHE_KIB)
    connection.execute(f"PRAGMA busy_timeout = {_READER_WAIT_MS}")
    connection.execute("PRAGMA query_only = ON")
    return connection


def fence(connection: sqlite3.Connection) -> None:
    """Commit something else where a failed commit may have left its pages, so that no recovery brings them back."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(_FENCE, (_FENCE_KEY,))
    connection.execute("COMMIT")


def trim_log(connection: sqlite3.Connection, path: Path, bound: int) -> int:
    """Empty a log that outgrew its bound because somebody always read; readers that last long are not waited for.

    Returns the size at which to try again.
    """
    log = Path(f"{path}-wal")
    size = log.stat().st_size
    if size <= bound:
        return bound
    connection.execute(f"PRAGMA busy_timeout = {_TRIM_WAIT_MS}")
    (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    connection.execute("PRAGMA busy_timeout = 0")
    return size + LOG_BYTES // 4 if busy else LOG_BYTES


class Turn:
    """Who may wait for the write lock next: without it a busy process would take the lock again before others wake up.

    It only makes things fair. When its file cannot be used, or its holder is frozen, the lock is waited for without it.
    """

    def __init__(self, path: Path) -> None:
        self._path = Path(f"{path}-turn")
        self._file: int | None = None
        self._mine = False

    async def take(self, seconds: float) -> None:
        """Wait at most so long for it."""
        give_up = time.monotonic() + seconds
        while not self._try() and time.monotonic() < give_up:  # noqa: ASYNC110 - another process's turn sends no event
            await asyncio.sleep(0.0005)

    def _try(self) -> bool:
        """Whether there is nothing (more) to wait for."""
        try:
            if self._file is None:
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True
        self._mine = True
        return True

    def give_back(self) -> None:
        if self._mine and self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)
            self._mine = False

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
