"""Evidence that only its signer stands against, told from everything else that is signed by an unknown key."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from lxml import etree

from evidence_service.access.decide import decide
from evidence_service.access.model import Encryption, Policy, RequireSigned, Reuse, Snapshot
from evidence_service.access.plausible import MAX_SUBJECT, UnknownSigner, unknown_signer
from evidence_service.demo.idp import DemoIdp
from idp_certs.model import CertificateState
from tests.architecture.sources import all_modules, calls, name_of
from tests.core.given import (
    ADFS,
    ENTITY_ID,
    ISSUED,
    KEYCLOAK,
    NOW,
    OKTA,
    SHAPES,
    Change,
    all_of,
    certificate,
    changed,
    genuine,
    idp_of,
    judged,
    outcome,
    policy_for,
    request_of,
    signed,
    snapshot_of,
    with_attribute,
    with_text,
    without,
)
from tests.corpus import harness, keys
from tests.corpus.good import Launch
from tests.corpus.sign import PLAIN_TRANSFORMS, How

NEXT = keys.certificate("idp_next")
SIGNER = UnknownSigner(
    entity_id=ENTITY_ID,
    certificate_sha256=hashlib.sha256(NEXT).hexdigest(),
    subject=x509.load_der_x509_certificate(NEXT).subject.rfc4514_string(),
)
LISTED = (PLAIN_TRANSFORMS[0], replace(PLAIN_TRANSFORMS[1], prefixes="samlp saml"))
NAMELESS = UnknownSigner(entity_id=ENTITY_ID, certificate_sha256="", subject="")
D = "{http://www.w3.org/2000/09/xmldsig#}"


def next_key(profile: object = ADFS) -> DemoIdp:
    """The same IdP after it rolled over without a word."""
    return idp_of(profile, key="idp_next")  # type: ignore[arg-type]


def found(
    evidence: bytes, policy: Policy | None = None, *, snapshot: Snapshot | None = None, now: datetime = NOW
) -> UnknownSigner | None:
    """Who signed, as far as it is worth a look."""
    return unknown_signer(request_of(evidence), snapshot or snapshot_of(policy), now)


def without_key_info(root: etree._Element) -> None:
    """Take every KeyInfo of a signature away."""
    for info in list(root.iter(D + "KeyInfo")):
        parent = info.getparent()
        assert parent is not None
        if parent.tag == D + "Signature":
            parent.remove(info)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_rollover_without_notice_is_plausible(shape: str) -> None:
    """Every habit of signing and encrypting; what is denied before and allowed once the key is known (promise 30)."""
    profile, encrypted = SHAPES[shape]
    raw = genuine(next_key(profile), encrypted=encrypted)
    policy = policy_for(profile)

    assert outcome(judged(raw, snapshot_of(policy))) == ("deny", "signature_invalid")
    assert found(raw, policy) == SIGNER
    assert outcome(judged(raw, snapshot_of(policy, certificate("idp_next")))) == ("allow", "ok")


def slow_key(bits: int, exponent: int) -> rsa.RSAPrivateKey:
    """A key whose signatures take the longer to verify the longer the public exponent is, which is a prime."""
    numbers = rsa.generate_private_key(65537, bits).private_numbers()
    d = pow(exponent, -1, (numbers.p - 1) * (numbers.q - 1))
    p, q = numbers.p, numbers.q
    public = rsa.RSAPublicNumbers(exponent, p * q)
    made = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), rsa.rsa_crt_iqmp(p, q), public)
    return made.private_key(unsafe_skip_rsa_key_validation=True)


def shown_by(key: rsa.RSAPrivateKey, *, names: int = 1) -> DemoIdp:
    """The IdP with a key and a certificate with so many names in its subject."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"name {each}") for each in range(names)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return replace(next_key(), key=key, certificate=made)


def test_promise_27_certificates_that_take_long_are_not_looked_at() -> None:
    """Promise 27: a huge public exponent, or thousands of names, would hold up launches at each look."""
    key = rsa.generate_private_key(65537, 2048)
    assert found(genuine(shown_by(key, names=100))) is not None
    assert found(genuine(shown_by(key, names=2_000))) is None
    assert found(genuine(shown_by(slow_key(2048, 2**31 - 1)))) is not None
    assert found(genuine(shown_by(slow_key(2048, 2**521 - 1)))) is None


