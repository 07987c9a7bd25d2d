"""Signatures in SAML's profile: each departure is a refusal of its own, even where the mathematics would hold."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
from lxml import etree

from evidence_service.access.model import Deny, RequireSigned
from evidence_service.demo.idp import Profile
from idp_certs.metadata import parse_metadata
from idp_certs.model import IdentityProvider
from idp_certs.reasons import Refused
from idp_certs.signature import MAX_CERTIFICATES_TRIED, check_signature, find_signatures, verify_signature
from tests.core.given import (
    ADFS,
    ALLOW,
    KEYCLOAK,
    OKTA,
    S,
    Signs,
    certificate,
    changed,
    deny,
    genuine,
    idp_of,
    judged,
    nothing,
    one,
    outcome,
    policy_for,
    snapshot_of,
    with_attribute,
    with_text,
    without,
)
from tests.corpus import names as n
from tests.corpus.sign import How, Transform, key_name, key_value, sign

DS = f"{{{n.DS}}}"
UNSIGNED = idp_of(signs=Signs.NOTHING)


def made(how: How, *, element: str = "s:Assertion", then: Callable[[etree._Element], object] | None = None) -> bytes:
    """Alice's sign-in, signed in this way."""
    root = etree.fromstring(genuine(UNSIGNED))
    sign(root if not element else one(root, element), how)
    if then is not None:
        then(root)
    return etree.tostring(root)


_EXTRA = Transform(uri=n.ENVELOPED, inside=(etree.Element("{urn:x}Param"),))

_METHODS = {
    "RSA SHA-256": (How(), "idp"),
    "RSA SHA-384": (How(method=n.RSA_SHA384, digest_method=n.SHA384), "idp"),
    "RSA SHA-512": (How(method=n.RSA_SHA512, digest_method=n.SHA512), "idp"),
    "RSA-PSS SHA-256": (How(method=n.PSS_SHA256), "idp"),
    "ECDSA P-256": (How(key="p256", method=n.ECDSA_SHA256, key_info=("p256",)), "p256"),
    "ECDSA P-384": (How(key="p384", method=n.ECDSA_SHA384, key_info=("p384",)), "p384"),
    "ECDSA P-521": (How(key="p521", method=n.ECDSA_SHA512, key_info=("p521",)), "p521"),
    "no KeyInfo": (How(key_info=None), "idp"),
    "KeyInfo with a name": (How(key_info=key_name("anything")), "idp"),
    "KeyInfo with the bare key": (How(key_info=key_value("idp")), "idp"),
    "KeyInfo with another certificate": (How(key_info=("attacker",)), "idp"),
    "a default namespace": (How(prefix=""), "idp"),
    "lines of 76": (How(wrap=True), "idp"),
    "canonicalization with comments": (
        How(c14n=n.EXC_C14N_COMMENTS, transforms=(Transform(uri=n.ENVELOPED), Transform(uri=n.EXC_C14N_COMMENTS))),
        "idp",
    ),
    "a PrefixList": (
        How(c14n_prefixes="xs", transforms=(Transform(uri=n.ENVELOPED), Transform(uri=n.EXC_C14N, prefixes="xs"))),
        "idp",
    ),
    "as the last child": (How(index=99), "idp"),
}


@pytest.mark.parametrize("name", _METHODS)
def test_what_holds(name: str) -> None:
    """Every form that products use is accepted."""
    how, key = _METHODS[name]

    assert outcome(judged(made(how), snapshot_of(policy_for(), certificate(key)))) == ALLOW


def _append(path: str, tag: str) -> Callable[[etree._Element], None]:
    def change(root: etree._Element) -> None:
        etree.SubElement(one(root, path), tag)

    return change


def _info(tag: str) -> Callable[[etree._Element], None]:
    return lambda info: info.append(etree.Element(tag))


def _second_reference(info: etree._Element) -> None:
    info.append(deepcopy(one(info, "d:Reference")))


SIGNATURE = "s:Assertion/d:Signature"

