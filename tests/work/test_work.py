"""The worker's loop: who refreshes when, what it survives, and which alarms it raises."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Literal

import pytest
from sqlalchemy import text as sql
from sqlalchemy import update

from evidence_service.access.decide import decide
from evidence_service.access.model import Allow
from evidence_service.adapters.database import idps, open_database, source_states
from evidence_service.adapters.snapshots import load_snapshot
from evidence_service.adapters.trust_store import RolloverState
from evidence_service.settings import Settings
from evidence_service.work import Worker, WorkRules, work_rules
from idp_certs.fetch import Fetched, FetchRules, Source
from idp_certs.model import Acceptance, CertificateState
from idp_certs.refresh import RefreshRules
from tests.adapters.given import NOW as GIVEN_NOW
from tests.adapters.given import request
from tests.adapters.recording import launch
from tests.corpus import keys, names
from tests.work.given import NOW, RULES, Clock, Site, document, site, with_refresh

TRUSTED, ANNOUNCED, RETIRING = CertificateState.TRUSTED, CertificateState.ANNOUNCED, CertificateState.RETIRING
PATIENCE = 60.0


def until(true: Callable[[], bool]) -> None:
    """Wait for it."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def running(here: Site) -> Iterator[Site]:
    """A site whose worker runs in a thread."""
    stop = threading.Event()
    thread = threading.Thread(target=here.worker.run, args=(stop,))
    thread.start()
    yield here
    stop.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_what_is_due_is_refreshed_and_then_left_alone(running: Site) -> None:
    """One fetch at its time, and none before the next."""
    running.subscribe(document("idp"))
    running.serve(document("idp", "idp_next", signed_by="idp"))

    until(lambda: running.states() == {"idp": TRUSTED, "idp_next": ANNOUNCED})
    time.sleep(0.5)
    assert running.server.requests("/md") == 1

    running.due()
    until(lambda: running.server.requests("/md") == 2)


def test_a_slow_source_holds_up_no_other(running: Site) -> None:
    """While one does not answer, the others are refreshed, and it is not asked twice at a time."""
    running.subscribe(document("idp"))
    running.server.serve("/md", document("idp"), delay=2 * PATIENCE)
    until(lambda: running.server.connections == 1)
    running.subscribe(document("idp_b", entity_id=names.OTHER_IDP), entity_id=names.OTHER_IDP, path="/other")
    running.serve(document("idp_b", entity_id=names.OTHER_IDP), path="/other")

    until(lambda: running.trust.get_source(names.OTHER_IDP).state.succeeded_at is not None)
    assert running.trust.get_source(names.IDP).state.succeeded_at is None
    assert running.server.requests("/md") <= 1


def test_promise_29_an_unannounced_key_is_taken_over_at_once_by_continuity(running: Site) -> None:
    """The denied evidence of a new key asks for a refresh long before it is due, and the old key vouches."""
    running.subscribe(document("idp"))
    running.serve(document("idp"))
    until(lambda: running.trust.get_source(names.IDP).state.succeeded_at is not None)
    running.clock.forward(minutes=5)
    running.serve(document("idp", "idp_next", signed_by="idp"))
    running.meet_unknown("idp_next")

    until(lambda: running.states() == {"idp": TRUSTED, "idp_next": ANNOUNCED})
    until(lambda: running.alarms("unknown_signer") == [])
    assert running.trust.get_source(names.IDP).state.hastened_at == running.clock.now


def test_promise_29_with_tls_acceptance_a_swapped_key_is_taken_over_at_once(running: Site) -> None:
    """Keycloak swaps its only key: verified TLS is enough where the policy says so."""
    running.subscribe(document("idp"), acceptance=Acceptance.TLS)
    running.serve(document("idp"))
    until(lambda: running.trust.get_source(names.IDP).state.succeeded_at is not None)
    running.clock.forward(minutes=5)
    running.serve(document("idp_next"))
    running.meet_unknown("idp_next")

    until(lambda: running.states().get("idp_next") is ANNOUNCED)


