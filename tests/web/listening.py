"""Real listeners and blunt clients: sockets that send what a good client never would."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.types import ASGIApp

from evidence_service.web.transport import Implementation, TransportLimits, guarded_protocol

PATIENCE = 60.0
"""Seconds after which what was waited for is held never to come."""


@contextlib.contextmanager
def listening(
    app: ASGIApp, limits: TransportLimits, implementation: Implementation, *, tls: ssl.SSLContext | None = None
) -> Iterator[int]:
    """Serve `app` on a free loopback port from a thread; gives the port."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        app,
        http=guarded_protocol(limits, implementation),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=1,
        h11_max_incomplete_event_size=limits.max_header_bytes,
        ssl_context_factory=None if tls is None else lambda _config, _default: tls,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
    thread.start()
    try:
        until = time.monotonic() + PATIENCE
        while not server.started and time.monotonic() < until:
            time.sleep(0.01)
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def connected(port: int) -> socket.socket:
    """A plain connection."""
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


def is_closed(connection: socket.socket, within: float = PATIENCE) -> bool:
    """Whether the peer ends the connection in this time; what it says before is thrown away."""
    until = time.monotonic() + within
    while (left := until - time.monotonic()) > 0:
        connection.settimeout(left)
        try:
            if not connection.recv(65536):
                return True
        except TimeoutError:
            return False
        except OSError:
            return True
    return False


def answer_of(connection: socket.socket) -> bytes:
    """Everything the peer says until it closes or has sent one complete answer with a length."""
    received = b""
    connection.settimeout(PATIENCE)
    while True:
        head, separator, rest = received.partition(b"\r\n\r\n")
        if separator:
            lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            if lengths and len(rest) >= int(lengths[0].split(b":")[1]):
                return received
        try:
            more = connection.recv(65536)
        except ConnectionError:
            return received
        if not more:
            return received
        received += more


def request(body: bytes = b"", *, path: str = "/", method: str = "POST", headers: str = "") -> bytes:
    """One HTTP/1.1 request."""
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A key and its self-signed certificate, in files for the TLS library."""

    certificate: Path
    key: Path
    der: bytes


def identity(directory: Path, name: str, *, days: int = 30) -> Identity:
    """A fresh elliptic-curve identity, good for a server on 127.0.0.1 and for a client; negative days: expired."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=60))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    directory.mkdir(parents=True, exist_ok=True)
    certificate_file, key_file = directory / f"{name}.pem", directory / f"{name}.key"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return Identity(
        certificate=certificate_file, key=key_file, der=certificate.public_bytes(serialization.Encoding.DER)
    )


def client_context(server: Identity, client: Identity | None = None) -> ssl.SSLContext:
    """Trusts exactly this server, and shows this client certificate."""
    context = ssl.create_default_context(cadata=server.der)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if client is not None:
        context.load_cert_chain(client.certificate, client.key)
    return context
