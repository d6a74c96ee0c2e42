"""The transitions of an object's row: commit (swap), unlink, expire, purge; and what readers look up.

Commit asks in this order: is the row already mine, does my promise stand, is no newer mark above it, did the current
row land later, does the precondition hold; then it swaps. It consumes the promise and looks at no clock for that: this
alone keeps a paused writer from referencing bytes that were condemned meanwhile.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from ..errors import ErrorCode
from ..meta import Key, Txn, View, tuples
from ..model import Frozen, Precondition
from .garbage import condemn
from .marks import namespace_row, newest
from .outbox import announce
from .rows import (
    Hint,
    NamespaceRow,
    ObjectRow,
    PromiseRow,
    Refused,
    Rules,
    VersionRow,
    adoption_key,
    bucket_key,
    decode,
    encode,
    expiry_key,
    namespace_key,
    object_key,
    promise_key,
    versions_of,
)
from .uploads import close, condemn_promised, keep, leave_over, open_uploads, require_bucket
from .usage import count

__all__ = [
    "Facts",
    "Seen",
    "Superseded",
    "Unlinked",
    "Unsettled",
    "commit",
    "commit_reads",
    "current_version",
    "drop_dead",
    "expire",
    "is_alive",
    "keep_version",
    "look",
    "matches",
    "overtaken",
    "swap",
    "unlink",
    "whole_second",
]

_ADOPTED_KEPT = timedelta(minutes=5)
"""How long the garbage row of adopted bytes outlives their unlink: more than a janitor's lease and a request to the
store, so that no late deletion meets bytes that somebody put there again and that an import took up."""


class Facts(Frozen, frozen=True, kw_only=True):
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
    replaces: str | None = None
    """The version that was current before the bytes began to come: older than they are, whatever the clocks said."""


class Seen(msgspec.Struct, frozen=True):
    """What a reader finds: the row as it stands for it (None: absent) and the client promises it must look at."""

    row: ObjectRow | None
    open: Sequence[PromiseRow]


class Superseded(msgspec.Struct, frozen=True):
    """The upload took effect and was overtaken before anybody saw it; `row` is what it was."""

    row: ObjectRow


class Unlinked(msgspec.Struct, frozen=True):
    """The object is absent now; `deleted` says whether it was there."""

    deleted: bool


class Unsettled(msgspec.Struct, frozen=True):
    """Client promises that must be settled first."""

    open: Sequence[PromiseRow]


def whole_second(at: datetime) -> datetime:
    """The first whole second at or after `at`: an expiry is published in seconds and never comes early."""
    return at.replace(microsecond=0) + timedelta(seconds=1) if at.microsecond else at


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
    row = None if value is None else decode(ObjectRow, value)
    if row is not None:
        mark = 0
        if space_value is not None:
            mark = await newest(view, decode(NamespaceRow, space_value), rules.namespace, bucket, key)
        if not is_alive(row, mark, now):
            row = None
    return Seen(row, await open_uploads(view, rules, bucket, key))


async def current_version(view: View, rules: Rules, bucket: str, key: str) -> str | None:
    """The version id of the key's row, whether or not readers see it."""
    value = await view.get(object_key(rules.namespace, bucket, key))
    return None if value is None else decode(ObjectRow, value).version_id


def commit_reads(rules: Rules, known: PromiseRow) -> list[Key]:
    """What `commit` reads first, for prefetching."""
    return [
        object_key(rules.namespace, known.bucket, known.key),
        promise_key(rules.namespace, known),
        namespace_key(rules.namespace),
    ]


async def commit(
    tx: Txn, rules: Rules, known: PromiseRow, facts: Facts, now: datetime
) -> ObjectRow | Superseded | Refused:
    """Reference the landed bytes as the key's current content and condemn what they replace."""
    value, promise_value, space_value = await tx.get_many(commit_reads(rules, known))
    current = None if value is None else decode(ObjectRow, value)
    if current is not None and current.version_id == known.version_id:
        return current
    if promise_value is None:
        return Refused(code=ErrorCode.OUTCOME_UNKNOWN, message="the upload's promise is gone: repeat the request")
    promise = decode(PromiseRow, promise_value)
    space = NamespaceRow() if space_value is None else decode(NamespaceRow, space_value)
    mark = await newest(tx, space, rules.namespace, promise.bucket, promise.key)
    refusal = await overtaken(tx, rules, promise, mark, now)
    if refusal is not None:
        return refusal
    return await swap(tx, rules, promise, current, mark, facts, now, generation=space.deletions)


