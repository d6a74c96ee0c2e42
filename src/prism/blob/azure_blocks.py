"""Objects that come in blocks: long puts, and uploads in parts.

Azure keeps the blocks that were put under a key, invisible, until a list of them makes the blob; that, or any other
write of the whole blob, forgets those that are not named. It knows no uploads: here a block's name says which upload it
belongs to, and small blocks say that an upload has begun, or is over while others of its key are not. So two uploads of
one key do not mix, and all there is to know stands in the store. The blob says in a field of its own which upload made
it: a completion that is asked for again gives the same answer.

To forget blocks, an empty blob takes the key, only if nothing lies there, and is deleted at once, pinned to its etag.
Where that cannot be (something lies there; another upload goes on) they stay invisible, and the store removes them a
week after the last one. A part that was sent again with as many bytes is not told from the first: what they are is
known by the checksum of the whole.
"""

import asyncio
import contextlib
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from .azure_feed import Feed
from .azure_fields import UPLOAD_FIELD, fields_of, tags_of
from .azure_requests import Requests, StoreAnswered
from .driver import AlreadyExists, BadPart, EtagMismatch, NotFound, OpenMultipart, Part, Stored, WriteOptions
from .obstores import quoted, unquoted

__all__ = ["MOST_BLOCKS", "Blocks", "block_name", "new_upload"]

MOST_BLOCKS = 50_000
_NAME = re.compile(r"(?P<upload>[0-9a-f]{28})(?P<kind>[bopz])(?P<number>[0-9]{5})\Z")
_BEGUN, _OVER, _PART, _EMPTY = "b", "o", "p", "z"
_CLEAR_SECONDS = 5.0
_BELIEVED_SECONDS = 5.0
_MOST_FOUND = 1000
_NOT_A_LIST = frozenset({"InvalidBlockList"})


class Arrived(msgspec.Struct):
    """What has arrived of one upload."""

    begun: bool = False
    over: bool = False
    parts: dict[int, int] = {}
    """Sizes by number."""

    @property
    def open(self) -> bool:
        """Whether parts are taken still."""
        return self.begun and not self.over


def new_upload(now: datetime) -> str:
    """A name that no other upload has; it says when the upload began."""
    return f"{int(now.timestamp() * 1000):012x}{secrets.token_hex(8)}"


def block_name(upload: str, number: int, kind: str = _PART) -> str:
    """The name of a block; all are equally long, as Azure wants them to be."""
    return f"{upload}{kind}{number:05d}"