def test_promise_29_otherwise_one_approval_is_enough(running: Site) -> None:
    """The key waits with an alarm that names it, and decides the next launch once a person approved it."""
    running.subscribe(document("idp_b"))
    running.serve(document("idp_b"))
    until(lambda: running.trust.get_source(names.IDP).state.succeeded_at is not None)
    running.clock.forward(minutes=5)
    running.serve(document("idp", signed_by="idp"))
    running.meet_unknown("idp")
    until(lambda: len(running.alarms("rollover_held")) == 1)
    (held,) = running.trust.list_rollovers(state=RolloverState.HELD)
    assert keys.fingerprint("idp") in running.alarms("rollover_held")[0].text
    question = request(launch())
    assert not isinstance(decide(question, load_snapshot(running.engine, secrets_dir=None), NOW), Allow)

    running.trust.approve_rollover(held.id, now=running.clock.now, actor="cli:admin", note="compared by telephone")

    assert isinstance(decide(question, load_snapshot(running.engine, secrets_dir=None), NOW), Allow)


def test_promise_27_unknown_keys_ask_at_most_once_in_a_cool_down(running: Site) -> None:
    """However often an unknown key is seen, and whether the fetch succeeds or not."""
    running.subscribe(document("idp"))
    running.serve(document("idp"))
    until(lambda: running.trust.get_source(names.IDP).state.succeeded_at is not None)
    for certificate in ("attacker", "idp_b", "tenant"):
        running.clock.forward(seconds=10)
        running.meet_unknown(certificate)
        time.sleep(0.3)
    assert running.server.requests("/md") == 1

    running.clock.forward(seconds=31)
    until(lambda: running.server.requests("/md") == 2)
    time.sleep(0.3)
    assert running.server.requests("/md") == 2


def test_promise_32_many_workers_ask_each_source_once(tmp_path: Path) -> None:
    """Whoever starts together shares the work: one fetch per source and due time, at instants that are spread."""
    with site(tmp_path) as here:
        idps_ = [f"https://idp{number}.example/saml" for number in range(6)]
        for number, entity_id in enumerate(idps_):
            data = document("idp", entity_id=entity_id)
            here.subscribe(data, entity_id=entity_id, path=f"/{number}", jitter=number / 6)
            here.serve(data, path=f"/{number}")
        engines = [open_database(str(here.engine.url), busy_timeout=timedelta(seconds=30)) for _ in range(8)]
        together = threading.Barrier(len(engines))

        def work(worker: Worker) -> None:
            together.wait()
            worker.round()

        for _ in range(2):
            threads = [threading.Thread(target=work, args=(Worker(e, RULES, clock=here.clock),)) for e in engines]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            here.clock.forward(hours=1)
        for engine in engines:
            engine.dispose()

        assert [here.server.requests(f"/{number}") for number in range(6)] == [2] * 6
        states = [here.trust.get_source(entity_id).state for entity_id in idps_]
        assert [each.jitter for each in states] == [number / 6 for number in range(6)]
        assert len({each.next_attempt_at for each in states}) == 6
        assert all(each.epoch == 2 for each in states)


def test_a_claim_that_expired_is_taken_by_another_and_the_late_one_writes_nothing(here: Site) -> None:
    """A process that slept through its lease cannot put old news over new (the epoch is the fence)."""
    here.subscribe(document("idp"))
    here.serve(document("idp", "idp_next", signed_by="idp"))
    other = Worker(here.engine, RULES, clock=here.clock)

    def overtaken(point: str) -> None:
        if point == "planned":
            here.clock.forward(minutes=10)
            here.serve(document("idp", "idp_renewed", signed_by="idp"))
            other.round()

    Worker(here.engine, RULES, clock=here.clock, at_point=overtaken).round()

    assert here.states() == {"idp": TRUSTED, "idp_renewed": ANNOUNCED}
    assert here.server.requests("/md") == 2