async def swap(
    tx: Txn,
    rules: Rules,
    promise: PromiseRow,
    current: ObjectRow | None,
    mark: int,
    facts: Facts,
    now: datetime,
    *,
    generation: int,
) -> ObjectRow | Superseded | Refused:
    """The last steps of a commit, for a promise that stands: what landed later, the precondition, the swap."""
    row = _row(rules, promise, facts, generation, now)
    if current is not None and current.generation >= mark and _landed_later(current, row, facts.replaces):
        return await _supersede(tx, rules, promise, row, now)
    alive = current if current is not None and is_alive(current, mark, now) else None
    if not matches(promise.precondition, alive):
        return _refuse(tx, rules, promise, now, _UNMET)
    if current is not None:
        await _retire(tx, rules, promise.bucket, promise.key, current, mark, now, reason="overwritten")
    keep(tx, rules, promise)
    _reference(tx, rules, promise, row, now)
    return row


_OVERTAKEN = Refused(
    code=ErrorCode.DELETED_MEANWHILE, message="the folder of this key was deleted after the upload began"
)
_NO_BUCKET = Refused(code=ErrorCode.BUCKET_NOT_FOUND, message="the bucket was deleted after the upload began")
_UNMET = Refused(code=ErrorCode.PRECONDITION_FAILED, message="the current object does not meet the precondition")


async def overtaken(tx: Txn, rules: Rules, promise: PromiseRow, mark: int, now: datetime) -> Refused | None:
    """What a deletion of the folder or the bucket since the promise does to it."""
    if mark > promise.generation:
        return _refuse(tx, rules, promise, now, _OVERTAKEN)
    bucket = promise.bucket
    if bucket != rules.own_bucket and await tx.get(bucket_key(rules.namespace, bucket)) is None:
        return _refuse(tx, rules, promise, now, _NO_BUCKET)
    return None


def _refuse(tx: Txn, rules: Rules, promise: PromiseRow, now: datetime, why: Refused) -> Refused:
    """The promise ends here. Bytes that a client's URL can still reach stay until it is dead, so that a late PUT hears
    412, unless a deletion took them."""
    purged = why is not _UNMET
    close(tx, rules, promise)
    grace = timedelta(0) if promise.kind == "client" and not purged else None
    condemn_promised(tx, rules, promise, now, "purged" if purged else "refused", grace)
    return why


def _landed_later(current: ObjectRow, row: ObjectRow, replaces: str | None) -> bool:
    """Whether the current content, expired or not, is an upload that the store took after this one."""
    if current.landed_at is None or row.landed_at is None or current.version_id == replaces:
        return False
    return (current.landed_at, current.version_id) > (row.landed_at, row.version_id)


async def _supersede(tx: Txn, rules: Rules, promise: PromiseRow, row: ObjectRow, now: datetime) -> Superseded:
    """A later upload is current: this one goes under it where versions are kept, else it is condemned."""
    keep(tx, rules, promise)
    expired = row.expires_at is not None and row.expires_at <= now
    if rules.versioning and not expired:
        await keep_version(tx, rules, promise.bucket, promise.key, row, now)
        count(tx, rules.namespace, row, +1)
    else:
        condemn(
            tx,
            rules,
            promise.physical_key,
            dead=promise.dead,
            now=now,
            reason="superseded",
            grace=timedelta(0),
            size_bytes=row.size_bytes,
            store_etag=row.store_etag,
        )
    return Superseded(row)


def _reference(tx: Txn, rules: Rules, promise: PromiseRow, row: ObjectRow, now: datetime) -> None:
    """Write the row, its index entry, its count and its event."""
    bucket, key = promise.bucket, promise.key
    tx.set(object_key(rules.namespace, bucket, key), encode(row))
    if row.expires_at is not None:
        tx.set(expiry_key(rules.namespace, row.expires_at, bucket, key), b"")
    count(tx, rules.namespace, row, +1)
    announce(tx, rules, "object.created", bucket, key, now, version_id=row.version_id, size_bytes=row.size_bytes)


def _row(rules: Rules, promise: PromiseRow, facts: Facts, generation: int, now: datetime) -> ObjectRow:
    begun = facts.landed_at + rules.times_cut if facts.landed_at is not None else now
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
        expires_at=None if lasting is None else whole_second(begun + lasting),
        crc32c=facts.crc32c,
        sha256=facts.sha256,
        landed_at=facts.landed_at,
    )


async def keep_version(
    tx: Txn, rules: Rules, bucket: str, key: str, row: ObjectRow | None, now: datetime, generation: int = 0
) -> None:
    """Put a version (None: a deletion's marker) on top of those that are kept already."""
    prefix = versions_of(rules.namespace, bucket, key)
    start, end = tuples.span(prefix)
    newest_kept = await tx.range(start, end, limit=1, reverse=True)
    ordinal = int(newest_kept[0].key[-1]) + 1 if newest_kept else 0
    kept = VersionRow(row=row, at=now, generation=generation if row is None else row.generation)
    tx.set((*prefix, ordinal), encode(kept))
    if row is not None and row.expires_at is not None:
        tx.set(expiry_key(rules.namespace, row.expires_at, bucket, key, ordinal), b"")


