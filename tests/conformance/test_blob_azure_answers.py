"""What the Azure driver sends, and what it makes of answers that Azurite never gives.

A stand-in answers as the REST reference of Azure says: servers that are busy or refuse, older service versions, copies
into an encryption scope, listings that begin at a name.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest

from prism.blob import BlobStore, open_blob
from prism.blob.azure import open_azure
from prism.blob.driver import EtagMismatch, Stored, Throttled, WriteOptions
from prism.config import AzureStore
from prism.config.settings import Secret
from prism.errors import ErrorCode, PrismError
from prism.testing.blob_calls import put

ACCOUNT_KEY = "YW4gYWNjb3VudCdzIGtleQ=="
MIB = 2**20
WHEN = "Wed, 25 Nov 2026 12:00:00 GMT"


class Sent(NamedTuple):
    """A request as it came."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


class Answer(NamedTuple):
    """What the stand-in says."""

    status: int
    headers: Mapping[str, str] = {}
    body: bytes = b""


def refusal(status: int, code: str, **headers: str) -> Answer:
    """An error as Azure writes it, with text that nobody may see."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>secret://text</Message></Error>".encode()
    return Answer(status, {"x-ms-error-code": code, "Content-Type": "application/xml"} | headers, body)


class StandIn:
    """Answers each request by `answer`, and keeps what was sent."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.answer: Callable[[Sent], Answer] = lambda _: Answer(201, {"ETag": '"e"', "Last-Modified": WHEN})
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_any(self) -> None:
                split = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                query = {name: values[0] for name, values in parse_qs(split.query, keep_blank_values=True).items()}
                headers = {name.lower(): value for name, value in self.headers.items()}
                sent = Sent(self.command, split.path, query, headers, body)
                stand_in.sent.append(sent)
                answer = stand_in.answer(sent)
                with contextlib.suppress(OSError):
                    self.send_response(answer.status)
                    for name, value in ({"Content-Length": str(len(answer.body))} | dict(answer.headers)).items():
                        self.send_header(name, value)
                    self.end_headers()
                    if self.command != "HEAD":
                        self.wfile.write(answer.body)

            do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = do_any

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/account"

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[StandIn]:
    server = StandIn()
    yield server
    server.close()


def settings(server: StandIn, **more: Any) -> AzureStore:
    given = {"request_seconds": 5.0, "secret_key": Secret(ACCOUNT_KEY)} | more
    return AzureStore(bucket="bucket", access_key="account", endpoint=server.url, use_ssl=False, **given)


@pytest.fixture
async def store(server: StandIn) -> AsyncIterator[BlobStore]:
    store = BlobStore(await open_azure(settings(server)))
    yield store
    await store.close()


CALLS: dict[str, Callable[[BlobStore], Any]] = {
    "put": lambda store: put(store, "k", b"x"),
    "long put": lambda store: put(store, "k", *[bytes(MIB)] * 9),
    "get": lambda store: store.get("k"),
    "head": lambda store: store.head("k"),
    "list": lambda store: store.list(""),
    "copy": lambda store: store.copy("k", "e", "l", WriteOptions()),
    "delete_many": lambda store: store.delete_many(["k"]),
    "delete_if": lambda store: store.delete_if("k", "e"),
    "multipart": lambda store: store.create_multipart("k", WriteOptions()),
    "now": lambda store: store.now(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (503, "ServerBusy", "come back later"),
        (429, "TooManyRequests", "come back later"),
        (500, "InternalError", "fails at the moment"),
        (403, "AuthorizationPermissionMismatch", "rights"),
        (403, "AuthenticationFailed", "credentials"),
        (404, "ContainerNotFound", "no bucket 'bucket'"),
    ],
)
async def test_a_refusal_is_a_sentence_of_our_own(
    server: StandIn, store: BlobStore, call: Callable[[BlobStore], Any], status: int, code: str, said: str
) -> None:
    if code == "ContainerNotFound" and call is CALLS["get"]:
        said = "no bucket"
    server.answer = lambda _: refusal(status, code)
    with pytest.raises(PrismError, match=said) as raised:
        await call(store)
    assert raised.value.code is ErrorCode.STORE_DOWN
    assert "secret" not in str(raised.value)


async def test_the_store_says_how_long_to_wait(server: StandIn) -> None:
    server.answer = lambda _: refusal(503, "ServerBusy", **{"Retry-After": "7"})
    driver = await open_azure(settings(server))
    with pytest.raises(Throttled) as raised:
        await driver.head("k")
    assert raised.value.retry_after_seconds == 7.0
    await driver.close()


async def test_a_store_that_is_busy_for_a_moment_is_asked_again(server: StandIn) -> None:
    """Azure's own library and obstore repeat nothing: the layers do, once for each refusal."""
    calm = server.answer
    server.answer = lambda _: refusal(503, "ServerBusy") if len(server.sent) <= 2 else calm(server.sent[-1])
    store = await open_blob(settings(server))
    assert (await put(store, "k", b"x")).etag == "e"
    assert [sent.body for sent in server.sent] == [b"x"] * 3
    await store.close()


