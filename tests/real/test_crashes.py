"""`prism serve` over MinIO dies at every step of an upload that goes straight to the store, at its first and its second
hit: what clients were told stays true, and in the end the bucket holds what the catalog references and nothing else.

The bucket is looked at from outside, by Amazon's library and in MinIO's own folder, where open uploads in parts lie.
"""

import asyncio
import contextlib
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError
from crash_points import every_point
from program import CRASHED, Program, serving
from promises import ABSENT, Client, Died
from s3_buckets import client as s3_client
from shifted import opened_ahead

from prism.catalog.rows import ObjectRow, decode
from prism.meta import tuples
from prism.testing.services import Service, private_minio
from prism.workers.fsck import fsck

SPACE = "things"
PART = 5 * 2**20
BIG = bytes(range(251)) * 84_000
"""20 MiB: a put of it is sent in parts."""
PATHS = ("staging.", "assembly.", "recognition.", "uploads.presign.", "uploads.parts.")
HITS = {"objects.put.mid_body": (12, 20), "objects.put.after_bytes": (1, 2)}
"""Steps of a long put between which an upload in parts is open, and which hits are tried."""
YAML = """
namespaces:
  - name: things
    backend: minio
    config: {endpoint: "%s", access_key: "%s", secret_key: "%s", bucket: "%s"}
"""


def points() -> dict[str, tuple[int, int]]:
    return {name: (1, 2) for name in every_point() if name.startswith(PATHS)} | HITS


@pytest.fixture(scope="module")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Path]]:
    """A server of these tests' own, and where it keeps uploads in parts that are open."""
    folder = tmp_path_factory.mktemp("minio")
    with asyncio.Runner() as runner:
        server = private_minio(folder)
        yield runner.run(server.__aenter__()).service, folder / "data" / ".minio.sys" / "multipart"  # type: ignore[arg-type]  # a coroutine
        runner.run(server.__aexit__(None, None, None))  # type: ignore[arg-type]  # likewise
    shutil.rmtree(folder)


class Uploader(Client):
    """Speaks to the server and to the store, and keeps the model."""

    def connect_to(self, program: Program) -> None:
        self.connect(program.http)
        keys = boto3.session.Session(SPACE, f"prism-local-{SPACE}", region_name="us-east-1")
        config = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1, "mode": "standard"})
        self.s3 = keys.client("s3", endpoint_url=program.s3, config=config)

    def put_declared(self, key: str, content: bytes) -> None:
        wanted = {"namespace": SPACE, "key": key, "size_bytes": len(content), "if_none_match": ["*"]}
        ticket = self.ask("POST", self._uploads, json=wanted | {"checksum_sha256": hashlib.sha256(content).hexdigest()})
        assert ticket.is_success, ticket.text
        self.write([(SPACE, "", key)], content, lambda: self.send(ticket.json(), content))
        done = self.ask("POST", f"{self._uploads}/{ticket.json()['upload_id']}/complete", json={})
        assert done.is_success, done.text

    def send(self, ticket: Any, content: bytes) -> Any:
        return self.ask("PUT", ticket["url"], content=content, headers=ticket["headers"])

    def put_by_s3(self, key: str, content: bytes) -> None:
        """In two parts, through Prism's own S3 API."""
        name = {"Bucket": self.bucket, "Key": key}
        with self._dying():
            upload = {**name, "UploadId": self.s3.create_multipart_upload(**name)["UploadId"]}
            sent = [
                {"PartNumber": number, "ETag": self.s3.upload_part(**upload, PartNumber=number, Body=part)["ETag"]}
                for number, part in enumerate((content[:PART], content[PART:]), 1)
            ]
            before = self.allowed.get((SPACE, "", key), {ABSENT})
            self.allowed[SPACE, "", key] = before | {content}
            self.s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": sent})
            self.allowed[SPACE, "", key] = {content}

    @property
    def bucket(self) -> str:
        found: str = self.s3.list_buckets()["Buckets"][0]["Name"]
        return found

    @contextlib.contextmanager
    def _dying(self) -> Iterator[None]:
        try:
            yield
        except (HTTPClientError, ClientError) as error:
            raise Died from error


