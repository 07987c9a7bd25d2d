"""From a signed element to typed content, by exact child paths and nothing else.

Reading judges nothing: it counts what may occur once, keeps texts as they are, and gives None for a value that holds
child elements, so that no reader is cut short at one.
"""

from __future__ import annotations

from collections.abc import Collection
from types import MappingProxyType

from lxml import etree

from evidence_service.access.evidence import SAML, SAMLP
from evidence_service.access.model import (
    Assertion,
    AuthnStatement,
    Conditions,
    Response,
    SubjectConfirmation,
    Text,
)

_KNOWN_CONDITIONS = frozenset({SAML + "AudienceRestriction", SAML + "OneTimeUse", SAML + "ProxyRestriction"})
_SUBJECT_CONTENT = frozenset(SAML + name for name in ("NameID", "BaseID", "EncryptedID", "SubjectConfirmation"))


def _value(element: etree._Element) -> str | None:
    return None if len(element) else element.text or ""


def _text(element: etree._Element) -> Text:
    return Text(
        value=_value(element),
        format=element.get("Format"),
        qualified=any(element.get(name) is not None for name in ("NameQualifier", "SPNameQualifier", "SPProvidedID")),
    )


def read_assertion(element: etree._Element, attribute_names: Collection[str]) -> Assertion:
    """The content of the Assertion `element`, with the attributes of these Names only.

    Only attributes in AttributeStatements directly below the Assertion are read, by Name, never by FriendlyName.
    """
    subjects = element.findall(SAML + "Subject")
    return Assertion(
        assertion_id=element.get("ID") or "",
        issue_instant=element.get("IssueInstant"),
        issuers=tuple(map(_text, element.findall(SAML + "Issuer"))),
        subjects=len(subjects),
        has_subject_content=any(child.tag in _SUBJECT_CONTENT for subject in subjects for child in subject),
        name_ids=tuple(_text(name_id) for subject in subjects for name_id in subject.findall(SAML + "NameID")),
        confirmations=tuple(
            _confirmation(each) for subject in subjects for each in subject.findall(SAML + "SubjectConfirmation")
        ),
        conditions=tuple(map(_conditions, element.findall(SAML + "Conditions"))),
        authn_statements=tuple(map(_authn_statement, element.findall(SAML + "AuthnStatement"))),
        attributes=MappingProxyType(_attributes(element, attribute_names)),
    )


def _confirmation(element: etree._Element) -> SubjectConfirmation:
    found = element.findall(SAML + "SubjectConfirmationData")
    data = found[0] if len(found) == 1 else None

    def attribute(name: str) -> str | None:
        return None if data is None else data.get(name)

    return SubjectConfirmation(
        method=element.get("Method") or "",
        data=data is not None,
        recipient=attribute("Recipient"),
        not_before=attribute("NotBefore"),
        not_on_or_after=attribute("NotOnOrAfter"),
        in_response_to=attribute("InResponseTo"),
    )


def _conditions(element: etree._Element) -> Conditions:
    return Conditions(
        not_before=element.get("NotBefore"),
        not_on_or_after=element.get("NotOnOrAfter"),
        audience_restrictions=tuple(
            tuple(map(_value, restriction.findall(SAML + "Audience")))
            for restriction in element.findall(SAML + "AudienceRestriction")
        ),
        unknown=tuple(str(child.tag) for child in element if child.tag not in _KNOWN_CONDITIONS),
    )


def _authn_statement(element: etree._Element) -> AuthnStatement:
    return AuthnStatement(
        authn_instant=element.get("AuthnInstant"),
        session_not_on_or_after=element.get("SessionNotOnOrAfter"),
        context_classes=tuple(map(_value, element.findall(f"{SAML}AuthnContext/{SAML}AuthnContextClassRef"))),
    )


def _attributes(element: etree._Element, names: Collection[str]) -> dict[str, tuple[tuple[str | None, ...], ...]]:
    found: dict[str, tuple[tuple[str | None, ...], ...]] = {}
    if names:
        for attribute in element.iterfind(f"{SAML}AttributeStatement/{SAML}Attribute"):
            name = attribute.get("Name") or ""
            if name in names:
                values = tuple(map(_value, attribute.findall(SAML + "AttributeValue")))
                found[name] = (*found.get(name, ()), values)
    return found


def read_response(element: etree._Element) -> Response:
    """The content of the Response `element` beside its assertion."""
    return Response(
        issuers=tuple(map(_text, element.findall(SAML + "Issuer"))),
        statuses=tuple(
            tuple(code.get("Value") or "" for code in status.iter(SAMLP + "StatusCode"))
            for status in element.findall(SAMLP + "Status")
        ),
        destination=element.get("Destination"),
        in_response_to=element.get("InResponseTo"),
    )


def claimed_issuers(root: etree._Element, assertion: etree._Element | None) -> tuple[str, ...]:
    """Who the evidence says it is from, unverified: only a hint which provider's keys to try. Two at most."""
    places = (() if assertion is None else (assertion,)) + (root,)
    found = (place.find(SAML + "Issuer") for place in places)
    texts = (None if issuer is None else _value(issuer) for issuer in found)
    return tuple(text for text in texts if text)
