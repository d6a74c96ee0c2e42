"""Starts beside stores that are silent, that are somebody else's, or that do things by themselves."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from moody_front import Mood, front_before
from s3_buckets import client
from stores import prism_on, real_store
from structlog.testing import capture_logs
from trouble import held, world_over

from prism.config import S3Store
from prism.errors import ErrorCode, PrismError
from prism.testing.services import service

DOWN = Mood(status=500, code="InternalError")


@contextlib.contextmanager
def silent() -> Iterator[str]:
    """The URL of a server that takes connections and never says anything."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


async def test_silent_stores_cost_the_start_no_more_than_one(tmp_path: Path) -> None:
    async with real_store("minio") as steady:
        with silent() as url:
            one = msgspec.structs.replace(steady, endpoint=url, request_seconds=1.0)
            stores = {f"silent{at}": msgspec.structs.replace(one, bucket=f"bucket-{at}") for at in range(4)}
            began = time.monotonic()
            async with world_over({"steady": steady, **stores}, tmp_path) as world:
                assert time.monotonic() - began < 15
                await world.works("steady")
                assert {f"store of {name}" for name in stores} <= set(await world.not_ready())
                answer = await world.put("silent1", "k", b"x")
                assert (answer.status, answer.code) == (503, "STORE_DOWN")
                assert answer.message.startswith("namespaces.silent1: ")
                assert answer.seconds < 1


async def test_nothing_is_written_and_no_url_given_before_the_store_is_ours(tmp_path: Path) -> None:
    """It belongs to another deployment, as shows when it comes back: the namespace stays refused, and says why."""
    async with (
        real_store("minio") as theirs,
        real_store("minio") as steady,
        front_before(service("minio").address) as front,
    ):
        (tmp_path / "theirs").mkdir()
        async with world_over({"theirs": theirs}, tmp_path / "theirs") as world:
            await world.put("theirs", "k", b"theirs")
        before = stored(theirs)
        front.turns(DOWN)
        shaky = msgspec.structs.replace(theirs, endpoint=front.url, request_seconds=2.0)
        async with world_over({"shaky": shaky, "steady": steady}, tmp_path) as world:
            await refused(world)
            front.turns(None)

            async def known() -> bool:
                return "belongs to another deployment" in (await world.not_ready())["store of shaky"]

            await world.until(known)
            await refused(world)
            await world.works("steady")
        assert stored(theirs) == before
        with pytest.raises(PrismError, match="belongs to another deployment") as raised:
            async with world_over({"shaky": theirs, "steady": steady}, tmp_path):
                pass
        assert raised.value.code is ErrorCode.PERMISSION_DENIED
        assert stored(theirs) == before
        async with world_over({"theirs": theirs}, tmp_path / "theirs") as world:
            assert (await world.get("theirs", "k")).holds == held(b"theirs")


async def refused(world: Any) -> None:
    for answer in (await world.put("shaky", "new", b"x"), await world.get("shaky", "k")):
        assert (answer.status, answer.code) in {(503, "STORE_DOWN"), (404, "OBJECT_NOT_FOUND")}
    for path, asked in (
        ("/v1/namespaces/shaky/presign", {"key": "new", "method": "PUT"}),
        ("/v1/uploads", {"namespace": "shaky", "key": "new"}),
        ("/v1/uploads", {"namespace": "shaky", "key": "new", "in_parts": True, "size_bytes": 6_000_000}),
    ):
        answer = await world.api.post(path, json=asked)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "STORE_DOWN"), answer.text
    await world.running.app.janitor.run_once()


def stored(store: Any) -> list[tuple[str, str]]:
    """Everything in the bucket: keys and etags, and open uploads."""
    s3 = client(service("minio"))
    found = [(one["Key"], one["ETag"]) for one in s3.list_objects_v2(Bucket=store.bucket).get("Contents", ())]
    return found + [(one["Key"], "") for one in s3.list_multipart_uploads(Bucket=store.bucket).get("Uploads", ())]


@pytest.fixture
async def bucket() -> AsyncIterator[S3Store]:
    async with real_store("minio") as store:
        assert isinstance(store, S3Store)
        yield store


async def told(store: S3Store, folder: Path) -> list[tuple[str, str]]:
    """What the start says of the bucket, once it has looked."""
    with capture_logs() as logs:
        async with prism_on({"things": store}, folder), asyncio.timeout(10):
            while not any("said" in one for one in logs):
                await asyncio.sleep(0.05)
    return [(one["event"], one["said"]) for one in logs if one.get("log_level") == "warning" and "said" in one]


async def test_a_bucket_that_keeps_versions_and_deletes_by_itself_is_named(bucket: S3Store, tmp_path: Path) -> None:
    s3 = client(service("minio"))
    s3.put_bucket_versioning(Bucket=bucket.bucket, VersioningConfiguration={"Status": "Enabled"})
    rule = {"ID": "old", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 30}}
    s3.put_bucket_lifecycle_configuration(Bucket=bucket.bucket, LifecycleConfiguration={"Rules": [rule]})
    assert await told(bucket, tmp_path) == [
        ("store.keeps_deleted", "the bucket keeps versions of its own, so deletions free nothing"),
        ("store.deletes", "a rule of the bucket deletes or moves objects by itself"),
    ]
