"""Several processes that share the ports and the data: started, watched and stopped by a parent that serves nothing.

The parent settles the addresses once and prints the ready line when all workers are ready. A worker that dies is
started again, after a pause that doubles up to half a minute; one that cannot start at first ends the whole with exit
1. Workers are processes of their own (nothing forks a running library), out of the terminal's reach, and die with
their parent.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import structlog

from ..config import Config, MemoryStore, load
from ..errors import ErrorCode, PrismError
from ..failpoints import arm_from
from .process import READY, announce, begin_log, run, stop_on_signals
from .roles import BUILT, Roles
from .sockets import reserved

__all__ = ["Origin", "run_workers"]

T = TypeVar("T")
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_START_SECONDS = 30.0
_SPARE_SECONDS = 5.0


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where a configuration came from, so that a worker loads the same; nothing secret stands in it."""

    config: str | None = None
    data_dir: str | None = None
    overrides: Mapping[str, str] = {}
    roles: Roles = BUILT

    def load(self) -> Config:
        """The configuration. Errors as those of `prism.config.load`."""
        file, folder = (None if path is None else Path(path) for path in (self.config, self.data_dir))
        return load(file, os.environ, data_dir=folder, overrides=self.overrides)


def run_workers(config: Config, origin: Origin, number: int) -> int:
    """Serve with `number` workers until told to stop; the exit code."""
    begin_log(config)
    try:
        _check_shareable(config, number)
        return asyncio.run(_run(config, origin, number))
    except PrismError as error:
        print(f"prism: {error.message}", file=sys.stderr, flush=True)
        return 1


def _check_shareable(config: Config, number: int) -> None:
    alone = [f"namespaces.{space.name}.backend" for space in config.namespaces if isinstance(space.store, MemoryStore)]
    alone += [f"{at}.url" for at, url in (("meta", config.meta.url), ("bus", config.bus.url)) if url == "memory:"]
    if alone:
        what = f"memory lives in one process, and {number} workers are asked for"
        raise PrismError(ErrorCode.INVALID_ARGUMENT, f"{alone[0]}: {what}")


async def _run(config: Config, origin: Origin, number: int) -> int:
    server = config.server
    wanted = {"grpc": ("api", server.grpc), "http": ("api", server.http), "s3": ("s3", server.s3)}
    with contextlib.ExitStack() as stack:
        addresses = {
            f"server.{name}.address": stack.enter_context(reserved(name, endpoint))
            for name, (role, endpoint) in wanted.items()
            if role in origin.roles
        }
        settled = msgspec.structs.replace(origin, overrides={**origin.overrides, **addresses})
        return await _Workers(settled, number, server.shutdown_seconds).run()


class _Workers:
    """The workers of one parent."""

    def __init__(self, origin: Origin, number: int, shutdown_seconds: float) -> None:
        self._origin = msgspec.json.encode(origin).decode()
        self._shutdown_seconds = shutdown_seconds
        self._numbers = range(1, number + 1)
        self._stop = asyncio.Event()
        self._failed = False
        self._log = structlog.get_logger("prism.workers")

    async def run(self) -> int:
        stop_on_signals(self._stop.set)
        ready: list[asyncio.Future[str]] = [asyncio.get_running_loop().create_future() for _ in self._numbers]
        keepers = [asyncio.ensure_future(self._keep(n, first)) for n, first in zip(self._numbers, ready, strict=True)]
        said = asyncio.ensure_future(self._announce(ready))
        await asyncio.gather(*keepers)
        said.cancel()
        return 1 if self._failed else 0

    async def _announce(self, ready: list["asyncio.Future[str]"]) -> None:
        lines = await asyncio.gather(*ready)
        announce(json.loads(lines[0].removeprefix(READY)))

    async def _keep(self, number: int, first: "asyncio.Future[str]") -> None:
        """One worker's place, filled again until the end."""
        pause = _FIRST_PAUSE_SECONDS
        while not self._stop.is_set():
            began = asyncio.get_running_loop().time()
            code = await self._life(first)
            if self._stop.is_set():
                # One that was told before it had begun to listen to signals served nothing yet.
                self._failed |= code not in (0, -signal.SIGTERM)
            elif not first.done():
                self._failed = True
                self._stop.set()
            else:
                lived = asyncio.get_running_loop().time() - began
                pause = _FIRST_PAUSE_SECONDS if lived > _LONGEST_PAUSE_SECONDS else pause
                self._log.error("a worker died and is started again", worker=number, code=code, pause_seconds=pause)
                await self._pause(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    async def _life(self, first: "asyncio.Future[str]") -> int:
        """From start to end of one process; its exit code."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "prism.serving.workers",
            self._origin,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        ended = asyncio.ensure_future(process.wait())
        try:
            await self._until_ready(process, first)
            await self._either(ended)
            if not ended.done():
                process.terminate()
                await asyncio.wait([ended], timeout=self._shutdown_seconds + _SPARE_SECONDS)
        finally:
            if not ended.done():
                process.kill()
        return await ended

    async def _until_ready(self, process: asyncio.subprocess.Process, first: "asyncio.Future[str]") -> None:
        """Take the worker's ready line; one that is not ready in time is killed, and so started again."""
        assert process.stdout is not None
        line = asyncio.ensure_future(process.stdout.readline())
        await self._either(line, _START_SECONDS)
        if not line.done():
            line.cancel()
            if not self._stop.is_set():
                process.kill()
        elif line.result() and not first.done():
            first.set_result(line.result().decode())

    async def _either(self, task: "asyncio.Future[T]", seconds: float | None = None) -> None:
        """Until `task` is done, the workers are told to stop, or the time is over."""
        told = asyncio.ensure_future(self._stop.wait())
        both: list[asyncio.Future[Any]] = [task, told]
        await asyncio.wait(both, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        told.cancel()

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)


def _main() -> int:
    """A worker's own entry."""
    arm_from(os.environ)
    origin = msgspec.json.decode(sys.argv[1], type=Origin)
    try:
        config = origin.load()
    except PrismError as error:
        print(f"prism: {error.message}", file=sys.stderr, flush=True)
        return 1
    return run(config, origin.roles, shared=True)


if __name__ == "__main__":
    sys.exit(_main())
