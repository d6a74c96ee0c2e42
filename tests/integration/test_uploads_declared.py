"""Uploads that are declared beforehand and sent at once: by Prism's own URLs, a signing store's, or a staging key."""

import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import google_crc32c
import pytest
from upload_support import KINDS, SPACE, World, world_over

CONTENT = b"what was declared " * 5000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
CRC32C = base64.b64encode(google_crc32c.value(CONTENT).to_bytes(4, "big")).decode()


@pytest.fixture(params=KINDS)
async def world(request: Any, tmp_path: Path) -> AsyncIterator[World]:
    async with world_over(request.param, tmp_path) as world:
        yield world


async def test_declare_send_complete(world: World) -> None:
    facts = {"size_bytes": len(CONTENT), "checksum_sha256": SHA256.upper(), "content_type": "image/png"}
    ticket = await world.create(metadata={"n": "1"}, **facts)
    assert (ticket["method"], ticket["in_parts"], ticket["parts"]) == ("PUT", False, 0)
    assert (await world.ask("GET", ticket))["state"] == "open"
    early = await world.complete(ticket, status=503)
    assert (early["code"], early["retryable"]) == ("UPLOAD_PENDING", True)
    assert (await world.send(ticket, CONTENT)).status == 200
    first = await world.complete(ticket)
    assert (first["size_bytes"], first["checksum_sha256"], first["key"]) == (len(CONTENT), SHA256, "k")
    assert await world.complete(ticket) == first
    assert await world.read() == CONTENT
    head = await world.api.head(f"/v1/namespaces/{SPACE}/objects/k")
    assert (head.headers["content-type"], head.headers["prism-meta-n"]) == ("image/png", "1")
    assert (await world.ask("GET", ticket))["state"] == "completed"
    await world.until_clean()
    assert await world.read() == CONTENT


async def test_a_read_sees_it_without_completion(world: World) -> None:
    ticket = await world.create(size_bytes=len(CONTENT))
    assert (await world.send(ticket, CONTENT)).status == 200
    assert await world.read() == CONTENT
    assert (await world.ask("GET", ticket))["state"] == "completed"
    assert (await world.complete(ticket))["size_bytes"] == len(CONTENT)


async def test_the_ticket_says_what_the_store_cannot_hold_a_sender_to(world: World) -> None:
    ticket = await world.create(
        size_bytes=len(CONTENT), checksum_sha256=SHA256, checksum_crc32c=CRC32C, content_type="a/b", metadata={"n": "1"}
    )
    told = {one["what"]: one["checked_by"] for one in ticket["not_bound"]}
    assert set(told) == ({"create_only", "metadata", "sha256", "crc32c"} if world.kind == "staging" else set())
    assert all(len(sentence) > 20 for sentence in told.values())


async def test_other_bytes_never_become_the_object(world: World) -> None:
    other = CONTENT[:-1] + b"!"
    ticket = await world.create(checksum_sha256=SHA256)
    refused = await world.send(ticket, other)
    if world.kind == "staging":
        assert refused.status == 200
        assert (await world.complete(ticket, status=400))["code"] == "CHECKSUM_MISMATCH"
    else:
        assert refused.status == 400
        assert (await world.complete(ticket, status=503))["code"] == "UPLOAD_PENDING"
    assert await world.read() is None
    assert (await world.send(ticket, CONTENT)).status == 200
    assert (await world.complete(ticket))["checksum_sha256"] == SHA256
    assert await world.read() == CONTENT


async def test_another_size_never_becomes_the_object(world: World) -> None:
    ticket = await world.create(size_bytes=3)
    assert (await world.send(ticket, b"four")).status in {400, 403}
    assert await world.read() is None


async def test_checksums_may_be_said_at_the_end(world: World) -> None:
    ticket = await world.create()
    await world.send(ticket, CONTENT)
    for wrong in ({"checksum_sha256": "0" * 64}, {"checksum_crc32c": "AAAAAA=="}):
        first = await world.create("other")
        await world.send(first, CONTENT)
        assert (await world.complete(first, status=400, **wrong))["code"] == "CHECKSUM_MISMATCH"
    assert (await world.complete(ticket, checksum_sha256=SHA256, checksum_crc32c=CRC32C))["size_bytes"] == len(CONTENT)
    assert (await world.complete(ticket, checksum_sha256=SHA256))["size_bytes"] == len(CONTENT)
    contradicted = await world.complete(ticket, status=400, checksum_sha256="0" * 64)
    assert contradicted["code"] in {"CHECKSUM_MISMATCH", "INVALID_ARGUMENT"}


async def test_a_precondition_is_judged_when_the_bytes_are_taken(world: World) -> None:
    loser = await world.create(if_none_match=["*"])
    winner = await world.create(if_none_match=["*"])
    assert (await world.send(winner, b"first")).status == 200
    await world.complete(winner)
    assert (await world.send(loser, b"second")).status in {200, 412}
    assert (await world.complete(loser, status=412))["code"] == "PRECONDITION_FAILED"
    assert await world.read() == b"first"
    etag = (await world.complete(winner))["etag"]
    third = await world.create(if_match=[etag])
    assert (await world.send(third, b"third")).status == 200
    await world.complete(third)
    assert await world.read() == b"third"


