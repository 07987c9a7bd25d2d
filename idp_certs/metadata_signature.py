"""Who signed a metadata document? One question to ask before the document may change any trust.

AD FS and Entra sign their metadata with the key that also signs tokens, so that the old key can vouch for the new one.
Only a signature directly below the document element, over the document element, is the document's: one that covers a
part, such as an entity inside an unsigned aggregate, says nothing of what stands beside it.

A document that is not signed, or signed by a key that is not among those given, is no refusal here: after an urgent
rollover an IdP signs with a key that nobody knows yet. Neither is one that is signed in a form that we do not verify,
such as SHA-1 at an old AD FS: whoever could send it could also send it unsigned. What then may happen is for the
rollover to decide; none of them vouches for anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from lxml import etree

from idp_certs.certificates import parse_certificate
from idp_certs.metadata import MD, METADATA_LIMITS
from idp_certs.model import SigningCertificate
from idp_certs.reasons import Refused, TrustReason
from idp_certs.signature import DS, check_signature, verify_signature
from idp_certs.signer import find_signer
from idp_certs.xml import learn_default_prefix, parse_xml

_DOCUMENTS = frozenset({MD + "EntityDescriptor", MD + "EntitiesDescriptor"})
_SIGNABLE = _DOCUMENTS | {
    MD + name
    for name in (
        "RoleDescriptor",
        "IDPSSODescriptor",
        "SPSSODescriptor",
        "AuthnAuthorityDescriptor",
        "AttributeAuthorityDescriptor",
        "PDPDescriptor",
        "AffiliationDescriptor",
    )
}
"""What may hold a signature as its first child (SAML metadata 2.3 to 2.5)."""

_NOT_VERIFIED = frozenset(
    {
        TrustReason.SIGNATURE_ALGORITHM,
        TrustReason.DIGEST_ALGORITHM,
        TrustReason.C14N_FORBIDDEN,
        TrustReason.TRANSFORM_FORBIDDEN,
    }
)
"""Forms of a signature in its right place that are left unverified, so that it says nothing."""

_KEY_PARTS = frozenset({DS + "Signature", DS + "KeyInfo"})
_MAX_HINTS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentSignature:
    """Who signed a metadata document.

    `present`: the document element is signed. `signer`: which of the certificates given verified it, None otherwise.
    `unverified`: why the form of the signature is one that is not verified, None otherwise. `hint_sha256`: SHA-256
    (hexadecimal) of the certificates that KeyInfo shows; unproven, for people only. `octets`: what was signed,
    canonical, where `signer` is set; else the document as it came. Parse the metadata from these.
    """

    present: bool
    signer: SigningCertificate | None
    hint_sha256: tuple[str, ...]
    octets: bytes
    unverified: TrustReason | None = None


def judge_document_signature(data: bytes, certificates: Sequence[SigningCertificate]) -> DocumentSignature:
    """Whether the document element is signed, and by which of `certificates`.

    Weak keys, SHA-1 and other algorithms off the list never count. Raises Refused: `metadata_too_large` above 16 MiB,
    an `xml_` reason, `metadata_not_saml`; `metadata_signature_invalid` for a signature by one of `certificates` whose
    content was changed, and for any that has not the parts of SAML's profile, refers to something else or stands where
    metadata has none, with the code of what is wrong as `presented`.
    """
    if len(data) > METADATA_LIMITS.document:
        raise Refused(
            TrustReason.METADATA_TOO_LARGE,
            expected=f"at most {METADATA_LIMITS.document} bytes where the signature is judged",
            presented=f"{len(data)} bytes",
        )
    root = parse_xml(data, METADATA_LIMITS)
    if root.tag not in _DOCUMENTS:
        raise Refused(
            TrustReason.METADATA_NOT_SAML,
            expected="EntityDescriptor or EntitiesDescriptor",
            presented=str(root.tag)[:200],
            where="document",
        )
    try:
        return _judge(data, root, certificates)
    except Refused as refused:
        finding = refused.finding
        raise Refused(
            TrustReason.METADATA_SIGNATURE_INVALID,
            expected=finding.expected,
            presented=str(finding.reason),
            where=finding.where,
        ) from None


def _judge(data: bytes, root: etree._Element, certificates: Sequence[SigningCertificate]) -> DocumentSignature:
    _check_placement(root)
    signature = root.find(DS + "Signature")
    if signature is None:
        return DocumentSignature(present=False, signer=None, hint_sha256=(), octets=data)
    signed_id = root.get("ID") or ""
    hints = _hints(signature)
    try:
        check_signature(signature, signed_id=signed_id)
    except Refused as refused:
        reason = refused.finding.reason
        if not isinstance(reason, TrustReason) or reason not in _NOT_VERIFIED:
            raise
        return DocumentSignature(present=True, signer=None, hint_sha256=hints, octets=data, unverified=reason)
    if not signed_id or root.xpath("count(//@ID[. = $id])", id=signed_id) != 1:
        raise Refused(
            TrustReason.REFERENCE_URI,
            expected="an ID of the document element that no other element has",
            where=etree.QName(root).localname,
        )
    learn_default_prefix()
    strong = [certificate for certificate in certificates if certificate.has_strong_key]
    signer = find_signer(signature[0], signature[1], strong)
    if signer is None:
        return DocumentSignature(present=True, signer=None, hint_sha256=hints, octets=data)
    signed = verify_signature(
        data, signature, location="./", tag=str(root.tag), signed_id=signed_id, certificates=[signer]
    )
    return DocumentSignature(present=True, signer=signer, hint_sha256=hints, octets=signed.octets)


def _check_placement(root: etree._Element) -> None:
    """Signatures only where the schema has them, and their parts only inside them or as key information."""
    for part in root.iter(DS + "*"):
        parent = part.getparent()
        if parent is None or str(parent.tag).startswith(DS):
            misplaced = part.tag == DS + "Signature"
        elif part.tag == DS + "Signature":
            misplaced = parent.tag not in _SIGNABLE or parent[0] is not part
        else:
            misplaced = part.tag not in _KEY_PARTS and parent.tag != MD + "EncryptionMethod"
        if misplaced:
            raise Refused(
                TrustReason.SIGNATURE_PLACEMENT,
                expected="a Signature only as the first child of an entity, a group or a role",
                where=".".join(etree.QName(step).localname for step in (parent, part) if step is not None),
            )


def _hints(signature: etree._Element) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for element in signature.findall(f"{DS}KeyInfo/{DS}X509Data/{DS}X509Certificate")[:_MAX_HINTS]:
        try:
            found[hashlib.sha256(parse_certificate(element.text or "")).hexdigest()] = None
        except ValueError:
            continue
    return tuple(found)
