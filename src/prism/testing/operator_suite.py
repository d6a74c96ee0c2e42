"""What operators do to a deployment, on any store: import, rebuild, export and restore, check; and their mistakes.

Subclass it and give `places`: two empty places of the store, for the namespaces `plain` and `kept` (which keeps
versions). Each test opens the whole composition as often as it needs, over catalogs of its own; nothing waits: clocks
that run ahead make bytes old.
"""

import contextlib
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from ..adoption import Import, adopt
from ..app import App, Wraps, open_app
from ..blob.driver import Driver, WriteOptions
from ..catalog import usage
from ..config import Config, StoreConfig, load
from ..deployment import UNOWNED, is_mine, take_over
from ..errors import ErrorCode, PrismError
from ..failpoints import FailpointError, arm
from ..identifiers import utc_now
from ..meta import open_meta
from ..model import Caller, ObjectInfo, ObjectRef, PutOptions
from ..rebuilding import Rebuild, rebuild
from ..snapshots import export, restore
from ..walking import WalkReport, root_of
from ..workers.fsck import FsckReport, fsck
from .clocks import ShiftedClock, ShiftedStore

__all__ = ["OperatorSuite"]

Places = tuple[StoreConfig, StoreConfig]
_NAMESPACES = """
namespaces:
  - {name: plain, backend: memory, bucket: plain-bucket}
  - {name: kept, backend: memory, bucket: kept-bucket, versioning: true}
"""
ODD = ("a", "a/b", "a//b", "/lead", "~tilde", "trail/", "x/../y", "ü/☃", "with\nline", "long/" + "x" * 1000)
_OLD = -timedelta(minutes=5)
"""A grace that makes bytes of this moment old, whatever the store's clock says of it."""


def _kinds(report: FsckReport | WalkReport) -> dict[str, int]:
    return {kind: found.count for kind, found in report.kinds.items() if found.count}


async def _once(content: bytes) -> AsyncIterator[bytes]:
    if content:
        yield content


class Deployment:
    """One catalog over the stores, opened."""

    def __init__(self, app: App) -> None:
        self.app = app
        self._objects = app.services.objects
        self._caller = Caller(principal=app.services.access.anonymous(), request_id="request-1", api="test")

    async def put(self, key: str, content: bytes, ns: str = "plain", bucket: str = "", **options: object) -> ObjectInfo:
        wanted = PutOptions(**options)  # type: ignore[arg-type]  # a test's own keywords
        return await self._objects.put(self._caller, ObjectRef(ns, bucket, key), _once(content), wanted)

    async def get(self, key: str, ns: str = "plain", bucket: str = "") -> bytes | None:
        """None when absent."""
        try:
            opened = await self._objects.get(self._caller, ObjectRef(ns, bucket, key))
        except PrismError as error:
            if error.code is ErrorCode.OBJECT_NOT_FOUND:
                return None
            raise
        return b"".join([chunk async for chunk in opened.chunks()])

    async def head(self, key: str, ns: str = "plain", bucket: str = "") -> ObjectInfo:
        return await self._objects.head(self._caller, ObjectRef(ns, bucket, key))

    async def delete(self, key: str, ns: str = "plain") -> bool:
        return await self._objects.delete(self._caller, ObjectRef(ns, "", key))

    async def keys(self, ns: str = "plain", bucket: str = "") -> list[str]:
        page = await self._objects.list(self._caller, ns, bucket)
        return [info.key for info in page.objects]

    async def stored(self, ns: str = "plain") -> set[str]:
        """Everything in the store but the marker."""
        space = self.app.namespaces.get(ns)
        return {entry.key for entry in await space.store.list(self.prefix(ns), "")} - {space.layout.owner}

    def prefix(self, ns: str = "plain") -> str:
        """What all physical keys of the namespace begin with."""
        return root_of(self.app.namespaces.get(ns))

    async def foreign(self, key: str, content: bytes, ns: str = "plain") -> str:
        """Somebody else writes into the store; returns the physical key."""
        space = self.app.namespaces.get(ns)
        physical = self.prefix(ns) + key
        await space.store.delete_many([physical])
        await space.store.put(physical, _once(content), WriteOptions(content_type="text/plain", metadata={"who": "me"}))
        return physical

    async def check(self, ns: str = "plain", repair: bool = False, grace: timedelta = _OLD) -> FsckReport:
        return await fsck(self.app.namespaces.get(ns), repair, grace=grace)

    async def import_(self, ns: str = "plain", **wanted: object) -> WalkReport:
        return await adopt(self.app.namespaces.get(ns), Import(**wanted))  # type: ignore[arg-type]

    async def rebuild(self, ns: str = "plain", **wanted: object) -> WalkReport:
        return await rebuild(self.app.namespaces.get(ns), Rebuild(**wanted))  # type: ignore[arg-type]

    async def take_over(self, of: str) -> None:
        """Both stores become this deployment's."""
        for space in self.app.namespaces:
            await take_over(space.store, space.layout.owner, self.app.deployment, space.name, of, space.now())

    async def counts_are_true(self, ns: str = "plain") -> bool:
        said = await self.app.meta.read(lambda view: usage.counters(view, ns))
        true = await self.app.meta.read(lambda view: usage.counted(view, ns))
        return (said.objects, said.size_bytes) == (true.objects, true.size_bytes)


