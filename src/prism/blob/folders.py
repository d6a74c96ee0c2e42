"""Folders below one root, by descriptor: nothing here ever follows a symbolic link or leaves the root.

Recently used folders stay open, a bounded number of them. `make` returns a folder whose entry, and those of all folders
above it, are durable. A folder that is emptied is removed; whoever holds its descriptor then notices (nothing can be
linked into a removed folder) and makes it anew. Names that contain `~=` are the store's own and are no keys.
"""

import contextlib
import errno
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator

__all__ = ["ATTEMPTS", "FOLDER_FLAGS", "OWN", "Descriptor", "Folder", "Folders", "split"]

OWN = "~="
"""In a name: the store's own (temporary folder, sidecar)."""
_OPEN_FOLDERS = 64
ATTEMPTS = 100
"""How often what was removed by somebody else in the same moment is looked up or made again."""
FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


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

    def __init__(self, root: str, folded: bool = False, sync: Callable[[int], None] = os.fsync) -> None:
        self._sync = sync
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

    def open(self, path: str, own: bool = False) -> Folder:
        """An existing folder. FileNotFoundError or NotADirectoryError when there is none. `own`: one of the store's."""
        return self._reach(path, False, own)

    def make(self, path: str, own: bool = False) -> Folder:
        """The folder, made and durable."""
        return self._reach(path, True, own)

    def forget(self, path: str) -> None:
        """Let go of removed folders on the way to `path`. ESTALE when the root itself is gone."""
        if self.root.removed:
            raise OSError(errno.ESTALE, "the store's folder was removed")
        with self._lock:
            for above in _upwards(path):
                if above in self._recent and self._recent[above].removed:
                    del self._recent[above]

    def remove_empty(self, path: str, own: bool = False) -> None:
        """Remove the folder and those above it, as far up as they are empty."""
        for above in _upwards(path):
            parent, name = above[: above.rstrip("/").rfind("/") + 1], above.rstrip("/").rpartition("/")[2]
            try:
                os.rmdir(self.name(name), dir_fd=self.open(parent, own).fd)
            except OSError:
                return  # not empty, or somebody else's concern meanwhile
            with self._lock:
                self._recent.pop(above, None)

    def close(self) -> None:
        """Let all folders go."""
        with self._lock:
            self._recent.clear()
        self.root.close()

    def _reach(self, path: str, make: bool, own: bool) -> Folder:
        if not path:
            return self.root
        if OWN in path and not own:
            raise NotADirectoryError(errno.ENOTDIR, "no folder of this store")
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
            if segment in {"", ".", ".."}:
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
            return Folder(os.open(name, FOLDER_FLAGS, dir_fd=folder.fd))
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=folder.fd)
        child = Folder(os.open(name, FOLDER_FLAGS, dir_fd=folder.fd), durable=True)
        self._sync(folder.fd)
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
