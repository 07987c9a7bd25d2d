"""Wrapping, references and IDs."""

from __future__ import annotations

import copy
from collections.abc import Callable

from lxml import etree

from tests.corpus import names as n
from tests.corpus.build import case, given
from tests.corpus.good import (
    ASSERTION_ID,
    RESPONSE_ID,
    Launch,
    alone,
    claim_upn,
    evil,
    extensions,
    remove,
    unsigned,
)
from tests.corpus.metadata_documents import signed_donor
from tests.corpus.model import BugType
from tests.corpus.names import qname
from tests.corpus.sign import How, Transform, below, element, key_info, sign

WRAP = BugType.WRAPPING
SSRF = BugType.SERVER_SIDE_REQUEST
XSW = (
    "CVE-2011-1411 (OpenSAML), CVE-2012-4418 (Axis2), Somorovsky 2012; CVE-2016-5697, CVE-2024-6202, CVE-2025-47949, "
    "CVE-2026-47201"
)

EVIL_NS = "urn:example:evil"


def signature_in(target: etree._Element) -> etree._Element:
    """The signature directly in an element."""
    found = target.find(qname("ds:Signature"))
    assert found is not None
    return found


def foreign(name: str, **attributes: str) -> etree._Element:
    """An element of a foreign namespace."""
    made = etree.Element(f"{{{EVIL_NS}}}{name}", nsmap={"evil": EVIL_NS})
    for key, value in attributes.items():
        made.set(key, value)
    return made


def evil_response(genuine: etree._Element, *, new_ids: bool) -> etree._Element:
    """An unsigned copy of a Response that names the victim."""
    made = claim_upn(unsigned(genuine), n.ADMIN)
    if new_ids:
        made.set("ID", "_evilresponse")
        for found in made.iter(qname("saml:Assertion")):
            found.set("ID", "_evil1")
    return made


def xsw1(*, new_ids: bool = True) -> etree._Element:
    """Evil Response; the original without its signature inside ds:Signature."""
    genuine = Launch().sign_response().root
    made = evil_response(genuine, new_ids=new_ids)
    signature = signature_in(genuine)
    remove(signature)
    signature.append(genuine)
    made.insert(1, signature)
    return made


def xsw2(*, new_ids: bool = True) -> etree._Element:
    """Evil Response; the original before the now detached signature."""
    genuine = Launch().sign_response().root
    made = evil_response(genuine, new_ids=new_ids)
    signature = signature_in(genuine)
    remove(signature)
    made.insert(1, genuine)
    made.insert(2, signature)
    return made


def xsw3(*, new_ids: bool = True) -> etree._Element:
    """Evil assertion before the signed one."""
    launch = Launch().sign()
    launch.root.insert(2, evil(launch.assertion, new_id="_evil1" if new_ids else None))
    return launch.root


def xsw4(*, new_ids: bool = True) -> etree._Element:
    """Evil assertion wraps the signed one."""
    launch = Launch().sign()
    genuine = launch.assertion
    made = evil(genuine, new_id="_evil1" if new_ids else None)
    launch.root.replace(genuine, made)
    made.append(genuine)
    return launch.root


def xsw5(*, new_ids: bool = True) -> etree._Element:
    """Evil assertion carries the signature; the original without it is appended."""
    launch = Launch().sign()
    genuine = launch.assertion
    made = evil(genuine, new_id="_evil1" if new_ids else None)
    signature = signature_in(genuine)
    remove(signature)
    launch.root.replace(genuine, made)
    made.insert(1, signature)
    launch.root.append(genuine)
    return launch.root


def xsw6(*, new_ids: bool = True) -> etree._Element:
    """Evil assertion carries the signature, which holds the original."""
    root = xsw5(new_ids=new_ids)
    made, genuine = root.findall(qname("saml:Assertion"))
    signature_in(made).append(genuine)
    return root


def xsw7(*, new_ids: bool = True) -> etree._Element:
    """Evil assertion in Extensions before the signed one."""
    launch = Launch().sign()
    made = evil(launch.assertion, new_id="_evil1" if new_ids else None)
    launch.root.insert(1, extensions(made))
    return launch.root


def xsw8(*, new_ids: bool = True) -> etree._Element:
    """Evil assertion carries the signature, whose ds:Object holds the original."""
    root = xsw5(new_ids=new_ids)
    made, genuine = root.findall(qname("saml:Assertion"))
    below(signature_in(made), "ds:Object").append(genuine)
    return root


XSWS = {
    "xsw1": given(xsw1, label="B01", deny="response_count", about="XSW1: evil Response, the original in ds:Signature."),
    "xsw2": given(xsw2, label="B02", deny="response_count", about="XSW2: the original before the detached signature."),
    "xsw3": given(xsw3, label="B03", about="XSW3: evil assertion before the signed one."),
    "xsw4": given(xsw4, label="B04", about="XSW4: evil assertion wraps the signed one."),
    "xsw5": given(xsw5, label="B05", about="XSW5: evil assertion carries the signature, the original is appended."),
    "xsw6": given(xsw6, label="B06", about="XSW6: evil assertion carries the signature that holds the original."),
    "xsw7": given(xsw7, label="B07", about="XSW7: evil assertion in Extensions."),
    "xsw8": given(xsw8, label="B08", about="XSW8: original in ds:Object of the signature in the evil assertion."),
}


