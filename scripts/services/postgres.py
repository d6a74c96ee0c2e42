"""PostgreSQL: the server in the PyPI wheel `pgserver`, or one that the system has.

It refuses to run as root, so root runs it as `nobody`, who may be unable to enter the checkout: then program and data
stand in the system's temporary folder, and a link here leads there.
"""

import hashlib
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

from prism.testing.servers import Command

from .ways import FetchError

__all__ = ["ELSEWHERE", "USER", "command", "prepare"]

USER = "prism"
ELSEWHERE = "prism-services-"
"""What a folder outside the checkout is called, and so what may be removed again."""
INIT_SECONDS = 60


def prepare(tree: Path, folder: Path, password: str) -> None:
    """Make an empty database cluster, unless there is one."""
    home = home_of(folder)
    if (home / "data" / "PG_VERSION").exists() and programs(tree, home).exists():
        return
    empty(home)
    if home != folder:
        link_to(folder / "elsewhere", home)
    if home != folder and is_wheel(tree):
        shutil.copytree(tree, home / "programs", symlinks=True)
    secret, making = home / "password", home / "making"
    secret.write_text(password)
    making.mkdir()
    if other := other_user():
        shutil.chown(making, other)
    options = ("--username", USER, "--pwfile", str(secret), "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale")
    done = subprocess.run(
        [str(programs(tree, home) / "initdb"), "-D", str(making), *options],
        cwd=home,
        user=other,
        group=other and pwd.getpwuid(other).pw_gid,
        extra_groups=[] if other else None,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=INIT_SECONDS,
    )
    if done.returncode != 0:
        raise FetchError(f"PostgreSQL's initdb failed:\n{done.stdout.decode('utf-8', 'replace')[-2000:]}")
    making.rename(home / "data")


def command(tree: Path, folder: Path, port: int) -> Command:
    """The server over the cluster that `prepare` made; it listens on loopback and on no socket file."""
    home = home_of(folder)
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": "",
        "max_connections": "200",
        "shared_buffers": "64MB",
        "log_min_messages": "warning",
    }
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return Command(
        arguments=(str(programs(tree, home) / "postgres"), "-D", str(home / "data"), *options),
        environment={},
        health=f"tcp://127.0.0.1:{port}",
        user=other_user(),
    )


def programs(tree: Path, home: Path) -> Path:
    """The folder of `postgres` and `initdb`; `tree` is a fetched wheel, or the system's folder itself."""
    if not is_wheel(tree):
        return tree
    copied = home / "programs"
    return (copied if copied.exists() else tree) / "pgserver" / "pginstall" / "bin"


def is_wheel(tree: Path) -> bool:
    """Then its programs need all of the folder."""
    return (tree / "pgserver").exists()


def other_user() -> int | None:
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None


def home_of(folder: Path) -> Path:
    """Where the server's files stand: the folder, if the server's user can enter it."""
    if other_user() is None or all(above.stat().st_mode & 0o001 for above in (folder, *folder.parents)):
        return folder
    name = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"{ELSEWHERE}{name}"


def empty(home: Path) -> None:
    for name in ("programs", "making", "data"):
        shutil.rmtree(home / name, ignore_errors=True)
    home.mkdir(mode=0o755, exist_ok=True)


def link_to(link: Path, target: Path) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(target)
