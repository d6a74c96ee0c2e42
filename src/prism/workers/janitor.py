"""The janitor: per namespace, under a lease, everything that must happen although nobody asks for it.

In this order: relay the outbox, look at client promises that are due, break dead ones, unlink what expired, purge
deleted folders, delete garbage whose time has come, forget parts that came late. Each step is bounded and can be
resumed; what fails stops its own step for a while and is reported, and the other steps and namespaces go on. Rows
decide, so a stale holder does no harm.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta

import msgspec
import structlog
from prometheus_client import CollectorRegistry

from ..bus import Bus
from ..catalog.outbox import OBJECT_EVENTS
from ..config import JanitorConfig
from ..errors import ErrorCode, PrismError
from ..failpoints import failpoint
from ..meta import Meta, View
from ..namespaces import Namespace
from .auditing import audit
from .deleting import delete_due, forget_late_parts
from .duty import Duty, Hold, Tally
from .measures import Backlog, Measures, backlog
from .purging import Purge, expire_due
from .relay import relay
from .verifying import break_writers, verify_due

__all__ = ["Janitor", "Report"]

Step = Callable[[Duty], Awaitable[bool]]
_STEPS_AT_ONCE = 20
_SECONDS_AT_ONCE = 5.0
_AUDIT_EVERY = timedelta(hours=24)
_TRIM_EVERY = timedelta(seconds=60)
_FIRST_PAUSE = timedelta(seconds=1)
_LONGEST_PAUSE = timedelta(seconds=60)


class Report(msgspec.Struct, frozen=True):
    """A round: what was done in each namespace, and how many messages were trimmed from the bus."""

    namespaces: Mapping[str, Tally]
    trimmed: int = 0

    @property
    def failed(self) -> bool:
        """Whether any step could not be done, or deletion is stopped."""
        return any(tally.failures or tally.stopped for tally in self.namespaces.values())


class Janitor:
    """The background work of one process. `holder` names it in leases; `retention` is how long the bus keeps
    messages; `is_ours` says whether a namespace's store still belongs to this deployment."""

    def __init__(
        self,
        namespaces: Iterable[Namespace],
        meta: Meta,
        bus: Bus,
        config: JanitorConfig,
        *,
        now: Callable[[], datetime],
        registry: CollectorRegistry | None = None,
        retention: timedelta = timedelta(hours=168),
        holder: str | None = None,
        is_ours: Callable[[Namespace], Awaitable[bool]] | None = None,
    ) -> None:
        self._meta = meta
        self._bus = bus
        self._config = config
        self._now = now
        self._retention = retention
        self._trimmed_at = now() - _TRIM_EVERY
        measures = Measures(registry if registry is not None else CollectorRegistry())
        own = holder or secrets.token_hex(8)
        self._keepers = [_Keeper(space, meta, bus, config.batch, measures, own, now, is_ours) for space in namespaces]

    async def run_once(self) -> Report:
        """One whole round: everything that is due now. Failures are in the report; only defects of the program
        raise."""
        tallies = await asyncio.gather(*(keeper.round() for keeper in self._keepers))
        trimmed = await self._trim()
        return Report({k.space.name: tally for k, tally in zip(self._keepers, tallies, strict=True)}, trimmed)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, with a pause of `interval_seconds` whenever nothing is left to do."""
        async with asyncio.TaskGroup() as group:
            for keeper in self._keepers:
                group.create_task(keeper.run(stop, self._config.interval_seconds))
            group.create_task(self._run_trim(stop))

    def trouble(self) -> Mapping[str, str]:
        """What keeps a namespace's work from being done, by namespace, for readiness; empty: nothing does."""
        return {keeper.space.name: keeper.trouble for keeper in self._keepers if keeper.trouble}

    async def _run_trim(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            if self._now() >= self._trimmed_at + _TRIM_EVERY:
                self._trimmed_at = self._now()
                await self._trim()
            await _pause(stop, self._config.interval_seconds)

    async def _trim(self) -> int:
        """Drop what the bus has kept long enough of the topics that this process fills."""
        if not any(keeper.space.config.events for keeper in self._keepers):
            return 0
        try:
            return await self._bus.trim(OBJECT_EVENTS, self._now() - self._retention)
        except PrismError as error:
            _log().warning("the bus was not trimmed", code=error.code, reason=error.message)
            return 0


class _Keeper:
    """One namespace's share of the work."""

    def __init__(
        self,
        space: Namespace,
        meta: Meta,
        bus: Bus,
        batch: int,
        measures: Measures,
        holder: str,
        now: Callable[[], datetime],
        is_ours: Callable[[Namespace], Awaitable[bool]] | None,
    ) -> None:
        self.space = space
        self._is_ours = is_ours
        self.trouble = ""
        self._meta = meta
        self._batch = batch
        self._measures = measures
        self._holder = holder
        self._now = now
        self._backoff: dict[str, tuple[datetime, timedelta]] = {}
        self._audit_at = now() + _AUDIT_EVERY
        self._turn = asyncio.Lock()
        self._steps: Mapping[str, Step] = {
            "verify": verify_due,
            "break": break_writers,
            "expire": expire_due,
            "purge": Purge().step,
            "delete": delete_due,
            "parts": forget_late_parts,
            "audit": self._audit,
        }
        self._relay: Mapping[str, Step] = {"relay": lambda duty: relay(duty, bus)}

    async def round(self) -> Tally:
        """Everything that is due now, whether or not a step is waiting after a failure."""
        tally = Tally()
        self._backoff.clear()
        while await self._sweep(tally, None):
            pass
        return tally

    async def run(self, stop: asyncio.Event, interval_seconds: float) -> None:
        """Sweep until `stop` is set."""
        while not stop.is_set():
            more = False
            try:
                more = await self._sweep(Tally(), stop)
            except Exception:  # noqa: BLE001 - a defect in a step must end neither the loop nor others' work
                self._measures.failed(self.space.name, "defect")
                _log().exception("a sweep failed unexpectedly", namespace=self.space.name)
            if not more:
                await _pause(stop, interval_seconds)

    async def _sweep(self, tally: Tally, stop: asyncio.Event | None) -> bool:
        """A bounded share of every step; True when more is to be done at once."""
        async with self._turn:
            before = len(tally.failures)
            counted = msgspec.structs.replace(tally)
            tally.stopped = ""
            more = await self._held("relay", self._relay, tally, stop)
            more |= await self._held("janitor", self._steps, tally, stop)
            more |= await self._held("relay", self._relay, tally, stop)
            self._show(tally, counted, before)
            await self._measure()
        return more and not (stop is not None and stop.is_set())

    async def _held(self, lease: str, steps: Mapping[str, Step], tally: Tally, stop: asyncio.Event | None) -> bool:
        """The steps under one lease, unless somebody else holds it."""
        hold = Hold(self._meta, self.space.name, lease, self._holder, self._now)
        duty = Duty(
            space=self.space,
            meta=self._meta,
            hold=hold,
            batch=self._batch,
            tally=tally,
            now=self._now,
            is_ours=self._is_ours,
        )
        more = False
        try:
            if not await hold.take():
                tally.busy = True
                return False
            failpoint("janitor.after_lock")
            for name, step in steps.items():
                more |= await self._share(name, step, duty, stop)
            failpoint("janitor.before_release")
            await hold.release()
        except PrismError as error:
            if error.code is ErrorCode.LEASE_LOST:
                tally.busy = True
            else:
                tally.failed(lease, error)
            return False
        return more

    async def _share(self, name: str, step: Step, duty: Duty, stop: asyncio.Event | None) -> bool:
        """A bounded number of batches of one step. A failure ends it and puts its next turn off."""
        until, pause = self._backoff.get(name, (self._now(), _FIRST_PAUSE))
        if self._now() < until:
            return False
        began = time.monotonic()
        ends_at = began + _SECONDS_AT_ONCE
        try:
            for _ in range(_STEPS_AT_ONCE):
                if not await step(duty):
                    self._backoff.pop(name, None)
                    return False
                if time.monotonic() > ends_at or (stop is not None and stop.is_set()):
                    break
        except PrismError as error:
            if error.code is ErrorCode.LEASE_LOST:
                raise
            self._backoff[name] = (self._now() + pause, min(2 * pause, _LONGEST_PAUSE))
            duty.tally.failed(name, error)
            return False
        finally:
            spent = time.monotonic() - began
            duty.tally.seconds[name] = duty.tally.seconds.get(name, 0.0) + spent
        return True

    async def _audit(self, duty: Duty) -> bool:
        if self._now() >= self._audit_at:
            self._audit_at = self._now() + _AUDIT_EVERY
            if await audit(duty) is None:
                _log().info("the namespace is too large for an audit of its usage", namespace=self.space.name)
            else:
                self._measures.drifted(self.space.name, duty.tally.drift_objects, duty.tally.drift_bytes)
        return False

    def _show(self, tally: Tally, counted: Tally, failures_before: int) -> None:
        """Log and count what this sweep added to `counted`, and remember what keeps the work from being done."""
        self._measures.done(self.space.name, tally, counted)
        for failure in tally.failures[failures_before:]:
            self._measures.failed(self.space.name, failure.step)
            _log().warning(
                "background work failed",
                namespace=self.space.name,
                step=failure.step,
                code=failure.code,
                reason=failure.message,
            )
        if tally.stopped and tally.stopped != self.trouble:
            _log().error("deletion is stopped", namespace=self.space.name, reason=tally.stopped)
        self.trouble = tally.stopped

    async def _measure(self) -> None:
        now = self._now()

        async def body(view: View) -> Backlog:
            return await backlog(view, self.space.name, now)

        with suppress(PrismError):  # a catalog that is down was reported by the steps already
            self._measures.waiting(self.space.name, await self._meta.read(body), now)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


def _log() -> structlog.stdlib.BoundLogger:
    logger: structlog.stdlib.BoundLogger = structlog.get_logger("prism.janitor")
    return logger
