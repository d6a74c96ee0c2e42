"""The roles of one binary: which exist, which are known by name but not built yet, and what a list of them means."""

from ..errors import ErrorCode, PrismError

__all__ = ["BUILT", "PLANNED", "Roles", "parse_roles"]

Roles = frozenset[str]
BUILT: Roles = frozenset({"api", "s3", "janitor"})
PLANNED: Roles = frozenset({"frontier", "backend", "ingestion", "control", "ui"})


def parse_roles(text: str) -> Roles:
    """The roles of a comma-separated list; an empty one means all that exist. Errors: INVALID_ARGUMENT for a name that
    is no role, UNIMPLEMENTED for one that is not built yet."""
    asked = frozenset(filter(None, (name.strip() for name in text.split(","))))
    allowed = ", ".join(sorted(BUILT))
    for name in sorted(asked - BUILT):
        if name in PLANNED:
            raise PrismError(ErrorCode.UNIMPLEMENTED, f"role {name} is not built yet; these are: {allowed}")
        raise PrismError(ErrorCode.INVALID_ARGUMENT, f"{name[:40]!r} is no role; allowed: {allowed}")
    return asked or BUILT
