"""`decision list`, `decision show` and `explain`: what was decided, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from evidence_service.access.decide import DEFAULT_RULE, Examination, examine
from evidence_service.access.findings import show
from evidence_service.access.model import Allow, Check, Decision, Mode
from evidence_service.access.reasons import OK, reason_of
from evidence_service.adapters.config_store import NotFound
from evidence_service.adapters.journal import (
    DecisionLine,
    Replay,
    StoredDecision,
    find_decisions,
    load_decision,
    load_replay,
)
from evidence_service.cli import output
from evidence_service.cli.check import assertion_facts, print_examination
from evidence_service.cli.errors import BadInput, ExitCode, NothingFound
from evidence_service.cli.offline import assertion_json, decision_json, finding_json, parse_at
from evidence_service.cli.output import Cell, Output
from evidence_service.cli.reasons import known_reason
from evidence_service.cli.session import Session
from evidence_service.trust_admin.texts import instant, moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What `decision list` is to show, as it was typed."""

    since: str | None
    until: str | None
    upn: str | None
    reason: str | None
    decision: Literal["allow", "deny"] | None
    idp: str | None
    limit: int
    before: str | None


def list_decisions(session: Session, wanted: Wanted, form: Output) -> int:
    """Print decisions, newest first."""
    since = None if wanted.since is None else parse_at(wanted.since, "--since")
    until = None if wanted.until is None else parse_at(wanted.until, "--until")
    if wanted.reason is not None and wanted.reason != OK:
        try:
            known_reason(wanted.reason)
        except NothingFound as problem:
            raise BadInput(f"--reason: {problem}") from None
    with session.store() as engine:
        try:
            found = find_decisions(
                engine,
                since=since,
                until=until,
                upn=wanted.upn,
                reason=wanted.reason,
                decision=wanted.decision,
                entity_id=wanted.idp,
                limit=wanted.limit,
                before=wanted.before,
            )
        except NotFound as problem:
            raise BadInput(f"--before: {problem}") from None
    if form is Output.JSON:
        output.emit_json([_line_json(each) for each in found])
        return ExitCode.DONE
    rows = [
        (
            each.now,
            _verdict(each.decision, each.mode),
            each.reason,
            each.upn,
            each.entity_id,
            each.plugin,
            each.decision_id,
        )
        for each in found
    ]
    columns = ("at", "decision", "reason", "UPN", "IdP", "plug-in", "decision ID")
    output.table(columns, rows, nothing="No decision is recorded that fits.")
    if len(found) == wanted.limit:
        output.line(f"Older ones: --before {found[-1].decision_id}")
    return ExitCode.DONE


def _verdict(decision: str, mode: Mode) -> Cell:
    if decision == "allow":
        return Cell(value="allow", style="green")
    if mode is Mode.OBSERVE:
        return Cell(value="deny (observed)", style="yellow")
    return Cell(value="deny", style="bold red")


def _line_json(line: DecisionLine) -> dict[str, Any]:
    return {
        "decision_id": line.decision_id,
        "at": instant(line.now),
        "decision": line.decision,
        "reason": line.reason,
        "upn": line.upn,
        "idp": line.entity_id,
        "mode": line.mode.value,
        "plugin": line.plugin,
        "answered": line.answered,
    }


def show_decision(session: Session, decision_id: str, form: Output) -> int:
    """Print one decision as it was recorded."""
    with session.store() as engine:
        stored = load_decision(engine, decision_id)
    if form is Output.JSON:
        output.emit_json(_stored_json(stored))
        return ExitCode.DONE
    _print_stored(stored)
    if stored.findings:
        output.line("")
        rows = [(str(each.reason), each.expected, each.presented, each.where) for each in stored.findings]
        output.table(("finding", "expected", "presented", "where"), rows, nothing="")
    if stored.assertion is not None:
        output.line("")
        output.facts(assertion_facts(stored.assertion))
    return ExitCode.DONE


def _print_stored(stored: StoredDecision) -> None:
    request = stored.request
    output.line(
        f"{stored.decision.upper()} {stored.reason}", "bold green" if stored.decision == "allow" else "bold red"
    )
    if (note := _mode_note(stored)) is not None:
        output.line(note, "bold yellow")
    if stored.reason != OK:
        reason = reason_of(stored.reason)
        output.line(reason.meaning)
        output.line(f"What to do: {reason.advice}")
    output.line("")
    facts: list[tuple[str, object]] = [
        ("decision ID", stored.decision_id),
        ("at", stored.now),
        ("UPN", request.upn),
        ("IdP", stored.entity_id),
        ("plug-in", stored.plugin),
        ("mode", stored.mode),
        ("answered", "in time" if stored.answered == "yes" else "late: the caller may not have heard it"),
        ("took", f"{stored.took.total_seconds() * 1000:.1f} ms"),
        ("trust and policy", stored.snapshot_version),
        ("request ID", request.request_id),
    ]
    optional = (
        ("phase", request.phase),
        ("rule", request.rule),
        ("StoreFront", request.storefront),
        ("FAS server", request.fas_server),
        ("SID", request.sid),
        ("security context", request.security_context),
        ("disposition", request.disposition),
        ("correlation ID", request.correlation_id),
    )
    output.facts([*facts, *((name, value) for name, value in optional if value is not None)])


