"""Law: a decision depends on its arguments alone, and a remembered verification changes nothing."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given

from evidence_service.access.decide import decide, examine
from evidence_service.access.verify import verify_evidence
from idp_certs.reasons import Refused
from tests.properties.given import Question, examples, questions


@examples(150)
@given(questions())
def test_the_same_again(question: Question) -> None:
    """The same question gives an equal decision and equal checks."""
    arguments = question.request, question.snapshot, question.now

    assert decide(*arguments, seen=question.seen) == decide(*arguments, seen=question.seen)
    assert examine(*arguments, seen=question.seen) == examine(*arguments, seen=question.seen)


@examples(150)
@given(questions())
def test_with_what_was_verified_before(question: Question) -> None:
    """A verification that is handed in gives the decision that verifying afresh gives."""
    arguments = question.request, question.snapshot, question.now
    with suppress(Refused):
        verified = verify_evidence(question.request.evidence, question.snapshot)

        assert examine(*arguments, seen=question.seen, verified=verified) == examine(*arguments, seen=question.seen)
