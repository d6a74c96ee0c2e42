"""The only place that deletes bytes: garbage whose time has come, in calls that start at or after it.

Before anything is deleted the process's clock is compared with the store's; when they differ by more than the allowed
skew nothing is deleted until they agree. A key that the store refuses to delete is put off and does not hold up the
others.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from ..catalog import garbage
from ..catalog.garbage import Due
from ..errors import ErrorCode, PrismError
from ..failpoints import failpoint
from ..meta import Txn, View
from ..namespaces import Namespace
from .duty import Duty

__all__ = ["clock_difference", "delete_due"]

_AT_ONCE = 4
_CALL_KEYS = 1000
_PUT_OFF = timedelta(seconds=60)


async def clock_difference(space: Namespace) -> timedelta:
    """By how much the store's clock is ahead of ours (negative: behind), less what the call's duration may explain."""
    before = space.now()
    theirs = await space.store.now()
    after = space.now()
    if theirs < before:
        return theirs - before
    return max(theirs - after, timedelta(0))


async def delete_due(duty: Duty) -> bool:
    """Delete one batch of garbage that is due; True when more may be. STORE_DOWN when none of it could be deleted."""
    now, size = duty.now(), min(2 * duty.batch, _CALL_KEYS)

    async def due(view: View) -> list[Due]:
        return await garbage.due(view, duty.space.name, now, _AT_ONCE * size)

    found = await duty.read(due)
    failpoint("janitor.after_list")
    ready = [item for item in found if item.row.due <= now]
    if not ready or await _clocks_differ(duty):
        return False
    parts = [ready[start : start + size] for start in range(0, len(ready), size)]
    outcomes = await asyncio.gather(*(_delete(duty, part) for part in parts), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    return len(found) == _AT_ONCE * size


async def _clocks_differ(duty: Duty) -> bool:
    ahead = await clock_difference(duty.space)
    if abs(ahead) <= duty.space.rules.clock_skew:
        return False
    duty.tally.stopped = (
        f"the store's clock is {abs(ahead).total_seconds():.0f} s {'ahead of' if ahead > timedelta(0) else 'behind'} "
        "this process's; no bytes are deleted until they agree"
    )
    return True


async def _delete(duty: Duty, part: Sequence[Due]) -> None:
    """One call to the store, and what it achieved."""
    failpoint("janitor.before_delete")
    started_at = duty.now()
    results = await duty.space.store.delete_many([item.physical_key for item in part])
    failpoint("janitor.after_delete")
    refused = {result.key: result.error for result in results if result.error is not None}
    gone = [item for item in part if item.physical_key not in refused]

    async def body(tx: Txn) -> int:
        if refused:
            await garbage.put_off(tx, duty.space.name, list(refused), started_at + _PUT_OFF)
        return await garbage.removed(tx, duty.space.name, [item.physical_key for item in gone], started_at)

    removed = await duty.hold.transact(body)
    failpoint("janitor.after_removed")
    duty.tally.garbage_removed += removed
    duty.tally.deleted += len(gone)
    duty.tally.deleted_bytes += sum(item.row.size_bytes for item in gone if item.row.dead <= started_at)
    if refused:
        why = next(iter(refused.values()))
        error = PrismError(ErrorCode.STORE_DOWN, f"{len(refused)} keys could not be deleted ({type(why).__name__})")
        if not gone:
            raise error
        duty.tally.failed("delete", error)
