"""Issuer, status, destination, audience, conditions, subject and statements."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from lxml import etree

from tests.corpus import names as n
from tests.corpus.build import case
from tests.corpus.good import REQUEST_ID, Launch, claim_upn, extensions, instant, unsigned
from tests.corpus.model import BugType
from tests.corpus.names import qname
from tests.corpus.sign import below, element

CLAIM = BugType.CLAIM_BYPASS

SUBJECT = "saml:Assertion/saml:Subject"
NAME_ID = SUBJECT + "/saml:NameID"
CONFIRMATION = SUBJECT + "/saml:SubjectConfirmation"
DATA = CONFIRMATION + "/saml:SubjectConfirmationData"
CONDITIONS = "saml:Assertion/saml:Conditions"
RESTRICTION = CONDITIONS + "/saml:AudienceRestriction"
STATEMENT = "saml:Assertion/saml:AuthnStatement"
CONTEXT = STATEMENT + "/saml:AuthnContext"


def signer(launch: Launch, *, response: bool) -> Launch:
    """Sign the assertion, or only the Response."""
    return launch.sign_response() if response else launch.sign()


BOTH_WAYS = {"assertion_signed": False, "response_signed": True}


@case("E01", deny="issuer_unknown", bug=CLAIM)
def e01_other_issuer() -> Launch:
    """Signed by the IdP's key, and both Issuers name somebody else."""
    return Launch(issuer="https://other.example/saml", response_issuer="https://other.example/saml").sign()


@case("E01", deny="issuer_mismatch", bug=CLAIM)
def e01_other_issuer_on_the_assertion() -> Launch:
    """Signed by the IdP's key; the assertion's Issuer names somebody else, the Response's names the IdP."""
    return Launch(issuer="https://other.example/saml").sign()


@case("E02", deny="issuer_mismatch", bug=CLAIM, origin="CVE-2026-49283", each=BOTH_WAYS)
def e02_issuers_differ(response: bool) -> Launch:
    """The Response's Issuer differs from the assertion's:"""
    return signer(Launch(response_issuer="https://other.example/saml"), response=response)


@case(
    "E03",
    deny="issuer_mismatch",
    bug=CLAIM,
    each={
        "trailing_blank": n.IDP + " ",
        "leading_blank": " " + n.IDP,
        "newline": n.IDP + "\n",
        "upper_case": n.IDP.upper(),
        "host_in_upper_case": n.IDP.replace("idp", "IDP"),
    },
)
def e03_issuer_almost_right(issuer: str) -> Launch:
    """Both Issuers are almost the entity ID:"""
    return Launch(issuer=issuer, response_issuer=issuer).sign()


@case(
    "E03",
    deny="issuer_unknown",
    bug=CLAIM,
    each={
        "trailing_slash": n.IDP + "/",
        "longer": n.IDP + ".evil.example",
        "shorter": n.IDP[:-1],
        "percent_encoded": n.IDP.replace("/saml", "/%73aml"),
        "http": n.IDP.replace("https", "http"),
        "port": n.IDP.replace(".example", ".example:443"),
        "look_alike": n.IDP.replace("a", "\u0430"),
        "zero_width": n.IDP + "\u200b",
    },
)
def e03_issuer_of_another_name(issuer: str) -> Launch:
    """Both Issuers look like the entity ID and are another:"""
    return Launch(issuer=issuer, response_issuer=issuer).sign()


@case("E04", deny="audience_missing", bug=CLAIM, origin="CVE-2026-41577 (authentik)", each=BOTH_WAYS)
def e04_no_audience_restriction(response: bool) -> Launch:
    """Conditions holds no AudienceRestriction:"""
    return signer(Launch().drop(RESTRICTION), response=response)


@case(
    "E05",
    deny="audience_mismatch",
    bug=CLAIM,
    each={
        "other": "https://other.example",
        "longer": n.GATEWAY + ".evil.example",
        "path": n.GATEWAY + "/other",
        "trailing_slash": n.GATEWAY + "/",
        "upper_case": n.GATEWAY.upper(),
        "trailing_blank": n.GATEWAY + " ",
        "newlines": f"\n  {n.GATEWAY}\n",
        "http": n.GATEWAY.replace("https", "http"),
        "prefix": n.GATEWAY[:-1],
        "two_in_one": f"{n.GATEWAY} https://other.example",
        "recipient": n.ACS,
        "wildcard": "*",
    },
)
def e05_other_audience(audience: str) -> Launch:
    """The only Audience is not exactly ours:"""
    return Launch(audiences=(audience,)).sign()


