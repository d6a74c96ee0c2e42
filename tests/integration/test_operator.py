"""What operators do, and their mistakes, on local and memory stores; real servers run the same cases."""

from pathlib import Path

import pytest

from prism.blob import Driver
from prism.blob.memory import MemoryDriver
from prism.config import LocalStore, MemoryStore
from prism.testing.operator_suite import OperatorSuite, Places


class TestLocal(OperatorSuite):
    @pytest.fixture
    def places(self, tmp_path: Path) -> Places:
        return LocalStore(root=tmp_path / "plain"), LocalStore(root=tmp_path / "kept")


class TestMemory(OperatorSuite):
    @pytest.fixture(autouse=True)
    def _drivers(self) -> None:
        self.drivers = [MemoryDriver(conditional_delete=True), MemoryDriver(conditional_delete=True)]

    @pytest.fixture
    def places(self) -> Places:
        return MemoryStore(), MemoryStore()

    def driver(self, number: int, driver: Driver) -> Driver:
        return self.drivers[number]
