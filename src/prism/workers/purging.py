"""Rows whose time is over: what expired is unlinked, what lies below a deleted folder is condemned.

Index entries and marks are where to look; the transactions look at the rows themselves. A mark goes only when a whole
pass has found every kind of row clean, the garbage below the folder was brought forward, and the very transaction that
removes it finds nothing dead where it looks. A purge that was interrupted begins again: what it did stays done.
"""

from datetime import datetime

import msgspec

from ..catalog import garbage, listing, marks
from ..catalog import objects as transitions
from ..catalog.marks import FolderMark
from ..catalog.purge import KINDS, Stretch, purge_step
from ..catalog.rows import Hint
from ..failpoints import failpoint
from ..meta import Txn, View
from .duty import Duty

__all__ = ["Purge", "expire_due"]

_MOST_ROWS = 1000
_RECHECKED = 200
_WHOLE_FOLDER_BYTES = 512
"""Physical keys show folders up to here in full, and more; longer names may be cut, and neighbours look alike."""


async def expire_due(duty: Duty) -> bool:
    """Unlink one batch of what expired; True when more may be due."""
    now, limit = duty.now(), min(duty.batch, _MOST_ROWS)

    async def due(view: View) -> list[Hint]:
        return await listing.expiring_hints(view, duty.space.name, now, limit)

    hints = await duty.read(due)
    if not hints:
        return False

    async def body(tx: Txn) -> int:
        return await transitions.expire(tx, duty.space.rules, hints, now)

    failpoint("janitor.before_expire")
    duty.tally.expired += await duty.hold.transact(body)
    return len(hints) == limit


class _Progress(msgspec.Struct, frozen=True):
    """How far the purge of one mark has come. `garbage` is the key to go on after, None when all was brought
    forward."""

    mark: FolderMark
    rows: Stretch = Stretch()
    garbage: str | None = ""


class Purge:
    """The purge of a namespace's deleted folders, one after the other; remembers where it stands between steps."""

    def __init__(self) -> None:
        self._at: _Progress | None = None

    async def step(self, duty: Duty) -> bool:
        """One transaction's worth of the first standing mark; True when more is to be done."""

        async def first(view: View) -> list[FolderMark]:
            return await marks.marks(view, duty.space.name, 1)

        standing = await duty.read(first)
        if not standing:
            self._at = None
            return False
        at = self._at if self._at is not None and self._at.mark == standing[0] else _Progress(standing[0])
        if not at.rows.done:
            self._at = await self._rows(duty, at)
        elif at.garbage is not None:
            self._at = await self._garbage(duty, at)
        else:
            self._at = None
            await self._remove(duty, at.mark)
        return True

    async def _rows(self, duty: Duty, at: _Progress) -> _Progress:
        now, limit = duty.now(), min(duty.batch, _MOST_ROWS)

        async def body(tx: Txn) -> Stretch:
            return await purge_step(tx, duty.space.rules, at.mark, at.rows, now, limit)

        rows = await duty.hold.transact(body)
        duty.tally.purged += rows.purged - at.rows.purged
        failpoint("purge.after_step")
        return msgspec.structs.replace(at, rows=rows)

    async def _garbage(self, duty: Duty, at: _Progress) -> _Progress:
        """Bring the first deletion of older garbage below the folder forward."""
        if len(at.mark.folder.encode()) > _WHOLE_FOLDER_BYTES:
            return msgspec.structs.replace(at, garbage=None)
        prefix = duty.space.layout.folder_prefix(at.mark.bucket, at.mark.folder)
        now, after, limit = duty.now(), at.garbage or "", min(duty.batch, _MOST_ROWS)

        async def body(tx: Txn) -> str | None:
            return await garbage.bring_forward(tx, duty.space.rules, prefix, after, now, limit)

        further = await duty.hold.transact(body)
        failpoint("purge.after_garbage")
        return msgspec.structs.replace(at, garbage=further)

    async def _remove(self, duty: Duty, mark: FolderMark) -> None:
        now = duty.now()

        async def body(tx: Txn) -> tuple[int, bool]:
            found = await _recheck(tx, duty, mark, now)
            return found, found == 0 and await marks.remove(tx, duty.space.name, mark)

        failpoint("purge.before_remove")
        purged, removed = await duty.hold.transact(body)
        failpoint("purge.after_remove")
        duty.tally.purged += purged
        duty.tally.marks_removed += removed


async def _recheck(tx: Txn, duty: Duty, mark: FolderMark, now: datetime) -> int:
    """The first rows of each kind once more, in the transaction that removes the mark; how many were dead after all."""
    purged = 0
    for kind in range(len(KINDS)):
        purged += (await purge_step(tx, duty.space.rules, mark, Stretch(kind), now, _RECHECKED)).purged
    return purged
