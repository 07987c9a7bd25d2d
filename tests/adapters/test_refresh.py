"""One refresh: what is taken over, what is refused, and what stays as it was."""

from __future__ import annotations

import gzip
import itertools
import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text as sql
from sqlalchemy import update

from evidence_service.adapters.database import documents
from evidence_service.adapters.trust_store import RolloverState
from evidence_service.work import Worker
from idp_certs.model import Acceptance, CertificateState
from idp_certs.refresh import POINTS
from idp_certs.rollover import Event
from tests.corpus import keys, names
from tests.corpus.metadata_documents import descriptor
from tests.metadata.server import ENDLESS, MetadataServer, Shows
from tests.work.given import NOW, RULES, Clock, Site, broken, document, moved, site, stripped, with_refresh

TRUSTED, ANNOUNCED, RETIRING = CertificateState.TRUSTED, CertificateState.ANNOUNCED, CertificateState.RETIRING


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    """A database, a server of metadata and a worker with a clock that stands."""
    with site(tmp_path) as made:
        yield made


def test_promise_43_every_point_is_passed_in_order(here: Site) -> None:
    """The registry of points is what a refresh really goes through."""
    passed: list[str] = []
    here.subscribe(document("idp"))
    here.serve(document("idp", "idp_next", signed_by="idp"))
    worker = Worker(here.engine, RULES, clock=here.clock, at_point=passed.append)

    assert worker.round()
    assert tuple(passed) == POINTS
    assert here.states() == {"idp": TRUSTED, "idp_next": ANNOUNCED}


BAD_SIGNATURES: dict[str, bytes] = {
    "stripped": document("idp", "idp_next", signed_by="ca", change=stripped),
    "by another key": document("idp", "idp_next", signed_by="attacker"),
    "by the key that it lists": document("idp", "idp_next", signed_by="idp"),
    "broken digest": document("idp", "idp_next", signed_by="ca", change=broken),
    "on another element": document("idp", "idp_next", signed_by="ca", change=moved),
}


@pytest.mark.parametrize("bad", BAD_SIGNATURES.values(), ids=BAD_SIGNATURES.keys())
def test_promise_21_what_the_metadata_certificate_did_not_sign_changes_nothing(here: Site, bad: bytes) -> None:
    """Store, ETag and snapshot stay, an alarm stands; a 304 then still speaks of the old document."""
    good = document("idp", signed_by="ca")
    here.subscribe(good, metadata_certificate="ca")
    here.serve(good, etag='"1"')
    assert here.refresh()
    before, version = here.trust.get_source(names.IDP).state, here.version()
    assert before.etag == '"1"'

    here.serve(bad, etag='"2"')
    assert not here.refresh()

    after = here.trust.get_source(names.IDP).state
    assert (after.etag, after.document_sha256, after.succeeded_at) == (
        '"1"',
        before.document_sha256,
        before.succeeded_at,
    )
    assert (after.failures, after.problem) == (1, "metadata_signature_invalid")
    assert (here.version(), here.states()) == (version, {"idp": TRUSTED})
    assert [each.key for each in here.alarms("metadata_refused")] == ["metadata_signature_invalid"]

    here.serve(good, etag='"1"')
    assert here.refresh()
    assert here.server.asked("/md")[-1]["if-none-match"] == '"1"'
    assert here.trust.get_source(names.IDP).state.failures == 0
    assert here.alarms("metadata_refused") == []

    here.serve(document("idp", "idp_next", signed_by="ca"), etag='"3"')
    assert here.refresh()
    assert here.states() == {"idp": TRUSTED, "idp_next": ANNOUNCED}
    assert here.trust.get_source(names.IDP).state.etag == '"3"'


def test_g10_tls_does_not_stand_in_for_the_metadata_certificate(here: Site) -> None:
    """Where a metadata certificate is set, verified TLS vouches for nothing (SDP-MD02)."""
    here.subscribe(document("idp", signed_by="ca"), metadata_certificate="ca", acceptance=Acceptance.TLS)
    here.serve(document("idp", "idp_next"))

    assert not here.refresh()
    assert here.trust.get_source(names.IDP).state.problem == "metadata_signature_invalid"
    assert here.states() == {"idp": TRUSTED}


