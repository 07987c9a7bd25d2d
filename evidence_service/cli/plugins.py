"""`plugin`: which FAS servers may ask, and the credentials they ask with."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from evidence_service.adapters.config_store import ConfigStore, StoredPlugin
from evidence_service.cli import output
from evidence_service.cli.errors import BadInput, ExitCode, NothingFound
from evidence_service.cli.output import Cell, Output
from evidence_service.cli.plugin_files import (
    NewFile,
    Shim,
    Target,
    certificate_for,
    check_new,
    client_certificate,
    key_files,
    new_key,
    plugin_files,
    request_files,
    server_pin,
    settings_file,
    written,
)
from evidence_service.cli.session import Session, actor, confirm_typed
from evidence_service.trust_admin.texts import instant, moment

DEFAULT_DAYS = 825


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What was said about a new credential; `services` and what follows are about the plug-in's settings file."""

    certificate: Path | None = None
    bearer: bool = False
    csr_out: Path | None = None
    out: Path | None = None
    days: int | None = None
    services: tuple[str, ...] = ()
    server_certificates: tuple[Path, ...] = ()
    store: bool = False

    def check(self) -> None:
        """Whether the options fit together. Raises BadInput."""
        ways = (self.certificate is not None, self.bearer, self.csr_out is not None)
        if sum(ways) > 1:
            raise BadInput("--certificate, --bearer and --csr-out exclude each other; give one of them")
        if self.days is not None and any(ways):
            raise BadInput(
                "--days belongs to a new certificate; leave it out with --certificate, --bearer and --csr-out"
            )
        if self.services and (self.bearer or self.csr_out is not None):
            raise BadInput("--service needs a certificate: give it with a new one, or with --certificate")
        if (self.store or self.server_certificates) and not self.services:
            raise BadInput("--store and --server-certificate are about the settings file; give --service too")
        if self.out is not None and (self.bearer or (self.certificate is not None and not self.services)):
            raise BadInput("--out: no file is written with --bearer, or with --certificate without --service")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Credential:
    """A credential that is not enrolled yet. `secret` is shown once: a line that says what it is, and the value."""

    certificate: x509.Certificate | None = None
    key: str | None = None
    files: tuple[NewFile, ...] = ()
    secret: tuple[str, str] | None = None

    @property
    def der(self) -> bytes | None:
        return None if self.certificate is None else self.certificate.public_bytes(Encoding.DER)

    @property
    def key_sha256(self) -> str | None:
        return None if self.key is None else hashlib.sha256(self.key.encode("ascii")).hexdigest()


def enroll(session: Session, name: str, wanted: Wanted, *, dry_run: bool) -> int:
    """Enroll a plug-in with a new certificate, a given one, or a bearer key."""
    return _add(session, name, wanted, rotating=False, dry_run=dry_run)


def rotate(session: Session, name: str, wanted: Wanted, *, finish: bool, confirmed: bool, dry_run: bool) -> int:
    """Give an enrolled plug-in a second credential, or with `finish` end the first."""
    if not finish:
        return _add(session, name, wanted, rotating=True, dry_run=dry_run)
    if wanted != Wanted():
        raise BadInput("--finish makes no new credential; leave out the other options")
    with session.store() as engine:
        store = ConfigStore(engine)
        good = [each for each in _enrolled(store, name) if each.problem is None]
        if len(good) < 2:
            raise NothingFound(f"no rotation of {name!r} is under way; `fas-evidence plugin list` shows all")
        *old, kept = good
        if not dry_run:
            ends = f"{name} can ask with its newest credential only, SHA-256 {kept.fingerprint}."
            confirm_typed(ends, name, confirmed=confirmed)
            for each in old:
                store.revoke_plugin(name, fingerprint=each.fingerprint, now=datetime.now(UTC), actor=actor())
    for each in old:
        output.line(f"The {each.kind.value} {each.fingerprint} {'would be' if dry_run else 'is'} revoked.")
    if dry_run:
        output.nothing_changed()
    else:
        output.line(f"Plug-in {name} goes on with {kept.fingerprint}.")
    return ExitCode.DONE


def _add(session: Session, name: str, wanted: Wanted, *, rotating: bool, dry_run: bool) -> int:
    """Make the credential, write its files, then register it; what was written goes if that fails."""
    wanted.check()
    now = datetime.now(UTC)
    if wanted.csr_out is not None:
        return _request(name, wanted, wanted.csr_out, now, rotating=rotating, dry_run=dry_run)
    made = _credential(session, name, wanted, now, rotating=rotating)
    check_new(made.files)

    def register(*, dry_run: bool) -> None:
        with session.store_or_empty() if dry_run else session.store(create=True) as engine:
            ConfigStore(engine).enroll_plugin(
                name=name,
                certificate_der=made.der,
                bearer_key_sha256=made.key_sha256,
                now=now,
                actor=actor(),
                rotating=rotating,
                dry_run=dry_run,
            )

    register(dry_run=True)
    if dry_run:
        output.line(f"Plug-in {name} would be {'given a second credential' if rotating else 'enrolled'}.")
        for file in made.files:
            output.line(f"Would be written: {file.path}")
        output.nothing_changed()
        return ExitCode.DONE
    with written(made.files):
        register(dry_run=False)
    _tell(name, made, rotating=rotating)
    return ExitCode.DONE


