"""What the Azure driver decides by itself: signatures, order, names, and what an answer of the store means."""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs

import pytest
from azure.storage.blob import UserDelegationKey, generate_blob_sas
from azure.storage.blob._shared.constants import X_MS_VERSION

from prism.blob.azure import open_azure
from prism.blob.azure_feed import Feed, FeedStopped
from prism.blob.azure_fields import fields_of, metadata_of, tags_of
from prism.blob.azure_listing import in_byte_order, utf16
from prism.blob.azure_requests import Requests, credential_of, refusal, url_of
from prism.blob.azure_sas import PLAIN, AccountKey, DelegatedKey, SasKey, signed_query
from prism.blob.driver import AlreadyExists, BadPart, BlobEntry, EtagMismatch, NotFound, Throttled
from prism.blob.obstores import plain_metadata
from prism.config import AzureStore
from prism.config.settings import Secret
from prism.errors import PrismError
from prism.keys import Layout
from prism.testing.blob_suite import HOSTILE_KEYS

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
KEY = AccountKey(b"an account's key")
DELEGATED = DelegatedKey(
    object_id="who",
    tenant_id="whose",
    starts="2026-11-25T11:55:00Z",
    expires="2026-11-26T00:00:00Z",
    service="b",
    version="2023-11-03",
    value=b"a delegated key",
)


def _theirs() -> UserDelegationKey:
    found = UserDelegationKey()
    found.signed_oid, found.signed_tid = DELEGATED.object_id, DELEGATED.tenant_id
    found.signed_start, found.signed_expiry = DELEGATED.starts, DELEGATED.expires
    found.signed_service, found.signed_version = DELEGATED.service, DELEGATED.version
    found.value = AccountKey(DELEGATED.value).text
    return found


@pytest.mark.parametrize("key", [KEY, DELEGATED], ids=["account", "delegated"])
@pytest.mark.parametrize("https_only", [True, False])
@pytest.mark.parametrize("answer", [{}, {"content_type": "text/plain; charset=utf-8", "disposition": 'a; b="ä c"'}])
def test_signatures_are_those_of_azures_own_library(key: SasKey, https_only: bool, answer: dict[str, str]) -> None:
    blob = "a b/é?#%2e~01"
    mine = signed_query(
        key,
        "account",
        "container",
        blob,
        version=X_MS_VERSION,
        permissions="cw",
        expires_at=NOW + timedelta(seconds=60),
        https_only=https_only,
        **answer,
    )
    theirs = generate_blob_sas(
        "account",
        "container",
        blob,
        account_key=key.text if isinstance(key, AccountKey) else None,
        user_delegation_key=_theirs() if isinstance(key, DelegatedKey) else None,
        permission="cw",
        expiry=NOW + timedelta(seconds=60),
        protocol="https" if https_only else None,
        content_type=answer.get("content_type"),
        content_disposition=answer.get("disposition"),
    )
    assert parse_qs(mine) == parse_qs(theirs)


def test_keys_hide_themselves() -> None:
    for key in (KEY, DELEGATED):
        assert "key'" not in f"{key} {key!r}"
        assert "a delegated key" not in f"{key} {key!r}"


def test_a_delegated_signature_of_an_older_version_has_fewer_fields() -> None:
    """Service version 2020-12-06 signs three fields behind the key's own, and none for headers of the request."""
    arguments: dict[str, Any] = {"permissions": "r", "expires_at": NOW, "https_only": True}
    old, new = (
        parse_qs(signed_query(DELEGATED, "a", "c", "b", version=version, **arguments))
        for version in (PLAIN, X_MS_VERSION)
    )
    assert {name for name in old if old[name] != new[name]} == {"sv", "sig"}


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("", "https://account.blob.core.windows.net"),
        ("http://127.0.0.1:10000", "http://127.0.0.1:10000/account"),
        ("http://localhost:10000", "http://localhost:10000/account"),
        ("http://127.0.0.1:10000/other", "http://127.0.0.1:10000/other"),
        ("https://blobs.example.com", "https://blobs.example.com"),
        ("http://azurite:10000/account", "http://azurite:10000/account"),
    ],
)
def test_where_an_account_is_served(endpoint: str, url: str) -> None:
    assert url_of(endpoint, "account") == url


def test_a_key_that_is_none_is_refused_and_not_shown() -> None:
    with pytest.raises(PrismError, match="base64") as raised:
        credential_of(AzureStore(bucket="bucket", access_key="account", secret_key=Secret("not base64!")))
    assert "not base64!" not in str(raised.value)
    assert credential_of(AzureStore(bucket="bucket", access_key="account")) is None


@pytest.mark.parametrize("name", ["a.b", "a--b", "a-", "-a"])
async def test_a_name_that_no_container_has_is_refused(name: str) -> None:
    with pytest.raises(PrismError, match="hyphens"):
        await open_azure(AzureStore(bucket=name, access_key="account"))


# -- metadata


@pytest.mark.parametrize("name", ["prism-key", "a", "a-b.c_d", "9a", "content-type", "x_2d", "a__", "_", "-"])
def test_names_are_identifiers_and_come_back(name: str) -> None:
    fields = fields_of({name: "ä"})
    assert all(field.isidentifier() and field.isascii() for field in fields)
    assert metadata_of(plain_metadata(fields)) == {name: "ä"}


