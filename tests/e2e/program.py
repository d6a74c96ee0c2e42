"""The real program as a subprocess: started on free ports, watched with deadlines, stopped or killed."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

READY = "prism ready "
CRASHED = 137
LONGEST_SECONDS = 30.0
PORTS = ("--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--s3", "127.0.0.1:0")


class Program:
    """A `prism serve` that was started. `endpoints` is empty when it ended before it was ready."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        self.process = process
        self.log = log
        self.endpoints: dict[str, str] = {}

    @property
    def grpc(self) -> str:
        return self.endpoints["grpc"]

    @property
    def http(self) -> str:
        return self.endpoints["http"]

    @property
    def s3(self) -> str:
        return self.endpoints["s3"]

    def await_ready(self) -> None:
        """Read the ready line; comes back without endpoints when the process ended first."""
        line = self.process.stdout.readline()
        if line.startswith(READY):
            self.endpoints = json.loads(line.removeprefix(READY))
        else:
            assert line == "", f"unexpected on standard output: {line!r}"

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; the exit code."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> int:
        """The exit code, once it is there."""
        return self.process.wait(LONGEST_SECONDS)

    def kill(self) -> None:
        """As kill -9 does."""
        self.process.kill()
        self.ended()

    def said(self) -> str:
        """Standard error so far."""
        return self.log.read_text()


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's, without any setting of Prism's but those given."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PRISM_")}
    return {**kept, **(more or {})}


@contextlib.contextmanager
def serving(
    data_dir: Path, *arguments: str, env: Mapping[str, str] | None = None, ports: tuple[str, ...] = PORTS
) -> Iterator[Program]:
    """`prism serve` on a data folder; killed at the end of the block unless it has ended."""
    log = data_dir.parent / f"{data_dir.name}.log"
    command = [sys.executable, "-m", "prism", "serve", "--data-dir", str(data_dir), *ports, *arguments]
    with log.open("a") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment(env))
    program = Program(process, log)
    try:
        program.await_ready()
        yield program
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(LONGEST_SECONDS)
        process.stdout.close()


def prism(
    *arguments: str, env: Mapping[str, str] | None = None, stdin: bytes = b"", cwd: Path | None = None
) -> "subprocess.CompletedProcess[bytes]":
    """Run a command to its end."""
    command = [sys.executable, "-m", "prism", *arguments]
    return subprocess.run(
        command, input=stdin, capture_output=True, env=environment(env), cwd=cwd, timeout=LONGEST_SECONDS, check=False
    )


def until(condition: Callable[[], Any], what: str, seconds: float = LONGEST_SECONDS) -> Any:
    """Poll until `condition` gives something true, and give that back."""
    ends_at = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < ends_at, f"not within {seconds} s: {what}"
        time.sleep(0.02)
    return found
