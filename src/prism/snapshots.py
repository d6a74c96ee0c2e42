"""Export and restore: the whole catalog in one file (`prism catalog export`, `prism catalog restore`).

The file is gzipped JSON lines: a header, a row per line in the catalog's order, and a last line with what was counted
and the SHA-256 of all lines before it. An export reads one snapshot beside running servers; the file appears whole or
not at all. A restore checks the whole file before it writes anything, takes only an empty catalog, and leaves a mark in
it while it is under way, so that nothing is served from half a catalog; repeated with the same file, it comes to its
end. All rows are as they were exported, but for what they prove of writes that were under way (`catalog/backups.py`).
Memory is bounded by a row here and a batch of rows there.
"""

import base64
import gzip
import hashlib
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from .catalog.backups import UnderWay
from .deployment import RESTORE_KEY
from .errors import ErrorCode, PrismError
from .failpoints import failpoint
from .meta import SCHEMA_VERSION, Element, Entry, Key, Meta, Txn, View

__all__ = ["SnapshotReport", "export", "restore"]

_FORMAT = "prism catalog export"
_VERSION = 1
_ALL = (b"", b"\xf0")
_PAGE = 500
_BATCH_ROWS = 500
_BATCH_BYTES = 2_000_000
_LONGEST_LINE = 2**20
_KINDS = {"o": "objects", "v": "versions", "u": "uploads", "w": "writes", "g": "garbage"}


class SnapshotReport(msgspec.Struct, kw_only=True):
    """What a file holds. `namespaces`: how many rows of the kinds that people ask for, by namespace."""

    file: str
    made_at: datetime
    deployment: str
    rows: int = 0
    sha256: str = ""
    namespaces: dict[str, dict[str, int]] = {}

    def count(self, key: Key) -> None:
        """One more row."""
        self.rows += 1
        kind = _KINDS.get(str(key[1])) if len(key) > 2 else None
        if kind is not None and not str(key[0]).startswith(("log/", "~")):
            kinds = self.namespaces.setdefault(str(key[0]), {})
            kinds[kind] = kinds.get(kind, 0) + 1


class _Header(msgspec.Struct, kw_only=True):
    format: str
    version: int
    schema: int
    made_at: datetime
    deployment: str


class _Footer(msgspec.Struct, kw_only=True):
    rows: int
    sha256: str


class _Base64(msgspec.Struct, frozen=True):
    base64: str


_Line = tuple[list[str | int | bool | _Base64], str | _Base64]
_encode = msgspec.json.Encoder().encode
_decode_line = msgspec.json.Decoder(_Line).decode


def _unheard(rows: int) -> None:
    """Nobody watches."""


async def export(
    meta: Meta, file: Path, deployment: str, now: datetime, watch: Callable[[int], object] = _unheard
) -> SnapshotReport:
    """Write the catalog of `deployment` to a new file; `watch` hears how many rows are written.

    INVALID_ARGUMENT when the file exists; OSError when it cannot be written; CATALOG_DOWN.
    """
    report = SnapshotReport(file=str(file), made_at=now, deployment=deployment)
    with _appearing(file) as stream:
        await _write(meta, stream, report, watch)
    return report


@contextmanager
def _appearing(file: Path) -> Iterator[gzip.GzipFile]:
    """A new file, for its owner alone, that is there once it is whole and durable."""
    if file.exists():
        raise PrismError(ErrorCode.INVALID_ARGUMENT, f"{file} exists; name a new file")
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        part.touch(mode=0o600, exist_ok=False)
        with part.open("wb") as raw:
            with gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=6, mtime=0, filename="") as stream:
                yield stream
            raw.flush()
            os.fsync(raw.fileno())
        failpoint("export.before_rename")
        part.rename(file)
    finally:
        part.unlink(missing_ok=True)
    _sync_folder(file.parent)


async def _write(meta: Meta, stream: gzip.GzipFile, report: SnapshotReport, watch: Callable[[int], object]) -> None:
    digest = hashlib.sha256()

    def write(line: Any) -> None:
        data = _encode(line) + b"\n"
        digest.update(data)
        stream.write(data)

    made = {"made_at": report.made_at, "deployment": report.deployment}
    write({"format": _FORMAT, "version": _VERSION, "schema": SCHEMA_VERSION, **made})
    async with meta.snapshot() as view:
        start, end = _ALL
        while entries := await view.range(start, end, limit=_PAGE):
            for entry in entries:
                write(_line(entry))
                report.count(entry.key)
            watch(report.rows)
            start = entries[-1].raw + b"\x00"
    report.sha256 = digest.hexdigest()
    stream.write(_encode({"rows": report.rows, "sha256": report.sha256}) + b"\n")


def _line(entry: Entry) -> list[Any]:
    try:
        value: Any = entry.value.decode()
    except UnicodeDecodeError:
        value = {"base64": base64.b64encode(entry.value).decode()}
    key = [{"base64": base64.b64encode(e).decode()} if isinstance(e, bytes) else e for e in entry.key]
    return [key, value]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


