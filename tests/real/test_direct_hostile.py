"""Holders of URLs who send other than they should: no object is lost, changed or hidden by it, no key is blocked."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from stores import KINDS, prism_on, real_store

from prism.testing.plain_http import PlainHTTP
from prism.testing.running import Running

GOOD, EVIL = b"good bytes", b"evil bytes"
HTTP = PlainHTTP()


class World:
    """A Prism with one namespace over a real store."""

    def __init__(self, running: Running, api: httpx.AsyncClient, kind: str, bucket: str) -> None:
        self.running = running
        self.api = api
        self.kind = kind
        self.bucket = bucket

    async def declare(self, key: str, **fields: Any) -> Any:
        answer = await self.api.post("/v1/uploads", json={"namespace": "things", "key": key, **fields})
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def presign(self, key: str, method: str = "PUT") -> Any:
        answer = await self.api.post("/v1/namespaces/things/presign", json={"key": key, "method": method})
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def send(self, signed: Any, content: bytes, **headers: str) -> int:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return (await HTTP("PUT", signed["url"], {**signed["headers"], **named}, content)).status

    async def complete(self, ticket: Any) -> httpx.Response:
        return await self.api.post(f"/v1/uploads/{ticket['upload_id']}/complete")

    async def get(self, key: str) -> httpx.Response:
        return await self.api.get(f"/v1/namespaces/things/objects/{key}")

    async def put(self, key: str, content: bytes) -> int:
        return (await self.api.put(f"/v1/namespaces/things/objects/{key}", content=content)).status_code

    async def keys(self) -> list[str]:
        answer = await self.api.get("/v1/namespaces/things/objects")
        assert answer.status_code == 200, answer.text
        return [one["key"] for one in answer.json()["objects"]]

    async def physical(self, key: str) -> str:
        """Where an object's bytes lie, as the path of a URL that reads them shows to whoever has one."""
        return httpx.URL((await self.presign(key, "GET"))["url"]).path


@pytest.fixture(params=KINDS)
async def world(request: Any, tmp_path: Path) -> AsyncIterator[World]:
    async with (
        real_store(request.param) as store,
        prism_on({"things": store}, tmp_path) as running,
        httpx.AsyncClient(base_url=running.http, timeout=60) as api,
    ):
        yield World(running, api, request.param, store.bucket)


async def test_no_header_that_was_not_signed_changes_an_object(world: World) -> None:
    """MinIO copies by a header that no signature covers."""
    await world.put("evil", EVIL)
    source = await world.physical("evil")
    sha256 = hashlib.sha256(GOOD).hexdigest()
    ticket = await world.declare("done", size_bytes=len(GOOD), checksum_sha256=sha256)
    assert await world.send(ticket, GOOD) in {200, 201}
    assert (await world.complete(ticket)).status_code == 200
    await world.send(ticket, GOOD, x_amz_copy_source=source)
    assert (await world.get("done")).content == GOOD


async def test_no_header_that_was_not_signed_passes_by_the_checksum(world: World) -> None:
    await world.put("evil", EVIL)
    source = await world.physical("evil")
    sha256 = hashlib.sha256(GOOD).hexdigest()
    ticket = await world.declare("new", size_bytes=len(GOOD), checksum_sha256=sha256)
    await world.send(ticket, GOOD, x_amz_copy_source=source)
    answer = await world.complete(ticket)
    if answer.status_code == 200:
        assert (await world.get("new")).content == GOOD
    else:
        assert answer.status_code in {400, 503}
        assert (await world.get("new")).status_code == 404


@pytest.mark.parametrize("said", ["t\xe9xt/\xff", "a\tb", "text/html; x=" + "a" * 300, "  "])
async def test_a_type_that_nothing_can_carry_is_left_away(world: World, said: str) -> None:
    """The object is there all the same, and nobody else is kept from his own."""
    await world.put("mine", GOOD)
    at_once = await world.presign("odd")
    if await world.send(at_once, EVIL, content_type=said) in {200, 201}:
        found = await world.get("odd")
        assert (found.status_code, found.content) == (200, EVIL)
        assert found.headers["content-type"].split("/")[0] in {"application", "binary"}
    ticket = await world.declare("bound", size_bytes=len(GOOD))
    if await world.send(ticket, GOOD, content_type=said) in {200, 201}:
        assert (await world.complete(ticket)).status_code == 200
        found = await world.get("bound")
        assert (found.status_code, found.content) == (200, GOOD)
    assert "mine" in await world.keys()
    assert await world.put("odd", GOOD) == 200


@pytest.mark.parametrize("name", ["cache_control", "content_disposition", "content_language"])
async def test_other_headers_that_nothing_can_carry_do_no_harm(world: World, name: str) -> None:
    await world.put("mine", GOOD)
    ticket = await world.declare("bound", size_bytes=len(GOOD))
    if await world.send(ticket, GOOD, **{name: "\xe9"}) in {200, 201}:
        assert (await world.complete(ticket)).status_code == 200
        assert (await world.get("bound")).content == GOOD
    assert "mine" in await world.keys()


async def test_bytes_that_were_sent_to_an_archive_block_no_key(world: World) -> None:
    """Whoever holds a URL of Azure's chooses the tier; from an archive nothing can be read or copied for hours."""
    await world.put("k", GOOD)
    signed = await world.presign("k")
    if await world.send(signed, EVIL, x_ms_access_tier="Archive") in {200, 201} and world.kind == "azure":
        assert (await world.get("k")).content == GOOD
        assert await world.put("k", GOOD) == 200
    assert await world.keys() == ["k"]


async def test_a_lifetime_of_a_second_lasts_a_second(world: World) -> None:
    """Bytes that land at the end of a second whose beginning is all that the store tells."""
    ticket = await world.declare("brief", size_bytes=len(GOOD), ttl_seconds=1)
    while not 0.8 < time.time() % 1 < 0.9:
        await asyncio.sleep(0.01)
    began = time.monotonic()
    assert await world.send(ticket, GOOD) in {200, 201}
    while (await world.get("brief")).status_code == 200:
        await asyncio.sleep(0.02)
        assert time.monotonic() < began + 10
    assert time.monotonic() > began + 1


async def test_bytes_that_were_leased_for_good_can_be_deleted(world: World) -> None:
    """A URL of Azure's that writes may lease, too."""
    await world.put("beside", GOOD)
    signed = await world.presign("k")
    assert await world.send(signed, EVIL) in {200, 201}
    lease = {"x-ms-lease-action": "acquire", "x-ms-lease-duration": "-1"}
    answer = await HTTP("PUT", f"{signed['url']}&comp=lease", lease, b"")
    assert answer.status in ({201} if world.kind == "azure" else {400, 403})
    store = world.running.app.namespaces.get("things").store
    keys = [entry.key for entry in await store.list("") if not entry.key.endswith("~owner")]
    results = await store.delete_many(keys)
    assert [result.error for result in results] == [None] * len(keys)
    assert {entry.key for entry in await store.list("")} & set(keys) == set()
