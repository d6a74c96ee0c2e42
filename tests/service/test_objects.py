"""Objects: what is put is what is read, whole or in part; conditions, copies, buckets, namespaces, usage, records."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta

import google_crc32c
import pytest
from world import Process, World, pieces

from prism.blob.driver import Driver, Opened
from prism.errors import ErrorCode, PrismError
from prism.model import ByteRange, Conditions, Declared, ObjectRef, Precondition, PutOptions, RangeSpec

ABSENT = Precondition(if_none_match=("*",))


def code(caught: pytest.ExceptionInfo[PrismError]) -> ErrorCode:
    return caught.value.code


class RottenDriver:
    """A store on a disk that changed the last bit of everything without a word."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def __getattr__(self, name: str) -> object:
        return getattr(self._driver, name)

    async def get(self, key: str, byte_range: ByteRange | None, if_match: str | None) -> Opened:
        opened = await self._driver.get(key, byte_range, if_match)
        return Opened(opened.info, RottenBody(opened))


class RottenBody:
    def __init__(self, opened: Opened) -> None:
        self._opened = opened

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self._opened.info.size_bytes
        async for chunk in self._opened.body:
            left -= len(chunk)
            yield chunk if left else bytes(chunk[:-1]) + bytes([chunk[-1] ^ 1])

    async def aclose(self) -> None:
        await self._opened.body.aclose()


