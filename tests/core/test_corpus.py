"""The corpus through the function: every case gets the decision and the reason that are right."""

from __future__ import annotations

import pytest

from evidence_service.access.model import Deny
from tests.corpus import harness
from tests.corpus.model import Case

DIVERGENCES = harness.divergences()


def fails(case: Case) -> str | None:
    """What is wrong with the decision on a case; a known divergence must show exactly as it is written down."""
    decision = harness.run(case)
    known = DIVERGENCES.get(case.id)
    if known is None:
        return harness.objection(case, decision)
    if harness.objection(case, decision) is None:
        return f"is decided rightly now; take it out of divergences.json ({known['why']})"
    if str(decision.reason) != known["actual"]:
        return f"{decision.reason} instead of the known divergence {known['actual']}"
    return None


@pytest.mark.parametrize("case", harness.cases(), ids=lambda case: case.id.encode("ascii", "backslashreplace").decode())
def test_case_gets_its_decision_and_reason(case: Case) -> None:
    """The decision, its reason and, where the case says so, the absence of any other objection are as stated."""
    wrong = fails(case)
    assert wrong is None, f"{case.id}: {case.description}\n{wrong}"


def test_decisions_are_the_same_again() -> None:
    """The same arguments give the same decision, findings included."""
    for case in harness.cases()[::7]:
        assert harness.run(case) == harness.run(case), case.id


def test_every_failure_to_decrypt_looks_the_same() -> None:
    """One code and one text for all causes (H12), or the answer would be a decryption oracle."""
    findings = [
        decision.findings
        for case in harness.cases()
        if case.reasons == ("decrypt_failed",) and isinstance(decision := harness.run(case), Deny)
    ]
    assert len(findings) > 20
    assert len(set(findings)) == 1


def test_divergences_are_of_cases_and_say_why() -> None:
    """Each known divergence names a case, what is decided instead, and why that is so."""
    known = {case.id for case in harness.cases()}
    for name, entry in DIVERGENCES.items():
        assert name in known
        assert set(entry) == {"actual", "why"}
        assert len(entry["why"]) > 20


def test_promise_6_only_what_was_signed_is_read() -> None:
    """Wherever a wrapping or cutting case is judged at all, the content shown is the genuine user's (promise 6)."""
    wrapped = [case for case in harness.cases() if case.group in ("B", "C") and case.decision == "deny"]
    shown = [(case, harness.run(case)) for case in wrapped]
    assert len(wrapped) > 300
    for case, decision in shown:
        assert isinstance(decision, Deny), case.id
        # One case signs a longer name, cut in two by CDATA: it must be read whole.
        genuine = (None, "alice@corp.example", "alice@corp.example.evil.example")
        assert decision.assertion is None or decision.assertion.upn in genuine, case.id
