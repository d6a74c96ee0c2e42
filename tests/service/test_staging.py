"""What lies under a staging key: each PUT is a write of its own, whoever looks, fails, dies or overtakes meanwhile."""

import asyncio
import contextlib
import re
from pathlib import Path

import pytest
from direct_support import (
    ABSENT,
    ALL,
    DEAD,
    Counting,
    Landing,
    absent,
    commit_copy,
    fails,
    promise_copy,
    run,
    the_staged,
)
from world import START, Process, World

from prism import staging
from prism.blob.memory import MemoryDriver
from prism.catalog import uploads as promises
from prism.catalog.rows import ObjectRow, PromiseRow, Refused
from prism.catalog.staging import Again, Nothing, pair_of
from prism.errors import ErrorCode, PrismError
from prism.failpoints import FailpointError, arm
from prism.testing.faulty_blob import Fault, FaultyBlob
from prism.workers.deleting import delete_leftovers

_POINTS = re.findall(r'failpoint\("staging\.(\w+)"\)', Path(staging.__file__).read_text())


@pytest.fixture(params=[ALL, frozenset()], ids=["binds-all", "binds-nothing"])
def world(request, _config) -> World:
    """A world whose store of `things` signs URLs."""
    return World(_config, request.param)


@pytest.fixture
def unbound(_config) -> World:
    return World(_config, frozenset())