def octets(root: etree._Element) -> bytes:
    """The bytes of a tree."""
    return etree.tostring(root, encoding="UTF-8", xml_declaration=False)


@case("B01", deny="assertion_count", both=True, bug=WRAP, origin=XSW, each=XSWS)
def b01_wrapped(build: Callable[[], etree._Element]) -> bytes:
    """The original keeps its ID, the evil copy has a new one."""
    return octets(build())


@case(
    "B09",
    deny="id_duplicate",
    both=True,
    bug=WRAP,
    origin=XSW,
    each={name: given(entry.argument) for name, entry in XSWS.items()},
)
def b09_wrapped_with_the_same_id(build: Callable[..., etree._Element]) -> bytes:
    """The evil copy has the IDs of the original, in the arrangement:"""
    return octets(build(new_ids=False))


@case(
    "B10",
    deny="assertion_count",
    both=True,
    bug=WRAP,
    origin="CVE-2026-34840 (OneUptime), CVE-2026-25922 (authentik)",
    each={"last": None, "first": 0, "before_status": 1},
)
def b10_unsigned_assertion_beside_the_signed_one(index: int | None) -> Launch:
    """An unsigned assertion with a new ID stands beside the signed one."""
    launch = Launch().sign()
    return launch.add(".", evil(launch.assertion), index)


@case("B10", deny="assertion_count", both=True, bug=WRAP, origin="CVE-2026-34840, CVE-2026-25922")
def b10_unsigned_assertion_in_a_signed_response_added_later() -> Launch:
    """The Response was signed with one assertion; a second was added afterwards."""
    launch = Launch().sign_response()
    return launch.add(".", evil(launch.assertion))


@case(
    "B11",
    both=True,
    bug=WRAP,
    origin="CVE-2024-45409 family",
    each={"new_id": given("_evil1", deny="assertion_count"), "same_id": given(None, deny="id_duplicate")},
)
def b11_original_hidden_in_extensions(new_id: str | None) -> Launch:
    """The signed assertion stands in Extensions, an evil one with a copy of its signature at the top."""
    launch = Launch().sign()
    genuine = launch.assertion
    made = evil(genuine, new_id=new_id)
    made.insert(1, copy.deepcopy(signature_in(genuine)))
    launch.root.replace(genuine, made)
    launch.root.insert(1, extensions(genuine))
    return launch


@case("B12", deny="signature_placement", both=True, bug=WRAP, origin="CVE-2024-45409 (ruby-saml)")
def b12_digest_parked_in_status_detail() -> Launch:
    """A ds:DigestValue of the changed content is parked in StatusDetail."""
    forged = Launch(upn=n.ADMIN, name_id=n.ADMIN).sign(key="attacker")
    value = next(forged.root.iter(qname("ds:DigestValue")))
    launch = Launch().sign()
    claim_upn(launch.assertion, n.ADMIN)
    below(launch.find("samlp:Status"), "samlp:StatusDetail").append(value)
    return launch


@case("B12", deny="signature_placement", both=True, bug=WRAP, origin="CVE-2024-45409 (ruby-saml)")
def b12_signature_parked_in_status_detail() -> Launch:
    """A whole ds:Signature with the wanted digest is parked in StatusDetail."""
    forged = Launch(upn=n.ADMIN, name_id=n.ADMIN).sign(key="attacker")
    launch = Launch().sign()
    claim_upn(launch.assertion, n.ADMIN)
    below(launch.find("samlp:Status"), "samlp:StatusDetail").append(signature_in(forged.assertion))
    return launch


@case(
    "B13",
    deny="signature_placement",
    both=True,
    bug=WRAP,
    origin="CVE-2024-45409 (ruby-saml)",
    each={
        "digest_value": "ds:DigestValue",
        "reference": "ds:Reference",
        "signed_info": "ds:SignedInfo",
        "signature_value": "ds:SignatureValue",
        "transforms": "ds:Transforms",
        "object": "ds:Object",
    },
)
def b13_part_of_a_signature_in_extensions(name: str) -> Launch:
    """A lone part of a signature stands in Extensions:"""
    launch = Launch().sign()
    return launch.add(".", extensions(element(name, "x")), 1)


@case("B14", deny="assertion_count", both=True, bug=WRAP)
def b14_original_in_key_info() -> Launch:
    """The evil assertion carries the signature; the original stands in its KeyInfo."""
    root = xsw5()
    made, genuine = root.findall(qname("saml:Assertion"))
    signature_in(made)[2].append(genuine)
    launch = Launch()
    launch.root = root
    return launch


