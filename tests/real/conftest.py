"""Tests on real servers: collected by `make test-real` alone, where nothing may be skipped.

To run some of them by hand: `make services`, then `PRISM_TEST_REAL=1 .venv/bin/python -m pytest tests/real/test_….py`.
The servers' addresses are read from what `make services` wrote, unless they stand in the environment.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REAL = os.environ.get("PRISM_TEST_REAL") == "1"
WRITTEN = Path(__file__).parents[2] / ".cache" / "services" / "environment"
SUITES = Path(__file__).parents[2] / "src" / "prism" / "testing"

sys.path.append(str(Path(__file__).parents[1] / "e2e"))  # the program as a subprocess, and what its clients are told

collect_ignore_glob = [] if REAL else ["test_*"]

if REAL and WRITTEN.exists():
    for line in WRITTEN.read_text().splitlines():
        variable, _, setting = line.partition("=")
        os.environ.setdefault(variable, setting)


def refuse(report: pytest.TestReport | pytest.CollectReport) -> None:
    """A skip becomes a failure that names its reason; what is expected to fail is left alone, and so is what a suite of
    `prism.testing` leaves out: what a driver declares that it cannot do, and its test names."""
    if report.skipped and not hasattr(report, "wasxfail") and not _left_out_by_a_suite(report):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"nothing may be skipped on real servers, and {report.nodeid} was: {reason}"


def _left_out_by_a_suite(report: pytest.TestReport | pytest.CollectReport) -> bool:
    return isinstance(report.longrepr, tuple) and Path(report.longrepr[0]).is_relative_to(SUITES)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    report = yield
    refuse(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    report = yield
    refuse(report)
    return report
