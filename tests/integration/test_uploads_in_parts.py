"""Uploads in parts by the upload API: parts straight to the store or through Prism, resumed, checked, put together."""

import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import google_crc32c
import pytest
from upload_support import BUCKET, KINDS, SPACE, World, world_over

from prism.failpoints import arm
from prism.tickets import UploadName

PART = 64 * 1024
CONTENT = bytes(range(256)) * 700 + b"the rest"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
CRC32C = base64.b64encode(google_crc32c.value(CONTENT).to_bytes(4, "big")).decode()
IN_PARTS = {"in_parts": True, "size_bytes": len(CONTENT), "part_size_bytes": PART}


@pytest.fixture(params=[kind for kind in KINDS if kind != "staging"])
async def world(request: Any, tmp_path: Path) -> AsyncIterator[World]:
    async with world_over(request.param, tmp_path, upload_session_seconds=86_400) as world:
        yield world
    arm("")


@pytest.mark.parametrize("declared", [{}, {"checksum_sha256": SHA256}, {"checksum_crc32c": CRC32C}], ids=str)
async def test_parts_become_the_object(world: World, declared: dict[str, str]) -> None:
    ticket = await world.create(content_type="a/b", metadata={"n": "1"}, **IN_PARTS)
    assert (ticket["url"], ticket["method"], ticket["parts"], ticket["part_size_bytes"]) == ("", "", 3, PART)
    await world.send_parts(ticket, CONTENT)
    assert await world.read() is None
    first = await world.complete(ticket, **declared)
    assert (first["size_bytes"], first["etag"][-2:]) == (len(CONTENT), "-3")
    assert first["checksum_sha256"] == declared.get("checksum_sha256")
    assert first["checksum_crc32c"] == CRC32C
    assert await world.complete(ticket, **declared) == first
    assert await world.read() == CONTENT
    head = await world.api.head(f"/v1/namespaces/{SPACE}/objects/k")
    assert (head.headers["content-type"], head.headers["prism-meta-n"]) == ("a/b", "1")
    assert (await world.ask("GET", ticket))["state"] == "completed"
    await world.until_clean()
    assert await world.read() == CONTENT


async def test_the_server_chooses_the_size_of_parts(world: World) -> None:
    for size, part, parts in (
        (0, 8 << 20, 1),
        (8 << 20, 8 << 20, 1),
        ((8 << 20) + 1, 8 << 20, 2),
        (78 << 30, 8 << 20, 9984),
        (100 << 30, 11 << 20, 9310),
        (5 << 40, 525 << 20, 9987),
    ):
        ticket = await world.create(in_parts=True, size_bytes=size)
        assert (ticket["part_size_bytes"], ticket["parts"]) == (part, parts)


async def test_it_is_resumed(world: World) -> None:
    ticket = await world.create(**IN_PARTS)
    first, last = await world.signed(ticket, 1, 3)
    await world.send(last, CONTENT[2 * PART :])
    known = {"upload_id": ticket["upload_id"]}
    found = await world.ask("GET", known)
    assert (found["state"], found["in_parts"], found["size_bytes"]) == ("open", True, len(CONTENT))
    assert [(part["number"], part["size_bytes"]) for part in found["parts"]] == [(3, len(CONTENT) - 2 * PART)]
    missing = await world.complete(known, status=400)
    assert (missing["code"], missing["context"]["part"]) == ("INVALID_ARGUMENT", "1")
    assert "1, 2" in missing["message"]
    world.clock.forward(seconds=3601)
    assert (await world.send(first, CONTENT[:PART])).status == 403
    for part in await world.signed(known, 1, 2):
        assert (await world.send(part, CONTENT[(part["number"] - 1) * PART :][:PART])).status == 200
    assert (await world.complete(known, checksum_sha256=SHA256))["size_bytes"] == len(CONTENT)
    assert await world.read() == CONTENT


async def test_a_session_lives_from_its_last_activity(world: World) -> None:
    ticket = await world.create(**IN_PARTS)
    for _ in range(3):
        world.clock.forward(hours=20)
        await world.signed(ticket, 1)
        await world.running.app.janitor.run_once()
    assert (await world.ask("GET", ticket))["state"] == "open"
    await world.send_parts(ticket, CONTENT)
    world.clock.forward(hours=27)
    await world.running.app.janitor.run_once()
    assert (await world.ask("GET", ticket, status=404))["code"] == "OBJECT_NOT_FOUND"
    assert (await world.ask("POST", ticket, "/parts", status=404, body={"numbers": [1]}))["code"] == "OBJECT_NOT_FOUND"
    assert (await world.complete(ticket, status=404))["code"] == "OBJECT_NOT_FOUND"
    await world.until_clean()
    assert await open_in_the_store(world, ticket) == 0


async def open_in_the_store(world: World, ticket: Any) -> int:
    """How many uploads in parts the store itself still has of it."""
    space, name = world.running.app.namespaces.get(SPACE), UploadName.of(ticket["upload_id"])
    return len(await space.store.open_multiparts(space.layout.physical(BUCKET, name.ref.key, name.version_id)))


async def test_given_up(world: World) -> None:
    ticket = await world.create(**IN_PARTS)
    (part,) = await world.signed(ticket, 1)
    await world.send(part, CONTENT[:PART])
    assert await open_in_the_store(world, ticket) == 1
    await world.ask("DELETE", ticket, status=204)
    assert await open_in_the_store(world, ticket) == 0
    assert (await world.ask("GET", ticket))["state"] == "gone"
    await world.until_clean()
    assert (await world.ask("GET", ticket, status=404))["code"] == "OBJECT_NOT_FOUND"


