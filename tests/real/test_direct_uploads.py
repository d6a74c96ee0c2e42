"""Uploads that go straight to real stores, by a plain HTTP client, and what the next call to Prism sees of them."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import httpx
import msgspec
import pytest
from azure_containers import new_container
from botocore.config import Config as Settings
from gcs_buckets import account
from gcs_buckets import new_bucket as new_gcs_bucket
from gcs_front import front
from prism_sdk import AsyncPrismClient
from s3_buckets import new_bucket as new_s3_bucket

from prism import direct
from prism.blob.memory_front import Answer
from prism.catalog import uploads as promises
from prism.catalog.rows import PromiseRow
from prism.config import StoreConfig, load
from prism.errors import ErrorCode, PrismError
from prism.identifiers import utc_now
from prism.model import Caller, Declared, ObjectRef, PresignedURL, PutOptions
from prism.namespaces import Namespace
from prism.recognition import settle
from prism.testing.plain_http import PlainHTTP
from prism.testing.running import Running, running_app
from prism.testing.services import service

NAMESPACES = (
    "namespaces: [{name: things, backend: memory, bucket: things}]\nmeta: {url: 'memory:'}\nbus: {url: 'memory:'}\n"
)
STORES = ("minio", "versitygw", "gcs", "azurite")


@contextlib.asynccontextmanager
async def _store(name: str) -> AsyncIterator[StoreConfig]:
    match name:
        case "minio" | "versitygw":
            async with new_s3_bucket(service(name)) as store:
                yield store
        case "gcs":
            private, key = account()
            with front(service("gcs").url, private.public_key()) as url:
                async with new_gcs_bucket(service("gcs"), endpoint=url, credentials=key) as store:
                    yield store
        case _:
            async with new_container(service("azurite")) as store:
                yield store


@pytest.fixture(params=STORES)
async def prism(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator["Prism"]:
    (tmp_path / "prism.yaml").write_text(NAMESPACES)
    ports = {f"server.{name}.address": "127.0.0.1:0" for name in ("grpc", "http", "s3")}
    config = load(tmp_path / "prism.yaml", {}, data_dir=tmp_path, overrides={**ports, "limits.read_grace_seconds": "1"})
    async with _store(request.param) as store:
        namespaces = tuple(msgspec.structs.replace(space, store=store) for space in config.namespaces)
        config = msgspec.structs.replace(config, namespaces=namespaces)
        async with running_app(data_dir=tmp_path, config=config) as running:
            yield Prism(running)


class Prism:
    """One namespace over a real store, and a client beside it."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.services = running.app.services
        self.space: Namespace = running.app.namespaces.get("things")
        self.caller = Caller(principal=self.services.access.anonymous(), request_id="r", api="test")
        self._http = PlainHTTP()

    async def presign(self, key: str, method: str = "PUT", seconds: int = 600, **asked: Any) -> PresignedURL:
        ref = ObjectRef("things", "", key)
        return await self.services.uploads.presign(self.caller, ref, method, timedelta(seconds=seconds), **asked)

    async def send(self, url: Any, content: bytes, headers: Mapping[str, str] | None = None) -> Answer:
        return await self._http("PUT", url.url, {**url.headers, **(headers or {})}, content)

    async def fetch(self, url: Any) -> Answer:
        return await self._http("GET", url.url, url.headers)

    async def get(self, key: str) -> bytes:
        opened = await self.services.objects.get(self.caller, ObjectRef("things", "", key))
        return b"".join([chunk async for chunk in opened.chunks()])

    async def put(self, key: str, content: bytes) -> None:
        async def once() -> AsyncIterator[bytes]:
            yield content

        await self.services.objects.put(self.caller, ObjectRef("things", "", key), once(), PutOptions())

    async def delete(self, key: str) -> bool:
        return await self.services.objects.delete(self.caller, ObjectRef("things", "", key))

    async def listed(self) -> list[str]:
        page = await self.services.objects.list(self.caller, "things", "", "")
        return [info.key for info in page.objects]

    async def declare(self, key: str, options: PutOptions) -> tuple[PromiseRow, Any]:
        now = utc_now().replace(microsecond=0)
        upload = await direct.promise(self.space, "things", key, now + timedelta(seconds=600), options)
        return upload, await direct.sign(self.space, upload, now, 600)

    async def confirm(self, upload: PromiseRow) -> Any:
        return await direct.confirm(self.space, "things", upload.key, upload.version_id)

    async def stored(self) -> list[str]:
        return [entry.key for entry in await self.space.store.list("", "", 1000) if entry.key != "~owner"]


async def fails(code: ErrorCode, work: Any) -> None:
    with pytest.raises(PrismError) as caught:
        await work
    assert caught.value.code is code


async def test_what_a_client_sent_is_there_at_once_on_every_api(prism: Prism) -> None:
    base = f"{prism.running.http}/v1/namespaces/things"
    key, s3 = "a folder/ü & x.bin", _s3(prism)
    async with httpx.AsyncClient() as http, AsyncPrismClient("things", endpoint=prism.running.grpc) as grpc:
        for number, read in enumerate(("http", "s3", "grpc", "list", "s3 list", "head")):
            name, content = f"{key}{number}", f"content {number}".encode()
            answer = await http.post(f"{base}/presign", json={"key": name, "method": "PUT"})
            assert answer.status_code == 200, answer.text
            told = answer.json()
            sent = await prism._http("PUT", told["url"], told.get("headers") or {}, content)
            assert 200 <= sent.status < 300, sent
            match read:
                case "http":
                    found = await http.get(f"{base}/objects/{name.replace('&', '%26')}")
                    assert (found.status_code, found.content) == (200, content)
                case "s3":
                    found = await asyncio.to_thread(s3.get_object, Bucket="things", Key=name)
                    assert await asyncio.to_thread(found["Body"].read) == content
                case "grpc":
                    async with grpc.get_object("", name) as opened:
                        assert await opened.read() == content
                case "list":
                    assert name in [item["key"] for item in (await http.get(f"{base}/objects")).json()["objects"]]
                case "s3 list":
                    page = await asyncio.to_thread(s3.list_objects_v2, Bucket="things")
                    assert name in [item["Key"] for item in page["Contents"]]
                case "head":
                    assert (await grpc.head_object("", name)).size_bytes == len(content)
    s3.close()


