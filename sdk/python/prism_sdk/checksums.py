"""CRC-32C: its text form in the API (base64 of four big-endian bytes), and that of a whole from those of its parts.

A CRC is the remainder of a polynomial over GF(2), so appending n bytes multiplies what stood before by x^8n and adds
what came; no byte is read again for that. Polynomials are written with the highest power in the lowest bit.
"""

import base64
from collections.abc import Iterable
from functools import lru_cache

__all__ = ["crc32c_of_parts", "crc32c_text"]

_CASTAGNOLI = 0x82F63B78
_ONE = 1 << 31
_X8 = 1 << 23


def crc32c_text(value: int) -> str:
    """The text of a CRC-32C."""
    return base64.b64encode(value.to_bytes(4, "big")).decode()


def crc32c_of_parts(parts: Iterable[tuple[int, int]]) -> int:
    """Of the whole; each part by its CRC-32C and its size in bytes, in their order."""
    whole = 0
    for crc, size_bytes in parts:
        whole = _product(whole, _appending(size_bytes)) ^ crc
    return whole


def _product(one: int, other: int) -> int:
    """Of two polynomials, modulo Castagnoli's."""
    result = 0
    for power in range(31, -1, -1):
        if one >> power & 1:
            result ^= other
        other = other >> 1 ^ (_CASTAGNOLI if other & 1 else 0)
    return result


@lru_cache(maxsize=64)
def _appending(size_bytes: int) -> int:
    """x to the power of so many bytes; the parts of one object have two sizes."""
    result, factor = _ONE, _X8
    while size_bytes:
        if size_bytes & 1:
            result = _product(result, factor)
        factor = _product(factor, factor)
        size_bytes >>= 1
    return result
