"""Taking up foreign bytes beside everything else that goes on: rule 10, races, what is passed over, bounded work."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from typing import TypeVar

import msgspec
import pytest
from world import World, pieces

from prism.adoption import Import, adopt
from prism.blob.driver import BlobEntry, BlobInfo, Driver, EtagMismatch, NotFound, WriteOptions
from prism.blob.layers import Layer
from prism.errors import ErrorCode, PrismError
from prism.failpoints import FailpointError, arm
from prism.walking import WalkReport

T = TypeVar("T")


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm("")


async def lay(world: World, key: str, content: bytes = b"x", ns: str = "things", **options: object) -> None:
    """Somebody else writes."""
    await world.blobs[ns].delete_many([key])
    await world.blobs[ns].put(key, pieces(content), WriteOptions(**options))  # type: ignore[arg-type]


def counts(report: WalkReport) -> dict[str, int]:
    return {kind: found.count for kind, found in report.kinds.items() if found.count}


async def test_bytes_whose_deletion_is_under_way_are_not_taken_up(world: World) -> None:
    prism = world.start()
    await lay(world, "a", ns="kept")
    space = prism.spaces["kept"]
    await adopt(space, Import(own=True))
    row = (await world.referenced("kept"))["a"]
    assert row.own
    await prism.delete_folder("/", ns="kept")
    await prism.delete("a", ns="kept")
    versions = await world.referenced("kept")
    assert set(versions) == {"a"}, "kept as an older version, and still its own"
    plain = prism.spaces["brief"]
    await lay(world, "b", ns="brief")
    await adopt(plain, Import(own=True))
    await prism.delete("b", ns="brief")
    assert counts(await adopt(plain, Import())) == {"condemned": 1}
    world.clock.forward(30)
    await prism.rounds()
    await lay(world, "b", b"x", ns="brief")
    assert counts(await adopt(plain, Import())) == {"condemned": 1}, "a late deletion may still meet these bytes"
    world.clock.forward(3600)
    await lay(world, "b", b"others", ns="brief")
    await prism.rounds()
    assert counts(await adopt(plain, Import())) == {"adopted": 1}
    await world.check("brief")


class ByContent(Layer):
    """A store whose etags tell contents from each other and not writes, as S3's do; here by their size alone."""

    async def _call(self, name: str, do: Callable[[], Awaitable[T]]) -> T:
        return await do()

    async def head(self, key: str) -> BlobInfo:
        info = await super().head(key)
        return msgspec.structs.replace(info, etag=str(info.size_bytes))

    async def list(self, prefix: str, start_after: str, limit: int) -> list[BlobEntry]:
        found = await super().list(prefix, start_after, limit)
        return [msgspec.structs.replace(one, etag=str(one.size_bytes)) for one in found]

    async def delete_if(self, key: str, if_match: str) -> None:
        try:
            info = await self.head(key)
        except NotFound:
            return
        if info.etag != if_match:
            raise EtagMismatch(key)
        await self.delete_many([key])


async def test_the_same_content_written_again_by_others_is_not_deleted(world: World) -> None:
    prism = world.start(wrap_blob=ByContent)
    space = prism.spaces["brief"]
    await lay(world, "a", b"same", ns="brief")
    await lay(world, "b", b"same", ns="brief")
    world.clock.forward(60)
    await adopt(space, Import(own=True))
    await prism.delete("a", ns="brief")
    await prism.delete("b", ns="brief")
    world.clock.forward(5)
    await lay(world, "b", b"same", ns="brief")
    world.clock.forward(4 * 3600)
    await prism.rounds(2)
    assert list(await world.stored("brief")) == ["b"]
    assert not await world.condemned("brief")


async def test_a_store_that_cannot_delete_on_condition_refuses_to_own(world: World) -> None:
    prism = world.start()
    await lay(world, "a")
    with pytest.raises(PrismError, match="things") as refused:
        await adopt(prism.spaces["things"], Import(own=True))
    assert refused.value.code is ErrorCode.UNIMPLEMENTED
    assert not await world.rows("things", "a")


async def test_two_imports_at_once_make_one_object_of_each(world: World) -> None:
    for n in range(450):
        await lay(world, f"k{n:03}")
    one, other = world.start(), world.start()
    reports = await asyncio.gather(
        adopt(one.spaces["things"], Import()), adopt(other.spaces["things"], Import(lifetime=timedelta(days=1)))
    )
    assert sum(report.kinds["adopted"].count for report in reports) == 450
    assert len(await one.list()) == 450
    assert (await world.counters()).objects == (await world.counted()).objects == 450