@case("B15", deny="assertion_count", both=True, bug=WRAP, origin="CVE-2021-21238 (pysaml2), samlify")
def b15_original_in_confirmation_data() -> Launch:
    """The signed original stands in the evil assertion's SubjectConfirmationData."""
    launch = Launch().sign()
    genuine = launch.assertion
    made = evil(genuine)
    launch.root.replace(genuine, made)
    next(made.iter(qname("saml:SubjectConfirmationData"))).append(genuine)
    return launch


@case(
    "B15",
    deny="assertion_count",
    both=True,
    bug=WRAP,
    each={
        "advice": "saml:Advice",
        "attribute_value": "saml:AttributeStatement/saml:Attribute/saml:AttributeValue",
        "conditions": "saml:Conditions",
        "authn_context": "saml:AuthnStatement/saml:AuthnContext",
        "subject": "saml:Subject",
        "issuer": "saml:Issuer",
    },
)
def b15_original_deep_in_the_evil_assertion(path: str) -> Launch:
    """The signed original stands in the evil assertion's:"""
    launch = Launch().sign()
    genuine = launch.assertion
    made = evil(genuine)
    launch.root.replace(genuine, made)
    if path == "saml:Advice":
        below(made, path)
    holder = made.find("/".join(map(qname, path.split("/"))))
    assert holder is not None
    holder.append(genuine)
    return launch


@case("B16", deny="response_count", both=True, bug=WRAP, origin="CVE-2025-46572")
def b16_nested_response() -> Launch:
    """An evil Response holds the signed original Response as a child."""
    launch = Launch(response_id="_evilresponse", assertion_id="_evil1", upn=n.ADMIN, name_id=n.ADMIN)
    return launch.add(".", Launch().sign_response().root)


@case("B16", deny="response_count", both=True, bug=WRAP, each={"extensions": "samlp:Extensions", "detail": "status"})
def b16_nested_response_elsewhere(where: str) -> Launch:
    """The signed original Response is hidden in:"""
    launch = Launch(response_id="_evilresponse", assertion_id="_evil1", upn=n.ADMIN, name_id=n.ADMIN)
    genuine = Launch().sign_response().root
    if where == "status":
        below(launch.find("samlp:Status"), "samlp:StatusDetail").append(genuine)
        return launch
    return launch.add(".", extensions(genuine), 1)


@case("B17", deny="not_a_response", both=True, bug=WRAP)
def b17_enveloping_signature() -> bytes:
    """The document element is a ds:Signature whose ds:Object holds the original."""
    launch = Launch().sign()
    signature = signature_in(launch.assertion)
    remove(signature)
    below(signature, "ds:Object").append(launch.assertion)
    return octets(signature)


@case("B18", deny="not_a_response", bug=WRAP, origin="CVE-2026-49283 (ArtifactResponse)")
def b18_soap_envelope() -> bytes:
    """The genuine Response stands in a SOAP envelope."""
    soap = "http://schemas.xmlsoap.org/soap/envelope/"
    envelope = etree.Element(f"{{{soap}}}Envelope", nsmap={"soap": soap})
    etree.SubElement(envelope, f"{{{soap}}}Body").append(Launch().sign().root)
    return octets(envelope)


@case(
    "B19",
    deny="not_a_response",
    bug=WRAP,
    each={
        "assertion": lambda: Launch().sign().assertion,
        "metadata": signed_donor,
        "artifact_response": lambda: wrapped_in("samlp:ArtifactResponse"),
        "logout_response": lambda: element("samlp:LogoutResponse", ID="_x", Version="2.0"),
        "authn_request": lambda: element("samlp:AuthnRequest", ID="_x", Version="2.0"),
        "saml_1_response": lambda: etree.Element("{urn:oasis:names:tc:SAML:1.0:protocol}Response"),
        "response_without_namespace": lambda: etree.Element("Response"),
        "response_in_assertion_namespace": lambda: element("saml:Response"),
        "html": lambda: etree.Element("html"),
    },
)
def b19_other_document_element(build: Callable[[], etree._Element]) -> bytes:
    """The document element is no samlp:Response but:"""
    return alone(build())


def wrapped_in(name: str) -> etree._Element:
    """The genuine Response inside another element."""
    made = element(name, ID="_wrapper", Version="2.0", IssueInstant="2026-01-01T12:00:00Z")
    made.append(Launch().sign().root)
    return made


@case("B20", deny=("signature_placement", "assertion_count"), both=True, bug=WRAP, origin="CVE-2024-6800 (GHES)")
def b20_signed_metadata_as_donor() -> Launch:
    """Metadata that the IdP signed with its token key is hidden in Extensions beside an evil unsigned assertion."""
    launch = Launch(upn=n.ADMIN, name_id=n.ADMIN)
    return launch.add(".", extensions(signed_donor()), 1)


@case("B20", deny=("reference_uri", "signature_placement"), both=True, bug=WRAP, origin="CVE-2024-6800 (GHES)")
def b20_metadata_signature_in_the_assertion() -> Launch:
    """The signature of the IdP's signed metadata stands in an evil assertion."""
    launch = Launch(upn=n.ADMIN, name_id=n.ADMIN)
    return launch.add("saml:Assertion", signature_in(signed_donor()), 1)


