"""Copies inside an account, pinned to the source's etag.

Azure copies a blob with its type, and with its metadata when none is given: both are set right before the copy's etag
is told. A copy in one account is usually done at once; one that is not is waited for, and given up with its caller.
Into an encryption scope Azure copies only block by block, from a URL that opens the source for a while.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from .azure_blocks import Blocks, block_name, new_upload
from .azure_fields import fields_of
from .azure_requests import Requests, StoreAnswered, pinned
from .driver import AlreadyExists, EtagMismatch, NotFound, Stored, WriteOptions
from .obstores import quoted, unquoted

__all__ = ["Copies"]

_OF_THE_SOURCE = frozenset({"SourceConditionNotMet"})
_LOOK_SECONDS = 0.25
_PIECE_BYTES = 1000 * 2**20


class Copies:
    """Copies of one container. `source_url` gives a URL of a key that the store may read, signed where it has to be."""

    def __init__(self, requests: Requests, blocks: Blocks, source_url: Callable[[str], Awaitable[str]]) -> None:
        self._requests = requests
        self._blocks = blocks
        self._source_url = source_url

    async def copy(self, source: str, etag: str, key: str, options: WriteOptions) -> Stored:
        """The same bytes under another key, never over anything. The gate has been passed."""
        url = await self._source_url(source)
        if self._blocks.scoped:
            return await self._by_blocks(source, url, etag, key, options)
        fields = fields_of(options.metadata)
        await self._start(url, etag, key, options, fields)
        found = await self._done(key)
        made = unquoted(found.etag)
        if found.metadata and not fields:
            made = await self._set(key, made, lambda blob, only: blob.set_blob_metadata({}, **only))
        if (found.content_settings.content_type or "") != options.content_type:
            made = await self._set(key, made, _typed(options.content_type))
        return Stored(made, found.size)

    async def _start(self, url: str, etag: str, key: str, options: WriteOptions, fields: dict[str, str]) -> None:
        settings = self._blocks.settings_of(msgspec.structs.replace(options, create_only=True), fields)
        del settings["content_settings"]

        def ask(container: Any) -> None:
            from azure.core import MatchConditions

            source = {"source_etag": quoted(etag), "source_match_condition": MatchConditions.IfNotModified}
            container.get_blob_client(key).start_copy_from_url(url, **source, **settings)

        try:
            await self._requests.ask(ask, _OF_THE_SOURCE)
        except StoreAnswered:
            raise EtagMismatch(key) from None
        except EtagMismatch:  # a server may say this of either end
            try:
                await self._requests.ask(lambda container: container.get_blob_client(key).get_blob_properties())
            except NotFound:
                raise EtagMismatch(key) from None
            raise AlreadyExists(key) from None

    async def _done(self, key: str) -> Any:
        """What the store says of the copy, once it is whole."""
        copy = ""
        try:
            while True:
                found = await self._requests.ask(lambda container: container.get_blob_client(key).get_blob_properties())
                copy = found.copy.id or ""
                if found.copy.status in {None, "success"}:
                    return found
                if found.copy.status != "pending":
                    raise ConnectionError("the store could not finish a copy")
                await asyncio.sleep(_LOOK_SECONDS)
        except asyncio.CancelledError:
            with contextlib.suppress(Exception):  # whatever comes of it, the key's caller has given it up
                await self._requests.ask(lambda container: container.get_blob_client(key).abort_copy(copy))
            raise

    async def _set(self, key: str, etag: str, change: Callable[[Any, dict[str, Any]], Any]) -> str:
        """Change the copy; its etag from then on."""
        only = pinned(etag)
        changed = await self._requests.ask(lambda container: change(container.get_blob_client(key), only))
        return unquoted(changed["etag"])

    async def _by_blocks(self, source: str, url: str, etag: str, key: str, options: WriteOptions) -> Stored:
        only = pinned(etag)
        found = await self._requests.ask(
            lambda container: container.get_blob_client(source).get_blob_properties(**only)
        )
        upload = new_upload(datetime.now(UTC))
        names: list[str] = []
        try:
            for at in range(0, found.size, _PIECE_BYTES):
                names.append(block_name(upload, len(names) + 1))
                await self._blocks.put_from(url, etag, key, names[-1], at, min(_PIECE_BYTES, found.size - at))
            made = await self._blocks.commit(key, names, upload, msgspec.structs.replace(options, create_only=True))
        except BaseException:
            await self._blocks.clear(key, upload)
            raise
        return Stored(made.etag, found.size)


def _typed(content_type: str) -> Callable[[Any, dict[str, Any]], Any]:
    def change(blob: Any, only: dict[str, Any]) -> Any:
        from azure.storage.blob import ContentSettings

        return blob.set_http_headers(ContentSettings(content_type=content_type or None), **only)

    return change
