"""Export, restore, take-over, rebuild and import die at each of their named steps, at its first and its second hit, and
are begun again: in the end everything is served, nothing is lost, and nothing is left over."""

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from crash_points import OPERATOR, every_point
from operator_script import TIMES, config_of, exported
from program import CRASHED, LONGEST_SECONDS, environment

from prism.app import open_app
from prism.meta import open_meta
from prism.model import Caller, ObjectRef, PutOptions
from prism.workers.fsck import fsck

SCRIPT = Path(__file__).parent / "operator_script.py"
KEYS = ("a", "b/c", "x" * 1000, "d//e")


async def _once(content):
    yield content


async def _fill(home):
    async with open_app(config_of(home, "first")) as app:
        for space in app.namespaces:
            for key in KEYS:
                await app.services.objects.put(
                    _caller(app), ObjectRef(space.name, "", key), _once(key.encode()), PutOptions()
                )
            for number in range(3):
                (home / space.name / f"lay there {number}").write_bytes(b"before")


def _caller(app):
    return Caller(principal=app.services.access.anonymous(), request_id="r", api="test")


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    home = tmp_path_factory.mktemp("operator") / "home"
    home.mkdir()
    asyncio.run(_fill(home))
    return home


@pytest.fixture
def home(template):
    """The folder at the same place each time: a configuration names it."""
    kept = template.with_name("kept")
    if not kept.exists():
        shutil.copytree(template, kept)
    shutil.rmtree(template)
    shutil.copytree(kept, template)
    return template


def _run(home, failpoints=""):
    command = [sys.executable, str(SCRIPT), str(home)]
    env = environment({"PRISM_FAILPOINTS": failpoints})
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=LONGEST_SECONDS * 2, check=False)
    assert ended.returncode in (0, CRASHED), ended.stderr[-3000:]
    return ended.returncode


@pytest.mark.crash
@pytest.mark.parametrize("name", sorted(name for name in every_point() if name.startswith(OPERATOR)))
def test_dying_there_and_beginning_again_ends_well(name, home):
    assert _run(home, f"{name}=exit@1") == CRASHED, f"{name} is not reached"
    assert _run(home, f"{name}=exit@2") == CRASHED, f"{name} is not reached again"
    assert _run(home) == 0
    asyncio.run(_check(home))


async def _check(home):
    async with open_app(config_of(home, "second")) as app:
        for space in app.namespaces:
            for key in KEYS:
                opened = await app.services.objects.get(_caller(app), ObjectRef(space.name, "", key))
                assert b"".join([chunk async for chunk in opened.chunks()]) == key.encode()
            page = await app.services.objects.list(_caller(app), space.name, "", "")
            assert len(page.objects) == len(KEYS) + 3
            report = await fsck(space)
            assert report.clean
            assert report.kinds["referenced"].count == len(KEYS) + 3
            assert not any(report.kinds[kind].count for kind in ("young", "foreign", "promised", "condemned")), report
    await exported(home, home / "again.gz")
    first = await _rows(config_of(home, "first"))
    for number in TIMES:
        assert await _rows(config_of(home, f"restored{number}")) == first
    assert len(list(home.glob("*.gz"))) == len(TIMES) + 1


async def _rows(config):
    meta = await open_meta(config.meta.url)
    rows = await meta.read(lambda view: view.range(b"", b"\xf0", limit=10_000))
    await meta.close()
    return [(entry.key, entry.value) for entry in rows]
