"""`authcert`: the authorization certificates of the FAS servers, their renewal, and what people do about it."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from evidence_service.access.policy import parse_span
from evidence_service.cli import output
from evidence_service.cli.errors import BadInput, DependencyFailed, ExitCode, NothingFound
from evidence_service.cli.files import read_file
from evidence_service.cli.idps import SEVERITIES, span
from evidence_service.cli.output import Cell, Output
from evidence_service.cli.session import Session, actor, confirm, confirm_typed
from evidence_service.renewal.cmdlets import as_powershell, cmdlets_of
from evidence_service.renewal.model import Alert, AskKind, Maintenance, Step
from evidence_service.renewal.ports import FasAnswerUnknown, FasRefused, FasUnreachable
from evidence_service.renewal.preflight_model import Check, Verdict
from evidence_service.renewal.reasons import RenewalReason
from evidence_service.renewal_admin.acts import (
    MAX_RESPONSE,
    NothingToDo,
    RenewalAdmin,
    SignedAnswer,
    paused_text,
    preview_json,
)
from evidence_service.renewal_admin.texts import (
    at_server,
    cause_line,
    entry_text,
    pause_text,
    reason_of,
    todo_of,
    what_next,
    why_of,
)
from evidence_service.renewal_admin.views import (
    CertificateView,
    ServerView,
    check_json,
    condition,
    foreseen_json,
    history_json,
    issued_json,
    result_text,
    server_json,
    todo_now,
    worker_missing,
)
from evidence_service.renewal_settings import renewal_of
from evidence_service.settings import SettingsError
from evidence_service.trust_admin.documents import Unusable
from evidence_service.trust_admin.texts import finding_line, instant, moment
from idp_certs.instants import parse_instant

_NO_SERVER = (
    "No FAS server is configured. Name them in the file of the setting renewal_file: docs/operations/renewal.md"
)
_FIRST = (Verdict.FAILED, Verdict.UNKNOWN, Verdict.WARNING, Verdict.OK)
_VERDICTS = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.FAILED: "bold red", Verdict.UNKNOWN: "yellow"}


@contextlib.contextmanager
def _renewals(session: Session) -> Iterator[RenewalAdmin]:
    """The use cases over the open database; what they refuse becomes the command's error."""
    settings = session.settings()
    try:
        renewal = renewal_of(settings)
    except SettingsError as problem:
        raise BadInput(str(problem)) from problem
    with session.store() as engine:
        try:
            yield RenewalAdmin(engine, renewal)
        except Unusable as problem:
            raise BadInput(str(problem)) from problem
        except NothingToDo as problem:
            raise NothingFound(str(problem)) from problem
        except (FasUnreachable, FasAnswerUnknown, FasRefused) as problem:
            raise DependencyFailed(str(problem)) from problem


def status(session: Session, name: str | None, form: Output) -> int:
    """Print one row for each FAS server, or everything about one."""
    now = datetime.now(UTC)
    with _renewals(session) as admin:
        views = admin.views(now) if name is None else (admin.view(name, now),)
    if form is Output.JSON:
        listed = [server_json(each, now) for each in views]
        output.emit_json(listed if name is None else listed[0])
    elif name is None:
        _print_servers(views, now)
    else:
        _print_server(views[0], now)
    return ExitCode.DONE


def _print_servers(views: Sequence[ServerView], now: datetime) -> None:
    rows = []
    for view in views:
        error = view.last_error
        soonest = view.used[0] if view.used else None
        starts = [each.renews_at for each in view.used if each.renews_at is not None]
        rows.append(
            (
                view.status.name,
                _condition(view, now),
                "-" if soonest is None else soonest.certificate.id,
                "-" if soonest is None else _left(soonest, now),
                min(starts, default="-"),
                *_next(view),
                _pause(view, now),
                "" if error is None else error.reason.value,
                "-" if view.status.observed_at is None else f"{span(now - view.status.observed_at)} ago",
            )
        )
    columns = (
        *("FAS server", "condition", "certificate", "expires in", "renews at"),
        *("next", "reason", "paused", "last error", "seen"),
    )
    output.table(columns, rows, nothing=_NO_SERVER)
    for view in views:
        for text in _needs(view, now):
            output.warning(f"{view.status.name}: {text}")


def _next(view: ServerView) -> tuple[str, str]:
    """What is done next and its reason. What was planned before a server went away is told as no plan of now."""
    status, step = view.status, view.status.step
    if view.server is None:
        return "-", ""
    if status.problem is not None:
        return f"look again at {moment(status.next_tick_at)}", ""
    return ("-", "") if step is None else (what_next(step, status.observation), reason_of(step) or "")


