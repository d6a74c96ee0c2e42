"""The composition: what `open_app` puts together, whose stores it takes, what it says of readiness, and how it ends."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from prism.app import Wraps, open_app
from prism.errors import ErrorCode, PrismError
from prism.identifiers import new_request_id, version_ids
from prism.model import Caller, ObjectRef, PutOptions
from prism.testing.running import config_for, running_app

ROOT = Path(__file__).parents[2]


async def once(content):
    yield content


def caller(app):
    return Caller(principal=app.services.access.anonymous(), request_id=app.services.new_request_id(), api="test")


def test_version_ids_ascend_and_differ_whatever_the_clock_does():
    times = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=second) for second in (5, 5, 3, 9, 1)]
    one, other = version_ids(iter(times).__next__), version_ids(iter(times).__next__)
    made, others = [one() for _ in times], [other() for _ in times]
    assert made == sorted(set(made))
    assert not set(made) & set(others)
    assert all(re.fullmatch(r"[0-9a-z]{26}", name) for name in made)


def test_request_ids_differ():
    assert len({new_request_id() for _ in range(1000)}) == 1000


async def test_what_was_put_is_there_after_a_restart(tmp_path):
    ref = ObjectRef("user-uploads", "", "key")
    config = config_for(tmp_path, memory=False)
    async with open_app(config) as app:
        await app.services.objects.put(caller(app), ref, once(b"content"), PutOptions())
        first = app.deployment
    async with open_app(config) as app:
        assert app.deployment == first
        opened = await app.services.objects.get(caller(app), ref)
        assert b"".join([chunk async for chunk in opened.chunks()]) == b"content"


async def test_many_that_open_a_new_folder_at_once_agree_whose_it_is(tmp_path):
    config = config_for(tmp_path, memory=False)

    async def identity():
        async with open_app(config) as app:
            return app.deployment.id

    assert len(set(await asyncio.gather(*(identity() for _ in range(4))))) == 1


async def test_a_store_of_another_catalog_is_refused(tmp_path):
    async with open_app(config_for(tmp_path, memory=False)):
        pass
    other = config_for(tmp_path, memory=False, overrides={"meta.url": f"sqlite:///{tmp_path}/other.sqlite"})
    with pytest.raises(PrismError, match="another deployment") as refused:
        async with open_app(other):
            pass
    assert refused.value.code is ErrorCode.PERMISSION_DENIED


async def test_blobs_without_marker_and_catalog_are_nobodys_garbage(tmp_path):
    """With the catalog the marker may go too; whoever claimed the store then would take all in it for garbage."""
    ref = ObjectRef("user-uploads", "", "a/key")
    config = config_for(tmp_path, memory=False)
    async with open_app(config) as app:
        await app.services.objects.put(caller(app), ref, once(b"content"), PutOptions())
    (marker,) = tmp_path.rglob("user-uploads/~owner")
    marker.unlink()
    async with open_app(config) as app:  # the catalog knows them: the marker is made again
        opened = await app.services.objects.get(caller(app), ref)
        assert b"".join([chunk async for chunk in opened.chunks()]) == b"content"
    marker.unlink()
    other = config_for(tmp_path, memory=False, overrides={"meta.url": f"sqlite:///{tmp_path}/other.sqlite"})
    for store in tmp_path.rglob("~owner"):
        store.unlink()
    with pytest.raises(PrismError, match="does not know") as refused:
        async with open_app(other):
            pass
    assert refused.value.code is ErrorCode.PERMISSION_DENIED
    assert not marker.exists()


async def test_a_list_goes_on_after_a_restart(tmp_path):
    config = config_for(tmp_path, memory=False)
    async with open_app(config) as app:
        for key in ("a", "b", "c"):
            await app.services.objects.put(caller(app), ObjectRef("user-uploads", "", key), once(b"x"), PutOptions())
        page = await app.services.objects.list(caller(app), "user-uploads", "", max_results=2)
    async with open_app(config) as app:
        page = await app.services.objects.list(caller(app), "user-uploads", "", max_results=2, token=page.next_token)
        assert [found.key for found in page.objects] == ["c"]


async def test_unfinished_work_is_waited_for_at_the_end_and_no_longer_than_allowed(tmp_path):
    config = config_for(tmp_path, memory=True, overrides={"server.shutdown_seconds": "0.1"})
    done, never = [], asyncio.Event()
    async with open_app(config) as app:
        tasks = next(iter(app.namespaces)).tasks
        soon = asyncio.ensure_future(tasks.to_end(_note(done)))
        stuck = asyncio.ensure_future(tasks.to_end(never.wait()))
        await asyncio.sleep(0)
    assert done == ["done"]
    assert not stuck.done()
    never.set()
    await asyncio.gather(soon, stuck)


async def _note(done):
    await asyncio.sleep(0)
    done.append("done")


class _Broken:
    """A store that answers nothing once it is told to fail."""

    def __init__(self, driver):
        self._driver = driver
        self.failing = False

    def __getattr__(self, name):
        if self.failing:
            raise OSError(5, "broken")
        return getattr(self._driver, name)


async def test_readiness_names_what_does_not_answer_and_recovers():
    made = []

    def wrap(driver):
        made.append(_Broken(driver))
        return made[-1]

    async with running_app(wraps=Wraps(blob=wrap)) as prism, httpx.AsyncClient(base_url=prism.http) as http:
        assert (await http.get("/readyz")).status_code == 200
        made[0].failing = True
        answer = await _until(http, 503)
        assert "store of user-uploads" in answer.text
        assert (await http.get("/healthz")).status_code == 200
        made[0].failing = False
        await _until(http, 200)
        prism.app.readiness.stop()
        assert (await http.get("/readyz")).status_code == 503


class _Ahead(_Broken):
    async def now(self):
        return await self._driver.now() + timedelta(hours=1)


async def test_readiness_says_so_while_no_bytes_may_be_deleted():
    made = []

    def wrap(driver):
        made.append(_Ahead(driver))
        return made[-1]

    async with running_app(wraps=Wraps(blob=wrap)) as prism, httpx.AsyncClient(base_url=prism.http) as http:
        ref = ObjectRef("user-uploads", "", "key")
        await prism.app.services.objects.put(caller(prism.app), ref, once(b"content"), PutOptions())
        await prism.app.services.objects.delete(caller(prism.app), ref)
        assert (await http.get("/readyz")).status_code == 200
        await prism.app.janitor.run_once()
        answer = await _until(http, 503)
        assert "janitor of user-uploads" in answer.json()["not_ready"]


async def _until(http, status):
    async with asyncio.timeout(10):
        while (answer := await http.get("/readyz")).status_code != status:
            await asyncio.sleep(0.05)
    return answer


async def test_every_metric_is_described_and_every_described_one_exists(tmp_path):
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    described = {row[0]: row[1:] for row in re.findall(r"^\| `(\w+)` \| (\w+) \|[^|]*\| ([^|]+) \|$", page, re.M)}
    async with open_app(config_for(tmp_path, memory=True)) as app:
        found = {family.name: (family.type, family.documentation) for family in app.registry.collect()}
    assert found == described
