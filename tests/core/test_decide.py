"""The decision as a value: what it says, in which order, and how it is shown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from evidence_service.access.decide import VERIFICATION, decide, examine, mode_of
from evidence_service.access.findings import show
from evidence_service.access.model import Allow, Deny, FasRule, Mode, refused
from evidence_service.access.reasons import AccessReason, reason_of
from idp_certs.reasons import Reason, TrustReason
from tests.core.given import (
    ENTITY_ID,
    NOW,
    certificate,
    changed,
    deny,
    genuine,
    idp_of,
    judged,
    outcome,
    request_of,
    snapshot_of,
    with_text,
)


def test_an_allow() -> None:
    """An allow names its reason, the IdP and what was signed."""
    decision = judged(genuine())

    assert isinstance(decision, Allow)
    assert (decision.reason, decision.entity_id) == ("ok", ENTITY_ID)
    assert (decision.rule, decision.security_context) == (None, None)


def test_a_deny_needs_a_finding() -> None:
    """A deny without a reason cannot be built."""
    with pytest.raises(ValueError, match="at least one finding"):
        Deny(findings=())


def test_a_deny_of_our_own() -> None:
    """What the service itself refuses is one finding."""
    decision = refused(AccessReason.DEADLINE, expected="2 s")

    assert outcome(decision) == deny("deadline")
    assert (decision.assertion, decision.entity_id) == (None, None)


@pytest.mark.parametrize(
    ("evidence", "claimed", "shown"),
    [
        (genuine(), ENTITY_ID, True),
        (changed(with_text("s:Assertion/s:AttributeStatement/s:Attribute[2]/s:AttributeValue", "")), ENTITY_ID, True),
        (genuine(idp_of(key="attacker")), ENTITY_ID, False),
        (genuine(idp_of(entity_id="https://unknown.example")), None, False),
        (genuine()[:-5], None, False),
        (b"", None, False),
    ],
    ids=["genuine", "no UPN", "forged", "unknown", "cut", "empty"],
)
def test_what_is_shown_of_whom(evidence: bytes, claimed: str | None, shown: bool) -> None:
    """A claim to be from a registered IdP is shown; the assertion only once its signature held."""
    decision = judged(evidence)

    assert decision.entity_id == claimed
    assert (decision.assertion is not None) is shown


def test_what_was_not_reached() -> None:
    """An early objection leaves the later questions of verification unasked, and says which."""
    examination = examine(request_of(genuine(idp_of(key="attacker"))), snapshot_of(), NOW)
    reasons = [check.reason for check in examination.checks]

    assert reasons == [*VERIFICATION[: VERIFICATION.index(TrustReason.SIGNATURE_INVALID) + 1]]
    assert examination.not_reached == VERIFICATION[VERIFICATION.index(TrustReason.SIGNATURE_INVALID) + 1 :]
    assert examine(request_of(genuine()), snapshot_of(), NOW).not_reached == ()


@pytest.mark.parametrize(
    ("rules", "asked", "mode"),
    [
        ((), None, Mode.ENFORCE),
        ((FasRule(name="default", mode=Mode.OBSERVE),), None, Mode.OBSERVE),
        ((FasRule(name="default", mode=Mode.OBSERVE),), "default", Mode.OBSERVE),
        ((FasRule(name="default", mode=Mode.OBSERVE),), "other", Mode.ENFORCE),
        ((FasRule(name="other", mode=Mode.OBSERVE), FasRule(name="default")), None, Mode.ENFORCE),
        ((FasRule(name="other", mode=Mode.OBSERVE), FasRule(name="default")), "other", Mode.OBSERVE),
    ],
)
def test_modes(rules: tuple[FasRule, ...], asked: str | None, mode: Mode) -> None:
    """Only a rule that says so is observed; an unknown rule is enforced."""
    assert mode_of(request_of(genuine(), rule=asked), snapshot_of(rules=rules)) is mode


def test_observing_changes_no_decision() -> None:
    """The mode says what is done with a deny, not whether it is one."""
    snapshot = snapshot_of(None, certificate("idp_next"), rules=(FasRule(name="default", mode=Mode.OBSERVE),))

    assert outcome(judged(genuine(), snapshot)) == deny("signature_invalid")


def test_now_in_another_zone() -> None:
    """The same instant in another zone is the same instant."""
    there = NOW.astimezone(timezone(timedelta(hours=-9)))

    assert judged(genuine(), now=there) == judged(genuine())
    assert decide(request_of(genuine()), snapshot_of(), there).reason == "ok"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "none"),
        ("a", "a"),
        (3, "3"),
        ((), ""),
        (("a", "b"), "a, b"),
        (datetime(2026, 1, 1, 12, tzinfo=UTC), "2026-01-01T12:00:00Z"),
        (datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=1))), "2026-01-01T11:00:00Z"),
        (timedelta(0), "0 s"),
        (timedelta(hours=8), "8 h"),
        (timedelta(days=1, minutes=2, seconds=3), "24 h 2 min 3 s"),
        (-timedelta(seconds=61), "-1 min 1 s"),
        ((NOW, timedelta(seconds=180)), "2026-01-01T12:00:30Z ± 3 min"),
        (("from", NOW, "until", None), "from 2026-01-01T12:00:30Z until none"),
    ],
)
def test_how_values_are_shown(value: object, text: str) -> None:
    """Checked values as people read them."""
    assert show(value) == text


def test_reasons_are_found_by_their_code() -> None:
    """Every reason is found by its code, has a rank, a meaning and an advice; no code is used twice."""
    every: list[Reason] = [*TrustReason, *AccessReason]

    assert [reason_of(str(each)) for each in every] == every
    assert len({str(each) for each in every}) == len(every)
    assert len({each.rank for each in every}) == len(every)
    assert all(each.meaning and each.advice for each in every)
    with pytest.raises(KeyError):
        reason_of("ok")
