"""Promises: which bytes may land where, by whom and until when; durable before anything that a crash would leave
unnamed.

A process's promise is kept by that process alone and condemned when it dies; a client's is kept by whoever recognises
its bytes. A promise ends in exactly one way: commit consumes it, or it is broken and its bytes are condemned.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from ..errors import ErrorCode, PrismError
from ..meta import Key, Txn, View, tuples
from .garbage import condemn
from .marks import namespace_row, newest
from .rows import (
    PromiseRow,
    Refused,
    Rules,
    Taken,
    bucket_key,
    counter_key,
    decode,
    due_key,
    encode,
    instant,
    late_parts_key,
    microseconds,
    namespace_key,
    parts_of,
    promise_key,
    promises_of,
)

__all__ = [
    "abandon",
    "amend",
    "break_due",
    "close",
    "condemn_promised",
    "due",
    "find",
    "find_upload",
    "forgot_late_parts",
    "found_unlike",
    "keep",
    "late_parts",
    "leave_over",
    "looked_at",
    "open_uploads",
    "overdue_writers",
    "promise",
    "promise_reads",
    "promise_url",
    "renew",
    "require_bucket",
    "standing",
    "store",
]

_FIRST_LOOK = timedelta(seconds=60)


async def require_bucket(view: View, rules: Rules, bucket: str) -> None:
    """BUCKET_NOT_FOUND unless the bucket is the namespace's own or one created beside it."""
    if bucket != rules.own_bucket and await view.get(bucket_key(rules.namespace, bucket)) is None:
        raise PrismError(
            ErrorCode.BUCKET_NOT_FOUND, f"namespace {rules.namespace!r} has no bucket {bucket!r}; create it first"
        )


async def open_uploads(view: View, rules: Rules, bucket: str, key: str) -> list[PromiseRow]:
    """The open client promises of a key, oldest first (version ids sort by time)."""
    start, end = tuples.span(promises_of(rules.namespace, bucket, key))
    entries = await view.range(start, end, limit=4 * rules.max_open_uploads)
    return [decode(PromiseRow, entry.value) for entry in entries]


async def promise(tx: Txn, rules: Rules, wanted: PromiseRow) -> list[PromiseRow]:
    """Make the promise; returns the key's other open client promises, which the caller must settle before it
    commits."""
    others = await open_uploads(tx, rules, wanted.bucket, wanted.key)
    await _make(tx, rules, wanted, others)
    return others


async def promise_url(tx: Txn, rules: Rules, wanted: PromiseRow) -> PromiseRow:
    """Make a client's promise for a URL; returns the promise to name.

    A URL that works more than once shares an open promise of the same declaration, which is renewed: of a staging key
    always (one key, however often it is signed), else where the key has as many open ones as it may have.
    """
    others = await open_uploads(tx, rules, wanted.bucket, wanted.key)
    if not wanted.bound and (wanted.way == "staging" or len(others) >= rules.max_open_uploads):
        for other in sorted(others, key=lambda row: row.writable_until):
            if _says_the_same(other, wanted) and not isinstance(await standing(tx, rules, other), Refused):
                return await renew(tx, rules, other, max(other.writable_until, wanted.writable_until))
    await _make(tx, rules, wanted, others)
    return wanted


async def _make(tx: Txn, rules: Rules, wanted: PromiseRow, others: Sequence[PromiseRow]) -> None:
    await require_bucket(tx, rules, wanted.bucket)
    space = await namespace_row(tx, rules.namespace)
    row = msgspec.structs.replace(wanted, generation=space.deletions)
    if row.kind == "client":
        if len(others) >= rules.max_open_uploads:
            raise PrismError(
                ErrorCode.TOO_MANY_UPLOADS,
                f"{len(others)} uploads of this key are open; at most {rules.max_open_uploads} may be",
            )
        row = msgspec.structs.replace(row, due=min(row.dead, row.created_at + _FIRST_LOOK))
        _index(tx, rules, row)
    tx.set(promise_key(rules.namespace, row), encode(row))
    tx.add(counter_key(rules.namespace, "uploads"), 1)


def _says_the_same(one: PromiseRow, other: PromiseRow) -> bool:
    return _declaration(one) == _declaration(other)


