"""Runs the decision plane in this process until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Engine

from evidence_service.access.model import Mode, Snapshot
from evidence_service.access.plausible import UnknownSigner
from evidence_service.adapters.config_store import ConfigStore
from evidence_service.adapters.database import StoreUnavailable, open_database
from evidence_service.adapters.journal import Journal
from evidence_service.adapters.snapshots import Plugins, SnapshotHolder
from evidence_service.adapters.unknown_signers import UnknownSigners
from evidence_service.app import build_app
from evidence_service.settings import Settings
from evidence_service.web.health import Health
from evidence_service.web.listener import (
    CannotListen,
    Server,
    Times,
    allow_connections,
    listen,
    loop_factory,
    server_config,
    url_of,
)
from evidence_service.web.logs import configure_logs
from evidence_service.web.tls import ServerTls, TlsError
from evidence_service.web.transport import TransportLimits

OK, BAD_INPUT, DEPENDENCY_FAILED = 0, 2, 3
LAST_LINES_SECONDS = 1.0
"""How long the end waits for whoever reads the log."""

HURRIED_SECONDS = 0.05
"""How often a changed configuration is looked for while a launch waits for one."""

_log = structlog.get_logger()


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; answers the exit code. What is wrong at start is one line on stderr."""
    flush_logs = configure_logs(settings.log_level)
    try:
        code, problem = _run(settings)
    finally:
        flush_logs(LAST_LINES_SECONDS)
    if problem is not None:
        with contextlib.suppress(OSError):
            print(f"error: {problem}", file=sys.stderr)  # noqa: T201 - for the person who starts it
    return code


def _run(settings: Settings) -> tuple[int, str | None]:
    allow_connections(settings.max_connections)
    try:
        tls = None
        if settings.tls_certificate is not None and settings.tls_key is not None:
            tls = ServerTls(settings.tls_certificate, settings.tls_key)
        listener = listen(settings.listen_host, settings.listen_port, "listen_host, listen_port")
    except (TlsError, CannotListen) as error:
        return BAD_INPUT, str(error)
    with contextlib.closing(listener):
        try:
            if not settings.database_url:
                settings.data_dir.mkdir(parents=True, exist_ok=True)
            engine = open_database(settings.effective_database_url)
        except OSError as error:
            remedy = "name another, or let this account write there"
            return BAD_INPUT, f"data_dir: {settings.data_dir} cannot be used: {error.strerror}; {remedy}"
        except StoreUnavailable as error:
            return DEPENDENCY_FAILED, str(error)
        try:
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(_serve(settings, engine, listener, tls))
                return OK, None
        except StoreUnavailable as error:
            return DEPENDENCY_FAILED, str(error)
        finally:
            engine.dispose()


async def _serve(settings: Settings, engine: Engine, listener: socket.socket, tls: ServerTls | None) -> None:
    holder = SnapshotHolder(
        engine, secrets_dir=settings.effective_secrets_dir, stale_action=settings.metadata_stale_action
    )
    journal = Journal(engine)
    callers = _Callers(engine, tls)
    callers.load()
    signers = UnknownSigners(engine)
    followed = _Followed(holder, signers)
    app = build_app(
        configuration=followed,
        journal=journal,
        settings=settings,
        revoked=lambda: callers.revoked,
        refreshes=followed,
    )
    health: Health = app.state.health
    journal.start()
    signers.start()

    def follow() -> Coroutine[Any, Any, None]:
        return _keep_fresh(settings, followed, callers, tls, health)

    refresher = asyncio.create_task(_keep_following(follow, followed, settings.refresh_seconds))
    try:
        limits = TransportLimits(
            header_timeout=settings.header_timeout,
            body_timeout=settings.body_timeout,
            max_header_bytes=settings.max_header_bytes,
            max_body_bytes=settings.max_body_bytes,
            max_connections=settings.max_connections,
        )
        times = Times(
            keep_alive=settings.keep_alive_seconds,
            last_answers=int(settings.deadline_seconds) + 1,
            drain=settings.drain_seconds,
        )
        server = Server(server_config(app, limits, times, tls), listener, health, limits, times)
        _announce(settings, listener, holder, callers, tls)
        health.started = True
        await server.serve()
    finally:
        refresher.cancel()
        await asyncio.wait([refresher])
        await journal.stop()
        await asyncio.to_thread(signers.stop)
    _log.info("stopped")


