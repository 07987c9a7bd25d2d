"""Steps and acts of a renewal as sentences for people."""

from __future__ import annotations

from datetime import datetime

from evidence_service.adapters.renewal_rows import WHY, HistoryEntry
from evidence_service.renewal.model import (
    ACTS,
    STEP_KINDS,
    Alert,
    AskKind,
    AuthorizationCertificate,
    AwaitApproval,
    EnterMaintenance,
    Import,
    LeaveMaintenance,
    Observation,
    Prove,
    Request,
    Rest,
    Retire,
    RollBack,
    Soak,
    Step,
    Switch,
    Verify,
    Withdraw,
)
from evidence_service.renewal.preview import Foreseen
from evidence_service.renewal.reasons import RenewalReason
from evidence_service.trust_admin.texts import finding_line, moment
from idp_certs.alarms import span_text
from idp_certs.reasons import Finding

SIGN_ELSEWHERE = (
    "Have the request signed, which `fas-evidence authcert status NAME` prints, and bring the answer: "
    "`fas-evidence authcert import NAME FILE.p7b`."
)
_FOREVER_YEAR = 9999


def named(certificate_id: str, certificate: AuthorizationCertificate | None) -> str:
    """A certificate or request as a person finds it: by the CA's number where that is known."""
    if certificate is not None and certificate.ca_request_id is not None:
        authority = certificate.certificate_authority or "the CA"
        return f"{certificate_id} (request {certificate.ca_request_id} at {authority})"
    return certificate_id


def what_next(step: Step, observation: Observation | None = None) -> str:  # noqa: C901, PLR0911, PLR0912 - one line a kind
    """What is done next, or waited for, as one sentence without its end."""

    def shown(certificate_id: str) -> str:
        return named(certificate_id, None if observation is None else observation.certificate(certificate_id))

    match step:
        case Rest():
            return f"nothing before {moment(step.until)}"
        case Request():
            if step.offline:
                return "make a request as a file, to be signed elsewhere and imported"
            return f"ask {step.certificate_authority or 'the CA'} for a certificate in the place of {step.replaces}"
        case Import():
            return f"give FAS the signed answer to the request {step.certificate_id}"
        case AwaitApproval():
            end = "" if step.deadline is None else f"; the certificate in use expires at {moment(step.deadline)}"
            if _waits_for_file(step, observation):
                return f"the request {shown(step.certificate_id)} must be signed elsewhere and its answer imported{end}"
            return f"the CA manager must issue {shown(step.certificate_id)}{end}"
        case Prove():
            how = "check" if step.definition is None else f"check, and test by the definition {step.definition},"
            return f"{how} the new certificate {step.certificate_id}"
        case EnterMaintenance():
            return "put the server into maintenance, so that users go to others"
        case Switch() | RollBack():
            return f"make the definition {step.definition} name {step.after} instead of {step.before}"
        case Verify():
            rules = ", ".join(dict.fromkeys(each.rule for each in step.tests))
            whom = "nothing, as no test_upn is set" if step.upn is None else f"the rules {rules} by {step.upn}"
            return f"test {whom}, with the new certificate {step.certificate_id}"
        case LeaveMaintenance():
            return "let users come back"
        case Soak():
            return f"{step.certificate_id} serves; the old certificate is kept until {moment(step.ends)}"
        case Retire():
            return f"remove the old certificate {step.certificate_id}; users' certificates stay"
        case Withdraw():
            what = "unused certificate" if step.issued else "denied request" if step.denial else "request"
            return f"remove the {what} {shown(step.certificate_id)}"
        case Alert():
            return "a person must look at it"


def what_then(foreseen: Foreseen, observation: Observation) -> str:
    """The same of a step of a dry run: it waits for so long, because when that begins depends on people."""
    step = foreseen.step
    match step:
        case Rest(reason=RenewalReason.NOT_DUE):
            return "nothing more, until the new certificate is due"
        case Rest(reason=RenewalReason.OUTSIDE_WINDOW):
            return "wait for the next maintenance window"
        case Rest():
            return f"wait for {span_text(step.until - foreseen.at)}"
        case Soak():
            kept = span_text(step.ends - foreseen.at)
            return f"{step.certificate_id} serves; the old certificate is kept for {kept} after the switch"
        case _:
            return what_next(step, observation)


def _waits_for_file(step: AwaitApproval, observation: Observation | None) -> bool:
    """Whether the request was made as a file, which no CA has: FAS names none for it."""
    request = None if observation is None else observation.certificate(step.certificate_id)
    return request is not None and request.certificate_authority is None


def why_of(step: Step) -> str:
    """Why this is the step: the reason's code and meaning with what was found, or what such an act is for."""
    reason = reason_of(step)
    if isinstance(step, Alert):
        own = () if any(each.reason is step.reason for each in step.findings) else (f"{reason}: {step.reason.meaning}",)
        return " ".join((*own, *dict.fromkeys(map(cause_line, step.findings))))
    if reason is not None:
        return f"{reason}: {reason.meaning}"
    return f"{WHY[STEP_KINDS[type(step)]]}" if isinstance(step, ACTS) else ""


def cause_line(finding: Finding) -> str:
    """A finding as one line without its remedy."""
    return finding_line(finding).removesuffix(finding.reason.advice).rstrip()


def reason_of(step: Step) -> RenewalReason | None:
    """The reason code that a step carries, or that its kind stands for."""
    if isinstance(step, AwaitApproval):
        return RenewalReason.AWAITING_APPROVAL
    if isinstance(step, Soak):
        return RenewalReason.SOAKING
    return getattr(step, "reason", None)


def at_server(text: str, server: str) -> str:
    """A text whose commands are for any server (`NAME`), for this one."""
    return text.replace(" NAME", f" {server}")


def todo_of(step: Step, observation: Observation | None = None) -> str | None:
    """What a person should do now, by what the server reported; None where nothing is to be done."""
    match step:
        case Alert():
            advice = dict.fromkeys(each.reason.advice for each in step.findings) or {step.reason.advice: None}
            return " ".join(advice)
        case AwaitApproval():
            return SIGN_ELSEWHERE if _waits_for_file(step, observation) else RenewalReason.AWAITING_APPROVAL.advice
        case Withdraw(certificate_authority=str(authority), denial=""):
            number = "it" if step.ca_request_id is None else f"request {step.ca_request_id}"
            how = "Have the CA revoke" if step.issued else "Deny"
            return f"{how} {number} at {authority}: FAS cannot take it back there."
        case _:
            return None


def pause_text(until: datetime) -> str:
    """Until when a pause lasts."""
    return "until a person resumes it" if until.year == _FOREVER_YEAR else f"until {moment(until)}"


_WISHES = {
    AskKind.RENEW: "a renewal",
    AskKind.WITHDRAW: "a withdrawal",
    AskKind.ROLL_BACK: "the way back",
    AskKind.IMPORT: "the import of a signed answer",
}


def entry_text(entry: HistoryEntry) -> str:
    """What was done at a server, or said about it by a person."""
    if entry.attempt is not None:
        return what_next(entry.attempt.step)
    wish = "something" if entry.ask is None else _WISHES[entry.ask]
    match entry.what:
        case "asked":
            return f"ask for {wish}"
        case "settled":
            return f"settle the wish for {wish}: {entry.outcome}"
        case "paused":
            end = "until a person resumes it" if entry.until is None else pause_text(entry.until)
            return f"pause the renewal {end}"
        case _:
            return "resume the renewal"