_REFUSED: dict[str, tuple[str, bytes]] = {
    # sentence: (the only objection, evidence)
    "an Object": ("signature_structure", made(How(), then=_append(SIGNATURE, DS + "Object"))),
    "a second KeyInfo": ("signature_structure", made(How(), then=_append(SIGNATURE, DS + "KeyInfo"))),
    "a foreign element": ("signature_structure", made(How(), then=_append(SIGNATURE, "{urn:x}X"))),
    "two References": ("signature_structure", made(How(signed_info=_second_reference))),
    "no Reference": (
        "signature_structure",
        made(How(signed_info=lambda info: info.remove(one(info, "d:Reference")))),
    ),
    "a Manifest beside the Reference": ("signature_structure", made(How(signed_info=_info(DS + "Manifest")))),
    "no Transforms": ("signature_structure", made(How(transforms=None))),
    "a Type on the Reference": ("signature_structure", made(How(reference_type=DS + "Object"))),
    "an attribute on SignedInfo": (
        "signature_structure",
        made(How(signed_info=lambda info: info.set("Mode", "lax"))),
    ),
    "an attribute on Transforms": (
        "signature_structure",
        made(How(signed_info=lambda info: one(info, "d:Reference/d:Transforms").set("a", "b"))),
    ),
    "text between the parts": (
        "signature_structure",
        made(How(), then=lambda root: setattr(one(root, SIGNATURE + "/d:SignedInfo"), "tail", "x")),
    ),
    "junk in SignatureValue": (
        "signature_structure",
        made(How(), then=lambda root: setattr(one(root, SIGNATURE + "/d:SignatureValue"), "text", "AA*A")),
    ),
    "an element in SignatureValue": (
        "signature_structure",
        made(How(), then=_append(SIGNATURE + "/d:SignatureValue", "{urn:x}X")),
    ),
    "junk in DigestValue": ("signature_structure", made(How(digest_value="AAAA=AAAA"))),
    "inclusive canonicalization of SignedInfo": ("c14n_forbidden", made(How(c14n=n.C14N))),
    "canonicalization 1.1 of SignedInfo": ("c14n_forbidden", made(How(c14n=n.C14N11))),
    "an unknown canonicalization": ("c14n_forbidden", made(How(c14n="urn:x"))),
    "RSA SHA-1": ("signature_algorithm", made(How(method=n.RSA_SHA1))),
    "RSA MD5": ("signature_algorithm", made(How(method=n.RSA_MD5))),
    "HMAC by the public key": ("signature_algorithm", made(How(method=n.HMAC_SHA256, hmac_key=b"public"))),
    "DSA": ("signature_algorithm", made(How(method=n.DSA_SHA1))),
    "an empty URI": ("reference_uri", made(How(uri_of_id=False, uri=""))),
    "no URI": ("reference_uri", made(How(uri_of_id=False, uri=None))),
    "the URI of another element": ("reference_uri", made(How(uri_of_id=False, uri="#_other"))),
    "an XPointer": ("reference_uri", made(How(uri_of_id=False, uri="#xpointer(id('_a1'))"))),
    "an address": ("reference_uri", made(How(uri_of_id=False, uri="https://attacker.example/"))),
    "a percent-encoded URI": ("reference_uri", made(How(uri_of_id=False, uri="#_a%31"))),
    "only enveloped-signature": ("transform_forbidden", made(How(transforms=(Transform(uri=n.ENVELOPED),)))),
    "only canonicalization": ("transform_forbidden", made(How(transforms=(Transform(uri=n.EXC_C14N),)))),
    "the other order": (
        "transform_forbidden",
        made(How(transforms=(Transform(uri=n.EXC_C14N), Transform(uri=n.ENVELOPED)))),
    ),
    "inclusive canonicalization": (
        "transform_forbidden",
        made(How(transforms=(Transform(uri=n.ENVELOPED), Transform(uri=n.C14N)))),
    ),
    "XSLT": (
        "transform_forbidden",
        made(
            How(transforms=(Transform(uri=n.ENVELOPED), Transform(uri="http://www.w3.org/TR/1999/REC-xslt-19991116")))
        ),
    ),
    "three transforms": (
        "transform_forbidden",
        made(How(transforms=(Transform(uri=n.ENVELOPED), Transform(uri=n.EXC_C14N), Transform(uri=n.EXC_C14N)))),
    ),
    "a parameter of enveloped-signature": (
        "transform_forbidden",
        made(How(transforms=(_EXTRA, Transform(uri=n.EXC_C14N)))),
    ),
    "SHA-1 as digest": ("digest_algorithm", made(How(digest_method=n.SHA1))),
    "MD5 as digest": ("digest_algorithm", made(How(digest_method=n.MD5))),
    "another key": ("signature_invalid", made(How(key="attacker", key_info=("attacker",)))),
    "another key behind a look-alike certificate": (
        "signature_invalid",
        made(How(key="attacker", key_info=("attacker_lookalike",))),
    ),
    "another algorithm than it says": ("signature_invalid", made(How(made_with=n.RSA_SHA512))),
    "the certificate's bare key, its own": (
        "signature_invalid",
        made(How(key="attacker", key_info=key_value("attacker"))),
    ),
    "a digest of something else": ("digest_mismatch", made(How(digested=b"something else"))),
    "an empty SignatureValue": (
        "signature_invalid",
        made(How(), then=lambda root: setattr(one(root, SIGNATURE + "/d:SignatureValue"), "text", "")),
    ),
    "content changed after signing": (
        "digest_mismatch",
        made(How(), then=with_attribute("s:Assertion/s:AuthnStatement", "SessionIndex", "other")),
    ),
    "a signature in the Subject": (
        "signature_placement",
        made(How(), then=lambda root: one(root, "s:Assertion/s:Subject").append(one(root, SIGNATURE))),
    ),
    "a signature in the Status": (
        "signature_placement",
        made(How(), then=lambda root: one(root, "p:Status").append(deepcopy(one(root, SIGNATURE)))),
    ),
    "two signatures in an assertion": (
        "signature_placement",
        made(How(), then=lambda root: one(root, "s:Assertion").append(deepcopy(one(root, SIGNATURE)))),
    ),
    "a SignedInfo on its own": (
        "signature_placement",
        made(How(), then=lambda root: one(root, "p:Status").append(deepcopy(one(root, SIGNATURE + "/d:SignedInfo")))),
    ),
    "a DigestValue on its own": (
        "signature_placement",
        made(How(), then=_append("p:Status", DS + "DigestValue")),
    ),
    "nothing signed": ("signature_missing", genuine(UNSIGNED)),
}


