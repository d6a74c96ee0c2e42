"""The HTTP API as an ASGI application: lets requests in, finds their route, bounds them, and turns ends into answers.

Every answer carries the request's id and `nosniff`. Nothing is wrapped round the chunks of a body, and an answer that
is whole leaves in one pair of ASGI messages. What a request does is the business of its route; what may be done is
decided by `access` inside the services; which error is which status is `status`'s.
"""

import asyncio
from typing import cast

import structlog
from starlette.types import ASGIApp, Scope

from ..errors import ErrorCode, PrismError
from ..model import Caller
from . import http_namespaces, http_objects, http_uploads
from .headers import Header
from .http_exchange import Receive, Reply, Request, Send, error_reply, refusal
from .http_pages import page_routes
from .http_routing import Resource, Route, Router
from .middleware import BrowserGuard, Cors, request_id_of
from .replying import send_reply
from .services import Services
from .status import as_prism_error

__all__ = ["http_app", "http_router"]

_NOSNIFF: Header = (b"x-content-type-options", b"nosniff")
_ONCE = frozenset(
    {
        *(b"host", b"origin", b"authorization", b"content-type", b"content-length", b"content-md5", b"content-range"),
        *(b"range", b"if-range", b"if-modified-since", b"if-unmodified-since", b"x-request-id"),
    }
)


def http_app(services: Services) -> ASGIApp:
    """The application; it holds no state but the number of requests in progress."""
    return cast(ASGIApp, _Application(services))


def http_router() -> Router:
    """All routes there are."""
    routes = (*http_namespaces.ROUTES, *http_objects.ROUTES, *http_uploads.ROUTES)
    return Router((*routes, *page_routes(routes)))


class _Application:
    def __init__(self, services: Services) -> None:
        config = services.config
        self._services = services
        self._router = http_router()
        self._cors = Cors(config.server.cors_origins)
        self._guard = BrowserGuard(config, config.server.http, self._cors)
        self._anonymous = services.access.anonymous()
        self._limits = config.limits
        self._in_progress = 0
        self._log = structlog.get_logger("prism.http")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                await self._serve(scope, receive, send)
            case "lifespan":
                await _lifespan(receive, send)
            case _:
                await send({"type": "websocket.close", "code": 1008})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw: list[Header] = scope["headers"]
        headers = dict(raw)
        request_id = request_id_of(headers, self._services.new_request_id)
        structlog.contextvars.bind_contextvars(request_id=request_id)
        caller = Caller(principal=self._anonymous, request_id=request_id, api="http")
        request = Request(scope["method"], scope["query_string"], headers, caller, self._services, receive, send)
        request.common = [(b"x-request-id", request_id.encode()), _NOSNIFF, *self._cors.headers(headers)]
        self._in_progress += 1
        try:
            if len(headers) != len(raw):
                request.headers = _joined(raw)
            reply = await self._answer(request, scope)
        except PrismError as error:
            reply = error_reply(error, request_id)
        finally:
            self._in_progress -= 1
            request.pace.end()
        if reply is not None:
            await send_reply(request, request.headers, reply)

    async def _answer(self, request: Request, scope: Scope) -> Reply | None:
        if b"host" not in request.headers and scope["http_version"] == "1.1":
            raise PrismError(ErrorCode.INVALID_ARGUMENT, "a request of HTTP/1.1 has a Host header")
        self._guard.check(request.method, request.headers)
        preflight = self._cors.preflight(request.method, request.headers)
        if preflight is not None:
            return Reply(204, preflight)
        path: bytes = scope["raw_path"]
        found = self._router.find(path)
        if found is None:
            return refusal(404, "NOT_FOUND", "there is no such path; /docs lists all", request.caller.request_id)
        resource, namespace, tail = found
        route = resource.get(request.method)
        if route is None:
            return _not_allowed(request, resource)
        if self._in_progress > self._limits.max_requests and path.startswith(b"/v1/"):
            raise PrismError(ErrorCode.RATE_LIMITED, "too many requests are in progress", retry_after_seconds=1)
        self._router.place(request, namespace, tail)
        return await self._run(route, request)

    async def _run(self, route: Route, request: Request) -> Reply | None:
        seconds = self._limits.max_transfer_seconds if route.moves_bytes else self._limits.request_seconds
        try:
            async with asyncio.timeout(seconds):
                return await route.handler(request)
        except Exception as error:  # noqa: BLE001 - the seam where every error becomes an answer; nothing is hidden
            known = as_prism_error(error)
            if known.code is ErrorCode.INTERNAL:
                self._log.error("a request failed unexpectedly", route=route.name, exc_info=error)
            if request.started or known.code is ErrorCode.CANCELLED:
                # Nobody is told any more: the connection breaks, so a body that was begun never ends cleanly short.
                self._log.info("a transfer was broken off", route=route.name, code=str(known.code))
                return None
            return error_reply(known, request.caller.request_id)


def _joined(raw: list[Header]) -> dict[bytes, bytes]:
    """Headers that came in several lines as one; INVALID_ARGUMENT for what may stand only once."""
    joined: dict[bytes, bytes] = {}
    for name, value in raw:
        if name in joined and (name in _ONCE or name.startswith(b"prism-")):
            raise PrismError(ErrorCode.INVALID_ARGUMENT, f"header {name.decode('latin-1')[:80]} is given twice")
        joined[name] = joined[name] + b", " + value if name in joined else value
    return joined


def _not_allowed(request: Request, resource: Resource) -> Reply:
    allow = ", ".join(sorted(resource)).encode()
    message = f"this path has {', '.join(sorted(resource))}"
    return refusal(405, "METHOD_NOT_ALLOWED", message, request.caller.request_id, [(b"allow", allow)])


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        event = (await receive())["type"].rpartition(".")[2]
        await send({"type": f"lifespan.{event}.complete"})
        if event == "shutdown":
            return