def _declaration(row: PromiseRow) -> tuple[object, ...]:
    """What a promise says of its bytes alone."""
    said = (row.content_type, row.metadata, row.ttl_seconds, row.declared, row.precondition)
    return (row.bound, row.way, row.held, row.upload, *said)


def _index(tx: Txn, rules: Rules, row: PromiseRow) -> None:
    if row.due is not None:
        tx.set(due_key(rules.namespace, row, row.due), b"")


def promise_reads(rules: Rules) -> list[Key]:
    """What `promise` reads first, for prefetching."""
    return [namespace_key(rules.namespace)]


async def standing(view: View, rules: Rules, known: PromiseRow) -> PromiseRow | Refused:
    """The promise as it stands, or why it can no longer be kept."""
    row = await find(view, rules, known)
    if row is None:
        return Refused(
            code=ErrorCode.OUTCOME_UNKNOWN, message="the upload was given up for dead while it was running; repeat it"
        )
    space = await namespace_row(view, rules.namespace)
    if await newest(view, space, rules.namespace, row.bucket, row.key) > row.generation:
        return Refused(
            code=ErrorCode.DELETED_MEANWHILE, message="the folder of this key was deleted while the upload was running"
        )
    return row


async def find(view: View, rules: Rules, known: PromiseRow) -> PromiseRow | None:
    """The promise as it stands now; None when it was kept or broken."""
    value = await view.get(promise_key(rules.namespace, known))
    return None if value is None else decode(PromiseRow, value)


async def find_upload(view: View, rules: Rules, bucket: str, key: str, version_id: str) -> PromiseRow | None:
    """A client's promise by the id that its URL carries."""
    value = await view.get((*promises_of(rules.namespace, bucket, key), version_id))
    return None if value is None else decode(PromiseRow, value)


async def renew(tx: Txn, rules: Rules, known: PromiseRow, writable_until: datetime) -> PromiseRow:
    """The writer goes on: move its deadlines. OUTCOME_UNKNOWN or DELETED_MEANWHILE when it must not."""
    row = await standing(tx, rules, known)
    if isinstance(row, Refused):
        raise PrismError(row.code, row.message)
    dead = row.dead + (writable_until - row.writable_until)
    later = msgspec.structs.replace(row, writable_until=writable_until, dead=dead)
    store(tx, rules, later)
    return later


async def amend(tx: Txn, rules: Rules, known: PromiseRow, **fields: object) -> PromiseRow:
    """More is known of the upload than when it was promised (the store's name of it, the declaration). Errors: as
    `renew`."""
    row = await standing(tx, rules, known)
    if isinstance(row, Refused):
        raise PrismError(row.code, row.message)
    row = msgspec.structs.replace(row, **fields)
    store(tx, rules, row)
    return row


async def found_unlike(tx: Txn, rules: Rules, known: PromiseRow, pair: Taken) -> None:
    """What lies under the promised key was read and is not as declared: nobody needs to read it again."""
    row = await find(tx, rules, known)
    if row is not None:
        store(tx, rules, msgspec.structs.replace(row, unlike=pair))


def leave_over(tx: Txn, rules: Rules, row: PromiseRow, now: datetime) -> None:
    """The object that came of a staging key is deleted: what was taken there goes at the verifier's next look."""
    if row.due is not None:
        tx.clear(due_key(rules.namespace, row, row.due))
    row = msgspec.structs.replace(row, leftover=True, due=now)
    store(tx, rules, row)
    _index(tx, rules, row)


def store(tx: Txn, rules: Rules, row: PromiseRow) -> None:
    """Write the promise as it is now; its `due` must be what it was."""
    tx.set(promise_key(rules.namespace, row), encode(row))


def close(tx: Txn, rules: Rules, row: PromiseRow) -> None:
    """Take the promise away; the caller says in the same transaction what becomes of its bytes."""
    tx.clear(promise_key(rules.namespace, row))
    if row.due is not None:
        tx.clear(due_key(rules.namespace, row, row.due))
    if row.upload is not None:
        tx.clear_range(*tuples.span(parts_of(rules.namespace, row)))
    tx.add(counter_key(rules.namespace, "uploads"), -1)


def keep(tx: Txn, rules: Rules, row: PromiseRow) -> None:
    """Take the promise away because its bytes are an object's now, or were. Of an upload in parts its own requests may
    still come to the store, and begin another or leave parts there: that is looked at when it is dead."""
    close(tx, rules, row)
    if row.upload is not None or row.restored:
        tx.set(late_parts_key(rules.namespace, row.dead, row.physical_key), b"")


