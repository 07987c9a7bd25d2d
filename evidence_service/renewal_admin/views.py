"""What is known of renewals, for people and programs: the same members in the command line's JSON and in the API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA1, SHA256

from evidence_service.adapters.outbox import DeliveryState, StoredMessage
from evidence_service.adapters.renewal_rows import HistoryEntry, ServerStatus
from evidence_service.notices.undelivered import Undelivered
from evidence_service.renewal.cmdlets import as_powershell, cmdlets_of
from evidence_service.renewal.farm import FasServer
from evidence_service.renewal.memory import Denial, in_vain
from evidence_service.renewal.model import (
    ACTS,
    STEP_KINDS,
    USABLE,
    WAITING,
    Alert,
    Ask,
    AskKind,
    Attempt,
    AuthorizationCertificate,
    AwaitApproval,
    CertificateStatus,
    Observation,
    Result,
    Soak,
    Step,
)
from evidence_service.renewal.preflight_model import Check
from evidence_service.renewal.preview import Foreseen
from evidence_service.renewal.reasons import RenewalReason
from evidence_service.renewal_admin.texts import (
    at_server,
    entry_text,
    pause_text,
    reason_of,
    todo_of,
    what_next,
    what_then,
    why_of,
)
from evidence_service.trust_admin.texts import instant
from evidence_service.trust_admin.views import finding_json
from idp_certs.alarms import Severity
from idp_certs.reasons import Finding

URGENT = timedelta(days=7)
MISSED_LOOKS = 3
"""So many usual intervals without a look mean that no worker runs, and so many looks without an answer an outage."""
START_WORKER = "start one (fas-evidence work), or see its log"


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateView:
    """One certificate or request of a server, with the names of the definitions that name it.

    `in_use`: one of these serves users, and is not the definition for tests. `renews_at` (UTC) is when its renewal
    begins; None where none would. `failed` is why it was given up, where it is still usable and nothing uses it.
    """

    certificate: AuthorizationCertificate
    definitions: tuple[str, ...]
    in_use: bool
    renews_at: datetime | None = None
    failed: RenewalReason | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether it is a request that nobody has decided."""
        return self.certificate.status in WAITING


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerView:
    """One FAS server as last known, with what is configured for it; None where it is no longer.

    `left` is what a person should do about a denial, or a certificate that failed, besides what the step asks for.
    """

    server: FasServer | None
    status: ServerStatus
    certificates: tuple[CertificateView, ...]
    left: tuple[str, ...] = ()

    @property
    def used(self) -> tuple[CertificateView, ...]:
        """What definitions name, the first to expire first."""
        found = [each for each in self.certificates if each.in_use]
        return tuple(sorted(found, key=lambda each: (each.certificate.expires is None, each.certificate.expires)))

    @property
    def last_error(self) -> Finding | None:
        """Why it does not answer; else why the latest act failed, until acts succeed again."""
        if self.status.problem is not None:
            return self.status.problem
        failed = self.status.last_failed
        return failed.finding if failed is not None and self.status.failures else None

    @property
    def last_error_at(self) -> datetime | None:
        """Since when it does not answer; else when the act failed that `last_error` is of (UTC)."""
        if self.status.problem is not None:
            return self.status.problem_since
        failed = self.status.last_failed
        return None if self.last_error is None or failed is None else failed.result_at or failed.at


def certificate_views(
    observation: Observation | None,
    renews_at: Mapping[str, datetime],
    *,
    test_definition: str | None,
    failed: Mapping[str, RenewalReason] | None = None,
) -> tuple[CertificateView, ...]:
    """The certificates and requests that a server reports; those in use first. `failed` are left ones, by id."""
    if observation is None:
        return ()
    views = []
    for each in observation.certificates:
        names = tuple(definition.name for definition in observation.naming(each.id))
        in_use = any(name != test_definition for name in names)
        starts = renews_at.get(each.id) if in_use else None
        why = None if failed is None else failed.get(each.id)
        views.append(CertificateView(certificate=each, definitions=names, in_use=in_use, renews_at=starts, failed=why))
    return tuple(sorted(views, key=lambda each: not each.in_use))


