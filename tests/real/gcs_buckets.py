"""A bucket of its own for each test on fake-gcs-server, gone afterwards with all that it holds; and an account.

The account's tokens come from a small token service beside the tests, which gives them for what the key has signed.
"""

import asyncio
import base64
import contextlib
import functools
import http.server
import json
import secrets
import threading
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qsl, quote

import urllib3
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import jwt
from google.auth.crypt import RSASigner

from prism.config import GCSStore
from prism.config.settings import Secret
from prism.testing.services import Service

__all__ = ["account", "new_bucket", "put_foreign", "raw_keys"]

_HTTP = urllib3.PoolManager(retries=False, timeout=20)


@functools.cache
def account() -> tuple[rsa.RSAPrivateKey, Secret]:
    """A service account that nobody at Google knows: its private key, and its key file. Its token service runs as long
    as the process does."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    told = {
        "type": "service_account",
        "client_email": "prism@tests.example",
        "private_key_id": "0",
        "private_key": key.private_bytes(*form).decode(),
    }

    class Tokens(_Tokens):
        signer = RSASigner.from_string(told["private_key"])

    service = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Tokens)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    return key, Secret(json.dumps({**told, "token_uri": f"http://127.0.0.1:{service.server_port}/token"}))


class _Tokens(http.server.BaseHTTPRequestHandler):
    """The exchange of RFC 7523: a signed claim to be the account, for a token that says its scope."""

    signer: RSASigner

    def do_POST(self) -> None:
        asked = dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        head, claims, proof = asked["assertion"].split(".")
        told = json.loads(base64.urlsafe_b64decode(claims + "=="))
        good = (
            asked["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
            and told["aud"] == "https://oauth2.googleapis.com/token"  # whatever the key file's token_uri is
            and told["exp"] > time.time()
            and self.signer.sign(f"{head}.{claims}".encode()) == base64.urlsafe_b64decode(proof + "==")
        )
        token = jwt.encode(self.signer, {"scope": told["scope"], "exp": int(time.time()) + 3600}).decode()
        answer = {"access_token": token, "expires_in": 3600, "token_type": "Bearer"} if good else {"error": "invalid"}
        content = json.dumps(answer).encode()
        self.send_response(200 if good else 400)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""


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
