"""The loop around the ticks: the lease while a server is slow, and what becomes of errors that nobody foresaw."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, update

from evidence_service.adapters.database import fas_servers, open_database, writing
from evidence_service.renewal.farm import Farm, FasServer, Local
from evidence_service.renewal.model import (
    Act,
    Alert,
    AskKind,
    AuthorizationCertificate,
    CertificateDefinition,
    CertificateStatus,
    Observation,
    RenewalPolicy,
    Result,
    StepKind,
)
from evidence_service.renewal.ports import NotLeader, Performed
from evidence_service.renewal.reasons import RenewalReason
from evidence_service.renewal.tick import AtPoint, Ticked
from evidence_service.renewal_loop import LEASE_LENGTH, RenewalLoop
from tests.renewal.site import FAS1, FAS2, POLICY, near

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
A, B = "fas-a.corp.example", "fas-b.corp.example"
A_THIRD = LEASE_LENGTH.total_seconds() / 3


class Server:
    """A FAS server with one certificate; `first` happens when it is read, `between` before an act's second cmdlet."""

    at_point: AtPoint | None = None

    def __init__(self, name: str, expires: datetime) -> None:
        """As FAS would be."""
        self.name, self.expires = name, expires
        self.first: Callable[[], None] = lambda: None
        self.between: Callable[[], None] = lambda: None
        self.called: list[str] = []

    def observe(self, now: datetime, before: Observation | None = None) -> Observation:  # noqa: ARG002 - as above
        """What it reports."""
        self.first()
        certificate = AuthorizationCertificate(
            id="old",
            status_word="Ok",
            status=CertificateStatus.OK,
            certificate_authority="ca\\CA",
            expires=self.expires,
        )
        definition = CertificateDefinition(name="default", template="logon", authorization_certificate="old")
        return Observation(
            server=self.name,
            at=now,
            certificates=(certificate,),
            definitions=(definition,),
            rules=(),
            maintenance=False,
        )

    def perform(self, act: Act) -> Performed:  # noqa: ARG002 - a FAS server's signature
        """Two cmdlets, whatever the act."""
        assert self.at_point is not None
        for name in ("Set-FasServer", "Set-FasCertificateDefinition"):
            self.at_point(f"{name}:before")
            self.called.append(name)
            self.between()
        return Performed(result=Result.DONE, certificate_id="new")


