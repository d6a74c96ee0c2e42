"""The audit record: one JSON line per operation, in a file that several processes append to.

A line is written by one `write` to an append-only descriptor before the operation's answer leaves, so it is whole
whoever else writes, and it survives the death of the process. A sink never raises: what could not be written is counted
(`prism_audit_failures_total`), logged once per outage, and `failing` says it to readiness; operations go on.
"""

import fcntl
import os
import stat
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import msgspec
import structlog
from prometheus_client import CollectorRegistry, Counter

from .config import AuditConfig
from .errors import ErrorCode, PrismError
from .redaction import redact

__all__ = ["AuditRecord", "AuditSink", "FileAudit", "MemoryAudit"]

_LOOK_SECONDS = 1.0
_LOOK_BYTES = 65_536
_MAX_TEXT = 1100
_encode = msgspec.json.Encoder().encode


class AuditRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who did what to which object, and how it ended. Keys are names, not secrets, and stand here as they are."""

    time: datetime
    """When the operation began."""
    principal: str
    kind: str
    api: str
    action: str
    outcome: str
    """`OK`, `CANCELLED`, or the name of an `ErrorCode`."""
    request_id: str
    namespace: str = ""
    bucket: str = ""
    key: str = ""
    bytes_in: int = 0
    bytes_out: int = 0
    seconds: float = 0.0
    detail: Mapping[str, str] | None = None


class AuditSink(Protocol):
    """Where records go. `failing` is why the last one could not be kept, or empty."""

    @property
    def failing(self) -> str: ...

    def write(self, record: AuditRecord) -> None:
        """Keep the record; never raises."""
        ...

    def close(self) -> None: ...


class MemoryAudit:
    """The newest records, in a list; for tests."""

    failing = ""

    def __init__(self, keep: int = 10_000) -> None:
        self.records: list[AuditRecord] = []
        self._keep = keep

    def write(self, record: AuditRecord) -> None:
        self.records.append(record)
        if len(self.records) > self._keep:
            del self.records[0]

    def close(self) -> None:
        return


class FileAudit:
    """Appends to a file, which is renamed to `.1`, `.2`, … when it is large; safe with several processes on one file.

    The file is looked at every second or 64 KiB: when another process (or logrotate) renamed it, this one follows.
    """

    def __init__(
        self,
        config: AuditConfig,
        registry: CollectorRegistry,
        monotonic: Callable[[], float] = time.monotonic,
        write: Callable[[int, bytes], int] = os.write,
    ) -> None:
        self._path = config.path
        self._max_bytes = config.max_bytes
        self._keep = config.keep
        self._monotonic = monotonic
        self._write = write
        self._failures = Counter("prism_audit_failures", "Audit records that could not be written", registry=registry)
        self._log = structlog.get_logger("prism.audit")
        self._unlooked_bytes = 0
        self._torn = False
        self.failing = ""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = self._open()
        except OSError as exc:
            why = f"audit.path: {str(self._path)!r} cannot be opened: {exc.strerror}"
            raise PrismError(ErrorCode.INVALID_ARGUMENT, why) from exc
        self._look_at = monotonic()

    def write(self, record: AuditRecord) -> None:
        line = line_of(record)
        try:
            if self._unlooked_bytes >= _LOOK_BYTES or self._monotonic() >= self._look_at:
                self._look()
            self._append(line)
        except OSError as exc:
            self._failed(exc)
        else:
            if self.failing:
                self._recovered()

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def _append(self, line: bytes) -> None:
        # What a full disk cut short is ended first, so that only that one line is lost.
        whole = b"\n" + line if self._torn else line
        written = self._write(self._descriptor, whole)
        self._unlooked_bytes += written
        self._torn = written < len(whole) and (written > 0 or self._torn)
        if written < len(whole):
            raise OSError(28, "the record was written only in part")

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _look(self) -> None:
        """Follow a file that was renamed, and rename one that is too large."""
        self._unlooked_bytes = 0
        self._look_at = self._monotonic() + _LOOK_SECONDS
        own = os.fstat(self._descriptor)
        if not stat.S_ISREG(own.st_mode):
            return
        if own.st_size >= self._max_bytes:
            self._rotate()
        if not self._is_current(os.fstat(self._descriptor)):
            fresh = self._open()
            os.close(self._descriptor)
            self._descriptor, self._torn = fresh, False

    def _is_current(self, own: os.stat_result) -> bool:
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) == (own.st_dev, own.st_ino)

    def _rotate(self) -> None:
        """Rename, unless another process has done so or is doing it: that one holds the lock."""
        lock = os.open(f"{self._path}.lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self._is_current(os.fstat(self._descriptor)):
                for number in range(self._keep - 1, 0, -1):
                    if self._numbered(number).exists():
                        self._numbered(number).replace(self._numbered(number + 1))
                self._path.replace(self._numbered(1))
        except BlockingIOError:
            return
        finally:
            os.close(lock)

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _failed(self, error: OSError) -> None:
        self._failures.inc()
        if not self.failing:
            self._log.error("audit records are being lost", path=str(self._path), error=error.strerror)
        self.failing = f"audit records cannot be written: {error.strerror}"

    def _recovered(self) -> None:
        self._log.warning("audit records are written again", path=str(self._path))
        self.failing = ""


def line_of(record: AuditRecord) -> bytes:
    """The record as one line, whatever callers put into names: bounded, and encoded even when it is no Unicode."""
    if len(record.key) > _MAX_TEXT or len(record.namespace) > _MAX_TEXT or len(record.bucket) > _MAX_TEXT:
        record = msgspec.structs.replace(
            record,
            namespace=record.namespace[:_MAX_TEXT],
            bucket=record.bucket[:_MAX_TEXT],
            key=record.key[:_MAX_TEXT],
        )
    if record.detail:
        shown = {name: redact(value[:_MAX_TEXT]) for name, value in record.detail.items()}
        record = msgspec.structs.replace(record, detail=shown)
    try:
        return _encode(record) + b"\n"
    except UnicodeEncodeError:
        fields = {name: _escaped(value) for name, value in msgspec.structs.asdict(record).items()}
        return _encode(AuditRecord(**fields)) + b"\n"


def _escaped(value: Any) -> Any:
    """Text that is no Unicode, written out."""
    if isinstance(value, Mapping):
        return {_escaped(name): _escaped(inner) for name, inner in value.items()}
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
