"""`decision` and `explain`: decisions of the real journal, listed, shown and judged again."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sqlite3
import subprocess
import sys
import urllib.request
from base64 import b64encode
from datetime import UTC, datetime, timedelta

import pytest

from evidence_service.access.decide import decide, mode_of
from evidence_service.access.model import AccessRequest, Mode, Phase, Snapshot, refused
from evidence_service.access.reasons import AccessReason
from evidence_service.adapters.database import open_database
from evidence_service.adapters.journal import Entry, Journal, new_decision_id
from evidence_service.adapters.snapshots import load_snapshot
from tests.cli.given import Place, fas_evidence, serving_environment
from tests.corpus import keys, names
from tests.corpus.good import Launch, policy_text

NOW = datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC)


def entry(snapshot: Snapshot, evidence: bytes, *, upn: str = names.ALICE, now: datetime = NOW) -> Entry:
    """A decision as the service makes it."""
    request = AccessRequest(
        request_id="r1", upn=upn, evidence=(evidence,), phase=Phase.ASSERT, fas_server="fas1.corp.example"
    )
    return Entry(
        decision_id=new_decision_id(now),
        request=request,
        snapshot=snapshot,
        now=now,
        decision=decide(request, snapshot, now),
        plugin="fas1",
    )


def record(place: Place, *entries: Entry) -> list[str]:
    """Record decisions, one after the other; returns their ids."""

    async def all_of(journal: Journal) -> None:
        journal.start()
        for each in entries:
            await journal.record(each)
        await journal.stop()

    engine = open_database(f"sqlite:///{place.database}", create=False)
    try:
        asyncio.run(all_of(Journal(engine)))
    finally:
        engine.dispose()
    return [each.decision_id for each in entries]


def snapshot_of(place: Place) -> Snapshot:
    """What decisions are judged by now."""
    engine = open_database(f"sqlite:///{place.database}", create=False)
    try:
        return load_snapshot(engine, secrets_dir=place.directory / "data" / "secrets")
    finally:
        engine.dispose()


@pytest.fixture
def recorded(place: Place) -> tuple[str, str, str]:
    """Three decisions: an allow, the same evidence for another user, the allow again an hour later."""
    place.add_idp()
    snapshot, evidence = snapshot_of(place), place.evidence.read_bytes()
    allow, deny, later = record(
        place,
        entry(snapshot, evidence),
        entry(snapshot, evidence, upn=names.ADMIN, now=NOW + timedelta(minutes=1)),
        entry(snapshot, evidence, now=NOW + timedelta(hours=1)),
    )
    return allow, deny, later


def listed(*options: str) -> list[str]:
    """The ids that `decision list` prints."""
    ran = fas_evidence("decision", "list", *options, "-o", "json")
    assert (ran.code, ran.err) == (0, "")
    return [each["decision_id"] for each in ran.json]


def test_list_filters(place: Place, recorded: tuple[str, str, str]) -> None:
    """Newest first; each filter leaves what it names; pages follow each other."""
    del place
    allow, deny, later = recorded
    assert listed() == [later, deny, allow]
    assert listed("--decision", "deny") == [deny]
    assert listed("--reason", "ok") == [later, allow]
    assert listed("--reason", "upn_mismatch") == [deny]
    assert listed("--upn", "ALICE@corp.example") == [later, allow]
    assert listed("--idp", names.IDP) == [later, deny, allow]
    assert listed("--idp", names.OTHER_IDP) == []
    assert listed("--since", "2026-01-01T12:01:30Z") == [later, deny]
    assert listed("--until", "2026-01-01T12:01:30Z") == [allow]
    assert listed("--limit", "1") == [later]
    assert listed("--limit", "1", "--before", later) == [deny]


def test_list_as_a_table(place: Place, recorded: tuple[str, str, str]) -> None:
    """Each row has instant, decision, reason, UPN, IdP, plug-in and id; a full page says how to go on."""
    del place
    ran = fas_evidence("decision", "list", "--limit", "2")
    rows = ran.out.splitlines()
    for text in ("2026-01-01T12:01:30Z", "deny", "upn_mismatch", names.ADMIN, names.IDP, "fas1", recorded[1]):
        assert text in rows[2]
    assert rows[-1] == f"Older ones: --before {recorded[1]}"


def test_list_with_filters_that_cannot_be_meant(place: Place, recorded: tuple[str, str, str]) -> None:
    """An unknown reason and an unknown page are bad input instead of empty lists."""
    del place, recorded
    ran = fas_evidence("decision", "list", "--reason", "upn_mismatched")
    assert ran.code == 2
    assert ran.complaint.startswith("--reason: ")
    assert "did you mean upn_mismatch" in ran.complaint
    ran = fas_evidence("decision", "list", "--before", "absent")
    assert (ran.code, ran.complaint) == (2, "--before: no decision 'absent' is recorded")


def test_show(place: Place, recorded: tuple[str, str, str]) -> None:
    """Everything that was recorded, as table and as JSON; an unknown id is a negative answer."""
    del place
    _, deny, _ = recorded
    ran = fas_evidence("decision", "show", deny)
    assert (ran.code, ran.err) == (0, "")
    for text in ("DENY upn_mismatch", AccessReason.UPN_MISMATCH.advice, names.ADMIN, "fas1.corp.example", "assert"):
        assert text in ran.out
    shown = fas_evidence("decision", "show", deny, "-o", "json").json
    assert (shown["decision"], shown["reason"], shown["idp"]) == ("deny", "upn_mismatch", names.IDP)
    assert shown["findings"][0]["presented"] == names.ALICE
    assert shown["assertion"]["certificate_sha256"] == keys.fingerprint("idp")
    assert shown["request"]["upn"] == names.ADMIN
    ran = fas_evidence("decision", "show", "absent")
    assert (ran.code, ran.out) == (1, "")
    assert "no decision 'absent' is recorded" in ran.complaint


def test_explain_gives_the_same_decision(place: Place, recorded: tuple[str, str, str]) -> None:
    """Every recorded decision is judged again from its record, with every check (promise 97)."""
    del place
    for decision_id, word, reason in zip(
        recorded, ("allow", "deny", "allow"), ("ok", "upn_mismatch", "ok"), strict=True
    ):
        ran = fas_evidence("explain", decision_id)
        assert (ran.code, ran.err) == (0, "")
        assert ran.out.startswith(f"{word.upper()} {reason}\n")
        assert "Judged again from the record: the same decision, for the same reasons." in ran.out
        explained = fas_evidence("explain", decision_id, "-o", "json").json
        assert explained["same"] is True
        assert (explained["again"]["decision"], explained["again"]["reason"]) == (word, reason)
        assert {"signature_invalid", "upn_mismatch"} <= {check["reason"] for check in explained["checks"]}


def test_explain_uses_the_trust_of_that_time(place: Place, recorded: tuple[str, str, str]) -> None:
    """What was configured since changes nothing about an old decision."""
    assert fas_evidence("idp", "remove", names.IDP, "--yes").code == 0
    assert fas_evidence("explain", recorded[0]).code == 0
    place.write("policy.toml", policy_text(audiences=["https://other.example"]))
    assert place.add_idp().code == 0
    ran = fas_evidence("explain", recorded[0])
    assert (ran.code, ran.out.splitlines()[0]) == (0, "ALLOW ok")


def test_explain_says_that_it_differs(place: Place, recorded: tuple[str, str, str]) -> None:
    """A record that was changed is found out, and the exit code is 1."""
    database = sqlite3.connect(place.database)
    for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        database.execute(f'DROP TRIGGER "{name}"')
    database.execute("UPDATE decisions SET decision = 'allow', reason = 'ok' WHERE decision_id = ?", (recorded[1],))
    database.commit()
    database.close()
    ran = fas_evidence("explain", recorded[1])
    assert ran.code == 1
    assert "The judgement DIFFERS from the recorded one:" in ran.out
    assert "decision: recorded allow, now deny" in ran.out
    assert "reason: recorded ok, now upn_mismatch" in ran.out
    explained = fas_evidence("explain", recorded[1], "-o", "json")
    assert (explained.code, explained.json["same"]) == (1, False)
    assert len(explained.json["differences"]) >= 2


def test_explain_re_use(place: Place) -> None:
    """A deny because the evidence was used before is the same deny again, from the recorded sighting."""
    place.write("policy.toml", policy_text(reuse="once"))
    place.add_idp()
    snapshot, evidence = snapshot_of(place), place.evidence.read_bytes()
    _, second = record(place, entry(snapshot, evidence), entry(snapshot, evidence, now=NOW + timedelta(minutes=1)))
    ran = fas_evidence("explain", second)
    assert (ran.code, ran.out.splitlines()[0]) == (0, "DENY evidence_already_used")
    assert "first at 2026-01-01T12:00:30Z" in ran.out


def test_explain_encrypted_evidence(place: Place) -> None:
    """With the key it is judged again; without it, the difference is said together with the likely cause."""
    (place.directory / "data/secrets").mkdir(parents=True)
    key = place.write("data/secrets/sp.pem", keys.pem("sp"))
    place.write("policy.toml", policy_text(decryption_keys=["sp.pem"]))
    place.add_idp()
    evidence = Launch().sign().encrypt().sign_response().wire()
    (decision_id,) = record(place, entry(snapshot_of(place), evidence))
    ran = fas_evidence("explain", decision_id)
    assert (ran.code, ran.out.splitlines()[0]) == (0, "ALLOW ok")
    key.unlink()
    ran = fas_evidence("explain", decision_id)
    assert (ran.code, ran.out.splitlines()[0]) == (1, "DENY encrypted_unsupported")
    assert "a decryption key is missing" in ran.out


def test_explain_what_the_service_itself_refused(place: Place) -> None:
    """A deadline cannot be judged again, and is not called a difference."""
    place.add_idp()
    late = dataclasses.replace(
        entry(snapshot_of(place), place.evidence.read_bytes()),
        decision=refused(AccessReason.DEADLINE),
        judged=False,
        mode=Mode.OBSERVE,
    )
    (decision_id,) = record(place, late)
    ran = fas_evidence("explain", decision_id)
    assert (ran.code, ran.out.splitlines()[0]) == (0, "DENY deadline")
    assert "there is nothing to judge again" in ran.out
    assert "Mode: observe; answered allow, because rule default only observes." in ran.out
    assert fas_evidence("explain", decision_id, "-o", "json").json["same"] is None
    assert "deny (observed)" in fas_evidence("decision", "list").out


def test_explain_what_was_only_observed(place: Place) -> None:
    """The second line says that the caller was answered allow, and which rule is why (promise 97)."""
    place.add_idp()
    fas_evidence("rule", "set", "trial", "--mode", "observe")
    snapshot = snapshot_of(place)
    deny = entry(snapshot, place.evidence.read_bytes(), upn=names.ADMIN)
    request = dataclasses.replace(deny.request, rule="trial")
    decision = decide(request, snapshot, NOW)
    (decision_id,) = record(
        place, dataclasses.replace(deny, request=request, decision=decision, mode=mode_of(request, snapshot))
    )
    for command in (("explain", decision_id), ("decision", "show", decision_id)):
        ran = fas_evidence(*command)
        assert ran.code == 0
        assert ran.out.splitlines()[:2] == [
            "DENY upn_mismatch",
            "Mode: observe; answered allow, because rule trial only observes.",
        ]


def test_explain_a_decision_that_is_not_there(place: Place, recorded: tuple[str, str, str]) -> None:
    """A negative answer with the id, whatever it holds."""
    del place, recorded
    ran = fas_evidence("explain", "\x1b[2J")
    assert (ran.code, ran.out) == (1, "")
    assert "is recorded" in ran.complaint


def test_from_metadata_to_explanation(place: Place) -> None:
    """The whole way by commands: add an IdP, enroll a plug-in, serve, ask over HTTP, list, explain, stop."""
    place.write("policy.toml", policy_text(max_age="3650d"))
    assert place.add_idp().code == 0
    key = fas_evidence("plugin", "enroll", "local", "--bearer").out.splitlines()[-1]
    command = [sys.executable, "-m", "evidence_service", "serve", "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=serving_environment(), text=True
    ) as serving:
        try:
            assert serving.stdout is not None
            url = ""
            for text in serving.stdout:
                if "listening" in text:
                    url = text[text.index("http://") :].split('"')[0].split()[0]
                    break
            value = b64encode(place.evidence.read_bytes()).decode()
            question = {"request_id": "q1", "upn": names.ALICE, "evidence": [{"type": "SAMLResponse", "value": value}]}
            asked = urllib.request.Request(
                f"{url}/v1/decisions",
                data=json.dumps(question).encode(),
                headers={"Content-Type": "application/json", "Authorization": f"Bearer {key}"},
            )
            with urllib.request.urlopen(asked, timeout=60) as reply:
                answer = json.load(reply)
        finally:
            serving.terminate()
            serving.stdout.read()  # type: ignore[union-attr]
            code = serving.wait(timeout=60)
    assert (answer["decision"], answer["reason"]) == ("allow", "ok")
    assert code == 0
    assert listed("--upn", names.ALICE) == [answer["decision_id"]]
    assert fas_evidence("explain", answer["decision_id"]).code == 0
