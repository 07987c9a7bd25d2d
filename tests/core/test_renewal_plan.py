"""The one next step, rule by rule: each rule has a case in which it alone decides."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta

import pytest

from evidence_service.renewal.changeover import left_over
from evidence_service.renewal.model import (
    Alert,
    AskKind,
    Attempts,
    AuthorizationCertificate,
    Deadline,
    EnterMaintenance,
    IssuanceFailure,
    LeaveMaintenance,
    Maintenance,
    Observation,
    Prove,
    RenewalPolicy,
    Request,
    Result,
    Retire,
    RollBack,
    Switch,
    Verify,
    Window,
    Withdraw,
)
from evidence_service.renewal.plan import plan_renewal
from evidence_service.renewal.reasons import RenewalReason
from evidence_service.renewal.situation import weigh
from tests.renewal.world import (
    CA,
    DAY,
    HOUR,
    MINUTE,
    NEW,
    NOW,
    OLD,
    OTHER,
    PLAIN,
    PROVING,
    TEST,
    asking,
    brief,
    certificate,
    definitions,
    did,
    failed,
    new,
    requested,
    seen,
    switch,
    verified,
)

NOTHING = Attempts(jitter=0.0)
MAIN = "default_Definition"
TWO = {MAIN: OLD, "in_session": OLD}
PROVE = Prove(certificate_id=NEW)
ENTER = EnterMaintenance(certificate_id=NEW)
LEAVE = LeaveMaintenance(certificate_id=NEW)
BACK = RollBack(reason=RenewalReason.VERIFY_FAILED, definition=MAIN, before=NEW, after=OLD)
RETIRE = Retire(certificate_id=OLD, replaced_by=NEW)
DENIAL = Withdraw(reason=RenewalReason.DENIED, certificate_id=NEW)
TUESDAY = Window(weekdays=frozenset({1}), start=time(22), length=timedelta(hours=2))
CALM = certificate(expires=NOW + 200 * DAY)
PROVEN = did(requested(), PROVE)
MOVED = did(requested(), PROVE, ENTER, switch())
SERVES = seen(certificate(), new(), named={MAIN: NEW})


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is seen and remembered, and the step that follows."""

    seen: Observation
    did: Attempts = NOTHING
    policy: RenewalPolicy = PLAIN
    step: str


def failing(attempts: Attempts, reason: RenewalReason = RenewalReason.VERIFY_FAILED) -> Attempts:
    """The last act failed."""
    last = replace(attempts.acts[-1], result=Result.FAILED, finding=failed(reason))
    return replace(attempts, acts=(*attempts.acts[:-1], last))


def paused(attempts: Attempts) -> Attempts:
    """A person paused the server."""
    return replace(attempts, paused_until=NOW + DAY)


