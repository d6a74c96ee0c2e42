"""The table of conditions, compared with the contract row by row."""

import grpc
import pytest

from prism.errors import ErrorCode, PrismError
from prism.server.status import STATUS, as_prism_error

CONTRACT = [
    # condition, gRPC, HTTP, S3 status and code
    ("INVALID_ARGUMENT", "INVALID_ARGUMENT", 400, 400, "InvalidArgument"),
    ("NAMESPACE_NOT_FOUND", "NOT_FOUND", 404, 404, "NoSuchBucket"),
    ("BUCKET_NOT_FOUND", "NOT_FOUND", 404, 404, "NoSuchBucket"),
    ("OBJECT_NOT_FOUND", "NOT_FOUND", 404, 404, "NoSuchKey"),
    ("RANGE_NOT_SATISFIABLE", "OUT_OF_RANGE", 416, 416, "InvalidRange"),
    ("PRECONDITION_FAILED", "FAILED_PRECONDITION", 412, 412, "PreconditionFailed"),
    ("CHECKSUM_MISMATCH", "INVALID_ARGUMENT", 400, 400, "BadDigest"),
    ("SIZE_MISMATCH", "INVALID_ARGUMENT", 400, 400, "IncompleteBody"),
    ("TOO_LARGE", "INVALID_ARGUMENT", 413, 400, "EntityTooLarge"),
    ("RATE_LIMITED", "RESOURCE_EXHAUSTED", 429, 503, "SlowDown"),
    ("QUOTA_EXCEEDED", "RESOURCE_EXHAUSTED", 403, 403, "QuotaExceeded"),
    ("UNKNOWN_ACCESS_KEY", "UNAUTHENTICATED", 401, 403, "InvalidAccessKeyId"),
    ("SIGNATURE_MISMATCH", "UNAUTHENTICATED", 401, 403, "SignatureDoesNotMatch"),
    ("PERMISSION_DENIED", "PERMISSION_DENIED", 403, 403, "AccessDenied"),
    ("STORE_DOWN", "UNAVAILABLE", 503, 503, "ServiceUnavailable"),
    ("CATALOG_DOWN", "UNAVAILABLE", 503, 503, "ServiceUnavailable"),
    ("BUS_DOWN", "UNAVAILABLE", 503, 503, "ServiceUnavailable"),
    ("UPLOAD_PENDING", "UNAVAILABLE", 503, 503, "ServiceUnavailable"),
    ("OUTCOME_UNKNOWN", "UNAVAILABLE", 503, 503, "ServiceUnavailable"),
    ("DELETED_MEANWHILE", "ABORTED", 409, 409, "OperationAborted"),
    ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", 504, 503, "ServiceUnavailable"),
    ("UNIMPLEMENTED", "UNIMPLEMENTED", 501, 501, "NotImplemented"),
    ("DATA_LOSS", "DATA_LOSS", 500, 500, "InternalError"),
]


@pytest.mark.parametrize(("code", "on_grpc", "http", "s3_http", "s3"), CONTRACT, ids=[row[0] for row in CONTRACT])
def test_the_contract(code: str, on_grpc: str, http: int, s3_http: int, s3: str) -> None:
    status = STATUS[ErrorCode(code)]
    assert status.grpc is grpc.StatusCode[on_grpc]
    assert (status.http, status.s3_http, status.s3) == (http, s3_http, s3)


def test_every_code_has_a_row() -> None:
    assert set(STATUS) == set(ErrorCode)


def test_what_nobody_foresaw_tells_callers_nothing() -> None:
    told = as_prism_error(RuntimeError("secret"))
    assert (told.code, "secret" in told.message) == (ErrorCode.INTERNAL, False)
    assert as_prism_error(TimeoutError()).code is ErrorCode.DEADLINE_EXCEEDED
    own = PrismError(ErrorCode.DATA_LOSS, "lost")
    assert as_prism_error(own) is own
