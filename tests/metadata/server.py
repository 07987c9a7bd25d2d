"""A scripted HTTPS server of metadata, its certificate authority, and names that resolve as a test wants.

    with MetadataServer() as server:
        server.serve("/md", document=b"<md:EntityDescriptor .../>", etag='"1"')
        source = Source(url=server.url("/md"), ca_pem=server.ca_pem)
        fetched = fetch(source, LOOPBACK, resolve=server.names())
        assert server.requests("/md") == 1

It listens on 127.0.0.1 and shows a certificate for `idp.example`, `localhost` and 127.0.0.1 until `present` exchanges
it. Scripts and certificate may change at any time; each connection serves one request with what is set when it comes.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import socket
import socketserver
import ssl
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from enum import Enum
from http.client import parse_headers
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from idp_certs.fetch import FetchRules

HOST = "idp.example"
ENDLESS = 1 << 40
"""A length that no test reads to its end."""
LOOPBACK = FetchRules(allow_loopback=True)
"""The rules under which this server can be fetched from."""
_CHUNK = b"<!-- -->" * 1024


class Shows(Enum):
    """The certificate that the server shows."""

    GOOD = "by our authority, for idp.example, localhost and 127.0.0.1, in date"
    RENEWED = "the same with another key"
    WRONG_NAME = "for other.example"
    EXPIRED = "ended yesterday"
    NOT_YET = "begins tomorrow"
    SELF_SIGNED = "by its own key"
    OTHER_CA = "by another authority"
    OLD_TLS = "good, but the server speaks only TLS 1.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What is answered for one path.

    `raw` replaces the whole answer, status line and headers included. `length` bytes of filling follow the document
    and are not announced (`ENDLESS`: until the client goes). `delay` is waited before the first byte; with `drip` the
    answer goes out byte by byte with that many seconds between.
    """

    document: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    etag: str | None = None
    last_modified: str | None = None
    raw: bytes | None = None
    length: int = 0
    delay: float = 0.0
    drip: float = 0.0


class Names:
    """A `resolve` that knows these names only.

    Each name has a list of answers, each a list of addresses: the first lookup gets the first, and the last answer
    stays. `asked` holds the names in the order of their lookups.
    """

    def __init__(self, answers: Mapping[str, Sequence[Sequence[str]]]) -> None:
        """Keep a copy."""
        self._answers = {name: list(lists) for name, lists in answers.items()}
        self.asked: list[str] = []

    def __call__(
        self,
        host: str,
        port: int,
        *,
        type: socket.SocketKind,  # noqa: A002 - getaddrinfo's own name
    ) -> list[tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str, int]]]:
        """As `socket.getaddrinfo` answers."""
        self.asked.append(host)
        lists = self._answers.get(host)
        if lists is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        addresses = lists.pop(0) if len(lists) > 1 else lists[0]
        return [
            (socket.AF_INET6 if ":" in address else socket.AF_INET, type, socket.IPPROTO_TCP, "", (address, port))
            for address in addresses
        ]


class MetadataServer:
    """The server; a context manager. `tls=False` listens for plain HTTP."""

    def __init__(self, *, tls: bool = True) -> None:
        """Make authority and certificates, and listen on a free port of 127.0.0.1 from now on."""
        self._tls = tls
        self._scripts: dict[str, Script] = {}
        self._asked: dict[str, list[Mapping[str, str]]] = {}
        self._lock = threading.Lock()
        self.connections = 0
        """TCP connections accepted."""
        self.sent = 0
        """Bytes given to the socket as answers."""
        self.server_names: list[str | None] = []
        """The TLS server name (SNI) of each handshake."""
        self.stopping = threading.Event()
        self._authority, self._other = _Authority("Test CA"), _Authority("Other CA")
        self._shown: dict[Shows, tuple[ssl.SSLContext, bytes]] = {}
        self._shows = Shows.GOOD
        self._server = _Listener(("127.0.0.1", 0), self)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Close the listener and end what still goes out; the port refuses from then on."""
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def ca_pem(self) -> str:
        """The certificate of the authority, for `Source.ca_pem`."""
        return self._authority.pem

    @property
    def leaf_sha256(self) -> str:
        """SHA-256 (hex) of the certificate that is shown at present, for `Source.pin_sha256`."""
        return hashlib.sha256(self._identity(self._shows)[1]).hexdigest()

    @property
    def leaf_pem(self) -> str:
        """The certificate that is shown at present."""
        return ssl.DER_cert_to_PEM_cert(self._identity(self._shows)[1])

    @property
    def ca_sha256(self) -> str:
        """SHA-256 (hex) of the authority's certificate, which is shown after the leaf."""
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.ca_pem)).hexdigest()

    def url(self, path: str, *, host: str = HOST) -> str:
        """The address of `path` at this server."""
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}{path}"

    def names(self) -> Names:
        """A `resolve` for which `idp.example` is this server."""
        return Names({HOST: [["127.0.0.1"]]})

    def present(self, shows: Shows) -> None:
        """Show this certificate from the next handshake on."""
        self._shows = shows

    def serve(
        self,
        path: str,
        document: bytes = b"",
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        etag: str | None = None,
        *,
        last_modified: str | None = None,
        raw: bytes | None = None,
        length: int = 0,
        delay: float = 0.0,
        drip: float = 0.0,
    ) -> None:
        """Answer `path` like this from now on (see `Script`); other paths are 404.

        With `etag` or `last_modified`, a request that names the same is answered 304.
        """
        self._scripts[path] = Script(
            document=document,
            status=status,
            headers=headers or {},
            etag=etag,
            last_modified=last_modified,
            raw=raw,
            length=length,
            delay=delay,
            drip=drip,
        )

    def redirect(self, path: str, location: str, status: int = 302) -> None:
        """Answer `path` with a redirect."""
        self.serve(path, status=status, headers={"Location": location})

    def requests(self, path: str) -> int:
        """How often `path` was asked for."""
        return len(self.asked(path))

    def asked(self, path: str) -> list[Mapping[str, str]]:
        """The headers of each request for `path`, names in lower case."""
        with self._lock:
            return list(self._asked.get(path, ()))

    def _identity(self, shows: Shows) -> tuple[ssl.SSLContext, bytes]:
        with self._lock:
            if shows not in self._shown:
                self._shown[shows] = _identity(shows, self._authority, self._other)
                self._shown[shows][0].sni_callback = lambda _socket, name, _context: self.server_names.append(name)
            return self._shown[shows]

    def answer(self, connection: socket.socket) -> None:
        """Serve one connection, from a thread of its own."""
        self.connections += 1
        connection.settimeout(60)
        if self._tls:
            context, _leaf = self._identity(self._shows)
            connection = context.wrap_socket(connection, server_side=True)
        elif connection.recv(1, socket.MSG_PEEK) == b"\x16":  # a TLS handshake
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
            return
        with connection, connection.makefile("rb") as reader:
            asked = _read_request(reader)
            if asked is None:
                return
            path, headers = asked
            script = self._scripts.get(path, Script(status=404))
            with self._lock:
                self._asked.setdefault(path, []).append(headers)
            self.stopping.wait(script.delay)
            for part in _parts(script, headers):
                if self.stopping.is_set():
                    return
                connection.sendall(part)
                self.sent += len(part)
                if script.drip:
                    self.stopping.wait(script.drip)


