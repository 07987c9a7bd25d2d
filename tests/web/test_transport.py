"""Connections that stall, swell or lie, against real listeners of both HTTP implementations."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import socket
import ssl
import time
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send

from evidence_service.web.auth import connection_of
from evidence_service.web.problems import json_reply
from evidence_service.web.tls import ServerTls
from evidence_service.web.transport import Implementation, TransportLimits
from tests.web.listening import (
    PATIENCE,
    answer_of,
    client_context,
    connected,
    identity,
    is_closed,
    listening,
    request,
)

QUICK = TransportLimits(
    header_timeout=0.6, body_timeout=0.6, max_header_bytes=2048, max_body_bytes=4096, max_connections=1000
)
"""For connections that are to be closed; on a slow machine a good request might not be in time."""
PATIENT = TransportLimits(header_timeout=60, body_timeout=60, max_header_bytes=2048, max_body_bytes=4096)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads the body and answers its size, and the thumbprint of the peer's certificate."""
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        if not message["more_body"]:
            break
    der = scope.get("extensions", {}).get("tls", {}).get("client_cert_der")
    await json_reply(f"{size} {hashlib.sha256(der).hexdigest() if der else None}".encode()).send(send)


async def answer_unread(_: Scope, __: Receive, send: Send) -> None:
    """Answers without reading the body."""
    await json_reply(b"unread", 413).send(send)


both = pytest.mark.parametrize("implementation", ["httptools", "h11"])


@both
@pytest.mark.parametrize(
    "start",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\r\n", id="a line break"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: x\r\nX: ", id="half a head"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc", id="half a body"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", id="half a chunk"),
        pytest.param(request(b"abc") + b"POST / HT", id="half of a second request"),
        pytest.param(request(b"abc") * 3 + b"POST / HT", id="half of a pipelined request"),
    ],
)
def test_promise_3_a_stalled_connection_is_closed(implementation: Implementation, start: bytes) -> None:
    """Whatever is missing of a request, the connection ends by itself (promise 3)."""
    with listening(echo, QUICK, implementation) as port, connected(port) as connection:
        connection.sendall(start)
        assert is_closed(connection)