class TestStaging:
    """A URL that may write more than once never writes to bytes that are referenced."""

    async def test_each_put_by_the_same_url_is_a_new_write(self, world: World, prism: Process) -> None:
        url = await prism.presign("k")
        versions = set()
        for content in (b"one", b"two", b"two", b"three"):
            world.clock.forward(1)
            await world.send(url, content)
            assert await prism.get("k") == content
            versions.add((await prism.head("k")).version_id)
        assert len(versions) == 4
        await world.check()
        await world.rest(prism)
        assert await prism.get("k") == b"three"

    async def test_the_same_bytes_are_nothing_new(self, world: World, prism: Process) -> None:
        await world.send(await prism.presign("k"), b"one")
        first = await prism.head("k")
        for _ in range(3):
            await prism.rounds()
            world.clock.forward(100)
            assert (await prism.head("k")).version_id == first.version_id

    async def test_a_deleted_object_stays_deleted_until_a_further_put(self, world: World, prism: Process) -> None:
        url = await prism.presign("k")
        await world.send(url, b"one")
        await prism.get("k")
        await prism.delete("k")
        for _ in range(3):
            await absent(prism)
            await prism.rounds()
        world.clock.forward(1)
        assert await world.send(url, b"one") == 200
        assert await prism.get("k") == b"one"

    async def test_what_was_referenced_is_out_of_the_urls_reach(self, world: World, prism: Process) -> None:
        url = await prism.presign("k")
        await world.send(url, b"one")
        await prism.get("k")
        referenced = await world.referenced()
        await world.send(url, b"two")
        stored = await world.stored()
        assert [stored[key] for key in referenced] == [b"one"]

    async def test_staging_bytes_of_a_deleted_object_go_soon(self, world: World, prism: Process) -> None:
        await world.send(await prism.presign("k"), b"secret")
        await prism.delete("k")
        world.clock.forward(11)
        await prism.rounds()
        assert await world.stored() == {}
        assert [promise.leftover for promise in (await world.promised()).values()] == [False]
        await world.check()

    async def test_but_not_what_came_by_the_same_url_since(self, world: World, prism: Process) -> None:
        url = await prism.presign("k")
        await world.send(url, b"secret")
        await prism.delete("k")
        world.clock.forward(1)
        await world.send(url, b"new")
        await prism.rounds(3)
        assert await prism.get("k") == b"new"

    async def test_nor_what_comes_at_that_very_moment(self, world: World, prism: Process) -> None:
        url = await prism.presign("k")
        await world.send(url, b"secret")
        await prism.delete("k")
        staged = await the_staged(world)
        assert staged.leftover
        await world.send(url, b"new")
        await delete_leftovers(prism.spaces["things"], [staged])
        assert await prism.get("k") == b"new"

    async def test_where_the_store_cannot_spare_others_they_stay_until_dead(self, unbound: World) -> None:
        unbound.drivers["things"] = unbound.blobs["things"] = MemoryDriver(  # type: ignore[index]
            now=unbound.clock, signs=True, binds=frozenset(), conditional_delete=False
        )
        prism = unbound.start()
        await unbound.send(await prism.presign("k"), b"secret")
        await prism.delete("k")
        unbound.clock.forward(60)
        await prism.rounds(2)
        assert len(await unbound.stored()) == 1
        unbound.clock.forward(DEAD)
        await prism.rounds(2)
        assert await unbound.stored() == {}

    async def test_a_put_on_its_way_at_the_last_moment_counts(self, world: World, prism: Process) -> None:
        url = await prism.presign("k")
        world.clock.forward(599)
        landing = Landing(world, url, b"slowly")
        await landing.begun()
        world.clock.forward(3600)
        await prism.rounds(2)
        assert await landing.arrive() == 200
        assert await prism.get("k") == b"slowly"
        await world.rest(prism)

    async def test_one_that_comes_even_later_is_removed(self, world: World, prism: Process) -> None:
        """Nobody waits that long; but what lands before the second deletion of its key is not left over."""
        url = await prism.presign("f/k")
        landing = Landing(world, url, b"too late")
        await landing.begun()
        await prism.delete_folder("f/")
        world.clock.forward(60)
        await prism.rounds(2)
        assert await landing.arrive() == 200
        await absent(prism, "f/k")
        assert len(await world.stored()) == 1
        await world.check()
        await world.rest(prism)
        assert await world.stored() == {}

    async def test_a_promise_nobody_kept_is_broken_when_dead_and_not_before(self, world: World, prism: Process) -> None:
        await prism.presign("k")
        world.clock.forward(DEAD - 1)
        await prism.rounds()
        assert len(await world.promised()) == 1
        world.clock.forward(2)
        await prism.rounds()
        assert not await world.promised()

    async def test_several_landed_ones_go_by_landing_time(self, world: World, prism: Process) -> None:
        urls = [await prism.presign("k", content_type=f"text/{n}") for n in "abc"]
        for at, content in ((2, b"1"), (0, b"2"), (1, b"3")):
            world.clock.forward(1)
            await world.send(urls[at], content)
        assert await prism.get("k") == b"3"
        await world.check()

    async def test_a_precondition_is_judged_in_the_order_of_landing(self, world: World, prism: Process) -> None:
        _, only_if_absent = await prism.declare("k", precondition=ABSENT)
        _, anyway = await prism.declare("k")
        await world.send(anyway, b"first")
        world.clock.forward(1)
        await world.send(only_if_absent, b"second")
        assert await prism.get("k") == b"first"
        await world.check()

    async def test_landed_at_the_same_instant_the_later_promise_wins(self, world: World, prism: Process) -> None:
        urls = [await prism.presign("k", content_type=f"text/{n}") for n in "ab"]
        await world.send(urls[1], b"later promise")
        await world.send(urls[0], b"earlier promise")
        assert await prism.get("k") == b"later promise"

    async def test_two_puts_within_one_second_of_the_stores_clock(self, world: World, prism: Process) -> None:
        url = await prism.presign("k")
        await world.send(url, b"one")
        assert await prism.get("k") == b"one"
        await world.send(url, b"two")
        assert await prism.get("k") == b"two"


