from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import date, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path

import pytest
from sqlalchemy import Engine, event, insert, select, text

from evidence_service.access.model import FasRule
from evidence_service.adapters.config_store import ConfigStore
from evidence_service.adapters.database import (
    certificates,
    config_state,
    documents,
    idps,
    open_database,
    reading,
    rollovers,
    source_states,
    unknown_signers,
    usage,
    writing,
)
from evidence_service.adapters.snapshots import load_snapshot, snapshot_document
from evidence_service.adapters.trust_store import (
    Accepted,
    Claim,
    Conflict,
    NotFound,
    RolloverState,
    SourceConfig,
    StoredSource,
    TrustStore,
)
from idp_certs.alarms import Alarm, Severity
from idp_certs.model import Acceptance, CertificateState
from idp_certs.reasons import Finding, TrustReason
from idp_certs.rollover import (
    Applied,
    Event,
    Held,
    RolloverPolicy,
    SeenMetadata,
    TrackedCertificate,
    Transport,
    Unchanged,
    plan_rollover,
)
from tests.adapters.given import ACTOR, LATER, NOW, POLICY, acted, der, imported, metadata, url_of
from tests.corpus import keys, names

URL = "https://idp.example/metadata"
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
CHAIN = ["aa" * 32, "bb" * 32]
UNREACHABLE = Finding(reason=TrustReason.METADATA_UNREACHABLE, expected="200", presented="500", where="url")
OF_CORPUS = {keys.fingerprint(name): name for name in ("idp", "idp_next", "idp_renewed", "idp_b", "strong", "p256")}


@pytest.fixture
def trust(engine: Engine) -> TrustStore:
    """The trust in that database."""
    return TrustStore(engine)


def subscribed(
    engine: Engine, *listed: str, entity_id: str = names.IDP, now: datetime = NOW, acceptance: Acceptance | None = None
) -> StoredSource:
    """An IdP that was imported with these certificates, and whose metadata is fetched from now on."""
    policy = POLICY if acceptance is None else replace(POLICY, acceptance=acceptance)
    imported(ConfigStore(engine), *(listed or ("idp",)), entity_id=entity_id, now=now, policy=policy)
    return TrustStore(engine).add_source(
        entity_id=entity_id, source=SourceConfig(url=URL), now=now, actor=ACTOR, jitter=0.5, seen=None
    )


def claimed(trust: TrustStore, now: datetime = NOW, *, owner: str = "w1", budget: int = 5) -> Claim | None:
    """What is to be refreshed."""
    return trust.claim(now, owner=owner, lease=2 * MINUTE, cool_down=MINUTE, hasten_budget=budget)


def claim_one(trust: TrustStore, now: datetime = NOW, entity_id: str = names.IDP) -> Claim:
    """The claim of this source."""
    claim = trust.claim_one(entity_id, now, owner="w1", lease=2 * MINUTE)
    assert claim is not None
    return claim


def answer(*listed: str, etag: str = '"1"', valid_until: datetime | None = None, salt: str = "") -> Accepted:
    """A document that lists these certificates, as it was fetched."""
    document = f"<fetched {' '.join(listed)} {valid_until} {salt}/>".encode()
    return Accepted(
        metadata=metadata(*listed, valid_until=valid_until),
        document=document,
        document_sha256=hashlib.sha256(document).hexdigest(),
        etag=etag,
        served_at=NOW,
        provenance={"source": URL, "final_url": f"{URL}/2", "tls_chain_sha256": CHAIN, "signer": None},
    )


def planned(claim: Claim, accepted: Accepted, now: datetime, signer: str | None) -> Unchanged | Applied | Held:
    """What old trust thinks of it."""
    seen = SeenMetadata(
        metadata=accepted.metadata,
        document_sha256=accepted.document_sha256,
        transport=Transport.TLS,
        source=URL,
        signer=None if signer is None else keys.fingerprint(signer),
    )
    policy = RolloverPolicy(acceptance=claim.acceptance, evidence_age=claim.evidence_age)
    plan = plan_rollover(claim.trust, seen, policy, now)
    assert isinstance(plan, Unchanged | Applied | Held), plan
    return plan


def refreshed(
    trust: TrustStore,
    *listed: str,
    now: datetime = LATER,
    signer: str | None = None,
    valid_until: datetime | None = None,
    salt: str = "",
) -> Unchanged | Applied | Held:
    """Refresh the IdP of the corpus with a document that lists these certificates."""
    claim, accepted = claim_one(trust, now), answer(*listed, valid_until=valid_until, salt=salt)
    plan = planned(claim, accepted, now, signer)
    assert trust.publish(claim, plan, accepted, now=now, next_attempt_at=now + HOUR)
    return plan


def states(trust: TrustStore, entity_id: str = names.IDP) -> dict[str, CertificateState]:
    """Names of the corpus and states, in their order."""
    held = trust.load_trust(entity_id).certificates
    return {OF_CORPUS[each.certificate.sha256]: each.certificate.state for each in held}


def acts(engine: Engine) -> list[str]:
    """The journal, oldest first."""
    return [each.act for each in reversed(ConfigStore(engine).list_acts())]


def everything(engine: Engine) -> list[object]:
    """All that trust is made of, row by row."""
    with reading(engine) as connection:
        return [
            connection.execute(select(table)).all()
            for table in (idps, certificates, rollovers, documents, source_states, config_state)
        ]


def seen_signer(engine: Engine, last_seen: datetime, entity_id: str = names.IDP) -> None:
    """A key that is not known signed plausible evidence."""
    with writing(engine) as connection:
        connection.execute(text("DELETE FROM unknown_signers WHERE entity_id = :id"), {"id": entity_id})
        connection.execute(
            insert(unknown_signers).values(
                entity_id=entity_id,
                certificate_sha256="cc" * 32,
                subject="CN=new",
                first_seen=last_seen,
                last_seen=last_seen,
                denials=3,
            )
        )


def outside(engine: Engine, statement: str) -> None:
    """Change the database as another program would."""
    with writing(engine) as connection:
        connection.execute(text(statement))


