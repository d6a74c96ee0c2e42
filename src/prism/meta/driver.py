"""The contract of a metadata driver: an ordered key-value space with serialisable transactions.

Guarantees of the port (`Meta`, the front door) to its callers:
- `transact` runs a body in a transaction that is serialisable among all transactions of its partition, from every
  process on the same space; it refuses keys outside the partition. Its effects are durable when it returns.
- `read` runs a body on one snapshot that holds everything committed before it began.
- Limits of FoundationDB hold everywhere: 5 s and 10 MB a transaction, 10,000 bytes a key, 100,000 bytes a value.
- The outcome is true: a commit whose result was unknown is looked up and fenced before the caller hears anything.
Non-guarantees: fairness, order between partitions, snapshots over several `read` calls, a body run only once.

A driver works on encoded keys and values only (bytes; compared bytewise; the tuple layer is `tuples.py`). It may assume
clean input: keys inside the partition's range (or, for the front door's own rows, in the range that begins with 0xF8
and the partition), sizes within the limits, ranges with start < end, limit >= 1. It raises `Conflict`, `UnknownOutcome`
or what its library raises; the front door maps the types that the driver names in `failures` to CATALOG_DOWN.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

__all__ = ["Body", "Closed", "Conflict", "Driver", "Snapshot", "Transaction", "UnknownOutcome"]

T = TypeVar("T")


class Conflict(Exception):
    """The transaction lost to another and left nothing behind; the front door runs the body again."""


class UnknownOutcome(Exception):
    """The commit may or may not have happened, and may still happen until the front door has fenced it."""


class Closed(Exception):
    """The driver was closed."""


class Snapshot(Protocol):
    """Reads at one point of the space's history."""

    async def get(self, key: bytes) -> bytes | None:
        """The value, or None."""
        ...

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values in the order of `keys`."""
        ...

    async def range(self, start: bytes, end: bytes, limit: int, reverse: bool) -> list[tuple[bytes, bytes]]:
        """At most `limit` pairs with start <= key < end, ascending, or descending from `end` when `reverse`."""
        ...


class Transaction(Snapshot, Protocol):
    """A snapshot that sees its own writes and collects more. Nothing is visible to others before the commit."""

    async def peek(self, key: bytes) -> bytes | None:
        """As `get`, but never a cause of conflict; may be as old as the transaction's start."""
        ...

    def set(self, key: bytes, value: bytes) -> None: ...

    def clear(self, key: bytes) -> None: ...

    def clear_range(self, start: bytes, end: bytes) -> None: ...

    def add(self, key: bytes, delta: int) -> None:
        """Add to a signed 64-bit little-endian counter (absent counts as 0) without conflicting with other adds."""
        ...

    def append(self, prefix: bytes, suffix: bytes, value: bytes) -> None:
        """Set `prefix + stamp + suffix` where stamp is 10 bytes, one for the whole transaction, that grow in commit
        order within the prefix's partition. A reader that remembers the last key it saw misses none. The transaction
        itself does not see what it appended."""
        ...


Body = Callable[[Transaction], Awaitable[T]]


class Driver(Protocol):
    """What a store must do to be a catalog. Every method may be called from many tasks of one event loop."""

    @property
    def failures(self) -> tuple[type[Exception], ...]:
        """The types of what its library raises when the store fails."""
        ...

    @property
    def outcome_may_be_unknown(self) -> bool:
        """Whether a commit without an answer can be told by its traces: then every transaction leaves a marker, by
        which the front door looks up and fences an `UnknownOutcome`. Where it is false, `UnknownOutcome` is told as it
        is."""
        ...

    def explain(self, failure: Exception) -> str:
        """One sentence for people about one of its `failures`, without secrets."""
        ...

    def snapshot(self) -> AbstractAsyncContextManager[Snapshot]:
        """A snapshot taken no earlier than the call; the caller leaves the context within 5 seconds."""
        ...

    async def transact(self, partition: bytes, body: Body[T], prefetch: Sequence[bytes]) -> T:
        """One attempt: run `body`, commit, return its value once the commit is durable.

        `partition` is the encoded partition element; all keys the body touches start with it. `prefetch` are keys that
        the body is likely to read (a hint). A body that raises leaves nothing behind and its exception comes out
        unchanged; other bodies that share its commit are not disturbed. A driver must raise `Conflict` when nothing was
        written and a repetition may succeed, `UnknownOutcome` when it cannot tell. The body must not be awaited for
        longer than 5 seconds.
        """
        ...

    async def close(self) -> None:
        """Finish what is committing, release everything. Later calls raise `Closed`."""
        ...
