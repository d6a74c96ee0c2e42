"""Starting servers on a core of their own, and what the kernel says they used."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["LOAD_CPU", "SERVER_CPU", "Server", "bare", "prism", "prism_on"]

SERVER_CPU = 0
LOAD_CPU = 1
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Server:
    """A running server: its addresses by protocol and how long it took until it was ready."""

    process: subprocess.Popen[str]
    endpoints: Mapping[str, str]
    ready_seconds: float

    @property
    def pids(self) -> list[int]:
        """The server's process and its children."""
        found = [self.process.pid]
        for pid in found:
            with contextlib.suppress(OSError):
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
                found.extend(int(child) for child in children.split())
        return found

    @property
    def cpu_seconds(self) -> float:
        """CPU time used so far."""
        ticks = 0
        for pid in self.pids:
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
        return ticks / _TICK

    @property
    def rss_bytes(self) -> int:
        """Resident memory now."""
        total = 0
        for pid in self.pids:
            with contextlib.suppress(OSError):
                total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return total


@contextlib.contextmanager
def prism(
    data: Path, *, workers: int = 1, cpus: str = str(SERVER_CPU), settings: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """`prism serve` on free ports over a data folder."""
    command = [sys.executable, "-m", "prism", "serve", "--data-dir", str(data)]
    for name in ("grpc", "http", "s3"):
        command += [f"--{name}", "127.0.0.1:0"]
    command += ["--workers", str(workers)] if workers > 1 else []
    with _started(command, cpus, "prism ready ", settings) as server:
        yield server


@contextlib.contextmanager
def prism_on(config: Path) -> Iterator[Server]:
    """`prism serve` on free ports with a configuration, on any core."""
    command = [sys.executable, "-m", "prism", "serve", "--config", str(config)]
    for name in ("grpc", "http", "s3"):
        command += [f"--{name}", "127.0.0.1:0"]
    cpus = f"0-{(os.cpu_count() or 1) - 1}"
    with _started(command, cpus, "prism ready ", None) as server:
        yield server


@contextlib.contextmanager
def bare(module: str, folder: Path) -> Iterator[Server]:
    """A baseline of this package."""
    with _started([sys.executable, "-m", f"bench.{module}", str(folder)], str(SERVER_CPU), "ready ", None) as server:
        yield server


@contextlib.contextmanager
def _started(command: list[str], cpus: str, word: str, settings: Mapping[str, str] | None) -> Iterator[Server]:
    began = time.perf_counter()
    process = subprocess.Popen(
        ["taskset", "-c", cpus, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **(settings or {})},
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line.startswith(word):
            raise SystemExit(f"{' '.join(command)} did not start: {line!r}")
        yield Server(process, json.loads(line[len(word) :]), time.perf_counter() - began)
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        if process.poll() is None:
            process.kill()
            process.wait()
