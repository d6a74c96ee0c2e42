"""The catalog in memory: optimistic transactions with true conflicts, as FoundationDB has them; nothing is durable.

A transaction reads the space as it was at its start and commits only when nothing it read was written since; writes
that read nothing (`set`, `add`, `append`) never conflict with each other. Old values are kept only while somebody who
may still ask for them is open, so transactions that do not overlap cost no history.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from types import TracebackType
from typing import TypeVar

from .driver import Body, Closed, Conflict
from .overlay import Overlay, plus

__all__ = ["MemoryDriver", "MemorySpace"]

T = TypeVar("T")
Change = tuple[frozenset[bytes], tuple[tuple[bytes, bytes], ...]]


class MemorySpace:
    """The rows, their order, and as much of the past as open readers need. Two drivers may share one."""

    def __init__(self) -> None:
        self.version = 0
        self._rows: dict[bytes, bytes] = {}
        self._order: list[bytes] = []
        self._open: dict[int, int] = {}
        self._replaced: dict[bytes, list[tuple[int, bytes | None]]] = {}
        self._changes: list[tuple[int, Change]] = []

    @property
    def history(self) -> int:
        """How many commits and replaced values are remembered for open readers."""
        return len(self._changes) + len(self._replaced)

    def enter(self) -> int:
        """A reader begins at the current version, which is returned."""
        self._open[self.version] = self._open.get(self.version, 0) + 1
        return self.version

    def leave(self, version: int) -> None:
        """It ends; the past that nobody can ask for any more is dropped."""
        self._open[version] -= 1
        if not self._open[version]:
            del self._open[version]
            if self._changes:
                self._forget(min(self._open, default=self.version))

    def _forget(self, oldest: int) -> None:
        if oldest >= self.version:
            self._changes.clear()
            self._replaced.clear()
            return
        self._changes = [change for change in self._changes if change[0] > oldest]
        for key, past in list(self._replaced.items()):
            past = [entry for entry in past if entry[0] > oldest]
            if past:
                self._replaced[key] = past
            else:
                del self._replaced[key]

    def get(self, key: bytes, version: int) -> bytes | None:
        """The value as of `version`."""
        for replaced_at, old in self._replaced.get(key, ()):
            if replaced_at > version:
                return old
        return self._rows.get(key)

    def range(self, start: bytes, end: bytes, limit: int, reverse: bool, version: int) -> list[tuple[bytes, bytes]]:
        """The pairs as of `version`."""
        first, last = bisect_left(self._order, start), bisect_left(self._order, end)
        if version == self.version:
            chosen = (
                self._order[max(first, last - limit) : last]
                if reverse
                else self._order[first : min(last, first + limit)]
            )
            return [(key, self._rows[key]) for key in (reversed(chosen) if reverse else chosen)]
        keys = {*self._order[first:last], *(key for key in self._replaced if start <= key < end)}
        found: list[tuple[bytes, bytes]] = []
        for key in sorted(keys, reverse=reverse):
            value = self.get(key, version)
            if value is not None:
                found.append((key, value))
                if len(found) == limit:
                    break
        return found

    def conflicts(self, version: int, keys: set[bytes], ranges: list[tuple[bytes, bytes]]) -> bool:
        """Whether anything among what was read at `version` was written since."""
        for changed_at, (written, cleared) in reversed(self._changes):
            if changed_at <= version:
                return False
            if not keys.isdisjoint(written) or any(a <= key < b for a, b in cleared for key in keys):
                return True
            if any(a <= key < b for a, b in ranges for key in written):
                return True
            if any(a < d and c < b for a, b in ranges for c, d in cleared):
                return True
        return False

    def apply(self, overlay: Overlay) -> None:
        """Commit the writes as the next version."""
        self.version += 1
        written = set(overlay.writes) | set(overlay.adds)
        for start, end in overlay.clears:
            for key in self._order[bisect_left(self._order, start) : bisect_left(self._order, end)]:
                self._put(key, None)
        for key, value in overlay.writes.items():
            self._put(key, value)
        for key, delta in overlay.adds.items():
            self._put(key, plus(self._rows.get(key), delta))
        stamp = self.version.to_bytes(10, "big")
        for prefix, suffix, value in overlay.appends:
            key = prefix + stamp + suffix
            written.add(key)
            self._put(key, value)
        if self._open:
            self._changes.append((self.version, (frozenset(written), tuple(overlay.clears))))

    def _put(self, key: bytes, value: bytes | None) -> None:
        old = self._rows.get(key)
        if self._open:
            self._replaced.setdefault(key, []).append((self.version, old))
        if value is not None:
            self._rows[key] = value
            if old is None:
                if not self._order or key > self._order[-1]:
                    self._order.append(key)
                else:
                    insort(self._order, key)
        elif old is not None:
            del self._rows[key]
            del self._order[bisect_left(self._order, key)]


class _Snapshot:
    """Reads at one version, without any memory of what was read."""

    __slots__ = ("_driver", "_space", "_version")

    def __init__(self, driver: "MemoryDriver") -> None:
        self._driver = driver
        self._space = driver.space

    async def __aenter__(self) -> "_Snapshot":
        self._driver.check_open()
        self._version = self._space.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._space.leave(self._version)

    async def get(self, key: bytes) -> bytes | None:
        return self._space.get(key, self._version)

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self._space.get(key, self._version) for key in keys]

    async def range(self, start: bytes, end: bytes, limit: int, reverse: bool) -> list[tuple[bytes, bytes]]:
        return self._space.range(start, end, limit, reverse, self._version)


class _Past:
    """The space at one version, as an overlay reads it."""

    __slots__ = ("_space", "_version")

    def __init__(self, space: MemorySpace, version: int) -> None:
        self._space = space
        self._version = version

    def get(self, key: bytes) -> bytes | None:
        return self._space.get(key, self._version)

    def range(self, start: bytes, end: bytes, limit: int, reverse: bool) -> list[tuple[bytes, bytes]]:
        return self._space.range(start, end, limit, reverse, self._version)


class _Transaction:
    """An overlay over the past, and what was read from it."""

    __slots__ = ("_past", "add", "clear_range", "keys", "overlay", "ranges")

    def __init__(self, space: MemorySpace, version: int) -> None:
        self._past = _Past(space, version)
        self.overlay = Overlay()
        self.keys: set[bytes] = set()
        self.ranges: list[tuple[bytes, bytes]] = []
        self.add = self.overlay.add
        self.clear_range = self.overlay.clear_range

    async def get(self, key: bytes) -> bytes | None:
        if not self.overlay.knows(key):
            self.keys.add(key)
        return self.overlay.get(self._past, key)

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [await self.get(key) for key in keys]

    async def peek(self, key: bytes) -> bytes | None:
        return self.overlay.get(self._past, key)

    async def range(self, start: bytes, end: bytes, limit: int, reverse: bool) -> list[tuple[bytes, bytes]]:
        rows = self.overlay.range(self._past, start, end, limit, reverse)
        if len(rows) < limit:
            self.ranges.append((start, end))
        else:
            last = rows[-1][0]
            self.ranges.append((last, end) if reverse else (start, last + b"\x00"))
        return rows

    def set(self, key: bytes, value: bytes) -> None:
        self.overlay.write(key, value)

    def clear(self, key: bytes) -> None:
        self.overlay.write(key, None)

    def append(self, prefix: bytes, suffix: bytes, value: bytes) -> None:
        self.overlay.appends.append((prefix, suffix, value))


class MemoryDriver:
    """A driver over a space of its own, or over one that it shares."""

    failures: tuple[type[Exception], ...] = ()
    outcome_may_be_unknown = False

    def __init__(self, space: MemorySpace | None = None) -> None:
        self.space = space if space is not None else MemorySpace()
        self._closed = False

    def explain(self, failure: Exception) -> str:
        return "the catalog in memory failed"

    def check_open(self) -> None:
        if self._closed:
            raise Closed

    def snapshot(self) -> _Snapshot:
        return _Snapshot(self)

    async def transact(self, partition: bytes, body: Body[T], prefetch: Sequence[bytes]) -> T:
        self.check_open()
        space = self.space
        version = space.enter()
        try:
            tx = _Transaction(space, version)
            answer = await body(tx)
            writes = tx.overlay.dirty
            if writes and version != space.version and space.conflicts(version, tx.keys, tx.ranges):
                raise Conflict
        finally:
            space.leave(version)
        if writes:
            space.apply(tx.overlay)
        return answer

    async def close(self) -> None:
        self._closed = True
