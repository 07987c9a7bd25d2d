"""A simulated farm that is reached over WinRM, the file that names its servers, and what the worker does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine

from evidence_service.adapters.fas import open_fas
from evidence_service.adapters.lease import DatabaseLeases
from evidence_service.adapters.renewal_store import LEASE, RenewalStore
from evidence_service.demo.fas_farm import SimulatedFarm
from evidence_service.demo.winrm import WinRmServer
from evidence_service.renewal.model import STEP_KINDS, StepKind
from evidence_service.renewal.tick import Ticked, Ticker
from evidence_service.renewal_settings import load_renewal

FAS1, FAS2 = "fas1.corp.example", "fas2.corp.example"


def now_utc() -> datetime:
    """The real time, which commands use."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewals:
    """The farm and its file, `renewal.toml`, in the data directory."""

    farm: SimulatedFarm
    winrm: WinRmServer
    data_dir: Path

    @property
    def file(self) -> Path:
        """The file that names the servers."""
        return self.data_dir / "renewal.toml"

    @property
    def secrets_dir(self) -> Path:
        """Where the account's password is."""
        return self.data_dir / "secrets"

    def write(self, *names: str, renewal: str = "", more: str = "") -> None:
        """Name these servers, with members for all, and tables after."""
        self.secrets_dir.mkdir(parents=True, exist_ok=True)
        password = self.secrets_dir / "winrm-password"
        password.write_text(self.winrm.password, encoding="utf-8")
        password.chmod(0o600)
        tables = [f'[renewal]\ntest_upn = "fas-test@corp.example"\n{renewal}']
        for name in names:
            connection = self.winrm.connection(name)
            account = (connection.username or "").replace("\\", "\\\\")
            tables.append(
                f'[[fas_servers]]\nname = "{name}"\nconnection = "winrm"\nhost = "{connection.host}"\n'
                f'port = {connection.port}\nauth = "basic"\nusername = "{account}"\npassword_file = "winrm-password"\n'
                f'ca_file = "{connection.ca_file}"\noperation_timeout = "20s"\n'
            )
        self.file.write_text("\n".join([*tables, more]), encoding="utf-8")

    def tick(self, engine: Engine, name: str = FAS1) -> Ticked:
        """What the worker does at one look at a server."""
        settings = load_renewal(self.file, self.secrets_dir)
        store, server = RenewalStore(engine), settings.farm.server(name)
        assert server is not None
        store.configure([each.name for each in settings.farm.servers], now=self.farm.now, draw=lambda: 0.5)
        leases = DatabaseLeases(engine)
        lease = leases.acquire(LEASE, owner="test", now=self.farm.now, length=timedelta(minutes=1))
        assert lease is not None
        try:
            ticker = Ticker(memory=store, epoch=lease.epoch, leads=lambda: True, clock=lambda: self.farm.now)
            return ticker.tick(server, open_fas(server))
        finally:
            leases.release(lease)

    def tick_until(self, engine: Engine, kind: StepKind, name: str = FAS1) -> Ticked:
        """Look every other minute until the step is of this kind; fails where it does not come."""
        for _ in range(20):
            ticked = self.tick(engine, name)
            if ticked.step is not None and STEP_KINDS[type(ticked.step)] is kind:
                return ticked
            self.farm.advance(timedelta(minutes=2))
        raise AssertionError(f"{kind} did not come")


@contextlib.contextmanager
def running(data_dir: Path, directory: Path, *, days_left: int = 300) -> Iterator[Renewals]:
    """Two servers in use, whose certificates expire in so many days; the file names both."""
    farm = SimulatedFarm(now_utc(), clock=now_utc)
    for name in (FAS1, FAS2):
        farm.install(name, expires=now_utc() + timedelta(days=days_left))
    directory.mkdir(exist_ok=True)
    with WinRmServer(farm, directory) as winrm:
        renewals = Renewals(farm=farm, winrm=winrm, data_dir=data_dir)
        data_dir.mkdir(parents=True, exist_ok=True)
        renewals.write(FAS1, FAS2)
        yield renewals
