"""Whether, and how long after, a failed attempt is followed by another: a budget per operation, never without end.

Pauses double up to a bound, each a random part of its bound so that clients do not march in step; a server that
asks for more time gets it. The operation's deadline stands above all.
"""

import random
import time
from collections.abc import Callable

from .errors import Aborted, DeadlineExceeded, OutcomeUnknown, PrismError, Unavailable
from .wire import Repeat

__all__ = ["Attempts"]

_MOST = 6
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 2.0


class Attempts:
    """The attempts of one operation."""

    def __init__(
        self,
        repeat: Repeat,
        timeout_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        *,
        most: int = _MOST,
        longest_pause_seconds: float = _LONGEST_PAUSE_SECONDS,
    ) -> None:
        self._repeat = repeat
        self._clock = clock
        self._most = most
        self._longest = longest_pause_seconds
        self._until = clock() + timeout_seconds
        self._failed = 0

    def remaining_seconds(self) -> float:
        """The time that is left, for the next attempt's deadline."""
        left = self._until - self._clock()
        if left <= 0:
            raise DeadlineExceeded("the operation's time is over")
        return left

    def moved(self) -> None:
        """Something arrived: failures before it do not count any more."""
        self._failed = 0

    def pause_seconds(self, error: PrismError) -> float:
        """How long to wait before the next attempt; raises `error` when there is none."""
        self._failed += 1
        if self._failed >= self._most or not self._may_follow(error):
            raise error
        bound = min(self._longest, _FIRST_PAUSE_SECONDS * 2**self._failed)
        pause = random.uniform(bound / 2, bound)  # noqa: S311 not for secrets
        pause = max(pause, error.retry_after_seconds or 0.0)
        if self._clock() + pause >= self._until:
            raise error
        return pause

    def _may_follow(self, error: PrismError) -> bool:
        if self._repeat is Repeat.FREELY:
            return (error.retryable or isinstance(error, Unavailable)) and not isinstance(error, Aborted)
        refused = error.retryable and not isinstance(error, OutcomeUnknown)
        return self._repeat is Repeat.WHEN_REFUSED and refused
