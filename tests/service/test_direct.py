"""Uploads that go straight to the store: what the next call sees of them, and the rules that keep it so."""

import asyncio
import contextlib
import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args
from urllib.parse import parse_qs, urlsplit

import pytest
from world import START, Process, World, pieces

from prism import direct, staging
from prism.blob import driver as blob
from prism.blob.memory import MemoryDriver
from prism.catalog import staging as transitions
from prism.catalog import uploads as promises
from prism.catalog.rows import ObjectRow, PromiseRow, Refused
from prism.catalog.staging import Again, Nothing, pair_of
from prism.digests import etag_of
from prism.errors import ErrorCode, PrismError
from prism.failpoints import FailpointError, arm
from prism.holding import new_promise
from prism.model import Bindable, Declared, ObjectRef, Precondition, PutOptions
from prism.testing.faulty_blob import Fault, FaultyBlob
from prism.workers.deleting import delete_leftovers

ALL: frozenset[Bindable] = frozenset(get_args(Bindable))
ABSENT = Precondition(if_none_match=("*",))
_POINTS = re.findall(r'failpoint\("staging\.(\w+)"\)', Path(staging.__file__).read_text())
DEAD = 600 + 5 + 3600 + 60
"""Seconds after which an upload of 600 s is dead."""


@pytest.fixture(params=[ALL, frozenset()], ids=["binds-all", "binds-nothing"])
def world(request, _config) -> World:
    """A world whose store of `things` signs URLs."""
    return World(_config, request.param)


@pytest.fixture
def unbound(_config) -> World:
    return World(_config, frozenset())


@pytest.fixture
def bound(_config) -> World:
    return World(_config, ALL)


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


class TestReadYourWrite:
    """Right after the client's 200, with no call back."""

    async def test_get_head_and_list(self, world: World, prism: Process) -> None:
        assert await world.send(await prism.presign("k", content_type="image/png"), b"hello") == 200
        assert await prism.list() == ["k"]
        assert await prism.get("k") == b"hello"
        info = await prism.head("k")
        assert (info.size_bytes, info.content_type) == (5, "image/png")
        await world.check()

    @pytest.mark.parametrize("see", ["get", "head", "list", "copy", "presign"])
    async def test_each_alone_sees_it(self, world: World, prism: Process, see: str) -> None:
        await prism.put("k", b"before")
        assert await world.send(await prism.presign("k"), b"hello") == 200
        match see:
            case "get":
                assert await prism.get("k") == b"hello"
            case "head":
                assert (await prism.head("k")).size_bytes == 5
            case "list":
                page = await prism.objects.list(prism.caller, "things", "", "")
                assert [info.size_bytes for info in page.objects] == [5]
            case "copy":
                await prism.copy("k", "k2")
                assert await prism.get("k2") == b"hello"
            case "presign":
                url = await prism.presign("k", "GET")
                answer = await world.blobs["things"].receive("GET", url.url, url.headers)
                assert answer.content == b"hello"

    async def test_preconditions_and_deletes_see_it(self, world: World, prism: Process) -> None:
        url = await prism.presign("k")
        await world.send(url, b"one")
        await fails(ErrorCode.PRECONDITION_FAILED, prism.put("k", b"mine", precondition=ABSENT))
        assert await prism.delete("k") is True
        await absent(prism)
        await world.send(url, b"two")
        etag = (await prism.head("k")).etag
        await prism.put("k", b"three", precondition=Precondition(if_match=(etag,)))
        assert await prism.get("k") == b"three"

    async def test_a_put_and_a_copy_onto_the_key_come_after_it(self, world: World, prism: Process) -> None:
        await prism.put("source", b"copied")
        url = await prism.presign("k")
        await world.send(url, b"landed")
        await prism.put("k", b"put after")
        assert await prism.get("k") == b"put after"
        await world.send(url, b"landed again")
        await prism.copy("source", "k")
        assert await prism.get("k") == b"copied"

    async def test_a_declared_upload(self, world: World, prism: Process) -> None:
        upload, url = await prism.declare(
            "k", declared=sha(b"hello"), content_type="text/plain", metadata={"a": "ä b"}, ttl=timedelta(days=1)
        )
        world.clock.forward(60)
        assert await world.send(url, b"hello") == 200
        landed = world.clock()
        world.clock.forward(60)
        assert await prism.get("k") == b"hello"
        info = await prism.head("k")
        assert (info.content_type, info.metadata) == ("text/plain", {"a": "ä b"})
        assert info.expires_at == landed + timedelta(days=1), "a lifetime counts from the landing"
        assert info.sha256 == sha(b"hello").sha256
        row = await prism.confirm(upload)
        assert row.etag == info.etag
        await world.check()
        await world.rest(prism)


