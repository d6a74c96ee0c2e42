"""Checksums of a stream while it passes, and their comparison with what the writer declared.

CRC-32C always (cheap, in hardware), SHA-256 and MD5 only when somebody needs them. Text forms: CRC-32C as base64 of
four big-endian bytes (S3, GCS), SHA-256 and MD5 as lower-case hex.
"""

import base64
import hashlib

import google_crc32c

from .errors import ErrorCode, PrismError
from .model import Declared

__all__ = ["Digests", "crc32c_text", "etag_of"]


def crc32c_text(value: int) -> str:
    """The customary text of a CRC-32C."""
    return base64.b64encode(value.to_bytes(4, "big")).decode()


def etag_of(version_id: str) -> str:
    """The etag of content that nobody needs the MD5 of: unique per write; its dash says that it is no MD5, as S3's
    multipart etags do, so that clients do not compare it."""
    return hashlib.blake2b(version_id.encode(), digest_size=16).hexdigest() + "-1"


class Digests:
    """Feed it every chunk once, in order, from one thread at a time."""

    def __init__(self, *, md5: bool = False, sha256: bool = False) -> None:
        self._crc = 0
        self._md5 = hashlib.md5(usedforsecurity=False) if md5 else None
        self._sha256 = hashlib.sha256() if sha256 else None
        self.size_bytes = 0

    def update(self, chunk: bytes) -> None:
        """Take the next chunk."""
        self.size_bytes += len(chunk)
        self._crc = google_crc32c.extend(self._crc, chunk)
        if self._md5 is not None:
            self._md5.update(chunk)
        if self._sha256 is not None:
            self._sha256.update(chunk)

    @property
    def crc32c(self) -> str:
        return crc32c_text(self._crc)

    @property
    def md5(self) -> str | None:
        return None if self._md5 is None else self._md5.hexdigest()

    @property
    def sha256(self) -> str | None:
        return None if self._sha256 is None else self._sha256.hexdigest()

    def check(self, declared: Declared) -> None:
        """SIZE_MISMATCH or CHECKSUM_MISMATCH when the bytes are not the declared ones."""
        if declared.size_bytes is not None and declared.size_bytes != self.size_bytes:
            raise PrismError(
                ErrorCode.SIZE_MISMATCH, f"{self.size_bytes} bytes came, {declared.size_bytes} were declared"
            )
        for name, said, found in (
            ("CRC-32C", declared.crc32c, self.crc32c),
            ("SHA-256", declared.sha256, self.sha256),
            ("MD5", declared.md5, self.md5),
        ):
            if said is not None and said != found:
                raise PrismError(ErrorCode.CHECKSUM_MISMATCH, f"the content's {name} is not the declared one")
