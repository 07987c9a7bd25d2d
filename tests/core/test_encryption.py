"""Encrypted assertions: one decryption, one text for every failure, and the same checks on what comes out."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from lxml import etree

from evidence_service.access.encryption import MAX_ENCRYPTED_KEYS, decrypt_assertion
from evidence_service.access.model import Encryption, Snapshot
from evidence_service.demo.idp import XENC, XENC11, _encrypted
from idp_certs.reasons import Refused
from tests.core.given import (
    ALLOW,
    GATEWAY_KEY,
    KEYCLOAK,
    Change,
    S,
    Signs,
    changed,
    deny,
    gateway_public_key,
    genuine,
    idp_of,
    judged,
    nothing,
    one,
    outcome,
    policy_for,
    signed,
    snapshot_of,
    with_text,
)
from tests.corpus import keys

E, D = f"{{{XENC}}}", "{http://www.w3.org/2000/09/xmldsig#}"
DATA = f"{S}EncryptedAssertion/{E}EncryptedData"
KEY = f"{DATA}/{D}KeyInfo/{E}EncryptedKey"
UNSIGNED = idp_of(signs=Signs.NOTHING)


def sealed(plaintext: Callable[[etree._Element], etree._Element], key: str = GATEWAY_KEY) -> bytes:
    """Alice's sign-in with what `plaintext` makes of the assertion, encrypted to this key."""
    root = etree.fromstring(genuine(UNSIGNED))
    assertion = one(root, "s:Assertion")
    alone = etree.fromstring(etree.tostring(assertion, with_tail=False))
    root.replace(assertion, _encrypted(plaintext(alone), keys.rsa_key(key).public_key(), sha256=False))
    return etree.tostring(root)


def changed_inside(change: Change) -> Callable[[etree._Element], etree._Element]:
    """A correctly signed assertion that was changed before."""

    def make(assertion: etree._Element) -> etree._Element:
        change(assertion)
        return signed(assertion)

    return make


def but(change: Change) -> Callable[[etree._Element], etree._Element]:
    """An unsigned assertion that was changed."""

    def make(assertion: etree._Element) -> etree._Element:
        change(assertion)
        return assertion

    return make


def found(root: etree._Element, path: str) -> etree._Element:
    """The element at this path in Clark notation."""
    element = root.find(path)
    assert element is not None
    return element


def at(path: str, act: Callable[[etree._Element], object]) -> bytes:
    """The genuine encrypted document with something done to the element at `path`."""
    root = etree.fromstring(genuine(encrypted=True))
    act(found(root, path))
    return etree.tostring(root)


def algorithm(path: str, uri: str) -> bytes:
    """The genuine encrypted document that names another algorithm."""
    return at(f"{path}/{E}EncryptionMethod", lambda method: method.set("Algorithm", uri))


def flipped(element: etree._Element) -> None:
    """Change the last byte of a cipher value."""
    octets = bytearray(b64decode(element.text or ""))
    octets[-1] ^= 1
    element.text = b64encode(bytes(octets)).decode()


def with_keys(*names: str, policy: tuple[str, ...] | None = None) -> Snapshot:
    """Trust with these decryption keys loaded and named by the policy."""
    snapshot = snapshot_of(policy_for(decryption_keys=names if policy is None else policy))
    return replace(snapshot, decryption_keys={name: keys.rsa_key(name) for name in names})


