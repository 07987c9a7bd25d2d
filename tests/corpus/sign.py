"""A low-level XML signer with control over every right and every wrong thing.

Own code over lxml and cryptography, independent of the verifier. Everything is deterministic: fixed PSS salt,
deterministic ECDSA.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from lxml import etree

from tests.corpus import c14n, keys
from tests.corpus import names as n
from tests.corpus.names import qname

_RSA: dict[str, Callable[[], hashes.HashAlgorithm]] = {
    n.RSA_SHA1: hashes.SHA1,
    n.RSA_SHA256: hashes.SHA256,
    n.RSA_SHA384: hashes.SHA384,
    n.RSA_SHA512: hashes.SHA512,
    n.RSA_MD5: hashes.MD5,
}
_PSS = {n.PSS_SHA256: "sha256", n.PSS_SHA384: "sha384", n.PSS_SHA512: "sha512"}
_ECDSA: dict[str, Callable[[], hashes.HashAlgorithm]] = {
    n.ECDSA_SHA1: hashes.SHA1,
    n.ECDSA_SHA256: hashes.SHA256,
    n.ECDSA_SHA384: hashes.SHA384,
    n.ECDSA_SHA512: hashes.SHA512,
}
_DIGESTS = {n.SHA1: "sha1", n.SHA256: "sha256", n.SHA384: "sha384", n.SHA512: "sha512", n.MD5: "md5"}

EMPTY_SHA256 = base64.b64encode(hashlib.sha256(b"").digest()).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Transform:
    """One ds:Transform; `inside` is put into it."""

    uri: str
    prefixes: str | None = None
    inside: Sequence[etree._Element] = ()


PLAIN_TRANSFORMS = (Transform(uri=n.ENVELOPED), Transform(uri=n.EXC_C14N))


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """How to sign. The defaults are what a good IdP does.

    `made_with` is the algorithm really used (None: the one named); `key_info` names certificates of
    `tests.corpus.keys`, or is a ready ds:KeyInfo, or None for none. `parent` is where the signature goes (default:
    the element signed, after its Issuer), `tail` the text after it. `digested` and `digest_value` replace what is
    digested or the digest. `signed_info` changes SignedInfo before it is signed.
    """

    key: str = "idp"
    c14n: str = n.EXC_C14N
    c14n_prefixes: str | None = None
    method: str = n.RSA_SHA256
    made_with: str | None = None
    hmac_key: bytes | None = None
    ecdsa_der: bool = False
    transforms: Sequence[Transform] | None = PLAIN_TRANSFORMS
    digest_method: str = n.SHA256
    digested: bytes | None = None
    digest_value: str | None = None
    uri: str | None = ""
    uri_of_id: bool = True
    reference_type: str | None = None
    key_info: Sequence[str] | etree._Element | None = ("idp",)
    parent: etree._Element | None = None
    index: int | None = None
    tail: str | None = None
    prefix: str = "ds"
    signed_info: Callable[[etree._Element], None] | None = None
    wrap: bool = False


def element(name: str, text: str | None = None, /, **attributes: str) -> etree._Element:
    """An element by prefixed name, with text and attributes."""
    prefix, _, _ = name.rpartition(":")
    made = etree.Element(qname(name), nsmap={prefix: n.PREFIXES[prefix]} if prefix in n.PREFIXES else None)
    made.text = text
    for key, value in attributes.items():
        made.set(key, value)
    return made


def below(parent: etree._Element, name: str, text: str | None = None, /, **attributes: str) -> etree._Element:
    """Append an element and return it."""
    made = etree.SubElement(parent, qname(name))
    made.text = text
    for key, value in attributes.items():
        made.set(key, value)
    return made


def encoded(data: bytes, *, wrap: bool = False) -> str:
    """Base64, optionally in lines of 76."""
    text = base64.b64encode(data).decode()
    return "\n".join(text[at : at + 76] for at in range(0, len(text), 76)) if wrap else text


def sign(target: etree._Element, how: How | None = None) -> etree._Element:
    """Put a ds:Signature over `target` into it (or into `how.parent`) and return the signature."""
    how = how or How()
    parent = target if how.parent is None else how.parent
    signature = etree.Element(qname("ds:Signature"), nsmap={how.prefix or None: n.DS})
    index = how.index
    if index is None:
        index = 1 if len(parent) and parent[0].tag == qname("saml:Issuer") else 0
    parent.insert(index, signature)
    signature.tail = how.tail
    info = below(signature, "ds:SignedInfo")
    method = below(info, "ds:CanonicalizationMethod", Algorithm=how.c14n)
    _prefix_list(method, how.c14n_prefixes)
    below(info, "ds:SignatureMethod", Algorithm=how.method)
    _refer(info, target, signature, how)
    if how.signed_info is not None:
        how.signed_info(info)
    value = raw_signature(info, how)
    below(signature, "ds:SignatureValue", encoded(value, wrap=how.wrap))
    if isinstance(how.key_info, etree._Element):
        signature.append(how.key_info)
    elif how.key_info is not None:
        signature.append(key_info(*how.key_info, wrap=how.wrap))
    return signature


def _refer(info: etree._Element, target: etree._Element, signature: etree._Element, how: How) -> None:
    """Add the Reference with its digest."""
    reference = below(info, "ds:Reference")
    uri = "#" + (target.get("ID") or "") if how.uri_of_id else how.uri
    if uri is not None:
        reference.set("URI", uri)
    if how.reference_type is not None:
        reference.set("Type", how.reference_type)
    if how.transforms is not None:
        transforms = below(reference, "ds:Transforms")
        for transform in how.transforms:
            made = below(transforms, "ds:Transform", Algorithm=transform.uri)
            _prefix_list(made, transform.prefixes)
            for child in transform.inside:
                made.append(child)
    below(reference, "ds:DigestMethod", Algorithm=how.digest_method)
    digested = how.digested
    if digested is None:
        digested = _canonical(target, how.transforms or (), without=signature)
    digest = hashlib.new(_DIGESTS.get(how.digest_method, "sha256"), digested).digest()
    below(reference, "ds:DigestValue", how.digest_value or encoded(digest))


def raw_signature(info: etree._Element, how: How) -> bytes:
    """The signature's octets over SignedInfo."""
    if how.c14n in (n.C14N, n.C14N11):
        data = c14n.inclusive(info)
    else:
        data = c14n.exclusive(info, prefixes=(how.c14n_prefixes or "").split())
    made_with = how.made_with or how.method
    if how.hmac_key is not None:
        return hmac.new(how.hmac_key, data, "sha1" if how.method == n.HMAC_SHA1 else "sha256").digest()
    key = keys.private_key(how.key)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        algorithm = _ECDSA.get(made_with, hashes.SHA256)()
        der = key.sign(data, ec.ECDSA(algorithm, deterministic_signing=True))
        if how.ecdsa_der:
            return der
        r, s = decode_dss_signature(der)
        size = (key.key_size + 7) // 8
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")
    if made_with in _PSS:
        return pss(key, data, _PSS[made_with])
    return key.sign(data, padding.PKCS1v15(), _RSA.get(made_with, hashes.SHA256)())


