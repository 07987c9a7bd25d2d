"""Remembering signatures changes the speed of a decision and nothing else."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from evidence_service.access.decide import decide
from evidence_service.access.model import AccessRequest, Snapshot
from evidence_service.access.verify import verify_evidence
from evidence_service.adapters.database import open_database
from evidence_service.adapters.snapshots import SnapshotHolder
from evidence_service.web.remembered import Remembered
from tests.web.plane import ALICE, NOW, evidence, prepare

GENUINE = evidence()
EVIDENCE = {
    "genuine": (GENUINE,),
    "as base64": (base64.b64encode(GENUINE),),
    "changed": (GENUINE.replace(b"alice", b"mallo"),),
    "broken signature": (GENUINE.replace(b"SignatureValue>", b"SignatureValue>A", 1),),
    "twice": (GENUINE, GENUINE),
    "none": (),
    "empty": (b"",),
    "no XML": (b"<a",),
    "other XML": (b"<a/>",),
}


@pytest.fixture
def snapshot(tmp_path: Path) -> Iterator[Snapshot]:
    """A snapshot that knows the IdP."""
    prepare(tmp_path)
    engine = open_database(f"sqlite:///{tmp_path}/fas-evidence.db")
    yield SnapshotHolder(engine, secrets_dir=None).current()
    engine.dispose()


@pytest.mark.parametrize("name", EVIDENCE)
def test_every_presentation_is_decided_as_if_it_were_the_first(snapshot: Snapshot, name: str) -> None:
    """Whatever was seen before: the decision is that of `decide`, for each user and each instant."""
    remembered = Remembered()
    for upn in (ALICE, "bob@corp.example", "", ALICE):
        for now in (NOW, NOW + timedelta(hours=9), NOW - timedelta(hours=1), NOW):
            request = AccessRequest(request_id="r", upn=upn, evidence=EVIDENCE[name])
            decision, _ = remembered.decide(request, snapshot, now)
            assert decision == decide(request, snapshot, now)


def test_another_snapshot_forgets_everything(snapshot: Snapshot) -> None:
    """A change of trust reaches what was remembered with the next request (promise 35)."""
    remembered = Remembered()
    request = AccessRequest(request_id="r", upn=ALICE, evidence=(GENUINE,))
    assert remembered.decide(request, snapshot, NOW)[0].reason == "ok"
    (entity_id,) = snapshot.trust.providers
    shut = replace(snapshot.trust.providers[entity_id], enabled=False)
    changed = replace(snapshot, trust=replace(snapshot.trust, providers={entity_id: shut}))
    assert remembered.decide(request, changed, NOW)[0].reason == "idp_disabled"
    assert remembered.decide(request, snapshot, NOW)[0].reason == "ok"


def test_only_so_much_is_remembered(snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one presented longest ago is forgotten first; nothing that failed takes a place."""
    verified = []

    def counting(*arguments: object) -> object:
        verified.append(arguments)
        return verify_evidence(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("evidence_service.web.remembered.verify_evidence", counting)
    remembered = Remembered(size=2)
    first, second, third = (evidence(assertion_id=f"_{number}") for number in range(3))

    def verifications(raw: bytes) -> int:
        verified.clear()
        remembered.decide(AccessRequest(request_id="r", upn=ALICE, evidence=(raw,)), snapshot, NOW)
        return len(verified)

    assert [verifications(raw) for raw in (first, second, first, b"<a/>", b"<a/>", third)] == [1, 1, 0, 1, 1, 1]
    assert [verifications(raw) for raw in (first, third, second)] == [0, 0, 1]
