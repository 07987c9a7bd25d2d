"""Every rule about what a verified assertion claims. All of them are asked, so that an operator sees all findings.

A rule yields one `Check` for each question that it could ask; a question whose subject is missing is not asked, because
the rule that owns the subject has said so. Times are compared by their difference: adding a skew to the year 9999 would
overflow. `RULES` holds them in the order of `docs/reasons.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from evidence_service.access.facts import Facts, time_of
from evidence_service.access.identity import IDENTITY_RULES
from evidence_service.access.model import Check, SubjectConfirmation
from evidence_service.access.reasons import AccessReason
from idp_certs.model import CertificateState
from idp_certs.reasons import TrustReason

Rule = Callable[[Facts], Iterator[Check]]

_SUCCESS = "urn:oasis:names:tc:SAML:2.0:status:Success"
_BEARER = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
_ENTITY_FORMAT = "urn:oasis:names:tc:SAML:2.0:nameid-format:entity"


def retiring_certificate(facts: Facts) -> Iterator[Check]:
    """A certificate that left the metadata stays good only for what was issued before."""
    issued = facts.times.issue.instant
    for certificate in facts.certificates:
        if certificate.state is CertificateState.RETIRING and issued is not None:
            yield Check(
                reason=TrustReason.CERTIFICATE_RETIRED,
                passed=issued < certificate.since,
                expected=certificate.since,
                presented=issued,
                where="Assertion.IssueInstant",
            )


def issuer(facts: Facts) -> Iterator[Check]:
    """Exactly the entity ID whose keys verified the signature; on the Response too, where it names one."""
    issuers = facts.assertion.issuers
    present = len(issuers) > 0 and issuers[0].value != ""
    yield Check(
        reason=AccessReason.ISSUER_MISSING,
        passed=present,
        expected=facts.entity_id,
        presented="present" if present else "none",
        where="Assertion.Issuer",
    )
    for where, found in (("Assertion.Issuer", issuers if present else ()), ("Response.Issuer", facts.response.issuers)):
        if found:
            only = found[0]
            yield Check(
                reason=AccessReason.ISSUER_MISMATCH,
                passed=len(found) == 1
                and only.value == facts.entity_id
                and only.format in (None, _ENTITY_FORMAT)
                and not only.qualified,
                expected=facts.entity_id,
                presented=only.value if only.format is None else f"{only.value} (Format {only.format})",
                where=where,
            )


def status(facts: Facts) -> Iterator[Check]:
    """Success, once, and nothing below it."""
    statuses = facts.response.statuses
    yield Check(
        reason=AccessReason.STATUS_NOT_SUCCESS,
        passed=statuses == ((_SUCCESS,),),
        expected=_SUCCESS,
        presented=" / ".join(" ".join(codes) for codes in statuses) or "none",
        where="Response.Status",
    )


def destination(facts: Facts) -> Iterator[Check]:
    """One of ours exactly, where there is one. It may be absent: the signed Recipient says the same."""
    if facts.response.destination is not None:
        yield Check(
            reason=AccessReason.DESTINATION_MISMATCH,
            passed=facts.response.destination in facts.policy.recipients,
            expected=facts.policy.recipients,
            presented=facts.response.destination,
            where="Response.Destination",
        )


def time_format(facts: Facts) -> Iterator[Check]:
    """Every time that is read must be readable."""
    for time in facts.times.all:
        yield Check(
            reason=AccessReason.TIME_FORMAT,
            passed=time.instant is not None,
            expected="a UTC xs:dateTime",
            presented="none" if time.text is None else time.text,
            where=time.where,
        )


def issued_in_future(facts: Facts) -> Iterator[Check]:
    """Neither issued nor authenticated later than now, but for the clock skew."""
    for time in (facts.times.issue, *facts.times.authn):
        if time.instant is not None:
            yield Check(
                reason=AccessReason.ISSUED_IN_FUTURE,
                passed=time.instant - facts.now <= facts.policy.clock_skew,
                expected=(facts.now, facts.policy.clock_skew),
                presented=time.instant,
                where=time.where,
            )


def evidence_age(facts: Facts) -> Iterator[Check]:
    """Issued no longer ago than the age limit, which is exact: no skew is added to it."""
    if facts.times.issue.instant is not None:
        age = facts.now - facts.times.issue.instant
        yield Check(
            reason=AccessReason.EVIDENCE_TOO_OLD,
            passed=age <= facts.max_age,
            expected=facts.max_age,
            presented=age,
            where="Assertion.IssueInstant",
        )


def conditions(facts: Facts) -> Iterator[Check]:
    """Exactly one Conditions element, with an end, and no condition that we do not understand (core 2.5.1)."""
    found = facts.assertion.conditions
    complete = len(found) == 1 and bool(found[0].not_on_or_after)
    yield Check(
        reason=AccessReason.CONDITIONS_MISSING,
        passed=complete,
        expected="one Conditions with NotOnOrAfter",
        presented="one" if complete else f"{len(found)}, without NotOnOrAfter" if found else "none",
        where="Assertion.Conditions",
    )
    for each in found:
        yield Check(
            reason=AccessReason.CONDITION_UNKNOWN,
            passed=not each.unknown,
            expected="AudienceRestriction, OneTimeUse, ProxyRestriction",
            presented=", ".join(each.unknown) or "none other",
            where="Assertion.Conditions",
        )


def conditions_window(facts: Facts) -> Iterator[Check]:
    """The window must hold the assertion's own issue time; now only where the policy says so.

    Assertions live for minutes and evidence for hours, so NotOnOrAfter is no limit for launches.
    """
    issue, end = facts.issued, facts.times.not_on_or_after
    if issue is None or end is None or end.instant is None:
        return
    start, skew = facts.times.not_before, facts.policy.clock_skew
    begin = None if start is None else start.instant
    ended = end.instant <= issue
    ahead = begin is not None and begin - facts.now > skew
    if begin is not None:
        yield Check(
            reason=AccessReason.NOT_YET_VALID,
            passed=ended or not ahead,
            expected=(facts.now, skew),
            presented=begin,
            where="Assertion.Conditions.NotBefore",
        )
    late = begin is not None and not ahead and (begin - issue > skew or begin >= end.instant)
    yield Check(
        reason=AccessReason.CONDITIONS_WINDOW,
        passed=not ended and not late,
        expected=issue,
        presented=("from", begin, "until", end.instant),
        where="Assertion.Conditions",
    )
    if facts.policy.enforce_not_on_or_after:
        yield Check(
            reason=AccessReason.EXPIRED,
            passed=facts.now - end.instant < skew,
            expected=(facts.now, skew),
            presented=end.instant,
            where="Assertion.Conditions.NotOnOrAfter",
        )


def audience(facts: Facts) -> Iterator[Check]:
    """At least one AudienceRestriction, and every one of them names us (core 2.5.1.4: OR inside, AND between)."""
    if len(facts.assertion.conditions) != 1:
        return
    restrictions = facts.assertion.conditions[0].audience_restrictions
    present = bool(restrictions) and all(any(audience for audience in each) for each in restrictions)
    yield Check(
        reason=AccessReason.AUDIENCE_MISSING,
        passed=present,
        expected=facts.policy.audiences,
        presented="present" if present else "none",
        where="Assertion.Conditions.AudienceRestriction",
    )
    if present:
        for index, audiences in enumerate(restrictions):
            yield Check(
                reason=AccessReason.AUDIENCE_MISMATCH,
                passed=any(audience in facts.policy.audiences for audience in audiences),
                expected=facts.policy.audiences,
                presented=tuple(str(audience) for audience in audiences),
                where=f"Assertion.Conditions.AudienceRestriction[{index}]",
            )


def subject(facts: Facts) -> Iterator[Check]:
    """Exactly one Subject, with content."""
    yield Check(
        reason=AccessReason.SUBJECT_INVALID,
        passed=facts.assertion.subjects == 1 and facts.assertion.has_subject_content,
        expected="one Subject",
        presented=f"{facts.assertion.subjects}{'' if facts.assertion.has_subject_content else ', empty'}",
        where="Assertion.Subject",
    )


def subject_confirmation(facts: Facts) -> Iterator[Check]:
    """One bearer confirmation must hold in all its parts (profiles 4.1.4.2); others may be for somebody else.

    Where none holds, the one with the fewest objections speaks, because it was most probably meant for us.
    """
    if facts.assertion.subjects != 1 or not facts.assertion.has_subject_content:
        return
    bearers = [each for each in facts.assertion.confirmations if each.method == _BEARER]
    yield Check(
        reason=AccessReason.SUBJECT_CONFIRMATION,
        passed=bool(bearers),
        expected=_BEARER,
        presented=", ".join(each.method for each in facts.assertion.confirmations) or "none",
        where="Assertion.Subject.SubjectConfirmation",
    )
    if bearers:
        answers = [tuple(_bearer(facts, each)) for each in bearers]
        yield from min(answers, key=lambda checks: sum(not check.passed for check in checks))


def _bearer(facts: Facts, confirmation: SubjectConfirmation) -> Iterator[Check]:
    where = "Assertion.Subject.SubjectConfirmation.SubjectConfirmationData"
    whole = confirmation.data and confirmation.not_before is None and confirmation.not_on_or_after is not None
    yield Check(
        reason=AccessReason.SUBJECT_CONFIRMATION,
        passed=whole,
        expected="SubjectConfirmationData with NotOnOrAfter, without NotBefore",
        presented="the same" if whole else "something missing or NotBefore",
        where=where,
    )
    if not confirmation.data:
        return
    yield Check(
        reason=AccessReason.RECIPIENT_MISMATCH,
        passed=confirmation.recipient in facts.policy.recipients,
        expected=facts.policy.recipients,
        presented=confirmation.recipient or "none",
        where=f"{where}.Recipient",
    )
    if confirmation.not_on_or_after is not None:
        yield from _confirmation_end(facts, confirmation.not_on_or_after, f"{where}.NotOnOrAfter")
    answered = [each for each in (confirmation.in_response_to, facts.response.in_response_to) if each is not None]
    yield Check(
        reason=AccessReason.IN_RESPONSE_TO_MISMATCH,
        passed="" not in answered and len(set(answered)) <= 1,
        expected=facts.response.in_response_to or "none",
        presented=confirmation.in_response_to or "none",
        where=f"{where}.InResponseTo",
    )


def _confirmation_end(facts: Facts, text: str, where: str) -> Iterator[Check]:
    end, issue = time_of(where, text).instant, facts.issued
    yield Check(
        reason=AccessReason.TIME_FORMAT,
        passed=end is not None,
        expected="a UTC xs:dateTime",
        presented=text,
        where=where,
    )
    if end is not None and issue is not None:
        yield Check(
            reason=AccessReason.SUBJECT_CONFIRMATION,
            passed=issue < end,
            expected=issue,
            presented=("until", end),
            where=where,
        )


def authentication(facts: Facts) -> Iterator[Check]:
    """The assertion states a sign-in, in a way and at a time that the policy accepts."""
    statements = facts.assertion.authn_statements
    yield Check(
        reason=AccessReason.AUTHN_STATEMENT_MISSING,
        passed=bool(statements),
        expected="an AuthnStatement",
        presented="present" if statements else "none",
        where="Assertion.AuthnStatement",
    )
    for statement in statements if facts.policy.authn_contexts else ():
        classes = statement.context_classes
        yield Check(
            reason=AccessReason.AUTHN_CONTEXT,
            passed=len(classes) == 1 and classes[0] in facts.policy.authn_contexts,
            expected=facts.policy.authn_contexts,
            presented=", ".join(map(str, classes)) or "none",
            where="Assertion.AuthnStatement.AuthnContext.AuthnContextClassRef",
        )
    limit = facts.policy.max_authentication_age
    for time in facts.times.authn:
        if limit is not None and time.instant is not None:
            age = facts.now - time.instant
            yield Check(
                reason=AccessReason.AUTHENTICATION_TOO_OLD,
                passed=age <= limit,
                expected=limit,
                presented=age,
                where=time.where,
            )


def session(facts: Facts) -> Iterator[Check]:
    """The IdP's session has not ended, but for the clock skew."""
    for time in facts.times.session if facts.policy.enforce_session_expiry else ():
        if time.instant is not None:
            yield Check(
                reason=AccessReason.SESSION_EXPIRED,
                passed=facts.now - time.instant < facts.policy.clock_skew,
                expected=(facts.now, facts.policy.clock_skew),
                presented=time.instant,
                where=time.where,
            )


RULES: tuple[Rule, ...] = (
    retiring_certificate,
    issuer,
    status,
    destination,
    time_format,
    issued_in_future,
    evidence_age,
    conditions,
    conditions_window,
    audience,
    subject,
    subject_confirmation,
    authentication,
    session,
    *IDENTITY_RULES,
)
