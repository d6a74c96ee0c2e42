"""Object bytes between an ASGI server and a store: gathered on their way in, held back on their way out, bounded.

A transfer ends when its client lets it wait longer than `limits.idle_seconds`, or is slower on average than
`limits.min_transfer_bytes_per_second`; time that the store takes is not the client's. A body that does not come to its
end is an error to whoever reads it, so nothing of it is ever committed.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, Protocol, TypeVar

from ..config import Limits
from ..errors import ErrorCode, PrismError

__all__ = ["GATHERED_BYTES", "Pace", "Transfer", "incoming", "send_chunks"]

Message = MutableMapping[str, Any]
T = TypeVar("T")
GATHERED_BYTES = 1 << 20
"""Servers hand bodies over in small pieces; stores are handed at least this much at a time."""
_PIECE_BYTES = 1 << 16
"""What is sent in one step: a client at the slowest allowed rate takes it within the idle time."""


class Pace:
    """Watches how long the client of one transfer is waited for; `waited` is the one place to wait for him."""

    def __init__(self, limits: Limits) -> None:
        self._idle = limits.idle_seconds
        self._rate = limits.min_transfer_bytes_per_second
        self._waited = 0.0
        self._since: float | None = None
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._expired = False
        self.moved_bytes = 0

    async def waited(self, step: Awaitable[T]) -> T:
        """Await the client's next move. DEADLINE_EXCEEDED when he is too slow, CANCELLED never comes from here."""
        loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._since = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(self._idle / 4, self._look)
        try:
            return await step
        except asyncio.CancelledError:
            if self._expired and self._task is not None and self._task.uncancel() == 0:
                raise PrismError(
                    ErrorCode.DEADLINE_EXCEEDED,
                    f"the transfer stood still for {self._idle:g} s, or was slower than {self._rate} bytes/s",
                ) from None
            raise
        finally:
            self._waited += loop.time() - self._since
            self._since = None

    def end(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        waiting = 0.0 if self._since is None else loop.time() - self._since
        allowed = self._idle + self.moved_bytes / self._rate if self._rate else float("inf")
        if (
            self._since is not None
            and self._task is not None
            and (waiting > self._idle or self._waited + waiting > allowed)
        ):
            self._expired = True
            self._task.cancel()
            return
        self._timer = loop.call_later(self._idle / 4, self._look)


class Transfer(Protocol):
    """A request of either HTTP-based API, as far as its body goes; `unread`: it has one, and its end was not seen."""

    receive: Callable[[], Awaitable[Message]]
    pace: Pace
    unread: bool


async def incoming(request: Transfer, content_length: int | None) -> AsyncIterator[bytes]:
    """The body of a request in pieces of about 1 MiB; nothing when it has none.

    CANCELLED when the client leaves before, SIZE_MISMATCH when the body is not as long as was announced.
    """
    gathered, size, total = [], 0, 0
    while request.unread:
        message = await request.pace.waited(request.receive())
        if message["type"] == "http.disconnect":
            raise PrismError(ErrorCode.CANCELLED, "the client left before its upload was complete")
        piece: bytes = message.get("body", b"")
        request.unread = message.get("more_body", False)
        if piece:
            gathered.append(piece)
            size += len(piece)
            total += len(piece)
            request.pace.moved_bytes += len(piece)
        if not request.unread and content_length is not None and total != content_length:
            raise PrismError(ErrorCode.SIZE_MISMATCH, f"{total} bytes came, {content_length} were announced")
        if size and (size >= GATHERED_BYTES or not request.unread):
            yield gathered[0] if len(gathered) == 1 else b"".join(gathered)
            gathered, size = [], 0


async def send_chunks(
    chunks: AsyncIterator[bytes],
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
    pace: Pace,
) -> None:
    """Send all of `chunks` as the body of a response that was started. CANCELLED when the client leaves meanwhile."""
    gone = asyncio.ensure_future(_left(receive))
    try:
        async for chunk in chunks:
            await asyncio.sleep(0)  # neither a store nor a socket that is always ready keeps the news from us
            view = memoryview(chunk)
            for at in range(0, len(view), _PIECE_BYTES):
                if gone.done():
                    raise PrismError(ErrorCode.CANCELLED, "the client left before its download was complete")
                piece = view[at : at + _PIECE_BYTES]
                await pace.waited(send({"type": "http.response.body", "body": piece, "more_body": True}))
                pace.moved_bytes += len(piece)
        await pace.waited(send({"type": "http.response.body", "body": b"", "more_body": False}))
    finally:
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)


async def _left(receive: Callable[[], Awaitable[Message]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
