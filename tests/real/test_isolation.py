"""Two namespaces on one server, each with a credential, bucket or prefix of its own: nothing of one, however it is
twisted, reaches the other's objects."""

import asyncio
import http.client
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import boto3
import msgspec
import pytest
from botocore.config import Config as Settings
from botocore.exceptions import ClientError
from s3_buckets import client
from stores import config_on, prism_on, real_store
from tenants import KINDS, tenants
from trouble import MIB, World, held, s3_client, world_over

from prism.config import S3Store
from prism.errors import ErrorCode, PrismError
from prism.testing.services import service

SECRET = b"what is right's alone"
SHA = held(SECRET)


class Pair:
    """`left` tries, `right` has something to lose."""

    def __init__(self, world: World, left: S3Store, right: S3Store) -> None:
        self.world = world
        self.left = left
        self.right = right

    def physical(self, space: str, key: str) -> str:
        """Where an object's bytes lie, asked of the server itself."""
        store = self.left if space == "left" else self.right
        s3 = client(service("versitygw" if store.endpoint == service("versitygw").url else "minio"))
        (found,) = s3.list_objects_v2(Bucket=store.bucket, Prefix=f"{store.prefix}{key}~")["Contents"]
        return str(found["Key"])

    async def untouched(self) -> None:
        """What right has is what it had."""
        assert (await self.world.get("right", "k")).holds == SHA
        assert await self.world.keys("right") == ["k"]
        space = self.world.running.app.namespaces.get("right")
        stored = [entry.key for entry in await space.store.list(self.right.prefix, "", 100)]
        assert len(stored) == 2, stored

    async def signed(self, key: str, method: str) -> Any:
        answer = await self.world.api.post("/v1/namespaces/left/presign", json={"key": key, "method": method})
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture(params=KINDS)
async def pair(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Pair]:
    async with (
        tenants(request.param) as (left, right),
        world_over({"left": left, "right": right}, tmp_path) as world,
    ):
        assert (await world.put("right", "k", SECRET)).status in {200, 201}
        assert (await world.put("left", "k", b"left")).status in {200, 201}
        assert not await world.not_ready()
        yield Pair(world, left, right)


async def test_each_is_served_in_full(pair: Pair) -> None:
    """The credential is enough for everything that Prism does, and is no credential for the other's place."""
    big = bytes(9 * MIB)
    assert (await pair.world.put("left", "big", big)).status in {200, 201}
    assert (await pair.world.get("left", "big")).holds == held(big)
    for key in ("big", "k"):
        assert (await pair.world.delete("left", key)).status in {200, 204}
    await pair.world.clean("left")
    await pair.untouched()

    def reach() -> None:
        assert pair.left.secret_key is not None
        token = pair.left.session_token
        mine = boto3.client(
            "s3",
            endpoint_url=pair.left.endpoint,
            aws_access_key_id=pair.left.access_key,
            aws_secret_access_key=pair.left.secret_key.reveal(),
            aws_session_token=token and token.reveal(),
            region_name="us-east-1",
            config=Settings(s3={"addressing_style": "path"}),
        )
        theirs = {"Bucket": pair.right.bucket, "Key": pair.physical("right", "k")}
        for call in (mine.get_object, mine.head_object, mine.delete_object, mine.create_multipart_upload):
            with pytest.raises(ClientError, match=r"403|AccessDenied"):
                call(**theirs)
        if pair.left.bucket != pair.right.bucket:
            with pytest.raises(ClientError, match="AccessDenied"):
                mine.list_objects_v2(Bucket=pair.right.bucket)

    await asyncio.to_thread(reach)
    await pair.untouched()


