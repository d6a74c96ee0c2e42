"""Interleavings: operations run as tasks that stop before and after every call to a store or the catalog.

`Steps` holds each call until the explorer lets it go, lets it fail, lets it happen unheard, or kills the process, so
that a list of small numbers is a whole schedule and hypothesis can shorten it. `Monitor` keeps, per key, every order of
the operations that explains the answers heard so far; none left is a broken promise.
"""

import asyncio
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import Any

import msgspec

from prism.blob.driver import Driver as BlobDriver
from prism.blob.driver import EtagMismatch, NotFound, WriteOptions
from prism.meta.driver import UnknownOutcome

__all__ = ["GatedBlobs", "GatedCatalog", "Killed", "Late", "Monitor", "Steps", "StoreFailed", "quiet"]


class Killed(BaseException):
    """The process is dead: nothing of it runs any further."""


class StoreFailed(Exception):
    """The store answered with an error."""


class Late(msgspec.Struct):
    """A write that its caller gave up and that may still land until `until`."""

    key: str
    content: bytes
    options: WriteOptions
    until: datetime


class _Call(msgspec.Struct):
    name: str
    may_fail: bool
    future: Any


class Steps:
    """The calls of one process that wait to be let go."""

    def __init__(self) -> None:
        self.waiting: list[_Call] = []
        self.dead = False
        self.late: list[Late] = []

    async def reach(self, name: str, may_fail: bool = False) -> str:
        """Wait for the explorer's word: `go`, `fail` (nothing happens) or `unheard` (it happens, the answer is
        lost)."""
        if self.dead:
            raise Killed
        call = _Call(name, may_fail, asyncio.get_running_loop().create_future())
        self.waiting.append(call)
        try:
            return await call.future
        finally:
            if call in self.waiting:
                self.waiting.remove(call)

    def release(self, at: int, word: str = "go") -> str:
        call = self.waiting.pop(at)
        call.future.set_result(word)
        return call.name

    def kill(self) -> None:
        self.dead = True
        for call in self.waiting:
            if not call.future.done():
                call.future.set_exception(Killed())
        self.waiting = []


async def quiet() -> None:
    """Return when no task can go on without a step."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(0)
        if not loop._ready:  # type: ignore[attr-defined]  # the only way to see that nothing else is runnable
            return


class GatedCatalog:
    """A catalog whose every snapshot and transaction is a step, with answers that get lost."""

    outcome_may_be_unknown = True
    failures = (StoreFailed,)

    def __init__(self, inner: Any, steps: Steps) -> None:
        self._inner, self._steps = inner, steps

    def explain(self, failure: Exception) -> str:
        return "the catalog failed"

    @asynccontextmanager
    async def snapshot(self):
        if await self._steps.reach("catalog read", True) == "fail":
            raise StoreFailed
        async with self._inner.snapshot() as found:
            yield found

    async def transact(self, partition: bytes, body: Any, prefetch: Any) -> Any:
        word = await self._steps.reach("transaction", True)
        if word == "fail":
            raise UnknownOutcome
        answer = await self._inner.transact(partition, body, prefetch)
        if word == "unheard":
            raise UnknownOutcome
        await self._steps.reach("answer of transaction")
        return answer

    async def close(self) -> None:
        await self._inner.close()


class GatedBlobs:
    """A store whose every call is a step; a put that fails may land later, until its writer's promise is dead."""

    def __init__(self, inner: BlobDriver, steps: Steps, now: Any, late: timedelta) -> None:
        self._inner, self._steps, self._now, self._late = inner, steps, now, late
        self.capabilities = inner.capabilities

    async def put(self, key: str, chunks: Any, options: WriteOptions) -> Any:
        content = b""
        async for chunk in chunks:
            if options.observe is not None:
                options.observe(chunk)
            content += chunk
        if options.gate is not None:
            await options.gate()
        started = self._now()
        word = await self._steps.reach(f"put {key}", True)
        if word == "fail":
            self._steps.late.append(Late(key, content, options, started + self._late))
            raise StoreFailed
        stored = await self._inner.put(key, _once(content), msgspec.structs.replace(options, gate=None, observe=None))
        if word == "unheard":
            raise StoreFailed
        await self._steps.reach("answer of put")
        return stored

    async def get(self, key: str, byte_range: Any, if_match: Any) -> Any:
        await self._try(f"get {key}")
        return await self._inner.get(key, byte_range, if_match)

    async def head(self, key: str) -> Any:
        await self._try(f"head {key}")
        return await self._inner.head(key)

    async def delete_many(self, keys: Any) -> Any:
        await self._try(f"delete {keys}")
        return await self._inner.delete_many(keys)

    async def list(self, prefix: str, start_after: str, limit: int) -> Any:
        await self._try("list")
        return await self._inner.list(prefix, start_after, limit)

    async def copy(self, source: str, if_match: str, key: str, options: WriteOptions) -> Any:
        if options.gate is not None:
            await options.gate()
        started, options = self._now(), msgspec.structs.replace(options, gate=None)
        word = await self._steps.reach(f"copy {key}", True)
        if word == "fail":
            await self._copy_late(source, if_match, key, options, started + self._late)
            raise StoreFailed
        stored = await self._inner.copy(source, if_match, key, options)
        if word == "unheard":
            raise StoreFailed
        await self._steps.reach("answer of copy")
        return stored

    async def _copy_late(self, source: str, if_match: str, key: str, options: WriteOptions, until: datetime) -> None:
        """The store has begun and may end it later."""
        with suppress(NotFound, EtagMismatch):
            opened = await self._inner.get(source, None, if_match)
            content = b"".join([chunk async for chunk in opened.body])
            self._steps.late.append(Late(key, content, options, until))

    async def delete_if(self, key: str, if_match: str) -> None:
        await self._try(f"delete {key} if {if_match}")
        await self._inner.delete_if(key, if_match)

    async def sign_get(self, *asked: Any) -> Any:
        return await self._inner.sign_get(*asked)

    async def sign_put(self, *asked: Any) -> Any:
        return await self._inner.sign_put(*asked)

    async def create_multipart(self, key: str, options: WriteOptions) -> str:
        await self._try(f"begin parts of {key}")
        return await self._inner.create_multipart(key, options)

    async def put_part(self, key: str, *asked: Any) -> Any:
        await self._try(f"put part of {key}")
        return await self._inner.put_part(key, *asked)

    async def sign_part(self, *asked: Any) -> Any:
        return await self._inner.sign_part(*asked)

    async def list_parts(self, key: str, upload: str) -> Any:
        await self._try(f"list parts of {key}")
        return await self._inner.list_parts(key, upload)

    async def complete_multipart(self, key: str, *asked: Any) -> Any:
        await self._try(f"complete parts of {key}")
        return await self._inner.complete_multipart(key, *asked)

    async def abort_multipart(self, key: str, upload: str) -> None:
        await self._try(f"abort parts of {key}")
        await self._inner.abort_multipart(key, upload)

    async def open_multiparts(self, key: str) -> Any:
        await self._try(f"open parts of {key}")
        return await self._inner.open_multiparts(key)

    async def now(self) -> Any:
        return await self._inner.now()

    async def close(self) -> None:
        return None

    async def _try(self, name: str) -> None:
        if await self._steps.reach(name, True) != "go":
            raise StoreFailed


