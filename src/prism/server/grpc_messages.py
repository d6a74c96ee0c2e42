"""Between the messages of `proto/prism/objectstore` and the model's values: once, at the edge, in both directions.

Nothing is judged here but the shape of a message; limits and names are the services'. Times on the wire are whole Unix
seconds, durations are cut to a range that `timedelta` can hold and that is still too long for every rule.
"""

from datetime import datetime, timedelta
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message
from prism_sdk.stubs.prism.objectstore import namespaces_pb2 as spaces
from prism_sdk.stubs.prism.objectstore import object_store_pb2 as store

from ..errors import ErrorCode, PrismError
from ..model import (
    Conditions,
    CopyOptions,
    Declared,
    ExpiringPage,
    ListPage,
    ObjectInfo,
    ObjectRef,
    Precondition,
    PresignedURL,
    PutOptions,
    RangeSpec,
    Usage,
)

__all__ = [
    "conditions",
    "copied",
    "copy_options",
    "decode",
    "duration",
    "expiring_page",
    "first_of_get",
    "headed",
    "listed",
    "precondition",
    "presigned",
    "put_options",
    "range_of",
    "ref_of",
    "repeats",
    "stored",
    "usage",
]

_LONGEST_SECONDS = 10**10
M = TypeVar("M", bound=Message)


def decode(kind: type[M], raw: bytes) -> M:
    """The message; INVALID_ARGUMENT when the bytes are none (bad encoding, text that is not UTF-8)."""
    try:
        return kind.FromString(raw)
    except DecodeError as error:
        raise PrismError(ErrorCode.INVALID_ARGUMENT, f"the request is not a valid {kind.__name__}") from error


def ref_of(request: Any) -> ObjectRef:
    """The object that a request with namespace, bucket and key names."""
    return ObjectRef(request.namespace, request.bucket, request.key)


def duration(seconds: int) -> timedelta:
    """Seconds as anybody may send them."""
    return timedelta(seconds=max(-_LONGEST_SECONDS, min(seconds, _LONGEST_SECONDS)))


def precondition(request: Any) -> Precondition:
    """`if_match` and, where the message has it, `if_none_match`; a repeated field that is empty says nothing."""
    return Precondition(
        if_match=tuple(request.if_match) or None, if_none_match=tuple(getattr(request, "if_none_match", ())) or None
    )


def conditions(if_match: Any) -> Conditions | None:
    """The condition of a read."""
    return Conditions(if_match=tuple(if_match)) if if_match else None


def put_options(header: store.PutObjectRequest) -> PutOptions:
    """What the first message of a put says beside name and bytes."""
    return PutOptions(
        content_type=header.content_type,
        metadata=dict(header.metadata),
        ttl=duration(header.ttl_seconds) if header.HasField("ttl_seconds") else None,
        no_expiration=header.no_expiration,
        precondition=precondition(header),
        declared=Declared(
            size_bytes=header.size_bytes if header.HasField("size_bytes") else None,
            sha256=header.checksum_sha256.lower() or None,
            crc32c=header.checksum_crc32c or None,
        ),
    )


def copy_options(request: store.CopyObjectRequest) -> CopyOptions:
    """What a copy says beside the two names."""
    return CopyOptions(
        ttl=duration(request.ttl_seconds) if request.HasField("ttl_seconds") else None,
        no_expiration=request.no_expiration,
        precondition=precondition(request),
        source_if_match=tuple(request.source_if_match) or None,
    )


def range_of(request: store.GetObjectRequest) -> RangeSpec | None:
    """The range asked for; 0 is a position like any other, only absence is absence."""
    start = request.range_start if request.HasField("range_start") else None
    end = request.range_end if request.HasField("range_end") else None
    return None if start is None and end is None else RangeSpec(start=start, end=end)


def repeats(header: store.PutObjectRequest, later: store.PutObjectRequest) -> bool:
    """Whether everything that a later message of a put says, its chunk aside, was said by the first one."""
    said = _fields(header)
    return all(said.get(name) == value for name, value in _fields(later).items())


def _fields(message: store.PutObjectRequest) -> dict[str, object]:
    plain = {"metadata": dict, "if_match": list, "if_none_match": list}
    return {
        field.name: plain.get(field.name, lambda value: value)(value)
        for field, value in message.ListFields()
        if field.name != "chunk"
    }


def stored(info: ObjectInfo) -> store.PutObjectResponse:
    """The answer to a put."""
    return store.PutObjectResponse(
        object_id=info.object_id,
        etag=info.etag,
        size_bytes=info.size_bytes,
        version_id=_version(info),
        expires_at=_seconds(info.expires_at),
        checksum_crc32c=info.crc32c or "",
    )


def copied(info: ObjectInfo) -> store.CopyObjectResponse:
    """The answer to a copy."""
    return store.CopyObjectResponse(
        object_id=info.object_id,
        etag=info.etag,
        size_bytes=info.size_bytes,
        version_id=_version(info),
        expires_at=_seconds(info.expires_at),
    )


def first_of_get(info: ObjectInfo) -> store.GetObjectResponse:
    """The first message of a get, still without a chunk; sizes are the whole object's."""
    return store.GetObjectResponse(
        content_type=info.content_type,
        size_bytes=info.size_bytes,
        metadata=info.metadata,
        etag=info.etag,
        last_modified=int(info.last_modified.timestamp()),
        expires_at=_seconds(info.expires_at),
        checksum_crc32c=info.crc32c or "",
        version_id=_version(info),
    )


def headed(info: ObjectInfo) -> store.HeadObjectResponse:
    """The answer to a head."""
    return store.HeadObjectResponse(
        content_type=info.content_type,
        size_bytes=info.size_bytes,
        metadata=info.metadata,
        etag=info.etag,
        last_modified=int(info.last_modified.timestamp()),
        expires_at=_seconds(info.expires_at),
        version_id=_version(info),
        checksum_crc32c=info.crc32c or "",
    )


def listed(page: ListPage) -> store.ListObjectsResponse:
    """A page of a list."""
    return store.ListObjectsResponse(
        objects=[
            store.ObjectMetadata(
                key=info.key,
                size_bytes=info.size_bytes,
                etag=info.etag,
                last_modified=int(info.last_modified.timestamp()),
                content_type=info.content_type,
                expires_at=_seconds(info.expires_at),
            )
            for info in page.objects
        ],
        continuation_token=page.next_token or "",
        is_truncated=page.next_token is not None,
        common_prefixes=page.common_prefixes,
    )


def presigned(made: PresignedURL) -> store.PresignedURLResponse:
    """A URL, and the headers that its holder must send."""
    return store.PresignedURLResponse(url=made.url, expires_at=int(made.expires_at.timestamp()), headers=made.headers)


def expiring_page(page: ExpiringPage) -> spaces.ListExpiringResponse:
    """Objects that expire soon."""
    return spaces.ListExpiringResponse(
        objects=[
            spaces.ExpiringObject(
                bucket=due.bucket, key=due.key, size_bytes=due.size_bytes, expires_at=int(due.expires_at.timestamp())
            )
            for due in page.objects
        ],
        continuation_token=page.next_token or "",
    )


def usage(held: Usage) -> spaces.GetUsageResponse:
    """What a namespace holds."""
    return spaces.GetUsageResponse(objects=held.objects, size_bytes=held.size_bytes)


def _version(info: ObjectInfo) -> str:
    return info.version_id if info.versioned else ""


def _seconds(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp())
