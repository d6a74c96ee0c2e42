"""`prism catalog …`: a copy of the catalog in a file, and a catalog put back from a file or from the stores alone.

They open the catalog themselves, beside running servers where that makes sense: an export is one moment of a catalog
that is written to meanwhile; a restore needs an empty one.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from .findings import met, walked
from .operations import existing, load_config, with_app
from .output import Failure, Format, OutputOption, failures, show
from .progress import counting
from .serve import ConfigOption, DataDirOption

if TYPE_CHECKING:
    from ..app import App
    from ..config import Config
    from ..meta import Meta
    from ..namespaces import Namespace
    from ..snapshots import SnapshotReport
    from ..walking import WalkReport

__all__ = ["catalog_commands"]

T = TypeVar("T")
catalog_commands = typer.Typer(no_args_is_help=True, help="Copy the catalog, and put a lost one back.")


@catalog_commands.command()
def export(
    file: Annotated[Path, typer.Argument(help="The file to make; it must not exist.")],
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Write the whole catalog, as it is at this moment, to a file; servers may go on."""
    with failures():
        loaded = existing(config, data_dir)
        _must_exist(loaded)
        report = _with_catalog(loaded, lambda meta: _export(meta, file))
        show(report, output, "\n".join([f"{file}: {report.rows} rows", *_held(report)]))


async def _export(meta: "Meta", file: Path) -> "SnapshotReport":
    from ..deployment import identify
    from ..identifiers import utc_now
    from ..snapshots import export

    now = utc_now()
    deployment = await identify(meta, now)
    with counting("export") as moved:
        return await export(meta, file, deployment.id, now, lambda rows: moved(rows, "rows"))


@catalog_commands.command()
def restore(
    file: Annotated[Path, typer.Argument(help="What `prism catalog export` wrote.")],
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Fill an empty catalog from an export; repeat it when it was interrupted. Objects written after the export are in
    the stores still: `prism catalog rebuild --add` serves them again."""
    with failures():
        loaded = load_config(config, data_dir)
        report = _with_catalog(loaded, lambda meta: _restore(meta, file))
        show(
            report,
            output,
            "\n".join([f"restored {report.rows} rows of {report.made_at:%Y-%m-%dT%H:%M:%SZ}", *_held(report)]),
        )


async def _restore(meta: "Meta", file: Path) -> "SnapshotReport":
    from ..snapshots import restore

    with counting("restore") as moved:
        return await restore(meta, file, lambda rows: moved(rows, "rows"))


@catalog_commands.command()
def rebuild(
    namespace: Annotated[str, typer.Option(help="Only this one. Else: all.")] = "",
    add: Annotated[
        bool, typer.Option("--add", help="The catalog has rows already (a restored one): add what is missing.")
    ] = False,
    take_over: Annotated[
        str,
        typer.Option(
            metavar="DEPLOYMENT",
            help="The deployment that the store belonged to, as the refusal names it; it must be gone for good.",
        ),
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would come back; change nothing.")] = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Put a lost catalog back from the stores alone: every object is served again. Lists what was deleted or
    overwritten shortly before and comes back, and what is left without a row. An interrupted run goes on where it
    was."""

    async def work(app: "App") -> dict[str, "WalkReport"]:
        spaces = [app.namespaces.get(namespace)] if namespace else list(app.namespaces)
        if not dry_run:
            for space in spaces:
                await _take_over(app, space, take_over)
        return {space.name: await _rebuild(app, space, add, dry_run) for space in spaces}

    with failures():
        reports = with_app(load_config(config, data_dir), work, claims=False)
        show(reports, output, "\n".join(line for report in reports.values() for line in _rebuilt(report)))


async def _take_over(app: "App", space: "Namespace", of: str) -> None:
    """The store must be this deployment's, or is made so; what lies in one without a marker may be anybody's."""
    from ..deployment import UNOWNED, claim, is_mine, owner_of, take_over
    from ..walking import holds_unknown

    marker, now = space.layout.owner, space.now()
    if await is_mine(space.store, marker, app.deployment, space.name):
        return
    owner = await owner_of(space.store, marker)
    if owner is None and not await holds_unknown(space):
        await claim(space.store, marker, app.deployment, space.name, now)
        return
    if not of:
        named = UNOWNED if owner is None else owner.deployment
        what = (
            "has no owner marker"
            if owner is None
            else f"belongs to deployment {named} since {owner.claimed_at:%Y-%m-%d}"
        )
        raise Failure(f"namespaces.{space.name}: its store {what}; if that is gone for good, say --take-over {named}")
    await take_over(space.store, marker, app.deployment, space.name, of, now)


async def _rebuild(app: "App", space: "Namespace", add: bool, dry_run: bool) -> "WalkReport":
    from ..deletions import deletions_of
    from ..rebuilding import Rebuild, rebuild

    known = await asyncio.to_thread(deletions_of, app.config.audit.path, space.name, space.rules.own_bucket)
    with counting(f"rebuild {space.name}") as moved:
        wanted = Rebuild(add=add, dry_run=dry_run, deletions=known)
        return await rebuild(space, wanted, lambda report: moved(met(report), report.at))


def _must_exist(config: "Config") -> None:
    """Looking makes no new catalog."""
    scheme, _, place = config.meta.url.partition("///")
    if scheme == "sqlite:" and not Path(place).is_file():
        raise Failure(f"there is no catalog {place}")


def _with_catalog(config: "Config", work: Callable[["Meta"], Awaitable[T]]) -> T:
    """Open the catalog alone, work, close."""
    from .. import logs
    from ..failpoints import arm_from
    from ..identifiers import utc_now
    from ..meta import open_meta

    async def run() -> T:
        meta = await open_meta(config.meta.url)
        try:
            return await work(meta)
        finally:
            await meta.close()

    arm_from(os.environ)
    logs.configure(config.log.level, utc_now)
    return asyncio.run(run())


def _held(report: "SnapshotReport") -> Iterator[str]:
    for name, kinds in report.namespaces.items():
        yield f"  {name}: {', '.join(f'{count} {kind}' for kind, count in kinds.items())}"


def _rebuilt(report: "WalkReport") -> Iterator[str]:
    yield from walked(report, "nothing is there")
    if report.kinds["foreign"].count:
        yield "  foreign keys are no objects of Prism's: prism objectstore import takes them up"