async def test_a_bound_url_works_once(world: World) -> None:
    ticket = await world.create()
    assert (await world.send(ticket, b"one")).status == 200
    await world.complete(ticket)
    again = await world.send(ticket, b"two")
    assert again.status == (200 if world.kind == "staging" else 412)
    assert await world.read() == (b"two" if world.kind == "staging" else b"one")


async def test_lifetimes(world: World) -> None:
    short = await world.create("short", ttl_seconds=60)
    await world.send(short, b"x")
    assert (await world.complete(short))["expires_at"] is not None
    endless = await world.create("endless", no_expiration=True)
    await world.send(endless, b"x")
    assert (await world.complete(endless))["expires_at"] is None
    assert (await world.create(status=400, no_expiration=True, ttl_seconds=60))["code"] == "INVALID_ARGUMENT"
    world.clock.forward(seconds=62)
    assert (await world.read("short"), await world.read("endless")) == (None, b"x")


async def test_given_up(world: World) -> None:
    ticket = await world.create()
    await world.ask("DELETE", ticket, status=204)
    assert (await world.ask("DELETE", ticket, status=404))["code"] == "OBJECT_NOT_FOUND"
    assert (await world.ask("GET", ticket))["state"] == "gone"
    assert (await world.complete(ticket, status=404))["code"] == "OBJECT_NOT_FOUND"
    await world.send(ticket, b"late")
    assert await world.read() is None
    await world.until_clean()


async def test_out_of_time(world: World) -> None:
    ticket = await world.create(expires_in_seconds=60)
    world.clock.forward(seconds=61)
    assert (await world.send(ticket, b"late")).status == 403
    await world.until_clean()
    assert (await world.complete(ticket, status=404))["code"] == "OBJECT_NOT_FOUND"
    assert (await world.ask("GET", ticket, status=404))["code"] == "OBJECT_NOT_FOUND"


async def test_a_deleted_folder_takes_its_uploads_along(world: World) -> None:
    ticket = await world.create("a/b")
    await world.api.delete(f"/v1/namespaces/{SPACE}/objects", params={"prefix": "a/"})
    await world.send(ticket, b"late")
    assert (await world.complete(ticket, status=409))["code"] == "DELETED_MEANWHILE"
    assert await world.read("a/b") is None


async def test_what_cannot_be(world: World) -> None:
    for fields in (
        {"size_bytes": -1},
        {"size_bytes": 2**63},
        {"checksum_sha256": "abc"},
        {"checksum_crc32c": "////////"},
        {"expires_in_seconds": 3601},
        {"expires_in_seconds": -1},
        {"in_parts": True},
        {"part_size_bytes": 5},
        {"in_parts": True, "size_bytes": 2**40, "part_size_bytes": 1},
        {"unknown": 1},
        {"content_type": "a\r\nb"},
        {"metadata": {"UPPER": "x"}},
    ):
        assert (await world.create(status=400, **fields))["code"] == "INVALID_ARGUMENT", fields
    assert (await world.create("", status=400))["code"] == "INVALID_ARGUMENT"
    assert (await world.create("k" * 1025, status=400))["code"] == "INVALID_ARGUMENT"
    assert (await world.create(status=413, size_bytes=2**62))["code"] == "TOO_LARGE"
    assert (await world.create(bucket="never-made", status=404))["code"] == "BUCKET_NOT_FOUND"
    assert (await world.create(namespace="never", status=404))["code"] == "NAMESPACE_NOT_FOUND"
    assert not await world.rows("u")


async def test_a_key_has_so_many_open_uploads(world: World) -> None:
    for _ in range(32):
        await world.create()
    assert (await world.create(status=429))["code"] == "TOO_MANY_UPLOADS"


@pytest.mark.parametrize("ended", ["deleted", "overwritten"])
async def test_a_completed_upload_that_is_no_more_the_object(world: World, ended: str) -> None:
    """The same on every store, also where its URL could still write: nobody is told to send the bytes again."""
    ticket = await world.create(size_bytes=len(CONTENT))
    await world.send(ticket, CONTENT)
    await world.complete(ticket)
    await world.ask("DELETE", ticket, status=404)
    assert await world.read() == CONTENT
    await world.complete(ticket)
    if ended == "deleted":
        await world.api.delete(f"/v1/namespaces/{SPACE}/objects/k")
    else:
        await world.api.put(f"/v1/namespaces/{SPACE}/objects/k", content=b"other")
    await world.complete(ticket, status=404)
    assert (await world.ask("GET", ticket))["state"] == "completed"
    await world.ask("DELETE", ticket, status=404)