CASES: dict[str, Case] = {
    # When a renewal starts
    "nothing is due, and the server is looked at hourly": Case(seen=seen(CALM), step="rest not_due +1:00:00"),
    "a certificate that expires within the lead is requested anew": Case(
        seen=seen(certificate()), step="request due 0ld"
    ),
    "it is due in half an hour": Case(
        seen=seen(certificate(expires=NOW + 60 * DAY + 30 * MINUTE)), step="rest not_due +0:30:00"
    ),
    "a person asks although nothing is due": Case(seen=seen(CALM), did=asking(AskKind.RENEW), step="request asked 0ld"),
    "an expired one in use is replaced": Case(
        seen=seen(certificate(status="Expired", expires=NOW - DAY)), step="request authcert_expired 0ld"
    ),
    "a definition names a certificate that is not there": Case(
        seen=seen(named={MAIN: OLD}), step="request definition_names_missing 0ld"
    ),
    "a revoked one in use is replaced at once, whatever the jitter (58)": Case(
        seen=seen(replace(CALM, revoked_at=NOW - HOUR)),
        did=Attempts(jitter=1.0),
        policy=replace(PLAIN, jitter=DAY),
        step="request revoked 0ld",
    ),
    "the jitter has not passed": Case(
        seen=seen(certificate(expires=NOW + 60 * DAY)),
        did=Attempts(jitter=0.5),
        policy=replace(PLAIN, jitter=HOUR),
        step="rest not_due +0:30:00",
    ),
    "no definition names a certificate": Case(seen=seen(CALM, named={}), step="alert nothing_in_use +1:00:00"),
    "an expiry that FAS does not tell is told to people": Case(
        seen=seen(certificate(expires=None)), step="alert expiry_unknown +1:00:00"
    ),
    "an unused expired, denied or soon ending entry starts nothing": Case(
        seen=seen(CALM, certificate("a", "Expired", NOW - DAY), certificate("b", "Denied", None), certificate("c")),
        step="rest not_due +1:00:00",
    ),
    "a person asks: of two that are not due, the one that ends first is replaced": Case(
        seen=seen(CALM, replace(CALM, id="b", expires=NOW + 100 * DAY), named={"x": OLD, "y": "b"}),
        did=asking(AskKind.RENEW),
        step="request asked b",
    ),
    "of two certificates in use, the one that ends first is replaced": Case(
        seen=seen(
            certificate(expires=NOW + 20 * DAY), certificate("b", expires=NOW + 10 * DAY), named={"x": OLD, "y": "b"}
        ),
        step="request due b",
    ),
    "a lead of 730 days for certificates of 329 is not used, and told (53)": Case(
        seen=seen(certificate(expires=NOW + 200 * DAY, not_before=NOW - 129 * DAY)),
        policy=replace(PLAIN, lead_days=730),
        step="alert lead_does_not_fit +1:00:00",
    ),
    "a third of the lifetime is the lead in its place (53)": Case(
        seen=seen(certificate(expires=NOW + 109 * DAY, not_before=NOW - 220 * DAY)),
        policy=replace(PLAIN, lead_days=730),
        step="request due 0ld",
    ),
    # What is not known
    "an act without answer: FAS is only read (46)": Case(
        seen=seen(certificate()), did=did((requested(), Result.UNKNOWN)), step="rest answer_unknown +0:00:30"
    ),
    "an intent without result: FAS is only read (44)": Case(
        seen=SERVES,
        did=did(requested(), PROVE, ENTER, switch(), (verified(), None)),
        step="rest answer_unknown +0:00:30",
    ),
    "a request that FAS confirmed is not listed yet": Case(
        seen=seen(certificate()), did=did(requested(), until=NOW - MINUTE), step="rest answer_unknown +0:14:00"
    ),
    "an unknown status of the certificate in use stops everything": Case(
        seen=seen(certificate(status="Tired")), step="alert unknown_status +1:00:00"
    ),
    "an unknown status of our request stops everything": Case(
        seen=seen(certificate(), certificate(NEW, "Tired")), did=did(requested()), step="alert unknown_status +1:00:00"
    ),
    "an unknown status of anything stops a request": Case(
        seen=seen(certificate(), certificate("x", "Tired")), step="alert unknown_status +1:00:00"
    ),
    "an unknown status of another does not stop a switch": Case(
        seen=seen(certificate(), new(), certificate("x", "Tired")), did=PROVEN, step="enter_maintenance new"
    ),
    # One open request
    "an open request is waited for": Case(
        seen=seen(certificate(), new("WaitingForApproval")), did=did(requested()), step="await_approval new +0:05:00"
    ),
    "an open request that nobody here remembers is adopted (45)": Case(
        seen=seen(certificate(), certificate("found", "Pending")), step="await_approval found +0:05:00"
    ),
    "also where a person asks for a renewal": Case(
        seen=seen(CALM, certificate("found", "Pending")),
        did=asking(AskKind.RENEW),
        step="await_approval found +0:05:00",
    ),
    "two open requests: a person is told which to approve": Case(
        seen=seen(certificate(), certificate("x", "Pending"), certificate("y", "Pending")),
        step="alert two_open_requests +0:05:00",
    ),
    "overdue, and set to be kept": Case(
        seen=seen(certificate(), new("WaitingForApproval")),
        did=did(requested(), until=NOW - 31 * DAY),
        step="await_approval new +0:05:00",
    ),
    "overdue, and set to be withdrawn (50)": Case(
        seen=seen(certificate(), new("WaitingForApproval")),
        did=did(requested(), until=NOW - 30 * DAY),
        policy=replace(PLAIN, on_deadline=Deadline.WITHDRAW),
        step="withdraw approval_overdue new",
    ),
    "an overdue request of another is not ours to withdraw": Case(
        seen=seen(certificate(), certificate("found", "WaitingForApproval")),
        policy=replace(PLAIN, on_deadline=Deadline.WITHDRAW, approval_deadline=timedelta(0)),
        step="await_approval found +0:05:00",
    ),
    # Denials: promise 49
    "our denied request is removed (49)": Case(
        seen=seen(certificate(), certificate(NEW, "Denied", None)), did=did(requested()), step="withdraw denied new"
    ),
    "a denied request that a definition names is not removed": Case(
        seen=seen(certificate(), certificate(NEW, "Denied", None), named={MAIN: OLD, "y": NEW}),
        did=did(requested()),
        step="request definition_names_missing new",
    ),
    "a denied request of another stays": Case(
        seen=seen(certificate(), certificate("x", "Denied", None)), step="request due 0ld"
    ),
    "no new request within a day of a denial (49)": Case(
        seen=seen(certificate()), did=did(requested(), DENIAL, until=NOW - 23 * HOUR), step="rest denied +1:00:00"
    ),
    "a day after the denial it is asked once more": Case(
        seen=seen(certificate()), did=did(requested(), DENIAL, until=NOW - 24 * HOUR), step="request due 0ld"
    ),
    "denied as often as the policy lets pass: only a person goes on (49)": Case(
        seen=seen(certificate()),
        did=did(
            requested(),
            DENIAL,
            requested(),
            replace(DENIAL, certificate_id="other"),
            until=NOW - 90 * DAY,
        ),
        step="alert denied_repeatedly +1:00:00",
    ),
    "denials before the last success do not count, whatever clock there was": Case(
        seen=seen(certificate()),
        did=did(requested(), replace(DENIAL, certificate_id="other"), verified(), every=timedelta(0)),
        policy=replace(PLAIN, maximum_denials=1),
        step="request due 0ld",
    ),
    "a denial after it counts, though the success was noted by a clock that was ahead (49)": Case(
        seen=seen(certificate()),
        did=did(verified("x"), DENIAL, every=-DAY),
        step="rest denied +23:00:00",
    ),
    "a person lifts it": Case(
        seen=seen(certificate()),
        did=asking(AskKind.RENEW, did(requested(), DENIAL, requested(), replace(DENIAL, certificate_id="other"))),
        step="request asked 0ld",
    ),
    "what a person removed in the console is not requested again at once": Case(
        seen=seen(certificate()), did=did(requested(), until=NOW - HOUR), step="rest withdrawn +23:00:00"
    ),
    # What came back
    "a certificate of a CA whose clock is ahead is waited for (57)": Case(
        seen=seen(certificate(), new("NotYetValid", not_before=NOW + 10 * MINUTE)),
        did=did(requested()),
        step="rest authcert_not_yet_valid +0:10:00",
    ),
    "what came is proven before anything names it (47)": Case(
        seen=seen(certificate(), new()), did=did(requested()), step="prove new"
    ),
    "it is tested by the test definition, which is pointed there": Case(
        seen=seen(certificate(), new(), named={MAIN: OLD, TEST: OLD}),
        did=did(requested()),
        policy=PROVING,
        step=f"prove {TEST} new pointing",
    ),
    "the test definition points there already": Case(
        seen=seen(certificate(), new(), named={MAIN: OLD, TEST: NEW}),
        did=did(requested()),
        policy=PROVING,
        step=f"prove {TEST} new",
    ),
    "a test definition that a rule of users names tests nothing": Case(
        seen=seen(certificate(), new(), named={MAIN: OLD, TEST: OLD}, rules={"default": (TEST,)}),
        did=did(requested()),
        policy=PROVING,
        step="prove new",
    ),
    "what came is of another CA (56)": Case(
        seen=seen(certificate(), new(certificate_authority="x\\Test CA")),
        did=did(requested()),
        step="prove new issued_other_ca",
    ),
    "what failed its proof is not used, and told": Case(
        seen=seen(certificate(), new()),
        did=failing(did(requested(), PROVE), RenewalReason.ISSUED_OTHER_CA),
        step="alert issued_other_ca +1:00:00",
    ),
    "the test definition is led back from it": Case(
        seen=seen(certificate(), new(), named={MAIN: OLD, TEST: NEW}),
        did=failing(did(requested(), PROVE)),
        policy=PROVING,
        step=f"roll_back proof_failed {TEST} new>0ld",
    ),
    "a day after a failed proof another is requested": Case(
        seen=seen(certificate(), new()),
        did=failing(did(requested(), PROVE, until=NOW - DAY)),
        step="request due 0ld",
    ),
    "a person has it tested again": Case(
        seen=seen(certificate(), new()), did=asking(AskKind.RENEW, failing(PROVEN)), step="prove new"
    ),
    "a person asks, but the certificate itself is at fault": Case(
        seen=seen(certificate(), new(exportable=True)),
        did=asking(AskKind.RENEW, failing(PROVEN)),
        step="request asked 0ld",
    ),
    "a revoked one that came is not used": Case(
        seen=seen(certificate(), new(revoked_at=NOW)), did=did(requested()), step="request due 0ld"
    ),
    "one sound spare that nobody here remembers is adopted when a renewal is due": Case(
        seen=seen(certificate(), new()), step="prove new"
    ),
    "the spare stays alone while nothing is due": Case(seen=seen(CALM, new()), step="rest not_due +1:00:00"),
    "a spare of another CA is not adopted": Case(
        seen=seen(certificate(), new(certificate_authority="x\\Test CA")), step="request due 0ld"
    ),
    "what the log says alone asks people, and does not lead to a spare": Case(
        seen=seen(replace(CALM, revoked_at=NOW - HOUR), new()), step="request revoked 0ld"
    ),
    "of two spares none is adopted": Case(
        seen=seen(certificate(), new(), replace(new(), id="new2")), step="request due 0ld"
    ),
    "one of ours that was replaced is not taken again": Case(
        seen=seen(certificate("x"), new(), named={MAIN: "x"}),
        did=did(requested(), PROVE, switch(before=NEW, after="x"), verified("x")),
        step="request due x",
    ),
    "a revoked one of ours that is not valid yet is not waited for": Case(
        seen=seen(certificate(), new("NotYetValid", revoked_at=NOW)), did=did(requested()), step="request due 0ld"
    ),
    "a spare that we rolled back is not adopted": Case(
        seen=seen(certificate(), new()), did=did(switch(), BACK, until=NOW - 2 * DAY), step="request due 0ld"
    ),
    # Into the switch
    "the server enters maintenance first": Case(
        seen=seen(certificate(), new()), did=PROVEN, step="enter_maintenance new"
    ),
    "then its definitions move, one by one (48)": Case(
        seen=seen(certificate(), new(), named=TWO, maintenance=True),
        did=did(requested(), PROVE, ENTER),
        step=f"switch {MAIN} 0ld>new",
    ),
    "a half-done switch goes on without asking windows and neighbours (48)": Case(
        seen=seen(
            certificate(),
            new(),
            named={MAIN: NEW, "in_session": OLD},
            maintenance=True,
            neighbours=(replace(OTHER, serving=False, switching=True),),
        ),
        did=MOVED,
        policy=replace(PLAIN, windows=(TUESDAY,)),
        step="switch in_session 0ld>new",
    ),
    "maintenance is skipped where that is set": Case(
        seen=seen(certificate(), new()),
        did=PROVEN,
        policy=replace(PLAIN, maintenance=Maintenance.SKIP),
        step=f"switch {MAIN} 0ld>new",
    ),
    "maintenance that a person entered is used": Case(
        seen=seen(certificate(), new(), maintenance=True), did=PROVEN, step=f"switch {MAIN} 0ld>new"
    ),
    "no other server serves (61)": Case(
        seen=seen(certificate(), new(), neighbours=(replace(OTHER, serving=False),)),
        did=PROVEN,
        step="alert no_neighbour +0:05:00",
    ),
    "no other server is there (61)": Case(
        seen=seen(certificate(), new(), neighbours=()), did=PROVEN, step="alert no_neighbour +0:05:00"
    ),
    "another server served an hour ago, and may have died since (61)": Case(
        seen=seen(certificate(), new(), neighbours=(replace(OTHER, seen_lately=False),)),
        did=PROVEN,
        step="rest neighbour_unseen +0:05:00",
    ),
    "that one was seen lately in maintenance, and another served an hour ago, is not enough (61)": Case(
        seen=seen(
            certificate(),
            new(),
            neighbours=(replace(OTHER, serving=False), replace(OTHER, name="c", seen_lately=False)),
        ),
        did=PROVEN,
        step="rest neighbour_unseen +0:05:00",
    ),
    "one of several that was seen to serve lately is enough (61)": Case(
        seen=seen(certificate(), new(), neighbours=(replace(OTHER, seen_lately=False), replace(OTHER, name="c"))),
        did=PROVEN,
        step="enter_maintenance new",
    ),
    "where maintenance is skipped, nobody is given to another server": Case(
        seen=seen(certificate(), new(), neighbours=(replace(OTHER, seen_lately=False),)),
        did=PROVEN,
        policy=replace(PLAIN, maintenance=Maintenance.SKIP),
        step=f"switch {MAIN} 0ld>new",
    ),
    "another server is switching": Case(
        seen=seen(certificate(), new(), neighbours=(OTHER, replace(OTHER, name="c", switching=True))),
        did=PROVEN,
        step="rest neighbour_switching +0:05:00",
    ),
    "nobody is served here, so nobody is lost and no neighbour is needed": Case(
        seen=seen(certificate(status="Expired", expires=NOW - DAY), new(), neighbours=()),
        did=PROVEN,
        step=f"switch {MAIN} 0ld>new",
    ),
    "by a clock of ours that is ahead nobody is cut off: FAS says that it serves": Case(
        seen=seen(certificate(expires=NOW - DAY), new(), neighbours=()),
        did=PROVEN,
        step="alert no_neighbour +0:05:00",
    ),
    "a revoked one still serves: maintenance comes first, and no window is waited for (58)": Case(
        seen=seen(certificate(revoked_at=NOW), new()),
        did=PROVEN,
        policy=replace(PLAIN, windows=(TUESDAY,)),
        step="enter_maintenance new overriding",
    ),
    "a switch waits for its window": Case(
        seen=seen(certificate(), new()),
        did=PROVEN,
        policy=replace(PLAIN, windows=(TUESDAY,)),
        step="rest outside_window +1 day, 10:00:00",
    ),
    "before its window opens, neighbours do not matter": Case(
        seen=seen(certificate(), new(), neighbours=()),
        did=PROVEN,
        policy=replace(PLAIN, windows=(TUESDAY,)),
        step="rest outside_window +1 day, 10:00:00",
    ),
    "no window opens in time, so none is waited for (54)": Case(
        seen=seen(certificate(expires=NOW + 2 * DAY), new()),
        did=PROVEN,
        policy=replace(PLAIN, windows=(TUESDAY,)),
        step="enter_maintenance new overriding",
    ),
    "the definitions of another certificate that is due move as well": Case(
        seen=seen(
            certificate(),
            certificate("b", expires=NOW + 40 * DAY),
            new(),
            named={MAIN: NEW, "y": "b"},
            maintenance=True,
        ),
        did=MOVED,
        step="switch y b>new",
    ),
    "what the log says alone moves no other definitions": Case(
        seen=seen(
            certificate(),
            replace(CALM, id="b", revoked_at=NOW),
            replace(CALM, id="c", not_before=NOW - 9000 * DAY),
            new(),
            named={MAIN: NEW, "y": "b", "z": "c"},
            maintenance=True,
        ),
        did=MOVED,
        policy=replace(PLAIN, lead_share=0.5),
        step="verify new",
    ),
    "a definition of one that is not due stays": Case(
        seen=seen(certificate(), replace(CALM, id="b"), new(), named={MAIN: NEW, "y": "b"}, maintenance=True),
        did=MOVED,
        step="verify new",
    ),
    "a definition that names a missing one moves too": Case(
        seen=seen(certificate(), new(), named={MAIN: NEW, "y": "gone"}, maintenance=True),
        did=MOVED,
        step="switch y gone>new",
    ),
    # After the switch
    "all have moved: they are tested": Case(seen=replace(SERVES, maintenance=True), did=MOVED, step="verify new"),
    "tested: users come back": Case(
        seen=replace(SERVES, maintenance=True),
        did=did(requested(), PROVE, ENTER, switch(), verified()),
        step="leave_maintenance new",
    ),
    "maintenance that a person entered is not left": Case(
        seen=replace(SERVES, maintenance=True),
        did=did(requested(), PROVE, switch(), verified()),
        step="soak new +0:05:00",
    ),
    "a person left it before: that is noted, so that a maintenance which people begin later is theirs": Case(
        seen=SERVES, did=did(requested(), PROVE, ENTER, switch(), verified()), step="leave_maintenance new"
    ),
    "the old one stays for the soak (47)": Case(
        seen=SERVES,
        did=did(requested(), PROVE, ENTER, switch(), verified(), LEAVE, until=NOW - 3 * DAY + 2 * MINUTE),
        step="soak new +0:01:00",
    ),
    "after the soak the old one is removed": Case(
        seen=SERVES,
        did=did(requested(), PROVE, ENTER, switch(), verified(), LEAVE, until=NOW - 3 * DAY),
        step="retire 0ld",
    ),
    "a log that says the new one lives for a day shortens no soak": Case(
        seen=seen(certificate(), new(not_before=NOW + 699 * DAY), named={MAIN: NEW}),
        did=did(requested(), PROVE, ENTER, switch(), verified(), LEAVE, until=NOW - DAY),
        step="soak new +0:05:00",
    ),
    "the old one is removed in a window": Case(
        seen=SERVES,
        did=did(requested(), PROVE, ENTER, switch(), verified(), LEAVE, until=NOW - 3 * DAY),
        policy=replace(PLAIN, windows=(replace(TUESDAY, weekdays=frozenset({0})),)),
        step="rest outside_window +10:00:00",
    ),
    "an old one that a definition names is not removed": Case(
        seen=seen(certificate(expires=NOW + 300 * DAY), new(), named={MAIN: NEW, TEST: OLD}),
        did=did(requested(replaces="x"), PROVE, switch(before="x"), verified(), until=NOW - 3 * DAY),
        step="rest not_due +1:00:00",
    ),
    "an old one that we did not replace is not removed": Case(
        seen=seen(certificate("x"), new(), named={MAIN: NEW}),
        did=did(requested(), PROVE, switch(), verified(), until=NOW - 9 * DAY),
        step="rest not_due +1:00:00",
    ),
    "failures after the switch lead to another test": Case(
        seen=replace(
            SERVES,
            failures=(IssuanceFailure(at=NOW - 6 * MINUTE, event=123, certificate_authority=CA, disposition=2),),
        ),
        did=did(requested(), PROVE, switch(), verified(), until=NOW - 10 * MINUTE),
        step="verify new",
    ),
    "failures before the last test do not": Case(
        seen=replace(
            SERVES,
            failures=(IssuanceFailure(at=NOW - 11 * MINUTE, event=123, certificate_authority=CA, disposition=2),),
        ),
        did=did(requested(), PROVE, switch(), verified(), until=NOW - 10 * MINUTE),
        step="soak new +0:05:00",
    ),
    # The way back (47)
    "the test failed: back to the old one (47)": Case(
        seen=replace(SERVES, maintenance=True),
        did=failing(did(requested(), PROVE, ENTER, switch(), verified())),
        step=f"roll_back verify_failed {MAIN} new>0ld",
    ),
    "back before the back-off of the failed test ends": Case(
        seen=SERVES,
        did=replace(failing(did(requested(), PROVE, switch(), verified())), not_before=NOW + HOUR),
        step=f"roll_back verify_failed {MAIN} new>0ld",
    ),
    "one that FAS does not lead back holds up no other (48)": Case(
        seen=seen(certificate(), new(), named={MAIN: NEW, "in_session": NEW}, maintenance=True),
        did=did(
            requested(),
            PROVE,
            ENTER,
            switch(),
            switch("in_session"),
            (verified(), Result.FAILED),
            (BACK, Result.FAILED),
        ),
        step="roll_back verify_failed in_session new>0ld",
    ),
    "then users come back (47)": Case(
        seen=seen(certificate(), new(), maintenance=True),
        did=replace(did(requested(), PROVE, ENTER, switch(), (verified(), Result.FAILED), BACK), not_before=NOW + HOUR),
        step="leave_maintenance new",
    ),
    "then people are told, and the new one is not tried again": Case(
        seen=seen(certificate(), new()),
        did=did(requested(), PROVE, ENTER, switch(), (verified(), Result.FAILED), BACK, LEAVE),
        step="alert verify_failed +1:00:00",
    ),
    "FAS refused a switch once: it is tried again": Case(
        seen=seen(certificate(), new(), named={MAIN: NEW, "in_session": OLD}, maintenance=True),
        did=did(requested(), PROVE, ENTER, switch(), (switch("in_session"), Result.FAILED)),
        step="switch in_session 0ld>new",
    ),
    "FAS refused it twice: all go back (48)": Case(
        seen=seen(certificate(), new(), named={MAIN: NEW, "in_session": OLD}, maintenance=True),
        did=did(requested(), PROVE, ENTER, switch(), *[(switch("in_session"), Result.FAILED)] * 2),
        step=f"roll_back refused_by_fas {MAIN} new>0ld",
    ),
    "there is no way back: users stay with the server that serves": Case(
        seen=seen(new(), named={MAIN: NEW}, maintenance=True),
        did=failing(did(requested(), PROVE, ENTER, switch(), verified())),
        step="alert no_way_back +1:00:00",
    ),
    "there is no way back and no other server: users come back, as no other state is better": Case(
        seen=seen(new(), named={MAIN: NEW}, maintenance=True, neighbours=()),
        did=failing(did(requested(), PROVE, ENTER, switch(), verified())),
        step="leave_maintenance new",
    ),
    "there is no way back: only a person can go on": Case(
        seen=seen(new(), named={MAIN: NEW}),
        did=failing(did(requested(), PROVE, switch(), verified())),
        step="alert no_way_back +1:00:00",
    ),
    "a revoked one is no way back": Case(
        seen=seen(certificate(revoked_at=NOW), new(), named={MAIN: NEW}),
        did=failing(did(requested(), PROVE, switch(), verified())),
        step="alert no_way_back +1:00:00",
    ),
    "a person led a definition back in the console: the others follow": Case(
        seen=seen(certificate(), new(), named={MAIN: OLD, "in_session": NEW}),
        did=did(requested(), PROVE, switch(), switch("in_session"), verified()),
        step="roll_back not_read_back in_session new>0ld",
    ),
    "a person led a definition on to another: nothing follows": Case(
        seen=seen(certificate(), new(), replace(CALM, id="x"), named={MAIN: "x", "in_session": NEW}),
        did=did(requested(), PROVE, switch(), switch("in_session"), verified()),
        step="soak new +0:05:00",
    ),
    "the new one vanished: back to the old one": Case(
        seen=seen(certificate(), named={MAIN: NEW}, maintenance=True),
        did=MOVED,
        step=f"roll_back definition_names_missing {MAIN} new>0ld",
    ),
    "the one that came vanished after maintenance was entered: it is left": Case(
        seen=seen(certificate(), maintenance=True), did=did(requested(), PROVE, ENTER), step="leave_maintenance new"
    ),
    # What people ask for
    "a person withdraws the request": Case(
        seen=seen(certificate(), new("WaitingForApproval")),
        did=asking(AskKind.WITHDRAW, did(requested())),
        step="withdraw asked new",
    ),
    "a person withdraws the only request, which is not ours": Case(
        seen=seen(certificate(), certificate("found", "Pending")),
        did=asking(AskKind.WITHDRAW),
        step="withdraw asked found",
    ),
    "a person withdraws a broken certificate": Case(
        seen=seen(certificate(), new()), did=asking(AskKind.WITHDRAW, failing(PROVEN)), step="withdraw asked new"
    ),
    "a person had all go back, and nothing is due": Case(
        seen=seen(CALM, new()),
        did=did(requested(), PROVE, switch(), verified(), replace(BACK, reason=RenewalReason.ASKED), until=NOW - DAY),
        step="alert taken_back +1:00:00",
    ),
    "a person had all go back, and the next request is due later": Case(
        seen=seen(certificate(), new()),
        did=did(requested(), PROVE, switch(), verified(), replace(BACK, reason=RenewalReason.ASKED), until=NOW - HOUR),
        step="rest taken_back +23:00:00",
    ),
    "a person wants the way back": Case(
        seen=SERVES,
        did=asking(AskKind.ROLL_BACK, did(requested(), PROVE, switch(), verified())),
        step=f"roll_back asked {MAIN} new>0ld",
    ),
    # Pauses and back-offs
    "a person paused the server: nothing is requested": Case(
        seen=seen(certificate()), did=paused(NOTHING), step="rest paused +1:00:00"
    ),
    "paused: a request that the CA has waits on": Case(
        seen=seen(certificate(), certificate(NEW, "Pending")),
        did=paused(did(requested())),
        step="await_approval new +0:05:00",
    ),
    "paused: a half-done switch goes on": Case(
        seen=seen(certificate(), new(), named={MAIN: NEW, "in_session": OLD}, maintenance=True),
        did=paused(MOVED),
        step="switch in_session 0ld>new",
    ),
    "paused: maintenance is left where nothing has moved": Case(
        seen=seen(certificate(), new(), maintenance=True),
        did=paused(did(requested(), PROVE, ENTER)),
        step="leave_maintenance new",
    ),
    "paused: what was proven is not switched to": Case(
        seen=seen(certificate(), new()), did=paused(PROVEN), step="rest paused +1:00:00"
    ),
    "a failed act waits for its back-off": Case(
        seen=seen(certificate()),
        did=replace(did((requested(), Result.FAILED)), not_before=NOW + HOUR),
        step="rest backing_off +1:00:00",
    ),
    "a person who asks after it failed is not made to wait": Case(
        seen=seen(certificate()),
        did=asking(AskKind.RENEW, replace(did((requested(), Result.FAILED)), not_before=NOW + HOUR)),
        step="request asked 0ld",
    ),
    "an act that got no answer and was not done waits too": Case(
        seen=seen(certificate()),
        did=replace(did((requested(), Result.NOT_DONE)), not_before=NOW + HOUR),
        step="rest backing_off +1:00:00",
    ),
    "a back-off by a clock that was days ahead is over": Case(
        seen=seen(certificate()),
        did=replace(did((requested(), Result.FAILED)), not_before=NOW + 10 * DAY),
        step="request due 0ld",
    ),
    "a first switch that failed is not waited for in maintenance": Case(
        seen=seen(certificate(), new(), maintenance=True),
        did=replace(did(requested(), PROVE, ENTER, (switch(), Result.FAILED)), not_before=NOW + HOUR),
        step="leave_maintenance new",
    ),
    "a half-done switch that failed is": Case(
        seen=seen(certificate(), new(), named={MAIN: NEW, "in_session": OLD}, maintenance=True),
        did=replace(
            did(requested(), PROVE, ENTER, switch(), (switch("in_session"), Result.FAILED)), not_before=NOW + HOUR
        ),
        step="rest backing_off +1:00:00",
    ),
    "what FAS said to have removed is not removed again and again": Case(
        seen=SERVES,
        did=did(requested(), PROVE, switch(), verified(), RETIRE, every=4 * DAY, until=NOW - 2 * MINUTE),
        step="rest not_due +1:00:00",
    ),
    "what it goes on listing is told": Case(
        seen=SERVES,
        did=did(requested(), PROVE, switch(), verified(), RETIRE, every=4 * DAY, until=NOW - 3 * MINUTE),
        step="alert not_read_back +1:00:00",
    ),
    "and removed again after an hour": Case(
        seen=SERVES,
        did=did(requested(), PROVE, switch(), verified(), RETIRE, every=4 * DAY, until=NOW - HOUR),
        step="retire 0ld",
    ),
    "a denied request that FAS said to have removed neither": Case(
        seen=seen(certificate(), certificate(NEW, "Denied", None)),
        did=did(requested(), DENIAL, until=NOW - MINUTE),
        step="rest denied +23:59:00",
    ),
    "maintenance that was not seen to begin, and did, is left in the end": Case(
        seen=replace(SERVES, maintenance=True),
        did=did(requested(), PROVE, (ENTER, Result.NOT_DONE), switch(), verified()),
        step="leave_maintenance new",
    ),
    "maintenance a day after FAS refused ours is people's": Case(
        seen=replace(SERVES, maintenance=True),
        did=did(requested(), PROVE, (ENTER, Result.FAILED), switch(), verified(), until=NOW - DAY),
        step="soak new +0:05:00",
    ),
    "FAS refused maintenance and yet began it: the switch goes on": Case(
        seen=seen(certificate(), new(), maintenance=True),
        did=did(requested(), PROVE, (ENTER, Result.FAILED)),
        step="switch default_Definition 0ld>new",
    ),
    "FAS refused maintenance and yet began it: it is left in the end": Case(
        seen=replace(SERVES, maintenance=True),
        did=did(requested(), PROVE, (ENTER, Result.FAILED), switch(), verified()),
        step="leave_maintenance new",
    ),
    "a server that a person put into maintenance is left there": Case(
        seen=replace(SERVES, maintenance=True),
        did=did(requested(), PROVE, switch(), verified()),
        step="soak new +0:05:00",
    ),
    "a wish from before it failed waits": Case(
        seen=seen(certificate()),
        did=asking(AskKind.RENEW, replace(did((requested(), Result.FAILED)), not_before=NOW + HOUR), at=NOW - 2 * HOUR),
        step="rest backing_off +1:00:00",
    ),
    "offline requests are made as files": Case(
        seen=seen(certificate()), policy=replace(PLAIN, offline=True), step="request due 0ld"
    ),
}


