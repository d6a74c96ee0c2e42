"""What boto3 does with Prism's S3 API, as people write it."""

import asyncio
import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from s3_support import BUCKET, boto, error_code

from prism.testing.certificate import self_signed
from prism.testing.running import Running, running_app

KEYS = [
    *("plain", "a/b", "a//b", "/lead", "trail/", "a/../b", "./x", "..", "a%2Fb", "a+b c", "é", "e\u0301", "😀/😀"),
    *("?q=1&r#f", "~-._!*'()", "tab\there", "line\nbreak", "back\\slash", "<&>\"'", "A", "a", "x" * 1024),
]


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    async with running_app() as running:
        yield running


async def in_thread(work: Any, *arguments: Any) -> Any:
    return await asyncio.to_thread(work, *arguments)


async def test_every_key_comes_back_as_it_was(running: Running) -> None:
    def work() -> None:
        s3 = boto(running.s3)
        for number, key in enumerate(KEYS):
            s3.put_object(Bucket=BUCKET, Key=key, Body=str(number).encode())
        for number, key in enumerate(KEYS):
            assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == str(number).encode(), key
            assert s3.head_object(Bucket=BUCKET, Key=key)["ContentLength"] == len(str(number))
        for listing in ("list_objects_v2", "list_objects"):
            found = [one["Key"] for one in getattr(s3, listing)(Bucket=BUCKET)["Contents"]]
            assert found == sorted(KEYS, key=str.encode)
        for key in KEYS:
            assert s3.delete_object(Bucket=BUCKET, Key=key)["ResponseMetadata"]["HTTPStatusCode"] == 204
            assert error_code(s3.get_object, Bucket=BUCKET, Key=key) == "NoSuchKey"
        assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET)
        s3.delete_object(Bucket=BUCKET, Key="never there")

    await in_thread(work)