_FAILURES = {
    "to another key": sealed(signed, "attacker"),
    "a changed content": at(f"{DATA}/{E}CipherData/{E}CipherValue", flipped),
    "a changed key": at(f"{KEY}/{E}CipherData/{E}CipherValue", flipped),
    "an empty content": at(f"{DATA}/{E}CipherData/{E}CipherValue", lambda each: setattr(each, "text", "")),
    "no base64": at(f"{DATA}/{E}CipherData/{E}CipherValue", lambda each: setattr(each, "text", "A*A=")),
    "a CipherReference": at(
        f"{DATA}/{E}CipherData/{E}CipherValue", lambda each: setattr(each, "tag", E + "CipherReference")
    ),
    "an element in the value": at(f"{DATA}/{E}CipherData/{E}CipherValue", lambda each: etree.SubElement(each, E + "X")),
    "no EncryptedData": at(DATA, lambda each: setattr(each, "tag", E + "X")),
    "no EncryptedKey": at(KEY, lambda each: setattr(each, "tag", E + "X")),
    "two EncryptedData": at(DATA, lambda each: each.addnext(deepcopy(each))),
    "too many EncryptedKeys": at(
        KEY, lambda each: [etree.SubElement(each, E + "EncryptedKey") for _ in range(MAX_ENCRYPTED_KEYS)]
    ),
    "a key of another length": algorithm(DATA, f"{XENC11}aes128-gcm"),
    "another mode": algorithm(DATA, f"{XENC}aes256-cbc"),
    "not an assertion": sealed(lambda _: etree.Element("{urn:x}Note")),
    "a Subject": sealed(lambda assertion: one(assertion, "s:Subject")),
}


@pytest.mark.parametrize("name", _FAILURES)
def test_one_answer_for_every_failure(name: str) -> None:
    """Whatever goes wrong with a known algorithm has one reason and one text, so that nothing can be learned."""
    decision = judged(_FAILURES[name], with_keys(GATEWAY_KEY))
    reference = judged(_FAILURES["to another key"], with_keys(GATEWAY_KEY))

    assert outcome(decision) == deny("decrypt_failed")
    assert decision == reference


@pytest.mark.parametrize(
    "evidence",
    [
        algorithm(DATA, f"{XENC}tripledes-cbc"),
        algorithm(DATA, "urn:x"),
        algorithm(KEY, f"{XENC}rsa-1_5"),
        algorithm(KEY, f"{XENC}kw-aes256"),
        at(f"{KEY}/{E}EncryptionMethod/{D}DigestMethod", lambda each: each.set("Algorithm", f"{XENC}ripemd160")),
        at(f"{KEY}/{E}EncryptionMethod", lambda each: etree.SubElement(each, E + "OAEPparams")),
        at(f"{KEY}/{E}EncryptionMethod/{D}DigestMethod", lambda each: each.addnext(deepcopy(each))),
        at(
            f"{KEY}/{E}EncryptionMethod",
            lambda each: etree.SubElement(each, f"{{{XENC11}}}MGF", Algorithm=f"{XENC11}mgf1sha256"),
        ),
    ],
    ids=["3DES", "unknown", "RSA 1.5", "key wrap", "digest", "OAEP parameters", "two digests", "MGF with mgf1p"],
)
def test_algorithms(evidence: bytes) -> None:
    """Other algorithms are refused before any key is used, and even where no key would fit."""
    assert outcome(judged(evidence)) == deny("encryption_algorithm")
    assert outcome(judged(evidence, with_keys("attacker"))) == deny("encryption_algorithm")


@pytest.mark.parametrize(
    ("names", "policy", "expected"),
    [
        ((GATEWAY_KEY,), None, ALLOW),
        (("sp_old", GATEWAY_KEY), None, ALLOW),
        ((GATEWAY_KEY, "sp_old"), None, ALLOW),
        (("sp_old",), None, deny("decrypt_failed")),
        ((), None, deny("encrypted_unsupported")),
        ((GATEWAY_KEY,), (), deny("encrypted_unsupported")),
        ((GATEWAY_KEY,), ("not loaded",), deny("encrypted_unsupported")),
        (("sp_old", GATEWAY_KEY), ("sp_old",), deny("decrypt_failed")),
    ],
)
def test_keys(names: Sequence[str], policy: tuple[str, ...] | None, expected: tuple[str, ...]) -> None:
    """Every key that the IdP's policy names is tried, and no other."""
    assert outcome(judged(genuine(encrypted=True), with_keys(*names, policy=policy))) == expected


def test_policy() -> None:
    """A policy may refuse encryption or require it."""
    evidence = genuine(encrypted=True)

    assert outcome(judged(evidence, snapshot_of(policy_for(encryption=Encryption.REFUSED)))) == deny(
        "encrypted_unsupported"
    )
    assert outcome(judged(evidence, snapshot_of(policy_for(encryption=Encryption.REQUIRED)))) == ALLOW


