"""`check`: one piece of captured evidence, explained."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from evidence_service.access.decide import Examination
from evidence_service.access.findings import show
from evidence_service.access.model import Allow, AssertionSummary, Check, Decision, Phase
from evidence_service.access.reasons import AccessReason
from evidence_service.cli import output
from evidence_service.cli.errors import BadInput, ExitCode
from evidence_service.cli.files import STDIN, read_evidence_file
from evidence_service.cli.offline import (
    NO_POLICY,
    Question,
    decision_json,
    judge,
    load_metadata,
    load_policy,
    parse_at,
)
from evidence_service.cli.output import Cell, Output
from evidence_service.trust_admin.texts import metadata_finding
from idp_certs.reasons import Reason, Refused

# Asked of what the service remembers; offline nothing is remembered.
_RE_USE: frozenset[Reason] = frozenset({AccessReason.REPLAY_CONFLICT, AccessReason.EVIDENCE_ALREADY_USED})


def judge_file(
    *,
    file: str | None,
    metadata: Path | None,
    upn: str | None,
    at: str | None,
    policy: Path | None,
    phase: str | None,
    rule: str | None,
    form: Output,
) -> int:
    """Judge one file and print what was found; 0 for an allow, 1 for a deny. Raises BadInput."""
    if file is None or metadata is None or upn is None:
        missing = [name for name, value in (("FILE", file), ("--metadata", metadata), ("--upn", upn)) if value is None]
        raise BadInput(f"{', '.join(missing)} missing; see `fas-evidence check --help`")
    if [file, str(metadata), str(policy)].count(STDIN) > 1:
        raise BadInput("only one of FILE, --metadata and --policy can be stdin")
    now = datetime.now(UTC) if at is None else parse_at(at, "--at")
    try:
        known = load_metadata(metadata)
    except Refused as problem:
        raise BadInput(f"metadata file {metadata}: {metadata_finding(problem.finding)}") from None
    question = Question(
        evidence=read_evidence_file(file),
        upn=upn,
        at=now,
        phase=None if phase is None else Phase(phase),
        rule=rule,
    )
    for text in known.warnings(now):
        output.warning(text)
    examination = judge(question, known.providers, NO_POLICY if policy is None else load_policy(policy))
    if form is Output.JSON:
        output.emit_json(decision_json(examination.decision))
    else:
        print_examination(examination, unjudged=_RE_USE)
        if policy is None:
            output.warning("no --policy was given, and the default policy allows nobody; see docs/policy.md")
    return ExitCode.DONE if isinstance(examination.decision, Allow) else ExitCode.NEGATIVE


def print_examination(
    examination: Examination, *, note: str | None = None, unjudged: frozenset[Reason] = frozenset()
) -> None:
    """The decision in one line, its meaning and advice, the evidence, and every check in order.

    `note` is a line about what became of the decision; `unjudged` are checks that could not be made here.
    """
    print_decision(examination.decision, note=note)
    print_checks(examination.checks, examination.not_reached, unjudged)


def print_decision(decision: Decision, *, note: str | None = None) -> None:
    """The decision in one line, its meaning and advice, and what is known of the evidence."""
    if isinstance(decision, Allow):
        output.line(f"ALLOW {decision.reason}", "bold green")
        if note is not None:
            output.line(note, "bold yellow")
    else:
        reason = decision.reason
        output.line(f"DENY {reason}", "bold red")
        if note is not None:
            output.line(note, "bold yellow")
        output.line(reason.meaning)
        output.line(f"What to do: {reason.advice}")
        output.line("")
        rows = [(str(each.reason), each.expected, each.presented, each.where) for each in decision.findings]
        output.table(("finding", "expected", "presented", "where"), rows, nothing="")
    if decision.assertion is not None:
        output.line("")
        output.facts(assertion_facts(decision.assertion))
    elif decision.entity_id is not None:
        output.line("")
        output.facts([("claimed IdP, unverified", decision.entity_id)])


def assertion_facts(assertion: AssertionSummary) -> Iterable[tuple[str, object]]:
    """What was read from verified evidence, for people."""
    return (
        ("issuer", assertion.issuer),
        ("assertion ID", assertion.assertion_id),
        ("UPN", assertion.upn),
        ("issued", assertion.issue_instant),
        ("authenticated", assertion.authn_instant),
        ("signed", assertion.signed),
        ("encrypted", assertion.encrypted),
        ("certificate SHA-256", assertion.certificate_sha256),
        ("content SHA-256", assertion.content_sha256),
    )


def print_checks(checks: Iterable[Check], not_reached: Iterable[Reason], unjudged: frozenset[Reason]) -> None:
    """Every check: passed, FAILED, not judged here, or not reached because an earlier one ended it."""
    rows: list[tuple[object, ...]] = []
    for check in checks:
        if check.reason in unjudged and check.passed:
            rows.append((Cell(value="not judged", style="dim"), str(check.reason), show(check.expected), "", ""))
            continue
        verdict = Cell(value="passed", style="green") if check.passed else Cell(value="FAILED", style="bold red")
        rows.append((verdict, str(check.reason), show(check.expected), show(check.presented), check.where))
    unasked = [(Cell(value="not reached", style="dim"), str(reason), "", "", "") for reason in not_reached]
    output.line("")
    output.table(("", "check", "expected", "presented", "where"), [*rows, *unasked], nothing="No checks.", compact=True)
    if unasked:
        output.line("The claims were not judged, because nothing in this evidence could be believed.")
