"""Azure Blob Storage as a store of bytes."""

from ..config import AzureStore
from ..errors import ErrorCode, PrismError
from .driver import Driver

__all__ = ["open_azure"]


async def open_azure(store: AzureStore) -> Driver:
    """The driver for this bucket; no request is made."""
    raise PrismError(ErrorCode.UNIMPLEMENTED, f"bucket {store.bucket!r}: there is no driver for azure yet")
