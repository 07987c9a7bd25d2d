"""Trust as it changes over time: metadata sources, refreshes, held rollovers, acts on certificates, use, alarms.

Every change is one transaction: certificates, their history, the journal, the seal of the IdP and the configuration
counter, by which every process that decides takes it over. A certificate that waits for a person is nowhere but in
its rollover.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from sqlalchemy import Engine

from idp_certs.alarms import Alarm, UnknownKey
from idp_certs.metadata import IdpMetadata
from idp_certs.model import Acceptance, CertificateState, SigningCertificate
from idp_certs.reasons import Finding
from idp_certs.rollover import Applied, Change, Event, Held, ProviderTrust, Unchanged
from idp_certs.usage import CertificateUsage


class RolloverState(StrEnum):
    """What became of certificates that waited for a person."""

    HELD = "held"
    APPROVED = "approved"
    REJECTED = "rejected"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceConfig:
    """Where an IdP's metadata is fetched from, as an administrator set it.

    `ca_pem` replaces the system's certificate authorities, `pin_sha256` (hex) is the digest of the server's own
    certificate, `metadata_certificate` (DER) is the one that signs the metadata, such as a federation operator's.
    """

    url: str
    ca_pem: str | None = None
    pin_sha256: str | None = None
    metadata_certificate: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceState:
    """What is remembered of a source between attempts. Times are UTC.

    `etag` to `cache_duration` belong to the newest accepted document, `served_at` is the Date of its answer;
    `hastened_at` is the latest attempt that was made early. `finding` is the latest failure, None after a success, and
    `problem_since` when that kind of failure began. `jitter` (0 to 1) was drawn once.
    """

    next_attempt_at: datetime
    jitter: float
    failures: int = 0
    attempted_at: datetime | None = None
    succeeded_at: datetime | None = None
    changed_at: datetime | None = None
    hastened_at: datetime | None = None
    etag: str | None = None
    last_modified: str | None = None
    document_sha256: str | None = None
    created: datetime | None = None
    valid_until: datetime | None = None
    cache_duration: timedelta | None = None
    served_at: datetime | None = None
    finding: Finding | None = None
    problem_since: datetime | None = None
    claimed_by: str | None = None
    claimed_until: datetime | None = None
    epoch: int = 0

    @property
    def problem(self) -> str | None:
        """The reason code of the latest failure."""
        return None if self.finding is None else self.finding.reason.value

    @property
    def problem_text(self) -> str | None:
        """The latest failure in words."""
        if self.finding is None:
            return None
        parts = (("expected", self.finding.expected), ("got", self.finding.presented), ("at", self.finding.where))
        return "; ".join(f"{name} {value}" for name, value in parts if value)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSource:
    """A metadata source. `problem` says why its row, or that of its IdP, cannot be trusted; then it is not fetched."""

    entity_id: str
    config: SourceConfig
    added_at: datetime
    added_by: str
    state: SourceState
    problem: str | None = None


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
class Accepted:
    """A document that old trust accepted, wholly or in part, and how it came.

    `served_at` (UTC) is the Date of the answer. `provenance` is JSON for promise 41: source, final URL, TLS chain,
    signer.
    """

    metadata: IdpMetadata
    document: bytes
    document_sha256: str
    etag: str | None = None
    last_modified: str | None = None
    served_at: datetime | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Freeze the mapping."""
        object.__setattr__(self, "provenance", MappingProxyType(dict(self.provenance)))


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRollover:
    """Certificates that wait, or waited, for a person, each with its state before (None: never known). Times are UTC.

    `finding` says why they wait. `problem` says why the row cannot be trusted; then nothing is withheld in it and it
    cannot be approved.
    """

    id: str
    entity_id: str
    state: RolloverState
    document_sha256: str
    withheld: tuple[tuple[SigningCertificate, CertificateState | None], ...]
    finding: Finding
    provenance: Mapping[str, Any]
    first_seen: datetime
    last_seen: datetime
    sightings: int
    decided_at: datetime | None = None
    decided_by: str | None = None
    note: str | None = None
    problem: str | None = None


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

        `seen` is the document that was fetched from it and imported just now. Raises NotFound for an IdP that is not
        registered, and Conflict for a damaged one or a source that cannot be used.
        """
        raise NotImplementedError

    def remove_source(self, entity_id: str, *, now: datetime, actor: str) -> None:
        """Fetch no more. Trust stays as it is. Raises NotFound."""
        raise NotImplementedError

    def list_sources(self) -> tuple[StoredSource, ...]:
        """All sources by entity ID; damaged ones carry their `problem`."""
        raise NotImplementedError

    def get_source(self, entity_id: str) -> StoredSource:
        """The source of one IdP. Raises NotFound."""
        raise NotImplementedError

    def claim(
        self, now: datetime, *, owner: str, lease: timedelta, cool_down: timedelta, hasten_budget: int
    ) -> Claim | None:
        """The one source that is due, or that an unknown key asks for; nobody else gets it for the `lease`.

        A source is hastened at most once in a `cool_down`, and `hasten_budget` sources together.
        """
        raise NotImplementedError

    def claim_one(self, entity_id: str, now: datetime, *, owner: str, lease: timedelta) -> Claim | None:
        """The source of this IdP, due or not; None while another process has it.

        Raises NotFound, and Conflict for a damaged one.
        """
        raise NotImplementedError

    def next_instant(self, now: datetime) -> datetime | None:
        """When the next source is due (not before `now`); None without any."""
        raise NotImplementedError

    def publish(
        self,
        claim: Claim,
        rollover: Unchanged | Applied | Held,
        accepted: Accepted,
        *,
        now: datetime,
        next_attempt_at: datetime,
    ) -> bool:
        """Put into force what `rollover` says of the accepted document.

        False: the claim is stale, or trust changed since it was made, and nothing of it is written. Raises Conflict
        where the rows of the IdP are damaged.
        """
        raise NotImplementedError

    def publish_unmodified(
        self, claim: Claim, *, now: datetime, next_attempt_at: datetime, served_at: datetime | None
    ) -> bool:
        """The source confirmed what is held. False: the claim is stale. Raises Conflict for a damaged IdP."""
        raise NotImplementedError

    def fail(self, claim: Claim, finding: Finding, *, now: datetime, next_attempt_at: datetime) -> bool:
        """The attempt came to nothing, and trust stays. False: the claim is stale."""
        raise NotImplementedError

    def upkeep(self, now: datetime) -> tuple[tuple[str, Change], ...]:
        """What use and time change, of all intact IdPs: entity ID and change."""
        raise NotImplementedError

    def list_rollovers(self, *, state: str | None = None) -> tuple[StoredRollover, ...]:
        """All rollovers, or those in one state, oldest first; damaged ones, whatever their state, carry a `problem`."""
        raise NotImplementedError

    def get_rollover(self, rollover_id: str) -> StoredRollover:
        """One rollover. Raises NotFound."""
        raise NotImplementedError

    def approve_rollover(self, rollover_id: str, *, now: datetime, actor: str, note: str = "") -> tuple[Change, ...]:
        """Trust what waits: a new certificate is announced, one that was withdrawn is trusted again.

        Raises NotFound, and Conflict for one that is damaged or decided (a rejected one may be approved), and for a
        revoked key.
        """
        raise NotImplementedError

    def reject_rollover(self, rollover_id: str, *, now: datetime, actor: str, note: str = "") -> None:
        """Let what waits wait no longer, now and in later documents. Raises NotFound and Conflict."""
        raise NotImplementedError

    def act(
        self, entity_id: str, sha256: str, event: Event, *, now: datetime, actor: str, note: str = ""
    ) -> tuple[Change, ...]:
        """Approve, retire, revoke or reinstate a certificate by hand; what is so already does not change.

        A certificate that waits can be approved and revoked. Revoking, and reinstating what is revoked, concern the
        key: other certificates of this IdP for it go along. Raises NotFound, and Conflict for what TRANSITIONS does
        not allow or a damaged row.
        """
        raise NotImplementedError

    def load_trust(self, entity_id: str) -> ProviderTrust:
        """What is held of one IdP. Raises NotFound, and Conflict for a damaged one."""
        raise NotImplementedError

    def get_document(self, sha256: str) -> bytes:
        """A stored document whose content has this SHA-256 (hex). Raises NotFound, and Conflict for a damaged one."""
        raise NotImplementedError

    def history(self, entity_id: str, sha256: str | None = None) -> tuple[HistoryEntry, ...]:
        """Every change of this IdP's certificates, or of one, oldest first."""
        raise NotImplementedError

    def usage(self, entity_id: str) -> Mapping[str, CertificateUsage]:
        """How evidence of this IdP was signed, by SHA-256 (hex) of the certificate."""
        raise NotImplementedError

    def unknown_signers(self, entity_id: str | None = None) -> tuple[UnknownSigner, ...]:
        """Keys that signed plausible evidence and are not known, of one IdP or of all, latest first."""
        raise NotImplementedError

    def sync_alarms(
        self, alarms: Iterable[Alarm], now: datetime
    ) -> tuple[tuple[StoredAlarm, ...], tuple[StoredAlarm, ...]]:
        """Make `alarms` the open ones; returns which were raised and which cleared by that."""
        raise NotImplementedError

    def open_alarms(self, entity_id: str | None = None) -> tuple[StoredAlarm, ...]:
        """The alarms that stand, of one IdP or of all, oldest first."""
        raise NotImplementedError
