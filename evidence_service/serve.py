"""Runs the decision plane in this process until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from datetime import timedelta
from types import FrameType
from typing import Any

import structlog
import uvicorn
from fastapi import FastAPI
from sqlalchemy import Engine

from evidence_service.access.model import Mode, Snapshot
from evidence_service.adapters.config_store import ConfigStore
from evidence_service.adapters.database import StoreUnavailable, open_database
from evidence_service.adapters.journal import Journal
from evidence_service.adapters.snapshots import Plugins, SnapshotHolder
from evidence_service.app import build_app
from evidence_service.settings import Settings
from evidence_service.web.health import Health
from evidence_service.web.logs import configure_logs
from evidence_service.web.tls import ServerTls, TlsError
from evidence_service.web.transport import TransportLimits, guarded_protocol

OK, BAD_INPUT, DEPENDENCY_FAILED = 0, 2, 3
FILES_BESIDE_CONNECTIONS = 128
LAST_LINES_SECONDS = 1.0
"""How long the end waits for whoever reads the log."""

_log = structlog.get_logger()


class _CannotListenError(Exception):
    """The address cannot be had; `str()` is one line."""


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
    _allow_connections(settings.max_connections)
    try:
        tls = None
        if settings.tls_certificate is not None and settings.tls_key is not None:
            tls = ServerTls(settings.tls_certificate, settings.tls_key)
        listener = _listen(settings)
    except (TlsError, _CannotListenError) as error:
        return BAD_INPUT, str(error)
    with contextlib.closing(listener):
        try:
            if not settings.database_url:
                settings.data_dir.mkdir(parents=True, exist_ok=True)
            engine = open_database(settings.effective_database_url)
        except OSError as error:
            return BAD_INPUT, f"data_dir: cannot create {settings.data_dir}: {error.strerror}"
        except StoreUnavailable as error:
            return DEPENDENCY_FAILED, str(error)
        try:
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                runner.run(_serve(settings, engine, listener, tls))
                return OK, None
        except StoreUnavailable as error:
            return DEPENDENCY_FAILED, str(error)
        finally:
            engine.dispose()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - has no wheels for Windows
    except ImportError:
        return None
    return uvloop.new_event_loop


def _allow_connections(count: int) -> None:
    """Raise this process's own limit of open files, as far as it may; a connection is a file."""
    try:
        import resource  # noqa: PLC0415 - not on Windows, which has no such limit
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + FILES_BESIDE_CONNECTIONS
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if wanted < count + FILES_BESIDE_CONNECTIONS:
        _log.warning("few_open_files", problem=f"max_connections is {count}, but only {hard} files may be open")


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.listen_host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":  # there it would let two processes share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.listen_host, settings.listen_port))
        listener.listen(0)  # two processes may bind the same port with SO_REUSEADDR, but only one may listen
    except OSError as error:
        listener.close()
        raise _CannotListenError(
            f"listen_host, listen_port: cannot listen on {settings.listen_host} port {settings.listen_port}:"
            f" {error.strerror}; choose another address or port, or stop what listens there"
        ) from error
    return listener


async def _serve(settings: Settings, engine: Engine, listener: socket.socket, tls: ServerTls | None) -> None:
    holder = SnapshotHolder(
        engine, secrets_dir=settings.effective_secrets_dir, stale_action=settings.metadata_stale_action
    )
    journal = Journal(engine)
    callers = _Callers(engine, tls)
    callers.load()
    followed = _Followed(holder)
    app = build_app(configuration=followed, journal=journal, settings=settings, revoked=lambda: callers.revoked)
    health: Health = app.state.health
    journal.start()

    def follow() -> Coroutine[Any, Any, None]:
        return _keep_fresh(settings, followed, callers, tls, health)

    refresher = asyncio.create_task(_keep_following(follow, followed, settings.refresh_seconds))
    try:
        server = _Server(_uvicorn_config(settings, app, tls), settings, listener, health)
        _announce(settings, listener, holder, callers, tls)
        health.started = True
        await server.serve()
    finally:
        refresher.cancel()
        await asyncio.wait([refresher])
        await journal.stop()
    _log.info("stopped")


