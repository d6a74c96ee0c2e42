"""The Azure driver keeps the port's promises on Azurite, as far as Azurite keeps Azure's.

Where it does not, `deviates` says why, and such a test must fail: on the day Azurite keeps the promise, its line has to
go. Where Azure itself answers otherwise than other stores do, a test of its own says how.
"""

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType

import pytest
from azure_containers import client, new_container, put_foreign

from prism.blob import BlobStore, Driver
from prism.blob.azure import open_azure
from prism.blob.driver import AlreadyExists, NotFound, Stored, WriteOptions
from prism.config import AzureStore
from prism.errors import ErrorCode, PrismError
from prism.testing.blob_calls import all_keys, content_of, put, stream
from prism.testing.blob_foreign_suite import FOREIGN_KEYS, Foreign
from prism.testing.blob_multipart_suite import MultipartSuite
from prism.testing.blob_signing_suite import HTTP, SigningSuite
from prism.testing.blob_suite import HOSTILE_KEYS, BlobSuite
from prism.testing.plain_http import PlainHTTP
from prism.testing.services import service

MIB = 2**20
_NOWHERE = re.compile(r"(\A|/)\.{1,2}(/|\Z)|\\")
_UNLISTED = re.compile(r"[\x00-\x1f]")


@pytest.fixture
async def container() -> AsyncIterator[AzureStore]:
    async with new_container(service("azurite")) as store:
        yield store


@pytest.fixture
async def driver(container: AzureStore) -> Driver:
    return await open_azure(container)


@pytest.fixture
async def store(driver: Driver) -> AsyncIterator[BlobStore]:
    store = BlobStore(driver)
    yield store
    await store.close()


@pytest.fixture
def http() -> HTTP:
    return PlainHTTP()


@pytest.fixture
async def now(store: BlobStore) -> datetime:
    return await store.now()


class OnAzurite:
    """A driver over a container of its own."""

    hostile_keys = HOSTILE_KEYS
    held_bytes = 24 * MIB
    gates_of_a_long_put = 2
    deviates: Mapping[str, str] = MappingProxyType(
        {
            "test_a_range_outside": "Azurite 3.35 answers 206 and no bytes for a range that begins at the end",
            "test_prefixes_of_them": "Azurite 3.35 answers 500 to a prefix with a control character",
            "test_a_completion_never_replaces_when_it_must_not": "Azurite 3.35 takes a key with blocks for taken",
        }
    )
    """Tests that fail because of the server, and why."""

    @pytest.fixture(autouse=True)
    def deviations(self, request: pytest.FixtureRequest) -> None:
        if reason := self.deviates.get(request.node.originalname):
            request.applymarker(pytest.mark.xfail(reason=reason, strict=True))


class TestBlobs(OnAzurite, BlobSuite):
    foreign_keys = tuple(key for key in FOREIGN_KEYS if not _NOWHERE.search(key) and not _UNLISTED.search(key))
    """`.` and `..` are resolved on the way to any container, and a backslash is a slash to Azure. Control characters
    cannot be listed by Azurite 3.35."""

    @pytest.fixture
    def foreign(self, container: AzureStore) -> Foreign:
        async def put(key: str, content: bytes) -> None:
            await asyncio.to_thread(put_foreign, service("azurite"), container.bucket, key, content)

        return put


class TestParts(OnAzurite, MultipartSuite):
    pass


class TestURLs(OnAzurite, SigningSuite):
    part_urls_outlive_uploads = True

    @pytest.mark.parametrize(
        ("asked", "start", "end"), [("0-0", 0, 1), ("5-9", 5, 10), ("90-", 90, 100), ("50-500", 50, 100)]
    )
    async def test_a_get_url_reads_ranges(
        self, store: BlobStore, http: HTTP, now: datetime, asked: str, start: int, end: int
    ) -> None:
        """Azure has no ranges that count from the end."""
        await super().test_a_get_url_reads_ranges(store, http, now, asked, start, end)

    async def test_a_part_url_is_for_its_part_only(self, store: BlobStore, http: HTTP, now: datetime) -> None:
        """Its signature is for the key, of which it may be any part; it neither reads nor deletes."""
        upload = await store.create_multipart("d/k", WriteOptions())
        signed = await store.sign_part("d/k", upload, 1, now, 60, None)
        spoiled = re.sub(r"sig=..", "sig=00", signed.url)
        for url in (signed.url.replace("/d/k?", "/d/kk?"), spoiled):
            self.refused(await http("PUT", url, signed.headers, b"x"))
        for method in ("DELETE", "GET"):
            self.refused(await http(method, signed.url.partition("&comp=")[0], signed.headers, b""))
        over = await store.sign_part("d/k", upload, 1, now - timedelta(hours=1, minutes=1), 3600, None)
        self.refused(await http("PUT", over.url, over.headers, b"x"))
        assert list(await store.list_parts("d/k", upload)) == []
        await store.abort_multipart("d/k", upload)
        assert not await store.open_multiparts("d/k")


