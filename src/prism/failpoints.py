"""Named steps at which a test may stop the process or make a step fail; a no-op unless armed.

`failpoint("objects.put.before_commit")` costs one dictionary look-up of an empty dictionary. Points are armed by the
environment when the process starts, and only when `PRISM_FAILPOINTS` is set: `name=exit@2,name2=raise@1` exits the
process without any clean-up (as kill -9 would) at the second hit, or raises `FailpointError` at the first.
"""

import os
from collections.abc import Mapping

__all__ = ["FailpointError", "arm", "arm_from", "failpoint"]

_armed: dict[str, tuple[str, int]] = {}
_hits: dict[str, int] = {}


class FailpointError(Exception):
    """A failpoint armed with `raise` was hit."""


def failpoint(name: str) -> None:
    """Mark a step by name; does nothing unless a test armed it."""
    if _armed:
        _hit(name)


def _hit(name: str) -> None:
    action, due = _armed.get(name, ("", 0))
    if not action:
        return
    _hits[name] = _hits.get(name, 0) + 1
    if _hits[name] != due:
        return
    if action == "exit":
        os._exit(137)
    raise FailpointError(name)


def arm(specification: str) -> None:
    """Replace what is armed: comma-separated `name=exit@N` or `name=raise@N`; an empty string disarms everything."""
    _armed.clear()
    _hits.clear()
    for item in filter(None, (part.strip() for part in specification.split(","))):
        name, _, rest = item.partition("=")
        action, _, due = rest.partition("@")
        if action not in {"exit", "raise"} or not (due or "1").isdigit():
            raise ValueError(f"failpoint {item!r}: expected name=exit@N or name=raise@N")
        _armed[name] = (action, int(due or "1"))


def arm_from(environment: Mapping[str, str]) -> None:
    """Arm what `PRISM_FAILPOINTS` names; called once by the program's entry point."""
    arm(environment.get("PRISM_FAILPOINTS", ""))
