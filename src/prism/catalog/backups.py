"""Writes of Prism's own that were under way when a backup was made: what a catalog restored from it may say of them.

Their writers went on, and may have been told that their objects are stored; the catalog that knew is gone. So a promise
that comes out of a backup says so, and whoever finds it dead condemns nothing; and its process's record proves nothing
from that id on. Their bytes stay, without a row, until a rebuild gives them one.
"""

import msgspec

from ..identifiers import origin_of
from ..meta import Key
from .lives import PARTITION, LifeRow
from .rows import PromiseRow, decode, encode

__all__ = ["UnderWay"]


class UnderWay:
    """The writes of one backup: `note` all of its rows first, then ask for each how it is `restored`."""

    def __init__(self) -> None:
        self._first: dict[str, int] = {}
        """By process, the least number of its ids that were being written."""

    def note(self, key: Key) -> None:
        """One row of the backup."""
        origin = origin_of(str(key[4])) if _is_write(key) else None
        if origin is not None:
            process, number = origin
            self._first[process] = min(number, self._first.get(process, number))

    def restored(self, key: Key, value: bytes) -> bytes:
        """The row as it stands in the restored catalog."""
        if _is_write(key):
            return encode(msgspec.structs.replace(decode(PromiseRow, value), restored=True))
        if key[0] == PARTITION and key[1] in self._first:
            row = decode(LifeRow, value)
            return encode(msgspec.structs.replace(row, proven=min(row.proven, self._first[str(key[1])] - 1)))
        return value


def _is_write(key: Key) -> bool:
    return len(key) == 5 and key[1] == "w" and not str(key[0]).startswith(("log/", "~"))