@pytest.mark.parametrize(
    ("signed_by", "change"),
    [(None, None), ("idp", stripped), ("idp_next", None), ("attacker", None)],
    ids=["unsigned", "stripped", "by the new key itself", "by a stranger"],
)
def test_g21_promise_21_without_continuity_a_new_key_waits(
    here: Site, signed_by: str | None, change: Callable[..., None] | None
) -> None:
    """A signature by a key that the document brings along, or none, makes no key trusted."""
    here.subscribe(document("idp"))
    here.serve(document("idp", "idp_next", signed_by=signed_by, change=change), etag='"2"')

    assert here.refresh()
    assert here.states() == {"idp": TRUSTED}
    (held,) = here.trust.list_rollovers(state=RolloverState.HELD)
    assert [each.sha256 for each, _ in held.withheld] == [keys.fingerprint("idp_next")]
    assert held.finding.reason == "metadata_key_withheld"
    assert [each.key for each in here.alarms("rollover_held")] == [held.id]


def test_promise_21_a_document_that_waits_for_a_person_is_not_in_force(here: Site) -> None:
    """What nobody vouches for prolongs no validity, shuts out no later document, and speaks for no 304."""
    good = document("idp", signed_by="idp", valid_until=NOW + timedelta(days=7), created=NOW - timedelta(hours=2))
    here.subscribe(good)
    here.serve(good, etag='"1"')
    assert here.refresh()
    before = here.trust.get_source(names.IDP).state

    for hour in range(3):
        stranger = document(
            "idp", "attacker", valid_until=NOW + timedelta(days=3000, hours=hour), created=NOW + timedelta(hours=20)
        )
        here.serve(stranger, etag=f'"x{hour}"')
        assert here.refresh()

    after = here.trust.get_source(names.IDP).state
    assert (after.etag, after.document_sha256, after.valid_until, after.created) == (
        '"1"',
        before.document_sha256,
        NOW + timedelta(days=7),
        NOW - timedelta(hours=2),
    )
    assert here.config.get_idp(names.IDP).valid_until == NOW + timedelta(days=7)
    (held,) = here.trust.list_rollovers(state=RolloverState.HELD)
    assert held.sightings == 3
    with here.engine.connect() as connection:
        kept = set(connection.scalars(sql("SELECT sha256 FROM documents")))
    assert kept == {before.document_sha256, held.document_sha256}

    here.serve(document("idp", "idp_next", signed_by="idp", valid_until=NOW + timedelta(days=8), created=NOW))
    assert here.refresh()
    assert here.states() == {"idp": TRUSTED, "idp_next": ANNOUNCED}


@pytest.mark.parametrize("change", [broken, moved])
def test_g10_a_broken_signature_refuses_the_document_also_without_a_metadata_certificate(
    here: Site, change: Callable[..., None]
) -> None:
    """What was altered on its way is not taken for unsigned."""
    here.subscribe(document("idp"), acceptance=Acceptance.TLS)
    here.serve(document("idp", "idp_next", signed_by="idp", change=change))

    assert not here.refresh()
    assert here.trust.get_source(names.IDP).state.problem == "metadata_signature_invalid"
    assert here.states() == {"idp": TRUSTED}


def test_a_retiring_certificate_vouches_for_nothing(here: Site) -> None:
    """Continuity comes from what is good, not from what was."""
    here.subscribe(document("idp", "idp_b"))
    here.serve(document("idp_b", signed_by="idp_b"))
    for _ in range(4):
        assert here.refresh()
    assert here.states() == {"idp": RETIRING, "idp_b": TRUSTED}

    here.serve(document("idp_b", "idp_next", signed_by="idp"))
    assert here.refresh()
    assert here.states() == {"idp": RETIRING, "idp_b": TRUSTED}
    assert len(here.trust.list_rollovers(state=RolloverState.HELD)) == 1


