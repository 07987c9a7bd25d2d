"""Law: a deny says why, its reason is the highest-ranked finding, and findings are just the checks that failed."""

from __future__ import annotations

from hypothesis import given

from evidence_service.access.decide import VERIFICATION, decide, examine
from evidence_service.access.findings import show
from evidence_service.access.model import Allow, Deny
from evidence_service.access.reasons import OK
from idp_certs.reasons import Finding
from tests.properties.given import Question, examples, questions


@examples(250)
@given(questions())
def test_findings_and_checks(question: Question) -> None:
    """Decision, findings and checks of any question tell one story."""
    arguments = question.request, question.snapshot, question.now
    examination = examine(*arguments, seen=question.seen)
    decision = examination.decision
    failed = [check for check in examination.checks if not check.passed]

    assert decision == decide(*arguments, seen=question.seen)
    if isinstance(decision, Allow):
        assert failed == []
        assert decision.reason == OK
        assert examination.not_reached == ()
        return
    assert isinstance(decision, Deny)
    assert decision.findings
    assert decision.reason.rank == min(finding.reason.rank for finding in decision.findings)
    assert [
        Finding(reason=each.reason, expected=show(each.expected), presented=show(each.presented), where=each.where)
        for each in failed
    ] == [*decision.findings]


@examples(150)
@given(questions())
def test_before_the_signature_the_first_objection_ends_it(question: Question) -> None:
    """Before the signature holds, the one finding is the last check, and what comes after it is not reached."""
    examination = examine(question.request, question.snapshot, question.now, seen=question.seen)
    if isinstance(examination.decision, Allow) or examination.decision.assertion is not None:
        assert [check.reason for check in examination.checks[: len(VERIFICATION)]] == [*VERIFICATION]
        return

    assert len(examination.decision.findings) == 1
    assert [check.passed for check in examination.checks] == [True] * (len(examination.checks) - 1) + [False]
    assert len(examination.checks) + len(examination.not_reached) == len(VERIFICATION)
