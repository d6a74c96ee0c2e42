"""What can go wrong, as a tree: catch `PrismError` for all of it, or the branch that you can do something about.

    PrismError
    ├── InvalidArgument          ChecksumMismatch, SizeMismatch, TooLarge
    ├── NotFound                 NamespaceNotFound, BucketNotFound, ObjectNotFound
    ├── AlreadyExists
    ├── PreconditionFailed       if_match or if_none_match did not hold
    ├── RangeError               the range begins after the object's end
    ├── Unauthenticated, PermissionDenied
    ├── ResourceExhausted        RateLimited, QuotaExceeded
    ├── Aborted                  overtaken by the deletion of its folder or run
    │                            FileChanged: the file on this side changed while it was sent
    ├── Unavailable              OutcomeUnknown
    │                            StoreUnreachable: signed URLs of the store lead nowhere from here
    ├── DeadlineExceeded         Stalled: nothing moved for the client's stall timeout
    ├── Cancelled, Unimplemented
    ├── DataLoss                 stored or received bytes are not the ones that were written
    └── InternalError

A class follows from the status code and the `reason` that the server sends, never from the text of a message.
"""

from collections.abc import Mapping
from typing import Any

from google.rpc import error_details_pb2, status_pb2

__all__ = [
    "Aborted",
    "AlreadyExists",
    "BucketNotFound",
    "Cancelled",
    "ChecksumMismatch",
    "DataLoss",
    "DeadlineExceeded",
    "FileChanged",
    "InternalError",
    "InvalidArgument",
    "NamespaceNotFound",
    "NotFound",
    "ObjectNotFound",
    "OutcomeUnknown",
    "PermissionDenied",
    "PreconditionFailed",
    "PrismError",
    "QuotaExceeded",
    "RangeError",
    "RateLimited",
    "ResourceExhausted",
    "SizeMismatch",
    "Stalled",
    "StoreUnreachable",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "error_of",
]


class PrismError(Exception):
    """`code` is the gRPC status name, `reason` the server's name for what happened (empty when no server said it).

    `retryable`: the server says that the same request may succeed later. `context` holds short facts (limits, sizes).
    """

    code = "UNKNOWN"

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        reason: str = "",
        request_id: str = "",
        retryable: bool = False,
        retry_after_seconds: float | None = None,
        context: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.reason = reason
        self.request_id = request_id
        self.retryable = retryable
        self.retry_after_seconds = retry_after_seconds
        self.context = dict(context or {})

    def __str__(self) -> str:
        asked = f" (request {self.request_id})" if self.request_id else ""
        return f"{self.reason or self.code}: {self.message}{asked}"


class InvalidArgument(PrismError):
    """The request is malformed, or the bytes are not what was declared."""

    code = "INVALID_ARGUMENT"


class ChecksumMismatch(InvalidArgument):
    """The bytes that arrived are not the declared ones."""


class SizeMismatch(InvalidArgument):
    """More or fewer bytes arrived than were declared."""


class TooLarge(InvalidArgument):
    """The object is larger than the namespace allows."""


class NotFound(PrismError):
    """There is no such namespace, bucket or object."""

    code = "NOT_FOUND"


class NamespaceNotFound(NotFound):
    """There is no such namespace, or this credential may not know of it."""


class BucketNotFound(NotFound):
    """The namespace has no such bucket."""


class ObjectNotFound(NotFound):
    """The object is absent, deleted or expired."""


class AlreadyExists(PrismError):
    """What should be created is there already."""

    code = "ALREADY_EXISTS"


class PreconditionFailed(PrismError):
    """The current object does not meet `if_match` or `if_none_match`."""

    code = "FAILED_PRECONDITION"


class RangeError(PrismError):
    """The range begins after the object's last byte."""

    code = "OUT_OF_RANGE"


class Unauthenticated(PrismError):
    """No credential, or a bad one."""

    code = "UNAUTHENTICATED"


class PermissionDenied(PrismError):
    """The credential does not allow this."""

    code = "PERMISSION_DENIED"


