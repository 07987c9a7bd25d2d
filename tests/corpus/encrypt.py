"""XML encryption with control over every right and every wrong thing.

Deterministic: content keys, nonces and paddings are derived from the plaintext, and OAEP and PKCS #1 v1.5 encryption
are own code with those paddings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from lxml import etree

from tests.corpus import keys
from tests.corpus import names as n
from tests.corpus.names import qname
from tests.corpus.sign import below, encoded, mgf1

OAEP_MGF1P = n.XENC + "rsa-oaep-mgf1p"
OAEP = n.XENC11 + "rsa-oaep"
RSA_15 = n.XENC + "rsa-1_5"
GCM = {bits: f"{n.XENC11}aes{bits}-gcm" for bits in (128, 192, 256)}
CBC_MODE = {bits: f"{n.XENC}aes{bits}-cbc" for bits in (128, 192, 256)}
TRIPLE_DES = n.XENC + "tripledes-cbc"
MGF1_SHA1 = n.XENC11 + "mgf1sha1"
MGF1_SHA256 = n.XENC11 + "mgf1sha256"

_KEY_BYTES = {
    **{uri: bits // 8 for table in (GCM, CBC_MODE) for bits, uri in table.items()},
    TRIPLE_DES: 24,
}
_HASH_OF = {n.SHA1: "sha1", n.SHA256: "sha256", n.SHA512: "sha512", MGF1_SHA1: "sha1", MGF1_SHA256: "sha256"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """How to encrypt. `to` names private keys; each gets an EncryptedKey of the same content key.

    `digest` and `mgf` None leave the element out (SHA-1 both). `place` is `inside` (xenc:EncryptedData/ds:KeyInfo),
    `sibling` (beside EncryptedData, found by RetrievalMethod) or `beside` (a sibling without RetrievalMethod).
    `cipher` and `wrapped` change the cipher octets and the encrypted content key.
    """

    to: tuple[str, ...] = ("sp",)
    content: str = GCM[256]
    transport: str = OAEP_MGF1P
    digest: str | None = n.SHA1
    mgf: str | None = None
    label: bytes | None = None
    place: str = "inside"
    cipher: Callable[[bytes], bytes] | None = None
    wrapped: Callable[[bytes], bytes] | None = None
    named_content: str | None = None
    named_transport: str | None = None


def seeded(label: str, data: bytes, length: int) -> bytes:
    """Octets that are always the same for the same label and data, none of them zero."""
    out = b""
    counter = 0
    while len(out) < length:
        out += hashlib.sha256(f"{label} {counter} ".encode() + data).digest().replace(b"\0", b"\1")
        counter += 1
    return out[:length]


def encrypted(plaintext: bytes, lock: Lock | None = None, *, name: str = "saml:EncryptedAssertion") -> etree._Element:
    """An EncryptedAssertion (or another wrapper) of these bytes."""
    lock = lock or Lock()
    content_key = seeded("content key", plaintext, _KEY_BYTES[lock.content])
    cipher = _content(plaintext, content_key, lock.content)
    if lock.cipher is not None:
        cipher = lock.cipher(cipher)
    wrapper = etree.Element(qname(name), nsmap={"saml": n.SAML, "xenc": n.XENC})
    data = below(wrapper, "xenc:EncryptedData", Id="_data1", Type=n.XENC + "Element")
    below(data, "xenc:EncryptionMethod", Algorithm=_named(lock.named_content, lock.content))
    info = etree.SubElement(data, qname("ds:KeyInfo"), nsmap={"ds": n.DS})
    parent = info if lock.place == "inside" else wrapper
    if lock.place == "sibling":
        below(info, "ds:RetrievalMethod", Type=n.XENC + "EncryptedKey", URI="#_key1")
    below(below(data, "xenc:CipherData"), "xenc:CipherValue", encoded(cipher, wrap=True))
    for number, recipient in enumerate(lock.to, 1):
        parent.append(_encrypted_key(content_key, recipient, lock, number))
    return wrapper


def _named(named: str | None, used: str) -> str:
    return used if named is None else named


def _encrypted_key(content_key: bytes, recipient: str, lock: Lock, number: int) -> etree._Element:
    made = etree.Element(qname("xenc:EncryptedKey"), nsmap={"xenc": n.XENC})
    made.set("Id", f"_key{number}")
    method = below(made, "xenc:EncryptionMethod", Algorithm=_named(lock.named_transport, lock.transport))
    if lock.digest is not None and lock.transport != RSA_15:
        etree.SubElement(method, qname("ds:DigestMethod"), nsmap={"ds": n.DS}).set("Algorithm", lock.digest)
    if lock.mgf is not None:
        etree.SubElement(method, qname("xenc11:MGF"), nsmap={"xenc11": n.XENC11}).set("Algorithm", lock.mgf)
    if lock.label is not None:
        below(method, "xenc:OAEPparams", encoded(lock.label))
    public = keys.rsa_key(recipient).public_key().public_numbers()
    size = (public.n.bit_length() + 7) // 8
    if lock.transport == RSA_15:
        pad = seeded("pkcs1 " + recipient, content_key, size - len(content_key) - 3)
        block = b"\0\2" + pad + b"\0" + content_key
    else:
        digest = _HASH_OF.get(lock.digest or n.SHA1, "sha256")
        mask = _HASH_OF.get(lock.mgf or MGF1_SHA1, "sha256")
        block = _oaep(content_key, size, (digest, mask), lock.label or b"", salt=recipient)
    wrapped = pow(int.from_bytes(block, "big"), public.e, public.n).to_bytes(size, "big")
    if lock.wrapped is not None:
        wrapped = lock.wrapped(wrapped)
    below(below(made, "xenc:CipherData"), "xenc:CipherValue", encoded(wrapped, wrap=True))
    return made


def _oaep(message: bytes, size: int, algorithms: tuple[str, str], label: bytes, *, salt: str) -> bytes:
    """EME-OAEP encoding (RFC 8017, 7.1.1) with a derived seed; `algorithms` are digest and mask generation."""
    digest, mask = algorithms
    length = hashlib.new(digest).digest_size
    block = hashlib.new(digest, label).digest() + bytes(size - len(message) - 2 * length - 2) + b"\1" + message
    seed = seeded("oaep " + salt, message, length)
    masked = bytes(a ^ b for a, b in zip(block, mgf1(seed, len(block), mask), strict=True))
    masked_seed = bytes(a ^ b for a, b in zip(seed, mgf1(masked, length, mask), strict=True))
    return b"\0" + masked_seed + masked


def _content(plaintext: bytes, key: bytes, algorithm: str) -> bytes:
    if algorithm.endswith("-cbc"):
        block = 8 if algorithm == TRIPLE_DES else 16
        short = block - len(plaintext) % block
        padded = plaintext + bytes(short - 1) + bytes([short])
        iv = seeded("iv", plaintext, block)
        cipher = Cipher(TripleDES(key) if algorithm == TRIPLE_DES else AES(key), CBC(iv)).encryptor()
        return iv + cipher.update(padded) + cipher.finalize()
    iv = seeded("iv", plaintext, 12)
    return iv + AESGCM(key).encrypt(iv, plaintext, None)
