"""What every RPC has in common: a request id, a caller, a place among those in progress, deadlines, an honest error.

Handlers are registered with bytes in and bytes out; there is no interceptor. Whatever is raised becomes a status of
the one table, with `google.rpc.Status` details. In gRPC for Python a request stream ends quietly also when the client
gave up or sent a message over the limit; `Stream` tells such an end from the proper one, which alone ends its reader.
"""

import asyncio
import contextlib
import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, NoReturn

import grpc
import structlog
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from ..config import Limits
from ..errors import ErrorCode, PrismError
from ..model import Caller
from .grpc_messages import decode
from .services import Services
from .status import STATUS, as_prism_error

__all__ = ["Calls", "Stream"]

Context = Any
"""`grpc.aio.ServicerContext`; grpc carries no types."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MESSAGE_CHARACTERS = 1000
_STATUS_SECONDS = 5.0


class Deadline:
    """When an RPC must be over. One sweep looks after all of them, because a timer for each costs more than a head."""

    __slots__ = ("_clock", "_latest", "_over", "_task", "_until")

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._task = asyncio.current_task()
        self._latest = self._until = clock() + seconds
        self._over = False

    def narrow(self, seconds: float) -> float:
        """For a while it ends after `seconds` already; the time now."""
        now = self._clock()
        self._until = min(self._latest, now + seconds)
        return now

    def widen(self) -> float:
        """The while is over; the time now."""
        self._until = self._latest
        return self._clock()

    def enforce(self, now: float) -> None:
        """Cancel the RPC's task if it is too late."""
        if now >= self._until and not self._over and self._task is not None:
            self._over = True
            self._task.cancel()

    def forgiven(self) -> bool:
        """Whether it was this deadline that cancelled the task; then the task goes on, to say so."""
        over, self._over = self._over, False
        if over and self._task is not None:
            self._task.uncancel()
        return over


class Stream:
    """The messages of one RPC, in either direction, kept moving; DEADLINE_EXCEEDED when they do not, CANCELLED when the
    client is gone.

    A step that takes `limits.idle_seconds` ends the stream; so does, once all steps took that long together, a mean
    rate below `limits.min_transfer_bytes_per_second`. Only time spent waiting for the client counts.
    """

    def __init__(self, context: Context, limits: Limits, request_id: str, deadline: Deadline) -> None:
        self._context = context
        self._limits = limits
        self._request_id = request_id
        self._deadline = deadline
        self._answered = False
        self._moved_bytes = 0
        self._waited_seconds = 0.0

    async def read(self) -> bytes | None:
        """The next message; None at the proper end of the stream, after which nothing can turn it into another one."""
        raw = await self._step(self._context.read())
        if raw is grpc.aio.EOF:
            await self._still_there()
            return None
        self._count(len(raw))
        return bytes(raw)

    async def write(self, message: bytes) -> None:
        """Send a message; returns when the transport has taken it, so a slow client holds the sender back."""
        self._answered = True
        await self._step(self._context.write(message))
        self._count(len(message))

    async def _still_there(self) -> None:
        """A call that broke or was given up cannot send any more, and the transport knew it before it told the reader
        of an end; so what can still be sent here proves that the client closed its side in peace. (What it cannot
        tell: gRPC drops a message that a clean end cut short; only a declared size or checksum catches that.)"""
        if not self._answered:
            self._answered = True
            await self._step(self._context.send_initial_metadata((("x-request-id", self._request_id),)))

    async def _step(self, step: Awaitable[Any]) -> Any:
        began = self._deadline.narrow(self._limits.idle_seconds)
        try:
            return await step
        except asyncio.CancelledError:
            if not self._deadline.forgiven():
                raise
            raise PrismError(
                ErrorCode.DEADLINE_EXCEEDED, f"nothing moved for {self._limits.idle_seconds:g} seconds"
            ) from None
        except grpc.aio.BaseError as error:
            raise PrismError(ErrorCode.CANCELLED, "the client left before the end") from error
        finally:
            self._waited_seconds += self._deadline.widen() - began

    def _count(self, size_bytes: int) -> None:
        self._moved_bytes += size_bytes
        least = self._limits.min_transfer_bytes_per_second
        if self._waited_seconds > self._limits.idle_seconds and self._moved_bytes < least * self._waited_seconds:
            raise PrismError(ErrorCode.DEADLINE_EXCEEDED, f"the transfer is slower than {least} bytes per second")


