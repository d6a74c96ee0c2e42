"""For tests of uploads straight to the store: PUTs that arrive when a test says so, a store that can be watched, and
the catalog's steps one by one."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, get_args

import pytest
from world import START, Process, World

from prism.blob import driver as blob
from prism.blob.memory import MemoryDriver
from prism.catalog import staging as transitions
from prism.catalog.rows import PromiseRow
from prism.catalog.staging import pair_of
from prism.errors import ErrorCode, PrismError
from prism.holding import new_promise
from prism.model import Bindable, Declared, Precondition

ALL: frozenset[Bindable] = frozenset(get_args(Bindable))
ABSENT = Precondition(if_none_match=("*",))
DEAD = 600 + 5 + 3600 + 60
"""Seconds after which an upload of 600 s is dead."""


def sha(content: bytes) -> Declared:
    return Declared(size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


async def fails(code: ErrorCode, work: Awaitable[object]) -> PrismError:
    with pytest.raises(PrismError) as caught:
        await work
    assert caught.value.code is code
    return caught.value


async def absent(prism: Process, key: str = "k") -> None:
    await fails(ErrorCode.OBJECT_NOT_FOUND, prism.get(key))
    assert key not in await prism.list()


class Landing:
    """A client's PUT on its way: begun in time, and arriving when the test says so."""

    def __init__(self, world: World, url: Any, content: bytes) -> None:
        self._arrived = asyncio.Event()
        self._started = asyncio.Event()
        headers = {"content-length": str(len(content)), **url.headers}
        self._sending = asyncio.ensure_future(
            world.blobs["things"].receive("PUT", url.url, headers, self._body(content))
        )

    async def _body(self, content: bytes):
        self._started.set()
        await self._arrived.wait()
        yield content

    async def begun(self) -> None:
        await self._started.wait()

    async def arrive(self) -> int:
        self._arrived.set()
        return (await self._sending).status


class Pause:
    """A copy that was made and whose maker does not hear of it yet."""

    def __init__(self) -> None:
        self.reached, self.go = asyncio.Event(), asyncio.Event()


class Counting:
    """A store that counts its calls and lets a test step in round a copy."""

    def __init__(self, driver: MemoryDriver) -> None:
        self._driver = driver
        self.calls = {"get": 0, "head": 0, "copy": 0}
        self.before_copy: Callable[[], Awaitable[None]] | None = None
        self.after_get: Callable[[], Awaitable[None]] | None = None
        self._pauses: list[Pause] = []

    def pause(self) -> Pause:
        """The next copy that nobody pauses yet is paused after it was made."""
        self._pauses.append(Pause())
        return self._pauses[-1]

    def wrap(self, driver: blob.Driver) -> blob.Driver:
        return self  # type: ignore[return-value]  # it passes on what it does not know

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)

    async def get(self, *asked: Any) -> Any:
        self.calls["get"] += 1
        opened = await self._driver.get(*asked)
        if self.after_get is not None:
            await self.after_get()
        return opened

    async def head(self, key: str) -> Any:
        self.calls["head"] += 1
        return await self._driver.head(key)

    async def copy(self, *asked: Any) -> Any:
        self.calls["copy"] += 1
        if self.before_copy is not None:
            await self.before_copy()
        stored = await self._driver.copy(*asked)
        if self._pauses:
            pause = self._pauses.pop(0)
            pause.reached.set()
            await pause.go.wait()
        return stored


async def run(prism: Process, transition: Callable[..., Awaitable[Any]], *asked: object) -> Any:
    space = prism.spaces["things"]

    async def body(tx):
        return await transition(tx, space.rules, *asked)

    return await space.meta.transact(space.name, body)


async def the_staged(world: World) -> PromiseRow:
    (staged,) = [row for row in (await world.promised()).values() if row.way == "staging"]
    return staged


async def promise_copy(prism: Process, staged: PromiseRow, pair: Any) -> Any:
    space = prism.spaces["things"]
    wanted = new_promise(space, "things", staged.key, content_type="a/b", metadata={}, ttl_seconds=None)
    return await run(prism, transitions.promise_copy, staged, pair, wanted, space.now())


async def commit_copy(prism: Process, staged: PromiseRow, copy: PromiseRow) -> Any:
    facts = transitions.Facts(size_bytes=1, etag="e", store_etag="s", content_type="a/b", landed_at=START)
    now = prism.spaces["things"].now()
    return await run(prism, transitions.commit_copy, staged, copy, facts, pair_of("e", START), now)


async def fields_of(world: World, key: str) -> Mapping[str, str]:
    return (await world.blobs["things"].head(await physical_of(world, key))).metadata


async def tags_of(world: World, key: str) -> Mapping[str, str]:
    return await world.blobs["things"].tags(await physical_of(world, key))


async def physical_of(world: World, key: str) -> str:
    found: Sequence[str] = [name for name in await world.referenced() if name.startswith(f"{key}~")]
    (physical,) = found
    return physical
