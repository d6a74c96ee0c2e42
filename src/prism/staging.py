"""Taking what lies under a staging key: a pinned copy inside the store to a fresh key, and its commit.

No URL can ever write to the bytes that a reference names. Every attempt has a fresh key and a promise of its own; the
copy is pinned to the etag that was seen, the commit to what had been taken before. When either changed meanwhile the
caller looks again. A role that may not write to the store would stop here and leave the copy to the janitor.
"""

import msgspec

from .blob.driver import AlreadyExists, BlobInfo, EtagMismatch, NotFound, Stored
from .catalog import staging as transitions
from .catalog.objects import Facts, Superseded
from .catalog.rows import ObjectRow, PromiseRow, Refused, Taken
from .catalog.staging import Again, Nothing, pair_of
from .digests import etag_of
from .failpoints import failpoint
from .holding import Hold, give_up, new_promise, write_options
from .meta import Txn
from .namespaces import Namespace

__all__ = ["Again", "Nothing", "take"]

Taking = ObjectRow | Superseded | Refused | Nothing | Again


async def take(space: Namespace, upload: PromiseRow, info: BlobInfo, facts: Facts) -> Taking:
    """Make what a HEAD found under a staging key the key's content. Those who found the same share the work, which
    runs to its end whoever leaves. Errors: what the store or the catalog fail with."""
    name = ("take", space.name, upload.physical_key, info.etag, info.landed_at)
    return await space.tasks.once(name, lambda: _take(space, upload, info, facts))


async def _take(space: Namespace, upload: PromiseRow, info: BlobInfo, facts: Facts) -> Taking:
    pair = pair_of(info.etag, info.landed_at)
    wanted = new_promise(
        space,
        upload.bucket,
        upload.key,
        content_type=facts.content_type,
        metadata=facts.metadata,
        ttl_seconds=upload.ttl_seconds,
    )

    async def body(tx: Txn) -> PromiseRow | Nothing | Again | Refused:
        return await transitions.promise_copy(tx, space.rules, upload, pair, wanted, space.now())

    failpoint("staging.before_promise")
    copy = await space.meta.transact(space.name, body)
    failpoint("staging.after_promise")
    if not isinstance(copy, PromiseRow):
        return copy
    hold = Hold(space, copy)
    facts = msgspec.structs.replace(facts, etag=info.md5 or etag_of(copy.version_id))
    try:
        stored = await _copied(hold, upload, info, facts)
        failpoint("staging.after_copy")
        if stored is not None:
            facts = msgspec.structs.replace(facts, store_etag=stored.etag)
            return await _commit(space, upload, copy, facts, pair)
    except BaseException:
        await give_up(space, hold.promise)
        raise
    await give_up(space, hold.promise)
    return Again()


async def _copied(hold: Hold, upload: PromiseRow, info: BlobInfo, facts: Facts) -> Stored | None:
    """The copy; None when the staging key holds other bytes now, or a repeated attempt met an earlier one's bytes."""
    copy = hold.promise
    begun = None if facts.landed_at is None else facts.landed_at + hold.space.rules.times_cut
    options = write_options(copy, hold.gate, begun=begun, etag=facts.etag, crc32c=facts.crc32c)
    work = hold.space.store.copy(upload.physical_key, info.etag, copy.physical_key, options)
    try:
        stored = await hold.alongside(work)
    except (NotFound, EtagMismatch, AlreadyExists):
        return None
    return stored if stored.size_bytes == info.size_bytes else None


async def _commit(
    space: Namespace, upload: PromiseRow, copy: PromiseRow, facts: Facts, pair: Taken
) -> ObjectRow | Superseded | Refused | Again:
    async def body(tx: Txn) -> ObjectRow | Superseded | Refused | Again:
        return await transitions.commit_copy(tx, space.rules, upload, copy, facts, pair, space.now())

    failpoint("staging.before_commit")
    outcome = await space.meta.transact(space.name, body, transitions.commit_copy_reads(space.rules, upload, copy))
    failpoint("staging.after_commit")
    return outcome
