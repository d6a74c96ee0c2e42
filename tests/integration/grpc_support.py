"""For tests of gRPC: a server over services that only note what reaches them, and a client that breaks the rules."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from google.rpc import error_details_pb2, status_pb2
from prometheus_client import CollectorRegistry

from prism.access import Access
from prism.audit import MemoryAudit
from prism.config import TLSConfig, load
from prism.model import ByteRange, Caller, ObjectInfo, ObjectRef, PutOptions
from prism.server.grpc import GrpcServer, start_grpc
from prism.server.services import Services

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
OBJECTS = "/prism.objectstore.ObjectStoreService/"


class Shelf:
    """Stands where the object services stand: notes what was begun, what was committed, and how bytes flow."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.committed: list[str] = []
        self.ended: list[str] = []
        self.received_bytes = 0
        self.produced_bytes = 0
        self.size_bytes = 300 << 20
        self.crc32c: str | None = None
        self.may_read = asyncio.Event()
        self.may_read.set()

    async def put(
        self, caller: Caller, ref: ObjectRef, chunks: AsyncIterator[bytes], options: PutOptions
    ) -> ObjectInfo:
        self.begun.append(ref.key)
        try:
            async for chunk in chunks:
                self.received_bytes += len(chunk)
                await self.may_read.wait()
            self.committed.append(ref.key)
        finally:
            self.ended.append(ref.key)
        return self._info(ref)

    async def get(self, caller: Caller, ref: ObjectRef, *_: object) -> "Opened":
        return Opened(self, self._info(ref))

    async def head(self, caller: Caller, ref: ObjectRef) -> ObjectInfo:
        self.begun.append(ref.key)
        try:
            await self.may_read.wait()
        finally:
            self.ended.append(ref.key)
        if ref.key == "unforeseen":
            raise ZeroDivisionError("secret-in-a-message")
        return self._info(ref)

    def _info(self, ref: ObjectRef) -> ObjectInfo:
        return ObjectInfo(
            namespace=ref.namespace,
            bucket=ref.bucket,
            key=ref.key,
            size_bytes=self.size_bytes,
            etag="e-1",
            content_type="text/plain",
            metadata={},
            last_modified=NOW,
            expires_at=None,
            version_id="v",
            versioned=False,
            crc32c=self.crc32c,
        )


class Opened:
    """An object of zeros that counts what is taken of it."""

    def __init__(self, shelf: Shelf, info: ObjectInfo) -> None:
        self._shelf = shelf
        self.info = info
        self.byte_range = ByteRange(0, info.size_bytes)

    async def chunks(self) -> AsyncIterator[bytes]:
        piece = bytes(1 << 20)
        for _ in range(self.info.size_bytes >> 20):
            self._shelf.produced_bytes += len(piece)
            yield piece

    async def aclose(self) -> None:
        self._shelf.ended.append(self.info.key)


class Served:
    """A server with its stand-in services."""

    def __init__(self, server: GrpcServer, shelf: Shelf, audit: MemoryAudit, unready: dict[str, str]) -> None:
        self.server = server
        self.shelf = shelf
        self.audit = audit
        self.unready = unready
        self.address = server.address


@contextlib.asynccontextmanager
async def served(tls: TLSConfig | None = None, **limits: float) -> AsyncIterator[Served]:
    """A server on a free port, with these `limits`."""
    config = load(None, {}, data_dir=Path("/nowhere"), overrides={f"limits.{k}": str(v) for k, v in limits.items()})
    registry, audit, shelf, unready = CollectorRegistry(), MemoryAudit(), Shelf(), dict[str, str]()

    async def ready() -> Mapping[str, str]:
        return unready

    stand_in: Any = shelf
    services = Services(
        config=config,
        access=Access(config, registry, audit, lambda: NOW),
        objects=stand_in,
        uploads=stand_in,
        sessions=stand_in,
        registry=registry,
        ready=ready,
        now=lambda: NOW,
        new_request_id=lambda: "made-by-the-server",
    )
    server = await start_grpc(services, "127.0.0.1:0", tls)
    try:
        yield Served(server, shelf, audit, unready)
    finally:
        await server.stop(0)


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Poll until it holds."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def info_of(error: Any) -> error_details_pb2.ErrorInfo:
    """The ErrorInfo of an RPC's error."""
    return next(iter(_details(error, error_details_pb2.ErrorInfo)))


def retry_of(error: Any) -> error_details_pb2.RetryInfo | None:
    """Its RetryInfo, if any."""
    return next(iter(_details(error, error_details_pb2.RetryInfo)), None)


def _details(error: Any, kind: Any) -> list[Any]:
    trailing = dict(error.trailing_metadata())
    status = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
    assert status.code == error.code().value[0]
    found = []
    for detail in status.details:
        made = kind()
        if detail.Unpack(made):
            found.append(made)
    return found


class RawCall:
    """One RPC spoken frame by frame (RFC 9113), to end it in ways that no gRPC library ends one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def begin(cls, address: str, path: str) -> "RawCall":
        """Connect and send the request's headers."""
        host, _, port = address.rpartition(":")
        call = cls(*await asyncio.open_connection(host, int(port)))
        call._writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        call._frame(4, 0, 0, b"")
        headers = (
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", address),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
        )
        call._frame(1, 4, 1, b"".join(b"\0" + _literal(name) + _literal(value) for name, value in headers))
        return call

    def message(self, raw: bytes, *, announced: int | None = None, end: bool = False) -> None:
        """A message in one DATA frame, with a length that may be a lie."""
        length = len(raw) if announced is None else announced
        self._frame(0, 1 if end else 0, 1, b"\0" + length.to_bytes(4, "big") + raw)

    def reset(self) -> None:
        """RST_STREAM with CANCEL."""
        self._frame(3, 0, 1, (8).to_bytes(4, "big"))

    async def cut(self) -> None:
        """Drop the connection without a word."""
        await self._writer.drain()
        self._writer.transport.abort()

    async def flush(self) -> None:
        """Send what was written."""
        await self._writer.drain()

    async def heard(self) -> bytes:
        """What the server says first; nothing when it ends the connection."""
        with contextlib.suppress(ConnectionError):
            return await asyncio.wait_for(self._reader.read(100), 5)
        return b""

    def close(self) -> None:
        """End the connection."""
        self._writer.close()

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        self._writer.write(len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload)


def _literal(text: str) -> bytes:
    return bytes((len(text),)) + text.encode()
