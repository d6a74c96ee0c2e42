"""S3's uploads in parts against every kind of store: boto3 and the AWS command line as they come, and rude clients."""

import asyncio
import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import boto3.s3.transfer
import httpx
import pytest
from s3_support import BUCKET, KEY_PAIR, Raw, boto, error_code, s3_code
from upload_support import World, world_over

from prism.testing.running import Running, running_app

MIB = 2**20
BIG = bytes(range(251)) * 50_000
"""12.5 MB: three parts of 5 MiB."""
HERE = {"Bucket": BUCKET, "Key": "a b/é+"}


@pytest.fixture(params=["memory", "local", "signing"])
async def world(request: Any, tmp_path: Path) -> AsyncIterator[World]:
    async with world_over(request.param, tmp_path) as world:
        yield world


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    async with running_app() as running:
        yield running


async def in_thread(work: Callable[[], None]) -> None:
    await asyncio.to_thread(work)


def s3_etag(content: bytes, part_bytes: int) -> str:
    """As every client of S3 computes it."""
    digests = [
        hashlib.md5(content[at : at + part_bytes], usedforsecurity=False).digest()
        for at in range(0, len(content), part_bytes)
    ]
    return f'"{hashlib.md5(b"".join(digests), usedforsecurity=False).hexdigest()}-{len(digests)}"'


async def test_managed_transfers(world: World) -> None:
    """`upload_fileobj` and `download_fileobj` as they come, with the checksums that boto3 adds."""

    def work() -> None:
        for calculation in ("when_supported", "when_required"):
            s3 = boto(world.running.s3, request_checksum_calculation=calculation)
            extra = {"ContentType": "image/png", "Metadata": {"n": "1"}}
            s3.upload_fileobj(io.BytesIO(BIG), BUCKET, "managed", ExtraArgs=extra)
            head = s3.head_object(Bucket=BUCKET, Key="managed")
            assert (head["ETag"], head["ContentLength"]) == (s3_etag(BIG, 8 * MIB), len(BIG))
            assert (head["ContentType"], head["Metadata"]["n"]) == ("image/png", "1")
            back = io.BytesIO()
            s3.download_fileobj(BUCKET, "managed", back)
            assert back.getvalue() == BIG
        listed = s3.list_objects_v2(Bucket=BUCKET)["Contents"]
        assert [(one["Key"], one["ETag"]) for one in listed] == [("managed", head["ETag"])]
        assert "Uploads" not in s3.list_multipart_uploads(Bucket=BUCKET)

    await in_thread(work)
    await world.until_clean()
    assert await world.read("managed") == BIG


async def test_managed_copies_are_of_parts(running: Running) -> None:
    def work() -> None:
        s3 = boto(running.s3)
        s3.put_object(**HERE, Body=BIG)
        config = boto3.s3.transfer.TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB)
        s3.copy(HERE, BUCKET, "copy", Config=config)
        found = s3.get_object(Bucket=BUCKET, Key="copy")
        assert (found["Body"].read(), found["ETag"]) == (BIG, s3_etag(BIG, 5 * MIB))

    await in_thread(work)


