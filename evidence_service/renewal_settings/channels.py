"""How people are told."""

from __future__ import annotations

from evidence_service.notices.model import EntraApp, Graph, Mail, Pickup, Smtp, Webhook
from evidence_service.renewal_settings.faults import MemberProblem
from evidence_service.renewal_settings.files import Files
from evidence_service.renewal_settings.tables import AppTable, MailTable, WebhookTable
from evidence_service.renewal_settings.values import names_host


def mail_of(given: MailTable, files: Files) -> Mail:
    """`[mail]`. Raises MemberProblem."""
    return Mail(
        sender=given.sender,
        approvers=given.approvers,
        operators=given.operators,
        transport=_transport(given, files),
    )


def _transport(given: MailTable, files: Files) -> Smtp | Graph | Pickup:
    if given.smtp is not None:
        smtp, table = given.smtp, "[mail.smtp]"
        return Smtp(
            host=smtp.host,
            port=smtp.port,
            security=smtp.security,
            ca_file=files.pem(table, "ca_file", smtp.ca_file),
            username=smtp.username,
            password=files.secret(table, "password_file", smtp.password_file),
            xoauth2=None if smtp.xoauth2 is None else _app("[mail.smtp.xoauth2]", smtp.xoauth2, files),
            timeout_seconds=smtp.timeout.total_seconds(),
        )
    if given.graph is not None:
        return Graph(
            app=_app("[mail.graph]", given.graph, files),
            endpoint=given.graph.endpoint,
            ca_file=files.pem("[mail.graph]", "ca_file", given.graph.ca_file),
            timeout_seconds=given.graph.timeout.total_seconds(),
        )
    assert given.pickup is not None  # noqa: S101 - `_one_way` has seen to it
    return Pickup(directory=files.directory("[mail.pickup]", "directory", given.pickup.directory))


def _app(table: str, given: AppTable, files: Files) -> EntraApp:
    secret = files.secret(table, "client_secret_file", given.client_secret_file)
    return EntraApp(
        tenant=given.tenant, client_id=given.client_id, client_secret=secret or "", authority=given.authority
    )


def webhook_of(given: WebhookTable, files: Files) -> Webhook:
    """One of `[[webhooks]]`. Raises MemberProblem."""
    table = f"[[webhooks]] {given.name},"
    member = "url" if given.url_file is None else "url_file"
    url = given.url or files.secret(table, member, given.url_file) or ""
    schemes = ("https://", "http://") if given.allow_http else ("https://",)
    if not url.startswith(schemes) or not url.isprintable() or " " in url:
        raise MemberProblem(table, member, "expected an address that begins with https:// (or set allow_http = true)")
    if not names_host(url):
        raise MemberProblem(table, member, "expected an ASCII address with a host, and without user information (@)")
    return Webhook(
        name=given.name,
        url=url,
        format=given.format,
        urgent_only=given.urgent_only,
        ca_file=files.pem(table, "ca_file", given.ca_file),
        allow_http=given.allow_http,
        timeout_seconds=given.timeout.total_seconds(),
    )