async def restore(meta: Meta, file: Path, watch: Callable[[int], object] = _unheard) -> SnapshotReport:
    """Fill an empty catalog from a file; `watch` hears how many rows are written.

    INVALID_ARGUMENT for a file that is none of these, or not whole; SCHEMA_MISMATCH for one of a newer program;
    PRECONDITION_FAILED when the catalog is not empty; OSError when the file cannot be read; CATALOG_DOWN.
    """
    report, under_way = _checked(file)
    await _begin(meta, report)
    failpoint("restore.after_begin")
    written = 0
    for batch in _batches(file):
        await _put(meta, [(key, under_way.restored(key, value)) for key, value in batch])
        failpoint("restore.after_batch")
        written += len(batch)
        watch(written)

    async def end(tx: Txn) -> None:
        tx.clear(RESTORE_KEY)

    await meta.transact(str(RESTORE_KEY[0]), end)
    return report


def _checked(file: Path) -> tuple[SnapshotReport, UnderWay]:
    """Read the whole file; what it holds, once it is known to be whole and unaltered."""
    under_way = UnderWay()
    with _opened(file) as stream:
        line = _next(file, stream)
        header = _header(file, line)
        report = SnapshotReport(file=str(file), made_at=header.made_at, deployment=header.deployment)
        digest = hashlib.sha256(line)
        line, following = _next(file, stream), _next(file, stream)
        while following:
            key, _ = _row(file, line)
            report.count(key)
            under_way.note(key)
            digest.update(line)
            line, following = following, _next(file, stream)
    try:
        footer = msgspec.json.decode(line, type=_Footer)
    except msgspec.DecodeError as error:
        raise _broken(file) from error
    report.sha256 = digest.hexdigest()
    if (footer.rows, footer.sha256) != (report.rows, report.sha256):
        raise _broken(file)
    return report, under_way


def _header(file: Path, line: bytes) -> _Header:
    try:
        header = msgspec.json.decode(line, type=_Header)
    except msgspec.DecodeError as error:
        raise _broken(file) from error
    if header.format != _FORMAT:
        raise _broken(file)
    if header.version > _VERSION or header.schema > SCHEMA_VERSION:
        what = f"was written by a newer program (schema {header.schema}, this one knows {SCHEMA_VERSION})"
        raise PrismError(ErrorCode.SCHEMA_MISMATCH, f"{file} {what}")
    return header


def _row(file: Path, line: bytes) -> tuple[Key, bytes]:
    try:
        key, value = _decode_line(line)
        elements: list[Element] = [_raw(e) if isinstance(e, _Base64) else e for e in key]
        content = _raw(value) if isinstance(value, _Base64) else value.encode()
    except (msgspec.DecodeError, ValueError) as error:
        raise _broken(file) from error
    if not elements or not isinstance(elements[0], str) or tuple(elements) == RESTORE_KEY:
        raise _broken(file)
    return tuple(elements), content


def _raw(value: _Base64) -> bytes:
    return base64.b64decode(value.base64, validate=True)


def _opened(file: Path) -> gzip.GzipFile:
    return gzip.open(file, "rb")


def _next(file: Path, stream: gzip.GzipFile) -> bytes:
    """The next line with its end; empty at the end of the file."""
    try:
        line = stream.readline(_LONGEST_LINE)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _broken(file) from error
    if line and not line.endswith(b"\n"):
        raise _broken(file)
    return line


def _broken(file: Path) -> PrismError:
    return PrismError(ErrorCode.INVALID_ARGUMENT, f"{file} is no export of a catalog, or not whole, or was altered")


async def _begin(meta: Meta, report: SnapshotReport) -> None:
    """Mark the catalog as being filled from this very file; it must be empty, but for an earlier try."""
    mark = msgspec.json.encode({"sha256": report.sha256})

    async def look(view: View) -> tuple[bytes | None, bool]:
        return await view.get(RESTORE_KEY), bool(await view.range(*_ALL, limit=1))

    found, in_use = await meta.read(look)
    if found is None and in_use:
        raise PrismError(ErrorCode.PRECONDITION_FAILED, "the catalog is not empty; a restore takes a new one")
    if found is not None and found != mark:
        raise PrismError(ErrorCode.PRECONDITION_FAILED, "a restore of another file into this catalog is unfinished")

    async def body(tx: Txn) -> None:
        tx.set(RESTORE_KEY, mark)

    await meta.transact(str(RESTORE_KEY[0]), body)


def _batches(file: Path) -> Iterator[list[tuple[Key, bytes]]]:
    """The rows of the checked file, some at a time, all of one partition."""
    batch: list[tuple[Key, bytes]] = []
    size = 0
    with _opened(file) as stream:
        _next(file, stream)
        line, following = _next(file, stream), _next(file, stream)
        while following:
            key, value = _row(file, line)
            full = len(batch) >= _BATCH_ROWS or size >= _BATCH_BYTES
            if batch and (full or batch[0][0][0] != key[0]):
                yield batch
                batch, size = [], 0
            batch.append((key, value))
            size += len(line)
            line, following = following, _next(file, stream)
    if batch:
        yield batch


async def _put(meta: Meta, batch: Sequence[tuple[Key, bytes]]) -> None:
    async def body(tx: Txn) -> None:
        for key, value in batch:
            tx.set(key, value)

    await meta.transact(str(batch[0][0][0]), body)
