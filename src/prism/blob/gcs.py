"""Google Cloud Storage as a store of bytes.

The store's etag is the object's generation: a number of its own for every time bytes were written. Reads, copies and
deletes name it, so the store itself holds them to those bytes; its HTTP etag would pin reads only. `landed_at` is when
that generation was made (of an opened read, to the second).
A namespace whose endpoint is not Google's and that has no key is nobody to the store: such an emulator is asked without
credentials, and signs nothing. Requests: `gcs_http.py`; uploads: `gcs_upload.py`; uploads in parts: `gcs_parts.py`;
URLs: `gcs_signing.py`; credentials: `gcs_identity.py`.
"""

import asyncio
import email.utils
import urllib.parse
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime

from ..config import GCSStore
from ..errors import ErrorCode, PrismError
from ..model import Bindable, ByteRange
from .driver import (
    BlobEntry,
    BlobInfo,
    Bound,
    BucketSettings,
    Capabilities,
    DeleteResult,
    Driver,
    EtagMismatch,
    NotFound,
    Opened,
    OpenMultipart,
    Part,
    Signed,
    Stored,
    WriteOptions,
)
from .gcs_http import Answer, Http
from .gcs_identity import GOOGLE, identity_of
from .gcs_objects import Objects, entry_of, hexadecimal, is_generation
from .gcs_parts import Parts
from .gcs_settings import settings_of
from .gcs_signing import bound_headers, signed_url
from .gcs_upload import upload
from .obstores import plain_metadata

__all__ = ["GCSDriver", "open_gcs"]

_BINDS: frozenset[Bindable] = frozenset({"create_only", "size", "content_type", "metadata", "crc32c", "md5"})
_DELETES_AT_ONCE = 32
_LATE_SECONDS = 900.0
"""How long a request that a dead machine left in the network may still be carried on (a token lives longer)."""


async def open_gcs(store: GCSStore) -> Driver:
    """The driver for this bucket; no request is made. INVALID_ARGUMENT for a key that is none."""
    return GCSDriver(store, Http(store, identity_of(store)))


