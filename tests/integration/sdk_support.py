"""For tests of the SDK: a server in a thread of its own, and a proxy that cuts connections."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

T = TypeVar("T")


class CuttingProxy:
    """Passes bytes on, and cuts each connection after it gave the client `cuts.pop(0)` bytes."""

    def __init__(self, target: str) -> None:
        self._target = target
        self.cuts: list[int] = []
        self.connections = 0
        self.address = ""
        self._open: set[asyncio.StreamWriter] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["CuttingProxy"]:
        """Listen on a free port until the block is left."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()

    def cut(self) -> None:
        """Cut all connections now."""
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        left = self.cuts.pop(0) if self.cuts else 1 << 60
        host, _, port = self._target.rpartition(":")
        up_reader, up_writer = await asyncio.open_connection(host, int(port))
        upwards = asyncio.ensure_future(_copy(reader, up_writer))
        upwards.add_done_callback(lambda _: up_writer.transport.abort())
        try:
            while left > 0 and (piece := await up_reader.read(min(65_536, left))):
                left -= len(piece)
                writer.write(piece)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            self._open.discard(writer)
            upwards.cancel()
            writer.transport.abort()
            up_writer.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while piece := await reader.read(65_536):
            writer.write(piece)
            await writer.drain()


@contextlib.contextmanager
def in_thread(make: Callable[[], AbstractAsyncContextManager[T]]) -> Iterator[T]:
    """Hold an asynchronous context open in another thread's event loop."""
    entered: Future[tuple[T, Callable[[], object]]] = Future()

    async def hold() -> None:
        leave = asyncio.Event()
        loop = asyncio.get_running_loop()
        async with make() as value:
            entered.set_result((value, lambda: loop.call_soon_threadsafe(leave.set)))
            await leave.wait()

    with ThreadPoolExecutor(1) as thread:
        holding = thread.submit(asyncio.run, hold())
        holding.add_done_callback(lambda ended: entered.done() or entered.set_exception(ended.exception()))
        value, leave = entered.result(20)
        try:
            yield value
        finally:
            leave()
            holding.result(20)
