"""What is left to do after a request that the CA denied, and about a certificate that failed and is still there.

The words are the same in alarms, messages and the status of a server.
"""

from __future__ import annotations

from datetime import datetime

from evidence_service.renewal.applying import to_withdraw
from evidence_service.renewal.cmdlets import as_powershell, cmdlets_of
from evidence_service.renewal.memory import Setback
from evidence_service.renewal.model import Rest, Soak, Step, Withdraw
from evidence_service.renewal.reasons import RenewalReason
from evidence_service.renewal.situation import Situation
from evidence_service.renewal.timing import renewal_start
from idp_certs.alarms import instant_text

_PASSING = frozenset({RenewalReason.BACKING_OFF, RenewalReason.ANSWER_UNKNOWN})
"""Rests that end within minutes, after which `plan_renewal` tells of what failed."""


def after_denial(situation: Situation, server: str) -> str:
    """What to do about a denial, and when the CA is asked again by itself, if at all."""
    now = f"`fas-evidence authcert renew {server}` asks now."
    if situation.paused:
        resume = f"`fas-evidence authcert resume {server}`"
        return f"Ask the CA manager why. Nothing is asked again before its renewal is resumed: {resume}."
    held, due = _held_until(situation), _due(situation)
    if held is None or due is None:
        return f"Ask the CA manager why. It is not asked again by itself; {now}"
    if due <= held:
        return f"Ask the CA manager why. It is asked once more after {instant_text(held)}; {now}"
    return f"Ask the CA manager why. It is not asked again by itself before {instant_text(due)}; {now}"


def _held_until(situation: Situation) -> datetime | None:
    """Until when no request is made after those that came to nothing; None: until a person asks for one."""
    setbacks, policy = situation.setbacks, situation.policy
    if len(setbacks) >= policy.maximum_denials:
        return None
    return max(situation.now, setbacks[-1].at + policy.retry_denied) if setbacks else situation.now


def _due(situation: Situation) -> datetime | None:
    """When the first renewal begins by itself."""
    if any(map(situation.is_due, situation.serving)):
        return situation.now
    used = (situation.entry(each) for each in situation.serving)
    starts = (
        renewal_start(each, situation.attempts, situation.policy, situation.now) for each in used if each is not None
    )
    return min((each for each in starts if each is not None), default=None)


def failed_and_left(situation: Situation, step: Step | None) -> tuple[Setback, ...]:
    """Certificates that failed, that nothing uses and FAS could use, where the `step` does not tell of them."""
    is_quiet = isinstance(step, Soak) or (isinstance(step, Rest) and step.reason not in _PASSING)
    return tuple(
        each
        for certificate_id, each in situation.given_up.items()
        if situation.is_sound(certificate_id)
        and certificate_id not in situation.observation.used
        and not situation.is_going(certificate_id)
        and (is_quiet or any(made.seq > each.seq for made in situation.past.requests.values()))
    )


def how_to_remove(situation: Situation, certificate_id: str, server: str) -> str:
    """How a person removes a certificate that failed, and no other."""
    if to_withdraw(situation) == certificate_id:
        how = f"`fas-evidence authcert withdraw {server}`"
    else:
        removal = Withdraw(reason=RenewalReason.ASKED, certificate_id=certificate_id)
        how = f"`{'; '.join(as_powershell(each) for each in cmdlets_of(removal))}` on the FAS server"
    return f"{how} removes the certificate {certificate_id}, which was given up; then have the CA revoke it."