def test_g19_a_304_is_a_sighting_of_the_accepted_document(here: Site) -> None:
    """An absence that a source stands by counts on, until the certificate is withdrawn."""
    here.subscribe(document("idp", "idp_b"))
    here.serve(document("idp_b", signed_by="idp_b"), etag='"1"')
    assert here.refresh()
    assert here.states()["idp"] is TRUSTED

    for _ in range(3):
        assert here.refresh()

    assert here.states() == {"idp": RETIRING, "idp_b": TRUSTED}
    assert [each.get("if-none-match") for each in here.server.asked("/md")] == [None, '"1"', '"1"', '"1"']


def test_a_304_for_a_document_that_is_lost_is_asked_again(here: Site) -> None:
    """Nothing is taken for confirmed that cannot be read any more."""
    good = document("idp")
    here.subscribe(good)
    here.serve(good, etag='"1"')
    assert here.refresh()
    with here.engine.begin() as connection:
        connection.execute(update(documents).values(content=b"damaged"))

    assert here.refresh()
    assert [each.get("if-none-match") for each in here.server.asked("/md")] == [None, '"1"', None]


def test_a_304_for_metadata_that_expired_meanwhile_is_a_failure(here: Site) -> None:
    """The accepted document is judged again, by the time that it is."""
    good = document("idp", valid_until=NOW + timedelta(hours=1))
    here.subscribe(good)
    here.serve(good, etag='"1"')
    assert here.refresh()
    here.clock.forward(hours=2)

    assert not here.refresh()
    assert here.trust.get_source(names.IDP).state.problem == "metadata_expired"


@dataclass(frozen=True, kw_only=True)
class Bad:
    """A bad answer of the source and the reason that it is refused for."""

    reason: str
    serve: Callable[[MetadataServer], None]
    within: timedelta = timedelta(seconds=60)


def _says(data: bytes, **answer: object) -> Callable[[MetadataServer], None]:
    return lambda server: server.serve("/md", data, **answer)  # type: ignore[arg-type]


def _shows(shows: Shows) -> Callable[[MetadataServer], None]:
    return lambda server: server.present(shows)


LOGIN_PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body><form></form></body></html>"
ENTITY_BOMB = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">]>' + document("idp")
SP_ONLY = document("idp").replace(b"IDPSSODescriptor", b"SPSSODescriptor")

