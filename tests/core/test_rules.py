"""Claims: each rule is the only objection to an otherwise genuine sign-in, and each time limit is exact."""

from __future__ import annotations

from copy import deepcopy
from datetime import datetime, timedelta
from typing import Any

import pytest
from lxml import etree

from evidence_service.access.model import FasRule
from tests.core.given import (
    ALLOW,
    AUDIENCE,
    ISSUED,
    NOW,
    RECIPIENT,
    Change,
    P,
    S,
    all_of,
    changed,
    deny,
    examined,
    genuine,
    judged,
    nothing,
    one,
    outcome,
    policy_for,
    snapshot_of,
    with_attribute,
    with_text,
    without,
)

A = "s:Assertion"
SUBJECT = f"{A}/s:Subject"
BEARER = f"{SUBJECT}/s:SubjectConfirmation"
DATA = f"{BEARER}/s:SubjectConfirmationData"
CONDITIONS = f"{A}/s:Conditions"
RESTRICTION = f"{CONDITIONS}/s:AudienceRestriction"
AUTHN = f"{A}/s:AuthnStatement"
CONTEXT = f"{AUTHN}/s:AuthnContext"
OTHER = "https://other.example"
SKEW = timedelta(seconds=180)
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


def at(offset: timedelta) -> str:
    """An instant so long after the issue."""
    return f"{ISSUED + offset:%Y-%m-%dT%H:%M:%SZ}"


def added(parent: str, tag: str, text: str | None = None, /, **attributes: str) -> Change:
    """A change: one more element."""

    def change(root: etree._Element) -> None:
        etree.SubElement(one(root, parent) if parent else root, tag, attributes).text = text

    return change


def doubled(path: str, then: Change = nothing) -> Change:
    """A change: the element at `path` a second time, behind itself, and different."""

    def change(root: etree._Element) -> None:
        element = one(root, path)
        copy = deepcopy(element)
        element.addnext(copy)
        then(copy)

    return change


def set_on(name: str, value: str) -> Change:
    """A change of an attribute of the element itself."""
    return lambda element: element.set(name, value)