async def late_parts(view: View, namespace: str, now: datetime, limit: int) -> list[tuple[datetime, str]]:
    """Physical keys of kept uploads in parts that are dead, and when they died."""
    start, _ = tuples.span((namespace, "q"))
    entries = await view.range(start, tuples.pack((namespace, "q", microseconds(now) + 1)), limit=limit)
    return [(instant(int(entry.key[2])), str(entry.key[3])) for entry in entries]


async def forgot_late_parts(tx: Txn, namespace: str, done: Sequence[tuple[datetime, str]]) -> None:
    """Nothing of these is open in the store any more, and nothing comes."""
    for dead, physical_key in done:
        tx.clear(late_parts_key(namespace, dead, physical_key))


async def abandon(tx: Txn, rules: Rules, known: PromiseRow, now: datetime, reason: str = "abandoned") -> bool:
    """Its own writer, or a deletion above it, gives the promise up: condemned promptly, and once more when dead."""
    row = await find(tx, rules, known)
    if row is None:
        return False
    close(tx, rules, row)
    condemn_promised(tx, rules, row, now, reason)
    return True


def condemn_promised(
    tx: Txn, rules: Rules, row: PromiseRow, now: datetime, reason: str, grace: timedelta | None = None
) -> None:
    """The bytes of a promise that ends, and whatever upload in parts its writer or its client may have begun."""
    condemn(
        tx,
        rules,
        row.physical_key,
        dead=row.dead,
        now=now,
        reason=reason,
        grace=grace,
        unfinished=row.way == "prism" or row.upload is not None,
    )


async def break_due(tx: Txn, rules: Rules, known: PromiseRow, looked: datetime | None, now: datetime) -> Refused | None:
    """Break a promise whose time is over: for a client's, `looked` is when the HEAD that found nothing (or bytes that
    do not match) was started, and it must have been at or after the promise's death. Bytes of one that comes out of a
    backup may be an object: they stay. Returns why it did not happen."""
    row = await find(tx, rules, known)
    if row is None:
        return Refused(code=ErrorCode.OBJECT_NOT_FOUND, message="the promise was kept or broken already")
    if now < row.dead or (row.kind == "client" and (looked is None or looked < row.dead)):
        return Refused(code=ErrorCode.UPLOAD_PENDING, message="the promise may still be kept")
    if row.restored:
        keep(tx, rules, row)
        return None
    close(tx, rules, row)
    condemn_promised(tx, rules, row, now, "broken", timedelta(0))
    return None


async def due(view: View, namespace: str, now: datetime, limit: int) -> list[PromiseRow]:
    """Client promises that the verifier should look at now, longest due first; stale index entries give none."""
    start, _ = tuples.span((namespace, "d"))
    entries = await view.range(start, tuples.pack((namespace, "d", microseconds(now) + 1)), limit=limit)
    values = await view.get_many([(namespace, "u", *entry.key[3:]) for entry in entries])
    return [decode(PromiseRow, value) for value in values if value is not None]


async def looked_at(tx: Txn, rules: Rules, known: PromiseRow, now: datetime) -> None:
    """Nothing new had landed: look again after as long as the promise is old, at the latest when it is dead."""
    row = await find(tx, rules, known)
    if row is None or row.due is None:
        return
    tx.clear(due_key(rules.namespace, row, row.due))
    again = min(row.dead, now + max(_FIRST_LOOK, now - row.created_at)) if now < row.dead else now + _FIRST_LOOK
    row = msgspec.structs.replace(row, due=again, leftover=row.leftover and row.taken != known.taken)
    store(tx, rules, row)
    _index(tx, rules, row)


async def overdue_writers(
    view: View, namespace: str, now: datetime, after: bytes, limit: int
) -> tuple[list[PromiseRow], bytes]:
    """One page of process promises; those that are dead, and where to go on (empty at the end)."""
    start, end = tuples.span((namespace, "w"))
    entries = await view.range(max(start, after), end, limit=limit)
    rows = [decode(PromiseRow, entry.value) for entry in entries]
    more = entries[-1].raw + b"\x00" if len(entries) == limit else b""
    return [row for row in rows if row.dead <= now], more
