"""The file that a download fills, out of order, beside its target: it takes the target's place whole, or goes.

Which ranges are there is noted in a small file, so a download that was killed goes on. What the notes say is checked by
reading those ranges again; a range that reads otherwise is fetched again. A lock keeps a second process that fetches
the same object to the same target away from it; that one lands in a file of its own and cannot be resumed.
"""

import contextlib
import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import google_crc32c

from .files import AnyPath, mode_of
from .resuming import StateFile

try:
    import fcntl
except ImportError:  # without locks nothing is resumed
    fcntl = None  # type: ignore[assignment]  # no such module here

__all__ = ["Landing", "landing_in", "target_of"]

Range = tuple[int, int]
_PIECE_BYTES = 1 << 20
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def target_of(path: AnyPath) -> Path:
    """The file that is to be there in the end; a link stays, and the file behind it is replaced. Errors:
    IsADirectoryError, FileNotFoundError (of its folder)."""
    target = Path(path)
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    target = target.resolve()
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path))
    return target


class Landing:
    """The unfinished file. `finished`: the ranges that are there, by number, with their CRC-32Cs."""

    def __init__(self, target: Path, name: Path, file: int, state: StateFile | None) -> None:
        self._target = target
        self._name = name
        self._file: int | None = file
        self._state = state
        self.finished: dict[int, int] = {}

    def begin(self, of: Mapping[str, Any], ranges: Sequence[Range], size_bytes: int) -> None:
        """Keep what an earlier call fetched of the same; take the room for the rest. Errors: OSError."""
        loaded = self._state.load(of) if self._state is not None else None
        if loaded is not None:
            noted = {line["range"]: line["crc32c"] for line in loaded[1]}
            self.finished = {n: crc for n, crc in noted.items() if self._crc(ranges[n]) == crc}
        with self._naming_the_target():
            if not self.finished:
                os.ftruncate(self._open, 0)
            _reserve(self._open, size_bytes)
        if self._state is not None:
            notes = [{"range": n, "crc32c": crc} for n, crc in self.finished.items()]
            self._state.begin(of, {}, notes)

    def write(self, offset: int, piece: bytes) -> None:
        """These bytes, there. Errors: OSError."""
        with self._naming_the_target():
            while piece:
                written = os.pwrite(self._open, piece, offset)
                offset, piece = offset + written, piece[written:]

    def note(self, number: int, crc: int) -> None:
        """A range is there."""
        self.finished[number] = crc
        if self._state is not None:
            self._state.note({"range": number, "crc32c": crc})

    def finish(self) -> None:
        """All is there: be the target."""
        with self._naming_the_target():
            os.fsync(self._open)
            os.fchmod(self._open, mode_of(self._target))
            self._name.replace(self._target)
        if self._state is not None:
            self._state.remove()

    def keep(self) -> bool:
        """Leave what is there for the next call; whether that is possible."""
        if self._state is not None:
            self._state.close()
        return self._state is not None

    def discard(self) -> None:
        """Leave nothing."""
        with contextlib.suppress(OSError):
            self._name.unlink()
        if self._state is not None:
            self._state.remove()

    def close(self) -> None:
        """Whoever still writes gets an error."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    @property
    def _open(self) -> int:
        if self._file is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self._file

    def _crc(self, stretch: Range) -> int:
        crc, (start, end) = 0, stretch
        while start <= end and (piece := os.pread(self._open, min(_PIECE_BYTES, end + 1 - start), start)):
            crc = google_crc32c.extend(crc, piece)
            start += len(piece)
        return crc

    @contextlib.contextmanager
    def _naming_the_target(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.filename is not None:
                raise
            raise OSError(error.errno, error.strerror, os.fspath(self._target)) from error


@contextlib.contextmanager
def landing_in(target: Path, about: str, *, resume: bool) -> Iterator[Landing]:
    """The file for the download of `about` to `target`; closed in the end, and kept or discarded by who uses it."""
    digest = hashlib.blake2b(about.encode(), digest_size=6).hexdigest()
    stem = f".{target.name[:100]}.{digest}"
    name = target.with_name(f"{stem}.prism-part")
    file = _locked(name) if resume else None
    if file is None:
        handle, alone = tempfile.mkstemp(prefix=f"{stem}.", suffix=".prism-part", dir=target.parent)
        landing = Landing(target, Path(alone), handle, None)
    else:
        landing = Landing(target, name, file, StateFile(target.with_name(f"{stem}.prism-download")))
    try:
        yield landing
    finally:
        landing.close()


def _locked(name: Path) -> int | None:
    """The file, ours alone; None while another process has it."""
    if fcntl is None:
        return None
    file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(file), name.stat()):
            return file
    except OSError:  # held, gone meanwhile, or a filesystem without locks
        pass
    os.close(file)
    return None


def _reserve(file: int, size_bytes: int) -> None:
    """Room for the whole, or "no space" now rather than at the end."""
    if size_bytes:
        try:
            os.posix_fallocate(file, 0, size_bytes)
        except (AttributeError, OSError) as error:
            if isinstance(error, OSError) and error.errno in _FULL:
                raise
    os.ftruncate(file, size_bytes)
