"""XML signatures in SAML's profile: which element did a trusted certificate sign, and exactly what was that?

signxml does the mathematics. Ours is everything around it, because a correct signature proves nothing about an element
that it does not stand in (CVE-2011-1411 and its many children):

- a signature stands directly below the element that it signs, once, and no part of one stands anywhere else;
- it has exactly the parts of SAML core 5.4: one Reference to its parent's ID, enveloped-signature then exclusive
  canonicalization, algorithms from a list, and no Object;
- every key known for the one issuer is tried, whatever KeyInfo says, up to a cap;
- what is handed on is a re-parse of the verified octets, so nothing unsigned can be read from it by mistake.

Not checked here: whether the certificate is still trusted, and anything that the signed element says.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass

from lxml import etree
from signxml.algorithms import DigestAlgorithm, SignatureMethod
from signxml.exceptions import InvalidDigest
from signxml.verifier import SignatureConfiguration, XMLVerifier

from idp_certs.model import SigningCertificate
from idp_certs.reasons import Reason, Refused, TrustReason
from idp_certs.signer import find_signer
from idp_certs.xml import learn_default_prefix

DS = "{http://www.w3.org/2000/09/xmldsig#}"
_XENC = "{http://www.w3.org/2001/04/xmlenc#}"
_EXC_C14N = "http://www.w3.org/2001/10/xml-exc-c14n#"
_C14N_METHODS = frozenset({_EXC_C14N, _EXC_C14N + "WithComments"})
_ENVELOPED = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
_INCLUSIVE_NAMESPACES = f"{{{_EXC_C14N}}}InclusiveNamespaces"

_SIGNATURE_METHODS = frozenset(
    {
        SignatureMethod.RSA_SHA256,
        SignatureMethod.RSA_SHA384,
        SignatureMethod.RSA_SHA512,
        SignatureMethod.SHA256_RSA_MGF1,
        SignatureMethod.SHA384_RSA_MGF1,
        SignatureMethod.SHA512_RSA_MGF1,
        SignatureMethod.ECDSA_SHA256,
        SignatureMethod.ECDSA_SHA384,
        SignatureMethod.ECDSA_SHA512,
    }
)
_DIGEST_METHODS = frozenset({DigestAlgorithm.SHA256, DigestAlgorithm.SHA384, DigestAlgorithm.SHA512})
_SHA1_SIGNATURE_METHODS = frozenset({SignatureMethod.RSA_SHA1, SignatureMethod.ECDSA_SHA1})
_SHA1_DIGEST_METHODS = frozenset({DigestAlgorithm.SHA1})

MAX_CERTIFICATES_TRIED = 32
"""Work per signature is bounded (promise 7); metadata with more signing certificates for one IdP is refused."""

MAX_PREFIXES = 32
"""Canonicalization looks up every prefix of a PrefixList for every element; real lists have one or two."""

_XML_SPACE = re.compile("[ \t\r\n]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedElement:
    """Exactly what one certificate signed: a tree parsed from the verified octets, and those octets."""

    element: etree._Element
    octets: bytes
    certificate: SigningCertificate


def find_signatures(root: etree._Element, signable: Sequence[etree._Element]) -> dict[etree._Element, etree._Element]:
    """The signature of each of the `signable` elements that has one.

    Raises Refused (`signature_placement`) for a Signature anywhere else, a second one in the same parent, or a part of
    one on its own (CVE-2024-45409). Key information of encryption and of holder-of-key confirmations is let be.
    """
    found: dict[etree._Element, etree._Element] = {}
    parts = 0
    for signature in root.iter(DS + "Signature"):
        parent = signature.getparent()
        if parent is None or parent not in signable or parent in found:
            raise Refused(
                TrustReason.SIGNATURE_PLACEMENT,
                expected="at most one Signature, directly below Response and Assertion",
                presented=_where(signature),
                where=_where(signature),
            )
        found[parent] = signature
        parts += sum(1 for _ in signature.iter(DS + "*"))
    if parts != sum(1 for _ in root.iter(DS + "*")):
        _check_stray_parts(root)
    return found


def _check_stray_parts(root: etree._Element) -> None:
    for part in root.iter(DS + "*"):
        lineage = [part, *part.iterancestors()]
        if any(
            step.tag in (DS + "Signature", DS + "KeyInfo", _XENC + "EncryptionMethod")  # the latter for OAEP's digest
            for step in lineage
        ):
            continue
        raise Refused(
            TrustReason.SIGNATURE_PLACEMENT,
            expected="parts of a signature only inside a signature",
            presented=_where(part),
            where=_where(part),
        )


def _where(element: etree._Element) -> str:
    names = [etree.QName(step).localname for step in (element, *element.iterancestors())]
    return ".".join(reversed(names))[-200:]


def check_signature(signature: etree._Element, *, signed_id: str, allow_sha1: bool = False) -> None:
    """Refuse any signature that is not in SAML's profile or not over the element with `signed_id`.

    Raises Refused with, in this order, `signature_structure`, `c14n_forbidden`, `signature_algorithm`,
    `reference_uri`, `transform_forbidden`, `digest_algorithm` (SAML core 5.4).
    """
    where = _where(signature)
    signed_info, reference = _check_structure(signature, where)
    c14n, method = signed_info[0], signed_info[1]
    _check_one_of(TrustReason.C14N_FORBIDDEN, c14n, _C14N_METHODS, where, parameters=True)
    methods = _SIGNATURE_METHODS | (_SHA1_SIGNATURE_METHODS if allow_sha1 else frozenset())
    _check_one_of(TrustReason.SIGNATURE_ALGORITHM, method, {each.value for each in methods}, where)
    uri = reference.get("URI")
    if uri != "#" + signed_id:
        raise Refused(
            TrustReason.REFERENCE_URI, expected="#" + signed_id, presented="none" if uri is None else uri, where=where
        )
    _check_transforms(reference[0], where)
    digests = _DIGEST_METHODS | (_SHA1_DIGEST_METHODS if allow_sha1 else frozenset())
    _check_one_of(TrustReason.DIGEST_ALGORITHM, reference[1], {each.value for each in digests}, where)


def _structure(where: str, expected: str, presented: str = "") -> Refused:
    return Refused(TrustReason.SIGNATURE_STRUCTURE, expected=expected, presented=presented, where=where)


def _check_structure(signature: etree._Element, where: str) -> tuple[etree._Element, etree._Element]:
    children = _children(signature, where, ("SignedInfo", "SignatureValue", "KeyInfo"), optional=1)
    signed_info, signature_value = children[0], children[1]
    _only_attributes(signature, where, {"Id"})
    _only_attributes(signed_info, where, {"Id"})
    _only_attributes(signature_value, where, {"Id"})
    info = _children(signed_info, where, ("CanonicalizationMethod", "SignatureMethod", "Reference"))
    for method in info[:2]:
        _only_attributes(method, where, {"Algorithm"})
    reference = info[2]
    _only_attributes(reference, where, {"Id", "URI"})
    transforms, digest_method, digest_value = _children(reference, where, ("Transforms", "DigestMethod", "DigestValue"))
    _only_attributes(transforms, where, set())
    _only_attributes(digest_method, where, {"Algorithm"})
    _only_attributes(digest_value, where, set())
    for value in (signature_value, digest_value):
        _check_base64(value, where)
    return signed_info, reference


def _children(parent: etree._Element, where: str, names: tuple[str, ...], *, optional: int = 0) -> list[etree._Element]:
    """The children, which must be exactly `names` in order with nothing but white space between them."""
    children = list(parent)
    presented = [str(child.tag).removeprefix(DS) for child in children]
    if presented not in ([*names], [*names[: len(names) - optional]]):
        raise _structure(where, " ".join(names), " ".join(presented)[:200])
    for text in (parent.text, *(child.tail for child in children)):
        if text and not text.isspace():
            raise _structure(where, "no text between the parts", text.strip()[:100])
    return children


def _only_attributes(element: etree._Element, where: str, allowed: set[str]) -> None:
    extra = {str(name) for name in element.attrib} - allowed
    if extra:
        raise _structure(where, "no other attributes", ", ".join(sorted(extra))[:200])


def _check_base64(value: etree._Element, where: str) -> None:
    """Strict base64 between white space: a lenient decoder would skip junk (malleable evidence)."""
    if len(value):
        raise _structure(where, "base64 text only", _where(value))
    try:
        binascii.a2b_base64(_XML_SPACE.sub("", value.text or ""), strict_mode=True)
    except ValueError:
        raise _structure(where, "base64", "characters outside base64 or wrong padding") from None


def _check_one_of(
    reason: Reason, method: etree._Element, allowed: frozenset[str] | set[str], where: str, *, parameters: bool = False
) -> None:
    algorithm = method.get("Algorithm")
    if algorithm not in allowed:
        raise Refused(
            reason,
            expected=" or ".join(sorted(each.rpartition("#")[2] or each for each in allowed)),
            presented="none" if algorithm is None else algorithm,
            where=where,
        )
    if not _has_allowed_parameters(method, parameters=parameters):
        raise Refused(reason, expected="no parameters", presented="parameters", where=where)


def _has_allowed_parameters(method: etree._Element, *, parameters: bool) -> bool:
    if method.text and not method.text.isspace():
        return False
    if len(method) == 0:
        return True
    return (
        parameters
        and len(method) == 1
        and method[0].tag == _INCLUSIVE_NAMESPACES
        and list(method[0].attrib) == ["PrefixList"]
        and len((method[0].get("PrefixList") or "").split()) <= MAX_PREFIXES
        and len(method[0]) == 0
        and not (method[0].text or "").strip()
        and not (method[0].tail or "").strip()
    )


def _check_transforms(transforms: etree._Element, where: str) -> None:
    """Exactly enveloped-signature, then exclusive canonicalization (SAML core 5.4.4)."""
    algorithms = [child.get("Algorithm") if child.tag == DS + "Transform" else None for child in transforms]
    if (
        len(algorithms) != 2
        or algorithms[0] != _ENVELOPED
        or algorithms[1] not in _C14N_METHODS
        or any(list(child.attrib) != ["Algorithm"] for child in transforms)
        or not _has_allowed_parameters(transforms[0], parameters=False)
        or not _has_allowed_parameters(transforms[1], parameters=True)
        or any((text or "").strip() for text in (transforms.text, transforms[0].tail, transforms[1].tail))
    ):
        raise Refused(
            TrustReason.TRANSFORM_FORBIDDEN,
            expected="enveloped-signature, then exclusive canonicalization",
            presented=", ".join((each or "none").rpartition("#")[2] or str(each) for each in algorithms)[:200],
            where=where,
        )


def verify_signature(
    data: bytes,
    signature: etree._Element,
    *,
    location: str,
    tag: str,
    signed_id: str,
    certificates: Sequence[SigningCertificate],
    allow_sha1: bool = False,
) -> SignedElement:
    """What was signed, once one of `certificates` verifies `signature`, which stands at `location` of document `data`.

    The signature must have passed `find_signatures` and `check_signature`. `location` is the path from the document
    element to the signature's parent in signxml's form (`./` for the document element itself). Raises Refused:
    `signature_invalid` when no certificate verifies it, `digest_mismatch` when one does but the content differs,
    `signed_element` when it covers something else than the element `tag` with `signed_id`.
    """
    learn_default_prefix()
    where = etree.QName(tag).localname
    candidates = certificates[:MAX_CERTIFICATES_TRIED]
    certificate = find_signer(signature[0], signature[1], candidates)
    if certificate is None:
        raise _invalid(TrustReason.SIGNATURE_INVALID, len(candidates), "a signature by another key", where)
    try:
        configuration = SignatureConfiguration(
            location=location,
            expect_references=1,
            signature_methods=_SIGNATURE_METHODS | (_SHA1_SIGNATURE_METHODS if allow_sha1 else frozenset()),
            digest_algorithms=_DIGEST_METHODS | (_SHA1_DIGEST_METHODS if allow_sha1 else frozenset()),
            ignore_ambiguous_key_info=True,
            # Dates are the policy's matter, not signxml's.
            verification_time=certificate.x509.not_valid_before_utc,
        )
        # One verifier for each call: it keeps state on the instance.
        result = XMLVerifier().verify(
            data,
            x509_cert=certificate.x509,
            id_attribute="ID",
            validate_schema=False,
            expect_config=configuration,
        )
    except InvalidDigest:
        presented = "content that was changed after signing"
        raise _invalid(TrustReason.DIGEST_MISMATCH, len(candidates), presented, where) from None
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - hostile input raises a dozen types; none of them is a valid signature
        presented = "a signature that does not verify"
        raise _invalid(TrustReason.SIGNATURE_INVALID, len(candidates), presented, where) from None
    element = None if isinstance(result, list) else result.signed_xml
    if isinstance(result, list) or element is None or element.tag != tag or element.get("ID") != signed_id:
        raise Refused(
            TrustReason.SIGNED_ELEMENT, expected=f"{where} {signed_id}", presented="another element", where=where
        )
    return SignedElement(element=element, octets=result.signed_data, certificate=certificate)


def _invalid(reason: TrustReason, tried: int, presented: str, where: str) -> Refused:
    return Refused(
        reason, expected=f"a signature by one of {tried} certificates of this IdP", presented=presented, where=where
    )
