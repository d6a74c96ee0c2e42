"""Condemned bytes: a row per physical key until the bytes are gone for good. Terminal: nothing returns from here.

`due` says when the next deletion may start. What a user deleted is due promptly and, while a URL or writer may still
reach the key, once more when the key is dead; everything else is due when its grace is over and the key is dead.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from ..meta import Txn, View, tuples
from .rows import Condemned, Rules, counter_key, decode, encode, garbage_due_key, garbage_key, microseconds

__all__ = ["Due", "bring_forward", "condemn", "due", "find", "put_off", "removed"]


_LEFT_IN_PLACE = frozenset({"overwritten", "expired", "superseded", "refused"})


class Due(msgspec.Struct, frozen=True):
    """Bytes whose deletion may start now."""

    physical_key: str
    row: Condemned


def condemn(
    tx: Txn,
    rules: Rules,
    physical_key: str,
    *,
    dead: datetime,
    now: datetime,
    reason: str,
    grace: timedelta | None = None,
    size_bytes: int = 0,
    store_etag: str | None = None,
    unfinished: bool = False,
    pinned: datetime | None = None,
) -> None:
    """Write the garbage row. `grace` None means promptly (after the read grace) and once more at `dead`. `pinned` is
    when the bytes landed that alone are to be deleted, with `store_etag`; None: whatever lies there."""
    due_at = now + rules.read_grace if grace is None else max(now + grace, dead)
    row = Condemned(
        due=due_at,
        dead=dead,
        condemned_at=now,
        reason=reason,
        store_etag=store_etag,
        size_bytes=size_bytes,
        unfinished=unfinished,
        pinned=pinned is not None,
        landed_at=pinned,
    )
    tx.set(garbage_key(rules.namespace, physical_key), encode(row))
    tx.set(garbage_due_key(rules.namespace, due_at, physical_key), b"")
    tx.add(counter_key(rules.namespace, "garbage"), 1)
    tx.add(counter_key(rules.namespace, "garbage_bytes"), size_bytes)


async def due(view: View, namespace: str, now: datetime, limit: int) -> list[Due]:
    """At most `limit` keys whose deletion may start at `now`, longest due first."""
    start, _ = tuples.span((namespace, "t"))
    end = tuples.pack((namespace, "t", microseconds(now) + 1))
    entries = await view.range(start, end, limit=limit)
    keys = [str(entry.key[-1]) for entry in entries]
    values = await view.get_many([garbage_key(namespace, key) for key in keys])
    return [Due(key, decode(Condemned, value)) for key, value in zip(keys, values, strict=True) if value is not None]


async def removed(tx: Txn, namespace: str, physical_keys: Sequence[str], started_at: datetime) -> int:
    """Their bytes were deleted in calls started at `started_at`: drop the rows of dead keys, keep the others until
    dead.

    A row that is not due at `started_at` (it changed meanwhile) is left alone. Returns how many rows were dropped.
    """
    dropped = dropped_bytes = 0
    values = await tx.get_many([garbage_key(namespace, key) for key in physical_keys])
    for key, value in zip(physical_keys, values, strict=True):
        row = decode(Condemned, value) if value is not None else None
        if row is None or row.due > started_at:
            continue
        tx.clear(garbage_due_key(namespace, row.due, key))
        if row.dead <= started_at:
            tx.clear(garbage_key(namespace, key))
            dropped += 1
            dropped_bytes += row.size_bytes
        else:
            _move(tx, namespace, key, row, row.dead)
    tx.add(counter_key(namespace, "garbage"), -dropped)
    tx.add(counter_key(namespace, "garbage_bytes"), -dropped_bytes)
    return dropped


async def put_off(tx: Txn, namespace: str, physical_keys: Sequence[str], until: datetime) -> None:
    """The store refused to delete these: they are due again at `until`, so that they do not hold up the others."""
    values = await tx.get_many([garbage_key(namespace, key) for key in physical_keys])
    for key, value in zip(physical_keys, values, strict=True):
        row = decode(Condemned, value) if value is not None else None
        if row is not None and row.due < until:
            tx.clear(garbage_due_key(namespace, row.due, key))
            _move(tx, namespace, key, row, until)


async def bring_forward(
    tx: Txn, rules: Rules, physical_prefix: str, after: str, now: datetime, limit: int
) -> str | None:
    """Make garbage under a deleted folder due now for its first deletion; returns where to go on, None at the end."""
    start, end = tuples.span_text((rules.namespace, "g"), physical_prefix)
    if after:
        start = tuples.after(garbage_key(rules.namespace, after))
    entries = await tx.range(start, end, limit=limit)
    soon = now + rules.read_grace
    for entry in entries:
        row, key = decode(Condemned, entry.value), str(entry.key[-1])
        if row.reason == "purged":
            continue
        due_at = min(row.due, soon) if row.reason in _LEFT_IN_PLACE else row.due
        tx.clear(garbage_due_key(rules.namespace, row.due, key))
        _move(tx, rules.namespace, key, msgspec.structs.replace(row, reason="purged"), due_at)
    return str(entries[-1].key[-1]) if len(entries) == limit else None


def _move(tx: Txn, namespace: str, physical_key: str, row: Condemned, due_at: datetime) -> None:
    tx.set(garbage_key(namespace, physical_key), encode(msgspec.structs.replace(row, due=due_at)))
    tx.set(garbage_due_key(namespace, due_at, physical_key), b"")


async def find(view: View, namespace: str, physical_key: str) -> Condemned | None:
    """The garbage row that names these bytes."""
    value = await view.get(garbage_key(namespace, physical_key))
    return None if value is None else decode(Condemned, value)