async def test_a_store_that_hangs_is_given_up(server: StandIn) -> None:
    over = threading.Event()
    server.answer = lambda _: Answer(over.wait(30) and 200)
    driver = await open_azure(settings(server, request_seconds=0.3))
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        await driver.head("k")
    assert time.monotonic() - began < 5
    over.set()
    await driver.close()


async def test_the_store_sends_nobody_elsewhere(server: StandIn, store: BlobStore) -> None:
    """Credentials go to the host of the configuration alone."""
    server.answer = lambda _: Answer(307, {"Location": f"{server.url}/elsewhere"})
    for call in ("head", "list", "delete_if", "now"):
        with pytest.raises(PrismError) as raised:
            await CALLS[call](store)
        assert raised.value.code is ErrorCode.STORE_DOWN
    assert not [sent for sent in server.sent if "elsewhere" in sent.path]


async def test_nobody_listens(server: StandIn) -> None:
    store = BlobStore(await open_azure(settings(server)))
    server.close()
    for call in CALLS.values():
        with pytest.raises(PrismError) as raised:
            await call(store)
        assert raised.value.code is ErrorCode.STORE_DOWN
    await store.close()


async def test_variables_for_other_programs_choose_no_credential(
    server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "AZURE_STORAGE_ACCOUNT_KEY": "b3RoZXI=",
        "AZURE_STORAGE_ACCOUNT_NAME": "other",
        "AZURE_STORAGE_SAS_TOKEN": "sig=other",
        "AZURE_STORAGE_TOKEN": "other",
        "AZURE_STORAGE_ENDPOINT": "http://127.0.0.1:1/other",
        "AZURE_STORAGE_USE_EMULATOR": "true",
        "AZURE_SKIP_SIGNATURE": "true",
        "AZURE_CREDENTIAL_TYPE": "sas_token",
    }.items():
        monkeypatch.setenv(name, value)
    store = BlobStore(await open_azure(settings(server)))
    await put(store, "k", b"x")
    await put(store, "l", *[bytes(MIB)] * 9)
    assert all(sent.headers["authorization"].startswith("SharedKey account:") for sent in server.sent)
    assert all(sent.path.startswith("/account/bucket/") for sent in server.sent)
    await store.close()


# -- what is asked of Azure


async def test_every_write_that_makes_a_blob_is_create_only(server: StandIn, store: BlobStore) -> None:
    await put(store, "short", b"x")
    await put(store, "long", *[bytes(MIB)] * 9)
    making = [sent for sent in server.sent if sent.query.get("comp") != "block"]
    assert [(sent.path.rpartition("/")[2], sent.headers["if-none-match"]) for sent in making] == [
        ("short", "*"),
        ("long", "*"),
    ]


async def test_a_listing_begins_at_a_name(server: StandIn, store: BlobStore) -> None:
    server.answer = lambda _: Answer(200, {"Content-Type": "application/xml"}, _page("d/k", "d/l"))
    assert [entry.key for entry in await store.list("d/", "d/k")] == ["d/l"]
    (sent,) = server.sent
    assert (sent.query["prefix"], sent.query["startFrom"], sent.headers["x-ms-version"]) == ("d/", "d/k", "2026-02-06")


async def test_names_that_xml_cannot_hold_come_encoded(server: StandIn, store: BlobStore) -> None:
    server.answer = lambda _: Answer(200, {"Content-Type": "application/xml"}, _page("a%01b", encoded=True))
    assert [entry.key for entry in await store.list("")] == ["a\x01b"]


async def test_an_older_service_is_listed_from_the_beginning(server: StandIn, store: BlobStore) -> None:
    def answer(sent: Sent) -> Answer:
        if sent.headers["x-ms-version"] > "2024":
            return refusal(400, "InvalidHeaderValue")
        return Answer(200, {"Content-Type": "application/xml"}, _page("a", "b", "c"))

    server.answer = answer
    for _ in range(2):
        assert [entry.key for entry in await store.list("", "a")] == ["b", "c"]
    assert ["startFrom" in sent.query for sent in server.sent] == [True, False, False]


