"""What about an IdP's trust needs a person, and by when: computed from what is known, so that it clears by itself.

An alarm is raised once, when it is first named, and cleared when it no longer is. `about`, `kind`, `entity_id` and
`key` tell one from another; the text may change while it stands.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from idp_certs.model import GOOD, CertificateState, SigningCertificate
from idp_certs.reasons import Finding

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
DEPLETION_LEVELS = (50, 25, 10)
"""Per cent of a document's validity that is left (promise 25)."""
DEPLETION_AT_LEAST = timedelta(hours=72)
AGE_WARNING, AGE_CRITICAL = timedelta(hours=24), timedelta(hours=72)
"""Without validUntil: the time since the source last confirmed what we hold (promise 26)."""
EXPIRY_DAYS = (60, 30, 14, 7, 3, 1)
SUCCESSOR_DAYS = 20
"""AD FS makes the next certificate 20 days before the old one expires (CertificateGenerationThreshold)."""
PROMOTION_DAYS = 5
"""AD FS promotes it 5 days after it made it (CertificatePromotionThreshold)."""
SERVED_AGE = timedelta(hours=24)
"""A source whose answers carry an older Date is a copy of the IdP, and stands still (promise 37)."""
FROZEN_SUCCESSES = timedelta(hours=2)


class Severity(StrEnum):
    """How soon somebody should look."""

    NOTICE = "notice"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One thing that needs a person. `text` is one sentence that says what to do.

    `about` is what kind of thing `entity_id` names: an `idp` and its entity ID, or another thing and its name. `more`
    (sentences), `facts` (names and values to copy) and `todo` (in order) are for the message that tells of it.
    """

    kind: str
    entity_id: str
    key: str
    severity: Severity
    text: str
    about: str = "idp"
    more: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    todo: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownKey:
    """A key that signed plausible evidence and is not known. `certificate_sha256` is what the evidence shows."""

    certificate_sha256: str
    subject: str
    first_seen: datetime
    last_seen: datetime
    denials: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WithheldRollover:
    """Certificates that wait for a person, and why."""

    rollover_id: str
    certificates: tuple[str, ...]
    finding: Finding
    first_seen: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class IdpStatus:
    """What is known of one IdP. Times are UTC.

    `confirmed` is when its metadata was last imported or confirmed by its source; `obtained` when the document in force
    was accepted. `failing` is the latest failure of the source, None after a success. `listed` are the SHA-256 (hex) of
    the certificates in the document in force. `max_age` is the limit of metadata without validUntil, `denies` whether
    it ends trust. `rejected` are the SHA-256 (hex) of certificates that a person turned down.
    """

    entity_id: str
    certificates: tuple[SigningCertificate, ...]
    listed: frozenset[str]
    subscribed: bool
    confirmed: datetime
    obtained: datetime
    valid_until: datetime | None
    served_at: datetime | None = None
    failing: Finding | None = None
    failing_since: datetime | None = None
    withheld: tuple[WithheldRollover, ...] = ()
    unknown_keys: tuple[UnknownKey, ...] = ()
    rejected: frozenset[str] = frozenset()
    damaged: str | None = None
    max_age: timedelta = timedelta(days=14)
    denies: bool = False


def trust_alarms(status: IdpStatus, now: datetime) -> tuple[Alarm, ...]:
    """Everything about this IdP that needs a person at `now` (UTC)."""
    return tuple(
        Alarm(kind=kind, entity_id=status.entity_id, key=key, severity=severity, text=text)
        for judge in (_damage, _failure, _validity, _age, _withheld, _unknown, _frozen, _certificates, _left_out)
        for kind, key, severity, text in judge(status, now)
    )


_Alarms = Iterator[tuple[str, str, Severity, str]]


def _damage(status: IdpStatus, now: datetime) -> _Alarms:  # noqa: ARG001 - all judges are asked alike
    if status.damaged is not None:
        yield "trust_damaged", "", Severity.CRITICAL, f"All its evidence is denied: {status.damaged}."


def _failure(status: IdpStatus, now: datetime) -> _Alarms:  # noqa: ARG001
    if status.failing is not None:
        finding = status.failing
        details = "; ".join(
            f"{name} {value}" for name, value in (("expected", finding.expected), ("got", finding.presented)) if value
        )
        yield (
            "metadata_refused",
            finding.reason.value,
            Severity.WARNING,
            (
                f"Its metadata is not taken over ({finding.reason}{': ' if details else ''}{details}), and what was "
                f"trusted before stays. {finding.reason.advice}"
            ),
        )


def _validity(status: IdpStatus, now: datetime) -> _Alarms:
    until = status.valid_until
    if until is None:
        return
    left = until - now
    if left <= timedelta(0):
        what = "its evidence is denied" if status.denies else "it is still believed"
        yield (
            "metadata_expired",
            "",
            Severity.CRITICAL,
            f"Its metadata expired at {instant_text(until)}, and {what}; refresh it.",
        )
        return
    total = until - status.obtained
    reached = [level for level in DEPLETION_LEVELS if left <= total * level / 100]
    for level in reached:
        severity = Severity.CRITICAL if level == DEPLETION_LEVELS[-1] else Severity.WARNING
        yield "metadata_depleting", f"{level}%", severity, _depletion(until, left)
    if left <= DEPLETION_AT_LEAST < total:  # what is never valid for longer would never be without the alarm
        yield "metadata_depleting", "72h", Severity.CRITICAL, _depletion(until, left)


def _depletion(until: datetime, left: timedelta) -> str:
    return f"Its metadata is valid until {instant_text(until)}, {span_text(left)} more; see why it cannot be refreshed."


def _age(status: IdpStatus, now: datetime) -> _Alarms:
    if not status.subscribed or status.valid_until is not None:
        return
    age = now - status.confirmed
    text = f"Its metadata was last confirmed {span_text(age)} ago; see why it cannot be refreshed."
    if age >= AGE_WARNING:
        yield "metadata_aging", "24h", Severity.WARNING, text
    if age >= AGE_CRITICAL:
        yield "metadata_aging", "72h", Severity.CRITICAL, text
    if age >= status.max_age:
        what = "its evidence is denied" if status.denies else "it is believed on, as set"
        yield "metadata_expired", "", Severity.CRITICAL, f"Its metadata was confirmed {span_text(age)} ago, and {what}."


def _withheld(status: IdpStatus, now: datetime) -> _Alarms:  # noqa: ARG001
    for each in status.withheld:
        yield (
            "rollover_held",
            each.rollover_id,
            Severity.CRITICAL,
            (
                f"New certificates wait for approval ({', '.join(each.certificates)}): {each.finding.reason}, expected "
                f"{each.finding.expected}. Compare them with the IdP's, then `fas-evidence rollover approve "
                f"{each.rollover_id}` or `reject`."
            ),
        )


def _unknown(status: IdpStatus, now: datetime) -> _Alarms:
    for each in status.unknown_keys:
        if now - each.last_seen > DAY:
            continue
        shown = "further keys, or keys that show no certificate"
        if each.certificate_sha256:
            shown = f"certificate {each.certificate_sha256}"
        denied = "1 denial" if each.denials == 1 else f"{each.denials} denials"
        what, todo = "which nobody announced", "take over its metadata (`fas-evidence idp refresh`, `rollover list`)"
        if each.certificate_sha256 in status.rejected:
            what, todo = "which a person rejected", "approve it after all (`fas-evidence rollover list --all`)"
        yield (
            "unknown_signer",
            each.certificate_sha256,
            Severity.CRITICAL,
            (
                f"Evidence that would be allowed is signed by {shown}, {what}; {denied} since "
                f"{instant_text(each.first_seen)}. If it is the IdP's new key, {todo}; otherwise this is an attack."
            ),
        )


def _frozen(status: IdpStatus, now: datetime) -> _Alarms:
    if not status.subscribed or status.failing is not None:
        return
    if status.served_at is not None and status.confirmed - status.served_at > SERVED_AGE:
        yield (
            "source_frozen",
            "date",
            Severity.WARNING,
            (
                f"Its source answers with a copy from {instant_text(status.served_at)}; look for a cache or proxy in "
                "between."
            ),
        )
    moved_on = [each for each in status.unknown_keys if now - each.last_seen <= DAY]
    if any(status.confirmed - each.first_seen > FROZEN_SUCCESSES for each in moved_on):
        yield (
            "source_frozen",
            "unknown_key",
            Severity.CRITICAL,
            (
                "Its source goes on answering without the key that signs now; look for a cache or proxy in between, or "
                "upload the IdP's current metadata."
            ),
        )


def _certificates(status: IdpStatus, now: datetime) -> _Alarms:
    good = [each for each in status.certificates if each.state in GOOD]
    if not good and status.damaged is None:
        yield (
            "no_trusted_certificate",
            "",
            Severity.CRITICAL,
            (
                "No certificate is trusted, so every new sign-in is denied; what a withdrawn one signed before is good "
                "until it is too old. See `fas-evidence rollover list`, or import the IdP's current metadata."
            ),
        )
    last_end = max((each.x509.not_valid_after_utc for each in good), default=now)
    for each in good:
        left = each.x509.not_valid_after_utc - now
        yield from _expiry(each, left)
        # Only the certificate that lasts longest can lack a successor.
        if timedelta(0) < left <= SUCCESSOR_DAYS * DAY and each.x509.not_valid_after_utc == last_end:
            yield (
                "no_successor",
                each.sha256,
                Severity.CRITICAL,
                (
                    f"Certificate {each.sha256} expires in {span_text(left)} and no successor is listed; AD FS lists "
                    "one 20 days before. See whether the IdP has made one, and whether its metadata reaches us."
                ),
            )
        if each.state is CertificateState.ANNOUNCED and each.sha256 in status.listed and len(good) > 1:
            yield (
                "promotion_due",
                each.sha256,
                Severity.NOTICE,
                (
                    f"Certificate {each.sha256} was announced at {instant_text(each.since)}; an AD FS signs with it "
                    f"from about {instant_text(each.since + PROMOTION_DAYS * DAY)}, other IdPs when their "
                    "administrator says so. Nothing is to be done: it is accepted already."
                ),
            )
    for each in status.certificates:
        if each.state is CertificateState.REVOKED and each.sha256 in status.listed:
            yield (
                "revoked_key_listed",
                each.sha256,
                Severity.CRITICAL,
                f"The IdP still lists certificate {each.sha256}, whose key is revoked; make it sign with another key.",
            )


def _left_out(status: IdpStatus, now: datetime) -> _Alarms:  # noqa: ARG001
    """Metadata from which every key in use is gone: the IdP rolled over at once, or somebody else serves it."""
    in_use = [each for each in status.certificates if each.state is CertificateState.TRUSTED]
    if not status.subscribed or any(each.sha256 in status.listed for each in in_use):
        return
    next_ones = [each for each in status.certificates if each.state is CertificateState.ANNOUNCED]
    left_out = in_use or [each for each in status.certificates if each.state is CertificateState.RETIRING]
    if next_ones and left_out:
        what = "is withdrawn when that stays so" if in_use else "was withdrawn, so that what it signs now is denied"
        yield (
            "used_key_left_out",
            "",
            Severity.WARNING,
            (
                f"Its metadata lists only keys that signed nothing yet, and certificate {left_out[0].sha256} {what}. "
                "If the IdP still signs with that one, somebody else may answer for its source: compare the metadata "
                "with the IdP's. It clears with the first sign-in by a new key."
            ),
        )


def _expiry(certificate: SigningCertificate, left: timedelta) -> _Alarms:
    end = instant_text(certificate.x509.not_valid_after_utc)
    if left <= timedelta(0):
        yield (
            "certificate_expired",
            certificate.sha256,
            Severity.WARNING,
            f"Certificate {certificate.sha256} expired at {end}.",
        )
        return
    for days in EXPIRY_DAYS:
        if left <= days * DAY:
            severity = Severity.CRITICAL if days <= 7 else Severity.WARNING
            text = f"Certificate {certificate.sha256} expires at {end}, in {span_text(left)}."
            yield "certificate_expiring", f"{certificate.sha256}:{days}d", severity, text


def level_reached(left: timedelta, levels: tuple[int, ...] = EXPIRY_DAYS) -> int | None:
    """The fewest of `levels` (days) within which `left` is; None where there is more left, or nothing."""
    return min((days for days in levels if timedelta(0) < left <= days * DAY), default=None)


def instant_text(instant: datetime) -> str:
    """An instant (UTC) to the second, as people and programs read it."""
    return f"{instant:%Y-%m-%dT%H:%M:%SZ}"


def span_text(span: timedelta) -> str:
    """About how long: whole days, hours or minutes, never more than it is."""
    if span >= 2 * DAY:
        return f"{span.days} days"
    hours = span // HOUR
    return f"{hours} hours" if hours >= 2 else f"{max(span // timedelta(minutes=1), 0)} minutes"