@case("B21", deny="assertion_count", both=True, bug=WRAP)
def b21_no_assertion_at_the_top() -> Launch:
    """The signed assertion stands only in Extensions."""
    launch = Launch().sign()
    genuine = launch.assertion
    launch.root.remove(genuine)
    return launch.add(".", extensions(genuine), 1)


@case("B21", deny="assertion_count", bug=WRAP)
def b21_no_assertion_at_all() -> Launch:
    """The Response is signed and holds no assertion."""
    launch = Launch()
    launch.root.remove(launch.assertion)
    return launch.sign_response()


@case("B22", deny=("reference_uri", "signature_placement"), both=True, bug=WRAP)
def b22_assertion_signature_below_the_response() -> Launch:
    """The genuine signature of the assertion stands directly below the Response."""
    launch = Launch()
    sign(launch.assertion, How(parent=launch.root, index=1))
    return launch


@case(
    "B23",
    deny="signature_placement",
    both=True,
    bug=WRAP,
    each={
        "subject": "saml:Assertion/saml:Subject",
        "attribute_value": "saml:Assertion/saml:AttributeStatement/saml:Attribute/saml:AttributeValue",
        "status": "samlp:Status",
        "conditions": "saml:Assertion/saml:Conditions",
        "issuer": "saml:Assertion/saml:Issuer",
    },
)
def b23_signature_deeper(path: str) -> Launch:
    """The signature of the assertion stands deeper than directly in it, in its:"""
    launch = Launch()
    sign(launch.assertion, How(parent=launch.find(path), index=0))
    return launch


@case("B23", deny="signature_placement", both=True, bug=WRAP)
def b23_signature_inside_a_signature() -> Launch:
    """A signature by the attacker stands in KeyInfo of the genuine one."""
    launch = Launch().sign()
    other = signature_in(Launch(upn=n.ADMIN).sign(key="attacker").assertion)
    signature_in(launch.assertion)[2].append(other)
    return launch


@case("B24", deny="signature_structure", bug=WRAP, origin="CVE-2025-48994 class")
def b24_no_reference() -> Launch:
    """SignedInfo holds no Reference, correctly signed."""
    return Launch(upn=n.ADMIN).sign(signed_info=lambda info: info.remove(info[2]))


@case("B25", deny="reference_uri", bug=WRAP)
def b25_empty_reference_in_the_assertion() -> Launch:
    """The assertion's signature refers to the whole document by an empty URI."""
    launch = Launch()
    sign(launch.root, How(parent=launch.assertion, uri_of_id=False, uri=""))
    return launch


@case("B26", deny="reference_uri", bug=WRAP, origin="SAML core 5.4.2")
def b26_empty_reference_in_the_response() -> Launch:
    """The Response's signature refers to it by an empty URI."""
    return Launch().sign_response(uri_of_id=False, uri="")


@case("B27", deny="signature_structure", bug=WRAP, each={"same": False, "response": True})
def b27_two_references(response: bool) -> Launch:
    """SignedInfo holds two References, the second to:"""

    def twice(info: etree._Element) -> None:
        second = copy.deepcopy(info[2])
        if response:
            second.set("URI", "#" + RESPONSE_ID)
        info.append(second)

    return Launch().sign(signed_info=twice)


@case("B28", deny="reference_uri", bug=WRAP)
def b28_no_reference_uri() -> Launch:
    """Reference has no URI attribute."""
    return Launch().sign(uri_of_id=False, uri=None)


@case(
    "B29",
    deny="reference_uri",
    bug=SSRF,
    origin="SSRF, XPath injection",
    each={
        "xpointer_id": given(f"#xpointer(id('{ASSERTION_ID}'))", label="B29a"),
        "xpointer_root": given("#xpointer(/)", label="B29b"),
        "http": given("http://127.0.0.1:9/x", label="B29c"),
        "file": given("file:///etc/passwd", label="B29d"),
        "xpath_quote": given(f'#{ASSERTION_ID}" or "1"="1', label="B29e"),
        "two_hashes": given(f"##{ASSERTION_ID}", label="B29f"),
        "no_hash": given(ASSERTION_ID, label="B29g"),
        "cid": given("cid:x", label="B29h"),
        "query": given(f"?x#{ASSERTION_ID}", label="B29i"),
        "hash_only": given("#", label="B29j"),
        "other_case": given("#_ASSERT1", label="B29k"),
        "trailing_blank": given(f"#{ASSERTION_ID} ", label="B29l"),
        "leading_blank": given(f" #{ASSERTION_ID}", label="B29m"),
        "percent_encoded": given("#%5Fassert1", label="B29n"),
        "document_and_fragment": given(f"http://127.0.0.1:9/x#{ASSERTION_ID}", label="B29o"),
        "id_of_nothing": given("#_nothing", label="B29p"),
        "id_of_the_response": given(f"#{RESPONSE_ID}", label="B29q"),
        "apostrophe": given(f"#{ASSERTION_ID}' or '1'='1", label="B29r"),
    },
)
def b29_reference_uri(uri: str) -> Launch:
    """Genuinely signed with the reference URI:"""
    return Launch().sign(uri_of_id=False, uri=uri)


