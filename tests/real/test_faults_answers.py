"""A store that answers, but not with what was asked for: 500, 503 SlowDown, 403, a wrong clock, a bucket that is gone;
and one that lost an object. What users of Prism are told, and how often the store is asked meanwhile."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from botocore.exceptions import ClientError
from moody_front import Front, Mood, front_before
from s3_buckets import client
from stores import real_store
from trouble import MIB, World, held, s3_client, world_over

from prism.testing.services import service
from prism.workers.fsck import fsck

BIG = secrets.token_bytes(12 * MIB)
SLOW_DOWN = Mood(status=503, code="SlowDown", headers={"Retry-After": "7"})
FAILING = Mood(status=500, code="InternalError")
LOCKED_OUT = Mood(status=403, code="AccessDenied")
SKEWED = Mood(status=403, code="RequestTimeTooSkewed")


@contextlib.asynccontextmanager
async def over(folder: Path) -> AsyncIterator[tuple[World, Front]]:
    async with (
        real_store("minio") as store,
        real_store("minio") as other,
        front_before(service("minio").address) as front,
    ):
        shaky = msgspec.structs.replace(store, endpoint=front.url, request_seconds=2.0)
        async with world_over({"shaky": shaky, "steady": other}, folder) as world:
            yield world, front


@contextlib.asynccontextmanager
async def straight(folder: Path) -> AsyncIterator[tuple[World, str]]:
    """With nothing in between; the name of the bucket of `shaky`, with which the test does what it likes."""
    async with (
        real_store("minio") as store,
        real_store("minio") as other,
        world_over({"shaky": store, "steady": other}, folder) as world,
    ):
        yield world, store.bucket


@pytest.fixture
async def moody(tmp_path: Path) -> AsyncIterator[tuple[World, Front]]:
    async with over(tmp_path) as found:
        yield found


@pytest.mark.parametrize(
    ("mood", "says"),
    [
        (FAILING, "fails at the moment"),
        (SLOW_DOWN, "come back later"),
        (LOCKED_OUT, "check the credentials"),
        (SKEWED, "clock"),
    ],
    ids=lambda given: given.code if isinstance(given, Mood) else "",
)
async def test_what_the_store_answers_instead(moody: tuple[World, Front], mood: Mood, says: str) -> None:
    world, front = moody
    assert (await world.put("shaky", "before", BIG)).status in {200, 201}
    front.turns(mood)
    answers = await asyncio.gather(
        world.put("shaky", "small", b"small"), world.put("shaky", "big", BIG), world.get("shaky", "before")
    )
    for answer in answers:
        assert (answer.status, answer.code) == (503, "STORE_DOWN"), answer
        assert says in answer.message
        assert answer.seconds < 20
    assert await world.keys("shaky") == ["before"]
    await world.tells_trouble()
    await world.works("steady")
    front.turns(None)
    await world.tells_trouble(False)
    await world.works()
    assert (await world.get("shaky", "before")).holds == held(BIG)
    assert (await world.put("shaky", "big", BIG)).status in {200, 201}
    await world.clean()


async def test_the_store_says_when_to_come_back(moody: tuple[World, Front]) -> None:
    """Its wish is passed on, and is not waited for on the caller's time when it is long."""
    world, front = moody
    front.turns(SLOW_DOWN)
    answer = await world.put("shaky", "big", BIG)
    assert answer.headers["retry-after"] == "7"
    assert answer.seconds < 5
    assert front.asked <= 2


@pytest.mark.parametrize("mood", [FAILING, SLOW_DOWN], ids=lambda mood: mood.code)
async def test_a_store_in_trouble_is_not_stormed(moody: tuple[World, Front], mood: Mood) -> None:
    """Hundreds of calls that fail are repeated a few dozen times in all, not each four times."""
    world, front = moody
    front.turns(mood)
    for _ in range(4):
        answers = await asyncio.gather(*(world.put("shaky", f"k{at}", b"x") for at in range(75)))
        assert {answer.status for answer in answers} == {503}
    assert 300 <= front.asked <= 300 + 60
    front.turns(None)
    await world.works()


async def test_a_store_in_trouble_does_not_make_the_janitor_storm_it(moody: tuple[World, Front]) -> None:
    """Background work pauses longer and longer, and the next pass after the trouble does all of it."""
    world, front = moody
    for at in range(20):
        await world.put("shaky", f"k{at}", b"x")
        await world.delete("shaky", f"k{at}")
    world.clock.ahead += timedelta(hours=1)
    front.turns(FAILING)
    stop = asyncio.Event()
    running = asyncio.create_task(world.running.app.janitor.run(stop))
    await asyncio.sleep(3)  # the time over which it is counted
    asked = front.asked
    stop.set()
    await running
    assert 0 < asked <= 30
    front.turns(None)
    await world.clean()


async def test_a_bucket_that_is_gone(tmp_path: Path) -> None:
    async with straight(tmp_path) as (world, name):
        s3 = client(service("minio"))
        s3.delete_object(Bucket=name, Key="~owner")
        s3.delete_bucket(Bucket=name)
        for content in (b"small", BIG):
            answer = await world.put("shaky", "k", content)
            assert (answer.status, answer.code) == (503, "STORE_DOWN"), answer
            assert f"no bucket '{name}'" in answer.message
        await world.tells_trouble()
        await world.works("steady")
        s3.create_bucket(Bucket=name)
        await world.works()

        async def marker_is_missed() -> bool:
            return "owner marker is gone" in (await world.not_ready())["store of shaky"]

        await world.until(marker_is_missed)


async def test_an_object_that_vanished_behind_our_back(tmp_path: Path) -> None:
    async with straight(tmp_path) as (world, name):
        for key in ("lost", "kept"):
            await world.put("shaky", key, b"content")
        s3 = client(service("minio"))
        (lost,) = s3.list_objects_v2(Bucket=name, Prefix="lost~")["Contents"]
        s3.delete_object(Bucket=name, Key=lost["Key"])
        answer = await world.get("shaky", "lost")
        assert (answer.status, answer.code) == (500, "DATA_LOSS")
        prism = s3_client(world.running, "shaky")
        bucket = world.running.app.namespaces.get("shaky").rules.own_bucket
        with pytest.raises(ClientError, match="InternalError"):
            await asyncio.to_thread(prism.get_object, Bucket=bucket, Key="lost")
        assert (await world.get("shaky", "kept")).holds == held(b"content")
        assert not await world.not_ready()
        report = await fsck(world.running.app.namespaces.get("shaky"))
        assert report.kinds["missing"].samples == [lost["Key"]]
        assert not report.clean
        assert (await world.put("shaky", "lost", b"again")).status in {200, 201}
        assert (await world.get("shaky", "lost")).holds == held(b"again")
        assert (await fsck(world.running.app.namespaces.get("shaky"))).clean
