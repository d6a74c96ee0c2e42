"""The command line of the real servers: see the package."""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from .fetching import FetchError, fetch_all
from .keeping import ServerError, ensure_all, stop_all
from .table import SERVERS, Places, environment

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".cache" / "services"
WANTED = HOME / "wanted"
"""Stands while somebody said `start` and not yet `stop`: then `run` leaves the servers alone."""


def main(arguments: list[str]) -> int:
    match arguments:
        case ["start"]:
            variables = start()
            WANTED.touch()
            print("".join(f"{name}={value}\n" for name, value in variables.items()), end="")
            return 0
        case ["stop"]:
            with alone("lock"):
                stop()
            return 0
        case ["run", *command] if command:
            return run(command)
    print(sys.modules[__package__].__doc__, file=sys.stderr)
    return 2


def start() -> dict[str, str]:
    """Bring up what does not run, and write down where everything is."""
    with alone("lock"):
        programs = fetch_all(HOME)
        places = Places(HOME / "run", programs)
        running = ensure_all(SERVERS, places)
        variables = environment(running, places)
        written = HOME / "environment.new"
        written.write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
        written.replace(HOME / "environment")
    return variables


def stop() -> None:
    WANTED.unlink(missing_ok=True)
    stop_all(HOME / "run")
    (HOME / "environment").unlink(missing_ok=True)


def run(command: list[str]) -> int:
    """The command's exit code. Of several at a time the last one to end stops the servers."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with opened("users") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        try:
            variables = start()
            if os.environ.get("KEEP") == "1":
                WANTED.touch()
            return subprocess.run(command, env={**os.environ, **variables, "PRISM_TEST_REAL": "1"}).returncode
        finally:
            with alone("lock"):
                if not WANTED.exists() and is_last(users):
                    stop()


def is_last(users: int) -> bool:
    """Nobody else holds the lock of those who use the servers."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def opened(name: str) -> Iterator[int]:
    HOME.mkdir(parents=True, exist_ok=True)
    handle = os.open(HOME / name, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield handle
    finally:
        os.close(handle)


@contextlib.contextmanager
def alone(name: str) -> Iterator[None]:
    """Two calls at once: the second waits for the first and finds everything done."""
    with opened(name) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
    except (FetchError, ServerError) as error:
        sys.exit(f"services: {error}")
