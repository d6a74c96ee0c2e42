"""Objects: put, get, head, list, copy, delete, over the catalog (what is true) and a blob store (the bytes).

Every call is one operation of `access`: it is decided, audited and counted there before anything else happens. A write
is acknowledged after its catalog commit, a read is pinned to the row it saw. This room decides nothing about lifetime
(`lifecycle`), recognises nothing (`recognition`) and knows no wire format.
"""

from collections.abc import AsyncIterator
from datetime import timedelta

import msgspec

from . import reading
from .access import Access
from .blob.driver import EtagMismatch, NotFound, Stored
from .catalog import buckets, listing, usage
from .catalog import marks as folders
from .catalog import objects as transitions
from .catalog import uploads as promises
from .catalog.listing import Listed, Position, Wanted
from .catalog.objects import Facts, Unlinked, Unsettled
from .catalog.rows import Hint, ObjectRow, Refused, instant, microseconds
from .continuation import Continuations
from .digests import Digests, etag_of
from .errors import ErrorCode, PrismError
from .holding import new_promise
from .keys import check_bucket, check_folder, check_key, check_prefix
from .lifecycle import lifetime_seconds
from .meta import Txn, View
from .metadata import check_metadata
from .model import (
    Action,
    Caller,
    Conditions,
    CopyOptions,
    ExpiringObject,
    ExpiringPage,
    ListPage,
    ObjectInfo,
    ObjectRef,
    Precondition,
    PutOptions,
    RangeSpec,
    Usage,
)
from .namespaces import Namespace, Namespaces
from .reading import OpenObject, info_of
from .recognition import settle
from .writing import Flow, streamed, write

__all__ = ["ObjectStore", "OpenObject"]

_PAGE = 1000
_ATTEMPTS = 4