@case("E05", deny=("audience_mismatch", "audience_missing"), bug=CLAIM)
def e05_audience_with_a_child() -> Launch:
    """Audience holds our entity ID and then a child element."""
    launch = Launch()
    below(launch.find(RESTRICTION + "/saml:Audience"), "saml:Audience", "https://other.example")
    return launch.sign()


@case("E05", allow=True, each={"first": (n.GATEWAY, "https://b.example"), "last": ("https://b.example", n.GATEWAY)})
def e05_several_audiences(audiences: tuple[str, ...]) -> Launch:
    """One restriction lists several audiences, of which one is ours: any of them will do (core 2.5.1.4)."""
    return Launch(audiences=audiences).sign()


@case("E06", deny="audience_mismatch", bug=CLAIM, origin="SAML core 2.5.1.4", each={"ours_first": 1, "ours_last": 0})
def e06_two_restrictions(index: int) -> Launch:
    """Two AudienceRestrictions, of which one does not name us: every one must."""
    other = element("saml:AudienceRestriction")
    below(other, "saml:Audience", "https://other.example")
    return Launch().add(CONDITIONS, other, index).sign()


@case("E06", allow=True)
def e06_two_restrictions_that_match() -> Launch:
    """Two AudienceRestrictions that both name us."""
    other = element("saml:AudienceRestriction")
    below(other, "saml:Audience", n.GATEWAY)
    return Launch().add(CONDITIONS, other).sign()


@case("E06", deny=("audience_missing", "audience_mismatch"), bug=CLAIM)
def e06_empty_second_restriction() -> Launch:
    """A second AudienceRestriction is empty."""
    return Launch().add(CONDITIONS, element("saml:AudienceRestriction")).sign()


OTHER_ADDRESSES = {
    "other_host": "https://other.example/cgi/samlauth",
    "longer": n.ACS + ".evil.example",
    "longer_path": n.ACS + "/x",
    "query": n.ACS + "?x=1",
    "trailing_slash": n.ACS + "/",
    "http": n.ACS.replace("https", "http"),
    "upper_case_path": n.ACS.replace("cgi", "CGI"),
    "port": n.ACS.replace("gw.example", "gw.example:443"),
    "user_info": n.ACS.replace("gw.example", "gw.example@evil.example"),
    "shorter": n.ACS[:-1],
    "audience": n.GATEWAY,
    "trailing_blank": n.ACS + " ",
    "dot_segment": n.ACS.replace("/cgi", "/./cgi"),
}


@case("E07", deny="recipient_mismatch", bug=CLAIM, each=OTHER_ADDRESSES)
def e07_other_recipient(address: str) -> Launch:
    """Recipient is not exactly one of ours:"""
    return Launch(recipient=address).sign()


@case("E08", deny="recipient_mismatch", bug=CLAIM, origin="SAML profiles 4.1.4.2")
def e08_no_recipient() -> Launch:
    """SubjectConfirmationData has no Recipient."""
    return Launch().set(DATA, Recipient=None).sign()


@case("E09", deny="destination_mismatch", bug=CLAIM, origin="python3-saml startswith", each=OTHER_ADDRESSES)
def e09_other_destination(address: str) -> Launch:
    """Destination of the unsigned Response is not exactly one of ours:"""
    return Launch(destination=address).sign()


@case("E10", deny="destination_mismatch", bug=CLAIM, origin="python3-saml empty_destination", each=BOTH_WAYS)
def e10_empty_destination(response: bool) -> Launch:
    """Destination is empty:"""
    return signer(Launch(destination=""), response=response)


@case("E11", deny="destination_mismatch", bug=CLAIM)
def e11_other_destination_signed() -> Launch:
    """The signed Response was sent to another address than ours."""
    return Launch(destination="https://other.example/acs").sign_response()


@case("E11", allow=True)
def e11_no_destination() -> Launch:
    """The unsigned Response has no Destination; the signed Recipient says the same."""
    return Launch(destination=None).sign()


