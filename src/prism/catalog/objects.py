"""The transitions of an object's row: commit (swap), unlink, expire, purge; and what readers look up.

Commit asks in this order: is the row already mine, does my promise stand, is no newer mark above it, did the current row
land later, does the precondition hold; then it swaps. It consumes the promise and looks at no clock for that: this alone
keeps a paused writer from referencing bytes that were condemned meanwhile.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from ..errors import ErrorCode
from ..meta import Key, Txn, View, tuples
from ..model import Frozen, Precondition
from .garbage import condemn
from .marks import namespace_row, newest
from .outbox import announce
from .rows import (
    NamespaceRow,
    ObjectRow,
    PromiseRow,
    Refused,
    Rules,
    VersionRow,
    decode,
    encode,
    expiry_key,
    namespace_key,
    object_key,
    promise_key,
    versions_of,
)
from .uploads import close, open_uploads, require_bucket
from .usage import count

__all__ = [
    "Facts",
    "Seen",
    "Unlinked",
    "Unsettled",
    "commit",
    "drop_dead",
    "expire",
    "is_alive",
    "look",
    "matches",
    "unlink",
    "whole_second",
]


class Facts(Frozen):
    """What is known of bytes that have landed, beside what their promise says."""

    size_bytes: int
    etag: str
    store_etag: str
    content_type: str
    metadata: Mapping[str, str] = {}
    crc32c: str | None = None
    sha256: str | None = None
    landed_at: datetime | None = None
    """The store's clock, for bytes that came by URL."""


class Seen(msgspec.Struct, frozen=True):
    """What a reader finds: the row as it stands for it (None: absent) and the client promises it must look at."""

    row: ObjectRow | None
    open: Sequence[PromiseRow]


class Unlinked(msgspec.Struct, frozen=True):
    """The object is absent now; `deleted` says whether it was there."""

    deleted: bool


class Unsettled(msgspec.Struct, frozen=True):
    """Client promises that must be settled first."""

    open: Sequence[PromiseRow]


def whole_second(at: datetime) -> datetime:
    """The first whole second at or after `at`: an expiry is published in seconds and never comes early."""
    return datetime.fromtimestamp(math.ceil(at.timestamp()), UTC)


def matches(precondition: Precondition, current: ObjectRow | None) -> bool:
    """Whether a write's precondition holds of the current row."""
    etag = None if current is None else current.etag
    if precondition.if_match is not None and (
        etag is None or ("*" not in precondition.if_match and etag not in precondition.if_match)
    ):
        return False
    unwanted = precondition.if_none_match
    return unwanted is None or etag is None or ("*" not in unwanted and etag not in unwanted)


def is_alive(row: ObjectRow, mark: int, now: datetime) -> bool:
    """Whether readers see the row: no newer mark above it, and not expired."""
    return row.generation >= mark and (row.expires_at is None or now < row.expires_at)


async def look(view: View, rules: Rules, bucket: str, key: str, now: datetime) -> Seen:
    """The key as a reader sees it at `now`."""
    await require_bucket(view, rules, bucket)
    value, space_value = await view.get_many([object_key(rules.namespace, bucket, key), namespace_key(rules.namespace)])
    space = NamespaceRow() if space_value is None else decode(NamespaceRow, space_value)
    mark = await newest(view, space, rules.namespace, bucket, key)
    row = None if value is None else decode(ObjectRow, value)
    if row is not None and not is_alive(row, mark, now):
        row = None
    return Seen(row, await open_uploads(view, rules, bucket, key))