class ObjectStore:
    """The object operations of all namespaces of one process."""

    def __init__(self, namespaces: Namespaces, access: Access, continuations: Continuations) -> None:
        self._namespaces = namespaces
        self._access = access
        self._continuations = continuations

    async def put(
        self, caller: Caller, ref: ObjectRef, chunks: AsyncIterator[bytes], options: PutOptions
    ) -> ObjectInfo:
        """Store the whole of `chunks` (pieces of any size) as the object's new content.

        Returns when the bytes and the row are durable. When `chunks` raises, nothing visible changes and its exception
        comes out. Errors: INVALID_ARGUMENT, NAMESPACE_NOT_FOUND, BUCKET_NOT_FOUND, PRECONDITION_FAILED,
        CHECKSUM_MISMATCH, SIZE_MISMATCH, TOO_LARGE, DELETED_MEANWHILE, STORE_DOWN, CATALOG_DOWN, OUTCOME_UNKNOWN.
        """
        with self._access.operation(caller, Action.PUT, ref.namespace, ref.bucket, ref.key) as operation:
            space = self._namespaces.get(ref.namespace)
            info = await put_object(space, space.bucket(ref.bucket), ref.key, chunks, options)
            operation.bytes_in = info.size_bytes
            operation.detail["version_id"] = info.version_id
            return info

    async def get(
        self, caller: Caller, ref: ObjectRef, wanted: RangeSpec | None = None, conditions: Conditions | None = None
    ) -> OpenObject:
        """Open the current content. Errors: OBJECT_NOT_FOUND, RANGE_NOT_SATISFIABLE, PRECONDITION_FAILED, NOT_MODIFIED
        (context holds `etag` and `last_modified`), DATA_LOSS, UPLOAD_PENDING, STORE_DOWN, CATALOG_DOWN."""
        with self._access.operation(caller, Action.GET, ref.namespace, ref.bucket, ref.key) as operation:
            space = self._namespaces.get(ref.namespace)
            check_key(ref.key)
            opened = await reading.open_object(space, space.bucket(ref.bucket), ref.key, wanted, conditions)
            opened.accompany(operation.hand_over())
            return opened

    async def head(self, caller: Caller, ref: ObjectRef, conditions: Conditions | None = None) -> ObjectInfo:
        """As `get`, without bytes."""
        with self._access.operation(caller, Action.HEAD, ref.namespace, ref.bucket, ref.key):
            space = self._namespaces.get(ref.namespace)
            bucket = space.bucket(ref.bucket)
            check_key(ref.key)
            row = await reading.current(space, bucket, ref.key)
            reading.evaluate(conditions, row)
            return info_of(space, bucket, ref.key, row)

    async def delete(self, caller: Caller, ref: ObjectRef, precondition: Precondition | None = None) -> bool:
        """Remove the object; False when there was none. With versions kept, the content stays as an old version."""
        with self._access.operation(caller, Action.DELETE, ref.namespace, ref.bucket, ref.key) as operation:
            space = self._namespaces.get(ref.namespace)
            check_key(ref.key)
            deleted = await _unlink(space, space.bucket(ref.bucket), ref.key, precondition or Precondition())
            operation.detail["deleted"] = "yes" if deleted else "no"
            return deleted

    async def delete_prefix(self, caller: Caller, namespace: str, bucket: str, prefix: str) -> None:
        """Remove every object under `prefix`, which ends in `/`, in one transaction; bytes follow in the background."""
        with self._access.operation(caller, Action.DELETE_PREFIX, namespace, bucket, prefix):
            space = self._namespaces.get(namespace)
            check_folder(prefix)

            async def body(tx: Txn) -> None:
                await promises.require_bucket(tx, space.rules, space.bucket(bucket))
                await folders.delete_folder(tx, space.rules, space.bucket(bucket), prefix, space.now())

            await space.meta.transact(space.name, body)

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
        with self._access.operation(caller, Action.LIST, namespace, bucket, prefix):
            space = self._namespaces.get(namespace)
            check_prefix(prefix)
            check_prefix(start_after)
            check_prefix(delimiter)
            scope = ("list", namespace, space.bucket(bucket), prefix, delimiter)
            after = _start_after(prefix, delimiter, start_after)
            if token:
                after = _begin(self._continuations.open(scope, token))
            wanted = Wanted(
                bucket=space.bucket(bucket),
                prefix=prefix,
                delimiter=delimiter,
                after=after,
                limit=_page_size(max_results),
            )
            page = await _page(space, wanted)
            resume = page.resume
            position = None if resume is None else (resume.key, "whole" if resume.whole else "")
            return ListPage(
                objects=tuple(info_of(space, wanted.bucket, key, row) for key, row in page.rows),
                common_prefixes=tuple(page.prefixes),
                next_token=None if position is None else self._continuations.seal(scope, position),
            )

    async def copy(self, caller: Caller, source: ObjectRef, destination: ObjectRef, options: CopyOptions) -> ObjectInfo:
        """Copy the current content to another key, bucket or namespace."""
        with self._access.operation(
            caller, Action.PUT, destination.namespace, destination.bucket, destination.key
        ) as operation:
            with self._access.operation(
                caller, Action.COPY_SOURCE, source.namespace, source.bucket, source.key
            ) as reads:
                info = await _copy(
                    self._namespaces.get(source.namespace),
                    source,
                    self._namespaces.get(destination.namespace),
                    destination,
                    options,
                )
                reads.bytes_out = info.size_bytes
            operation.bytes_in = info.size_bytes
            operation.detail["version_id"] = info.version_id
            return info

    async def expiring(
        self, caller: Caller, namespace: str, within: timedelta, *, max_results: int = 0, token: str = ""
    ) -> ExpiringPage:
        """Live objects that expire within `within` from now, soonest first, from the expiry index."""
        with self._access.operation(caller, Action.LIST_EXPIRING, namespace):
            space = self._namespaces.get(namespace)
            if within < timedelta(0):
                raise PrismError(ErrorCode.INVALID_ARGUMENT, "the window must not be negative")
            scope = ("expiring", namespace)
            after = _expiring_position(self._continuations.open(scope, token)) if token else None
            now = space.now()

            async def body(view: View) -> tuple[list[listing.ExpiringRow], Hint | None]:
                return await listing.expiring(view, space.rules, now, now + within, after, _page_size(max_results))

            found, resume = await space.meta.read(body)
            position = None if resume is None else _place(resume)
            return ExpiringPage(
                objects=tuple(
                    ExpiringObject(
                        bucket=row.bucket, key=row.key, size_bytes=row.row.size_bytes, expires_at=row.row.expires_at
                    )
                    for row in found
                    if row.row.expires_at is not None
                ),
                next_token=None if position is None else self._continuations.seal(scope, position),
            )

    async def usage(self, caller: Caller, namespace: str) -> Usage:
        """What the namespace holds, from its counters."""
        with self._access.operation(caller, Action.USAGE, namespace):
            space = self._namespaces.get(namespace)

            async def body(view: View) -> usage.Counters:
                return await usage.counters(view, space.name)

            found = await space.meta.read(body)
            return Usage(namespace=namespace, objects=found.objects, size_bytes=found.size_bytes)

    async def namespaces(self, caller: Caller) -> tuple[str, ...]:
        """The namespaces that the caller may see, sorted."""
        with self._access.operation(caller, Action.LIST_NAMESPACES):
            allowed = caller.principal.namespaces
            return tuple(sorted(s.name for s in self._namespaces if allowed is None or s.name in allowed))

    async def list_buckets(self, caller: Caller, namespace: str) -> tuple[str, ...]:
        """The namespace's buckets, its own first, then sorted."""
        with self._access.operation(caller, Action.LIST_BUCKETS, namespace):
            space = self._namespaces.get(namespace)

            async def body(view: View) -> list[str]:
                return await buckets.listed(view, space.rules)

            return tuple(await space.meta.read(body))

    async def head_bucket(self, caller: Caller, namespace: str, bucket: str) -> None:
        """BUCKET_NOT_FOUND unless it is one of the namespace's."""
        with self._access.operation(caller, Action.HEAD_BUCKET, namespace, bucket):
            space = self._namespaces.get(namespace)

            async def body(view: View) -> None:
                await promises.require_bucket(view, space.rules, bucket)

            await space.meta.read(body)

    async def create_bucket(self, caller: Caller, namespace: str, bucket: str) -> None:
        """Errors: INVALID_ARGUMENT (name: 3 to 63 of a-z 0-9 . -), BUCKET_EXISTS (also one's own)."""
        with self._access.operation(caller, Action.CREATE_BUCKET, namespace, bucket):
            space = self._namespaces.get(namespace)
            check_bucket(bucket)

            async def body(tx: Txn) -> None:
                await buckets.create(tx, space.rules, bucket, space.now())

            await space.meta.transact(space.name, body)

    async def delete_bucket(self, caller: Caller, namespace: str, bucket: str) -> None:
        """Errors: BUCKET_NOT_FOUND, BUCKET_NOT_EMPTY; the namespace's own bucket is PERMISSION_DENIED."""
        with self._access.operation(caller, Action.DELETE_BUCKET, namespace, bucket):
            space = self._namespaces.get(namespace)

            await _remove_bucket(space, bucket)


