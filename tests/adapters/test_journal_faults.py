"""The journal under kill, race, full disk, and ten thousand decisions judged again."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import sqlite3
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, event

from evidence_service.access.decide import decide
from evidence_service.access.model import AccessRequest, Decision, FasRule, Reuse, Sighting, Snapshot
from evidence_service.adapters import journal as journal_module
from evidence_service.adapters.config_store import ConfigStore
from evidence_service.adapters.database import SchemaMismatch, open_database
from evidence_service.adapters.journal import Journal, JournalUnavailable, find_decisions, load_decision
from evidence_service.adapters.snapshots import load_snapshot, stored_snapshot
from idp_certs.rollover import Event
from tests.adapters.given import (
    ACTOR,
    NOW,
    POLICY,
    acted,
    backed_up,
    configured,
    imported,
    put_in_place,
    request,
    url_of,
)
from tests.adapters.recording import entry, launch, running
from tests.corpus import names

ROOT = Path(__file__).parents[2]


def command(*arguments: str) -> list[str]:
    """A process of `tests.adapters.processes`."""
    return [sys.executable, "-m", "tests.adapters.processes", *arguments]


@pytest.mark.platform
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_what_was_answered_is_recorded_though_the_process_is_killed(tmp_path: Path) -> None:
    """Promise 64: 50 processes, each killed with SIGKILL right after an answer."""
    path = tmp_path / "a.db"
    configured(path).dispose()
    done = subprocess.run(
        command("killed", str(path), "50"), cwd=ROOT, capture_output=True, text=True, timeout=150, check=True
    )
    answered = done.stdout.split()
    assert len(answered) >= 50
    engine = open_database(url_of(path), create=False)
    recorded = {line.decision_id for line in find_decisions(engine, decision="allow", limit=1_000_000)}
    engine.dispose()
    assert set(answered) <= recorded


def test_two_processes_that_race_allow_evidence_once(tmp_path: Path) -> None:
    """Promise 12: with `reuse = once`, each evidence is allowed by exactly one of them."""
    path = tmp_path / "a.db"
    engine = configured(path, reuse=Reuse.ONCE)
    rounds = 30
    racers = [
        subprocess.Popen(
            command("race", str(path), str(rounds)),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        for _ in range(2)
    ]
    outcomes = []
    for number in range(rounds):
        pipes = [(racer.stdin, racer.stdout) for racer in racers]
        for _, out in pipes:
            assert out is not None
            assert out.readline() == f"ready {number}\n"
        for into, _ in pipes:
            assert into is not None
            into.write("go\n")
            into.flush()
        outcomes.append(sorted(out.readline().strip() for _, out in pipes if out is not None))
    for racer in racers:
        racer.communicate(timeout=120)
        assert racer.returncode == 0
    assert outcomes == [["allow", "evidence_already_used"]] * rounds
    assert Counter(line.reason for line in find_decisions(engine, limit=1000)) == {
        "ok": rounds,
        "evidence_already_used": rounds,
    }
    engine.dispose()


def stored_ids(path: Path) -> set[str]:
    """The decisions in the file that has this name now."""
    connection = sqlite3.connect(path)
    found = {decision_id for (decision_id,) in connection.execute("SELECT decision_id FROM decisions")}
    connection.close()
    return found


@pytest.mark.platform
@pytest.mark.skipif(os.name != "posix", reason="Windows does not let go of the name of an open file")
def test_nothing_is_answered_from_a_replaced_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promises 13 and 64: after a backup took the file's name, one batch is refused and the next is in the backup."""
    monkeypatch.setattr(journal_module, "_PROBE_SECONDS", 60)
    path = tmp_path / "a.db"
    engine = configured(path, reuse=Reuse.ONCE)
    snapshot = load_snapshot(engine, secrets_dir=None)
    backup = backed_up(path)

    async def act() -> None:
        async with running(engine) as journal:
            assert (await journal.record(entry(snapshot))).decision.reason == "ok"
            put_in_place(backup, path)
            with pytest.raises(JournalUnavailable, match=r"a\.db was replaced or removed"):
                await journal.record(entry(snapshot))
            assert not journal.healthy
            assert stored_ids(path) == set()
            again = entry(snapshot)
            recorded = await journal.record(again)
            assert recorded.decision.reason == "ok", "nothing is remembered of the file that is gone"
            assert journal.healthy
            assert stored_ids(path) == {again.decision_id}
            assert load_decision(engine, again.decision_id).request == again.request

    asyncio.run(act())
    engine.dispose()


