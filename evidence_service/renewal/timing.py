"""When a renewal starts, and when changes that users could notice may be made.

A renewal starts `lead` before the certificate expires, plus a share of the jitter that was drawn once and stored, so
that it starts in [expiry - lead, expiry - lead + jitter] whatever restarts in between (promise 52). The jitter never
takes time that the approver needs. A lead that cannot work is not used (promise 53): one longer than certificates live
would renew on every run, one too short would let them lapse.
What the FAS server's log says of a certificate's begin is hearsay: others may write there, and dates may be misread. It
can make a renewal start earlier, and never later than the approver needs.
Not judged: whether people are in fact at work while they should approve.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from evidence_service.renewal.model import (
    Attempts,
    AuthorizationCertificate,
    CertificateStatus,
    Observation,
    RenewalPolicy,
    Request,
    Result,
    Switch,
    Window,
)
from evidence_service.renewal.reasons import RenewalReason
from idp_certs.reasons import Finding

SWITCHING = timedelta(days=1)
"""For the switch itself: neighbours go first, and an act that fails is tried again later."""
LEAST_USE, FALLBACK = 1 / 3, 1 / 3
"""What a lead must leave of the lifetime, and the lead (of the lifetime) in place of one that does not fit."""
SOAK_SHARE = 1 / 4
"""A soak takes at most so much of the lifetime: where certificates live for days, the next renewal is near."""
MARGIN_SHARE = 1 / 20
_WEEK = timedelta(days=7)
_ANY_MONDAY = datetime(2026, 1, 5, tzinfo=UTC)


def lifetime_of(certificate: AuthorizationCertificate, attempts: Attempts, policy: RenewalPolicy) -> timedelta | None:
    """How long the certificate lives from issue to expiry, as well as it is known.

    When it was first seen counts only where that was its begin: for one that we requested or switched to. Of others the
    log tells, unless they were usable before the begin that it names.
    """
    if certificate.expires is None:
        return policy.lifetime
    began = _began(certificate.id, attempts) or _listed_begin(certificate, attempts)
    return certificate.expires - began if began is not None and began < certificate.expires else policy.lifetime


def _began(certificate_id: str, attempts: Attempts) -> datetime | None:
    began = ours = None
    for each in attempts.acts:
        if each.result is Result.DONE and isinstance(each.step, Request) and each.certificate_id == certificate_id:
            began = ours = each.at
        elif each.result is Result.DONE and isinstance(each.step, Switch) and each.step.after == certificate_id:
            ours = each.at
    return attempts.first_usable.get(certificate_id, began) if ours is not None else None


def _listed_begin(certificate: AuthorizationCertificate, attempts: Attempts) -> datetime | None:
    listed = certificate.not_before
    return None if listed is None or listed > attempts.first_usable.get(certificate.id, listed) else listed


def is_hearsay(certificate: AuthorizationCertificate, attempts: Attempts) -> bool:
    """Whether how long it lives is known from the server's log alone."""
    known = certificate.expires is None or _began(certificate.id, attempts) is not None
    return not known and _listed_begin(certificate, attempts) is not None


def lead_findings(policy: RenewalPolicy, lifetime: timedelta | None) -> tuple[Finding, ...]:
    """What is wrong with the lead for certificates of this lifetime; without one, whether the settings fit each other.

    The lead must hold the approver's time, the jitter, the longest wait for a window, the switch and the soak (while
    the old certificate is the way back), and must leave a third of the lifetime, or it would renew all the time.
    """
    lead = _lead(policy, lifetime)
    if lead is None:
        return ()
    findings = []
    needed = _needed(policy, lifetime) + policy.jitter
    if lead < needed:
        findings.append(
            Finding(
                reason=RenewalReason.LEAD_DOES_NOT_FIT,
                expected=f"at least {_days(needed)} (approval_time, jitter, windows, switch, soak)",
                presented=_days(lead),
                where="lead",
            )
        )
    if lifetime is not None and lead > lifetime * (1 - LEAST_USE):
        findings.append(
            Finding(
                reason=RenewalReason.LEAD_DOES_NOT_FIT,
                expected=f"at most {_days(lifetime * (1 - LEAST_USE))}, two thirds of the {_days(lifetime)} that "
                "certificates live",
                presented=_days(lead),
                where="lead",
            )
        )
    return tuple(findings)


