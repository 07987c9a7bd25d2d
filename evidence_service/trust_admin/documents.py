"""What a person, or an IdP's server, hands over: read, its signature judged, and what it would change."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from evidence_service.access.model import Policy
from evidence_service.access.policy import PolicyError, parse_policy, policy_problems
from evidence_service.adapters.config_store import IdpChange
from evidence_service.trust_admin.texts import AGAIN, OTHER_SIGNER, metadata_finding
from idp_certs.certificates import parse_certificates
from idp_certs.fetch import FetchFailed
from idp_certs.metadata import MAX_ENTITY_ID_LENGTH, METADATA_LIMITS, IdpMetadata, parse_metadata
from idp_certs.metadata_signature import judge_document_signature
from idp_certs.model import GOOD, CertificateState, SigningCertificate
from idp_certs.reasons import Finding, Refused, TrustReason
from idp_certs.rollover import Applied, Held, ProviderTrust, TrackedCertificate, Unchanged

MAX_DOCUMENT = METADATA_LIMITS.document
MAX_AGGREGATE = 80 * 1024 * 1024
MAX_SMALL = 1024 * 1024


class Unusable(ValueError):  # noqa: N818 - an answer to a request
    """What was given cannot be used. `str()` is one line that says why and what to do; `member` names what it was.

    `code` is the reason's, where one of ours says it; `finding` is then what a parser found.
    """

    def __init__(self, member: str, text: str, *, code: str = "unusable", finding: Finding | None = None) -> None:
        """Say what is wrong with `member`."""
        super().__init__(text)
        self.member = member
        self.code = code
        self.finding = finding


class PolicyMissing(Unusable):
    """No usable policy was given, and none is stored."""


class SourceFailed(Exception):  # noqa: N818 - an outcome of asking somebody else's server
    """A metadata source did not deliver what can be taken over. `str()` is one line; `finding` says it to programs."""

    def __init__(self, finding: Finding, text: str | None = None) -> None:
        """Wrap the finding."""
        super().__init__(text or metadata_finding(finding))
        self.finding = finding


def refused(member: str, problem: Refused) -> Unusable:
    """What a parser refused, as what was given."""
    finding = problem.finding
    return Unusable(member, metadata_finding(finding), code=str(finding.reason), finding=finding)


def fetch_problem(problem: FetchFailed) -> Unusable | SourceFailed:
    """What came of a fetch in vain: an address that is wrong in itself, or a server that failed."""
    if problem.finding.reason is TrustReason.METADATA_URL or problem.finding.where == "ca_pem":
        member = "metadata_url" if problem.finding.where.startswith("url") else problem.finding.where
        if member == "ca_pem":
            return _not_certificates(member, problem.finding)
        return Unusable(member, metadata_finding(problem.finding), code=str(problem.finding.reason))
    return SourceFailed(problem.finding)


def _not_certificates(member: str, finding: Finding) -> Unusable:
    """What was given in a file, or a member, for certificates; the reason's own words are about metadata."""
    where = f"{finding.where}: " if finding.where else ""
    text = f"{finding.reason}: {where}expected {finding.expected}, found {finding.presented}"
    return Unusable(member, f"{text}; give certificates as PEM", code=str(finding.reason), finding=finding)


def read_metadata(document: bytes, entity_id: str | None) -> IdpMetadata:
    """The one IdP that is meant. Raises Unusable."""
    if not document.strip():
        code = TrustReason.XML_MALFORMED
        text = f"{code}: the document is empty. {AGAIN}"
        raise Unusable("metadata", text, code=str(code), finding=Finding(reason=code, presented="nothing"))
    try:
        described = parse_metadata(document, entity_id=entity_id)
    except Refused as problem:
        raise refused("metadata", problem) from None
    if len(described) > 1:
        names = [each.entity_id for each in described]
        raise Unusable(
            "entity_id",
            f"it describes {len(names)} IdPs; choose one with `entity_id`: {some(names)}",
            code="choice_needed",
        )
    return described[0]


def read_certificates(data: bytes, entity_id: str) -> IdpMetadata:
    """What metadata would say of an IdP that has none: its entity ID and its bare certificates. Raises Unusable."""
    check_entity_id(entity_id)
    try:
        found = parse_certificates(data)
    except Refused as problem:
        raise _not_certificates("certificates", problem.finding) from None
    return IdpMetadata(entity_id=entity_id, signing_certificates=found, problems=(), valid_until=None, sso_urls=())


