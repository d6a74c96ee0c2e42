"""The rules of a blob's life, one test each that fails when the rule is taken away."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import msgspec
import pytest
from world import Process, World

from prism.blob.driver import WriteOptions
from prism.catalog import objects as transitions
from prism.catalog import uploads as promises
from prism.catalog.objects import Facts
from prism.catalog.rows import Hint, PromiseRow, Refused
from prism.errors import ErrorCode, PrismError
from prism.keys import Layout
from prism.meta.driver import Driver as CatalogDriver
from prism.model import Declared, ObjectRef, Precondition, PutOptions
from prism.recognition import verify

ABSENT = Precondition(if_none_match=("*",))


def facts(size: int = 1, landed_at=None) -> Facts:
    return Facts(size_bytes=size, etag="e-1", store_etag="s", content_type="text/plain", landed_at=landed_at)


class Catalog:
    """Transitions of one namespace, each in a transaction of its own."""

    def __init__(self, world: World, prism: Process, ns: str = "things") -> None:
        self.world, self.space = world, prism.spaces[ns]
        self.rules = self.space.rules

    async def run(self, transition, *args):
        async def body(tx):
            return await transition(tx, self.rules, *args)

        return await self.space.meta.transact(self.space.name, body)

    async def promise(self, key: str, kind: str = "process", precondition: Precondition | None = None) -> PromiseRow:
        now, version_id = self.world.clock(), self.world.new_version_id()
        row = PromiseRow(
            bucket=self.rules.own_bucket,
            key=key,
            version_id=version_id,
            physical_key=Layout(self.rules.own_bucket).physical(self.rules.own_bucket, key, version_id),
            kind=kind,
            created_at=now,
            writable_until=now + timedelta(seconds=60),
            dead=now + timedelta(seconds=120),
            precondition=precondition or Precondition(),
        )
        await self.run(promises.promise, row)
        return row

    async def commit(self, row: PromiseRow, landed_at=None):
        return await self.run(transitions.commit, row, facts(landed_at=landed_at), self.world.clock())


@pytest.fixture
def catalog(world: World, prism: Process) -> Catalog:
    return Catalog(world, prism)


class TestRule1Commit:
    async def test_a_repeated_commit_hears_the_same_answer(self, catalog: Catalog) -> None:
        row = await catalog.promise("k", precondition=ABSENT)
        first = await catalog.commit(row)
        again = await catalog.commit(row)
        assert again == first, "put-if-absent must not lose to itself"

    async def test_a_writer_whose_promise_is_gone_never_hears_that_it_failed(self, catalog: Catalog) -> None:
        row = await catalog.promise("k")
        await catalog.run(promises.abandon, row, catalog.world.clock())
        outcome = await catalog.commit(row)
        assert isinstance(outcome, Refused)
        assert outcome.code is ErrorCode.OUTCOME_UNKNOWN

    async def test_a_paused_writer_cannot_reference_condemned_bytes(self, world: World, catalog: Catalog) -> None:
        row = await catalog.promise("k")
        world.clock.forward(121)
        assert await catalog.run(promises.break_due, row, None, world.clock()) is None
        assert isinstance(await catalog.commit(row), Refused)
        assert not await world.referenced()

    async def test_the_clock_alone_refuses_no_commit(self, world: World, catalog: Catalog) -> None:
        row = await catalog.promise("k")
        world.clock.forward(10_000)
        assert not isinstance(await catalog.commit(row), Refused)

    async def test_a_newer_mark_is_asked_before_the_precondition(
        self, world: World, prism: Process, catalog: Catalog
    ) -> None:
        row = await catalog.promise("a/k", precondition=Precondition(if_match=("*",)))
        await prism.delete_folder("a/")
        outcome = await catalog.commit(row)
        assert isinstance(outcome, Refused)
        assert outcome.code is ErrorCode.DELETED_MEANWHILE
        assert row.physical_key in await world.condemned()

    async def test_an_upload_that_landed_earlier_goes_under_the_current_one(
        self, world: World, catalog: Catalog
    ) -> None:
        late, early = await catalog.promise("k", "client"), await catalog.promise("k", "client")
        at = world.clock()
        await catalog.commit(late, landed_at=at + timedelta(seconds=2))
        await catalog.commit(early, landed_at=at + timedelta(seconds=1))
        assert set(await world.referenced()) == {late.physical_key}
        assert early.physical_key in await world.condemned()

    async def test_landed_at_the_same_instant_the_later_promise_wins(self, world: World, catalog: Catalog) -> None:
        first, second = await catalog.promise("k", "client"), await catalog.promise("k", "client")
        await catalog.commit(second, landed_at=world.clock())
        await catalog.commit(first, landed_at=world.clock())
        assert set(await world.referenced()) == {second.physical_key}

    async def test_a_refused_commit_leaves_garbage_not_nothing(self, world: World, catalog: Catalog) -> None:
        await catalog.commit(await catalog.promise("k"))
        loser = await catalog.promise("k", precondition=ABSENT)
        outcome = await catalog.commit(loser)
        assert isinstance(outcome, Refused)
        assert outcome.code is ErrorCode.PRECONDITION_FAILED
        assert set(await world.condemned()) == {loser.physical_key}
        assert not await world.promised()


class TestRule2Break:
    async def test_a_clients_promise_is_broken_only_when_dead(self, world: World, catalog: Catalog) -> None:
        row = await catalog.promise("k", "client")
        world.clock.forward(119)
        assert isinstance(await catalog.run(promises.break_due, row, world.clock(), world.clock()), Refused)
        assert row.physical_key in await world.promised()

    async def test_the_look_must_have_begun_when_the_promise_was_dead(self, world: World, catalog: Catalog) -> None:
        row = await catalog.promise("k", "client")
        world.clock.forward(119)
        looked = world.clock()
        world.clock.forward(2)
        assert isinstance(await catalog.run(promises.break_due, row, looked, world.clock()), Refused)
        assert isinstance(await catalog.run(promises.break_due, row, None, world.clock()), Refused)
        assert await catalog.run(promises.break_due, row, world.clock(), world.clock()) is None
        assert row.physical_key in await world.condemned()

    async def test_a_process_that_may_still_write_is_not_given_up(self, world: World, catalog: Catalog) -> None:
        row = await catalog.promise("k")
        world.clock.forward(119)
        assert isinstance(await catalog.run(promises.break_due, row, None, world.clock()), Refused)
        assert row.physical_key in await world.promised()

    async def test_a_promise_that_was_kept_is_not_broken(self, world: World, catalog: Catalog) -> None:
        row = await catalog.promise("k", "client")
        await catalog.commit(row, landed_at=world.clock())
        world.clock.forward(500)
        assert isinstance(await catalog.run(promises.break_due, row, world.clock(), world.clock()), Refused)
        assert not await world.condemned()

    async def test_bytes_that_are_not_as_declared_stay_invisible_and_go_when_dead(
        self, world: World, prism: Process
    ) -> None:
        upload = await prism.presign_put("k", declared=Declared(size_bytes=3))
        await world.land(world.physical("k", upload), b"four")
        for _ in range(3):
            with pytest.raises(PrismError) as caught:
                await prism.head("k")
            assert caught.value.code is ErrorCode.OBJECT_NOT_FOUND
        assert await prism.list() == []
        await prism.rounds()
        assert len(await world.promised()) == 1, "condemned too early: a correct retry would be lost"
        await world.rest(prism)
        assert not await world.stored()


class TestRule3Settle:
    async def test_a_put_takes_what_landed_before_it(self, world: World, prism: Process) -> None:
        upload = await prism.presign_put("k")
        await world.land(world.physical("k", upload), b"landed first")
        await prism.put("k", b"put after")
        assert await prism.get("k") == b"put after"
        assert not await world.promised()

    async def test_a_delete_takes_what_landed_before_it(self, world: World, prism: Process) -> None:
        upload = await prism.presign_put("k")
        await world.land(world.physical("k", upload), b"landed")
        assert await prism.delete("k") is True
        assert await prism.list() == []
        await world.rest(prism)
        assert not await world.stored()

    async def test_a_copy_onto_the_key_takes_what_landed_before_it(self, world: World, prism: Process) -> None:
        await prism.put("source", b"copied")
        upload = await prism.presign_put("k")
        await world.land(world.physical("k", upload), b"landed")
        await prism.copy("source", "k")
        assert await prism.get("k") == b"copied"

    async def test_a_precondition_sees_what_landed(self, world: World, prism: Process) -> None:
        upload = await prism.presign_put("k")
        await world.land(world.physical("k", upload), b"landed")
        with pytest.raises(PrismError) as caught:
            await prism.put("k", b"mine", precondition=ABSENT)
        assert caught.value.code is ErrorCode.PRECONDITION_FAILED
        assert await prism.get("k") == b"landed"

    async def test_several_landed_ones_go_by_landing_time(self, world: World, prism: Process) -> None:
        first, second, third = [await prism.presign_put("k") for _ in range(3)]
        for upload, content in ((third, b"1"), (first, b"2"), (second, b"3")):
            world.clock.forward(1)
            await world.land(world.physical("k", upload), content)
        assert await prism.get("k") == b"3"
        assert len(await world.condemned()) == 2

    async def test_an_upload_is_taken_only_after_all_that_landed_before_it(self, world: World, prism: Process) -> None:
        """The janitor looks at one promise; an earlier landed one of the key must not come up when this one is over."""
        early = await prism.presign_put("k", seconds=3600)
        late = await prism.presign_put("k", ttl=timedelta(seconds=30), seconds=3600)
        await world.land(world.physical("k", early), b"early")
        world.clock.forward(1)
        await world.land(world.physical("k", late), b"late")
        promise = (await world.promised())[world.physical("k", late)]
        assert await verify(prism.spaces["things"], promise)
        row = (await world.referenced())[promise.physical_key]
        world.clock.forward(60)
        await Catalog(world, prism).run(transitions.expire, [Hint(row.expires_at, "things", "k")], world.clock())
        with pytest.raises(PrismError) as caught:
            await prism.get("k")
        assert caught.value.code is ErrorCode.OBJECT_NOT_FOUND

    async def test_a_key_has_at_most_32_open_uploads(self, world: World, prism: Process) -> None:
        once = {"metadata": {"a": "b"}}
        for _ in range(32):
            await prism.presign_put("k", **once)
        for options in (once, {}):
            with pytest.raises(PrismError) as caught:
                await prism.presign_put("k", **options)
            assert caught.value.code is ErrorCode.TOO_MANY_UPLOADS
        await prism.presign_put("k2")
        await prism.put("k", b"puts are not counted")


class TestRule4Read:
    async def test_a_clients_upload_is_seen_by_the_next_read(self, world: World, prism: Process) -> None:
        upload = await prism.presign_put("k")
        await world.land(world.physical("k", upload), b"hello")
        assert await prism.get("k") == b"hello"
        assert await prism.list() == ["k"]

    async def test_bytes_replaced_while_a_read_opens_them_send_it_back_to_the_row(
        self, world: World, prism: Process
    ) -> None:
        await prism.put("k", b"old")
        opened = Replacing(world, prism, "k", b"new")
        reader = world.start(wrap_blob=opened.wrap)
        assert await reader.get("k") == b"new"

    async def test_the_same_row_twice_without_its_bytes_is_data_loss(self, world: World, prism: Process) -> None:
        await prism.put("k", b"lost")
        await world.blobs["things"].delete_many(list(await world.stored()))
        with pytest.raises(PrismError) as caught:
            await prism.get("k")
        assert caught.value.code is ErrorCode.DATA_LOSS


class SlowCatalog:
    """A catalog whose transactions take a while, once there is a promise to renew."""

    def __init__(self, driver: CatalogDriver, world: World, seconds: float) -> None:
        self._driver = driver
        self._world = world
        self._seconds = seconds

    def __getattr__(self, name: str) -> object:
        return getattr(self._driver, name)

    async def transact(self, *arguments: object) -> object:
        renews = bool(await self._world.promised())
        answer = await self._driver.transact(*arguments)  # type: ignore[arg-type]  # passed on
        if renews:
            self._world.clock.forward(self._seconds)
        return answer


class TestRule5ProxiedPut:
    async def test_no_write_starts_after_its_promise_was_given_up(self, world: World, prism: Process) -> None:
        async def slow():
            await asyncio.sleep(0)
            yield b"first"
            world.clock.forward(400)
            await prism.rounds(2)
            yield b"second"

        with pytest.raises(PrismError) as caught:
            await prism.objects.put(prism.caller, ObjectRef("things", "", "k"), slow(), PutOptions())
        assert caught.value.code is ErrorCode.OUTCOME_UNKNOWN
        assert not await world.stored()

    async def test_a_writer_that_was_paused_before_its_bytes_appear_writes_none(
        self, world: World, prism: Process
    ) -> None:
        async def pause() -> None:
            world.clock.forward(400)
            await prism.rounds(2)

        paused = world.start(wrap_blob=lambda driver: PausedDriver(driver, pause))
        with pytest.raises(PrismError):
            await paused.put("k", b"late")
        assert not await world.stored()

    @pytest.mark.parametrize("seconds", [19, 61])
    async def test_no_write_starts_after_a_catalog_was_slow_to_renew_its_promise(
        self, world: World, prism: Process, seconds: int
    ) -> None:
        async def slow() -> AsyncIterator[bytes]:
            yield b"x"
            world.clock.forward(30)

        slowly = world.start(wrap_meta=lambda driver: SlowCatalog(driver, world, seconds))
        put = slowly.objects.put(slowly.caller, ObjectRef("things", "", "k"), slow(), PutOptions())
        if seconds < 60:
            await put
            return
        with pytest.raises(PrismError) as caught:
            await put
        assert caught.value.code is ErrorCode.STORE_DOWN
        assert not await world.stored()

    async def test_a_slow_body_keeps_its_promise_alive(self, world: World, prism: Process) -> None:
        async def slow():
            for _ in range(20):
                world.clock.forward(50)
                await prism.rounds()
                yield b"x"

        await prism.objects.put(prism.caller, ObjectRef("things", "", "k"), slow(), PutOptions())
        assert await prism.get("k") == b"x" * 20
        await world.check()


class TestRule6Condemn:
    async def test_what_a_user_deletes_goes_promptly_and_once_more_when_dead(
        self, world: World, prism: Process
    ) -> None:
        upload = await prism.presign_put("k", seconds=600)
        physical = world.physical("k", upload)
        await world.land(physical, b"first")
        assert await prism.delete("k")
        world.clock.forward(11)
        await prism.rounds()
        assert physical not in await world.stored(), "a deleted object's bytes go promptly"
        assert physical in await world.condemned(), "the URL can still reach the key"
        await world.land(physical, b"once more, by the still living URL")
        world.clock.forward(3 * 3600)
        await prism.rounds()
        assert not await world.stored()
        assert not await world.condemned()

    async def test_overwritten_bytes_stay_for_the_longest_url_and_until_dead(
        self, world: World, prism: Process
    ) -> None:
        upload = await prism.presign_put("k", seconds=3600)
        physical = world.physical("k", upload)
        await world.land(physical, b"first")
        await prism.put("k", b"second")
        world.clock.forward(3601)
        await prism.rounds()
        assert physical in await world.stored(), "a late PUT must hear 412 while its URL can still be used"
        await world.rest(prism)
        assert list((await world.stored()).values()) == [b"second"]

    async def test_an_overwritten_put_stays_for_its_grace(self, world: World, prism: Process) -> None:
        await prism.put("k", b"first")
        await prism.put("k", b"second")
        world.clock.forward(3590)
        await prism.rounds()
        assert len(await world.stored()) == 2
        world.clock.forward(20)
        await prism.rounds()
        assert list((await world.stored()).values()) == [b"second"]

    async def test_a_promise_made_before_a_folder_was_deleted_is_void(self, world: World, prism: Process) -> None:
        upload = await prism.presign_put("a/k")
        await world.land(world.physical("a/k", upload), b"landed")
        await prism.delete_folder("a/")
        with pytest.raises(PrismError):
            await prism.get("a/k")
        assert await prism.list() == []
        world.clock.forward(11)
        await prism.rounds()
        assert not await world.stored()
        assert world.physical("a/k", upload) in await world.condemned()
        with pytest.raises(PrismError) as caught:
            await prism.keep("a/k", upload, b"by the old URL")
        assert caught.value.code is ErrorCode.DELETED_MEANWHILE


class TestRule8Indexes:
    async def test_a_stale_expiry_hint_expires_nothing(self, world: World, prism: Process, catalog: Catalog) -> None:
        info = await prism.put("k", b"x", ttl=timedelta(seconds=100))
        hint = Hint(info.expires_at - timedelta(seconds=50), "things", "k")
        world.clock.forward(60)
        assert await catalog.run(transitions.expire, [hint], world.clock()) == 0
        assert await prism.get("k") == b"x"

    async def test_the_hint_of_an_overwritten_object_does_not_expire_the_new_one(
        self, world: World, prism: Process, catalog: Catalog
    ) -> None:
        info = await prism.put("k", b"old", ttl=timedelta(seconds=10))
        await prism.put("k", b"new", ttl=timedelta(seconds=1000))
        world.clock.forward(20)
        await catalog.run(transitions.expire, [Hint(info.expires_at, "things", "k")], world.clock())
        assert await prism.get("k") == b"new"


class TestRule11Copies:
    async def test_each_attempt_of_a_copy_has_a_key_of_its_own(self, world: World, prism: Process) -> None:
        await prism.put("k", b"old")
        opened = Replacing(world, prism, "k", b"new")
        copier = world.start(wrap_blob=opened.wrap)
        await copier.copy("k", "copy")
        assert await prism.get("copy") == b"new", "the source changed meanwhile: look again"
        targets = [key for key in [*await world.condemned(), *await world.referenced()] if key.startswith("copy~")]
        assert len(targets) == len(set(targets)) == 2

    async def test_a_copy_onto_itself_takes_no_newer_content_back(self, world: World, prism: Process) -> None:
        await prism.put("k", b"old")
        opened = Replacing(world, prism, "k", b"new", vanish=False)
        copier = world.start(wrap_blob=opened.wrap)
        await copier.copy("k", "k", ttl=timedelta(seconds=100))
        assert await prism.get("k") == b"new"


class PausedDriver:
    """A store that is slow between the last byte and the gate."""

    def __init__(self, inner, pause) -> None:
        self._inner, self._pause = inner, pause

    def __getattr__(self, name: str):
        return getattr(self._inner, name)

    async def put(self, key, chunks, options: WriteOptions):
        gate = options.gate

        async def late() -> None:
            await asyncio.sleep(0)
            await self._pause()
            await gate()

        return await self._inner.put(key, chunks, msgspec.structs.replace(options, gate=late))


class Replacing:
    """A store whose first opened read (or copy) finds the object overwritten, and its old bytes gone."""

    def __init__(self, world: World, prism: Process, key: str, content: bytes, vanish: bool = True) -> None:
        self.world, self.prism, self.key, self.content, self.vanish = world, prism, key, content, vanish
        self.done = False

    def wrap(self, driver):
        return _ReplacingDriver(driver, self)

    async def replace(self) -> None:
        if self.done:
            return
        self.done = True
        old = list(await self.world.referenced())
        await self.prism.put(self.key, self.content)
        if self.vanish:
            await self.world.blobs["things"].delete_many(old)


class _ReplacingDriver:
    def __init__(self, inner, replacing: Replacing) -> None:
        self._inner, self._replacing = inner, replacing

    def __getattr__(self, name: str):
        return getattr(self._inner, name)

    async def get(self, key, byte_range, if_match):
        await self._replacing.replace()
        return await self._inner.get(key, byte_range, if_match)

    async def copy(self, source: str, if_match: str, key: str, options: WriteOptions):
        await self._replacing.replace()
        return await self._inner.copy(source, if_match, key, options)