_CLAIMS: dict[str, tuple[Change, tuple[str, ...]]] = {
    # Issuer
    "no Issuer": (without(f"{A}/s:Issuer"), deny("issuer_missing")),
    "an empty Issuer": (with_text(f"{A}/s:Issuer", ""), deny("issuer_missing")),
    "another Issuer": (with_text(f"{A}/s:Issuer", OTHER), deny("issuer_mismatch")),
    "an Issuer in other case": (with_text(f"{A}/s:Issuer", "HTTPS://IDP.example/saml"), deny("issuer_mismatch")),
    "an Issuer with blanks": (with_text(f"{A}/s:Issuer", " https://idp.example/saml\n"), deny("issuer_mismatch")),
    "two Issuers": (doubled(f"{A}/s:Issuer"), deny("issuer_mismatch")),
    "an Issuer of entity format": (
        with_attribute(f"{A}/s:Issuer", "Format", "urn:oasis:names:tc:SAML:2.0:nameid-format:entity"),
        ALLOW,
    ),
    "an Issuer of another format": (
        with_attribute(f"{A}/s:Issuer", "Format", "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress"),
        deny("issuer_mismatch"),
    ),
    "a qualified Issuer": (with_attribute(f"{A}/s:Issuer", "NameQualifier", "x"), deny("issuer_mismatch")),
    "an element in the Issuer": (added(f"{A}/s:Issuer", "{urn:x}X"), deny("issuer_mismatch")),
    "no Response Issuer": (without("s:Issuer"), ALLOW),
    "another Response Issuer": (with_text("s:Issuer", OTHER), deny("issuer_mismatch")),
    "two Response Issuers": (doubled("s:Issuer"), deny("issuer_mismatch")),
    # Status
    "no Status": (without("p:Status"), deny("status_not_success")),
    "no StatusCode": (without("p:Status/p:StatusCode"), deny("status_not_success")),
    "a failed Status": (
        with_attribute("p:Status/p:StatusCode", "Value", "urn:oasis:names:tc:SAML:2.0:status:Responder"),
        deny("status_not_success"),
    ),
    "a Status of no value": (with_attribute("p:Status/p:StatusCode", "Value", None), deny("status_not_success")),
    "two Statuses": (doubled("p:Status"), deny("status_not_success")),
    "two StatusCodes": (doubled("p:Status/p:StatusCode"), deny("status_not_success")),
    "a second-level StatusCode": (
        added("p:Status/p:StatusCode", P + "StatusCode", Value="urn:oasis:names:tc:SAML:2.0:status:NoPassive"),
        deny("status_not_success"),
    ),
    "a StatusMessage": (added("p:Status", P + "StatusMessage", "fine"), ALLOW),
    # Destination
    "no Destination": (with_attribute("", "Destination", None), ALLOW),
    "an empty Destination": (with_attribute("", "Destination", ""), deny("destination_mismatch")),
    "another Destination": (with_attribute("", "Destination", OTHER), deny("destination_mismatch")),
    "a Destination with a slash": (with_attribute("", "Destination", RECIPIENT + "/"), deny("destination_mismatch")),
    # times as texts
    "no IssueInstant": (with_attribute(A, "IssueInstant", None), deny("time_format")),
    "an empty IssueInstant": (with_attribute(A, "IssueInstant", ""), deny("time_format")),
    "a local IssueInstant": (with_attribute(A, "IssueInstant", "2026-01-01T12:00:00"), deny("time_format")),
    "an odd NotBefore": (with_attribute(CONDITIONS, "NotBefore", "now"), deny("time_format")),
    "an empty NotBefore": (with_attribute(CONDITIONS, "NotBefore", ""), deny("time_format")),
    "an odd NotOnOrAfter": (with_attribute(CONDITIONS, "NotOnOrAfter", "never"), deny("time_format")),
    "no AuthnInstant": (with_attribute(AUTHN, "AuthnInstant", None), deny("time_format")),
    "an odd AuthnInstant": (with_attribute(AUTHN, "AuthnInstant", "2026"), deny("time_format")),
    "an odd SessionNotOnOrAfter": (with_attribute(AUTHN, "SessionNotOnOrAfter", ""), deny("time_format")),
    "an odd end of the confirmation": (with_attribute(DATA, "NotOnOrAfter", "soon"), deny("time_format")),
    # Conditions
    "no Conditions": (without(CONDITIONS), deny("conditions_missing")),
    "two Conditions": (doubled(CONDITIONS), deny("conditions_missing")),
    "Conditions without end": (with_attribute(CONDITIONS, "NotOnOrAfter", None), deny("conditions_missing")),
    "Conditions with an empty end": (with_attribute(CONDITIONS, "NotOnOrAfter", ""), deny("conditions_missing")),
    "Conditions without begin": (with_attribute(CONDITIONS, "NotBefore", None), ALLOW),
    "an unknown condition": (added(CONDITIONS, "{urn:x}Condition"), deny("condition_unknown")),
    "an abstract condition": (added(CONDITIONS, S + "Condition"), deny("condition_unknown")),
    "OneTimeUse": (added(CONDITIONS, S + "OneTimeUse"), ALLOW),
    "ProxyRestriction": (added(CONDITIONS, S + "ProxyRestriction"), ALLOW),
    # Audience
    "no AudienceRestriction": (without(RESTRICTION), deny("audience_missing")),
    "an empty AudienceRestriction": (without(f"{RESTRICTION}/s:Audience"), deny("audience_missing")),
    "an empty Audience": (with_text(f"{RESTRICTION}/s:Audience", ""), deny("audience_missing")),
    "another Audience": (with_text(f"{RESTRICTION}/s:Audience", OTHER), deny("audience_mismatch")),
    "an Audience in other case": (
        with_text(f"{RESTRICTION}/s:Audience", AUDIENCE.upper()),
        deny("audience_mismatch"),
    ),
    "an Audience with a blank": (with_text(f"{RESTRICTION}/s:Audience", AUDIENCE + " "), deny("audience_mismatch")),
    "an Audience with our prefix": (with_text(f"{RESTRICTION}/s:Audience", AUDIENCE + "x"), deny("audience_mismatch")),
    "ours among the Audiences": (added(RESTRICTION, S + "Audience", OTHER), ALLOW),
    "a second restriction with us": (doubled(RESTRICTION), ALLOW),
    "a second restriction without us": (
        doubled(RESTRICTION, lambda copy: setattr(copy[0], "text", OTHER)),
        deny("audience_mismatch"),
    ),
    "a second restriction of nobody": (
        doubled(RESTRICTION, lambda copy: copy.remove(copy[0])),
        deny("audience_missing"),
    ),
    "an element in the Audience": (added(f"{RESTRICTION}/s:Audience", "{urn:x}X"), deny("audience_missing")),
    # Subject
    "no Subject": (without(SUBJECT), deny("subject_invalid")),
    "an empty Subject": (
        all_of(without(f"{SUBJECT}/s:NameID"), without(BEARER)),
        deny("subject_invalid"),
    ),
    "two Subjects": (doubled(SUBJECT), deny("subject_invalid", "upn_ambiguous")),
    "no NameID": (without(f"{SUBJECT}/s:NameID"), ALLOW),
    # SubjectConfirmation
    "no SubjectConfirmation": (without(BEARER), deny("subject_confirmation")),
    "holder of key": (
        with_attribute(BEARER, "Method", "urn:oasis:names:tc:SAML:2.0:cm:holder-of-key"),
        deny("subject_confirmation"),
    ),
    "no SubjectConfirmationData": (without(DATA), deny("subject_confirmation")),
    "two SubjectConfirmationData": (doubled(DATA), deny("subject_confirmation")),
    "a confirmation without end": (with_attribute(DATA, "NotOnOrAfter", None), deny("subject_confirmation")),
    "a confirmation with NotBefore": (
        with_attribute(DATA, "NotBefore", at(-HOUR)),
        deny("subject_confirmation"),
    ),
    "a confirmation for somebody else beside ours": (
        doubled(BEARER, lambda copy: copy[0].set("Recipient", OTHER)),
        ALLOW,
    ),
    "ours behind one of another method": (
        doubled(BEARER, lambda copy: copy.set("Method", "urn:x")),
        ALLOW,
    ),
    "parts of two confirmations do not add up": (
        all_of(
            doubled(BEARER, lambda copy: copy[0].set("Recipient", OTHER)),
            with_attribute(DATA, "NotOnOrAfter", at(-HOUR)),
        ),
        deny("subject_confirmation"),
    ),
    "no Recipient": (with_attribute(DATA, "Recipient", None), deny("recipient_mismatch")),
    "an empty Recipient": (with_attribute(DATA, "Recipient", ""), deny("recipient_mismatch")),
    "another Recipient": (with_attribute(DATA, "Recipient", OTHER), deny("recipient_mismatch")),
    "a Recipient with a query": (with_attribute(DATA, "Recipient", RECIPIENT + "?a"), deny("recipient_mismatch")),
    # InResponseTo
    "InResponseTo on both": (
        all_of(with_attribute("", "InResponseTo", "_r"), with_attribute(DATA, "InResponseTo", "_r")),
        ALLOW,
    ),
    "InResponseTo on the confirmation": (with_attribute(DATA, "InResponseTo", "_r"), ALLOW),
    "InResponseTo on the Response": (with_attribute("", "InResponseTo", "_r"), ALLOW),
    "different InResponseTo": (
        all_of(with_attribute("", "InResponseTo", "_r"), with_attribute(DATA, "InResponseTo", "_s")),
        deny("in_response_to_mismatch"),
    ),
    "an empty InResponseTo": (with_attribute("", "InResponseTo", ""), deny("in_response_to_mismatch")),
    # AuthnStatement
    "no AuthnStatement": (without(AUTHN), deny("authn_statement_missing")),
    "two AuthnStatements": (doubled(AUTHN), ALLOW),
    "no AuthnContext": (without(CONTEXT), ALLOW),
    # the UPN in its attribute
    "no AttributeStatement": (without(f"{A}/s:AttributeStatement"), deny("upn_missing")),
    "the attribute in a second statement": (
        doubled(f"{A}/s:AttributeStatement", lambda copy: copy.remove(copy[1])),
        ALLOW,
    ),
    "the attribute twice": (doubled(f"{A}/s:AttributeStatement/s:Attribute[2]"), deny("upn_ambiguous")),
    "two values": (
        doubled(f"{A}/s:AttributeStatement/s:Attribute[2]/s:AttributeValue"),
        deny("upn_ambiguous"),
    ),
    "the attribute twice, once empty": (
        doubled(f"{A}/s:AttributeStatement/s:Attribute[2]", lambda copy: copy.remove(copy[0])),
        deny("upn_ambiguous"),
    ),
    "no value": (without(f"{A}/s:AttributeStatement/s:Attribute[2]/s:AttributeValue"), deny("upn_missing")),
    "an element in the value": (
        added(f"{A}/s:AttributeStatement/s:Attribute[2]/s:AttributeValue", "{urn:x}X"),
        deny("upn_invalid"),
    ),
    "only a FriendlyName": (
        all_of(
            with_attribute(f"{A}/s:AttributeStatement/s:Attribute[2]", "Name", "x"),
            with_attribute(
                f"{A}/s:AttributeStatement/s:Attribute",
                "FriendlyName",
                "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn",
            ),
        ),
        deny("upn_missing"),
    ),
    "an attribute in Advice": (
        lambda root: one(root, A).append(_advice(one(root, f"{A}/s:AttributeStatement"))),
        deny("upn_missing"),
    ),
    "two NameIDs": (doubled(f"{SUBJECT}/s:NameID"), deny("upn_ambiguous")),
}


