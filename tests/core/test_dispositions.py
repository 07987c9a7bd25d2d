"""What CAs and FAS say when they refuse, in words and with a cure."""

from __future__ import annotations

import pytest

from evidence_service.renewal.dispositions import (
    FAS_SOURCE,
    PKI_SOURCES,
    VDA_SOURCE,
    Refusal,
    explain_disposition,
    explain_event,
    refusal_of,
)

S124 = (
    "[S124] Failed to issue a certificate for [upn: anna@example.test role: default] at [certifcate authority: "
    r"ca.example.test\lab-ca-CA] [exception: MicrosoftCertificateAuthority::SubmitCertificateRequest – the CA returned "
    "CR_DISP_DENIED (code 2)]. [correlation: f901946c-1d9b-4351-9575-2f75eb24094c]"
)
S123 = (
    "[S123] Failed to issue a certificate for [upn: anna@example.test role: default] [exception: The CSR failed at all "
    "configured certificate authorities] [correlation: f901946c-1d9b-4351-9575-2f75eb24094c]"
)


def test_a_denial_names_the_permissions_that_cure_it() -> None:
    """CR_DISP_DENIED is mostly a FAS server without Enroll, and the cure is spelled out for all three templates."""
    denied = explain_disposition(2)

    assert denied.name == "CR_DISP_DENIED"
    assert "New-FasMsTemplate without -Acl" in denied.causes[0]
    for part in (
        "all three templates",
        "Authenticated Users Read",
        "Domain Admins Read, Write and Enroll",
        "FAS servers",
    ):
        assert part in denied.cures[0]


@pytest.mark.parametrize("code", range(7))
def test_every_disposition_is_explained(code: int) -> None:
    """Each code has its name, and each that stops a logon has a cause and a cure."""
    known = explain_disposition(code)

    assert known.name.startswith("CR_DISP_")
    assert (known.causes != ()) == (known.cures != ()) == (code != 3)


def test_a_code_of_no_known_ca_is_said_to_be_one() -> None:
    """An unknown code is not taken for a known one."""
    assert explain_disposition(99).name == "disposition 99"
    assert "Failed Requests" in explain_disposition(99).cures[0]


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (S124, Refusal(certificate_authority=r"ca.example.test\lab-ca-CA", disposition=2)),
        (
            S124.replace("certifcate", "certificate"),
            Refusal(certificate_authority=r"ca.example.test\lab-ca-CA", disposition=2),
        ),
        (S124.replace(" (code 2)", ""), Refusal(certificate_authority=r"ca.example.test\lab-ca-CA", disposition=2)),
        (
            S124.replace("DENIED (code 2)", "NEW (code 9)"),
            Refusal(certificate_authority=r"ca.example.test\lab-ca-CA", disposition=9),
        ),
        (
            S124.replace("CR_DISP_DENIED (code 2)", "nothing"),
            Refusal(certificate_authority=r"ca.example.test\lab-ca-CA", disposition=None),
        ),
        (S123, Refusal(certificate_authority=None, disposition=None)),
        ("CR_DISP_STRANGE", Refusal(certificate_authority=None, disposition=None)),
        ("", Refusal(certificate_authority=None, disposition=None)),
    ],
)
def test_a_refusal_tells_its_ca_and_code(message: str, told: Refusal) -> None:
    """S124 names the CA and its code, in the spelling of each release; what is not there is not made up."""
    assert refusal_of(message) == told


def test_s124_is_explained_by_the_code_in_it() -> None:
    """The CA and what it answered are in the meaning, and the cure is that of the code; the user is not named."""
    known = explain_event(FAS_SOURCE, 124, S124)

    assert known is not None
    assert r"ca.example.test\lab-ca-CA answered CR_DISP_DENIED (code 2)" in known.meaning
    assert known.cures == explain_disposition(2).cures
    assert "anna" not in repr(known)


def test_s124_without_a_code_still_says_where_to_look() -> None:
    """An exception of another kind leads to the CA's failed requests."""
    known = explain_event(FAS_SOURCE, 124, "[S124] Failed to issue [exception: The RPC server is unavailable]")

    assert known is not None
    assert known.cures == ("See certsrv.msc on that CA under Failed Requests.",)


def test_a_number_means_what_its_source_means() -> None:
    """S104 of FAS is a user that the rule leaves out; S104 of a VDA is a FAS server that it cannot reach."""
    fas, vda, pki = (explain_event(each, 104) for each in (FAS_SOURCE, VDA_SOURCE, PKI_SOURCES[0]))

    assert fas is not None
    assert vda is not None
    assert pki is not None
    assert "rule does not allow" in fas.meaning
    assert "cannot reach" in vda.meaning
    assert pki.name == "S0104"
    assert explain_event("Application Error", 104) is None
    assert explain_event(FAS_SOURCE, 9999) is None


def test_both_names_of_the_low_level_source_are_one() -> None:
    """Citrix.TrustFabric of older releases writes the events of Citrix.Fas.PkiCore."""
    newer, older = (explain_event(each, 110) for each in PKI_SOURCES)

    assert newer == older
    assert newer is not None
    assert "refused" in newer.meaning


@pytest.mark.parametrize("number", [1, 2, 101, 102, 103, 104, 122, 123, 124, 205, 206, 208, 402, 413, 414])
def test_what_goes_wrong_on_a_fas_server_has_a_cure(number: int) -> None:
    """Every event that an administrator must do something about says what."""
    known = explain_event(FAS_SOURCE, number)

    assert known is not None
    assert known.cures