async def put_object(
    space: Namespace, bucket: str, key: str, chunks: AsyncIterator[bytes], options: PutOptions
) -> ObjectInfo:
    """The put itself, for a caller that was let in already."""
    check_key(key)
    check_metadata(options.metadata, options.content_type, space.limits.metadata_bytes)
    declared = options.declared
    largest = space.largest_bytes
    if declared.size_bytes is not None and declared.size_bytes > largest:
        raise PrismError(ErrorCode.TOO_LARGE, f"an object here holds at most {largest} bytes")
    if options.precondition != _ANY:
        await _early_precondition(space, bucket, key, options.precondition)
    promise = new_promise(
        space,
        bucket,
        key,
        content_type=options.content_type or "application/octet-stream",
        metadata=options.metadata,
        ttl_seconds=lifetime_seconds(space.config, options.ttl, options.no_expiration),
        declared=declared,
        precondition=options.precondition,
    )
    digests = Digests(
        md5=options.md5_etag or declared.md5 is not None, sha256=options.want_sha256 or declared.sha256 is not None
    )

    def describe(stored: Stored) -> Facts:
        return Facts(
            size_bytes=stored.size_bytes,
            etag=(digests.md5 if options.md5_etag else None) or etag_of(promise.version_id),
            store_etag=stored.etag,
            content_type=promise.content_type,
            metadata=promise.metadata,
            crc32c=digests.crc32c,
            sha256=digests.sha256,
        )

    etag = declared.md5 if options.md5_etag else etag_of(promise.version_id)
    transfer = streamed(chunks, largest, etag=etag, crc32c=declared.crc32c)
    row = await write(space, promise, transfer, digests, describe)
    return info_of(space, bucket, key, row)


