"""Uploads in parts whose requests reach the store late: a choice that was replaced, parts that nobody needs."""

import asyncio
from datetime import timedelta

import pytest
from direct_support import ALL, fails
from world import Process, World, pieces

from prism import assembly
from prism.blob.driver import WriteOptions
from prism.catalog.rows import PromiseRow
from prism.errors import ErrorCode
from prism.model import Declared, PutOptions
from prism.testing.faulty_blob import Fault, FaultyBlob
from prism.tickets import Chosen


@pytest.fixture
def world(_config) -> World:
    return World(_config, ALL)


async def begun(prism: Process, *parts: bytes, part_bytes: int = 0) -> tuple[PromiseRow, list[str]]:
    """An upload of any size whose parts have come through Prism; their etags."""
    space = prism.spaces["things"]
    upload = await assembly.begin(space, "things", "k", PutOptions(), part_bytes, timedelta(hours=2))
    etags = []
    for number, content in enumerate(parts, 1):
        arrived = await assembly.take(space, upload, number, pieces(content), Declared(size_bytes=len(content)))
        etags.append(arrived.etag)
    return upload, etags


async def test_a_choice_of_parts_that_was_replaced_reaches_the_store_no_more(world: World) -> None:
    faulty = FaultyBlob(world.drivers["things"])
    prism = world.start(wrap_blob=lambda driver: faulty if driver is world.drivers["things"] else driver)
    space = prism.spaces["things"]
    upload, etags = await begun(prism, b"first", b"other")
    faulty.inject("complete_multipart", Fault.HANG, Fault.RESET)
    paused = asyncio.ensure_future(assembly.put_together(space, upload, Chosen(parts=[(1, etags[0])])))
    while not faulty.calls["complete_multipart"]:
        await asyncio.sleep(0)
    world.clock.forward(1800)
    second = Chosen(parts=[(2, etags[1])])
    await fails(ErrorCode.OUTCOME_UNKNOWN, assembly.put_together(space, upload, second))
    faulty.release()
    await fails(ErrorCode.OUTCOME_UNKNOWN, paused)
    row = await assembly.put_together(space, upload, second)
    assert await prism.get("k") == b"other"
    assert row.size_bytes == 5
    await world.check()
    await world.rest(prism)


@pytest.mark.parametrize("end", ["kept", "overwritten", "deleted"])
async def test_what_is_begun_under_its_key_after_the_object_is_there_is_aborted(world: World, end: str) -> None:
    """A request of the beginning that was sent twice, and part URLs of stores that keep parts as objects, may land
    until the upload's URLs are dead."""
    prism = world.start()
    space, store = prism.spaces["things"], world.blobs["things"]
    upload, _ = await begun(prism, b"first")
    row = await assembly.put_together(space, upload, Chosen())
    assert row.physical_key == upload.physical_key
    late = await store.create_multipart(upload.physical_key, WriteOptions())
    await store.put_part(upload.physical_key, late, 1, pieces(b"late"), 4)
    if end == "deleted":
        await prism.delete("k")
    elif end == "overwritten":
        await prism.put("k", b"after")
    await world.rest(prism)
    assert await store.open_multiparts(upload.physical_key) == []
    if end == "kept":
        assert await prism.get("k") == b"first"
