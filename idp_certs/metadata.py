"""SAML 2.0 metadata: which entity IDs, and which certificates does each say it signs with?

- Only `KeyDescriptor`s of an `IDPSSODescriptor` for the SAML 2.0 protocol count, with `use="signing"` or without `use`
  (which means both, CVE-2026-16443); never those of other roles, which AD FS and Entra put beside it.
- Only X.509 certificates count; a bare key or key name cannot be pinned. All of several are taken.
- One broken certificate does not take away the good ones, and is reported.
- A federation's document is streamed: one entity is in memory at a time.

Not checked here: who sent the document, whether its own signature holds, and whether `valid_until` has passed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeVar

from lxml import etree

from idp_certs.certificates import parse_certificate
from idp_certs.instants import parse_duration, parse_instant
from idp_certs.reasons import Finding, Refused, TrustReason
from idp_certs.signature import DS, MAX_CERTIFICATES_TRIED
from idp_certs.xml import StreamLimits, XmlLimits, stream_xml

MD = "{urn:oasis:names:tc:SAML:2.0:metadata}"
_RPI = "{urn:oasis:names:tc:SAML:metadata:rpi}"
_SAML2 = "urn:oasis:names:tc:SAML:2.0:protocol"
_ENTITY = MD + "EntityDescriptor"
_ENTITIES = MD + "EntitiesDescriptor"
MAX_ENTITY_ID_LENGTH = 1024  # SAML core 8.3.6
MAX_KEYS_READ = 100
"""KeyDescriptors of one entity, and certificate texts of its IdP roles: usable or not, they cost work."""

_MAX_SSO_URLS = 32
_MAX_SSO_URL_LENGTH = 2048
"""They are stored, sealed and read with the IdP, by every process that decides."""
_NAMED = 5

METADATA_LIMITS = XmlLimits(
    document=16 * 1024 * 1024,
    elements=500_000,
    attribute_length=1024 * 1024,  # logos are embedded as data: URIs
    text_length=1024 * 1024,
    namespace_declarations=200_000,
    comments=True,
)
"""Of the document of one entity."""

AGGREGATE_LIMITS = replace(
    METADATA_LIMITS, document=80 * 1024 * 1024, elements=5_000_000, namespace_declarations=1_000_000
)
"""Of a federation's document; an entity in it has at most 4 MiB and 100,000 elements."""

STREAM_LIMITS = StreamLimits(
    document=AGGREGATE_LIMITS,
    item=replace(METADATA_LIMITS, document=4 * 1024 * 1024, elements=100_000),
    alone=METADATA_LIMITS,
)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class IdpMetadata:
    """What metadata says of one identity provider.

    `signing_certificates` are DER, in document order, each once; `problems` are what was left out and why.
    `valid_until` (UTC) is the earliest and `cache_duration` the shortest that applies to the entity, `created` (UTC)
    the creation instant of the nearest publication (mdrpi 2.3); None where none is given.
    """

    entity_id: str
    signing_certificates: tuple[bytes, ...]
    problems: tuple[Finding, ...]
    valid_until: datetime | None
    sso_urls: tuple[str, ...]
    created: datetime | None = None
    cache_duration: timedelta | None = None


def parse_metadata(
    data: bytes, *, entity_id: str | None = None, limits: StreamLimits = STREAM_LIMITS
) -> tuple[IdpMetadata, ...]:
    """Every identity provider that the document describes, at least one; with `entity_id` just that one.

    An IdP without any usable certificate is returned with a `metadata_no_cert` problem. Raises Refused: an `xml_`
    reason, `metadata_too_large`, `metadata_not_saml`, `metadata_no_idp`, `metadata_ambiguous`, `metadata_expired`
    (for a validUntil that is no instant), `metadata_entity_mismatch` (nothing has `entity_id`).
    """
    _check_size(data, limits.document)
    found: list[IdpMetadata] = []
    seen: set[str] = set()
    named: list[str] = []
    for entity, above in _entities(data, limits):
        name = entity.get("entityID") or ""
        if name in seen and entity_id in (None, name):
            raise Refused(
                TrustReason.METADATA_AMBIGUOUS, expected="every entity ID once", presented=name, where="document"
            )
        seen.add(name)
        if entity_id in (None, name):
            found += _parse_entity(entity, above)
        elif len(named) <= _NAMED and _idp_roles(entity):
            named.append(name)
    if found:
        return tuple(found)
    if entity_id is not None and entity_id not in seen and named:
        raise Refused(TrustReason.METADATA_ENTITY_MISMATCH, expected=entity_id, presented=_some(named))
    raise Refused(TrustReason.METADATA_NO_IDP, expected="an IDPSSODescriptor for SAML 2.0", presented="none")


def _entities(data: bytes, limits: StreamLimits) -> Iterator[tuple[etree._Element, _Publication]]:
    """Each entity, whole until the next is asked for, with the publication of the groups around it."""
    groups: list[_Publication | None] = []
    for event, element in stream_xml(data, limits, group=_ENTITIES, item=_ENTITY):
        parent = element.getparent()
        if event == "start":
            if parent is None and element.tag == _ENTITY:
                _check_size(data, limits.alone)
            if parent is not None:  # its Extensions stand before its first child, which begins here
                groups[-1] = groups[-1] or _publication(parent, _nearest(groups[:-1]))
            if element.tag == _ENTITIES:
                groups.append(None)
        elif element.tag == _ENTITY:
            yield element, _nearest(groups)
        elif element.tag == _ENTITIES:
            groups.pop()
        else:
            raise Refused(
                TrustReason.METADATA_NOT_SAML,
                expected="EntityDescriptor or EntitiesDescriptor",
                presented=str(element.tag)[:200],
                where="document",
            )


