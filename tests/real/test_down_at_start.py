"""A store that is down when Prism starts: the other namespaces are served, its own as soon as it can be asked."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
from prism_sdk import AsyncPrismClient, PrismError
from s3_buckets import client

from prism.config import load
from prism.testing.running import running_app
from prism.testing.services import free_port, private_minio, service

YAML = """
namespaces:
  - {name: here, backend: local}
  - name: there
    backend: minio
    config: {endpoint: "127.0.0.1:%d", access_key: "%s", secret_key: "%s", bucket: there}
"""


async def ready(http: httpx.AsyncClient) -> Mapping[str, str]:
    not_ready: Mapping[str, str] = (await http.get("/readyz")).json()["not_ready"]
    return not_ready


async def test_a_namespace_is_served_when_its_store_can_be_asked(tmp_path: Path) -> None:
    keys, port, file = service("minio"), free_port(), tmp_path / "prism.yaml"
    file.write_text(YAML % (port, keys.access_key, keys.secret_key))
    ports = {f"server.{name}.address": "127.0.0.1:0" for name in ("grpc", "http", "s3")}
    config = load(file, {}, data_dir=tmp_path / "data", overrides=ports)
    async with (
        running_app(config=config) as prism,
        httpx.AsyncClient(base_url=prism.http) as http,
        AsyncPrismClient("here", endpoint=prism.grpc) as here,
        AsyncPrismClient("there", endpoint=prism.grpc) as there,
    ):
        await here.put_object("", "k", b"here")
        assert "store of there" in await ready(http)
        with pytest.raises(PrismError, match=r"namespaces\.there"):
            await there.put_object("", "k", b"there")
        (tmp_path / "minio").mkdir()
        async with private_minio(tmp_path / "minio", port=port) as server:
            await asyncio.to_thread(client(server.service).create_bucket, Bucket="there")
            async with asyncio.timeout(60):
                while "store of there" in await ready(http):
                    await asyncio.sleep(0.2)
            await there.put_object("", "k", b"there")
            async with there.get_object("", "k") as found:
                assert await found.read() == b"there"
