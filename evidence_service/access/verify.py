"""From untrusted bytes to content that an IdP registered here has signed; the first objection ends it.

In this order: bytes, shape, which IdP it claims to be from (a hint that only picks whose keys to try), signatures,
decryption and the same again on the plaintext. The result does not depend on the time, so it may be remembered for
one snapshot; everything that does depend on the time is judged afresh by `decide`.

How evidence is read (`read_content`) and what vouches for its signatures (`Signing`) are apart, because plausibility
reads the same way without trusting. Only `verify_evidence` makes `VerifiedEvidence`, the one kind that `decide` takes.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass, fields
from typing import Protocol

from lxml import etree

from evidence_service.access.assertion import claimed_issuers, read_assertion, read_response
from evidence_service.access.encryption import decrypt_assertion
from evidence_service.access.evidence import (
    SAML,
    SAMLP,
    ResponseShape,
    check_versions_and_ids,
    only_assertion,
    parse_response,
    read_evidence,
)
from evidence_service.access.model import (
    Assertion,
    Encryption,
    Policy,
    RequireSigned,
    Response,
    Snapshot,
)
from evidence_service.access.policy import policy_problems
from evidence_service.access.reasons import AccessReason
from idp_certs.model import CertificateState, IdentityProvider, SigningCertificate
from idp_certs.reasons import Refused, TrustReason
from idp_certs.signature import SignedElement, check_signature, find_signatures, verify_signature

_RESPONSE = SAMLP + "Response"
_ASSERTION = SAML + "Assertion"
_SIGNABLE = {
    RequireSigned.EITHER: "the assertion or the response",
    RequireSigned.ASSERTION: "the assertion",
    RequireSigned.RESPONSE: "the response",
    RequireSigned.BOTH: "the assertion and the response",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadEvidence:
    """What evidence says, whoever signed it. `response` is signed only where `signed` says so.

    `content_sha256` is the digest of the canonical assertion; `certificates` are those that signed, each once.
    """

    provider: IdentityProvider
    policy: Policy
    response: Response
    assertion: Assertion
    content_sha256: str
    signed: RequireSigned
    encrypted: bool
    certificates: tuple[SigningCertificate, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedEvidence(ReadEvidence):
    """Content that certificates known for `provider` signed."""


class SignedPart(Protocol):
    """One signed element, as parsed from the octets that the signature covers; `certificate` is whose, if known."""

    @property
    def element(self) -> etree._Element:
        """The element."""

    @property
    def octets(self) -> bytes:
        """Its canonical form."""

    @property
    def certificate(self) -> SigningCertificate | None:
        """Whose key signed."""


class Signing(Protocol):
    """What vouches for a signature."""

    def __call__(
        self,
        data: bytes,
        signature: etree._Element,
        *,
        location: str,
        policy: Policy,
        provider: IdentityProvider,
        snapshot: Snapshot,
    ) -> SignedPart:
        """What `signature` covers, which stands at `location` of document `data`. Raises Refused."""


def claimed_provider(shape: ResponseShape, snapshot: Snapshot) -> IdentityProvider | None:
    """The registered IdP that the evidence claims to be from. Unverified; the exact name is checked after.

    The lookup forgives case and blanks, so that a misspelt issuer is answered with `issuer_mismatch` by its own keys
    instead of with a puzzle. Raises Refused (`issuer_missing`) where nobody is claimed.
    """
    providers = snapshot.trust.providers
    claims = claimed_issuers(shape.root, None if shape.is_encrypted else shape.assertion)
    for claim in claims:
        if claim in providers:
            return providers[claim]
    for claim in claims:
        provider = snapshot.trust.named_almost(claim)
        if provider is not None:
            return provider
    if claims:
        return None
    if shape.is_encrypted and len(providers) == 1:  # the name may be inside only
        return next(iter(providers.values()))
    raise Refused(AccessReason.ISSUER_MISSING, expected="an Issuer", presented="none", where="Assertion.Issuer")


def verify_evidence(evidence: tuple[bytes, ...], snapshot: Snapshot) -> VerifiedEvidence:
    """What was signed, by which certificate of which IdP. Raises Refused and nothing else for any bytes."""
    shape = parse_response(read_evidence(evidence))
    try:
        read = read_content(shape, snapshot, by_known_certificate)
    except Refused as refused:
        with contextlib.suppress(Refused):
            provider = claimed_provider(shape, snapshot)
            refused.entity_id = None if provider is None else provider.entity_id
        raise
    return VerifiedEvidence(**{each.name: getattr(read, each.name) for each in fields(read)})


def read_content(
    shape: ResponseShape, snapshot: Snapshot, signing: Signing, *, without_certificates: bool = False
) -> ReadEvidence:
    """What the evidence says, where `signing` vouches for its signatures. Raises Refused.

    `without_certificates`: an IdP that no certificate is trusted for will do.
    """
    signable = [shape.root] if shape.is_encrypted else [shape.root, shape.assertion]
    signatures = find_signatures(shape.root, signable)
    provider = claimed_provider(shape, snapshot)
    policy = None if provider is None else snapshot.policies.get(provider.entity_id)
    _check_signatures(signatures, policy)
    if provider is None:
        raise Refused(
            AccessReason.ISSUER_UNKNOWN,
            expected="a registered entity ID",
            presented=" / ".join(dict.fromkeys(claimed_issuers(shape.root, shape.assertion))),
            where="Assertion.Issuer",
        )
    policy = _usable(provider, policy, without_certificates=without_certificates)
    return _read(shape, signatures, provider=provider, policy=policy, snapshot=snapshot, signing=signing)


def _check_signatures(signatures: dict[etree._Element, etree._Element], policy: Policy | None) -> None:
    for element, signature in signatures.items():
        check_signature(
            signature, signed_id=element.get("ID") or "", allow_sha1=policy is not None and policy.allow_sha1
        )


def _usable(provider: IdentityProvider, policy: Policy | None, *, without_certificates: bool) -> Policy:
    if not provider.enabled:
        raise Refused(AccessReason.IDP_DISABLED, expected="an enabled IdP", presented=provider.entity_id)
    problems = ("there is no policy",) if policy is None else policy_problems(policy)
    if policy is None or problems:
        raise Refused(AccessReason.CONFIG_INVALID, expected="a complete policy", presented="; ".join(problems))
    if not provider.certificates and not without_certificates:
        raise Refused(TrustReason.NO_TRUSTED_CERTIFICATE, expected="a trusted certificate", presented="none")
    return policy


def _read(
    shape: ResponseShape,
    signatures: dict[etree._Element, etree._Element],
    *,
    provider: IdentityProvider,
    policy: Policy,
    snapshot: Snapshot,
    signing: Signing,
) -> ReadEvidence:
    signed_response = signed_assertion = None
    if not shape.is_encrypted:
        _check_signed(policy, response=shape.root in signatures, assertion=shape.assertion in signatures)
    if shape.root in signatures:
        signed_response = signing(
            shape.data, signatures[shape.root], location="./", policy=policy, provider=provider, snapshot=snapshot
        )
    if shape.is_encrypted:
        data, envelope = _decrypt(shape, policy, snapshot)
        assertion, inner = envelope[0], find_signatures(envelope, [envelope[0]])
        _check_signatures(inner, policy)
        _check_signed(policy, response=signed_response is not None, assertion=bool(inner))
        signature = inner.get(assertion)
    else:
        data, assertion, signature = shape.data, shape.assertion, signatures.get(shape.assertion)
        if policy.encryption is Encryption.REQUIRED:
            raise Refused(AccessReason.ENCRYPTION_REQUIRED, expected="an encrypted assertion", presented="a plain one")
    if signature is not None:
        signed_assertion = signing(
            data, signature, location=f"./{_ASSERTION}/", policy=policy, provider=provider, snapshot=snapshot
        )
    return _content(
        shape,
        assertion,
        signed_response=signed_response,
        signed_assertion=signed_assertion,
        provider=provider,
        policy=policy,
    )


def _check_signed(policy: Policy, *, response: bool, assertion: bool) -> None:
    """An unsigned claim is worth nothing, whatever the policy; which signature is wanted, it says."""
    enough = {
        RequireSigned.EITHER: response or assertion,
        RequireSigned.ASSERTION: assertion,
        RequireSigned.RESPONSE: response,
        RequireSigned.BOTH: response and assertion,
    }[policy.require_signed]
    if not enough:
        presented = [name for name, present in (("response", response), ("assertion", assertion)) if present]
        raise Refused(
            TrustReason.SIGNATURE_MISSING,
            expected=f"{_SIGNABLE[policy.require_signed]} signed",
            presented=f"only the {presented[0]} is signed" if presented else "nothing is signed",
            where="Response",
        )


def _decrypt(shape: ResponseShape, policy: Policy, snapshot: Snapshot) -> tuple[bytes, etree._Element]:
    if policy.encryption is Encryption.REFUSED:
        raise Refused(AccessReason.ENCRYPTED_UNSUPPORTED, expected="a plain assertion", presented="an encrypted one")
    keys = [snapshot.decryption_keys[name] for name in policy.decryption_keys if name in snapshot.decryption_keys]
    data, envelope = decrypt_assertion(shape.assertion, keys)
    check_versions_and_ids(envelope)
    only_assertion(envelope)
    if envelope[0].get("ID") in {str(value) for value in shape.root.xpath("//@ID")}:
        raise Refused(AccessReason.ID_DUPLICATE, expected="every ID once", presented=envelope[0].get("ID") or "")
    return data, envelope


def by_known_certificate(
    data: bytes,
    signature: etree._Element,
    *,
    location: str,
    policy: Policy,
    provider: IdentityProvider,
    snapshot: Snapshot,
) -> SignedElement:
    """Verify by any certificate ever known for the IdP, then judge the one that did: a better answer than "invalid"."""
    element = signature.getparent()
    if element is None:
        raise ValueError("the signature has no parent")
    signed = verify_signature(
        data,
        signature,
        location=location,
        tag=str(element.tag),
        signed_id=element.get("ID") or "",
        # The most trusted first: the number tried is capped, and history must not crowd out the present.
        certificates=sorted(provider.certificates, key=lambda each: _PREFERENCE.index(each.state)),
        allow_sha1=policy.allow_sha1,
    )
    certificate = signed.certificate
    same_key = [each for each in provider.certificates if each.key_sha256 == certificate.key_sha256]
    states = {each.state for each in same_key}
    presented = f"{certificate.sha256} ({certificate.key_description})"
    where = etree.QName(element).localname
    if not certificate.has_strong_key:
        raise Refused(
            TrustReason.CERTIFICATE_WEAK_KEY, expected="RSA 2048, EC 256 or more", presented=presented, where=where
        )
    if certificate.key_sha256 in snapshot.trust.revoked_keys:  # it is the key that is not trusted, wherever revoked
        raise Refused(TrustReason.CERTIFICATE_REVOKED, expected="a trusted key", presented=presented, where=where)
    if states <= {CertificateState.RETIRED}:
        raise Refused(TrustReason.CERTIFICATE_RETIRED, expected="a trusted key", presented=presented, where=where)
    best = min(same_key, key=lambda each: _PREFERENCE.index(each.state))
    return SignedElement(element=signed.element, octets=signed.octets, certificate=best)


_PREFERENCE = (
    CertificateState.TRUSTED,
    CertificateState.ANNOUNCED,
    CertificateState.RETIRING,
    CertificateState.RETIRED,
    CertificateState.REVOKED,
)


def _content(
    shape: ResponseShape,
    assertion: etree._Element,
    *,
    signed_response: SignedPart | None,
    signed_assertion: SignedPart | None,
    provider: IdentityProvider,
    policy: Policy,
) -> ReadEvidence:
    """Read only what was signed; the unsigned Response beside a signed assertion can merely cause a refusal."""
    response = shape.root if signed_response is None else signed_response.element
    if signed_assertion is not None:
        element, octets = signed_assertion.element, signed_assertion.octets
    else:
        # Below a signed Response: the copy inside it, or what was decrypted from the ciphertext inside it.
        element = assertion if shape.is_encrypted else only_assertion(response)
        octets = etree.tostring(element, method="c14n", exclusive=True)
    names = frozenset(source.removeprefix("attribute:") for source in policy.upn_from if source != "nameid")
    signatures = [each for each in (signed_response, signed_assertion) if each is not None]
    return ReadEvidence(
        provider=provider,
        policy=policy,
        response=read_response(response),
        assertion=read_assertion(element, names),
        content_sha256=hashlib.sha256(octets).hexdigest(),
        signed=RequireSigned.BOTH
        if len(signatures) > 1
        else RequireSigned.ASSERTION
        if signed_assertion is not None
        else RequireSigned.RESPONSE,
        encrypted=shape.is_encrypted,
        certificates=tuple(dict.fromkeys(each.certificate for each in signatures if each.certificate is not None)),
    )
