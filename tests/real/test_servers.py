"""The real servers themselves: each answers where its variables say, and lines before them fail when asked to."""

import asyncio
import time
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config

from prism.testing.services import Service, private_minio, private_versitygw, service
from prism.testing.toxiproxy import proxy_before

QUICK = Config(
    signature_version="s3v4",
    connect_timeout=5,
    read_timeout=5,
    retries={"max_attempts": 0},
    s3={"addressing_style": "path"},
)


def client(found: Service, url: str = "") -> Any:
    return boto3.client(
        "s3",
        endpoint_url=url or found.url,
        aws_access_key_id=found.access_key,
        aws_secret_access_key=found.secret_key,
        region_name="us-east-1",
        verify=str(found.ca_file) if found.ca_file else None,
        config=QUICK,
    )


@pytest.mark.parametrize("name", ["minio", "minio_tls", "versitygw"])
async def test_s3_servers_know_their_keys(name: Any) -> None:
    found = service(name)
    listed = await asyncio.to_thread(client(found).list_buckets)
    assert "Buckets" in listed


async def test_minio_encrypts_with_a_managed_key() -> None:
    found = service("minio")
    s3 = client(found)
    bucket = f"kms-{time.time_ns()}"
    s3.create_bucket(Bucket=bucket)
    try:
        for way in ({"ServerSideEncryption": "AES256"}, {"ServerSideEncryption": "aws:kms"}):
            assert (
                s3.put_object(Bucket=bucket, Key="k", Body=b"x", **way)["ServerSideEncryption"]
                == way["ServerSideEncryption"]
            )
            assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"
    finally:
        s3.delete_object(Bucket=bucket, Key="k")
        s3.delete_bucket(Bucket=bucket)


async def test_the_emulators_of_the_clouds_answer() -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        gcs = await http.get(f"{service('gcs').url}/storage/v1/b", params={"project": "test"})
        assert gcs.json()["kind"] == "storage#buckets"
        azurite = await http.get(service("azurite").url, params={"comp": "list"})
        assert azurite.status_code == 403  # it serves, and asks for a signature


async def test_the_database_and_the_broker_listen() -> None:
    """Their drivers' own suites say more."""
    for name in ("postgres", "kafka"):
        host, _, port = service(name).address.partition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.close()


async def test_a_private_minio_keeps_objects_when_it_is_killed(tmp_path: Path) -> None:
    async with private_minio(tmp_path) as server:
        s3 = client(server.service)
        await asyncio.to_thread(s3.create_bucket, Bucket="kept")
        await asyncio.to_thread(s3.put_object, Bucket="kept", Key="a", Body=b"bytes")
        await server.kill()
        with pytest.raises(httpx.ConnectError):
            httpx.get(server.service.url, trust_env=False)
        await server.start()
        assert (await asyncio.to_thread(s3.get_object, Bucket="kept", Key="a"))["Body"].read() == b"bytes"


async def test_a_private_versitygw_keeps_objects_when_it_is_stopped(tmp_path: Path) -> None:
    async with private_versitygw(tmp_path) as server:
        s3 = client(server.service)
        await asyncio.to_thread(s3.create_bucket, Bucket="kept")
        await asyncio.to_thread(s3.put_object, Bucket="kept", Key="a", Body=b"bytes")
        await server.stop()
        await server.start()
        assert (await asyncio.to_thread(s3.get_object, Bucket="kept", Key="a"))["Body"].read() == b"bytes"


async def test_a_line_is_slow_cut_and_whole_again() -> None:
    health = "/minio/health/live"
    async with proxy_before(service("minio").address) as line, httpx.AsyncClient(trust_env=False, timeout=5) as http:
        assert (await http.get(line.url + health)).status_code == 200
        began = time.monotonic()
        toxic = await line.latency(300)
        assert (await http.get(line.url + health)).status_code == 200
        assert time.monotonic() - began >= 0.3
        await line.heal(toxic)
        await line.reset_peer()
        with pytest.raises(httpx.TransportError):
            await http.get(line.url + health)
        await line.heal_all()
        await line.disable()
        with pytest.raises(httpx.ConnectError):
            await http.get(line.url + health)
        await line.enable()
        assert (await http.get(line.url + health)).status_code == 200


@pytest.mark.parametrize("kind", ["bandwidth", "timeout", "slow_close", "limit_data"])
async def test_every_toxic_is_known(kind: str) -> None:
    async with proxy_before(service("minio").address) as line:
        name = await getattr(line, kind)(100, direction="upstream")
        await line.heal(name)
