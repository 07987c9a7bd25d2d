r"""FAS's objects as the renewal's own values, across releases (`domain/fas.md` A.2, A.3, C).

Releases differ in property names, in casing and in how they write a status, an id and a date. What cannot be read is
refused as FasRefused and never left out: a certificate or a definition that nobody sees would be renewed around.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import NoReturn
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from evidence_service.adapters.powershell import instant, one_line
from evidence_service.renewal.dispositions import refusal_of
from evidence_service.renewal.issued import UNREADABLE
from evidence_service.renewal.model import (
    AuthorizationCertificate,
    CertificateDefinition,
    CertificateStatus,
    FasRule,
    IssuanceFailure,
)
from evidence_service.renewal.ports import FasRefused
from evidence_service.renewal.reasons import RenewalReason
from idp_certs.reasons import Finding

Properties = Mapping[str, object]

OFFLINE = "[Offline CSR]"
"""What FAS writes in the place of the CA for a request that is signed elsewhere."""


def certificate_of(found: Properties) -> AuthorizationCertificate:
    """One object of Get-FasAuthorizationCertificate. Raises FasRefused without an id or a status."""
    where = "Get-FasAuthorizationCertificate"
    word = _words(found, "Status", "State")
    if word is None:
        _refuse(where, "Status", found)
    authority = _text(found, "Address", "CertificateAuthority")
    request, key = _request(_text(found, "CertificateRequest"))
    return AuthorizationCertificate(
        id=id_of(found, where),
        status_word=word,
        status=_STATUSES.get(_folded(word)),
        certificate_authority=None if authority is None or _folded(authority) == _folded(OFFLINE) else authority,
        trust_area=_guid(_text(found, "TrustArea")),
        expires=_date(_value(found, "ExpiryDate", "Expiry", "NotAfter", "ExpirationDate")),
        thumbprint=_words(found, "ThumbPrint"),
        request_pem=request,
        request_key_sha256=key,
        ca_request_id=_words(found, "CertificateRequestId", "RequestId"),
        key_length=_number(_value(found, "KeyLength", "KeySize")),
        exportable=truth(_value(found, "Exportable", "PrivateKeyExportable")),
        denial=_words(found, "DenyReason", "DeniedReason", "DenialReason", "StatusReason", "StatusMessage", "Reason")
        or "",
    )


def definition_of(found: Properties) -> CertificateDefinition:
    """One object of Get-FasCertificateDefinition.

    Raises FasRefused without a name, or where it cannot be said which certificate it names, if any.
    """
    where = "Get-FasCertificateDefinition"
    return CertificateDefinition(
        name=_name(found, where),
        template=_text(found, "MsTemplate", "CertificateTemplate") or "",
        authorization_certificate=_reference(found, where),
        certificate_authorities=_names(found, "CertificateAuthorities", where),
        policy_oids=_text(found, "PolicyOids"),
        in_session=truth(_value(found, "InSession")),
    )


def rule_of(found: Properties) -> FasRule:
    """One object of Get-FasRule. Raises FasRefused without a name or without the property of its definitions."""
    where = "Get-FasRule"
    if not any(name.lower() == "certificatedefinitions" for name in found):
        _refuse(where, "CertificateDefinitions", found)
    return FasRule(name=_name(found, where), definitions=_names(found, "CertificateDefinitions", where))


def id_of(found: Properties, where: str) -> str:
    """The id, lower case without braces. Raises FasRefused where it is no GUID."""
    identity = _guid(_text(found, "Id", "Guid"))
    if identity is None:
        _refuse(where, "Id", found)
    return identity


def maintenance_of(servers: Iterable[Properties], names: Iterable[str]) -> bool | None:
    """Whether the server of these names (in lower case) is in maintenance; None where the list does not tell."""
    wanted = set(names)
    for each in servers:
        if (_text(each, "Address", "Name", "Server") or "").casefold() in wanted:
            return truth(_value(each, "MaintenanceMode", "InMaintenanceMode", "IsInMaintenanceMode", "Maintenance"))
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """A certificate as FAS's PKI layer lists it in the log."""

    serial: str | None
    not_before: datetime | None


