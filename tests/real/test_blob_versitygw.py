"""The S3 driver keeps the port's promises on the Versity gateway."""

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
from prism.testing.services import service

MIB = 2**20
FOLDED = re.compile(r"//|\A/|/\Z|(?:\A|/)\.{1,2}/|[\x00-\x08]")
"""The gateway resolves such names to others, holds no bytes under a name that ends in `/`, and lists control characters
as U+FFFD."""


class TestVersitygw(BlobSuite, MultipartSuite, SigningSuite):
    hostile_keys = HOSTILE_KEYS
    foreign_keys = tuple(key for key in FOREIGN_KEYS if not FOLDED.search(key))
    completed_again = (AlreadyExists,)
    copies_exclude_each_other = False
    held_bytes = 40 * MIB
    gates_of_a_long_put = 2

    @pytest.fixture
    async def bucket(self) -> AsyncIterator[S3Store]:
        async with new_bucket(service("versitygw")) as store:
            yield store

    @pytest.fixture
    async def driver(self, bucket: S3Store) -> Driver:
        """As Prism uses it: while a neighbour's deletion removes a folder, the gateway refuses a put for a moment."""
        driver = await open_s3(bucket, keeps_conditional_deletes=True)
        await driver.now()
        return Retry(driver)

    @pytest.fixture
    def http(self) -> HTTP:
        return PlainHTTP()

    @pytest.fixture
    def foreign(self, bucket: S3Store) -> Foreign:
        async def put(key: str, content: bytes) -> None:
            put_foreign(service("versitygw"), bucket.bucket, key, content)

        return put
