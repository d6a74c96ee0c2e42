"""The conditional headers of a request, for both APIs on HTTP: what a write or a read asks of the present object.

Tags that are malformed are refused, because a condition that is dropped turns a careful write into a careless one; a
date that is none is ignored, as RFC 9110 says.
"""

from collections.abc import Mapping

from ..model import Conditions, Precondition
from .headers import parse_date, parse_etags, parse_if_range

__all__ = ["conditions_of", "etags_of", "precondition_of"]

_CONDITIONAL = frozenset({b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range"})
_UNCONDITIONAL = Precondition()


def etags_of(headers: Mapping[bytes, bytes], name: str, *, weak: bool, bare: bool = False) -> tuple[str, ...] | None:
    """The tags of a header; None when it is absent. `bare`: a single tag may stand without its quotes, as S3 takes it.
    INVALID_ARGUMENT for what is no list of tags."""
    value = headers.get(name.lower().encode())
    if value is None:
        return None
    text = value.decode("latin-1")
    return parse_etags(name, quoted(text) if bare else text, weak=weak)


def quoted(text: str) -> str:
    """A single tag that came without its quotes, with them."""
    return text if '"' in text or text.strip() == "*" else f'"{text.strip()}"'


def precondition_of(headers: Mapping[bytes, bytes], *, bare: bool = False) -> Precondition:
    """What must hold for a write; `bare` as in `etags_of`."""
    if b"if-match" not in headers and b"if-none-match" not in headers:
        return _UNCONDITIONAL
    return Precondition(
        if_match=etags_of(headers, "If-Match", weak=False, bare=bare),
        if_none_match=etags_of(headers, "If-None-Match", weak=True, bare=bare),
    )


def conditions_of(headers: Mapping[bytes, bytes], *, bare: bool = False) -> Conditions | None:
    """What a read asks; None, at once, for the usual request without any. `bare` as in `etags_of`."""
    if _CONDITIONAL.isdisjoint(headers):
        return None
    since, until, ranged = (
        None if (value := headers.get(name)) is None else value.decode("latin-1")
        for name in (b"if-modified-since", b"if-unmodified-since", b"if-range")
    )
    return Conditions(
        if_match=etags_of(headers, "If-Match", weak=False, bare=bare),
        if_none_match=etags_of(headers, "If-None-Match", weak=True, bare=bare),
        if_modified_since=parse_date(since),
        if_unmodified_since=parse_date(until),
        if_range=parse_if_range(ranged),
    )
