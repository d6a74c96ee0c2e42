"""S3 and its compatibles as a store of bytes."""

from ..config import S3Store
from ..errors import ErrorCode, PrismError
from .driver import Driver

__all__ = ["open_s3"]


async def open_s3(store: S3Store) -> Driver:
    """The driver for this bucket; no request is made."""
    raise PrismError(ErrorCode.UNIMPLEMENTED, f"bucket {store.bucket!r}: there is no driver for s3 yet")
