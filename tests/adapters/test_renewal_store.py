from __future__ import annotations

import hashlib
import itertools
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, Table, insert, select, update

from evidence_service.adapters.database import (
    StoreUnavailable,
    config_state,
    fas_servers,
    journal,
    open_database,
    reading,
    renewal_acts,
    renewal_asks,
    writing,
)
from evidence_service.adapters.lease import DatabaseLeases
from evidence_service.adapters.renewal_rows import (
    WHY,
    decode_finding,
    decode_observation,
    decode_step,
    encode_finding,
    encode_instants,
    encode_observation,
    encode_step,
    why,
)
from evidence_service.adapters.renewal_store import (
    KEPT_ACTS,
    LEASE,
    LONGEST_SLEEP,
    LONGEST_WAIT,
    SWITCH_HOLD,
    Conflict,
    DamagedRow,
    NotFound,
    RenewalStore,
    back_off,
)
from evidence_service.renewal.memory import is_ahead
from evidence_service.renewal.model import (
    ACTS,
    STEP_KINDS,
    Act,
    AskKind,
    Attempt,
    AuthorizationCertificate,
    CertificateDefinition,
    CertificateStatus,
    EnterMaintenance,
    FasRule,
    Import,
    IssuanceFailure,
    LeaveMaintenance,
    Neighbour,
    Observation,
    Prove,
    Request,
    Rest,
    Result,
    RollBack,
    Soak,
    Step,
    Switch,
    Verify,
    Withdraw,
)
from evidence_service.renewal.plan import LONGEST_BACK_OFF
from evidence_service.renewal.ports import NotLeader, Performed, RenewalMemory, SwitchTaken
from evidence_service.renewal.reasons import RenewalReason
from idp_certs.reasons import Finding, TrustReason
from tests.adapters.given import ACTOR, NOW, url_of
from tests.renewal.store_processes import AT

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
A, B, C = "fas-a.corp.example", "fas-b.corp.example", "fas-c.corp.example"
SILENT = Finding(reason=RenewalReason.UNREACHABLE, expected="an answer", presented="no route", where=A)
REFUSED = Finding(reason=RenewalReason.REFUSED_BY_FAS, presented="Access is denied")
DONE, FAILED = Performed(result=Result.DONE), Performed(result=Result.FAILED, finding=REFUSED)
REST = Rest(reason=RenewalReason.NOT_DUE, until=NOW + HOUR)
ENTER, LEAVE = EnterMaintenance(certificate_id="new"), LeaveMaintenance(certificate_id="new")
SWITCH_IT = Switch(definition="default", before="old", after="new")
BACK = RollBack(reason=RenewalReason.VERIFY_FAILED, definition="default", before="new", after="old")
VERIFY = Verify(certificate_id="new", tests=(), upn=None)


def request_for(reason: RenewalReason = RenewalReason.DUE) -> Request:
    """Ask for a certificate in the place of the old one."""
    return Request(
        reason=reason,
        replaces="old",
        known=frozenset({"old"}),
        certificate_authority="ca\\CA",
        certificate_template="ra",
        authorization_template="manual",
        offline=False,
    )


def observed(server: str = A, at: datetime = NOW, **changes: Any) -> Observation:
    """A server that serves by one certificate."""
    old = AuthorizationCertificate(
        id="old", status_word="Ok", status=CertificateStatus.OK, expires=NOW + 300 * DAY, der=b"\x30\x00"
    )
    definition = CertificateDefinition(name="default", template="logon", authorization_certificate="old")
    values: dict[str, Any] = {
        "certificates": (old,),
        "definitions": (definition,),
        "rules": (FasRule(name="default", definitions=("default",)),),
        "maintenance": False,
    }
    return Observation(server=server, at=at, **values | changes)


class World:
    """A store on a database, with a lease that lasts as long as the test."""

    def __init__(self, engine: Engine) -> None:
        """Configure three servers."""
        self.engine = engine
        self.draws = itertools.count()
        self.reopen()

    def reopen(self) -> RenewalStore:
        """A store of another process that leads now."""
        self.store = RenewalStore(self.engine)
        lease = DatabaseLeases(self.engine).acquire(LEASE, owner="w", now=NOW, length=1000 * DAY)
        assert lease is not None
        self.epoch = lease.epoch
        self.store.configure((A, B, C), now=NOW, draw=lambda: next(self.draws) / 10)
        return self.store

    def begin(self, act: Act, server: str = A, now: datetime = NOW) -> Attempt:
        """Record an intent."""
        return self.store.begin(server, act, epoch=self.epoch, now=now)

    def did(self, act: Act, performed: Performed = DONE, *, server: str = A, now: datetime = NOW) -> Attempt:
        """Record an intent and what came of it."""
        attempt = self.begin(act, server, now)
        self.store.finish(server, attempt, performed, epoch=self.epoch, now=now)
        return attempt

    def saw(self, observation: Observation, step: Step = REST, *, again: timedelta = HOUR) -> None:
        """Record what was observed, at that instant."""
        now = observation.at
        self.store.saw(observation, step, epoch=self.epoch, now=now, next_tick_at=now + again)

    def journal(self) -> list[tuple[str, str, str, dict[str, Any]]]:
        """Actor, act, subject and detail of every row, without the servers that were added."""
        with reading(self.engine) as connection:
            rows = connection.execute(select(journal).order_by(journal.c.seq)).all()
        told = [(row.actor, row.act, row.subject, json.loads(row.detail)) for row in rows]
        return [row for row in told if row[1] != "renewal_server_added"]

    def plant(self, table: Table, **values: object) -> None:
        """Change every row as another program would."""
        with writing(self.engine) as connection:
            connection.execute(update(table).values(**values))


@pytest.fixture
def world(engine: Engine) -> World:
    """Three servers, and nothing done yet."""
    return World(engine)


TEXTS = st.text(st.characters(), max_size=8)
INSTANTS = st.datetimes(timezones=st.just(UTC))
st.register_type_strategy(datetime, INSTANTS)
st.register_type_strategy(str, TEXTS)
REASONS = st.sampled_from([*RenewalReason, *TrustReason])
FINDINGS = st.builds(Finding, reason=REASONS, expected=TEXTS, presented=TEXTS, where=TEXTS)
st.register_type_strategy(Finding, FINDINGS)
STEPS = st.one_of([st.builds(kind) for kind in STEP_KINDS])
CERTIFICATES = st.builds(AuthorizationCertificate, der=st.none())
OBSERVATIONS = st.builds(Observation, certificates=st.lists(CERTIFICATES, max_size=2).map(tuple))