def _needs(view: ServerView, now: datetime) -> Iterator[str]:
    """What is wrong with a server, and what a person should do about it."""
    step, todo = view.status.step, todo_now(view, now)
    if view.status.damage is not None:
        yield view.status.damage
    if view.status.problem is not None:
        yield at_server(finding_line(view.status.problem), view.status.name)
    if todo is not None:
        yield f"{why_of(step)} {todo}" if isinstance(step, Alert) else todo


def _pause(view: ServerView, now: datetime) -> str:
    until = view.status.paused_until
    return "" if until is None or until <= now else pause_text(until)


def _condition(view: ServerView, now: datetime) -> Cell:
    text, severity = condition(view, now)
    return Cell(value=text, style=SEVERITIES[severity])


def _left(view: CertificateView, now: datetime) -> str:
    expires = view.certificate.expires
    if expires is None:
        return "unknown"
    return f"expired {span(now - expires)} ago" if expires <= now else span(expires - now)


def _print_server(view: ServerView, now: datetime) -> None:
    observation = view.status.observation
    output.facts([*_step_facts(view, now), *_look_facts(view, now), *_act_facts(view, now)])
    output.line("")
    _print_certificates(view, now)
    if observation is not None:
        output.line("")
        rows = [(each.name, each.authorization_certificate, each.template) for each in observation.definitions]
        output.table(("definition", "certificate", "template"), rows, nothing="No certificate definition.")
    _print_offline_requests(view)
    if view.status.damage is not None:
        output.warning(view.status.damage)


def _step_facts(view: ServerView, now: datetime) -> Iterator[tuple[str, object]]:
    status, step, todo = view.status, view.status.step, todo_now(view, now)
    yield "FAS server", status.name
    yield "condition", _condition(view, now)
    if view.server is None:
        return
    if status.problem is not None:
        yield "next", _next(view)[0]
        if step is not None and status.observation is not None:
            planned = what_next(step, status.observation)
            yield "planned", f"{planned}, by what it reported at {moment(status.observation.at)}"
    elif step is not None:
        yield "next", what_next(step, status.observation)
        yield "why", why_of(step)
    if todo is not None:
        yield "to do", todo
    if step is not None and status.step_since is not None and status.problem is None:
        yield "since", status.step_since


def _look_facts(view: ServerView, now: datetime) -> Iterator[tuple[str, object]]:
    status = view.status
    if status.observation is not None:
        yield "maintenance", status.observation.maintenance
    observed = status.observed_at
    yield "last seen", "never" if observed is None else f"{moment(observed)}, {span(now - observed)} ago"
    if view.server is not None:
        yield "next look", status.next_tick_at
    if status.paused_until is not None and status.paused_until > now:
        by = f", by {status.paused_by}" if status.paused_by else ""
        note = f": {status.paused_note}" if status.paused_note else ""
        yield "paused", f"{pause_text(status.paused_until)}{by}{note}"
    for each in status.asks:
        note = f": {each.note}" if each.note else ""
        yield "asked", f"{each.kind.value} at {moment(each.at)} by {each.actor}{note}"


def _act_facts(view: ServerView, now: datetime) -> Iterator[tuple[str, object]]:
    status, error = view.status, view.last_error
    failed = "1 act" if status.failures == 1 else f"{status.failures} acts"
    yield "requests", f"{status.attempts_count} since the last renewal; {failed} failed since one succeeded"
    if status.not_before is not None and status.not_before > now:
        yield "tried again", status.not_before
    if status.denial is not None:
        denial = status.denial
        number = denial.certificate_id if denial.ca_request_id is None else f"request {denial.ca_request_id}"
        where = "" if denial.certificate_authority is None else f" at {denial.certificate_authority}"
        yield "denied", f"{number}{where}, {moment(denial.at)}{f': {denial.word}' if denial.word else ''}"
    if status.last_act is not None:
        act = status.last_act
        yield "last act", f"{what_next(act.step)}: {result_text(act)}, {moment(act.at)}"
    if error is not None and (status.step is None or cause_line(error) not in why_of(status.step)):
        when = "" if view.last_error_at is None else f"{moment(view.last_error_at)}, "
        yield "last error", f"{when}{at_server(finding_line(error), status.name)}"


