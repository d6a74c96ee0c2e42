"""The checksums that S3 clients send beside or behind a body, computed while it passes.

CRC-32, CRC-32C, SHA-1 and SHA-256; all travel as base64 of their big-endian bytes.
"""

import base64
import hashlib
import zlib
from collections.abc import Callable, Mapping
from typing import Protocol

import google_crc32c

from ..errors import ErrorCode, PrismError
from .headers import hex_of_base64
from .s3_exchange import unimplemented

__all__ = ["PREFIX", "Checksums", "algorithm"]

PREFIX = "x-amz-checksum-"
_SIZE_BYTES = {"crc32": 4, "crc32c": 4, "sha1": 20, "sha256": 32}


class Digest(Protocol):
    """What hashlib gives, and a CRC that looks like it."""

    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


class _Crc:
    def __init__(self, extend: Callable[[bytes, int], int]) -> None:
        self._extend = extend
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = self._extend(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


def algorithm(header: str, value: str | None = None) -> str:
    """The checksum that a header or trailer names. UNIMPLEMENTED for an unknown one, INVALID_ARGUMENT for a
    value that is none of its kind."""
    name = header.removeprefix(PREFIX)
    if name not in _SIZE_BYTES or not header.startswith(PREFIX):
        raise unimplemented(f"the checksum {header[:80]}")
    if value is not None:
        hex_of_base64(header, value, _SIZE_BYTES[name])
    return name


class Checksums:
    """Some checksums of one body; `update` may run in a thread."""

    def __init__(self) -> None:
        self._running: dict[str, Digest] = {}

    def __bool__(self) -> bool:
        return bool(self._running)

    def want(self, name: str) -> None:
        """Compute this one, too."""
        self._running[name] = _digest(name)

    def update(self, content: bytes) -> None:
        """The next piece of the body."""
        for digest in self._running.values():
            digest.update(content)

    def check(self, expected: Mapping[str, str]) -> None:
        """CHECKSUM_MISMATCH unless every one that was wanted is as expected."""
        for name, digest in self._running.items():
            if base64.b64encode(digest.digest()).decode() != expected.get(name):
                raise PrismError(ErrorCode.CHECKSUM_MISMATCH, f"the content's {name} is not the declared one")


def _digest(name: str) -> Digest:
    match name:
        case "crc32":
            return _Crc(zlib.crc32)
        case "crc32c":
            return _Crc(lambda data, value: int(google_crc32c.extend(value, data)))
        case "sha1":
            return hashlib.sha1(usedforsecurity=False)
        case _:
            return hashlib.sha256()
