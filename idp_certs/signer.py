"""Which of the known certificates made this signature? A cheap answer, for signxml to confirm.

One canonicalization of SignedInfo and one public-key operation per key, instead of a whole verification per
certificate: so the work that a hostile document can cause does not grow with the number of certificates. Nothing is
trusted by this answer: a key that is found here still has to pass signxml, with the digest of the content.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterable

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from lxml import etree

from idp_certs.model import SigningCertificate

_MORE = "http://www.w3.org/2001/04/xmldsig-more#"
_PSS = "http://www.w3.org/2007/05/xmldsig-more#"
_RSA: dict[str, type[hashes.HashAlgorithm]] = {
    "http://www.w3.org/2000/09/xmldsig#rsa-sha1": hashes.SHA1,
    _MORE + "rsa-sha256": hashes.SHA256,
    _MORE + "rsa-sha384": hashes.SHA384,
    _MORE + "rsa-sha512": hashes.SHA512,
}
_RSA_PSS: dict[str, type[hashes.HashAlgorithm]] = {
    _PSS + "sha256-rsa-MGF1": hashes.SHA256,
    _PSS + "sha384-rsa-MGF1": hashes.SHA384,
    _PSS + "sha512-rsa-MGF1": hashes.SHA512,
}
_ECDSA: dict[str, type[hashes.HashAlgorithm]] = {
    _MORE + "ecdsa-sha1": hashes.SHA1,
    _MORE + "ecdsa-sha256": hashes.SHA256,
    _MORE + "ecdsa-sha384": hashes.SHA384,
    _MORE + "ecdsa-sha512": hashes.SHA512,
}


def find_signer(
    signed_info: etree._Element, signature_value: etree._Element, certificates: Iterable[SigningCertificate]
) -> SigningCertificate | None:
    """The first of `certificates` whose key made `signature_value` over `signed_info`; None where none did.

    The signature must have passed `idp_certs.signature.check_signature`.
    """
    algorithm = signed_info[1].get("Algorithm") or ""
    prefixes = [name for child in signed_info[0] for name in (child.get("PrefixList") or "").split()]
    octets = etree.tostring(signed_info, method="c14n", exclusive=True, inclusive_ns_prefixes=prefixes or None)
    value = binascii.a2b_base64("".join((signature_value.text or "").split()))
    tried: set[str] = set()
    for certificate in certificates:
        if certificate.key_sha256 not in tried:
            tried.add(certificate.key_sha256)
            if _verifies(certificate, algorithm, value, octets):
                return certificate
    return None


def _verifies(certificate: SigningCertificate, algorithm: str, value: bytes, octets: bytes) -> bool:
    key = certificate.x509.public_key()
    try:
        if isinstance(key, rsa.RSAPublicKey) and algorithm in _RSA:
            key.verify(value, octets, padding.PKCS1v15(), _RSA[algorithm]())
        elif isinstance(key, rsa.RSAPublicKey) and algorithm in _RSA_PSS:
            digest = _RSA_PSS[algorithm]()
            key.verify(value, octets, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
        elif isinstance(key, ec.EllipticCurvePublicKey) and algorithm in _ECDSA:
            key.verify(_der(value, key), octets, ec.ECDSA(_ECDSA[algorithm]()))
        else:
            return False
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False
    return True


def _der(value: bytes, key: ec.EllipticCurvePublicKey) -> bytes:
    """XML signatures hold r and s side by side (RFC 4051 section 2.3.6), not in DER. Raises ValueError."""
    size = (key.key_size + 7) // 8
    if len(value) != 2 * size:
        raise ValueError("not two integers of the curve's size")
    return encode_dss_signature(int.from_bytes(value[:size]), int.from_bytes(value[size:]))