BAD: dict[str, Bad] = {
    "200 with an HTML login page": Bad(reason="xml_dtd", serve=_says(LOGIN_PAGE)),
    "empty": Bad(reason="metadata_unreachable", serve=_says(b"")),
    "truncated": Bad(reason="xml_malformed", serve=_says(document("idp")[:-40])),
    "cut connection": Bad(
        reason="metadata_unreachable", serve=_says(document("idp")[:500], headers={"Content-Length": "5000"})
    ),
    "another entityID": Bad(reason="metadata_entity_mismatch", serve=_says(document("idp", entity_id=names.OTHER_IDP))),
    "only the role of a service provider": Bad(reason="metadata_no_idp", serve=_says(SP_ONLY)),
    "no keys": Bad(reason="metadata_no_cert", serve=_says(document())),
    "a weak key": Bad(reason="certificate_weak_key", serve=_says(document("weak"))),
    "an expired validUntil": Bad(
        reason="metadata_expired", serve=_says(document("idp", valid_until=NOW - timedelta(days=1)))
    ),
    "100 MB announced": Bad(reason="metadata_too_large", serve=_says(b"x", headers={"Content-Length": "104857600"})),
    "no end": Bad(reason="metadata_too_large", serve=_says(document("idp"), length=ENDLESS)),
    "a gzip bomb": Bad(
        reason="metadata_unreachable",
        serve=_says(gzip.compress(bytes(50_000_000)), headers={"Content-Encoding": "gzip"}),
    ),
    "gzip without saying so": Bad(reason="xml_encoding", serve=_says(gzip.compress(document("idp")))),
    "a DTD": Bad(reason="xml_dtd", serve=_says(ENTITY_BOMB)),
    "a slow drip": Bad(
        reason="metadata_unreachable", serve=_says(document("idp"), drip=0.05), within=timedelta(seconds=1)
    ),
    "a redirect loop": Bad(reason="metadata_url", serve=lambda server: server.redirect("/md", "/md")),
    "a redirect elsewhere": Bad(
        reason="metadata_url", serve=lambda server: server.redirect("/md", "https://evil.example/md")
    ),
    "a redirect to plain http": Bad(
        reason="metadata_url", serve=lambda server: server.redirect("/md", f"http://127.0.0.1:{server.port}/md")
    ),
    "503": Bad(reason="metadata_unreachable", serve=_says(b"busy", status=503)),
    "a certificate for another name": Bad(reason="metadata_untrusted", serve=_shows(Shows.WRONG_NAME)),
    "an expired certificate": Bad(reason="metadata_untrusted", serve=_shows(Shows.EXPIRED)),
    "garbage": Bad(reason="xml_encoding", serve=_says(bytes(range(256)) * 40)),
    "an older document": Bad(
        reason="metadata_rollback", serve=_says(document("idp", created=NOW - timedelta(days=30)))
    ),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_promise_24_a_bad_document_never_replaces_a_good_one(tmp_path: Path, bad: Bad) -> None:
    """The old set lives, the last success ages, and one alarm says why, however often it is tried."""
    limits = replace(RULES.refresh.fetch, max_bytes=8 * 1024 * 1024)
    with site(tmp_path, rules=with_refresh(RULES, fetch=limits)) as here:
        good = document("idp", created=NOW - timedelta(days=1))
        here.subscribe(good)
        here.serve(good, etag='"1"')
        assert here.refresh()
        succeeded, version = here.trust.get_source(names.IDP).state.succeeded_at, here.version()

        bad.serve(here.server)
        here.worker = Worker(
            here.engine, with_refresh(RULES, fetch=replace(limits, timeout=bad.within)), clock=here.clock
        )
        for failures in (1, 2):
            assert not here.refresh()
            state = here.trust.get_source(names.IDP).state
            assert (state.problem, state.failures) == (bad.reason, failures)
            assert (state.succeeded_at, state.etag) == (succeeded, '"1"')
            assert [each.key for each in here.alarms()] == [bad.reason]

        assert (here.version(), here.states()) == (version, {"idp": TRUSTED})
        assert here.clock.now - here.alarms()[0].raised_at > timedelta(0)


def test_promise_24_memory_stays_flat(tmp_path: Path) -> None:
    """Bad documents of any size leave nothing behind."""
    limits = replace(RULES.refresh.fetch, max_bytes=8 * 1024 * 1024)
    with site(tmp_path, rules=with_refresh(RULES, fetch=limits)) as here:
        here.subscribe(document("idp"))
        peaks = []
        for _ in range(4):
            for name in ("no end", "a gzip bomb", "100 MB announced", "garbage", "truncated"):
                BAD[name].serve(here.server)
                assert not here.refresh()
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)

        assert peaks[-1] - peaks[1] < 16 * 1024, peaks


def test_promise_34_nodes_that_disagree_do_not_flap_trust(here: Site) -> None:
    """A certificate that only some nodes list is added once, stays, and is one event."""
    old, new = document("idp", signed_by="idp"), document("idp", "idp_next", signed_by="idp")
    here.subscribe(old)
    for each in itertools.islice(itertools.cycle((new, old)), 24):
        here.serve(each)
        assert here.refresh()
        assert here.states() == {"idp": TRUSTED, "idp_next": ANNOUNCED}

    events = [each.event for each in here.trust.history(names.IDP, keys.fingerprint("idp_next"))]
    assert events == [Event.ANNOUNCE]


