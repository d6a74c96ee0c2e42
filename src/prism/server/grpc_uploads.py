"""The declared uploads over gRPC: five small RPCs between messages and the service; the bytes do not pass here."""

from collections.abc import Mapping

import grpc
from prism_sdk.stubs.prism.objectstore import uploads_pb2 as pb

from ..model import Caller, PutOptions
from ..tickets import Chosen, UploadName, UploadRequest, declared_of
from . import grpc_messages as wire
from .grpc_calls import Calls
from .services import Services

__all__ = ["UPLOAD_SERVICE", "upload_methods"]

UPLOAD_SERVICE: str = pb.DESCRIPTOR.services_by_name["UploadService"].full_name


def upload_methods(services: Services, calls: Calls) -> Mapping[str, grpc.RpcMethodHandler]:
    """The RPCs of UploadService."""
    rpcs = _UploadService(services)
    return {
        "CreateUpload": calls.unary(pb.CreateUploadRequest, rpcs.create),
        "GetUpload": calls.unary(pb.GetUploadRequest, rpcs.status),
        "SignParts": calls.unary(pb.SignPartsRequest, rpcs.sign_parts),
        "CompleteUpload": calls.unary(pb.CompleteUploadRequest, rpcs.complete, moves_bytes=True),
        "AbortUpload": calls.unary(pb.AbortUploadRequest, rpcs.abort),
    }


class _UploadService:
    def __init__(self, services: Services) -> None:
        self._sessions = services.sessions

    async def create(self, caller: Caller, request: pb.CreateUploadRequest) -> pb.CreateUploadResponse:
        asked = UploadRequest(
            ref=wire.ref_of(request),
            options=_options(request),
            expires_in=wire.duration(request.expires_in_seconds),
            in_parts=request.in_parts,
            part_size_bytes=request.part_size_bytes,
        )
        ticket = await self._sessions.create(caller, asked)
        return pb.CreateUploadResponse(
            upload_id=ticket.upload_id,
            method="" if ticket.in_parts else "PUT",
            url=ticket.url,
            headers=ticket.headers,
            expires_at=int(ticket.expires_at.timestamp()),
            not_bound=[pb.NotBound(what=one.what, checked_by=one.checked_by) for one in ticket.not_bound],
            in_parts=ticket.in_parts,
            part_size_bytes=ticket.part_size_bytes,
            parts=ticket.parts,
        )

    async def status(self, caller: Caller, request: pb.GetUploadRequest) -> pb.GetUploadResponse:
        found = await self._sessions.status(caller, UploadName.of(request.upload_id))
        return pb.GetUploadResponse(
            state=found.state,
            expires_at=0 if found.expires_at is None else int(found.expires_at.timestamp()),
            in_parts=found.in_parts,
            part_size_bytes=found.part_size_bytes,
            parts=[
                pb.UploadedPart(number=part.number, etag=part.etag, size_bytes=part.size_bytes) for part in found.parts
            ],
            size_bytes=found.size_bytes,
        )

    async def sign_parts(self, caller: Caller, request: pb.SignPartsRequest) -> pb.SignPartsResponse:
        signed = await self._sessions.sign_parts(
            caller, UploadName.of(request.upload_id), request.numbers, wire.duration(request.expires_in_seconds)
        )
        parts = [
            pb.SignedPart(
                number=one.number,
                method="PUT",
                url=one.url,
                headers=one.headers,
                size_bytes=one.size_bytes or 0,
                expires_at=int(one.expires_at.timestamp()),
            )
            for one in signed
        ]
        return pb.SignPartsResponse(parts=parts)

    async def complete(self, caller: Caller, request: pb.CompleteUploadRequest) -> pb.CompleteUploadResponse:
        declared = declared_of(request.checksum_sha256, request.checksum_crc32c)
        info = await self._sessions.complete(caller, UploadName.of(request.upload_id), Chosen(declared=declared))
        return pb.CompleteUploadResponse(
            object_id=info.object_id,
            etag=info.etag,
            size_bytes=info.size_bytes,
            version_id=info.version_id if info.versioned else "",
            checksum_crc32c=info.crc32c or "",
            expires_at=None if info.expires_at is None else int(info.expires_at.timestamp()),
        )

    async def abort(self, caller: Caller, request: pb.AbortUploadRequest) -> pb.AbortUploadResponse:
        await self._sessions.abort(caller, UploadName.of(request.upload_id))
        return pb.AbortUploadResponse()


def _options(request: pb.CreateUploadRequest) -> PutOptions:
    size = request.size_bytes if request.HasField("size_bytes") else None
    declared = declared_of(request.checksum_sha256, request.checksum_crc32c, size)
    return PutOptions(
        content_type=request.content_type,
        metadata=dict(request.metadata),
        ttl=wire.duration(request.ttl_seconds) if request.HasField("ttl_seconds") else None,
        no_expiration=request.no_expiration,
        precondition=wire.precondition(request),
        declared=declared,
    )
