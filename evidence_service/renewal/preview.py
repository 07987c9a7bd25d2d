"""What would a renewal that starts now do, to its end? For `--dry-run`: nothing is asked of FAS.

Every step is taken as it is meant to go: the CA manager approves at once, tests pass, windows and soaks are waited for.
The list ends where nothing is left to do, or where only a person could go on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from evidence_service.renewal.asks import asks_to_settle
from evidence_service.renewal.cmdlets import NEW_ID
from evidence_service.renewal.model import (
    ACTS,
    Act,
    Alert,
    Ask,
    AskKind,
    Attempt,
    Attempts,
    AuthorizationCertificate,
    AwaitApproval,
    CertificateStatus,
    EnterMaintenance,
    LeaveMaintenance,
    Observation,
    Prove,
    RenewalPolicy,
    Request,
    Rest,
    Result,
    Retire,
    RollBack,
    Soak,
    Step,
    Switch,
    Withdraw,
)
from evidence_service.renewal.plan import plan_renewal
from evidence_service.renewal.reasons import RenewalReason
from evidence_service.renewal.reconcile import reconcile

USUAL_LIFETIME = timedelta(days=730)
"""What administrators report (`domain/fas.md` A.2), where nothing tells it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreseen:
    """A step as it would be at `at` (UTC), if nobody took any time: only how long it lasts tells people something."""

    step: Step
    at: datetime


def preview_renewal(
    observation: Observation, attempts: Attempts, policy: RenewalPolicy, now: datetime, limit: int = 50
) -> tuple[Foreseen, ...]:
    """The steps of a renewal that a person starts at `now` (UTC), at most `limit`. The new id is `cmdlets.NEW_ID`.

    A pause and a back-off are taken as over.
    """
    world = replace(observation, failures=None)
    memory = _as_asked(observation, attempts, policy, now)
    steps: list[Foreseen] = []
    while len(steps) < limit:
        settled = [ask for ask, _ in asks_to_settle(world, memory, policy, now)]
        memory = replace(memory, asks=tuple(each for each in memory.asks if each not in settled))
        step = plan_renewal(world, memory, policy, now)
        steps.append(Foreseen(step=step, at=now))
        if isinstance(step, Alert) or (isinstance(step, Rest) and step.reason is RenewalReason.NOT_DUE):
            break
        if isinstance(step, ACTS):
            memory = replace(memory, acts=(*memory.acts, _done(step, memory, now)))
        elif isinstance(step, (Rest, Soak)):
            now = max(now, step.ends if isinstance(step, Soak) else step.until)
        world = _after(world, step, policy, now)
    return tuple(steps)


def _as_asked(observation: Observation, attempts: Attempts, policy: RenewalPolicy, now: datetime) -> Attempts:
    """What would be remembered: nothing is open, and a person asks for a renewal."""
    known = {each.attempt.seq: each for each in reconcile(observation, attempts, policy)}
    acts = tuple(
        replace(each, result=known[each.seq].result, certificate_id=known[each.seq].certificate_id)
        if each.seq in known
        else replace(each, result=each.result if each.result in (Result.DONE, Result.FAILED) else Result.NOT_DONE)
        for each in attempts.acts
    )
    ask = Ask(seq=0, kind=AskKind.RENEW, at=now, actor="preview")
    return replace(attempts, acts=acts, asks=(ask,), not_before=None, paused_until=None)


def _done(step: Act, memory: Attempts, now: datetime) -> Attempt:
    seq = max((each.seq for each in memory.acts), default=0) + 1
    bad = isinstance(step, Prove) and bool(step.findings)
    return Attempt(
        seq=seq,
        step=step,
        at=now,
        result=Result.FAILED if bad else Result.DONE,
        result_at=now,
        certificate_id=NEW_ID if isinstance(step, Request) else None,
    )


def _after(world: Observation, step: Step, policy: RenewalPolicy, now: datetime) -> Observation:
    """What FAS would report after the step went as it is meant to."""
    world = replace(world, at=now)
    if isinstance(step, Request):
        return replace(world, certificates=(*world.certificates, _requested(step)))
    if isinstance(step, AwaitApproval) or (isinstance(step, Rest) and step.reason is RenewalReason.NOT_YET_VALID):
        return replace(world, certificates=tuple(_approved(each, world, policy, now) for each in world.certificates))
    if isinstance(step, Rest) and step.reason is RenewalReason.NEIGHBOUR_SWITCHING:
        return replace(world, neighbours=tuple(replace(each, switching=False) for each in world.neighbours))
    if isinstance(step, (Retire, Withdraw)):
        left = tuple(each for each in world.certificates if each.id != step.certificate_id)
        return replace(world, certificates=left)
    if isinstance(step, (EnterMaintenance, LeaveMaintenance)):
        return replace(world, maintenance=isinstance(step, EnterMaintenance))
    if isinstance(step, (Switch, RollBack)):
        return _named(world, step.definition, step.after)
    if isinstance(step, Prove) and step.definition is not None:
        return _named(world, step.definition, step.certificate_id)
    return world


def _named(world: Observation, definition: str, certificate_id: str) -> Observation:
    return replace(
        world,
        definitions=tuple(
            replace(each, authorization_certificate=certificate_id) if each.name == definition else each
            for each in world.definitions
        ),
    )


def _requested(step: Request) -> AuthorizationCertificate:
    return AuthorizationCertificate(
        id=NEW_ID,
        status_word=CertificateStatus.WAITING_FOR_APPROVAL.value,
        status=CertificateStatus.WAITING_FOR_APPROVAL,
        certificate_authority=step.certificate_authority,
    )


_COMING = (CertificateStatus.PENDING, CertificateStatus.WAITING_FOR_APPROVAL, CertificateStatus.NOT_YET_VALID)


def _approved(
    each: AuthorizationCertificate, world: Observation, policy: RenewalPolicy, now: datetime
) -> AuthorizationCertificate:
    """The same as the CA would issue it: at least as long as the policy wants, and longer than any before."""
    if each.status not in _COMING:
        return each
    ends = [other.expires for other in world.certificates if other.expires is not None]
    lifetime = max(policy.lifetime or USUAL_LIFETIME, policy.least_lifetime)
    ok = CertificateStatus.OK
    return replace(
        each,
        status=ok,
        status_word=ok.value,
        trust_area=each.trust_area or NEW_ID,
        not_before=now,
        expires=each.expires or max([now + lifetime, *(end + timedelta(days=1) for end in ends)]),
    )