@case("B30", deny="reference_uri", both=True, bug=WRAP)
def b30_signature_over_the_subject() -> Launch:
    """The signature in the assertion covers only its Subject, by an ID there."""
    launch = Launch()
    subject = launch.find("saml:Assertion/saml:Subject")
    subject.set("ID", "_subject")
    sign(subject, How(parent=launch.assertion, index=1))
    claim_upn(launch.find("saml:Assertion/saml:AttributeStatement"), n.ADMIN)
    return launch


@case("B30", deny="reference_uri", both=True, bug=WRAP)
def b30_signature_over_an_element_in_extensions() -> Launch:
    """The signature in the evil assertion covers an element that hides in Extensions."""
    launch = Launch(upn=n.ADMIN)
    donor = foreign("Donor", ID="_donor")
    launch.add(".", extensions(donor), 1)
    sign(donor, How(parent=launch.assertion, index=1))
    return launch


@case("B31", deny=("signature_invalid", "digest_mismatch"), bug=WRAP)
def b31_response_signature_good_and_assertion_signature_broken() -> Launch:
    """The Response is genuinely signed over an assertion whose own signature is corrupt."""
    launch = Launch().sign()
    value = next(launch.root.iter(qname("ds:SignatureValue")))
    text = value.text or ""
    value.text = ("B" if text[0] == "A" else "A") + text[1:]
    return launch.sign_response()


@case("B31", deny="signature_invalid", bug=WRAP)
def b31_response_signature_good_and_assertion_signed_by_attacker() -> Launch:
    """The Response is genuinely signed over an assertion that another key signed."""
    return Launch().sign(key="attacker", key_info=("attacker",)).sign_response()


@case("B31", deny="digest_mismatch", bug=WRAP)
def b31_response_signature_good_and_assertion_changed() -> Launch:
    """The Response is genuinely signed over an assertion that was changed after its own signature."""
    launch = Launch().sign()
    claim_upn(launch.assertion, n.ADMIN)
    return launch.sign_response()


@case("B32", deny="signature_invalid", bug=WRAP)
def b32_assertion_signature_good_and_response_signed_by_attacker() -> Launch:
    """The assertion is genuine, the Response is signed by another key."""
    return Launch().sign().sign_response(key="attacker", key_info=("attacker",))


@case("B32", deny="digest_mismatch", bug=WRAP)
def b32_assertion_signature_good_and_response_changed() -> Launch:
    """Both were genuinely signed; the Response was changed afterwards."""
    return Launch().sign().sign_response().set(".", Consent="urn:example:changed")


@case("B33", deny="assertion_count", both=True, bug=WRAP, origin="CVE-2026-34840 class")
def b33_two_genuine_assertions() -> Launch:
    """The genuinely signed assertions of two users' sessions in one Response."""
    launch = Launch().sign()
    other = Launch(assertion_id="_assert2", upn=n.ADMIN, name_id=n.ADMIN).sign()
    return launch.add(".", other.assertion)


@case("B33", deny="assertion_count", both=True, bug=WRAP)
def b33_two_assertions_in_a_signed_response() -> Launch:
    """The IdP signed a Response with two assertions: one must be chosen by nobody."""
    launch = Launch()
    other = Launch(assertion_id="_assert2", upn=n.ADMIN, name_id=n.ADMIN)
    return launch.add(".", other.assertion).sign_response()


@case(
    "B34",
    deny="assertion_count",
    both=True,
    policy={"decryption_keys": ["keys/sp.pem"]},
    bug=WRAP,
    origin="CVE-2026-2092 (Keycloak)",
    each={"encrypted_first": 2, "encrypted_last": None},
)
def b34_signed_and_encrypted_assertion(index: int | None) -> Launch:
    """A forged EncryptedAssertion for the victim stands beside the attacker's own signed assertion."""
    forged = Launch(assertion_id="_evil1", upn=n.ADMIN, name_id=n.ADMIN).encrypt()
    return Launch().sign().add(".", forged.find("saml:EncryptedAssertion"), index)


@case(
    "B35",
    deny="id_duplicate",
    both=True,
    bug=WRAP,
    origin="CVE-2025-66567, CVE-2025-66568 class",
    each={
        "Id": given("Id", label="B35a"),
        "id": given("id", label="B35b"),
        "ID": given("ID", label="B35c"),
        "iD": given("iD", label="B35d"),
        "xml_id": given(f"{{{n.XML}}}id", label="B35e"),
    },
)
def b35_decoy_with_the_signed_id(name: str) -> Launch:
    """An element in Extensions carries the signed ID in the attribute:"""
    decoy = foreign("x")
    decoy.set(name, ASSERTION_ID)
    return Launch().sign().add(".", extensions(decoy), 1)


@case("B35", deny="id_duplicate", bug=WRAP)
def b35_response_and_assertion_with_one_id() -> Launch:
    """Response and assertion have the same ID, both genuinely signed."""
    return Launch(response_id=ASSERTION_ID).sign().sign_response()


