"""Pages of rows: a bucket's keys in byte order, and what expires soon. Each page has budgets of rows and of looks.

A page is one snapshot; when a budget is spent it ends early and says where to go on, so that a folder of dead rows, a
huge common prefix or a thousand open uploads cost no caller more than a bounded wait. Put together, the pages hold
every key that lived through the scan exactly once, provided the caller looks at the `open` promises of each before it
takes it.
"""

from bisect import bisect_left
from collections.abc import Sequence
from datetime import datetime

import msgspec

from ..meta import Entry, View, tuples
from .marks import namespace_row, newest_in
from .objects import is_alive
from .rows import (
    Hint,
    NamespaceRow,
    ObjectRow,
    PromiseRow,
    Rules,
    decode,
    hint_of,
    microseconds,
)
from .uploads import require_bucket

__all__ = ["ExpiringRow", "Listed", "Position", "Wanted", "expiring", "expiring_hints", "holds_rows", "page"]

_SCAN = 1000
_FIRST_SCAN = 16
_SKIPS = 250
_PROMISES = 200


class Position(msgspec.Struct, frozen=True):
    """A page begins after this key; `whole`: it is a common prefix, and the next begins after everything below it."""

    key: str
    whole: bool = False


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a page is asked for. `looked` are version ids of client promises that need no further look; `open_budget` is
    how many others the caller is ready to look at."""

    bucket: str
    prefix: str
    delimiter: str
    after: Position = Position("")
    limit: int
    scan_budget: int = 4_000
    open_budget: int = 100
    looked: frozenset[str] = frozenset()


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A page of rows. `resume` is where the next begins (None: nothing is left); `open` are client promises in the
    page's range that must be looked at before the page is the truth."""

    rows: Sequence[tuple[str, ObjectRow]]
    prefixes: Sequence[str]
    resume: Position | None
    open: Sequence[PromiseRow]


class _Page:
    """What is gathered while a page is scanned. `last` is the key or common prefix up to which everything was seen."""

    def __init__(self, rules: Rules, wanted: Wanted) -> None:
        self.wanted = wanted
        self.rows: list[tuple[str, ObjectRow]] = []
        self.prefixes: list[str] = []
        self.last = wanted.after
        self._namespace = rules.namespace

    @property
    def room(self) -> int:
        return self.wanted.limit - len(self.rows) - len(self.prefixes)

    def common_prefix(self, key: str) -> str:
        """The common prefix that stands for `key`, or an empty string."""
        if not self.wanted.delimiter:
            return ""
        cut = key.find(self.wanted.delimiter, len(self.wanted.prefix))
        return "" if cut < 0 else key[: cut + len(self.wanted.delimiter)]

    def lists(self, common: str) -> bool:
        """Whether a common prefix is in the page."""
        at = bisect_left(self.prefixes, common)
        return at < len(self.prefixes) and self.prefixes[at] == common

    def span(self, kind: str) -> tuple[bytes, bytes]:
        """The keys of rows of a kind under the prefix and after the page's beginning."""
        start, end = tuples.span_text((self._namespace, kind, self.wanted.bucket), self.wanted.prefix)
        return (max(start, self.behind(kind, self.wanted.after)), end) if self.wanted.after.key else (start, end)

    def behind(self, kind: str, position: Position) -> bytes:
        """Where a scan goes on after a position."""
        place = (self._namespace, kind, self.wanted.bucket)
        return tuples.span_text(place, position.key)[1] if position.whole else tuples.after((*place, position.key))

    def cut(self, key: str, passed: str) -> None:
        """Keep only what sorts before `key`; everything up to the key `passed` was seen."""
        self.rows = [found for found in self.rows if found[0] < key]
        self.prefixes = [prefix for prefix in self.prefixes if prefix < key]
        seen = [Position(self.rows[-1][0])] if self.rows else []
        seen += [Position(self.prefixes[-1], True)] if self.prefixes else []
        seen += [Position(passed)] if passed else []
        self.last = max(seen, key=lambda position: position.key, default=self.wanted.after)


async def page(view: View, rules: Rules, wanted: Wanted, now: datetime) -> Listed:
    """One page of live keys under a prefix, in byte order."""
    await require_bucket(view, rules, wanted.bucket)
    found = _Page(rules, wanted)
    rows_left = await _scan_rows(view, rules, found, now)
    resume = found.last if rows_left else None
    promises, cut = await _scan_open(view, found, resume)
    if cut:
        resume = found.last
    return Listed(rows=found.rows, prefixes=found.prefixes, resume=resume, open=promises)


async def holds_rows(view: View, rules: Rules, bucket: str, now: datetime) -> bool:
    """Whether a bucket has a live row, or so many dead ones that nobody can tell yet."""
    found = _Page(rules, Wanted(bucket=bucket, prefix="", delimiter="", limit=1))
    return await _scan_rows(view, rules, found, now) or bool(found.rows)


