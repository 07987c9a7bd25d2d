"""xs:dateTime and xs:duration: what is an instant or a length of time, and which."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from idp_certs.instants import parse_duration, parse_instant


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-01T12:00:00Z", datetime(2026, 1, 1, 12, tzinfo=UTC)),
        ("2026-01-01T12:00:00+00:00", datetime(2026, 1, 1, 12, tzinfo=UTC)),
        ("2026-01-01T12:00:00-00:00", datetime(2026, 1, 1, 12, tzinfo=UTC)),
        ("2026-01-01T12:00:00.5Z", datetime(2026, 1, 1, 12, 0, 0, 500_000, UTC)),
        ("2026-01-01T12:00:00.1234567Z", datetime(2026, 1, 1, 12, 0, 0, 123_456, UTC)),
        ("2026-01-01T12:00:00.9999999Z", datetime(2026, 1, 1, 12, 0, 0, 999_999, UTC)),
        ("2026-01-01T12:00:00." + "0" * 1000 + "1Z", datetime(2026, 1, 1, 12, tzinfo=UTC)),
        ("2024-02-29T23:59:59Z", datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59.9999999Z", datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC)),
    ],
)
def test_instants(text: str, expected: datetime) -> None:
    """UTC with any number of digits is read, and digits below a microsecond are cut off, never rounded up."""
    assert parse_instant(text) == expected
    assert parse_instant(text).tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "2026-01-01",
        "2026-01-01T12:00:00",
        "2026-01-01 12:00:00Z",
        "2026-01-01t12:00:00z",
        " 2026-01-01T12:00:00Z",
        "2026-01-01T12:00:00Z ",
        "2026-01-01T12:00:00Z\n",
        "2026-01-01T12:00Z",
        "2026-01-01T12:00:00.Z",
        "2026-01-01T12:00:00,5Z",
        "2026-01-01T12:00:00+01:00",
        "2026-01-01T12:00:00+0000",
        "2026-01-01T12:00:00+00",
        "2026-01-01T24:00:00Z",
        "2026-01-01T12:60:00Z",
        "2026-01-01T12:00:60Z",
        "2026-02-29T12:00:00Z",
        "2026-13-01T12:00:00Z",
        "2026-00-01T12:00:00Z",
        "0000-01-01T12:00:00Z",
        "-0001-01-01T12:00:00Z",
        "12026-01-01T12:00:00Z",
        "2026-W01-1T12:00:00Z",
        "20260101T120000Z",
        "２０２６-01-01T12:00:00Z",
        "2026-01-01T12:00:0٠Z",
    ],
)
def test_what_is_no_instant(text: str) -> None:
    """Everything that two readers could read differently is refused."""
    with pytest.raises(ValueError, match=r"."):
        parse_instant(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("PT0S", timedelta(0)),
        ("P1D", timedelta(days=1)),
        ("PT6H", timedelta(hours=6)),
        ("PT1440M", timedelta(days=1)),
        ("P0Y0M0DT6H0M0.000S", timedelta(hours=6)),
        ("P1Y2M3DT4H5M6.7S", timedelta(days=365 + 60 + 3, hours=4, minutes=5, seconds=6.7)),
        ("P1M", timedelta(days=30)),
        ("PT1M", timedelta(minutes=1)),
        ("PT0.1234567S", timedelta(microseconds=123_456)),
        ("PT604800S", timedelta(days=7)),
        ("P999999999D", timedelta(days=999_999_999)),
        ("PT" + "0" * 5000 + "1S", timedelta(seconds=1)),
    ],
)
def test_durations(text: str, expected: timedelta) -> None:
    """A year is 365 days and a month 30; digits below a microsecond are cut off."""
    assert parse_duration(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "P",
        "PT",
        "P1DT",
        "-P1D",
        "+P1D",
        "P-1D",
        " P1D",
        "P1D ",
        "P1D\n",
        "p1d",
        "P1H",
        "PT1D",
        "P1M1Y",
        "PT1S1M",
        "P1.5D",
        "PT1.S",
        "PT.5S",
        "PT1,5S",
        "P1W",
        "1D",
        "3600",
        "P١D",
        "P1000000000D",
        "P9999999Y",
        "PT" + "9" * 5000 + "S",
        "P999999999DT24H",
    ],
)
def test_what_is_no_duration(text: str) -> None:
    """What is negative, longer than can be told, or not as XML Schema writes it is refused."""
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)
