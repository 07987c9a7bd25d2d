"""From a certificate that is due to a proven new one: the request, the CA manager's answer, the proof.

Each judge answers the one next step, or None where it has nothing to do.
"""

from __future__ import annotations

from dataclasses import dataclass

from evidence_service.renewal.issued import check_offline_response
from evidence_service.renewal.model import (
    WAITING,
    Alert,
    Ask,
    AskKind,
    AuthorizationCertificate,
    AwaitApproval,
    CertificateStatus,
    Deadline,
    Import,
    Prove,
    Request,
    Rest,
    Result,
    Step,
    Withdraw,
)
from evidence_service.renewal.reasons import RenewalReason
from evidence_service.renewal.situation import Situation, candidate_findings
from idp_certs.reasons import Finding

_RESTING = frozenset(
    {RenewalReason.DENIED, RenewalReason.APPROVAL_OVERDUE, RenewalReason.WITHDRAWN, RenewalReason.ASKED}
)
"""After these nothing is wrong with the server itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """A signed answer that a person brought: for which request, and what is wrong with it."""

    ask: Ask
    certificate_id: str
    response: bytes
    findings: tuple[Finding, ...]


def brought(situation: Situation) -> Brought | None:
    """The answer to the waiting offline request, if a person brought one and there is one such request."""
    ask, entry = situation.ask(AskKind.IMPORT), the_request(situation)
    if ask is None or entry is None or entry.certificate_authority is not None:
        return None
    response = ask.payload or b""
    findings = check_offline_response(response, entry, situation.policy, situation.now)
    return Brought(ask=ask, certificate_id=entry.id, response=response, findings=findings)


def the_request(situation: Situation) -> AuthorizationCertificate | None:
    """The open request that is ours, else the only one; None where there is none, or none can be told from another."""
    ours = [each for each in situation.waiting if each.id in situation.past.requests]
    waiting = ours or list(situation.waiting)
    return waiting[0] if len(waiting) == 1 else None


def to_withdraw(situation: Situation) -> str | None:
    """What a person's wish to withdraw means: the open request, else the newest of ours that serves nobody."""
    entry = the_request(situation)
    if entry is not None or situation.waiting:
        return entry.id if entry is not None and entry.id not in situation.observation.used else None
    for certificate_id in reversed(tuple(situation.past.requests)):
        moved = {each.step.before for each in situation.past.moves if each.step.before not in situation.given_up}
        if situation.entry(certificate_id) is not None and certificate_id not in situation.observation.used | moved:
            return certificate_id
    return None


def import_response(situation: Situation) -> Step | None:
    """Give FAS the answer that a person brought, if it answers the request."""
    answer = brought(situation)
    if answer is None or answer.findings:
        return None
    return Import(certificate_id=answer.certificate_id, response=answer.response, ask=answer.ask.seq)


def withdraw(situation: Situation) -> Step | None:
    """Remove a request: a person wants it gone, the CA denied it, or nobody decided in time. Only ours goes unasked."""
    if situation.ask(AskKind.WITHDRAW) is not None and (certificate_id := to_withdraw(situation)) is not None:
        return withdrawal(situation, RenewalReason.ASKED, certificate_id)
    for certificate_id, requested in situation.past.requests.items():
        entry = situation.entry(certificate_id)
        if entry is None or certificate_id in situation.observation.used or situation.is_going(certificate_id):
            continue
        if entry.status is CertificateStatus.DENIED:
            return withdrawal(situation, RenewalReason.DENIED, certificate_id)
        overdue = situation.now >= requested.at + situation.policy.approval_deadline
        if entry in situation.waiting and overdue and situation.policy.on_deadline is Deadline.WITHDRAW:
            return withdrawal(situation, RenewalReason.APPROVAL_OVERDUE, certificate_id)
    return None


def withdrawal(situation: Situation, reason: RenewalReason, certificate_id: str) -> Withdraw:
    """The step that removes this entry, with what people need of it afterwards."""
    entry = situation.entry(certificate_id)
    if entry is None:
        return Withdraw(reason=reason, certificate_id=certificate_id)
    return Withdraw(
        reason=reason,
        certificate_id=certificate_id,
        certificate_authority=entry.certificate_authority,
        ca_request_id=entry.ca_request_id,
        denial=entry.denial,
        issued=entry.status not in {*WAITING, CertificateStatus.DENIED, None},
    )


def await_validity(situation: Situation) -> Step | None:
    """A certificate from a CA whose clock is ahead is waited for (promise 57)."""
    new = situation.candidate
    if new is None or new.status is not CertificateStatus.NOT_YET_VALID or not situation.to_move(new):
        return None
    until = situation.now + situation.policy.poll
    if new.not_before is not None and new.not_before > situation.now:
        until = min(new.not_before, situation.now + situation.policy.check)
    return Rest(reason=RenewalReason.NOT_YET_VALID, until=until)


def prove(situation: Situation) -> Step | None:
    """Check the new certificate once before anything in use names it, and test it where that is set up."""
    new, policy = situation.candidate, situation.policy
    if new is None or not situation.is_sound(new.id) or not situation.to_move(new):
        return None
    proof, ask = situation.past.proofs.get(new.id), situation.ask(AskKind.RENEW)
    retried = proof is not None and proof.result is not Result.DONE and ask is not None
    if proof is not None and not retried:
        return None
    findings = candidate_findings(situation, new)
    definition = situation.observation.definition(situation.test_definition or "")
    ready = definition is not None and policy.test_rule is not None and policy.test_upn is not None
    if findings or definition is None or not ready:
        return Prove(certificate_id=new.id, findings=findings)
    return Prove(
        certificate_id=new.id,
        definition=definition.name,
        point=definition.authorization_certificate != new.id,
        rule=policy.test_rule,
        upn=policy.test_upn,
    )


