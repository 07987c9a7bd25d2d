"""A message as people read it: plain text and HTML from the same templates' data, and the mail that holds both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from evidence_service.adapters.sending import Outgoing, harmless
from evidence_service.notices.combined import length_of, shortened
from evidence_service.notices.model import About, Audience, Mail, Message
from idp_certs.alarms import Severity

MAX_TITLE = 200
MAX_HTML = 100_000
"""Bytes: Gmail shows no more than the first 102 KB of a mail."""
_MAX_HEADER = 900  # RFC 5322 2.1.1 ends at 998
_LABELS = {Severity.NOTICE: "Notice", Severity.WARNING: "Warning", Severity.CRITICAL: "Urgent"}
_COLOURS = {Severity.NOTICE: "#1f5fa8", Severity.WARNING: "#9a5b00", Severity.CRITICAL: "#b3261e"}
_ABOUTS = {
    About.IDP: "Identity provider",
    About.FAS_SERVER: "FAS server",
    About.PLUGIN: "Plug-in",
    About.SERVICE: "This service",
}


@cache
def _environment(*, html: bool) -> Environment:
    return Environment(
        loader=PackageLoader("evidence_service.adapters", "templates"),
        autoescape=html,  # noqa: S701 - plain text has nothing to escape
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def title_of(message: Message) -> str:
    """The title on one line, cut where it is long: nothing in it can end a header."""
    title = harmless(message.title)
    return title if len(title) <= MAX_TITLE else f"{title[: MAX_TITLE - 1]}\u2026"


def as_text(outgoing: Outgoing) -> str:
    """The message as plain text."""
    return _environment(html=False).get_template("message.txt.j2").render(_values(outgoing))


def as_html(outgoing: Outgoing) -> str:
    """The message as HTML that mail programs show: tables and inline styles, nothing that is loaded, no scripts."""
    return _environment(html=True).get_template("message.html.j2").render(_values(outgoing))


def fitting(outgoing: Outgoing, fits: Callable[[Outgoing], bool], most: int) -> Outgoing:
    """The message, cut until it fits; tried first with `most` characters. What is cut is said in it."""
    whole, most = outgoing, min(most, length_of(outgoing.message))
    while not fits(outgoing):
        message = shortened(whole.message, most, f"fas-evidence notify show {whole.id}")
        outgoing, most = replace(whole, message=message), most * 3 // 4
    return outgoing


def as_mail(outgoing: Outgoing, mail: Mail) -> EmailMessage:
    """The message as a mail (RFC 5322), the same for the same id, and no longer than mail programs show.

    What is for approvers goes to them, with a copy to the operators.
    """
    outgoing = fitting(outgoing, lambda each: len(as_html(each).encode()) <= MAX_HTML, MAX_HTML)
    message = outgoing.message
    made = EmailMessage(policy=SMTP)
    made["Message-ID"] = f"<{outgoing.id}@{_domain(mail.sender)}>"
    made["Date"] = format_datetime(outgoing.created_at)
    made["From"] = mail.sender
    to, copies = recipients(message, mail)
    made["To"] = ", ".join(to)
    if copies:
        made["Cc"] = ", ".join(copies)
    made["Subject"] = f"[{_LABELS[message.severity]}] {title_of(message)}"
    made["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's absence is told to a machine
    if message.severity is Severity.CRITICAL:
        made["X-Priority"] = "1"
        made["Importance"] = "high"
    made.set_content(as_text(outgoing), cte="quoted-printable")
    made.add_alternative(as_html(outgoing), subtype="html", cte="quoted-printable")
    # Otherwise each sending would draw another one.
    made.set_boundary(f"=_{outgoing.id}")
    if made["Subject"].isascii():
        # Unfolded, since folding would begin with an empty line; encoded words must stay short (RFC 2047 2).
        made.policy = SMTP.clone(max_line_length=_MAX_HEADER)
    return made


def recipients(message: Message, mail: Mail) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Who gets it, and who gets a copy."""
    if message.audience is Audience.APPROVERS and mail.approvers:
        return mail.approvers, tuple(each for each in mail.operators if each not in mail.approvers)
    return mail.operators or mail.approvers, ()


def _domain(sender: str) -> str:
    _name, address = parseaddr(sender)
    return address.rpartition("@")[2] or "localhost"


def _values(outgoing: Outgoing) -> dict[str, Any]:
    message = outgoing.message
    return {
        "id": outgoing.id,
        "title": title_of(message),
        "label": _LABELS[message.severity],
        "colour": _COLOURS[message.severity],
        "about": _ABOUTS[message.about],
        "kind": harmless(message.kind),
        "paragraphs": [harmless(each) for each in message.paragraphs],
        "facts": [(harmless(name), harmless(value)) for name, value in message.facts],
        "todo": [harmless(each) for each in message.todo],
        "written": f"{outgoing.created_at:%Y-%m-%d %H:%M} UTC",
    }
