"""The same evidence comes back at every launch: how often, and for whom, may it?

Bound to (issuer, assertion ID), never to a hash of all bytes: re-serialising what surrounds the signed content must
change nothing. Judged where the order of presentations is defined, in the transaction that records them.

What a withdrawn key signs says itself when it was issued, so its IssueInstant proves nothing. What proves something is
when the evidence was first seen: at a sign-in, evidence is as new as the sign-in, and one that shows there for the
first time after the removal of its certificate was signed after it (promise 18). At a launch, or where the phase is not
known, evidence may be older than its first sighting; there the age limit is the bound, and the journal counts it.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from evidence_service.access.findings import findings_of
from evidence_service.access.model import (
    AccessRequest,
    Allow,
    AssertionSummary,
    Check,
    Decision,
    Deny,
    Phase,
    Policy,
    Reuse,
    Sighting,
)
from evidence_service.access.reasons import AccessReason
from evidence_service.access.upn import fold_upn
from idp_certs.reasons import TrustReason

RETIREMENT_GRACE = timedelta(minutes=5)
"""How long after a removal was observed a sign-in may still bring what was signed before: it was on its way."""


def check_reuse(
    assertion: AssertionSummary, policy: Policy, request: AccessRequest, seen: Sighting | None, now: datetime
) -> tuple[Check, ...]:
    """Each question about re-use and its answer; `seen` is the first sighting, None the first time. `now` is UTC."""
    same = seen is None or (
        seen.content_sha256 == assertion.content_sha256 and fold_upn(seen.upn) == fold_upn(request.upn)
    )
    checks = [
        Check(
            reason=AccessReason.REPLAY_CONFLICT,
            passed=same,
            expected="the content and user first seen with this assertion ID",
            presented="the same" if same else "other content or another user",
            where="Assertion.ID",
        )
    ]
    if policy.reuse is Reuse.FRESH_ONCE and seen is None and assertion.issue_instant is not None:
        age = now - assertion.issue_instant
        checks.append(
            Check(
                reason=AccessReason.EVIDENCE_NOT_FRESH,
                passed=age <= policy.fresh_within,
                expected=policy.fresh_within,
                presented=age,
                where="Assertion.IssueInstant",
            )
        )
    if policy.reuse is Reuse.ONCE:
        checks.append(
            Check(
                reason=AccessReason.EVIDENCE_ALREADY_USED,
                passed=seen is None,
                expected="the first presentation",
                presented="the first" if seen is None else f"first seen {seen.first_seen:%Y-%m-%dT%H:%M:%SZ}",
                where="Assertion.ID",
            )
        )
    if assertion.retiring_since is not None and seen is None and request.phase is Phase.PREPARE:
        checks.append(
            Check(
                reason=TrustReason.CERTIFICATE_RETIRED,
                passed=now - assertion.retiring_since <= RETIREMENT_GRACE,
                expected=("first presented before", assertion.retiring_since + RETIREMENT_GRACE),
                presented=("first presented at a sign-in", now),
                where="Assertion.ID",
            )
        )
    return tuple(checks)


def judge_reuse(allow: Allow, policy: Policy, request: AccessRequest, seen: Sighting | None, now: datetime) -> Decision:
    """`allow`, or a Deny where this presentation of the evidence is not accepted."""
    findings = findings_of(check_reuse(allow.assertion, policy, request, seen, now))
    return Deny(findings=findings, assertion=allow.assertion, entity_id=allow.entity_id) if findings else allow


def sighting_of(allow: Allow, upn: str, now: datetime) -> Sighting:
    """What to remember of evidence that was allowed at `now` (UTC) for `upn`."""
    return Sighting(
        issuer=allow.assertion.issuer,
        assertion_id=allow.assertion.assertion_id,
        content_sha256=allow.assertion.content_sha256,
        upn=upn,
        first_seen=now,
    )
