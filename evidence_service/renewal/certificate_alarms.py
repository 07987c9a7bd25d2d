"""Alarms about the certificates of a FAS server: those in use, and the request that waits for a person."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from evidence_service.renewal.aftermath import after_denial, failed_and_left, how_to_remove
from evidence_service.renewal.approvals import (
    LEFT_DAYS,
    URGENT_DAYS,
    approval_facts,
    approval_paragraphs,
    approval_steps,
    approval_text,
    days_waited,
    is_overdue,
    reminder,
)
from evidence_service.renewal.memory import Denial, last_denial
from evidence_service.renewal.model import Alert, AuthorizationCertificate, CertificateStatus, Deadline
from evidence_service.renewal.reasons import RenewalReason, advice_for
from evidence_service.renewal.server_view import (
    Known,
    Raised,
    advised,
    approval_of,
    certificate_facts,
    certificate_name,
    details,
    until_text,
    what_next,
)
from evidence_service.renewal.timing import lifetime_of
from idp_certs.alarms import DAY, Severity, instant_text, level_reached, span_text


def _use(known: Known) -> Iterator[Raised]:
    """What the certificates in use come to."""
    for each in known.used:
        facts = certificate_facts(each)
        if each.revoked_at is not None:
            by = "" if each.serial is None else f" by its serial number in the server's event log, {each.serial}"
            text = f"{certificate_name(known, each)} was revoked at {instant_text(each.revoked_at)}{by}."
            raised = Raised(kind="authcert_revoked", key=each.id, severity=Severity.CRITICAL, text=text, facts=facts)
            yield advised(raised, RenewalReason.REVOKED.advice)
        if each.expires is None:
            text = f"{certificate_name(known, each)} is in use and nobody knows when it expires."
            raised = Raised(kind="expiry_unknown", key=each.id, severity=Severity.WARNING, text=text, facts=facts)
            yield advised(raised, advice_for(RenewalReason.EXPIRY_UNKNOWN, known.view.name))
        elif each.expires <= known.now or each.status is CertificateStatus.EXPIRED:
            which, end = certificate_name(known, each), instant_text(each.expires)
            text = f"{which} expired at {end}: no user can log on through this server."
            raised = Raised(kind="authcert_expired", key=each.id, severity=Severity.CRITICAL, text=text, facts=facts)
            yield advised(raised, what_next(known))
        else:
            yield from _expiring(known, each, each.expires)


def _expiring(known: Known, certificate: AuthorizationCertificate, expires: datetime) -> Iterator[Raised]:
    left = expires - known.now
    sure = replace(certificate, not_before=None)  # a log that others may write silences no alarm
    lifetime = lifetime_of(sure, known.view.attempts, known.policy)
    # One that lives for days would never be without the alarm.
    levels = tuple(days for days in LEFT_DAYS if lifetime is None or days * DAY <= lifetime / 2)
    # Raised no later than so many days before, although a server is looked at now and then only.
    level = level_reached(max(left - known.policy.check, timedelta(microseconds=1)), levels)
    if level is not None:
        raised = Raised(
            kind="authcert_expiring",
            key=f"{certificate.id}:{level}d",
            severity=Severity.CRITICAL if level <= URGENT_DAYS else Severity.WARNING,
            text=f"{certificate_name(known, certificate)} expires at {instant_text(expires)}, in {span_text(left)}.",
            facts=certificate_facts(certificate),
        )
        yield advised(raised, what_next(known))


def _missing(known: Known) -> Iterator[Raised]:
    seen = known.view.observation
    for each in () if seen is None else seen.definitions:
        if seen is not None and seen.certificate(each.authorization_certificate) is None:
            text = (
                f"Certificate definition {each.name} names authorization certificate {each.authorization_certificate}, "
                f"which FAS server {known.view.name} does not have."
            )
            raised = Raised(kind="definition_names_missing", key=each.name, severity=Severity.CRITICAL, text=text)
            yield advised(raised, RenewalReason.DEFINITION_NAMES_MISSING.advice)


def _approval(known: Known) -> Iterator[Raised]:
    approval = approval_of(known.view, known.policy)
    if approval is None:
        return
    text, facts, todo = approval_text(approval, known.now), approval_facts(approval), approval_steps(approval)
    key, severity = reminder(approval, known.now)
    more = approval_paragraphs(approval, known.now)
    yield Raised(kind="approval_needed", key=key, severity=severity, text=text, more=more, facts=facts, todo=todo)
    # One that is to be withdrawn must not be issued any more, and is told of when that is done.
    if is_overdue(approval, known.now) and known.policy.on_deadline is Deadline.KEEP:
        yield Raised(
            kind="approval_overdue",
            key=approval.request.id,
            severity=Severity.CRITICAL,
            text=f"Nobody decided for {days_waited(approval, known.now)} days. It is kept, as set. {text}",
            more=more,
            facts=facts,
            todo=todo,
        )


def _denied(known: Known) -> Iterator[Raised]:
    view, step, seen = known.view, known.view.step, known.view.observation
    last = last_denial(view.attempts.acts)
    if isinstance(step, Alert) and step.reason is RenewalReason.DENIED_REPEATEDLY:
        word = "" if last is None or not last.word else f" ({last.word})"
        text = f"The CA denied {known.policy.maximum_denials} requests of FAS server {view.name} in a row{word}"
        text = f"{text}, so nothing more is asked{until_text(known)}."
        key = "" if known.asked is None else known.asked.certificate_id or str(known.asked.seq)
        raised = Raised(kind="renewal_denied_repeatedly", key=key, severity=Severity.CRITICAL, text=text)
        yield advised(raised, advice_for(step.reason, view.name))
        return
    denied = {
        each.id: Denial(certificate_id=each.id, at=seen.at, ca_request_id=each.ca_request_id, word=each.denial)
        for each in (() if seen is None else seen.certificates)
        if seen is not None and each.status is CertificateStatus.DENIED
    }
    if last is not None and known.now < last.at + known.policy.retry_denied:
        denied[last.certificate_id] = last
    for each in denied.values():
        request = "a request" if each.ca_request_id is None else f"request {each.ca_request_id}"
        word = f" ({each.word})" if each.word else ""
        raised = Raised(
            kind="renewal_denied",
            key=each.certificate_id,
            severity=Severity.CRITICAL if known.is_urgent else Severity.WARNING,
            text=f"The CA denied {request} of FAS server {view.name}{word}{until_text(known)}.",
        )
        advice = advice_for(RenewalReason.DENIED, view.name)
        if known.situation is not None and last is not None and each.certificate_id == last.certificate_id:
            advice = after_denial(known.situation, view.name)
        yield advised(raised, advice)


def _left(known: Known) -> Iterator[Raised]:
    """What failed and could still be used by whoever administers the server."""
    situation = known.situation
    for each in () if situation is None else failed_and_left(situation, known.view.step):
        entry = None if situation is None else situation.entry(each.certificate_id)
        if situation is None or entry is None:
            continue
        why = str(each.cause) if each.finding is None else details(each.finding).rstrip(".")
        text = (
            f"{certificate_name(known, entry)} was given up at {instant_text(each.at)} ({why}) and is still there: "
            "usable, and used by nothing."
        )
        raised = Raised(kind="failed_certificate_left", key=each.certificate_id, severity=Severity.WARNING, text=text)
        yield advised(raised, how_to_remove(situation, each.certificate_id, known.view.name))


CERTIFICATE_JUDGES = (_use, _missing, _approval, _denied, _left)
"""Asked in this order."""
