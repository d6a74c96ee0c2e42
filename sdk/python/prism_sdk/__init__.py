"""Python SDK for Prism: `PrismClient`, `AsyncPrismClient`, their values and their exceptions."""

from .aio import AsyncPrismClient
from .aio_transfers import AsyncObjectReader
from .client import PrismClient
from .connection import Timeouts
from .errors import *  # noqa: F403 the whole tree
from .errors import __all__ as _errors
from .transfers import ObjectReader
from .values import *  # noqa: F403 all of them
from .values import __all__ as _values

__all__ = [
    "AsyncObjectReader",
    "AsyncPrismClient",
    "ObjectReader",
    "PrismClient",
    "Timeouts",
    *(name for name in _errors if name != "error_of"),
    *_values,
]
