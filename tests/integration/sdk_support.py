"""For tests of the SDK: a server in a thread of its own, and a proxy that cuts connections."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
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

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["CuttingProxy"]:
        """Listen on a free port until the block is left."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
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
    entered, failures, values = threading.Event(), list[BaseException](), list[T]()
    loop, leave = asyncio.new_event_loop(), asyncio.Event()

    async def hold() -> None:
        try:
            async with make() as value:
                values.append(value)
                entered.set()
                await leave.wait()
        except BaseException as error:
            failures.append(error)
            raise
        finally:
            entered.set()

    thread = threading.Thread(target=lambda: loop.run_until_complete(hold()), daemon=True)
    thread.start()
    assert entered.wait(20)
    if failures:
        raise failures[0]
    try:
        yield values[0]
    finally:
        loop.call_soon_threadsafe(leave.set)
        thread.join(20)
        loop.close()
