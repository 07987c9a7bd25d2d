"""From what FAS hands over to a Response of safe shape."""

from __future__ import annotations

import base64
from copy import deepcopy

import pytest
from lxml import etree

from evidence_service.access.decide import decide
from evidence_service.access.evidence import parse_response, read_evidence
from idp_certs.reasons import Refused
from idp_certs.xml import EVIDENCE_LIMITS
from tests.core.given import (
    ALLOW,
    KEYCLOAK,
    NOW,
    Change,
    P,
    S,
    changed,
    deny,
    examined,
    genuine,
    idp_of,
    judged,
    nothing,
    one,
    outcome,
    policy_for,
    request_of,
    snapshot_of,
    with_attribute,
    without,
)

XML = genuine()
B64 = base64.b64encode(XML)
LIMIT = EVIDENCE_LIMITS.document


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        ((XML,), ALLOW),
        ((B64,), ALLOW),
        ((b"\xef\xbb\xbf" + XML,), ALLOW),
        ((b"\n" + XML + b"\n",), ALLOW),
        ((), deny("evidence_missing")),
        ((b"",), deny("evidence_empty")),
        ((b"", XML), deny("response_count")),
        ((XML, XML), deny("response_count")),
        ((b" ",), deny("evidence_encoding")),
        ((b"text",), deny("xml_encoding")),  # four letters are base64 of three bytes
        ((base64.encodebytes(XML),), deny("evidence_encoding")),
        ((B64 + b"\n",), deny("evidence_encoding")),
        ((b" " + B64,), deny("evidence_encoding")),
        ((B64 + b"=",), deny("evidence_encoding")),
        ((B64.rstrip(b"=") if B64.endswith(b"=") else B64[:-1],), deny("evidence_encoding")),
        ((B64[:20] + b"*" + B64[20:],), deny("evidence_encoding")),
        ((base64.urlsafe_b64encode(b"\xfb\xff" + XML),), deny("evidence_encoding")),
        ((base64.b64encode(B64),), deny("xml_malformed")),
        ((b"QR==",), deny("evidence_encoding")),
        ((XML[:-1],), deny("xml_malformed")),
        ((XML + XML,), deny("xml_malformed")),
        ((b"<" + b" " * LIMIT,), deny("evidence_too_large")),
        ((b"A" * (LIMIT * 2),), deny("evidence_too_large")),
    ],
)
def test_what_fas_hands_over(evidence: tuple[bytes, ...], expected: tuple[str, ...]) -> None:
    """XML or strict base64 of it, once; anything else is refused for what it is."""
    assert outcome(decide(request_of(*evidence), snapshot_of(), NOW)) == expected


def test_the_size_is_exact() -> None:
    """256 KiB are read and one byte more is not, plain or in base64."""
    whole = XML + b" " * (LIMIT - len(XML))

    assert read_evidence((whole,)) == whole
    assert read_evidence((base64.b64encode(whole[:-1]),)) == whole[:-1]
    assert outcome(judged(whole)) == ALLOW
    assert outcome(judged(whole + b" ")) == deny("evidence_too_large")
    assert outcome(judged(base64.b64encode(whole + b" " * 3))) == deny("evidence_too_large")


def test_the_size_is_exact_in_padded_base64() -> None:
    """Base64 of exactly 256 KiB is read: the limit is on what is decoded."""
    whole = XML + b" " * (LIMIT - len(XML))

    assert read_evidence((base64.b64encode(whole),)) == whole


def _moved(to: str) -> Change:
    def change(root: etree._Element) -> None:
        assertion = one(root, "s:Assertion")
        holder = etree.SubElement(root, to)
        holder.append(assertion)

    return change


def _foreign(tag: str) -> Change:
    return lambda root: root.append(etree.Element(tag))


def _second_id(name: str, value: str = "_a1") -> Change:
    return with_attribute("s:Assertion/s:Subject", name, value)