def check_entity_id(entity_id: str) -> None:
    """Whether it can be one. Raises Unusable."""
    if not entity_id or len(entity_id) > MAX_ENTITY_ID_LENGTH or not entity_id.isprintable() or " " in entity_id:
        raise Unusable(
            "entity_id",
            f"entity_id: expected the IdP's entity ID, 1 to {MAX_ENTITY_ID_LENGTH} characters without blanks",
        )


def read_one_certificate(member: str, data: bytes) -> bytes:
    """The DER of the only certificate in `data`. Raises Unusable."""
    try:
        found = parse_certificates(data)
    except Refused as problem:
        raise _not_certificates(member, problem.finding) from None
    if len(found) != 1:
        raise Unusable(member, f"{member}: expected one certificate, not {len(found)}; give the one that signs")
    return found[0]


def read_authorities(data: bytes) -> str:
    """The certificates as PEM. Raises Unusable."""
    try:
        parse_certificates(data)
        return data.decode("ascii")
    except Refused as problem:
        raise _not_certificates("ca_pem", problem.finding) from None
    except UnicodeDecodeError:
        raise Unusable("ca_pem", "ca_pem: expected certificates as PEM; convert the file to PEM") from None


def read_pin(text: str) -> str:
    """The SHA-256 in lower-case hexadecimal digits; colons may stand between. Raises Unusable."""
    digits = text.replace(":", "").strip().lower()
    if len(digits) != 64 or not set(digits) <= set("0123456789abcdef"):
        raise Unusable("pin_sha256", "pin_sha256: expected the SHA-256 of the server's certificate, 64 hex digits")
    return digits


def read_policy_text(text: str) -> Policy:
    """A policy as TOML. Raises Unusable."""
    try:
        return parse_policy(text)
    except PolicyError as problem:
        raise Unusable("policy", str(problem)) from None


def check_policy(policy: Policy) -> Policy:
    """A policy that could allow somebody. Raises Unusable."""
    problems = policy_problems(policy)
    if problems:
        raise Unusable("policy", f"the policy allows nobody: {'; '.join(problems)}")
    return policy


def some(names: Sequence[str], most: int = 5) -> str:
    """The first few of many."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


class SignedBy(StrEnum):
    """Who signed a document, as far as that can be told."""

    NOBODY = "nobody"
    TRUSTED = "trusted"
    ANCHOR = "anchor"
    OWN_KEY = "own_key"
    UNKNOWN_KEY = "unknown_key"
    NOT_JUDGED = "not_judged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """Who signed a document: `sha256` is the certificate's, unproven for an unknown key. `text` is one sentence."""

    by: SignedBy
    sha256: str | None
    text: str


def judge_signature(
    document: bytes, metadata: IdpMetadata, held: Iterable[SigningCertificate], *, anchor: bytes | None, now: datetime
) -> Signature:
    """Who signed the document, given what is held of the IdP and the configured metadata certificate.

    A signature that does not hold is no signature that is missing: something altered the document (G21).
    Raises Unusable.
    """
    if len(document) > MAX_DOCUMENT:
        return Signature(
            by=SignedBy.NOT_JUDGED, sha256=None, text="the signature of a document of this size is not judged"
        )
    good = [each for each in held if each.state in GOOD]
    anchors = [] if anchor is None else [_candidate(anchor, now)]
    own = [_candidate(der, now) for der in metadata.signing_certificates]
    candidates = list({each.sha256: each for each in (*anchors, *good, *own)}.values())
    try:
        judged = judge_document_signature(document, candidates)
    except Refused as problem:
        raise refused("metadata", problem) from None
    if not judged.present:
        verdict = Signature(by=SignedBy.NOBODY, sha256=None, text="the document is not signed")
    elif judged.unverified is not None:
        verdict = Signature(
            by=SignedBy.UNKNOWN_KEY,
            sha256=None,
            text=f"the document is signed in a form that is not verified ({judged.unverified}), which proves nothing",
        )
    elif judged.signer is None:
        hint = judged.hint_sha256[0] if judged.hint_sha256 else None
        shown = f" (it names certificate {hint})" if hint else ""
        verdict = Signature(
            by=SignedBy.UNKNOWN_KEY,
            sha256=hint,
            text=f"the document is signed by a key that is not known here{shown}, which proves nothing",
        )
    else:
        signer = judged.signer.sha256
        if any(each.sha256 == signer for each in anchors):
            by, text = SignedBy.ANCHOR, f"the document is signed by the metadata certificate {signer}"
        elif any(each.sha256 == signer for each in good):
            by, text = SignedBy.TRUSTED, f"the document is signed by certificate {signer}, which is trusted already"
        else:
            by = SignedBy.OWN_KEY
            text = f"the document is signed by its own key (certificate {signer}), which proves nothing"
        verdict = Signature(by=by, sha256=signer, text=text)
    if anchor is not None and verdict.by is not SignedBy.ANCHOR:
        code = TrustReason.METADATA_SIGNATURE_INVALID
        expected = f"a signature by the metadata certificate {anchors[0].sha256}"
        raise Unusable(
            "metadata",
            f"{code}: expected {expected}, but {verdict.text}. {OTHER_SIGNER}",
            code=str(code),
            finding=Finding(reason=code, expected=expected, presented=verdict.text, where="document"),
        )
    return verdict


