"""Counts and times what is asked of a store."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from prometheus_client import CollectorRegistry, Histogram

from ..driver import AlreadyExists, BadPart, Driver, EtagMismatch, NoSpace, NotFound, Throttled
from .layer import Layer

__all__ = ["Observe", "StoreMetrics"]

T = TypeVar("T")
_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
_OUTCOMES: tuple[tuple[type[BaseException], str], ...] = (
    (NotFound, "not_found"),
    (AlreadyExists, "exists"),
    (EtagMismatch, "changed"),
    (BadPart, "bad_part"),
    (Throttled, "throttled"),
    (NoSpace, "full"),
    (TimeoutError, "timeout"),
    (asyncio.CancelledError, "cancelled"),
)


class StoreMetrics:
    """Prometheus metrics of all stores of one process; make it once per registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.seconds = Histogram(
            "prism_store_call_seconds",
            "Time of calls to blob stores; of a put the whole transfer, of a get until the first byte can be read.",
            ["store", "call", "outcome"],
            buckets=_BUCKETS,
            registry=registry,
        )


class Observe(Layer):
    """Counts and times the calls to one store by what came of them."""

    def __init__(self, driver: Driver, metrics: StoreMetrics, store: str) -> None:
        super().__init__(driver)
        self._seconds = metrics.seconds
        self._store = store
        self._children: dict[tuple[str, str], Histogram] = {}

    async def _call(self, name: str, do: Callable[[], Awaitable[T]]) -> T:
        started = time.perf_counter()
        outcome = "ok"
        try:
            return await do()
        except BaseException as error:
            outcome = next((text for kind, text in _OUTCOMES if isinstance(error, kind)), "failed")
            raise
        finally:
            self._child(name, outcome).observe(time.perf_counter() - started)

    def _child(self, name: str, outcome: str) -> Histogram:
        child = self._children.get((name, outcome))
        if child is None:
            child = self._children[name, outcome] = self._seconds.labels(self._store, name, outcome)
        return child
