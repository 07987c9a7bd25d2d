"""Identity providers, their signing certificates, and the frozen snapshot of all trust."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


class CertificateState(StrEnum):
    """Where a signing certificate stands in its life.

    *announced*: accepted ahead of its first use, and good from then on; *trusted*: in use; *retiring*: withdrawn by the
    IdP, good for what was issued before; *retired* and *revoked*: good for nothing. A certificate that waits for a
    person's approval has none of these states: it is not in the snapshot.
    """

    ANNOUNCED = "announced"
    TRUSTED = "trusted"
    RETIRING = "retiring"
    RETIRED = "retired"
    REVOKED = "revoked"


class Acceptance(StrEnum):
    """What makes a signing certificate that metadata brings acceptable without a person (decision 3).

    *continuity*: a key trusted before the document signed it; *tls*: it came over verified TLS from the configured
    host; *approval*: nothing does.
    """

    CONTINUITY = "continuity"
    TLS = "tls"
    APPROVAL = "approval"


GOOD = frozenset({CertificateState.ANNOUNCED, CertificateState.TRUSTED})
"""The states in which what a certificate signs now is accepted."""

MIN_RSA_BITS = 2048  # Kantara SAML2int SDP-MD06
MIN_EC_BITS = 256  # SDP-MD07


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningCertificate:
    """A certificate that an IdP may sign with, and what we think of it.

    `since` (UTC) is the instant the state began; for *retiring* and *retired* that is when its removal was first
    observed. `provenance` says in words where it came from.
    """

    der: bytes
    state: CertificateState
    since: datetime
    provenance: str
    x509: x509.Certificate = field(init=False, repr=False, compare=False)
    sha256: str = field(init=False, compare=False)
    key_sha256: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Parse once; raises ValueError where `der` is not a certificate with a readable key."""
        certificate = x509.load_der_x509_certificate(self.der)
        try:
            key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        except Exception as error:  # an unsupported key type has several exceptions
            raise ValueError("the certificate's public key cannot be read") from error
        object.__setattr__(self, "x509", certificate)
        object.__setattr__(self, "sha256", hashlib.sha256(self.der).hexdigest())
        object.__setattr__(self, "key_sha256", hashlib.sha256(key).hexdigest())

    @property
    def has_strong_key(self) -> bool:
        """RSA of at least 2048 bits or an elliptic curve of at least 256 bits."""
        key = self.x509.public_key()
        if isinstance(key, rsa.RSAPublicKey):
            return key.key_size >= MIN_RSA_BITS
        return isinstance(key, ec.EllipticCurvePublicKey) and key.key_size >= MIN_EC_BITS

    @property
    def subject(self) -> str:
        """The subject (RFC 4514), empty where X.509 holds a name that cannot be read. Hostile text."""
        return _name(self.x509, "subject")

    @property
    def issuer(self) -> str:
        """The same of the issuer."""
        return _name(self.x509, "issuer")

    @property
    def key_description(self) -> str:
        """Kind and size of the key, for people: `RSA 2048`, `EC secp256r1`."""
        key = self.x509.public_key()
        if isinstance(key, rsa.RSAPublicKey):
            return f"RSA {key.key_size}"
        if isinstance(key, ec.EllipticCurvePublicKey):
            return f"EC {key.curve.name}"
        return type(key).__name__


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityProvider:
    """One SAML identity provider. `deny_after` (UTC) is when stale metadata ends its trust; None: never."""

    entity_id: str
    certificates: tuple[SigningCertificate, ...]
    enabled: bool = True
    deny_after: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustSnapshot:
    """All providers by entity ID. Frozen, and replaced as a whole.

    `revoked_keys` are the SHA-256 of every key that is revoked at any provider: a stolen key is no better elsewhere.
    `revoked_at_removed` are those of providers that are not known any more.
    """

    providers: Mapping[str, IdentityProvider]
    as_of: datetime
    revoked_at_removed: frozenset[str] = frozenset()
    revoked_keys: frozenset[str] = field(init=False, repr=False, compare=False)
    _by_folded_name: Mapping[str, IdentityProvider] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Freeze the mapping and index it."""
        providers = dict(self.providers)
        revoked = frozenset(
            certificate.key_sha256
            for provider in providers.values()
            for certificate in provider.certificates
            if certificate.state is CertificateState.REVOKED
        ) | frozenset(self.revoked_at_removed)
        folded = {_fold(entity_id): provider for entity_id, provider in reversed(providers.items())}
        object.__setattr__(self, "providers", MappingProxyType(providers))
        object.__setattr__(self, "revoked_keys", revoked)
        object.__setattr__(self, "_by_folded_name", MappingProxyType(folded))

    def named_almost(self, claim: str) -> IdentityProvider | None:
        """The provider whose entity ID differs from `claim` in case and surrounding blanks at most."""
        return self._by_folded_name.get(_fold(claim))


def _name(certificate: x509.Certificate, which: Literal["subject", "issuer"]) -> str:
    try:
        name: x509.Name = getattr(certificate, which)
        return name.rfc4514_string()
    except ValueError:
        return ""


def _fold(entity_id: str) -> str:
    return entity_id.strip().lower()
