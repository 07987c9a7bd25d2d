"""Every field absent, empty and wrong, made mechanically (the method of Italy's SPID test suite)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.corpus import names as n
from tests.corpus.access.claims import CONDITIONS, CONFIRMATION, CONTEXT, DATA, NAME_ID, RESTRICTION, STATEMENT, SUBJECT
from tests.corpus.access.identity import ATTRIBUTE, ATTRIBUTES, VALUE
from tests.corpus.build import Given, case, given
from tests.corpus.good import Launch, instant
from tests.corpus.model import BugType
from tests.corpus.names import qname

Expected = str | tuple[str, ...]
ALLOW = "allow"

BY_NAME_ID = {"upn_from": ["nameid"]}
BY_CONTEXT = {"authn_contexts": [n.PASSWORD]}
SPID = "italia/spid-saml-check, about 108 cases"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One field: what is expected when it is absent, when it is empty, and for each wrong value.

    `attribute` None means the element itself: empty is without attributes and content, a wrong value is its text.
    """

    name: str
    path: str
    attribute: str | None = None
    absent: Expected | None
    empty: Expected | None
    wrong: Mapping[str, tuple[str, Expected]] = field(default_factory=dict)
    policy: Mapping[str, object] | None = None


def same(code: Expected, *values: str) -> dict[str, tuple[str, Expected]]:
    """Wrong values that all get the same code."""
    return {f"wrong_{number}": (value, code) for number, value in enumerate(values, 1)}


VERSIONS = ("1.1", "2.1", "2.0 ", "3")
FORMAT = "time_format"

