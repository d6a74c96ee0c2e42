"""Further buckets of a namespace, beside its own."""

from datetime import datetime

from ..errors import ErrorCode, PrismError
from ..meta import Txn, View, tuples
from .listing import Wanted, page
from .rows import BucketRow, Rules, bucket_key, encode
from .uploads import require_bucket

__all__ = ["create", "listed", "remove"]


async def create(tx: Txn, rules: Rules, bucket: str, now: datetime) -> None:
    """BUCKET_EXISTS when the namespace has it already."""
    key = bucket_key(rules.namespace, bucket)
    if bucket == rules.own_bucket or await tx.get(key) is not None:
        raise PrismError(ErrorCode.BUCKET_EXISTS, f"namespace {rules.namespace!r} has the bucket {bucket!r} already")
    tx.set(key, encode(BucketRow(created_at=now)))


async def remove(tx: Txn, rules: Rules, bucket: str, now: datetime) -> None:
    """BUCKET_NOT_EMPTY while a live object or a kept version lies in it. Dead rows go on being purged without it."""
    if bucket == rules.own_bucket:
        raise PrismError(ErrorCode.PERMISSION_DENIED, "a namespace's own bucket belongs to its configuration")
    wanted = Wanted(bucket=bucket, prefix="", delimiter="", after="", limit=1, open_budget=1)
    live = await page(tx, rules, wanted, now)
    start, end = tuples.span((rules.namespace, "v", bucket))
    if live.resume is not None or live.rows or await tx.range(start, end, limit=1):
        raise PrismError(ErrorCode.BUCKET_NOT_EMPTY, f"bucket {bucket!r} still holds objects; delete them first")
    tx.clear(bucket_key(rules.namespace, bucket))


async def listed(view: View, rules: Rules, limit: int = 1000) -> list[str]:
    """The namespace's buckets: its own first, then the others in order."""
    start, end = tuples.span((rules.namespace, "b"))
    return [rules.own_bucket, *(str(e.key[2]) for e in await view.range(start, end, limit=limit))]