@given(STEPS)
def test_every_step_is_read_as_it_was_written(step: Step) -> None:
    """Whatever it holds, and of every kind."""
    assert decode_step(encode_step(step), "here") == step


@given(OBSERVATIONS, FINDINGS)
def test_observations_and_findings_are_read_as_they_were_written(observation: Observation, finding: Finding) -> None:
    """Whatever they hold; reasons of every layer included."""
    assert decode_observation(encode_observation(observation), "here") == observation
    assert decode_finding(encode_finding(finding), "here") == finding


def test_steps_have_a_strategy_each() -> None:
    """The property above speaks of all of them."""
    assert set(STEP_KINDS) == set(get_args(Step))


def test_an_observation_is_stored_without_the_certificates_themselves() -> None:
    """And with all that people look at."""
    failure = IssuanceFailure(at=NOW, event=123, certificate_authority="ca\\CA", disposition=2)
    full = observed(
        failures=(failure,), neighbours=(Neighbour(name=B, serving=True, seen_lately=True, switching=False),)
    )
    slim = decode_observation(encode_observation(full), "here")
    assert slim.certificates[0].der is None
    assert replace(slim, certificates=full.certificates) == full


def test_rows_of_an_older_worker_that_lack_optional_members_can_be_read() -> None:
    """What it did not know is unknown or false, and damages no row while two releases run side by side."""
    full = observed(neighbours=(Neighbour(name=B, serving=True, seen_lately=True, switching=False),))
    content = json.loads(encode_observation(full))
    slim = {each: content[each] for each in ("server", "at", "certificates", "definitions", "rules")}
    slim["certificates"] = [
        {each: row[each] for each in ("id", "status_word", "status")} for row in slim["certificates"]
    ]
    slim["neighbours"] = [{"name": B, "serving": True}]

    read = decode_observation(json.dumps(slim), "here")

    assert read.neighbours == (Neighbour(name=B, serving=True),)
    assert not read.neighbours[0].seen_lately, "nobody relies on what is not known"
    assert read.certificates[0] == AuthorizationCertificate(
        id=full.certificates[0].id, status_word=full.certificates[0].status_word, status=full.certificates[0].status
    )
    withdraw = decode_step('{"kind":"withdraw","reason":"denied","certificate_id":"a"}', "here")
    assert withdraw == Withdraw(reason=RenewalReason.DENIED, certificate_id="a")


