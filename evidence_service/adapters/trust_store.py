"""Trust as it changes over time: metadata sources, refreshes, held rollovers, acts on certificates, use, alarms.

Every change is one transaction: certificates, their history, the journal, the seal of the IdP and the configuration
counter, by which every process that decides takes it over. A certificate that waits for a person is nowhere but in
its rollover.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, Engine, Row, delete, func, insert, or_, select, union_all, update
from sqlalchemy.dialects.sqlite import insert as upsert

from evidence_service.adapters.config_store import read_rules
from evidence_service.adapters.database import alarms as alarm_rows
from evidence_service.adapters.database import (
    certificate_history,
    documents,
    idps,
    outbox,
    reading,
    rollovers,
    source_states,
    unknown_signers,
    usage,
    writing,
)
from evidence_service.adapters.idp_rows import (
    Conflict,
    NotFound,
    StoredIdp,
    change_idp,
    find_intact_idp,
    json_text,
    printable,
    raise_counter,
    read_revoked_keys,
    record_act,
    replace_certificates,
    seal_idp,
    write_act,
    write_history,
)
from evidence_service.adapters.outbox import KEPT, load_message, put
from evidence_service.adapters.rollover_rows import (
    RolloverState,
    StoredRollover,
    read_rollovers,
    rollover_id,
    settle,
    supersede,
    write_rollover,
)
from evidence_service.adapters.source_rows import (
    MAX_COUNT,
    SourceConfig,
    SourceState,
    StoredSource,
    checked_source,
    delete_source,
    find_source,
    finding_values,
    read_sources,
    write_source,
)
from evidence_service.notices.alarms import alarm_message, end_is_told, over_message, thing_of, worth_telling
from evidence_service.notices.model import About, Message
from idp_certs.alarms import Alarm, Severity, UnknownKey
from idp_certs.model import GOOD, Acceptance, CertificateState, SigningCertificate
from idp_certs.reasons import Finding
from idp_certs.refresh import Accepted
from idp_certs.rollover import (
    TRANSITIONS,
    Applied,
    Change,
    Event,
    Held,
    NotAllowedError,
    ProviderTrust,
    RolloverPolicy,
    TrackedCertificate,
    Unchanged,
    Voucher,
    next_state,
    plan_upkeep,
)
from idp_certs.schedule import MIN_INTERVAL
from idp_certs.usage import CertificateUsage

__all__ = (
    "Accepted",
    "Claim",
    "Conflict",
    "HistoryEntry",
    "NotFound",
    "RolloverState",
    "SourceConfig",
    "SourceState",
    "StoredAlarm",
    "StoredRollover",
    "StoredSource",
    "TrustStore",
    "UnknownSigner",
)

REFRESH, UPKEEP, ALARMS = "system:refresh", "system:upkeep", "system:alarms"
"""Who the journal names for what no person did."""

_BY_HAND = {
    Event.APPROVE: CertificateState.TRUSTED,
    Event.RETIRE: CertificateState.RETIRING,
    Event.REVOKE: CertificateState.REVOKED,
    Event.REINSTATE: CertificateState.TRUSTED,
}
"""What a person can do to a certificate, and the state in which it is done already."""

_FUTURE = timedelta(days=1)
_ABOUT_IDPS = frozenset({About.IDP.value})
_SEVERITIES = tuple(Severity)
"""The least severe first."""
COMES_AND_GOES, TOLD_AGAIN_AFTER = timedelta(hours=1), timedelta(days=1)
"""An alarm that ended no longer ago comes and goes: people are told of it again after so long, and of its end later."""
_SUPERSEDED_KEPT = 16
"""Holds of one IdP that ended undecided."""
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_FIRST_DAY = date(1970, 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to refresh one source, until another process claims it (then `epoch` is stale).

    `trust`, `acceptance` and `document_sha256` (the document in force, hex) are as stored when it was claimed.
    `evidence_age` is how old evidence of this IdP may be at most, clock skew included. `hastened`: not due, but an
    unknown key signs.
    """

    entity_id: str
    epoch: int
    hastened: bool
    source: StoredSource
    trust: ProviderTrust
    acceptance: Acceptance
    evidence_age: timedelta
    document_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """One change of a certificate's state, and what vouched for it (promise 41)."""

    entity_id: str
    sha256: str
    at: datetime
    event: Event
    before: CertificateState | None
    after: CertificateState
    actor: str
    provenance: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownSigner(UnknownKey):
    """An unknown key, and the IdP in whose evidence it was seen."""

    entity_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAlarm(Alarm):
    """An alarm and how long it has stood, or stood. Times are UTC."""

    seq: int
    raised_at: datetime
    cleared_at: datetime | None = None


