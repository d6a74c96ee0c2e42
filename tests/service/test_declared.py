"""Declared uploads straight to the store: what is bound and compared, confirmed, kept beside bytes, sent in parts."""

import asyncio
import hashlib
from datetime import timedelta

import pytest
from direct_support import ABSENT, ALL, DEAD, Counting, Landing, absent, fails, fields_of, run, sha, tags_of
from world import START, Process, World, pieces

from prism import direct
from prism.blob import driver as blob
from prism.blob.memory import MemoryDriver
from prism.catalog import uploads as promises
from prism.digests import etag_of
from prism.errors import ErrorCode
from prism.failpoints import FailpointError, arm
from prism.holding import new_promise
from prism.model import Declared, PutOptions
from prism.testing.faulty_blob import Fault, FaultyBlob


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
        await run(prism, promises.promise, wanted)
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
            told = await fields_of(world, key)
            assert told == {
                "a": "b",
                "prism-key": key,
                "prism-version": found.version_id,
                "prism-expires": str(int(START.timestamp()) + expires),
                "prism-etag": info.etag,
                **({"prism-crc32c": info.crc32c} if key == "k2" else {}),
            }
            assert await tags_of(world, key) == {"ttl": str(int(START.timestamp()) + expires)}

    async def test_of_an_upload_by_url(self, unbound: World) -> None:
        prism = unbound.start()
        await unbound.send(await prism.presign("k", ttl=timedelta(seconds=60), metadata={"a": "b"}), b"x")
        info = await prism.head("k")
        told = await fields_of(unbound, "k")
        assert told == {
            "a": "b",
            "prism-key": "k",
            "prism-version": info.version_id,
            "prism-expires": str(int(START.timestamp()) + 60),
            "prism-etag": etag_of(info.version_id),
        }
        assert await tags_of(unbound, "k") == {"ttl": str(int(START.timestamp()) + 60)}

    async def test_of_a_bound_upload(self, bound: World) -> None:
        prism = bound.start()
        upload, url = await prism.declare("k", ttl=timedelta(seconds=60), metadata={"a": "b"})
        await bound.send(url, b"x")
        assert await prism.get("k") == b"x"
        told = await fields_of(bound, "k")
        assert told == {"a": "b", "prism-key": "k", "prism-version": upload.version_id, "prism-ttl": "60"}

    async def test_nothing_of_an_expiry_where_there_is_none(self, world: World, prism: Process) -> None:
        await prism.put("k", b"x", no_expiration=True)
        assert "prism-expires" not in await fields_of(world, "k")
        assert await tags_of(world, "k") == {}
