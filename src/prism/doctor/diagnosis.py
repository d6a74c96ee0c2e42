"""What the doctor says: a finding per thing tried, and what the store is able to do."""

from enum import StrEnum

import msgspec

from ..blob.found import Abilities

__all__ = ["Diagnosis", "Finding", "Outcome"]


class Outcome(StrEnum):
    """Of one check. Only `failed` makes the command fail."""

    OK = "ok"
    NOTE = "note"
    """It works, but an operator should know."""
    LACKS = "lacks"
    """The store cannot do this; Prism does it another way, or refuses what needs it."""
    FAILED = "failed"
    SKIPPED = "skipped"
    """Not tried, because something before it failed."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One check: what was seen, and what to do where something is to be done."""

    check: str
    outcome: Outcome
    said: str
    advice: str = ""


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """One namespace's store. `abilities` is None when too much failed to say."""

    namespace: str
    store: str
    findings: tuple[Finding, ...]
    abilities: Abilities | None = None

    @property
    def healthy(self) -> bool:
        """Whether nothing failed."""
        return all(finding.outcome is not Outcome.FAILED for finding in self.findings)
