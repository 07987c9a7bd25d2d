"""SAML 2.0 metadata: which entity IDs, and which certificates does each say it signs with?

- Only `KeyDescriptor`s of an `IDPSSODescriptor` for the SAML 2.0 protocol count, with `use="signing"` or without `use`
  (which means both, CVE-2026-16443); never those of other roles, which AD FS and Entra put beside it.
- Only X.509 certificates count; a bare key or key name cannot be pinned. All of several are taken.
- One broken certificate does not take away the good ones, and is reported.

Not checked here: who sent the document, whether its own signature holds, and whether `valid_until` has passed.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from lxml import etree

from idp_certs.instants import parse_instant
from idp_certs.reasons import Finding, Refused, TrustReason
from idp_certs.signature import DS, MAX_CERTIFICATES_TRIED
from idp_certs.xml import XmlLimits, parse_xml

_MD = "{urn:oasis:names:tc:SAML:2.0:metadata}"
_SAML2 = "urn:oasis:names:tc:SAML:2.0:protocol"
_PEM_MARKER = re.compile(r"-----(?:BEGIN|END) CERTIFICATE-----")
_SPACE = re.compile("[ \t\r\n]+")
MAX_ENTITY_ID_LENGTH = 1024  # SAML core 8.3.6

METADATA_LIMITS = XmlLimits(
    document=16 * 1024 * 1024,
    elements=500_000,
    attribute_length=1024 * 1024,  # logos are embedded as data: URIs
    text_length=1024 * 1024,
    namespace_declarations=200_000,
    comments=True,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdpMetadata:
    """What metadata says of one identity provider.

    `signing_certificates` are DER, in document order, each once; `problems` are what was left out and why.
    `valid_until` (UTC) is the earliest that applies to the entity, None where none is given.
    """

    entity_id: str
    signing_certificates: tuple[bytes, ...]
    problems: tuple[Finding, ...]
    valid_until: datetime | None
    sso_urls: tuple[str, ...]


def parse_metadata(data: bytes, *, limits: XmlLimits = METADATA_LIMITS) -> tuple[IdpMetadata, ...]:
    """Every identity provider that the document describes, at least one.

    An IdP without any usable certificate is returned with a `metadata_no_cert` problem. Raises Refused: an `xml_`
    reason, `metadata_too_large`, `metadata_not_saml`, `metadata_no_idp`, `metadata_ambiguous`, `metadata_expired`
    (for a validUntil that is no instant).
    """
    if len(data) > limits.document:
        raise Refused(
            TrustReason.METADATA_TOO_LARGE, expected=f"at most {limits.document} bytes", presented=f"{len(data)} bytes"
        )
    root = parse_xml(data, limits)
    if root.tag not in (_MD + "EntityDescriptor", _MD + "EntitiesDescriptor"):
        raise Refused(
            TrustReason.METADATA_NOT_SAML,
            expected="EntityDescriptor or EntitiesDescriptor",
            presented=str(root.tag)[:200],
            where="document",
        )
    entities = [root] if root.tag == _MD + "EntityDescriptor" else [*_entities(root)]
    for entity_id, count in Counter(entity.get("entityID") or "" for entity in entities).items():
        if count > 1:
            raise Refused(
                TrustReason.METADATA_AMBIGUOUS, expected="every entity ID once", presented=entity_id, where="document"
            )
    found = tuple(each for each in map(_parse_entity, entities) if each is not None)
    if not found:
        raise Refused(TrustReason.METADATA_NO_IDP, expected="an IDPSSODescriptor for SAML 2.0", presented="none")
    return found


def _entities(group: etree._Element) -> Iterator[etree._Element]:
    for child in group:
        if child.tag == _MD + "EntityDescriptor":
            yield child
        elif child.tag == _MD + "EntitiesDescriptor":
            yield from _entities(child)


def _parse_entity(entity: etree._Element) -> IdpMetadata | None:
    roles = [
        role
        for role in entity.findall(_MD + "IDPSSODescriptor")
        if _SAML2 in (role.get("protocolSupportEnumeration") or "").split()
    ]
    if not roles:
        return None
    entity_id = entity.get("entityID") or ""
    if not entity_id or len(entity_id) > MAX_ENTITY_ID_LENGTH:
        raise Refused(
            TrustReason.METADATA_NOT_SAML, expected="an entityID of 1 to 1024 characters", where="EntityDescriptor"
        )
    certificates: dict[bytes, None] = {}
    problems: list[Finding] = []
    for role in roles:
        _read_keys(role, certificates, problems)
    if len(certificates) > MAX_CERTIFICATES_TRIED:
        raise Refused(
            TrustReason.XML_LIMITS,
            expected=f"at most {MAX_CERTIFICATES_TRIED} signing certificates",
            presented=str(len(certificates)),
            where=entity_id,
        )
    if not certificates:
        problems.append(
            Finding(
                reason=TrustReason.METADATA_NO_CERT,
                expected="an X509Certificate in a KeyDescriptor for signing",
                presented="none that can be used",
                where=entity_id,
            )
        )
    return IdpMetadata(
        entity_id=entity_id,
        signing_certificates=tuple(certificates),
        problems=tuple(problems),
        valid_until=_valid_until([*roles, entity, *entity.iterancestors()]),
        sso_urls=tuple(
            dict.fromkeys(
                service.get("Location") or "" for role in roles for service in role.findall(_MD + "SingleSignOnService")
            )
        ),
    )


def _read_keys(role: etree._Element, certificates: dict[bytes, None], problems: list[Finding]) -> None:
    for key in role.findall(_MD + "KeyDescriptor"):
        if key.get("use", "signing") != "signing":
            continue
        for element in key.findall(f"{DS}KeyInfo/{DS}X509Data/{DS}X509Certificate"):
            try:
                certificates[parse_certificate(element.text or "" if not len(element) else "")] = None
            except ValueError as error:
                problems.append(
                    Finding(
                        reason=TrustReason.METADATA_BAD_CERT,
                        expected="base64 of one DER certificate",
                        presented=str(error),
                        where="IDPSSODescriptor.KeyDescriptor",
                    )
                )


def parse_certificate(text: str) -> bytes:
    """DER of the one certificate in base64 `text`; white space and PEM markers are let be. Raises ValueError."""
    try:
        der = binascii.a2b_base64(_SPACE.sub("", _PEM_MARKER.sub("", text)), strict_mode=True)
    except ValueError:
        raise ValueError("not base64") from None
    if not der:
        raise ValueError("empty")
    try:
        certificate = x509.load_der_x509_certificate(der)
        certificate.public_key()
        _ = (
            certificate.not_valid_before_utc,
            certificate.not_valid_after_utc,
        )  # X.509 can write years that we cannot read
    except Exception:  # noqa: BLE001 - a dozen types for hostile DER
        raise ValueError(f"not a certificate: {base64.b64encode(der[:12]).decode()}...") from None
    return der


def _valid_until(elements: list[etree._Element]) -> datetime | None:
    instants = []
    for element in elements:
        text = element.get("validUntil")
        if text is not None:
            try:
                instants.append(parse_instant(text))
            except ValueError:
                raise Refused(
                    TrustReason.METADATA_EXPIRED,
                    expected="a UTC xs:dateTime",
                    presented=text[:100],
                    where=f"{etree.QName(element).localname}.validUntil",
                ) from None
    return min(instants, default=None)
