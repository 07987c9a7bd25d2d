"""What the tests of the store run in processes of their own: `python -m tests.renewal.store_processes URL SERVER`."""

from __future__ import annotations

import os
import signal
import sys
from datetime import UTC, datetime, timedelta

from evidence_service.adapters.database import open_database
from evidence_service.adapters.lease import DatabaseLeases
from evidence_service.adapters.renewal_store import LEASE, RenewalStore
from evidence_service.renewal.model import EnterMaintenance

AT = datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC)


def leads(url: str, number: int) -> bool:
    """Whether this process gets the lease."""
    engine = open_database(url, create=False)
    try:
        lease = DatabaseLeases(engine).acquire(LEASE, owner=f"p{number}", now=AT, length=timedelta(seconds=30))
        return lease is not None
    finally:
        engine.dispose()


def begin_and_die(url: str, server: str) -> None:
    """Record an intent, and die with SIGKILL the moment it is recorded."""
    engine = open_database(url, create=False)
    lease = DatabaseLeases(engine).acquire(LEASE, owner="victim", now=AT, length=timedelta(seconds=30))
    assert lease is not None
    RenewalStore(engine).begin(server, EnterMaintenance(certificate_id="new"), epoch=lease.epoch, now=AT)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    begin_and_die(*sys.argv[1:])
