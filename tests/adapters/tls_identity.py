"""A server's certificate and the authority that issued it, as files."""

from __future__ import annotations

import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


class Identity:
    """A certificate for one DNS name, by an authority of its own; the files go when it is left."""

    def __init__(self, name: str) -> None:
        """Make both."""
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        authority = _built("Test CA", authority_key.public_key(), "Test CA", authority=True).sign(
            authority_key, hashes.SHA256()
        )
        builder = _built(name, key.public_key(), "Test CA", authority=False)
        names = x509.SubjectAlternativeName([x509.DNSName(name)])
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
        leaf = builder.add_extension(names, critical=False).add_extension(issuer, critical=False)
        pem = serialization.Encoding.PEM
        private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        self._server = folder / "server.pem"
        self._server.write_bytes(private + leaf.sign(authority_key, hashes.SHA256()).public_bytes(pem))
        (folder / "ca.pem").write_bytes(authority.public_bytes(pem))
        self.ca_file = str(folder / "ca.pem")
        """The authority's certificate."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    def context(self) -> ssl.SSLContext:
        """What a server shows."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._server)
        return context


def _built(subject: str, key: ec.EllipticCurvePublicKey, issuer: str, *, authority: bool) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )
