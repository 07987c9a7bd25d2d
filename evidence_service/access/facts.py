"""What the rules are asked about: verified content, its times parsed once, and what is expected of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from evidence_service.access.model import AccessRequest, Assertion, FasRule, Policy, Response
from idp_certs.instants import parse_instant
from idp_certs.model import SigningCertificate


@dataclass(frozen=True, slots=True, kw_only=True)
class Time:
    """One time: as written, and parsed (UTC) where it can be."""

    where: str
    text: str | None
    instant: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """The times of an assertion. Optional ones that are absent are None."""

    issue: Time
    not_before: Time | None
    not_on_or_after: Time | None
    authn: tuple[Time, ...]
    session: tuple[Time, ...]

    @property
    def all(self) -> tuple[Time, ...]:
        """Every time that must be readable."""
        optional = tuple(time for time in (self.not_before, self.not_on_or_after) if time is not None)
        return (self.issue, *optional, *self.authn, *self.session)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that the rules look at. `rule` is None where no FAS rules are configured. `now` is UTC."""

    request: AccessRequest
    policy: Policy
    rule: FasRule | None
    rule_is_known: bool
    entity_id: str
    response: Response
    assertion: Assertion
    certificates: tuple[SigningCertificate, ...]
    times: Times
    now: datetime

    @property
    def max_age(self) -> timedelta:
        """The age limit: the FAS rule's where it has one, else the policy's."""
        return self.policy.max_age if self.rule is None or self.rule.max_age is None else self.rule.max_age

    @property
    def issued(self) -> datetime | None:
        """When the assertion was issued, if that can be; windows are not judged by an issue time that lies ahead."""
        issue = self.times.issue.instant
        return None if issue is None or issue - self.now > self.policy.clock_skew else issue


def time_of(where: str, text: str | None) -> Time:
    """Parse one time; whatever cannot be parsed has no instant."""
    try:
        instant = None if text is None else parse_instant(text)
    except ValueError:
        instant = None
    return Time(where=where, text=text, instant=instant)


def times_of(assertion: Assertion) -> Times:
    """Parse the times that the rules need.

    An empty NotOnOrAfter counts as absent: an assertion without an end is `conditions_missing`.
    """
    conditions = assertion.conditions[0] if len(assertion.conditions) == 1 else None
    not_before = None if conditions is None else conditions.not_before
    not_on_or_after = None if conditions is None else conditions.not_on_or_after
    statements = assertion.authn_statements
    return Times(
        issue=time_of("Assertion.IssueInstant", assertion.issue_instant),
        not_before=None if not_before is None else time_of("Assertion.Conditions.NotBefore", not_before),
        not_on_or_after=time_of("Assertion.Conditions.NotOnOrAfter", not_on_or_after) if not_on_or_after else None,
        authn=tuple(time_of("Assertion.AuthnStatement.AuthnInstant", each.authn_instant) for each in statements),
        session=tuple(
            time_of("Assertion.AuthnStatement.SessionNotOnOrAfter", each.session_not_on_or_after)
            for each in statements
            if each.session_not_on_or_after is not None
        ),
    )
