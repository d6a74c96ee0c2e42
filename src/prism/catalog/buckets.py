"""Further buckets of a namespace, beside its own."""

from collections.abc import Iterable
from datetime import datetime

from ..errors import ErrorCode, PrismError
from ..meta import Txn, View, tuples
from .listing import holds_rows
from .objects import Unsettled
from .rows import BucketRow, PromiseRow, Rules, bucket_key, decode, encode
from .uploads import abandon, require_bucket

__all__ = ["add_missing", "create", "listed", "remove"]

_MOST_OPEN = 200


async def create(tx: Txn, rules: Rules, bucket: str, now: datetime) -> None:
    """BUCKET_EXISTS when the namespace has it already."""
    key = bucket_key(rules.namespace, bucket)
    if bucket == rules.own_bucket or await tx.get(key) is not None:
        raise PrismError(ErrorCode.BUCKET_EXISTS, f"namespace {rules.namespace!r} has the bucket {bucket!r} already")
    tx.set(key, encode(BucketRow(created_at=now)))


async def add_missing(tx: Txn, rules: Rules, buckets: Iterable[str], now: datetime) -> None:
    """Create those that the namespace has not."""
    wanted = sorted(set(buckets) - {rules.own_bucket})
    values = await tx.get_many([bucket_key(rules.namespace, bucket) for bucket in wanted])
    for bucket, value in zip(wanted, values, strict=True):
        if value is None:
            tx.set(bucket_key(rules.namespace, bucket), encode(BucketRow(created_at=now)))


async def remove(
    tx: Txn, rules: Rules, bucket: str, now: datetime, settled: frozenset[str] = frozenset()
) -> Unsettled | None:
    """BUCKET_NOT_EMPTY while a live object or a kept version lies in it. Dead rows go on being purged without it.

    Open client promises other than the `settled` version ids must be looked at first; those still open then are void
    with the bucket, so that no URL of today writes into a bucket of the same name made tomorrow.
    """
    if bucket == rules.own_bucket:
        raise PrismError(ErrorCode.PERMISSION_DENIED, "a namespace's own bucket belongs to its configuration")
    await require_bucket(tx, rules, bucket)
    start, end = tuples.span((rules.namespace, "v", bucket))
    if await holds_rows(tx, rules, bucket, now) or await tx.range(start, end, limit=1):
        raise PrismError(ErrorCode.BUCKET_NOT_EMPTY, f"bucket {bucket!r} still holds objects; delete them first")
    start, end = tuples.span((rules.namespace, "u", bucket))
    entries = await tx.range(start, end, limit=_MOST_OPEN + 1)
    promises = [decode(PromiseRow, entry.value) for entry in entries]
    unsettled = [row for row in promises if row.version_id not in settled]
    if len(promises) > _MOST_OPEN:
        raise PrismError(ErrorCode.BUCKET_NOT_EMPTY, f"more than {_MOST_OPEN} uploads to bucket {bucket!r} are open")
    if unsettled:
        return Unsettled(unsettled)
    for row in promises:
        await abandon(tx, rules, row, now, reason="purged")
    tx.clear(bucket_key(rules.namespace, bucket))
    return None


async def listed(view: View, rules: Rules, limit: int = 1000) -> list[str]:
    """The namespace's buckets: its own first, then the others in order."""
    start, end = tuples.span((rules.namespace, "b"))
    return [rules.own_bucket, *(str(e.key[2]) for e in await view.range(start, end, limit=limit))]
