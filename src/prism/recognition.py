"""What clients uploaded by URL: look for the bytes (HEAD), compare them with the promise, and commit what landed.

Reads, lists, writes and the janitor's verifier all come here, so a client's 200 is seen by the next read without any
call back. What landed is taken in the order in which the store says it landed, and never before everything that landed
earlier: after something was found, the key's other open promises are looked at again until nothing new is there.
"""

import asyncio
from collections.abc import Mapping, Sequence

from .blob.driver import BlobInfo
from .catalog import objects as transitions
from .catalog import uploads as promises
from .catalog.objects import Facts, Superseded
from .catalog.rows import ObjectRow, PromiseRow, Refused
from .digests import etag_of
from .errors import ErrorCode, PrismError
from .meta import Txn, View
from .metadata import from_store
from .namespaces import Namespace

__all__ = ["Outcome", "settle", "settle_key", "verify"]

Outcome = ObjectRow | Superseded | Refused
_ROUNDS = 40


async def settle(space: Namespace, uploads: Sequence[PromiseRow]) -> bool:
    """Look at each promise and commit what landed; says whether the caller's view of the catalog is out of date.

    STORE_DOWN when a look failed, UPLOAD_PENDING when bytes were seen but could not be committed: the caller must not
    go on as if they were not there. What landed but was refused (mark, precondition) is passed over and gone; what is
    not as declared is passed over and stays invisible.
    """
    found = await _look(space, uploads)
    keys: dict[tuple[str, str], dict[str, BlobInfo]] = {}
    for upload, info in found:
        keys.setdefault((upload.bucket, upload.key), {})[upload.version_id] = info
    for (bucket, key), landed in keys.items():
        await settle_key(space, bucket, key, landed)
    return bool(keys)


async def settle_key(
    space: Namespace,
    bucket: str,
    key: str,
    landed: Mapping[str, BlobInfo],
    known: Mapping[str, Facts] | None = None,
) -> Mapping[str, Outcome]:
    """Commit what landed of one key, given what was found so far, by version id; `known` are facts that a HEAD cannot
    tell. Returns what became of each."""
    seen = dict(landed)
    uploads: Sequence[PromiseRow] = ()
    for _ in range(_ROUNDS):
        uploads = await _open(space, bucket, key)
        fresh = await _look(space, [upload for upload in uploads if upload.version_id not in seen])
        if not fresh:
            break
        seen |= {upload.version_id: info for upload, info in fresh}
    else:
        raise _pending()
    arrived = [(seen[upload.version_id], upload) for upload in uploads if upload.version_id in seen]
    outcomes: dict[str, Outcome] = {}
    for info, upload in sorted(arrived, key=lambda pair: (pair[0].landed_at, pair[1].version_id)):
        facts = (known or {}).get(upload.version_id) or facts_of(upload, info)
        try:
            outcomes[upload.version_id] = await _commit(space, upload, facts)
        except PrismError as error:
            raise _pending() from error
    return outcomes


async def verify(space: Namespace, upload: PromiseRow) -> bool:
    """The janitor's look at one promise: True when its bytes were there and as declared (then it is settled now)."""
    return await settle(space, [upload])


async def _look(space: Namespace, uploads: Sequence[PromiseRow]) -> list[tuple[PromiseRow, BlobInfo]]:
    """HEAD each; those whose bytes are there and as declared."""
    if not uploads:
        return []
    if len(uploads) == 1:
        infos = [await space.store.head(uploads[0].physical_key)]
    else:
        infos = list(await asyncio.gather(*(space.store.head(upload.physical_key) for upload in uploads)))
    return [
        (upload, info)
        for upload, info in zip(uploads, infos, strict=True)
        if info is not None and _as_declared(upload, info)
    ]


async def _open(space: Namespace, bucket: str, key: str) -> Sequence[PromiseRow]:
    async def body(view: View) -> Sequence[PromiseRow]:
        return await promises.open_uploads(view, space.rules, bucket, key)

    return await space.meta.read(body)


async def _commit(space: Namespace, upload: PromiseRow, facts: Facts) -> Outcome:
    async def body(tx: Txn) -> Outcome:
        return await transitions.commit(tx, space.rules, upload, facts, space.now())

    return await space.meta.transact(space.name, body, transitions.commit_reads(space.rules, upload))


def _pending() -> PrismError:
    return PrismError(
        ErrorCode.UPLOAD_PENDING, "an upload of this key has arrived but could not be recorded yet; try again"
    )


def facts_of(upload: PromiseRow, info: BlobInfo) -> Facts:
    """What a HEAD tells about landed bytes."""
    return Facts(
        size_bytes=info.size_bytes,
        etag=etag_of(upload.version_id),
        store_etag=info.etag,
        content_type=upload.content_type or info.content_type or "application/octet-stream",
        metadata=upload.metadata or from_store(info.metadata),
        crc32c=upload.declared.crc32c,
        sha256=upload.declared.sha256,
        landed_at=info.landed_at,
    )


def _as_declared(upload: PromiseRow, info: BlobInfo) -> bool:
    return upload.declared.size_bytes is None or upload.declared.size_bytes == info.size_bytes
