"""Prism's clock and the store's differ: what was signed is refused, the sentence says why, and no bytes are deleted."""

from datetime import datetime, timedelta
from pathlib import Path

import httpx
import msgspec
import pytest
from moody_front import Mood, front_before
from stores import config_on, real_store
from trouble import World, world_over

from prism.identifiers import utc_now
from prism.testing.running import running_app
from prism.testing.services import service

SKEWED = Mood(status=403, code="RequestTimeTooSkewed")


async def test_a_store_that_refuses_the_clock_at_the_start(tmp_path: Path) -> None:
    """Nothing of its answer to a first look has a body, so the sentence names what it may be."""
    async with (
        real_store("minio") as store,
        real_store("minio") as steady,
        front_before(service("minio").address) as front,
    ):
        front.turns(SKEWED)
        shaky = msgspec.structs.replace(store, endpoint=front.url)
        async with world_over({"shaky": shaky, "steady": steady}, tmp_path) as world:
            assert "clock" in (await world.not_ready())["store of shaky"]
            await world.works("steady")
            front.turns(None)
            await world.tells_trouble(False)
            await world.works()


@pytest.mark.parametrize("ahead", [timedelta(hours=1), -timedelta(hours=1)], ids=["ahead", "behind"])
async def test_the_janitor_stops_until_the_clocks_agree(ahead: timedelta, tmp_path: Path) -> None:
    wrong = [ahead]

    def now() -> datetime:
        return utc_now() + wrong[0]

    async with real_store("minio") as store:
        config = config_on({"things": store}, tmp_path, limits={"read_grace_seconds": 0})
        async with running_app(config=config, now=now) as running, httpx.AsyncClient(base_url=running.http) as api:
            world, space = World(running, api, None), running.app.namespaces.get("things")  # type: ignore[arg-type]
            await world.put("things", "k", b"x")
            told = (await api.post("/v1/namespaces/things/presign", json={"key": "u", "method": "PUT"})).json()
            async with httpx.AsyncClient() as client:
                refused = await client.put(told["url"], content=b"x", headers=told.get("headers") or {})
            assert refused.status_code == 403
            await world.delete("things", "k")
            report = await running.app.janitor.run_once()
            assert report.failed
            assert "no bytes are deleted until they agree" in report.namespaces["things"].stopped
            assert "clock" in (await world.not_ready())["janitor of things"]
            assert len(await space.store.list("k~", "", 10)) == 1
            wrong[0] = timedelta()
            assert not (await running.app.janitor.run_once()).failed
            due_later = ahead > timedelta()
            assert bool(await space.store.list("k~", "", 10)) == due_later
