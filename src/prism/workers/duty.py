"""What every step of background work is handed: the namespace, its lease, how much to take at once, and where to count.

The work of a namespace is claimed by a lease. Each of its transactions checks the lease's token first, so a holder that
slept through its lease writes nothing more; what it may still do to the store (delete condemned bytes again) does no
harm.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import TypeVar

import msgspec

from ..catalog import leases
from ..catalog.leases import Lease
from ..errors import ErrorCode, PrismError
from ..meta import Meta, Txn, View
from ..namespaces import Namespace

__all__ = ["Duty", "Failure", "Hold", "Tally"]

T = TypeVar("T")
LEASE = timedelta(seconds=60)


class Failure(msgspec.Struct, frozen=True):
    """A step that could not be done, and why."""

    step: str
    code: ErrorCode
    message: str


class Tally(msgspec.Struct, kw_only=True):
    """What was done for one namespace; counts of things unless the name says otherwise."""

    relayed: int = 0
    verified: int = 0
    """Client promises whose bytes were found by the verifier."""
    broken: int = 0
    expired: int = 0
    purged: int = 0
    marks_removed: int = 0
    deleted: int = 0
    """Physical keys whose deletion succeeded (a key that is deleted promptly and once more counts twice)."""
    garbage_removed: int = 0
    """Garbage rows that went: their bytes are gone for good."""
    deleted_bytes: int = 0
    """Bytes of those."""
    drift_objects: int = 0
    drift_bytes: int = 0
    busy: bool = False
    """Another process holds the namespace's lease, or took it meanwhile."""
    stopped: str = ""
    """Why no bytes may be deleted just now."""
    failures: list[Failure] = []
    seconds: dict[str, float] = {}
    """How long each step took."""

    def failed(self, step: str, error: PrismError) -> None:
        """Note a failure."""
        self.failures.append(Failure(step, error.code, error.message))


class Hold:
    """A lease, taken and renewed while the work goes on."""

    def __init__(self, meta: Meta, namespace: str, name: str, holder: str, now: Callable[[], datetime]) -> None:
        self._meta = meta
        self._namespace = namespace
        self._name = name
        self._holder = holder
        self._now = now
        self._lease: Lease | None = None
        self._renew_at = now()

    async def take(self) -> bool:
        """Take or renew the lease; False while somebody else holds it."""
        now = self._now()

        async def body(tx: Txn) -> Lease | None:
            return await leases.take(tx, self._namespace, self._name, self._holder, now, LEASE)

        self._lease = await self._meta.transact(self._namespace, body)
        self._renew_at = now + LEASE / 3
        return self._lease is not None

    async def transact(self, body: Callable[[Txn], Awaitable[T]]) -> T:
        """Run `body` in a transaction that writes only while the lease is held; LEASE_LOST otherwise."""
        if self._now() >= self._renew_at and not await self.take():
            raise self._lost()
        lease = self._lease
        if lease is None:
            raise self._lost()

        async def guarded(tx: Txn) -> T:
            await leases.check(tx, lease)
            return await body(tx)

        return await self._meta.transact(self._namespace, guarded)

    async def release(self) -> None:
        """Let others take it at once."""
        lease, self._lease = self._lease, None
        if lease is not None:

            async def body(tx: Txn) -> None:
                await leases.release(tx, lease, self._now())

            await self._meta.transact(self._namespace, body)

    def _lost(self) -> PrismError:
        return PrismError(ErrorCode.LEASE_LOST, f"the lease {self._name!r} went to another holder")


class Duty(msgspec.Struct, frozen=True, kw_only=True):
    """One namespace's work. `batch` is the number of rows that a transaction takes on."""

    space: Namespace
    meta: Meta
    hold: Hold
    batch: int
    tally: Tally
    now: Callable[[], datetime]
    is_ours: Callable[[Namespace], Awaitable[bool]] | None = None
    """Whether the store's marker still names this deployment; None: nobody asks."""

    async def read(self, body: Callable[[View], Awaitable[T]]) -> T:
        """Run `body` on one snapshot of the catalog."""
        return await self.meta.read(body)
