"""What the GCS driver asks and how it takes each answer that Google documents, at a server that says what it is told.

For answers that no emulator gives: refusals, pauses, sessions that take half, copies in several steps, tokens.
"""

import asyncio
import base64
import gzip
import http.server
import json
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import google_crc32c
import msgspec
import pytest
from google.auth.exceptions import RefreshError

from prism.blob import BlobStore, open_blob
from prism.blob.driver import AlreadyExists, EtagMismatch, NotFound, WriteOptions
from prism.blob.gcs import GCSDriver, open_gcs
from prism.blob.gcs_http import Http
from prism.blob.gcs_identity import Known
from prism.config import GCSStore
from prism.errors import ErrorCode, PrismError
from prism.model import ByteRange
from prism.testing.blob_calls import content_of, put, stream
from prism.testing.certificate import issued

MIB = 2**20
SECRET = "in-the-servers-own-words"
OBJECT = {"name": "k", "size": "1", "generation": "7", "timeCreated": "2026-01-02T03:04:05.678Z", "crc32c": "AAAAAA=="}
NO_OBJECT = (404, {}, {"error": {"code": 404, "message": SECRET, "errors": [{"reason": "notFound"}]}})
Given = tuple[int, dict[str, str], object]


class Asked(msgspec.Struct):
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


