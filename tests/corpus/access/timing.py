"""Times: formats, windows, ages and the exact limits of the clock skew (180 s in the base policy)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.corpus import names as n
from tests.corpus.access.claims import CONDITIONS, DATA, STATEMENT
from tests.corpus.build import case, given
from tests.corpus.good import Launch, instant
from tests.corpus.model import BugType
from tests.corpus.sign import element

CLAIM = BugType.CLAIM_BYPASS

HOUR = 3600
MAX_AGE = 8 * HOUR
SKEW = 180

BAD_TIMES = {
    "empty": given("", label="E32b"),
    "date_only": given("2026-01-01", label="E32c"),
    "lower_case": given("2026-01-01t12:00:00z", label="E32d"),
    "leap_second": given("2026-01-01T12:00:60Z", label="E32e"),
    "no_zone": given("2026-01-01T12:00:00", label="E32f"),
    "offset_14": given("2026-01-01T12:00:00+14:00", label="E32g"),
    "five_digit_year": given("12026-01-01T12:00:00Z", label="E32h"),
    "week_date": given("2026-W01-4T12:00:00Z", label="E32i"),
    "hour_24": given("2026-01-01T24:00:00Z", label="E32j"),
    "leading_space": given(" 2026-01-01T12:00:00Z", label="E32k"),
    "trailing_space": given("2026-01-01T12:00:00Z ", label="E32l"),
    "newline": given("2026-01-01T12:00:00Z\n", label="E32m"),
    "basic_format": given("20260101T120000Z", label="E32n"),
    "blank_for_t": given("2026-01-01 12:00:00Z", label="E32o"),
    "no_seconds": given("2026-01-01T12:00Z", label="E32p"),
    "comma_fraction": given("2026-01-01T12:00:00,5Z", label="E32q"),
    "empty_fraction": given("2026-01-01T12:00:00.Z", label="E32r"),
    "full_width_digits": given("\uff12\uff10\uff12\uff16-01-01T12:00:00Z", label="E32s"),
    "arabic_digits": given("2026-01-01T12:00:\u0660\u0660Z", label="E32t"),
    "negative_year": given("-2026-01-01T12:00:00Z", label="E32u"),
    "february_30": given("2026-02-30T12:00:00Z", label="E32v"),
    "month_13": given("2026-13-01T12:00:00Z", label="E32w"),
    "one_digit": given("2026-1-1T12:00:00Z", label="E32x"),
    "epoch": given("1767268800", label="E32y"),
    "zone_name": given("2026-01-01T12:00:00 UTC", label="E32z"),
    "offset_1": given("2026-01-01T13:00:00+01:00", label="E32g"),
    "offset_without_colon": given("2026-01-01T12:00:00+0000", label="E32g"),
    "offset_and_z": given("2026-01-01T12:00:00Z+00:00", label="E32g"),
    "rfc_2822": given("Thu, 01 Jan 2026 12:00:00 GMT", label="E32z"),
    "ordinal": given("2026-001T12:00:00Z", label="E32i"),
    "year_zero": given("0000-01-01T12:00:00Z", label="E32h"),
    "hour_25": given("2026-01-01T25:00:00Z", label="E32j"),
    "plus_sign": given("+2026-01-01T12:00:00Z", label="E32u"),
    "words": given("now", label="E32z"),
}


@case("E32", deny="time_format", bug=CLAIM, each=BAD_TIMES)
def e32_issue_instant(text: str) -> Launch:
    """The assertion's IssueInstant is not a UTC xs:dateTime:"""
    return Launch(issued=text).sign()


@case("E32a", deny="time_format", bug=CLAIM)
def e32a_no_issue_instant() -> Launch:
    """The assertion has no IssueInstant."""
    return Launch().set("saml:Assertion", IssueInstant=None).sign()


FEW_BAD_TIMES = {
    name: given(entry.argument)
    for name, entry in BAD_TIMES.items()
    if name in ("date_only", "no_zone", "offset_14", "leap_second", "leading_space", "words", "full_width_digits")
}


@case("E32", deny="time_format", bug=CLAIM, each=FEW_BAD_TIMES)
def e32_conditions_end(text: str) -> Launch:
    """Conditions/@NotOnOrAfter is not a UTC xs:dateTime:"""
    return Launch(not_on_or_after=text).sign()


