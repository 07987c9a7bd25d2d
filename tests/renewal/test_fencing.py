"""One actor at a time, fenced (promise 55): workers that are stopped for longer than their lease, and go on."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from evidence_service.adapters.database import leases, reading, renewal_acts
from evidence_service.demo.fas_farm import SimulatedFarm
from evidence_service.renewal.model import Result, StepKind
from evidence_service.renewal_loop import RenewalLoop
from tests.renewal.site import DAY, FAS1, MINUTE, NOW, POLICY, Site, near, site, wait_for

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

REQUEST = "New-FasAuthorizationCertificate"
SPEED = 30
"""How much faster the workers' clocks run than the real one."""
LEASE_SECONDS = 90
PATIENCE = 90.0
"""In real seconds, for what takes a few."""


@dataclass(kw_only=True)
class Worker:
    """A process that looks after the farm."""

    process: subprocess.Popen[str]
    lines: queue.SimpleQueue[dict[str, Any]] = field(default_factory=queue.SimpleQueue)

    def line(self, event: str) -> dict[str, Any]:
        """The next line of this event; what comes before is passed over."""
        while (line := self.lines.get(timeout=PATIENCE))["event"] != event:
            pass
        return line

    def wait_stopped(self) -> None:
        """Until it has stopped itself."""
        _, status = os.waitpid(self.process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)

    def go_on(self) -> None:
        """As if nothing had been."""
        self.process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def worker(farm: Site, began: datetime, point: str | None = None) -> Iterator[Worker]:
    """A worker that stops itself at this point, the first time; all workers' clocks began at this real instant."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.renewal.stopped"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    made = Worker(process=process)
    asked = {
        "farm": base64.b64encode(pickle.dumps(farm.servers)).decode(),
        "database": str(farm.engine.url),
        "point": point,
        "now": farm.farm.now.isoformat(),
        "began": began.isoformat(),
        "speed": SPEED,
        "lease": LEASE_SECONDS,
    }
    process.stdin.write(json.dumps(asked) + "\n")
    process.stdin.flush()

    def read() -> None:
        for line in process.stdout or ():
            made.lines.put(json.loads(line))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        made.line("ready")
        yield made
        process.stdin.close()
        assert process.wait(PATIENCE) == 0
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        reader.join()
        process.stdin.close()
        process.stdout.close()


def requests_of(farm: SimulatedFarm) -> int:
    """How often a certificate was asked for at FAS."""
    return [each.name for each in farm.calls].count(REQUEST)


def epochs(farm: Site) -> list[tuple[int, str | None]]:
    """Under which epoch each act was intended, and what came of it."""
    with reading(farm.engine) as connection:
        return [(row.epoch, row.result) for row in connection.execute(select(renewal_acts))]


INTENDED = {
    "request:intended": [(1, Result.NOT_DONE.value), (2, Result.DONE.value)],
    f"{REQUEST}:before": [(1, Result.NOT_DONE.value), (2, Result.DONE.value)],
    "request:answered": [(1, Result.DONE.value)],
}
"""By the point: the epochs of the acts, and their results."""


@pytest.mark.parametrize("point", INTENDED)
def test_a_worker_that_was_stopped_sends_and_writes_nothing(tmp_path: Path, point: str) -> None:
    """Three workers; the leader is stopped at this point until another leads, and goes on (promise 55).

    One request reaches FAS, by whoever led; what the stopped one did is adopted, what it did not do it does not do any
    more, and its write is refused.
    """
    second = timedelta(seconds=SPEED)
    policy = replace(POLICY, answer_grace=second, poll=second, check=second)
    with site(tmp_path, names=(FAS1,), policy=policy) as farm:
        farm.store.configure([FAS1], now=farm.farm.now, draw=lambda: 0.0)
        farm.farm.advance(10 * DAY + MINUTE)
        began = datetime.now(UTC)
        with worker(farm, began, point) as first:
            assert first.line("renewal_leads")["epoch"] == 1
            first.wait_stopped()
            with worker(farm, began) as other, worker(farm, began) as third:
                wait_for(lambda: farm.step() is StepKind.AWAIT_APPROVAL, PATIENCE)
                first.go_on()
                refused = first.line("renewal_not_leader")
                last = farm.store.next_instant()
                wait_for(lambda: farm.store.next_instant() != last, PATIENCE)
            assert other.process.returncode == third.process.returncode == 0

        assert refused["fas_server"] == FAS1
        assert requests_of(farm.farm) == 1
        assert len(farm.farm.ca.pending) == 1
        assert epochs(farm) == INTENDED[point]


def test_a_lease_that_was_lost_and_taken_again_gives_no_right_to_an_old_intent(tmp_path: Path) -> None:
    """Meanwhile another worker made the request and ended; the stopped one leads again, under another epoch.

    The act that it had intended before belongs to the old epoch, so that it is not sent (promise 55).
    """
    with near(tmp_path, names=(FAS1,)) as farm:
        farm.farm.advance(10 * DAY)

        def stopped(reached: str) -> None:
            if reached == "request:intended":
                farm.farm.advance(40 * MINUTE)
                farm.restart(owner="worker:2")
                farm.round()
                first.look()

        first = RenewalLoop(
            farm.engine,
            farm.servers,
            owner="worker:1",
            clock=lambda: farm.farm.now,
            draw=lambda: 0.0,
            told=lambda _server, _ticked: None,
            opens=farm.opens,
            at_point=stopped,
            monotonic=lambda: (farm.farm.now - NOW) / timedelta(seconds=1),
        )
        first.look()
        wait_for(lambda: not first.running)

        assert first.leads
        assert requests_of(farm.farm) == 1
        assert epochs(farm) == [(1, Result.NOT_DONE.value), (2, Result.DONE.value)]


@pytest.mark.parametrize("stands", ["monotonic", "wall"])
def test_a_lease_that_ended_by_either_clock_has_ended(tmp_path: Path, stands: str) -> None:
    """A suspended machine's monotonic clock stood still; a clock that is set back hides that time passed."""
    with near(tmp_path, names=(FAS1,)) as farm:
        farm.farm.advance(10 * DAY)
        clocks = {"monotonic": 0.0, "wall": 0.0}

        def stopped(reached: str) -> None:
            if reached == "request:intended":
                clocks.update({name: 40.0 for name in clocks if name != stands})

        loop = RenewalLoop(
            farm.engine,
            farm.servers,
            owner="worker:1",
            clock=lambda: farm.farm.now + timedelta(seconds=clocks["wall"]),
            draw=lambda: 0.0,
            told=lambda _server, _ticked: None,
            opens=farm.opens,
            at_point=stopped,
            monotonic=lambda: clocks["monotonic"],
        )
        loop.look()
        wait_for(lambda: not loop.running)

        assert requests_of(farm.farm) == 0
        assert epochs(farm) == [(1, None)]


def test_who_ends_gives_the_lease_back(tmp_path: Path) -> None:
    """The next worker need not wait for the lease to end."""
    with near(tmp_path) as farm:
        farm.loop.look()
        assert farm.loop.leads
        farm.loop.end(seconds=30)
        with reading(farm.engine) as connection:
            (row,) = connection.execute(select(leases).where(leases.c.name == "renewal"))
        assert (row.owner, row.held_until) == (None, None)
