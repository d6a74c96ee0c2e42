"""`python -m bench`: everything, or `--only large,small,list,folder,memory,workers,remote`; `--quick` takes a minute.

`remote` needs MinIO, which `make services` builds.
"""

import argparse
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from . import large, many, memory, remote, small, workers
from .servers import LOAD_CPU
from .table import Row, print_table, write_json


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few operations: shows that it runs, not how fast it is")
    parser.add_argument(
        "--only", default="", help="comma-separated: large, small, list, folder, memory, workers, remote"
    )
    parser.add_argument("--dir", type=Path, help="a folder on the disk to measure; a temporary one unless given")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    asked = parser.parse_args()
    parts = _parts(asked.quick)
    chosen = [name for name in asked.only.split(",") if name] or list(parts)
    if "PRISM_TEST_MINIO_BIN" not in os.environ and "remote" in chosen:
        if asked.only:
            parser.error("remote needs MinIO: run `make services` once")
        chosen.remove("remote")
    if unknown := [name for name in chosen if name not in parts]:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(parts)}")
    os.sched_setaffinity(0, {LOAD_CPU})
    rows: list[Row] = []
    for name in chosen:
        folder = Path(tempfile.mkdtemp(prefix="prism-bench-", dir=asked.dir))
        try:
            rows.extend(parts[name](folder))
        finally:
            shutil.rmtree(folder)
    print_table(rows)
    if asked.json:
        write_json(rows, asked.json)


def _parts(quick: bool) -> dict[str, Callable[[Path], Iterator[Row]]]:
    rounds, count = (1, 200) if quick else (5, 3000)
    sizes = (1_000, 2_000, 3_000) if quick else (10_000, 200_000, 1_000_000)
    return {
        "large": lambda folder: large.measure(folder, rounds),
        "small": lambda folder: small.measure(folder, count, min(rounds, 3)),
        "list": lambda folder: many.listing(folder, sizes),
        "folder": lambda folder: many.folder_delete(folder, 2_000 if quick else 100_000),
        "memory": lambda folder: memory.measure(folder, (16 << 20) if quick else (1 << 30)),
        "workers": lambda folder: workers.measure(folder, count),
        "remote": lambda folder: remote.measure(folder, _remote_sizes(quick)),
    }


def _remote_sizes(quick: bool) -> remote.Sizes:
    if quick:
        return remote.Sizes(rounds=1, count=200, listed=2_000, pending=200, huge_bytes=256 << 20)
    return remote.Sizes(rounds=5, count=3000, listed=100_000, pending=10_000, huge_bytes=5 << 30)


if __name__ == "__main__":
    main()
