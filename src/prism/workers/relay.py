"""The relay: one leased holder per namespace moves the outbox to the bus, in order, and stops at the first failure.

A row leaves the outbox after its message is durable on the bus, so a message may be published twice but is never lost;
it carries the namespace and its place in the outbox (`prism-source`, `prism-sequence`), by which a consumer drops an
older duplicate. A bus that is down stops the relay of a namespace and parks nothing.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

from ..bus import Bus, Message
from ..catalog import outbox
from ..catalog.outbox import Outgoing
from ..failpoints import failpoint
from ..meta import Txn, View
from .duty import Duty

__all__ = ["SEQUENCE_HEADER", "SOURCE_HEADER", "relay"]

SOURCE_HEADER = "prism-source"
SEQUENCE_HEADER = "prism-sequence"


async def relay(duty: Duty, bus: Bus) -> bool:
    """Move one batch; True when more may be waiting. BUS_DOWN when a message could not be published: those before it
    have left the outbox, it and those behind it wait."""

    async def pending(view: View) -> list[Outgoing]:
        return await outbox.pending(view, duty.space.name, duty.batch)

    rows = await duty.read(pending)
    if rows:
        failpoint("relay.after_fetch")
    for topic, run in _runs(rows):
        await bus.publish(topic, [_message(duty.space.name, row) for row in run])
        failpoint("relay.after_publish")
        await _sent(duty, [row.stamp for row in run])
    return len(rows) == duty.batch


def _runs(rows: Sequence[Outgoing]) -> Iterator[tuple[str, list[Outgoing]]]:
    """Neighbours of one topic go together; the order of the outbox stays."""
    for topic, run in groupby(rows, key=lambda row: row.topic):
        yield topic, list(run)


def _message(namespace: str, row: Outgoing) -> Message:
    headers = {SOURCE_HEADER: namespace, SEQUENCE_HEADER: row.stamp.hex()}
    return Message(key=row.key, value=row.value, headers=headers)


async def _sent(duty: Duty, stamps: Sequence[bytes]) -> None:
    async def body(tx: Txn) -> None:
        await outbox.sent(tx, duty.space.name, stamps)

    failpoint("relay.before_sent")
    await duty.hold.transact(body)
    duty.tally.relayed += len(stamps)
