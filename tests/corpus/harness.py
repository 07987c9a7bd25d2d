"""From a case of the compiled data to the arguments of `decide`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from evidence_service.access.decide import decide
from evidence_service.access.model import (
    AccessRequest,
    Allow,
    Decision,
    FasRule,
    Phase,
    Policy,
    Sighting,
    Snapshot,
)
from evidence_service.access.policy import parse_policy
from idp_certs.metadata import IdpMetadata, parse_metadata
from idp_certs.model import CertificateState, IdentityProvider, SigningCertificate, TrustSnapshot
from tests.corpus.build import DATA, HERE
from tests.corpus.model import Case, Setting

_TRUSTED_SINCE = datetime(2025, 1, 1, tzinfo=UTC)
_NOTHING = Setting()


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The arguments of `decide` for one case."""

    request: AccessRequest
    snapshot: Snapshot
    now: datetime
    seen: Sighting | None


@cache
def data() -> dict[str, Any]:
    """The committed data."""
    loaded: dict[str, Any] = json.loads(DATA.read_text(encoding="utf-8"))
    return loaded


@cache
def cases() -> tuple[Case, ...]:
    """Every case of the committed data."""
    return tuple(map(Case.from_data, data()["cases"]))


def divergences() -> Mapping[str, Mapping[str, str]]:
    """Cases that are known to be decided otherwise: id to `decision`, `reason` and `why`."""
    loaded: Mapping[str, Mapping[str, str]] = json.loads((HERE / "divergences.json").read_text(encoding="utf-8"))
    return loaded


@cache
def _metadata(name: str) -> tuple[IdpMetadata, ...]:
    return parse_metadata(data()["metadata"][name].encode())


@cache
def _policy(name: str) -> Policy:
    return parse_policy(data()["policies"][name])


@cache
def _keys() -> dict[str, RSAPrivateKey]:
    loaded = {}
    for name, text in data()["decryption_keys"].items():
        key = load_pem_private_key(text.encode(), None)
        assert isinstance(key, RSAPrivateKey)
        loaded[name] = key
    return loaded


def instant(text: str) -> datetime:
    """An instant of the data."""
    return datetime.fromisoformat(text)


def prepare(case: Case) -> Prepared:
    """Everything `decide` needs; a sighting of the same content is learned by deciding once without one."""
    setting = case.setting or _NOTHING
    providers = {entity.entity_id: _provider(entity, setting) for entity in _metadata(case.metadata)}
    snapshot = Snapshot(
        version=f"{case.metadata} {case.policy}",
        trust=TrustSnapshot(providers=providers, as_of=_TRUSTED_SINCE),
        policies=dict.fromkeys(providers, _policy(case.policy)),
        rules={
            name: FasRule(name=name, entity_ids=None if entities is None else frozenset(entities))
            for name, entities in setting.rules.items()
        },
        decryption_keys=_keys(),
    )
    request = AccessRequest(
        request_id=case.id,
        upn=case.upn,
        evidence=() if case.evidence is None else (case.evidence,),
        phase=None if case.phase is None else Phase(case.phase),
        rule=case.rule,
    )
    prepared = Prepared(request=request, snapshot=snapshot, now=instant(case.at), seen=None)
    return prepared if case.seen is None else replace(prepared, seen=_sighting(case, prepared))


def _provider(entity: IdpMetadata, setting: Setting) -> IdentityProvider:
    certificates = []
    for der in entity.signing_certificates:
        made = SigningCertificate(
            der=der, state=CertificateState.TRUSTED, since=_TRUSTED_SINCE, provenance="metadata of the corpus"
        )
        if made.sha256 in setting.certificates:
            state, since = setting.certificates[made.sha256]
            made = replace(made, state=CertificateState(state), since=instant(since))
        certificates.append(made)
    return IdentityProvider(
        entity_id=entity.entity_id,
        certificates=tuple(certificates),
        enabled=setting.enabled,
        deny_after=None if setting.deny_after is None else instant(setting.deny_after),
    )


def _sighting(case: Case, prepared: Prepared) -> Sighting:
    assert case.seen is not None
    first = decide(prepared.request, prepared.snapshot, instant(case.seen.first_seen))
    assert first.assertion is not None, f"{case.id}: an earlier sighting needs evidence whose signature holds"
    content = first.assertion.content_sha256
    return Sighting(
        issuer=first.assertion.issuer,
        assertion_id=first.assertion.assertion_id,
        content_sha256=content if case.seen.content == "same" else "0" * 64,
        upn=case.seen.upn,
        first_seen=instant(case.seen.first_seen),
    )


def run(case: Case) -> Decision:
    """The decision of the service on a case."""
    prepared = prepare(case)
    return decide(prepared.request, prepared.snapshot, prepared.now, seen=prepared.seen)


def codes(decision: Decision) -> tuple[str, ...]:
    """Every code that a decision carries."""
    if isinstance(decision, Allow):
        return (decision.reason,)
    return tuple(str(finding.reason) for finding in decision.findings)


def objection(case: Case, decision: Decision) -> str | None:
    """What is wrong with a decision on a case, or None."""
    answer = "allow" if isinstance(decision, Allow) else "deny"
    found = f"{answer} {decision.reason!s} {sorted(set(codes(decision)))}"
    if answer != case.decision:
        return f"{found} instead of {case.decision}"
    if str(decision.reason) not in case.reasons:
        return f"{found} instead of {' or '.join(case.reasons)}"
    if case.only_objection and not set(codes(decision)) <= set(case.reasons):
        return f"{found} has further findings"
    return None


def disagreements() -> Iterator[tuple[Case, str]]:
    """Every case that the service decides otherwise, and how."""
    for case in cases():
        wrong = objection(case, run(case))
        if wrong is not None:
            yield case, wrong
