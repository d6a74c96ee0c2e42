"""What operators run beside a server, on the same configuration: `prism fsck`, `prism janitor --once`, `prism config
check`.

They open the catalog and the stores themselves, need no running server, and disturb none: leases and transactions keep
them apart.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from .findings import counted, sampled
from .output import Failure, Format, OutputOption, failures, show, show_rows
from .serve import ConfigOption, DataDirOption

if TYPE_CHECKING:
    from ..app import App
    from ..config import Config
    from ..workers.fsck import FsckReport
    from ..workers.janitor import Report

__all__ = ["config_commands", "existing", "fsck", "janitor", "load_config", "with_app"]

T = TypeVar("T")
_UNPROVEN = (
    "unproven bytes have no row, and this catalog does not know that they are garbage: it was restored, or somebody "
    "shares the store. No repair touches them; prism catalog rebuild --add serves them again"
)
config_commands = typer.Typer(no_args_is_help=True, help="Look at the configuration.")


def fsck(
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    namespace: Annotated[str, typer.Option(help="Only this one. Else: all.")] = "",
    repair: Annotated[
        bool, typer.Option("--repair", help="Condemn what nobody names; else nothing is changed.")
    ] = False,
    output: OutputOption = Format.TEXT,
) -> None:
    """Check that every byte in the stores is named by the catalog, and that everything it references is there.

    Exit 1 when something is not as it should be.
    """
    with failures():
        reports = with_app(existing(config, data_dir), lambda app: _check_all(app, namespace, repair))
        show(reports, output, "\n".join(_fsck_lines(reports)))
        if not all(report.clean for report in reports.values()):
            raise typer.Exit(1)


async def _check_all(app: "App", namespace: str, repair: bool) -> dict[str, "FsckReport"]:
    from ..workers.fsck import fsck as check

    spaces = [app.namespaces.get(namespace)] if namespace else list(app.namespaces)
    return {space.name: await check(space, repair=repair) for space in spaces}


def janitor(
    once: Annotated[bool, typer.Option("--once", help="One whole round: until nothing is due any more.")] = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Do what is due in the background: relay, verify, expire, purge, delete. Exit 1 when something of it failed."""
    if not once:
        raise typer.BadParameter("say --once; the loop is a role: prism serve --roles janitor")
    with failures():
        report = with_app(existing(config, data_dir), lambda app: app.janitor.run_once())
        show(report, output, "\n".join(_janitor_lines(report)))
        if report.failed:
            raise typer.Exit(1)


@config_commands.command("check")
def check(config: ConfigOption = None, data_dir: DataDirOption = None, output: OutputOption = Format.TEXT) -> None:
    """Show every setting, its value (secrets hidden) and where it came from; exit 1 when something is not allowed."""
    from ..config import describe

    with failures():
        settings = describe(load_config(config, data_dir))
        show_rows(iter(settings), output, ("at", "value", "source"))


def load_config(config: Path | None, data_dir: Path | None) -> "Config":
    from ..config import load

    return load(config, os.environ, data_dir=data_dir)


def existing(config: Path | None, data_dir: Path | None) -> "Config":
    """The configuration of something that was served before: looking must not make a new one."""
    loaded = load_config(config, data_dir)
    if not loaded.data_dir.is_dir():
        raise Failure(f"there is no data folder {loaded.data_dir}; name one with --data-dir or --config")
    return loaded


def with_app(config: "Config", work: Callable[["App"], Awaitable[T]], *, claims: bool = True) -> T:
    """Open, work, close; `claims` as for `open_app`."""
    from .. import logs
    from ..app import open_app
    from ..failpoints import arm_from
    from ..identifiers import utc_now

    async def run() -> T:
        async with open_app(config, claims=claims) as app:
            return await work(app)

    arm_from(os.environ)
    logs.configure(config.log.level, utc_now)
    return asyncio.run(run())


def _fsck_lines(reports: Mapping[str, "FsckReport"]) -> Iterator[str]:
    """A line per namespace, and one per key that is not in order, as far as the report names them."""
    for name, report in reports.items():
        yield f"{name}: {'clean' if report.clean else 'NOT CLEAN'}; {counted(report.kinds) or 'empty'}"
        yield from sampled(report.kinds)
        if report.kinds["unproven"].count:
            yield f"  {_UNPROVEN}"


def _janitor_lines(report: "Report") -> Iterator[str]:
    """A line per namespace with what was done, and one per failure."""
    import msgspec

    for name, tally in report.namespaces.items():
        counts = {field: value for field, value in msgspec.structs.asdict(tally).items() if isinstance(value, int)}
        said = [f"{field.replace('_', ' ')} {value}" for field, value in counts.items() if value and field != "busy"]
        yield f"{name}: {', '.join(said) or 'nothing was due'}"
        if tally.busy:
            yield "  busy: another process does it"
        if tally.stopped:
            yield f"  stopped: {tally.stopped}"
        yield from (f"  failed: {failure.step}: {failure.message}" for failure in tally.failures)
