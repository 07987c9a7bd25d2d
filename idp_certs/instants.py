"""xs:dateTime and xs:duration as SAML uses them: nothing that another reader could read differently."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_INSTANT = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?(?:Z|[+-]00:00)"
)
_DURATION = re.compile(
    r"P(?=[0-9T])(?:([0-9]+)Y)?(?:([0-9]+)M)?(?:([0-9]+)D)?"
    r"(?:T(?=[0-9])(?:([0-9]+)H)?(?:([0-9]+)M)?(?:([0-9]+)(?:\.([0-9]+))?S)?)?"
)
_MAX_DIGITS = 12  # more is beyond timedelta in every unit


def parse_instant(text: str) -> datetime:
    """The instant that `text` names, aware, in UTC; digits below a microsecond are cut off.

    SAML core 1.3.3 wants UTC without a time zone component; `+00:00` is accepted because it is seen in the field and
    means the same. Another offset, 24:00, a leap second, a blank or a year of other than four digits is refused.
    Raises ValueError.
    """
    match = _INSTANT.fullmatch(text)
    if match is None:
        raise ValueError("not a UTC xs:dateTime")
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    fraction = match[7] or ""
    return datetime(year, month, day, hour, minute, second, int(fraction[:6].ljust(6, "0")), UTC)


def parse_duration(text: str) -> timedelta:
    """The length of time that the xs:duration `text` names; digits below a microsecond are cut off.

    A year counts as 365 days and a month as 30, so that the length does not depend on when it begins. A negative
    duration, a blank, and one that is too long for a timedelta are refused. Raises ValueError.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError("not an xs:duration")
    parts = [(match[each] or "0").lstrip("0") for each in range(1, 7)]
    if any(len(part) > _MAX_DIGITS for part in parts):
        raise ValueError("too long a duration")
    years, months, days, hours, minutes, seconds = (int(part or "0") for part in parts)
    microseconds = int((match[7] or "")[:6].ljust(6, "0"))
    try:
        return timedelta(
            days=365 * years + 30 * months + days,
            hours=hours,
            minutes=minutes,
            seconds=seconds,
            microseconds=microseconds,
        )
    except OverflowError:
        raise ValueError("too long a duration") from None
