"""Who the evidence speaks for: UPN sources, spelling, mapping and suffixes."""

from __future__ import annotations

from collections.abc import Callable

from tests.corpus import names as n
from tests.corpus.access.claims import NAME_ID, SUBJECT
from tests.corpus.build import case, given
from tests.corpus.good import Launch, attribute, extensions
from tests.corpus.model import BugType, Setting
from tests.corpus.names import qname
from tests.corpus.sign import below, element

WHO = BugType.IDENTITY_CONFUSION
ATTRIBUTES = "saml:Assertion/saml:AttributeStatement"
ATTRIBUTE = ATTRIBUTES + "/saml:Attribute"
VALUE = ATTRIBUTE + "/saml:AttributeValue"
BY_NAME_ID = {"upn_from": ["nameid"]}


ODD_UPNS = {
    "upper_case": given("ALICE@CORP.EXAMPLE", label="E40a", allow=True),
    "leading_blank": given(" alice@corp.example", label="E40b", deny="upn_invalid"),
    "trailing_blank": given("alice@corp.example ", label="E40c", deny="upn_invalid"),
    "zero_width_space": given("alice\u200b@corp.example", label="E40d", deny="upn_invalid"),
    "soft_hyphen": given("al\u00adice@corp.example", label="E40e", deny="upn_invalid"),
    "cyrillic_a": given("\u0430lice@corp.example", label="E40f", deny="upn_mismatch"),
    "decomposed": given("alice\u0301@corp.example", label="E40g", deny="upn_invalid"),
    "two_at": given("alice@corp.example@corp.example", label="E40h", deny="upn_invalid"),
    "kelvin_sign": given("alice@\u212aorp.example", label="E40i", deny="upn_invalid"),
    "long_s": given("alice@corp.example".replace("c", "\u017f", 1), label="E40j", deny="upn_mismatch"),
    "dotless_i": given("al\u0131ce@corp.example", label="E40k", deny="upn_mismatch"),
    "full_width_a": given("\uff41lice@corp.example", label="E40l", deny="upn_mismatch"),
    "right_to_left": given("\u202ealice@corp.example", label="E40m", deny="upn_invalid"),
    "empty": given("", label="E40n", deny="upn_invalid"),
    "newline": given("alice@corp.example\n", label="E40o", deny="upn_invalid"),
    "trailing_dot": given("alice@corp.example.", label="E40p", deny="upn_mismatch"),
    "no_at": given("alice", label="E40q", deny="upn_invalid"),
    "full_width_at": given("alice\uff20corp.example", label="E40r", deny="upn_invalid"),
    "tab": given("alice\t@corp.example", label="E40t", deny="upn_invalid"),
    "no_break_space": given("alice\u00a0@corp.example", label="E40u", deny="upn_invalid"),
    "byte_order_mark": given("\ufeffalice@corp.example", label="E40v", deny="upn_invalid"),
    "only_at": given("@", label="E40w", deny="upn_invalid"),
    "no_name": given("@corp.example", label="E40w", deny="upn_invalid"),
    "no_suffix": given("alice@", label="E40w", deny="upn_invalid"),
    "dotted_capital_i": given("al\u0130ce@corp.example", label="E40k", deny="upn_mismatch"),
    "greek_question_mark": given("alice\u037e@corp.example", label="E40i", deny="upn_invalid"),
    "other_local_part": given("alic@corp.example", label="E40x", deny="upn_mismatch"),
    "prefix": given("xalice@corp.example", label="E40x", deny="upn_mismatch"),
    "sub_domain": given("alice@a.corp.example", label="E40x", deny="upn_mismatch"),
    "longer_suffix": given("alice@corp.example.evil.example", label="E40x", deny="upn_mismatch"),
    "down_level_name": given("CORP\\alice", label="E40y", deny="upn_invalid"),
    "angle_brackets": given("Alice <alice@corp.example>", label="E40y", deny="upn_invalid"),
    "mail_url": given("mailto:alice@corp.example", label="E40y", deny="upn_mismatch"),
    "two_upns": given("alice@corp.example,admin@corp.example", label="E40y", deny="upn_invalid"),
    "plus_tag": given("alice+x@corp.example", label="E40y", deny="upn_mismatch"),
    "line_separator": given("alice@corp.example\u2028", label="E40o", deny="upn_invalid"),
    "carriage_return": given("alice@corp.example\r", label="E40o", deny="upn_invalid"),
    "next_line": given("alice@corp.example\u0085", label="E40o", deny="upn_invalid"),
    "variation_selector": given("alice\ufe0f@corp.example", label="E40d", deny=("upn_mismatch", "upn_invalid")),
    "joiner": given("al\u200dice@corp.example", label="E40d", deny="upn_invalid"),
    "tag_character": given("alice\U000e0061@corp.example", label="E40d", deny="upn_invalid"),
    "private_use": given("alice\ue000@corp.example", label="E40d", deny="upn_invalid"),
    "unassigned": given("alice\u0378@corp.example", label="E40d", deny="upn_invalid"),
    "percent_encoded": given("alice%40corp.example", label="E40r", deny="upn_invalid"),
    "small_at": given("alice\ufe6bcorp.example", label="E40r", deny="upn_invalid"),
    "ideographic_dot": given("alice@corp\u3002example", label="E40p", deny="upn_mismatch"),
    "punycode": given("alice@xn--corp.example", label="E40p", deny="upn_mismatch"),
    "other_whole_user": given(n.ADMIN, label="E40z", deny="upn_mismatch"),
}


