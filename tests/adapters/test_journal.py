from __future__ import annotations

import asyncio
import sqlite3
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, event, select, text

from evidence_service.access.decide import decide
from evidence_service.access.model import AccessRequest, Allow, Deny, Mode, Phase, Reuse, Snapshot, refused
from evidence_service.access.reasons import AccessReason
from evidence_service.adapters.config_store import ConfigStore, NotFound
from evidence_service.adapters.database import StoreUnavailable, reading, usage, writing
from evidence_service.adapters.journal import (
    MAX_TEXT,
    Entry,
    Journal,
    JournalUnavailable,
    Recorded,
    find_decisions,
    load_decision,
    load_replay,
    new_decision_id,
)
from evidence_service.adapters.snapshots import load_snapshot
from evidence_service.adapters.trust_store import TrustStore
from idp_certs.reasons import TrustReason
from idp_certs.rollover import Event
from tests.adapters.given import ACTOR, NOW, configured, metadata, request
from tests.adapters.recording import entry, launch, running
from tests.corpus import keys, names


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database is."""
    return tmp_path / "fas-evidence.db"


@pytest.fixture
def engine(path: Path, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """A database that knows the IdP of the corpus, whose policy has the re-use rule given as parameter, if any."""
    opened = configured(path, reuse=getattr(request, "param", Reuse.BOUNDED))
    yield opened
    opened.dispose()


def record(engine: Engine, *entries: Entry) -> list[Recorded]:
    """Record one after the other."""

    async def act() -> list[Recorded]:
        async with running(engine) as journal:
            return [await journal.record(each) for each in entries]

    return asyncio.run(act())


def count(engine: Engine, table: str) -> int:
    """Rows of a table."""
    with reading(engine) as connection:
        return int(connection.scalar(text(f"SELECT count(*) FROM {table}")) or 0)


def stand_still_until_recorded(engine: Engine) -> None:
    """Block the event loop while the writer goes on."""
    while count(engine, "decisions") == 0:
        time.sleep(0.01)
    time.sleep(0.1)


def test_an_allow_is_recorded_whole(engine: Engine) -> None:
    """Everything that was asked, believed and answered comes back from the record."""
    snapshot = load_snapshot(engine, secrets_dir=None)
    asked = AccessRequest(
        request_id="7c1e",
        upn=names.ALICE,
        evidence=(launch(),),
        phase=Phase.ASSERT,
        sid="S-1-5-21",
        rule=None,
        security_context="context",
        disposition="disposition",
        storefront="SF01.corp.example",
        fas_server="fas1.corp.example",
        correlation_id="c",
    )
    given = entry(snapshot, asked, took=timedelta(microseconds=321), mode=Mode.OBSERVE)
    (recorded,) = record(engine, given)
    assert recorded == Recorded(decision_id=given.decision_id, decision=given.decision, seen=None)
    assert isinstance(given.decision, Allow)
    stored = load_decision(engine, given.decision_id)
    assert stored.request == asked
    assert (stored.decision, stored.reason, stored.findings) == ("allow", "ok", ())
    assert stored.assertion == given.decision.assertion
    assert stored.entity_id == names.IDP
    assert (stored.now, stored.snapshot_version, stored.seen) == (NOW, snapshot.version, None)
    assert (stored.mode, stored.plugin, stored.took) == (Mode.OBSERVE, "fas1", timedelta(microseconds=321))
    assert (stored.judged, stored.answered) == (True, "yes")


def test_a_deny_is_recorded_with_every_finding(engine: Engine) -> None:
    """Reason, expected, presented and place of each."""
    snapshot = load_snapshot(engine, secrets_dir=None)
    given = entry(snapshot, request(launch(audiences=("urn:x",)), upn="mallory@corp.example"))
    assert isinstance(given.decision, Deny)
    record(engine, given)
    stored = load_decision(engine, given.decision_id)
    assert (stored.decision, stored.reason) == ("deny", given.decision.reason)
    assert stored.findings == given.decision.findings
    assert {finding.reason for finding in stored.findings} == {
        AccessReason.AUDIENCE_MISMATCH,
        AccessReason.UPN_MISMATCH,
    }
    assert count(engine, "sightings") == 0


def test_a_decision_can_be_judged_again_from_its_record(engine: Engine) -> None:
    """Promise 19, for one: trust and policy are those of then, though both have changed since."""
    given = entry(load_snapshot(engine, secrets_dir=None))
    record(engine, given)
    ConfigStore(engine).remove_idp(names.IDP, now=NOW, actor=ACTOR)
    again = load_replay(engine, given.decision_id)
    assert again.snapshot == given.snapshot
    assert decide(again.request, again.snapshot, again.now, seen=again.seen) == given.decision


def test_the_same_evidence_again_is_allowed_and_stored_once(engine: Engine) -> None:
    """Promise 11: 50 launches, one sighting, one copy of the bytes, one snapshot."""
    snapshot = load_snapshot(engine, secrets_dir=None)
    entries = [entry(snapshot, now=NOW + timedelta(minutes=number)) for number in range(50)]
    recorded = record(engine, *entries)
    assert all(isinstance(each.decision, Allow) for each in recorded)
    assert recorded[0].seen is None
    assert {each.seen.first_seen for each in recorded[1:] if each.seen} == {NOW}
    tables = ("decisions", "sightings", "evidence", "snapshots")
    assert [count(engine, table) for table in tables] == [50, 1, 1, 1]
    stored = load_decision(engine, entries[-1].decision_id)
    assert stored.seen == recorded[-1].seen


def test_another_document_with_the_same_id_is_a_conflict(engine: Engine) -> None:
    """H01, promise 11: the first sighting decides, across a restart of the service too."""
    snapshot = load_snapshot(engine, secrets_dir=None)
    record(engine, entry(snapshot))
    other = entry(snapshot, request(launch(context="urn:other")))
    assert isinstance(other.decision, Allow), "by itself it is good"
    (recorded,) = record(engine, other)
    assert recorded.decision.reason is AccessReason.REPLAY_CONFLICT
    stored = load_decision(engine, other.decision_id)
    assert (stored.decision, stored.reason) == ("deny", "replay_conflict")
    again = load_replay(engine, other.decision_id)
    assert decide(again.request, again.snapshot, again.now, seen=again.seen).reason is AccessReason.REPLAY_CONFLICT


@pytest.mark.parametrize("engine", [Reuse.ONCE], indirect=True)
def test_once_means_once_within_one_commit(engine: Engine) -> None:
    """Promise 12: of many that arrive together exactly one is allowed."""
    snapshot = load_snapshot(engine, secrets_dir=None)
    entries = [entry(snapshot) for _ in range(40)]

    async def act() -> list[Recorded]:
        async with running(engine) as journal:
            return await asyncio.gather(*map(journal.record, entries))

    recorded = asyncio.run(act())
    assert [each.decision.reason for each in recorded].count("ok") == 1
    assert {each.decision.reason for each in recorded} == {"ok", AccessReason.EVIDENCE_ALREADY_USED}
    assert len(find_decisions(engine, decision="allow")) == 1


@pytest.mark.parametrize("engine", [Reuse.FRESH_ONCE], indirect=True)
def test_fresh_once_allows_what_was_fresh_when_first_seen(engine: Engine) -> None:
    """Late for the first time is a deny; late again, after a fresh first time, is an allow that replays."""
    snapshot = load_snapshot(engine, secrets_dir=None)
    late = NOW + timedelta(hours=1)
    first, again = entry(snapshot), entry(snapshot, now=late)
    never = entry(snapshot, request(launch(assertion_id="_never")), now=late)
    recorded = record(engine, first, again, never)
    assert [each.decision.reason for each in recorded] == ["ok", "ok", AccessReason.EVIDENCE_NOT_FRESH]
    assert again.decision.reason is AccessReason.EVIDENCE_NOT_FRESH, "judged as if first"
    replay = load_replay(engine, again.decision_id)
    assert replay.stored.reason == "ok"
    assert decide(replay.request, replay.snapshot, replay.now, seen=replay.seen) == recorded[1].decision


def test_commits_are_shared_under_load(engine: Engine, path: Path) -> None:
    """Far fewer transactions than entries when many wait."""
    snapshot = load_snapshot(engine, secrets_dir=None)
    holder = sqlite3.connect(path, isolation_level=None)

    async def act() -> int:
        async with running(engine) as journal:
            holder.execute("BEGIN IMMEDIATE")
            waiting = [asyncio.create_task(journal.record(entry(snapshot))) for _ in range(500)]
            await asyncio.sleep(0.1)
            holder.execute("ROLLBACK")
            await asyncio.gather(*waiting)
            return journal.commits

    assert 1 <= asyncio.run(act()) <= 3
    holder.close()
    assert count(engine, "decisions") == 500


def test_a_locked_database_denies_in_time_and_heals(engine: Engine, path: Path) -> None:
    """Promises 13 and 65: no record, no answer but JournalUnavailable; unhealthy until a write succeeds again."""
    snapshot = load_snapshot(engine, secrets_dir=None)
    holder = sqlite3.connect(path, isolation_level=None)

    async def act() -> None:
        async with running(engine, busy_timeout=timedelta(milliseconds=100)) as journal:
            await journal.record(entry(snapshot))
            assert journal.healthy
            holder.execute("BEGIN IMMEDIATE")
            with pytest.raises(JournalUnavailable, match="locked") as caught:
                await journal.record(entry(snapshot))
            assert "\n" not in str(caught.value)
            assert not journal.healthy
            assert journal.problem == str(caught.value)
            holder.execute("ROLLBACK")
            for _ in range(1000):
                await asyncio.sleep(0.05)
                if journal.healthy:
                    break
            assert journal.healthy, "it finds out by itself, without a request"
            await journal.record(entry(snapshot))

    asyncio.run(act())
    holder.close()
    assert count(engine, "decisions") == 2


def test_who_gives_up_before_the_transaction_is_recorded_as_a_deny(engine: Engine, path: Path) -> None:
    """Promise 2: what nobody waits for any more is no allow, and no sighting either."""
    snapshot = load_snapshot(engine, secrets_dir=None)
    given = entry(snapshot)
    holder = sqlite3.connect(path, isolation_level=None)

    async def act() -> None:
        async with running(engine, busy_timeout=timedelta(seconds=30)) as journal:
            holder.execute("BEGIN IMMEDIATE")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(journal.record(given), 0.1)
            holder.execute("ROLLBACK")

    asyncio.run(act())
    holder.close()
    stored = load_decision(engine, given.decision_id)
    assert (stored.decision, stored.reason, stored.judged) == ("deny", "deadline", False)
    assert stored.answered == "yes"
    assert count(engine, "sightings") == 0


@pytest.mark.parametrize("turns", [0, 1])
def test_who_gives_up_later_is_marked_late(engine: Engine, turns: int) -> None:
    """Promises 2 and 71: the record says that its answer was not given; before and after the answer was set."""
    snapshot = load_snapshot(engine, secrets_dir=None)
    given = entry(snapshot)

    async def act() -> None:
        async with running(engine) as journal:
            task = asyncio.create_task(journal.record(given))
            await asyncio.sleep(0)
            stand_still_until_recorded(engine)
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(act())
    stored = load_decision(engine, given.decision_id)
    assert (stored.decision, stored.answered) == ("allow", "late")
    assert [line.answered for line in find_decisions(engine)] == ["late"]


def test_one_entry_that_cannot_be_stored_does_not_harm_the_others(engine: Engine) -> None:
    """An id used twice, and a snapshot that is not what its version says, fail alone."""
    snapshot = load_snapshot(engine, secrets_dir=None)
    good = [entry(snapshot, request(launch(assertion_id=f"_g{number}"))) for number in range(8)]
    twice = entry(snapshot, decision_id=good[0].decision_id)
    forged = entry(replace(snapshot, version="0" * 64))
    everything = [*good[:4], twice, forged, *good[4:]]

    async def act() -> list[Recorded | BaseException]:
        async with running(engine) as journal:
            outcomes = await asyncio.gather(*map(journal.record, everything), return_exceptions=True)
            assert journal.healthy
            return outcomes

    outcomes = asyncio.run(act())
    failed = [index for index, outcome in enumerate(outcomes) if isinstance(outcome, JournalUnavailable)]
    assert failed == [4, 5]
    assert {line.decision_id for line in find_decisions(engine)} == {each.decision_id for each in good}


def test_a_fault_while_judging_again_is_a_recorded_deny(engine: Engine) -> None:
    """Promise 1: an allow whose policy has vanished is `internal_error`, one row, and the writer lives."""
    snapshot = load_snapshot(engine, secrets_dir=None)
    good = entry(snapshot)
    assert isinstance(good.decision, Allow)
    elsewhere = replace(good.decision, assertion=replace(good.decision.assertion, issuer="urn:unknown"))
    strange = entry(snapshot, decision=elsewhere)
    recorded = record(engine, strange, good)
    assert [each.decision.reason for each in recorded] == [AccessReason.INTERNAL_ERROR, "ok"]
    stored = load_decision(engine, strange.decision_id)
    assert (stored.decision, stored.reason, stored.judged) == ("deny", "internal_error", False)


def test_evidence_that_was_purged_meanwhile_is_stored_again(engine: Engine) -> None:
    """The writer remembers what it stored; where that has gone, no record points into the void."""
    snapshot = load_snapshot(engine, secrets_dir=None)

    async def act() -> Entry:
        async with running(engine) as journal:
            await journal.record(entry(snapshot))
            with writing(engine) as connection:
                for table in ("decisions", "evidence", "snapshots"):
                    connection.execute(text(f"DELETE FROM {table}"))
            again = entry(snapshot)
            await journal.record(again)
            return again

    again = asyncio.run(act())
    assert load_replay(engine, again.decision_id).request == again.request


HOSTILE = {
    "long": "a" * 1_048_576,
    "nul": "alice\0@corp.example",
    "surrogate": "alice\udcff@corp.example",
    "lines": "alice\r\n2026-01-01 allow admin",
    "delete": "alice\x7f@corp.example",
    "ansi": "\x1b[2J\x1b[31malice",
    "bidi": "alice\u202e@corp.example",
    "sql": "'); DROP TABLE decisions; --",
    "astral": "\U0001f600" * 2000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_one_row_on_one_line(engine: Engine, name: str) -> None:
    """Promise 68: nothing is lost or forged; what is too long keeps its length and digest."""
    snapshot = load_snapshot(engine, secrets_dir=None)
    value = HOSTILE[name]
    asked = AccessRequest(
        request_id=value,
        upn=value,
        evidence=(launch(),),
        sid=value,
        rule=value,
        security_context=value,
        disposition=value,
        storefront=value,
        fas_server=value,
        correlation_id=value,
    )
    given = entry(snapshot, asked)
    record(engine, given)
    (line,) = find_decisions(engine, upn=value)
    assert line.decision == "deny"
    assert line.upn.isprintable()
    with reading(engine) as connection:
        row = connection.execute(text("SELECT request, outcome, upn FROM decisions")).one()
    assert all(column.isprintable() for column in row)
    assert row.request.isascii()
    stored = load_decision(engine, given.decision_id)
    if len(value) <= MAX_TEXT:
        assert stored.request == asked
    else:
        assert stored.request.upn.startswith(value[:MAX_TEXT])
        assert f"[{len(value)} characters, SHA-256 " in stored.request.upn
        assert len(row.request) < 12 * MAX_TEXT * 12
    again = load_replay(engine, given.decision_id)
    assert decide(again.request, again.snapshot, again.now).reason == stored.reason


def test_a_full_queue_refuses_at_once(engine: Engine) -> None:
    """What waits is bounded."""
    snapshot = load_snapshot(engine, secrets_dir=None)

    async def act() -> list[Recorded | BaseException]:
        async with running(engine, max_queued=10) as journal:
            return await asyncio.gather(*(journal.record(entry(snapshot)) for _ in range(15)), return_exceptions=True)

    outcomes = asyncio.run(act())
    refusals = [str(outcome) for outcome in outcomes if isinstance(outcome, JournalUnavailable)]
    assert refusals == ["10 decisions already wait to be recorded"] * 5
    assert count(engine, "decisions") == 10


def test_the_high_water_mark_outlives_the_process_and_can_be_reset(engine: Engine) -> None:
    """Promise 10: the latest instant that was recorded, until an administrator sets it back."""
    snapshot = load_snapshot(engine, secrets_dir=None)
    ahead = NOW + timedelta(days=400)

    async def act() -> None:
        async with running(engine) as journal:
            assert journal.high_water is None
            await journal.record(entry(snapshot, now=ahead))
            await journal.record(entry(snapshot))
            assert journal.high_water == ahead
        async with running(engine) as journal:
            assert journal.high_water == ahead
            assert ConfigStore(engine).reset_high_water(now=NOW, actor=ACTOR) == ahead
            await journal.record(entry(snapshot, decision=refused(AccessReason.CLOCK_UNTRUSTED)))
            assert journal.high_water == NOW

    asyncio.run(act())


def test_a_journal_that_does_not_run_refuses(engine: Engine) -> None:
    """Before `start` and after `stop`; what was handed in before `stop` is recorded."""
    snapshot = load_snapshot(engine, secrets_dir=None)

    async def act() -> None:
        journal = Journal(engine)
        assert not journal.healthy
        with pytest.raises(JournalUnavailable, match="not running"):
            await journal.record(entry(snapshot))
        journal.start()
        waiting = [asyncio.create_task(journal.record(entry(snapshot))) for _ in range(20)]
        await asyncio.sleep(0)
        await journal.stop()
        assert all(isinstance(recorded.decision, Allow) for recorded in await asyncio.gather(*waiting))
        assert not journal.healthy
        with pytest.raises(JournalUnavailable, match="not running"):
            await journal.record(entry(snapshot))
        await journal.stop()

    asyncio.run(act())
    assert count(engine, "decisions") == 20


def test_decisions_are_found_by_what_an_operator_knows(engine: Engine) -> None:
    """Each filter alone and together, newest first, in pages."""
    snapshot = load_snapshot(engine, secrets_dir=None)
    minutes = [NOW + timedelta(minutes=number) for number in range(6)]
    entries = [
        entry(snapshot, now=minutes[0]),
        entry(snapshot, request(launch(), upn="bob@corp.example"), now=minutes[1]),
        entry(snapshot, request(launch(audiences=("urn:x",))), now=minutes[2]),
        entry(snapshot, request(b"<x/>"), now=minutes[3]),
        entry(snapshot, now=minutes[4]),
        entry(snapshot, request(launch(), upn="ALICE@corp.example"), now=minutes[5]),
    ]
    record(engine, *entries)
    ids = [each.decision_id for each in entries]

    def found(**filters: object) -> list[int]:
        return [ids.index(line.decision_id) for line in find_decisions(engine, **filters)]  # type: ignore[arg-type]

    assert found() == [5, 4, 3, 2, 1, 0]
    assert found(upn="Alice@Corp.Example", decision="allow") == [5, 4, 0]
    assert found(reason="upn_mismatch") == [1]
    assert found(decision="deny") == [3, 2, 1]
    assert found(entity_id=names.IDP, decision="deny") == [2, 1]
    assert found(since=minutes[2], until=minutes[4]) == [3, 2]
    assert found(limit=2) == [5, 4]
    assert found(limit=2, before=ids[4]) == [3, 2]
    assert found(upn="nobody@corp.example") == []
    with pytest.raises(NotFound, match="'unknown'"):
        found(before="unknown")
    with pytest.raises(NotFound, match="'unknown'"):
        load_decision(engine, "unknown")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE decisions SET outcome = 'x'",
        'UPDATE decisions SET outcome = \'{"findings":[["unknown_reason","","",""]]}\'',
        "UPDATE decisions SET request = '{}'",
        "PRAGMA foreign_keys = OFF; DELETE FROM evidence",
    ],
)
def test_a_damaged_record_is_said_to_be_damaged(engine: Engine, path: Path, statement: str) -> None:
    """One clear line instead of a stack trace."""
    given = entry(load_snapshot(engine, secrets_dir=None))
    record(engine, given)
    connection = sqlite3.connect(path)
    connection.executescript(statement)
    connection.commit()
    connection.close()
    with pytest.raises(StoreUnavailable, match=given.decision_id):
        load_decision(engine, given.decision_id)


def test_decision_ids_sort_by_time_and_cannot_be_guessed() -> None:
    """UUID version 7: time first, then 74 random bits."""
    made = [new_decision_id(NOW + timedelta(milliseconds=number // 10)) for number in range(1000)]
    assert len(set(made)) == 1000
    assert {(uuid.UUID(each).version, uuid.UUID(each).variant) for each in made} == {(7, uuid.RFC_4122)}
    assert [each[:13] for each in made] == sorted(each[:13] for each in made)
    assert uuid.UUID(made[0]).int >> 80 == int(NOW.timestamp() * 1000)


def test_a_commit_whose_answer_is_lost_is_a_deny(engine: Engine) -> None:
    """Promise 71: the row is there, nobody was told; it is marked as soon as writing works again."""
    snapshot = load_snapshot(engine, secrets_dir=None)
    given, after = entry(snapshot), entry(snapshot)

    def lost(connection: Connection) -> None:
        driver = connection.connection.dbapi_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.commit()
        raise sqlite3.OperationalError("the answer to COMMIT was lost")

    async def act() -> None:
        async with running(engine) as journal:
            event.listen(engine, "commit", lost)
            with pytest.raises(JournalUnavailable, match="answer to COMMIT was lost"):
                await journal.record(given)
            event.remove(engine, "commit", lost)
            await journal.record(after)

    asyncio.run(act())
    assert load_decision(engine, given.decision_id).answered == "late"
    assert load_decision(engine, after.decision_id).answered == "yes"


def test_a_failed_fsync_is_final(engine: Engine) -> None:
    """Promise 67: after it nothing written to this file proves anything, so all is denied until a restart."""
    snapshot = load_snapshot(engine, secrets_dir=None)

    def failing(_: Connection) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        raise error

    async def act() -> None:
        async with running(engine) as journal:
            event.listen(engine, "commit", failing)
            with pytest.raises(JournalUnavailable, match="check its disk"):
                await journal.record(entry(snapshot))
            event.remove(engine, "commit", failing)
            with pytest.raises(JournalUnavailable, match="check its disk"):
                await journal.record(entry(snapshot))
            assert not journal.healthy
        async with running(engine) as journal:
            await journal.record(entry(snapshot))
            assert journal.healthy

    asyncio.run(act())
    assert count(engine, "decisions") == 1


def retire(engine: Engine, now: datetime = NOW) -> Snapshot:
    """The snapshot after the IdP's one certificate was withdrawn at `now`."""
    ConfigStore(engine).add_idp(
        metadata=metadata("idp", "idp_next"), document=b"<next/>", policy=None, now=NOW, actor=ACTOR
    )
    TrustStore(engine).act(names.IDP, keys.fingerprint("idp"), Event.RETIRE, now=now, actor=ACTOR)
    return load_snapshot(engine, secrets_dir=None)


