"""A process's own account of the version ids that it gave out, kept in the catalog while it lives (`catalog/lives.py`).

Once a minute it notes which id it had given out some minutes before: every promise for an id up to that one was made
or has failed since. So the record is always behind, and never says too much. A process that ends in order notes the
rest. When the record is not as the process left it, the catalog was exchanged under it: it goes on as another process,
with ids of another name, and claims nothing of the time before.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

import structlog

from .catalog import lives
from .catalog.lives import LifeRow
from .errors import PrismError
from .identifiers import VersionIds
from .meta import Meta, Txn

__all__ = ["Life"]

_EVERY_SECONDS = 60.0
_BEATS_BEHIND = 5


class Life:
    """One process's record. `begin` before the first id is given out, `run` meanwhile, `end` when all work is done."""

    def __init__(self, meta: Meta, ids: VersionIds, now: Callable[[], datetime]) -> None:
        self._meta = meta
        self._ids = ids
        self._now = now
        self._known: LifeRow | None = None
        self._given: deque[int] = deque(maxlen=_BEATS_BEHIND)

    async def begin(self) -> None:
        """Open the record. CATALOG_DOWN."""
        self._given.clear()
        process, last = self._ids.process, self._ids.last

        async def body(tx: Txn) -> LifeRow:
            return await lives.begin(tx, process, last, self._now())

        self._known = await self._meta.transact(lives.PARTITION, body)

    async def run(self) -> None:
        """Beat once a minute until cancelled; a catalog that is down only makes the record older."""
        while True:
            await asyncio.sleep(_EVERY_SECONDS)
            with suppress(PrismError):
                await self.beat()

    async def beat(self) -> None:
        """Note what was given out some beats ago."""
        proven = self._given[0] if len(self._given) == _BEATS_BEHIND else 0
        known, process = self._known, self._ids.process
        assert known is not None

        async def body(tx: Txn) -> LifeRow | None:
            return await lives.note(tx, process, known, proven, self._now())

        row = await self._meta.transact(lives.PARTITION, body)
        if row is None:
            _log().error("the catalog is not the one that this process wrote to; was it restored under it?")
            self._ids.begin_anew()
            await self.begin()
            return
        self._known = row
        self._given.append(self._ids.last)

    async def end(self) -> None:
        """Close the record: nothing that this process began is under way any more. A failure leaves it as it was."""
        known, process, last = self._known, self._ids.process, self._ids.last
        assert known is not None

        async def body(tx: Txn) -> bool:
            return await lives.end(tx, process, known, last, self._now())

        with suppress(PrismError):
            await self._meta.transact(lives.PARTITION, body)


def _log() -> structlog.stdlib.BoundLogger:
    logger: structlog.stdlib.BoundLogger = structlog.get_logger("prism.life")
    return logger
