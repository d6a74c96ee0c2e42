"""The audit file: whole lines whoever writes, bounded size, and no operation fails because of it."""

import fcntl
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from prism.audit import AuditRecord, FileAudit, line_of
from prism.config import AuditConfig
from prism.errors import ErrorCode, PrismError

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
KIB = 65_536


def record(number: int = 0, **changes: Any) -> AuditRecord:
    fields: dict[str, Any] = {
        "time": NOW,
        "principal": "anonymous",
        "kind": "anonymous",
        "api": "http",
        "action": "object.put",
        "outcome": "OK",
        "request_id": f"r{number}",
    }
    return AuditRecord(**{**fields, **changes})


def read(path: Path) -> list[str]:
    """The request ids of all records, oldest first, rotated files included."""
    files = sorted(path.parent.glob(f"{path.name}.[0-9]*"), key=lambda file: -int(file.suffix[1:]))
    lines = [line for file in (*files, path) if file.exists() for line in file.read_text().splitlines()]
    return [json.loads(line)["request_id"] for line in lines]


class Disk:
    """A disk that takes only so many bytes a write."""

    def __init__(self) -> None:
        self.room: int | None = None

    def write(self, descriptor: int, data: bytes) -> int:
        if self.room == 0:
            raise OSError(28, "No space left on device")
        return os.write(descriptor, data[: self.room])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "audit.jsonl"


@pytest.fixture
def clock() -> list[float]:
    return [0.0]


@pytest.fixture
def opened(path: Path, clock: list[float]) -> Iterator[Callable[..., FileAudit]]:
    """Opens sinks on the path, as several processes would."""
    sinks = []

    def do(registry: CollectorRegistry | None = None, disk: Disk | None = None, **settings: Any) -> FileAudit:
        config = AuditConfig(path=path, **settings)
        sink = FileAudit(config, registry or CollectorRegistry(), lambda: clock[0], (disk or Disk()).write)
        sinks.append(sink)
        return sink

    yield do
    for sink in sinks:
        sink.close()


def test_a_record_is_in_the_file_when_write_returns(opened: Callable[..., FileAudit], path: Path) -> None:
    opened().write(record(key="a/ü\n\u2028", bytes_in=3, detail={"version_id": "v"}))
    assert path.read_text().count("\n") == 1
    assert json.loads(path.read_text()) == {
        "time": "2026-11-24T12:00:00Z",
        "principal": "anonymous",
        "kind": "anonymous",
        "api": "http",
        "action": "object.put",
        "outcome": "OK",
        "request_id": "r0",
        "key": "a/ü\n\u2028",
        "bytes_in": 3,
        "detail": {"version_id": "v"},
    }
    assert path.stat().st_mode & 0o777 == 0o600


def test_records_of_an_earlier_run_stay(opened: Callable[..., FileAudit], path: Path) -> None:
    opened().write(record(1))
    opened().write(record(2))
    assert read(path) == ["r1", "r2"]


def test_the_file_is_renamed_when_large_and_the_oldest_go(opened: Callable[..., FileAudit], path: Path) -> None:
    sink = opened(max_bytes=KIB, keep=3)
    for number in range(3000):
        sink.write(record(number))
    kept = read(path)
    assert kept == [f"r{number}" for number in range(3000 - len(kept), 3000)]
    assert sorted(file.name for file in path.parent.iterdir()) == [
        *("audit.jsonl", "audit.jsonl.1", "audit.jsonl.2", "audit.jsonl.3", "audit.jsonl.lock")
    ]
    assert all(file.stat().st_size < 3 * KIB for file in path.parent.iterdir())


def test_a_sink_follows_when_another_process_renamed_the_file(
    opened: Callable[..., FileAudit], path: Path, clock: list[float]
) -> None:
    sink = opened()
    sink.write(record(1))
    path.rename(path.with_name("audit.jsonl.1"))
    clock[0] = 2.0
    sink.write(record(2))
    path.unlink()
    clock[0] = 4.0
    sink.write(record(3))
    assert read(path) == ["r1", "r3"]


def test_of_two_sinks_one_renames(opened: Callable[..., FileAudit], path: Path, clock: list[float]) -> None:
    one, other = opened(max_bytes=KIB), opened(max_bytes=KIB)
    number = 0
    while path.stat().st_size < KIB:
        one.write(record(number := number + 1))
    for sink in (one, other):
        clock[0] += 2.0
        sink.write(record(number := number + 1))
    assert read(path) == [f"r{n + 1}" for n in range(number)]
    assert not path.with_name("audit.jsonl.2").exists()


