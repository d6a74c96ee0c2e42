"""Objects: put, get, head, list, copy, delete, over the catalog (what is true) and a blob store (the bytes).

Every call is one operation of `access`: it is decided, audited and counted there before anything else happens. A write
is acknowledged after its catalog commit, a read is pinned to the row it saw. This room decides nothing about lifetime
(`lifecycle`), recognises nothing (`recognition`) and knows no wire format.
"""

from collections.abc import AsyncIterator
from datetime import timedelta

from .model import (
    ByteRange,
    Caller,
    Conditions,
    CopyOptions,
    ExpiringPage,
    ListPage,
    ObjectInfo,
    ObjectRef,
    Precondition,
    PutOptions,
    RangeSpec,
    Usage,
)

__all__ = ["ObjectStore", "OpenObject"]


class OpenObject:
    """A read that has begun. Iterate `chunks()` once; `aclose()` releases it at any time."""

    info: ObjectInfo
    byte_range: ByteRange
    """What is served, within the object; the whole object unless a range was asked for."""
    partial: bool
    """A satisfiable range was asked for (HTTP 206)."""

    def chunks(self) -> AsyncIterator[bytes]:
        """Pieces of at most 1 MiB. Raises DATA_LOSS at the end of a whole read whose checksum does not match."""
        raise NotImplementedError

    async def aclose(self) -> None:
        raise NotImplementedError


class ObjectStore:
    """The object operations of all namespaces of one process."""

    async def put(self, caller: Caller, ref: ObjectRef, chunks: AsyncIterator[bytes], options: PutOptions) -> ObjectInfo:
        """Store the whole of `chunks` (pieces of any size) as the object's new content.

        Returns when the bytes and the row are durable. When `chunks` raises, nothing visible changes and its exception
        comes out. Errors: INVALID_ARGUMENT, NAMESPACE_NOT_FOUND, BUCKET_NOT_FOUND, PRECONDITION_FAILED,
        CHECKSUM_MISMATCH, SIZE_MISMATCH, TOO_LARGE, DELETED_MEANWHILE, STORE_DOWN, CATALOG_DOWN, OUTCOME_UNKNOWN.
        """
        raise NotImplementedError

    async def get(
        self, caller: Caller, ref: ObjectRef, wanted: RangeSpec | None = None, conditions: Conditions | None = None
    ) -> OpenObject:
        """Open the current content. Errors: OBJECT_NOT_FOUND, RANGE_NOT_SATISFIABLE, PRECONDITION_FAILED, NOT_MODIFIED
        (context holds `etag` and `last_modified`), DATA_LOSS, UPLOAD_PENDING, STORE_DOWN, CATALOG_DOWN."""
        raise NotImplementedError

    async def head(self, caller: Caller, ref: ObjectRef, conditions: Conditions | None = None) -> ObjectInfo:
        """As `get`, without bytes."""
        raise NotImplementedError

    async def delete(self, caller: Caller, ref: ObjectRef, precondition: Precondition | None = None) -> bool:
        """Remove the object; False when there was none. With versions kept, the content stays as an old version."""
        raise NotImplementedError

    async def delete_prefix(self, caller: Caller, namespace: str, bucket: str, prefix: str) -> None:
        """Remove every object under `prefix`, which ends in `/`, in one transaction; bytes follow in the background."""
        raise NotImplementedError

    async def list(
        self,
        caller: Caller,
        namespace: str,
        bucket: str,
        prefix: str = "",
        *,
        delimiter: str = "",
        max_results: int = 0,
        token: str = "",
        start_after: str = "",
    ) -> ListPage:
        """One page in byte order: 0 means 1000, more is clamped to 1000, negative is INVALID_ARGUMENT."""
        raise NotImplementedError

    async def copy(self, caller: Caller, source: ObjectRef, destination: ObjectRef, options: CopyOptions) -> ObjectInfo:
        """Copy the current content to another key, bucket or namespace."""
        raise NotImplementedError

    async def expiring(
        self, caller: Caller, namespace: str, within: timedelta, *, max_results: int = 0, token: str = ""
    ) -> ExpiringPage:
        """Live objects that expire within `within` from now, soonest first, from the expiry index."""
        raise NotImplementedError

    async def usage(self, caller: Caller, namespace: str) -> Usage:
        """What the namespace holds, from its counters."""
        raise NotImplementedError

    async def namespaces(self, caller: Caller) -> tuple[str, ...]:
        """The namespaces that the caller may see, sorted."""
        raise NotImplementedError

    async def list_buckets(self, caller: Caller, namespace: str) -> tuple[str, ...]:
        """The namespace's buckets, its own first, then sorted."""
        raise NotImplementedError

    async def head_bucket(self, caller: Caller, namespace: str, bucket: str) -> None:
        """BUCKET_NOT_FOUND unless it is one of the namespace's."""
        raise NotImplementedError

    async def create_bucket(self, caller: Caller, namespace: str, bucket: str) -> None:
        """Errors: INVALID_ARGUMENT (name: 3 to 63 of a-z 0-9 . -), BUCKET_EXISTS (also one's own)."""
        raise NotImplementedError

    async def delete_bucket(self, caller: Caller, namespace: str, bucket: str) -> None:
        """Errors: BUCKET_NOT_FOUND, BUCKET_NOT_EMPTY; the namespace's own bucket is PERMISSION_DENIED."""
        raise NotImplementedError
