"""Is what came back from the CA what was asked for?

Judged as far as FAS tells (promise 56): the key's place, the CA, the key's length, whether it can be exported, how long
it lives; and in the certificate itself, where that is known (an offline response, or the FAS server's log): the key of
the request, and the extended key usage. What FAS does not tell is no finding, except the trust area, without which
there is no key.
Not judged: the chain to a root and the CA's signature, which FAS and the VDAs judge by the domain's trust; revocation,
which comes from the CRL.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from hashlib import sha256

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, pkcs7

from evidence_service.renewal.model import AuthorizationCertificate, RenewalPolicy, Request
from evidence_service.renewal.reasons import RenewalReason
from idp_certs.reasons import Finding

REQUEST_AGENT = x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.1")
"""Certificate Request Agent: who has it may enroll for others (`domain/fas.md` A.2)."""
UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension)
"""Everything that cryptography raises on bytes that it cannot read."""


def issued_findings(
    new: AuthorizationCertificate,
    old: AuthorizationCertificate | None,
    request: Request | None,
    policy: RenewalPolicy,
    now: datetime,
) -> tuple[Finding, ...]:
    """Everything by which `new` differs from what was asked for; `request` is None where none is remembered."""
    return (*_listed(new, old, request, policy, now), *_certificate(new, policy))


def asked_authority(old: AuthorizationCertificate | None, request: Request | None, policy: RenewalPolicy) -> str | None:
    r"""The CA (`host\CA name`) that a new certificate must come from; None where any may sign, or none is known."""
    if request is not None:
        return request.certificate_authority
    if policy.offline:
        return None
    return policy.certificate_authority or (old.certificate_authority if old is not None else None)


def same_authority(one: str | None, other: str | None) -> bool:
    """Whether two names mean the same CA: Windows names have no case."""
    return one is not None and other is not None and one.casefold() == other.casefold()


def check_offline_response(
    response: bytes, certificate: AuthorizationCertificate, policy: RenewalPolicy, now: datetime
) -> tuple[Finding, ...]:
    """Whether a PKCS #7 (DER) is the answer to this offline request. Raises nothing."""
    try:
        found = certificates_for(response, certificate)
    except UNREADABLE as error:
        return (_finding(RenewalReason.RESPONSE_UNREADABLE, "a PKCS #7 in DER", str(error)[:200], "response"),)
    if len(found) != 1:
        expected = f"one certificate for the key {certificate.request_key_sha256 or 'of the request, which is unknown'}"
        return (_finding(RenewalReason.ISSUED_OTHER_KEY, expected, f"{len(found)} for it", "response"),)
    (leaf,) = found
    try:
        lives = _short_life(leaf.not_valid_after_utc, None, policy, now)
        return (*lives, *_parsed(leaf, certificate, policy))
    except UNREADABLE as error:
        return (_finding(RenewalReason.RESPONSE_UNREADABLE, "a readable certificate", str(error)[:200], "response"),)


def certificates_for(response: bytes, request: AuthorizationCertificate) -> tuple[x509.Certificate, ...]:
    """Which certificates of a PKCS #7 (DER) are for the key of this request. Raises what UNREADABLE names."""
    return tuple(each for each in pkcs7.load_der_pkcs7_certificates(response) if _has_key(each, request))


def _listed(
    new: AuthorizationCertificate,
    old: AuthorizationCertificate | None,
    request: Request | None,
    policy: RenewalPolicy,
    now: datetime,
) -> Iterator[Finding]:
    if not new.trust_area:
        yield _finding(RenewalReason.ISSUED_WITHOUT_KEY, "a trust area", "none", "TrustArea")
    asked, came = asked_authority(old, request, policy), new.certificate_authority
    if asked is not None and came is not None and not same_authority(asked, came):
        yield _finding(RenewalReason.ISSUED_OTHER_CA, asked, came, "Address")
    if new.exportable:
        yield _finding(RenewalReason.ISSUED_EXPORTABLE, "False", "True", "Exportable")
    if new.key_length is not None and new.key_length < policy.least_key_length:
        yield _finding(
            RenewalReason.ISSUED_WEAK_KEY, f"at least {policy.least_key_length}", str(new.key_length), "KeyLength"
        )
    if new.expires is not None:
        yield from _short_life(new.expires, old.expires if old is not None else None, policy, now)


def _short_life(
    expires: datetime, old_expires: datetime | None, policy: RenewalPolicy, now: datetime
) -> Iterator[Finding]:
    least = now + policy.least_lifetime
    if expires < least:
        yield _finding(RenewalReason.ISSUED_SHORT_LIFE, f"not before {_text(least)}", _text(expires), "ExpiryDate")
    if old_expires is not None and expires <= old_expires:
        yield _finding(RenewalReason.ISSUED_SHORT_LIFE, f"after {_text(old_expires)}", _text(expires), "ExpiryDate")


def _certificate(new: AuthorizationCertificate, policy: RenewalPolicy) -> tuple[Finding, ...]:
    if new.der is None:
        return ()
    try:
        return tuple(_parsed(x509.load_der_x509_certificate(new.der), new, policy))
    except UNREADABLE as error:
        return (_finding(RenewalReason.RESPONSE_UNREADABLE, "a readable certificate", str(error)[:200], "certificate"),)


def _parsed(leaf: x509.Certificate, entry: AuthorizationCertificate, policy: RenewalPolicy) -> Iterator[Finding]:
    if entry.request_key_sha256 is not None and not _has_key(leaf, entry):
        yield _finding(RenewalReason.ISSUED_OTHER_KEY, entry.request_key_sha256, _key_sha256(leaf), "certificate")
    try:
        usages = list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        usages = []
    if REQUEST_AGENT not in usages:
        shown = ", ".join(each.dotted_string for each in usages) or "none"
        yield _finding(RenewalReason.ISSUED_NOT_REQUEST_AGENT, REQUEST_AGENT.dotted_string, shown, "certificate")
    key = leaf.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < policy.least_key_length:
        yield _finding(
            RenewalReason.ISSUED_WEAK_KEY, f"at least {policy.least_key_length}", str(key.key_size), "certificate"
        )


def _has_key(leaf: x509.Certificate, entry: AuthorizationCertificate) -> bool:
    return entry.request_key_sha256 is not None and _key_sha256(leaf) == entry.request_key_sha256.lower()


def _key_sha256(leaf: x509.Certificate) -> str:
    return sha256(leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _finding(reason: RenewalReason, expected: str, presented: str, where: str) -> Finding:
    return Finding(reason=reason, expected=expected, presented=presented, where=where)


def _text(instant: datetime) -> str:
    return f"{instant:%Y-%m-%dT%H:%M:%SZ}"
