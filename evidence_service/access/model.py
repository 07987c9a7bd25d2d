"""The values of one access request: what is asked, what is believed, what is answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from evidence_service.access.reasons import OK, AccessReason
from idp_certs.model import Acceptance, TrustSnapshot
from idp_certs.reasons import Finding, Reason


class Phase(StrEnum):
    """Where in a user's day the question is asked, if the shim knows (`docs/wire.md`)."""

    PREPARE = "prepare"
    ASSERT = "assert"


class Mode(StrEnum):
    """Whether a deny is enforced or only recorded."""

    ENFORCE = "enforce"
    OBSERVE = "observe"


class Reuse(StrEnum):
    """How often the same evidence may be presented within its age limit."""

    BOUNDED = "bounded"
    FRESH_ONCE = "fresh-once"
    ONCE = "once"


class RequireSigned(StrEnum):
    """Which element must carry a signature."""

    EITHER = "either"
    ASSERTION = "assertion"
    RESPONSE = "response"
    BOTH = "both"


class Encryption(StrEnum):
    """Whether assertions may, must or must not be encrypted."""

    ALLOWED = "allowed"
    REQUIRED = "required"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRequest:
    """One question. `evidence` holds the SAMLResponse values in the order given; every byte is untrusted."""

    request_id: str
    upn: str
    evidence: tuple[bytes, ...]
    phase: Phase | None = None
    sid: str | None = None
    rule: str | None = None
    security_context: str | None = None
    disposition: str | None = None
    storefront: str | None = None
    fas_server: str | None = None
    correlation_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpnMapping:
    """One entry of `upn_map`: `@suffix` to `@suffix`, or one whole UPN to another."""

    source: str
    target: str


UPN_CLAIM = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The numbers and sets for one IdP; members as in `docs/policy.md`. The defaults allow nobody."""

    audiences: tuple[str, ...] = ()
    recipients: tuple[str, ...] = ()
    upn_from: tuple[str, ...] = (f"attribute:{UPN_CLAIM}",)
    upn_suffixes: tuple[str, ...] = ()
    upn_map: tuple[UpnMapping, ...] = ()
    max_age: timedelta = timedelta(hours=8)
    max_authentication_age: timedelta | None = None
    clock_skew: timedelta = timedelta(seconds=180)
    reuse: Reuse = Reuse.BOUNDED
    fresh_within: timedelta = timedelta(minutes=10)
    enforce_not_on_or_after: bool = False
    enforce_session_expiry: bool = True
    enforce_certificate_dates: bool = False
    authn_contexts: tuple[str, ...] = ()
    allow_sha1: bool = False
    require_signed: RequireSigned = RequireSigned.EITHER
    encryption: Encryption = Encryption.ALLOWED
    decryption_keys: tuple[str, ...] = ()
    acceptance: Acceptance = Acceptance.CONTINUITY


@dataclass(frozen=True, slots=True, kw_only=True)
class FasRule:
    """What is special about requests that name one FAS rule. None: as the IdP's policy says."""

    name: str
    mode: Mode = Mode.ENFORCE
    max_age: timedelta | None = None
    entity_ids: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything a decision is judged by, frozen, swapped as a whole.

    `version` identifies trust, policies and rules together (never the keys' contents). `rules` empty means that
    any FAS rule is accepted and enforced. `decryption_keys` maps the names used in policies to loaded keys.
    """

    version: str
    trust: TrustSnapshot
    policies: Mapping[str, Policy]
    rules: Mapping[str, FasRule] = field(default_factory=dict)
    decryption_keys: Mapping[str, RSAPrivateKey] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Freeze the mappings."""
        for name in ("policies", "rules", "decryption_keys"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """The text of a value element, None where it holds child elements; `format` is None where there is no Format."""

    value: str | None
    format: str | None = None
    qualified: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectConfirmation:
    """One SubjectConfirmation; `data` says whether it has exactly one SubjectConfirmationData."""

    method: str
    data: bool
    recipient: str | None
    not_before: str | None
    not_on_or_after: str | None
    in_response_to: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """The Conditions element; `unknown` names the conditions that we do not understand."""

    not_before: str | None
    not_on_or_after: str | None
    audience_restrictions: tuple[tuple[str | None, ...], ...]
    unknown: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthnStatement:
    """One AuthnStatement; the times are the attributes' text, `context_classes` the AuthnContextClassRefs."""

    authn_instant: str | None
    session_not_on_or_after: str | None
    context_classes: tuple[str | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assertion:
    """What a signed Assertion says, as it says it: texts unparsed, and how often each thing occurs."""

    assertion_id: str
    issue_instant: str | None
    issuers: tuple[Text, ...]
    subjects: int
    has_subject_content: bool
    name_ids: tuple[Text, ...]
    confirmations: tuple[SubjectConfirmation, ...]
    conditions: tuple[Conditions, ...]
    authn_statements: tuple[AuthnStatement, ...]
    attributes: Mapping[str, tuple[tuple[str | None, ...], ...]]
    """Per attribute Name asked for: one tuple of values for each Attribute of that Name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What the Response around the assertion says. May be unsigned: it can cause a refusal, never a permission."""

    issuers: tuple[Text, ...]
    statuses: tuple[tuple[str, ...], ...]
    """For each Status the values of its StatusCodes, outermost first."""
    destination: str | None
    in_response_to: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What is remembered of evidence that was allowed before, by (issuer, assertion ID).

    `content_sha256` is the digest of the canonical signed assertion, so that re-serialising the bytes around it
    changes nothing. `first_seen` is UTC.
    """

    issuer: str
    assertion_id: str
    content_sha256: str
    upn: str
    first_seen: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AssertionSummary:
    """What an operator is shown of evidence whose signature held; also of a denied one. Times are UTC.

    `retiring_since` is when the removal of the signing certificate was first observed, if it is *retiring*; the first
    such instant where several signed.
    """

    issuer: str
    assertion_id: str
    content_sha256: str
    certificate_sha256: str
    signed: str
    encrypted: bool
    upn: str | None = None
    issue_instant: datetime | None = None
    authn_instant: datetime | None = None
    retiring_since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Allow:
    """The access may go ahead. Built only by `decide`, from evidence that passed every check."""

    assertion: AssertionSummary
    rule: str | None = None
    security_context: str | None = None

    @property
    def reason(self) -> str:
        """`ok`."""
        return OK

    @property
    def entity_id(self) -> str:
        """The IdP whose key signed."""
        return self.assertion.issuer


@dataclass(frozen=True, slots=True, kw_only=True)
class Deny:
    """The access must not go ahead, for at least one reason.

    `assertion` is set once the signature held. `entity_id` is the registered IdP that the evidence names, if any; it is
    no more than a claim while `assertion` is None.
    """

    findings: tuple[Finding, ...]
    assertion: AssertionSummary | None = None
    entity_id: str | None = None

    def __post_init__(self) -> None:
        """Raise ValueError without a finding: a deny without a reason must not exist."""
        if not self.findings:
            raise ValueError("a Deny needs at least one finding")

    @property
    def reason(self) -> Reason:
        """The highest-ranked finding's code; the first of equals."""
        return min(self.findings, key=lambda finding: finding.reason.rank).reason


Decision = Allow | Deny


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One question that was asked and its answer, for people (`explain`)."""

    reason: Reason
    passed: bool
    expected: object = ""
    presented: object = ""
    where: str = ""


def refused(reason: AccessReason, *, expected: str = "", presented: str = "", where: str = "") -> Deny:
    """A deny of one finding that the service itself gives."""
    return Deny(findings=(Finding(reason=reason, expected=expected, presented=presented, where=where),))