def _advice(statement: etree._Element) -> etree._Element:
    advice = etree.Element(S + "Advice")
    advice.append(statement)
    return advice


@pytest.mark.parametrize("name", _CLAIMS)
def test_claims(name: str) -> None:
    """What is changed before signing is denied for just that, or does not matter."""
    change, expected = _CLAIMS[name]

    assert outcome(judged(changed(change))) == expected


def _issued(offset: timedelta) -> Change:
    """Everything happens so long after the usual issue: only the distance from now changes."""
    return all_of(
        with_attribute(A, "IssueInstant", at(offset)),
        with_attribute(AUTHN, "AuthnInstant", at(offset)),
        with_attribute(CONDITIONS, "NotBefore", at(offset)),
        with_attribute(CONDITIONS, "NotOnOrAfter", at(offset + HOUR)),
        with_attribute(DATA, "NotOnOrAfter", at(offset + HOUR)),
    )


_EXACT: dict[str, tuple[Change, dict[str, Any], datetime, int, tuple[str, ...]]] = {
    # sentence: (evidence, policy, the last good instant, direction in which it becomes bad, outcome beyond)
    "IssueInstant: age": (nothing, {}, ISSUED + timedelta(hours=8), +1, deny("evidence_too_old")),
    "IssueInstant: a shorter age": (
        nothing,
        {"max_age": timedelta(minutes=30)},
        ISSUED + timedelta(minutes=30),
        +1,
        deny("evidence_too_old"),
    ),
    "IssueInstant: future": (
        with_attribute(CONDITIONS, "NotBefore", None),
        {},
        ISSUED - SKEW,
        -1,
        deny("issued_in_future"),
    ),
    "IssueInstant: future without skew": (
        nothing,
        {"clock_skew": timedelta(0)},
        ISSUED,
        -1,
        deny("issued_in_future"),
    ),
    "AuthnInstant: future": (
        with_attribute(AUTHN, "AuthnInstant", at(HOUR)),
        {},
        ISSUED + HOUR - SKEW,
        -1,
        deny("issued_in_future"),
    ),
    "AuthnInstant: age": (
        nothing,
        {"max_authentication_age": HOUR},
        ISSUED - timedelta(minutes=10) + HOUR,
        +1,
        deny("authentication_too_old"),
    ),
    "NotBefore": (
        with_attribute(CONDITIONS, "NotBefore", at(SKEW)),
        {},
        ISSUED,
        -1,
        deny("not_yet_valid"),
    ),
    "NotOnOrAfter, enforced": (
        nothing,
        {"enforce_not_on_or_after": True},
        ISSUED + HOUR + SKEW - SECOND,
        +1,
        deny("expired"),
    ),
    "SessionNotOnOrAfter": (
        with_attribute(AUTHN, "SessionNotOnOrAfter", at(HOUR)),
        {},
        ISSUED + HOUR + SKEW - SECOND,
        +1,
        deny("session_expired"),
    ),
}


