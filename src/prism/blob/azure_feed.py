"""A body that a thread sends while the event loop gives its pieces: no more than two of them are held.

The thread asks the loop for each piece, so the caller's stream stays in its loop and a slow one slows the sender. A
body of another size than was said ends before its last piece, so that nothing whole is ever sent of it.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import CancelledError

from .driver import BadPart

__all__ = ["Feed", "FeedStopped"]


class FeedStopped(Exception):
    """The body ended early; `Feed.error` says why."""


class Feed:
    """Make it in the loop, iterate it in a thread, `stop` it in the loop when nobody waits any more."""

    def __init__(self, chunks: AsyncIterator[bytes], size_bytes: int) -> None:
        self.error: Exception | None = None
        """What the caller's stream raised, or `BadPart`."""
        self._chunks = chunks
        self._size_bytes = size_bytes
        self._loop = asyncio.get_running_loop()
        self._pulling: asyncio.Task[bytes] | None = None
        self._stopped = False

    def __len__(self) -> int:
        return self._size_bytes

    def __iter__(self) -> Iterator[bytes]:
        left = self._size_bytes
        piece = self._piece()
        while piece:
            left -= len(piece)
            following = self._piece() if left >= 0 else b""
            if left < 0 or (not left and following) or (left and not following):
                break
            yield piece
            piece = following
        if left or piece:
            self.error = BadPart(f"the part has {'fewer' if left > 0 else 'more'} bytes than was said")
            raise FeedStopped

    async def expect_end(self) -> None:
        """`BadPart` if an empty body is not empty."""
        if await self._next():
            raise BadPart("the part has more bytes than was said")

    async def stop(self) -> None:
        """Let the thread go, wherever it is; the caller's stream is at rest when this returns."""
        self._stopped = True
        if self._pulling is not None and not self._pulling.done():
            self._pulling.cancel()
            await asyncio.wait([self._pulling])

    def _piece(self) -> bytes:
        try:
            return asyncio.run_coroutine_threadsafe(self._next(), self._loop).result()
        except (Exception, CancelledError) as error:  # noqa: BLE001 - handed to whoever waits for the request
            self.error = error if isinstance(error, Exception) else None
            raise FeedStopped from None

    async def _next(self) -> bytes:
        if self._stopped:
            raise FeedStopped
        self._pulling = asyncio.current_task()
        return await anext(self._chunks, b"")