class Server:
    """Answers with `answers` in turn; the last one again and again."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.asked: list[Asked] = []
        self.answers: list[Given | Callable[[Asked], Given]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def _serve(self) -> None:
                outer.take(self)

            do_GET = do_PUT = do_POST = do_DELETE = _serve

            def log_message(self, format: str, *args: object) -> None:
                """Nothing is logged."""

        class Door(http.server.ThreadingHTTPServer):
            def handle_error(self, request: object, client_address: object) -> None:
                """A client that left is none."""

        self._door = Door(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._door.socket = tls.wrap_socket(self._door.socket, server_side=True)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self._door.server_port}"
        self._thread = threading.Thread(target=self._door.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def take(self, request: Any) -> None:
        split = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(split.query).items()}
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in request.headers.items()}
        asked = Asked(request.command, unquote(split.path), query, headers, body)
        self.asked.append(asked)
        given = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        status, said, content = given(asked) if callable(given) else given
        told = content if isinstance(content, bytes) else json.dumps(content).encode()
        request.send_response(status)
        for name, value in {"Content-Length": str(len(told)), **said}.items():
            for one in value.split("\n"):
                request.send_header(name, one)
        request.end_headers()
        request.wfile.write(told)

    def close(self) -> None:
        self._door.shutdown()
        self._door.server_close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def settings(server: Server, **more: Any) -> GCSStore:
    return GCSStore(bucket="bucket", endpoint=server.url, **more)


@pytest.fixture
async def store(server: Server) -> AsyncIterator[BlobStore]:
    store = BlobStore(await open_gcs(settings(server, request_seconds=0.5)))
    yield store
    await store.close()


async def every_verb(store: BlobStore) -> list[Exception]:
    """What each verb raises."""
    raised: list[Exception] = []
    calls = [
        put(store, "k", b"x"),
        put(store, "k", bytes(9 * MIB)),
        store.get("k"),
        store.get("k", ByteRange(0, 1), "7"),
        store.head("k"),
        store.list(""),
        store.copy("k", "7", "l", WriteOptions()),
        store.delete_if("k", "7"),
        store.now(),
        store.create_multipart("k", WriteOptions()),
        store.open_multiparts("k"),
    ]
    for call in calls:
        with pytest.raises(PrismError) as failure:
            await call
        raised.append(failure.value)
    (result,) = await store.delete_many(["k"])
    assert result.error is not None
    return [*raised, result.error]


# -- refusals


@pytest.mark.parametrize(
    ("status", "said", "reason", "sentence", "wait"),
    [
        (429, {"Retry-After": "7"}, "rateLimitExceeded", "come back later", 7.0),
        (403, {}, "rateLimitExceeded", "come back later", None),
        (503, {}, "backendError", "come back later", None),
        (500, {}, "backendError", "fails at the moment", None),
        (502, {}, "", "fails at the moment", None),
        (403, {}, "forbidden", "rights", None),
        (401, {}, "authError", "credentials", None),
        (400, {}, "invalid", "refuses the request", None),
        (302, {"Location": "http://127.0.0.1:9/elsewhere"}, "", "refuses the request", None),
    ],
)
async def test_a_refusal_is_told_in_prisms_words(
    server: Server, store: BlobStore, status: int, said: dict[str, str], reason: str, sentence: str, wait: float | None
) -> None:
    server.answers = [(status, said, {"error": {"message": SECRET, "errors": [{"reason": reason}]}})]
    for error in await every_verb(store):
        assert isinstance(error, PrismError)
        assert error.code is ErrorCode.STORE_DOWN
        assert sentence in str(error)
        assert error.retry_after_seconds == wait
        assert SECRET not in repr(error) + str(error.context)


async def test_a_missing_bucket_is_named(server: Server, store: BlobStore) -> None:
    server.answers = [NO_OBJECT]
    errors = await every_verb(store)
    assert {str(error) for error in errors} == {
        "STORE_DOWN: the store has no bucket 'bucket': create it, or correct its name"
    }


async def test_absent_is_told_apart_from_a_missing_bucket_without_asking_twice(
    server: Server, store: BlobStore
) -> None:
    server.answers = [NO_OBJECT, (200, {}, {}), NO_OBJECT]
    assert await store.head("k") is None
    assert len(server.asked) == 2
    assert await store.head("k") is None
    assert len(server.asked) == 3


async def test_a_server_that_hangs_or_is_not_there(server: Server) -> None:
    def hang(_: Asked) -> Given:
        time.sleep(0.5)
        return 200, {}, {}

    server.answers = [hang]
    store = BlobStore(await open_gcs(settings(server, request_seconds=0.1)))
    with pytest.raises(PrismError, match="in time"):
        await store.list("")
    await store.close()
    nobody = BlobStore(await open_gcs(GCSStore(bucket="bucket", endpoint="http://127.0.0.1:9")))
    for error in await every_verb(nobody):
        assert "127.0.0.1" not in str(error)
    await nobody.close()


async def test_a_body_that_breaks_off_is_no_body(server: Server, store: BlobStore) -> None:
    said = {"x-goog-generation": "7", "x-goog-stored-content-length": "3000000", "Content-Length": "3000000"}
    server.answers = [
        (200, {**said, "Last-Modified": "Wed, 25 Nov 2026 03:46:40 GMT", "Connection": "close"}, b"x" * MIB)
    ]
    with pytest.raises(PrismError):
        await content_of(store, "k")


async def test_another_range_than_was_asked_for_is_refused(server: Server, store: BlobStore) -> None:
    said = {
        "x-goog-generation": "7",
        "x-goog-stored-content-length": "3",
        "Last-Modified": "Wed, 25 Nov 2026 03:46:40 GMT",
    }
    server.answers = [(200, said, b"abc")]
    with pytest.raises(PrismError):
        await store.get("k", ByteRange(1, 1))


async def test_a_key_that_cannot_be_deleted_is_named_and_stops_no_other(server: Server, store: BlobStore) -> None:
    def answer(asked: Asked) -> Given:
        if asked.path.endswith("/b"):
            return 403, {}, {"error": {"errors": [{"reason": "retentionPolicyNotMet"}]}}
        return 204, {}, b""

    server.answers = [answer]
    results = await store.delete_many(["a", "b", "c"])
    assert [(result.key, result.error is None) for result in results] == [("a", True), ("b", False), ("c", True)]


# -- what is asked


async def test_what_a_put_asks(server: Server) -> None:
    store = BlobStore(await open_gcs(settings(server, kms_key="key")))
    server.answers = [(200, {}, OBJECT)]
    await put(store, "a/b c", b"x", options=WriteOptions(content_type="a/b", metadata={"n": "ä"}))
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "/upload/storage/v1/b/bucket/o")
    assert asked.query == {"uploadType": "multipart", "name": "a/b c", "ifGenerationMatch": "0", "kmsKeyName": "key"}
    assert "authorization" not in asked.headers
    for part in (b'"contentType":"a/b"', b'"n":"=?utf-8?b?w6Q=?="', b'"crc32c":"', b"\r\n\r\nx\r\n"):
        assert part in asked.body
    await store.close()


async def test_a_pinned_read_names_the_generation_and_takes_no_transcoding(server: Server, store: BlobStore) -> None:
    said = {
        "x-goog-generation": "7",
        "x-goog-stored-content-length": "3",
        "x-goog-hash": "crc32c=AAAAAA==\nmd5=1B2M2Y8AsgTpgAmY7PhCfg==",
        "x-goog-meta-n": "=?utf-8?b?w6Q=?=",
        "Content-Encoding": "gzip",
        "Last-Modified": "Wed, 25 Nov 2026 03:46:40 GMT",
    }
    server.answers = [(200, said, b"abc")]
    opened = await store.get("k", None, "7")
    assert b"".join([chunk async for chunk in opened.body]) == b"abc"
    (asked,) = server.asked
    assert (asked.path, asked.query, asked.headers["accept-encoding"]) == ("/bucket/k", {"generation": "7"}, "gzip")
    assert (opened.info.crc32c, opened.info.md5) == ("AAAAAA==", "d41d8cd98f00b204e9800998ecf8427e")
    assert dict(opened.info.metadata) == {"n": "ä"}
    assert opened.info.landed_at == datetime(2026, 11, 25, 3, 46, 40, tzinfo=UTC)


async def test_a_pinned_delete_names_the_generation_twice(server: Server, store: BlobStore) -> None:
    server.answers = [(204, {}, b"")]
    await store.delete_if("k", "7")
    assert server.asked[0].query == {"generation": "7", "ifGenerationMatch": "7"}
    server.answers = [(412, {}, {}), (200, {}, {**OBJECT, "generation": "8"})]
    with pytest.raises(EtagMismatch):
        await store.delete_if("k", "7")


async def test_an_answer_may_be_compressed(server: Server, store: BlobStore) -> None:
    server.answers = [(200, {"Content-Encoding": "gzip"}, gzip.compress(json.dumps({"items": [OBJECT]}).encode()))]
    assert [entry.key for entry in await store.list("")] == ["k"]


# -- long puts


def long_put(store: BlobStore, pieces: int = 17) -> Any:
    return store.put("k", stream(*[bytes(MIB)] * pieces), WriteOptions())


BEGUN = (200, {"Location": "http://other.example/upload/storage/v1/b/bucket/o?uploadType=resumable&upload_id=u"}, {})


def zeros(size: int) -> dict[str, str]:
    """The resource of so many zeros."""
    value = google_crc32c.value(bytes(size))
    return {**OBJECT, "size": str(size), "crc32c": base64.b64encode(value.to_bytes(4, "big")).decode()}


async def test_a_session_that_takes_less_than_was_sent_gets_the_rest(server: Server, store: BlobStore) -> None:
    server.answers = [
        BEGUN,
        (308, {"Range": f"bytes=0-{5 * MIB - 1}"}, b""),
        (308, {"Range": f"bytes=0-{8 * MIB - 1}"}, b""),
        (308, {"Range": f"bytes=0-{16 * MIB - 1}"}, b""),
        (200, {}, zeros(17 * MIB)),
    ]
    stored = await long_put(store)
    assert (stored.etag, stored.size_bytes) == ("7", 17 * MIB)
    begin, *sent = server.asked
    assert begin.query == {"uploadType": "resumable", "name": "k", "ifGenerationMatch": "0"}
    assert all((asked.path, asked.query["upload_id"]) == (begin.path, "u") for asked in sent)
    assert [asked.headers["content-range"] for asked in sent] == [
        f"bytes 0-{8 * MIB - 1}/*",
        f"bytes {5 * MIB}-{8 * MIB - 1}/*",
        f"bytes {8 * MIB}-{16 * MIB - 1}/*",
        f"bytes {16 * MIB}-{17 * MIB - 1}/{17 * MIB}",
    ]
    assert [len(asked.body) // MIB for asked in sent] == [8, 3, 8, 1]


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ([(412, {}, {})], AlreadyExists),
        ([(308, {"Range": f"bytes=0-{8 * MIB - 1}"}, b""), (412, {}, {})], AlreadyExists),
        ([(308, {}, b"")], PrismError),
        ([(308, {"Range": f"bytes=0-{9 * MIB - 1}"}, b"")], PrismError),
        ([(503, {}, {})], PrismError),
        ([(410, {}, {})], PrismError),
        ([(200, {}, OBJECT)], PrismError),
    ],
)
async def test_a_session_that_fails_is_given_up(
    server: Server, store: BlobStore, answers: list[Given], error: type[Exception]
) -> None:
    server.answers = [BEGUN, *answers, (499, {}, b"")]
    with pytest.raises(error):
        await long_put(store)
    assert (server.asked[-1].method, server.asked[-1].query["upload_id"]) == ("DELETE", "u")


async def test_other_bytes_than_were_sent_are_no_success(server: Server, store: BlobStore) -> None:
    taken = (308, {"Range": f"bytes=0-{8 * MIB - 1}"}, b"")
    server.answers = [BEGUN, taken, (200, {}, {**zeros(9 * MIB), "crc32c": "AAAAAA=="})]
    with pytest.raises(PrismError):
        await long_put(store, 9)


async def test_a_cancelled_session_is_given_up(server: Server, store: BlobStore) -> None:
    server.answers = [BEGUN, (308, {"Range": f"bytes=0-{8 * MIB - 1}"}, b"")]
    waiting = asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(9):
            yield bytes(MIB)
        waiting.set()
        await asyncio.Event().wait()

    task = asyncio.ensure_future(store.put("k", chunks(), WriteOptions()))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert server.asked[-1].method == "DELETE"


# -- copies


def step(done: bool, rewritten: int) -> Given:
    told = {"done": done, "totalBytesRewritten": str(rewritten), "rewriteToken": f"t{rewritten}", "resource": OBJECT}
    return 200, {}, told


async def test_a_large_copy_takes_several_steps(server: Server) -> None:
    store = BlobStore(await open_gcs(settings(server, kms_key="key")))
    server.answers = [step(False, 10), step(False, 20), step(True, 30)]
    stored = await store.copy("a", "7", "b/c", WriteOptions(content_type="a/b"))
    assert stored.etag == "7"
    first, second, third = server.asked
    assert first.path == "/storage/v1/b/bucket/o/a/rewriteTo/b/bucket/o/b/c"
    assert first.query == {"sourceGeneration": "7", "ifGenerationMatch": "0", "destinationKmsKeyName": "key"}
    assert (second.query["rewriteToken"], third.query["rewriteToken"]) == ("t10", "t20")
    assert json.loads(third.body) == {"contentType": "a/b", "metadata": {}}
    await store.close()


async def test_a_copy_that_does_not_get_on_ends(server: Server, store: BlobStore) -> None:
    server.answers = [step(False, 10)]
    with pytest.raises(PrismError):
        await store.copy("a", "7", "b", WriteOptions())
    assert len(server.asked) == 2


async def test_which_side_of_a_copy_changed(server: Server, store: BlobStore) -> None:
    server.answers = [(412, {}, {})]
    with pytest.raises(AlreadyExists):
        await store.copy("a", "7", "b", WriteOptions())
    server.answers = [NO_OBJECT, (200, {}, {**OBJECT, "generation": "8"})]
    with pytest.raises(EtagMismatch):
        await store.copy("a", "7", "b", WriteOptions())
    server.answers = [NO_OBJECT, NO_OBJECT, (200, {}, {}), NO_OBJECT]
    with pytest.raises((NotFound, PrismError)):
        await store.copy("a", "7", "b", WriteOptions())


# -- bucket


async def test_what_the_bucket_does_by_itself(server: Server, store: BlobStore) -> None:
    folder = "~staging/~.parts/"
    rules = [
        {"action": {"type": "Delete"}, "condition": {"age": 8, "matchesPrefix": [folder]}},
        {"action": {"type": "AbortIncompleteMultipartUpload"}, "condition": {"age": 1}},
    ]
    told = {"versioning": {"enabled": True}, "softDeletePolicy": {"retentionDurationSeconds": "604800"}}
    server.answers = [(200, {}, {**told, "lifecycle": {"rule": rules}, "retentionPolicy": {}})]
    found = await store.settings()
    assert (found.versioning, found.object_lock, found.soft_delete_seconds) == (True, True, 604800)
    assert (found.expires_objects, found.aborts_uploads_days) == (False, 8)
    server.answers = [(200, {}, {"lifecycle": {"rule": [{"action": {"type": "Delete"}, "condition": {"age": 3}}]}})]
    found = await store.settings()
    assert (found.versioning, found.soft_delete_seconds, found.expires_objects) == (False, 0, True)
    server.answers = [(403, {}, {})]
    assert (await store.settings()).versioning is None


# -- credentials


class Account:
    """Credentials without a private key, as a machine of the cloud has them."""

    def __init__(self, *, fails: bool = False) -> None:
        self.valid = False
        self.token = ""
        self.refreshed = 0
        self.service_account_email = "default"
        self.universe_domain = "googleapis.com"
        self._fails = fails

    def refresh(self, request: object) -> None:
        if self._fails:
            raise RefreshError(SECRET)
        self.refreshed += 1
        self.valid, self.token = True, f"token-{self.refreshed}"
        self.service_account_email = "machine@tests.example"

    def before_request(self, request: object, method: str, url: str, headers: dict[str, str]) -> None:
        headers["authorization"] = f"Bearer {self.token}"


class Iam:
    """The IAM service, as Google's library asks it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str], bytes]] = []

    def __call__(self, url: str, method: str, body: bytes, headers: dict[str, str]) -> Any:
        self.asked.append((url, headers, body))

        class Answer:
            status = 200
            data = json.dumps({"keyId": "1", "signedBlob": "c2lnbmVk"}).encode()

        return Answer()


