"""G10: who signed a metadata document, and everything that only looks signed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from lxml import etree

from idp_certs.metadata import METADATA_LIMITS, parse_metadata
from idp_certs.metadata_signature import DocumentSignature, judge_document_signature
from idp_certs.model import CertificateState, SigningCertificate
from idp_certs.reasons import Refused
from tests.core.given import LONG_AGO, S, genuine, one
from tests.corpus import keys
from tests.corpus import names as n
from tests.corpus.metadata_documents import aggregate, descriptor
from tests.corpus.names import qname
from tests.corpus.sign import PLAIN_TRANSFORMS, How, Transform, below, element, sign
from tests.metadata.vendors import adfs, ders

Change = Callable[[etree._Element], object]
SIGNATURE = qname("ds:Signature")


def trusted(*names: str) -> list[SigningCertificate]:
    """The corpus' certificates of these names, as trusted ones."""
    return [
        SigningCertificate(
            der=keys.certificate(name), state=CertificateState.TRUSTED, since=LONG_AGO, provenance="test"
        )
        for name in names
    ]


def written(root: etree._Element) -> bytes:
    """The document's bytes."""
    return etree.tostring(root, encoding="utf-8", xml_declaration=True)


def entity(entity_id: str = n.IDP, *certificates: str) -> etree._Element:
    """An EntityDescriptor with an ID."""
    return descriptor(entity_id, certificates or ("idp", "idp_next"), element_id="_m1")


def signed(root: etree._Element | None = None, **how: Any) -> etree._Element:
    """The document, signed as its first child."""
    root = entity() if root is None else root
    sign(root, How(**({"index": 0} | how)))
    return root


def judge(root: etree._Element | bytes, *names: str) -> DocumentSignature:
    """Judged with the certificates of these names (the IdP's usual one, where none is named)."""
    data = root if isinstance(root, bytes) else written(root)
    return judge_document_signature(data, trusted(*(names or ("idp",))))


def why(root: etree._Element | bytes, *names: str) -> str:
    """The underlying code of what is wrong with the signature."""
    with pytest.raises(Refused) as caught:
        judge(root, *names)
    assert caught.value.finding.reason == "metadata_signature_invalid"
    return caught.value.finding.presented


def test_signed_by_a_known_key() -> None:
    """The old key vouches for the document; what was signed is given, and is what metadata is read from."""
    root = signed(key_info=("idp_b", "idp"))

    judged = judge(root, "idp_b", "idp", "idp_next")

    assert judged.present
    assert judged.signer is not None
    assert judged.signer.der == ders("idp")[0]
    assert judged.hint_sha256 == (keys.fingerprint("idp_b"), keys.fingerprint("idp"))
    assert b"Signature" not in judged.octets
    assert parse_metadata(judged.octets)[0].signing_certificates == ders("idp", "idp_next")


def test_a_renewed_certificate_with_the_same_key() -> None:
    """The key is what signs: another certificate for it verifies as well, whatever KeyInfo shows."""
    judged = judge(signed(), "idp_renewed")

    assert judged.signer is not None
    assert judged.signer.der == ders("idp_renewed")[0]


@pytest.mark.parametrize("name", ["p256", "p384", "p521", "strong"])
def test_other_kinds_of_keys(name: str) -> None:
    """Elliptic curves and long RSA keys sign metadata too."""
    method = n.RSA_SHA512 if name == "strong" else n.ECDSA_SHA256

    judged = judge(signed(key=name, key_info=(name,), method=method), "idp", name)

    assert judged.signer is not None
    assert judged.signer.der == ders(name)[0]


def test_not_signed() -> None:
    """G10: a document without a signature is not signed; that is said and is no refusal here."""
    data = written(entity())

    assert judge(data) == DocumentSignature(present=False, signer=None, hint_sha256=(), octets=data)


def test_signed_by_another_key() -> None:
    """G10: after an urgent rollover the signer is unknown: present, no signer, the fingerprint as a hint for people."""
    data = written(signed(key="attacker", key_info=("attacker",)))

    assert judge(data) == DocumentSignature(
        present=True, signer=None, hint_sha256=(keys.fingerprint("attacker"),), octets=data
    )
    assert judge_document_signature(data, []).signer is None


def test_key_info_proves_nothing() -> None:
    """G10: an attacker who shows the IdP's certificate beside his own signature is still no signer."""
    judged = judge(signed(key="attacker", key_info=("idp",)))

    assert (judged.present, judged.signer, judged.hint_sha256) == (True, None, (keys.fingerprint("idp"),))


