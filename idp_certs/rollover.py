"""Old trust judges new metadata: which certificates come, which go, and which wait for a person?

The states of a signing certificate and everything that moves it from one to another is `TRANSITIONS`. What moves it
without a person is `AUTOMATIC`, and nothing automatic leads from *retiring*, *retired* or *revoked* back to a state in
which new signatures are accepted (promise 36).

A document is judged by what was trusted before it came, never by what it brings. Where it brings a certificate that
nothing vouches for, that certificate waits (*withheld*) and everything else in the document still counts. A certificate
that a document lacks goes only after repeated sightings, as the nodes of a farm may disagree for a while (promise 34),
and never if no good one would be left (promise 39).

Not judged here: whether the document could be fetched, parsed, and what its signature is worth as XML.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType

from idp_certs.metadata import IdpMetadata
from idp_certs.model import GOOD, Acceptance, CertificateState, SigningCertificate
from idp_certs.reasons import Finding, Refused, TrustReason


class Event(StrEnum):
    """What can happen to a signing certificate."""

    IMPORT = "import"
    """A person uploaded a document or a certificate that holds it."""
    ANNOUNCE = "announce"
    """An accepted document lists it."""
    APPROVE = "approve"
    """A person approved it."""
    USE = "use"
    """Evidence that it signed was allowed."""
    WITHDRAW = "withdraw"
    """It is gone from the documents of its IdP."""
    OUTLIVE = "outlive"
    """No evidence that it signed before its withdrawal can still be young enough."""
    RETIRE = "retire"
    """A person withdrew it."""
    REVOKE = "revoke"
    """A person revoked its key."""
    REINSTATE = "reinstate"
    """A person put it back."""


_ANNOUNCED, _TRUSTED = CertificateState.ANNOUNCED, CertificateState.TRUSTED
_RETIRING, _RETIRED, _REVOKED = CertificateState.RETIRING, CertificateState.RETIRED, CertificateState.REVOKED

TRANSITIONS: Mapping[CertificateState | None, Mapping[Event, CertificateState]] = MappingProxyType(
    {
        None: {
            Event.IMPORT: _TRUSTED,
            Event.ANNOUNCE: _ANNOUNCED,
            Event.APPROVE: _ANNOUNCED,
            Event.REVOKE: _REVOKED,
        },
        _ANNOUNCED: {
            Event.USE: _TRUSTED,
            Event.APPROVE: _TRUSTED,
            Event.WITHDRAW: _RETIRING,
            Event.RETIRE: _RETIRING,
            Event.REVOKE: _REVOKED,
        },
        _TRUSTED: {Event.WITHDRAW: _RETIRING, Event.RETIRE: _RETIRING, Event.REVOKE: _REVOKED},
        _RETIRING: {
            Event.OUTLIVE: _RETIRED,
            Event.IMPORT: _TRUSTED,
            Event.REINSTATE: _TRUSTED,
            Event.REVOKE: _REVOKED,
        },
        _RETIRED: {Event.IMPORT: _TRUSTED, Event.REINSTATE: _TRUSTED, Event.REVOKE: _REVOKED},
        _REVOKED: {Event.REINSTATE: _TRUSTED},
    }
)
"""State before (None: not known) -> event -> state after. What is not in it does not happen."""

AUTOMATIC = frozenset({Event.ANNOUNCE, Event.USE, Event.WITHDRAW, Event.OUTLIVE})
"""The events that need no person."""


class Transport(StrEnum):
    """How a document came."""

    TLS = "tls"
    """Fetched over verified TLS from the configured host."""
    UPLOAD = "upload"
    """Given by a person."""


class Voucher(StrEnum):
    """What vouches for a certificate that metadata brings."""

    CONTINUITY = "continuity"
    """A certificate that was good before the document signed it."""
    ANCHOR = "anchor"
    """The configured metadata certificate (a federation operator's) signed the document."""
    SAME_KEY = "same_key"
    """A certificate that is good already has the same key."""
    TLS = "tls"
    """The document came over verified TLS, and the policy says that this is enough."""
    PERSON = "person"
    """An administrator's decision."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedCertificate:
    """A certificate and since when (UTC), and in how many documents running, it has been missing."""

    certificate: SigningCertificate
    absent_since: datetime | None = None
    absences: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderTrust:
    """What is held of one IdP before a document is judged. Times are UTC.

    `created` and `valid_until` are those of the newest document that was accepted. `rejected` are the SHA-256 (hex) of
    certificates that a person turned down. `revoked_keys` are the SHA-256 (hex) of keys that are revoked anywhere: one
    that was stolen is no better at this IdP, for signing its metadata either.
    """

    entity_id: str
    certificates: tuple[TrackedCertificate, ...]
    created: datetime | None = None
    valid_until: datetime | None = None
    rejected: frozenset[str] = frozenset()
    revoked_keys: frozenset[str] = frozenset()

    def is_revoked(self, certificate: SigningCertificate) -> bool:
        """Whether the key of the certificate is revoked, at this IdP or at another."""
        return certificate.key_sha256 in self.revoked_keys or any(
            each.certificate.state is CertificateState.REVOKED and each.certificate.key_sha256 == certificate.key_sha256
            for each in self.certificates
        )

    def find(self, sha256: str) -> TrackedCertificate | None:
        """The certificate with this SHA-256 (hex, lower case)."""
        return next((each for each in self.certificates if each.certificate.sha256 == sha256), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenMetadata:
    """A document as it arrived, parsed.

    `signer` is the SHA-256 of the certificate of this IdP that signed the document, None where none did; `anchored`
    says that the configured metadata certificate did.
    """

    metadata: IdpMetadata
    document_sha256: str
    transport: Transport
    source: str
    signer: str | None = None
    anchored: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloverPolicy:
    """The numbers by which documents are judged.

    `evidence_age` is how old evidence may be at most, clock skew included: so long a withdrawn certificate is good for
    what it signed before. A certificate is withdrawn after `removal_sightings` documents without it over at least
    `removal_over`. `max_validity` bounds how far ahead validUntil may be; None: any.
    """

    acceptance: Acceptance = Acceptance.CONTINUITY
    evidence_age: timedelta = timedelta(hours=8, minutes=3)
    removal_sightings: int = 3
    removal_over: timedelta = timedelta(hours=1)
    max_validity: timedelta | None = None
    require_valid_until: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One certificate that changed state: as it is after, its state before (None: new), why, and what vouched."""

    certificate: SigningCertificate
    before: CertificateState | None
    event: Event
    voucher: Voucher | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unchanged:
    """The document says what was known. `certificates` carry the sightings, `problems` are for people."""

    certificates: tuple[TrackedCertificate, ...]
    problems: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """The document, or time, moved certificates. `problems` are for people."""

    certificates: tuple[TrackedCertificate, ...]
    changes: tuple[Change, ...]
    problems: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Certificates wait for a person; what else the document says has been applied.

    `withheld` are the waiting ones with their state before (None: never known); they are not in `certificates`
    unless they were known. `finding` says why they wait.
    """

    certificates: tuple[TrackedCertificate, ...]
    changes: tuple[Change, ...]
    withheld: tuple[tuple[SigningCertificate, CertificateState | None], ...]
    finding: Finding
    problems: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """The document counts for nothing; old trust stays as it is."""

    finding: Finding


Rollover = Unchanged | Applied | Held | Rejected


class NotAllowedError(ValueError):
    """The event does not happen to a certificate in this state; `str()` is one line."""


def next_state(before: CertificateState | None, event: Event) -> CertificateState:
    """The state that `event` leads to. Raises NotAllowedError."""
    after = TRANSITIONS[before].get(event)
    if after is None:
        known = sorted(str(state) for state, events in TRANSITIONS.items() if state and event in events)
        raise NotAllowedError(
            f"a certificate that is {before or 'unknown'} cannot {event}; it must be {_one_of(known)}"
        )
    return after


_MOST_OF_ONE_KEY = 8
"""Certificates of one key that need no other voucher: anybody can make them from a public key, and without end."""
_CLOCKS_DIFFER = timedelta(days=1)
"""How far ahead of ours the clock of whoever publishes metadata may be."""
_VALIDITY_COMPARED = timedelta(days=31)
"""How far ahead validUntil tells newer from older; what renews its validity does so in days or weeks."""


def _one_of(names: list[str]) -> str:
    return " or ".join(names) or "new"


def plan_rollover(provider: ProviderTrust, seen: SeenMetadata, policy: RolloverPolicy, now: datetime) -> Rollover:
    """What the document `seen` at `now` (UTC) changes in the trust in `provider`. The same values, the same answer."""
    objection = _objection(provider, seen.metadata, policy, now, anchored=seen.anchored)
    if objection is not None:
        return Rejected(finding=objection)
    planning = _Planning(provider, seen, policy, now)
    for der in seen.metadata.signing_certificates:
        planning.list_certificate(der)
    if not planning.has_usable:
        return Rejected(
            finding=_finding(
                TrustReason.CERTIFICATE_WEAK_KEY,
                "a signing key of accepted strength",
                "only weak keys",
                provider.entity_id,
            )
        )
    planning.miss_absent()
    return planning.outcome()


def _objection(
    provider: ProviderTrust, metadata: IdpMetadata, policy: RolloverPolicy, now: datetime, *, anchored: bool
) -> Finding | None:
    """Why the whole document is turned down, if it is."""
    if metadata.entity_id != provider.entity_id:
        return _finding(TrustReason.METADATA_ENTITY_MISMATCH, provider.entity_id, metadata.entity_id, "entityID")
    if not metadata.signing_certificates:
        return _finding(
            TrustReason.METADATA_NO_CERT, "at least one signing certificate", "none", "IDPSSODescriptor.KeyDescriptor"
        )
    until = metadata.valid_until
    if until is None and policy.require_valid_until:
        return _finding(TrustReason.METADATA_EXPIRED, "a validUntil", "none", "validUntil")
    if until is not None and until <= now:
        return _finding(TrustReason.METADATA_EXPIRED, f"validUntil after {_text(now)}", _text(until), "validUntil")
    if until is not None and policy.max_validity is not None and until - now > policy.max_validity:
        return _finding(
            TrustReason.METADATA_VALID_TOO_LONG,
            f"validUntil at most {policy.max_validity.days} days ahead",
            _text(until),
            "validUntil",
        )
    return _rollback(provider, metadata, now, anchored=anchored)


def _rollback(provider: ProviderTrust, metadata: IdpMetadata, now: datetime, *, anchored: bool) -> Finding | None:
    """An older document than the one in force (G09). The instant of creation tells; without it validUntil does.

    One document with a creation far ahead must not shut out all that follow, so such a creation is not compared.
    Neither is such a validUntil, unless only the holder of the metadata certificate can have set it: an unsigned
    document that brings no key is in force too.
    """
    if provider.created is not None and metadata.created is not None and provider.created - now <= _CLOCKS_DIFFER:
        if metadata.created < provider.created:
            return _finding(
                TrustReason.METADATA_ROLLBACK,
                f"created at {_text(provider.created)} or later",
                _text(metadata.created),
                "PublicationInfo.creationInstant",
            )
        return None
    if (
        provider.valid_until is not None
        and (anchored or provider.valid_until - now <= _VALIDITY_COMPARED)
        and metadata.valid_until is not None
        and metadata.valid_until < provider.valid_until
    ):
        return _finding(
            TrustReason.METADATA_ROLLBACK,
            f"validUntil {_text(provider.valid_until)} or later",
            _text(metadata.valid_until),
            "validUntil",
        )
    return None


def _text(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%SZ")


def _finding(reason: TrustReason, expected: str, presented: str, where: str) -> Finding:
    return Finding(reason=reason, expected=expected, presented=presented, where=where)


class _Planning:
    """The work of one `plan_rollover`."""

    def __init__(self, provider: ProviderTrust, seen: SeenMetadata, policy: RolloverPolicy, now: datetime) -> None:
        self.provider = provider
        self.seen = seen
        self.policy = policy
        self.now = now
        self.listed: list[TrackedCertificate] = []
        self.absent: list[TrackedCertificate] = []
        self.changes: list[Change] = []
        self.withheld: list[tuple[SigningCertificate, CertificateState | None]] = []
        self.problems: list[Finding] = []
        self.returned = False
        self.has_usable = False

    def list_certificate(self, der: bytes) -> None:
        """Judge one certificate that the document lists."""
        known = self.provider.find(hashlib.sha256(der).hexdigest())
        if known is not None:
            self._list_known(known)
            return
        new = SigningCertificate(der=der, state=_ANNOUNCED, since=self.now, provenance=self._provenance())
        if not new.has_strong_key:
            self.problems.append(
                _finding(
                    TrustReason.CERTIFICATE_WEAK_KEY,
                    "a signing key of accepted strength",
                    f"certificate {new.sha256}: {new.key_description}",
                    "IDPSSODescriptor.KeyDescriptor",
                )
            )
            return
        self.has_usable = True
        self._list_new(new)

    def _list_known(self, known: TrackedCertificate) -> None:
        certificate = known.certificate
        self.has_usable = self.has_usable or certificate.has_strong_key
        came_back = known.absent_since is not None and certificate.state not in GOOD
        if came_back and certificate.sha256 not in self.provider.rejected:
            self.returned = True
            self.withheld.append((certificate, certificate.state))
        if came_back:
            self.absent.append(known)  # it stays marked as gone, so that it goes on being noticed
        else:
            self.listed.append(TrackedCertificate(certificate=certificate))

    def _list_new(self, new: SigningCertificate) -> None:
        known = (*self.provider.certificates, *self.listed)
        same_key = {each.certificate.sha256 for each in known if each.certificate.key_sha256 == new.key_sha256}
        few = len(same_key) < _MOST_OF_ONE_KEY
        if self.provider.is_revoked(new):
            if few:
                revoked = replace(new, state=_REVOKED, provenance=f"{new.provenance}; its key was revoked before")
                self.listed.append(TrackedCertificate(certificate=revoked))
                self.changes.append(Change(certificate=revoked, before=None, event=Event.REVOKE))
            self.problems.append(
                _finding(
                    TrustReason.CERTIFICATE_REVOKED,
                    "a key that is not revoked",
                    f"certificate {new.sha256} for a revoked key",
                    "IDPSSODescriptor.KeyDescriptor",
                )
            )
            return
        if new.sha256 in self.provider.rejected:
            self.problems.append(
                _finding(
                    TrustReason.METADATA_KEY_WITHHELD,
                    "no certificate that a person rejected",
                    f"certificate {new.sha256}, which was rejected and stays away",
                    "IDPSSODescriptor.KeyDescriptor",
                )
            )
            return
        states = {each.certificate.state for each in self.provider.certificates if each.certificate.sha256 in same_key}
        voucher = self._voucher(states, few=few)
        if voucher is None:
            self.returned = self.returned or bool(states & {_RETIRING, _RETIRED})
            self.withheld.append((new, None))
            return
        self.listed.append(TrackedCertificate(certificate=new))
        self.changes.append(Change(certificate=new, before=None, event=Event.ANNOUNCE, voucher=voucher))

    def _voucher(self, states: set[CertificateState], *, few: bool) -> Voucher | None:
        """What vouches for a new certificate whose key has these states in other certificates, `few` of them."""
        if self.policy.acceptance is Acceptance.APPROVAL or (states and not states & GOOD):
            return None
        if self.seen.signer is not None:
            signer = self.provider.find(self.seen.signer)
            if (
                signer is not None
                and signer.certificate.state in GOOD
                and not self.provider.is_revoked(signer.certificate)
            ):
                return Voucher.CONTINUITY
        if self.seen.anchored:
            return Voucher.ANCHOR
        if few and states & GOOD:
            return Voucher.SAME_KEY
        if self.policy.acceptance is Acceptance.TLS and self.seen.transport is Transport.TLS:
            return Voucher.TLS
        return None

    def _provenance(self) -> str:
        by = "unsigned"
        if self.seen.anchored:
            by = "signed by the metadata certificate"
        elif self.seen.signer is not None:
            by = f"signed by {self.seen.signer}"
        return f"metadata sha256:{self.seen.document_sha256} from {self.seen.source}, {by}"

    def miss_absent(self) -> None:
        """Judge what the document lacks."""
        handled = {each.certificate.sha256 for each in (*self.listed, *self.absent)}
        remains = any(
            each.certificate.state in GOOD
            and each.certificate.has_strong_key
            and not self.provider.is_revoked(each.certificate)
            for each in self.listed
        )
        for known in self.provider.certificates:
            if known.certificate.sha256 not in handled:
                self.absent.append(self._missed(known, may_go=remains))

    def _missed(self, known: TrackedCertificate, *, may_go: bool) -> TrackedCertificate:
        if known.absent_since is not None and known.certificate.state not in GOOD:
            return known  # nothing more can come of it, and nothing more is to be written
        since = self.now if known.absent_since is None else min(known.absent_since, self.now)
        missed = replace(known, absent_since=since, absences=known.absences + 1)
        if (
            not may_go
            or known.certificate.state not in GOOD
            or missed.absences < self.policy.removal_sightings
            or self.now - since < self.policy.removal_over
        ):
            return missed
        gone = replace(known.certificate, state=_RETIRING, since=since)
        self.changes.append(Change(certificate=gone, before=known.certificate.state, event=Event.WITHDRAW))
        return replace(missed, certificate=gone)

    def outcome(self) -> Rollover:
        """The whole of it."""
        certificates = (*self.listed, *self.absent)
        if self.withheld:
            return Held(
                certificates=certificates,
                changes=tuple(self.changes),
                withheld=tuple(self.withheld),
                finding=self._why_withheld(),
                problems=tuple(self.problems),
            )
        if self.changes:
            return Applied(certificates=certificates, changes=tuple(self.changes), problems=tuple(self.problems))
        return Unchanged(certificates=certificates, problems=tuple(self.problems))

    def _why_withheld(self) -> Finding:
        names = ", ".join(certificate.sha256[:16] for certificate, _ in self.withheld)
        if self.returned:
            return _finding(
                TrustReason.METADATA_ROLLBACK,
                "no certificate that was withdrawn before",
                f"{names}: gone before, and listed again",
                "IDPSSODescriptor.KeyDescriptor",
            )
        expected = {
            Acceptance.APPROVAL: "a person's approval",
            Acceptance.CONTINUITY: "a document signed by a certificate that is trusted already",
            Acceptance.TLS: "a document fetched over verified TLS",
        }[self.policy.acceptance]
        return _finding(TrustReason.METADATA_KEY_WITHHELD, expected, names, "IDPSSODescriptor.KeyDescriptor")


def plan_upkeep(
    provider: ProviderTrust, used: Iterable[str], policy: RolloverPolicy, now: datetime
) -> Unchanged | Applied:
    """What use and time change without any document at `now` (UTC).

    `used` are the SHA-256 of certificates whose signatures were allowed: an announced one among them is in use. A
    retiring one is retired when nothing that it signed before its withdrawal can be young enough any more.
    """
    used = frozenset(used)
    certificates, changes = [], []
    for each in provider.certificates:
        certificate = each.certificate
        event = None
        if certificate.state is _ANNOUNCED and certificate.sha256 in used:
            event = Event.USE
        elif certificate.state is _RETIRING and now - certificate.since > policy.evidence_age:
            event = Event.OUTLIVE
        if event is None:
            certificates.append(each)
            continue
        # A retired certificate keeps the instant of its withdrawal, by which denials explain themselves.
        since = certificate.since if event is Event.OUTLIVE else now
        after = replace(certificate, state=next_state(certificate.state, event), since=since)
        changes.append(Change(certificate=after, before=certificate.state, event=event))
        certificates.append(replace(each, certificate=after))
    if not changes:
        return Unchanged(certificates=tuple(certificates))
    return Applied(certificates=tuple(certificates), changes=tuple(changes))


_STAYS_REVOKED = frozenset({_REVOKED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What a document that a person gives makes of an IdP's certificates.

    `added` are new; `kept` were known and stay as they are, revoked ones included; `gone` left the document and are
    retiring now; `returned` had left earlier and are trusted again. `problems` are for people.
    """

    certificates: tuple[TrackedCertificate, ...]
    changes: tuple[Change, ...]
    added: tuple[SigningCertificate, ...]
    kept: tuple[SigningCertificate, ...]
    gone: tuple[SigningCertificate, ...]
    returned: tuple[SigningCertificate, ...]
    problems: tuple[Finding, ...]


def plan_import(provider: ProviderTrust, metadata: IdpMetadata, *, provenance: str, now: datetime) -> Imported:
    """What the document that a person gives at `now` (UTC) changes in the trust in `provider`.

    A person's act needs no other voucher, and what was withdrawn may come back by it. A revoked certificate, or a new
    certificate for a revoked key, stays revoked. Raises Refused (`metadata_no_cert`) where no good one would be left.
    """
    importing = _Importing(provider=provider, provenance=provenance, now=now, problems=[*metadata.problems])
    listed = tuple(dict.fromkeys(metadata.signing_certificates))
    for der in listed:
        importing.list_certificate(der)
    if not any(each.certificate.state in GOOD for each in importing.listed):
        raise Refused(
            TrustReason.METADATA_NO_CERT,
            expected="at least one token-signing certificate that is not revoked",
            presented=f"{len(listed)} certificates, all of them revoked" if listed else "none",
            where="EntityDescriptor.IDPSSODescriptor.KeyDescriptor",
        )
    return importing.outcome()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Importing:
    """The work of one `plan_import`."""

    provider: ProviderTrust
    provenance: str
    now: datetime
    problems: list[Finding]
    listed: list[TrackedCertificate] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    added: list[SigningCertificate] = field(default_factory=list)
    kept: list[SigningCertificate] = field(default_factory=list)
    returned: list[SigningCertificate] = field(default_factory=list)

    def list_certificate(self, der: bytes) -> None:
        """Judge one certificate that the document lists."""
        known = self.provider.find(hashlib.sha256(der).hexdigest())
        old = None if known is None else known.certificate
        new = SigningCertificate(der=der, state=_TRUSTED, since=self.now, provenance=self.provenance)
        revoked = self.provider.is_revoked(new)
        if revoked:
            self.problems.append(
                Finding(
                    reason=TrustReason.CERTIFICATE_REVOKED,
                    presented=f"certificate {new.sha256}, which stays revoked",
                    where="EntityDescriptor.IDPSSODescriptor.KeyDescriptor",
                )
            )
            new = replace(new, state=_REVOKED, provenance=f"{self.provenance}; its key was revoked before")
        if old is not None and old.state in (_STAYS_REVOKED if revoked else GOOD):
            self.kept.append(old)
            self.listed.append(TrackedCertificate(certificate=old))
            return
        before, event = None if old is None else old.state, Event.REVOKE if revoked else Event.IMPORT
        after = replace(new, state=next_state(before, event))
        where = self.kept if revoked else self.added if old is None else self.returned
        where.append(after)
        self.changes.append(Change(certificate=after, before=before, event=event, voucher=Voucher.PERSON))
        self.listed.append(TrackedCertificate(certificate=after))

    def outcome(self) -> Imported:
        """The whole of it, with what the document lacks."""
        handled = {each.certificate.sha256 for each in self.listed}
        missed, gone = [], []
        for known in self.provider.certificates:
            old = known.certificate
            if old.sha256 in handled:
                continue
            absent = replace(known, absent_since=known.absent_since or self.now, absences=known.absences + 1)
            if old.state in GOOD:
                left = replace(old, state=next_state(old.state, Event.WITHDRAW), since=self.now)
                gone.append(left)
                self.changes.append(Change(certificate=left, before=old.state, event=Event.WITHDRAW))
                absent = replace(absent, certificate=left)
            missed.append(absent)
        return Imported(
            certificates=(*self.listed, *missed),
            changes=tuple(self.changes),
            added=tuple(self.added),
            kept=tuple(self.kept),
            gone=tuple(gone),
            returned=tuple(self.returned),
            problems=tuple(self.problems),
        )
