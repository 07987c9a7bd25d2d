"""`GET /metrics` of the admin plane, in Prometheus' text format: computed from what is stored, at each scrape.

Every number is there in every state, so that an alert on its absence means what it says (promise 63). No label names a
user: servers, certificates' ids, IdPs, channels and codes only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Engine
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from evidence_service.adapters.database import StoreUnavailable
from evidence_service.adapters.outbox import Outbox
from evidence_service.adapters.trust_store import StoredAlarm, StoredSource, TrustStore
from evidence_service.notices.undelivered import Undelivered
from evidence_service.renewal.model import STEP_KINDS, AwaitApproval, StepKind
from evidence_service.renewal_admin.acts import RenewalAdmin
from evidence_service.renewal_admin.texts import reason_of
from evidence_service.renewal_admin.views import CertificateView, ServerView
from evidence_service.web.calls import response_of
from evidence_service.web.problems import problem
from evidence_service.web.text import shown
from idp_certs.alarms import Severity

PREFIX = "fas_evidence_"

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the numbers are taken from."""

    servers: Sequence[ServerView] = ()
    alarms: Sequence[StoredAlarm] = ()
    undelivered: Sequence[Undelivered] = ()
    channels: Sequence[str] = ()
    sources: Sequence[StoredSource] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gauge:
    """A gauge, and how it is called and labelled."""

    name: str
    text: str
    labels: tuple[str, ...]
    values: Sequence[tuple[tuple[str, ...], float]]

    def family(self) -> Metric:
        family = GaugeMetricFamily(f"{PREFIX}{self.name}", self.text, labels=self.labels)
        for labels, value in self.values:
            family.add_metric(labels, value)
        return family


def samples(known: Known, now: datetime) -> tuple[Metric, ...]:
    """Every number at `now` (UTC)."""
    configured = [each for each in known.servers if each.server is not None]
    gauges = (
        *_certificate_gauges(configured),
        _configured_gauge(known.servers),
        *_server_gauges(configured, now),
        _alarm_gauge(known.alarms),
        _undelivered_gauge(known),
        *_source_gauges(known.sources, now),
    )
    return tuple(each.family() for each in gauges)


def _certificate_gauges(servers: Iterable[ServerView]) -> Iterator[_Gauge]:
    used = [(view.status.name, each) for view in servers for each in view.used]
    table: tuple[tuple[str, str, Callable[[CertificateView], datetime | None]], ...] = (
        ("expiry", "When an authorization certificate in use expires.", lambda each: each.certificate.expires),
        ("renew_at", "When the renewal of an authorization certificate in use begins.", lambda each: each.renews_at),
    )
    for name, text, instant_of in table:
        instants = ((server, each.certificate.id, instant_of(each)) for server, each in used)
        yield _Gauge(
            name=f"authorization_certificate_{name}_timestamp_seconds",
            text=text,
            labels=("server", "certificate"),
            values=[((server, name), at.timestamp()) for server, name, at in instants if at is not None],
        )


def _configured_gauge(servers: Iterable[ServerView]) -> _Gauge:
    """All that is told of a server that was taken out: what else is known stands still and would alert for ever."""
    return _Gauge(
        name="fas_server_configured",
        text="1 where the server is configured, 0 where it was and has no other numbers any more.",
        labels=("server",),
        values=[((each.status.name,), float(each.server is not None)) for each in servers],
    )


def _server_gauges(servers: Sequence[ServerView], now: datetime) -> Iterator[_Gauge]:
    """One value for each server."""
    table: tuple[tuple[str, str, Callable[[ServerView], float | None]], ...] = (
        ("fas_server_reachable", "1 where it answered the last look.", _reachable),
        (
            "fas_server_observation_age_seconds",
            "How long ago it answered.",
            lambda each: _seconds(now, each.status.observed_at),
        ),
        (
            "fas_server_maintenance",
            "1 in maintenance.",
            lambda each: None if each.status.observation is None else each.status.observation.maintenance,
        ),
        ("renewal_requests", "Requests since a renewal last succeeded.", lambda each: each.status.attempts_count),
        ("renewal_failures", "Acts that failed running.", lambda each: each.status.failures),
        ("renewal_misses", "Looks without an answer running.", lambda each: each.status.misses),
        ("renewal_paused", "1 while a person paused it.", lambda each: _paused(each, now)),
        (
            "renewal_waiting_for_approval",
            "1 while the CA manager must decide.",
            lambda each: isinstance(each.status.step, AwaitApproval),
        ),
        ("renewal_waiting_for_approval_seconds", "For how long; 0 without.", lambda each: _waits(each, now)),
        (
            "renewal_next_look_timestamp_seconds",
            "When it is looked at next.",
            lambda each: each.status.next_tick_at.timestamp(),
        ),
        ("renewal_last_error_timestamp_seconds", "Since when it does not answer, or when an act failed.", _error_at),
    )
    for name, text, value_of in table:
        values = ((each.status.name, value_of(each)) for each in servers)
        known = [((server,), float(value)) for server, value in values if value is not None]
        yield _Gauge(name=name, text=text, labels=("server",), values=known)
    yield _Gauge(
        name="renewal_state",
        text="1 for the step that is done or waited for, 0 for all others.",
        labels=("server", "step"),
        values=[
            ((each.status.name, step), float(step == _step(each))) for each in servers for step in (*StepKind, _NONE)
        ],
    )
    yield _Gauge(
        name="renewal_reason_info",
        text="Why it is at this step.",
        labels=("server", "step", "reason"),
        values=[((each.status.name, _step(each), _reason(each)), 1.0) for each in servers],
    )
    yield _Gauge(
        name="renewal_last_error_info",
        text="Why the server does not answer, or the last act failed; absent without an error.",
        labels=("server", "reason"),
        values=[
            ((each.status.name, each.last_error.reason.value), 1.0) for each in servers if each.last_error is not None
        ],
    )


