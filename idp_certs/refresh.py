"""One refresh of one IdP's metadata: fetch, authenticate, parse, judge, publish.

The order is the safety (promise 21): nothing is stored, the ETag included, before the document has been judged by what
was trusted before it came. Everything before the publication may fail, and the old trust stays. What the source says
with a 304 is that the accepted document still stands, so that document is judged again, as a sighting.

The outcome is a value; whoever calls says it and asks again at `next_attempt_at`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

from idp_certs.fetch import Fetched, FetchFailed, FetchRules, Source
from idp_certs.metadata import METADATA_LIMITS, IdpMetadata, parse_metadata
from idp_certs.metadata_signature import DocumentSignature, judge_document_signature
from idp_certs.model import GOOD, Acceptance, CertificateState, SigningCertificate
from idp_certs.reasons import Finding, Refused, TrustReason
from idp_certs.rollover import (
    Applied,
    Change,
    Held,
    ProviderTrust,
    Rejected,
    RolloverPolicy,
    SeenMetadata,
    Transport,
    Unchanged,
    plan_rollover,
)
from idp_certs.schedule import Attempts, next_refresh, refresh_interval

POINTS = ("fetched", "authenticated", "parsed", "planned", "published")
"""Where a refresh can be when the process dies; tests kill it at each of them."""

Fetch = Callable[[Source, FetchRules], Fetched]
"""Asks a source once. Raises FetchFailed."""


class Config(Protocol):
    """What an administrator set for the source."""

    @property
    def url(self) -> str:
        """Its https address."""

    @property
    def ca_pem(self) -> str | None:
        """The certificate authorities of its server, instead of the system's."""

    @property
    def pin_sha256(self) -> str | None:
        """The SHA-256 of its server's certificate."""

    @property
    def metadata_certificate(self) -> bytes | None:
        """The certificate (DER) that must have signed the document."""


class State(Protocol):
    """What is remembered of the source. Times are UTC."""

    @property
    def jitter(self) -> float:
        """Drawn once, 0 to 1."""

    @property
    def failures(self) -> int:
        """Since the last success."""

    @property
    def succeeded_at(self) -> datetime | None:
        """The last success."""

    @property
    def etag(self) -> str | None:
        """Of the accepted document."""

    @property
    def last_modified(self) -> str | None:
        """Of the accepted document."""

    @property
    def document_sha256(self) -> str | None:
        """Of the accepted document."""

    @property
    def valid_until(self) -> datetime | None:
        """Of the accepted document."""

    @property
    def cache_duration(self) -> timedelta | None:
        """Of the accepted document."""


class Subscribed(Protocol):
    """A source as stored."""

    @property
    def config(self) -> Config:
        """What was set."""

    @property
    def state(self) -> State:
        """What is remembered."""


class Claim(Protocol):
    """The right to refresh one source, until it expires or another has it, and what it is judged by."""

    @property
    def entity_id(self) -> str:
        """The IdP."""

    @property
    def source(self) -> Subscribed:
        """Where its metadata lies."""

    @property
    def trust(self) -> ProviderTrust:
        """What is trusted for it."""

    @property
    def acceptance(self) -> Acceptance:
        """What makes a new certificate acceptable."""

    @property
    def evidence_age(self) -> timedelta:
        """How old its evidence may be at most."""

    @property
    def document_sha256(self) -> str:
        """The document in force, which a person may have uploaded since the source was asked."""


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


_Claim = TypeVar("_Claim", bound=Claim)
_Claim_contra = TypeVar("_Claim_contra", bound=Claim, contravariant=True)


