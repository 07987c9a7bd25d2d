"""A pytest plug-in: where CI=true a skipped test is a failed test, unless it is marked `platform`.

A skip hides what was not proven. On a developer's machine it is shown with its reason (`-ra`); the run that
speaks for the project must not have one.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest


def _under_ci() -> bool:
    return os.environ.get("CI", "").lower() == "true"


def _failed(report: pytest.TestReport | pytest.CollectReport) -> None:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    report.outcome = "failed"
    report.longrepr = f"skipped under CI: {reason.removeprefix('Skipped: ')}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn the skip of a test into a failure; an expected failure (xfail) is no skip."""
    report = yield
    expected_failure = hasattr(report, "wasxfail")
    if report.skipped and not expected_failure and _under_ci() and item.get_closest_marker("platform") is None:
        _failed(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn the skip of a whole file into a failure; nothing inside it was seen, so no marker can excuse it."""
    report = yield
    if report.skipped and _under_ci():
        _failed(report)
    return report