@pytest.mark.parametrize("sentence", CASES)
def test_the_next_step_is(sentence: str) -> None:
    """Promises 44 to 50, 53, 54, 56 to 58 and 61: the rule of the sentence, and nothing else, decides."""
    case = CASES[sentence]

    step = plan_renewal(case.seen, case.did, case.policy, NOW)

    assert brief(step) == case.step


@pytest.mark.parametrize(
    ("word", "issued"),
    [("WaitingForApproval", False), ("Pending", False), ("Denied", False), ("Ok", True), ("Expired", True)],
)
def test_a_withdrawal_tells_a_request_from_a_certificate(word: str, issued: bool) -> None:
    """What waits is to be denied at the CA, what was issued is to be revoked there."""
    asked = asking(AskKind.WITHDRAW, failing(PROVEN) if issued else did(requested()))
    step = plan_renewal(seen(certificate(), new(word)), asked, PLAIN, NOW)
    assert isinstance(step, Withdraw)
    assert (step.certificate_id, step.issued) == (NEW, issued)


def silent(attempts: Attempts) -> Attempts:
    """The same, and what was not done had got no answer before."""
    finding = failed(RenewalReason.ANSWER_UNKNOWN)
    acts = tuple(replace(each, finding=finding) if each.result is Result.NOT_DONE else each for each in attempts.acts)
    return replace(attempts, acts=acts)


