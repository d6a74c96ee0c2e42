"""What the catalog keeps of uploads in parts, beside their promise: what passed through Prism of each part, and, before
the store is told to put them together, what the object will be.

The store alone knows which parts have arrived. A part's row holds what only Prism computed of it (its MD5), and counts
while the store's part is the one that it was computed of. The rows go with the promise.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from ..errors import ErrorCode
from ..meta import Entry, Txn, View, tuples
from .marks import namespace_row, newest_in
from .objects import current_version
from .rows import PartRow, PromiseRow, Refused, Rules, Sealed, decode, encode, part_key, parts_of, promise_key
from .uploads import renew, require_bucket, standing

__all__ = ["OpenPage", "Sought", "begun", "computed", "open_page", "passed", "reopen", "seal", "touch"]

_SCAN = 250
_ROUNDS = 20


async def touch(tx: Txn, rules: Rules, known: PromiseRow, until: datetime) -> PromiseRow:
    """Something happened: its sender may go on until then. OUTCOME_UNKNOWN or DELETED_MEANWHILE when it is over."""
    return await renew(tx, rules, known, max(until, known.writable_until))


async def passed(tx: Txn, rules: Rules, known: PromiseRow, number: int, part: PartRow) -> None:
    """A part came through Prism. Nothing is written when the upload is over."""
    if not isinstance(await standing(tx, rules, known), Refused):
        tx.set(part_key(rules.namespace, known, number), encode(part))


async def computed(view: View, rules: Rules, known: PromiseRow) -> Mapping[int, PartRow]:
    """What came through Prism, by number."""
    start, end = tuples.span(parts_of(rules.namespace, known))
    found: dict[int, PartRow] = {}
    while start < end:
        entries = await view.range(start, end, limit=1000)
        found |= {int(entry.key[-1]): decode(PartRow, entry.value) for entry in entries}
        start = entries[-1].raw + b"\x00" if len(entries) == 1000 else end
    return found


async def seal(
    tx: Txn, rules: Rules, known: PromiseRow, wanted: PromiseRow, etag: str, now: datetime
) -> PromiseRow | Refused:
    """Record what the object will be, with the declaration of `wanted`, which counts from now on. While another choice
    of parts may still be on its way to the store nobody chooses anew."""
    row = await standing(tx, rules, known)
    if isinstance(row, Refused):
        return row
    before = row.sealed
    if before is not None and before.etag != etag and now < before.at + _ON_ITS_WAY + rules.late_write:
        return Refused(
            code=ErrorCode.UPLOAD_PENDING, message="other parts of this upload are being put together; try again later"
        )
    first = begun(row)
    sealed = Sealed(
        at=now,
        etag=etag,
        replaces=await current_version(tx, rules, row.bucket, row.key),
        declared=first.declared,
        precondition=first.precondition,
        held=first.held,
    )
    row = msgspec.structs.replace(
        row, declared=wanted.declared, precondition=wanted.precondition, held=wanted.held, sealed=sealed
    )
    tx.set(promise_key(rules.namespace, row), encode(row))
    return row


_ON_ITS_WAY = timedelta(seconds=60)
"""How long a request to the store may take to begin after its parts were chosen; the gate looks again."""


def begun(row: PromiseRow) -> PromiseRow:
    """The promise as it was before its parts were chosen."""
    before = row.sealed
    if before is None:
        return row
    return msgspec.structs.replace(
        row, declared=before.declared, precondition=before.precondition, held=before.held, sealed=None
    )


async def reopen(tx: Txn, rules: Rules, sealed: PromiseRow) -> None:
    """The store refused those parts for certain: others may be chosen."""
    row = await standing(tx, rules, sealed)
    if isinstance(row, PromiseRow) and row.sealed == sealed.sealed:
        tx.set(promise_key(rules.namespace, row), encode(begun(row)))


class Sought(msgspec.Struct, frozen=True, kw_only=True):
    """Which open uploads: those of a prefix after a key (or common prefix) and version id; empty: from the first."""

    bucket: str
    prefix: str
    delimiter: str
    after: tuple[str, str]
    limit: int


class OpenPage(msgspec.Struct, frozen=True):
    """What was found, in the order of keys and version ids, and where to go on (None: nothing is left)."""

    uploads: Sequence[PromiseRow]
    prefixes: Sequence[str]
    resume: tuple[str, str] | None


async def open_page(view: View, rules: Rules, sought: Sought) -> OpenPage:
    """One page of uploads in parts that are neither complete nor given up."""
    await require_bucket(view, rules, sought.bucket)
    space, known = await namespace_row(view, rules.namespace), dict[str, int]()
    page = _Gathering(rules, sought)
    for _ in range(_ROUNDS):
        entries = await view.range(page.start, page.end, limit=_SCAN) if page.start < page.end else []
        for entry in entries:
            row = decode(PromiseRow, entry.value)
            mark = await newest_in(view, space, rules.namespace, row.bucket, row.key, known)
            if row.upload is not None and mark <= row.generation:
                page.take(row)
            if page.full or page.jumped:
                break
            page.pass_(entry, row)
        if page.full:
            return page.page(more=True)
        if not page.jumped and len(entries) < _SCAN:
            return page.page(more=False)
        page.jumped = False
    return page.page(more=True)


class _Gathering:
    """A page as it grows; `full` once one more was found than fits."""

    def __init__(self, rules: Rules, sought: Sought) -> None:
        self._place = (rules.namespace, "u", sought.bucket)
        self._sought = sought
        self._uploads: list[PromiseRow] = []
        self._prefixes: list[str] = []
        self._at = sought.after
        self.start, self.end = tuples.span_text(self._place, sought.prefix)
        self.full = False
        self.jumped = False
        key, version_id = sought.after
        if key:
            common = self._common(key) == key
            place = (*self._place, key, version_id) if version_id else (*self._place, key)
            self.start = max(self.start, self._behind(key) if common else tuples.after(place))

    def take(self, row: PromiseRow) -> None:
        """Add an upload, or the common prefix that it stands for, behind which the scan goes on."""
        if len(self._uploads) + len(self._prefixes) >= self._sought.limit:
            self.full = True
            return
        common = self._common(row.key)
        if not common:
            self._uploads.append(row)
            return
        self._prefixes.append(common)
        self._at = (common, "")
        self.start = self._behind(common)
        self.jumped = True

    def pass_(self, entry: Entry, row: PromiseRow) -> None:
        """It was looked at."""
        self._at = (row.key, row.version_id)
        self.start = entry.raw + b"\x00"

    def page(self, *, more: bool) -> OpenPage:
        """What there is so far."""
        return OpenPage(self._uploads, self._prefixes, self._at if more else None)

    def _behind(self, common: str) -> bytes:
        return tuples.span_text(self._place, common)[1]

    def _common(self, key: str) -> str:
        delimiter, prefix = self._sought.delimiter, self._sought.prefix
        if not delimiter or not key.startswith(prefix):
            return ""
        head, found, _ = key[len(prefix) :].partition(delimiter)
        return prefix + head + found if found else ""
