"""`notify`: whether messages reach people, and which did not."""

from __future__ import annotations

from datetime import UTC, datetime

from evidence_service.adapters.channels import find_channels, open_channels, send_test
from evidence_service.adapters.outbox import DeliveryState, Outbox, StoredMessage
from evidence_service.adapters.rendering import as_text
from evidence_service.cli import output
from evidence_service.cli.errors import BadInput, ExitCode, NothingFound
from evidence_service.cli.output import Cell, Output
from evidence_service.cli.session import Session
from evidence_service.notices.model import Audience, Channels
from evidence_service.renewal_admin.views import message_json
from evidence_service.renewal_settings import renewal_of
from evidence_service.settings import SettingsError
from evidence_service.trust_admin.texts import moment
from idp_certs.alarms import Severity

_SHORT_ID = 8
_STYLES = {Severity.NOTICE: "", Severity.WARNING: "yellow", Severity.CRITICAL: "bold red"}
_STATES = {DeliveryState.QUEUED: "waits", DeliveryState.DELIVERED: "delivered", DeliveryState.ABANDONED: "given up"}


def test(session: Session, channel: str | None, audience: Audience) -> int:
    """Send a test message by each channel, or by one, and say what came of it."""
    channels = _channels(session)
    chosen = find_channels(channels, channel)
    if not chosen:
        names = ", ".join(each.name for each in open_channels(channels))
        if not names:
            raise BadInput("no channel is configured; name a mail server or a webhook in the file of renewal_file")
        raise NothingFound(f"--channel: there is no channel {channel}; there is {names}")
    code = ExitCode.DONE
    for each in chosen:
        (tried,) = send_test([each], datetime.now(UTC), audience=audience)
        if tried.problem is None:
            output.line(f"{tried.channel}: sent; see whether it arrived", "green")
        else:
            code = max(code, ExitCode.DEPENDENCY if tried.unusable else ExitCode.NEGATIVE)
            output.line(f"{tried.channel}: failed: {tried.problem}", "bold red")
    return code


def list_messages(session: Session, form: Output, limit: int) -> int:
    """Print what is undelivered, and the last messages."""
    with session.store() as engine:
        found = Outbox(engine).messages(limit=limit)
    if form is Output.JSON:
        output.emit_json([message_json(each) for each in found])
        return ExitCode.DONE
    rows = [
        (
            each.id[:_SHORT_ID],
            Cell(value=each.message.severity.value, style=_STYLES[each.message.severity]),
            moment(each.created_at),
            each.message.kind,
            each.message.audience.value,
            _delivery_text(each),
            each.message.title,
        )
        for each in found
    ]
    columns = ("id", "severity", "written", "kind", "for", "delivery", "title")
    output.table(columns, rows, nothing="No message was written yet.")
    return ExitCode.DONE


def show(session: Session, message: str) -> int:
    """Print the whole of what goes out by this id."""
    with session.store() as engine:
        found = Outbox(engine).sent_as(message)
    if not found:
        raise NothingFound(f"there is no message {message!r}; `fas-evidence notify list` lists them")
    if len(found) > 1:
        raise BadInput(f"more than one message begins with {message!r}; give more of its id")
    for line in as_text(found[0]).splitlines():
        output.line(line)
    return ExitCode.DONE


def _delivery_text(stored: StoredMessage) -> str:
    taken = [each for each in stored.deliveries if each.state is not DeliveryState.SKIPPED]
    if not taken:
        return "by no channel"
    return "; ".join(
        f"{each.channel} {_STATES[each.state]}{'' if each.problem is None else f' ({each.problem})'}" for each in taken
    )


def _channels(session: Session) -> Channels:
    settings = session.settings()
    try:
        return renewal_of(settings).channels
    except SettingsError as problem:
        raise BadInput(str(problem)) from problem
