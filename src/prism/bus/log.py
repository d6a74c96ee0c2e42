"""The embedded log: topics kept in the catalog's space, each topic partition in a partition of its own (`log/topic/n`).

Offsets are dense numbers, taken inside the transaction that makes a message visible; transactions of one partition are
serialisable, so they grow in commit order and a follower misses none. A message too large for a row is written in
pieces by earlier transactions; the last one makes it visible, all at once. Pieces whose writer died are named by a note
that was written with the first of them, and `trim` clears them; a writer that was taken for dead finds its note gone
and fails.

    n   next offset          m offset  message (codec.py)   w time name   a value that is being written
    f   first offset kept    g group   committed offset     c name index  a piece of a value
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from ..errors import ErrorCode, PrismError
from ..failpoints import failpoint
from ..meta import Entry, Key, Meta, Txn, View, tuples
from .codec import PIECE_BYTES, Head, Pieces, decode, encode, partition_of, pieces, received
from .driver import Message, Received, TopicPartition

__all__ = ["LogDriver"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TRANSACTION_BYTES = 4 * 2**20
_TRANSACTION_ROWS = 500
_PIECES = _TRANSACTION_BYTES // PIECE_BYTES
_POLL_BYTES = 32 * 2**20
_PAGE = 64
_TRIM_PAGES = 10
_ABANDONED = timedelta(minutes=15)
"""How old a half-written value is when its writer is taken for dead; far longer than a publish may take."""


class _Topic(msgspec.Struct, frozen=True):
    partitions: int


class _Prepared(msgspec.Struct, frozen=True):
    """A message's row, and the note that must still stand when it becomes visible."""

    row: bytes
    note: Key | None


