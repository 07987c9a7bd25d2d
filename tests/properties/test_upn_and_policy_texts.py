"""Laws of UPNs and of policy texts: folding is ASCII only, the first mapping wins, a policy survives its text."""

from __future__ import annotations

import string
from datetime import timedelta

from hypothesis import example, given
from hypothesis import strategies as st

from evidence_service.access.model import Encryption, Policy, RequireSigned, Reuse, UpnMapping
from evidence_service.access.policy import dump_policy, parse_policy
from evidence_service.access.upn import fold_upn, has_suffix, map_upn, upn_problem
from idp_certs.model import Acceptance
from tests.properties.given import examples

words = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="@"), min_size=1, max_size=8)
likely = st.text(alphabet="abAB.iIkK\u0130\u0131\u212a\u017fßé", min_size=1, max_size=4)
upns = st.one_of(st.builds("{}@{}".format, words, words), st.builds("{}@{}".format, likely, likely)).filter(
    lambda upn: upn_problem(upn) is None
)


@examples(300)
@given(st.text())
def test_folding_twice_is_folding_once(text: str) -> None:
    """Folding is idempotent and keeps the length."""
    assert fold_upn(fold_upn(text)) == fold_upn(text)
    assert len(fold_upn(text)) == len(text)


def test_of_all_characters_only_ascii_capitals_are_folded() -> None:
    """Over the whole of Unicode, folding changes A to Z and nothing else, so that nothing else is ever equated."""
    every = [chr(code) for code in range(0x110000)]

    assert {each for each in every if fold_upn(each) != each} == set(string.ascii_uppercase)
    assert [fold_upn(each) for each in string.ascii_uppercase] == list(string.ascii_lowercase)


@examples(300)
@given(
    st.one_of(st.tuples(upns, upns), upns.map(lambda upn: (upn, upn.swapcase())), upns.map(lambda u: (u, u.upper())))
)
@example(("kelvin@corp.example", "\u212aelvin@corp.example"))
def test_only_ascii_case_is_forgiven(pair: tuple[str, str]) -> None:
    """Two different texts are one UPN only where they differ in the case of ASCII letters."""
    one, other = pair
    alike = len(one) == len(other) and all(
        a == b or (a.isascii() and b.isascii() and a.lower() == b.lower()) for a, b in zip(one, other, strict=True)
    )

    assert (fold_upn(one) == fold_upn(other)) == alike


suffixes = st.sampled_from(("@a.example", "@A.example", "@b.example", "@c.example"))
names = st.sampled_from(("x@a.example", "X@A.example", "y@b.example", "z@c.example"))
mappings = st.one_of(
    st.builds(UpnMapping, source=suffixes, target=suffixes), st.builds(UpnMapping, source=names, target=names)
)


@examples(300)
@given(names, st.lists(mappings, max_size=5))
def test_the_first_mapping_that_fits_wins(upn: str, entries: list[UpnMapping]) -> None:
    """A UPN is mapped by the first entry that fits it, once, and by no other."""
    fitting = [entry for entry in entries if entry.source.lower() in (upn.lower(), "@" + upn.lower().partition("@")[2])]
    expected = upn
    if fitting:
        target = fitting[0].target
        expected = upn.partition("@")[0] + target if target.startswith("@") else target

    assert map_upn(upn, entries) == expected
    assert upn_problem(map_upn(upn, entries)) is None


@examples(200)
@given(upns, st.lists(words, max_size=3))
def test_a_suffix_is_whole(upn: str, others: list[str]) -> None:
    """Only the whole suffix counts, never an end or a beginning of it."""
    suffix = upn.partition("@")[2]

    assert has_suffix(upn, [suffix])
    assert has_suffix(upn, others) == (fold_upn(suffix) in map(fold_upn, others))
    assert not has_suffix(upn, [])


_printable = st.characters(codec="utf-8", exclude_categories=("C", "Z"))
texts = st.one_of(st.text(alphabet=_printable, min_size=1, max_size=8), st.sampled_from(('"', "\\", "a b", "#", "'")))
lists = st.lists(texts, max_size=2).map(tuple)
durations = st.integers(1, 3650 * 86400).map(lambda each: timedelta(seconds=each))
usable_suffixes = st.one_of(
    likely.filter(lambda each: upn_problem("x@" + each) is None),
    st.sampled_from(("corp.example", "é.example", 'a"b', "a\\b")),
)
usable_upns = st.builds("{}@{}".format, usable_suffixes, usable_suffixes)
policies = st.builds(
    Policy,
    audiences=lists,
    recipients=lists,
    upn_from=st.lists(st.one_of(st.just("nameid"), texts.map("attribute:{}".format)), max_size=2).map(tuple),
    upn_suffixes=st.lists(usable_suffixes, max_size=2).map(tuple),
    upn_map=st.lists(
        st.one_of(
            st.builds(UpnMapping, source=usable_upns, target=usable_upns),
            st.builds(UpnMapping, source=usable_suffixes.map("@{}".format), target=usable_suffixes.map("@{}".format)),
        ),
        max_size=2,
    ).map(tuple),
    max_age=durations,
    max_authentication_age=st.one_of(st.none(), durations),
    clock_skew=st.integers(0, 600).map(lambda each: timedelta(seconds=each)),
    reuse=st.sampled_from(Reuse),
    fresh_within=durations,
    enforce_not_on_or_after=st.booleans(),
    enforce_session_expiry=st.booleans(),
    enforce_certificate_dates=st.booleans(),
    authn_contexts=lists,
    allow_sha1=st.booleans(),
    require_signed=st.sampled_from(RequireSigned),
    encryption=st.sampled_from(Encryption),
    decryption_keys=lists,
    acceptance=st.sampled_from(Acceptance),
)


@examples(150)
@given(policies)
@example(Policy())
def test_a_policy_survives_its_text(policy: Policy) -> None:
    """A policy that is written and read again is the same policy, and the same text."""
    text = dump_policy(policy)

    assert parse_policy(text) == policy
    assert dump_policy(parse_policy(text)) == text
