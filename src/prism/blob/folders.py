"""Folders below one root, by descriptor: nothing here ever follows a symbolic link or leaves the root.

Recently used folders stay open, a bounded number of them. `make` returns a folder whose entry, and those of all folders
above it, are durable. A folder that is emptied is removed; whoever holds its descriptor then notices (nothing can be
linked into a removed folder) and makes it anew. Names that contain `~=` are the store's own and are no keys.
"""

import bisect
import contextlib
import errno
import heapq
import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["OWN", "Descriptor", "Entry", "Folder", "Folders", "Listing", "split"]

OWN = "~="
"""In a name: the store's own (temporary folder, sidecar)."""
_OPEN_FOLDERS = 64
ATTEMPTS = 100
"""How often what was removed by somebody else in the same moment is looked up or made again."""
_SETTLED_NS = 1_000_000_000
_WORTH_KEEPING = 2000
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Descriptor:
    """An open file that is closed when nobody, in no thread, refers to it any more."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def close(self) -> None:
        """Close it at once: the caller knows that nobody else uses it."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()


class Folder(Descriptor):
    """An open folder. `durable`: its entry and those of all folders above it are known to be synced."""

    __slots__ = ("durable",)

    def __init__(self, fd: int, durable: bool = False) -> None:
        super().__init__(fd)
        self.durable = durable

    @property
    def removed(self) -> bool:
        """Whether it is in no folder any more: nothing can be found or linked in it."""
        return os.fstat(self.fd).st_nlink == 0


def split(key: str) -> tuple[str, str]:
    """Folder (empty, or ending in `/`) and name of a key. FileNotFoundError for a key that no file here can have."""
    at = key.rfind("/") + 1
    if not key[at:] or OWN in key:
        raise FileNotFoundError(errno.ENOENT, "no key of this store")
    return key[:at], key[at:]


class _Removed(Exception):
    """A folder on the way was removed by somebody else: look again."""


class Folders:
    """The folders below `root`. `folded`: the filesystem takes names for equal that differ in case or Unicode form."""

    def __init__(self, root: str, folded: bool = False) -> None:
        self.root = Folder(os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), durable=True)
        self.folded = folded
        self._recent: OrderedDict[str, Folder] = OrderedDict()
        self._lock = threading.Lock()

    def name(self, name: str) -> str:
        """How a segment of a key is written on the disk."""
        return _escape(name) if self.folded else name

    def key_part(self, name: str) -> str | None:
        """The segment that a name on the disk stands for; None when no key has it."""
        if OWN in name:
            return None
        try:
            name.encode()
        except UnicodeEncodeError:
            return None
        return _unescape(name) if self.folded else name

    def open(self, path: str) -> Folder:
        """An existing folder. FileNotFoundError or NotADirectoryError when there is none."""
        return self._reach(path, make=False)

    def make(self, path: str) -> Folder:
        """The folder, made and durable."""
        return self._reach(path, make=True)

    def forget(self, path: str) -> None:
        """Let go of removed folders on the way to `path`. ESTALE when the root itself is gone."""
        if self.root.removed:
            raise OSError(errno.ESTALE, "the store's folder was removed")
        with self._lock:
            for above in _upwards(path):
                if above in self._recent and self._recent[above].removed:
                    del self._recent[above]

    def remove_empty(self, path: str) -> None:
        """Remove the folder and those above it, as far up as they are empty."""
        for above in _upwards(path):
            parent, name = above[: above.rstrip("/").rfind("/") + 1], above.rstrip("/").rpartition("/")[2]
            try:
                os.rmdir(self.name(name), dir_fd=self.open(parent).fd)
            except OSError:
                return  # not empty, or somebody else's concern meanwhile
            with self._lock:
                self._recent.pop(above, None)

    def close(self) -> None:
        """Let all folders go."""
        with self._lock:
            self._recent.clear()
        self.root.close()

    def _reach(self, path: str, make: bool) -> Folder:
        if not path:
            return self.root
        with self._lock:
            known = self._recent.get(path)
            if known is not None and (known.durable or not make):
                self._recent.move_to_end(path)
                return known
        for _ in range(ATTEMPTS):
            try:
                return self._descend(path, make)
            except _Removed:
                self.forget(path)
        raise OSError(errno.EBUSY, "the folder is removed again and again")

    def _descend(self, path: str, make: bool) -> Folder:
        """From the deepest open folder on the way down to `path`."""
        start, folder = "", self.root
        with self._lock:
            for above in _upwards(path):
                known = self._recent.get(above)
                if known is not None and (known.durable or not make):
                    start, folder = above, known
                    break
        if start == path:
            return folder
        for segment in path[len(start) : -1].split("/"):
            if segment in {"", ".", ".."} or OWN in segment:
                raise NotADirectoryError(errno.ENOTDIR, "no folder of this store")
            try:
                folder = self._child(folder, self.name(segment), make)
            except FileNotFoundError as error:
                if make or folder.removed:  # or the child was, between its making and its opening
                    raise _Removed from error
                raise
            start += segment + "/"
            self._remember(start, folder)
        return folder

    def _child(self, folder: Folder, name: str, make: bool) -> Folder:
        if not make:
            return Folder(os.open(name, _FOLDER_FLAGS, dir_fd=folder.fd))
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=folder.fd)
        child = Folder(os.open(name, _FOLDER_FLAGS, dir_fd=folder.fd), durable=True)
        os.fsync(folder.fd)
        return child

    def _remember(self, path: str, folder: Folder) -> None:
        with self._lock:
            self._recent[path] = folder
            self._recent.move_to_end(path)
            while len(self._recent) > _OPEN_FOLDERS:
                self._recent.popitem(last=False)


def _upwards(path: str) -> Iterator[str]:
    """`a/b/` -> `a/b/`, `a/`."""
    while path:
        yield path
        path = path[: path.rfind("/", 0, -1) + 1]


_FOLDING = re.compile(r"[A-Z^]|[^\x00-\x7f]+")
_ESCAPED = re.compile(r"\^0([0-9a-f]+)\^|\^[a-z^]")


def _escape(name: str) -> str:
    return _FOLDING.sub(lambda found: _escaped(found[0]), name)


def _escaped(text: str) -> str:
    return "^" + text.lower() if text.isascii() else f"^0{text.encode().hex()}^"


def _unescape(name: str) -> str | None:
    try:
        text = _ESCAPED.sub(_unescaped, name)
    except ValueError:  # no hex, or no UTF-8
        return None
    return text if _escape(text) == name else None


def _unescaped(escape: re.Match[str]) -> str:
    return bytes.fromhex(escape[1]).decode() if escape[1] else escape[0][1].upper()


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
            os.open(".", _FOLDER_FLAGS, dir_fd=folder.fd)
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
