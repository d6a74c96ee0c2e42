"""The conformance suites of rare powers: copies inside the store, and deletes that are pinned to an etag.

`BlobSuite` inherits them. A driver that does not declare a power is held to that: the front door says UNIMPLEMENTED.
"""

import asyncio
from collections.abc import Sequence

import pytest

from ..blob import BlobStore
from ..blob.driver import AlreadyExists, EtagMismatch, NotFound, Stored, WriteOptions
from ..errors import ErrorCode, PrismError
from .blob_calls import MIB, Boom, StoreSuite, absent, all_keys, content_of, gates, pattern, put

__all__ = ["ConditionalDeleteSuite", "CopySuite"]


class CopySuite(StoreSuite):
    """`CopyPower`: pinned to the source's etag, never over anything."""

    hostile_keys: Sequence[str] = ()
    copies_exclude_each_other = True
    """Of copies to one key at the same time one wins, not only of copies one after the other."""

    @pytest.fixture
    def copies(self, store: BlobStore) -> None:
        """Only for stores that copy."""
        if not store.capabilities.copy:
            pytest.skip("no copies are declared")

    async def test_a_store_that_cannot_copy_says_so(self, store: BlobStore) -> None:
        if store.capabilities.copy:
            pytest.skip("it can")
        with pytest.raises(PrismError) as raised:
            await store.copy("a", "x", "b", WriteOptions())
        assert raised.value.code is ErrorCode.UNIMPLEMENTED

    @pytest.mark.usefixtures("copies")
    @pytest.mark.parametrize("size", [0, 1, 3 * MIB + 1])
    async def test_a_copy_has_the_bytes_and_its_own_fields(self, store: BlobStore, size: int) -> None:
        content = pattern(size)
        options = WriteOptions(content_type="a/a", metadata={"old": "x"})
        source = await put(store, "a/b", *filter(None, [content]), options=options)
        copied = await store.copy(
            "a/b", source.etag, "c/d", WriteOptions(content_type="b/b", metadata={"k": "välue", "prism-key": "ä/🙂"})
        )
        assert copied.size_bytes == size
        assert await content_of(store, "c/d", if_match=copied.etag) == content
        info = await store.head("c/d")
        assert info is not None
        assert (info.etag, info.content_type) == (copied.etag, "b/b")
        assert dict(info.metadata) == {"k": "välue", "prism-key": "ä/🙂"}
        await store.delete_many(["a/b"])
        assert await content_of(store, "c/d") == content
        assert await all_keys(store) == ["c/d"]

    @pytest.mark.usefixtures("copies")
    async def test_a_copy_without_fields_takes_none_over(self, store: BlobStore) -> None:
        source = await put(store, "a", b"x", options=WriteOptions(content_type="a/a", metadata={"old": "x"}))
        await store.copy("a", source.etag, "b", WriteOptions())
        info = await store.head("b")
        assert info is not None
        assert info.content_type != "a/a"
        assert dict(info.metadata) == {}

    @pytest.mark.usefixtures("copies")
    async def test_a_copy_is_pinned(self, store: BlobStore) -> None:
        first = await put(store, "a", b"first")
        await put(store, "a", b"second", options=WriteOptions(create_only=False))
        other = await put(store, "other", b"other")
        for source, etag, error in [
            ("a", first.etag, EtagMismatch),
            ("a", other.etag, EtagMismatch),
            ("none", first.etag, NotFound),
        ]:
            with pytest.raises(error):
                await store.copy(source, etag, "b", WriteOptions())
        assert await absent(store, "b")

    @pytest.mark.usefixtures("copies")
    @pytest.mark.parametrize("create_only", [True, False])
    async def test_a_copy_never_replaces(self, store: BlobStore, create_only: bool) -> None:
        source = await put(store, "a", b"x")
        taken = await put(store, "b", b"taken")
        for target in ("b", "a"):
            with pytest.raises(AlreadyExists):
                await store.copy("a", source.etag, target, WriteOptions(create_only=create_only))
        assert await content_of(store, "b", if_match=taken.etag) == b"taken"
        assert await content_of(store, "a", if_match=source.etag) == b"x"

    @pytest.mark.usefixtures("copies")
    async def test_of_concurrent_copies_to_one_key_one_wins(self, store: BlobStore) -> None:
        sources = [await put(store, f"s/{at}", bytes([at]) * 1000) for at in range(6)]
        copies = (store.copy(f"s/{at}", source.etag, "t", WriteOptions()) for at, source in enumerate(sources))
        results = await asyncio.gather(*copies, return_exceptions=True)
        won = [at for at, result in enumerate(results) if isinstance(result, Stored)]
        assert all(isinstance(result, Stored | AlreadyExists) for result in results)
        assert len(won) == 1 or (won and not self.copies_exclude_each_other)
        assert await content_of(store, "t") in [bytes([at]) * 1000 for at in won]

    @pytest.mark.usefixtures("copies")
    async def test_a_copys_gate_decides(self, store: BlobStore) -> None:
        source = await put(store, "a", b"x")

        async def gate() -> None:
            assert await absent(store, "b")

        with pytest.raises(Boom):
            await store.copy("a", source.etag, "b", gates(Boom()))
        assert await absent(store, "b")
        await store.copy("a", source.etag, "b", WriteOptions(gate=gate))
        assert await content_of(store, "b") == b"x"

    @pytest.mark.usefixtures("copies")
    async def test_hostile_keys_are_copied(self, store: BlobStore) -> None:
        for at, key in enumerate(self.hostile_keys):
            source = await put(store, key, key.encode())
            await store.copy(key, source.etag, f"copied/{at}", WriteOptions())
            assert await content_of(store, f"copied/{at}") == key.encode()


class ConditionalDeleteSuite(StoreSuite):
    """`ConditionalDeletePower`: only the pinned bytes go."""

    @pytest.fixture
    def deletes(self, store: BlobStore) -> None:
        """Only for stores that delete on condition."""
        if not store.capabilities.conditional_delete:
            pytest.skip("no conditional deletes are declared")

    async def test_a_store_that_cannot_delete_on_condition_says_so(self, store: BlobStore) -> None:
        if store.capabilities.conditional_delete:
            pytest.skip("it can")
        stored = await put(store, "k", b"x")
        with pytest.raises(PrismError) as raised:
            await store.delete_if("k", stored.etag)
        assert raised.value.code is ErrorCode.UNIMPLEMENTED
        assert await content_of(store, "k") == b"x"

    @pytest.mark.usefixtures("deletes")
    async def test_the_pinned_bytes_go(self, store: BlobStore) -> None:
        stored = await put(store, "d/k", b"x")
        await put(store, "d/kk", b"x")
        await store.delete_if("d/k", stored.etag)
        assert await absent(store, "d/k")
        await store.delete_if("d/k", stored.etag)
        assert await all_keys(store) == ["d/kk"]

    @pytest.mark.usefixtures("deletes")
    async def test_other_bytes_are_spared(self, store: BlobStore) -> None:
        first = await put(store, "k", b"first")
        second = await put(store, "k", b"second", options=WriteOptions(create_only=False))
        other = await put(store, "other", b"other")
        for wrong in (first.etag, other.etag):
            with pytest.raises(EtagMismatch):
                await store.delete_if("k", wrong)
        assert await content_of(store, "k", if_match=second.etag) == b"second"
        await store.delete_if("k", second.etag)
        assert await absent(store, "k")
