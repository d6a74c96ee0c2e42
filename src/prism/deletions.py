"""What the audit record tells of deletions, for a rebuild: which of the objects that come back had been deleted.

The record's files are read from the oldest to the newest, a line at a time; of the deletions the newest are kept, up to
a bound. What is not in the record, because it was switched elsewhere or dropped, is not known here.
"""

from collections import OrderedDict
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import msgspec

from .audit import AuditRecord
from .keys import ancestors
from .model import Action

__all__ = ["Deletions", "deletions_of"]

_MOST = 200_000
_LONGEST_LINE = 65_536
_DELETES = {Action.DELETE.value, Action.DELETE_PREFIX.value}
_MARK = b".delete"


class Deletions:
    """When objects and folders of one namespace were deleted last."""

    def __init__(self) -> None:
        self._at: OrderedDict[tuple[str, str], datetime] = OrderedDict()

    def note(self, bucket: str, key: str, at: datetime) -> None:
        """An object, or a folder that ends in `/`, was deleted; the oldest are forgotten beyond the bound."""
        self._at[bucket, key] = at
        self._at.move_to_end((bucket, key))
        if len(self._at) > _MOST:
            self._at.popitem(last=False)

    def of(self, bucket: str, key: str) -> datetime | None:
        """When the object was deleted last, by itself or with a folder; None for never, as far as is known."""
        if not self._at:
            return None
        known = (self._at.get((bucket, name)) for name in (key, *ancestors(key)))
        return max((at for at in known if at is not None), default=None)


def deletions_of(path: Path, namespace: str, own_bucket: str) -> Deletions:
    """The deletions that the audit record at `path` and its older files tell of; none where there is no record."""
    found = Deletions()
    for file in _files(path):
        for line in _lines(file):
            record = _decoded(line) if _MARK in line else None
            if record is None or record.namespace != namespace or record.action not in _DELETES:
                continue
            if record.outcome == "OK":
                found.note(record.bucket or own_bucket, record.key, record.time)
    return found


def _files(path: Path) -> list[Path]:
    """Oldest first."""
    older = [one for one in path.parent.glob(f"{path.name}.*") if one.suffix[1:].isdigit()]
    return [one for one in [*sorted(older, key=lambda one: -int(one.suffix[1:])), path] if one.is_file()]


def _lines(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while line := stream.readline(_LONGEST_LINE):
            yield line


def _decoded(line: bytes) -> AuditRecord | None:
    """None for a line that was cut short."""
    try:
        return msgspec.json.decode(line, type=AuditRecord)
    except msgspec.DecodeError:
        return None
