"""The object's life of the first design, through Prism as the image configures it, on each S3 server."""

import contextlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import boto3
import pytest
from botocore.config import Config as Settings
from prism_sdk import AsyncPrismClient, ObjectNotFound

from prism.config import load
from prism.testing.running import Running, running_app
from prism.testing.services import Service, service

SAMPLE = Path(__file__).parents[2] / "deploy" / "prism.yaml"


@contextlib.contextmanager
def bucket_on(server: Service) -> Any:
    """A new bucket, gone with all that is in it afterwards."""
    s3 = boto3.resource(
        "s3",
        endpoint_url=server.url,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name="us-east-1",
        config=Settings(s3={"addressing_style": "path"}, connect_timeout=5, read_timeout=10),
    )
    bucket = s3.Bucket(f"seed-{secrets.token_hex(6)}")
    bucket.create()
    try:
        yield bucket
    finally:
        bucket.objects.all().delete()
        bucket.delete()


@pytest.fixture(params=["minio", "versitygw"])
def bucket(request: pytest.FixtureRequest) -> Any:
    name: Literal["minio", "versitygw"] = request.param
    with bucket_on(service(name)) as made:
        made.server = service(name)
        yield made


@pytest.fixture
async def prism(bucket: Any, tmp_path: Path) -> AsyncIterator[Running]:
    """The sample configuration, and no more than the image's variables to find the store (and the test's bucket)."""
    variables = {
        "PRISM_OBJECTSTORE_ENDPOINT": bucket.server.address,
        "PRISM_OBJECTSTORE_ACCESS_KEY": bucket.server.access_key,
        "PRISM_OBJECTSTORE_SECRET_KEY": bucket.server.secret_key,
        "PRISM_NAMESPACES__USER_UPLOADS__BUCKET": bucket.name,
    }
    ports = {f"server.{name}.address": "127.0.0.1:0" for name in ("grpc", "http", "s3")}
    config = load(SAMPLE, variables, data_dir=tmp_path, overrides=ports)
    async with running_app(data_dir=tmp_path, config=config) as running:
        yield running


async def test_an_object_lives_and_is_gone(prism: Running, bucket: Any) -> None:
    async with AsyncPrismClient("user-uploads", endpoint=prism.grpc) as client:
        put = await client.put_object("", "test.txt", b"Hello, MinIO!", "text/plain")
        assert put.etag
        async with client.get_object("", "test.txt") as found:
            assert await found.read() == b"Hello, MinIO!"
        listed = [page async for page in client.list_pages("", "", page_size=10)]
        assert [one.key for page in listed for one in page.objects] == ["test.txt"]
        assert [one.key for one in bucket.objects.filter(Prefix="test.txt~")] != []
        await client.delete_object("", "test.txt")
        with pytest.raises(ObjectNotFound):
            async with client.get_object("", "test.txt") as found:
                await found.read()