@both
@pytest.mark.parametrize(
    ("start", "drip"),
    [
        pytest.param(b"POST / HTTP/1.1\r\nX: ", b"a", id="head"),
        pytest.param(b"\r\n", b"\r\n", id="line breaks before the head"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", b"a", id="body"),
        pytest.param(request(b"abc"), b"\r\n", id="line breaks after a request"),
    ],
)
def test_promise_3_dripping_does_not_prolong(implementation: Implementation, start: bytes, drip: bytes) -> None:
    """A byte now and then does not keep a connection open (promise 3)."""
    with listening(echo, QUICK, implementation) as port, connected(port) as connection:
        connection.sendall(start)
        until = time.monotonic() + PATIENCE
        try:
            while time.monotonic() < until:
                connection.sendall(drip)
                time.sleep(0.1)
        except ConnectionError:
            return
        pytest.fail("still open")


@both
def test_an_idle_connection_between_requests_stays(implementation: Implementation) -> None:
    """The time limits are for requests in the making; keep-alive has its own, longer one."""
    with listening(echo, QUICK, implementation) as port, contextlib.ExitStack() as closing:
        answer = b""
        for _ in range(100):  # a slow machine may send the first request too late for the limit
            connection = closing.enter_context(connected(port))
            with contextlib.suppress(ConnectionError):
                connection.sendall(request(b"abc"))
                if answer := answer_of(connection):
                    break
        assert answer.endswith(b"3 None")
        assert not is_closed(connection, within=1.5)
        connection.sendall(request(b"abc"))
        assert answer_of(connection).endswith(b"3 None")


@both
def test_a_head_that_is_too_large_is_refused(implementation: Implementation) -> None:
    """In one piece it is a 400 with our headers; as an endless line it ends the connection (promise 85)."""
    with listening(echo, PATIENT, implementation) as port:
        with connected(port) as connection:
            connection.sendall(request(headers="".join(f"X-{number}: {'a' * 100}\r\n" for number in range(30))))
            answer = answer_of(connection)
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert b"x-content-type-options: nosniff" in answer.lower()
            assert is_closed(connection)
        with connected(port) as connection:
            connection.sendall(b"POST /" + b"a" * 5000)
            assert is_closed(connection)


@both
def test_a_body_far_beyond_the_limit_ends_the_connection(implementation: Implementation) -> None:
    """What is above the limit is read only so that the answer arrives, and not without end."""
    with listening(answer_unread, PATIENT, implementation) as port, connected(port) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            for _ in range(20_000):
                connection.sendall(b"400\r\n" + b"a" * 1024 + b"\r\n")
        except ConnectionError:
            return
        pytest.fail("20 MB were taken")


@both
def test_an_answer_before_the_body_was_read_arrives(implementation: Implementation) -> None:
    """A sender that is still sending gets its answer instead of a reset, and may ask again on the connection."""
    with listening(answer_unread, PATIENT, implementation) as port, connected(port) as connection:
        for _ in range(3):
            connection.sendall(request(b"a" * 6000))
            assert answer_of(connection).endswith(b"unread")


async def recognising(scope: Scope, receive: Receive, send: Send) -> None:
    """Knows callers that send an Authorization header, and answers whether the connection should go."""
    connection = connection_of(scope)
    assert connection is not None
    if any(name == b"authorization" for name, _ in scope["headers"]):
        connection.recognise()
    await receive()
    await json_reply(b"crowded" if connection.crowded else b"welcome").send(send)


KNOWN = request(b"abc", headers="Authorization: x\r\n")


def answered(port: int, asked: bytes = b"") -> socket.socket:
    """A connection that was served once and is kept."""
    connection = connected(port)
    connection.sendall(asked or request(b"abc"))
    assert answer_of(connection).startswith(b"HTTP/1.1 200 ")
    return connection


@both
def test_promise_3_too_many_connections_push_out_strangers(implementation: Implementation) -> None:
    """At the limit the strangers that are silent longest go, idle or not yet asking; known callers stay (promise 3)."""
    limits = TransportLimits(header_timeout=60, body_timeout=60, max_connections=4)
    with contextlib.ExitStack() as closing, listening(recognising, limits, implementation) as port:
        known = closing.enter_context(answered(port, KNOWN))
        idle = closing.enter_context(answered(port))
        silent = closing.enter_context(connected(port))
        again = closing.enter_context(answered(port))
        for gone, stays in ((idle, silent), (silent, again)):
            closing.enter_context(answered(port))
            assert is_closed(gone)
            assert not is_closed(stays, within=0.1)
        known.sendall(KNOWN)
        assert answer_of(known).endswith(b"welcome")


@both
def test_promise_3_idle_known_connections_make_room_last(implementation: Implementation) -> None:
    """With none but known callers connected, the one that is idle longest goes (promise 3)."""
    limits = TransportLimits(header_timeout=60, body_timeout=60, max_connections=2)
    with contextlib.ExitStack() as closing, listening(recognising, limits, implementation) as port:
        first, second = (closing.enter_context(answered(port, KNOWN)) for _ in range(2))
        first.sendall(KNOWN)
        assert answer_of(first).endswith(b"welcome")
        closing.enter_context(answered(port, KNOWN))
        assert is_closed(second)
        assert not is_closed(first, within=0.1)


@both
def test_strangers_learn_that_it_is_crowded(implementation: Implementation) -> None:
    """Above half of the connections, and never for known callers."""
    limits = TransportLimits(header_timeout=60, body_timeout=60, max_connections=4)
    with contextlib.ExitStack() as closing, listening(recognising, limits, implementation) as port:
        for asked, answer in ((b"", b"welcome"), (b"", b"welcome"), (b"", b"crowded"), (KNOWN, b"welcome")):
            connection = closing.enter_context(connected(port))
            connection.sendall(asked or request(b"abc"))
            assert answer_of(connection).endswith(answer)


@both
def test_garbage_is_answered_as_a_problem(implementation: Implementation) -> None:
    """What is not HTTP gets a 400 without a word about the server."""
    with listening(echo, PATIENT, implementation) as port, connected(port) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
        answer = answer_of(connection)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"bad_request" in answer
        assert b"uvicorn" not in answer.lower()


@both
def test_the_peer_certificate_reaches_the_application(implementation: Implementation, tmp_path: Path) -> None:
    """An enrolled certificate is named, a caller without one is nobody, one enrolled later needs no restart."""
    server, first, second = (identity(tmp_path, name) for name in ("server", "first", "second"))
    tls = ServerTls(server.certificate, server.key)
    assert tls.trust([first.der]) == ()
    assert tls.trust([b"no certificate", first.der]) == (b"no certificate",)

    def thumbprint(context: ssl.SSLContext) -> bytes:
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=PATIENCE)
        try:
            connection.request("POST", "/", b"abc")
            return connection.getresponse().read()
        finally:
            connection.close()

    with listening(echo, PATIENT, implementation, tls=tls.context) as port:
        assert thumbprint(client_context(server)) == b"3 None"
        assert thumbprint(client_context(server, first)) == b"3 " + hashlib.sha256(first.der).hexdigest().encode()
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
            thumbprint(client_context(server, second))
        tls.trust([second.der])
        assert thumbprint(client_context(server, second)) == b"3 " + hashlib.sha256(second.der).hexdigest().encode()
