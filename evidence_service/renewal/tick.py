"""One look at one FAS server, and at most one act: observe, judge, record the intent, act, record what came of it.

Where the server stands is taken from what it reports each time, so a crash between any two lines is healed by the next
tick. The world is reached through `evidence_service.renewal.ports` alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from evidence_service.renewal.cmdlets import CMDLETS, READING, SIDES, Cmdlet, point_of
from evidence_service.renewal.farm import FasServer
from evidence_service.renewal.memory import is_ahead
from evidence_service.renewal.model import (
    ACTS,
    REPORT_COUNTS,
    SEEN_LATELY,
    STEP_KINDS,
    Act,
    Alert,
    Attempt,
    Attempts,
    Observation,
    Rest,
    Result,
    Step,
)
from evidence_service.renewal.plan import asks_to_settle, plan_renewal
from evidence_service.renewal.ports import (
    Fas,
    FasAnswerUnknown,
    FasRefused,
    FasUnreachable,
    NotLeader,
    Performed,
    RenewalMemory,
    SwitchTaken,
)
from evidence_service.renewal.reasons import RenewalReason
from evidence_service.renewal.reconcile import reconcile
from idp_certs.reasons import Finding

STAGES = ("planned", "intended", "answered", "recorded")
"""Of every act, in order; between `intended` and `answered` lie its cmdlets."""
POINTS = frozenset(
    [f"{STEP_KINDS[act].value}:{stage}" for act in ACTS for stage in STAGES]
    + [point_of(Cmdlet(name=name), side) for name in CMDLETS - READING - {"Add-PSSnapin"} for side in SIDES]
)
"""Where the process may die; each is killed at by a test (promise 44)."""

NEIGHBOURS_ANSWER_WITHIN = timedelta(minutes=1)

AtPoint = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticked:
    """What one tick came to. `observation` is None where the server did not answer; then `problem` says why.

    `again_at` is when the server is to be looked at next: at once after an act. Times are UTC.
    """

    server: str
    again_at: datetime
    observation: Observation | None = None
    step: Step | None = None
    attempts: Attempts | None = None
    attempt: Attempt | None = None
    performed: Performed | None = None
    problem: Finding | None = None


def reached(at_point: AtPoint | None, point: str) -> None:
    """Tell a test that this point is reached. Raises KeyError for one that is not registered."""
    if point not in POINTS:
        raise KeyError(f"{point} is not in POINTS")
    if at_point is not None:
        at_point(point)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticker:
    """What ticks of all servers share.

    `mark` fills in what the CAs' CRLs say. `leads` tells whether the lease of `epoch` certainly still holds, also after
    this process was stopped for a while; without it nothing is asked of FAS. `clock` answers UTC.
    """

    memory: RenewalMemory
    epoch: int
    leads: Callable[[], bool]
    clock: Callable[[], datetime]
    mark: Callable[[Observation], Observation] = lambda observation: observation
    at_point: AtPoint | None = None

    def tick(self, server: FasServer, fas: Fas) -> Ticked:
        """Look once, and act at most once. Raises NotLeader and StoreUnavailable."""
        self._check_leading()
        now = self.clock()
        try:
            reported = fas.observe(now, self.memory.last_seen(server.name))
        except FasUnreachable as error:
            return self._missed(server, RenewalReason.UNREACHABLE, error)
        except FasAnswerUnknown as error:
            return self._missed(server, RenewalReason.UNREACHABLE, error)
        except FasRefused as error:
            return self._missed(server, RenewalReason.REFUSED_BY_FAS, error)
        neighbours = self.memory.neighbours(server.name, self.clock())  # reading FAS may have taken minutes
        observation = self.mark(replace(reported, neighbours=neighbours))
        attempts = self._reconciled(server, observation)
        now = self.clock()
        step = plan_renewal(observation, attempts, server.policy, now)
        if isinstance(step, (Alert, Rest)):
            step = self._asked_neighbours(server, step, now)
        if not isinstance(step, ACTS):
            again_at = _until(step, now, server)
            self.memory.saw(observation, step, epoch=self.epoch, now=now, next_tick_at=again_at)
            return Ticked(server=server.name, again_at=again_at, observation=observation, step=step, attempts=attempts)
        return self._act(server, fas, observation, attempts, step)

    def _reconciled(self, server: FasServer, observation: Observation) -> Attempts:
        """What is remembered, with what this observation tells about unanswered acts and settled wishes."""
        attempts, now = self.memory.attempts(server.name), self.clock()
        if is_ahead(attempts, now) or attempts.ahead_since is not None:
            self.memory.anchor(server.name, epoch=self.epoch, now=now)
            attempts = self.memory.attempts(server.name)
        resolutions = reconcile(observation, attempts, server.policy, server.longest_call)
        for each in resolutions:
            self.memory.resolve(server.name, each.attempt, each.result, each.certificate_id, epoch=self.epoch, now=now)
        if resolutions:
            attempts = self.memory.attempts(server.name)
        settled = asks_to_settle(observation, attempts, server.policy, now)
        for ask, outcome in settled:
            self.memory.settle(server.name, ask, outcome, epoch=self.epoch, now=now)
        return self.memory.attempts(server.name) if settled else attempts

    def _asked_neighbours(self, server: FasServer, step: Alert | Rest, now: datetime) -> Step:
        """Others are looked at before one relies on them, and before people are told that none serves."""
        allowed = {RenewalReason.NO_NEIGHBOUR: REPORT_COUNTS, RenewalReason.NEIGHBOUR_UNSEEN: SEEN_LATELY}
        age = allowed.get(step.reason)
        if age is None:
            return step
        asked = self.memory.hasten_neighbours(server.name, unseen_since=now - age, epoch=self.epoch, now=now)
        if isinstance(step, Alert) and not asked:
            return step
        return Rest(reason=step.reason, until=now + NEIGHBOURS_ANSWER_WITHIN)

    def _act(self, server: FasServer, fas: Fas, observation: Observation, attempts: Attempts, act: Act) -> Ticked:
        kind, now = STEP_KINDS[type(act)].value, self.clock()
        self.memory.saw(observation, act, epoch=self.epoch, now=now, next_tick_at=now)
        reached(self.at_point, f"{kind}:planned")
        try:
            attempt = self.memory.begin(server.name, act, epoch=self.epoch, now=now)
        except SwitchTaken:
            rest = Rest(reason=RenewalReason.NEIGHBOUR_SWITCHING, until=now + server.policy.poll)
            self.memory.saw(observation, rest, epoch=self.epoch, now=now, next_tick_at=rest.until)
            return Ticked(
                server=server.name, again_at=rest.until, observation=observation, step=rest, attempts=attempts
            )
        reached(self.at_point, f"{kind}:intended")
        # Between the intent and this line the process may have been stopped for longer than the lease.
        self._check_leading()
        performed = _performed(fas, act)
        reached(self.at_point, f"{kind}:answered")
        self.memory.finish(server.name, attempt, performed, epoch=self.epoch, now=self.clock())
        reached(self.at_point, f"{kind}:recorded")
        return Ticked(
            server=server.name,
            again_at=self.clock(),
            observation=observation,
            step=act,
            attempts=attempts,
            attempt=attempt,
            performed=performed,
        )

    def _missed(self, server: FasServer, reason: RenewalReason, error: Exception) -> Ticked:
        problem = Finding(reason=reason, expected="an answer", presented=str(error), where=server.name)
        again_at = self.memory.missed(server.name, problem, epoch=self.epoch, now=self.clock())
        return Ticked(server=server.name, again_at=again_at, problem=problem)

    def _check_leading(self) -> None:
        if not self.leads():
            raise NotLeader("the lease of this process ended; nothing was asked of FAS")


def _performed(fas: Fas, act: Act) -> Performed:
    try:
        return fas.perform(act)
    except FasUnreachable as error:
        finding = Finding(reason=RenewalReason.UNREACHABLE, expected="an answer", presented=str(error))
        return Performed(result=Result.NOT_DONE, finding=finding)
    except FasAnswerUnknown as error:
        finding = Finding(reason=RenewalReason.ANSWER_UNKNOWN, expected="an answer", presented=str(error))
        return Performed(result=Result.UNKNOWN, finding=finding)


def _until(step: Step, now: datetime, server: FasServer) -> datetime:
    until = step.until if not isinstance(step, ACTS) else now
    # Whatever a plan says, a server is looked at regularly: people act at FAS and at the CA meanwhile.
    latest = now + (server.policy.poll if isinstance(step, Alert) else server.policy.check)
    return max(min(until, latest), now)
