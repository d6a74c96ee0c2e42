"""Keys as tuples, encoded so that their bytes sort as the tuples do; `unpack(pack(key)) == key` for every key.

Elements of one type sort by value (str by code point, bytes bytewise), types sort bytes < str < int < bool, and a tuple
sorts before everything that extends it. All codes lie below 0xF0, so what begins with 0xF0 or above is never a key:
range ends and the front door's own rows live there. A bytes element is written in groups of twelve, so that a stamp
(twelve bytes) stands in a key unescaped. This module checks no sizes; the front door does.
"""

from typing import TypeAlias

__all__ = ["STAMP_BYTES", "STAMP_CLOSE", "STAMP_OPEN", "Element", "Key", "after", "pack", "span", "span_text", "unpack"]

Element: TypeAlias = str | int | bytes | bool
Key: TypeAlias = tuple[Element, ...]

STAMP_BYTES = 12
"""Length of the element that `append` adds: ten bytes in commit order, two for the order within the transaction."""
STAMP_OPEN = b"\x01"
STAMP_CLOSE = bytes([STAMP_BYTES])
"""What stands before and behind a stamp in an encoded key."""

_BYTES, _STR, _FALSE, _TRUE = 0x01, 0x02, 0x26, 0x27
_INT_ZERO, _INT_WIDE, _INT_MAX = 0x14, 9, 255
_GROUP, _MORE = STAMP_BYTES, STAMP_BYTES + 1
_END = b"\xf0"


def pack(key: Key) -> bytes:
    """The encoded key. TypeError for an element of another type, ValueError for one that has no encoding."""
    try:
        text = "\x00\x02".join(key)  # type: ignore[arg-type]  # keys of strings only take this short way
    except TypeError:
        return b"".join([_element(element) for element in key])
    if text.count("\x00") != len(key) - 1:
        return b"".join([_element(element) for element in key])
    return b"\x02" + text.encode() + b"\x00"


def _element(element: Element) -> bytes:
    if isinstance(element, str):
        return b"\x02" + _escaped(element) + b"\x00"
    if isinstance(element, bool):
        return b"\x27" if element else b"\x26"
    if isinstance(element, int):
        return _int(element)
    if isinstance(element, bytes):
        return _grouped(element)
    raise TypeError(f"a key's element is a str, int, bytes or bool, not {type(element).__name__}")


def _escaped(text: str) -> bytes:
    return text.encode().replace(b"\x00", b"\x00\xff")


def _int(value: int) -> bytes:
    """Code 0x14 plus or minus the number of bytes; from nine bytes on one code and the number itself."""
    size = (abs(value).bit_length() + 7) // 8
    if size > _INT_MAX:
        raise ValueError(f"a key's integer has at most {_INT_MAX} bytes")
    magnitude = value if value >= 0 else (1 << 8 * size) - 1 + value
    sign = 1 if value >= 0 else -1
    head = bytes([_INT_ZERO + sign * min(size, _INT_WIDE)])
    if size >= _INT_WIDE:
        head += bytes([size if value >= 0 else _INT_MAX - size])
    return head + magnitude.to_bytes(size, "big")


def _grouped(value: bytes) -> bytes:
    """Groups of twelve padded with NUL, each followed by how many of its bytes count, or 13 when another follows."""
    out = [b"\x01"]
    last = max(0, len(value) - 1) // _GROUP * _GROUP
    for at in range(0, last, _GROUP):
        out.append(value[at : at + _GROUP] + bytes([_MORE]))
    tail = value[last:]
    out.append(tail.ljust(_GROUP, b"\x00") + bytes([len(tail)]))
    return b"".join(out)


def unpack(raw: bytes) -> Key:
    """The key that `pack` encoded. ValueError when `raw` is no encoded key."""
    if raw[:1] == b"\x02" and raw[-1:] == b"\x00":
        try:
            text = raw[1:-1].decode()
        except UnicodeDecodeError:
            return _unpack(raw)
        parts = text.split("\x00\x02")
        if text.count("\x00") == len(parts) - 1:
            return tuple(parts)
    return _unpack(raw)


def _unpack(raw: bytes) -> Key:
    found: list[Element] = []
    at = 0
    while at < len(raw):
        code = raw[at]
        if code == _STR:
            element, at = _read_str(raw, at + 1)
        elif code == _BYTES:
            element, at = _read_groups(raw, at + 1)
        elif code in (_FALSE, _TRUE):
            element, at = code == _TRUE, at + 1
        elif _INT_ZERO - _INT_WIDE <= code <= _INT_ZERO + _INT_WIDE:
            element, at = _read_int(raw, at, code - _INT_ZERO)
        else:
            raise ValueError(f"no element of a key begins with byte {code:#04x}")
        found.append(element)
    return tuple(found)


def _read_str(raw: bytes, at: int) -> tuple[Element, int]:
    end = raw.index(b"\x00", at)
    while raw[end + 1 : end + 2] == b"\xff":
        end = raw.index(b"\x00", end + 2)
    return raw[at:end].replace(b"\x00\xff", b"\x00").decode(), end + 1


def _read_groups(raw: bytes, at: int) -> tuple[Element, int]:
    found = []
    while True:
        group, used = raw[at : at + _GROUP], raw[at + _GROUP : at + _GROUP + 1]
        if not used or used[0] > _MORE:
            raise ValueError("a bytes element of the key is cut off")
        at += _GROUP + 1
        found.append(group[: used[0]])
        if used[0] != _MORE:
            return b"".join(found), at


def _read_int(raw: bytes, at: int, size: int) -> tuple[Element, int]:
    negative, size, at = size < 0, abs(size), at + 1
    if size == _INT_WIDE and at < len(raw):
        size, at = (_INT_MAX - raw[at] if negative else raw[at]), at + 1
    body = raw[at : at + size]
    if len(body) != size:
        raise ValueError("an integer of the key is cut off")
    magnitude = int.from_bytes(body, "big")
    return (magnitude - (1 << 8 * size) + 1 if negative else magnitude), at + size


def span(prefix_key: Key) -> tuple[bytes, bytes]:
    """Start (inclusive) and end (exclusive) of all keys that extend the tuple, the tuple itself not among them."""
    raw = pack(prefix_key) if prefix_key else b""
    return raw + b"\x00", raw + _END


def span_text(prefix_key: Key, text: str) -> tuple[bytes, bytes]:
    """Start and end of all keys that extend `prefix_key` by a string element beginning with `text`, and what follows
    it.

    An empty `text` spans every string element, and no element of another type.
    """
    start = (pack(prefix_key) if prefix_key else b"") + b"\x02" + _escaped(text)
    if start.endswith(b"\xff"):
        return start, start[:-2] + b"\x01"
    return start, start[:-1] + bytes([start[-1] + 1])


def after(key: Key) -> bytes:
    """The smallest bound above the key and everything that extends it; below every key that sorts after those."""
    return pack(key) + _END