class TestFailures:
    async def test_a_landed_one_that_cannot_be_copied_is_not_absent(self, world: World, prism: Process) -> None:
        faulty = FaultyBlob(world.blobs["things"])
        prism = world.start(wrap_blob=lambda driver: faulty)
        url = await prism.presign("k")
        await world.send(url, b"x")
        for work in (prism.get, prism.head, prism.list, prism.delete, lambda key: prism.put(key, b"y")):
            faulty.inject("copy", Fault.DOWN)
            await fails(ErrorCode.UPLOAD_PENDING, work("k"))
        assert await prism.get("k") == b"x"
        await world.check()
        await world.rest(prism)

    async def test_a_look_that_fails_is_not_absence(self, world: World, prism: Process) -> None:
        faulty = FaultyBlob(world.blobs["things"])
        prism = world.start(wrap_blob=lambda driver: faulty)
        await prism.presign("k")
        faulty.inject("head", Fault.DOWN)
        await fails(ErrorCode.STORE_DOWN, prism.get("k"))

    @pytest.mark.parametrize("fault", [Fault.ANSWER_LOST, Fault.LATE])
    async def test_a_copy_whose_answer_is_lost_leaves_nothing(self, world: World, prism: Process, fault: Fault) -> None:
        faulty = FaultyBlob(world.blobs["things"])
        prism = world.start(wrap_blob=lambda driver: faulty)
        await world.send(await prism.presign("k"), b"x")
        faulty.inject("copy", fault)
        await fails(ErrorCode.UPLOAD_PENDING, prism.get("k"))
        assert await prism.get("k") == b"x"
        if fault is Fault.LATE:
            await faulty.land()
        await world.check()
        await world.rest(prism)

    async def test_other_bytes_that_come_while_they_are_copied_are_looked_at_again(
        self, world: World, prism: Process
    ) -> None:
        url = await prism.presign("k")
        await world.send(url, b"one")
        counting = Counting(world.blobs["things"])

        async def overwrite() -> None:
            counting.before_copy = None
            world.clock.forward(1)
            await world.send(url, b"two")

        counting.before_copy = overwrite
        prism = world.start(wrap_blob=counting.wrap)
        assert await prism.get("k") == b"two"
        assert counting.calls["copy"] == 2
        await world.check()

    @pytest.mark.parametrize("point", _POINTS)
    async def test_a_crash_while_it_is_taken_loses_and_leaves_nothing(
        self, world: World, prism: Process, point: str
    ) -> None:
        await world.send(await prism.presign("k"), b"x")
        arm(f"staging.{point}=raise@1")
        try:
            with pytest.raises((FailpointError, PrismError)):
                await prism.get("k")
        finally:
            arm("")
        assert await world.start().get("k") == b"x"
        await world.check()
        await world.rest(prism)

    async def test_uploads_come_back_one_by_one_when_the_store_is_up_again(self, world: World, prism: Process) -> None:
        faulty = FaultyBlob(world.blobs["things"])
        prism = world.start(wrap_blob=lambda driver: faulty)
        for n in range(40):
            await world.send(await prism.presign(f"k{n:02}"), b"x")
        faulty.inject("head", *[Fault.DOWN] * 3)
        world.clock.forward(61)
        await prism.rounds()
        world.clock.forward(61)
        await prism.rounds(2)
        assert len(await world.referenced()) == 40


