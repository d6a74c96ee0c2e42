"""The Azure driver over TLS with an authority of its own, once with the account's key and once as an identity.

Azurite believes any token that looks like one of Entra ID's, so the identity is a test's own.
"""

import base64
import json
import re
import time
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from azure_containers import client, new_container

from prism.blob import BlobStore
from prism.blob.azure import open_azure
from prism.blob.driver import Bound, EtagMismatch, WriteOptions
from prism.config import AzureStore
from prism.errors import ErrorCode, PrismError
from prism.testing import servers
from prism.testing.blob_calls import all_keys, content_of, put, stream
from prism.testing.certificate import issued
from prism.testing.plain_http import PlainHTTP
from prism.testing.services import PrivateServer, Service, free_port, program, service

MIB = 2**20


class Identity:
    """A credential as the default chain is one; it counts how often it is asked for a token."""

    def __init__(self) -> None:
        self.asked = 0

    def get_token(self, *scopes: str, **_: Any) -> SimpleNamespace:
        self.asked += 1
        now = int(time.time())
        claims = {
            "aud": "https://storage.azure.com",
            "iss": "https://sts.windows.net/ab1f708d-50f6-404c-a006-d71b2ac7a606/",
            "iat": now - 60,
            "nbf": now - 60,
            "exp": now + 3600,
            "oid": "23657296-5cd5-45b0-a809-d972a7f4dfe1",
            "tid": "ab1f708d-50f6-404c-a006-d71b2ac7a606",
        }
        parts = (json.dumps(part).encode() for part in ({"alg": "RS256", "typ": "JWT"}, claims))
        token = ".".join([*(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts), "c2ln"])
        return SimpleNamespace(token=token, expires_on=now + 3600)

    def close(self) -> None:
        """Nothing is held."""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Service]:
    shared = service("azurite")
    made = issued(tmp_path)
    port = free_port()
    plain = servers.azurite(
        program("azurite"), tmp_path / "data", port, account=shared.access_key, key=shared.secret_key
    )
    speaks_tls = ("--cert", str(made.cert_file), "--key", str(made.key_file), "--oauth", "basic")
    trusts_itself = plain.environment | {"NODE_EXTRA_CA_CERTS": str(made.ca_file)}  # it asks itself for a copy's source
    command = msgspec.structs.replace(plain, arguments=(*plain.arguments, *speaks_tls), environment=trusts_itself)
    url = f"https://127.0.0.1:{port}/{shared.access_key}"
    private = PrivateServer(
        command, msgspec.structs.replace(shared, url=url, ca_file=made.ca_file), tmp_path / "azurite.log"
    )
    await private.start()
    yield private.service
    await private.stop()


@pytest.fixture
async def container(server: Service) -> AsyncIterator[AzureStore]:
    async with new_container(server) as store:
        yield store


@pytest.fixture
def identity() -> Identity:
    return Identity()


@pytest.fixture(params=["key", "identity"])
async def store(request: pytest.FixtureRequest, container: AzureStore, identity: Identity) -> AsyncIterator[BlobStore]:
    if request.param == "identity":
        container = msgspec.structs.replace(container, secret_key=None)
    store = BlobStore(await open_azure(container, lambda: identity))
    yield store
    await store.close()


async def test_everything_goes_over_tls(store: BlobStore) -> None:
    options = WriteOptions(content_type="a/a", metadata={"prism-key": "ä"}, tags={"ttl": "5"})
    first = await put(store, "short", b"short", options=options)
    await put(store, "long", *[bytes(MIB)] * 9, options=options)
    assert await content_of(store, "short", if_match=first.etag) == b"short"
    assert await all_keys(store) == ["long", "short"]
    copied = await store.copy("short", first.etag, "copied", WriteOptions(content_type="b/b"))
    assert await content_of(store, "copied", if_match=copied.etag) == b"short"
    with pytest.raises(EtagMismatch):
        await store.delete_if("copied", first.etag)
    upload = await store.create_multipart("parts", WriteOptions())
    part = await store.put_part("parts", upload, 1, stream(b"part"), 4)
    await store.complete_multipart("parts", upload, [part], WriteOptions())
    results = await store.delete_many(["short", "long", "copied", "parts"])
    assert not [result for result in results if result.error]
    assert await all_keys(store) == []