@pytest.mark.parametrize("name", ["weak", "p224"])
def test_a_weak_key_never_counts(name: str) -> None:
    """A key below the accepted strength is no signer, though it made the signature."""
    method = n.RSA_SHA256 if name == "weak" else n.ECDSA_SHA256

    judged = judge(signed(key=name, key_info=(name,), method=method), name)

    assert (judged.present, judged.signer) == (True, None)


def test_hints_that_cannot_be_read() -> None:
    """Broken certificates in KeyInfo are no hints, and do no harm."""
    root = signed()
    data = root[0][2][0]
    below(data, "ds:X509Certificate", "AAAA")
    below(data, "ds:X509Certificate")

    judged = judge(root)

    assert judged.signer is not None
    assert judged.hint_sha256 == (keys.fingerprint("idp"),)


def _change_location(root: etree._Element) -> None:
    root.findall(f".//{qname('md:SingleSignOnService')}")[0].set("Location", "https://evil.example")


def _add_key(root: etree._Element) -> None:
    role = root.find(qname("md:IDPSSODescriptor"))
    assert role is not None
    role.insert(0, entity("x", "attacker")[0][0])


def _move_last(root: etree._Element) -> None:
    root.append(root[0])


def _into_role(root: etree._Element) -> None:
    root[1].insert(0, root[0])


def _into_extensions(root: etree._Element) -> None:
    extensions = element("md:Extensions")
    extensions.append(root[0])
    root.insert(0, extensions)


def _twice(root: etree._Element) -> None:
    root.insert(0, copy.deepcopy(root[0]))


def _duplicate_id(root: etree._Element) -> None:
    root[1].set("ID", "_m1")


def _no_id(root: etree._Element) -> None:
    del root.attrib["ID"]


def _another_id(root: etree._Element) -> None:
    root.set("ID", "_m2")


def _stray_digest(root: etree._Element) -> None:
    below(root[1], "ds:DigestValue", "AAAA")


def _stray_info(root: etree._Element) -> None:
    root.append(copy.deepcopy(root[0][0]))


def _object(root: etree._Element) -> None:
    below(root[0], "ds:Object").append(entity("https://evil.example", "attacker"))


def _signature_in_signature(root: etree._Element) -> None:
    below(root[0][2], "ds:X509Data").append(copy.deepcopy(root[0]))


CHANGED: dict[str, tuple[str, Change]] = {
    # sentence: (underlying code, change after signing)
    "another address": ("digest_mismatch", _change_location),
    "a key put in": ("digest_mismatch", _add_key),
    "another entity ID": ("digest_mismatch", lambda root: root.set("entityID", "https://evil.example")),
    "not the first child": ("signature_placement", _move_last),
    "moved into the extensions": ("signature_placement", _into_extensions),
    "two signatures": ("signature_placement", _twice),
    "a digest outside of it": ("signature_placement", _stray_digest),
    "SignedInfo outside of it": ("signature_placement", _stray_info),
    "a signature in its KeyInfo": ("signature_placement", _signature_in_signature),
    "an Object in it": ("signature_structure", _object),
    "the ID on another element too": ("reference_uri", _duplicate_id),
    "no ID": ("reference_uri", _no_id),
    "another ID": ("reference_uri", _another_id),
    "two digests": ("signature_structure", lambda root: root[0][0][2].append(copy.deepcopy(root[0][0][2][2]))),
    "two references": ("signature_structure", lambda root: root[0][0].append(copy.deepcopy(root[0][0][2]))),
    "no value": ("signature_structure", lambda root: root[0].remove(root[0][1])),
}


@pytest.mark.parametrize("name", CHANGED)
def test_broken_after_signing(name: str) -> None:
    """G10: a known key's signature over something else than what is there refuses the document."""
    code, change = CHANGED[name]
    root = signed()

    change(root)

    assert why(root) == code


def test_a_signature_moved_into_a_role() -> None:
    """G10: below a role it is that role's, which says nothing of the document: as good as none."""
    root = signed()
    _into_role(root)

    judged = judge(root)

    assert (judged.present, judged.signer) == (False, None)


NOT_VERIFIED: dict[str, tuple[str, dict[str, Any]]] = {
    # sentence: (why it is left unverified, how it is signed)
    "SHA-1": ("signature_algorithm", {"method": n.RSA_SHA1}),
    "SHA-1 digest": ("digest_algorithm", {"digest_method": n.SHA1}),
    "HMAC with the public key": (
        "signature_algorithm",
        {"method": n.HMAC_SHA256, "hmac_key": keys.public_pem("idp")},
    ),
    "inclusive canonicalization": ("c14n_forbidden", {"c14n": n.C14N}),
    "one transform": ("transform_forbidden", {"transforms": PLAIN_TRANSFORMS[:1]}),
    "an XPath transform": (
        "transform_forbidden",
        {"transforms": (*PLAIN_TRANSFORMS, Transform(uri="http://www.w3.org/TR/1999/REC-xpath-19991116"))},
    ),
}


