from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from evidence_service.adapters.https_client import HttpsClient
from evidence_service.adapters.sending import NotDelivered
from tests.adapters.tls_identity import Identity

Speak = Callable[[socket.socket], None]


@contextmanager
def serving(identity: Identity, speak: Speak) -> Iterator[tuple[str, threading.Event]]:
    """The address of a server of TLS that says this to whoever connects, and whether the other side hung up on it."""
    hung_up = threading.Event()

    def serve() -> None:
        accepted, _ = listening.accept()
        try:
            with identity.context().wrap_socket(accepted, server_side=True) as connection:
                connection.recv(65536)
                speak(connection)
        except OSError:
            hung_up.set()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"https://localhost:{listening.getsockname()[1]}/", hung_up
        thread.join(30)


def drip(connection: socket.socket) -> None:
    """A byte now and then, for ever."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        connection.sendall(b" ")
        threading.Event().wait(0.05)


def drip_headers(connection: socket.socket) -> None:
    """No end of what stands before the answer."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        connection.sendall(b"x")
        threading.Event().wait(0.05)


@pytest.mark.parametrize("speak", [drip, drip_headers])
def test_a_server_that_drips_is_left_when_the_time_is_over(speak: Speak) -> None:
    """The whole exchange has one time, which no byte starts anew, and the connection goes with it."""
    with Identity("localhost") as identity, serving(identity, speak) as (url, hung_up):
        client = HttpsClient(ca_file=identity.ca_file, timeout_seconds=0.5)
        with pytest.raises(NotDelivered, match=r"localhost:\d+ cannot be asked: it does not answer in time"):
            client.request("POST", url, headers={}, body=b"{}")
        assert hung_up.wait(30)


def test_no_more_of_an_answer_is_taken_than_anybody_needs() -> None:
    """What follows is left unread."""

    def flood(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 500 No\r\nContent-Length: 100000000000\r\n\r\n")
        while True:
            connection.sendall(b"x" * 65536)

    with Identity("localhost") as identity, serving(identity, flood) as (url, hung_up):
        answer = HttpsClient(ca_file=identity.ca_file).request("GET", url, headers={})
        assert (answer.status, len(answer.body)) == (500, 256 * 1024)
        assert hung_up.wait(30)


def test_a_server_that_closes_half_way_has_not_answered() -> None:
    """Half a body is no answer to be acted on."""

    def half(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    with (
        Identity("localhost") as identity,
        serving(identity, half) as (url, _),
        pytest.raises(NotDelivered, match=r"localhost:\d+ cannot be asked"),
    ):
        HttpsClient(ca_file=identity.ca_file).request("GET", url, headers={})
