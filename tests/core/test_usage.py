"""Use as evidence: the sentence that says whether the old certificate can go."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from idp_certs.model import CertificateState
from idp_certs.usage import CertificateUsage, usage_advice
from tests.core.given import certificate

NOW = datetime(2026, 5, 20, 9, 30, tzinfo=UTC)
TUESDAY = datetime(2026, 5, 12, 8, 5, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
ANNOUNCED, TRUSTED, RETIRING, RETIRED, REVOKED = CertificateState


def used(sign_ins: int, first: datetime, last: datetime, late: int = 0) -> CertificateUsage:
    """So many sign-ins from the first to the last."""
    return CertificateUsage(
        sign_ins=sign_ins,
        launches=3 * sign_ins,
        late_sign_ins=late,
        first_sign_in=first,
        last_sign_in=last,
        per_day={last.date(): sign_ins},
    )


def advised(
    *of: tuple[str, CertificateState, CertificateUsage | None], since: datetime = TUESDAY, now: datetime = NOW
) -> list[tuple[str, bool]]:
    """What is said of each certificate, and whether it may go."""
    certificates = tuple(certificate(name, state, since=since) for name, state, _ in of)
    usage = {each.sha256: use for each, (_, _, use) in zip(certificates, of, strict=True) if use is not None}
    advice = usage_advice(certificates, usage, now)
    assert [each.sha256 for each in certificates if each.state in (ANNOUNCED, TRUSTED) or each.sha256 in usage] == [
        each.sha256 for each in advice
    ]
    return [(each.text, each.safe_to_retire) for each in advice]


def test_the_new_one_signs_and_the_old_one_is_quiet() -> None:
    """The new certificate signs since Tuesday, the old one has signed nothing for 6 days: it is safe to retire."""
    assert advised(
        ("idp_next", TRUSTED, used(1204, TUESDAY, NOW - MINUTE)),
        ("idp", TRUSTED, used(35_000, TUESDAY - 300 * DAY, NOW - 6 * DAY)),
    ) == [
        ("has signed 1,204 sign-ins since Tue 2026-05-12 08:05 UTC", False),
        ("has signed 35,000 sign-ins since Wed 2025-07-16 08:05 UTC, none for 6 days: safe to retire", True),
    ]


@pytest.mark.parametrize(
    ("quiet", "text", "safe"),
    [
        (DAY - MINUTE, "", False),
        (DAY, ", none for 1 day", False),
        (5 * DAY - MINUTE, ", none for 4 days", False),
        (5 * DAY, ", none for 5 days: safe to retire", True),
        (400 * DAY, ", none for 400 days: safe to retire", True),
    ],
)
def test_how_long_it_must_be_quiet(quiet: timedelta, text: str, safe: bool) -> None:
    """Five days without a sign-in, while another signs, is out of use."""
    first = NOW - 500 * DAY

    new, old = advised(("idp_next", TRUSTED, used(9, TUESDAY, NOW)), ("idp", TRUSTED, used(2, first, NOW - quiet)))

    assert new == ("has signed 9 sign-ins since Tue 2026-05-12 08:05 UTC", False)
    assert old == (f"has signed 2 sign-ins since {first:%a %Y-%m-%d %H:%M} UTC{text}", safe)


def test_an_idp_that_nobody_uses_is_not_one_that_moved_on() -> None:
    """Quiet is no reason to retire where no other certificate has signed since."""
    quiet = used(7, TUESDAY, TUESDAY)

    assert advised(("idp", TRUSTED, quiet), ("idp_next", ANNOUNCED, None)) == [
        ("has signed 7 sign-ins since Tue 2026-05-12 08:05 UTC, none for 8 days", False),
        ("has signed no sign-in yet; announced 8 days ago", False),
    ]
    assert [safe for _, safe in advised(("idp", TRUSTED, quiet), ("idp_next", TRUSTED, quiet))] == [False, False]


@pytest.mark.parametrize("state", [RETIRING, RETIRED, REVOKED])
def test_a_successor_must_be_good(state: CertificateState) -> None:
    """What a withdrawn certificate signs does not make the good one superfluous."""
    advice = advised(("idp", TRUSTED, used(7, TUESDAY, TUESDAY)), ("idp_next", state, used(5, TUESDAY, NOW)))

    assert [safe for _, safe in advice] == [False, False]


@pytest.mark.parametrize("state", [RETIRING, RETIRED, REVOKED])
def test_what_is_withdrawn_needs_no_retiring(state: CertificateState) -> None:
    """Of a withdrawn certificate its late use is told, and of an unused one nothing."""
    new = ("idp_next", TRUSTED, used(5, TUESDAY, NOW))

    assert advised(new, ("idp", state, used(2000, TUESDAY, NOW - 9 * HOUR, late=1003)))[1] == (
        "has signed 2,000 sign-ins since Tue 2026-05-12 08:05 UTC; 1,003 first seen after it was withdrawn",
        False,
    )
    assert len(advised(new, ("idp", state, None))) == 1


@pytest.mark.parametrize(
    ("since", "text"),
    [
        (NOW, "less than a day"),
        (NOW + HOUR, "less than a day"),
        (NOW - DAY, "1 day"),
        (NOW - 20 * DAY, "20 days"),
    ],
)
def test_an_announced_one_waits(since: datetime, text: str) -> None:
    """How long ago it was announced is told until it signs."""
    assert advised(("idp", ANNOUNCED, None), since=since) == [
        (f"has signed no sign-in yet; announced {text} ago", False)
    ]
    assert advised(("idp", TRUSTED, None), since=since) == [("has signed no sign-in yet", False)]


def test_counts_cannot_be_changed() -> None:
    """What was counted is frozen."""
    mine = {date(2026, 5, 12): 3}
    usage = CertificateUsage(sign_ins=3, per_day=mine)
    mine.clear()

    assert usage.per_day == {date(2026, 5, 12): 3}
    with pytest.raises(TypeError):
        usage.per_day[date(2026, 5, 13)] = 1  # type: ignore[index]
