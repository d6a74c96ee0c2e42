"""The conformance suite of blob drivers: what the port promises, tried through the front door over a driver.

A driver's test is a class that inherits `BlobSuite` (and `MultipartSuite`, `SigningSuite` where it has those powers)
and gives the fixture `driver`: an empty store for each test. What a driver declares (`capabilities`) is tried where it
is declared; what it does not declare is answered UNIMPLEMENTED. Class attributes say what a store cannot be asked; the
defaults are the strictest.
"""

import asyncio
import itertools
import random
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from ..blob import BlobStore
from ..blob.driver import AlreadyExists, EtagMismatch, NotFound, Stored, WriteOptions
from ..blob.memory_blobs import Checksum, checksum
from ..keys import Layout
from ..model import ByteRange
from .blob_calls import MIB, Boom, absent, all_keys, content_of, pattern, pieces_of, put, stream
from .blob_foreign_suite import ForeignKeySuite
from .blob_long_suite import LongPutSuite
from .blob_powers_suite import ConditionalDeleteSuite, CopySuite

__all__ = ["HOSTILE_KEYS", "BlobSuite", "content_of", "put", "stream"]

_LAYOUT = Layout("own")
_LOGICAL = [
    *("a", "a/b", "a/", "/a", "a//b", "..", "../a", "a/../b", "./a", "a.", "a./b", "A", "A/b", "~a", "~", " ", " a "),
    *("-", "a-b", "a.b", "a!b", "a0", "a~b", "a\r\nb", "a\\b", "%2e%2e", "a?b#c%+&=", "é", "e\u0301", "é/b", "🙂/🙂"),
    *("\uffff", "\U0010fffd", "ä" * 512, "x" * 300 + "/y", "x" * 1024, "d/" * 512),
]  # fmt: skip
HOSTILE_KEYS = sorted(_LAYOUT.physical("own", key, f"{at:026d}") for at, key in enumerate(_LOGICAL))
"""Physical keys of the names that stores and filesystems like least."""


