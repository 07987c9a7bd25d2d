"""What listens: a socket, uvicorn on it with our limits, and an end that lets callers go elsewhere first."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

import structlog
import uvicorn
from starlette.types import ASGIApp

from evidence_service.web.health import Health
from evidence_service.web.tls import ServerTls
from evidence_service.web.transport import TransportLimits, guarded_protocol

FILES_BESIDE_CONNECTIONS = 128

_log = structlog.get_logger()


class CannotListen(Exception):  # noqa: N818 - an outcome
    """The address cannot be had; `str()` is one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """How long things may take, in seconds: an idle connection, the last answers, new requests while draining."""

    keep_alive: int
    last_answers: int
    drain: float


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The fastest event loop there is; None: the usual one."""
    try:
        import uvloop  # noqa: PLC0415 - has no wheels for Windows
    except ImportError:
        return None
    return uvloop.new_event_loop


def allow_connections(count: int) -> None:
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


def listen(host: str, port: int, members: str) -> socket.socket:
    """A listening socket. Raises CannotListen, which names the settings `members`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":  # there it would let two processes share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(0)  # two processes may bind the same port with SO_REUSEADDR, but only one may listen
    except OSError as error:
        listener.close()
        raise CannotListen(
            f"{members}: cannot listen on {host} port {port}:"
            f" {error.strerror}; choose another address or port, or stop what listens there"
        ) from error
    return listener


def url_of(listener: socket.socket, tls: ServerTls | None) -> str:
    """The address that callers use."""
    host, port = listener.getsockname()[:2]
    scheme = "http" if tls is None else "https"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def server_config(app: ASGIApp, limits: TransportLimits, times: Times, tls: ServerTls | None) -> uvicorn.Config:
    """Uvicorn as we run it: nothing said of itself, our transport, our limits."""
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
        timeout_keep_alive=times.keep_alive,
        timeout_graceful_shutdown=times.last_answers,
        h11_max_incomplete_event_size=limits.max_header_bytes,
        ssl_context_factory=None if tls is None else lambda _config, _default: tls.context,
    )
    config.load()
    return config


class Server(uvicorn.Server):
    """uvicorn's server, which listens with time limits on the handshake and drains before it closes the listener."""

    def __init__(
        self, config: uvicorn.Config, listener: socket.socket, health: Health, limits: TransportLimits, times: Times
    ) -> None:
        """Serve on `listener`, and drain when told to stop."""
        super().__init__(config)
        self._limits = limits
        self._times = times
        self._listener = listener
        self._health = health
        self._close_at: float | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002 - as inherited
        """Listen."""
        loop = asyncio.get_running_loop()
        limits: dict[str, Any] = {}
        if self.config.ssl is not None:
            limits = {"ssl_handshake_timeout": self._limits.header_timeout, "ssl_shutdown_timeout": 1.0}
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
        """Drain; a second Ctrl-C ends at once."""
        if self._health.draining and sig == signal.SIGINT:
            self.force_exit = self.should_exit = True
        self._health.draining = True

    async def on_tick(self, counter: int) -> bool:
        """Whether it is time to stop."""
        if self._health.draining and self._close_at is None:
            now = asyncio.get_running_loop().time()
            self._close_at = now + self._times.drain
            # Callers that keep their connection would otherwise ask into the closing one.
            self.config.encoded_headers = [*self.config.encoded_headers, (b"connection", b"close")]
            counter = 0  # makes uvicorn take over the headers now
            _log.info("draining", seconds=self._times.drain)
        if self._close_at is not None and asyncio.get_running_loop().time() >= self._close_at:
            return True
        return await super().on_tick(counter)
