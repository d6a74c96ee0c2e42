"""Drafts: files that nobody sees, until they are linked to a name.

A draft is anonymous; where the filesystem has no such files it has a name in a temporary folder of this process, which
holds a lock on it, so that the next start of any process can tell the folders of dead ones and clear them.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import unicodedata
from collections.abc import Iterator, Sequence

from .driver import NoSpace
from .folders import ATTEMPTS, OWN, Descriptor, Folder

__all__ = ["Draft", "Drafts", "copy_some", "discarding", "exists", "write_all"]

_CONTROL = OWN + "prism"
_CHUNK_BYTES = 2**20
_COPY_BYTES = 2**26
_FLUSH_BYTES = 2**23
_CREATE_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ANONYMOUS_FLAGS = os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_ANONYMOUS = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT, errno.EPERM})


class Draft(Descriptor):
    """A file on its way. `name` is its temporary name, empty when it has none; `abandoned` stops its publication."""

    __slots__ = ("abandoned", "etag", "flushed_bytes", "folder", "name", "sidecar", "size_bytes")

    def __init__(self, fd: int, folder: Folder, name: str) -> None:
        super().__init__(fd)
        self.folder = folder
        self.name = name
        self.sidecar: bytes | None = None
        self.abandoned = False
        self.etag = ""
        self.size_bytes = 0
        self.flushed_bytes = 0

    def link(self, folder: Folder, name: str) -> None:
        """Give it a name; FileExistsError rather than replace anything."""
        if self.name:
            os.link(self.name, name, src_dir_fd=self.folder.fd, dst_dir_fd=folder.fd, follow_symlinks=False)
        else:
            os.link(f"/proc/self/fd/{self.fd}", name, dst_dir_fd=folder.fd, follow_symlinks=True)

    def flush_early(self) -> None:
        """Have the disk begin with what was written: the fsync at the end of a large file waits a third less then."""
        if (size := self.size_bytes - self.flushed_bytes) >= _FLUSH_BYTES:
            # "do not need" starts the writing; pages that are not written yet stay
            os.posix_fadvise(self.fd, self.flushed_bytes, size, os.POSIX_FADV_DONTNEED)
            self.flushed_bytes += size

    def close(self) -> None:
        """Let it go; what was not linked is gone."""
        if self.name:
            name, self.name = self.name, ""
            with contextlib.suppress(OSError):  # gone already, or with its folder
                os.unlink(name, dir_fd=self.folder.fd)
        super().close()

    def __del__(self) -> None:
        self.close()


class Drafts:
    """The drafts of one process below one root. `anonymous` false: do without anonymous files in any case."""

    def __init__(self, root: Folder, *, anonymous: bool = True) -> None:
        self._root = root
        self._folder, self._name = _own_temporary(root)
        try:
            self._anonymous = anonymous and self._links_anonymous()
            self.folds = self._folds()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Remove the temporary folder with what is left in it."""
        _remove_temporary(self._root, self._folder, self._name)
        self._folder.close()

    def new(self) -> Draft:
        """An empty one."""
        try:
            return self._make_draft()
        except OSError as error:
            if error.errno in _FULL:
                raise NoSpace from error
            raise

    def _make_draft(self) -> Draft:
        if self._anonymous:
            fd = os.open(".", _ANONYMOUS_FLAGS, 0o600, dir_fd=self._root.fd)
            return Draft(fd, self._folder, "")
        name = secrets.token_hex(12)
        return Draft(os.open(name, _CREATE_FLAGS, 0o600, dir_fd=self._folder.fd), self._folder, name)

    def replace(self, draft: Draft, folder: Folder, name: str) -> None:
        """Give a draft a name that another file may have."""
        aside = secrets.token_hex(12)
        draft.link(self._folder, aside)
        try:
            os.rename(aside, name, src_dir_fd=self._folder.fd, dst_dir_fd=folder.fd)
        except OSError:
            os.unlink(aside, dir_fd=self._folder.fd)
            raise

    def _links_anonymous(self) -> bool:
        """Whether an anonymous file can be made and named here."""
        name = secrets.token_hex(12)
        try:
            fd = os.open(".", _ANONYMOUS_FLAGS, 0o600, dir_fd=self._folder.fd)
            Draft(fd, self._folder, "").link(self._folder, name)
        except OSError as error:
            if error.errno not in _NO_ANONYMOUS:
                raise
            return False
        os.unlink(name, dir_fd=self._folder.fd)
        return True

    def _folds(self) -> bool:
        """Whether names that differ in case or Unicode form are one name here."""
        name = secrets.token_hex(8) + "-A\u00e9"
        others = (name.lower(), unicodedata.normalize("NFD", name))
        draft = Draft(os.open(name, _CREATE_FLAGS, 0o600, dir_fd=self._folder.fd), self._folder, name)
        try:
            return any(exists(self._folder, other) for other in others)
        finally:
            draft.close()