UNANSWERED = (verified(), Result.NOT_DONE)


@pytest.mark.parametrize(
    ("tests", "maintenance", "step"),
    [
        ((UNANSWERED,) * 2, True, "verify new"),
        ((UNANSWERED,) * 3, True, "roll_back verify_failed default_Definition new>0ld"),
        ((UNANSWERED, verified(), *[UNANSWERED] * 2), False, "leave_maintenance new"),
    ],
)
def test_users_do_not_wait_for_ever_for_a_test_without_an_answer(
    tests: tuple[tuple[Verify, Result] | Verify, ...], maintenance: bool, step: str
) -> None:
    """Promise 47: three tests in a row that time out count as failed, so that the server leaves maintenance."""
    remembered = silent(did(requested(), PROVE, ENTER, switch(), *tests))
    planned = plan_renewal(replace(SERVES, maintenance=maintenance), remembered, PLAIN, NOW)
    assert brief(planned) == step


@pytest.mark.parametrize(
    ("switches", "step"),
    [
        ([switch(), *[(switch("in_session"), Result.NOT_DONE)] * 3], "switch in_session 0ld>new"),
        (
            [switch(), *[(switch("in_session"), Result.NOT_DONE)] * 4],
            "roll_back refused_by_fas default_Definition new>0ld",
        ),
        ([(switch(), Result.NOT_DONE)] * 4, "switch default_Definition 0ld>new"),
    ],
    ids=["three times", "four times", "nothing has moved"],
)
def test_users_do_not_wait_for_ever_for_the_rest_of_a_switch(
    switches: list[Switch | tuple[Switch, Result]], step: str
) -> None:
    """Promise 48: a further definition that times out again and again leads back; the first is simply repeated."""
    named = {MAIN: OLD, "in_session": OLD} if isinstance(switches[0], tuple) else {MAIN: NEW, "in_session": OLD}
    observation = seen(certificate(), new(), named=named, maintenance=True)
    remembered = silent(did(requested(), PROVE, ENTER, *switches))
    assert brief(plan_renewal(observation, remembered, PLAIN, NOW)) == step