def await_approval(situation: Situation) -> Step | None:
    """One open request is waited for, whoever made it; of several only a person can say which to approve."""
    waiting = situation.waiting
    if not waiting:
        return None
    until = situation.now + situation.policy.poll
    if len(waiting) > 1:
        ours = [each for each in waiting if each.id in situation.past.requests]
        keep = min(ours or waiting, key=_age)
        finding = Finding(
            reason=RenewalReason.TWO_OPEN_REQUESTS,
            expected=f"only {_name(keep)}",
            presented=", ".join(map(_name, waiting)),
        )
        return Alert(reason=RenewalReason.TWO_OPEN_REQUESTS, findings=(finding,), until=until)
    old = situation.entry(situation.replaced)
    return AwaitApproval(certificate_id=waiting[0].id, until=until, deadline=old.expires if old is not None else None)


def _age(each: AuthorizationCertificate) -> tuple[int, str]:
    """The CA numbers requests; one without number comes last."""
    number = each.ca_request_id or ""
    return (int(number), each.id) if number.isdecimal() else (2**63, each.id)


def _name(each: AuthorizationCertificate) -> str:
    return f"{each.id} (request {each.ca_request_id})" if each.ca_request_id else each.id


def request(situation: Situation) -> Step | None:
    """A new request where a certificate is due or a person asks, unless earlier ones came to nothing too lately."""
    old_id, ask = situation.replaced, situation.ask(AskKind.RENEW)
    if old_id is None or not (ask is not None or situation.is_due(old_id)):
        return None
    strange = [each for each in situation.observation.certificates if each.status is None]
    if strange:
        return unknown_status(situation, strange)
    unseen = _unseen(situation)
    if unseen is not None:
        return unseen
    held = _held(situation)
    if held is not None:
        return held
    return Request(
        reason=RenewalReason.ASKED if ask is not None else _why(situation, old_id),
        replaces=old_id,
        known=frozenset(each.id for each in situation.observation.certificates),
        certificate_authority=None if situation.policy.offline else _authority(situation, old_id),
        certificate_template=situation.policy.certificate_template,
        authorization_template=situation.policy.authorization_template,
        offline=situation.policy.offline,
    )


def unknown_status(situation: Situation, strange: list[AuthorizationCertificate]) -> Alert:
    """Stop, and tell which words FAS used."""
    known = ", ".join(CertificateStatus)
    findings = tuple(
        Finding(reason=RenewalReason.UNKNOWN_STATUS, expected=known, presented=each.status_word, where=each.id)
        for each in strange
    )
    return Alert(reason=RenewalReason.UNKNOWN_STATUS, findings=findings, until=situation.now + situation.policy.check)


def _unseen(situation: Situation) -> Step | None:
    """A request that FAS confirmed and did not list yet when it was read."""
    for certificate_id, requested in situation.past.requests.items():
        listed_by = requested.at + situation.policy.answer_grace
        gone = certificate_id in situation.past.withdrawn or certificate_id in situation.past.moved
        if situation.entry(certificate_id) is None and not gone and situation.observation.at < listed_by:
            until = max(listed_by, situation.now + situation.policy.poll)
            return Rest(reason=RenewalReason.ANSWER_UNKNOWN, until=until)
    return None


def _held(situation: Situation) -> Step | None:
    """After a request that came to nothing: none for `retry_denied`, and after `maximum_denials` none at all."""
    if not situation.setbacks:
        return None
    last, policy = situation.setbacks[-1], situation.policy
    is_withdrawn = last.reason is RenewalReason.ASKED and last.certificate_id not in situation.given_up
    shown = RenewalReason.WITHDRAWN if is_withdrawn else last.cause
    findings = (last.finding or Finding(reason=shown, where=last.certificate_id),)
    if len(situation.setbacks) >= policy.maximum_denials:
        reason = RenewalReason.DENIED_REPEATEDLY if last.reason is RenewalReason.DENIED else shown
        return Alert(reason=reason, findings=findings, until=situation.now + policy.check)
    again = last.at + policy.retry_denied
    if situation.now >= again:
        return None
    if last.reason in _RESTING:
        return Rest(reason=shown, until=again)
    return Alert(reason=shown, findings=findings, until=min(again, situation.now + policy.check))


def _why(situation: Situation, old_id: str) -> RenewalReason:
    old = situation.entry(old_id)
    if old is None or old.status is CertificateStatus.DENIED:
        return RenewalReason.DEFINITION_NAMES_MISSING
    if old.revoked_at is not None:
        return RenewalReason.REVOKED
    return RenewalReason.EXPIRED if situation.is_lost(old_id) else RenewalReason.DUE


def _authority(situation: Situation, old_id: str) -> str | None:
    """The CA that is set, else that of the old certificate, else the first that its definitions enroll users at."""
    old = situation.entry(old_id)
    if situation.policy.certificate_authority is not None:
        return situation.policy.certificate_authority
    if old is not None and old.certificate_authority is not None:
        return old.certificate_authority
    named = (ca for each in situation.observation.naming(old_id) for ca in each.certificate_authorities)
    return next(named, None)
