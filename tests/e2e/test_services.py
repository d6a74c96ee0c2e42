"""Starting, keeping and ending servers, as `make services` does, with small stand-ins for the real ones."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from prism.testing.servers import Command
from scripts.services import fetching, processes
from scripts.services.keeping import ServerError, ensure_all, stop_all
from scripts.services.processes import State
from scripts.services.table import Places, Server

SERVE = """
import http.server, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open("child", "w").write(str(child.pid))
print(sys.argv[2] * int(sys.argv[3]), flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def stand_in(name: str, *, words: str = "x", repeat: int = 1, program: str = SERVE) -> Server:
    def command(_places: Places, ports: tuple[int, ...]) -> Command:
        return Command(
            arguments=(sys.executable, "-c", program, str(ports[0]), words, str(repeat)),
            environment={},
            health=f"http://127.0.0.1:{ports[0]}/child",
        )

    return Server(name, command, lambda _places, _ports: {}, deadline_seconds=20)


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Places]:
    found = Places(tmp_path / "run", {})
    yield found
    stop_all(found.run)


def state_of(places: Places, name: str = "one") -> State:
    state = processes.read(places.folder(name))
    assert state is not None
    return state


def ends(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while processes.born(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_a_second_call_finds_what_runs_and_is_quick(places: Places) -> None:
    servers = [stand_in("one"), stand_in("two")]
    first = ensure_all(servers, places)
    pids = [state_of(places, name).pid for name in ("one", "two")]
    began = time.monotonic()
    assert ensure_all(servers, places) == first
    assert time.monotonic() - began < 2
    assert [state_of(places, name).pid for name in ("one", "two")] == pids


def test_a_killed_server_comes_back_on_its_port_and_no_other_is_touched(places: Places) -> None:
    servers = [stand_in("one"), stand_in("two")]
    first = ensure_all(servers, places)
    killed, untouched = state_of(places), state_of(places, "two")
    os.killpg(killed.pid, signal.SIGKILL)
    assert ends(killed.pid)
    assert ensure_all(servers, places) == first
    assert state_of(places).pid != killed.pid
    assert state_of(places, "two") == untouched


def test_another_command_means_another_start(places: Places) -> None:
    ensure_all([stand_in("one", words="old")], places)
    old = state_of(places)
    ensure_all([stand_in("one", words="new")], places)
    assert ends(old.pid)
    assert state_of(places).lives


def test_a_pid_that_came_back_as_another_process_is_left_alone(places: Places) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True) as bystander:
        stale = State(bystander.pid, "another boot 1", (1,), "digest")
        processes.write(places.folder("one"), stale)
        assert not stale.lives
        ensure_all([stand_in("one")], places)
        processes.write(places.folder("two"), stale)
        stop_all(places.run)
        assert bystander.poll() is None
        bystander.kill()


def test_stop_ends_children_too_and_removes_what_was_kept(places: Places) -> None:
    ensure_all([stand_in("one")], places)
    state, child = state_of(places), int((places.folder("one") / "child").read_text())
    stop_all(places.run)
    assert ends(state.pid)
    assert ends(child)
    assert sorted(entry.name for entry in places.folder("one").iterdir()) == ["log"]


def test_a_log_is_bounded(places: Places) -> None:
    ensure_all([stand_in("one", words="x" * 1000, repeat=5000)], places)
    sizes = [entry.stat().st_size for entry in places.folder("one").glob("log*")]
    assert len(sizes) == 2
    assert max(sizes) <= 2**20


def test_a_server_that_ends_at_once_is_named_with_its_log(places: Places) -> None:
    with pytest.raises(ServerError, match=r"one did not come up in 3 tries, its log: .*/one/log"):
        ensure_all([stand_in("one", program="raise SystemExit('no disk')")], places)
    assert "no disk" in (places.folder("one") / "log").read_text()


def test_a_server_does_not_hold_the_callers_output_open(tmp_path: Path) -> None:
    script = (
        "import sys; sys.path[:0] = ['tests/e2e', '.']\n"
        "from test_services import stand_in; from pathlib import Path\n"
        "from scripts.services.keeping import ensure_all; from scripts.services.table import Places\n"
        f"ensure_all([stand_in('one')], Places(Path({str(tmp_path)!r}), {{}}))\n"
    )
    try:
        subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, timeout=30)
        assert state_of(Places(tmp_path, {})).lives
    finally:
        stop_all(tmp_path)


def test_half_a_fetch_is_never_taken_for_a_whole_one(tmp_path: Path) -> None:
    def half(folder: Path, _source: str, _version: str) -> None:
        (folder / "program").write_text("half")
        raise fetching.FetchError("no network")

    def whole(folder: Path, _source: str, _version: str) -> None:
        (folder / "program").write_text("whole")

    package = fetching.Package("thing", half, "example.com/thing", "v1", "program")
    with pytest.raises(fetching.FetchError, match="no network"):
        fetching.fetch(tmp_path, package)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".fetching-of-a-killed-call").mkdir()
    fetching.sweep(tmp_path)
    fetching.fetch(tmp_path, replace(package, way=whole))
    assert [(entry.name, (entry / "program").read_text()) for entry in tmp_path.iterdir()] == [("thing-v1", "whole")]


def test_a_fetch_without_its_program_is_no_fetch(tmp_path: Path) -> None:
    package = fetching.Package("thing", lambda *_: None, "example.com/thing", "v1", "bin/thing")
    with pytest.raises(fetching.FetchError, match="came without bin/thing"):
        fetching.fetch(tmp_path, package)
