"""Which FAS servers are renewed and how people are told: one TOML file, read once at start and frozen.

The file is that of the setting `renewal_file`. Without it no certificate is renewed and nobody is mailed. Passwords,
client secrets and addresses of webhooks stand in files of their own, which only their owner may read; a name that is
not absolute is one inside `secrets_dir`. Other files (authorities, certificates) are named from the TOML file's place.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import time, timedelta
from difflib import get_close_matches
from email.errors import HeaderParseError
from email.headerregistry import Address
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args, get_origin
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from evidence_service.access.policy import parse_span
from evidence_service.access.upn import upn_problem
from evidence_service.notices.model import (
    Channels,
    EntraApp,
    Graph,
    Mail,
    Pickup,
    Smtp,
    SmtpSecurity,
    Webhook,
    WebhookFormat,
)
from evidence_service.renewal.farm import WINDOWS_POWERSHELL, Farm, FasServer, Local, RevocationList, WinRm, WinRmAuth
from evidence_service.renewal.model import Deadline, Maintenance, RenewalPolicy, Window
from evidence_service.renewal.timing import lead_findings
from evidence_service.settings import Settings, SettingsError

MAX_SECRET = 4096
MAX_TEXT = 1024
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_SHARE = re.compile(r"([0-9]{1,2})%")
_START = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalSettings:
    """What `renewal_file` says. Without a file: no server, no channel."""

    farm: Farm
    channels: Channels


NO_RENEWAL = RenewalSettings(farm=Farm(), channels=Channels())


def _span(value: object) -> timedelta:
    if not isinstance(value, str):
        raise ValueError('expected a duration such as "14d", "8h" or "30m"')  # noqa: TRY004 - pydantic reports these
    return parse_span(value)


def _long(value: object) -> timedelta:
    span = _span(value)
    if not span:
        raise ValueError("must be longer than nothing")
    return span


def _look(value: object) -> timedelta:
    span = _long(value)
    if span > timedelta(days=1):
        raise ValueError("at most 1d: alarms and reminders are as late as that")
    return span


def _lead(value: object) -> int | float:
    """Days, or a share below 1."""
    problem = 'expected whole days such as "60d", or a share of the lifetime such as "33%"'
    share = _SHARE.fullmatch(value) if isinstance(value, str) else None
    if share is not None:
        if not 1 <= int(share[1]) <= 90:
            raise ValueError("a share is from 1% to 90% of the lifetime")
        return int(share[1]) / 100
    try:
        span = _span(value)
    except ValueError:
        raise ValueError(problem) from None
    if span < timedelta(days=1) or span % timedelta(days=1):
        raise ValueError(problem)
    return span.days


def _window(value: object) -> Window:
    problem = 'expected days, start, length and perhaps a time zone, such as "sat,sun 22:00 6h Europe/Berlin"'
    if isinstance(value, Window):
        return value
    words = value.split() if isinstance(value, str) else []
    if len(words) not in (3, 4):
        raise ValueError(problem)
    start = _START.fullmatch(words[1])
    if start is None:
        raise ValueError(problem)
    length = _long(words[2])
    if length > timedelta(hours=24):
        raise ValueError("a window is at most 24h long")
    zone = words[3] if len(words) == 4 else "UTC"
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"there is no time zone {zone!r}; name one of the IANA list, such as Europe/Berlin") from None
    return Window(
        weekdays=frozenset(_weekdays(words[0])), start=time(int(start[1]), int(start[2])), length=length, zone=zone
    )


def _weekdays(text: str) -> Iterator[int]:
    """`sat`, `sat,sun`, `mon-fri`, `daily`."""
    if text.lower() == "daily":
        yield from range(7)
        return
    for part in text.lower().split(","):
        first, dash, last = part.partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            raise ValueError(f"{text!r}: expected days such as sat, sat,sun, mon-fri or daily")
        start, end = DAYS.index(first), DAYS.index(last or first)
        yield from (day % 7 for day in range(start, end + 1 + 7 * (end < start)))


def _address(value: object) -> str:
    try:
        # What a mail server would read as another address, or as several, is none.
        fits = isinstance(value, str) and value.isascii() and Address(addr_spec=value).addr_spec == value
    except (ValueError, HeaderParseError):
        fits = False
    if not fits:
        raise ValueError("expected one mail address of ASCII letters, such as ca-admins@corp.example")
    return str(value)


def _test_upn(value: object) -> str:
    if not isinstance(value, str) or upn_problem(value):
        raise ValueError("expected a UPN such as fas-test@corp.example, of a user that is only for tests")
    return value


def _authority(value: object) -> str:
    if not isinstance(value, str) or not all(value.partition("\\")[::2]) or not value.isprintable():
        raise ValueError(r'expected host and name of a CA as FAS writes them: "ca1.corp.example\\Corp Issuing CA"')
    return value


def _name(value: object) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError("expected a name of letters, digits, dots, hyphens and underscores, such as fas1.corp.example")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable() or len(value) > MAX_TEXT:
        raise ValueError("expected a text without control characters")
    return value


def _web_address(*schemes: str) -> BeforeValidator:
    def check(value: object) -> str:
        text = value if isinstance(value, str) and value.isprintable() and " " not in value else ""
        if not text.startswith(schemes) or not _names_host(text):
            raise ValueError(f"expected an address that begins with {' or '.join(schemes)}")
        return text

    return BeforeValidator(check)


_Span = Annotated[timedelta, BeforeValidator(_span)]
_Long = Annotated[timedelta, BeforeValidator(_long)]
_Look = Annotated[timedelta, BeforeValidator(_look)]
_Text = Annotated[str, BeforeValidator(_text)]
_Name = Annotated[str, BeforeValidator(_name)]
_Address = Annotated[str, BeforeValidator(_address)]
_Authority = Annotated[str, BeforeValidator(_authority)]
_Port = Annotated[int, Field(ge=1, le=65535, strict=True)]
_Https = Annotated[str, _web_address("https://")]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Renewal(_Table):
    """Members of RenewalPolicy as they are written; those that are not set keep its defaults."""

    lead: Annotated[float, BeforeValidator(_lead)] = 60
    lifetime: _Long | None = None
    approval_time: _Long = timedelta()
    approval_deadline: _Long = timedelta()
    on_deadline: Deadline = Deadline.KEEP
    jitter: _Span = timedelta()
    soak: _Span = timedelta()
    maintenance: Maintenance = Maintenance.REQUIRED
    windows: Annotated[tuple[Annotated[Window, BeforeValidator(_window)], ...], Field(max_length=32)] = ()
    certificate_authority: _Authority | None = None
    certificate_template: _Text = ""
    authorization_template: _Text = ""
    offline: Annotated[bool, Field(strict=True)] = False
    test_upn: Annotated[str, BeforeValidator(_test_upn)] | None = None
    test_rule: _Text | None = None
    test_definition: _Text | None = None
    least_key_length: Annotated[int, Field(ge=1024, le=16384, strict=True)] = 2048
    least_lifetime: _Long = timedelta()
    retry_denied: _Long = timedelta()
    maximum_denials: Annotated[int, Field(ge=1, le=100, strict=True)] = 2
    answer_grace: _Long = timedelta()
    poll: _Look = timedelta()
    check: _Look = timedelta()

    def members(self) -> dict[str, Any]:
        """What is set, as RenewalPolicy names it."""
        found = {name: getattr(self, name) for name in sorted(self.model_fields_set)}
        if "lead" in found:
            lead = found.pop("lead")
            found |= {"lead_share": lead} if lead < 1 else {"lead_days": int(lead), "lead_share": None}
        return found


class _Server(_Table):
    name: _Name
    connection: Literal["winrm", "local"]
    host: _Text | None = None
    port: _Port = 5986
    auth: WinRmAuth = WinRmAuth.NEGOTIATE
    username: _Text | None = None
    password_file: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None
    ca_file: Path | None = None
    configuration_name: _Text = "Microsoft.PowerShell"
    load_snapin: Annotated[bool, Field(strict=True)] = True
    connect_timeout: _Long = timedelta(seconds=15)
    operation_timeout: _Long = timedelta(seconds=180)
    program: _Text = WINDOWS_POWERSHELL
    address: _Text | None = None
    read_events: Annotated[bool, Field(strict=True)] | None = None
    renewal: _Renewal = _Renewal()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        given = self.model_fields_set
        if self.connection == "local":
            remote = sorted(given & _REMOTE_ONLY)
            if remote:
                raise ValueError(f'{remote[0]}: is only for connection = "winrm"; leave it out')
            return self
        if "program" in given:
            raise ValueError('program: is only for connection = "local"; leave it out')
        by_certificate = self.auth is WinRmAuth.CERTIFICATE
        if by_certificate != (self.client_certificate is not None) or by_certificate != (self.client_key is not None):
            raise ValueError('client_certificate and client_key: give both with auth = "certificate", else none')
        if by_certificate and given & {"username", "password_file"}:
            raise ValueError('username, password_file: leave them out with auth = "certificate"')
        if self.password_file is not None and self.username is None:
            raise ValueError("username: is missing beside password_file")
        if self.auth is WinRmAuth.BASIC and self.password_file is None:
            raise ValueError('username and password_file: are needed with auth = "basic"')
        if self.username is not None and self.password_file is None and self.auth is not WinRmAuth.KERBEROS:
            raise ValueError('password_file: is missing; only auth = "kerberos" does without, by its ticket cache')
        return self


_REMOTE_ONLY = {
    *("host", "port", "auth", "username", "password_file", "client_certificate", "client_key", "ca_file"),
    *("configuration_name", "connect_timeout"),
}


class _RevocationList(_Table):
    certificate_authority: _Authority
    url: Annotated[str, _web_address("http://", "https://")]
    issuer: Path
    ca_file: Path | None = None


class _App(_Table):
    tenant: _Text
    client_id: _Text
    client_secret_file: Path
    authority: _Https = "https://login.microsoftonline.com"


class _Smtp(_Table):
    host: _Text
    port: _Port = 587
    security: SmtpSecurity = SmtpSecurity.STARTTLS
    ca_file: Path | None = None
    username: _Text | None = None
    password_file: Path | None = None
    xoauth2: _App | None = None
    timeout: _Long = timedelta(seconds=30)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        proofs = (self.password_file is not None) + (self.xoauth2 is not None)
        if proofs > 1:
            raise ValueError("password_file, xoauth2: give one of them")
        if (self.username is not None) != bool(proofs):
            raise ValueError("username: goes with password_file, or with xoauth2 as the mailbox; give both or none")
        if self.security is SmtpSecurity.NONE and proofs:
            raise ValueError('security: "none" would send the credential in clear; use "starttls" or "tls"')
        return self


class _Graph(_App):
    endpoint: _Https = "https://graph.microsoft.com"
    ca_file: Path | None = None
    timeout: _Long = timedelta(seconds=30)


class _Pickup(_Table):
    directory: Path


class _Mail(_Table):
    sender: Annotated[_Address, Field(alias="from")]
    approvers: Annotated[tuple[_Address, ...], Field(min_length=1)]
    operators: Annotated[tuple[_Address, ...], Field(min_length=1)]
    smtp: _Smtp | None = None
    graph: _Graph | None = None
    pickup: _Pickup | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if sum(each is not None for each in (self.smtp, self.graph, self.pickup)) != 1:
            raise ValueError("smtp, graph, pickup: give one of the tables [mail.smtp], [mail.graph], [mail.pickup]")
        return self


class _Webhook(_Table):
    name: _Name
    url_file: Path | None = None
    url: _Text | None = None
    format: WebhookFormat = WebhookFormat.JSON
    urgent_only: Annotated[bool, Field(strict=True)] = False
    ca_file: Path | None = None
    allow_http: Annotated[bool, Field(strict=True)] = False
    timeout: _Long = timedelta(seconds=15)

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        if (self.url is None) == (self.url_file is None):
            raise ValueError("url_file: give a file that holds the address, or `url` where it is no secret")
        return self


class _Document(_Table):
    renewal: _Renewal = _Renewal()
    fas_servers: Annotated[tuple[_Server, ...], Field(max_length=1000)] = ()
    revocation_lists: tuple[_RevocationList, ...] = ()
    mail: _Mail | None = None
    webhooks: tuple[_Webhook, ...] = ()


class _Problem(ValueError):  # noqa: N818 - becomes a SettingsError that also names the file
    """What is wrong with which member of which table."""

    def __init__(self, table: str, member: str, text: str) -> None:
        super().__init__(f"{table} {member}: {text}")


def renewal_of(settings: Settings) -> RenewalSettings:
    """What the settings' file of renewals says; a file that is named must exist. Raises SettingsError.

    Otherwise a typing error in the name would end all renewals, and nobody would be told.
    """
    if settings.renewal_file is not None and not settings.renewal_file.exists():
        raise SettingsError(f"renewal_file: {settings.renewal_file} does not exist; correct the name, or leave it out")
    return load_renewal(settings.effective_renewal_file, settings.effective_secrets_dir)


def load_renewal(path: Path, secrets_dir: Path) -> RenewalSettings:
    """What the file says; without a file, nothing. Raises SettingsError: one line with file, table and member."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return NO_RENEWAL
    except OSError as error:
        raise SettingsError(f"renewal_file: {path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"renewal_file: {path} is not TOML: {' '.join(str(error).split())}") from error
    try:
        return _Loader(path.parent, secrets_dir).load(_Document(**content))
    except ValidationError as error:
        raise SettingsError(f"{path}: {_one_line(error, content)}") from error
    except _Problem as error:
        raise SettingsError(f"{path}: {error}") from error


class _Loader:
    """Makes the settings of what is written, and reads the files that it names."""

    def __init__(self, directory: Path, secrets_dir: Path) -> None:
        self._directory = directory
        self._secrets_dir = secrets_dir

    def load(self, document: _Document) -> RenewalSettings:
        servers = tuple(self._server(each, document.renewal) for each in document.fas_servers)
        _refuse_repeated("[[fas_servers]]", [each.name for each in servers])
        _refuse_repeated("[[webhooks]]", [each.name for each in document.webhooks])
        _refuse_same_machine(servers)
        lists = tuple(self._revocation_list(each) for each in document.revocation_lists)
        # A CA that renewed its key has a list for each key.
        _refuse_repeated("[[revocation_lists]]", [f"{each.certificate_authority} {each.url}" for each in lists])
        mail = None if document.mail is None else self._mail(document.mail)
        if mail is not None:
            _refuse_own_approval(mail, servers)
        return RenewalSettings(
            farm=Farm(servers=servers, revocation_lists=lists),
            channels=Channels(mail=mail, webhooks=tuple(self._webhook(each) for each in document.webhooks)),
        )

    def _server(self, server: _Server, defaults: _Renewal) -> FasServer:
        table = f"[[fas_servers]] {server.name},"
        policy = replace(RenewalPolicy(), **{**defaults.members(), **server.renewal.members()})
        _check_policy(table, policy)
        seconds = server.operation_timeout.total_seconds()
        connection: WinRm | Local = Local(program=server.program, operation_seconds=seconds)
        if server.connection == "winrm":
            connection = WinRm(
                host=server.host or server.name,
                port=server.port,
                auth=server.auth,
                username=server.username,
                password=self._secret(table, "password_file", server.password_file),
                client_certificate=self._pem(table, "client_certificate", server.client_certificate),
                client_key=self._private(table, "client_key", server.client_key),
                ca_file=self._pem(table, "ca_file", server.ca_file),
                configuration_name=server.configuration_name,
                load_snapin=server.load_snapin,
                connect_seconds=server.connect_timeout.total_seconds(),
                operation_seconds=seconds,
            )
        here = server.address in (None, "localhost")
        return FasServer(
            name=server.name,
            policy=policy,
            connection=connection,
            address=server.address,
            read_events=here if server.read_events is None else server.read_events,
        )

    def _revocation_list(self, given: _RevocationList) -> RevocationList:
        table = f"[[revocation_lists]] {given.certificate_authority},"
        issuers = self._certificates(table, "issuer", given.issuer)
        if len(issuers) != 1:
            raise _Problem(
                table, "issuer", f"{given.issuer} holds {len(issuers)} certificates; give the CA's own alone"
            )
        return RevocationList(
            certificate_authority=given.certificate_authority,
            url=given.url,
            issuer=issuers[0].public_bytes(Encoding.DER),
            ca_file=self._pem(table, "ca_file", given.ca_file),
        )

    def _mail(self, given: _Mail) -> Mail:
        return Mail(
            sender=given.sender,
            approvers=given.approvers,
            operators=given.operators,
            transport=self._transport(given),
        )

    def _transport(self, given: _Mail) -> Smtp | Graph | Pickup:
        if given.smtp is not None:
            smtp, table = given.smtp, "[mail.smtp]"
            return Smtp(
                host=smtp.host,
                port=smtp.port,
                security=smtp.security,
                ca_file=self._pem(table, "ca_file", smtp.ca_file),
                username=smtp.username,
                password=self._secret(table, "password_file", smtp.password_file),
                xoauth2=None if smtp.xoauth2 is None else self._app("[mail.smtp.xoauth2]", smtp.xoauth2),
                timeout_seconds=smtp.timeout.total_seconds(),
            )
        if given.graph is not None:
            return Graph(
                app=self._app("[mail.graph]", given.graph),
                endpoint=given.graph.endpoint,
                ca_file=self._pem("[mail.graph]", "ca_file", given.graph.ca_file),
                timeout_seconds=given.graph.timeout.total_seconds(),
            )
        assert given.pickup is not None  # noqa: S101 - `_one_way` has seen to it
        directory = self._directory / given.pickup.directory
        if not directory.is_dir():
            raise _Problem("[mail.pickup]", "directory", f"{directory} is no directory; make it, or name another")
        return Pickup(directory=str(directory))

    def _app(self, table: str, given: _App) -> EntraApp:
        secret = self._secret(table, "client_secret_file", given.client_secret_file)
        return EntraApp(
            tenant=given.tenant, client_id=given.client_id, client_secret=secret or "", authority=given.authority
        )

    def _webhook(self, given: _Webhook) -> Webhook:
        table = f"[[webhooks]] {given.name},"
        member = "url" if given.url_file is None else "url_file"
        url = given.url or self._secret(table, member, given.url_file) or ""
        schemes = ("https://", "http://") if given.allow_http else ("https://",)
        if not url.startswith(schemes) or not url.isprintable() or " " in url:
            raise _Problem(table, member, "expected an address that begins with https:// (or set allow_http = true)")
        if not _names_host(url):
            raise _Problem(table, member, "expected an ASCII address with a host, and without user information (@)")
        return Webhook(
            name=given.name,
            url=url,
            format=given.format,
            urgent_only=given.urgent_only,
            ca_file=self._pem(table, "ca_file", given.ca_file),
            allow_http=given.allow_http,
            timeout_seconds=given.timeout.total_seconds(),
        )

    def _secret(self, table: str, member: str, name: Path | None) -> str | None:
        """The text in a file that only its owner may read, without the end of its line. Raises _Problem."""
        path = self._private(table, member, name)
        if path is None:
            return None
        try:
            text = Path(path).read_bytes()[: MAX_SECRET + 1].decode("utf-8-sig").rstrip("\r\n")
        except OSError as error:
            raise _Problem(table, member, f"{path} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise _Problem(table, member, f"{path} is not UTF-8 text; write the secret alone into it") from error
        if not text or len(text) > MAX_SECRET or not text.isprintable():
            raise _Problem(table, member, f"{path} must hold the secret alone, on one line")
        return text

    def _private(self, table: str, member: str, name: Path | None) -> str | None:
        if name is None:
            return None
        path = self._secrets_dir / name
        if not name.is_absolute() and not path.resolve().is_relative_to(self._secrets_dir.resolve()):
            raise _Problem(table, member, f"{name} leads out of {self._secrets_dir}; give an absolute path")
        try:
            status = path.stat()
        except OSError as error:
            raise _Problem(table, member, f"{path} cannot be read: {error.strerror}") from error
        if os.name == "posix" and status.st_uid not in (0, os.geteuid()):
            raise _Problem(table, member, f"{path} belongs to another user, who may know it; make it your own")
        if os.name == "posix" and status.st_mode & 0o077:
            raise _Problem(table, member, f"others may read {path}; make it private (chmod 600)")
        return str(path)

    def _pem(self, table: str, member: str, name: Path | None) -> str | None:
        """The path of a file that holds certificates. Raises _Problem."""
        if name is None:
            return None
        self._certificates(table, member, name)
        return str(self._directory / name)

    def _certificates(self, table: str, member: str, name: Path) -> list[x509.Certificate]:
        path = self._directory / name
        try:
            return x509.load_pem_x509_certificates(path.read_bytes())
        except OSError as error:
            raise _Problem(table, member, f"{path} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise _Problem(table, member, f"{path} holds no certificate in PEM form") from error


def _names_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return url.isascii() and bool(parts.hostname) and "@" not in parts.netloc and parts.port != 0
    except ValueError:
        return False


def _refuse_repeated(table: str, names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name.casefold() in seen:
            raise _Problem(
                table, "name" if "revocation" not in table else "certificate_authority", f"{name} stands twice"
            )
        seen.add(name.casefold())


def _refuse_same_machine(servers: Sequence[FasServer]) -> None:
    """One FAS server under two names would be its own healthy neighbour, and be asked for two certificates."""
    seen: dict[str, str] = {}
    for server in servers:
        where = server.address
        if where is None:
            connection = server.connection
            where = f"{connection.host}:{connection.port}" if isinstance(connection, WinRm) else "this machine"
        before = seen.setdefault(where.casefold(), server.name)
        if before != server.name:
            member = "host" if server.address is None else "address"
            problem = f"leads to {where}, as that of {before} does; name each FAS server once"
            raise _Problem(f"[[fas_servers]] {server.name},", member, problem)


def _refuse_own_approval(mail: Mail, servers: Sequence[FasServer]) -> None:
    """The human check stays human (promise 62): who approves is neither the sender nor an account that requests."""
    own = {mail.sender.casefold(): "the sender of this service's mail"}
    if isinstance(mail.transport, Smtp) and mail.transport.username is not None:
        own[mail.transport.username.casefold()] = "the account that sends this service's mail"
    for server in servers:
        if isinstance(server.connection, WinRm) and server.connection.username is not None:
            own[server.connection.username.casefold()] = f"the account that requests on {server.name}"
    by_name = {account.rpartition("\\")[2]: what for account, what in own.items() if "\\" in account}
    for approver in mail.approvers:
        address = approver.casefold()
        what = own.get(address) or by_name.get(address.partition("@")[0])
        if what is not None:
            problem = f"{approver} is {what}; the approver must be a person other than the requester"
            raise _Problem("[mail]", "approvers", problem)


def _check_policy(table: str, policy: RenewalPolicy) -> None:
    for finding in lead_findings(policy, policy.lifetime):
        text = f"expected {finding.expected}, not {finding.presented}; correct the lead, or what it must hold"
        raise _Problem(table, f"renewal.{finding.where}", text)
    if policy.approval_deadline < policy.approval_time:
        raise _Problem(table, "renewal.approval_deadline", "is shorter than approval_time; make it as long, or longer")
    if policy.lifetime is not None and policy.lifetime < policy.least_lifetime:
        problem = f"is longer than certificates live ({policy.lifetime.days} days), so that each would be refused"
        raise _Problem(table, "renewal.least_lifetime", f"{problem}; make it shorter")
    named = (policy.test_upn, policy.test_rule, policy.test_definition)
    if policy.test_definition is not None and None in named:
        raise _Problem(table, "renewal.test_definition", "needs test_rule and test_upn beside it")
    if policy.test_rule is not None and policy.test_definition is None:
        raise _Problem(table, "renewal.test_rule", "needs test_definition beside it")


def _one_line(error: ValidationError, content: Mapping[str, Any]) -> str:
    """Table, member and what is wrong, of the first fault."""
    first = error.errors(include_url=False, include_input=False)[0]
    location = list(first["loc"])
    message = _fault(first["type"], first.get("ctx", {}), location) or first["msg"].removeprefix("Value error, ")
    return f"{_place(location, content)}: {message}" if location else message


_KINDS = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "list_type": "a list",
    "model_type": "a table",
    "path_type": "the name of a file, as text",
    "string_type": "a text",
    "tuple_type": "a list",
}


def _fault(kind: str, context: Mapping[str, Any], location: Sequence[int | str]) -> str | None:
    """What is wrong, in words of this file rather than the library's; None where the message is our own."""
    bounds = {
        "greater_than_equal": f"must be at least {context.get('ge')}",
        "less_than_equal": f"must be at most {context.get('le')}",
        "too_long": f"holds too many entries; at most {context.get('max_length')}",
        "too_short": f"needs at least {context.get('min_length')}",
    }
    if kind in bounds:
        return bounds[kind]
    if kind in _KINDS:
        return f"expected {_KINDS[kind]}"
    if kind in ("enum", "literal_error"):
        return f"expected {str(context['expected']).replace(chr(39), chr(34))}"
    field = _fields_at(location[:-1]).get(str(location[-1])) if location else None
    if kind == "missing":
        choices = get_args(field.annotation) if field is not None and get_origin(field.annotation) is Literal else ()
        expected = " or ".join(f'"{each}"' for each in choices)
        return f"is missing; give {expected or 'it'}"
    if kind == "extra_forbidden":
        known = _fields_at(location[:-1])
        near = get_close_matches(str(location[-1]), known, n=1)
        guess = f"; do you mean {near[0]}?" if near else ";"
        return f"there is no such member{guess} docs/renewal-settings.md lists all"
    return None


def _fields_at(location: Sequence[int | str]) -> dict[str, FieldInfo]:
    """The members of the table at this place, by the names that they have in the file."""
    table: type[BaseModel] | None = _Document
    for each in location:
        if table is not None and isinstance(each, str):
            field = _named(table).get(each)
            table = None if field is None else _table_in(field.annotation)
    return {} if table is None else _named(table)


def _named(table: type[BaseModel]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in table.model_fields.items()}


def _table_in(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401 - a type as it is written
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for each in get_args(annotation) if (found := _table_in(each)) is not None), None)


def _place(location: Sequence[int | str], content: Mapping[str, Any]) -> str:
    """`[[fas_servers]] fas1, renewal.lead`; a server without a usable name is told by its number."""
    table, *rest = location
    if rest and isinstance(rest[0], int):
        entry = content[str(table)][rest[0]]
        name = entry.get("name", entry.get("certificate_authority")) if isinstance(entry, dict) else None
        shown = name if isinstance(name, str) and name.isprintable() else f"number {rest[0] + 1}"
        members = ".".join(map(str, rest[1:]))
        return f"[[{table}]] {shown}" + (f", {members}" if members else "")
    return f"[{table}]" + (f" {'.'.join(map(str, rest))}" if rest else "")


def renewal_warnings(settings: RenewalSettings) -> Iterator[tuple[str, str]]:
    """What can be started with and should still be looked at: subject and one sentence."""
    servers = settings.farm.servers
    for server in servers:
        subject = f"FAS server {server.name}"
        if server.policy.maintenance is Maintenance.REQUIRED and len(servers) == 1:
            text = (
                'maintenance is "required", but no other FAS server is configured, so that it would never be switched; '
                'configure the others, or set maintenance = "skip" where there is only one'
            )
            yield subject, text
        if server.policy.test_upn is None:
            yield subject, "no test_upn is set, so that a new certificate is used without a test enrollment"
    if servers and settings.channels.mail is None:
        yield "mail", "none is set, so that no approver is told of a request; it is in the log and the journal alone"
    known = {each.certificate_authority.casefold() for each in settings.farm.revocation_lists}
    unknown = {
        each.policy.certificate_authority
        for each in servers
        if each.policy.certificate_authority is not None and each.policy.certificate_authority.casefold() not in known
    }
    for name in sorted(unknown):
        yield f"CA {name}", "has no entry in [[revocation_lists]], so that a revocation is not noticed"
