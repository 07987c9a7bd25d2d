"""When the certificates that this service shows, and those that plug-ins show to it, need a person."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from evidence_service.notices.model import About
from idp_certs.alarms import Alarm, Severity, instant_text, level_reached, span_text

_URGENT_DAYS = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnCertificate:
    """A certificate of this service or of a plug-in.

    `name` is what it is for, such as `serve` or `admin`, or the plug-in's name; `expires` is UTC. `sha256` (hex) tells
    it from the next one. `remedy` is one sentence that says how it is replaced.
    """

    about: About
    name: str
    sha256: str
    expires: datetime
    remedy: str


def own_certificate_alarms(certificates: tuple[OwnCertificate, ...], now: datetime) -> tuple[Alarm, ...]:
    """60, 30, 14, 7, 3 and 1 days before each expires, and when it has expired at `now` (UTC)."""
    return tuple(alarm for each in certificates for alarm in _alarms(each, now))


def unreadable_alarm(name: str, path: str, setting: str, problem: str) -> Alarm:
    """A TLS certificate whose expiry nobody can warn of, since its file cannot be read."""
    return Alarm(
        kind="own_certificate_unreadable",
        entity_id=name,
        key=path,
        severity=Severity.WARNING,
        text=(
            f"When the TLS certificate of `{name}` expires is not known, as {path} cannot be read: {problem}. Let the "
            f"worker's account read it, or correct `{setting}`."
        ),
        about=About.SERVICE.value,
        todo=(f"Let the worker's account read it, or correct `{setting}`.",),
    )


def _alarms(certificate: OwnCertificate, now: datetime) -> tuple[Alarm, ...]:
    left, end = certificate.expires - now, instant_text(certificate.expires)
    kind = "plugin_certificate" if certificate.about is About.PLUGIN else "own_certificate"
    whose, refused = f"The TLS certificate of `{certificate.name}`", "and is refused by who asks it"
    if certificate.about is About.PLUGIN:
        whose, refused = f"The client certificate of plug-in {certificate.name}", "and every logon through it is denied"
    if left <= timedelta(0):
        name, key, severity = f"{kind}_expired", certificate.sha256, Severity.CRITICAL
        text = f"{whose} expired at {end}, {refused}. {certificate.remedy}"
    else:
        days = level_reached(left)
        if days is None:
            return ()
        name, key = f"{kind}_expiring", f"{certificate.sha256}:{days}d"
        severity = Severity.CRITICAL if days <= _URGENT_DAYS else Severity.WARNING
        text = f"{whose} expires at {end}, in {span_text(left)}. {certificate.remedy}"
    return (
        Alarm(
            kind=name,
            entity_id=certificate.name,
            key=key,
            severity=severity,
            text=text,
            about=certificate.about.value,
            facts=(("SHA-256", certificate.sha256), ("Expires", end)),
            todo=(certificate.remedy,),
        ),
    )