class Store(Protocol[_Claim_contra]):
    """Where trust is kept. Each method writes all or nothing; False: another has the source now, nothing is written."""

    def find_document(self, sha256: str) -> bytes | None:
        """A stored document that is what its name says."""

    def publish(
        self,
        claim: _Claim_contra,
        rollover: Unchanged | Applied | Held,
        accepted: Accepted,
        *,
        now: datetime,
        next_attempt_at: datetime,
    ) -> bool:
        """Take over what was planned."""

    def publish_unmodified(
        self, claim: _Claim_contra, *, now: datetime, next_attempt_at: datetime, served_at: datetime | None
    ) -> bool:
        """The accepted document still stands, and changes nothing."""

    def fail(self, claim: _Claim_contra, finding: Finding, *, now: datetime, next_attempt_at: datetime) -> bool:
        """The attempt was in vain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshRules:
    """The numbers of every refresh. `usual` is the interval of a source that says nothing of its own.

    The others are those of RolloverPolicy.
    """

    fetch: FetchRules = field(default_factory=FetchRules)
    usual: timedelta = timedelta(hours=1)
    removal_sightings: int = 3
    removal_over: timedelta = timedelta(hours=1)
    max_validity: timedelta | None = None
    require_valid_until: bool = False


class Outcome(StrEnum):
    """What came of a refresh."""

    UNCHANGED = "unchanged"
    APPLIED = "applied"
    HELD = "held"
    FAILED = "failed"
    OVERTAKEN = "overtaken"
    """Another attempt has the source now, and this one counts for nothing."""
    NOT_RECORDED = "not_recorded"
    """The store did not take it; what was stored before stays, and the claim expires."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshOutcome:
    """What came of a refresh, and when the source is asked again (UTC; None: when the claim expires).

    `finding` says why it failed or was held. `error` is what nobody expected.
    """

    entity_id: str
    outcome: Outcome
    next_attempt_at: datetime | None
    finding: Finding | None = None
    changes: tuple[Change, ...] = ()
    problems: tuple[Finding, ...] = ()
    error: Exception | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Learned:
    """What the source says, judged. `modified` is False for a 304."""

    rollover: Unchanged | Applied | Held
    accepted: Accepted
    modified: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failure:
    finding: Finding
    error: Exception | None = None


def refresh_once(
    claim: _Claim,
    *,
    store: Store[_Claim],
    fetch: Fetch,
    rules: RefreshRules,
    now: datetime,
    at_point: Callable[[str], None] | None = None,
) -> RefreshOutcome:
    """Refresh the claimed source at `now` (UTC). Raises nothing.

    `at_point` is called at each of POINTS, for tests that plant faults.
    """
    enter = at_point or _nothing
    learned = _learn(claim, store, fetch, rules, now, enter)
    try:
        outcome = _record(claim, store, learned, now, _next_attempt_at(claim, learned, rules, now))
    except Exception as error:  # noqa: BLE001 - the store's own errors are not known here
        # It may be about this document alone; then it must not be fetched again at every expiry of a claim.
        fault = _fault(error)
        try:
            outcome = _record(claim, store, fault, now, _next_attempt_at(claim, fault, rules, now))
        except Exception as worse:  # noqa: BLE001 - as above
            return RefreshOutcome(
                entity_id=claim.entity_id,
                outcome=Outcome.NOT_RECORDED,
                next_attempt_at=None,
                finding=fault.finding,
                error=worse,
            )
    enter("published")
    return outcome


def _next_attempt_at(claim: Claim, learned: _Learned | _Failure, rules: RefreshRules, now: datetime) -> datetime:
    """When the source is asked again after this."""
    state = claim.source.state
    if isinstance(learned, _Failure):
        valid_until, cache_duration = state.valid_until, state.cache_duration
        succeeded, failures = state.succeeded_at, state.failures + 1
    else:
        valid_until, cache_duration = learned.accepted.metadata.valid_until, learned.accepted.metadata.cache_duration
        succeeded, failures = now, 0
    interval = refresh_interval(usual=rules.usual, valid_until=valid_until, cache_duration=cache_duration, now=now)
    attempts = Attempts(attempted=now, succeeded=succeeded, failures=failures, jitter=state.jitter)
    # The least interval is for what documents ask for, not for what an administrator set.
    return next_refresh(attempts, min(interval, rules.usual))


