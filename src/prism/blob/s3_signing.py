"""URLs that an S3 store verifies itself, with all that they are to insist on signed as headers."""

import base64
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import urlsplit

from ..config import S3Store
from .driver import Bound, Signed
from .obstores import fitted
from .s3_credentials import Keys
from .s3_uploads import tagging
from .sigv4 import Credential, presign

__all__ = [
    "COPIES_UNSIGNED",
    "KEEP_BONDS",
    "METADATA_BYTES",
    "METADATA_OVERHEAD",
    "NO_COPY",
    "bucket_url",
    "encryption_headers",
    "is_amazon",
    "sign",
    "signed_put",
]

COPIES_UNSIGNED = frozenset({"MinIO"})
"""Servers that take an `x-amz-copy-source` which a URL's signature does not cover: whoever holds an upload URL could
copy any object of the bucket to its key, past all that the URL is bound to. Other `x-amz-` headers they refuse."""
NO_COPY: Mapping[str, str] = {"x-amz-copy-source": "none"}
"""Such a server looks for a signed header in the query where it was not sent. Signed so, the header cannot be added."""
KEEP_BONDS = COPIES_UNSIGNED | {"VERSITYGW"}
"""What servers call themselves that keep a URL's bonds; the Versity gateway refuses what was not signed."""
METADATA_BYTES = 2048
"""User metadata of an object, names and values together
(docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html)."""
METADATA_OVERHEAD = len("x-amz-meta-")
"""Of each field: some compatibles count the header's whole name."""


def bucket_url(store: S3Store, endpoint: str) -> tuple[str, str]:
    """The server's URL as requests for the bucket name it, and the bucket's path there, without a last `/`."""
    if store.path_style:
        return endpoint, f"/{store.bucket}"
    scheme, _, host = endpoint.partition("://")
    return f"{scheme}://{store.bucket}.{host}", ""


def encryption_headers(store: S3Store) -> dict[str, str]:
    """What asks for encryption at rest."""
    headers: dict[str, str] = {}
    if store.encryption is not None:
        headers["x-amz-server-side-encryption"] = store.encryption
    if store.kms_key is not None:
        headers["x-amz-server-side-encryption-aws-kms-key-id"] = store.kms_key
    return headers


def sign(
    store: S3Store,
    keys: Keys,
    method: str,
    key: str,
    now: datetime,
    lasting_seconds: int,
    *,
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    hidden: Mapping[str, str] | None = None,
) -> Signed:
    """A URL for one key. It names the host that clients see. `hidden` are headers that are bound, and not sent."""
    server, root = bucket_url(store, store.public_endpoint or store.endpoint)
    asked = {**(query or {}), **(hidden or {})}
    if keys.token is not None:
        asked["X-Amz-Security-Token"] = keys.token
    url = presign(
        Credential(keys.access_key, keys.secret_key, store.region),
        method,
        server,
        f"{root}/{key}",
        query=asked,
        headers={**(headers or {}), **(hidden or {})},
        expires_seconds=lasting_seconds,
        now=now,
    )
    return Signed(url, dict(headers or {}))


def signed_put(store: S3Store, bound: Bound) -> dict[str, str]:
    """The headers of a PUT that is to insist on `bound`."""
    headers = encryption_headers(store)
    if bound.create_only:
        headers["if-none-match"] = "*"
    if bound.size_bytes is not None:
        headers["content-length"] = str(bound.size_bytes)
    if bound.content_type:
        headers["content-type"] = bound.content_type
    if bound.sha256 is not None:
        headers["x-amz-checksum-sha256"] = _base64(bound.sha256)
    if bound.crc32c is not None:
        headers["x-amz-checksum-crc32c"] = bound.crc32c
    if bound.md5 is not None:
        headers["content-md5"] = _base64(bound.md5)
    if bound.tags:
        headers["x-amz-tagging"] = tagging(bound.tags)
    for name, value in fitted(bound.metadata, METADATA_BYTES, METADATA_OVERHEAD).items():
        headers[f"x-amz-meta-{name}"] = value
    return headers


def _base64(hexadecimal: str) -> str:
    return base64.b64encode(bytes.fromhex(hexadecimal)).decode()


def is_amazon(store: S3Store) -> bool:
    """Whether the bucket lies at Amazon, whose S3 keeps all of its own promises."""
    host = urlsplit(store.endpoint).hostname or ""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))
