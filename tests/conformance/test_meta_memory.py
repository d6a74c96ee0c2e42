"""The memory driver keeps the port's promises, plain and with a faulty driver round it, and conflicts where it must."""

import asyncio
from collections.abc import Callable

import pytest

from prism.errors import ErrorCode, PrismError
from prism.meta import Meta, Txn, open_meta, tuples
from prism.meta.driver import Driver
from prism.meta.memory import MemoryDriver, MemorySpace
from prism.testing.faulty_meta import Fault, FaultyMeta
from prism.testing.meta_suite import MetaSuite, key, put, value_of

P = "space"


class TestMemory(MetaSuite):
    @pytest.fixture
    def space(self) -> MemorySpace:
        return MemorySpace()

    @pytest.fixture
    async def driver(self, space: MemorySpace) -> Driver:
        return MemoryDriver(space)

    @pytest.fixture
    def beside(self, space: MemorySpace) -> Callable[[], Driver]:
        return lambda: MemoryDriver(space)


class TestFaultyRoundMemory(TestMemory):
    """The layer changes nothing while it injects nothing, and marks every transaction."""

    @pytest.fixture
    async def driver(self, space: MemorySpace) -> Driver:
        return FaultyMeta(MemoryDriver(space))

    @pytest.fixture
    def beside(self, space: MemorySpace) -> Callable[[], Driver]:
        return lambda: FaultyMeta(MemoryDriver(space))


async def _claim(meta: Meta, name: bytes) -> bool:
    async def body(tx: Txn) -> bool:
        if await tx.get(key("one")) is not None:
            return False
        tx.set(key("one"), name)
        tx.add(key("n"), 1)
        return True

    return await meta.transact(P, body)


async def test_a_commit_that_comes_late_is_fenced_and_its_caller_told_the_truth() -> None:
    faulty = FaultyMeta(MemoryDriver())
    meta = Meta(faulty)
    await put(meta, key("warm"), b"")
    faulty.inject(Fault.LATE)
    assert await _claim(meta, b"first")
    assert await faulty.release() == [False]
    assert await value_of(meta, key("n")) == (1).to_bytes(8, "little")
    assert not await _claim(meta, b"second")
    await meta.close()


async def test_a_caller_who_heard_of_a_failure_is_not_overtaken_by_a_late_success() -> None:
    """The repetition decides otherwise, so only the fence stands between the first attempt and its commit."""
    faulty = FaultyMeta(MemoryDriver())
    meta, runs = Meta(faulty), 0

    async def body(tx: Txn) -> None:
        nonlocal runs
        runs += 1
        if runs == 2:
            raise PrismError(ErrorCode.QUOTA_EXCEEDED, "too much")
        tx.set(key("a"), b"")

    await put(meta, key("warm"), b"")
    faulty.inject(Fault.LATE)
    with pytest.raises(PrismError, match="too much"):
        await meta.transact(P, body)
    assert await faulty.release() == [False]
    assert await value_of(meta, key("a")) is None
    await meta.close()


async def test_a_blind_write_that_comes_late_does_not_undo_what_came_after() -> None:
    faulty = FaultyMeta(MemoryDriver())
    meta = Meta(faulty)
    await put(meta, key("warm"), b"")
    faulty.inject(Fault.LATE)
    await put(meta, key("a"), b"first")
    await put(meta, key("a"), b"second")
    assert await faulty.release() == [False]
    assert await value_of(meta, key("a")) == b"second"
    await meta.close()


async def test_a_transaction_that_only_reads_does_not_run_again() -> None:
    meta, runs = await open_meta("memory:"), 0

    async def body(tx: Txn) -> bytes | None:
        nonlocal runs
        runs += 1
        before = await tx.get(key("a"))
        await put(meta, key("a"), b"new")
        assert await tx.get(key("a")) == before
        return before

    assert await meta.transact(P, body) is None
    assert runs == 1


async def test_a_limited_range_conflicts_only_with_what_it_saw() -> None:
    meta = await open_meta("memory:")
    for n in range(5):
        await put(meta, key("r", n), b"")
    for written, expected in ((4, 1), (1, 2)):
        runs = 0

        async def body(tx: Txn, written: int = written) -> None:
            nonlocal runs
            runs += 1
            await tx.range(*tuples.span(key("r")), limit=3)
            if runs == 1:
                await put(meta, key("r", written), b"new")
            tx.set(key("out"), b"")

        await meta.transact(P, body)
        assert runs == expected


async def test_no_history_is_kept_once_nobody_can_ask_for_it() -> None:
    space = MemorySpace()
    meta = Meta(MemoryDriver(space))

    async def body(tx: Txn) -> None:
        await tx.get(key("a"))
        await asyncio.sleep(0)
        tx.add(key("n"), 1)

    await asyncio.gather(*(meta.transact(P, body) for _ in range(50)))
    assert space.history == 0


async def test_only_known_urls_are_opened() -> None:
    for url in ("postgresql://host/db", "fdb:///etc/fdb.cluster", "sqlite:relative", "sqlite:///", "mysql://x", ""):
        with pytest.raises(PrismError) as caught:
            await open_meta(url)
        assert caught.value.code == ErrorCode.UNIMPLEMENTED
