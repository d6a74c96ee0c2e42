"""Everything at once: writers, readers, uploads, deletions, the janitor, lost answers, late writes and crashes, in any
order; after each step every byte is named once, and at rest nothing is left over and reads say what was
acknowledged."""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any, get_args

import pytest
from exploring import GatedBlobs, GatedCatalog, Monitor, Steps, quiet
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from world import Process, World, configured

from prism.catalog.rows import PromiseRow
from prism.errors import ErrorCode, PrismError
from prism.model import Bindable, Declared, Precondition
from prism.workers.fsck import fsck

DEEP = bool(os.environ.get("PRISM_TEST_DEEP"))
EXAMPLES = int(os.environ.get("PRISM_TEST_EXAMPLES", "5000" if DEEP else "250"))
KEYS = ("a/k", "b")
SOURCE = b"content of the source"
CONFIGS = [
    configured(
        f"namespaces: [{{name: things, backend: memory, bucket: things, allow_infinite_ttl: true, versioning: {kept}}}]"
    )
    for kept in ("false", "true")
]
_ALL: frozenset[Bindable] = frozenset(get_args(Bindable))
ABSENT = Precondition(if_none_match=("*",))
MOST_OPERATIONS = 9
TTL = 100


class Broken(AssertionError):
    """A promise to users does not hold."""


class Put:
    """A client's PUT to the store itself, on its way; `land` lets it arrive and says whether it heard 200."""

    def __init__(self, key: str, number: int, until: Any, land: Callable[[], Awaitable[bool]]) -> None:
        self.key, self.number, self.until, self.land = key, number, until, land


class Link:
    """A URL of the store, what must be sent by it (None: anything), and how often it may write. `spoiled`: other bytes
    are sent by it, too; where the store takes them they may replace the right ones before anybody saw those."""

    def __init__(
        self, key: str, name: str, url: Any, until: Any, expected: bytes | None = None, once: bool = False
    ) -> None:
        self.key, self.name, self.url, self.until = key, name, url, until
        self.expected, self.once, self.used, self.spoiled = expected, once, False, False


