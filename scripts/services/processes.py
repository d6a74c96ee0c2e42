"""What was started, written down, so that a later call finds it and ends that and nothing else.

What always holds: a signal is only sent if the pid still belongs to the process that was started then (pids come back).
"""

import contextlib
import json
import os
import signal
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["State", "ask", "born", "end", "forget", "read", "write"]

STOP_SECONDS = 10.0
LOOK_SECONDS = 0.05


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


def ask(folder: Path) -> None:
    """Ask the folder's server to end, and do not wait."""
    state = read(folder)
    if state and state.lives:
        signal_group(state, signal.SIGINT)  # PostgreSQL would wait for its clients at SIGTERM


def end(folder: Path) -> None:
    """Ask the folder's server to end and wait; after ten seconds make it."""
    ask(folder)
    state = read(folder)
    deadline = time.monotonic() + STOP_SECONDS
    while state and state.lives:
        if time.monotonic() > deadline:
            signal_group(state, signal.SIGKILL)
        time.sleep(LOOK_SECONDS)


def signal_group(state: State, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(state.pid, number)


def born(pid: int) -> str:
    """When a process began, in its system's own words; empty if there is none, or only its exit code is left."""
    if not Path("/proc/self/stat").exists():
        return born_by_ps(pid)
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return "" if fields[0] in "ZX" else f"{boot} {fields[19]}"


def born_by_ps(pid: int) -> str:
    found = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True)
    state, _, began = found.stdout.strip().partition(" ")
    return "" if state.startswith("Z") else began.strip()


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


def forget(folder: Path) -> None:
    """With its ports."""
    (folder / "state.json").unlink(missing_ok=True)
