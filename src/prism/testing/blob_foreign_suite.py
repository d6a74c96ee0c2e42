"""The conformance suite of keys that nobody here laid out: what lies in a bucket before Prism, or beside it.

They are listed as they are, in byte order, also a page that begins after one of them; they are read and deleted, and
none of them is ever fatal. `foreign_keys` names those that the store itself can hold: none is left out that it can.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest

from ..blob import BlobStore
from ..blob.driver import Driver, EtagMismatch, NotFound, WriteOptions
from .blob_calls import StoreSuite, all_keys, content_of, stream

__all__ = ["FOREIGN_KEYS", "Foreign", "ForeignKeySuite"]

Foreign = Callable[[str, bytes], Awaitable[object]]
FOREIGN_KEYS = [
    *("a//b", "/a", "a/", "./a", "../a", "a/./b", "a/../b", "//", "/", "a//b~01", "a///", "~", "a\x01b", "a\x7fb"),
    *("a\nb", "a\r\nb", "a\tb", "a b ", "a+b%2Fc", "a?b#c&d", "a\\b", "\U0010fffd", "~owner~", "a\u2028b", "<a>&b;"),
]  # fmt: skip
"""Keys that stores hold and clients mangle."""


class ForeignKeySuite(StoreSuite):
    """Inherit it with the keys that the store can hold, and give `foreign` unless the driver itself puts them."""

    foreign_keys: Sequence[str] = FOREIGN_KEYS

    @pytest.fixture
    def foreign(self, driver: Driver) -> Foreign:
        """Puts bytes under a key, beside Prism."""

        async def put(key: str, content: bytes) -> None:
            await driver.put(key, stream(content), WriteOptions())

        return put

    @pytest.fixture
    async def keys(self, store: BlobStore, foreign: Foreign) -> AsyncIterator[list[str]]:
        """Foreign keys and one of ours between them, in byte order; all are gone afterwards."""
        for key in self.foreign_keys:
            await foreign(key, key.encode())
        await store.put("a/b", stream(b"a/b"), WriteOptions())
        keys = sorted([*self.foreign_keys, "a/b"], key=str.encode)
        yield keys
        await store.delete_many(keys)

    @pytest.mark.parametrize("limit", [1, 3, 1000])
    async def test_foreign_keys_are_listed_as_they_are(self, store: BlobStore, keys: list[str], limit: int) -> None:
        assert await all_keys(store, limit=limit) == keys

    async def test_a_page_begins_after_any_of_them(self, store: BlobStore, keys: list[str]) -> None:
        for at, key in enumerate(keys):
            assert [entry.key for entry in await store.list("", key, 2)] == keys[at + 1 : at + 3]

    async def test_prefixes_of_them(self, store: BlobStore, keys: list[str]) -> None:
        for prefix in ("a", "a/", "a//", "/", "./", "../", "a/.", "a\x01", "a\n", "~", "a/../"):
            expected = [key for key in keys if key.startswith(prefix)]
            assert [entry.key for entry in await store.list(prefix)] == expected

    async def test_foreign_keys_are_read(self, store: BlobStore, keys: list[str]) -> None:
        for entry in await store.list(""):
            info = await store.head(entry.key)
            assert info is not None
            assert (info.etag, info.size_bytes) == (entry.etag, len(entry.key.encode()))
            assert await content_of(store, entry.key, if_match=entry.etag) == entry.key.encode()
            with pytest.raises(EtagMismatch):
                await store.get(entry.key, None, "other")

    async def test_foreign_keys_are_deleted_one_by_one(self, store: BlobStore, keys: list[str]) -> None:
        for at, key in enumerate(keys):
            (result,) = await store.delete_many([key])
            assert result.error is None
            with pytest.raises(NotFound):
                await store.get(key)
            assert await all_keys(store) == keys[at + 1 :]

    async def test_foreign_keys_are_deleted_together(self, store: BlobStore, keys: list[str]) -> None:
        results = await store.delete_many(keys)
        assert [(result.key, result.error) for result in results] == [(key, None) for key in keys]
        assert await all_keys(store) == []
