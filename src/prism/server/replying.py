"""Answers as both HTTP-based APIs send them: whole, or an object's bytes; and the end of a body nobody read.

What is left of a small body is read; a large one costs its connection, so that no rest of it is taken for a request.
"""

import asyncio
import contextlib
from typing import Protocol

from ..reading import OpenObject
from .headers import Header
from .http_exchange import Receive, Reply, Send
from .middleware import RequestHeaders
from .transfer import Pace, send_chunks

__all__ = ["Exchange", "send_object", "send_reply"]

_WHOLE_BYTES = 1 << 16
"""Objects up to this size are answered in one piece."""
_CLOSE: Header = (b"connection", b"close")
_SMALL_BODY_BYTES = 1 << 16
_LINGER_SECONDS = 2.0
_LINGER_BYTES = 16 << 20
_LARGE = b"%d" % (1 << 62)


class Exchange(Protocol):
    """A request of either HTTP-based API, as far as its answer goes."""

    receive: Receive
    send: Send
    unread: bool
    pace: Pace

    async def start(self, status: int, headers: list[Header]) -> None: ...


async def send_object(request: Exchange, opened: OpenObject, headers: list[Header]) -> Reply | None:
    """Answer with an object's bytes, whole or the range that was asked for; None when they were streamed out."""
    status, length = 200, opened.byte_range.length
    if opened.partial:
        status, first = 206, opened.byte_range.offset
        span = b"bytes %d-%d/%d" % (first, first + length - 1, opened.info.size_bytes)
        headers = [*headers, (b"content-range", span)]
    async with contextlib.aclosing(opened.chunks()) as chunks:  # type: ignore[type-var]  # an async generator
        if length <= _WHOLE_BYTES:
            return Reply(status, headers, b"".join([chunk async for chunk in chunks]))
        await request.start(status, [*headers, (b"content-length", b"%d" % length)])
        await send_chunks(chunks, request.receive, request.send, request.pace)
    return None


async def send_reply(request: Exchange, headers_sent: RequestHeaders, reply: Reply) -> None:
    """Answer, and get rid of a body that nobody read: a small one is read, a large one ends the connection."""
    if request.unread and int(headers_sent.get(b"content-length", _LARGE)) <= _SMALL_BODY_BYTES:
        request.unread = not await _drained(request.receive)
    headers = reply.headers
    if reply.status not in {204, 304}:
        length = len(reply.body) if reply.length is None else reply.length
        headers = [*headers, (b"content-length", b"%d" % length)]
    if not request.unread:
        await request.start(reply.status, headers)
        await request.send({"type": "http.response.body", "body": reply.body, "more_body": False})
        return
    # Closing while the client still sends would reset the connection, and he might never see why.
    await request.start(reply.status, [*headers, _CLOSE])
    await request.send({"type": "http.response.body", "body": reply.body, "more_body": True})
    await _drained(request.receive)
    await request.send({"type": "http.response.body", "body": b"", "more_body": False})


async def _drained(receive: Receive) -> bool:
    """Read on for a moment and drop it; whether the body came to its end."""
    size = 0
    try:
        async with asyncio.timeout(_LINGER_SECONDS):
            while size < _LINGER_BYTES:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return False
                if not message["more_body"]:
                    return True
                size += len(message["body"])
    except TimeoutError:
        pass
    return False
