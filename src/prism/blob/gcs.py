"""Google Cloud Storage as a store of bytes."""

from ..config import GCSStore
from ..errors import ErrorCode, PrismError
from .driver import Driver

__all__ = ["open_gcs"]


async def open_gcs(store: GCSStore) -> Driver:
    """The driver for this bucket; no request is made."""
    raise PrismError(ErrorCode.UNIMPLEMENTED, f"bucket {store.bucket!r}: there is no driver for gcs yet")
