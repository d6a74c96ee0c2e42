"""Reads: the row as it stands, what has landed since, the conditions, and the bytes pinned to the row.

A read looks at the row and the key's open client promises, commits what landed, and looks again; it opens the bytes
pinned to the row's etag. Bytes that are missing send it back to the row: only the same row twice without its bytes is
DATA_LOSS. A whole read checks the content's CRC-32C before its last piece leaves.
"""

from collections.abc import AsyncIterator

import google_crc32c

from .access import Operation
from .blob.driver import EtagMismatch, NotFound, Opened
from .catalog import objects as transitions
from .catalog.objects import Seen
from .catalog.rows import ObjectRow
from .digests import crc32c_text
from .errors import ErrorCode, PrismError
from .meta import View
from .model import ByteRange, Conditions, ObjectInfo, RangeSpec
from .namespaces import Namespace
from .recognition import settle

__all__ = ["OpenObject", "current", "evaluate", "find", "info_of", "open_object", "resolve"]

_ATTEMPTS = 4


class OpenObject:
    """A read that has begun. Iterate `chunks()` once; `aclose()` releases it at any time."""

    def __init__(self, info: ObjectInfo, byte_range: ByteRange, partial: bool, opened: Opened) -> None:
        self.info = info
        self.byte_range = byte_range
        """What is served, within the object; the whole object unless a range was asked for."""
        self.partial = partial
        """A satisfiable range was asked for (HTTP 206)."""
        self._opened = opened
        self._operation: Operation | None = None
        self._sent = 0

    def accompany(self, operation: Operation) -> None:
        """The access operation that ends with this read."""
        self._operation = operation

    async def chunks(self) -> AsyncIterator[bytes]:
        """Pieces of at most 1 MiB. Raises DATA_LOSS before the last piece of a whole read whose checksum does not
        match."""
        whole = self.byte_range.length == self.info.size_bytes
        expected = self.info.crc32c if whole else None
        crc = 0
        try:
            async for chunk in self._opened.body:
                self._sent += len(chunk)
                if expected is not None:
                    crc = google_crc32c.extend(crc, chunk)
                    if self._sent >= self.byte_range.length and crc32c_text(crc) != expected:
                        raise PrismError(ErrorCode.DATA_LOSS, "the stored bytes are not the ones that were written")
                yield chunk
            if self._sent != self.byte_range.length:
                raise PrismError(ErrorCode.DATA_LOSS, "the store holds fewer bytes than were written")
        except BaseException as error:
            self._finish(error)
            raise
        finally:
            await self._opened.body.aclose()
        self._finish(None)

    async def aclose(self) -> None:
        """Release the read, whether or not it came to its end."""
        await self._opened.body.aclose()
        self._finish(None)

    def _finish(self, error: BaseException | None) -> None:
        if self._operation is not None:
            self._operation.bytes_out = self._sent
            self._operation.finish(error)


async def find(space: Namespace, bucket: str, key: str) -> ObjectRow | None:
    """The current row with every landed upload of the key taken into account; None when absent."""

    async def body(view: View) -> Seen:
        return await transitions.look(view, space.rules, bucket, key, space.now())

    for _ in range(_ATTEMPTS):
        seen = await space.meta.read(body)
        if not seen.open or not await settle(space, seen.open):
            return seen.row
    raise PrismError(ErrorCode.UPLOAD_PENDING, "uploads of this key keep arriving; try again")


async def current(space: Namespace, bucket: str, key: str) -> ObjectRow:
    """As `find`; OBJECT_NOT_FOUND when absent."""
    row = await find(space, bucket, key)
    if row is None:
        raise PrismError(ErrorCode.OBJECT_NOT_FOUND, f"there is no object {key[:200]!r} in bucket {bucket!r}")
    return row


