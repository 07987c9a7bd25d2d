"""Given what one FAS server reports and what is remembered, what is the one next step of its renewal?

The stage is derived from what FAS reports at each call, never from a stored stage, so a crash between any two acts, or
a person who works in the FAS console, cannot put us out of step. `JUDGES` is the order:

- **What is not known comes first.** While an act's answer is unknown, a back-off lasts, or FAS uses a word of no known
  release for what is in use or ours, nothing else may happen.
- **Then what users depend on**: the way back from what is broken, the rest of a switch that has begun, its test, the
  end of maintenance. A person's pause does not stop these, and stops everything after them.
- **Then what a person brought or wants gone**, and requests that ended.
- **Then the removal of old certificates**, before a new renewal may make the list longer. The wait for it comes last,
  so that a long soak never delays the next renewal.
- **Then the certificate that comes**, from validity over proof to the first switch; an open request is waited for only
  where there is none to go on with, and a new request is made only where there is no open one.
- **At last how long to wait**, and what only a person can settle.

A certificate whose proof failed is kept as evidence. A new request is made after `retry_denied`, because the cause is
often the CA and expiry does not wait; it counts like a denial, so that `maximum_denials` end it. A person's wish tries
such a certificate again if only its test failed: the CA manager need not approve another one.

Not judged here: how to reach FAS, whether another process acts (the lease does), which notices people get, and whether
the CA manager should approve (promise 62).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from evidence_service.renewal import applying, changeover
from evidence_service.renewal.asks import asks_to_settle
from evidence_service.renewal.memory import in_vain
from evidence_service.renewal.model import Alert, Attempts, Observation, RenewalPolicy, Rest, Step
from evidence_service.renewal.reasons import RenewalReason
from evidence_service.renewal.reconcile import SETTLES
from evidence_service.renewal.situation import Situation, weigh
from evidence_service.renewal.timing import lead_findings, lifetime_of, renew_at
from idp_certs.reasons import Finding

__all__ = ["JUDGES", "asks_to_settle", "plan_renewal"]

SOON = timedelta(seconds=30)
"""How often FAS is read for what became of an act whose answer is unknown."""
LONGEST_BACK_OFF = timedelta(hours=9)
"""One that would last longer was computed by a clock that was wrong, and is over."""


def plan_renewal(observation: Observation, attempts: Attempts, policy: RenewalPolicy, now: datetime) -> Step:
    """The one next step at `now` (UTC). Deterministic, and raises nothing on any observation.

    Acts whose answer is unknown are to be reconciled before (`evidence_service.renewal.reconcile`).
    """
    situation = weigh(observation, attempts, policy, now)
    for judge in JUDGES:
        step = judge(situation)
        if step is not None:
            return step
    return _not_due(situation)


def _answer_unknown(situation: Situation) -> Step | None:
    if not situation.past.unanswered:
        return None
    soon = situation.now + min(SOON, situation.policy.poll)
    return Rest(reason=RenewalReason.ANSWER_UNKNOWN, until=soon)


def _backing_off(situation: Situation) -> Step | None:
    """A failed act is not tried again before its back-off ends, or a person asks for something after it failed.

    The way back does not wait for the back-off of what made it necessary, nor do users for that of a first switch.
    """
    until = situation.attempts.not_before
    if until is None or not situation.now < until <= situation.now + LONGEST_BACK_OFF:
        return None
    failed = [each for each in situation.attempts.acts if in_vain(each)]
    since = max((each.result_at or each.at for each in failed), default=None)
    if since is not None and any(each.at >= since for each in situation.attempts.asks):
        return None
    back = changeover.roll_back(situation)
    if back is None and changeover.go_on_switching(situation) is None and changeover.verify(situation) is None:
        back = changeover.leave_maintenance(situation, waits=True)
    if back is not None and failed and not isinstance(failed[-1].step, type(back)):
        return back
    return Rest(reason=RenewalReason.BACKING_OFF, until=until)


def _strange_status(situation: Situation) -> Step | None:
    ours = set(situation.past.requests) - set(situation.given_up)
    strange = [
        each
        for each in situation.observation.certificates
        if each.status is None and each.id in situation.observation.used | ours
    ]
    return applying.unknown_status(situation, strange) if strange else None


def _paused(situation: Situation) -> Step | None:
    until = situation.attempts.paused_until
    if until is None or not situation.paused:
        return None
    waits = applying.await_approval(situation)
    if waits is not None:  # the CA has the request, and whoever must decide it is not told that it is over
        return waits
    return Rest(reason=RenewalReason.PAUSED, until=min(until, situation.now + situation.policy.check))


def _nothing_in_use(situation: Situation) -> Step | None:
    if situation.serving:
        return None
    reason = RenewalReason.NOTHING_IN_USE
    until = situation.now + situation.policy.check
    return Alert(reason=reason, findings=(Finding(reason=reason, where=situation.observation.server),), until=until)


def _given_up(situation: Situation) -> Step | None:
    """What a person should know although nothing is due: no way back, or a new certificate that did not work."""
    until = situation.now + situation.policy.check
    for certificate_id, each in situation.given_up.items():
        if certificate_id in situation.serving:
            reason = RenewalReason.NO_WAY_BACK
            cause = each.finding or Finding(reason=each.reason, where=certificate_id)
            return Alert(reason=reason, findings=(Finding(reason=reason, where=certificate_id), cause), until=until)
    broken = [each for each in situation.setbacks if each.certificate_id in situation.given_up]
    if not broken or situation.entry(broken[-1].certificate_id) is None:
        return None
    last = broken[-1]
    finding = last.finding or Finding(reason=last.cause, where=last.certificate_id)
    return Alert(reason=last.cause, findings=(finding,), until=until)


def _still_listed(situation: Situation) -> Step | None:
    """What FAS said to have removed, and goes on listing: it is removed again, hourly, and people look."""
    there = [
        each.id
        for each in situation.observation.certificates
        if each.id in situation.past.removed and situation.observation.at >= situation.past.removed[each.id] + SETTLES
    ]
    if not there:
        return None
    reason = RenewalReason.NOT_READ_BACK
    findings = tuple(Finding(reason=reason, expected="removed", presented="still listed", where=each) for each in there)
    return Alert(reason=reason, findings=findings, until=situation.now + situation.policy.check)


def _expiry_unknown(situation: Situation) -> Step | None:
    used = [situation.entry(each) for each in situation.serving]
    silent = [each.id for each in used if each is not None and each.expires is None]
    if not silent:
        return None
    reason = RenewalReason.EXPIRY_UNKNOWN
    findings = tuple(Finding(reason=reason, where=each) for each in silent)
    return Alert(reason=reason, findings=findings, until=situation.now + situation.policy.check)


def _lead_does_not_fit(situation: Situation) -> Step | None:
    """A lead that cannot work is told once nothing else is to do; another is used in its place."""
    for certificate_id in situation.serving:
        entry = situation.entry(certificate_id)
        lifetime = lifetime_of(entry, situation.attempts, situation.policy) if entry is not None else None
        findings = lead_findings(situation.policy, lifetime)
        if findings:
            return Alert(reason=RenewalReason.LEAD_DOES_NOT_FIT, findings=findings, until=_next_look(situation))
    return None


def _not_due(situation: Situation) -> Rest:
    return Rest(reason=RenewalReason.NOT_DUE, until=_next_look(situation))


def _next_look(situation: Situation) -> datetime:
    later = situation.now + situation.policy.check
    start = renew_at(situation.observation, situation.attempts, situation.policy, situation.now)
    return min(start, later) if start is not None and start > situation.now else later


JUDGES: tuple[Callable[[Situation], Step | None], ...] = (
    _answer_unknown,
    _strange_status,
    _backing_off,
    changeover.roll_back,
    changeover.go_on_switching,
    changeover.verify,
    changeover.leave_maintenance,
    _paused,
    applying.import_response,
    applying.withdraw,
    _nothing_in_use,
    changeover.retire,
    applying.await_validity,
    applying.prove,
    changeover.start_switching,
    applying.await_approval,
    applying.request,
    _given_up,
    _still_listed,
    changeover.soak,
    _expiry_unknown,
    _lead_does_not_fit,
)
"""In this order; the first that answers has the step."""
