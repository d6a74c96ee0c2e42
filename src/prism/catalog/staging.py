"""What comes by a URL that may write more than once: taken from its staging key by a copy, as often as it changes.

The promise of the staging key stands until it is dead and notes the pair (etag, landing time) that was taken last; the
same pair is nothing new. Each copy has a promise of its own, for a fresh key, which notes what had been taken when it
was made. Its commit asks for both: the staging promise stands, no newer mark is above it, and nothing else was taken
meanwhile; then it references the copy and notes the new pair, consuming only the copy's promise. So a recogniser that
slept can neither bring back what was overwritten or deleted since nor hide what came later.
"""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from ..errors import ErrorCode
from ..meta import Key, Txn
from .marks import namespace_row, newest
from .objects import Facts, Superseded, overtaken, swap
from .rows import (
    NamespaceRow,
    ObjectRow,
    PromiseRow,
    Refused,
    Rules,
    Taken,
    decode,
    namespace_key,
    object_key,
    promise_key,
)
from .uploads import abandon, find, promise, store

__all__ = ["Again", "Nothing", "commit_copy", "commit_copy_reads", "pair_of", "promise_copy", "same"]


class Again(msgspec.Struct, frozen=True):
    """The staging key, its promise or the copy changed meanwhile: look again."""


class Nothing(msgspec.Struct, frozen=True):
    """These very bytes were taken before."""


def pair_of(etag: str, landed_at: datetime, version_id: str = "") -> Taken:
    """What tells one write to a staging key from another."""
    return Taken(etag=etag, landed_at=landed_at, version_id=version_id)


def same(one: Taken | None, other: Taken) -> bool:
    """Whether both are the same write."""
    return one is not None and (one.etag, one.landed_at) == (other.etag, other.landed_at)


async def promise_copy(
    tx: Txn, rules: Rules, staged: PromiseRow, pair: Taken, wanted: PromiseRow, now: datetime
) -> PromiseRow | Nothing | Again | Refused:
    """Promise the copy of what lies under a staging key; returns its promise. `staged` is its promise as it was read
    before the HEAD that showed the pair: of what was taken since, that HEAD knows nothing."""
    row = await find(tx, rules, staged)
    if row is None:
        return _GONE
    space = await namespace_row(tx, rules.namespace)
    mark = await newest(tx, space, rules.namespace, row.bucket, row.key)
    refusal = await overtaken(tx, rules, row, mark, now)
    if refusal is not None:
        return refusal
    if same(row.taken, pair):
        return Nothing()
    if row.taken != staged.taken:
        return Again()
    copy = msgspec.structs.replace(
        wanted, copy_of=row.version_id, taken=row.taken, precondition=row.precondition, generation=space.deletions
    )
    await promise(tx, rules, copy)
    return copy


_GONE = Refused(code=ErrorCode.OUTCOME_UNKNOWN, message="the upload's promise is gone: repeat the request")


def commit_copy_reads(rules: Rules, staged: PromiseRow, copy: PromiseRow) -> Sequence[Key]:
    """What `commit_copy` reads first, for prefetching."""
    return [
        object_key(rules.namespace, copy.bucket, copy.key),
        promise_key(rules.namespace, copy),
        promise_key(rules.namespace, staged),
        namespace_key(rules.namespace),
    ]


async def commit_copy(
    tx: Txn, rules: Rules, staged: PromiseRow, copy: PromiseRow, facts: Facts, pair: Taken, now: datetime
) -> ObjectRow | Superseded | Refused | Again:
    """Reference the copy as the key's current content, and note the pair as taken."""
    values = await tx.get_many(commit_copy_reads(rules, staged, copy))
    current = None if values[0] is None else decode(ObjectRow, values[0])
    if current is not None and current.version_id == copy.version_id:
        return current
    if values[1] is None:
        return Again()
    own = decode(PromiseRow, values[1])
    row = None if values[2] is None else decode(PromiseRow, values[2])
    space = NamespaceRow() if values[3] is None else decode(NamespaceRow, values[3])
    if row is None or row.taken != own.taken:
        await abandon(tx, rules, own, now)
        return Again()
    mark = await newest(tx, space, rules.namespace, row.bucket, row.key)
    refusal = await overtaken(tx, rules, row, mark, now)
    if refusal is not None:
        await abandon(tx, rules, own, now, reason="purged")
        return refusal
    outcome = await swap(tx, rules, own, current, mark, facts, now, generation=space.deletions)
    became = "" if isinstance(outcome, Refused) else own.version_id
    taken = msgspec.structs.replace(pair, version_id=became)
    store(tx, rules, msgspec.structs.replace(row, taken=taken, leftover=False))
    return outcome