def pss(key: rsa.RSAPrivateKey, data: bytes, name: str) -> bytes:
    """RSASSA-PSS (RFC 8017, 9.1.1) with a salt of the digest's length derived from the data."""
    size = hashlib.new(name).digest_size
    salt = hashlib.new(name, b"salt" + data).digest()
    bits = key.key_size - 1
    length = (bits + 7) // 8
    h = hashlib.new(name, bytes(8) + hashlib.new(name, data).digest() + salt).digest()
    block = bytes(length - 2 * size - 2) + b"\x01" + salt
    masked = bytearray(a ^ b for a, b in zip(block, mgf1(h, len(block), name), strict=True))
    masked[0] &= 0xFF >> (8 * length - bits)
    message = int.from_bytes(bytes(masked) + h + b"\xbc", "big")
    numbers = key.private_numbers()
    return pow(message, numbers.d, numbers.public_numbers.n).to_bytes((key.key_size + 7) // 8, "big")


def mgf1(seed: bytes, length: int, name: str) -> bytes:
    """The mask generation function of RFC 8017, B.2.1."""
    out = b""
    counter = 0
    while len(out) < length:
        out += hashlib.new(name, seed + counter.to_bytes(4, "big")).digest()
        counter += 1
    return out[:length]


def key_info(*certificates: str, wrap: bool = False) -> etree._Element:
    """A ds:KeyInfo with an X509Data that holds these certificates."""
    info = element("ds:KeyInfo")
    data = below(info, "ds:X509Data")
    for name in certificates:
        below(data, "ds:X509Certificate", encoded(keys.certificate(name), wrap=wrap))
    return info


def key_value(name: str) -> etree._Element:
    """A ds:KeyInfo with the bare RSA key."""
    numbers = keys.rsa_key(name).public_key().public_numbers()
    info = element("ds:KeyInfo")
    value = below(below(info, "ds:KeyValue"), "ds:RSAKeyValue")
    for part, number in (("Modulus", numbers.n), ("Exponent", numbers.e)):
        below(value, f"ds:{part}", encoded(number.to_bytes((number.bit_length() + 7) // 8, "big")))
    return info


def key_name(text: str) -> etree._Element:
    """A ds:KeyInfo with a KeyName."""
    info = element("ds:KeyInfo")
    below(info, "ds:KeyName", text)
    return info


def _prefix_list(parent: etree._Element, prefixes: str | None) -> None:
    if prefixes is not None:
        made = etree.SubElement(parent, qname("ec:InclusiveNamespaces"), nsmap={"ec": n.EXC_C14N})
        made.set("PrefixList", prefixes)


def _canonical(target: etree._Element, transforms: Sequence[Transform], *, without: etree._Element | None) -> bytes:
    kinds = [transform.uri for transform in transforms]
    left_out = without if n.ENVELOPED in kinds or not kinds else None
    if left_out is None and without is not None and target in list(without.iterancestors()):
        left_out = without  # a digest over the signature itself cannot be made; what follows is refused anyway
    if n.C14N in kinds or n.C14N11 in kinds:
        return c14n.inclusive(target, without=left_out)
    prefixes = next((t.prefixes for t in transforms if t.prefixes is not None), "")
    return c14n.exclusive(target, prefixes=prefixes.split(), without=left_out)
