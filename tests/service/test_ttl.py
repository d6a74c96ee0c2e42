"""Lifetimes: who decides, to the second, never early, and what follows for the bytes."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world import Process, World, make_world

from prism.catalog.objects import whole_second
from prism.errors import ErrorCode, PrismError
from prism.lifecycle import parse_duration
from prism.model import ObjectRef


async def absent(prism: Process, key: str, ns: str = "things") -> bool:
    try:
        await prism.head(key, ns=ns)
    except PrismError as error:
        if error.code is ErrorCode.OBJECT_NOT_FOUND:
            return True
        raise
    return False


class TestPrecedence:
    async def test_request_then_namespace_then_pattern(self, world: World, prism: Process) -> None:
        now = world.clock()
        asked = await prism.put("a", b"x", ns="brief", ttl=timedelta(seconds=5))
        default = await prism.put("b", b"x", ns="brief")
        pattern = await prism.put("c", b"x", ns="kept")
        assert asked.expires_at == now + timedelta(seconds=5)
        assert default.expires_at == now + timedelta(seconds=60)
        assert pattern.expires_at == now + timedelta(days=90)

    async def test_no_expiry_needs_the_namespaces_consent(self, prism: Process) -> None:
        assert (await prism.put("k", b"x", no_expiration=True)).expires_at is None
        with pytest.raises(PrismError) as caught:
            await prism.put("k", b"x", ns="brief", no_expiration=True)
        assert caught.value.code is ErrorCode.INVALID_ARGUMENT

    @pytest.mark.parametrize("ttl", [timedelta(0), timedelta(seconds=-1), timedelta(days=100_000)])
    async def test_impossible_lifetimes_are_refused(self, prism: Process, ttl: timedelta) -> None:
        with pytest.raises(PrismError) as caught:
            await prism.put("k", b"x", ttl=ttl)
        assert caught.value.code is ErrorCode.INVALID_ARGUMENT

    async def test_a_copy_takes_its_destinations_default(self, world: World, prism: Process) -> None:
        await prism.put("k", b"x", ttl=timedelta(days=30))
        copied = await prism.copy("k", "k", to="brief")
        assert copied.expires_at == world.clock() + timedelta(seconds=60)

    async def test_an_overwrite_starts_anew(self, world: World, prism: Process) -> None:
        await prism.put("k", b"x", ttl=timedelta(seconds=10))
        world.clock.forward(8)
        await prism.put("k", b"y", ttl=timedelta(seconds=10))
        world.clock.forward(8)
        await prism.rounds()
        assert await prism.get("k") == b"y"


class TestExactness:
    @given(fraction=st.integers(0, 999_999), ttl=st.integers(1, 100_000))
    @settings(max_examples=50, deadline=None)
    async def test_absent_from_the_second_it_expires_and_not_before(self, fraction: int, ttl: int) -> None:
        world = make_world()
        prism = world.start()
        world.clock.forward(fraction / 1_000_000)
        begun = world.clock()
        info = await prism.put("k", b"x", ttl=timedelta(seconds=ttl))
        assert begun + timedelta(seconds=ttl) <= info.expires_at < begun + timedelta(seconds=ttl + 1)
        assert info.expires_at.microsecond == 0
        world.clock.at = info.expires_at - timedelta(microseconds=1)
        await prism.rounds()
        assert await prism.get("k") == b"x"
        world.clock.at = info.expires_at
        assert await absent(prism, "k")
        assert await prism.list() == []

    @given(st.datetimes(timezones=st.just(make_world().clock().tzinfo)))
    def test_rounding_never_comes_early(self, at) -> None:
        try:
            rounded = whole_second(at)
        except OverflowError:
            return
        assert timedelta(0) <= rounded - at < timedelta(seconds=1)
        assert rounded.microsecond == 0

    async def test_bytes_follow_after_the_grace(self, world: World, prism: Process) -> None:
        await prism.put("k", b"x", ttl=timedelta(seconds=60))
        world.clock.forward(61)
        await prism.rounds()
        assert len(await world.stored()) == 1
        assert not await world.rows("things", "o")
        world.clock.forward(3600)
        await prism.rounds(2)
        assert not await world.stored()

    async def test_the_grace_begins_when_the_row_goes(self, world: World, prism: Process) -> None:
        """A janitor that was away, or a clock that stepped ahead, takes no bytes at once."""
        await prism.put("k", b"x", ttl=timedelta(seconds=60))
        world.clock.forward(60 + 2 * 3600)
        await prism.rounds()
        assert not await world.rows("things", "o")
        world.clock.forward(3599)
        await prism.rounds()
        assert len(await world.stored()) == 1
        world.clock.forward(1)
        await prism.rounds()
        assert not await world.stored()

    async def test_an_expired_object_is_no_precondition(self, world: World, prism: Process) -> None:
        from prism.model import Precondition

        await prism.put("k", b"x", ttl=timedelta(seconds=60))
        world.clock.forward(60)
        await prism.put("k", b"y", precondition=Precondition(if_none_match=("*",)))
        assert await prism.get("k") == b"y"
        await world.rest(prism)

    async def test_a_clock_that_steps_back_expires_nothing_and_loses_nothing(
        self, world: World, prism: Process
    ) -> None:
        await prism.put("k", b"x", ttl=timedelta(seconds=60))
        world.clock.forward(-1000)
        await prism.rounds()
        assert await prism.get("k") == b"x"
        await world.check()

    async def test_an_upload_lives_from_its_landing(self, world: World, prism: Process) -> None:
        upload = await prism.presign_put("k", ttl=timedelta(seconds=60))
        world.clock.forward(50)
        await world.land(world.physical("k", upload), b"x")
        world.clock.forward(59)
        assert not await absent(prism, "k")
        world.clock.forward(1)
        assert await absent(prism, "k")


class TestExpiring:
    async def test_what_expires_within_the_window_soonest_first(self, world: World, prism: Process) -> None:
        for key, days in (("c", 3), ("a", 1), ("b", 2), ("late", 30)):
            await prism.put(key, b"x", ttl=timedelta(days=days))
        await prism.put("never", b"x", no_expiration=True)
        await prism.put("gone/k", b"x", ttl=timedelta(days=1))
        await prism.delete_folder("gone/")
        found, token = [], ""
        while True:
            page = await prism.objects.expiring(prism.caller, "things", timedelta(days=7), max_results=2, token=token)
            found += [row.key for row in page.objects]
            token = page.next_token or ""
            if not token:
                break
        assert found == ["a", "b", "c"]

    def test_durations(self) -> None:
        assert parse_duration("7d") == timedelta(days=7)
        assert parse_duration("90") == parse_duration("90s") == timedelta(seconds=90)
        for text in ("", "d", "-1d", "1y", "1.5h", "٣d", "9" * 13):
            with pytest.raises(PrismError):
                parse_duration(text)


class TestVersions:
    async def test_overwritten_and_deleted_content_is_kept_and_counted(self, world: World, prism: Process) -> None:
        for content in (b"1", b"22", b"333"):
            await prism.put("k", content, ns="kept", no_expiration=True)
        assert await prism.delete("k", ns="kept") is True
        assert await absent(prism, "k", "kept")
        await prism.put("k", b"4444", ns="kept", no_expiration=True)
        await world.rest(prism, "kept")
        assert sorted((await world.stored("kept")).values()) == [b"1", b"22", b"333", b"4444"]
        used = await prism.objects.usage(prism.caller, "kept")
        assert (used.objects, used.size_bytes) == (4, 10)

    async def test_a_kept_version_expires_at_its_own_time(self, world: World, prism: Process) -> None:
        await prism.put("k", b"old", ns="kept", ttl=timedelta(seconds=60))
        await prism.put("k", b"new", ns="kept", no_expiration=True)
        await prism.rounds()
        assert len(await world.referenced("kept")) == 2
        world.clock.forward(60)
        await prism.rounds()
        assert len(await world.referenced("kept")) == 1
        world.clock.forward(3599)
        await prism.rounds()
        assert sorted((await world.stored("kept")).values()) == [b"new", b"old"]
        world.clock.forward(1)
        await prism.rounds()
        assert list((await world.stored("kept")).values()) == [b"new"]
        await world.check("kept")

    async def test_a_folders_deletion_takes_all_versions(self, world: World, prism: Process) -> None:
        for content in (b"1", b"2"):
            await prism.put("a/k", content, ns="kept")
        await prism.delete("a/k", ns="kept")
        await prism.delete_folder("a/", ns="kept")
        await world.rest(prism, "kept")
        assert not await world.stored("kept")
        assert not await world.rows("kept", "v")
        assert not await world.rows("kept", "e")

    async def test_a_superseded_upload_goes_under_the_current_one(self, world: World, prism: Process) -> None:
        first, second = [await prism.presign_put("k", ns="kept") for _ in range(2)]
        await world.land(world.physical("k", first, "kept"), b"first", ns="kept")
        world.clock.forward(1)
        await world.land(world.physical("k", second, "kept"), b"second", ns="kept")
        assert await prism.get("k", ns="kept") == b"second"
        assert sorted((await world.stored("kept")).values()) == [b"first", b"second"]
        await world.check("kept")

    async def test_changes_are_announced_in_order(self, world: World, prism: Process) -> None:
        await prism.put("k", b"1", ns="kept")
        await prism.delete("k", ns="kept")
        await prism.objects.delete_prefix(prism.caller, "kept", "", "a/")
        rows = [value for _, value in await world.rows("kept", "x")]
        kinds = [kind for value in rows for kind in ("created", "deleted", "folder") if f"{kind}".encode() in value]
        assert kinds[0] == "created"
        assert len(rows) == 3
        await prism.rounds()
        assert not await world.rows("kept", "x")

    async def test_versions_of_one_namespace_touch_no_other(self, world: World, prism: Process) -> None:
        await prism.objects.put(prism.caller, ObjectRef("kept", "", "k"), _body(), _options())
        assert await prism.list() == []
        assert (await prism.objects.usage(prism.caller, "things")).objects == 0


async def _body():
    yield b"x"


def _options():
    from prism.model import PutOptions

    return PutOptions()
