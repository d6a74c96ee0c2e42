"""What commands say, and how they end: text for people or JSON, one line for an error, exit codes 0, 1 and 2.

Data goes to standard output, everything else to standard error. A reader that went away and Ctrl-C end a command
quietly.
"""

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import typer

__all__ = ["Failure", "Format", "OutputOption", "failures", "show", "show_rows", "sized"]

_INTERRUPTED = 130
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


class Format(StrEnum):
    """How data is printed."""

    TEXT = "text"
    JSON = "json"


OutputOption = Annotated[Format, typer.Option("--output", help="text for people, json for programs.")]


class Failure(Exception):
    """A command that cannot be done; its text is the line that is printed."""


@contextlib.contextmanager
def failures() -> Iterator[None]:
    """Turn what can go wrong into one line on standard error and exit 1."""
    # Both trees of errors are loaded by now by whoever can raise them; the command line need not load them first.
    try:
        yield
    except KeyboardInterrupt:
        _end(_INTERRUPTED)
    except BrokenPipeError:
        _silence()
        _end(0)
    except Failure as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
    except Exception as error:
        said = _said(error)
        if said is None:
            raise
        _fail(said)


def _said(error: Exception) -> str | None:
    """The line for an error of the SDK or of the server's own rooms; None for anything else, which is a fault."""
    for name, text in (("prism_sdk.errors", str), ("prism.errors", lambda own: own.message)):
        kind = getattr(sys.modules.get(name), "PrismError", None)
        if kind is not None and isinstance(error, kind):
            return str(text(error))
    return None


def _fail(line: str) -> None:
    with contextlib.suppress(OSError):
        print(f"prism: {' '.join(line.split())}", file=sys.stderr, flush=True)
    _end(1)


def _end(code: int) -> None:
    raise typer.Exit(code)


def _silence() -> None:
    """Nobody reads any more: what is left in the buffer must not fail at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show(data: Any, output: Format, text: str) -> None:
    """One piece of data: `text`, or `data` as JSON."""
    print(_json(data) if output is Format.JSON else text, flush=True)


def show_rows(rows: Iterator[Any], output: Format, columns: Sequence[str]) -> None:
    """Rows as they come: a line each, tab-separated fields in the order of `columns`; as JSON, one array."""
    if output is Format.JSON:
        _show_array(rows)
        return
    for row in rows:
        print("\t".join(_field(getattr(row, column)) for column in columns))
    sys.stdout.flush()


def _show_array(rows: Iterator[Any]) -> None:
    separator = "["
    for row in rows:
        print(f"{separator}\n{_json(row)}", end="")
        separator = ","
    print("[]" if separator == "[" else "\n]", flush=True)


def _json(data: Any) -> str:
    import msgspec

    return msgspec.json.encode(data).decode()


def _field(value: Any) -> str:
    """A value in a line; a name that would break the line is written as in JSON."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    text = str(value)
    return text if text.isprintable() else _json(text)


def sized(size_bytes: int) -> str:
    """A size for people."""
    value = float(size_bytes)
    for unit in _UNITS[:-1]:
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} {_UNITS[-1]}"
