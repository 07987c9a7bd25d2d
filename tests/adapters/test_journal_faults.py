"""The journal under kill, race, full disk, and ten thousand decisions judged again."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from evidence_service.access.decide import decide
from evidence_service.access.model import AccessRequest, FasRule, Reuse, Snapshot
from evidence_service.adapters.config_store import ConfigStore
from evidence_service.adapters.database import open_database
from evidence_service.adapters.journal import find_decisions, load_decision
from evidence_service.adapters.snapshots import load_snapshot, stored_snapshot
from idp_certs.model import CertificateState
from tests.adapters.given import ACTOR, NOW, POLICY, configured, imported, request, url_of
from tests.adapters.recording import entry, launch, running
from tests.corpus import keys, names

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
        racer.communicate(timeout=60)
        assert racer.returncode == 0
    assert outcomes == [["allow", "evidence_already_used"]] * rounds
    assert Counter(line.reason for line in find_decisions(engine, limit=1000)) == {
        "ok": rounds,
        "evidence_already_used": rounds,
    }
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
    """Promise 19: verdict and reasons of every record, with trust and policy found by digest."""
    path = tmp_path / "a.db"
    engine = configured(path)
    store = ConfigStore(engine)
    snapshots = [load_snapshot(engine, secrets_dir=None)]
    for change in (
        lambda: store.set_policy(names.IDP, replace(POLICY, reuse=Reuse.ONCE), now=NOW, actor=ACTOR),
        lambda: store.set_policy(names.IDP, replace(POLICY, reuse=Reuse.FRESH_ONCE), now=NOW, actor=ACTOR),
        lambda: store.set_rule(FasRule(name="strict", max_age=timedelta(minutes=5)), now=NOW, actor=ACTOR),
        lambda: imported(store, "idp_next", policy=POLICY, now=NOW + timedelta(minutes=1)),
        lambda: store.set_certificate_state(
            names.IDP, keys.fingerprint("idp"), CertificateState.REVOKED, now=NOW, actor=ACTOR
        ),
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
    differences = []
    for decision_id, reason in answered.items():
        stored = load_decision(engine, decision_id)
        if stored.snapshot_version not in known:
            known[stored.snapshot_version] = stored_snapshot(engine, stored.snapshot_version)
        again = decide(stored.request, known[stored.snapshot_version], stored.now, seen=stored.seen)
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
