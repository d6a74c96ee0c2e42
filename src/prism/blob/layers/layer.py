"""What all layers share: a driver whose verbs and powers are handed to one place, round which a layer does its work."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime
from typing import TypeVar

from ...model import ByteRange
from ..driver import (
    BlobEntry,
    BlobInfo,
    Bound,
    BucketSettings,
    Capabilities,
    ConditionalDeletePower,
    CopyPower,
    DeleteResult,
    Driver,
    MultipartPower,
    Opened,
    OpenMultipart,
    Part,
    SettingsPower,
    Signed,
    SignPower,
    Stored,
    WriteOptions,
)

__all__ = ["Layer"]

T = TypeVar("T")


class Layer:
    """The verbs of a driver, each handed to `_call`, where a layer does what it does; this one does nothing more."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    @property
    def capabilities(self) -> Capabilities:
        """Those of the driver inside."""
        return self._driver.capabilities

    async def _call(self, name: str, do: Callable[[], Awaitable[T]]) -> T:
        return await do()

    async def _sign(self, do: Callable[[], Awaitable[Signed]]) -> Signed:
        return await do()

    async def put(self, key: str, chunks: AsyncIterator[bytes], options: WriteOptions) -> Stored:
        """Store a stream."""
        return await self._call("put", lambda: self._driver.put(key, chunks, options))

    async def get(self, key: str, byte_range: ByteRange | None, if_match: str | None) -> Opened:
        """Open a read."""
        return await self._call("get", lambda: self._driver.get(key, byte_range, if_match))

    async def head(self, key: str) -> BlobInfo:
        """Look at a key."""
        return await self._call("head", lambda: self._driver.head(key))

    async def delete_many(self, keys: Sequence[str]) -> list[DeleteResult]:
        """Delete keys."""
        return await self._call("delete", lambda: self._driver.delete_many(keys))

    async def list(self, prefix: str, start_after: str, limit: int) -> list[BlobEntry]:
        """List keys."""
        return await self._call("list", lambda: self._driver.list(prefix, start_after, limit))

    async def copy(self, source: str, if_match: str, key: str, options: WriteOptions) -> Stored:
        """Copy inside the store."""
        driver = self._driver
        assert isinstance(driver, CopyPower)
        return await self._call("copy", lambda: driver.copy(source, if_match, key, options))

    async def delete_if(self, key: str, if_match: str) -> None:
        """Delete pinned bytes."""
        driver = self._driver
        assert isinstance(driver, ConditionalDeletePower)
        await self._call("delete_if", lambda: driver.delete_if(key, if_match))

    async def sign_get(
        self, key: str, now: datetime, lasting_seconds: int, content_type: str | None, disposition: str | None
    ) -> Signed:
        """No call to the store: a layer has its say in `_sign` only."""
        driver = self._driver
        assert isinstance(driver, SignPower)
        return await self._sign(lambda: driver.sign_get(key, now, lasting_seconds, content_type, disposition))

    async def sign_put(self, key: str, now: datetime, lasting_seconds: int, bound: Bound) -> Signed:
        """Likewise."""
        driver = self._driver
        assert isinstance(driver, SignPower)
        return await self._sign(lambda: driver.sign_put(key, now, lasting_seconds, bound))

    async def sign_part(
        self, key: str, upload: str, number: int, now: datetime, lasting_seconds: int, size_bytes: int | None
    ) -> Signed:
        """Likewise."""
        return await self._sign(lambda: self._parts.sign_part(key, upload, number, now, lasting_seconds, size_bytes))

    async def create_multipart(self, key: str, options: WriteOptions) -> str:
        """Begin an upload in parts."""
        return await self._call("create_multipart", lambda: self._parts.create_multipart(key, options))

    async def put_part(self, key: str, upload: str, number: int, chunks: AsyncIterator[bytes], size_bytes: int) -> Part:
        """Store a part."""
        return await self._call("put_part", lambda: self._parts.put_part(key, upload, number, chunks, size_bytes))

    async def list_parts(self, key: str, upload: str) -> Sequence[Part]:
        """What has arrived."""
        return await self._call("list_parts", lambda: self._parts.list_parts(key, upload))

    async def complete_multipart(self, key: str, upload: str, parts: Sequence[Part], options: WriteOptions) -> Stored:
        """Make the object."""
        return await self._call(
            "complete_multipart", lambda: self._parts.complete_multipart(key, upload, parts, options)
        )

    async def abort_multipart(self, key: str, upload: str) -> None:
        """Forget an upload."""
        await self._call("abort_multipart", lambda: self._parts.abort_multipart(key, upload))

    async def open_multiparts(self, key: str) -> Sequence[OpenMultipart]:
        """What is open."""
        return await self._call("open_multiparts", lambda: self._parts.open_multiparts(key))

    @property
    def _parts(self) -> MultipartPower:
        assert isinstance(self._driver, MultipartPower)
        return self._driver

    async def settings(self) -> BucketSettings:
        """What the bucket does by itself; all unknown where the driver cannot ask."""
        driver = self._driver
        return await self._call("settings", driver.settings) if isinstance(driver, SettingsPower) else BucketSettings()

    async def now(self) -> datetime:
        """The store's clock."""
        return await self._call("now", self._driver.now)

    async def close(self) -> None:
        """Close the driver inside."""
        await self._driver.close()
