"""Files of a local store, the blocking part: drafts that nobody sees, their publication, reads, removal.

A draft is an anonymous file (or, where the filesystem has none, one in a temporary folder of this process). It is
written, synced and then linked to its name, which never replaces anything, and the folder is synced: so a name is there
with all its bytes or not at all, also after a crash. Content type and metadata stand in an extended attribute, or else
in a sidecar `{name}~=m` that is linked first. Every function here blocks and belongs in a thread.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import stat
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec

from ..failpoints import failpoint
from ..model import ByteRange
from .driver import (
    AlreadyExists,
    BlobEntry,
    BlobInfo,
    DeleteResult,
    EtagMismatch,
    NoSpace,
    NotFound,
    WriteOptions,
)
from .folders import ATTEMPTS, OWN, Descriptor, Folder, Folders, Listing, split

__all__ = ["CHUNK_BYTES", "Draft", "Files", "OpenedFile", "clock"]

CHUNK_BYTES = 2**20
_ATTRIBUTE = "user.prism.blob"
_CONTROL = OWN + "prism"
_SIDECAR = OWN + "m"
_MAX_SIDECAR_BYTES = 2**18
_MAX_VECTORS = 64
_COPY_BYTES = 2**26
_FLUSH_BYTES = 2**23
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENAMETOOLONG, errno.ENXIO})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_ATTRIBUTE = frozenset({errno.ENOTSUP, errno.E2BIG, errno.ENOSPC, errno.ERANGE, errno.EPERM, errno.EDQUOT})
_NO_ANONYMOUS = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT, errno.EPERM})


def clock() -> float:
    """Seconds that also pass while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class _Fields(msgspec.Struct, frozen=True, omit_defaults=True):
    """What stands beside the bytes."""

    content_type: str = ""
    metadata: Mapping[str, str] = {}


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
            os.posix_fadvise(
                self.fd, self.flushed_bytes, size, os.POSIX_FADV_DONTNEED
            )  # starts writing; dirty pages stay
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


class OpenedFile(NamedTuple):
    """What is known of a file, its descriptor (None when nothing is left to read) and its first bytes."""

    info: BlobInfo
    descriptor: Descriptor | None
    first: bytes