class _Followed:
    """The configuration, which is current only as long as somebody follows its changes (promise 35).

    Launches may wait for a change; while one does, changes are looked for more often.
    """

    def __init__(self, holder: SnapshotHolder, signers: UnknownSigners) -> None:
        self.holder = holder
        self.following = True
        self._signers = signers
        self._current = holder.current()
        self._waiting = 0
        self._wanted = asyncio.Event()
        self._swapped = asyncio.Event()

    def current(self) -> Snapshot:
        return self.holder.current()

    @property
    def plugins(self) -> Plugins:
        return self.holder.plugins

    @property
    def age(self) -> timedelta:
        return self.holder.age if self.following else timedelta.max

    def subscribed(self, entity_id: str) -> bool:
        return entity_id in self.holder.subscribed

    def report(self, signer: UnknownSigner, now: datetime) -> None:
        self._signers.report(signer, now)

    async def swapped(self) -> None:
        self._waiting += 1
        self._wanted.set()
        try:
            await self._swapped.wait()
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._wanted.clear()

    def looked(self) -> None:
        """Changes were looked for; whoever waits for one goes on if there was any."""
        self.following = True
        current = self.holder.current()
        if current is not self._current:
            self._current = current
            self._swapped.set()
            self._swapped = asyncio.Event()

    async def pause(self, seconds: float) -> None:
        """Until it is time to look again."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wanted.wait()
                await asyncio.sleep(HURRIED_SECONDS)


class _Callers:
    """What the listener must know of plug-ins beyond the set in force: their certificates, and who was shut out."""

    def __init__(self, engine: Engine, tls: ServerTls | None) -> None:
        self._store = ConfigStore(engine)
        self._tls = tls
        self.revoked: frozenset[str] = frozenset()

    def load(self) -> None:
        """Read them. Raises StoreUnavailable."""
        plugins = self._store.list_plugins()
        self.revoked = frozenset(each.fingerprint for each in plugins if each.revoked_at is not None)
        if self._tls is None:
            return
        unusable = self._tls.trust(each.certificate_der for each in plugins if each.certificate_der is not None)
        for each in plugins:
            if each.certificate_der in unusable:
                _log.error("plugin_certificate_unusable", plugin=each.name)


async def _keep_following(follow: Callable[[], Coroutine[Any, Any, None]], followed: _Followed, pause: float) -> None:
    """Start `follow` whenever it ended, for whatever reason; until it has looked again, decisions are denials."""
    while True:
        task = asyncio.create_task(follow())
        try:
            await asyncio.wait([task])
        finally:
            task.cancel()
        followed.following = False
        _log.error("refresher_ended", exc_info=None if task.cancelled() else task.exception())
        await asyncio.sleep(pause)


async def _keep_fresh(
    settings: Settings, followed: _Followed, callers: _Callers, tls: ServerTls | None, health: Health
) -> None:
    """Follow changes of the configuration and of the server's certificate.

    Database and files are asked in a thread; while they do not answer, this loop still beats: a restart would not cure
    it.
    """
    known = renewed = False

    def look() -> None:
        nonlocal known, renewed
        if followed.holder.refresh():
            known = False
            _log.info("configuration_changed", snapshot=followed.holder.current().version)
        if not known:
            callers.load()
            known = True
        renewed = tls is not None and tls.has_changed()

    pending: asyncio.Task[None] | None = None
    while True:
        health.beat()
        if pending is None:
            pending = asyncio.create_task(asyncio.to_thread(look))
        await asyncio.wait([pending], timeout=settings.refresh_seconds)
        if pending.done():
            error = pending.exception()
            pending = None
            followed.looked()
            if error is None and tls is not None and renewed:
                error = _reloaded(tls)
            if isinstance(error, (StoreUnavailable, TlsError)):
                _log.error("refresh_failed", problem=str(error))
            elif error is not None:
                _log.error("refresh_failed", exc_info=error)
            await followed.pause(settings.refresh_seconds)


def _reloaded(tls: ServerTls) -> TlsError | OSError | None:
    try:
        tls.reload()
    except (TlsError, OSError) as error:  # a file may vanish just now
        return error
    _log.info("server_certificate_reloaded")
    return None


def _announce(
    settings: Settings, listener: socket.socket, holder: SnapshotHolder, callers: _Callers, tls: ServerTls | None
) -> None:
    plugins = holder.plugins
    providers = holder.current().trust.providers
    _log.info(
        "listening",
        url=url_of(listener, tls),
        certificate_callers=len(plugins.by_certificate) if tls is not None else 0,
        bearer_callers=len(plugins.by_key) if settings.is_loopback else 0,
        revoked_callers=len(callers.revoked),
        anonymous=settings.allow_anonymous_loopback,
        idps=len(providers),
        database=settings.effective_database_url.partition("://")[0],
    )
    if settings.allow_anonymous_loopback:
        _log.warning(
            "anonymous_callers_allowed",
            problem="allow_anonymous_loopback is set: every program on this machine may ask for decisions",
        )
    observed = sorted(rule.name for rule in holder.current().rules.values() if rule.mode is Mode.OBSERVE)
    if observed:
        _log.warning("rules_only_observed", rules=observed, problem="every deny by these FAS rules is answered allow")
    if not providers:
        _log.warning("no_idps", problem="no identity provider is registered, so every decision is a deny")
    if not plugins.by_certificate and not plugins.by_key and not settings.allow_anonymous_loopback:
        _log.warning("no_callers", problem="no plug-in is enrolled, so nobody may ask: `fas-evidence plugin enroll`")
    for problem in holder.problems:
        _log.error("configuration_problem", problem=problem)
