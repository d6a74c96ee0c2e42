"""A server that is told to end while its store is silent: it ends in time, whatever is under way."""

import asyncio
import contextlib
import signal
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest
from program import serving
from stores import KINDS, config_on, real_store

from prism.testing.toxiproxy import proxy_before

SHUTDOWN_SECONDS = 2
SPARE_SECONDS = 15
"""For what is undone, the janitor's step, and two slow cores."""


@pytest.mark.parametrize("kind", KINDS)
async def test_in_time_while_the_store_is_silent(kind: str, tmp_path: Path) -> None:
    async with real_store(kind) as store:
        at = urlsplit(store.endpoint)
        async with proxy_before(at.netloc) as line:
            silent = msgspec.structs.replace(store, endpoint=f"{line.url}{at.path}", request_seconds=60.0)
            config_on({"things": silent}, tmp_path, server={"shutdown_seconds": SHUTDOWN_SECONDS})
            arguments = ("--config", str(tmp_path / "prism.json"))
            with serving(tmp_path / "data", *arguments) as program:
                api = f"{program.http}/v1/namespaces/things"
                async with httpx.AsyncClient(timeout=60) as client:
                    assert (await client.put(f"{api}/objects/before", content=b"before")).is_success
                    await line.timeout()
                    calls = [
                        client.put(f"{api}/objects/small", content=b"small"),
                        client.put(f"{api}/objects/big", content=bytes(12 * 2**20)),
                        client.get(f"{api}/objects/before"),
                        client.post(f"{program.http}/v1/uploads", json=IN_PARTS),
                    ]
                    under_way = asyncio.gather(*calls, return_exceptions=True)
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(asyncio.shield(under_way), 2)
                    began = time.monotonic()
                    program.process.send_signal(signal.SIGTERM)
                    code = await asyncio.to_thread(program.process.wait, 90)
                    assert time.monotonic() - began < SHUTDOWN_SECONDS + SPARE_SECONDS
                    assert code == 0, program.said()[-2000:]
                    await under_way


IN_PARTS = {"namespace": "things", "key": "parts", "size_bytes": 100, "in_parts": True}
