"""Judging captured evidence with metadata and policy from files: no database, nothing remembered."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from evidence_service.access.decide import Examination, examine
from evidence_service.access.model import AccessRequest, Allow, AssertionSummary, Decision, Phase, Policy, Snapshot
from evidence_service.cli.errors import BadInput
from evidence_service.cli.files import read_metadata, read_policy
from evidence_service.trust_admin.texts import instant, metadata_finding
from idp_certs.instants import parse_instant
from idp_certs.metadata import IdpMetadata
from idp_certs.model import CertificateState, IdentityProvider, SigningCertificate, TrustSnapshot
from idp_certs.reasons import Finding

_SINCE_EVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFile:
    """A policy and the decryption keys it names."""

    policy: Policy
    keys: Mapping[str, RSAPrivateKey]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked about one piece of evidence; `at` is UTC."""

    evidence: bytes
    upn: str
    at: datetime
    phase: Phase | None
    rule: str | None


NO_POLICY = PolicyFile(policy=Policy(), keys={})


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataFile:
    """The IdPs of a metadata file, and what a person should know about it."""

    providers: Mapping[str, IdentityProvider]
    described: tuple[IdpMetadata, ...]

    def warnings(self, at: datetime) -> Iterator[str]:
        """Certificates that were left out, and metadata that was no longer valid at this instant."""
        for each in self.described:
            for problem in each.problems:
                yield f"{each.entity_id}: {metadata_finding(problem)}"
            if each.valid_until is not None and each.valid_until <= at:
                yield f"{each.entity_id}: this metadata was valid until {instant(each.valid_until)}"


def load_metadata(path: Path) -> MetadataFile:
    """Every IdP of a metadata file, with its certificates trusted. Raises BadInput, and Refused by its content."""
    _, described = read_metadata(path)
    return MetadataFile(providers={each.entity_id: _provider(each, path) for each in described}, described=described)


def _provider(metadata: IdpMetadata, path: Path) -> IdentityProvider:
    return IdentityProvider(
        entity_id=metadata.entity_id,
        certificates=tuple(
            SigningCertificate(der=der, state=CertificateState.TRUSTED, since=_SINCE_EVER, provenance=str(path))
            for der in metadata.signing_certificates
        ),
    )


def load_policy(path: Path) -> PolicyFile:
    """A policy file with its keys, whose paths are relative to it. Raises BadInput."""
    policy = read_policy(path)
    if not policy.decryption_keys:
        return PolicyFile(policy=policy, keys={})
    # Only encrypted evidence needs the loader, and it brings the database with it.
    from evidence_service.adapters.snapshots import KeyUnreadable, load_decryption_key  # noqa: PLC0415

    try:
        keys = {
            name: load_decryption_key(str((path.parent / name).resolve()), directory=None)
            for name in policy.decryption_keys
        }
    except KeyUnreadable as problem:
        raise BadInput(f"policy file {path}: decryption_keys: {problem}") from None
    return PolicyFile(policy=policy, keys=keys)


def parse_at(text: str, name: str) -> datetime:
    """An instant that a person wrote. Raises BadInput with the name of the option or member."""
    try:
        return parse_instant(text)
    except ValueError:
        raise BadInput(f"{name}: {text!r} is not a UTC instant; write it like 2026-01-31T12:00:00Z") from None


def judge(question: Question, providers: Mapping[str, IdentityProvider], policy: PolicyFile) -> Examination:
    """Decide one question; every IdP has the same policy."""
    snapshot = Snapshot(
        version="offline",
        trust=TrustSnapshot(providers=providers, as_of=question.at),
        policies=dict.fromkeys(providers, policy.policy),
        decryption_keys=policy.keys,
    )
    request = AccessRequest(
        request_id="offline",
        upn=question.upn,
        evidence=(question.evidence,),
        phase=question.phase,
        rule=question.rule,
    )
    return examine(request, snapshot, question.at)


def decision_json(decision: Decision) -> dict[str, Any]:
    """`decision`, `reason`, `findings`, `idp` and `assertion`, as documented for `check -o json`."""
    return {
        "decision": "allow" if isinstance(decision, Allow) else "deny",
        "reason": str(decision.reason),
        "findings": [] if isinstance(decision, Allow) else [finding_json(each) for each in decision.findings],
        "idp": decision.entity_id,
        "assertion": None if decision.assertion is None else assertion_json(decision.assertion),
    }


def finding_json(finding: Finding) -> dict[str, str]:
    """A finding with its four members."""
    return {
        "reason": str(finding.reason),
        "expected": finding.expected,
        "presented": finding.presented,
        "where": finding.where,
    }


def assertion_json(assertion: AssertionSummary) -> dict[str, Any]:
    """What was read from verified evidence, instants as text."""
    return {
        name: instant(value) if isinstance(value, datetime) else value
        for name, value in dataclasses.asdict(assertion).items()
    }
