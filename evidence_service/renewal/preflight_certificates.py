"""Whether the certificates of one FAS server, its definitions and its rules are whole."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from evidence_service.renewal.cmdlets import literal
from evidence_service.renewal.model import (
    USABLE,
    WAITING,
    AuthorizationCertificate,
    CertificateDefinition,
    CertificateStatus,
)
from evidence_service.renewal.preflight_model import (
    Check,
    CheckCode,
    NotRead,
    PreflightFacts,
    failed,
    ok,
    unknown,
    warning,
)
from evidence_service.renewal.reasons import RenewalReason
from evidence_service.renewal.timing import lead_of

_REMOVE = "Remove-FasAuthorizationCertificate -Id {id} -DeleteUserCerts $false"


def certificate_checks(facts: PreflightFacts) -> Iterator[Check]:
    """Each certificate in use, and those that are not."""
    if isinstance(facts.certificates, NotRead) or isinstance(facts.definitions, NotRead):
        return
    for each in facts.used:
        yield from _in_use(each, facts)
    named = {each.authorization_certificate for each in facts.definitions}
    others = [each for each in facts.certificates if each.id not in named]
    spare = [each for each in others if each.status in USABLE]
    if len(spare) > 1:
        removals = "; ".join(f"`{_REMOVE.format(id=each.id)}`" for each in spare)
        yield warning(
            "spare certificates",
            f"{len(spare)} usable certificates are named by no definition; each key can enroll anybody.",
            f"Remove those that no renewal needs: {removals}.",
            CheckCode.SPARE_CERTIFICATES,
        )
    waiting = [each for each in others if each.status in WAITING]
    if len(waiting) > 1:
        yield warning(
            "open requests",
            f"{len(waiting)} requests wait at the CA: {', '.join(each.id for each in waiting)}.",
            RenewalReason.TWO_OPEN_REQUESTS.advice,
            RenewalReason.TWO_OPEN_REQUESTS,
        )


def _in_use(certificate: AuthorizationCertificate, facts: PreflightFacts) -> Iterator[Check]:
    name = f"certificate {certificate.id}"
    found = [*_state(name, certificate, facts), *_key(name, certificate, facts)]
    yield from found
    if not found:
        yield ok(name, f"It is usable until {_utc(certificate)}.", CheckCode.CERTIFICATE)


def _state(name: str, certificate: AuthorizationCertificate, facts: PreflightFacts) -> Iterator[Check]:
    expires, word = certificate.expires, certificate.status_word
    if certificate.revoked_at is not None:
        text = f"The CA revoked it at {certificate.revoked_at:%Y-%m-%dT%H:%M:%SZ}."
        yield failed(
            name, text, "Run `fas-evidence authcert renew`, and ask the CA manager why.", RenewalReason.REVOKED
        )
    if certificate.status is None:
        text = f"FAS reports the status {word!r}, which no known release has."
        yield unknown(name, text, RenewalReason.UNKNOWN_STATUS.advice, RenewalReason.UNKNOWN_STATUS)
    elif certificate.status is CertificateStatus.EXPIRED or (expires is not None and expires <= facts.now):
        text = f"It expired at {_utc(certificate)}, and users of its definitions cannot log on."
        yield failed(name, text, RenewalReason.EXPIRED.advice, RenewalReason.EXPIRED)
    elif certificate.status not in USABLE:
        yield failed(
            name,
            f"Definitions name it, but its status is {word}, so that users cannot log on by them.",
            "Set the definitions to a usable one: `Set-FasCertificateDefinition -Name … -AuthorizationCertificate …`.",
            CheckCode.DEFINITION_NAMES_UNUSABLE,
        )
    elif expires is None:
        text = "FAS does not tell when it expires."
        yield unknown(name, text, RenewalReason.EXPIRY_UNKNOWN.advice, RenewalReason.EXPIRY_UNKNOWN)
    elif expires - facts.now <= lead_of(facts.server.policy, facts.lifetime):
        days = (expires - facts.now) // timedelta(days=1)
        text = f"It expires at {_utc(certificate)}, in {days} days, which is within the lead."
        yield warning(name, text, "See `fas-evidence authcert status` for where its renewal is.", RenewalReason.DUE)


def _key(name: str, certificate: AuthorizationCertificate, facts: PreflightFacts) -> Iterator[Check]:
    least = facts.server.policy.least_key_length
    if certificate.key_length is not None and certificate.key_length < least:
        yield warning(
            name,
            f"Its key has {certificate.key_length} bits, fewer than the {least} that the policy asks for.",
            f"Set at least {least} in the templates (certtmpl.msc, Cryptography) and FAS's key settings, then renew.",
            RenewalReason.ISSUED_WEAK_KEY,
        )
    if certificate.exportable:
        yield warning(
            name,
            "Its private key can be exported from the FAS server.",
            "Make keys non-exportable in the templates (certtmpl.msc, Request Handling) and FAS's key settings, "
            "then renew.",
            RenewalReason.ISSUED_EXPORTABLE,
        )


def definition_checks(facts: PreflightFacts) -> Iterator[Check]:
    """Whether definitions name certificates and CAs that are there, and rules definitions that are."""
    definitions = facts.definitions
    if isinstance(definitions, NotRead):
        return
    if not definitions:
        reason = RenewalReason.NOTHING_IN_USE
        yield failed("definitions", reason.meaning, reason.advice, reason)
    for each in definitions:
        yield from list(_definition(each, facts)) or [_whole(each, facts)]
    known = {each.name.casefold() for each in definitions}
    for rule in () if isinstance(facts.rules, NotRead) else facts.rules:
        missing = [each for each in rule.definitions if each.casefold() not in known]
        if missing:
            yield failed(
                f"rule {rule.name}",
                f"It names definitions that the server does not have: {', '.join(missing)}.",
                f"Run `Set-FasRule -Name {literal(rule.name)} -CertificateDefinitions …` with those that exist.",
                CheckCode.RULE_NAMES_MISSING,
            )
        else:
            yield ok(f"rule {rule.name}", "Its definitions exist.", CheckCode.RULE)


def _whole(definition: CertificateDefinition, facts: PreflightFacts) -> Check:
    """What is said of a definition in which nothing was found wrong: as much as could be looked at."""
    name = f"definition {definition.name}"
    reads = {
        "Get-FasAuthorizationCertificate": facts.certificates,
        "Get-FasMsCertificateAuthority": facts.authorities,
    }
    missed = [cmdlet for cmdlet, each in reads.items() if isinstance(each, NotRead)]
    if missed:
        return unknown(
            name,
            f"Whether what it names is there is not known without {' and '.join(missed)}.",
            f"Run {' and '.join(f'`{each}`' for each in missed)} on the FAS server.",
        )
    return ok(name, "It names a certificate of this server and CAs of the domain.", CheckCode.DEFINITION)


def _definition(definition: CertificateDefinition, facts: PreflightFacts) -> Iterator[Check]:
    name, set_it = f"definition {definition.name}", f"Set-FasCertificateDefinition -Name {literal(definition.name)}"
    if not isinstance(facts.certificates, NotRead):
        ids = {each.id for each in facts.certificates}
        if definition.authorization_certificate not in ids:
            yield failed(
                name,
                f"It names the certificate {definition.authorization_certificate or 'none'}, which the server does not "
                "have, so that its users cannot log on.",
                f"Run `{set_it} -AuthorizationCertificate …` with a usable one of Get-FasAuthorizationCertificate.",
                RenewalReason.DEFINITION_NAMES_MISSING,
            )
    authorities = facts.authorities
    known = None if isinstance(authorities, NotRead) else {each.address.casefold() for each in authorities}
    strange = [
        each for each in definition.certificate_authorities if known is not None and each.casefold() not in known
    ]
    if not definition.certificate_authorities:
        yield failed(
            name,
            "It names no CA, so that nothing can be enrolled by it.",
            f"Run `{set_it} -CertificateAuthorities …` with those of Get-FasMsCertificateAuthority.",
            CheckCode.DEFINITION_WITHOUT_CA,
        )
    elif strange:
        yield failed(
            name,
            f"It names CAs that the domain does not have: {', '.join(strange)}.",
            f"Run `{set_it} -CertificateAuthorities …` with those of Get-FasMsCertificateAuthority.",
            CheckCode.CA_MISSING,
        )


def _utc(certificate: AuthorizationCertificate) -> str:
    return "an unknown time" if certificate.expires is None else f"{certificate.expires:%Y-%m-%dT%H:%M:%SZ}"
