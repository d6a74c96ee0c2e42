"""The one table of status codes: what an `ErrorCode` is called on gRPC, HTTP and S3.

A code has one row; every server takes its answer from here and decides nothing itself. The rows are those of the
project's contract of conditions; `tests/unit/test_status.py` compares them.
"""

from collections.abc import Mapping
from http import HTTPStatus

import grpc
import msgspec

from ..errors import ErrorCode, PrismError

__all__ = ["STATUS", "Status", "as_prism_error"]


class Status(msgspec.Struct, frozen=True):
    """One row: gRPC code, HTTP status, and S3's code with its HTTP status."""

    grpc: grpc.StatusCode
    http: HTTPStatus
    s3: str
    s3_http: HTTPStatus


_E, _G, _H = ErrorCode, grpc.StatusCode, HTTPStatus

STATUS: Mapping[ErrorCode, Status] = {
    _E.INVALID_ARGUMENT: Status(_G.INVALID_ARGUMENT, _H.BAD_REQUEST, "InvalidArgument", _H.BAD_REQUEST),
    _E.NAMESPACE_NOT_FOUND: Status(_G.NOT_FOUND, _H.NOT_FOUND, "NoSuchBucket", _H.NOT_FOUND),
    _E.BUCKET_NOT_FOUND: Status(_G.NOT_FOUND, _H.NOT_FOUND, "NoSuchBucket", _H.NOT_FOUND),
    _E.OBJECT_NOT_FOUND: Status(_G.NOT_FOUND, _H.NOT_FOUND, "NoSuchKey", _H.NOT_FOUND),
    _E.BUCKET_NOT_EMPTY: Status(_G.FAILED_PRECONDITION, _H.CONFLICT, "BucketNotEmpty", _H.CONFLICT),
    _E.BUCKET_EXISTS: Status(_G.ALREADY_EXISTS, _H.CONFLICT, "BucketAlreadyOwnedByYou", _H.CONFLICT),
    _E.NOT_MODIFIED: Status(_G.FAILED_PRECONDITION, _H.NOT_MODIFIED, "NotModified", _H.NOT_MODIFIED),
    _E.RANGE_NOT_SATISFIABLE: Status(
        _G.OUT_OF_RANGE,
        _H.REQUESTED_RANGE_NOT_SATISFIABLE,
        "InvalidRange",
        _H.REQUESTED_RANGE_NOT_SATISFIABLE,
    ),
    _E.PRECONDITION_FAILED: Status(
        _G.FAILED_PRECONDITION, _H.PRECONDITION_FAILED, "PreconditionFailed", _H.PRECONDITION_FAILED
    ),
    _E.CHECKSUM_MISMATCH: Status(_G.INVALID_ARGUMENT, _H.BAD_REQUEST, "BadDigest", _H.BAD_REQUEST),
    _E.SIZE_MISMATCH: Status(_G.INVALID_ARGUMENT, _H.BAD_REQUEST, "IncompleteBody", _H.BAD_REQUEST),
    _E.TOO_LARGE: Status(_G.INVALID_ARGUMENT, _H.REQUEST_ENTITY_TOO_LARGE, "EntityTooLarge", _H.BAD_REQUEST),
    _E.RATE_LIMITED: Status(_G.RESOURCE_EXHAUSTED, _H.TOO_MANY_REQUESTS, "SlowDown", _H.SERVICE_UNAVAILABLE),
    _E.QUOTA_EXCEEDED: Status(_G.RESOURCE_EXHAUSTED, _H.FORBIDDEN, "QuotaExceeded", _H.FORBIDDEN),
    _E.TOO_MANY_UPLOADS: Status(_G.RESOURCE_EXHAUSTED, _H.TOO_MANY_REQUESTS, "SlowDown", _H.SERVICE_UNAVAILABLE),
    _E.UNAUTHENTICATED: Status(_G.UNAUTHENTICATED, _H.UNAUTHORIZED, "AccessDenied", _H.FORBIDDEN),
    _E.UNKNOWN_ACCESS_KEY: Status(_G.UNAUTHENTICATED, _H.UNAUTHORIZED, "InvalidAccessKeyId", _H.FORBIDDEN),
    _E.SIGNATURE_MISMATCH: Status(_G.UNAUTHENTICATED, _H.UNAUTHORIZED, "SignatureDoesNotMatch", _H.FORBIDDEN),
    _E.PERMISSION_DENIED: Status(_G.PERMISSION_DENIED, _H.FORBIDDEN, "AccessDenied", _H.FORBIDDEN),
    _E.STORE_DOWN: Status(_G.UNAVAILABLE, _H.SERVICE_UNAVAILABLE, "ServiceUnavailable", _H.SERVICE_UNAVAILABLE),
    _E.CATALOG_DOWN: Status(_G.UNAVAILABLE, _H.SERVICE_UNAVAILABLE, "ServiceUnavailable", _H.SERVICE_UNAVAILABLE),
    _E.BUS_DOWN: Status(_G.UNAVAILABLE, _H.SERVICE_UNAVAILABLE, "ServiceUnavailable", _H.SERVICE_UNAVAILABLE),
    _E.UPLOAD_PENDING: Status(_G.UNAVAILABLE, _H.SERVICE_UNAVAILABLE, "ServiceUnavailable", _H.SERVICE_UNAVAILABLE),
    _E.OUTCOME_UNKNOWN: Status(_G.UNAVAILABLE, _H.SERVICE_UNAVAILABLE, "ServiceUnavailable", _H.SERVICE_UNAVAILABLE),
    _E.DELETED_MEANWHILE: Status(_G.ABORTED, _H.CONFLICT, "OperationAborted", _H.CONFLICT),
    _E.DEADLINE_EXCEEDED: Status(
        _G.DEADLINE_EXCEEDED, _H.GATEWAY_TIMEOUT, "ServiceUnavailable", _H.SERVICE_UNAVAILABLE
    ),
    _E.CANCELLED: Status(_G.CANCELLED, _H.BAD_REQUEST, "RequestTimeout", _H.BAD_REQUEST),
    _E.UNIMPLEMENTED: Status(_G.UNIMPLEMENTED, _H.NOT_IMPLEMENTED, "NotImplemented", _H.NOT_IMPLEMENTED),
    _E.DATA_LOSS: Status(_G.DATA_LOSS, _H.INTERNAL_SERVER_ERROR, "InternalError", _H.INTERNAL_SERVER_ERROR),
    _E.SCHEMA_MISMATCH: Status(
        _G.FAILED_PRECONDITION, _H.INTERNAL_SERVER_ERROR, "InternalError", _H.INTERNAL_SERVER_ERROR
    ),
    _E.LEASE_LOST: Status(_G.UNAVAILABLE, _H.SERVICE_UNAVAILABLE, "ServiceUnavailable", _H.SERVICE_UNAVAILABLE),
    _E.INTERNAL: Status(_G.INTERNAL, _H.INTERNAL_SERVER_ERROR, "InternalError", _H.INTERNAL_SERVER_ERROR),
}


def as_prism_error(error: Exception) -> PrismError:
    """What a caller is told of `error`: itself, DEADLINE_EXCEEDED for a timeout, and INTERNAL for what nobody foresaw
    (the server logs that one with its request id; its text stays inside)."""
    match error:
        case PrismError():
            return error
        case TimeoutError():
            return PrismError(ErrorCode.DEADLINE_EXCEEDED, "the request took longer than its deadline allows")
        case _:
            return PrismError(ErrorCode.INTERNAL, "an internal error; the log has it under this request's id")
