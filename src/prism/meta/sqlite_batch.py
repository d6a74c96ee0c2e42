"""The writes of one batch: each body's overlay goes into the open SQLite transaction, hot counters are added up
first."""

import sqlite3
from collections.abc import Iterable

from .overlay import Overlay, plus
from .sqlite_file import STAMP_KEY, Rows

__all__ = ["Batch"]

_SET = "INSERT INTO space (k, v) VALUES (?, ?) ON CONFLICT (k) DO UPDATE SET v = excluded.v"
_CLEAR = "DELETE FROM space WHERE k = ?"
_CLEAR_RANGE = "DELETE FROM space WHERE k >= ? AND k < ?"


class Batch:
    """What the writer's transaction holds, as the next body reads it. `size` counts the bytes written."""

    __slots__ = ("_adds", "_rows", "_stamp", "_write", "dirty", "size")

    def __init__(self, writer: sqlite3.Connection) -> None:
        self._rows = Rows(writer)
        self._write = writer
        self._adds: dict[bytes, int] = {}
        self._stamp = 0
        self.dirty = False
        self.size = 0

    def get(self, key: bytes) -> bytes | None:
        value = self._rows.get(key)
        return plus(value, self._adds[key]) if key in self._adds else value

    def range(self, start: bytes, end: bytes, limit: int, reverse: bool) -> list[tuple[bytes, bytes]]:
        if self._adds:
            self._settle([key for key in self._adds if start <= key < end])
        return self._rows.range(start, end, limit, reverse)

    def apply(self, overlay: Overlay) -> None:
        """Write what a body that succeeded has collected."""
        self.dirty = True
        if self._adds:
            self._settle([key for key in overlay.writes if key in self._adds])
        for start, end in overlay.clears:
            self._settle([key for key in self._adds if start <= key < end])
            self._write.execute(_CLEAR_RANGE, (start, end))
        for key, value in overlay.writes.items():
            self._put(key, value)
        for key, delta in overlay.adds.items():
            self._adds[key] = self._adds.get(key, 0) + delta
        if overlay.appends:
            self._append(overlay.appends)

    def _append(self, appends: list[tuple[bytes, bytes, bytes]]) -> None:
        """One stamp for the body, the next after the last one in the file."""
        last = self._stamp or int.from_bytes(self._rows.get(STAMP_KEY) or b"", "big")
        self._stamp = last + 1
        stamp = self._stamp.to_bytes(10, "big")
        for prefix, suffix, value in appends:
            self._put(prefix + stamp + suffix, value)

    def _put(self, key: bytes, value: bytes | None) -> None:
        if value is None:
            self._write.execute(_CLEAR, (key,))
            self.size += len(key)
        else:
            self._write.execute(_SET, (key, value))
            self.size += len(key) + len(value)

    def _settle(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            self._put(key, plus(self._rows.get(key), self._adds.pop(key)))

    def finish(self) -> None:
        """Write what was held back, before the commit."""
        self._settle(list(self._adds))
        if self._stamp:
            self._put(STAMP_KEY, self._stamp.to_bytes(10, "big"))