async def _once(content: bytes):
    if content:
        yield content


# What a key is, for the monitor: (value or None, how often its folder was deleted, the generation of each URL made).
State = tuple[bytes | None, int, frozenset[tuple[str, int]]]
Op = tuple[Any, ...]


def _apply(op: Op, state: State) -> list[tuple[State, Any]]:
    value, generation, urls = state
    match op:
        case ("write", new):
            return [((new, generation, urls), "ok")]
        case ("by_url", new, url, certain):
            made = dict(urls).get(url)
            taken = [((new, generation, urls), "ok")] if made == generation else []
            return taken + ([] if taken and certain else [(state, "ok")])
        case ("sign", url):
            return [((value, generation, urls | {(url, generation)}), "ok")]
        case ("nothing",):
            return [(state, "ok")]
        case ("delete",):
            return [((None, generation, urls), value is not None)]
        case ("folder",):
            return [((None, generation + 1, urls), "ok")]
        case ("expire", old):
            return [((None, generation, urls), "ok")] if value == old else []
        case ("read",):
            return [(state, value)]
        case ("listed",):
            return [(state, value is not None)]
        case ("if_absent", new):
            return [((new, generation, urls), "ok")] if value is None else [(state, "pre")]
    raise AssertionError(op)


class Monitor:
    """One key: all orders of operations that explain what was answered (after Wing and Gong, just in time)."""

    def __init__(self) -> None:
        self._orders: set[tuple[State, frozenset[tuple[int, Any]]]] = {((None, 0, frozenset()), frozenset())}
        self._open: dict[int, Op] = {}
        self._next = 0

    def invoke(self, op: Op) -> int:
        """An operation begins; without an answer it may take effect at any time, or never."""
        self._next += 1
        self._open[self._next] = op
        return self._next

    def respond(self, number: int, result: Any) -> bool:
        """It answered `result`; `failed`: it took no effect. False when no order explains that."""
        todo, seen, kept = list(self._orders), set(self._orders), set()
        while todo:
            state, done = todo.pop()
            results = dict(done)
            if result == "failed":
                if number not in results:
                    kept.add((state, done))
            elif number in results:
                if results[number] == result:
                    kept.add((state, frozenset(item for item in done if item[0] != number)))
                continue
            for other, op in self._open.items():
                if other in results:
                    continue
                for after, answer in _apply(op, state):
                    order = (after, done | {(other, answer)})
                    if order not in seen:
                        seen.add(order)
                        todo.append(order)
        del self._open[number]
        self._orders = kept
        return bool(kept)
