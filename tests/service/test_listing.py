"""Lists: every key exactly once over all pages, in byte order, common prefixes exact, budgets that end a page early."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world import Process, World, make_world

from prism.catalog import listing
from prism.catalog.listing import Position, Wanted
from prism.errors import ErrorCode, PrismError

KEYS = st.text("ab/", min_size=1, max_size=5)


def expected(keys: set[str], prefix: str, delimiter: str) -> list[str]:
    """What S3's ListObjectsV2 says: keys, those with the delimiter after the prefix rolled up."""
    found = set()
    for key in keys:
        if key.startswith(prefix):
            at = key.find(delimiter, len(prefix)) if delimiter else -1
            found.add(key if at < 0 else key[: at + len(delimiter)])
    return sorted(found)


class TestPages:
    @given(
        live=st.sets(KEYS, max_size=12),
        dead=st.sets(KEYS, max_size=6),
        landed=st.sets(KEYS, max_size=5),
        waiting=st.sets(KEYS, max_size=5),
        prefix=st.sampled_from(["", "a", "a/", "b/a", "/"]),
        delimiter=st.sampled_from(["", "/", "a", "b/"]),
        size=st.integers(1, 5),
    )
    @settings(max_examples=60, deadline=None)
    async def test_pages_hold_every_key_once_in_order(
        self, live, dead, landed, waiting, prefix, delimiter, size
    ) -> None:
        world = make_world()
        prism = world.start()
        for key in live | dead:
            await prism.put(key, b"x", ttl=timedelta(seconds=10) if key in dead else timedelta(days=1))
        world.clock.forward(20)
        for key in landed:
            await world.land(world.physical(key, await prism.presign_put(key)), b"landed")
        for key in waiting:
            await prism.presign_put(key)
        found = await prism.list(prefix, delimiter=delimiter, max_results=size)
        assert found == expected((live - dead) | landed, prefix, delimiter)
        await world.check()

    async def test_a_page_is_at_most_as_long_as_asked(self, prism: Process) -> None:
        for at in range(5):
            await prism.put(f"k{at}", b"x")
        page = await prism.objects.list(prism.caller, "things", "", max_results=2)
        assert [info.key for info in page.objects] == ["k0", "k1"]
        assert page.next_token is not None

    async def test_a_full_last_page_has_no_token(self, prism: Process) -> None:
        for at in range(4):
            await prism.put(f"k{at}", b"x")
        page = await prism.objects.list(prism.caller, "things", "", max_results=4)
        assert page.next_token is None

    async def test_order_is_by_utf8_bytes(self, prism: Process) -> None:
        keys = ["a", "a/", "a/b", "ab", "A", "ü", "\U0001f600", "\uff5e", " "]
        for key in keys:
            await prism.put(key, b"x")
        assert await prism.list() == sorted(keys, key=str.encode)

    async def test_start_after_is_exclusive(self, prism: Process) -> None:
        for key in ("a", "b", "b/1", "b/2", "c"):
            await prism.put(key, b"x")
        assert await prism.list(start_after="b") == ["b/1", "b/2", "c"]
        assert await prism.list(start_after="b", delimiter="/") == ["b/", "c"]
        assert await prism.list(start_after="b/1", delimiter="/") == ["b/", "c"]
        assert await prism.list(start_after="b/", delimiter="/") == ["c"]

    async def test_a_huge_common_prefix_costs_one_skip(self, prism: Process) -> None:
        for at in range(60):
            await prism.put(f"a/{at:03}", b"x")
        await prism.put("b", b"x")
        page = await prism.objects.list(prism.caller, "things", "", delimiter="/", max_results=2)
        assert (page.common_prefixes, [info.key for info in page.objects]) == (("a/",), ["b"])


class TestTokens:
    async def test_altered_or_foreign_tokens_are_refused(self, prism: Process) -> None:
        for key in ("a/1", "a/2", "b/1"):
            await prism.put(key, b"x")
        token = (await prism.objects.list(prism.caller, "things", "", "a/", max_results=1)).next_token
        assert token is not None
        for namespace, prefix, used in (
            ("things", "b/", token),
            ("things", "", token),
            ("brief", "a/", token),
            ("things", "a/", token[:-2] + ("AA" if token[-2:] != "AA" else "BB")),
            ("things", "a/", "rubbish"),
            ("things", "a/", "\u00fc"),
        ):
            with pytest.raises(PrismError) as caught:
                await prism.objects.list(prism.caller, namespace, "", prefix, token=used)
            assert caught.value.code is ErrorCode.INVALID_ARGUMENT

    async def test_negative_sizes_are_refused(self, prism: Process) -> None:
        with pytest.raises(PrismError) as caught:
            await prism.objects.list(prism.caller, "things", "", max_results=-1)
        assert caught.value.code is ErrorCode.INVALID_ARGUMENT