@pytest.mark.parametrize("shape", ["assertion signed", "assertion signed, other prefixes", "response signed"])
def test_an_idp_that_shows_no_certificate_is_plausible(shape: str) -> None:
    """KeyInfo is optional; the digest still ties the content to what was signed."""
    profile, _ = SHAPES[shape]
    root = etree.fromstring(genuine(next_key(profile)))
    without_key_info(root)

    assert outcome(judged(etree.tostring(root), snapshot_of(policy_for(profile)))) == ("deny", "signature_invalid")
    assert found(etree.tostring(root), policy_for(profile)) == NAMELESS


def test_white_space_and_declarations_around_the_signature_are_part_of_what_was_signed() -> None:
    """The digest without a certificate is taken as signxml takes it: text after the signature, prefixes of a list."""
    for how in (
        How(key="idp_next", key_info=None, tail="\n  "),
        How(key="idp_next", key_info=None, wrap=True, index=0, tail=" "),
        How(key="idp_next", key_info=None, transforms=LISTED),
    ):
        raw = Launch().sign(how).wire()
        assert found(raw) == NAMELESS
        assert outcome(judged(raw, snapshot_of(None, certificate("idp_next")))) == ("allow", "ok")


def test_a_key_of_another_kind_is_plausible() -> None:
    """An IdP may roll over from RSA to an elliptic curve."""
    raw = (
        Launch()
        .sign(key="p256", method="http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256", key_info=("p256",))
        .wire()
    )
    signer = found(raw)
    assert signer is not None
    assert signer.certificate_sha256 == keys.fingerprint("p256")


def test_one_of_two_signatures_by_an_unknown_key_is_plausible() -> None:
    """The farm's nodes may roll over one by one; the signature that failed is the one told of."""
    root = signed(etree.fromstring(genuine()), next_key())
    assert found(etree.tostring(root)) == SIGNER


def test_an_idp_without_any_certificate_can_be_helped() -> None:
    """No certificate is trusted any more: whoever signs plausibly is unknown."""
    snapshot = snapshot_of()
    provider = replace(snapshot.trust.providers[ENTITY_ID], certificates=())
    empty = replace(snapshot, trust=replace(snapshot.trust, providers={ENTITY_ID: provider}))
    raw = genuine(next_key())

    assert outcome(judged(raw, empty)) == ("deny", "no_trusted_certificate")
    assert found(raw, snapshot=empty) == SIGNER


