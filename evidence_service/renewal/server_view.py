"""One FAS server as alarms see it, and how alarms speak of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from evidence_service.renewal.approvals import (
    URGENT_DAYS,
    Approval,
    approval_text,
    machine_account,
)
from evidence_service.renewal.memory import recall
from evidence_service.renewal.model import (
    STEP_KINDS,
    Alert,
    Attempt,
    Attempts,
    AuthorizationCertificate,
    AwaitApproval,
    Observation,
    RenewalPolicy,
    Request,
    Result,
    Step,
)
from evidence_service.renewal.reasons import advice_for
from evidence_service.renewal.situation import Situation
from idp_certs.alarms import DAY, Severity, instant_text
from idp_certs.reasons import Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerView:
    """What is known of one FAS server. Times are UTC.

    `host` is the name of the machine, whose account asks the CA. `observation` is the last one, `step` what followed
    since `step_since`. `problem` is why it does not answer since `problem_since`, `misses` how often running.
    `failures` counts acts that failed running. `damage` says which stored rows cannot be read.
    """

    name: str
    host: str
    attempts: Attempts
    observation: Observation | None = None
    step: Step | None = None
    step_since: datetime | None = None
    problem: Finding | None = None
    problem_since: datetime | None = None
    misses: int = 0
    failures: int = 0
    damage: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What an alarm is judged from: the view, and what follows from it at `now`; `due` is when the renewal starts.

    `situation` is the same put together, None where nothing was seen.
    """

    view: ServerView
    policy: RenewalPolicy
    now: datetime
    used: tuple[AuthorizationCertificate, ...]
    due: datetime | None
    situation: Situation | None = None

    @property
    def least_left(self) -> timedelta | None:
        """How long the certificate in use that ends first still lasts."""
        return min((each.expires - self.now for each in self.used if each.expires is not None), default=None)

    @property
    def is_due(self) -> bool:
        """Whether a renewal should be under way."""
        return self.due is not None and self.due <= self.now

    @property
    def is_urgent(self) -> bool:
        """Whether days are left and no weeks."""
        return self.least_left is not None and self.least_left <= URGENT_DAYS * DAY

    @property
    def asked(self) -> Attempt | None:
        """The last request that was made."""
        made = (each for each in reversed(self.view.attempts.acts) if isinstance(each.step, Request))
        return next((each for each in made if each.result is Result.DONE), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Raised:
    """An alarm of the server that is looked at."""

    kind: str
    severity: Severity
    text: str
    key: str = ""
    more: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    todo: tuple[str, ...] = ()


def advised(raised: Raised, *advice: str) -> Raised:
    """With what to do at the end of the text, where a list shows nothing else, and by itself for the message."""
    return replace(raised, text=" ".join((raised.text, *advice)), todo=advice)


def approval_of(view: ServerView, policy: RenewalPolicy) -> Approval | None:
    """The request that waits for a person; None where none does."""
    step = view.step
    if not isinstance(step, AwaitApproval) or view.observation is None:
        return None
    request = view.observation.certificate(step.certificate_id)
    if request is None:
        return None
    made = recall(view.attempts).requests.get(request.id)
    return Approval(
        server=view.name,
        account=machine_account(view.host),
        request=request,
        asked=made.at if made is not None else view.step_since or view.observation.at,
        deadline=step.deadline,
        policy=policy,
        is_ours=made is not None,
    )


def what_next(known: Known) -> str:
    """One sentence that says what to do about a certificate that ends."""
    approval = approval_of(known.view, known.policy)
    if approval is not None:
        return approval_text(approval, known.now)
    if isinstance(known.view.step, Alert):
        return advice_for(known.view.step.reason, known.view.name)
    return f"See where its renewal stands: `fas-evidence authcert status {known.view.name}`."


def until_text(known: Known, joint: str = ", and ") -> str:
    """By when it matters, as the end of a sentence."""
    left = known.least_left
    if left is None:
        return ""
    end = instant_text(known.now + left)
    return f"{joint}the certificate in use {'expired' if left <= timedelta(0) else 'expires'} at {end}"


def certificate_name(known: Known, certificate: AuthorizationCertificate) -> str:
    """Which certificate of which server."""
    where = "" if certificate.certificate_authority is None else f" (from {certificate.certificate_authority})"
    return f"Authorization certificate {certificate.id}{where} of FAS server {known.view.name}"


def certificate_facts(certificate: AuthorizationCertificate) -> tuple[tuple[str, str], ...]:
    """Names and values of a certificate in use."""
    known = (
        ("FAS's id", certificate.id),
        ("CA", certificate.certificate_authority),
        ("Thumbprint", certificate.thumbprint),
        ("Expires", None if certificate.expires is None else instant_text(certificate.expires)),
    )
    return tuple((name, value) for name, value in known if value)


def details(finding: Finding) -> str:
    """A finding in one line."""
    parts = ((f"expected {finding.expected}", finding.expected), (f"got {finding.presented}", finding.presented))
    shown = ", ".join(text for text, present in parts if present)
    return f"{finding.reason}: {shown}" if shown else str(finding.reason)


def act_text(attempt: Attempt) -> str:
    """An act by its name."""
    return f"the act {STEP_KINDS[type(attempt.step)].value}"
