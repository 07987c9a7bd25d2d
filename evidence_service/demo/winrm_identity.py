"""The certificates of simulated WinRM: an authority that is made for it and kept by nobody, a server's, a client's."""

from __future__ import annotations

import ipaddress
import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

HOST = "127.0.0.1"


class Identity:
    """The authority, the server's and the client's certificate, in files where clients need them so."""

    def __init__(self, directory: Path) -> None:
        """Make them all; only the client's key stays in a file."""
        self.ca = directory / "winrm-ca.pem"
        self.client_certificate = directory / "winrm-client.pem"
        self.client_key = directory / "winrm-client.key"
        self.ntlm = directory / "winrm-accounts"
        authority_key = ec.generate_private_key(ec.SECP256R1())
        server_key, client_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        authority = _certificate("fas-evidence demo WinRM CA", authority_key, authority_key)
        addresses = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(HOST))])
        server = _certificate("localhost", server_key, authority_key, addresses)
        client = _certificate("svc-fas-renewal", client_key, authority_key)
        self.ca.write_bytes(authority.public_bytes(Encoding.PEM))
        self.client_certificate.write_bytes(client.public_bytes(Encoding.PEM))
        write_private(self.client_key, _pem(client_key))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.verify_mode = ssl.CERT_OPTIONAL
        self.context.load_verify_locations(self.ca)
        both = directory / "winrm-server.pem"
        write_private(both, _pem(server_key) + server.public_bytes(Encoding.PEM))
        try:
            self.context.load_cert_chain(both)
        finally:
            both.unlink()


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    authority_key: ec.EllipticCurvePrivateKey,
    names: x509.SubjectAlternativeName | None = None,
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "fas-evidence demo WinRM CA")]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=key is authority_key, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
    )
    if names is not None:
        builder = builder.add_extension(names, critical=False)
    return builder.sign(authority_key, hashes.SHA256())


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def write_private(file: Path, data: bytes) -> None:
    """Write a file anew that only its owner may read."""
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(data)
