"""`serve`, `admin`, `work`, `run`, `demo`, `db upgrade` and `config validate`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from evidence_service.access.model import Mode
from evidence_service.access.policy import policy_problems
from evidence_service.adapters.config_store import ConfigStore, PluginKind, StoredIdp
from evidence_service.adapters.database import SCHEMA_REVISION, StoreUnavailable, open_database, upgrade, writing
from evidence_service.adapters.snapshots import KeyUnreadable, load_decryption_key
from evidence_service.cli import output
from evidence_service.cli.errors import ExitCode
from evidence_service.cli.output import Cell, Output
from evidence_service.cli.session import Session, unusable
from evidence_service.renewal_admin.acts import RenewalAdmin
from evidence_service.renewal_settings import RenewalSettings, renewal_of, renewal_warnings
from evidence_service.settings import Settings, SettingsError
from evidence_service.trust_admin.texts import instant
from evidence_service.web.tls import ServerTls, TlsError
from idp_certs.model import GOOD

_SOON = timedelta(days=30)


def serve(
    session: Session, *, host: str | None, port: int | None, tls_certificate: Path | None, tls_key: Path | None
) -> int:
    """Serve the plug-ins until told to stop."""
    settings = session.settings(listen_host=host, listen_port=port, tls_certificate=tls_certificate, tls_key=tls_key)
    from evidence_service.serve import run  # noqa: PLC0415 - after the settings, which are refused at once

    return run(settings)


def admin(session: Session, *, host: str | None, port: int | None) -> int:
    """Serve the admin API until told to stop."""
    settings = session.settings(admin_host=host, admin_port=port)
    from evidence_service.admin import run  # noqa: PLC0415 - as above

    return run(settings)


def work(session: Session, *, once: bool) -> int:
    """Keep trust current until told to stop, or once."""
    settings = session.settings()
    from evidence_service.work import run  # noqa: PLC0415 - as above

    return run(settings, once=once)


def run_all(
    session: Session,
    *,
    host: str | None,
    port: int | None,
    tls_certificate: Path | None,
    tls_key: Path | None,
    admin_port: int | None,
) -> int:
    """Run what answers plug-ins, what keeps trust current and the admin API, each as a process of its own."""
    listening = {"--host": host, "--port": port, "--tls-certificate": tls_certificate, "--tls-key": tls_key}
    settings = session.settings(listen_host=host, listen_port=port, tls_certificate=tls_certificate, tls_key=tls_key)
    from evidence_service.run import run  # noqa: PLC0415 - as above

    program = [sys.executable, "-m", "evidence_service"]
    for option, value in (("--config", session.config), ("--database", session.database)):
        program += [] if value is None else [option, str(value)]
    chosen = [text for option, value in listening.items() if value is not None for text in (option, str(value))]
    admin = ["admin"] if admin_port is None else ["admin", "--port", str(admin_port)]
    commands = {"serve": [*program, "serve", *chosen], "work": [*program, "work"], "admin": [*program, *admin]}
    return run(commands, log_level=settings.log_level)


def demo(*, once: bool, port: int | None, directory: Path | None) -> int:
    """Run the demo."""
    from evidence_service.demo.story import run_demo  # noqa: PLC0415 - nothing else here needs it

    return run_demo(once=once, port=port, directory=directory)


def upgrade_database(session: Session) -> int:
    """Create or migrate the database."""
    url = session.settings().effective_database_url
    try:
        revision = upgrade(url)
    except StoreUnavailable as problem:
        raise unusable(url, problem) from None
    output.line(f"The database has schema {revision}, as this software needs it.")
    return ExitCode.DONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at. `code` is what the command exits with because of it."""

    subject: str
    text: str
    code: ExitCode = ExitCode.DONE
    warning: bool = False

    @property
    def verdict(self) -> str:
        """`ok`, `warning` or `FAILED`."""
        if self.code is not ExitCode.DONE:
            return "FAILED"
        return "warning" if self.warning else "ok"