@pytest.mark.platform
@pytest.mark.skipif(os.name != "posix", reason="Windows does not let go of the name of an open file")
@pytest.mark.parametrize("lost", ["", "-wal"])
def test_a_file_that_goes_during_a_commit_denies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str) -> None:
    """Promises 13 and 64: the commit succeeds, into a file or log without a name; that is no record."""
    monkeypatch.setattr(journal_module, "_PROBE_SECONDS", 60)
    path = tmp_path / "a.db"
    engine = configured(path)
    snapshot = load_snapshot(engine, secrets_dir=None)
    backup = backed_up(path)

    def lose(_: Connection) -> None:
        if lost:
            Path(f"{path}{lost}").unlink()
        else:
            put_in_place(backup, path)

    async def act() -> None:
        async with running(engine) as journal:
            await journal.record(entry(snapshot))
            event.listen(engine, "commit", lose)
            with pytest.raises(JournalUnavailable, match="replaced or removed"):
                await journal.record(entry(snapshot))
            event.remove(engine, "commit", lose)
            after = entry(snapshot)
            await journal.record(after)
            assert after.decision_id in stored_ids(path)

    asyncio.run(act())
    engine.dispose()


@pytest.mark.platform
@pytest.mark.skipif(os.name != "posix", reason="Windows does not let go of the name of an open file")
def test_a_removed_database_is_noticed_and_not_made_up(tmp_path: Path) -> None:
    """Promises 13 and 65: unhealthy without a request, every decision refused, no new file; healed when it is back."""
    path, aside = tmp_path / "a.db", tmp_path / "aside"
    engine = configured(path)
    snapshot = load_snapshot(engine, secrets_dir=None)

    async def until_healthy(journal: Journal, expected: bool) -> None:
        for _ in range(600):
            if journal.healthy is expected:
                return
            await asyncio.sleep(0.1)
        assert journal.healthy is expected

    async def act() -> None:
        async with running(engine) as journal:
            await journal.record(entry(snapshot))
            path.rename(aside)
            await until_healthy(journal, expected=False)
            for _ in range(3):
                with pytest.raises(JournalUnavailable, match=r"a\.db"):
                    await journal.record(entry(snapshot))
            assert not path.exists()
            aside.rename(path)
            await until_healthy(journal, expected=True)
            after = entry(snapshot)
            await journal.record(after)
            assert len(stored_ids(path)) == 2
            assert after.decision_id in stored_ids(path)

    asyncio.run(act())
    engine.dispose()


def test_a_database_of_another_schema_in_its_place_is_refused(tmp_path: Path) -> None:
    """Promise 13: nothing is written into what took the place of the database, before its schema is known."""
    path = tmp_path / "a.db"
    engine = configured(path)
    snapshot = load_snapshot(engine, secrets_dir=None)
    engine.dispose()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()

    async def act() -> None:
        journal = Journal(engine)
        with pytest.raises(SchemaMismatch, match="upgrade the software"):
            journal.start()

    asyncio.run(act())
    assert snapshot.version
    assert stored_ids(path) == set()


