"""`GET /metrics`: every number in every state, as Prometheus reads it (promise 63)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from evidence_service.adapters.database import open_database
from evidence_service.adapters.renewal_rows import ServerStatus
from evidence_service.adapters.trust_store import StoredAlarm
from evidence_service.admin import build_admin_app
from evidence_service.notices.undelivered import Undelivered
from evidence_service.renewal.farm import FasServer, Local
from evidence_service.renewal.model import (
    Alert,
    Attempt,
    AuthorizationCertificate,
    AwaitApproval,
    CertificateDefinition,
    CertificateStatus,
    LeaveMaintenance,
    Observation,
    RenewalPolicy,
    Rest,
    Result,
    Soak,
    Step,
    StepKind,
)
from evidence_service.renewal.reasons import RenewalReason
from evidence_service.renewal_admin.views import ServerView, certificate_views, server_json
from evidence_service.renewal_settings import NO_RENEWAL
from evidence_service.settings import load_settings
from evidence_service.web.metrics import Known, exposed, samples
from idp_certs.alarms import Severity
from idp_certs.instants import parse_instant
from idp_certs.reasons import Finding

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
DAY = timedelta(days=1)
EXPIRES, RENEWS = NOW + 100 * DAY, NOW + 40 * DAY
FAILED = Finding(reason=RenewalReason.REFUSED_BY_FAS, expected="", presented="Access denied for alice@corp.example")
STEPS: tuple[tuple[Step | None, str, str], ...] = (
    (None, "none", ""),
    (Rest(reason=RenewalReason.NOT_DUE, until=NOW), "rest", "not_due"),
    (AwaitApproval(certificate_id="new", until=NOW, deadline=EXPIRES), "await_approval", "awaiting_approval"),
    (LeaveMaintenance(certificate_id="new"), "leave_maintenance", ""),
    (Soak(certificate_id="new", until=NOW, ends=NOW + DAY), "soak", "soaking"),
    (Alert(reason=RenewalReason.UNKNOWN_STATUS, findings=(), until=NOW), "alert", "unknown_status"),
)


def view(step: Step | None = None, **changes: object) -> ServerView:
    """A server in use that was seen a minute ago."""
    observation = Observation(
        server="fas1",
        at=NOW - timedelta(minutes=1),
        certificates=(
            AuthorizationCertificate(id="old", status_word="Ok", status=CertificateStatus.OK, expires=EXPIRES),
            AuthorizationCertificate(id="unused", status_word="Ok", status=CertificateStatus.OK, expires=NOW + DAY),
        ),
        definitions=(CertificateDefinition(name="d", template="t", authorization_certificate="old"),),
        rules=(),
        maintenance=False,
    )
    status = ServerStatus(
        name="fas1",
        active=True,
        jitter=0.5,
        next_tick_at=NOW + timedelta(hours=1),
        observation=observation,
        observed_at=observation.at,
        step=step,
        step_since=NOW - 2 * DAY,
        first_usable={},
    )
    status = replace(status, **changes)  # type: ignore[arg-type]
    return ServerView(
        server=FasServer(name="fas1", policy=RenewalPolicy(), connection=Local()),
        status=status,
        certificates=certificate_views(status.observation, {"old": RENEWS}, test_definition=None),
    )


def values(families: Sequence[Metric], name: str) -> dict[tuple[str, ...], float]:
    """The values of one gauge by its labels, as Prometheus would read them from the text."""
    (gauge,) = [each for each in families if each.name == f"fas_evidence_{name}"]
    order = list(gauge.samples[0].labels) if gauge.samples else []
    return {
        tuple(sample.labels[label] for label in order): sample.value
        for family in text_string_to_metric_families(exposed(families).decode())
        for sample in family.samples
        if sample.name == gauge.name
    }


def of(server: ServerView, name: str) -> dict[tuple[str, ...], float]:
    """The values of one gauge for one server."""
    return values(samples(Known(servers=[server]), NOW), name)


@pytest.mark.parametrize(("step", "kind", "reason"), STEPS, ids=[kind for _, kind, _ in STEPS])
def test_each_state_is_one_of_all(step: Step | None, kind: str, reason: str) -> None:
    """One step is 1 and every other 0, so that a rule can be written for each; the reason is beside it."""
    state = of(view(step), "renewal_state")

    assert {name for (_, name), value in state.items() if value} == {kind}
    assert {name for _, name in state} == {*StepKind, "none"}
    assert of(view(step), "renewal_reason_info") == {("fas1", kind, reason): 1.0}


@pytest.mark.parametrize(("step", "kind", "reason"), STEPS, ids=[kind for _, kind, _ in STEPS])
def test_expiry_and_start_are_there_in_every_state(step: Step | None, kind: str, reason: str) -> None:
    """Of what is in use, and of nothing else: an old certificate that nothing names must not raise an alarm."""
    assert of(view(step), "authorization_certificate_expiry_timestamp_seconds") == {
        ("fas1", "old"): EXPIRES.timestamp()
    }
    assert of(view(step), "authorization_certificate_renew_at_timestamp_seconds") == {
        ("fas1", "old"): RENEWS.timestamp()
    }


def test_waiting_for_approval_has_its_length() -> None:
    """An alert on days of waiting needs no memory of its own."""
    waiting = view(AwaitApproval(certificate_id="new", until=NOW, deadline=None))

    assert of(waiting, "renewal_waiting_for_approval") == {("fas1",): 1.0}
    assert of(waiting, "renewal_waiting_for_approval_seconds") == {("fas1",): 2 * 86400.0}
    assert of(view(), "renewal_waiting_for_approval_seconds") == {("fas1",): 0.0}


def test_a_server_that_is_away_keeps_its_last_expiry() -> None:
    """The countdown goes on while nobody answers, and the age says since when."""
    away = view(
        problem=Finding(reason=RenewalReason.UNREACHABLE, expected="", presented=""), problem_since=NOW, misses=3
    )

    assert of(away, "fas_server_reachable") == {("fas1",): 0.0}
    assert of(away, "renewal_misses") == {("fas1",): 3.0}
    assert of(away, "fas_server_observation_age_seconds") == {("fas1",): 60.0}
    assert of(away, "authorization_certificate_expiry_timestamp_seconds") == {("fas1", "old"): EXPIRES.timestamp()}
    assert of(away, "renewal_last_error_info") == {("fas1", "unreachable"): 1.0}


def test_the_last_error_is_a_code_and_clears() -> None:
    """What FAS wrote may name people and stays out; after a success there is none."""
    failed = Attempt(
        seq=1, step=LeaveMaintenance(certificate_id="new"), at=NOW, result=Result.FAILED, result_at=NOW, finding=FAILED
    )
    failing = view(last_failed=failed, failures=2, attempts_count=1)
    text = exposed(samples(Known(servers=[failing]), NOW)).decode()

    assert of(failing, "renewal_last_error_info") == {("fas1", "refused_by_fas"): 1.0}
    assert of(failing, "renewal_last_error_timestamp_seconds") == {("fas1",): NOW.timestamp()}
    assert (of(failing, "renewal_failures"), of(failing, "renewal_requests")) == ({("fas1",): 2.0}, {("fas1",): 1.0})
    assert "alice" not in text
    assert of(view(last_failed=failed, failures=0), "renewal_last_error_info") == {}


def test_a_pause_is_told_and_by_whom_is_not() -> None:
    """A number needs no name."""
    paused = view(paused_until=NOW + DAY, paused_by="cli:bob", paused_note="ask bob")

    assert of(paused, "renewal_paused") == {("fas1",): 1.0}
    assert of(view(paused_until=NOW - DAY), "renewal_paused") == {("fas1",): 0.0}
    assert b"bob" not in exposed(samples(Known(servers=[paused]), NOW))


def test_a_server_that_was_never_seen_has_its_series() -> None:
    """Nothing is known, and that is what the numbers say."""
    unseen = view(observation=None, observed_at=None)

    assert of(unseen, "fas_server_reachable") == {("fas1",): 0.0}
    assert of(unseen, "fas_server_configured") == {("fas1",): 1.0}
    assert of(unseen, "fas_server_observation_age_seconds") == {}


def test_a_server_that_was_taken_out_alerts_no_more() -> None:
    """What was last known of it would stand for ever: its certificate ends, and nobody looks (promise 63)."""
    gone = replace(view(), server=None)

    assert of(gone, "fas_server_configured") == {("fas1",): 0.0}
    for name in (
        "authorization_certificate_expiry_timestamp_seconds",
        "fas_server_observation_age_seconds",
        "renewal_next_look_timestamp_seconds",
    ):
        assert of(gone, name) == {}


AWAY = Finding(reason=RenewalReason.UNREACHABLE, expected="", presented="")
NOT_DONE = Attempt(
    seq=1, step=LeaveMaintenance(certificate_id="new"), at=NOW, result=Result.FAILED, result_at=NOW, finding=FAILED
)


@pytest.mark.parametrize(
    "server",
    [
        *(view(step) for step, _, _ in STEPS),
        view(observation=None, observed_at=None),
        view(observation=None, damage="row 1 was changed from outside"),
        view(STEPS[2][0], problem=AWAY, problem_since=NOW - DAY, misses=3),
        view(last_failed=NOT_DONE, failures=2, attempts_count=3),
        view(paused_until=NOW + DAY),
        view(paused_until=NOW - DAY),
        view(STEPS[1][0], next_tick_at=NOW - 2 * DAY, observed_at=NOW - 3 * DAY),
    ],
)
def test_each_number_is_what_status_shows(server: ServerView) -> None:
    """Alerts and people see the same, also of what is stale: its age, its misses and the look that is overdue."""

    def number(name: str) -> float | None:
        return of(server, name).get(("fas1",))

    def seconds(name: str) -> float | None:
        instant = shown[name]
        return None if instant is None else parse_instant(instant).timestamp()

    shown = server_json(server, NOW)
    expiry = of(server, "authorization_certificate_expiry_timestamp_seconds").values()
    begins = of(server, "authorization_certificate_renew_at_timestamp_seconds").values()
    states = {step for (_, step), value in of(server, "renewal_state").items() if value}
    reasons = {reason for _, _, reason in of(server, "renewal_reason_info")}
    errors = {reason for _, reason in of(server, "renewal_last_error_info")}
    error, step = shown["last_error"], shown["step"]

    assert min(expiry, default=None) == seconds("expires")
    assert min(begins, default=None) == seconds("renews_at")
    assert states == {"none" if step is None else step["kind"]}
    assert reasons == {(None if step is None else step["reason"]) or ""}
    assert errors == (set() if error is None else {error["reason"]})
    assert number("renewal_next_look_timestamp_seconds") == seconds("next_look")
    assert number("fas_server_observation_age_seconds") == shown["age_seconds"]
    assert number("fas_server_maintenance") == shown["maintenance"]
    assert number("renewal_requests") == shown["requests"]
    assert number("renewal_failures") == shown["failures"]
    assert number("renewal_misses") == shown["misses"]
    assert number("renewal_paused") == (shown["paused_until"] is not None)
    assert number("fas_server_reachable") == (shown["problem"] is None and shown["observed_at"] is not None)
    assert number("renewal_waiting_for_approval") == (step is not None and step["kind"] == "await_approval")


def test_alarms_and_undelivered_messages_are_counted() -> None:
    """By kind and severity, and by channel; without any the series are there with 0 (promise 59)."""
    alarm = StoredAlarm(
        seq=1,
        kind="certificate_expiring",
        entity_id="fas1",
        key="",
        severity=Severity.CRITICAL,
        text="It expires.",
        raised_at=NOW,
        about="fas_server",
    )
    stuck = Undelivered(channel="mail", waiting=2, abandoned=1, oldest=NOW, problem="no route to alice")
    known = Known(alarms=[alarm, alarm], undelivered=[stuck], channels=["mail", "webhook:ops"])
    counted = values(samples(known, NOW), "alarms_open")
    undelivered = values(samples(known, NOW), "messages_undelivered")

    assert counted["fas_server", "certificate_expiring", "critical"] == 2.0
    assert counted["", "", "critical"] == 0.0
    assert undelivered == {
        ("mail", "waiting"): 2.0,
        ("mail", "abandoned"): 1.0,
        ("webhook:ops", "waiting"): 0.0,
        ("webhook:ops", "abandoned"): 0.0,
    }


def test_metrics_are_scraped_with_the_token(tmp_path: Path) -> None:
    """Text for Prometheus, with the headers that every answer has."""
    settings = load_settings(data_dir=tmp_path)
    engine = open_database(settings.effective_database_url)
    app = build_admin_app(engine=engine, settings=settings, token="t" * 43, renewal=NO_RENEWAL)

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://admin") as client:
            return await client.get("/metrics", headers={"Authorization": f"Bearer {'t' * 43}"})

    answer = asyncio.run(ask())
    engine.dispose()

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["cache-control"] == "no-store"
    assert 'fas_evidence_alarms_open{about="",kind="",severity="critical"} 0.0' in answer.text