def _print_offline_requests(view: ServerView) -> None:
    for each in view.certificates:
        request = each.certificate
        if each.is_waiting and request.certificate_authority is None and request.request_pem is not None:
            output.line("")
            output.line(f"Request {request.id}, to be signed elsewhere:")
            for line in request.request_pem.splitlines():
                output.line(line)
            output.line(f"Next: fas-evidence authcert import {view.status.name} FILE.p7b")


def _print_certificates(view: ServerView, now: datetime) -> None:
    rows = [
        (
            each.certificate.id,
            each.certificate.status_word,
            ", ".join(each.definitions) or "-",
            "-" if each.certificate.expires is None else each.certificate.expires,
            "-" if each.is_waiting else _left(each, now),
            each.renews_at or "-",
            each.certificate.ca_request_id or "-",
            each.certificate.certificate_authority or "-",
        )
        for each in view.certificates
    ]
    columns = ("certificate", "status", "used by", "expires", "left", "renews at", "request", "CA")
    nothing = "The server has no authorization certificate."
    if view.status.observation is None:
        why = "the worker looks at the server: fas-evidence work"
        if view.status.problem is not None:
            why = "the server did not answer usably, see the last error"
        elif view.status.damage is not None:
            why = "what is stored of it cannot be read, see the warning"
        nothing = f"No certificate is known; {why}"
    output.table(columns, rows, nothing=nothing)
    for each in view.certificates:
        if each.certificate.denial:
            output.warning(f"request {each.certificate.id}: {each.certificate.denial}")
        if each.failed is not None:
            meaning = each.failed.meaning
            output.warning(f"certificate {each.certificate.id} was given up, and nothing uses it: {meaning}")
        if each.certificate.revoked_at is not None:
            output.warning(f"certificate {each.certificate.id} was revoked at {moment(each.certificate.revoked_at)}")


def renew(session: Session, name: str, *, note: str, confirmed: bool, dry_run: bool, form: Output) -> int:
    """Ask for a renewal, or with `dry_run` print every cmdlet that it would call."""
    now = datetime.now(UTC)
    with _renewals(session) as admin:
        server = admin.find(name)
        admin.check(server.name, AskKind.RENEW, now)
        if dry_run:
            return _preview(admin, server.name, form, now)
        what = f"{server.name}: a new authorization certificate is requested now, and the CA manager must issue it"
        confirm(f"{what}. Renew?", what, confirmed=confirmed)
        _ask(admin, server.name, AskKind.RENEW, "A renewal", note=note)
    return ExitCode.DONE


def _ask(admin: RenewalAdmin, name: str, kind: AskKind, what: str, *, note: str, payload: bytes | None = None) -> None:
    """Leave the wish for the worker, and say what may keep it from being followed."""
    now = datetime.now(UTC)
    missing = worker_missing(admin.view(name, now), now)
    admin.ask(name, kind, now=now, actor=actor(), note=note, payload=payload)
    paused = paused_text(admin.view(name, now), now)
    soon = "" if missing is not None else ", at once where it runs"
    output.line(f"{what} of {name} is asked for; the worker does it at its next look{soon}.")
    if missing is not None:
        output.warning(f"{name}: {missing}")
    if paused is not None:
        output.warning(f"{name}: {paused}: fas-evidence authcert resume {name}")
    output.line(f"Watch it: fas-evidence authcert status {name}")


def _preview(admin: RenewalAdmin, name: str, form: Output, now: datetime) -> int:
    preview = admin.preview(name, now)
    if form is Output.JSON:
        output.emit_json(preview_json(preview, now))
        return ExitCode.DONE
    for number, step in enumerate(preview.steps, 1):
        content = foreseen_json(step, preview.looked.observation)
        output.line(f"{number}. {content['kind']}: {content['text']}", "bold")
        for cmdlet in content["cmdlets"]:
            output.line(f"     {cmdlet}")
    if not preview.steps:
        output.line("Nothing would be done.")
    if preview.server.policy.maintenance is Maintenance.SKIP:
        output.line("Without maintenance, as is set: logons during the switch may see an error.")
    for each in preview.warnings:
        output.warning(f"{name}: {each}")
    output.nothing_changed()
    return ExitCode.DONE


def withdraw(session: Session, name: str, *, note: str, confirmed: bool, dry_run: bool) -> int:
    """Ask that an open request is withdrawn."""
    now = datetime.now(UTC)
    with _renewals(session) as admin:
        server = admin.find(name)
        acts = admin.check(server.name, AskKind.WITHDRAW, now)
        if dry_run:
            return _would(acts)
        (act,) = acts
        todo = todo_of(act)
        then = "" if todo is None else f"; then {todo[:1].lower()}{todo[1:].rstrip('.')}"
        what = f"{server.name}: {what_next(act)}{then}"
        confirm(f"{what}. Go on?", what, confirmed=confirmed)
        _ask(admin, server.name, AskKind.WITHDRAW, "The withdrawal", note=note)
        if todo is not None:
            output.line(f"Next: {todo}")
    return ExitCode.DONE


