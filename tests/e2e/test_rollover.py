"""Token-signing keys roll over at live identity providers, while users sign in and launch all the time.

The service and its worker are processes on one database; metadata comes over TLS. Every answer is recorded with the key
that signed. What happened, and what was answered in between, is told as a timeline at the end of the test run.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from evidence_service.adapters.database import open_database
from evidence_service.adapters.snapshots import load_snapshot
from evidence_service.adapters.trust_store import RolloverState, TrustStore
from idp_certs.model import CertificateState
from tests.e2e.doors import POLICY, RunningService, enrolled, serving_database, settings_of, worker
from tests.e2e.idps import RunningIdp, missing, running, write_key_pair
from tests.e2e.launches import GENUINE, Answer, Kind, Stream, Timeline, fingerprint, forged
from tests.e2e.tls_front import tls_front

OLD, NEW, THIRD, STRANGER = "old", "new", "third", "stranger"
PATIENCE = 100.0
COOL_DOWN = 1.0
SETTINGS = {
    "METADATA_ALLOW_LOOPBACK": "true",
    "METADATA_COOL_DOWN_SECONDS": str(COOL_DOWN),
    "METADATA_REMOVAL_SIGHTINGS": "2",
    "METADATA_REMOVAL_MINUTES": "0.02",
}
FORMS = {"simplesamlphp": "both-signed", "samlp": "assertion-signed"}
SIGNS_METADATA = {"simplesamlphp": True, "samlp": False}
SHORT_POLICY = POLICY.replace('max_age = "4h"', 'max_age = "3s"\nclock_skew = "0s"')

ANNOUNCED, TRUSTED = CertificateState.ANNOUNCED, CertificateState.TRUSTED
RETIRING, RETIRED, REVOKED = CertificateState.RETIRING, CertificateState.RETIRED, CertificateState.REVOKED
TOO_SLOW = "deadline"
"""What is told in time where a busy machine cannot record the denial that it decided on."""
WHILE_UNKNOWN = {"signature_invalid", "no_trusted_certificate", TOO_SLOW}
"""Denials of evidence by a key that is not known."""

pytestmark = pytest.mark.timeout(300)  # many processes start, one command after the other

each_idp = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.xdist_group(f"e2e-{name}")) for name in FORMS]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """An identity provider, the service and the worker that trust it, and the stream of launches."""

    idp: RunningIdp
    service: RunningService
    engine: Engine
    trust: TrustStore
    stream: Stream
    timeline: Timeline

    def new_key(self, key: str) -> None:
        """Make a key pair that the identity provider may use."""
        write_key_pair(self.idp.keys, key, f"{self.idp.name} {key}")

    def certificate(self, key: str) -> str:
        """The SHA-256 of a key pair's certificate."""
        return fingerprint(self.idp.keys / f"{key}.crt")

    def state(self, key: str) -> CertificateState | None:
        """What is thought of a key's certificate; None: it is not known."""
        found = self.trust.load_trust(self.idp.entity_id).find(self.certificate(key))
        return None if found is None else found.certificate.state

    def use(self, *, signing: str, listed: list[str], metadata_signed_by: str | None, event: str) -> float:
        """Let the identity provider roll; answers when."""
        at = self.timeline.event(f"IdP: {event}")
        self.idp.use(signing=signing, listed=listed, metadata_signed_by=metadata_signed_by)
        return at

    def command(self, *arguments: str, event: str) -> float:
        """Do what an administrator does; answers when it was done."""
        ran = self.service.command(*arguments)
        assert ran.returncode == 0, ran.stderr
        return self.timeline.event(f"administrator: {event}")

    def shown(self) -> dict[str, Any]:
        """What an administrator is shown of the identity provider."""
        ran = self.service.command("idp", "show", self.idp.entity_id, "-o", "json")
        assert ran.returncode == 0, ran.stderr
        shown: dict[str, Any] = json.loads(ran.stdout)
        return shown

    def wait(self, true: Callable[[], object], what: str) -> None:
        """Wait for it."""
        end = time.monotonic() + PATIENCE
        while not true():
            assert not self.stream.faults, self.stream.faults
            assert time.monotonic() < end, f"not within {PATIENCE:.0f} s: {what}"
            time.sleep(0.02)

    def until(self, true: Callable[[], object], event: str) -> float:
        """Wait for what belongs into the timeline; answers when it was seen."""
        self.wait(true, event)
        return self.timeline.event(event)

    def until_answered(self, *kinds: Kind, count: int, key: str, outcome: str, after: float = 0.0) -> None:
        """Wait until so many of these questions, asked after this instant, had this outcome."""
        self.wait(
            lambda: sum(each.outcome == outcome for each in self.answers(*kinds, key=key, after=after)) >= count,
            f"{count} {' and '.join(kinds)} by {key}: {outcome}",
        )

    def obeyed(self) -> float:
        """Wait until the service judges by what is stored now; answers when (promises 29 and 35)."""

        def followed() -> bool:
            changes = self.service.said("configuration_changed")
            stored = load_snapshot(self.engine, secrets_dir=Path(self.service.settings["SECRETS_DIR"]))
            return bool(changes) and changes[-1]["snapshot"] == stored.version

        return self.until(followed, "the service has followed")

    def forge(self, *keys: str) -> None:
        """Mix in forgeries: by `stranger`, and by a key that was the identity provider's."""
        known = [key for key in keys if key != STRANGER]
        self.timeline.event(f"forgers sign with: {', '.join(keys)}")
        self.stream.forge(stranger=STRANGER if STRANGER in keys else None, late=known[0] if known else None)

    def answers(
        self, *kinds: Kind, key: str | None = None, after: float = 0.0, before: float = float("inf")
    ) -> list[Answer]:
        """The answers to questions of these kinds that were asked in this time."""
        return [
            each
            for each in list(self.timeline.answers)
            if each.kind in kinds and key in (None, each.key) and after <= each.asked < before
        ]

    def until_quiet(self) -> None:
        """Wait until no forgery is judged, and the next unknown key can ask for metadata at once."""
        self.stream.forge()

        def quiet() -> bool:
            attempted = self.trust.get_source(self.idp.entity_id).state.attempted_at
            latest = [each.last_seen for each in self.trust.unknown_signers(self.idp.entity_id)]
            past = time.time() - COOL_DOWN
            return (attempted is None or attempted.timestamp() < past) and all(
                each.timestamp() < past and (attempted is not None and each <= attempted) for each in latest
            )

        self.until(quiet, "forgeries pause, and the cool-down is over")