class TestPutAndGet:
    @pytest.mark.parametrize("content", [b"", b"x", b"0123456789" * 1000])
    async def test_what_was_put_is_read(self, world: World, prism: Process, content: bytes) -> None:
        info = await prism.put("k", content, content_type="image/png", metadata={"name": "value"})
        assert (info.size_bytes, info.content_type, dict(info.metadata)) == (
            len(content),
            "image/png",
            {"name": "value"},
        )
        assert await prism.get("k") == content
        assert await prism.head("k") == info
        await world.check()

    async def test_the_checksum_and_etag_belong_to_the_bytes(self, prism: Process) -> None:
        info = await prism.put("k", b"hello", md5_etag=True, want_sha256=True)
        assert info.etag == hashlib.md5(b"hello").hexdigest()
        assert info.sha256 == hashlib.sha256(b"hello").hexdigest()
        assert info.crc32c == base64.b64encode(google_crc32c.value(b"hello").to_bytes(4, "big")).decode()
        assert "-" in (await prism.put("k", b"hello")).etag, "an etag that is no MD5 carries a dash"

    async def test_an_overwrite_shows_the_new_content_only(self, world: World, prism: Process) -> None:
        old = await prism.put("k", b"old", metadata={"a": "1"})
        new = await prism.put("k", b"newer")
        assert (await prism.get("k"), dict(new.metadata)) == (b"newer", {})
        assert old.etag != new.etag
        await world.rest(prism)
        assert list((await world.stored()).values()) == [b"newer"]

    async def test_an_opened_read_goes_on_after_an_overwrite(self, prism: Process) -> None:
        await prism.put("k", b"old")
        opened = await prism.objects.get(prism.caller, ObjectRef("things", "", "k"))
        await prism.put("k", b"new")
        assert b"".join([chunk async for chunk in opened.chunks()]) == b"old"

    async def test_changed_bytes_are_not_served_as_the_object(self, world: World, prism: Process) -> None:
        await prism.put("k", b"right")
        physical = next(iter(await world.stored()))
        etag = (await world.referenced())[physical].store_etag
        await world.blobs["things"].delete_many([physical])
        await world.land(physical, b"wrong")
        row_etag = (await world.blobs["things"].head(physical)).etag
        with pytest.raises(PrismError) as caught:
            await prism.get("k")
        assert code(caught) is ErrorCode.DATA_LOSS
        assert etag != row_etag

    @pytest.mark.parametrize("size", [1, 5, 3 * 2**20])
    async def test_rotten_bytes_of_the_right_size_and_etag_fail_a_whole_read(self, world: World, size: int) -> None:
        rotten = world.start(wrap_blob=RottenDriver)
        await rotten.put("k", bytes(size))
        opened = await rotten.objects.get(rotten.caller, ObjectRef("things", "", "k"))
        served = 0

        async def serve() -> None:
            nonlocal served
            async for chunk in opened.chunks():
                served += len(chunk)

        with pytest.raises(PrismError) as caught:
            await serve()
        assert code(caught) is ErrorCode.DATA_LOSS
        assert served < size, "a caller who counts would have taken it for the whole"

    @pytest.mark.parametrize(
        ("declared", "expected"),
        [
            (Declared(size_bytes=4), ErrorCode.SIZE_MISMATCH),
            (Declared(sha256="00" * 32), ErrorCode.CHECKSUM_MISMATCH),
            (Declared(crc32c="AAAAAA=="), ErrorCode.CHECKSUM_MISMATCH),
            (Declared(md5="00" * 16), ErrorCode.CHECKSUM_MISMATCH),
        ],
    )
    async def test_bytes_other_than_declared_are_refused_and_change_nothing(
        self, world: World, prism: Process, declared: Declared, expected: ErrorCode
    ) -> None:
        await prism.put("k", b"before")
        with pytest.raises(PrismError) as caught:
            await prism.put("k", b"hello", declared=declared)
        assert code(caught) is expected
        assert await prism.get("k") == b"before"
        await world.rest(prism)

    async def test_a_body_that_breaks_off_changes_nothing(self, world: World, prism: Process) -> None:
        async def broken():
            yield b"some"
            raise ConnectionResetError

        await prism.put("k", b"before")
        with pytest.raises(ConnectionResetError):
            await prism.objects.put(prism.caller, ObjectRef("things", "", "k"), broken(), PutOptions())
        assert await prism.get("k") == b"before"
        assert not await world.promised()
        await world.rest(prism)

    async def test_a_cancelled_put_changes_nothing(self, world: World, prism: Process) -> None:
        never = asyncio.Event()

        async def stalled():
            yield b"some"
            await never.wait()

        task = asyncio.ensure_future(
            prism.objects.put(prism.caller, ObjectRef("things", "", "k"), stalled(), PutOptions())
        )
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await prism.tasks.drain()
        assert not await world.promised()
        await world.rest(prism)
        assert not await world.stored()

    @pytest.mark.parametrize(
        ("key", "metadata"),
        [
            ("", {}),
            ("nul\x00", {}),
            ("x" * 1025, {}),
            ("k", {"UPPER": "x"}),
            ("k", {"a": "x" * 2048}),
            ("k", {"a": "\r"}),
        ],
    )
    async def test_bad_names_and_metadata_write_nothing(
        self, world: World, prism: Process, key: str, metadata: dict[str, str]
    ) -> None:
        with pytest.raises(PrismError) as caught:
            await prism.put(key, b"x", metadata=metadata)
        assert code(caught) is ErrorCode.INVALID_ARGUMENT
        assert not await world.rows("things", "w")
        assert not await world.condemned()

    async def test_metadata_of_two_kilobytes_is_kept(self, prism: Process) -> None:
        metadata = {"a": "x" * 1023, "b": "y" * 1023}
        await prism.put("k", b"x", metadata=metadata)
        assert dict((await prism.head("k")).metadata) == metadata

    async def test_keys_that_look_alike_are_different(self, prism: Process) -> None:
        keys = ["a", "A", "a/", "ab", "a/b", "é", "e\u0301", " a", "a%2fb", "..", "a/../b", "a\\b", "a//b", "/a", "~a"]
        for key in keys:
            await prism.put(key, key.encode())
        for key in keys:
            assert await prism.get(key) == key.encode()
        assert await prism.list() == sorted(keys)
        await prism.delete("a")
        assert await prism.list() == sorted(set(keys) - {"a"})


