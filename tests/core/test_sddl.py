"""Who may enroll by a template: SDDL as Windows writes it, and text that is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence_service.renewal.sddl import (
    AUTOENROLL,
    ENROLL,
    MAX_SDDL,
    Dacl,
    TemplateRights,
    Unreadable,
    parse_dacl,
    trustee_of,
)

DOMAIN = "S-1-5-21-1004336348-1177238915-682003330"
FAS_SERVERS = f"{DOMAIN}-1655"
NOTHING = TemplateRights()
CONSOLE = (
    f"O:DAG:DAD:PAI(OA;;RPWPCR;{ENROLL};;DA)(OA;;CR;{ENROLL};;DC)(A;;CCDCLCSWRPWPDTLOSDRCWDWO;;;DA)"
    "(A;;LCRPLORC;;;AU)S:AI(AU;CIIDSA;WPCRCCDCWOWDSDDT;;;WD)"
)
"""As the FAS console leaves a template: Domain Admins and Domain Computers enroll."""


def dacl(text: str) -> Dacl:
    """The DACL of text that is readable."""
    read = parse_dacl(text)
    assert isinstance(read, Dacl), read
    return read


def problem(text: str) -> str:
    """Why the text cannot be read."""
    read = parse_dacl(text)
    assert isinstance(read, Unreadable)
    return read.problem


def rights(entries: str, sid: str = "DC") -> TemplateRights:
    """What `sid` may do by these entries."""
    trustee = trustee_of(sid)
    assert trustee is not None
    return dacl(f"D:{entries}").rights_of(trustee)


def test_what_the_console_sets_is_read_as_the_console_means_it() -> None:
    """Owner, group, flags and the audit entries after S: change nothing of who may enroll."""
    read = dacl(CONSOLE)

    assert read.rights_of_alias("DA") == TemplateRights(read=True, write=True, enroll=True)
    assert read.rights_of_alias("DC") == TemplateRights(enroll=True)
    assert read.rights_of_alias("AU") == TemplateRights(read=True)
    assert read.rights_of_alias("DC", "AU") == TemplateRights(read=True, enroll=True)
    assert read.rights_of_alias("EA") == NOTHING
    assert [each.name for each in read.trustees] == ["Domain Admins", "Domain Computers", "Authenticated Users"]


@pytest.mark.parametrize(
    ("entry", "granted"),
    [
        (f"(OA;;CR;{ENROLL};;DC)", TemplateRights(enroll=True)),
        (f"(OA;;CR;{ENROLL.upper()};;DC)", TemplateRights(enroll=True)),
        (f"(OA;;0x130;{ENROLL};;DC)", TemplateRights(enroll=True)),
        (f"(OA;;CR;{AUTOENROLL};;DC)", TemplateRights(autoenroll=True)),
        (f"(OA;;RPWP;{ENROLL};;DC)", NOTHING),
        ("(OA;;CR;00299570-246d-11d0-a768-00aa006e0529;;DC)", NOTHING),
        ("(OA;;RP;00299570-246d-11d0-a768-00aa006e0529;;DC)", NOTHING),
        ("(A;;CR;;;DC)", TemplateRights(enroll=True, autoenroll=True)),
        ("(A;;GR;;;DC)", TemplateRights(read=True)),
        ("(A;;0x80000000;;;DC)", TemplateRights(read=True)),
        ("(A;;GW;;;DC)", TemplateRights(write=True)),
        ("(A;;0x20094;;;DC)", TemplateRights(read=True)),
        ("(A;;131220;;;DC)", TemplateRights(read=True)),
        (
            "(A;;GA;;;DC)",
            TemplateRights(read=True, write=True, enroll=True, autoenroll=True, full_control=True),
        ),
        (
            "(A;;0xf01ff;;;DC)",
            TemplateRights(read=True, write=True, enroll=True, autoenroll=True, full_control=True),
        ),
        ("(A;CIIO;GA;;;DC)", NOTHING),
        ("(A;CI;GR;;;DC)", TemplateRights(read=True)),
        ("(A;;;;;DC)", NOTHING),
        (r'(XA;;GA;;;DC;(@User.Title == "PM" && (Member_of {SID(BA)})))(A;;GR;;;DC)', TemplateRights(read=True)),
    ],
)
def test_an_entry_grants_what_its_rights_and_guid_mean(entry: str, granted: TemplateRights) -> None:
    """Enroll is the extended right on its own GUID, or all extended rights; what may not hold grants nothing."""
    assert rights(entry) == granted


@pytest.mark.parametrize(
    "deny",
    [f"(OD;;CR;{ENROLL};;DC)", "(D;;CR;;;DC)", "(D;;GA;;;DC)", f"(XD;;CR;;;{DOMAIN}-515;(@User.A == 1))"],
)
@pytest.mark.parametrize("order", [1, -1])
def test_what_any_entry_denies_is_denied(deny: str, order: int) -> None:
    """Wherever the denying entry stands, and whichever way it denies, Enroll is not granted."""
    assert not rights("".join([f"(OA;;CR;{ENROLL};;DC)", deny][::order])).enroll


def test_whose_entries_have_conditions_is_told() -> None:
    """Whether they allow or deny; an entry that is only inherited by others has no part in it."""
    read = dacl(
        f"D:(XA;;GR;;;{FAS_SERVERS};(@User.A == 1))(XD;;CR;;;DU;(@User.A == 2))(A;;GR;;;AU)"
        f"(ZA;;CR;{ENROLL};;DC;(@User.A == 3))(XA;CIIO;GA;;;BU;(@User.A == 4))"
    )

    assert [each.name for each in read.conditional] == [FAS_SERVERS, "Domain Users", "Domain Computers"]
    assert dacl(CONSOLE).conditional == ()
    assert not read.rights_of_alias("DC").enroll


def test_denying_enroll_leaves_reading() -> None:
    """A denial takes away what it names."""
    assert rights(f"(OD;;CR;{ENROLL};;DC)(A;;GA;;;DC)") == TemplateRights(
        read=True, write=True, autoenroll=True, full_control=True
    )


def test_a_group_that_is_denied_takes_the_right_from_its_members() -> None:
    """Who is both a FAS server and an authenticated user has what neither is denied."""
    read = dacl(f"D:(OA;;CR;{ENROLL};;{FAS_SERVERS})(A;;GR;;;AU)(D;;CR;;;AU)")
    servers, everybody = read.trustees

    assert read.rights_of(servers).enroll
    assert not read.rights_of(servers, everybody).enroll


def test_a_group_of_a_domain_is_known_by_its_number() -> None:
    """S-1-5-21-…-515 and DC are one group; a group of one's own keeps its SID as its name."""
    read = dacl(f"D:(OA;;CR;{ENROLL};;{DOMAIN}-515)(OA;;CR;{ENROLL};;{FAS_SERVERS})(A;;GR;;;S-1-5-11)")

    assert read.rights_of_alias("DC").enroll
    assert read.rights_of_alias("AU").read
    assert [each.name for each in read.trustees] == ["Domain Computers", FAS_SERVERS, "Authenticated Users"]


