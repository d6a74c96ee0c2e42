"""Streams of the asynchronous client: its connection, sending, and reading that resumes where a stream broke."""

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Protocol, TypeVar

import grpc
import grpc.aio

from . import wire
from .channel import Channel
from .connection import OPTIONS, Connection, Timeouts
from .downloads import Download, OpenedObject
from .errors import PrismError, Stalled, Unavailable, error_of
from .retrying import Attempts
from .sources import Source
from .transfers import Sending
from .values import PutResult

__all__ = ["AsyncChannel", "AsyncObjectReader", "in_background", "send"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
_STOP_SECONDS = 5.0


class Transfer(Protocol[T_co]):
    """A file's upload or download."""

    def run(self) -> T_co:
        """To its end."""

    def stop(self) -> None:
        """End soon."""


class AsyncChannel:
    """Calls by method name, on the loop that used it first."""

    def __init__(self, connection: Connection, timeouts: Timeouts) -> None:
        self.connection = connection
        self.stall_seconds = timeouts.stall_seconds
        self.threads = Channel(connection, timeouts)
        """What runs in threads of its own uses this one."""
        self._channel: Any = None
        self._methods: dict[str, Any] = {}
        self._closed = False

    def method(self, kind: str, name: str) -> Any:
        """A callable of kind `unary_unary`, `stream_unary` or `unary_stream`."""
        if name not in self._methods or self._closed:
            self._methods[name] = getattr(self._open(), kind)(name)
        return self._methods[name]

    def _open(self) -> Any:
        if self._closed:
            raise PrismError("this client is closed")
        if self._channel is None:
            target, credentials = self.connection.target, self.connection.credentials
            if credentials is None:
                self._channel = grpc.aio.insecure_channel(target, options=OPTIONS)
            else:
                self._channel = grpc.aio.secure_channel(target, credentials, options=OPTIONS)
        return self._channel

    async def close(self) -> None:
        """End the connection; calls under way are cancelled."""
        self._closed = True
        self.threads.close()
        if self._channel is not None:
            await self._channel.close()

    async def moving(self, step: Any) -> Any:
        """One step of a stream, within the stall timeout."""
        try:
            async with asyncio.timeout(self.stall_seconds):
                return await step
        except TimeoutError as error:
            raise Stalled("nothing moved for the client's stall timeout") from error
        except grpc.RpcError as error:
            raise error_of(error) from error


async def send(channel: AsyncChannel, header: bytes, source: Source, timeout_seconds: float) -> PutResult:
    """One attempt of a put, over a synchronous stream: in grpc.aio a write that fails because the server has answered
    already can put a status of its own in the place of that answer, so the reason would be lost."""
    loop = asyncio.get_running_loop()
    sending = Sending(channel.threads, header, source, timeout_seconds)
    answered = asyncio.Event()
    sending.call.add_done_callback(lambda _: loop.call_soon_threadsafe(answered.set))
    try:
        await answered.wait()
        return sending.result()
    finally:
        sending.cancel()
        if not sending.end(0):
            await asyncio.to_thread(sending.end_surely)


async def in_background(transfer: Transfer[T]) -> T:
    """Run a file's transfer in a thread of its own. Cancelling stops it and waits a little for its end."""
    ended: Future[T] = Future()

    def run() -> None:
        try:
            ended.set_result(transfer.run())
        except BaseException as error:  # noqa: BLE001 raised again where it is awaited
            ended.set_exception(error)

    threading.Thread(target=run, name="prism-file", daemon=True).start()
    waiting = asyncio.wrap_future(ended)
    try:
        return await asyncio.shield(waiting)
    except asyncio.CancelledError:
        transfer.stop()
        await asyncio.wait([waiting], timeout=_STOP_SECONDS)
        if waiting.done() and not waiting.cancelled():
            waiting.exception()  # it is known: the transfer was stopped
        raise


class AsyncObjectReader(OpenedObject):
    """An object to read, opened by `async with`."""

    def __init__(self, channel: AsyncChannel, download: Download, timeout_seconds: float) -> None:
        super().__init__(download)
        self._channel = channel
        self._attempts = Attempts(wire.Repeat.FREELY, timeout_seconds)
        self._call: Any = None
        self._pending: bytes | None = None
        self._closed = False

    async def __aenter__(self) -> "AsyncObjectReader":
        try:
            self._pending = await self._advance()
        except BaseException:
            self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def stream(self) -> AsyncIterator[bytes]:
        """The bytes in pieces of at most 1 MiB, once. A stream that breaks goes on where it was. DATA_LOSS is raised
        before the last piece of a whole object that has another checksum."""
        while (chunk := await self._take()) is not None:
            if chunk:
                yield chunk

    async def read(self) -> bytes:
        """All that is left, in memory."""
        return b"".join([chunk async for chunk in self.stream()])

    def close(self) -> None:
        """Release the stream; what was not read is not read any more."""
        self._closed = True
        self._drop()

    async def _take(self) -> bytes | None:
        chunk, self._pending = self._pending, None
        return chunk if chunk is not None else await self._advance()

    async def _advance(self) -> bytes | None:
        """The next chunk, from as many streams as it takes; None at the end."""
        while not self._closed:
            try:
                raw = await self._message()
            except PrismError as failure:
                self._drop()
                if self._download.complete and isinstance(failure, Unavailable):
                    break
                await asyncio.sleep(self._attempts.pause_seconds(failure))
                continue
            if raw is None:
                self._download.finish()
                break
            self._attempts.moved()
            return self._download.accept(raw)
        if not self._download.complete:
            raise PrismError("this reader is closed")
        self.close()
        return None

    async def _message(self) -> bytes | None:
        """The stream's next message, None at its end; begins a stream if there is none."""
        if self._call is None:
            run = self._channel.method("unary_stream", wire.GET)
            timeout = self._attempts.remaining_seconds()
            self._call = run(self._download.request(), timeout=timeout, metadata=self._channel.connection.metadata)
        raw = await self._channel.moving(self._call.read())
        return None if raw is grpc.aio.EOF else bytes(raw)

    def _drop(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None
