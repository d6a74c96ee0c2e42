"""How long objects live: the precedence of lifetimes, judged once, when a write is promised.

Request, then namespace, then pattern, then system. A lifetime without end needs two consents: the request (or the
namespace's own default) asks for it and the namespace allows it. Nothing here deletes; the janitor does.
"""

from datetime import timedelta

from .config import NamespaceConfig
from .errors import ErrorCode, PrismError

__all__ = ["PATTERN_TTL", "SYSTEM_TTL", "lifetime_seconds", "parse_duration"]

PATTERN_TTL = {"objectstore": timedelta(days=90)}
SYSTEM_TTL = timedelta(days=30)
_LONGEST = timedelta(days=36525)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def lifetime_seconds(namespace: NamespaceConfig, ttl: timedelta | None, no_expiration: bool) -> int | None:
    """The lifetime of a new object in whole seconds, None for no expiry (seed ADR-032 with ADR-031's precedence)."""
    if no_expiration:
        if ttl is not None:
            raise PrismError(ErrorCode.INVALID_ARGUMENT, "ask for a ttl or for no_expiration, not for both")
        if not namespace.allow_infinite_ttl:
            raise PrismError(
                ErrorCode.INVALID_ARGUMENT,
                f"namespace {namespace.name!r} does not allow objects without expiry (allow_infinite_ttl)",
            )
        return None
    if ttl is not None:
        if not timedelta(seconds=1) <= ttl <= _LONGEST:
            raise PrismError(ErrorCode.INVALID_ARGUMENT, "a ttl is 1 second to 100 years")
        return -(-ttl // timedelta(seconds=1))
    if namespace.no_expiration_default:
        return None
    if namespace.default_ttl_seconds is not None:
        return namespace.default_ttl_seconds
    return int(PATTERN_TTL.get(namespace.pattern, SYSTEM_TTL).total_seconds())


def parse_duration(text: str) -> timedelta:
    """`90s`, `15m`, `12h`, `7d`, `2w`, or plain seconds; INVALID_ARGUMENT for anything else."""
    digits, unit = (text[:-1], text[-1:]) if text[-1:] in _UNITS else (text, "s")
    if not digits.isascii() or not digits.isdigit() or len(digits) > 12:
        raise PrismError(ErrorCode.INVALID_ARGUMENT, f"{text[:40]!r} is not a duration: write 90s, 15m, 12h, 7d or 2w")
    seconds = int(digits) * _UNITS[unit]
    if seconds > _LONGEST.total_seconds():
        raise PrismError(ErrorCode.INVALID_ARGUMENT, f"{text[:40]!r} is longer than 100 years")
    return timedelta(seconds=seconds)
