"""What a transaction has written so far, laid over what it reads from: used by drivers that buffer writes until commit.

Reads through the overlay see its writes as if they had been made; nothing below is touched before the driver applies
`clears`, then `writes`, then `adds`, in this order. It takes no part in conflict detection.
"""

from collections.abc import Sequence
from typing import Protocol

__all__ = ["Base", "Overlay", "counter_value", "plus"]


class Base(Protocol):
    """Where reads go that the overlay cannot answer."""

    def get(self, key: bytes) -> bytes | None: ...

    def range(self, start: bytes, end: bytes, limit: int, reverse: bool) -> list[tuple[bytes, bytes]]: ...


def counter_value(value: bytes | None) -> int:
    """The number in a counter: signed 64 bit, little-endian; absent counts as 0."""
    return 0 if value is None else int.from_bytes(value, "little", signed=True)


def plus(value: bytes | None, delta: int) -> bytes:
    """A counter's new value; it wraps round at 64 bits as the atomic add of a database does."""
    total = (counter_value(value) + delta) & 0xFFFF_FFFF_FFFF_FFFF
    return total.to_bytes(8, "little")


class Overlay:
    """The pending writes of one transaction."""

    __slots__ = ("adds", "appends", "clears", "writes")

    def __init__(self) -> None:
        self.writes: dict[bytes, bytes | None] = {}
        self.adds: dict[bytes, int] = {}
        self.clears: list[tuple[bytes, bytes]] = []
        self.appends: list[tuple[bytes, bytes, bytes]] = []

    @property
    def dirty(self) -> bool:
        """Whether there is anything to commit."""
        return bool(self.writes or self.adds or self.clears or self.appends)

    def write(self, key: bytes, value: bytes | None) -> None:
        """Set, or clear when `value` is None."""
        if self.adds:
            self.adds.pop(key, None)
        self.writes[key] = value

    def add(self, key: bytes, delta: int) -> None:
        if key in self.writes:
            self.writes[key] = plus(self.writes[key], delta)
        elif self._cleared(key):
            self.writes[key] = plus(None, delta)
        else:
            self.adds[key] = self.adds.get(key, 0) + delta

    def clear_range(self, start: bytes, end: bytes) -> None:
        for pending in (self.writes, self.adds):
            for key in [key for key in pending if start <= key < end]:
                del pending[key]
        self.clears.append((start, end))

    def _cleared(self, key: bytes) -> bool:
        return any(start <= key < end for start, end in self.clears)

    def knows(self, key: bytes) -> bool:
        """Whether a read of the key needs nothing from below."""
        return key in self.writes or (bool(self.clears) and self._cleared(key))

    def get(self, base: Base, key: bytes) -> bytes | None:
        if key in self.writes:
            return self.writes[key]
        if self.clears and self._cleared(key):
            return None
        value = base.get(key)
        if key in self.adds:
            return plus(value, self.adds[key])
        return value

    def range(self, base: Base, start: bytes, end: bytes, limit: int, reverse: bool) -> list[tuple[bytes, bytes]]:
        own = [key for key in (*self.writes, *self.adds) if start <= key < end]
        if not own and not self.clears:
            return base.range(start, end, limit, reverse)
        found = self._below(base, start, end, limit, reverse)
        for key in own:
            value = self.get(base, key)
            if value is not None:
                found[key] = value
        return sorted(found.items(), reverse=reverse)[:limit]

    def _below(self, base: Base, start: bytes, end: bytes, limit: int, reverse: bool) -> dict[bytes, bytes]:
        """The first `limit` pairs of the base that no write of the transaction hides."""
        found: dict[bytes, bytes] = {}
        while start < end:
            rows = base.range(start, end, limit, reverse)
            self._keep_visible(rows, found, limit)
            if len(rows) < limit or len(found) >= limit:
                break
            start, end = (start, self._jump_down(rows[-1][0])) if reverse else (self._jump_up(rows[-1][0]), end)
        return found

    def _keep_visible(self, rows: Sequence[tuple[bytes, bytes]], found: dict[bytes, bytes], limit: int) -> None:
        for key, value in rows:
            if len(found) == limit:
                return
            if key not in self.writes and key not in self.adds and not self._cleared(key):
                found[key] = value

    def _jump_up(self, key: bytes) -> bytes:
        return max([end for start, end in self.clears if start <= key < end], default=key + b"\x00")

    def _jump_down(self, key: bytes) -> bytes:
        return min([start for start, end in self.clears if start <= key < end], default=key)
