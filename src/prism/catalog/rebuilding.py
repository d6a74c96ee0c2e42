"""Putting rows back for bytes whose rows were lost, from what the store says of them.

Per key the content that landed last becomes the object; where versions are kept the older ones go under it, elsewhere
they stay without a row, for nobody can prove any more that they are garbage. What a row, a promise or a garbage row
names is never touched. An object that stands is overtaken only by content of a younger version id; where versions are
not kept its bytes are condemned then, with a long grace.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from ..meta import Txn, View, tuples
from ..model import Frozen
from .buckets import add_missing
from .garbage import condemn
from .marks import namespace_row
from .objects import keep_version
from .rows import ObjectRow, Rules, adoption_key, decode, encode, expiry_key, object_key
from .sweep import Stray, names
from .usage import count

__all__ = ["Contents", "Reinstated", "holds_anything", "reinstate"]

OVERTAKEN_GRACE = timedelta(days=7)
"""How long bytes stay whose object was overtaken by content that a rebuild found."""


class Contents(Frozen, frozen=True, kw_only=True):
    """Everything found of one key, in the order in which it landed."""

    bucket: str
    key: str
    rows: Sequence[ObjectRow]


class Reinstated(Frozen, frozen=True, kw_only=True):
    """What became of one key's contents, by physical key."""

    current: str | None = None
    versions: Sequence[str] = ()
    older: Sequence[str] = ()
    named: Sequence[str] = ()


async def holds_anything(view: View, namespace: str) -> bool:
    """Whether the catalog has an object, a version, a promise or a garbage row of the namespace."""
    for kind in ("o", "v", "u", "w", "g"):
        start, end = tuples.span((namespace, kind))
        if await view.range(start, end, limit=1):
            return True
    return False


async def reinstate(tx: Txn, rules: Rules, found: Sequence[Contents], now: datetime) -> list[Reinstated]:
    """Give rows to contents that nothing names in this very transaction."""
    space = await namespace_row(tx, rules.namespace)
    await add_missing(tx, rules, {one.bucket for one in found}, now)
    strays = [_stray(one, row) for one in found for row in one.rows]
    named = {
        stray.physical_key
        for stray, name in zip(strays, await names(tx, rules, strays), strict=True)
        if name is not None
    }
    return [await _reinstate(tx, rules, one, named, space.deletions, now) for one in found]


def _stray(one: Contents, row: ObjectRow) -> Stray:
    return Stray(
        physical_key=row.physical_key,
        bucket=one.bucket,
        key=one.key,
        version_id=row.version_id,
        size_bytes=row.size_bytes,
        store_etag=row.store_etag,
    )


async def _reinstate(
    tx: Txn, rules: Rules, one: Contents, named: set[str], generation: int, now: datetime
) -> Reinstated:
    rows = [row for row in one.rows if row.physical_key not in named]
    known = [row.physical_key for row in one.rows if row.physical_key in named]
    if not rows:
        return Reinstated(named=known)
    at = object_key(rules.namespace, one.bucket, one.key)
    value = await tx.get(at)
    before = None if value is None else decode(ObjectRow, value)
    newest: ObjectRow | None = rows[-1]
    if before is not None and newest is not None and before.version_id > newest.version_id:
        newest = None
    older = rows if newest is None else rows[:-1]
    if rules.versioning:
        for row in older:
            await _keep(tx, rules, one, row, generation, now)
    if newest is not None:
        if before is not None:
            await _overtake(tx, rules, one, before, now)
        await _serve(tx, rules, one, newest, generation)
    kept = [row.physical_key for row in older]
    return Reinstated(
        current=None if newest is None else newest.physical_key,
        versions=kept if rules.versioning else (),
        older=() if rules.versioning else kept,
        named=known,
    )


async def _keep(tx: Txn, rules: Rules, one: Contents, row: ObjectRow, generation: int, now: datetime) -> None:
    await keep_version(tx, rules, one.bucket, one.key, _of(row, generation), now)
    count(tx, rules.namespace, row, +1)


async def _serve(tx: Txn, rules: Rules, one: Contents, row: ObjectRow, generation: int) -> None:
    tx.set(object_key(rules.namespace, one.bucket, one.key), encode(_of(row, generation)))
    if row.expires_at is not None:
        tx.set(expiry_key(rules.namespace, row.expires_at, one.bucket, one.key), b"")
    count(tx, rules.namespace, row, +1)


async def _overtake(tx: Txn, rules: Rules, one: Contents, before: ObjectRow, now: datetime) -> None:
    """The object that stood gives way. Adopted bytes stay: they may be anybody's."""
    if before.expires_at is not None:
        tx.clear(expiry_key(rules.namespace, before.expires_at, one.bucket, one.key))
    if rules.versioning:
        await keep_version(tx, rules, one.bucket, one.key, before, now)
        return
    count(tx, rules.namespace, before, -1)
    if before.adopted:
        tx.clear(adoption_key(rules.namespace, before.physical_key))
        return
    condemn(
        tx,
        rules,
        before.physical_key,
        dead=before.dead,
        now=now,
        reason="overtaken",
        grace=OVERTAKEN_GRACE,
        size_bytes=before.size_bytes,
        store_etag=before.store_etag,
    )


def _of(row: ObjectRow, generation: int) -> ObjectRow:
    return msgspec.structs.replace(row, generation=generation)