class TestRanges:
    @pytest.mark.parametrize(
        ("wanted", "expected"),
        [
            (RangeSpec(start=0, end=0), b"0"),
            (RangeSpec(start=3), b"3456789"),
            (RangeSpec(start=3, end=100), b"3456789"),
            (RangeSpec(suffix=4), b"6789"),
            (RangeSpec(suffix=100), b"0123456789"),
        ],
    )
    async def test_a_part_is_read(self, prism: Process, wanted: RangeSpec, expected: bytes) -> None:
        await prism.put("k", b"0123456789")
        assert await prism.get("k", wanted) == expected

    @pytest.mark.parametrize(
        ("wanted", "expected"),
        [
            (RangeSpec(start=10), ErrorCode.RANGE_NOT_SATISFIABLE),
            (RangeSpec(suffix=0), ErrorCode.RANGE_NOT_SATISFIABLE),
            (RangeSpec(start=5, end=4), ErrorCode.INVALID_ARGUMENT),
            (RangeSpec(end=4), ErrorCode.INVALID_ARGUMENT),
        ],
    )
    async def test_what_is_no_part_is_refused(self, prism: Process, wanted: RangeSpec, expected: ErrorCode) -> None:
        await prism.put("k", b"0123456789")
        with pytest.raises(PrismError) as caught:
            await prism.get("k", wanted)
        assert code(caught) is expected

    async def test_the_range_served_is_told(self, prism: Process) -> None:
        await prism.put("k", b"0123456789")
        opened = await prism.objects.get(prism.caller, ObjectRef("things", "", "k"), RangeSpec(suffix=3))
        assert (opened.byte_range, opened.partial, opened.info.size_bytes) == (ByteRange(7, 3), True, 10)
        await opened.aclose()


class TestConditions:
    async def test_of_many_puts_if_absent_one_wins(self, world: World, prism: Process) -> None:
        outcomes = await asyncio.gather(
            *(prism.put("k", b"%d" % at, precondition=ABSENT) for at in range(10)), return_exceptions=True
        )
        won = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
        assert len(won) == 1
        assert all(code_of(lost) is ErrorCode.PRECONDITION_FAILED for lost in outcomes if lost is not won[0])
        await world.rest(prism)

    async def test_put_if_match_loses_to_any_write_between(self, prism: Process) -> None:
        old = await prism.put("k", b"old")
        await prism.put("k", b"between")
        with pytest.raises(PrismError) as caught:
            await prism.put("k", b"mine", precondition=Precondition(if_match=(old.etag,)))
        assert code(caught) is ErrorCode.PRECONDITION_FAILED
        assert await prism.get("k") == b"between"

    async def test_delete_if_match(self, prism: Process) -> None:
        info = await prism.put("k", b"x")
        with pytest.raises(PrismError):
            await prism.delete("k", precondition=Precondition(if_match=("other",)))
        assert await prism.delete("k", precondition=Precondition(if_match=(info.etag,))) is True

    async def test_reads_follow_the_order_of_rfc_9110(self, world: World, prism: Process) -> None:
        info = await prism.put("k", b"x")
        ref = ObjectRef("things", "", "k")
        before, after = world.clock() - timedelta(hours=1), world.clock() + timedelta(hours=1)
        for conditions, expected in (
            (Conditions(if_none_match=(info.etag,)), ErrorCode.NOT_MODIFIED),
            (Conditions(if_match=("other",)), ErrorCode.PRECONDITION_FAILED),
            (Conditions(if_match=(info.etag,), if_unmodified_since=before), None),
            (Conditions(if_unmodified_since=before), ErrorCode.PRECONDITION_FAILED),
            (Conditions(if_modified_since=after), ErrorCode.NOT_MODIFIED),
            (Conditions(if_none_match=("other",), if_modified_since=after), None),
        ):
            if expected is None:
                await prism.objects.head(prism.caller, ref, conditions)
                continue
            with pytest.raises(PrismError) as caught:
                await prism.objects.head(prism.caller, ref, conditions)
            assert code(caught) is expected


