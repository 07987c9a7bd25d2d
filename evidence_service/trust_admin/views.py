"""What is known of IdPs, for people and programs: the same members in the command line's JSON and in the API."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from evidence_service.access.policy import dump_policy, policy_problems
from evidence_service.adapters.config_store import Conflict, NotFound, StoredIdp
from evidence_service.adapters.trust_store import (
    HistoryEntry,
    RolloverState,
    StoredAlarm,
    StoredRollover,
    StoredSource,
    UnknownSigner,
)
from evidence_service.trust_admin.acts import Looked, TrustAdmin
from evidence_service.trust_admin.documents import Diff, Fate, Signature, Unusable
from evidence_service.trust_admin.texts import instant, metadata_finding
from idp_certs.alarms import Severity
from idp_certs.fetch import Fetched
from idp_certs.model import GOOD, CertificateState, SigningCertificate
from idp_certs.reasons import Finding
from idp_certs.refresh import RefreshOutcome
from idp_certs.rollover import Change
from idp_certs.usage import UNUSED, Advice, CertificateUsage, usage_advice

SOON = timedelta(days=30)
SHORT_ID = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateView:
    """One certificate with its past. Times are UTC; `announced` and `trusted` are when it first was so.

    `rollover_id`: it waits there for a person; then `state` is "waiting".
    """

    certificate: SigningCertificate
    state: str
    announced: datetime | None = None
    trusted: datetime | None = None
    absent_since: datetime | None = None
    usage: CertificateUsage = UNUSED
    advice: Advice | None = None
    rollover_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IdpView:
    """Everything about one IdP at a moment."""

    idp: StoredIdp
    source: StoredSource | None
    alarms: tuple[StoredAlarm, ...]
    rollovers: tuple[StoredRollover, ...]
    unknown_signers: tuple[UnknownSigner, ...]
    certificates: tuple[CertificateView, ...]


def short_id(entity_id: str) -> str:
    """The IdP's name in addresses: the first 16 hexadecimal digits of the SHA-256 of its entity ID."""
    return hashlib.sha256(entity_id.encode("utf-8", "surrogateescape")).hexdigest()[:SHORT_ID]


def find_entity_id(admin: TrustAdmin, name: str) -> str:
    """The entity ID of the IdP with this short ID or entity ID. Raises NotFound.

    A short ID means the IdP whose it is, even where another IdP has chosen it for its entity ID.
    """
    known = [idp.entity_id for idp in admin.config.list_idps()]
    for entity_id in known:
        if name == short_id(entity_id):
            return entity_id
    if name in known:
        return name
    raise NotFound(f"no identity provider {name!r} is registered")


SHORTEST_ROLLOVER = 8


def find_rollover(admin: TrustAdmin, name: str) -> StoredRollover:
    """The rollover with this ID, or the only one whose ID begins so. Raises NotFound and Unusable."""
    if SHORTEST_ROLLOVER <= len(name) < SHORT_ID:
        found = [each for each in admin.trust.list_rollovers() if each.id.startswith(name.lower())]
        if len(found) > 1:
            raise Unusable("rollover", f"rollover: {name} begins {len(found)} IDs; give more digits")
        if found:
            return found[0]
    return admin.trust.get_rollover(name)


def view_idps(admin: TrustAdmin, now: datetime) -> tuple[IdpView, ...]:
    """All IdPs by entity ID."""
    return tuple(_view(admin, idp, now) for idp in admin.config.list_idps())


def view_idp(admin: TrustAdmin, entity_id: str, now: datetime) -> IdpView:
    """One IdP. Raises NotFound."""
    return _view(admin, admin.config.get_idp(entity_id), now)


def _view(admin: TrustAdmin, idp: StoredIdp, now: datetime) -> IdpView:
    trust, entity_id = admin.trust, idp.entity_id
    try:
        source = trust.get_source(entity_id)
    except NotFound:
        source = None
    held = tuple(each for each in trust.list_rollovers(state=RolloverState.HELD) if each.entity_id == entity_id)
    return IdpView(
        idp=idp,
        source=source,
        alarms=trust.open_alarms(entity_id),
        rollovers=held,
        unknown_signers=trust.unknown_signers(entity_id),
        certificates=tuple(_certificates(admin, idp, held, now)),
    )


