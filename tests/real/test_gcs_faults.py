"""What a bad line to Google Cloud Storage does: bounded time, no half object, recovery without a restart."""

import time
from collections.abc import AsyncIterator, Awaitable

import msgspec
import pytest
from gcs_buckets import new_bucket, raw_keys

from prism.blob import BlobStore, open_blob
from prism.blob.driver import WriteOptions
from prism.blob.gcs import open_gcs
from prism.config import GCSStore
from prism.errors import ErrorCode, PrismError
from prism.testing.blob_calls import all_keys, put, stream
from prism.testing.services import service
from prism.testing.toxiproxy import Proxy, proxy_before

MIB = 2**20


@pytest.fixture
async def bucket() -> AsyncIterator[GCSStore]:
    async with new_bucket(service("gcs")) as bucket:
        yield bucket


@pytest.fixture
async def line() -> AsyncIterator[Proxy]:
    async with proxy_before(service("gcs").address) as line:
        yield line


@pytest.fixture
async def store(bucket: GCSStore, line: Proxy) -> AsyncIterator[BlobStore]:
    store = await open_blob(msgspec.structs.replace(bucket, endpoint=line.url, request_seconds=0.5))
    yield store
    await store.close()


async def fails(call: Awaitable[object]) -> float:
    """Seconds until it says STORE_DOWN."""
    start = time.monotonic()
    with pytest.raises(PrismError) as raised:
        await call
    assert raised.value.code is ErrorCode.STORE_DOWN
    assert "127.0.0.1" not in str(raised.value)
    return time.monotonic() - start


async def test_a_long_put_over_a_line_that_breaks_leaves_nothing(
    store: BlobStore, bucket: GCSStore, line: Proxy
) -> None:
    async def body() -> AsyncIterator[bytes]:
        for at in range(24):
            if at == 12:
                await line.disable()
            yield bytes(MIB)

    await fails(store.put("k", body(), WriteOptions()))
    assert raw_keys(service("gcs"), bucket.bucket) == []
    await line.enable()
    await put(store, "k", b"again")
    assert await all_keys(store) == ["k"]


async def test_a_store_that_hangs_is_given_up_and_found_again(store: BlobStore, bucket: GCSStore, line: Proxy) -> None:
    await line.bandwidth(0)
    for call in (store.list(""), put(store, "k", b"x")):
        assert await fails(call) < 30
    await line.heal_all()
    assert (await store.delete_many(["k"]))[0].error is None
    await put(store, "k", b"x")
    assert raw_keys(service("gcs"), bucket.bucket) == ["k"]


async def test_parts_are_hidden_from_pages_of_any_size(bucket: GCSStore) -> None:
    store = BlobStore(await open_gcs(bucket))
    keys = ["a", "~staging/a~01", "~staging/~bucket/z~01", "~~", "\u00e9"]
    for key in keys:
        await put(store, key, b"x")
    upload = await store.create_multipart("a", WriteOptions())
    for number in range(1, 8):
        await store.put_part("a", upload, number, stream(b"x"), 1)
    for limit in (1, 2, 3, 1000):
        assert await all_keys(store, limit=limit) == keys
    for start in ("~staging/~.parts/", "~staging/~.parts/x", "~staging/a~01"):
        assert [entry.key for entry in await store.list("", start, 2)] == ["~staging/~bucket/z~01", "~~"]
    assert await store.list("~staging/~.parts/") == []
    await store.abort_multipart("a", upload)
    assert raw_keys(service("gcs"), bucket.bucket) == keys
    await store.close()