def test_a_source_is_set_shown_replaced_and_removed(trust: TrustStore, engine: Engine) -> None:
    """It is due at once, each act is in the journal, and an attempt at the old one counts for nothing."""
    stored = subscribed(engine)
    assert trust.get_source(names.IDP) == stored
    assert (stored.config, stored.added_by, stored.problem) == (SourceConfig(url=URL), ACTOR, None)
    assert (stored.state.next_attempt_at, stored.state.jitter, stored.state.etag) == (NOW, 0.5, None)
    stale = claim_one(trust)
    pinned = SourceConfig(url=f"{URL}?2", pin_sha256=":".join(["AB"] * 32), metadata_certificate=der("ca"))
    again = trust.add_source(entity_id=names.IDP, source=pinned, now=LATER, actor=ACTOR, jitter=0.1, seen=None)
    assert again.config.pin_sha256 == "ab" * 32
    assert trust.list_sources() == (again,)
    assert not trust.fail(stale, UNREACHABLE, now=LATER, next_attempt_at=LATER)
    trust.remove_source(names.IDP, now=LATER, actor=ACTOR)
    assert trust.list_sources() == ()
    for act in (lambda: trust.get_source(names.IDP), lambda: trust.remove_source(names.IDP, now=LATER, actor=ACTOR)):
        with pytest.raises(NotFound, match="no metadata source"):
            act()
    assert acts(engine) == ["idp_added", "source_added", "source_added", "source_removed"]
    assert ConfigStore(engine).list_acts()[1].detail["before"] == URL
    assert states(trust) == {"idp": CertificateState.TRUSTED}, "trust stays as it is"


def test_no_source_and_no_document_adds_an_idp(trust: TrustStore, engine: Engine) -> None:
    """Promise 39: a source needs a registered IdP, and a document of another one is refused."""
    with pytest.raises(NotFound, match="urn:x"):
        trust.add_source(entity_id="urn:x", source=SourceConfig(url=URL), now=NOW, actor=ACTOR, jitter=0.0, seen=None)
    subscribed(engine)
    claim, accepted = claim_one(trust), answer("idp")
    other = replace(accepted, metadata=metadata("idp", entity_id="urn:other"))
    before = everything(engine)
    with pytest.raises(Conflict, match="urn:other"):
        trust.publish(claim, planned(claim, accepted, NOW, None), other, now=NOW, next_attempt_at=LATER)
    assert everything(engine) == before


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (SourceConfig(url="http://idp.example"), "https"),
        (SourceConfig(url="https://idp.example\n"), "https"),
        (SourceConfig(url=URL, pin_sha256="ab"), "pin_sha256"),
        (SourceConfig(url=URL, ca_pem="x"), "ca_pem"),
        (SourceConfig(url=URL, metadata_certificate=b"x"), "metadata_certificate"),
    ],
)
def test_a_source_that_cannot_be_used_is_refused(
    trust: TrustStore, engine: Engine, config: SourceConfig, words: str
) -> None:
    """One line names the member."""
    imported(ConfigStore(engine), "idp")
    with pytest.raises(Conflict, match=words) as caught:
        trust.add_source(entity_id=names.IDP, source=config, now=NOW, actor=ACTOR, jitter=0.0, seen=None)
    assert "\n" not in str(caught.value)
    assert trust.list_sources() == ()


def test_what_is_due_is_claimed_once(trust: TrustStore, engine: Engine) -> None:
    """Promise 32: a claim keeps others away for its lease, and the next one makes it stale."""
    subscribed(engine)
    assert trust.next_instant(NOW) == NOW
    first = claimed(trust)
    assert first is not None
    assert (first.entity_id, first.epoch, first.hastened) == (names.IDP, 1, False)
    assert claimed(trust, NOW + MINUTE) is None
    assert trust.claim_one(names.IDP, NOW + MINUTE, owner="cli", lease=MINUTE) is None
    assert trust.next_instant(NOW + MINUTE) == NOW + 2 * MINUTE
    second = claimed(trust, NOW + 2 * MINUTE, owner="w2")
    assert second is not None
    assert second.epoch == 2
    assert trust.get_source(names.IDP).state.claimed_by == "w2"
    accepted = answer("idp", "idp_next")
    before = everything(engine)
    plan = planned(first, accepted, NOW, "idp")
    assert not trust.publish(first, plan, accepted, now=NOW, next_attempt_at=LATER)
    assert not trust.publish_unmodified(first, now=NOW, next_attempt_at=LATER, served_at=None)
    assert not trust.fail(first, UNREACHABLE, now=NOW, next_attempt_at=LATER)
    assert everything(engine) == before
    assert trust.fail(second, UNREACHABLE, now=NOW + 2 * MINUTE, next_attempt_at=LATER)
    assert trust.next_instant(NOW) == LATER
    assert claimed(trust, LATER - MINUTE) is None
    assert claimed(trust, LATER) is not None


def test_a_claim_says_how_old_evidence_may_be(trust: TrustStore, engine: Engine) -> None:
    """The largest age of any rule for this IdP counts, with the clock skew; a damaged rule does not."""
    store = ConfigStore(engine)
    subscribed(engine)
    store.set_rule(FasRule(name="long", max_age=10 * HOUR), now=NOW, actor=ACTOR)
    store.set_rule(FasRule(name="other", max_age=20 * HOUR, entity_ids=frozenset({"urn:x"})), now=NOW, actor=ACTOR)
    store.set_rule(FasRule(name="bad", max_age=30 * HOUR), now=NOW, actor=ACTOR)
    outside(engine, "UPDATE rules SET mode = 'observe' WHERE name = 'bad'")
    claim = claim_one(trust)
    assert claim.evidence_age == 10 * HOUR + POLICY.clock_skew
    assert claim.acceptance is Acceptance.CONTINUITY


def _claim_in_process(path: str, number: int) -> bool:
    engine = open_database(path, create=False, busy_timeout=timedelta(seconds=30))
    try:
        return claimed(TrustStore(engine), owner=f"w{number}") is not None
    finally:
        engine.dispose()


def test_of_many_that_claim_at_once_one_wins(tmp_path: Path) -> None:
    """Promise 32: threads and processes with a store each, and one source."""
    url = url_of(tmp_path / "a.db")
    engine = open_database(url, busy_timeout=timedelta(seconds=30))
    subscribed(engine)
    won: list[bool] = []
    start = threading.Barrier(8)

    def claim(number: int) -> None:
        start.wait()
        won.append(claimed(TrustStore(engine), owner=f"t{number}") is not None)

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sum(won) == 1
    engine.dispose()
    other = url_of(tmp_path / "b.db")
    engine = open_database(other)
    subscribed(engine)
    engine.dispose()
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        outcomes = list(pool.map(_claim_in_process, [other] * 4, range(4)))
    assert sum(outcomes) == 1


