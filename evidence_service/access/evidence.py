"""From what FAS handed over to a Response of safe shape; nothing here is believed yet.

Evidence is the UTF-8 XML of the Response (`docs/wire.md`); the strict base64 form of the POST binding is taken too.
The shape rules hold over the whole tree, wherever something hides: one Response, one assertion directly below it,
IDs present, plain and unique in every spelling.
"""

from __future__ import annotations

import binascii
import re
from collections import Counter
from dataclasses import dataclass

from lxml import etree

from evidence_service.access.reasons import AccessReason
from idp_certs.reasons import Reason, Refused
from idp_certs.xml import EVIDENCE_LIMITS, XmlLimits, parse_xml

SAML = "{urn:oasis:names:tc:SAML:2.0:assertion}"
SAMLP = "{urn:oasis:names:tc:SAML:2.0:protocol}"

# Real IDs start with digits at times, which xs:NCName forbids; nothing more is let through (CVE-2025-23369).
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_ID_ATTRIBUTES = etree.XPath("//@*[translate(local-name(), 'ID', 'id') = 'id']")
_XML_ID = "{http://www.w3.org/XML/1998/namespace}id"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseShape:
    """A Response whose shape is safe: `assertion` is its one Assertion or EncryptedAssertion. Unverified."""

    data: bytes
    root: etree._Element
    assertion: etree._Element

    @property
    def is_encrypted(self) -> bool:
        """Whether the one assertion is an EncryptedAssertion."""
        return bool(self.assertion.tag == SAML + "EncryptedAssertion")


def read_evidence(evidence: tuple[bytes, ...], limits: XmlLimits = EVIDENCE_LIMITS) -> bytes:
    """The XML bytes of the one SAML Response handed over. Raises Refused.

    Bytes that hold a `<` are XML (no base64 does); anything else must be base64, decoded once and strictly.
    """
    if not evidence:
        raise Refused(AccessReason.EVIDENCE_MISSING, expected="one SAMLResponse", presented="none", where="evidence")
    if len(evidence) > 1:
        raise Refused(
            AccessReason.RESPONSE_COUNT, expected="one SAMLResponse", presented=str(len(evidence)), where="evidence"
        )
    data = evidence[0]
    if not data:
        raise Refused(AccessReason.EVIDENCE_EMPTY, expected="at least one byte", where="evidence")
    if b"<" in data:
        _check_size(len(data), limits)
        return data
    _check_size(len(data) * 3 // 4 - data[-2:].count(b"="), limits)
    try:
        decoded = binascii.a2b_base64(data, strict_mode=True)
    except ValueError:
        decoded = b""
    if not decoded or binascii.b2a_base64(decoded, newline=False) != data:
        raise Refused(
            AccessReason.EVIDENCE_ENCODING,
            expected="XML, or base64 without line breaks",
            presented=f"{len(data)} other bytes",
            where="evidence",
        )
    return decoded


def _check_size(size: int, limits: XmlLimits) -> None:
    if size > limits.document:
        raise Refused(
            AccessReason.EVIDENCE_TOO_LARGE,
            expected=f"at most {limits.document} bytes",
            presented=f"{size} bytes",
            where="evidence",
        )


def parse_response(data: bytes, limits: XmlLimits = EVIDENCE_LIMITS) -> ResponseShape:
    """The Response in `data`, of safe shape. Raises Refused."""
    root = parse_xml(data, limits)
    if root.tag != SAMLP + "Response":
        raise Refused(
            AccessReason.NOT_A_RESPONSE, expected=SAMLP + "Response", presented=str(root.tag)[:200], where="document"
        )
    check_versions_and_ids(root)
    responses = sum(1 for _ in root.iter("{*}Response"))
    if responses != 1:
        raise _count(AccessReason.RESPONSE_COUNT, "one Response", responses)
    return ResponseShape(data=data, root=root, assertion=only_assertion(root))


def check_versions_and_ids(root: etree._Element) -> None:
    """Refuse a version other than 2.0 and any missing, odd or repeated ID below and at `root`."""
    messages = [*root.iter(SAMLP + "Response", SAML + "Assertion")]
    for message in messages:
        if message.get("Version") != "2.0":
            raise _refused(AccessReason.SAML_VERSION, message, "2.0", message.get("Version"))
    for message in messages:
        if message.get("ID") is None:
            raise _refused(AccessReason.ID_MISSING, message, "an ID", None)
    attributes = _ID_ATTRIBUTES(root)
    for value in attributes:
        foreign = value.attrname.startswith("{") and value.attrname != _XML_ID
        if foreign or not _ID.fullmatch(str(value)):
            raise _refused(
                AccessReason.ID_INVALID, value.getparent(), "a plain ID", f"{value.attrname}={str(value)[:100]}"
            )
    for value, count in Counter(map(str, attributes)).items():
        if count > 1:
            presented = f"{value} {count} times"
            raise Refused(AccessReason.ID_DUPLICATE, expected="every ID once", presented=presented, where="document")


def only_assertion(parent: etree._Element) -> etree._Element:
    """The one assertion, plain or encrypted, that stands directly below `parent`; no other may exist anywhere.

    Elements of other namespaces with these names count too, because other readers go by local names.
    """
    assertions = [*parent.iter("{*}Assertion", "{*}EncryptedAssertion")]
    tags = (SAML + "Assertion", SAML + "EncryptedAssertion")
    if len(assertions) != 1 or assertions[0].getparent() is not parent or assertions[0].tag not in tags:
        raise _count(AccessReason.ASSERTION_COUNT, "one assertion, directly below the Response", len(assertions))
    return assertions[0]


def _count(reason: AccessReason, expected: str, presented: int) -> Refused:
    return Refused(reason, expected=expected, presented=str(presented), where="document")


def _refused(reason: Reason, element: etree._Element, expected: str, presented: str | None) -> Refused:
    where = etree.QName(element).localname
    return Refused(reason, expected=expected, presented="none" if presented is None else presented, where=where)