class Files:
    """The files below one root. `anonymous` and `attributes` say what the filesystem can do."""

    def __init__(self, root: Path, *, anonymous: bool = True, attributes: bool = True, folded: bool = False) -> None:
        _make_root(root)
        self.folders = Folders(str(root))
        self._temporary, self._temporary_name = _own_temporary(self.folders.root)
        try:
            self._anonymous = anonymous and self._links_anonymous()
            self._attributes = attributes
            self.folders.folded = folded or self._folds()
        except BaseException:
            self.close()
            raise
        self._listing = Listing(self.folders)

    def close(self) -> None:
        """Remove the temporary folder and let all folders go; files that are read go with their readers."""
        _remove_temporary(self.folders.root, self._temporary, self._temporary_name)
        self._temporary.close()
        self.folders.close()

    def write(self, draft: Draft | None, pieces: Sequence[bytes], observe: Callable[[bytes], None] | None) -> Draft:
        """Append to a draft, a new one if None."""
        if draft is None:
            draft = self._begin()
        with _discarding(draft):
            if len(pieces) > _MAX_VECTORS:
                pieces = [b"".join(pieces)]
            draft.size_bytes += _write_all(draft.fd, pieces)
            draft.flush_early()
            if observe is not None:
                for piece in pieces:
                    observe(piece)
        return draft

    def complete(self, draft: Draft | None, pieces: Sequence[bytes], options: WriteOptions) -> Draft:
        """Append the last bytes and make the draft durable, with its fields."""
        draft = self.write(draft, pieces, options.observe)
        with _discarding(draft):
            fields = msgspec.json.encode(_Fields(options.content_type, options.metadata))
            if not self._attributes or not _set_attribute(draft.fd, fields):
                draft.sidecar = fields
            failpoint("blob.local.before_fsync")
            os.fsync(draft.fd)
            failpoint("blob.local.after_fsync")
            draft.etag = _etag(os.fstat(draft.fd))
        return draft

    def copy(self, source: str, if_match: str, options: WriteOptions) -> Draft:
        """A complete draft with the bytes of another file."""
        opened = self.open(source, ByteRange(0, 0), if_match, keep=True)
        assert opened.descriptor is not None
        draft = self._begin()
        with _discarding(draft):
            while count := _copy_some(opened.descriptor.fd, draft.fd):
                draft.size_bytes += count
        return self.complete(draft, (), msgspec.structs.replace(options, observe=None))

    def publish(self, draft: Draft, key: str, until: float, create_only: bool) -> Draft:
        """Link a complete draft to its key and make that durable; TimeoutError, and nothing done, after `until`."""
        with _discarding(draft):
            path, name = split(key)
            name = self.folders.name(name)
            folder = self._link(draft, path, name, until, create_only)
            try:
                failpoint("blob.local.after_rename")
                failpoint("blob.local.before_folder_fsync")
                os.fsync(folder.fd)
                failpoint("blob.local.after_folder_fsync")
            except BaseException:
                _unlink(folder, name)
                raise
        draft.close()
        return draft

    def open(self, key: str, byte_range: ByteRange | None, if_match: str | None, keep: bool = False) -> OpenedFile:
        """Open for reading and read the first piece. `keep`: hand out the descriptor in any case."""
        descriptor, info = self._open(key)
        if if_match is not None and if_match != info.etag:
            raise EtagMismatch(key)
        at, length = (0, info.size_bytes) if byte_range is None else (byte_range.offset, byte_range.length)
        first = os.pread(descriptor.fd, min(length, CHUNK_BYTES), at) if length else b""
        if length > CHUNK_BYTES:
            os.posix_fadvise(descriptor.fd, at, length, os.POSIX_FADV_SEQUENTIAL)
        more = keep or 0 < len(first) < length
        return OpenedFile(info, descriptor if more else None, first)

    def head(self, key: str) -> BlobInfo:
        """What is known of a file."""
        return self._open(key)[1]

    def delete(self, keys: Sequence[str]) -> list[DeleteResult]:
        """Remove files and their sidecars, sync their folders, remove folders that are empty now."""
        failpoint("blob.local.before_delete")
        errors: dict[str, Exception] = {}
        below: dict[str, list[tuple[str, str]]] = {}
        for key in keys:
            with contextlib.suppress(FileNotFoundError):
                path, name = split(key)
                below.setdefault(path, []).append((key, name))
        for path, names in below.items():
            errors |= self._delete_in(path, names)
        failpoint("blob.local.after_delete")
        return [DeleteResult(key, errors.get(key)) for key in keys]

    def list(self, prefix: str, start_after: str, limit: int) -> list[BlobEntry]:
        """A page of files in the order of their keys."""
        found: list[BlobEntry] = []
        entries = self._listing.after(prefix, start_after)
        while len(found) < limit:
            page = list(islice(entries, limit - len(found)))
            if not page:
                break
            for entry in page:
                with contextlib.suppress(FileNotFoundError):  # deleted since the folder was read
                    status = os.stat(entry.name, dir_fd=entry.folder.fd, follow_symlinks=False)
                    found.append(BlobEntry(entry.key, status.st_size, _etag(status), _landed(status)))
        return found

    def now(self) -> datetime:
        """The filesystem's clock: the time that it gives a new file."""
        with _discarding(self._new_draft()) as draft:
            return _landed(os.fstat(draft.fd))

    def _begin(self) -> Draft:
        failpoint("blob.local.before_open")
        draft = self._new_draft()
        failpoint("blob.local.after_open")
        return draft

    def _new_draft(self) -> Draft:
        try:
            return self._make_draft()
        except OSError as error:
            if error.errno in _FULL:
                raise NoSpace from error
            raise

    def _make_draft(self) -> Draft:
        if self._anonymous:
            fd = os.open(".", os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600, dir_fd=self.folders.root.fd)
            return Draft(fd, self._temporary, "")
        name = secrets.token_hex(12)
        return Draft(os.open(name, _CREATE_FLAGS, 0o600, dir_fd=self._temporary.fd), self._temporary, name)

    def _link(self, draft: Draft, path: str, name: str, until: float, create_only: bool) -> Folder:
        for _ in range(ATTEMPTS):
            folder = self.folders.make(path)
            if draft.abandoned or clock() > until:
                raise TimeoutError("the writer gave up, or its time is over")
            try:
                if draft.sidecar is not None:
                    self._link_sidecar(draft.sidecar, folder, name, create_only)
                failpoint("blob.local.before_rename")
                if create_only:
                    draft.link(folder, name)
                else:
                    self._replace(draft, folder, name)
            except FileExistsError as error:
                raise AlreadyExists(name) from error
            except FileNotFoundError:
                if not folder.removed:
                    raise
                self.folders.forget(path)
            else:
                return folder
        raise OSError(errno.EBUSY, "the folder is removed again and again")

    def _replace(self, draft: Draft, folder: Folder, name: str) -> None:
        aside = secrets.token_hex(12)
        draft.link(self._temporary, aside)
        try:
            os.rename(aside, name, src_dir_fd=self._temporary.fd, dst_dir_fd=folder.fd)
        except OSError:
            _unlink(self._temporary, aside)
            raise

    def _link_sidecar(self, fields: bytes, folder: Folder, name: str, create_only: bool) -> None:
        """One that lies there alone is left over from a crash; one of existing bytes stays."""
        draft = self._new_draft()
        _write_all(draft.fd, [fields])
        os.fsync(draft.fd)
        try:
            draft.link(folder, name + _SIDECAR)
        except FileExistsError:
            if create_only and _exists(folder, name):
                raise
            self._replace(draft, folder, name + _SIDECAR)
        finally:
            draft.close()

    def _open(self, key: str) -> tuple[Descriptor, BlobInfo]:
        try:
            descriptor, folder, name = self._find(key)
        except OSError as error:
            if error.errno in _ABSENT:
                raise NotFound(key) from error
            raise
        status = os.fstat(descriptor.fd)
        if not stat.S_ISREG(status.st_mode):
            raise NotFound(key)
        fields = _read_fields(descriptor, folder, name)
        info = BlobInfo(
            etag=_etag(status),
            size_bytes=status.st_size,
            landed_at=_landed(status),
            content_type=fields.content_type,
            metadata=fields.metadata,
        )
        return descriptor, info

    def _find(self, key: str) -> tuple[Descriptor, Folder, str]:
        path, name = split(key)
        name = self.folders.name(name)
        for _ in range(ATTEMPTS):
            folder = self.folders.open(path)
            try:
                return Descriptor(os.open(name, _READ_FLAGS, dir_fd=folder.fd)), folder, name
            except FileNotFoundError:
                if not folder.removed:
                    raise
                self.folders.forget(path)
        raise OSError(errno.EBUSY, "the folder is removed again and again")

    def _delete_in(self, path: str, names: Sequence[tuple[str, str]]) -> dict[str, Exception]:
        errors: dict[str, Exception] = {}
        try:
            folder = self.folders.open(path)
            if folder.removed:
                self.folders.forget(path)
                folder = self.folders.open(path)
        except OSError as error:
            return {} if error.errno in _ABSENT else {key: error for key, _ in names}
        for key, name in names:
            try:
                _unlink(folder, self.folders.name(name))
            except OSError as error:
                if error.errno not in _ABSENT:
                    errors[key] = error
        try:
            os.fsync(folder.fd)
        except OSError as error:
            return {key: error for key, _ in names}
        self.folders.remove_empty(path)
        return errors

    def _links_anonymous(self) -> bool:
        """Whether an anonymous file can be made and named here."""
        name = secrets.token_hex(12)
        try:
            fd = os.open(".", os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600, dir_fd=self._temporary.fd)
            Draft(fd, self._temporary, "").link(self._temporary, name)
        except OSError as error:
            if error.errno not in _NO_ANONYMOUS:
                raise
            return False
        os.unlink(name, dir_fd=self._temporary.fd)
        return True

    def _folds(self) -> bool:
        """Whether names that differ in case or Unicode form are one name here."""
        name = secrets.token_hex(8) + "-A\u00e9"
        others = (name.lower(), unicodedata.normalize("NFD", name))
        draft = Draft(os.open(name, _CREATE_FLAGS, 0o600, dir_fd=self._temporary.fd), self._temporary, name)
        try:
            return any(_exists(self._temporary, other) for other in others)
        finally:
            draft.close()


