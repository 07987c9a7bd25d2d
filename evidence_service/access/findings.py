"""Checks and findings in words, the same wherever they are made, so that a replay agrees to the letter."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from evidence_service.access.model import Check
from idp_certs.reasons import Finding


def findings_of(checks: Iterable[Check]) -> tuple[Finding, ...]:
    """A finding for each check that did not pass."""
    return tuple(
        Finding(reason=check.reason, expected=show(check.expected), presented=show(check.presented), where=check.where)
        for check in checks
        if not check.passed
    )


def show(value: object) -> str:
    """A checked value as people read it: instants in UTC, durations in hours, minutes and seconds, lists joined."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, timedelta):
        seconds = int(value.total_seconds())
        sign, seconds = ("-", -seconds) if seconds < 0 else ("", seconds)
        parts = ((seconds // 3600, "h"), (seconds % 3600 // 60, "min"), (seconds % 60, "s"))
        return sign + (" ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s")
    if isinstance(value, tuple):
        if len(value) == 2 and isinstance(value[0], datetime) and isinstance(value[1], timedelta):
            return f"{show(value[0])} ± {show(value[1])}"
        separator = " " if any(isinstance(each, datetime) for each in value) else ", "
        return separator.join(show(each) for each in value)
    return "none" if value is None else str(value)
