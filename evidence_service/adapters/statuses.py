"""What is known of each IdP at a moment, gathered from where it is stored: what alarms are computed from."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from evidence_service.adapters.config_store import ConfigStore, Conflict, NotFound, StoredIdp
from evidence_service.adapters.snapshots import MAX_METADATA_AGE
from evidence_service.adapters.trust_store import RolloverState, StoredRollover, StoredSource, TrustStore, UnknownSigner
from idp_certs.alarms import IdpStatus, UnknownKey, WithheldRollover
from idp_certs.reasons import Finding, TrustReason


def read_statuses(
    config: ConfigStore, trust: TrustStore, *, denies: bool, max_age: timedelta = MAX_METADATA_AGE
) -> Iterator[IdpStatus]:
    """The status of every enabled IdP, by entity ID.

    `denies`: metadata older than it may be ends trust; `max_age` is the limit of metadata without validUntil. Raises
    StoreUnavailable.
    """
    sources = {each.entity_id: each for each in trust.list_sources()}
    held: dict[str, list[StoredRollover]] = {}
    for rollover in trust.list_rollovers(state=RolloverState.HELD):
        held.setdefault(rollover.entity_id, []).append(rollover)
    rejected: dict[str, set[str]] = {}
    for rollover in trust.list_rollovers(state=RolloverState.REJECTED):
        rejected.setdefault(rollover.entity_id, set()).update(each.sha256 for each, _ in rollover.withheld)
    unknown: dict[str, list[UnknownSigner]] = {}
    for key in trust.unknown_signers():
        unknown.setdefault(key.entity_id, []).append(key)
    for idp in config.list_idps():
        if not idp.enabled:
            continue
        source = sources.get(idp.entity_id)
        failing, failing_since = _failure(source)
        known = {each.sha256 for each in idp.certificates}
        yield IdpStatus(
            entity_id=idp.entity_id,
            certificates=idp.certificates,
            listed=_listed(trust, idp),
            subscribed=source is not None,
            confirmed=_confirmed(idp),
            obtained=_obtained(idp, source),
            valid_until=idp.valid_until,
            served_at=None if source is None else source.state.served_at,
            failing=failing,
            failing_since=failing_since,
            withheld=tuple(
                WithheldRollover(
                    rollover_id=each.id,
                    certificates=tuple(certificate.sha256 for certificate, _ in each.withheld),
                    finding=each.finding,
                    first_seen=each.first_seen,
                )
                for each in held.get(idp.entity_id, ())
            ),
            unknown_keys=tuple(
                UnknownKey(
                    certificate_sha256=each.certificate_sha256,
                    subject=each.subject,
                    first_seen=each.first_seen,
                    last_seen=each.last_seen,
                    denials=each.denials,
                )
                for each in unknown.get(idp.entity_id, ())
                if each.certificate_sha256 not in known
            ),
            rejected=frozenset(rejected.get(idp.entity_id, ())),
            damaged=idp.problem,
            max_age=max_age,
            denies=denies,
        )


def _failure(source: StoredSource | None) -> tuple[Finding | None, datetime | None]:
    if source is None:
        return None, None
    if source.problem is not None:
        finding = Finding(
            reason=TrustReason.METADATA_URL, expected="the source as it was set", presented=source.problem
        )
        return finding, None
    return source.state.finding, source.state.problem_since


def _confirmed(idp: StoredIdp) -> datetime:
    return idp.imported_at if idp.refreshed_at is None else max(idp.imported_at, idp.refreshed_at)


def _obtained(idp: StoredIdp, source: StoredSource | None) -> datetime:
    if source is None or source.state.document_sha256 != idp.document_sha256:
        return idp.imported_at
    return source.state.changed_at or idp.imported_at


def _listed(trust: TrustStore, idp: StoredIdp) -> frozenset[str]:
    """The certificates that the document in force lists."""
    if idp.problem is not None:
        return frozenset()
    try:
        held = trust.load_trust(idp.entity_id)
    except (NotFound, Conflict):
        return frozenset()  # removed or damaged since the list was read; the next look says so
    return frozenset(each.certificate.sha256 for each in held.certificates if each.absent_since is None)
