"""Files on this side of a transfer: reading with progress, and writing beside the target so that it appears whole."""

import contextlib
import errno
import mimetypes
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

__all__ = ["CountedFile", "Progress", "content_type_of", "landing"]

Progress = Callable[[int, int], object]
"""Called with the bytes done and the bytes in all."""
AnyPath = str | os.PathLike[str]


def content_type_of(path: AnyPath) -> str | None:
    """What the name suggests."""
    return mimetypes.guess_type(os.fspath(path))[0]


class CountedFile:
    """A binary file whose reads are reported; a repeated put begins again at its first byte."""

    def __init__(self, file: IO[bytes], progress: Progress | None) -> None:
        self._file = file
        self._progress = progress
        self._size = os.fstat(file.fileno()).st_size

    def read(self, size: int) -> bytes:
        """The next bytes. They count as done when more is asked for."""
        if self._progress is not None:
            self._progress(self._file.tell(), self._size)
        return self._file.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As the file's."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """As the file's."""
        return self._file.tell()

    def seekable(self) -> bool:
        """As the file's."""
        return self._file.seekable()


@contextlib.contextmanager
def landing(path: AnyPath) -> Iterator[IO[bytes]]:
    """A file that takes `path`'s place when all is written, and leaves nothing when that fails. A link stays: the file
    behind it is replaced. A device or pipe is written as it is. Errors: IsADirectoryError, FileNotFoundError."""
    target = Path(path)
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if target.exists() and not target.is_file():
        with target.open("wb") as file:
            yield file
        return
    target = target.resolve()
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path))
    handle, name = tempfile.mkstemp(prefix=f".{target.name[:100]}.", suffix=".part", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, _mode(target))  # noqa: PTH101 by name, as mkstemp gave it
        os.replace(name, target)  # noqa: PTH105 by name, as mkstemp gave it
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)  # noqa: PTH108 by name, as mkstemp gave it
        raise


def _mode(target: Path) -> int:
    """The mode of the file that is replaced, else what a new file gets."""
    with contextlib.suppress(FileNotFoundError):
        return target.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