def test_promise_34_removal_needs_three_sightings_over_an_hour(tmp_path: Path) -> None:
    """Three looks within minutes are not enough, nor two over hours; then it is withdrawn, once."""
    with site(tmp_path, rules=with_refresh(RULES, usual=timedelta(minutes=10))) as here:
        here.subscribe(document("idp", "idp_b"))
        here.serve(document("idp_b", signed_by="idp_b"))
        withdrawn_at = []
        began = here.clock.now
        for _ in range(12):
            assert here.refresh()
            if here.states()["idp"] is RETIRING:
                withdrawn_at.append(here.clock.now)

        assert timedelta(hours=1) <= withdrawn_at[0] - began < timedelta(hours=1, minutes=15)
        events = [each.event for each in here.trust.history(names.IDP, keys.fingerprint("idp"))]
        assert events[-1:] == [Event.WITHDRAW]
        assert events.count(Event.WITHDRAW) == 1


def test_promise_39_the_last_good_certificate_does_not_go(here: Site) -> None:
    """A document that lists only a certificate that waits takes nothing away."""
    here.subscribe(document("idp"))
    here.serve(document("attacker"))
    for _ in range(6):
        assert here.refresh()

    assert here.states() == {"idp": TRUSTED}
    assert len(here.alarms("rollover_held")) == 1


def test_g09_a_replayed_document_is_refused(here: Site) -> None:
    """A genuine document that is older than the accepted one brings no retired certificate back."""
    old = document("idp", "idp_b", signed_by="idp", created=NOW - timedelta(days=9))
    new = document("idp", signed_by="idp", created=NOW - timedelta(days=1))
    here.subscribe(old)
    here.serve(new)
    for _ in range(4):
        assert here.refresh()
    assert here.states() == {"idp": TRUSTED, "idp_b": RETIRING}

    here.serve(old)
    assert not here.refresh()
    assert here.trust.get_source(names.IDP).state.problem == "metadata_rollback"
    assert here.states() == {"idp": TRUSTED, "idp_b": RETIRING}


def test_an_exception_nobody_expected_is_a_failure_like_any_other(here: Site) -> None:
    """It is counted, named by its type, and the old trust stays."""
    here.subscribe(document("idp"))
    here.serve(document("idp", "idp_next", signed_by="idp"))

    def fault(point: str) -> None:
        if point == "parsed":
            raise ZeroDivisionError

    assert not Worker(here.engine, RULES, clock=here.clock, at_point=fault).round()
    finding = here.trust.get_source(names.IDP).state.finding
    assert finding is not None
    assert (finding.reason, finding.presented) == ("metadata_fault", "the refresh ended with ZeroDivisionError")
    assert here.states() == {"idp": TRUSTED}

    assert here.refresh()
    assert here.states() == {"idp": TRUSTED, "idp_next": ANNOUNCED}


def test_what_cannot_be_stored_is_a_failure_with_its_backoff(here: Site) -> None:
    """A publication that fails is not tried again at every expiry of a claim, and leaves nothing half done."""
    here.subscribe(document("idp"), jitter=0.0)
    here.serve(document("idp"))
    assert here.refresh()
    here.serve(document("idp", "idp_next", signed_by="idp"), etag='"2"')
    with here.engine.begin() as connection:
        connection.execute(
            sql("CREATE TRIGGER full BEFORE INSERT ON certificates BEGIN SELECT RAISE(ABORT, 'full'); END")
        )
    waits = []
    for _ in range(3):
        assert not here.refresh()
        state = here.trust.get_source(names.IDP).state
        waits.append((state.next_attempt_at - here.clock.now) / timedelta(minutes=1))
    assert (state.problem, state.etag, waits) == ("metadata_fault", None, [1, 2, 4])
    assert here.states() == {"idp": TRUSTED}
    assert [each.key for each in here.alarms("metadata_refused")] == ["metadata_fault"]

    with here.engine.begin() as connection:
        connection.execute(sql("DROP TRIGGER full"))
    assert here.refresh()
    assert here.states() == {"idp": TRUSTED, "idp_next": ANNOUNCED}