def condition(view: ServerView, now: datetime) -> tuple[str, Severity | None]:
    """What matters most about a server, in a few words, and how much; None where all is well."""
    status, step = view.status, view.status.step
    observation = status.observation
    used = [each.certificate for each in view.used]
    ends = [each.expires for each in used if each.expires is not None]
    soonest = min(ends) - now if ends else None
    dead = soonest is not None and soonest <= timedelta(0)
    missing = observation is not None and any(observation.certificate(each) is None for each in observation.used)
    unseen = status.observed_at is not None and now - status.observed_at > MISSED_LOOKS * _usual_look(view)
    paused = status.paused_until is not None and status.paused_until > now
    is_away = status.misses >= MISSED_LOOKS
    near = soonest is not None and soonest <= URGENT
    failed_last = status.last_act is not None and in_vain(status.last_act)
    cases = (
        (view.server is None, "not configured", Severity.WARNING),
        (status.damage is not None, "damaged", Severity.CRITICAL),
        (dead or any(each.status is CertificateStatus.EXPIRED for each in used), "expired", Severity.CRITICAL),
        (any(each.revoked_at is not None for each in used), "revoked", Severity.CRITICAL),
        (missing, "a definition names no certificate", Severity.CRITICAL),
        (status.problem is not None, _absence(status.problem), Severity.CRITICAL if is_away else Severity.WARNING),
        (observation is None, "not looked at yet", Severity.WARNING),
        (near, f"expires in {_days(soonest)}", Severity.CRITICAL),
        (isinstance(step, Alert), "needs a person", Severity.CRITICAL),
        (unseen, "not looked at lately", Severity.CRITICAL),
        (paused, "paused", Severity.WARNING),
        (status.failures > 0 and failed_last, "the last act failed", Severity.WARNING),
        (isinstance(step, AwaitApproval), "waits for approval", Severity.WARNING),
        (isinstance(step, ACTS), "renewing", None),
        (status.denial is not None, "denied", Severity.WARNING),
        (any(each.failed for each in view.certificates), "a failed certificate is left", Severity.WARNING),
        (status.failures > 0, "an act failed", Severity.WARNING),
        (isinstance(step, Soak), "renewed, soaking", None),
    )
    return next(((text, severity) for applies, text, severity in cases if applies), ("in force", None))


def _usual_look(view: ServerView) -> timedelta:
    return timedelta(hours=1) if view.server is None else view.server.policy.check


def worker_missing(view: ServerView, now: datetime) -> str | None:
    """That no worker seems to look at a server, with the remedy; None where one does, or nothing is configured."""
    status, check = view.status, _usual_look(view)
    if view.server is None:
        return None
    if status.observed_at is None and status.problem is None:
        return f"no worker has looked at this server yet; {START_WORKER}"
    overdue = now - status.next_tick_at > (MISSED_LOOKS - 1) * check
    unseen = status.problem is None and status.observed_at is not None
    if overdue or (unseen and now - (status.observed_at or now) > MISSED_LOOKS * check):
        return f"no worker seems to run, as nothing looked at this server lately; {START_WORKER}"
    return None


def todo_now(view: ServerView, now: datetime) -> str | None:
    """What a person should do about a server now; None where nothing is to be done."""
    if view.server is None:
        return None
    missing = worker_missing(view, now)
    start = None if missing is None else f"{missing[:1].upper()}{missing[1:]}."
    return " ".join(each for each in (start, _step_todo(view), *view.left) if each) or None


def _step_todo(view: ServerView) -> str | None:
    """What a person should do for the step; nobody should approve what is to be withdrawn."""
    step, asked = view.status.step, {each.kind for each in view.status.asks}
    if isinstance(step, AwaitApproval) and AskKind.WITHDRAW in asked:
        return None
    todo = None if step is None else todo_of(step, view.status.observation)
    return None if todo is None else at_server(todo, view.status.name)


def _absence(problem: Finding | None) -> str:
    return "unreachable" if problem is None or problem.reason is RenewalReason.UNREACHABLE else "does not answer usably"


