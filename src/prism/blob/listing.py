"""The files of a local store in the byte order of their keys, a page at a time.

What lies in folder `d` sorts as `d/`, so each folder is read and sorted by itself, and only folders that a page needs
are read. Symbolic links, names that no key has and whatever is no file are passed over.
"""

import bisect
import heapq
import os
import time
from collections.abc import Iterator
from typing import NamedTuple

from .folders import FOLDER_FLAGS, Descriptor, Folder, Folders

__all__ = ["Entry", "Listing"]

_SETTLED_NS = 1_000_000_000
_WORTH_KEEPING = 2000


class Entry(NamedTuple):
    """A file: its key, the folder it lies in and its name there."""

    key: str
    folder: Folder
    name: str


class _Scan(NamedTuple):
    """Part of a folder's content in order: from `low` on, to the end when `complete`."""

    path: str
    stamp: tuple[int, int]
    low: str
    parts: list[str]
    complete: bool

    def holds(self, low: str) -> bool:
        """Whether the first parts from `low` on are in it."""
        return self.low <= low and (self.complete or low <= self.parts[-1])


class Listing:
    """Files in the byte order of their keys, without reading folders that the page does not need.

    Of one folder at most `batch` names are held at a time. The names of the last big folder are kept for the next page
    and used as long as the folder has not changed.
    """

    def __init__(self, folders: Folders, batch: int = 50_000) -> None:
        self._folders = folders
        self._batch = batch
        self._last: _Scan | None = None

    def after(self, prefix: str, start_after: str) -> Iterator[Entry]:
        """All files whose key begins with `prefix` and sorts after `start_after`."""
        return self._below(prefix[: prefix.rfind("/") + 1], prefix, start_after)

    def _below(self, path: str, prefix: str, start_after: str) -> Iterator[Entry]:
        try:
            folder = self._folders.open(path)
        except (FileNotFoundError, NotADirectoryError):
            return
        for part in self._parts(path, folder, prefix[len(path) :], start_after):
            if part.endswith("/"):
                yield from self._below(path + part, prefix, start_after)
            else:
                yield Entry(path + part, folder, self._folders.name(part))

    def _parts(self, path: str, folder: Folder, prefix: str, start_after: str) -> Iterator[str]:
        """Names in the folder that begin with `prefix`, folders with their `/`, without what `start_after` excludes.

        What lies in folder `d` sorts as `d/`; a folder that `start_after` leads into is needed too.
        """
        after = start_after[len(path) :] if start_after.startswith(path) else ""
        if not after and start_after > path:
            return
        low = max(prefix, after[: after.find("/") + 1] or after)
        while True:
            scan = self._scan(path, folder, low)
            for part in scan.parts[bisect.bisect_left(scan.parts, low) :]:
                if not part.startswith(prefix):
                    return
                if part > after or (part.endswith("/") and after.startswith(part)):
                    yield part
            if scan.complete:
                return
            low = scan.parts[-1] + "\x00"

    def _scan(self, path: str, folder: Folder, low: str) -> _Scan:
        found = os.fstat(folder.fd)
        stamp = (found.st_ino, found.st_mtime_ns)
        last = self._last
        if last and (last.path, last.stamp) == (path, stamp) and last.holds(low):
            return last
        settled = time.time_ns() - found.st_mtime_ns > _SETTLED_NS
        parts = heapq.nsmallest(self._batch, (part for part in self._read(folder) if part >= low))
        scan = _Scan(path, stamp, low, parts, complete=len(parts) < self._batch)
        if settled and len(parts) > _WORTH_KEEPING:
            self._last = scan
        return scan

    def _read(self, folder: Folder) -> Iterator[str]:
        own = Descriptor(
            os.open(".", FOLDER_FLAGS, dir_fd=folder.fd)
        )  # a descriptor of its own has a position of its own
        with os.scandir(own.fd) as entries:
            for entry in entries:
                part = self._folders.key_part(entry.name)
                if part is None:
                    continue
                if entry.is_file(follow_symlinks=False):
                    yield part
                elif entry.is_dir(follow_symlinks=False):
                    yield part + "/"
