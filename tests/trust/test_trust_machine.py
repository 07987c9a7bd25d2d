"""Promise 42: the trust machine equals its model.

The refresh, the store on SQLite, three replicas' snapshots and the decision are the real ones; only the far end of
HTTPS is scripted. After every step, what is stored, what each replica holds and what each would permit is what the
model says.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, NoReturn, TypeVar

import pytest
from hypothesis import Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select
from sqlalchemy.dialects.sqlite import insert as upsert

from evidence_service.access.model import Allow, Deny
from evidence_service.adapters.config_store import ConfigStore, Conflict, NotFound
from evidence_service.adapters.database import (
    StoreUnavailable,
    certificate_history,
    certificates,
    config_state,
    idps,
    journal,
    open_database,
    reading,
    rollovers,
    source_states,
    usage,
    writing,
)
from evidence_service.adapters.snapshots import SnapshotHolder
from evidence_service.adapters.trust_store import Claim, SourceConfig, TrustStore
from idp_certs.metadata import parse_metadata
from idp_certs.model import GOOD, Acceptance, CertificateState
from idp_certs.reasons import Refused
from idp_certs.refresh import POINTS, Outcome, RefreshOutcome, RefreshRules, refresh_once
from idp_certs.rollover import Event
from tests.adapters.given import url_of
from tests.core.given import ENTITY_ID, judged, policy_for
from tests.corpus import keys
from tests.trust.model import KEY, NAMES, REMOVAL_OVER, REMOVAL_SIGHTINGS, Document, Model
from tests.trust.world import URL, Crash, Faults, ScriptedSource, evidence_of, octets_of

STEPS_IN_ALL = 10_000
SHARDS = [
    (acceptance, created, number)
    for acceptance, created in (
        (Acceptance.CONTINUITY, False),
        (Acceptance.CONTINUITY, True),
        (Acceptance.TLS, True),
        (Acceptance.APPROVAL, False),
    )
    for number in (1, 2)
]
STEPS, EXAMPLES = 30, 52
# Shrinking a failure takes longer than a test may.
PHASES = tuple(Phase) if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else (Phase.generate,)
STEPS_EACH = STEPS_IN_ALL // len(SHARDS)

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where files are written fastest: the disk's own faults are not what is tried here."""

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
LEASE = timedelta(seconds=30)
RULES = RefreshRules(usual=HOUR, removal_sightings=REMOVAL_SIGHTINGS, removal_over=REMOVAL_OVER)
NAME_OF = {keys.fingerprint(name): name for name in NAMES}
REPLICAS = range(3)
BY_HAND = (Event.RETIRE, Event.REVOKE, Event.REINSTATE, Event.APPROVE)
GENUINE = ("idp", "idp_renewed", "idp_next", "tenant")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

genuine_names = st.sampled_from(GENUINE)
any_names = st.sampled_from(NAMES)
replicas = st.sampled_from(REPLICAS)
asked = st.sampled_from((0, 1, 1, 3))
"""How often the worker comes by."""

T = TypeVar("T")


class Failed(Exception):  # noqa: N818 - an outcome
    """The fault that was planted struck, and nothing was saved."""


class Engines:
    """One database, and the engines of the worker and the replicas, which know the statements of earlier examples."""

    def __init__(self, path: Path, acceptance: Acceptance) -> None:
        """Make a database that knows the IdP and its source."""
        self.path = path
        self.registered = registered(path, acceptance)
        self.worker, *self.replicas = (open_database(url_of(path), create=False) for _ in (None, *REPLICAS))
        self.faults = Faults()
        self.faults.attach(self.worker)

    def start_anew(self) -> None:
        """The database is what it was at first, and no process knows it."""
        self.dispose()
        for log in ("-wal", "-shm"):
            assert not Path(f"{self.path}{log}").exists()
        self.path.write_bytes(self.registered)
        self.faults.disarm()

    def dispose(self) -> None:
        """All processes end."""
        for engine in (self.worker, *self.replicas):
            engine.dispose()


