"""Requests and answers of declared uploads, for both clients; see `wire`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from .stubs.prism.objectstore import uploads_pb2 as pb
from .values import PartURL, PutResult, UploadedPart, UploadStatus, UploadTicket
from .wire import Call, Etags, etags

__all__ = ["Wanted", "abort", "complete", "create", "sign_parts", "status"]

_UPLOADS = "/prism.objectstore.UploadService/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The object that an upload is to become."""

    namespace: str
    bucket: str
    key: str
    content_type: str | None = None
    metadata: Mapping[str, str] | None = field(default=None)
    ttl_seconds: int | None = None
    no_expiration: bool = False
    if_match: Etags = None
    if_none_match: Etags = None
    size_bytes: int | None = None
    checksum_sha256: str | None = None
    checksum_crc32c: str | None = None

    def encoded(self, *, expires_in_seconds: int = 0, in_parts: bool = False, part_size_bytes: int = 0) -> bytes:
        """The request; equal ones are equal bytes."""
        request = pb.CreateUploadRequest(
            namespace=self.namespace,
            bucket=self.bucket,
            key=self.key,
            content_type=self.content_type,
            metadata=self.metadata,
            ttl_seconds=self.ttl_seconds,
            no_expiration=self.no_expiration,
            if_match=etags(self.if_match),
            if_none_match=etags(self.if_none_match),
            size_bytes=self.size_bytes,
            checksum_sha256=self.checksum_sha256,
            checksum_crc32c=self.checksum_crc32c,
            expires_in_seconds=expires_in_seconds,
            in_parts=in_parts,
            part_size_bytes=part_size_bytes,
        )
        encoded: bytes = request.SerializeToString(deterministic=True)
        return encoded


def create(
    wanted: Wanted, *, expires_in_seconds: int = 0, in_parts: bool = False, part_size_bytes: int = 0
) -> Call[UploadTicket]:
    """Declare an upload. A repeat may leave an upload behind that nobody knows of; it runs out by itself."""
    request = wanted.encoded(expires_in_seconds=expires_in_seconds, in_parts=in_parts, part_size_bytes=part_size_bytes)
    return Call(f"{_UPLOADS}CreateUpload", request, _ticket)


def status(upload_id: str) -> Call[UploadStatus]:
    """What became of it."""
    return Call(f"{_UPLOADS}GetUpload", pb.GetUploadRequest(upload_id=upload_id).SerializeToString(), _status)


def sign_parts(upload_id: str, numbers: Sequence[int], expires_in_seconds: int = 0) -> Call[tuple[PartURL, ...]]:
    """URLs of parts."""
    request = pb.SignPartsRequest(upload_id=upload_id, numbers=numbers, expires_in_seconds=expires_in_seconds)
    return Call(f"{_UPLOADS}SignParts", request.SerializeToString(), _part_urls)


def complete(
    upload_id: str, *, checksum_sha256: str | None = None, checksum_crc32c: str | None = None
) -> Call[PutResult]:
    """Make the object."""
    request = pb.CompleteUploadRequest(
        upload_id=upload_id, checksum_sha256=checksum_sha256, checksum_crc32c=checksum_crc32c
    )
    return Call(f"{_UPLOADS}CompleteUpload", request.SerializeToString(), _completed, moves_bytes=True)


def abort(upload_id: str) -> Call[None]:
    """Give it up."""
    request = pb.AbortUploadRequest(upload_id=upload_id)
    return Call(f"{_UPLOADS}AbortUpload", request.SerializeToString(), lambda raw: None)


def _ticket(raw: bytes) -> UploadTicket:
    said = pb.CreateUploadResponse.FromString(raw)
    return UploadTicket(
        upload_id=said.upload_id,
        method=said.method,
        url=said.url,
        headers=dict(said.headers),
        expires_at=_time(said.expires_at),
        not_bound={one.what: one.checked_by for one in said.not_bound},
        in_parts=said.in_parts,
        part_size_bytes=said.part_size_bytes,
        parts=said.parts,
    )


def _status(raw: bytes) -> UploadStatus:
    said = pb.GetUploadResponse.FromString(raw)
    return UploadStatus(
        state=said.state,
        expires_at=_time(said.expires_at) if said.expires_at else None,
        in_parts=said.in_parts,
        part_size_bytes=said.part_size_bytes,
        parts=tuple(UploadedPart(one.number, one.etag, one.size_bytes) for one in said.parts),
        size_bytes=said.size_bytes if said.HasField("size_bytes") else None,
    )


def _part_urls(raw: bytes) -> tuple[PartURL, ...]:
    said = pb.SignPartsResponse.FromString(raw)
    return tuple(
        PartURL(one.number, one.method, one.url, dict(one.headers), one.size_bytes, _time(one.expires_at))
        for one in said.parts
    )


def _completed(raw: bytes) -> PutResult:
    said = pb.CompleteUploadResponse.FromString(raw)
    expires_at = _time(said.expires_at) if said.HasField("expires_at") else None
    return PutResult(said.object_id, said.etag, said.size_bytes, said.version_id, expires_at, said.checksum_crc32c)


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
