"""Listings in byte order from a store that sorts names by UTF-16.

The two orders differ where one name has a character above U+FFFF and another one from U+E000 to U+FFFF: UTF-16 puts the
former first. A page is sorted anew; only a group of names that go apart at such a character and fill more than a page
is asked for in two ranges. Nothing is kept from one page to the next.
"""

from collections.abc import Awaitable, Callable

from .driver import BlobEntry

__all__ = ["Scan", "in_byte_order", "utf16"]

Scan = Callable[[str, str, int], Awaitable[tuple[list[BlobEntry], bool]]]
"""`scan(prefix, start, most)`: what begins with `prefix` and does not sort before `start` in the store's own order, at
most so many, and whether there is more."""

_HIGH = 0xE000
_RANGES = ((_HIGH, 0xFFFF), (0x10000, 0x10FFFF))


def utf16(name: str) -> bytes:
    """What the store sorts a name by."""
    return name.encode("utf-16-be", "surrogatepass")


async def in_byte_order(scan: Scan, prefix: str, start_after: str, limit: int) -> list[BlobEntry]:
    """At most `limit` entries that begin with `prefix` and sort after `start_after` by UTF-8 bytes, in that order."""
    found: list[BlobEntry] = []
    start: str | None = prefix
    if start_after.startswith(prefix):
        start = start_after
        group = _group(start_after, prefix)
        if group != start_after:
            found = await _apart(scan, group, start_after, limit)
            start = _behind(group, prefix)
    elif start_after > prefix:
        return []
    while start is not None and len(found) < limit:
        page, more = await scan(prefix, start, limit + 1)
        last = page[-1].key if more else ""
        group = _group(last, prefix)
        cut = more and group != last
        whole = [entry for entry in page if not (cut and _is_in(group, entry.key))]
        found += sorted((entry for entry in whole if entry.key > start_after), key=_by_key)
        if cut and len(found) < limit:
            found += await _apart(scan, group, start_after, limit - len(found))
        start, start_after = (_behind(group, prefix), start_after) if cut else (last or None, max(start_after, last))
    return found[:limit]


async def _apart(scan: Scan, group: str, start_after: str, limit: int) -> list[BlobEntry]:
    """What begins with `group` and goes on with a high character, one such character after the other."""
    found: list[BlobEntry] = []
    for low, highest in _RANGES:
        if start_after.startswith(group) and len(start_after) > len(group):
            low = max(low, ord(start_after[len(group)]))
        while low <= highest and len(found) < limit:
            page, _ = await scan(group, group + chr(low), 1)
            if not page or not low <= ord(page[0].key[len(group)]) <= highest:
                break
            low = ord(page[0].key[len(group)])
            found += await in_byte_order(scan, group + chr(low), start_after, limit - len(found))
            low += 1
    return found


def _group(name: str, prefix: str) -> str:
    """The beginning of a name up to its first high character behind the prefix; the name itself if there is none."""
    return next((name[:at] for at in range(len(prefix), len(name)) if ord(name[at]) >= _HIGH), name)


def _is_in(group: str, key: str) -> bool:
    return len(key) > len(group) and key.startswith(group) and ord(key[len(group)]) >= _HIGH


def _behind(group: str, prefix: str) -> str | None:
    """Where to go on after all that begin with `group`; None if nothing that begins with `prefix` is left."""
    if group == prefix:
        return None
    after = ord(group[-1]) + 1
    return group[:-1] + chr(0x10000 if after == 0xD800 else after)


def _by_key(entry: BlobEntry) -> str:
    return entry.key  # code points sort as UTF-8 bytes do
