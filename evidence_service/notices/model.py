"""A message, and the channels that messages go out by. Times are UTC."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from idp_certs.alarms import Severity


class Audience(StrEnum):
    """Who is told: the CA managers who approve requests, or those who run the farm."""

    APPROVERS = "approvers"
    OPERATORS = "operators"


class About(StrEnum):
    """What kind of thing a message or alarm is about."""

    IDP = "idp"
    FAS_SERVER = "fas_server"
    PLUGIN = "plugin"
    SERVICE = "service"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One fact told to people.

    `fact` names the fact: a second message of the same fact is never sent. `kind` is a stable code, `subject` the name
    of what it is about. `title` is one line. `paragraphs` say what happened and what it means, `facts` are names and
    values to copy, `todo` is what to do, in order; texts may hold anything and are escaped where they are rendered.
    `urgent`: sent on the urgent channels too.
    """

    fact: str
    kind: str
    about: About
    subject: str
    severity: Severity
    audience: Audience
    title: str
    paragraphs: tuple[str, ...]
    facts: tuple[tuple[str, str], ...] = ()
    todo: tuple[str, ...] = ()
    urgent: bool = False


class SmtpSecurity(StrEnum):
    """How the connection to a mail server is protected."""

    STARTTLS = "starttls"
    TLS = "tls"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class EntraApp:
    """An application of Entra ID that gets tokens for itself (client credentials)."""

    tenant: str
    client_id: str
    client_secret: str = field(repr=False)
    authority: str = "https://login.microsoftonline.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class Smtp:
    """A mail server. At most one of `username` with `password`, and `xoauth2` with `username` as the mailbox."""

    host: str
    port: int = 587
    security: SmtpSecurity = SmtpSecurity.STARTTLS
    ca_file: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    xoauth2: EntraApp | None = None
    timeout_seconds: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Microsoft Graph's sendMail for the mailbox of the sender."""

    app: EntraApp
    endpoint: str = "https://graph.microsoft.com"
    ca_file: str | None = None
    timeout_seconds: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pickup:
    """A directory that takes one .eml file a message: a mail server's pickup directory, or for trials."""

    directory: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """How mail is sent, from whom and to whom."""

    sender: str
    approvers: tuple[str, ...]
    operators: tuple[str, ...]
    transport: Smtp | Graph | Pickup


class WebhookFormat(StrEnum):
    """What is posted."""

    TEAMS = "teams"
    SLACK = "slack"
    JSON = "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """An address that messages are posted to. `urgent_only`: only what is urgent. The URL is a secret."""

    name: str
    url: str = field(repr=False)
    format: WebhookFormat = WebhookFormat.JSON
    urgent_only: bool = False
    ca_file: str | None = None
    allow_http: bool = False
    timeout_seconds: float = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Channels:
    """Everything that messages go out by. Without any, they are in the journal and the log alone."""

    mail: Mail | None = None
    webhooks: tuple[Webhook, ...] = ()
