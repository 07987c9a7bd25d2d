"""The listener's certificate: refused clearly, exchanged without a restart, and never an old protocol."""

from __future__ import annotations

import shutil
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from evidence_service.web.tls import ServerTls, TlsError
from tests.web.listening import PATIENCE, Identity, client_context, identity


@pytest.fixture
def server(tmp_path: Path) -> Identity:
    """The server's identity."""
    return identity(tmp_path, "server")


def handshake(tls: ServerTls, client: ssl.SSLContext) -> tuple[str, bytes]:
    """One handshake over a socket pair: protocol version and the certificate that the client saw."""
    ours, theirs = socket.socketpair()
    ours.settimeout(PATIENCE)
    theirs.settimeout(PATIENCE)
    failure: list[Exception] = []

    def accept() -> None:
        try:
            with tls.context.wrap_socket(ours, server_side=True) as connection:
                connection.sendall(b"x")
        except (ssl.SSLError, OSError) as error:
            failure.append(error)
            ours.close()

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        with client.wrap_socket(theirs, server_hostname="127.0.0.1") as connection:
            connection.recv(1)
            return str(connection.version()), connection.getpeercert(binary_form=True) or b""
    finally:
        thread.join()


def test_a_new_server_certificate_is_taken_from_its_files(server: Identity, tmp_path: Path) -> None:
    """Handshakes after the exchange see the new certificate; nobody restarts anything (promise 85)."""
    tls = ServerTls(server.certificate, server.key)
    assert handshake(tls, client_context(server))[1] == server.der
    assert not tls.has_changed()
    renewed = identity(tmp_path / "renewed", "server")
    shutil.copy(renewed.certificate, server.certificate)
    shutil.copy(renewed.key, server.key)
    assert tls.has_changed()
    tls.reload()
    assert not tls.has_changed()
    assert handshake(tls, client_context(renewed))[1] == renewed.der


def test_a_half_exchanged_pair_leaves_the_old_one_in_use(server: Identity, tmp_path: Path) -> None:
    """Between the copying of certificate and key the listener works on with the old pair."""
    tls = ServerTls(server.certificate, server.key)
    renewed = identity(tmp_path / "renewed", "server")
    shutil.copy(renewed.certificate, server.certificate)
    with pytest.raises(TlsError, match=r"tls_key: .*server\.key is not the key of the certificate"):
        tls.reload()
    assert not tls.has_changed()
    assert handshake(tls, client_context(server))[1] == server.der
    shutil.copy(renewed.key, server.key)
    assert tls.has_changed()
    tls.reload()
    assert not tls.has_changed()
    assert handshake(tls, client_context(renewed))[1] == renewed.der


def _missing(server: Identity) -> None:
    server.key.unlink()


def _other_key(server: Identity) -> None:
    shutil.copy(identity(server.key.parent / "other", "other").key, server.key)


def _no_pem(server: Identity) -> None:
    server.certificate.write_bytes(b"not PEM")


def _encrypted(server: Identity) -> None:
    key = serialization.load_pem_private_key(server.key.read_bytes(), None)
    server.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_missing, r"tls_key: cannot read .*server\.key: No such file"),
        (_other_key, r"tls_key: .*server\.key is not the key of the certificate in .*server\.pem"),
        (_no_pem, r"tls_certificate, tls_key: .*server\.pem .* are not a PEM certificate and its key"),
        (_encrypted, r"tls_key: .*server\.key is encrypted"),
    ],
)
def test_an_unusable_pair_is_named(server: Identity, spoil: Callable[[Identity], None], said: str) -> None:
    """One line says which file and what is wrong with it."""
    spoil(server)
    with pytest.raises(TlsError, match=said) as caught:
        ServerTls(server.certificate, server.key)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_promise_85_old_protocols_are_refused(server: Identity) -> None:
    """TLS 1.2 and 1.3 are spoken, 1.1 is not, and neither is a suite without forward secrecy (promise 85)."""
    tls = ServerTls(server.certificate, server.key)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        client = client_context(server)
        client.minimum_version = client.maximum_version = version
        assert handshake(tls, client)[0] == version.name.replace("_", ".")
    old = client_context(server)
    old.set_ciphers("DEFAULT@SECLEVEL=0")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(tls, old)
    weak = client_context(server)
    weak.maximum_version = ssl.TLSVersion.TLSv1_2
    weak.set_ciphers("ECDHE-ECDSA-AES128-SHA")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(tls, weak)


def test_promise_85_an_expired_client_certificate_is_refused(server: Identity, tmp_path: Path) -> None:
    """Being enrolled does not make a certificate good beyond its dates (promise 85)."""
    expired = identity(tmp_path, "expired", days=-1)
    tls = ServerTls(server.certificate, server.key)
    tls.trust([expired.der])
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(tls, client_context(server, expired))
