"""Keys that others put into the container and that obstore refuses or changes (`a//b`, `/a`, `a/`).

They are read through Azure's own library, a stretch at a time, each pinned to the etag of the first. A key with a
backslash (a slash to Azure) or a segment `.` or `..` lies in no container: on its way to one it would become another.
"""

import re
from collections.abc import AsyncIterator
from typing import Any

from ..model import ByteRange
from .azure_requests import Requests, pinned
from .driver import BlobInfo, Opened

__all__ = ["is_foreign", "is_nowhere", "open_foreign"]

_STRETCH_BYTES = 2**20
_FOREIGN = re.compile(r"[\x00-\x1f\x7f]|\A/|/\Z|//")
_NOWHERE = re.compile(r"(?:\A|/)\.{1,2}(?:/|\Z)|\\")


def is_foreign(key: str) -> bool:
    """Whether obstore would not read this very key."""
    return _FOREIGN.search(key) is not None


def is_nowhere(key: str) -> bool:
    """Whether no container holds this key."""
    return _NOWHERE.search(key) is not None


def open_foreign(requests: Requests, key: str, info: BlobInfo, byte_range: ByteRange | None) -> Opened:
    """Open the bytes that `info` tells of."""
    return Opened(info, _Stretches(requests, key, info.etag, byte_range or ByteRange(0, info.size_bytes)))


class _Stretches:
    """A read under way; nothing is open between two stretches."""

    def __init__(self, requests: Requests, key: str, etag: str, served: ByteRange) -> None:
        self._requests = requests
        self._key = key
        self._etag = etag
        self._served: ByteRange | None = served

    async def __aiter__(self) -> AsyncIterator[bytes]:
        served, self._served = self._served, None
        at, end = (served.offset, served.offset + served.length) if served else (0, 0)
        while at < end:
            piece = await self._requests.ask(self._reading(at, min(_STRETCH_BYTES, end - at)))
            at += len(piece)
            yield piece

    async def aclose(self) -> None:
        """Nothing is held."""
        self._served = None

    def _reading(self, at: int, size_bytes: int) -> Any:
        return lambda container: (
            container.get_blob_client(self._key)
            .download_blob(offset=at, length=size_bytes, **pinned(self._etag))
            .readall()
        )
