"""`plugin test`: asks the service as the plug-in would, with the plug-in's settings file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from evidence_service.access.reasons import OK, AccessReason, reason_of
from evidence_service.cli import output
from evidence_service.cli.errors import BadInput, ExitCode
from evidence_service.cli.files import read_evidence_file
from evidence_service.cli.output import Cell, Output
from plugin_bridge.client import Answer, Failure, Question, Settings, SettingsError, ask, read_settings

TRIAL_UPN = "self-test@evidence-plugin.invalid"
_CORRELATION = "fas-evidence plugin test"
_OWN_FAULT = (Failure.SETTINGS_INVALID, Failure.QUESTION_INVALID)

REMEDIES = {
    Failure.SETTINGS_INVALID: "Mend the member that is named.",
    Failure.CERTIFICATE_UNUSABLE: "Check the client certificate's file, its password, its dates, and the clock.",
    Failure.QUESTION_INVALID: "Check --upn and --evidence.",
    Failure.NO_SERVICE: "Check that the service runs, its name, and the firewall.",
    Failure.TLS_REFUSED: "Check that the client certificate is enrolled and valid: fas-evidence plugin list; the "
    "service's log says more (handshake_refused).",
    Failure.WRONG_CERTIFICATE: "If the service's certificate was changed, add its SHA-256 as another ServerPin; "
    "otherwise find out who answers. Check the clock.",
    Failure.TIMEOUT: "Look for slow decisions in the service's log, and at the network between.",
    Failure.CALLER_REFUSED: "This plug-in is not enrolled or was revoked: fas-evidence plugin list.",
    Failure.OVERLOADED: "The service turns questions away, or is ending: try again, or add capacity.",
    Failure.WRONG_STATUS: "Check the address; a proxy between is not supported.",
    Failure.WRONG_CONTENT_TYPE: "Check the address; a proxy between is not supported.",
    Failure.ANSWER_TOO_LARGE: "Check the address.",
    Failure.ANSWER_TRUNCATED: "See the service's log.",
    Failure.ANSWER_UNREADABLE: "Check that plug-in and service are of versions that fit.",
    Failure.OTHER_REQUEST_ID: "Report it: this must not happen.",
    Failure.UNKNOWN_DECISION: "Check that plug-in and service are of versions that fit.",
    Failure.ANSWER_CONTRADICTORY: "Report it: this must not happen.",
    Failure.INTERNAL_ERROR: "Report it.",
}
"""What to do about each failure, from where the command runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    """What asking one address showed. `code` is what the command exits with because of it."""

    service: str
    answer: Answer
    text: str
    code: ExitCode = ExitCode.DONE


def trial(settings_file: Path, *, upn: str | None, evidence: Path | None, form: Output) -> int:
    """Ask, and say what came of it. Without evidence every address is asked a question whose answer is known.

    0 where that answer came, or for an allow; 1 for another answer, or a deny; 3 where an address failed.
    """
    if (upn is None) != (evidence is None):
        raise BadInput("--upn and --evidence belong together; give both, or none for a question whose answer is known")
    try:
        settings = read_settings(settings_file)
    except SettingsError as problem:
        raise BadInput(f"settings {settings_file}: {problem}") from None
    if upn is not None and evidence is not None:
        raw = read_evidence_file(evidence)
        question = Question(upn=upn, evidence=(raw,), correlation_id=_CORRELATION)
        trials = [_decided(ask(settings, question))]
    else:
        trials = [_known(settings, service) for service in settings.services]
    _tell(trials, form)
    if worst := max(each.code for each in trials):
        return worst
    return ExitCode.DONE if evidence is None or trials[0].answer.allowed else ExitCode.NEGATIVE


def _known(settings: Settings, service: str) -> _Trial:
    """Ask one address without evidence: a service that works denies, with the one reason for that."""
    question = Question(upn=TRIAL_UPN, evidence=(), correlation_id=_CORRELATION)
    answer = ask(replace(settings, services=(service,)), question)
    if answer.failure is not None:
        return _failed(service, answer)
    missing = answer.reason == AccessReason.EVIDENCE_MISSING
    proven = f"TLS and identity are accepted ({_proof(settings)})"
    if missing and not answer.allowed:
        return _Trial(service=service, answer=answer, text=f"{proven}; denies what has no evidence, as it must")
    if missing and answer.observed:
        text = f"{proven}; in observe mode: allows everything, and records what it would deny"
        return _Trial(service=service, answer=answer, text=text)
    if answer.allowed:
        text = "the service allowed a question without evidence; do not go on, and find out who answers"
    else:
        text = f"{proven}, but nothing can be allowed there: {_explained(answer.reason)}"
    return _Trial(service=service, answer=answer, text=text, code=ExitCode.NEGATIVE)


def _decided(answer: Answer) -> _Trial:
    service = answer.service or "-"
    if answer.failure is not None:
        return _failed(service, answer)
    verdict = "allow" if answer.allowed else "deny"
    if answer.observed and answer.reason != OK:
        verdict = "allow in observe mode; otherwise deny"
    return _Trial(service=service, answer=answer, text=f"{verdict}: {_explained(answer.reason)}")


def _failed(service: str, answer: Answer) -> _Trial:
    assert answer.failure is not None  # noqa: S101 - the caller looked
    text = f"{answer.failure}: {answer.detail}. {REMEDIES[answer.failure]}"
    code = ExitCode.BAD_INPUT if answer.failure in _OWN_FAULT else ExitCode.DEPENDENCY
    return _Trial(service=service, answer=answer, text=text, code=code)


def _proof(settings: Settings) -> str:
    return "by the service's certificate, pinned" if settings.server_ca is None else "by the CA of the settings"


def _explained(code: str) -> str:
    """A reason code with its meaning and advice, where this version knows it."""
    if code == OK:
        return code
    try:
        reason = reason_of(code)
    except KeyError:
        return code
    return f"{reason}: {reason.meaning} {reason.advice}"


def _tell(trials: list[_Trial], form: Output) -> None:
    if form is Output.JSON:
        output.emit_json([_json(each) for each in trials])
        return
    rows = [
        (
            Cell(value="FAILED", style="bold red") if each.code else Cell(value="ok", style="green"),
            each.service,
            f"{each.answer.milliseconds:.0f}",
            each.text,
            each.answer.decision_id or None,
        )
        for each in trials
    ]
    output.table(("", "address", "ms", "finding", "decision ID"), rows, nothing="")


def _json(each: _Trial) -> dict[str, object]:
    answer = each.answer
    return {
        "service": each.service,
        "works": not each.code,
        "decision": None if answer.failure is not None else "allow" if answer.allowed else "deny",
        "reason": answer.reason,
        "observed": answer.observed,
        "failure": answer.failure,
        "finding": each.text,
        "decision_id": answer.decision_id or None,
        "milliseconds": answer.milliseconds,
    }
