"""The listener's TLS: mutual where the caller has a certificate, with each enrolled certificate its own anchor.

No certification authority is asked: the handshake proves that the peer holds the key of an enrolled certificate,
and `auth.py` decides by its thumbprint. Probes come without a certificate.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import structlog

_log = structlog.get_logger()

CIPHERS_TLS12 = "ECDHE+AESGCM:ECDHE+CHACHA20"  # forward secrecy and AEAD (ASVS 12.1.2); TLS 1.3 has no others


class TlsError(ValueError):
    """Certificate or key of the listener cannot be used; `str()` is one clear line that names the file."""


class _Reporting(ssl.SSLObject):
    """A connection that says why its handshake failed; the event loop keeps that to itself."""

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            _log.warning("handshake_refused", why=error.reason, verification=getattr(error, "verify_message", None))
            raise


def _new_context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS_TLS12)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.sslobject_class = _Reporting
    _load_pair(context, certificate, key)
    return context


def _load_pair(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    for member, path in (("tls_certificate", certificate), ("tls_key", key)):
        try:
            with path.open("rb"):
                pass
        except OSError as error:
            raise TlsError(f"{member}: cannot read {path}: {error.strerror}") from error

    def no_password() -> NoReturn:
        raise TlsError(f"tls_key: {key} is encrypted; give the key without a password, readable by the service only")

    try:
        context.load_cert_chain(certificate, key, password=no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise TlsError(f"tls_key: {key} is not the key of the certificate in {certificate}") from error
        raise TlsError(
            f"tls_certificate, tls_key: {certificate} and {key} are not a PEM certificate and its key"
            f" ({error.reason or 'unreadable'})"
        ) from error


class ServerTls:
    """The live context of the listener; both of its sides can change while connections come in."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Load the server's certificate. Raises TlsError."""
        self._certificate = certificate
        self._key = key
        self._anchors: set[bytes] = set()
        self.context = _new_context(certificate, key)
        self._stamp = self._stamps()

    def trust(self, certificates: Iterable[bytes]) -> tuple[bytes, ...]:
        """Accept handshakes with these certificates (DER); answers those that OpenSSL cannot use.

        One that is no longer enrolled stays until the next start: it passes the handshake and is then refused.
        """
        unusable = []
        for der in certificates:
            if der in self._anchors:
                continue
            try:
                self.context.load_verify_locations(cadata=der)
            except ssl.SSLError:
                unusable.append(der)
            else:
                self._anchors.add(der)
        return tuple(unusable)

    def has_changed(self) -> bool:
        """Whether the files of the server's certificate are others than those that were read last."""
        return self._stamps() != self._stamp

    def reload(self) -> None:
        """Take the server's certificate from its files again: new handshakes get it, open connections stay.

        To be called in the thread that makes connections, and in no other: OpenSSL copies certificate and key for each,
        and one that is made between the change of the one and of the other has no key. Raises TlsError, and then the
        old certificate stays in use; it is raised once per change.
        """
        self._stamp = self._stamps()
        _new_context(self._certificate, self._key)  # a pair that does not match would spoil the live context
        _load_pair(self.context, self._certificate, self._key)

    def _stamps(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_stamp(path) for path in (self._certificate, self._key))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