def used(engine: Engine) -> dict[tuple[str, int], tuple[int, int, int, datetime | None, datetime | None]]:
    """Certificate and day to sign-ins, launches, late sign-ins, first and last sign-in."""
    with reading(engine) as connection:
        return {
            (row.certificate_sha256, row.day): (
                row.sign_ins,
                row.launches,
                row.late_sign_ins,
                row.first_sign_in,
                row.last_sign_in,
            )
            for row in connection.execute(select(usage))
        }


DAY = (NOW - datetime(1970, 1, 1, tzinfo=UTC)).days
IDP_KEY = keys.fingerprint("idp")


def test_promise_18_evidence_seen_before_outlives_the_removal(engine: Engine) -> None:
    """Promise 18: seen at sign-in, its key removed at once, launched 6 h later and signed in again: allowed."""
    before = load_snapshot(engine, secrets_dir=None)
    record(engine, entry(before, replace(request(launch()), phase=Phase.PREPARE)))
    snapshot = retire(engine, NOW + timedelta(minutes=1))
    later = NOW + timedelta(hours=6)
    given = [entry(snapshot, replace(request(launch()), phase=phase), now=later) for phase in (*Phase, None)]
    assert isinstance(given[0].decision, Deny)  # as a first presentation; only the journal knows that it is none
    assert given[0].decision.reason is TrustReason.CERTIFICATE_RETIRED
    assert all(isinstance(each.decision, Allow) for each in record(engine, *given))
    for each in given:
        replay = load_replay(engine, each.decision_id)
        again = decide(replay.request, replay.snapshot, replay.now, seen=replay.seen)
        assert isinstance(again, Allow)
        assert again.assertion == replay.stored.assertion
        assert again.assertion.retiring_since == NOW + timedelta(minutes=1)