class TestURLs:
    async def test_a_get_url_says_what_was_asked_for(self, world: World, prism: Process) -> None:
        await prism.put("k", b"x", content_type="text/html")
        url = await prism.uploads.presign(
            prism.caller,
            ObjectRef("things", "", "k"),
            "GET",
            response_content_type="text/plain",
            response_content_disposition="attachment",
        )
        answer = await world.blobs["things"].receive("GET", url.url, url.headers)
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/plain"
        assert answer.headers["content-disposition"] == "attachment"

    async def test_a_get_url_ends_with_its_object(self, world: World, prism: Process) -> None:
        info = await prism.put("k", b"x", ttl=timedelta(seconds=60))
        url = await prism.presign("k", "GET", seconds=3600)
        assert url.expires_at <= info.expires_at
        world.clock.forward(61)
        assert (await world.blobs["things"].receive("GET", url.url, {})).status == 403

    async def test_a_get_url_of_an_absent_object_is_refused(self, world: World, prism: Process) -> None:
        await fails(ErrorCode.OBJECT_NOT_FOUND, prism.presign("k", "GET"))

    async def test_a_delete_url_comes_to_prism(self, world: World, prism: Process) -> None:
        url = await prism.presign("k", "DELETE")
        assert url.url.startswith("http://s3.example/")
        assert "X-Amz-Signature" in parse_qs(urlsplit(url.url).query)

    async def test_the_content_type_is_bound_when_asked_for(self, bound: World) -> None:
        prism = bound.start()
        url = await prism.presign("k", content_type="image/png")
        assert dict(url.headers) == {"content-type": "image/png"}
        assert await bound.send(url, b"x", content_type="text/html") == 403
        assert await bound.send(url, b"x") == 200
        assert dict((await prism.presign("k2")).headers) == {}

    async def test_what_was_declared_counts_where_it_could_not_be_bound(self, unbound: World) -> None:
        prism = unbound.start()
        await unbound.send(await prism.presign("k", content_type="image/png"), b"x", content_type="text/html")
        assert (await prism.head("k")).content_type == "image/png"

    async def test_the_promise_is_durable_before_the_url(self, world: World, prism: Process) -> None:
        url = await prism.presign("k")
        (promise,) = (await world.promised()).values()
        assert promise.way == "staging"
        assert promise.physical_key.startswith("~staging/k~")
        assert promise.physical_key in url.url.replace("%7E", "~")
        assert url.expires_at == promise.writable_until

    async def test_a_further_url_of_the_same_declaration_renews_the_promise(self, world: World, prism: Process) -> None:
        first = await prism.presign("k")
        (before,) = (await world.promised()).values()
        world.clock.forward(500)
        second = await prism.presign("k")
        (after,) = (await world.promised()).values()
        assert after.physical_key == before.physical_key
        assert after.writable_until == second.expires_at > first.expires_at
        assert after.dead - before.dead == timedelta(seconds=500)
        assert isinstance(
            await _run(prism, promises.break_due, before, world.clock(), before.dead + timedelta(seconds=1)), Refused
        ), "it is not dead yet"
        await world.send(second, b"late")
        assert await prism.get("k") == b"late"

    async def test_another_declaration_or_a_deleted_folder_makes_another_promise(
        self, world: World, prism: Process
    ) -> None:
        await prism.presign("f/k")
        await prism.presign("f/k", content_type="image/png")
        await prism.presign("f/k", ttl=timedelta(seconds=60))
        assert len(await world.promised()) == 3
        await prism.delete_folder("f/")
        url = await prism.presign("f/k")
        assert len(await world.promised()) == 4
        await world.send(url, b"new life")
        assert await prism.get("f/k") == b"new life"

    async def test_a_declared_upload_is_never_shared(self, world: World, prism: Process) -> None:
        (one, _), (other, _) = await prism.declare("k"), await prism.declare("k")
        await prism.presign("k")
        assert one.version_id != other.version_id
        assert len(await world.promised()) == 3

    async def test_a_key_has_at_most_32_open_uploads(self, world: World, prism: Process) -> None:
        for _ in range(32):
            await prism.declare("k")
        await fails(ErrorCode.TOO_MANY_UPLOADS, prism.declare("k"))
        await fails(ErrorCode.TOO_MANY_UPLOADS, prism.presign("k"))

    @pytest.mark.parametrize("etag", ["x" * 100, ""])
    async def test_a_precondition_leaves_room_for_what_is_noted_later(
        self, world: World, prism: Process, etag: str
    ) -> None:
        """A row that cannot grow any more would fail every read of its key."""
        declared = Declared(size_bytes=5, sha256="0" * 64)
        many = Precondition(if_match=(etag,) * 10_000)
        await fails(ErrorCode.INVALID_ARGUMENT, prism.declare("k", declared=declared, precondition=many))
        few = Precondition(if_none_match=(etag,) * 78)
        _, url = await prism.declare("k", declared=declared, precondition=few)
        await world.send(url, b"other")
        await absent(prism)


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
        staged = await _staged(world)
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


