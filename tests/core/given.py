"""What the tests of the core start from: one genuine sign-in by a real IdP's habits, and ways to change one thing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from lxml import etree

from evidence_service.access.decide import Examination, decide, examine
from evidence_service.access.model import AccessRequest, Allow, Decision, Deny, FasRule, Policy, Sighting, Snapshot
from evidence_service.access.reasons import OK
from evidence_service.demo.idp import ADFS, ENTRA, KEYCLOAK, OKTA, SAML, SAMLP, DemoIdp, Profile, Signs
from idp_certs.model import CertificateState, IdentityProvider, SigningCertificate, TrustSnapshot
from tests.corpus import keys, names

ENTITY_ID = names.IDP
AUDIENCE = names.GATEWAY
RECIPIENT = names.ACS
ALICE = names.ALICE
ASSERTION_ID = "_a1"
ISSUED = datetime(2026, 1, 1, 12, tzinfo=UTC)
NOW = ISSUED + timedelta(seconds=30)
LONG_AGO = datetime(2025, 1, 1, tzinfo=UTC)
GATEWAY_KEY = "sp"

S = f"{{{SAML}}}"
P = f"{{{SAMLP}}}"

Change = Callable[[etree._Element], object]


def nothing(root: etree._Element) -> None:
    """Change nothing."""


def idp_of(profile: Profile = ADFS, *, key: str = "idp", entity_id: str = ENTITY_ID, **habits: Any) -> DemoIdp:
    """An IdP of this product, with a fixed key and with some habits changed."""
    return DemoIdp(
        entity_id=entity_id,
        profile=replace(profile, **habits),
        key=keys.rsa_key(key),
        certificate=x509.load_der_x509_certificate(keys.certificate(key)),
    )


def gateway_public_key() -> RSAPublicKey:
    """The key that assertions are encrypted to."""
    return keys.rsa_key(GATEWAY_KEY).public_key()


def genuine(idp: DemoIdp | None = None, *, encrypted: bool = False, **changes: Any) -> bytes:
    """Alice's sign-in at the idp, as it was issued."""
    issue: dict[str, Any] = {
        "upn": ALICE,
        "issue_instant": ISSUED,
        "audience": AUDIENCE,
        "recipient": RECIPIENT,
        "assertion_id": ASSERTION_ID,
        "encrypt_to": gateway_public_key() if encrypted else None,
    }
    return (idp or idp_of()).issue(**(issue | changes))


def changed(
    change: Change, idp: DemoIdp | None = None, *, then: Change = nothing, by: DemoIdp | None = None, **changes: Any
) -> bytes:
    """Alice's sign-in with a `change` made before it was correctly signed, and another made after (`then`).

    It is signed by the key and in the places of `by`, which is the issuing `idp` where nothing else is said.
    """
    idp = idp or idp_of()
    by = by or idp
    unsigned = replace(idp, profile=replace(idp.profile, signs=Signs.NOTHING))
    root = etree.fromstring(genuine(unsigned, **changes))
    change(root)
    if by.profile.signs.the_assertion:
        assertion = root.find(S + "Assertion")
        assert assertion is not None
        root.replace(assertion, signed(assertion, by))
    if by.profile.signs.the_response:
        root = signed(root, by)
    then(root)
    return etree.tostring(root)


def signed(element: etree._Element, idp: DemoIdp | None = None) -> etree._Element:
    """A correctly signed copy of `element`, whatever it says."""
    alone = etree.fromstring(etree.tostring(element, with_tail=False))
    return (idp or idp_of())._sign(alone, after=S + "Issuer" if alone.find(S + "Issuer") is not None else None)


def one(root: etree._Element, path: str) -> etree._Element:
    """The first element below `root` at `path`, in which `s:`, `p:` and `d:` stand for the three namespaces."""
    found = root.find(path, {"s": SAML, "p": SAMLP, "d": "http://www.w3.org/2000/09/xmldsig#"})
    assert found is not None, path
    return found


def with_attribute(path: str, name: str, value: str | None) -> Change:
    """A change: the attribute of the element at `path` has this value, or is gone."""

    def change(root: etree._Element) -> None:
        element = one(root, path) if path else root
        element.attrib.pop(name, None)
        if value is not None:
            element.set(name, value)

    return change


def with_text(path: str, text: str) -> Change:
    """A change: the element at `path` says this."""

    def change(root: etree._Element) -> None:
        one(root, path).text = text

    return change


def without(path: str) -> Change:
    """A change: the element at `path` is gone."""

    def change(root: etree._Element) -> None:
        element = one(root, path)
        parent = element.getparent()
        assert parent is not None
        parent.remove(element)

    return change


