"""What the laws are tried on: genuine documents, broken ones, and whole questions about them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from lxml import etree

from evidence_service.access.model import (
    AccessRequest,
    Encryption,
    FasRule,
    Policy,
    RequireSigned,
    Reuse,
    Sighting,
    Snapshot,
)
from idp_certs.model import CertificateState
from tests.core.given import (
    ADFS,
    ALICE,
    ASSERTION_ID,
    AUDIENCE,
    ENTITY_ID,
    ISSUED,
    SHAPES,
    Change,
    Signs,
    all_of,
    certificate,
    changed,
    genuine,
    idp_of,
    one,
    policy_for,
    snapshot_of,
    with_attribute,
    with_text,
    without,
)

_THOROUGH = 20 if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else 1


def examples(number: int) -> settings:
    """Try `number` examples, and many more where the run is to be thorough."""
    return settings(max_examples=number * _THOROUGH)


@cache
def shape(name: str) -> bytes:
    """The genuine document of this shape."""
    profile, encrypted = SHAPES[name]
    return genuine(idp_of(profile), encrypted=encrypted)


@cache
def trust(name: str) -> Snapshot:
    """Trust under which the genuine document of this shape is allowed."""
    return snapshot_of(policy_for(SHAPES[name][0]))


ASSERTION = "s:Assertion"
DATA = f"{ASSERTION}/s:Subject/s:SubjectConfirmation/s:SubjectConfirmationData"
SIGNED_LIES: dict[str, Change] = {
    "another audience": with_text(
        f"{ASSERTION}/s:Conditions/s:AudienceRestriction/s:Audience", "https://other.example"
    ),
    "another recipient": with_attribute(DATA, "Recipient", "https://other.example/acs"),
    "another issuer": with_text(f"{ASSERTION}/s:Issuer", "https://other.example/saml"),
    "another user": with_text(f"{ASSERTION}/s:AttributeStatement/s:Attribute[2]/s:AttributeValue", "bob@corp.example"),
    "a foreign suffix": with_text(f"{ASSERTION}/s:AttributeStatement/s:Attribute[2]/s:AttributeValue", "a@b.example"),
    "no UPN": without(f"{ASSERTION}/s:AttributeStatement/s:Attribute[2]"),
    "no conditions": without(f"{ASSERTION}/s:Conditions"),
    "no audience": without(f"{ASSERTION}/s:Conditions/s:AudienceRestriction"),
    "no sign-in": without(f"{ASSERTION}/s:AuthnStatement"),
    "no subject": without(f"{ASSERTION}/s:Subject"),
    "no bearer": with_attribute(f"{ASSERTION}/s:Subject/s:SubjectConfirmation", "Method", "urn:x"),
    "not valid when issued": with_attribute(f"{ASSERTION}/s:Conditions", "NotOnOrAfter", "2026-01-01T11:00:00Z"),
    "a broken time": with_attribute(f"{ASSERTION}", "IssueInstant", "2026-01-01"),
    "issued in the future": with_attribute(f"{ASSERTION}", "IssueInstant", "2026-02-01T12:00:00Z"),
    "an unknown condition": lambda root: one(root, f"{ASSERTION}/s:Conditions").append(etree.Element("{urn:x}Only")),
    "a session that has ended": with_attribute(
        f"{ASSERTION}/s:AuthnStatement", "SessionNotOnOrAfter", "2026-01-01T11:30:00Z"
    ),
    "nothing but lies": all_of(
        with_text(f"{ASSERTION}/s:Issuer", "https://other.example/saml"),
        without(f"{ASSERTION}/s:Conditions"),
        without(f"{ASSERTION}/s:AuthnStatement"),
        with_attribute(DATA, "Recipient", "https://other.example/acs"),
    ),
}
"""What a correctly signed assertion of AD FS may say wrongly."""


@cache
def lie(name: str) -> bytes:
    """A correctly signed document that says this."""
    return changed(SIGNED_LIES[name])


@cache
def forgeries() -> dict[str, bytes]:
    """Documents whose signature does not hold, or is none."""
    return {
        "by another key": genuine(idp_of(key="attacker")),
        "unsigned": genuine(idp_of(signs=Signs.NOTHING)),
        "changed after signing": genuine().replace(b">alice@", b">admin@"),
        "of an unknown IdP": genuine(idp_of(entity_id="https://unknown.example")),
    }


@cache
def all_documents() -> tuple[bytes, ...]:
    """Every kind of document, genuine or not."""
    return (*map(shape, SHAPES), *map(lie, SIGNED_LIES), *forgeries().values())


_TOKENS = (
    b"<!DOCTYPE a>",
    b"<!--",
    b"-->",
    b"<?a b?>",
    b"<![CDATA[",
    b"]]>",
    b"&#0;",
    b"&#xFFFF;",
    b"&#99999999999;",
    b"&amp;",
    b"&nbsp;",
    b"\x00",
    b"\x7f",
    b"\xff",
    b"\xef\xbb\xbf",
    b'<?xml version="1.1"?>',
    b'<?xml version="1.0" encoding="UTF-16"?>',
    b'<?xml version="1.0" standalone="maybe"?>',
    b' xmlns="relative"',
    b' xmlns:a="urn:a"',
    b' xmlns:xml="urn:a"',
    b" xmlns:",
    b' xml:id="_a1"',
    b' ID="_a1"',
    b' Id=" "',
    b"<a>",
    b"</a>",
    b"<a/>",
    b"<",
    b">",
    b'"',
    b"=",
    b'<ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#"/>',
    b'<s:Assertion xmlns:s="urn:oasis:names:tc:SAML:2.0:assertion"/>',
)


@st.composite
def mutated(draw: st.DrawFn, documents: st.SearchStrategy[bytes]) -> bytes:
    """A document with some bytes changed, cut out, doubled, or markup put in."""
    data = draw(documents)
    for _ in range(draw(st.integers(1, 3))):
        start, end = sorted((draw(st.integers(0, len(data))), draw(st.integers(0, len(data)))))
        end = min(end, start + draw(st.sampled_from((1, 8, 200, 100_000))))
        replacement = draw(
            st.one_of(
                st.binary(min_size=1, max_size=3),
                st.sampled_from(_TOKENS),
                st.just(b""),
                st.just(data[start:end] * 2),
                st.just(data[start:end][::-1]),
            )
        )
        data = data[:start] + replacement + data[end:]
    return data


_NAMESPACES = (
    "urn:oasis:names:tc:SAML:2.0:assertion",
    "urn:oasis:names:tc:SAML:2.0:protocol",
    "http://www.w3.org/2000/09/xmldsig#",
    "http://www.w3.org/2001/04/xmlenc#",
    "urn:oasis:names:tc:SAML:2.0:metadata",
    "urn:x",
)
_NAMES = [
    "Response",
    "Assertion",
    "EncryptedAssertion",
    "EncryptedData",
    "EncryptedKey",
    "EncryptionMethod",
    "CipherData",
    "CipherValue",
    "Issuer",
    "Status",
    "StatusCode",
    "Subject",
    "NameID",
    "SubjectConfirmation",
    "SubjectConfirmationData",
    "Conditions",
    "AudienceRestriction",
    "Audience",
    "AuthnStatement",
    "AttributeStatement",
    "Attribute",
    "AttributeValue",
    "Signature",
    "SignedInfo",
    "SignatureValue",
    "KeyInfo",
    "Reference",
    "Transforms",
    "Transform",
    "DigestMethod",
    "DigestValue",
    "CanonicalizationMethod",
    "SignatureMethod",
    "X509Data",
    "X509Certificate",
    "EntityDescriptor",
    "EntitiesDescriptor",
    "IDPSSODescriptor",
    "KeyDescriptor",
    "SingleSignOnService",
]
_ATTRIBUTES = [
    "ID",
    "Id",
    "id",
    "Version",
    "Algorithm",
    "URI",
    "entityID",
    "use",
    "Location",
    "validUntil",
    "protocolSupportEnumeration",
    "Method",
    "Value",
    "Name",
    "NotOnOrAfter",
    "{http://www.w3.org/XML/1998/namespace}id",
    "{urn:x}ID",
]
_VALUES = (
    "",
    "_a1",
    "2.0",
    "#_a1",
    "signing",
    ENTITY_ID,
    "urn:oasis:names:tc:SAML:2.0:protocol",
    "http://www.w3.org/2001/10/xml-exc-c14n#",
    "http://www.w3.org/2000/09/xmldsig#enveloped-signature",
    "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256",
    "http://www.w3.org/2001/04/xmlenc#sha256",
    "http://www.w3.org/2009/xmlenc11#aes128-gcm",
    "http://www.w3.org/2009/xmlenc11#rsa-oaep",
    "2026-01-01T12:00:00Z",
    "9999-12-31T23:59:59Z",
    "AAAA",
)


def grown(tag: str) -> st.SearchStrategy[bytes]:
    """Well-formed XML from SAML's vocabulary, in no sensible order, below a document element `tag`."""
    return st.integers(0, 2**32).map(lambda seed: _grow(tag, Random(seed)))