class Calls:
    """Makes method handlers of plain functions, and counts the RPCs in progress."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.limits = services.config.limits
        self._active: set[Deadline] = set()
        self._clock = asyncio.get_running_loop().time
        self._sweeping = False
        self._log = structlog.get_logger("prism.grpc")

    def unary(
        self, kind: type[Message], run: Callable[[Caller, Any], Awaitable[Message]], *, moves_bytes: bool = False
    ) -> grpc.RpcMethodHandler:
        """One message in, one out, within `limits.request_seconds`."""
        seconds = self.limits.max_transfer_seconds if moves_bytes else self.limits.request_seconds

        async def handle(raw: bytes, context: Context) -> bytes:
            async with self._served(context, seconds) as (caller, _):
                answer = await run(caller, decode(kind, raw))
            return answer.SerializeToString()

        return grpc.unary_unary_rpc_method_handler(handle)

    def upload(self, run: Callable[[Caller, Stream], Awaitable[Message]]) -> grpc.RpcMethodHandler:
        """A stream of object bytes in, one message out."""

        async def handle(_: AsyncIterator[bytes], context: Context) -> bytes:
            async with self._served(context, self.limits.max_transfer_seconds) as (caller, stream):
                answer = await run(caller, stream)
            return answer.SerializeToString()

        return grpc.stream_unary_rpc_method_handler(handle)

    def download(
        self, kind: type[Message], run: Callable[[Caller, Any, Stream], Awaitable[None]]
    ) -> grpc.RpcMethodHandler:
        """One message in, a stream of object bytes out."""

        async def handle(raw: bytes, context: Context) -> None:
            async with self._served(context, self.limits.max_transfer_seconds) as (caller, stream):
                await run(caller, decode(kind, raw), stream)

        return grpc.unary_stream_rpc_method_handler(handle)

    def conversation(
        self, kind: type[Message], run: Callable[[Caller, AsyncIterator[Any]], AsyncGenerator[Message, None]]
    ) -> grpc.RpcMethodHandler:
        """Small messages both ways, for as long as the client stays and asks again within `limits.idle_seconds`."""

        async def handle(_: AsyncIterator[bytes], context: Context) -> None:
            async with self._served(context, self.limits.max_transfer_seconds) as (caller, stream):
                await _send(run(caller, _requests(kind, stream)), stream)

        return grpc.stream_stream_rpc_method_handler(handle)

    def watch(
        self, kind: type[Message], run: Callable[[Caller, Any], AsyncGenerator[Message, None]]
    ) -> grpc.RpcMethodHandler:
        """One message in, messages out for as long as the client stays."""

        async def handle(raw: bytes, context: Context) -> None:
            async with self._served(context, math.inf) as (caller, stream):
                await _send(run(caller, decode(kind, raw)), stream)

        return grpc.unary_stream_rpc_method_handler(handle)

    def unknown(self) -> grpc.RpcMethodHandler:
        """For every method that there is not."""

        async def handle(_: AsyncIterator[bytes], context: Context) -> None:
            async with self._served(context, math.inf):
                raise PrismError(ErrorCode.UNIMPLEMENTED, "there is no such method")

        return grpc.stream_stream_rpc_method_handler(handle)

    def _served(self, context: Context, seconds: float) -> "_Serving":
        return _Serving(self, context, self._caller(context), Deadline(seconds, self._clock))

    def _caller(self, context: Context) -> Caller:
        request_id = ""
        for name, value in context.invocation_metadata() or ():
            if name == "x-request-id" and _REQUEST_ID.fullmatch(value):
                request_id = value
        request_id = request_id or self._services.new_request_id()
        context.set_trailing_metadata((("x-request-id", request_id),))
        return Caller(principal=self._services.access.anonymous(), request_id=request_id, api="grpc")

    def begin(self, deadline: Deadline) -> None:
        """Take a place among the RPCs in progress, or RATE_LIMITED."""
        if len(self._active) >= self.limits.max_requests:
            raise PrismError(
                ErrorCode.RATE_LIMITED,
                f"{self.limits.max_requests} requests are in progress; try again",
                retry_after_seconds=1.0,
            )
        self._active.add(deadline)
        if not self._sweeping:
            self._sweeping = True
            self._sweep()

    def end(self, deadline: Deadline) -> None:
        """Give the place back."""
        self._active.discard(deadline)

    def _sweep(self) -> None:
        """End what is too late; goes on while anything is in progress."""
        now = self._clock()
        for deadline in self._active:
            deadline.enforce(now)
        self._sweeping = bool(self._active)
        if self._sweeping:
            shortest = min(self.limits.idle_seconds, self.limits.request_seconds)
            asyncio.get_running_loop().call_later(min(1.0, shortest / 8), self._sweep)

    async def fail(self, context: Context, caller: Caller, error: Exception) -> NoReturn:
        """Answer with the error's status; bounded, for a client that reads nothing does not read that either."""
        told = as_prism_error(error)
        if told.code is ErrorCode.INTERNAL:
            self._log.error("unforeseen error", request_id=caller.request_id, exc_info=error)
        code = STATUS[told.code].grpc
        message = told.message[:_MESSAGE_CHARACTERS]
        details = _details(told, code, message, caller.request_id)
        trailing = (("x-request-id", caller.request_id), ("grpc-status-details-bin", details))
        try:
            async with asyncio.timeout(_STATUS_SECONDS):
                await context.abort(code, message, trailing)
        except (TimeoutError, grpc.aio.InternalError, grpc.aio.UsageError) as unheard:
            raise asyncio.CancelledError("the client does not hear") from unheard
        raise AssertionError("abort has not raised")


