"""The synchronous client. Safe for several threads; not usable on the other side of a fork (make a client there).

Every wait is bounded: an operation by its deadline, a transfer also by the time in which nothing moves.
"""

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import IO, TypeVar

from . import wire
from . import wire_uploads as uploads
from .channel import Channel
from .connection import Timeouts, checked, connection
from .downloading import FileDownload
from .downloads import Download
from .errors import PrismError
from .files import Progress
from .retrying import Attempts
from .sources import source_of
from .transfers import ObjectReader, send
from .uploading import FileUpload
from .values import (
    CopyResult,
    ExpiringObject,
    ListedObject,
    ListPage,
    ObjectInfo,
    PartURL,
    PresignedURL,
    PutResult,
    UploadStatus,
    UploadTicket,
    Usage,
)

__all__ = ["ObjectReader", "PrismClient"]

T = TypeVar("T")
Data = bytes | bytearray | memoryview | IO[bytes] | Iterable[bytes]


class PrismClient:
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
        self._channel = Channel(connection(endpoint, api_key, tls, ca_file), self._timeouts)

    def __repr__(self) -> str:
        return f"PrismClient(namespace={self.namespace!r}, endpoint={self._channel.connection.target!r})"

    def __enter__(self) -> "PrismClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; calls under way are cancelled."""
        self._channel.close()

    def put_object(
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
        source = source_of(data)
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
                return send(self._channel, put.header, source, attempts.remaining_seconds())
            except PrismError as error:
                time.sleep(attempts.pause_seconds(error))

    def get_object(
        self,
        bucket: str,
        key: str,
        range_start: int | None = None,
        range_end: int | None = None,
        *,
        if_match: str | Sequence[str] | None = None,
    ) -> "ObjectReader":
        """Open an object; use it in a `with` block. The range is inclusive, as in `bytes=a-b`."""
        download = Download(self.namespace, bucket, key, range_start, range_end, if_match)
        return ObjectReader(self._channel, download, self._timeouts.transfer_seconds)

    def head_object(self, bucket: str, key: str) -> ObjectInfo:
        """What is known of an object, without its bytes."""
        return self._call(wire.head(self.namespace, bucket, key))

    def delete_object(self, bucket: str, key: str, *, if_match: str | Sequence[str] | None = None) -> bool:
        """Remove an object. Whether there was one (False, too, when a repeat found its own first attempt done)."""
        return self._call(wire.delete(self.namespace, bucket, key, if_match))

    def copy_object(
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
        return self._call(
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

    def list_pages(
        self, bucket: str, prefix: str = "", *, delimiter: str = "", start_after: str = "", page_size: int = 0
    ) -> Iterator[ListPage]:
        """All pages, in byte order of the keys; with a `delimiter` they carry common prefixes."""
        token = ""
        while True:
            page = self._call(
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

    def list_objects(
        self, bucket: str, prefix: str = "", *, delimiter: str = "", start_after: str = "", page_size: int = 0
    ) -> Iterator[ListedObject]:
        """All objects whose key begins with `prefix`, page after page, in byte order."""
        for page in self.list_pages(bucket, prefix, delimiter=delimiter, start_after=start_after, page_size=page_size):
            yield from page.objects

    def get_presigned_url(
        self,
        bucket: str,
        key: str,
        method: str = "GET",
        expires_in_seconds: int = 3600,
        *,
        content_type: str | None = None,
    ) -> str:
        """A URL that lets its holder GET, PUT or DELETE this object for 1 to 3600 seconds."""
        return self.presign(bucket, key, method, expires_in_seconds, content_type=content_type).url

    def presign(
        self,
        bucket: str,
        key: str,
        method: str = "GET",
        expires_in_seconds: int = 3600,
        *,
        content_type: str | None = None,
    ) -> PresignedURL:
        """As `get_presigned_url`, with the moment it expires and the headers that its holder must send."""
        return self._call(wire.presign(self.namespace, bucket, key, method, expires_in_seconds, content_type))

    def delete_prefix(self, bucket: str, prefix: str) -> None:
        """Remove every object below a prefix that ends in `/`, at once."""
        self._call(wire.delete_prefix(self.namespace, bucket, prefix))

    def list_expiring(self, within_seconds: int, *, page_size: int = 0) -> Iterator[ExpiringObject]:
        """All objects that expire within a time from now, soonest first."""
        token = ""
        while True:
            found, token = self._call(wire.expiring(self.namespace, within_seconds, page_size, token))
            yield from found
            if not token:
                return

    def usage(self) -> Usage:
        """What the namespace holds."""
        return self._call(wire.usage(self.namespace))

    def upload_file(
        self,
        bucket: str,
        key: str,
        path_or_file: str | os.PathLike[str] | IO[bytes],
        *,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        ttl_seconds: int | None = None,
        no_expiration: bool = False,
        if_match: str | Sequence[str] | None = None,
        if_none_match: str | Sequence[str] | None = None,
        part_size_bytes: int | None = None,
        parallel: int = 4,
        progress: Progress | None = None,
        resume: bool | str | os.PathLike[str] | None = None,
    ) -> PutResult:
        """Store a whole file; its bytes go straight to the store, in parts when they are more than one. Returns when it
        is durable and is what was read.

        The content type follows from the name unless given. Up to `part_size_bytes` (8 MiB, unless given) go in one
        piece, else `parallel` parts at a time, of a size that the server chooses. `progress(done, total)` in bytes is
        called by other threads, one call at a time. `resume` says where to note what has arrived, so that the next call
        goes on after a kill or a failure: None, a small file beside the source where it can be written; False, nowhere,
        and what was begun is given up when it fails. Errors: also FileChanged, StoreUnreachable, OSError, TypeError.
        """
        wanted = uploads.Wanted(
            namespace=self.namespace,
            bucket=bucket,
            key=key,
            content_type=content_type,
            metadata=metadata,
            ttl_seconds=ttl_seconds,
            no_expiration=no_expiration,
            if_match=if_match,
            if_none_match=if_none_match,
        )
        upload = FileUpload(
            self._channel,
            wanted,
            path_or_file,
            part_size_bytes=part_size_bytes,
            parallel=parallel,
            progress=progress,
            resume=resume,
        )
        return upload.run()

    def download_file(
        self,
        bucket: str,
        key: str,
        path: str | os.PathLike[str],
        *,
        parallel: int = 4,
        progress: Progress | None = None,
        resume: bool = True,
    ) -> ObjectInfo:
        """Fetch an object into a file, which appears (or is replaced) only when all its bytes are there and right.

        The bytes come straight from the store, `parallel` ranges at a time, all of one version; through Prism where the
        store cannot be reached (a warning in the log says so). `progress` as in `upload_file`. With `resume`, what an
        interrupted call fetched stays beside the target for the next one. Errors: also OSError of the file.
        """
        name = (self.namespace, bucket, key)
        download = FileDownload(self._channel, name, path, parallel=parallel, progress=progress, resume=resume)
        return download.run()

    def create_upload(
        self,
        bucket: str,
        key: str,
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
        expires_in_seconds: int = 3600,
        in_parts: bool = False,
        part_size_bytes: int = 0,
    ) -> UploadTicket:
        """Declare an upload that somebody else may send: the answer says where to, and what the store itself holds the
        sender to. An upload in parts needs `size_bytes`; `part_size_bytes` 0 lets the server choose."""
        wanted = uploads.Wanted(
            namespace=self.namespace,
            bucket=bucket,
            key=key,
            content_type=content_type,
            metadata=metadata,
            ttl_seconds=ttl_seconds,
            no_expiration=no_expiration,
            if_match=if_match,
            if_none_match=if_none_match,
            size_bytes=size_bytes,
            checksum_sha256=checksum_sha256,
            checksum_crc32c=checksum_crc32c,
        )
        return self._call(
            uploads.create(
                wanted, expires_in_seconds=expires_in_seconds, in_parts=in_parts, part_size_bytes=part_size_bytes
            )
        )

    def get_upload(self, upload_id: str) -> UploadStatus:
        """What became of it, and which of its parts have arrived."""
        return self._call(uploads.status(upload_id))

    def sign_parts(
        self, upload_id: str, numbers: Sequence[int], *, expires_in_seconds: int = 3600
    ) -> tuple[PartURL, ...]:
        """URLs of 1 to 100 parts; ask again for those that expired."""
        return self._call(uploads.sign_parts(upload_id, numbers, expires_in_seconds))

    def complete_upload(
        self, upload_id: str, *, checksum_sha256: str | None = None, checksum_crc32c: str | None = None
    ) -> PutResult:
        """The bytes are sent: check them and make them the object. Repeating it is harmless."""
        return self._call(uploads.complete(upload_id, checksum_sha256=checksum_sha256, checksum_crc32c=checksum_crc32c))

    def abort_upload(self, upload_id: str) -> None:
        """Give it up; what has arrived goes. ObjectNotFound when it is over."""
        self._call(uploads.abort(upload_id))

    def _call(self, call: wire.Call[T]) -> T:
        return self._channel.run(call)
