"""Policy texts: what is read, and which member is named where something is wrong."""

from __future__ import annotations

from datetime import timedelta

import pytest

from evidence_service.access.model import Encryption, Policy, RequireSigned, Reuse, UpnMapping
from evidence_service.access.policy import PolicyError, dump_policy, parse_policy, policy_problems
from idp_certs.model import Acceptance

FULL = """
audiences = ["https://gw.example"]
recipients = ["https://gw.example/cgi/samlauth"]
upn_from = ["attribute:upn", "nameid"]
upn_suffixes = ["corp.example"]
upn_map = [{from = "@contoso.com", to = "@corp.example"}, {from = "a.b@x.example", to = "ab@corp.example"}]
max_age = "8h"
max_authentication_age = ""
clock_skew = "180s"
reuse = "fresh-once"
fresh_within = "10m"
enforce_not_on_or_after = true
enforce_session_expiry = false
enforce_certificate_dates = true
authn_contexts = ["urn:x"]
allow_sha1 = true
require_signed = "both"
encryption = "required"
decryption_keys = ["sp"]
acceptance = "approval"
"""


def test_every_member() -> None:
    """Each member is read to its value."""
    assert parse_policy(FULL) == Policy(
        audiences=("https://gw.example",),
        recipients=("https://gw.example/cgi/samlauth",),
        upn_from=("attribute:upn", "nameid"),
        upn_suffixes=("corp.example",),
        upn_map=(
            UpnMapping(source="@contoso.com", target="@corp.example"),
            UpnMapping(source="a.b@x.example", target="ab@corp.example"),
        ),
        max_age=timedelta(hours=8),
        max_authentication_age=None,
        clock_skew=timedelta(seconds=180),
        reuse=Reuse.FRESH_ONCE,
        fresh_within=timedelta(minutes=10),
        enforce_not_on_or_after=True,
        enforce_session_expiry=False,
        enforce_certificate_dates=True,
        authn_contexts=("urn:x",),
        allow_sha1=True,
        require_signed=RequireSigned.BOTH,
        encryption=Encryption.REQUIRED,
        decryption_keys=("sp",),
        acceptance=Acceptance.APPROVAL,
    )