@case("E32", deny="time_format", bug=CLAIM, each=FEW_BAD_TIMES)
def e32_conditions_start(text: str) -> Launch:
    """Conditions/@NotBefore is not a UTC xs:dateTime:"""
    return Launch(not_before=text).sign()


@case("E32", deny="time_format", bug=CLAIM, each=FEW_BAD_TIMES)
def e32_confirmation_end(text: str) -> Launch:
    """SubjectConfirmationData/@NotOnOrAfter is not a UTC xs:dateTime:"""
    return Launch(confirmed_until=text).sign()


@case("E32", deny="time_format", bug=CLAIM, each=FEW_BAD_TIMES)
def e32_authn_instant(text: str) -> Launch:
    """AuthnInstant is not a UTC xs:dateTime:"""
    return Launch(authenticated=text).sign()


@case("E32", deny="time_format", bug=CLAIM, each=FEW_BAD_TIMES)
def e32_session_end(text: str) -> Launch:
    """SessionNotOnOrAfter is not a UTC xs:dateTime:"""
    return Launch(session_ends=text).sign()


@case(
    "E15",
    deny="conditions_window",
    bug=CLAIM,
    each={
        "swapped": given({"not_before": instant(3600), "not_on_or_after": instant(-300)}, label="E15"),
        "swapped_around_now": given({"not_before": instant(60), "not_on_or_after": instant(30)}, label="E15"),
        "empty": given({"not_before": instant(), "not_on_or_after": instant()}, label="E15"),
        "ended_before_issue": given({"not_before": instant(-7200), "not_on_or_after": instant(-1800)}, label="E16"),
        "ends_at_issue": given({"not_on_or_after": instant()}, label="E16"),
        "ended_one_second_before": given({"not_on_or_after": instant(-1)}, label="E16"),
    },
)
def e15_window_without_the_issue_instant(changes: Mapping[str, Any]) -> Launch:
    """The window of Conditions does not hold the assertion's own IssueInstant:"""
    return Launch(**changes).sign()


@case("E16", deny="conditions_window", bug=CLAIM, at=instant(5400))
def e16_window_begins_an_hour_after_issue() -> Launch:
    """The window begins an hour after issue and holds the launch, but not the issue."""
    return Launch(not_before=instant(3600), not_on_or_after=instant(7200)).sign()


@case("E16", allow=True, each={"one_second": 1, "fraction": 0.001})
def e16_window_just_long_enough(seconds: float) -> Launch:
    """The window ends this long after issue, so the assertion was valid when it was issued."""
    return Launch(not_on_or_after=instant(seconds)).sign()


@case("E16", allow=True)
def e16_window_begins_at_issue() -> Launch:
    """NotBefore is the IssueInstant."""
    return Launch(not_before=instant()).sign()


@case("E16", deny="subject_confirmation", bug=CLAIM, each={"at_issue": 0, "before": -1, "long_before": -7200})
def e16_confirmation_ended_before_issue(seconds: int) -> Launch:
    """The bearer confirmation had ended when the assertion was issued:"""
    return Launch(confirmed_until=instant(seconds)).sign()


@case("E16", allow=True)
def e16_confirmation_just_long_enough() -> Launch:
    """The bearer confirmation ends one second after issue."""
    return Launch(confirmed_until=instant(1)).sign()


@case(
    "E24",
    bug=CLAIM,
    each={
        "long_past": given(-HOUR, deny="session_expired"),
        "past_by_skew_and_one": given(30 - SKEW - 1, deny="session_expired"),
        "past_by_skew": given(30 - SKEW, deny="session_expired"),
        "past_by_less_than_skew": given(30 - SKEW + 1, allow=True),
        "ahead": given(HOUR, allow=True),
    },
)
def e24_session_end(seconds: int) -> Launch:
    """SessionNotOnOrAfter, relative to a launch 30 s after issue, is"""
    return Launch(session_ends=instant(seconds)).sign()


@case("E24", allow=True, policy={"enforce_session_expiry": False})
def e24_session_end_not_enforced() -> Launch:
    """The IdP's session has ended and the policy does not mind."""
    return Launch(session_ends=instant(-HOUR)).sign()


