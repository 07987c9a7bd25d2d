"""The words of a renewal: what FAS reports, what is set, what was done, and the one next step.

An *authorization certificate* is FAS's registration-authority certificate: with it FAS enrolls certificates for users.
FAS makes it in two requests of its own, the first of which waits at the CA for a person. All times are UTC.
`domain/fas.md` A.2 and A.3 say where each property comes from; FAS's own words are kept beside what they mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from enum import StrEnum

from evidence_service.renewal.reasons import RenewalReason
from idp_certs.reasons import Finding


class CertificateStatus(StrEnum):
    """The status words of all FAS releases (`domain/fas.md` A.2); any other stops a renewal and tells a person."""

    PENDING = "Pending"
    WAITING_FOR_APPROVAL = "WaitingForApproval"
    OK = "Ok"
    MAINTENANCE_DUE = "MaintenanceDue"
    MAINTENANCE_REQUIRED = "MaintenanceRequired"
    NOT_YET_VALID = "NotYetValid"
    EXPIRED = "Expired"
    DENIED = "Denied"


WAITING = frozenset({CertificateStatus.PENDING, CertificateStatus.WAITING_FOR_APPROVAL})
"""The CA manager has not decided: an open request."""
USABLE = frozenset({CertificateStatus.OK, CertificateStatus.MAINTENANCE_DUE, CertificateStatus.MAINTENANCE_REQUIRED})
"""FAS can enroll users with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationCertificate:
    r"""One entry of Get-FasAuthorizationCertificate, or of an open request.

    `id` is FAS's GUID, lower case without braces. `status_word` is what FAS wrote, `status` None for a word of no known
    release. `certificate_authority` is `host\CA name`, None for an offline request. `trust_area` is None while only a
    request exists. `request_pem` is the PKCS #10 text, `request_key_sha256` the SHA-256 (hex) of the
    SubjectPublicKeyInfo in it. `ca_request_id` is the CA's number of the request. `denial` is the CA's word. `serial`
    (lower-case hex) and `not_before` are known where the FAS server's log lists them, in which others may write; `der`
    where the certificate itself is known (an offline response). `revoked_at` comes from the CA's CRL.
    """

    id: str
    status_word: str
    status: CertificateStatus | None
    certificate_authority: str | None = None
    trust_area: str | None = None
    not_before: datetime | None = None
    expires: datetime | None = None
    thumbprint: str | None = None
    request_pem: str | None = None
    request_key_sha256: str | None = None
    ca_request_id: str | None = None
    key_length: int | None = None
    exportable: bool | None = None
    denial: str = ""
    serial: str | None = None
    der: bytes | None = None
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateDefinition:
    """How users' certificates are made, and by which authorization certificate (its id)."""

    name: str
    template: str
    authorization_certificate: str
    certificate_authorities: tuple[str, ...] = ()
    policy_oids: str | None = None
    in_session: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FasRule:
    """Who may log on through FAS, with the certificate definitions by name; the first serves logons."""

    name: str
    definitions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuanceFailure:
    """S123 (every CA refused a user's request) or S124 (one CA did), from the FAS server's log; names nobody."""

    at: datetime
    event: int
    certificate_authority: str | None
    disposition: int | None
    """The CA's disposition code (2 is CR_DISP_DENIED), where the event tells it."""


