"""Files of a local store, the blocking part: writing, publication, reads, removal.

A draft is written, synced and then linked to its name, which never replaces anything, and the folder is synced: so a
name is there with all its bytes or not at all, also after a crash. Content type and metadata stand in an extended
attribute, or else in a sidecar `{name}~=m` that is linked first. Every function here blocks and belongs in a thread.
"""

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec

from ..failpoints import failpoint
from ..model import ByteRange
from .drafts import Draft, Drafts, copy_some, discarding, exists, write_all
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
from .folders import ATTEMPTS, OWN, Descriptor, Folder, Folders, split
from .listing import Listing

__all__ = ["CHUNK_BYTES", "Files", "OpenedFile", "clock", "landed"]

CHUNK_BYTES = 2**20
_RESERVE_BYTES = 2**25
"""What puts leave of a disk to others, above all to the catalog, without which nothing can be deleted."""
_RESERVE_SHARE = 4
"""On a small disk the reserve is one part in so many."""
_ATTRIBUTE = "user.prism.blob"
_SIDECAR = OWN + "m"
_MAX_SIDECAR_BYTES = 2**18
_MAX_VECTORS = 64
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENAMETOOLONG, errno.ENXIO})
_NO_ATTRIBUTE = frozenset({errno.ENOTSUP, errno.E2BIG, errno.ENOSPC, errno.ERANGE, errno.EPERM, errno.EDQUOT})