async def test_an_encryption_scope_goes_with_every_write_and_copies_go_by_blocks(server: StandIn) -> None:
    def answer(sent: Sent) -> Answer:
        size = {"Content-Length": "1500000000"} if sent.method == "HEAD" else {}
        return Answer(200 if sent.method == "HEAD" else 201, {"ETag": '"e"', "Last-Modified": WHEN} | size)

    server.answer = answer
    store = BlobStore(await open_azure(settings(server, encryption_scope="scope")))
    await put(store, "k", b"x")
    copied = await store.copy("k", "e", "l", WriteOptions(metadata={"a": "b"}, content_type="c/d", create_only=False))
    assert copied == Stored("e", 1_500_000_000)
    writes = [sent for sent in server.sent if sent.method == "PUT"]
    assert all(sent.headers["x-ms-encryption-scope"] == "scope" for sent in writes)
    *blocks, commit = writes[2:]
    assert [sent.headers["x-ms-source-range"] for sent in blocks] == [
        "bytes=0-1048575999",
        "bytes=1048576000-1499999999",
    ]
    for sent in blocks:
        source = urlsplit(sent.headers["x-ms-copy-source"])
        assert (source.path, parse_qs(source.query)["sp"]) == ("/account/bucket/k", ["r"])
        assert sent.headers["x-ms-source-if-match"] == '"e"'
    assert (commit.query["comp"], commit.headers["if-none-match"]) == ("blocklist", "*")
    assert (commit.headers["x-ms-meta-a"], commit.headers["x-ms-blob-content-type"]) == ("b", "c/d")
    await store.close()


async def test_a_copy_that_takes_its_time_is_waited_for(server: StandIn, store: BlobStore) -> None:
    def answer(sent: Sent) -> Answer:
        looks = sum(one.method == "HEAD" for one in server.sent)
        status = "pending" if looks < 3 else "success"
        headers = {"ETag": f'"e{looks}"', "Last-Modified": WHEN, "x-ms-copy-id": "id", "x-ms-copy-status": status}
        return Answer({"HEAD": 200, "PUT": 202}[sent.method], headers | {"x-ms-meta-a": "b"})

    server.answer = answer
    copied = await store.copy("k", "e", "l", WriteOptions(metadata={"a": "b"}))
    assert copied.etag == "e3"
    assert server.sent[0].headers["x-ms-source-if-match"] == '"e"'
    assert server.sent[0].headers["if-none-match"] == "*"


async def test_a_copy_that_is_given_up_is_aborted(server: StandIn, store: BlobStore) -> None:
    looked = threading.Event()

    def answer(sent: Sent) -> Answer:
        if sent.method == "HEAD":
            looked.set()
        headers = {"ETag": '"e"', "Last-Modified": WHEN, "x-ms-copy-id": "id", "x-ms-copy-status": "pending"}
        return Answer({"HEAD": 200, "PUT": 204 if "copyid" in sent.query else 202}[sent.method], headers)

    server.answer = answer
    task = asyncio.ensure_future(store.copy("k", "e", "l", WriteOptions()))
    assert await asyncio.to_thread(looked.wait, 10)
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert server.sent[-1].query == {"comp": "copy", "copyid": "id"}


async def test_a_source_that_changed_is_told_from_a_key_that_is_taken(server: StandIn, store: BlobStore) -> None:
    server.answer = lambda _: refusal(412, "SourceConditionNotMet")
    with pytest.raises(EtagMismatch):
        await store.copy("k", "e", "l", WriteOptions())
    assert len(server.sent) == 1


async def test_keys_that_cannot_be_deleted_are_named(server: StandIn, store: BlobStore) -> None:
    def answer(sent: Sent) -> Answer:
        boundary = "batch"
        parts = [(202, ""), (404, "BlobNotFound"), (409, "BlobImmutableDueToPolicy"), (503, "ServerBusy")]
        body = "".join(
            f"--{boundary}\r\nContent-Type: application/http\r\nContent-ID: {at}\r\n\r\n"
            f"HTTP/1.1 {status} x\r\nx-ms-error-code: {code}\r\nContent-Length: 0\r\n\r\n\r\n"
            for at, (status, code) in enumerate(parts)
        )
        kind = f"multipart/mixed; boundary={boundary}"
        return Answer(202, {"Content-Type": kind}, f"{body}--{boundary}--\r\n".encode())

    server.answer = answer
    results = await store.delete_many(["a", "b", "c", "d"])
    assert [(result.key, result.error is None) for result in results] == [
        ("a", True),
        ("b", True),
        ("c", False),
        ("d", False),
    ]
    assert "BlobImmutableDueToPolicy" in str(results[2].error)
    assert len(server.sent) == 1


def _page(*names: str, encoded: bool = False) -> bytes:
    attribute = ' Encoded="true"' if encoded else ""
    blobs = "".join(
        f"<Blob><Name{attribute}>{name}</Name><Properties><Last-Modified>{WHEN}</Last-Modified><Etag>0x1</Etag>"
        "<Content-Length>1</Content-Length><BlobType>BlockBlob</BlobType></Properties></Blob>"
        for name in names
    )
    begin = '<?xml version="1.0" encoding="utf-8"?><EnumerationResults ServiceEndpoint="x" ContainerName="bucket">'
    return f"{begin}<Blobs>{blobs}</Blobs><NextMarker /></EnumerationResults>".encode()