class TrustMachine(RuleBasedStateMachine):
    """One IdP, its source, an attacker, an administrator, three replicas and a clock."""

    acceptance: ClassVar[Acceptance]
    with_creation: ClassVar[bool]
    engines: ClassVar[Engines]
    steps: ClassVar[int]
    happened: ClassVar[Counter[str]]

    def __init__(self) -> None:
        """A registered IdP with a source that was never asked."""
        super().__init__()
        self.engines.start_anew()
        self.now = START
        self.faults = self.engines.faults
        self.engine = self.engines.worker
        self.store = TrustStore(self.engine)
        self.readers = self.engines.replicas
        self.holders = [SnapshotHolder(each, secrets_dir=None) for each in self.readers]
        self.model = Model(acceptance=self.acceptance, good={"idp"})
        self.views = [self.model.copy() for _ in REPLICAS]
        self.listed: tuple[str, ...] = ("idp",)
        self.signing = "idp"
        self.signs_metadata = True
        self.published: list[Document] = []
        self.source = ScriptedSource(None)
        self.left_behind: datetime | None = None
        self.revoked_keys: set[str] = set()
        self.turn = 0
        type(self).steps -= 1  # the check of the start is no step

    def teardown(self) -> None:
        """Every certificate has a history that ends with its state (promise 41), and nothing stays open."""
        trust = self.store.load_trust(ENTITY_ID)
        for each in trust.certificates:
            history = self.store.history(ENTITY_ID, each.certificate.sha256)
            assert history[-1].after == each.certificate.state
            assert history[0].before is None
            assert all(one.after == following.before for one, following in pairwise(history))
        self.engines.dispose()

    # --- what is compared ---

    def stored(self) -> tuple[object, ...]:
        """Everything that a failed save must leave alone."""
        tables = (certificates, idps, rollovers, certificate_history, journal, config_state, source_states)
        with reading(self.engine) as connection:
            return tuple(tuple(connection.execute(select(table)).all()) for table in tables)

    def save(self, work: Callable[[], T]) -> T:
        """Do what writes. Raises Failed where the planted fault struck, after which everything is as it was."""
        before = self.stored() if self.faults.countdown is not None else None
        try:
            result = work()
        except Crash:
            self._restart_worker()
            self._unsaved("crash", before)
        except StoreUnavailable:
            self._unsaved("failed save", before)
        if isinstance(result, RefreshOutcome) and isinstance(result.error, StoreUnavailable):
            # That it failed may be written beside it, so that it is not tried again without end.
            assert result.outcome in (Outcome.NOT_RECORDED, Outcome.FAILED)
            if result.outcome is Outcome.FAILED:
                self.left_behind = None
            self._unsaved("failed save", before, but=1)
        assert not self.faults.disarm()
        return result

    def _unsaved(self, what: str, before: tuple[object, ...] | None, *, but: int = 0) -> NoReturn:
        """Where the fault struck, all is as it was, but for the last so many tables."""
        assert self.faults.disarm()
        assert before is not None
        assert before[: len(before) - but] == self.stored()[: len(before) - but]
        self.happened[what] += 1
        raise Failed

    def _restart_worker(self) -> None:
        self.engine.dispose()
        self.store = TrustStore(self.engine)

    # --- the IdP ---

    def _publish(self, listed: tuple[str, ...], signer: str | None) -> None:
        self.listed = listed
        created = self.now if self.with_creation else None
        document = Document(lists=listed, signer=signer, created=created)
        self.published.append(document)
        self.source.serves = document

    @initialize()
    def the_idp_publishes(self) -> None:
        """Its first document is what was imported."""
        self._publish(("idp",), "idp")

    @rule(
        does=st.sampled_from(("announces", "promotes", "removes", "rolls", "rolls", "signs")),
        name=genuine_names,
        by=st.sampled_from(("old", "new", None)),
        asked=asked,
    )
    def the_idp_changes(self, does: str, name: str, by: str | None, asked: int) -> None:
        """It announces a certificate, signs with another that it lists, removes one, or lists one instead of all.

        The document of an urgent rollover is signed by the old key, the new one, or none; others by the key in use,
        unless it stopped to sign its metadata.
        """
        old, listed = self.signing, self.listed
        if does == "announces":
            listed = (*listed, *({name} - set(listed)))
        elif does == "promotes" and name in listed:
            self.signing = KEY[name]
        elif does == "removes" and self.signing in {KEY[each] for each in listed if each != name}:
            listed = tuple(each for each in listed if each != name)
        elif does == "rolls":
            self.signing, listed = KEY[name], (name,)
        elif does == "signs":
            self.signs_metadata = not self.signs_metadata
        signer = self.signing if self.signs_metadata else None
        self._publish(listed, {"old": old, "new": self.signing, None: None}[by] if does == "rolls" else signer)
        self._ask_for(asked)

    # --- the source, and who sits on it ---

    @rule(
        names=st.lists(any_names, unique=True, max_size=3),
        signer=st.sampled_from(("attacker", None)),
        ahead=st.sampled_from((None, timedelta(0), 900 * DAY)),
        asked=asked,
    )
    def the_attacker_forges(self, names: list[str], signer: str | None, ahead: timedelta | None, asked: int) -> None:
        """A document with his key, or with anybody's, signed by him or not at all (G21)."""
        lists = ("attacker", *sorted(set(names) - {"attacker"}))
        created = None if ahead is None else self.now + ahead
        self.source.serves = Document(lists=lists, signer=signer, created=created)
        self._ask_for(asked)

    @rule(back=st.integers(0, 5), asked=asked)
    def the_attacker_replays(self, back: int, asked: int) -> None:
        """An old document, genuine in every byte (G09)."""
        self.source.serves = self.published[max(len(self.published) - 1 - back, 0)]
        self._ask_for(asked)

    @rule(
        serves=st.sampled_from(
            ({"changed": True}, {"of_another_idp": True}, {"lists": ()}, None, b"", b"<html/>", b"<!DOCTYPE x><x/>")
        ),
        asked=asked,
    )
    def the_source_fails(self, serves: dict[str, Any] | bytes | None, asked: int) -> None:
        """An outage, garbage, or the document of now changed after it was signed, of another IdP, or empty."""
        last = self.published[-1]
        self.source.serves = replace(last, **serves) if isinstance(serves, dict) else serves
        self._ask_for(asked)

    @rule(asked=asked)
    def the_source_recovers(self, asked: int) -> None:
        """It serves what the IdP published last."""
        self.source.serves = self.published[-1]
        self._ask_for(asked)

    def _ask_for(self, times: int) -> None:
        """The worker may come by at once, and again."""
        for _ in range(times):
            self.the_worker_refreshes()
            self.now += 31 * MINUTE

    # --- time and faults ---

    @rule(by=st.sampled_from((MINUTE, 20 * MINUTE, HOUR, 4 * HOUR, 9 * HOUR)))
    def time_passes(self, by: timedelta) -> None:
        """As it does."""
        self.now += by

    @rule(by=st.sampled_from((-30 * DAY, -2 * DAY, -3 * HOUR, -MINUTE, DAY, 40 * DAY)))
    def the_clock_jumps(self, by: timedelta) -> None:
        """Back, or ahead."""
        self.now += by
        self.happened["clock went back"] += by < timedelta(0)

    @rule(statement=st.integers(0, 30), crash=st.booleans())
    def something_will_break(self, statement: int, crash: bool) -> None:
        """The next transaction that writes fails at one of its statements."""
        self.faults.arm(statement, crash=crash)

    # --- the worker ---

    def _claim(self) -> Claim | None:
        """The right to refresh, which only somebody's unfinished attempt can withhold."""
        armed, self.faults.countdown = self.faults.countdown, None
        claim = self.store.claim_one(ENTITY_ID, self.now, owner="worker", lease=LEASE)
        self.faults.countdown = armed
        if claim is None:
            assert self.left_behind is not None
            assert self.now < self.left_behind
            return None
        if self.left_behind is not None:
            assert not self.now < self.left_behind <= self.now + LEASE
        self.left_behind = self.now + LEASE
        return claim

    def _refresh(self, claim: Claim, dies_at: str | None = None) -> RefreshOutcome:
        def at_point(point: str) -> None:
            if point == dies_at:
                raise Crash

        return refresh_once(claim, store=self.store, fetch=self.source, rules=RULES, now=self.now, at_point=at_point)

    def _expect(self, outcome: RefreshOutcome) -> None:
        """The model hears what the source served, and agrees on what came of it."""
        self.left_behind = None
        serves = self.source.serves
        word = self.model.receive(serves, self.now) if isinstance(serves, Document) else "nothing"
        self.happened[word] += 1
        expected = {"waits": {Outcome.HELD}, "changes": {Outcome.APPLIED}, "says the same": {Outcome.UNCHANGED}}
        assert outcome.outcome in expected.get(word, {Outcome.FAILED}), word
        if outcome.outcome is Outcome.APPLIED:
            self.happened["withdrawn"] += any(each.event is Event.WITHDRAW for each in outcome.changes)

    @rule()
    def the_worker_refreshes(self) -> None:
        """Once, now."""
        claim = self._claim()
        if claim is None:
            return
        good = set(self.model.good)
        try:
            self._expect(self.save(lambda: self._refresh(claim)))
        except Failed:
            return
        assert self.model.good or not good

    @rule()
    def the_worker_looks_whether_it_is_time(self) -> None:
        """What is not due is left alone."""
        armed, self.faults.countdown = self.faults.countdown, None
        due = self.store.next_instant(self.now)
        claim = self.store.claim(self.now, owner="worker", lease=LEASE, cool_down=MINUTE, hasten_budget=10)
        self.faults.countdown = armed
        assert due is not None
        assert (claim is not None) == (due <= self.now)
        if claim is not None:
            self.happened["due"] += 1
            self.left_behind = self.now + LEASE
            try:
                self._expect(self.save(lambda: self._refresh(claim)))
            except Failed:
                return

    @rule(point=st.sampled_from(POINTS))
    def the_worker_dies(self, point: str) -> None:
        """At one point of a refresh; only past the last one is anything kept."""
        claim = self._claim()
        if claim is None:
            return
        self.faults.disarm()
        before = self.stored()
        try:
            outcome = self._refresh(claim, dies_at=point)
        except Crash:
            self._restart_worker()
            self.happened["died"] += 1
            if point != POINTS[-1]:
                assert before == self.stored()
                return
            assert before != self.stored()
            serves = self.source.serves
            if isinstance(serves, Document):
                self.model.receive(serves, self.now)
            self.left_behind = None
        else:
            self._expect(outcome)

    @rule()
    def two_workers_refresh(self) -> None:
        """The slow one comes last, and counts for nothing."""
        slow = self._claim()
        if slow is None:
            return
        self.faults.disarm()
        self.now += LEASE + timedelta(seconds=1)
        quick = self._claim()
        assert quick is not None
        self._expect(self._refresh(quick))
        before = self.stored()
        assert self._refresh(slow).outcome is Outcome.OVERTAKEN
        assert before == self.stored()
        self.happened["overtaken"] += 1

    @rule(name=any_names, event=st.sampled_from((Event.RETIRE, Event.REVOKE)))
    def an_administrator_acts_during_a_refresh(self, name: str, event: Event) -> None:
        """What was planned without knowing of it is not put into force."""
        claim = self._claim()
        if claim is None:
            return
        self.faults.disarm()
        before = self.store.load_trust(ENTITY_ID)
        self.an_administrator_acts(name, event)
        if before == self.store.load_trust(ENTITY_ID):
            self._expect(self._refresh(claim))
            return
        acted = self.store.load_trust(ENTITY_ID)
        outcome = self._refresh(claim).outcome
        self.left_behind = None
        self.happened["acted during a refresh"] += 1
        # Unchanged: the source says that the same document stands, which is so whatever is trusted.
        assert outcome in (Outcome.OVERTAKEN, Outcome.FAILED, Outcome.UNCHANGED)
        assert acted == self.store.load_trust(ENTITY_ID)

    @rule()
    def upkeep(self) -> None:
        """Time and use count."""
        expected = self.model.copy()
        expected.pass_time(self.now)
        try:
            self.save(lambda: self.store.upkeep(self.now))
        except Failed:
            return
        self.happened["over"] += len(expected.over) > len(self.model.over)
        self.model = expected

    # --- people ---

    @rule(number=st.integers(0, 4), event=st.sampled_from(BY_HAND), sensible=st.booleans())
    def an_administrator_acts_on_one(self, number: int, event: Event, sensible: bool) -> None:
        """Of all certificates, or of those to which it can be done."""
        model = self.model
        names = {
            Event.RETIRE: model.good,
            Event.REVOKE: model.known | model.waiting | model.rejected,
            Event.REINSTATE: model.known - model.good,
            Event.APPROVE: model.waiting | model.rejected,
        }[event]
        some = sorted(names) if sensible and names else NAMES
        self.an_administrator_acts(some[number % len(some)], event)

    def an_administrator_acts(self, name: str, event: Event) -> None:
        """On this certificate."""
        expected = self.model.copy()
        does = {
            Event.RETIRE: lambda: expected.retire(name, self.now),
            Event.REVOKE: lambda: expected.revoke(name),
            Event.REINSTATE: lambda: expected.reinstate(name),
            Event.APPROVE: lambda: expected.allow(name),
        }[event]()
        sha256 = keys.fingerprint(name)
        try:
            changes = self.save(lambda: self.store.act(ENTITY_ID, sha256, event, now=self.now, actor="CORP\\admin"))
        except Failed:
            return
        except (Conflict, NotFound):
            self.faults.disarm()
            assert not does
            return
        if not does:  # such as the approval of what is announced
            assert all(each.before in GOOD and each.certificate.state in GOOD for each in changes)
            if changes:  # a person's word: sightings of its absence count anew
                self.model.missing.pop(name, None)
            return
        assert changes
        self.happened[event] += 1
        self.model = expected
        if event is Event.REVOKE:
            self.revoked_keys.add(KEY[name])
        elif event is Event.REINSTATE:
            self.revoked_keys.discard(KEY[name])

    @precondition(lambda self: self.model.waiting)
    @rule(does=st.sampled_from(("approve", "reject", "approve one")))
    def an_administrator_decides(self, does: str) -> None:
        """On what waits."""
        if does == "approve one":
            self.an_administrator_acts(min(self.model.waiting), Event.APPROVE)
            return
        approve = does == "approve"
        for held in self.store.list_rollovers(state="held"):
            names = {NAME_OF[certificate.sha256] for certificate, _ in held.withheld}
            expected = self.model.copy()
            possible = True
            if approve:
                possible = expected.approve(names)
            else:
                expected.reject(names)
            decide: Callable[..., object] = self.store.approve_rollover if approve else self.store.reject_rollover
            try:
                self.save(partial(decide, held.id, now=self.now, actor="CORP\\admin"))
            except Failed:
                return
            except Conflict:
                self.faults.disarm()
                assert not possible
                return
            assert possible
            self.happened["approved" if approve else "rejected"] += 1
            self.model = expected

    @rule()
    def an_administrator_uploads(self) -> None:
        """The document that the IdP published last."""
        document = self.published[-1]
        (metadata,) = parse_metadata(octets_of(document))
        expected = self.model.copy()
        possible = expected.upload(document, self.now)
        try:
            self.save(
                lambda: ConfigStore(self.engine).add_idp(
                    metadata=metadata, document=octets_of(document), policy=None, now=self.now, actor="CORP\\admin"
                )
            )
        except Failed:
            return
        except Refused:
            self.faults.disarm()
            assert not possible
            return
        assert possible
        self.happened["uploaded"] += 1
        self.model = expected

    # --- the replicas ---

    @rule(replica=replicas, restart=st.booleans())
    def a_replica_refreshes(self, replica: int, restart: bool) -> None:
        """Its memory is then the disk."""
        if restart:
            self.readers[replica].dispose()
            self.holders[replica] = SnapshotHolder(self.readers[replica], secrets_dir=None)
        self.holders[replica].refresh()
        self.views[replica] = self.model.copy()

    @rule(
        replica=replicas,
        name=any_names,
        age=st.sampled_from((timedelta(0), MINUTE, HOUR, 4 * HOUR, 8 * HOUR, 9 * HOUR)),
    )
    def a_user_signs_in(self, replica: int, name: str, age: timedelta) -> None:
        """With evidence of that age, signed by that key, at that replica."""
        self._ask(replica, KEY[name], age)

    def _ask(self, replica: int, key: str, age: timedelta) -> None:
        """The decision is the model's, as of the replica's last refresh, with the same reason."""
        issued = self.now - age
        decision = judged(evidence_of(key, issued), self.holders[replica].current(), self.now)
        expected = self.views[replica].verdict(key, issued)
        if isinstance(decision, Allow):
            assert expected in ("ok", None)
            assert age <= 8 * HOUR
            self.happened["allowed"] += 1
            self._count(decision.assertion.certificate_sha256)
            return
        assert isinstance(decision, Deny)
        reasons = {str(finding.reason) for finding in decision.findings}
        if expected == "ok":
            assert age > 8 * HOUR
            assert not reasons & {"certificate_retired", "certificate_revoked", "signature_invalid"}
            return
        assert reasons & ({"certificate_retired"} if expected is None else {expected})
        self.happened[f"denied {expected}"] += 1

    def _count(self, sha256: str) -> None:
        """What the journal counts in the transaction that records an allow."""
        day = (self.now - EPOCH).days
        values = {"entity_id": ENTITY_ID, "certificate_sha256": sha256, "day": day, "sign_ins": 1, "launches": 1}
        with writing(self.readers[0]) as connection:
            statement = upsert(usage).values(**values, late_sign_ins=0, first_sign_in=self.now, last_sign_in=self.now)
            connection.execute(statement.on_conflict_do_nothing())

    # --- what holds after every step ---

    @invariant()
    def what_is_stored_is_what_the_model_says(self) -> None:
        """Every certificate is where it should be, and nothing else is known."""
        type(self).steps += 1
        trust = self.store.load_trust(ENTITY_ID)
        good, revoked = set(), set()
        withdrawn: dict[str, datetime] = {}
        over: dict[str, datetime] = {}
        for each in trust.certificates:
            name, since = NAME_OF[each.certificate.sha256], each.certificate.since
            if each.certificate.state in GOOD:
                good.add(name)
            elif each.certificate.state is CertificateState.REVOKED:
                revoked.add(name)
            else:
                (withdrawn if each.certificate.state is CertificateState.RETIRING else over)[name] = since
        model = self.model
        assert (model.good, model.withdrawn, model.over, model.revoked) == (good, withdrawn, over, revoked)
        held = self.store.list_rollovers(state="held")
        waiting = {NAME_OF[certificate.sha256] for each in held for certificate, _ in each.withheld}
        assert model.waiting - model.revoked == waiting - model.revoked
        assert not {KEY[name] for name in good} & self.revoked_keys

    @invariant()
    def what_a_replica_would_permit_is_what_the_model_says(self) -> None:
        """One replica and one key after the other, so that every pair is asked in turn."""
        self.turn += 1
        self._ask(self.turn % len(REPLICAS), KEY[NAMES[self.turn % len(NAMES)]], timedelta(0))

    @invariant()
    def memory_is_the_disk(self) -> None:
        """One replica after the other takes over what is stored, and holds just that."""
        if self.turn % 4:
            return
        replica = self.turn // 4 % len(REPLICAS)
        self.a_replica_refreshes(replica, restart=False)
        provider = self.holders[replica].current().trust.providers[ENTITY_ID]
        trust = self.store.load_trust(ENTITY_ID)
        assert set(provider.certificates) == {each.certificate for each in trust.certificates}
        for name in self.model.good:  # nothing that is published and accepted is denied for longer than one refresh
            if not self.model.is_revoked(name):
                self._ask(replica, KEY[name], timedelta(0))


