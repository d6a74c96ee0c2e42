"""Fills a data folder with rows, and files where asked, faster than the API could: as a large namespace looks."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

from prism.catalog.rows import ObjectRow, counter_key, encode, expiry_key, object_key
from prism.keys import Layout
from prism.meta import Txn, open_meta

__all__ = ["BUCKET", "SPACE", "seed"]

SPACE = "user-uploads"
BUCKET = "prism-objects"
_BATCH = 5000


def seed(data: Path, prefix: str, count: int, *, body: bytes | None = None) -> None:
    """`count` objects named `{prefix}{number:08d}` in a data folder that `prism serve` made and nobody serves now."""
    asyncio.run(_rows(data, prefix, count, body))


async def _rows(data: Path, prefix: str, count: int, body: bytes | None) -> None:
    meta = await open_meta(f"sqlite:///{(data / 'catalog.sqlite').absolute()}")
    layout, now = Layout(BUCKET), datetime.now(UTC)
    numbers = iter(range(count))
    try:
        while batch := list(islice(numbers, _BATCH)):
            rows = list(_made(layout, prefix, batch, now, body))

            async def write(tx: Txn, rows: list[tuple[str, ObjectRow]] = rows) -> None:
                for key, row in rows:
                    tx.set(object_key(SPACE, BUCKET, key), encode(row))
                    assert row.expires_at is not None
                    tx.set(expiry_key(SPACE, row.expires_at, BUCKET, key), b"")
                    tx.add(counter_key(SPACE, "bytes"), row.size_bytes)
                tx.add(counter_key(SPACE, "objects"), len(rows))

            await meta.transact(SPACE, write)
            if body is not None:
                _files(data / "blobs" / SPACE, [row.physical_key for _, row in rows], body)
    finally:
        await meta.close()


def _made(
    layout: Layout, prefix: str, numbers: list[int], now: datetime, body: bytes | None
) -> Iterator[tuple[str, ObjectRow]]:
    size = 4096 if body is None else len(body)
    for number in numbers:
        key, version = f"{prefix}{number:08d}", f"{number:026d}"
        row = ObjectRow(
            physical_key=layout.physical(BUCKET, key, version),
            version_id=version,
            size_bytes=size,
            etag=f"{number:032x}-1",
            store_etag="",
            content_type="application/octet-stream",
            metadata={},
            modified_at=now,
            generation=0,
            dead=now,
            expires_at=(now + timedelta(days=90)).replace(microsecond=0),
        )
        yield key, row


def _files(root: Path, physical_keys: list[str], body: bytes) -> None:
    for key in physical_keys:
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