async def test_a_key_is_free_when_a_completion_finds_it_taken(store: BlobStore) -> None:
    """The upload that loses stays open, is aborted, and costs the winner nothing."""
    upload = await store.create_multipart("d/k", WriteOptions())
    part = await store.put_part("d/k", upload, 1, stream(b"late"), 4)
    first = await put(store, "d/k", *[bytes(MIB)] * 9, options=WriteOptions(metadata={"a": "b"}))
    with pytest.raises(AlreadyExists):
        await store.complete_multipart("d/k", upload, [part], WriteOptions())
    await store.abort_multipart("d/k", upload)
    assert not await store.open_multiparts("d/k")
    info = await store.head("d/k")
    assert info is not None
    assert (info.etag, dict(info.metadata)) == (first.etag, {"a": "b"})


async def test_a_completion_that_is_asked_for_again_says_the_same(store: BlobStore) -> None:
    upload = await store.create_multipart("d/k", WriteOptions())
    part = await store.put_part("d/k", upload, 1, stream(b"x"), 1)
    stored = await store.complete_multipart("d/k", upload, [part], WriteOptions())
    assert await store.complete_multipart("d/k", upload, [part], WriteOptions()) == stored
    await store.delete_many(["d/k"])
    with pytest.raises(NotFound):
        await store.complete_multipart("d/k", upload, [part], WriteOptions())


async def test_an_upload_that_is_over_says_so_while_another_goes_on(store: BlobStore) -> None:
    first, second = [await store.create_multipart("d/k", WriteOptions()) for _ in range(2)]
    part = await store.put_part("d/k", second, 1, stream(b"kept"), 4)
    await store.abort_multipart("d/k", first)
    with pytest.raises(NotFound):
        await store.put_part("d/k", first, 1, stream(b"late"), 4)
    await store.complete_multipart("d/k", second, [part], WriteOptions())
    assert await content_of(store, "d/k") == b"kept"


async def test_many_slow_parts_keep_no_other_request_waiting(store: BlobStore) -> None:
    """A thread that waits for a client is none of those that ask the store."""
    go_on = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"a"
        await go_on.wait()
        yield b"b"

    upload = await store.create_multipart("d/k", WriteOptions())
    parts = [asyncio.ensure_future(store.put_part("d/k", upload, at, slow(), 2)) for at in range(1, 61)]
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        assert await store.head("none") is None
    go_on.set()
    done = await asyncio.gather(*parts)
    await store.complete_multipart("d/k", upload, done, WriteOptions())
    assert await content_of(store, "d/k") == b"ab" * 60


async def test_listings_are_in_byte_order_where_azures_own_is_not(store: BlobStore, container: AzureStore) -> None:
    """Azure sorts by UTF-16: what is above U+FFFF stands before U+E000."""
    keys = [f"d/{char}/{at}" for char in ("a", "\ue000", "\uff01", "\U00010000", "🙂", "\ud7ff") for at in range(3)]
    await asyncio.gather(*(put(store, key, b"x") for key in keys))
    ordered = sorted(keys, key=str.encode)
    with client(service("azurite"), container.bucket) as found:
        assert [blob.name for blob in found.list_blobs()] != ordered
    for limit in (1, 2, 5, 1000):
        assert await all_keys(store, limit=limit) == ordered
        assert await all_keys(store, "d/🙂", limit=limit) == [key for key in ordered if "🙂" in key]


async def test_a_listing_goes_on_behind_a_thousand_names(store: BlobStore) -> None:
    keys = [f"d/{at:04}" for at in range(230)]
    await asyncio.gather(*(put(store, key) for key in keys))
    assert await all_keys(store, limit=40) == keys


async def test_metadata_names_come_back(store: BlobStore) -> None:
    metadata = {"prism-key": "ä", "a-b.c_d": "1", "9lives": "2", "content-type": "3", "x_2d": "4", "a": ""}
    for key, size in (("short", 1), ("long", 9)):
        await put(store, key, *[bytes(MIB)] * size, options=WriteOptions(metadata=metadata))
        for info in (await store.head(key), (await store.get(key)).info):
            assert info is not None
            assert dict(info.metadata) == metadata