def failures_of(events: Sequence[Properties]) -> tuple[IssuanceFailure, ...]:
    """S123 and S124, oldest first, of events newest first; whom they name is not kept."""
    found = (_failure(each) for each in reversed(events) if _number(_value(each, "Id", "EventId")) in {123, 124})
    return tuple(sorted((each for each in found if each is not None), key=lambda each: each.at))


def installed_of(events: Iterable[Properties]) -> dict[str, Installed]:
    """The newest listing of each trust area. The events' wording is not published, so what is not found stays None."""
    listed: dict[str, Installed] = {}
    for each in events:  # newest first
        text = _text(each, "Message") or ""
        area = _AREA.search(text)
        key = None if area is None else _guid(area[1])
        if _number(_value(each, "Id", "EventId")) == 1 and key is not None and key not in listed:
            serial, begin = _SERIAL.search(text), _NOT_BEFORE.search(text)
            listed[key] = Installed(
                serial=None if serial is None else (serial[1].replace(" ", "").lower().lstrip("0") or "0"),
                not_before=None if begin is None else _date(begin[1]),
            )
    return listed


def record_of(event: Properties) -> int | None:
    """The number of an event in its log; a later one has a higher number."""
    return _number(_value(event, "RecordId"))


def with_installed(certificate: AuthorizationCertificate, listed: Mapping[str, Installed]) -> AuthorizationCertificate:
    """The certificate with what the log lists of its trust area."""
    known = listed.get(certificate.trust_area or "")
    return certificate if known is None else replace(certificate, serial=known.serial, not_before=known.not_before)


def failed_test(found: Properties) -> str | None:
    """What an object of a Test- cmdlet says against success; None where it says nothing of the kind.

    The properties of `DiagnosticTestResult` are not published, so every word that could mean failure does, and so does
    an outcome that is not known to be a good one.
    """
    for name, value in found.items():
        word = name.lower()
        if word in _SUCCESS and truth(value) is not True:
            return f"{name} is {_said(value)}"
        if word in _TROUBLE and value not in (None, "", [], {}, False, 0):
            return f"{name}: {_said(value)}"
        if (word in _OUTCOME or not word) and not _is_good(value):
            return f"{name or 'the answer'} is {_said(value)}"
    return None


def _is_good(outcome: object) -> bool:
    if isinstance(outcome, Mapping):
        return failed_test(outcome) is None
    return outcome is None or _folded(str(outcome)) in _GOOD


def truth(value: object) -> bool | None:
    """A Boolean, or the text of one."""
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(str(value).strip().lower())


_SUCCESS = frozenset({"success", "succeeded", "passed", "issuccess", "successful", "issuccessful", "testpassed", "ok"})
_TROUBLE = frozenset(
    {"exception", "error", "errors", "errormessage", "errortext", "failurereason", "failure", "failed", "fault"}
)
_OUTCOME = frozenset({"result", "status", "outcome", "testresult", "state"})
_GOOD = frozenset({"", "ok", "pass", "passed", "success", "succeeded", "successful", "true"})
_NO_GUID = str(UUID(int=0))
_STATUSES = {each.value.lower(): each for each in CertificateStatus}
_NUMBER = re.compile(r"[0-9]{1,18}")
_AREA = re.compile(r"trust\s*area[^0-9a-f{]*(\{?[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\}?)", re.IGNORECASE)
_SERIAL = re.compile(
    r"serial(?:\s*+number)?\s*+[:=]?\s*+\[?([0-9a-f]{2}(?: [0-9a-f]{2}){3,19}|[0-9a-f]{8,40})\b", re.IGNORECASE
)
_NOT_BEFORE = re.compile(
    r"not\s*+before\s*+[:=]?\s*+\[?([0-9][^\],;\r\n]*?(?:[AP]M|Z|\d))\s*(?:[\],;\r\n]|$)", re.IGNORECASE
)
_DATE_FORMS = (
    "%m/%d/%Y %H:%M:%S",
    "%d/%m/%Y %H:%M:%S",
    "%m/%d/%Y %I:%M:%S %p",
    "%d/%m/%Y %I:%M:%S %p",
    "%d.%m.%Y %H:%M:%S",
)
_EARLIEST, _LATEST = 1970, 2200
"""Years of a certificate. DateTime's least and greatest mean none, and 2569 is 2026 of the Buddhist calendar."""