async def _scan_rows(view: View, rules: Rules, found: _Page, now: datetime) -> bool:
    """Gather rows until the page is full or a budget is spent; whether rows may be left then."""
    space = await namespace_row(view, rules.namespace)
    start, end = found.span("o")
    known: dict[str, int] = {}
    scanned = skips = 0
    step = _FIRST_SCAN if found.wanted.delimiter else _SCAN
    while start < end and found.room > 0 and scanned < found.wanted.scan_budget and skips < _SKIPS:
        limit = min(step, found.room + 1)
        entries = await view.range(start, end, limit=limit)
        scanned += len(entries)
        if await _take(view, rules, space, entries, found, known, now):
            start, skips, step = found.behind("o", found.last), skips + 1, _FIRST_SCAN
        elif len(entries) < limit:
            return False
        else:
            start, step = entries[-1].raw + b"\x00", min(_SCAN, 4 * step)
    return start < end


async def _take(
    view: View,
    rules: Rules,
    space: NamespaceRow,
    entries: Sequence[Entry],
    found: _Page,
    known: dict[str, int],
    now: datetime,
) -> bool:
    """Add the live ones among `entries`, as far as there is room; stops at a new common prefix and says so."""
    for entry in entries:
        if found.room <= 0:
            return False
        key = str(entry.key[3])
        row = decode(ObjectRow, entry.value)
        mark = await newest_in(view, space, rules.namespace, found.wanted.bucket, key, known) if space.marks else 0
        if is_alive(row, mark, now):
            common = found.common_prefix(key)
            if common:
                found.prefixes.append(common)
                found.last = Position(common, True)
                return True
            found.rows.append((key, row))
        found.last = Position(key)
    return False


async def _scan_open(view: View, found: _Page, resume: Position | None) -> tuple[Sequence[PromiseRow], bool]:
    """The client promises in the page's range that need a look, and whether there were too many: then the page was cut
    before the first that is not among them. Those below a common prefix of the page need none: it is there without
    them."""
    start, end = found.span("u")
    if resume is not None:
        end = min(end, max(start, found.behind("u", resume)))
    taken: list[PromiseRow] = []
    current, before, scanned, step = "", "", 0, _FIRST_SCAN
    while start < end:
        entries = await view.range(start, end, limit=step)
        start, step = (entries[-1].raw + b"\x00" if len(entries) == step else end), min(_PROMISES, 4 * step)
        for entry in entries:
            key, version_id = str(entry.key[3]), str(entry.key[4])
            if found.prefixes and (common := found.common_prefix(key)) and found.lists(common):
                start, step = found.behind("u", Position(common, True)), _FIRST_SCAN
                break
            if key != current:
                current, before = key, current
            scanned += 1
            if version_id in found.wanted.looked:
                continue
            spent = len(taken) >= found.wanted.open_budget or scanned > found.wanted.scan_budget
            if spent and not (taken and taken[-1].key == key):
                found.cut(key, before)
                return taken, True
            taken.append(decode(PromiseRow, entry.value))
    return taken, False


class ExpiringRow(msgspec.Struct, frozen=True):
    """A live object and when it expires."""

    bucket: str
    key: str
    row: ObjectRow


async def expiring_hints(view: View, namespace: str, until: datetime, limit: int) -> list[Hint]:
    """Index entries due at or before `until`, soonest first."""
    start, _ = tuples.span((namespace, "e"))
    entries = await view.range(start, tuples.pack((namespace, "e", microseconds(until) + 1)), limit=limit)
    return [hint_of(entry.key) for entry in entries]


async def expiring(
    view: View, rules: Rules, now: datetime, until: datetime, after: Hint | None, limit: int
) -> tuple[list[ExpiringRow], Hint | None]:
    """Live objects that expire after `now` and at or before `until`; and the hint to go on after (None at the end)."""
    start = tuples.pack((rules.namespace, "e", microseconds(now) + 1))
    end = tuples.pack((rules.namespace, "e", microseconds(until) + 1))
    if after is not None:
        start = max(start, tuples.after(after.index_key(rules.namespace)))
    entries = await view.range(start, end, limit=limit) if start < end else []
    space = await namespace_row(view, rules.namespace)
    known: dict[str, dict[str, int]] = {}
    hints = [hint_of(entry.key) for entry in entries]
    current = [hint for hint in hints if hint.ordinal is None]
    values = await view.get_many([hint.row_key(rules.namespace) for hint in current])
    found = []
    for hint, value in zip(current, values, strict=True):
        row = None if value is None else decode(ObjectRow, value)
        if row is None or row.expires_at != hint.at:
            continue
        folders = known.setdefault(hint.bucket, {})
        mark = await newest_in(view, space, rules.namespace, hint.bucket, hint.key, folders)
        if is_alive(row, mark, now):
            found.append(ExpiringRow(hint.bucket, hint.key, row))
    return found, hints[-1] if len(hints) == limit else None