def _certificates(
    admin: TrustAdmin, idp: StoredIdp, held: Sequence[StoredRollover], now: datetime
) -> Iterable[CertificateView]:
    usage = admin.trust.usage(idp.entity_id)
    history = admin.trust.history(idp.entity_id)
    advice = {each.sha256: each for each in usage_advice(idp.certificates, usage, now)}
    try:
        tracked = admin.trust.load_trust(idp.entity_id).certificates
    except (NotFound, Conflict):
        tracked = ()  # damaged: `idp.problem` says so
    absent = {each.certificate.sha256: each.absent_since for each in tracked}
    waiting = {
        certificate.sha256: (rollover.id, certificate) for rollover in held for certificate, _ in rollover.withheld
    }
    for each in idp.certificates:
        yield CertificateView(
            certificate=each,
            state=each.state.value,
            announced=_first(history, each.sha256, CertificateState.ANNOUNCED),
            trusted=_first(history, each.sha256, CertificateState.TRUSTED),
            absent_since=absent.get(each.sha256),
            usage=usage.get(each.sha256, UNUSED),
            advice=advice.get(each.sha256),
            rollover_id=waiting.pop(each.sha256, (None,))[0],
        )
    for rollover_id, certificate in waiting.values():
        yield CertificateView(certificate=certificate, state="waiting", rollover_id=rollover_id)


def _first(history: Iterable[HistoryEntry], sha256: str, state: CertificateState) -> datetime | None:
    return min((each.at for each in history if each.sha256 == sha256 and each.after is state), default=None)


def condition(view: IdpView) -> tuple[str, Severity | None]:
    """What matters most about an IdP, in a few words, and how much; None where all is well."""
    idp = view.idp
    good = [each for each in idp.certificates if each.state in GOOD]
    failing = view.source is not None and (view.source.problem is not None or view.source.state.finding is not None)
    urgent = [each for each in view.alarms if each.severity is Severity.CRITICAL]
    others = [each for each in view.alarms if each.severity is Severity.WARNING]
    cases = (
        (idp.problem is not None, "damaged", Severity.CRITICAL),
        (bool(policy_problems(idp.policy)), "no usable policy", Severity.CRITICAL),
        (not idp.enabled, "disabled", Severity.WARNING),
        (not good, "no trusted certificate", Severity.CRITICAL),
        (bool(view.rollovers), "rollover waits for approval", Severity.CRITICAL),
        (bool(urgent), urgent[0].kind.replace("_", " ") if urgent else "", Severity.CRITICAL),
        (failing, "metadata not refreshed", Severity.WARNING),
        (bool(others), others[0].kind.replace("_", " ") if others else "", Severity.WARNING),
    )
    return next(((text, severity) for applies, text, severity in cases if applies), ("enabled", None))


def days_left(certificate: SigningCertificate, now: datetime) -> int:
    """Whole days until the certificate's end; negative after it."""
    return (certificate.x509.not_valid_after_utc - now).days


def certificate_problems(certificate: SigningCertificate, now: datetime) -> Iterable[str]:
    """What an administrator should know about a certificate."""
    if not certificate.has_strong_key:
        yield f"{certificate.key_description} is too weak a key; what it signs is denied (certificate_weak_key)"
    if now < certificate.x509.not_valid_before_utc:
        yield f"not valid before {instant(certificate.x509.not_valid_before_utc)}; check the clocks"
    left = certificate.x509.not_valid_after_utc - now
    if left < timedelta(0):
        yield f"expired {-left.days - 1} days ago; denied only where the policy has `enforce_certificate_dates = true`"
    elif left < SOON:
        yield f"expires in {left.days} days; import the IdP's new metadata when it has announced the next one"