def code_of(error: object) -> ErrorCode | None:
    return error.code if isinstance(error, PrismError) else None


class TestDelete:
    async def test_a_deleted_object_is_absent_everywhere(self, world: World, prism: Process) -> None:
        await prism.put("k", b"x")
        assert await prism.delete("k") is True
        assert await prism.delete("k") is False
        for call in (prism.get("k"), prism.head("k"), prism.copy("k", "k2"), prism.get("k", RangeSpec(start=0))):
            with pytest.raises(PrismError) as caught:
                await call
            assert code(caught) is ErrorCode.OBJECT_NOT_FOUND
        assert await prism.list() == []
        await world.rest(prism)

    async def test_a_deleted_folder_is_gone_at_once_and_nothing_beside_it(self, world: World, prism: Process) -> None:
        for key in ("a", "a/", "a/1", "a/b/2", "ab", "A/1"):
            await prism.put(key, b"x")
        await prism.put("a/1", b"x", ns="brief")
        await prism.delete_folder("a/")
        assert await prism.list() == ["A/1", "a", "ab"]
        assert await prism.list(ns="brief") == ["a/1"]
        assert (await prism.objects.usage(prism.caller, "things")).objects == 6, "counted until purged"
        await prism.put("a/1", b"new life")
        await prism.rounds(2)
        assert await prism.get("a/1") == b"new life"
        await world.rest(prism)
        assert (await prism.objects.usage(prism.caller, "things")).objects == 4

    async def test_a_put_overtaken_by_its_folders_deletion_says_so(self, world: World, prism: Process) -> None:
        async def slow():
            yield b"first"
            await asyncio.sleep(0)
            await prism.delete_folder("a/")
            yield b"second"

        with pytest.raises(PrismError) as caught:
            await prism.objects.put(prism.caller, ObjectRef("things", "", "a/k"), slow(), PutOptions())
        assert code(caught) is ErrorCode.DELETED_MEANWHILE
        await world.rest(prism)
        assert not await world.stored()


class TestCopy:
    async def test_a_copy_keeps_content_type_and_metadata(self, prism: Process) -> None:
        info = await prism.put("k", b"x", content_type="text/plain", metadata={"a": "1"})
        copied = await prism.copy("k", "k2")
        assert (copied.content_type, dict(copied.metadata), copied.etag) == ("text/plain", {"a": "1"}, info.etag)
        assert copied.version_id != info.version_id

    async def test_between_namespaces(self, world: World, prism: Process) -> None:
        await prism.put("k", b"content")
        await prism.copy("k", "k", to="brief")
        await prism.delete("k")
        assert await prism.get("k", ns="brief") == b"content"
        await world.check("brief")

    async def test_onto_itself_with_a_new_lifetime(self, world: World, prism: Process) -> None:
        await prism.put("k", b"content", ttl=timedelta(seconds=10))
        await prism.copy("k", "k", ttl=timedelta(seconds=1000), content_type="text/html")
        world.clock.forward(60)
        assert await prism.get("k") == b"content"
        assert (await prism.head("k")).content_type == "text/html"
        await world.check()

    async def test_a_refused_precondition_copies_nothing(self, world: World, prism: Process) -> None:
        await prism.put("k", b"x")
        await prism.put("k2", b"there")
        with pytest.raises(PrismError) as caught:
            await prism.copy("k", "k2", precondition=ABSENT)
        assert code(caught) is ErrorCode.PRECONDITION_FAILED
        with pytest.raises(PrismError):
            await prism.copy("k", "k3", source_if_match=("other",))
        assert await prism.list() == ["k", "k2"]