def test_why_a_denied_request_was_removed_is_told_in_the_words_of_the_ca() -> None:
    """`authcert history` says as much as the mail."""
    denied = Withdraw(reason=RenewalReason.DENIED, certificate_id="a", denial="Ask the security team.")
    assert why(denied, None) == f"{RenewalReason.DENIED.meaning} The CA says: Ask the security team."


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "Expecting value"),
        ("[]", "a list instead of a dict"),
        ("{}", "None is no step"),
        ('{"kind":"dance"}', "'dance' is no step"),
        ('{"kind":["rest"]}', "is no step"),
        ('{"kind":"rest"}', "missing"),
        ('{"kind":"rest","reason":"nonsense","until":"2026-01-01T00:00:00+00:00"}', "nonsense"),
        ('{"kind":"rest","reason":"due","until":"2026-01-01T00:00:00"}', "without a time zone"),
        ('{"kind":"rest","reason":"due","until":5}', "a int instead of a str"),
        ('{"kind":"rest","reason":"due","until":"2026-01-01T00:00:00+00:00","more":1}', "Rest has no more"),
        ('{"kind":"switch","definition":"d","before":"a","after":"b","overrides":1}', "a int instead of a bool"),
        ('{"kind":"import","certificate_id":"a","response":"%","ask":1}', "base64"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_what_was_not_written_here_is_refused_by_name(text: str, told: str) -> None:
    """A damaged row says which it is, what is wrong and what to do, and is a state of the database."""
    with pytest.raises(StoreUnavailable) as caught:
        decode_step(text, "renewal_acts row 7")
    assert isinstance(caught.value, DamagedRow)
    assert str(caught.value).startswith("renewal_acts row 7 was changed from outside (")
    assert told in str(caught.value)
    assert str(caught.value).endswith("; restore a backup of the database")


def test_jitter_is_drawn_once_for_each_server(world: World) -> None:
    """Promise 52: not again by a restart, nor by leaving the configuration and coming back."""
    drawn = {each.name: each.jitter for each in world.store.statuses()}
    assert drawn == {A: 0.0, B: 0.1, C: 0.2}
    for names in ((A, B, C), (B,), (C, A), (B, "fas-d")):
        world.reopen().configure(names, now=NOW + DAY, draw=lambda: 0.9)
    assert {each.name: each.jitter for each in world.store.statuses()} == drawn | {"fas-d": 0.9}
    assert world.store.attempts(B).jitter == 0.1


def test_a_server_that_is_not_configured_is_remembered_and_left_alone(world: World) -> None:
    """Its history stays; it is not due, not a neighbour, and nothing can be asked of it."""
    world.did(request_for(), server=B)
    world.store.configure((C, A), now=NOW, draw=lambda: 0.5)
    assert [(each.name, each.active) for each in world.store.statuses()] == [(C, True), (A, True), (B, False)]
    assert len(world.store.history(B, 10)) == 1
    assert world.store.due(NOW + HOUR) == (A, C)
    assert [each.name for each in world.store.neighbours(A, NOW)] == [C]
    with pytest.raises(NotFound, match="not configured any more"):
        world.store.ask(B, AskKind.RENEW, now=NOW, actor=ACTOR)


def test_new_servers_are_looked_at_soon_and_not_all_at_once(world: World) -> None:
    """Spread over a minute by their jitter (promise 51)."""
    assert world.store.next_instant() == NOW
    assert world.store.due(NOW) == (A,)
    assert world.store.due(NOW + MINUTE) == (A, B, C)
    assert RenewalStore(world.engine).next_instant() is None, "nothing is configured there"


def test_what_was_seen_is_kept_for_people_and_says_when_to_look_again(world: World) -> None:
    """How long a step has stood is counted from where its kind or reason changed."""
    world.saw(observed())
    world.saw(observed(at=NOW + HOUR), replace(REST, until=NOW + 2 * HOUR))
    status = world.store.status(A)
    assert status.observation is not None
    assert status.observation.at == status.observed_at == NOW + HOUR
    assert status.step == replace(REST, until=NOW + 2 * HOUR)
    assert status.step_since == NOW
    assert status.next_tick_at == NOW + 2 * HOUR
    assert status.first_usable == {"old": NOW}
    world.saw(observed(at=NOW + 2 * HOUR), replace(REST, reason=RenewalReason.PAUSED))
    assert world.store.status(A).step_since == NOW + 2 * HOUR
    assert world.store.attempts(A).first_usable == {"old": NOW}


def test_a_certificate_that_waits_has_not_begun_to_live(world: World) -> None:
    """Only what is usable is counted from when it was seen."""
    waiting = AuthorizationCertificate(id="new", status_word="Pending", status=CertificateStatus.PENDING)
    world.saw(observed(certificates=(waiting,)))
    assert world.store.attempts(A).first_usable == {}


def test_no_server_sleeps_longer_than_a_day(world: World) -> None:
    """Neither by a plan, nor where the instant was computed by a clock that was ahead."""
    world.saw(observed(), again=100 * DAY)
    assert world.store.status(A).next_tick_at == NOW + LONGEST_SLEEP
    world.plant(fas_servers, next_tick_at=NOW + 100 * DAY)
    assert world.store.due(NOW) == (A, B, C)


def test_a_server_that_does_not_answer_is_asked_less_often_over_restarts(world: World) -> None:
    """Promise 51: doubling to an hour, stored; since when it is silent stays, and an answer ends it."""
    now, waits = NOW, []
    for _ in range(9):
        store = world.reopen()
        again = store.missed(B, SILENT, epoch=world.epoch, now=now)
        assert store.status(B).next_tick_at == again
        assert B not in store.due(again - timedelta(microseconds=1))
        waits.append((again - now) / MINUTE)
        now = again
    assert waits == pytest.approx([1.05, 2.1, 4.2, 8.4, 16.8, 33.6, 63, 63, 63])
    status = world.store.status(B)
    assert (status.problem, status.problem_since, status.misses) == (SILENT, NOW, 9)
    world.saw(observed(B, at=now))
    status = world.store.status(B)
    assert (status.problem, status.problem_since, status.misses) == (None, None, 0)


def test_the_intent_is_there_before_anything_is_asked(world: World) -> None:
    """Promise 44: what was intended, under which epoch, and why, in the acts and in the journal."""
    attempt = world.begin(request_for())
    assert attempt == Attempt(seq=1, step=request_for(), at=NOW)
    assert world.reopen().attempts(A).acts == (attempt,)
    ((actor, act, subject, detail),) = world.journal()
    assert (actor, act, subject) == ("system:renewal", "renewal_request", A)
    assert detail["why"] == RenewalReason.DUE.meaning
    assert detail["act"]["replaces"] == "old"
    assert (detail["seq"], detail["epoch"]) == (1, world.epoch)


def test_an_intent_survives_the_death_of_its_process(tmp_path: Path) -> None:
    """Promise 44: kill -9 in the moment after."""
    url = url_of(tmp_path / "a.db")
    engine = open_database(url)
    RenewalStore(engine).configure((A,), now=AT, draw=lambda: 0.0)
    engine.dispose()
    died = subprocess.run(
        [sys.executable, "-m", "tests.renewal.store_processes", url, A], cwd=Path(__file__).parents[2], check=False
    )
    assert died.returncode == -signal.SIGKILL
    engine = open_database(url, create=False)
    acts = RenewalStore(engine).attempts(A).acts
    engine.dispose()
    assert [(each.step, each.result) for each in acts] == [(ENTER, None)]


def _begin(world: World, epoch: int, now: datetime) -> None:
    world.store.begin(A, ENTER, epoch=epoch, now=now)


def _finish(world: World, epoch: int, now: datetime) -> None:
    world.store.finish(A, world.store.attempts(A).acts[0], FAILED, epoch=epoch, now=now)


def _resolve(world: World, epoch: int, now: datetime) -> None:
    world.store.resolve(A, world.store.attempts(A).acts[0], Result.DONE, "new", epoch=epoch, now=now)


def _settle(world: World, epoch: int, now: datetime) -> None:
    world.store.settle(A, world.store.attempts(A).asks[0], "done", epoch=epoch, now=now)


def _saw(world: World, epoch: int, now: datetime) -> None:
    world.store.saw(observed(), REST, epoch=epoch, now=now, next_tick_at=now)


def _missed(world: World, epoch: int, now: datetime) -> None:
    world.store.missed(A, SILENT, epoch=epoch, now=now)


def _anchor(world: World, epoch: int, now: datetime) -> None:
    with writing(world.engine) as connection:
        ahead = {"first_usable": encode_instants({"old": NOW + 2000 * DAY})}
        connection.execute(update(fas_servers).where(fas_servers.c.name == A).values(**ahead))
    try:
        world.store.anchor(A, epoch=epoch, now=now)
    except NotLeader:
        world.plant(fas_servers, first_usable="{}")
        raise


WRITES = [_begin, _finish, _resolve, _settle, _saw, _missed, _anchor]


@pytest.mark.parametrize("write", WRITES, ids=lambda each: each.__name__)
def test_a_process_that_was_overtaken_writes_nothing(
    world: World, write: Callable[[World, int, datetime], None]
) -> None:
    """Promise 55: stopped after it looked, it goes on under an old epoch, by whatever clock; what it did stays open."""
    world.begin(request_for())
    world.store.ask(A, AskKind.ROLL_BACK, now=NOW, actor=ACTOR)
    before = world.store.status(A), world.journal()
    later = NOW + 1001 * DAY
    other = DatabaseLeases(world.engine).acquire(LEASE, owner="other", now=later, length=MINUTE)
    assert other is not None
    for now in (NOW, later):
        with pytest.raises(NotLeader, match="another process has taken the lease"):
            write(world, world.epoch, now)
    with pytest.raises(NotLeader, match="has ended"):
        write(world, other.epoch, later + MINUTE)
    assert (world.store.status(A), world.journal()) == before
    assert world.store.attempts(A).acts[0].result is None
    write(world, other.epoch, later)
    assert (world.store.status(A), world.journal()) != before


def test_what_is_remembered_from_later_counts_from_when_that_was_seen(world: World) -> None:
    """A clock was days ahead: acts, open wishes and first sights are moved, in their order; others stay."""
    later = NOW + 10 * DAY
    world.did(request_for(), Performed(result=Result.DONE, certificate_id="new"), now=NOW - HOUR)
    world.did(VERIFY, now=later)
    world.did(VERIFY, server=B, now=later)
    world.begin(BACK, now=later + HOUR)
    world.store.ask(A, AskKind.ROLL_BACK, now=later, actor=ACTOR)
    world.saw(observed(at=later))
    assert is_ahead(world.store.attempts(A), NOW)
    for minutes in (0, 30, 59):
        world.store.anchor(A, epoch=world.epoch, now=NOW + minutes * MINUTE)
    assert is_ahead(world.store.attempts(A), NOW + HOUR), "it may be this clock that is wrong"

    world.store.anchor(A, epoch=world.epoch, now=NOW + HOUR)

    attempts = world.store.attempts(A)
    assert attempts.ahead_since is None
    assert not is_ahead(attempts, NOW)
    assert [(each.at, each.result_at) for each in attempts.acts] == [(NOW - HOUR,) * 2, (NOW,) * 2, (NOW, None)]
    assert [each.at for each in attempts.asks] == [NOW]
    assert attempts.first_usable == {"old": NOW}
    assert is_ahead(world.store.attempts(B), NOW)


def test_a_wish_from_a_machine_whose_clock_is_a_little_ahead_counts_at_once(world: World) -> None:
    """What the worker does for it comes after it, so that it is settled by that."""
    world.store.ask(A, AskKind.ROLL_BACK, now=NOW + 10 * MINUTE, actor=ACTOR)
    world.store.anchor(A, epoch=world.epoch, now=NOW)
    attempts = world.store.attempts(A)
    assert [each.at for each in attempts.asks] == [NOW]
    assert attempts.ahead_since is None


def test_a_clock_that_is_behind_for_a_while_changes_nothing_that_is_remembered(world: World) -> None:
    """A machine starts years ago and is set right: a request without an answer is not taken for one of years ago."""
    world.did(request_for(), Performed(result=Result.UNKNOWN))
    before = world.store.attempts(A)
    for days in (1000, 999, 1000):
        for now in (NOW - days * DAY, NOW - days * DAY + 59 * MINUTE):
            world.store.anchor(A, epoch=world.epoch, now=now)
        assert world.store.attempts(A).ahead_since is not None
        world.store.anchor(A, epoch=world.epoch, now=NOW + MINUTE)
        assert world.store.attempts(A) == before


def test_since_when_a_server_is_silent_is_never_later_than_now(world: World) -> None:
    """The alarm counts from then, also where a clock that was ahead wrote it; so does how long a step stands."""
    world.store.missed(A, SILENT, epoch=world.epoch, now=NOW + 10 * DAY)
    world.store.missed(A, SILENT, epoch=world.epoch, now=NOW)
    assert world.store.status(A).problem_since == NOW
    world.saw(observed(B, at=NOW + 10 * DAY))
    world.saw(observed(B))
    assert world.store.status(B).step_since == NOW


def test_what_came_of_an_act_is_remembered(world: World) -> None:
    """With the certificate that it brought, and in the journal."""
    world.did(request_for(), Performed(result=Result.DONE, certificate_id="new"), now=NOW + MINUTE)
    (attempt,) = world.store.attempts(A).acts
    assert (attempt.result, attempt.result_at, attempt.certificate_id) == (Result.DONE, NOW + MINUTE, "new")
    _, act, subject, detail = world.journal()[-1]
    assert (act, subject) == ("renewal_result", A)
    assert (detail["seq"], detail["kind"], detail["result"], detail["by"]) == (1, "request", "done", "answer")


def test_an_unknown_answer_stays_open_until_fas_shows_it(world: World) -> None:
    """Promises 45 and 46: it is no failure; reading resolves it once, and then it is settled."""
    unknown = Finding(reason=RenewalReason.ANSWER_UNKNOWN, presented="timed out")
    attempt = world.did(request_for(), Performed(result=Result.UNKNOWN, finding=unknown))
    assert world.store.status(A).failures == 0
    assert world.store.attempts(A).acts[0].result is Result.UNKNOWN
    world.store.resolve(A, attempt, Result.DONE, "new", epoch=world.epoch, now=NOW + MINUTE)
    (resolved,) = world.store.attempts(A).acts
    assert (resolved.result, resolved.certificate_id, resolved.finding) == (Result.DONE, "new", None)
    assert world.journal()[-1][3]["by"] == "reading FAS"
    with pytest.raises(Conflict, match="no open act"):
        world.store.resolve(A, attempt, Result.NOT_DONE, None, epoch=world.epoch, now=NOW)
    with pytest.raises(Conflict, match="no open act"):
        world.store.finish(B, world.begin(request_for()), DONE, epoch=world.epoch, now=NOW)


def test_a_request_is_not_forgotten_however_often_its_successors_fail(world: World) -> None:
    """What failed is bounded by number; what was done, or may have been, stays."""
    world.did(request_for(), Performed(result=Result.DONE, certificate_id="new"))
    world.begin(SWITCH_IT)
    row = {"server": A, "kind": "verify", "act": encode_step(VERIFY), "at": NOW, "epoch": 1, "result": "failed"}
    with writing(world.engine) as connection:
        connection.execute(insert(renewal_acts), [row] * (KEPT_ACTS + 100))
    acts = world.store.attempts(A).acts
    assert [each.step for each in acts[:3]] == [request_for(), SWITCH_IT, VERIFY]
    assert len(acts) == KEPT_ACTS + 2
    assert [each.seq for each in acts] == sorted(each.seq for each in acts)
    assert world.store.status(A).attempts_count == 1


def test_back_off_survives_restarts(world: World) -> None:
    """Promise 51: doubling to six hours, stored; ten restarts change nothing, and success ends it."""
    waits = []
    for _ in range(11):
        world.did(request_for(), FAILED, server=B)
        for _ in range(10):
            world.reopen()
        not_before = world.store.attempts(B).not_before
        assert not_before is not None
        waits.append((not_before - NOW) / MINUTE)
    assert waits == pytest.approx([1.05 * each for each in (1, 2, 4, 8, 16, 32, 64, 128, 256, 360, 360)])
    status = world.store.status(B)
    assert status.failures == 11
    assert status.attempts_count == 11
    assert status.last_failed is not None
    assert status.last_failed.finding == REFUSED
    world.did(request_for(), server=B)
    assert (world.store.attempts(B).not_before, world.store.status(B).failures) == (None, 0)


def test_an_act_in_vain_begins_a_back_off_also_without_an_answer(world: World) -> None:
    """Promise 51: a test that times out again and again does not hammer the CA; a crash of our own is no failure."""
    unknown = Finding(reason=RenewalReason.ANSWER_UNKNOWN, presented="no answer within 180 s")
    attempt = world.did(VERIFY, Performed(result=Result.UNKNOWN, finding=unknown))
    assert world.store.status(A).failures == 0
    world.store.resolve(A, replace(attempt, finding=unknown), Result.NOT_DONE, None, epoch=world.epoch, now=NOW)
    assert world.store.attempts(A).not_before == NOW + MINUTE
    world.did(VERIFY, Performed(result=Result.NOT_DONE, finding=SILENT))
    assert (world.store.attempts(A).not_before, world.store.status(A).failures) == (NOW + 2 * MINUTE, 2)
    world.did(VERIFY)
    assert (world.store.attempts(A).not_before, world.store.status(A).failures) == (None, 0)
    world.store.resolve(A, world.begin(VERIFY), Result.NOT_DONE, None, epoch=world.epoch, now=NOW)
    assert world.store.attempts(A).not_before is None


def test_a_failure_is_over_when_the_certificate_that_failed_is_gone(world: World) -> None:
    """Removed by whomever; while FAS lists it, or a definition names it, the back-off stands."""
    new = AuthorizationCertificate(id="new", status_word="Ok", status=CertificateStatus.OK)
    both = observed(certificates=(*observed().certificates, new))
    world.did(SWITCH_IT, FAILED)
    world.did(VERIFY, FAILED)
    world.did(BACK)
    world.saw(both)
    assert (world.store.status(A).failures, world.store.attempts(A).not_before) == (2, NOW + 2 * MINUTE)
    named = replace(observed().definitions[0], authorization_certificate="new")
    world.saw(observed(definitions=(named,)))
    assert world.store.status(A).failures == 2
    world.did(Withdraw(reason=RenewalReason.ASKED, certificate_id="new", issued=True))
    world.saw(observed())
    assert (world.store.status(A).failures, world.store.attempts(A).not_before) == (0, None)


@pytest.mark.parametrize("act", [request_for(), BACK, LEAVE], ids=["request", "roll back", "leave maintenance"])
def test_what_must_succeed_whatever_became_of_the_certificate_keeps_its_back_off(world: World, act: Act) -> None:
    """Promise 51: a CA that refuses, or a server that does not leave maintenance, is not asked sooner for it."""
    world.did(act, FAILED)
    world.did(VERIFY, FAILED)
    world.saw(observed())
    assert (world.store.status(A).failures, world.store.attempts(A).not_before) == (2, NOW + 2 * MINUTE)


def test_the_longest_back_off_is_the_one_that_the_plan_believes() -> None:
    """Promise 51: none that is stored counts as computed by a wrong clock."""
    assert back_off(100, LONGEST_WAIT, 1.0) == LONGEST_BACK_OFF


def test_an_answer_that_did_not_reach_fas_is_still_to_be_imported(world: World) -> None:
    """Who brought it need not bring it again."""
    ask = world.store.ask(A, AskKind.IMPORT, now=NOW, actor=ACTOR, payload=b"\x30")
    act = Import(certificate_id="new", response=b"\x30", ask=ask.seq)
    world.did(act, Performed(result=Result.NOT_DONE, finding=SILENT))
    assert world.store.attempts(A).asks == (ask,)
    world.did(act)
    assert world.store.attempts(A).asks == ()


def test_servers_that_fail_together_come_back_one_by_one() -> None:
    """Promise 51: 40 servers spread over half of the wait, none sooner than it."""
    waits = sorted(back_off(5, 6 * HOUR, number / 40) for number in range(40))
    assert len(set(waits)) == 40
    assert waits[0] == 16 * MINUTE
    assert waits[-1] <= 24 * MINUTE


def test_going_back_is_no_reason_to_try_again_sooner(world: World) -> None:
    """Only what failed ends its back-off when it succeeds, or the end of a renewal."""
    other = replace(SWITCH_IT, definition="other")
    world.did(SWITCH_IT)
    world.did(other, FAILED)
    until = world.store.attempts(A).not_before
    for act in (BACK, LEAVE, ENTER, SWITCH_IT):
        world.did(act)
    assert world.store.attempts(A).not_before == until
    world.did(other)
    assert world.store.attempts(A).not_before is None
    world.did(other, FAILED)
    world.did(VERIFY)
    assert world.store.attempts(A).not_before is None


def test_one_server_is_switched_after_another(world: World) -> None:
    """The second waits from entering maintenance until the first has left it; going back waits for nobody."""
    world.did(ENTER)
    for act in (ENTER, SWITCH_IT):
        with pytest.raises(SwitchTaken, match=f"{A} is being switched; {B} waits"):
            world.begin(act, B)
    assert world.store.attempts(B).acts == (), "nothing was written"
    world.did(BACK, server=B)
    world.did(request_for(), server=B)
    world.did(SWITCH_IT)
    world.did(VERIFY)
    world.did(LEAVE)
    world.did(ENTER, server=B)
    with pytest.raises(SwitchTaken, match=f"{B} is being switched"):
        world.begin(ENTER)


def test_without_maintenance_the_next_step_frees_the_others(world: World) -> None:
    """A server that goes on to soak is switched; one in maintenance is not yet."""
    soak = Soak(certificate_id="new", until=NOW + HOUR, ends=NOW + 3 * DAY)
    world.did(SWITCH_IT)
    world.saw(observed(), VERIFY)
    world.saw(observed(maintenance=True), soak)
    world.saw(observed(B), REST)
    with pytest.raises(SwitchTaken):
        world.begin(SWITCH_IT, B)
    world.saw(observed(), soak)
    world.begin(SWITCH_IT, B)


def test_a_server_that_died_in_its_switch_holds_up_others_for_two_hours(world: World) -> None:
    """Promise 60: counted from its last act; and a token from a clock far ahead counts as none."""
    world.did(ENTER)
    world.did(SWITCH_IT, now=NOW + HOUR)
    with pytest.raises(SwitchTaken):
        world.begin(ENTER, B, NOW + HOUR + SWITCH_HOLD - MINUTE)
    world.begin(ENTER, B, NOW + HOUR + SWITCH_HOLD)
    world.begin(ENTER, C, NOW - DAY)


def test_a_neighbour_serves_where_it_lately_said_so(world: World) -> None:
    """Promise 61: each thing that keeps it from serving, one at a time."""

    def serving(**changes: Any) -> bool:
        world.saw(observed(B, **changes))
        return world.store.neighbours(A, NOW)[0].serving

    (certificate,) = observed().certificates
    assert world.store.neighbours(A, NOW) == tuple(
        Neighbour(name=name, serving=False, seen_lately=False, switching=False) for name in (B, C)
    ), "they were never seen"
    assert serving()
    assert world.store.neighbours(A, NOW + 5 * MINUTE)[0].seen_lately
    assert not world.store.neighbours(A, NOW + 6 * MINUTE)[0].seen_lately
    assert serving(at=NOW - HOUR)
    assert not world.store.neighbours(A, NOW)[0].seen_lately, "it may have died since"
    assert not serving(at=NOW - 2 * HOUR - MINUTE)
    assert not serving(at=NOW + 3 * HOUR)
    assert not serving(maintenance=True)
    assert not serving(definitions=())
    assert not serving(certificates=())
    assert not serving(certificates=(replace(certificate, status=CertificateStatus.EXPIRED),))
    assert not serving(certificates=(replace(certificate, expires=NOW),))
    assert not serving(certificates=(replace(certificate, revoked_at=NOW - DAY),))
    assert serving(maintenance=None)
    world.store.missed(B, SILENT, epoch=world.epoch, now=NOW)
    assert not world.store.neighbours(A, NOW)[0].serving
    world.saw(observed(B))
    world.plant(fas_servers, observation="{}")
    assert not world.store.neighbours(A, NOW)[0].serving, "a damaged row proves nothing"


def test_neighbours_that_were_not_seen_lately_are_looked_at_before_they_are_relied_on(world: World) -> None:
    """Promise 61: not those that were, nor who is known not to answer; one from a clock that was ahead is."""
    later = NOW + timedelta(minutes=10)

    def hastened() -> tuple[str, ...]:
        world.store.hasten_neighbours(A, unseen_since=later - 5 * MINUTE, epoch=world.epoch, now=later)
        return world.store.due(later)

    for name in (A, B, C):
        world.saw(observed(name, at=later))
    assert hastened() == ()
    world.saw(observed(C))
    world.saw(observed(A))
    assert hastened() == (C,)
    world.saw(observed(C, at=later))
    world.saw(observed(B, at=later + HOUR))
    assert hastened() == (B,)
    world.saw(observed(B))
    world.store.missed(B, SILENT, epoch=world.epoch, now=later)
    assert hastened() == ()


def test_a_neighbour_that_entered_maintenance_since_does_not_serve(world: World) -> None:
    """Promise 61: whether the answer came or not; and it is switching until it has left."""

    def told() -> Neighbour:
        return world.store.neighbours(A, NOW)[0]

    world.saw(observed(B))
    attempt = world.begin(ENTER, B)
    assert told() == Neighbour(name=B, serving=False, seen_lately=True, switching=True)
    world.store.finish(B, attempt, FAILED, epoch=world.epoch, now=NOW)
    world.saw(observed(B))
    assert told() == Neighbour(name=B, serving=True, seen_lately=True, switching=False)
    world.did(ENTER, server=B)
    assert told() == Neighbour(name=B, serving=False, seen_lately=True, switching=True)
    leaving = world.begin(LEAVE, B)
    assert told() == Neighbour(name=B, serving=True, seen_lately=True, switching=True)
    world.store.finish(B, leaving, DONE, epoch=world.epoch, now=NOW)
    assert told() == Neighbour(name=B, serving=True, seen_lately=True, switching=False)
    world.did(ENTER, server=B)
    world.saw(observed(B, at=NOW + MINUTE))
    assert told().serving, "a person took it out of maintenance"
    world.begin(BACK, B)
    assert told().switching, "an open act says so"
    later = world.store.neighbours(A, NOW + SWITCH_HOLD)[0]
    assert not later.switching, "but not for ever"
    earlier = world.store.neighbours(A, NOW - 10 * DAY)[0]
    assert not earlier.switching, "nor for as long as a clock was ahead"


def test_where_fas_tells_no_maintenance_what_we_did_says_who_serves(world: World) -> None:
    """Promise 61: a server that backs off in the middle of its switch keeps the token, and serves nobody meanwhile."""
    world.did(ENTER, server=B)
    world.did(SWITCH_IT, FAILED, server=B)
    later = NOW + MINUTE
    backing_off = Rest(reason=RenewalReason.BACKING_OFF, until=NOW + HOUR)
    world.saw(observed(B, at=later, maintenance=None), backing_off)
    assert world.store.neighbours(A, later)[0] == Neighbour(name=B, serving=False, seen_lately=True, switching=True)
    with pytest.raises(SwitchTaken, match=f"{B} is being switched"):
        world.begin(ENTER, A, later)
    assert not world.store.neighbours(A, later + SWITCH_HOLD)[0].serving, "the token ends, the maintenance does not"
    world.did(LEAVE, server=B)
    world.saw(observed(B, at=later, maintenance=None))
    assert world.store.neighbours(A, later)[0] == Neighbour(name=B, serving=True, seen_lately=True, switching=False)


def test_people_ask_and_the_worker_looks_at_once(world: World) -> None:
    """One wish of a kind at a time, in the journal by who asked and why; running processes are told."""
    world.saw(observed())
    with reading(world.engine) as connection:
        counter = connection.execute(select(config_state.c.counter)).scalar_one()
    ask = world.store.ask(A, AskKind.RENEW, now=NOW + MINUTE, actor=ACTOR, note="key\nceremony")
    assert world.store.attempts(A).asks == (ask,) == world.store.status(A).asks
    assert world.store.due(NOW + MINUTE)[-1] == A
    assert world.journal() == [
        (ACTOR, "renewal_asked", A, {"ask": 1, "kind": "renew", "note": "key\nceremony", "payload": None})
    ]
    with reading(world.engine) as connection:
        assert connection.execute(select(config_state.c.counter)).scalar_one() == counter + 1
    with pytest.raises(Conflict, match="asked for already"):
        world.store.ask(A, AskKind.RENEW, now=NOW, actor=ACTOR)
    with pytest.raises(NotFound, match="no FAS server 'fas-x' is configured"):
        world.store.ask("fas-x", AskKind.RENEW, now=NOW, actor=ACTOR)
    for kind, payload in ((AskKind.IMPORT, None), (AskKind.RENEW, b"\x30")):
        with pytest.raises(Conflict, match="signed answer"):
            world.store.ask(B, kind, now=NOW, actor=ACTOR, payload=payload)
    world.store.ask(A, AskKind.ROLL_BACK, now=NOW, actor=ACTOR)
    world.store.ask(B, AskKind.RENEW, now=NOW, actor=ACTOR)


def test_an_act_settles_the_wish_that_it_fulfils(world: World) -> None:
    """A request that failed does not, a refused import does; what is rolled back is settled by the plan."""

    def open_kinds() -> list[AskKind]:
        return [each.kind for each in world.store.attempts(A).asks]

    asks = {
        kind: world.store.ask(
            A, kind, now=NOW, actor=ACTOR, note="so", payload=b"\x30" if kind is AskKind.IMPORT else None
        )
        for kind in AskKind
    }
    elsewhere = world.store.ask(B, AskKind.RENEW, now=NOW, actor=ACTOR)
    world.did(request_for(RenewalReason.ASKED), FAILED)
    assert AskKind.RENEW in open_kinds()
    world.did(request_for(RenewalReason.ASKED))
    assert world.journal()[-1][3]["settled"] == [asks[AskKind.RENEW].seq]
    world.did(Withdraw(reason=RenewalReason.ASKED, certificate_id="new"))
    world.did(Import(certificate_id="new", response=b"\x30", ask=asks[AskKind.IMPORT].seq), FAILED)
    world.did(replace(BACK, reason=RenewalReason.ASKED))
    assert open_kinds() == [AskKind.ROLL_BACK]
    world.store.settle(A, asks[AskKind.ROLL_BACK], "all definitions are back", epoch=world.epoch, now=NOW)
    assert open_kinds() == []
    told = world.journal()[-1]
    assert told[1] == "renewal_settled"
    assert told[3]["asked_by"] == ACTOR
    assert world.store.attempts(B).asks == (elsewhere,)
    with reading(world.engine) as connection:
        outcomes = connection.execute(select(renewal_asks.c.outcome).where(renewal_asks.c.server == A)).scalars()
        assert set(outcomes) == {
            "request done, act 2",
            "withdraw done, act 3",
            "import failed, act 4",
            "all definitions are back",
        }


def test_an_import_is_told_by_its_digest(world: World) -> None:
    """The journal holds no files; the act itself does, and names who brought it."""
    ask = world.store.ask(A, AskKind.IMPORT, now=NOW, actor=ACTOR, payload=b"\x30\x03")
    world.begin(Import(certificate_id="new", response=b"\x30\x03", ask=ask.seq))
    digest = f"sha256:{hashlib.sha256(ask.payload or b'').hexdigest()}"
    asked, begun = (row[3] for row in world.journal())
    assert asked["payload"] == begun["act"]["response"] == digest
    assert begun["asked_by"] == ACTOR
    (act,) = world.store.attempts(A).acts
    assert act.step == Import(certificate_id="new", response=b"\x30\x03", ask=ask.seq)


def test_a_resolved_request_settles_as_an_answered_one(world: World) -> None:
    """Promise 45: the wish is not asked of the CA again."""
    world.store.ask(A, AskKind.RENEW, now=NOW, actor=ACTOR)
    attempt = world.begin(request_for(RenewalReason.ASKED))
    world.store.resolve(A, attempt, Result.DONE, "new", epoch=world.epoch, now=NOW)
    assert world.store.attempts(A).asks == ()


def test_a_pause_is_a_persons_and_ends_by_time_or_by_hand(world: World) -> None:
    """Who paused, why, until when; each in the journal, and the worker looks at once."""
    world.saw(observed())
    world.store.pause(A, None, now=NOW, actor=ACTOR, note="moving the CA")
    status = world.store.status(A)
    assert status.paused_until == datetime.max.replace(tzinfo=UTC) == world.store.attempts(A).paused_until
    assert (status.paused_by, status.paused_note, status.next_tick_at) == (ACTOR, "moving the CA", NOW)
    world.store.resume(A, now=NOW + HOUR, actor="CORP\\other", note="moved")
    assert world.store.attempts(A).paused_until is None
    world.store.pause(A, NOW + DAY, now=NOW, actor=ACTOR)
    assert world.store.attempts(A).paused_until == NOW + DAY
    told = [(actor, act, detail["note"]) for actor, act, _, detail in world.journal()]
    assert told == [
        (ACTOR, "renewal_paused", "moving the CA"),
        ("CORP\\other", "renewal_resumed", "moved"),
        (ACTOR, "renewal_paused", ""),
    ]
    with pytest.raises(Conflict, match="not paused"):
        world.store.resume(A, now=NOW + DAY, actor=ACTOR)
    with pytest.raises(Conflict, match="is over"):
        world.store.pause(A, NOW, now=NOW, actor=ACTOR)
    with pytest.raises(NotFound):
        world.store.pause("fas-x", None, now=NOW, actor=ACTOR)


def test_history_says_who_and_why(world: World) -> None:
    """The system by its reason, or the person who asked, with the note; the oldest of the latest first."""
    world.did(request_for())
    world.store.ask(A, AskKind.RENEW, now=NOW, actor=ACTOR, note="Key is too old.")
    world.did(request_for(RenewalReason.ASKED), FAILED)
    world.did(SWITCH_IT)
    acts = [(each.attempt, each) for each in world.store.history(A, 10) if each.attempt is not None]
    assert [(attempt.seq, each.what, each.actor, each.why) for attempt, each in acts] == [
        (1, "request", "system:renewal", RenewalReason.DUE.meaning),
        (2, "request", ACTOR, f"{RenewalReason.ASKED.meaning} Key is too old."),
        (3, "switch", "system:renewal", "the new certificate is proven"),
    ]
    assert [each.attempt and each.attempt.seq for each in world.store.history(A, 2)][-2:] == [2, 3]
    with pytest.raises(NotFound):
        world.store.history("fas-x", 1)


def test_history_tells_what_people_said(world: World) -> None:
    """Wishes, how they were settled, pauses and their ends: who, when and with which note; not of other servers."""
    wish = world.store.ask(A, AskKind.ROLL_BACK, now=NOW, actor=ACTOR, note="logons fail")
    world.store.settle(A, wish, "there is nothing to go back to", epoch=world.epoch, now=NOW + MINUTE)
    world.store.pause(A, NOW + DAY, now=NOW + 2 * MINUTE, actor=ACTOR, note="moving the CA")
    world.store.pause(B, None, now=NOW + 2 * MINUTE, actor=ACTOR)
    world.store.resume(A, now=NOW + 3 * MINUTE, actor="CORP\\other", note="moved")
    world.did(SWITCH_IT, now=NOW + 4 * MINUTE)
    asked, settled, paused, resumed, act = world.store.history(A, 10)
    assert (asked.what, asked.at, asked.actor) == ("asked", NOW, ACTOR)
    assert (asked.ask, asked.note, asked.attempt) == (AskKind.ROLL_BACK, "logons fail", None)
    assert (settled.what, settled.ask, settled.actor) == ("settled", AskKind.ROLL_BACK, "system:renewal")
    assert settled.outcome == "there is nothing to go back to"
    assert (paused.what, paused.actor, paused.note) == ("paused", ACTOR, "moving the CA")
    assert (paused.ask, paused.until) == (None, NOW + DAY)
    assert (resumed.what, resumed.actor, resumed.note) == ("resumed", "CORP\\other", "moved")
    assert (act.what, act.at) == ("switch", NOW + 4 * MINUTE)
    assert [each.what for each in world.store.history(A, 2)] == ["resumed", "switch"]
    assert [(each.what, each.until) for each in world.store.history(B, 10)] == [("paused", None)]


def test_history_of_all_servers_can_be_read_page_by_page(world: World) -> None:
    """Whoever reads on before the oldest of a page loses nothing, even where several happened at one instant."""
    for number in range(4):
        world.store.pause(A, None, now=NOW + number * MINUTE, actor=ACTOR)
        world.store.pause(B, None, now=NOW + number * MINUTE, actor=ACTOR)
    world.did(SWITCH_IT, now=NOW + 4 * MINUTE)
    pages = [world.store.history(None, 2)]
    while pages[-1]:
        pages.append(world.store.history(None, 2, before=pages[-1][0].at))
    read = [(each.server, each.at) for page in reversed(pages) for each in page]
    whole = [(each.server, each.at) for each in world.store.history(None, 100)]
    assert [len(page) for page in pages] == [3, 2, 2, 2, 0]
    assert read == whole
    assert {name for name, _ in whole} == {A, B}
    assert [each.at for each in world.store.history(B, 100, before=NOW + MINUTE)] == [NOW]


def test_requests_are_counted_since_a_renewal_succeeded(world: World) -> None:
    """A denied one counts; a verified switch ends the count (promise 63)."""
    world.did(request_for())
    world.did(request_for(), FAILED)
    assert world.store.status(A).attempts_count == 2
    world.did(VERIFY, FAILED)
    assert world.store.status(A).attempts_count == 2
    world.did(VERIFY)
    assert world.store.status(A).attempts_count == 0


@pytest.mark.parametrize(
    ("table", "values", "told"),
    [
        (renewal_acts, {"act": "{}"}, "renewal_acts row 1"),
        (renewal_acts, {"kind": "switch"}, "renewal_acts row 1"),
        (renewal_acts, {"result": "perhaps"}, "renewal_acts row 1"),
        (renewal_acts, {"finding": '{"reason":"nonsense"}'}, "renewal_acts row 1"),
        (renewal_asks, {"kind": "dance"}, "renewal_asks row 1"),
        (fas_servers, {"first_usable": '{"old":"soon"}'}, f"fas_servers row {A!r}, first_usable"),
    ],
)
def test_nothing_follows_from_a_damaged_row(world: World, table: Table, values: dict[str, object], told: str) -> None:
    """The worker gets an error that names the row, and people see the server with what is damaged."""
    world.did(request_for())
    world.store.ask(A, AskKind.RENEW, now=NOW, actor=ACTOR)
    world.plant(table, **values)
    with pytest.raises(DamagedRow, match="was changed from outside") as caught:
        world.store.attempts(A)
    assert str(caught.value).startswith(told)
    damage = world.store.status(A).damage
    assert damage is not None
    assert damage.startswith(told)


def test_a_damaged_observation_is_replaced_by_the_next(world: World) -> None:
    """It is shown as damaged until then, and the worker goes on: FAS is asked each time."""
    world.saw(observed())
    world.plant(fas_servers, observation="{", step='{"kind":"dance"}')
    status = world.store.status(A)
    assert (status.observation, status.step) == (None, None)
    assert status.damage is not None
    assert status.damage.count("was changed from outside") == 2
    world.saw(observed(at=NOW + MINUTE))
    assert world.store.status(A).damage is None
    assert world.store.status(A).step_since == NOW + MINUTE


def test_every_act_says_why_it_is_done() -> None:
    """No kind is left out, those that carry no reason of their own included."""
    assert {STEP_KINDS[act] for act in ACTS} == set(WHY)


def test_why_says_what_is_done_in_this_case() -> None:
    """Without a test definition nothing is tested yet; an issued certificate that goes is no request."""
    tested, checked = (why(Prove(certificate_id="new", definition=each), None) for each in ("test", None))
    assert tested == "the new certificate is tested before anything in use names it"
    assert checked == "the new certificate is checked as far as FAS describes it, before anything in use names it"
    removed = Withdraw(reason=RenewalReason.ASKED, certificate_id="new", issued=True)
    assert why(removed, None) == f"{RenewalReason.ASKED.meaning} The certificate is issued, and nothing uses it."
    assert why(replace(removed, issued=False), None) == RenewalReason.ASKED.meaning


def test_the_store_is_the_memory_that_a_tick_needs(world: World) -> None:
    """And says so of a server that it does not know."""
    memory: RenewalMemory = world.store
    with pytest.raises(NotFound):
        memory.attempts("fas-x")
    with pytest.raises(NotFound):
        memory.begin("fas-x", ENTER, epoch=world.epoch, now=NOW)
    with pytest.raises(NotFound):
        memory.missed("fas-x", SILENT, epoch=world.epoch, now=NOW)