class TestCopies:
    """The transitions that a recogniser's copy makes, out of their usual order."""

    async def test_what_was_taken_since_the_look_is_looked_at_again(self, world: World, prism: Process) -> None:
        """The same content by the same URL twice, and a deletion: a HEAD from before must bring nothing back."""
        url = await prism.presign("k")
        staged = await the_staged(world)
        old = pair_of("etag of the content", START)
        await world.send(url, b"x")
        await prism.get("k")
        await prism.delete("k")
        assert isinstance(await promise_copy(prism, staged, old), Again)

    async def test_the_same_pair_is_nothing_new(self, world: World, prism: Process) -> None:
        await world.send(await prism.presign("k"), b"x")
        await prism.get("k")
        staged = await the_staged(world)
        assert staged.taken is not None
        assert isinstance(await promise_copy(prism, staged, staged.taken), Nothing)

    async def test_a_paused_copy_does_not_bring_back_what_was_deleted(self, world: World, prism: Process) -> None:
        await world.send(await prism.presign("k"), b"x")
        store = Counting(world.blobs["things"])
        pause = store.pause()
        reading = asyncio.ensure_future(world.start(wrap_blob=store.wrap).get("k"))
        await pause.reached.wait()
        assert await prism.delete("k") is True
        pause.go.set()
        await fails(ErrorCode.OBJECT_NOT_FOUND, reading)
        await absent(prism)
        await world.rest(prism)
        assert await world.stored() == {}

    @pytest.mark.parametrize("last", ["delete", "put"])
    async def test_nothing_that_landed_before_is_passed_over(self, world: World, last: str) -> None:
        """What came first is recorded while the last writer takes what came second: that one must look again."""
        reader, writer = Counting(world.blobs["things"]), Counting(world.blobs["things"])
        url = await world.start().presign("k")
        await world.send(url, b"one")
        first, second = reader.pause(), reader.pause()
        reading = asyncio.ensure_future(world.start(wrap_blob=reader.wrap).get("k"))
        await first.reached.wait()
        world.clock.forward(1)
        await world.send(url, b"two")
        taking, prism = writer.pause(), world.start(wrap_blob=writer.wrap)
        writing = asyncio.ensure_future(prism.delete("k") if last == "delete" else prism.put("k", b"three"))
        await taking.reached.wait()
        first.go.set()
        await second.reached.wait()
        taking.go.set()
        await writing
        second.go.set()
        await asyncio.gather(reading, return_exceptions=True)
        if last == "delete":
            await absent(prism)
        else:
            assert await prism.get("k") == b"three"
        await world.check()

    async def test_work_is_shared_only_by_those_who_saw_the_same(self, world: World) -> None:
        """A deletion saw other bytes than those that a reader of the same process is taking."""
        store = Counting(world.blobs["things"])
        prism = world.start(wrap_blob=store.wrap)
        url = await prism.presign("k")
        await world.send(url, b"one")
        pause = store.pause()
        reading = asyncio.ensure_future(prism.get("k"))
        await pause.reached.wait()
        world.clock.forward(1)
        await world.send(url, b"two")
        deleting = asyncio.ensure_future(prism.delete("k"))
        for _ in range(100):
            await asyncio.sleep(0)
        pause.go.set()
        assert await deleting is True
        await asyncio.gather(reading, return_exceptions=True)
        await absent(prism)

    async def test_no_copy_begins_that_nobody_promises_any_more(self, world: World) -> None:
        store = Counting(world.blobs["things"])
        prism, other = world.start(wrap_blob=store.wrap), world.start()
        url = await prism.presign("k")
        await world.send(url, b"x")

        async def sleep() -> None:
            store.before_copy = None
            world.clock.forward(300)
            await other.janitor.run_once()
            await other.janitor.run_once()

        store.before_copy = sleep
        with contextlib.suppress(PrismError):
            await prism.get("k")
        await world.check()
        assert await prism.get("k") == b"x"
        await world.rest(prism)

    async def test_a_paused_copy_does_not_outlive_its_folder(self, world: World, prism: Process) -> None:
        await world.send(await prism.presign("f/k"), b"x")
        staged = await the_staged(world)
        copy = await promise_copy(prism, staged, pair_of("e", START))
        assert isinstance(copy, PromiseRow)
        await prism.delete_folder("f/")
        outcome = await commit_copy(prism, staged, copy)
        assert isinstance(outcome, Refused)
        assert outcome.code is ErrorCode.DELETED_MEANWHILE
        assert set(await world.condemned()) == {copy.physical_key, staged.physical_key}
        assert not await world.promised()

    async def test_two_copies_of_one_pair_make_one_object(self, world: World, prism: Process) -> None:
        await world.send(await prism.presign("k"), b"x")
        staged = await the_staged(world)
        one, other = [await promise_copy(prism, staged, pair_of("e", START)) for _ in range(2)]
        first = await commit_copy(prism, staged, one)
        assert isinstance(first, ObjectRow)
        assert await commit_copy(prism, staged, one) == first, "the same answer again"
        assert isinstance(await commit_copy(prism, staged, other), Again)
        assert other.physical_key in await world.condemned()

    async def test_a_copy_whose_own_promise_is_gone_is_not_referenced(self, world: World, prism: Process) -> None:
        await prism.presign("k")
        staged = await the_staged(world)
        copy = await promise_copy(prism, staged, pair_of("e", START))
        await run(prism, promises.abandon, copy, world.clock())
        assert isinstance(await commit_copy(prism, staged, copy), Again)
        assert not await world.referenced()

    async def test_an_upload_whose_staging_promise_is_gone_is_not_taken(self, world: World, prism: Process) -> None:
        await prism.presign("k")
        staged = await the_staged(world)
        copy = await promise_copy(prism, staged, pair_of("e", START))
        await run(prism, promises.abandon, staged, world.clock())
        assert isinstance(await commit_copy(prism, staged, copy), Again)
        assert isinstance(await promise_copy(prism, staged, pair_of("e", START)), Refused)
        assert not await world.referenced()
