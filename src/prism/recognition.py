"""What clients uploaded by URL: look for the bytes (HEAD), compare them with the promise, and take what landed.

Reads, lists, writes and the janitor's verifier all come here, so a client's 200 is seen by the next read without any
call back. Bytes under a final key are committed where they lie, those under a staging key by a copy, as often as other
bytes lie there. What landed is taken in the order in which the store says it landed, and never before everything that
landed earlier: after something was found, the key's other open promises are looked at again until nothing new is there.
Nothing that landed is passed over: it is taken, refused for good, or the caller hears UPLOAD_PENDING.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from . import staging
from .blob.driver import BlobInfo
from .catalog import objects as transitions
from .catalog import uploads as promises
from .catalog.objects import Facts, Superseded
from .catalog.rows import ObjectRow, PromiseRow, Refused
from .catalog.staging import Again, Nothing, pair_of, same
from .checking import Unlike, checked
from .errors import ErrorCode, PrismError
from .failpoints import failpoint
from .meta import Txn, View
from .namespaces import Namespace, at_once

__all__ = ["Landed", "Outcome", "look_at", "settle", "settle_key", "verify"]

Outcome = ObjectRow | Superseded | Refused
_ROUNDS = 40


class Landed(msgspec.Struct, frozen=True):
    """Bytes of an upload that are there and as declared."""

    upload: PromiseRow
    info: BlobInfo
    facts: Facts


async def settle(space: Namespace, uploads: Sequence[PromiseRow]) -> bool:
    """Look at each promise and take what landed; says whether the caller's view of the catalog is out of date.

    STORE_DOWN when a look failed, UPLOAD_PENDING when bytes were seen but could not be taken: the caller must not go on
    as if they were not there. What landed but was refused (mark, precondition) is passed over and gone; what is not as
    declared is passed over and stays invisible.
    """
    keys: dict[tuple[str, str], list[Landed]] = {}
    for landed in await _look(space, uploads):
        keys.setdefault((landed.upload.bucket, landed.upload.key), []).append(landed)
    await at_once(lambda place: settle_key(space, *place, keys[place]), list(keys))
    return bool(keys)


async def settle_key(
    space: Namespace,
    bucket: str,
    key: str,
    landed: Sequence[Landed] = (),
    known: Mapping[str, Facts] | None = None,
) -> Mapping[str, Outcome]:
    """Take what landed of one key, given what was found so far; `known` are facts that a HEAD cannot tell, by version
    id. Returns what became of each, by the version id of its promise."""
    seen = {found.upload.version_id: found for found in landed}
    outcomes: dict[str, Outcome] = {}
    for _ in range(_ROUNDS):
        uploads = await _open(space, bucket, key)
        fresh = await _look(space, [upload for upload in uploads if upload.version_id not in seen])
        if fresh:
            seen |= {found.upload.version_id: found for found in fresh}
            continue
        arrived = [seen[upload.version_id] for upload in uploads if upload.version_id in seen]
        again = await _take_all(space, arrived, known or {}, outcomes)
        if again is None:
            return outcomes
        del seen[again]
    raise _pending()


async def _take_all(
    space: Namespace, arrived: Sequence[Landed], known: Mapping[str, Facts], outcomes: dict[str, Outcome]
) -> str | None:
    """Take what arrived in the order in which it landed, and note what became of it; the version id of the promise
    that must be looked at again, if any."""
    for landed in sorted(arrived, key=_landing):
        version_id = landed.upload.version_id
        facts = known.get(version_id) or landed.facts
        try:
            outcome = await _take(space, landed.upload, landed.info, facts)
        except PrismError as error:
            raise _pending() from error
        if isinstance(outcome, Again):
            return version_id
        if not isinstance(outcome, Nothing):
            outcomes[version_id] = outcome
    return None


def _landing(landed: Landed) -> tuple[datetime, str]:
    return landed.facts.landed_at or landed.info.landed_at, landed.upload.version_id


async def verify(space: Namespace, upload: PromiseRow) -> bool:
    """The janitor's look at one promise: True when something new was there and as declared (then it is settled now)."""
    return await settle(space, [upload])


async def look_at(space: Namespace, upload: PromiseRow) -> Landed | Unlike | None:
    """HEAD one: what is new there, or that it is not as declared; None when nothing new is there."""
    for _ in range(_ROUNDS):
        if upload.upload is not None and upload.sealed is None:
            return None
        info = await space.store.head(upload.physical_key)
        if info is None or (upload.way == "staging" and same(upload.taken, pair_of(info.etag, info.landed_at))):
            return None
        facts = await checked(space, upload, info)
        if facts is not None:
            return facts if isinstance(facts, Unlike) else Landed(upload, info, facts)
    raise _pending()


async def _look(space: Namespace, uploads: Sequence[PromiseRow]) -> list[Landed]:
    """Look at each; those whose bytes are new and as declared."""
    found = await at_once(lambda upload: look_at(space, upload), uploads)
    return [landed for landed in found if isinstance(landed, Landed)]


async def _open(space: Namespace, bucket: str, key: str) -> Sequence[PromiseRow]:
    async def body(view: View) -> Sequence[PromiseRow]:
        return await promises.open_uploads(view, space.rules, bucket, key)

    return await space.meta.read(body)


async def _take(space: Namespace, upload: PromiseRow, info: BlobInfo, facts: Facts) -> Outcome | Nothing | Again:
    if upload.way == "staging":
        return await staging.take(space, upload, info, facts)
    if upload.upload:
        await _forget_parts(space, upload)

    async def body(tx: Txn) -> Outcome:
        return await transitions.commit(tx, space.rules, upload, facts, space.now())

    failpoint("recognition.before_commit")
    outcome = await space.meta.transact(space.name, body, transitions.commit_reads(space.rules, upload))
    failpoint("recognition.after_commit")
    return outcome


async def _forget_parts(space: Namespace, upload: PromiseRow) -> None:
    """The object is there, but whoever put it together may have died before the store forgot its parts; once the
    promise is kept nobody knows of them any more."""
    for left in await space.store.open_multiparts(upload.physical_key):
        await space.store.abort_multipart(left.key, left.upload)


def _pending() -> PrismError:
    return PrismError(
        ErrorCode.UPLOAD_PENDING, "an upload of this key has arrived but could not be recorded yet; try again"
    )
