"""What clients uploaded by URL: look for the bytes (HEAD), compare them with the promise, and commit what landed.

Reads, lists, writes and the janitor's verifier all come here, so a client's 200 is seen by the next read without any call
back. Several landed uploads of a key are taken in the order in which the store says they landed.
"""

from collections.abc import Sequence
from datetime import datetime

from .blob.driver import BlobInfo
from .catalog import objects as transitions
from .catalog.objects import Facts
from .catalog.rows import ObjectRow, PromiseRow, Refused
from .digests import etag_of
from .errors import ErrorCode, PrismError
from .meta import Txn
from .namespaces import Namespace

__all__ = ["commit_upload", "settle", "verify"]


async def settle(space: Namespace, uploads: Sequence[PromiseRow]) -> bool:
    """Look at each promise and commit what landed; says whether the caller's view of the catalog is out of date.

    STORE_DOWN when a look failed, UPLOAD_PENDING when bytes were seen but could not be committed: the caller must not go on
    as if they were not there.
    """
    landed: list[tuple[datetime, str, PromiseRow, BlobInfo]] = []
    for upload in uploads:
        info = await space.store.head(upload.physical_key)
        if info is not None and _as_declared(upload, info):
            landed.append((info.landed_at, upload.version_id, upload, info))
    for _, _, upload, info in sorted(landed, key=lambda found: found[:2]):
        try:
            await commit_upload(space, upload, facts_of(upload, info))
        except PrismError as error:
            raise PrismError(
                ErrorCode.UPLOAD_PENDING, "an upload of this key has arrived but could not be recorded yet; try again"
            ) from error
    return bool(landed)


async def verify(space: Namespace, upload: PromiseRow) -> bool:
    """The janitor's look at one promise: True when its bytes were there and as declared (then it is settled now)."""
    return await settle(space, [upload])


async def commit_upload(space: Namespace, upload: PromiseRow, facts: Facts) -> ObjectRow | Refused:
    """Reference bytes that a client uploaded."""

    async def body(tx: Txn) -> ObjectRow | Refused:
        return await transitions.commit(tx, space.rules, upload, facts, space.now())

    return await space.meta.transact(space.name, body)


def facts_of(upload: PromiseRow, info: BlobInfo) -> Facts:
    """What a HEAD tells about landed bytes."""
    return Facts(
        size_bytes=info.size_bytes,
        etag=etag_of(upload.version_id),
        store_etag=info.etag,
        content_type=upload.content_type or info.content_type,
        metadata=upload.metadata,
        crc32c=upload.declared.crc32c,
        sha256=upload.declared.sha256,
        landed_at=info.landed_at,
    )


def _as_declared(upload: PromiseRow, info: BlobInfo) -> bool:
    return upload.declared.size_bytes is None or upload.declared.size_bytes == info.size_bytes
