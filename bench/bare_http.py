"""Baseline: Starlette that writes a body to a file and fsyncs it, and reads a file. `python -m bench.bare_http DIR`."""

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

_CHUNK = 1 << 20


def main() -> None:
    folder = Path(sys.argv[1])

    async def put(request: Request) -> Response:
        with (folder / request.path_params["name"]).open("wb", buffering=0) as file:
            pending = bytearray()
            async for piece in request.stream():
                pending += piece
                if len(pending) >= _CHUNK:
                    await asyncio.to_thread(file.write, pending)
                    pending = bytearray()
            if pending:
                await asyncio.to_thread(file.write, pending)
            await asyncio.to_thread(os.fsync, file.fileno())
        return Response(status_code=200)

    async def get(request: Request) -> Response:
        path = folder / request.path_params["name"]

        async def body() -> AsyncIterator[bytes]:
            with path.open("rb", buffering=0) as file:
                while chunk := await asyncio.to_thread(file.read, _CHUNK):
                    yield chunk

        return StreamingResponse(body(), headers={"content-length": str(path.stat().st_size)})

    app = Starlette(routes=[Route("/{name}", put, methods=["PUT"]), Route("/{name}", get)])
    listener = socket.create_server(("127.0.0.1", 0))
    print("ready " + json.dumps({"http": f"http://127.0.0.1:{listener.getsockname()[1]}"}), flush=True)
    config = uvicorn.Config(app, loop="uvloop", http="httptools", access_log=False, log_level="error")
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