def test_a_damaged_idp_is_denied_and_the_others_are_refreshed(running: Site) -> None:
    """What was changed from outside is not refreshed into trust, and holds up nobody (promise 23)."""
    running.clock.now = NOW - timedelta(hours=1)
    running.subscribe(document("idp"))
    running.subscribe(document("idp_b", entity_id=names.OTHER_IDP), entity_id=names.OTHER_IDP, path="/other")
    running.serve(document("idp_b", entity_id=names.OTHER_IDP), path="/other")
    with running.engine.begin() as connection:
        connection.execute(update(idps).where(idps.c.entity_id == names.IDP).values(sso_urls="[]"))

    running.serve(document("idp", "attacker"))
    running.clock.now = NOW
    until(lambda: running.trust.get_source(names.OTHER_IDP).state.succeeded_at == NOW)
    until(lambda: [each.entity_id for each in running.alarms("trust_damaged")] == [names.IDP])
    snapshot = load_snapshot(running.engine, secrets_dir=None)
    assert snapshot.trust.providers[names.IDP].certificates == ()


def test_a_database_that_goes_away_and_comes_back_stops_nothing(running: Site) -> None:
    """What fails is tried again, and the loop lives."""
    running.subscribe(document("idp"))
    running.serve(document("idp"))
    until(lambda: running.trust.get_source(names.IDP).state.succeeded_at is not None)
    with running.engine.begin() as connection:
        connection.execute(sql("ALTER TABLE source_states RENAME TO elsewhere"))
    running.clock.forward(hours=1)
    time.sleep(0.5)
    with running.engine.begin() as connection:
        connection.execute(sql("ALTER TABLE elsewhere RENAME TO source_states"))

    until(lambda: running.server.requests("/md") == 2)


@pytest.mark.parametrize("jump", [timedelta(days=-3), timedelta(days=400)], ids=["back", "ahead"])
def test_a_clock_that_was_wrong_stops_no_refresh(here: Site, jump: timedelta) -> None:
    """Instants that a wrong clock stored do not freeze a source for longer than a day's schedule."""
    here.subscribe(document("idp"))
    here.serve(document("idp"))
    assert here.refresh()
    here.clock.now += jump
    assert here.worker.round()
    before = here.server.requests("/md")

    here.clock.now = NOW + timedelta(hours=25)
    for _ in range(2):
        assert here.worker.round()
        here.clock.forward(hours=1, minutes=1)

    assert here.server.requests("/md") >= before + 1
    state = here.trust.get_source(names.IDP).state
    assert state.next_attempt_at - here.clock.now < timedelta(days=1)


def test_an_attempt_planned_by_a_wrong_clock_is_due(here: Site) -> None:
    """A next attempt years ahead is no schedule of ours."""
    here.subscribe(document("idp"))
    here.serve(document("idp"))
    with here.engine.begin() as connection:
        connection.execute(update(source_states).values(next_attempt_at=NOW + timedelta(days=400)))

    assert here.worker.round()
    assert here.server.requests("/md") == 1


def _alarm_keys(here: Site, kind: str) -> set[str]:
    here.worker.synchronise_alarms()
    return {each.key for each in here.alarms(kind)}


def test_promise_25_depletion_is_announced_at_its_levels_once_each_and_clears(tmp_path: Path) -> None:
    """With a source that fails through the validity, people hear at 50, 25 and 10 per cent, and 72 hours before."""
    with site(tmp_path) as here:
        until_ = NOW + timedelta(days=40)
        here.subscribe(document("idp"))
        here.serve(document("idp", valid_until=until_))
        assert here.refresh()
        here.server.serve("/md", status=503)
        raised: dict[str, timedelta] = {}
        while here.clock.now < until_ - timedelta(hours=1):
            here.clock.forward(hours=6)
            here.worker.round()
            for each in here.alarms("metadata_depleting"):
                raised.setdefault(each.key, here.clock.now - NOW)

        hours = {key: round(after / timedelta(hours=1)) for key, after in raised.items()}
        assert hours == {"50%": 480, "25%": 720, "10%": 864, "72h": 888}
        with here.engine.connect() as connection:
            told = connection.execute(sql("SELECT key FROM alarms WHERE kind = 'metadata_depleting'")).scalars().all()
        assert sorted(told) == ["10%", "25%", "50%", "72h"]

        here.serve(document("idp", valid_until=until_ + timedelta(days=40)))
        assert here.refresh()
        assert _alarm_keys(here, "metadata_depleting") == set()
        assert here.alarms("metadata_refused") == []