def twisted(target: str, mine: str, theirs: str) -> Iterator[str]:
    """Request targets made of one for the path `mine`, that would like to be for `theirs`."""
    path, _, query = target.partition("?")
    assert path.endswith(mine), (path, mine)
    base, bucket = path[: -len(mine)], mine.split("/")[1]
    for wanted in (
        theirs,
        f"/{theirs}",
        f"/{bucket}/..{theirs}",
        f"/{bucket}/%2e%2e{theirs}",
        f"/{bucket}/%2E%2E%2F{theirs[1:]}",
        f"{mine}/../../..{theirs}",
        f"{mine}%2f..%2f..%2f..{theirs}",
        f"/.{theirs}",
        quote(theirs, safe=""),
        f"{theirs}%00",
        f"{theirs}?{mine}",
    ):
        yield f"{base}{wanted}?{query}"


def send(url: str, target: str, method: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
    """One request with a target of which nothing is tidied up."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    try:
        connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        try:
            return answer.status, answer.read()
        except ConnectionResetError:  # a refusal may end the connection under its own body
            return answer.status, b""
    finally:
        connection.close()


@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_a_signed_url_is_for_its_own_key_only(pair: Pair, method: str) -> None:
    signed = await pair.signed("k", method)
    parts = urlsplit(signed["url"])
    theirs = f"/{pair.right.bucket}/{pair.physical('right', 'k')}"
    for target in twisted(f"{parts.path}?{parts.query}", parts.path, theirs):
        body = b"twisted" if method == "PUT" else b""
        status, content = await asyncio.to_thread(
            send, signed["url"], target, method, dict(signed.get("headers") or {}), body
        )
        assert status >= 400, (target.partition("?")[0], status)
        assert SECRET not in content
    await pair.untouched()


async def test_a_parts_url_is_for_its_own_upload_only(pair: Pair) -> None:
    """Another key, another upload, another number: none is signed."""
    asked = {"key": "big", "in_parts": True, "size_bytes": 6 * MIB, "part_size_bytes": 5 * MIB}
    tickets = {}
    for space in ("left", "right"):
        tickets[space] = (await pair.world.api.post("/v1/uploads", json={"namespace": space, **asked})).json()
    urls = {}
    for space, ticket in tickets.items():
        answer = await pair.world.api.post(f"/v1/uploads/{ticket['upload_id']}/parts", json={"numbers": [1]})
        urls[space] = answer.json()["parts"][0]
    left, right = (urlsplit(urls[space]["url"]) for space in ("left", "right"))
    for target in (
        f"{right.path}?{left.query}",
        f"{left.path}?{left.query.replace(_upload(left.query), _upload(right.query))}",
        f"{right.path}?{left.query.replace(_upload(left.query), _upload(right.query))}",
        f"{left.path}?{left.query.replace('partNumber=1', 'partNumber=2')}",
    ):
        status, _ = await asyncio.to_thread(
            send, urls["left"]["url"], target, "PUT", dict(urls["left"]["headers"]), b"x"
        )
        assert status >= 400
    there = (await pair.world.api.get(f"/v1/uploads/{tickets['right']['upload_id']}")).json()
    assert there["parts"] == []
    for ticket in tickets.values():
        assert (await pair.world.api.delete(f"/v1/uploads/{ticket['upload_id']}")).status_code == 204
    await pair.untouched()


def _upload(query: str) -> str:
    return next(pair for pair in query.split("&") if pair.startswith("uploadId="))


async def test_by_the_s3_api_nothing_of_the_other_is_reached(pair: Pair) -> None:
    """Buckets, copies, upload ids and tokens of the other are unknown to a credential."""
    buckets = {space: pair.world.running.app.namespaces.get(space).rules.own_bucket for space in ("left", "right")}
    mine, theirs = (s3_client(pair.world.running, space) for space in ("left", "right"))

    def work() -> None:
        upload = theirs.create_multipart_upload(Bucket=buckets["right"], Key="big")["UploadId"]
        for key in ("big", "k"):
            for call, more in (
                (mine.upload_part, {"PartNumber": 1, "Body": b"x"}),
                (mine.list_parts, {}),
                (mine.complete_multipart_upload, {"MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": '"x"'}]}}),
                (mine.abort_multipart_upload, {}),
            ):
                with pytest.raises(ClientError, match=r"NoSuchUpload|NoSuchBucket|AccessDenied"):
                    call(Bucket=buckets["left"], Key=key, UploadId=upload, **more)
        assert len(theirs.list_multipart_uploads(Bucket=buckets["right"])["Uploads"]) == 1
        theirs.abort_multipart_upload(Bucket=buckets["right"], Key="big", UploadId=upload)
        if buckets["left"] == buckets["right"]:
            return
        their = {"Bucket": buckets["right"], "Key": "k"}
        for call, asked in (
            (mine.get_object, their),
            (mine.head_object, their),
            (mine.delete_object, their),
            (mine.put_object, {**their, "Body": b"x"}),
            (mine.list_objects_v2, {"Bucket": buckets["right"]}),
            (mine.create_multipart_upload, their),
            (mine.delete_bucket, {"Bucket": buckets["right"]}),
            (mine.copy_object, {"Bucket": buckets["left"], "Key": "copy", "CopySource": their}),
            (mine.copy_object, {**their, "CopySource": {"Bucket": buckets["left"], "Key": "k"}}),
        ):
            with pytest.raises(ClientError, match=r"NoSuchBucket|AccessDenied|404|403"):
                call(**asked)

    await asyncio.to_thread(work)
    for source in (f"/{buckets['right']}/k/../k", f"/{buckets['left']}/../{buckets['right']}/k"):
        with pytest.raises(ClientError):
            await asyncio.to_thread(
                mine.copy_object, Bucket=buckets["left"], Key="copy", CopySource=quote(source, safe="")
            )
    await pair.untouched()


async def test_a_token_continues_its_own_listing_only(pair: Pair) -> None:
    await pair.world.put("left", "l", b"l")
    await pair.world.put("right", "l", b"l")
    page = (await pair.world.api.get("/v1/namespaces/right/objects", params={"max_results": 1})).json()
    token = page["next_token"]
    path = "/v1/namespaces/{}/objects"
    answer = await pair.world.api.get(path.format("left"), params={"token": token})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "INVALID_ARGUMENT")
    answer = await pair.world.api.get(path.format("right"), params={"token": token})
    assert [one["key"] for one in answer.json()["objects"]] == ["l"]


async def test_the_others_bucket_is_no_bucket_of_ours(pair: Pair) -> None:
    if pair.left.bucket == pair.right.bucket:
        pair.right = msgspec.structs.replace(pair.right, bucket="right")
    for bucket in (pair.right.bucket, f"../{pair.right.bucket}", "right"):
        for method in ("GET", "PUT", "DELETE"):
            answer = await pair.world.api.request(
                method,
                "/v1/namespaces/left/objects/k",
                params={"bucket": bucket},
                content=b"x" if method == "PUT" else None,
            )
            assert answer.status_code in {400, 404}, (bucket, method, answer.text)
            assert SECRET not in answer.content


async def test_one_place_has_one_namespace(tmp_path: Path) -> None:
    """The same prefix, one within the other, or the same place by another name of the server: refused at the start."""
    async with real_store("minio", prefix="p/") as store:
        for prefix in ("p/", "p/q/", ""):
            inner = msgspec.structs.replace(store, prefix=prefix)
            with pytest.raises(
                PrismError, match=r"namespaces\.two: its bytes lie at .* where those of namespace 'one'"
            ):
                config_on({"one": store, "two": inner}, tmp_path)
        alias = msgspec.structs.replace(store, endpoint=store.endpoint.replace("127.0.0.1", "localhost"))
        with pytest.raises(PrismError, match=r"namespaces\.two: its store belongs to namespace 'one'") as raised:
            async with prism_on({"one": store, "two": alias}, tmp_path):
                pass
        assert raised.value.code is ErrorCode.PERMISSION_DENIED