@contextlib.contextmanager
def discarding(draft: Draft) -> Iterator[Draft]:
    """A step that fails takes its draft along."""
    try:
        yield draft
    except BaseException as error:
        draft.close()
        if isinstance(error, OSError) and error.errno in _FULL:
            raise NoSpace from error
        raise


def write_all(fd: int, pieces: Sequence[bytes]) -> int:
    """All of the pieces, however the system cuts them; returns their bytes."""
    size = sum(map(len, pieces))
    written = os.writev(fd, pieces) if size else 0
    while written < size:
        written += os.write(fd, memoryview(b"".join(pieces))[written:])
    return size


def copy_some(source: int, target: int, most: int = _COPY_BYTES) -> int:
    """The next bytes, at most so many, from one file's position to the other's; 0 at the end."""
    try:
        return os.copy_file_range(source, target, min(most, _COPY_BYTES))
    except OSError as error:
        if error.errno not in {errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}:
            raise
    return write_all(target, [os.read(source, min(most, _CHUNK_BYTES))])


def exists(folder: Folder, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder.fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _own_temporary(root: Folder) -> tuple[Folder, str]:
    """A locked folder for this process's drafts; what dead processes left there is removed."""
    for _ in range(ATTEMPTS):
        name = f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            control = _control(root)
            _clear_dead(control)
            os.mkdir(name, 0o700, dir_fd=control.fd)
            own = _folder(control, name)
            fcntl.flock(own.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (FileNotFoundError, BlockingIOError):
            continue  # somebody cleared it before it was locked
        if os.fstat(own.fd).st_nlink:
            return own, name
    raise OSError(errno.EBUSY, "the temporary folder is removed again and again")


def _control(root: Folder) -> Folder:
    with contextlib.suppress(FileExistsError):
        os.mkdir(_CONTROL, 0o700, dir_fd=root.fd)
    return _folder(root, _CONTROL)


def _folder(parent: Folder, name: str) -> Folder:
    return Folder(os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent.fd))


def _clear_dead(control: Folder) -> None:
    """Remove the temporary folders that no living process has locked."""
    for name in os.listdir(control.fd):  # noqa: PTH208 - by descriptor
        try:
            folder = _folder(control, name)
            fcntl.flock(folder.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # alive, or cleared by somebody else meanwhile
        _remove_folder(control, folder, name)


def _remove_folder(control: Folder, folder: Folder, name: str) -> None:
    for draft in os.listdir(folder.fd):  # noqa: PTH208 - by descriptor
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft, dir_fd=folder.fd)
    with contextlib.suppress(OSError):
        os.rmdir(name, dir_fd=control.fd)


def _remove_temporary(root: Folder, own: Folder, name: str) -> None:
    try:
        control = _folder(root, _CONTROL)
    except OSError:
        return
    _remove_folder(control, own, name)
    with contextlib.suppress(OSError):  # others are at work
        os.rmdir(_CONTROL, dir_fd=root.fd)
