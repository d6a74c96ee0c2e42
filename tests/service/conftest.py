"""The world of each test, and one process in it."""

import pytest
from world import NAMESPACES, Process, World, configured


@pytest.fixture(scope="session")
def _config():
    return configured(NAMESPACES)


@pytest.fixture
def world(_config) -> World:
    return World(_config)


@pytest.fixture
def prism(world: World) -> Process:
    return world.start()