@case("E40", alone=False, bug=WHO, origin="normalisation bugs of GHES and Okta", each=ODD_UPNS)
def e40_upn(value: str) -> Launch:
    """The UPN attribute, for the expected alice@corp.example, is:"""
    return Launch(upn=value).sign()


@case(
    "E40",
    bug=WHO,
    alone=False,
    policy=BY_NAME_ID,
    each={
        name: ODD_UPNS[name]
        for name in (
            "upper_case", "trailing_blank", "zero_width_space", "cyrillic_a", "decomposed", "kelvin_sign", "empty",
            "newline", "two_at", "no_at", "other_whole_user", "sub_domain",
        )
    },
)  # fmt: skip
def e40_name_id(value: str) -> Launch:
    """The NameID, from which the policy takes the UPN, is, for the expected alice@corp.example:"""
    return Launch(name_id=value, upn=None).sign()


@case("E40s", deny="upn_mismatch", upn="strasse@corp.example", bug=WHO)
def e40s_sharp_s() -> Launch:
    """The UPN has a sharp s where the expected one has ss: str.casefold joins them."""
    return Launch(upn="stra\u00dfe@corp.example").sign()


@case(
    "E40",
    bug=WHO,
    deny="upn_mismatch",
    each={
        "umlaut_case": given("\u00fcnal@corp.example", upn="\u00dcnal@corp.example"),
        "greek_sigma": given("\u03c3@corp.example", upn="\u03c2@corp.example"),
        "full_width_digit": given("user\uff11@corp.example", upn="user1@corp.example"),
        "roman_numeral": given("user\u2160@corp.example", upn="useri@corp.example"),
        "ligature": given("o\ufb03ce@corp.example", upn="office@corp.example"),
        "superscript": given("user\u00b2@corp.example", upn="user2@corp.example"),
    },
)
def e40_two_spellings(value: str) -> Launch:
    """Evidence and request spell the name so that some folding joins them; only ASCII letters fold:"""
    return Launch(upn=value).sign()


@case(
    "E40",
    allow=True,
    each={
        "request_upper": given(n.ALICE, upn="Alice@CORP.example"),
        "both": given("aLICE@corp.EXAMPLE", upn="Alice@Corp.Example"),
    },
)
def e40_ascii_case(value: str) -> Launch:
    """Evidence and request differ in the case of ASCII letters."""
    return Launch(upn=value).sign()


