"""Law: taking an element out of a denied document never makes it an allow for anything but what the IdP signed for us.

"Never an allow" without more would be false in one way that is no harm: a document that is genuine but for something
put beside what was signed becomes the genuine document again when just that is taken out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy

import pytest
from lxml import etree

from evidence_service.access.model import Allow
from evidence_service.access.verify import verify_evidence
from tests.core.given import (
    ALICE,
    ALLOW,
    OKTA,
    SHAPES,
    P,
    S,
    changed,
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
)
from tests.properties.given import SIGNED_LIES, forgeries, lie, shape, trust


def _removals(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The document once without each of its elements, by the path of what is gone."""
    root = etree.fromstring(data)
    tree = root.getroottree()
    for element in [*root.iter(etree.Element)][1:]:
        parent = element.getparent()
        assert parent is not None
        place = parent.index(element)
        path = tree.getelementpath(element)
        parent.remove(element)
        yield path, etree.tostring(root)
        parent.insert(place, element)


@pytest.mark.parametrize("name", SIGNED_LIES)
def test_from_a_signed_lie(name: str) -> None:
    """What the IdP signed and the policy denies stays denied, whichever element is gone."""
    assert outcome(judged(lie(name)))[0] == "deny"
    removals = list(_removals(lie(name)))

    assert len(removals) > 10
    assert [path for path, data in removals if isinstance(judged(data), Allow)] == []


@pytest.mark.parametrize("name", forgeries())
def test_from_a_forgery(name: str) -> None:
    """What no trusted key signed stays denied, whichever element is gone."""
    forged = forgeries()[name]
    assert outcome(judged(forged))[0] == "deny"

    assert [path for path, data in _removals(forged) if isinstance(judged(data), Allow)] == []


@pytest.mark.parametrize("name", SHAPES)
def test_from_the_genuine(name: str) -> None:
    """The genuine document without one element is a deny, or has the signed content it had."""
    original = verify_evidence((shape(name),), trust(name))
    allowed = []

    for path, data in _removals(shape(name)):
        decision = judged(data, trust(name))
        if isinstance(decision, Allow):
            allowed.append(path)
            verified = verify_evidence((data,), trust(name))
            assert (verified.content_sha256, verified.assertion) == (original.content_sha256, original.assertion), path
            assert decision.assertion.upn == ALICE, path
        else:
            assert decision.findings, path

    assert len(allowed) <= 20, allowed  # KeyInfo and its parts, the unsigned Issuer, an outer signature and its parts


def _second_assertion(root: etree._Element) -> None:
    evil = deepcopy(one(root, "s:Assertion"))
    evil.set("ID", "_evil")
    for value in evil.iter(S + "AttributeValue"):
        value.text = "admin@corp.example"
    for signature in evil.findall("{*}Signature"):
        evil.remove(signature)
    root.insert(0, evil)


def _wrapped(root: etree._Element) -> None:
    """The signed assertion inside the unsigned one that takes its place (XSW 4)."""
    genuine_one = one(root, "s:Assertion")
    evil = deepcopy(genuine_one)
    evil.set("ID", "_evil")
    evil.remove(one(evil, "d:Signature"))
    for value in evil.iter(S + "AttributeValue"):
        value.text = "admin@corp.example"
    root.replace(genuine_one, evil)
    evil.append(genuine_one)


def _hidden_in_the_signature(root: etree._Element) -> None:
    """The signed assertion in an Object of the evil assertion's signature (XSW 8)."""
    genuine_one = one(root, "s:Assertion")
    evil = deepcopy(genuine_one)
    evil.set("ID", "_evil")
    for value in evil.iter(S + "AttributeValue"):
        value.text = "admin@corp.example"
    root.replace(genuine_one, evil)
    holder = etree.SubElement(one(evil, "d:Signature"), "{http://www.w3.org/2000/09/xmldsig#}Object")
    holder.append(genuine_one)


def _in_extensions(root: etree._Element) -> None:
    genuine_one = one(root, "s:Assertion")
    evil = deepcopy(genuine_one)
    evil.set("ID", "_evil")
    root.replace(genuine_one, evil)
    root.insert(0, etree.Element(P + "Extensions"))
    root[0].append(genuine_one)


_AROUND: dict[str, tuple[Callable[[etree._Element], object], str, set[str]]] = {
    # sentence: (attack, reason, paths whose removal gives the genuine document back)
    "two assertions": (_second_assertion, "assertion_count", {S + "Assertion[1]"}),
    "wrapped in an evil assertion": (_wrapped, "assertion_count", set()),
    "hidden in a signature": (_hidden_in_the_signature, "assertion_count", set()),
    "moved to extensions": (_in_extensions, "assertion_count", set()),
    "another Response Issuer": (with_text("s:Issuer", "https://other.example"), "issuer_mismatch", {S + "Issuer"}),
    "a failed status": (
        with_attribute("p:Status/p:StatusCode", "Value", "urn:oasis:names:tc:SAML:2.0:status:Responder"),
        "status_not_success",
        set(),
    ),
    "another destination": (with_attribute("", "Destination", "https://other.example"), "destination_mismatch", set()),
    "another request": (with_attribute("", "InResponseTo", ""), "in_response_to_mismatch", set()),
    "a signature too many": (
        lambda root: root.append(etree.Element("{http://www.w3.org/2000/09/xmldsig#}Signature")),
        "signature_structure",
        {"{http://www.w3.org/2000/09/xmldsig#}Signature"},
    ),
}


@pytest.mark.parametrize("name", _AROUND)
def test_from_something_put_around_the_genuine(name: str) -> None:
    """An attack around a signed assertion stays denied, unless just the attack is taken out."""
    attack, reason, restoring = _AROUND[name]
    data = changed(nothing, then=attack)
    assert outcome(judged(data)) == ("deny", reason)
    original = verify_evidence((genuine(),), snapshot_of())
    allowed = {}

    for path, less in _removals(data):
        if isinstance(judged(less), Allow):
            allowed[path] = verify_evidence((less,), snapshot_of()).content_sha256

    assert allowed.keys() == restoring
    assert set(allowed.values()) <= {original.content_sha256}


def test_from_a_signed_response_that_is_wrapped() -> None:
    """Neither signature of a message that is signed twice can be taken away to make a lie of the other part pass."""
    idp = idp_of(OKTA)
    snapshot = snapshot_of(policy_for(OKTA))
    assert outcome(judged(changed(nothing, idp), snapshot)) == ALLOW
    data = changed(nothing, idp, then=with_text("s:Assertion/s:Subject/s:NameID", "admin@corp.example"))
    assert outcome(judged(data, snapshot, upn="admin@corp.example")) == ("deny", "digest_mismatch")

    allowed = [
        path for path, less in _removals(data) if isinstance(judged(less, snapshot, upn="admin@corp.example"), Allow)
    ]

    assert allowed == []