async def test_tags_are_kept_beside_the_bytes(store: BlobStore, container: AzureStore) -> None:
    for key, size in (("short", 1), ("long", 9)):
        options = WriteOptions(tags={"ttl": "1790000000", "no good": "ä"})
        source = await put(store, key, *[bytes(MIB)] * size, options=options)
        await store.copy(key, source.etag, f"{key}-copy", WriteOptions(tags={"ttl": "5"}))
        with client(service("azurite"), container.bucket) as found:
            assert found.get_blob_client(key).get_blob_tags() == {"ttl": "1790000000"}
            assert found.get_blob_client(f"{key}-copy").get_blob_tags() == {"ttl": "5"}


async def test_a_missing_container_is_named(container: AzureStore) -> None:
    store = BlobStore(await open_azure(AzureStore(**{**_fields(container), "bucket": "prism-not-there"})))
    calls = [
        lambda: put(store, "k", b"x"),
        lambda: put(store, "k", *[bytes(MIB)] * 9),
        lambda: store.get("k"),
        lambda: store.head("k"),
        lambda: store.list(""),
        lambda: store.copy("a", "b", "c", WriteOptions()),
        lambda: store.create_multipart("k", WriteOptions()),
        store.now,
    ]
    for call in calls:
        with pytest.raises(PrismError, match="prism-not-there") as raised:
            await call()
        assert raised.value.code is ErrorCode.STORE_DOWN
    await store.close()


async def test_a_wrong_key_is_a_sentence_about_credentials(container: AzureStore) -> None:
    from prism.config.settings import Secret

    store = BlobStore(await open_azure(AzureStore(**{**_fields(container), "secret_key": Secret("d3Jvbmc=")})))
    for call in (lambda: put(store, "k", b"x"), lambda: store.head("k"), lambda: store.list("")):
        with pytest.raises(PrismError, match="credentials") as raised:
            await call()
        assert raised.value.code is ErrorCode.STORE_DOWN
        assert "d3Jvbmc" not in str(raised.value)
    await store.close()


async def test_a_key_that_would_become_another_one_is_absent(store: BlobStore) -> None:
    await put(store, "a/b", b"x")
    for key in ("a\\b", "a/./b", "x/../a/b"):
        assert await store.head(key) is None
        with pytest.raises(NotFound):
            await store.get(key)
        assert [result.error for result in await store.delete_many([key])] == [None]
    assert await all_keys(store) == ["a/b"]


async def test_of_long_and_short_puts_one_wins(store: BlobStore) -> None:
    puts = [put(store, "d/k", *[bytes([at]) * MIB] * (9 if at % 2 else 1)) for at in range(4)]
    results = await asyncio.gather(*puts, return_exceptions=True)
    assert sum(isinstance(result, Stored) for result in results) == 1
    assert all(isinstance(result, Stored | AlreadyExists) for result in results)


async def test_the_stores_own_settings_are_told(driver: Driver) -> None:
    store = BlobStore(driver)
    settings = await store.settings()
    assert (settings.object_lock, settings.soft_delete_seconds, settings.aborts_uploads_days) == (False, 0, 7)
    await store.close()


LEAVING = """
import asyncio, sys
from prism.blob import BlobStore
from prism.blob.azure import open_azure
from prism.blob.driver import WriteOptions
from prism.config import AzureStore
from prism.config.settings import Secret

async def chunks():
    for _ in range(int(sys.argv[5])):
        yield bytes(2**20)

async def main():
    url, account, key, container = sys.argv[1:5]
    settings = {"endpoint": url, "access_key": account, "secret_key": Secret(key), "use_ssl": False}
    store = BlobStore(await open_azure(AzureStore(bucket=container, **settings)))
    await store.put("k", chunks(), WriteOptions())
    opened = await store.get("k")
    await anext(aiter(opened.body))
    await store.close()

asyncio.run(main())
"""


@pytest.mark.parametrize("size", ["1", "9"])
async def test_a_process_that_closes_its_store_ends_well(container: AzureStore, size: str) -> None:
    at = service("azurite")
    command = [sys.executable, "-c", LEAVING, at.url, at.access_key, at.secret_key, container.bucket, size]
    left = await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE)
    _, said = await asyncio.wait_for(left.communicate(), 60)
    assert (left.returncode, said) == (0, b"")


def _fields(store: AzureStore) -> dict[str, object]:
    return {name: getattr(store, name) for name in store.__struct_fields__}