def _fault(error: Exception) -> _Failure:
    """What failed was ours."""
    finding = Finding(
        reason=TrustReason.METADATA_FAULT,
        expected="metadata that can be judged and stored",
        presented=f"the refresh ended with {type(error).__name__}",
    )
    return _Failure(finding=finding, error=error)


def _nothing(_: str) -> None:
    pass


def _learn(  # noqa: PLR0917 - the arguments of refresh_once
    claim: _Claim,
    store: Store[_Claim],
    fetch: Fetch,
    rules: RefreshRules,
    now: datetime,
    enter: Callable[[str], None],
) -> _Learned | _Failure:
    """Everything before the publication."""
    try:
        answer, document = _obtain(claim, store, fetch, rules.fetch)
        enter("fetched")
        return _judge(claim, answer, document, rules, now, enter)
    except (FetchFailed, Refused) as refusal:
        return _Failure(finding=refusal.finding)
    except Exception as error:  # noqa: BLE001 - whatever a document provokes, the old trust stays
        return _fault(error)


def _obtain(claim: _Claim, store: Store[_Claim], fetch: Fetch, rules: FetchRules) -> tuple[Fetched, bytes]:
    """The source's answer, and the document that it sends or, with a 304, stands by."""
    config, state = claim.source.config, claim.source.state
    source = Source(
        url=config.url,
        ca_pem=config.ca_pem,
        pin_sha256=config.pin_sha256,
        etag=state.etag,
        last_modified=state.last_modified,
    )
    answer = fetch(source, rules)
    document = answer.data
    if document is None and state.document_sha256 is not None:
        document = store.find_document(state.document_sha256)
        if document is not None and hashlib.sha256(document).hexdigest() != state.document_sha256:
            document = None
    if document is None:  # what the 304 speaks of is not here any more
        answer = fetch(replace(source, etag=None, last_modified=None), rules)
        document = answer.data
    if document is None:
        raise Refused(
            TrustReason.METADATA_UNREACHABLE, expected="a document", presented="HTTP status 304 unasked", where="url"
        )
    return answer, document


def _judge(  # noqa: PLR0917 - as above
    claim: _Claim,
    answer: Fetched,
    document: bytes,
    rules: RefreshRules,
    now: datetime,
    enter: Callable[[str], None],
) -> _Learned:
    """The document, judged by what was trusted before it came. Raises Refused."""
    signature = _signature(claim, document, now)
    signer = None if signature.signer is None else signature.signer.sha256
    enter("authenticated")
    (metadata,) = parse_metadata(signature.octets, entity_id=claim.entity_id)
    enter("parsed")
    sha256 = hashlib.sha256(document).hexdigest()
    seen = SeenMetadata(
        metadata=metadata,
        document_sha256=sha256,
        transport=Transport.TLS,
        source=answer.final_url,
        signer=signer if signer is not None and claim.trust.find(signer) is not None else None,
        anchored=claim.source.config.metadata_certificate is not None,
    )
    policy = RolloverPolicy(
        acceptance=claim.acceptance,
        evidence_age=claim.evidence_age,
        removal_sightings=rules.removal_sightings,
        removal_over=rules.removal_over,
        max_validity=rules.max_validity,
        require_valid_until=rules.require_valid_until,
    )
    rollover = plan_rollover(claim.trust, seen, policy, now)
    enter("planned")
    if isinstance(rollover, Rejected):
        finding = rollover.finding
        raise Refused(finding.reason, expected=finding.expected, presented=finding.presented, where=finding.where)
    accepted = Accepted(
        metadata=metadata,
        document=document,
        document_sha256=sha256,
        etag=answer.etag,
        last_modified=answer.last_modified,
        served_at=answer.date,
        provenance={
            "source": claim.source.config.url,
            "final_url": answer.final_url,
            "address": answer.address,
            "tls_chain_sha256": list(answer.tls_chain_sha256),
            "signer": signer,
        },
    )
    return _Learned(rollover=rollover, accepted=accepted, modified=answer.data is not None)