def test_nobody_waits_for_a_process_that_is_renaming(
    opened: Callable[..., FileAudit], path: Path, clock: list[float]
) -> None:
    sink = opened(max_bytes=KIB)
    with path.with_name("audit.jsonl.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for number in range(1000):
            sink.write(record(number))
        assert not path.with_name("audit.jsonl.1").exists()
    clock[0] = 2.0
    sink.write(record(1000))
    assert path.with_name("audit.jsonl.1").exists()
    assert read(path) == [f"r{n}" for n in range(1001)]


def _write_many(path: Path, first: int) -> None:
    sink = FileAudit(AuditConfig(path=path, max_bytes=KIB, keep=1000), CollectorRegistry())
    for number in range(first, first + 2000):
        sink.write(record(number, key="k" * (number % 300)))
    sink.close()
    if sink.failing:
        raise SystemExit(1)


def test_several_processes_rotate_one_file_and_lose_nothing(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_write_many, args=(path, first)) for first in (0, 10_000, 20_000)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    ids = read(path)
    assert sorted(ids) == sorted(f"r{first + n}" for first in (0, 10_000, 20_000) for n in range(2000))
    assert len(list(path.parent.iterdir())) > 3


def test_a_full_disk_fails_nobody_is_counted_and_shows(opened: Callable[..., FileAudit], path: Path) -> None:
    registry, disk = CollectorRegistry(), Disk()
    sink = opened(registry, disk)
    sink.write(record(1))
    disk.room = 0
    sink.write(record(2))
    sink.write(record(3))
    assert "No space left" in sink.failing
    assert registry.get_sample_value("prism_audit_failures_total") == 2
    disk.room = None
    sink.write(record(4))
    assert sink.failing == ""
    assert read(path) == ["r1", "r4"]


def test_a_record_cut_short_spoils_no_other(opened: Callable[..., FileAudit], path: Path) -> None:
    registry, disk = CollectorRegistry(), Disk()
    sink = opened(registry, disk)
    sink.write(record(1))
    for room in (40, 0, 1):
        disk.room = room
        sink.write(record(2))
    disk.room = None
    sink.write(record(3))
    sink.write(record(4))
    whole = [line for line in path.read_text().splitlines() if line.endswith("}")]
    assert [json.loads(line)["request_id"] for line in whole] == ["r1", "r3", "r4"]
    assert registry.get_sample_value("prism_audit_failures_total") == 3


def test_a_file_that_cannot_be_opened_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PrismError) as caught:
        FileAudit(AuditConfig(path=tmp_path / "file" / "audit.jsonl"), CollectorRegistry())
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert "audit.path" in caught.value.message


def test_a_path_that_is_no_file_is_never_renamed(clock: list[float]) -> None:
    sink = FileAudit(AuditConfig(path=Path("/dev/null"), max_bytes=KIB), CollectorRegistry(), lambda: clock[0])
    for number in range(1000):
        clock[0] += 1.0
        sink.write(record(number))
    sink.close()
    assert sink.failing == ""
    assert Path("/dev/null").is_char_device()


@given(
    key=st.text(st.characters(), max_size=30) | st.text(min_size=2000, max_size=2100),
    namespace=st.text(st.characters(), max_size=10),
    detail=st.dictionaries(st.text(max_size=5), st.text(st.characters(), max_size=10), max_size=3),
)
def test_any_names_make_one_bounded_line(key: str, namespace: str, detail: dict[str, str]) -> None:
    line = line_of(record(key=key, namespace=namespace, detail=detail))
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert len(line) < 20_000
    assert json.loads(line)["request_id"] == "r0"


def test_text_that_is_no_unicode_is_written_out() -> None:
    line = json.loads(line_of(record(key="a\ud800", detail={"x": "b\udfff"})))
    assert (line["key"], line["detail"]) == ("a\\ud800", {"x": "b\\udfff"})


@given(secret=st.text(st.sampled_from("ABCxyz019+/=_-"), min_size=1, max_size=20))
def test_a_url_or_token_in_a_detail_is_hidden(secret: str) -> None:
    details = {
        "url": f"http://127.0.0.1:8333/b/k?X-Amz-Credential=k&X-Amz-Signature=planted{secret}",
        "header": f"Authorization: Bearer planted{secret}",
        "upload": f"x-prism-upload=planted{secret}",
    }
    for name, value in details.items():
        assert b"planted" not in line_of(record(detail={name: value}))