_ANY = Precondition()


async def _early_precondition(space: Namespace, bucket: str, key: str, precondition: Precondition) -> None:
    """Refuse before the body flows what the commit would refuse after it; only the commit decides for good."""
    row = await reading.find(space, bucket, key)
    if not transitions.matches(precondition, row):
        raise PrismError(ErrorCode.PRECONDITION_FAILED, "the current object does not meet the precondition")


async def _unlink(space: Namespace, bucket: str, key: str, precondition: Precondition) -> bool:
    settled: frozenset[str] = frozenset()
    for _ in range(_ATTEMPTS):
        seen = settled

        async def body(tx: Txn, seen: frozenset[str] = seen) -> Unlinked | Unsettled | Refused:
            return await transitions.unlink(tx, space.rules, bucket, key, space.now(), precondition, seen)

        outcome = await space.meta.transact(space.name, body)
        if isinstance(outcome, Unlinked):
            return outcome.deleted
        if isinstance(outcome, Refused):
            raise PrismError(outcome.code, outcome.message)
        await settle(space, outcome.open)
        settled |= {upload.version_id for upload in outcome.open}
    raise PrismError(ErrorCode.UPLOAD_PENDING, "uploads of this key keep arriving; try again")


async def _remove_bucket(space: Namespace, bucket: str) -> None:
    settled: frozenset[str] = frozenset()
    for _ in range(_ATTEMPTS):
        seen = settled

        async def body(tx: Txn, seen: frozenset[str] = seen) -> Unsettled | None:
            return await buckets.remove(tx, space.rules, bucket, space.now(), seen)

        outcome = await space.meta.transact(space.name, body)
        if outcome is None:
            return
        await settle(space, outcome.open)
        settled |= {upload.version_id for upload in outcome.open}
    raise PrismError(ErrorCode.UPLOAD_PENDING, "uploads to this bucket keep arriving; try again")


async def _page(space: Namespace, wanted: Wanted) -> Listed:
    """A page whose client promises were looked at; what had landed is in it. Where uploads keep arriving it ends before
    the first that was not looked at."""
    looked: frozenset[str] = frozenset()
    for budget in (wanted.open_budget, wanted.open_budget, wanted.open_budget, 0):
        asked = msgspec.structs.replace(wanted, looked=looked, open_budget=budget)

        async def body(view: View, asked: Wanted = asked) -> Listed:
            return await listing.page(view, space.rules, asked, space.now())

        page = await space.meta.read(body)
        if not page.open or not await settle(space, page.open):
            if page.resume == wanted.after:
                break
            return page
        looked |= {upload.version_id for upload in page.open}
    raise PrismError(ErrorCode.UPLOAD_PENDING, "uploads under this prefix keep arriving; try again")


def _begin(position: tuple[str, ...]) -> Position:
    key, whole = position
    return Position(key, bool(whole))


def _start_after(prefix: str, delimiter: str, key: str) -> Position:
    """A caller's own beginning: a common prefix passes everything below it over, as S3 does."""
    return Position(key, bool(delimiter) and key.endswith(delimiter) and len(key) > len(prefix))


def _page_size(max_results: int) -> int:
    if max_results < 0:
        raise PrismError(ErrorCode.INVALID_ARGUMENT, "max_results must not be negative; 0 means 1000")
    return min(max_results or _PAGE, _PAGE)


def _place(hint: Hint) -> tuple[str, ...]:
    return str(microseconds(hint.at)), hint.bucket, hint.key, "" if hint.ordinal is None else str(hint.ordinal)


