"""What uvicorn does not do: name the peer's certificate, and part with those who send slowly or too much.

Every connection is always in one of three states, and the first two end by themselves: waiting for a request
head, waiting for the rest of a body, or ours (being answered, or idle under uvicorn's keep-alive timer). Where
there are too many, those over which nobody known has asked make room first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sized
from dataclasses import dataclass
from typing import ClassVar, Literal

import h11
import structlog
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from evidence_service.web.auth import CLIENT_CERTIFICATE, CONNECTION_EXTENSION, TLS_EXTENSION
from evidence_service.web.problems import CLOSE, SECURITY_HEADERS, problem

try:
    import httptools
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ImportError:  # no wheel for this platform; h11 does the same more slowly
    httptools = None  # type: ignore[assignment]

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportLimits:
    """Bounds of one connection (seconds, bytes) and of all together."""

    header_timeout: float = 10.0
    body_timeout: float = 10.0
    max_header_bytes: int = 16_384
    max_body_bytes: int = 1_048_576
    max_connections: int = 4096


class _Room:
    """The connections that may have to make room for others, those that have been silent longest first."""

    def __init__(self) -> None:
        self.strangers: dict[_Watch, None] = {}
        self.idle: dict[_Watch, None] = {}

    def enter(self, watch: _Watch) -> None:
        """Put it last among its like. Strangers may be parted with at any time, others while nothing is decided."""
        self.leave(watch)
        (self.idle if watch.known else self.strangers)[watch] = None

    def leave(self, watch: _Watch) -> None:
        self.strangers.pop(watch, None)
        self.idle.pop(watch, None)

    def make(self) -> bool:
        """Part with one; answers whether there was one."""
        for watches in (self.strangers, self.idle):
            for watch in watches:
                watch.close("too many connections")
                return True
        return False


class _Watch:
    """The one timer of a connection, its byte count, and what is known of who is at its other end."""

    def __init__(self, limits: TransportLimits, room: _Room, connections: Sized, transport: asyncio.Transport) -> None:
        self._limits = limits
        self._room = room
        self._connections = connections
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._left = 0
        self.ours = False
        self.known = False

    @property
    def crowded(self) -> bool:
        return not self.known and 2 * len(self._connections) > self._limits.max_connections

    @property
    def is_received(self) -> bool:
        return self.ours

    def recognise(self) -> None:
        if not self.known:
            self._room.leave(self)
            self.known = True

    def start(self) -> None:
        """Watch a new connection. Where there are too many, another makes room, or it must go itself."""
        if len(self._connections) > self._limits.max_connections and not self._room.make():
            self.close("too many connections")
            return
        self._room.enter(self)
        self.expect_head()

    def expect_head(self) -> None:
        self._expect(self._limits.header_timeout, self._limits.max_header_bytes, "request head")

    def expect_body(self) -> None:
        # What is above the application's own limit is read and dropped, so that its 413 reaches the sender.
        self._expect(self._limits.body_timeout, 2 * self._limits.max_body_bytes, "request body")

    def received(self, size: int) -> None:
        """Count what was parsed without completing what is expected."""
        self._left -= size
        if self._left < 0 and not self.ours:
            self.close("request too large")

    def complete(self, *, answered: bool) -> None:
        """The request is here, and its answer may even have been given already."""
        self.ours = True
        self._stop_timer()
        if self.known and not answered:
            self._room.leave(self)
        else:
            self._room.enter(self)

    def answered(self) -> None:
        if self.ours and not self._transport.is_closing():
            self._room.enter(self)

    def stop(self) -> None:
        self._room.leave(self)
        self._stop_timer()

    def close(self, why: str) -> None:
        """Abort: a polite close would wait for a peer that does not read."""
        self.stop()
        closing = self._transport.is_closing()
        peer = self._transport.get_extra_info("peername")
        self._transport.abort()
        if not closing:
            _log.info("connection_closed", why=why, peer=peer[0] if peer else None)

    def _expect(self, seconds: float, size: int, what: str) -> None:
        self._stop_timer()
        self._timer = self._loop.call_later(seconds, self.close, f"{what} not complete within {seconds:g} s")
        self._left = size
        self.ours = False

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _with_connection(app: ASGIApp, transport: asyncio.Transport, watch: _Watch) -> ASGIApp:
    """`app` with the peer's certificate (DER; None without one) and the connection in `scope["extensions"]`."""
    extensions: dict[str, object] = {CONNECTION_EXTENSION: watch}
    tls = transport.get_extra_info("ssl_object")
    if tls is not None:
        extensions[TLS_EXTENSION] = {CLIENT_CERTIFICATE: tls.getpeercert(binary_form=True)}

    async def with_connection(scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("extensions", {}).update(extensions)
        await app(scope, receive, send)

    return with_connection


def _bad_request(detail: str) -> bytes:
    reply = problem(400, "bad_request", detail)
    headers = [*reply.headers, *SECURITY_HEADERS, CLOSE]
    head = b"".join(b"%b: %b\r\n" % header for header in headers)
    return b"HTTP/1.1 400 Bad Request\r\n%bcontent-length: %d\r\n\r\n%b" % (head, len(reply.body), reply.body)


class _GuardedH11(H11Protocol):
    limits: ClassVar[TransportLimits]
    room: ClassVar[_Room]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch = _Watch(self.limits, self.room, self.connections, transport)
        self.app = _with_connection(self.app, transport, self._watch)
        self._watch.start()

    def data_received(self, data: bytes) -> None:
        if self._watch.ours:
            self._watch.expect_head()
        if self.conn.their_state is h11.IDLE and self._head_too_large(data):  # h11 looks at incomplete heads only
            self.send_400_response("request head too large")
            return
        super().data_received(data)
        self._watch.received(len(data))

    def _head_too_large(self, data: bytes) -> bool:
        limit = self.limits.max_header_bytes
        received = self.conn.trailing_data[0] + data
        return len(received) > limit and b"\r\n\r\n" not in received[:limit]

    def handle_events(self) -> None:
        before = self.conn.their_state
        super().handle_events()
        after = self.conn.their_state
        if after is h11.SEND_BODY:
            if before is not h11.SEND_BODY:
                self._watch.expect_body()
        elif after is not h11.IDLE:
            self._watch.complete(answered=self.conn.our_state not in (h11.SEND_RESPONSE, h11.SEND_BODY))
        elif self._watch.ours and self.conn.trailing_data[0]:  # the beginning of a pipelined request
            self._watch.expect_head()

    def send_400_response(self, msg: str) -> None:
        self.transport.write(_bad_request(msg))
        self.transport.close()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.timeout_keep_alive_task is not None:  # uvicorn waits for another request
            self._watch.answered()

    def connection_lost(self, exc: Exception | None) -> None:
        self._watch.stop()
        super().connection_lost(exc)


if httptools is not None:

    class _GuardedHttpTools(HttpToolsProtocol):
        limits: ClassVar[TransportLimits]
        room: ClassVar[_Room]

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._head_bytes = 0
            self._watch = _Watch(self.limits, self.room, self.connections, transport)
            self.app = _with_connection(self.app, transport, self._watch)
            self._watch.start()

        def data_received(self, data: bytes) -> None:
            if self._watch.ours:
                self._watch.expect_head()
            super().data_received(data)
            self._watch.received(len(data))

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._head_bytes = 0
            if self._watch.ours:  # the next of pipelined requests
                self._watch.expect_head()

        def on_url(self, url: bytes) -> None:
            self._count_head(len(url))
            super().on_url(url)

        def on_header(self, name: bytes, value: bytes) -> None:
            self._count_head(len(name) + len(value) + 4)
            super().on_header(name, value)

        def _count_head(self, size: int) -> None:
            self._head_bytes += size
            if self._head_bytes > self.limits.max_header_bytes:
                raise ValueError("request head too large")  # the parser turns it into a 400

        def on_headers_complete(self) -> None:
            super().on_headers_complete()
            self._watch.expect_body()

        def on_message_complete(self) -> None:
            super().on_message_complete()
            self._watch.complete(answered=self.cycle.response_complete)

        def send_400_response(self, msg: str) -> None:
            self.transport.write(_bad_request(msg))
            self.transport.close()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if self.timeout_keep_alive_task is not None:  # uvicorn waits for another request
                self._watch.answered()

        def connection_lost(self, exc: Exception | None) -> None:
            self._watch.stop()
            super().connection_lost(exc)


Implementation = Literal["auto", "httptools", "h11"]


def guarded_protocol(limits: TransportLimits, implementation: Implementation = "auto") -> type[asyncio.Protocol]:
    """The HTTP protocol for uvicorn with these `limits`. Raises RuntimeError where httptools is wanted and missing."""
    if implementation == "h11" or (implementation == "auto" and httptools is None):
        base: type[asyncio.Protocol] = _GuardedH11
    elif httptools is None:
        raise RuntimeError("httptools is not installed")
    else:
        base = _GuardedHttpTools
    return type("GuardedProtocol", (base,), {"limits": limits, "room": _Room()})
