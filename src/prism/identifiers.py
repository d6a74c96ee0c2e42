"""Names that this process gives out: version ids, which sort by time and never repeat, and request ids.

A version id is 26 characters of 0-9 a-f: fourteen for the microsecond, raised by one where the clock stood still or
went back, and twelve that belong to this process alone. So ids of one process are distinct and ascend, and those of
two processes differ whatever their clocks say. Neither kind of id is a secret.
"""

import os
import random
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

__all__ = ["VersionIds", "new_request_id", "origin_of", "utc_now", "version_ids"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_VERSION_ID = re.compile(r"([0-9a-f]{14})([0-9a-f]{12})\Z")


def utc_now() -> datetime:
    """The clock that a process runs by."""
    return datetime.now(UTC)


def new_request_id() -> str:
    """26 characters of 0-9 a-f, random; without a system call, which would wait for the threads that write files."""
    return f"{random.getrandbits(104):026x}"


class VersionIds:
    """Gives a fresh version id with each call; call it from one thread."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self.process = os.urandom(6).hex()
        """What ends the ids of this process, and of no other."""
        self.last = 0
        """The number that begins the id given out last; ids ascend."""

    def __call__(self) -> str:
        self.last = max(self.last + 1, (self._now() - _EPOCH) // _MICROSECOND)
        return f"{self.last:014x}{self.process}"

    def begin_anew(self) -> None:
        """From now on as another process; ids go on ascending."""
        self.process = os.urandom(6).hex()


def version_ids(now: Callable[[], datetime]) -> VersionIds:
    """The version ids of a process that runs by this clock."""
    return VersionIds(now)


def origin_of(version_id: str) -> tuple[str, int] | None:
    """Which process gave a version id out, and as which number; None for an id of another form."""
    found = _VERSION_ID.match(version_id)
    return None if found is None else (found[2], int(found[1], 16))
