"""Would this evidence be allowed, if only its signer were known? Then its IdP may have rolled over unannounced.

The question is asked after a deny, and the answer only says whether to look for new metadata early and to wait for it.
It can never become part of a decision: what is read here is `ReadEvidence`, `decide` takes only `VerifiedEvidence`, and
once trust has changed the same bytes are judged from their beginning. So the worst that a forger gains by being
plausible is one early look at the metadata of the IdP that he names, from the address that an administrator set.

The certificate in KeyInfo is the signer's own claim (promise 8). It is used to tell apart what is worth a look: it must
really verify the signature over exactly this content, and its key must be neither weak nor revoked. Making a key costs
nothing, so whoever acts on the answer has to bound how often; that a look stays short is seen to here.
"""

from __future__ import annotations

import binascii
import copy
import hashlib
from dataclasses import dataclass
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric import rsa
from lxml import etree
from signxml.algorithms import DigestAlgorithm

from evidence_service.access.decide import question
from evidence_service.access.evidence import parse_response, read_evidence
from evidence_service.access.model import AccessRequest, Policy, Sighting, Snapshot
from evidence_service.access.verify import SignedPart, by_known_certificate, read_content
from idp_certs.certificates import parse_certificate
from idp_certs.model import CertificateState, IdentityProvider, SigningCertificate
from idp_certs.reasons import Refused, TrustReason
from idp_certs.signature import DS, verify_signature
from idp_certs.xml import EVIDENCE_LIMITS, parse_xml

MAX_SUBJECT = 256
"""Characters of a subject that are kept."""

MAX_SHOWN = 16_384
"""Characters of a certificate that is looked at; one with thousands of names takes long to read."""

MAX_RSA_BITS, MAX_RSA_EXPONENT_BITS = 8192, 32
"""Keys that verify fast: a public exponent as long as the modulus makes verifying as slow as signing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownSigner:
    """A key that is not known for `entity_id` and signed plausible evidence.

    `certificate_sha256` (hex) and `subject` (RFC 4514, printable) are of the certificate that the evidence shows, both
    empty where it shows none.
    """

    entity_id: str
    certificate_sha256: str
    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Presumed:
    """A signed element whose signer nobody vouches for. `certificate` is the one that it brings, if any."""

    element: etree._Element
    octets: bytes
    certificate: SigningCertificate | None


def unknown_signer(
    request: AccessRequest, snapshot: Snapshot, now: datetime, *, seen: Sighting | None = None
) -> UnknownSigner | None:
    """Who signed, where the evidence would be allowed at `now` (UTC) but for its signer; None where it would not."""
    presuming = _Presuming(now)
    try:
        shape = parse_response(read_evidence(request.evidence))
        content = read_content(shape, snapshot, presuming, without_certificates=True)
    except Refused:
        return None
    if not presuming.unknown:
        return None
    _, checks = question(request, snapshot, content, now, seen=seen)
    if not all(check.passed for check in checks):
        return None
    certificate = presuming.unknown[0]
    return UnknownSigner(
        entity_id=content.provider.entity_id,
        certificate_sha256="" if certificate is None else certificate.sha256,
        subject="" if certificate is None else _subject(certificate),
    )


class _Presuming:
    """Takes a signature by an unknown key for good where it holds by itself; `unknown` are those keys' certificates."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self.unknown: list[SigningCertificate | None] = []

    def __call__(
        self,
        data: bytes,
        signature: etree._Element,
        *,
        location: str,
        policy: Policy,
        provider: IdentityProvider,
        snapshot: Snapshot,
    ) -> SignedPart:
        """As `Signing` has it."""
        try:
            return by_known_certificate(
                data, signature, location=location, policy=policy, provider=provider, snapshot=snapshot
            )
        except Refused as refused:
            if refused.finding.reason is not TrustReason.SIGNATURE_INVALID:
                raise
            certificate = self._shown(signature, snapshot, refused)
        if certificate is None:
            element, octets = _covered(signature)
            part = _Presumed(element=element, octets=octets, certificate=None)
        else:
            element = _signed_by(signature)
            signed = verify_signature(
                data,
                signature,
                location=location,
                tag=str(element.tag),
                signed_id=element.get("ID") or "",
                certificates=[certificate],
                allow_sha1=policy.allow_sha1,
            )
            part = _Presumed(element=signed.element, octets=signed.octets, certificate=certificate)
        self.unknown.append(certificate)
        return part

    def _shown(self, signature: etree._Element, snapshot: Snapshot, refused: Refused) -> SigningCertificate | None:
        """The first certificate in KeyInfo; `refused` is raised for one that could never be accepted."""
        shown = signature.find(f"{DS}KeyInfo//{DS}X509Certificate")
        if shown is None:
            return None
        if len(shown.text or "") > MAX_SHOWN:
            raise refused
        try:
            certificate = SigningCertificate(
                der=parse_certificate(shown.text or ""),
                state=CertificateState.ANNOUNCED,
                since=self._now,
                provenance="shown by evidence",
            )
        except ValueError:
            raise refused from None
        if not certificate.has_strong_key or _is_slow(certificate):
            raise refused
        if certificate.key_sha256 in snapshot.trust.revoked_keys:
            raise refused
        return certificate


def _is_slow(certificate: SigningCertificate) -> bool:
    key = certificate.x509.public_key()
    if not isinstance(key, rsa.RSAPublicKey):
        return False
    return key.key_size > MAX_RSA_BITS or key.public_numbers().e.bit_length() > MAX_RSA_EXPONENT_BITS


def _signed_by(signature: etree._Element) -> etree._Element:
    element = signature.getparent()
    if element is None:
        raise ValueError("the signature has no parent")
    return element


def _covered(signature: etree._Element) -> tuple[etree._Element, bytes]:
    """What the signature's digest covers. Raises Refused (`digest_mismatch`) where the content is another.

    For a signature without a certificate there is no key to verify it with; the digest at least tells whole content
    from changed content. The signature must have passed `check_signature`.
    """
    tree = signature.getroottree()
    mine = copy.deepcopy(tree).find(tree.getelementpath(signature))
    if mine is None:
        raise ValueError("the copy has no such signature")
    element = _signed_by(mine)
    transforms, method, value = mine[0][2]
    _cut_out(mine)
    prefixes = [name for child in transforms[1] for name in (child.get("PrefixList") or "").split()]
    octets = etree.tostring(element, method="c14n", exclusive=True, inclusive_ns_prefixes=prefixes or None)
    digest = hashlib.new(_DIGESTS[method.get("Algorithm") or ""], octets, usedforsecurity=False).digest()
    if digest != binascii.a2b_base64("".join((value.text or "").split())):
        where = etree.QName(element).localname
        raise Refused(TrustReason.DIGEST_MISMATCH, expected="the signed content", presented="another", where=where)
    return parse_xml(octets, EVIDENCE_LIMITS), octets


_DIGESTS = {each.value: each.name.lower() for each in DigestAlgorithm}


def _cut_out(element: etree._Element) -> None:
    """Remove an element and keep the text after it."""
    parent, before = _signed_by(element), element.getprevious()
    if before is None:
        parent.text = (parent.text or "") + (element.tail or "")
    else:
        before.tail = (before.tail or "") + (element.tail or "")
    parent.remove(element)


def _subject(certificate: SigningCertificate) -> str:
    try:
        subject = certificate.x509.subject.rfc4514_string()
    except ValueError:  # X.509 can write names that cannot be read
        return ""
    return "".join(each if each.isprintable() else "?" for each in subject[:MAX_SUBJECT])