def validate(session: Session, form: Output) -> int:
    """Look at everything the service needs at start, change nothing, and print one line per finding.

    0 where it would start, and could allow someone or only renews; 1 where something must be corrected, 3 without a
    usable database.
    """
    settings = session.settings()
    findings = list(_findings(settings, datetime.now(UTC)))
    if form is Output.JSON:
        output.emit_json(
            [{"verdict": each.verdict, "subject": each.subject, "finding": each.text} for each in findings]
        )
    else:
        styles = {"ok": "green", "warning": "yellow", "FAILED": "bold red"}
        rows = [(Cell(value=each.verdict, style=styles[each.verdict]), each.subject, each.text) for each in findings]
        output.table(("", "subject", "finding"), rows, nothing="")
    return max(each.code for each in findings)


def _findings(settings: Settings, now: datetime) -> Iterator[Finding]:
    where = f"[{settings.listen_host}]" if ":" in settings.listen_host else settings.listen_host
    yield Finding(subject="settings", text=f"usable; listens on {where}:{settings.listen_port}")
    if settings.allow_anonymous_loopback:
        text = "is set: every program on this machine may ask for decisions; for trials only"
        yield Finding(subject="allow_anonymous_loopback", text=text, warning=True)
    yield from _tls_findings(settings, now)
    renewal = None
    try:
        renewal = renewal_of(settings)
        yield from _renewal_findings(renewal, settings)
    except SettingsError as problem:
        told = (str(problem), *problem.others)
        yield from (Finding(subject="renewal", text=text, code=ExitCode.NEGATIVE) for text in told)
    try:
        engine = open_database(settings.effective_database_url, create=False)
    except StoreUnavailable as problem:
        yield Finding(subject="database", text=str(problem), code=ExitCode.DEPENDENCY)
        return
    try:
        with writing(engine):
            pass  # takes the write lock and gives it back
        yield Finding(subject="database", text=f"can be written, at schema {SCHEMA_REVISION}")
        store = ConfigStore(engine)
        yield from _trust_findings(store, settings, now, renews=renewal is not None and bool(renewal.farm.servers))
        if renewal is not None:
            for subject, text in RenewalAdmin(engine, renewal).lead_problems():
                yield Finding(subject=subject, text=text, warning=True)
        known = {idp.entity_id for idp in store.list_idps()}
        for rule in store.list_rules():
            if rule.mode is Mode.OBSERVE:
                text = f"rule {rule.name} only observes: every deny is answered allow"
                yield Finding(subject=f"rule {rule.name}", text=text, warning=True)
            missing = sorted((rule.entity_ids or frozenset()) - known)
            if missing:
                text = f"names IdPs that are not registered: {', '.join(missing)}"
                yield Finding(subject=f"rule {rule.name}", text=text, warning=True)
    except StoreUnavailable as problem:
        yield Finding(subject="database", text=str(problem), code=ExitCode.DEPENDENCY)
    finally:
        engine.dispose()


def _trust_findings(store: ConfigStore, settings: Settings, now: datetime, *, renews: bool) -> Iterator[Finding]:
    """Whether anyone could be allowed. A service that only renews has neither IdPs nor plug-ins, and is told so."""
    only_renews = renews and not store.list_idps() and not store.list_plugins()
    for each in (*_idp_findings(store, settings, now), *_plugin_findings(store, settings)):
        if only_renews and each.code is not ExitCode.DONE:
            yield replace(each, code=ExitCode.DONE, warning=True)
        else:
            yield each


def _renewal_findings(renewal: RenewalSettings, settings: Settings) -> Iterator[Finding]:
    """What is renewed, and what of it should be looked at."""
    if not renewal.farm.servers:
        file = settings.effective_renewal_file
        what = "names no FAS server" if file.exists() else "does not exist"
        is_named = settings.renewal_file is not None
        yield Finding(subject="renewal", text=f"nothing is renewed: {file} {what}", warning=is_named)
        return
    names = ", ".join(each.name for each in renewal.farm.servers)
    count = len(renewal.farm.servers)
    many = "1 FAS server is" if count == 1 else f"{count} FAS servers are"
    yield Finding(subject="renewal", text=f"{many} configured: {names}")
    for subject, text in renewal_warnings(renewal):
        yield Finding(subject=subject, text=text, warning=True)