class _Serving:
    """One RPC from its beginning to its status."""

    __slots__ = ("_caller", "_calls", "_context", "_deadline")

    def __init__(self, calls: Calls, context: Context, caller: Caller, deadline: Deadline) -> None:
        self._calls = calls
        self._context = context
        self._caller = caller
        self._deadline = deadline

    async def __aenter__(self) -> tuple[Caller, Stream]:
        try:
            self._calls.begin(self._deadline)
        except PrismError as error:
            await self._calls.fail(self._context, self._caller, error)
        return self._caller, Stream(self._context, self._calls.limits, self._caller.request_id, self._deadline)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._calls.end(self._deadline)
        if isinstance(error, asyncio.CancelledError) and self._deadline.forgiven():
            error = TimeoutError()
        if isinstance(error, Exception):
            await self._calls.fail(self._context, self._caller, error)


async def _send(messages: AsyncGenerator[Message, None], stream: Stream) -> None:
    async with contextlib.aclosing(messages):
        async for message in messages:
            await stream.write(message.SerializeToString())


async def _requests(kind: type[Message], stream: Stream) -> AsyncIterator[Any]:
    while (raw := await stream.read()) is not None:
        yield decode(kind, raw)


def _details(error: PrismError, code: grpc.StatusCode, message: str, request_id: str) -> bytes:
    """`google.rpc.Status` with an ErrorInfo, and a RetryInfo when the caller is told to wait."""
    facts = {**error.context, "request_id": request_id}
    if error.retryable:
        facts["retryable"] = "true"
    status = status_pb2.Status(code=code.value[0], message=message)
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=error.code.name, domain="prism", metadata=facts))
    if error.retry_after_seconds is not None:
        wait = Duration()
        wait.FromMilliseconds(max(1, int(error.retry_after_seconds * 1000)))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=wait))
    encoded: bytes = status.SerializeToString()
    return encoded