CHANGES: dict[str, Change] = {
    "another audience": with_text("s:Assertion/s:Conditions/s:AudienceRestriction/s:Audience", "https://other.example"),
    "another recipient": with_attribute(
        "s:Assertion/s:Subject/s:SubjectConfirmation/s:SubjectConfirmationData", "Recipient", "https://other.example"
    ),
    "another destination": with_attribute("", "Destination", "https://other.example"),
    "no success": with_attribute("p:Status/p:StatusCode", "Value", "urn:oasis:names:tc:SAML:2.0:status:Responder"),
    "no conditions": without("s:Assertion/s:Conditions"),
    "no subject": without("s:Assertion/s:Subject"),
    "no sign-in": without("s:Assertion/s:AuthnStatement"),
    "no name": all_of(without("s:Assertion/s:AttributeStatement"), with_text("s:Assertion/s:Subject/s:NameID", "")),
    "no readable time": with_attribute("s:Assertion", "IssueInstant", "yesterday"),
    "the issuer in other case": with_text("s:Assertion/s:Issuer", ENTITY_ID.upper()),
    "the issuer of nobody": with_text("s:Assertion/s:Issuer", "https://nobody.example"),
    "no issuer": with_text("s:Assertion/s:Issuer", ""),
    "another version": with_attribute("s:Assertion", "Version", "1.1"),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("profile", [ADFS, KEYCLOAK, OKTA], ids=lambda each: each.product)
def test_promise_28_content_that_would_be_denied_is_not_plausible(name: str, profile: object) -> None:
    """Promise 28: whatever a rule would object to, were the signer known."""
    assert found(genuine(next_key(profile)), policy_for(profile)) == SIGNER  # type: ignore[arg-type]
    raw = changed(CHANGES[name], next_key(profile))
    assert found(raw, policy_for(profile)) is None  # type: ignore[arg-type]


def test_promise_28_time_and_user_count() -> None:
    """Promise 28: too old, not yet issued, another user, a suffix that is not the IdP's."""
    raw = genuine(next_key())
    assert found(raw) == SIGNER
    assert found(raw, now=ISSUED + timedelta(hours=8)) == SIGNER
    assert found(raw, now=ISSUED + timedelta(hours=8, seconds=1)) is None
    assert found(raw, now=ISSUED - timedelta(minutes=4)) is None
    assert unknown_signer(request_of(raw, upn="bob@corp.example"), snapshot_of(), NOW) is None
    assert unknown_signer(request_of(raw, upn=""), snapshot_of(), NOW) is None
    assert unknown_signer(request_of(), snapshot_of(), NOW) is None
    assert unknown_signer(request_of(raw, raw), snapshot_of(), NOW) is None
    assert unknown_signer(request_of(raw, rule="other"), snapshot_of(), NOW) == SIGNER
    assert found(raw, policy_for(upn_suffixes=("other.example",))) is None
    assert found(raw, policy_for(reuse=Reuse.FRESH_ONCE), now=ISSUED + timedelta(hours=1)) is None


def test_promise_28_policy_and_provider_count() -> None:
    """Promise 28: a disabled IdP, a policy that allows nobody, stale metadata, what must be signed or encrypted."""
    raw = genuine(next_key())
    assert found(raw, snapshot=snapshot_of(None, enabled=False)) is None
    assert found(raw, snapshot=snapshot_of(None, deny_after=ISSUED)) is None
    assert found(raw, Policy()) is None
    assert found(raw, policy_for(require_signed=RequireSigned.BOTH)) is None
    assert found(raw, policy_for(require_signed=RequireSigned.RESPONSE)) is None
    assert found(raw, policy_for(encryption=Encryption.REQUIRED)) is None
    encrypted = genuine(next_key(), encrypted=True)
    assert found(encrypted) == SIGNER
    assert found(encrypted, policy_for(encryption=Encryption.REFUSED)) is None
    assert found(encrypted, policy_for(decryption_keys=())) is None
    assert found(genuine(next_key(), encrypt_to=keys.rsa_key("sp_foreign").public_key())) is None


def test_promise_28_dates_count_where_the_policy_says_so() -> None:
    """Promise 28: a certificate whose dates would be a deny is not worth a look."""
    raw = genuine(next_key())
    end = x509.load_der_x509_certificate(NEXT).not_valid_after_utc
    late = end + timedelta(days=1)
    issued_late = genuine(next_key(), issue_instant=late)
    assert found(raw, policy_for(enforce_certificate_dates=True)) == SIGNER
    assert found(issued_late, now=late + timedelta(seconds=30)) == SIGNER
    assert found(issued_late, policy_for(enforce_certificate_dates=True), now=late + timedelta(seconds=30)) is None


def _bytes_of_signature(root: etree._Element) -> None:
    value = next(root.iter(D + "SignatureValue"))
    text = "".join((value.text or "").split())
    value.text = ("A" if text[0] != "A" else "B") + text[1:]


def _another_certificate(name: str) -> Change:
    def change(root: etree._Element) -> None:
        for shown in root.iter(D + "X509Certificate"):
            shown.text = etree.fromstring(f"<a>{_base64(name)}</a>").text

    return change


def _base64(name: str) -> str:
    info = Launch().sign(key_info=(name,)).root
    return next(info.iter(D + "X509Certificate")).text or ""


def _shown(text: str) -> Change:
    def change(root: etree._Element) -> None:
        for shown in root.iter(D + "X509Certificate"):
            shown.text = text

    return change


SIGNATURES: dict[str, Callable[[], bytes]] = {
    "changed content": lambda: genuine(next_key()).replace(b"alice@corp.example", b"bob00@corp.example"),
    "changed content, no certificate": lambda: changed(without_key_info, next_key()).replace(
        b"alice@corp.example", b"bob00@corp.example"
    ),
    "a signature that nobody made": lambda: changed(lambda _: None, next_key(), then=_bytes_of_signature),
    "a known certificate that did not sign": lambda: changed(
        lambda _: None, next_key(), then=_another_certificate("idp")
    ),
    "another certificate that did not sign": lambda: changed(
        lambda _: None, next_key(), then=_another_certificate("attacker")
    ),
    "a certificate that is none": lambda: changed(lambda _: None, next_key(), then=_shown("AAAA")),
    "a certificate that is no base64": lambda: changed(lambda _: None, next_key(), then=_shown("?")),
    "an empty certificate": lambda: changed(lambda _: None, next_key(), then=_shown("")),
    "a weak key": lambda: Launch().sign(key="weak", key_info=("weak",)).wire(),
    "a weak algorithm": lambda: (
        Launch()
        .sign(key="idp_next", key_info=("idp_next",), method="http://www.w3.org/2000/09/xmldsig#rsa-sha1")
        .wire()
    ),
    "nothing signed": lambda: Launch().wire(),
    "not XML": lambda: b"<",
    "too large": lambda: b"<" + b"a" * 300_000,
    "known and good": genuine,
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_promise_28_a_signature_that_does_not_hold_by_itself_is_not_plausible(name: str) -> None:
    """Promise 28: changed content, a certificate that did not sign, a weak key or algorithm, no signature at all."""
    assert found(SIGNATURES[name]()) is None


@pytest.mark.parametrize("state", [CertificateState.REVOKED, CertificateState.RETIRED])
def test_promise_28_a_key_that_was_trusted_once_is_not_unknown(state: CertificateState) -> None:
    """Promise 28: retired and revoked keys are known; a revoked one is so at every IdP and in any certificate."""
    snapshot = snapshot_of(None, certificate(), certificate("idp_next", state))
    assert found(genuine(next_key()), snapshot=snapshot) is None


def test_promise_28_a_key_revoked_at_another_idp_is_not_plausible() -> None:
    """Promise 28: a stolen key is no better elsewhere."""
    other = replace(
        snapshot_of().trust.providers[ENTITY_ID],
        entity_id="https://other.example",
        certificates=(certificate("idp_next", CertificateState.REVOKED),),
    )
    snapshot = snapshot_of(others=((other, policy_for()),))
    assert outcome(judged(genuine(next_key()), snapshot)) == ("deny", "signature_invalid")
    assert found(genuine(next_key()), snapshot=snapshot) is None


def test_a_subject_is_cut_and_printable() -> None:
    """What a stranger wrote into a certificate stays on one line and short."""
    key = keys.rsa_key("attacker")
    name = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "\u202e\r\n" + "x" * 60) for _ in range(9)])
    stranger = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2040, 1, 1, tzinfo=UTC))
        .sign(key, hashes.SHA256())
    )
    signer = found(genuine(replace(idp_of(), key=key, certificate=stranger)))
    assert signer is not None
    assert len(signer.subject) == MAX_SUBJECT
    assert signer.subject.isprintable()


