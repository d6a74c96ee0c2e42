"""Pages that are made from the code: written, or with `--check` compared with what they would be."""

import argparse
import sys
from pathlib import Path

__all__ = ["keep_current"]


def keep_current(page: Path, current: str, description: str | None) -> int:
    """The exit code of the script that makes `page`: 1 when it was only to be checked, and is not current."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when the page is not current")
    if not parser.parse_args().check:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(current)
        return 0
    same = page.exists() and page.read_text() == current
    print(f"{page.name} is {'current' if same else f'not current: run scripts/{Path(sys.argv[0]).name}'}")
    return 0 if same else 1
