"""Runs one server: `keeper.py LOG USER COMMAND…`, as another user unless USER is empty.

Its output goes into LOG and LOG.1, a mebibyte each at most. Ends when the server does. Signals to end are the server's
affair: both stand in one process group, and the keeper waits. If the keeper itself is killed, Linux kills the server.
"""

import contextlib
import ctypes
import os
import pwd
import signal
import subprocess
import sys
from pathlib import Path

LIMIT = 2**20
PR_SET_PDEATHSIG = 1


def main(log: str, user: str, command: list[str]) -> int:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # a handler, not SIG_IGN: that the server would inherit
    uid = int(user) if user else None
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        user=uid,
        group=None if uid is None else pwd.getpwuid(uid).pw_gid,
        extra_groups=None if uid is None else [],
        preexec_fn=die_with_me,  # after the change of user, which would undo it
    ) as server:
        assert server.stdout is not None
        copy(server.stdout.fileno(), log)
    return server.returncode


def die_with_me() -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def copy(source: int, log: str) -> None:
    """Until the source ends; the older half is dropped."""
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    written = os.fstat(target).st_size
    while chunk := os.read(source, 65536):
        if written + len(chunk) > LIMIT:
            os.close(target)
            Path(log).replace(f"{log}.1")
            target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            written = 0
        written += os.write(target, chunk)
    os.close(target)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
