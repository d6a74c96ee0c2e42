"""Starting, keeping and ending servers, as `make services` does, with small stand-ins for the real ones."""

import contextlib
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
from scripts.services.using import Checkout

ROOT = Path(__file__).parents[2]
IMPORTS = """
import sys
from pathlib import Path
sys.path[:0] = ["tests/e2e", "."]
from test_services import stand_in
"""
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

    return Server(name, command, lambda _places, ports: {"WHERE": str(ports[0])}, deadline_seconds=20)


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


def test_a_server_does_not_outlive_its_keeper(places: Places) -> None:
    ensure_all([stand_in("one")], places)
    keeper = state_of(places).pid
    (server,) = (int(pid) for pid in Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split())
    os.kill(keeper, signal.SIGKILL)
    assert ends(server)
    os.kill(int((places.folder("one") / "child").read_text()), signal.SIGKILL)


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
        f"{IMPORTS}from scripts.services.keeping import ensure_all; from scripts.services.table import Places\n"
        f"ensure_all([stand_in('one')], Places(Path({str(tmp_path)!r}), {{}}))\n"
    )
    try:
        subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, timeout=30, cwd=ROOT)
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


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    found = Checkout(tmp_path, (), (stand_in("one"),))
    yield found
    found.stop()


def asking() -> list[str]:
    """A command that is 0 if its variable leads to a server."""
    look = "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['WHERE'] + '/child')"
    return [sys.executable, "-c", look]


def runs(checkout: Checkout) -> bool:
    state = processes.read(checkout.home / "run" / "one")
    return state is not None and state.lives


@contextlib.contextmanager
def running_aside(home: Path) -> "Iterator[subprocess.Popen[bytes]]":
    """Another process that runs a command on the checkout's servers, until there is a file `go`."""
    wait = f"import pathlib, time\nwhile not pathlib.Path({str(home / 'go')!r}).exists(): time.sleep(0.02)"
    script = (
        f"{IMPORTS}from scripts.services.using import Checkout\n"
        f"checkout = Checkout(Path({str(home)!r}), (), (stand_in('one'),))\n"
        f"sys.exit(checkout.run([sys.executable, '-c', {wait!r}]))\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.terminate()


def until_started(checkout: Checkout) -> None:
    deadline = time.monotonic() + 20
    while not (checkout.home / "environment").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_command_finds_the_servers_and_they_end_with_it(checkout: Checkout) -> None:
    assert checkout.run(asking()) == 0
    assert not runs(checkout)
    assert checkout.run([sys.executable, "-c", "raise SystemExit(3)"]) == 3
    assert not runs(checkout)
    with pytest.raises(FileNotFoundError):
        checkout.run(["no-such-program"])
    assert not runs(checkout)


def test_servers_that_were_asked_for_outlive_a_command(checkout: Checkout) -> None:
    said = checkout.start()
    assert said == (checkout.home / "environment").read_text()
    assert checkout.run(asking()) == 0
    assert runs(checkout)
    checkout.stop()
    assert not runs(checkout)
    assert not (checkout.home / "environment").exists()


def test_a_command_that_is_told_to_end_stops_its_servers(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, (), (stand_in("one"),))
    with running_aside(tmp_path) as aside:
        until_started(checkout)
        aside.terminate()
        assert aside.wait(20) == 143
    assert not runs(checkout)


def test_the_last_of_two_commands_ends_the_servers(checkout: Checkout, tmp_path: Path) -> None:
    with running_aside(tmp_path) as first:
        until_started(checkout)
        assert checkout.run(asking()) == 0
        assert runs(checkout)
        (tmp_path / "go").touch()
        assert first.wait(20) == 0
    assert not runs(checkout)
