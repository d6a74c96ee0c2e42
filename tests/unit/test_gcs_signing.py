"""V4 URLs for Google Cloud Storage are, to the letter, those that Google's own library signs."""

import json
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.cloud.storage._signing import generate_signed_url_v4
from google.oauth2 import service_account

from prism.blob.driver import Bound, Signed
from prism.blob.gcs import open_gcs
from prism.config import GCSStore
from prism.config.settings import Secret
from prism.errors import ErrorCode, PrismError

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
STAMP = "20260304T050607Z"
KMS = "projects/p/locations/l/keyRings/r/cryptoKeys/k"
EVERYTHING = Bound(
    create_only=True,
    size_bytes=7,
    content_type="image/png; a=b",
    metadata={"prism-key": "ä/🙂", "name": "two  words"},
    sha256="0" * 64,
    crc32c="AAAAAA==",
    md5="d41d8cd98f00b204e9800998ecf8427e",
)


@pytest.fixture(scope="module")
def key() -> str:
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pem = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(*form).decode()
    told = {"type": "service_account", "client_email": "p@tests.example", "private_key_id": "0", "private_key": pem}
    return json.dumps({**told, "token_uri": "http://127.0.0.1:9/"})


def googles(key: str, method: str, name: str, signed: Signed, query: dict[str, str] | None = None, **more: str) -> str:
    """The URL that Google's library makes of the same request."""
    return str(
        generate_signed_url_v4(
            service_account.Credentials.from_service_account_info(json.loads(key)),
            f"/bucket/{name}",
            expiration=60,
            method=method,
            headers=dict(signed.headers),
            query_parameters=query,
            api_access_endpoint=more.pop("api_access_endpoint", "https://storage.googleapis.com"),
            _request_timestamp=STAMP,
            **more,
        )
    )


async def opened(key: str, **settings: str):
    return await open_gcs(GCSStore(bucket="bucket", credentials=Secret(key), **settings))


def same(ours: str, theirs: str) -> bool:
    """Equal, whatever the order of the query's pairs, which both sort before they sign."""
    assert urlsplit(ours)[:3] == urlsplit(theirs)[:3]
    return parse_qs(urlsplit(ours).query) == parse_qs(urlsplit(theirs).query)


@pytest.mark.parametrize(
    "bound",
    [
        Bound(),
        Bound(create_only=True),
        Bound(size_bytes=0),
        Bound(content_type="text/plain"),
        Bound(metadata={"a": "b", "prism-key": "é"}),
        Bound(crc32c="n03x6A=="),
        Bound(md5="00" * 16),
        EVERYTHING,
    ],
)
async def test_a_put_is_signed_as_google_signs_it(key: str, bound: Bound) -> None:
    driver = await opened(key)
    signed = await driver.sign_put("d/k~1", NOW, 60, bound)
    assert same(signed.url, googles(key, "PUT", "d/k~1", signed))
    await driver.close()


async def test_everything_that_is_bound_is_a_signed_header(key: str) -> None:
    driver = await opened(key, kms_key=KMS)
    signed = await driver.sign_put("k", NOW, 60, EVERYTHING)
    assert dict(signed.headers) == {
        "Content-Type": "image/png; a=b",
        "x-goog-content-length-range": "7,7",
        "x-goog-encryption-kms-key-name": KMS,
        "x-goog-hash": "crc32c=AAAAAA==,md5=1B2M2Y8AsgTpgAmY7PhCfg==",
        "x-goog-if-generation-match": "0",
        "x-goog-meta-name": "=?utf-8?b?dHdvICB3b3Jkcw==?=",
        "x-goog-meta-prism-key": "=?utf-8?b?w6Qv8J+Zgg==?=",
    }
    names = parse_qs(urlsplit(signed.url).query)["X-Goog-SignedHeaders"][0].split(";")
    assert names == sorted([*(name.lower() for name in signed.headers), "host"])
    assert same(signed.url, googles(key, "PUT", "k", signed))
    assert driver.capabilities.binds == {"create_only", "size", "content_type", "metadata", "crc32c", "md5"}
    await driver.close()


@pytest.mark.parametrize("name", ["a", "a b", "é/🙂", "a+b%2Fc", "a?b#c&d=e", "a~b", "(a)!*'", "a=b;c"])
async def test_a_get_of_any_key_is_signed_as_google_signs_it(key: str, name: str) -> None:
    driver = await opened(key)
    plain = await driver.sign_get(name, NOW, 60, None, None)
    assert same(plain.url, googles(key, "GET", quoted(name), plain))
    said = "attachment; filename=\"a b.txt\"; filename*=UTF-8''%C3%A4.txt"
    full = await driver.sign_get(name, NOW, 60, "text/plain; charset=utf-8", said)
    asked = {"response_type": "text/plain; charset=utf-8", "response_disposition": said}
    assert same(full.url, googles(key, "GET", quoted(name), full, **asked))
    await driver.close()


def quoted(name: str) -> str:
    """The library takes the path as its own client encodes it."""
    from urllib.parse import quote

    return quote(name, safe="/~")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("https://files.example", "https://files.example"),
        ("https://files.example:443", "https://files.example"),
        ("http://127.0.0.1:80", "http://127.0.0.1"),
        ("http://127.0.0.1:4443", "http://127.0.0.1:4443"),
    ],
)
async def test_a_url_names_the_host_that_clients_see(key: str, given: str, shown: str) -> None:
    driver = await opened(key, endpoint="http://10.0.0.1:9", public_endpoint=given)
    signed = await driver.sign_get("k", NOW, 60, None, None)
    assert signed.url.startswith(f"{shown}/bucket/k?")
    assert same(signed.url, googles(key, "GET", "k", signed, api_access_endpoint=shown))
    await driver.close()


@pytest.mark.parametrize(
    "given", ["no JSON", "[]", "{}", '{"client_email": "a", "private_key": "x", "token_uri": "y"}']
)
async def test_a_key_that_is_none_is_refused_and_not_shown(given: str) -> None:
    with pytest.raises(PrismError) as raised:
        await opened(given)
    assert raised.value.code is ErrorCode.INVALID_ARGUMENT
    assert given not in str(raised.value) or given in {"[]", "{}"}


async def test_an_emulator_without_credentials_signs_nothing() -> None:
    driver = await open_gcs(GCSStore(bucket="bucket", endpoint="http://127.0.0.1:9"))
    assert (driver.capabilities.sign, driver.capabilities.binds) == (False, frozenset())
    await driver.close()


@pytest.mark.parametrize("endpoint", ["", "https://storage.googleapis.com", "https://storage-x.p.googleapis.com"])
async def test_google_is_asked_with_the_clouds_own_credentials(endpoint: str) -> None:
    driver = await open_gcs(GCSStore(bucket="bucket", endpoint=endpoint))
    assert driver.capabilities.sign
    await driver.close()