async def _retire(
    tx: Txn, rules: Rules, bucket: str, key: str, row: ObjectRow, mark: int, now: datetime, *, reason: str
) -> bool:
    """The row stops being current: kept as a version where the namespace keeps them, else condemned; says whether
    kept. Whoever comes upon an expired one tells so."""
    tx.clear(object_key(rules.namespace, bucket, key))
    if row.expires_at is not None:
        tx.clear(expiry_key(rules.namespace, row.expires_at, bucket, key))
    expired = row.expires_at is not None and row.expires_at <= now
    if rules.versioning and row.generation >= mark and not expired:
        await keep_version(tx, rules, bucket, key, row, now)
        return True
    grace: timedelta | None = None
    if row.generation < mark:
        reason = "purged"
    elif expired:
        reason, grace = "expired", rules.expiry_grace
        announce(tx, rules, "object.expired", bucket, key, now, version_id=row.version_id)
    elif reason == "overwritten":
        grace = rules.overwrite_grace
    _release(tx, rules, row, now, reason, grace)
    return False


def drop_dead(tx: Txn, rules: Rules, at: Key, row: ObjectRow | None, now: datetime) -> None:
    """Purge one dead row, current or kept, found at the catalog key `at` (None: a delete marker, which holds no
    bytes)."""
    tx.clear(at)
    if row is None:
        return
    if row.expires_at is not None:
        ordinal = int(at[4]) if at[1] == "v" else None
        tx.clear(expiry_key(rules.namespace, row.expires_at, str(at[2]), str(at[3]), ordinal))
    _release(tx, rules, row, now, "purged", None)


def _release(tx: Txn, rules: Rules, row: ObjectRow, now: datetime, reason: str, grace: timedelta | None) -> None:
    """The row goes, and with it its bytes, unless they are adopted ones that are not Prism's own."""
    count(tx, rules.namespace, row, -1)
    if row.adopted:
        tx.clear(adoption_key(rules.namespace, row.physical_key))
    if row.adopted and not row.own:
        return
    condemn(
        tx,
        rules,
        row.physical_key,
        dead=max(row.dead, now + _ADOPTED_KEPT + rules.late_write) if row.adopted else row.dead,
        now=now,
        reason=reason,
        grace=grace,
        size_bytes=row.size_bytes,
        store_etag=row.store_etag,
        pinned=row.modified_at if row.adopted else None,
    )


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
    uploads = await open_uploads(tx, rules, bucket, key)
    unsettled = [row for row in uploads if row.version_id not in settled]
    if unsettled:
        return Unsettled(unsettled)
    space = await namespace_row(tx, rules.namespace)
    mark = await newest(tx, space, rules.namespace, bucket, key)
    value = await tx.get(object_key(rules.namespace, bucket, key))
    current = None if value is None else decode(ObjectRow, value)
    alive = current if current is not None and is_alive(current, mark, now) else None
    if not matches(precondition, alive):
        return _UNMET
    if current is None:
        return Unlinked(deleted=False)
    kept = await _retire(tx, rules, bucket, key, current, mark, now, reason="deleted")
    if kept:
        await keep_version(tx, rules, bucket, key, None, now, space.deletions)
    for upload in uploads:
        if upload.taken is not None:
            leave_over(tx, rules, upload, now)
    if alive is not None:
        announce(tx, rules, "object.deleted", bucket, key, now, version_id=alive.version_id)
    return Unlinked(deleted=alive is not None)


async def expire(tx: Txn, rules: Rules, hints: Sequence[Hint], now: datetime) -> int:
    """Unlink what the hints name and what is really due; a stale hint only goes away. Returns how many were
    unlinked."""
    unlinked = 0
    space = await namespace_row(tx, rules.namespace)
    values = await tx.get_many([hint.row_key(rules.namespace) for hint in hints])
    for hint, value in zip(hints, values, strict=True):
        row = _hinted(hint, value)
        if row is None or row.expires_at != hint.at:
            tx.clear(hint.index_key(rules.namespace))
        elif hint.at <= now:
            mark = await newest(tx, space, rules.namespace, hint.bucket, hint.key)
            await _expire(tx, rules, hint, row, mark, now)
            unlinked += 1
    return unlinked


def _hinted(hint: Hint, value: bytes | None) -> ObjectRow | None:
    if value is None:
        return None
    return decode(ObjectRow, value) if hint.ordinal is None else decode(VersionRow, value).row


async def _expire(tx: Txn, rules: Rules, hint: Hint, row: ObjectRow, mark: int, now: datetime) -> None:
    if hint.ordinal is None:
        await _retire(tx, rules, hint.bucket, hint.key, row, mark, now, reason="expired")
        return
    tx.clear(hint.row_key(rules.namespace))
    tx.clear(hint.index_key(rules.namespace))
    _release(tx, rules, row, now, "expired", rules.expiry_grace)
