"""Streams of the synchronous client: sending data, and reading an object that resumes where its stream broke."""

import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import google_crc32c
import grpc

from . import wire
from .channel import Channel
from .checksums import crc32c_text
from .downloads import Download, OpenedObject
from .errors import Cancelled, DataLoss, PrismError, Stalled, Unavailable, error_of
from .frames import PUT_TAG, frame
from .retrying import Attempts
from .sources import Source
from .stalls import Watched
from .values import PutResult

__all__ = ["ObjectReader", "Sending", "send"]

_RELEASE_SECONDS = 5.0


class Sending:
    """One attempt of a put, under way from here on."""

    def __init__(self, channel: Channel, header: bytes, source: Source, timeout_seconds: float) -> None:
        self._stalls = channel.stalls
        self._source = source
        self._messages = _Messages(header, source)
        run = channel.method("stream_unary", wire.PUT)
        self.call = run.future(self._messages, timeout=timeout_seconds, metadata=channel.connection.metadata)
        self._messages.begin(self.call)
        self._stalls.add(self._messages.watched)

    def result(self) -> PutResult:
        """Wait for the answer."""
        try:
            result = wire.put_result(self.call.result())
        except (grpc.RpcError, grpc.FutureCancelledError) as error:
            raise self._messages.failure or _failure(self._messages.watched, error) from error
        if result.checksum_crc32c and result.checksum_crc32c != self._messages.checksum_crc32c:
            raise DataLoss("the server stored other bytes than were sent")
        return result

    def cancel(self) -> None:
        """Whatever was not answered is given up."""
        self.call.cancel()
        self._stalls.remove(self._messages.watched)
        self._source.release()

    def end(self, wait_seconds: float) -> bool:
        """Read no more of the source; whether it is free, for which this waits."""
        return self._messages.end(wait_seconds)

    def end_surely(self) -> None:
        """As `end`; when the source does not come back from a read, nobody may try again with it."""
        if not self.end(_RELEASE_SECONDS):
            raise Stalled("the data that is uploaded does not come")


def send(channel: Channel, header: bytes, source: Source, timeout_seconds: float) -> PutResult:
    """One attempt of a put. When it returns or raises, the source is not read any more."""
    sending = Sending(channel, header, source, timeout_seconds)
    try:
        result = sending.result()
    except Exception:
        sending.cancel()
        sending.end_surely()
        raise
    except BaseException:
        # Who leaves (Ctrl-C) is not kept waiting for a source that blocks, and hears of nothing else.
        sending.cancel()
        sending.end(0)
        raise
    sending.cancel()
    sending.end_surely()
    return result


class _Messages:
    """The messages of one put, made while gRPC asks for them in a thread of its own."""

    def __init__(self, header: bytes, source: Source) -> None:
        self.failure: Exception | None = None
        self._made = self._make(header, source)
        self._begun = threading.Event()
        self._reading = threading.Lock()
        self._over = False
        self._crc = 0

    @property
    def checksum_crc32c(self) -> str:
        """Of what was sent."""
        return crc32c_text(self._crc)

    def begin(self, call: Any) -> None:
        """The call that asks; nothing is read before."""
        self._call = call
        self.watched = Watched(call.cancel)
        self.watched.waiting_since = time.monotonic()
        self._begun.set()

    def end(self, wait_seconds: float) -> bool:
        """Read no more of the source; whether it is free, for which this waits."""
        self._over = True
        free = self._reading.acquire(timeout=wait_seconds)
        if free:
            self._reading.release()
        return free

    def __iter__(self) -> "_Messages":
        return self

    def __next__(self) -> bytes:
        self._begun.wait()
        with self._reading:
            self.watched.waiting_since = None
            try:
                if not self._over:
                    return next(self._made)
            except StopIteration:
                raise
            except Exception as error:  # noqa: BLE001 the caller's own, raised again in the caller's thread
                self.failure = error
            finally:
                self.watched.waiting_since = time.monotonic()
        # A cancelled call does not close its side of the stream, so what was cut short is never taken for whole.
        self._call.cancel()
        raise StopIteration

    def _make(self, header: bytes, source: Source) -> Iterator[bytes]:
        for piece in source.pieces():
            if header:
                yield header
                header = b""
            self._crc = google_crc32c.extend(self._crc, bytes(piece))
            yield frame(PUT_TAG, piece)
        if header:
            yield header


def _failure(watched: Watched, error: Exception) -> PrismError:
    if watched.stalled:
        return Stalled("nothing moved for the client's stall timeout")
    return error_of(error) if isinstance(error, grpc.RpcError) else Cancelled("the call was cancelled")


class ObjectReader(OpenedObject):
    """An object that is being read. Leave its `with` block, or `close` it, to release the stream."""

    def __init__(self, channel: Channel, download: Download, timeout_seconds: float) -> None:
        super().__init__(download)
        self._channel = channel
        self._attempts = Attempts(wire.Repeat.FREELY, timeout_seconds)
        self._call: Any = None
        self._watched = Watched(lambda: None)
        self._closed = False
        try:
            self._pending = self._advance()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "ObjectReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def stream(self) -> Iterator[bytes]:
        """The bytes in pieces of at most 1 MiB, once. A stream that breaks goes on where it was. DATA_LOSS is raised
        before the last piece of a whole object that has another checksum."""
        while (chunk := self._take()) is not None:
            if chunk:
                yield chunk

    def read(self) -> bytes:
        """All that is left, in memory."""
        return b"".join(self.stream())

    def close(self) -> None:
        """Release the stream; what was not read is not read any more."""
        self._closed = True
        self._drop()

    def _take(self) -> bytes | None:
        chunk, self._pending = self._pending, None
        return chunk if chunk is not None else self._advance()

    def _advance(self) -> bytes | None:
        """The next chunk, from as many streams as it takes; None at the end."""
        while not self._closed:
            try:
                raw = self._message()
            except PrismError as failure:
                self._drop()
                if self._download.complete and isinstance(failure, Unavailable):
                    break
                time.sleep(self._attempts.pause_seconds(failure))
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

    def _message(self) -> bytes | None:
        """The stream's next message, None at its end; begins a stream if there is none."""
        if self._call is None:
            run = self._channel.method("unary_stream", wire.GET)
            timeout = self._attempts.remaining_seconds()
            self._call = run(self._download.request(), timeout=timeout, metadata=self._channel.connection.metadata)
            self._watched = Watched(self._call.cancel)
            self._channel.stalls.add(self._watched)
        try:
            with self._watched.waiting():
                raw: bytes | None = next(self._call, None)
                return raw
        except grpc.RpcError as error:
            raise _failure(self._watched, error) from error

    def _drop(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None
            self._channel.stalls.remove(self._watched)