def test_promise_26_without_valid_until_the_age_is_announced_and_clears(here: Site) -> None:
    """A warning after 24 hours without success, critical after 72 hours, and the limit after 14 days."""
    here.subscribe(document("idp"))
    here.serve(document("idp"))
    assert here.refresh()
    here.server.serve("/md", status=503)
    seen: dict[str, int] = {}
    for hour in range(1, 15 * 24 + 1):
        here.clock.now = NOW + timedelta(hours=hour)
        if hour % 6 == 0:
            here.worker.round()
            for each in (*here.alarms("metadata_aging"), *here.alarms("metadata_expired")):
                seen.setdefault(each.key or each.kind, hour)

    assert seen == {"24h": 24, "72h": 72, "metadata_expired": 14 * 24}
    here.serve(document("idp"))
    assert here.refresh()
    assert here.alarms("metadata_aging") == here.alarms("metadata_expired") == []


@pytest.mark.parametrize(("action", "after"), [("keep", "ok"), ("deny", "metadata_stale")])
def test_promise_26_the_configured_action_begins_after_the_limit_and_not_before(
    tmp_path: Path, action: Literal["keep", "deny"], after: str
) -> None:
    """With `deny`, metadata that nobody confirmed for 14 days ends its IdP's trust; with `keep` it does not."""
    limit = GIVEN_NOW + timedelta(seconds=10)
    clock = Clock(limit - timedelta(days=16))
    with site(tmp_path, rules=replace(RULES, metadata_denies=action == "deny"), clock=clock) as here:
        here.subscribe(document("idp"))
        here.serve(document("idp"))
        assert here.refresh()
        clock.now = limit - timedelta(days=14)
        assert here.worker.round()
        here.server.serve("/md", status=503)
        for day in range(1, 14):
            clock.now = limit - timedelta(days=14 - day)
            assert not here.worker.round()
        snapshot = load_snapshot(here.engine, secrets_dir=None, stale_action=action)

        assert decide(request(launch()), snapshot, limit).reason == "ok"
        assert decide(request(launch()), snapshot, limit + timedelta(seconds=1)).reason == after


def test_promise_37_a_source_that_stands_still_is_noticed_by_its_date(here: Site) -> None:
    """A proxy that serves the same good document for ever shows it by the Date of its answers."""
    here.subscribe(document("idp"))
    here.serve(document("idp"))
    assert here.refresh()
    assert _alarm_keys(here, "source_frozen") == set()
    here.clock.forward(hours=26)
    assert here.worker.round()

    assert _alarm_keys(here, "source_frozen") == {"date"}
    here.serve(document("idp"))
    assert here.refresh()
    assert _alarm_keys(here, "source_frozen") == set()


def test_promise_37_a_source_that_stands_still_is_noticed_by_an_unknown_key(here: Site) -> None:
    """It goes on answering, and the key that signs meanwhile is not in it."""
    here.subscribe(document("idp"))
    for hour in range(4):
        here.serve(document("idp"))
        assert here.refresh()
        if hour == 0:
            here.meet_unknown("idp_next")
            assert _alarm_keys(here, "unknown_signer") == {keys.fingerprint("idp_next")}
            assert _alarm_keys(here, "source_frozen") == set()

    assert _alarm_keys(here, "source_frozen") == {"unknown_key"}


def test_promise_37_a_missing_successor_is_noticed_20_days_before_the_end(here: Site) -> None:
    """Nothing new was announced while the only certificate runs out."""
    here.clock.now = NOW.replace(year=2034, month=12, day=5)
    here.subscribe(document("idp"))
    here.serve(document("idp"))
    assert here.refresh()
    assert _alarm_keys(here, "no_successor") == set()
    here.clock.now = here.clock.now.replace(day=13)
    here.serve(document("idp"))
    assert here.worker.round()

    assert _alarm_keys(here, "no_successor") == {keys.fingerprint("idp")}