def test_promise_18_evidence_made_after_the_removal_is_denied_at_sign_in(engine: Engine) -> None:
    """Promise 18: a new response by the old key, and one that says it is older than it is, seen at a sign-in."""
    snapshot = retire(engine, NOW + timedelta(minutes=1))
    later = NOW + timedelta(hours=2)
    new = launch(
        assertion_id="_new",
        issued="2026-01-01T14:00:30Z",
        confirmed_until="2026-01-01T14:10:00Z",
        not_on_or_after="2026-01-01T15:00:00Z",
    )
    given = [
        entry(snapshot, replace(request(evidence), phase=phase), now=later)
        for evidence, phase in (
            (new, Phase.PREPARE),
            (new, Phase.ASSERT),
            (new, None),
            (launch(), Phase.PREPARE),
        )
    ]
    recorded = record(engine, *given)
    assert [str(each.decision.reason) for each in recorded] == ["certificate_retired"] * 4
    stored = load_decision(engine, recorded[3].decision_id)
    assert [(found.reason, found.where) for found in stored.findings] == [
        (TrustReason.CERTIFICATE_RETIRED, "Assertion.ID")
    ]
    replay = load_replay(engine, recorded[3].decision_id)
    assert decide(replay.request, replay.snapshot, replay.now, seen=replay.seen) == given[3].decision
    assert used(engine) == {}


