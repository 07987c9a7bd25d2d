"""Re-use: the same evidence comes back for hours, for the same user and with the same content."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from evidence_service.access.model import Allow, Deny, Policy, Reuse, Sighting
from evidence_service.access.reuse import check_reuse, judge_reuse, sighting_of
from tests.core.given import ALICE, ALLOW, ISSUED, NOW, deny, genuine, judged, outcome, policy_for, snapshot_of

BOUNDED = policy_for()
FRESH = policy_for(reuse=Reuse.FRESH_ONCE, fresh_within=timedelta(minutes=10))
ONCE = policy_for(reuse=Reuse.ONCE)


def _allowed() -> Allow:
    decision = judged(genuine())
    assert isinstance(decision, Allow)
    return decision


ALLOWED = _allowed()
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
    assert outcome(judge_reuse(ALLOWED, policy, ALICE, seen, now)) == expected
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
    denied = judge_reuse(ALLOWED, ONCE, ALICE, SEEN, NOW)

    assert judge_reuse(ALLOWED, BOUNDED, ALICE, SEEN, NOW) is ALLOWED
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
        return [str(check.reason) for check in check_reuse(ALLOWED, policy, ALICE, seen, NOW)]

    assert asked(BOUNDED, None) == asked(BOUNDED, SEEN) == asked(FRESH, SEEN) == ["replay_conflict"]
    assert asked(FRESH, None) == ["replay_conflict", "evidence_not_fresh"]
    assert asked(ONCE, None) == asked(ONCE, SEEN) == ["replay_conflict", "evidence_already_used"]


def test_the_same_words_alone_and_in_a_decision() -> None:
    """A re-use finding reads the same whether the recorder or the decision made it, so that a replay agrees."""
    late = TEN + timedelta(seconds=1)
    alone = judge_reuse(ALLOWED, FRESH, ALICE, None, late)
    whole = judged(genuine(), snapshot_of(FRESH), late)

    assert isinstance(alone, Deny)
    assert isinstance(whole, Deny)
    assert alone.findings == whole.findings