def test_an_unknown_key_hastens_once_in_a_cool_down(trust: TrustStore, engine: Engine) -> None:
    """Promise 27: whatever came of the attempt, and only for what was seen since."""
    subscribed(engine)
    claim = claimed(trust)
    assert claim is not None
    trust.fail(claim, UNREACHABLE, now=NOW, next_attempt_at=NOW + HOUR)
    seen_signer(engine, NOW - MINUTE)
    assert claimed(trust, NOW + 2 * MINUTE) is None, "the attempt came after it"
    seen_signer(engine, NOW + timedelta(seconds=5))
    assert claimed(trust, NOW + timedelta(seconds=59)) is None
    hastened = claimed(trust, NOW + MINUTE)
    assert hastened is not None
    assert hastened.hastened
    assert trust.get_source(names.IDP).state.hastened_at == NOW + MINUTE
    trust.fail(hastened, UNREACHABLE, now=NOW + MINUTE, next_attempt_at=NOW + HOUR)
    seen_signer(engine, NOW + MINUTE + timedelta(seconds=1))
    assert claimed(trust, NOW + 2 * MINUTE - timedelta(seconds=1)) is None
    assert claimed(trust, NOW + 2 * MINUTE) is not None


def test_what_is_due_goes_before_what_is_hastened_and_the_budget_holds(trust: TrustStore, engine: Engine) -> None:
    """Promise 27: unknown keys of one IdP hold up neither the schedule of another nor go beyond the budget."""
    ids = [f"https://idp{number}.example" for number in range(3)]
    for each in ids:
        subscribed(engine, entity_id=each)
        trust.fail(claim_one(trust, entity_id=each), UNREACHABLE, now=NOW, next_attempt_at=NOW + HOUR)
        seen_signer(engine, NOW + timedelta(seconds=1), each)
    outside(
        engine, f"UPDATE source_states SET next_attempt_at = next_attempt_at - 3500000000 WHERE entity_id = '{ids[2]}'"
    )
    first = claimed(trust, NOW + 2 * MINUTE, budget=1)
    assert first is not None
    assert (first.entity_id, first.hastened) == (ids[2], False)
    second = claimed(trust, NOW + 2 * MINUTE, budget=1)
    assert second is not None
    assert second.hastened
    assert claimed(trust, NOW + 2 * MINUTE, budget=1) is None
    assert claimed(trust, NOW + 2 * MINUTE, budget=2) is not None


def test_a_clock_that_was_wrong_does_not_stop_a_source(trust: TrustStore, engine: Engine) -> None:
    """Instants more than a day ahead count as not set."""
    subscribed(engine)
    ahead = NOW + 400 * DAY
    claim = claim_one(trust, ahead)
    assert claimed(trust) is not None, "a claim of the future keeps nobody away"
    claim = claim_one(trust, ahead)
    trust.fail(claim, UNREACHABLE, now=ahead, next_attempt_at=ahead + HOUR)
    assert trust.next_instant(NOW) == NOW
    assert claimed(trust) is not None


def test_a_key_vouched_for_is_announced(trust: TrustStore, engine: Engine) -> None:
    """A document signed by a trusted certificate brings the next one; every process learns of it."""
    subscribed(engine)
    before = load_snapshot(engine, secrets_dir=None)
    plan = refreshed(trust, "idp", "idp_next", signer="idp", valid_until=LATER + DAY)
    assert isinstance(plan, Applied)
    assert states(trust) == {"idp": CertificateState.TRUSTED, "idp_next": CertificateState.ANNOUNCED}
    after = load_snapshot(engine, secrets_dir=None)
    assert before.version != after.version
    assert after.trust.as_of == LATER
    idp = ConfigStore(engine).get_idp(names.IDP)
    fetched = answer("idp", "idp_next", valid_until=LATER + DAY)
    assert (idp.refreshed_at, idp.valid_until, idp.document_sha256) == (LATER, LATER + DAY, fetched.document_sha256)
    assert trust.get_document(idp.document_sha256) == fetched.document
    state = trust.get_source(names.IDP).state
    assert (state.failures, state.succeeded_at, state.changed_at, state.valid_until) == (0, LATER, LATER, LATER + DAY)
    assert (state.claimed_by, state.next_attempt_at) == (None, LATER + HOUR)
    entry = ConfigStore(engine).list_acts()[0]
    assert (entry.act, entry.actor, entry.subject) == ("rollover_applied", "system:refresh", names.IDP)
    assert [each["after"] for each in entry.detail["changes"]] == ["announced"]


def test_a_document_that_says_what_is_known_changes_no_trust(trust: TrustStore, engine: Engine) -> None:
    """Processes learn that it was confirmed; trust keeps its instant and the journal its end."""
    subscribed(engine)
    with reading(engine) as connection:
        before = connection.execute(select(config_state)).one()
    assert isinstance(refreshed(trust, "idp"), Unchanged)
    with reading(engine) as connection:
        after = connection.execute(select(config_state)).one()
    assert after.counter > before.counter
    assert after.trust_changed_at == before.trust_changed_at
    assert acts(engine) == ["idp_added", "source_added"]
    claim = claim_one(trust, LATER + HOUR)
    assert trust.publish_unmodified(claim, now=LATER + HOUR, next_attempt_at=LATER + DAY, served_at=LATER)
    assert ConfigStore(engine).get_idp(names.IDP).refreshed_at == LATER + HOUR
    assert trust.get_source(names.IDP).state.served_at == LATER
    assert trust.get_source(names.IDP).state.etag == '"1"'


def test_fetched_documents_of_which_nothing_came_do_not_pile_up(trust: TrustStore, engine: Engine) -> None:
    """A source whose every answer differs leaves those that something rests on, and the newest."""
    subscribed(engine)
    uploaded = ConfigStore(engine).get_idp(names.IDP).document_sha256
    telling = answer("idp", "idp_next", salt="0").document_sha256
    refreshed(trust, "idp", "idp_next", signer="idp", salt="0")
    for number in range(1, 4):
        refreshed(trust, "idp", "idp_next", salt=str(number), now=LATER + number * HOUR)
    with reading(engine) as connection:
        stored = set(connection.scalars(select(documents.c.sha256)))
    assert stored == {uploaded, telling, answer("idp", "idp_next", salt="3").document_sha256}