EVERYWHERE = {
    "allowed",
    "changes",
    "clock went back",
    "denied certificate_retired",
    "denied certificate_revoked",
    "denied signature_invalid",
    "died",
    "nothing",
    "over",
    "overtaken",
    "says the same",
    "uploaded",
    "waits",
    "withdrawn",
    Event.RETIRE,
    Event.REVOKE,
    Event.REINSTATE,
}
"""What every shard has seen; the rest is done on purpose below, as chance may miss it."""


def registered(path: Path, acceptance: Acceptance) -> bytes:
    """A database that knows the IdP and its source, as it is on disk."""
    engine = open_database(url_of(path))
    document = octets_of(Document(lists=("idp",), signer="idp"))
    (metadata,) = parse_metadata(document)
    policy = policy_for(decryption_keys=(), acceptance=acceptance)
    ConfigStore(engine).add_idp(
        metadata=metadata, document=document, policy=policy, now=START - DAY, actor="CORP\\admin"
    )
    TrustStore(engine).add_source(
        entity_id=ENTITY_ID,
        source=SourceConfig(url=URL),
        now=START - DAY,
        actor="CORP\\admin",
        jitter=0.5,
        seen=None,
    )
    engine.dispose()
    return path.read_bytes()


@pytest.fixture
def database() -> Iterator[Path]:
    """Where the database is to be."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        yield Path(directory) / "fas-evidence.db"


@pytest.mark.parametrize(("acceptance", "with_creation", "number"), SHARDS)
def test_the_machine_equals_its_model(acceptance: Acceptance, with_creation: bool, number: int, database: Path) -> None:
    """Promise 42, in shards of which each runs its part of 10,000 steps, the same ones each time."""

    class Shard(TrustMachine):
        """One way of accepting, one kind of IdP."""

    Shard.acceptance, Shard.with_creation = acceptance, with_creation
    Shard.engines, Shard.steps, Shard.happened = Engines(database, acceptance), 0, Counter()

    run_state_machine_as_test(
        seed(number)(Shard),
        settings=settings(max_examples=EXAMPLES, stateful_step_count=STEPS, database=None, phases=PHASES),
    )

    assert Shard.steps >= STEPS_EACH
    assert EVERYWHERE - Shard.happened.keys() == set()


@pytest.mark.parametrize("statement", [0, 2, 5, 10, 99])
@pytest.mark.parametrize("crash", [True, False])
def test_on_purpose(statement: int, crash: bool, database: Path) -> None:
    """Promise 42: what chance may miss, one after the other, with the same checks after each."""

    class Scripted(TrustMachine):
        """No chance in it."""

    Scripted.acceptance, Scripted.with_creation = Acceptance.CONTINUITY, True
    Scripted.engines, Scripted.steps, Scripted.happened = Engines(database, Acceptance.CONTINUITY), 0, Counter()
    machine = Scripted()
    script: list[Callable[[], object]] = [
        machine.the_idp_publishes,
        machine.the_worker_looks_whether_it_is_time,
        partial(machine.time_passes, HOUR),
        partial(machine.the_idp_changes, "announces", "idp_next", None, asked=1),
        partial(machine.the_source_fails, {"changed": True}, asked=1),
        partial(machine.the_source_fails, {"of_another_idp": True}, asked=1),
        partial(machine.the_source_fails, {"lists": ()}, asked=1),
        partial(machine.the_attacker_replays, 1, asked=1),
        partial(machine.the_attacker_forges, [], "attacker", 900 * DAY, asked=1),
        partial(machine.the_source_recovers, asked=1),
        partial(machine.the_attacker_forges, [], "attacker", 900 * DAY, asked=1),
        partial(machine.an_administrator_decides, "reject"),
        partial(machine.an_administrator_acts_during_a_refresh, "idp", Event.RETIRE),
        partial(machine.the_idp_changes, "rolls", "tenant", "new", asked=1),
        partial(machine.an_administrator_decides, "approve one"),
        partial(machine.the_attacker_forges, ["idp_renewed"], None, None, asked=1),
        partial(machine.an_administrator_decides, "approve"),
        partial(machine.something_will_break, statement, crash=crash),
        partial(machine.the_idp_changes, "rolls", "idp_next", "old", asked=3),
        partial(machine.time_passes, HOUR),
        partial(machine.the_source_recovers, asked=3),
    ]
    for step in script:
        step()
        machine.what_is_stored_is_what_the_model_says()
        machine.what_a_replica_would_permit_is_what_the_model_says()
        machine.memory_is_the_disk()
    machine.teardown()

    on_purpose = {
        "acted during a refresh",
        "approved",
        "changed after it was signed",
        "crash" if crash else "failed save",
        "due",
        "empty",
        "of another IdP",
        "older",
        "rejected",
        Event.APPROVE,
    }
    assert on_purpose - Scripted.happened.keys() == set()
