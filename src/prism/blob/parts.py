"""Uploads in parts of a local store, the blocking part: what has arrived lies in files, and survives a restart.

`~=parts/{digest of the key}/{upload}/` holds `begun` (what was said at the beginning) and one file per part, named by
its number, with its CRC-32C in the last four bytes: so a part and its checksum come by one rename. A completion joins
the parts in a draft, which is published as a put is; the upload goes after that. Whoever removes an upload, or makes an
object of it, holds a lock on its folder. Unlike drafts, none of this is cleared at start: the catalog knows of it.
"""

import base64
import contextlib
import errno
import fcntl
import hashlib
import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

import msgspec

from ..digests import Digests, crc32c_text
from ..failpoints import failpoint
from .drafts import Draft, copy_some, discarding, write_all
from .driver import BadPart, NotFound, OpenMultipart, Part, WriteOptions
from .files import Files, landed
from .folders import ATTEMPTS, FOLDER_FLAGS, OWN, Descriptor, Folder

__all__ = ["PartFiles"]

_PARTS = OWN + "parts/"
_BEGUN = "begun"
_CRC_BYTES = 4
_MAX_BEGUN_BYTES = 2**18
_UPLOAD = re.compile(r"[0-9a-f]{32}\Z")
_NUMBER = re.compile(r"[0-9]{1,9}\Z")
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class _Begun(msgspec.Struct, frozen=True):
    """What was said at the beginning."""

    key: str
    started_at: datetime
    content_type: str
    metadata: Mapping[str, str]


class PartFiles:
    """The uploads in parts below the root of `files`."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def begin(self, key: str, options: WriteOptions) -> str:
        """A new upload, durable; returns its name."""
        upload = secrets.token_hex(16)
        failpoint("blob.local.before_begin_parts")
        with discarding(self._files.begin()) as draft:
            begun = _Begun(key, landed(os.fstat(draft.fd)), options.content_type, options.metadata)
            write_all(draft.fd, [msgspec.json.encode(begun)])
            self._files.sync(draft.fd)
            self._place(draft, key, upload, _BEGUN, make=True)
        draft.close()
        failpoint("blob.local.after_begin_parts")
        return upload

    def seal(
        self, draft: Draft | None, pieces: Sequence[bytes], digests: Digests, number: int, size_bytes: int
    ) -> Draft:
        """Append a part's last bytes and its checksum, and make it durable; `BadPart` when its size is another."""
        draft = self._files.write(draft, pieces, digests.update)
        with discarding(draft):
            if draft.size_bytes != size_bytes:
                raise BadPart(f"part {number} has {draft.size_bytes} bytes, {size_bytes} were said")
            write_all(draft.fd, [base64.b64decode(digests.crc32c)])
            failpoint("blob.local.before_part_fsync")
            self._files.sync(draft.fd)
            failpoint("blob.local.after_part_fsync")
        return draft

    def place(self, draft: Draft, key: str, upload: str, number: int) -> Part:
        """Give a sealed part its number, also in place of one that has it; `NotFound` when the upload is over."""
        with discarding(draft):
            if draft.abandoned:
                raise TimeoutError("the writer gave up")
            part = _part(draft, number)
            failpoint("blob.local.before_part_rename")
            self._place(draft, key, upload, str(number))
            failpoint("blob.local.after_part_rename")
        draft.close()
        return part

    def parts(self, key: str, upload: str) -> list[Part]:
        """What has arrived, by number; `NotFound` when the upload is over."""
        with self._opened(key, upload) as folder:
            names = os.listdir(folder.fd)  # noqa: PTH208 - by descriptor
            found = [_arrived(folder, int(name)) for name in names if _NUMBER.match(name)]
        return sorted((part for part in found if part is not None), key=lambda part: part.number)

    def check(self, key: str, upload: str) -> None:
        """`NotFound` when the upload is over."""
        with self._opened(key, upload):
            pass

    def join(self, key: str, upload: str, parts: Sequence[Part], options: WriteOptions) -> Draft:
        """A complete draft of these parts; `BadPart` when one is not what has arrived."""
        if not parts:
            raise BadPart("there are no parts")
        with self._opened(key, upload) as folder:
            begun = _begun(folder)
            draft = self._files.begin()
            with discarding(draft):
                for part in parts:
                    self._append(folder, part, draft)
        fields = msgspec.structs.replace(
            options, content_type=begun.content_type, metadata=begun.metadata, observe=None
        )
        return self._files.complete(draft, (), fields)

    def publish(self, draft: Draft, key: str, upload: str, until: float, create_only: bool) -> Draft:
        """Publish a joined draft as a put's, then remove the upload; `NotFound` when it is over by now."""
        with contextlib.ExitStack() as held:
            with discarding(draft):
                folder = held.enter_context(self._locked(key, upload))
                failpoint("blob.local.before_join_parts")
                self._files.publish(draft, key, until, create_only)
            failpoint("blob.local.after_join_parts")
            self._remove(folder, key, upload)
        return draft

    def forget(self, key: str, upload: str) -> None:
        """Remove an upload with its parts; one that is over is fine."""
        failpoint("blob.local.before_forget_parts")
        with contextlib.suppress(NotFound), self._locked(key, upload) as folder:
            self._remove(folder, key, upload)
        failpoint("blob.local.after_forget_parts")

    def of(self, key: str) -> list[OpenMultipart]:
        """The open uploads of exactly this key, with those that did not get beyond their beginning."""
        try:
            folder = self._of_key(key)
        except FileNotFoundError:
            self._files.folders.forget("")  # the store itself may be gone
            return []
        found = []
        for name in filter(_UPLOAD.match, os.listdir(folder.fd)):  # noqa: PTH208 - by descriptor
            with contextlib.suppress(FileNotFoundError):  # over meanwhile
                status = os.stat(name, dir_fd=folder.fd, follow_symlinks=False)
                found.append(OpenMultipart(key, name, self._started(key, name) or landed(status)))
        return found

    def _of_key(self, key: str) -> Folder:
        """The folder of a key's uploads, which comes and goes with them."""
        folder = self._files.folders.open(_path(key), own=True)
        if folder.removed:
            self._files.folders.forget(_path(key))
            folder = self._files.folders.open(_path(key), own=True)
        return folder

    def _started(self, key: str, upload: str) -> datetime | None:
        try:
            with self._opened(key, upload) as folder:
                return _begun(folder).started_at
        except NotFound:
            return None

    def _append(self, folder: Folder, part: Part, draft: Draft) -> None:
        """The bytes of one part, without its checksum, shared by the kernel where the filesystem can."""
        source = _open(folder, part.number)
        if source is None or _part(source, part.number).etag != part.etag:
            raise BadPart(f"part {part.number} did not arrive with this etag")
        left = os.fstat(source.fd).st_size - _CRC_BYTES
        while left:
            count = copy_some(source.fd, draft.fd, left)
            if not count:
                raise OSError(errno.EIO, "a part is shorter than it was")
            left -= count
            draft.size_bytes += count
            draft.flush_early()

    def _place(self, draft: Draft, key: str, upload: str, name: str, *, make: bool = False) -> None:
        """Rename into the upload's folder, durable."""
        folders, path = self._files.folders, _path(key, upload)
        for _ in range(ATTEMPTS):
            folder = folders.make(path, own=True) if make else self._open(key, upload)
            try:
                self._files.drafts.replace(draft, folder, name)
            except FileNotFoundError:
                if not folder.removed:
                    raise
                folders.forget(path)
            else:
                self._files.sync(folder.fd)
                return
        raise OSError(errno.EBUSY, "the folder is removed again and again")

    def _open(self, key: str, upload: str) -> Folder:
        if not _UPLOAD.match(upload):
            raise NotFound(key)
        path = _path(key, upload)
        try:
            folder = self._files.folders.open(path, own=True)
        except FileNotFoundError as error:
            self._files.folders.forget(path)  # the store itself may be gone
            raise NotFound(key) from error
        if folder.removed:
            self._files.folders.forget(path)
            raise NotFound(key)
        return folder

    @contextlib.contextmanager
    def _opened(self, key: str, upload: str) -> Iterator[Folder]:
        """The upload's folder, with a position of its own in it."""
        known = self._open(key, upload)
        try:
            own = Folder(os.open(".", FOLDER_FLAGS, dir_fd=known.fd))
        except FileNotFoundError as error:
            raise NotFound(key) from error
        try:
            yield own
        finally:
            own.close()

    @contextlib.contextmanager
    def _locked(self, key: str, upload: str) -> Iterator[Folder]:
        """Likewise, and nobody else removes it or makes an object of it."""
        with self._opened(key, upload) as folder:
            fcntl.flock(folder.fd, fcntl.LOCK_EX)
            if folder.removed:
                raise NotFound(key)
            yield folder

    def _remove(self, folder: Folder, key: str, upload: str) -> None:
        """Remove a locked folder with its files, durable. A part that is placed meanwhile goes, too."""
        parent = self._of_key(key)
        for _ in range(ATTEMPTS):
            for name in os.listdir(folder.fd):  # noqa: PTH208 - by descriptor
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=folder.fd)
            try:
                os.rmdir(upload, dir_fd=parent.fd)
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise
            else:
                self._files.sync(parent.fd)
                self._files.folders.forget(_path(key, upload))
                self._files.folders.remove_empty(_path(key), own=True)
                return
        raise OSError(errno.EBUSY, "parts come again and again")


