"""The conformance suite of long bodies: what a driver sends in parts by itself is still one put.

`BlobSuite` inherits it. 17 MiB is more than any driver sends in one request.
"""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator

import pytest

from ..blob import BlobStore
from ..blob.driver import AlreadyExists, WriteOptions
from .blob_calls import MIB, Boom, StoreSuite, absent, content_of, gates, pattern, pieces_of, put

__all__ = ["LongPutSuite"]


class LongPutSuite(StoreSuite):
    """Puts of more than 16 MiB."""

    holds_bytes = False
    """The objects are in this process's memory: no put is asked to hold little."""
    held_bytes = 12 * MIB
    """The most that a put of 64 MiB may hold."""
    gates_of_a_long_put = 1
    """How often the gate of a put of more than 16 MiB is asked: 2 where a long body goes in parts."""

    async def test_a_long_put_is_observed_before_the_gate_and_appears_whole(self, store: BlobStore) -> None:
        content = pattern(17 * MIB + 5)
        seen: list[bytes] = []
        at_gate: list[int] = []

        async def gate() -> None:
            at_gate.append(sum(map(len, seen)))
            assert await absent(store, "d/k")

        metadata = {"prism-key": "ä", "n": "v"}
        options = WriteOptions(
            content_type="a/b", metadata=metadata, gate=gate, observe=lambda chunk: seen.append(bytes(chunk))
        )
        stored = await put(store, "d/k", *pieces_of(content, 3 * MIB), options=options)
        assert b"".join(seen) == content
        assert len(at_gate) == self.gates_of_a_long_put
        assert at_gate[-1] == len(content)
        assert await content_of(store, "d/k", if_match=stored.etag) == content
        info = await store.head("d/k")
        assert info is not None
        assert (info.size_bytes, info.content_type, dict(info.metadata)) == (len(content), "a/b", metadata)
        assert not await store.open_multiparts("d/k")

    async def test_each_gate_of_a_long_put_may_refuse(self, store: BlobStore) -> None:
        for due in range(1, self.gates_of_a_long_put + 1):
            with pytest.raises(Boom):
                await put(store, "d/k", *[bytes(MIB)] * 17, options=gates(Boom(), due))
            assert await absent(store, "d/k")
            assert not await store.open_multiparts("d/k")

    @pytest.mark.parametrize("cancelled", [False, True])
    async def test_a_long_put_that_ends_half_way_leaves_nothing(self, store: BlobStore, cancelled: bool) -> None:
        waiting = asyncio.Event()

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(17):
                yield bytes(MIB)
            if not cancelled:
                raise Boom
            waiting.set()
            await asyncio.Event().wait()

        task = asyncio.ensure_future(store.put("d/k", chunks(), WriteOptions()))
        if cancelled:
            await waiting.wait()
            task.cancel()
        with pytest.raises(asyncio.CancelledError if cancelled else Boom):
            await task
        assert await absent(store, "d/k")
        assert not await store.open_multiparts("d/k")

    async def test_a_long_put_replaces_nothing(self, store: BlobStore) -> None:
        if not store.capabilities.conditional_put:
            pytest.skip("the store does not refuse it")
        first = await put(store, "d/k", b"first")
        with pytest.raises(AlreadyExists):
            await put(store, "d/k", *[bytes(MIB)] * 17)
        assert await content_of(store, "d/k", if_match=first.etag) == b"first"
        assert not await store.open_multiparts("d/k")

    async def test_a_large_put_holds_little_memory(self, store: BlobStore) -> None:
        if self.holds_bytes:
            pytest.skip("the objects themselves are in memory")

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(64):
                yield bytes(MIB)

        tracemalloc.start()
        try:
            await store.put("k", chunks(), WriteOptions())
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < self.held_bytes
