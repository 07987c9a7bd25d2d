"""A farm that is renewed end to end: simulated FAS servers over real PowerShell remoting, a real database, the loop."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection

from evidence_service.adapters.database import open_database
from evidence_service.adapters.fas import PowerShellFas, open_fas
from evidence_service.adapters.outbox import Outbox, StoredMessage
from evidence_service.adapters.trust_store import StoredAlarm, TrustStore
from evidence_service.demo.fas_farm import FarmServer, SimulatedFarm
from evidence_service.demo.winrm import WinRmServer
from evidence_service.notices.model import About, Channels, Message
from evidence_service.renewal.farm import Farm, FasServer, Local, RevocationList
from evidence_service.renewal.model import STEP_KINDS, RenewalPolicy, StepKind
from evidence_service.renewal.ports import Fas
from evidence_service.renewal.tick import AtPoint, Ticked
from evidence_service.renewal_loop import RenewalLoop
from evidence_service.renewal_settings import RenewalSettings
from evidence_service.settings import Settings
from evidence_service.telling import Telling

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
"""A Monday."""
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
FAS1, FAS2 = "fas1.corp.example", "fas2.corp.example"
DEFINITIONS = ("default_Definition", "contractors_Definition", "kiosk_Definition")
RULES = {"default": DEFINITIONS[:1], "contractors": DEFINITIONS[1:], "test": ("test_Definition",)}
TEST_UPN = "fas-test@corp.example"
POLICY = RenewalPolicy(
    jitter=timedelta(0),
    test_upn=TEST_UPN,
    test_rule="test",
    test_definition="test_Definition",
    soak=3 * DAY,
    poll=6 * HOUR,
    check=24 * HOUR,
)
"""Looks are rarer than usual, so that weeks pass in seconds."""


@dataclass(kw_only=True)
class Site:
    """One farm, one database, one loop; time moves when it is told to."""

    engine: Engine
    farm: SimulatedFarm
    settings: Settings
    servers: Farm
    channels: Channels
    opens: Callable[[FasServer, AtPoint | None], Fas] = open_fas
    owner: str = "worker:1"
    ticks: list[Ticked] = field(default_factory=list)
    watch: Callable[[Ticked], None] = lambda _: None
    """Is told of each tick before anything else is."""

    def __post_init__(self) -> None:
        """Everything opened anew, as after a restart."""
        self.restart()

    def restart(self, owner: str = "worker:1") -> None:
        """Another process on the same database."""
        renewal = RenewalSettings(farm=self.servers, channels=self.channels)
        self.telling = Telling(self.engine, self.settings, renewal, clock=lambda: self.farm.now)
        self.loop = RenewalLoop(
            self.engine,
            self.servers,
            owner=owner,
            clock=lambda: self.farm.now,
            draw=lambda: 0.0,
            told=self._told,
            opens=self.opens,
        )
        self.store = self.loop.store

    def _told(self, server: FasServer, ticked: Ticked) -> None:
        self.watch(ticked)
        self.ticks.append(ticked)
        self.telling.of_tick(server, ticked)

    def round(self) -> None:
        """What `work --once` does."""
        self.loop.round()
        self.telling.synchronise(self.loop.revocation_problems())
        self.telling.deliver_once()

    def run(self, *, until: Callable[[], bool], most: timedelta = 60 * DAY, stride: timedelta = DAY) -> None:
        """Let time pass and the loop look, until this holds."""
        end = self.farm.now + most
        while not until():
            assert self.farm.now < end, self.story()
            self.round()
            if until():
                return
            instant = self.store.next_instant() or self.farm.now
            self.farm.advance(min(max(instant - self.farm.now, MINUTE), stride))

    def until_step(self, kind: StepKind, name: str = FAS1, most: timedelta = 60 * DAY) -> None:
        """Let time pass until the next step of this server is of this kind."""
        self.run(until=lambda: self.step(name) is kind, most=most)

    def step(self, name: str = FAS1) -> StepKind | None:
        """The kind of the step that was planned last."""
        known = {each.name: each for each in self.store.statuses()}
        step = None if name not in known else known[name].step
        return None if step is None else STEP_KINDS[type(step)]

    def server(self, name: str = FAS1) -> FarmServer:
        """The simulated server."""
        return self.farm.server(name)

    def used(self, name: str = FAS1) -> set[str]:
        """The ids that its definitions name."""
        return {each.authorization_certificate for each in self.server(name).definitions.values()}

    def acts(self, name: str = FAS1) -> list[str]:
        """What was done, act by act, as `kind result`."""
        return [
            f"{STEP_KINDS[type(each.step)].value} {each.result.value if each.result else '-'}"
            for each in self.store.attempts(name).acts
        ]

    def stored(self, kind: str | None = None) -> list[StoredMessage]:
        """What people are told, and how far it is, oldest first."""
        stored = reversed(Outbox(self.engine).messages(limit=1000))
        return [each for each in stored if kind in (None, each.message.kind)]

    def messages(self, kind: str | None = None) -> list[Message]:
        """What people were told, oldest first."""
        return [each.message for each in self.stored(kind)]

    def open_alarms(self) -> Sequence[StoredAlarm]:
        """The open alarms about FAS servers and the service."""
        about = frozenset({About.FAS_SERVER.value, About.SERVICE.value})
        return TrustStore(self.engine).open_alarms(about=about)

    def alarms(self) -> dict[str, str]:
        """The texts of open alarms by kind."""
        return {each.kind: each.text for each in self.open_alarms()}

    def story(self) -> str:
        """Everything that happened, for a failing test."""
        happened = [each for each in self.farm.history() if "Add-PSSnapin" not in each]
        return "\n".join([*happened, *self.acts(), *(f"{each.server} {each.step}" for each in self.ticks[-4:])])


@contextlib.contextmanager
def site(
    directory: Path,
    *,
    names: tuple[str, ...] = (FAS1, FAS2),
    policy: RenewalPolicy = POLICY,
    channels: Channels | None = None,
    expires: datetime = NOW + 70 * DAY,
    release: str = "2402",
    revocation_lists: tuple[RevocationList, ...] = (),
    operation_seconds: float = 30.0,
) -> Iterator[Site]:
    """A farm of these servers, each with three definitions in use and one for tests, whose certificates end `expires`.

    All but the first server end a year later, so that one is renewed.
    """
    farm = simulated(names, expires, release=release)
    engine = open_database(f"sqlite:///{directory / 'fas-evidence.db'}")
    with WinRmServer(farm, directory) as winrm:
        servers = Farm(
            servers=tuple(
                FasServer(
                    name=name,
                    policy=policy,
                    connection=replace(winrm.connection(name), operation_seconds=operation_seconds),
                )
                for name in names
            ),
            revocation_lists=revocation_lists,
        )
        try:
            yield Site(
                engine=engine,
                farm=farm,
                settings=Settings(data_dir=directory),
                servers=servers,
                channels=channels or Channels(),
            )
        finally:
            engine.dispose()


@contextlib.contextmanager
def near(
    directory: Path,
    *,
    names: tuple[str, ...] = (FAS1, FAS2),
    policy: RenewalPolicy = POLICY,
    channels: Channels | None = None,
    expires: datetime = NOW + 70 * DAY,
    operation_seconds: float = 180.0,
) -> Iterator[Site]:
    """The same without remoting: the farm is asked in process, so that years take seconds."""
    farm = simulated(names, expires)
    engine = open_database(f"sqlite:///{directory / 'fas-evidence.db'}")
    event.listen(engine, "checkout", _unsynchronised)

    def opens(server: FasServer, at_point: AtPoint | None) -> Fas:
        return PowerShellFas(
            server, lambda: farm.powershell(server.name, operation_seconds=operation_seconds), at_point
        )

    try:
        yield Site(
            engine=engine,
            farm=farm,
            settings=Settings(data_dir=directory),
            servers=Farm(
                servers=tuple(FasServer(name=name, policy=policy, connection=Local()) for name in names),
            ),
            channels=channels or Channels(),
            opens=opens,
        )
    finally:
        engine.dispose()


def _unsynchronised(connection: DBAPIConnection, *_: object) -> None:
    """No power fails here, and years of fsync take long."""
    connection.cursor().execute("PRAGMA synchronous = OFF")


def simulated(names: tuple[str, ...], expires: datetime, *, release: str = "2402") -> SimulatedFarm:
    """The servers of a site: all but the first end a year after `expires`."""
    farm = SimulatedFarm(NOW, release=release, servers=names)
    for number, name in enumerate(names):
        end = expires if number == 0 else expires + 365 * DAY
        farm.install(
            name,
            expires=end,
            definitions=(*DEFINITIONS, "test_Definition"),
            rules=RULES,
            user_certificates=5,
            lifetime=end - NOW + 250 * DAY,
        )
    farm.ca.set_lifetime(400 * DAY)
    return farm


def wait_for(what: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until it holds; fail where it never does."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it never came to hold"
        time.sleep(0.05)
