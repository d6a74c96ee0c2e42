"""Two tenants of one S3 server, each with a credential of its own that reaches its own place and no other.

On MinIO a credential is a temporary one whose policy names the place (a bucket, or a prefix of a shared one); on
Versity it is a user who owns the bucket.
"""

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator
from typing import Any

import boto3
import httpx
import msgspec
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from s3_buckets import new_bucket

from prism.config import S3Store
from prism.config.settings import Secret
from prism.testing.services import Service, service

__all__ = ["KINDS", "tenants"]

KINDS = ("minio buckets", "minio prefixes", "versitygw buckets")


@contextlib.asynccontextmanager
async def tenants(kind: str) -> AsyncIterator[tuple[S3Store, S3Store]]:
    """The stores of two namespaces."""
    server, _, places = kind.partition(" ")
    found = service("minio" if server == "minio" else "versitygw")
    async with new_bucket(found) as one, new_bucket(found) as other:
        if places == "prefixes":
            yield of_prefix(found, one, "left/"), of_prefix(found, one, "right/")
        elif server == "minio":
            yield of_bucket(found, one), of_bucket(found, other)
        else:
            async with owner(found, one) as left, owner(found, other) as right:
                yield left, right


def of_bucket(found: Service, store: S3Store) -> S3Store:
    """With a credential for this bucket alone."""
    arn = f"arn:aws:s3:::{store.bucket}"
    return _assumed(found, store, [{"Effect": "Allow", "Action": ["s3:*"], "Resource": [arn, f"{arn}/*"]}])


def of_prefix(found: Service, store: S3Store, prefix: str) -> S3Store:
    """With a credential for this prefix alone. Names are listed in the whole bucket: without that right, and under a
    condition is without, S3 answers 403 for a key that is not there, as if it were locked."""
    arn = f"arn:aws:s3:::{store.bucket}"
    statements: list[dict[str, Any]] = [
        {"Effect": "Allow", "Action": ["s3:*"], "Resource": [f"{arn}/{prefix}*"]},
        {"Effect": "Allow", "Action": ["s3:ListBucket", "s3:ListBucketMultipartUploads"], "Resource": [arn]},
    ]
    return msgspec.structs.replace(_assumed(found, store, statements), prefix=prefix)


def _assumed(found: Service, store: S3Store, statements: list[dict[str, Any]]) -> S3Store:
    sts = boto3.client(
        "sts",
        endpoint_url=found.url,
        aws_access_key_id=found.access_key,
        aws_secret_access_key=found.secret_key,
        region_name="us-east-1",
    )
    given = sts.assume_role(
        RoleArn="arn:aws:iam::000000000000:role/any",
        RoleSessionName="prism",
        Policy=json.dumps({"Version": "2012-10-17", "Statement": statements}),
        DurationSeconds=3600,
    )["Credentials"]
    return msgspec.structs.replace(
        store,
        access_key=given["AccessKeyId"],
        secret_key=Secret(given["SecretAccessKey"]),
        session_token=Secret(given["SessionToken"]),
    )


@contextlib.asynccontextmanager
async def owner(found: Service, store: S3Store) -> AsyncIterator[S3Store]:
    """With a user of Versity's own who owns this bucket."""
    name, secret = f"user-{secrets.token_hex(6)}", secrets.token_hex(16)
    account = f"<Account><Access>{name}</Access><Secret>{secret}</Secret><Role>user</Role></Account>"
    await asyncio.to_thread(_admin, found, "/create-user", account.encode())
    try:
        await asyncio.to_thread(_admin, found, f"/change-bucket-owner?bucket={store.bucket}&owner={name}")
        yield msgspec.structs.replace(store, access_key=name, secret_key=Secret(secret))
    finally:
        await asyncio.to_thread(_admin, found, f"/delete-user?access={name}")


def _admin(found: Service, path: str, body: bytes = b"") -> None:
    request = AWSRequest(method="PATCH", url=f"{found.url}{path}", data=body)
    S3SigV4Auth(Credentials(found.access_key, found.secret_key), "s3", "us-east-1").add_auth(request)
    signed = request.prepare()
    answer = httpx.request("PATCH", signed.url, headers=dict(signed.headers), content=body, timeout=20)
    assert answer.is_success, answer.text
