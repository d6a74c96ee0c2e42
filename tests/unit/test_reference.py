"""The reference pages say what the program does."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "generate_reference.py"


def test_the_configuration_reference_is_current() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_setting_says_what_it_means() -> None:
    rows = [line for line in (ROOT / "docs/reference/configuration.md").read_text().splitlines() if line[:3] == "| `"]
    assert len(rows) > 80
    assert not [row for row in rows if row.endswith("|  |")]
