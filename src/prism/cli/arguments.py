"""What is written on the command line, parsed: durations as `7d`, metadata as `name=value`."""

import re

import typer

__all__ = ["metadata_of", "seconds_of"]

_DURATION = re.compile(r"(\d{1,9})(s|m|h|d|w)?\Z")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def seconds_of(text: str) -> int:
    """`90`, `90s`, `15m`, `12h`, `7d` or `2w` in seconds."""
    found = _DURATION.match(text.strip().lower())
    if found is None:
        raise typer.BadParameter(f"{text!r} is no duration; write 90s, 15m, 12h, 7d or 2w")
    return int(found[1]) * _SECONDS[found[2] or ""]


def metadata_of(pairs: list[str] | None) -> dict[str, str]:
    """`name=value` pairs; a name stands once."""
    found: dict[str, str] = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{pair!r} is no metadata; write name=value")
        if name in found:
            raise typer.BadParameter(f"metadata {name!r} is given twice")
        found[name] = value
    return found