def _grow(tag: str, random: Random) -> bytes:
    root = etree.Element(tag, {"ID": "_r1", "Version": "2.0", "entityID": ENTITY_ID})
    elements = [root]
    for _ in range(random.randrange(1, 25)):
        name = f"{{{random.choice(_NAMESPACES)}}}{random.choice(_NAMES)}"
        members = {random.choice(_ATTRIBUTES): random.choice(_VALUES) for _ in range(random.randrange(4))}
        made = etree.SubElement(random.choice(elements[-4:]), name, members)
        made.text = random.choice(("", "a", " ", ENTITY_ID, "AAAA", "MIIB"))
        elements.append(made)
    return etree.tostring(root)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One request under one trust at one instant."""

    request: AccessRequest
    snapshot: Snapshot
    now: datetime
    seen: Sighting | None


policies = st.builds(
    policy_for,
    st.just(ADFS),
    audiences=st.sampled_from(((AUDIENCE,), ("https://b.example",), ())),
    upn_suffixes=st.sampled_from((("corp.example",), ("b.example",), ())),
    upn_from=st.sampled_from(((ADFS.upn_from,), ("nameid",), (ADFS.upn_from, "nameid"), ("attribute:upn", "nameid"))),
    max_age=st.sampled_from((timedelta(hours=8), timedelta(minutes=1))),
    max_authentication_age=st.sampled_from((None, timedelta(minutes=5), timedelta(hours=1))),
    reuse=st.sampled_from(Reuse),
    enforce_not_on_or_after=st.booleans(),
    enforce_session_expiry=st.booleans(),
    enforce_certificate_dates=st.booleans(),
    authn_contexts=st.sampled_from(((), ("urn:x",))),
    require_signed=st.sampled_from(RequireSigned),
    encryption=st.sampled_from(Encryption),
)

states = st.builds(
    certificate,
    st.sampled_from(("idp", "idp", "idp_renewed", "idp_next")),
    st.sampled_from(CertificateState),
    st.sampled_from((ISSUED - timedelta(hours=1), ISSUED + timedelta(hours=1))),
)

sightings = st.builds(
    Sighting,
    issuer=st.just(ENTITY_ID),
    assertion_id=st.just(ASSERTION_ID),
    content_sha256=st.sampled_from(("0" * 64, "f" * 64)),
    upn=st.sampled_from((ALICE, "bob@corp.example")),
    first_seen=st.just(ISSUED),
)


@st.composite
def questions(draw: st.DrawFn) -> Question:
    """A question of any kind: about anything, under any trust, at some time."""
    documents = st.sampled_from(all_documents())
    rules = draw(
        st.sampled_from(
            ((), (FasRule(name="default", max_age=timedelta(hours=1)),), (FasRule(name="x", entity_ids=frozenset()),))
        )
    )
    usual = draw(st.booleans())
    return Question(
        request=AccessRequest(
            request_id="r",
            upn=draw(st.sampled_from((ALICE, ALICE, "ALICE@CORP.EXAMPLE", "bob@corp.example", "", "no upn"))),
            evidence=tuple(draw(st.lists(st.one_of(documents, documents, documents, mutated(documents)), max_size=2)))
            if draw(st.integers(0, 9)) == 0
            else (draw(st.one_of(documents, documents, documents, mutated(documents))),),
            rule=draw(st.sampled_from((None, "x", "default"))),
        ),
        snapshot=snapshot_of(
            draw(st.one_of(st.just(policy_for()), policies)),
            *(() if usual else draw(st.lists(states, min_size=1, max_size=3))),
            rules=rules,
            enabled=usual or draw(st.integers(0, 9)) > 0,
            deny_after=draw(st.sampled_from((None, None, None, ISSUED + timedelta(days=1)))),
        ),
        now=ISSUED + timedelta(seconds=draw(st.sampled_from((-4000, -60, 0, 30, 30, 400, 4000, 40_000, 400_000)))),
        seen=draw(st.one_of(st.none(), st.none(), sightings)),
    )


__all__ = ["Policy", "Question", "examples", "grown", "mutated", "questions"]