_NONE = "none"
"""The step of a server that was never looked at."""


def _step(view: ServerView) -> str:
    return _NONE if view.status.step is None else STEP_KINDS[type(view.status.step)].value


def _reason(view: ServerView) -> str:
    reason = None if view.status.step is None else reason_of(view.status.step)
    return "" if reason is None else reason.value


def _reachable(view: ServerView) -> bool:
    return view.status.problem is None and view.status.observed_at is not None


def _paused(view: ServerView, now: datetime) -> bool:
    return view.status.paused_until is not None and view.status.paused_until > now


def _waits(view: ServerView, now: datetime) -> float:
    waits = isinstance(view.status.step, AwaitApproval)
    return (_seconds(now, view.status.step_since) or 0.0) if waits else 0.0


def _error_at(view: ServerView) -> float | None:
    return None if view.last_error_at is None else view.last_error_at.timestamp()


def _seconds(now: datetime, at: datetime | None) -> float | None:
    return None if at is None else max((now - at).total_seconds(), 0.0)


def _alarm_gauge(alarms: Iterable[StoredAlarm]) -> _Gauge:
    counts: dict[tuple[str, ...], float] = {("", "", each.value): 0.0 for each in Severity}
    for each in alarms:
        identity = (each.about, each.kind, each.severity.value)
        counts[identity] = counts.get(identity, 0.0) + 1
    return _Gauge(
        name="alarms_open",
        text="Alarms that stand; with empty `about` and `kind` always 0, so that the series is there.",
        labels=("about", "kind", "severity"),
        values=list(counts.items()),
    )


def _undelivered_gauge(known: Known) -> _Gauge:
    states = {"waiting": {each.channel: each.waiting for each in known.undelivered}}
    states["abandoned"] = {each.channel: each.abandoned for each in known.undelivered}
    channels = sorted({*known.channels, *(each.channel for each in known.undelivered)})
    return _Gauge(
        name="messages_undelivered",
        text="Messages that did not reach people by a channel: to be sent again, or given up lately.",
        labels=("channel", "state"),
        values=[
            ((channel, state), float(counts.get(channel, 0)))
            for state, counts in states.items()
            for channel in channels
        ],
    )


def _source_gauges(sources: Iterable[StoredSource], now: datetime) -> Iterator[_Gauge]:
    found = [((shown(each.entity_id, 256),), each.state) for each in sources]
    ages = ((identity, _seconds(now, state.succeeded_at)) for identity, state in found)
    yield _Gauge(
        name="idp_metadata_age_seconds",
        text="How long ago an IdP's metadata was last confirmed by its source.",
        labels=("entity_id",),
        values=[(identity, age) for identity, age in ages if age is not None],
    )
    yield _Gauge(
        name="idp_metadata_failures",
        text="Refreshes of an IdP's metadata that failed running.",
        labels=("entity_id",),
        values=[(identity, float(state.failures)) for identity, state in found],
    )


class _Computed(Collector):
    """What was computed for one scrape."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        """The metrics."""
        return self._metrics


def exposed(metrics: Sequence[Metric]) -> bytes:
    """The text that Prometheus reads."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Computed(metrics))
    return generate_latest(registry)


def metrics_route(admin: RenewalAdmin, engine: Engine, clock: Callable[[], datetime]) -> BaseRoute:
    """The route; who may scrape is judged before, by the same token as all."""
    trust, outbox = TrustStore(engine), Outbox(engine)

    def text() -> bytes:
        now = clock()
        known = Known(
            servers=admin.views(now),
            alarms=trust.open_alarms(),
            undelivered=outbox.undelivered(now),
            channels=admin.channels,
            sources=trust.list_sources(),
        )
        return exposed(samples(known, now))

    async def endpoint(_: Request) -> Response:
        try:
            body = await asyncio.to_thread(text)
        except StoreUnavailable as error:
            return response_of(problem(503, "store_unavailable", shown(str(error), 2000)))
        except Exception as error:  # noqa: BLE001 - outside of here the answer would lack its headers
            _log.error("metrics_failed", exc_info=error)
            return response_of(problem(500, "internal_error"))
        return Response(body, 200, {"content-type": CONTENT_TYPE_PLAIN_0_0_4})

    return Route("/metrics", endpoint, methods=["GET"])