@case("B35", deny="id_duplicate", bug=WRAP)
def b35_signature_with_the_assertion_id() -> Launch:
    """The signature's own Id is that of the assertion."""
    launch = Launch().sign()
    signature_in(launch.assertion).set("Id", ASSERTION_ID)
    return launch


@case("B36", deny="id_invalid", both=True, bug=WRAP, origin="CVE-2025-66567")
def b36_namespaced_id_on_a_decoy() -> Launch:
    """A decoy carries the signed ID in an ID attribute of a foreign namespace."""
    decoy = foreign("x")
    decoy.set(f"{{{EVIL_NS}}}ID", ASSERTION_ID)
    return Launch().sign().add(".", extensions(decoy), 1)


@case("B36", deny="id_invalid", both=True, bug=WRAP, origin="CVE-2025-66567")
def b36_namespaced_id_beside_the_id() -> Launch:
    """The Response carries samlp:ID beside its ID."""
    launch = Launch().sign()
    launch.root.set(f"{{{n.SAMLP}}}ID", "_other")
    return launch


@case(
    "B37",
    deny="assertion_count",
    both=True,
    bug=WRAP,
    origin="namespace confusion: samlify, node-saml",
    each={
        "evil": EVIL_NS,
        "saml_1": "urn:oasis:names:tc:SAML:1.0:assertion",
        "none": None,
        "protocol": n.SAMLP,
        "trailing_slash": n.SAML + "/",
    },
)
def b37_assertion_in_a_foreign_namespace(namespace: str | None) -> Launch:
    """An element named Assertion in another namespace, with the victim's claims, stands before the signed one:"""
    launch = Launch().sign()
    decoy = evil(launch.assertion)
    for child in decoy.iter(etree.Element):
        local = etree.QName(child).localname
        child.tag = local if namespace is None else f"{{{namespace}}}{local}"
    return launch.add(".", decoy, 0)


@case("B37", deny="response_count", both=True, bug=WRAP)
def b37_response_in_a_foreign_namespace() -> Launch:
    """An element named Response in a foreign namespace stands in Extensions."""
    return Launch().sign().add(".", extensions(foreign("Response")), 1)


@case("B38", allow=True)
def b38_signature_as_last_child() -> Launch:
    """The signature is the assertion's last child, where some products put it."""
    launch = Launch()
    return launch.sign(index=len(launch.assertion))


@case("B38", allow=True)
def b38_response_signature_as_last_child() -> Launch:
    """The Response's signature is its last child."""
    launch = Launch()
    return launch.sign_response(index=len(launch.root))


@case("B39", deny=("signature_placement", "signature_structure"), bug=WRAP)
def b39_genuine_signature_twice() -> Launch:
    """The assertion holds its genuine signature twice."""
    launch = Launch().sign()
    return launch.add("saml:Assertion", copy.deepcopy(signature_in(launch.assertion)))


@case("B40", deny="signature_placement", both=True, bug=WRAP)
def b40_detached_signature_in_extensions() -> Launch:
    """The genuine signature stands in Extensions, the changed assertion has none."""
    launch = Launch().sign()
    signature = signature_in(launch.assertion)
    remove(signature)
    claim_upn(launch.assertion, n.ADMIN)
    return launch.add(".", extensions(signature), 1)


@case(
    "B41",
    deny="xml_comment_or_pi",
    bug=BugType.PARSER_DIFFERENTIAL,
    origin="CVE-2025-29775 (xml-crypto)",
    each={
        "signature_value": "ds:SignatureValue",
        "digest_method": "ds:DigestMethod",
        "certificate": "ds:X509Certificate",
        "transforms": "ds:Transforms",
    },
)
def b41_comment_in_the_signature(name: str) -> Launch:
    """A comment stands in the genuine signature's:"""
    launch = Launch().sign()
    next(launch.root.iter(qname(name))).append(etree.Comment("x"))
    return launch


@case("B42", deny="xml_comment_or_pi", both=True, bug=BugType.PARSER_DIFFERENTIAL, origin="CVE-2025-29775 (xml-crypto)")
def b42_comment_in_digest_value() -> Launch:
    """DigestValue holds the forged digest in a comment before the genuine one; the content was changed."""
    forged = next(Launch(upn=n.ADMIN, name_id=n.ADMIN).sign(key="attacker").root.iter(qname("ds:DigestValue"))).text
    launch = Launch().sign()
    claim_upn(launch.assertion, n.ADMIN)
    value = next(launch.root.iter(qname("ds:DigestValue")))
    comment = etree.Comment(forged or "")
    comment.tail, value.text = value.text, None
    value.append(comment)
    return launch


@case(
    "B43",
    deny="signature_structure",
    both=True,
    bug=WRAP,
    origin="xmlseclibs 4, goxmldsig",
    each={"first": 2, "last": 3},
)
def b43_two_digest_values(index: int) -> Launch:
    """A forged DigestValue stands beside the genuine one, at index:"""
    forged = next(Launch(upn=n.ADMIN, name_id=n.ADMIN).sign(key="attacker").root.iter(qname("ds:DigestValue")))
    launch = Launch().sign()
    claim_upn(launch.assertion, n.ADMIN)
    next(launch.root.iter(qname("ds:Reference"))).insert(index, forged)
    return launch