@pytest.mark.parametrize("name", _REFUSED)
def test_what_is_refused(name: str) -> None:
    """Each departure from the profile is the one objection to an otherwise genuine document."""
    reason, evidence = _REFUSED[name]

    assert outcome(judged(evidence)) == deny(reason)


@pytest.mark.parametrize(
    "how",
    [
        How(method=n.RSA_SHA1, digest_method=n.SHA1),
        How(method=n.RSA_SHA1),
        How(digest_method=n.SHA1),
        How(key="p256", method=n.ECDSA_SHA1, digest_method=n.SHA1, key_info=None),
    ],
    ids=["both", "signature", "digest", "ECDSA"],
)
def test_sha1_only_where_the_policy_allows_it(how: How) -> None:
    """SHA-1 is accepted behind its switch, and the switch lets in nothing else."""
    evidence = made(how)
    keys = certificate(), certificate("p256")
    refused = "digest_algorithm" if how.method == n.RSA_SHA256 else "signature_algorithm"

    assert outcome(judged(evidence, snapshot_of(policy_for(allow_sha1=True), *keys))) == ALLOW
    assert outcome(judged(evidence, snapshot_of(policy_for(), *keys))) == deny(refused)
    assert outcome(judged(made(How(method=n.RSA_MD5)), snapshot_of(policy_for(allow_sha1=True)))) == deny(
        "signature_algorithm"
    )


_REQUIRED = {
    RequireSigned.EITHER: {Signs.ASSERTION: True, Signs.RESPONSE: True, Signs.BOTH: True, Signs.NOTHING: False},
    RequireSigned.ASSERTION: {Signs.ASSERTION: True, Signs.RESPONSE: False, Signs.BOTH: True, Signs.NOTHING: False},
    RequireSigned.RESPONSE: {Signs.ASSERTION: False, Signs.RESPONSE: True, Signs.BOTH: True, Signs.NOTHING: False},
    RequireSigned.BOTH: {Signs.ASSERTION: False, Signs.RESPONSE: False, Signs.BOTH: True, Signs.NOTHING: False},
}


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
@pytest.mark.parametrize("signs", Signs)
@pytest.mark.parametrize("required", RequireSigned)
def test_what_must_be_signed(required: RequireSigned, signs: Signs, encrypted: bool) -> None:
    """`require_signed` against what is signed, encrypted or not; nothing signed is never enough."""
    evidence = genuine(idp_of(signs=signs), encrypted=encrypted)
    expected = ALLOW if _REQUIRED[required][signs] else deny("signature_missing")

    assert outcome(judged(evidence, snapshot_of(policy_for(require_signed=required)))) == expected


def test_every_signature_must_hold() -> None:
    """Where two are present and one does not hold, the other does not save it."""
    idp = idp_of(OKTA)
    snapshot = snapshot_of(policy_for(OKTA))
    outer = changed(nothing, idp, then=with_attribute("", "Destination", n.ACS + "?"))
    inner = etree.fromstring(genuine(idp))
    one(inner, "s:Assertion/d:Signature/d:SignatureValue").text = "AAAA"

    assert outcome(judged(outer, snapshot)) == deny("digest_mismatch")
    assert outcome(judged(etree.tostring(inner), snapshot)) == deny("digest_mismatch")


def test_promise_8_a_message_cannot_bring_its_own_trust() -> None:
    """Promise 8: certificates, keys and references in KeyInfo are never trusted and never fetched."""
    info = key_name("https://attacker.example/key")
    etree.SubElement(info, DS + "RetrievalMethod", URI="https://127.0.0.1:9/key")
    for key_info in (("attacker",), ("idp", "attacker"), ("attacker", "idp"), key_value("attacker"), info):
        evidence = made(How(key="attacker", key_info=key_info))

        assert outcome(judged(evidence)) == deny("signature_invalid")


