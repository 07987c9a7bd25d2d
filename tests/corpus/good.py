"""One valid launch, and the small tools that break it: "one valid thing, then change one thing"."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from lxml import etree

from tests.corpus import names as n
from tests.corpus.encrypt import Lock, encrypted
from tests.corpus.names import qname
from tests.corpus.sign import How, below, element, sign

ISSUED = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
AT = "2026-01-01T12:00:30Z"

RESPONSE_ID = "_response1"
ASSERTION_ID = "_assert1"
REQUEST_ID = "_request1"


def instant(seconds: float = 0) -> str:
    """An instant so many seconds after the base message was issued, as xs:dateTime in UTC."""
    return (ISSUED + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """What the valid message says. None leaves an attribute or element out."""

    issuer: str = n.IDP
    response_issuer: str | None = n.IDP
    response_id: str = RESPONSE_ID
    assertion_id: str = ASSERTION_ID
    issued: str = instant()
    response_issued: str = instant()
    destination: str | None = n.ACS
    in_response_to: str | None = REQUEST_ID
    confirmation_in_response_to: str | None = REQUEST_ID
    recipient: str = n.ACS
    confirmed_until: str = instant(300)
    not_before: str | None = instant(-300)
    not_on_or_after: str = instant(3600)
    audiences: tuple[str, ...] = (n.GATEWAY,)
    authenticated: str = instant(-60)
    session_ends: str | None = None
    context: str = n.PASSWORD
    name_id: str = n.ALICE
    name_id_format: str | None = n.UNSPECIFIED
    upn: str | None = n.ALICE
    upn_attribute: str = n.UPN


class Launch:
    """The message under construction: a valid, unsigned Response, changed and signed step by step."""

    def __init__(self, **changes: Any) -> None:
        """Build the valid message with these fields of `Fields` changed."""
        self.fields = Fields(**changes)
        self.root = _build(self.fields)

    @classmethod
    def parsed(cls, text: str) -> Self:
        """A message from XML text, for vendor shapes."""
        made = cls()
        made.root = etree.fromstring(text.encode())
        return made

    @property
    def assertion(self) -> etree._Element:
        """The first Assertion in the tree."""
        return next(self.root.iter(qname("saml:Assertion")))

    def find(self, path: str) -> etree._Element:
        """The first element at a path of prefixed names below the Response; `.` is the Response."""
        found = self.root if path == "." else self.root.find("/".join(map(qname, path.split("/"))))
        assert found is not None, path
        return found

    def set(self, path: str, **attributes: str | None) -> Self:
        """Set attributes, or take away those given as None."""
        target = self.find(path)
        for key, value in attributes.items():
            if value is None:
                target.attrib.pop(key, None)
            else:
                target.set(key, value)
        return self

    def text(self, path: str, value: str | None) -> Self:
        """Set an element's text."""
        self.find(path).text = value
        return self

    def drop(self, path: str) -> Self:
        """Take an element away."""
        remove(self.find(path))
        return self

    def add(self, path: str, child: etree._Element, index: int | None = None) -> Self:
        """Insert a child at the index, or append it."""
        parent = self.find(path)
        parent.insert(len(parent) if index is None else index, child)
        return self

    def change(self, act: Callable[[Launch], object]) -> Self:
        """Apply any change."""
        act(self)
        return self

    def sign(self, how: How | None = None, **changes: Any) -> Self:
        """Sign the assertion."""
        sign(self.assertion, how or How(**changes))
        return self

    def sign_response(self, how: How | None = None, **changes: Any) -> Self:
        """Sign the Response."""
        sign(self.root, how or How(**changes))
        return self

    def encrypt(self, lock: Lock | None = None, *, plaintext: Callable[[bytes], bytes] | None = None) -> Self:
        """Put an EncryptedAssertion in the place of the assertion."""
        target = self.assertion
        octets = alone(target)
        if plaintext is not None:
            octets = plaintext(octets)
        parent = target.getparent()
        assert parent is not None
        parent.replace(target, encrypted(octets, lock))
        return self

    def wire(self) -> bytes:
        """The bytes FAS hands over."""
        return etree.tostring(self.root, encoding="UTF-8", xml_declaration=False)