def driver_of(server: Server, account: Account, iam: object = None) -> GCSDriver:
    store = settings(server)
    return GCSDriver(store, Http(store, Known(lambda: account, iam)))


async def test_a_token_is_asked_for_once_and_renewed_when_it_ends(server: Server) -> None:
    account = Account()
    driver = driver_of(server, account)
    server.answers = [(200, {}, {})]
    await asyncio.gather(*(driver.list("", "", 1) for _ in range(8)))
    assert {asked.headers["authorization"] for asked in server.asked} == {"Bearer token-1"}
    account.valid = False
    await driver.list("", "", 1)
    assert server.asked[-1].headers["authorization"] == "Bearer token-2"
    await driver.close()


async def test_without_a_private_key_the_iam_service_signs(server: Server) -> None:
    iam = Iam()
    driver = driver_of(server, Account(), iam)
    signed = await driver.sign_get("k", datetime.now(UTC), 60, None, None)
    assert "X-Goog-Credential=machine%40tests.example%2F" in signed.url
    assert signed.url.endswith(f"&X-Goog-Signature={b'signed'.hex()}")
    ((url, headers, body),) = iam.asked
    assert url.endswith("/serviceAccounts/machine@tests.example:signBlob")
    assert headers["authorization"] == "Bearer token-1"
    assert "payload" in json.loads(body)
    assert server.asked == []
    await driver.close()


