"""Whether this process can do its work now, told by looking at what it needs; never whether it is alive.

Each look is bounded in time, and an answer serves everybody for a second, so that many askers cause no load. A process
that is told to stop is not ready from that moment on.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

from .errors import PrismError

__all__ = ["Readiness"]

Look = Callable[[], Awaitable[str]]
"""Returns why something is not ready, or an empty text; may raise `PrismError`."""
_LOOK_SECONDS = 2.0
_FRESH_SECONDS = 1.0


class Readiness:
    """Awaits to what is not ready, by name; empty: all is."""

    def __init__(self, looks: Mapping[str, Look], elapsed: Callable[[], float] = time.monotonic) -> None:
        self._looks = dict(looks)
        self._elapsed = elapsed
        self._answer: Mapping[str, str] = {}
        self._until = -1.0
        self._looking: asyncio.Task[None] | None = None
        self._stopping = False

    def stop(self) -> None:
        """From now on: not ready."""
        self._stopping = True

    async def __call__(self) -> Mapping[str, str]:
        if self._stopping:
            return {"process": "is stopping"}
        if self._elapsed() >= self._until:
            if self._looking is None or self._looking.done():
                self._looking = asyncio.ensure_future(self._look())
            await asyncio.shield(self._looking)
        return self._answer

    async def _look(self) -> None:
        found = await asyncio.gather(*(_bounded(look) for look in self._looks.values()))
        self._answer = {name: why for name, why in zip(self._looks, found, strict=True) if why}
        self._until = self._elapsed() + _FRESH_SECONDS


async def _bounded(look: Look) -> str:
    try:
        return await asyncio.wait_for(look(), _LOOK_SECONDS)
    except PrismError as error:
        return str(error)
    except TimeoutError:
        return f"did not answer within {_LOOK_SECONDS:g} seconds"
