"""What operators do, and their mistakes, on real servers: each test has a bucket of its own, shared by two namespaces
with a prefix each."""

from collections.abc import AsyncIterator

import msgspec
import pytest
from azure_containers import new_container
from gcs_buckets import account
from gcs_buckets import new_bucket as new_gcs_bucket
from s3_buckets import new_bucket as new_s3_bucket

from prism.config import RemoteStore
from prism.testing.operator_suite import OperatorSuite, Places
from prism.testing.services import service


def _shared(store: RemoteStore) -> Places:
    plain, kept = (msgspec.structs.replace(store, prefix=prefix) for prefix in ("plain/", "folder/kept/"))
    return plain, kept  # type: ignore[return-value]  # of the store's own kind


class TestMinio(OperatorSuite):
    @pytest.fixture
    async def places(self) -> AsyncIterator[Places]:
        async with new_s3_bucket(service("minio")) as store:
            yield _shared(store)


class TestVersitygw(OperatorSuite):
    @pytest.fixture
    async def places(self) -> AsyncIterator[Places]:
        async with new_s3_bucket(service("versitygw")) as store:
            yield _shared(store)


class TestGCS(OperatorSuite):
    @pytest.fixture
    async def places(self) -> AsyncIterator[Places]:
        async with new_gcs_bucket(service("gcs"), credentials=account()[1]) as store:
            yield _shared(store)


class TestAzurite(OperatorSuite):
    @pytest.fixture
    async def places(self) -> AsyncIterator[Places]:
        async with new_container(service("azurite")) as store:
            yield _shared(store)
