"""`prism`, the command: parses, calls, prints. What a command needs is loaded when it runs, so that the shell feels
quick.

Exit codes: 0 done, 1 failed (one line on standard error says why), 2 wrong usage.
"""

from typing import Annotated

import typer

from . import objectstore
from .catalog import catalog_commands
from .doctor import doctor
from .importing import import_objects
from .operations import config_commands, fsck, janitor
from .serve import serve

__all__ = ["command", "main"]

command = typer.Typer(
    name="prism",
    help="Prism, an object data plane: put, get, list, share and expire objects in any store.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
command.add_typer(objectstore.commands, name="objectstore")
objectstore.commands.command("import")(import_objects)
command.add_typer(catalog_commands, name="catalog")
command.add_typer(config_commands, name="config")
command.command()(serve)
command.command()(doctor)
command.command()(fsck)
command.command()(janitor)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"prism {version('prism-server')}")
        raise typer.Exit


@command.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and leave.")
    ] = False,
) -> None:
    """What stands before a command."""


def main() -> None:
    """The entry point of the program."""
    command()