class LogDriver:
    """Topics in `meta`. Drivers on one space share everything but where each stands in a partition."""

    failures: tuple[type[Exception], ...] = ()

    def __init__(
        self, meta: Meta, *, now: Callable[[], datetime], new_id: Callable[[], str], partitions: int = 4
    ) -> None:
        self._meta = meta
        self._now = now
        self._new_id = new_id
        self._partitions = partitions
        self._topics: dict[str, int] = {}
        self._positions: dict[tuple[str, TopicPartition], int] = {}
        self._polling: defaultdict[tuple[str, TopicPartition], asyncio.Lock] = defaultdict(asyncio.Lock)

    async def partitions(self, topic: str) -> int:
        if topic not in self._topics:
            self._topics[topic] = await self._made(topic)
        return self._topics[topic]

    async def _made(self, topic: str) -> int:
        key = (f"log/{topic}", "t")

        async def body(tx: Txn) -> bytes:
            value = await tx.get(key)
            if value is None:
                value = msgspec.json.encode(_Topic(self._partitions))
                tx.set(key, value)
            return value

        return msgspec.json.decode(await self._meta.transact(key[0], body), type=_Topic).partitions

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        count = await self.partitions(topic)
        by_partition: defaultdict[int, list[Message]] = defaultdict(list)
        for message in messages:
            by_partition[partition_of(message.key, count)].append(message)
        for number, some in sorted(by_partition.items()):
            place = _place(TopicPartition(topic, number))
            for batch in _batches(some):
                await self._append(place, batch)

    async def _append(self, place: str, batch: Sequence[Message]) -> None:
        at = self._now()
        prepared = [await self._prepare(place, message, at) for message in batch]

        async def body(tx: Txn) -> None:
            following = _number(await tx.get((place, "n")))
            for offset, item in enumerate(prepared, following):
                if item.note is not None:
                    await _close_note(tx, item.note)
                tx.set((place, "m", offset), item.row)
            tx.set((place, "n"), str(following + len(prepared)).encode())

        failpoint("bus.log.before_visible")
        await self._meta.transact(place, body)

    async def _prepare(self, place: str, message: Message, at: datetime) -> _Prepared:
        row = encode(message, at, None)
        if len(row) <= PIECE_BYTES:
            return _Prepared(row, None)
        name = self._new_id()
        note = (place, "w", (at - _EPOCH) // timedelta(microseconds=1), name)
        cut = list(pieces(message.value))
        for start in range(0, len(cut), _PIECES):
            await self._write_pieces(place, name, note, start, cut[start : start + _PIECES])
            failpoint("bus.log.after_pieces")
        return _Prepared(encode(message, at, Pieces(name, len(cut))), note)

    async def _write_pieces(self, place: str, name: str, note: Key, start: int, some: Sequence[bytes]) -> None:
        async def body(tx: Txn) -> None:
            if start == 0:
                tx.set(note, b"")
            for index, piece in enumerate(some, start):
                tx.set((place, "c", name, index), piece)

        await self._meta.transact(place, body)

    async def poll(self, group: str, source: TopicPartition, limit: int) -> list[Received]:
        async with self._polling[group, source]:
            position = self._positions.get((group, source))
            if position is None:
                position = (await self._state(group, source))[2]
            taken, position = await self._take(source, position, limit)
            self._positions[group, source] = position
            return taken

    async def _take(self, source: TopicPartition, position: int, limit: int) -> tuple[list[Received], int]:
        taken: list[Received] = []
        size = 0
        while len(taken) < limit and size < _POLL_BYTES:
            wanted = min(_PAGE, limit - len(taken))
            entries = await self._messages(source, position, wanted)
            for entry in entries:
                head, value = decode(entry.value)
                whole = value if head.pieces is None else await self._whole(_place(source), head.pieces)
                position = _offset(entry) + 1
                if whole is not None:
                    taken.append(received(source, position - 1, head, whole))
                    size += len(whole)
                if size >= _POLL_BYTES:
                    break
            if len(entries) < wanted:
                break
        return taken, position

    async def _messages(self, source: TopicPartition, position: int, limit: int) -> list[Entry]:
        place = _place(source)
        end = tuples.span((place, "m"))[1]

        async def body(view: View) -> list[Entry]:
            return await view.range(tuples.pack((place, "m", position)), end, limit=limit)

        return await self._meta.read(body)

    async def _whole(self, place: str, split: Pieces) -> bytes | None:
        """The value put together; None when it was trimmed while it was read."""
        parts: list[bytes] = []
        for start in range(0, split.count, _PIECES):
            keys: list[Key] = [(place, "c", split.name, i) for i in range(start, min(start + _PIECES, split.count))]

            async def body(view: View, keys: Sequence[Key] = keys) -> list[bytes | None]:
                return await view.get_many(keys)

            found = await self._meta.read(body)
            parts += [part for part in found if part is not None]
        return b"".join(parts) if len(parts) == split.count else None

    async def commit(self, group: str, source: TopicPartition, offset: int) -> None:
        key = (_place(source), "g", group)

        async def body(tx: Txn) -> None:
            if offset > _number(await tx.get(key)):
                tx.set(key, str(offset).encode())

        await self._meta.transact(key[0], body)

    async def rewind(self, group: str, source: TopicPartition) -> None:
        async with self._polling[group, source]:
            self._positions.pop((group, source), None)

    async def lag(self, group: str, source: TopicPartition) -> int:
        first, following, committed = await self._state(group, source)
        return max(0, following - max(first, committed))

    async def _state(self, group: str, source: TopicPartition) -> tuple[int, int, int]:
        """First offset kept, next offset, the group's committed one."""
        place = _place(source)

        async def body(view: View) -> list[bytes | None]:
            return await view.get_many([(place, "f"), (place, "n"), (place, "g", group)])

        first, following, committed = (_number(value) for value in await self._meta.read(body))
        return first, following, committed

    async def trim(self, topic: str, before: datetime) -> int:
        dropped = 0
        for number in range(await self.partitions(topic)):
            source = TopicPartition(topic, number)
            await self._clear_abandoned(_place(source))
            for _ in range(_TRIM_PAGES):
                some = await self._trim_page(source, before)
                dropped += some
                if some < _PAGE:
                    break
        return dropped

    async def _trim_page(self, source: TopicPartition, before: datetime) -> int:
        old: list[tuple[Entry, Head]] = []
        for entry in await self._messages(source, 0, _PAGE):
            head, _ = decode(entry.value)
            if head.at >= before:
                break
            old.append((entry, head))
        if not old:
            return 0
        place, following = _place(source), _offset(old[-1][0]) + 1

        async def body(tx: Txn) -> int:
            if _number(await tx.get((place, "f"))) >= following:
                return 0
            for entry, head in old:
                tx.clear(entry.key)
                if head.pieces is not None:
                    tx.clear_range(*tuples.span((place, "c", head.pieces.name)))
            tx.set((place, "f"), str(following).encode())
            return len(old)

        return await self._meta.transact(place, body)

    async def _clear_abandoned(self, place: str) -> None:
        """Clear the pieces of values whose writers died half-way."""
        start, _ = tuples.span((place, "w"))
        end = tuples.pack((place, "w", (self._now() - _ABANDONED - _EPOCH) // timedelta(microseconds=1)))

        async def notes(view: View) -> list[Entry]:
            return await view.range(start, end, limit=_PAGE)

        for note in await self._meta.read(notes):

            async def body(tx: Txn, note: Key = note.key) -> None:
                if await tx.get(note) is not None:
                    tx.clear(note)
                    tx.clear_range(*tuples.span((place, "c", note[-1])))

            await self._meta.transact(place, body)

    async def close(self) -> None:
        self._positions.clear()


def _place(source: TopicPartition) -> str:
    return f"log/{source.topic}/{source.partition}"


def _number(value: bytes | None) -> int:
    return 0 if value is None else int(value)


def _offset(entry: Entry) -> int:
    return int(entry.key[-1])


async def _close_note(tx: Txn, note: Key) -> None:
    if await tx.get(note) is None:
        raise PrismError(ErrorCode.BUS_DOWN, "the message took so long that its pieces were cleared; publish it again")
    tx.clear(note)


def _batches(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    """Runs of messages that fit into one transaction each."""
    batch: list[Message] = []
    size = 0
    for message in messages:
        cost = min(len(message.value), PIECE_BYTES) + 4096
        if batch and (len(batch) == _TRANSACTION_ROWS or size + cost > _TRANSACTION_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += cost
    if batch:
        yield batch
