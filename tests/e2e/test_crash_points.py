"""The process dies at every named step, at its first and its second hit; nothing that was promised is lost, nothing
leaks.

The points are read from the code, so a new one is covered as soon as it is there; one that no operation reaches fails.
Each has one data folder and several lives: a server under a script of operations, or a process that does the
background work days ahead; it dies, begins again, dies again; then everything is read, drained, and counted.
"""

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from crash_points import OPERATOR, every_point
from program import CRASHED, LONGEST_SECONDS, environment, serving
from promises import CONFIG, Client, Died, at_rest, operate
from shifted import opened_ahead

from prism.config import load
from prism.testing.running import running_app
from prism.workers.fsck import fsck

BACKGROUND = Path(__file__).parent / "background.py"


def points():
    """Every failpoint of the code, and whether it belongs to the background. Those of stores that sign their own URLs,
    which no local store does, are tried in `tests/service/test_staging.py`; operators' have a script of their own."""
    return {
        name: path.parent.name in {"workers", "bus"}
        for name, path in every_point().items()
        if not name.startswith(("staging.", *OPERATOR))
    }


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    """A data folder that was served and operated on, and what its clients were told."""
    home = tmp_path_factory.mktemp("template")
    (home / "config.yaml").write_text(CONFIG)
    client = Client()
    with serving(home / "data", "--config", str(home / "config.yaml"), "--roles", "api,s3") as program:
        client.connect(program.http)
        operate(client, "template")
        assert program.stop() == 0
    return home, dict(client.allowed), set(client.may_expire)


@pytest.fixture
def home(template, tmp_path):
    shutil.copytree(template[0], tmp_path / "home")
    return tmp_path / "home"


@pytest.mark.crash
@pytest.mark.parametrize("name", sorted(points()))
def test_dying_there_loses_and_leaks_nothing(name, home, template):
    client = Client()
    client.allowed, client.may_expire = dict(template[1]), set(template[2])
    hits = _die_twice(name, home, client)
    assert hits == 2, f"{name} was hit {hits} times; every point must be reached by the script"
    asyncio.run(_check(home, client))


def _die_twice(name, home, client):
    """Lives that end at the first and at the second hit; how many did."""
    ways = [_background, _server] if points()[name] else [_server, _background]
    for way in ways:
        if way(home, client, f"{name}=exit@1", 1):
            return 1 + way(home, client, f"{name}=exit@2", 2)
    return 0


def _server(home, client, failpoints, life):
    """A server under the script; whether it died of the failpoint."""
    arguments = ("--config", str(home / "config.yaml"), "--roles", "api,s3")
    with serving(home / "data", *arguments, env={"PRISM_FAILPOINTS": failpoints}) as program:
        if program.endpoints:
            client.connect(program.http)
            try:
                operate(client, f"{failpoints} {life}")
            except Died:
                return program.ended() == CRASHED
            finally:
                client.close()
        return (program.ended() if program.process.poll() is not None else program.stop()) == CRASHED


def _background(home, client, failpoints, life):
    """All background work, days ahead; whether the process died of the failpoint."""
    command = [sys.executable, str(BACKGROUND), str(home / "config.yaml"), str(home / "data"), str(10 * life)]
    ended = subprocess.run(
        command,
        env=environment({"PRISM_FAILPOINTS": failpoints}),
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS * 2,
        check=False,
    )
    assert ended.returncode in (0, CRASHED), ended.stderr[-3000:]
    _note_expired(client)
    return ended.returncode == CRASHED


def _note_expired(client):
    """Days have passed: what had a short life may be gone."""
    for name in client.may_expire:
        client.allowed[name] = client.allowed.get(name, set()) | {None}


async def _check(home, client):
    """Read everything as it is after the restart; then let all time pass, and look at what is left."""
    config = home / "config.yaml"
    await _read(home, client)
    for days in (40, 45, 50):
        async with opened_ahead(config, home / "data", days) as app:
            for space in app.namespaces if days == 40 else ():
                swept = (await fsck(space, repair=True)).kinds["unnamed"].samples
                assert all(key.startswith("stray/") for key in swept), f"only planted bytes are unnamed: {swept}"
            report = await app.janitor.run_once()
            assert not report.failed, report
    async with opened_ahead(config, home / "data", 50) as app:
        await at_rest(app, home / "data")


async def _read(home, client):
    ports = {f"server.{name}.address": "127.0.0.1:0" for name in ("grpc", "http", "s3")}
    config = load(home / "config.yaml", {}, data_dir=home / "data", overrides=ports)
    async with running_app(config=config) as running:
        client.connect(running.http)
        await asyncio.to_thread(client.check)