ROWS = (
    Row(
        name="response_id",
        path=".",
        attribute="ID",
        absent="id_missing",
        empty="id_invalid",
        wrong=same("id_invalid", "a b", "a:b", "a/b"),
    ),
    Row(
        name="response_version",
        path=".",
        attribute="Version",
        absent="saml_version",
        empty="saml_version",
        wrong=same("saml_version", *VERSIONS),
    ),
    Row(name="response_issue_instant", path=".", attribute="IssueInstant", absent=ALLOW, empty=None),
    Row(
        name="response_destination",
        path=".",
        attribute="Destination",
        absent=ALLOW,
        empty="destination_mismatch",
        wrong=same("destination_mismatch", "https://other.example/", "x"),
    ),
    Row(
        name="response_in_response_to",
        path=".",
        attribute="InResponseTo",
        absent=ALLOW,
        empty="in_response_to_mismatch",
        wrong=same("in_response_to_mismatch", "_other"),
    ),
    Row(
        name="response_issuer",
        path="saml:Issuer",
        absent=ALLOW,
        empty="issuer_mismatch",
        wrong=same("issuer_mismatch", "https://other.example/saml", "x"),
    ),
    Row(
        name="response_issuer_format",
        path="saml:Issuer",
        attribute="Format",
        absent=ALLOW,
        empty="issuer_mismatch",
        wrong=same("issuer_mismatch", n.PERSISTENT),
    ),
    Row(name="status", path="samlp:Status", absent="status_not_success", empty="status_not_success"),
    Row(
        name="status_code",
        path="samlp:Status/samlp:StatusCode",
        absent="status_not_success",
        empty="status_not_success",
    ),
    Row(
        name="status_code_value",
        path="samlp:Status/samlp:StatusCode",
        attribute="Value",
        absent="status_not_success",
        empty="status_not_success",
        wrong=same("status_not_success", n.RESPONDER, n.AUTHN_FAILED, "Success", n.SUCCESS + " "),
    ),
    Row(
        name="assertion_id",
        path="saml:Assertion",
        attribute="ID",
        absent="id_missing",
        empty="id_invalid",
        wrong=same("id_invalid", "a b", "a:b", "\u00e9"),
    ),
    Row(
        name="assertion_version",
        path="saml:Assertion",
        attribute="Version",
        absent="saml_version",
        empty="saml_version",
        wrong=same("saml_version", *VERSIONS),
    ),
    Row(
        name="assertion_issue_instant",
        path="saml:Assertion",
        attribute="IssueInstant",
        absent=FORMAT,
        empty=FORMAT,
        wrong=same(FORMAT, "x", "2026-01-01", "2026-01-01T12:00:00+01:00"),
    ),
    Row(
        name="assertion_issuer",
        path="saml:Assertion/saml:Issuer",
        absent="issuer_missing",
        empty=("issuer_missing", "issuer_mismatch"),
        wrong=same("issuer_mismatch", "https://other.example/saml", "x"),
    ),
    Row(
        name="assertion_issuer_format",
        path="saml:Assertion/saml:Issuer",
        attribute="Format",
        absent=ALLOW,
        empty="issuer_mismatch",
        wrong=same("issuer_mismatch", n.PERSISTENT, n.UNSPECIFIED, "x"),
    ),
    Row(name="subject", path=SUBJECT, absent="subject_invalid", empty="subject_invalid"),
    Row(
        name="name_id",
        path=NAME_ID,
        absent="upn_missing",
        empty="upn_invalid",
        wrong={"other": (n.ADMIN, "upn_mismatch"), "no_upn": ("alice", "upn_invalid")},
        policy=BY_NAME_ID,
    ),
    Row(
        name="name_id_format",
        path=NAME_ID,
        attribute="Format",
        absent=None,
        empty="upn_invalid",
        wrong=same("upn_invalid", n.TRANSIENT),
        policy=BY_NAME_ID,
    ),
    Row(name="confirmation", path=CONFIRMATION, absent="subject_confirmation", empty="subject_confirmation"),
    Row(
        name="confirmation_method",
        path=CONFIRMATION,
        attribute="Method",
        absent="subject_confirmation",
        empty="subject_confirmation",
        wrong=same("subject_confirmation", n.HOLDER_OF_KEY, n.SENDER_VOUCHES, "x"),
    ),
    Row(
        name="confirmation_data",
        path=DATA,
        absent="subject_confirmation",
        empty=("subject_confirmation", "recipient_mismatch"),
    ),
    Row(
        name="confirmation_recipient",
        path=DATA,
        attribute="Recipient",
        absent="recipient_mismatch",
        empty="recipient_mismatch",
        wrong=same("recipient_mismatch", "https://other.example/acs", "x"),
    ),
    Row(
        name="confirmation_end",
        path=DATA,
        attribute="NotOnOrAfter",
        absent="subject_confirmation",
        empty=(FORMAT, "subject_confirmation"),
        wrong={"past": (instant(-3600), "subject_confirmation"), "text": ("x", FORMAT)},
    ),
    Row(
        name="confirmation_in_response_to",
        path=DATA,
        attribute="InResponseTo",
        absent=ALLOW,
        empty="in_response_to_mismatch",
        wrong=same("in_response_to_mismatch", "_other"),
    ),
    Row(name="conditions", path=CONDITIONS, absent="conditions_missing", empty="conditions_missing"),
    Row(
        name="conditions_start",
        path=CONDITIONS,
        attribute="NotBefore",
        absent=ALLOW,
        empty=FORMAT,
        wrong={"ahead": (instant(3000), "not_yet_valid"), "text": ("x", FORMAT)},
    ),
    Row(
        name="conditions_end",
        path=CONDITIONS,
        attribute="NotOnOrAfter",
        absent="conditions_missing",
        empty=("conditions_missing", FORMAT),
        wrong={"past": (instant(-60), "conditions_window"), "text": ("x", FORMAT)},
    ),
    Row(name="audience_restriction", path=RESTRICTION, absent="audience_missing", empty="audience_missing"),
    Row(
        name="audience",
        path=RESTRICTION + "/saml:Audience",
        absent="audience_missing",
        empty=("audience_missing", "audience_mismatch"),
        wrong=same("audience_mismatch", "https://other.example", "x"),
    ),
    Row(
        name="authn_statement",
        path=STATEMENT,
        absent="authn_statement_missing",
        empty=(FORMAT, "authn_statement_missing"),
    ),
    Row(
        name="authn_instant",
        path=STATEMENT,
        attribute="AuthnInstant",
        absent=FORMAT,
        empty=FORMAT,
        wrong=same(FORMAT, "x", "2026-01-01"),
    ),
    Row(
        name="session_end",
        path=STATEMENT,
        attribute="SessionNotOnOrAfter",
        absent=ALLOW,
        empty=FORMAT,
        wrong={"past": (instant(-3600), "session_expired"), "text": ("x", FORMAT)},
    ),
    Row(name="authn_context", path=CONTEXT, absent=ALLOW, empty=ALLOW),
    Row(
        name="authn_context_class",
        path=CONTEXT + "/saml:AuthnContextClassRef",
        absent=ALLOW,
        empty=ALLOW,
        wrong=same(ALLOW, "x"),
    ),
    Row(
        name="authn_context_where_listed",
        path=CONTEXT,
        absent="authn_context",
        empty="authn_context",
        policy=BY_CONTEXT,
    ),
    Row(
        name="authn_context_class_where_listed",
        path=CONTEXT + "/saml:AuthnContextClassRef",
        absent="authn_context",
        empty="authn_context",
        wrong=same("authn_context", "x", n.REFEDS_MFA),
        policy=BY_CONTEXT,
    ),
    Row(name="attribute_statement", path=ATTRIBUTES, absent="upn_missing", empty="upn_missing"),
    Row(name="attribute", path=ATTRIBUTE, absent="upn_missing", empty="upn_missing"),
    Row(
        name="attribute_name",
        path=ATTRIBUTE,
        attribute="Name",
        absent="upn_missing",
        empty="upn_missing",
        wrong=same("upn_missing", "x", n.UPN.upper()),
    ),
    Row(
        name="attribute_value",
        path=VALUE,
        absent="upn_missing",
        empty="upn_invalid",
        wrong={"other": (n.ADMIN, "upn_mismatch"), "no_upn": ("alice", "upn_invalid")},
    ),
)
"""The table of fields; cells that products may choose freely are None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One cell: what is done to the field."""

    row: Row
    value: str | None
    act: str


