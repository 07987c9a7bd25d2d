"""Decrypts an EncryptedAssertion; whatever goes wrong after the algorithms are known has one code and one text.

Anyone can encrypt to us, so decrypting proves nothing: the plaintext is as untrusted as the evidence, and a signature
inside or around it is required all the same (CVE-2026-2092). Key transport is RSA-OAEP and content AES in GCM or CBC;
RSA 1.5 and Triple-DES are refused before any key is used.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator, Sequence
from xml.sax.saxutils import quoteattr

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from lxml import etree

from evidence_service.access.evidence import SAML
from evidence_service.access.reasons import AccessReason
from idp_certs.reasons import Refused, TrustReason
from idp_certs.signature import DS
from idp_certs.xml import EVIDENCE_LIMITS, XmlLimits, parse_xml

_XENC = "{http://www.w3.org/2001/04/xmlenc#}"
_XENC11 = "{http://www.w3.org/2009/xmlenc11#}"
_OAEP_MGF1P = "http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p"
_OAEP = "http://www.w3.org/2009/xmlenc11#rsa-oaep"

_HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "http://www.w3.org/2000/09/xmldsig#sha1": hashes.SHA1,
    "http://www.w3.org/2001/04/xmlenc#sha256": hashes.SHA256,
    "http://www.w3.org/2001/04/xmldsig-more#sha384": hashes.SHA384,
    "http://www.w3.org/2001/04/xmlenc#sha512": hashes.SHA512,
}
_MASKS: dict[str, type[hashes.HashAlgorithm]] = {
    "http://www.w3.org/2009/xmlenc11#mgf1sha1": hashes.SHA1,
    "http://www.w3.org/2009/xmlenc11#mgf1sha256": hashes.SHA256,
    "http://www.w3.org/2009/xmlenc11#mgf1sha384": hashes.SHA384,
    "http://www.w3.org/2009/xmlenc11#mgf1sha512": hashes.SHA512,
}
_CONTENT = {  # algorithm -> (mode, key length in bytes)
    "http://www.w3.org/2001/04/xmlenc#aes128-cbc": ("cbc", 16),
    "http://www.w3.org/2001/04/xmlenc#aes192-cbc": ("cbc", 24),
    "http://www.w3.org/2001/04/xmlenc#aes256-cbc": ("cbc", 32),
    "http://www.w3.org/2009/xmlenc11#aes128-gcm": ("gcm", 16),
    "http://www.w3.org/2009/xmlenc11#aes192-gcm": ("gcm", 24),
    "http://www.w3.org/2009/xmlenc11#aes256-gcm": ("gcm", 32),
}
MAX_ENCRYPTED_KEYS = 4
"""Two occur while our own key rolls over; many are an attempt to make us work (decryption amplification)."""
_BLOCK = 16
_NONCE = 12
_TAG = 16
_SPACE = re.compile("[ \t\r\n]+")
_ENVELOPE = "plaintext"


def decrypt_assertion(
    encrypted: etree._Element, keys: Sequence[RSAPrivateKey], limits: XmlLimits = EVIDENCE_LIMITS
) -> tuple[bytes, etree._Element]:
    """The Assertion in an EncryptedAssertion: a small document around it, and that document's element.

    The Assertion is the only child of the returned element. The document repeats the namespace declarations in force
    where the EncryptedAssertion stood, because a plaintext may rely on them. Raises Refused: `encrypted_unsupported`,
    `encryption_algorithm`, `decrypt_failed`, or what the plaintext is refused for.
    """
    if not keys:
        raise Refused(AccessReason.ENCRYPTED_UNSUPPORTED, expected="a decryption key", presented="none configured")
    data = _only(encrypted, _XENC + "EncryptedData")
    mode, length = _content_algorithm(data)
    wrapped = [(_oaep(key), _cipher_value(key)) for key in _encrypted_keys(encrypted)]
    cipher_text = _cipher_value(data)
    for key in _content_keys(wrapped, keys, length):
        plaintext = _decrypt_content(mode, key, cipher_text)
        if plaintext is not None:
            return _parse_plaintext(plaintext, encrypted, limits)
    raise _failed()


def _failed() -> Refused:
    return Refused(AccessReason.DECRYPT_FAILED, expected="one assertion", where="EncryptedAssertion")


def _only(parent: etree._Element, path: str) -> etree._Element:
    found = parent.findall(path)
    if len(found) != 1:
        raise _failed()
    return found[0]


def _algorithm(element: etree._Element) -> tuple[etree._Element, str]:
    method = _only(element, _XENC + "EncryptionMethod")
    return method, method.get("Algorithm") or "none"


def _refuse_algorithm(presented: str) -> Refused:
    return Refused(
        AccessReason.ENCRYPTION_ALGORITHM,
        expected="AES-GCM or AES-CBC with RSA-OAEP",
        presented=presented,
        where="EncryptedAssertion",
    )


def _content_algorithm(data: etree._Element) -> tuple[str, int]:
    _, algorithm = _algorithm(data)
    if algorithm not in _CONTENT:
        raise _refuse_algorithm(algorithm)
    return _CONTENT[algorithm]


def _encrypted_keys(encrypted: etree._Element) -> list[etree._Element]:
    """Inside EncryptedData or beside it; a RetrievalMethod is not followed, as every key here is tried."""
    keys = [*encrypted.iter(_XENC + "EncryptedKey")]
    if not 1 <= len(keys) <= MAX_ENCRYPTED_KEYS or len([*encrypted.iter(_XENC + "EncryptedData")]) != 1:
        raise _failed()
    return keys


def _oaep(key: etree._Element) -> padding.OAEP:
    """XML Encryption 1.1 section 5.5.2: digest and mask generation default to SHA-1."""
    method, algorithm = _algorithm(key)
    if algorithm not in (_OAEP, _OAEP_MGF1P):
        raise _refuse_algorithm(algorithm)
    parameters: dict[str, str | None] = {str(child.tag): child.get("Algorithm") for child in method}
    if len(parameters) != len(method) or parameters.keys() - {DS + "DigestMethod", _XENC11 + "MGF"}:
        raise _refuse_algorithm(f"{algorithm} with other parameters")
    digest = parameters.get(DS + "DigestMethod", "http://www.w3.org/2000/09/xmldsig#sha1")
    mask = parameters.get(_XENC11 + "MGF", "http://www.w3.org/2009/xmlenc11#mgf1sha1")
    if digest not in _HASHES or mask not in _MASKS or (algorithm == _OAEP_MGF1P and _XENC11 + "MGF" in parameters):
        raise _refuse_algorithm(f"{algorithm} with {digest}, {mask}")
    return padding.OAEP(padding.MGF1(_MASKS[mask]()), _HASHES[digest](), None)


def _cipher_value(element: etree._Element) -> bytes:
    value = _only(element, f"{_XENC}CipherData/{_XENC}CipherValue")
    if len(value):
        raise _failed()
    try:
        return binascii.a2b_base64(_SPACE.sub("", value.text or ""), strict_mode=True)
    except ValueError:
        raise _failed() from None


def _content_keys(
    wrapped: list[tuple[padding.OAEP, bytes]], keys: Sequence[RSAPrivateKey], length: int
) -> Iterator[bytes]:
    for scheme, cipher_text in wrapped:
        for private_key in keys:
            try:
                key = private_key.decrypt(cipher_text, scheme)
            except ValueError:
                continue
            if len(key) == length:
                yield key


def _decrypt_content(mode: str, key: bytes, cipher_text: bytes) -> bytes | None:
    """The plaintext, or None where it does not decrypt. Padding as in XML Encryption 1.1 section 5.2."""
    if mode == "gcm":
        if len(cipher_text) < _NONCE + _TAG:
            return None
        try:
            return AESGCM(key).decrypt(cipher_text[:_NONCE], cipher_text[_NONCE:], None)
        except Exception:  # noqa: BLE001 - InvalidTag and the rest are one outcome
            return None
    if len(cipher_text) < 2 * _BLOCK or len(cipher_text) % _BLOCK:
        return None
    decryptor = Cipher(algorithms.AES(key), modes.CBC(cipher_text[:_BLOCK])).decryptor()
    padded = decryptor.update(cipher_text[_BLOCK:]) + decryptor.finalize()
    pad = padded[-1]
    return padded[:-pad] if 1 <= pad <= _BLOCK else None


def _parse_plaintext(plaintext: bytes, encrypted: etree._Element, limits: XmlLimits) -> tuple[bytes, etree._Element]:
    declarations = "".join(
        f" xmlns{':' + prefix if prefix else ''}={quoteattr(name)}"
        for prefix, name in encrypted.nsmap.items()
        if prefix != "xml"
    )
    data = f"<{_ENVELOPE}{declarations}>".encode() + plaintext + f"</{_ENVELOPE}>".encode()
    try:
        root = parse_xml(data, limits)
    except Refused as refused:
        # An answer that tells malformed plaintext apart from a wrong key is an oracle (Jager and Somorovsky 2011).
        if refused.finding.reason in (TrustReason.XML_ENCODING, TrustReason.XML_MALFORMED):
            raise _failed() from None
        raise
    texts = (root.text, *(child.tail for child in root))
    if len(root) != 1 or root[0].tag != SAML + "Assertion" or any((text or "").strip() for text in texts):
        raise _failed()
    return data, root