def operate(client: Uploader, life: str, *, long: bool) -> None:
    """Each way of an upload, each at least twice, or `long` puts. Raises `Died` when the server does."""
    own = hashlib.sha256(life.encode()).hexdigest().encode()
    for number in range(2):
        tail = own + bytes([number])
        if long:
            client.put(SPACE, f"long/{number}", BIG + tail)
            continue
        client.put_by_url(SPACE, f"by-url/{number}", b"by url" + tail)
        client.get(SPACE, f"by-url/{number}")
        client.put_by_url(SPACE, f"by-url/{number}", b"by url" + tail, times=2)
        client.get(SPACE, f"by-url/{number}")
        client.put_by_url(SPACE, "then/put", b"landed before" + tail)
        client.put(SPACE, "then/put", b"put" + tail)
        client.put_by_url(SPACE, "then/deleted", b"landed before" + tail)
        client.delete(SPACE, "then/deleted")
        client.put_declared(f"declared/{life} {number}", b"declared" + tail)
        client.put_in_parts(SPACE, f"in-parts/{number}", b"in parts" + tail, PART)
        client.put_by_s3(f"by-s3/{number}", BIG[:PART] + tail)
        client.give_up_parts(SPACE, f"in-parts/{number}", 100, PART)
        client.begin_parts(SPACE, f"never/{number}", 100, PART)
        client.presign(SPACE, f"never/{number}", "PUT")
        client.get(SPACE, f"in-parts/{number}")


@pytest.mark.crash
@pytest.mark.parametrize("name", sorted(points()))
def test_dying_there_loses_and_leaks_nothing(name: str, tmp_path: Path, minio: tuple[Service, Path]) -> None:
    found, open_parts = minio
    s3, bucket = s3_client(found), f"crash-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    s3.create_bucket(Bucket=bucket)
    config = tmp_path / "prism.yaml"
    config.write_text(YAML % (found.url, found.access_key, found.secret_key, bucket))
    client = Uploader()
    for hit in points()[name]:
        armed = {"PRISM_FAILPOINTS": f"{name}=exit@{hit}"}
        with serving(tmp_path / "data", "--config", str(config), "--roles", "api,s3", env=armed) as program:
            assert program.endpoints, program.said()
            client.connect_to(program)
            with pytest.raises(Died):
                operate(client, f"{name} {hit}", long=name in HITS)
            assert program.ended() == CRASHED, program.said()[-3000:]
    with serving(tmp_path / "data", "--config", str(config), "--roles", "api,s3") as program:
        client.connect_to(program)
        client.check()
        client.close()
        assert program.stop() == 0
    referenced = asyncio.run(_drained(config, tmp_path / "data"))
    assert _stored(s3, bucket) == referenced | {"~owner"}
    assert not list(open_parts.rglob("xl.meta")), "no upload in parts is left open"
    s3.close()


def _stored(s3: Any, bucket: str) -> set[str]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return {one["Key"] for page in pages for one in page.get("Contents", ())}


async def _drained(config: Path, data_dir: Path) -> set[str]:
    """Let all time pass; the physical keys that are referenced then, when nothing else is left in the catalog."""
    for days in (10, 20, 30, 31):
        async with opened_ahead(config, data_dir, days) as app:
            report = await app.janitor.run_once()
            assert not report.failed, report
    async with opened_ahead(config, data_dir, 31) as app:
        for kind in "uwdpqgtk":
            assert not await _rows(app.meta, kind), f"rows of kind {kind} are left"
        checked = await fsck(app.namespaces.get(SPACE))
        assert checked.clean, checked
        rows = await _rows(app.meta, "o")
        return {decode(ObjectRow, value).physical_key for value in rows}


async def _rows(meta: Any, kind: str) -> list[bytes]:
    start, end = tuples.span((SPACE, kind))
    entries = await meta.read(lambda view: view.range(start, end, limit=1000))
    return [entry.value for entry in entries]