def _mode_note(stored: StoredDecision) -> str | None:
    """What observing made of the answer; None where the decision was enforced."""
    if stored.mode is Mode.ENFORCE:
        return None
    rule = stored.request.rule or DEFAULT_RULE
    if stored.decision == "allow":
        return f"Mode: observe; a deny would have been answered allow too, because rule {rule} only observes."
    return f"Mode: observe; answered allow, because rule {rule} only observes."


def _stored_json(stored: StoredDecision) -> dict[str, Any]:
    request = stored.request
    return {
        "decision_id": stored.decision_id,
        "at": instant(stored.now),
        "decision": stored.decision,
        "reason": stored.reason,
        "findings": [finding_json(finding) for finding in stored.findings],
        "idp": stored.entity_id,
        "assertion": None if stored.assertion is None else assertion_json(stored.assertion),
        "mode": stored.mode.value,
        "plugin": stored.plugin,
        "answered": stored.answered,
        "judged": stored.judged,
        "took_ms": stored.took.total_seconds() * 1000,
        "snapshot": stored.snapshot_version,
        "request": {
            "request_id": request.request_id,
            "upn": request.upn,
            "phase": request.phase,
            "sid": request.sid,
            "rule": request.rule,
            "security_context": request.security_context,
            "disposition": request.disposition,
            "storefront": request.storefront,
            "fas_server": request.fas_server,
            "correlation_id": request.correlation_id,
        },
    }


def explain_decision(session: Session, decision_id: str, form: Output) -> int:
    """Judge again from the record; 1 where the outcome is another than the recorded one."""
    with session.store() as engine:
        replay = load_replay(engine, decision_id, secrets_dir=session.settings().effective_secrets_dir)
    stored = replay.stored
    again = _again(replay) if stored.judged else None
    differences = () if again is None else _differences(stored, again.decision)
    if form is Output.JSON:
        output.emit_json(_explained_json(stored, again, differences))
    else:
        _print_explained(stored, again, differences)
    return ExitCode.NEGATIVE if differences else ExitCode.DONE


def _again(replay: Replay) -> Examination:
    return examine(replay.request, replay.snapshot, replay.now, seen=replay.seen)


def _differences(stored: StoredDecision, again: Decision) -> tuple[str, ...]:
    """How the second judgement differs from the recorded one, in words."""
    word = "allow" if isinstance(again, Allow) else "deny"
    reasons = () if isinstance(again, Allow) else tuple(str(each.reason) for each in again.findings)
    pairs = (
        ("decision", stored.decision, word),
        ("reason", stored.reason, str(again.reason)),
        ("findings", ", ".join(str(each.reason) for each in stored.findings), ", ".join(reasons)),
    )
    return tuple(f"{name}: recorded {old or 'none'}, now {new or 'none'}" for name, old, new in pairs if old != new)


def _print_explained(stored: StoredDecision, again: Examination | None, differences: tuple[str, ...]) -> None:
    if again is None:
        _print_stored(stored)
        output.line("")
        output.line("The service itself refused, without a judgement of the evidence: there is nothing to judge again.")
        return
    print_examination(again, note=_mode_note(stored))
    output.line("")
    output.facts(
        (
            ("decision ID", stored.decision_id),
            ("judged for", stored.now),
            ("UPN", stored.request.upn),
            ("trust and policy", stored.snapshot_version),
            ("seen before", "no" if stored.seen is None else f"first at {moment(stored.seen.first_seen)}"),
        )
    )
    output.line("")
    if differences:
        output.line("The judgement DIFFERS from the recorded one:", "bold red")
        for difference in differences:
            output.line(f"  {difference}")
        output.line("Another version of this software decided, a decryption key is missing, or the record was changed.")
    else:
        output.line("Judged again from the record: the same decision, for the same reasons.", "green")


def _explained_json(stored: StoredDecision, again: Examination | None, differences: tuple[str, ...]) -> dict[str, Any]:
    return {
        "recorded": _stored_json(stored),
        "again": None if again is None else decision_json(again.decision),
        "same": None if again is None else not differences,
        "differences": list(differences),
        "checks": [] if again is None else [_check_json(check) for check in again.checks],
        "not_reached": [] if again is None else [str(reason) for reason in again.not_reached],
    }


def _check_json(check: Check) -> dict[str, Any]:
    return {
        "reason": str(check.reason),
        "passed": check.passed,
        "expected": show(check.expected),
        "presented": show(check.presented),
        "where": check.where,
    }