def test_left_out_is_the_default() -> None:
    """An empty text is the default policy, which allows nobody."""
    assert parse_policy("") == Policy()
    assert policy_problems(parse_policy("")) == (
        "`audiences` is empty; name the SP entity ID of the Gateway or StoreFront",
        "`recipients` is empty; name its assertion consumer URL",
    )
    assert policy_problems(parse_policy(FULL)) == ()
    assert policy_problems(parse_policy(FULL.replace('"attribute:upn", "nameid"', ""))) == (
        "`upn_from` is empty; name where the UPN stands",
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1d", timedelta(days=1)),
        ("1d12h", timedelta(hours=36)),
        ("8h", timedelta(hours=8)),
        ("1d2h3m4s", timedelta(days=1, hours=2, minutes=3, seconds=4)),
        ("90m", timedelta(minutes=90)),
        ("3650d", timedelta(days=3650)),
        ("1s", timedelta(seconds=1)),
    ],
)
def test_durations(text: str, expected: timedelta) -> None:
    """Days, hours, minutes and seconds, in this order, each optional."""
    assert parse_policy(f'max_age = "{text}"').max_age == expected


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("audiences", '"https://gw.example"'),
        ("audiences", '[""]'),
        ("audiences", "[1]"),
        ("audiences", '["a\\nb"]'),
        ("audiences", '["a\\u0000"]'),
        ("audiences", '["a\\u202eb"]'),
        ("recipients", "{}"),
        ("recipients", "true"),
        ("upn_from", '["upn"]'),
        ("upn_from", '["attribute:"]'),
        ("upn_from", '["NameID"]'),
        ("upn_from", '[""]'),
        ("upn_suffixes", '["@corp.example"]'),
        ("upn_suffixes", '["a b"]'),
        ("upn_suffixes", '["e\\u0301"]'),
        ("upn_map", '["@a"]'),
        ("upn_map", '{from = "@a", to = "@b"}'),
        ("upn_map", '[{from = "@a"}]'),
        ("upn_map", '[{from = "@a", to = "@b", why = "c"}]'),
        ("upn_map", '[{from = "@a", to = "b@c"}]'),
        ("upn_map", '[{from = "a@b", to = "@c"}]'),
        ("upn_map", '[{from = "@", to = "@b"}]'),
        ("upn_map", '[{from = "a", to = "b"}]'),
        ("upn_map", '[{from = 1, to = "@b"}]'),
        ("upn_map", '[{from = "@a", to = ""}]'),
        ("max_age", "8"),
        ("max_age", '"8"'),
        ("max_age", '"8 h"'),
        ("max_age", '"h"'),
        ("max_age", '""'),
        ("max_age", '"0s"'),
        ("max_age", '"-1h"'),
        ("max_age", '"1.5h"'),
        ("max_age", '"1m1h"'),
        ("max_age", '"1H"'),
        ("max_age", '"８h"'),
        ("max_age", '"3650d1s"'),
        ("max_age", '"9999999d"'),
        ("max_age", "08:00:00"),
        ("max_authentication_age", '"0s"'),
        ("max_authentication_age", "false"),
        ("clock_skew", '"601s"'),
        ("clock_skew", '"-1s"'),
        ("fresh_within", '"0m"'),
        ("reuse", '"twice"'),
        ("reuse", '"Once"'),
        ("reuse", "1"),
        ("enforce_not_on_or_after", '"true"'),
        ("enforce_session_expiry", "1"),
        ("enforce_certificate_dates", "[]"),
        ("authn_contexts", '"urn:x"'),
        ("allow_sha1", '"no"'),
        ("require_signed", '"none"'),
        ("require_signed", '""'),
        ("encryption", '"optional"'),
        ("decryption_keys", '[""]'),
        ("acceptance", '"always"'),
        ("audience", '["https://gw.example"]'),
        ("MAX_AGE", '"8h"'),
    ],
)
def test_the_member_is_named(member: str, value: str) -> None:
    """What cannot be used is refused in one line that names the member."""
    with pytest.raises(PolicyError) as error:
        parse_policy(f"{member} = {value}")

    assert error.value.member == member
    assert str(error.value).startswith(f"policy member `{member}`: ")
    assert str(error.value).splitlines() == [str(error.value)]


@pytest.mark.parametrize(
    "text",
    ["max_age", "max_age = ", "= 1", "max_age = '8h'\nmax_age = '9h'", "\x00", "max_age = '8h' x", "a = [" * 2000],
)
def test_what_is_no_toml(text: str) -> None:
    """A text that is no TOML is refused in one line."""
    with pytest.raises(PolicyError, match=r"^policy: not TOML: ") as error:
        parse_policy(text)

    assert error.value.member == ""
    assert str(error.value).splitlines() == [str(error.value)]


def test_the_limits_of_the_skew() -> None:
    """Ten minutes of skew and none at all can be set."""
    assert parse_policy('clock_skew = "10m"').clock_skew == timedelta(minutes=10)
    assert parse_policy('clock_skew = "0s"').clock_skew == timedelta(0)


def test_written_as_documented() -> None:
    """A policy is written member by member, in the order of the documentation, and read again the same."""
    text = dump_policy(parse_policy(FULL))

    assert [line.split(" = ")[0] for line in text.splitlines()] == [
        line.split(" = ")[0] for line in FULL.strip().splitlines()
    ]
    assert 'max_age = "8h"\n' in text
    assert 'max_authentication_age = ""\n' in text
    assert parse_policy(text) == parse_policy(FULL)


def test_a_number_without_end() -> None:
    """A number of thousands of digits is refused like any other that does not belong there."""
    with pytest.raises(PolicyError):
        parse_policy("max_age = " + "1" * 5000)


def test_an_unknown_member_in_one_line() -> None:
    """A member whose name holds a line break is still refused in one line."""
    with pytest.raises(PolicyError) as error:
        parse_policy('"a\\nb" = 1')

    assert len(str(error.value).splitlines()) == 1
