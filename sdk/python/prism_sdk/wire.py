"""Requests built and answers read, once for both clients: every operation is a value that a client sends as it is.

A call knows its method, its bytes, how its answer is read, and when it may be repeated. Nothing here waits or connects.
"""

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from .stubs.prism.objectstore import namespaces_pb2 as spaces
from .stubs.prism.objectstore import object_store_pb2 as store
from .values import CopyResult, ExpiringObject, ListedObject, ListPage, ObjectInfo, PresignedURL, PutResult, Usage

__all__ = [
    "GET",
    "PUT",
    "Call",
    "Etags",
    "Repeat",
    "Upload",
    "copy",
    "delete",
    "delete_prefix",
    "etags",
    "expiring",
    "head",
    "info_of",
    "list_page",
    "presign",
    "put_result",
    "upload",
    "usage",
]

T = TypeVar("T")
Etags = str | Sequence[str] | None
_OBJECTS = "/prism.objectstore.ObjectStoreService/"
_SPACES = "/prism.objectstore.NamespaceService/"
GET = f"{_OBJECTS}GetObject"
PUT = f"{_OBJECTS}PutObject"


class Repeat(enum.Enum):
    """When a failed attempt may be repeated."""

    FREELY = "whenever the server or something behind it is unavailable: repeating converges"
    WHEN_REFUSED = "only when the server says that nothing was done: a repeat could lose to its own first attempt"
    NEVER = "the data is gone"


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One unary RPC. `moves_bytes`: the server copies, so it has the time of a transfer."""

    method: str
    request: bytes
    parse: Callable[[bytes], T]
    repeat: Repeat = Repeat.FREELY
    moves_bytes: bool = False


@dataclass(frozen=True, slots=True)
class Upload:
    """The header of a put: the first message, still without a chunk."""

    header: bytes
    repeat: Repeat


def upload(
    namespace: str,
    bucket: str,
    key: str,
    *,
    content_type: str | None,
    metadata: Mapping[str, str] | None,
    ttl_seconds: int | None,
    no_expiration: bool,
    if_match: Etags,
    if_none_match: Etags,
    size_bytes: int | None,
    checksum_sha256: str | None,
    checksum_crc32c: str | None,
) -> Upload:
    """A put of something."""
    header = store.PutObjectRequest(
        namespace=namespace,
        bucket=bucket,
        key=key,
        content_type=content_type,
        metadata=metadata,
        ttl_seconds=ttl_seconds,
        no_expiration=no_expiration,
        if_match=etags(if_match),
        if_none_match=etags(if_none_match),
        size_bytes=size_bytes,
        checksum_sha256=checksum_sha256,
        checksum_crc32c=checksum_crc32c,
    )
    return Upload(header.SerializeToString(), _repeat(if_match, if_none_match))


def head(namespace: str, bucket: str, key: str) -> Call[ObjectInfo]:
    """What is known of an object."""
    request = store.HeadObjectRequest(namespace=namespace, bucket=bucket, key=key)
    return Call(
        f"{_OBJECTS}HeadObject",
        request.SerializeToString(),
        lambda raw: info_of(store.HeadObjectResponse.FromString(raw)),
    )


def delete(namespace: str, bucket: str, key: str, if_match: Etags) -> Call[bool]:
    """Remove an object; whether there was one."""
    request = store.DeleteObjectRequest(namespace=namespace, bucket=bucket, key=key, if_match=etags(if_match))
    return Call(
        f"{_OBJECTS}DeleteObject",
        request.SerializeToString(),
        lambda raw: store.DeleteObjectResponse.FromString(raw).deleted,
        _repeat(if_match),
    )


def copy(
    source: tuple[str, str, str],
    destination: tuple[str, str, str],
    *,
    ttl_seconds: int | None,
    no_expiration: bool,
    if_match: Etags,
    if_none_match: Etags,
    source_if_match: Etags,
) -> Call[CopyResult]:
    """Copy an object; each name is namespace, bucket, key."""
    request = store.CopyObjectRequest(
        source_namespace=source[0],
        source_bucket=source[1],
        source_key=source[2],
        destination_namespace=destination[0],
        destination_bucket=destination[1],
        destination_key=destination[2],
        ttl_seconds=ttl_seconds,
        no_expiration=no_expiration,
        if_match=etags(if_match),
        if_none_match=etags(if_none_match),
        source_if_match=etags(source_if_match),
    )
    return Call(
        f"{_OBJECTS}CopyObject",
        request.SerializeToString(),
        _copy_result,
        _repeat(if_match, if_none_match),
        moves_bytes=True,
    )


def list_page(
    namespace: str, bucket: str, prefix: str, *, delimiter: str, start_after: str, max_results: int, token: str
) -> Call[ListPage]:
    """One page of a list."""
    request = store.ListObjectsRequest(
        namespace=namespace,
        bucket=bucket,
        prefix=prefix,
        delimiter=delimiter,
        start_after=start_after,
        max_results=max_results,
        continuation_token=token,
    )
    return Call(f"{_OBJECTS}ListObjects", request.SerializeToString(), _list_page)


def presign(
    namespace: str, bucket: str, key: str, method: str, expires_in_seconds: int, content_type: str | None
) -> Call[PresignedURL]:
    """A URL for one transfer."""
    request = store.PresignedURLRequest(
        namespace=namespace,
        bucket=bucket,
        key=key,
        method=method,
        expires_in_seconds=expires_in_seconds,
        content_type=content_type,
    )
    return Call(f"{_OBJECTS}GetPresignedURL", request.SerializeToString(), _presigned)


def delete_prefix(namespace: str, bucket: str, prefix: str) -> Call[None]:
    """Remove a folder."""
    request = spaces.DeletePrefixRequest(namespace=namespace, bucket=bucket, prefix=prefix)
    return Call(f"{_SPACES}DeletePrefix", request.SerializeToString(), lambda raw: None, Repeat.WHEN_REFUSED)


def expiring(
    namespace: str, within_seconds: int, max_results: int, token: str
) -> Call[tuple[list[ExpiringObject], str]]:
    """A page of what expires soon, and the token of the next one."""
    request = spaces.ListExpiringRequest(
        namespace=namespace, within_seconds=within_seconds, max_results=max_results, continuation_token=token
    )
    return Call(f"{_SPACES}ListExpiring", request.SerializeToString(), _expiring)


def usage(namespace: str) -> Call[Usage]:
    """What a namespace holds."""
    return Call(f"{_SPACES}GetUsage", spaces.GetUsageRequest(namespace=namespace).SerializeToString(), _usage)


def put_result(raw: bytes) -> PutResult:
    """The answer to a put."""
    said = store.PutObjectResponse.FromString(raw)
    return PutResult(
        said.object_id, said.etag, said.size_bytes, said.version_id, _optional_time(said), said.checksum_crc32c
    )


def info_of(said: Any) -> ObjectInfo:
    """What a head or the first message of a get says."""
    return ObjectInfo(
        content_type=said.content_type,
        size_bytes=said.size_bytes,
        metadata=dict(said.metadata),
        etag=said.etag,
        last_modified=_time(said.last_modified),
        expires_at=_optional_time(said),
        version_id=said.version_id,
        checksum_crc32c=said.checksum_crc32c,
    )


def _copy_result(raw: bytes) -> CopyResult:
    said = store.CopyObjectResponse.FromString(raw)
    return CopyResult(said.object_id, said.etag, said.size_bytes, said.version_id, _optional_time(said))


def _list_page(raw: bytes) -> ListPage:
    said = store.ListObjectsResponse.FromString(raw)
    objects = tuple(
        ListedObject(one.key, one.size_bytes, one.etag, _time(one.last_modified), one.content_type, _optional_time(one))
        for one in said.objects
    )
    return ListPage(objects, tuple(said.common_prefixes), said.continuation_token if said.is_truncated else "")


def _presigned(raw: bytes) -> PresignedURL:
    said = store.PresignedURLResponse.FromString(raw)
    return PresignedURL(said.url, _time(said.expires_at), dict(said.headers))


def _expiring(raw: bytes) -> tuple[list[ExpiringObject], str]:
    said = spaces.ListExpiringResponse.FromString(raw)
    found = [ExpiringObject(one.bucket, one.key, one.size_bytes, _time(one.expires_at)) for one in said.objects]
    return found, said.continuation_token


def _usage(raw: bytes) -> Usage:
    said = spaces.GetUsageResponse.FromString(raw)
    return Usage(said.objects, said.size_bytes)


def _repeat(*conditions: Etags) -> Repeat:
    return Repeat.WHEN_REFUSED if any(conditions) else Repeat.FREELY


def etags(given: Etags) -> Sequence[str]:
    """One etag, several, or none."""
    return (given,) if isinstance(given, str) else given or ()


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _optional_time(said: Any) -> datetime | None:
    return _time(said.expires_at) if said.HasField("expires_at") else None
