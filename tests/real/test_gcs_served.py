"""Prism on Google Cloud Storage as its users meet it, on fake-gcs-server."""

import base64
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import httpx
import pytest
from gcs_buckets import account, new_bucket, raw_keys
from gcs_front import front
from prism_sdk import AsyncPrismClient, ObjectNotFound

from prism.config import GCSStore, load
from prism.testing.running import Running, running_app
from prism.testing.services import service

PART_BYTES = 5 * 2**20


@contextlib.asynccontextmanager
async def prism_on(bucket: GCSStore, folder: Path) -> AsyncIterator[Running]:
    """Prism with one namespace, `files`, in this bucket."""
    told: dict[str, Any] = {"endpoint": bucket.endpoint, "bucket": bucket.bucket, "prefix": "team/"}
    if bucket.credentials is not None:
        told["credentials"] = bucket.credentials.reveal()
    namespace = {"name": "files", "backend": "gcs", "pattern": "objectstore", "config": told}
    file = folder / "prism.json"
    file.write_text(json.dumps({"namespaces": [namespace], "runs": {"namespace": "files"}}))
    ports = {f"server.{name}.address": "127.0.0.1:0" for name in ("grpc", "http", "s3")}
    config = load(file, {}, data_dir=folder / "data", overrides=ports)
    async with running_app(data_dir=folder / "data", config=config) as running:
        yield running


async def read(client: AsyncPrismClient, key: str) -> bytes:
    async with client.get_object("", key) as found:
        return bytes(await found.read())


async def test_objects_outlive_a_restart_and_are_gone_when_deleted(tmp_path: Path) -> None:
    async with new_bucket(service("gcs")) as bucket:
        big = bytes(range(256)) * 40_000
        async with prism_on(bucket, tmp_path) as prism, AsyncPrismClient("files", endpoint=prism.grpc) as client:
            await client.put_object("", "test.txt", b"Hello, GCS!", "text/plain")
            await client.put_object("", "odd//ä ", big)
        async with prism_on(bucket, tmp_path) as prism, AsyncPrismClient("files", endpoint=prism.grpc) as client:
            assert await read(client, "test.txt") == b"Hello, GCS!"
            assert await read(client, "odd//ä ") == big
            pages = [page async for page in client.list_pages("", "", page_size=10)]
            assert [entry.key for page in pages for entry in page.objects] == ["odd//ä ", "test.txt"]
            await client.delete_object("", "test.txt")
            with pytest.raises(ObjectNotFound):
                await read(client, "test.txt")
        assert all(key.startswith("team/") for key in raw_keys(service("gcs"), bucket.bucket))


class TestStraightToTheStore:
    """With a service account's key, behind the front that verifies what was signed."""

    @pytest.fixture
    def endpoint(self) -> Iterator[str]:
        private, _ = account()
        with front(service("gcs").url, private.public_key()) as url:
            yield url

    @pytest.fixture
    async def bucket(self, endpoint: str) -> AsyncIterator[GCSStore]:
        _, key = account()
        async with new_bucket(service("gcs"), endpoint=endpoint, credentials=key) as bucket:
            yield bucket

    @pytest.fixture
    async def prism(self, bucket: GCSStore, tmp_path: Path) -> AsyncIterator[Running]:
        async with prism_on(bucket, tmp_path) as running:
            yield running

    @pytest.fixture
    async def client(self, prism: Running) -> AsyncIterator[AsyncPrismClient]:
        async with AsyncPrismClient("files", endpoint=prism.grpc) as client:
            yield client

    @pytest.fixture
    async def http(self, prism: Running) -> AsyncIterator[httpx.AsyncClient]:
        async with httpx.AsyncClient(base_url=prism.http, timeout=20) as http:
            yield http

    async def test_a_declared_upload_is_read_right_after_it(
        self, http: httpx.AsyncClient, client: AsyncPrismClient, endpoint: str
    ) -> None:
        content = b"straight to the store"
        declared = {
            "namespace": "files",
            "key": "direct/a",
            "content_type": "text/plain",
            "size_bytes": len(content),
            "checksum_crc32c": base64.b64encode(google_crc32c.Checksum(content).digest()).decode(),
            "metadata": {"n": "ä"},
        }
        answer = await http.post("/v1/uploads", json=declared)
        upload = answer.json()
        assert upload["url"].startswith(f"{endpoint}/")
        assert upload["not_bound"] == []
        for wrong, status in ((content.upper(), 400), (content, 200), (content, 412)):
            sent = await http.put(upload["url"], content=wrong, headers=upload["headers"])
            assert sent.status_code == status
        assert await read(client, "direct/a") == content
        head = await client.head_object("", "direct/a")
        assert (head.content_type, dict(head.metadata)) == ("text/plain", {"n": "ä"})

    async def test_an_upload_in_parts_leaves_only_the_object(
        self, http: httpx.AsyncClient, client: AsyncPrismClient, bucket: GCSStore
    ) -> None:
        content = bytes(range(251)) * 21_000
        declared = {"namespace": "files", "key": "k", "in_parts": True, "size_bytes": len(content)}
        upload = (await http.post("/v1/uploads", json={**declared, "part_size_bytes": PART_BYTES})).json()
        where = f"/v1/uploads/{upload['upload_id']}"
        assert upload["parts"] == 2
        signed = (await http.post(f"{where}/parts", json={"numbers": [1, 2]})).json()["parts"]
        for part in signed:
            start = (part["number"] - 1) * PART_BYTES
            piece = content[start : start + PART_BYTES]
            assert (await http.put(part["url"], content=piece, headers=part["headers"])).status_code == 200
        whole = base64.b64encode(google_crc32c.Checksum(content).digest()).decode()
        assert (await http.post(f"{where}/complete", json={"checksum_crc32c": whole})).status_code == 200
        assert await read(client, "k") == content
        keys = raw_keys(service("gcs"), bucket.bucket)
        assert [key.partition("~")[0] for key in keys] == ["team/k", "team/"]
        assert keys[1] == "team/~owner"

    async def test_a_bare_url_may_be_used_again_and_each_time_is_seen(
        self, http: httpx.AsyncClient, client: AsyncPrismClient
    ) -> None:
        url = await client.get_presigned_url("", "bare", method="PUT")
        for content in (b"one", b"second"):
            assert (await http.put(url, content=content)).status_code == 200
            assert await read(client, "bare") == content
        found = await http.get(await client.get_presigned_url("", "bare"))
        assert (found.status_code, found.content) == (200, b"second")