def _check_size(data: bytes, limits: XmlLimits) -> None:
    if len(data) > limits.document:
        raise Refused(
            TrustReason.METADATA_TOO_LARGE, expected=f"at most {limits.document} bytes", presented=f"{len(data)} bytes"
        )


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(name[:MAX_ENTITY_ID_LENGTH] for name in names[:_NAMED])
    return f"{shown} and others" if len(names) > _NAMED else shown


@dataclass(frozen=True, slots=True, kw_only=True)
class _Publication:
    """When what is described was published, and what could not be read of that."""

    created: datetime | None = None
    problems: tuple[Finding, ...] = ()


_NO_PUBLICATION = _Publication()


def _nearest(groups: Sequence[_Publication | None]) -> _Publication:
    return (groups[-1] if groups else None) or _NO_PUBLICATION


def _publication(element: etree._Element, above: _Publication) -> _Publication:
    """Of an entity or a group, failing that the one `above` it."""
    info = element.find(f"{MD}Extensions/{_RPI}PublicationInfo")
    problems: list[Finding] = []
    created = None if info is None else _optional(info, "creationInstant", parse_instant, "a UTC xs:dateTime", problems)
    return _Publication(created=above.created if created is None else created, problems=(*above.problems, *problems))


def _optional(
    element: etree._Element, name: str, parse: Callable[[str], _T], expected: str, problems: list[Finding]
) -> _T | None:
    """An attribute's value; one that cannot be read is a problem and counts as not given."""
    text = element.get(name)
    if text is None:
        return None
    try:
        return parse(text)
    except ValueError as error:
        problems.append(
            Finding(
                reason=TrustReason.METADATA_BAD_VALUE,
                expected=expected,
                presented=f"{text[:100]} ({error})",
                where=f"{etree.QName(element).localname}.{name}",
            )
        )
        return None


def _idp_roles(entity: etree._Element) -> list[etree._Element]:
    return [
        role
        for role in entity.findall(MD + "IDPSSODescriptor")
        if _SAML2 in (role.get("protocolSupportEnumeration") or "").split()
    ]


def _parse_entity(entity: etree._Element, above: _Publication) -> tuple[IdpMetadata, ...]:
    roles = _idp_roles(entity)
    if not roles:
        return ()
    entity_id = entity.get("entityID") or ""
    if not entity_id or len(entity_id) > MAX_ENTITY_ID_LENGTH:
        raise Refused(
            TrustReason.METADATA_NOT_SAML, expected="an entityID of 1 to 1024 characters", where="EntityDescriptor"
        )
    _check_number(entity.findall(f"*/{MD}KeyDescriptor"), MAX_KEYS_READ, "KeyDescriptors", entity_id)
    texts = [text for role in roles for text in _certificate_texts(role)]
    _check_number(texts, MAX_KEYS_READ, "X509Certificates for signing", entity_id)
    certificates: dict[bytes, None] = {}
    problems: list[Finding] = []
    for text in texts:
        try:
            certificates[parse_certificate(text)] = None
        except ValueError as error:
            problems.append(
                Finding(
                    reason=TrustReason.METADATA_BAD_CERT,
                    expected="base64 of one DER certificate",
                    presented=str(error),
                    where="IDPSSODescriptor.KeyDescriptor",
                )
            )
    _check_number(certificates, MAX_CERTIFICATES_TRIED, "signing certificates", entity_id)
    if not certificates:
        problems.append(
            Finding(
                reason=TrustReason.METADATA_NO_CERT,
                expected="an X509Certificate in a KeyDescriptor for signing",
                presented="none that can be used",
                where=entity_id,
            )
        )
    validity = [*roles, entity, *entity.iterancestors()]
    published = _publication(entity, above)
    durations = [
        _optional(each, "cacheDuration", parse_duration, "an xs:duration, not negative", problems) for each in validity
    ]
    return (
        IdpMetadata(
            entity_id=entity_id,
            signing_certificates=tuple(certificates),
            problems=(*problems, *published.problems),
            valid_until=_valid_until(validity),
            sso_urls=_sso_urls(roles),
            created=published.created,
            cache_duration=min((each for each in durations if each is not None), default=None),
        ),
    )


def _sso_urls(roles: Iterable[etree._Element]) -> tuple[str, ...]:
    """Where users sign in, for people to recognize the IdP by: what is too long or too many is left out."""
    locations = (
        service.get("Location") or "" for role in roles for service in role.findall(MD + "SingleSignOnService")
    )
    distinct = dict.fromkeys(each for each in locations if len(each) <= _MAX_SSO_URL_LENGTH)
    return tuple(distinct)[:_MAX_SSO_URLS]


def _check_number(things: Iterable[object], most: int, what: str, where: str) -> None:
    number = sum(1 for _ in things)
    if number > most:
        raise Refused(TrustReason.XML_LIMITS, expected=f"at most {most} {what}", presented=str(number), where=where)


def _certificate_texts(role: etree._Element) -> list[str]:
    return [
        element.text or "" if not len(element) else ""
        for key in role.findall(MD + "KeyDescriptor")
        if key.get("use", "signing") == "signing"
        for element in key.findall(f"{DS}KeyInfo/{DS}X509Data/{DS}X509Certificate")
    ]


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