@case(
    "E40",
    alone=False,
    bug=WHO,
    each={
        "empty": given(upn="", deny="upn_expected_missing"),
        "blank": given(upn=" ", deny="upn_invalid"),
        "no_at": given(upn="alice", deny="upn_invalid"),
        "trailing_blank": given(upn="alice@corp.example ", deny="upn_invalid"),
        "newline": given(upn="alice@corp.example\n", deny="upn_invalid"),
        "decomposed": given(upn="alice\u0301@corp.example", deny="upn_invalid"),
        "two_at": given(upn="alice@corp.example@corp.example", deny="upn_invalid"),
        "nul": given(upn="alice@corp.example\x00", deny="upn_invalid"),
        "wildcard": given(upn="*@corp.example", deny="upn_mismatch"),
    },
)
def e40_expected_upn(_: object) -> Launch:
    """The evidence is alice's, and the UPN that FAS presents is:"""
    return Launch().sign()


@case("E40", deny="upn_expected_missing", alone=False, upn="", bug=BugType.FAIL_OPEN)
def e40_both_empty() -> Launch:
    """Neither the request nor the evidence names anybody: nothing equals nothing."""
    return Launch(upn="").sign()


@case("E40", deny="upn_expected_missing", upn="", bug=BugType.FAIL_OPEN)
def e40_no_expected_upn() -> Launch:
    """The evidence is good, and FAS presents no UPN."""
    return Launch().sign()


@case("E40", deny="upn_invalid", alone=False, bug=WHO)
def e40_very_long_upn() -> Launch:
    """The UPN is of 20,000 characters."""
    return Launch(upn="a" * 20_000 + "@corp.example").sign()


@case(
    "E41",
    deny="upn_suffix_not_allowed",
    bug=WHO,
    each={
        "other": given("bob@other.example", upn="bob@other.example"),
        "sub_domain": given("bob@a.corp.example", upn="bob@a.corp.example"),
        "longer": given("bob@corp.example.evil.example", upn="bob@corp.example.evil.example"),
        "shorter": given("bob@example", upn="bob@example"),
        "glued": given("bob@evilcorp.example", upn="bob@evilcorp.example"),
        "trailing_dot": given("bob@corp.example.", upn="bob@corp.example."),
    },
)
def e41_other_suffix(upn: str) -> Launch:
    """Evidence and request agree on a user of a suffix that this IdP may not speak for:"""
    return Launch(upn=upn).sign()


@case("E41", deny="upn_suffix_not_allowed", policy={"upn_suffixes": []}, bug=BugType.FAIL_OPEN)
def e41_no_suffix_allowed() -> Launch:
    """The policy lists no suffix, which means nobody."""
    return Launch().sign()


@case("E41", deny="upn_suffix_not_allowed", policy={"upn_suffixes": None}, bug=BugType.FAIL_OPEN)
def e41_suffixes_left_out() -> Launch:
    """The policy does not name `upn_suffixes`, which means nobody."""
    return Launch().sign()


@case("E41", allow=True, policy={"upn_suffixes": ["a.example", "CORP.example"]})
def e41_second_suffix() -> Launch:
    """The policy lists several suffixes, in another case."""
    return Launch().sign()


@case(
    "E42",
    deny="upn_ambiguous",
    bug=WHO,
    each={"victim_last": (n.ALICE, n.ADMIN), "victim_first": (n.ADMIN, n.ALICE), "same": (n.ALICE, n.ALICE)},
    both=True,
)
def e42_attribute_twice(values: tuple[str, str]) -> Launch:
    """The UPN attribute occurs twice:"""
    launch = Launch(upn=values[0])
    return launch.add(ATTRIBUTES, attribute(n.UPN, values[1])).sign()