@pytest.mark.parametrize("key", ["idp", "attacker"])
@pytest.mark.parametrize("name", NOT_VERIFIED)
def test_a_form_that_is_not_verified_says_nothing(name: str, key: str) -> None:
    """G10: whoever signs in a form off the lists could leave the signature out: nobody vouches, and why is said."""
    code, how = NOT_VERIFIED[name]

    judged = judge(signed(**({"key": key} | how)))

    assert (judged.present, judged.signer, judged.unverified) == (True, None, code)


MADE: dict[str, tuple[str, dict[str, Any]]] = {
    # sentence: (underlying code, how it is signed)
    "no transforms": ("signature_structure", {"transforms": None}),
    "the whole document": ("reference_uri", {"uri": "", "uri_of_id": False}),
    "no URI": ("reference_uri", {"uri": None, "uri_of_id": False}),
    "another ID": ("reference_uri", {"uri": "#_other", "uri_of_id": False}),
    "an empty fragment": ("reference_uri", {"uri": "#", "uri_of_id": False}),
    "another digest": ("digest_mismatch", {"digested": b"something else"}),
}


@pytest.mark.parametrize("name", MADE)
def test_signed_in_another_form(name: str) -> None:
    """G10: what has other parts than SAML's profile, or is about something else, is refused, by whatever key."""
    code, how = MADE[name]

    assert why(signed(**how)) == code


@pytest.mark.parametrize("key", ["idp", "attacker"])
def test_the_place_counts_for_unknown_keys_too(key: str) -> None:
    """G10: an unknown signer is no excuse for a signature in a wrong place."""
    root = signed(key=key)
    _move_last(root)
    assert why(root) == "signature_placement"


def test_an_empty_id() -> None:
    """G10: a reference `#` to an element without a name names nothing."""
    root = entity()
    root.set("ID", "")
    sign(root, How(index=0, uri="#", uri_of_id=False))

    assert why(root) == "reference_uri"


def _evil() -> etree._Element:
    return descriptor(n.IDP, ("attacker",), element_id="_evil")


def test_wrapped_in_an_unsigned_aggregate() -> None:
    """G10, XSW: the signed entity beside an evil one in an unsigned aggregate does not sign the aggregate."""
    for order in ((signed(), _evil()), (_evil(), signed())):
        judged = judge(aggregate(*order))
        assert (judged.present, judged.signer) == (False, None)


def test_wrapped_with_the_signature_taken_along() -> None:
    """G10, XSW: the entity's signature as the child of an aggregate or of an evil entity is refused."""
    inner = signed()
    group = aggregate(_evil(), inner)
    group.set("ID", "_group")
    group.insert(0, inner[0])
    assert why(group) == "reference_uri"

    inner, outer = signed(), _evil()
    signature = inner[0]
    outer.insert(0, signature)
    below(outer, "md:Extensions").append(inner)
    assert why(outer) == "reference_uri"


def test_wrapped_under_the_same_id() -> None:
    """G10, XSW: the outer element has the signed one's ID, which then is not unique."""
    inner, outer = signed(), _evil()
    outer.set("ID", "_m1")
    outer.insert(0, inner[0])
    extensions = element("md:Extensions")
    extensions.append(inner)
    outer.insert(1, extensions)

    assert why(outer) == "reference_uri"


def test_wrapped_with_the_original_inside_the_signature() -> None:
    """G10, XSW: the original inside ds:Object of the signature is no place for it."""
    inner, outer = signed(), _evil()
    signature = inner[0]
    outer.insert(0, signature)
    below(signature, "ds:Object").append(inner)

    assert why(outer) in {"signature_structure", "reference_uri"}


def test_a_signed_aggregate() -> None:
    """The operator's signature over an aggregate is the document's; entities signed inside are let be."""
    group = aggregate(signed(), descriptor("urn:b", ("idp_b",)))
    group.set("ID", "_group")
    sign(group, How(index=0, key="ca", key_info=("ca",)))

    judged = judge(group, "idp", "ca")

    assert judged.signer is not None
    assert judged.signer.der == ders("ca")[0]
    assert [each.entity_id for each in parse_metadata(judged.octets)] == [n.IDP, "urn:b"]


def test_a_federation_that_only_the_idps_key_signs_in_part() -> None:
    """G10: the IdP's own signature inside an aggregate that another key signed does not make the IdP its signer."""
    group = aggregate(signed(), _evil())
    group.set("ID", "_group")
    sign(group, How(index=0, key="attacker", key_info=("attacker",)))

    judged = judge(group, "idp")

    assert (judged.present, judged.signer) == (True, None)