class TestDeclared:
    async def test_bytes_that_are_not_as_declared_stay_invisible(self, unbound: World) -> None:
        prism = unbound.start()
        upload, url = await prism.declare("k", declared=sha(b"right"))
        for wrong, code in ((b"wrong size", ErrorCode.SIZE_MISMATCH), (b"wrong", ErrorCode.CHECKSUM_MISMATCH)):
            assert await unbound.send(url, wrong) == 200
            await absent(prism)
            await fails(code, prism.confirm(upload))
            await prism.rounds()
            await unbound.check()
        unbound.clock.forward(1)
        assert await unbound.send(url, b"right") == 200
        assert await prism.get("k") == b"right"
        await unbound.rest(prism)

    async def test_and_go_when_the_promise_is_dead(self, unbound: World) -> None:
        prism = unbound.start()
        _, url = await prism.declare("k", declared=sha(b"right"))
        await unbound.send(url, b"wrong")
        unbound.clock.forward(DEAD - 1)
        await prism.rounds(2)
        assert len(await unbound.stored()) == 1
        unbound.clock.forward(2)
        await prism.rounds(2)
        assert await unbound.stored() == {}

    async def test_a_store_that_binds_refuses_them_itself(self, bound: World) -> None:
        prism = bound.start()
        upload, url = await prism.declare("k", declared=sha(b"right"))
        assert set(upload.held) == {"create_only", "size", "sha256"}
        assert direct.unheld(upload) == ()
        assert await bound.send(url, b"wrong") == 400
        assert await bound.send(url, b"right") == 200
        assert await bound.send(url, b"right") == 412
        assert (await prism.confirm(upload)).version_id == upload.version_id
        assert upload.physical_key in await bound.referenced(), "the bytes stay where they landed"

    async def test_what_is_not_bound_is_said(self, unbound: World) -> None:
        prism = unbound.start()
        upload, _ = await prism.declare("k", declared=sha(b"x"), content_type="a/b", metadata={"a": "b"})
        assert set(direct.unheld(upload)) == {"create_only", "size", "content_type", "metadata", "sha256"}
        assert upload.way == "staging"

    async def test_bytes_are_read_once_at_most(self, unbound: World) -> None:
        counting = Counting(unbound.blobs["things"])
        prism = unbound.start(wrap_blob=counting.wrap)
        _, url = await prism.declare("k", declared=sha(b"right"))
        await unbound.send(url, b"wrong")
        for _ in range(5):
            await absent(prism)
        await asyncio.gather(*(prism.list() for _ in range(5)))
        assert counting.calls["get"] == 1
        unbound.clock.forward(1)
        await unbound.send(url, b"right")
        await asyncio.gather(*(prism.head("k") for _ in range(20)))
        assert counting.calls["get"] == 2
        assert counting.calls["copy"] == 1, "readers of one process share the work"

    async def test_bytes_swapped_after_they_were_checked_stay_invisible(self, unbound: World) -> None:
        store = Counting(unbound.blobs["things"])
        prism = unbound.start(wrap_blob=store.wrap)
        _, url = await prism.declare("k", declared=sha(b"right"))
        await unbound.send(url, b"right")

        async def swap() -> None:
            store.after_get = None
            await unbound.send(url, b"wrong")

        store.after_get = swap
        await absent(prism)
        await unbound.check()

    async def test_a_checksum_that_the_store_tells_is_compared_and_not_read(self, unbound: World) -> None:
        unbound.drivers["things"] = unbound.blobs["things"] = MemoryDriver(  # type: ignore[index]
            now=unbound.clock, signs=True, binds=frozenset(), checksums=("sha256", "crc32c", "md5")
        )
        counting = Counting(unbound.blobs["things"])
        prism = unbound.start(wrap_blob=counting.wrap)
        _, url = await prism.declare("k", declared=sha(b"right"))
        await unbound.send(url, b"wrong")
        await absent(prism)
        await unbound.send(url, b"right")
        info = await prism.head("k")
        assert counting.calls["get"] == 0
        assert info.crc32c is not None
        assert info.etag == hashlib.md5(b"right", usedforsecurity=False).hexdigest()

    async def test_a_declared_precondition_is_judged_when_it_is_taken(self, world: World, prism: Process) -> None:
        upload, url = await prism.declare("k", precondition=ABSENT)
        await prism.put("k", b"other")
        await world.send(url, b"mine")
        assert await prism.get("k") == b"other"
        for _ in range(2):
            await fails(ErrorCode.PRECONDITION_FAILED, prism.confirm(upload))
        await prism.delete("k")
        await absent(prism)
        await world.rest(prism)
        assert await world.stored() == {}

    async def test_a_known_size_shortens_the_wait(self, bound: World) -> None:
        prism = bound.start()
        small, _ = await prism.declare("a", declared=Declared(size_bytes=10))
        huge, _ = await prism.declare("b", declared=Declared(size_bytes=2**40))
        open_, _ = await prism.declare("c")
        assert small.dead - small.writable_until == timedelta(seconds=5 + 300 + 60)
        assert huge.dead == open_.dead == open_.writable_until + timedelta(seconds=5 + 3600 + 60)

    async def test_too_large_is_refused_beforehand(self, world: World, prism: Process) -> None:
        await fails(ErrorCode.TOO_LARGE, prism.declare("k", declared=Declared(size_bytes=2**60)))


