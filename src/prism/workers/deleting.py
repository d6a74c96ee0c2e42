"""The only place that deletes bytes: garbage whose time has come, in calls that start at or after it.

Before anything is deleted the process's clock is compared with the store's; when they differ by more than the allowed
skew nothing is deleted until they agree. A key that the store refuses to delete is put off and does not hold up the
others. Where a promise ended, uploads in parts that its writer or client left open are aborted first; where one was
kept, once more when none of its requests can come any more. Keys that others may write are deleted only while they hold
the bytes that were condemned.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from ..blob.driver import EtagMismatch
from ..catalog import garbage, uploads
from ..catalog.garbage import Due
from ..catalog.rows import PromiseRow
from ..errors import ErrorCode, PrismError
from ..failpoints import failpoint
from ..meta import Txn, View
from ..namespaces import Namespace, at_once
from .duty import Duty

__all__ = ["clock_difference", "delete_due", "delete_leftovers", "forget_late_parts"]

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
    if not ready or await _clocks_differ(duty) or await _belongs_to_others(duty):
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


async def _belongs_to_others(duty: Duty) -> bool:
    """A deployment whose store another one took over deletes nothing there any more."""
    if duty.is_ours is None or await duty.is_ours(duty.space):
        return False
    duty.tally.stopped = "the store's owner marker is gone, or names somebody else; no bytes are deleted"
    return True


async def _delete(duty: Duty, part: Sequence[Due]) -> None:
    """One call to the store, and what it achieved."""
    failpoint("janitor.before_delete")
    started_at = duty.now()
    refused = await _deleted(duty.space, part)
    failpoint("janitor.after_delete")
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


async def _deleted(space: Namespace, part: Sequence[Due]) -> Mapping[str, Exception]:
    """Delete each; why not, for those that the store refused."""
    refused = await _singly(
        [item for item in part if _open_parts(space, item)], lambda item: _abort(space, item.physical_key)
    )
    part = [item for item in part if item.physical_key not in refused]
    pinned = [item for item in part if item.row.pinned]
    refused |= await _singly(
        pinned, lambda item: _delete_pinned(space, item.physical_key, item.row.store_etag, item.row.landed_at)
    )
    if plain := [item.physical_key for item in part if not item.row.pinned]:
        results = await space.store.delete_many(plain)
        refused |= {result.key: result.error for result in results if result.error is not None}
    return refused


async def _singly(items: Sequence[Due], do: Callable[[Due], Awaitable[None]]) -> dict[str, Exception]:
    """Do it for each, some at once; why not, for those that failed."""

    failed = await at_once(lambda item: _failure(do(item)), items)
    return {item.physical_key: error for item, error in zip(items, failed, strict=True) if error is not None}


async def _failure(work: Awaitable[None]) -> PrismError | None:
    try:
        await work
    except PrismError as error:
        return error
    return None


def _open_parts(space: Namespace, item: Due) -> bool:
    return item.row.unfinished and space.store.capabilities.multipart


async def _abort(space: Namespace, physical_key: str) -> None:
    """Forget what was begun in parts under the key."""
    for upload in await space.store.open_multiparts(physical_key):
        await space.store.abort_multipart(upload.key, upload.upload)
    failpoint("janitor.after_abort")


async def _delete_pinned(space: Namespace, physical_key: str, etag: str | None, landed_at: datetime | None) -> None:
    """Delete those very bytes; what others wrote there since stays, also where the same content has the same etag."""
    info = await space.store.head(physical_key)
    if info is None or (landed_at is not None and info.landed_at != landed_at):
        return
    with suppress(EtagMismatch):
        await space.store.delete_if(physical_key, etag or "")


async def forget_late_parts(duty: Duty) -> bool:
    """Abort what was begun under the keys of objects in parts after they were made; True when more may be due. The
    object needs none of it, so no clock is asked. Raises the first failure, after everything else was done."""
    space = duty.space

    async def due(view: View) -> list[tuple[datetime, str]]:
        return await uploads.late_parts(view, space.name, duty.now(), duty.batch)

    found = await duty.read(due)
    if not found or await _belongs_to_others(duty):
        return False
    failed = await at_once(lambda item: _failure(_abort(space, item[1])), found)
    done = [item for item, error in zip(found, failed, strict=True) if error is None]

    async def body(tx: Txn) -> None:
        await uploads.forgot_late_parts(tx, space.name, done)

    await duty.hold.transact(body)
    for error in failed:
        if error is not None:
            raise error
    return len(found) == duty.batch


async def delete_leftovers(space: Namespace, promises: Sequence[PromiseRow]) -> None:
    """Staging bytes whose object was deleted go before their promise's time, where the store can spare those that came
    by the same URL since; elsewhere they stay until it is dead. They are referenced by nobody, so no clock is asked."""
    if not space.store.capabilities.conditional_delete:
        return
    taken = [(row.physical_key, row.taken) for row in promises if row.leftover and row.taken is not None]
    with suppress(PrismError):  # what the store would not delete now goes with its promise
        await at_once(lambda item: _delete_pinned(space, item[0], item[1].etag, item[1].landed_at), taken)
