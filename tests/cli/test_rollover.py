"""`rollover` and `alarm`, and what `key` and `idp show` say of keys that wait: a person decides once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from evidence_service.adapters.config_store import ConfigStore
from evidence_service.adapters.database import open_database
from evidence_service.adapters.trust_store import TrustStore
from idp_certs.alarms import Alarm, Severity
from tests.cli.given import Place, fas_evidence
from tests.cli.sources import Source, held, metadata, source, states
from tests.corpus import keys, names

IDP, NEXT = keys.fingerprint("idp"), keys.fingerprint("idp_next")


@pytest.fixture
def waiting(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Source]:
    """An IdP whose new key waits for a person."""
    monkeypatch.setenv("FAS_EVIDENCE_METADATA_ALLOW_LOOPBACK", "true")
    with source(place) as ready:
        assert ready.subscribe("--policy", place.policy, "--yes").code == 0
        ready.serve(metadata("idp", "idp_next", by="idp_next"))
        assert fas_evidence("idp", "refresh", names.IDP).code == 1
        yield ready


def last_act(place: Place) -> tuple[str, str, dict[str, Any]]:
    """The newest act: what, by whom, with which details."""
    engine = open_database(f"sqlite:///{place.database}", create=False)
    try:
        (act,) = ConfigStore(engine).list_acts(limit=1)
        return act.act, act.actor, dict(act.detail)
    finally:
        engine.dispose()


def test_list_and_show(waiting: Source) -> None:
    """What waits, since when, why, whose, with whole fingerprints and where the document came from."""
    (rollover,) = held()
    table = fas_evidence("rollover", "list").out
    assert f"Next: fas-evidence rollover show {rollover}" in table
    assert NEXT[:16] in table
    ran = fas_evidence("rollover", "show", rollover[:8])
    assert (ran.code, ran.err) == (0, "")
    assert "; seen once" in ran.out
    assert f"TLS certificate   {waiting.server.leaf_sha256}" in ran.out
    for text in (NEXT, names.IDP, "metadata_key_withheld", "RSA 2048", waiting.url, "no key that is trusted"):
        assert text in ran.out
    assert f"Next: fas-evidence rollover approve {rollover}" in ran.out
    json = fas_evidence("rollover", "show", rollover, "-o", "json").json
    assert (json["state"], json["finding"]["reason"]) == ("held", "metadata_key_withheld")
    assert [each["sha256"] for each in json["certificates"]] == [NEXT]
    assert json["provenance"]["source"] == waiting.url


def test_approve(waiting: Source, place: Place) -> None:
    """The certificates are shown first and announced then; the act is journalled with actor and note (promise 79)."""
    del waiting
    (rollover,) = held()
    ran = fas_evidence("rollover", "approve", rollover, "--dry-run")
    assert (ran.code, NEXT in ran.out, states()[NEXT]) == (0, True, "waiting")
    assert f"{NEXT} of {names.IDP} would be announced: what it signs would be accepted." in ran.out
    assert ran.out.splitlines()[-1] == "Nothing was changed (--dry-run)."
    ran = fas_evidence("rollover", "approve", rollover, "--yes", "--note", "called their administrator")
    assert (ran.code, ran.err) == (0, "")
    assert f"The certificate {NEXT} of {names.IDP} is announced: what it signs is accepted." in ran.out
    assert states() == {IDP: "trusted", NEXT: "announced"}
    act, actor, detail = last_act(place)
    assert (act, actor.partition(":")[0]) == ("rollover_approved", "cli")
    assert detail["note"] == "called their administrator"
    assert held() == []
    assert fas_evidence("rollover", "list").out == "No rollover waits for approval.\n"
    (decided,) = fas_evidence("rollover", "list", "--all", "-o", "json").json
    assert (decided["state"], decided["decided_by"]) == ("approved", actor)


def test_approving_needs_a_confirmation(waiting: Source) -> None:
    """Off a terminal --yes is needed; on one, anything but yes changes nothing."""
    del waiting
    (rollover,) = held()
    ran = fas_evidence("rollover", "approve", rollover)
    assert ran.code == 2
    assert ran.complaint.endswith("add --yes")
    ran = fas_evidence("rollover", "approve", rollover, stdin=b"\n", terminal=True)
    assert (ran.code, states()[NEXT]) == (1, "waiting")
    ran = fas_evidence("rollover", "approve", rollover, stdin=b"yes\n", terminal=True)
    assert (ran.code, states()[NEXT]) == (0, "announced")


def test_a_decision_is_taken_once(waiting: Source) -> None:
    """A second approval, or a rejection after it, is refused and says who decided when."""
    del waiting
    (rollover,) = held()
    assert fas_evidence("rollover", "approve", rollover, "--yes").code == 0
    for command in (("approve", rollover, "--yes"), ("reject", rollover)):
        ran = fas_evidence("rollover", *command)
        assert (ran.code, ran.out) == (2, "")
        assert f"rollover {rollover} is approved already since " in ran.complaint
        assert "by cli:" in ran.complaint


def test_reject_and_approve_later(waiting: Source) -> None:
    """A rejected key stays out, also of later refreshes, and may be approved after all."""
    (rollover,) = held()
    ran = fas_evidence("rollover", "reject", rollover, "--dry-run")
    assert (ran.code, states()[NEXT]) == (0, "waiting")
    assert fas_evidence("rollover", "reject", rollover, "--note", "not theirs").code == 0
    assert states() == {IDP: "trusted"}
    assert fas_evidence("idp", "refresh", names.IDP).code == 0
    assert held() == []
    assert fas_evidence("rollover", "reject", rollover).code == 2
    assert fas_evidence("rollover", "approve", rollover, "--yes").code == 0
    assert states() == {IDP: "trusted", NEXT: "announced"}
    assert waiting.server.requests("/md") == 3


@pytest.mark.parametrize("verb", ["show", "approve", "reject"])
def test_a_rollover_that_is_not_there(waiting: Source, verb: str) -> None:
    """A negative answer with its ID."""
    del waiting
    ran = fas_evidence("rollover", verb, "0123456789abcdef")
    assert ran.code == 1
    assert "'0123456789abcdef'; `fas-evidence rollover list --all` shows all" in ran.complaint
    assert states()[NEXT] == "waiting"


def test_a_rollover_changed_from_outside_cannot_be_approved(waiting: Source, place: Place) -> None:
    """A row that was altered is said to be so, listed and refused (promise 23)."""
    del waiting
    (rollover,) = held()
    engine = open_database(f"sqlite:///{place.database}", create=False)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE rollovers SET reason = 'metadata_rollback'")
    engine.dispose()
    ran = fas_evidence("rollover", "list")
    assert ran.code == 0
    assert "damaged" in ran.out
    assert f"warning: rollover {rollover}: " in ran.err
    for verb in ("approve", "reject"):
        ran = fas_evidence("rollover", verb, rollover, *(("--yes",) if verb == "approve" else ()))
        assert (ran.code, ran.out) == (2, "")
        assert "changed from outside" in ran.complaint


def test_a_waiting_key_can_be_approved_or_revoked_by_name(waiting: Source) -> None:
    """`key approve` does what `rollover approve` does; `key revoke` keeps it out for good (promise 36)."""
    assert fas_evidence("key", "approve", NEXT[:32], "--idp", names.IDP).code == 0
    assert states() == {IDP: "trusted", NEXT: "announced"}
    assert held() == []
    waiting.serve(metadata("idp", "idp_next", "idp_b", by="idp_b"))
    assert fas_evidence("idp", "refresh", names.IDP).code == 1
    other = keys.fingerprint("idp_b")
    assert fas_evidence("key", "revoke", other, "--idp", names.IDP, "--yes").code == 0
    assert states()[other] == "revoked"
    for rollover in held():
        assert fas_evidence("rollover", "approve", rollover, "--yes").code == 2
    assert states()[other] == "revoked"


def test_show_key_tells_its_whole_history(waiting: Source) -> None:
    """Promise 41: source, document digest, TLS chain, approver and times of every trusted key."""
    (rollover,) = held()
    fas_evidence("rollover", "approve", rollover, "--yes", "--note", "called")
    fas_evidence("key", "retire", NEXT, "--idp", names.IDP)
    ran = fas_evidence("key", "show", NEXT[:10], "--idp", names.IDP)
    assert (ran.code, ran.err) == (0, "")
    assert waiting.server.leaf_sha256 in ran.out
    assert waiting.url in ran.out
    json = fas_evidence("key", "show", NEXT, "--idp", names.IDP, "-o", "json").json
    assert [each["after"] for each in json["history"]] == ["announced", "retiring"]
    assert all(each["actor"].startswith("cli:") for each in json["history"])
    assert json["usage"]["per_day"] == {}
    assert json["announced"] is not None


def test_show_key_that_waits_or_is_not_there(waiting: Source) -> None:
    """A waiting key points to its rollover; an unknown one, or an unknown IdP, is a negative answer."""
    del waiting
    ran = fas_evidence("key", "show", NEXT, "--idp", names.IDP)
    assert (ran.code, ran.err) == (0, "")
    assert f"Next: fas-evidence rollover show {held()[0]}" in ran.out
    for arguments, code in (
        (("0" * 64, "--idp", names.IDP), 1),
        ((NEXT, "--idp", "https://absent.example"), 1),
        (("short", "--idp", names.IDP), 2),
    ):
        ran = fas_evidence("key", "show", *arguments)
        assert (ran.code, ran.out) == (code, "")
        assert ran.complaint


def test_alarms(place: Place) -> None:
    """Those that stand are listed with what to do, and shown with their IdP."""
    place.add_idp()
    assert fas_evidence("alarm", "list").out == "No alarm stands.\n"
    assert fas_evidence("alarm", "list", "-o", "json").json == []
    engine = open_database(f"sqlite:///{place.database}", create=False)
    alarm = Alarm(
        kind="unknown_signer", entity_id=names.IDP, key="ab", severity=Severity.CRITICAL, text="Look at the IdP."
    )
    TrustStore(engine).sync_alarms([alarm], datetime.now(UTC))
    engine.dispose()
    ran = fas_evidence("alarm", "list")
    assert (ran.code, ran.err) == (0, "")
    assert "unknown_signer" in ran.out
    assert "Look at the IdP." in ran.out
    (listed,) = fas_evidence("alarm", "list", "-o", "json").json
    assert (listed["kind"], listed["severity"], listed["entity_id"]) == ("unknown_signer", "critical", names.IDP)
    assert "critical: Look at the IdP." in fas_evidence("idp", "show", names.IDP).out
    assert "unknown signer" in fas_evidence("idp", "list").out