def lead_of(policy: RenewalPolicy, lifetime: timedelta | None) -> timedelta:
    """The lead that is used: the one that is set, where it fits.

    Otherwise a third of the lifetime, or what the approver needs where that is more, but never over two thirds.
    """
    lead = _lead(policy, lifetime)
    needed = _needed(policy, lifetime) + policy.jitter
    if lead is not None and not lead_findings(policy, lifetime):
        return lead
    if lifetime is None:
        return max(lead or needed, needed)
    return max(lifetime * FALLBACK, min(needed, lifetime * (1 - LEAST_USE)))


def renewal_start(
    certificate: AuthorizationCertificate, attempts: Attempts, policy: RenewalPolicy, now: datetime
) -> datetime | None:
    """When (UTC) the renewal of this certificate starts; None where its expiry is not known.

    For a revoked or expired one that is now, or has been.
    """
    if certificate.revoked_at is not None or certificate.status is CertificateStatus.EXPIRED:
        return min(now, certificate.revoked_at or now)
    if certificate.expires is None:
        return None
    lifetime = lifetime_of(certificate, attempts, policy)
    lead = lead_of(policy, lifetime)
    if is_hearsay(certificate, attempts):
        lead = max(lead, _needed(policy, lifetime) + policy.jitter)
    slack = max(lead - _needed(policy, lifetime), timedelta(0))
    return certificate.expires - lead + attempts.jitter * min(policy.jitter, slack)


def renew_at(observation: Observation, attempts: Attempts, policy: RenewalPolicy, now: datetime) -> datetime | None:
    """When (UTC) the next renewal of this server starts, for people and metrics; None where nothing tells."""
    used = (each for each in observation.certificates if each.id in observation.used)
    starts = [renewal_start(each, attempts, policy, now) for each in used]
    return min((each for each in starts if each is not None), default=None)


def soak_of(policy: RenewalPolicy, lifetime: timedelta | None) -> timedelta:
    """How long the old certificate stays after the new one was tested."""
    return policy.soak if lifetime is None else min(policy.soak, lifetime * SOAK_SHARE)


def switching_of(lifetime: timedelta | None) -> timedelta:
    """The time that is kept for the switch before the old certificate expires."""
    return SWITCHING if lifetime is None else min(SWITCHING, lifetime * MARGIN_SHARE)


def in_window(policy: RenewalPolicy, now: datetime) -> bool:
    """Whether changes that users could notice may be made now. Without windows they always may."""
    return not policy.windows or any(start <= now < end for start, end in _openings(policy, now))


def next_opening(policy: RenewalPolicy, now: datetime) -> datetime | None:
    """When (UTC) the next window opens, within the next eight days."""
    return min((start for start, _ in _openings(policy, now) if start > now), default=None)


def _lead(policy: RenewalPolicy, lifetime: timedelta | None) -> timedelta | None:
    """The lead that is set; None for a share of a lifetime that is not known."""
    if policy.lead_share is None:
        return timedelta(days=policy.lead_days)
    return None if lifetime is None else lifetime * policy.lead_share


def _needed(policy: RenewalPolicy, lifetime: timedelta | None) -> timedelta:
    """From a request to the end of the soak, with the slowest approver who keeps the time, without jitter."""
    return policy.approval_time + _longest_wait(policy) + switching_of(lifetime) + soak_of(policy, lifetime)


def _longest_wait(policy: RenewalPolicy) -> timedelta:
    """The longest time between the end of a window and the start of the next, in a week without a clock change."""
    openings = sorted((*_openings(policy, _ANY_MONDAY), *_openings(policy, _ANY_MONDAY + _WEEK)))
    longest, open_until = timedelta(0), openings[0][1] if openings else _ANY_MONDAY
    for _, (start, end) in pairwise(openings):
        longest, open_until = max(longest, start - open_until), max(open_until, end)
    return longest


def _openings(policy: RenewalPolicy, around: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Start and end (UTC) of every window from the day before to eight days after."""
    for window in policy.windows:
        yield from _openings_of(window, around)


def _openings_of(window: Window, around: datetime) -> Iterator[tuple[datetime, datetime]]:
    zone = ZoneInfo(window.zone)
    today = around.astimezone(zone).date()
    for offset in range(-2, 9):
        day = today + timedelta(days=offset)
        if day.weekday() in window.weekdays:
            # A start that a clock change skips is taken as if it had not; the length is real time.
            start = datetime.combine(day, window.start, zone).astimezone(UTC)
            yield start, start + window.length


def _days(span: timedelta) -> str:
    days = span / timedelta(days=1)
    return "1 day" if days == 1 else f"{days:.4g} days"