def test_comments_do_not_split_what_was_signed() -> None:
    """Comments that were put in after signing change nothing, as they are neither signed nor read."""
    data = written(signed())
    name = f'entityID="{n.IDP}"'.encode()
    commented = data.replace(b"<md:IDPSSODescriptor", b"<!-- evil --><md:IDPSSODescriptor", 1)
    commented = commented.replace(
        b"</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md",
        b"<!-- --></ds:X509Certificate></ds:X509Data></ds:KeyInfo></md",
    )
    assert name in data
    assert commented.count(b"<!--") > 1

    judged = judge(commented)

    assert judged.signer is not None
    assert b"<!--" not in judged.octets
    assert parse_metadata(judged.octets) == parse_metadata(data)


def test_a_processing_instruction_is_signed_content() -> None:
    """Canonicalization keeps processing instructions: one that was put in breaks the signature."""
    data = written(signed()).replace(b"<md:IDPSSODescriptor", b"<?x y?><md:IDPSSODescriptor", 1)

    assert why(data) == "digest_mismatch"


def test_comments_in_the_signature() -> None:
    """A comment inside a digest or a signature value never makes another one of it."""
    data = written(signed())
    for tag in (b"<ds:DigestValue>", b"<ds:SignatureValue>"):
        for comment in (b"<!-- -->", b"AAAA<!-- -->"):
            judged = code = None
            try:
                judged = judge(data.replace(tag, tag + comment, 1))
            except Refused as refused:
                code = refused.finding.reason
            if judged is None:
                assert code == "metadata_signature_invalid"
            else:
                assert judged.signer is None or parse_metadata(judged.octets) == parse_metadata(data)


def test_key_information_in_other_places() -> None:
    """Digest methods of EncryptionMethod and KeyInfo of endpoints are no parts of a signature: AD FS, Shibboleth."""
    root = entity()
    method = etree.SubElement(
        root[0][0], qname("md:EncryptionMethod"), Algorithm="http://www.w3.org/2009/xmlenc11#rsa-oaep"
    )
    below(method, "ds:DigestMethod", Algorithm=n.SHA256)
    extensions = element("md:Extensions")
    root.insert(0, extensions)
    below(below(extensions, "ds:KeyInfo"), "ds:KeyName", "k")

    judged = judge(signed(root))

    assert judged.signer is not None


@pytest.mark.parametrize("at", range(0, 4000, 97))
def test_promise_21_no_changed_byte_passes(at: int) -> None:
    """Promise 21: whichever byte of a signed document is changed, it is refused, or says what was signed."""
    data = adfs().data
    place = (at * 31) % len(data)
    broken = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]

    try:
        judged = judge_document_signature(broken, trusted("idp"))
    except Refused:
        return
    if judged.signer is not None:
        assert parse_metadata(judged.octets) == parse_metadata(data)


def test_a_sign_ins_signature_as_donor() -> None:
    """G15: the same key signs sign-ins and metadata; the signature of a sign-in signs no metadata."""
    response = etree.fromstring(genuine())
    assertion = one(response, f"{S}Assertion")
    signature = one(assertion, SIGNATURE)
    root = entity()
    root.set("ID", assertion.get("ID") or "")
    root.insert(0, signature)

    assert why(root) == "digest_mismatch"
    with pytest.raises(Refused) as caught:
        judge(genuine())
    assert caught.value.finding.reason == "metadata_not_saml"


def test_a_sign_in_inside_metadata() -> None:
    """G15: a signed assertion within metadata is no signature of the metadata, and has no place there."""
    assertion = one(etree.fromstring(genuine()), f"{S}Assertion")
    root = entity()
    extensions = element("md:Extensions")
    extensions.append(assertion)
    root.insert(0, extensions)

    assert why(root) == "signature_placement"


def test_too_large_to_judge() -> None:
    """A document above 16 MiB is refused with the advice to take the IdP's own."""
    with pytest.raises(Refused) as caught:
        judge(b" " * (METADATA_LIMITS.document + 1))

    assert caught.value.finding.reason == "metadata_too_large"
    assert "the one IdP" in caught.value.finding.reason.advice


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "xml_malformed"),
        (b"<!DOCTYPE a><a/>", "xml_dtd"),
        (b"<html/>", "metadata_not_saml"),
        (b"\x1f\x8b\x08\x00", "xml_encoding"),
    ],
)
def test_what_is_no_metadata(data: bytes, reason: str) -> None:
    """What is no metadata is refused for what it is, before any signature."""
    with pytest.raises(Refused) as caught:
        judge(data)

    assert caught.value.finding.reason == reason
