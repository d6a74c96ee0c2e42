"""What an S3 namespace may be told: encryption, TLS with an authority of its own, hosts, where its keys come from."""

import asyncio
import http.server
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from s3_buckets import client, new_bucket

from prism.blob import BlobStore, open_blob
from prism.blob.driver import Bound, Capabilities, EtagMismatch, NoSpace, Throttled, WriteOptions
from prism.blob.s3 import S3Driver, open_s3
from prism.config import S3Store
from prism.errors import ErrorCode, PrismError
from prism.testing.blob_calls import content_of, pattern, pieces_of, put, stream
from prism.testing.plain_http import PlainHTTP
from prism.testing.services import Service, service

MIB = 2**20


@pytest.fixture
async def bucket() -> AsyncIterator[S3Store]:
    async with new_bucket(service("minio")) as store:
        yield store


async def opened(store: S3Store) -> BlobStore:
    return await open_blob(store)


async def test_tls_with_an_authority_of_its_own() -> None:
    found = service("minio_tls")
    async with new_bucket(found) as config:
        store = await opened(config)
        content = pattern(17 * MIB)
        await put(store, "d/k", *pieces_of(content, MIB))
        assert await content_of(store, "d/k") == content
        assert [entry.key for entry in await store.list("")] == ["d/k"]
        signed = await store.sign_get("d/k", datetime.now(UTC), 60)
        assert (await PlainHTTP(found.ca_file)("GET", signed.url, signed.headers)).content == content
        await store.close()
        stranger = await opened(msgspec.structs.replace(config, ca_file=None))
        for work in (stranger.head("d/k"), stranger.list("")):
            with pytest.raises(PrismError) as raised:
                await work
            assert raised.value.code is ErrorCode.STORE_DOWN
        await stranger.close()


@pytest.mark.parametrize("encryption", ["AES256", "aws:kms"])
async def test_every_write_asks_for_encryption(encryption: Any) -> None:
    found = service("minio")
    kms = "prism-test-key" if encryption == "aws:kms" else None
    async with new_bucket(found, encryption=encryption, kms_key=kms) as config:
        store = await opened(config)
        small = await put(store, "small", b"x")
        await put(store, "long", *[bytes(MIB)] * 17)
        await store.copy("small", small.etag, "copy", WriteOptions())
        upload = await store.create_multipart("parts", WriteOptions())
        part = await store.put_part("parts", upload, 1, stream(b"x"), 1)
        await store.complete_multipart("parts", upload, [part], WriteOptions())
        signed = await store.sign_put("signed", datetime.now(UTC), 60, Bound(create_only=True))
        assert (await PlainHTTP()("PUT", signed.url, signed.headers, b"x")).status == 200
        s3 = client(found)
        for key in ("small", "long", "copy", "parts", "signed"):
            head = await asyncio.to_thread(s3.head_object, Bucket=config.bucket, Key=key)
            assert head["ServerSideEncryption"] == encryption
        assert await content_of(store, "copy") == b"x"
        await store.close()