def _path(key: str, upload: str = "") -> str:
    digest = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
    return f"{_PARTS}{digest}/{upload}/" if upload else f"{_PARTS}{digest}/"


def _open(folder: Folder, number: int) -> Descriptor | None:
    try:
        return Descriptor(os.open(str(number), _READ_FLAGS, dir_fd=folder.fd))
    except FileNotFoundError:
        return None


def _arrived(folder: Folder, number: int) -> Part | None:
    """None when it was removed or replaced in the same moment."""
    found = _open(folder, number)
    return None if found is None else _part(found, number)


def _part(file: Descriptor, number: int) -> Part:
    """Two parts with one etag have the same bytes: their checksum is part of it, since times alone are coarse."""
    status = os.fstat(file.fd)
    size = status.st_size - _CRC_BYTES
    crc = int.from_bytes(os.pread(file.fd, _CRC_BYTES, size), "big")
    etag = f"{status.st_mtime_ns:x}-{size:x}-{crc:08x}"
    return Part(number=number, etag=etag, size_bytes=size, crc32c=crc32c_text(crc))


def _begun(folder: Folder) -> _Begun:
    """`NotFound` for an upload that did not get beyond its beginning: nobody was told its name."""
    try:
        file = Descriptor(os.open(_BEGUN, _READ_FLAGS, dir_fd=folder.fd))
    except FileNotFoundError as error:
        raise NotFound("an upload without a beginning") from error
    return msgspec.json.decode(os.pread(file.fd, _MAX_BEGUN_BYTES, 0), type=_Begun)
