"""`prism objectstore import`: objects that lie in a store already become objects of Prism, where they lie.

Unlike the other commands of `prism objectstore` it speaks to no server: it opens the catalog and the store themselves,
as `prism fsck` does, beside servers or without any.
"""

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from .arguments import seconds_of
from .findings import met, walked
from .operations import existing, with_app
from .output import Format, OutputOption, failures, show
from .progress import counting
from .serve import ConfigOption, DataDirOption

if TYPE_CHECKING:
    from ..app import App
    from ..walking import WalkReport

__all__ = ["import_objects"]


def import_objects(
    namespace: Annotated[str, typer.Argument(help="The namespace, for example user-uploads.")],
    prefix: Annotated[str, typer.Option(help="Only keys that begin so.")] = "",
    bucket: Annotated[str, typer.Option(help="Into another bucket than the namespace's own.")] = "",
    expires: Annotated[
        str | None, typer.Option(metavar="DURATION", help="They live so long from now: 12h, 7d … Else: until deleted.")
    ] = None,
    own: Annotated[
        bool, typer.Option("--own", help="Deleting an object deletes its bytes; else only Prism forgets them.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be taken up; change nothing.")] = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Take up what lies in the namespace's store already, where it lies; an interrupted run goes on where it was."""
    lifetime = None if expires is None else timedelta(seconds=seconds_of(expires))
    if lifetime is not None and not lifetime:
        raise typer.BadParameter("a lifetime is longer than nothing", param_hint="--expires")

    async def work(app: "App") -> "WalkReport":
        from ..adoption import Import, adopt

        wanted = Import(prefix=prefix, bucket=bucket, lifetime=lifetime, own=own, dry_run=dry_run)
        with counting(f"import {namespace}") as moved:
            space = app.namespaces.get(namespace)
            return await adopt(space, wanted, lambda report: moved(met(report), report.at))

    with failures():
        report = with_app(existing(config, data_dir), work)
        show(report, output, "\n".join(walked(report, "nothing to take up")))
