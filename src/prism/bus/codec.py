"""How messages lie in the log's rows: one line of JSON that an operator can read, then the value as it came.

A value too large for a row stands in pieces under a name of its own; the row then holds only where and how much.
Keys are hashed to partitions by CRC-32, which is stable over processes and versions.
"""

import zlib
from collections.abc import Iterator, Mapping
from datetime import datetime

import msgspec

from .driver import Message, Received, TopicPartition

__all__ = ["PIECE_BYTES", "Head", "Pieces", "decode", "encode", "partition_of", "pieces", "received"]

PIECE_BYTES = 90_000
"""Largest piece of a value in one row: the catalog's 100,000 bytes with room for the line of JSON."""


class Pieces(msgspec.Struct, frozen=True):
    """A value that stands in `count` rows under `name`."""

    name: str
    count: int


class Head(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The line in front of the value."""

    key: str
    at: datetime
    headers: Mapping[str, str] = {}
    pieces: Pieces | None = None


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Head)


def encode(message: Message, at: datetime, split: Pieces | None) -> bytes:
    """The row of a message; its value stands elsewhere when it was `split`."""
    head = Head(key=message.key, at=at, headers=message.headers, pieces=split)
    return _encoder.encode(head) + b"\n" + (b"" if split is not None else message.value)


def decode(row: bytes) -> tuple[Head, bytes]:
    """The line and what follows it (empty when the value stands in pieces)."""
    line, _, value = row.partition(b"\n")
    return _decoder.decode(line), value


def received(source: TopicPartition, offset: int, head: Head, value: bytes) -> Received:
    """A row as it is delivered."""
    message = Message(key=head.key, value=value, headers=dict(head.headers))
    return Received(source=source, offset=offset, published_at=head.at, message=message)


def pieces(value: bytes) -> Iterator[bytes]:
    """A value cut for rows."""
    for start in range(0, len(value), PIECE_BYTES):
        yield value[start : start + PIECE_BYTES]


def partition_of(key: str, partitions: int) -> int:
    """Where messages with this key stand."""
    return zlib.crc32(key.encode()) % partitions