def _days(left: timedelta | None) -> str:
    days = 0 if left is None else left.days
    return "less than a day" if days < 1 else "1 day" if days == 1 else f"{days} days"


def server_json(view: ServerView, now: datetime) -> dict[str, Any]:
    """A server for programs."""
    status, observation, error = view.status, view.status.observation, view.last_error
    text, severity = condition(view, now)
    ends = [each.certificate.expires for each in view.used if each.certificate.expires is not None]
    starts = [each.renews_at for each in view.used if each.renews_at is not None]
    return {
        "name": status.name,
        "configured": view.server is not None,
        "condition": text,
        "severity": None if severity is None else severity.value,
        "expires": _optional(min(ends, default=None)),
        "renews_at": _optional(min(starts, default=None)),
        "maintenance": None if observation is None else observation.maintenance,
        "certificates": [certificate_json(each, now) for each in view.certificates],
        "definitions": []
        if observation is None
        else [
            {
                "name": each.name,
                "template": each.template,
                "authorization_certificate": each.authorization_certificate,
                "certificate_authorities": list(each.certificate_authorities),
            }
            for each in observation.definitions
        ],
        "step": None
        if status.step is None
        else {
            **step_json(status.step, observation),
            "todo": _step_todo(view),
            "since": _optional(status.step_since),
        },
        "todo": todo_now(view, now),
        "asks": [ask_json(each) for each in status.asks],
        "paused_until": _pause(status, now),
        "paused_by": status.paused_by,
        "paused_note": status.paused_note,
        "observed_at": _optional(status.observed_at),
        "age_seconds": None if status.observed_at is None else int((now - status.observed_at).total_seconds()),
        "next_look": None if view.server is None else instant(status.next_tick_at),
        "problem": None if status.problem is None else finding_json(status.problem),
        "problem_since": _optional(status.problem_since),
        "misses": status.misses,
        "requests": status.attempts_count,
        "failures": status.failures,
        "not_before": _optional(status.not_before),
        "last_act": None if status.last_act is None else act_json(status.last_act),
        "last_error": None if error is None else finding_json(error),
        "last_error_at": _optional(view.last_error_at),
        "denial": None if status.denial is None else _denial_json(status.denial),
        "damage": status.damage,
    }


def _denial_json(denial: Denial) -> dict[str, Any]:
    return {
        "certificate_id": denial.certificate_id,
        "certificate_authority": denial.certificate_authority,
        "ca_request_id": denial.ca_request_id,
        "reason": denial.word or None,
        "at": instant(denial.at),
    }


def _pause(status: ServerStatus, now: datetime) -> str | None:
    if status.paused_until is None or status.paused_until <= now:
        return None
    return pause_text(status.paused_until).removeprefix("until ")


def certificate_json(view: CertificateView, now: datetime) -> dict[str, Any]:
    """A certificate or a request for programs."""
    certificate = view.certificate
    return {
        "id": certificate.id,
        "status": certificate.status_word,
        "in_use": view.in_use,
        "definitions": list(view.definitions),
        "usable": certificate.status in USABLE and certificate.revoked_at is None,
        "certificate_authority": certificate.certificate_authority,
        "ca_request_id": certificate.ca_request_id,
        "request_key_sha256": certificate.request_key_sha256,
        "request_pem": certificate.request_pem if view.is_waiting else None,
        "not_before": _optional(certificate.not_before),
        "expires": _optional(certificate.expires),
        "days_left": None if certificate.expires is None else (certificate.expires - now).days,
        "renews_at": _optional(view.renews_at),
        "thumbprint": certificate.thumbprint,
        "serial": certificate.serial,
        "key_length": certificate.key_length,
        "revoked_at": _optional(certificate.revoked_at),
        "denial": certificate.denial or None,
        "failed": view.failed,
    }


def issued_json(certificate: x509.Certificate) -> dict[str, Any]:
    """The certificate of a signed answer, for programs."""
    return {
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "serial": f"{certificate.serial_number:x}",
        "not_before": instant(certificate.not_valid_before_utc),
        "expires": instant(certificate.not_valid_after_utc),
        "thumbprint": certificate.fingerprint(SHA1()).hex().upper(),  # noqa: S303 - what Windows shows of certificates
        "sha256": certificate.fingerprint(SHA256()).hex(),
    }


