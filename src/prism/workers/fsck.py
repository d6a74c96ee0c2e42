"""The check that every byte is named and every row has its bytes. Its repair condemns; it never deletes.

First the store is listed, page by page, and each page's keys are looked up in the catalog afterwards: whatever was
named meanwhile is named. Bytes that nobody names, of Prism's own form, and older than the grace (and than the oldest
message that could still name them) are condemned by the repair, in a transaction that looks again, if this catalog can
prove that they are its garbage: that their version id lived and ended in it (`catalog/lives.py`). Those of which it
cannot say so (it was restored, somebody shares the store) are unproven, and stay. Keys of another form are foreign,
unless an object adopted them. Then the rows are walked in the store's order and missing or differing bytes reported.
Memory is bounded whatever the size; a second run finds what the first left.
"""

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime, timedelta

import msgspec

from ..blob.driver import BlobEntry
from ..catalog import lives, sweep
from ..catalog.rows import ObjectRow, VersionRow, decode
from ..catalog.sweep import Name, Stray
from ..failpoints import failpoint
from ..meta import Entry, Key, Txn, View, tuples
from ..namespaces import Namespace
from ..walking import Findings, root_of, stray_of

__all__ = ["KINDS", "FsckReport", "fsck"]

KINDS = ("referenced", "promised", "condemned", "unnamed", "unproven", "young", "foreign", "missing", "differing")
"""`unnamed` is what the repair condemns; `unproven` is unnamed, and may be somebody's; `young` is unnamed and within
the grace; `missing` are rows without bytes, `differing` rows whose bytes have another size or etag."""
_PAGE = 1000
_BATCH = 200
_ROWS = 500
_HELD = 4096


class FsckReport(msgspec.Struct, kw_only=True):
    """What was found in one namespace, by kind (`KINDS`). `repaired`: the unnamed are condemned now."""

    namespace: str
    repaired: bool
    cutoff: datetime
    """Unnamed bytes that landed at or after this are young."""
    kinds: dict[str, Findings]

    @property
    def clean(self) -> bool:
        """Nothing unnamed, unproven, missing or differing."""
        return not any(self.kinds[kind].count for kind in ("unnamed", "unproven", "missing", "differing"))


Found = Callable[[str, str], None]


def _unheard(kind: str, physical_key: str) -> None:
    """Nobody wants to hear of each finding."""


async def fsck(
    space: Namespace,
    repair: bool = False,
    *,
    grace: timedelta = timedelta(hours=1),
    quarantine: timedelta = timedelta(hours=24),
    oldest_unconsumed: datetime | None = None,
    found: Found = _unheard,
) -> FsckReport:
    """Check one namespace. `found(kind, physical key)` hears of everything that is not in order, without bound.

    `grace` spares young bytes, `quarantine` is how long condemned ones stay for somebody to object; `oldest_unconsumed`
    is the time of the oldest message that may still name bytes. Errors: STORE_DOWN, CATALOG_DOWN.
    """
    store_now = await space.store.now()
    cutoff = min(space.now(), store_now) - grace
    if oldest_unconsumed is not None:
        cutoff = min(cutoff, oldest_unconsumed)
    cutoff = cutoff.replace(microsecond=0)  # stores tell the second in which bytes landed, and no more
    report = FsckReport(
        namespace=space.name, repaired=repair, cutoff=cutoff, kinds={kind: Findings() for kind in KINDS}
    )
    check = _Check(space, report, found, quarantine)
    await check.store()
    for kind in ("o", "v"):
        await check.rows(kind)
    return report


