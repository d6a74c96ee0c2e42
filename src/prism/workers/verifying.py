"""Promises that are due: clients' are looked at (HEAD) and kept, put off or broken; dead writers' are broken.

A client's promise is broken only after a look that was started at or after its death. A look that failed puts the
promise off like one that found nothing, so that one unreachable key does not keep the others waiting. The promise of a
staging key is looked at until it is dead; what was taken there goes early when the object that it became was deleted.
"""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from ..catalog import uploads
from ..catalog.rows import PromiseRow
from ..errors import PrismError
from ..failpoints import failpoint
from ..meta import Txn, View
from ..namespaces import Namespace, at_once
from ..recognition import verify
from .deleting import delete_leftovers
from .duty import Duty

__all__ = ["break_writers", "verify_due"]

_LOOKS = 160


class _Look(msgspec.Struct, frozen=True):
    """One look: when it was started, whether new bytes were there (then they are taken), or why it failed."""

    promise: PromiseRow
    started_at: datetime
    landed: bool
    error: PrismError | None = None


async def verify_due(duty: Duty) -> bool:
    """Look at one batch of clients' promises that are due; True when more may be due. Raises the first failure of a
    look, after everything else was done."""
    limit = min(duty.batch, _LOOKS)

    async def due(view: View) -> list[PromiseRow]:
        return await uploads.due(view, duty.space.name, duty.now(), limit)

    promises = await duty.read(due)
    looks = await at_once(lambda promise: _look(duty.space, promise), promises)
    failpoint("janitor.after_look")
    await delete_leftovers(duty.space, [look.promise for look in looks if not look.landed and look.error is None])
    await _conclude(duty, [look for look in looks if not look.landed])
    duty.tally.verified += sum(look.landed for look in looks)
    for look in looks:
        if look.error is not None:
            raise look.error
    return len(promises) == limit


async def _look(space: Namespace, promise: PromiseRow) -> _Look:
    started_at = space.now()
    try:
        return _Look(promise, started_at, await verify(space, promise))
    except PrismError as error:
        return _Look(promise, started_at, False, error)


async def _conclude(duty: Duty, looks: Sequence[_Look]) -> None:
    """Break the dead ones whose bytes are not there, put the others off."""
    if not looks:
        return
    rules, now = duty.space.rules, duty.now()

    async def body(tx: Txn) -> int:
        broken = 0
        for look in looks:
            if look.error is None and look.started_at >= look.promise.dead:
                refused = await uploads.break_due(tx, rules, look.promise, look.started_at, now)
                broken += refused is None
            else:
                await uploads.looked_at(tx, rules, look.promise, now)
        return broken

    duty.tally.broken += await duty.hold.transact(body)


async def break_writers(duty: Duty) -> bool:
    """Break the promises of Prism's own writers that are dead; their number is that of the writes under way."""
    after = b""
    while True:
        dead, after = await _page(duty, after)
        if dead:
            await _break(duty, dead)
        if not after:
            return False


async def _page(duty: Duty, after: bytes) -> tuple[list[PromiseRow], bytes]:
    async def body(view: View) -> tuple[list[PromiseRow], bytes]:
        return await uploads.overdue_writers(view, duty.space.name, duty.now(), after, duty.batch)

    return await duty.read(body)


async def _break(duty: Duty, promises: Sequence[PromiseRow]) -> None:
    rules, now = duty.space.rules, duty.now()

    async def body(tx: Txn) -> int:
        return sum([await uploads.break_due(tx, rules, promise, None, now) is None for promise in promises])

    failpoint("janitor.before_break")
    duty.tally.broken += await duty.hold.transact(body)
