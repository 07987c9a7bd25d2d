"""Fixed private keys (test keys, good for nothing else) and the certificates that are made from them.

A key file is made once and committed. Certificates have fixed serials and dates and deterministic signatures, so
that they come out the same each time.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

HERE = Path(__file__).parent

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

KEYS: dict[str, int | ec.EllipticCurve] = {
    "idp": 2048,
    "idp_next": 2048,
    "idp_encryption": 2048,
    "idp_b": 2048,
    "tenant": 2048,
    "attacker": 2048,
    "attacker_ec": ec.SECP256R1(),
    "weak": 1024,
    "strong": 4096,
    "ca": 2048,
    "leaf": 2048,
    "p224": ec.SECP224R1(),
    "p256": ec.SECP256R1(),
    "p384": ec.SECP384R1(),
    "p521": ec.SECP521R1(),
    "sp": 2048,
    "sp_old": 2048,
    "sp_foreign": 2048,
}
"""Name of the key file: bits of an RSA key, or an elliptic curve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """How a certificate is made; `issuer_key` None is self-signed."""

    key: str
    subject: str
    serial: int
    not_before: datetime = datetime(2025, 1, 1, tzinfo=UTC)
    not_after: datetime = datetime(2035, 1, 1, tzinfo=UTC)
    issuer: str | None = None
    issuer_key: str | None = None
    ca: bool = False


CERTIFICATES: dict[str, Made] = {
    "idp": Made(key="idp", subject="idp.example", serial=1001),
    "idp_renewed": Made(
        key="idp",
        subject="idp.example",
        serial=1002,
        not_before=datetime(2025, 12, 1, tzinfo=UTC),
        not_after=datetime(2036, 1, 1, tzinfo=UTC),
    ),
    "idp_expired": Made(
        key="idp",
        subject="idp.example",
        serial=1003,
        not_before=datetime(2024, 1, 1, tzinfo=UTC),
        not_after=datetime(2025, 12, 31, tzinfo=UTC),
    ),
    "idp_future": Made(key="idp", subject="idp.example", serial=1004, not_before=datetime(2026, 6, 1, tzinfo=UTC)),
    "idp_next": Made(key="idp_next", subject="idp.example", serial=1005),
    "idp_encryption": Made(key="idp_encryption", subject="idp.example", serial=1006),
    "idp_b": Made(key="idp_b", subject="idp-b.example", serial=1007),
    "tenant": Made(key="tenant", subject="idp.example", serial=1008),
    "attacker": Made(key="attacker", subject="attacker.example", serial=1009),
    "attacker_lookalike": Made(key="attacker", subject="idp.example", serial=1001),
    "attacker_ec": Made(key="attacker_ec", subject="attacker.example", serial=1010),
    "weak": Made(key="weak", subject="idp.example", serial=1011),
    "strong": Made(key="strong", subject="idp.example", serial=1012),
    "ca": Made(key="ca", subject="Example CA", serial=1013, ca=True),
    "leaf": Made(key="leaf", subject="idp.example", serial=1014, issuer="Example CA", issuer_key="ca"),
    "p224": Made(key="p224", subject="idp.example", serial=1015),
    "p256": Made(key="p256", subject="idp.example", serial=1016),
    "p384": Made(key="p384", subject="idp.example", serial=1017),
    "p521": Made(key="p521", subject="idp.example", serial=1018),
    "sp": Made(key="sp", subject="gw.example", serial=1019),
    "sp_old": Made(key="sp_old", subject="gw.example", serial=1020),
}


@cache
def private_key(name: str) -> PrivateKey:
    """The key of this name."""
    key = load_pem_private_key((HERE / f"{name}.pem").read_bytes(), None)
    assert isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
    return key


def rsa_key(name: str) -> rsa.RSAPrivateKey:
    """The RSA key of this name."""
    key = private_key(name)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


def pem(name: str) -> str:
    """The private key file's text."""
    return (HERE / f"{name}.pem").read_text()


def public_pem(name: str) -> bytes:
    """The public key in PEM, as an attacker finds it on the web."""
    return private_key(name).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@cache
def certificate(name: str) -> bytes:
    """The DER of a certificate of this name, the same bytes each time."""
    made = CERTIFICATES[name]

    def common_name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    builder = (
        x509.CertificateBuilder()
        .subject_name(common_name(made.subject))
        .issuer_name(common_name(made.issuer or made.subject))
        .public_key(private_key(made.key).public_key())
        .serial_number(made.serial)
        .not_valid_before(made.not_before)
        .not_valid_after(made.not_after)
        .add_extension(x509.BasicConstraints(ca=made.ca, path_length=None), critical=True)
    )
    key = private_key(made.issuer_key or made.key)
    deterministic = True if isinstance(key, ec.EllipticCurvePrivateKey) else None
    return builder.sign(key, hashes.SHA256(), ecdsa_deterministic=deterministic).public_bytes(Encoding.DER)


def fingerprint(name: str) -> str:
    """The SHA-256 of a certificate in hexadecimal."""
    return hashlib.sha256(certificate(name)).hexdigest()


def make_missing() -> list[str]:
    """Make the keys whose files are missing; returns their names."""
    made = []
    for name, kind in KEYS.items():
        path = HERE / f"{name}.pem"
        if path.exists():
            continue
        key: PrivateKey = (
            rsa.generate_private_key(65537, kind) if isinstance(kind, int) else ec.generate_private_key(kind)
        )
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        made.append(name)
    return made