@case("B44", deny="signature_structure", bug=WRAP, origin="goxmldsig", each={"first": 1, "last": 2})
def b44_two_signature_values(index: int) -> Launch:
    """A second SignatureValue stands beside the genuine one, at index:"""
    launch = Launch().sign()
    signature_in(launch.assertion).insert(index, element("ds:SignatureValue", "AAAA"))
    return launch


@case("B45", deny="signature_structure", bug=WRAP, origin="SAML errata E91", each={"text": "x", "empty": None})
def b45_object_added(text: str | None) -> Launch:
    """A ds:Object was added to the genuine signature, which does not cover it."""
    launch = Launch().sign()
    below(signature_in(launch.assertion), "ds:Object", text)
    return launch


@case("B46", deny=("reference_uri", "signature_structure"), bug=WRAP)
def b46_signature_over_its_own_object() -> Launch:
    """The signature in an evil assertion covers only a ds:Object of its own."""
    launch = Launch(upn=n.ADMIN)
    holder = element("ds:Object", ID="_object")
    signature = sign(holder, How(parent=launch.assertion, index=1))
    signature.append(holder)
    return launch


@case("B47", deny="signature_structure", bug=WRAP, origin="XML Signature 1.1 section 5.1")
def b47_manifest() -> Launch:
    """Reference is to a ds:Manifest that lists the assertion; verifiers need not check its digests."""
    launch = Launch(upn=n.ADMIN)
    manifest = element("ds:Manifest", ID="_manifest")
    signature = sign(manifest, How(parent=launch.assertion, index=1, reference_type=n.DS + "Manifest"))
    below(signature, "ds:Object").append(manifest)
    return launch


@case("B47", deny="signature_structure", bug=WRAP, each={"manifest": n.DS + "Manifest", "object": n.DS + "Object"})
def b47_reference_type(uri: str) -> Launch:
    """Reference is to the assertion and carries a Type:"""
    return Launch().sign(reference_type=uri)


@case(
    "B48",
    deny="id_invalid",
    bug=BugType.PARSER_DIFFERENTIAL,
    origin="CVE-2025-23369 class",
    each={
        "leading_blank": given(" _assert1", label="B48a"),
        "newline": given("_assert1\n", label="B48b"),
        "colon": given("a:b", label="B48c"),
        "quote": given("_a'or'1'='1", label="B48d"),
        "tab": given("_assert1\t", label="B48e"),
        "no_break_space": given("_assert1\u00a0", label="B48f"),
        "letter_outside_ascii": given("_ass\u00e9rt1", label="B48g"),
        "double_quote": given('_a"b', label="B48h"),
        "hash": given("_assert#1", label="B48i"),
        "leading_hyphen": given("-assert1", label="B48j"),
        "full_width_digit": given("_assert\uff11", label="B48k"),
        "slash": given("_assert/1", label="B48l"),
        "parenthesis": given("id('x')", label="B48m"),
        "leading_dot": given(".assert1", label="B48n"),
        "zero_width": given("_assert1\u200b", label="B48o"),
        "braces": given("{_assert1}", label="B48p"),
    },
)
def b48_odd_assertion_id(value: str) -> Launch:
    """Genuinely signed with the assertion ID and the reference to it:"""
    return Launch(assertion_id=value).sign()


@case(
    "B48", deny="id_invalid", bug=BugType.PARSER_DIFFERENTIAL, each={"newline": "_r\n", "quote": "_r'", "blank": "_r x"}
)
def b48_odd_response_id(value: str) -> Launch:
    """The unsigned Response's ID holds:"""
    return Launch(response_id=value).sign()


@case(
    "B48",
    allow=True,
    each={"digits_first": "3f1c-77", "dots": "id.1-2_3", "guid": "0b8f9c1e-5c1d-4c35-9e0e-1d2f3a4b5c6d"},
)
def b48_usual_assertion_id(value: str) -> Launch:
    """IDs as products make them, although xs:NCName forbids a leading digit:"""
    return Launch(assertion_id=value).sign()


@case(
    "B49",
    deny="id_invalid",
    bug=WRAP,
    origin="CVE-2025-25292 family",
    each={"hash": given(How(uri_of_id=False, uri="#")), "empty": given(How(uri_of_id=False, uri=""))},
)
def b49_empty_assertion_id(how: How) -> Launch:
    """The assertion's ID is empty, and the reference means the whole document; URI:"""
    return Launch(assertion_id="").sign(how)


@case("B50", deny="id_missing", bug=WRAP)
def b50_assertion_without_id() -> Launch:
    """Only the Response is signed, and the assertion has no ID."""
    return Launch().set("saml:Assertion", ID=None).sign_response()


@case("B51", deny="id_missing", bug=WRAP)
def b51_response_without_id() -> Launch:
    """The assertion is signed, and the Response has no ID."""
    return Launch().set(".", ID=None).sign()