@case("E42", deny="upn_ambiguous", both=True, bug=WHO)
def e42_attribute_in_two_statements() -> Launch:
    """The UPN attribute occurs in two AttributeStatements."""
    launch = Launch()
    statement = element("saml:AttributeStatement")
    statement.append(attribute(n.UPN, n.ADMIN))
    return launch.add("saml:Assertion", statement).sign()


@case(
    "E43",
    deny="upn_ambiguous",
    both=True,
    bug=WHO,
    each={"two": (n.ADMIN,), "same": (n.ALICE,), "many": (n.ADMIN,) * 50},
)
def e43_several_values(values: tuple[str, ...]) -> Launch:
    """The UPN attribute has further values:"""
    launch = Launch()
    for value in values:
        below(launch.find(ATTRIBUTE), "saml:AttributeValue", value)
    return launch.sign()


@case("E43", deny=("upn_ambiguous", "upn_invalid"), bug=WHO)
def e43_second_value_empty() -> Launch:
    """The UPN attribute has a second, empty value."""
    launch = Launch()
    below(launch.find(ATTRIBUTE), "saml:AttributeValue")
    return launch.sign()


@case("E43", deny="upn_ambiguous", bug=WHO)
def e43_second_attribute_in_another_name_format() -> Launch:
    """The UPN attribute occurs again with another NameFormat."""
    launch = Launch()
    return launch.add(ATTRIBUTES, attribute(n.UPN, n.ADMIN, NameFormat=n.URI_NAME)).sign()


@case("E44", deny="upn_missing", bug=WHO, each={"no_statement": True, "no_attribute": False})
def e44_no_attribute(statement: bool) -> Launch:
    """The UPN stands only in NameID, and the policy takes it from the attribute; absent is:"""
    return (Launch(upn=None) if statement else Launch(upn_attribute="urn:example:other")).sign()


@case("E44", deny="upn_missing", bug=WHO)
def e44_attribute_without_value() -> Launch:
    """The UPN attribute has no AttributeValue."""
    return Launch().drop(VALUE).sign()


@case("E44", deny="upn_missing", bug=WHO, policy=BY_NAME_ID)
def e44_no_name_id() -> Launch:
    """The policy takes the UPN from NameID, and only the attribute holds it."""
    return Launch().drop(NAME_ID).sign()


@case("E45", deny="upn_invalid", both=True, bug=WHO, each={"name_id": "saml:NameID", "value": "saml:AttributeValue"})
def e45_nested_value(name: str) -> Launch:
    """The UPN's AttributeValue holds a child element with the name:"""
    launch = Launch()
    holder = launch.find(VALUE)
    holder.text = None
    below(holder, name, n.ALICE)
    return launch.sign()


@case("E45", deny="upn_invalid", both=True, bug=WHO)
def e45_value_cut_by_a_child() -> Launch:
    """The UPN's AttributeValue is cut by a child element: a reader of the first text sees alice."""
    launch = Launch()
    below(launch.find(VALUE), "saml:NameID").tail = ".evil.example"
    return launch.sign()


@case("E45", deny="upn_invalid", policy=BY_NAME_ID, both=True, bug=WHO)
def e45_name_id_cut_by_a_child() -> Launch:
    """NameID is cut by a child element."""
    launch = Launch()
    below(launch.find(NAME_ID), "saml:NameID", n.ADMIN)
    return launch.sign()


@case(
    "E46",
    deny="upn_missing",
    bug=WHO,
    upn=n.ADMIN,
    origin="nOAuth",
    each={
        "email": n.CLAIMS + "emailaddress",
        "name": n.CLAIMS + "name",
        "upper_case": n.UPN.upper(),
        "other_case": n.CLAIMS + "UPN",
        "trailing_blank": n.UPN + " ",
        "short": "upn",
        "longer": n.UPN + "2",
        "https": n.UPN.replace("http:", "https:"),
        "mail": "urn:oid:0.9.2342.19200300.100.1.3",
    },
)
def e46_similar_attribute(name: str) -> Launch:
    """Only a similar attribute carries the victim's name:"""
    return Launch(upn=n.ADMIN, upn_attribute=name).sign()