async def test_no_credentials_at_the_moment(server: Server) -> None:
    driver = BlobStore(driver_of(server, Account(fails=True)))
    for call in (driver.list(""), driver.sign_get("k", datetime.now(UTC), 60)):
        with pytest.raises(PrismError, match="no credentials") as raised:
            await call
        assert raised.value.code is ErrorCode.STORE_DOWN
        assert SECRET not in str(raised.value) + str(raised.value.context)
    assert server.asked == []
    await driver.close()


# -- TLS, layers


async def test_a_private_authority_is_trusted_when_it_is_named(tmp_path: Path) -> None:
    certificate = issued(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert_file, certificate.key_file)
    server = Server(tls=context)
    server.answers = [(200, {}, {})]
    trusting = BlobStore(await open_gcs(settings(server, ca_file=certificate.ca_file)))
    assert await trusting.list("") == []
    await trusting.close()
    wary = BlobStore(await open_gcs(settings(server)))
    with pytest.raises(PrismError, match="TLS"):
        await wary.list("")
    await wary.close()
    server.close()


async def test_the_layers_repeat_what_google_wants_repeated(server: Server) -> None:
    store = await open_blob(settings(server))
    server.answers = [(503, {}, {}), (500, {}, {}), (200, {}, OBJECT)]
    assert (await put(store, "k", b"x")).etag == "7"
    assert len(server.asked) == 3
    server.answers = [(429, {}, {}), (200, {}, {})]
    assert abs(await store.now() - datetime.now(UTC)) < timedelta(seconds=5)
    await store.close()
