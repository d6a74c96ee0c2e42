"""The memory driver keeps the bus's contract."""

from collections.abc import AsyncIterator, Callable
from datetime import datetime

import pytest

from prism.bus.driver import Driver, Message
from prism.bus.memory import MemoryDriver, PartitionFull, Topics
from prism.testing.bus_suite import Broker, BusSuite


class TestMemory(BusSuite):
    @pytest.fixture
    async def broker(self) -> AsyncIterator[Broker]:
        topics = Topics()

        async def open_driver(now: Callable[[], datetime]) -> Driver:
            return MemoryDriver(now=now, topics=topics)

        broker = Broker(open_driver)
        yield broker
        await broker.close()

    async def test_a_partition_that_nobody_trims_refuses_more(self, broker: Broker) -> None:
        driver = MemoryDriver(now=lambda: broker.time, max_messages=2, partitions=1)
        await driver.publish("t", [Message(key="k", value=b"")] * 2)
        with pytest.raises(PartitionFull):
            await driver.publish("t", [Message(key="k", value=b"")])
