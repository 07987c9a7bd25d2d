"""What a preflight has gathered of one FAS server and its CA, and what it finds. Times are UTC.

Each thing is read by itself and may fail by itself, so that each fact is either known or `NotRead`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from evidence_service.renewal.farm import FasServer
from evidence_service.renewal.model import AuthorizationCertificate, CertificateDefinition, FasRule
from evidence_service.renewal.reasons import RenewalReason


class Verdict(StrEnum):
    """What a check found. `unknown`: it could not be looked at, which is never taken for ok."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    UNKNOWN = "unknown"


class CheckCode(StrEnum):
    """Codes of checks that no renewal reason stands for. Codes are interface: never reused, never renamed."""

    SIGN_IN = "sign_in"
    NOT_ADMINISTRATOR = "not_administrator"
    RELEASE = "release"
    NOT_READ = "not_read"
    CA = "ca"
    CA_MISSING = "ca_missing"
    CA_NOT_ACCESSIBLE = "ca_not_accessible"
    TEMPLATE = "template"
    TEMPLATE_MISSING = "template_missing"
    TEMPLATE_NOT_PUBLISHED = "template_not_published"
    TEMPLATE_RIGHTS = "template_rights"
    TEMPLATE_NOBODY_ENROLLS = "template_nobody_enrolls"
    TEMPLATE_NOT_READABLE = "template_not_readable"
    TEMPLATE_WIDE = "template_wide"
    CERTIFICATE = "certificate"
    SPARE_CERTIFICATES = "spare_certificates"
    DEFINITION = "definition"
    DEFINITION_WITHOUT_CA = "definition_without_ca"
    DEFINITION_NAMES_UNUSABLE = "definition_names_unusable"
    RULE = "rule"
    RULE_NAMES_MISSING = "rule_names_missing"
    LEAD = "lead"
    LIFETIME_UNKNOWN = "lifetime_unknown"
    MAINTENANCE = "maintenance"
    MAINTENANCE_ON = "maintenance_on"
    NEIGHBOURS = "neighbours"
    NOT_CONFIGURED = "not_configured"
    TEST_SET_UP = "test_set_up"
    TEST_MISSING = "test_missing"
    TEST_SHARED = "test_shared"
    MONITOR = "monitor"
    MONITOR_OFF = "monitor_off"
    APPROVER = "approver"
    APPROVER_REQUESTS = "approver_requests"
    REVOCATION = "revocation"
    ENROLLMENT = "enrollment"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing looked at. `text` says what was found, `remedy` in one sentence what to do, with cmdlet or console."""

    name: str
    verdict: Verdict
    text: str
    remedy: str
    code: RenewalReason | CheckCode


@dataclass(frozen=True, slots=True, kw_only=True)
class NotRead:
    """Why something is not known, in one line: FAS's or the transport's own words.

    `refused`: FAS denied the account access. `lacking`: the release (or the session configuration) has no such cmdlet.
    """

    error: str
    refused: bool = False
    lacking: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    r"""One CA of Get-FasMsCertificateAuthority; `address` is `host\CA name`. None where the release does not tell.

    `accessible` and `published` are as the session's account sees the CA, not as FAS's own does.
    """

    address: str
    accessible: bool | None
    published: tuple[str, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """One template of Get-FasMsTemplate, with its security descriptor as SDDL where it is shown."""

    name: str
    sddl: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitor:
    """FAS's own monitor of authorization certificates (`domain/fas.md` A.5), which only logs."""

    enabled: bool | None
    threshold: timedelta | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A FAS server of the group policy's list, as Get-FasServer shows it."""

    address: str
    maintenance: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrollment:
    """What Test-FasCertificateSigningRequest came to.

    `problem` is None where it said nothing against success, and NotRead where it said nothing at all.
    """

    rule: str
    definition: str
    problem: str | NotRead | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PreflightFacts:
    r"""All that is known of one server. `session` says why there is none, and then nothing else was read.

    `account` is who signs in, for people to read. `farm` are all configured servers. `full_info`: the release knows
    -FullCertInfo. `approvers` are the mail addresses of those who approve, None where they are not known.
    `away` are the names of other servers that do not answer either.
    `enrollments` is None where no test was asked for. `revocation` are the problems of the CAs' CRLs, None without any.
    """

    server: FasServer
    farm: tuple[FasServer, ...]
    now: datetime
    account: str
    session: NotRead | None
    certificates: tuple[AuthorizationCertificate, ...] | NotRead
    definitions: tuple[CertificateDefinition, ...] | NotRead
    rules: tuple[FasRule, ...] | NotRead
    listed: tuple[Listed, ...] | NotRead
    authorities: tuple[Authority, ...] | NotRead
    templates: tuple[Template, ...] | NotRead
    monitor: Monitor | NotRead
    full_info: bool = True
    away: frozenset[str] = frozenset()
    approvers: tuple[str, ...] | None = None
    enrollments: tuple[Enrollment, ...] | NotRead | None = None
    revocation: tuple[str, ...] | None = None

    @property
    def used(self) -> tuple[AuthorizationCertificate, ...]:
        """The certificates that definitions name and the server has."""
        if isinstance(self.certificates, NotRead) or isinstance(self.definitions, NotRead):
            return ()
        named = {each.authorization_certificate for each in self.definitions}
        return tuple(each for each in self.certificates if each.id in named)

    @property
    def authorities_in_use(self) -> tuple[str, ...]:
        """The CA that a request goes to: the configured one, or those of the certificates in use."""
        configured = self.server.policy.certificate_authority
        if configured is not None:
            return (configured,)
        found = (each.certificate_authority for each in self.used)
        return tuple(dict.fromkeys(each for each in found if each is not None))

    @property
    def lifetime(self) -> timedelta | None:
        """How long certificates live: the shortest of those in use whose begin is known, or as configured."""
        spans = [each.expires - each.not_before for each in self.used if each.expires and each.not_before]
        return min(spans, default=self.server.policy.lifetime)


def ok(name: str, text: str, code: CheckCode) -> Check:
    """Nothing is to be done."""
    return Check(name=name, verdict=Verdict.OK, text=text, remedy="Nothing.", code=code)


def warning(name: str, text: str, remedy: str, code: RenewalReason | CheckCode) -> Check:
    """Renewals work, but something should be better."""
    return Check(name=name, verdict=Verdict.WARNING, text=text, remedy=remedy, code=code)


def failed(name: str, text: str, remedy: str, code: RenewalReason | CheckCode) -> Check:
    """A renewal, or logons, cannot work like this."""
    return Check(name=name, verdict=Verdict.FAILED, text=text, remedy=remedy, code=code)


def unknown(name: str, text: str, remedy: str, code: RenewalReason | CheckCode = CheckCode.NOT_READ) -> Check:
    """It could not be looked at."""
    return Check(name=name, verdict=Verdict.UNKNOWN, text=text, remedy=remedy, code=code)