class Blocks:
    """The blocks of one container. `scope`: what writes are encrypted in; `tags`: whether tags are written."""

    def __init__(self, requests: Requests, scope: str | None, tags: bool) -> None:
        self._requests = requests
        self._scope = {"encryption_scope": scope} if scope else {}
        self._tags = tags
        self._found_open: dict[tuple[str, str], float] = {}

    @property
    def scoped(self) -> bool:
        """Whether writes name an encryption scope."""
        return bool(self._scope)

    def settings_of(self, options: WriteOptions, fields: Mapping[str, str]) -> dict[str, Any]:
        """What Azure's library takes with a write that makes a blob."""
        from azure.core import MatchConditions
        from azure.storage.blob import ContentSettings

        settings: dict[str, Any] = {"metadata": dict(fields), **self._scope}
        settings["content_settings"] = ContentSettings(options.content_type or None)
        if options.create_only:
            settings["match_condition"] = MatchConditions.IfMissing
        if self._tags and options.tags:
            settings["tags"] = tags_of(options.tags)
        return settings

    async def put(self, key: str, name: str, body: Any, size_bytes: int) -> None:
        """Put one block; `body` is bytes, or like them."""
        await self._requests.ask(self._sending(key, name, body, size_bytes))

    def _sending(self, key: str, name: str, body: Any, size_bytes: int) -> Callable[[Any], Any]:
        return lambda container: container.get_blob_client(key).stage_block(
            name, body, length=size_bytes, **self._scope
        )

    async def put_from(self, url: str, etag: str, key: str, name: str, at: int, size_bytes: int) -> None:
        """Let the store put one block from a URL of its own, pinned to an etag."""
        only = {"headers": {"x-ms-source-if-match": quoted(etag)}, **self._scope}
        await self._requests.ask(
            lambda container: container.get_blob_client(key).stage_block_from_url(name, url, at, size_bytes, **only)
        )

    async def clear(self, key: str, upload: str) -> None:
        """Forget what a write left behind, if the store lets us within a few seconds: it is invisible, and forgotten
        after a week anyway."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_CLEAR_SECONDS):
                await self.abort(key, upload)

    async def commit(self, key: str, names: Sequence[str], upload: str, options: WriteOptions) -> Stored:
        """Make the blob of these blocks. `StoreAnswered` when one of them is not there."""
        fields = fields_of(options.metadata) | {UPLOAD_FIELD: upload}

        def ask(container: Any) -> Any:
            from azure.storage.blob import BlobBlock

            blocks = [BlobBlock(name) for name in names]
            return container.get_blob_client(key).commit_block_list(blocks, **self.settings_of(options, fields))

        try:
            made = await self._requests.ask(ask, _NOT_A_LIST)
        except EtagMismatch:
            raise AlreadyExists(key) from None
        return Stored(unquoted(made["etag"]), 0)

    async def forget(self, key: str) -> bool:
        """Forget all blocks of a key under which nothing lies; whether that was so."""
        try:
            empty = await self.commit(key, [], "", WriteOptions())
        except AlreadyExists:
            return False
        with contextlib.suppress(NotFound, EtagMismatch):
            await self._requests.delete_pinned(key, empty.etag)
        return True

    # -- uploads in parts

    async def begin(self, key: str, now: datetime) -> str:
        """Begin an upload in parts."""
        upload = new_upload(now)
        await self.put(key, block_name(upload, 0, _BEGUN), b"-", 1)
        return upload

    async def put_part(self, key: str, upload: str, number: int, body: Feed) -> Part:
        """Put a part of an open upload. Azure takes no empty block, so an empty part is a note."""
        size = len(body)
        if size:
            name = block_name(upload, number)
            send = self._sending(key, name, body, size)
            await self._requests.feed(send, body)
        else:
            await body.expect_end()
            await self.put(key, block_name(upload, number, _EMPTY), b"-", 1)
        return _part(number, size)

    async def check_open(self, key: str, upload: str) -> None:
        """`NotFound` when the upload is over. That it is open is believed for some seconds: to ask for all blocks
        before each of thousands of parts would take longer than to send them."""
        now = time.monotonic()
        if self._found_open.get((key, upload), 0.0) < now:
            await self._open(key, upload)
            while len(self._found_open) >= _MOST_FOUND:
                del self._found_open[next(iter(self._found_open))]
            self._found_open[key, upload] = now + _BELIEVED_SECONDS

    async def _open(self, key: str, upload: str) -> Arrived:
        arrived = (await self._arrived(key)).get(upload)
        if arrived is None or not arrived.open:
            raise NotFound(key)
        return arrived

    async def parts(self, key: str, upload: str) -> list[Part]:
        """The parts that have arrived, by number."""
        arrived = await self._open(key, upload)
        return [_part(number, size) for number, size in sorted(arrived.parts.items())]

    async def complete(self, key: str, upload: str, parts: Sequence[Part], options: WriteOptions) -> Stored:
        """Make the blob of these parts, or say again what was made of them."""
        self._found_open.pop((key, upload), None)
        arrived = (await self._arrived(key)).get(upload)
        if arrived is None or not arrived.open:
            return await self._made(key, upload, options)
        _check(arrived, parts)
        if options.gate is not None:
            await options.gate()
        names = [block_name(upload, part.number) for part in parts if arrived.parts[part.number]]
        try:
            made = await self.commit(key, names, upload, options)
        except StoreAnswered:  # another completion, or an abort, was first
            return await self._made(key, upload, options)
        return Stored(made.etag, sum(arrived.parts[part.number] for part in parts))

    async def abort(self, key: str, upload: str) -> None:
        """Forget an upload."""
        self._found_open.pop((key, upload), None)
        uploads = await self._arrived(key)
        if upload not in uploads or uploads[upload].over:
            return
        others = any(arrived.open for name, arrived in uploads.items() if name != upload)
        if others or not await self.forget(key):
            await self.put(key, block_name(upload, 0, _OVER), b"-", 1)

    async def uploads(self, key: str) -> list[OpenMultipart]:
        """What is open under a key, and parts that came after their upload was over."""
        uploads = await self._arrived(key)
        return [OpenMultipart(key, name, _began(name)) for name, arrived in uploads.items() if not arrived.over]

    async def _arrived(self, key: str) -> dict[str, Arrived]:
        try:
            _, blocks = await self._requests.ask(
                lambda container: container.get_blob_client(key).get_block_list("uncommitted")
            )
        except NotFound:
            return {}
        uploads: dict[str, Arrived] = {}
        for block in blocks:
            if name := _NAME.match(block.id):
                _note(uploads.setdefault(name["upload"], Arrived()), name, block.size)
        return uploads

    async def _made(self, key: str, upload: str, options: WriteOptions) -> Stored:
        """What this upload made; `AlreadyExists` when something else lies there and must stay."""
        found = await self._requests.ask(lambda container: container.get_blob_client(key).get_blob_properties())
        if found.metadata.get(UPLOAD_FIELD) == upload:
            return Stored(unquoted(found.etag), found.size)
        if options.create_only:
            raise AlreadyExists(key)
        raise NotFound(key)


def _note(arrived: Arrived, name: re.Match[str], size: int) -> None:
    number = int(name["number"])
    match name["kind"]:
        case "b":
            arrived.begun = True
        case "o":
            arrived.over = True
        case "z":
            arrived.parts.setdefault(number, 0)
        case "p":
            arrived.parts[number] = size


def _check(arrived: Arrived, parts: Sequence[Part]) -> None:
    if not parts:
        raise BadPart("there are no parts")
    last = 0
    for part in parts:
        if part.number <= last:
            raise BadPart("the parts are not in the order of their numbers")
        last = part.number
        if part.number not in arrived.parts or _part(part.number, arrived.parts[part.number]).etag != part.etag:
            raise BadPart(f"part {part.number} did not arrive with this etag")


def _part(number: int, size_bytes: int) -> Part:
    return Part(number=number, etag=f"{number}-{size_bytes:x}", size_bytes=size_bytes)


def _began(upload: str) -> datetime:
    return datetime.fromtimestamp(int(upload[:12], 16) / 1000, UTC)