def test_a_test_that_a_crash_of_ours_cut_off_is_simply_done_again() -> None:
    """Three crashes say nothing about the new certificate."""
    remembered = did(requested(), PROVE, ENTER, switch(), *[UNANSWERED] * 3)
    assert brief(plan_renewal(replace(SERVES, maintenance=True), remembered, PLAIN, NOW)) == "verify new"


def test_a_request_says_what_was_there_before() -> None:
    """Promise 45: the ids before the request are recorded with it, and the CA of the old certificate is asked."""
    step = plan_renewal(seen(certificate(), certificate("x", "Expired", NOW - DAY)), NOTHING, PLAIN, NOW)

    assert step == requested(known=frozenset({OLD, "x"}))


@pytest.mark.parametrize(
    ("policy", "old", "authority"),
    [
        (PLAIN, certificate(), CA),
        (replace(PLAIN, certificate_authority="b\\B"), certificate(), "b\\B"),
        (PLAIN, certificate(certificate_authority=None), "users\\CA"),
        (replace(PLAIN, offline=True), certificate(), None),
    ],
    ids=["that of the old one", "the one that is set", "the one that enrolls users", "none, offline"],
)
def test_the_ca_that_is_asked(policy: RenewalPolicy, old: AuthorizationCertificate, authority: str | None) -> None:
    """The CA is the one that is set, else that of the certificate that is replaced, else the definitions' own."""
    observation = seen(old)
    first = replace(observation.definitions[0], certificate_authorities=("users\\CA",))

    step = plan_renewal(replace(observation, definitions=(first,)), NOTHING, policy, NOW)

    assert isinstance(step, Request)
    assert step.certificate_authority == authority
    assert step.offline is policy.offline


