"""Builds the decision plane: the endpoint, the probes, and nothing else to be found by looking for it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from evidence_service.adapters.snapshots import Plugins
from evidence_service.settings import Settings
from evidence_service.web.auth import Authenticator
from evidence_service.web.decisions import Decisions, Journal, Limits, Refreshes, Snapshots
from evidence_service.web.health import Health, Probes
from evidence_service.web.problems import SecurityHeaders, problem


class Configuration(Snapshots, Protocol):
    """The configuration in force, callers included."""

    @property
    def plugins(self) -> Plugins:
        """The plug-ins that may ask now."""


def utc_now() -> datetime:
    """The clock of this machine."""
    return datetime.now(UTC)


def limits_of(settings: Settings) -> Limits:
    """The bounds of decisions that `settings` ask for."""
    return Limits(
        deadline=settings.deadline_seconds,
        max_body_bytes=settings.max_body_bytes,
        max_in_flight=settings.max_in_flight,
        clock_tolerance=timedelta(seconds=settings.clock_tolerance_seconds),
        store_grace=timedelta(seconds=settings.store_grace_seconds),
        cool_down=settings.metadata_cool_down_seconds,
    )


def build_app(
    *,
    configuration: Configuration,
    journal: Journal,
    settings: Settings,
    clock: Callable[[], datetime] = utc_now,
    revoked: Callable[[], frozenset[str]] = frozenset,
    refreshes: Refreshes | None = None,
    at_stage: Callable[[str], None] | None = None,
) -> FastAPI:
    """The decision plane as an ASGI application; `app.state` holds its `decisions` and its `health`.

    `revoked` answers fingerprints of plug-ins that were shut out. Without `refreshes` no launch waits for new trust.
    `at_stage` is for tests that plant faults.
    """
    authenticator = Authenticator(
        lambda: configuration.plugins,
        loopback=settings.is_loopback,
        allow_anonymous=settings.allow_anonymous_loopback,
        revoked=revoked,
    )
    decisions = Decisions(
        snapshots=configuration,
        journal=journal,
        authenticator=authenticator,
        clock=clock,
        limits=limits_of(settings),
        refreshes=refreshes,
        at_stage=at_stage,
    )
    health = Health(
        conditions={
            "store": lambda: configuration.age <= decisions.limits.store_grace,
            "journal": lambda: journal.healthy,
            "clock": decisions.clock_trusted,
            "shedding": lambda: not decisions.shedding,
        }
    )
    probes = Probes(health, authenticator)
    app = FastAPI(
        openapi_url=None,  # nothing is described to callers (promise 89); the contract is docs/wire.md
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        routes=[
            Route("/v1/decisions", decisions),
            Route("/livez", probes),
            Route("/readyz", probes),
            Route("/startupz", probes),
        ],
        middleware=[Middleware(SecurityHeaders)],
        exception_handlers={HTTPException: _http_problem, Exception: _server_problem},
    )
    app.state.decisions = decisions
    app.state.health = health
    return app


_CODES = {404: "not_found", 405: "method_not_allowed"}


async def _http_problem(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return _response(status, _CODES.get(status, "refused"))


async def _server_problem(_: Request, __: Exception) -> Response:
    return _response(500, "internal_error")


def _response(status: int, code: str) -> Response:
    reply = problem(status, code)
    return Response(reply.body, status, {name.decode(): value.decode() for name, value in reply.headers})
