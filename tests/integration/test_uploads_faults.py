"""Uploads in parts over a store that fails, and over a Prism that is started again: a clear answer, then it goes on."""

import asyncio
import hashlib
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any

import pytest
from s3_support import BUCKET, boto, error_code
from upload_support import SPACE, world_over

from prism.blob.driver import Driver, Part
from prism.model import ObjectRef
from prism.testing.faulty_blob import Fault, FaultyBlob
from prism.tickets import UploadName

CONTENT = b"0123456789" * 10_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
IN_PARTS = {"in_parts": True, "size_bytes": len(CONTENT), "part_size_bytes": 40_000}
KINDS = pytest.mark.parametrize("kind", ["memory", "signing"])


class Faults:
    """Puts a faulty layer round each store and keeps it."""

    def __init__(self) -> None:
        self.stores: list[FaultyBlob] = []

    def wrap(self, driver: Driver) -> Driver:
        self.stores.append(FaultyBlob(driver))
        return self.stores[-1]

    def inject(self, verb: str, *faults: Fault) -> None:
        for store in self.stores:
            store.inject(verb, *faults)


@KINDS
async def test_a_beginning_that_fails_leaves_nothing(kind: str, tmp_path: Path) -> None:
    faults = Faults()
    async with world_over(kind, tmp_path, faults.wrap) as world:
        for fault in (Fault.DOWN, Fault.ANSWER_LOST):
            faults.stores[0].inject("create_multipart", fault)
            assert (await world.create(status=503, **IN_PARTS))["code"] == "STORE_DOWN"
        await world.until_clean()
        await world.create(**IN_PARTS)


async def test_a_part_that_fails_is_sent_again(tmp_path: Path) -> None:
    faults = Faults()
    async with world_over("memory", tmp_path, faults.wrap) as world:
        ticket = await world.create(**IN_PARTS)
        (part,) = await world.signed(ticket, 1)
        for fault in (Fault.DOWN, Fault.RESET, Fault.ANSWER_LOST):
            faults.stores[0].inject("put_part", fault)
            assert (await world.send(part, CONTENT[:40_000])).status == 503
        await world.send_parts(ticket, CONTENT)
        await world.complete(ticket, checksum_sha256=SHA256)
        assert await world.read() == CONTENT


@KINDS
@pytest.mark.parametrize("fault", [Fault.DOWN, Fault.ANSWER_LOST, Fault.RESET], ids=lambda fault: fault.name)
async def test_a_completion_that_fails_is_repeated(kind: str, fault: Fault, tmp_path: Path) -> None:
    faults = Faults()
    async with world_over(kind, tmp_path, faults.wrap) as world:
        ticket = await world.create(**IN_PARTS)
        await world.send_parts(ticket, CONTENT)
        faults.stores[0].inject("complete_multipart", fault)
        error = await world.complete(ticket, status=503)
        assert (error["code"], error["retryable"]) == ("OUTCOME_UNKNOWN", True)
        done = await world.complete(ticket, checksum_sha256=SHA256)
        assert await world.complete(ticket) == done
        assert await world.read() == CONTENT
        await world.until_clean()


@KINDS
async def test_a_completion_that_lands_late_is_found(kind: str, tmp_path: Path) -> None:
    faults = Faults()
    async with world_over(kind, tmp_path, faults.wrap) as world:
        ticket = await world.create(**IN_PARTS)
        await world.send_parts(ticket, CONTENT)
        faults.stores[0].inject("complete_multipart", Fault.LATE)
        await world.complete(ticket, status=503)
        assert await world.read() is None
        await faults.stores[0].land()
        assert await world.read() == CONTENT
        assert (await world.complete(ticket))["size_bytes"] == len(CONTENT)
        await world.until_clean()


@KINDS
async def test_a_look_that_fails_says_nothing_of_the_upload(kind: str, tmp_path: Path) -> None:
    faults = Faults()
    async with world_over(kind, tmp_path, faults.wrap) as world:
        ticket = await world.create(**IN_PARTS)
        await world.send_parts(ticket, CONTENT)
        for _ in range(2):
            faults.stores[0].inject("list_parts", Fault.DOWN)
            assert (await world.ask("GET", ticket, status=503))["code"] == "STORE_DOWN"
            faults.stores[0].inject("list_parts", Fault.DOWN)
            assert (await world.complete(ticket, status=503))["code"] == "STORE_DOWN"
        faults.stores[0].inject("abort_multipart", Fault.DOWN)
        await world.ask("DELETE", ticket, status=204)
        await world.until_clean()


