"""A TCP line before a server that is known later, which a test lets break off or alter what passes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

__all__ = ["Line", "line"]

Meddle = Callable[[bytes], bytes | None]


class Line:
    """`up` and `down` get each piece that passes and give what goes on instead; None breaks the connection off."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.target = ""
        self.up: Meddle = bytes
        self.down: Meddle = bytes
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        host, _, port = self.target.rpartition(":")
        up_reader, up_writer = await asyncio.open_connection(host, int(port))
        both = (
            asyncio.ensure_future(_copy(reader, up_writer, lambda piece: self.up(piece))),
            asyncio.ensure_future(_copy(up_reader, writer, lambda piece: self.down(piece))),
        )
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in both:
                one.cancel()
            up_writer.transport.abort()
            writer.transport.abort()


@contextlib.asynccontextmanager
async def line() -> AsyncIterator[Line]:
    """Listens on a free port until the block is left."""
    found: list[Line] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await found[0].serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    found.append(Line(f"127.0.0.1:{server.sockets[0].getsockname()[1]}"))
    try:
        yield found[0]
    finally:
        server.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, meddle: Meddle) -> None:
    with contextlib.suppress(ConnectionError):
        while piece := await reader.read(65_536):
            passed = meddle(piece)
            if passed is None:
                return
            writer.write(passed)
            await writer.drain()