@case("E24", deny="session_expired", bug=CLAIM)
def e24_one_of_two_sessions_ended() -> Launch:
    """Two AuthnStatements, of which one's session has ended."""
    launch = Launch()
    other = Launch(session_ends=instant(-HOUR)).find(STATEMENT)
    return launch.add("saml:Assertion", other).sign()


@case(
    "E30",
    bug=CLAIM,
    origin="CVE-2026-41577",
    each={
        "exactly": given(at=instant(MAX_AGE), allow=True),
        "one_second_more": given(at=instant(MAX_AGE + 1), deny="evidence_too_old"),
        "one_second_less": given(at=instant(MAX_AGE - 1), allow=True),
        "skew_more": given(at=instant(MAX_AGE + SKEW), deny="evidence_too_old"),
        "thirteen_hours": given(at=instant(13 * HOUR), deny="evidence_too_old"),
        "thirteen_hours_of_twelve": given(at=instant(13 * HOUR), policy={"max_age": "12h"}, deny="evidence_too_old"),
        "eleven_hours_of_twelve": given(at=instant(11 * HOUR), policy={"max_age": "12h"}, allow=True),
        "a_year": given(at="2027-01-01T12:00:30Z", deny="evidence_too_old"),
    },
)
def e30_age(_: object) -> Launch:
    """The evidence is presented this long after issue (limit 8 h):"""
    return Launch().sign()


@case(
    "E30",
    bug=CLAIM,
    at=instant(MAX_AGE),
    each={
        "less": given("2026-01-01T12:00:00.000001Z", allow=True),
        "more": given("2026-01-01T11:59:59.999999Z", deny="evidence_too_old"),
    },
)
def e30_age_in_fractions(issued: str) -> Launch:
    """Presented 8 h after 12:00:00; IssueInstant differs from that by a microsecond."""
    return Launch(issued=issued).sign()


@case(
    "E31",
    bug=CLAIM,
    each={
        "skew": given(at=instant(-SKEW), allow=True),
        "skew_less_one": given(at=instant(-SKEW + 1), allow=True),
        "skew_and_one": given(at=instant(-SKEW - 1), deny="issued_in_future"),
        "ten_minutes": given(at=instant(-600), deny="issued_in_future"),
        "ten_minutes_of_two": given(at=instant(-600), policy={"clock_skew": "120s"}, deny="issued_in_future"),
        "a_year": given(at="2025-01-01T12:00:00Z", deny="issued_in_future"),
        "one_second_without_skew": given(at=instant(-1), policy={"clock_skew": "0s"}, deny="issued_in_future"),
        "exact_without_skew": given(at=instant(), policy={"clock_skew": "0s"}, allow=True),
    },
)
def e31_issued_ahead(_: object) -> Launch:
    """IssueInstant is ahead of our clock by:"""
    return Launch(not_before=None, authenticated=instant(-99_999_999)).sign()


@case(
    "E31",
    bug=CLAIM,
    each={
        "skew": given(30 + SKEW, allow=True),
        "skew_and_one": given(30 + SKEW + 1, deny="issued_in_future"),
        "a_day": given(86400, deny="issued_in_future"),
    },
)
def e31_authenticated_ahead(seconds: int) -> Launch:
    """AuthnInstant, relative to a launch 30 s after issue, is ahead by:"""
    return Launch(authenticated=instant(seconds)).sign()


@case(
    "E33",
    bug=CLAIM,
    at=instant(),
    each={
        "skew": given(SKEW, allow=True),
        "skew_and_one": given(SKEW + 1, deny="not_yet_valid"),
        "an_hour": given(HOUR, deny="not_yet_valid"),
    },
)
def e33_not_before_ahead(seconds: int) -> Launch:
    """NotBefore is ahead of our clock, which shows the time of issue, by:"""
    return Launch(not_before=instant(seconds), not_on_or_after=instant(2 * HOUR)).sign()


@case(
    "E34",
    bug=CLAIM,
    policy={"enforce_not_on_or_after": True},
    each={
        "inside": given(at=instant(HOUR - 1), allow=True),
        "at_the_end": given(at=instant(HOUR), allow=True),
        "end_and_less_than_skew": given(at=instant(HOUR + SKEW - 1), allow=True),
        "end_and_skew": given(at=instant(HOUR + SKEW), deny="expired"),
        "end_and_more_than_skew": given(at=instant(HOUR + SKEW + 1), deny="expired"),
        "two_hours": given(at=instant(2 * HOUR), deny="expired"),
    },
)
def e34_expired(_: object) -> Launch:
    """The policy enforces NotOnOrAfter, one hour after issue, and the launch is:"""
    return Launch().sign()


