"""Use as evidence: what the sign-ins so far say about an IdP's certificates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from types import MappingProxyType

from idp_certs.model import GOOD, CertificateState, SigningCertificate

QUIET_DAYS = 5
"""After so many days without a sign-in by the old certificate, while a newer one signs, it is out of use.

AD FS promotes a new certificate five days after it made it (`domain/fas.md` F); sign-ins at a weekend are few.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateUsage:
    """How often evidence signed by one certificate was allowed. Times are UTC.

    `sign_ins` counts evidence allowed for the first time, `launches` every allow; `late_sign_ins` are sign-ins first
    seen after the certificate was withdrawn. `per_day` are sign-ins.
    """

    sign_ins: int = 0
    launches: int = 0
    late_sign_ins: int = 0
    first_sign_in: datetime | None = None
    last_sign_in: datetime | None = None
    per_day: Mapping[date, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Freeze the mapping."""
        object.__setattr__(self, "per_day", MappingProxyType(dict(self.per_day)))


UNUSED = CertificateUsage()


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """One thing that use says of a certificate (SHA-256, hex). `safe_to_retire`: nobody would notice."""

    sha256: str
    text: str
    safe_to_retire: bool = False


def usage_advice(
    certificates: tuple[SigningCertificate, ...], usage: Mapping[str, CertificateUsage], now: datetime
) -> tuple[Advice, ...]:
    """A sentence for each certificate that is or was in use, in the order given, judged at `now` (UTC)."""
    return tuple(_advise(each, certificates, usage, now) for each in certificates if _is_of_interest(each, usage))


def _is_of_interest(certificate: SigningCertificate, usage: Mapping[str, CertificateUsage]) -> bool:
    return certificate.state in GOOD or certificate.sha256 in usage


def _advise(
    certificate: SigningCertificate,
    certificates: tuple[SigningCertificate, ...],
    usage: Mapping[str, CertificateUsage],
    now: datetime,
) -> Advice:
    used = usage.get(certificate.sha256, UNUSED)
    if used.first_sign_in is None or used.last_sign_in is None:
        text = "has signed no sign-in yet"
        if certificate.state is CertificateState.ANNOUNCED:
            text += f"; announced {_days(now - certificate.since)} ago"
        return Advice(sha256=certificate.sha256, text=text)
    count = "1 sign-in" if used.sign_ins == 1 else f"{used.sign_ins:,} sign-ins"
    text = f"has signed {count} since {_moment(used.first_sign_in)}"
    quiet = now - used.last_sign_in
    if quiet >= timedelta(days=1):
        text += f", none for {_days(quiet)}"
    if used.late_sign_ins:
        text += f"; {used.late_sign_ins:,} first seen after it was withdrawn"
    safe = (
        certificate.state in GOOD
        and quiet >= timedelta(days=QUIET_DAYS)
        and _has_successor_in_use(certificate, certificates, usage, used.last_sign_in)
    )
    return Advice(sha256=certificate.sha256, text=f"{text}: safe to retire" if safe else text, safe_to_retire=safe)


def _has_successor_in_use(
    certificate: SigningCertificate,
    certificates: tuple[SigningCertificate, ...],
    usage: Mapping[str, CertificateUsage],
    last: datetime,
) -> bool:
    """Whether another good certificate has signed since this one last did: the IdP has moved on, not just paused."""
    for other in certificates:
        used = usage.get(other.sha256, UNUSED)
        if (
            other.sha256 != certificate.sha256
            and other.state in GOOD
            and used.last_sign_in is not None
            and used.last_sign_in > last
        ):
            return True
    return False


def _moment(instant: datetime) -> str:
    return f"{instant:%a %Y-%m-%d %H:%M} UTC"


def _days(span: timedelta) -> str:
    days = max(span.days, 0)
    return "less than a day" if days == 0 else "1 day" if days == 1 else f"{days} days"
