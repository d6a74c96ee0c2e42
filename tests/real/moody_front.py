"""A front before a store that answers as one in trouble does, and counts what it is asked meanwhile.

It passes connections on, byte by byte, until it is given a mood; then the open ones are cut, and every request gets
that answer. So a test knows exactly what the store said, and how often it was asked.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

import msgspec

__all__ = ["Front", "Mood", "front_before"]

_LINGER_SECONDS = 2.0
_HEAD_BYTES = 2**16


class Mood(msgspec.Struct, frozen=True, kw_only=True):
    """What every request is answered."""

    status: int
    code: str = ""
    """S3's own name of the error, in a body of XML."""
    headers: Mapping[str, str] = {}


class Front:
    """`url` is where it listens; `asked` counts the requests that met a mood."""

    def __init__(self, upstream: str) -> None:
        self._host, _, port = upstream.rpartition(":")
        self._port = int(port)
        self._mood: Mood | None = None
        self._open: set[asyncio.Task[None]] = set()
        self.url = ""
        self.asked = 0

    def turns(self, mood: Mood | None) -> None:
        """From now on; what is open is cut, and counted from 0."""
        self._mood, self.asked = mood, 0
        for task in self._open:
            task.cancel()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            await (self._pass_on(reader, writer) if self._mood is None else self._answer(reader, writer, self._mood))
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._open.discard(task)
            writer.close()

    async def close(self) -> None:
        """Cut everything."""
        open_ = list(self._open)
        for task in open_:
            task.cancel()
        await asyncio.gather(*open_, return_exceptions=True)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(self._host, self._port)
        try:
            await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))
        finally:
            inner_writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, mood: Mood) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        method = head.partition(" ")[0]
        self.asked += 1
        body = f"<Error><Code>{mood.code}</Code></Error>".encode() if mood.code and method != "HEAD" else b""
        lines = [f"HTTP/1.1 {mood.status} Trouble", "Connection: close", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in mood.headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await writer.drain()
        with contextlib.suppress(TimeoutError):  # an early end would reset the connection before the answer is read
            async with asyncio.timeout(_LINGER_SECONDS):
                while await reader.read(_HEAD_BYTES):
                    pass


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(_HEAD_BYTES):
        writer.write(chunk)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


@contextlib.asynccontextmanager
async def front_before(upstream: str) -> AsyncIterator[Front]:
    """A front before `host:port`, on a free port, gone when the block is left."""
    front = Front(upstream)
    server = await asyncio.start_server(front.serve, "127.0.0.1", 0, limit=_HEAD_BYTES)
    front.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield front
    finally:
        server.close()
        await front.close()
