"""What the suites of blob drivers share: the front door over a driver, and short ways to call it."""

import random
from collections.abc import AsyncIterator, Iterable

import pytest

from ..blob import BlobStore
from ..blob.driver import Driver, NotFound, Stored, WriteOptions
from ..model import ByteRange

__all__ = [
    "MIB",
    "Boom",
    "StoreSuite",
    "absent",
    "all_keys",
    "content_of",
    "gates",
    "pattern",
    "pieces_of",
    "put",
    "stream",
]

MIB = 2**20


class Boom(Exception):
    """What goes wrong on the caller's side."""


class StoreSuite:
    """Gives `store`, the front door over the fixture `driver` of whoever inherits."""

    @pytest.fixture
    async def store(self, driver: Driver) -> AsyncIterator[BlobStore]:
        """The front door over the driver."""
        store = BlobStore(driver)
        yield store
        await store.close()


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    """The chunks."""
    for chunk in chunks:
        yield chunk


async def put(store: BlobStore, key: str, *chunks: bytes, options: WriteOptions | None = None) -> Stored:
    """A put of these chunks."""
    return await store.put(key, stream(*chunks), options or WriteOptions())


async def content_of(
    store: BlobStore, key: str, byte_range: ByteRange | None = None, if_match: str | None = None
) -> bytes:
    """The bytes, read to their end."""
    opened = await store.get(key, byte_range, if_match)
    try:
        return b"".join([chunk async for chunk in opened.body])
    finally:
        await opened.body.aclose()


async def all_keys(store: BlobStore, prefix: str = "", limit: int = 1000) -> list[str]:
    """Every key, page by page."""
    found: list[str] = []
    while page := await store.list(prefix, found[-1] if found else "", limit):
        assert len(page) <= limit
        found += (entry.key for entry in page)
    return found


async def absent(store: BlobStore, key: str) -> bool:
    """Whether neither head nor get nor list knows the key."""
    with pytest.raises(NotFound):
        await store.get(key)
    return await store.head(key) is None and key not in await all_keys(store)


def pattern(size: int) -> bytes:
    """Bytes that a wrong order or a wrong cut changes."""
    return random.Random(size).randbytes(size)


def pieces_of(content: bytes, size: int) -> Iterable[bytes]:
    """The content, cut."""
    return (content[at : at + size] for at in range(0, len(content), size))


def gates(error: Exception, due: int = 1) -> WriteOptions:
    """A write whose gate refuses when it is asked for the `due`-th time."""
    asked = 0

    async def gate() -> None:
        nonlocal asked
        asked += 1
        if asked == due:
            raise error

    return WriteOptions(gate=gate)
