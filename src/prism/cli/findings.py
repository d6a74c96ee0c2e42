"""What walks over a store found, in lines for people."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from .output import sized

if TYPE_CHECKING:
    from ..walking import Findings, WalkReport

__all__ = ["counted", "met", "sampled", "walked"]


def met(report: "WalkReport") -> int:
    """How many keys the walk has seen."""
    return sum(found.count for found in report.kinds.values())


def counted(kinds: Mapping[str, "Findings"]) -> str:
    """How much there is of each kind, in one line; empty when there is nothing."""
    return ", ".join(f"{one.count} {kind} ({sized(one.size_bytes)})" for kind, one in kinds.items() if one.count)


def sampled(kinds: Mapping[str, "Findings"]) -> Iterator[str]:
    """A line per key that is named, and one for those of its kind that are not."""
    for kind, found in kinds.items():
        yield from (f"  {kind}\t{key}" for key in found.samples)
        if found.samples and len(found.samples) < found.count:
            yield f"  {kind}\t… and {found.count - len(found.samples)} more"


def walked(report: "WalkReport", nothing: str) -> Iterator[str]:
    """All of a report; `nothing` is said of an empty one."""
    begin = "would be: " if report.dry_run else ""
    yield f"{report.namespace}: {begin}{counted(report.kinds) or nothing}"
    if report.went_on_after:
        yield f"  went on after\t{report.went_on_after}"
    yield from sampled(report.kinds)
