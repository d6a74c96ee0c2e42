"""Pages of a container's blobs in Azure's own order, from a name on.

Services of version 2026-02-06 begin a listing at a name. Older ones, and those that do not look at it, are read from
the prefix's beginning, and what comes before the name is dropped.
"""

from collections.abc import Iterator
from datetime import UTC
from typing import Any

from .azure_listing import utf16
from .azure_requests import Requests, StoreAnswered
from .driver import BlobEntry
from .obstores import unquoted

__all__ = ["Pages"]

_FEWEST = 100
_MOST = 5000


class Pages:
    """The `Scan` of one container."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._begins_at_names = True

    async def scan(self, prefix: str, start: str, most: int) -> tuple[list[BlobEntry], bool]:
        """At most `most` entries that begin with `prefix` from `start` on, and whether there are more."""
        if self._begins_at_names:
            try:
                return await self._requests.ask_for_pages(lambda container: _read(container, prefix, start, most, True))
            except StoreAnswered:
                self._begins_at_names = False
        return await self._requests.ask(lambda container: _read(container, prefix, start, most, False))


def _read(container: Any, prefix: str, start: str, most: int, begins: bool) -> tuple[list[BlobEntry], bool]:
    skips = start > prefix
    wanted = {"start_from": start} if begins and skips else {}
    per_page = min(_MOST, max(_FEWEST, most + 1 if begins or not skips else _MOST))
    pages = container.list_blobs(name_starts_with=prefix or None, results_per_page=per_page, **wanted).by_page()
    low = utf16(start)
    found: list[BlobEntry] = []
    for entry in _entries(pages):
        if skips and utf16(entry.key) < low:
            continue
        if len(found) == most:
            return found, True
        found.append(entry)
    return found, False


def _entries(pages: Any) -> Iterator[BlobEntry]:
    for page in pages:
        for blob in page:
            yield BlobEntry(blob.name, blob.size, unquoted(blob.etag), blob.last_modified.astimezone(UTC))