class _Followed:
    """The configuration, which is current only as long as somebody follows its changes (promise 35)."""

    def __init__(self, holder: SnapshotHolder) -> None:
        self.holder = holder
        self.following = True

    def current(self) -> Snapshot:
        return self.holder.current()

    @property
    def plugins(self) -> Plugins:
        return self.holder.plugins

    @property
    def age(self) -> timedelta:
        return self.holder.age if self.following else timedelta.max


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

    The database is asked in a thread; while it does not answer, this loop still beats: a restart would not cure it.
    """
    known = False

    def look() -> None:
        nonlocal known
        if followed.holder.refresh():
            known = False
            _log.info("configuration_changed", snapshot=followed.holder.current().version)
        if not known:
            callers.load()
            known = True
        if tls is not None and tls.reload():
            _log.info("server_certificate_reloaded")

    pending: asyncio.Task[None] | None = None
    while True:
        health.beat()
        if pending is None:
            pending = asyncio.create_task(asyncio.to_thread(look))
        await asyncio.wait([pending], timeout=settings.refresh_seconds)
        if pending.done():
            error = pending.exception()
            pending = None
            followed.following = True
            if isinstance(error, (StoreUnavailable, TlsError)):
                _log.error("refresh_failed", problem=str(error))
            elif error is not None:
                _log.error("refresh_failed", exc_info=error)
            await asyncio.sleep(settings.refresh_seconds)


def _uvicorn_config(settings: Settings, app: FastAPI, tls: ServerTls | None) -> uvicorn.Config:
    limits = TransportLimits(
        header_timeout=settings.header_timeout,
        body_timeout=settings.body_timeout,
        max_header_bytes=settings.max_header_bytes,
        max_body_bytes=settings.max_body_bytes,
        max_connections=settings.max_connections,
    )
    config = uvicorn.Config(
        app,
        http=guarded_protocol(limits),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=int(settings.deadline_seconds) + 1,
        h11_max_incomplete_event_size=settings.max_header_bytes,
        ssl_context_factory=None if tls is None else lambda _config, _default: tls.context,
    )
    config.load()
    return config


class _Server(uvicorn.Server):
    """uvicorn's server, which listens with time limits on the handshake and drains before it closes the listener."""

    def __init__(self, config: uvicorn.Config, settings: Settings, listener: socket.socket, health: Health) -> None:
        super().__init__(config)
        self._settings = settings
        self._listener = listener
        self._health = health
        self._close_at: float | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002 - as inherited
        loop = asyncio.get_running_loop()
        limits: dict[str, Any] = {}
        if self.config.ssl is not None:
            limits = {"ssl_handshake_timeout": self._settings.header_timeout, "ssl_shutdown_timeout": 1.0}
        await self.lifespan.startup()
        server = await loop.create_server(
            lambda: self.config.http_protocol_class(  # type: ignore[call-arg]
                config=self.config, server_state=self.server_state, app_state=self.lifespan.state, _loop=loop
            ),
            sock=self._listener,
            ssl=self.config.ssl,
            backlog=self.config.backlog,
            **limits,
        )
        self.servers = [server]
        self.started = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as inherited
        if self._health.draining and sig == signal.SIGINT:
            self.force_exit = self.should_exit = True
        self._health.draining = True

    async def on_tick(self, counter: int) -> bool:
        if self._health.draining and self._close_at is None:
            now = asyncio.get_running_loop().time()
            self._close_at = now + self._settings.drain_seconds
            # Callers that keep their connection would otherwise ask into the closing one.
            self.config.encoded_headers = [*self.config.encoded_headers, (b"connection", b"close")]
            counter = 0  # makes uvicorn take over the headers now
            _log.info("draining", seconds=self._settings.drain_seconds)
        if self._close_at is not None and asyncio.get_running_loop().time() >= self._close_at:
            return True
        return await super().on_tick(counter)


def _announce(
    settings: Settings, listener: socket.socket, holder: SnapshotHolder, callers: _Callers, tls: ServerTls | None
) -> None:
    host, port = listener.getsockname()[:2]
    scheme = "http" if tls is None else "https"
    plugins = holder.plugins
    providers = holder.current().trust.providers
    _log.info(
        "listening",
        url=f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}",
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
