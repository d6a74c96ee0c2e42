"""The ways to fetch a program from a registry into a folder, and the tools they need."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

__all__ = ["FetchError", "go", "need", "npm"]

FETCH_SECONDS = 1800


class FetchError(Exception):
    """A sentence for whoever called: what could not be fetched, and what to do."""


def go(folder: Path, source: str, version: str) -> None:
    """`go install`, statically linked; a toolchain newer than the one here comes as a module."""
    settings = {"GOBIN": str(folder / "bin"), "CGO_ENABLED": "0", "GOFLAGS": "-trimpath -buildvcs=false"}
    call("go", "install", f"{source}@{version}", environment=settings)


def npm(folder: Path, source: str, version: str) -> None:
    """`npm install` into the folder, without the packages' own install scripts."""
    quiet = ("--no-audit", "--no-fund", "--ignore-scripts", "--no-update-notifier", "--loglevel=error")
    call("npm", "install", *quiet, "--prefix", str(folder), f"{source}@{version}")


TOOLS: dict[Callable[..., None], tuple[tuple[str, ...], tuple[str, ...]]] = {
    go: (("go",), ("golang-go",)),
    npm: (("node", "npm"), ("nodejs", "npm")),
}
"""What a way calls, and Debian's packages that bring it."""


def need(wanted: Iterable[Callable[..., None]]) -> None:
    """Make the tools of these ways be there. Raises FetchError that says what to install."""
    missing = [way for way in wanted if not all(shutil.which(tool) for tool in TOOLS[way][0])]
    packages = [package for way in missing for package in TOOLS[way][1]]
    if packages:
        install(packages)
    if go in wanted:
        check_go()


def install(packages: list[str]) -> None:
    """By apt-get where that is possible."""
    names = " ".join(packages)
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise FetchError(f"missing tools: install {names} (Debian's names), or their like, and put them on PATH")
    print(f"services: installing Debian's {names}", file=sys.stderr, flush=True)
    call("apt-get", "update", "-qq")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    call("apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages, environment=quiet)


def check_go() -> None:
    """From 1.21 on Go fetches the newer toolchain that a module asks for."""
    found = subprocess.run(["go", "version"], capture_output=True, text=True).stdout
    version = re.search(r"go(\d+)\.(\d+)", found)
    if not version or (int(version[1]), int(version[2])) < (1, 21):
        raise FetchError(f"Go 1.21 or newer is needed to build the servers; this is {found.strip() or 'unknown'}")


def call(*command: str, environment: dict[str, str] | None = None, cwd: Path | None = None) -> None:
    """Run a client to its end; what it said is shown when it failed. Raises FetchError."""
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **(environment or {})},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=FETCH_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FetchError(f"{' '.join(command[:3])}: {error}") from error
    if done.returncode != 0:
        said = done.stdout.decode("utf-8", "replace").strip()[-2000:]
        raise FetchError(f"{' '.join(command[:3])} ended with {done.returncode}:\n{said}")