class TrustStore:
    """Reads and changes trust. Every method may raise StoreUnavailable; every `now` is aware."""

    def __init__(self, engine: Engine) -> None:
        """Work on an open database."""
        self._engine = engine

    def add_source(
        self, *, entity_id: str, source: SourceConfig, now: datetime, actor: str, jitter: float, seen: Accepted | None
    ) -> StoredSource:
        """Fetch the metadata of a registered IdP from `source` from now on, instead of from where it was before.

        `seen` is the document that was fetched from it and imported just now; of another one nothing is remembered.
        Raises NotFound for an IdP that is not registered, and Conflict for a damaged one or a source that cannot be
        used.
        """
        config = checked_source(source)
        with writing(self._engine) as connection:
            idp, _ = find_intact_idp(connection, entity_id)
            before = find_source(connection, entity_id)
            confirmed = seen is not None and seen.document_sha256 == idp.document_sha256
            values: dict[str, object] = {}
            if seen is not None and confirmed:
                values = _document_values(seen) | {"attempted_at": now, "succeeded_at": now, "changed_at": now}
                change_idp(connection, entity_id, refreshed_at=now)
            state = SourceState(
                next_attempt_at=now + MIN_INTERVAL * (1 - jitter) if confirmed else now,
                jitter=jitter,
                # An attempt at the source that was here before must not count for this one.
                epoch=0 if before is None else before.state.epoch + 1,
            )
            stored = StoredSource(
                entity_id=entity_id, config=config, added_at=now, added_by=printable(actor), state=state
            )
            write_source(connection, stored, document_values=values)
            detail = {
                **_config_detail(config),
                "before": None if before is None else before.config.url,
                "seen": None if seen is None else _provenance(seen),
            }
            record_act(
                connection, now=now, actor=actor, act="source_added", subject=entity_id, detail=detail, trust=False
            )
            return find_source(connection, entity_id) or stored

    def remove_source(self, entity_id: str, *, now: datetime, actor: str) -> None:
        """Fetch no more. Trust stays as it is. Raises NotFound."""
        with writing(self._engine) as connection:
            stored = _source_of(connection, entity_id)
            delete_source(connection, entity_id)
            detail = {**_config_detail(stored.config), "problem": stored.problem}
            record_act(
                connection, now=now, actor=actor, act="source_removed", subject=entity_id, detail=detail, trust=False
            )

    def list_sources(self) -> tuple[StoredSource, ...]:
        """All sources by entity ID; damaged ones carry their `problem`."""
        with reading(self._engine) as connection:
            return read_sources(connection)

    def get_source(self, entity_id: str) -> StoredSource:
        """The source of one IdP. Raises NotFound."""
        with reading(self._engine) as connection:
            return _source_of(connection, entity_id)

    def claim(
        self, now: datetime, *, owner: str, lease: timedelta, cool_down: timedelta, hasten_budget: int
    ) -> Claim | None:
        """The one source that is due, or that an unknown key asks for; nobody else gets it for the `lease`.

        A source is hastened at most once in a `cool_down`, and `hasten_budget` sources together. What is due goes
        first, so that unknown keys cannot hold it up (promise 27). A damaged source or IdP is left alone.
        """
        with reading(self._engine) as connection:  # asked often, and mostly in vain: without the lock for writing
            if not _may_be_due(connection, now):
                return None
            if _next_claim(connection, now, cool_down, hasten_budget) is None:
                return None
        with writing(self._engine) as connection:
            found = _next_claim(connection, now, cool_down, hasten_budget)
            return None if found is None else _take(connection, found, now, owner, lease)

    def claim_one(self, entity_id: str, now: datetime, *, owner: str, lease: timedelta) -> Claim | None:
        """The source of this IdP, due or not; None while another process has it.

        Raises NotFound, and Conflict for a damaged one.
        """
        with writing(self._engine) as connection:
            source = _source_of(connection, entity_id)
            if source.problem is not None:
                raise Conflict(f"the source of {entity_id}: {source.problem}")
            if _is_claimed(source.state, now):
                return None
            return _take(connection, _claim_of(connection, source, hastened=False), now, owner, lease)

    def next_instant(self, now: datetime) -> datetime | None:
        """When the next source is due (not before `now`); None without any."""
        with reading(self._engine) as connection:
            instants = []
            for source in read_sources(connection):
                if source.problem is not None or not _is_intact(connection, source.entity_id):
                    continue
                instant = _due(source.state, now)
                if source.state.claimed_until is not None and _is_claimed(source.state, now):
                    instant = max(instant, source.state.claimed_until)
                instants.append(max(instant, now))
        return min(instants, default=None)

    def publish(
        self,
        claim: Claim,
        rollover: Unchanged | Applied | Held,
        accepted: Accepted,
        *,
        now: datetime,
        next_attempt_at: datetime,
    ) -> bool:
        """Put into force what `rollover` says of the document.

        One that brings what waits for a person is not in force itself: how long metadata is valid, what counts as
        older and what a 304 speaks of stay those of the last document that was accepted as a whole (promise 21).

        False: the claim is stale, or trust changed since it was made, and nothing of the document is written. Raises
        Conflict where the rows of the IdP are damaged, and for what no document may do.
        """
        _check_automatic(claim, rollover, accepted)
        with writing(self._engine) as connection:
            source = _claimed(connection, claim)
            if source is None:
                return False
            idp, tracked = find_intact_idp(connection, claim.entity_id)
            if _trust(connection, idp, tracked) != claim.trust or idp.policy.acceptance is not claim.acceptance:
                # A person acted in the meantime, and the plan was made without it.
                _give_back(connection, source, now)
                return False
            changes = () if isinstance(rollover, Unchanged) else rollover.changes
            metadata, digest = accepted.metadata, accepted.document_sha256
            connection.execute(
                upsert(documents)
                .values(sha256=digest, content=accepted.document, stored_at=now)
                .on_conflict_do_nothing(index_elements=["sha256"])
            )
            in_force = not isinstance(rollover, Held)
            values: dict[str, Any] = {"refreshed_at": now}
            if in_force:
                values |= {
                    "document_sha256": digest,
                    "valid_until": metadata.valid_until,
                    "sso_urls": json_text(list(metadata.sso_urls)),
                }
            connection.execute(update(idps).where(idps.c.entity_id == claim.entity_id).values(**values))
            told = _provenance(accepted)
            _put(
                connection,
                claim.entity_id,
                rollover.certificates,
                changes,
                now=now,
                actor=REFRESH,
                provenance=told,
            )
            state = _success(now, next_attempt_at)
            if in_force:
                state |= _document_values(accepted)
            if changes or (in_force and digest != idp.document_sha256):
                state["changed_at"] = now
            _set_state(connection, claim.entity_id, state)
            _write_publication(connection, claim.entity_id, rollover, accepted, now)
            before = source.state.document_sha256
            if not in_force:
                _forget_document(connection, claim.entity_id, digest)
            elif before is not None and before == idp.document_sha256:  # it was fetched
                _forget_document(connection, claim.entity_id, before)
            moved = bool(changes) or (in_force and metadata.valid_until != idp.valid_until)
            raise_counter(connection, trust_changed_at=now if moved else None)
            return True

    def publish_unmodified(
        self, claim: Claim, *, now: datetime, next_attempt_at: datetime, served_at: datetime | None
    ) -> bool:
        """The source confirmed what is held. False: the claim is stale. Raises Conflict for a damaged IdP."""
        with writing(self._engine) as connection:
            source = _claimed(connection, claim)
            if source is None:
                return False
            idp, _ = find_intact_idp(connection, claim.entity_id)
            if idp.document_sha256 != claim.document_sha256:
                _give_back(connection, source, now)
                return False
            change_idp(connection, claim.entity_id, refreshed_at=now)
            _end_holds(connection, claim.entity_id)  # nothing waits in what is in force
            _set_state(connection, claim.entity_id, _success(now, next_attempt_at) | {"served_at": served_at})
            raise_counter(connection, trust_changed_at=None)
            return True

    def fail(self, claim: Claim, finding: Finding, *, now: datetime, next_attempt_at: datetime) -> bool:
        """The attempt came to nothing, and trust stays. False: the claim is stale."""
        with writing(self._engine) as connection:
            source = _claimed(connection, claim)
            if source is None:
                return False
            state = source.state
            same = state.finding is not None and state.finding.reason == finding.reason
            _set_state(
                connection,
                claim.entity_id,
                {
                    **finding_values(finding),
                    "problem_since": state.problem_since if same and state.problem_since is not None else now,
                    "failures": state.failures + 1,
                    "next_attempt_at": next_attempt_at,
                    "claimed_by": None,
                    "claimed_until": None,
                },
            )
            return True

    def upkeep(self, now: datetime) -> tuple[tuple[str, Change], ...]:
        """What use and time change, of all intact IdPs: entity ID and change."""
        with reading(self._engine) as connection:
            names = connection.scalars(select(idps.c.entity_id).where(idps.c.removed_at.is_(None)))
            concerned = [each for each in names.all() if _kept_up(connection, each, now) is not None]
        done: list[tuple[str, Change]] = []
        for entity_id in concerned:
            with writing(self._engine) as connection:
                plan = _kept_up(connection, entity_id, now)
                if plan is None:
                    continue
                told = {"source": "upkeep"}
                _put(connection, entity_id, plan.certificates, plan.changes, now=now, actor=UPKEEP, provenance=told)
                for each in plan.changes:
                    act = f"certificate_{each.certificate.state.value}"
                    detail = {"certificates": [each.certificate.sha256], **_change_detail(each)}
                    write_act(connection, now=now, actor=UPKEEP, act=act, subject=entity_id, detail=detail)
                raise_counter(connection, trust_changed_at=now)
            done += [(entity_id, each) for each in plan.changes]
        return tuple(done)

    def list_rollovers(self, *, state: str | None = None) -> tuple[StoredRollover, ...]:
        """All rollovers, or those in one state, oldest first; damaged ones, whatever their state, carry a `problem`."""
        with reading(self._engine) as connection:
            return tuple(
                each
                for each in read_rollovers(connection)
                if state is None or each.state == state or each.problem is not None
            )

    def get_rollover(self, rollover_id: str) -> StoredRollover:
        """One rollover. Raises NotFound."""
        with reading(self._engine) as connection:
            return _rollover(connection, rollover_id)

    def approve_rollover(self, rollover_id: str, *, now: datetime, actor: str, note: str = "") -> tuple[Change, ...]:
        """Trust what waits: a new certificate is announced, one that was withdrawn is trusted again.

        Raises NotFound, and Conflict for one that is damaged or decided (a rejected one may be approved), and for a
        revoked key.
        """
        with writing(self._engine) as connection:
            stored = _rollover(connection, rollover_id)
            if stored.problem is not None:
                raise Conflict(f"rollover {rollover_id} cannot be approved: {stored.problem}")
            _check_undecided(stored, RolloverState.HELD, RolloverState.REJECTED)
            idp, tracked = find_intact_idp(connection, stored.entity_id)
            trust = _trust(connection, idp, tracked)
            outcome = {each.certificate.sha256: each for each in tracked}
            changes = []
            for certificate, _ in stored.withheld:
                known = trust.find(certificate.sha256)
                if known is not None and known.certificate.state in GOOD:
                    continue
                _check_not_revoked(trust, certificate)
                change = _approved(certificate, known, now=now, actor=actor)
                outcome[certificate.sha256] = TrackedCertificate(certificate=change.certificate)
                changes.append(change)
            told = {**stored.provenance, "rollover": stored.id, "approved_by": printable(actor), "note": note}
            _put(
                connection,
                stored.entity_id,
                outcome.values(),
                changes,
                now=now,
                actor=actor,
                provenance=told,
            )
            write_rollover(connection, _decided(stored, RolloverState.APPROVED, now=now, actor=actor, note=note))
            detail = {**told, "changes": [_change_detail(each) for each in changes]}
            record_act(
                connection, now=now, actor=actor, act="rollover_approved", subject=stored.entity_id, detail=detail
            )
            return tuple(changes)

    def reject_rollover(self, rollover_id: str, *, now: datetime, actor: str, note: str = "") -> None:
        """Let what waits wait no longer, now and in later documents. Raises NotFound and Conflict.

        A damaged one is emptied by that: what still waits is held anew by the next refresh.
        """
        with writing(self._engine) as connection:
            stored = _rollover(connection, rollover_id)
            if stored.problem is None:
                _check_undecided(stored, RolloverState.HELD)
            write_rollover(connection, _decided(stored, RolloverState.REJECTED, now=now, actor=actor, note=note))
            detail = {
                "rollover": stored.id,
                "certificates": [certificate.sha256 for certificate, _ in stored.withheld],
                "note": note,
                "problem": stored.problem,
            }
            record_act(
                connection,
                now=now,
                actor=actor,
                act="rollover_rejected",
                subject=stored.entity_id,
                detail=detail,
                trust=False,
            )

    def act(
        self, entity_id: str, sha256: str, event: Event, *, now: datetime, actor: str, note: str = ""
    ) -> tuple[Change, ...]:
        """Approve, retire, revoke or reinstate a certificate by hand; what is so already does not change.

        A certificate that waits can be approved and revoked. Revoking, and reinstating what is revoked, concern the
        key: other certificates of this IdP for it go along. Raises NotFound, and Conflict for what TRANSITIONS does
        not allow or a damaged row.
        """
        if event not in _BY_HAND:
            raise Conflict(f"{event} is nothing that a person does to a certificate")
        with writing(self._engine) as connection:
            idp, tracked = find_intact_idp(connection, entity_id)
            trust = _trust(connection, idp, tracked)
            waiting = _waiting(connection, entity_id, sha256.lower())
            try:
                changes = _changes_by_hand(trust, sha256.lower(), event, waiting, now=now, actor=actor)
            except NotAllowedError as error:
                raise Conflict(f"certificate {sha256.lower()} of {entity_id}: {error}") from error
            if not changes:
                return ()
            outcome = {each.certificate.sha256: each for each in tracked}
            for each in changes:
                digest = each.certificate.sha256
                if digest in outcome and each.certificate.state not in GOOD:
                    outcome[digest] = replace(outcome[digest], certificate=each.certificate)
                else:  # sightings of its absence count anew
                    outcome[digest] = TrackedCertificate(certificate=each.certificate)
            told: dict[str, Any] = {"note": note}
            if waiting is not None:
                told = {**waiting.provenance, "rollover": waiting.id, "note": note}
            _put(connection, entity_id, outcome.values(), changes, now=now, actor=actor, provenance=told)
            digests = {each.certificate.sha256 for each in changes}
            if waiting is not None and all(certificate.sha256 in digests for certificate, _ in waiting.withheld):
                state = RolloverState.REJECTED if event is Event.REVOKE else RolloverState.APPROVED
                write_rollover(connection, _decided(waiting, state, now=now, actor=actor, note=note))
            state_after = changes[0].certificate.state
            before = changes[0].before
            detail = {
                **told,
                "certificates": [each.certificate.sha256 for each in changes],
                "before": None if before is None else before.value,
                "event": event.value,
            }
            act = f"certificate_{state_after.value}"
            record_act(connection, now=now, actor=actor, act=act, subject=entity_id, detail=detail)
            return changes

    def load_trust(self, entity_id: str) -> ProviderTrust:
        """What is held of one IdP. Raises NotFound, and Conflict for a damaged one."""
        with reading(self._engine) as connection:
            return _trust(connection, *find_intact_idp(connection, entity_id))

    def get_document(self, sha256: str) -> bytes:
        """A stored document whose content has this SHA-256 (hex). Raises NotFound, and Conflict for a damaged one."""
        with reading(self._engine) as connection:
            content = connection.scalar(select(documents.c.content).where(documents.c.sha256 == sha256))
        if content is None:
            raise NotFound(f"no metadata document with the SHA-256 {sha256!r} is stored")
        if not isinstance(content, bytes) or hashlib.sha256(content).hexdigest() != sha256:
            raise Conflict(f"the stored metadata document {sha256} was changed from outside; restore a backup")
        return content

    def find_document(self, sha256: str) -> bytes | None:
        """A stored document that is what its name says, if there is one."""
        try:
            return self.get_document(sha256)
        except (NotFound, Conflict):
            return None

    def history(self, entity_id: str, sha256: str | None = None) -> tuple[HistoryEntry, ...]:
        """Every change of this IdP's certificates, or of one, oldest first."""
        statement = select(certificate_history).where(certificate_history.c.entity_id == entity_id)
        if sha256 is not None:
            statement = statement.where(certificate_history.c.sha256 == sha256.lower())
        with reading(self._engine) as connection:
            return tuple(
                HistoryEntry(
                    entity_id=row.entity_id,
                    sha256=row.sha256,
                    at=row.at,
                    event=Event(row.event),
                    before=None if row.before is None else CertificateState(row.before),
                    after=CertificateState(row.after),
                    actor=row.actor,
                    provenance=json.loads(row.provenance),
                )
                for row in connection.execute(statement.order_by(certificate_history.c.seq))
            )

    def usage(self, entity_id: str) -> Mapping[str, CertificateUsage]:
        """How evidence of this IdP was signed, by SHA-256 (hex) of the certificate."""
        with reading(self._engine) as connection:
            return _usage(connection, entity_id)

    def unknown_signers(self, entity_id: str | None = None) -> tuple[UnknownSigner, ...]:
        """Keys that signed plausible evidence and are not known, of one IdP or of all, latest first."""
        statement = select(unknown_signers).order_by(unknown_signers.c.last_seen.desc())
        if entity_id is not None:
            statement = statement.where(unknown_signers.c.entity_id == entity_id)
        with reading(self._engine) as connection:
            return tuple(
                UnknownSigner(
                    entity_id=row.entity_id,
                    certificate_sha256=row.certificate_sha256,
                    subject=row.subject,
                    first_seen=row.first_seen,
                    last_seen=row.last_seen,
                    denials=row.denials,
                )
                for row in connection.execute(statement)
            )

    def sync_alarms(
        self, alarms: Iterable[Alarm], now: datetime, *, about: frozenset[str] = _ABOUT_IDPS
    ) -> tuple[tuple[StoredAlarm, ...], tuple[StoredAlarm, ...]]:
        """Make `alarms` the open ones of those `about` these kinds of things; returns which were raised and cleared.

        Each alarm is about one of `about`. What is raised, or became more severe, is put into the outbox in the same
        transaction, so that nobody is told of it twice while it stands, and of several levels reached at once only of
        the closest. One that comes and goes is told once a day; who was told of one hears once that it is over, when
        that has been so for an hour. Alarms that were cleared are forgotten after 90 days.
        """
        wanted = {_identity(each): each for each in map(_storable, alarms)}
        with reading(self._engine) as connection:
            over = _over(connection, about, wanted.values(), now)
            if not over and _alarm_texts(_open(connection, about)) == _alarm_texts(wanted):
                return (), ()
        with writing(self._engine) as connection:
            standing = _open(connection, about)
            cleared = []
            for identity, old in standing.items():
                new = wanted.get(identity)
                this = alarm_rows.c.seq == old.seq
                if new is None:
                    connection.execute(update(alarm_rows).where(this).values(cleared_at=now))
                    cleared.append(replace(old, cleared_at=now))
                else:
                    connection.execute(
                        update(alarm_rows).where(this).values(severity=new.severity.value, text=new.text)
                    )
            for identity, new in wanted.items():
                if identity not in standing:
                    connection.execute(
                        insert(alarm_rows).values(
                            kind=new.kind,
                            entity_id=new.entity_id,
                            key=new.key,
                            severity=new.severity.value,
                            text=new.text,
                            raised_at=now,
                            about=new.about,
                        )
                    )
            raised = [each for identity, each in _open(connection, about).items() if identity not in standing]
            _tell(connection, wanted, standing, now)
            for message, seqs in _over(connection, about, wanted.values(), now):
                put(connection, message, now)
                connection.execute(update(alarm_rows).where(alarm_rows.c.seq.in_(seqs)).values(told=None))
            forgotten = (alarm_rows.c.cleared_at < now - KEPT, alarm_rows.c.told.is_(None))
            connection.execute(delete(alarm_rows).where(*forgotten))
            for act, concerned in (("alarm_raised", raised), ("alarm_cleared", cleared)):
                for each in concerned:
                    detail = {
                        "about": each.about,
                        "kind": each.kind,
                        "key": each.key,
                        "severity": each.severity.value,
                        "text": each.text,
                    }
                    write_act(connection, now=now, actor=ALARMS, act=act, subject=each.entity_id, detail=detail)
            return tuple(raised), tuple(cleared)

    def open_alarms(
        self, entity_id: str | None = None, *, about: frozenset[str] | None = None
    ) -> tuple[StoredAlarm, ...]:
        """The alarms that stand, oldest first: all, those of one IdP, or those `about` these kinds of things."""
        wanted = _ABOUT_IDPS if about is None and entity_id is not None else about
        with reading(self._engine) as connection:
            standing = _open(connection, wanted)
        return tuple(each for each in standing.values() if entity_id is None or each.entity_id == entity_id)


