from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timedelta
from multiprocessing import get_context
from pathlib import Path

import pytest
from sqlalchemy import Engine

from evidence_service.adapters.database import open_database, reading, writing
from evidence_service.adapters.lease import DatabaseLeases, Lease, Leases, lease_row
from evidence_service.renewal.ports import NotLeader
from tests.adapters.given import NOW, url_of
from tests.renewal.store_processes import leads

SECOND, LENGTH = timedelta(seconds=1), timedelta(seconds=30)


def acquired(leases: Leases, owner: str, now: datetime = NOW) -> Lease | None:
    """Ask for the lease of the tests."""
    return leases.acquire("renewal", owner=owner, now=now, length=LENGTH)


def check(engine: Engine, epoch: int, now: datetime) -> None:
    """Check the lease as a write does."""
    with writing(engine) as connection:
        DatabaseLeases(engine).check(connection, "renewal", epoch, now)


def test_one_owner_holds_a_lease_and_extends_it_by_its_epoch(engine: Engine) -> None:
    """Promise 55: the second gets nothing while the first extends, and the epoch stays."""
    ours, theirs = DatabaseLeases(engine), DatabaseLeases(engine)
    first = acquired(ours, "a")
    assert first == Lease(name="renewal", owner="a", epoch=1, held_until=NOW + LENGTH)
    assert acquired(theirs, "b", NOW + 29 * SECOND) is None
    assert acquired(ours, "a", NOW + 29 * SECOND) == Lease(
        name="renewal", owner="a", epoch=1, held_until=NOW + 59 * SECOND
    )
    assert acquired(theirs, "b", NOW + 58 * SECOND) is None, "it was extended"


def test_a_lease_that_ended_goes_to_another_under_a_new_epoch(engine: Engine) -> None:
    """Promise 55: who was stopped meanwhile is refused by the old epoch, and does not get it back."""
    ours, theirs = DatabaseLeases(engine), DatabaseLeases(engine)
    acquired(ours, "a")
    second = acquired(theirs, "b", NOW + LENGTH)
    assert second is not None
    assert second.epoch == 2
    assert acquired(ours, "a", NOW + LENGTH + SECOND) is None
    with pytest.raises(NotLeader, match="another process has taken the lease 'renewal' since"):
        check(engine, 1, NOW + LENGTH + SECOND)
    check(engine, 2, NOW + LENGTH + SECOND)


def test_a_lease_that_ended_is_no_right_though_nobody_took_it(engine: Engine) -> None:
    """Promise 55: and whoever held it takes it up again by the same epoch, as nobody else can have acted."""
    leases = DatabaseLeases(engine)
    acquired(leases, "a")
    check(engine, 1, NOW + LENGTH - SECOND)
    with pytest.raises(NotLeader, match="has ended"):
        check(engine, 1, NOW + LENGTH)
    again = acquired(leases, "a", NOW + 2 * LENGTH)
    assert again is not None
    assert again.epoch == 1
    check(engine, 1, NOW + 2 * LENGTH)


def test_a_lease_that_nobody_ever_had_is_no_right(engine: Engine) -> None:
    """An epoch of another database is refused."""
    with pytest.raises(NotLeader):
        check(engine, 1, NOW)


def test_a_lease_that_was_given_back_is_free_at_once(engine: Engine) -> None:
    """The next holder has another epoch, though it be the same owner; and a late release frees nobody else's."""
    leases = DatabaseLeases(engine)
    first = acquired(leases, "a")
    assert first is not None
    leases.release(first)
    with pytest.raises(NotLeader, match="has ended"):
        check(engine, 1, NOW)
    second = acquired(leases, "b")
    assert second is not None
    assert second.epoch == 2
    leases.release(first)
    check(engine, 2, NOW)
    leases.release(second)
    third = acquired(leases, "b")
    assert third is not None
    assert third.epoch == 3
    leases.release(second)
    check(engine, 3, NOW)


def test_leases_of_other_names_do_not_meet(engine: Engine) -> None:
    """Each name has its own holder."""
    leases = DatabaseLeases(engine)
    acquired(leases, "a")
    other = leases.acquire("other", owner="b", now=NOW, length=LENGTH)
    assert other is not None
    assert other.epoch == 1


def test_a_clock_that_was_set_back_leaves_no_lease_for_ever(engine: Engine) -> None:
    """A holder that died an hour ahead of us is waited for as long as a lease lasts, from when we first saw it."""
    dead, ours = DatabaseLeases(engine), DatabaseLeases(engine)
    acquired(dead, "dead", NOW + timedelta(hours=1))
    assert acquired(ours, "a", NOW) is None
    assert acquired(ours, "a", NOW + 29 * SECOND) is None
    taken = acquired(ours, "a", NOW + LENGTH)
    assert taken == Lease(name="renewal", owner="a", epoch=2, held_until=NOW + 2 * LENGTH)


def test_a_holder_with_another_clock_keeps_what_it_extends(engine: Engine) -> None:
    """A clock ahead of ours looks like one that was set back, but its lease changes: two clocks never take turns."""
    ahead, ours = DatabaseLeases(engine), DatabaseLeases(engine)
    for round_ in range(20):
        now = NOW + round_ * 10 * SECOND
        held = acquired(ahead, "ahead", now + timedelta(hours=1))
        assert held is not None
        assert held.epoch == 1
        assert acquired(ours, "a", now + SECOND) is None


def test_a_clock_set_back_again_while_waiting_begins_the_wait_anew(engine: Engine) -> None:
    """The wait is counted by one clock, forwards."""
    ours = DatabaseLeases(engine)
    acquired(DatabaseLeases(engine), "dead", NOW + timedelta(hours=9))
    assert acquired(ours, "a", NOW) is None
    assert acquired(ours, "a", NOW - timedelta(hours=1)) is None
    assert acquired(ours, "a", NOW - timedelta(hours=1) + 29 * SECOND) is None
    assert acquired(ours, "a", NOW - timedelta(hours=1) + LENGTH) is not None


def test_the_owner_repairs_its_own_lease_after_its_clock_was_set_back(engine: Engine) -> None:
    """It extends from the new now, so that others wait no longer than a lease."""
    leases = DatabaseLeases(engine)
    acquired(leases, "a", NOW + timedelta(hours=1))
    assert acquired(leases, "a", NOW) is not None
    with reading(engine) as connection:
        row = lease_row(connection, "renewal")
    assert row is not None
    assert (row.held_until, row.epoch) == (NOW + LENGTH, 1)


def test_of_processes_that_race_one_leads(tmp_path: Path) -> None:
    """Promise 55: four processes ask at once for a lease that nobody had."""
    url = url_of(tmp_path / "a.db")
    open_database(url).dispose()
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        outcomes = list(pool.map(leads, [url] * 4, range(4)))
    assert sum(outcomes) == 1