def _tls_findings(settings: Settings, now: datetime) -> Iterator[Finding]:
    if settings.tls_certificate is None or settings.tls_key is None:
        yield Finding(subject="TLS", text="not set; only programs on this machine can ask")
        return
    try:
        ServerTls(settings.tls_certificate, settings.tls_key)
        end = x509.load_pem_x509_certificates(settings.tls_certificate.read_bytes())[0].not_valid_after_utc
    except (TlsError, OSError, ValueError) as problem:
        yield Finding(subject="TLS", text=str(problem), code=ExitCode.NEGATIVE)
        return
    text = f"certificate and key are usable until {instant(end)}"
    if end <= now:
        yield Finding(subject="TLS", text=f"the certificate expired at {instant(end)}", code=ExitCode.NEGATIVE)
    else:
        yield Finding(subject="TLS", text=text, warning=end - now < _SOON)


def _idp_findings(store: ConfigStore, settings: Settings, now: datetime) -> Iterator[Finding]:
    stored = store.list_idps()
    if not stored:
        text = (
            "none is registered, so every decision is a deny; `fas-evidence idp subscribe URL`, "
            "or `fas-evidence idp add --metadata FILE`"
        )
        yield Finding(subject="IdPs", text=text, code=ExitCode.NEGATIVE)
    for idp in stored:
        subject = f"IdP {idp.entity_id}"
        problems = list(_idp_problems(idp, settings))
        for problem in problems:
            yield Finding(subject=subject, text=problem, code=ExitCode.NEGATIVE)
        if not problems:
            state = "enabled" if idp.enabled else "disabled"
            yield Finding(subject=subject, text=f"{state}, policy and keys are usable", warning=not idp.enabled)
        if idp.valid_until is not None and idp.valid_until <= now:
            text = f"its metadata was valid until {instant(idp.valid_until)}; import current metadata"
            yield Finding(subject=subject, text=text, warning=True)


def _idp_problems(idp: StoredIdp, settings: Settings) -> Iterator[str]:
    if idp.problem is not None:
        yield idp.problem
        return
    yield from policy_problems(idp.policy)
    if idp.enabled and not any(each.state in GOOD for each in idp.certificates):
        yield (
            "no certificate is trusted, so every new sign-in is denied; `fas-evidence rollover list`, "
            "or import its current metadata"
        )
    for name in idp.policy.decryption_keys:
        try:
            load_decryption_key(name, directory=settings.effective_secrets_dir)
        except KeyUnreadable as problem:
            yield f"decryption_keys: {problem}"


def _plugin_findings(store: ConfigStore, settings: Settings) -> Iterator[Finding]:
    """Whether anyone may ask: certificates count with TLS only, bearer keys on a loopback listener only."""
    enrolled = [plugin for plugin in store.list_plugins() if plugin.revoked_at is None]
    counting = {
        PluginKind.CERTIFICATE: settings.tls_certificate is not None,
        PluginKind.BEARER: settings.is_loopback,
    }
    if settings.allow_anonymous_loopback or any(counting[plugin.kind] for plugin in enrolled):
        yield Finding(subject="plug-ins", text=f"{len({plugin.name for plugin in enrolled})} enrolled")
    elif enrolled:
        need = "bearer keys need a loopback listener" if counting[PluginKind.CERTIFICATE] else "certificates need TLS"
        text = f"{len(enrolled)} enrolled, none with a credential that counts: {need}"
        yield Finding(subject="plug-ins", text=text, code=ExitCode.NEGATIVE)
    else:
        text = "none is enrolled, so nobody may ask; `fas-evidence plugin enroll NAME`"
        yield Finding(subject="plug-ins", text=text, code=ExitCode.NEGATIVE)
