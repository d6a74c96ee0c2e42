"""A store whose disk is full, on a small filesystem of its own; and one whose host has no address."""

import asyncio
import contextlib
import gc
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from s3_buckets import new_bucket
from stores import real_store
from trouble import MIB, World, held, world_of, world_over

from prism.config import load
from prism.testing.services import private_minio

FULL = "the store is full; nothing was stored"
ONE = secrets.token_bytes(8 * MIB)


@contextlib.contextmanager
def small_disk(folder: Path, size_mib: int) -> Iterator[Path]:
    """A filesystem of this size, in memory. It takes the right to mount, as root has it, and says so where it lacks."""
    folder.mkdir()
    size = f"size={size_mib}m"
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "none", folder], capture_output=True, check=False)
    assert made.returncode == 0, f"this test mounts a small filesystem, and may not: {made.stderr.decode().strip()}"
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


async def filled(world: World) -> int:
    """Put objects until the store has no room: how many it took. (At the edge MinIO answers 500 before it says why;
    whoever comes a little later is told.)"""
    for number in range(40):
        answer = await world.put("shaky", f"k{number:02}", ONE)
        if answer.status == 503:
            assert answer.code == "STORE_DOWN", answer
            return number
        assert answer.status in {200, 201}, answer
    raise AssertionError("it is never full")


async def full_and_freed(world: World, disk: Path) -> None:
    """What was acknowledged stays, what was refused is not there, deletions succeed, and with room it goes on. (MinIO
    gives the room of what was deleted free only after minutes, so the disk is made larger, too.)"""
    count = await filled(world)

    async def told() -> bool:
        answer = await world.put("shaky", "more", ONE * 3)
        assert answer.code == "STORE_DOWN", answer
        assert answer.seconds < 20
        return answer.message == FULL

    await world.until(told)
    assert await told()
    keys = [f"k{number:02}" for number in range(count)]
    assert await world.keys("shaky") == keys
    for key in keys:
        assert (await world.get("shaky", key)).holds == held(ONE)
    for key in keys[1:]:
        assert (await world.delete("shaky", key)).status in {200, 204}
    await world.clean()
    subprocess.run(["mount", "-o", "remount,size=400m", disk], check=True)

    async def taken() -> bool:
        return (await world.put("shaky", "more", ONE)).status in {200, 201}

    await world.until(taken)
    assert (await world.get("shaky", "more")).holds == held(ONE)
    await world.clean()


async def test_a_full_minio(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with small_disk(tmp_path / "minio", 160) as disk:
        async with (
            private_minio(disk) as server,
            new_bucket(server.service) as shaky,
            real_store("minio") as steady,
            world_over({"shaky": shaky, "steady": steady}, tmp_path) as world,
        ):
            await full_and_freed(world, disk)
            await world.works("steady")
    gc.collect()
    assert "never retrieved" not in caplog.text


async def test_a_full_local_disk(tmp_path: Path) -> None:
    """The catalog lies on another."""
    file = tmp_path / "prism.yaml"
    with small_disk(tmp_path / "disk", 48) as disk:
        file.write_text(f"namespaces: [{{name: shaky, backend: local, root: {disk}/blobs}}]")
        ports = {f"server.{name}.address": "127.0.0.1:0" for name in ("grpc", "http", "s3")}
        async with world_of(load(file, {}, data_dir=tmp_path / "data", overrides=ports)) as world:
            await full_and_freed(world, disk)


async def test_a_host_without_address(tmp_path: Path) -> None:
    """Nobody else waits for a name that cannot be looked up."""
    async with real_store("minio") as store, real_store("minio") as steady:
        shaky = msgspec.structs.replace(store, endpoint="http://no-such-host.invalid:9000")
        async with world_over({"shaky": shaky, "steady": steady}, tmp_path) as world:
            for content in (b"small", ONE * 2):
                answer, _ = await asyncio.gather(world.put("shaky", "k", content), world.works("steady"))
                assert (answer.status, answer.code) == (503, "STORE_DOWN"), answer
                assert answer.seconds < 20
            await world.tells_trouble()
