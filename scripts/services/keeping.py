"""Keeps servers running: each under a small process of its own that bounds its log and ends with it.

What always holds: a server's state file is written before it is waited for, so nothing that was started is forgotten;
a process is only ended if the state file's pid still belongs to the process that was started then (pids come back);
started servers hold none of the caller's files open. A server that answers, with the command of today, is left alone.
"""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from prism.testing.servers import Command
from prism.testing.services import free_port, serves

from .table import Places, Server

__all__ = ["ServerError", "State", "born", "ensure", "stop_all"]

KEEPER = Path(__file__).with_name("keeper.py")
STOP_SECONDS = 10.0
LOOK_SECONDS = 0.05
TRIES = 3


class ServerError(Exception):
    """A sentence: which server does not run, and where its log is."""


@dataclass(frozen=True)
class State:
    """What was started."""

    pid: int
    """Of the keeper, which leads the process group."""
    born: str
    """When, so that a later process of the same pid is not mistaken for it."""
    ports: tuple[int, ...]
    digest: str
    """Of the command: another one means another start."""

    @property
    def lives(self) -> bool:
        return born(self.pid) == self.born


def ensure(server: Server, places: Places) -> tuple[int, ...]:
    """The ports of the running server, started first if need be. Raises ServerError."""
    folder = places.folder(server.name)
    state = read(folder)
    if state and state.lives:
        command = server.command(places, state.ports)
        if state.digest == digest(command) and serves(command):
            return state.ports
    end(folder)
    ports = state.ports if state and len(state.ports) == server.ports else ()
    for _ in range(TRIES):
        ports = ports or tuple(free_port() for _ in range(server.ports))
        if start(server, server.command(places, ports), ports, folder):
            return ports
        ports = ()
    raise ServerError(f"{server.name} did not come up in {TRIES} tries, its log: {folder / 'log'}")


def start(server: Server, command: Command, ports: tuple[int, ...], folder: Path) -> bool:
    """Whether it serves; if not, it is ended again."""
    known = digest(command)
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", str(KEEPER), str(folder / "log"), *command.arguments],
        env={**os.environ, **command.environment},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        user=command.user,
    )
    write(folder, State(process.pid, born(process.pid), ports, known))
    deadline = time.monotonic() + server.deadline_seconds
    while time.monotonic() < deadline and process.poll() is None:
        if serves(command):
            return True
        time.sleep(LOOK_SECONDS)
    end(folder)
    return False


def stop_all(run: Path) -> None:
    """End every server and remove its data; logs stay."""
    folders = [entry.parent for entry in run.glob("*/state.json")]
    for folder in folders:
        ask(folder)
    for folder in folders:
        end(folder)
        for entry in folder.iterdir():
            if not entry.name.startswith("log"):
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def ask(folder: Path) -> None:
    state = read(folder)
    if state and state.lives:
        signal_group(state, signal.SIGTERM)


def end(folder: Path) -> None:
    """Ask the server to end and wait; after a while make it."""
    state = read(folder)
    if state and state.lives:
        signal_group(state, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while state.lives and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
        if state.lives:
            signal_group(state, signal.SIGKILL)
    (folder / "state.json").unlink(missing_ok=True)


def signal_group(state: State, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(state.pid, number)


def born(pid: int) -> str:
    """When a process began, in its system's own words; empty if there is none, or only its exit code is left."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return "" if Path("/proc/self/stat").exists() else born_by_ps(pid)
    except ProcessLookupError:
        return ""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return "" if fields[0] in "ZX" else f"{boot} {fields[19]}"


def born_by_ps(pid: int) -> str:
    found = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True)
    state, _, began = found.stdout.strip().partition(" ")
    return "" if state.startswith("Z") else began.strip()


def digest(command: Command) -> str:
    return hashlib.sha256(msgspec.json.encode(command, enc_hook=str, order="sorted")).hexdigest()


def read(folder: Path) -> State | None:
    try:
        fields = json.loads((folder / "state.json").read_text())
        return State(**{**fields, "ports": tuple(fields["ports"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def write(folder: Path, state: State) -> None:
    new = folder / "state.new"
    new.write_text(json.dumps(asdict(state)))
    new.replace(folder / "state.json")
