"""What does reading FAS tell about acts whose answer never came?

An act is done where FAS shows its effect (promises 45, 46). A request is found by the difference of ids, and counts as
not made only after `answer_grace`, because the CA may be slow; until then nothing is repeated. Any other change counts
as not made after `SETTLES`: a call that FAS held up must not land after we went another way. Tests change nothing and
are simply done again.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta

from evidence_service.renewal.issued import same_authority
from evidence_service.renewal.model import (
    WAITING,
    Attempt,
    Attempts,
    AuthorizationCertificate,
    EnterMaintenance,
    Import,
    LeaveMaintenance,
    Observation,
    Prove,
    RenewalPolicy,
    Request,
    Result,
    Retire,
    RollBack,
    Switch,
    Verify,
    Withdraw,
)

SETTLES = timedelta(minutes=3)
"""How long a change whose answer was lost may still show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """What became of an act: DONE or NOT_DONE, with the id that a Request led to."""

    attempt: Attempt
    result: Result
    certificate_id: str | None = None


def reconcile(
    observation: Observation, attempts: Attempts, policy: RenewalPolicy, runs_on: timedelta = timedelta(0)
) -> tuple[Resolution, ...]:
    """Everything that `observation` settles of acts without a known answer; what it does not settle is left out.

    Time is that of the observation: however long ago it was read, it says nothing of what came later. `runs_on` is how
    long a call may have gone on whose process died or lost its lease: when it ended is not known.
    """
    taken = {each.certificate_id for each in attempts.acts if each.certificate_id is not None}
    found = []
    for each in sorted(attempts.acts, key=lambda each: each.seq):
        if each.result not in (None, Result.UNKNOWN):
            continue
        passed = observation.at - (each.result_at or each.at + runs_on)
        resolution = _resolve(observation, each, frozenset(taken), policy, passed)
        if resolution is not None:
            found.append(resolution)
            taken.add(resolution.certificate_id or "")
    return tuple(found)


def _resolve(
    observation: Observation, attempt: Attempt, taken: frozenset[str], policy: RenewalPolicy, passed: timedelta
) -> Resolution | None:
    late = passed >= policy.answer_grace
    if isinstance(attempt.step, Request):
        made = _made(observation, attempt.step, taken)
        if made is not None:
            return Resolution(attempt=attempt, result=Result.DONE, certificate_id=made)
        return Resolution(attempt=attempt, result=Result.NOT_DONE) if late else None
    if isinstance(attempt.step, (Prove, Verify)):
        return Resolution(attempt=attempt, result=Result.NOT_DONE)
    done = _is_done(observation, attempt)
    if done is None and late and isinstance(attempt.step, EnterMaintenance):
        done = True  # so that the server is taken out again, whatever else comes
    if not done and not (late if done is None else passed >= min(SETTLES, policy.answer_grace)):
        return None
    return Resolution(attempt=attempt, result=Result.DONE if done else Result.NOT_DONE)


def _made(observation: Observation, step: Request, taken: frozenset[str]) -> str | None:
    """The entry that this request led to: new since, at the same CA, with a key of its own; an open one first."""
    keys = Counter(each.request_key_sha256 for each in observation.certificates if each.request_key_sha256)
    new = [
        each
        for each in observation.certificates
        if each.id not in step.known | taken and _fits(step, each) and keys[each.request_key_sha256 or ""] <= 1
    ]
    new.sort(key=lambda each: (each.status not in WAITING, each.id))
    return new[0].id if new else None


def _fits(step: Request, each: AuthorizationCertificate) -> bool:
    if step.offline:
        return each.certificate_authority is None
    return step.certificate_authority is None or same_authority(step.certificate_authority, each.certificate_authority)


def _is_done(observation: Observation, attempt: Attempt) -> bool | None:
    """Whether the effect is there; None where FAS does not tell."""
    step = attempt.step
    if isinstance(step, (Switch, RollBack)):
        definition = observation.definition(step.definition)
        return definition is not None and definition.authorization_certificate == step.after
    if isinstance(step, (Retire, Withdraw)):
        return observation.certificate(step.certificate_id) is None
    if isinstance(step, EnterMaintenance):
        return observation.maintenance
    if isinstance(step, LeaveMaintenance):
        return None if observation.maintenance is None else not observation.maintenance
    if isinstance(step, Import):
        entry = observation.certificate(step.certificate_id)
        return entry is not None and entry.status not in WAITING
    return None
