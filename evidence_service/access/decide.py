"""May this access go ahead? The one place that says yes.

    bytes -> verify_evidence -> every rule -> re-use -> Allow or Deny(findings)

Values in, value out: no clock, no I/O, no chance. The same arguments give the same decision, so that any decision can
be judged again from its record. Before a signature holds, the first objection ends it. After that every rule is asked,
and the highest-ranked finding gives the reason.

Not decided here: whether the caller may ask, whether the answer could be recorded, whether there was time. Those only
ever turn an allow into a deny.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from evidence_service.access.facts import Facts, times_of
from evidence_service.access.findings import findings_of
from evidence_service.access.identity import mapped_upn
from evidence_service.access.model import (
    AccessRequest,
    Allow,
    AssertionSummary,
    Check,
    Decision,
    Deny,
    FasRule,
    Mode,
    Sighting,
    Snapshot,
)
from evidence_service.access.reasons import AccessReason
from evidence_service.access.reuse import check_reuse
from evidence_service.access.rules import RULES
from evidence_service.access.verify import ReadEvidence, VerifiedEvidence, verify_evidence
from idp_certs.model import CertificateState
from idp_certs.reasons import Finding, Reason, Refused, TrustReason

DEFAULT_RULE = "default"

# The order in which verification objects; explanations show it.
VERIFICATION: tuple[Reason, ...] = (
    AccessReason.EVIDENCE_MISSING,
    AccessReason.EVIDENCE_EMPTY,
    AccessReason.EVIDENCE_TOO_LARGE,
    AccessReason.EVIDENCE_ENCODING,
    TrustReason.XML_ENCODING,
    TrustReason.XML_DTD,
    TrustReason.XML_MALFORMED,
    TrustReason.XML_COMMENT_OR_PI,
    TrustReason.XML_NAMESPACE,
    TrustReason.XML_LIMITS,
    AccessReason.NOT_A_RESPONSE,
    AccessReason.SAML_VERSION,
    AccessReason.ID_MISSING,
    AccessReason.ID_INVALID,
    AccessReason.ID_DUPLICATE,
    AccessReason.RESPONSE_COUNT,
    AccessReason.ASSERTION_COUNT,
    TrustReason.SIGNATURE_PLACEMENT,
    TrustReason.SIGNATURE_STRUCTURE,
    TrustReason.C14N_FORBIDDEN,
    TrustReason.SIGNATURE_ALGORITHM,
    TrustReason.REFERENCE_URI,
    TrustReason.TRANSFORM_FORBIDDEN,
    TrustReason.DIGEST_ALGORITHM,
    AccessReason.ISSUER_UNKNOWN,
    AccessReason.IDP_DISABLED,
    AccessReason.CONFIG_INVALID,
    TrustReason.NO_TRUSTED_CERTIFICATE,
    TrustReason.SIGNATURE_MISSING,
    AccessReason.ENCRYPTED_UNSUPPORTED,
    AccessReason.ENCRYPTION_REQUIRED,
    AccessReason.ENCRYPTION_ALGORITHM,
    AccessReason.DECRYPT_FAILED,
    TrustReason.SIGNATURE_INVALID,
    TrustReason.DIGEST_MISMATCH,
    TrustReason.SIGNED_ELEMENT,
    TrustReason.CERTIFICATE_WEAK_KEY,
    TrustReason.CERTIFICATE_REVOKED,
)
_VERIFIED = tuple(Check(reason=reason, passed=True) for reason in VERIFICATION)
# Two reasons belong to rules as well; where they end verification they stand for the step beside them.
_STEP: dict[Reason, Reason] = {
    AccessReason.ISSUER_MISSING: AccessReason.ISSUER_UNKNOWN,
    TrustReason.CERTIFICATE_RETIRED: TrustReason.CERTIFICATE_REVOKED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """A decision with every question that led to it; `not_reached` names those that an early objection left unasked."""

    decision: Decision
    checks: tuple[Check, ...]
    not_reached: tuple[Reason, ...]


def decide(
    request: AccessRequest,
    snapshot: Snapshot,
    now: datetime,
    *,
    seen: Sighting | None = None,
    verified: VerifiedEvidence | None = None,
) -> Decision:
    """Allow or Deny `request` by `snapshot` at `now` (UTC). `seen` is the first sighting of the same evidence, if any.

    `verified` may be what `verify_evidence` gave for the same evidence and the same snapshot before.
    """
    return examine(request, snapshot, now, seen=seen, verified=verified).decision


def examine(
    request: AccessRequest,
    snapshot: Snapshot,
    now: datetime,
    *,
    seen: Sighting | None = None,
    verified: VerifiedEvidence | None = None,
) -> Examination:
    """The same as `decide`, with every check that was made."""
    try:
        if verified is None:
            verified = verify_evidence(request.evidence, snapshot)
    except Refused as refused:
        return _ended(refused.finding, refused.entity_id)
    summary, asked = question(request, snapshot, verified, now, seen=seen)
    checks = (*_VERIFIED, *asked)
    findings = findings_of(checks)
    decision: Decision = (
        Deny(findings=findings, assertion=summary, entity_id=verified.provider.entity_id)
        if findings
        else Allow(assertion=summary)
    )
    return Examination(decision=decision, checks=checks, not_reached=())


def question(
    request: AccessRequest, snapshot: Snapshot, content: ReadEvidence, now: datetime, *, seen: Sighting | None = None
) -> tuple[AssertionSummary, tuple[Check, ...]]:
    """Every rule, re-use included, asked of `content`; whether a signature vouches for that content is not asked.

    All are asked even where one objects, so that all findings show.
    """
    facts = _facts(request, snapshot, content, now)
    checks = [*_trust(content, now)]
    for rule in RULES:
        checks.extend(rule(facts))
    summary = _summary(content, facts)
    checks.extend(check_reuse(summary, content.policy, request, seen, now))
    return summary, tuple(checks)


def mode_of(request: AccessRequest, snapshot: Snapshot) -> Mode:
    """Whether a deny of this request is enforced. Unknown rules are enforced."""
    rule, _ = _rule(request, snapshot)
    return Mode.ENFORCE if rule is None else rule.mode


def _rule(request: AccessRequest, snapshot: Snapshot) -> tuple[FasRule | None, bool]:
    if not snapshot.rules:
        return None, True
    rule = snapshot.rules.get(request.rule or DEFAULT_RULE)
    return rule, rule is not None


def _facts(request: AccessRequest, snapshot: Snapshot, content: ReadEvidence, now: datetime) -> Facts:
    rule, known = _rule(request, snapshot)
    return Facts(
        request=request,
        policy=content.policy,
        rule=rule,
        rule_is_known=known,
        entity_id=content.provider.entity_id,
        response=content.response,
        assertion=content.assertion,
        certificates=content.certificates,
        times=times_of(content.assertion),
        now=now,
    )


def _trust(content: ReadEvidence, now: datetime) -> Iterator[Check]:
    """What depends on the time about the IdP and its certificates."""
    deny_after = content.provider.deny_after
    if deny_after is not None:
        yield Check(
            reason=AccessReason.METADATA_STALE,
            passed=now <= deny_after,
            expected=deny_after,
            presented=now,
            where=content.provider.entity_id,
        )
    for certificate in content.certificates if content.policy.enforce_certificate_dates else ():
        dates = certificate.x509.not_valid_before_utc, certificate.x509.not_valid_after_utc
        yield Check(
            reason=TrustReason.CERTIFICATE_EXPIRED,
            passed=dates[0] <= now <= dates[1],
            expected=now,
            presented=("from", dates[0], "until", dates[1]),
            where=certificate.sha256,
        )


def _summary(content: ReadEvidence, facts: Facts) -> AssertionSummary:
    retiring = [each.since for each in content.certificates if each.state is CertificateState.RETIRING]
    authenticated = [time.instant for time in facts.times.authn if time.instant is not None]
    return AssertionSummary(
        issuer=content.provider.entity_id,
        assertion_id=content.assertion.assertion_id,
        content_sha256=content.content_sha256,
        certificate_sha256=content.certificates[-1].sha256 if content.certificates else "",
        signed=content.signed,
        encrypted=content.encrypted,
        upn=mapped_upn(facts),
        issue_instant=facts.times.issue.instant,
        authn_instant=authenticated[0] if authenticated else None,
        retiring_since=min(retiring, default=None),
    )


def _ended(finding: Finding, entity_id: str | None) -> Examination:
    reached = VERIFICATION.index(_STEP.get(finding.reason, finding.reason))
    objection = Check(
        reason=finding.reason,
        passed=False,
        expected=finding.expected,
        presented=finding.presented,
        where=finding.where,
    )
    return Examination(
        decision=Deny(findings=(finding,), entity_id=entity_id),
        checks=(*_VERIFIED[:reached], objection),
        not_reached=VERIFICATION[reached + 1 :],
    )
