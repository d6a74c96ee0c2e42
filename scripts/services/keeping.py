"""Keeps servers running: each under a small process of its own that bounds its log and ends with it.

What always holds: a server's state is written down before it is waited for, so nothing that was started is forgotten;
started servers hold none of the caller's files open. A server that answers, with the command of today, is left alone;
one that died comes back with its data, on its ports where they are free.
"""

import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path

import msgspec

from prism.testing.servers import Command
from prism.testing.services import serves

from . import postgres
from .processes import State, ask, born, end, forget, read, write
from .table import Places, Server

__all__ = ["ServerError", "ensure_all", "stop_all"]

KEEPER = Path(__file__).with_name("keeper.py")
LOOK_SECONDS = 0.05
TRIES = 3


class ServerError(Exception):
    """A sentence: which server does not run, and where its log is."""


def ensure_all(servers: Sequence[Server], places: Places) -> dict[str, tuple[int, ...]]:
    """The ports of every server by name; those that do not run are started, side by side. Raises ServerError."""
    live: dict[str, tuple[int, ...]] = {}
    with ThreadPoolExecutor(max_workers=len(servers)) as pool:
        live |= zip(names(servers), pool.map(look, servers, repeat(places)), strict=True)
        for _ in range(TRIES):
            missing = [server for server in servers if not live[server.name]]
            ports = choose_ports(missing, places)
            up = pool.map(start, missing, ports, repeat(places))
            live |= zip(names(missing), (taken if ok else () for taken, ok in zip(ports, up, strict=True)), strict=True)
    for name, found in live.items():
        if not found:
            raise ServerError(f"{name} did not come up in {TRIES} tries, its log: {places.folder(name) / 'log'}")
    return live


def names(servers: Sequence[Server]) -> list[str]:
    return [server.name for server in servers]


def look(server: Server, places: Places) -> tuple[int, ...]:
    """The ports of a server that runs as it should; () for others, which are ended."""
    folder = places.folder(server.name)
    state = read(folder)
    if state and state.lives:
        command = server.command(places, state.ports)
        if state.digest == digest(command) and serves(command):
            return state.ports
    end(folder)
    return ()


def choose_ports(servers: Sequence[Server], places: Places) -> list[tuple[int, ...]]:
    """Those that a server had before, if they are free; none twice."""
    with contextlib.ExitStack() as held:
        return [tuple(hold(before, held) for before in ports_before(server, places)) for server in servers]


def hold(port: int, held: contextlib.ExitStack) -> int:
    """Bind the port, or any free one, until the stack is left."""
    listening = held.enter_context(socket.socket())
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
    except OSError:
        listening.bind(("127.0.0.1", 0))
    chosen: int = listening.getsockname()[1]
    return chosen


def start(server: Server, ports: tuple[int, ...], places: Places) -> bool:
    """Whether it serves; if not, it is ended again, and takes other ports the next time."""
    folder = places.folder(server.name)
    server.prepare(places, ports)
    command = server.command(places, ports)
    known = digest(command)
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", str(KEEPER), str(folder / "log"), str(command.user or ""), *command.arguments],
        env={**os.environ, **command.environment},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    write(folder, State(process.pid, born(process.pid), ports, known))
    deadline = time.monotonic() + server.deadline_seconds
    while time.monotonic() < deadline and process.poll() is None:
        if serves(command):
            return True
        time.sleep(LOOK_SECONDS)
    end(folder)
    forget(folder)
    return False


def ports_before(server: Server, places: Places) -> tuple[int, ...]:
    """The ports it had, or as many zeros, for any."""
    state = read(places.folder(server.name))
    return state.ports if state and len(state.ports) == server.ports else (0,) * server.ports


def stop_all(run: Path) -> None:
    """End every server and remove its data; logs stay."""
    folders = [entry.parent for entry in run.glob("*/state.json")]
    for folder in folders:
        ask(folder)
    for folder in folders:
        end(folder)
        for entry in folder.iterdir():
            if not entry.name.startswith("log"):
                remove(entry)


def remove(entry: Path) -> None:
    """A file, a folder, or the folder elsewhere that a link of ours leads to."""
    if entry.is_symlink() and entry.resolve().name.startswith(postgres.ELSEWHERE):
        shutil.rmtree(entry.resolve(), ignore_errors=True)
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink()


def digest(command: Command) -> str:
    """Of what decides how the server behaves, and not of how it is looked at."""
    decisive = (command.arguments, command.environment, command.user)
    return hashlib.sha256(msgspec.json.encode(decisive, order="sorted")).hexdigest()