def _source_of(connection: Connection, entity_id: str) -> StoredSource:
    stored = find_source(connection, entity_id)
    if stored is None:
        raise NotFound(f"no metadata source of {entity_id!r} is set")
    return stored


def _config_detail(config: SourceConfig) -> dict[str, object]:
    """What the journal says of a source; certificates by their digests."""
    return {
        "url": config.url,
        "ca_sha256": None if config.ca_pem is None else hashlib.sha256(config.ca_pem.encode()).hexdigest(),
        "pin_sha256": config.pin_sha256,
        "metadata_certificate_sha256": (
            None if config.metadata_certificate is None else hashlib.sha256(config.metadata_certificate).hexdigest()
        ),
    }


def _provenance(accepted: Accepted) -> dict[str, Any]:
    served = None if accepted.served_at is None else accepted.served_at.isoformat()
    return {**accepted.provenance, "document_sha256": accepted.document_sha256, "served_at": served}


def _document_values(accepted: Accepted) -> dict[str, object]:
    """What `source_states` remembers of an accepted document; nothing else writes its ETag (promise 21)."""
    duration = accepted.metadata.cache_duration
    return {
        "etag": accepted.etag,
        "last_modified": accepted.last_modified,
        "document_sha256": accepted.document_sha256,
        "created": accepted.metadata.created,
        "valid_until": accepted.metadata.valid_until,
        # A duration may be longer than a column holds; it is never waited for that long.
        "cache_duration_us": None if duration is None else min(duration // timedelta(microseconds=1), MAX_COUNT),
        "served_at": accepted.served_at,
    }


def _success(now: datetime, next_attempt_at: datetime) -> dict[str, object]:
    return {
        **finding_values(None),
        "problem_since": None,
        "failures": 0,
        "succeeded_at": now,
        "next_attempt_at": next_attempt_at,
        "claimed_by": None,
        "claimed_until": None,
    }


def _set_state(connection: Connection, entity_id: str, values: Mapping[str, object]) -> None:
    connection.execute(update(source_states).where(source_states.c.entity_id == entity_id).values(**values))


def _trust(connection: Connection, idp: StoredIdp, tracked: tuple[TrackedCertificate, ...]) -> ProviderTrust:
    created = connection.scalar(select(source_states.c.created).where(source_states.c.entity_id == idp.entity_id))
    turned_down = read_rollovers(
        connection, rollovers.c.entity_id == idp.entity_id, rollovers.c.state == RolloverState.REJECTED.value
    )
    return ProviderTrust(
        entity_id=idp.entity_id,
        certificates=tracked,
        created=created,
        valid_until=idp.valid_until,
        rejected=frozenset(certificate.sha256 for each in turned_down for certificate, _ in each.withheld),
        revoked_keys=read_revoked_keys(connection),
    )


def _evidence_age(connection: Connection, idp: StoredIdp) -> timedelta:
    """How old evidence of this IdP may be at most, by whichever FAS rule, clock skew included."""
    ages = [idp.policy.max_age]
    for rule, problem in read_rules(connection):
        applies = rule.entity_ids is None or idp.entity_id in rule.entity_ids
        if problem is None and applies and rule.max_age is not None:
            ages.append(rule.max_age)
    return max(ages) + idp.policy.clock_skew


def _is_intact(connection: Connection, entity_id: str) -> bool:
    try:
        find_intact_idp(connection, entity_id)
    except (NotFound, Conflict):
        return False
    return True


def _past(instant: datetime | None, now: datetime, ahead: timedelta = _FUTURE) -> datetime | None:
    """An instant that is not too far ahead to be true: a clock that was wrong must not stop a source for ever."""
    return None if instant is None or instant > now + ahead else instant


def _due(state: SourceState, now: datetime) -> datetime:
    return _past(state.next_attempt_at, now) or now


def _is_claimed(state: SourceState, now: datetime) -> bool:
    until = _past(state.claimed_until, now)
    return until is not None and until > now


def _is_asked_for(state: SourceState, last_seen: datetime | None, now: datetime, cool_down: timedelta) -> bool:
    """Whether a key that was unknown at the latest attempt signs, and that attempt is long enough ago."""
    last_seen = _past(last_seen, now)
    if last_seen is None:
        return False
    attempted = _past(state.attempted_at, now, cool_down)
    return attempted is None or (last_seen > attempted and now - attempted >= cool_down)


def _may_be_due(connection: Connection, now: datetime) -> bool:
    """Whether any source is due or asked for, by one cheap read; `_next_claim` says which, and whether at all."""
    state = source_states.c
    due = select(state.entity_id).where(or_(state.next_attempt_at <= now, state.next_attempt_at > now + _FUTURE))
    since = or_(
        state.attempted_at.is_(None), state.attempted_at > now, unknown_signers.c.last_seen > state.attempted_at
    )
    asked = select(state.entity_id).where(state.entity_id == unknown_signers.c.entity_id, since)
    return connection.execute(union_all(due, asked).limit(1)).first() is not None


def _next_claim(connection: Connection, now: datetime, cool_down: timedelta, hasten_budget: int) -> Claim | None:
    stored = read_sources(connection)
    free = [each for each in stored if each.problem is None and not _is_claimed(each.state, now)]
    due = sorted((each for each in free if _due(each.state, now) <= now), key=lambda each: _due(each.state, now))
    candidates = [(each, False) for each in due]
    recent = [_past(each.state.hastened_at, now, cool_down) for each in stored]
    if sum(each is not None and now - each < cool_down for each in recent) < hasten_budget:
        latest = func.max(unknown_signers.c.last_seen)
        statement = select(unknown_signers.c.entity_id, latest).group_by(unknown_signers.c.entity_id)
        seen = {row[0]: row[1] for row in connection.execute(statement)}
        asked = [
            each
            for each in free
            if _due(each.state, now) > now and _is_asked_for(each.state, seen.get(each.entity_id), now, cool_down)
        ]
        asked.sort(key=lambda each: _past(each.state.attempted_at, now) or _LONG_AGO)
        candidates += [(each, True) for each in asked]
    for source, hastened in candidates:
        with contextlib.suppress(NotFound, Conflict):  # a damaged IdP
            return _claim_of(connection, source, hastened=hastened)
    return None


def _claim_of(connection: Connection, source: StoredSource, *, hastened: bool) -> Claim:
    """What a claim of this source holds. Raises Conflict for a damaged IdP."""
    idp, tracked = find_intact_idp(connection, source.entity_id)
    return Claim(
        entity_id=source.entity_id,
        epoch=source.state.epoch + 1,
        hastened=hastened,
        source=source,
        trust=_trust(connection, idp, tracked),
        acceptance=idp.policy.acceptance,
        evidence_age=_evidence_age(connection, idp),
        document_sha256=idp.document_sha256,
    )


def _take(connection: Connection, claim: Claim, now: datetime, owner: str, lease: timedelta) -> Claim:
    """Write the claim down. The attempt counts from here, so that a crash in it does not hasten another."""
    values: dict[str, Any] = {
        "epoch": claim.epoch,
        "claimed_by": printable(owner),
        "claimed_until": now + lease,
        "attempted_at": now,
    }
    if claim.hastened:
        values["hastened_at"] = now
    _set_state(connection, claim.entity_id, values)
    return replace(claim, source=replace(claim.source, state=replace(claim.source.state, **values)))


def _claimed(connection: Connection, claim: Claim) -> StoredSource | None:
    """The source as it is now, if it is still the claim's."""
    stored = find_source(connection, claim.entity_id)
    if (
        stored is None
        or stored.problem is not None
        or stored.state.epoch != claim.epoch
        or (stored.config, stored.added_at) != (claim.source.config, claim.source.added_at)
    ):
        return None
    return stored


def _give_back(connection: Connection, source: StoredSource, now: datetime) -> None:
    """Let the source be claimed again at once."""
    values = {"claimed_by": None, "claimed_until": None, "next_attempt_at": min(source.state.next_attempt_at, now)}
    _set_state(connection, source.entity_id, values)


def _check_automatic(claim: Claim, rollover: Unchanged | Applied | Held, accepted: Accepted) -> None:
    """Whether a document may do this, whoever planned it (promises 36 and 39). Raises Conflict."""
    if accepted.metadata.entity_id != claim.entity_id:
        raise Conflict(f"metadata of {accepted.metadata.entity_id!r} says nothing of {claim.entity_id!r}")
    if hashlib.sha256(accepted.document).hexdigest() != accepted.document_sha256:
        raise Conflict("document_sha256 is not that of the document")
    after = {each.certificate.sha256: each.certificate.state for each in rollover.certificates}
    for each in claim.trust.certificates:
        known = each.certificate
        if known.sha256 not in after or (known.state not in GOOD and after[known.sha256] in GOOD):
            raise Conflict(
                f"no document may take away or bring back certificate {known.sha256}, which is {known.state}"
            )
    withheld = rollover.withheld if isinstance(rollover, Held) else ()
    for certificate, before in withheld:
        if before is None and certificate.sha256 in after:
            raise Conflict(f"certificate {certificate.sha256} waits, and cannot be trusted at the same time")


def _put(
    connection: Connection,
    entity_id: str,
    outcome: Iterable[TrackedCertificate],
    changes: Iterable[Change],
    *,
    now: datetime,
    actor: str,
    provenance: Mapping[str, Any],
) -> None:
    """Store the certificates of an IdP with their history, and what that answers of what waits; seal it."""
    outcome = tuple(outcome)
    replace_certificates(connection, entity_id, outcome)
    seal_idp(connection, entity_id)
    write_history(connection, entity_id, changes, now=now, actor=actor, provenance=provenance)
    settle(connection, entity_id, outcome)


def _change_detail(change: Change) -> dict[str, object]:
    return {
        "sha256": change.certificate.sha256,
        "event": change.event.value,
        "before": None if change.before is None else change.before.value,
        "after": change.certificate.state.value,
        "voucher": None if change.voucher is None else change.voucher.value,
    }


def _write_publication(
    connection: Connection, entity_id: str, rollover: Unchanged | Applied | Held, accepted: Accepted, now: datetime
) -> None:
    """The hold that the document makes, the end of those that it does not, and the journal of both."""
    told = _provenance(accepted)
    if not isinstance(rollover, Unchanged) and rollover.changes:
        detail = {
            **told,
            "changes": [_change_detail(each) for each in rollover.changes],
            "problems": [each.reason.value for each in (*accepted.metadata.problems, *rollover.problems)],
        }
        write_act(connection, now=now, actor=REFRESH, act="rollover_applied", subject=entity_id, detail=detail)
    if not isinstance(rollover, Held):
        _end_holds(connection, entity_id)
        return
    name = rollover_id(entity_id, rollover.withheld)
    _end_holds(connection, entity_id, except_id=name)
    known = next(iter(read_rollovers(connection, rollovers.c.id == name)), None)
    if known is not None and known.problem is None and known.state in (RolloverState.HELD, RolloverState.SUPERSEDED):
        stored = replace(known, state=RolloverState.HELD, last_seen=now, sightings=known.sightings + 1)
        if known.state is RolloverState.SUPERSEDED:  # its document is forgotten
            stored = replace(stored, document_sha256=accepted.document_sha256, provenance=told)
    else:
        stored = StoredRollover(
            id=name,
            entity_id=entity_id,
            state=RolloverState.HELD,
            document_sha256=accepted.document_sha256,
            withheld=rollover.withheld,
            finding=rollover.finding,
            provenance=told,
            first_seen=now,
            last_seen=now,
            sightings=1,
        )
    write_rollover(connection, stored)
    if known is not None and known.problem is None and known.state is RolloverState.HELD:
        return
    detail = {
        **told,
        "rollover": name,
        "certificates": [certificate.sha256 for certificate, _ in rollover.withheld],
        "reason": rollover.finding.reason.value,
    }
    write_act(connection, now=now, actor=REFRESH, act="rollover_held", subject=entity_id, detail=detail)


def _end_holds(connection: Connection, entity_id: str, *, except_id: str = "") -> None:
    """Let no hold of this IdP wait any more, but for one; of what nobody decided only the newest are remembered.

    Otherwise a source that lists another new certificate every time would fill the disk, document by document.
    """
    ended = supersede(connection, entity_id, except_id=except_id)
    if not ended:
        return
    for digest in ended:
        _forget_document(connection, entity_id, digest)
    undecided = (
        rollovers.c.entity_id == entity_id,
        rollovers.c.state == RolloverState.SUPERSEDED.value,
        rollovers.c.decided_at.is_(None),
    )
    newest = select(rollovers.c.id).where(*undecided).order_by(rollovers.c.last_seen.desc()).limit(_SUPERSEDED_KEPT)
    connection.execute(delete(rollovers).where(*undecided, rollovers.c.id.not_in(newest)))


def _forget_document(connection: Connection, entity_id: str, digest: str) -> None:
    """Delete a fetched document of which nothing came.

    Otherwise a source whose every answer differs would fill the disk.
    """
    told = func.instr(certificate_history.c.provenance, digest) > 0
    for used in (
        select(idps.c.entity_id).where(idps.c.document_sha256 == digest),
        select(source_states.c.entity_id).where(source_states.c.document_sha256 == digest),
        select(rollovers.c.id).where(
            rollovers.c.document_sha256 == digest, rollovers.c.state != RolloverState.SUPERSEDED.value
        ),
        select(certificate_history.c.seq).where(certificate_history.c.entity_id == entity_id, told),
    ):
        if connection.execute(used.limit(1)).first() is not None:
            return
    connection.execute(delete(documents).where(documents.c.sha256 == digest))


def _kept_up(connection: Connection, entity_id: str, now: datetime) -> Applied | None:
    """What use and time change of this IdP, if anything."""
    try:
        idp, tracked = find_intact_idp(connection, entity_id)
    except (NotFound, Conflict):
        return None
    used = [digest for digest, each in _usage(connection, entity_id).items() if each.sign_ins or each.launches]
    policy = RolloverPolicy(acceptance=idp.policy.acceptance, evidence_age=_evidence_age(connection, idp))
    plan = plan_upkeep(_trust(connection, idp, tracked), used, policy, now)
    return plan if isinstance(plan, Applied) else None


def _rollover(connection: Connection, rollover_id: str) -> StoredRollover:
    found = read_rollovers(connection, rollovers.c.id == rollover_id)
    if not found:
        raise NotFound(f"there is no rollover {rollover_id!r}")
    return found[0]


def _check_undecided(stored: StoredRollover, *undecided: RolloverState) -> None:
    if stored.state in undecided:
        return
    if stored.state is RolloverState.SUPERSEDED:
        raise Conflict(f"rollover {stored.id} no longer waits: what it holds is not listed any more, or was decided")
    by = f" by {stored.decided_by}" if stored.decided_by else ""
    raise Conflict(f"rollover {stored.id} is {stored.state} already{by}")


def _decided(stored: StoredRollover, state: RolloverState, *, now: datetime, actor: str, note: str) -> StoredRollover:
    return replace(stored, state=state, decided_at=now, decided_by=printable(actor), note=printable(note), problem=None)


def _check_not_revoked(trust: ProviderTrust, certificate: SigningCertificate) -> None:
    """Whether no certificate for this key is revoked. Raises Conflict."""
    for each in trust.certificates:
        known = each.certificate
        if known.key_sha256 == certificate.key_sha256 and known.state is CertificateState.REVOKED:
            raise Conflict(
                f"the key of certificate {certificate.sha256} is revoked; reinstate it by "
                f"`fas-evidence key reinstate {known.sha256} --idp {trust.entity_id}` if that was an error"
            )
    if trust.is_revoked(certificate):
        raise Conflict(
            f"the key of certificate {certificate.sha256} is revoked at another identity provider, which makes it "
            "worthless here too; `fas-evidence key list` shows where, and `key reinstate` ends it if it was an error"
        )


def _approved(
    certificate: SigningCertificate, known: TrackedCertificate | None, *, now: datetime, actor: str
) -> Change:
    """The change that an approval makes of a certificate that waits."""
    before = None if known is None else known.certificate.state
    event = Event.APPROVE if before is None else Event.REINSTATE
    after = replace(
        certificate if known is None else known.certificate,
        state=next_state(before, event),
        since=now,
        provenance=f"{certificate.provenance}, approved by {printable(actor)}",
    )
    return Change(certificate=after, before=before, event=event, voucher=Voucher.PERSON)


def _waiting(connection: Connection, entity_id: str, sha256: str) -> StoredRollover | None:
    """The rollover in which this certificate waits, or was rejected."""
    found = [
        each
        for each in read_rollovers(
            connection, rollovers.c.entity_id == entity_id, rollovers.c.state.in_(("held", "rejected"))
        )
        if any(certificate.sha256 == sha256 for certificate, _ in each.withheld)
    ]
    return min(found, key=lambda each: each.state is not RolloverState.HELD, default=None)


def _changes_by_hand(
    trust: ProviderTrust, sha256: str, event: Event, waiting: StoredRollover | None, *, now: datetime, actor: str
) -> tuple[Change, ...]:
    """What a person's act changes, the named certificate first. Raises NotFound, Conflict, NotAllowedError."""
    known = trust.find(sha256)
    changes = []
    if known is None:
        if waiting is None:
            raise NotFound(f"{trust.entity_id} has no certificate with the SHA-256 {sha256!r}")
        named = next(certificate for certificate, _ in waiting.withheld if certificate.sha256 == sha256)
        after = replace(named, state=next_state(None, event), since=now)
        if event is Event.APPROVE:
            _check_not_revoked(trust, named)
            after = replace(after, provenance=f"{named.provenance}, approved by {printable(actor)}")
        changes.append(Change(certificate=after, before=None, event=event, voucher=Voucher.PERSON))
        by_key = event is Event.REVOKE
    else:
        named = known.certificate
        if event is Event.APPROVE and waiting is not None and named.state not in GOOD:
            event = Event.REINSTATE
            _check_not_revoked(trust, named)
        if named.state is not _BY_HAND[event]:
            after = replace(named, state=next_state(named.state, event), since=now)
            changes.append(Change(certificate=after, before=named.state, event=event, voucher=Voucher.PERSON))
        by_key = event is Event.REVOKE or named.state is CertificateState.REVOKED
    for each in trust.certificates:
        other = each.certificate
        if not by_key or other.sha256 == sha256 or other.key_sha256 != named.key_sha256:
            continue
        if other.state is not _BY_HAND[event] and event in TRANSITIONS[other.state]:
            after = replace(other, state=next_state(other.state, event), since=now)
            changes.append(Change(certificate=after, before=other.state, event=event, voucher=Voucher.PERSON))
    return tuple(changes)


def _usage(connection: Connection, entity_id: str) -> Mapping[str, CertificateUsage]:
    found: dict[str, CertificateUsage] = {}
    statement = select(usage).where(usage.c.entity_id == entity_id).order_by(usage.c.certificate_sha256, usage.c.day)
    for row in connection.execute(statement):
        counts = (row.day, row.sign_ins, row.launches, row.late_sign_ins)
        if not all(isinstance(each, int) for each in counts):
            continue  # written by something else
        known = found.get(row.certificate_sha256, CertificateUsage())
        firsts = [each for each in (known.first_sign_in, row.first_sign_in) if each is not None]
        lasts = [each for each in (known.last_sign_in, row.last_sign_in) if each is not None]
        found[row.certificate_sha256] = CertificateUsage(
            sign_ins=known.sign_ins + row.sign_ins,
            launches=known.launches + row.launches,
            late_sign_ins=known.late_sign_ins + row.late_sign_ins,
            first_sign_in=min(firsts, default=None),
            last_sign_in=max(lasts, default=None),
            per_day={**known.per_day, _FIRST_DAY + timedelta(days=row.day): row.sign_ins},
        )
    return MappingProxyType(found)


_AlarmIdentity = tuple[str, str, str, str]


def _identity(alarm: Alarm) -> _AlarmIdentity:
    return alarm.about, alarm.kind, alarm.entity_id, alarm.key


def _storable(alarm: Alarm) -> Alarm:
    """With nothing in it that no database takes: a name that FAS reports could otherwise end all alarms."""
    entity_id, key, text = printable(alarm.entity_id), printable(alarm.key), printable(alarm.text)
    return replace(alarm, entity_id=entity_id, key=key, text=text)


def _tell(
    connection: Connection,
    wanted: Mapping[_AlarmIdentity, Alarm],
    standing: Mapping[_AlarmIdentity, StoredAlarm],
    now: datetime,
) -> None:
    """Put what people are told of into the outbox."""
    for told in worth_telling([each for identity, each in wanted.items() if identity not in standing]):
        if not _was_told_lately(connection, told, now):
            _put_alarm(connection, told, alarm_message(told, raised_at=now), now)
    for identity, old in standing.items():
        new = wanted.get(identity)
        if new is not None and _SEVERITIES.index(new.severity) > _SEVERITIES.index(old.severity):
            _put_alarm(connection, new, alarm_message(new, raised_at=old.raised_at, risen=True), now)


def _put_alarm(connection: Connection, alarm: Alarm, message: Message, now: datetime) -> None:
    """Tell of an alarm that stands, and remember that people know of it."""
    seq = put(connection, message, now)
    if end_is_told(alarm):
        this = (*_same(alarm), alarm_rows.c.cleared_at.is_(None))
        connection.execute(update(alarm_rows).where(*this).values(told=seq))


def _same(alarm: Alarm) -> tuple[Any, ...]:
    return (
        alarm_rows.c.about == alarm.about,
        alarm_rows.c.kind == alarm.kind,
        alarm_rows.c.entity_id == alarm.entity_id,
        alarm_rows.c.key == alarm.key,
    )


def _over(
    connection: Connection, about: frozenset[str], standing: Collection[Alarm], now: datetime
) -> list[tuple[Message, list[int]]]:
    """What is to be told of ends: each message, and the alarms whose end it tells."""
    cleared = (alarm_rows.c.about.in_(about), alarm_rows.c.cleared_at.is_not(None))
    told = (
        select(alarm_rows, outbox.c.message)
        .join(outbox, outbox.c.seq == alarm_rows.c.told)
        .where(*cleared, alarm_rows.c.cleared_at <= now - COMES_AND_GOES)
        .order_by(alarm_rows.c.seq)
    )
    owed: dict[Any, list[tuple[StoredAlarm, Message]]] = {}
    for row in connection.execute(told):
        alarm = _stored_alarm(row)
        owed.setdefault(thing_of(alarm), []).append((alarm, load_message(row.message)))
    for each in standing:
        owed.pop(thing_of(each), None)
    if not owed:
        return []
    first = min(alarm.raised_at for some in owed.values() for alarm, _ in some)
    ends: dict[Any, datetime] = {}
    for row in connection.execute(select(alarm_rows).where(*cleared, alarm_rows.c.cleared_at >= first)):
        thing = thing_of(_stored_alarm(row))
        ends[thing] = max(row.cleared_at, ends.get(thing, row.cleared_at))
    over = []
    for thing, some in owed.items():
        if ends[thing] > now - COMES_AND_GOES:
            continue
        last, told_last = some[-1]
        message = over_message(
            told_last,
            raised_at=some[0][0].raised_at,
            cleared_at=ends[thing],
            urgent=any(each.urgent for _, each in some),
            standing=[each.kind for each in standing if (each.about, each.entity_id) == (last.about, last.entity_id)],
        )
        over.append((message, [alarm.seq for alarm, _ in some]))
    return over


def _was_told_lately(connection: Connection, alarm: Alarm, now: datetime) -> bool:
    """Whether it ended within the hour, and people were told of it as severe as it is within the day."""
    columns = (alarm_rows.c.raised_at, alarm_rows.c.cleared_at, outbox.c.severity)
    statement = select(*columns).outerjoin(outbox, outbox.c.seq == alarm_rows.c.told)
    before = connection.execute(statement.where(*_same(alarm), alarm_rows.c.cleared_at > now - TOLD_AGAIN_AFTER)).all()
    if not any(now - row.cleared_at < COMES_AND_GOES for row in before):
        return False
    severe = {each.value for each in _SEVERITIES[_SEVERITIES.index(alarm.severity) :]}
    return any(now - row.raised_at < TOLD_AGAIN_AFTER and row.severity in severe for row in before)


def _open(connection: Connection, about: frozenset[str] | None) -> dict[_AlarmIdentity, StoredAlarm]:
    statement = select(alarm_rows).where(alarm_rows.c.cleared_at.is_(None)).order_by(alarm_rows.c.seq)
    if about is not None:
        statement = statement.where(alarm_rows.c.about.in_(about))
    return {_identity(each): each for each in map(_stored_alarm, connection.execute(statement))}


def _stored_alarm(row: Row[Any]) -> StoredAlarm:
    return StoredAlarm(
        seq=row.seq,
        about=row.about,
        kind=row.kind,
        entity_id=row.entity_id,
        key=row.key,
        severity=Severity(row.severity) if row.severity in tuple(Severity) else Severity.CRITICAL,
        text=row.text,
        raised_at=row.raised_at,
        cleared_at=row.cleared_at,
    )


def _alarm_texts(alarms: Mapping[_AlarmIdentity, Alarm]) -> dict[_AlarmIdentity, tuple[str, str]]:
    return {identity: (each.severity.value, each.text) for identity, each in alarms.items()}
