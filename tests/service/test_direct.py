"""Uploads that go straight to the store: what the next call sees of them, and what a bare URL may do."""

from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from direct_support import ABSENT, ALL, Counting, absent, fails, run, sha
from world import Process, World

from prism.catalog import uploads as promises
from prism.catalog.rows import Refused
from prism.errors import ErrorCode
from prism.model import Declared, ObjectRef, Precondition


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
            await run(prism, promises.break_due, before, world.clock(), before.dead + timedelta(seconds=1)), Refused
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
