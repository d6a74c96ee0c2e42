"""The memory driver keeps the port's promises, plain and inside every layer."""

from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry

from prism.blob import Driver, StoreMetrics
from prism.blob.layers import Limit, Observe, Retry, Timeout
from prism.blob.memory import MemoryDriver
from prism.testing.blob_suite import BlobSuite
from prism.testing.faulty_blob import FaultyBlob


class TestMemory(BlobSuite):
    holds_bytes = True

    @pytest.fixture
    async def driver(self) -> Driver:
        return MemoryDriver()


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
class TestLayers(BlobSuite):
    holds_bytes = True

    @pytest.fixture
    async def driver(self, layer: Callable[[Driver], Driver]) -> Driver:
        return layer(MemoryDriver())
