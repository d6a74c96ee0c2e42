"""No shape in which a secret is usually written gets through, and nothing else is lost."""

import json
import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prism.redaction import is_secret_name, redact

NAMES = [
    *("X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token", "Signature", "sig", "token", "access_token"),
    *("password", "passwd", "pwd", "secret", "secret_key", "SECRET_KEY", "aws_secret_access_key", "api_key", "api-key"),
    *("apikey", "Authorization", "Proxy-Authorization", "Cookie", "set-cookie", "x-prism-upload", "client_secret"),
    *("PRISM_OBJECTSTORE_SECRET_KEY", "private_key", "session_token", "credentials", "passphrase", "AccessKey"),
]
WORDS = st.text(st.sampled_from("ABCxyz019+/=_~.-"), min_size=8, max_size=40).map(lambda text: f"Planted{text}")
ANY = st.text(max_size=20).map(lambda text: f"Planted9{text}Planted9")


@pytest.mark.parametrize("name", NAMES)
@given(secret=WORDS)
def test_named_words(name: str, secret: str) -> None:
    for text in (
        f"{name}={secret}",
        f"https://host:1/bucket/key?a=b&{name}={secret}&c=d HTTP/1.1",
        quote(f"https://host/?{name}={secret}&c=d", safe=""),
        quote(quote(f"https://host/?{name}={secret}", safe=""), safe=""),
        f"{name}: {secret}",
        f"request failed ({name}: {secret}\r\nHost: x)",
        f"{name} = '{secret}'",
        f'{name}="{secret}"',
    ):
        assert "Planted" not in redact(text), text


@pytest.mark.parametrize("name", NAMES)
@given(secret=ANY)
def test_quoted_values(name: str, secret: str) -> None:
    for text in (
        json.dumps({"before": 1, name: secret, "after": 2}),
        json.dumps({name: secret}, ensure_ascii=False),
        json.dumps({name: secret}, indent=2),
        repr({"before": 1, name: secret}),
        repr({name: secret.encode()}),
        repr([(name.encode(), secret.encode()), (b"host", b"x")]),
        json.dumps({name: secret})[: -len("9}")],
    ):
        assert "Planted" not in redact(text), text


@given(secret=WORDS)
def test_words_in_json_in_json(secret: str) -> None:
    inner = json.dumps({"token": secret, "user": "x"})
    assert "Planted" not in redact(json.dumps({"body": inner}))
    assert "Planted" not in redact(json.dumps({"body": json.dumps({"body": inner})}))


@given(secret=WORDS)
def test_schemes_and_users_in_urls(secret: str) -> None:
    for text in (
        f"sent Bearer {secret} to the server",
        f"Basic {secret}",
        f"'AWS4-HMAC-SHA256 Credential={secret}/20261124/us-east-1/s3/aws4_request, Signature={secret}'",
        f"postgresql://prism:{secret}@db:5432/prism",
        f"cannot connect to redis://:{secret.replace('/', '')}@cache",
    ):
        assert "Planted" not in redact(text), text


def test_tokens_are_known_by_their_looks() -> None:
    assert redact("got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJwbGFudGVkIn0.c2lnbmF0dXJl ok") == "got *** ok"
    assert redact("at /blobs/gAAAAABn0000planted_planted-planted== now") == "at /blobs/*** now"
    key = "-----BEGIN RSA PRIVATE KEY-----\nplanted\n-----END RSA PRIVATE KEY-----\n"
    assert "planted" not in redact(f"cannot parse {key}")
    assert "planted" not in redact(f"cannot parse {key[:45]}")


@pytest.mark.parametrize(
    "text",
    [
        "an object was stored",
        "photos/2026/a b.jpg",
        "01J8ZQ5Y0000000000000000AA",
        "https://host:8333/prism-objects/a.jpg?list-type=2&prefix=a%2Fb",
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0bb822cd15d6c15b0f00a08",
        "namespaces.user-uploads.default_ttl_seconds: got -5; allowed: a whole number",
        "design of assignments, insignificant",
        "",
    ],
)
def test_everything_else_stays_as_it_is(text: str) -> None:
    assert redact(text) == text


@given(text=st.text())
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    assert redact(redact(text)) == redact(text)


@pytest.mark.parametrize(
    "unit",
    [
        "token",
        "token=",
        "token: ",
        '"token": "',
        "'token', b'",
        "//a:",
        "//:",
        ":",
        "//@",
        "bearer ",
        "eyJ",
        "key\\",
        "a@",
        "-----BEGIN ",
    ],
)
def test_nobody_slows_it_down(unit: str) -> None:
    text = (unit * 70_000)[:65_536]
    began = time.process_time()
    redact(text)
    assert time.process_time() - began < 1.0


def test_names_of_secrets() -> None:
    assert [name for name in NAMES if not is_secret_name(name)] == []
    plain = ("key", "bucket", "request_id", "size_bytes", "namespace", "error", "assignment", "design", "host")
    assert [name for name in plain if is_secret_name(name)] == []