def certificate_json(certificate: SigningCertificate, now: datetime) -> dict[str, Any]:
    """A certificate for programs, with provenance and problems."""
    return {
        "sha256": certificate.sha256,
        "key_sha256": certificate.key_sha256,
        "state": certificate.state.value,
        "since": instant(certificate.since),
        "not_before": instant(certificate.x509.not_valid_before_utc),
        "not_after": instant(certificate.x509.not_valid_after_utc),
        "days_left": days_left(certificate, now),
        "key": certificate.key_description,
        "subject": certificate.subject,
        "provenance": certificate.provenance,
        "problems": list(certificate_problems(certificate, now)),
    }


def certificate_view_json(view: CertificateView, now: datetime) -> dict[str, Any]:
    """The same with its past and its use."""
    return {
        **certificate_json(view.certificate, now),
        "state": view.state,
        "rollover": view.rollover_id,
        "announced": _optional(view.announced),
        "trusted": _optional(view.trusted),
        "missing_since": _optional(view.absent_since),
        "sign_ins": view.usage.sign_ins,
        "launches": view.usage.launches,
        "first_used": _optional(view.usage.first_sign_in),
        "last_used": _optional(view.usage.last_sign_in),
        "advice": None if view.advice is None else view.advice.text,
        "safe_to_retire": view.advice is not None and view.advice.safe_to_retire,
    }


def source_json(source: StoredSource, now: datetime) -> dict[str, Any]:
    """A metadata source for programs."""
    state, certificate = source.state, source.config.metadata_certificate
    return {
        "url": source.config.url,
        "ca_pem": source.config.ca_pem,
        "pin_sha256": source.config.pin_sha256,
        "metadata_certificate_sha256": None if certificate is None else hashlib.sha256(certificate).hexdigest(),
        "added_at": instant(source.added_at),
        "added_by": source.added_by,
        "last_attempt": _optional(state.attempted_at),
        "last_success": _optional(state.succeeded_at),
        "last_change": _optional(state.changed_at),
        "next_attempt": instant(state.next_attempt_at),
        "age_seconds": None if state.succeeded_at is None else int((now - state.succeeded_at).total_seconds()),
        "failures": state.failures,
        "problem": source_problem(source),
        "problem_code": state.problem,
        "problem_since": _optional(state.problem_since),
    }


def source_problem(source: StoredSource) -> str | None:
    """What is wrong with a source, as one line."""
    if source.problem is not None:
        return source.problem
    return None if source.state.finding is None else metadata_finding(source.state.finding)


def idp_json(view: IdpView, now: datetime) -> dict[str, Any]:
    """An IdP for programs."""
    idp = view.idp
    return {
        "id": short_id(idp.entity_id),
        "entity_id": idp.entity_id,
        "enabled": idp.enabled,
        "condition": condition(view)[0],
        "problem": idp.problem,
        "policy": tomllib.loads(dump_policy(idp.policy)),
        "policy_problems": list(policy_problems(idp.policy)),
        "certificates": [certificate_view_json(each, now) for each in view.certificates],
        "sso_urls": list(idp.sso_urls),
        "valid_until": _optional(idp.valid_until),
        "imported_at": instant(idp.imported_at),
        "imported_by": idp.imported_by,
        "document_sha256": idp.document_sha256,
        "source": None if view.source is None else source_json(view.source, now),
        "alarms": [alarm_json(each) for each in view.alarms],
        "rollovers": [rollover_json(each, now) for each in view.rollovers],
        "unknown_signers": [
            {
                "certificate_sha256": each.certificate_sha256,
                "subject": each.subject,
                "first_seen": instant(each.first_seen),
                "last_seen": instant(each.last_seen),
                "denials": each.denials,
            }
            for each in view.unknown_signers
        ],
    }


def alarm_json(alarm: StoredAlarm) -> dict[str, Any]:
    """An alarm for programs."""
    return {
        "about": alarm.about,
        "kind": alarm.kind,
        "entity_id": alarm.entity_id,
        "subject": alarm.entity_id,
        "key": alarm.key,
        "severity": alarm.severity.value,
        "text": alarm.text,
        "raised_at": instant(alarm.raised_at),
    }


