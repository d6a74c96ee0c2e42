"""The part of the metadata suite in which commits fail: conflicts, unknown outcomes, a store that is down.

The driver under test is wrapped in a faulty one. Whatever is injected, a caller hears the truth: what it is told
happened exactly once, and a put-if-absent is never told that it lost to itself.
"""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from ..errors import ErrorCode, PrismError
from ..meta import Entry, Meta, Txn, View, tuples
from ..meta.driver import Driver
from ..meta.outcomes import Markers
from .faulty_meta import Fault, FaultyMeta

__all__ = ["OutcomeSuite"]

P = "space"
_MARKERS = (b"\xf8" + tuples.pack((P,)), b"\xf8" + tuples.pack((P,)) + b"\xff")


async def put_if_absent(meta: Meta, name: str) -> bool:
    async def body(tx: Txn) -> bool:
        if await tx.get((P, "one")) is not None:
            return False
        tx.set((P, "one"), name.encode())
        tx.append((P, "log"), name.encode())
        tx.add((P, "n"), 1)
        return True

    return await meta.transact(P, body)


async def seen(meta: Meta) -> tuple[bytes | None, list[bytes], int]:
    """What `put_if_absent` left."""

    async def body(view: View) -> tuple[bytes | None, list[Entry], int]:
        log = await view.range(*tuples.span((P, "log")), limit=100)
        return await view.get((P, "one")), log, await view.counter((P, "n"))

    one, log, count = await meta.read(body)
    return one, [row.value for row in log], count


async def markers_in(driver: Driver) -> int:
    async with driver.snapshot() as snapshot:
        return len(await snapshot.range(*_MARKERS, 10_000, False))


class OutcomeSuite:
    """Part of `MetaSuite`."""

    @pytest.fixture
    async def faulty(self, driver: Driver) -> AsyncIterator[FaultyMeta]:
        faulty = FaultyMeta(driver)
        yield faulty
        await faulty.close()

    @pytest.mark.parametrize(
        "faults",
        [
            [Fault.COMMITTED],
            [Fault.LOST],
            [Fault.COMMITTED, Fault.DOWN],
            [Fault.LOST, Fault.DOWN, Fault.SLOW],
            [Fault.CONFLICT, Fault.COMMITTED],
            [Fault.LOST, None, Fault.LOST, None, Fault.COMMITTED],
            [Fault.COMMITTED, Fault.LOST, Fault.COMMITTED, Fault.CONFLICT],
            [Fault.LOST, Fault.LOST, Fault.COMMITTED, Fault.CONFLICT],
            [Fault.COMMITTED, Fault.COMMITTED, Fault.COMMITTED],
        ],
    )
    async def test_an_unknown_outcome_is_found_out(self, faulty: FaultyMeta, faults: list[Fault | None]) -> None:
        """The list says what the attempt, then each look at its outcome or repetition of it meets."""
        meta = Meta(faulty)
        await _warm(meta)
        faulty.inject(*faults)
        assert await put_if_absent(meta, "first")
        assert not await put_if_absent(meta, "second")
        assert await seen(meta) == (b"first", [b"first"], 1)

    async def test_callers_at_once_with_unknown_outcomes_have_one_winner(
        self, faulty: FaultyMeta, beside: Callable[[], Driver]
    ) -> None:
        meta, other = Meta(faulty), Meta(beside())
        await _warm(meta)
        faulty.inject(*[Fault.COMMITTED, Fault.LOST, None, Fault.CONFLICT] * 6)
        names = [f"n{n}" for n in range(12)]
        won = await asyncio.gather(*(put_if_absent(meta if n % 3 else other, name) for n, name in enumerate(names)))
        assert sum(won) == 1
        winner = names[won.index(True)].encode()
        assert await seen(meta) == (winner, [winner], 1)
        await other.close()

    async def test_a_store_that_never_says_is_an_unknown_outcome_in_bounded_time(self, faulty: FaultyMeta) -> None:
        meta = Meta(faulty)
        await _warm(meta)
        before = faulty.calls
        faulty.always(Fault.COMMITTED)
        # the first attempt is committed and every look finds that, without being able to say so
        error = await _refused(put_if_absent(meta, "first"))
        assert error.code == ErrorCode.OUTCOME_UNKNOWN
        assert error.retryable
        assert faulty.calls - before < 50
        faulty.always(None)
        assert not await put_if_absent(meta, "second")
        assert await seen(meta) == (b"first", [b"first"], 1)

    async def test_conflicts_are_repeated_and_then_given_up(self, faulty: FaultyMeta) -> None:
        meta = Meta(faulty)
        await _warm(meta)
        faulty.inject(*[Fault.CONFLICT] * 5)
        assert await put_if_absent(meta, "first")
        before = faulty.calls
        faulty.always(Fault.CONFLICT)
        error = await _refused(put_if_absent(meta, "second"))
        assert error.code == ErrorCode.CATALOG_DOWN
        assert error.retryable
        assert 5 < faulty.calls - before < 50
        assert await seen(meta) == (b"first", [b"first"], 1)

    async def test_a_store_that_is_down_is_said_to_be(self, faulty: FaultyMeta) -> None:
        meta = Meta(faulty)
        await _warm(meta)
        faulty.inject(Fault.DOWN)
        faulty.inject_reads(Fault.DOWN)
        for work in (put_if_absent(meta, "first"), seen(meta)):
            error = await _refused(work)
            assert error.code == ErrorCode.CATALOG_DOWN
            assert error.retryable
        assert await put_if_absent(meta, "first")
        assert await seen(meta) == (b"first", [b"first"], 1)

    async def test_a_store_that_goes_down_before_it_says_is_no_success_and_no_failure(self, faulty: FaultyMeta) -> None:
        meta = Meta(faulty)
        await _warm(meta)
        faulty.inject(Fault.COMMITTED)
        faulty.always(Fault.DOWN)
        assert (await _refused(put_if_absent(meta, "first"))).code == ErrorCode.OUTCOME_UNKNOWN
        faulty.always(None)
        assert not await put_if_absent(meta, "second")

    async def test_markers_do_not_pile_up(self, faulty: FaultyMeta, driver: Driver) -> None:
        meta = Meta(faulty)
        for _ in range(40):
            await put_if_absent(meta, "x")
        assert await markers_in(driver) == 1
        await asyncio.gather(*(put_if_absent(meta, "x") for _ in range(10)))
        assert await markers_in(driver) <= 10

    async def test_markers_of_dead_processes_are_swept(self, faulty: FaultyMeta, driver: Driver) -> None:
        async def nothing(tx: object) -> None:
            return None

        async def run_at(at: float, process: bytes) -> None:
            markers, partition = Markers(faulty, lambda: at, process), tuples.pack((P,))
            slot = await markers.take(partition)
            await faulty.transact(partition, markers.marked(slot, nothing), ())

        for n, process in enumerate((b"\x00" * 8, b"\xff" * 8, b"process3")):
            await run_at(1_000_000.0 + n * 1000, process)
        assert await markers_in(driver) == 3
        await run_at(1_000_000.0 + 86_400 + 1500, b"process4")
        assert await markers_in(driver) == 2


async def _warm(meta: Meta) -> None:
    """Let the partition's first use, which sweeps old markers, pass without faults."""

    async def body(tx: Txn) -> None:
        return None

    await meta.transact(P, body)


async def _refused(work: object) -> PrismError:
    with pytest.raises(PrismError) as caught:
        await work  # type: ignore[misc]  # a coroutine of any kind
    return caught.value
