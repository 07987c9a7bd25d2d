"""What a FAS server is given: a key with its certificate or certificate request, a PFX, and the plug-in's settings."""

from __future__ import annotations

import hashlib
import re
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from lxml import etree

from evidence_service.cli.errors import BadInput, DependencyFailed
from evidence_service.cli.files import MAX_SMALL, read_file, write_new
from evidence_service.trust_admin.texts import instant
from idp_certs.model import CertificateState, SigningCertificate
from plugin_bridge.client import SettingsError, read_settings

_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")  # also the limit of a common name
_CLOCK_DIFFERENCE = timedelta(minutes=5)
_SECRET = 0o600
_PUBLIC = 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFile:
    """A file to create. Content that is secret is readable by its owner alone."""

    what: str
    path: Path
    content: bytes
    mode: int = _SECRET


@dataclass(frozen=True, slots=True, kw_only=True)
class Shim:
    """What the plug-in's settings say beyond its own credential."""

    services: tuple[str, ...]
    server_pins: tuple[str, ...]
    store: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The FAS server that files are for, their directory, and what their names begin with."""

    name: str
    directory: Path
    stem: str

    def check(self) -> None:
        """Whether files can be made there. Raises BadInput."""
        if not _FILE_NAME.fullmatch(self.name):
            raise BadInput(
                f"NAME {self.name!r} names the files too: 1 to 64 letters, digits, dots, hyphens and underscores, "
                "as in fas1.corp.example"
            )
        if not self.directory.is_dir():
            raise BadInput(f"--out: {self.directory} is not a directory; create it first")

    def path(self, ending: str) -> Path:
        """One of the files."""
        return self.directory / f"{self.stem}{ending}"


def check_new(files: Iterable[NewFile]) -> None:
    """Whether none of them is there yet. Raises BadInput."""
    for file in files:
        if file.path.exists() or file.path.is_symlink():
            raise BadInput(f"{file.path} exists already and is not overwritten; name another directory with --out")


@contextmanager
def written(files: Iterable[NewFile]) -> Iterator[None]:
    """Create the files; they go again if that or anything in the `with` block fails. Raises DependencyFailed."""
    made: list[Path] = []
    try:
        for file in files:
            try:
                write_new(file.path, file.content, mode=file.mode, made=made)
            except OSError as problem:
                raise DependencyFailed(
                    f"{file.path} cannot be written: {problem.strerror}; check {file.path.parent}"
                ) from None
        yield
    except BaseException:
        for path in made:
            path.unlink(missing_ok=True)
        raise


def new_key() -> ec.EllipticCurvePrivateKey:
    """A key for a client certificate."""
    return ec.generate_private_key(ec.SECP256R1())


def certificate_for(name: str, key: ec.EllipticCurvePrivateKey, now: datetime, validity: timedelta) -> x509.Certificate:
    """A self-signed client certificate: the service trusts each enrolled certificate by itself."""
    return (
        x509.CertificateBuilder()
        .subject_name(_subject(name))
        .issuer_name(_subject(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_DIFFERENCE)
        .not_valid_after(now + validity)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )


def key_files(target: Target, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> tuple[NewFile, ...]:
    """Key and certificate as two PEM files."""
    return (_key_file(target, key), _certificate_file(target, certificate))


def request_files(target: Target, key: ec.EllipticCurvePrivateKey, path: Path) -> tuple[NewFile, ...]:
    """The key, and a certificate request for it, which a CA can answer, at `path`."""
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(_subject(target.name))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    content = request.public_bytes(Encoding.PEM)
    return (_key_file(target, key), NewFile(what="certificate request", path=path, content=content, mode=_PUBLIC))


def plugin_files(
    target: Target, shim: Shim, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate
) -> tuple[tuple[NewFile, ...], str]:
    """PFX, certificate and settings of a plug-in, and the password of the PFX. Raises BadInput.

    The password stands in the settings, unless the certificate is to be imported into the store of Windows. The key
    is in the PFX only.
    """
    password = secrets.token_urlsafe(32)
    pfx = NewFile(
        what="private key (PFX)", path=target.path(".pfx"), content=_pfx(target.name, key, certificate, password)
    )
    settings = settings_file(target, shim, certificate, None if shim.store else (pfx.path.name, password))
    return (pfx, _certificate_file(target, certificate), settings), password


def settings_file(target: Target, shim: Shim, certificate: x509.Certificate, pfx: tuple[str, str] | None) -> NewFile:
    """The plug-in's settings: with the PFX beside them (name, password), or the certificate in the store of Windows.

    Raises BadInput where the plug-in would refuse them.
    """

    def document(password: str) -> bytes:
        credential = [("ClientCertificateThumbprint", certificate.fingerprint(hashes.SHA256()).hex())]
        if pfx is not None:
            credential = [("ClientCertificateFile", pfx[0]), ("ClientCertificatePassword", password)]
        services = [("Service", each) for each in shim.services]
        pins = [("ServerPin", each) for each in shim.server_pins]
        return _document([*services, *pins, *credential, ("FasServer", target.name)])

    try:
        with tempfile.TemporaryDirectory() as trial:
            path = Path(trial) / "EvidencePlugin.xml"
            path.write_bytes(document("trial"))
            if pfx is not None:
                (path.parent / pfx[0]).touch()
            read_settings(path)
    except SettingsError as problem:
        member, _, text = str(problem).partition(": ")
        raise BadInput(f"{'--service' if member == 'Service' else member}: {text}") from None
    content = document("" if pfx is None else pfx[1])
    return NewFile(what="settings", path=target.path(".EvidencePlugin.xml"), content=content)


def client_certificate(path: Path, now: datetime) -> x509.Certificate:
    """The one certificate in a PEM file, which must be usable in a handshake today. Raises BadInput."""
    found = _certificates(path, "certificate file", "the client certificate")
    if len(found) != 1:
        raise BadInput(f"certificate file {path} holds {len(found)} certificates; give the client certificate alone")
    try:
        known = SigningCertificate(
            der=found[0].public_bytes(Encoding.DER), state=CertificateState.TRUSTED, since=now, provenance=str(path)
        )
    except ValueError as problem:
        raise BadInput(f"certificate file {path}: {problem}") from None
    if not known.has_strong_key:
        raise BadInput(
            f"certificate file {path}: {known.key_description} is too weak; use RSA 2048 or EC P-256 at least"
        )
    _check_end(f"certificate file {path}", found[0], now)
    return found[0]


def server_pin(path: Path, now: datetime) -> str:
    """The SHA-256 (hex) of the service's certificate: the first in a PEM file, before its chain. Raises BadInput."""
    certificate = _certificates(path, "server certificate", "the service's own certificate")[0]
    _check_end(f"server certificate {path}", certificate, now)
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def _certificates(path: Path, what: str, wanted: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(read_file(path, what, limit=MAX_SMALL))
    except ValueError:
        raise BadInput(f"{what} {path} holds no certificate in PEM form; give {wanted}") from None


def _check_end(what: str, certificate: x509.Certificate, now: datetime) -> None:
    if now > certificate.not_valid_after_utc:
        raise BadInput(f"{what}: expired at {instant(certificate.not_valid_after_utc)}; give one that is valid")


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _key_file(target: Target, key: ec.EllipticCurvePrivateKey) -> NewFile:
    content = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return NewFile(what="private key", path=target.path(".key.pem"), content=content)


def _certificate_file(target: Target, certificate: x509.Certificate) -> NewFile:
    content = certificate.public_bytes(Encoding.PEM)
    return NewFile(what="certificate", path=target.path(".crt.pem"), content=content, mode=_PUBLIC)


def _pfx(name: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate, password: str) -> bytes:
    # The only form that Windows Server 2016 reads; what protects the key is the random password.
    form = (
        PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(2000)
        .key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC)
        .hmac_hash(hashes.SHA1())  # noqa: S303 - as above
        .build(password.encode())
    )
    return pkcs12.serialize_key_and_certificates(name.encode(), key, certificate, None, form)


def _document(members: Iterable[tuple[str, str]]) -> bytes:
    root = etree.Element("EvidencePlugin")
    for name, value in members:
        try:
            etree.SubElement(root, name).text = value
        except ValueError:
            raise SettingsError(f"{name}: {value!r} cannot stand in XML") from None
    return etree.tostring(root, encoding="utf-8", xml_declaration=True, pretty_print=True)