def rollover_json(rollover: StoredRollover, now: datetime) -> dict[str, Any]:
    """A rollover for programs."""
    return {
        "id": rollover.id,
        "entity_id": rollover.entity_id,
        "state": rollover.state.value,
        "problem": rollover.problem,
        "finding": finding_json(rollover.finding),
        "certificates": [
            {**certificate_json(each, now), "state": "waiting", "before": None if before is None else before.value}
            for each, before in rollover.withheld
        ],
        "document_sha256": rollover.document_sha256,
        "provenance": dict(rollover.provenance),
        "first_seen": instant(rollover.first_seen),
        "last_seen": instant(rollover.last_seen),
        "sightings": rollover.sightings,
        "decided_at": _optional(rollover.decided_at),
        "decided_by": rollover.decided_by,
        "note": rollover.note,
    }


def history_json(entry: HistoryEntry) -> dict[str, Any]:
    """One change of a certificate's state for programs."""
    return {
        "at": instant(entry.at),
        "event": entry.event.value,
        "before": None if entry.before is None else entry.before.value,
        "after": entry.after.value,
        "actor": entry.actor,
        "provenance": dict(entry.provenance),
    }


def usage_json(usage: CertificateUsage) -> dict[str, Any]:
    """Use for programs, with sign-ins per day."""
    return {
        "sign_ins": usage.sign_ins,
        "launches": usage.launches,
        "late_sign_ins": usage.late_sign_ins,
        "first": _optional(usage.first_sign_in),
        "last": _optional(usage.last_sign_in),
        "per_day": {day.isoformat(): count for day, count in sorted(usage.per_day.items())},
    }


def finding_json(finding: Finding) -> dict[str, str]:
    """A finding for programs."""
    return {
        "reason": finding.reason.value,
        "expected": finding.expected,
        "presented": finding.presented,
        "where": finding.where,
    }


def diff_json(diff: Diff, signature: Signature | None, now: datetime) -> dict[str, Any]:
    """A diff for programs."""
    return {
        "certificates": [{"change": fate.value, **certificate_json(each, now)} for fate, each in diff.certificates],
        "signature": None
        if signature is None
        else {"by": signature.by.value, "certificate_sha256": signature.sha256, "text": signature.text},
        "problems": [metadata_finding(each) for each in diff.problems],
    }


def _optional(value: datetime | None) -> str | None:
    return None if value is None else instant(value)


def outcome_json(outcome: RefreshOutcome) -> dict[str, Any]:
    """What came of a refresh, for programs."""
    return {
        "entity_id": outcome.entity_id,
        "outcome": outcome.outcome.value,
        "finding": None if outcome.finding is None else finding_json(outcome.finding),
        "changes": changes_json(outcome.changes),
        "problems": [metadata_finding(each) for each in outcome.problems],
        "next_attempt": _optional(outcome.next_attempt_at),
    }


def refreshed_json(looked: Looked) -> dict[str, Any]:
    """The same with what the document lacks, and what it lists that a person turned down (SHA-256)."""
    diff = looked.diff
    return {
        **outcome_json(looked.outcome),
        "missing": [] if diff is None else [each.sha256 for each in diff.of(Fate.MISSING)],
        "rejected": [] if diff is None else [each.sha256 for each in diff.of(Fate.REJECTED)],
    }


def changes_json(changes: Iterable[Change]) -> list[dict[str, Any]]:
    """Certificates that changed state, for programs."""
    return [
        {
            "sha256": each.certificate.sha256,
            "before": None if each.before is None else each.before.value,
            "after": each.certificate.state.value,
            "event": each.event.value,
            "voucher": None if each.voucher is None else each.voucher.value,
        }
        for each in changes
    ]


def fetched_json(fetched: Fetched) -> dict[str, Any]:
    """How a document came, for programs."""
    return {
        "final_url": fetched.final_url,
        "address": fetched.address,
        "tls_chain_sha256": list(fetched.tls_chain_sha256),
    }
