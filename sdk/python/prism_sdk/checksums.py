"""CRC-32C in the text form of the API: base64 of four big-endian bytes."""

import base64

__all__ = ["crc32c_text"]


def crc32c_text(value: int) -> str:
    """The text of a CRC-32C."""
    return base64.b64encode(value.to_bytes(4, "big")).decode()