class TestConfirm:
    async def test_nothing_has_come_yet(self, world: World, prism: Process) -> None:
        upload, url = await prism.declare("k")
        await fails(ErrorCode.OBJECT_NOT_FOUND, prism.confirm(upload))
        await world.send(url, b"now")
        first = await prism.confirm(upload)
        assert await prism.confirm(upload) == first, "repeating it is harmless"
        found = await direct.standing(prism.spaces["things"], upload.bucket, "k", upload.version_id)
        assert found.row == first

    async def test_one_that_was_overtaken_by_the_deletion_of_its_folder(self, world: World, prism: Process) -> None:
        upload, url = await prism.declare("f/k")
        await world.send(url, b"x")
        await prism.delete_folder("f/")
        await fails(ErrorCode.DELETED_MEANWHILE, prism.confirm(upload))
        await fails(ErrorCode.DELETED_MEANWHILE, prism.confirm(upload))
        await world.rest(prism)
        assert not await world.stored()

    async def test_one_that_was_given_up(self, world: World, prism: Process) -> None:
        upload, url = await prism.declare("k")
        assert await direct.give_up(prism.spaces["things"], upload)
        assert not await direct.give_up(prism.spaces["things"], upload)
        await world.send(url, b"x")
        await fails(ErrorCode.OBJECT_NOT_FOUND, prism.confirm(upload))
        await absent(prism)
        await world.rest(prism)
        assert not await world.stored()

    async def test_one_that_was_overwritten_or_deleted_since(self, world: World, prism: Process) -> None:
        upload, url = await prism.declare("k")
        await world.send(url, b"x")
        await prism.put("k", b"other")
        await fails(ErrorCode.OBJECT_NOT_FOUND, prism.confirm(upload))
        assert await prism.get("k") == b"other"
        await prism.delete("k")
        await fails(ErrorCode.OBJECT_NOT_FOUND, prism.confirm(upload))

    async def test_an_unheard_of_one(self, world: World, prism: Process) -> None:
        work = direct.confirm(prism.spaces["things"], "things", "k", "0" * 26)
        await fails(ErrorCode.OBJECT_NOT_FOUND, work)

    async def test_more_may_be_declared_before_it(self, unbound: World) -> None:
        prism = unbound.start()
        upload, url = await prism.declare("k", declared=Declared(size_bytes=5))
        space = prism.spaces["things"]
        upload = await direct.declare(space, upload, sha(b"right"))
        await fails(ErrorCode.INVALID_ARGUMENT, direct.declare(space, upload, sha(b"other")))
        await unbound.send(url, b"wrong")
        await fails(ErrorCode.CHECKSUM_MISMATCH, prism.confirm(upload))
        await absent(prism)


