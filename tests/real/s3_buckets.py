"""A bucket of its own for each test on an S3 server, gone afterwards with all that it holds."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from prism.config import S3Store
from prism.config.settings import Secret
from prism.testing.services import Service

__all__ = ["client", "new_bucket", "put_foreign"]

_PLAIN = Config(
    connect_timeout=5,
    read_timeout=20,
    request_checksum_calculation="when_required",
    retries={"total_max_attempts": 1, "mode": "standard"},
    s3={"addressing_style": "path"},
)


def client(found: Service) -> Any:
    """Amazon's own library, at this server."""
    return boto3.client(
        "s3",
        endpoint_url=found.url,
        aws_access_key_id=found.access_key,
        aws_secret_access_key=found.secret_key,
        region_name="us-east-1",
        verify=str(found.ca_file) if found.ca_file else None,
        config=_PLAIN,
    )


@contextlib.asynccontextmanager
async def new_bucket(found: Service, **settings: Any) -> AsyncIterator[S3Store]:
    """The settings of a namespace whose bucket has just been made."""
    s3 = client(found)
    name = f"prism-test-{secrets.token_hex(8)}"
    await asyncio.to_thread(s3.create_bucket, Bucket=name)
    given: dict[str, Any] = {
        "access_key": found.access_key,
        "secret_key": Secret(found.secret_key),
        "endpoint": found.url,
        "use_ssl": found.url.startswith("https:"),
        "ca_file": found.ca_file,
        "path_style": True,
    }
    try:
        yield S3Store(bucket=name, **given | settings)
    finally:
        await asyncio.to_thread(_remove, s3, name)
        s3.close()


def put_foreign(found: Service, bucket: str, key: str, content: bytes) -> None:
    """Put bytes under a key as others do."""
    s3 = client(found)
    s3.put_object(Bucket=bucket, Key=key, Body=content)
    s3.close()


def _remove(s3: Any, name: str) -> None:
    with contextlib.suppress(ClientError):  # the bucket may be gone, by the test's own doing
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=name):
            for one in [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]:
                s3.delete_object(Bucket=name, Key=one["Key"], VersionId=one["VersionId"])
        for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket=name):
            for one in page.get("Uploads", ()):
                s3.abort_multipart_upload(Bucket=name, Key=one["Key"], UploadId=one["UploadId"])
        s3.delete_bucket(Bucket=name)
