"""The effective configuration as a table: every setting, its value without secrets, and where it came from."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from .settings import Secret, Settings, shown
from .types import Config

__all__ = ["Setting", "describe"]


class Setting(msgspec.Struct, frozen=True):
    """One line of the table. `source` is `default`, `embedded`, a file, a variable or the command line."""

    at: str
    value: str
    source: str


def describe(config: Config) -> tuple[Setting, ...]:
    """All settings in the order of the reference; secrets are shown as `(hidden)`."""
    return tuple(Setting(at, value, config.sources.get(at, "default")) for at, value in _lines(config, ""))


def _lines(section: Settings, at: str) -> Iterator[tuple[str, str]]:
    for name in section.__struct_fields__:
        value = getattr(section, name)
        inner = f"{at}{name}"
        if name == "namespaces":
            for space in value:
                yield from _lines(space, f"namespaces.{space.name}.")
        elif name == "store":
            yield from ((line, text) for line, text in _lines(value, at) if line != f"{at}bucket")
        elif name in section.derived:
            continue
        elif isinstance(value, Settings):
            yield from _lines(value, f"{inner}.")
        else:
            yield inner, _text(value)


def _text(value: Any) -> str:
    if isinstance(value, Secret):
        return "(hidden)"
    if isinstance(value, tuple):
        return ", ".join(map(_text, value)) if value else "(none)"
    return shown(str(value)).strip("'\"") if isinstance(value, str | Path) else shown(value)
