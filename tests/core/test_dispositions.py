"""What CAs say when they refuse, in words and with a cure."""

from __future__ import annotations

import pytest

from evidence_service.renewal.dispositions import (
    Refusal,
    explain_disposition,
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