@pytest.mark.parametrize("name", _EXACT)
def test_promise_9_limits_against_now_are_exact(name: str) -> None:
    """Promise 9: at the limit and one second inside it is allowed, one second beyond it is a deny."""
    change, policy, limit, direction, beyond = _EXACT[name]
    evidence, snapshot = changed(change), snapshot_of(policy_for(**policy))

    assert outcome(judged(evidence, snapshot, limit - direction * SECOND)) == ALLOW
    assert outcome(judged(evidence, snapshot, limit)) == ALLOW
    assert outcome(judged(evidence, snapshot, limit + direction * SECOND)) == beyond


_WINDOW: dict[str, tuple[Change, tuple[str, ...]]] = {
    "ends a second after the issue": (with_attribute(CONDITIONS, "NotOnOrAfter", at(SECOND)), ALLOW),
    "ends at the issue": (with_attribute(CONDITIONS, "NotOnOrAfter", at(timedelta(0))), deny("conditions_window")),
    "ended before the issue": (with_attribute(CONDITIONS, "NotOnOrAfter", at(-SECOND)), deny("conditions_window")),
    "begins before the issue": (with_attribute(CONDITIONS, "NotBefore", at(-HOUR)), ALLOW),
    "begins within the skew": (with_attribute(CONDITIONS, "NotBefore", at(SKEW)), ALLOW),
    "begins beyond the skew": (
        with_attribute(CONDITIONS, "NotBefore", at(SKEW + SECOND)),
        deny("conditions_window"),
    ),
    "is empty": (
        all_of(
            with_attribute(CONDITIONS, "NotBefore", at(timedelta(minutes=1))),
            with_attribute(CONDITIONS, "NotOnOrAfter", at(timedelta(minutes=1))),
        ),
        deny("conditions_window"),
    ),
    "the confirmation ends a second after the issue": (with_attribute(DATA, "NotOnOrAfter", at(SECOND)), ALLOW),
    "the confirmation ends at the issue": (
        with_attribute(DATA, "NotOnOrAfter", at(timedelta(0))),
        deny("subject_confirmation"),
    ),
}