class TestBound:
    """The URL works once, and the bytes become the reference where they lie."""

    async def test_a_second_body_for_a_deleted_object_is_removed_when_dead(self, bound: World) -> None:
        prism = bound.start()
        _, url = await prism.declare("k")
        await bound.send(url, b"once")
        await prism.delete("k")
        bound.clock.forward(11)
        await prism.rounds()
        assert await bound.stored() == {}
        assert await bound.send(url, b"twice") == 200
        await absent(prism)
        await bound.check()
        await bound.rest(prism)
        assert await bound.stored() == {}

    async def test_the_bytes_of_an_overwritten_one_answer_a_late_body_until_dead(self, bound: World) -> None:
        prism = bound.start()
        _, url = await prism.declare("k")
        await bound.send(url, b"once")
        await prism.put("k", b"after")
        bound.clock.forward(599)
        await prism.rounds()
        assert await bound.send(url, b"twice") == 412
        await bound.rest(prism)

    async def test_a_broken_one_is_removed(self, bound: World) -> None:
        prism = bound.start()
        _, url = await prism.declare("f/k")
        landing = Landing(bound, url, b"late")
        await landing.begun()
        await prism.delete_folder("f/")
        await prism.rounds(2)
        assert await landing.arrive() == 200
        await absent(prism, "f/k")
        await bound.rest(prism)


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
        staged = await _staged(world)
        old = pair_of("etag of the content", START)
        await world.send(url, b"x")
        await prism.get("k")
        await prism.delete("k")
        assert isinstance(await _promise_copy(prism, staged, old), Again)

    async def test_the_same_pair_is_nothing_new(self, world: World, prism: Process) -> None:
        await world.send(await prism.presign("k"), b"x")
        await prism.get("k")
        staged = await _staged(world)
        assert staged.taken is not None
        assert isinstance(await _promise_copy(prism, staged, staged.taken), Nothing)

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
        staged = await _staged(world)
        copy = await _promise_copy(prism, staged, pair_of("e", START))
        assert isinstance(copy, PromiseRow)
        await prism.delete_folder("f/")
        outcome = await _commit_copy(prism, staged, copy)
        assert isinstance(outcome, Refused)
        assert outcome.code is ErrorCode.DELETED_MEANWHILE
        assert set(await world.condemned()) == {copy.physical_key, staged.physical_key}
        assert not await world.promised()

    async def test_two_copies_of_one_pair_make_one_object(self, world: World, prism: Process) -> None:
        await world.send(await prism.presign("k"), b"x")
        staged = await _staged(world)
        one, other = [await _promise_copy(prism, staged, pair_of("e", START)) for _ in range(2)]
        first = await _commit_copy(prism, staged, one)
        assert isinstance(first, ObjectRow)
        assert await _commit_copy(prism, staged, one) == first, "the same answer again"
        assert isinstance(await _commit_copy(prism, staged, other), Again)
        assert other.physical_key in await world.condemned()

    async def test_a_copy_whose_own_promise_is_gone_is_not_referenced(self, world: World, prism: Process) -> None:
        await prism.presign("k")
        staged = await _staged(world)
        copy = await _promise_copy(prism, staged, pair_of("e", START))
        await _run(prism, promises.abandon, copy, world.clock())
        assert isinstance(await _commit_copy(prism, staged, copy), Again)
        assert not await world.referenced()

    async def test_an_upload_whose_staging_promise_is_gone_is_not_taken(self, world: World, prism: Process) -> None:
        await prism.presign("k")
        staged = await _staged(world)
        copy = await _promise_copy(prism, staged, pair_of("e", START))
        await _run(prism, promises.abandon, staged, world.clock())
        assert isinstance(await _commit_copy(prism, staged, copy), Again)
        assert isinstance(await _promise_copy(prism, staged, pair_of("e", START)), Refused)
        assert not await world.referenced()