@pytest.mark.parametrize("name", ["Camel", "first_name", "score_50", "prism_upload2", "a_zz"])
def test_names_that_others_gave_come_as_they_are(name: str) -> None:
    assert metadata_of(plain_metadata({name: "v"})) == {name.lower(): "v"}


def test_what_does_not_fit_is_left_away_and_prisms_own_fields_last() -> None:
    fields = fields_of({"a": "x" * 8000, "b": "y" * 300, "prism-key": "z" * 100})
    assert list(metadata_of(plain_metadata(fields))) == ["prism-key", "a"]
    assert sum(len(name) + len(value) for name, value in fields.items()) <= 8192


def test_tags_that_azure_refuses_are_left_away() -> None:
    tags = {"ttl": "1790000000", "ä": "x", "b": "ü", "c": "x" * 257, "d": ""}
    assert tags_of(tags) == {"ttl": "1790000000", "d": ""}
    assert len(tags_of({f"t{at}": "" for at in range(20)})) == 10


# -- keys and their order


def test_no_key_of_ours_is_one_that_azure_changes() -> None:
    """Azure takes a backslash for a slash, and wants no name or segment that ends in a dot, nor a slash at the end."""
    staged = [
        Layout("own", "p.q/").physical("other.bucket", key, "0" * 26) for key in ("a.", "a./b", "..", "a/", "b\\c")
    ]
    for key in [*HOSTILE_KEYS, *staged]:
        assert "\\" not in key
        assert not [segment for segment in key.split("/") if not segment or segment.endswith(".")]


async def test_pages_of_a_store_that_sorts_by_utf16_are_in_byte_order() -> None:
    chance = random.Random(7)
    characters = ["a", "/", "b", "\ud7ff", "\ue000", "\uff01", "\U00010000", "🙂"]

    def name(most: int) -> str:
        return "".join(chance.choice(characters) for _ in range(chance.randint(0, most)))

    for _ in range(300):
        names = sorted({name(4) or "a" for _ in range(chance.randint(0, 40))}, key=utf16)

        async def scan(prefix: str, start: str, most: int, names: list[str] = names) -> tuple[list[BlobEntry], bool]:
            found = [one for one in names if one.startswith(prefix) and utf16(one) >= utf16(start)]
            return [BlobEntry(one, 0, "", NOW) for one in found[:most]], len(found) > most

        for _ in range(4):
            prefix, start, limit = name(2), chance.choice(["", name(3), *names]), chance.randint(1, 8)
            expected = [one for one in sorted(names) if one.startswith(prefix) and one > start][:limit]
            assert [entry.key for entry in await in_byte_order(scan, prefix, start, limit)] == expected


# -- answers


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (404, "BlobNotFound", NotFound),
        (412, "ConditionNotMet", EtagMismatch),
        (409, "BlobAlreadyExists", AlreadyExists),
        (503, "ServerBusy", Throttled),
        (429, "", Throttled),
        (500, "OperationTimedOut", ConnectionError),
    ],
)
def test_what_an_answer_means(status: int, code: str, expected: type[Exception]) -> None:
    assert type(refusal(status, code, "bucket")) is expected


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (403, "AuthorizationPermissionMismatch", "rights"),
        (403, "AuthenticationFailed", "credentials"),
        (404, "ContainerNotFound", "no bucket 'bucket'"),
        (409, "BlobArchived", "BlobArchived"),
        (409, "BlobImmutableDueToPolicy", "BlobImmutableDueToPolicy"),
        (412, "LeaseIdMissing", "LeaseIdMissing"),
    ],
)
def test_an_answer_that_no_repetition_mends_is_a_sentence(status: int, code: str, said: str) -> None:
    found = refusal(status, code, "bucket")
    assert isinstance(found, PrismError)
    assert said in found.message


def test_how_long_the_store_asks_to_wait() -> None:
    found = refusal(503, "ServerBusy", "bucket", 7.0)
    assert isinstance(found, Throttled)
    assert found.retry_after_seconds == 7.0


# -- credentials of the chain


class _Chain:
    """A credential that counts how often it is asked."""

    asked = 0

    def get_token(self, *scopes: str, **_: Any) -> SimpleNamespace:
        assert scopes == ("https://storage.azure.com/.default",)
        self.asked += 1
        return SimpleNamespace(token="secret-token", expires_on=int(NOW.timestamp()))

    def close(self) -> None:
        self.asked = -self.asked


async def test_the_chain_gives_tokens_and_nothing_before() -> None:
    made = []

    def chain() -> _Chain:
        made.append(_Chain())
        return made[-1]

    store = AzureStore(bucket="bucket", access_key="account")
    requests = Requests(store, "https://account.blob.core.windows.net", None, chain)
    assert not made
    for _ in range(2):
        assert await requests.token() == {"token": "secret-token", "expires_at": NOW}
    await requests.close()
    assert [credential.asked for credential in made] == [-2]


# -- bodies


async def _pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


@pytest.mark.parametrize(
    ("pieces", "size"), [([b"a", b"b"], 3), ([b"abc", b"d"], 3), ([b"abcd"], 3), ([], 3), ([b"ab", b"cd"], 3)]
)
async def test_a_body_of_another_size_ends_before_it_is_whole(pieces: list[bytes], size: int) -> None:
    feed, sent = Feed(_pieces(*pieces), size), []

    def send() -> None:
        for piece in feed:
            sent.append(piece)

    with pytest.raises(FeedStopped):
        await asyncio.to_thread(send)
    assert isinstance(feed.error, BadPart)
    assert sum(map(len, sent)) < size
