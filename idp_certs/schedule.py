"""When is a metadata source asked again?

Four attempts fit into every validity, so that one that fails is not the end (SPIRE's refresh hint). Failures back off
and the whole schedule is stored, so that neither a restart nor a fleet of replicas asks sooner (promises 31, 32).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

ATTEMPTS_PER_VALIDITY = 4
MIN_INTERVAL = timedelta(minutes=5)
MAX_INTERVAL = timedelta(hours=24)
FIRST_RETRY = timedelta(seconds=5)
RETRY = timedelta(minutes=1)
JITTER = 0.1
"""How much of an interval the jitter takes off at most."""
_MAX_DOUBLINGS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempts:
    """The past of a source. Times are UTC.

    `failures` counts those since the last success. `jitter` (0 to 1) was drawn once for this source and is stored.
    """

    attempted: datetime
    succeeded: datetime | None
    failures: int
    jitter: float


def refresh_interval(
    *, usual: timedelta, valid_until: datetime | None, cache_duration: timedelta | None, now: datetime
) -> timedelta:
    """How long accepted metadata is left alone: `usual`, or less where the document says that it ages sooner."""
    interval = usual
    if cache_duration is not None:
        interval = min(interval, cache_duration)
    if valid_until is not None:
        interval = min(interval, (valid_until - now) / ATTEMPTS_PER_VALIDITY)
    return min(max(interval, MIN_INTERVAL), MAX_INTERVAL)


def next_refresh(attempts: Attempts, interval: timedelta) -> datetime:
    """The next attempt (UTC) for a source whose metadata is left alone for `interval`.

    After a success that is the interval less the jitter. After failures it doubles from one minute (five seconds for a
    source that never answered) up to the interval, and never beyond it.
    """
    if attempts.failures == 0:
        wait = interval
    else:
        first = FIRST_RETRY if attempts.succeeded is None else RETRY
        wait = min(first * 2 ** min(attempts.failures - 1, _MAX_DOUBLINGS), interval)
    return attempts.attempted + wait * (1 - JITTER * attempts.jitter)
