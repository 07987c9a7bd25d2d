"""The same evidence comes back at every launch: how often, and for whom, may it?

Bound to (issuer, assertion ID), never to a hash of all bytes: re-serialising what surrounds the signed content must
change nothing. Judged where the order of presentations is defined, in the transaction that records them.
"""

from __future__ import annotations

from datetime import datetime

from evidence_service.access.findings import findings_of
from evidence_service.access.model import Allow, Check, Decision, Deny, Policy, Reuse, Sighting
from evidence_service.access.reasons import AccessReason
from evidence_service.access.upn import fold_upn


def check_reuse(allow: Allow, policy: Policy, upn: str, seen: Sighting | None, now: datetime) -> tuple[Check, ...]:
    """Each question about re-use and its answer; `seen` is the first sighting, None the first time. `now` is UTC."""
    assertion = allow.assertion
    same = seen is None or (seen.content_sha256 == assertion.content_sha256 and fold_upn(seen.upn) == fold_upn(upn))
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
    return tuple(checks)


def judge_reuse(allow: Allow, policy: Policy, upn: str, seen: Sighting | None, now: datetime) -> Decision:
    """`allow`, or a Deny where the policy does not accept this presentation of the evidence."""
    findings = findings_of(check_reuse(allow, policy, upn, seen, now))
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