def step_json(step: Step, observation: Observation | None = None) -> dict[str, Any]:
    """A step for programs, with the cmdlets that it calls as a person would type them."""
    todo = todo_of(step, observation)
    return {
        "kind": STEP_KINDS[type(step)].value,
        "reason": reason_of(step),
        "text": what_next(step, observation),
        "why": why_of(step),
        "todo": todo if todo is None or observation is None else at_server(todo, observation.server),
        "cmdlets": [as_powershell(each) for each in cmdlets_of(step)],
    }


def foreseen_json(foreseen: Foreseen, observation: Observation) -> dict[str, Any]:
    """A step of a dry run for programs; what it waits for is told as how long, because when depends on people."""
    return {**step_json(foreseen.step, observation), "text": what_then(foreseen, observation)}


def ask_json(ask: Ask) -> dict[str, Any]:
    """What a person asked for, for programs."""
    return {"seq": ask.seq, "kind": ask.kind.value, "at": instant(ask.at), "actor": ask.actor, "note": ask.note}


def act_json(attempt: Attempt) -> dict[str, Any]:
    """An act and what came of it, for programs. `result` null: not known, or under way."""
    return {
        "seq": attempt.seq,
        "kind": STEP_KINDS[type(attempt.step)].value,
        "text": what_next(attempt.step),
        "at": instant(attempt.at),
        "result": None if attempt.result is None else attempt.result.value,
        "result_at": _optional(attempt.result_at),
        "certificate_id": attempt.certificate_id,
        "finding": None if attempt.finding is None else finding_json(attempt.finding),
    }


def history_json(entry: HistoryEntry) -> dict[str, Any]:
    """An act, or what a person said, with who wanted it and why, for programs. Members that do not apply are null."""
    said = {
        **dict.fromkeys(("seq", "result", "result_at", "certificate_id", "finding")),
        "kind": entry.what,
        "at": instant(entry.at),
    }
    return {
        "server": entry.server,
        **(said if entry.attempt is None else act_json(entry.attempt)),
        "text": entry_text(entry),
        "actor": entry.actor,
        "why": entry.why or None,
        "note": entry.note or None,
        "ask": None if entry.ask is None else entry.ask.value,
        "outcome": entry.outcome or None,
        "until": _optional(entry.until),
    }


def check_json(check: Check) -> dict[str, Any]:
    """What a preflight found about one thing, for programs."""
    return {
        "check": check.name,
        "verdict": check.verdict.value,
        "code": check.code.value,
        "finding": check.text,
        "remedy": check.remedy,
    }


def message_json(stored: StoredMessage) -> dict[str, Any]:
    """A message and how far it is on each channel, for programs."""
    message = stored.message
    return {
        "id": stored.id,
        "created_at": instant(stored.created_at),
        "kind": message.kind,
        "about": message.about.value,
        "subject": message.subject,
        "severity": message.severity.value,
        "audience": message.audience.value,
        "title": message.title,
        "deliveries": [
            {
                "channel": each.channel,
                "state": each.state.value,
                "attempts": each.attempts,
                "next_attempt_at": instant(each.next_attempt_at) if each.state is DeliveryState.QUEUED else None,
                "delivered_at": _optional(each.delivered_at),
                "problem": each.problem,
            }
            for each in stored.deliveries
        ],
    }


def undelivered_json(each: Undelivered) -> dict[str, Any]:
    """What did not reach people by one channel, for programs."""
    return {
        "channel": each.channel,
        "waiting": each.waiting,
        "abandoned": each.abandoned,
        "oldest": instant(each.oldest),
        "problem": each.problem,
    }


def result_text(attempt: Attempt) -> str:
    """What came of an act, in a word or two."""
    if attempt.result is None:
        return "under way"
    return {Result.NOT_DONE: "not done", Result.UNKNOWN: "no answer yet"}.get(attempt.result, attempt.result.value)


def _optional(value: datetime | None) -> str | None:
    return None if value is None else instant(value)
