"""Prism's S3 endpoint: path style, Signature Version 4, one ASGI application that decides nothing.

A request is taken apart, its signature is verified, then its handler calls a service, which decides and records.
Whatever happens is answered in S3's terms with a request id; an answer that was begun and cannot be finished breaks its
connection, so it never looks whole.
"""

import asyncio
from typing import cast

import structlog
from starlette.types import ASGIApp, Scope

from ..errors import ErrorCode, PrismError
from .headers import Header
from .http_exchange import Receive, Reply, Send
from .middleware import Cors, request_id_of
from .replying import send_reply
from .s3_auth import authenticate
from .s3_exchange import S3Request, error_reply
from .s3_routing import Operation, find
from .services import Services
from .status import as_prism_error

__all__ = ["s3_app"]

_NOSNIFF: Header = (b"x-content-type-options", b"nosniff")


def s3_app(services: Services) -> ASGIApp:
    """The application; it holds no state but the number of requests in progress."""
    return cast(ASGIApp, _Application(services))


class _Application:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._cors = Cors(services.config.server.cors_origins)
        self._limits = services.config.limits
        self._in_progress = 0
        self._log = structlog.get_logger("prism.s3")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(f"{scope['type']} is not served here")
        headers = _joined(scope["headers"])
        request_id = request_id_of(headers, self._services.new_request_id)
        structlog.contextvars.bind_contextvars(request_id=request_id)
        common = [(b"x-amz-request-id", request_id.encode()), _NOSNIFF, *self._cors.headers(headers)]
        request = S3Request(scope, headers, common, self._services, receive, send)
        self._in_progress += 1
        try:
            if not request.unread and b"expect" in headers:
                # Says 100 Continue: botocore mixes answers up on a connection where an empty body got none.
                await receive()
            reply = await self._answer(request, request_id)
        finally:
            self._in_progress -= 1
            request.pace.end()
        if reply is not None:
            await send_reply(request, headers, reply)

    async def _answer(self, request: S3Request, request_id: str) -> Reply | None:
        preflight = self._cors.preflight(request.method, request.raw_headers)
        if preflight is not None:
            return Reply(204, preflight)
        name = "none"
        try:
            request.parse()
            found = find(request)
            authenticate(request, request_id, found.action if isinstance(found, Operation) else None)
            if isinstance(found, PrismError):
                raise found
            name = found.name
            return await self._run(found, request)
        except Exception as error:  # noqa: BLE001 - the seam where every error becomes an answer; nothing is hidden
            told = as_prism_error(error)
            if told.code is ErrorCode.INTERNAL:
                self._log.error("a request failed unexpectedly", operation=name, exc_info=error)
            if request.started or told.code is ErrorCode.CANCELLED:
                self._log.info("a transfer was broken off", operation=name, code=str(told.code))
                return None
            return error_reply(told, request.method, request.path, request_id)

    async def _run(self, operation: Operation, request: S3Request) -> Reply | None:
        if self._in_progress > self._limits.max_requests:
            raise PrismError(ErrorCode.RATE_LIMITED, "too many requests are in progress", retry_after_seconds=1)
        if request.headers.get("x-amz-expected-bucket-owner", request.namespace) != request.namespace:
            raise PrismError(ErrorCode.PERMISSION_DENIED, "the bucket has another owner than the one expected")
        limits = self._limits
        async with asyncio.timeout(limits.max_transfer_seconds if operation.moves_bytes else limits.request_seconds):
            return await operation.handler(request)


def _joined(raw: list[Header]) -> dict[bytes, bytes]:
    """Headers by name; those that came in several lines as one, as signatures see them."""
    joined: dict[bytes, bytes] = {}
    for name, value in raw:
        joined[name] = joined[name] + b"," + value if name in joined else value
    return joined
