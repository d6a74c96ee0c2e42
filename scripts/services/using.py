"""Who wants the servers of a checkout, and so how long they run.

`start` means until `stop`. `run` means for one command: of several at a time, the last one to end stops the servers,
unless somebody said `start`, or KEEP=1, meanwhile. Starting and stopping are done by one call at a time.
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .fetching import Package, fetch_all
from .keeping import ensure_all, stop_all
from .table import Places, Server, environment

__all__ = ["Checkout"]


@dataclass(frozen=True)
class Checkout:
    """The servers of one checkout."""

    home: Path
    """`.cache/services`: a folder per program, `run` with a folder per server, `environment`."""
    packages: Sequence[Package]
    servers: Sequence[Server]

    def start(self) -> str:
        """Bring up what does not run, for good. Returns the variables, a line each, as `environment` keeps them."""
        with self._alone("lock"):
            variables = self._bring_up()
            self._wanted.touch()
        return lines(variables)

    def stop(self) -> None:
        with self._alone("lock"):
            self._bring_down()

    def run(self, command: Sequence[str]) -> int:
        """The exit code of a command that is given the variables."""
        with ended_in_order(), self._opened("users") as users:
            fcntl.flock(users, fcntl.LOCK_SH)
            try:
                with self._alone("lock"):
                    variables = self._bring_up()
                    if os.environ.get("KEEP") == "1":
                        self._wanted.touch()
                return subprocess.run(command, env={**os.environ, **variables, "PRISM_TEST_REAL": "1"}).returncode
            finally:
                with self._alone("lock"):
                    if not self._wanted.exists() and is_last(users):
                        self._bring_down()

    @property
    def _wanted(self) -> Path:
        """Stands while somebody said `start` and not yet `stop`."""
        return self.home / "wanted"

    def _bring_up(self) -> dict[str, str]:
        programs = fetch_all(self.home, self.packages)
        places = Places(self.home / "run", programs)
        variables = environment(self.servers, ensure_all(self.servers, places), places)
        written = self.home / "environment.new"
        written.write_text(lines(variables))
        written.replace(self.home / "environment")
        return variables

    def _bring_down(self) -> None:
        self._wanted.unlink(missing_ok=True)
        stop_all(self.home / "run")
        (self.home / "environment").unlink(missing_ok=True)

    @contextlib.contextmanager
    def _opened(self, name: str) -> Iterator[int]:
        self.home.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.home / name, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            yield handle
        finally:
            os.close(handle)

    @contextlib.contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """Two calls at once: the second waits for the first and finds everything done."""
        with self._opened(name) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


@contextlib.contextmanager
def ended_in_order() -> Iterator[None]:
    """A call that is told to end stops its servers first."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def lines(variables: dict[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in variables.items())


def is_last(users: int) -> bool:
    """Nobody else holds the lock of those who use the servers."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