def _tell(name: str, made: _Credential, *, rotating: bool) -> None:
    output.line(f"Plug-in {name} {'has a second credential' if rotating else 'is enrolled'}.")
    facts: list[tuple[str, object]] = [(file.what, file.path) for file in made.files]
    if made.der is not None and made.certificate is not None:
        facts.append(("SHA-256", hashlib.sha256(made.der).hexdigest()))
        facts.append(("valid until", made.certificate.not_valid_after_utc))
    output.facts(facts)
    if rotating:
        output.line(f"When the plug-in uses it, end the old one: fas-evidence plugin rotate {name} --finish")
    if made.secret is not None:
        for line in made.secret:
            output.line(line)


def _credential(session: Session, name: str, wanted: Wanted, now: datetime, *, rotating: bool) -> _Credential:
    if wanted.bearer:
        key = secrets.token_urlsafe(32)
        return _Credential(key=key, secret=("The key, shown this once; it works on a loopback listener only:", key))
    target = _target(name, wanted, now, rotating=rotating)
    if wanted.certificate is not None:
        given = client_certificate(wanted.certificate, now)
        if not wanted.services:
            return _Credential(certificate=given)
        target.check()
        return _Credential(certificate=given, files=(settings_file(target, _shim(session, wanted, now), given, None),))
    target.check()
    key_pair = new_key()
    certificate = certificate_for(name, key_pair, now, timedelta(days=wanted.days or DEFAULT_DAYS))
    if not wanted.services:
        return _Credential(certificate=certificate, files=key_files(target, key_pair, certificate))
    files, password = plugin_files(target, _shim(session, wanted, now), key_pair, certificate)
    secret = ("The password of the PFX, shown this once:", password) if wanted.store else None
    return _Credential(certificate=certificate, files=files, secret=secret)


def _target(name: str, wanted: Wanted, now: datetime, *, rotating: bool) -> Target:
    """Files of a rotation never have the names of files that the plug-in still uses."""
    stem = f"{name}.{now:%Y%m%dT%H%M%SZ}" if rotating else name
    return Target(name=name, directory=wanted.out or Path(), stem=stem)


def _shim(session: Session, wanted: Wanted, now: datetime) -> Shim:
    paths = wanted.server_certificates
    if not paths:
        configured = session.settings().tls_certificate
        if configured is None:
            raise BadInput("--server-certificate: give the service's certificate, as no tls_certificate is set here")
        paths = (configured,)
    pins = tuple(dict.fromkeys(server_pin(path, now) for path in paths))
    return Shim(services=wanted.services, server_pins=pins, store=wanted.store)


def _request(name: str, wanted: Wanted, path: Path, now: datetime, *, rotating: bool, dry_run: bool) -> int:
    """Write a new key and a certificate request for it. Nothing is registered."""
    target = _target(name, wanted, now, rotating=rotating)
    target.check()
    files = request_files(target, new_key(), path)
    check_new(files)
    if dry_run:
        for file in files:
            output.line(f"Would be written: {file.path}")
        output.nothing_changed()
        return ExitCode.DONE
    with written(files):
        output.facts((file.what, file.path) for file in files)
    act = "rotate" if rotating else "enroll"
    output.line(f"Nothing is enrolled yet. With the certificate: fas-evidence plugin {act} {name} --certificate PEM")
    return ExitCode.DONE


def list_plugins(session: Session, form: Output) -> int:
    """Print all credentials of plug-ins."""
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
            state = Cell(value=f"revoked {moment(plugin.revoked_at)}", style="bold red")
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


def _enrolled(store: ConfigStore, name: str) -> list[StoredPlugin]:
    """The credentials of this plug-in that were not revoked, oldest first."""
    return [each for each in store.list_plugins() if each.name == name and each.revoked_at is None]


def revoke(session: Session, name: str, *, sha256: str | None, confirmed: bool, dry_run: bool) -> int:
    """Revoke a plug-in, or one of its credentials, after its name was typed or with --yes."""
    with session.store() as engine:
        store = ConfigStore(engine)
        enrolled = _enrolled(store, name)
        chosen = [each for each in enrolled if sha256 is None or each.fingerprint == sha256.lower()]
        if not enrolled:
            raise NothingFound(f"no plug-in {name!r} is enrolled; `fas-evidence plugin list` shows all")
        if not chosen:
            raise NothingFound(f"{name!r} has no credential {sha256!r}; `fas-evidence plugin list` shows all")
        whole = len(chosen) == len(enrolled)
        what = f"Plug-in {name}" if whole else f"The {chosen[0].kind.value} {chosen[0].fingerprint} of {name}"
        if dry_run:
            output.line(f"{what} would be revoked.")
            output.nothing_changed()
            return ExitCode.DONE
        denies = "every launch through that FAS server" if whole else "every launch that is asked for with it"
        confirm_typed(f"Revoking {what[:1].lower()}{what[1:]} denies {denies}.", name, confirmed=confirmed)
        store.revoke_plugin(name, fingerprint=sha256, now=datetime.now(UTC), actor=actor())
    output.line(f"{what} is revoked.")
    return ExitCode.DONE
