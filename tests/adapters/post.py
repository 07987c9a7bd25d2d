"""Servers that people's messages go to: a mail server, and an HTTPS server that plays Entra ID, Graph and webhooks."""

# ruff: noqa: ARG002 - aiosmtpd asks for them

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from evidence_service.adapters.sending import Outgoing
from evidence_service.notices.model import About, Audience, Mail, Message, Pickup, Smtp, SmtpSecurity
from idp_certs.alarms import Severity
from tests.adapters.tls_identity import Identity

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
MESSAGE = Message(
    fact="alarm:1",
    kind="approval_needed",
    about=About.FAS_SERVER,
    subject="FAS1",
    severity=Severity.CRITICAL,
    audience=Audience.APPROVERS,
    title="FAS1: an authorization certificate waits for approval (request 4711)",
    paragraphs=("Issue or deny the pending request 4711 of FAS1$.", "Who approves must not be who asked."),
    facts=(("CA", "ca1\\Corp CA"), ("Pending request", "4711")),
    todo=("Open the console.", "All Tasks, Issue."),
    urgent=True,
)
OUTGOING = Outgoing(id="0a" * 16, message=MESSAGE, created_at=NOW)
APPROVERS, OPERATORS = ("ca-managers@corp.example",), ("ops@corp.example", "night@corp.example")


def mail_by(transport: Smtp | Pickup | Any) -> Mail:  # noqa: ANN401 - or Graph
    """Mail by this transport."""
    return Mail(sender="FAS <fas@corp.example>", approvers=APPROVERS, operators=OPERATORS, transport=transport)


@dataclass
class MailServer:
    """A mail server on 127.0.0.1; what it answers may be changed at any time.

    `refuse` maps recipients, `MAIL`, `DATA` or `QUIT` to the answer that refuses them; `cuts` ends the connection once
    a message is taken, without an answer. `logins` are the (mechanism, login) tried.
    """

    port: int = 0
    ca_file: str = ""
    mails: list[EmailMessage] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)
    refuse: dict[str, str] = field(default_factory=dict)
    logins: list[tuple[str, Any]] = field(default_factory=list)
    accepted: tuple[str, Any] | None = None
    cuts: bool = False

    def smtp(self, **values: Any) -> Smtp:
        """How it is reached."""
        given: dict[str, Any] = {"security": SmtpSecurity.NONE, "timeout_seconds": 10.0, **values}
        return Smtp(host="localhost", port=self.port, **given)

    async def handle_MAIL(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take or refuse a sender."""
        if "MAIL" in self.refuse:
            return self.refuse["MAIL"]
        envelope.mail_from = address
        return "250 OK"

    async def handle_QUIT(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - as above
        """Say goodbye."""
        return self.refuse.get("QUIT", "221 Bye")

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take or refuse a recipient."""
        if address in self.refuse:
            return self.refuse[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - as above
        """Take or refuse a message."""
        if "DATA" in self.refuse:
            return self.refuse["DATA"]
        content = cast(bytes, envelope.content)
        self.mails.append(message_from_bytes(content, policy=SMTP_POLICY))
        self.contents.append(content)
        self.recipients.append(list(envelope.rcpt_tos))
        if self.cuts:
            assert server.transport is not None
            server.transport.close()
        return "250 OK"

    async def auth_XOAUTH2(self, server: SMTP, arguments: list[str]) -> AuthResult:  # noqa: N802 - as above
        """XOAUTH2 as Exchange Online does it: a refusal comes as a challenge that is answered with nothing."""
        import base64  # noqa: PLC0415 - here alone

        given = base64.b64decode(arguments[1]).decode()
        self.logins.append(("XOAUTH2", given))
        if ("XOAUTH2", given) == self.accepted:
            return AuthResult(success=True, handled=False)
        await server.challenge_auth(b'{"status":"401"}')
        return AuthResult(success=False, handled=False)

    def authenticate(  # aiosmtpd's interface
        self,
        server: SMTP,
        session: Session,
        envelope: Envelope,
        mechanism: str,
        data: Any,  # noqa: ANN401
    ) -> AuthResult:
        """Judge a password."""
        login = (data.login.decode(), data.password.decode()) if isinstance(data, LoginPassword) else data
        self.logins.append((mechanism, login))
        return AuthResult(success=("PASSWORD", login) == self.accepted, handled=False)


class _Controller(Controller):
    """One on a port that the system chooses."""

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]  # type: ignore[union-attr]  # it is started
        super()._trigger_server()  # type: ignore[no-untyped-call]  # aiosmtpd's


@contextlib.contextmanager
def mail_server(
    *, security: SmtpSecurity = SmtpSecurity.NONE, name: str = "localhost", port: int = 0
) -> Iterator[MailServer]:
    """A mail server that runs, with a certificate for `name`; it asks for a login where `accepted` is set."""
    identity = Identity(name)
    server = MailServer(ca_file=identity.ca_file)
    context = None if security is SmtpSecurity.NONE else identity.context()
    controller = _Controller(
        server,
        hostname="127.0.0.1",
        port=port,
        ssl_context=context if security is SmtpSecurity.TLS else None,
        tls_context=context if security is SmtpSecurity.STARTTLS else None,
        authenticator=server.authenticate,
        auth_require_tls=False,
    )
    with identity:
        controller.start()
        try:
            server.port = controller.port
            yield server
        finally:
            controller.stop()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request that arrived."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401 - as it was sent
        """The body as JSON."""
        return json.loads(self.body)


@dataclass
class WebServer:
    """An HTTPS server on 127.0.0.1: paths and what they answer; other paths are 404."""

    url: str = ""
    ca_file: str = ""
    asked: list[Asked] = field(default_factory=list)
    answers: dict[str, tuple[int, Mapping[str, str], bytes]] = field(default_factory=dict)

    def serve(self, path: str, status: int, body: object = None, **headers: str) -> None:
        """Answer `path` like this from now on."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.answers[path] = (status, {name.replace("_", "-"): value for name, value in headers.items()}, content)

    def play_entra(self, tenant: str = "tenant") -> None:
        """Be the token endpoint of a tenant."""
        base = f"{self.url}/{tenant}"
        document = {
            "issuer": f"{base}/v2.0",
            "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            "token_endpoint": f"{base}/oauth2/v2.0/token",
        }
        self.serve(f"/{tenant}/v2.0/.well-known/openid-configuration", 200, document)
        token = {"access_token": "t0ken", "token_type": "Bearer", "expires_in": 3600}
        self.serve(f"/{tenant}/oauth2/v2.0/token", 200, token)

    def to(self, path: str) -> list[Asked]:
        """What was asked of `path`."""
        return [each for each in self.asked if each.path == path]


@contextlib.contextmanager
def web_server(*, tls: bool = True, name: str = "localhost") -> Iterator[WebServer]:
    """A web server that runs, with a certificate for `name`."""
    here = WebServer()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            names = {name.lower(): value for name, value in self.headers.items()}
            here.asked.append(Asked(method=self.command, path=self.path, headers=names, body=body))
            status, headers, content = here.answers.get(self.path, (404, {}, b""))
            self.send_response(status)
            for each, value in headers.items():
                self.send_header(each, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _answer  # noqa: N815 - http.server's names

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as above
            """Say nothing."""

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that does not trust the certificate is what some tests are about."""

    with Identity(name) as identity:
        server = Quiet(("127.0.0.1", 0), Handler)
        if tls:
            server.socket = identity.context().wrap_socket(server.socket, server_side=True)
        here.url = f"{'https' if tls else 'http'}://localhost:{server.server_address[1]}"
        here.ca_file = identity.ca_file
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield here
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