class _Listener(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], owner: MetadataServer) -> None:
        self.owner = owner
        super().__init__(address, _Connection)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes in the middle is what many tests are about."""


class _Connection(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        cast(_Listener, self.server).owner.answer(self.request)


def _read_request(reader: BinaryIO) -> tuple[str, Mapping[str, str]] | None:
    words = reader.readline(65536).decode("latin-1").split()
    if len(words) != 3:
        return None
    headers = parse_headers(reader)
    return words[1], {name.lower(): value for name, value in headers.items()}


def _parts(script: Script, asked: Mapping[str, str]) -> Iterator[bytes]:
    whole = _bytes(script, asked) if script.raw is None else iter([script.raw])
    if not script.drip:
        return whole
    return (bytes([byte]) for part in whole for byte in part)


def _bytes(script: Script, asked: Mapping[str, str]) -> Iterator[bytes]:
    same = (script.etag is not None and asked.get("if-none-match") == script.etag) or (
        script.etag is None
        and script.last_modified is not None
        and asked.get("if-modified-since") == script.last_modified
    )
    status = 304 if same else script.status
    headers = {"Date": format_datetime(datetime.now(UTC), usegmt=True), "Connection": "close"}
    if script.etag is not None:
        headers["ETag"] = script.etag
    if script.last_modified is not None:
        headers["Last-Modified"] = script.last_modified
    if status != 304 and not script.length:
        headers["Content-Length"] = str(len(script.document))
    headers |= script.headers
    lines = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {value}" for name, value in headers.items() if value)]
    yield "\r\n".join([*lines, "", ""]).encode("latin-1")
    if status == 304:
        return
    if script.document:
        yield script.document
    left = script.length
    while left > 0:
        yield _CHUNK[:left]
        left -= len(_CHUNK)


class _Authority:
    """A certificate authority that lives as long as the server."""

    def __init__(self, name: str) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = _certificate(name, self.key.public_key(), name, self.key, authority=True)
        self.pem = self.certificate.public_bytes(serialization.Encoding.PEM).decode()


def _certificate(
    subject: str,
    public_key: ec.EllipticCurvePublicKey,
    issuer: str,
    signer: ec.EllipticCurvePrivateKey,
    *,
    names: Sequence[x509.GeneralName] = (),
    begins: timedelta = timedelta(days=-30),
    ends: timedelta = timedelta(days=30),
    authority: bool = False,
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(signer, hashes.SHA256())


def _identity(shows: Shows, authority: _Authority, other: _Authority) -> tuple[ssl.SSLContext, bytes]:
    """A server context that shows this certificate, and the certificate's DER."""
    key = ec.generate_private_key(ec.SECP256R1())
    ours = [x509.DNSName(HOST), x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    names = [x509.DNSName("other.example")] if shows is Shows.WRONG_NAME else ours
    signer = {Shows.OTHER_CA: other, Shows.SELF_SIGNED: None}.get(shows, authority)
    certificate = _certificate(
        HOST,
        key.public_key(),
        HOST if signer is None else signer.certificate.subject.rfc4514_string().removeprefix("CN="),
        key if signer is None else signer.key,
        names=names,
        begins=timedelta(days=1 if shows is Shows.NOT_YET else -30),
        ends=timedelta(days=-1 if shows is Shows.EXPIRED else 30),
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if shows is Shows.OLD_TLS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1_1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
    chain = [certificate] if signer is None else [certificate, signer.certificate]
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + b"".join(each.public_bytes(serialization.Encoding.PEM) for each in chain)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "identity.pem"
        file.write_bytes(pem)
        context.load_cert_chain(file)
    return context, certificate.public_bytes(serialization.Encoding.DER)


@contextlib.contextmanager
def silent_listener() -> Iterator[int]:
    """A port that takes connections and never says anything; gives the port."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listener:
        yield listener.getsockname()[1]