async def commit(tx: Txn, rules: Rules, known: PromiseRow, facts: Facts, now: datetime) -> ObjectRow | Refused:
    """Reference the landed bytes as the key's current content and condemn what they replace."""
    own = object_key(rules.namespace, known.bucket, known.key)
    value, promise_value, space_value = await tx.get_many(
        [own, promise_key(rules.namespace, known), namespace_key(rules.namespace)]
    )
    current = None if value is None else decode(ObjectRow, value)
    if current is not None and current.version_id == known.version_id:
        return current
    if promise_value is None:
        return Refused(code=ErrorCode.OUTCOME_UNKNOWN, message="the upload's promise is gone: repeat the request")
    promise = decode(PromiseRow, promise_value)
    space = NamespaceRow() if space_value is None else decode(NamespaceRow, space_value)
    mark = await newest(tx, space, rules.namespace, promise.bucket, promise.key)
    alive = current if current is not None and is_alive(current, mark, now) else None
    refusal = _refusal(promise, alive, mark, facts)
    if refusal is not None:
        close(tx, rules, promise)
        condemn(tx, rules, promise.physical_key, dead=promise.dead, now=now, reason="refused")
        return refusal
    await require_bucket(tx, rules, promise.bucket)
    ordinal = await _next_ordinal(tx, rules, promise, current)
    if current is not None:
        await _retire(tx, rules, promise.bucket, promise.key, current, mark, now, reason="overwritten")
    close(tx, rules, promise)
    row = _row(rules, promise, facts, space.deletions, ordinal, now)
    tx.set(own, encode(row))
    if row.expires_at is not None:
        tx.set(expiry_key(rules.namespace, row.expires_at, promise.bucket, promise.key), b"")
    count(tx, rules.namespace, row, +1)
    announce(
        tx,
        rules,
        "object.created",
        promise.bucket,
        promise.key,
        now,
        version_id=row.version_id,
        size_bytes=row.size_bytes,
    )
    return row


def _refusal(promise: PromiseRow, alive: ObjectRow | None, mark: int, facts: Facts) -> Refused | None:
    if mark > promise.generation:
        return Refused(code=ErrorCode.DELETED_MEANWHILE, message="the folder of this key was deleted after the upload began")
    if facts.landed_at is not None and alive is not None and alive.landed_at is not None:
        mine, theirs = (facts.landed_at, promise.version_id), (alive.landed_at, alive.version_id)
        if mine < theirs:
            return Refused(code=ErrorCode.PRECONDITION_FAILED, message="an upload that landed later is current")
    if not matches(promise.precondition, alive):
        return Refused(code=ErrorCode.PRECONDITION_FAILED, message="the current object does not meet the precondition")
    return None


def _row(rules: Rules, promise: PromiseRow, facts: Facts, generation: int, ordinal: int, now: datetime) -> ObjectRow:
    begun = facts.landed_at if facts.landed_at is not None else now
    lasting = None if promise.ttl_seconds is None else timedelta(seconds=promise.ttl_seconds)
    final = promise.kind == "process" and rules.returned_write_is_final
    return ObjectRow(
        physical_key=promise.physical_key,
        version_id=promise.version_id,
        size_bytes=facts.size_bytes,
        etag=facts.etag,
        store_etag=facts.store_etag,
        content_type=facts.content_type,
        metadata=facts.metadata,
        modified_at=now,
        generation=generation,
        dead=now if final else promise.dead,
        ordinal=ordinal,
        expires_at=None if lasting is None else whole_second(begun + lasting),
        crc32c=facts.crc32c,
        sha256=facts.sha256,
        landed_at=facts.landed_at,
    )


async def _next_ordinal(tx: Txn, rules: Rules, promise: PromiseRow, current: ObjectRow | None) -> int:
    if not rules.versioning:
        return 0
    if current is not None:
        return current.ordinal + 1
    start, end = tuples.span(versions_of(rules.namespace, promise.bucket, promise.key))
    newest_kept = await tx.range(start, end, limit=1, reverse=True)
    return int(newest_kept[0].key[-1]) + 1 if newest_kept else 0