async def test_the_bucket_in_the_hosts_name(bucket: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """`{bucket}.localhost`, with the server as its own proxy, so that nobody has to resolve that name."""
    port = bucket.endpoint.rpartition(":")[2]
    monkeypatch.setenv("HTTP_PROXY", bucket.endpoint)
    monkeypatch.setenv("http_proxy", bucket.endpoint)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    store = await opened(msgspec.structs.replace(bucket, endpoint=f"http://localhost:{port}", path_style=False))
    stored = await put(store, "d/ä k", b"x", options=WriteOptions(content_type="a/b"))
    await put(store, "d/long", *[bytes(MIB)] * 9)
    await store.copy("d/ä k", stored.etag, "d/copy", WriteOptions())
    assert [entry.key for entry in await store.list("d/")] == ["d/copy", "d/long", "d/ä k"]
    signed = await store.sign_get("d/ä k", datetime.now(UTC), 60)
    assert signed.url.startswith(f"http://{bucket.bucket}.localhost:{port}/d/")
    async with httpx.AsyncClient(proxy=bucket.endpoint) as http:
        assert (await http.get(signed.url)).content == b"x"
    await store.close()


async def test_urls_name_the_host_that_clients_see(bucket: S3Store) -> None:
    public = bucket.endpoint.replace("127.0.0.1", "localhost")
    store = await opened(msgspec.structs.replace(bucket, public_endpoint=public))
    signed = await store.sign_put("k", datetime.now(UTC), 60, Bound(size_bytes=1))
    assert signed.url.startswith(public)
    assert (await PlainHTTP()("PUT", signed.url, signed.headers, b"x")).status == 200
    assert await content_of(store, "k") == b"x"
    await store.close()


async def test_a_credentials_file_is_read_again(bucket: S3Store, tmp_path: Path) -> None:
    found, file = service("minio"), tmp_path / "credentials"

    def write(secret: str) -> None:
        file.write_text(f"[prism]\naws_access_key_id = {found.access_key}\naws_secret_access_key = {secret}\n")

    write("not the secret")
    given = {"access_key": None, "secret_key": None, "credentials_file": file, "profile": "prism"}
    store = await opened(msgspec.structs.replace(bucket, **given))
    with pytest.raises(PrismError, match="does not let Prism in"):
        await put(store, "k", b"x")
    write(found.secret_key)
    async with asyncio.timeout(60):
        while True:
            try:
                await put(store, "k", b"x")
                break
            except PrismError:
                await asyncio.sleep(0.5)
    signed = await store.sign_get("k", datetime.now(UTC), 60)
    assert (await PlainHTTP()("GET", signed.url, signed.headers)).content == b"x"
    assert [entry.key for entry in await store.list("")] == ["k"]
    await store.close()


async def test_temporary_keys_of_the_default_chain(
    bucket: S3Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A role's keys come with a token, which requests and URLs carry."""
    found = service("minio")
    given = (await asyncio.to_thread(_assume_role, found))["Credentials"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", given["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", given["SecretAccessKey"])
    monkeypatch.setenv("AWS_SESSION_TOKEN", given["SessionToken"])
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    store = await opened(msgspec.structs.replace(bucket, access_key=None, secret_key=None))
    await put(store, "k", b"x")
    assert [entry.key for entry in await store.list("")] == ["k"]
    signed = await store.sign_get("k", datetime.now(UTC), 60)
    assert (await PlainHTTP()("GET", signed.url, signed.headers)).content == b"x"
    await store.close()


def _assume_role(found: Service) -> Any:
    import boto3

    sts = boto3.client(
        "sts",
        endpoint_url=found.url,
        aws_access_key_id=found.access_key,
        aws_secret_access_key=found.secret_key,
        region_name="us-east-1",
    )
    return sts.assume_role(RoleArn="arn:xxx:xxx:xxx:xxxx", RoleSessionName="prism", DurationSeconds=900)


async def test_what_is_wrong_is_said_without_secrets(bucket: S3Store) -> None:
    for wrong, said in (
        ({"access_key": "nobody"}, "does not let Prism in"),
        ({"bucket": "no-such-bucket-anywhere"}, "no bucket 'no-such-bucket-anywhere'"),
    ):
        store = await opened(msgspec.structs.replace(bucket, **wrong))
        for work in (put(store, "k", b"x"), put(store, "k", bytes(9 * MIB)), store.list(""), store.now()):
            with pytest.raises(PrismError, match=said) as raised:
                await work
            shown = "".join(_chain(raised.value))
            assert raised.value.code is ErrorCode.STORE_DOWN
            assert "X-Amz" not in shown
            assert bucket.endpoint not in shown
        await store.close()


def _chain(error: BaseException | None) -> Iterator[str]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield str(error)
        error = error.__cause__ or error.__context__


async def test_a_copy_in_parts_is_pinned_too(bucket: S3Store) -> None:
    driver = S3Driver(bucket, conditional_delete=False, conditional_copy=False, copy_in_parts_bytes=5 * MIB)
    store = BlobStore(driver)
    content = pattern(11 * MIB)
    source = await put(store, "a", *pieces_of(content, MIB))
    copied = await store.copy("a", source.etag, "b", WriteOptions(content_type="x/y", metadata={"k": "ä"}))
    assert await content_of(store, "b", if_match=copied.etag) == content
    info = await store.head("b")
    assert info is not None
    assert (info.content_type, dict(info.metadata)) == ("x/y", {"k": "ä"})
    assert not await store.open_multiparts("b")
    await store.close()


async def test_64_mib_hold_little_memory(bucket: S3Store) -> None:
    store = await opened(bucket)

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield bytes(MIB)

    await put(store, "warm", b"x")
    tracemalloc.start()
    try:
        await store.put("k", chunks(), WriteOptions())
        read = await store.get("k")
        assert sum([len(chunk) async for chunk in read.body]) == 64 * MIB
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40 * MIB
    await store.close()


async def test_what_the_bucket_does_by_itself(bucket: S3Store) -> None:
    s3 = client(service("minio"))
    store = await opened(bucket)
    plain = await store.settings()
    assert (plain.versioning, plain.object_lock, plain.expires_objects) == (False, False, False)
    await asyncio.to_thread(
        s3.put_bucket_versioning, Bucket=bucket.bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    assert (await store.settings()).versioning is True
    await store.close()


SCRIPT = """
import asyncio, sys
import msgspec
from prism.blob import open_blob
from prism.blob.driver import WriteOptions
from prism.config import S3Store
from prism.config.settings import Secret

async def body():
    yield bytes(9 * 2**20)

async def main():
    endpoint, bucket, access, secret = sys.argv[1:]
    store = await open_blob(S3Store(bucket=bucket, endpoint=endpoint, access_key=access, secret_key=Secret(secret),
                                    path_style=True, use_ssl=False))
    await store.put("k", body(), WriteOptions())
    await asyncio.gather(*(store.head("k") for _ in range(20)))
    read = await store.get("k")
    await anext(aiter(read.body))
    asyncio.ensure_future(store.head("none"))
    await asyncio.sleep(0)
    await store.close()

asyncio.run(main())
"""


def test_a_process_ends_cleanly_after_close(tmp_path: Path) -> None:
    async def run() -> None:
        async with new_bucket(service("minio")) as bucket:
            assert bucket.secret_key is not None
            words = (bucket.endpoint, bucket.bucket, bucket.access_key or "", bucket.secret_key.reveal())
            for _ in range(3):
                command = [sys.executable, "-c", SCRIPT, *words]
                done = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=60, check=False)
                assert (done.returncode, done.stderr.decode()) == (0, "")
                store = await opened(bucket)
                await store.delete_many(["k"])
                await store.close()

    asyncio.run(run())


class Answers(http.server.BaseHTTPRequestHandler):
    """A store that answers everything alike."""

    protocol_version = "HTTP/1.1"
    status = 503
    code = "SlowDown"

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        body = f"<Error><Code>{self.code}</Code><Message>m</Message></Error>".encode()
        self.send_response(self.status)
        self.send_header("retry-after", "7")
        self.send_header("content-length", "0" if self.command == "HEAD" else str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (503, "SlowDown", Throttled),
        (429, "TooManyRequests", Throttled),
        (500, "InternalError", ConnectionError),
        (507, "XMinioStorageFull", NoSpace),
        (403, "AccessDenied", PrismError),
        (409, "OperationAborted", ConnectionError),
    ],
)
async def test_what_a_store_answers_is_told_apart(
    status: int, code: str, kind: type[Exception], tmp_path: Path
) -> None:
    handler = type("Handler", (Answers,), {"status": status, "code": code})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found = Service(url=f"http://127.0.0.1:{server.server_port}", access_key="a", secret_key="b")
        driver = await open_s3(_settings(found))
        for work in (
            driver.put("k", stream(b"x"), WriteOptions()),
            driver.put("k", stream(bytes(9 * MIB)), WriteOptions()),
            driver.get("k", None, None),
            driver.list("", "", 10),
            driver.delete_many(["k"]),
        ):
            with pytest.raises(kind) as raised:
                await work
            if isinstance(raised.value, Throttled):
                assert raised.value.retry_after_seconds in {None, 7.0}
        await driver.close()
        server.shutdown()


async def test_a_store_that_is_not_there(tmp_path: Path) -> None:
    driver = await open_s3(_settings(Service(url="http://127.0.0.1:9", access_key="a", secret_key="b")))
    for work in (driver.put("k", stream(b"x"), WriteOptions()), driver.head("k"), driver.list("", "", 1)):
        with pytest.raises(ConnectionError):
            await work
    await driver.close()


def _settings(found: Service) -> S3Store:
    from prism.config.settings import Secret

    keys = {"access_key": found.access_key, "secret_key": Secret(found.secret_key)}
    return S3Store(bucket="bucket", endpoint=found.url, use_ssl=False, path_style=True, **keys)


@pytest.mark.parametrize(
    ("endpoint", "trusted"), [("https://s3.eu-west-1.amazonaws.com", True), ("https://minio.example.com:9000", False)]
)
async def test_what_is_declared(endpoint: str, trusted: bool) -> None:
    """The suites leave out what is not declared, so that has to be said somewhere. Amazon alone is taken to honour
    If-Match on a deletion, which MinIO ignores; others are not taken to keep a URL's bonds before they said who they
    are."""
    facts = frozenset({"create_only", "size", "content_type", "metadata", "sha256", "crc32c", "md5"})
    driver = await open_s3(S3Store(bucket="bucket", endpoint=endpoint, path_style=True, request_seconds=20))
    assert driver.capabilities == Capabilities(
        sign=True,
        binds=facts if trusted else frozenset(),
        may_bind=facts,
        multipart=True,
        smallest_part_bytes=5 * MIB,
        tags=True,
        copy=True,
        conditional_put=True,
        conditional_delete=trusted,
        times_cut_seconds=1.0,
        late_write_seconds=920.0,
    )
    await driver.close()


@pytest.mark.parametrize("name", ["minio", "versitygw"])
async def test_only_a_server_that_honours_it_is_asked_to_spare_bytes(name: Any) -> None:
    """Why MinIO is not believed, and why a probe may find more than is declared."""
    async with new_bucket(service(name)) as config:
        driver = await open_s3(config, keeps_conditional_deletes=True)
        await driver.put("k", stream(b"x"), WriteOptions())
        spared = True
        try:
            await driver.delete_if("k", "0" * 32)
            spared = False
        except EtagMismatch:
            pass
        assert spared == (name == "versitygw")
        assert [entry.key for entry in await driver.list("", "", 10)] == (["k"] if spared else [])
        await driver.close()


@pytest.mark.parametrize("name", ["minio", "versitygw"])
async def test_a_server_that_said_who_it_is_is_taken_to_keep_bonds(name: Any) -> None:
    async with new_bucket(service(name)) as config:
        driver = await open_s3(config)
        assert driver.capabilities.binds == frozenset()
        await driver.now()
        assert driver.capabilities.binds == driver.capabilities.may_bind
        await driver.close()


async def test_tags_and_fields_lie_beside_the_bytes(bucket: S3Store) -> None:
    store = await opened(bucket)
    options = WriteOptions(content_type="a/b", tags={"ttl": "1700000000"}, metadata={"prism-key": "k"})
    stored = await put(store, "small", b"x", options=options)
    await put(store, "long", *[bytes(MIB)] * 9, options=options)
    await store.copy("small", stored.etag, "copy", options)
    signed = await store.sign_put("signed", datetime.now(UTC), 60, Bound(tags=options.tags))
    assert (await PlainHTTP()("PUT", signed.url, signed.headers, b"x")).status == 200
    s3 = client(service("minio"))
    for key in ("small", "long", "copy", "signed"):
        tags = await asyncio.to_thread(s3.get_object_tagging, Bucket=bucket.bucket, Key=key)
        assert tags["TagSet"] == [{"Key": "ttl", "Value": "1700000000"}]
    await store.close()
