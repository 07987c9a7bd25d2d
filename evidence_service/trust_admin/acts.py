"""Import, subscribe, refresh, compare: each planned first, so that a person sees what it does before it does it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import Engine

from evidence_service.access.model import Policy
from evidence_service.access.policy import policy_problems
from evidence_service.adapters.config_store import ConfigStore, Conflict, IdpChange, NotFound, StoredIdp
from evidence_service.adapters.database import StoreUnavailable
from evidence_service.adapters.snapshots import KeyUnreadable, load_decryption_key
from evidence_service.adapters.trust_store import Claim, SourceConfig, StoredSource, TrustStore
from evidence_service.trust_admin.documents import (
    Diff,
    Fate,
    PolicyMissing,
    Signature,
    SourceFailed,
    Unusable,
    check_policy,
    diff_of_import,
    diff_of_rollover,
    digest_of,
    fetch_problem,
    judge_signature,
    read_certificates,
    read_metadata,
    refused,
    some,
)
from evidence_service.trust_admin.texts import metadata_finding
from idp_certs.fetch import Fetched, FetchFailed, Source, check_url, fetch
from idp_certs.metadata import IdpMetadata
from idp_certs.model import GOOD, Acceptance, SigningCertificate
from idp_certs.reasons import Finding, Refused, TrustReason
from idp_certs.refresh import Accepted, Fetch, Outcome, RefreshOutcome, RefreshRules, refresh_once
from idp_certs.rollover import (
    Applied,
    Held,
    ProviderTrust,
    Rejected,
    RolloverPolicy,
    SeenMetadata,
    Transport,
    Unchanged,
    plan_rollover,
)

LEASE_BEYOND_FETCH = timedelta(seconds=15)
"""How long judging and publishing may take; then another process may claim the source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """What a person hands over: metadata, or bare certificates of an IdP that has none.

    `document` is what is kept of it.
    """

    metadata: IdpMetadata
    document: bytes
    bare: bool = False


def uploaded_metadata(document: bytes, entity_id: str | None) -> Upload:
    """A metadata document. Raises Unusable."""
    return Upload(metadata=read_metadata(document, entity_id), document=document)