def test_of_two_requests_ours_is_to_be_approved() -> None:
    """The alert names the request that the service made, whatever its number."""
    two = seen(
        certificate(),
        certificate("x", "WaitingForApproval", ca_request_id="7"),
        new("WaitingForApproval", ca_request_id="12"),
    )

    ours, oldest = (plan_renewal(two, attempts, PLAIN, NOW) for attempts in (did(requested()), NOTHING))

    assert isinstance(ours, Alert)
    assert ours.findings[0].expected == "only new (request 12)"
    assert isinstance(oldest, Alert)
    assert oldest.findings[0].expected == "only x (request 7)"


def test_verification_tests_every_rule_and_definition() -> None:
    """What logons use comes first, and every definition of the rule that names the new certificate is tested."""
    step = plan_renewal(
        seen(certificate(), new(), named={MAIN: NEW, "in_session": NEW, "other": "b"}), MOVED, PLAIN, NOW
    )
    none = plan_renewal(SERVES, MOVED, replace(PLAIN, test_upn=None), NOW)

    assert isinstance(none, Verify)
    assert none.upn is None
    assert brief(step) == "switch other b>new"
    step = plan_renewal(seen(certificate(), new(), named={MAIN: NEW, "in_session": NEW}), MOVED, PLAIN, NOW)
    assert isinstance(step, Verify)
    assert [(each.rule, each.definition) for each in step.tests] == [("default", MAIN), ("default", "in_session")]


