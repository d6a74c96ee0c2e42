"""Usage counters: what a namespace holds, kept in the transactions that change it; and the audit that counts again.

Every referenced row counts: current ones, kept versions, and dead ones until they are purged.
"""

import msgspec

from ..meta import Txn, View, tuples
from .rows import ObjectRow, VersionRow, counter_key, decode

__all__ = ["Counted", "Counters", "correct", "count", "counted", "counters"]


class Counters(msgspec.Struct, frozen=True, kw_only=True):
    """The counters of a namespace; `garbage` and `uploads` are backlogs for metrics."""

    objects: int
    size_bytes: int
    garbage: int
    garbage_bytes: int
    uploads: int
    outbox: int


class Counted(msgspec.Struct, frozen=True):
    """A full count."""

    objects: int
    size_bytes: int


def count(tx: Txn, namespace: str, row: ObjectRow, sign: int) -> None:
    """A referenced row came (+1) or went (-1)."""
    tx.add(counter_key(namespace, "objects"), sign)
    tx.add(counter_key(namespace, "bytes"), sign * row.size_bytes)


async def counters(view: View, namespace: str) -> Counters:
    """Read the counters."""
    names = ("objects", "bytes", "garbage", "garbage_bytes", "uploads", "outbox")
    values = [await view.counter(counter_key(namespace, name)) for name in names]
    objects, size, garbage, garbage_bytes, uploads, outbox = values
    return Counters(
        objects=objects,
        size_bytes=size,
        garbage=garbage,
        garbage_bytes=garbage_bytes,
        uploads=uploads,
        outbox=outbox,
    )


async def counted(view: View, namespace: str) -> Counted:
    """Count every referenced row; as long as one snapshot lives, so for tests and namespaces of moderate size."""
    objects = size = 0
    for part, kind in (("o", ObjectRow), ("v", VersionRow)):
        start, end = tuples.span((namespace, part))
        while entries := await view.range(start, end, limit=1000):
            for entry in entries:
                row = decode(kind, entry.value)
                current = row.row if isinstance(row, VersionRow) else row
                if isinstance(current, ObjectRow):
                    objects, size = objects + 1, size + current.size_bytes
            start = entries[-1].raw + b"\x00"
    return Counted(objects, size)


async def correct(tx: Txn, namespace: str) -> tuple[Counted, Counted]:
    """Set the counters to a full count of this transaction; returns (what they said, what is there)."""
    said = await counters(tx, namespace)
    truth = await counted(tx, namespace)
    tx.add(counter_key(namespace, "objects"), truth.objects - said.objects)
    tx.add(counter_key(namespace, "bytes"), truth.size_bytes - said.size_bytes)
    return Counted(said.objects, said.size_bytes), truth