@case("E12", deny="status_not_success", bug=CLAIM, origin="ruby-saml response_double_status_code", each=BOTH_WAYS)
def e12_status_below_success(response: bool) -> Launch:
    """A second-level code AuthnFailed stands under Success:"""
    launch = Launch()
    below(launch.find("samlp:Status/samlp:StatusCode"), "samlp:StatusCode", Value=n.AUTHN_FAILED)
    return signer(launch, response=response)


@case(
    "E12",
    deny="status_not_success",
    bug=CLAIM,
    each={
        "responder": n.RESPONDER,
        "requester": n.RESPONDER.replace("Responder", "Requester"),
        "lower_case": n.SUCCESS.lower(),
        "longer": n.SUCCESS + "ful",
        "trailing_blank": n.SUCCESS + " ",
        "short": "Success",
        "saml_1": "samlp:Success",
    },
)
def e12_other_status(value: str) -> Launch:
    """The status code is not exactly Success:"""
    return Launch().set("samlp:Status/samlp:StatusCode", Value=value).sign()


@case("E12", deny="status_not_success", bug=CLAIM)
def e12_two_status_codes() -> Launch:
    """Status holds Success and beside it a failure."""
    launch = Launch()
    below(launch.find("samlp:Status"), "samlp:StatusCode", Value=n.RESPONDER)
    return launch.sign()


@case(
    "E12",
    deny="status_not_success",
    bug=CLAIM,
    each={"status": "samlp:Status", "code": "samlp:Status/samlp:StatusCode"},
)
def e12_status_in_another_namespace(path: str) -> Launch:
    """Success is said in the assertion's namespace, by the element:"""
    launch = Launch()
    found = launch.find(path)
    found.tag = str(found.tag).replace(n.SAMLP, n.SAML)
    return launch.sign()


@case("E12", allow=True)
def e12_status_message() -> Launch:
    """Success with a StatusMessage and StatusDetail."""
    launch = Launch()
    status = launch.find("samlp:Status")
    below(status, "samlp:StatusMessage", "urn:oasis:names:tc:SAML:2.0:status:Success")
    below(below(status, "samlp:StatusDetail"), "saml:AttributeValue", "fine")
    return launch.sign()


@case("E13", deny="conditions_missing", bug=CLAIM, origin='ory/saml20 "never expires"', each=BOTH_WAYS)
def e13_no_conditions(response: bool) -> Launch:
    """The assertion has no Conditions:"""
    return signer(Launch().drop(CONDITIONS), response=response)


@case("E14", deny="conditions_missing", bug=CLAIM, each={"same": None, "other": "https://other.example"})
def e14_two_conditions(audience: str | None) -> Launch:
    """The assertion has two Conditions:"""
    launch = Launch()
    extra = copy.deepcopy(launch.find(CONDITIONS))
    if audience is not None:
        next(extra.iter(qname("saml:Audience"))).text = audience
    return launch.add("saml:Assertion", extra).sign()


@case("E14", deny="conditions_missing", bug=CLAIM)
def e14_conditions_without_end() -> Launch:
    """Conditions has no NotOnOrAfter."""
    return Launch().set(CONDITIONS, NotOnOrAfter=None).sign()


@case("E17", deny="condition_unknown", bug=CLAIM, origin="SAML core 2.5.1 (pysaml2)")
def e17_unknown_condition() -> Launch:
    """Conditions holds a saml:Condition of an unknown type."""
    launch = Launch()
    condition = etree.SubElement(
        launch.find(CONDITIONS), qname("saml:Condition"), nsmap={"xsi": n.XSI, "x": "urn:example:x"}
    )
    condition.set(qname("xsi:type"), "x:Moon")
    return launch.sign()


@case("E17", deny="condition_unknown", bug=CLAIM, each={"foreign": "{urn:example:x}Moon", "delegation": None})
def e17_foreign_condition(tag: str | None) -> Launch:
    """Conditions holds an element that SAML core does not know:"""
    launch = Launch()
    tag = tag or "{urn:oasis:names:tc:SAML:2.0:conditions:delegation}DelegationRestrictionType"
    etree.SubElement(launch.find(CONDITIONS), tag)
    return launch.sign()


