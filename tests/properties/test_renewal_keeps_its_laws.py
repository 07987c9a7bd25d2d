"""Whatever gets lost, fails, is denied or asked for: what a renewal never does, and what it always does in the end."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evidence_service.renewal.model import (
    ACTS,
    WAITING,
    Ask,
    AskKind,
    Attempts,
    CertificateStatus,
    Deadline,
    EnterMaintenance,
    Maintenance,
    Request,
    Result,
    Retire,
    RollBack,
    Step,
    Switch,
    Withdraw,
)
from evidence_service.renewal.plan import plan_renewal
from evidence_service.renewal.reconcile import reconcile
from evidence_service.renewal.timing import lead_findings, renewal_start
from tests.renewal.world import (
    DAY,
    HOUR,
    MINUTE,
    NEW,
    NOW,
    OLD,
    OTHER,
    PLAIN,
    PROVING,
    SECOND,
    TEST,
    Fate,
    World,
    brief,
    certificate,
    did,
    requested,
)

policies = st.builds(
    replace,
    st.sampled_from((PLAIN, PROVING)),
    maintenance=st.sampled_from(Maintenance),
    on_deadline=st.sampled_from(Deadline),
    maximum_denials=st.integers(1, 3),
    soak=st.sampled_from((timedelta(0), HOUR, 3 * DAY)),
    poll=st.just(HOUR),
)


@dataclass(frozen=True, kw_only=True)
class Event:
    """What happens, and how long afterwards the server is looked at again."""

    kind: str
    after: timedelta


events = st.builds(
    Event,
    kind=st.sampled_from(
        (
            *Fate,
            *(Fate.FINE,) * 4,
            "issue",
            "issue",
            "deny",
            "removed",
            "alone",
            "together",
            *(each for each in AskKind),
        )
    ),
    after=st.sampled_from((SECOND, MINUTE, 20 * MINUTE, 5 * HOUR, DAY, 9 * DAY)),
)


def fresh(policy: object) -> World:
    """One certificate in use that is due in a week, by two definitions and a test definition."""
    assert isinstance(policy, type(PLAIN))
    return World(
        policy=policy,
        certificates=[certificate(OLD, "Ok", NOW + 67 * DAY)],
        named={"default_Definition": OLD, "in_session": OLD, TEST: OLD},
    )


def happen(world: World, event: Event) -> Step | None:
    """Let it happen; the step where the worker looked."""
    step = None
    if event.kind in Fate.__members__.values():
        before = deepcopy(world)
        step = world.tick(Fate(event.kind))
        check(before, step)
    elif event.kind in {"issue", "deny"}:
        world.decide(issue=event.kind == "issue")
    elif event.kind == "removed":  # a person works in the console
        unnamed = [each for each in world.certificates if each.id not in world.named.values()]
        world.certificates = [each for each in world.certificates if each not in unnamed[:1]]
    elif event.kind in {"alone", "together"}:
        world.neighbour = replace(OTHER, serving=event.kind == "together")
    elif not any(each.kind == event.kind for each in world.asks):
        world.asks.append(Ask(seq=len(world.acts) + 1000, kind=AskKind(event.kind), at=world.now, actor="alice"))
    assert len(world.waiting) <= 1
    assert world.maintenance in (False, True)
    world.now += event.after
    return step


def check(before: World, step: Step) -> None:
    """The laws of a single step, against what FAS reported."""
    observation = before.observation()
    used = {name for name in observation.used if name}
    if isinstance(step, (Retire, Withdraw)):
        assert step.certificate_id not in used
        assert observation.certificate(step.certificate_id) is not None
    if isinstance(step, (Switch, RollBack)):
        after = observation.certificate(step.after)
        assert after is not None
        assert after.status is CertificateStatus.OK
        named = observation.definition(step.definition)
        assert named is not None
        assert named.authorization_certificate == step.before
    if isinstance(step, Request):
        assert not before.waiting
        assert all(each.status not in WAITING for each in observation.certificates)
    if isinstance(step, EnterMaintenance):
        assert before.neighbour.serving
    if not isinstance(step, ACTS):
        assert step.until > before.now


@settings(max_examples=150)
@given(policy=policies, history=st.lists(events, max_size=60))
def test_no_history_breaks_a_law(policy: object, history: list[Event]) -> None:
    """Promises 44 to 48: never two open requests, nothing in use is removed, no definition names what is not there."""
    world = fresh(policy)
    for event in history:
        happen(world, event)
        assert set(world.named.values()) <= {each.id for each in world.certificates}


@settings(max_examples=100)
@given(policy=policies, history=st.lists(events, max_size=40))
def test_maintenance_is_left_and_users_are_served_in_the_end(policy: object, history: list[Event]) -> None:
    """When nothing fails any more and people answer, the server serves, with what is in force, out of maintenance."""
    world = fresh(policy)
    for event in history:
        happen(world, event)
    world.neighbour = OTHER
    world.asks = [Ask(seq=1, kind=AskKind.RENEW, at=world.now, actor="alice")]

    for _ in range(150):
        step = world.tick()
        world.decide(issue=True)
        world.now = world.now + SECOND if isinstance(step, ACTS) else step.until

    assert not world.maintenance
    assert world.is_usable()
    assert len(set(world.named.values())) == 1
    assert not world.waiting


@settings(max_examples=100)
@given(policy=policies, history=st.lists(events, max_size=40))
def test_a_lost_step_changes_nothing(policy: object, history: list[Event]) -> None:
    """Promise 45: an act that never reached FAS is found out and planned again, as if it had not been tried."""
    world = fresh(policy)
    for event in history:
        happen(world, event)
    untried = deepcopy(world)
    world.tick(Fate.LOST)

    world.now = untried.now = world.now + policy_grace(world)
    lost, step = world.tick(), untried.tick()

    assert brief(lost, world.now) == brief(step, untried.now)


def policy_grace(world: World) -> timedelta:
    """After this, an act without any effect counts as not done."""
    return world.policy.answer_grace


@settings(max_examples=100)
@given(policy=policies, history=st.lists(events, max_size=40), shuffled=st.randoms(use_true_random=False))
def test_planning_is_deterministic(policy: object, history: list[Event], shuffled: object) -> None:
    """The same facts lead to the same step, in whatever order the acts are handed over."""
    world = fresh(policy)
    for event in history:
        happen(world, event)
    acts = list(world.attempts().acts)
    shuffled.shuffle(acts)  # type: ignore[attr-defined]

    one = plan_renewal(world.observation(), world.attempts(), world.policy, world.now)
    other = plan_renewal(world.observation(), replace(world.attempts(), acts=tuple(acts)), world.policy, world.now)

    assert one == other


@settings(max_examples=100)
@given(policy=policies, history=st.lists(events, max_size=40), later=st.timedeltas(timedelta(0), 60 * DAY))
def test_time_alone_never_rolls_back(policy: object, history: list[Event], later: timedelta) -> None:
    """What stands is not undone because it is later: only a failure, a person or a loss leads back."""
    world = fresh(policy)
    for event in history:
        happen(world, event)
    observation, attempts = world.observation(), replace(world.attempts(), not_before=None)

    soon = plan_renewal(observation, attempts, world.policy, world.now)
    late = plan_renewal(observation, attempts, world.policy, world.now + later)

    assert isinstance(soon, RollBack) or not isinstance(late, RollBack)


@settings(max_examples=100)
@given(policy=policies, history=st.lists(events, max_size=40))
def test_what_is_reconciled_is_settled(policy: object, history: list[Event]) -> None:
    """Promise 46: an unanswered act is resolved once, to done or not done, and at the latest after the grace."""
    world = fresh(policy)
    for event in history:
        happen(world, event)
    late = replace(world.observation(), at=world.now + world.policy.answer_grace)
    open_acts = [each for each in world.acts if each.result is None]

    resolved = reconcile(late, world.attempts(), world.policy)

    assert [each.attempt for each in resolved] == open_acts
    assert {each.result for each in resolved} <= {Result.DONE, Result.NOT_DONE}
    assert len({each.certificate_id for each in resolved if each.certificate_id}) == sum(
        each.certificate_id is not None for each in resolved
    )


@given(
    jitter=st.floats(0, 1, exclude_max=True),
    most=st.timedeltas(timedelta(0), 30 * DAY),
    lead_days=st.integers(1, 800),
    lifetime=st.timedeltas(DAY, 1826 * DAY),
    looks=st.lists(st.timedeltas(timedelta(0), 2000 * DAY), max_size=10),
)
def test_the_start_never_moves(
    jitter: float, most: timedelta, lead_days: int, lifetime: timedelta, looks: list[timedelta]
) -> None:
    """Promise 52: whenever and however often it is computed, a renewal starts at one instant within the jitter."""
    policy = replace(PLAIN, jitter=most, lead_days=lead_days)
    old = certificate(NEW, "Ok", NOW + lifetime)
    none = replace(did(requested()), first_usable={NEW: NOW})
    drawn = replace(none, jitter=jitter)

    starts = {renewal_start(old, drawn, policy, NOW + look) for look in (timedelta(0), *looks)}
    (start,), earliest = starts, renewal_start(old, none, policy, NOW)

    assert start is not None
    assert earliest is not None
    assert earliest <= start <= earliest + most
    assert NOW < earliest < NOW + lifetime
    if lead_findings(policy, lifetime):
        assert timedelta(0) < (NOW + lifetime) - earliest <= lifetime * 2 / 3 + SECOND


@given(
    listed=st.none() | st.timedeltas(-9000 * DAY, 9000 * DAY),
    first=st.none() | st.timedeltas(-300 * DAY, timedelta(0)),
    left=st.timedeltas(DAY, 900 * DAY),
    share=st.none() | st.floats(0.01, 0.6),
)
def test_what_the_log_says_never_makes_a_renewal_start_too_late(
    listed: timedelta | None, first: timedelta | None, left: timedelta, share: float | None
) -> None:
    """Promise 53: others may write there; the approver has his time all the same, and the start is known."""
    policy = replace(PLAIN, lead_share=share, jitter=DAY)
    old = certificate(OLD, "Ok", NOW + left, not_before=None if listed is None else NOW + listed)
    attempts = Attempts(jitter=0.99, first_usable={} if first is None else {OLD: NOW + first})

    start = renewal_start(old, attempts, policy, NOW)

    assert start is not None
    assert start <= NOW + left - policy.approval_time


LIVES = {
    "1 day": (DAY, 2 * HOUR),
    "3 days": (3 * DAY, 8 * HOUR),
    "30 days": (30 * DAY, 5 * DAY),
    "90 days": (90 * DAY, 14 * DAY),
    "329 days": (329 * DAY, 14 * DAY),
    "2 years": (730 * DAY, 30 * DAY),
    "5 years": (1826 * DAY, 30 * DAY),
}


@pytest.mark.parametrize("life", LIVES)
@pytest.mark.parametrize("lead_days", [60, 730])
def test_nothing_lapses(life: str, lead_days: int) -> None:
    """Promise 53: 400 days (or three lives) with an approver who takes all the time that is his, and no lapse."""
    lifetime, approval = LIVES[life]
    policy = replace(
        PLAIN,
        lead_days=lead_days,
        approval_time=approval,
        jitter=lifetime / 20,
        soak=lifetime / 20,
        least_lifetime=lifetime / 2,
        lifetime=lifetime,
        poll=lifetime / 50,
        check=lifetime / 40,
    )
    world = World(
        policy=policy,
        lifetime=lifetime,
        jitter=0.9,
        certificates=[certificate(OLD, "Ok", NOW + lifetime)],
        named={"default_Definition": OLD, "in_session": OLD},
    )
    requests = []

    while world.now < NOW + max(3 * lifetime, min(400 * DAY, 20 * lifetime)):
        step = world.tick()
        if isinstance(step, Request):
            requests.append(world.now)
        assert world.is_usable(), f"lapsed at {world.now}"
        if requests and world.waiting and world.now >= requests[-1] + approval:
            world.decide(issue=True)
        ripe = requests[-1] + approval if world.waiting else world.now + 10 * lifetime
        world.now = world.now + SECOND if isinstance(step, ACTS) else max(min(step.until, ripe), world.now + SECOND)

    assert len(requests) >= 2
    assert min(later - earlier for earlier, later in pairwise(requests)) > lifetime / 4
