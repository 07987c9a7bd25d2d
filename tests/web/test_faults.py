"""Promise 1: every path that is not a proven permit is a deny."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evidence_service.access.model import FasRule, Mode
from evidence_service.adapters.config_store import ConfigStore
from evidence_service.adapters.journal import Entry, Journal, JournalUnavailable, Recorded
from evidence_service.web.decisions import STAGES
from tests.web.plane import NOW, Plane, evidence, plane, run

ERRORS = (
    ArithmeticError,
    AssertionError,
    asyncio.CancelledError,
    ConnectionError,
    JournalUnavailable,
    KeyError,
    MemoryError,
    NotImplementedError,
    OSError,
    RecursionError,
    StopAsyncIteration,
    TimeoutError,
    TypeError,
    UnicodeDecodeError,
    ValueError,
)


def error_of(kind: type[BaseException]) -> BaseException:
    """An instance that names a person, as exceptions do."""
    if kind is UnicodeDecodeError:
        return UnicodeDecodeError("utf-8", b"alice@corp.example", 0, 1, "alice@corp.example")
    return kind("alice@corp.example")


class Planted:
    """Fails at chosen stages of chosen requests."""

    def __init__(self) -> None:
        """Fail nothing yet."""
        self.at: str | None = None
        self.error: BaseException = RuntimeError()
        self.met = False

    def __call__(self, stage: str) -> None:
        """Enter a stage."""
        if stage == self.at:
            self.met = True
            raise self.error


def _observe(store: ConfigStore) -> None:
    store.set_rule(FasRule(name="default", mode=Mode.OBSERVE), now=NOW, actor="test")


async def _still_serves(it: Plane, planted: Planted, observed: bool) -> None:
    planted.at = None
    answer = await it.answer(evidence(assertion_id="_after"), request_id="after")
    assert answer["reason"] == "ok"
    assert answer["mode"] == ("observe" if observed else "enforce")


async def _disowned(it: Plane) -> bool:
    """Whether the one record comes to say that its decision was not the answer given."""
    for _ in range(1000):
        if it.recorded()[0].answered == "late":
            return True
        await asyncio.sleep(0.02)
    return False


@settings(max_examples=60)
@given(
    stage=st.sampled_from(STAGES),
    kind=st.sampled_from(ERRORS),
    observed=st.booleans(),
    genuine=st.booleans(),
)
def test_promise_1_an_exception_at_any_stage_is_a_recorded_deny(
    stage: str, kind: type[BaseException], observed: bool, genuine: bool
) -> None:
    """Whatever is raised wherever: 200, deny, `internal_error`, one record, and the next launch works (promise 1)."""

    async def scenario(directory: Path) -> None:
        planted = Planted()
        async with plane(directory, at_stage=planted, rules=_observe if observed else None) as it:
            planted.at, planted.error = stage, error_of(kind)
            answer = await it.answer(evidence() if genuine else b"<a/>")
            assert planted.met
            assert (answer["decision"], answer["reason"]) == ("deny", "internal_error")
            assert answer["mode"] == "enforce"
            assert answer["request_id"] in ("", "r-1")
            (line,) = it.recorded()
            assert line.decision_id == answer["decision_id"]
            if stage == "answer":
                assert await _disowned(it)
            else:
                assert (line.decision, line.reason) == ("deny", "internal_error")
            (said,) = it.said("internal_error")
            assert said["decision_id"] == answer["decision_id"]
            await _still_serves(it, planted, observed)

    with tempfile.TemporaryDirectory() as directory:
        run(scenario(Path(directory)))


def test_promise_1_every_stage_is_passed(tmp_path: Path) -> None:
    """The registry of stages is what a request really goes through, in this order."""

    async def scenario() -> None:
        passed: list[str] = []
        async with plane(tmp_path, at_stage=passed.append) as it:
            await it.answer(evidence())
            assert tuple(passed) == STAGES

    run(scenario())


class _Sick:
    """A journal that fails as told and otherwise is the real one."""

    def __init__(self, real: Journal, outcome: BaseException | float) -> None:
        self._real = real
        self._outcome = outcome

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)

    async def record(self, entry: Entry) -> Recorded:
        """Fail, or hang for so many seconds first."""
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        await asyncio.sleep(self._outcome)
        recorded: Recorded = await self._real.record(entry)
        return recorded


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (JournalUnavailable("disk full"), "journal_unavailable"),
        (MemoryError(), "internal_error"),
        (asyncio.CancelledError(), "internal_error"),
        (ValueError("no such column alice@corp.example"), "internal_error"),
        (TimeoutError(), "deadline"),
        (30.0, "deadline"),
    ],
)
def test_promise_1_a_failing_journal_never_permits(tmp_path: Path, outcome: BaseException | float, reason: str) -> None:
    """A journal that fails in any way, or hangs, costs the launch and at most the deadline (promises 1, 2, 66)."""

    async def scenario() -> None:
        async with plane(tmp_path, deadline_seconds=0.3 if isinstance(outcome, float) else 9) as it:
            it.app.state.decisions._journal = _Sick(it.journal, outcome)
            answer = await it.answer(evidence())
            assert (answer["decision"], answer["reason"]) == ("deny", reason)
            assert "alice@" not in repr([line for line in it.lines if "exc_info" not in line])

    run(scenario())


def test_promise_1_a_snapshot_that_cannot_be_had_denies(tmp_path: Path) -> None:
    """Nothing can be recorded without a snapshot, and nothing is permitted."""

    class Nothing:
        def __getattr__(self, name: str) -> NoReturn:
            raise MemoryError

    async def scenario() -> None:
        async with plane(tmp_path) as it:
            it.app.state.decisions._snapshots = Nothing()
            answer = await it.answer(evidence())
            assert (answer["decision"], answer["reason"]) == ("deny", "internal_error")

    run(scenario())


def test_promise_1_a_broken_clock_denies(tmp_path: Path) -> None:
    """Without the time there is no id and no record; the answer is a deny all the same."""

    def broken() -> NoReturn:
        raise OSError

    async def scenario() -> None:
        async with plane(tmp_path) as it:
            it.app.state.decisions._clock = broken
            answer = await it.answer(evidence())
            assert (answer["decision"], answer["reason"], answer["decision_id"]) == ("deny", "internal_error", "")

    run(scenario())


def test_promise_1_an_old_configuration_denies_after_its_grace(tmp_path: Path) -> None:
    """Cut off from the store for longer than `store_grace`: deny `store_unavailable`, unready (promise 35)."""

    async def scenario() -> None:
        async with plane(tmp_path, store_grace_seconds=600) as it:
            assert (await it.answer(evidence()))["reason"] == "ok"
            it.holder._refreshed -= 601
            assert (await it.answer(evidence()))["reason"] == "store_unavailable"
            assert (await it.client.get("/readyz")).status_code == 503
            it.holder.refresh()
            assert (await it.answer(evidence()))["reason"] == "ok"

    run(scenario())


def test_a_log_that_cannot_be_written_changes_no_decision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed stderr costs the line, not the launch."""

    def closed(*_: Any, **__: Any) -> None:
        raise BrokenPipeError

    async def scenario() -> None:
        async with plane(tmp_path) as it:
            monkeypatch.setattr("evidence_service.web.decisions._log.info", closed)
            assert (await it.answer(evidence()))["reason"] == "ok"

    run(scenario())