REPORT_COUNTS = timedelta(hours=2)
"""How long what a server reported says anything about it."""
SEEN_LATELY = timedelta(minutes=5)
"""How old a report may be for another server to give its users to that one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """Another FAS server of the farm as its own line last saw it.

    `serving`: it answered within `REPORT_COUNTS`, is not in maintenance, and has a usable authorization certificate in
    use. `seen_lately`: that was within `SEEN_LATELY`. `switching`: it is between entering and leaving maintenance for a
    renewal.
    """

    name: str
    serving: bool
    seen_lately: bool = False
    switching: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What one FAS server reports at `at`. None means that it cannot be known there, never that there is nothing."""

    server: str
    at: datetime
    certificates: tuple[AuthorizationCertificate, ...]
    definitions: tuple[CertificateDefinition, ...]
    rules: tuple[FasRule, ...]
    maintenance: bool | None = None
    failures: tuple[IssuanceFailure, ...] | None = None
    neighbours: tuple[Neighbour, ...] = ()

    def certificate(self, certificate_id: str | None) -> AuthorizationCertificate | None:
        """The entry with this id."""
        return next((each for each in self.certificates if each.id == certificate_id), None)

    def definition(self, name: str) -> CertificateDefinition | None:
        """The definition of this name."""
        return next((each for each in self.definitions if each.name == name), None)

    def naming(self, certificate_id: str) -> tuple[CertificateDefinition, ...]:
        """The definitions that name this certificate."""
        return tuple(each for each in self.definitions if each.authorization_certificate == certificate_id)

    @property
    def used(self) -> frozenset[str]:
        """The ids that definitions name, whether or not such a certificate exists."""
        return frozenset(each.authorization_certificate for each in self.definitions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """When changes that users could notice may be made: on these weekdays (0 is Monday) from `start` for `length`.

    In the zone of the IANA name `zone`. A window may run past midnight; `length` is at most 24 h.
    """

    weekdays: frozenset[int]
    start: time
    length: timedelta
    zone: str = "UTC"


class Deadline(StrEnum):
    """What happens to a request that nobody decided in time."""

    KEEP = "keep"
    WITHDRAW = "withdraw"


class Maintenance(StrEnum):
    """Whether a server is put into maintenance while its definitions switch."""

    REQUIRED = "required"
    SKIP = "skip"


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalPolicy:
    r"""What is set for one FAS server.

    The lead is `lead_days`, or `lead_share` (0 to 1) of the lifetime where that is given. `lifetime` is used where FAS
    does not tell when a certificate began. `approval_time` is how long the CA manager may take; `approval_deadline` is
    when a request counts as forgotten, and `on_deadline` what is done then. `jitter` is the longest random delay of the
    start. `certificate_authority` (`host\CA name`) is None for the CA of the certificate that is replaced. `offline`:
    requests are made as files and signed elsewhere (the CA is not AD CS). `test_definition` and `test_rule` are used to
    prove a new certificate before anything else names it; `test_upn` is whom the tests enroll, and is no real user.
    `maximum_denials` in a row end it until a person asks again.
    """

    lead_days: int = 60
    lead_share: float | None = None
    lifetime: timedelta | None = None
    approval_time: timedelta = timedelta(days=14)
    approval_deadline: timedelta = timedelta(days=30)
    on_deadline: Deadline = Deadline.KEEP
    jitter: timedelta = timedelta(hours=24)
    soak: timedelta = timedelta(days=3)
    maintenance: Maintenance = Maintenance.REQUIRED
    windows: tuple[Window, ...] = ()
    certificate_authority: str | None = None
    certificate_template: str = "Citrix_RegistrationAuthority"
    authorization_template: str = "Citrix_RegistrationAuthority_ManualAuthorization"
    offline: bool = False
    test_upn: str | None = None
    test_rule: str | None = None
    test_definition: str | None = None
    least_key_length: int = 2048
    least_lifetime: timedelta = timedelta(days=60)
    retry_denied: timedelta = timedelta(hours=24)
    maximum_denials: int = 2
    answer_grace: timedelta = timedelta(minutes=15)
    """How long a request whose answer was lost may still turn up before it counts as not made."""
    poll: timedelta = timedelta(minutes=5)
    """How often an open request, a soak or a window is looked at."""
    check: timedelta = timedelta(hours=1)
    """How often a server with nothing to do is looked at."""


class AskKind(StrEnum):
    """What a person asked for; the worker does it."""

    RENEW = "renew"
    WITHDRAW = "withdraw"
    ROLL_BACK = "rollback"
    IMPORT = "import"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a person asked for and is not settled. `payload` is the PKCS #7 (DER) of an IMPORT."""

    seq: int
    kind: AskKind
    at: datetime
    actor: str
    note: str = ""
    payload: bytes | None = None


class StepKind(StrEnum):
    """The names of steps in journal, database and JSON."""

    REST = "rest"
    REQUEST = "request"
    IMPORT = "import"
    AWAIT_APPROVAL = "await_approval"
    PROVE = "prove"
    ENTER_MAINTENANCE = "enter_maintenance"
    SWITCH = "switch"
    VERIFY = "verify"
    LEAVE_MAINTENANCE = "leave_maintenance"
    SOAK = "soak"
    RETIRE = "retire"
    ROLL_BACK = "roll_back"
    WITHDRAW = "withdraw"
    ALERT = "alert"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """Nothing is to be done before `until`."""

    reason: RenewalReason
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Ask the CA for a certificate in the place of `replaces`. `known` are the ids on the server before."""

    reason: RenewalReason
    replaces: str
    known: frozenset[str]
    certificate_authority: str | None
    certificate_template: str
    authorization_template: str
    offline: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """Give FAS the signed answer to the offline request `certificate_id`. `ask` is the seq of who brought it."""

    certificate_id: str
    response: bytes
    ask: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitApproval:
    """A person must decide at the CA; looked at again at `until`. `deadline` is when the old one expires, if known."""

    certificate_id: str
    until: datetime
    deadline: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prove:
    """Check the new certificate, and test it where `definition` is given, before anything in use names it.

    `findings` are what the check found; with any, nothing is tested. `definition` names a test definition, which is
    pointed at the certificate first where `point` is set.
    """

    certificate_id: str
    findings: tuple[Finding, ...] = ()
    definition: str | None = None
    point: bool = False
    rule: str | None = None
    upn: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnterMaintenance:
    """Users go to other FAS servers. `overrides`: the windows leave no time before the old one expires."""

    certificate_id: str
    overrides: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """Make one definition name the new certificate, and read it back."""

    definition: str
    before: str
    after: str
    overrides: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrollmentTest:
    """One Test-FasCertificateSigningRequest."""

    rule: str
    definition: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verify:
    """Test every rule whose definitions now name the new certificate. Without `upn` nothing can be tested."""

    certificate_id: str
    tests: tuple[EnrollmentTest, ...]
    upn: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveMaintenance:
    """Users come back."""

    certificate_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Soak:
    """The new certificate serves, the old one stays as the way back; looked at again at `until`, over at `ends`."""

    certificate_id: str
    until: datetime
    ends: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Retire:
    """Remove the old certificate, which no definition names. User certificates stay."""

    certificate_id: str
    replaced_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RollBack:
    """Make one definition name the old certificate again."""

    reason: RenewalReason
    definition: str
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdraw:
    """Remove a request that was denied, given up, or that a person wants gone; nothing names it.

    What people need of the entry, which is gone afterwards: the CA, its number of the request, its word if it denied.
    `issued`: the CA has issued the certificate already, which is unused, and only the CA can revoke it.
    """

    reason: RenewalReason
    certificate_id: str
    certificate_authority: str | None = None
    ca_request_id: str | None = None
    denial: str = ""
    issued: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Only a person can go on; looked at again at `until`."""

    reason: RenewalReason
    findings: tuple[Finding, ...]
    until: datetime


Act = Request | Import | Prove | EnterMaintenance | Switch | Verify | LeaveMaintenance | Retire | RollBack | Withdraw
"""Steps that change something at FAS, or ask it to test something: their intent is recorded before."""
Step = Act | Rest | AwaitApproval | Soak | Alert

STEP_KINDS: Mapping[type, StepKind] = {
    Rest: StepKind.REST,
    Request: StepKind.REQUEST,
    Import: StepKind.IMPORT,
    AwaitApproval: StepKind.AWAIT_APPROVAL,
    Prove: StepKind.PROVE,
    EnterMaintenance: StepKind.ENTER_MAINTENANCE,
    Switch: StepKind.SWITCH,
    Verify: StepKind.VERIFY,
    LeaveMaintenance: StepKind.LEAVE_MAINTENANCE,
    Soak: StepKind.SOAK,
    Retire: StepKind.RETIRE,
    RollBack: StepKind.ROLL_BACK,
    Withdraw: StepKind.WITHDRAW,
    Alert: StepKind.ALERT,
}
ACTS = (Request, Import, Prove, EnterMaintenance, Switch, Verify, LeaveMaintenance, Retire, RollBack, Withdraw)


class Result(StrEnum):
    """What came of an act.

    `unknown`: no answer came, so FAS may or may not have done it (promise 46). `not_done`: it turned out that it was
    not done. `failed`: FAS answered, and the answer is no.
    """

    DONE = "done"
    FAILED = "failed"
    UNKNOWN = "unknown"
    NOT_DONE = "not_done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One act as remembered: the step, when it was intended, and what came of it.

    `result` None: the intent was recorded, and nothing since (a crash, or it is under way). `certificate_id` is the id
    of a Request, once known. `finding` says why it failed.
    """

    seq: int
    step: Act
    at: datetime
    result: Result | None = None
    result_at: datetime | None = None
    certificate_id: str | None = None
    finding: Finding | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempts:
    """Everything remembered of one server, oldest first. What FAS reports always wins over it.

    `jitter` (0 to 1) was drawn once for the server. `not_before` is the end of a back-off. `asks` are open, oldest
    first. `paused_until` is when a person's pause ends (`datetime.max` in UTC: when a person ends it).
    `first_usable` is when each certificate was first seen to be usable, the best known begin of its life. `ahead_since`
    is since when some of this has been ahead of the clock.
    """

    jitter: float
    acts: tuple[Attempt, ...] = ()
    asks: tuple[Ask, ...] = ()
    not_before: datetime | None = None
    paused_until: datetime | None = None
    first_usable: Mapping[str, datetime] = field(default_factory=dict)
    ahead_since: datetime | None = None