@case("E47b", deny="upn_missing", bug=WHO, upn=n.ADMIN, origin="IIP-SP11", each={"claim": n.UPN, "short": "upn"})
def e47b_friendly_name(name: str) -> Launch:
    """Another attribute has the FriendlyName of the UPN:"""
    launch = Launch(upn=n.ADMIN, upn_attribute="urn:oid:9.9.9")
    return launch.set(ATTRIBUTE, FriendlyName=name).sign()


def nested_statement(upn: str) -> Launch:
    """An AttributeStatement inside an attribute's value."""
    launch = Launch(upn="x", upn_attribute="urn:example:other")
    statement = below(launch.find(VALUE), "saml:AttributeStatement")
    statement.append(attribute(n.UPN, upn))
    return launch.sign()


def nested_in_advice(upn: str) -> Launch:
    """An AttributeStatement inside Advice."""
    launch = Launch(upn=None)
    advice = below(launch.assertion, "saml:Advice")
    below(advice, "saml:AttributeStatement").append(attribute(n.UPN, upn))
    return launch.sign()


def nested_in_extensions(upn: str) -> Launch:
    """An AttributeStatement inside Extensions of a signed Response."""
    statement = element("saml:AttributeStatement")
    statement.append(attribute(n.UPN, upn))
    return Launch(upn=None).add(".", extensions(statement), 1).sign_response()


def in_another_namespace(upn: str) -> Launch:
    """An AttributeStatement of SAML 1.1."""
    launch = Launch(upn=upn)
    launch.find(ATTRIBUTES).tag = "{urn:oasis:names:tc:SAML:1.0:assertion}AttributeStatement"
    return launch.sign()


def directly_below(upn: str) -> Launch:
    """An Attribute directly below the assertion."""
    launch = Launch(upn=None)
    launch.assertion.append(attribute(n.UPN, upn))
    return launch.sign()


@case(
    "E47c",
    deny="upn_missing",
    bug=WHO,
    upn=n.ADMIN,
    each={
        "attribute_value": nested_statement,
        "advice": nested_in_advice,
        "extensions": nested_in_extensions,
        "wrong_namespace": in_another_namespace,
        "attribute_below_assertion": directly_below,
    },
)
def e47c_attribute_in_another_place(build: Callable[[str], Launch]) -> Launch:
    """The UPN attribute stands only in another place:"""
    return build(n.ADMIN)


@case(
    "E48",
    policy={"upn_from": [f"attribute:{n.UPN}", "nameid"]},
    bug=WHO,
    each={
        "attribute_decides": given((n.ALICE, n.ADMIN), allow=True),
        "name_id_does_not": given((n.ADMIN, n.ALICE), deny="upn_mismatch"),
        "name_id_where_no_attribute": given((None, n.ALICE), allow=True),
        "empty_attribute_decides": given(("", n.ALICE), deny="upn_invalid"),
    },
)
def e48_first_source_decides(values: tuple[str | None, str]) -> Launch:
    """Two sources are configured and the first that is present decides; attribute and NameID differ:"""
    return Launch(upn=values[0], name_id=values[1]).sign()


MAP = {
    "upn_map": [
        {"from": "a.b@x.example", "to": "ab@corp.example"},
        {"from": "@contoso.com", "to": "@corp.example"},
    ]
}


@case(
    "E49",
    policy=MAP,
    bug=WHO,
    each={
        "suffix": given("alice@contoso.com", allow=True),
        "suffix_in_other_case": given("alice@CONTOSO.com", allow=True),
        "whole": given("a.b@x.example", upn="ab@corp.example", allow=True),
        "whole_for_another": given("a.b@x.example", deny="upn_mismatch"),
        "unmapped_form_presented": given(
            "alice@contoso.com", upn="alice@contoso.com", deny="upn_mismatch", alone=False
        ),
        "other_suffix": given("alice@fabrikam.com", deny="upn_mismatch", alone=False),
        "sub_domain": given("alice@a.contoso.com", deny="upn_mismatch", alone=False),
        "not_needed": given(n.ALICE, allow=True),
    },
)
def e49_mapping(value: str) -> Launch:
    """The policy maps a suffix and one user; the evidence says:"""
    return Launch(upn=value).sign()


