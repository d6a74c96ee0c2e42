"""The asynchronous Python client: it answers as the synchronous one does, and its waits and repeats are bounded too."""

import asyncio
import inspect
import io
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from grpc_support import served, until
from prism_sdk import (
    AsyncPrismClient,
    DataLoss,
    ObjectNotFound,
    PreconditionFailed,
    PrismClient,
    PrismError,
    Stalled,
    Timeouts,
    Unavailable,
)
from prism_sdk.errors import OutcomeUnknown
from prism_sdk.retrying import Attempts
from prism_sdk.wire import Repeat
from sdk_support import CuttingProxy

from prism.testing.running import running_app

LARGE = bytes(range(256)) * (3 << 12) + b"tail"


@pytest.fixture
async def client() -> AsyncIterator[AsyncPrismClient]:
    async with (
        running_app(roles=frozenset({"api", "s3"})) as running,
        AsyncPrismClient("user-uploads", endpoint=running.grpc) as made,
    ):
        yield made


def test_both_clients_have_the_same_operations_and_arguments() -> None:
    def operations(kind: type) -> dict[str, list[str]]:
        public = {name: one for name, one in vars(kind).items() if not name.startswith("_") and callable(one)}
        return {name: list(inspect.signature(one).parameters) for name, one in public.items()}

    assert operations(PrismClient) == operations(AsyncPrismClient)
    assert [*inspect.signature(PrismClient).parameters] == [*inspect.signature(AsyncPrismClient).parameters]


async def _pieces() -> AsyncIterator[bytes]:
    yield LARGE[:10]
    yield b""
    yield LARGE[10:]


@pytest.mark.parametrize(
    "make",
    [lambda: LARGE, lambda: memoryview(LARGE), lambda: io.BytesIO(LARGE), lambda: iter([LARGE]), _pieces],
    ids=["bytes", "memoryview", "file", "iterator", "async iterator"],
)
async def test_data_of_every_kind_comes_back(client: AsyncPrismClient, make: object) -> None:
    assert callable(make)
    put = await client.put_object("", "k", make(), "text/x", {"a": "b"})
    async with client.get_object("", "k") as opened:
        assert (opened.content_type, opened.size_bytes, opened.metadata) == ("text/x", len(LARGE), {"a": "b"})
        pieces = [piece async for piece in opened.stream()]
    assert b"".join(pieces) == LARGE
    assert (await client.head_object("", "k")).etag == put.etag
    async with client.get_object("", "k", 3, 5) as opened:
        assert await opened.read() == LARGE[3:6]


async def test_the_other_operations(client: AsyncPrismClient, tmp_path: Path) -> None:
    for number in range(3):
        await client.put_object("", f"dir/{number}", b"")
    assert [found.key async for found in client.list_objects("", "dir/", page_size=2)] == ["dir/0", "dir/1", "dir/2"]
    await client.copy_object("", "dir/0", "", "copy")
    assert await client.delete_object("", "copy")
    assert (await client.get_presigned_url("", "up", "PUT")).startswith("http")
    assert len([due async for due in client.list_expiring(10**9, page_size=2)]) == 3
    await client.delete_prefix("", "dir/")
    (tmp_path / "in.txt").write_bytes(LARGE)
    done: list[tuple[int, int]] = []
    await client.upload_file("", "file", tmp_path / "in.txt")
    info = await client.download_file("", "file", tmp_path / "out", progress=lambda *at: done.append(at))
    assert (tmp_path / "out").read_bytes() == LARGE
    assert (info.content_type, done[-1]) == ("text/plain", (len(LARGE), len(LARGE)))
    assert (await client.usage()).size_bytes >= len(LARGE)


async def test_a_put_that_is_refused_early_says_why(client: AsyncPrismClient) -> None:
    await client.put_object("", "k", b"first")
    sent = 0

    def large() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(200):
            sent += 1
            yield bytes(1 << 20)

    with pytest.raises(PreconditionFailed):
        await client.put_object("", "k", large(), if_none_match="*")
    assert sent < 200
    async with client.get_object("", "k") as opened:
        assert await opened.read() == b"first"


async def test_data_that_fails_leaves_nothing(client: AsyncPrismClient) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield b"some"
        raise ZeroDivisionError("the caller's own")

    with pytest.raises(ZeroDivisionError):
        await client.put_object("", "k", failing())
    with pytest.raises(ObjectNotFound):
        await client.head_object("", "k")


