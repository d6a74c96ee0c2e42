"""Whether bytes that a client sent are as declared, and what is known of them: the facts that a reference is made of.

Size always; each declared checksum that the store did not hold the sender to is compared with what the store itself
says of the bytes, and where it says nothing they are read once, in bounded memory, before anybody can see them. What
was found unlike is noted on the promise, so that it is not read again for every reader.
"""

from datetime import datetime

import msgspec

from .blob.driver import BlobInfo, EtagMismatch, NotFound
from .catalog import uploads as promises
from .catalog.objects import Facts
from .catalog.rows import PromiseRow
from .catalog.staging import pair_of, same
from .digests import Digests, etag_of
from .errors import ErrorCode, PrismError
from .meta import Txn
from .metadata import carried_metadata, carried_type
from .model import Declared
from .namespaces import Namespace

__all__ = ["Unlike", "checked", "facts_of"]


class Unlike(msgspec.Struct, frozen=True):
    """What lies there is not as declared."""

    code: ErrorCode
    message: str


async def checked(space: Namespace, upload: PromiseRow, info: BlobInfo) -> Facts | Unlike | None:
    """The facts of what a HEAD found under an upload's key; None when it changed while it was read."""
    if info.offline:
        return Unlike(
            ErrorCode.INVALID_ARGUMENT, "the bytes were sent to an archive tier, from which nothing is served"
        )
    if upload.declared.size_bytes is not None and upload.declared.size_bytes != info.size_bytes:
        return Unlike(
            ErrorCode.SIZE_MISMATCH, f"{info.size_bytes} bytes came, {upload.declared.size_bytes} were declared"
        )
    left = _told(upload, info)
    if isinstance(left, Unlike):
        return left
    if left == Declared():
        return facts_of(space, upload, info)
    if upload.unlike is not None and same(upload.unlike, pair_of(info.etag, info.landed_at)):
        return _other()
    name = ("check", space.name, upload.physical_key, info.etag, info.landed_at)
    read = await space.tasks.once(name, lambda: _read(space, upload, info, left))
    if read is None or isinstance(read, Unlike):
        return read
    return msgspec.structs.replace(facts_of(space, upload, info), crc32c=read.crc32c)


def _told(upload: PromiseRow, info: BlobInfo) -> Declared | Unlike:
    """The declared checksums that neither the store held the sender to nor the HEAD tells of; Unlike when it tells
    of another. What comes through Prism was compared on its way."""
    left: dict[str, str] = {}
    for name in ("crc32c", "sha256", "md5"):
        said, found = getattr(upload.declared, name), getattr(info, name)
        if said is None or name in upload.held or upload.way == "prism":
            continue
        if found is None:
            left[name] = said
        elif found != said:
            return _other()
    return msgspec.convert(left, Declared)


def _other() -> Unlike:
    return Unlike(ErrorCode.CHECKSUM_MISMATCH, "the bytes that came do not have the declared checksum")


async def _read(space: Namespace, upload: PromiseRow, info: BlobInfo, left: Declared) -> Digests | Unlike | None:
    """Read the bytes once."""
    digests = Digests(md5=left.md5 is not None, sha256=left.sha256 is not None)
    try:
        opened = await space.store.get(upload.physical_key, None, info.etag)
    except (NotFound, EtagMismatch):
        return None
    try:
        async for chunk in opened.body:
            digests.update(chunk)
    finally:
        await opened.body.aclose()
    if digests.size_bytes != info.size_bytes:
        return None
    try:
        digests.check(left)
    except PrismError:
        await _note(space, upload, info)
        return _other()
    return digests


async def _note(space: Namespace, upload: PromiseRow, info: BlobInfo) -> None:
    async def body(tx: Txn) -> None:
        await promises.found_unlike(tx, space.rules, upload, pair_of(info.etag, info.landed_at))

    await space.meta.transact(space.name, body)


def facts_of(space: Namespace, upload: PromiseRow, info: BlobInfo) -> Facts:
    """What a HEAD tells about bytes that are as declared. Of type and metadata that the sender chose, what no API could
    carry is left away. Some stores date an object in parts by its first part; it
    landed no earlier than its parts were sealed."""
    sealed = upload.sealed
    own = upload.way == "prism"
    return Facts(
        size_bytes=info.size_bytes,
        etag=sealed.etag if sealed is not None else (None if own else info.md5) or etag_of(upload.version_id),
        store_etag=info.etag,
        content_type=upload.content_type or carried_type(info.content_type),
        metadata=upload.metadata or carried_metadata(info.metadata, space.limits.metadata_bytes),
        crc32c=upload.declared.crc32c or info.crc32c,
        sha256=upload.declared.sha256 or info.sha256,
        landed_at=_landed_at(upload, info),
        replaces=None if sealed is None else sealed.replaces,
    )


def _landed_at(upload: PromiseRow, info: BlobInfo) -> datetime:
    return info.landed_at if upload.sealed is None else max(info.landed_at, upload.sealed.at)
