"""The conformance suite of objects in parts (`MultipartPower`), tried through the front door over a driver.

Parts are as small as the store takes them. Class attributes say what a store cannot be asked; the defaults are the
strictest. Nothing here looks at a store's own names of uploads, or expects etags of one form.
"""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import pytest

from ..blob import BlobStore
from ..blob.driver import AlreadyExists, BadPart, NotFound, Part, Stored, WriteOptions
from ..blob.memory_blobs import checksum
from .blob_calls import MIB, Boom, StoreSuite, absent, content_of, gates, pattern, pieces_of, put, stream

__all__ = ["MultipartSuite"]

_SMALL = 100_000
_OPTIONS = WriteOptions(content_type="image/png", metadata={"prism-key": "ä/🙂", "name": "välue"})


class MultipartSuite(StoreSuite):
    """Inherit it and give `driver`."""

    holds_bytes = False
    """The parts are in this process's memory."""
    held_bytes = 12 * MIB
    """The most that a part of 32 MiB may hold."""
    empty_parts = True
    """A part may be empty, when it is the last."""
    completed_again: tuple[type[Exception], ...] = (NotFound,)
    """What a second completion may say, unless it answers as the first did."""
    hostile_keys: Sequence[str] = ()

    @pytest.fixture
    def part_bytes(self, store: BlobStore) -> int:
        """The size of parts that are not the last."""
        return max(_SMALL, store.capabilities.smallest_part_bytes)

    # -- an object of its parts

    async def test_parts_make_the_object(self, store: BlobStore, part_bytes: int) -> None:
        content = pattern(2 * part_bytes + 7)
        upload = await store.create_multipart("d/k", _OPTIONS)
        parts = [await _send(store, upload, at, piece) for at, piece in _numbered(content, part_bytes)]
        assert [(part.number, part.size_bytes) for part in parts] == [(1, part_bytes), (2, part_bytes), (3, 7)]
        stored = await store.complete_multipart("d/k", upload, parts, _OPTIONS)
        assert stored.size_bytes == len(content)
        assert await content_of(store, "d/k", if_match=stored.etag) == content
        info = await store.head("d/k")
        assert info is not None
        assert (info.etag, info.size_bytes) == (stored.etag, len(content))
        assert (info.content_type, dict(info.metadata)) == (_OPTIONS.content_type, _OPTIONS.metadata)
        assert abs(info.landed_at - await store.now()) < timedelta(seconds=60)
        assert [(entry.key, entry.etag) for entry in await store.list("")] == [("d/k", stored.etag)]

    async def test_one_small_part(self, store: BlobStore) -> None:
        upload = await store.create_multipart("d/k", WriteOptions())
        part = await _send(store, upload, 1, b"x")
        await store.complete_multipart("d/k", upload, [part], WriteOptions())
        assert await content_of(store, "d/k") == b"x"

    async def test_parts_arrive_in_any_order_and_at_once(self, store: BlobStore, part_bytes: int) -> None:
        content = pattern(3 * part_bytes + 1)
        upload = await store.create_multipart("d/k", _OPTIONS)
        numbered = list(_numbered(content, part_bytes))
        sent = [await _send(store, upload, *numbered[2])]
        sent += await asyncio.gather(*(_send(store, upload, *numbered[at]) for at in (3, 0, 1)))
        parts = await store.list_parts("d/k", upload)
        assert [(part.number, part.etag) for part in parts] == sorted((part.number, part.etag) for part in sent)
        await store.complete_multipart("d/k", upload, parts, _OPTIONS)
        assert await content_of(store, "d/k") == content

    async def test_numbers_may_have_gaps(self, store: BlobStore, part_bytes: int) -> None:
        upload = await store.create_multipart("d/k", WriteOptions())
        most = store.capabilities.most_parts
        sizes = {2: part_bytes, 7: part_bytes + 1, most: 3}
        parts = [await _send(store, upload, number, pattern(size)) for number, size in sizes.items()]
        assert [part.number for part in await store.list_parts("d/k", upload)] == [2, 7, most]
        await store.complete_multipart("d/k", upload, parts, WriteOptions())
        assert await content_of(store, "d/k") == b"".join(map(pattern, sizes.values()))

    async def test_many_parts(self, store: BlobStore, part_bytes: int) -> None:
        count = min(60, max(3, 32 * MIB // part_bytes))
        content = pattern(count * part_bytes)
        upload = await store.create_multipart("d/k", WriteOptions())
        parts = [await _send(store, upload, at, piece) for at, piece in _numbered(content, part_bytes)]
        assert len(await store.list_parts("d/k", upload)) == count
        await store.complete_multipart("d/k", upload, parts, WriteOptions())
        assert await content_of(store, "d/k") == content

    async def test_an_empty_last_part(self, store: BlobStore, part_bytes: int) -> None:
        if not self.empty_parts:
            pytest.skip("the store takes no empty part (empty_parts)")
        for sizes in ([part_bytes, 0], [0]):
            key = f"d/{len(sizes)}"
            upload = await store.create_multipart(key, WriteOptions())
            parts = [await _send(store, upload, at, bytes(size), key) for at, size in enumerate(sizes, 1)]
            await store.complete_multipart(key, upload, parts, WriteOptions())
            assert await content_of(store, key) == bytes(sum(sizes))

    async def test_checksums_of_parts_and_of_the_object_are_those_of_the_bytes(
        self, store: BlobStore, part_bytes: int
    ) -> None:
        content = pattern(part_bytes + 9)
        upload = await store.create_multipart("d/k", WriteOptions())
        numbered = list(_numbered(content, part_bytes))
        parts = [await _send(store, upload, at, piece) for at, piece in numbered]
        for part, (_, piece) in zip([*parts, *await store.list_parts("d/k", upload)], numbered * 2, strict=True):
            assert part.crc32c in {None, checksum("crc32c", piece)}
        await store.complete_multipart("d/k", upload, parts, WriteOptions())
        info = await store.head("d/k")
        assert info is not None
        assert info.crc32c in {None, checksum("crc32c", content)}
        assert info.sha256 in {None, checksum("sha256", content)}
        assert info.md5 in {None, checksum("md5", content)}

    async def test_hostile_keys_come_in_parts(self, store: BlobStore) -> None:
        for key in self.hostile_keys:
            upload = await store.create_multipart(key, WriteOptions())
            assert [found.upload for found in await store.open_multiparts(key)] == [upload]
            part = await _send(store, upload, 1, key.encode(), key)
            await store.complete_multipart(key, upload, [part], WriteOptions())
            assert await content_of(store, key) == key.encode()

    async def test_two_uploads_of_one_key_do_not_mix(self, store: BlobStore) -> None:
        uploads = [await store.create_multipart("d/k", WriteOptions()) for _ in range(2)]
        assert len(set(uploads)) == 2
        parts = [await _send(store, upload, 1, upload.encode()) for upload in uploads]
        completions = (
            store.complete_multipart("d/k", upload, [part], WriteOptions())
            for upload, part in zip(uploads, parts, strict=True)
        )
        results = await asyncio.gather(*completions, return_exceptions=True)
        won = [upload for upload, result in zip(uploads, results, strict=True) if isinstance(result, Stored)]
        assert len(won) == 1
        assert all(isinstance(result, Stored | AlreadyExists) for result in results)
        assert await content_of(store, "d/k") == won[0].encode()

    # -- parts that do not make one

    async def test_a_part_sent_again_replaces_the_first(self, store: BlobStore, part_bytes: int) -> None:
        upload = await store.create_multipart("d/k", WriteOptions())
        old = await _send(store, upload, 1, bytes(part_bytes))
        new = await _send(store, upload, 1, b"\x01" * (part_bytes + 1))
        last = await _send(store, upload, 2, b"end")
        listed = await store.list_parts("d/k", upload)
        assert [(part.etag, part.size_bytes) for part in listed] == [(new.etag, part_bytes + 1), (last.etag, 3)]
        with pytest.raises(BadPart):
            await store.complete_multipart("d/k", upload, [old, last], WriteOptions())
        await store.complete_multipart("d/k", upload, [new, last], WriteOptions())
        assert await content_of(store, "d/k") == b"\x01" * (part_bytes + 1) + b"end"

    async def test_what_is_not_named_at_completion_is_forgotten(self, store: BlobStore, part_bytes: int) -> None:
        upload = await store.create_multipart("d/k", WriteOptions())
        parts = [await _send(store, upload, at, bytes([at]) * part_bytes) for at in (1, 2, 3)]
        await store.complete_multipart("d/k", upload, [parts[0], parts[2]], WriteOptions())
        assert await content_of(store, "d/k") == b"\x01" * part_bytes + b"\x03" * part_bytes
        assert not await store.open_multiparts("d/k")

    @pytest.mark.parametrize("what", ["missing", "etag", "none"])
    async def test_parts_that_did_not_arrive_make_no_object(self, store: BlobStore, part_bytes: int, what: str) -> None:
        upload = await store.create_multipart("d/k", WriteOptions())
        first = await _send(store, upload, 1, bytes(part_bytes))
        other = await _send(store, upload, 2, b"\x01" * part_bytes)
        wrong = Part(number=2 if what == "etag" else 3, etag=first.etag, size_bytes=part_bytes)
        with pytest.raises(BadPart):
            await store.complete_multipart("d/k", upload, [] if what == "none" else [first, wrong], WriteOptions())
        assert await absent(store, "d/k")
        await store.complete_multipart("d/k", upload, [first, other], WriteOptions())
        assert await content_of(store, "d/k") == bytes(part_bytes) + b"\x01" * part_bytes

    async def test_a_part_that_is_too_small(self, store: BlobStore) -> None:
        if store.capabilities.smallest_part_bytes == 1:
            pytest.skip("no part is too small")
        upload = await store.create_multipart("d/k", WriteOptions())
        parts = [await _send(store, upload, at, b"small") for at in (1, 2)]
        with pytest.raises(BadPart):
            await store.complete_multipart("d/k", upload, parts, WriteOptions())
        assert await absent(store, "d/k")
        await store.abort_multipart("d/k", upload)

    @pytest.mark.parametrize("difference", [-1, 1, MIB])
    async def test_a_part_of_another_size_is_not_taken(self, store: BlobStore, difference: int) -> None:
        upload = await store.create_multipart("d/k", WriteOptions())
        body = pattern(2 * MIB)
        with pytest.raises(BadPart):
            await store.put_part("d/k", upload, 1, stream(*pieces_of(body, _SMALL)), len(body) - difference)
        assert list(await store.list_parts("d/k", upload)) == []

    @pytest.mark.parametrize("cancelled", [False, True])
    async def test_a_part_that_ends_half_way_is_not_taken(self, store: BlobStore, cancelled: bool) -> None:
        upload = await store.create_multipart("d/k", WriteOptions())
        kept = await _send(store, upload, 1, b"kept")
        waiting = asyncio.Event()

        async def chunks() -> AsyncIterator[bytes]:
            yield bytes(MIB)
            if not cancelled:
                raise Boom
            waiting.set()
            await asyncio.Event().wait()

        for number in (1, 2):
            waiting.clear()
            task = asyncio.ensure_future(store.put_part("d/k", upload, number, chunks(), 2 * MIB))
            if cancelled:
                await waiting.wait()
                task.cancel()
            with pytest.raises(asyncio.CancelledError if cancelled else Boom):
                await task
        listed = await store.list_parts("d/k", upload)
        assert [(part.number, part.etag) for part in listed] == [(1, kept.etag)]
        await store.complete_multipart("d/k", upload, [kept], WriteOptions())
        assert await content_of(store, "d/k") == b"kept"

    async def test_a_large_part_holds_little_memory(self, store: BlobStore) -> None:
        if self.holds_bytes:
            pytest.skip("the parts themselves are in memory")

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(32):
                yield bytes(MIB)

        upload = await store.create_multipart("d/k", WriteOptions())
        tracemalloc.start()
        try:
            part = await store.put_part("d/k", upload, 1, chunks(), 32 * MIB)
            await store.complete_multipart("d/k", upload, [part], WriteOptions())
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < self.held_bytes

    # -- visible at the last step, not before

    async def test_nothing_is_visible_before_the_completion(self, store: BlobStore, part_bytes: int) -> None:
        async def begins() -> None:
            assert not await store.open_multiparts("d/k")

        async def ends() -> None:
            assert await absent(store, "d/k")

        upload = await store.create_multipart("d/k", WriteOptions(gate=begins))
        part = await _send(store, upload, 1, bytes(part_bytes))
        assert await absent(store, "d/k")
        assert await store.list("") == []
        await store.complete_multipart("d/k", upload, [part], WriteOptions(gate=ends))
        assert await content_of(store, "d/k") == bytes(part_bytes)

    @pytest.mark.parametrize("error", [Boom(), NotFound("x"), OSError(28, "the caller's disk"), TimeoutError()])
    async def test_a_gate_that_refuses_leaves_nothing(self, store: BlobStore, error: Exception) -> None:
        with pytest.raises(type(error)) as raised:
            await store.create_multipart("d/k", gates(error))
        assert raised.value is error
        assert not await store.open_multiparts("d/k")
        upload = await store.create_multipart("d/k", WriteOptions())
        part = await _send(store, upload, 1, b"x")
        with pytest.raises(type(error)) as raised:
            await store.complete_multipart("d/k", upload, [part], gates(error))
        assert raised.value is error
        assert await absent(store, "d/k")
        await store.abort_multipart("d/k", upload)
        assert not await store.open_multiparts("d/k")

    async def test_a_completion_never_replaces_when_it_must_not(self, store: BlobStore) -> None:
        upload = await store.create_multipart("d/k", WriteOptions())
        part = await _send(store, upload, 1, b"late")
        first = await put(store, "d/k", b"first")
        with pytest.raises(AlreadyExists):
            await store.complete_multipart("d/k", upload, [part], WriteOptions())
        assert await content_of(store, "d/k", if_match=first.etag) == b"first"
        await store.abort_multipart("d/k", upload)
        assert not await store.open_multiparts("d/k")

    async def test_a_completion_replaces_when_it_may(self, store: BlobStore) -> None:
        await put(store, "d/k", b"first", options=WriteOptions(metadata={"old": "x"}))
        options = WriteOptions(create_only=False, metadata={"new": "y"})
        upload = await store.create_multipart("d/k", options)
        part = await _send(store, upload, 1, b"second")
        stored = await store.complete_multipart("d/k", upload, [part], options)
        assert await content_of(store, "d/k", if_match=stored.etag) == b"second"
        info = await store.head("d/k")
        assert info is not None
        assert dict(info.metadata) == {"new": "y"}

    # -- what is open and what is over

    async def test_a_second_completion_changes_nothing(self, store: BlobStore) -> None:
        upload = await store.create_multipart("d/k", WriteOptions())
        part = await _send(store, upload, 1, b"x")
        stored = await store.complete_multipart("d/k", upload, [part], WriteOptions())
        try:
            again = await store.complete_multipart("d/k", upload, [part], WriteOptions())
        except self.completed_again:
            pass
        else:
            assert again == stored
        assert await content_of(store, "d/k", if_match=stored.etag) == b"x"
        await _over(store, upload, part)
        assert await content_of(store, "d/k", if_match=stored.etag) == b"x"

    async def test_an_aborted_upload_is_over(self, store: BlobStore) -> None:
        upload = await store.create_multipart("d/k", WriteOptions())
        part = await _send(store, upload, 1, b"x")
        await store.abort_multipart("d/k", upload)
        with pytest.raises(NotFound):
            await store.complete_multipart("d/k", upload, [part], WriteOptions())
        await _over(store, upload, part)
        assert await absent(store, "d/k")

    async def test_an_upload_is_of_its_own_key(self, store: BlobStore) -> None:
        upload = await store.create_multipart("d/k", WriteOptions())
        part = await _send(store, upload, 1, b"x")
        with pytest.raises(NotFound):
            await store.list_parts("d/other", upload)
        with pytest.raises(NotFound):
            await _send(store, upload, 1, b"y", "d/other")
        with pytest.raises(NotFound):
            await store.complete_multipart("d/other", upload, [part], WriteOptions())
        await store.abort_multipart("d/other", upload)
        assert [found.etag for found in await store.list_parts("d/k", upload)] == [part.etag]

    async def test_the_open_uploads_of_exactly_one_key(self, store: BlobStore) -> None:
        began = await store.now()
        keys = ["d/k", "d/kk", "d/k/x", "d/k~1", "d", "d/k"]
        uploads = [(key, await store.create_multipart(key, WriteOptions())) for key in keys]
        for key in [*keys, "d/", "x", "k"]:
            found = await store.open_multiparts(key)
            assert sorted(one.upload for one in found) == sorted(upload for named, upload in uploads if named == key)
            assert all(one.key == key for one in found)
            assert all(abs(one.started_at - began) < timedelta(seconds=60) for one in found)
        assert await store.list("") == []
        for key, upload in uploads[:2]:
            await store.abort_multipart(key, upload)
        assert not await store.open_multiparts("d/kk")
        assert [one.upload for one in await store.open_multiparts("d/k")] == [uploads[-1][1]]
        for key, upload in uploads:
            await store.abort_multipart(key, upload)


async def _send(store: BlobStore, upload: str, number: int, content: bytes, key: str = "d/k") -> Part:
    part = await store.put_part(key, upload, number, stream(*pieces_of(content, MIB)), len(content))
    assert (part.number, part.size_bytes) == (number, len(content))
    return part


def _numbered(content: bytes, size: int) -> list[tuple[int, bytes]]:
    return list(enumerate(pieces_of(content, size), 1))


async def _over(store: BlobStore, upload: str, part: Part) -> None:
    """Nothing is open; what comes now finds nothing, and a further abort is fine."""
    with pytest.raises(NotFound):
        await store.list_parts("d/k", upload)
    with pytest.raises(NotFound):
        await _send(store, upload, part.number + 1, b"late")
    assert not await store.open_multiparts("d/k")
    await store.abort_multipart("d/k", upload)