async def test_step_by_step(world: World) -> None:
    def work() -> None:
        s3 = boto(world.running.s3)
        upload = s3.create_multipart_upload(**HERE, ContentType="a/b", Metadata={"n": "1"})["UploadId"]
        this = {**HERE, "UploadId": upload}
        pieces = [BIG[at : at + 5 * MIB] for at in range(0, len(BIG), 5 * MIB)]
        etags = {}
        for number in (3, 1, 2):
            body = pieces[number - 1]
            etags[number] = s3.upload_part(**this, PartNumber=number, Body=body)["ETag"]
            assert etags[number] == f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'
        s3.upload_part(**this, PartNumber=9, Body=b"left out")
        etags[1] = s3.upload_part(**this, PartNumber=1, Body=pieces[0])["ETag"]
        page = s3.list_parts(**this, MaxParts=2)
        assert [one["PartNumber"] for one in page["Parts"]] == [1, 2]
        rest = s3.list_parts(**this, PartNumberMarker=page["NextPartNumberMarker"])
        assert [(one["PartNumber"], one["Size"]) for one in rest["Parts"]] == [(3, len(pieces[2])), (9, 8)]
        assert [one["ETag"] for one in page["Parts"]] == [etags[1], etags[2]]
        assert error_code(s3.head_object, **HERE) == "404"
        parts = [{"PartNumber": number, "ETag": etags[number]} for number in (1, 2, 3)]
        done = s3.complete_multipart_upload(**this, MultipartUpload={"Parts": parts})
        assert (done["ETag"], done["Key"]) == (s3_etag(BIG, 5 * MIB), HERE["Key"])
        again = s3.complete_multipart_upload(**this, MultipartUpload={"Parts": parts})
        assert again["ETag"] == done["ETag"]
        found = s3.get_object(**HERE)
        assert (found["Body"].read(), found["ContentType"], found["Metadata"]) == (BIG, "a/b", {"n": "1"})
        assert s3.get_object(**HERE, Range="bytes=5242878-5242881")["Body"].read() == BIG[5242878:5242882]
        for call in (s3.list_parts, s3.abort_multipart_upload):
            assert error_code(call, **this) == "NoSuchUpload"
        assert error_code(s3.upload_part, **this, PartNumber=1, Body=b"x") == "NoSuchUpload"

    await in_thread(work)
    await world.until_clean()


async def test_presigned_parts(world: World) -> None:
    """Signed by boto3, sent by a client without credentials."""
    s3 = boto(world.running.s3, signature_version="s3v4")
    upload = (await asyncio.to_thread(s3.create_multipart_upload, **HERE))["UploadId"]
    this = {**HERE, "UploadId": upload}
    async with httpx.AsyncClient(timeout=30) as client:
        url = s3.generate_presigned_url("upload_part", Params={**this, "PartNumber": 1}, ExpiresIn=60)
        etag = (await client.put(url, content=b"only part")).headers["etag"]
        other = await client.put(url.replace("partNumber=1", "partNumber=2"), content=b"x")
        assert other.status_code == 403
        url = s3.generate_presigned_url("list_parts", Params=this, ExpiresIn=60)
        assert etag in (await client.get(url)).text.replace("&quot;", '"')
    parts = [{"PartNumber": 1, "ETag": etag}]
    await asyncio.to_thread(s3.complete_multipart_upload, **this, MultipartUpload={"Parts": parts})
    assert await world.read("a%20b/%C3%A9%2B") == b"only part"


