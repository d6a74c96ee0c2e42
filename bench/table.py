"""Rows of the report and how they are printed."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["Row", "print_table", "write_json"]


@dataclass(frozen=True)
class Row:
    """One measured figure; `baseline` is the bare server's in the same unit, `ratio` says how near Prism came to it."""

    what: str
    figure: float
    unit: str
    baseline: float | None = None
    ratio: float | None = None
    target: str = ""
    met: bool | None = None
    note: str = ""


def print_table(rows: Sequence[Row]) -> None:
    """As text, a line a row."""
    head = ("what", "figure", "bare", "ratio", "target", "met", "note")
    lines = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cells(row: Row) -> tuple[str, ...]:
    bare = "" if row.baseline is None else f"{_short(row.baseline)} {row.unit}"
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    met = {True: "yes", False: "NO", None: ""}[row.met]
    return (row.what, f"{_short(row.figure)} {row.unit}", bare, ratio, row.target, met, row.note)


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


def write_json(rows: Sequence[Row], path: Path) -> None:
    """The same for machines."""
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