async def test_a_task_that_is_cancelled_leaves_nothing(client: AsyncPrismClient) -> None:
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x"
            begun.set()
            await asyncio.sleep(0.01)

    putting = asyncio.ensure_future(client.put_object("", "k", endless()))
    await begun.wait()
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    with pytest.raises(ObjectNotFound):
        await client.head_object("", "k")


async def test_a_download_that_breaks_goes_on_where_it_was() -> None:
    async with running_app(roles=frozenset({"api", "s3"})) as running, CuttingProxy(running.grpc).running() as proxy:
        async with AsyncPrismClient("user-uploads", endpoint=running.grpc) as direct:
            await direct.put_object("", "k", LARGE)
        proxy.cuts[:] = [1_300_000, 800_000]
        async with (
            AsyncPrismClient("user-uploads", endpoint=proxy.address) as client,
            client.get_object("", "k") as opened,
        ):
            assert await opened.read() == LARGE
        assert proxy.connections == 3


async def test_a_put_whose_connection_breaks_is_repeated_when_it_can_be() -> None:
    async with running_app(roles=frozenset({"api", "s3"})) as running, CuttingProxy(running.grpc).running() as proxy:
        proxy.cuts[:] = [0]
        async with AsyncPrismClient("user-uploads", endpoint=proxy.address) as client:
            await client.put_object("", "k", io.BytesIO(LARGE))
            async with client.get_object("", "k") as opened:
                assert await opened.read() == LARGE

        async def once() -> AsyncIterator[bytes]:
            yield LARGE
            proxy.cut()
            yield LARGE

        async with AsyncPrismClient("user-uploads", endpoint=proxy.address) as client:
            with pytest.raises(Unavailable):
                await client.put_object("", "once", once())


async def test_what_stalls_is_ended() -> None:
    async with served() as one:
        one.shelf.may_read.clear()
        async with AsyncPrismClient(
            "user-uploads", endpoint=one.address, timeouts=Timeouts(call_seconds=0.3, stall_seconds=0.3)
        ) as client:
            with pytest.raises(Stalled):
                await client.put_object("", "k", b"x")
            with pytest.raises(PrismError) as failed:
                await client.head_object("", "k")
            assert failed.value.code == "DEADLINE_EXCEEDED"
            await until(lambda: len(one.shelf.ended) == 2)
            assert one.shelf.committed == []


async def test_whole_reads_are_verified() -> None:
    async with served() as one, AsyncPrismClient("user-uploads", endpoint=one.address) as client:
        one.shelf.size_bytes, one.shelf.crc32c = 2 << 20, "AAAAAA=="
        async with client.get_object("", "k") as opened:
            with pytest.raises(DataLoss):
                await opened.read()
            assert opened.received_bytes == 2 << 20


class TestAttempts:
    UNKNOWN = OutcomeUnknown("?", reason="OUTCOME_UNKNOWN", retryable=True)
    BROKEN = Unavailable("the connection broke")
    REFUSED = Unavailable("store down", reason="STORE_DOWN", retryable=True)
    ABSENT = ObjectNotFound("no")

    @pytest.mark.parametrize(
        ("repeat", "again"),
        [(Repeat.FREELY, {"UNKNOWN", "BROKEN", "REFUSED"}), (Repeat.WHEN_REFUSED, {"REFUSED"}), (Repeat.NEVER, set())],
    )
    def test_only_what_is_safe_is_repeated(self, repeat: Repeat, again: set[str]) -> None:
        for name in ("UNKNOWN", "BROKEN", "REFUSED", "ABSENT"):
            error: PrismError = getattr(self, name)
            attempts = Attempts(repeat, 60)
            if name in again:
                assert 0 < attempts.pause_seconds(error) <= 2
            else:
                with pytest.raises(PrismError) as failed:
                    attempts.pause_seconds(error)
                assert failed.value is error

    def test_attempts_end_and_a_servers_wish_is_followed(self) -> None:
        attempts = Attempts(Repeat.FREELY, 60)
        pauses = [attempts.pause_seconds(self.BROKEN) for _ in range(5)]
        assert max(pauses) <= 2
        with pytest.raises(Unavailable):
            attempts.pause_seconds(self.BROKEN)
        wish = Unavailable("later", retryable=True, retry_after_seconds=7)
        assert Attempts(Repeat.FREELY, 60).pause_seconds(wish) == 7
        with pytest.raises(Unavailable):
            Attempts(Repeat.FREELY, 6).pause_seconds(wish)