async def test_what_an_object_carries(running: Running) -> None:
    def work() -> None:
        s3 = boto(running.s3)
        metadata = {"camera": "x 100", "note": "UTF-8''quoted"}
        put = s3.put_object(Bucket=BUCKET, Key="k", Body=b"body", ContentType="text/plain", Metadata=metadata)
        assert put["ETag"] == '"841a2d689ad86bd1611447453c22c6fc"'
        for found in (s3.head_object(Bucket=BUCKET, Key="k"), s3.get_object(Bucket=BUCKET, Key="k")):
            assert (found["ContentType"], found["ContentLength"], found["ETag"]) == ("text/plain", 4, put["ETag"])
            assert datetime.now(UTC) - found["LastModified"] < timedelta(minutes=1)
            assert 'rule-id="prism-ttl"' in found["Expiration"]
        s3.put_object(Bucket=BUCKET, Key="page", Body=b"<script>", ContentType="text/html")
        headers = s3.get_object(Bucket=BUCKET, Key="page")["ResponseMetadata"]["HTTPHeaders"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"].startswith("sandbox")

    await in_thread(work)


@pytest.mark.parametrize("checksums", ["when_supported", "when_required"])
async def test_checksums_are_compared(running: Running, checksums: str) -> None:
    def work() -> None:
        options = {"request_checksum_calculation": checksums, "response_checksum_validation": checksums}
        s3 = boto(running.s3, **options)
        large = bytes(range(256)) * 12_000
        for algorithm in ("CRC32", "CRC32C", "SHA1", "SHA256"):
            value = {} if algorithm == "CRC32C" else {"ChecksumAlgorithm": algorithm}
            put = s3.put_object(Bucket=BUCKET, Key="k", Body=large, **value)
            assert (f"Checksum{algorithm}" in put) == bool(value)
            assert s3.get_object(Bucket=BUCKET, Key="k", ChecksumMode="ENABLED")["Body"].read() == large
        assert s3.head_object(Bucket=BUCKET, Key="k", ChecksumMode="ENABLED")["ChecksumCRC32C"]
        wrong = [
            {"ChecksumSHA256": "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="},
            {"ChecksumSHA1": "2jmj7l5rSw0yVb/vlWAYkK/YBwk="},
            {"ChecksumCRC32": "AAAAAA=="},
            {"ChecksumCRC32C": "AAAAAA=="},
            {"ContentMD5": "1B2M2Y8AsgTpgAmY7PhCfg=="},
        ]
        for one in wrong:
            assert error_code(s3.put_object, Bucket=BUCKET, Key="wrong", Body=b"other", **one) == "BadDigest"
        assert error_code(s3.put_object, Bucket=BUCKET, Key="wrong", Body=b"", ContentMD5="x") == "InvalidDigest"
        assert error_code(s3.head_object, Bucket=BUCKET, Key="wrong") == "404"

    await in_thread(work)


async def test_ranges_and_conditions(running: Running) -> None:
    def work() -> None:
        s3 = boto(running.s3)
        etag = s3.put_object(Bucket=BUCKET, Key="k", Body=b"0123456789")["ETag"]
        here: dict[str, Any] = {"Bucket": BUCKET, "Key": "k"}
        for asked, content, told in (
            ("bytes=0-0", b"0", "bytes 0-0/10"),
            ("bytes=7-", b"789", "bytes 7-9/10"),
            ("bytes=-2", b"89", "bytes 8-9/10"),
            ("bytes=8-99", b"89", "bytes 8-9/10"),
        ):
            found = s3.get_object(**here, Range=asked)
            assert (found["Body"].read(), found["ContentRange"]) == (content, told)
            assert found["ResponseMetadata"]["HTTPStatusCode"] == 206
        assert error_code(s3.get_object, **here, Range="bytes=10-") == "InvalidRange"
        later = datetime.now(UTC) + timedelta(hours=1)
        for call in (s3.get_object, s3.head_object):
            assert error_code(call, **here, IfNoneMatch=etag) == "304"
            assert error_code(call, **here, IfModifiedSince=later) == "304"
            assert error_code(call, **here, IfMatch='"other"') in {"PreconditionFailed", "412"}
            assert call(**here, IfMatch=etag.strip('"'), IfNoneMatch='"other"')["ETag"] == etag
        assert error_code(s3.put_object, **here, Body=b"n", IfNoneMatch="*") == "PreconditionFailed"
        assert error_code(s3.put_object, **here, Body=b"n", IfMatch='"other"') == "PreconditionFailed"
        assert s3.put_object(Bucket=BUCKET, Key="fresh", Body=b"n", IfNoneMatch="*")
        assert error_code(s3.delete_object, **here, IfMatch='"other"') == "PreconditionFailed"
        assert s3.put_object(**here, Body=b"n", IfMatch=etag)

    await in_thread(work)


async def test_listing_pages_prefixes_and_delimiters(running: Running) -> None:
    def work() -> None:
        s3 = boto(running.s3)
        keys = [f"{folder}/{number:02}" for folder in ("a", "b+c", "d e") for number in range(7)] + ["top", "z"]
        for key in keys:
            s3.put_object(Bucket=BUCKET, Key=key, Body=b"")
        for listing in ("list_objects_v2", "list_objects"):
            for size in (1, 4, 1000):
                pages = list(s3.get_paginator(listing).paginate(Bucket=BUCKET, PaginationConfig={"PageSize": size}))
                assert [one["Key"] for page in pages for one in page.get("Contents", [])] == keys
                pages = list(
                    s3.get_paginator(listing).paginate(
                        Bucket=BUCKET, Delimiter="/", PaginationConfig={"PageSize": size}
                    )
                )
                prefixes = [one["Prefix"] for page in pages for one in page.get("CommonPrefixes", [])]
                assert prefixes == ["a/", "b+c/", "d e/"]
                assert [one["Key"] for page in pages for one in page.get("Contents", [])] == ["top", "z"]
        found = s3.list_objects_v2(Bucket=BUCKET, Prefix="b+c/", StartAfter="b+c/04", FetchOwner=True)
        assert [one["Key"] for one in found["Contents"]] == ["b+c/05", "b+c/06"]
        assert found["Contents"][0]["Owner"]["ID"] == "user-uploads"
        nothing = s3.list_objects_v2(Bucket=BUCKET, MaxKeys=0)
        assert (nothing["KeyCount"], nothing["IsTruncated"], nothing["MaxKeys"]) == (0, False, 0)
        assert error_code(s3.list_objects_v2, Bucket=BUCKET, ContinuationToken="made up") == "InvalidArgument"
        token = s3.list_objects_v2(Bucket=BUCKET, MaxKeys=1)["NextContinuationToken"]
        other = {"Bucket": BUCKET, "Prefix": "a", "ContinuationToken": token}
        assert error_code(s3.list_objects_v2, **other) == "InvalidArgument"

    await in_thread(work)


async def test_copies(running: Running) -> None:
    def work() -> None:
        s3 = boto(running.s3)
        etag = s3.put_object(Bucket=BUCKET, Key="a b/+é", Body=b"body", Metadata={"n": "1"}, ContentType="text/plain")[
            "ETag"
        ]
        source = {"Bucket": BUCKET, "Key": "a b/+é"}
        assert s3.copy_object(Bucket=BUCKET, Key="copy", CopySource=source)["CopyObjectResult"]["ETag"] == etag
        found = s3.get_object(Bucket=BUCKET, Key="copy")
        assert (found["Body"].read(), found["Metadata"], found["ContentType"]) == (b"body", {"n": "1"}, "text/plain")
        replace = {"MetadataDirective": "REPLACE", "Metadata": {"n": "2"}, "ContentType": "text/csv"}
        s3.copy_object(Bucket=BUCKET, Key="a b/+é", CopySource=source, **replace)
        found = s3.head_object(**source)
        assert (found["Metadata"], found["ContentType"]) == ({"n": "2"}, "text/csv")
        assert error_code(s3.copy_object, **source, CopySource=source) == "InvalidRequest"
        assert error_code(s3.copy_object, **source, CopySource=f"{BUCKET}/none") == "NoSuchKey"
        assert error_code(s3.copy_object, **source, CopySource="prism-builds/x") == "NoSuchBucket"
        failing = {"CopySource": source, "CopySourceIfMatch": '"other"'}
        assert error_code(s3.copy_object, Bucket=BUCKET, Key="no", **failing) == "PreconditionFailed"
        s3.copy(source, BUCKET, "managed copy")
        assert s3.head_object(Bucket=BUCKET, Key="managed copy")["ContentLength"] == 4

    await in_thread(work)


async def test_buckets(running: Running) -> None:
    def work() -> None:
        s3 = boto(running.s3)
        assert [one["Name"] for one in s3.list_buckets()["Buckets"]] == [BUCKET]
        s3.create_bucket(Bucket="second", CreateBucketConfiguration={"LocationConstraint": "us-east-1"})
        s3.create_bucket(Bucket="third")
        assert error_code(s3.create_bucket, Bucket="second") == "BucketAlreadyOwnedByYou"
        elsewhere = {"CreateBucketConfiguration": {"LocationConstraint": "eu-west-1"}}
        assert error_code(s3.create_bucket, Bucket="fourth", **elsewhere) == "InvalidLocationConstraint"
        assert [one["Name"] for one in s3.list_buckets()["Buckets"]] == [BUCKET, "second", "third"]
        first = s3.list_buckets(MaxBuckets=2, Prefix="")
        rest = s3.list_buckets(MaxBuckets=2, ContinuationToken=first["ContinuationToken"])
        assert [one["Name"] for one in first["Buckets"] + rest["Buckets"]] == [BUCKET, "second", "third"]
        assert s3.head_bucket(Bucket="second")["BucketRegion"] == "us-east-1"
        assert s3.get_bucket_location(Bucket="second")["LocationConstraint"] is None
        s3.put_object(Bucket="second", Key="k", Body=b"there")
        assert error_code(s3.head_object, Bucket=BUCKET, Key="k") == "404"
        assert error_code(s3.delete_bucket, Bucket="second") == "BucketNotEmpty"
        s3.delete_object(Bucket="second", Key="k")
        s3.delete_bucket(Bucket="second")
        assert error_code(s3.head_bucket, Bucket="second") == "404"
        assert error_code(s3.put_object, Bucket="second", Key="k", Body=b"") == "NoSuchBucket"
        assert error_code(s3.delete_bucket, Bucket=BUCKET) == "AccessDenied"

    await in_thread(work)


async def test_other_namespaces_look_absent(running: Running) -> None:
    def work() -> None:
        s3, other = boto(running.s3), boto(running.s3, ("build-artifacts", "prism-local-build-artifacts"))
        other.put_object(Bucket="prism-builds", Key="secret", Body=b"x")
        asked = [
            (s3.get_object, {"Key": "secret"}),
            (s3.put_object, {"Key": "new", "Body": b"x"}),
            (s3.list_objects_v2, {}),
            (s3.delete_objects, {"Delete": {"Objects": [{"Key": "secret"}]}}),
        ]
        for call, arguments in asked:
            for bucket in ("prism-builds", "never-made"):
                assert error_code(call, Bucket=bucket, **arguments) == "NoSuchBucket"
        assert other.get_object(Bucket="prism-builds", Key="secret")["Body"].read() == b"x"

    await in_thread(work)


async def test_many_are_deleted_at_once(running: Running) -> None:
    def work() -> None:
        s3 = boto(running.s3)
        keys = [*KEYS[:14], *(f"n/{number}" for number in range(60))]
        for key in keys:
            s3.put_object(Bucket=BUCKET, Key=key, Body=b"x")
        s3.put_object(Bucket=BUCKET, Key="stays", Body=b"x")
        found = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": key} for key in [*keys, "never"]]})
        assert [one["Key"] for one in found["Deleted"]] == [*keys, "never"]
        assert [one["Key"] for one in s3.list_objects_v2(Bucket=BUCKET)["Contents"]] == ["stays"]
        asked = [{"Key": "stays", "ETag": '"other"'}, {"Key": "x", "VersionId": "1"}, {"Key": "y" * 1025}]
        errors = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": asked, "Quiet": True})["Errors"]
        assert [one["Code"] for one in errors] == ["PreconditionFailed", "NotImplemented", "InvalidArgument"]

    await in_thread(work)


async def test_what_is_not_there_yet_says_its_name(running: Running) -> None:
    def work() -> None:
        s3 = boto(running.s3)
        here = {"Bucket": BUCKET, "Key": "k"}
        for call, arguments, name in (
            (s3.list_object_versions, {"Bucket": BUCKET}, "ListObjectVersions"),
            (s3.get_object_tagging, here, "GetObjectTagging"),
            (s3.get_bucket_versioning, {"Bucket": BUCKET}, "GetBucketVersioning"),
            (s3.put_object, {**here, "Body": b"", "Tagging": "a=b"}, "x-amz-tagging"),
            (s3.put_object, {**here, "Body": b"", "ContentEncoding": "gzip"}, "content-encoding"),
            (s3.put_object, {**here, "Body": b"", "ServerSideEncryption": "AES256"}, "x-amz-server-side-encryption"),
            (s3.put_object, {**here, "Body": b"", "ACL": "public-read"}, "x-amz-acl"),
            (s3.get_object, {**here, "VersionId": "1"}, "GetObjectVersion"),
        ):
            with pytest.raises(s3.exceptions.ClientError, match=f"NotImplemented.*{name}"):
                call(**arguments)

    await in_thread(work)


async def test_managed_transfers_below_the_threshold(running: Running) -> None:
    def work() -> None:
        s3 = boto(running.s3)
        content = bytes(range(251)) * 20_000
        s3.upload_fileobj(io.BytesIO(content), BUCKET, "managed", ExtraArgs={"ContentType": "image/png"})
        back = io.BytesIO()
        s3.download_fileobj(BUCKET, "managed", back)
        assert back.getvalue() == content

    await in_thread(work)


async def test_over_tls_checksums_come_behind_the_body(tmp_path: Path) -> None:
    made = self_signed(tmp_path)
    tls = {"server.tls.cert_file": str(made.cert_file), "server.tls.key_file": str(made.key_file)}
    async with running_app(overrides=tls) as running:

        def work() -> None:
            sent: dict[str, str] = {}
            s3 = boto(running.s3, verify=str(made.cert_file))
            s3.meta.events.register("before-send.s3.PutObject", lambda request, **_: sent.update(request.headers))
            content = bytes(range(256)) * 12_000
            for body in (b"", b"small", content):
                put = s3.put_object(Bucket=BUCKET, Key="k", Body=body)
                assert sent["X-Amz-Trailer"] == b"x-amz-checksum-crc32"
                assert put["ETag"]
                assert s3.get_object(Bucket=BUCKET, Key="k")["Body"].read() == body

        await in_thread(work)
