"""Presigned transfers: a promise first, then a URL that carries it; and keeping that promise when the body arrives.

Where the store signs, a GET reads the object's very bytes from it and a PUT writes to a staging key. Else (local,
memory) a presigned PUT points to Prism's own S3 API and names its promise (`x-prism-upload`) in the signed query; the
first complete body keeps that promise, a further one is an ordinary put. Such a URL is bound, so that it works once,
when more was declared than an ordinary put through it could know of. DELETE always comes to Prism.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime, timedelta

import msgspec

from . import direct, reading
from .access import Access
from .blob.driver import AlreadyExists, Signed, Stored
from .blob.sigv4 import Credential, presign
from .catalog import objects as transitions
from .catalog import purge
from .catalog import uploads as promises
from .catalog.objects import Facts, Superseded
from .catalog.rows import ObjectRow, PromiseRow, Refused
from .digests import Digests, etag_of
from .errors import ErrorCode, PrismError
from .failpoints import failpoint
from .holding import write_options
from .keys import check_key
from .meta import View
from .metadata import check_metadata
from .model import Action, Caller, ObjectInfo, ObjectRef, PresignedURL, PutOptions
from .namespaces import Namespace, Namespaces
from .objects import put_object
from .reading import info_of
from .recognition import Landed, Outcome, settle, settle_key
from .writing import capped

__all__ = ["LONGEST", "UPLOAD_PARAMETER", "Uploads", "lasting_of"]

LONGEST = timedelta(seconds=3600)
"""The longest life of a presigned URL (seed ADR-032, MAX_PRESIGNED_EXPIRY)."""
UPLOAD_PARAMETER = "x-prism-upload"
_ACTIONS = {"GET": Action.PRESIGN_GET, "PUT": Action.PRESIGN_PUT, "DELETE": Action.PRESIGN_DELETE}
_BOUND = "b-"
_SAID_TYPE, _SAID_DISPOSITION = "response-content-type", "response-content-disposition"


class Uploads:
    """Presigning for all namespaces of one process. `s3_url` says where clients reach Prism's S3 API."""

    def __init__(self, namespaces: Namespaces, access: Access, s3_url: Callable[[], str]) -> None:
        self._namespaces = namespaces
        self._access = access
        self._s3_url = s3_url

    async def presign(
        self,
        caller: Caller,
        ref: ObjectRef,
        method: str,
        expires_in: timedelta | None = None,
        *,
        options: PutOptions | None = None,
        response_content_type: str | None = None,
        response_content_disposition: str | None = None,
    ) -> PresignedURL:
        """A URL for one method and key: GET of an absent object is OBJECT_NOT_FOUND and is capped at its expiry, PUT
        makes a durable promise first (`options.content_type`, when set, is bound), DELETE as PUT without one. None or
        zero means 3600 s; other than 1 to 3600 s, or another method, is INVALID_ARGUMENT."""
        action = _ACTIONS.get(method)
        if action is None:
            raise PrismError(
                ErrorCode.INVALID_ARGUMENT, f"method {method[:20]!r} cannot be presigned: GET, PUT, DELETE can"
            )
        with self._access.operation(caller, action, ref.namespace, ref.bucket, ref.key) as operation:
            space = self._namespaces.get(ref.namespace)
            lasting = lasting_of(expires_in)
            check_key(ref.key)
            bucket, now = space.bucket(ref.bucket), space.now().replace(microsecond=0)
            if method == "GET":
                row = await reading.current(space, bucket, ref.key)
                lasting = lasting if row.expires_at is None else min(lasting, row.expires_at - now)
                said = _overrides(response_content_type, response_content_disposition)
                url = await self._to_read(space, bucket, ref.key, row, now, lasting, said)
            elif method == "PUT":
                upload, url = await self._to_write(space, bucket, ref.key, now, lasting, options or PutOptions())
                operation.detail["version_id"] = upload.version_id
            else:
                await _require_bucket(space, bucket)
                url = self.sign_here(space, method, f"/{bucket}/{ref.key}", now, lasting, {})
            operation.detail["expires_in_seconds"] = str(lasting // timedelta(seconds=1))
            return url

    async def _to_read(
        self,
        space: Namespace,
        bucket: str,
        key: str,
        row: ObjectRow,
        now: datetime,
        lasting: timedelta,
        said: Mapping[str, str],
    ) -> PresignedURL:
        """From the store itself where it signs: those very bytes, which outlive the URL unless they are deleted."""
        if not space.store.capabilities.sign:
            return self.sign_here(space, "GET", f"/{bucket}/{key}", now, lasting, said)
        content_type, disposition = said.get(_SAID_TYPE), said.get(_SAID_DISPOSITION)
        seconds = lasting // timedelta(seconds=1)
        signed = await space.store.sign_get(row.physical_key, now, seconds, content_type, disposition)
        return _from_store(signed, "GET", now + lasting)

    async def _to_write(
        self, space: Namespace, bucket: str, key: str, now: datetime, lasting: timedelta, options: PutOptions
    ) -> tuple[PromiseRow, PresignedURL]:
        """To a staging key of the store where it signs."""
        if not space.store.capabilities.sign:
            once = options != PutOptions(content_type=options.content_type)
            upload = await direct.promise_here(space, bucket, key, now + lasting, options, once=once)
            return upload, self.sign_once(space, upload, now, lasting)
        upload = await direct.promise_staging(space, bucket, key, now + lasting, options)
        signed = await direct.sign(space, upload, now, lasting // timedelta(seconds=1))
        return upload, _from_store(signed, "PUT", now + lasting)

    async def promise_once(
        self, space: Namespace, bucket: str, key: str, until: datetime, options: PutOptions
    ) -> PromiseRow:
        """A promise for a URL of `sign_once`, for a caller that was let in already."""
        return await direct.promise_here(space, bucket, key, until, options, once=True)

    def sign_once(self, space: Namespace, upload: PromiseRow, now: datetime, lasting: timedelta) -> PresignedURL:
        """A URL to Prism's own S3 API that takes nothing but what was declared, and works once when the promise says
        so."""
        query, headers = _carried(upload)
        return self.sign_here(space, "PUT", f"/{upload.bucket}/{upload.key}", now, lasting, query, headers)

    def sign_here(
        self,
        space: Namespace,
        method: str,
        path: str,
        now: datetime,
        lasting: timedelta,
        query: Mapping[str, str],
        headers: Mapping[str, str] | None = None,
    ) -> PresignedURL:
        """A URL to Prism's own S3 API, with this query and these headers bound; a caller was let in already."""
        pair = self._access.key_pair(space.name)
        url = presign(
            Credential(pair.access_key, pair.secret.reveal(), pair.region),
            method,
            self._s3_url(),
            path,
            query=query,
            headers=headers or {},
            expires_seconds=lasting // timedelta(seconds=1),
            now=now,
        )
        return PresignedURL(url=url, method=method, expires_at=now + lasting, headers=headers or {})

    async def keep(
        self, caller: Caller, ref: ObjectRef, upload_id: str, chunks: AsyncIterator[bytes], options: PutOptions
    ) -> ObjectInfo:
        """The body for a presigned PUT has come. Errors: as `ObjectStore.put`; PRECONDITION_FAILED when a bound URL was
        used before; DELETED_MEANWHILE when a deletion of its folder came after the URL."""
        with self._access.operation(caller, Action.PUT, ref.namespace, ref.bucket, ref.key) as operation:
            space = self._namespaces.get(ref.namespace)
            check_key(ref.key)
            bucket = space.bucket(ref.bucket)
            version_id = upload_id.removeprefix(_BOUND)
            upload, before = await _find(space, bucket, ref.key, version_id)
            info = None if upload is None else await _keep(space, upload, before, chunks, options)
            if info is None:
                if await _overtaken(space, bucket, ref.key, version_id):
                    raise _deleted()
                if upload_id.startswith(_BOUND):
                    raise _used()
                info = await put_object(space, bucket, ref.key, chunks, options)
            operation.bytes_in = info.size_bytes
            operation.detail["version_id"] = info.version_id
            return info


def lasting_of(expires_in: timedelta | None) -> timedelta:
    """How long a URL is to live: None or zero means 3600 s; INVALID_ARGUMENT for other than 1 to 3600 s."""
    if not expires_in:
        return LONGEST
    if not timedelta(seconds=1) <= expires_in <= LONGEST:
        raise PrismError(ErrorCode.INVALID_ARGUMENT, "a presigned URL lives 1 to 3600 seconds; 0 means 3600")
    return timedelta(seconds=expires_in // timedelta(seconds=1))


def _overrides(content_type: str | None, disposition: str | None) -> dict[str, str]:
    named = {_SAID_TYPE: content_type, _SAID_DISPOSITION: disposition}
    return {name: value for name, value in named.items() if value}


def _from_store(signed: Signed, method: str, expires_at: datetime) -> PresignedURL:
    return PresignedURL(url=signed.url, method=method, expires_at=expires_at, headers=signed.headers)


async def _require_bucket(space: Namespace, bucket: str) -> None:
    async def body(view: View) -> None:
        await promises.require_bucket(view, space.rules, bucket)

    await space.meta.read(body)


def _carried(upload: PromiseRow) -> tuple[dict[str, str], dict[str, str]]:
    """Query and headers that bind a URL to its promise."""
    query = {UPLOAD_PARAMETER: (_BOUND if upload.bound else "") + upload.version_id}
    return query, {"content-type": upload.content_type} if upload.content_type else {}


async def _find(space: Namespace, bucket: str, key: str, upload_id: str) -> tuple[PromiseRow | None, str | None]:
    """The promise, and the version that is current before its body comes."""

    async def body(view: View) -> tuple[PromiseRow | None, str | None]:
        promise = await promises.find_upload(view, space.rules, bucket, key, upload_id)
        return promise, await transitions.current_version(view, space.rules, bucket, key)

    return await space.meta.read(body)


async def _overtaken(space: Namespace, bucket: str, key: str, version_id: str) -> bool:
    """Whether the URL is older than a deletion of the folder: then it writes nothing any more."""
    physical_key = space.layout.physical(bucket, key, version_id)

    async def body(view: View) -> bool:
        return await purge.overtaken(view, space.rules, bucket, key, version_id, physical_key)

    return await space.meta.read(body)


def _deleted() -> PrismError:
    return PrismError(ErrorCode.DELETED_MEANWHILE, "the folder of this key was deleted after the URL was made")


def _used() -> PrismError:
    return PrismError(ErrorCode.PRECONDITION_FAILED, "this URL was used already; it works once")


async def _keep(
    space: Namespace, upload: PromiseRow, before: str | None, chunks: AsyncIterator[bytes], options: PutOptions
) -> ObjectInfo | None:
    """Write the body to the promised key and commit it; None, with the body untouched, when other bytes lie there."""
    landed = await space.store.head(upload.physical_key)
    if landed is not None:
        await settle(space, [upload])
        return None
    promise = msgspec.structs.replace(
        upload,
        content_type=upload.content_type or options.content_type or "application/octet-stream",
        metadata=upload.metadata or options.metadata,
    )
    check_metadata(promise.metadata, promise.content_type, space.limits.metadata_bytes)
    digests = Digests(md5=True, sha256=(promise.declared.sha256 or options.declared.sha256) is not None)
    wanted = write_options(promise, _gate(space, promise, digests, options), observe=digests.update)
    try:
        stored = await space.store.put(promise.physical_key, capped(chunks, space.largest_bytes), wanted)
    except AlreadyExists as error:
        if upload.bound:
            raise _used() from error
        raise PrismError(
            ErrorCode.UPLOAD_PENDING, "another body came by this URL at the same moment; repeat the request"
        ) from error
    except PrismError as error:
        if error.code is not ErrorCode.STORE_DOWN:
            raise
        raise PrismError(
            ErrorCode.OUTCOME_UNKNOWN, "the store did not say whether it took the bytes; look again"
        ) from error
    failpoint("uploads.keep.after_bytes")
    return await space.tasks.to_end(_commit(space, promise, before, digests, stored))


def _gate(
    space: Namespace, promise: PromiseRow, digests: Digests, options: PutOptions
) -> Callable[[], Awaitable[None]]:
    """Nothing becomes visible that is not as declared, that nobody promises any more, or that comes too late."""

    async def body(view: View) -> PromiseRow | Refused:
        return await promises.standing(view, space.rules, promise)

    async def gate() -> None:
        digests.check(options.declared)
        digests.check(promise.declared)
        found = await space.meta.read(body)
        if isinstance(found, Refused):
            if found.code is ErrorCode.DELETED_MEANWHILE:
                raise PrismError(found.code, found.message)
            raise AlreadyExists
        if space.now() >= promise.dead - space.rules.late_write:
            raise PrismError(ErrorCode.DEADLINE_EXCEEDED, "the upload took too long; nothing was stored")

    return gate


async def _commit(
    space: Namespace, promise: PromiseRow, before: str | None, digests: Digests, stored: Stored
) -> ObjectInfo:
    """The bytes are down: whatever happens now, somebody will recognise them."""
    try:
        outcome = await _taken(space, promise, before, digests, stored)
    except PrismError as error:
        raise PrismError(
            ErrorCode.UPLOAD_PENDING, "the upload has arrived but could not be recorded yet; look again shortly"
        ) from error
    if isinstance(outcome, Refused):
        raise PrismError(outcome.code, outcome.message)
    row = outcome.row if isinstance(outcome, Superseded) else outcome
    return info_of(space, promise.bucket, promise.key, row)


async def _taken(
    space: Namespace, promise: PromiseRow, before: str | None, digests: Digests, stored: Stored
) -> Outcome:
    landed = await space.store.head(promise.physical_key)
    if landed is None:
        return await _recognised(space, promise)
    facts = Facts(
        size_bytes=stored.size_bytes,
        etag=digests.md5 or etag_of(promise.version_id),
        store_etag=stored.etag,
        content_type=promise.content_type,
        metadata=promise.metadata,
        crc32c=digests.crc32c,
        sha256=digests.sha256,
        landed_at=landed.landed_at,
        replaces=before,
    )
    name = promise.version_id
    found = Landed(promise, landed, facts)
    outcomes = await settle_key(space, promise.bucket, promise.key, [found], {name: facts})
    return outcomes.get(name) or await _recognised(space, promise)


async def _recognised(space: Namespace, promise: PromiseRow) -> Outcome:
    """What became of an upload that somebody else took first."""
    row = await reading.find(space, promise.bucket, promise.key)
    if row is not None and row.version_id == promise.version_id:
        return row
    if await _overtaken(space, promise.bucket, promise.key, promise.version_id):
        return Refused(code=ErrorCode.DELETED_MEANWHILE, message="the folder of this key was deleted meanwhile")
    return Refused(code=ErrorCode.OUTCOME_UNKNOWN, message="the upload was taken and overtaken meanwhile; look again")
