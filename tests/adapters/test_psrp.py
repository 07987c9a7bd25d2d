from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from evidence_service.adapters.psrp import WinRmPowerShell
from evidence_service.demo.fas_farm import SimulatedFarm
from evidence_service.demo.winrm import WinRmServer
from evidence_service.renewal.cmdlets import Argument, Cmdlet
from evidence_service.renewal.farm import WinRm
from evidence_service.renewal.ports import FasUnreachable

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
FAS1 = "fas1.corp.example"
READ = Cmdlet(name="Get-FasServer")

Answer = Callable[[socket.socket, threading.Event], None]


@pytest.fixture
def winrm(tmp_path: Path) -> Iterator[WinRmServer]:
    """WinRM of a farm without certificates."""
    with WinRmServer(SimulatedFarm(NOW), tmp_path) as serving:
        yield serving


@contextmanager
def answering(winrm: WinRmServer, answer: Answer, *, operation_seconds: float = 20.0) -> Iterator[WinRm]:
    """A server with the right certificate that gives this answer to whatever is asked."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError):
                while not ended.is_set():
                    accepted, _ = listening.accept()
                    with winrm.context.wrap_socket(accepted, server_side=True) as connection:
                        take_request(connection)
                        answer(connection, ended)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        connection = winrm.connection(FAS1, operation_seconds=operation_seconds)
        yield replace(connection, port=listening.getsockname()[1])
        ended.set()
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def take_request(connection: socket.socket) -> None:
    """The whole request: a connection that is closed before would be reset, and lose the answer."""
    with connection.makefile("rb") as reading:
        length = 0
        while (line := reading.readline().strip()) != b"":
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        reading.read(length)


def redirect(connection: socket.socket, ended: threading.Event) -> None:
    """Somewhere else, with the same method and body."""
    connection.sendall(
        b"HTTP/1.1 307 Temporary Redirect\r\nLocation: https://elsewhere.example/wsman\r\nContent-Length: 0\r\n\r\n"
    )


def drip(connection: socket.socket, ended: threading.Event) -> None:
    """A byte now and then, for ever."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while not ended.wait(0.05):
        connection.sendall(b" ")


def unavailable(connection: socket.socket, ended: threading.Event) -> None:
    """A proxy's word for a server that is away, without any WS-Management in it."""
    connection.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\ndown")


@pytest.mark.parametrize(
    ("answer", "operation_seconds", "remedy"),
    [
        (redirect, 20.0, "redirect, which is not followed"),
        (drip, 0.3, "no answer"),
        (unavailable, 20.0, "WinRM opened no session .*503.*configuration_name"),
    ],
)
def test_an_answer_that_is_none_ends_in_time_and_names_the_remedy(
    answer: Answer, operation_seconds: float, remedy: str, winrm: WinRmServer
) -> None:
    """Nothing is followed, waited for longer than is set, or tried again (promise 60)."""
    with (
        answering(winrm, answer, operation_seconds=operation_seconds) as connection,
        pytest.raises(FasUnreachable, match=remedy),
        WinRmPowerShell(connection),
    ):
        pass


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HTTPS_PROXY", "http://127.0.0.1:9"),
        ("ALL_PROXY", "http://127.0.0.1:9"),
        ("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem"),
        ("CURL_CA_BUNDLE", "/nowhere/ca.pem"),
    ],
)
def test_the_environment_changes_no_connection(
    variable: str, value: str, winrm: WinRmServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what is configured decides through whom and by whose word a FAS server is reached."""
    monkeypatch.setenv(variable, value)
    with WinRmPowerShell(winrm.connection(FAS1)) as session:
        assert [each["Address"] for each in session.invoke(READ).objects] == [FAS1, "fas2.corp.example"]


def test_a_netrc_gives_no_password_in_the_place_of_a_certificate(
    winrm: WinRmServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who signs in by certificate signs in by nothing else."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine localhost login nobody password wrong\n", encoding="utf-8")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with WinRmPowerShell(winrm.connection(FAS1, "certificate")) as session:
        assert session.invoke(READ).errors == ()


def test_bytes_arrive_as_they_are(winrm: WinRmServer) -> None:
    """The signed answer to an offline request is written byte for byte, whatever its length and values."""
    whole = bytes(range(256)) * 300
    parameters: Mapping[str, Argument] = {"LiteralPath": r"C:\Windows\Temp\x.p7b", "Value": whole, "Encoding": "Byte"}
    with WinRmPowerShell(winrm.connection(FAS1)) as session:
        assert session.invoke(Cmdlet(name="Set-Content", parameters=parameters)).errors == ()
    assert list(winrm.farm.server(FAS1).files.values()) == [whole]


def test_the_password_is_in_no_text_of_the_session(winrm: WinRmServer) -> None:
    """Neither the configuration nor a refusal shows it."""
    connection = replace(winrm.connection(FAS1), password="a-wrong-password")
    with pytest.raises(FasUnreachable) as refused, WinRmPowerShell(connection):
        pass
    assert "a-wrong-password" not in f"{connection!r} {refused.value}"


def test_without_a_ca_file_the_system_decides_and_no_bundle_of_a_library(
    winrm: WinRmServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An authority that only requests' own bundle lists is none; one that the system lists is (SSL_CERT_FILE here)."""
    connection = winrm.connection(FAS1)
    assert connection.ca_file is not None
    monkeypatch.setattr("requests.adapters.DEFAULT_CA_BUNDLE_PATH", connection.ca_file)
    with pytest.raises(FasUnreachable, match="TLS failed"), WinRmPowerShell(replace(connection, ca_file=None)):
        pass
    monkeypatch.setenv("SSL_CERT_FILE", connection.ca_file)
    with WinRmPowerShell(replace(connection, ca_file=None)) as session:
        assert session.invoke(READ).errors == ()
