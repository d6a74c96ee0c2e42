"""What a transfer must remember to go on after its process died: one small file, a first line and a line per part.

The first line names what the rest is about; a file that is about anything else, or cannot be read, counts as none.
Lines are only appended, so whatever a kill leaves behind is whole but for its last line, which is then passed over.
Nothing here grants anything: no URL and no credential is written.
"""

import contextlib
import json
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["StateFile"]

_LARGEST_BYTES = 4 << 20
Line = Mapping[str, Any]


class StateFile:
    """One such file; several threads may note parts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._file: int | None = None

    def load(self, of: Line) -> tuple[Line, Sequence[Line]] | None:
        """The first line and the noted ones, if they are about `of`."""
        try:
            with self._path.open("rb") as file:
                lines = file.read(_LARGEST_BYTES).split(b"\n")[:-1]
            first, *noted = [json.loads(line) for line in lines]
            return (first, noted) if first["of"] == of else None
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def begin(self, of: Line, first: Line, noted: Sequence[Line] = ()) -> None:
        """Take the place of whatever was there. Errors: OSError."""
        self.close()
        fresh = self._path.with_name(f"{self._path.name}.{os.getpid()}-{threading.get_ident()}")
        file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        try:
            os.write(file, b"".join(map(_encoded, ({**first, "of": of}, *noted))))
            fresh.replace(self._path)
        except BaseException:
            os.close(file)
            fresh.unlink(missing_ok=True)
            raise
        self._file = file

    def note(self, line: Line) -> None:
        """A part is done. Without effect after `close`; a disk that is full costs no more than that part's repeat."""
        with self._lock, contextlib.suppress(OSError):
            if self._file is not None:
                os.write(self._file, _encoded(line))

    def close(self) -> None:
        """Note nothing more; what stands there stays."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
            self._file = None

    def remove(self) -> None:
        """The transfer is over."""
        self.close()
        with contextlib.suppress(OSError):
            self._path.unlink()


def _encoded(line: Line) -> bytes:
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"
