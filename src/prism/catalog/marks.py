"""Deletion marks: a folder of any size vanishes in one transaction; its rows are purged in bounded steps afterwards.

The namespace's deletion counter rises with every such deletion; the mark keeps its value, rows and promises carry the
value of their own transaction (their generation). A row is alive while no mark on one of its ancestor folders is newer.
No row or promise older than a standing mark can come into being under it, so what a step has passed stays clean.
"""

from datetime import datetime

import msgspec

from ..keys import ancestors
from ..meta import Txn, View, tuples
from .outbox import announce
from .rows import MarkRow, NamespaceRow, Rules, decode, encode, mark_key, namespace_key

__all__ = ["FolderMark", "delete_folder", "marks", "namespace_row", "newest", "newest_in", "newest_mark", "remove"]


class FolderMark(msgspec.Struct, frozen=True):
    """A mark and where it stands."""

    bucket: str
    folder: str
    row: MarkRow


async def namespace_row(view: View, namespace: str) -> NamespaceRow:
    """The namespace's deletion counter; zero when nothing was ever deleted by folder."""
    value = await view.get(namespace_key(namespace))
    return NamespaceRow() if value is None else decode(NamespaceRow, value)


async def newest(view: View, space: NamespaceRow, namespace: str, bucket: str, key: str) -> int:
    """The counter of the newest mark above `key`; 0 when there is none (no reads while the namespace has no mark)."""
    mark = await newest_mark(view, space, namespace, bucket, key) if space.marks else None
    return 0 if mark is None else mark.counter


async def newest_mark(view: View, space: NamespaceRow, namespace: str, bucket: str, key: str) -> MarkRow | None:
    """The newest mark above `key`."""
    if not space.marks:
        return None
    values = await view.get_many([mark_key(namespace, bucket, folder) for folder in ancestors(key)])
    marks_above = [decode(MarkRow, value) for value in values if value is not None]
    return max(marks_above, key=lambda mark: mark.counter, default=None)


async def newest_in(
    view: View, space: NamespaceRow, namespace: str, bucket: str, key: str, known: dict[str, int]
) -> int:
    """As `newest`, for many keys of one transaction: `known` remembers the marks of folders already looked up."""
    if not space.marks:
        return 0
    folders = ancestors(key)
    missing = [folder for folder in folders if folder not in known]
    if missing:
        values = await view.get_many([mark_key(namespace, bucket, folder) for folder in missing])
        for folder, value in zip(missing, values, strict=True):
            known[folder] = 0 if value is None else decode(MarkRow, value).counter
    return max((known[folder] for folder in folders), default=0)


async def delete_folder(tx: Txn, rules: Rules, bucket: str, folder: str, now: datetime) -> None:
    """Everything below `folder` (it ends in `/`) is gone for every reader once this commits."""
    space = await namespace_row(tx, rules.namespace)
    key = mark_key(rules.namespace, bucket, folder)
    fresh = await tx.get(key) is None
    counter = space.deletions + 1
    tx.set(key, encode(MarkRow(counter=counter, at=now)))
    tx.set(namespace_key(rules.namespace), encode(NamespaceRow(deletions=counter, marks=space.marks + fresh)))
    announce(tx, rules, "folder.deleted", bucket, folder, now)


async def marks(view: View, namespace: str, limit: int) -> list[FolderMark]:
    """The standing marks, at most `limit`."""
    start, end = tuples.span((namespace, "k"))
    entries = await view.range(start, end, limit=limit)
    return [FolderMark(str(e.key[2]), str(e.key[3]), decode(MarkRow, e.value)) for e in entries]


async def remove(tx: Txn, namespace: str, mark: FolderMark) -> bool:
    """Take the mark away when it is still the one whose range was found clean."""
    key = mark_key(namespace, mark.bucket, mark.folder)
    value = await tx.get(key)
    if value is None or decode(MarkRow, value).counter != mark.row.counter:
        return False
    space = await namespace_row(tx, namespace)
    tx.clear(key)
    tx.set(namespace_key(namespace), encode(NamespaceRow(deletions=space.deletions, marks=space.marks - 1)))
    return True
