"""Bounded waits for bodies: 5 seconds, at no cost for a body that never has to wait."""

import asyncio
import random
import time
from collections.abc import Awaitable, Generator
from typing import Any, TypeVar

from ..errors import ErrorCode, PrismError

__all__ = ["TRANSACTION_SECONDS", "pause", "within"]

T = TypeVar("T")
TRANSACTION_SECONDS = 5.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.25


async def within(work: Awaitable[T], seconds: float) -> T:
    """Await `work`; DEADLINE_EXCEEDED when that took longer than `seconds`.

    The first step runs without a timer: most bodies are done in it.
    """
    began = time.monotonic()
    steps = work.__await__()
    try:
        waits_for = next(steps)
    except StopIteration as done:
        if time.monotonic() - began > seconds:
            raise _late(seconds) from None
        return done.value  # type: ignore[no-any-return]  # what a generator returns is untyped
    try:
        async with asyncio.timeout(seconds):
            answer: T = await _Rest(steps, waits_for)
    except TimeoutError as error:
        if time.monotonic() - began < seconds:
            raise
        raise _late(seconds) from error
    return answer


def _late(seconds: float) -> PrismError:
    return PrismError(ErrorCode.DEADLINE_EXCEEDED, f"a catalog transaction took longer than {seconds:g} seconds")


class _Rest:
    """What is left of an awaitable whose first step has been taken."""

    __slots__ = ("_steps", "_waits_for")

    def __init__(self, steps: Generator[Any, Any, Any], waits_for: Any) -> None:
        self._steps = steps
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, Any]:
        waits_for = self._waits_for
        try:
            while True:
                try:
                    sent = yield waits_for
                except GeneratorExit:
                    self._steps.close()
                    raise
                except BaseException as error:  # noqa: BLE001 - whatever is thrown in belongs to the awaited steps
                    waits_for = self._steps.throw(error)
                else:
                    waits_for = self._steps.send(sent)
        except StopIteration as done:
            return done.value


async def pause(attempt: int) -> None:
    """Wait before the attempt that follows number `attempt` (from 0): doubling from 1 ms to 250 ms, at random below."""
    longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0**attempt)
    await asyncio.sleep(random.uniform(0, longest))  # noqa: S311 - spreads retries, keeps no secret