@pytest.mark.parametrize("name", _WINDOW)
def test_promise_9_the_window_against_the_issue(name: str) -> None:
    """Promise 9: an assertion must have been valid when it was issued, to the second; that is enough for hours."""
    change, expected = _WINDOW[name]

    assert outcome(judged(changed(change), now=ISSUED + HOUR * 2)) == expected


def test_switches_for_times_are_off_and_on_as_documented() -> None:
    """NotOnOrAfter against now is off unless asked for; the session's end is on unless switched off."""
    later = ISSUED + HOUR * 7
    session = changed(with_attribute(AUTHN, "SessionNotOnOrAfter", at(HOUR)))

    assert outcome(judged(genuine(), now=later)) == ALLOW
    assert outcome(judged(genuine(), snapshot_of(policy_for(enforce_not_on_or_after=True)), later)) == deny("expired")
    assert outcome(judged(session, now=later)) == deny("session_expired")
    assert outcome(judged(session, snapshot_of(policy_for(enforce_session_expiry=False)), later)) == ALLOW


@pytest.mark.parametrize("offset", [timedelta(seconds=1), timedelta(days=30)])
def test_all_objections_about_time_show(offset: timedelta) -> None:
    """Evidence from the future is denied whatever else is right."""
    assert outcome(judged(changed(_issued(SKEW + timedelta(seconds=30) + offset))))[1] == "issued_in_future"


