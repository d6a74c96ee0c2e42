"""Which deletions the audit record tells of."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from prism.audit import AuditRecord, line_of
from prism.deletions import deletions_of

START = datetime(2026, 11, 24, 12, tzinfo=UTC)


def _record(minute: int, action: str, key: str, **more: str) -> bytes:
    told = {"namespace": "things", "outcome": "OK"} | more
    at = START + timedelta(minutes=minute)
    return line_of(
        AuditRecord(time=at, principal="p", kind="k", api="http", request_id="r", action=action, key=key, **told)
    )


def test_the_last_deletion_of_an_object_or_its_folder_counts(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    lines = [_record(0, "object.delete", "a"), _record(1, "object.delete", "b", bucket="more")]
    path.with_name("audit.jsonl.10").write_bytes(b"".join(lines))
    lines = [_record(2, "object.delete", "a"), _record(3, "prefix.delete", "f/"), b'{"action":"object.delete", torn\n']
    path.with_name("audit.jsonl.2").write_bytes(b"".join(lines))
    lines = [
        _record(4, "object.put", "p"),
        _record(5, "object.delete", "refused", outcome="PERMISSION_DENIED"),
        _record(6, "object.delete", "elsewhere", namespace="others"),
        _record(7, "object.delete", "f/x"),
    ]
    path.write_bytes(b"".join(lines))
    found = deletions_of(path, "things", "own")
    told = {key: found.of("own", key) for key in ("a", "b", "f/x", "f/y/z", "p", "refused", "elsewhere", "f")}
    at = {key: None if value is None else (value - START) // timedelta(minutes=1) for key, value in told.items()}
    assert at == {"a": 2, "b": None, "f/x": 7, "f/y/z": 3, "p": None, "refused": None, "elsewhere": None, "f": None}
    assert found.of("more", "b") == START + timedelta(minutes=1)


def test_without_a_record_nothing_is_known(tmp_path: Path) -> None:
    assert deletions_of(tmp_path / "none.jsonl", "things", "own").of("own", "a") is None
