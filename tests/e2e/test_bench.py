"""The measurements run and say what they measured; how fast it is, is not a test's business."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("parts", "units"),
    [
        ("small,folder", {"/s", "ms"}),
        pytest.param("list,memory,workers", {"/s", "ms", "s", "MB"}, marks=pytest.mark.deep),
    ],
)
def test_a_quick_run_measures_every_row(tmp_path: Path, parts: str, units: set[str]) -> None:
    report = tmp_path / "rows.json"
    command = [sys.executable, "-m", "bench", "--quick", "--only", parts, "--json", str(report)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    rows = json.loads(report.read_text())
    assert {row["unit"] for row in rows} == units
    assert all(row["figure"] > 0 for row in rows)
    assert all(row["what"] in done.stdout for row in rows)