def test_a_federation_in_one_document_gives_one_idp(here: Site) -> None:
    """Of an aggregate only the IdP that is asked for is taken, and no other is added (promise 39)."""
    from lxml import etree  # noqa: PLC0415

    from tests.corpus.metadata_documents import aggregate  # noqa: PLC0415

    here.subscribe(document("idp"))
    both = aggregate(descriptor(names.OTHER_IDP, ("idp_b",)), descriptor(names.IDP, ("idp", "idp_renewed")))
    here.serve(etree.tostring(both))

    assert here.refresh()
    assert here.states() == {"idp": TRUSTED, "idp_renewed": ANNOUNCED}
    assert [each.entity_id for each in here.config.list_idps()] == [names.IDP]


@pytest.mark.parametrize(
    ("rules", "valid_until", "reason"),
    [
        ({"require_valid_until": True}, None, "metadata_expired"),
        ({"max_validity": timedelta(days=14)}, NOW + timedelta(days=20), "metadata_valid_too_long"),
    ],
    ids=["missing", "too far ahead"],
)
def test_g02_valid_until_follows_the_settings(
    tmp_path: Path, rules: dict[str, object], valid_until: object, reason: str
) -> None:
    """A missing validUntil, or one too far ahead, is refused where that is set."""
    with site(tmp_path, rules=with_refresh(RULES, **rules)) as here:
        here.subscribe(document("idp"))
        here.serve(document("idp", valid_until=valid_until))  # type: ignore[arg-type]

        assert not here.refresh()
        assert here.trust.get_source(names.IDP).state.problem == reason


def test_promise_31_attempts_keep_to_the_table_over_a_day(tmp_path: Path) -> None:
    """After a success, failures are retried after 1, 2, 4 ... minutes up to an hour, whatever is restarted."""
    clock = Clock()
    with site(tmp_path, clock=clock) as here:
        here.subscribe(document("idp"), jitter=0.0)
        here.serve(document("idp"))
        assert here.refresh()
        attempts = []
        for answer in itertools.cycle(((b"", 500), (b"garbage", 200), (b"", 200))):
            here.server.serve("/md", answer[0], status=answer[1])
            here.due()
            if clock.now > NOW + timedelta(hours=24):
                break
            attempts.append(clock.now)
            # A process that starts anew has nothing but the database.
            assert not Worker(here.engine, RULES, clock=clock).round()
            assert Worker(here.engine, RULES, clock=clock).round()

        waits = [(after - before) / timedelta(minutes=1) for before, after in itertools.pairwise(attempts)]
        assert waits[:7] == [1, 2, 4, 8, 16, 32, 60]
        assert set(waits[7:]) == {60}
        assert here.server.requests("/md") == len(attempts) + 1


def test_promise_31_a_source_that_never_answered_is_retried_from_five_seconds(here: Site) -> None:
    """The first boot does not wait an hour for the first document."""
    here.subscribe(document("idp"), jitter=0.0)
    here.server.serve("/md", status=503)
    began = here.clock.now
    waits = []
    for _ in range(4):
        assert not here.refresh()
        waits.append((here.clock.now - began).total_seconds())

    assert waits == [0, 5, 15, 35]


def test_the_document_says_how_soon_to_ask_again(here: Site) -> None:
    """Its cacheDuration and a quarter of its validity shorten the interval, and never below five minutes."""
    expected = {
        document("idp", cache_duration="PT20M"): timedelta(minutes=20),
        document("idp", valid_until=NOW + timedelta(hours=2)): timedelta(minutes=30),
        document("idp", cache_duration="PT1S"): timedelta(minutes=5),
        document("idp", cache_duration="P30D"): timedelta(hours=1),
    }
    here.subscribe(document("idp"), jitter=0.0)
    for data, wait in expected.items():
        here.clock.now = NOW
        here.serve(data)
        claim = here.trust.claim_one(names.IDP, NOW, owner="test", lease=timedelta(seconds=1))
        assert claim is not None
        here.worker._refresh(claim)
        assert here.trust.get_source(names.IDP).state.next_attempt_at == NOW + wait
