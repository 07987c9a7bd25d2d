"""WS-Management over HTTPS in front of simulated FAS servers, so that any PowerShell remoting client can use them.

What a client of PowerShell remoting sends is answered: Create, Command, Send, Receive, Signal, Delete and Get of the
configuration (MS-WSMV 3.1.4); disconnected sessions are not offered. Every server has a port of its own on the loopback
address and a certificate by an authority that is made for it and kept by nobody.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import ssl
import threading
import uuid
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass
from hmac import compare_digest
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self, cast

import spnego
from lxml import etree
from spnego.exceptions import SpnegoError

from evidence_service.demo.fas_farm import ACCOUNT, FarmServer, SimulatedFarm
from evidence_service.demo.psrp_host import AnswerLost, RunspaceHost
from evidence_service.demo.winrm_identity import HOST, Identity, write_private
from evidence_service.renewal.farm import WinRm, WinRmAuth
from idp_certs.reasons import Refused
from idp_certs.xml import parse_xml

_SOAP = "http://www.w3.org/2003/05/soap-envelope"
_ADDRESSING = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
_WSMAN = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"
_SHELL = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
_TRANSFER = "http://schemas.xmlsoap.org/ws/2004/09/transfer"
_FAULT = "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault"
_POWERSHELL = "http://schemas.microsoft.com/powershell"
_CONFIG = "http://schemas.microsoft.com/wbem/wsman/1/config"
_MUTUAL = "http://schemas.dmtf.org/wbem/wsman/1/wsman/secprofile/https/mutual"
_NS = {"s": _SOAP, "a": _ADDRESSING, "w": _WSMAN, "rsp": _SHELL, "p": _POWERSHELL}

_ENVELOPE_KILOBYTES = 150
_BODY_BYTES = 200 * 1024
_DISCARDED_BYTES = 1024 * 1024
_MOST_SHELLS = 25
_LONGEST_WAIT = 20.0
_IDLE_SECONDS = 60.0
_LOOK_SECONDS = 0.05
_NOTHING_YET = 2150858793  # ERROR_WSMAN_OPERATION_TIMEDOUT: the client asks again
_NO_SUCH_SHELL = 2150858843
_TOO_MANY_SHELLS = 2150859174
_BAD_REQUEST = 2150858817


class _Fault(Exception):  # noqa: N818 - an answer
    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class WinRmServer:
    """WinRM of every server of a farm; a context manager. `password` is the account's, made anew each time."""

    def __init__(self, farm: SimulatedFarm, directory: Path, *, account: str = ACCOUNT) -> None:
        """Make authority and certificates, and listen; `directory` holds them for clients. Raises OSError."""
        self.farm, self.account = farm, account
        self.password = secrets.token_urlsafe(18)
        self.stopping = threading.Event()
        self._identity = Identity(directory)
        self._listeners = {each.name.casefold(): _Listener(self, each) for each in farm.servers}
        self._threads = [
            threading.Thread(target=each.serve_forever, args=(_LOOK_SECONDS,), daemon=True)
            for each in self._listeners.values()
        ]
        self._ntlm_before: str | None = None

    def __enter__(self) -> Self:
        """Serve from now on. The accounts of NTLM can only be told by the environment (NTLM_USER_FILE)."""
        domain, _, user = self.account.partition("\\")
        write_private(self._identity.ntlm, f"{domain}:{user}:{self.password}\n".encode())
        self._ntlm_before = os.environ.get("NTLM_USER_FILE")
        os.environ["NTLM_USER_FILE"] = str(self._identity.ntlm)
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Serve no more, and forget the passwords."""
        self.stopping.set()
        for listener in self._listeners.values():
            listener.end()
        for thread in self._threads:
            thread.join()
        if self._ntlm_before is None:
            del os.environ["NTLM_USER_FILE"]
        else:
            os.environ["NTLM_USER_FILE"] = self._ntlm_before
        self._identity.ntlm.unlink(missing_ok=True)

    @property
    def context(self) -> ssl.SSLContext:
        """TLS of the server, which asks for a client certificate and does without."""
        return self._identity.context

    def connection(
        self,
        name: str,
        auth: WinRmAuth | str = WinRmAuth.BASIC,
        *,
        connect_seconds: float = 15.0,
        operation_seconds: float = 180.0,
    ) -> WinRm:
        """How a client reaches a server of the farm."""
        auth = WinRmAuth(auth)
        by_certificate = auth is WinRmAuth.CERTIFICATE
        return WinRm(
            host="localhost",
            port=self._listeners[name.casefold()].server_port,
            auth=auth,
            username=None if by_certificate else self.account,
            password=None if by_certificate else self.password,
            client_certificate=str(self._identity.client_certificate) if by_certificate else None,
            client_key=str(self._identity.client_key) if by_certificate else None,
            ca_file=str(self._identity.ca),
            connect_seconds=connect_seconds,
            operation_seconds=operation_seconds,
        )


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, winrm: WinRmServer, server: FarmServer) -> None:
        self.winrm, self.server = winrm, server
        self.shells: dict[str, RunspaceHost] = {}
        self.lock = threading.Lock()
        super().__init__((HOST, 0), _Request)

    def get_request(self) -> tuple[socket.socket, object]:
        connection, address = super().get_request()
        connection.settimeout(_IDLE_SECONDS)
        # Who never finishes a handshake holds up the thread of his own connection only.
        wrapped = self.winrm.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return wrapped, address

    def verify_request(self, request: object, client_address: object) -> bool:  # noqa: ARG002 - as inherited
        """Whether the connection is taken: not while the server is unreachable."""
        return not self.server.unreachable

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes, or does not know our authority, is not the farm's concern."""

    def end(self) -> None:
        """Wake whoever waits, and listen no more."""
        for shell in list(self.shells.values()):
            shell.close()
        self.shutdown()
        self.server_close()