def uploaded_certificates(data: bytes, entity_id: str) -> Upload:
    """Bare certificates: PEM, DER or PKCS #7. Only they are kept, as PEM. Raises Unusable."""
    metadata = read_certificates(data, entity_id)
    certificates = map(x509.load_der_x509_certificate, metadata.signing_certificates)
    return Upload(
        metadata=metadata, document=b"".join(each.public_bytes(Encoding.PEM) for each in certificates), bare=True
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportPlan:
    """What an import would do. `signature` is None for bare certificates; `is_known`: nothing but its own date."""

    upload: Upload
    policy: Policy | None
    change: IdpChange
    diff: Diff
    signature: Signature | None
    is_known: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """A metadata source as it is asked for. `policy` and `acceptance` are None to keep those of a known IdP."""

    source: SourceConfig
    entity_id: str | None = None
    policy: Policy | None = None
    acceptance: Acceptance | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What a source says now, judged; whether it was written too is for the act that answers it to say.

    `diff`, `signature` and `accepted` are None where the document could not be taken over at all. A certificate is
    withdrawn after `removal_sightings` documents without it.
    """

    outcome: RefreshOutcome
    diff: Diff | None = None
    signature: Signature | None = None
    accepted: Accepted | None = None
    removal_sightings: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionPlan:
    """What a subscription would do. A new IdP is imported as by a person, a known one is judged by what is trusted.

    `imported` is None for a known IdP, `looked` for a new one. `acceptance` is what would hold from then on.
    """

    subscription: Subscription
    entity_id: str
    fetched: Fetched
    signature: Signature
    diff: Diff
    policy: Policy | None
    acceptance: Acceptance
    imported: ImportPlan | None = None
    looked: Looked | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sight:
    """The right to look at a source, as a claim is to refresh it."""

    entity_id: str
    source: StoredSource | _Unsaved
    trust: ProviderTrust
    acceptance: Acceptance
    evidence_age: timedelta = timedelta(hours=8)
    document_sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Blank:
    """What is remembered of a source that was never asked."""

    jitter: float = 0.0
    failures: int = 0
    succeeded_at: datetime | None = None
    etag: str | None = None
    last_modified: str | None = None
    document_sha256: str | None = None
    valid_until: datetime | None = None
    cache_duration: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unsaved:
    """A source that is not stored yet."""

    config: SourceConfig
    state: _Blank = _Blank()


class _Looking:
    """A store that takes note of what it would be told to write, and writes nothing."""

    def __init__(self, document: Callable[[str], bytes | None]) -> None:
        self._document = document
        self.rollover: Unchanged | Applied | Held | None = None
        self.accepted: Accepted | None = None

    def find_document(self, sha256: str) -> bytes | None:
        return self._document(sha256)

    def publish(
        self,
        claim: _Sight,  # noqa: ARG002 - as the protocol says
        rollover: Unchanged | Applied | Held,
        accepted: Accepted,
        *,
        now: datetime,  # noqa: ARG002
        next_attempt_at: datetime,  # noqa: ARG002
    ) -> bool:
        self.rollover, self.accepted = rollover, accepted
        return True

    def publish_unmodified(self, claim: _Sight, **_: Any) -> bool:
        self.rollover = Unchanged(certificates=claim.trust.certificates)
        return True

    def fail(self, claim: _Sight, finding: Finding, **_: Any) -> bool:  # noqa: ARG002
        return True


class _Noting:
    """The store, and a note of what it is told to write."""

    def __init__(self, store: TrustStore) -> None:
        self._store = store
        self.rollover: Unchanged | Applied | Held | None = None
        self.accepted: Accepted | None = None

    def find_document(self, sha256: str) -> bytes | None:
        return self._store.find_document(sha256)

    def publish(
        self,
        claim: Claim,
        rollover: Unchanged | Applied | Held,
        accepted: Accepted,
        *,
        now: datetime,
        next_attempt_at: datetime,
    ) -> bool:
        self.rollover, self.accepted = rollover, accepted
        return self._store.publish(claim, rollover, accepted, now=now, next_attempt_at=next_attempt_at)

    def publish_unmodified(
        self, claim: Claim, *, now: datetime, next_attempt_at: datetime, served_at: datetime | None
    ) -> bool:
        return self._store.publish_unmodified(claim, now=now, next_attempt_at=next_attempt_at, served_at=served_at)

    def fail(self, claim: Claim, finding: Finding, *, now: datetime, next_attempt_at: datetime) -> bool:
        return self._store.fail(claim, finding, now=now, next_attempt_at=next_attempt_at)


class TrustAdmin:
    """What people do to the trust in IdPs, for the command line and the admin API alike.

    Every method may raise StoreUnavailable, NotFound and Conflict; `now` is aware and `actor` says who does it.
    """

    def __init__(
        self, engine: Engine, *, rules: RefreshRules, secrets_dir: Path | None, owner: str, fetch_: Fetch = fetch
    ) -> None:
        """Work on an open database; `owner` names this process where it claims a source."""
        self.config = ConfigStore(engine)
        self.trust = TrustStore(engine)
        self._rules = rules
        self._secrets_dir = secrets_dir
        self._owner = owner
        self._fetch = fetch_

    def usable_policy(self, policy: Policy) -> Policy:
        """A policy that can be applied on this machine. Raises Unusable."""
        check_policy(policy)
        for name in policy.decryption_keys:
            try:
                load_decryption_key(name, directory=self._secrets_dir)
            except KeyUnreadable as problem:
                raise Unusable("policy", f"policy member `decryption_keys`: {problem}") from None
        return policy

    def known(self, entity_id: str) -> StoredIdp | None:
        """The IdP as stored, if it is registered."""
        try:
            return self.config.get_idp(entity_id)
        except NotFound:
            return None

    def plan_import(self, upload: Upload, *, policy: Policy | None, now: datetime, actor: str) -> ImportPlan:
        """What an import by a person would do. Raises Unusable, PolicyMissing without any usable policy."""
        usable = None if policy is None else self.usable_policy(policy)
        plan = self.compare(upload, now=now, actor=actor, policy=usable)
        if policy is None:
            self._check_stored_policy(plan.change.entity_id)
        return plan

    def compare(self, upload: Upload, *, now: datetime, actor: str, policy: Policy | None = None) -> ImportPlan:
        """What a document would change, whatever the policy. Raises Unusable."""
        change = self._import(upload, policy=policy, now=now, actor=actor, dry_run=True)
        stored = self.known(change.entity_id)
        signature = None
        if not upload.bare:
            held = () if stored is None else stored.certificates
            signature = judge_signature(upload.document, upload.metadata, held, anchor=None, now=now)
        return ImportPlan(
            upload=upload,
            policy=policy,
            change=change,
            diff=diff_of_import(change),
            signature=signature,
            is_known=_is_known(stored, change, upload, policy),
        )

    def import_planned(
        self, plan: ImportPlan, *, now: datetime, actor: str, origin: Mapping[str, Any] | None = None
    ) -> IdpChange:
        """Do it. `origin` says in JSON how the document came, if it was fetched. Raises Unusable."""
        return self._import(plan.upload, policy=plan.policy, now=now, actor=actor, dry_run=False, origin=origin)

    def _import(
        self,
        upload: Upload,
        *,
        policy: Policy | None,
        now: datetime,
        actor: str,
        dry_run: bool,
        origin: Mapping[str, Any] | None = None,
    ) -> IdpChange:
        try:
            return self.config.add_idp(
                metadata=upload.metadata,
                document=upload.document,
                policy=policy,
                now=now,
                actor=actor,
                dry_run=dry_run,
                origin=origin,
            )
        except Refused as problem:
            raise refused("certificates" if upload.bare else "metadata", problem) from None

    def _check_stored_policy(self, entity_id: str) -> None:
        stored = self.known(entity_id)
        problems = policy_problems(Policy() if stored is None else stored.policy)
        if problems:
            raise PolicyMissing("policy", f"{entity_id} has no usable policy yet ({'; '.join(problems)})")

    def plan_subscription(self, wanted: Subscription, *, now: datetime, actor: str) -> SubscriptionPlan:
        """Fetch now, and say what the subscription would do. Raises Unusable and SourceFailed."""
        fetched = self._fetched(wanted.source)
        metadata = self._described(fetched, wanted.entity_id)
        stored = self.known(metadata.entity_id)
        if stored is not None and stored.problem is not None:
            raise Conflict(f"{metadata.entity_id}: {stored.problem}")
        held = () if stored is None else stored.certificates
        document = _document(fetched)
        try:
            signature = judge_signature(document, metadata, held, anchor=wanted.source.metadata_certificate, now=now)
        except Unusable as problem:
            raise _of_source(problem) from None
        policy = self._subscription_policy(wanted, stored, metadata.entity_id)
        acceptance = (policy or (Policy() if stored is None else stored.policy)).acceptance
        if stored is None:
            self._check_first(metadata, document, fetched, now)
            upload = Upload(metadata=metadata, document=document)
            plan = self.compare(upload, now=now, actor=actor, policy=policy)
            return SubscriptionPlan(
                subscription=wanted,
                entity_id=metadata.entity_id,
                fetched=fetched,
                signature=signature,
                diff=plan.diff,
                policy=policy,
                acceptance=acceptance,
                imported=plan,
            )
        sight = _Sight(
            entity_id=metadata.entity_id,
            source=_Unsaved(config=wanted.source),
            trust=self.trust.load_trust(metadata.entity_id),
            acceptance=acceptance,
        )
        looked = self._looked(sight, now=now, fetch_=lambda _source, _rules: fetched)
        if looked.diff is None:
            raise SourceFailed(_finding(looked.outcome))
        return SubscriptionPlan(
            subscription=wanted,
            entity_id=metadata.entity_id,
            fetched=fetched,
            signature=signature,
            diff=looked.diff,
            policy=policy,
            acceptance=acceptance,
            looked=looked,
        )

    def subscribe_planned(self, plan: SubscriptionPlan, *, now: datetime, actor: str) -> RefreshOutcome | None:
        """Do it: a new IdP is imported by this person's word (None), a known one is refreshed by what is trusted.

        The document is the one that was shown. Raises Unusable and SourceFailed.
        """
        entity_id, seen = plan.entity_id, None
        if plan.imported is not None:
            seen = _accepted(plan)
            self.import_planned(plan.imported, now=now, actor=actor, origin=seen.provenance)
        elif plan.policy is not None:
            self.config.set_policy(entity_id, plan.policy, now=now, actor=actor)
        jitter = secrets.SystemRandom().random()
        self.trust.add_source(
            entity_id=entity_id, source=plan.subscription.source, now=now, actor=actor, jitter=jitter, seen=seen
        )
        if plan.imported is not None:
            return None
        return self._refresh(entity_id, now=now, fetch_=lambda _source, _rules: plan.fetched).outcome

    def unsubscribe(self, entity_id: str, *, now: datetime, actor: str) -> None:
        """Fetch no more; trust stays as it is."""
        self.trust.remove_source(entity_id, now=now, actor=actor)

    def look(self, entity_id: str, *, now: datetime) -> Looked:
        """What the source says now, judged as a refresh would. Writes nothing. Raises Conflict for a damaged one."""
        source = self._source(entity_id)
        sight = _Sight(
            entity_id=entity_id,
            source=source,
            trust=self.trust.load_trust(entity_id),
            acceptance=self.config.get_idp(entity_id).policy.acceptance,
        )
        return self._looked(sight, now=now, fetch_=self._fetch)

    def refresh(self, entity_id: str, *, now: datetime) -> Looked:
        """Fetch now and take over what old trust accepts.

        Raises SourceFailed where nothing could be taken over, Conflict while another process is at it.
        """
        self._source(entity_id)
        return self._refresh(entity_id, now=now, fetch_=self._fetch)

    def _source(self, entity_id: str) -> StoredSource:
        self.config.get_idp(entity_id)
        try:
            source = self.trust.get_source(entity_id)
        except NotFound:
            raise NotFound(
                f"{entity_id} has no metadata source to fetch from; subscribe it to its metadata URL first"
            ) from None
        if source.problem is not None:
            raise Conflict(f"the metadata source of {entity_id}: {source.problem}")
        return source

    def _refresh(self, entity_id: str, *, now: datetime, fetch_: Fetch) -> Looked:
        lease = self._rules.fetch.timeout + LEASE_BEYOND_FETCH
        claim = self.trust.claim_one(entity_id, now, owner=self._owner, lease=lease)
        if claim is None:
            raise Conflict(f"the metadata of {entity_id} is being refreshed by another process; look again in a minute")
        store = _Noting(self.trust)
        outcome = refresh_once(claim, store=store, fetch=fetch_, rules=self._rules, now=now)
        match outcome.outcome:
            case Outcome.FAILED:
                raise SourceFailed(_finding(outcome))
            case Outcome.OVERTAKEN:
                raise Conflict(f"the trust in {entity_id} was changed meanwhile; look at it, and refresh again")
            case Outcome.NOT_RECORDED:
                if isinstance(outcome.error, (StoreUnavailable, Conflict, NotFound)):
                    raise outcome.error
                raise StoreUnavailable("what was fetched could not be recorded; try again") from outcome.error
            case _ if store.accepted is None:  # the document in force was confirmed
                stands = Unchanged(certificates=claim.trust.certificates)
                document = self.trust.get_document(claim.document_sha256)
                listed = read_metadata(document, entity_id).signing_certificates
                return Looked(outcome=outcome, diff=diff_of_rollover(claim.trust, stands, listed, now))
            case _:
                return self._judged(outcome, claim.trust, store, now)

    def _judged(self, outcome: RefreshOutcome, held: ProviderTrust, store: _Looking | _Noting, now: datetime) -> Looked:
        """The outcome, and what the document does to each certificate."""
        rollover, accepted = store.rollover, store.accepted
        if rollover is None or accepted is None:
            return Looked(outcome=outcome)
        return Looked(
            outcome=outcome,
            diff=diff_of_rollover(held, rollover, accepted.metadata.signing_certificates, now),
            accepted=accepted,
            removal_sightings=self._rules.removal_sightings,
        )

    def _looked(self, sight: _Sight, *, now: datetime, fetch_: Fetch) -> Looked:
        store = _Looking(self.trust.find_document)
        outcome = refresh_once(sight, store=store, fetch=fetch_, rules=self._rules, now=now)
        looked = self._judged(outcome, sight.trust, store, now)
        if looked.accepted is None:
            return looked
        held = [each.certificate for each in sight.trust.certificates]
        anchor = sight.source.config.metadata_certificate
        accepted = looked.accepted
        signature = judge_signature(accepted.document, accepted.metadata, held, anchor=anchor, now=now)
        return replace(looked, signature=signature)

    def _fetched(self, source: SourceConfig) -> Fetched:
        try:
            check_url(source.url)
            wanted = Source(url=source.url, ca_pem=source.ca_pem, pin_sha256=source.pin_sha256)
            return self._fetch(wanted, self._rules.fetch)
        except FetchFailed as problem:
            raise fetch_problem(problem) from None

    def _described(self, fetched: Fetched, entity_id: str | None) -> IdpMetadata:
        try:
            return read_metadata(_document(fetched), entity_id)
        except Unusable as problem:
            raise _of_source(problem) from None

    def _subscription_policy(self, wanted: Subscription, stored: StoredIdp | None, entity_id: str) -> Policy | None:
        """The policy to set; None to keep the stored one."""
        policy = wanted.policy
        if policy is not None:
            self.usable_policy(policy)
        elif stored is None:
            self._check_stored_policy(entity_id)
        if wanted.acceptance is None:
            return policy
        before = policy or (None if stored is None else stored.policy)
        after = None if before is None else replace(before, acceptance=wanted.acceptance)
        return None if stored is not None and after == stored.policy else after

    def _check_first(self, metadata: IdpMetadata, document: bytes, fetched: Fetched, now: datetime) -> None:
        """What a refresh would refuse is refused from the start. Raises SourceFailed."""
        seen = SeenMetadata(
            metadata=metadata,
            document_sha256=digest_of(document),
            transport=Transport.TLS,
            source=fetched.final_url,
        )
        policy = RolloverPolicy(
            max_validity=self._rules.max_validity, require_valid_until=self._rules.require_valid_until
        )
        nothing = ProviderTrust(entity_id=metadata.entity_id, certificates=())
        planned = plan_rollover(nothing, seen, policy, now)
        if isinstance(planned, Rejected):
            raise SourceFailed(planned.finding)


def _is_known(stored: StoredIdp | None, change: IdpChange, upload: Upload, policy: Policy | None) -> bool:
    """Whether the import would change nothing but its own date."""
    if stored is None or change.created or change.added or change.returned or change.gone:
        return False
    known = {each.sha256 for each in stored.certificates}
    return (
        stored.document_sha256 == digest_of(upload.document)
        and policy in (None, stored.policy)
        and known >= {each.sha256 for each in change.kept}
    )


_CHOICES = frozenset({"choice_needed", str(TrustReason.METADATA_ENTITY_MISMATCH)})


def _of_source(problem: Unusable) -> Unusable | SourceFailed:
    """What is wrong with a fetched document is its server's fault, unless another of its IdPs was meant."""
    if problem.code in _CHOICES:
        return Unusable("entity_id", str(problem), code=problem.code, finding=problem.finding)
    finding = problem.finding or Finding(reason=TrustReason.METADATA_NOT_SAML)
    return SourceFailed(finding, str(problem))


def _document(fetched: Fetched) -> bytes:
    return fetched.data or b""


def _finding(outcome: RefreshOutcome) -> Finding:
    return outcome.finding or Finding(reason=TrustReason.METADATA_UNREACHABLE)


def _accepted(plan: SubscriptionPlan) -> Accepted:
    """The document of a new IdP, as a refresh would have accepted it."""
    fetched, document = plan.fetched, _document(plan.fetched)
    assert plan.imported is not None  # noqa: S101 - the caller's branch
    provenance: Mapping[str, Any] = {
        "source": plan.subscription.source.url,
        "final_url": fetched.final_url,
        "address": fetched.address,
        "tls_chain_sha256": list(fetched.tls_chain_sha256),
        "signer": plan.signature.sha256,
    }
    return Accepted(
        metadata=plan.imported.upload.metadata,
        document=document,
        document_sha256=digest_of(document),
        etag=fetched.etag,
        last_modified=fetched.last_modified,
        served_at=fetched.date,
        provenance=provenance,
    )


def headline(looked: Looked, *, would: bool = False) -> str:
    """What came of a refresh, or `would` come of one, as one sentence."""
    outcome, diff = looked.outcome, looked.diff
    lacks = "" if diff is None else _lacks(diff, looked.removal_sightings)
    if outcome.finding is not None:
        text = metadata_finding(outcome.finding) + (f" Also, {lacks}." if lacks else "")
        return f"certificates would wait for a person: {text}" if would else text
    if outcome.outcome is Outcome.APPLIED:
        text = "a refresh would take this over" if would else "what the source says is taken over"
    elif lacks:
        text = "a refresh would change nothing yet" if would else "nothing is changed yet"
    else:
        text = "the source says what is held" if would else "the source says what is held already"
    rejected = () if diff is None else diff.of(Fate.REJECTED)
    stays = f"what was rejected stays away: {_digests(rejected)}" if rejected else ""
    return "; ".join(each for each in (text, lacks, stays) if each)


def _lacks(diff: Diff, sightings: int) -> str:
    """What the document leaves out of what is held, and what comes of that."""
    missing = diff.of(Fate.MISSING)
    if not missing:
        return ""
    stays = any(each.state in GOOD and each.has_strong_key for each in (*diff.of(Fate.KEPT), *diff.of(Fate.ADDED)))
    then = f"withdrawn after {sightings} documents without it" if stays else "it lists no other that is trusted"
    return f"the source lacks certificates that are held: {_digests(missing)}; {then}"


def _digests(certificates: tuple[SigningCertificate, ...]) -> str:
    return some([each.sha256[:16] for each in certificates])