def _signature(claim: Claim, document: bytes, now: datetime) -> DocumentSignature:
    """Who signed the document, asked of the metadata certificate, or else of what is trusted. Raises Refused."""
    anchor = claim.source.config.metadata_certificate
    if anchor is None:
        if len(document) > METADATA_LIMITS.document:
            # A federation's document, which no IdP signs with its token key; nothing in it counts as signed.
            return DocumentSignature(present=False, signer=None, hint_sha256=(), octets=document)
        good = [
            each.certificate
            for each in claim.trust.certificates
            if each.certificate.state in GOOD and not claim.trust.is_revoked(each.certificate)
        ]
        return judge_document_signature(document, good)
    wanted = SigningCertificate(
        der=anchor, state=CertificateState.TRUSTED, since=now, provenance="the metadata certificate"
    )
    if claim.trust.is_revoked(wanted):  # AD FS signs its metadata with its token key
        raise Refused(
            TrustReason.METADATA_SIGNATURE_INVALID,
            expected="a metadata certificate whose key is not revoked: set the source again with another one",
            presented=f"the metadata certificate {wanted.sha256}, whose key is revoked",
            where="metadata_certificate",
        )
    signature = judge_document_signature(document, [wanted])
    if signature.signer is None:
        shown = f"certificate {', '.join(signature.hint_sha256)}" if signature.hint_sha256 else "another key"
        raise Refused(
            TrustReason.METADATA_SIGNATURE_INVALID,
            expected=f"a signature by the metadata certificate {wanted.sha256}",
            presented=_presented(signature, shown),
            where="document",
        )
    return signature


def _presented(signature: DocumentSignature, shown: str) -> str:
    if not signature.present:
        return "none"
    return f"one by {shown}" if signature.unverified is None else f"one that is not verified ({signature.unverified})"


def _record(
    claim: _Claim,
    store: Store[_Claim],
    learned: _Learned | _Failure,
    now: datetime,
    next_attempt_at: datetime,
) -> RefreshOutcome:
    """Write what was learned, and say it. Raises what the store raises."""
    if isinstance(learned, _Failure):
        written = store.fail(claim, learned.finding, now=now, next_attempt_at=next_attempt_at)
        outcome = RefreshOutcome(
            entity_id=claim.entity_id,
            outcome=Outcome.FAILED,
            next_attempt_at=next_attempt_at,
            finding=learned.finding,
            error=learned.error,
        )
    else:
        rollover, accepted = learned.rollover, learned.accepted
        stands = (
            not learned.modified
            and accepted.document_sha256 == claim.document_sha256
            and isinstance(rollover, Unchanged)
            and set(rollover.certificates) == set(claim.trust.certificates)
        )
        if stands:
            written = store.publish_unmodified(
                claim, now=now, next_attempt_at=next_attempt_at, served_at=accepted.served_at
            )
        else:
            written = store.publish(claim, rollover, accepted, now=now, next_attempt_at=next_attempt_at)
        outcome = RefreshOutcome(
            entity_id=claim.entity_id,
            outcome=_OUTCOMES[type(rollover)],
            next_attempt_at=next_attempt_at,
            finding=rollover.finding if isinstance(rollover, Held) else None,
            changes=() if isinstance(rollover, Unchanged) else rollover.changes,
            problems=(*accepted.metadata.problems, *rollover.problems),
        )
    return outcome if written else replace(outcome, outcome=Outcome.OVERTAKEN, next_attempt_at=None)


_OUTCOMES: Mapping[type[Unchanged | Applied | Held], Outcome] = {
    Unchanged: Outcome.UNCHANGED,
    Applied: Outcome.APPLIED,
    Held: Outcome.HELD,
}