def test_the_etag_comes_with_the_acceptance_only(trust: TrustStore, engine: Engine) -> None:
    """Promise 21: neither a failure, nor a stale claim, nor an upload leaves one that no accepted document has."""
    subscribed(engine)
    claim = claim_one(trust)
    trust.fail(claim, UNREACHABLE, now=NOW, next_attempt_at=NOW)
    assert trust.get_source(names.IDP).state.etag is None
    refreshed(trust, "idp", now=NOW)
    state = trust.get_source(names.IDP).state
    assert (state.etag, state.document_sha256) == ('"1"', answer("idp").document_sha256)
    trust.fail(claim_one(trust), UNREACHABLE, now=NOW, next_attempt_at=NOW)
    assert trust.get_source(names.IDP).state.etag == '"1"'
    imported(ConfigStore(engine), "idp", "idp_next", now=LATER)
    state = trust.get_source(names.IDP).state
    assert (state.etag, state.document_sha256) == (None, None), "what is in force is not what the source served"
    source = SourceConfig(url=URL)
    other = trust.add_source(entity_id=names.IDP, source=source, now=LATER, actor=ACTOR, jitter=0.0, seen=answer("idp"))
    assert (other.state.etag, other.state.next_attempt_at) == (None, LATER), "not the document in force"
    accepted = answer("idp")
    ConfigStore(engine).add_idp(
        metadata=accepted.metadata,
        document=accepted.document,
        policy=None,
        now=LATER,
        actor=ACTOR,
        origin=accepted.provenance,
    )
    seen = trust.add_source(entity_id=names.IDP, source=source, now=LATER, actor=ACTOR, jitter=0.0, seen=accepted)
    assert seen.state.etag == '"1"'
    assert seen.state.next_attempt_at > LATER


def test_what_waits_is_nowhere_but_in_its_rollover(trust: TrustStore, engine: Engine) -> None:
    """A key that nothing vouches for is in no row of certificates and in no snapshot."""
    subscribed(engine)
    plan = refreshed(trust, "idp", "idp_next")
    assert isinstance(plan, Held)
    assert states(trust) == {"idp": CertificateState.TRUSTED}
    snapshot = snapshot_document(load_snapshot(engine, secrets_dir=None))
    assert [len(each["certificates"]) for each in json.loads(snapshot)["idps"]] == [1]
    (held,) = trust.list_rollovers(state="held")
    ((certificate, before),) = held.withheld
    assert (certificate.sha256, before) == (keys.fingerprint("idp_next"), None)
    assert (held.first_seen, held.last_seen, held.sightings) == (LATER, LATER, 1)
    assert held.finding.reason is TrustReason.METADATA_KEY_WITHHELD
    assert held.provenance["tls_chain_sha256"] == CHAIN
    expected = json.dumps([names.IDP, [certificate.sha256]], separators=(",", ":"))
    assert held.id == hashlib.sha256(expected.encode()).hexdigest()[:16]
    refreshed(trust, "idp", "idp_next", now=LATER + HOUR, salt="again")
    assert trust.get_rollover(held.id) == replace(held, last_seen=LATER + HOUR, sightings=2)
    assert acts(engine).count("rollover_held") == 1
    refreshed(trust, "idp", now=LATER + 2 * HOUR)
    assert trust.get_rollover(held.id).state is RolloverState.SUPERSEDED
    with pytest.raises(Conflict, match="no longer waits"):
        trust.approve_rollover(held.id, now=LATER, actor=ACTOR)
    refreshed(trust, "idp", "idp_next", now=LATER + 3 * HOUR)
    again = trust.get_rollover(held.id)
    assert (again.state, again.first_seen, again.sightings) == (RolloverState.HELD, LATER, 3)


def test_a_held_rollover_is_approved_once(trust: TrustStore, engine: Engine) -> None:
    """The certificate is announced, by whom and why is told, and neither a second approval nor a rejection counts."""
    subscribed(engine)
    refreshed(trust, "idp", "idp_next")
    (held,) = trust.list_rollovers()
    (change,) = trust.approve_rollover(held.id, now=LATER, actor=ACTOR, note="compared by phone")
    assert (change.event, change.before) == (Event.APPROVE, None)
    assert change.certificate.state is CertificateState.ANNOUNCED
    assert states(trust)["idp_next"] is CertificateState.ANNOUNCED
    decided = trust.get_rollover(held.id)
    assert (decided.state, decided.decided_by, decided.note) == (RolloverState.APPROVED, ACTOR, "compared by phone")
    for decide in (trust.approve_rollover, trust.reject_rollover):
        with pytest.raises(Conflict, match=r"approved already by CORP"):
            decide(held.id, now=LATER, actor="other")
    assert acts(engine)[-1] == "rollover_approved"
    with pytest.raises(NotFound, match="no rollover 'x'"):
        trust.approve_rollover("x", now=LATER, actor=ACTOR)
    assert isinstance(refreshed(trust, "idp", "idp_next", now=LATER + HOUR), Unchanged)


def test_a_rejected_rollover_is_not_asked_again_and_can_be_approved(trust: TrustStore, engine: Engine) -> None:
    """Later documents with the same certificate hold nothing, until a person changes their mind."""
    subscribed(engine)
    refreshed(trust, "idp", "idp_next")
    (held,) = trust.list_rollovers()
    trust.reject_rollover(held.id, now=LATER, actor=ACTOR, note="not ours")
    assert trust.load_trust(names.IDP).rejected == {keys.fingerprint("idp_next")}
    with pytest.raises(Conflict, match="rejected already"):
        trust.reject_rollover(held.id, now=LATER, actor=ACTOR)
    assert isinstance(refreshed(trust, "idp", "idp_next", now=LATER + HOUR), Unchanged)
    assert trust.get_rollover(held.id).state is RolloverState.REJECTED
    trust.approve_rollover(held.id, now=LATER + HOUR, actor=ACTOR)
    assert states(trust)["idp_next"] is CertificateState.ANNOUNCED
    assert trust.load_trust(names.IDP).rejected == frozenset()


def test_what_was_withdrawn_comes_back_by_approval_only(trust: TrustStore, engine: Engine) -> None:
    """Promise 36: an old document that lists a retiring certificate again holds it; approval trusts it again."""
    subscribed(engine, "idp", "idp_next")
    imported(ConfigStore(engine), "idp_next", now=LATER)
    plan = refreshed(trust, "idp", "idp_next", signer="idp_next")
    assert isinstance(plan, Held)
    assert plan.finding.reason is TrustReason.METADATA_ROLLBACK
    assert states(trust)["idp"] is CertificateState.RETIRING
    (held,) = trust.list_rollovers(state="held")
    (change,) = trust.approve_rollover(held.id, now=LATER + HOUR, actor=ACTOR)
    assert (change.event, change.before) == (Event.REINSTATE, CertificateState.RETIRING)
    assert states(trust)["idp"] is CertificateState.TRUSTED
    assert isinstance(refreshed(trust, "idp", "idp_next", now=LATER + 2 * HOUR), Unchanged)


