"""`prism serve`: settings from file, environment and command line, roles and workers, then `prism.serving`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from .output import failures

__all__ = ["ConfigOption", "DataDirOption", "serve"]

ConfigOption = Annotated[Path | None, typer.Option("--config", help="YAML; without one, the embedded default.")]
DataDirOption = Annotated[Path | None, typer.Option("--data-dir", help="Where everything is kept (./prism-data).")]
_ADDRESS = "host:port; port 0 takes a free one."


def serve(
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    grpc: Annotated[str | None, typer.Option(metavar="ADDR", help=f"gRPC: {_ADDRESS}")] = None,
    http: Annotated[str | None, typer.Option(metavar="ADDR", help=f"HTTP: {_ADDRESS}")] = None,
    s3: Annotated[str | None, typer.Option(metavar="ADDR", help=f"S3: {_ADDRESS}")] = None,
    roles: Annotated[str, typer.Option(help="api, s3, janitor; comma-separated. Else: all of them.")] = "",
    workers: Annotated[int, typer.Option(min=1, max=256, help="Processes that share the ports and the data.")] = 1,
) -> None:
    """Serve until told to stop; one line on standard output says when everything is ready."""
    from ..config import load
    from ..errors import PrismError
    from ..failpoints import arm_from
    from ..serving.roles import parse_roles

    try:
        chosen = parse_roles(roles)
    except PrismError as error:
        raise typer.BadParameter(error.message, param_hint="--roles") from error
    given = {"grpc": grpc, "http": http, "s3": s3}
    overrides = {f"server.{name}.address": address for name, address in given.items() if address is not None}
    with failures():
        arm_from(os.environ)
        loaded = load(config, os.environ, data_dir=data_dir, overrides=overrides)
        if workers == 1:
            from ..serving.process import run

            code = run(loaded, chosen)
        else:
            from ..serving.workers import Origin, run_workers

            file, folder = (None if path is None else str(path) for path in (config, data_dir))
            origin = Origin(config=file, data_dir=folder, overrides=overrides, roles=chosen)
            code = run_workers(loaded, origin, workers)
    raise typer.Exit(code)