async def test_urls_are_signed_and_for_tls_only(store: BlobStore, container: AzureStore) -> None:
    now = await store.now()
    http = PlainHTTP(container.ca_file)
    signed = await store.sign_put("d/k", now, 60, Bound())
    assert signed.url.startswith("https://")
    assert "spr=https&" in signed.url
    assert (await http("PUT", signed.url, signed.headers, b"x")).status == 201
    get = await store.sign_get("d/k", now, 60, "text/plain", "attachment")
    answer = await http("GET", get.url, get.headers)
    assert (answer.content, answer.headers["content-type"], answer.headers["content-disposition"]) == (
        b"x",
        "text/plain",
        "attachment",
    )
    for url in (get.url.replace("/d/k?", "/d/kk?"), re.sub("rsct=[^&]*", "rsct=text%2Fhtml", get.url)):
        assert (await http("GET", url, get.headers)).status == 403
    assert (await http("DELETE", signed.url, signed.headers)).status == 403


async def test_one_delegated_key_signs_many_urls_and_is_renewed(container: AzureStore, identity: Identity) -> None:
    store = BlobStore(await open_azure(msgspec.structs.replace(container, secret_key=None), lambda: identity))
    now = await store.now()
    urls = [(await store.sign_get(f"k{at}", now, 3600)).url for at in range(50)]
    keys = {name for url in urls for name in url.split("&") if name.startswith("ske=")}
    assert len(keys) == 1
    later = (await store.sign_get("k", now + timedelta(hours=11, minutes=30), 3600)).url
    assert not any(key in later for key in keys)
    await store.close()


async def test_an_identity_writes_no_tags(container: AzureStore, identity: Identity) -> None:
    """The usual role for data may not: the capability says so, and the bytes are stored all the same."""
    store = BlobStore(await open_azure(msgspec.structs.replace(container, secret_key=None), lambda: identity))
    assert not store.capabilities.tags
    for key, size in (("short", 1), ("long", 9)):
        await put(store, key, *[bytes(MIB)] * size, options=WriteOptions(tags={"ttl": "5"}))
        with client(_service(container), container.bucket) as found:
            assert found.get_blob_client(key).get_blob_tags() == {}
    await store.close()


async def test_a_certificate_that_nobody_vouches_for_is_refused(container: AzureStore) -> None:
    store = BlobStore(await open_azure(msgspec.structs.replace(container, ca_file=None)))
    for call in (lambda: put(store, "k", b"x"), lambda: store.head("k")):
        with pytest.raises(PrismError) as raised:
            await call()
        assert raised.value.code is ErrorCode.STORE_DOWN
    await store.close()


async def test_no_credential_is_a_sentence(container: AzureStore) -> None:
    from azure.core.exceptions import ClientAuthenticationError

    class Nobody(Identity):
        def get_token(self, *scopes: str, **_: Any) -> SimpleNamespace:
            raise ClientAuthenticationError("secret: https://login.example/?code=1")

    store = BlobStore(await open_azure(msgspec.structs.replace(container, secret_key=None), Nobody))
    for call in (lambda: store.head("k"), lambda: store.sign_get("k", datetime.now().astimezone(), 60)):
        with pytest.raises(PrismError, match="credentials") as raised:
            await call()
        assert "login.example" not in str(raised.value)
    with pytest.raises(PrismError) as raised:
        await put(store, "k", b"x")
    assert raised.value.code is ErrorCode.STORE_DOWN
    await store.close()


async def test_clients_are_sent_to_the_public_endpoint(container: AzureStore) -> None:
    public = msgspec.structs.replace(container, public_endpoint="https://blobs.example.com")
    store = BlobStore(await open_azure(public))
    signed = await store.sign_get("a b", await store.now(), 60)
    assert signed.url.startswith(f"https://blobs.example.com/{container.bucket}/a%20b?")
    await put(store, "a b", b"x")
    assert await content_of(store, "a b") == b"x"
    await store.close()


def _service(store: AzureStore) -> Service:
    assert store.secret_key is not None
    key = store.secret_key.reveal()
    return Service(url=store.endpoint, access_key=store.access_key, secret_key=key, ca_file=store.ca_file)