class _Request(BaseHTTPRequestHandler):
    """One connection, with what was proven on it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def setup(self) -> None:
        super().setup()
        self._account: str | None = None
        self._negotiation: spnego.ContextProxy | None = None

    def do_POST(self) -> None:
        listener = cast(_Listener, self.server)
        if listener.server.unreachable or listener.winrm.stopping.is_set():
            self.close_connection = True
            return
        length = int(self.headers.get("Content-Length") or 0)
        if self.path.partition("?")[0] != "/wsman" or "Transfer-Encoding" in self.headers:
            self._refuse(HTTPStatus.NOT_FOUND, length)
            return
        if not 0 <= length <= _BODY_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, length)
            return
        body = self.rfile.read(length)
        account = self._authenticate(listener.winrm)
        if account is None:
            return
        if not body:
            self._answer(HTTPStatus.OK, b"")
            return
        self._manage(listener, account, body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - as inherited
        """Keep quiet."""

    def _manage(self, listener: _Listener, account: str, body: bytes) -> None:
        message_id = ""
        try:
            message = _Message(body)
            message_id = message.id
            answer = _Management(listener=listener, account=account).answer(message)
        except AnswerLost:
            self.close_connection = True
        except _Fault as fault:
            self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, _fault(message_id, fault))
        else:
            self._answer(HTTPStatus.OK, _envelope(message, answer))

    def _authenticate(self, winrm: WinRmServer) -> str | None:
        """The account; None: a 401 was sent."""
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        if scheme == _MUTUAL and cast(ssl.SSLSocket, self.connection).getpeercert():
            return winrm.account
        if scheme.lower() == "basic":
            wanted = b64encode(f"{winrm.account}:{winrm.password}".encode())
            if compare_digest(token.encode(), wanted):
                return winrm.account
        elif scheme.lower() in ("negotiate", "ntlm"):
            return self._negotiate(scheme, token)
        elif not scheme and self._account is not None:
            return self._account
        self._unauthorized()
        return None

    def _negotiate(self, scheme: str, token: str) -> str | None:
        """One connection is one sign-in, as HTTP Negotiate has it (RFC 4559)."""
        if self._negotiation is None or self._negotiation.complete:
            self._negotiation = spnego.server(protocol=scheme.lower(), options=spnego.NegotiateOptions.use_negotiate)
        try:
            out = self._negotiation.step(b64decode(token, validate=True))
        except (SpnegoError, Base64Error):
            self._negotiation = self._account = None
            self._unauthorized()
            return None
        if self._negotiation.complete:
            self._account = self._negotiation.client_principal
            return self._account
        self._unauthorized(f"{scheme} {b64encode(out or b'').decode()}")
        return None

    def _unauthorized(self, challenge: str | None = None) -> None:
        offers = ("Negotiate", 'Basic realm="WSMAN"') if challenge is None else (challenge,)
        self._answer(HTTPStatus.UNAUTHORIZED, b"", *(("WWW-Authenticate", each) for each in offers))

    def _refuse(self, status: HTTPStatus, length: int) -> None:
        self.close_connection = True
        self.rfile.read(max(0, min(length, _DISCARDED_BYTES)))  # a client that still sends would not read the answer
        self._answer(status, b"")

    def _answer(self, status: HTTPStatus, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if body:
            self.send_header("Content-Type", "application/soap+xml;charset=UTF-8")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Message:
    """A SOAP envelope of WS-Management. Raises _Fault for what is none."""

    def __init__(self, body: bytes) -> None:
        try:
            self._root = parse_xml(body)
        except Refused as refused:
            raise _Fault(_BAD_REQUEST, f"The request is no SOAP envelope: {refused}") from None
        self.id = self._header("a:MessageID")
        self.action = self._header("a:Action")
        self.resource = self._header("w:ResourceURI")
        selectors = self._root.iterfind("s:Header/w:SelectorSet/w:Selector", _NS)
        self.shell = next(((each.text or "").upper() for each in selectors if each.get("Name") == "ShellId"), "")

    @property
    def wait(self) -> float:
        """How many seconds the client waits for an answer."""
        asked = re.fullmatch(r"PT([0-9]{1,6}(?:\.[0-9]{1,6})?)S", self._header("w:OperationTimeout"))
        return min(float(asked[1]), _LONGEST_WAIT) if asked else _LONGEST_WAIT

    def part(self, path: str) -> etree._Element:
        """An element of the body."""
        found = self._root.find(f"s:Body/{path}", _NS)
        if found is None:
            raise _Fault(_BAD_REQUEST, f"The request has no {path}")
        return found

    def _header(self, name: str) -> str:
        return self._root.findtext(f"s:Header/{name}", "", _NS)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Management:
    """What WinRM does with a request of an account."""

    listener: _Listener
    account: str

    def answer(self, message: _Message) -> str:
        """The body of the answer. Raises _Fault, AnswerLost."""
        action = message.action.rpartition("/")[2]
        if action == "Create":
            return self._create(message)
        if action == "Get" and not message.shell:
            size = f"<cfg:MaxEnvelopeSizekb>{_ENVELOPE_KILOBYTES}</cfg:MaxEnvelopeSizekb>"
            return f'<cfg:Config xmlns:cfg="{_CONFIG}">{size}</cfg:Config>'
        shell = self.listener.shells.get(message.shell)
        if shell is None:
            raise _Fault(_NO_SUCH_SHELL, "The shell was not found on the server.")
        if action == "Command":
            return _command(shell, message)
        if action == "Send":
            stream = message.part("rsp:Send/rsp:Stream")
            shell.take(_command_id(stream), _decoded(stream.text))
            return "<rsp:SendResponse/>"
        if action == "Receive":
            return _receive(shell, message)
        if action == "Signal":
            stopped = _command_id(message.part("rsp:Signal"))
            if stopped is not None:
                shell.stop(stopped)
            return "<rsp:SignalResponse/>"
        if action == "Delete":
            self.listener.shells.pop(message.shell).close()
            return ""
        raise _Fault(_BAD_REQUEST, f"The action {action} is not offered.")

    def _create(self, message: _Message) -> str:
        asked = message.part("rsp:Shell")
        shell_id = (asked.get("ShellId") or str(uuid.uuid4())).upper()
        winrm = self.listener.winrm
        shell = RunspaceHost(winrm.farm, self.listener.server, self.account, winrm.stopping)
        shell.take(None, _decoded(asked.findtext("p:creationXml", None, _NS)))
        with self.listener.lock:
            if len(self.listener.shells) >= _MOST_SHELLS:
                raise _Fault(_TOO_MANY_SHELLS, "This user is allowed a maximum number of concurrent shells.")
            self.listener.shells[shell_id] = shell
        resource, known = escape(message.resource), escape(shell_id)
        return (
            "<x:ResourceCreated><a:Address>https://localhost/wsman</a:Address><a:ReferenceParameters>"
            f"<w:ResourceURI>{resource}</w:ResourceURI><w:SelectorSet>"
            f'<w:Selector Name="ShellId">{known}</w:Selector></w:SelectorSet>'
            "</a:ReferenceParameters></x:ResourceCreated>"
            f"<rsp:Shell><rsp:ShellId>{known}</rsp:ShellId><rsp:ResourceUri>{resource}</rsp:ResourceUri>"
            f"<rsp:Owner>{escape(self.account)}</rsp:Owner><rsp:IdleTimeOut>PT7200.000S</rsp:IdleTimeOut>"
            "<rsp:InputStreams>stdin pr</rsp:InputStreams><rsp:OutputStreams>stdout</rsp:OutputStreams></rsp:Shell>"
        )


def _command(shell: RunspaceHost, message: _Message) -> str:
    line = message.part("rsp:CommandLine")
    command_id = _command_id(line) or uuid.uuid4()
    shell.open_pipeline(command_id, _decoded(line.findtext("rsp:Arguments", None, _NS)))
    return f"<rsp:CommandResponse><rsp:CommandId>{str(command_id).upper()}</rsp:CommandId></rsp:CommandResponse>"


def _receive(shell: RunspaceHost, message: _Message) -> str:
    command_id = _command_id(message.part("rsp:Receive/rsp:DesiredStream"))
    try:
        received = shell.receive(command_id, message.wait)
    except KeyError:
        raise _Fault(_BAD_REQUEST, "The command was not found in the shell.") from None
    if received is None:
        raise _Fault(
            _NOTHING_YET,
            "The WS-Management service cannot complete the operation within the time specified in OperationTimeout.",
        )
    of = "" if command_id is None else f' CommandId="{str(command_id).upper()}"'
    streams = "".join(
        f'<rsp:Stream Name="stdout"{of}>{b64encode(each).decode()}</rsp:Stream>' for each in received.fragments
    )
    state = "Done" if received.ended else "Running"
    told = "" if command_id is None else f'<rsp:CommandState{of} State="{_SHELL}/CommandState/{state}"/>'
    return f"<rsp:ReceiveResponse>{streams}{told}</rsp:ReceiveResponse>"


def _command_id(element: etree._Element) -> uuid.UUID | None:
    text = element.get("CommandId")
    try:
        return uuid.UUID(text) if text else None
    except ValueError:
        raise _Fault(_BAD_REQUEST, "The CommandId is no GUID.") from None


def _decoded(text: str | None) -> bytes:
    try:
        return b64decode(text or "", validate=True)
    except Base64Error:
        raise _Fault(_BAD_REQUEST, "The data is not base64.") from None


def _envelope(message: _Message, body: str) -> bytes:
    return (
        f'<s:Envelope xmlns:s="{_SOAP}" xmlns:a="{_ADDRESSING}" xmlns:w="{_WSMAN}" xmlns:rsp="{_SHELL}"'
        f' xmlns:x="{_TRANSFER}"><s:Header><a:Action>{escape(message.action)}Response</a:Action>'
        f"<a:MessageID>uuid:{uuid.uuid4()}</a:MessageID><a:To>{_ADDRESSING}/role/anonymous</a:To>"
        f"<a:RelatesTo>{escape(message.id)}</a:RelatesTo></s:Header><s:Body>{body}</s:Body></s:Envelope>"
    ).encode()


def _fault(message_id: str, fault: _Fault) -> bytes:
    text = escape(str(fault))
    return (
        f'<s:Envelope xmlns:s="{_SOAP}" xmlns:a="{_ADDRESSING}"><s:Header>'
        f"<a:RelatesTo>{escape(message_id)}</a:RelatesTo></s:Header><s:Body><s:Fault>"
        f'<s:Code><s:Value>s:Receiver</s:Value></s:Code><s:Reason><s:Text xml:lang="en-US">{text}</s:Text></s:Reason>'
        f'<s:Detail><f:WSManFault xmlns:f="{_FAULT}" Code="{fault.code}" Machine="fas">'
        f"<f:Message>{text}</f:Message></f:WSManFault></s:Detail></s:Fault></s:Body></s:Envelope>"
    ).encode()