@case("B51", deny="id_missing", bug=WRAP, each={"Id": "Id", "id": "id", "xml_id": f"{{{n.XML}}}id"})
def b51_assertion_id_in_another_spelling(name: str) -> Launch:
    """The assertion carries its ID in the attribute:"""
    launch = Launch().set("saml:Assertion", ID=None)
    launch.assertion.set(name, ASSERTION_ID)
    return launch.sign(uri_of_id=False, uri=f"#{ASSERTION_ID}")


@case("B52", deny="digest_mismatch", both=True, bug=WRAP)
def b52_genuine_signature_in_an_evil_assertion_of_the_same_id() -> Launch:
    """An evil assertion takes the place, the ID and the signature of the genuine one."""
    launch = Launch().sign()
    genuine = launch.assertion
    made = evil(genuine, new_id=None)
    made.insert(1, signature_in(genuine))
    launch.root.replace(genuine, made)
    return launch


@case("B52", deny="reference_uri", both=True, bug=WRAP)
def b52_genuine_signature_in_an_evil_assertion_of_a_new_id() -> Launch:
    """An evil assertion with a new ID takes the place and the signature of the genuine one, which is gone."""
    launch = Launch().sign()
    genuine = launch.assertion
    made = evil(genuine)
    made.insert(1, signature_in(genuine))
    launch.root.replace(genuine, made)
    return launch


@case("B53", deny="status_not_success", bug=BugType.CLAIM_BYPASS, each={"success_first": 2, "failure_first": 1})
def b53_second_status(index: int) -> Launch:
    """The Response has two Status elements, one of them a failure."""
    status = element("samlp:Status")
    below(status, "samlp:StatusCode", Value=n.RESPONDER)
    return Launch().sign().add(".", status, index)


@case("B54", deny="assertion_count", both=True, bug=WRAP, each={"plain": "saml:EncryptedAssertion", "foreign": None})
def b54_empty_encrypted_assertion_beside(name: str | None) -> Launch:
    """An EncryptedAssertion without content stands beside the signed assertion:"""
    decoy = foreign("EncryptedAssertion") if name is None else element(name)
    return Launch().sign().add(".", decoy)


@case("B55", deny="digest_mismatch", both=True, bug=WRAP)
def b55_signed_response_with_replaced_assertion() -> Launch:
    """Only the Response was signed; its assertion was replaced by an evil one of the same ID."""
    launch = Launch().sign_response()
    genuine = launch.assertion
    launch.root.replace(genuine, evil(genuine, new_id=None))
    return launch


@case("B56", deny="transform_forbidden", both=True, bug=WRAP)
def b56_transform_that_selects_a_part() -> Launch:
    """The assertion's signature selects only its Issuer by an XPath transform; the rest was changed."""
    xpath = element("ds:XPath", "ancestor-or-self::*[local-name()='Issuer']")
    return Launch(upn=n.ADMIN).sign(
        transforms=(
            Transform(uri=n.ENVELOPED),
            Transform(uri="http://www.w3.org/TR/1999/REC-xpath-19991116", inside=(xpath,)),
        )
    )


@case("B57", deny="digest_mismatch", both=True, bug=WRAP)
def b57_unsigned_content_in_the_signature() -> Launch:
    """The victim's Subject stands in KeyInfo, the genuine Subject was removed."""
    launch = Launch().sign()
    subject = launch.find("saml:Assertion/saml:Subject")
    remove(subject)
    signature_in(launch.assertion)[2].append(claim_upn(subject, n.ADMIN))
    return launch


@case("B57", allow=True)
def b57_foreign_content_in_key_info() -> Launch:
    """KeyInfo, which no signature covers, holds a second Subject for the victim; nothing is read from there."""
    launch = Launch().sign()
    info = signature_in(launch.assertion)[2]
    info.append(claim_upn(unsigned(launch.find("saml:Assertion/saml:Subject")), n.ADMIN))
    return launch


@case("B57", deny="upn_mismatch", upn=n.ADMIN, bug=WRAP)
def b57_foreign_content_in_key_info_for_the_victim() -> Launch:
    """The same evidence, presented for the victim who is named only in KeyInfo."""
    launch = Launch().sign()
    info = signature_in(launch.assertion)[2]
    info.append(claim_upn(unsigned(launch.find("saml:Assertion/saml:Subject")), n.ADMIN))
    info.append(claim_upn(unsigned(launch.find("saml:Assertion/saml:AttributeStatement")), n.ADMIN))
    return launch


@case("B58", allow=True)
def b58_holder_of_key_info_in_another_confirmation() -> Launch:
    """A second, holder-of-key confirmation brings its ds:KeyInfo, as SAML profiles foresee."""
    launch = Launch()
    other = element("saml:SubjectConfirmation", Method=n.HOLDER_OF_KEY)
    below(other, "saml:SubjectConfirmationData").append(key_info("attacker"))
    return launch.add("saml:Assertion/saml:Subject", other).sign()
