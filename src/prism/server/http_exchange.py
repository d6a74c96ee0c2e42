"""One HTTP request and its answer: names out of the raw path, typed queries and JSON bodies, replies as single values.

A path is percent-decoded exactly once, segment by segment, and never normalised. Queries and bodies become frozen types
in one step; what is unknown, given twice, malformed or too large is refused by name before anything is done.
"""

import re
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes

import msgspec

from ..errors import ErrorCode, PrismError
from ..model import Caller
from .headers import Header, http_date
from .middleware import RequestHeaders
from .services import Services
from .status import STATUS
from .transfer import Pace

__all__ = [
    "ErrorReply",
    "Receive",
    "Reply",
    "Request",
    "Send",
    "decoded",
    "error_headers",
    "error_reply",
    "json_reply",
    "refusal",
    "refused",
]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
T = TypeVar("T")

_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_MAX_PARAMETERS = 64
_encode = msgspec.json.Encoder().encode
_JSON: list[Header] = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]


class ErrorInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """What went wrong. `code` decides, `message` is for people, `retryable`: the same request may succeed later."""

    code: str
    message: str
    request_id: str
    retryable: bool = False
    context: dict[str, str] = {}


class ErrorReply(msgspec.Struct, frozen=True):
    """The body of every answer that is an error."""

    error: ErrorInfo


class Reply(msgspec.Struct, frozen=True):
    """An answer that is whole: it leaves in one piece."""

    status: int
    headers: list[Header]
    body: bytes = b""
    length: int | None = None
    """The Content-Length of an answer to HEAD; else the body's."""


def json_reply(value: object, status: int = 200, headers: list[Header] | None = None) -> Reply:
    """A value as JSON."""
    return Reply(status, _JSON if headers is None else _JSON + headers, _encode(value))


def refusal(status: int, code: str, message: str, request_id: str, headers: list[Header] | None = None) -> Reply:
    """An error of HTTP itself, which no room knows: no such route, no such method."""
    return json_reply(ErrorReply(ErrorInfo(code, message, request_id)), status, headers)


def error_reply(error: PrismError, request_id: str) -> Reply:
    """What a caller is told of an error."""
    status, headers = STATUS[error.code].http, error_headers(error)
    if status == 304:
        return Reply(304, headers)
    if status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="prism"'))
    told = ErrorInfo(str(error.code), error.message, request_id, error.retryable, error.context)
    return json_reply(ErrorReply(told), status, headers)


def refused(error: PrismError, request_id: str) -> Reply:
    """What a caller is told when no request came of what he sent."""
    reply = error_reply(error, request_id)
    status = 431 if error.code is ErrorCode.TOO_LARGE else reply.status
    return Reply(status, [*reply.headers, (b"x-request-id", request_id.encode())], reply.body)


def error_headers(error: PrismError) -> list[Header]:
    """What RFC 9110 asks of an answer with this error: when to come back, how long the object is, what it is now."""
    headers: list[Header] = []
    if error.retry_after_seconds is not None or error.code is ErrorCode.RATE_LIMITED:
        headers.append((b"retry-after", b"%d" % max(1, -(-(error.retry_after_seconds or 1) // 1))))
    if error.code is ErrorCode.RANGE_NOT_SATISFIABLE and "size_bytes" in error.context:
        headers.append((b"content-range", f"bytes */{error.context['size_bytes']}".encode()))
    if error.code is ErrorCode.NOT_MODIFIED:
        changed = datetime.fromisoformat(error.context["last_modified"])
        headers += [(b"cache-control", b"no-cache"), (b"etag", b'"%s"' % error.context["etag"].encode())]
        headers.append((b"last-modified", http_date(changed)))
    return headers


class Request:
    """One request. `namespace` and `tail` are the variable parts of its path, decoded."""

    __slots__ = (
        *("caller", "common", "headers", "method", "namespace", "pace", "query", "receive", "send", "services"),
        *("started", "tail", "unread"),
    )

    def __init__(
        self,
        method: str,
        query: bytes,
        headers: RequestHeaders,
        caller: Caller,
        services: Services,
        receive: Receive,
        send: Send,
    ) -> None:
        self.method = method
        self.query = query
        self.headers = headers
        self.caller = caller
        self.services = services
        self.receive = receive
        self.send = send
        self.namespace = ""
        self.tail = ""
        self.common: list[Header] = []
        """What every answer carries."""
        self.started = False
        """The head of the answer has been sent."""
        self.unread = headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
        """A body was announced and is not read to its end."""
        self.pace = Pace(services.config.limits)

    async def start(self, status: int, headers: list[Header]) -> None:
        """Send the head of the answer."""
        self.started = True
        await self.send({"type": "http.response.start", "status": status, "headers": headers + self.common})

    def text(self, name: str) -> str | None:
        """A header as text; None when it is absent."""
        value = self.headers.get(name.encode())
        return None if value is None else value.decode("latin-1")

    def parameters(self, kind: type[T]) -> T:
        """The query as a value of `kind`."""
        if not self.query:
            return _converted({}, kind)
        given: dict[str, str] = {}
        pairs = self.query.split(b"&")
        if len(pairs) > _MAX_PARAMETERS:
            raise PrismError(ErrorCode.INVALID_ARGUMENT, f"a query has at most {_MAX_PARAMETERS} parameters")
        for pair in filter(None, pairs):
            name, _, value = pair.replace(b"+", b" ").partition(b"=")
            text = decoded(name, "the query")
            if text in given:
                raise PrismError(ErrorCode.INVALID_ARGUMENT, f"query parameter {text[:40]!r} is given twice")
            given[text] = decoded(value, f"query parameter {text[:40]!r}")
        return _converted(given, kind)

    async def json(self, kind: type[T]) -> T:
        """The body as a value of `kind`; TOO_LARGE, INVALID_ARGUMENT. It must be all here before the deadline."""
        largest = self.services.config.limits.max_json_bytes
        if int(self.headers.get(b"content-length", b"0")) > largest:
            raise _json_too_large(largest)
        pieces, size = [], 0
        while self.unread:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise PrismError(ErrorCode.CANCELLED, "the client left before its request was complete")
            size += len(message["body"])
            if size > largest:
                raise _json_too_large(largest)
            pieces.append(message["body"])
            self.unread = message["more_body"]
        try:
            return msgspec.json.decode(b"".join(pieces), type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise PrismError(
                ErrorCode.INVALID_ARGUMENT, f"the body is not what is expected: {str(error)[:300]}"
            ) from error


def _json_too_large(largest: int) -> PrismError:
    return PrismError(ErrorCode.TOO_LARGE, f"a body that is not an object's bytes has at most {largest} bytes")


def _converted(given: dict[str, str], kind: type[T]) -> T:
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise PrismError(ErrorCode.INVALID_ARGUMENT, f"query: {str(error)[:300]}") from error


def decoded(raw: bytes, what: str) -> str:
    """Percent-decoded once, as UTF-8. INVALID_ARGUMENT for a broken escape or for bytes that are no UTF-8."""
    if b"%" in raw:
        if _BROKEN_ESCAPE.search(raw):
            raise PrismError(ErrorCode.INVALID_ARGUMENT, f"in {what} a % is not followed by two hexadecimal digits")
        raw = unquote_to_bytes(raw)
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise PrismError(ErrorCode.INVALID_ARGUMENT, f"{what} is not UTF-8") from error