TEN = ("idp_b", "tenant", "attacker", "strong", "p256", "p384", "p521", "ca", "sp", "idp")


@pytest.mark.parametrize("profile", [ADFS, KEYCLOAK, OKTA], ids=lambda profile: profile.product)
def test_promise_7_every_certificate_is_tried(profile: Profile) -> None:
    """Promise 7: with ten certificates and the right one last the launch is allowed."""
    snapshot = snapshot_of(policy_for(profile), *map(certificate, TEN))

    assert outcome(judged(genuine(idp_of(profile)), snapshot)) == ALLOW


def test_promise_7_a_thousand_signatures() -> None:
    """Promise 7: many signatures are refused for their place before any of them is verified."""
    root = etree.fromstring(genuine())
    signature = one(root, SIGNATURE)
    for _ in range(60):
        one(root, "s:Assertion").append(deepcopy(signature))

    assert outcome(judged(etree.tostring(root))) == deny("signature_placement")


def test_promise_7_a_thousand_key_infos() -> None:
    """Promise 7: many KeyInfos are refused for the signature's structure."""
    root = etree.fromstring(genuine())
    for _ in range(1000):
        etree.SubElement(one(root, SIGNATURE), DS + "KeyInfo")

    assert outcome(judged(etree.tostring(root))) == deny("signature_structure")


def test_promise_7_only_so_many_certificates_are_tried() -> None:
    """Promise 7: a signature is verified against at most the documented number of certificates."""
    others = [certificate("attacker")] * MAX_CERTIFICATES_TRIED

    assert outcome(judged(genuine(), snapshot_of(policy_for(), *others[:-1], certificate()))) == ALLOW
    assert outcome(judged(genuine(), snapshot_of(policy_for(), *others, certificate()))) == deny("signature_invalid")


def test_a_signed_element_is_read_from_the_verified_octets() -> None:
    """What verification hands on was parsed from what was verified, without the signature, and is what it says."""
    data = genuine()
    root = etree.fromstring(data)
    signed = verify_signature(
        data,
        one(root, SIGNATURE),
        location=f"./{S}Assertion/",
        tag=S + "Assertion",
        signed_id="_a1",
        certificates=[certificate("attacker"), certificate()],
    )

    assert signed.certificate == certificate()
    assert signed.element.getroottree().getroot() is signed.element
    assert signed.element.find(DS + "Signature") is None
    assert etree.tostring(signed.element, method="c14n", exclusive=True) == signed.octets
    without(SIGNATURE)(root)
    assert etree.tostring(one(root, "s:Assertion"), method="c14n", exclusive=True) == signed.octets


@pytest.mark.parametrize(("tag", "signed_id"), [(S + "Subject", "_a1"), (S + "Assertion", "_other")])
def test_another_element_than_expected(tag: str, signed_id: str) -> None:
    """A signature that holds over something else than what was asked for is refused."""
    with pytest.raises(Refused) as refused:
        verify_signature(
            genuine(),
            one(etree.fromstring(genuine()), SIGNATURE),
            location=f"./{S}Assertion/",
            tag=tag,
            signed_id=signed_id,
            certificates=[certificate()],
        )

    assert refused.value.finding.reason == "signed_element"


def test_metadata_signatures_have_the_same_profile() -> None:
    """A signed metadata document of AD FS passes the same checks."""
    data = idp_of(ADFS).metadata()
    root = etree.fromstring(data)
    signature = find_signatures(root, [root])[root]
    check_signature(signature, signed_id=root.get("ID") or "")
    signed = verify_signature(
        data, signature, location="./", tag=str(root.tag), signed_id=root.get("ID") or "", certificates=[certificate()]
    )

    assert parse_metadata(signed.octets)[0].entity_id == n.IDP


def test_promise_15_an_idp_speaks_only_for_itself() -> None:
    """Promise 15: another registered IdP's key does not sign for this issuer, nor for a suffix that is not its own."""
    other = idp_of(key="idp_b", entity_id="https://idp-b.example")
    provider = IdentityProvider(entity_id=other.entity_id, certificates=(certificate("idp_b"),))
    snapshot = snapshot_of(others=((provider, policy_for(upn_suffixes=("b.example",))),))

    assert outcome(judged(genuine(other), snapshot)) == deny("upn_suffix_not_allowed")
    assert outcome(judged(changed(nothing, by=other), snapshot)) == deny("signature_invalid")
    assert outcome(judged(changed(nothing, by=other, then=with_text("s:Issuer", other.entity_id)), snapshot)) == deny(
        "signature_invalid"
    )
    claimed = changed(with_text("s:Assertion/s:Issuer", n.IDP), other)
    assert outcome(judged(claimed, snapshot)) == deny("signature_invalid")
    assert isinstance(judged(claimed, snapshot), Deny)
