"""What the tests run as processes of their own: `python -m tests.work.processes NAME ARGUMENTS`."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable
from datetime import datetime

from evidence_service.adapters.database import open_database
from evidence_service.work import Worker
from tests.work.given import RULES


def killed(url: str, now: str, point: str) -> None:
    """Refresh what is due, and die at this point without a word."""

    def die(reached: str) -> None:
        if reached == point:
            os.kill(os.getpid(), signal.SIGKILL)

    Worker(open_database(url, create=False), RULES, clock=lambda: datetime.fromisoformat(now), at_point=die).round()


def full(url: str, now: str, limit: str) -> None:
    """Refresh what is due while no file may grow beyond `limit` bytes (0: any); says what came of it."""
    worker = Worker(open_database(url, create=False), RULES, clock=lambda: datetime.fromisoformat(now))
    claim = worker._claim()
    assert claim is not None
    if int(limit):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
    outcome = worker._refresh(claim)
    sys.stdout.write(f"{outcome.outcome} {type(outcome.error).__name__}\n")


PROGRAMS: dict[str, Callable[..., None]] = {"killed": killed, "full": full}

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](*sys.argv[2:])
