"""A bucket of its own for each test on fake-gcs-server, gone afterwards with all that it holds."""

import asyncio
import contextlib
import functools
import json
import secrets
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import urllib3
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from prism.config import GCSStore
from prism.config.settings import Secret
from prism.testing.services import Service

__all__ = ["account", "new_bucket", "put_foreign", "raw_keys"]

_HTTP = urllib3.PoolManager(retries=False, timeout=20)


@functools.cache
def account() -> tuple[rsa.RSAPrivateKey, Secret]:
    """A service account that nobody at Google knows: its private key, and its key file."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    told = {
        "type": "service_account",
        "client_email": "prism@tests.example",
        "private_key_id": "0",
        "private_key": key.private_bytes(*form).decode(),
        "token_uri": "http://127.0.0.1:9/no-token-is-asked-for",
    }
    return key, Secret(json.dumps(told))


@contextlib.asynccontextmanager
async def new_bucket(found: Service, **settings: Any) -> AsyncIterator[GCSStore]:
    """The settings of a namespace whose bucket has just been made; anonymous, unless they say credentials."""
    name = f"prism-test-{secrets.token_hex(8)}"
    await asyncio.to_thread(_ask, "POST", f"{found.url}/storage/v1/b?project=tests", json.dumps({"name": name}))
    try:
        given: dict[str, Any] = {"endpoint": found.url, "use_ssl": False}
        yield GCSStore(bucket=name, **given | settings)
    finally:
        await asyncio.to_thread(_remove, found, name)


def put_foreign(found: Service, bucket: str, key: str, content: bytes) -> None:
    """Put bytes under a key as others do."""
    _ask("POST", f"{found.url}/upload/storage/v1/b/{bucket}/o?uploadType=media&name={quote(key, safe='')}", content)


def raw_keys(found: Service, bucket: str) -> list[str]:
    """Every key as the server itself tells it, hidden ones as well."""
    listed = _ask("GET", f"{found.url}/storage/v1/b/{bucket}/o")
    return [item["name"] for item in listed.get("items") or ()]


def _remove(found: Service, name: str) -> None:
    with contextlib.suppress(LookupError):  # the bucket may be gone, by the test's own doing
        for key in raw_keys(found, name):
            _ask("DELETE", f"{found.url}/storage/v1/b/{name}/o/{quote(key, safe='')}")
        _ask("DELETE", f"{found.url}/storage/v1/b/{name}")


def _ask(method: str, url: str, body: bytes | str | None = None) -> dict[str, Any]:
    answer = _HTTP.request(method, url, body=body)
    if answer.status >= 300:
        raise LookupError(f"{method} {url} answered {answer.status}")
    content: dict[str, Any] = json.loads(answer.data) if answer.data.strip() else {}
    return content
