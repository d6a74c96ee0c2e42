"""The audit of usage: counters are compared with a full count now and then, corrected, and the difference reported.

The count runs on a snapshot, beside everybody; only when it differs does a transaction count again and correct. A
namespace with more objects than a snapshot can count is left alone, and says so.
"""

from ..catalog import usage
from ..catalog.usage import Counted
from ..meta import Txn, View
from .duty import Duty

__all__ = ["MOST_OBJECTS", "audit"]

MOST_OBJECTS = 100_000


async def audit(duty: Duty) -> bool | None:
    """True when the counters were right, False when they had to be corrected, None when there is too much to count."""

    async def compare(view: View) -> bool | None:
        said = await usage.counters(view, duty.space.name)
        if said.objects > MOST_OBJECTS:
            return None
        return await usage.counted(view, duty.space.name) == Counted(said.objects, said.size_bytes)

    right = await duty.read(compare)
    if right is False:

        async def body(tx: Txn) -> tuple[Counted, Counted]:
            return await usage.correct(tx, duty.space.name)

        said, truth = await duty.hold.transact(body)
        duty.tally.drift_objects = truth.objects - said.objects
        duty.tally.drift_bytes = truth.size_bytes - said.size_bytes
    return right
