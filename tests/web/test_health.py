"""Live, ready and started mean different things (promise 90)."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest

from evidence_service.web.health import WATCHDOG_SECONDS, Health
from tests.web.plane import evidence, plane, run


def test_promise_90_a_database_that_is_gone_is_unready_and_not_dead(tmp_path: Path) -> None:
    """A restart would not cure it, so the process stays live; launches go elsewhere (promise 90)."""

    async def scenario() -> None:
        async with plane(tmp_path, busy_timeout=timedelta(seconds=1)) as it:
            assert (await it.client.get("/readyz")).json() == {"status": "ready"}
            blocker = sqlite3.connect(tmp_path / "fas-evidence.db", isolation_level=None)
            blocker.execute("BEGIN IMMEDIATE")
            assert (await it.answer(evidence()))["reason"] == "journal_unavailable"
            for path, status in (("/livez", 200), ("/startupz", 200), ("/readyz", 503)):
                assert (await it.client.get(path)).status_code == status
            blocker.execute("ROLLBACK")
            blocker.close()

    run(scenario())


def test_promise_90_before_the_first_snapshot(tmp_path: Path) -> None:
    """Live from the first moment, started and ready only with a configuration (promise 90)."""

    async def scenario() -> None:
        async with plane(tmp_path) as it:
            it.app.state.health.started = False
            answers = {path: await it.client.get(path) for path in ("/livez", "/startupz", "/readyz")}
            assert [answer.status_code for answer in answers.values()] == [200, 503, 503]
            assert answers["/startupz"].json() == {"status": "starting"}

    run(scenario())


def test_promise_90_a_dead_background_task_is_not_live(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what a restart cures makes a process not live (promise 90)."""
    health = Health(conditions={"journal": lambda: False})
    assert health.live
    now = health._beat + WATCHDOG_SECONDS
    monkeypatch.setattr("time.monotonic", lambda: now)
    assert not health.live
    health.beat()
    assert health.live


def test_what_fails_is_listed_by_name() -> None:
    """For callers that we know, and for the log."""
    health = Health(conditions={"journal": lambda: False, "clock": lambda: True}, draining=True)
    assert health.failing() == ["journal", "not_started", "draining"]


def test_probes_answer_head_requests(tmp_path: Path) -> None:
    """Load balancers ask with HEAD as well."""

    async def scenario() -> None:
        async with plane(tmp_path) as it:
            assert (await it.client.head("/readyz")).status_code == 200

    run(scenario())