def test_a_revoked_key_is_not_approved(trust: TrustStore, engine: Engine) -> None:
    """Promise 36: the waiting certificate's key was revoked meanwhile; the way back is named."""
    subscribed(engine, "idp", "idp_next", acceptance=Acceptance.APPROVAL)
    refreshed(trust, "idp", "idp_next", "idp_renewed")
    (held,) = trust.list_rollovers()
    acted(engine, Event.REVOKE, now=LATER)
    with pytest.raises(Conflict, match=r"revoked; reinstate it by .*key reinstate"):
        trust.approve_rollover(held.id, now=LATER, actor=ACTOR)
    with pytest.raises(Conflict, match="revoked"):
        acted(engine, Event.APPROVE, "idp_renewed", now=LATER)
    refreshed(trust, "idp", "idp_next", "idp_renewed", now=LATER + HOUR)
    assert states(trust)["idp_renewed"] is CertificateState.REVOKED, "listed again, the key is still revoked"
    assert trust.get_rollover(held.id).state is RolloverState.SUPERSEDED


def test_no_plan_of_a_document_takes_away_or_brings_back(trust: TrustStore, engine: Engine) -> None:
    """Promises 36 and 39, at the store: whoever made the plan, and nothing of it is written."""
    subscribed(engine, "idp", "idp_next")
    acted(engine, Event.REVOKE)
    claim, accepted = claim_one(trust), answer("idp", "idp_next")
    before = everything(engine)
    back = tuple(
        replace(each, certificate=replace(each.certificate, state=CertificateState.TRUSTED))
        for each in claim.trust.certificates
    )
    for wrong in (back, ()):
        with pytest.raises(Conflict, match=r"may take away or bring back"):
            trust.publish(claim, Unchanged(certificates=wrong), accepted, now=LATER, next_attempt_at=LATER)
    waiting = TrackedCertificate(certificate=replace(back[0].certificate, der=der("idp_b")))
    both = Held(
        certificates=(*claim.trust.certificates, waiting),
        changes=(),
        withheld=((waiting.certificate, None),),
        finding=UNREACHABLE,
    )
    with pytest.raises(Conflict, match="waits"):
        trust.publish(claim, both, accepted, now=LATER, next_attempt_at=LATER)
    assert everything(engine) == before


def test_a_revocation_during_a_refresh_is_not_undone(trust: TrustStore, engine: Engine) -> None:
    """Promise 35: the plan was made before it, so nothing is written and the source is asked again at once."""
    subscribed(engine, "idp", "idp_next")
    claim, accepted = claim_one(trust), answer("idp", "idp_next")
    plan = planned(claim, accepted, NOW, None)
    acted(engine, Event.REVOKE, now=NOW)
    assert not trust.publish(claim, plan, accepted, now=NOW, next_attempt_at=LATER)
    assert states(trust) == {"idp_next": CertificateState.TRUSTED, "idp": CertificateState.REVOKED}
    assert trust.get_source(names.IDP).state.etag is None
    assert claimed(trust) is not None


@pytest.mark.parametrize("event_", sorted(set(Event) - {Event.APPROVE, Event.RETIRE, Event.REVOKE, Event.REINSTATE}))
def test_what_no_person_does_is_refused(engine: Engine, event_: Event) -> None:
    """Use, withdrawal and the like are observed, not ordered."""
    imported(ConfigStore(engine), "idp")
    with pytest.raises(Conflict, match="nothing that a person does"):
        acted(engine, event_)


def test_acts_follow_the_table_of_transitions(trust: TrustStore, engine: Engine) -> None:
    """Each act once, each a second time without effect, and what does not happen is refused by name."""
    imported(ConfigStore(engine), "idp", "idp_next")
    with pytest.raises(NotFound, match="no certificate"):
        trust.act(names.IDP, "urn:x", Event.REVOKE, now=NOW, actor=ACTOR)
    with pytest.raises(NotFound, match="urn:y"):
        trust.act("urn:y", "0", Event.REVOKE, now=NOW, actor=ACTOR)
    for event_, state in (
        (Event.RETIRE, CertificateState.RETIRING),
        (Event.REINSTATE, CertificateState.TRUSTED),
        (Event.REVOKE, CertificateState.REVOKED),
    ):
        (change,) = acted(engine, event_, now=LATER)
        assert (change.event, change.certificate.state, change.certificate.since) == (event_, state, LATER)
        assert states(trust)["idp"] is state
        assert acted(engine, event_, now=LATER) == ()
    for event_ in (Event.RETIRE, Event.APPROVE):
        with pytest.raises(Conflict, match=rf"revoked cannot {event_}"):
            acted(engine, event_)
    assert acts(engine)[1:] == ["certificate_retiring", "certificate_trusted", "certificate_revoked"]
    assert list(states(trust)) == ["idp_next", "idp"], "the good one is tried first"


def test_revoking_concerns_the_key(trust: TrustStore, engine: Engine) -> None:
    """Two certificates for one key are revoked and reinstated together."""
    imported(ConfigStore(engine), "idp", "idp_renewed", "idp_next")
    changes = acted(engine, Event.REVOKE)
    assert [OF_CORPUS[each.certificate.sha256] for each in changes] == ["idp", "idp_renewed"]
    assert set(states(trust).items()) > {("idp", CertificateState.REVOKED), ("idp_renewed", CertificateState.REVOKED)}
    acted(engine, Event.REINSTATE, "idp_renewed")
    assert set(states(trust).values()) == {CertificateState.TRUSTED}


def test_a_waiting_certificate_can_be_approved_and_revoked_by_name(trust: TrustStore, engine: Engine) -> None:
    """What else waits in the rollover goes on waiting, under its own name."""
    subscribed(engine)
    refreshed(trust, "idp", "idp_next", "idp_b", "strong")
    (held,) = trust.list_rollovers()
    with pytest.raises(Conflict, match="unknown cannot retire"):
        acted(engine, Event.RETIRE, "idp_next")
    acted(engine, Event.APPROVE, "idp_next", now=LATER, note="seen")
    assert states(trust)["idp_next"] is CertificateState.ANNOUNCED
    assert trust.get_rollover(held.id).state is RolloverState.SUPERSEDED
    (rest,) = trust.list_rollovers(state="held")
    assert {OF_CORPUS[certificate.sha256] for certificate, _ in rest.withheld} == {"idp_b", "strong"}
    assert rest.first_seen == held.first_seen
    acted(engine, Event.REVOKE, "idp_b", now=LATER)
    (last,) = trust.list_rollovers(state="held")
    acted(engine, Event.REVOKE, "strong", now=LATER)
    assert trust.get_rollover(last.id).state is RolloverState.REJECTED
    assert trust.list_rollovers(state="held") == ()
    assert [state for name, state in states(trust).items() if name in {"idp_b", "strong"}] == [
        CertificateState.REVOKED
    ] * 2
    (entry,) = trust.history(names.IDP, keys.fingerprint("idp_next"))
    assert (entry.provenance["note"], entry.provenance["rollover"]) == ("seen", held.id)


