"""What becomes of wishes that are fulfilled, or cannot be followed; what reading FAS tells; what a preview shows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from evidence_service.renewal.asks import asks_to_settle
from evidence_service.renewal.cmdlets import NEW_ID
from evidence_service.renewal.model import (
    Act,
    AskKind,
    Attempts,
    EnterMaintenance,
    LeaveMaintenance,
    Maintenance,
    Observation,
    Prove,
    Result,
    Retire,
    RollBack,
    Withdraw,
)
from evidence_service.renewal.plan import plan_renewal
from evidence_service.renewal.preview import preview_renewal
from evidence_service.renewal.reasons import RenewalReason
from evidence_service.renewal.reconcile import SETTLES, reconcile
from tests.renewal.world import (
    DAY,
    HOUR,
    MINUTE,
    NEW,
    NOW,
    OLD,
    PLAIN,
    PROVING,
    SECOND,
    TEST,
    Fate,
    World,
    asking,
    brief,
    certificate,
    did,
    new,
    requested,
    seen,
    switch,
    verified,
)

NOTHING = Attempts(jitter=0.0)
MAIN = "default_Definition"
PROVE = Prove(certificate_id=NEW)
SERVES = seen(certificate(), new(), named={MAIN: NEW})
SWITCHED = did(requested(), PROVE, switch(), verified())
BACK = RollBack(reason=RenewalReason.ASKED, definition=MAIN, before=NEW, after=OLD)
CALM = certificate(expires=NOW + 200 * DAY)

SETTLED: dict[str, tuple[AskKind, Observation, Attempts, str | None]] = {
    "a renewal that can start is not settled": (AskKind.RENEW, seen(CALM), NOTHING, None),
    "a renewal was asked for and requested": (
        AskKind.RENEW,
        seen(CALM, new("Pending")),
        did(requested(), until=NOW),
        "A certificate was requested.",
    ),
    "a request waits already": (
        AskKind.RENEW,
        seen(CALM, new("Pending")),
        NOTHING,
        "A request waits at the CA already",
    ),
    "a certificate has come already": (
        AskKind.RENEW,
        seen(certificate(), new()),
        did(requested()),
        "A renewal is under way already: new has come.",
    ),
    "definitions are being switched": (
        AskKind.RENEW,
        seen(certificate(), new(), named={MAIN: NEW, "y": OLD}),
        did(requested(), PROVE, switch()),
        "A renewal is under way already: definitions are being switched to new.",
    ),
    "the old one is kept for the soak": (AskKind.RENEW, SERVES, SWITCHED, "A renewal is under way already: new serves"),
    "a renewal after an earlier one is through": (AskKind.RENEW, seen(new(), named={MAIN: NEW}), SWITCHED, None),
    "no definition names a certificate": (AskKind.RENEW, seen(CALM, named={}), NOTHING, "Nothing is renewed"),
    "what waits can be withdrawn": (AskKind.WITHDRAW, seen(CALM, new("Pending")), NOTHING, None),
    "nothing waits": (AskKind.WITHDRAW, seen(CALM), NOTHING, "Nothing was withdrawn: no request waits"),
    "two wait and neither is ours": (
        AskKind.WITHDRAW,
        seen(CALM, certificate("x", "Pending"), certificate("y", "Pending")),
        NOTHING,
        "Nothing was withdrawn: several requests wait",
    ),
    "two wait and one is ours": (
        AskKind.WITHDRAW,
        seen(CALM, certificate("x", "Pending"), new("Pending")),
        did(requested()),
        None,
    ),
    "a definition names what waits": (
        AskKind.WITHDRAW,
        seen(CALM, new("Pending"), named={MAIN: OLD, "y": NEW}),
        NOTHING,
        "Nothing was withdrawn: a certificate definition names the request.",
    ),
    "it was withdrawn": (
        AskKind.WITHDRAW,
        seen(CALM),
        did(requested(), Withdraw(reason=RenewalReason.ASKED, certificate_id=NEW), until=NOW),
        "The request was withdrawn.",
    ),
    "it was issued and is removed": (
        AskKind.WITHDRAW,
        seen(CALM),
        did(requested(), Withdraw(reason=RenewalReason.ASKED, certificate_id=NEW, issued=True), until=NOW),
        "The unused certificate was removed.",
    ),
    "FAS refused to withdraw it: it is tried again": (
        AskKind.WITHDRAW,
        seen(CALM, new("Pending")),
        did(requested(), (Withdraw(reason=RenewalReason.ASKED, certificate_id=NEW), Result.FAILED), until=NOW),
        None,
    ),
    "a certificate that failed was tested again": (
        AskKind.RENEW,
        seen(certificate(), new()),
        did(requested(), (PROVE, Result.FAILED), (PROVE, Result.FAILED), until=NOW, every=HOUR),
        "The certificate that had come was tested again.",
    ),
    "there is a way back": (AskKind.ROLL_BACK, SERVES, SWITCHED, None),
    "all went back": (
        AskKind.ROLL_BACK,
        seen(certificate(), new()),
        did(switch(), BACK, until=NOW),
        "All definitions were rolled back.",
    ),
    "nothing was switched": (AskKind.ROLL_BACK, seen(CALM), NOTHING, "Nothing was rolled back: no definition"),
    "nothing is where it was switched to": (
        AskKind.ROLL_BACK,
        seen(certificate(), new()),
        SWITCHED,
        "Nothing to roll back: no definition names new.",
    ),
    "the old one is gone": (
        AskKind.ROLL_BACK,
        seen(new(), named={MAIN: NEW}),
        SWITCHED,
        "Not rolled back: the way back is missing, expired or revoked (0ld).",
    ),
    "an answer without an offline request": (
        AskKind.IMPORT,
        seen(CALM, new("Pending")),
        NOTHING,
        "Not imported: no offline request waits",
    ),
    "an answer that cannot be read": (
        AskKind.IMPORT,
        seen(CALM, new("Pending", certificate_authority=None)),
        NOTHING,
        "Not imported: response_unreadable",
    ),
}


@pytest.mark.parametrize("sentence", SETTLED)
def test_a_wish_is_settled_or_followed(sentence: str) -> None:
    """A wish that needs nothing more is settled with the sentence that says why; any other stays open."""
    kind, observation, attempts, outcome = SETTLED[sentence]
    attempts = asking(kind, attempts, at=NOW - MINUTE)

    settled = asks_to_settle(observation, attempts, PLAIN, NOW)

    if outcome is None:
        assert settled == ()
    else:
        ((ask, said),) = settled
        assert ask == attempts.asks[0]
        assert said.startswith(outcome)
        assert said.endswith(".")


def test_nothing_is_settled_while_an_answer_is_unknown() -> None:
    """Promise 46: whether the wish was followed is not known yet."""
    attempts = asking(AskKind.WITHDRAW, did((requested(), Result.UNKNOWN)))

    assert asks_to_settle(seen(CALM), attempts, PLAIN, NOW) == ()


ENTER, LEAVE = EnterMaintenance(certificate_id=NEW), LeaveMaintenance(certificate_id=NEW)
RECONCILED: dict[str, tuple[Act, Observation, str]] = {
    "a request is found by its new id (45)": (requested(), seen(certificate(), new("Pending")), "done new"),
    "a request that was issued meanwhile is found too (45)": (requested(), seen(certificate(), new()), "done new"),
    "an open one is taken before an issued one": (
        requested(),
        seen(certificate(), certificate("a"), new("Pending")),
        "done new",
    ),
    "a new entry of another CA is not ours": (
        requested(),
        seen(certificate(), new("Pending", certificate_authority="x\\Y")),
        "open",
    ),
    "an entry with the key of another is not ours": (
        requested(),
        seen(certificate(request_key_sha256="aa"), new("Pending", request_key_sha256="aa")),
        "open",
    ),
    "an offline request is found without CA": (
        requested(offline=True, certificate_authority=None),
        seen(certificate(), new("Pending", certificate_authority=None)),
        "done new",
    ),
    "a request that has not turned up may still do so (46)": (requested(), seen(certificate()), "open"),
    "a switch is seen": (switch(), SERVES, "done"),
    "a switch is not seen": (switch(), seen(certificate(), new()), "open"),
    "a roll-back is seen": (BACK, seen(certificate(), new()), "done"),
    "the old one is gone": (Retire(certificate_id=OLD, replaced_by=NEW), seen(new(), named={MAIN: NEW}), "done"),
    "the old one is there": (Retire(certificate_id=OLD, replaced_by=NEW), SERVES, "open"),
    "in maintenance": (ENTER, replace(SERVES, maintenance=True), "done"),
    "not in maintenance": (ENTER, SERVES, "open"),
    "out of maintenance": (LEAVE, SERVES, "done"),
    "leaving maintenance cannot be read": (LEAVE, replace(SERVES, maintenance=None), "open"),
    "a proof can be repeated": (PROVE, SERVES, "not_done"),
    "a test can be repeated": (verified(), SERVES, "not_done"),
}


@pytest.mark.parametrize("result", [None, Result.UNKNOWN])
@pytest.mark.parametrize("sentence", RECONCILED)
def test_reading_fas_tells(sentence: str, result: Result | None) -> None:
    """Promises 45 and 46: what FAS shows settles an act; what it does not show yet stays open until the grace ends."""
    act, observation, expected = RECONCILED[sentence]
    attempts = did((act, result), until=NOW - MINUTE)

    early = reconcile(observation, attempts, PLAIN)
    late = reconcile(replace(observation, at=NOW + 14 * MINUTE), attempts, PLAIN)

    shown = [f"{each.result} {each.certificate_id or ''}".strip() for each in early]
    assert shown == ([] if expected == "open" else [expected])
    assert [each.result.value for each in late] == ["not_done" if expected == "open" else expected.split()[0]]


@pytest.mark.parametrize("act", [switch(), ENTER, Retire(certificate_id=OLD, replaced_by=NEW)])
def test_a_call_that_fas_held_up_may_still_land(act: Act) -> None:
    """Promise 46: another way is not gone before a change that was sent had the time to show."""
    observation, attempts = (
        replace(seen(certificate(), new()), maintenance=False),
        did((act, Result.UNKNOWN), until=NOW),
    )

    assert reconcile(replace(observation, at=NOW + SETTLES - SECOND), attempts, PLAIN) == ()
    (resolution,) = reconcile(replace(observation, at=NOW + SETTLES), attempts, PLAIN)
    assert resolution.result is Result.NOT_DONE


def test_a_server_that_may_be_in_maintenance_counts_as_in_it() -> None:
    """Where FAS does not tell, it is taken out again in the end, and never forgotten there."""
    observation = replace(SERVES, maintenance=None)
    attempts = did((ENTER, Result.UNKNOWN), until=NOW)
    assert reconcile(replace(observation, at=NOW + 14 * MINUTE), attempts, PLAIN) == ()
    (resolution,) = reconcile(replace(observation, at=NOW + 15 * MINUTE), attempts, PLAIN)
    assert resolution.result is Result.DONE


def test_the_grace_begins_when_the_call_ends() -> None:
    """A call that was waited for as long as the grace is no reason to ask the CA again at once."""
    (attempt,) = did((requested(), Result.UNKNOWN), until=NOW).acts
    ended = replace(attempt, result_at=NOW + HOUR)
    attempts = Attempts(jitter=0.0, acts=(ended,))
    assert reconcile(replace(seen(certificate()), at=NOW + HOUR + 14 * MINUTE), attempts, PLAIN) == ()
    (resolution,) = reconcile(replace(seen(certificate()), at=NOW + HOUR + 15 * MINUTE), attempts, PLAIN)
    assert resolution.result is Result.NOT_DONE


def test_an_observation_says_nothing_of_what_came_after_it() -> None:
    """Promise 45: FAS was read a moment after the request began, and reading the rest took an hour."""
    attempts = did((requested(), None), until=NOW - SECOND)
    assert reconcile(seen(certificate(), at=NOW), attempts, PLAIN) == ()
    planned = plan_renewal(seen(certificate(), at=NOW), attempts, PLAIN, NOW + HOUR)
    assert brief(planned, NOW + HOUR) == "rest answer_unknown +0:00:30"
    told = did(requested(), until=NOW - SECOND)
    planned = plan_renewal(seen(certificate(), at=NOW), told, PLAIN, NOW + HOUR)
    assert brief(planned, NOW + HOUR) == "rest answer_unknown +0:05:00"


def test_a_call_may_go_on_after_its_process_died() -> None:
    """Promise 46: what was only intended may reach FAS minutes later; when a call ended that got no answer is known."""
    runs_on = 10 * MINUTE
    for act, settles in ((ENTER, SETTLES), (requested(), PLAIN.answer_grace)):
        attempts = did((act, None), until=NOW)
        late = NOW + settles + runs_on
        assert reconcile(seen(certificate(), at=late - SECOND), attempts, PLAIN, runs_on) == ()
        (resolution,) = reconcile(seen(certificate(), at=late), attempts, PLAIN, runs_on)
        assert resolution.result is Result.NOT_DONE


def test_a_request_that_turns_up_late_is_adopted_and_not_repeated() -> None:
    """Promise 45: the CA took it, the answer was cut off, FAS lists it ten minutes later: no second request is made."""
    world = World(policy=PLAIN, certificates=[certificate()], named={MAIN: OLD})
    assert brief(world.tick(Fate.ANSWER_LOST)) == "request due 0ld"
    late = world.certificates.pop()
    for _ in range(10):
        world.now += MINUTE
        assert brief(world.tick(), world.now).startswith("rest answer_unknown")
    world.certificates.append(late)

    step = world.tick()

    assert brief(step, world.now) == f"await_approval {late.id} +0:05:00"
    assert world.made == 1


def test_an_answered_act_is_not_touched() -> None:
    """What is known stays known."""
    attempts = did(requested(), (switch(), Result.FAILED), (verified(), Result.NOT_DONE))

    assert reconcile(seen(certificate()), attempts, PLAIN) == ()


def test_an_id_is_taken_once() -> None:
    """Two unanswered requests cannot both have led to the one new entry."""
    attempts = did((requested(), None), (requested(), Result.UNKNOWN), until=NOW - MINUTE)

    resolved = reconcile(seen(certificate(), new("Pending")), attempts, PLAIN)

    assert [(each.attempt.seq, each.certificate_id) for each in resolved] == [(1, NEW)]


def previewed(observation: Observation, attempts: Attempts = NOTHING, policy: object = PLAIN) -> list[str]:
    """The steps of a preview in short."""
    assert isinstance(policy, type(PLAIN))
    steps = [each.step for each in preview_renewal(observation, attempts, policy, NOW)]
    return [brief(each).split(" +")[0] for each in steps]


def test_a_preview_goes_to_the_end() -> None:
    """From the request to the removal of the old one, with the new id still unnamed."""
    assert previewed(seen(CALM, named={MAIN: OLD, "y": OLD, TEST: OLD}), policy=PROVING) == [
        "request asked 0ld",
        f"await_approval {NEW_ID}",
        f"prove {TEST} {NEW_ID} pointing",
        f"enter_maintenance {NEW_ID}",
        f"switch {MAIN} 0ld>{NEW_ID}",
        f"switch y 0ld>{NEW_ID}",
        f"verify {NEW_ID}",
        f"leave_maintenance {NEW_ID}",
        f"soak {NEW_ID}",
        "retire 0ld",
        "rest not_due",
    ]


def test_a_preview_starts_where_the_server_is() -> None:
    """A renewal that is under way is shown from its next step, and a pause does not hide it."""
    paused = replace(did(requested(), PROVE, until=NOW - HOUR), paused_until=NOW + DAY, not_before=NOW + DAY)

    shown = previewed(seen(certificate(), new()), paused, replace(PLAIN, maintenance=Maintenance.SKIP))

    assert shown == [f"switch {MAIN} 0ld>new", "verify new", "soak new", "retire 0ld", "rest not_due"]


def test_a_preview_ends_where_only_a_person_can_go_on() -> None:
    """Promise 61: without a neighbour the preview says so, and does not pretend a switch."""
    shown = previewed(seen(CALM, neighbours=()))

    assert shown[-1] == "alert no_neighbour"
    assert len(shown) == 4
