"""ObjectStoreService and NamespaceService: each RPC is one call of a service, between two translations.

A put's header stands in the first message; the reader below hands on chunks only, and raises where a later message says
something else or a chunk is too long. A get's first message carries what is known of the whole object.
"""

import contextlib
from collections.abc import AsyncGenerator, Mapping

import grpc
from prism_sdk.frames import GET_TAG, PUT_TAG, chunk_of, frame
from prism_sdk.stubs.prism.objectstore import namespaces_pb2 as spaces
from prism_sdk.stubs.prism.objectstore import object_store_pb2 as store

from ..errors import ErrorCode, PrismError
from ..model import Caller, ObjectRef, PutOptions
from . import grpc_messages as wire
from .grpc_calls import Calls, Stream
from .services import Services

__all__ = ["MAX_CHUNK_BYTES", "NAMESPACE_SERVICE", "OBJECT_SERVICE", "namespace_methods", "object_methods"]

OBJECT_SERVICE: str = store.DESCRIPTOR.services_by_name["ObjectStoreService"].full_name
NAMESPACE_SERVICE: str = spaces.DESCRIPTOR.services_by_name["NamespaceService"].full_name
MAX_CHUNK_BYTES = 4 << 20


def object_methods(services: Services, calls: Calls) -> Mapping[str, grpc.RpcMethodHandler]:
    """The seven RPCs of ObjectStoreService."""
    rpcs = _ObjectStoreService(services)
    return {
        "PutObject": calls.upload(rpcs.put),
        "GetObject": calls.download(store.GetObjectRequest, rpcs.get),
        "DeleteObject": calls.unary(store.DeleteObjectRequest, rpcs.delete),
        "ListObjects": calls.unary(store.ListObjectsRequest, rpcs.list_page),
        "HeadObject": calls.unary(store.HeadObjectRequest, rpcs.head),
        "GetPresignedURL": calls.unary(store.PresignedURLRequest, rpcs.presign),
        "CopyObject": calls.unary(store.CopyObjectRequest, rpcs.copy, moves_bytes=True),
    }


def namespace_methods(services: Services, calls: Calls) -> Mapping[str, grpc.RpcMethodHandler]:
    """The RPCs of NamespaceService."""
    rpcs = _NamespaceService(services)
    return {
        "DeletePrefix": calls.unary(spaces.DeletePrefixRequest, rpcs.delete_prefix),
        "ListExpiring": calls.unary(spaces.ListExpiringRequest, rpcs.list_expiring),
        "GetUsage": calls.unary(spaces.GetUsageRequest, rpcs.get_usage),
    }


class _ObjectStoreService:
    def __init__(self, services: Services) -> None:
        self._objects = services.objects
        self._uploads = services.uploads

    async def put(self, caller: Caller, stream: Stream) -> store.PutObjectResponse:
        header = await _header(stream)
        async with contextlib.aclosing(_chunks(stream, header)) as chunks:
            return wire.stored(await self._objects.put(caller, wire.ref_of(header), chunks, wire.put_options(header)))

    async def get(self, caller: Caller, request: store.GetObjectRequest, stream: Stream) -> None:
        opened = await self._objects.get(
            caller, wire.ref_of(request), wire.range_of(request), wire.conditions(request.if_match)
        )
        head = wire.first_of_get(opened.info).SerializeToString()
        try:
            async for chunk in opened.chunks():
                await stream.write(frame(GET_TAG, chunk, head))
                head = b""
            if head:
                await stream.write(head)
        finally:
            await opened.aclose()

    async def delete(self, caller: Caller, request: store.DeleteObjectRequest) -> store.DeleteObjectResponse:
        deleted = await self._objects.delete(caller, wire.ref_of(request), wire.precondition(request))
        return store.DeleteObjectResponse(deleted=deleted)

    async def list_page(self, caller: Caller, request: store.ListObjectsRequest) -> store.ListObjectsResponse:
        page = await self._objects.list(
            caller,
            request.namespace,
            request.bucket,
            request.prefix,
            delimiter=request.delimiter,
            max_results=request.max_results,
            token=request.continuation_token,
            start_after=request.start_after,
        )
        return wire.listed(page)

    async def head(self, caller: Caller, request: store.HeadObjectRequest) -> store.HeadObjectResponse:
        return wire.headed(await self._objects.head(caller, wire.ref_of(request)))

    async def presign(self, caller: Caller, request: store.PresignedURLRequest) -> store.PresignedURLResponse:
        made = await self._uploads.presign(
            caller,
            wire.ref_of(request),
            request.method,
            wire.duration(request.expires_in_seconds),
            options=PutOptions(content_type=request.content_type),
        )
        return wire.presigned(made)

    async def copy(self, caller: Caller, request: store.CopyObjectRequest) -> store.CopyObjectResponse:
        source = ObjectRef(request.source_namespace, request.source_bucket, request.source_key)
        destination = ObjectRef(request.destination_namespace, request.destination_bucket, request.destination_key)
        return wire.copied(await self._objects.copy(caller, source, destination, wire.copy_options(request)))


class _NamespaceService:
    def __init__(self, services: Services) -> None:
        self._objects = services.objects

    async def delete_prefix(self, caller: Caller, request: spaces.DeletePrefixRequest) -> spaces.DeletePrefixResponse:
        await self._objects.delete_prefix(caller, request.namespace, request.bucket, request.prefix)
        return spaces.DeletePrefixResponse()

    async def list_expiring(self, caller: Caller, request: spaces.ListExpiringRequest) -> spaces.ListExpiringResponse:
        page = await self._objects.expiring(
            caller,
            request.namespace,
            wire.duration(request.within_seconds),
            max_results=request.max_results,
            token=request.continuation_token,
        )
        return wire.expiring_page(page)

    async def get_usage(self, caller: Caller, request: spaces.GetUsageRequest) -> spaces.GetUsageResponse:
        return wire.usage(await self._objects.usage(caller, request.namespace))


async def _header(stream: Stream) -> store.PutObjectRequest:
    raw = await stream.read()
    if raw is None:
        raise PrismError(ErrorCode.INVALID_ARGUMENT, "a put needs a first message, which names the object")
    return wire.decode(store.PutObjectRequest, raw)


async def _chunks(stream: Stream, header: store.PutObjectRequest) -> AsyncGenerator[bytes, None]:
    chunk: bytes | None = header.chunk
    header.ClearField("chunk")
    while chunk is not None:
        if len(chunk) > MAX_CHUNK_BYTES:
            raise PrismError(
                ErrorCode.INVALID_ARGUMENT, f"a chunk has {len(chunk)} bytes; at most {MAX_CHUNK_BYTES} are allowed"
            )
        if chunk:
            yield chunk
        raw = await stream.read()
        chunk = None if raw is None else _next_chunk(raw, header)


def _next_chunk(raw: bytes, header: store.PutObjectRequest) -> bytes:
    chunk = chunk_of(PUT_TAG, raw)
    if chunk is not None:
        return chunk
    later = wire.decode(store.PutObjectRequest, raw)
    if not wire.repeats(header, later):
        raise PrismError(ErrorCode.INVALID_ARGUMENT, "a later message of a put says something else than the first one")
    return later.chunk
