"""Law: a changed byte inside what was signed is a deny, or changes nothing that is read.

Exclusive canonicalization and the parser below it make some bytes meaningless, so "always a deny" would be false. The
places where another byte changes nothing, and why:

- white space inside a tag: canonical form writes one space between attributes;
- the declaration of a prefix that nothing visibly uses: exclusive canonicalization leaves it out;
- KeyInfo: it stands in the Signature, which the enveloped-signature transform takes out, and is no more than a hint;
- the last character of SignatureValue: base64 leaves up to four of its bits unused;
- with two signatures, the outer one: where the policy takes either, the inner one still holds.

Everywhere else it is a deny. Everywhere, the content that is read has the same digest as what was signed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from evidence_service.access.model import Assertion, Deny, RequireSigned, Response, Snapshot
from evidence_service.access.verify import VerifiedEvidence, verify_evidence
from evidence_service.demo.idp import _encrypted
from idp_certs.reasons import Refused
from tests.core.given import (
    ADFS,
    ALLOW,
    OKTA,
    SHAPES,
    S,
    Signs,
    gateway_public_key,
    genuine,
    idp_of,
    judged,
    outcome,
    policy_for,
    snapshot_of,
)
from tests.properties.given import examples, shape, trust

_SIGNED = {  # the part of the bytes that a signature covers
    "assertion signed": rb"<Assertion.*</Assertion>",
    "assertion signed, other prefixes": rb"<Assertion.*</Assertion>",
    "response signed": rb"<samlp:Response.*",
    "both signed": rb"<saml2p:Response.*",
    "assertion signed and encrypted": rb"<saml:EncryptedAssertion.*</saml:EncryptedAssertion>",
    "response signed, assertion encrypted": rb"<samlp:Response.*",
    "both signed and encrypted": rb"<saml2p:Response.*",
}

_HARMLESS = re.compile(
    rb"(?:<ds:KeyInfo>.*?</ds:KeyInfo>)"
    rb"|(?:.(?:=|==)?</ds:SignatureValue>)"
    rb'|(?:\ xmlns:xs="[^"]*")',
    re.DOTALL,
)
_TAG = re.compile(rb"<[^>]*>")


def _content(verified: VerifiedEvidence) -> tuple[str, Assertion, str]:
    return verified.content_sha256, verified.assertion, verified.provider.entity_id


def _read(data: bytes, snapshot: Snapshot) -> VerifiedEvidence | None:
    try:
        return verify_evidence((data,), snapshot)
    except Refused:
        return None


def _genuine(name: str) -> VerifiedEvidence:
    return verify_evidence((shape(name),), trust(name))


def _span(name: str) -> tuple[int, int]:
    match = re.search(_SIGNED[name], shape(name), re.DOTALL)
    assert match is not None
    return match.span()


@pytest.mark.parametrize("name", SHAPES)
def test_of_all_shapes_flipped_anywhere(name: str) -> None:
    """Any byte of what was signed, made any other byte, is a deny or leaves the signed content as it was."""
    start, end = _span(name)
    original = _genuine(name)

    @examples(300)
    @given(st.integers(start, end - 1), st.integers(1, 255))
    def law(at: int, flip: int) -> None:
        data = bytearray(shape(name))
        data[at] ^= flip
        decision = judged(bytes(data), trust(name))
        verified = _read(bytes(data), trust(name))
        if isinstance(decision, Deny):
            assert outcome(decision)[0] == "deny"
            assert decision.findings
            return
        assert outcome(decision) == ALLOW
        assert verified is not None
        assert _content(verified) == _content(original)

    assert outcome(judged(shape(name), trust(name))) == ALLOW
    law()


def _flips(data: bytes, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Every position with one other byte; inside KeyInfo, which is long and signed by nobody, every tenth."""
    key_info = range(data.index(b"<ds:KeyInfo>", start), data.index(b"</ds:KeyInfo>", start))
    for at in range(start, end):
        if at in key_info and at % 10:
            continue
        other = 0x0A if data[at] == 0x20 else data[at] ^ (1 << at % 7)
        yield at, data[:at] + bytes([other]) + data[at + 1 :]


def _is_harmless(data: bytes, at: int) -> bool:
    if any(match.start() <= at < match.end() for match in _HARMLESS.finditer(data)):
        return True
    return data[at] == 0x20 and any(match.start() < at < match.end() for match in _TAG.finditer(data))


def _assertion_signed_with_a_prefix_that_nothing_uses() -> bytes:
    return genuine(idp_of(ADFS, typed_values=True))


def test_every_byte_of_a_signed_assertion() -> None:
    """Byte by byte through one signed assertion: the only flips that do not deny are at the harmless places."""
    data = _assertion_signed_with_a_prefix_that_nothing_uses()
    start, end = data.index(b"<Assertion"), data.index(b"</Assertion>") + len(b"</Assertion>")
    snapshot = snapshot_of()
    original = verify_evidence((data,), snapshot)
    allowed = []

    for at, flipped in _flips(data, start, end):
        verified = _read(flipped, snapshot)
        if verified is not None:
            assert _content(verified) == _content(original), at
            allowed.append(at)

    assert [(at, data[at - 20 : at + 20]) for at in allowed if not _is_harmless(data, at)] == []
    assert len(allowed) > 50  # the sweep did reach the harmless places


def test_a_response_that_is_signed_is_read_as_signed() -> None:
    """Where the Response itself is signed, its own values too are what was signed, or it is a deny."""
    data = genuine(idp_of(OKTA, signs=Signs.RESPONSE))
    snapshot = snapshot_of(policy_for(OKTA, require_signed=RequireSigned.RESPONSE))
    original: Response = verify_evidence((data,), snapshot).response
    end = data.index(b"<ds:Signature")

    for at in range(end):
        verified = _read(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], snapshot)
        assert verified is None or verified.response == original, at


@pytest.mark.parametrize("name", ["assertion signed", "both signed"])
def test_flipped_before_it_was_encrypted(name: str) -> None:
    """Anyone can encrypt to us: a changed assertion inside a faultless encryption is a deny, or content as signed."""
    profile, _ = SHAPES[name]
    document = etree.fromstring(shape(name))
    assertion = document.find(S + "Assertion")
    assert assertion is not None
    document.remove(assertion)
    plain = etree.tostring(assertion, with_tail=False)
    snapshot = snapshot_of(policy_for(profile))
    for signature in document.findall("{http://www.w3.org/2000/09/xmldsig#}Signature"):
        document.remove(signature)  # the outer one does not hold any more

    def sealed(octets: bytes) -> bytes | None:
        try:
            changed = etree.fromstring(octets)
        except etree.XMLSyntaxError:
            return None
        document.append(_encrypted(changed, gateway_public_key(), sha256=False))
        try:
            return etree.tostring(document)
        finally:
            document.remove(document[-1])

    whole = sealed(plain)
    assert whole is not None
    original = verify_evidence((whole,), snapshot)

    @examples(250)
    @given(st.integers(0, len(plain) - 1), st.integers(1, 127))
    def law(at: int, flip: int) -> None:
        data = sealed(plain[:at] + bytes([plain[at] ^ flip]) + plain[at + 1 :])
        if data is not None:
            verified = _read(data, snapshot)
            assert verified is None or _content(verified) == _content(original)

    law()
