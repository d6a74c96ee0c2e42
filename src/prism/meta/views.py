"""What bodies are handed: a view to read from, and a transaction that also writes.

Here keys become bytes and the limits of the port are held: 10,000 bytes a key, 100,000 a value, 10 MB a transaction
(what is written and what is read by key), and no key outside the transaction's partition.
"""

from collections.abc import Sequence

import msgspec

from ..errors import ErrorCode, PrismError
from .driver import Snapshot, Transaction
from .overlay import counter_value
from .tuples import STAMP_CLOSE, STAMP_OPEN, Key, pack, span, unpack

__all__ = ["KEY_BYTES", "TRANSACTION_BYTES", "VALUE_BYTES", "Entry", "Txn", "View"]

KEY_BYTES = 10_000
VALUE_BYTES = 100_000
TRANSACTION_BYTES = 10_000_000
_APPENDS = 65_536


class Entry(msgspec.Struct, frozen=True):
    """One row of a range: its key, its value, and the encoded key, from which a further range can go on."""

    key: Key
    value: bytes
    raw: bytes


def _entries(rows: list[tuple[bytes, bytes]]) -> list[Entry]:
    return [Entry(unpack(raw), value, raw) for raw, value in rows]


def _limit(limit: int) -> int:
    if limit < 1:
        raise PrismError(ErrorCode.INTERNAL, f"a range's limit is at least 1, not {limit}")
    return limit


def _too_large(what: str, size: int, most: int) -> PrismError:
    return PrismError(
        ErrorCode.TOO_LARGE,
        f"{what} of the catalog has {size} bytes; at most {most} are allowed",
        context={"limit_bytes": str(most)},
    )


class View:
    """Reads of one snapshot. Keys are tuples; the bounds of a range come from `tuples`."""

    __slots__ = ("_from",)

    def __init__(self, source: Snapshot) -> None:
        self._from = source

    async def get(self, key: Key) -> bytes | None:
        """The value, or None."""
        return await self._from.get(pack(key))

    async def get_many(self, keys: Sequence[Key]) -> list[bytes | None]:
        """The values in the order of `keys`."""
        return await self._from.get_many([pack(key) for key in keys]) if keys else []

    async def counter(self, key: Key) -> int:
        """The number that `add` keeps under the key; absent counts as 0."""
        return counter_value(await self.get(key))

    async def range(self, start: bytes, end: bytes, *, limit: int, reverse: bool = False) -> list[Entry]:
        """At most `limit` rows with start <= key < end, ascending, or descending from `end` when `reverse`; nothing
        when start >= end."""
        return _entries(await self._from.range(start, end, _limit(limit), reverse)) if start < end else []


class Txn(View):
    """A transaction on one partition. It sees its own writes, save what it appended. TOO_LARGE beyond the port's
    limits; INTERNAL for a key outside the partition, which is a mistake of the program."""

    __slots__ = ("_appended", "_partition", "_size", "_span", "_tx")

    def __init__(self, tx: Transaction, partition: str) -> None:
        self._from = self._tx = tx
        self._partition = partition
        self._span: tuple[bytes, bytes] | None = None
        self._size = 0
        self._appended = 0

    def _pack(self, key: Key, more: int = 0) -> bytes:
        """Encode a key of this partition and account for it and `more` bytes."""
        if not key or key[0] != self._partition:
            raise PrismError(ErrorCode.INTERNAL, f"a key lies outside the transaction's partition {self._partition!r}")
        raw = pack(key)
        if len(raw) > KEY_BYTES:
            raise _too_large("a key", len(raw), KEY_BYTES)
        self._account(len(raw) + more)
        return raw

    def _account(self, size: int) -> None:
        self._size += size
        if self._size > TRANSACTION_BYTES:
            raise _too_large("a transaction", self._size, TRANSACTION_BYTES)

    def _bounds(self, start: bytes, end: bytes) -> None:
        if self._span is None:
            self._span = pack((self._partition,)), span((self._partition,))[1]
        if start < end and not (self._span[0] <= start and end <= self._span[1]):
            raise PrismError(ErrorCode.INTERNAL, f"a range leaves the transaction's partition {self._partition!r}")
        if len(start) > KEY_BYTES + 1 or len(end) > KEY_BYTES + 1:
            raise _too_large("a range's bound", max(len(start), len(end)), KEY_BYTES)
        self._account(len(start) + len(end))

    async def get(self, key: Key) -> bytes | None:
        """The value, or None."""
        return await self._tx.get(self._pack(key))

    async def get_many(self, keys: Sequence[Key]) -> list[bytes | None]:
        """The values in the order of `keys`."""
        return await self._tx.get_many([self._pack(key) for key in keys]) if keys else []

    async def peek(self, key: Key) -> bytes | None:
        """As `get`, but what others write there meanwhile never makes this transaction run again."""
        return await self._tx.peek(self._pack(key))

    async def range(self, start: bytes, end: bytes, *, limit: int, reverse: bool = False) -> list[Entry]:
        """As a view's; only what was looked at to fill the `limit` is guarded against others' writes."""
        self._bounds(start, end)
        return _entries(await self._tx.range(start, end, _limit(limit), reverse)) if start < end else []

    def set(self, key: Key, value: bytes) -> None:
        """Write the value."""
        if len(value) > VALUE_BYTES:
            raise _too_large("a value", len(value), VALUE_BYTES)
        self._tx.set(self._pack(key, len(value)), value)

    def clear(self, key: Key) -> None:
        """Remove the key; absent is fine."""
        self._tx.clear(self._pack(key))

    def clear_range(self, start: bytes, end: bytes) -> None:
        """Remove every key with start <= key < end."""
        self._bounds(start, end)
        if start < end:
            self._tx.clear_range(start, end)

    def add(self, key: Key, delta: int) -> None:
        """Add to the counter under the key (signed 64 bit); never conflicts with another add."""
        self._tx.add(self._pack(key, 8), delta)

    def append(self, prefix: Key, value: bytes) -> None:
        """Write the value under `prefix` and one more element, a stamp: 12 bytes that grow in the order of commits,
        within a transaction in the order of calls. A reader that goes on behind the last stamp it saw misses none."""
        if len(value) > VALUE_BYTES:
            raise _too_large("a value", len(value), VALUE_BYTES)
        if self._appended == _APPENDS:
            raise _too_large("the appended rows of a transaction", _APPENDS + 1, _APPENDS)
        order = self._appended.to_bytes(2, "big")
        self._appended += 1
        raw = self._pack(prefix, len(value) + 14)
        self._tx.append(raw + STAMP_OPEN, order + STAMP_CLOSE, value)
