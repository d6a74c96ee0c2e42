"""What is known of an object that is put together of parts, from what is known of each part: its CRC-32C and its etag.

A CRC-32C is a polynomial's remainder, so that of a whole follows from those of its parts and their lengths without
reading a byte (multiplication by x^8n in GF(2), as zlib's `crc32_combine`). S3's etag of such an object is the MD5 of
its parts' MD5s, a dash, and their number; clients compute it themselves and compare.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from .digests import crc32c_text

__all__ = ["crc32c_of_parts", "etag_of_parts"]

_POLYNOMIAL = 0x82F63B78
"""Castagnoli's, bits reversed: the highest power stands in the lowest bit."""
_ONE = 1 << 31
_MD5 = re.compile(r"[0-9a-f]{32}\Z")


def crc32c_of_parts(parts: Iterable[tuple[str, int]]) -> str:
    """The customary text of the whole's CRC-32C; parts are given by theirs and their size in bytes, in order."""
    whole = 0
    for text, size_bytes in parts:
        own = int.from_bytes(base64.b64decode(text), "big")
        whole = _times(_shift(size_bytes), whole) ^ own
    return crc32c_text(whole)


def etag_of_parts(version_id: str, etags: Sequence[str]) -> str:
    """S3's etag where each part's etag is its MD5; else one that only this upload with these very parts has."""
    if all(_MD5.match(etag) for etag in etags):
        joined = b"".join(bytes.fromhex(etag) for etag in etags)
        digest = hashlib.md5(joined, usedforsecurity=False).hexdigest()
    else:
        digest = hashlib.blake2b("\n".join((version_id, *etags)).encode(), digest_size=16).hexdigest()
    return f"{digest}-{len(etags)}"


def _times(one: int, other: int) -> int:
    """The product of two polynomials, modulo the CRC's."""
    product = 0
    bit = _ONE
    while bit:
        if one & bit:
            product ^= other
        bit >>= 1
        other = other >> 1 ^ _POLYNOMIAL if other & 1 else other >> 1
    return product


@lru_cache(maxsize=256)
def _shift(size_bytes: int) -> int:
    """x to the power of the number of bits; parts of one upload have few sizes."""
    power, square = _ONE, _ONE >> 8
    while size_bytes:
        if size_bytes & 1:
            power = _times(square, power)
        square = _times(square, square)
        size_bytes >>= 1
    return power