class GCSDriver:
    """One bucket."""

    def __init__(self, store: GCSStore, http: Http) -> None:
        self._http = http
        self._bucket = store.bucket
        self._kms_key = store.kms_key
        self._public = store.public_endpoint or store.endpoint or GOOGLE
        self._objects = Objects(http, store.kms_key)
        self._parts = Parts(self._objects, store.prefix)
        self._capabilities = Capabilities(
            sign=http.identity.can_sign,
            binds=_BINDS if http.identity.can_sign else frozenset(),
            multipart=True,
            copy=True,
            conditional_put=True,
            conditional_delete=True,
            late_write_seconds=store.request_seconds + _LATE_SECONDS,
        )

    @property
    def capabilities(self) -> Capabilities:
        """Everything but tags; without credentials, nothing can be signed."""
        return self._capabilities

    async def put(self, key: str, chunks: AsyncIterator[bytes], options: WriteOptions) -> Stored:
        """One request, or a resumable session from 8 MiB on."""
        made = await upload(self._http, key, chunks, options, self._kms_key)
        return Stored(made["generation"], int(made["size"]))

    async def get(self, key: str, byte_range: ByteRange | None, if_match: str | None) -> Opened:
        """Open the bytes of one generation."""
        if if_match is not None and not is_generation(if_match):
            raise await self._objects.changed(key)
        if byte_range is not None and not byte_range.length:
            return await self._open_nothing(key, if_match)
        # A client that takes gzip gets an object as it is stored; the XML API alone gives its metadata with its bytes.
        headers = {"Accept-Encoding": "gzip"}
        if byte_range is not None:
            headers["Range"] = f"bytes={byte_range.offset}-{byte_range.offset + byte_range.length - 1}"
        path = f"/{self._bucket}/{urllib.parse.quote(key, safe='')}"
        answer, body = await self._http.read(path, {"generation": if_match}, headers)
        if body is None:
            raise await self._unread(key, if_match, answer)
        if (answer.status == 206) != (byte_range is not None):
            await body.aclose()
            raise ConnectionError("the store answered another range than was asked for")
        return Opened(_read_info(answer), body)

    async def _unread(self, key: str, if_match: str | None, answer: Answer) -> Exception:
        refusal = self._http.refusal(answer)
        if not isinstance(refusal, NotFound):
            return refusal
        if if_match is not None:
            return await self._objects.changed(key)
        await self._http.check_bucket()
        return refusal

    async def _open_nothing(self, key: str, if_match: str | None) -> Opened:
        info = await self.head(key)
        if if_match not in {None, info.etag}:
            raise EtagMismatch(key)
        return Opened(info, _Nothing())

    async def head(self, key: str) -> BlobInfo:
        """The store's resource of the key."""
        return await self._objects.head(key)

    async def delete_many(self, keys: Sequence[str]) -> list[DeleteResult]:
        """A request per key, some at a time."""
        slots = asyncio.Semaphore(_DELETES_AT_ONCE)

        async def delete(key: str) -> DeleteResult:
            async with slots:
                try:
                    await self._objects.delete(key, {})
                except Exception as error:  # noqa: BLE001 - one key's failure is its own result
                    return DeleteResult(key, error)
            return DeleteResult(key)

        return await asyncio.gather(*(delete(key) for key in keys))

    async def delete_if(self, key: str, if_match: str) -> None:
        """Delete one generation for good, also where the bucket keeps versions."""
        pinned = {"generation": if_match, "ifGenerationMatch": if_match}
        if is_generation(if_match) and await self._objects.delete(key, pinned):
            return
        changed = await self._objects.changed(key)
        if not isinstance(changed, NotFound):
            raise changed

    async def list(self, prefix: str, start_after: str, limit: int) -> list[BlobEntry]:
        """Page by page until `limit` keys are found; parts of unfinished uploads are none."""
        found: list[BlobEntry] = []
        start, token, hidden = start_after, None, self._parts.folder
        while len(found) < limit:
            items, token = await self._objects.page(prefix, start, token, limit - len(found) + 1)
            entries = [entry_of(item) for item in items]
            found += (entry for entry in entries if entry.key != start_after and not entry.key.startswith(hidden))
            if entries and entries[-1].key.startswith(hidden):
                start, token = self._parts.beyond, None
            elif token is None:
                break
        return found[:limit]

    async def copy(self, source: str, if_match: str, key: str, options: WriteOptions) -> Stored:
        """A rewrite of one generation."""
        return await self._objects.copy(source, if_match, key, options)

    async def now(self) -> datetime:
        """The `Date` of an answer, to the second."""
        answer = await self._http.glance()
        return _http_time(answer.headers.get("date", ""))

    async def settings(self) -> BucketSettings:
        """What the bucket does by itself; nothing is known to a role that may not look at buckets."""
        answer = await self._http.ask("GET", f"/storage/v1/b/{self._bucket}", {"projection": "noAcl"})
        if answer.status in {401, 403}:
            return BucketSettings()
        if answer.status != 200:
            raise self._http.refusal(answer, "NoSuchBucket")
        return settings_of(answer.resource, self._parts.folder)

    async def close(self) -> None:
        """Wait for requests under way, let threads and connections go."""
        await self._http.close()

    # -- signed URLs

    async def sign_get(
        self, key: str, now: datetime, lasting_seconds: int, content_type: str | None, disposition: str | None
    ) -> Signed:
        """A GET of the XML API."""
        asked = {"response-content-type": content_type, "response-content-disposition": disposition}
        query = {name: value for name, value in asked.items() if value is not None}
        return await self._sign("GET", key, now, lasting_seconds, {}, query)

    async def sign_put(self, key: str, now: datetime, lasting_seconds: int, bound: Bound) -> Signed:
        """A PUT of the XML API, held to everything but a SHA-256 and tags, which the store does not check."""
        return await self._sign("PUT", key, now, lasting_seconds, bound_headers(bound, self._kms_key), {})

    async def sign_part(
        self, key: str, upload: str, number: int, now: datetime, lasting_seconds: int, size_bytes: int | None
    ) -> Signed:
        """A PUT of the part's own object."""
        headers = bound_headers(Bound(size_bytes=size_bytes), self._kms_key)
        return await self._sign("PUT", self._parts.name(key, upload, number), now, lasting_seconds, headers, {})

    async def _sign(
        self,
        method: str,
        key: str,
        now: datetime,
        lasting_seconds: int,
        headers: Mapping[str, str],
        query: Mapping[str, str],
    ) -> Signed:
        """In a thread: a signature takes a millisecond, or a request to the IAM service."""
        identity = self._http.identity

        def signed() -> str:
            return signed_url(
                method,
                self._public,
                f"/{self._bucket}/{key}",
                email=identity.email(),
                sign=identity.sign,
                now=now,
                lasting_seconds=lasting_seconds,
                headers=headers,
                query=query,
            )

        return Signed(await self._http.threads.run(signed), headers)

    # -- uploads in parts

    async def create_multipart(self, key: str, options: WriteOptions) -> str:
        """Write the upload's marker."""
        return await self._parts.create(key, options)

    async def put_part(self, key: str, upload: str, number: int, chunks: AsyncIterator[bytes], size_bytes: int) -> Part:
        """Write the part's own object."""
        return await self._parts.put(key, upload, number, chunks, size_bytes)

    async def list_parts(self, key: str, upload: str) -> Sequence[Part]:
        """The parts' objects."""
        return await self._parts.arrived(key, upload)

    async def complete_multipart(self, key: str, upload: str, parts: Sequence[Part], options: WriteOptions) -> Stored:
        """Let the store put them together, then remove them."""
        return await self._parts.complete(key, upload, parts, options)

    async def abort_multipart(self, key: str, upload: str) -> None:
        """Remove the parts, then the marker."""
        await self._parts.clear(key, upload)

    async def open_multiparts(self, key: str) -> Sequence[OpenMultipart]:
        """Uploads of which a marker or a part lies there."""
        return await self._parts.open(key)


class _Nothing:
    """The body of a range of no bytes."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        return
        yield b""

    async def aclose(self) -> None:
        """Nothing to release."""


def _read_info(answer: Answer) -> BlobInfo:
    headers = answer.headers
    hashes = dict(part.strip().split("=", 1) for part in headers.get("x-goog-hash", "").split(",") if "=" in part)
    mark = "x-goog-meta-"
    return BlobInfo(
        etag=headers["x-goog-generation"],
        size_bytes=int(headers["x-goog-stored-content-length"]),
        landed_at=_http_time(headers.get("last-modified", "")),
        content_type=headers.get("content-type", ""),
        metadata=plain_metadata({n.removeprefix(mark): value for n, value in headers.items() if n.startswith(mark)}),
        crc32c=hashes.get("crc32c") or None,
        md5=hexadecimal(hashes.get("md5")),
    )


def _http_time(text: str) -> datetime:
    try:
        return email.utils.parsedate_to_datetime(text).astimezone(UTC)
    except ValueError:
        pass
    raise PrismError(ErrorCode.STORE_DOWN, "the store's answer carries no time")
