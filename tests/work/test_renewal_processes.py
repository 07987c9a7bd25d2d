"""`fas-evidence work` as a process that renews a farm over PowerShell remoting, named by renewal.toml."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from evidence_service.adapters.database import leases, open_database, reading
from evidence_service.adapters.lease import DatabaseLeases
from evidence_service.adapters.renewal_store import LEASE, RenewalStore
from tests.web.renewals import FAS1, FAS2, Renewals, now_utc, running
from tests.work.test_processes import PATIENCE, environment, service

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


@pytest.fixture
def renewals(tmp_path: Path) -> Iterator[Renewals]:
    """Two servers whose certificates end in ten days, so that renewal is due."""
    with running(tmp_path / "data", tmp_path / "farm", days_left=10) as made:
        yield made


@pytest.fixture
def engine(renewals: Renewals) -> Iterator[Engine]:
    """The service's database, in which both servers are known and due now."""
    made = open_database(f"sqlite:///{renewals.data_dir / 'fas-evidence.db'}")
    RenewalStore(made).configure([FAS1, FAS2], now=now_utc(), draw=lambda: 0.0)
    yield made
    made.dispose()


def work_once(renewals: Renewals, **settings: str) -> subprocess.CompletedProcess[str]:
    """`fas-evidence work --once`."""
    command = [sys.executable, "-m", "evidence_service", "work", "--once"]
    where = environment(renewals.data_dir, renewal_file=str(renewals.file), **settings)
    return subprocess.run(command, env=where, capture_output=True, text=True, check=False, timeout=PATIENCE)


def holder(engine: Engine) -> str | None:
    """Who has the lease."""
    with reading(engine) as connection:
        owner: str | None = connection.execute(select(leases.c.owner).where(leases.c.name == LEASE)).scalar_one()
        return owner


def test_work_renews_until_sigterm_and_gives_the_lease_back(renewals: Renewals, engine: Engine) -> None:
    """It asks for both servers' certificates, ends with 0 at SIGTERM, and another may lead at once."""
    with service(renewals.data_dir, "work", renewal_file=str(renewals.file)) as worker:
        worker.line("renewal_act", fas_server=FAS1, step="request", result="done")
        worker.line("renewal_tick", step="await_approval")
        assert holder(engine) is not None
        assert worker.end() == 0

    assert holder(engine) is None
    assert {each.requester for each in renewals.farm.ca.pending} >= {r"CORP\FAS1$"}


def test_sigterm_ends_it_while_a_server_hangs(renewals: Renewals, engine: Engine) -> None:
    """The server that never answers is left; the lease, which its thread could still use, ends by itself."""
    renewals.farm.server(FAS1).hangs = True
    renewals.farm.server(FAS2).hangs = True
    with service(renewals.data_dir, "work", renewal_file=str(renewals.file)) as worker:
        worker.line("renewal_leads")
        assert worker.end() == 0
        assert worker.line("renewal_abandoned")["fas_servers"] == [FAS1, FAS2]
    assert holder(engine) is not None


def test_work_once_looks_at_each_server_and_ends(renewals: Renewals, engine: Engine) -> None:
    """0 where all answered, 3 where one did not, or another process renews; nothing is asked for twice."""
    first = work_once(renewals)
    assert first.returncode == 0, first.stderr
    assert len(renewals.farm.ca.pending) == 2
    assert holder(engine) is None

    renewals.farm.server(FAS2).unreachable = True
    due_now(engine)
    second = work_once(renewals)
    assert second.returncode == 3
    assert FAS2 in second.stderr
    assert len(renewals.farm.ca.pending) == 2

    assert DatabaseLeases(engine).acquire(LEASE, owner="other", now=now_utc(), length=timedelta(minutes=5)) is not None
    third = work_once(renewals)
    assert third.returncode == 3
    assert "another process renews this farm's certificates" in third.stderr.splitlines()[-1]


def due_now(engine: Engine) -> None:
    """Let both servers be looked at again."""
    store = RenewalStore(engine)
    store.configure([FAS1, FAS2], now=now_utc(), draw=lambda: 0.0)
    for name in (FAS1, FAS2):
        store.pause(name, now_utc() + timedelta(hours=1), now=now_utc(), actor="cli:test")
        store.resume(name, now=now_utc(), actor="cli:test")


def test_a_file_that_cannot_be_used_is_one_line_and_2(renewals: Renewals) -> None:
    """Nothing is started by half: the line names the member."""
    renewals.write(FAS1, renewal='lead = "soon"\n')
    wrong = work_once(renewals)
    renewals.file.unlink()
    missing = work_once(renewals)

    for each in (wrong, missing):
        assert each.returncode == 2
        (line,) = each.stderr.splitlines()
        assert line.startswith("error: ")
    assert "lead" in wrong.stderr
    assert "renewal.toml" in missing.stderr
