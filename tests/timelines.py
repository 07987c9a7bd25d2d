"""A pytest plug-in: what tests tell as a timeline (`record_property("timeline", text)`) is shown after all tests.

It is here and not beside those tests because with several workers only the plug-ins of all tests are known to the
process that writes the summary.
"""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the timelines of all tests, passed and failed."""
    told = {
        report.nodeid: str(value)
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport)
        for name, value in report.user_properties
        if name == "timeline"
    }
    if told:
        terminalreporter.section("timelines")
    for nodeid, text in sorted(told.items()):
        terminalreporter.line(nodeid, bold=True)
        for line in text.splitlines():
            terminalreporter.line(f"  {line}")
