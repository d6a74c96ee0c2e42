"""Presigned URLs: what they say, when they end, and what becomes of bodies that come by them."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from world import Process, World, pieces

from prism.errors import ErrorCode, PrismError
from prism.model import Declared, ObjectRef, Precondition, PutOptions

ABSENT = Precondition(if_none_match=("*",))


async def presign(prism: Process, method: str, key: str, seconds: float = 600, ns: str = "things", **options: object):
    wanted = PutOptions(**options) if options else None
    ref = ObjectRef(ns, "", key)
    return await prism.uploads.presign(prism.caller, ref, method, timedelta(seconds=seconds), options=wanted)


class TestPresign:
    @pytest.mark.parametrize("seconds", [0.5, -1, 3601, 100_000])
    async def test_other_than_1_to_3600_seconds_is_refused(self, prism: Process, seconds: float) -> None:
        with pytest.raises(PrismError) as caught:
            await presign(prism, "PUT", "k", seconds)
        assert caught.value.code is ErrorCode.INVALID_ARGUMENT

    @pytest.mark.parametrize("method", ["POST", "get", "HEAD", ""])
    async def test_other_methods_are_refused(self, prism: Process, method: str) -> None:
        with pytest.raises(PrismError) as caught:
            await presign(prism, method, "k")
        assert caught.value.code is ErrorCode.INVALID_ARGUMENT

    async def test_zero_means_an_hour(self, world: World, prism: Process) -> None:
        assert (await presign(prism, "PUT", "k", 0)).expires_at == world.clock() + timedelta(hours=1)

    async def test_get_of_an_absent_object_is_not_found(self, prism: Process) -> None:
        with pytest.raises(PrismError) as caught:
            await presign(prism, "GET", "k")
        assert caught.value.code is ErrorCode.OBJECT_NOT_FOUND

    async def test_get_of_what_landed_a_moment_ago(self, world: World, prism: Process) -> None:
        await world.land(world.physical("k", await prism.presign_put("k")), b"x")
        assert (await presign(prism, "GET", "k")).url

    @pytest.mark.parametrize("late", [0, 0.001, 9.5, 58.2, 59.999])
    async def test_a_get_url_ends_no_later_than_its_object(self, world: World, prism: Process, late: float) -> None:
        world.clock.forward(0.25)
        info = await prism.put("k", b"x", ttl=timedelta(seconds=60))
        world.clock.forward(late)
        url = await presign(prism, "GET", "k", 3600)
        query = parse_qs(urlsplit(url.url).query)
        assert 1 <= int(query["X-Amz-Expires"][0]) <= 61
        assert url.expires_at <= info.expires_at

    async def test_a_put_url_ends_no_later_than_its_promise(self, world: World, prism: Process) -> None:
        world.clock.forward(0.75)
        url = await presign(prism, "PUT", "k")
        (promise,) = (await world.promised()).values()
        assert url.expires_at == promise.writable_until < promise.dead

    async def test_the_content_type_is_bound(self, prism: Process) -> None:
        url = await presign(prism, "PUT", "k", content_type="image/png")
        assert dict(url.headers) == {"content-type": "image/png"}
        assert dict((await presign(prism, "PUT", "k")).headers) == {}

    async def test_presigning_is_recorded_without_the_url(self, prism: Process) -> None:
        url = await presign(prism, "PUT", "k")
        (record,) = prism.audit.records
        assert record.action == "object.presign_put"
        assert parse_qs(urlsplit(url.url).query)["X-Amz-Signature"][0] not in str(record)


class TestKeeping:
    async def test_the_first_body_keeps_the_promise(self, world: World, prism: Process) -> None:
        upload = await prism.presign_put("k")
        info = await prism.keep("k", upload, b"content")
        assert info.version_id == upload
        assert await prism.get("k") == b"content"
        assert set(await world.stored()) == {world.physical("k", upload)}, "nothing is staged or copied"

    async def test_a_further_body_is_a_put_of_its_own(self, world: World, prism: Process) -> None:
        upload = await prism.presign_put("k")
        await prism.keep("k", upload, b"first")
        second = await prism.keep("k", upload, b"second")
        assert second.version_id != upload
        assert await prism.get("k") == b"second"

    async def test_a_key_may_be_presigned_again_and_again(self, world: World, prism: Process) -> None:
        made = []
        for _ in range(70):
            world.clock.forward(1)
            made.append(await presign(prism, "PUT", "k"))
        uploads = [parse_qs(urlsplit(url.url).query)["x-prism-upload"][0] for url in made]
        promised = (await world.promised()).values()
        assert len(promised) == len(set(uploads)) == 32
        assert max(promise.writable_until for promise in promised) == made[-1].expires_at
        for number, upload in ((0, uploads[69]), (1, uploads[69]), (2, uploads[0])):
            await prism.keep("k", upload, f"{number}".encode())
            assert await prism.get("k") == f"{number}".encode()

    async def test_a_shared_promise_lives_as_long_as_its_last_url(self, world: World, prism: Process) -> None:
        for _ in range(33):
            upload = await prism.presign_put("k", seconds=600)
            world.clock.forward(10)
        world.clock.forward(595)  # the first URL of this promise has ended, the last has not
        await prism.keep("k", upload, b"in time")
        assert await prism.get("k") == b"in time"

    async def test_a_promise_from_before_a_deletion_is_not_shared(self, world: World, prism: Process) -> None:
        for _ in range(32):
            await prism.presign_put("a/k")
        await prism.delete_folder("a/")
        with pytest.raises(PrismError) as caught:
            await prism.presign_put("a/k")
        assert caught.value.code is ErrorCode.TOO_MANY_UPLOADS
        await prism.rounds()
        await prism.keep("a/k", await prism.presign_put("a/k"), b"new life")
        assert await prism.get("a/k") == b"new life"

    @pytest.mark.parametrize(
        "options",
        [
            {"precondition": ABSENT},
            {"declared": Declared(size_bytes=5)},
            {"ttl": timedelta(days=1)},
            {"metadata": {"a": "b"}},
        ],
    )
    async def test_a_bound_url_works_once(self, prism: Process, options: dict[str, object]) -> None:
        upload = await prism.presign_put("k", **options)
        await prism.keep("k", upload, b"first")
        with pytest.raises(PrismError) as caught:
            await prism.keep("k", upload, b"again")
        assert caught.value.code is ErrorCode.PRECONDITION_FAILED
        assert await prism.get("k") == b"first"

    async def test_what_was_promised_comes_true(self, world: World, prism: Process) -> None:
        upload = await prism.presign_put("k", content_type="image/png", metadata={"a": "b"}, ttl=timedelta(seconds=100))
        world.clock.forward(30)
        info = await prism.keep("k", upload, b"x")
        assert (info.content_type, dict(info.metadata)) == ("image/png", {"a": "b"})
        assert info.expires_at == world.clock() + timedelta(seconds=100), "the TTL counts from the landing"

    async def test_a_body_other_than_declared_is_refused_and_a_right_one_still_counts(
        self, world: World, prism: Process
    ) -> None:
        upload = await prism.presign_put("k", declared=Declared(size_bytes=5))
        with pytest.raises(PrismError) as caught:
            await prism.keep("k", upload, b"four")
        assert caught.value.code is ErrorCode.SIZE_MISMATCH
        assert not await world.stored()
        await prism.keep("k", upload, b"right")
        assert await prism.get("k") == b"right"

    async def test_a_precondition_is_judged_when_the_body_came(self, world: World, prism: Process) -> None:
        upload = await prism.presign_put("k", precondition=ABSENT)
        await prism.put("k", b"other")
        with pytest.raises(PrismError) as caught:
            await prism.keep("k", upload, b"mine")
        assert caught.value.code is ErrorCode.PRECONDITION_FAILED
        assert await prism.get("k") == b"other"
        await world.rest(prism)

    async def test_two_bodies_at_once_make_one_object(self, world: World, prism: Process) -> None:
        upload = await prism.presign_put("k")

        async def meeting(content: bytes, barrier: asyncio.Barrier):
            yield content
            await barrier.wait()

        barrier = asyncio.Barrier(2)
        ref = ObjectRef("things", "", "k")
        outcomes = await asyncio.gather(
            *(
                prism.uploads.keep(prism.caller, ref, upload, meeting(content, barrier), PutOptions())
                for content in (b"one", b"two")
            ),
            return_exceptions=True,
        )
        lost = [outcome for outcome in outcomes if isinstance(outcome, PrismError)]
        assert [error.code for error in lost] == [ErrorCode.UPLOAD_PENDING]
        assert await prism.get("k") == (b"one" if lost[0] is outcomes[1] else b"two")
        await world.check()

    async def test_a_body_whose_folder_is_deleted_on_the_way_never_appears(self, world: World, prism: Process) -> None:
        upload = await prism.presign_put("f/k")

        async def overtaken() -> AsyncIterator[bytes]:
            yield b"x"
            await prism.delete_folder("f/")
            await prism.rounds()

        with pytest.raises(PrismError) as caught:
            await prism.uploads.keep(prism.caller, ObjectRef("things", "", "f/k"), upload, overtaken(), PutOptions())
        assert caught.value.code in {
            ErrorCode.DELETED_MEANWHILE,
            ErrorCode.PRECONDITION_FAILED,
            ErrorCode.UPLOAD_PENDING,
        }
        assert await world.stored() == {}
        await world.rest(prism)

    @pytest.mark.parametrize("seconds", [1, 86_400])
    async def test_a_clock_that_steps_back_between_two_bodies_loses_neither(
        self, world: World, prism: Process, seconds: int
    ) -> None:
        first, second = await prism.presign_put("k"), await prism.presign_put("k")
        await prism.keep("k", first, b"first")
        world.clock.forward(-seconds)
        assert (await prism.keep("k", second, b"second")).version_id == second
        assert await prism.get("k") == b"second"
        world.clock.forward(seconds)
        await world.rest(prism)

    async def test_a_crash_between_bytes_and_commit_is_healed_by_the_next_read(
        self, world: World, prism: Process
    ) -> None:
        upload = await prism.presign_put("k")
        await world.land(world.physical("k", upload), b"content")
        assert await world.start().get("k") == b"content"
        await world.check()

    async def test_a_body_that_took_longer_than_its_promise_lives_is_refused(
        self, world: World, prism: Process
    ) -> None:
        upload = await prism.presign_put("k")

        async def endless():
            yield b"x"
            world.clock.forward(2 * 3600)

        ref = ObjectRef("things", "", "k")
        with pytest.raises(PrismError) as caught:
            await prism.uploads.keep(prism.caller, ref, upload, endless(), PutOptions())
        assert caught.value.code is ErrorCode.DEADLINE_EXCEEDED
        assert not await world.stored()

    async def test_a_url_from_before_a_folders_deletion_writes_nothing_after_it(
        self, world: World, prism: Process
    ) -> None:
        unused, used, overwritten = [await prism.presign_put("a/k") for _ in range(3)]
        await prism.keep("a/k", overwritten, b"1")
        await prism.keep("a/k", used, b"2")
        await prism.delete_folder("a/")
        for _ in range(2):
            for upload in (unused, used, overwritten):
                with pytest.raises(PrismError) as caught:
                    await prism.keep("a/k", upload, b"by the old URL")
                assert caught.value.code is ErrorCode.DELETED_MEANWHILE
            world.clock.forward(30)
            await prism.rounds(2)
        assert await prism.list() == []
        fresh = await prism.presign_put("a/k")
        await prism.keep("a/k", fresh, b"new")
        assert await prism.get("a/k") == b"new"

    async def test_a_url_still_works_after_a_single_delete(self, prism: Process) -> None:
        upload = await prism.presign_put("k")
        await prism.keep("k", upload, b"first")
        await prism.delete("k")
        await prism.keep("k", upload, b"second")
        assert await prism.get("k") == b"second"

    async def test_a_url_opens_only_its_own_namespace(self, world: World, prism: Process) -> None:
        upload = await prism.presign_put("k")
        await prism.uploads.keep(prism.caller, ObjectRef("brief", "", "k"), upload, pieces(b"x"), PutOptions())
        assert await prism.list() == []
        assert len(await world.promised()) == 1


class TestPending:
    async def test_an_upload_that_cannot_be_recorded_is_never_absent(self, world: World, prism: Process) -> None:
        upload = await prism.presign_put("k")
        await world.land(world.physical("k", upload), b"x")
        reader = world.start(wrap_meta=ReadOnly)
        for call in (reader.get("k"), reader.head("k"), reader.list()):
            with pytest.raises(PrismError) as caught:
                await call
            assert caught.value.code is ErrorCode.UPLOAD_PENDING
        assert await prism.get("k") == b"x"

    async def test_a_store_that_is_down_is_never_absent(self, world: World, prism: Process) -> None:
        await prism.presign_put("k")
        reader = world.start(wrap_blob=Down)
        for call in (reader.get("k"), reader.head("k"), reader.delete("k"), reader.list()):
            with pytest.raises(PrismError) as caught:
                await call
            assert caught.value.code is ErrorCode.STORE_DOWN


class ReadOnly:
    """A catalog whose transactions fail."""

    outcome_may_be_unknown = False
    failures = (ConnectionError,)

    def __init__(self, inner) -> None:
        self._inner = inner

    def __getattr__(self, name: str):
        return getattr(self._inner, name)

    def explain(self, failure: Exception) -> str:
        return "the catalog failed"

    async def transact(self, partition, body, prefetch):
        raise ConnectionError


class Down:
    """A store that answers nothing."""

    def __init__(self, inner) -> None:
        self._inner = inner

    def __getattr__(self, name: str):
        return getattr(self._inner, name)

    async def head(self, key: str):
        raise ConnectionError