def test_promise_18_what_cannot_be_told_is_counted(engine: Engine) -> None:
    """Promise 18: back-dated evidence at a launch, or in no known phase, is allowed and counted as late."""
    snapshot = retire(engine, NOW + timedelta(minutes=1))
    later = NOW + timedelta(hours=2)
    asked = [replace(request(launch(assertion_id=f"_{phase}")), phase=phase) for phase in (Phase.ASSERT, None)]
    recorded = record(engine, *(entry(snapshot, each, now=later) for each in (*asked, *asked)))
    assert [str(each.decision.reason) for each in recorded] == ["ok"] * 4
    assert used(engine) == {(IDP_KEY, DAY): (2, 4, 2, later, later)}


def test_use_is_counted_by_certificate_and_day(engine: Engine) -> None:
    """First presentations are sign-ins, all are launches; denials, given up ones and conflicts are neither."""
    snapshot = load_snapshot(engine, secrets_dir=None)
    later, night = NOW + timedelta(minutes=5), NOW + timedelta(hours=12)
    record(
        engine,
        entry(snapshot),
        entry(snapshot, now=later),
        entry(snapshot, request(launch(assertion_id="_b")), now=later),
        entry(snapshot, request(launch(assertion_id="_c")), now=NOW - timedelta(seconds=5)),
        entry(snapshot, request(launch(), upn=names.ADMIN), mode=Mode.OBSERVE),
        entry(snapshot, request(launch(audiences=("urn:x",))), mode=Mode.OBSERVE),
        entry(snapshot, decision=refused(AccessReason.DEADLINE), judged=False),
    )
    assert used(engine) == {(IDP_KEY, DAY): (3, 4, 0, NOW - timedelta(seconds=5), later)}
    record(engine, entry(snapshot, request(launch(assertion_id="_b")), now=later))
    assert used(engine) == {(IDP_KEY, DAY): (3, 5, 0, NOW - timedelta(seconds=5), later)}
    record(
        engine,
        entry(snapshot, now=night - timedelta(hours=5)),
        entry(
            snapshot,
            request(
                launch(
                    assertion_id="_d",
                    issued="2026-01-01T23:59:59Z",
                    confirmed_until="2026-01-02T00:10:00Z",
                    not_on_or_after="2026-01-02T01:00:00Z",
                )
            ),
            now=night,
        ),
    )
    assert used(engine)[IDP_KEY, DAY] == (3, 6, 0, NOW - timedelta(seconds=5), later)
    assert used(engine)[IDP_KEY, DAY + 1] == (1, 1, 0, night, night)


