"""A local store in a folder of the test's own, on a filesystem that can all, and on one that can little."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from prism.blob import BlobStore
from prism.blob.local import open_local


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "blobs"


@pytest.fixture(params=["anonymous", "named"])
async def store(root: Path, request: pytest.FixtureRequest) -> AsyncIterator[BlobStore]:
    rich = request.param == "anonymous"
    store = BlobStore(await open_local(root, anonymous=rich, attributes=rich))
    yield store
    await store.close()
