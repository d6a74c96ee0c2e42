"""Stores and buses that misbehave as a test says, for the tests of background work."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from prism.blob.driver import BlobEntry, BlobInfo, DeleteResult
from prism.blob.memory import MemoryDriver
from prism.meta.driver import Body
from prism.meta.driver import Driver as Catalog

T = TypeVar("T")


class Pausing:
    """A catalog that lets others run before each transaction, as one on a disk or network does."""

    def __init__(self, driver: Catalog) -> None:
        self._driver = driver

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)

    async def transact(self, partition: bytes, body: Body[T], prefetch: Sequence[bytes]) -> T:
        await asyncio.sleep(0)
        return await self._driver.transact(partition, body, prefetch)


class Moody:
    """A store round a memory store: down for the keys that `refuses` says, with a clock that is `ahead`."""

    def __init__(self, driver: MemoryDriver) -> None:
        self._driver = driver
        self.refuses: Callable[[str], bool] = lambda key: False
        self.ahead = timedelta(0)
        self.before_delete: Callable[[], Awaitable[None]] | None = None
        self.after_list: Callable[[], Awaitable[None]] | None = None
        self.deletions: list[str] = []
        self.heads: list[str] = []
        self.lists = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)

    async def head(self, key: str) -> BlobInfo:
        self.heads.append(key)
        if self.refuses(key):
            raise OSError("the store is down")
        return await self._driver.head(key)

    async def delete_many(self, keys: Sequence[str]) -> list[DeleteResult]:
        if self.before_delete is not None:
            await self.before_delete()
        bad = [key for key in keys if self.refuses(key)]
        results = {r.key: r for r in await self._driver.delete_many([key for key in keys if key not in bad])}
        self.deletions += list(results)
        return [results.get(key) or DeleteResult(key, OSError("the store is down")) for key in keys]

    async def list(self, prefix: str, start_after: str, limit: int) -> list[BlobEntry]:
        self.lists += 1
        page = await self._driver.list(prefix, start_after, limit)
        if self.after_list is not None:
            await self.after_list()
        return page

    async def now(self) -> datetime:
        return await self._driver.now() + self.ahead
