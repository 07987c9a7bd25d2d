"""The demonstration IdP: what it signs holds for others, and what it publishes can be imported."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree
from signxml.verifier import SignatureConfiguration, XMLVerifier

from evidence_service.access.decide import decide
from evidence_service.access.model import AccessRequest, Allow, Deny, Policy, Snapshot
from evidence_service.demo.idp import DS, PROFILES, SAML, DemoIdp, Profile, Signs, new_key, self_signed
from idp_certs.metadata import parse_metadata
from idp_certs.model import CertificateState, IdentityProvider, SigningCertificate, TrustSnapshot

NOW = datetime(2026, 5, 4, 9, 30, 15, 123456, tzinfo=UTC)
AUDIENCE, RECIPIENT = "https://gw.example", "https://gw.example/cgi/samlauth"
ALICE = "alice@corp.example"
SIGNED = (Signs.ASSERTION, Signs.RESPONSE, Signs.BOTH)


@pytest.fixture(scope="module")
def key() -> RSAPrivateKey:
    """The IdP's token-signing key."""
    return new_key()


@pytest.fixture(scope="module")
def gateway_key() -> RSAPrivateKey:
    """The key that assertions are encrypted to."""
    return new_key()


@pytest.fixture(scope="module")
def certificate(key: RSAPrivateKey) -> x509.Certificate:
    """The token-signing certificate."""
    return self_signed("demo", key, not_before=NOW - timedelta(days=1), not_after=NOW + timedelta(days=1))


@pytest.fixture(params=PROFILES, ids=lambda profile: profile.product)
def idp(request: pytest.FixtureRequest, key: RSAPrivateKey, certificate: x509.Certificate) -> DemoIdp:
    """One IdP of each product."""
    profile: Profile = request.param
    return DemoIdp(entity_id="https://idp.example/saml", profile=profile, key=key, certificate=certificate)


def evidence(idp: DemoIdp, key: RSAPrivateKey | None = None) -> bytes:
    """Alice's sign-in."""
    return idp.issue(
        upn=ALICE,
        issue_instant=NOW,
        audience=AUDIENCE,
        recipient=RECIPIENT,
        assertion_id="_a1",
        encrypt_to=None if key is None else key.public_key(),
    )


def snapshot(idp: DemoIdp, gateway_key: RSAPrivateKey) -> Snapshot:
    """Trust in the IdP by what its metadata says, with a policy that fits it."""
    (metadata,) = parse_metadata(idp.metadata())
    trusted = tuple(
        SigningCertificate(der=der, state=CertificateState.TRUSTED, since=NOW, provenance="metadata")
        for der in metadata.signing_certificates
    )
    provider = IdentityProvider(entity_id=metadata.entity_id, certificates=trusted)
    policy = Policy(
        audiences=(AUDIENCE,),
        recipients=(RECIPIENT,),
        upn_from=(idp.profile.upn_from,),
        upn_suffixes=("corp.example",),
        decryption_keys=("gateway",),
    )
    return Snapshot(
        version="1",
        trust=TrustSnapshot(providers={provider.entity_id: provider}, as_of=NOW),
        policies={provider.entity_id: policy},
        decryption_keys={"gateway": gateway_key},
    )


def verify(document: bytes, certificate: x509.Certificate, place: str) -> None:
    """Verify the signature at `place` with signxml alone."""
    expected = SignatureConfiguration(location=place, expect_references=1, verification_time=NOW)
    XMLVerifier().verify(
        document, x509_cert=certificate, id_attribute="ID", validate_schema=False, expect_config=expected
    )


def question(evidence: bytes) -> AccessRequest:
    """Alice's launch."""
    return AccessRequest(request_id="r1", upn=ALICE, evidence=(evidence,))


@pytest.mark.parametrize("signs", SIGNED)
def test_another_verifier_accepts_each_signature(idp: DemoIdp, signs: Signs) -> None:
    """The own verifier of signxml, given the certificate and the place, finds every signature that was promised."""
    places = {Signs.RESPONSE: ["./"], Signs.ASSERTION: [f"./{{{SAML}}}Assertion/"]}
    places[Signs.BOTH] = places[Signs.RESPONSE] + places[Signs.ASSERTION]
    signed = evidence(replace(idp, profile=replace(idp.profile, signs=signs)))
    for place in places[signs]:
        verify(signed, idp.certificate, place)
    assert len(places[signs]) == signed.count(b"<ds:SignatureValue>")


