"""Pages of rows: a bucket's keys in byte order, and what expires soon. Each page has a budget of rows it may scan.

A page is one snapshot; when its budget is spent it ends early and says where to go on, so that a folder of dead rows or a
huge common prefix costs no caller more than a bounded wait.
"""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from ..meta import Entry, View, tuples
from .marks import namespace_row, newest_in
from .objects import is_alive
from .rows import NamespaceRow, ObjectRow, PromiseRow, Rules, decode, expiry_key, instant, microseconds, object_key
from .uploads import require_bucket

__all__ = ["ExpiringRow", "Listed", "Wanted", "expiring", "expiring_hints", "page"]

_SCAN = 1000
_SKIPS = 250


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a page is asked for; `after` is exclusive, and when it is a common prefix its whole range is passed over."""

    bucket: str
    prefix: str
    delimiter: str
    after: str
    limit: int
    scan_budget: int = 10_000
    open_budget: int = 100


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A page of rows. `resume` is where the next begins (None: nothing is left); `open` are client promises in the page's
    range that must be looked at before the page is the truth."""

    rows: Sequence[tuple[str, ObjectRow]]
    prefixes: Sequence[str]
    resume: str | None
    open: Sequence[PromiseRow]


class _Page:
    """What is gathered while a page is scanned."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.rows: list[tuple[str, ObjectRow]] = []
        self.prefixes: list[str] = []
        self.last = wanted.after

    @property
    def full(self) -> bool:
        return len(self.rows) + len(self.prefixes) >= self.wanted.limit

    def common_prefix(self, key: str) -> str:
        """The common prefix that stands for `key`, or an empty string."""
        if not self.wanted.delimiter:
            return ""
        cut = key.find(self.wanted.delimiter, len(self.wanted.prefix))
        return "" if cut < 0 else key[: cut + len(self.wanted.delimiter)]


async def page(view: View, rules: Rules, wanted: Wanted, now: datetime) -> Listed:
    """One page of live keys under a prefix, in byte order."""
    await require_bucket(view, rules, wanted.bucket)
    space = await namespace_row(view, rules.namespace)
    own = (rules.namespace, "o", wanted.bucket)
    start, end = tuples.span_text(own, wanted.prefix)
    if wanted.after:
        start = max(start, _after(rules, wanted))
    found, known = _Page(wanted), dict[str, int]()
    scanned = skips = 0
    ended = False
    while not found.full and scanned < wanted.scan_budget and skips < _SKIPS:
        limit = min(_SCAN, wanted.limit - len(found.rows) - len(found.prefixes) + 1)
        entries = await view.range(start, end, limit=limit)
        stop = await _take(view, rules, space, entries, found, known, now)
        scanned += len(entries)
        if stop is not None:
            start, skips = stop, skips + 1
        elif len(entries) < limit:
            ended = True
            break
        else:
            start = entries[-1].raw + b"\x00"
    resume = None if ended else found.last
    return await _with_open(view, rules, found, resume)


def _after(rules: Rules, wanted: Wanted) -> bytes:
    if wanted.delimiter and wanted.after.endswith(wanted.delimiter) and len(wanted.after) > len(wanted.prefix):
        return tuples.span_text((rules.namespace, "o", wanted.bucket), wanted.after)[1]
    return tuples.after(object_key(rules.namespace, wanted.bucket, wanted.after))


async def _take(
    view: View,
    rules: Rules,
    space: NamespaceRow,
    entries: Sequence[Entry],
    found: _Page,
    known: dict[str, int],
    now: datetime,
) -> bytes | None:
    """Add the live ones among `entries`; when a new common prefix begins, return where its range ends."""
    for entry in entries:
        if found.full:
            return None
        key = str(entry.key[3])
        row = decode(ObjectRow, entry.value)
        mark = await newest_in(view, space, rules.namespace, found.wanted.bucket, key, known) if space.marks else 0
        if not is_alive(row, mark, now):
            found.last = key
            continue
        common = found.common_prefix(key)
        if common:
            found.prefixes.append(common)
            found.last = common
            return tuples.span_text((rules.namespace, "o", found.wanted.bucket), common)[1]
        found.rows.append((key, row))
        found.last = key
    return None


async def _with_open(view: View, rules: Rules, found: _Page, resume: str | None) -> Listed:
    """Add the client promises between the page's beginning and its end; too many of them end the page early."""
    wanted = found.wanted
    start, end = tuples.span_text((rules.namespace, "u", wanted.bucket), wanted.prefix)
    if wanted.after:
        start = max(start, tuples.after((rules.namespace, "u", wanted.bucket, wanted.after)))
    if resume is not None:
        end = min(end, max(start, tuples.after((rules.namespace, "u", wanted.bucket, resume))))
    entries = await view.range(start, end, limit=wanted.open_budget + 1)
    promises = [decode(PromiseRow, entry.value) for entry in entries]
    return Listed(rows=found.rows, prefixes=found.prefixes, resume=resume, open=promises)


class ExpiringRow(msgspec.Struct, frozen=True):
    """A live object and when it expires."""

    bucket: str
    key: str
    row: ObjectRow


async def expiring_hints(view: View, namespace: str, until: datetime, limit: int) -> list[tuple[datetime, str, str]]:
    """Index entries (expiry, bucket, key) due at or before `until`, soonest first."""
    start, _ = tuples.span((namespace, "e"))
    entries = await view.range(start, tuples.pack((namespace, "e", microseconds(until) + 1)), limit=limit)
    return [(instant(int(e.key[2])), str(e.key[3]), str(e.key[4])) for e in entries]


async def expiring(
    view: View, rules: Rules, now: datetime, until: datetime, after: tuple[datetime, str, str] | None, limit: int
) -> tuple[list[ExpiringRow], tuple[datetime, str, str] | None]:
    """Live objects that expire after `now` and at or before `until`; and the hint to go on after (None at the end)."""
    start = tuples.pack((rules.namespace, "e", microseconds(now) + 1))
    if after is not None:
        start = max(start, tuples.after(expiry_key(rules.namespace, *after)))
    end = tuples.pack((rules.namespace, "e", microseconds(until) + 1))
    entries = await view.range(start, max(start, end), limit=limit)
    space = await namespace_row(view, rules.namespace)
    known: dict[str, dict[str, int]] = {}
    hints = [(instant(int(e.key[2])), str(e.key[3]), str(e.key[4])) for e in entries]
    values = await view.get_many([object_key(rules.namespace, bucket, key) for _, bucket, key in hints])
    found = []
    for (at, bucket, key), value in zip(hints, values, strict=True):
        row = None if value is None else decode(ObjectRow, value)
        if row is None or row.expires_at != at:
            continue
        mark = await newest_in(view, space, rules.namespace, bucket, key, known.setdefault(bucket, {}))
        if is_alive(row, mark, now):
            found.append(ExpiringRow(bucket, key, row))
    return found, hints[-1] if len(hints) == limit else None