def all_of(*changes: Change) -> Change:
    """Several changes, one after the other."""

    def change(root: etree._Element) -> None:
        for each in changes:
            each(root)

    return change


def certificate(
    name: str = "idp", state: CertificateState = CertificateState.TRUSTED, since: datetime = LONG_AGO
) -> SigningCertificate:
    """A certificate of the corpus in this state."""
    return SigningCertificate(der=keys.certificate(name), state=state, since=since, provenance="test")


def policy_for(profile: Profile = ADFS, **members: Any) -> Policy:
    """A policy that accepts Alice's sign-in at an IdP of this product."""
    complete: dict[str, Any] = {
        "audiences": (AUDIENCE,),
        "recipients": (RECIPIENT,),
        "upn_from": (profile.upn_from,),
        "upn_suffixes": ("corp.example",),
        "decryption_keys": (GATEWAY_KEY,),
    }
    return Policy(**(complete | members))


def snapshot_of(
    policy: Policy | None = None,
    *certificates: SigningCertificate,
    rules: tuple[FasRule, ...] = (),
    others: tuple[tuple[IdentityProvider, Policy], ...] = (),
    **provider: Any,
) -> Snapshot:
    """Trust in the one IdP by these certificates (its usual one, where none is named), and in `others`."""
    idp = IdentityProvider(entity_id=ENTITY_ID, certificates=certificates or (certificate(),), **provider)
    everyone = ((idp, policy or policy_for()), *others)
    return Snapshot(
        version="1",
        trust=TrustSnapshot(providers={each.entity_id: each for each, _ in everyone}, as_of=ISSUED),
        policies={each.entity_id: its for each, its in everyone},
        rules={rule.name: rule for rule in rules},
        decryption_keys={GATEWAY_KEY: keys.rsa_key(GATEWAY_KEY)},
    )


def request_of(*evidence: bytes, upn: str = ALICE, **members: Any) -> AccessRequest:
    """FAS asks for Alice with this evidence."""
    return AccessRequest(request_id="r1", upn=upn, evidence=evidence, **members)


def judged(
    evidence: bytes,
    snapshot: Snapshot | None = None,
    now: datetime = NOW,
    *,
    seen: Sighting | None = None,
    **request: Any,
) -> Decision:
    """The decision about `evidence`."""
    return decide(request_of(evidence, **request), snapshot or snapshot_of(), now, seen=seen)


def examined(
    evidence: bytes,
    snapshot: Snapshot | None = None,
    now: datetime = NOW,
    *,
    seen: Sighting | None = None,
    **request: Any,
) -> Examination:
    """The decision about `evidence` with all checks."""
    return examine(request_of(evidence, **request), snapshot or snapshot_of(), now, seen=seen)


def outcome(decision: Decision) -> tuple[str, ...]:
    """`("allow", "ok")`, or `("deny", ...)` with the distinct reasons, the one that is given first."""
    if isinstance(decision, Allow):
        return ("allow", str(decision.reason))
    ranked = sorted(decision.findings, key=lambda finding: finding.reason.rank)
    return ("deny", *dict.fromkeys(str(finding.reason) for finding in ranked))


ALLOW = ("allow", OK)


def deny(*reasons: str) -> tuple[str, ...]:
    """The outcome of a deny for exactly these reasons."""
    return ("deny", *reasons)


SHAPES: dict[str, tuple[Profile, bool]] = {
    "assertion signed": (ADFS, False),
    "assertion signed, other prefixes": (ENTRA, False),
    "response signed": (KEYCLOAK, False),
    "both signed": (OKTA, False),
    "assertion signed and encrypted": (ADFS, True),
    "response signed, assertion encrypted": (KEYCLOAK, True),
    "both signed and encrypted": (OKTA, True),
}
"""Sentence to product and whether the assertion is encrypted."""

__all__ = [
    "ADFS",
    "ALICE",
    "ALLOW",
    "ASSERTION_ID",
    "AUDIENCE",
    "ENTITY_ID",
    "ENTRA",
    "GATEWAY_KEY",
    "ISSUED",
    "KEYCLOAK",
    "LONG_AGO",
    "NOW",
    "OKTA",
    "RECIPIENT",
    "SHAPES",
    "Change",
    "Deny",
    "P",
    "S",
    "Signs",
    "all_of",
    "certificate",
    "changed",
    "deny",
    "examined",
    "gateway_public_key",
    "genuine",
    "idp_of",
    "judged",
    "nothing",
    "one",
    "outcome",
    "policy_for",
    "request_of",
    "signed",
    "snapshot_of",
    "with_attribute",
    "with_text",
    "without",
]