def test_a_withdrawn_certificate_retires_when_nothing_it_signed_is_young_enough(here: Site) -> None:
    """Upkeep needs no document and no network."""
    here.subscribe(document("idp", "idp_b"))
    here.serve(document("idp_b", signed_by="idp_b"))
    for _ in range(4):
        assert here.refresh()
    assert here.states() == {"idp": RETIRING, "idp_b": TRUSTED}
    here.server.stop()
    here.clock.forward(hours=9)
    here.worker.upkeep()

    assert here.states() == {"idp": CertificateState.RETIRED, "idp_b": TRUSTED}


def test_a_fetch_that_breaks_its_promise_is_a_failure(here: Site) -> None:
    """Whatever a driver raises, the loop goes on."""
    here.subscribe(document("idp"))

    def fetch(_source: Source, _rules: FetchRules) -> Fetched:
        raise RecursionError

    assert not Worker(here.engine, RULES, clock=here.clock, fetch_=fetch).round()
    assert here.trust.get_source(names.IDP).state.failures == 1


def test_promise_23_without_any_network_the_last_accepted_set_stays(tmp_path: Path) -> None:
    """A restart with the IdP down decides as before, and says what fails."""
    clock = Clock()
    with site(tmp_path, clock=clock) as here:
        here.subscribe(document("idp"))
        here.serve(document("idp", "idp_next", signed_by="idp"))
        assert here.refresh()
        version = here.version()
    clock.forward(hours=2)
    with site(tmp_path, clock=clock) as again:
        assert not again.worker.round()
        assert again.version() == version
        assert again.states() == {"idp": TRUSTED, "idp_next": ANNOUNCED}
        assert [each.key for each in again.alarms("metadata_refused")] == ["metadata_unreachable"]


def test_quick_intervals_are_obeyed(tmp_path: Path) -> None:
    """An administrator may set less than what documents may ask for."""
    with site(tmp_path, rules=with_refresh(RULES, usual=timedelta(seconds=2))) as here:
        here.subscribe(document("idp"), jitter=0.0)
        here.serve(document("idp"))
        assert here.refresh()
        assert here.trust.get_source(names.IDP).state.next_attempt_at == NOW + timedelta(seconds=2)


def test_promise_40_a_source_on_this_machine_is_refused_unless_it_is_set(tmp_path: Path) -> None:
    """The worker fetches by the rules of the settings, which allow no loopback address out of the box."""
    with site(tmp_path, rules=work_rules(Settings(data_dir=tmp_path))) as here:
        here.subscribe(document("idp"))
        here.serve(document("idp", "attacker", signed_by="idp"))

        assert not here.refresh()
        assert here.trust.get_source(names.IDP).state.problem == "metadata_url"
        assert here.server.connections == 0


def test_the_settings_are_the_numbers_of_the_worker(tmp_path: Path) -> None:
    """What an administrator sets is what is obeyed."""
    settings = Settings(
        data_dir=tmp_path,
        metadata_refresh_hours=0.5,
        metadata_timeout_seconds=4,
        metadata_cool_down_seconds=30,
        metadata_hasten_budget=3,
        metadata_removal_sightings=5,
        metadata_removal_minutes=90,
        metadata_max_valid_days=30,
        metadata_require_valid_until=True,
        metadata_allow_loopback=True,
        metadata_allow_private=False,
        metadata_stale_action="deny",
        work_fetches=2,
    )

    assert work_rules(settings) == WorkRules(
        refresh=RefreshRules(
            fetch=FetchRules(timeout=timedelta(seconds=4), allow_loopback=True, allow_private=False),
            usual=timedelta(minutes=30),
            removal_sightings=5,
            removal_over=timedelta(minutes=90),
            max_validity=timedelta(days=30),
            require_valid_until=True,
        ),
        cool_down=timedelta(seconds=30),
        hasten_budget=3,
        fetches=2,
        metadata_denies=True,
    )
    assert work_rules(settings).lease == timedelta(seconds=19)
