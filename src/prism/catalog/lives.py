"""Which version ids this very catalog knows everything about: the record that proves garbage.

Each process that gives out version ids keeps a row here, and notes in it up to which id every promise was written to
this catalog long ago. An id within that range which no row names any more had its whole life in this catalog, and its
life is over: its bytes are garbage. Of any other id the catalog cannot say so: it was given out after the backup that
this catalog was restored from, by a deployment that shares the store, or by a process that died before it noted it.

The rows lie in a partition of their own. They say more with time and never less, so a look at them stays true.
"""

from collections.abc import Iterable
from datetime import datetime

import msgspec

from ..identifiers import origin_of
from ..meta import Key, Txn, View
from .rows import Row, decode, encode

__all__ = ["PARTITION", "LifeRow", "begin", "end", "note", "proven"]

PARTITION = "~lives"


class LifeRow(Row, frozen=True, kw_only=True):
    """What one process said of the ids that it gave out."""

    first: int
    """The number of the last id before the record began."""
    proven: int
    """Up to this number, every promise made for an id is, or was, in this catalog."""
    beats: int = 0
    """How often the process came by; a catalog that was exchanged under it says another number."""
    at: datetime


def _key(process: str) -> Key:
    return (PARTITION, process)


async def begin(tx: Txn, process: str, last: int, now: datetime) -> LifeRow:
    """The process is about to give out ids above `last`."""
    row = LifeRow(first=last, proven=last, at=now)
    tx.set(_key(process), encode(row))
    return row


async def note(tx: Txn, process: str, known: LifeRow, proven: int, now: datetime) -> LifeRow | None:
    """All promises for ids up to `proven` were written long ago. None, and nothing noted, when the row is not as the
    process left it: this is another catalog than the one those promises went to."""
    value = await tx.get(_key(process))
    if value is None or decode(LifeRow, value) != known:
        return None
    row = msgspec.structs.replace(known, proven=max(known.proven, proven), beats=known.beats + 1, at=now)
    tx.set(_key(process), encode(row))
    return row


async def end(tx: Txn, process: str, known: LifeRow, last: int, now: datetime) -> bool:
    """The process gives out no more ids, and everything it began is done. One that gave out none leaves no row."""
    row = await note(tx, process, known, last, now)
    if row is not None and row.first == row.proven:
        tx.clear(_key(process))
    return row is not None


async def proven(view: View, version_ids: Iterable[str]) -> frozenset[str]:
    """Those of the ids about which this catalog knows everything."""
    origins = {version_id: origin for version_id in version_ids if (origin := origin_of(version_id)) is not None}
    processes = sorted({process for process, _ in origins.values()})
    values = await view.get_many([_key(process) for process in processes])
    rows = {name: decode(LifeRow, value) for name, value in zip(processes, values, strict=True) if value is not None}
    return frozenset(
        version_id
        for version_id, (process, number) in origins.items()
        if process in rows and rows[process].first < number <= rows[process].proven
    )
