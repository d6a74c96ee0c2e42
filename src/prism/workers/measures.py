"""What operators see of the background work: backlogs, their oldest age, what was done, and what failed.

`prism_promises`, `prism_garbage_objects`, `prism_garbage_bytes` and `prism_backlog` come from the catalog's counters;
`prism_oldest_seconds{of}` is how long the oldest row of a backlog has been waiting past its time (0: none is).
"""

from collections.abc import Mapping
from datetime import datetime

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge

from ..catalog import garbage, listing, outbox, uploads, usage
from ..catalog.usage import Counters
from ..meta import View
from .duty import Tally

__all__ = ["Backlog", "Measures", "backlog"]

_DONE = ("relayed", "verified", "broken", "expired", "purged", "deleted", "deleted_bytes", "garbage_removed")


class Backlog(msgspec.Struct, frozen=True):
    """The counters of a namespace, and since when the oldest of each backlog waits, by name."""

    counters: Counters
    waiting_since: Mapping[str, datetime]


async def backlog(view: View, namespace: str, now: datetime) -> Backlog:
    """Read what waits in a namespace."""
    since: dict[str, datetime] = {}
    for row in await outbox.pending(view, namespace, 1):
        since["outbox"] = row.at
    for item in await garbage.due(view, namespace, now, 1):
        since["garbage"] = item.row.due
    for promise in await uploads.due(view, namespace, now, 1):
        since["promises"] = promise.due or now
    for hint in await listing.expiring_hints(view, namespace, now, 1):
        since["expiry"] = hint.at
    return Backlog(await usage.counters(view, namespace), since)


class Measures:
    """The metrics of one process's janitor, with a child kept for each namespace."""

    def __init__(self, registry: CollectorRegistry) -> None:
        own = ["namespace"]
        self._gauges = {
            name: Gauge(f"prism_{name}", text, own, registry=registry)
            for name, text in (
                ("promises", "Open promises: uploads that may still land"),
                ("garbage_objects", "Condemned keys whose bytes are not gone for good"),
                ("garbage_bytes", "Bytes of condemned keys"),
                ("backlog", "Messages in the outbox that wait for the bus"),
                ("deletion_stopped", "1 while no bytes are deleted because clocks differ or the store is not ours"),
            )
        }
        self._oldest = Gauge(
            "prism_oldest_seconds", "How long the oldest waits past its time", [*own, "of"], registry=registry
        )
        self._done = {
            name: Counter(
                f"prism_janitor_{name}", f"Done by the janitor: {name.replace('_', ' ')}", own, registry=registry
            )
            for name in _DONE
        }
        self._errors = Counter(
            "prism_janitor_errors", "Steps that could not be done", [*own, "step"], registry=registry
        )
        self._drift = {
            unit: Gauge(
                f"prism_usage_drift_{unit}", f"Usage {unit} that the last audit corrected", own, registry=registry
            )
            for unit in ("objects", "bytes")
        }

    def failed(self, namespace: str, step: str) -> None:
        """A step could not be done."""
        self._errors.labels(namespace, step).inc()

    def done(self, namespace: str, tally: Tally, before: Tally) -> None:
        """Count what was done since `before`."""
        for name, counter in self._done.items():
            counter.labels(namespace).inc(getattr(tally, name) - getattr(before, name))
        self._gauges["deletion_stopped"].labels(namespace).set(bool(tally.stopped))

    def drifted(self, namespace: str, objects: int, size_bytes: int) -> None:
        """An audit was made."""
        self._drift["objects"].labels(namespace).set(objects)
        self._drift["bytes"].labels(namespace).set(size_bytes)

    def waiting(self, namespace: str, found: Backlog, now: datetime) -> None:
        """Show what waits."""
        counters = found.counters
        for name, value in (
            ("promises", counters.uploads),
            ("garbage_objects", counters.garbage),
            ("garbage_bytes", counters.garbage_bytes),
            ("backlog", counters.outbox),
        ):
            self._gauges[name].labels(namespace).set(value)
        for of in ("outbox", "garbage", "promises", "expiry"):
            age = (now - found.waiting_since.get(of, now)).total_seconds()
            self._oldest.labels(namespace, of).set(max(0.0, age))