def clock() -> float:
    """Seconds that also pass while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class _Fields(msgspec.Struct, frozen=True, omit_defaults=True):
    """What stands beside the bytes."""

    content_type: str = ""
    metadata: Mapping[str, str] = {}


class OpenedFile(NamedTuple):
    """What is known of a file, its descriptor (None when nothing is left to read) and its first bytes."""

    info: BlobInfo
    descriptor: Descriptor | None
    first: bytes


class Files:
    """The files below one root. `anonymous` and `attributes` say what the filesystem can do; `sync` makes a
    descriptor's content durable."""

    def __init__(
        self,
        root: Path,
        *,
        anonymous: bool = True,
        attributes: bool = True,
        folded: bool = False,
        reserve_bytes: int | None = None,
        sync: Callable[[int], None] = os.fsync,
    ) -> None:
        _make_root(root, sync)
        self.sync = sync
        self.folders = Folders(str(root), sync=sync)
        disk = os.fstatvfs(self.folders.root.fd)
        share = disk.f_blocks * disk.f_frsize // _RESERVE_SHARE
        self._reserve_bytes = min(_RESERVE_BYTES, share) if reserve_bytes is None else reserve_bytes
        self.drafts = Drafts(self.folders.root, anonymous=anonymous)
        self._attributes = attributes
        self.folders.folded = folded or self.drafts.folds
        self._listing = Listing(self.folders)

    def close(self) -> None:
        """Remove the temporary folder and let all folders go; files that are read go with their readers."""
        self.drafts.close()
        self.folders.close()

    def write(self, draft: Draft | None, pieces: Sequence[bytes], observe: Callable[[bytes], None] | None) -> Draft:
        """Append to a draft, a new one if None."""
        if draft is None:
            draft = self.begin()
        with discarding(draft):
            if len(pieces) > _MAX_VECTORS:
                pieces = [b"".join(pieces)]
            draft.size_bytes += write_all(draft.fd, pieces)
            draft.flush_early()
            if observe is not None:
                for piece in pieces:
                    observe(piece)
        return draft

    def complete(self, draft: Draft | None, pieces: Sequence[bytes], options: WriteOptions) -> Draft:
        """Append the last bytes and make the draft durable, with its fields."""
        draft = self.write(draft, pieces, options.observe)
        with discarding(draft):
            self._leave_room(draft)
            fields = msgspec.json.encode(_Fields(options.content_type, options.metadata))
            if not self._attributes or not _set_attribute(draft.fd, fields):
                draft.sidecar = fields
            failpoint("blob.local.before_fsync")
            self.sync(draft.fd)
            failpoint("blob.local.after_fsync")
            draft.etag = _etag(os.fstat(draft.fd))
        return draft

    def copy(self, source: str, if_match: str, options: WriteOptions) -> Draft:
        """A complete draft with the bytes of another file."""
        opened = self.open(source, ByteRange(0, 0), if_match, keep=True)
        assert opened.descriptor is not None
        draft = self.begin()
        with discarding(draft):
            while count := copy_some(opened.descriptor.fd, draft.fd):
                draft.size_bytes += count
        return self.complete(draft, (), msgspec.structs.replace(options, observe=None))

    def publish(self, draft: Draft, key: str, until: float, create_only: bool) -> Draft:
        """Link a complete draft to its key and make that durable; TimeoutError, and nothing done, after `until`.

        Once linked it stays, whatever fails: somebody may have recognised it.
        """
        with discarding(draft):
            path, name = split(key)
            folder = self._link(draft, path, self.folders.name(name), until, create_only)
            failpoint("blob.local.after_rename")
            failpoint("blob.local.before_folder_fsync")
            self.sync(folder.fd)
            failpoint("blob.local.after_folder_fsync")
        draft.close()
        return draft

    def open(self, key: str, byte_range: ByteRange | None, if_match: str | None, keep: bool = False) -> OpenedFile:
        """Open for reading and read the first piece. `keep`: hand out the descriptor in any case."""
        descriptor, info, _ = self._open(key)
        if if_match is not None and if_match != info.etag:
            raise EtagMismatch(key)
        at, length = (0, info.size_bytes) if byte_range is None else (byte_range.offset, byte_range.length)
        first = os.pread(descriptor.fd, min(length, CHUNK_BYTES), at) if length else b""
        if length > CHUNK_BYTES:
            os.posix_fadvise(descriptor.fd, at, length, os.POSIX_FADV_SEQUENTIAL)
        more = keep or 0 < len(first) < length
        return OpenedFile(info, descriptor if more else None, first)

    def head(self, key: str) -> BlobInfo:
        """What is known of a file, made durable first: its writer may not have come so far, and what is seen counts."""
        _, info, folder = self._open(key)
        self.sync(folder.fd)
        return info

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
                    found.append(BlobEntry(entry.key, status.st_size, _etag(status), landed(status)))
        return found

    def now(self) -> datetime:
        """The filesystem's clock: the time that it gives a new file."""
        with discarding(self.drafts.new()) as draft:
            return landed(os.fstat(draft.fd))

    def begin(self) -> Draft:
        """An empty draft; `NoSpace` when the disk is too full for one."""
        failpoint("blob.local.before_open")
        self._leave_room(self.folders.root)
        draft = self.drafts.new()
        failpoint("blob.local.after_open")
        return draft

    def _leave_room(self, at: Descriptor) -> None:
        """NoSpace when less than the reserve is free."""
        disk = os.fstatvfs(at.fd)
        if disk.f_bavail * disk.f_frsize < self._reserve_bytes:
            raise NoSpace

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
                    self.drafts.replace(draft, folder, name)
            except FileExistsError as error:
                raise AlreadyExists(name) from error
            except FileNotFoundError:
                if not folder.removed:
                    raise
                self.folders.forget(path)
            else:
                return folder
        raise OSError(errno.EBUSY, "the folder is removed again and again")

    def _link_sidecar(self, fields: bytes, folder: Folder, name: str, create_only: bool) -> None:
        """One that lies there alone is left over from a crash; one of existing bytes stays."""
        draft = self.drafts.new()
        write_all(draft.fd, [fields])
        self.sync(draft.fd)
        try:
            draft.link(folder, name + _SIDECAR)
        except FileExistsError:
            if create_only and exists(folder, name):
                raise
            self.drafts.replace(draft, folder, name + _SIDECAR)
        finally:
            draft.close()

    def _open(self, key: str) -> tuple[Descriptor, BlobInfo, Folder]:
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
            landed_at=landed(status),
            content_type=fields.content_type,
            metadata=fields.metadata,
        )
        return descriptor, info, folder

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
            self.sync(folder.fd)
        except OSError as error:
            return {key: error for key, _ in names}
        self.folders.remove_empty(path)
        return errors


def _etag(status: os.stat_result) -> str:
    """Kept by copies that keep times; bytes under a key never change in place."""
    return f"{status.st_mtime_ns:x}-{status.st_size:x}"


def landed(status: os.stat_result) -> datetime:
    """The file's time of last change."""
    return _EPOCH + timedelta(microseconds=status.st_mtime_ns // 1000)


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


def _unlink(folder: Folder, name: str) -> None:
    """Remove a file, if it is there, and its sidecar after it."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder.fd)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name + _SIDECAR, dir_fd=folder.fd)


def _make_root(root: Path, sync: Callable[[int], None]) -> None:
    """The root, its entry durable when it is new."""
    missing = [root]
    while not missing[-1].exists():
        missing.append(missing[-1].parent)
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    for folder in missing[1:]:
        parent = Descriptor(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        sync(parent.fd)