def _expiring_position(position: tuple[str, ...]) -> Hint:
    at, bucket, key, ordinal = position
    return Hint(instant(int(at)), bucket, key, int(ordinal) if ordinal else None)


async def _copy(
    source_space: Namespace, source: ObjectRef, space: Namespace, destination: ObjectRef, options: CopyOptions
) -> ObjectInfo:
    """Copy what the source's row names now; when those bytes go away meanwhile, look again, with a fresh key.

    A copy onto itself takes nothing back: it commits only over the very content that it copied.
    """
    check_key(source.key)
    check_key(destination.key)
    bucket, source_bucket = space.bucket(destination.bucket), source_space.bucket(source.bucket)
    onto_itself = (source_space.name, source_bucket, source.key) == (space.name, bucket, destination.key)
    wanted = None if options.source_if_match is None else Conditions(if_match=options.source_if_match)
    if options.precondition != _ANY:
        await _early_precondition(space, bucket, destination.key, options.precondition)
    missing = ""
    for _ in range(_ATTEMPTS):
        row = await reading.current(source_space, source_bucket, source.key)
        reading.evaluate(wanted, row)
        asked = _onto_itself(options, row) if onto_itself else options
        try:
            return await _copy_row(source_space, row, space, bucket, destination.key, asked)
        except (NotFound, EtagMismatch) as error:
            if missing == row.physical_key:
                raise PrismError(ErrorCode.DATA_LOSS, "the bytes of the source are lost") from error
            missing = row.physical_key
        except PrismError as error:
            if not onto_itself or error.code is not ErrorCode.PRECONDITION_FAILED:
                raise
    raise PrismError(ErrorCode.UPLOAD_PENDING, "the source keeps changing while it is copied; try again")


def _onto_itself(options: CopyOptions, row: ObjectRow) -> CopyOptions:
    """PRECONDITION_FAILED, or the options with the content that was copied as the precondition."""
    if not transitions.matches(options.precondition, row):
        raise PrismError(ErrorCode.PRECONDITION_FAILED, "the current object does not meet the precondition")
    return msgspec.structs.replace(options, precondition=Precondition(if_match=(row.etag,)))


async def _copy_row(
    source_space: Namespace, row: ObjectRow, space: Namespace, bucket: str, key: str, options: CopyOptions
) -> ObjectInfo:
    metadata = row.metadata if options.metadata is None else options.metadata
    promise = new_promise(
        space,
        bucket,
        key,
        content_type=options.content_type or row.content_type,
        metadata=metadata,
        ttl_seconds=lifetime_seconds(space.config, options.ttl, options.no_expiration),
        precondition=options.precondition,
    )
    check_metadata(metadata, promise.content_type, space.limits.metadata_bytes)
    digests = Digests()
    inside = source_space.store is space.store and space.store.capabilities.copy

    async def transfer(flow: Flow) -> Stored:
        if inside:
            options = flow.options(etag=row.etag, crc32c=row.crc32c)
            return await flow.alongside(
                lambda: space.store.copy(row.physical_key, row.store_etag, promise.physical_key, options)
            )
        opened = await source_space.store.get(row.physical_key, None, row.store_etag)
        try:
            return await streamed(aiter(opened.body), row.size_bytes, etag=row.etag, crc32c=row.crc32c)(flow)
        finally:
            await opened.body.aclose()

    def describe(stored: Stored) -> Facts:
        changed = not inside and row.crc32c is not None and digests.crc32c != row.crc32c
        if changed or stored.size_bytes != row.size_bytes:
            raise PrismError(ErrorCode.DATA_LOSS, "the bytes of the source are not the ones that were stored")
        return Facts(
            size_bytes=stored.size_bytes,
            etag=row.etag,
            store_etag=stored.etag,
            content_type=promise.content_type,
            metadata=metadata,
            crc32c=row.crc32c if inside else digests.crc32c,
            sha256=row.sha256,
        )

    committed = await write(space, promise, transfer, digests, describe)
    return info_of(space, bucket, key, committed)