def test_an_upload_answers_what_waits_and_is_remembered(trust: TrustStore, engine: Engine) -> None:
    """A person's document needs no other voucher; what left it is missing from now on."""
    subscribed(engine)
    refreshed(trust, "idp", "idp_next", now=NOW)
    (held,) = trust.list_rollovers()
    imported(ConfigStore(engine), "idp_next", now=LATER)
    assert states(trust) == {"idp_next": CertificateState.TRUSTED, "idp": CertificateState.RETIRING}
    assert trust.get_rollover(held.id).state is RolloverState.SUPERSEDED
    gone = trust.load_trust(names.IDP).find(keys.fingerprint("idp"))
    assert gone is not None
    assert (gone.absent_since, gone.absences) == (LATER, 1)
    told = [
        (each.event, each.before, each.after, each.at) for each in trust.history(names.IDP, keys.fingerprint("idp"))
    ]
    assert told == [
        (Event.IMPORT, None, CertificateState.TRUSTED, NOW),
        (Event.WITHDRAW, CertificateState.TRUSTED, CertificateState.RETIRING, LATER),
    ]


def test_every_key_has_a_provenance(trust: TrustStore, engine: Engine) -> None:
    """Promise 41: source, digest of the document, TLS chain, signer or approver and times, of whichever key."""
    subscribed(engine)
    refreshed(trust, "idp", "idp_next", signer="idp")
    refreshed(trust, "idp", "idp_next", "idp_b", now=LATER + HOUR)
    (held,) = trust.list_rollovers(state="held")
    trust.approve_rollover(held.id, now=LATER + 2 * HOUR, actor=ACTOR, note="called")
    vouchers = {}
    for each in trust.load_trust(names.IDP).certificates:
        (entry,) = trust.history(names.IDP, each.certificate.sha256)
        name, told = OF_CORPUS[entry.sha256], entry.provenance
        vouchers[name] = told["voucher"]
        assert entry.at == each.certificate.since
        assert told["document_sha256"] in told["certificate"]
        assert trust.get_document(told["document_sha256"])
        if name == "idp":
            assert (entry.actor, told["source"], told["imported_by"]) == (ACTOR, "upload", ACTOR)
        else:
            assert (told["source"], told["final_url"], told["tls_chain_sha256"]) == (URL, f"{URL}/2", CHAIN)
        if name == "idp_next":
            assert entry.actor == "system:refresh"
            assert f"signed by {keys.fingerprint('idp')}" in told["certificate"]
        if name == "idp_b":
            assert (entry.actor, told["approved_by"], told["note"], told["rollover"]) == (
                ACTOR,
                ACTOR,
                "called",
                held.id,
            )
    assert vouchers == {"idp": "person", "idp_next": "continuity", "idp_b": "person"}
    with pytest.raises(Exception, match="append-only"):
        outside(engine, "UPDATE certificate_history SET actor = 'nobody'")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE certificates SET state = 'announced'",
        "UPDATE certificates SET absences = 7",
        "UPDATE certificates SET absences = 'x'",
        "UPDATE certificates SET absent_since = 5",
        "UPDATE idps SET refreshed_at = 5",
        "UPDATE idps SET valid_until = 5",
    ],
)
def test_a_damaged_idp_is_neither_refreshed_nor_changed(trust: TrustStore, engine: Engine, statement: str) -> None:
    """Promise 23: nothing is claimed or published for it, and every act on it is refused; another IdP goes on."""
    subscribed(engine)
    claim, accepted = claim_one(trust), answer("idp")
    outside(engine, statement)
    before = everything(engine)
    plan = planned(claim, accepted, NOW, None)
    for act in (
        lambda: trust.publish(claim, plan, accepted, now=NOW, next_attempt_at=LATER),
        lambda: trust.publish_unmodified(claim, now=NOW, next_attempt_at=LATER, served_at=None),
        lambda: acted(engine, Event.REVOKE),
        lambda: trust.load_trust(names.IDP),
        lambda: trust.claim_one(names.IDP, LATER, owner="w", lease=MINUTE),
    ):
        with pytest.raises(Conflict, match="changed from outside"):
            act()
    assert claimed(trust, LATER) is None
    assert trust.next_instant(LATER) is None
    assert trust.upkeep(LATER + DAY) == ()
    assert everything(engine) == before
    subscribed(engine, "idp_b", entity_id=names.OTHER_IDP)
    other = claimed(trust, LATER)
    assert other is not None
    assert other.entity_id == names.OTHER_IDP


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE sources SET url = 'https://evil.example'",
        "UPDATE sources SET metadata_certificate = x'00'",
        "UPDATE sources SET pin_sha256 = 'ff'",
        "UPDATE sources SET ca_pem = CAST(x'ff' AS TEXT)",
        "UPDATE sources SET added_at = 'soon'",
        "DELETE FROM source_states",
    ],
)
def test_a_damaged_source_is_shown_and_not_fetched(trust: TrustStore, engine: Engine, statement: str) -> None:
    """Promise 23: it is not claimed, an attempt under way counts for nothing, and setting it again heals."""
    subscribed(engine)
    claim = claim_one(trust)
    outside(engine, statement)
    assert claimed(trust, LATER) is None
    assert trust.next_instant(LATER) is None
    with pytest.raises(Conflict, match="set the source again"):
        trust.claim_one(names.IDP, LATER, owner="w", lease=MINUTE)
    assert not trust.fail(claim, UNREACHABLE, now=LATER, next_attempt_at=LATER)
    (shown,) = trust.list_sources()
    assert shown.problem is not None
    trust.add_source(entity_id=names.IDP, source=SourceConfig(url=URL), now=LATER, actor=ACTOR, jitter=0.0, seen=None)
    assert claimed(trust, LATER) is not None


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE rollovers SET state = 'rejected'",
        "UPDATE rollovers SET state = 'bogus'",
        "UPDATE rollovers SET certificates = '[]'",
        "UPDATE rollovers SET certificates = CAST(x'ff' AS TEXT)",
        "UPDATE rollovers SET entity_id = 'https://other.example'",
        "UPDATE rollovers SET provenance = '{}'",
        "UPDATE rollovers SET first_seen = 'soon'",
    ],
)
def test_a_damaged_rollover_is_shown_and_not_approved(trust: TrustStore, engine: Engine, statement: str) -> None:
    """Promise 23: it holds nothing that could be trusted; the next refresh holds its certificates anew."""
    subscribed(engine)
    subscribed(engine, "idp_b", entity_id="https://other.example")
    refreshed(trust, "idp", "idp_next")
    (held,) = trust.list_rollovers()
    outside(engine, statement)
    (shown,) = trust.list_rollovers(state="approved")
    assert shown.problem is not None
    assert shown.withheld == ()
    with pytest.raises(Conflict, match="cannot be approved: its stored row was changed from outside"):
        trust.approve_rollover(held.id, now=LATER, actor=ACTOR)
    assert trust.load_trust(names.IDP).rejected == frozenset()
    assert isinstance(refreshed(trust, "idp", "idp_next", now=LATER + HOUR), Held)
    healed = trust.get_rollover(held.id)
    assert (healed.problem, healed.state, healed.entity_id) == (None, RolloverState.HELD, names.IDP)
    assert healed.withheld != ()