@case(
    "E49",
    policy={"upn_map": [{"from": "@contoso.com", "to": "@other.example"}]},
    upn="alice@other.example",
    deny="upn_suffix_not_allowed",
    bug=WHO,
)
def e49_mapped_to_a_suffix_that_is_not_allowed() -> Launch:
    """The suffix after mapping is judged, not the one before."""
    return Launch(upn="alice@contoso.com").sign()


@case(
    "E50",
    policy=BY_NAME_ID,
    deny="upn_invalid",
    bug=WHO,
    each={
        "transient": n.TRANSIENT,
        "encrypted": "urn:oasis:names:tc:SAML:2.0:nameid-format:encrypted",
        "entity": n.ENTITY,
        "empty": "",
    },
)
def e50_name_id_format(name_id_format: str) -> Launch:
    """The policy takes the UPN from NameID, whose Format cannot hold one:"""
    return Launch(name_id_format=name_id_format, upn=None).sign()


@case(
    "E51",
    bug=WHO,
    each={
        "not_listed": given(rule="launch", setting=Setting(rules={"default": None}), deny="rule_not_allowed"),
        "listed": given(rule="launch", setting=Setting(rules={"launch": None}), allow=True),
        "for_another_idp": given(
            rule="launch", setting=Setting(rules={"launch": (n.OTHER_IDP,)}), deny="rule_not_allowed"
        ),
        "for_this_idp": given(rule="launch", setting=Setting(rules={"launch": (n.OTHER_IDP, n.IDP)}), allow=True),
        "other_case": given(rule="Launch", setting=Setting(rules={"launch": None}), deny="rule_not_allowed"),
        "none_presented_and_default_listed": given(setting=Setting(rules={"default": None}), allow=True),
        "none_presented_and_default_not_listed": given(
            setting=Setting(rules={"launch": None}), deny="rule_not_allowed"
        ),
        "for_no_idp": given(rule="launch", setting=Setting(rules={"launch": ()}), deny="rule_not_allowed"),
    },
)
def e51_fas_rule(_: object) -> Launch:
    """FAS rules are configured, and the request names a rule:"""
    return Launch().sign()


@case("E51", allow=True, rule="anything")
def e51_no_rules_configured() -> Launch:
    """No FAS rule is configured: any is accepted and enforced."""
    return Launch().sign()


@case("E52", deny="upn_mismatch", alone=False, upn=n.ADMIN, bug=WHO)
def e52_victim_in_name_id_only() -> Launch:
    """NameID names the victim, the UPN attribute the attacker; the attribute decides."""
    return Launch(name_id=n.ADMIN).sign()


@case("E52", allow=True)
def e52_victim_in_name_id_for_the_user_of_the_attribute() -> Launch:
    """The same evidence for the user whom the attribute names."""
    return Launch(name_id=n.ADMIN).sign()


@case("E53", deny="upn_missing", bug=WHO, policy=BY_NAME_ID)
def e53_name_id_only_in_the_confirmation() -> Launch:
    """NameID stands only inside SubjectConfirmation, where it names the confirming party."""
    launch = Launch().drop(NAME_ID)
    launch.find(SUBJECT + "/saml:SubjectConfirmation").insert(0, element("saml:NameID", n.ALICE))
    return launch.sign()


@case("E53", deny="upn_missing", bug=WHO, policy=BY_NAME_ID)
def e53_base_id() -> Launch:
    """Subject holds a BaseID instead of a NameID."""
    launch = Launch()
    launch.find(NAME_ID).tag = qname("saml:BaseID")
    return launch.sign()
