"""Bodies over HTTP: never committed short, never whole in memory, never waited for without end."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from http_support import OBJECTS, Served, configured, raw, served, until

from prism.blob.driver import Stored, WriteOptions

PUT = b"PUT /v1/namespaces/things/objects/k HTTP/1.1\r\nHost: localhost\r\n"
GET = b"GET /v1/namespaces/things/objects/k HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
async def prism(tmp_path: Path) -> AsyncIterator[Served]:
    limits = {"idle_seconds": 0.4, "request_seconds": 0.4, "max_object_bytes": 100_000_000, "max_requests": 2}
    config = configured(tmp_path, **{f"limits__{name}": value for name, value in limits.items()})
    async with served(config) as world:
        yield world


def outcomes(prism: Served, action: str) -> list[str]:
    return [record.outcome for record in prism.audit.records if record.action == action]


async def absent(prism: Served) -> bool:
    return (await prism.client.get(f"{OBJECTS}/k")).status_code == 404


@pytest.mark.parametrize(
    "sent",
    [
        b"Content-Length: 3000000\r\n\r\n" + b"x" * 2_000_000,
        b"Content-Length: 10\r\n\r\n123456789",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n",
        b"Content-Length: 10\r\n\r\n",
    ],
)
@pytest.mark.parametrize("how", ["abort", "half-close"])
async def test_a_client_that_leaves_in_mid_body_has_stored_nothing(prism: Served, sent: bytes, how: str) -> None:
    async with raw(prism.port) as connection:
        await connection.send(PUT + sent)
        if how == "half-close":
            connection.writer.write_eof()
            await connection.closed()
    await until(lambda: outcomes(prism, "object.put") == ["CANCELLED"])
    assert await absent(prism)


async def test_a_chunk_that_is_none(prism: Served) -> None:
    async with raw(prism.port) as connection:
        await connection.send(PUT + b"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\nzz\r\n")
        await connection.closed()
    await until(lambda: bool(outcomes(prism, "object.put")))
    assert await absent(prism)


async def test_a_body_that_stands_still_is_ended(prism: Served) -> None:
    async with raw(prism.port) as connection:
        await connection.send(PUT + b"Content-Length: 10\r\n\r\n12345")
        answer = await connection.answer()
        assert (answer.status, answer.code, answer.headers["connection"]) == (504, "DEADLINE_EXCEEDED", "close")
        await connection.closed()
    assert await absent(prism)


async def test_a_body_that_trickles_is_ended(tmp_path: Path) -> None:
    """Something always moves, but at less than the slowest allowed rate."""
    config = configured(tmp_path, limits__idle_seconds=0.4, limits__min_transfer_bytes_per_second=10_000)
    async with served(config) as prism, raw(prism.port) as connection:
        await connection.send(PUT + b"Content-Length: 1000000\r\n\r\n")
        answer = asyncio.ensure_future(connection.answer())
        while not answer.done():
            await connection.send(b"x" * 10)
            await asyncio.wait([answer], timeout=0.05)
        assert (await answer).status == 504
        assert await absent(prism)


async def test_a_reader_that_stands_still_is_ended(prism: Served) -> None:
    await prism.put("k", bytes(50_000_000))
    async with raw(prism.port) as connection:
        connection.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a read transport, too
        await connection.send(GET)
        await until(lambda: bool(outcomes(prism, "object.get")))
        connection.writer.transport.resume_reading()  # type: ignore[attr-defined]  # as above
        assert len(await connection.closed()) < 50_000_000
    record = prism.audit.records[-1]
    assert (record.outcome != "OK", record.bytes_out < 40_000_000) == (True, True)


async def test_a_reader_that_takes_nothing_loses_its_connection(prism: Served) -> None:
    """What was written and is never read does not keep the connection and its buffer for good."""
    await prism.put("k", bytes(50_000_000))
    before = set(prism.connections)
    async with raw(prism.port) as connection:
        connection.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a read transport, too
        await connection.send(GET)
        await until(lambda: bool(prism.connections - before))
        stuck = prism.connections - before
        await until(lambda: not stuck & prism.connections)


async def test_a_reader_that_leaves_ends_the_read(prism: Served) -> None:
    await prism.put("k", bytes(50_000_000))
    async with raw(prism.port) as connection:
        await connection.send(GET)
        await connection.reader.readexactly(100_000)
    await until(lambda: outcomes(prism, "object.get") == ["CANCELLED"])
    assert prism.audit.records[-1].bytes_out < 40_000_000


async def test_a_body_that_is_too_large_is_refused_before_it_comes(prism: Served) -> None:
    for more in (b"", b"Expect: 100-continue\r\n"):
        async with raw(prism.port) as connection:
            await connection.send(PUT + more + b"Content-Length: 100000001\r\n\r\n")
            answer = await connection.answer(seconds=1.5)
            assert (answer.status, answer.code, answer.headers["connection"]) == (413, "TOO_LARGE", "close")


async def test_a_client_in_the_middle_of_a_large_body_still_hears_why(prism: Served) -> None:
    async with raw(prism.port) as connection:
        await connection.send(PUT + b'If-Match: "x"\r\nContent-Length: 8000000\r\n\r\n', bytes(4_000_000))
        assert (await connection.answer()).status == 412
        await connection.closed()


async def test_a_chunked_body_that_grows_too_large(tmp_path: Path) -> None:
    async with served(configured(tmp_path, limits__max_object_bytes=1000)) as prism, raw(prism.port) as connection:
        await connection.send(PUT + b"Transfer-Encoding: chunked\r\n\r\n")
        await connection.send(*(b"c8\r\n" + b"x" * 200 + b"\r\n" for _ in range(6)), b"0\r\n\r\n")
        assert (await connection.answer()).status == 413
        assert await absent(prism)


async def test_expect_continue(prism: Served) -> None:
    async with raw(prism.port) as connection:
        await connection.send(PUT + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert (await connection.answer()).status == 100
        await connection.send(b"12345")
        assert (await connection.answer()).status == 200


async def test_a_refused_small_body_leaves_the_connection_open(prism: Served) -> None:
    async with raw(prism.port) as connection:
        for _ in range(3):
            await connection.send(PUT + b'If-Match: "x"\r\nContent-Length: 5\r\n\r\n12345')
            assert (await connection.answer()).status == 412
        await connection.send(PUT + b"Content-Length: 5\r\n\r\n12345", GET)
        assert [(await connection.answer()).status, (await connection.answer()).body] == [200, b"12345"]


async def test_a_request_that_moves_no_bytes_has_a_deadline(prism: Served) -> None:
    async with raw(prism.port) as connection:
        await connection.send(
            b"POST /v1/namespaces/things/copy HTTP/1.1\r\nHost: x.localhost\r\nContent-Length: 9\r\n\r\n{"
        )
        presign = b"POST /v1/namespaces/things/presign HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"
        async with raw(prism.port) as other:
            await other.send(presign)
            answer = await other.answer()
            assert (answer.status, answer.code) == (504, "DEADLINE_EXCEEDED")


async def test_too_many_requests(prism: Served) -> None:
    async with raw(prism.port) as one, raw(prism.port) as two:
        for connection in (one, two):
            await connection.send(PUT + b"Content-Length: 5\r\n\r\n1")
        answers = []
        async with asyncio.timeout(5):
            while not answers or answers[-1].status_code != 429:
                answers.append(await prism.client.get(f"{OBJECTS}/k"))
        assert answers[-1].headers["retry-after"] == "1"
        assert answers[-1].json()["error"]["code"] == "RATE_LIMITED"
        assert answers[-1].json()["error"]["retryable"] is True
        assert (await prism.client.get("/healthz")).status_code == 200
    async with asyncio.timeout(5):
        while (await prism.client.get(f"{OBJECTS}/k")).status_code != 404:
            await asyncio.sleep(0.01)


async def test_a_slow_store_holds_the_client_back(tmp_path: Path) -> None:
    """Of a body that the store does not take, hardly more than the socket's buffers is accepted."""
    async with served(configured(tmp_path), wrap_blob=Waiting) as prism, raw(prism.port) as connection:
        await connection.send(PUT + b"Content-Length: 200000000\r\n\r\n")
        sent = 0
        for sent in itertools.count(0, 1 << 20):
            connection.writer.write(bytes(1 << 20))
            try:
                await asyncio.wait_for(connection.writer.drain(), 0.5)
            except TimeoutError:
                break
            assert sent < 100_000_000
        assert sent < 40_000_000


class Waiting:
    """A store that takes one piece of a body, and then nothing."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)

    async def put(self, key: str, chunks: AsyncIterator[bytes], options: WriteOptions) -> Stored:
        async for _ in chunks:
            await asyncio.Event().wait()
        raise AssertionError("the body came to its end")


async def test_stores_are_handed_large_pieces(tmp_path: Path) -> None:
    async with served(configured(tmp_path), wrap_blob=Counting) as prism:
        Counting.pieces.clear()
        await prism.put("k", bytes(5_000_000))
        assert sum(Counting.pieces) == 5_000_000
        assert 4 <= len(Counting.pieces) <= 6
        assert max(Counting.pieces) < (1 << 20) + 200_000


class Counting(Waiting):
    """A store that notes in which pieces it was handed a body."""

    pieces: ClassVar[list[int]] = []

    async def put(self, key: str, chunks: AsyncIterator[bytes], options: WriteOptions) -> Stored:
        async def noted() -> AsyncIterator[bytes]:
            async for chunk in chunks:
                self.pieces.append(len(chunk))
                yield chunk

        stored: Stored = await self._driver.put(key, noted(), options)
        return stored