def test_use_on_a_day_without_a_sign_in_has_no_instants(engine: Engine) -> None:
    """Launches of yesterday's evidence; the first sign-in of that day fills them."""
    snapshot = load_snapshot(engine, secrets_dir=None)
    late = launch(
        assertion_id="_l",
        issued="2026-01-01T23:59:00Z",
        confirmed_until="2026-01-02T00:10:00Z",
        not_on_or_after="2026-01-02T01:00:00Z",
    )
    evening, night = datetime(2026, 1, 1, 23, 59, 30, tzinfo=UTC), datetime(2026, 1, 2, 0, 1, tzinfo=UTC)
    record(engine, entry(snapshot, request(late), now=evening), entry(snapshot, request(late), now=night))
    assert used(engine)[IDP_KEY, DAY + 1] == (0, 1, 0, None, None)
    other = launch(
        assertion_id="_m",
        issued="2026-01-01T23:59:00Z",
        confirmed_until="2026-01-02T00:10:00Z",
        not_on_or_after="2026-01-02T01:00:00Z",
    )
    record(engine, entry(snapshot, request(other), now=night))
    assert used(engine)[IDP_KEY, DAY + 1] == (1, 2, 0, night, night)


def test_a_batch_counts_use_once(engine: Engine) -> None:
    """Many launches that are committed together cost one statement for their certificate, and all are counted."""
    snapshot = load_snapshot(engine, secrets_dir=None)
    statements = []

    @event.listens_for(engine, "before_cursor_execute")
    def see(*arguments: object) -> None:
        if "INTO usage" in str(arguments[2]):
            statements.append(arguments[5])

    async def act() -> int:
        async with running(engine) as journal:
            await asyncio.gather(*(journal.record(entry(snapshot, now=NOW)) for _ in range(200)))
            return journal.commits

    commits = asyncio.run(act())
    assert len(statements) == commits
    assert used(engine) == {(IDP_KEY, DAY): (1, 200, 0, NOW, NOW)}


def test_a_record_from_before_retirement_was_recorded_is_read(engine: Engine, path: Path) -> None:
    """Records that lack the instant stay readable, and can be judged again."""
    snapshot = retire(engine, NOW + timedelta(minutes=1))
    (recorded,) = record(engine, entry(snapshot, now=NOW + timedelta(hours=1)))
    connection = sqlite3.connect(path)
    connection.execute("UPDATE decisions SET outcome = json_remove(outcome, '$.assertion.retiring_since')")
    connection.commit()
    connection.close()
    replay = load_replay(engine, recorded.decision_id)
    assert replay.stored.assertion is not None
    assert replay.stored.assertion.retiring_since is None
    assert isinstance(decide(replay.request, replay.snapshot, replay.now, seen=replay.seen), Allow)
