"""When is a metadata source asked again? Each row of the tables is a past and the instant that follows from it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idp_certs.schedule import MAX_INTERVAL, MIN_INTERVAL, Attempts, next_refresh, refresh_interval
from tests.core.given import NOW

SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)

INTERVALS: dict[str, tuple[timedelta, timedelta | None, timedelta | None, timedelta]] = {
    "nothing is said: as usual": (HOUR, None, None, HOUR),
    "long validity: as usual": (HOUR, 14 * DAY, None, HOUR),
    "four attempts fit into a validity": (24 * HOUR, 10 * HOUR, None, 150 * MINUTE),
    "cacheDuration is shorter than usual": (6 * HOUR, None, HOUR, HOUR),
    "cacheDuration is longer than usual": (HOUR, None, 6 * HOUR, HOUR),
    "the shorter of validity and cacheDuration: validity": (24 * HOUR, 4 * HOUR, 2 * HOUR, HOUR),
    "the shorter of validity and cacheDuration: cacheDuration": (24 * HOUR, 40 * HOUR, 2 * HOUR, 2 * HOUR),
    "a cacheDuration of zero does not make us hammer": (HOUR, None, timedelta(0), 5 * MINUTE),
    "a validity that ends in a minute does not": (HOUR, MINUTE, None, 5 * MINUTE),
    "a validity that is over does not": (HOUR, -DAY, None, 5 * MINUTE),
    "never less often than daily": (7 * DAY, 365 * DAY, 30 * DAY, DAY),
}
"""Sentence to usual interval, validity left, cacheDuration and the interval."""


@pytest.mark.parametrize(("usual", "left", "cache", "expected"), INTERVALS.values(), ids=INTERVALS.keys())
def test_interval(usual: timedelta, left: timedelta | None, cache: timedelta | None, expected: timedelta) -> None:
    """Accepted metadata is left alone for as long as it allows, within bounds."""
    until = None if left is None else NOW + left

    assert expected == refresh_interval(usual=usual, valid_until=until, cache_duration=cache, now=NOW)


WAITS: dict[str, tuple[bool, int, timedelta, timedelta]] = {
    "a success is left alone for the interval": (True, 0, HOUR, HOUR),
    "the first failure after a success is retried after a minute": (True, 1, HOUR, MINUTE),
    "the second doubles": (True, 2, HOUR, 2 * MINUTE),
    "the sixth has doubled five times": (True, 6, HOUR, 32 * MINUTE),
    "the seventh is capped by the interval": (True, 7, HOUR, HOUR),
    "so are all that follow": (True, 1_000_000, HOUR, HOUR),
    "a source that never answered is retried after 5 seconds": (False, 1, HOUR, 5 * SECOND),
    "then after 10": (False, 2, HOUR, 10 * SECOND),
    "then up to the interval": (False, 10, HOUR, 2560 * SECOND),
    "and not beyond it": (False, 11, HOUR, HOUR),
    "a short interval caps the first retry": (True, 1, 30 * SECOND, 30 * SECOND),
}
"""Sentence to whether it ever succeeded, the failures since, the interval and the wait."""


@pytest.mark.parametrize(("succeeded", "failures", "interval", "expected"), WAITS.values(), ids=WAITS.keys())
def test_wait(succeeded: bool, failures: int, interval: timedelta, expected: timedelta) -> None:
    """Promise 31: fast at first boot, then backing off up to the interval."""
    attempts = Attempts(attempted=NOW, succeeded=NOW - DAY if succeeded else None, failures=failures, jitter=0.0)

    assert next_refresh(attempts, interval) == NOW + expected


def test_attempts_in_a_day_of_failures() -> None:
    """Promise 31: a source that fails for 24 h is asked as often as the schedule says, and no more."""
    now, instants = NOW, []
    while now < NOW + DAY:
        instants.append(now - NOW)
        now = next_refresh(Attempts(attempted=now, succeeded=None, failures=len(instants), jitter=0.0), HOUR)

    doubling = [5 * SECOND * (2**n - 1) for n in range(11)]
    hourly = [doubling[-1] + HOUR * n for n in range(1, 23)]
    assert instants == doubling + hourly


def test_four_attempts_before_the_end() -> None:
    """A source that fails from the first refresh on is asked at least four times before its metadata ends."""
    for validity in (HOUR, 4 * HOUR, DAY, 14 * DAY, 365 * DAY):
        until, now, asked = NOW + validity, NOW, 0
        interval = refresh_interval(usual=HOUR * 24, valid_until=until, cache_duration=None, now=now)
        while (
            now := next_refresh(Attempts(attempted=now, succeeded=NOW, failures=asked, jitter=0.0), interval)
        ) < until:
            asked += 1
        assert asked >= 4, validity


@pytest.mark.parametrize(("jitter", "expected"), [(0.0, HOUR), (0.5, 57 * MINUTE), (1.0, 54 * MINUTE)])
def test_jitter(jitter: float, expected: timedelta) -> None:
    """Jitter takes off a tenth at most."""
    attempts = Attempts(attempted=NOW, succeeded=NOW, failures=0, jitter=jitter)

    assert next_refresh(attempts, HOUR) == NOW + expected


spans = st.timedeltas(-30 * DAY, 4000 * DAY)


histories = st.builds(
    Attempts,
    attempted=st.just(NOW),
    succeeded=st.none() | spans.map(lambda span: NOW - span),
    failures=st.integers(0, 10**9),
    jitter=st.floats(0, 1),
)


@given(
    usual=st.timedeltas(MINUTE, 30 * DAY),
    left=st.none() | spans,
    cache=st.none() | st.timedeltas(timedelta(0), 4000 * DAY),
    attempts=histories,
)
def test_never_beyond_the_interval_and_never_in_the_past(
    usual: timedelta, left: timedelta | None, cache: timedelta | None, attempts: Attempts
) -> None:
    """Whatever the past, the next attempt is after the last and at most an interval later."""
    until = None if left is None else NOW + left
    interval = refresh_interval(usual=usual, valid_until=until, cache_duration=cache, now=NOW)

    following = next_refresh(attempts, interval)

    assert MIN_INTERVAL <= interval <= MAX_INTERVAL
    assert NOW < following <= NOW + interval


@given(failures=st.integers(1, 40), ever=st.booleans(), jitter=st.floats(0, 1))
def test_more_failures_never_ask_sooner(failures: int, ever: bool, jitter: float) -> None:
    """Backing off only grows."""
    one, more = (
        next_refresh(Attempts(attempted=NOW, succeeded=NOW if ever else None, failures=each, jitter=jitter), DAY)
        for each in (failures, failures + 1)
    )

    assert one <= more
