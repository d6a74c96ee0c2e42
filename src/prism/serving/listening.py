"""What one process serves: gRPC, HTTP and S3 on their sockets, and the janitor's loop, by role.

Everything is bound before anything is served. On leaving, nothing is accepted any more, what is in flight has
`shutdown_seconds`, all servers stop side by side, and what is not through by then is cancelled: it was not
acknowledged, and is given up like any other write whose caller left.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping

import uvicorn
from starlette.types import ASGIApp

from ..app import App
from ..config import Config, Endpoint
from ..errors import PrismError
from ..server.http_exchange import Reply
from .protocol import bounded_protocol
from .roles import Roles
from .sockets import address_of, bound, check_free

__all__ = ["Listening", "listening"]

_BACKLOG = 2048
_LONGEST_ROUND_SECONDS = 5.0


class Listening:
    """What is being served: `endpoints` as in the ready line, `failed` done when a loop of it ended by an error."""

    def __init__(self) -> None:
        self.endpoints: dict[str, str] = {}
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.stops: list[Callable[[], Awaitable[object]]] = []

    async def stop(self) -> None:
        await asyncio.gather(*(stop() for stop in self.stops))


@contextlib.asynccontextmanager
async def listening(app: App, roles: Roles, *, shared: bool = False) -> AsyncIterator[Listening]:
    """Serve the roles while inside. `shared`: other processes serve the same addresses."""
    with _bound(app.config, roles, shared) as sockets:
        serving = Listening()
        try:
            await _start(app, roles, sockets, serving, shared)
            yield serving
        finally:
            app.readiness.stop()
            await serving.stop()


async def _start(
    app: App, roles: Roles, sockets: Mapping[str, socket.socket], serving: Listening, shared: bool
) -> None:
    server = app.config.server
    if "api" in roles:
        from ..server.grpc import start_grpc
        from ..server.http import http_app
        from ..server.http_exchange import refused

        rpc = await start_grpc(app.services, server.grpc.address, server.tls, share_port=shared)
        serving.stops.append(lambda: rpc.stop(server.shutdown_seconds))
        serving.endpoints["grpc"] = rpc.address
        serving.stops.append(await _serve_http(http_app(app.services), refused, sockets["http"], app.config))
        serving.endpoints["http"] = _url(app.config, server.http, sockets["http"])
    if "s3" in roles:
        from ..server.s3 import s3_app
        from ..server.s3_exchange import refused as s3_refused

        app.s3_url.listens_at(_url(app.config, server.s3, sockets["s3"]))
        serving.stops.append(await _serve_http(s3_app(app.services), s3_refused, sockets["s3"], app.config))
        serving.endpoints["s3"] = _url(app.config, server.s3, sockets["s3"])
    if "janitor" in roles:
        serving.stops.append(_run_janitor(app, serving.failed))


@contextlib.contextmanager
def _bound(config: Config, roles: Roles, shared: bool) -> Iterator[dict[str, socket.socket]]:
    """The sockets of all HTTP servers; that of gRPC, which binds by itself, is proved to be free."""
    with contextlib.ExitStack() as stack:
        sockets = {}
        for name, role, endpoint in (("http", "api", config.server.http), ("s3", "s3", config.server.s3)):
            if role in roles:
                sockets[name] = stack.enter_context(contextlib.closing(bound(name, endpoint, shared=shared)))
        if "api" in roles and not shared:
            check_free("grpc", config.server.grpc)
        yield sockets


def _url(config: Config, endpoint: Endpoint, sock: socket.socket) -> str:
    scheme = "https" if config.server.tls else "http"
    return f"{scheme}://{address_of(endpoint, sock.getsockname()[1])}"


def _run_janitor(app: App, failed: "asyncio.Future[None]") -> Callable[[], Awaitable[None]]:
    """Begin the loop; what is returned ends it, after the step that it is in."""
    stop = asyncio.Event()
    loop = asyncio.ensure_future(app.janitor.run(stop))

    def ended(task: "asyncio.Future[None]") -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not failed.done():
            failed.set_exception(error)

    async def end() -> None:
        stop.set()
        done, _ = await asyncio.wait([loop], timeout=_LONGEST_ROUND_SECONDS)
        if not done:
            loop.cancel()
            await asyncio.wait([loop], timeout=_LONGEST_ROUND_SECONDS)

    loop.add_done_callback(ended)
    return end


class _Server(uvicorn.Server):
    """One uvicorn server on one bound socket; the process looks after signals."""

    def __init__(self, config: uvicorn.Config, sock: socket.socket) -> None:
        super().__init__(config)
        self._sock = sock

    async def start(self) -> None:
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        await self.on_tick(0)
        await self.startup(sockets=[self._sock])
        self._ticking = asyncio.ensure_future(self.main_loop())

    async def stop(self) -> None:
        self._ticking.cancel()
        await self.shutdown(sockets=[self._sock])


async def _serve_http(
    application: ASGIApp, refused: Callable[[PrismError, str], Reply], sock: socket.socket, config: Config
) -> Callable[[], Awaitable[None]]:
    """Begin to serve; what is returned stops it, in `shutdown_seconds` at most."""
    limits, tls = config.limits, config.server.tls
    server = _Server(
        uvicorn.Config(
            application,
            http=bounded_protocol(limits, refused),  # type: ignore[arg-type]  # what makes one will do
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
            timeout_keep_alive=max(1, int(limits.idle_seconds)),
            timeout_graceful_shutdown=config.server.shutdown_seconds,  # type: ignore[arg-type]  # a float will do
            ssl_certfile=tls.cert_file if tls else None,
            ssl_keyfile=tls.key_file if tls else None,
        ),
        sock,
    )
    await server.start()
    return server.stop