@pytest.fixture
def start_site(
    gateway_key: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> Iterator[Callable[..., Site]]:
    """Start everything for an identity provider by its name, or skip the test where it is not installed."""
    with contextlib.ExitStack() as stack:

        def start(name: str, *, acceptance: str, metadata_signed: bool) -> Site:
            if problem := missing(name):
                pytest.skip(problem)
            directory = tmp_path / "idp"
            idp = stack.enter_context(running(name, directory, gateway_key.with_suffix(".crt")))
            write_key_pair(idp.keys, OLD, f"{name} {OLD}")
            idp.use(signing=OLD, listed=[OLD], metadata_signed_by=OLD if metadata_signed else None)
            plain = idp.metadata_url.removeprefix("http://127.0.0.1:")
            port, _, path = plain.partition("/")
            front = stack.enter_context(tls_front(int(port), tmp_path))
            data = tmp_path / "service"
            settings = settings_of(data, gateway_key, **SETTINGS)
            service = stack.enter_context(
                _subscribed(settings, f"{front.url}/{path}", front.authority, acceptance, tmp_path)
            )
            engine = open_database(f"sqlite:///{data / 'fas-evidence.db'}", create=False)
            stack.callback(engine.dispose)
            # A forgery lacks nothing but the key: made with the right one it is allowed.
            assert service.ask(forged(idp.sign_in(FORMS[name]).xml, idp.keys / f"{OLD}.key"))["reason"] == "ok"
            timeline = Timeline()
            stack.callback(lambda: record_property("timeline", timeline.text()))
            stream = Stream(service, idp, FORMS[name], timeline)
            site = Site(
                idp=idp, service=service, engine=engine, trust=TrustStore(engine), stream=stream, timeline=timeline
            )
            write_key_pair(idp.keys, STRANGER, STRANGER)
            timeline.event(f"{name}, acceptance {acceptance}, metadata {'signed' if metadata_signed else 'unsigned'}")
            stack.enter_context(stream.running())
            site.until_answered(Kind.SIGN_IN, count=3, key=OLD, outcome="allowed")
            return site

        yield start


@contextlib.contextmanager
def _subscribed(
    settings: dict[str, str], url: str, authority: Path, acceptance: str, directory: Path
) -> Iterator[RunningService]:
    """`serve` and `work` on a database that is subscribed to this metadata."""
    policy = directory / "policy.toml"
    policy.write_text(f'{POLICY}acceptance = "{acceptance}"\n')
    subscribe = ["idp", "subscribe", url, "--ca", str(authority), "--policy", str(policy), "--yes"]
    with (
        serving_database(settings, enrolled(settings, subscribe)) as service,
        worker(settings),
    ):
        yield service


def withdrawn(site: Site, key: str) -> float:
    """Wait until a key is withdrawn and every process must know it; answers when that was."""
    site.until(lambda: site.state(key) is RETIRING, f"{key} is withdrawn")
    tracked = site.trust.load_trust(site.idp.entity_id).find(site.certificate(key))
    assert tracked is not None
    assert tracked.absences >= int(SETTINGS["METADATA_REMOVAL_SIGHTINGS"])
    return site.obeyed()


def assert_good_only_for_what_it_signed_before(site: Site, key: str, since: float) -> None:
    """A withdrawn key's older evidence goes on launching, and what it signs now is denied."""
    site.forge(STRANGER, key)
    site.until_answered(Kind.LATE, count=3, key=key, outcome="denied certificate_retired", after=since)
    site.until_answered(Kind.LAUNCH, count=20, key=key, outcome="allowed", after=since)


def assert_no_wrong_allow(site: Site) -> None:
    """No forgery was ever allowed, and there were some."""
    strangers, late = site.answers(Kind.STRANGER), site.answers(Kind.LATE)
    assert strangers
    assert late
    assert [each for each in (*strangers, *late) if each.decision != "deny"] == []
    assert {each.reason for each in late} <= {"certificate_retired", "certificate_revoked", TOO_SLOW}


def assert_no_wrong_deny(site: Site, *, after: float = 0.0, before: float = float("inf")) -> None:
    """All genuine evidence that was asked about in this time was allowed."""
    genuine = site.answers(*GENUINE, after=after, before=before)
    assert genuine
    assert [each for each in genuine if each.decision != "allow"] == []


@each_idp
def test_two_key_rollover_denies_nobody(name: str, start_site: Callable[..., Site], tmp_path: Path) -> None:
    """Promises 18, 33, 34: a key is announced and promoted by use, and the old one good for what it signed before."""
    signed = SIGNS_METADATA[name]
    site = start_site(name, acceptance="continuity" if signed else "tls", metadata_signed=signed)
    site.new_key(NEW)
    site.forge(STRANGER)

    site.use(signing=OLD, listed=[NEW, OLD], metadata_signed_by=OLD if signed else None, event="announces a new key")
    site.until(lambda: site.state(NEW) is ANNOUNCED, "new is announced")
    assert site.state(OLD) is TRUSTED
    promoted = site.use(
        signing=NEW, listed=[NEW, OLD], metadata_signed_by=NEW if signed else None, event="signs with the new key"
    )
    site.until_answered(Kind.SIGN_IN, count=2, key=NEW, outcome="allowed", after=promoted)
    site.until(lambda: site.state(NEW) is TRUSTED, "new is trusted, by use")
    assert site.state(OLD) is TRUSTED
    site.use(signing=NEW, listed=[NEW], metadata_signed_by=NEW if signed else None, event="lists the old key no more")
    since = withdrawn(site, OLD)
    assert_good_only_for_what_it_signed_before(site, OLD, since)
    site.until_answered(Kind.SIGN_IN, count=3, key=NEW, outcome="allowed", after=since)
    assert_no_wrong_deny(site)

    short = tmp_path / "short.toml"
    short.write_text(SHORT_POLICY)
    shortened = site.timeline.now()
    site.command("idp", "policy", site.idp.entity_id, "--policy", str(short), event="evidence is good for 3 s only")
    retired = site.until(lambda: site.state(OLD) is RETIRED, "old is retired, as nothing it signed can be young enough")
    site.until_answered(Kind.LATE, count=2, key=OLD, outcome="denied certificate_retired", after=retired)
    site.until_answered(Kind.SIGN_IN, count=2, key=NEW, outcome="allowed", after=retired)
    assert {each.outcome for each in site.answers(Kind.SIGN_IN, before=shortened)} == {"allowed"}
    assert_no_wrong_allow(site)


@each_idp
def test_immediate_rollover_denies_nobody(name: str, start_site: Callable[..., Site]) -> None:
    """Promises 29 and 30: a key swapped unannounced is taken over at once, and the launch that met it is allowed."""
    signed = SIGNS_METADATA[name]
    site = start_site(name, acceptance="continuity" if signed else "tls", metadata_signed=signed)
    site.new_key(NEW)
    site.forge(STRANGER)
    site.wait(lambda: site.answers(Kind.STRANGER), "a forgery")
    site.until_quiet()
    rolled = site.use(
        signing=NEW,
        listed=[NEW],
        metadata_signed_by=OLD if signed else None,
        event="has another key, and never announced it",
    )
    site.wait(lambda: site.answers(Kind.SIGN_IN, key=NEW, after=rolled), "a sign-in by the new key")
    (first, *_) = site.answers(Kind.SIGN_IN, key=NEW)
    site.timeline.event(f"the first sign-in by new was {first.outcome} after {first.at - first.asked:.2f} s")
    assert first.outcome == "allowed"
    assert site.state(NEW) in (ANNOUNCED, TRUSTED)
    if signed:
        site.use(signing=NEW, listed=[NEW], metadata_signed_by=NEW, event="signs its metadata with the new key, too")

    site.forge(STRANGER)
    since = withdrawn(site, OLD)
    assert_good_only_for_what_it_signed_before(site, OLD, since)
    site.until_answered(Kind.SIGN_IN, count=3, key=NEW, outcome="allowed", after=since)
    assert_no_wrong_deny(site)
    assert_no_wrong_allow(site)
    assert {each.reason for each in site.answers(Kind.STRANGER)} <= WHILE_UNKNOWN


def approve(site: Site, key: str) -> float:
    """Approve what holds this key once the alarm names it; answers when the command had returned."""
    certificate, entity_id = site.certificate(key), site.idp.entity_id

    def told() -> bool:
        alarms = {(each.kind, each.key) for each in site.trust.open_alarms(entity_id)}
        return ("unknown_signer", certificate) in alarms and bool(site.trust.list_rollovers(state=RolloverState.HELD))

    site.until(told, f"alarm unknown_signer names {key}, and it is held")
    shown = site.shown()
    (alarm,) = [each for each in shown["alarms"] if (each["kind"], each["key"]) == ("unknown_signer", certificate)]
    assert certificate in alarm["text"]
    (held,) = shown["rollovers"]
    assert [each["sha256"] for each in held["certificates"]] == [certificate]
    return site.command("rollover", "approve", held["id"], "--yes", event=f"has approved {key}")


def _from(instant: float, other: float) -> str:
    """How far another instant is from this one."""
    return f"{abs(other - instant):.2f} s {'before' if other < instant else 'after'}"


def assert_permitted(site: Site, key: str, approved: float) -> None:
    """Sign-ins and launches by this key are allowed, and none that is asked once the approval is followed is not."""
    obeyed = site.obeyed()
    site.until_answered(Kind.SIGN_IN, count=3, key=key, outcome="allowed", after=obeyed)
    site.until_answered(Kind.LAUNCH, count=9, key=key, outcome="allowed", after=obeyed)
    first = min(each.at for each in site.answers(Kind.SIGN_IN, key=key) if each.decision == "allow")
    site.timeline.event(f"the first allow by {key} came {_from(approved, first)} the command had returned")
    assert {each.outcome for each in site.answers(*GENUINE, key=key, after=obeyed)} == {"allowed"}


@each_idp
def test_key_that_nothing_vouches_for_waits_for_a_person(name: str, start_site: Callable[..., Site]) -> None:
    """Promises 29 and 35: unsigned metadata brings a key in by approval only, and a revoked key is denied at once."""
    site = start_site(name, acceptance="continuity", metadata_signed=False)
    site.new_key(NEW)
    site.new_key(THIRD)
    site.forge(STRANGER)
    rolled = site.use(
        signing=NEW, listed=[NEW], metadata_signed_by=None, event="has another key, and nothing vouches for it"
    )
    site.wait(lambda: site.answers(Kind.SIGN_IN, key=NEW, after=rolled), "a sign-in by the new key")
    approved = approve(site, NEW)
    assert_permitted(site, NEW, approved)
    refused = [each for each in site.answers(*GENUINE) if each.decision != "allow"]
    assert refused
    assert {each.key for each in refused} == {NEW}
    assert {each.reason for each in refused} <= WHILE_UNKNOWN

    revoke = ["key", "revoke", site.certificate(NEW), "--idp", site.idp.entity_id, "--note", "stolen", "--yes"]
    revoked = site.command(*revoke, event="has revoked new, which signs")
    obeyed = site.obeyed()
    site.forge(STRANGER, NEW)
    for kind, count in ((Kind.SIGN_IN, 2), (Kind.LAUNCH, 20), (Kind.LATE, 2)):
        site.until_answered(kind, count=count, key=NEW, outcome="denied certificate_revoked", after=obeyed)
    last = max(each.at for each in site.answers(*Kind, key=NEW) if each.decision == "allow")
    site.timeline.event(f"the last allow by new came {_from(revoked, last)} the command had returned")
    assert [each for each in site.answers(*Kind, key=NEW, after=obeyed) if each.decision == "allow"] == []

    site.use(signing=THIRD, listed=[THIRD], metadata_signed_by=None, event="rolls again, away from the stolen key")
    approved = approve(site, THIRD)
    assert_permitted(site, THIRD, approved)
    assert site.state(NEW) is REVOKED
    afterwards = site.answers(*Kind, key=NEW, after=obeyed)
    assert {each.decision for each in afterwards} == {"deny"}
    assert {each.reason for each in afterwards} <= {"certificate_revoked", TOO_SLOW}
    assert {each.outcome for each in site.answers(Kind.LAUNCH, key=OLD)} == {"allowed"}
    assert_no_wrong_allow(site)