@pytest.mark.parametrize(
    ("contexts", "change", "expected"),
    [
        ((), nothing, ALLOW),
        (("urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport",), nothing, ALLOW),
        (("urn:x", "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport"), nothing, ALLOW),
        (("urn:x",), nothing, deny("authn_context")),
        (("urn:x",), without(CONTEXT), deny("authn_context")),
        (("urn:x",), doubled(AUTHN, lambda copy: setattr(copy[0][0], "text", "urn:x")), deny("authn_context")),
        (("urn:x",), with_text(f"{CONTEXT}/s:AuthnContextClassRef", "urn:x"), ALLOW),
        (
            ("urn:x",),
            all_of(
                with_text(f"{CONTEXT}/s:AuthnContextClassRef", "urn:x"), doubled(f"{CONTEXT}/s:AuthnContextClassRef")
            ),
            deny("authn_context"),
        ),
    ],
)
def test_authentication_contexts(contexts: tuple[str, ...], change: Change, expected: tuple[str, ...]) -> None:
    """Where the policy lists classes, every sign-in that is stated must be of one of them."""
    assert outcome(judged(changed(change), snapshot_of(policy_for(authn_contexts=contexts)))) == expected


UPN_ATTRIBUTE = policy_for().upn_from[0]


@pytest.mark.parametrize(
    ("sources", "change", "expected"),
    [
        (("nameid",), with_text(f"{SUBJECT}/s:NameID", "alice@corp.example"), ALLOW),
        (("nameid",), nothing, deny("upn_invalid")),
        (("nameid", UPN_ATTRIBUTE), nothing, deny("upn_invalid")),
        ((UPN_ATTRIBUTE, "nameid"), nothing, ALLOW),
        (("attribute:other", UPN_ATTRIBUTE), nothing, ALLOW),
        (("attribute:other",), nothing, deny("upn_missing")),
        (("nameid",), without(f"{SUBJECT}/s:NameID"), deny("upn_missing")),
        (("nameid", UPN_ATTRIBUTE), without(f"{SUBJECT}/s:NameID"), ALLOW),
        (
            ("nameid",),
            all_of(
                with_text(f"{SUBJECT}/s:NameID", "alice@corp.example"),
                with_attribute(f"{SUBJECT}/s:NameID", "Format", "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"),
            ),
            deny("upn_invalid"),
        ),
        (
            ("nameid",),
            all_of(
                with_text(f"{SUBJECT}/s:NameID", "alice@corp.example"),
                with_attribute(f"{SUBJECT}/s:NameID", "Format", None),
            ),
            ALLOW,
        ),
    ],
)
def test_where_the_upn_stands(sources: tuple[str, ...], change: Change, expected: tuple[str, ...]) -> None:
    """The first source that is present decides; a later one is no second chance."""
    assert outcome(judged(changed(change), snapshot_of(policy_for(upn_from=sources)))) == expected


