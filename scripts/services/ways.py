"""The ways to fetch a program from a registry into a folder, and the tools they need."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from scripts import bootstrap

__all__ = ["FetchError", "go", "maven", "need", "npm", "wheel"]

FETCH_SECONDS = 1800
POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>prism</groupId><artifactId>services</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"""


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


def maven(folder: Path, source: str, version: str) -> None:
    """The artifact's jar and all that it needs to run, and a log on standard error, into `jars`."""
    group, artifact = source.split(":")
    (folder / "pom.xml").write_text(POM.format(group=group, artifact=artifact, version=version))
    target = f"-DoutputDirectory={folder / 'jars'}"
    call("mvn", "-B", "-q", "dependency:copy-dependencies", "-DincludeScope=runtime", target, cwd=folder)


def wheel(folder: Path, source: str, version: str) -> None:
    """One wheel from the package index, unpacked; on a machine that it is not made for, the system's own server."""
    try:
        uv = bootstrap.find_uv(dict(os.environ)) or shutil.which("uv") or "uv"
        into = ("--no-deps", "--python", sys.executable, "--target", str(folder / "server"))
        settings = bootstrap.settings()
        call(uv, "pip", "install", "--quiet", *into, f"{source}=={version}", environment=settings)
    except FetchError:
        (folder / "server").symlink_to(system_postgres())


def system_postgres() -> Path:
    """The newest PostgreSQL of Debian's, installed if need be."""
    for _ in range(2):
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
        if found:
            return found[-1].parent
        install(["postgresql"])
    raise FetchError("PostgreSQL: neither the wheel pgserver nor Debian's package postgresql could be installed")


def system(folder: Path, source: str, version: str) -> None:
    """A program of Debian's, as the machine has it, installed if need be and only linked here."""
    if not shutil.which(source):
        install([source])
    found = shutil.which(source)
    if found is None:
        raise FetchError(f"{source} (Debian's name) is needed on PATH")
    (folder / source).symlink_to(found)


TOOLS: dict[Callable[..., None], tuple[tuple[str, ...], tuple[str, ...]]] = {
    go: (("go",), ("golang-go",)),
    npm: (("node", "npm"), ("nodejs", "npm")),
    maven: (("java", "mvn"), ("openjdk-17-jre-headless", "maven")),
    wheel: ((), ()),
    system: ((), ()),
}
"""What a way calls, and Debian's packages that bring it."""


def need(wanted: Iterable[Callable[..., None]]) -> None:
    """Make the tools of these ways be there. Raises FetchError that says what to install."""
    missing = [way for way in wanted if not all(shutil.which(tool) for tool in TOOLS[way][0])]
    packages = [package for way in missing for package in TOOLS[way][1]]
    if packages:
        install(packages)
    if go in wanted:
        check("Go", r"go(\d+)\.(\d+)", (1, 21), "go", "version")
    if maven in wanted:
        check("Java", r'version "(\d+)\.?(\d*)', (17, 0), "java", "-version")


def install(packages: list[str]) -> None:
    """By apt-get where that is possible."""
    names = " ".join(packages)
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise FetchError(f"missing tools: install {names} (Debian's names), or their like, and put them on PATH")
    print(f"services: installing Debian's {names}", file=sys.stderr, flush=True)
    call("apt-get", "update", "-qq")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    call("apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages, environment=quiet)


def check(name: str, pattern: str, oldest: tuple[int, int], *asked: str) -> None:
    """Refuse a tool that is too old. (From 1.21 on, Go fetches the newer toolchain that a module asks for.)"""
    done = subprocess.run(asked, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    version = re.search(pattern, done.stdout + done.stderr)
    if not version or (int(version[1]), int(version[2] or 0)) < oldest:
        found = version.group(0) if version else "unknown"
        raise FetchError(f"{name} {oldest[0]}.{oldest[1]} or newer is needed, and `{asked[0]}` on PATH is {found}")


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