async def test_wrong_checksums_never_become_the_object(world: World) -> None:
    other = hashlib.sha256(b"other").hexdigest()
    for wrong in ({"checksum_sha256": other}, {"checksum_crc32c": "AAAAAA=="}):
        ticket = await world.create(**IN_PARTS, **wrong)
        assert [one["what"] for one in ticket["not_bound"]] == [next(iter(wrong)).removeprefix("checksum_")]
        await world.send_parts(ticket, CONTENT)
        assert (await world.complete(ticket, status=400))["code"] == "CHECKSUM_MISMATCH"
        assert await world.read() is None
        assert (await world.complete(ticket, status=400))["code"] == "CHECKSUM_MISMATCH"
    ticket = await world.create(**IN_PARTS, checksum_sha256=SHA256)
    assert (await world.complete(ticket, status=400, checksum_sha256="x"))["code"] == "INVALID_ARGUMENT"
    await world.send_parts(ticket, CONTENT)
    assert (await world.complete(ticket, status=400, checksum_sha256=other))["code"] == "CHECKSUM_MISMATCH"
    assert (await world.complete(ticket))["checksum_sha256"] == SHA256
    await world.until_clean()


async def test_a_precondition_is_judged_at_completion(world: World) -> None:
    ticket = await world.create(**IN_PARTS, if_none_match=["*"])
    await world.send_parts(ticket, CONTENT)
    at_once = await world.create()
    await world.send(at_once, b"first")
    await world.complete(at_once)
    assert (await world.complete(ticket, status=412))["code"] == "PRECONDITION_FAILED"
    assert (await world.complete(ticket, status=412))["code"] == "PRECONDITION_FAILED"
    assert await world.read() == b"first"


async def test_what_is_completed_later_is_the_later_write(world: World) -> None:
    """Also where a store dates an object by the beginning of its upload."""
    ticket = await world.create(**IN_PARTS, ttl_seconds=600)
    await world.send_parts(ticket, CONTENT)
    world.clock.forward(seconds=300)
    at_once = await world.create()
    await world.send(at_once, b"between")
    await world.complete(at_once)
    world.clock.forward(seconds=900)
    await world.complete(ticket)
    assert await world.read() == CONTENT
    world.clock.forward(seconds=300)
    assert await world.read() == CONTENT


@pytest.mark.parametrize("point", ["assembly.before_seal", "assembly.after_seal", "assembly.after_complete"])
async def test_a_completion_that_breaks_off_is_completed_by_repeating_it(world: World, point: str) -> None:
    ticket = await world.create(**IN_PARTS)
    await world.send_parts(ticket, CONTENT)
    arm(f"{point}=raise@1")
    assert (await world.complete(ticket, status=500))["code"] == "INTERNAL"
    if point == "assembly.after_complete":
        assert await world.read() == CONTENT
    first = await world.complete(ticket, checksum_sha256=SHA256)
    assert first["etag"].endswith("-3")
    assert await world.complete(ticket) == first
    assert await world.read() == CONTENT
    await world.until_clean()


async def test_parts_of_the_wrong_size(world: World) -> None:
    ticket = await world.create(**IN_PARTS)
    (part,) = await world.signed(ticket, 2)
    for wrong in (b"", CONTENT[: PART - 1], CONTENT[: PART + 1]):
        assert (await world.send(part, wrong)).status in {400, 403}, len(wrong)
    assert (await world.ask("GET", ticket))["parts"] == []


async def test_what_cannot_be(world: World) -> None:
    ticket = await world.create(**IN_PARTS)
    at_once = await world.create("other")
    for numbers in ([], [0], [-1], [4], [10_001], [1] * 101, [2**40], ["1"], None):
        error = await world.ask("POST", ticket, "/parts", status=400, body={"numbers": numbers})
        assert error["code"] == "INVALID_ARGUMENT", numbers
    assert len(await world.signed(ticket, 1, 1, 2)) == 2
    error = await world.ask("POST", at_once, "/parts", status=404, body={"numbers": [1]})
    assert error["code"] == "OBJECT_NOT_FOUND"
    for seconds in (-1, 3601):
        body = {"numbers": [1], "expires_in_seconds": seconds}
        assert (await world.ask("POST", ticket, "/parts", status=400, body=body))["code"] == "INVALID_ARGUMENT"
    too_many = await world.create(in_parts=True, size_bytes=10_001, part_size_bytes=1, status=400)
    assert too_many["code"] == "INVALID_ARGUMENT"


async def test_a_deleted_folder_takes_its_uploads_along(world: World) -> None:
    ticket = await world.create("a/k", **IN_PARTS)
    await world.send_parts(ticket, CONTENT)
    await world.api.delete(f"/v1/namespaces/{SPACE}/objects", params={"prefix": "a/"})
    assert (await world.complete(ticket, status=409))["code"] == "DELETED_MEANWHILE"
    error = await world.ask("POST", ticket, "/parts", status=409, body={"numbers": [1]})
    assert error["code"] == "DELETED_MEANWHILE"
    assert (await world.ask("GET", ticket))["state"] == "gone"
    await world.until_clean()
    assert await open_in_the_store(world, ticket) == 0