@case("E34", allow=True, at=instant(2 * HOUR))
def e34_expiry_not_enforced() -> Launch:
    """NotOnOrAfter has passed, which limits sign-ins and not launches."""
    return Launch().sign()


@case(
    "E38",
    bug=CLAIM,
    policy={"max_authentication_age": "1h"},
    each={
        "exactly": given(30 - HOUR, allow=True),
        "one_second_more": given(30 - HOUR - 1, deny="authentication_too_old"),
        "one_second_less": given(30 - HOUR + 1, allow=True),
        "a_day": given(-86400, deny="authentication_too_old"),
    },
)
def e38_authentication_age(seconds: int) -> Launch:
    """The policy wants a sign-in of the last hour; relative to the launch it was:"""
    return Launch(authenticated=instant(seconds)).sign()


@case("E38", allow=True)
def e38_old_authentication() -> Launch:
    """The user signed in at the IdP a day ago, and the policy does not judge that."""
    return Launch(authenticated=instant(-86400)).sign()


@case("E38", policy={"max_authentication_age": "1h"}, deny="authentication_too_old", bug=CLAIM)
def e38_one_of_two_sign_ins_too_old() -> Launch:
    """Two AuthnStatements, of which one is older than the policy accepts."""
    launch = Launch()
    return launch.add("saml:Assertion", Launch(authenticated=instant(-86400)).find(STATEMENT)).sign()


@case("E39", deny="time_format", alone=False, bug=CLAIM)
def e39_no_authn_instant() -> Launch:
    """AuthnStatement has no AuthnInstant."""
    return Launch().set(STATEMENT, AuthnInstant=None).sign()


@case("E39", deny="issued_in_future", alone=False, bug=CLAIM, origin="golden SAML tools")
def e39_year_9999() -> Launch:
    """IssueInstant and all ends lie in the year 9999."""
    far = "9999-12-31T23:59:59Z"
    return Launch(issued=far, not_on_or_after=far, confirmed_until=far).sign()


@case("E39", allow=True)
def e39_end_in_year_9999() -> Launch:
    """NotOnOrAfter and SessionNotOnOrAfter in the year 9999: our age limit holds in any case."""
    far = "9999-12-31T23:59:59Z"
    return Launch(not_on_or_after=far, session_ends=far).sign()


@case("E39", deny="evidence_too_old", alone=False, bug=CLAIM)
def e39_year_1() -> Launch:
    """IssueInstant in the first representable year."""
    return Launch(issued="0001-01-01T00:00:00Z", not_before=None, authenticated="0001-01-01T00:00:00Z").sign()


@case("E39", allow=True)
def e39_start_in_year_1() -> Launch:
    """NotBefore in the first representable year."""
    return Launch(not_before="0001-01-01T00:00:00Z").sign()


@case("E39", allow=True, policy={"enforce_not_on_or_after": True})
def e39_enforced_end_in_year_9999() -> Launch:
    """NotOnOrAfter is the last representable second, and the policy enforces it."""
    return Launch(not_on_or_after="9999-12-31T23:59:59Z").sign()


@case("E39", allow=True)
def e39_no_not_before() -> Launch:
    """Conditions has no NotBefore."""
    return Launch(not_before=None).sign()


@case("E39", deny=("conditions_missing", "conditions_window", "time_format"), alone=False, bug=CLAIM)
def e39_ends_only_in_another_element() -> Launch:
    """Conditions has no NotOnOrAfter; SubjectConfirmationData and AuthnStatement have."""
    return Launch(session_ends=instant(HOUR)).set(CONDITIONS, NotOnOrAfter=None).sign()


@case("E39", deny="subject_confirmation", bug=CLAIM)
def e39_confirmation_end_on_the_wrong_element() -> Launch:
    """NotOnOrAfter stands on SubjectConfirmation instead of SubjectConfirmationData."""
    launch = Launch().set(DATA, NotOnOrAfter=None)
    launch.find(DATA).addprevious(element("saml:NameID", n.ALICE))
    return launch.set("saml:Assertion/saml:Subject/saml:SubjectConfirmation", NotOnOrAfter=instant(300)).sign()