class _Check:
    """One run."""

    def __init__(self, space: Namespace, report: FsckReport, found: Found, quarantine: timedelta) -> None:
        self._space = space
        self._report = report
        self._found = found
        self._quarantine = quarantine
        self._prefix = root_of(space)

    async def store(self) -> None:
        """Everything that is stored, against the catalog as it is after each page was listed."""
        after = ""
        while page := await self._space.store.list(self._prefix, after, _PAGE):
            failpoint("fsck.after_list")
            for start in range(0, len(page), _BATCH):
                await self._classify(page[start : start + _BATCH])
            after = page[-1].key

    async def _classify(self, entries: Sequence[BlobEntry]) -> None:
        strays: list[Stray] = []
        foreign: list[BlobEntry] = []
        landed = {entry.key: entry.landed_at for entry in entries}
        for entry in entries:
            if entry.key == self._space.layout.owner:
                continue
            parsed = self._space.layout.parse(entry.key)
            stray = None if parsed is None else await stray_of(self._space, entry, parsed)
            if stray is not None:
                strays.append(stray)
            else:
                foreign.append(entry)
        if foreign:
            await self._foreign(foreign)

        async def body(view: View) -> list[Name | None]:
            return await sweep.names(view, self._space.rules, strays)

        unnamed: list[Stray] = []
        for stray, name in zip(strays, await self._space.meta.read(body), strict=True):
            if name is not None:
                self._note(name, stray.physical_key, stray.size_bytes)
            elif landed[stray.physical_key] >= self._report.cutoff:
                self._note("young", stray.physical_key, stray.size_bytes)
            else:
                unnamed.append(stray)
        if unnamed:
            await self._judge(await self._still_there(unnamed))

    async def _foreign(self, entries: Sequence[BlobEntry]) -> None:
        async def body(view: View) -> list[Name | None]:
            return await sweep.foreign_names(view, self._space.rules, [entry.key for entry in entries])

        for entry, name in zip(entries, await self._space.meta.read(body), strict=True):
            self._note(name or "foreign", entry.key, entry.size_bytes)

    async def _judge(self, unnamed: Sequence[Stray]) -> None:
        """Tell garbage from what may be somebody's; condemn the former when asked to."""

        async def body(view: View) -> frozenset[str]:
            return await lives.proven(view, [stray.version_id for stray in unnamed])

        proven = await self._space.meta.read(body)
        garbage = [stray for stray in unnamed if stray.version_id in proven]
        for stray in unnamed:
            if stray.version_id not in proven:
                self._note("unproven", stray.physical_key, stray.size_bytes)
        if garbage and self._report.repaired:
            garbage = await self._condemn(garbage)
        for stray in garbage:
            self._note("unnamed", stray.physical_key, stray.size_bytes)

    async def _still_there(self, strays: Sequence[Stray]) -> list[Stray]:
        """Without those that the janitor deleted, and then took off its list, since they were listed."""
        infos = await asyncio.gather(*(self._space.store.head(stray.physical_key) for stray in strays))
        return [stray for stray, info in zip(strays, infos, strict=True) if info is not None]

    async def _condemn(self, strays: Sequence[Stray]) -> list[Stray]:
        now = self._space.now()

        async def body(tx: Txn) -> list[Stray]:
            return await sweep.condemn_unnamed(tx, self._space.rules, strays, now, self._quarantine)

        failpoint("fsck.before_condemn")
        condemned = await self._space.meta.transact(self._space.name, body)
        failpoint("fsck.after_condemn")
        return condemned

    async def rows(self, kind: str) -> None:
        """Every row that holds bytes, against the store."""
        window = _Window(self._space, self._prefix)
        async for reference in _in_store_order(_references(self._space, kind)):
            entry = await window.find(reference.row.physical_key)
            if entry is None or _differs(reference.row, entry.size_bytes, entry.etag):
                await self._confirm(reference)

    async def _confirm(self, reference: "_Reference") -> None:
        """Look at the store once more, and then whether the row still says the same."""
        row = reference.row
        info = await self._space.store.head(row.physical_key)
        if info is not None and not _differs(row, info.size_bytes, info.etag):
            return

        async def body(view: View) -> bytes | None:
            return await view.get(reference.at)

        value = await self._space.meta.read(body)
        again = None if value is None else _row(str(reference.at[1]), value)
        if again is not None and again.physical_key == row.physical_key:
            self._note("missing" if info is None else "differing", row.physical_key, row.size_bytes)

    def _note(self, kind: str, physical_key: str, size_bytes: int) -> None:
        amiss = kind not in ("referenced", "promised", "condemned")
        self._report.kinds[kind].note(physical_key, size_bytes, shown=amiss)
        if amiss:
            self._found(kind, physical_key)


def _differs(row: ObjectRow, size_bytes: int, etag: str) -> bool:
    return size_bytes != row.size_bytes or etag != row.store_etag


class _Reference(msgspec.Struct, frozen=True):
    """A row that holds bytes, and where it stands."""

    at: Key
    row: ObjectRow

    def floor(self) -> str | None:
        """What no physical key of a later row sorts before; None when the key is encoded and says nothing of order."""
        if self.row.adopted:
            return self.row.physical_key
        head, tail = self.row.physical_key, f"~{self.row.version_id}"
        plain = head.endswith(str(self.at[3]) + tail)
        return head.removesuffix(tail) if plain else None


def _row(kind: str, value: bytes) -> ObjectRow | None:
    return decode(ObjectRow, value) if kind == "o" else decode(VersionRow, value).row


async def _references(space: Namespace, kind: str) -> AsyncIterator[_Reference]:
    """The rows of a kind in the catalog's order, a snapshot per page."""
    start, end = tuples.span((space.name, kind))
    while True:

        async def body(view: View, start: bytes = start) -> list[Entry]:
            return await view.range(start, end, limit=_ROWS)

        entries = await space.meta.read(body)
        for entry in entries:
            row = _row(kind, entry.value)
            if row is not None:
                yield _Reference(entry.key, row)
        if len(entries) < _ROWS:
            return
        start = entries[-1].raw + b"\x00"


async def _in_store_order(references: AsyncIterator[_Reference]) -> AsyncIterator[_Reference]:
    """The same rows, as far as possible in the order of their physical keys.

    `a` sorts before `a/b`, and `a~v` after `a/b~v`: so a row waits while keys may come that it is a beginning of. Those
    are few; what is out of order all the same only costs the reader another listing.
    """
    held: list[tuple[str, int, _Reference]] = []
    bucket: object = None
    number = 0
    async for reference in references:
        floor = reference.floor()
        if floor is None:
            yield reference
            continue
        while held and (held[0][0] < floor or bucket != reference.at[2] or len(held) >= _HELD):
            yield heapq.heappop(held)[2]
        bucket, number = reference.at[2], number + 1
        heapq.heappush(held, (reference.row.physical_key, number, reference))
    while held:
        yield heapq.heappop(held)[2]


class _Window:
    """The page of the store's listing that a walk in the store's order stands in."""

    def __init__(self, space: Namespace, prefix: str) -> None:
        self._space = space
        self._prefix = prefix
        self._entries: dict[str, BlobEntry] = {}
        self._after = ""
        self._to: str | None = ""

    async def find(self, physical_key: str) -> BlobEntry | None:
        """The entry of a key; None when the listing does not hold it."""
        if not (self._after < physical_key and (self._to is None or physical_key <= self._to)):
            self._after = physical_key[:-1]
            page = await self._space.store.list(self._prefix, self._after, _PAGE)
            self._entries = {entry.key: entry for entry in page}
            self._to = page[-1].key if len(page) == _PAGE else None
        return self._entries.get(physical_key)