async def _retire(
    tx: Txn, rules: Rules, bucket: str, key: str, row: ObjectRow, mark: int, now: datetime, *, reason: str
) -> bool:
    """The row stops being current: kept as a version where the namespace keeps them, else condemned; says whether kept."""
    tx.clear(object_key(rules.namespace, bucket, key))
    if row.expires_at is not None:
        tx.clear(expiry_key(rules.namespace, row.expires_at, bucket, key))
    expired = row.expires_at is not None and row.expires_at <= now
    if rules.versioning and row.generation >= mark and not expired:
        kept = VersionRow(row=row, at=now, generation=row.generation)
        tx.set((*versions_of(rules.namespace, bucket, key), row.ordinal), encode(kept))
        return True
    grace: timedelta | None = None
    if row.generation < mark:
        reason = "purged"
    elif row.expires_at is not None and expired:
        reason, grace = "expired", row.expires_at - now + rules.expiry_grace
    elif reason == "overwritten":
        grace = rules.overwrite_grace
    _release(tx, rules, row, now, reason, grace)
    return False


def drop_dead(tx: Txn, rules: Rules, at: Key, row: ObjectRow | None, now: datetime) -> None:
    """Purge one dead row, current or kept, found at the catalog key `at` (None: a delete marker, which holds no bytes)."""
    tx.clear(at)
    if row is None:
        return
    if at[1] == "o" and row.expires_at is not None:
        tx.clear(expiry_key(rules.namespace, row.expires_at, str(at[2]), str(at[3])))
    _release(tx, rules, row, now, "purged", None)


def _release(tx: Txn, rules: Rules, row: ObjectRow, now: datetime, reason: str, grace: timedelta | None) -> None:
    condemn(
        tx,
        rules,
        row.physical_key,
        dead=row.dead,
        now=now,
        reason=reason,
        grace=grace,
        size_bytes=row.size_bytes,
        store_etag=row.store_etag,
    )
    count(tx, rules.namespace, row, -1)


async def unlink(
    tx: Txn,
    rules: Rules,
    bucket: str,
    key: str,
    now: datetime,
    precondition: Precondition,
    settled: frozenset[str] = frozenset(),
) -> Unlinked | Unsettled | Refused:
    """Remove the object. Open client promises other than the `settled` version ids must be looked at first."""
    await require_bucket(tx, rules, bucket)
    unsettled = [row for row in await open_uploads(tx, rules, bucket, key) if row.version_id not in settled]
    if unsettled:
        return Unsettled(unsettled)
    space = await namespace_row(tx, rules.namespace)
    mark = await newest(tx, space, rules.namespace, bucket, key)
    value = await tx.get(object_key(rules.namespace, bucket, key))
    current = None if value is None else decode(ObjectRow, value)
    alive = current if current is not None and is_alive(current, mark, now) else None
    if not matches(precondition, alive):
        return Refused(code=ErrorCode.PRECONDITION_FAILED, message="the current object does not meet the precondition")
    if current is None:
        return Unlinked(deleted=False)
    kept = await _retire(tx, rules, bucket, key, current, mark, now, reason="deleted")
    if kept:
        marker = VersionRow(row=None, at=now, generation=space.deletions)
        tx.set((*versions_of(rules.namespace, bucket, key), current.ordinal + 1), encode(marker))
    if alive is not None:
        announce(tx, rules, "object.deleted", bucket, key, now, version_id=alive.version_id)
    return Unlinked(deleted=alive is not None)


async def expire(tx: Txn, rules: Rules, hints: Sequence[tuple[datetime, str, str]], now: datetime) -> int:
    """Unlink what the hints (expiry, bucket, key) name and what is really due; a stale hint only goes away."""
    unlinked = 0
    space = await namespace_row(tx, rules.namespace)
    for at, bucket, key in hints:
        value = await tx.get(object_key(rules.namespace, bucket, key))
        row = None if value is None else decode(ObjectRow, value)
        if row is None or row.expires_at != at:
            tx.clear(expiry_key(rules.namespace, at, bucket, key))
        elif at <= now:
            mark = await newest(tx, space, rules.namespace, bucket, key)
            await _retire(tx, rules, bucket, key, row, mark, now, reason="expired")
            announce(tx, rules, "object.expired", bucket, key, now, version_id=row.version_id)
            unlinked += 1
    return unlinked