async def test_each_put_by_the_same_url_is_a_new_write(prism: Prism) -> None:
    url = await prism.presign("k")
    for content in (b"one", b"two", b"three"):
        assert (await prism.send(url, content)).status in (200, 201)
        assert await prism.get("k") == content
    await prism.put("k", b"by Prism")
    assert await prism.get("k") == b"by Prism"
    await asyncio.sleep(1.1)  # stores date by the second: the same bytes within one are the same write
    assert (await prism.send(url, b"three")).status in (200, 201)
    assert await prism.get("k") == b"three"


async def test_a_deleted_object_stays_deleted_and_its_staging_bytes_go(prism: Prism) -> None:
    await prism.send(await prism.presign("k"), b"secret")
    assert await prism.delete("k") is True
    await fails(ErrorCode.OBJECT_NOT_FOUND, prism.get("k"))
    await prism.running.app.janitor.run_once()
    if prism.space.store.capabilities.conditional_delete:
        assert not [key for key in await prism.stored() if key.startswith("~staging/")]
    assert await prism.listed() == []


async def test_a_declared_upload_is_what_was_declared(prism: Prism) -> None:
    right = b"exactly this"
    declared = Declared(size_bytes=len(right), sha256=hashlib.sha256(right).hexdigest())
    options = PutOptions(declared=declared, content_type="image/png", metadata={"a": "b", "c": "ü"})
    upload, url = await prism.declare("k", options)
    wrong = await prism.send(url, right[:-1] + b"!")
    if "sha256" in upload.held:
        assert wrong.status in (400, 403), wrong
    await fails(
        ErrorCode.OBJECT_NOT_FOUND if "sha256" in upload.held else ErrorCode.CHECKSUM_MISMATCH, prism.confirm(upload)
    )
    await fails(ErrorCode.OBJECT_NOT_FOUND, prism.get("k"))
    if wrong.status == 200 and "create_only" in upload.held:  # it took wrong bytes, and takes no others there
        assert (await prism.send(url, right)).status == 412
        upload, url = await prism.declare("k", options)
    assert (await prism.send(url, right)).status in (200, 201)
    row = await prism.confirm(upload)
    assert (row.content_type, dict(row.metadata), row.size_bytes) == ("image/png", {"a": "b", "c": "ü"}, len(right))
    assert await prism.get("k") == right
    again = await prism.send(url, right)
    assert again.status == 412 if "create_only" in upload.held else again.status in (200, 201)
    info = await prism.space.store.head(row.physical_key)
    assert info is not None
    assert info.content_type == "image/png"
    assert {name: info.metadata[name] for name in ("a", "c", "prism-key")} == {"a": "b", "c": "ü", "prism-key": "k"}


async def test_a_get_url_answers_as_asked(prism: Prism) -> None:
    await prism.put("k", b"content")
    url = await prism.presign("k", "GET", response_content_type="text/x-y", response_content_disposition="attachment")
    answer = await prism.fetch(url)
    assert (answer.status, answer.content) == (200, b"content")
    assert answer.headers["content-type"] == "text/x-y"
    assert answer.headers["content-disposition"] == "attachment"


async def test_many_landed_ones_are_found_by_the_janitor(prism: Prism) -> None:
    urls = await asyncio.gather(*(prism.presign(f"k{n:02}") for n in range(40)))
    for start in range(0, 40, 10):
        await asyncio.gather(*(prism.send(url, b"x") for url in urls[start : start + 10]))

    async def due(view: Any) -> list[PromiseRow]:
        return await promises.due(view, "things", utc_now() + timedelta(hours=1), 100)

    assert await settle(prism.space, await prism.space.meta.read(due))
    assert await prism.listed() == [f"k{n:02}" for n in range(40)]


async def test_a_broken_upload_leaves_nothing(prism: Prism) -> None:
    options = PutOptions(declared=Declared(size_bytes=3))
    upload, url = await prism.declare("k", options)
    await prism.send(url, b"xyz")
    assert await direct.give_up(prism.space, upload)
    parts = await direct.begin_parts(
        prism.space, "things", "p", utc_now() + timedelta(seconds=60), PutOptions(), 5 * 2**20
    )
    assert await direct.give_up(prism.space, parts)
    await asyncio.sleep(1.1)  # the read grace, waited for: the janitor compares its clock with the store's
    report = await prism.running.app.janitor.run_once()
    assert not report.failed
    assert await prism.stored() == []
    assert not await prism.space.store.open_multiparts(parts.physical_key)


def _s3(prism: Prism) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=prism.running.s3,
        aws_access_key_id="things",
        aws_secret_access_key="prism-local-things",
        region_name="us-east-1",
        config=Settings(s3={"addressing_style": "path"}, connect_timeout=5, read_timeout=20),
    )