def roll_back(session: Session, name: str, *, note: str, confirmed: bool, dry_run: bool) -> int:
    """Ask that every definition goes back to the certificate before, after the server's name was typed."""
    with _renewals(session) as admin:
        server = admin.find(name)
        acts = admin.check(server.name, AskKind.ROLL_BACK, datetime.now(UTC))
        if dry_run:
            return _would(acts)
        what = "; ".join(what_next(each) for each in acts)
        confirm_typed(
            f"Users of {server.name} get certificates by the old one again: {what}.", server.name, confirmed=confirmed
        )
        _ask(admin, server.name, AskKind.ROLL_BACK, "The way back", note=note)
    return ExitCode.DONE


def _would(acts: Sequence[Step]) -> int:
    for each in acts:
        output.line(f"The worker would {what_next(each)}:")
        for cmdlet in cmdlets_of(each):
            output.line(f"     {as_powershell(cmdlet)}")
        todo = todo_of(each)
        if todo is not None:
            output.line(f"And a person: {todo}")
    output.nothing_changed()
    return ExitCode.DONE


def import_response(session: Session, name: str, file: Path, *, note: str, confirmed: bool, dry_run: bool) -> int:
    """Bring the signed answer to an offline request, after it was shown and confirmed."""
    content = read_file(file, "response", limit=MAX_RESPONSE)
    with _renewals(session) as admin:
        server = admin.find(name)
        try:
            answer = admin.check_import(server.name, content, datetime.now(UTC))
        except Unusable as problem:
            raise BadInput(f"{file}: {str(problem).removeprefix('response: ')}") from problem
        output.facts(_answer_facts(answer))
        if dry_run:
            return _would([answer.act])
        what = f"{server.name}: FAS is given this certificate, and every definition is switched to it once it is proven"
        confirm(f"{what}. Import?", what, confirmed=confirmed)
        what = "The import of the signed answer"
        _ask(admin, server.name, AskKind.IMPORT, what, note=note, payload=answer.act.response)
    return ExitCode.DONE


def _answer_facts(answer: SignedAnswer) -> Iterator[tuple[str, object]]:
    certificate, shown = answer.certificate, issued_json(answer.certificate)
    for name in ("subject", "issuer", "serial", "thumbprint"):
        yield name, shown[name]
    yield "valid", f"{moment(certificate.not_valid_before_utc)} to {moment(certificate.not_valid_after_utc)}"
    yield "key", f"that of the open request {answer.request.id} (SHA-256 {answer.request.request_key_sha256})"


def pause(session: Session, name: str, *, until: str | None, note: str, dry_run: bool) -> int:
    """Begin nothing at a server for a while, or until a person resumes it."""
    now = datetime.now(UTC)
    end = None if until is None else _until(until, now)
    with _renewals(session) as admin:
        server = admin.find(name)
        admin.check_pause(server.name, end, now)
        if not dry_run:
            admin.pause(server.name, end, now=now, actor=actor(), note=note)
        view = admin.view(server.name, now)
    how = "until a person resumes it" if end is None else f"until {moment(end)}"
    output.line(f"The renewal of {server.name} {'would be' if dry_run else 'is'} paused {how}; it is watched on.")
    _warn_of_expiry(view, end)
    if dry_run:
        output.nothing_changed()
    else:
        output.line(f"Next: fas-evidence authcert resume {server.name}")
    return ExitCode.DONE


def _warn_of_expiry(view: ServerView, end: datetime | None) -> None:
    """A pause does not stop the time (promise 54 is for windows; a person may want it)."""
    ends = [each.certificate.expires for each in view.used if each.certificate.expires is not None]
    if ends and (end is None or end >= min(ends)):
        output.warning(f"{view.status.name}: a certificate in use expires at {moment(min(ends))}, paused or not")


def _until(text: str, now: datetime) -> datetime:
    """When a pause ends: after a while, at an instant, or with the beginning of a day (UTC). Raises BadInput."""
    readings: tuple[Callable[[], datetime], ...] = (
        lambda: now + parse_span(text),
        lambda: parse_instant(text),
        lambda: datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC),
    )
    for read in readings:
        with contextlib.suppress(ValueError, OverflowError):
            return read()
    problem = "--until: expected a duration such as 2d, or a UTC instant such as 2026-01-31T12:00:00Z or 2026-01-31"
    raise BadInput(f"{problem}, not {text!r}")


