"""The S3 driver keeps the port's promises on MinIO and on the Versity gateway."""

import re
from collections.abc import AsyncIterator

import pytest
from s3_buckets import new_bucket, put_foreign

from prism.blob import Driver
from prism.blob.driver import AlreadyExists
from prism.blob.layers import Retry
from prism.blob.s3 import open_s3
from prism.config import S3Store
from prism.testing.blob_foreign_suite import FOREIGN_KEYS, Foreign
from prism.testing.blob_multipart_suite import MultipartSuite
from prism.testing.blob_signing_suite import HTTP, SigningSuite
from prism.testing.blob_suite import HOSTILE_KEYS, BlobSuite
from prism.testing.plain_http import PlainHTTP
from prism.testing.services import Service, service

MIB = 2**20


def not_folded(folded: str) -> tuple[str, ...]:
    """The foreign keys without those in which this is found: the server takes them for others, or refuses them."""
    return tuple(key for key in FOREIGN_KEYS if not re.search(folded, key))


class OnS3(BlobSuite, MultipartSuite, SigningSuite):
    """What the drivers of all S3 servers promise, over a bucket of the test's own."""

    hostile_keys = HOSTILE_KEYS
    completed_again = (AlreadyExists,)
    copies_exclude_each_other = False
    held_bytes = 40 * MIB
    gates_of_a_long_put = 2

    @pytest.fixture
    def server(self) -> Service:
        raise NotImplementedError

    @pytest.fixture
    async def bucket(self, server: Service) -> AsyncIterator[S3Store]:
        async with new_bucket(server) as store:
            yield store

    @pytest.fixture
    def http(self) -> HTTP:
        return PlainHTTP()

    @pytest.fixture
    def foreign(self, server: Service, bucket: S3Store) -> Foreign:
        async def put(key: str, content: bytes) -> None:
            put_foreign(server, bucket.bucket, key, content)

        return put


class TestMinio(OnS3):
    foreign_keys = not_folded(r"//|\A/|\A\.{1,2}/|/\.{1,2}/")
    """It takes a first `/` for none and refuses the others, as folders of a disk stand for them."""

    @pytest.fixture
    def server(self) -> Service:
        return service("minio")

    @pytest.fixture
    async def driver(self, bucket: S3Store) -> Driver:
        """As Prism uses it: after a first answer told that it is MinIO."""
        driver = await open_s3(bucket)
        await driver.now()
        return driver


class TestVersitygw(OnS3):
    foreign_keys = not_folded(r"//|\A/|/\Z|(?:\A|/)\.{1,2}/|[\x00-\x08]")
    """It resolves such names to others, holds no bytes under a name that ends in `/`, and lists control characters as
    U+FFFD."""

    @pytest.fixture
    def server(self) -> Service:
        return service("versitygw")

    @pytest.fixture
    async def driver(self, bucket: S3Store) -> Driver:
        """As Prism uses it: while a neighbour's deletion removes a folder, the gateway refuses a put for a moment."""
        driver = await open_s3(bucket, keeps_conditional_deletes=True)
        await driver.now()
        return Retry(driver)