def _etag(status: os.stat_result) -> str:
    """Kept by copies that keep times; bytes under a key never change in place."""
    return f"{status.st_mtime_ns:x}-{status.st_size:x}"


def _landed(status: os.stat_result) -> datetime:
    return _EPOCH + timedelta(microseconds=status.st_mtime_ns // 1000)


@contextlib.contextmanager
def _discarding(draft: Draft) -> Iterator[Draft]:
    """A step that fails takes its draft along."""
    try:
        yield draft
    except BaseException as error:
        draft.close()
        if isinstance(error, OSError) and error.errno in _FULL:
            raise NoSpace from error
        raise


def _write_all(fd: int, pieces: Sequence[bytes]) -> int:
    """All of the pieces, however the system cuts them; returns their bytes."""
    size = sum(map(len, pieces))
    written = os.writev(fd, pieces) if size else 0
    while written < size:
        written += os.write(fd, memoryview(b"".join(pieces))[written:])
    return size


def _copy_some(source: int, target: int) -> int:
    """The next bytes from one file's position to the other's; 0 at the end."""
    try:
        return os.copy_file_range(source, target, _COPY_BYTES)
    except OSError as error:
        if error.errno not in {errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}:
            raise
    return _write_all(target, [os.read(source, CHUNK_BYTES)])


def _set_attribute(fd: int, fields: bytes) -> bool:
    """False when the filesystem cannot keep these fields so."""
    try:
        os.setxattr(fd, _ATTRIBUTE, fields)
    except OSError as error:
        if error.errno not in _NO_ATTRIBUTE:
            raise
        return False
    return True


def _read_fields(descriptor: Descriptor, folder: Folder, name: str) -> _Fields:
    """Empty for a file that is not of this store."""
    try:
        fields = os.getxattr(descriptor.fd, _ATTRIBUTE)
    except OSError as error:
        if error.errno not in {errno.ENODATA, errno.ENOTSUP}:
            raise
        try:
            sidecar = Descriptor(os.open(name + _SIDECAR, _READ_FLAGS, dir_fd=folder.fd))
        except OSError:
            return _Fields()
        fields = os.pread(sidecar.fd, _MAX_SIDECAR_BYTES, 0)
    try:
        return msgspec.json.decode(fields, type=_Fields)
    except msgspec.DecodeError:
        return _Fields()


def _exists(folder: Folder, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder.fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _unlink(folder: Folder, name: str) -> None:
    """Remove a file, if it is there, and its sidecar after it."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder.fd)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name + _SIDECAR, dir_fd=folder.fd)


def _make_root(root: Path) -> None:
    """The root, its entry durable when it is new."""
    missing = [root]
    while not missing[-1].exists():
        missing.append(missing[-1].parent)
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    for folder in missing[1:]:
        parent = Descriptor(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        os.fsync(parent.fd)


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
        _unlink(folder, draft)
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
