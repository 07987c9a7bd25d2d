"""AD FS's federation metadata, served over HTTPS on the loopback address by a certificate authority of its own."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from evidence_service.demo.service import HOST, DemoFailed

PATH = "/FederationMetadata/2007-06/FederationMetadata.xml"
_LOOK_SECONDS = 0.05
_CLIENT_SECONDS = 5.0


class Federation:
    """The server; a context manager. It is known by `ca_pem` alone, whose key nobody keeps."""

    def __init__(self, document: bytes, directory: Path) -> None:
        """Make authority and certificate, and listen on a free port; `directory` holds the key while it is read.

        Raises DemoFailed.
        """
        self._document = document
        context, self.ca_pem = _identity(directory)
        try:
            self._server = _Listener(context, self)
        except OSError as error:
            raise DemoFailed(
                f"no port on {HOST} for AD FS's metadata ({error.strerror}); end what uses them"
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_LOOK_SECONDS,), daemon=True)

    def __enter__(self) -> Self:
        """Serve from now on."""
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """Where the document is."""
        return f"https://{HOST}:{self._server.server_port}{PATH}"

    @property
    def document(self) -> bytes:
        """What is served."""
        return self._document

    def publish(self, document: bytes) -> None:
        """Serve this document from now on."""
        self._document = document


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, context: ssl.SSLContext, federation: Federation) -> None:
        self.federation = federation
        self._context = context
        super().__init__((HOST, 0), _Request)

    def get_request(self) -> tuple[socket.socket, object]:
        connection, address = super().get_request()
        connection.settimeout(_CLIENT_SECONDS)
        # Who never finishes a handshake holds up the thread of his own connection only.
        wrapped = self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return wrapped, address

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes, or does not know our authority, is not the demo's concern."""


class _Request(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        document = cast(_Listener, self.server).federation.document
        etag = f'"{hashlib.sha256(document).hexdigest()}"'
        if self.path != PATH:
            status, document = HTTPStatus.NOT_FOUND, b""
        elif self.headers.get("If-None-Match") == etag:
            status, document = HTTPStatus.NOT_MODIFIED, b""
        else:
            status = HTTPStatus.OK
        self.send_response(status)
        if status is not HTTPStatus.NOT_MODIFIED:
            self.send_header("Content-Type", "application/samlmetadata+xml")
            self.send_header("Content-Length", str(len(document)))
        if status is not HTTPStatus.NOT_FOUND:
            self.send_header("ETag", etag)
        self.end_headers()
        self.wfile.write(document)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - as inherited
        """Keep quiet."""


def _identity(directory: Path) -> tuple[ssl.SSLContext, str]:
    """A server context, and the certificate (PEM) of the authority that its certificate is by."""
    now = datetime.now(UTC)
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "fas-evidence demo CA")])
    server = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])

    def builder(subject: x509.Name, public_key: ec.EllipticCurvePublicKey, *, ca: bool) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(authority)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
            )
        )

    ca = builder(authority, authority_key.public_key(), ca=True).sign(authority_key, hashes.SHA256())
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))])
    leaf = builder(server, key.public_key(), ca=False).add_extension(names, critical=False)
    certificate = leaf.sign(authority_key, hashes.SHA256())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    file = directory / "federation.pem"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            out.write(certificate.public_bytes(Encoding.PEM))
        context.load_cert_chain(file)
    finally:
        file.unlink(missing_ok=True)
    return context, ca.public_bytes(Encoding.PEM).decode()
