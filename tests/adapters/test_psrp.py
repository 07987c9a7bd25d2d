from __future__ import annotations

import re
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from evidence_service.adapters import psrp
from evidence_service.adapters.psrp import WinRmPowerShell
from evidence_service.demo.fas_farm import SimulatedFarm
from evidence_service.demo.psrp_host import Received, RunspaceHost
from evidence_service.demo.winrm import WinRmServer
from evidence_service.renewal.cmdlets import Argument, Cmdlet
from evidence_service.renewal.farm import WinRm
from evidence_service.renewal.ports import FasAnswerUnknown, FasUnreachable

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


def flood(connection: socket.socket, ended: threading.Event) -> None:
    """More than anybody takes."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")
    while not ended.is_set():
        connection.sendall(b" " * 65536)


def unavailable(connection: socket.socket, ended: threading.Event) -> None:
    """A proxy's word for a server that is away, without any WS-Management in it."""
    connection.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\ndown")


@pytest.mark.parametrize(
    ("answer", "operation_seconds", "remedy"),
    [
        (redirect, 20.0, "redirect, which is not followed"),
        (drip, 0.3, "no answer"),
        (flood, 20.0, "one message of its answer has more than 1 MiB"),
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


LISTENS = "Check host and port, that WinRM listens for HTTPS there, and the firewall."


@pytest.mark.parametrize(
    ("host", "problem"),
    [
        ("fas1.invalid", "fas1.invalid:1: the name cannot be resolved. Check DNS on this machine, and host."),
        (
            "127.0.0.1",
            f"127.0.0.1:1: no answer (Connection refused). {LISTENS}",
        ),
    ],
)
def test_a_server_that_is_not_reached_is_told_in_plain_words(
    host: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the objects of a library, and with the remedy of this very problem."""
    look_up = socket.getaddrinfo

    def known(name: str, *asked: Any, **how: Any) -> object:
        if name == "fas1.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return look_up(name, *asked, **how)

    monkeypatch.setattr("urllib3.util.connection.socket.getaddrinfo", known)
    with pytest.raises(FasUnreachable) as caught, WinRmPowerShell(WinRm(host=host, port=1, username="u", password="p")):
        pass
    assert str(caught.value) == problem


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


def test_a_server_that_drips_holds_no_connection_when_the_time_is_over(winrm: WinRmServer) -> None:
    """The connection is closed with the call, so that nothing of it is left, however often it happens."""
    hung_up = threading.Event()

    def dripping(connection: socket.socket, ended: threading.Event) -> None:
        try:
            drip(connection, ended)
        except OSError:
            hung_up.set()

    with answering(winrm, dripping, operation_seconds=0.3) as connection:
        with pytest.raises(FasUnreachable, match="no answer"), WinRmPowerShell(connection):
            pass
        assert hung_up.wait(30)


def test_calls_that_cannot_be_ended_are_few(winrm: WinRmServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing ends the look-up of a name; a server with as many as are left alone is not asked before one has ended."""
    connection = winrm.connection(FAS1, operation_seconds=0.05)
    found = threading.Event()
    look_up: Callable[..., object] = socket.getaddrinfo

    def slow(*asked: object, **how: object) -> object:
        found.wait()
        return look_up(*asked, **how)

    monkeypatch.setattr(psrp, "_GRACE_SECONDS", 0.0)
    monkeypatch.setattr("urllib3.util.connection.socket.getaddrinfo", slow)
    for _ in range(3):
        with pytest.raises(FasUnreachable, match="no answer"), WinRmPowerShell(connection):
            pass
    with pytest.raises(FasUnreachable, match="3 earlier calls to it have not ended yet"), WinRmPowerShell(connection):
        pass
    found.set()
    for each in threading.enumerate():
        if each.name == f"WinRM {connection.host}:{connection.port}":
            each.join()
    with WinRmPowerShell(replace(connection, operation_seconds=20.0)) as session:
        assert len(session.invoke(READ).objects) == 2


@pytest.mark.parametrize(
    ("limit", "most", "said"),
    [
        ("MOST_OBJECTS", 1, "its answer has more than 1 objects"),
        ("_MOST_BYTES", 2000, "its answer has more than 0 MiB"),
    ],
)
def test_more_than_is_taken_is_no_answer(
    limit: str, most: int, said: str, winrm: WinRmServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call may have done what was asked, so it is unknown (promise 46)."""
    with WinRmPowerShell(winrm.connection(FAS1)) as session:
        monkeypatch.setattr(psrp, limit, most)
        with pytest.raises(FasAnswerUnknown, match=said):
            session.invoke(READ)


OUTPUT, ERROR = b"\x04\x10\x04\x00", b"\x05\x10\x04\x00"
"""MS-PSRP 2.2.1: the type of a message with an object that a cmdlet wrote, and with an error."""


def altered(
    monkeypatch: pytest.MonkeyPatch, kind: bytes, alter: Callable[[bytes], bytes], flags: bytes | None = None
) -> None:
    """Have the server alter the text of each message of this kind (MS-PSRP 2.2.4: fragments of 21 bytes and a part)."""
    receive = RunspaceHost.receive

    def fragment(data: bytes) -> bytes:
        whole = b""
        while data:
            length = int.from_bytes(data[17:21], "big")
            head, body, data = data[:17], data[21 : 21 + length], data[21 + length :]
            if body[4:8] == kind:
                body = body[:40] + alter(body[40:])
                head = head[:16] + (flags or head[16:])
            whole += head + len(body).to_bytes(4, "big") + body
        return whole

    def received(self: RunspaceHost, pipeline_id: uuid.UUID | None, seconds: float) -> Received | None:
        found = receive(self, pipeline_id, seconds)
        return found and replace(found, fragments=tuple(map(fragment, found.fragments)))

    monkeypatch.setattr(RunspaceHost, "receive", received)


@pytest.mark.parametrize(
    ("alter", "flags", "said"),
    [
        (lambda text: text[: len(text) // 2], None, "half an object"),
        (lambda text: text, b"\x01", "in the middle of an object"),
        (lambda text: b'<!DOCTYPE x [<!ENTITY a "b">]>' + text.removeprefix(b"\xef\xbb\xbf"), None, "document type"),
    ],
)
def test_half_an_object_is_no_answer(
    alter: Callable[[bytes], bytes],
    flags: bytes | None,
    said: str,
    winrm: WinRmServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is not handed on as a text that says nothing against success, and an object that never ended is missed."""
    altered(monkeypatch, OUTPUT, alter, flags)
    connection = replace(winrm.connection(FAS1), load_snapin=False)
    with WinRmPowerShell(connection) as session, pytest.raises(FasAnswerUnknown, match=said):
        session.invoke(READ)


ENUM = "<TN RefId='1'><T>Citrix.Status</T><T>System.Enum</T></TN>"
LIST = "System.Collections.Generic.List`1[[Citrix.Name, Citrix]]"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("<Obj RefId='1' N='It'><TN RefId='1'><T>System.String[]</T></TN><LST><S>a</S></LST></Obj>", ["a"]),
        (f"<Obj RefId='1' N='It'><TN RefId='1'><T>{LIST}</T></TN><LST><S>a</S><S>b</S></LST></Obj>", ["a", "b"]),
        ("<Obj RefId='1' N='It'><TN RefId='1'><T>Citrix.Names</T></TN><IE><S>a</S></IE></Obj>", ["a"]),
        ("<Obj RefId='1' N='It'><TN RefId='1'><T>Citrix.Names</T></TN><STK><S>a</S></STK></Obj>", ["a"]),
        ("<Obj RefId='1' N='It'><QUE><S>a</S></QUE></Obj>", ["a"]),
        ("<Obj RefId='1' N='It'><IE /></Obj>", []),
        (
            "<Obj RefId='1' N='It'><DCT><En><S N='Key'>a</S><I32 N='Value'>1</I32></En></DCT></Obj>",
            {"a": 1},
        ),
        ("<Obj RefId='1' N='It'><TN RefId='1'><T>Citrix.Word</T></TN><S>Ok</S></Obj>", "Ok"),
        ("<Obj RefId='1' N='It'><TN RefId='1'><T>System.String</T></TN><S>Ok</S></Obj>", "Ok"),
        (
            f"<Obj RefId='1' N='It'>{ENUM}<ToString>Denied</ToString><I32>5</I32></Obj>",
            "Denied",
        ),
        ("<Obj RefId='1' N='It'><TN RefId='1'><T>Citrix.O</T></TN><Props><B N='X'>true</B></Props></Obj>", {"X": True}),
        ("<DT N='It'>2026-06-01T02:00:00+02:00</DT>", datetime(2026, 6, 1, tzinfo=UTC)),
        ("<TS N='It'>P30D</TS>", "P30D"),
        ("<Nil N='It' />", None),
    ],
)
def test_a_value_is_read_by_its_form_whatever_its_type_is_called(
    written: str, read: object, winrm: WinRmServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each kind of list is one, also of a type that nobody here knows, and never the text of its XML."""
    altered(monkeypatch, OUTPUT, lambda _: f"<Obj RefId='0'><MS>{written}</MS></Obj>".encode())
    with WinRmPowerShell(replace(winrm.connection(FAS1), load_snapin=False)) as session:
        assert session.invoke(READ).objects[0] == {"It": read}


def test_references_that_double_without_end_are_no_answer(winrm: WinRmServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty lists, each with the one before twice, are 2^60 values in few bytes."""
    doubled = "<Obj RefId='1' N='It'><LST><S>a</S></LST></Obj>"
    for each in range(2, 61):
        doubled += f"<Obj RefId='{each}' N='It'><LST><Ref RefId='{each - 1}' /><Ref RefId='{each - 1}' /></LST></Obj>"
    altered(monkeypatch, OUTPUT, lambda _: f"<Obj RefId='0'><MS>{doubled}</MS></Obj>".encode())
    connection = replace(winrm.connection(FAS1), load_snapin=False)
    with WinRmPowerShell(connection) as session, pytest.raises(FasAnswerUnknown, match="more than 200000 values"):
        session.invoke(READ)


def test_an_object_that_is_too_long_is_no_answer(winrm: WinRmServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """No object of FAS is anywhere near a million characters."""
    monkeypatch.setattr(psrp, "_MOST_CHARACTERS", 10_000)
    altered(monkeypatch, OUTPUT, lambda _: b"<S>" + b"a" * 10_000 + b"</S>")
    connection = replace(winrm.connection(FAS1), load_snapin=False)
    with WinRmPowerShell(connection) as session, pytest.raises(FasAnswerUnknown, match="more than 10000 characters"):
        session.invoke(READ)


def test_an_exception_that_causes_itself_ends(winrm: WinRmServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """References may go round in a circle."""

    def circular(text: bytes) -> bytes:
        (itself,) = re.findall(rb'<Obj(?= [^>]*N="Exception")[^>]* RefId="(\d+)"', text)
        return text.replace(b"</Props>", b'<Ref N="InnerException" RefId="%b" /></Props>' % itself, 1)

    altered(monkeypatch, ERROR, circular)
    winrm.farm.server(FAS1).fail_next("Get-FasServer", "It failed.", terminating=False)
    with WinRmPowerShell(winrm.connection(FAS1)) as session:
        (error,) = session.invoke(READ).errors
    assert error.exceptions == ("System.Exception",) * 8


def test_an_error_tells_what_caused_its_exception(winrm: WinRmServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A time-out on the way to FAS may be wrapped in an exception of the cmdlet's own."""
    cause = b'<Obj N="InnerException" RefId="9"><TN RefId="9"><T>System.TimeoutException</T></TN></Obj></Props>'
    altered(monkeypatch, ERROR, lambda text: text.replace(b"</Props>", cause, 1))
    winrm.farm.server(FAS1).fail_next("Get-FasServer", "It failed.", terminating=False)
    with WinRmPowerShell(winrm.connection(FAS1)) as session:
        (error,) = session.invoke(READ).errors
    assert error.exceptions == ("System.Exception", "System.TimeoutException")


def test_what_a_server_writes_into_an_error_moves_no_terminal(winrm: WinRmServer) -> None:
    """It is shown in consoles and mails."""

    def escape(connection: socket.socket, ended: threading.Event) -> None:
        connection.sendall(
            b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain;charset=UTF-8\r\n"
            b"Content-Length: 8\r\n\r\n\x1b[2J\xe2\x80\xaeX"
        )

    with (
        answering(winrm, escape) as connection,
        pytest.raises(FasUnreachable, match=r"x1b\[2J.*X") as refused,
        WinRmPowerShell(connection),
    ):
        pass
    assert str(refused.value).isprintable()


def test_a_password_that_basic_cannot_carry_is_told_so(winrm: WinRmServer) -> None:
    """The remedy is another way of signing in, and no part of the password is shown."""
    connection = replace(winrm.connection(FAS1), password="secret-\u20ac-one")
    with pytest.raises(FasUnreachable, match="Set auth to negotiate") as refused, WinRmPowerShell(connection):
        pass
    assert "\u20ac" not in str(refused.value)
