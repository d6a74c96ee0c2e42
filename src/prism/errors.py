"""The one exception that crosses a room's wall, and its codes.

A room raises `PrismError` where something goes wrong; the ports' front doors map a library's exceptions to it; the
servers map it to the wire in one table (`server/status.py`). Nothing is ever told apart by the text of a message.
Messages and context are shown to callers: they never hold a secret, a token, a signature or a presigned query.
"""

from collections.abc import Mapping
from enum import StrEnum

__all__ = ["ErrorCode", "PrismError"]


class ErrorCode(StrEnum):
    """What went wrong. The member's name is the `reason` of gRPC's ErrorInfo and the `code` of HTTP error bodies."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    NAMESPACE_NOT_FOUND = "NAMESPACE_NOT_FOUND"
    BUCKET_NOT_FOUND = "BUCKET_NOT_FOUND"
    OBJECT_NOT_FOUND = "OBJECT_NOT_FOUND"
    BUCKET_NOT_EMPTY = "BUCKET_NOT_EMPTY"
    BUCKET_EXISTS = "BUCKET_EXISTS"
    NOT_MODIFIED = "NOT_MODIFIED"
    RANGE_NOT_SATISFIABLE = "RANGE_NOT_SATISFIABLE"
    PRECONDITION_FAILED = "PRECONDITION_FAILED"
    CHECKSUM_MISMATCH = "CHECKSUM_MISMATCH"
    SIZE_MISMATCH = "SIZE_MISMATCH"
    TOO_LARGE = "TOO_LARGE"
    RATE_LIMITED = "RATE_LIMITED"
    QUOTA_EXCEEDED = "QUOTA_EXCEEDED"
    """Raised by nobody yet: quotas come later, their clients need the name now."""
    TOO_MANY_UPLOADS = "TOO_MANY_UPLOADS"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    UNKNOWN_ACCESS_KEY = "UNKNOWN_ACCESS_KEY"
    SIGNATURE_MISMATCH = "SIGNATURE_MISMATCH"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    STORE_DOWN = "STORE_DOWN"
    CATALOG_DOWN = "CATALOG_DOWN"
    BUS_DOWN = "BUS_DOWN"
    UPLOAD_PENDING = "UPLOAD_PENDING"
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"
    DELETED_MEANWHILE = "DELETED_MEANWHILE"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    CANCELLED = "CANCELLED"
    """The caller left before the end; nobody reads the answer."""
    UNIMPLEMENTED = "UNIMPLEMENTED"
    DATA_LOSS = "DATA_LOSS"
    SCHEMA_MISMATCH = "SCHEMA_MISMATCH"
    LEASE_LOST = "LEASE_LOST"
    INTERNAL = "INTERNAL"


_RETRYABLE = frozenset(
    {
        ErrorCode.RATE_LIMITED,
        ErrorCode.STORE_DOWN,
        ErrorCode.CATALOG_DOWN,
        ErrorCode.BUS_DOWN,
        ErrorCode.UPLOAD_PENDING,
        ErrorCode.OUTCOME_UNKNOWN,
    }
)


class PrismError(Exception):
    """`code` decides; `message` is one sentence for people: what was wrong and what is allowed.

    `retryable` says that the same request may succeed later unchanged (by default it follows from the code).
    `context` holds short facts for machines (limits, the offending field); `retry_after_seconds` is a hint.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        retryable: bool | None = None,
        context: Mapping[str, str] | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retryable = code in _RETRYABLE if retryable is None else retryable
        self.context = dict(context or {})
        self.retry_after_seconds = retry_after_seconds

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"
