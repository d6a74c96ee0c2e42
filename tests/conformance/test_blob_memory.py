"""The memory driver keeps the port's promises, plain, as a store that signs, and inside every layer."""

from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry

from prism.blob import BlobStore, Driver, StoreMetrics
from prism.blob.driver import Bound, WriteOptions
from prism.blob.layers import Limit, Observe, Retry, Timeout
from prism.blob.memory import MemoryDriver
from prism.testing.blob_calls import put, stream
from prism.testing.blob_multipart_suite import MultipartSuite
from prism.testing.blob_signing_suite import HTTP, SigningSuite, UnsignedSuite
from prism.testing.blob_suite import HOSTILE_KEYS, BlobSuite
from prism.testing.clocks import StillClock
from prism.testing.faulty_blob import FaultyBlob


class TestMemory(BlobSuite, MultipartSuite, UnsignedSuite):
    holds_bytes = True
    hostile_keys = HOSTILE_KEYS

    @pytest.fixture
    async def driver(self) -> Driver:
        return MemoryDriver()


@pytest.fixture
def memory() -> MemoryDriver:
    return MemoryDriver(signs=True, checksums=["crc32c", "sha256", "md5"], smallest_part_bytes=5000)


class TestSigning(BlobSuite, MultipartSuite, SigningSuite):
    holds_bytes = True
    hostile_keys = HOSTILE_KEYS

    @pytest.fixture
    async def driver(self, memory: MemoryDriver) -> Driver:
        return memory

    @pytest.fixture
    def http(self, memory: MemoryDriver) -> HTTP:
        return memory.receive


class TestBindsLittle(SigningSuite):
    """A store whose URLs bind a length only."""

    @pytest.fixture
    def memory(self) -> MemoryDriver:
        return MemoryDriver(signs=True, binds=frozenset({"size"}), conditional_delete=False)

    @pytest.fixture
    async def driver(self, memory: MemoryDriver) -> Driver:
        return memory

    @pytest.fixture
    def http(self, memory: MemoryDriver) -> HTTP:
        return memory.receive


def _observe(driver: Driver) -> Driver:
    return Observe(driver, StoreMetrics(CollectorRegistry()), "store")


LAYERS: dict[str, Callable[[Driver], Driver]] = {
    "observe": _observe,
    "retry": Retry,
    "limit": lambda driver: Limit(driver, concurrent=20),
    "timeout": lambda driver: Timeout(driver, seconds=30),
    "faulty": FaultyBlob,
    "all": lambda driver: _observe(Retry(Limit(Timeout(driver, seconds=30), concurrent=20))),
}


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
class TestLayers(BlobSuite, MultipartSuite, SigningSuite):
    holds_bytes = True
    hostile_keys = HOSTILE_KEYS[::3]

    @pytest.fixture
    async def driver(self, layer: Callable[[Driver], Driver], memory: MemoryDriver) -> Driver:
        return layer(memory)

    @pytest.fixture
    def http(self, memory: MemoryDriver) -> HTTP:
        return memory.receive


async def test_the_clock_that_is_given_ends_urls() -> None:
    clock = StillClock()
    memory = MemoryDriver(clock, signs=True)
    signed = await BlobStore(memory).sign_put("k", clock(), 60, Bound(create_only=True))
    clock.at += timedelta(seconds=60)
    assert (await memory.receive("PUT", signed.url, signed.headers, b"x")).status == 403


async def test_a_request_that_began_in_time_lands_later() -> None:
    clock = StillClock()
    memory = MemoryDriver(clock, signs=True)
    signed = await BlobStore(memory).sign_put("k", clock(), 60, Bound())

    async def slow() -> AsyncIterator[bytes]:
        clock.at += timedelta(seconds=600)
        yield b"x"

    assert (await memory.receive("PUT", signed.url, signed.headers, slow())).status == 200
    assert (await memory.head("k")).landed_at == clock()


async def test_a_completion_that_differs_from_the_beginning_is_a_mistake_of_the_program() -> None:
    memory = MemoryDriver()
    upload = await memory.create_multipart("k", WriteOptions(content_type="a/a"))
    part = await memory.put_part("k", upload, 1, stream(b"x"), 1)
    with pytest.raises(ValueError, match="at the beginning"):
        await memory.complete_multipart("k", upload, [part], WriteOptions())


async def test_tags_stand_beside_the_bytes() -> None:
    memory = MemoryDriver()
    await put(BlobStore(memory), "k", b"x", options=WriteOptions(tags={"ttl": "1"}))
    assert await memory.tags("k") == {"ttl": "1"}
