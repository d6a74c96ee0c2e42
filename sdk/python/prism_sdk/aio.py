"""The asynchronous client: the same operations, arguments and answers as `PrismClient`, for one event loop.

Every wait is bounded: an operation by its deadline, a transfer also by the time in which nothing moves.
"""

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import IO, TypeVar

import grpc

from . import wire
from .aio_transfers import AsyncChannel, AsyncObjectReader, send
from .connection import Timeouts, checked, connection
from .downloads import Download
from .errors import PrismError, error_of
from .files import CountedFile, Progress, content_type_of, landing
from .retrying import Attempts
from .sources import async_source_of
from .values import CopyResult, ExpiringObject, ListedObject, ListPage, ObjectInfo, PresignedURL, PutResult, Usage

__all__ = ["AsyncPrismClient"]

T = TypeVar("T")
Data = bytes | bytearray | memoryview | IO[bytes] | Iterable[bytes] | AsyncIterable[bytes]


class AsyncPrismClient:
    """Objects of one namespace.

    `endpoint` defaults to `PRISM_ENDPOINT`, then `localhost:50051`; `api_key` to `PRISM_API_KEY`. An empty `bucket`
    means the namespace's own. Connects when first used. Errors: see `prism_sdk.errors`.
    """

    def __init__(
        self,
        namespace: str,
        pattern: str = "objectstore",
        endpoint: str | None = None,
        api_key: str | None = None,
        *,
        tls: bool | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        self._timeouts = timeouts or Timeouts()
        self.namespace = checked(namespace, pattern)
        self._channel = AsyncChannel(connection(endpoint, api_key, tls, ca_file), self._timeouts.stall_seconds)

    def __repr__(self) -> str:
        return f"AsyncPrismClient(namespace={self.namespace!r}, endpoint={self._channel.connection.target!r})"

    async def __aenter__(self) -> "AsyncPrismClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection; calls under way are cancelled."""
        await self._channel.close()

    async def put_object(
        self,
        bucket: str,
        key: str,
        data: Data,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        ttl_seconds: int | None = None,
        *,
        no_expiration: bool = False,
        if_match: str | Sequence[str] | None = None,
        if_none_match: str | Sequence[str] | None = None,
        size_bytes: int | None = None,
        checksum_sha256: str | None = None,
        checksum_crc32c: str | None = None,
    ) -> PutResult:
        """Store `data`: bytes, a binary file from where it stands, or an iterable of bytes. Returns when it is durable.

        `if_none_match="*"` puts only where nothing is. Bytes and seekable files are sent again after a failure that
        allows it. `checksum_sha256` is hex, `checksum_crc32c` base64.
        """
        source = async_source_of(data)
        put = wire.upload(
            self.namespace,
            bucket,
            key,
            content_type=content_type,
            metadata=metadata,
            ttl_seconds=ttl_seconds,
            no_expiration=no_expiration,
            if_match=if_match,
            if_none_match=if_none_match,
            size_bytes=source.size_bytes if size_bytes is None else size_bytes,
            checksum_sha256=checksum_sha256,
            checksum_crc32c=checksum_crc32c or source.checksum_crc32c,
        )
        attempts = Attempts(put.repeat if source.replayable else wire.Repeat.NEVER, self._timeouts.transfer_seconds)
        while True:
            try:
                return await send(self._channel, put.header, source, attempts.remaining_seconds())
            except PrismError as error:
                await asyncio.sleep(attempts.pause_seconds(error))

    def get_object(
        self,
        bucket: str,
        key: str,
        range_start: int | None = None,
        range_end: int | None = None,
        *,
        if_match: str | Sequence[str] | None = None,
    ) -> "AsyncObjectReader":
        """An object to open, by `async with`. The range is inclusive, as in `bytes=a-b`."""
        download = Download(self.namespace, bucket, key, range_start, range_end, if_match)
        return AsyncObjectReader(self._channel, download, self._timeouts.transfer_seconds)

    async def head_object(self, bucket: str, key: str) -> ObjectInfo:
        """What is known of an object, without its bytes."""
        return await self._call(wire.head(self.namespace, bucket, key))

    async def delete_object(self, bucket: str, key: str, *, if_match: str | Sequence[str] | None = None) -> bool:
        """Remove an object. Whether there was one (False, too, when a repeat found its own first attempt done)."""
        return await self._call(wire.delete(self.namespace, bucket, key, if_match))

    async def copy_object(
        self,
        source_bucket: str,
        source_key: str,
        destination_bucket: str,
        destination_key: str,
        *,
        source_namespace: str | None = None,
        destination_namespace: str | None = None,
        ttl_seconds: int | None = None,
        no_expiration: bool = False,
        if_match: str | Sequence[str] | None = None,
        if_none_match: str | Sequence[str] | None = None,
        source_if_match: str | Sequence[str] | None = None,
    ) -> CopyResult:
        """Copy an object with its content type and metadata; its TTL is the destination's default unless given."""
        return await self._call(
            wire.copy(
                (source_namespace or self.namespace, source_bucket, source_key),
                (destination_namespace or self.namespace, destination_bucket, destination_key),
                ttl_seconds=ttl_seconds,
                no_expiration=no_expiration,
                if_match=if_match,
                if_none_match=if_none_match,
                source_if_match=source_if_match,
            )
        )

    async def list_pages(
        self, bucket: str, prefix: str = "", *, delimiter: str = "", start_after: str = "", page_size: int = 0
    ) -> AsyncIterator[ListPage]:
        """All pages, in byte order of the keys; with a `delimiter` they carry common prefixes."""
        token = ""
        while True:
            page = await self._call(
                wire.list_page(
                    self.namespace,
                    bucket,
                    prefix,
                    delimiter=delimiter,
                    start_after=start_after,
                    max_results=page_size,
                    token=token,
                )
            )
            yield page
            token = page.next_token
            if not token:
                return

    async def list_objects(
        self, bucket: str, prefix: str = "", *, delimiter: str = "", start_after: str = "", page_size: int = 0
    ) -> AsyncIterator[ListedObject]:
        """All objects whose key begins with `prefix`, page after page, in byte order."""
        async for page in self.list_pages(
            bucket, prefix, delimiter=delimiter, start_after=start_after, page_size=page_size
        ):
            for one in page.objects:
                yield one

    async def get_presigned_url(
        self,
        bucket: str,
        key: str,
        method: str = "GET",
        expires_in_seconds: int = 3600,
        *,
        content_type: str | None = None,
    ) -> str:
        """A URL that lets its holder GET, PUT or DELETE this object for 1 to 3600 seconds."""
        made = await self.presign(bucket, key, method, expires_in_seconds, content_type=content_type)
        return made.url

    async def presign(
        self,
        bucket: str,
        key: str,
        method: str = "GET",
        expires_in_seconds: int = 3600,
        *,
        content_type: str | None = None,
    ) -> PresignedURL:
        """As `get_presigned_url`, with the moment it expires and the headers that its holder must send."""
        return await self._call(wire.presign(self.namespace, bucket, key, method, expires_in_seconds, content_type))

    async def delete_prefix(self, bucket: str, prefix: str) -> None:
        """Remove every object below a prefix that ends in `/`, at once."""
        await self._call(wire.delete_prefix(self.namespace, bucket, prefix))

    async def list_expiring(self, within_seconds: int, *, page_size: int = 0) -> AsyncIterator[ExpiringObject]:
        """All objects that expire within a time from now, soonest first."""
        token = ""
        while True:
            found, token = await self._call(wire.expiring(self.namespace, within_seconds, page_size, token))
            for one in found:
                yield one
            if not token:
                return

    async def usage(self) -> Usage:
        """What the namespace holds."""
        return await self._call(wire.usage(self.namespace))

    async def put_file(
        self,
        bucket: str,
        key: str,
        path: str | os.PathLike[str],
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        ttl_seconds: int | None = None,
        *,
        no_expiration: bool = False,
        if_match: str | Sequence[str] | None = None,
        if_none_match: str | Sequence[str] | None = None,
        progress: Progress | None = None,
    ) -> PutResult:
        """Store a file. The content type follows from its name unless given; `progress(done, total)` in bytes."""
        with await asyncio.to_thread(open, path, "rb") as file:
            return await self.put_object(
                bucket,
                key,
                CountedFile(file, progress),  # type: ignore[arg-type]  # has what is used of a file
                content_type or content_type_of(path),
                metadata,
                ttl_seconds,
                no_expiration=no_expiration,
                if_match=if_match,
                if_none_match=if_none_match,
            )

    async def get_file(
        self, bucket: str, key: str, path: str | os.PathLike[str], *, progress: Progress | None = None
    ) -> ObjectInfo:
        """Fetch an object into a file, which appears (or is replaced) only when all its bytes are there and right."""
        async with self.get_object(bucket, key) as opened:
            with landing(path) as file:
                async for chunk in opened.stream():
                    await asyncio.to_thread(file.write, chunk)
                    if progress is not None:
                        progress(opened.received_bytes, opened.size_bytes)
            return opened.info

    async def _call(self, call: wire.Call[T]) -> T:
        budget = self._timeouts.transfer_seconds if call.moves_bytes else self._timeouts.call_seconds
        attempts = Attempts(call.repeat, budget)
        while True:
            try:
                run = self._channel.method("unary_unary", call.method)
                timeout = attempts.remaining_seconds()
                return call.parse(await run(call.request, timeout=timeout, metadata=self._channel.connection.metadata))
            except grpc.RpcError as error:
                await asyncio.sleep(attempts.pause_seconds(error_of(error)))