@case("E18", allow=True, each={"one_time_use": "saml:OneTimeUse", "proxy": "saml:ProxyRestriction"})
def e18_known_condition(name: str) -> Launch:
    """Conditions holds an allowed condition; the policy of re-use is ours:"""
    launch = Launch()
    below(launch.find(CONDITIONS), name)
    return launch.sign()


@case("E19", deny="subject_confirmation", bug=CLAIM, origin="authentik response_binding_no_confirmation.xml")
def e19_no_confirmation() -> Launch:
    """Subject has no SubjectConfirmation."""
    return Launch().drop(CONFIRMATION).sign()


@case("E19", deny=("subject_confirmation", "recipient_mismatch"), alone=False, bug=CLAIM)
def e19_no_confirmation_data() -> Launch:
    """SubjectConfirmation has no SubjectConfirmationData."""
    return Launch().drop(DATA).sign()


@case(
    "E20",
    deny="subject_confirmation",
    bug=CLAIM,
    origin="authentik response_binding_other_method.xml",
    each={
        "holder_of_key": n.HOLDER_OF_KEY,
        "sender_vouches": n.SENDER_VOUCHES,
        "saml_1_bearer": "urn:oasis:names:tc:SAML:1.0:cm:bearer",
        "upper_case": n.BEARER.upper(),
        "trailing_blank": n.BEARER + " ",
    },
)
def e20_other_method(method: str) -> Launch:
    """The only confirmation is not bearer but:"""
    return Launch().set(CONFIRMATION, Method=method).sign()


@case("E21", deny="subject_confirmation", bug=CLAIM, origin="CVE-2026-1190 (Keycloak)")
def e21_confirmation_without_end() -> Launch:
    """SubjectConfirmationData has no NotOnOrAfter."""
    return Launch().set(DATA, NotOnOrAfter=None).sign()


@case(
    "E22",
    deny="in_response_to_mismatch",
    bug=CLAIM,
    origin="CVE-2026-49284; ory/saml20",
    each={
        "confirmation_differs": {"confirmation_in_response_to": "_other"},
        "response_differs": {"in_response_to": "_other"},
        "prefix": {"confirmation_in_response_to": REQUEST_ID + "1"},
        "other_case": {"confirmation_in_response_to": REQUEST_ID.upper()},
    },
)
def e22_requests_differ(changes: Mapping[str, Any]) -> Launch:
    """Response and SubjectConfirmationData answer different requests:"""
    return Launch(**changes).sign()


@case("E22", deny="in_response_to_mismatch", bug=CLAIM)
def e22_requests_differ_in_a_signed_response() -> Launch:
    """The same, with only the Response signed."""
    return Launch(confirmation_in_response_to="_other").sign_response()


@case(
    "E22",
    allow=True,
    each={
        "neither": {"in_response_to": None, "confirmation_in_response_to": None},
        "response_only": {"confirmation_in_response_to": None},
        "confirmation_only": {"in_response_to": None},
    },
)
def e22_request_named_once_or_never(changes: Mapping[str, Any]) -> Launch:
    """InResponseTo stands in one place or, with a sign-in started at the IdP, in none:"""
    return Launch(**changes).sign()


@case("E23", deny="authn_statement_missing", bug=CLAIM, origin="python3-saml no_authnstatement", each=BOTH_WAYS)
def e23_no_authn_statement(response: bool) -> Launch:
    """The assertion has attributes only:"""
    return signer(Launch().drop(STATEMENT), response=response)


@case(
    "E25",
    policy={"authn_contexts": [n.REFEDS_MFA]},
    deny="authn_context",
    bug=CLAIM,
    each={
        "other": n.PASSWORD,
        "longer": n.REFEDS_MFA + "/x",
        "upper_case": n.REFEDS_MFA.upper(),
        "trailing_blank": n.REFEDS_MFA + " ",
        "empty": "",
    },
)
def e25_other_context(context: str) -> Launch:
    """The policy asks for MFA and the context class is not exactly that:"""
    return Launch(context=context).sign()


@case("E25", policy={"authn_contexts": [n.REFEDS_MFA]}, deny="authn_context", bug=CLAIM)
def e25_no_context() -> Launch:
    """The policy asks for MFA and there is no AuthnContextClassRef."""
    return Launch().drop(CONTEXT + "/saml:AuthnContextClassRef").sign()