def test_what_waits_to_be_marked_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 71, within bounds: while nothing can be written, only so many unanswered decisions are remembered."""
    monkeypatch.setattr(journal_module, "_MAX_UNANSWERED", 5)
    path = tmp_path / "a.db"
    engine = configured(path)
    given = [entry(load_snapshot(engine, secrets_dir=None)) for _ in range(8)]
    holder = sqlite3.connect(path, isolation_level=None)

    async def act() -> None:
        async with running(engine, busy_timeout=timedelta(milliseconds=1)) as journal:
            for each in given:
                await journal.record(each)
            holder.execute("BEGIN IMMEDIATE")
            for each in given:
                journal.disown(each.decision_id)
            assert len(journal._unanswered) == 5
            assert journal.unmarked == 3
            holder.execute("ROLLBACK")

    asyncio.run(act())
    holder.close()
    late = [load_decision(engine, each.decision_id).answered for each in given]
    assert late == ["late"] * 5 + ["yes"] * 3
    engine.dispose()


def check_fill(lines: list[str], path: Path) -> None:
    """What was answered is there; what was refused is not, or is marked as unanswered; and it went on afterwards."""
    said = [line.split(" ", 1) for line in lines]
    answered = [value for word, value in said if word == "answered"]
    refused = [value for word, value in said if word == "refused"]
    assert len(refused) == 3
    assert lines[-1].startswith("answered"), "it recorded again once there was room"
    assert "healthy False" in lines
    assert all(str(path) in value and "\n" not in value for word, value in said if word == "why")
    engine = open_database(url_of(path), create=False)
    recorded = {line.decision_id: line.answered for line in find_decisions(engine, limit=1_000_000)}
    engine.dispose()
    assert {recorded[each] for each in answered} == {"yes"}
    assert {recorded.get(each, "late") for each in refused} == {"late"}


@pytest.mark.platform
@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX resource limits")
def test_a_file_that_may_not_grow_denies_and_heals(tmp_path: Path) -> None:
    """Promises 13 and 65, by RLIMIT_FSIZE: every write beyond the limit fails."""
    path = tmp_path / "a.db"
    configured(path).dispose()
    done = subprocess.run(
        command("fill", str(path), "", "1000000"), cwd=ROOT, capture_output=True, text=True, timeout=150, check=True
    )
    check_fill(done.stdout.splitlines(), path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_denies_and_heals(tmp_path: Path) -> None:
    """Promises 13 and 65, by a small disk of its own: ENOSPC."""
    disk = tmp_path / "disk"
    disk.mkdir()
    path, filler, kept = disk / "a.db", disk / "filler", tmp_path / "a.db"
    prepare = (
        f"mount -t tmpfs -o size=4m tmpfs {disk} && cp {kept} {path} && head -c 1500000 /dev/zero > {filler} && "
        f'"$@"; status=$?; cp {path} {kept}; exit $status'
    )
    configured(kept).dispose()
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", prepare, "sh", *command("fill", str(path), str(filler), "0")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert any("free space" in line or "space, quota" in line for line in lines)
    check_fill([line.replace(str(path), str(kept)) for line in lines], kept)


def variety() -> list[AccessRequest]:
    """Requests of many kinds: good, stale, forged, for others, without evidence, unreadable."""
    good = launch()
    return [
        request(good),
        request(launch(assertion_id="_a2")),
        request(launch(assertion_id="_a3", context="urn:other")),
        request(launch(context="urn:same-id-other-content")),
        request(good, upn="bob@corp.example"),
        request(good, upn=""),
        request(good, upn="alice\udcff\0@corp.example"),
        request(good, upn="a" * 5000 + "@corp.example"),
        request(launch(audiences=("urn:x",))),
        request(launch(recipient="https://elsewhere.example", audiences=("urn:x",))),
        request(launch(issued="2026-01-01T01:00:00Z", assertion_id="_old")),
        request(launch(issuer=names.OTHER_IDP, response_issuer=names.OTHER_IDP)),
        request(launch(issuer="urn:unknown", response_issuer="urn:unknown")),
        request(good.replace(b"alice", b"admin")),
        request(good[: len(good) // 2]),
        request(b"<!DOCTYPE x>" + good),
        request(b""),
        request(b"%%%"),
        AccessRequest(request_id="r", upn=names.ALICE, evidence=()),
        AccessRequest(request_id="r", upn=names.ALICE, evidence=(good, good)),
        replace(request(good), rule="strict"),
        replace(request(good), rule="unknown"),
    ]


@pytest.mark.timeout(600)
def test_ten_thousand_decisions_judged_again_are_the_same(tmp_path: Path) -> None:
    """Promise 19: verdict and reasons of every record, with trust and policy found by digest.

    Every record is loaded. Those that hold the same question are judged once: `decide` is pure.
    """
    path = tmp_path / "a.db"
    engine = configured(path)
    store = ConfigStore(engine)
    snapshots = [load_snapshot(engine, secrets_dir=None)]
    for change in (
        lambda: store.set_policy(names.IDP, replace(POLICY, reuse=Reuse.ONCE), now=NOW, actor=ACTOR),
        lambda: store.set_policy(names.IDP, replace(POLICY, reuse=Reuse.FRESH_ONCE), now=NOW, actor=ACTOR),
        lambda: store.set_rule(FasRule(name="strict", max_age=timedelta(minutes=5)), now=NOW, actor=ACTOR),
        lambda: imported(store, "idp_next", policy=POLICY, now=NOW + timedelta(minutes=1)),
        lambda: acted(engine, Event.REVOKE),
    ):
        change()
        snapshots.append(load_snapshot(engine, secrets_dir=None))
    asked = variety()
    chance = random.Random(19)
    minutes = (0, 1, 4, 7, 20, 300, 481, 700)
    # Judged once for each combination, and presented ten thousand times in an order that only the journal defines.
    combinations = [
        entry(snapshot, each, now=NOW + timedelta(minutes=minute))
        for snapshot, each, minute in itertools.product(snapshots, asked, minutes)
    ]
    late = request(launch(assertion_id="_late"))
    combinations.append(entry(snapshots[2], late, now=NOW + timedelta(minutes=20)))
    entries = [
        replace(chosen, decision_id=f"{number:036d}")
        for number, chosen in enumerate(chance.choices(combinations, k=10_000))
    ]

    async def act() -> dict[str, str]:
        async with running(engine, max_queued=20_000) as journal:
            recorded = await asyncio.gather(*map(journal.record, entries))
        return {each.decision_id: str(each.decision.reason) for each in recorded}

    answered = asyncio.run(act())
    known: dict[str, Snapshot] = {}
    judged: dict[tuple[AccessRequest, str, datetime, Sighting | None], Decision] = {}
    differences = []
    for decision_id, reason in answered.items():
        stored = load_decision(engine, decision_id)
        if stored.snapshot_version not in known:
            known[stored.snapshot_version] = stored_snapshot(engine, stored.snapshot_version)
        question = (stored.request, stored.snapshot_version, stored.now, stored.seen)
        if question not in judged:
            judged[question] = decide(stored.request, known[stored.snapshot_version], stored.now, seen=stored.seen)
        again = judged[question]
        reasons = [finding.reason for finding in getattr(again, "findings", ())]
        recorded_reasons = [finding.reason for finding in stored.findings]
        if (str(again.reason), reasons) != (reason, recorded_reasons) or stored.reason != reason:
            differences.append((decision_id, stored.reason, recorded_reasons, reasons))
    assert differences == []
    assert len(known) == len(snapshots)
    engine.dispose()
    reached = Counter(answered.values())
    assert reached["ok"] > 100
    assert set(reached) >= {
        "ok",
        "replay_conflict",
        "evidence_already_used",
        "evidence_not_fresh",
        "evidence_too_old",
        "certificate_revoked",
        "upn_mismatch",
        "audience_mismatch",
        "rule_not_allowed",
        "issuer_unknown",
        "digest_mismatch",
        "evidence_missing",
        "xml_dtd",
    }
