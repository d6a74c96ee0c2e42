"""Leases: at most one holder of a named work in a namespace writes rows; a stale holder is fenced off by its token.

Taking a lease gives a token that is larger than every earlier one; each transaction of the work checks that the lease
row still carries it, so a holder that slept through its lease can commit nothing.
"""

from datetime import datetime, timedelta

import msgspec

from ..errors import ErrorCode, PrismError
from ..meta import Txn
from .rows import LeaseRow, decode, encode, lease_key

__all__ = ["Lease", "check", "release", "take"]

_CREDIBLE = 5
"""How many durations ahead a lease may end: its own, and what the clocks of two processes may differ by."""


class Lease(msgspec.Struct, frozen=True):
    """A lease as its holder knows it."""

    namespace: str
    name: str
    holder: str
    token: int


async def take(tx: Txn, namespace: str, name: str, holder: str, now: datetime, duration: timedelta) -> Lease | None:
    """Take or renew the lease; None while somebody else holds it.

    One that ends later than clocks of today can have said comes from a clock that was wrong, and counts for nothing.
    """
    value = await tx.get(lease_key(namespace, name))
    row = decode(LeaseRow, value) if value is not None else None
    held = row is not None and now < row.until <= now + _CREDIBLE * duration
    if row is not None and row.holder != holder and held:
        return None
    mine = row is not None and row.holder == holder and held
    token = row.token if row is not None and mine else (row.token + 1 if row is not None else 1)
    tx.set(lease_key(namespace, name), encode(LeaseRow(holder=holder, token=token, until=now + duration)))
    return Lease(namespace, name, holder, token)


async def check(tx: Txn, lease: Lease) -> None:
    """LEASE_LOST unless the lease is still this holder's; part of every transaction of the leased work."""
    value = await tx.get(lease_key(lease.namespace, lease.name))
    if value is None or decode(LeaseRow, value).token != lease.token:
        raise PrismError(ErrorCode.LEASE_LOST, f"the lease {lease.name!r} went to another holder")


async def release(tx: Txn, lease: Lease, now: datetime) -> None:
    """Let others take it at once; the token stays, so that it goes on growing."""
    value = await tx.get(lease_key(lease.namespace, lease.name))
    if value is not None and decode(LeaseRow, value).token == lease.token:
        row = LeaseRow(holder="", token=lease.token, until=now)
        tx.set(lease_key(lease.namespace, lease.name), encode(row))