class BlobSuite(LongPutSuite, CopySuite, ConditionalDeleteSuite, ForeignKeySuite):
    """Inherit it and give `driver`."""

    hostile_keys: Sequence[str] = HOSTILE_KEYS

    @pytest.fixture
    def undeletable(self) -> Callable[[str], Awaitable[None]] | None:
        """Makes the deletion of one key fail, where the store can be brought to that."""
        return None

    # -- what was put is there

    @pytest.mark.parametrize("size", [0, 1, 4096, MIB - 1, MIB, MIB + 1, 3 * MIB + 7])
    async def test_bytes_come_back(self, store: BlobStore, size: int) -> None:
        content = pattern(size)
        stored = await put(store, "k", *([content] if content else []))
        assert stored.size_bytes == size
        assert await content_of(store, "k") == content
        info = await store.head("k")
        assert info is not None
        assert (info.size_bytes, info.etag) == (size, stored.etag)

    @pytest.mark.parametrize("pieces", [[1] * 5000, [0, 3, 0, 0, 5, 0], [9 * MIB], [17 * MIB, 1], [64 * 1024] * 40])
    async def test_pieces_of_any_size(self, store: BlobStore, pieces: list[int]) -> None:
        content = pattern(sum(pieces))
        cuts = [sum(pieces[:at]) for at in range(len(pieces) + 1)]
        chunks = [content[start:end] for start, end in itertools.pairwise(cuts)]
        await put(store, "k", *chunks)
        assert await content_of(store, "k") == content

    async def test_read_chunks_are_small(self, store: BlobStore) -> None:
        await put(store, "k", bytes(3 * MIB))
        opened = await store.get("k")
        sizes = [len(chunk) async for chunk in opened.body]
        assert all(0 < size <= MIB for size in sizes)

    async def test_observe_sees_every_byte_once_and_in_order_before_the_gate(self, store: BlobStore) -> None:
        seen: list[bytes] = []
        at_gate: list[int] = []

        async def gate() -> None:
            at_gate.append(sum(map(len, seen)))

        content = pattern(2 * MIB + 5)
        chunks = [content[:7], content[7:MIB], content[MIB:]]
        await put(store, "k", *chunks, options=WriteOptions(gate=gate, observe=lambda chunk: seen.append(bytes(chunk))))
        assert b"".join(seen) == content
        assert at_gate == [len(content)]

    async def test_content_type_and_metadata_come_back(self, store: BlobStore) -> None:
        metadata = {"prism-key": "ä/🙂\r\n", "name": "välue", "empty": "", "long": "x" * 1500}
        await put(store, "k", b"x", options=WriteOptions(content_type="image/png", metadata=metadata))
        for info in (await store.head("k"), (await store.get("k")).info):
            assert info is not None
            assert info.content_type == "image/png"
            assert dict(info.metadata) == metadata

    async def test_the_stores_clock_is_close_to_ours(self, store: BlobStore) -> None:
        before = datetime.now(UTC)
        assert abs(await store.now() - before) < timedelta(seconds=5)
        await put(store, "k", b"x")
        info = await store.head("k")
        assert info is not None
        assert abs(info.landed_at - before) < timedelta(seconds=5)
        assert (await store.list(""))[0].landed_at == info.landed_at

    # -- whole or not at all

    async def test_nothing_is_visible_before_the_gate(self, store: BlobStore) -> None:
        async def gate() -> None:
            assert await absent(store, "d/k")

        await put(store, "d/k", bytes(2 * MIB), options=WriteOptions(gate=gate))
        assert await content_of(store, "d/k") == bytes(2 * MIB)

    @pytest.mark.parametrize("size", [10, 3 * MIB])
    async def test_a_callers_exception_comes_out_and_leaves_nothing(self, store: BlobStore, size: int) -> None:
        boom = Boom()

        async def chunks() -> AsyncIterator[bytes]:
            yield bytes(size)
            raise boom

        with pytest.raises(Boom) as raised:
            await store.put("d/k", chunks(), WriteOptions())
        assert raised.value is boom
        assert await absent(store, "d/k")

    @pytest.mark.parametrize("error", [Boom(), OSError(28, "the caller's disk"), NotFound("x"), TimeoutError()])
    async def test_the_gates_exception_comes_out_and_leaves_nothing(self, store: BlobStore, error: Exception) -> None:
        async def gate() -> None:
            raise error

        with pytest.raises(type(error)) as raised:
            await put(store, "d/k", bytes(10), options=WriteOptions(gate=gate))
        assert raised.value is error
        assert await absent(store, "d/k")

    @pytest.mark.parametrize("size", [0, 10, 3 * MIB])
    async def test_a_put_cancelled_in_mid_body_leaves_nothing(self, store: BlobStore, size: int) -> None:
        waiting = asyncio.Event()

        async def chunks() -> AsyncIterator[bytes]:
            if size:
                yield bytes(size)
            waiting.set()
            await asyncio.Event().wait()

        task = asyncio.ensure_future(store.put("d/k", chunks(), WriteOptions()))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await absent(store, "d/k")
        await put(store, "d/k", b"next")
        assert await content_of(store, "d/k") == b"next"

    async def test_a_put_cancelled_at_any_moment_is_whole_or_absent(self, store: BlobStore) -> None:
        for turns in range(40):
            key = f"d/{turns}"
            task = asyncio.ensure_future(put(store, key, b"whole"))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:  # what became visible before stays: somebody may have referenced it
                there = await store.head(key) is not None
                if there or store.capabilities.returned_write_is_final:
                    assert await content_of(store, key) == b"whole" if there else await absent(store, key)
            else:
                assert await content_of(store, key) == b"whole"

    # -- what stands beside the bytes

    async def test_metadata_beyond_the_stores_limit_costs_no_field_of_prisms(self, store: BlobStore) -> None:
        own = {"prism-key": "ä" * 100, "prism-version": "v" * 26, "prism-expires": "1700000000"}
        users = {f"name-{at}": f"{at}-" + "x" * 1000 for at in range(12)}
        await put(store, "k", b"x", options=WriteOptions(metadata={**users, **own}))
        info = await store.head("k")
        assert info is not None
        assert {name: value for name, value in info.metadata.items() if name.startswith("prism-")} == own
        assert info.metadata.items() <= {**users, **own}.items()
        assert await content_of(store, "k") == b"x"

    async def test_checksums_that_the_store_tells_are_those_of_the_bytes(self, store: BlobStore) -> None:
        names: list[Checksum] = ["crc32c", "sha256", "md5"]
        for key, content in (("small", pattern(1000)), ("long", pattern(17 * MIB))):
            await put(store, key, *pieces_of(content, MIB))
            for info in (await store.head(key), (await store.get(key)).info):
                for name in names:
                    told = getattr(info, name)
                    assert told is None or told == checksum(name, content), name

    async def test_tags_are_no_metadata(self, store: BlobStore) -> None:
        options = WriteOptions(tags={"ttl": "1700000000", "a b": "+-./:=_"}, metadata={"a": "b"})
        await put(store, "k", b"x", options=options)
        await put(store, "long", *[bytes(MIB)] * 17, options=options)
        for key in ("k", "long"):
            info = await store.head(key)
            assert info is not None
            assert dict(info.metadata) == {"a": "b"}

    # -- create-only

    async def test_a_second_put_is_refused_and_changes_nothing(self, store: BlobStore) -> None:
        if not store.capabilities.conditional_put:
            pytest.skip("the store does not refuse it")
        first = await put(store, "k", b"first")
        with pytest.raises(AlreadyExists):
            await put(store, "k", b"second")
        assert await content_of(store, "k", if_match=first.etag) == b"first"

    async def test_of_concurrent_puts_one_wins(self, store: BlobStore) -> None:
        if not store.capabilities.conditional_put:
            pytest.skip("the store does not refuse it")
        contents = [bytes([at]) * 100_000 for at in range(12)]
        results = await asyncio.gather(*(put(store, "d/k", content) for content in contents), return_exceptions=True)
        won = [at for at, result in enumerate(results) if isinstance(result, Stored)]
        assert len(won) == 1
        assert all(isinstance(result, Stored | AlreadyExists) for result in results)
        assert await content_of(store, "d/k") == contents[won[0]]

    async def test_a_put_that_may_replace_replaces(self, store: BlobStore) -> None:
        first = await put(store, "k", b"first")
        second = await put(store, "k", b"second!", options=WriteOptions(create_only=False, content_type="text/plain"))
        assert await content_of(store, "k", if_match=second.etag) == b"second!"
        assert await all_keys(store) == ["k"]
        with pytest.raises(EtagMismatch):
            await store.get("k", None, first.etag)

    async def test_a_deleted_key_may_be_put_again(self, store: BlobStore) -> None:
        first = await put(store, "k", b"first")
        await store.delete_many(["k"])
        second = await put(store, "k", b"second", options=WriteOptions(content_type="b/b"))
        assert await content_of(store, "k", if_match=second.etag) == b"second"
        with pytest.raises(EtagMismatch):
            await store.get("k", None, first.etag)

    # -- reads

    @pytest.mark.parametrize(
        ("offset", "length"),
        [
            (0, 0),
            (0, 1),
            (5, 0),
            (MIB, 1),
            (MIB - 1, 2),
            (2 * MIB + 8, 1),
            (2 * MIB + 9, 0),
            (3, 2 * MIB),
            (0, 2 * MIB + 9),
        ],
    )
    async def test_ranges(self, store: BlobStore, offset: int, length: int) -> None:
        content = pattern(2 * MIB + 9)
        await put(store, "k", content)
        assert await content_of(store, "k", ByteRange(offset, length)) == content[offset : offset + length]
        opened = await store.get("k", ByteRange(offset, length))
        assert opened.info.size_bytes == len(content)
        await opened.body.aclose()
        await opened.body.aclose()

    async def test_an_empty_object_has_an_empty_body(self, store: BlobStore) -> None:
        await put(store, "k")
        assert await content_of(store, "k") == b""
        assert await content_of(store, "k", ByteRange(0, 0)) == b""

    async def test_an_absent_key_is_not_found(self, store: BlobStore) -> None:
        await put(store, "d/k", b"x")
        for key in ("x", "d", "d/", "d/k/x", "d/kk", "D/k", "e/k", "/d/k", "../d/k", "d/../d/k"):
            if key not in {"d/", "/d/k"}:
                with pytest.raises(NotFound):
                    await store.get(key)
            assert await store.head(key) is None

    async def test_if_match_pins_the_bytes(self, store: BlobStore) -> None:
        one, other = await put(store, "one", b"1"), await put(store, "other", b"22")
        assert await content_of(store, "one", if_match=one.etag) == b"1"
        with pytest.raises(EtagMismatch):
            await store.get("one", None, other.etag)
        with pytest.raises(NotFound):
            await store.get("none", None, one.etag)

    async def test_an_open_read_survives_the_deletion(self, store: BlobStore) -> None:
        if not store.capabilities.open_survives_delete:
            pytest.skip("not declared")
        content = pattern(5 * MIB)
        await put(store, "d/k", content)
        opened = await store.get("d/k")
        body = aiter(opened.body)
        got = [await anext(body)]
        await store.delete_many(["d/k"])
        got += [chunk async for chunk in body]
        assert b"".join(got) == content
        await opened.body.aclose()

    async def test_a_slow_reader_holds_little_memory(self, store: BlobStore) -> None:
        for at in range(4):
            await put(store, f"{at}", bytes(16 * MIB))
        tracemalloc.start()
        try:
            opened = [await store.get(f"{at}") for at in range(4)]
            bodies = [aiter(read.body) for read in opened]
            for _ in range(3):
                for body in bodies:
                    await anext(body)
                await store.head("0")
            held, _ = tracemalloc.get_traced_memory()
            assert held < 4 * 4 * MIB
            for read in opened:
                await read.body.aclose()
        finally:
            tracemalloc.stop()

    # -- deletion

    async def test_deletion_is_idempotent_with_a_result_per_key(self, store: BlobStore) -> None:
        for key in ("a", "d/b", "d/e/c", "d/keep"):
            await put(store, key, b"x")
        asked = ["d/b", "none", "a", "d/none/x", "d/e/c", "d/b", "d"]
        for _ in range(2):
            results = await store.delete_many(asked)
            assert [(result.key, result.error) for result in results] == [(key, None) for key in asked]
        assert await all_keys(store) == ["d/keep"]
        assert await store.delete_many([]) == []

    async def test_more_than_a_thousand_keys_at_once(self, store: BlobStore) -> None:
        await put(store, "k0", b"x")
        await put(store, "k1500", b"x")
        results = await store.delete_many([f"k{at}" for at in range(1501)])
        assert len(results) == 1501
        assert await all_keys(store) == []

    async def test_a_key_that_cannot_be_deleted_is_named_and_stops_no_other(
        self, store: BlobStore, undeletable: Callable[[str], Awaitable[None]] | None
    ) -> None:
        if undeletable is None:
            pytest.skip("no deletion can be brought to fail here")
        for key in ("a", "b", "c"):
            await put(store, key, b"x")
        await undeletable("b")
        results = await store.delete_many(["a", "b", "c"])
        assert [(result.key, result.error is None) for result in results] == [("a", True), ("b", False), ("c", True)]
        assert await all_keys(store) == ["b"]

    async def test_puts_and_deletes_of_neighbours_do_not_disturb_each_other(self, store: BlobStore) -> None:
        async def live(at: int) -> None:
            for turn in range(12):
                key = f"d/e/f/{at}-{turn}"
                await put(store, key, b"x")
                assert await content_of(store, key) == b"x"
                results = await store.delete_many([key])
                assert results[0].error is None

        await asyncio.gather(*(live(at) for at in range(8)))
        assert await all_keys(store) == []

    # -- listing

    @pytest.mark.parametrize("limit", [1, 2, 7, 1000])
    async def test_hostile_keys_are_kept_apart_and_listed_in_byte_order(self, store: BlobStore, limit: int) -> None:
        shuffled = list(self.hostile_keys)
        random.Random(limit).shuffle(shuffled)
        for key in shuffled:
            await put(store, key, key.encode())
        listed = await all_keys(store, limit=limit)
        assert listed == sorted(self.hostile_keys, key=str.encode)
        if limit == 1000:
            for key in self.hostile_keys:
                assert await content_of(store, key) == key.encode()

    async def test_order_across_folders(self, store: BlobStore) -> None:
        keys = [
            "a",
            "a!b",
            "a-b",
            "a.b",
            "a/b",
            "a/b/c",
            "a/b-c",
            "a0",
            "ab",
            "a/!",
            "b/",
            "é/x",
            "é",
            "a/b!",
            "a~",
            "a/~",
        ]
        keys = [key for key in keys if not key.endswith("/") and key not in ("a", "é", "a/b")]
        await _put_all(store, keys)
        ordered = sorted(keys, key=str.encode)
        for start in ["", *ordered, "a", "a/", "a/b/", "a/b/zzz", "b", "zzz", "a/b/c/d", "a-", "\U0010ffff"]:
            expected = [key for key in ordered if key.encode() > start.encode()]
            assert [entry.key for entry in await store.list("", start)] == expected
        for prefix in ["a", "a/", "a/b", "a/b/", "a-", "é", "x", "a/b/c", "a/b/c/", "/", "../", "a/../a/", "./"]:
            expected = [key for key in ordered if key.startswith(prefix)]
            assert [entry.key for entry in await store.list(prefix)] == expected
            for start in ("a/b", "a/!", "a-b", "zz"):
                later = [key for key in expected if key.encode() > start.encode()]
                assert [entry.key for entry in await store.list(prefix, start, 3)] == later[:3]

    async def test_a_page_says_what_head_says(self, store: BlobStore) -> None:
        for at in range(5):
            await put(store, f"d/{at}", bytes(at))
        for entry in await store.list("d/"):
            info = await store.head(entry.key)
            assert info is not None
            assert (entry.size_bytes, entry.etag, entry.landed_at) == (info.size_bytes, info.etag, info.landed_at)

    async def test_a_listing_that_goes_on_sees_what_changed(self, store: BlobStore) -> None:
        await _put_all(store, [f"d/{at:02}" for at in range(10)])
        page = await store.list("", "", 5)
        await store.delete_many(["d/06"])
        await put(store, "d/06x", b"")
        rest = await store.list("", page[-1].key)
        assert [entry.key for entry in rest] == ["d/05", "d/06x", "d/07", "d/08", "d/09"]

    # -- the front door

    @pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", ".", "..", "a/../b", "../a", "a\x00b", "a\nb", "x" * 1025])
    async def test_a_key_that_no_layout_makes_is_refused(self, store: BlobStore, key: str) -> None:
        with pytest.raises(ValueError, match="not a physical key"):
            await put(store, key, b"x")
        assert await all_keys(store) == []


async def _put_all(store: BlobStore, keys: Iterable[str]) -> Sequence[Stored]:
    return await asyncio.gather(*(put(store, key, b"x") for key in keys))