@case("E25", policy={"authn_contexts": [n.REFEDS_MFA]}, deny="authn_context", bug=CLAIM)
def e25_context_in_a_declaration() -> Launch:
    """The policy asks for MFA, which only an AuthnContextDeclRef names."""
    launch = Launch().drop(CONTEXT + "/saml:AuthnContextClassRef")
    below(launch.find(CONTEXT), "saml:AuthnContextDeclRef", n.REFEDS_MFA)
    return launch.sign()


@case(
    "E25",
    policy={"authn_contexts": [n.PASSWORD, n.REFEDS_MFA]},
    allow=True,
    each={"first": n.PASSWORD, "last": n.REFEDS_MFA},
)
def e25_listed_context(context: str) -> Launch:
    """The context class is one of those that the policy lists:"""
    return Launch(context=context).sign()


@case("E25", policy={"authn_contexts": [n.REFEDS_MFA]}, deny="authn_context", bug=CLAIM)
def e25_second_statement_with_the_listed_context() -> Launch:
    """Two AuthnStatements, of which only one has the context class that the policy asks for."""
    launch = Launch()
    extra = copy.deepcopy(launch.find(STATEMENT))
    next(extra.iter(qname("saml:AuthnContextClassRef"))).text = n.REFEDS_MFA
    return launch.add("saml:Assertion", extra).sign()


@case(
    "E26",
    deny="saml_version",
    bug=CLAIM,
    each={
        "assertion_1.1": ("saml:Assertion", "1.1"),
        "assertion_2.1": ("saml:Assertion", "2.1"),
        "assertion_blank": ("saml:Assertion", "2.0 "),
        "assertion_short": ("saml:Assertion", "2"),
        "assertion_long": ("saml:Assertion", "2.00"),
        "response_1.1": (".", "1.1"),
        "response_2.1": (".", "2.1"),
        "response_full_width": (".", "\uff12.0"),
    },
)
def e26_other_version(change: tuple[str, str]) -> Launch:
    """The version is not 2.0:"""
    return Launch().set(change[0], Version=change[1]).sign()


@case(
    "E27a",
    deny=("issuer_mismatch", "issuer_missing"),
    bug=CLAIM,
    each={"same": n.IDP, "other": "https://other.example/saml"},
)
def e27a_two_issuers(issuer: str) -> Launch:
    """The assertion, genuinely signed, has a second Issuer:"""
    return Launch().add("saml:Assertion", element("saml:Issuer", issuer), 1).sign(index=1)


@case("E27b", deny="subject_invalid", alone=False, both=True, bug=CLAIM, each={"first": 1, "last": None})
def e27b_two_subjects(index: int | None) -> Launch:
    """The assertion, genuinely signed, has a second Subject that names the victim:"""
    launch = Launch()
    second = claim_upn(unsigned(launch.find(SUBJECT)), n.ADMIN)
    return launch.add("saml:Assertion", second, index).sign()


@case("E27c", deny="upn_ambiguous", bug=CLAIM, each={"first": 0, "last": 1}, policy={"upn_from": ["nameid"]})
def e27c_two_name_ids(index: int) -> Launch:
    """Subject, genuinely signed, has a second NameID that names the victim; the UPN is taken from NameID:"""
    return Launch().add(SUBJECT, element("saml:NameID", n.ADMIN), index).sign()


@case("E27c", deny="upn_ambiguous", bug=CLAIM)
def e27c_two_name_ids_beside_the_attribute() -> Launch:
    """Two NameIDs, although the UPN is taken from the attribute."""
    return Launch().add(SUBJECT, element("saml:NameID", n.ALICE), 1).sign()


@case(
    "E28",
    deny="issuer_mismatch",
    bug=CLAIM,
    origin="SAML core 4.1.4.2",
    each={
        "persistent": {"Format": n.PERSISTENT},
        "unspecified": {"Format": n.UNSPECIFIED},
        "empty_format": {"Format": ""},
        "qualifier": {"NameQualifier": "x"},
        "sp_qualifier": {"SPNameQualifier": "x"},
        "provided_id": {"SPProvidedID": "x"},
    },
)
def e28_issuer_with_attributes(attributes: dict[str, str]) -> Launch:
    """The assertion's Issuer carries what only other names carry:"""
    return Launch().set("saml:Assertion/saml:Issuer", **attributes).sign()