class Bench:
    """A loop over two servers, whose monotonic clock is moved by hand."""

    def __init__(self, engine: Engine, expires: datetime = NOW + timedelta(days=300)) -> None:
        """Nothing was looked at yet."""
        self.engine, self.seconds = engine, 0.0
        self.ticks: list[Ticked] = []
        self.told: Callable[[FasServer, Ticked], None] = lambda _, ticked: self.ticks.append(ticked)
        policy = RenewalPolicy(jitter=timedelta(0))
        self.farm = Farm(servers=tuple(FasServer(name=name, policy=policy, connection=Local()) for name in (A, B)))
        self.loop = RenewalLoop(
            engine,
            self.farm,
            owner="worker:1",
            clock=lambda: NOW,
            draw=lambda: 0.0,
            told=lambda server, ticked: self.told(server, ticked),  # noqa: PLW0108 - a test replaces it
            opens=self.opened,
            monotonic=lambda: self.seconds,
        )
        self.servers = {name: Server(name, expires) for name in (A, B)}

    def opened(self, server: FasServer, at_point: AtPoint | None) -> Server:
        """The server, told of each call as the loop wants it."""
        found = self.servers[server.name]
        found.at_point = at_point
        return found

    def looked_at(self) -> list[str]:
        """The servers of which a tick was told."""
        return [each.server for each in self.ticks]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A new database."""
    engine = open_database(f"sqlite:///{tmp_path / 'fas-evidence.db'}")
    yield engine
    engine.dispose()


def test_a_round_keeps_its_lease_while_servers_are_slow(engine: Engine) -> None:
    """Promise 55: reading a server may take longer than a lease; the next one is looked at all the same."""
    bench = Bench(engine)

    def slow() -> None:
        until = time.monotonic() + 60
        for _ in range(5):
            bench.seconds += A_THIRD
            while bench.loop._extended < bench.seconds:
                assert time.monotonic() < until, "the lease is not extended"
                time.sleep(0.02)

    for each in bench.servers.values():
        each.first = slow
    assert bench.loop.round()
    assert bench.looked_at() == [A, B]


def test_an_act_stops_between_two_cmdlets_where_the_lease_ended(engine: Engine) -> None:
    """Promise 55: the process was stopped in the middle of an act; another may act by now."""
    bench = Bench(engine, expires=NOW + timedelta(days=20))

    def stopped() -> None:
        bench.loop._leads_until = bench.seconds  # as time alone would have it

    bench.servers[A].between = stopped
    with pytest.raises(NotLeader, match="the cmdlet was not sent"):
        bench.loop.round()
    assert bench.servers[A].called == ["Set-FasServer"]
    (act,) = bench.loop.store.attempts(A).acts
    assert act.result is None, "it is read back what became of it"


def test_an_error_that_nobody_foresaw_is_told_like_a_silent_server(engine: Engine) -> None:
    """Promise 60: the log alone wakes nobody; the others go on, and this one is tried again after a back-off."""
    bench = Bench(engine)

    def broken() -> None:
        raise RuntimeError("canary")

    bench.servers[A].first = broken
    assert not bench.loop.round()
    status = bench.loop.store.status(A)
    assert status.problem is not None
    assert status.problem.reason is RenewalReason.NOT_UNDERSTOOD
    assert "RuntimeError" in status.problem.presented
    assert "canary" not in status.problem.presented
    assert status.next_tick_at == NOW + timedelta(minutes=1)
    assert bench.looked_at() == [B]


def test_a_damaged_row_of_one_server_ends_no_round(engine: Engine) -> None:
    """Promise 60: what is stored of one is damaged, and the other is looked at."""
    bench = Bench(engine)
    bench.loop.store.configure((A, B), now=NOW, draw=lambda: 0.0)
    with writing(engine) as connection:
        connection.execute(update(fas_servers).where(fas_servers.c.name == A).values(first_usable="[]"))
    assert not bench.loop.round()
    assert bench.looked_at() == [B]


def test_renewal_goes_on_where_nobody_can_be_told(engine: Engine) -> None:
    """A message that cannot be written ends no renewal; it is tried again after the next tick."""
    bench = Bench(engine, expires=NOW + timedelta(days=20))

    def untold(_server: FasServer, _ticked: Ticked) -> None:
        raise ValueError("no such letter")

    bench.told = untold
    assert bench.loop.round()
    assert [each.result for each in bench.loop.store.attempts(A).acts] == [Result.DONE]


def test_a_look_in_a_thread_tells_of_an_error_too(engine: Engine) -> None:
    """The same for the process that runs for ever."""
    bench = Bench(engine)
    raised = threading.Event()

    def broken() -> None:
        raised.set()
        raise RuntimeError("canary")

    bench.servers[A].first = bench.servers[B].first = broken
    bench.loop.look()
    for thread in list(bench.loop.running.values()):
        thread.join()
    assert raised.is_set()
    assert bench.loop.store.status(A).misses == 1
    bench.loop.end(seconds=1)


def test_the_first_round_looks_at_every_server(engine: Engine) -> None:
    """A timer that starts `work --once` for the first time looks at the whole farm, whatever was drawn."""
    bench = Bench(engine)
    bench.loop._draw = lambda: 0.9

    assert bench.loop.round()
    assert bench.looked_at() == [A, B]


def test_a_rare_timer_gets_by_neighbours_that_were_not_seen_lately(tmp_path: Path) -> None:
    """A round every eight hours looks at the neighbour again, and then lets the one that waited go on at once."""
    with near(tmp_path, policy=replace(POLICY, poll=timedelta(minutes=5))) as farm:
        (old,) = farm.used()
        farm.until_step(StepKind.AWAIT_APPROVAL)
        (request,) = farm.farm.ca.pending
        farm.farm.ca.issue(request.number)
        farm.farm.advance(timedelta(hours=8))
        assert FAS2 not in farm.store.due(farm.farm.now)
        farm.round()

        assert farm.acts()[1:] == [
            "prove done",
            "enter_maintenance done",
            *(["switch done"] * 3),
            "verify done",
            "leave_maintenance done",
        ]
        assert old not in farm.used()


def test_a_neighbour_that_died_since_its_last_report_is_found_out_before_it_is_relied_on(tmp_path: Path) -> None:
    """Promise 61: an hour ago it served; it is asked again first, and then this server stays where it is."""
    with near(tmp_path, policy=replace(POLICY, poll=timedelta(minutes=5))) as farm:
        farm.until_step(StepKind.AWAIT_APPROVAL)
        farm.store.ask(FAS2, AskKind.WITHDRAW, now=farm.farm.now, actor="cli:admin")
        farm.round()
        (request,) = farm.farm.ca.pending
        farm.farm.ca.issue(request.number)
        farm.farm.advance(timedelta(hours=1))
        assert farm.store.neighbours(FAS1, farm.farm.now)[0].serving
        farm.server(FAS2).unreachable = True
        for _ in range(5):
            farm.round()
            farm.farm.advance(timedelta(minutes=5))

        assert farm.acts()[-1] == "prove done"
        step = farm.store.status(FAS1).step
        assert isinstance(step, Alert)
        assert step.reason is RenewalReason.NO_NEIGHBOUR
        farm.server(FAS2).unreachable = False
        farm.run(until=lambda: "leave_maintenance done" in farm.acts(), most=timedelta(hours=3))
