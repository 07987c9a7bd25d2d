"""What people are told of what was done: one message a fact, from the act as remembered.

No message names a user: certificates and servers, what was done, and when.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from evidence_service.notices.alarms import REQUEST_NUMBER
from evidence_service.notices.model import About, Audience, Message
from evidence_service.renewal.aftermath import after_denial
from evidence_service.renewal.memory import last_denial
from evidence_service.renewal.model import (
    STEP_KINDS,
    Act,
    Attempt,
    Attempts,
    AuthorizationCertificate,
    Observation,
    Prove,
    RenewalPolicy,
    Request,
    Result,
    Retire,
    RollBack,
    Switch,
    Withdraw,
)
from evidence_service.renewal.reasons import RenewalReason, advice_for
from evidence_service.renewal.situation import weigh
from evidence_service.renewal.timing import renew_at
from idp_certs.alarms import Severity, instant_text
from idp_certs.reasons import Finding, Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    kind: str
    severity: Severity
    title: str
    paragraphs: tuple[str, ...]
    facts: tuple[tuple[str, str | None], ...] = ()
    todo: tuple[str, ...] = ()
    audience: Audience = Audience.OPERATORS


@dataclass(frozen=True, slots=True, kw_only=True)
class _Event:
    server: str
    attempt: Attempt
    observation: Observation
    policy: RenewalPolicy
    now: datetime
    attempts: Attempts | None

    @property
    def is_done(self) -> bool:
        return self.attempt.result is Result.DONE

    @property
    def is_refused(self) -> bool:
        return self.attempt.result is Result.FAILED

    @property
    def is_again(self) -> bool:
        """Whether the same was done before: FAS said so, and went on listing it, of which an alarm tells."""
        before = () if self.attempts is None else self.attempts.acts
        same = [each for each in before if each.result is Result.DONE and each.seq < self.attempt.seq]
        return any(_removed(each.step) == _removed(self.attempt.step) is not None for each in same)

    def certificate(self, certificate_id: str | None) -> AuthorizationCertificate | None:
        return self.observation.certificate(certificate_id)


def _removed(act: Act) -> tuple[str, bool] | None:
    """What the act removes, and whether only the CA can end it."""
    return (act.certificate_id, getattr(act, "issued", False)) if isinstance(act, (Retire, Withdraw)) else None


def message_of(
    server: str,
    attempt: Attempt,
    observation: Observation,
    policy: RenewalPolicy,
    now: datetime,
    *,
    attempts: Attempts | None = None,
) -> Message | None:
    """What is told of this act; None for one that nobody needs to hear of, or whose end is not known.

    `attempt` has its result; `observation` is the last one, from before or after the act; `attempts` is all that is
    remembered, for the report at the end. `now` is UTC.
    """
    tell = _TELLERS.get(type(attempt.step))
    event = _Event(server=server, attempt=attempt, observation=observation, policy=policy, now=now, attempts=attempts)
    told = None if tell is None else tell(event)
    if told is None:
        return None
    facts = (("FAS server", server), *told.facts, ("Done", instant_text(attempt.result_at or now)))
    return Message(
        fact=f"act:{server}:{attempt.seq}:{told.kind}",
        kind=told.kind,
        about=About.FAS_SERVER,
        subject=server,
        severity=told.severity,
        audience=told.audience,
        title=f"{server}: {told.title}",
        paragraphs=told.paragraphs,
        facts=tuple((name, value) for name, value in facts if value),
        todo=told.todo,
        urgent=told.severity is Severity.CRITICAL,
    )


def _requested(event: _Event) -> _Told | None:
    step = event.attempt.step
    if not event.is_done or not isinstance(step, Request):
        return None
    made = event.certificate(event.attempt.certificate_id)
    old = event.certificate(step.replaces)
    where = "as a file, to be signed elsewhere" if step.offline else f"of {step.certificate_authority}"
    return _Told(
        kind="request_made",
        severity=Severity.NOTICE,
        title="a new authorization certificate was requested",
        paragraphs=(
            f"A new authorization certificate was requested {where}. {step.reason.meaning}",
            "It waits for the CA manager, who is told by a message of their own. Until it is issued nothing changes.",
        ),
        facts=(
            ("CA", step.certificate_authority),
            (REQUEST_NUMBER, None if made is None else made.ca_request_id),
            ("Key (SHA-256 of SubjectPublicKeyInfo)", None if made is None else made.request_key_sha256),
            ("FAS's id", event.attempt.certificate_id),
            ("Replaces", step.replaces),
            ("Which expires", _end(old)),
        ),
    )


def _proved(event: _Event) -> _Told | None:
    step = event.attempt.step
    if not isinstance(step, Prove):
        return None
    new = event.certificate(step.certificate_id)
    facts = (("FAS's id", step.certificate_id), ("CA", None if new is None else new.certificate_authority))
    if event.is_done and not step.findings:
        tested = (
            "and FAS enrolled the test user with it" if step.definition is not None else "which was all that is set"
        )
        return _Told(
            kind="certificate_issued",
            severity=Severity.NOTICE,
            title="the new authorization certificate is issued and checked",
            paragraphs=(
                f"The CA issued the new certificate. It was checked, {tested}. Nothing in use names it yet.",
                "Next the certificate definitions are switched to it, in a maintenance window where some are set.",
            ),
            facts=(*facts, ("Expires", _end(new))),
        )
    if not event.is_refused and not step.findings:
        return None
    found = step.findings or ((event.attempt.finding,) if event.attempt.finding is not None else ())
    reasons = tuple(each.reason for each in found) or (RenewalReason.PROOF_FAILED,)
    return _Told(
        kind="proof_failed",
        severity=Severity.CRITICAL,
        title="the new authorization certificate must not be used",
        paragraphs=(reasons[0].meaning, "Nothing in use names it, and logons go on by the old certificate."),
        facts=(*facts, *(_fact_of(each) for each in found)),
        todo=_with_removal(event.server, *reasons),
    )


def _switched(event: _Event) -> _Told | None:
    step = event.attempt.step
    if not event.is_done or not isinstance(step, Switch):
        return None
    outside = (RenewalReason.WINDOW_OVERRIDDEN.meaning,) if step.overrides else ()
    return _Told(
        kind="switched",
        severity=Severity.WARNING if step.overrides else Severity.NOTICE,
        title=f"certificate definition {step.definition} uses the new certificate",
        paragraphs=(
            f"Certificate definition {step.definition} names the new authorization certificate, and was read back.",
            *outside,
        ),
        facts=(("Definition", step.definition), ("Old certificate", step.before), ("New certificate", step.after)),
    )


def _rolled_back(event: _Event) -> _Told | None:
    step = event.attempt.step
    if not event.is_done or not isinstance(step, RollBack):
        return None
    return _Told(
        kind="rolled_back",
        severity=Severity.CRITICAL,
        title=f"certificate definition {step.definition} is back on the old certificate",
        paragraphs=(
            f"Certificate definition {step.definition} names the old authorization certificate again.",
            step.reason.meaning,
        ),
        facts=(("Definition", step.definition), ("Taken back", step.before), ("In use", step.after)),
        todo=_with_removal(event.server, step.reason),
    )


def _with_removal(server: str, *reasons: Reason) -> tuple[str, ...]:
    """What to do about a certificate that failed, with how it is removed: it may be usable, and stays on the server."""
    advice = tuple(dict.fromkeys(advice_for(each, server) for each in reasons if each is not RenewalReason.ASKED))
    if any("authcert withdraw" in each for each in advice):
        return advice
    return (*advice, f"`fas-evidence authcert withdraw {server}` removes the certificate that is not used now.")


def _retired(event: _Event) -> _Told | None:
    step = event.attempt.step
    if not event.is_done or event.is_again or not isinstance(step, Retire):
        return None
    new = event.certificate(step.replaced_by)
    attempts = event.attempts
    again = None
    if attempts is not None:
        again = renew_at(event.observation, attempts, event.policy, event.now)
    return _Told(
        kind="renewal_report",
        severity=Severity.NOTICE,
        title="the authorization certificate is renewed",
        paragraphs=(
            "The new authorization certificate serves, and the old one was removed. Certificates of users stay.",
            "Nothing is to be done.",
        ),
        facts=(
            ("New certificate", step.replaced_by),
            ("CA", None if new is None else new.certificate_authority),
            ("Expires", _end(new)),
            ("Next renewal", None if again is None else instant_text(again)),
            ("Removed", step.certificate_id),
            *(() if attempts is None else _history(attempts, event.attempt, step.replaced_by)),
        ),
    )


def _history(attempts: Attempts, last: Attempt, new: str) -> tuple[tuple[str, str], ...]:
    """What was done for this renewal, from its request on; each with when, and what came of it."""
    acts = [each for each in attempts.acts if each.seq < last.seq and each.result is not None]
    start = max((each.seq for each in acts if each.certificate_id == new), default=None)
    if start is None:
        return ()
    done = (each for each in acts if each.seq >= start)
    return tuple((instant_text(each.result_at or each.at), f"{_act(each.step)}: {each.result}") for each in done)


def _act(step: Act) -> str:
    if isinstance(step, Withdraw) and step.issued:
        return "an unused certificate removed"
    return _ACTS[STEP_KINDS[type(step)].value]


_ACTS: Mapping[str, str] = {
    "request": "requested (by this service; approved at the CA)",
    "import": "the CA's answer imported",
    "prove": "checked",
    "enter_maintenance": "into maintenance",
    "switch": "a definition switched",
    "verify": "tested",
    "leave_maintenance": "out of maintenance",
    "retire": "an old certificate removed",
    "roll_back": "a definition set back",
    "withdraw": "a request withdrawn",
}


def _withdrawn(event: _Event) -> _Told | None:
    step = event.attempt.step
    if not event.is_done or event.is_again or not isinstance(step, Withdraw):
        return None
    word = f" The CA says: {step.denial.rstrip('.')}." if step.denial else ""
    request = "the request" if step.ca_request_id is None else f"request {step.ca_request_id}"
    where = "" if step.certificate_authority is None else f" at {step.certificate_authority}"
    title, audience = "a request for an authorization certificate was withdrawn", Audience.OPERATORS
    text = "The request was removed from the FAS server."
    if step.issued:
        title = "an unused authorization certificate was removed"
        text = "The unused certificate was removed from the FAS server; it is valid until the CA revokes it."
        todo = f"Have the CA revoke the certificate of {request}{where} (Issued Certificates): FAS cannot."
    elif step.reason is RenewalReason.DENIED or step.denial:
        todo = _after_denial(event, step)
    elif step.certificate_authority is None:
        todo = "Tell whoever was to sign the request that it is not wanted any more."
    else:
        title, audience = f"{request} was withdrawn and must be denied at the CA", Audience.APPROVERS
        text = f"Do not issue {request}: it was removed from the FAS server. It may still wait at the CA."
        todo = f"Deny {request}{where} (Pending Requests), if it still waits there: FAS cannot take it back."
    return _Told(
        kind="withdrawn",
        severity=Severity.WARNING,
        title=title,
        paragraphs=(f"{text} {step.reason.meaning}{word}",),
        facts=(
            ("FAS's id", step.certificate_id),
            ("CA", step.certificate_authority),
            (REQUEST_NUMBER, step.ca_request_id),
        ),
        todo=(todo,),
        audience=audience,
    )


def _after_denial(event: _Event, step: Withdraw) -> str:
    """When it is asked again, unless that is over already."""
    last = None if event.attempts is None else last_denial(event.attempts.acts)
    if event.attempts is None or last is None or last.certificate_id != step.certificate_id:
        return advice_for(RenewalReason.DENIED, event.server)
    return after_denial(weigh(event.observation, event.attempts, event.policy, event.now), event.server)


_TELLERS: Mapping[type, Callable[[_Event], _Told | None]] = {
    Request: _requested,
    Prove: _proved,
    Switch: _switched,
    RollBack: _rolled_back,
    Retire: _retired,
    Withdraw: _withdrawn,
}


def _end(certificate: AuthorizationCertificate | None) -> str | None:
    return None if certificate is None or certificate.expires is None else instant_text(certificate.expires)


def _fact_of(finding: Finding) -> tuple[str, str]:
    parts = ((f"expected {finding.expected}", finding.expected), (f"got {finding.presented}", finding.presented))
    return str(finding.reason), ", ".join(text for text, present in parts if present) or finding.reason.meaning
