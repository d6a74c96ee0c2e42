"""The sweep's part of the catalog: who names these bytes, and condemning bytes that nobody names.

Bytes are named by the row of their object or one of its kept versions, by a promise, or by a garbage row; where to look
follows from the logical key, bucket and version id that the physical key itself tells; for a foreign key, from the hint
that its adoption left. The caller lists the store before it asks here; condemning looks again in its own transaction.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from ..meta import Txn, View, tuples
from .garbage import condemn
from .rows import (
    AdoptionRow,
    ObjectRow,
    PromiseRow,
    Rules,
    VersionRow,
    adoption_key,
    decode,
    garbage_key,
    object_key,
    promises_of,
    versions_of,
)

__all__ = ["Name", "Stray", "condemn_unnamed", "foreign_names", "names"]

Name = Literal["referenced", "promised", "condemned"]
_PAGE = 500


class Stray(msgspec.Struct, frozen=True, kw_only=True):
    """Listed bytes and what their physical key says."""

    physical_key: str
    bucket: str
    key: str
    version_id: str
    size_bytes: int
    store_etag: str


async def names(view: View, rules: Rules, strays: Sequence[Stray]) -> list[Name | None]:
    """Who names each of these bytes; None for nobody. One snapshot; at most some hundred at a time."""
    ns = rules.namespace
    found: list[Name | None] = []
    kept: dict[tuple[str, str], frozenset[str]] = {}
    values = await view.get_many(
        [
            key
            for stray in strays
            for key in (
                object_key(ns, stray.bucket, stray.key),
                (*promises_of(ns, stray.bucket, stray.key), stray.version_id),
                (ns, "w", stray.bucket, stray.key, stray.version_id),
                garbage_key(ns, stray.physical_key),
            )
        ]
    )
    for at, stray in enumerate(strays):
        current, upload, write, garbage = values[4 * at : 4 * at + 4]
        if current is not None and decode(ObjectRow, current).physical_key == stray.physical_key:
            found.append("referenced")
        elif _promises(upload, stray) or _promises(write, stray):
            found.append("promised")
        elif garbage is not None:
            found.append("condemned")
        else:
            found.append(await _kept(view, ns, stray.physical_key, (stray.bucket, stray.key), kept))
    return found


def _promises(value: bytes | None, stray: Stray) -> bool:
    return value is not None and decode(PromiseRow, value).physical_key == stray.physical_key


async def foreign_names(view: View, rules: Rules, physical_keys: Sequence[str]) -> list[Name | None]:
    """Likewise for keys that Prism did not lay out; None for bytes that are no affair of Prism's."""
    ns = rules.namespace
    hints = await view.get_many([adoption_key(ns, key) for key in physical_keys])
    garbage = await view.get_many([garbage_key(ns, key) for key in physical_keys])
    found: list[Name | None] = []
    for key, hint, condemned in zip(physical_keys, hints, garbage, strict=True):
        name: Name | None = None if condemned is None else "condemned"
        if hint is not None and name is None:
            name = await _adopted(view, ns, key, decode(AdoptionRow, hint))
        found.append(name)
    return found


async def _adopted(view: View, namespace: str, physical_key: str, hint: AdoptionRow) -> Name | None:
    """Whether the object that the hint tells of, or one of its kept versions, names the bytes."""
    value = await view.get(object_key(namespace, hint.bucket, hint.key))
    if value is not None and decode(ObjectRow, value).physical_key == physical_key:
        return "referenced"
    return await _kept(view, namespace, physical_key, (hint.bucket, hint.key), {})


async def _kept(
    view: View,
    namespace: str,
    physical_key: str,
    place: tuple[str, str],
    known: dict[tuple[str, str], frozenset[str]],
) -> Name | None:
    """Whether one of the key's older versions names the bytes; `known` remembers keys already looked up."""
    if place not in known:
        start, end = tuples.span(versions_of(namespace, *place))
        named: set[str] = set()
        while entries := await view.range(start, end, limit=_PAGE):
            rows = [decode(VersionRow, entry.value).row for entry in entries]
            named |= {row.physical_key for row in rows if row is not None}
            start = entries[-1].raw + b"\x00"
        known[place] = frozenset(named)
    return "referenced" if physical_key in known[place] else None


async def condemn_unnamed(
    tx: Txn, rules: Rules, strays: Sequence[Stray], now: datetime, grace: timedelta
) -> list[Stray]:
    """Condemn those that nobody names in this very transaction, to be deleted after `grace`; returns them. The caller
    knows that the catalog knows all about their version ids (`lives.proven`)."""
    found = await names(tx, rules, strays)
    unnamed = [stray for stray, name in zip(strays, found, strict=True) if name is None]
    for stray in unnamed:
        condemn(
            tx,
            rules,
            stray.physical_key,
            dead=now,
            now=now,
            reason="unnamed",
            grace=grace,
            size_bytes=stray.size_bytes,
            store_etag=stray.store_etag,
        )
    return unnamed
