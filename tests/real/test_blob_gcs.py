"""The GCS driver keeps the port's promises on fake-gcs-server, as far as that server keeps Google's.

Where it does not, `deviates` says why, and such a test must fail: on the day the server keeps the promise, its line has
to go. Those tests run once more behind `gcs_front`, which holds the driver to what Google documents.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType

import pytest
from gcs_buckets import account, new_bucket, put_foreign, raw_keys
from gcs_front import front

from prism.blob import BlobStore, Driver
from prism.blob.driver import WriteOptions
from prism.blob.gcs import open_gcs
from prism.config import GCSStore
from prism.testing.blob_calls import all_keys, content_of, pattern
from prism.testing.blob_foreign_suite import FOREIGN_KEYS, Foreign
from prism.testing.blob_multipart_suite import MultipartSuite
from prism.testing.blob_powers_suite import ConditionalDeleteSuite, CopySuite
from prism.testing.blob_signing_suite import HTTP, SigningSuite, UnsignedSuite
from prism.testing.blob_suite import HOSTILE_KEYS, BlobSuite
from prism.testing.plain_http import PlainHTTP
from prism.testing.services import service

_COMPOSE = "fake-gcs-server 1.56.1 composes without looking at ifGenerationMatch"
_REWRITE = "fake-gcs-server 1.56.1 rewrites without looking at ifGenerationMatch"
_FIELDS = "fake-gcs-server 1.56.1 keeps the source's metadata where the new ones are empty"


class OnGCS:
    """A driver with an account's key, over a bucket of its own."""

    deviates: Mapping[str, str] = MappingProxyType({})
    """Tests that fail because of the server, and why."""

    @pytest.fixture(autouse=True)
    def deviations(self, request: pytest.FixtureRequest) -> None:
        if reason := self.deviates.get(request.node.originalname):
            request.applymarker(pytest.mark.xfail(reason=reason, strict=True))

    @pytest.fixture
    def endpoint(self) -> str:
        return service("gcs").url

    @pytest.fixture
    async def bucket(self, endpoint: str) -> AsyncIterator[GCSStore]:
        _, key = account()
        async with new_bucket(service("gcs"), endpoint=endpoint, credentials=key) as store:
            yield store

    @pytest.fixture
    async def driver(self, bucket: GCSStore) -> Driver:
        return await open_gcs(bucket)

    @pytest.fixture
    def http(self) -> HTTP:
        return PlainHTTP()


class PartsOnGCS(OnGCS, MultipartSuite, SigningSuite):
    """Parts are objects of their own, which shows in two things."""

    gates_of_a_long_put = 2

    async def test_parts_come_by_urls(self, store: BlobStore, http: HTTP, now: datetime, bucket: GCSStore) -> None:
        """A URL that outlives its upload still writes; what it wrote is hidden, found again and removed."""
        content = pattern(1011)
        options = WriteOptions(content_type="image/png", metadata={"a": "b"})
        upload = await store.create_multipart("d/k", options)
        for number, piece in ((2, content[1000:]), (1, content[:1000])):
            signed = await store.sign_part("d/k", upload, number, now, 60, len(piece))
            assert (await http("PUT", signed.url, signed.headers, piece)).status < 300
        assert await all_keys(store) == []
        parts = await store.list_parts("d/k", upload)
        assert [(part.number, part.size_bytes) for part in parts] == [(1, 1000), (2, 11)]
        await store.complete_multipart("d/k", upload, parts, options)
        assert raw_keys(service("gcs"), bucket.bucket) == ["d/k"]
        assert (await http("PUT", signed.url, signed.headers, content[:1000])).status < 300
        assert await content_of(store, "d/k") == content
        assert await all_keys(store) == ["d/k"]
        (late,) = await store.open_multiparts("d/k")
        await store.abort_multipart("d/k", late.upload)
        assert raw_keys(service("gcs"), bucket.bucket) == ["d/k"]

    async def test_a_part_url_is_for_its_part_only(self, store: BlobStore, http: HTTP, now: datetime) -> None:
        upload = await store.create_multipart("d/k", WriteOptions())
        signed = await store.sign_part("d/k", upload, 1, now, 60, None)
        assert "/00001?" in signed.url
        late = await store.sign_part("d/k", upload, 1, now - timedelta(hours=1, minutes=1), 3600, None)
        for url in (signed.url.replace("/00001?", "/00002?"), signed.url[:-6] + "000000", late.url):
            self.refused(await http("PUT", url, signed.headers, b"x"))
        if self.verifies_signatures:
            assert list(await store.list_parts("d/k", upload)) == []
        self.refused(await http("DELETE", signed.url, signed.headers, b""))
        await store.abort_multipart("d/k", upload)
        assert not await store.open_multiparts("d/k")


class TestGCS(PartsOnGCS, BlobSuite):
    hostile_keys = HOSTILE_KEYS
    foreign_keys = FOREIGN_KEYS
    verifies_signatures = False
    enforces = frozenset()
    deviates = MappingProxyType(
        {
            "test_a_copy_never_replaces": _REWRITE,
            "test_of_concurrent_copies_to_one_key_one_wins": _REWRITE,
            "test_a_copy_without_fields_takes_none_over": _FIELDS,
            "test_two_uploads_of_one_key_do_not_mix": _COMPOSE,
            "test_a_completion_never_replaces_when_it_must_not": _COMPOSE,
        }
    )

    @pytest.fixture
    def foreign(self, bucket: GCSStore) -> Foreign:
        async def put(key: str, content: bytes) -> None:
            put_foreign(service("gcs"), bucket.bucket, key, content)

        return put


class TestHeldToGooglesWord(PartsOnGCS, CopySuite, ConditionalDeleteSuite):
    hostile_keys = HOSTILE_KEYS
    deviates = MappingProxyType({"test_a_copy_without_fields_takes_none_over": _FIELDS})
    test_a_large_part_holds_little_memory = None  # the front, in this process, holds bodies whole

    @pytest.fixture
    def endpoint(self) -> Iterator[str]:
        private, _ = account()
        with front(service("gcs").url, private.public_key()) as url:
            yield url


class TestAnonymous(UnsignedSuite):
    @pytest.fixture
    async def driver(self) -> AsyncIterator[Driver]:
        async with new_bucket(service("gcs")) as store:
            yield await open_gcs(store)
