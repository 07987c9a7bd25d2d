"""xs:dateTime as SAML uses it: UTC, and nothing that another reader could read differently."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_INSTANT = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?(?:Z|[+-]00:00)"
)


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
