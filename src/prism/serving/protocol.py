"""HTTP/1.1 connections with the bounds that uvicorn leaves open: the size of a request's head, and the time for it.

A head of more than `max_head_bytes` is answered 431; one that is not there after `idle_seconds` ends its connection,
and so does a connection that sends nothing at all. Bodies are the application's affair: it knows what a transfer may
take.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["bounded_protocol"]

_BODY = b'{"error": {"code": "TOO_LARGE", "message": "the headers of the request are too large"}}'
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(_BODY), _BODY)
)


class _HeadTooLarge(Exception):
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


def bounded_protocol(max_head_bytes: int, idle_seconds: float) -> type[HttpToolsProtocol]:
    """The protocol class of one server."""

    class BoundedProtocol(HttpToolsProtocol):
        _timer: asyncio.TimerHandle | None = None
        _stuck: asyncio.TimerHandle | None = None
        _piece_bytes = 0
        _head_bytes = 0
        _too_large = False

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
            self._stuck = self.loop.call_later(2 * idle_seconds, self.transport.abort)

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
            if self._timer is not None and self._head_bytes > max_head_bytes and not self.transport.is_closing():
                self._too_large = True
                self.send_400_response("")

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._await_head()

        def on_headers_complete(self) -> None:
            self._stop_waiting()
            if self._head_bytes > max_head_bytes and self._measured() > max_head_bytes:
                self._too_large = True
                raise _HeadTooLarge
            super().on_headers_complete()

        def send_400_response(self, msg: str) -> None:
            self._stop_waiting()
            if not self._too_large:
                super().send_400_response(msg)
                return
            self.transport.write(_TOO_LARGE)
            self.transport.close()

        def _measured(self) -> int:
            """What the head holds; the piece that it came in may hold a body, too."""
            return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

        def _await_head(self) -> None:
            self._stop_waiting()
            self._head_bytes = self._piece_bytes
            self._timer = self.loop.call_later(idle_seconds, self._give_up)

        def _stop_waiting(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _give_up(self) -> None:
            self._timer = None
            self.transport.close()

    return BoundedProtocol
