"""A progress bar on standard error where a person watches, and nothing where nobody does."""

import contextlib
import sys
from collections.abc import Callable, Iterator

__all__ = ["counting", "progress"]


@contextlib.contextmanager
def progress(title: str, *, wanted: bool = True) -> Iterator[Callable[[int, int], object] | None]:
    """Gives what to call with bytes done and bytes in all; None when unwanted or standard error is no terminal."""
    if not wanted or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)

        def moved(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield moved


@contextlib.contextmanager
def counting(title: str) -> Iterator[Callable[[int, str], object]]:
    """Gives what to call with how many things are done and which came last; shows it where a person watches."""
    if not sys.stderr.isatty():
        yield lambda done, last: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)

        def moved(done: int, last: str) -> None:
            shown = last[-60:].encode("unicode_escape").decode()
            bar.update(task, description=f"{title}: {done:,} {shown}".replace("[", "\\["))

        yield moved