def resume(session: Session, name: str, *, note: str, dry_run: bool) -> int:
    """End a pause."""
    now = datetime.now(UTC)
    with _renewals(session) as admin:
        server = admin.find(name)
        if paused_text(admin.view(server.name, now), now) is None:
            raise NothingFound(f"{server.name}: its renewal is not paused; nothing was changed")
        if not dry_run:
            admin.resume(server.name, now=now, actor=actor(), note=note)
    output.line(f"The renewal of {server.name} {'would go' if dry_run else 'goes'} on.")
    if dry_run:
        output.nothing_changed()
    return ExitCode.DONE


def history(session: Session, name: str | None, *, limit: int, before: str | None, form: Output) -> int:
    """Print what was done at one server, or at all, and what people said about it, oldest first."""
    now = datetime.now(UTC)
    try:
        end = None if before is None else parse_instant(before)
    except ValueError:
        problem = "--before: expected a UTC instant such as 2026-01-31T12:00:00Z"
        raise BadInput(f"{problem}, not {before!r}") from None
    with _renewals(session) as admin:
        found = admin.history(name, now, limit, end)
    if form is Output.JSON:
        output.emit_json([history_json(each) for each in found])
        return ExitCode.DONE
    rows = [
        (
            *([each.server] if name is None else []),
            each.at,
            entry_text(each),
            "-" if each.attempt is None else result_text(each.attempt),
            each.actor,
            each.why or each.note or "-",
        )
        for each in found
    ]
    columns = (*(["FAS server"] if name is None else []), "at", "act", "result", "actor", "why")
    older = "" if end is None else f" before {instant(end)}"
    output.table(columns, rows, nothing=f"Nothing was done{'' if name is None else ' at this server'} yet{older}.")
    if len(found) >= limit:
        output.line(f"Older: --before {instant(found[0].at)}")
    for each in found:
        if each.attempt is not None and each.attempt.finding is not None:
            where = f"{each.server}, " if name is None else ""
            output.warning(f"{where}{moment(each.at)}: {at_server(finding_line(each.attempt.finding), each.server)}")
    return ExitCode.DONE


def preflight(session: Session, name: str | None, *, test: bool, form: Output) -> int:
    """Look whether everything is ready for a renewal; 1 where something is not, 3 where a server does not answer."""
    now = datetime.now(UTC)
    with _renewals(session) as admin:
        names = [each.name for each in admin.farm.servers] if name is None else [name]
        if not names:
            raise BadInput(f"{_NO_SERVER[:1].lower()}{_NO_SERVER[1:]}")
        checked = admin.preflight(names, now, test=test, actor=actor())
    if form is Output.JSON:
        output.emit_json(
            [{"name": each, "checks": [check_json(check) for check in checks]} for each, checks in checked]
        )
    else:
        for number, (each, checks) in enumerate(checked):
            if number:
                output.line("")
            _print_checks(each, checks)
    return max((_code(each) for _, checks in checked for each in checks), default=ExitCode.DONE)


def _print_checks(name: str, checks: Sequence[Check]) -> None:
    output.line(name, "bold")
    counts = Counter(each.verdict for each in checks)
    shown = checks
    if output.on_terminal():
        shown = sorted(checks, key=lambda each: _FIRST.index(each.verdict))
    rows = [
        (
            Cell(value=each.verdict.value, style=_VERDICTS[each.verdict]),
            each.name,
            each.text,
            "" if each.verdict is Verdict.OK else each.remedy,
        )
        for each in shown
    ]
    output.table(("", "check", "finding", "to do"), rows, nothing="Nothing was checked.", compact=True)
    totals = [
        f"{counts[Verdict.FAILED]} failed",
        f"{counts[Verdict.WARNING]} {'warning' if counts[Verdict.WARNING] == 1 else 'warnings'}",
        *([f"{counts[Verdict.UNKNOWN]} unknown"] if counts[Verdict.UNKNOWN] else []),
        f"{counts[Verdict.OK]} ok",
    ]
    output.line(", ".join(totals), "bold")


def _code(check: Check) -> ExitCode:
    if check.verdict is Verdict.FAILED:
        unreachable = check.code in (RenewalReason.UNREACHABLE, RenewalReason.ANSWER_UNKNOWN)
        return ExitCode.DEPENDENCY if unreachable else ExitCode.NEGATIVE
    return ExitCode.DONE
