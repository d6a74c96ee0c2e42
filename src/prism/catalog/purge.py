"""The purge of a deleted folder: dead rows and promises below a mark are condemned in bounded steps, then the mark
goes.

Each step looks at one stretch of one kind of row and says where the next begins. Rows older than a mark cannot come
into being while it stands, so what a step has passed stays clean, and the mark may go once the last stretch was passed.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime

import msgspec

from ..meta import Entry, Txn, View, tuples
from . import uploads
from .garbage import find
from .marks import FolderMark, namespace_row, newest_in, newest_mark
from .objects import drop_dead
from .rows import ObjectRow, PromiseRow, Rules, VersionRow, decode, object_key

__all__ = ["KINDS", "Stretch", "overtaken", "purge_step"]

KINDS = ("o", "v", "u", "w")


class Stretch(msgspec.Struct, frozen=True):
    """Where a purge stands: the kind of row and the key to go on after; `done` when nothing is left to look at."""

    kind: int = 0
    after: bytes = b""
    purged: int = 0
    done: bool = False


async def purge_step(tx: Txn, rules: Rules, mark: FolderMark, at: Stretch, now: datetime, limit: int) -> Stretch:
    """Look at up to `limit` rows below the mark; condemn those that are dead."""
    start, end = tuples.span_text((rules.namespace, KINDS[at.kind], mark.bucket), mark.folder)
    entries = await tx.range(max(start, at.after), end, limit=limit)
    space = await namespace_row(tx, rules.namespace)
    known: dict[str, int] = {}
    purged = at.purged
    for entry in entries:
        key = str(entry.key[3])
        newest = await newest_in(tx, space, rules.namespace, mark.bucket, key, known)
        purged += await _STEPS[at.kind](tx, rules, entry, newest, now)
    if len(entries) == limit:
        return Stretch(at.kind, entries[-1].raw + b"\x00", purged)
    if at.kind + 1 < len(KINDS):
        return Stretch(at.kind + 1, b"", purged)
    return Stretch(at.kind, b"", purged, done=True)


async def _object(tx: Txn, rules: Rules, entry: Entry, newest: int, now: datetime) -> bool:
    row = decode(ObjectRow, entry.value)
    if row.generation >= newest:
        return False
    drop_dead(tx, rules, entry.key, row, now)
    return True


async def _version(tx: Txn, rules: Rules, entry: Entry, newest: int, now: datetime) -> bool:
    kept = decode(VersionRow, entry.value)
    if kept.generation >= newest:
        return False
    drop_dead(tx, rules, entry.key, kept.row, now)
    return True


async def _promise(tx: Txn, rules: Rules, entry: Entry, newest: int, now: datetime) -> bool:
    row = decode(PromiseRow, entry.value)
    return row.generation < newest and await uploads.abandon(tx, rules, row, now, reason="purged")


_STEPS: tuple[Callable[[Txn, Rules, Entry, int, datetime], Awaitable[bool]], ...] = (
    _object,
    _version,
    _promise,
    _promise,
)


async def overtaken(view: View, rules: Rules, bucket: str, key: str, version_id: str, physical_key: str) -> bool:
    """Whether an upload whose promise is gone is older than a deletion of one of its folders, purged or not yet."""
    garbage = await find(view, rules.namespace, physical_key)
    if garbage is not None and garbage.reason == "purged":
        return True
    space = await namespace_row(view, rules.namespace)
    mark = await newest_mark(view, space, rules.namespace, bucket, key)
    if mark is None:
        return False
    if garbage is not None:
        return garbage.condemned_at <= mark.at
    value = await view.get(object_key(rules.namespace, bucket, key))
    row = None if value is None else decode(ObjectRow, value)
    return row is not None and row.version_id == version_id and row.generation < mark.counter