def test_a_prefix_list_is_written_down() -> None:
    """Okta's reference names the prefixes it was digested with, or no verifier could repeat the digest."""
    key = new_key()
    certificate = self_signed("demo", key, not_before=NOW, not_after=NOW + timedelta(days=1))
    okta = next(profile for profile in PROFILES if profile.product == "Okta")
    signed = evidence(DemoIdp(entity_id="https://idp.example", profile=okta, key=key, certificate=certificate))
    assert signed.count(b'PrefixList="xs"/></ds:Transform>') == 2
    verify(signed, certificate, "./")


def test_equal_arguments_give_equal_evidence(idp: DemoIdp) -> None:
    """Nothing in plain evidence depends on chance or on a clock."""
    assert evidence(idp) == evidence(idp)


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
@pytest.mark.parametrize("signs", SIGNED)
def test_genuine_evidence_is_allowed(idp: DemoIdp, signs: Signs, encrypted: bool, gateway_key: RSAPrivateKey) -> None:
    """Every product, each way of signing, plain and encrypted: the user it names may launch."""
    each = replace(idp, profile=replace(idp.profile, signs=signs))
    issued = evidence(each, gateway_key if encrypted else None)
    decision = decide(question(issued), snapshot(each, gateway_key), NOW + timedelta(hours=1))
    assert isinstance(decision, Allow), decision
    assert ("ok", ALICE, encrypted) == (decision.reason, decision.assertion.upn, decision.assertion.encrypted)


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_unsigned_evidence_is_denied(idp: DemoIdp, encrypted: bool, gateway_key: RSAPrivateKey) -> None:
    """Evidence that the IdP left unsigned is a deny `signature_missing`, also where it is encrypted to us."""
    each = replace(idp, profile=replace(idp.profile, signs=Signs.NOTHING))
    issued = evidence(each, gateway_key if encrypted else None)
    decision = decide(question(issued), snapshot(each, gateway_key), NOW)
    assert isinstance(decision, Deny)
    assert decision.reason == "signature_missing"


def test_metadata_names_the_signing_certificate_alone(idp: DemoIdp) -> None:
    """The published metadata gives the entity ID, the SSO address, and of two certificates the one that signs."""
    other = self_signed("encryption", new_key(), not_before=NOW, not_after=NOW + timedelta(days=1))
    (metadata,) = parse_metadata(replace(idp, encryption_certificate=other).metadata())
    assert idp.entity_id == metadata.entity_id
    assert (idp.certificate.public_bytes(Encoding.DER),) == tuple(metadata.signing_certificates)
    assert tuple(dict.fromkeys(metadata.sso_urls)) == ("https://idp.example/saml/sso",)
    assert tuple(metadata.problems) == ()


def test_federation_metadata_is_signed_by_the_token_key(key: RSAPrivateKey, certificate: x509.Certificate) -> None:
    """AD FS and Entra sign the document they publish with the key they sign tokens with."""
    for profile in PROFILES:
        idp = DemoIdp(entity_id="https://idp.example", profile=profile, key=key, certificate=certificate)
        document = idp.metadata()
        assert profile.federation_roles == (f"{{{DS}}}Signature" in [child.tag for child in etree.fromstring(document)])
        if profile.federation_roles:
            verify(document, certificate, "./")


def test_a_renewed_certificate_is_announced_beside_the_one_in_use(idp: DemoIdp) -> None:
    """What is announced comes after the own certificate, and the document is signed by whoever is said to sign it."""
    key = new_key()
    renewed = self_signed("renewed", key, not_before=NOW, not_after=NOW + timedelta(days=1))
    document = idp.metadata(also=(renewed,), signed_by=replace(idp, key=key, certificate=renewed))
    (metadata,) = parse_metadata(document)
    listed = [each.public_bytes(Encoding.DER) for each in (idp.certificate, renewed)]
    assert listed == list(dict.fromkeys(metadata.signing_certificates))
    if idp.profile.federation_roles:
        verify(document, renewed, "./")
