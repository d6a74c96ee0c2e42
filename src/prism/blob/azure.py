"""Azure Blob Storage as a store of bytes: obstore moves them, Azure's own library does what obstore lacks.

A body of up to 8 MiB is one request, a longer one goes in blocks, and either is refused by the store when something
lies under the key already. Accounts with a hierarchical namespace are not for Prism: their folders are things of their
own, and their listings have another order. MD5s are not reported, as whoever may write a blob may say any.

A signature opens a blob, not a request. A URL that writes is good for as many writes of anything as its holder likes
until it ends (`binds` is empty), so Prism signs such URLs for staging keys only; one for a part may only create, and
never changes a blob that is there.
"""

import contextlib
import re
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from obstore.store import AzureStore as Container

from ..config import AzureStore
from ..errors import ErrorCode, PrismError
from ..model import ByteRange
from .azure_blocks import MOST_BLOCKS, Blocks, block_name, new_upload
from .azure_copies import Copies
from .azure_feed import Feed
from .azure_fields import fields_of, metadata_of, tags_of
from .azure_foreign import is_foreign, is_nowhere, open_foreign
from .azure_listing import in_byte_order
from .azure_pages import Pages
from .azure_requests import CONNECT_SECONDS, Requests, credential_of, default_chain, refusal, url_of
from .azure_sas import AccountKey
from .azure_signing import Signer
from .driver import (
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
from .obstores import (
    CLIENT_TIMEOUT,
    NO_RETRIES,
    Cut,
    OddHeaders,
    linger,
    open_read,
    plain_metadata,
    put_whole,
    unquoted,
)

__all__ = ["AzureDriver", "open_azure"]

_BLOCK_BYTES = 8 * 2**20
_BATCH = 256
_SIGNED_SECONDS = 900.0
_WEEK_DAYS = 7
_NAME = re.compile(r"[a-z0-9](?:-?[a-z0-9])+\Z")


async def open_azure(store: AzureStore, chain: Callable[[], Any] | None = None) -> "AzureDriver":
    """The driver for this container; no request is made. `chain` stands for the cloud's default credential chain.
    INVALID_ARGUMENT for a name or a key that Azure has not."""
    if not _NAME.match(store.bucket):
        what = "a container of azure has letters, digits and single hyphens"
        raise PrismError(ErrorCode.INVALID_ARGUMENT, f"bucket {store.bucket!r}: {what}")
    return AzureDriver(store, credential_of(store), chain or default_chain)


class AzureDriver:
    """One container. `key`: the account's, or None for the chain."""

    def __init__(self, store: AzureStore, key: AccountKey | None, chain: Callable[[], Any]) -> None:
        inside = url_of(store.endpoint, store.access_key)
        outside = url_of(store.public_endpoint, store.access_key) if store.public_endpoint else inside
        self._bucket = store.bucket
        self._requests = Requests(store, inside, key, chain)
        self._container = _container(store, inside, key, self._requests)
        self._blocks = Blocks(self._requests, store.encryption_scope, tags=key is not None)
        self._signer = Signer(self._requests, store.access_key, store.bucket, outside, inside)
        self._copies = Copies(self._requests, self._blocks, self._source_url)
        self._pages = Pages(self._requests)
        self._has_key = key is not None
        self._capabilities = Capabilities(
            sign=True,
            multipart=True,
            largest_part_bytes=4000 * 2**20,
            most_parts=MOST_BLOCKS,
            tags=key is not None,  # the usual role for data may not write tags
            copy=True,
            conditional_put=True,
            conditional_delete=True,
            times_cut_seconds=1.0,
            late_write_seconds=store.request_seconds + _SIGNED_SECONDS,
        )

    @property
    def capabilities(self) -> Capabilities:
        """All powers; nothing can be bound."""
        return self._capabilities

    async def put(self, key: str, chunks: AsyncIterator[bytes], options: WriteOptions) -> Stored:
        """One request for what fits a block, several for more."""
        cut = Cut(chunks, options.observe, self._requests.threads)
        first = await cut.take(_BLOCK_BYTES)
        if self._blocks.scoped or (len(first) == _BLOCK_BYTES and not await cut.is_over()):
            return await self._put_blocks(key, first, cut, options)
        if options.gate is not None:
            await options.gate()
        if not self._capabilities.tags:
            options = msgspec.structs.replace(options, tags={})
        elif options.tags:
            options = msgspec.structs.replace(options, tags=tags_of(options.tags))
        return await put_whole(self._container, self._bucket, key, first, options, fields_of(options.metadata))

    async def _put_blocks(self, key: str, body: Any, cut: Cut, options: WriteOptions) -> Stored:
        if options.gate is not None:
            await options.gate()
        upload = new_upload(datetime.now(UTC))
        names: list[str] = []
        size = 0
        try:
            while body:
                names.append(block_name(upload, len(names) + 1))
                size += len(body)
                await self._blocks.put(key, names[-1], body, len(body))
                del body
                body = await cut.take(_BLOCK_BYTES)
            if options.gate is not None:
                await options.gate()
            made = await self._blocks.commit(key, names, upload, options)
        except BaseException:
            await self._blocks.clear(key, upload)
            raise
        return Stored(made.etag, size)

    async def get(self, key: str, byte_range: ByteRange | None, if_match: str | None) -> Opened:
        """Open the bytes."""
        if is_foreign(key) or is_nowhere(key):
            return await self._get_foreign(key, byte_range, if_match)
        try:
            opened = await open_read(self._container, self._bucket, key, byte_range, if_match)
        except EtagMismatch:
            await self.head(key)  # an absent key does not match either
            raise
        except OddHeaders:
            return await self._get_foreign(key, byte_range, if_match)
        named = msgspec.structs.replace(opened.info, metadata=metadata_of(opened.info.metadata))
        return Opened(named, opened.body)

    async def _get_foreign(self, key: str, byte_range: ByteRange | None, if_match: str | None) -> Opened:
        info = await self.head(key)
        if if_match not in {None, info.etag}:
            raise EtagMismatch(key)
        return open_foreign(self._requests, key, info, byte_range)

    async def head(self, key: str) -> BlobInfo:
        """What the store says of the key. A copy that is not whole is nothing yet."""
        if is_nowhere(key):
            raise NotFound(key)
        found = await self._requests.ask(lambda container: container.get_blob_client(key).get_blob_properties())
        if found.copy.status not in {None, "success"}:
            raise NotFound(key)
        return BlobInfo(
            etag=unquoted(found.etag),
            size_bytes=found.size,
            landed_at=found.last_modified.astimezone(UTC),
            content_type=found.content_settings.content_type or "",
            metadata=metadata_of(plain_metadata(found.metadata)),
            offline=str(found.blob_tier) == "Archive",
        )

    async def delete_many(self, keys: Sequence[str]) -> list[DeleteResult]:
        """In batches; snapshots go along. Whoever held a URL may have leased its blob for good: the lease is broken."""
        failed: dict[str, Exception] = {}
        leased: list[str] = []
        asked = [key for key in dict.fromkeys(keys) if not is_nowhere(key)]
        for start in range(0, len(asked), _BATCH):
            failed |= await self._requests.ask(self._deleting(asked[start : start + _BATCH], leased))
        for key in leased:
            try:
                await self._requests.ask(_delete_leased(key))
            except NotFound:
                continue
            except Exception as error:  # noqa: BLE001 - the result of this key; the others have their own
                failed[key] = error
        return [DeleteResult(key, failed.get(key)) for key in keys]

    def _deleting(self, keys: Sequence[str], leased: list[str]) -> Callable[[Any], dict[str, Exception]]:
        def ask(container: Any) -> dict[str, Exception]:
            answers = container.delete_blobs(*keys, delete_snapshots="include", raise_on_any_failure=False)
            failed: dict[str, Exception] = {}
            for key, answer in zip(keys, answers, strict=True):
                code = answer.headers.get("x-ms-error-code") or ""
                if code == "LeaseIdMissing":
                    leased.append(key)
                elif answer.status_code >= 300 and (answer.status_code != 404 or code == "ContainerNotFound"):
                    failed[key] = refusal(answer.status_code, code, self._bucket)
            return failed

        return ask

    async def delete_if(self, key: str, if_match: str) -> None:
        """Delete the pinned bytes."""
        try:
            await self._requests.delete_pinned(key, if_match)
        except NotFound:
            return
        except EtagMismatch:
            with contextlib.suppress(NotFound):
                await self.head(key)
                raise

    async def list(self, prefix: str, start_after: str, limit: int) -> list[BlobEntry]:
        """A page in byte order, which is not Azure's own."""
        return await in_byte_order(self._pages.scan, prefix, start_after, limit)

    async def copy(self, source: str, if_match: str, key: str, options: WriteOptions) -> Stored:
        """Copy inside the account."""
        if options.gate is not None:
            await options.gate()
        return await self._copies.copy(source, if_match, key, options)

    async def _source_url(self, key: str) -> str:
        """The account's key may read all of it; a delegated one, and a copy block by block, need a signature."""
        if self._has_key and not self._blocks.scoped:
            return self._signer.plain(key)
        return await self._signer.source(key, datetime.now(UTC))

    # -- URLs

    async def sign_get(
        self, key: str, now: datetime, lasting_seconds: int, content_type: str | None, disposition: str | None
    ) -> Signed:
        """Reads."""
        return await self._signer.get(key, now, lasting_seconds, content_type, disposition)

    async def sign_put(self, key: str, now: datetime, lasting_seconds: int, bound: Bound) -> Signed:
        """Writes; nothing is bound."""
        return await self._signer.put(key, now, lasting_seconds)

    async def sign_part(
        self, key: str, upload: str, number: int, now: datetime, lasting_seconds: int, size_bytes: int | None
    ) -> Signed:
        """Puts a part."""
        return await self._signer.part(key, upload, number, now, lasting_seconds)

    # -- uploads in parts

    async def create_multipart(self, key: str, options: WriteOptions) -> str:
        """Begin. What the options say of the object is taken at its completion."""
        if options.gate is not None:
            await options.gate()
        return await self._blocks.begin(key, datetime.now(UTC))

    async def put_part(self, key: str, upload: str, number: int, chunks: AsyncIterator[bytes], size_bytes: int) -> Part:
        """Send a part on as it comes."""
        await self._blocks.check_open(key, upload)
        return await self._blocks.put_part(key, upload, number, Feed(chunks, size_bytes))

    async def list_parts(self, key: str, upload: str) -> Sequence[Part]:
        """What has arrived."""
        return await self._blocks.parts(key, upload)

    async def complete_multipart(self, key: str, upload: str, parts: Sequence[Part], options: WriteOptions) -> Stored:
        """Make the object."""
        return await self._blocks.complete(key, upload, parts, options)

    async def abort_multipart(self, key: str, upload: str) -> None:
        """Forget the upload."""
        await self._blocks.abort(key, upload)

    async def open_multiparts(self, key: str) -> Sequence[OpenMultipart]:
        """What is open."""
        return await self._blocks.uploads(key)

    # -- the store

    async def now(self) -> datetime:
        """The store's clock, to the second."""
        return await self._requests.now()

    async def settings(self) -> BucketSettings:
        """What the account and the container do by themselves."""
        return BucketSettings(
            versioning=await self._requests.versions(),
            object_lock=await self._requests.locks(),
            soft_delete_seconds=await self._requests.keeps_deleted_seconds(),
            aborts_uploads_days=_WEEK_DAYS,
        )

    async def close(self) -> None:
        """Let the connections go; the loop outlives obstore's threads."""
        await self._requests.close()
        await linger()


def _delete_leased(key: str) -> Callable[[Any], None]:
    def ask(container: Any) -> None:
        from azure.storage.blob import BlobLeaseClient

        blob = container.get_blob_client(key)
        BlobLeaseClient(blob).break_lease(lease_break_period=0)
        blob.delete_blob("include")

    return ask


def _container(store: AzureStore, url: str, key: AccountKey | None, requests: Requests) -> Container:
    """obstore's client. Every setting that chooses a credential is given, so that variables do not reach it."""
    client: Any = {
        "allow_http": url.startswith("http://"),
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
        "timeout": CLIENT_TIMEOUT,
        "pool_max_idle_per_host": str(store.max_connections),
    }
    if store.ca_file is not None:
        client["root_certificate"] = store.ca_file.read_bytes()
    config: Any = {"account_name": store.access_key, "endpoint": url, "use_emulator": False, "skip_signature": False}
    if key is not None:
        config |= {"account_key": key.text, "credential_type": "access_key"}
    provider: Any = None if key is not None else requests.token
    return Container(
        store.bucket, config=config, client_options=client, retry_config=NO_RETRIES, credential_provider=provider
    )