async def test_a_put_that_comes_between_wins(world: World) -> None:
    prism = world.start()
    await lay(world, "a")
    arm("import.before_commit=raise@1")
    with pytest.raises(FailpointError):
        await adopt(prism.spaces["things"], Import())
    arm("")
    await prism.put("a", b"mine")
    assert counts(await adopt(prism.spaces["things"], Import())) == {"taken": 1, "prism": 1}
    assert await prism.get("a") == b"mine"
    await prism.delete("a")
    world.clock.forward(4 * 3600)
    await prism.rounds(2)
    assert set(await world.stored()) == {"a"}


async def test_what_the_store_says_is_kept_as_far_as_callers_can_be_told(world: World) -> None:
    prism = world.start()
    await lay(world, "a.png", metadata={"ok": "ü", "bad name": "x", "x" * 200: "y", "long": "z" * 3000})
    await lay(world, "b", content_type="te\nxt")
    await lay(world, "c", content_type="text/css")
    await adopt(prism.spaces["things"], Import())
    heads = [await prism.head(key) for key in ("a.png", "b", "c")]
    assert [head.content_type for head in heads] == ["image/png", "application/octet-stream", "text/css"]
    assert heads[0].metadata == {"ok": "ü"}


async def test_a_copy_of_an_adopted_object_is_prisms(world: World) -> None:
    prism = world.start()
    await lay(world, "a", b"content")
    await adopt(prism.spaces["things"], Import())
    await prism.copy("a", "copy")
    await lay(world, "a", b"rewritten")
    assert await prism.get("copy") == b"content"
    await prism.delete("copy")
    await prism.delete("a")
    world.clock.forward(3 * 3600)
    await prism.rounds(3)
    assert set(await world.stored()) == {"a"}


async def test_a_lifetime_ends_the_object_and_not_the_bytes(world: World) -> None:
    prism = world.start()
    await lay(world, "a")
    await adopt(prism.spaces["things"], Import(lifetime=timedelta(hours=1)))
    assert await prism.get("a") == b"x"
    world.clock.forward(3600)
    assert await prism.list() == []
    await prism.rounds(2)
    world.clock.forward(7200)
    await prism.rounds(2)
    assert set(await world.stored()) == {"a"}
    assert not await world.rows("things", "a")
    assert not await world.referenced()


async def test_a_deleted_folder_takes_adopted_objects_along_and_leaves_their_bytes(world: World) -> None:
    prism = world.start()
    for key in ("f/1", "f/2", "g"):
        await lay(world, key)
    await adopt(prism.spaces["things"], Import())
    await prism.delete_folder("f/")
    assert await prism.list() == ["g"]
    await prism.rounds(3)
    assert set(await world.stored()) == {"f/1", "f/2", "g"}
    assert counts(await adopt(prism.spaces["things"], Import())) == {"adopted": 2, "unchanged": 1}
    assert await prism.list() == ["f/1", "f/2", "g"]


async def test_it_goes_on_where_it_was_and_tells_of_each_page(world: World) -> None:
    prism = world.start()
    for n in range(1200):
        await lay(world, f"k{n:04}")
    arm("import.after_commit=raise@4")
    with pytest.raises(FailpointError):
        await adopt(prism.spaces["things"], Import())
    arm("")
    heard: list[str] = []
    report = await adopt(world.start().spaces["things"], Import(), lambda report: heard.append(report.at))
    assert report.went_on_after == "k0599"
    assert counts(report) == {"unchanged": 200, "adopted": 400}
    assert heard == ["k1199"]
    assert (await adopt(prism.spaces["things"], Import())).went_on_after == ""
    assert not await world.rows("things", "i")


class Hooked:
    """A store before whose first HEAD something else happens."""

    def __init__(self, driver: Driver, hook: Callable[[], Awaitable[None]]) -> None:
        self._driver = driver
        self._hook: Callable[[], Awaitable[None]] | None = hook

    def __getattr__(self, name: str) -> object:
        return getattr(self._driver, name)

    async def head(self, key: str) -> BlobInfo:
        hook, self._hook = self._hook, None
        if hook is not None:
            await hook()
        return await self._driver.head(key)


async def test_an_import_that_was_overtaken_brings_no_deleted_object_back(world: World) -> None:
    quick = world.start()
    await lay(world, "a")

    async def meanwhile() -> None:
        await adopt(quick.spaces["things"], Import(prefix="a"))
        await quick.delete("a")

    slow = world.start(wrap_blob=lambda driver: Hooked(driver, meanwhile))
    await adopt(slow.spaces["things"], Import())
    assert await quick.list() == []
    assert set(await world.stored()) == {"a"}
