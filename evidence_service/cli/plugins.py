"""`plugin`: which FAS servers may ask, and the credentials they ask with."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from evidence_service.adapters.config_store import ConfigStore, StoredPlugin
from evidence_service.cli import output
from evidence_service.cli.errors import BadInput, DependencyFailed, ExitCode, NothingFound
from evidence_service.cli.files import MAX_SMALL, read_file, write_new
from evidence_service.cli.output import Cell, Output, instant
from evidence_service.cli.session import Session, actor, confirm_typed
from idp_certs.model import CertificateState, SigningCertificate

DEFAULT_DAYS = 825
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")  # also the limit of a common name
_CLOCK_DIFFERENCE = timedelta(minutes=5)


def enroll(
    session: Session,
    name: str,
    *,
    certificate: Path | None,
    bearer: bool,
    out: Path | None,
    days: int | None,
    dry_run: bool,
) -> int:
    """Enroll a plug-in with a new certificate, a given one, or a bearer key."""
    if certificate is not None and bearer:
        raise BadInput("--certificate and --bearer are two ways to enroll; give one of them")
    if (certificate is not None or bearer) and (out is not None or days is not None):
        raise BadInput("--out and --days belong to a new certificate; leave them out with --certificate and --bearer")
    now = datetime.now(UTC)
    if certificate is not None:
        der = _client_certificate(certificate, now)
        _register(session, name, now, dry_run=dry_run, certificate_der=der)
        output.line(f"SHA-256 {hashlib.sha256(der).hexdigest()}")
    elif bearer:
        key = secrets.token_urlsafe(32)
        _register(
            session, name, now, dry_run=dry_run, bearer_key_sha256=hashlib.sha256(key.encode("ascii")).hexdigest()
        )
        if not dry_run:
            output.line("The key, shown this once; it works on a loopback listener only:")
            output.line(key)
    else:
        _enroll_new(session, name, out or Path(), timedelta(days=days or DEFAULT_DAYS), now, dry_run=dry_run)
    return ExitCode.DONE


def _register(
    session: Session,
    name: str,
    now: datetime,
    *,
    dry_run: bool,
    certificate_der: bytes | None = None,
    bearer_key_sha256: str | None = None,
) -> None:
    with session.store_or_empty() if dry_run else session.store(create=True) as engine:
        store = ConfigStore(engine)
        if dry_run:
            _check_name_is_free(store, name)
            output.line(f"Plug-in {name} would be enrolled.")
            return
        store.enroll_plugin(
            name=name,
            certificate_der=certificate_der,
            bearer_key_sha256=bearer_key_sha256,
            now=now,
            actor=actor(),
        )
    output.line(f"Plug-in {name} is enrolled.")


def _check_name_is_free(store: ConfigStore, name: str) -> None:
    if name in (plugin.name for plugin in store.list_plugins()):
        raise BadInput(f"{name!r} is already the name of a plug-in; choose another name")


def _enroll_new(
    session: Session, name: str, directory: Path, validity: timedelta, now: datetime, *, dry_run: bool
) -> None:
    """Write a new key and certificate, then register the certificate; what was written goes if that fails."""
    if not _FILE_NAME.fullmatch(name):
        raise BadInput(
            f"NAME {name!r} names the files too: 1 to 64 letters, digits, dots, hyphens and underscores, "
            "as in fas1.corp.example"
        )
    paths = directory / f"{name}.key.pem", directory / f"{name}.crt.pem"
    if not directory.is_dir():
        raise BadInput(f"--out: {directory} is not a directory; create it first")
    for path in paths:
        if path.exists() or path.is_symlink():
            raise BadInput(f"{path} exists already and is not overwritten; name another directory with --out")
    if dry_run:
        _register(session, name, now, dry_run=True)
        output.line(f"Its key would be written to {paths[0]}, its certificate to {paths[1]}.")
        return
    with session.store(create=True) as engine:
        _check_name_is_free(ConfigStore(engine), name)
    key, certificate = _new_certificate(name, now, validity)
    with _written(paths, (key, certificate.public_bytes(Encoding.PEM))):
        der = certificate.public_bytes(Encoding.DER)
        _register(session, name, now, dry_run=False, certificate_der=der)
    output.facts(
        (
            ("private key", paths[0]),
            ("certificate", paths[1]),
            ("SHA-256", hashlib.sha256(der).hexdigest()),
            ("valid until", certificate.not_valid_after_utc),
        )
    )


@contextmanager
def _written(paths: tuple[Path, Path], contents: tuple[bytes, bytes]) -> Iterator[None]:
    made: list[Path] = []
    try:
        for path, content, mode in zip(paths, contents, (0o600, 0o644), strict=True):
            try:
                write_new(path, content, mode=mode, made=made)
            except OSError as problem:
                raise DependencyFailed(f"{path} cannot be written: {problem.strerror}; check {path.parent}") from None
        yield
    except BaseException:
        for path in made:
            path.unlink(missing_ok=True)
        raise


def _new_certificate(name: str, now: datetime, validity: timedelta) -> tuple[bytes, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_DIFFERENCE)
        .not_valid_after(now + validity)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), certificate


def _client_certificate(path: Path, now: datetime) -> bytes:
    """The one certificate in a PEM file, which must be usable in a handshake today. Raises BadInput."""
    data = read_file(path, "certificate file", limit=MAX_SMALL)
    try:
        found = x509.load_pem_x509_certificates(data)
    except ValueError:
        raise BadInput(
            f"certificate file {path} holds no certificate in PEM form; give the client certificate"
        ) from None
    if len(found) != 1:
        raise BadInput(f"certificate file {path} holds {len(found)} certificates; give the client certificate alone")
    der = found[0].public_bytes(Encoding.DER)
    try:
        known = SigningCertificate(der=der, state=CertificateState.TRUSTED, since=now, provenance=str(path))
    except ValueError as problem:
        raise BadInput(f"certificate file {path}: {problem}") from None
    if not known.has_strong_key:
        raise BadInput(
            f"certificate file {path}: {known.key_description} is too weak; use RSA 2048 or EC P-256 at least"
        )
    if now > known.x509.not_valid_after_utc:
        raise BadInput(
            f"certificate file {path}: expired at {instant(known.x509.not_valid_after_utc)}; give one that is valid"
        )
    return der


def list_plugins(session: Session, form: Output) -> int:
    """Print all plug-in identities."""
    now = datetime.now(UTC)
    with session.store() as engine:
        stored = ConfigStore(engine).list_plugins()
    if form is Output.JSON:
        output.emit_json([_json(plugin) for plugin in stored])
        return ExitCode.DONE
    rows = []
    for plugin in stored:
        end = _end(plugin)
        state = Cell(value="enrolled", style="green")
        if plugin.revoked_at is not None:
            state = Cell(value=f"revoked {instant(plugin.revoked_at)}", style="bold red")
        elif end is not None and end < now:
            state = Cell(value="expired", style="bold red")
        rows.append(
            (plugin.name, plugin.kind.value, state, end, plugin.enrolled_at, plugin.enrolled_by, plugin.fingerprint)
        )
    columns = ("plug-in", "kind", "state", "valid until", "enrolled", "by", "SHA-256")
    output.table(columns, rows, nothing="No plug-in is enrolled. Enroll one: fas-evidence plugin enroll NAME")
    return ExitCode.DONE


def _end(plugin: StoredPlugin) -> datetime | None:
    if plugin.certificate_der is None:
        return None
    try:
        return x509.load_der_x509_certificate(plugin.certificate_der).not_valid_after_utc
    except ValueError:
        return None


def _json(plugin: StoredPlugin) -> dict[str, object]:
    end = _end(plugin)
    return {
        "name": plugin.name,
        "kind": plugin.kind.value,
        "sha256": plugin.fingerprint,
        "valid_until": None if end is None else instant(end),
        "enrolled_at": instant(plugin.enrolled_at),
        "enrolled_by": plugin.enrolled_by,
        "revoked_at": None if plugin.revoked_at is None else instant(plugin.revoked_at),
    }


def revoke(session: Session, name: str, *, confirmed: bool, dry_run: bool) -> int:
    """Revoke an enrolled plug-in, after its name was typed or with --yes."""
    with session.store() as engine:
        store = ConfigStore(engine)
        if name not in (plugin.name for plugin in store.list_plugins() if plugin.revoked_at is None):
            raise NothingFound(f"no plug-in {name!r} is enrolled; `fas-evidence plugin list` shows all")
        if dry_run:
            output.line(f"Plug-in {name} would be revoked.")
            return ExitCode.DONE
        confirm_typed(f"Revoking {name} denies every launch through that FAS server.", name, confirmed=confirmed)
        store.revoke_plugin(name, now=datetime.now(UTC), actor=actor())
    output.line(f"Plug-in {name} is revoked.")
    return ExitCode.DONE
