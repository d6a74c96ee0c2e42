"""The life of one serving process: open, listen, say that it is ready, stop when told to.

The first SIGTERM or SIGINT (or the loss of the parent, for a worker) ends it in order: readiness off, nothing
accepted, what is in flight finished, exit 0. A second signal ends it at once. What prevents a start is one sentence on
standard error and exit 1. Standard output carries the ready line and nothing else.
"""

import asyncio
import gc
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping

import structlog
import uvloop

from .. import logs
from ..app import open_app
from ..config import Config, without_effect
from ..errors import PrismError
from ..identifiers import utc_now
from .listening import listening
from .memory import give_back
from .roles import Roles

__all__ = ["READY", "announce", "begin_log", "run", "serve", "stop_on_signals"]

READY = "prism ready "


def announce(endpoints: Mapping[str, str]) -> None:
    """The ready line."""
    print(f"{READY}{json.dumps(dict(endpoints))}", flush=True)


def begin_log(config: Config, *, quiet: bool = False) -> None:
    """Log as configured from here on, beginning, unless `quiet`, with what was set to no effect."""
    logs.configure(config.log.level, utc_now)
    for at in () if quiet else without_effect(config):
        structlog.get_logger("prism.config").warning("a setting has no effect yet", setting=at)


def run(config: Config, roles: Roles, *, shared: bool = False) -> int:
    """Serve until told to stop; the exit code. `shared`: this is one of several workers."""
    begin_log(config, quiet=shared)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(config, roles, shared=shared))
    except PrismError as error:
        print(f"prism: {error.message}", file=sys.stderr, flush=True)
        return 1
    return 0


async def serve(config: Config, roles: Roles, *, shared: bool = False) -> None:
    """Serve inside a running loop. Errors: whatever prevents the start, as `PrismError`."""
    stop = asyncio.Event()
    stop_on_signals(stop.set)
    if shared:
        _stop_with_parent()
    async with open_app(config) as app, listening(app, roles, shared=shared) as serving:
        # What is here now stays: the collector need not walk over it again.
        gc.collect()
        gc.freeze()
        if not stop.is_set():
            announce(serving.endpoints)
        serving.failed.add_done_callback(lambda _: stop.set())
        trimming = asyncio.ensure_future(give_back())
        await stop.wait()
        trimming.cancel()
        if serving.failed.done():
            serving.failed.result()


def stop_on_signals(stop: Callable[[], object]) -> None:
    """The first signal calls `stop`, the second ends the process at once."""
    loop = asyncio.get_running_loop()
    told: list[int] = []

    def heard(number: int) -> None:
        if told:
            os._exit(1)
        told.append(number)
        stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, heard, number)


def _stop_with_parent() -> None:
    """A worker's standard input is held open by its parent, and tells when that one has died."""

    def readable() -> None:
        if not os.read(0, 4096):
            os._exit(1)

    asyncio.get_running_loop().add_reader(0, readable)