class OperatorSuite:
    """The cases."""

    @pytest.fixture
    def places(self, tmp_path: Path) -> Places:
        """The stores of `plain` and of `kept`."""
        raise NotImplementedError

    def driver(self, number: int, driver: Driver) -> Driver:
        """What is opened for the first or the second namespace; for stores that live in the test's process."""
        return driver

    @pytest.fixture(autouse=True)
    def _disarmed(self) -> Iterator[None]:
        yield
        arm("")

    @pytest.fixture
    def config(self, places: Places, tmp_path: Path) -> Config:
        return self.configured(places, tmp_path / "first")

    def configured(self, places: Places, data_dir: Path) -> Config:
        """The configuration of a deployment with a catalog of its own over the places."""
        data_dir.mkdir(exist_ok=True)
        file = data_dir / "prism.yaml"
        file.write_text(_NAMESPACES)
        loaded = load(file, {}, data_dir=data_dir)
        spaces = [
            msgspec.structs.replace(space, store=place) for space, place in zip(loaded.namespaces, places, strict=True)
        ]
        return msgspec.structs.replace(loaded, namespaces=tuple(spaces))

    @contextlib.asynccontextmanager
    async def opened(
        self,
        config: Config,
        *,
        ahead: timedelta = timedelta(0),
        host: timedelta | None = None,
        store: timedelta | None = None,
        claims: bool = True,
    ) -> AsyncIterator[Deployment]:
        """The composition; both clocks run `ahead`, or this process's and the stores' by what is said of them."""
        numbers = iter(range(2))
        ours = ShiftedClock(ahead if host is None else host)
        theirs = ShiftedClock(ahead if store is None else store)

        def wrap(driver: Driver) -> Driver:
            return ShiftedStore(self.driver(next(numbers), driver), theirs)

        async with open_app(config, now=ours, wraps=Wraps(blob=wrap), claims=claims) as app:
            yield Deployment(app)

    async def test_a_lost_catalog_is_rebuilt_from_the_stores(
        self, config: Config, places: Places, tmp_path: Path
    ) -> None:
        before: dict[str, ObjectInfo] = {}
        async with self.opened(config) as prism:
            for key in ODD:
                await prism.put(key, key.encode(), content_type="text/x-odd", metadata={"who": "ü me"})
            await prism.put("brief", b"brief", ttl=timedelta(days=2))
            await prism.put("ended", b"ended", ttl=timedelta(seconds=1))
            for content in (b"1", b"22", b"333"):
                await prism.put("again", content, ns="kept")
                await prism.put("again", content)
            services = prism.app.services
            caller = Caller(principal=services.access.anonymous(), request_id="r", api="test")
            await services.objects.create_bucket(caller, "plain", "further")
            await prism.put("in/bucket", b"further", bucket="further")
            before = {key: await prism.head(key) for key in (*ODD, "brief", "again")}
            await prism.foreign("holiday.jpg", b"jpg")
            old = prism.app.deployment.id
        lost = self.configured(places, tmp_path / "second")
        with pytest.raises(PrismError, match="another deployment"):
            async with self.opened(lost):
                pass
        ahead = timedelta(minutes=5)
        async with self.opened(lost, claims=False, ahead=ahead) as prism:
            await prism.take_over(old)
            dry = await prism.rebuild(dry_run=True)
            report = await prism.rebuild()
            assert _kinds(dry) == _kinds(report)
            assert _kinds(report) == {"objects": len(ODD) + 3, "expired": 1, "older": 2, "foreign": 1}
            assert _kinds(await prism.rebuild("kept")) == {"objects": 1, "versions": 2}
        async with self.opened(lost, ahead=ahead) as prism:
            assert await prism.keys() == sorted({*ODD, "brief", "again"}, key=str.encode)
            for key in ODD:
                assert await prism.get(key) == key.encode()
            for key, info in before.items():
                after = await prism.head(key)
                for field in ("size_bytes", "etag", "content_type", "metadata", "version_id"):
                    assert getattr(after, field) == getattr(info, field), (key, field)
                assert after.expires_at is not None
                assert info.expires_at is not None
                later = after.expires_at - info.expires_at
                assert timedelta(0) <= later <= timedelta(seconds=5), "nothing expires early, and nothing much later"
            assert (await prism.get("again", "kept"), await prism.get("again")) == (b"333", b"333")
            assert await prism.get("in/bucket", bucket="further") == b"further"
            assert await prism.counts_are_true()
            assert await prism.counts_are_true("kept")
            with pytest.raises(PrismError, match="--add"):
                await prism.rebuild()
            assert _kinds(await prism.rebuild(add=True)) == {"known": len(ODD) + 4, "older": 2, "foreign": 1}
            stored = await prism.stored()
            found = await prism.check(repair=True)
            assert _kinds(found) == {"referenced": len(ODD) + 4, "unproven": 2, "foreign": 1}
            assert await prism.stored() == stored

    @pytest.mark.parametrize("point", ["rebuild.before_commit", "rebuild.after_commit"])
    async def test_an_interrupted_rebuild_goes_on(
        self, config: Config, places: Places, tmp_path: Path, point: str
    ) -> None:
        async with self.opened(config) as prism:
            for n in range(8):
                await prism.put(f"k{n}", b"x")
            old = prism.app.deployment.id
        lost = self.configured(places, tmp_path / "second")
        async with self.opened(lost, claims=False) as prism:
            await prism.take_over(old)
            arm(f"{point}=raise@1")
            with pytest.raises(FailpointError):
                await prism.rebuild()
            arm("")
            await prism.rebuild()
        async with self.opened(lost) as prism:
            assert len(await prism.keys()) == 8
            assert (await prism.check()).clean
            assert await prism.counts_are_true()

    async def test_nothing_is_garbage_that_an_older_catalog_does_not_know(
        self, config: Config, places: Places, tmp_path: Path
    ) -> None:
        file = tmp_path / "backup.gz"
        async with self.opened(config) as prism:
            await prism.put("old", b"old")
            await prism.put("changed", b"before")
            await export(prism.app.meta, file, prism.app.deployment.id, utc_now())
            await prism.put("new", b"new")
            await prism.put("changed", b"after")
            stored = await prism.stored()
        restored = self.configured(places, tmp_path / "second")
        meta = await open_meta(restored.meta.url)
        await restore(meta, file)
        await meta.close()
        async with self.opened(restored) as prism:
            for _ in range(2):
                report = await prism.check(repair=True)
                assert _kinds(report) == {"referenced": 2, "unproven": 2}
            assert not report.clean
        for ahead in (timedelta(days=3), timedelta(days=30)):
            async with self.opened(restored, ahead=ahead) as prism:
                await prism.app.janitor.run_once()
                assert await prism.stored() == stored
        async with self.opened(restored) as prism:
            assert _kinds(await prism.rebuild(add=True)) == {"objects": 2, "known": 2}
            assert [await prism.get(key) for key in ("old", "new", "changed")] == [b"old", b"new", b"after"]
            assert await prism.counts_are_true()
            assert (await prism.check()).clean

    async def test_two_deployments_never_share_a_store(self, config: Config, places: Places, tmp_path: Path) -> None:
        async with self.opened(config) as prism:
            await prism.put("mine", b"mine")
            space = prism.app.namespaces.get("plain")
            other = self.configured(places, tmp_path / "second")
            with pytest.raises(PrismError, match="another deployment"):
                async with self.opened(other):
                    pass
            await space.store.delete_many([space.layout.owner])
            with pytest.raises(PrismError, match="does not know"):
                async with self.opened(other):
                    pass
            async with self.opened(other, claims=False) as second:
                stored = await second.stored()
                report = await second.check(repair=True)
                assert _kinds(report) == {"unproven": 1}
                assert _kinds(await second.import_()) == {"prism": 1}
                await second.app.janitor.run_once()
                assert await second.stored() == stored
                with pytest.raises(PrismError):
                    await take_over(
                        space.store, space.layout.owner, second.app.deployment, "plain", "f" * 32, utc_now()
                    )
                await take_over(space.store, space.layout.owner, second.app.deployment, "plain", UNOWNED, utc_now())
                assert await is_mine(space.store, space.layout.owner, second.app.deployment, "plain")
            assert await prism.get("mine") == b"mine"
            await prism.delete("mine")
        async with self.opened(config, ahead=timedelta(days=2), claims=False) as prism:
            round_ = await prism.app.janitor.run_once()
            assert "somebody else" in round_.namespaces["plain"].stopped
            assert await prism.stored() == stored, "a deployment that was taken over deletes nothing any more"
        with pytest.raises(PrismError, match="another deployment"):
            async with self.opened(config):
                pass

    @pytest.mark.parametrize(("host", "store"), [(-30, 0), (30, 0), (0, -30), (0, 30), (30, 30)])
    async def test_a_wrong_clock_condemns_nothing_that_is_named(self, config: Config, host: int, store: int) -> None:
        async with self.opened(config) as prism:
            await prism.put("a", b"a")
            await prism.foreign("foreign", b"x")
            stored = await prism.stored()
        async with self.opened(config, host=timedelta(days=host), store=timedelta(days=store)) as prism:
            await prism.put("b", b"b")
            report = await prism.check(repair=True, grace=timedelta(hours=1))
            assert _kinds(report) == {"referenced": 2, "foreign": 1}
            await prism.app.janitor.run_once()
            assert await prism.stored() > stored

    async def test_the_check_condemns_its_own_garbage_and_only_that(self, config: Config) -> None:
        async with self.opened(config) as prism:
            await prism.put("a", b"a")
            space = prism.app.namespaces.get("plain")
            strays = {space.layout.physical("plain-bucket", f"stray/{n}", space.new_version_id()) for n in range(3)}
            staging = space.layout.staging("plain-bucket", "late", space.new_version_id())
            for key in (*strays, staging):
                await space.store.put(key, _once(b"stray"), WriteOptions())
            await prism.foreign("foreign", b"x")
            assert _kinds(await prism.check(repair=True)) == {"referenced": 1, "unproven": 4, "foreign": 1}
        async with self.opened(config) as prism:
            young = await prism.check(repair=True, grace=timedelta(hours=1))
            assert _kinds(young) == {"referenced": 1, "young": 4, "foreign": 1}
            dry = await prism.check()
            assert _kinds(dry) == {"referenced": 1, "unnamed": 4, "foreign": 1}
            assert set(dry.kinds["unnamed"].samples) == {*strays, staging}
            assert dry.kinds["unnamed"].size_bytes == 20
            assert _kinds(await prism.check(repair=True)) == _kinds(dry)
            assert _kinds(await prism.check()) == {"referenced": 1, "condemned": 4, "foreign": 1}
            assert {*strays, staging} <= await prism.stored()

    async def test_lost_and_foreign_bytes_are_told_apart(self, config: Config) -> None:
        async with self.opened(config) as prism:
            for key in ("lost", "changed", "same"):
                await prism.put(key, b"12345")
            prefix = prism.prefix()
            physical = {key.removeprefix(prefix).partition("~")[0]: key for key in await prism.stored()}
            space = prism.app.namespaces.get("plain")
            await space.store.delete_many([physical["lost"]])
            await prism.foreign(physical["changed"].removeprefix(prefix), b"other")
            report = await prism.check(repair=True)
            assert _kinds(report) == {"referenced": 2, "missing": 1, "differing": 1}

    async def test_what_lay_there_is_taken_up_and_stays(self, config: Config) -> None:
        async with self.opened(config) as prism:
            await prism.put("photos/mine", b"mine")
            await prism.put("taken", b"taken")
            for key in ("photos/1", "photos/2", "photos/3", "taken", "elsewhere"):
                await prism.foreign(key, key.encode())
            dry = await prism.import_(prefix="photos/", dry_run=True)
            assert _kinds(dry) == {"adopted": 3, "prism": 1}
            assert await prism.get("photos/1") is None
            assert _kinds(await prism.import_(prefix="photos/")) == _kinds(dry)
            assert _kinds(await prism.import_()) == {"adopted": 1, "unchanged": 3, "taken": 1, "prism": 2}
            assert _kinds(await prism.import_()) == {"unchanged": 4, "taken": 1, "prism": 2}
            info = await prism.head("photos/1")
            assert (info.content_type, info.metadata, info.expires_at) == ("text/plain", {"who": "me"}, None)
            assert (await prism.get("photos/1"), await prism.get("taken")) == (b"photos/1", b"taken")
            assert await prism.counts_are_true()
            assert _kinds(await prism.check(repair=True)) == {"referenced": 6, "foreign": 1}
            stored = await prism.stored()
            assert await prism.delete("photos/1")
            await prism.put("photos/2", b"mine now")
        async with self.opened(config, ahead=timedelta(days=2)) as prism:
            await prism.app.janitor.run_once()
            assert await prism.stored() > stored, "what is not Prism's own is never deleted"
            assert _kinds(await prism.check()) == {"referenced": 5, "foreign": 3}
            assert _kinds(await prism.import_(prefix="photos/1")) == {"adopted": 1}

    async def test_bytes_that_others_rewrote_are_lost_until_they_are_taken_up_again(self, config: Config) -> None:
        async with self.opened(config) as prism:
            await prism.foreign("a", b"before")
            await prism.import_(lifetime=timedelta(days=7))
            expires_at = (await prism.head("a")).expires_at
            assert expires_at is not None
            await prism.foreign("a", b"changed behind our back")
            with pytest.raises(PrismError) as lost:
                await prism.get("a")
            assert lost.value.code is ErrorCode.DATA_LOSS
            assert _kinds(await prism.check()) == {"referenced": 1, "differing": 1}
            assert _kinds(await prism.import_()) == {"refreshed": 1}
            assert await prism.get("a") == b"changed behind our back"
            assert (await prism.head("a")).expires_at == expires_at
            assert await prism.counts_are_true()
            assert (await prism.check()).clean

    async def test_own_bytes_go_with_their_object_unless_others_rewrote_them(self, config: Config) -> None:
        async with self.opened(config) as prism:
            gone, rewritten = await prism.foreign("gone", b"x"), await prism.foreign("rewritten", b"x")
            if not prism.app.namespaces.get("plain").store.capabilities.conditional_delete:
                with pytest.raises(PrismError, match="delete on condition") as refused:
                    await prism.import_(own=True)
                assert refused.value.code is ErrorCode.UNIMPLEMENTED
                assert await prism.keys() == []
                return
            assert _kinds(await prism.import_(own=True)) == {"adopted": 2}
            assert await prism.delete("gone")
            assert await prism.delete("rewritten")
            await prism.foreign("rewritten", b"somebody's")
            assert _kinds(await prism.import_()) == {"condemned": 2}
        async with self.opened(config, ahead=timedelta(hours=2)) as prism:
            await prism.app.janitor.run_once()
            assert await prism.stored() == {rewritten}
            assert gone not in await prism.stored()
            assert _kinds(await prism.import_()) == {"adopted": 1}

    @pytest.mark.parametrize("point", ["import.after_promise", "import.before_commit", "import.after_commit"])
    async def test_an_interrupted_import_goes_on(self, config: Config, point: str) -> None:
        async with self.opened(config) as prism:
            for n in range(4):
                await prism.foreign(f"k{n}", b"x")
            arm(f"{point}=raise@1")
            with pytest.raises(FailpointError):
                await prism.import_()
            arm("")
            stored = await prism.stored()
        async with self.opened(config, ahead=timedelta(days=2)) as prism:
            await prism.app.janitor.run_once()
            await prism.check(repair=True)
            assert await prism.stored() == stored
            await prism.import_()
            assert await prism.keys() == [f"k{n}" for n in range(4)]
            assert _kinds(await prism.check()) == {"referenced": 4}
            assert await prism.counts_are_true()
