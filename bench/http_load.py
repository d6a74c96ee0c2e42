"""An HTTP/1.1 client that costs little: prepared requests over kept connections, answers read by their length."""

import asyncio
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

__all__ = ["Measured", "get_stream", "put_stream", "request", "run"]


@dataclass(frozen=True)
class Measured:
    """Rate per second and latencies in seconds of a run."""

    per_second: float
    latencies: Sequence[float]

    @property
    def p50(self) -> float:
        return sorted(self.latencies)[len(self.latencies) // 2]


def request(base: str, method: str, path: str, body: bytes = b"", headers: str = "") -> bytes:
    """One request, ready to be sent."""
    host = urlsplit(base).netloc
    lines = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    return lines.encode() + body


class _Connection(asyncio.Protocol):
    """Sends the next request as soon as the answer to the last is whole."""

    def __init__(self, take: Callable[[], bytes | None], latencies: list[float]) -> None:
        self._take = take
        self._latencies = latencies
        self._missing = -1
        self._head = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("the server closed the connection"))

    def _next(self) -> None:
        message = self._take()
        if message is None:
            self.done.set_result(None)
            self._transport.close()
            return
        self._began = time.perf_counter()
        self._transport.write(message)

    def data_received(self, data: bytes) -> None:
        if self._missing < 0:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            head, data, self._head = self._head[:end], self._head[end + 4 :], b""
            if not head.startswith(b"HTTP/1.1 2"):
                self.done.set_exception(RuntimeError(head.decode() + data.decode(errors="replace")))
                self._transport.close()
                return
            self._missing = _length(head)
        self._missing -= len(data)
        if self._missing <= 0:
            self._missing = -1
            self._latencies.append(time.perf_counter() - self._began)
            self._next()


def _length(head: bytes) -> int:
    lowered = head.lower()
    at = lowered.find(b"\r\ncontent-length:")
    return 0 if at < 0 else int(lowered[at + 17 :].split(b"\r\n", 1)[0])


async def run(base: str, requests: Iterator[bytes], concurrency: int) -> Measured:
    """Send all of `requests` over `concurrency` connections, one at a time on each."""
    where = urlsplit(base)
    latencies: list[float] = []
    began = time.perf_counter()
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(
            lambda: _Connection(lambda: next(requests, None), latencies), where.hostname, where.port
        )
        for _ in range(concurrency)
    ]
    await asyncio.gather(*(connection.done for _, connection in made))
    return Measured(len(latencies) / (time.perf_counter() - began), latencies)


def put_stream(base: str, path: str, size_bytes: int) -> float:
    """Put zeros over a blocking socket; the seconds it took."""
    piece = bytes(1 << 20)
    began = time.perf_counter()
    with _connected(base) as client:
        client.sendall(request(base, "PUT", path).replace(b"Content-Length: 0", b"Content-Length: %d" % size_bytes))
        for _ in range(size_bytes >> 20):
            client.sendall(piece)
        head = client.recv(65536)
    if not head.startswith(b"HTTP/1.1 2"):
        raise RuntimeError(head.decode(errors="replace"))
    return time.perf_counter() - began


def get_stream(base: str, path: str) -> float:
    """Get an object over a blocking socket and throw it away; the seconds it took."""
    buffer = bytearray(1 << 20)
    began = time.perf_counter()
    with _connected(base) as client:
        client.sendall(request(base, "GET", path))
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(65536)
        head, _, rest = head.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 2"):
            raise RuntimeError(head.decode(errors="replace"))
        missing = _length(head) - len(rest)
        while missing > 0:
            got = client.recv_into(buffer)
            if not got:
                raise ConnectionError("the answer ended early")
            missing -= got
    return time.perf_counter() - began


def _connected(base: str) -> socket.socket:
    where = urlsplit(base)
    client = socket.create_connection((where.hostname or "127.0.0.1", where.port or 80), timeout=120)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client
