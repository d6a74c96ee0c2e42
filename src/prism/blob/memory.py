"""A store in this process's memory: for tests and trials, gone with the process.

It keeps the whole contract (order, create-only, pinned reads, copies and deletes, objects in parts, nothing visible
before the gate) and is what the suites of other rooms run on. An opened read keeps its bytes when the key is deleted.
With `signs` it is like a remote store whose clients come to it directly: `receive` is that store's own HTTP side.
"""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import get_args

from ..model import Bindable, ByteRange
from .driver import (
    BadPart,
    BlobEntry,
    BlobInfo,
    Bound,
    Capabilities,
    DeleteResult,
    NotFound,
    Opened,
    OpenMultipart,
    Part,
    Signed,
    Stored,
    WriteOptions,
)
from .memory_blobs import Blobs, Checksum, MemoryBody
from .memory_front import Answer, Front, Signer
from .memory_parts import Multiparts

__all__ = ["MemoryDriver"]

_LATE_WRITE_SECONDS = 60.0
_EVERYTHING: frozenset[Bindable] = frozenset(get_args(Bindable))


def _utc_now() -> datetime:
    return datetime.now(UTC)


class MemoryDriver:
    """All bytes in one dictionary. `now` is the store's clock; `checksums` it computes of what lands.

    `signs`: URLs that begin with `address`, bound to what `binds` names; since clients may then still be at work, its
    writes may land late. `conditional_delete` false: a store without that power.
    """

    def __init__(
        self,
        now: Callable[[], datetime] = _utc_now,
        *,
        signs: bool = False,
        binds: frozenset[Bindable] = _EVERYTHING,
        checksums: Collection[Checksum] = (),
        conditional_delete: bool = True,
        smallest_part_bytes: int = 1,
        address: str = "memory://store",
    ) -> None:
        self._now = now
        self._blobs = Blobs(now, checksums)
        self._multiparts = Multiparts(self._blobs, now, smallest_part_bytes)
        self._signer = Signer(address, binds)
        self._front = Front(self._blobs, self._multiparts, self._signer, now)
        self._capabilities = Capabilities(
            sign=signs,
            binds=binds if signs else frozenset(),
            multipart=True,
            smallest_part_bytes=smallest_part_bytes,
            tags=True,
            copy=True,
            conditional_put=True,
            conditional_delete=conditional_delete,
            open_survives_delete=True,
            returned_write_is_final=not signs,
            late_write_seconds=_LATE_WRITE_SECONDS if signs else 0.0,
        )

    @property
    def capabilities(self) -> Capabilities:
        """Everything; signing and conditional deletes as asked for."""
        return self._capabilities

    async def put(self, key: str, chunks: AsyncIterator[bytes], options: WriteOptions) -> Stored:
        """Gather the chunks, pass the gate, appear."""
        self._blobs.refuse_taken(key, options)
        gathered: list[bytes] = []
        async for chunk in chunks:
            if options.observe is not None:
                options.observe(chunk)
            gathered.append(chunk)
        await _pass_gate(options)
        return self._blobs.land(key, b"".join(gathered), options)

    async def get(self, key: str, byte_range: ByteRange | None, if_match: str | None) -> Opened:
        """Open the bytes as they are now."""
        blob = self._blobs.find(key, if_match)
        return Opened(blob.info, MemoryBody(blob.content, byte_range or ByteRange(0, len(blob.content))))

    async def head(self, key: str) -> BlobInfo:
        """What is known of the key."""
        return self._blobs.find(key).info

    async def delete_many(self, keys: Sequence[str]) -> list[DeleteResult]:
        """Forget the keys."""
        for key in keys:
            self._blobs.forget(key)
        return [DeleteResult(key) for key in keys]

    async def delete_if(self, key: str, if_match: str) -> None:
        """Forget the key while it holds the pinned bytes."""
        try:
            self._blobs.find(key, if_match)
        except NotFound:
            return
        self._blobs.forget(key)

    async def list(self, prefix: str, start_after: str, limit: int) -> list[BlobEntry]:
        """Keys in order."""
        return self._blobs.page(prefix, start_after, limit)

    async def copy(self, source: str, if_match: str, key: str, options: WriteOptions) -> Stored:
        """The same bytes under another key."""
        options = _create_only(options)
        self._blobs.refuse_taken(key, options)
        content = self._blobs.find(source, if_match).content
        await _pass_gate(options)
        return self._blobs.land(key, content, options)

    async def tags(self, key: str) -> Mapping[str, str]:
        """The tags beside the bytes, for tests."""
        return self._blobs.find(key).tags

    async def sign_get(
        self, key: str, now: datetime, lasting_seconds: int, content_type: str | None, disposition: str | None
    ) -> Signed:
        """A URL that `receive` serves."""
        return self._signer.get(key, now, lasting_seconds, content_type, disposition)

    async def sign_put(self, key: str, now: datetime, lasting_seconds: int, bound: Bound) -> Signed:
        """A URL that `receive` takes the object by."""
        return self._signer.put(key, now, lasting_seconds, bound)

    async def sign_part(
        self, key: str, upload: str, number: int, now: datetime, lasting_seconds: int, size_bytes: int | None
    ) -> Signed:
        """A URL that `receive` takes a part by."""
        return self._signer.part(key, upload, number, now, lasting_seconds, size_bytes)

    async def receive(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | AsyncIterator[bytes] = b""
    ) -> Answer:
        """A client's request to the store itself, by a signed URL."""
        return await self._front.receive(method, url, headers, body)

    async def create_multipart(self, key: str, options: WriteOptions) -> str:
        """Pass the gate and begin."""
        await _pass_gate(options)
        return self._multiparts.begin(key, options)

    async def put_part(self, key: str, upload: str, number: int, chunks: AsyncIterator[bytes], size_bytes: int) -> Part:
        """Gather the chunks and take them."""
        self._multiparts.parts(key, upload)
        content = b"".join([chunk async for chunk in chunks])
        if len(content) != size_bytes:
            raise BadPart(f"part {number} has {len(content)} bytes, {size_bytes} were said")
        return self._multiparts.put(key, upload, number, content)

    async def list_parts(self, key: str, upload: str) -> Sequence[Part]:
        """What has arrived."""
        return self._multiparts.parts(key, upload)

    async def complete_multipart(self, key: str, upload: str, parts: Sequence[Part], options: WriteOptions) -> Stored:
        """Check, pass the gate, appear."""
        self._multiparts.check(key, upload, parts, options)
        await _pass_gate(options)
        return self._multiparts.complete(key, upload, parts, options)

    async def abort_multipart(self, key: str, upload: str) -> None:
        """Forget the upload."""
        self._multiparts.forget(key, upload)

    async def open_multiparts(self, key: str) -> Sequence[OpenMultipart]:
        """What is open."""
        return self._multiparts.of(key)

    async def now(self) -> datetime:
        """The clock that was given."""
        return self._now()

    async def close(self) -> None:
        """Nothing to release."""


async def _pass_gate(options: WriteOptions) -> None:
    if options.gate is not None:
        await options.gate()


def _create_only(options: WriteOptions) -> WriteOptions:
    return WriteOptions(
        content_type=options.content_type, metadata=options.metadata, tags=options.tags, gate=options.gate
    )