def test_no_dacl_allows_everybody_and_an_empty_one_nobody() -> None:
    """A null DACL is written NO_ACCESS_CONTROL; one without entries grants nothing."""
    assert dacl("O:DAD:NO_ACCESS_CONTROL").rights_of_alias("WD").full_control
    assert dacl("D:PAI").rights_of_alias("DA") == NOTHING


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("", "no DACL"),
        ("O:DAG:DAS:(AU;;WP;;;WD)", "no DACL"),
        ("D:(A;;GA;;;DA", "brackets"),
        ("D:)(", "brackets"),
        ("D:(A;;GA;;DA)", "5 fields"),
        ("D:(A;;QQ;;;DA)", "'QQ'"),
        ("D:(A;;GAX;;;DA)", "'GAX'"),
        ("D:(Q;;GA;;;DA)", "unknown type 'Q'"),
        ("D:(OA;;CR;0e10c968;;DA)", "no GUID"),
        ("D:(A;;GA;;;CONTOSO\\FAS)", "neither a SID nor an alias"),
        ("D:XYZ(A;;GA;;;DA)", "flags"),
        (" " * (MAX_SDDL + 1), "longer"),
    ],
)
def test_text_that_is_no_sddl_is_a_finding(text: str, because: str) -> None:
    """What cannot be read grants nothing and names the part that is wrong."""
    assert because in problem(text)


@given(st.text(alphabet="OGDSAPI:;()CRLW0xEaT-1526 ", max_size=200) | st.text(max_size=100))
def test_no_text_makes_the_parser_fail(text: str) -> None:
    """Whatever the directory holds, the answer is a DACL or a finding."""
    read = parse_dacl(text)

    assert isinstance(read, Dacl | Unreadable)