async def test_it_goes_on_after_prism_was_started_again(tmp_path: Path) -> None:
    async with world_over("local", tmp_path) as world:
        ticket = await world.create(**IN_PARTS)
        (part,) = await world.signed(ticket, 2)
        assert (await world.send(part, CONTENT[40_000:80_000])).status == 200
    async with world_over("local", tmp_path) as world:
        assert [part["number"] for part in (await world.ask("GET", ticket))["parts"]] == [2]
        for part in await world.signed(ticket, 1, 3):
            assert (await world.send(part, CONTENT[(part["number"] - 1) * 40_000 :][:40_000])).status == 200
        done = await world.complete(ticket, checksum_sha256=SHA256)
    async with world_over("local", tmp_path) as world:
        assert await world.complete(ticket) == done
        assert await world.read() == CONTENT
        await world.until_clean()


@KINDS
async def test_given_up_while_it_is_completed(kind: str, tmp_path: Path) -> None:
    """Whoever is first has his way, and the other hears of it; nothing is left over."""
    async with world_over(kind, tmp_path) as world:
        for number in range(8):
            ticket = await world.create(f"k{number}", **IN_PARTS)
            await world.send_parts(ticket, CONTENT)
            where = f"/v1/uploads/{ticket['upload_id']}"
            done, gone = await asyncio.gather(world.api.post(f"{where}/complete"), world.api.delete(where))
            there = await world.read(f"k{number}")
            assert (done.status_code == 200) == (there == CONTENT), (done.text, gone.text)
            assert (gone.status_code == 204) == (there is None), (done.text, gone.text)
        await world.until_clean()


@pytest.mark.parametrize("lands", [True, False], ids=["lands", "lost"])
async def test_other_parts_wait_for_a_completion_under_way(lands: bool, tmp_path: Path) -> None:
    """Two choices of parts never mix: the second is refused while the first may still land, and counts afterwards."""
    faults = Faults()
    async with world_over("signing", tmp_path, faults.wrap) as world:
        s3 = boto(world.running.s3)
        here = {"Bucket": BUCKET, "Key": "k"}
        this = {**here, "UploadId": (await asyncio.to_thread(s3.create_multipart_upload, **here))["UploadId"]}
        etags = [
            (await asyncio.to_thread(s3.upload_part, **this, PartNumber=number, Body=b"%d" % number * number))["ETag"]
            for number in (1, 2)
        ]
        chosen = [{"Parts": [{"PartNumber": n, "ETag": etags[n - 1]}]} for n in (1, 2)]
        faults.stores[0].inject("complete_multipart", Fault.LATE if lands else Fault.DOWN)
        for choice in chosen:
            code = await asyncio.to_thread(error_code, s3.complete_multipart_upload, **this, MultipartUpload=choice)
            assert code == "ServiceUnavailable"
        if lands:
            await faults.stores[0].land()
            assert await world.read() == b"1"
        else:
            world.clock.forward(seconds=200)
            name = UploadName(ObjectRef(SPACE, BUCKET, "k"), this["UploadId"])
            done = await world.complete({"upload_id": name.upload_id}, status=200)
            assert done["size_bytes"] == 3
            assert await world.read() == b"122"


class Vanishing:
    """A driver whose parts are taken away by somebody else while they are listed."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.meanwhile: Awaitable[object] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)

    async def list_parts(self, key: str, upload: str) -> Sequence[Part]:
        found = await self._driver.list_parts(key, upload)  # type: ignore[attr-defined]  # it takes parts
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is None:
            return list(found)
        await meanwhile
        return list(found)[:1]


@pytest.mark.parametrize("completed", [True, False])
async def test_a_completion_that_another_request_overtakes(completed: bool, tmp_path: Path) -> None:
    """It hears what became of the upload, not that parts are missing."""
    stores: list[Vanishing] = []

    def wrap(driver: Driver) -> Driver:
        stores.append(Vanishing(driver))
        return stores[-1]  # type: ignore[return-value]  # delegates the rest

    async with world_over("memory", tmp_path, wrap) as world:
        ticket = await world.create(**IN_PARTS)
        await world.send_parts(ticket, CONTENT)

        meanwhile = world.complete(ticket) if completed else world.ask("DELETE", ticket, status=204)
        stores[0].meanwhile = meanwhile
        answer = await world.complete(ticket, status=200 if completed else 404)
        if completed:
            assert await world.complete(ticket) == answer
