"""Re-use: the same evidence comes back for hours, for the same user and with the same content."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from evidence_service.access.model import Allow, Deny, Phase, Policy, Reuse, Sighting
from evidence_service.access.reuse import RETIREMENT_GRACE, check_reuse, judge_reuse, sighting_of
from idp_certs.model import CertificateState
from tests.core.given import (
    ALICE,
    ALLOW,
    ISSUED,
    NOW,
    certificate,
    deny,
    examined,
    genuine,
    judged,
    outcome,
    policy_for,
    request_of,
    snapshot_of,
)

BOUNDED = policy_for()
FRESH = policy_for(reuse=Reuse.FRESH_ONCE, fresh_within=timedelta(minutes=10))
ONCE = policy_for(reuse=Reuse.ONCE)


def _allowed() -> Allow:
    decision = judged(genuine())
    assert isinstance(decision, Allow)
    return decision


ALLOWED = _allowed()
ASKED = request_of()
SEEN = sighting_of(ALLOWED, ALICE, NOW)
OTHER_CONTENT = replace(SEEN, content_sha256="0" * 64)
OTHER_USER = replace(SEEN, upn="bob@corp.example")
CASE = replace(SEEN, upn="ALICE@corp.EXAMPLE")
FIRST = None
TEN = ISSUED + timedelta(minutes=10)
HOURS = ISSUED + timedelta(hours=7)


@pytest.mark.parametrize(
    ("policy", "seen", "now", "expected"),
    [
        (BOUNDED, FIRST, NOW, ALLOW),
        (BOUNDED, SEEN, NOW, ALLOW),
        (BOUNDED, SEEN, HOURS, ALLOW),
        (BOUNDED, FIRST, HOURS, ALLOW),
        (BOUNDED, CASE, NOW, ALLOW),
        (BOUNDED, OTHER_CONTENT, NOW, deny("replay_conflict")),
        (BOUNDED, OTHER_USER, NOW, deny("replay_conflict")),
        (FRESH, FIRST, TEN, ALLOW),
        (FRESH, FIRST, TEN + timedelta(seconds=1), deny("evidence_not_fresh")),
        (FRESH, SEEN, TEN + timedelta(seconds=1), ALLOW),
        (FRESH, SEEN, HOURS, ALLOW),
        (FRESH, OTHER_USER, NOW, deny("replay_conflict")),
        (FRESH, OTHER_CONTENT, HOURS, deny("replay_conflict")),
        (ONCE, FIRST, NOW, ALLOW),
        (ONCE, FIRST, HOURS, ALLOW),
        (ONCE, SEEN, NOW, deny("evidence_already_used")),
        (ONCE, OTHER_USER, NOW, deny("replay_conflict", "evidence_already_used")),
        (ONCE, OTHER_CONTENT, NOW, deny("replay_conflict", "evidence_already_used")),
    ],
)
def test_presentations(policy: Policy, seen: Sighting | None, now: datetime, expected: tuple[str, ...]) -> None:
    """Each rule of re-use against first and later presentations, judged alone and as part of a decision."""
    assert outcome(judge_reuse(ALLOWED, policy, ASKED, seen, now)) == expected
    assert outcome(judged(genuine(), snapshot_of(policy), now, seen=seen)) == expected


@pytest.mark.parametrize("policy", [BOUNDED, FRESH])
def test_promise_11_bounded_by_the_age_limit(policy: Policy) -> None:
    """Promise 11: seen before or not, evidence ends with its age."""
    snapshot = snapshot_of(policy)
    end = ISSUED + timedelta(hours=8)

    assert outcome(judged(genuine(), snapshot, end, seen=SEEN)) == ALLOW
    assert outcome(judged(genuine(), snapshot, end + timedelta(seconds=1), seen=SEEN)) == deny("evidence_too_old")


def test_an_allow_is_given_back_as_it_is() -> None:
    """Where the rule has no objection, the decision stays the value it was; a deny keeps what it was about."""
    denied = judge_reuse(ALLOWED, ONCE, ASKED, SEEN, NOW)

    assert judge_reuse(ALLOWED, BOUNDED, ASKED, SEEN, NOW) is ALLOWED
    assert isinstance(denied, Deny)
    assert denied.assertion == ALLOWED.assertion


def test_what_is_remembered() -> None:
    """A sighting names issuer, assertion, content, user and time."""
    assert sighting_of(ALLOWED, ALICE, NOW) == Sighting(
        issuer=ALLOWED.assertion.issuer,
        assertion_id="_a1",
        content_sha256=ALLOWED.assertion.content_sha256,
        upn=ALICE,
        first_seen=NOW,
    )


def test_every_question_is_asked() -> None:
    """The checks that a re-use rule makes, whatever the answers."""

    def asked(policy: Policy, seen: Sighting | None) -> list[str]:
        return [str(check.reason) for check in check_reuse(ALLOWED.assertion, policy, ASKED, seen, NOW)]

    assert asked(BOUNDED, None) == asked(BOUNDED, SEEN) == asked(FRESH, SEEN) == ["replay_conflict"]
    assert asked(FRESH, None) == ["replay_conflict", "evidence_not_fresh"]
    assert asked(ONCE, None) == asked(ONCE, SEEN) == ["replay_conflict", "evidence_already_used"]


def test_the_same_words_alone_and_in_a_decision() -> None:
    """A re-use finding reads the same whether the recorder or the decision made it, so that a replay agrees."""
    late = TEN + timedelta(seconds=1)
    alone = judge_reuse(ALLOWED, FRESH, ASKED, None, late)
    whole = judged(genuine(), snapshot_of(FRESH), late)

    assert isinstance(alone, Deny)
    assert isinstance(whole, Deny)
    assert alone.findings == whole.findings


REMOVED = ISSUED + timedelta(seconds=10)
"""When the removal of the signing certificate was first observed."""
LATER = REMOVED + timedelta(hours=6)
GRACE_ENDS = REMOVED + RETIREMENT_GRACE
RETIRED = deny("certificate_retired")


@pytest.mark.parametrize(
    ("phase", "seen", "now", "expected"),
    [
        (Phase.PREPARE, SEEN, LATER, ALLOW),
        (Phase.ASSERT, SEEN, LATER, ALLOW),
        (None, SEEN, LATER, ALLOW),
        (Phase.PREPARE, FIRST, LATER, RETIRED),
        (Phase.ASSERT, FIRST, LATER, ALLOW),
        (None, FIRST, LATER, ALLOW),
        (Phase.PREPARE, FIRST, GRACE_ENDS, ALLOW),
        (Phase.PREPARE, FIRST, GRACE_ENDS + timedelta(seconds=1), RETIRED),
        (Phase.PREPARE, OTHER_USER, LATER, deny("replay_conflict")),
        (Phase.PREPARE, OTHER_CONTENT, LATER, deny("replay_conflict")),
    ],
)
def test_promise_18_evidence_by_a_withdrawn_key(
    phase: Phase | None, seen: Sighting | None, now: datetime, expected: tuple[str, ...]
) -> None:
    """Promise 18: what was seen before stays good; what first shows at a sign-in later does not, whatever it says."""
    snapshot = snapshot_of(None, certificate(state=CertificateState.RETIRING, since=REMOVED))
    decision = judged(genuine(), snapshot, now, seen=seen, phase=phase)

    assert outcome(decision) == expected
    assert decision.assertion is not None
    assert decision.assertion.retiring_since == REMOVED
    if isinstance(decision, Deny):
        allowed = replace(ALLOWED, assertion=decision.assertion)
        alone = judge_reuse(allowed, policy_for(), request_of(phase=phase), seen, now)
        assert isinstance(alone, Deny)
        assert alone.findings == decision.findings


def test_promise_18_a_new_response_by_the_old_key() -> None:
    """Promise 18: what says itself that it was issued after the removal is denied in any phase, seen or not."""
    snapshot = snapshot_of(None, certificate(state=CertificateState.RETIRING, since=REMOVED))
    raw = genuine(issue_instant=REMOVED)
    for phase in (None, *Phase):
        assert outcome(judged(raw, snapshot, LATER, phase=phase)) == RETIRED


def test_promise_18_certificates_in_use_are_not_asked_when_they_were_first_seen() -> None:
    """A sign-in by a trusted or announced certificate, or by a key renewed under one, is not a late one."""
    for state in (CertificateState.TRUSTED, CertificateState.ANNOUNCED):
        renewed = certificate("idp_renewed", state), certificate(state=CertificateState.RETIRING, since=REMOVED)
        for known in ((certificate(state=state, since=REMOVED),), renewed):
            decision = judged(genuine(), snapshot_of(None, *known), LATER, phase=Phase.PREPARE)
            assert outcome(decision) == ALLOW
            assert decision.assertion is not None
            assert decision.assertion.retiring_since is None


def test_promise_18_the_finding_tells_when() -> None:
    """An operator reads until when such evidence would have been taken, and when it came."""
    snapshot = snapshot_of(None, certificate(state=CertificateState.RETIRING, since=REMOVED))
    (found,) = [
        check
        for check in examined(genuine(), snapshot, LATER, phase=Phase.PREPARE).decision.findings  # type: ignore[union-attr]
        if check.where == "Assertion.ID"
    ]
    assert found.expected == "first presented before 2026-01-01T12:05:10Z"
    assert found.presented == "first presented at a sign-in 2026-01-01T18:00:10Z"