def cells(columns: tuple[str, ...]) -> dict[str, Given]:
    """The cells of some columns, with what is expected of each."""
    made: dict[str, Given] = {}
    for row in ROWS:
        tried: list[tuple[str, str | None, Expected | None]] = []
        if "absent" in columns:
            tried.append(("absent", None, row.absent))
        if "empty" in columns:
            tried.append(("empty", "", row.empty))
        if "wrong" in columns:
            tried += [(name, value, code) for name, (value, code) in row.wrong.items()]
        for name, value, code in tried:
            if code is None:
                continue
            act = name if name in ("absent", "empty") else "wrong"
            changes: dict[str, Any] = {"allow": True} if code == ALLOW else {"deny": code, "alone": False}
            if row.policy is not None:
                changes["policy"] = row.policy
            shown = f"{row.name}_{name}" if act == "wrong" else row.name
            made[shown] = given(Cell(row=row, value=value, act=act), **changes)
    return made


def changed(cell: Cell) -> Launch:
    """The valid message with one field changed."""
    launch = Launch()
    row = cell.row
    if row.attribute is not None:
        return launch.set(row.path, **{row.attribute: cell.value})
    if cell.act == "absent":
        return launch.drop(row.path)
    target = launch.find(row.path)
    target.text = cell.value
    if cell.act == "empty":
        for child in list(target):
            target.remove(child)
        for key in list(target.attrib):
            if row.path not in {NAME_ID, ATTRIBUTE}:
                target.attrib.pop(key)
    return launch


@case("M01", bug=BugType.CLAIM_BYPASS, origin=SPID, each=cells(("absent",)))
def m01_absent(cell: Cell) -> Launch:
    """Absent, with a signed assertion:"""
    return changed(cell).sign()


@case("M02", bug=BugType.CLAIM_BYPASS, origin=SPID, each=cells(("empty",)))
def m02_empty(cell: Cell) -> Launch:
    """Empty, with a signed assertion:"""
    return changed(cell).sign()


@case("M03", bug=BugType.CLAIM_BYPASS, origin=SPID, each=cells(("wrong",)))
def m03_wrong(cell: Cell) -> Launch:
    """Wrong, with a signed assertion:"""
    return changed(cell).sign()


def under_response(columns: tuple[str, ...]) -> dict[str, Given]:
    """The cells as with a signed Response; a cell that products may choose differs there."""
    skipped = ("response_destination", "response_id")
    return {
        name: entry
        for name, entry in cells(columns).items()
        if not (isinstance(entry.argument, Cell) and entry.argument.row.name in skipped and "absent" in columns)
    }


@case("M04", bug=BugType.CLAIM_BYPASS, origin=SPID, each=under_response(("absent",)))
def m04_absent_in_a_signed_response(cell: Cell) -> Launch:
    """Absent, with a signed Response:"""
    return changed(cell).sign_response()


@case("M05", bug=BugType.CLAIM_BYPASS, origin=SPID, each=under_response(("empty",)))
def m05_empty_in_a_signed_response(cell: Cell) -> Launch:
    """Empty, with a signed Response:"""
    return changed(cell).sign_response()


def without_assertion() -> Launch:
    """No assertion."""
    return Launch().drop("saml:Assertion")


def empty_assertion() -> Launch:
    """An assertion without attributes and content."""
    launch = Launch()
    target = launch.assertion
    for child in list(target):
        target.remove(child)
    target.attrib.clear()
    return launch


def renamed_assertion() -> Launch:
    """An element of another name in the place of the assertion."""
    launch = Launch()
    launch.assertion.tag = qname("saml:Assertions")
    return launch


@case(
    "M06",
    bug=BugType.CLAIM_BYPASS,
    origin=SPID,
    each={
        "absent": given(without_assertion, deny="assertion_count"),
        "empty": given(empty_assertion, deny=("assertion_count", "saml_version", "id_missing")),
        "wrong": given(renamed_assertion, deny="assertion_count"),
    },
)
def m06_assertion(build: Callable[[], Launch]) -> Launch:
    """The assertion itself, in a signed Response, is:"""
    return build().sign_response()


@case(
    "M07",
    bug=BugType.SIGNATURE_BYPASS,
    origin=SPID,
    each={
        "absent": given(Launch, deny="signature_missing"),
        "absent_in_a_signed_response": given(lambda: Launch().sign_response(), allow=True),
        "wrong": given(lambda: Launch().sign(key="attacker"), deny="signature_invalid"),
    },
)
def m07_signature(build: Callable[[], Launch]) -> Launch:
    """The assertion's signature is:"""
    return build()