class ResourceExhausted(PrismError):
    """A rate, a quota or a message size was exceeded."""

    code = "RESOURCE_EXHAUSTED"


class RateLimited(ResourceExhausted):
    """Too much at once; try again after a while."""


class QuotaExceeded(ResourceExhausted):
    """The namespace holds as much as it may; trying again does not help."""


class Aborted(PrismError):
    """Overtaken by the deletion of the object's folder or run."""

    code = "ABORTED"


class FileChanged(Aborted):
    """The file changed while it was uploaded; nothing was stored."""


class Unavailable(PrismError):
    """The server, or something that it needs, cannot be reached now."""

    code = "UNAVAILABLE"


class OutcomeUnknown(Unavailable):
    """The request was applied wholly or not at all; which of the two could not be found out."""


class StoreUnreachable(Unavailable):
    """The store that signed URLs lead to cannot be reached from here."""


class DeadlineExceeded(PrismError):
    """Not done in time."""

    code = "DEADLINE_EXCEEDED"


class Stalled(DeadlineExceeded):
    """Nothing moved for the client's stall timeout."""


class Cancelled(PrismError):
    """The call was cancelled before its end."""

    code = "CANCELLED"


class Unimplemented(PrismError):
    """This server or backend cannot do that."""

    code = "UNIMPLEMENTED"


class DataLoss(PrismError):
    """The bytes are not the ones that were written, or are gone."""

    code = "DATA_LOSS"


class InternalError(PrismError):
    """A fault of the server; its log has the request id."""

    code = "INTERNAL"


_BY_REASON: Mapping[str, type[PrismError]] = {
    "CHECKSUM_MISMATCH": ChecksumMismatch,
    "SIZE_MISMATCH": SizeMismatch,
    "TOO_LARGE": TooLarge,
    "NAMESPACE_NOT_FOUND": NamespaceNotFound,
    "BUCKET_NOT_FOUND": BucketNotFound,
    "OBJECT_NOT_FOUND": ObjectNotFound,
    "RATE_LIMITED": RateLimited,
    "QUOTA_EXCEEDED": QuotaExceeded,
    "OUTCOME_UNKNOWN": OutcomeUnknown,
}
_BY_CODE: Mapping[str, type[PrismError]] = {
    kind.code: kind
    for kind in (
        InvalidArgument,
        NotFound,
        AlreadyExists,
        PreconditionFailed,
        RangeError,
        Unauthenticated,
        PermissionDenied,
        ResourceExhausted,
        Aborted,
        Unavailable,
        DeadlineExceeded,
        Cancelled,
        Unimplemented,
        DataLoss,
        InternalError,
    )
}


def error_of(error: Any) -> PrismError:
    """The exception for a `grpc.RpcError`, with what its status details say."""
    code: str = error.code().name
    message: str = error.details() or code
    trailing = dict(error.trailing_metadata() or ())
    info, retry_after = _details(trailing.get("grpc-status-details-bin", b""))
    kind = _BY_REASON.get(info.reason) or _BY_CODE.get(code, PrismError)
    facts = dict(info.metadata)
    return kind(
        message,
        code=code,
        reason=info.reason,
        request_id=facts.pop("request_id", "") or str(trailing.get("x-request-id", "")),
        retryable=facts.pop("retryable", "") == "true",
        retry_after_seconds=retry_after,
        context=facts,
    )


def _details(raw: bytes) -> tuple[error_details_pb2.ErrorInfo, float | None]:
    """What Prism says in the details; what others say there is passed over."""
    info, retry, retry_after = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo(), None
    try:
        status = status_pb2.Status.FromString(raw)
        for detail in status.details:
            if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
                detail.Unpack(info)
            elif detail.Unpack(retry):
                retry_after = retry.retry_delay.ToMilliseconds() / 1000
    except ValueError:  # protobuf's DecodeError is one: not details of ours
        return error_details_pb2.ErrorInfo(), None
    return (info if info.domain == "prism" else error_details_pb2.ErrorInfo()), retry_after
