"""What an approver is told of a request that waits, so that it can be found, judged and decided at the CA.

Which request, of which machine, on which CA, until when, and what happens if nobody decides (`domain/fas.md` B.1, 4).
Reminders follow the days that the old certificate has left (promise 50); before that they come weekly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from evidence_service.notices.alarms import REQUEST_NUMBER
from evidence_service.renewal.farm import FasServer, WinRm
from evidence_service.renewal.model import AuthorizationCertificate, Deadline, RenewalPolicy
from idp_certs.alarms import DAY, Severity, instant_text, level_reached, span_text

LEFT_DAYS = (30, 21, 14, 7, 3, 1)
URGENT_DAYS = 7
WEEK = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A request that waits for a person. `server` is the FAS server's name, `account` its machine account.

    `asked` is when it was made, `deadline` when the certificate that it replaces expires, None where that is not known.
    `is_ours`: this service made it. Times are UTC.
    """

    server: str
    account: str
    request: AuthorizationCertificate
    asked: datetime
    deadline: datetime | None
    policy: RenewalPolicy
    is_ours: bool = True

    @property
    def is_offline(self) -> bool:
        """Whether it is signed elsewhere and brought back."""
        return self.policy.offline or self.request.certificate_authority is None

    @property
    def forgotten_at(self) -> datetime:
        """When it counts as forgotten."""
        return self.asked + self.policy.approval_deadline


def machine_account(host: str) -> str:
    """The name under which the CA shows who asked: that of the machine's account, without its domain."""
    label = host.partition(".")[0]
    return host if label.isdecimal() else f"{label.upper()}$"


_HERE = frozenset({"", "localhost", "127.0.0.1", "::1"})


def host_of(server: FasServer) -> str:
    """The name of the machine, as well as the configuration tells it; a tunnel's end on this machine is none."""
    if server.address is not None:
        return server.address
    host = server.connection.host if isinstance(server.connection, WinRm) else ""
    return server.name if host in _HERE else host


def reminder(approval: Approval, now: datetime) -> tuple[str, Severity]:
    """The key of what is told at `now`, and how soon somebody should look; one key is told once."""
    which = approval.request.id
    left = None if approval.deadline is None else approval.deadline - now
    if left is not None and left <= timedelta(0):
        return f"{which}:expired", Severity.CRITICAL
    # Told no later than so many days before, although it is looked at now and then only.
    level = None if left is None else level_reached(max(left - approval.policy.check, timedelta(1)), LEFT_DAYS)
    if level is not None:
        return f"{which}:{level}d", Severity.CRITICAL if level <= URGENT_DAYS else Severity.WARNING
    weeks = (now - approval.asked) // WEEK
    return (f"{which}:week {weeks}", Severity.WARNING) if weeks >= 1 else (which, Severity.NOTICE)


def approval_text(approval: Approval, now: datetime) -> str:
    """One sentence: what to decide, where, whose request, and until when."""
    until = "as soon as you can"
    if approval.deadline is not None:
        left = approval.deadline - now
        until = f"before {instant_text(approval.deadline)}, in {span_text(left)}"
        if left <= timedelta(0):
            until = f"now: the old certificate expired at {instant_text(approval.deadline)}"
    if approval.is_offline:
        return (
            f"Have request {approval.request.id} of FAS server {approval.server} signed and bring the answer, {until}."
        )
    return (
        f"Issue or deny {_number(approval)} of {approval.account} (FAS server {approval.server}) on "
        f"{approval.request.certificate_authority}, {until}."
    )


_NOT_OURS = (
    "This service did not make this request: somebody made it on the FAS server. Issue it only if you know who did and "
    "why; otherwise deny it, and tell those who run the farm."
)


def approval_paragraphs(approval: Approval, now: datetime) -> tuple[str, ...]:
    """What the request is, what happens if nobody decides, as long as that is not over, and who must not approve it."""
    until = "it expires" if approval.deadline is None else f"it expires at {instant_text(approval.deadline)}"
    withdraws = approval.policy.on_deadline is Deadline.WITHDRAW
    fate = "is withdrawn" if withdraws else "counts as forgotten, and stays where it is"
    late = approval.deadline is not None and approval.forgotten_at > approval.deadline
    over = late or is_overdue(approval, now)
    forgotten = "" if over else f"If nobody decides by {instant_text(approval.forgotten_at)}, the request {fate}. "
    return (
        *(() if approval.is_ours else (_NOT_OURS,)),
        (
            "With this certificate the FAS server enrolls certificates for users, so whoever holds its key can sign on "
            f"as anybody. The one in use serves until {until}; after that no user can log on through this server."
        ),
        f"{forgotten}Reminders come more often the fewer days are left.",
        (
            "Who approves must not be who asked: not an administrator of that FAS server, and no account of this "
            "service. This decision is the only check by a person."
        ),
    )


def approval_facts(approval: Approval) -> tuple[tuple[str, str], ...]:
    """Names and values to find the request by."""
    request, policy = approval.request, approval.policy
    known = (
        ("CA", request.certificate_authority),
        (REQUEST_NUMBER, request.ca_request_id),
        ("Requested by", approval.account),
        ("Template", None if approval.is_offline else policy.authorization_template),
        ("Then issued from", None if approval.is_offline else policy.certificate_template),
        ("Key (SHA-256 of SubjectPublicKeyInfo)", request.request_key_sha256),
        ("FAS's id", request.id),
        ("Requested", instant_text(approval.asked)),
        ("Needed before", None if approval.deadline is None else instant_text(approval.deadline)),
    )
    return tuple((name, value) for name, value in known if value)


def approval_steps(approval: Approval) -> tuple[str, ...]:
    """What to do, in order."""
    return tuple(_steps(approval))


def _steps(approval: Approval) -> Iterator[str]:
    if approval.is_offline:
        yield f"Take the request: `fas-evidence authcert status {approval.server}` shows it."
        yield "Check its key against the SHA-256 below, and have the CA sign it as a Certificate Request Agent."
        yield f"Bring the answer (PKCS #7): `fas-evidence authcert import {approval.server}`."
        return
    yield f"Open the Certification Authority console for {approval.request.certificate_authority}: Pending Requests."
    yield (
        f"Find {_number(approval)}: the requester is {approval.account}, the template "
        f"{approval.policy.authorization_template}. Deny any other request of that kind."
    )
    yield "All Tasks, Issue; or Deny, if nobody expects it. FAS fetches the certificate within minutes."


def _number(approval: Approval) -> str:
    number = approval.request.ca_request_id
    return "the pending request" if number is None else f"the pending request {number}"


def is_overdue(approval: Approval, now: datetime) -> bool:
    """Whether it counts as forgotten."""
    return now >= approval.forgotten_at


def days_waited(approval: Approval, now: datetime) -> int:
    """For how many whole days it has waited."""
    return (now - approval.asked) // DAY
