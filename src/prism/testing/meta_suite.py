"""The conformance suite of metadata drivers: what `Meta` promises, tried over a driver.

A driver's test is a class that inherits `MetaSuite` and gives the fixture `driver`, and `beside`: a function that makes
another driver on the same space, as a second process would have it, also after the first was closed. Every promise is
tried through the front door; concurrency is real, since bodies that wait give way to each other, on two instances at
once."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

import pytest

from ..errors import ErrorCode, PrismError
from ..meta import SCHEMA_VERSION, Entry, Key, Meta, Txn, View, tuples
from ..meta.driver import Driver, Transaction
from .meta_outcomes import OutcomeSuite

__all__ = ["MetaSuite", "refused"]

T = TypeVar("T")
P = "space"
Beside = Callable[[], Driver]


async def refused(work: Awaitable[object]) -> PrismError:
    """The error that `work` ends with."""
    with pytest.raises(PrismError) as caught:
        await work
    return caught.value


def key(*rest: tuples.Element) -> Key:
    return (P, *rest)


async def put(meta: Meta, at: Key, value: bytes) -> None:
    async def body(tx: Txn) -> None:
        tx.set(at, value)

    await meta.transact(str(at[0]), body)


async def fill(meta: Meta, rows: Sequence[tuple[Key, bytes]]) -> None:
    async def body(tx: Txn) -> None:
        for at, value in rows:
            tx.set(at, value)

    await meta.transact(P, body)


async def value_of(meta: Meta, at: Key) -> bytes | None:
    async def body(view: View) -> bytes | None:
        return await view.get(at)

    return await meta.read(body)


async def under(meta: Meta, prefix: Key, limit: int = 10_000, reverse: bool = False) -> list[Entry]:
    async def body(view: View) -> list[Entry]:
        return await view.range(*tuples.span(prefix), limit=limit, reverse=reverse)

    return await meta.read(body)


async def give_way() -> None:
    """Let every other body take a step."""
    await asyncio.sleep(0)


class MetaSuite(OutcomeSuite):
    """Inherit, give `driver` and `beside`, and nothing may fail."""

    @pytest.fixture
    async def meta(self, driver: Driver) -> AsyncIterator[Meta]:
        meta = Meta(driver)
        yield meta
        await meta.close()

    @pytest.fixture
    async def other(self, beside: Beside) -> AsyncIterator[Meta]:
        """A second front door on the same space."""
        meta = Meta(beside())
        yield meta
        await meta.close()

    # what is written is there

    async def test_a_new_space_is_empty(self, meta: Meta) -> None:
        assert await value_of(meta, key("a")) is None
        assert await under(meta, (P,)) == []

    async def test_what_was_written_is_read_at_once_and_by_a_second_instance(self, meta: Meta, other: Meta) -> None:
        await put(meta, key("a"), b"1")
        assert await value_of(meta, key("a")) == await value_of(other, key("a")) == b"1"
        await put(other, key("a"), b"2")
        assert await value_of(meta, key("a")) == b"2"

    async def test_what_was_written_outlives_the_instance(self, meta: Meta, beside: Beside) -> None:
        await put(meta, key("a"), b"1")
        await meta.close()
        again = Meta(beside())
        assert await value_of(again, key("a")) == b"1"
        await again.close()

    @pytest.mark.parametrize("value", [b"", b"\x00", b"\xff" * 3, bytes(range(256)), b"x" * 100_000])
    async def test_values_come_back_byte_for_byte(self, meta: Meta, value: bytes) -> None:
        await put(meta, key("v"), value)
        assert await value_of(meta, key("v")) == value
        assert [entry.value for entry in await under(meta, (P,))] == [value]

    async def test_every_kind_of_key_is_found_again_in_order(self, meta: Meta) -> None:
        keys: list[Key] = [
            *[key("k", element) for element in (b"", b"\x00", b"\x00\xff", b"\xff", b"\xff" * 13)],
            *[key("k", element) for element in ("", "\x00", "a", "a\x00", "a/b", "ä", "\U0001f600")],
            *[key("k", element) for element in (-(2**70), -256, -255, -1, 0, 1, 255, 256, 2**63, 2**70)],
            *[key("k", element) for element in (False, True)],
        ]
        shuffled = random.Random(7).sample(keys, len(keys))
        await fill(meta, [(at, repr(at).encode()) for at in shuffled])
        assert [entry.key for entry in await under(meta, key("k"))] == keys
        assert [await value_of(meta, at) for at in keys] == [repr(at).encode() for at in keys]

    async def test_get_many_answers_in_the_order_asked(self, meta: Meta) -> None:
        await fill(meta, [(key("a"), b"1"), (key("c"), b"3")])

        async def body(view: View) -> list[bytes | None]:
            return await view.get_many([key("c"), key("b"), key("a"), key("c")])

        expected = [b"3", None, b"1", b"3"]
        assert await meta.read(body) == await meta.transact(P, body) == expected
        assert await meta.transact(P, body, prefetch=[key("a"), key("b")]) == expected

    async def test_clear_and_clear_range_remove(self, meta: Meta) -> None:
        await fill(meta, [(key("a", n), b"x") for n in range(10)])

        async def body(tx: Txn) -> None:
            tx.clear(key("a", 0))
            tx.clear(key("never there"))
            tx.clear_range(tuples.pack(key("a", 3)), tuples.pack(key("a", 6)))
            tx.clear_range(tuples.pack(key("a", 9)), tuples.pack(key("a", 9)))

        await meta.transact(P, body)
        assert [entry.key[2] for entry in await under(meta, key("a"))] == [1, 2, 6, 7, 8, 9]

    # ranges

    async def test_ranges_end_where_they_should(self, meta: Meta) -> None:
        await fill(meta, [(key("r", n), str(n).encode()) for n in range(5)])

        async def body(view: View) -> None:
            def at(n: int) -> bytes:
                return tuples.pack(key("r", n))

            async def found(start: bytes, end: bytes, limit: int = 10, reverse: bool = False) -> list[int]:
                rows = await view.range(start, end, limit=limit, reverse=reverse)
                assert all(tuples.pack(row.key) == row.raw for row in rows)
                return [int(row.value) for row in rows]

            whole = tuples.span(key("r"))
            assert await found(*whole) == [0, 1, 2, 3, 4]
            assert await found(*whole, limit=5) == [0, 1, 2, 3, 4]
            assert await found(*whole, limit=2) == [0, 1]
            assert await found(*whole, limit=2, reverse=True) == [4, 3]
            assert await found(*whole, reverse=True) == [4, 3, 2, 1, 0]
            assert await found(at(1), at(3)) == [1, 2]
            assert await found(at(1), at(3), reverse=True) == [2, 1]
            assert await found(at(1) + b"\x00", at(3) + b"\x00") == [2, 3]
            assert await found(at(2), at(2)) == []
            assert await found(at(3), at(1)) == []
            assert await found(*tuples.span(key("r", 0))) == []
            assert await found(*tuples.span(key("q"))) == []
            assert await found(tuples.after(key("r", 3)), whole[1]) == [4]

        await meta.read(body)
        await meta.transact(P, body)

    async def test_prefixes_do_not_run_into_their_neighbours(self, meta: Meta) -> None:
        names = ["a", "a\x00", "a\x01", "a/", "a/b", "ab", "b"]
        await fill(meta, [(key("o", name, "tail"), name.encode()) for name in names])

        async def body(view: View) -> dict[str, list[str]]:
            spans = {name: tuples.span_text(key("o"), name) for name in ("", "a", "a/", "a\x00", "b", "c")}
            found = {}
            for name, (start, end) in spans.items():
                found[name] = [row.value.decode() for row in await view.range(start, end, limit=100)]
            found["exactly a"] = [row.value.decode() for row in await view.range(*tuples.span(key("o", "a")), limit=9)]
            return found

        assert await meta.read(body) == {
            "": names,
            "a": names[:-1],
            "a/": ["a/", "a/b"],
            "a\x00": ["a\x00"],
            "b": ["b"],
            "c": [],
            "exactly a": ["a"],
        }

    async def test_partitions_with_similar_names_do_not_touch(self, meta: Meta) -> None:
        for name in ("a", "ab", "a\x00", "b"):
            await put(meta, (name, "k"), name.encode())
        for name in ("a", "ab", "a\x00", "b"):
            assert [entry.value for entry in await under(meta, (name,))] == [name.encode()]

    async def test_pages_of_a_range_hold_every_row_once(self, meta: Meta) -> None:
        await fill(meta, [(key("p", n), b"") for n in range(57)])

        async def body(view: View) -> list[object]:
            start, end = tuples.span(key("p"))
            found: list[object] = []
            while rows := await view.range(start, end, limit=10):
                found += [row.key[2] for row in rows]
                start = rows[-1].raw + b"\x00"
            return found

        assert await meta.read(body) == list(range(57))

    # a transaction sees itself

    @pytest.mark.parametrize("seed", range(12))
    async def test_a_transaction_reads_what_it_wrote_and_commits_just_that(self, meta: Meta, seed: int) -> None:
        """Random operations on a few keys against a dictionary, half of them over what was there before."""
        choose = random.Random(seed)
        model = {n: bytes([n]) * 8 for n in range(0, 24, 2)}
        await fill(meta, [(key("m", n), value) for n, value in model.items()])

        async def body(tx: Txn) -> None:
            for _ in range(80):
                await self._random_step(tx, model, choose)

        await meta.transact(P, body)
        assert [(row.key[2], row.value) for row in await under(meta, key("m"))] == sorted(model.items())

    @staticmethod
    async def _random_step(tx: Txn, model: dict[int, bytes], choose: random.Random) -> None:
        n, m = sorted((choose.randrange(24), choose.randrange(25)))
        start, end = tuples.pack(key("m", n)), tuples.pack(key("m", m))
        match choose.randrange(7):
            case 0:
                model[n] = choose.randbytes(8)
                tx.set(key("m", n), model[n])
            case 1:
                model.pop(n, None)
                tx.clear(key("m", n))
            case 2:
                if m - n < 8:
                    for gone in range(n, m):
                        model.pop(gone, None)
                    tx.clear_range(start, end)
            case 3:
                total = int.from_bytes(model.get(n, b""), "little") + m
                model[n] = (total % 2**64).to_bytes(8, "little")
                tx.add(key("m", n), m)
            case 4:
                assert await tx.get(key("m", n)) == await tx.peek(key("m", n)) == model.get(n)
            case 5:
                many = await tx.get_many([key("m", n), key("m", m)])
                assert many == [model.get(n), model.get(m)]
            case _:
                limit, reverse = choose.randrange(1, 9), choose.random() < 0.5
                rows = await tx.range(start, end, limit=limit, reverse=reverse)
                expected = sorted((at for at in model if n <= at < m), reverse=reverse)[:limit]
                assert [(row.key[2], row.value) for row in rows] == [(at, model[at]) for at in expected]

    async def test_rows_hidden_by_a_clear_do_not_hide_what_extends_them(self, meta: Meta) -> None:
        await fill(meta, [(at, b"") for at in (key("t", "a"), key("t", "a", 1), key("t", "b"), key("t", "b", 1))])

        async def body(tx: Txn) -> None:
            tx.clear(key("t", "a"))
            tx.clear(key("t", "b", 1))
            for reverse, expected in ((False, key("t", "a", 1)), (True, key("t", "b"))):
                rows = await tx.range(*tuples.span(key("t")), limit=1, reverse=reverse)
                assert [row.key for row in rows] == [expected]

        await meta.transact(P, body)

    async def test_bodies_that_run_together_see_the_counters_of_those_before(self, meta: Meta) -> None:
        async def add(tx: Txn) -> None:
            tx.add(key("n", "a"), 1)

        async def look(tx: Txn) -> tuple[int, int]:
            rows = await tx.range(*tuples.span(key("n")), limit=9)
            tx.set(key("n", "b"), b"")
            return await tx.counter(key("n", "a")), sum(int.from_bytes(row.value, "little") for row in rows)

        async def clear(tx: Txn) -> None:
            tx.clear_range(*tuples.span(key("n")))

        found = await asyncio.gather(*(meta.transact(P, body) for body in (add, look, add, look, clear, add, look)))
        seen = [pair for pair in found if pair is not None]
        assert [counter for counter, _ in seen] == [total for _, total in seen]
        assert max(seen) > (0, 0)

    async def test_nothing_is_seen_by_others_before_the_commit(self, meta: Meta) -> None:
        async def body(tx: Txn) -> bytes | None:
            tx.set(key("a"), b"1")
            return await value_of(meta, key("a"))

        assert await meta.transact(P, body) is None
        assert await value_of(meta, key("a")) == b"1"

    async def test_a_view_is_one_snapshot(self, meta: Meta, other: Meta) -> None:
        await fill(meta, [(key("a"), b"old"), (key("r", 2), b"old")])

        async def write(tx: Txn) -> None:
            for at in (key("a"), key("r", 1), key("r", 3)):
                tx.set(at, b"new")
            tx.clear(key("r", 2))

        async def body(view: View) -> None:
            assert await view.get(key("a")) == b"old"
            await other.transact(P, write)
            assert await view.get(key("a")) == b"old"
            assert await view.get(key("r", 1)) is None
            rows = await view.range(*tuples.span(key("r")), limit=9)
            assert [row.key[2] for row in rows] == [2]

        await meta.read(body)
        assert [entry.key[2] for entry in await under(meta, key("r"))] == [1, 3]

    # counters

    async def test_counters_add_up_over_instances_and_signs(self, meta: Meta, other: Meta) -> None:
        async def body(tx: Txn) -> None:
            await give_way()
            tx.add(key("n"), 3)
            tx.add(key("n"), -1)

        await asyncio.gather(*(instance.transact(P, body) for instance in (meta, other) for _ in range(20)))

        async def count(view: View) -> int:
            return await view.counter(key("n"))

        assert await meta.read(count) == 80
        assert await value_of(meta, key("n")) == (80).to_bytes(8, "little")

        async def below(tx: Txn) -> int:
            tx.add(key("n"), -100)
            return await tx.counter(key("n"))

        assert await meta.transact(P, below) == await other.read(count) == -20

    async def test_adds_and_peeks_never_make_a_body_run_again(self, meta: Meta, other: Meta) -> None:
        runs = 0

        async def body(tx: Txn) -> None:
            nonlocal runs
            runs += 1
            await tx.peek(key("n"))
            await give_way()
            tx.add(key("n"), 1)
            tx.append(key("log"), b"")

        await asyncio.gather(*(instance.transact(P, body) for instance in (meta, other) for _ in range(10)))
        assert runs == 20

    # serialisability

    async def test_no_update_is_lost(self, meta: Meta, other: Meta) -> None:
        async def body(tx: Txn) -> None:
            seen = int(await tx.get(key("n")) or b"0")
            await give_way()
            tx.set(key("n"), str(seen + 1).encode())

        await asyncio.gather(*(instance.transact(P, body) for instance in (meta, other) for _ in range(8)))
        assert await value_of(meta, key("n")) == b"16"

    async def test_of_many_put_if_absent_one_wins(self, meta: Meta, other: Meta) -> None:
        async def attempt(instance: Meta, name: str) -> bool:
            async def body(tx: Txn) -> bool:
                absent = await tx.get(key("one")) is None
                await give_way()
                if absent:
                    tx.set(key("one"), name.encode())
                return absent

            return await instance.transact(P, body)

        names = [f"{side}{n}" for side in "mo" for n in range(8)]
        won = await asyncio.gather(*(attempt(meta if name[0] == "m" else other, name) for name in names))
        winners = [name for name, wins in zip(names, won, strict=True) if wins]
        assert [await value_of(meta, key("one"))] == [name.encode() for name in winners]

    async def test_two_that_read_each_others_row_do_not_both_write(self, meta: Meta, other: Meta) -> None:
        """Write skew: at least one of two must stay on duty."""
        for turn in range(6):
            await fill(meta, [(key("duty", "a", turn), b"on"), (key("duty", "b", turn), b"on")])

            async def leave(instance: Meta, who: str, turn: int = turn) -> None:
                async def body(tx: Txn) -> None:
                    both = await tx.get_many([key("duty", "a", turn), key("duty", "b", turn)])
                    await give_way()
                    if both == [b"on", b"on"]:
                        tx.set(key("duty", who, turn), b"off")

                await instance.transact(P, body)

            await asyncio.gather(leave(meta, "a"), leave(other, "b"))
            states = [await value_of(meta, key("duty", who, turn)) for who in "ab"]
            assert sorted(state or b"" for state in states) == [b"off", b"on"]

    @pytest.mark.parametrize("reverse", [False, True])
    async def test_a_range_that_was_read_stays_as_it_was(self, meta: Meta, other: Meta, reverse: bool) -> None:
        """Phantoms: a body that counted rows must not commit beside one that added to them."""

        async def join(instance: Meta, name: int) -> None:
            async def body(tx: Txn) -> None:
                rows = await tx.range(*tuples.span(key("seat")), limit=10, reverse=reverse)
                await give_way()
                if len(rows) < 3:
                    tx.set(key("seat", name), b"")

            await instance.transact(P, body)

        await asyncio.gather(*(join(meta if name % 2 else other, name) for name in range(12)))
        assert len(await under(meta, key("seat"))) == 3

    async def test_what_a_clear_range_removes_unseen_still_conflicts(self, meta: Meta, other: Meta) -> None:
        """One empties a range and the other relies on a row in it: never both as if alone."""
        for turn in range(4):
            await fill(meta, [(key("dir", turn, "file"), b""), (key("link", turn), b"")])
            spans = tuples.span(key("dir", turn))

            async def empty(tx: Txn, turn: int = turn, spans: tuple[bytes, bytes] = spans) -> bool:
                used = await tx.get(key("used", turn)) is not None
                await give_way()
                if not used:
                    tx.clear_range(*spans)
                return not used

            async def use(tx: Txn, turn: int = turn) -> bool:
                there = await tx.get(key("dir", turn, "file")) is not None
                await give_way()
                if there:
                    tx.set(key("used", turn), b"")
                return there

            outcomes = await asyncio.gather(meta.transact(P, empty), other.transact(P, use))
            assert sorted(outcomes) == [False, True]

    async def test_a_limit_read_and_added_to_holds(self, meta: Meta, other: Meta) -> None:
        async def body(tx: Txn) -> bool:
            room = await tx.counter(key("n")) < 5
            await give_way()
            if room:
                tx.add(key("n"), 1)
            return room

        taken = await asyncio.gather(*(m.transact(P, body) for m in (meta, other) for _ in range(6)))
        assert sum(taken) == 5

    async def test_money_moves_but_is_never_made(self, meta: Meta, other: Meta) -> None:
        await fill(meta, [(key("account", n), b"100") for n in range(4)])

        async def move(instance: Meta, seed: int) -> None:
            giver, taker = random.Random(seed).sample(range(4), 2)

            async def body(tx: Txn) -> None:
                had = int(await tx.get(key("account", giver)) or b"0")
                await give_way()
                has = int(await tx.get(key("account", taker)) or b"0")
                tx.set(key("account", giver), str(had - 7).encode())
                tx.set(key("account", taker), str(has + 7).encode())

            await instance.transact(P, body)

        async def audit() -> int:
            async def body(view: View) -> int:
                amounts = []
                for n in range(4):
                    amounts.append(int(await view.get(key("account", n)) or b"0"))
                    await give_way()
                return sum(amounts)

            return await meta.read(body)

        moves = [move(meta if seed % 2 else other, seed) for seed in range(16)]
        totals = (await asyncio.gather(*moves, *(audit() for _ in range(8))))[len(moves) :]
        assert totals == [400] * 8
        assert await audit() == 400

    # bodies

    async def test_a_body_that_raises_leaves_nothing_and_disturbs_nobody(self, meta: Meta) -> None:
        class Own(Exception):
            pass

        async def work(n: int) -> int:
            async def body(tx: Txn) -> int:
                tx.set(key("w", n), b"x")
                tx.add(key("n"), 1)
                tx.append(key("log"), str(n).encode())
                if n % 3 == 0:
                    raise Own(n)
                return n

            return await meta.transact(P, body)

        ended = await asyncio.gather(*(work(n) for n in range(30)), return_exceptions=True)
        assert [type(end) is Own for end in ended] == [n % 3 == 0 for n in range(30)]
        good = [n for n in range(30) if n % 3]
        assert [end for end in ended if isinstance(end, int)] == good
        assert [row.key[2] for row in await under(meta, key("w"))] == good
        assert sorted(int(row.value) for row in await under(meta, key("log"))) == good
        assert await value_of(meta, key("n")) == (20).to_bytes(8, "little")

    async def test_a_cancelled_caller_is_whole_or_not_at_all_and_disturbs_nobody(self, meta: Meta) -> None:
        async def work(n: int) -> None:
            async def body(tx: Txn) -> None:
                tx.set(key("c", n, "a"), b"")
                await give_way()
                tx.set(key("c", n, "b"), b"")

            await meta.transact(P, body)

        tasks = [asyncio.ensure_future(work(n)) for n in range(12)]
        await give_way()
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await put(meta, key("end"), b"")
        there = [(row.key[2], row.key[3]) for row in await under(meta, key("c"))]
        assert {(n, part) for n in range(1, 12, 2) for part in "ab"} <= set(there)
        assert all((n, other) in there for n, part in there for other in "ab" if other != part)

    async def test_a_body_that_takes_too_long_is_ended(self, beside: Beside) -> None:
        meta = Meta(beside(), transaction_seconds=0.05)

        async def slow(tx: Txn) -> None:
            tx.set(key("a"), b"")
            await asyncio.sleep(30)

        async def slow_read(view: View) -> None:
            await asyncio.sleep(30)

        assert (await refused(meta.transact(P, slow))).code == ErrorCode.DEADLINE_EXCEEDED
        assert (await refused(meta.read(slow_read))).code == ErrorCode.DEADLINE_EXCEEDED
        assert await value_of(meta, key("a")) is None
        await put(meta, key("a"), b"1")
        await meta.close()

    # limits

    async def test_limits_are_those_of_the_narrowest_store(self, meta: Meta) -> None:
        def longest(more: int) -> Key:
            return key("k" * (10_000 - len(tuples.pack(key(""))) + more))

        assert len(tuples.pack(longest(0))) == 10_000
        await put(meta, longest(0), b"x" * 100_000)
        assert await value_of(meta, longest(0)) == b"x" * 100_000
        for at, value in ((longest(1), b""), (key("a"), b"x" * 100_001)):
            assert (await refused(put(meta, at, value))).code == ErrorCode.TOO_LARGE
        assert await value_of(meta, key("a")) is None

        async def append(tx: Txn) -> None:
            tx.append(key("log"), b"x" * 100_001)

        assert (await refused(meta.transact(P, append))).code == ErrorCode.TOO_LARGE

    async def test_a_transaction_has_a_bounded_size(self, meta: Meta) -> None:
        async def body(tx: Txn) -> None:
            for n in range(101):
                tx.set(key("big", n), b"x" * 99_000)

        error = await refused(meta.transact(P, body))
        assert error.code == ErrorCode.TOO_LARGE
        assert not error.retryable
        assert await under(meta, key("big")) == []

    async def test_other_partitions_are_refused(self, meta: Meta) -> None:
        strange: list[Key] = [("other", "a"), ("spac", "a"), ("spacee",), ("space\x00", "a"), (), (1, P), (b"space",)]
        for at in strange:

            async def read(tx: Txn, at: Key = at) -> None:
                await tx.get(at)

            async def write(tx: Txn, at: Key = at) -> None:
                tx.set(key("a"), b"")
                tx.set(at, b"")

            for body in (read, write):
                assert (await refused(meta.transact(P, body))).code == ErrorCode.INTERNAL
        for start, end in ((b"", tuples.span((P,))[1]), (tuples.pack((P,)), b"\xff"), tuples.span(("other",))):

            async def scan(tx: Txn, start: bytes = start, end: bytes = end) -> None:
                await tx.range(start, end, limit=1)

            async def sweep(tx: Txn, start: bytes = start, end: bytes = end) -> None:
                tx.clear_range(start, end)

            for ranging in (scan, sweep):
                assert (await refused(meta.transact(P, ranging))).code == ErrorCode.INTERNAL
        assert await value_of(meta, key("a")) is None

    # append

    async def test_what_one_transaction_appends_stands_in_the_order_of_calls(self, meta: Meta) -> None:
        async def body(tx: Txn) -> None:
            for n in range(300):
                tx.append(key("log"), str(n).encode())
            assert await tx.range(*tuples.span(key("log")), limit=1) == []

        await meta.transact(P, body)
        rows = await under(meta, key("log"))
        assert [int(row.value) for row in rows] == list(range(300))
        assert len({row.key for row in rows}) == 300
        for row in rows[:3]:
            stamp = row.key[-1]
            assert isinstance(stamp, bytes)
            assert len(stamp) == tuples.STAMP_BYTES
            assert await value_of(meta, (*key("log"), bytes(stamp))) == row.value

    async def test_stamps_follow_the_order_of_commits_on_both_instances(self, meta: Meta, other: Meta) -> None:
        for n in range(20):

            async def body(tx: Txn, n: int = n) -> None:
                tx.append(key("log"), str(n).encode())

            await (meta if n % 3 else other).transact(P, body)
        assert [int(row.value) for row in await under(meta, key("log"))] == list(range(20))

    async def test_a_follower_misses_nothing_that_many_writers_append(self, meta: Meta, other: Meta) -> None:
        async def write(instance: Meta, writer: int) -> None:
            for n in range(10):

                async def body(tx: Txn, n: int = n) -> None:
                    await tx.get(key("busy", writer % 3))
                    await give_way()
                    tx.append(key("log"), f"{writer}.{n}".encode())
                    tx.append(key("log"), f"{writer}.{n}+".encode())
                    tx.set(key("busy", writer % 3), b"")

                await instance.transact(P, body)

        async def follow(instance: Meta, seen: list[str]) -> None:
            start, end = tuples.span(key("log"))
            async with asyncio.timeout(60):
                while len(seen) < 160:

                    async def body(view: View, start: bytes = start) -> list[Entry]:
                        return await view.range(start, end, limit=7)

                    rows = await instance.read(body)
                    seen += [row.value.decode() for row in rows]
                    start = tuples.after(rows[-1].key) if rows else start
                    await give_way()

        followers: tuple[list[str], list[str]] = ([], [])
        writers = [write(meta if writer % 2 else other, writer) for writer in range(8)]
        await asyncio.gather(follow(meta, followers[0]), follow(other, followers[1]), *writers)
        assert followers[0] == followers[1] == [row.value.decode() for row in await under(meta, key("log"))]
        for writer in range(8):
            own = [entry for entry in followers[0] if entry.startswith(f"{writer}.")]
            assert own == [f"{writer}.{n}{plus}" for n in range(10) for plus in ("", "+")]

    # the space

    async def test_a_space_of_a_newer_program_is_refused(self, meta: Meta, driver: Driver) -> None:
        await meta.check_schema()
        await meta.check_schema()

        async def newer(tx: Transaction) -> None:
            rows = await tx.range(b"\xf8\x00", b"\xf8\x01", 100, False)
            (schema,) = [at for at, _ in rows if at.endswith(b"schema")]
            tx.set(schema, str(SCHEMA_VERSION + 1).encode())

        await driver.transact(b"\x00", newer, ())
        error = await refused(meta.check_schema())
        assert error.code == ErrorCode.SCHEMA_MISMATCH
        assert str(SCHEMA_VERSION + 1) in error.message

    async def test_what_the_front_door_keeps_is_in_nobodys_range(self, meta: Meta) -> None:
        await meta.check_schema()
        await put(meta, key("a"), b"1")

        async def everything(view: View) -> list[Entry]:
            return await view.range(*tuples.span(()), limit=100)

        assert [entry.key for entry in await meta.read(everything)] == [key("a")]

    async def test_a_closed_front_door_says_so(self, meta: Meta) -> None:
        await put(meta, key("a"), b"1")
        await meta.close()
        for work in (put(meta, key("a"), b"2"), value_of(meta, key("a"))):
            error = await refused(work)
            assert error.code == ErrorCode.CATALOG_DOWN
        await meta.close()