def alone(target: etree._Element) -> bytes:
    """An element as a document of its own, with the namespace declarations it inherits."""
    return etree.tostring(target, encoding="UTF-8", xml_declaration=False, with_tail=False)


def remove(target: etree._Element) -> None:
    """Take an element out of its parent, leaving its tail."""
    parent = target.getparent()
    assert parent is not None
    if target.tail:
        before = target.getprevious()
        if before is None:
            parent.text = (parent.text or "") + target.tail
        else:
            before.tail = (before.tail or "") + target.tail
    parent.remove(target)


def unsigned(target: etree._Element) -> etree._Element:
    """A copy without any signature."""
    made = copy.deepcopy(target)
    made.tail = None
    for signature in list(made.iter(qname("ds:Signature"))):
        remove(signature)
    return made


def claim_upn(target: etree._Element, upn: str) -> etree._Element:
    """Write a UPN over every name the assertion holds."""
    for name in ("saml:NameID", "saml:AttributeValue"):
        for holder in target.iter(qname(name)):
            holder.text = upn
    return target


def evil(target: etree._Element, *, upn: str = n.ADMIN, new_id: str | None = "_evil1") -> etree._Element:
    """An unsigned copy of an assertion that names the victim; `new_id` None keeps the ID."""
    made = claim_upn(unsigned(target), upn)
    if new_id is not None:
        made.set("ID", new_id)
    return made


def extensions(*children: etree._Element) -> etree._Element:
    """A samlp:Extensions."""
    made = element("samlp:Extensions")
    for child in children:
        made.append(child)
    return made


def attribute(name: str, *values: str, **attributes: str) -> etree._Element:
    """A saml:Attribute."""
    made = element("saml:Attribute", Name=name, **attributes)
    for value in values:
        below(made, "saml:AttributeValue", value)
    return made


def _build(fields: Fields) -> etree._Element:
    root = etree.Element(qname("samlp:Response"), nsmap={"samlp": n.SAMLP, "saml": n.SAML})
    root.set("ID", fields.response_id)
    root.set("Version", "2.0")
    root.set("IssueInstant", fields.response_issued)
    _set(root, Destination=fields.destination, InResponseTo=fields.in_response_to)
    if fields.response_issuer is not None:
        below(root, "saml:Issuer", fields.response_issuer)
    below(below(root, "samlp:Status"), "samlp:StatusCode", Value=n.SUCCESS)
    assertion = below(root, "saml:Assertion", ID=fields.assertion_id, Version="2.0", IssueInstant=fields.issued)
    below(assertion, "saml:Issuer", fields.issuer)
    subject = below(assertion, "saml:Subject")
    _set(below(subject, "saml:NameID", fields.name_id), Format=fields.name_id_format)
    confirmation = below(subject, "saml:SubjectConfirmation", Method=n.BEARER)
    data = below(confirmation, "saml:SubjectConfirmationData", NotOnOrAfter=fields.confirmed_until)
    _set(data, Recipient=fields.recipient, InResponseTo=fields.confirmation_in_response_to)
    conditions = below(assertion, "saml:Conditions")
    _set(conditions, NotBefore=fields.not_before, NotOnOrAfter=fields.not_on_or_after)
    restriction = below(conditions, "saml:AudienceRestriction")
    for audience in fields.audiences:
        below(restriction, "saml:Audience", audience)
    statement = below(assertion, "saml:AuthnStatement", AuthnInstant=fields.authenticated, SessionIndex="_session1")
    _set(statement, SessionNotOnOrAfter=fields.session_ends)
    below(below(statement, "saml:AuthnContext"), "saml:AuthnContextClassRef", fields.context)
    if fields.upn is not None:
        below(assertion, "saml:AttributeStatement").append(attribute(fields.upn_attribute, fields.upn))
    return root


def _set(target: etree._Element, **attributes: str | None) -> None:
    for key, value in attributes.items():
        if value is not None:
            target.set(key, value)


def policy_text(**changes: object) -> str:
    """The base policy with members changed, as TOML; a member given as None is left out."""
    members: dict[str, object] = {
        "audiences": [n.GATEWAY],
        "recipients": [n.ACS],
        "upn_from": [f"attribute:{n.UPN}"],
        "upn_suffixes": ["corp.example"],
        **changes,
    }
    return "".join(f"{name} = {_toml(value)}\n" for name, value in members.items() if value is not None)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