def test_only_verification_makes_what_decide_takes() -> None:
    """What plausibility reads is of a kind of its own: one module builds the kind that `decide` takes."""
    builders = {
        name_of(path)
        for path in all_modules()
        for name, _ in calls(path)
        if name.split(".")[-1] in ("VerifiedEvidence", "ReadEvidence")
    }
    assert builders == {"evidence_service/access/verify.py"}


def test_promise_28_over_the_whole_corpus() -> None:
    """Promise 28: only what is denied for its signer is plausible, and it is allowed once that signer is known."""
    names = {keys.fingerprint(name): name for name in keys.CERTIFICATES}
    found_in = set()
    for case in harness.cases():
        it = harness.prepare(case)
        signer = unknown_signer(it.request, it.snapshot, it.now, seen=it.seen)
        if signer is None:
            continue
        found_in.add(case.id)
        decision = decide(it.request, it.snapshot, it.now, seen=it.seen)
        assert outcome(decision)[1] in ("signature_invalid", "no_trusted_certificate"), case.id
        if not signer.certificate_sha256:
            continue
        provider = it.snapshot.trust.providers[signer.entity_id]
        known = replace(provider, certificates=(*provider.certificates, certificate(names[signer.certificate_sha256])))
        trust = replace(it.snapshot.trust, providers={**it.snapshot.trust.providers, signer.entity_id: known})
        again = decide(it.request, replace(it.snapshot, trust=trust), it.now, seen=it.seen)
        assert outcome(again) == ("allow", "ok"), case.id
    assert len(found_in) > 10
