"""From a proven certificate to a removed old one: maintenance, switch, verification, soak, the way back.

Each judge answers the one next step, or None where it has nothing to do. What would leave users cut off, a half-done
switch or a server in maintenance, goes on also while a person's pause lasts.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from evidence_service.renewal.model import (
    Alert,
    AskKind,
    AuthorizationCertificate,
    EnrollmentTest,
    EnterMaintenance,
    LeaveMaintenance,
    Maintenance,
    Rest,
    Result,
    Retire,
    RollBack,
    Soak,
    Step,
    Switch,
    Verify,
)
from evidence_service.renewal.reasons import RenewalReason
from evidence_service.renewal.situation import Situation
from evidence_service.renewal.timing import in_window, lifetime_of, next_opening, soak_of, switching_of
from idp_certs.reasons import Finding


def roll_back(situation: Situation) -> Step | None:
    """One definition back from a certificate that is given up, or that a person wants gone, to what it named before.

    One that FAS refuses to lead back holds up no other.
    """
    for broken, reason in _unwanted(situation):
        named = situation.observation.naming(broken)
        for definition in sorted(named, key=lambda each: situation.past.stuck.get(each.name, 0)):
            before = way_back(situation, definition.name, broken)
            if before is not None and situation.is_sound(before):
                return RollBack(reason=reason, definition=definition.name, before=broken, after=before)
    return None


def way_back(situation: Situation, definition: str, broken: str) -> str | None:
    """What the definition named before we made it name this certificate; None where a person did."""
    last = situation.past.last_move(definition)
    if isinstance(last, Switch) and last.after == broken:
        return last.before
    if definition == situation.test_definition:  # a proof pointed it there
        return next((each for each in situation.serving if each != broken and situation.is_sound(each)), None)
    return None


def _unwanted(situation: Situation) -> tuple[tuple[str, RenewalReason], ...]:
    found = {certificate_id: each.reason for certificate_id, each in situation.given_up.items()}
    newest = situation.past.switched_to
    if newest is not None and situation.ask(AskKind.ROLL_BACK) is not None:
        found.setdefault(newest, RenewalReason.ASKED)
    return tuple(found.items())


def go_on_switching(situation: Situation) -> Step | None:
    """The next definition of a switch that has begun: windows and neighbours were asked before the first."""
    new = situation.successor
    if new is None or not situation.is_sound(new.id):
        return None
    return _switch(situation, new)


def verify(situation: Situation) -> Step | None:
    """Test the new certificate once after the switch, and again after failures that came with it."""
    new = situation.successor
    if new is None:
        return None
    last = situation.past.verifications.get(new.id)
    if last is not None and not _fails_since(situation, last.result_at or last.at):
        return None
    tests = [
        EnrollmentTest(rule=rule.name, definition=definition.name)
        for rule in situation.observation.rules
        for definition in situation.observation.naming(new.id)
        if definition.name in rule.definitions
    ]
    return Verify(certificate_id=new.id, tests=tuple(tests), upn=situation.policy.test_upn)


def _fails_since(situation: Situation, tested: datetime) -> bool:
    """Failures since the last test, in the soak. Steady ones lead to one test per check interval."""
    fails = any(each.at > tested for each in situation.observation.failures or ())
    pause = situation.policy.check if situation.past.retested else situation.policy.poll
    return (
        fails
        and situation.policy.test_upn is not None
        and situation.now >= tested + pause
        and (ends := soak_ends(situation)) is not None
        and situation.now < ends
    )


def leave_maintenance(situation: Situation, *, waits: bool = False) -> Step | None:
    """Users come back, whatever became of the renewal, unless its first switch is next and need not wait.

    Also where a person was faster, so that a maintenance that people begin later is theirs and stays. Where there is no
    way back from a certificate that failed, users stay away while another server serves.
    """
    entered = situation.entered_for
    if entered is None or _is_broken(situation):
        return None
    new = situation.candidate
    if not waits and new is not None and new.id == entered and not situation.paused and _may_start(situation, new):
        return None
    return LeaveMaintenance(certificate_id=entered)


def _is_broken(situation: Situation) -> bool:
    """Whether users can log on elsewhere and, by the test, not here; `roll_back` is asked before."""
    failed = {each.certificate_id for each in situation.given_up.values() if each.reason is RenewalReason.VERIFY_FAILED}
    elsewhere = any(each.serving for each in situation.observation.neighbours)
    return elsewhere and not failed.isdisjoint(situation.serving)


def start_switching(situation: Situation) -> Step | None:
    """Maintenance, or the first switch where none is needed, when neighbours and windows allow it."""
    new = situation.candidate
    if new is None or not _may_start(situation, new):
        return None
    if situation.entered_for == new.id:
        return _switch(situation, new)
    old = situation.to_move(new)
    idle = all(situation.is_cut_off(each.authorization_certificate) for each in old)
    limit = _limit(situation, new)
    open_now = in_window(situation.policy, situation.now)
    if not open_now and not idle:
        opening = next_opening(situation.policy, situation.now)
        if opening is not None and (limit is None or opening < limit):
            return Rest(reason=RenewalReason.OUTSIDE_WINDOW, until=opening)
    if not idle and (hold := _neighbours(situation, limit)) is not None:
        return hold
    if _needs_maintenance(situation) and not idle:
        return EnterMaintenance(certificate_id=new.id, overrides=not open_now)
    return _switch(situation, new, overrides=not open_now)


def _may_start(situation: Situation, new: AuthorizationCertificate) -> bool:
    proof = situation.past.proofs.get(new.id)
    proven = proof is not None and proof.result is Result.DONE
    return proven and situation.is_sound(new.id) and bool(situation.to_move(new))


def _switch(situation: Situation, new: AuthorizationCertificate, *, overrides: bool = False) -> Step | None:
    for each in situation.to_move(new):
        return Switch(definition=each.name, before=each.authorization_certificate, after=new.id, overrides=overrides)
    return None


def _limit(situation: Situation, new: AuthorizationCertificate) -> datetime | None:
    """Until when a switch may wait: a margin before the first of the old certificates expires."""
    limits = []
    for definition in situation.to_move(new):
        each = situation.entry(definition.authorization_certificate)
        if each is None or each.revoked_at is not None:
            limits.append(situation.now)
        elif each.expires is not None:
            limits.append(each.expires - switching_of(lifetime_of(each, situation.attempts, situation.policy)))
    return min(limits, default=None)


def _needs_maintenance(situation: Situation) -> bool:
    return situation.policy.maintenance is Maintenance.REQUIRED and situation.observation.maintenance is not True


def _neighbours(situation: Situation, limit: datetime | None) -> Step | None:
    """Servers go one after another, and one enters maintenance only while another is seen to serve (promise 61)."""
    soon = situation.now + situation.policy.poll
    neighbours = situation.observation.neighbours
    if any(each.switching for each in neighbours):
        return Rest(reason=RenewalReason.NEIGHBOUR_SWITCHING, until=soon)
    if not _needs_maintenance(situation):
        return None
    serving = [each for each in neighbours if each.serving]
    if serving and not any(each.seen_lately for each in serving):
        return Rest(reason=RenewalReason.NEIGHBOUR_UNSEEN, until=soon)
    if not serving:
        shown = ", ".join(each.name for each in neighbours) or "no other server is configured"
        finding = Finding(
            reason=RenewalReason.NO_NEIGHBOUR,
            expected="another server that serves" + (f" before {limit:%Y-%m-%dT%H:%M:%SZ}" if limit else ""),
            presented=shown,
        )
        return Alert(reason=RenewalReason.NO_NEIGHBOUR, findings=(finding,), until=soon)
    return None


def soak_ends(situation: Situation) -> datetime | None:
    """When the old certificates are no longer the way back; None where nothing was verified."""
    new = situation.successor
    tested = situation.past.verified.get(new.id) if new is not None else None
    if new is None or tested is None:
        return None
    sure = replace(new, not_before=None)  # what leads to a removal is not taken from a log that others may write
    began = tested.result_at or tested.at
    return began + soak_of(situation.policy, lifetime_of(sure, situation.attempts, situation.policy))


def left_over(situation: Situation) -> Retire | None:
    """The next old certificate to remove: unnamed, replaced by us, and what came after it serves and was tested."""
    last = situation.past.verifications
    for each in situation.observation.certificates:
        if each.id in situation.observation.used or each.status is None or situation.is_going(each.id):
            continue
        heir = _heir(situation, each.id)
        if heir is None or situation.successor is None or heir != situation.successor.id:
            continue
        if situation.is_sound(heir) and heir in last and last[heir].result is Result.DONE:
            return Retire(certificate_id=each.id, replaced_by=heir)
    return None


def _heir(situation: Situation, certificate_id: str) -> str | None:
    """What serves in the place of this one, by our own moves."""
    heir, passed = situation.past.moved_from(certificate_id), {certificate_id}
    while heir is not None and heir not in situation.serving and heir not in passed:
        passed.add(heir)
        heir = situation.past.moved_from(heir)
    return heir if heir in situation.serving else None


def retire(situation: Situation) -> Step | None:
    """Remove an old certificate after the soak, in a window."""
    ends, step = soak_ends(situation), left_over(situation)
    if step is None or ends is None or situation.now < ends or not in_window(situation.policy, situation.now):
        return None
    return step


def soak(situation: Situation) -> Step | None:
    """Wait for the end of the soak, or for a window to remove the old one in."""
    ends, step = soak_ends(situation), left_over(situation)
    if step is None or ends is None:
        return None
    if situation.now < ends:
        until = min(ends, situation.now + situation.policy.poll)
        return Soak(certificate_id=step.replaced_by, until=until, ends=ends)
    opening = next_opening(situation.policy, situation.now)
    soon = situation.now + situation.policy.check
    return Rest(reason=RenewalReason.OUTSIDE_WINDOW, until=min(opening or soon, situation.now + timedelta(days=1)))
