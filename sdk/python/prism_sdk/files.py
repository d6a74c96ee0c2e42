"""Files on this side of a transfer: what their names and modes say, and reading with progress."""

import contextlib
import mimetypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

__all__ = ["AnyPath", "CountedFile", "Progress", "content_type_of", "mode_of"]

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


def mode_of(target: Path) -> int:
    """The mode of the file that is replaced, else what a new file gets."""
    with contextlib.suppress(FileNotFoundError):
        return target.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