class TestBuckets:
    async def test_buckets_hold_their_own_objects(self, world: World, prism: Process) -> None:
        await prism.objects.create_bucket(prism.caller, "things", "second")
        await prism.put("k", b"1")
        await prism.put("k", b"2", bucket="second")
        assert (await prism.get("k"), await prism.get("k", bucket="second")) == (b"1", b"2")
        assert await prism.objects.list_buckets(prism.caller, "things") == ("things", "second")
        with pytest.raises(PrismError) as caught:
            await prism.objects.delete_bucket(prism.caller, "things", "second")
        assert code(caught) is ErrorCode.BUCKET_NOT_EMPTY
        await prism.delete("k", bucket="second")
        await prism.objects.delete_bucket(prism.caller, "things", "second")
        with pytest.raises(PrismError) as caught:
            await prism.get("k", bucket="second")
        assert code(caught) is ErrorCode.BUCKET_NOT_FOUND
        await world.rest(prism)

    async def test_an_upload_that_landed_keeps_its_bucket(self, world: World, prism: Process) -> None:
        await prism.objects.create_bucket(prism.caller, "things", "second")
        upload = await prism.presign_put("k", bucket="second")
        await world.land(world.physical("k", upload, bucket="second"), b"x")
        with pytest.raises(PrismError) as caught:
            await prism.objects.delete_bucket(prism.caller, "things", "second")
        assert code(caught) is ErrorCode.BUCKET_NOT_EMPTY

    async def test_a_url_does_not_outlive_its_bucket(self, world: World, prism: Process) -> None:
        await prism.objects.create_bucket(prism.caller, "things", "second")
        upload = await prism.presign_put("k", bucket="second")
        await prism.objects.delete_bucket(prism.caller, "things", "second")
        await prism.objects.create_bucket(prism.caller, "things", "second")
        await world.land(world.physical("k", upload, bucket="second"), b"late")
        assert await prism.list(bucket="second") == []
        await world.rest(prism)
        assert not await world.stored()

    async def test_a_put_whose_bucket_went_meanwhile(self, world: World, prism: Process) -> None:
        await prism.objects.create_bucket(prism.caller, "things", "second")

        async def slow():
            await asyncio.sleep(0)
            yield b"first"
            await prism.objects.delete_bucket(prism.caller, "things", "second")
            yield b"second"

        with pytest.raises(PrismError) as caught:
            await prism.objects.put(prism.caller, ObjectRef("things", "second", "k"), slow(), PutOptions())
        assert code(caught) is ErrorCode.BUCKET_NOT_FOUND
        await world.rest(prism)

    async def test_an_unknown_bucket_or_namespace_is_not_found(self, world: World, prism: Process) -> None:
        with pytest.raises(PrismError) as caught:
            await prism.put("k", b"x", bucket="nowhere")
        assert code(caught) is ErrorCode.BUCKET_NOT_FOUND
        with pytest.raises(PrismError) as caught:
            await prism.put("k", b"x", ns="nowhere")
        assert code(caught) is ErrorCode.NAMESPACE_NOT_FOUND
        assert not await world.stored()


class TestRecords:
    async def test_each_operation_leaves_one_record(self, prism: Process) -> None:
        await prism.put("k", b"content")
        await prism.get("k")
        await prism.list()
        await prism.copy("k", "k2")
        await prism.delete("k")
        actions = [(record.action, record.outcome) for record in prism.audit.records]
        assert sorted(actions) == sorted(
            (f"object.{name}", "OK") for name in ("put", "get", "list", "put", "copy_source", "delete")
        )

    async def test_a_read_that_nobody_finishes_is_recorded_when_released(self, prism: Process) -> None:
        await prism.put("k", b"content")
        opened = await prism.objects.get(prism.caller, ObjectRef("things", "", "k"))
        await opened.aclose()
        await opened.aclose()
        assert [record.action for record in prism.audit.records] == ["object.put", "object.get"]

    async def test_pieces_of_any_size_make_the_same_object(self, prism: Process) -> None:
        ref = ObjectRef("things", "", "k")
        whole = await prism.objects.put(prism.caller, ref, pieces(b"x" * 1000, 1000), PutOptions())
        small = await prism.objects.put(prism.caller, ref, pieces(b"x" * 1000, 7), PutOptions())
        assert whole.crc32c == small.crc32c