_SHAPES: dict[str, tuple[Change, str]] = {
    "an Assertion alone": (lambda root: setattr(root, "tag", S + "Assertion"), "not_a_response"),
    "a SAML 1.1 Response": (
        lambda root: setattr(root, "tag", "{urn:oasis:names:tc:SAML:1.0:protocol}Response"),
        "not_a_response",
    ),
    "an ArtifactResponse around it": (lambda root: setattr(root, "tag", P + "ArtifactResponse"), "not_a_response"),
    "no namespace": (lambda root: setattr(root, "tag", "Response"), "not_a_response"),
    "version 1.1 of the Response": (with_attribute("", "Version", "1.1"), "saml_version"),
    "no version of the Response": (with_attribute("", "Version", None), "saml_version"),
    "version 2.1 of the Assertion": (with_attribute("s:Assertion", "Version", "2.1"), "saml_version"),
    "no ID of the Response": (with_attribute("", "ID", None), "id_missing"),
    "no ID of the Assertion": (with_attribute("s:Assertion", "ID", None), "id_missing"),
    "an empty ID": (with_attribute("s:Assertion", "ID", ""), "id_invalid"),
    "an ID with a blank": (with_attribute("s:Assertion", "ID", "_a 1"), "id_invalid"),
    "an ID with a quote": (with_attribute("s:Assertion", "ID", "_a'1"), "id_invalid"),
    "an ID with a bracket": (with_attribute("s:Assertion", "ID", "_a)1"), "id_invalid"),
    "an ID with another letter": (with_attribute("s:Assertion", "ID", "_ä1"), "id_invalid"),
    "an ID that begins with a dash": (with_attribute("s:Assertion", "ID", "-a1"), "id_invalid"),
    "an ID with a line break": (with_attribute("s:Assertion", "ID", "_a1\n"), "id_invalid"),
    "an ID attribute of a foreign namespace": (_second_id("{urn:x}ID", "_z"), "id_invalid"),
    "the same ID on both": (lambda root: root.set("ID", "_a1"), "id_duplicate"),
    "the same ID elsewhere": (_second_id("ID"), "id_duplicate"),
    "the same Id": (_second_id("Id"), "id_duplicate"),
    "the same id": (_second_id("id"), "id_duplicate"),
    "the same iD": (_second_id("iD"), "id_duplicate"),
    "the same xml:id": (_second_id("{http://www.w3.org/XML/1998/namespace}id"), "id_duplicate"),
    "a Response in the Status": (
        lambda root: one(root, "p:Status").append(etree.Element(P + "Response", ID="_x", Version="2.0")),
        "response_count",
    ),
    "a Response of another namespace": (_foreign("{urn:x}Response"), "response_count"),
    "no assertion": (without("s:Assertion"), "assertion_count"),
    "two assertions": (
        lambda root: root.append(_renamed(one(root, "s:Assertion"))),
        "assertion_count",
    ),
    "a plain and an encrypted one": (_foreign(S + "EncryptedAssertion"), "assertion_count"),
    "an assertion of another namespace": (_foreign("{urn:x}Assertion"), "assertion_count"),
    "an assertion of no namespace": (_foreign("Assertion"), "assertion_count"),
    "an assertion in Extensions": (_moved(P + "Extensions"), "assertion_count"),
    "an assertion in a wrapper": (_moved("{urn:x}Wrapper"), "assertion_count"),
    "an assertion in Advice": (
        lambda root: etree.SubElement(one(root, "s:Assertion"), S + "Advice").append(
            _renamed(one(root, "s:Assertion"))
        ),
        "assertion_count",
    ),
}


def _renamed(assertion: etree._Element) -> etree._Element:
    copy = deepcopy(assertion)
    copy.set("ID", "_other")
    return copy


@pytest.mark.parametrize("name", _SHAPES)
def test_shapes(name: str) -> None:
    """Each unsafe shape is refused for its own reason, before any signature is looked at."""
    change, reason = _SHAPES[name]
    evidence = changed(nothing, then=change)
    with pytest.raises(Refused) as refused:
        parse_response(evidence)

    assert refused.value.finding.reason == reason
    assert outcome(judged(evidence)) == deny(reason)
    assert "signature_invalid" in examined(evidence).not_reached


def test_ids_that_are_let_be() -> None:
    """IDs that begin with a digit or hold dots and dashes occur in the field; other IDs beside them are no matter."""
    for assertion_id in ("1234", "a.b-c_d", "_", "x" * 200):
        assert outcome(judged(genuine(assertion_id=assertion_id))) == ALLOW
    assert outcome(judged(changed(_second_id("Id", "_z")))) == ALLOW


def test_whether_it_is_encrypted() -> None:
    """The shape says which of the two kinds the one assertion is."""
    plain, encrypted = parse_response(XML), parse_response(genuine(encrypted=True))

    assert (plain.is_encrypted, plain.assertion.tag) == (False, S + "Assertion")
    assert (encrypted.is_encrypted, encrypted.assertion.tag) == (True, S + "EncryptedAssertion")
    assert outcome(judged(genuine(idp_of(KEYCLOAK), encrypted=True), snapshot_of(policy_for(KEYCLOAK)))) == ALLOW
