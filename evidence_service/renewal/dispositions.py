"""What a CA's disposition code means, why it happens, and what cures it (`domain/fas.md` C)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

CR_DISP_DENIED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What one code means; `causes` and `cures` are sentences, the likeliest first. Without cures nothing is wrong."""

    name: str
    meaning: str
    causes: tuple[str, ...] = ()
    cures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    r"""What S123 or S124 tells of a refused request: the CA (`host\CA name`) and its code, where the text has them."""

    certificate_authority: str | None
    disposition: int | None


_CA = re.compile(r"\[\s*+certifi?cate authority:\s*+([^\]\r\n]{1,512})\]", re.IGNORECASE)  # FAS writes "certifcate"
_CODE = re.compile(r"CR_DISP_[A-Z_]{1,40}[^\[\]\r\n]{0,20}?\(code\s+([0-9]{1,10})\)|CR_DISP_([A-Z_]{1,40})")
_NAMES = (
    "CR_DISP_INCOMPLETE",
    "CR_DISP_ERROR",
    "CR_DISP_DENIED",
    "CR_DISP_ISSUED",
    "CR_DISP_ISSUED_OUT_OF_BAND",
    "CR_DISP_UNDER_SUBMISSION",
    "CR_DISP_REVOKED",
)


def refusal_of(message: str) -> Refusal:
    """The CA and its disposition from the message of S123 or S124; each None where the text does not tell it."""
    authority, code = _CA.search(message), _CODE.search(message)
    disposition = None
    if code is not None:
        name = f"CR_DISP_{code[2]}"
        disposition = int(code[1]) if code[1] else _NAMES.index(name) if name in _NAMES else None
    return Refusal(certificate_authority=authority[1].rstrip() if authority else None, disposition=disposition)


def explain_disposition(code: int) -> Explanation:
    """The CA's disposition (`certcli.h`, CR_DISP_*); a code of no known CA is said to be one."""
    known = _DISPOSITIONS.get(code)
    return known or Explanation(
        name=f"disposition {code}",
        meaning="The CA answered with a code that no known CA has.",
        cures=("See the request in certsrv.msc under Failed Requests.",),
    )


_ENROLL_CURE = (
    "Give on all three templates (certtmpl.msc, Security): Authenticated Users Read; Domain Admins Read, Write and "
    "Enroll; and a group that holds only the FAS servers' computer accounts Read and Enroll (Domain Computers works "
    "too, but lets every computer ask for an enrollment agent certificate)."
)

_DISPOSITIONS: Mapping[int, Explanation] = {
    0: Explanation(
        name=_NAMES[0],
        meaning="The request was not complete.",
        causes=("The CA was stopped, or the connection broke, while it was asked.",),
        cures=("Check that the CA's service runs and answers (`certutil -ping`), then ask again.",),
    ),
    1: Explanation(
        name=_NAMES[1],
        meaning="The CA failed while it handled the request.",
        causes=(
            "The CA's service has a fault of its own, such as a CRL that it cannot check.",
            "The request does not suit the template.",
        ),
        cures=("See certsrv.msc under Failed Requests, and the CA's Application log.",),
    ),
    CR_DISP_DENIED: Explanation(
        name=_NAMES[CR_DISP_DENIED],
        meaning="The CA denied the request.",
        causes=(
            (
                "The FAS server may not enroll by the template: templates made with New-FasMsTemplate without -Acl "
                "give nobody but Domain Admins that right."
            ),
            "The authorization certificate has expired, or is revoked.",
            "Enrollment agent restrictions of the CA leave out FAS, the template or the user.",
            "The template is not published at this CA.",
            "The template asks for a UPN or an e-mail address that the user does not have.",
            "A CA manager denied it.",
        ),
        cures=(
            _ENROLL_CURE,
            "See the exact error in certsrv.msc under Failed Requests.",
            "Check the authorization certificate with `Get-FasAuthorizationCertificate -FullCertInfo`.",
            "See the CA's properties in certsrv.msc, Enrollment Agents.",
            "Publish the template: certsrv.msc, Certificate Templates, New.",
        ),
    ),
    3: Explanation(name=_NAMES[3], meaning="The certificate was issued."),
    4: Explanation(
        name=_NAMES[4],
        meaning="The certificate was issued, but is delivered in another way than as the answer.",
        causes=("The CA's policy module delivers certificates by itself; AD CS does not.",),
        cures=("Make the CA answer requests directly; FAS takes nothing else.",),
    ),
    5: Explanation(
        name=_NAMES[5],
        meaning="The request waits for the CA manager.",
        causes=(
            "For an authorization certificate that is meant to be so.",
            "For a user's certificate, the template asks for the CA manager's approval.",
        ),
        cures=(
            "Authorization certificate: issue it in certsrv.msc under Pending Requests, after checking who asked.",
            (
                "User's certificate: clear CA certificate manager approval in the template (certtmpl.msc, Issuance "
                "Requirements); never clear it in Citrix_RegistrationAuthority_ManualAuthorization."
            ),
        ),
    ),
    6: Explanation(
        name=_NAMES[6],
        meaning="The certificate is revoked.",
        causes=("A CA manager revoked it.",),
        cures=("Ask the CA manager why, and renew: a key that others may know lets them enroll anybody.",),
    ),
}
