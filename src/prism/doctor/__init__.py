"""`prism doctor`: tries on each namespace's real store what Prism relies on, and says what to do where it fails.

It writes a few small probes under staging keys of its own, removes them again, and changes nothing else. What it finds
a server able to do can be recorded (`prism.abilities`), and counts from the next start on. It needs the stores only: it
works where the catalog is down, and beside a running server.
"""

from .diagnosis import Diagnosis, Finding, Outcome
from .examination import examine, examine_store
from .probing import Answer, Probes

__all__ = ["Answer", "Diagnosis", "Finding", "Outcome", "Probes", "examine", "examine_store"]
