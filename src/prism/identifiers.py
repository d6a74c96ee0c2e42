"""Names that this process gives out: version ids, which sort by time and never repeat, and request ids.

A version id is 26 characters of 0-9 a-f: fourteen for the microsecond, raised by one where the clock stood still or
went back, and twelve that belong to this process alone. So ids of one process are distinct and ascend, and those of
two processes differ whatever their clocks say. Neither kind of id is a secret.
"""

import os
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

__all__ = ["new_request_id", "utc_now", "version_ids"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def utc_now() -> datetime:
    """The clock that a process runs by."""
    return datetime.now(UTC)


def new_request_id() -> str:
    """26 characters of 0-9 a-f, random; without a system call, which would wait for the threads that write files."""
    return f"{random.getrandbits(104):026x}"


def version_ids(now: Callable[[], datetime]) -> Callable[[], str]:
    """A function that gives a fresh version id with each call; call it from one thread."""
    own = os.urandom(6).hex()
    last = 0

    def new_version_id() -> str:
        nonlocal last
        last = max(last + 1, (now() - _EPOCH) // _MICROSECOND)
        return f"{last:014x}{own}"

    return new_version_id