async def walk(world: World, prism: Process, wanted: Wanted) -> tuple[list[str], list[int]]:
    """All pages of a catalog listing whose open promises never land; keys, and how many looks each page asks for."""
    space = prism.spaces["things"]
    keys: list[str] = []
    looks: list[int] = []
    while True:
        asked = wanted

        async def body(view, asked=asked):
            return await listing.page(view, space.rules, asked, world.clock())

        page = await space.meta.read(body)
        keys += [key for key, _ in page.rows]
        keys += page.prefixes
        looks.append(len(page.open))
        if page.resume is None:
            return keys, looks
        assert page.resume != asked.after, "no way forward"
        wanted = Wanted(
            bucket=asked.bucket,
            prefix=asked.prefix,
            delimiter=asked.delimiter,
            limit=asked.limit,
            after=page.resume,
            scan_budget=asked.scan_budget,
            open_budget=asked.open_budget,
        )


class TestBudgets:
    @pytest.mark.parametrize("delimiter", ["", "/"])
    async def test_a_page_asks_for_no_more_looks_than_its_budget(
        self, world: World, prism: Process, delimiter: str
    ) -> None:
        for at in range(30):
            await prism.presign_put(f"f{at:02}/k")
            await prism.presign_put(f"f{at:02}/")
        for at in range(0, 30, 3):
            await prism.put(f"f{at:02}/z", b"x")
        wanted = Wanted(bucket="things", prefix="", delimiter=delimiter, limit=100, open_budget=4)
        keys, looks = await walk(world, prism, wanted)
        tail = "" if delimiter else "z"
        assert sorted(keys) == [f"f{at:02}/{tail}" for at in range(0, 30, 3)]
        assert max(looks) <= 4
        assert sum(looks) == (40 if delimiter else 60)

    async def test_what_is_listed_anyway_needs_no_look(self, world: World, prism: Process) -> None:
        await prism.put("a/x", b"x")
        for at in range(50):
            await prism.presign_put(f"a/{at}")
        wanted = Wanted(bucket="things", prefix="", delimiter="/", limit=100, open_budget=4)
        assert await walk(world, prism, wanted) == (["a/"], [0])

    async def test_all_promises_of_a_key_are_looked_at_on_one_page(self, world: World, prism: Process) -> None:
        for _ in range(5):
            await prism.presign_put("a")
            await prism.presign_put("b")
        wanted = Wanted(bucket="things", prefix="", delimiter="", limit=100, open_budget=2)
        _, looks = await walk(world, prism, wanted)
        assert looks == [5, 5]

    async def test_a_folder_of_dead_rows_ends_a_page_early(self, world: World, prism: Process) -> None:
        for at in range(40):
            await prism.put(f"dead/{at:02}", b"x")
        await prism.put("live", b"x")
        await prism.delete_folder("dead/")
        wanted = Wanted(bucket="things", prefix="", delimiter="", limit=8, scan_budget=10)
        keys, looks = await walk(world, prism, wanted)
        assert keys == ["live"]
        assert len(looks) > 2

    async def test_a_prefix_of_dead_rows_is_not_a_common_prefix(self, prism: Process) -> None:
        for at in range(20):
            await prism.put(f"dead/{at}", b"x")
        await prism.put("live/1", b"x")
        await prism.delete_folder("dead/")
        assert await prism.list(delimiter="/") == ["live/"]

    async def test_a_page_cut_by_its_looks_goes_on_at_the_first_unlooked(self, world: World, prism: Process) -> None:
        for key in ("a", "c", "e"):
            await prism.put(key, b"x")
        for key in ("b", "d", "f"):
            await prism.presign_put(key)
        space = prism.spaces["things"]

        async def body(view):
            wanted = Wanted(bucket="things", prefix="", delimiter="", limit=100, open_budget=1)
            return await listing.page(view, space.rules, wanted, world.clock())

        page = await space.meta.read(body)
        assert [key for key, _ in page.rows] == ["a", "c"]
        assert page.resume == Position("c")
        assert [row.key for row in page.open] == ["b"]


class TestArriving:
    async def test_a_common_prefix_that_only_an_upload_has_is_listed(self, world: World, prism: Process) -> None:
        upload = await prism.presign_put("new/k")
        assert await prism.list(delimiter="/") == []
        await world.land(world.physical("new/k", upload), b"x")
        assert await prism.list(delimiter="/") == ["new/"]

    async def test_more_uploads_than_a_page_looks_at_are_all_found(self, world: World, prism: Process) -> None:
        for at in range(130):
            await world.land(world.physical(f"k{at:03}", await prism.presign_put(f"k{at:03}")), b"x")
        assert await prism.list() == [f"k{at:03}" for at in range(130)]