def test_nothing_is_removed_while_its_successor_is_not_verified() -> None:
    """Promise 47: of verified, in use and soaked, each is needed before the old one goes."""
    done = did(requested(), PROVE, ENTER, switch(), verified(), LEAVE, until=NOW - 3 * DAY)
    unverified = replace(done, acts=tuple(each for each in done.acts if not isinstance(each.step, Verify)))
    expired = seen(certificate(), new("Expired", expires=NOW - DAY), named={MAIN: NEW})

    assert isinstance(plan_renewal(SERVES, done, PLAIN, NOW), Retire)
    for observation, attempts in ((SERVES, unverified), (expired, done)):
        assert not isinstance(plan_renewal(observation, attempts, PLAIN, NOW), Retire)


def test_what_a_definition_names_is_never_left_over() -> None:
    """Promise 47: an old certificate that any definition names is not even a candidate for removal."""
    done = did(requested(), PROVE, ENTER, switch(), verified(), LEAVE, until=NOW - 3 * DAY)
    still = replace(SERVES, definitions=definitions(**{MAIN: NEW, TEST: OLD}))

    assert left_over(weigh(SERVES, done, PLAIN, NOW)) == Retire(certificate_id=OLD, replaced_by=NEW)
    assert left_over(weigh(still, done, PLAIN, NOW)) is None


ZONE_CASES: dict[str, tuple[datetime, datetime]] = {
    "winter": (datetime(2026, 3, 27, 12, tzinfo=UTC), datetime(2026, 3, 28, 1, tzinfo=UTC)),
    "the night of the change": (datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 3, 29, 1, tzinfo=UTC)),
    "summer": (datetime(2026, 3, 29, 12, tzinfo=UTC), datetime(2026, 3, 30, 0, tzinfo=UTC)),
}


@pytest.mark.parametrize("when", ZONE_CASES)
def test_windows_are_in_their_zone(when: str) -> None:
    """A window at 02:00 in Berlin opens an hour earlier in UTC once clocks went forward."""
    now, opens = ZONE_CASES[when]
    nightly = Window(weekdays=frozenset(range(7)), start=time(2), length=HOUR, zone="Europe/Berlin")
    observation = seen(certificate(expires=now + 30 * DAY), new())

    step = plan_renewal(observation, did(requested(), PROVE, until=now - HOUR), replace(PLAIN, windows=(nightly,)), now)

    assert getattr(step, "reason", None) is RenewalReason.OUTSIDE_WINDOW
    assert getattr(step, "until", None) == opens