class Explorer:
    """One run: a list of numbers decides what happens next."""

    def __init__(self, choices: list[int], binds: frozenset[Bindable] | None) -> None:
        self.choices = iter(choices)
        self.signs = binds is not None
        self.world = World(CONFIGS[next(self.choices, 0) % 2], binds)
        self.links: list[Link] = []
        self.monitors = {key: Monitor() for key in KEYS}
        self.urls: list[tuple[str, str, bool]] = []
        self.used: set[str] = set()
        self.flying: list[Put] = []
        self.begun = 0
        self.brief: set[bytes] = set()
        self.declared: list[PromiseRow] = []
        self.failure: BaseException | None = None
        self._start()

    def _start(self) -> None:
        self.steps = Steps()
        self.tasks: set[asyncio.Task[None]] = set()
        self.janitor: asyncio.Task[None] | None = None
        self.sweep: asyncio.Task[None] | None = None
        late = timedelta(seconds=60)
        self.prism = self.world.start(
            wrap_meta=lambda driver: GatedCatalog(driver, self.steps),
            wrap_blob=lambda driver: GatedBlobs(driver, self.steps, self.world.clock, late),
        )

    def choose(self, count: int) -> int:
        return next(self.choices) % count

    async def run(self) -> None:
        await self._calmly(self.world.start().put("source", SOURCE, no_expiration=True))
        try:
            while True:
                await self.step()
                await quiet()
                await self.check()
        except StopIteration:
            pass
        except RuntimeError as error:  # a StopIteration inside a coroutine
            if not isinstance(error.__cause__, StopIteration):
                raise
        await self.finish()

    async def step(self) -> None:
        what = self.choose(20)
        if what < 9 and self.steps.waiting:
            word = ("go",) * 14 + ("fail", "unheard")
            self._release(self.choose(len(self.steps.waiting)), word[self.choose(16)])
        elif what < 13:
            self.begin()
        elif what == 13 and self.links:
            self.send()
        elif what == 13 and self.choose(3) and self.urls:
            self.fly()
        elif what == 13:
            self.begin_keep()
        elif what == 14 and self.flying:
            await self.land(self.flying.pop(self.choose(len(self.flying))))
        elif what == 15 and self.steps.late:
            await self.land_late(self.steps.late.pop(self.choose(len(self.steps.late))))
        elif what == 16 and (self.janitor is None or self.janitor.done()):
            note("janitor begins")
            self.janitor = self._task(self._janitor())
        elif what == 17:
            self.forward((3, 45, 130, 700, 8000)[self.choose(5)])
        elif what == 18 and self.choose(3) == 0:
            await self.crash()
        elif what == 19 and self.choose(4) == 0 and (self.sweep is None or self.sweep.done()):
            note("fsck begins")
            self.sweep = self._task(self._fsck())
        elif self.steps.waiting:
            self._release(self.choose(len(self.steps.waiting)), "go")

    def _release(self, at: int, word: str) -> None:
        if word != "go" and not self.steps.waiting[at].may_fail:
            word = "go"
        note(f"{word}: {self.steps.waiting[at].name}")
        self.world.clock.forward(0.001)
        self.steps.release(at, word)

    def begin(self) -> None:
        """Begin an operation of some kind on some key."""
        if len(self.tasks) >= 4 or self.begun >= MOST_OPERATIONS:
            return
        self.begun += 1
        key = KEYS[self.choose(len(KEYS))]
        content = b"%d" % self.begun + b"x" * self.begun
        kind = self.choose(13)
        prism = self.prism
        if kind <= 1:
            self._call(key, ("write", content), prism.put(key, content), "ok")
        elif kind == 2:
            self.brief.add(content)
            self._call(key, ("write", content), prism.put(key, content, ttl=timedelta(seconds=TTL)), "ok")
            self._expire_later(key, content)
        elif kind == 3:
            self._call(key, ("if_absent", content), prism.put(key, content, precondition=ABSENT), "ok")
        elif kind == 4:
            self._call(key, ("delete",), prism.delete(key), None)
        elif kind == 5:
            self._folder()
        elif kind == 6:
            self._call(key, ("read",), self._read(prism, key), None)
        elif kind == 7:
            self._list()
        elif kind in (8, 11, 12):
            self._sign(key)
        elif kind == 10 and self.declared:
            self._confirm()
        elif kind == 9:
            self._call(key, ("write", SOURCE), prism.copy("source", key, no_expiration=True), "ok")
        else:
            self._keep(content)

    def _expire_later(self, key: str, content: bytes) -> None:
        """The content may go by itself from a moment on; the monitor hears of it at once, which only allows more."""
        self.monitors[key].invoke(("expire", content))

    async def _read(self, prism: Process, key: str) -> bytes | None:
        try:
            return await prism.get(key)
        except PrismError as error:
            if error.code is ErrorCode.OBJECT_NOT_FOUND:
                return None
            raise

    def _sign(self, key: str) -> None:
        number = self.monitors[key].invoke(("sign", f"url {self.begun}"))
        name, through_prism = f"url {self.begun}", self.choose(2) == 0
        if self.signs:
            self._task(self._guard(key, number, self._link(key, number, name, through_prism), answers=False))
            return

        async def sign() -> None:
            upload = await self.prism.presign_put(key, seconds=600)
            self.respond(key, number, "ok")
            self.urls.append((key, name + " " + upload, through_prism))

        self._task(self._guard(key, number, sign(), answers=False))

    async def _link(self, key: str, number: int, name: str, declared: bool) -> None:
        """A URL of the store: for anything, or for a declared content."""
        until = self.world.clock() + timedelta(seconds=590)
        if not declared:
            url: Any = await self.prism.presign(key)
            self.respond(key, number, "ok")
            self.links.append(Link(key, name, url, until))
            return
        content = name.encode() + b"w" * len(name)
        facts = Declared(size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        upload, url = await self.prism.declare(key, declared=facts)
        self.respond(key, number, "ok")
        self.links.append(Link(key, name, url, until, content, upload.way == "store"))
        self.links[-1].spoiled = len(self.declared) % 2 == 1
        self.declared.append(upload)

    def send(self) -> None:
        """A client begins to PUT by a URL of the store, what it should or something else."""
        link = self.links[self.choose(len(self.links))]
        kind = self.choose(4)
        if len(self.flying) > 1 or self.begun >= MOST_OPERATIONS + 3 or self.world.clock() >= link.until:
            return
        self.begun += 1
        content = b"%d" % self.begun + b"y" * self.begun
        op: tuple[Any, ...] = ("by_url", content, link.name, True)
        if link.expected is not None and (kind or not link.spoiled):
            content = link.expected
            op = ("by_url", content, link.name, not link.used if link.once else not link.spoiled)
            link.used = True
        elif link.expected is not None:
            content = link.expected[:-1] + bytes([kind])
            op = ("nothing",)
        number = self.monitors[link.key].invoke(op)
        note(f"client begins PUT of {content!r} by {link.name}")
        arrived = asyncio.Event()

        async def body():
            await arrived.wait()
            yield content

        given = {"content-length": str(len(content)), **link.url.headers}
        sending = asyncio.ensure_future(self.world.blobs["things"].receive("PUT", link.url.url, given, body()))

        async def land() -> bool:
            arrived.set()
            return (await sending).status == 200

        self.flying.append(Put(link.key, number, self.world.clock() + timedelta(seconds=3600), land))

    def _confirm(self) -> None:
        """A client says that its bytes are there."""
        upload = self.declared[self.choose(len(self.declared))]

        async def confirm() -> None:
            with contextlib.suppress(PrismError):
                row = await self.prism.confirm(upload)
                if row.size_bytes != upload.declared.size_bytes:
                    raise Broken(f"{upload.physical_key} was confirmed with {row.size_bytes} bytes")

        self._task(confirm())

    def _keep(self, content: bytes) -> None:
        """A body for a presigned PUT comes to Prism."""
        urls = [(key, name) for key, name, through_prism in self.urls if through_prism]
        if not urls:
            return
        key, name = urls[self.choose(len(urls))]
        url, upload = name.rsplit(" ", 1)
        row_until = self._until(key, upload)
        if row_until is None or self.world.clock() >= row_until:
            return
        self._call(key, ("by_url", content, url, True), self.prism.keep(key, upload, content), "ok", by_url=True)

    def _until(self, key: str, upload: str) -> Any:
        """A URL works for 600 s."""
        return self.world.made[upload] + timedelta(seconds=600) if upload in self.world.made else None

    def begin_keep(self) -> None:
        if len(self.tasks) < 4 and self.begun < MOST_OPERATIONS + 3:
            self.begun += 1
            self._keep(b"%d" % self.begun + b"z" * self.begun)

    def fly(self) -> None:
        """A client begins to PUT to the store itself."""
        urls = [(key, name) for key, name, through_prism in self.urls if not through_prism]
        if not urls or len(self.flying) > 1 or self.begun >= MOST_OPERATIONS + 3:
            return
        key, name = urls[self.choose(len(urls))]
        url, upload = name.rsplit(" ", 1)
        until = self._until(key, upload)
        if until is None or self.world.clock() >= until:
            return
        self.begun += 1
        content = b"%d" % self.begun + b"y" * self.begun
        physical = self.world.physical(key, upload)
        number = self.monitors[key].invoke(("by_url", content, url, physical not in self.used))
        self.used.add(physical)
        self.flying.append(
            Put(key, number, self.world.clock() + timedelta(seconds=3600), lambda: self.world.land(physical, content))
        )
        note(f"client begins PUT {physical}")

    async def land(self, put: Put) -> None:
        self.world.clock.forward(0.001)
        taken = await put.land()
        note(f"PUT {put.number} of {put.key} lands: {'200' if taken else 'refused'}")
        self.respond(put.key, put.number, "ok" if taken else "failed")

    async def land_late(self, late: Any) -> None:
        if self.world.clock() < late.until:
            note(f"late write lands at {late.key}")
            await self.world.land(late.key, late.content)

    def _list(self) -> None:
        numbers = {key: monitor.invoke(("listed",)) for key, monitor in self.monitors.items()}
        size = 1 + self.choose(3)

        async def walk() -> None:
            try:
                found = await self.prism.list(max_results=size)
            except PrismError:
                for key, number in numbers.items():
                    self.respond(key, number, "failed")
                return
            if found != sorted(set(found)):
                raise Broken(f"a list says {found}")
            for key, number in numbers.items():
                self.respond(key, number, key in found)

        self._task(walk())

    def _folder(self) -> None:
        number = self.monitors["a/k"].invoke(("folder",))

        async def delete() -> None:
            await self.prism.delete_folder("a/")
            self.respond("a/k", number, "ok")

        self._task(self._guard("a/k", number, delete(), answers=False))

    def _call(
        self, key: str, op: tuple[Any, ...], work: Coroutine[Any, Any, Any], answer: Any, by_url: bool = False
    ) -> None:
        note(f"begin {op[0]} of {key} {op[1:]}")
        number = self.monitors[key].invoke(op)

        async def call() -> None:
            result = await work
            self.respond(key, number, result if answer is None else answer)

        self._task(self._guard(key, number, call(), by_url=by_url))

    async def _guard(
        self, key: str, number: int, work: Coroutine[Any, Any, None], answers: bool = True, by_url: bool = False
    ) -> None:
        try:
            await work
        except PrismError as error:
            note(f"operation {number} of {key} answers {error.code}")
            if error.code is ErrorCode.PRECONDITION_FAILED:
                self.respond(key, number, "pre" if answers else "failed")
            elif error.code in (ErrorCode.DATA_LOSS, ErrorCode.INTERNAL):
                raise Broken(str(error)) from error
            elif error.code is not ErrorCode.OUTCOME_UNKNOWN and not (
                by_url and error.code is ErrorCode.UPLOAD_PENDING
            ):
                self.respond(key, number, "failed")

    def respond(self, key: str, number: int, result: Any) -> None:
        note(f"operation {number} of {key} answers {result!r}")
        if not self.monitors[key].respond(number, result):
            raise Broken(f"operation {number} of {key} answered {result!r}: no order of the operations explains it")

    async def _janitor(self) -> None:
        await self.prism.rounds()

    async def _fsck(self) -> None:
        await self.world.lived()
        with contextlib.suppress(PrismError):
            report = await fsck(
                self.prism.spaces["things"], repair=True, grace=timedelta(0), quarantine=timedelta(hours=1)
            )
            if report.kinds["missing"].count or report.kinds["differing"].count:
                raise Broken(f"fsck finds {report.kinds}")

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and isinstance(task.exception(), Exception):
            self.failure = self.failure or task.exception()

    def forward(self, seconds: int) -> None:
        """Time passes; what may not take so long has failed or arrived by then."""
        now = self.world.clock() + timedelta(seconds=seconds)
        if any(put.until <= now for put in self.flying):
            return
        if seconds > 40:
            for at in reversed(range(len(self.steps.waiting))):
                if self.steps.waiting[at].name.startswith(("put", "copy")):
                    self._release(at, "fail")
        note(f"{seconds} seconds pass")
        self.world.clock.forward(seconds)

    async def crash(self) -> None:
        note("kill -9")
        late, tasks = self.steps.late, list(self.tasks)
        self.steps.kill()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.prism.tasks.drain()
        self.failure = None if not isinstance(self.failure, Broken) else self.failure
        self._start()
        self.steps.late = late

    async def check(self) -> None:
        if self.failure is not None:
            raise self.failure
        await self.world.check()

    async def _calmly(self, work: Coroutine[Any, Any, Any]) -> Any:
        return await work

    async def finish(self) -> None:
        """Everything ends: what runs runs out, clocks pass every deadline, and nothing may be left over."""
        for _ in range(4000):
            await quiet()
            if not self.steps.waiting:
                break
            self.steps.release(0)
        await self.check()
        for put in self.flying:
            await self.land(put)
        note("rest")
        calm = self.world.start()
        await self.world.rest(calm)
        report = await fsck(calm.spaces["things"])
        assert report.clean, report
        for key, monitor in self.monitors.items():
            number = monitor.invoke(("read",))
            value = await self._read(calm, key)
            assert value not in self.brief, f"{value!r} has outlived its TTL"
            if not monitor.respond(number, value):
                raise Broken(f"at rest {key} reads {value!r}: no order of the operations explains it")


@pytest.mark.parametrize("binds", [None, _ALL, frozenset()], ids=["plain", "binds-all", "binds-nothing"])
@given(choices=st.lists(st.integers(0, 2**16), min_size=20, max_size=160))
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@pytest.mark.timeout(3600 if DEEP else 120)
async def test_no_order_of_steps_breaks_a_promise(binds: frozenset[Bindable] | None, choices: list[int]) -> None:
    await Explorer(choices, binds).run()
