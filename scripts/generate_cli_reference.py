"""Write docs/reference/cli.md from the commands of prism.cli; with --check, say whether it is current."""

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from pages import keep_current

from prism.cli import command

REFERENCE = Path(__file__).parent.parent / "docs" / "reference" / "cli.md"
HEAD = """# Command line

*Made from the commands in `src/prism/cli/` by `scripts/generate_cli_reference.py`; do not edit.*

Data goes to standard output, everything else to standard error. Exit codes: 0 done; 1 the operation failed, and one
line says why, with the request id where a server answered; 2 wrong usage. Durations are written `90s`, `15m`, `12h`,
`7d`, `2w`. `prism objectstore` speaks to the server that `PRISM_ENDPOINT` names (`localhost:50051`), with
`PRISM_API_KEY` if it is set; the other commands take the configuration as `prism serve` does.
"""


def main() -> int:
    return keep_current(REFERENCE, reference(), __doc__)


def reference() -> str:
    """The whole page."""
    return "\n".join([HEAD, *_sections(typer.main.get_command(command), "prism")]).rstrip() + "\n"


def _sections(node: Any, name: str) -> Iterator[str]:
    inner = getattr(node, "commands", None)
    if inner is not None:
        for word, child in inner.items():
            yield from _sections(child, f"{name} {word}")
        return
    arguments = [parameter for parameter in node.params if parameter.param_type_name == "argument"]
    options = [parameter for parameter in node.params if parameter.param_type_name == "option"]
    usage = [name, *(_argument(one) for one in arguments), *(["[OPTIONS]"] if options else [])]
    yield f"## `{' '.join(usage)}`\n\n{inspect.cleandoc(node.help or '')}\n"
    rows = [(_argument(one).strip("[]"), one.help) for one in arguments if one.help]
    rows += [(_option(one), one.help) for one in options]
    if rows:
        yield "| | |\n|---|---|"
        yield from (f"| `{what}` | {(told or '').replace('|', chr(92) + '|')} |" for what, told in rows)
        yield ""


def _argument(parameter: Any) -> str:
    name = parameter.name.upper()
    return name if parameter.required else f"[{name}]"


def _option(parameter: Any) -> str:
    names = ", ".join(parameter.opts)
    if parameter.is_flag:
        return names
    return f"{names} {parameter.metavar or _kind(parameter)}"


def _kind(parameter: Any) -> str:
    """The value's kind, as the help shows it."""
    return str(parameter.bare_type()).strip("<>").upper().replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
