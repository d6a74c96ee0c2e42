"""Every step of the code at which a process may die, read from the code, so that a new one is covered as soon as it is
there; and which script reaches it."""

import re
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "prism"
OPERATOR = ("import.", "rebuild.", "export.", "restore.", "deployment.")
"""What the steps of operators' commands begin with."""
_POINT = re.compile(r'^\s+failpoint\("([a-z0-9_.]+)"\)', re.MULTILINE)


def every_point():
    """Each name, and the file that it stands in."""
    return {name: path for path in sorted(SOURCE.rglob("*.py")) for name in _POINT.findall(path.read_text())}