def _inner(tag: str) -> Change:
    return lambda assertion: assertion.append(etree.Element(tag))


def _itself(assertion: etree._Element) -> None:
    assertion.append(deepcopy(assertion))
    assertion[-1].set("ID", "_x")


_INSIDE: dict[str, tuple[bytes, str]] = {
    "unsigned": (sealed(lambda assertion: assertion), "signature_missing"),
    "signed by another key": (sealed(lambda each: signed(each, idp_of(key="attacker"))), "signature_invalid"),
    "another user": (
        sealed(changed_inside(with_text("s:AttributeStatement/s:Attribute[2]/s:AttributeValue", "bob@corp.example"))),
        "upn_mismatch",
    ),
    "another issuer": (sealed(changed_inside(with_text("s:Issuer", "https://other.example"))), "issuer_mismatch"),
    "another version": (sealed(changed_inside(lambda each: each.set("Version", "1.1"))), "saml_version"),
    "no ID": (sealed(but(lambda each: each.attrib.pop("ID"))), "id_missing"),
    "an odd ID": (sealed(but(lambda each: each.set("ID", "a b"))), "id_invalid"),
    "an assertion inside": (
        sealed(changed_inside(_itself)),
        "assertion_count",
    ),
    "an encrypted one inside": (sealed(changed_inside(_inner(S + "EncryptedAssertion"))), "assertion_count"),
    "a stray signature part": (sealed(changed_inside(_inner(D + "SignedInfo"))), "signature_placement"),
    "a comment": (sealed(changed_inside(lambda each: each.append(etree.Comment("x")))), "xml_comment_or_pi"),
}


@pytest.mark.parametrize("name", _INSIDE)
def test_the_plaintext_is_no_more_trusted_than_the_evidence(name: str) -> None:
    """What comes out of a faultless encryption passes every check again."""
    evidence, reason = _INSIDE[name]

    assert outcome(judged(evidence)) == deny(reason)


def test_the_same_id_inside_and_outside() -> None:
    """An ID of the plaintext that stands outside too is a duplicate."""
    root = etree.fromstring(genuine(encrypted=True))
    root.set("ID", "_a1")

    assert outcome(judged(etree.tostring(root))) == deny("id_duplicate")


def test_a_signature_around_the_encryption_is_enough() -> None:
    """A signed Response may hold an encrypted assertion without a signature of its own; changed, it is a deny."""
    idp, snapshot = idp_of(KEYCLOAK), snapshot_of(policy_for(KEYCLOAK))
    evidence = genuine(idp, encrypted=True)
    other = etree.fromstring(sealed(lambda assertion: assertion))
    root = etree.fromstring(evidence)
    root.replace(found(root, S + "EncryptedAssertion"), found(other, S + "EncryptedAssertion"))

    assert outcome(judged(evidence, snapshot)) == ALLOW
    assert outcome(judged(etree.tostring(root), snapshot)) == deny("digest_mismatch")


def test_prefixes_from_outside() -> None:
    """A plaintext may rely on prefixes that are declared around the EncryptedAssertion."""
    plain = etree.tostring(signed(etree.fromstring(changed(nothing, UNSIGNED))[2]))
    root = etree.fromstring(sealed(lambda assertion: assertion))
    encrypted = found(root, S + "EncryptedAssertion")
    bare = plain.replace(b' xmlns:ds="http://www.w3.org/2000/09/xmldsig#"', b"", 1)
    assert bare != plain
    keys_: list[RSAPrivateKey] = [keys.rsa_key(GATEWAY_KEY)]
    with pytest.raises(Refused) as refused:
        decrypt_assertion(encrypted, [])

    assert refused.value.finding.reason == "encrypted_unsupported"
    data, envelope = decrypt_assertion(encrypted, keys_)
    assert [child.tag for child in envelope] == [S + "Assertion"]
    assert b"xmlns:samlp=" in data
    assert gateway_public_key() == keys_[0].public_key()