def _candidate(der: bytes, now: datetime) -> SigningCertificate:
    return SigningCertificate(der=der, state=CertificateState.ANNOUNCED, since=now, provenance="")


class Fate(StrEnum):
    """What a document does to a certificate."""

    ADDED = "added"
    RETURNED = "returned"
    KEPT = "kept"
    REJECTED = "rejected"
    """A person turned it down, so that it stays away."""
    WAITS = "waits"
    """For a person: nothing vouches for it."""
    MISSING = "missing"
    """The document lacks it; it goes if that stays so."""
    GONE = "gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """What a document says against what is held. `problems` are for people."""

    certificates: tuple[tuple[Fate, SigningCertificate], ...]
    problems: tuple[Finding, ...] = ()

    @property
    def differs(self) -> bool:
        """Whether anything is not as held; what was turned down has been decided on."""
        return any(fate not in (Fate.KEPT, Fate.REJECTED) for fate, _ in self.certificates)

    def of(self, fate: Fate) -> tuple[SigningCertificate, ...]:
        """The certificates to which this happens."""
        return tuple(certificate for each, certificate in self.certificates if each is fate)


def diff_of_import(change: IdpChange) -> Diff:
    """What an import by a person does."""
    groups = (
        (Fate.ADDED, change.added),
        (Fate.RETURNED, change.returned),
        (Fate.KEPT, change.kept),
        (Fate.GONE, change.gone),
    )
    return Diff(
        certificates=tuple((fate, each) for fate, certificates in groups for each in certificates),
        problems=change.problems,
    )


def diff_of_rollover(
    held: ProviderTrust, rollover: Unchanged | Applied | Held, listed: Iterable[bytes], now: datetime
) -> Diff:
    """What a document from a source, which lists these certificates (DER), does by itself.

    What left before and is not listed is no part of it.
    """
    found = {digest_of(der): der for der in listed}
    waiting = tuple(each for each, _ in rollover.withheld) if isinstance(rollover, Held) else ()
    names = {each.sha256 for each in waiting}
    others = [each for each in rollover.certificates if each.certificate.sha256 not in names]
    fates = [(_fate(each, held, set(found)), each.certificate) for each in others]
    rows = [(fate, certificate) for fate, certificate in fates if fate is not None]
    known = {each.certificate.sha256 for each in rollover.certificates} | names
    rows += [(Fate.REJECTED, _candidate(found[digest], now)) for digest in sorted(held.rejected & found.keys() - known)]
    order = list(Fate)
    rows.sort(key=lambda row: order.index(row[0]))
    return Diff(
        certificates=(*((Fate.WAITS, each) for each in waiting), *rows),
        problems=rollover.problems,
    )


def _fate(after: TrackedCertificate, held: ProviderTrust, listed: set[str]) -> Fate | None:
    """What happens to a certificate; None where nothing does, as it had left before."""
    sha256 = after.certificate.sha256
    before = held.find(sha256)
    if before is None:
        return Fate.ADDED
    if after.certificate.state not in GOOD:
        if before.certificate.state in GOOD:
            return Fate.GONE
        if sha256 not in listed:
            return None
        return Fate.REJECTED if sha256 in held.rejected else Fate.KEPT
    return Fate.MISSING if after.absent_since is not None else Fate.KEPT


def digest_of(document: bytes) -> str:
    """The SHA-256 in hexadecimal."""
    return hashlib.sha256(document).hexdigest()