def _failure(event: Properties) -> IssuanceFailure | None:
    at = _date(_value(event, "TimeCreated"))
    if at is None:
        return None
    refusal = refusal_of(_text(event, "Message") or "")
    return IssuanceFailure(
        at=at,
        event=_number(_value(event, "Id", "EventId")) or 0,
        certificate_authority=refusal.certificate_authority,
        disposition=refusal.disposition,
    )


def _request(text: str | None) -> tuple[str | None, str | None]:
    """The PKCS #10 as PEM with the header that it should have, and the SHA-256 of its public key."""
    if text is None:
        return None, None
    try:
        body = "".join(line for line in text.splitlines() if "-----" not in line)
        request = x509.load_der_x509_csr(base64.b64decode(body, validate=False))
        pem = request.public_bytes(Encoding.PEM).decode()
    except (binascii.Error, *UNREADABLE):
        return None, None
    try:
        key = request.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except UNREADABLE:
        return pem, None
    return pem, sha256(key).hexdigest()


def _value(found: Properties, *names: str) -> object:
    """The first property of these names that has a value, whatever its casing."""
    by_name = {name.lower(): value for name, value in found.items()}
    values = (by_name.get(name.lower()) for name in names)
    return next((each for each in values if each is not None), None)


def _text(found: Properties, *names: str) -> str | None:
    """A text as FAS will know it again, or a number; None for anything else."""
    value = _value(found, *names)
    return str(value).strip() or None if isinstance(value, (str, int)) else None


def _words(found: Properties, *names: str) -> str | None:
    """A text for people."""
    text = _text(found, *names)
    return None if text is None else one_line(text)


def _names(found: Properties, name: str, where: str) -> tuple[str, ...]:
    """Texts in a list, one alone, or none."""
    value = _value(found, name)
    listed = value if isinstance(value, (list, tuple)) else () if value in (None, "") else (value,)
    if not all(isinstance(each, str) and each.strip() for each in listed):
        _refuse(where, name, found)
    return tuple(listed)


def _reference(found: Properties, where: str) -> str:
    """The id of the certificate that a definition names; empty where it names none."""
    name = "AuthorizationCertificate"
    if not any(each.lower() == name.lower() for each in found):
        _refuse(where, name, found)
    value = _value(found, name)
    written = _value(value, "Id") if isinstance(value, Mapping) else value
    identity = _guid(written if isinstance(written, str) else None)
    if identity is None and written not in (None, "", _NO_GUID):
        _refuse(where, name, found)
    return identity or ""


def _number(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return int(value) if isinstance(value, str) and _NUMBER.fullmatch(value.strip()) else None


def _name(found: Properties, where: str) -> str:
    name = _text(found, "Name")
    if name is None:
        _refuse(where, "Name", found)
    return name


def _guid(text: str | None) -> str | None:
    """Lower case without braces; None for other text, and for the empty GUID, which .NET writes for none."""
    try:
        read = UUID(text or "")
    except ValueError:
        return None
    return str(read) if read.int else None


def _date(value: object) -> datetime | None:
    """An instant in UTC. A text that could be two dates is none: a wrong expiry is worse than an unknown one."""
    if isinstance(value, Mapping):
        value = _value(value, "UtcDateTime")  # of a DateTimeOffset
    if isinstance(value, str):
        text = value.strip()
        read = {_iso(text), *(_parsed(text, form) for form in _DATE_FORMS)} - {None}
        value = read.pop() if len(read) == 1 else None
    if not isinstance(value, datetime):
        return None
    aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    return aware if _EARLIEST <= aware.year < _LATEST else None


def _iso(text: str) -> datetime | None:
    return instant(text.replace(" ", "T", 1))


def _parsed(text: str, form: str) -> datetime | None:
    try:
        return datetime.strptime(text, form).replace(tzinfo=UTC)
    except ValueError:
        return None


def _folded(word: str) -> str:
    return "".join(word.split()).lower()


def _said(value: object) -> str:
    if isinstance(value, Mapping):
        return one_line(_value(value, "Message") or dict(value))
    return one_line(value)


def _refuse(where: str, name: str, found: Properties) -> NoReturn:
    presented = one_line({each: value for each, value in found.items() if each.lower() != "certificaterequest"})
    raise FasRefused(
        Finding(
            reason=RenewalReason.NOT_UNDERSTOOD,
            expected=f"a readable {name} on each object",
            presented=presented,
            where=where,
        )
    )
