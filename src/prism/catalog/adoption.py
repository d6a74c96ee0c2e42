"""Taking up bytes that were in the store before Prism: look, promise, and, after a HEAD, commit.

The promise is a row of its own kind: whoever finds it broken condemns nothing, for the bytes are somebody's already.
Once kept it stays as the hint that tells the check which object names a foreign key; the object's row decides. Bytes
that a garbage row names are refused: a deletion of them may be under way. An object that exists already is never
touched, unless it is the very adoption of the same key and others have rewritten the bytes since.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import msgspec

from ..meta import Txn, View
from ..model import Frozen
from .marks import namespace_row
from .outbox import announce
from .rows import (
    AdoptionRow,
    ObjectRow,
    Rules,
    adoption_key,
    decode,
    encode,
    expiry_key,
    garbage_key,
    object_key,
)
from .usage import count

__all__ = ["Adopted", "Foreign", "Outcome", "commit", "forget", "look", "promise"]

Outcome = Literal["new", "changed", "unchanged", "taken", "condemned"]
"""Of foreign bytes: no object has their key; their object's row says others; their row stands; another object has the
key, or they belong to another key; a garbage row names them."""


class Foreign(Frozen, frozen=True, kw_only=True):
    """Bytes in the store that may become an object."""

    physical_key: str
    bucket: str
    key: str
    etag: str
    size_bytes: int


class Adopted(Frozen, frozen=True, kw_only=True):
    """What is to be committed: the row as it will stand, its expiry among the rest."""

    foreign: Foreign
    row: ObjectRow


async def look(view: View, rules: Rules, found: Sequence[Foreign], own: bool) -> list[Outcome]:
    """How the catalog stands to each; `own`: rows that do not call the bytes Prism's own count as changed."""
    ns = rules.namespace
    values = await view.get_many(
        [
            at
            for one in found
            for at in (
                object_key(ns, one.bucket, one.key),
                adoption_key(ns, one.physical_key),
                garbage_key(ns, one.physical_key),
            )
        ]
    )
    return [_standing(one, own, *values[3 * at : 3 * at + 3]) for at, one in enumerate(found)]


def _standing(one: Foreign, own: bool, current: bytes | None, hint: bytes | None, garbage: bytes | None) -> Outcome:
    if garbage is not None:
        return "condemned"
    named = None if hint is None else decode(AdoptionRow, hint)
    if named is not None and (named.bucket, named.key) != (one.bucket, one.key):
        return "taken"
    if current is None:
        return "new"
    row = decode(ObjectRow, current)
    if not row.adopted or row.physical_key != one.physical_key:
        return "taken"
    same = (row.store_etag, row.size_bytes, row.own or not own) == (one.etag, one.size_bytes, True)
    return "unchanged" if same else "changed"


async def promise(
    tx: Txn, rules: Rules, wanted: Sequence[Foreign], version_ids: Sequence[str], own: bool
) -> list[Foreign]:
    """Promise those that may still be taken up, each under its version id; returns them."""
    standing = await look(tx, rules, wanted, own)
    made = []
    for one, outcome, version_id in zip(wanted, standing, version_ids, strict=True):
        if outcome in ("new", "changed"):
            hint = AdoptionRow(bucket=one.bucket, key=one.key, version_id=version_id)
            tx.set(adoption_key(rules.namespace, one.physical_key), encode(hint))
            made.append(one)
    return made


async def commit(tx: Txn, rules: Rules, adopted: Sequence[Adopted], now: datetime) -> list[Outcome]:
    """Reference the bytes whose promise still stands; tells of each what it was found to be (`new` and `changed` are
    referenced now)."""
    space = await namespace_row(tx, rules.namespace)
    standing = await look(tx, rules, [one.foreign for one in adopted], own=False)
    hints = await tx.get_many([adoption_key(rules.namespace, one.foreign.physical_key) for one in adopted])
    outcomes: list[Outcome] = []
    for one, outcome, value in zip(adopted, standing, hints, strict=True):
        hint = None if value is None else decode(AdoptionRow, value)
        if hint is None or hint.version_id != one.row.version_id:
            outcome = "taken"
        elif outcome in ("new", "changed", "unchanged"):
            row = msgspec.structs.replace(one.row, generation=space.deletions)
            outcome = await _reference(tx, rules, one.foreign, row, now)
        elif outcome == "taken":
            tx.clear(adoption_key(rules.namespace, one.foreign.physical_key))
        outcomes.append(outcome)
    return outcomes


async def _reference(tx: Txn, rules: Rules, foreign: Foreign, row: ObjectRow, now: datetime) -> Outcome:
    """Write the row in place of the adoption that stood there; that one's lifetime and right to the bytes go on."""
    at = object_key(rules.namespace, foreign.bucket, foreign.key)
    value = await tx.get(at)
    before = None if value is None else decode(ObjectRow, value)
    if before is not None:
        row = msgspec.structs.replace(row, own=row.own or before.own, expires_at=row.expires_at or before.expires_at)
        if (before.store_etag, before.size_bytes, before.own) == (row.store_etag, row.size_bytes, row.own):
            return "unchanged"
        count(tx, rules.namespace, before, -1)
        if before.expires_at is not None:
            tx.clear(expiry_key(rules.namespace, before.expires_at, foreign.bucket, foreign.key))
    tx.set(at, encode(row))
    if row.expires_at is not None:
        tx.set(expiry_key(rules.namespace, row.expires_at, foreign.bucket, foreign.key), b"")
    count(tx, rules.namespace, row, +1)
    announce(
        tx,
        rules,
        "object.created",
        foreign.bucket,
        foreign.key,
        now,
        version_id=row.version_id,
        size_bytes=row.size_bytes,
    )
    return "new" if before is None else "changed"


async def forget(tx: Txn, rules: Rules, gone: Sequence[Foreign]) -> None:
    """The bytes went before they were taken up: their promises go, unless an object names them."""
    values = await tx.get_many([object_key(rules.namespace, one.bucket, one.key) for one in gone])
    for one, value in zip(gone, values, strict=True):
        if value is None or decode(ObjectRow, value).physical_key != one.physical_key:
            tx.clear(adoption_key(rules.namespace, one.physical_key))
