"""Runs the admin plane in this process until it is told to stop: its own listener, apart from what decides."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import sys
from collections.abc import Callable
from datetime import datetime

import structlog
from fastapi import FastAPI
from sqlalchemy import Engine
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from evidence_service.adapters.database import StoreUnavailable, open_database
from evidence_service.adapters.fas import open_fas
from evidence_service.app import utc_now
from evidence_service.renewal.farm import FasServer
from evidence_service.renewal.ports import Fas
from evidence_service.renewal_admin.acts import RenewalAdmin
from evidence_service.renewal_settings import NO_RENEWAL, RenewalSettings, renewal_of
from evidence_service.settings import Settings, SettingsError
from evidence_service.trust_admin.acts import TrustAdmin
from evidence_service.web.admin import MAX_BODY, AdminApi
from evidence_service.web.admin_auth import Gate, TokenFileError, load_token
from evidence_service.web.admin_renewal import RenewalApi
from evidence_service.web.health import Health
from evidence_service.web.listener import (
    CannotListen,
    Server,
    Times,
    listen,
    loop_factory,
    server_config,
    url_of,
)
from evidence_service.web.logs import configure_logs
from evidence_service.web.metrics import metrics_route
from evidence_service.web.problems import SecurityHeaders, problem
from evidence_service.web.tls import ServerTls, TlsError
from evidence_service.web.transport import TransportLimits
from evidence_service.work import work_rules
from idp_certs.fetch import fetch
from idp_certs.refresh import Fetch

OK, BAD_INPUT, DEPENDENCY_FAILED = 0, 2, 3
LAST_LINES_SECONDS = 1.0
MAX_CONNECTIONS = 64
BODY_SECONDS = 60.0
LAST_ANSWERS_SECONDS = 8

_log = structlog.get_logger()


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; answers the exit code. What is wrong at start is one line on stderr."""
    flush_logs = configure_logs(settings.log_level)
    try:
        code, trouble = _run(settings)
    finally:
        flush_logs(LAST_LINES_SECONDS)
    if trouble is not None:
        with contextlib.suppress(OSError):
            print(f"error: {trouble}", file=sys.stderr)  # noqa: T201 - for the person who starts it
    return code


def _run(settings: Settings) -> tuple[int, str | None]:
    try:
        renewal = renewal_of(settings)
        tls = None
        if settings.admin_tls_certificate is not None and settings.admin_tls_key is not None:
            tls = ServerTls(settings.admin_tls_certificate, settings.admin_tls_key)
        listener = listen(settings.admin_host, settings.admin_port, "admin_host, admin_port")
    except TlsError as error:
        return BAD_INPUT, f"admin_{error}"
    except (CannotListen, SettingsError) as error:
        return BAD_INPUT, str(error)
    with contextlib.closing(listener):
        try:
            path = settings.effective_admin_token_file
            token, made = load_token(path)
            engine = open_database(settings.effective_database_url)
        except TokenFileError as error:
            return BAD_INPUT, str(error)
        except StoreUnavailable as error:
            return DEPENDENCY_FAILED, str(error)
        try:
            _log.info("admin_token", path=str(path), made=made)
            app = build_admin_app(engine=engine, settings=settings, token=token, renewal=renewal)
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(_serve(settings, app, listener, tls))
                return OK, None
        finally:
            engine.dispose()


async def _serve(settings: Settings, app: FastAPI, listener: socket.socket, tls: ServerTls | None) -> None:
    limits = TransportLimits(
        header_timeout=settings.header_timeout,
        body_timeout=BODY_SECONDS,
        max_header_bytes=settings.max_header_bytes,
        max_body_bytes=MAX_BODY,
        max_connections=MAX_CONNECTIONS,
    )
    times = Times(keep_alive=settings.keep_alive_seconds, last_answers=LAST_ANSWERS_SECONDS, drain=0.0)
    server = Server(server_config(app, limits, times, tls), listener, Health(), limits, times)
    _log.info("listening", url=url_of(listener, tls), database=settings.effective_database_url.partition("://")[0])
    await server.serve()
    _log.info("stopped")


def build_admin_app(
    *,
    engine: Engine,
    settings: Settings,
    token: str,
    renewal: RenewalSettings = NO_RENEWAL,
    clock: Callable[[], datetime] = utc_now,
    fetch_: Fetch = fetch,
    opens: Callable[[FasServer], Fas] = open_fas,
) -> FastAPI:
    """The admin plane as an ASGI application. `fetch_` and `opens` are for tests that reach their servers elsewhere."""
    admin = TrustAdmin(
        engine,
        rules=work_rules(settings).refresh,
        secrets_dir=settings.effective_secrets_dir,
        owner=f"admin:{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}",
        fetch_=fetch_,
    )
    renewals = RenewalAdmin(engine, renewal, opens=opens)
    return FastAPI(
        openapi_url=None,  # nothing is described to callers (promise 89)
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        routes=[
            *AdminApi(admin, clock).routes(),
            *RenewalApi(renewals, engine, clock).routes(),
            metrics_route(renewals, engine, clock),
        ],
        middleware=[Middleware(SecurityHeaders), Middleware(Gate, token=token), Middleware(_AsSent)],
        exception_handlers={HTTPException: _http_problem, Exception: _server_problem},
    )


class _AsSent:
    """Matches paths as they were sent: an encoded slash belongs to a name and parts nothing."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope.get("raw_path") is not None:
            scope = {**scope, "path": scope["raw_path"].partition(b"?")[0].decode("ascii", "replace")}
        await self._app(scope, receive, send)


_CODES = {404: "not_found", 405: "method_not_allowed"}


async def _http_problem(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = dict((error.headers or {}) if isinstance(error, HTTPException) else {})
    return _response(status, _CODES.get(status, "refused"), headers)


async def _server_problem(_: Request, __: Exception) -> Response:
    return _response(500, "internal_error", {})


def _response(status: int, code: str, headers: dict[str, str]) -> Response:
    reply = problem(status, code)
    return Response(reply.body, status, headers | {name.decode(): value.decode() for name, value in reply.headers})
