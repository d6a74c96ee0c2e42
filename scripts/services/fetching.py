"""Fetches each server once, at the version named here, by the ordinary client of its registry.

What always holds: a folder `NAME-VERSION` in the cache is whole, since a fetch works in a folder aside and renames it
at the end; another version in the table is another folder. Nothing is installed outside the cache but the tools that do
the fetching, by apt-get, where they are missing and we are root.
"""

import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from . import ways

__all__ = ["PACKAGES", "FetchError", "Package", "fetch_all"]

FetchError = ways.FetchError


@dataclass(frozen=True)
class Package:
    """One server's program."""

    name: str
    way: Callable[[Path, str, str], None]
    source: str
    version: str
    program: str
    """Where in its folder the program lies; a folder for those that are more than one file."""


PACKAGES = (
    Package("minio", ways.go, "github.com/minio/minio", "v0.0.0-20260212201848-7aac2a2c5b7c", "bin/minio"),
    Package("versitygw", ways.go, "github.com/versity/versitygw/cmd/versitygw", "v1.8.0", "bin/versitygw"),
    Package("gcs", ways.go, "github.com/fsouza/fake-gcs-server", "v1.56.1", "bin/fake-gcs-server"),
    Package("toxiproxy", ways.go, "github.com/Shopify/toxiproxy/v2/cmd/server", "v2.5.0", "bin/server"),
    Package("azurite", ways.npm, "azurite", "3.35.0", "node_modules/.bin/azurite-blob"),
    Package("postgres", ways.wheel, "pgserver", "0.1.4", "server"),
    Package("kafka", ways.maven, "org.apache.kafka:kafka_2.13", "4.1.0", "jars"),
    Package("chromium", ways.system, "chromium", "system", "chromium"),
)


def fetch_all(home: Path, packages: Sequence[Package]) -> dict[str, Path]:
    """Every server's program by name, fetched first where it is missing. Raises FetchError with what to do."""
    missing = [package for package in packages if not folder_of(home, package).exists()]
    if missing:
        sweep(home)
        say("fetching real servers, once for this checkout: about five minutes, most of them for building MinIO")
        ways.need({package.way for package in missing})
        with ThreadPoolExecutor(max_workers=3) as pool:
            list(pool.map(lambda package: fetch(home, package), missing))
    return {package.name: folder_of(home, package) / package.program for package in packages}


def folder_of(home: Path, package: Package) -> Path:
    return home / f"{package.name}-{package.version}"


def fetch(home: Path, package: Package) -> None:
    say(f"fetching {package.name} {package.version}")
    aside = Path(tempfile.mkdtemp(prefix=".fetching-", dir=home))
    try:
        package.way(aside, package.source, package.version)
        if not (aside / package.program).exists():
            raise FetchError(f"{package.source} {package.version} came without {package.program}")
        aside.chmod(0o755)
        aside.rename(folder_of(home, package))
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def sweep(home: Path) -> None:
    """Remove what an interrupted fetch left (the caller holds the lock: no other one is under way)."""
    for left in home.glob(".fetching-*"):
        shutil.rmtree(left, ignore_errors=True)


def say(sentence: str) -> None:
    print(f"services: {sentence}", file=sys.stderr, flush=True)
