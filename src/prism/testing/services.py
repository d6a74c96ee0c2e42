"""The real servers that tests run against: where they are, and private ones that a test may stop, kill and start again.

`make services` starts the shared servers and says where they are in `PRISM_TEST_…` variables; `service` reads those.
What is missing is an error, never a reason to skip. Shared servers are never stopped or filled by a test: it makes a
bucket of its own and removes it. Whoever needs to break a server starts one here, or puts a `toxiproxy.Proxy`
before it.
"""

import asyncio
import contextlib
import os
import socket
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from . import servers
from .servers import Command

__all__ = [
    "PrivateServer",
    "Service",
    "free_port",
    "private_minio",
    "private_versitygw",
    "program",
    "serves",
    "service",
]

ServiceName = Literal["minio", "minio_tls", "versitygw", "gcs", "azurite", "toxiproxy", "postgres", "kafka"]
ProgramName = Literal["minio", "versitygw", "gcs", "azurite", "toxiproxy"]

_START_SECONDS = 30.0
_STOP_SECONDS = 10.0
_LOOK_SECONDS = 0.05


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """A server that runs."""

    url: str
    """`http(s)://127.0.0.1:port`; `azurite`: with the account as its path; `kafka`: `host:port`; `postgres`: a DSN."""
    access_key: str = ""
    """Of S3 servers; `azurite`: the account's name."""
    secret_key: str = ""
    """Of S3 servers; `azurite`: the account's key, base64."""
    ca_file: Path | None = None
    """Who signed its certificate, PEM; None: plain text."""

    @property
    def address(self) -> str:
        """`host:port`, as a proxy before it needs."""
        return urllib.parse.urlsplit(self.url).netloc.rpartition("@")[2] or self.url


def service(name: ServiceName, environment: Mapping[str, str] = os.environ) -> Service:
    """The shared server of that name. Raises LookupError where no variable says where it is."""
    stem, keys = f"PRISM_TEST_{name.upper()}", f"PRISM_TEST_{name.removesuffix('_tls').upper()}"
    variable = stem if name == "kafka" else f"{stem}_URL"
    url = _variable(variable, environment)
    if name == "azurite":
        account, key = _variable(f"{stem}_ACCOUNT", environment), _variable(f"{stem}_KEY", environment)
        return Service(url=url, access_key=account, secret_key=key)
    if name not in ("minio", "minio_tls", "versitygw"):
        return Service(url=url)
    return Service(
        url=url,
        access_key=_variable(f"{keys}_ACCESS_KEY", environment),
        secret_key=_variable(f"{keys}_SECRET_KEY", environment),
        ca_file=Path(_variable("PRISM_TEST_CA_FILE", environment)) if name == "minio_tls" else None,
    )


def program(name: ProgramName, environment: Mapping[str, str] = os.environ) -> Path:
    """The server's program, for a test that starts its own. Raises LookupError as `service` does."""
    return Path(_variable(f"PRISM_TEST_{name.upper()}_BIN", environment))


def _variable(name: str, environment: Mapping[str, str]) -> str:
    found = environment.get(name)
    if not found:
        raise LookupError(f"{name} is not set: `make services` starts the real servers and prints it")
    return found


def free_port() -> int:
    """A loopback port that nobody listened on a moment ago."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def serves(command: Command) -> bool:
    """One look, of two seconds at most, whether the command's server answers."""
    parts = urllib.parse.urlsplit(command.health)
    try:
        if parts.scheme == "tcp":
            socket.create_connection((parts.hostname, parts.port or 0), timeout=2).close()
            return True
        trusted = ssl.create_default_context(cafile=str(command.ca_file)) if command.ca_file else None
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusted)
        )
        with opener.open(command.health, timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


class PrivateServer:
    """A server that belongs to one test. It keeps its data and its port over `stop` or `kill` and `start`."""

    def __init__(self, command: Command, service: Service, log: Path) -> None:
        self._command = command
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self.service = service

    async def start(self) -> None:
        """Returns once it serves. Raises RuntimeError if it ended instead, TimeoutError after 30 seconds."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command.arguments,
                env={**os.environ, **self._command.environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            async with asyncio.timeout(_START_SECONDS):
                while not await asyncio.to_thread(serves, self._command):
                    if self._process.returncode is not None:
                        raise RuntimeError(f"the server ended with {self._process.returncode}, see {self._log}")
                    await asyncio.sleep(_LOOK_SECONDS)
        except BaseException:
            await self.kill()
            raise

    async def stop(self) -> None:
        """Ask it to end, and end it after 10 seconds. Without effect on one that does not run."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), _STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()

    async def kill(self) -> None:
        """As a power cut would, but for what the kernel still writes out."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()


@contextlib.asynccontextmanager
async def private_minio(folder: Path, *, port: int | None = None) -> AsyncIterator[PrivateServer]:
    """A MinIO of the test's own over `folder`, already serving; gone when the block is left."""
    keys = service("minio")
    chosen = port or free_port()
    command = servers.minio(program("minio"), folder, chosen, access_key=keys.access_key, secret_key=keys.secret_key)
    async with _running(command, keys, chosen, folder) as server:
        yield server


@contextlib.asynccontextmanager
async def private_versitygw(folder: Path, *, port: int | None = None) -> AsyncIterator[PrivateServer]:
    """A Versity gateway of the test's own over `folder`, already serving; gone when the block is left."""
    keys = service("versitygw")
    chosen = port or free_port()
    command = servers.versitygw(
        program("versitygw"), folder, chosen, access_key=keys.access_key, secret_key=keys.secret_key
    )
    async with _running(command, keys, chosen, folder) as server:
        yield server


@contextlib.asynccontextmanager
async def _running(command: Command, keys: Service, port: int, folder: Path) -> AsyncIterator[PrivateServer]:
    mine = msgspec.structs.replace(keys, url=f"http://127.0.0.1:{port}", ca_file=None)
    server = PrivateServer(command, mine, folder / "server.log")
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