def test_a_damaged_document_is_not_given_out(trust: TrustStore, engine: Engine) -> None:
    """Promise 23: a stored document is what its digest says, or none."""
    imported(ConfigStore(engine), "idp")
    digest = ConfigStore(engine).get_idp(names.IDP).document_sha256
    outside(engine, "UPDATE documents SET content = x'00'")
    with pytest.raises(Conflict, match="changed from outside"):
        trust.get_document(digest)
    with pytest.raises(NotFound, match="urn:x"):
        trust.get_document("urn:x")


class PlantedError(Exception):
    """What breaks a transaction in its middle."""


@contextlib.contextmanager
def statements(engine: Engine, broken: int) -> Iterator[None]:
    """Raise before the statement of this number of those that change something."""
    changing: list[str] = []

    def before(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("SELECT"):
            return
        if len(changing) == broken:
            raise PlantedError
        changing.append(statement)

    event.listen(engine, "before_cursor_execute", before)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", before)


def test_a_publication_that_fails_anywhere_leaves_the_old_set(tmp_path: Path) -> None:
    """Promise 43: before each statement that changes something; what is there is the old set with a valid seal."""
    engine = open_database(url_of(tmp_path / "a.db"))
    trust = TrustStore(engine)
    subscribed(engine, "idp")
    refreshed(trust, "idp", "idp_b", now=NOW)
    claim, accepted = claim_one(trust, LATER), answer("idp", "idp_next", "strong", valid_until=LATER + DAY)
    plan = planned(claim, accepted, LATER, "idp")
    assert isinstance(plan, Applied)
    certificate = plan.changes[0].certificate
    plan = Held(
        certificates=tuple(each for each in plan.certificates if each.certificate != certificate),
        changes=plan.changes[1:],
        withheld=((certificate, None),),
        finding=UNREACHABLE,
    )
    before, journal = everything(engine), acts(engine)
    published, broken = False, -1
    while not published:
        broken += 1
        with contextlib.suppress(PlantedError), statements(engine, broken):
            published = trust.publish(claim, plan, accepted, now=LATER, next_attempt_at=LATER + HOUR)
        if not published:
            assert everything(engine) == before, broken
            assert acts(engine) == journal
            assert ConfigStore(engine).get_idp(names.IDP).problem is None
            assert trust.load_trust(names.IDP) == claim.trust
    assert broken > 10
    assert ConfigStore(engine).get_idp(names.IDP).problem is None
    assert len(states(trust)) == 2
    assert len(trust.list_rollovers(state="held")) == 1
    engine.dispose()


def test_failures_are_counted_and_keep_their_beginning(trust: TrustStore, engine: Engine) -> None:
    """The same failure began when it began, another one now, and a success ends it."""
    subscribed(engine)
    trust.fail(claim_one(trust), UNREACHABLE, now=NOW, next_attempt_at=LATER)
    trust.fail(claim_one(trust), UNREACHABLE, now=LATER, next_attempt_at=LATER)
    state = trust.get_source(names.IDP).state
    assert (state.failures, state.finding, state.problem_since) == (2, UNREACHABLE, NOW)
    assert (state.problem, state.problem_text) == ("metadata_unreachable", "expected 200; got 500; at url")
    rollback = replace(UNREACHABLE, reason=TrustReason.METADATA_ROLLBACK)
    trust.fail(claim_one(trust), rollback, now=LATER, next_attempt_at=LATER)
    state = trust.get_source(names.IDP).state
    assert (state.failures, state.problem, state.problem_since) == (3, "metadata_rollback", LATER)
    assert acts(engine) == ["idp_added", "source_added"]
    refreshed(trust, "idp")
    state = trust.get_source(names.IDP).state
    assert (state.failures, state.problem, state.problem_text, state.problem_since) == (0, None, None, None)


def used(engine: Engine, name: str, day: int, sign_ins: int, *, launches: int = 9, at: datetime = LATER) -> None:
    """Use, as the journal of decisions writes it."""
    with writing(engine) as connection:
        connection.execute(
            insert(usage).values(
                entity_id=names.IDP,
                certificate_sha256=keys.fingerprint(name),
                day=day,
                sign_ins=sign_ins,
                launches=launches,
                late_sign_ins=1,
                first_sign_in=at,
                last_sign_in=at + MINUTE,
            )
        )


def test_use_is_added_up(trust: TrustStore, engine: Engine) -> None:
    """Per certificate and per day; a row that is no count is left out."""
    imported(ConfigStore(engine), "idp")
    used(engine, "idp", 20454, 2)
    used(engine, "idp", 20455, 3, at=LATER + DAY)
    used(engine, "idp_next", 20455, 1)
    outside(engine, f"UPDATE usage SET launches = 'x' WHERE certificate_sha256 = '{keys.fingerprint('idp_next')}'")
    found = trust.usage(names.IDP)
    assert set(found) == {keys.fingerprint("idp")}
    one = found[keys.fingerprint("idp")]
    assert (one.sign_ins, one.launches, one.late_sign_ins) == (5, 18, 2)
    assert (one.first_sign_in, one.last_sign_in) == (LATER, LATER + DAY + MINUTE)
    assert dict(one.per_day) == {date(2026, 1, 1): 2, date(2026, 1, 2): 3}


def test_use_promotes_and_time_retires(trust: TrustStore, engine: Engine) -> None:
    """Promise 33: the first use makes an announced key trusted; a withdrawn one ends when its evidence is too old."""
    subscribed(engine)
    refreshed(trust, "idp", "idp_next", signer="idp", now=NOW)
    assert trust.upkeep(LATER) == ()
    used(engine, "idp_next", 20454, 1)
    ((entity_id, change),) = trust.upkeep(LATER)
    assert (entity_id, change.event, change.certificate.sha256) == (names.IDP, Event.USE, keys.fingerprint("idp_next"))
    assert states(trust)["idp_next"] is CertificateState.TRUSTED
    acted(engine, Event.RETIRE, now=LATER)
    age = claim_one(trust, LATER).evidence_age
    assert trust.upkeep(LATER + age) == ()
    ((_, change),) = trust.upkeep(LATER + age + MINUTE)
    assert (change.event, change.certificate.since) == (Event.OUTLIVE, LATER)
    assert list(states(trust).items()) == [("idp_next", CertificateState.TRUSTED), ("idp", CertificateState.RETIRED)]
    assert acts(engine)[-3:] == ["certificate_trusted", "certificate_retiring", "certificate_retired"]
    assert ConfigStore(engine).list_acts()[0].actor == "system:upkeep"
    assert load_snapshot(engine, secrets_dir=None).trust.as_of == LATER + age + MINUTE


def test_good_certificates_are_tried_first(trust: TrustStore, engine: Engine) -> None:
    """A limited number is tried: good ones in the order of the document, then retiring, retired, revoked."""
    imported(ConfigStore(engine), "idp", "strong", "p256", "idp_next", "idp_b")
    acted(engine, Event.REVOKE, "idp")
    acted(engine, Event.RETIRE, "strong")
    trust.upkeep(NOW + DAY)
    acted(engine, Event.RETIRE, "p256", now=NOW + DAY)
    assert list(states(trust)) == ["idp_next", "idp_b", "p256", "strong", "idp"]


def test_unknown_signers_are_listed(trust: TrustStore, engine: Engine) -> None:
    """With the IdP in whose evidence they were seen."""
    seen_signer(engine, NOW)
    seen_signer(engine, LATER, "urn:x")
    assert [each.entity_id for each in trust.unknown_signers()] == ["urn:x", names.IDP]
    (one,) = trust.unknown_signers(names.IDP)
    assert (one.certificate_sha256, one.subject, one.denials) == ("cc" * 32, "CN=new", 3)
    assert (one.first_seen, one.last_seen) == (NOW, NOW)


def test_alarms_are_raised_and_cleared_once(trust: TrustStore, engine: Engine) -> None:
    """Promise 96: each raises one entry in the journal and clears with one; a new text alone is no new alarm."""
    alarm = Alarm(kind="rollover_held", entity_id=names.IDP, key="k", severity=Severity.CRITICAL, text="Wait.")
    other = replace(alarm, entity_id="urn:x", severity=Severity.NOTICE)
    raised, cleared = trust.sync_alarms([alarm, other], NOW)
    assert [each.entity_id for each in raised] == [names.IDP, "urn:x"]
    assert cleared == ()
    assert trust.sync_alarms([other, alarm], LATER) == ((), ())
    assert trust.sync_alarms([replace(alarm, text="Longer."), other], LATER) == ((), ())
    (standing,) = trust.open_alarms(names.IDP)
    assert (standing.text, standing.raised_at, standing.cleared_at) == ("Longer.", NOW, None)
    raised, cleared = trust.sync_alarms([alarm], LATER)
    assert raised == ()
    assert [(each.entity_id, each.cleared_at) for each in cleared] == [("urn:x", LATER)]
    assert len(trust.open_alarms()) == 1
    assert acts(engine) == ["alarm_raised", "alarm_raised", "alarm_cleared"]


def test_removing_an_idp_ends_what_is_about_it(trust: TrustStore, engine: Engine) -> None:
    """Source, holds, unknown keys and alarms go; the history and what is revoked stay."""
    subscribed(engine, "idp", "strong")
    refreshed(trust, "idp", "strong", "idp_next")
    seen_signer(engine, NOW)
    acted(engine, Event.REVOKE, "strong")
    alarm = Alarm(kind="a", entity_id=names.IDP, key="k", severity=Severity.CRITICAL, text="Look.")
    trust.sync_alarms([alarm], NOW)
    ConfigStore(engine).remove_idp(names.IDP, now=LATER, actor=ACTOR)
    assert trust.list_sources() == ()
    assert [each.state for each in trust.list_rollovers()] == [RolloverState.SUPERSEDED]
    assert trust.unknown_signers() == ()
    assert trust.open_alarms() == ()
    assert trust.next_instant(LATER) is None
    assert len(trust.history(names.IDP)) == 3
    imported(ConfigStore(engine), "idp", "strong", now=LATER)
    assert states(trust) == {"idp": CertificateState.TRUSTED, "strong": CertificateState.REVOKED}


MALFORMED = ("CAST(x'ff' AS TEXT)", "x'00ff'", "'text'", "''", "-1", "9223372036854775807", "1e300")


def test_no_malformed_state_stops_the_refresh(trust: TrustStore, engine: Engine, tmp_path: Path) -> None:
    """What is remembered of one source may be anything: it is claimed, and another source is too."""
    subscribed(engine)
    subscribed(engine, "idp_b", entity_id=names.OTHER_IDP)
    trust.fail(claim_one(trust), UNREACHABLE, now=NOW, next_attempt_at=NOW)
    connection = sqlite3.connect(tmp_path / "fas-evidence.db", isolation_level=None)
    columns = [name for _, name, *_ in connection.execute("PRAGMA table_info(source_states)") if name != "entity_id"]
    where = f"WHERE entity_id = '{names.IDP}'"
    now = NOW
    for column, value in itertools.product(columns, MALFORMED):
        now += 3 * DAY
        connection.execute(f"UPDATE source_states SET {column} = {value} {where}")
        found = [claimed(trust, now), claimed(trust, now)]
        assert {each.entity_id for each in found if each is not None} >= {names.OTHER_IDP}, (column, value)
        assert len(trust.list_sources()) == 2
        for each in found:
            if each is not None:
                trust.fail(each, UNREACHABLE, now=now, next_attempt_at=now)
        trust.remove_source(names.IDP, now=now, actor=ACTOR)
        trust.add_source(entity_id=names.IDP, source=SourceConfig(url=URL), now=now, actor=ACTOR, jitter=0.0, seen=None)
    connection.close()
