"""Port 2, the catalog's ordered transactional key-value space: `Meta` is the front door, `open_meta` makes one from a
URL.

A key is a tuple of str, int, bytes and bool elements whose first element names its partition; `tuples.py` encodes it so
that tuples sort as their elements do. Values are bytes (JSON by convention; counters are little-endian). A body runs
again when it lost to another transaction, so it has no side effects; what a caller hears of a commit is true, also when
the store could not say at first. What goes wrong is a `PrismError`; a body's own exceptions come out unchanged.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from ..errors import ErrorCode, PrismError
from . import tuples
from .driver import Body, Closed, Conflict, Driver, Transaction, UnknownOutcome
from .outcomes import RESERVED, Markers
from .tuples import Element, Key, pack
from .views import Entry, Txn, View
from .waiting import TRANSACTION_SECONDS, pause, within

__all__ = ["SCHEMA_VERSION", "Element", "Entry", "Key", "Meta", "Txn", "View", "open_meta", "tuples"]

T = TypeVar("T")
SCHEMA_VERSION = 1
"""The layout of keys and values that this program writes; one that finds a newer number in the space refuses it."""
_SCHEMA_PARTITION = b"\x00"
_SCHEMA_KEY = RESERVED + _SCHEMA_PARTITION + b"schema"
_ATTEMPTS = 24


class Meta:
    """The front door over a driver. Use it from one event loop."""

    def __init__(self, driver: Driver, *, transaction_seconds: float = TRANSACTION_SECONDS) -> None:
        self._driver = driver
        self._seconds = transaction_seconds
        self._markers = Markers(driver) if driver.outcome_may_be_unknown else None

    async def transact(self, partition: str, body: Callable[[Txn], Awaitable[T]], prefetch: Sequence[Key] = ()) -> T:
        """Run `body` serialisably on one partition and return its value once its writes are durable.

        `prefetch` names keys that the body is likely to read. CATALOG_DOWN (retry later) when the store fails or others
        were always faster, OUTCOME_UNKNOWN when the store would not say whether it committed, DEADLINE_EXCEEDED when
        the body takes longer than 5 seconds, TOO_LARGE and INTERNAL as `Txn` says.
        """

        async def attempt(tx: Transaction) -> T:
            return await within(body(Txn(tx, partition)), self._seconds)

        raw, hints = pack((partition,)), [pack(key) for key in prefetch]
        try:
            if self._markers is None:
                return await self._run(raw, attempt, hints)
            return await self._run_marked(self._markers, raw, attempt, hints)
        except UnknownOutcome as error:
            raise _unknown() from error
        except Closed as error:
            raise _closed() from error
        except self._driver.failures as error:
            raise self._down(error) from error

    async def _run(self, partition: bytes, body: Body[T], prefetch: Sequence[bytes]) -> T:
        for number in range(_ATTEMPTS):
            try:
                return await self._driver.transact(partition, body, prefetch)
            except Conflict:
                await pause(number)
        raise _contended()

    async def _run_marked(self, markers: Markers, partition: bytes, body: Body[T], prefetch: Sequence[bytes]) -> T:
        """As `_run`, and an attempt of unknown outcome is looked up: its answer is returned, or it is fenced and
        repeated."""
        slot = await markers.take(partition)
        hints = [slot.key, *prefetch]
        answers: list[T] = []

        async def remembered(tx: Transaction) -> T:
            answers[:] = [await body(tx)]
            return answers[0]

        try:
            for number in range(_ATTEMPTS):
                try:
                    return await self._driver.transact(partition, markers.marked(slot, remembered), hints)
                except Conflict:
                    await pause(number)
                except UnknownOutcome:
                    if await markers.committed(partition, slot):
                        return answers[0]
        finally:
            markers.give_back(partition, slot)
        raise _contended()

    async def read(self, body: Callable[[View], Awaitable[T]]) -> T:
        """Run `body` on one snapshot, of everything committed before the call; errors as those of `transact`."""
        try:
            async with self._driver.snapshot() as snapshot:
                return await within(body(View(snapshot)), self._seconds)
        except Closed as error:
            raise _closed() from error
        except self._driver.failures as error:
            raise self._down(error) from error

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[View]:
        """One snapshot for as long as it is held, for exports: a store with a log keeps what it needs meanwhile.

        Errors as those of `read`, without its deadline; a driver that cannot hold one so long fails in the middle.
        """
        try:
            async with self._driver.snapshot() as snapshot:
                yield View(snapshot)
        except Closed as error:
            raise _closed() from error
        except self._driver.failures as error:
            raise self._down(error) from error

    def _down(self, error: Exception) -> PrismError:
        return PrismError(ErrorCode.CATALOG_DOWN, self._driver.explain(error))

    async def close(self) -> None:
        """Finish what is committing and release the store. Further calls are CATALOG_DOWN."""
        await self._driver.close()

    async def check_schema(self) -> None:
        """Write the schema version into a new space; SCHEMA_MISMATCH when the space was written by a newer program."""

        async def body(tx: Transaction) -> bytes | None:
            found = await tx.get(_SCHEMA_KEY)
            if found is None:
                tx.set(_SCHEMA_KEY, str(SCHEMA_VERSION).encode())
            return found

        try:
            found = await self._run(_SCHEMA_PARTITION, body, ())
        except UnknownOutcome as error:
            raise _unknown() from error
        except self._driver.failures as error:
            raise self._down(error) from error
        if found is not None and (not found.isdigit() or int(found) > SCHEMA_VERSION):
            raise PrismError(
                ErrorCode.SCHEMA_MISMATCH,
                f"the catalog was written by a newer program (schema {found[:20]!r}, this one knows {SCHEMA_VERSION})",
            )


def _contended() -> PrismError:
    return PrismError(
        ErrorCode.CATALOG_DOWN, f"the transaction lost to others {_ATTEMPTS} times in a row", retry_after_seconds=1
    )


def _unknown() -> PrismError:
    return PrismError(
        ErrorCode.OUTCOME_UNKNOWN, "the catalog did not say whether the transaction was committed; repeat the request"
    )


def _closed() -> PrismError:
    return PrismError(ErrorCode.CATALOG_DOWN, "the catalog is closed")


async def open_meta(url: str, *, wrap: Callable[[Driver], Driver] | None = None) -> Meta:
    """The catalog behind `memory:` (new and empty) or `sqlite:///PATH` (created when absent); UNIMPLEMENTED otherwise.

    `wrap` lays a driver round the driver, for tests of failures. SCHEMA_MISMATCH when a newer program wrote the space,
    CATALOG_DOWN when it cannot be opened.
    """
    driver = _driver(url)
    meta = Meta(driver if wrap is None else wrap(driver))
    try:
        await meta.check_schema()
    except PrismError:
        await meta.close()
        raise
    return meta


def _driver(url: str) -> Driver:
    scheme, _, rest = url.partition(":")
    if url == "memory:":
        from .memory import MemoryDriver

        return MemoryDriver()
    if scheme == "sqlite" and rest.startswith("///") and len(rest) > len("///"):
        from .sqlite import SqliteDriver

        return SqliteDriver(rest.removeprefix("///"))
    raise PrismError(
        ErrorCode.UNIMPLEMENTED, f"no catalog driver for {scheme!r} here; this build has memory: and sqlite:///PATH"
    )