class TestParts:
    async def test_an_upload_in_parts_that_nobody_ends_is_aborted(self, world: World, prism: Process) -> None:
        space, store = prism.spaces["things"], world.blobs["things"]
        until = world.clock() + timedelta(seconds=600)
        upload = await direct.begin_parts(space, "things", "k", until, PutOptions(), 5)
        assert upload.upload
        await store.put_part(upload.physical_key, upload.upload, 1, pieces(b"parts"), 5)
        await absent(prism)
        world.clock.forward(DEAD - 1)
        await prism.rounds(2)
        assert len(await store.open_multiparts(upload.physical_key)) == 1
        world.clock.forward(2)
        await prism.rounds(2)
        assert await store.open_multiparts(upload.physical_key) == []
        await world.rest(prism)

    async def test_a_crash_before_its_name_was_recorded(self, world: World, prism: Process) -> None:
        space, store = prism.spaces["things"], world.blobs["things"]
        until = world.clock() + timedelta(seconds=600)
        arm("uploads.parts.after_begin=raise@1")
        try:
            with pytest.raises(FailpointError):
                await direct.begin_parts(space, "things", "k", until, PutOptions(), 5)
        finally:
            arm("")
        ((physical, row),) = (await world.condemned()).items()
        assert row.unfinished
        assert len(await store.open_multiparts(physical)) == 1
        world.clock.forward(11)
        await prism.rounds()
        assert await store.open_multiparts(physical) == []
        await world.rest(prism)

    async def test_what_a_dead_writer_left_open_is_aborted(self, world: World, prism: Process) -> None:
        """A driver sends a long body in parts; its process dies."""
        space, store = prism.spaces["things"], world.blobs["things"]
        wanted = new_promise(space, "things", "k", content_type="a/b", metadata={}, ttl_seconds=None)
        await _run(prism, promises.promise, wanted)
        await store.create_multipart(wanted.physical_key, blob.WriteOptions())
        world.clock.forward(3600)
        await prism.rounds(2)
        assert await store.open_multiparts(wanted.physical_key) == []

    async def test_an_abort_that_fails_is_tried_again(self, world: World, prism: Process) -> None:
        faulty = FaultyBlob(world.blobs["things"])
        prism = world.start(wrap_blob=lambda driver: faulty)
        space, store = prism.spaces["things"], world.blobs["things"]
        upload = await direct.begin_parts(space, "things", "k", world.clock() + timedelta(seconds=60), PutOptions(), 5)
        await direct.give_up(space, upload)
        faulty.inject("open_multiparts", Fault.DOWN)
        world.clock.forward(11)
        await prism.rounds()
        assert len(await store.open_multiparts(upload.physical_key)) == 1
        world.clock.forward(61)
        await prism.rounds()
        assert await store.open_multiparts(upload.physical_key) == []

    async def test_nothing_is_put_together_that_nobody_promises_any_more(self, world: World, prism: Process) -> None:
        space, until = prism.spaces["things"], world.clock() + timedelta(seconds=600)
        dropped, overtaken, late = [
            await direct.begin_parts(space, "things", key, until, PutOptions(), 5) for key in ("a", "f/b", "c")
        ]
        for upload in (dropped, overtaken, late):
            gate = direct.writing(space, upload).gate
            assert gate is not None
            await gate()
        await direct.give_up(space, dropped)
        await prism.delete_folder("f/")
        world.clock.forward(DEAD - 60)
        for upload, code in (
            (dropped, ErrorCode.OUTCOME_UNKNOWN),
            (overtaken, ErrorCode.DELETED_MEANWHILE),
            (late, ErrorCode.DEADLINE_EXCEEDED),
        ):
            gate = direct.writing(space, upload).gate
            assert gate is not None
            await fails(code, gate())


