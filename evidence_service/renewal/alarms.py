"""What about a FAS server's authorization certificates needs a person, computed from what is known of it.

As in `idp_certs.alarms`, an alarm stands while it is named here and clears by itself (promise 63).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from evidence_service.notices.model import About
from evidence_service.renewal.certificate_alarms import CERTIFICATE_JUDGES
from evidence_service.renewal.memory import in_vain, recall
from evidence_service.renewal.model import (
    STEP_KINDS,
    Alert,
    EnterMaintenance,
    RenewalPolicy,
    Rest,
    Result,
    Switch,
)
from evidence_service.renewal.reasons import RenewalReason, advice_for
from evidence_service.renewal.server_view import (
    Known,
    Raised,
    ServerView,
    act_text,
    advised,
    approval_of,
    details,
    until_text,
)
from evidence_service.renewal.situation import weigh
from evidence_service.renewal.timing import is_hearsay, lead_findings, lifetime_of, renew_at
from idp_certs.alarms import DAY, HOUR, Alarm, Severity, instant_text, span_text
from idp_certs.reasons import Finding

__all__ = ("ServerView", "approval_of", "renewal_alarms")

MISSES_WARNING, UNREACHABLE_WARNING, UNREACHABLE_CRITICAL = 3, HOUR, DAY
FAILURES_WARNING = 3
UNKNOWN_AFTER = HOUR
"""An act whose answer never came is read back within minutes, unless something is wrong."""
OVERRIDE_TOLD = 7 * DAY
MAINTENANCE_WARNING = UNSEEN_WARNING = HOUR
"""A switch takes minutes, and so does looking at the other servers."""
_OWN_ALARM = frozenset(
    {
        RenewalReason.APPROVAL_OVERDUE,
        RenewalReason.DEFINITION_NAMES_MISSING,
        RenewalReason.DENIED,
        RenewalReason.DENIED_REPEATEDLY,
        RenewalReason.EXPIRED,
        RenewalReason.EXPIRY_UNKNOWN,
        RenewalReason.LEAD_DOES_NOT_FIT,
        RenewalReason.PAUSED,
        RenewalReason.REVOKED,
        RenewalReason.UNREACHABLE,
    }
)
"""Reasons to stop that another alarm tells of already."""


def renewal_alarms(view: ServerView, policy: RenewalPolicy, now: datetime) -> tuple[Alarm, ...]:
    """Everything about this server that needs a person at `now` (UTC)."""
    seen = view.observation
    known = Known(
        view=view,
        policy=policy,
        now=now,
        used=() if seen is None else tuple(each for each in seen.certificates if each.id in seen.used),
        due=None if seen is None else renew_at(seen, view.attempts, policy, now),
        situation=None if seen is None else weigh(seen, view.attempts, policy, now),
    )
    judges = (*CERTIFICATE_JUDGES, _stopped, _reach, _failing, _lead, _windows, _pause, _maintenance)
    return tuple(
        Alarm(
            kind=each.kind,
            entity_id=view.name,
            key=each.key,
            severity=each.severity,
            text=each.text,
            about=About.FAS_SERVER.value,
            more=each.more,
            facts=each.facts,
            todo=each.todo,
        )
        for judge in judges
        for each in judge(known)
    )


def _stopped(known: Known) -> Iterator[Raised]:
    view, step = known.view, known.view.step
    if view.damage is not None:
        text = f"Nothing is done at FAS server {view.name}: {view.damage}."
        raised = Raised(kind="renewal_stopped", key="damaged", severity=Severity.CRITICAL, text=text)
        yield advised(raised, "Find out who changed the database, and restore it from a backup.")
    if isinstance(step, Alert) and step.reason not in _OWN_ALARM:
        mild = step.reason is RenewalReason.NO_NEIGHBOUR and not known.is_urgent
        yield advised(
            Raised(
                kind="renewal_stopped",
                key=step.reason.value,
                severity=Severity.WARNING if mild else Severity.CRITICAL,
                text=_stop_text(known, step),
                more=tuple(each.reason.meaning for each in step.findings if each.reason is not step.reason),
            ),
            advice_for(step.reason, view.name),
        )
    waited = timedelta(0) if view.step_since is None else known.now - view.step_since
    if isinstance(step, Rest) and step.reason is RenewalReason.NEIGHBOUR_UNSEEN and waited >= UNSEEN_WARNING:
        text = f"FAS server {view.name} has waited for {span_text(waited)}: {step.reason.meaning}"
        raised = Raised(kind="renewal_stopped", key=step.reason.value, severity=Severity.WARNING, text=text)
        yield advised(raised, advice_for(step.reason, view.name))
    for act in recall(view.attempts).unanswered:
        if known.now - act.at >= UNKNOWN_AFTER:
            reason = RenewalReason.ANSWER_UNKNOWN
            text = f"FAS server {view.name} never answered {act_text(act)} of {instant_text(act.at)}."
            key = f"{reason}:{act.seq}"
            raised = Raised(kind="renewal_stopped", key=key, severity=Severity.WARNING, text=text)
            yield advised(raised, reason.advice)


def _stop_text(known: Known, step: Alert) -> str:
    """Why it stopped, what was found, and by when it matters."""
    text = f"FAS server {known.view.name}: {step.reason.meaning}"
    if step.findings:
        text += f" Found: {'; '.join(map(_found, step.findings))}."
    end = until_text(known, "")
    return f"{text} {end[0].upper()}{end[1:]}." if end else text


def _found(finding: Finding) -> str:
    """A finding within a sentence."""
    return details(finding).rstrip(".")


def _reach(known: Known) -> Iterator[Raised]:
    view = known.view
    if view.problem is None or view.problem_since is None:
        return
    age = known.now - view.problem_since
    text = f"FAS server {view.name} has not answered for {span_text(age)} ({_found(view.problem)}){until_text(known)}."
    raised = Raised(kind="server_unreachable", severity=Severity.WARNING, text=text)
    raised = advised(raised, advice_for(view.problem.reason, view.name))
    if view.misses >= MISSES_WARNING or age >= UNREACHABLE_WARNING:
        yield raised
        if known.is_due or known.is_urgent or age >= UNREACHABLE_CRITICAL:
            yield replace(raised, key="urgent", severity=Severity.CRITICAL)


def _failing(known: Known) -> Iterator[Raised]:
    if known.view.failures < FAILURES_WARNING:
        return
    failed = next((each for each in reversed(known.view.attempts.acts) if in_vain(each)), None)
    finding = None if failed is None else failed.finding
    what = "an act" if failed is None else act_text(failed)
    why = "" if finding is None else f" ({_found(finding)})"
    verb = "refused" if failed is None or failed.result is Result.FAILED else "did not answer"
    raised = Raised(
        kind="renewal_failing",
        key="" if failed is None else STEP_KINDS[type(failed.step)].value,
        severity=Severity.CRITICAL if known.is_urgent else Severity.WARNING,
        text=f"FAS server {known.view.name} {verb} {what} {known.view.failures} times{why}{until_text(known)}.",
    )
    reason = RenewalReason.REFUSED_BY_FAS if finding is None else finding.reason
    yield advised(raised, advice_for(reason, known.view.name))


def _lead(known: Known) -> Iterator[Raised]:
    lifetimes = [lifetime_of(each, known.view.attempts, known.policy) for each in known.used]
    found = {finding for lifetime in lifetimes or [None] for finding in lead_findings(known.policy, lifetime)}
    if found:
        findings = "; ".join(sorted(map(_found, found)))
        heard = any(is_hearsay(each, known.view.attempts) for each in known.used)
        source = " How long they live is known from the server's event log alone." if heard else ""
        text = f"The lead of FAS server {known.view.name} does not fit: {findings}.{source}"
        raised = Raised(kind="lead_does_not_fit", severity=Severity.WARNING, text=text)
        yield advised(raised, RenewalReason.LEAD_DOES_NOT_FIT.advice)


def _windows(known: Known) -> Iterator[Raised]:
    lately = [each.step for each in known.view.attempts.acts if known.now - each.at <= OVERRIDE_TOLD]
    for step in (known.view.step, *lately):
        if isinstance(step, (EnterMaintenance, Switch)) and step.overrides:
            key = step.after if isinstance(step, Switch) else step.certificate_id
            reason = RenewalReason.WINDOW_OVERRIDDEN
            text = f"FAS server {known.view.name}: {reason.meaning}"
            raised = Raised(kind="window_overridden", key=key, severity=Severity.WARNING, text=text)
            yield advised(raised, reason.advice)
            return


def _maintenance(known: Known) -> Iterator[Raised]:
    entered, seen = recall(known.view.attempts).entered, known.view.observation
    if entered is None or (seen is not None and seen.maintenance is False):
        return
    since = entered.result_at or entered.at
    if known.now - since >= MAINTENANCE_WARNING:
        name = known.view.name
        text = f"FAS server {name} is in maintenance for its renewal since {instant_text(since)}: no user gets there."
        raised = Raised(kind="maintenance_lasts", severity=Severity.WARNING, text=text)
        yield advised(
            raised,
            f"See what keeps it there: `fas-evidence authcert status {name}`. Once its definitions name a usable "
            "certificate, `Set-FasServer -MaintenanceMode $false` on it lets users back.",
        )


def _pause(known: Known) -> Iterator[Raised]:
    until = known.view.attempts.paused_until
    if until is not None and until > known.now and known.is_due:
        severity = Severity.CRITICAL if known.is_urgent else Severity.WARNING
        text = f"The renewal of FAS server {known.view.name} is due and paused{until_text(known)}."
        raised = Raised(kind="renewal_paused", severity=severity, text=text)
        yield advised(raised, advice_for(RenewalReason.PAUSED, known.view.name))
