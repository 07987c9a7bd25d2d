"""The tables of the file and their members, as they are written; what does not fit together in one is refused."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from evidence_service.notices.model import SmtpSecurity, WebhookFormat
from evidence_service.renewal.farm import WINDOWS_POWERSHELL, WinRmAuth
from evidence_service.renewal.model import Deadline, Maintenance
from evidence_service.renewal_settings.values import (
    Authority,
    File,
    Flag,
    Host,
    Https,
    Lead,
    Long,
    Look,
    MailAddress,
    Name,
    Port,
    Span,
    TestUpn,
    Text,
    Windows,
    web_address,
)


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RenewalTable(_Table):
    """Members of RenewalPolicy as they are written; those that are not set keep its defaults."""

    lead: Lead = 60
    lifetime: Long | None = None
    approval_time: Long = timedelta()
    approval_deadline: Long = timedelta()
    on_deadline: Deadline = Deadline.KEEP
    jitter: Span = timedelta()
    soak: Span = timedelta()
    maintenance: Maintenance = Maintenance.REQUIRED
    windows: Windows = ()
    certificate_authority: Authority | None = None
    certificate_template: Text = ""
    authorization_template: Text = ""
    offline: Flag = False
    test_upn: TestUpn | None = None
    test_rule: Text | None = None
    test_definition: Text | None = None
    least_key_length: Annotated[int, Field(ge=1024, le=16384, strict=True)] = 2048
    least_lifetime: Long = timedelta()
    retry_denied: Long = timedelta()
    maximum_denials: Annotated[int, Field(ge=1, le=100, strict=True)] = 2
    answer_grace: Long = timedelta()
    poll: Look = timedelta()
    check: Look = timedelta()

    def members(self) -> dict[str, Any]:
        """What is set, as RenewalPolicy names it."""
        found = {name: getattr(self, name) for name in sorted(self.model_fields_set)}
        if "lead" in found:
            lead = found.pop("lead")
            found |= {"lead_share": lead} if lead < 1 else {"lead_days": int(lead), "lead_share": None}
        return found


class ServerTable(_Table):
    """One of `[[fas_servers]]`."""

    name: Name
    connection: Literal["winrm", "local"]
    host: Host | None = None
    port: Port = 5986
    auth: WinRmAuth = WinRmAuth.NEGOTIATE
    username: Text | None = None
    password_file: File | None = None
    client_certificate: File | None = None
    client_key: File | None = None
    ca_file: File | None = None
    configuration_name: Text = "Microsoft.PowerShell"
    load_snapin: Flag = True
    connect_timeout: Long = timedelta(seconds=15)
    operation_timeout: Long = timedelta(seconds=180)
    program: Text = WINDOWS_POWERSHELL
    address: Host | None = None
    read_events: Flag | None = None
    renewal: RenewalTable = RenewalTable()

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


class RevocationListTable(_Table):
    """One of `[[revocation_lists]]`."""

    certificate_authority: Authority
    url: Annotated[str, web_address("http://", "https://")]
    issuer: File
    ca_file: File | None = None


class AppTable(_Table):
    """`[mail.smtp.xoauth2]`: an application of Entra ID."""

    tenant: Text
    client_id: Text
    client_secret_file: File
    authority: Https = "https://login.microsoftonline.com"


class SmtpTable(_Table):
    """`[mail.smtp]`."""

    host: Host
    port: Port = 587
    security: SmtpSecurity = SmtpSecurity.STARTTLS
    ca_file: File | None = None
    username: Text | None = None
    password_file: File | None = None
    xoauth2: AppTable | None = None
    timeout: Long = timedelta(seconds=30)

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


class GraphTable(AppTable):
    """`[mail.graph]`."""

    endpoint: Https = "https://graph.microsoft.com"
    ca_file: File | None = None
    timeout: Long = timedelta(seconds=30)


class PickupTable(_Table):
    """`[mail.pickup]`."""

    directory: File


class MailTable(_Table):
    """`[mail]`, which has one of the three tables that say how it is sent."""

    sender: Annotated[MailAddress, Field(alias="from")]
    approvers: Annotated[tuple[MailAddress, ...], Field(min_length=1)]
    operators: Annotated[tuple[MailAddress, ...], Field(min_length=1)]
    smtp: SmtpTable | None = None
    graph: GraphTable | None = None
    pickup: PickupTable | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        count = sum(each is not None for each in (self.smtp, self.graph, self.pickup))
        if count != 1:
            only = "only one" if count else "one"
            raise ValueError(f"smtp, graph, pickup: give {only} of the tables [mail.smtp], [mail.graph], [mail.pickup]")
        return self


class WebhookTable(_Table):
    """One of `[[webhooks]]`."""

    name: Name
    url_file: File | None = None
    url: Text | None = None
    format: WebhookFormat = WebhookFormat.JSON
    urgent_only: Flag = False
    ca_file: File | None = None
    allow_http: Flag = False
    timeout: Long = timedelta(seconds=15)

    @field_validator("name", mode="after")
    @classmethod
    def _is_not_mail(cls, name: str) -> str:
        if name.casefold() == "mail":
            raise ValueError("is the name of the channel of [mail]; choose another")
        return name

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        if self.url is not None and self.url_file is not None:
            raise ValueError("url, url_file: give only one of them")
        if self.url is None and self.url_file is None:
            raise ValueError("url_file: give a file that holds the address, or `url` where it is no secret")
        return self


class Document(_Table):
    """The whole file."""

    renewal: RenewalTable = RenewalTable()
    fas_servers: Annotated[tuple[ServerTable, ...], Field(max_length=1000)] = ()
    revocation_lists: tuple[RevocationListTable, ...] = ()
    mail: MailTable | None = None
    webhooks: tuple[WebhookTable, ...] = ()