async def open_object(
    space: Namespace, bucket: str, key: str, wanted: RangeSpec | None, conditions: Conditions | None
) -> OpenObject:
    """Open the bytes that the current row names."""
    missing = ""
    for _ in range(_ATTEMPTS):
        row = await current(space, bucket, key)
        evaluate(conditions, row)
        served = None if wanted is None or not _in_range(conditions, row) else resolve(wanted, row.size_bytes)
        try:
            opened = await space.store.get(row.physical_key, served, row.store_etag)
        except (NotFound, EtagMismatch) as error:
            if missing == row.physical_key:
                raise PrismError(ErrorCode.DATA_LOSS, "the bytes of this object are lost") from error
            missing = row.physical_key
            continue
        info = info_of(space, bucket, key, row)
        return OpenObject(info, served or ByteRange(0, row.size_bytes), served is not None, opened)
    raise PrismError(ErrorCode.UPLOAD_PENDING, "the object keeps changing while it is opened; try again")


def resolve(wanted: RangeSpec, size_bytes: int) -> ByteRange:
    """What a range means for an object of this size; RANGE_NOT_SATISFIABLE when it has no byte in it."""
    if wanted.suffix is not None:
        length = min(wanted.suffix, size_bytes)
        start, end = size_bytes - length, size_bytes - 1
    elif wanted.start is None:
        raise PrismError(ErrorCode.INVALID_ARGUMENT, "a range needs its first byte")
    else:
        start, end = wanted.start, size_bytes - 1 if wanted.end is None else min(wanted.end, size_bytes - 1)
        if start < 0 or (wanted.end is not None and wanted.end < start):
            raise PrismError(ErrorCode.INVALID_ARGUMENT, f"{wanted.start}-{wanted.end} is not a range")
    if start >= size_bytes or end < start:
        raise PrismError(
            ErrorCode.RANGE_NOT_SATISFIABLE,
            f"the object has {size_bytes} bytes; the range begins after its end",
            context={"size_bytes": str(size_bytes)},
        )
    return ByteRange(start, end - start + 1)


def evaluate(conditions: Conditions | None, row: ObjectRow) -> None:
    """PRECONDITION_FAILED or NOT_MODIFIED, in the order of RFC 9110 section 13.2.2."""
    if conditions is None:
        return
    modified = row.modified_at.replace(microsecond=0)
    if conditions.if_match is not None:
        if "*" not in conditions.if_match and row.etag not in conditions.if_match:
            raise _failed()
    elif conditions.if_unmodified_since is not None and modified > conditions.if_unmodified_since:
        raise _failed()
    if conditions.if_none_match is not None:
        if "*" in conditions.if_none_match or row.etag in conditions.if_none_match:
            raise _not_modified(row)
    elif conditions.if_modified_since is not None and modified <= conditions.if_modified_since:
        raise _not_modified(row)


def _in_range(conditions: Conditions | None, row: ObjectRow) -> bool:
    """RFC 9110 section 13.1.5: strong comparison of an etag, an exact match of a date."""
    if conditions is None or conditions.if_range is None:
        return True
    if isinstance(conditions.if_range, str):
        return row.etag == conditions.if_range
    return row.modified_at.replace(microsecond=0) == conditions.if_range


def _failed() -> PrismError:
    return PrismError(ErrorCode.PRECONDITION_FAILED, "the object is not the one that was asked for")


def _not_modified(row: ObjectRow) -> PrismError:
    context = {"etag": row.etag, "last_modified": row.modified_at.isoformat()}
    return PrismError(ErrorCode.NOT_MODIFIED, "the object has not changed", context=context)


def info_of(space: Namespace, bucket: str, key: str, row: ObjectRow) -> ObjectInfo:
    """The row as callers see it."""
    return ObjectInfo(
        namespace=space.name,
        bucket=bucket,
        key=key,
        size_bytes=row.size_bytes,
        etag=row.etag,
        content_type=row.content_type,
        metadata=row.metadata,
        last_modified=row.modified_at,
        expires_at=row.expires_at,
        version_id=row.version_id,
        versioned=space.rules.versioning,
        crc32c=row.crc32c,
        sha256=row.sha256,
    )
