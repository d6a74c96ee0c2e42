"""The outbox: what happened, recorded in the very transaction that made it so, in the order of commits.

One relay per namespace takes the rows from the front, publishes them and removes them; a row is there until its message
is durable elsewhere, so a message may be published twice but is never lost. Object events are recorded only where the
namespace asks for them.
"""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from ..meta import Txn, View, tuples
from .rows import Row, Rules, counter_key, decode, encode, outbox_prefix

__all__ = ["OBJECT_EVENTS", "Outgoing", "announce", "pending", "record", "sent"]

OBJECT_EVENTS = "object-events"


class OutboxRow(Row, frozen=True, kw_only=True):
    """A message that waits for its relay."""

    topic: str
    key: str
    value: msgspec.Raw
    at: datetime


class ObjectEvent(Row, frozen=True, kw_only=True):
    """The value of a message on `object-events`."""

    type: str
    namespace: str
    bucket: str
    key: str
    at: datetime
    version_id: str | None = None
    size_bytes: int | None = None


class Outgoing(msgspec.Struct, frozen=True):
    """A row of the outbox with its place: `stamp` grows in commit order and names the message's source sequence."""

    stamp: bytes
    topic: str
    key: str
    value: bytes
    at: datetime


def record(tx: Txn, namespace: str, topic: str, key: str, value: msgspec.Struct, now: datetime) -> None:
    """Record a message together with the state it reports."""
    row = OutboxRow(topic=topic, key=key, value=msgspec.Raw(encode(value)), at=now)
    tx.append(outbox_prefix(namespace), encode(row))
    tx.add(counter_key(namespace, "outbox"), 1)


def announce(
    tx: Txn,
    rules: Rules,
    kind: str,
    bucket: str,
    key: str,
    now: datetime,
    *,
    version_id: str | None = None,
    size_bytes: int | None = None,
) -> None:
    """Record an object event where the namespace wants them."""
    if rules.events:
        event = ObjectEvent(
            type=kind,
            namespace=rules.namespace,
            bucket=bucket,
            key=key,
            at=now,
            version_id=version_id,
            size_bytes=size_bytes,
        )
        record(tx, rules.namespace, OBJECT_EVENTS, f"{bucket}/{key}", event, now)


async def pending(view: View, namespace: str, limit: int) -> list[Outgoing]:
    """The oldest rows, in commit order."""
    start, end = tuples.span(outbox_prefix(namespace))
    found = []
    for entry in await view.range(start, end, limit=limit):
        row, stamp = decode(OutboxRow, entry.value), entry.key[-1]
        assert isinstance(stamp, bytes)
        found.append(Outgoing(stamp, row.topic, row.key, bytes(row.value), row.at))
    return found


async def sent(tx: Txn, namespace: str, stamps: Sequence[bytes]) -> None:
    """These messages are durable on the bus."""
    present = await tx.get_many([(*outbox_prefix(namespace), stamp) for stamp in stamps])
    for stamp, value in zip(stamps, present, strict=True):
        if value is not None:
            tx.clear((*outbox_prefix(namespace), stamp))
            tx.add(counter_key(namespace, "outbox"), -1)