async def test_given_up_and_listed(world: World) -> None:
    def work() -> None:
        s3 = boto(world.running.s3)
        keys = ["a/1", "a/2", "b", "b", "c/d/1", "c/e/1"]
        uploads = [s3.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"] for key in keys]
        listed = s3.list_multipart_uploads(Bucket=BUCKET)["Uploads"]
        assert [(one["Key"], one["UploadId"]) for one in listed] == list(zip(keys, uploads, strict=True))
        for size in (1, 2, 3):
            pages = list(
                s3.get_paginator("list_multipart_uploads").paginate(Bucket=BUCKET, PaginationConfig={"PageSize": size})
            )
            assert [one["UploadId"] for page in pages for one in page.get("Uploads", [])] == uploads
            pages = list(
                s3.get_paginator("list_multipart_uploads").paginate(
                    Bucket=BUCKET, Delimiter="/", PaginationConfig={"PageSize": size}
                )
            )
            assert [one["Prefix"] for page in pages for one in page.get("CommonPrefixes", [])] == ["a/", "c/"]
            assert [one["Key"] for page in pages for one in page.get("Uploads", [])] == ["b", "b"]
        below = s3.list_multipart_uploads(Bucket=BUCKET, Prefix="c/", Delimiter="/")
        assert [one["Prefix"] for one in below["CommonPrefixes"]] == ["c/d/", "c/e/"]
        s3.upload_part(Bucket=BUCKET, Key="b", UploadId=uploads[2], PartNumber=1, Body=b"x")
        for key, upload in zip(keys, uploads, strict=True):
            s3.abort_multipart_upload(Bucket=BUCKET, Key=key, UploadId=upload)
            assert error_code(s3.abort_multipart_upload, Bucket=BUCKET, Key=key, UploadId=upload) == "NoSuchUpload"
        assert "Uploads" not in s3.list_multipart_uploads(Bucket=BUCKET)

    await in_thread(work)
    await world.until_clean()


async def test_what_is_refused_and_how_it_is_called(running: Running) -> None:
    def work() -> None:
        s3 = boto(running.s3)
        this = {**HERE, "UploadId": s3.create_multipart_upload(**HERE)["UploadId"]}
        etags = [s3.upload_part(**this, PartNumber=n, Body=bytes(size))["ETag"] for n, size in ((1, 3), (2, 5 * MIB))]

        def complete(*parts: tuple[int, str], **more: Any) -> str:
            listed = [{"PartNumber": number, "ETag": etag} for number, etag in parts]
            return error_code(s3.complete_multipart_upload, **this, MultipartUpload={"Parts": listed}, **more)

        assert complete((1, etags[0]), (2, etags[1])) == "EntityTooSmall"
        assert complete((2, etags[1]), (1, etags[0])) == "InvalidPartOrder"
        assert complete((1, etags[0]), (1, etags[0])) == "InvalidPartOrder"
        assert complete((1, '"other"')) == "InvalidPart"
        assert complete((1, etags[0]), (3, etags[1])) == "InvalidPart"
        assert complete((2, etags[1]), MpuObjectSize=4) == "IncompleteBody"
        assert complete((2, etags[1]), ChecksumCRC32C="AAAAAA==", ChecksumType="FULL_OBJECT") == "BadDigest"
        assert complete() == "MalformedXML"
        for number in (0, 10_001, -1):
            assert error_code(s3.upload_part, **this, PartNumber=number, Body=b"x") == "InvalidArgument"
        assert error_code(s3.upload_part, **this, PartNumber=1, Body=b"x", ContentMD5="AAAAAAAAAAAAAAAAAAAAAA==") == (
            "BadDigest"
        )
        wrong = {"ChecksumCRC32C": "AAAAAA=="}
        assert error_code(s3.upload_part, **this, PartNumber=1, Body=b"x", **wrong) == "BadDigest"
        s3.put_object(Bucket=BUCKET, Key="source", Body=b"0123456789")
        copy = {**this, "PartNumber": 1, "CopySource": {"Bucket": BUCKET, "Key": "source"}}
        assert error_code(s3.upload_part_copy, **copy, CopySourceRange="bytes=5-10") == "InvalidRange"
        assert error_code(s3.upload_part_copy, **copy, CopySourceRange="bytes=5-") == "InvalidArgument"
        assert error_code(s3.upload_part_copy, **copy, CopySourceIfMatch='"other"') == "PreconditionFailed"
        missing = {**copy, "CopySource": f"{BUCKET}/none"}
        assert error_code(s3.upload_part_copy, **missing) == "NoSuchKey"
        for upload in ("x", "0" * 26, this["UploadId"][::-1], "ü" * 3000):
            over = {**this, "UploadId": upload}
            assert error_code(s3.upload_part, **over, PartNumber=1, Body=b"x") == "NoSuchUpload"
            assert error_code(s3.upload_part_copy, **{**copy, "UploadId": upload}) == "NoSuchUpload"
        other_key = {**this, "Key": "other"}
        assert error_code(s3.list_parts, **other_key) == "NoSuchUpload"
        stranger = boto(running.s3, ("build-artifacts", "prism-local-build-artifacts"))
        assert error_code(stranger.list_parts, **{**this, "Bucket": "prism-builds"}) == "NoSuchUpload"
        assert error_code(stranger.list_parts, **this) == "NoSuchBucket"
        s3.put_object(**HERE, Body=b"there")
        assert complete((2, etags[1]), IfNoneMatch="*") == "PreconditionFailed"
        assert s3.get_object(**HERE)["Body"].read() == b"there"

    await in_thread(work)


async def test_bodies_that_are_no_lists_of_parts(running: Running) -> None:
    raw = Raw(running.s3)
    created = await raw.send("POST", f"/{BUCKET}/k?uploads=")
    upload = created.body.partition(b"<UploadId>")[2].partition(b"<")[0].decode()
    target = f"/{BUCKET}/k?uploadId={upload}"
    part = b"<Part><PartNumber>1</PartNumber><ETag>e</ETag></Part>"
    for body, code in (
        (b"", "MalformedXML"),
        (b"<x/>", "MalformedXML"),
        (b"<CompleteMultipartUpload>" + b"<Part>" * 1000, "MalformedXML"),
        (b"<CompleteMultipartUpload><Part><PartNumber>one</PartNumber><ETag>e</ETag></Part></CompleteMultipartUpload>",
         "MalformedXML"),
        (b"<CompleteMultipartUpload>" + part * 10_001 + b"</CompleteMultipartUpload>", "MalformedXML"),
        (b"<CompleteMultipartUpload>" + part + b"<a/>" * 100_000 + b"</CompleteMultipartUpload>", "MalformedXML"),
        (b" " * (5 * MIB), "EntityTooLarge"),
    ):  # fmt: skip
        answer = await raw.send("POST", target, body)
        assert (answer.status, s3_code(answer)) == (400, code), body[:80]
    assert (await raw.send("DELETE", target)).status == 204


async def test_ten_thousand_parts(running: Running) -> None:
    """The list of the most parts there can be is taken; that they did not come is found out."""
    raw = Raw(running.s3)
    created = await raw.send("POST", f"/{BUCKET}/k?uploads=")
    upload = created.body.partition(b"<UploadId>")[2].partition(b"<")[0].decode()
    parts = b"".join(
        b"<Part><ETag>&quot;%032x&quot;</ETag><PartNumber>%d</PartNumber><ChecksumCRC32>AAAAAA==</ChecksumCRC32></Part>"
        % (number, number)
        for number in range(1, 10_001)
    )
    body = b"<CompleteMultipartUpload>" + parts + b"</CompleteMultipartUpload>"
    answer = await raw.send("POST", f"/{BUCKET}/k?uploadId={upload}", body)
    assert s3_code(answer) == "InvalidPart"


async def test_the_command_line(running: Running, tmp_path: Path) -> None:
    """`aws s3 cp` of a file above its threshold, there and back."""
    (tmp_path / "big").write_bytes(BIG)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "AWS_ACCESS_KEY_ID": KEY_PAIR[0],
        "AWS_SECRET_ACCESS_KEY": KEY_PAIR[1],
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": running.s3,
    }

    async def aws(*arguments: str) -> str:
        command = [sys.executable, "-m", "awscli", "s3", *arguments]
        done = await asyncio.to_thread(
            subprocess.run, command, env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    await aws("cp", "--quiet", str(tmp_path / "big"), f"s3://{BUCKET}/big")
    await aws("cp", "--quiet", f"s3://{BUCKET}/big", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == BIG


async def test_each_step_is_on_record(running: Running) -> None:
    raw = Raw(running.s3)
    created = await raw.send("POST", f"/{BUCKET}/k?uploads=")
    upload = created.body.partition(b"<UploadId>")[2].partition(b"<")[0].decode()
    target = f"/{BUCKET}/k?uploadId={upload}"
    await raw.send("PUT", f"{target}&partNumber=1", b"part")
    await raw.send("GET", target)
    await raw.send("DELETE", target)
    actions = ["upload.create", "upload.put_part", "upload.read", "upload.abort"]
    assert [(one.action, one.outcome, one.key) for one in running.audit.records] == [(a, "OK", "k") for a in actions]
    assert running.audit.records[1].bytes_in == 4
    assert "X-Amz" not in json.dumps([one.detail for one in running.audit.records])