@pytest.mark.parametrize(
    ("rules", "asked", "expected"),
    [
        ((), None, ALLOW),
        ((), "anything", ALLOW),
        (("default",), None, ALLOW),
        (("default",), "default", ALLOW),
        (("default",), "Default", deny("rule_not_allowed")),
        (("default",), "other", deny("rule_not_allowed")),
        (("other",), None, deny("rule_not_allowed")),
        (("other",), "other", ALLOW),
    ],
)
def test_fas_rules(rules: tuple[str, ...], asked: str | None, expected: tuple[str, ...]) -> None:
    """Where rules are configured, only they are accepted; no name means the default one."""
    snapshot = snapshot_of(rules=tuple(FasRule(name=name) for name in rules))

    assert outcome(judged(genuine(), snapshot, rule=asked)) == expected


def test_a_rule_for_other_idps() -> None:
    """A rule that names IdPs is for them only, and one that names none for nobody."""
    for names_, expected in (
        (frozenset({"https://idp.example/saml"}), ALLOW),
        (frozenset({OTHER}), deny("rule_not_allowed")),
        (frozenset[str](), deny("rule_not_allowed")),
    ):
        assert outcome(judged(genuine(), snapshot_of(rules=(FasRule(name="default", entity_ids=names_),)))) == expected


def test_a_rule_has_its_own_age() -> None:
    """The age limit of a rule replaces that of the policy, to the second."""
    snapshot = snapshot_of(policy_for(max_age=timedelta(days=1)), rules=(FasRule(name="default", max_age=HOUR),))

    assert outcome(judged(genuine(), snapshot, ISSUED + HOUR)) == ALLOW
    assert outcome(judged(genuine(), snapshot, ISSUED + HOUR + SECOND)) == deny("evidence_too_old")


def test_all_findings_show_at_once() -> None:
    """After the signature every rule is asked, and the highest-ranked finding gives the reason."""
    evidence = changed(
        all_of(
            with_text(f"{RESTRICTION}/s:Audience", OTHER),
            with_attribute(DATA, "Recipient", OTHER),
            without(AUTHN),
            with_text(f"{A}/s:AttributeStatement/s:Attribute[2]/s:AttributeValue", "bob@corp.example"),
        )
    )
    decision = judged(evidence, now=NOW + timedelta(days=1))

    assert outcome(decision) == deny(
        "upn_mismatch", "recipient_mismatch", "audience_mismatch", "authn_statement_missing", "evidence_too_old"
    )
    assert decision.reason == "upn_mismatch"
    assert len([check for check in examined(evidence, now=NOW + timedelta(days=1)).checks if not check.passed]) == 5


_OVERFLOWS: dict[str, tuple[Change, dict[str, Any], tuple[str, ...]]] = {
    "a session that never ends (DateTime.MaxValue)": (
        with_attribute(AUTHN, "SessionNotOnOrAfter", "9999-12-31T23:59:59.9999999Z"),
        {},
        ALLOW,
    ),
    "an assertion that never ends": (
        with_attribute(CONDITIONS, "NotOnOrAfter", "9999-12-31T23:59:59.9999999Z"),
        {"enforce_not_on_or_after": True},
        ALLOW,
    ),
    "an assertion that was always valid (DateTime.MinValue)": (
        with_attribute(CONDITIONS, "NotBefore", "0001-01-01T00:00:00Z"),
        {},
        ALLOW,
    ),
    "issued at the end of time": (
        with_attribute(A, "IssueInstant", "9999-12-31T23:59:59Z"),
        {},
        deny("issued_in_future"),  # windows are not judged by an issue time that lies ahead
    ),
}


@pytest.mark.parametrize("name", _OVERFLOWS)
def test_times_at_the_ends_of_the_calendar(name: str) -> None:
    """The first and the last instant that can be written are judged like any other."""
    change, policy, expected = _OVERFLOWS[name]

    assert outcome(judged(changed(change), snapshot_of(policy_for(**policy)))) == expected