class TestBesideTheBytes:
    """What a store keeps, so that a catalog can be rebuilt of it."""

    async def test_of_a_put_and_a_copy(self, world: World, prism: Process) -> None:
        info = await prism.put("k", b"x", ttl=timedelta(seconds=60), metadata={"a": "b"})
        copied = await prism.copy("k", "k2", ttl=timedelta(seconds=90))
        for key, found, expires in (("k", info, 60), ("k2", copied, 90)):
            told = await _told(world, key)
            assert told == {
                "a": "b",
                "prism-key": key,
                "prism-version": found.version_id,
                "prism-expires": str(int(START.timestamp()) + expires),
                "prism-etag": info.etag,
                **({"prism-crc32c": info.crc32c} if key == "k2" else {}),
            }
            assert await _tags(world, key) == {"ttl": str(int(START.timestamp()) + expires)}

    async def test_of_an_upload_by_url(self, unbound: World) -> None:
        prism = unbound.start()
        await unbound.send(await prism.presign("k", ttl=timedelta(seconds=60), metadata={"a": "b"}), b"x")
        info = await prism.head("k")
        told = await _told(unbound, "k")
        assert told == {
            "a": "b",
            "prism-key": "k",
            "prism-version": info.version_id,
            "prism-expires": str(int(START.timestamp()) + 60),
            "prism-etag": etag_of(info.version_id),
        }
        assert await _tags(unbound, "k") == {"ttl": str(int(START.timestamp()) + 60)}

    async def test_of_a_bound_upload(self, bound: World) -> None:
        prism = bound.start()
        upload, url = await prism.declare("k", ttl=timedelta(seconds=60), metadata={"a": "b"})
        await bound.send(url, b"x")
        assert await prism.get("k") == b"x"
        told = await _told(bound, "k")
        assert told == {"a": "b", "prism-key": "k", "prism-version": upload.version_id, "prism-ttl": "60"}

    async def test_nothing_of_an_expiry_where_there_is_none(self, world: World, prism: Process) -> None:
        await prism.put("k", b"x", no_expiration=True)
        assert "prism-expires" not in await _told(world, "k")
        assert await _tags(world, "k") == {}


class TestLists:
    async def test_a_page_looks_at_a_bounded_number(self, world: World, prism: Process) -> None:
        counting = Counting(world.blobs["things"])
        prism = world.start(wrap_blob=counting.wrap)
        for n in range(250):
            await prism.presign(f"k{n:03}")
        page = await prism.objects.list(prism.caller, "things", "", "")
        assert counting.calls["head"] <= 100
        assert page.next_token is not None

    async def test_all_landed_ones_are_listed(self, world: World, prism: Process) -> None:
        for n in range(130):
            await world.send(await prism.presign(f"k{n:03}"), b"x")
        assert await prism.list() == [f"k{n:03}" for n in range(130)]
        await world.check()


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


async def _run(prism: Process, transition: Callable[..., Awaitable[Any]], *asked: object) -> Any:
    space = prism.spaces["things"]

    async def body(tx):
        return await transition(tx, space.rules, *asked)

    return await space.meta.transact(space.name, body)


async def _staged(world: World) -> PromiseRow:
    (staged,) = [row for row in (await world.promised()).values() if row.way == "staging"]
    return staged


async def _promise_copy(prism: Process, staged: PromiseRow, pair: Any) -> Any:
    space = prism.spaces["things"]
    wanted = new_promise(space, "things", staged.key, content_type="a/b", metadata={}, ttl_seconds=None)
    return await _run(prism, transitions.promise_copy, staged, pair, wanted, space.now())


async def _commit_copy(prism: Process, staged: PromiseRow, copy: PromiseRow) -> Any:
    facts = transitions.Facts(size_bytes=1, etag="e", store_etag="s", content_type="a/b", landed_at=START)
    now = prism.spaces["things"].now()
    return await _run(prism, transitions.commit_copy, staged, copy, facts, pair_of("e", START), now)


async def _told(world: World, key: str) -> Mapping[str, str]:
    return (await world.blobs["things"].head(await _physical(world, key))).metadata


async def _tags(world: World, key: str) -> Mapping[str, str]:
    return await world.blobs["things"].tags(await _physical(world, key))


async def _physical(world: World, key: str) -> str:
    found: Sequence[str] = [name for name in await world.referenced() if name.startswith(f"{key}~")]
    (physical,) = found
    return physical
