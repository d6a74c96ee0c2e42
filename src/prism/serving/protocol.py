"""HTTP/1.1 connections with the bounds that uvicorn leaves open: the size of a request's head, and the time for it.

A head of more than `limits.max_header_bytes`, one that is no HTTP, and one on a connection beyond
`limits.max_connections` are answered here, in the words of the API that is served, and end their connection. A head
that is not there after `limits.idle_seconds` ends it, too, and so does a connection that sends nothing at all. Bodies
are the application's affair: it knows what a transfer may take.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ..config import Limits
from ..errors import ErrorCode, PrismError
from ..identifiers import new_request_id
from ..server.http_exchange import Reply

__all__ = ["bounded_protocol"]

_NO_HTTP = PrismError(ErrorCode.INVALID_ARGUMENT, "this is not a request of HTTP/1.1")
_TOO_LARGE = PrismError(ErrorCode.TOO_LARGE, "the headers of the request are too large")
_TOO_MANY = PrismError(ErrorCode.RATE_LIMITED, "too many connections are open")


class _Refused(Exception):
    """Stops the parser; the connection is answered and closed."""


class _Joined:
    """A transport on which two writes in a row leave as one: uvicorn writes the head and the body of an answer apart.

    What is written waits for the next write of the same step of the loop, at most one piece of it.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: bytes | None = None
        self.is_closing = transport.is_closing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self._held is None:
            self._held = data
            self._loop.call_soon(self.flush)
        else:
            held, self._held = self._held, None
            self._transport.writelines((held, data))

    def flush(self) -> None:
        """Send what is held."""
        if self._held is not None:
            held, self._held = self._held, None
            self._transport.write(held)

    def close(self) -> None:
        self.flush()
        self._transport.close()


def bounded_protocol(limits: Limits, refused: Callable[[PrismError, str], Reply]) -> Callable[..., asyncio.Protocol]:
    """Makes one server's connections; `refused` says in its API's words what no request came of, by a request id."""
    return partial(_BoundedProtocol, limits, refused)


class _BoundedProtocol(HttpToolsProtocol):
    def __init__(self, limits: Limits, refused: Callable[[PrismError, str], Reply], **of_uvicorn: Any) -> None:
        super().__init__(**of_uvicorn)
        self._limits = limits
        self._refused = refused
        self._timer: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None
        self._piece_bytes = 0
        self._head_bytes = 0
        self._refusal = _NO_HTTP

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(_Joined(transport, self.loop))  # type: ignore[arg-type]  # a transport in all it does
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)
        self.resume_writing()

    def pause_writing(self) -> None:
        # A connection that is closed while its client takes nothing would wait for him, with its buffer, for good.
        super().pause_writing()
        self._stuck = self.loop.call_later(2 * self._limits.idle_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        self._piece_bytes = len(data)
        if self._timer is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        largest = self._limits.max_header_bytes
        if self._timer is not None and self._head_bytes > largest and not self.transport.is_closing():
            self._refusal = _TOO_LARGE
            self.send_400_response("")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        largest = self._limits.max_header_bytes
        if self._head_bytes > largest and self._measured() > largest:
            self._refusal = _TOO_LARGE
            raise _Refused
        if len(self.connections) > self._limits.max_connections:
            self._refusal = _TOO_MANY
            raise _Refused
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        self._stop_waiting()
        self.transport.write(_serialised(self._refused(self._refusal, new_request_id())))
        self.transport.close()

    def _measured(self) -> int:
        """What the head holds; the piece that it came in may hold a body, too."""
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _await_head(self) -> None:
        self._stop_waiting()
        self._head_bytes = self._piece_bytes
        self._timer = self.loop.call_later(self._limits.idle_seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        self.transport.close()


def _serialised(reply: Reply) -> bytes:
    status = HTTPStatus(reply.status)
    headers = [*reply.headers, (b"content-length", b"%d" % len(reply.body)), (b"connection", b"close")]
    lines = [f"HTTP/1.1 {status.value} {status.phrase}".encode(), *(name + b": " + value for name, value in headers)]
    return b"\r\n".join([*lines, b"", reply.body])