@case("E28", allow=True)
def e28_issuer_of_entity_format() -> Launch:
    """Both Issuers carry the Format for entities."""
    return Launch().set("saml:Assertion/saml:Issuer", Format=n.ENTITY).set("saml:Issuer", Format=n.ENTITY).sign()


@case("E29", deny="subject_confirmation", bug=CLAIM, origin="SAML profiles 4.1.4.2", each={"past": -60, "future": 600})
def e29_confirmation_with_not_before(seconds: int) -> Launch:
    """The bearer confirmation has a NotBefore, which it must not have:"""
    return Launch().set(DATA, NotBefore=instant(seconds)).sign()


@case("E30", deny="subject_invalid", bug=CLAIM)
def e30_no_subject() -> Launch:
    """The assertion has no Subject; the UPN attribute alone names a user."""
    return Launch().drop(SUBJECT).sign()


@case("E27b", deny="subject_invalid", bug=CLAIM)
def e27b_second_subject_without_a_name() -> Launch:
    """A second Subject holds only a confirmation."""
    launch = Launch()
    second = unsigned(launch.find(SUBJECT))
    second.remove(second[0])
    return launch.add("saml:Assertion", second).sign()


@case("E30", deny="subject_invalid", bug=CLAIM)
def e30_empty_subject() -> Launch:
    """Subject has no content."""
    launch = Launch()
    subject = launch.find(SUBJECT)
    for child in list(subject):
        subject.remove(child)
    return launch.sign()


@case("E33", allow=True)
def e33_second_statement() -> Launch:
    """Two AuthnStatements, as some proxies send."""
    launch = Launch()
    return launch.add("saml:Assertion", copy.deepcopy(launch.find(STATEMENT))).sign()


def other_confirmation(**changes: str | None) -> etree._Element:
    """A bearer confirmation with one thing changed."""
    launch = Launch()
    for key, value in changes.items():
        launch.set(CONFIRMATION if key == "Method" else DATA, **{key: value})
    return launch.find(CONFIRMATION)


@case(
    "E34",
    deny=("recipient_mismatch", "subject_confirmation"),
    alone=False,
    bug=CLAIM,
    origin="one confirmation must hold in all its parts",
)
def e34_two_half_good_confirmations() -> Launch:
    """One bearer confirmation has our Recipient and has ended, the other is for somebody else."""
    launch = Launch(confirmed_until=instant(-10))
    return launch.add(SUBJECT, other_confirmation(Recipient="https://other.example/acs")).sign()


@case(
    "E47",
    allow=True,
    origin="CVE-2026-49284",
    each={
        "id": lambda launch: launch.set(".", ID="_changed"),
        "issue_instant": lambda launch: launch.set(".", IssueInstant=instant(-99999)),
        "extensions": lambda launch: launch.add(".", extensions(element("saml:AttributeValue", "x")), 1),
        "no_issuer": lambda launch: launch.drop("saml:Issuer"),
        "no_issue_instant": lambda launch: launch.set(".", IssueInstant=None),
    },
)
def e47_unsigned_response_rewritten(act: Callable[[Launch], object]) -> Launch:
    """Fields of the unsigned Response were changed, from which nothing is granted:"""
    return Launch().sign().change(act)


@case("E36", deny="issuer_missing", bug=CLAIM, each={"absent": False, "empty": True})
def e36_no_issuer_on_the_assertion(empty: bool) -> Launch:
    """The assertion has no Issuer, the Response has; it is:"""
    launch = Launch()
    if empty:
        return launch.text("saml:Assertion/saml:Issuer", "").sign()
    return launch.drop("saml:Assertion/saml:Issuer").sign()


@case("E36", deny=("issuer_missing", "issuer_unknown"), bug=CLAIM)
def e36_no_issuer_anywhere() -> Launch:
    """Neither Response nor assertion has an Issuer."""
    return Launch(response_issuer=None).drop("saml:Assertion/saml:Issuer").sign()


@case("E37", deny=("issuer_mismatch", "issuer_missing"), bug=CLAIM)
def e37_issuer_with_a_child() -> Launch:
    """The assertion's Issuer holds the entity ID and then a child element with more text."""
    launch = Launch()
    below(launch.find("saml:Assertion/saml:Issuer"), "saml:Issuer", "x")
    return launch.sign()
