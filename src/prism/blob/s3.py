"""S3 and its compatibles as a store of bytes: one driver for Amazon's own, MinIO and others.

obstore moves bodies and looks at keys; what it lacks (lists and keys as they are, a result per deleted key, uploads in
parts, pinned copies) is asked by botocore in threads; URLs are signed here. All of them use the same keys, which are
looked up anew as they change. Nothing is repeated: the layers do that. What compatibles do not keep of S3's promises is
not declared.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec
from obstore.store import S3Store as Bucket

from ..config import S3Store
from ..model import Bindable, ByteRange
from . import obstores, s3_settings, s3_signing
from .driver import (
    AlreadyExists,
    BlobEntry,
    BlobInfo,
    Bound,
    BucketSettings,
    Capabilities,
    DeleteResult,
    EtagMismatch,
    NotFound,
    Opened,
    OpenMultipart,
    Part,
    Signed,
    Stored,
    WriteOptions,
)
from .s3_copies import COPY_IN_PARTS_BYTES, Copies
from .s3_credentials import Credentials, credentials_of
from .s3_requests import CONNECT_SECONDS, Requests, StoreAnswered
from .s3_uploads import SMALLEST_PART_BYTES, Uploads
from .threads import Threads

__all__ = ["S3Driver", "open_s3"]

_WHOLE_BYTES = 8 * 2**20
_CHUNK_BYTES = 2**20
_SIGNED_SECONDS = 900
_LOOKING_THREADS = 4
_PAGE = 1000
_SPARE = 16
_BINDS: frozenset[Bindable] = frozenset({"create_only", "size", "content_type", "metadata", "sha256", "crc32c", "md5"})
_NO_NAMES = frozenset({"XMinioInvalidObjectName", "XMinioInvalidResourceName"})  # no key of such a server begins so
_ODD = re.compile(r"[\x00-\x1f\x7f]|\A/|/\Z|//|(?:\A|/)\.{1,2}(?:/|\Z)")


async def open_s3(store: S3Store, *, keeps_conditional_deletes: bool | None = None) -> "S3Driver":
    """The driver for this bucket; no request is made.

    `keeps_conditional_deletes`: whether the server honours If-Match on a deletion; unless said, only Amazon is taken
    to: others ignore it, and delete what should be spared.
    """
    trusted = s3_signing.is_amazon(store)
    kept = trusted if keeps_conditional_deletes is None else keeps_conditional_deletes
    return S3Driver(store, conditional_delete=kept, conditional_copy=trusted)


class S3Driver:
    """One bucket. Use it from the event loop that made it, and in the process that made it."""

    def __init__(
        self,
        store: S3Store,
        *,
        conditional_delete: bool,
        conditional_copy: bool,
        copy_in_parts_bytes: int = COPY_IN_PARTS_BYTES,
    ) -> None:
        self._store = store
        self._name = store.bucket
        self._conditional_copy = conditional_copy
        self._binding = _capabilities(store, conditional_delete)
        self._loose = msgspec.structs.replace(self._binding, binds=frozenset())
        self._trusted = s3_signing.is_amazon(store)
        credentials = credentials_of(store)
        self._bucket = _bucket(store, credentials)
        self._requests = Requests(store, credentials)
        self._uploads = Uploads(self._requests, _encryption(store))
        self._copies = Copies(self._requests, self._uploads, store.bucket, copy_in_parts_bytes)
        self._looking = Threads(_LOOKING_THREADS, "prism-s3-look")

    @property
    def capabilities(self) -> Capabilities:
        """What every S3 does, and what this one is known to do. What a URL is bound to holds only where nobody passes
        it by with a header that he adds: at Amazon, and at the servers that are known here, once an answer told which
        one this is."""
        known = self._trusted or self._requests.server in s3_signing.KEEP_BONDS
        return self._binding if known else self._loose

    # -- bytes

    async def put(self, key: str, chunks: AsyncIterator[bytes], options: WriteOptions) -> Stored:
        """A short body in one request, a long one in parts."""
        cut = obstores.Cut(chunks, options.observe, self._looking)
        body = await cut.take(_WHOLE_BYTES)
        fields = _fields(options)
        if not await cut.is_over():
            return await self._uploads.put(key, body, cut, options, fields)
        if options.gate is not None:
            await options.gate()
        await self._requests.keys()
        return await obstores.put_whole(self._bucket, self._name, key, body, options, fields)

    async def get(self, key: str, byte_range: ByteRange | None, if_match: str | None) -> Opened:
        """Open the bytes."""
        if _ODD.search(key):
            return await self._get_odd(key, byte_range, if_match)
        await self._requests.keys()
        try:
            return await obstores.open_read(self._bucket, self._name, key, byte_range, if_match)
        except obstores.OddHeaders:
            return await self._get_plainly(key, byte_range, if_match)

    async def _get_odd(self, key: str, byte_range: ByteRange | None, if_match: str | None) -> Opened:
        await self._find_odd(key)
        return await self._get_plainly(key, byte_range, if_match)

    async def _get_plainly(self, key: str, byte_range: ByteRange | None, if_match: str | None) -> Opened:
        asked: dict[str, Any] = {"Key": key}
        if if_match is not None:
            asked["IfMatch"] = obstores.quoted(if_match)
        if byte_range is not None and byte_range.length:
            asked["Range"] = f"bytes={byte_range.offset}-{byte_range.offset + byte_range.length - 1}"
        empty = byte_range is not None and not byte_range.length
        answer = await self._requests.ask("head_object" if empty else "get_object", **asked)
        return Opened(_info(answer), _OddBody(self._requests, None if empty else answer["Body"]))

    async def _find_odd(self, key: str) -> None:
        """Some compatibles take `/a`, `./a` and the like for `a`: what a listing does not show is not there."""
        listed = await self.list(key, "", 1)
        if not listed or listed[0].key != key:
            raise NotFound

    async def head(self, key: str) -> BlobInfo:
        """What the store says of a key; its clock shows whole seconds."""
        if _ODD.search(key):
            await self._find_odd(key)
            return _info(await self._requests.ask("head_object", Key=key))
        await self._requests.keys()
        try:
            return await obstores.head(self._bucket, self._name, key)
        except obstores.OddHeaders:
            return _info(await self._requests.ask("head_object", Key=key))

    async def now(self) -> datetime:
        """The store's clock, from its answer about the bucket; it shows whole seconds."""
        try:
            answer = await self._requests.ask("head_bucket")
        except NotFound:
            raise obstores.answered(404, "NoSuchBucket", self._name) from None
        shown = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
        return shown.astimezone(UTC) + timedelta(milliseconds=500)

    # -- deletion

    async def delete_many(self, keys: Sequence[str]) -> list[DeleteResult]:
        """Delete in one request, and one by one those keys that XML cannot name."""
        failed: dict[str, Exception] = {}
        plain = list(dict.fromkeys(key for key in keys if not _ODD.search(key)))
        if plain:
            asked = {"Objects": [{"Key": key} for key in plain], "Quiet": True}
            answer = await self._requests.ask("delete_objects", Delete=asked)
            failed.update(self._refusals(answer))
        for key in dict.fromkeys(keys):
            if _ODD.search(key):
                try:
                    await self._find_odd(key)
                    await self._requests.ask("delete_object", Key=key)
                except NotFound:
                    continue
                except Exception as error:  # noqa: BLE001 - the result of this key; the others have their own
                    failed[key] = error
        return [DeleteResult(key, failed.get(key)) for key in keys]

    def _refusals(self, answer: Any) -> Iterator[tuple[str, Exception]]:
        for refusal in answer.get("Errors", ()):
            code = refusal.get("Code", "")
            if code != "NoSuchKey":
                yield refusal["Key"], obstores.answered(_STATUS.get(code, 400), code, self._name)

    async def delete_if(self, key: str, if_match: str) -> None:
        """Delete the pinned bytes."""
        try:
            await self._requests.ask("delete_object", Key=key, IfMatch=obstores.quoted(if_match))
        except NotFound:
            return

    # -- copies

    async def copy(self, source: str, if_match: str, key: str, options: WriteOptions) -> Stored:
        """Copy inside the bucket, pinned to the source's etag. What is asked before has the time of one request."""
        async with asyncio.timeout(self._store.request_seconds):
            info = await self.head(source)
            if info.etag != if_match:
                raise EtagMismatch
            if await self._is_taken(key):
                raise AlreadyExists
        return await self._copies.copy(info, source, key, options, _fields(options), self._conditional_copy)

    async def _is_taken(self, key: str) -> bool:
        try:
            await self.head(key)
        except NotFound:
            return False
        return True

    # -- URLs

    async def sign_get(
        self, key: str, now: datetime, lasting_seconds: int, content_type: str | None, disposition: str | None
    ) -> Signed:
        """A GET, answered with these response headers."""
        asked = {"response-content-type": content_type, "response-content-disposition": disposition}
        query = {name: value for name, value in asked.items() if value is not None}
        keys = await self._requests.keys()
        return s3_signing.sign(self._store, keys, "GET", key, now, lasting_seconds, query=query)

    async def sign_put(self, key: str, now: datetime, lasting_seconds: int, bound: Bound) -> Signed:
        """A PUT that insists on all of `bound`."""
        headers = s3_signing.signed_put(self._store, bound)
        return await self._signed_put(key, now, lasting_seconds, {}, headers)

    async def sign_part(
        self, key: str, upload: str, number: int, now: datetime, lasting_seconds: int, size_bytes: int | None
    ) -> Signed:
        """A PUT of one part."""
        headers = {} if size_bytes is None else {"content-length": str(size_bytes)}
        query = {"partNumber": str(number), "uploadId": upload}
        return await self._signed_put(key, now, lasting_seconds, query, headers)

    async def _signed_put(
        self, key: str, now: datetime, lasting_seconds: int, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> Signed:
        keys = await self._requests.keys()
        copies = self._requests.server in s3_signing.COPIES_UNSIGNED
        hidden = s3_signing.NO_COPY if copies else {}
        return s3_signing.sign(
            self._store, keys, "PUT", key, now, lasting_seconds, query=query, headers=headers, hidden=hidden
        )

    # -- objects in parts

    async def create_multipart(self, key: str, options: WriteOptions) -> str:
        """Begin an upload."""
        return await self._uploads.create(key, options, _fields(options))

    async def put_part(self, key: str, upload: str, number: int, chunks: AsyncIterator[bytes], size_bytes: int) -> Part:
        """Store one part."""
        return await self._uploads.put_part(key, upload, number, chunks, size_bytes)

    async def list_parts(self, key: str, upload: str) -> Sequence[Part]:
        """What has arrived."""
        return await self._uploads.list_parts(key, upload)

    async def complete_multipart(self, key: str, upload: str, parts: Sequence[Part], options: WriteOptions) -> Stored:
        """Make the object."""
        return await self._uploads.complete(key, upload, parts, options)

    async def abort_multipart(self, key: str, upload: str) -> None:
        """Forget an upload."""
        await self._uploads.abort(key, upload)

    async def open_multiparts(self, key: str) -> Sequence[OpenMultipart]:
        """The open uploads of this key."""
        return await self._uploads.open(key)

    # -- the bucket

    async def list(self, prefix: str, start_after: str, limit: int) -> list[BlobEntry]:
        """Keys in order, as they are. More are asked for than wanted: MinIO counts keys before `start_after` where a
        key is the folder of others (`a/` beside `a/b`), and ends a small page early."""
        asked = {"Prefix": prefix, "StartAfter": start_after, "MaxKeys": min(limit + _SPARE, _PAGE)}
        while True:
            try:
                page = await self._requests.ask("list_objects_v2", _NO_NAMES, **asked)
            except StoreAnswered:
                return []
            listed = page.get("Contents", ())
            if listed or not page.get("IsTruncated"):
                return [_entry(one) for one in listed[:limit]]
            asked["ContinuationToken"] = page["NextContinuationToken"]

    async def settings(self) -> BucketSettings:
        """What the bucket does with bytes by itself."""
        return await s3_settings.settings(self._requests)

    async def close(self) -> None:
        """Finish what is under way; the process may end afterwards."""
        await self._uploads.close()
        await self._requests.close()
        await self._looking.close()
        await obstores.linger()


class _OddBody:
    """A read of a key that obstore refuses to name, or of one whose headers it cannot read."""

    def __init__(self, requests: Requests, body: Any) -> None:
        self._requests = requests
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self._body is not None and (chunk := await self._requests.read(self._body, _CHUNK_BYTES)):
            yield chunk

    async def aclose(self) -> None:
        """Let the connection go."""
        body, self._body = self._body, None
        if body is not None:
            body.close()


_STATUS = {"AccessDenied": 403, "InternalError": 500, "SlowDown": 503, "ServiceUnavailable": 503}


def _capabilities(store: S3Store, conditional_delete: bool) -> Capabilities:
    return Capabilities(
        sign=True,
        binds=_BINDS,
        may_bind=_BINDS,
        multipart=True,
        smallest_part_bytes=SMALLEST_PART_BYTES,
        tags=True,
        copy=True,
        conditional_put=True,
        conditional_delete=conditional_delete,
        times_cut_seconds=1.0,
        late_write_seconds=store.request_seconds + _SIGNED_SECONDS,
    )


def _bucket(store: S3Store, credentials: Credentials) -> Bucket:
    """obstore's client. Every setting is given, so that the environment's variables do not reach it."""
    endpoint, root = s3_signing.bucket_url(store, store.endpoint)
    config: Any = {
        "endpoint": endpoint,
        "region": store.region,
        "virtual_hosted_style_request": not root,
        "unsigned_payload": True,
        "skip_signature": False,
        "conditional_put": "etag",
    }
    if store.encryption is not None:
        config["server_side_encryption"] = store.encryption
    if store.kms_key is not None:
        config["sse_kms_key_id"] = store.kms_key
    client: Any = {
        "allow_http": not store.use_ssl,
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
        "timeout": obstores.CLIENT_TIMEOUT,
        "pool_max_idle_per_host": str(store.max_connections),
    }
    if store.ca_file is not None:
        client["root_certificate"] = store.ca_file.read_bytes()
    return Bucket(
        store.bucket,
        config=config,
        client_options=client,
        retry_config=obstores.NO_RETRIES,
        credential_provider=credentials,  # type: ignore[arg-type]  # a plain dictionary is what it wants
    )


def _encryption(store: S3Store) -> dict[str, str]:
    parameters = {"ServerSideEncryption": store.encryption, "SSEKMSKeyId": store.kms_key}
    return {name: value for name, value in parameters.items() if value is not None}


def _fields(options: WriteOptions) -> Mapping[str, str]:
    return obstores.fitted(options.metadata, s3_signing.METADATA_BYTES, s3_signing.METADATA_OVERHEAD)


def _info(answer: Any) -> BlobInfo:
    size = int(answer.get("ContentRange", "").rpartition("/")[2] or answer["ContentLength"])
    return BlobInfo(
        etag=obstores.unquoted(answer["ETag"]),
        size_bytes=size,
        landed_at=_seconds(answer["LastModified"]),
        content_type=answer.get("ContentType", ""),
        metadata=obstores.plain_metadata(answer["Metadata"]),
    )


def _entry(listed: Any) -> BlobEntry:
    landed_at = _seconds(listed["LastModified"])
    return BlobEntry(listed["Key"], listed["Size"], obstores.unquoted(listed["ETag"]), landed_at)


def _seconds(instant: datetime) -> datetime:
    """A listing may show fractions that a head does not; both are to say the same."""
    return instant.astimezone(UTC).replace(microsecond=0)
