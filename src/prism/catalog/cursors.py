"""How far a walk through a namespace's store came, by the name of the walk, so that it goes on when it was broken
off."""

from datetime import datetime

from ..meta import Txn, View, tuples
from .rows import CursorRow, cursor_key, decode, encode

__all__ = ["forget_cursor", "keep_cursor", "kept_cursor", "unfinished"]

_MOST = 1000


async def kept_cursor(view: View, namespace: str, name: str) -> str:
    """The last key that the walk was done with; empty for a walk that is not under way."""
    value = await view.get(cursor_key(namespace, name))
    return "" if value is None else decode(CursorRow, value).after


async def keep_cursor(tx: Txn, namespace: str, name: str, after: str, now: datetime) -> None:
    """The walk is done with everything up to `after`."""
    value = await tx.get(cursor_key(namespace, name))
    began_at = now if value is None else decode(CursorRow, value).began_at
    tx.set(cursor_key(namespace, name), encode(CursorRow(after=after, began_at=began_at)))


async def forget_cursor(tx: Txn, namespace: str, name: str) -> None:
    """The walk came to its end."""
    tx.clear(cursor_key(namespace, name))


async def unfinished(view: View, namespace: str) -> list[str]:
    """The names of the walks under way."""
    start, end = tuples.span((namespace, "i"))
    return [str(entry.key[-1]) for entry in await view.range(start, end, limit=_MOST)]
