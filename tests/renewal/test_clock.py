"""A worker whose clock was days ahead and is set right: nothing waits for the days, and nothing is asked twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from evidence_service.renewal.model import Request, Result
from evidence_service.renewal.tick import AtPoint
from evidence_service.renewal_loop import RenewalLoop
from tests.renewal.site import DAY, FAS1, HOUR, MINUTE, NOW, POLICY, Site, near

REQUEST = "New-FasAuthorizationCertificate"


@dataclass(kw_only=True)
class Ahead:
    """A farm, and a worker whose clock is `by` ahead of it."""

    farm: Site
    by: timedelta = 10 * DAY
    at_point: AtPoint | None = None

    def round(self) -> None:
        """One round of a process of its own, and five minutes."""
        RenewalLoop(
            self.farm.engine,
            self.farm.servers,
            owner=f"worker:{self.farm.farm.now}:{self.by}",
            clock=lambda: self.farm.farm.now + self.by,
            draw=lambda: 0.0,
            told=lambda _server, _ticked: None,
            opens=self.farm.opens,
            at_point=self.at_point,
        ).round()
        self.farm.farm.advance(5 * MINUTE)

    def set_right(self) -> None:
        """The clock tells the truth from now on."""
        self.by, self.at_point = timedelta(0), None

    @property
    def asked(self) -> int:
        """How often a certificate was asked for at FAS."""
        return [each.name for each in self.farm.farm.calls].count(REQUEST)


@contextmanager
def ahead(directory: Path) -> Iterator[Ahead]:
    """A farm whose first server is due now."""
    with near(directory, policy=replace(POLICY, poll=5 * MINUTE, check=HOUR), expires=NOW + 60 * DAY) as farm:
        yield Ahead(farm=farm)


def test_a_request_that_turns_up_after_the_clock_was_set_back_is_not_repeated(tmp_path: Path) -> None:
    """Promise 45: its answer was lost, and FAS lists it minutes later; by the wrong clock that is days before."""
    with ahead(tmp_path) as worker:
        worker.farm.server().hang_next(REQUEST, 540.0)
        worker.round()
        (act,) = worker.farm.store.attempts(FAS1).acts
        assert act.result is Result.UNKNOWN
        worker.set_right()
        for _ in range(6):
            worker.round()

        (act,) = worker.farm.store.attempts(FAS1).acts
        assert act.result is Result.DONE
        assert worker.asked == 1
        assert act.result_at is not None
        assert act.result_at <= NOW + HOUR


def test_a_request_that_never_reached_fas_is_made_after_the_grace(tmp_path: Path) -> None:
    """Promise 46: the process died before it asked; its fate is known after the grace, and not days later."""
    with ahead(tmp_path) as worker:

        def die(point: str) -> None:
            if point == "request:intended":
                raise RuntimeError("cut off")

        worker.at_point = die
        worker.round()
        assert [each.result for each in worker.farm.store.attempts(FAS1).acts] == [None]
        worker.set_right()
        for _ in range(12):
            worker.round()
        assert worker.asked == 0, "whether this clock is right is not known yet"
        for _ in range(3):
            worker.round()

        assert [each.result for each in worker.farm.store.attempts(FAS1).acts] == [Result.NOT_DONE, Result.DONE]
        assert worker.asked == 1


def test_a_denial_of_days_to_come_is_waited_out_from_now_on(tmp_path: Path) -> None:
    """Promise 49: not before 24 hours have passed, and not as much later as the clock was wrong."""
    with ahead(tmp_path) as worker:
        worker.round()
        (request,) = worker.farm.farm.ca.pending
        worker.farm.farm.ca.deny(request.number, "not now")
        worker.farm.farm.advance(5 * MINUTE)
        worker.round()
        assert worker.farm.acts() == ["request done", "withdraw done"]
        worker.set_right()
        worker.round()
        worker.farm.farm.advance(23 * HOUR)
        worker.round()
        assert worker.asked == 1, "24 hours from when the clock was set right, not from when that was believed"
        worker.farm.farm.advance(2 * HOUR)
        worker.round()

        assert worker.asked == 2
        assert isinstance(worker.farm.store.attempts(FAS1).acts[-1].step, Request)
