"""Baseline: grpcio.aio on the same stubs; puts write a file and fsync it, gets read a file, heads answer a constant.
`python -m bench.bare_grpc DIR`."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import uvloop
from prism_sdk.stubs.prism.objectstore import object_store_pb2 as pb
from prism_sdk.stubs.prism.objectstore import object_store_pb2_grpc as services

_CHUNK = 1 << 20
_HEAD = pb.HeadObjectResponse(
    content_type="text/plain", size_bytes=4096, etag="0" * 32, last_modified=1, expires_at=2, version_id="0" * 26
)


class Bare(services.ObjectStoreServiceServicer):  # type: ignore[misc]  # the stubs are untyped
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def PutObject(self, messages: AsyncIterator[pb.PutObjectRequest], context: object) -> pb.PutObjectResponse:
        file, size = None, 0
        async for message in messages:
            if file is None:
                file = (self._folder / message.key).open("wb", buffering=0)
            await asyncio.to_thread(file.write, message.chunk)
            size += len(message.chunk)
        assert file is not None
        await asyncio.to_thread(os.fsync, file.fileno())
        file.close()
        return pb.PutObjectResponse(size_bytes=size)

    async def GetObject(self, request: pb.GetObjectRequest, context: object) -> AsyncIterator[pb.GetObjectResponse]:
        with (self._folder / request.key).open("rb", buffering=0) as file:
            while chunk := await asyncio.to_thread(file.read, _CHUNK):
                yield pb.GetObjectResponse(chunk=chunk)

    async def HeadObject(self, request: pb.HeadObjectRequest, context: object) -> pb.HeadObjectResponse:
        return _HEAD


async def serve(folder: Path) -> None:
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 5 << 20)])
    services.add_ObjectStoreServiceServicer_to_server(Bare(folder), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print("ready " + json.dumps({"grpc": f"127.0.0.1:{port}"}), flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await server.stop(None)


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1])))
