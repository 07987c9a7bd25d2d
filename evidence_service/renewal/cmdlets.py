"""Each step as the exact FAS cmdlets that it takes, as values: nothing here or elsewhere builds script text.

Only what is in `CMDLETS` can be called, and nothing in it decides a request at a CA (promise 62).
Names and parameters: `domain/fas.md` A.2 to A.5.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from evidence_service.renewal.model import (
    EnterMaintenance,
    Import,
    LeaveMaintenance,
    Prove,
    Request,
    Retire,
    RollBack,
    Step,
    Switch,
    Verify,
    Withdraw,
)

Argument = str | bool | int | bytes | tuple[str, ...]

SNAPIN = "Citrix.Authentication.FederatedAuthenticationService.V1"
NEW_ID = "<id of the new certificate>"
"""Stands in a preview for what FAS has not named yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cmdlet:
    """One call: a cmdlet's name and its parameters. A switch is True."""

    name: str
    parameters: Mapping[str, Argument] = field(default_factory=dict)


READING = frozenset(
    {
        "Get-FasAuthorizationCertificate",
        "Get-FasCertificateDefinition",
        "Get-FasMsCertificateAuthority",
        "Get-FasMsTemplate",
        "Get-FasRaCertificateMonitor",
        "Get-FasRule",
        "Get-FasServer",
        "Get-WinEvent",
    }
)
"""What only reads."""

CMDLETS = READING | {
    "Add-PSSnapin",
    "Import-FasAuthorizationCertificateResponse",
    "New-FasAuthorizationCertificate",
    "New-FasAuthorizationCertificateRequest",
    "Remove-FasAuthorizationCertificate",
    "Remove-Item",
    "Set-Content",
    "Set-FasCertificateDefinition",
    "Set-FasServer",
    "Test-FasCertificateSigningRequest",
}
"""Everything that this service ever calls; a transport refuses any other. `Set-Content` and `Remove-Item` are for the
file that Import-FasAuthorizationCertificateResponse reads."""


SIDES = ("before", "after")


def point_of(cmdlet: Cmdlet, side: str) -> str:
    """The name of the point before or after a call that changes or tests something."""
    return f"{cmdlet.name}:{side}"


def cmdlets_of(step: Step) -> tuple[Cmdlet, ...]:
    """What the step calls, in order; nothing for a step that only waits. Changes are read back where FAS can."""
    if isinstance(step, Request):
        return (_request(step),)
    if isinstance(step, Import):
        path = response_path(step.certificate_id)
        name = "Import-FasAuthorizationCertificateResponse"
        return (
            Cmdlet(name="Set-Content", parameters={"LiteralPath": path, "Value": step.response, "Encoding": "Byte"}),
            Cmdlet(name=name, parameters={"Id": step.certificate_id, "Pkcs7CertificateFile": path}),
            Cmdlet(name="Remove-Item", parameters={"LiteralPath": path}),
        )
    if isinstance(step, Prove):
        return _proof(step)
    if isinstance(step, EnterMaintenance):
        return (_maintenance(on=True), Cmdlet(name="Get-FasServer"))
    if isinstance(step, LeaveMaintenance):
        return (_maintenance(on=False), Cmdlet(name="Get-FasServer"))
    if isinstance(step, (Switch, RollBack)):
        return (
            _set_definition(step.definition, step.after),
            Cmdlet(name="Get-FasCertificateDefinition", parameters={"Name": step.definition}),
        )
    if isinstance(step, Verify):
        upn = step.upn
        return () if upn is None else tuple(_test(upn, each.rule, each.definition) for each in step.tests)
    if isinstance(step, (Retire, Withdraw)):
        # The default of -DeleteUserCerts is $true, which would cut off every user at once (`domain/fas.md` 0.7).
        return (
            Cmdlet(
                name="Remove-FasAuthorizationCertificate",
                parameters={"Id": step.certificate_id, "DeleteUserCerts": False},
            ),
        )
    return ()


def response_path(certificate_id: str) -> str:
    """Where the signed answer to an offline request lies on the FAS server while it is imported."""
    return f"C:\\Windows\\Temp\\fas-evidence-{certificate_id}.p7b"


def leftover_removal() -> Cmdlet:
    """Removes such files of any request, which an import that was cut off left there; it is no error where none is."""
    return Cmdlet(name="Remove-Item", parameters={"Path": response_path("????????-????-????-????-????????????")})


def observing_cmdlets() -> tuple[Cmdlet, ...]:
    """What an observation reads of FAS, in order."""
    return (
        Cmdlet(name="Get-FasAuthorizationCertificate", parameters={"FullCertInfo": True}),
        Cmdlet(name="Get-FasCertificateDefinition"),
        Cmdlet(name="Get-FasRule"),
        Cmdlet(name="Get-FasServer"),
    )


FAS_EVENTS = "Citrix.Authentication.FederatedAuthenticationService"
PKI_EVENTS = "Citrix.Fas.PkiCore"
MOST_EVENTS = 500
"""That one call reads."""


def failure_events(since: timedelta) -> Cmdlet:
    """S123 and S124 of the last `since`, newest first (`domain/fas.md` C)."""
    age = int(since.total_seconds() * 1000)
    return _events(FAS_EVENTS, f"(EventID=123 or EventID=124) and TimeCreated[timediff(@SystemTime) <= {age}]")


def installed_events(before: int | None = None) -> Cmdlet:
    """The certificates that FAS's PKI layer lists as installed: its event 1 (`domain/fas.md` C), newest first.

    `before` is the record number of the last of the page before.
    """
    return _events(PKI_EVENTS, "EventID=1" + ("" if before is None else f" and EventRecordID < {before}"))


def _events(provider: str, where: str) -> Cmdlet:
    # A filter on a provider that is not registered finds nothing; -ProviderName would be an error.
    query = f"*[System[Provider[@Name='{provider}'] and {where}]]"
    return Cmdlet(
        name="Get-WinEvent", parameters={"LogName": "Application", "FilterXPath": query, "MaxEvents": MOST_EVENTS}
    )


def as_powershell(cmdlet: Cmdlet) -> str:
    """The call as a person would type it. For reading only: nothing executes this text."""
    parts = [cmdlet.name]
    for name, value in cmdlet.parameters.items():
        if value is True and name in _SWITCHES:
            parts.append(f"-{name}")
        else:
            parts += [f"-{name}", literal(value)]
    return " ".join(parts)


_QUOTES = re.compile("['\u2018\u2019\u201a\u201b]")
_SWITCHES = frozenset({"FullCertInfo", "Default"})


def literal(value: Argument) -> str:
    """A value as a person would type it in PowerShell, for which each of four quotes ends a text unless doubled."""
    if isinstance(value, bool):
        return "$true" if value else "$false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, tuple):
        return ", ".join(map(literal, value))
    return "'" + _QUOTES.sub(r"\g<0>\g<0>", value) + "'"


def _request(step: Request) -> Cmdlet:
    if step.offline:
        return Cmdlet(name="New-FasAuthorizationCertificateRequest")
    return Cmdlet(
        name="New-FasAuthorizationCertificate",
        parameters={
            "CertificateAuthority": step.certificate_authority or "",
            "CertificateTemplate": step.certificate_template,
            "AuthorizationTemplate": step.authorization_template,
        },
    )


def _proof(step: Prove) -> tuple[Cmdlet, ...]:
    if step.findings or step.definition is None or step.rule is None or step.upn is None:
        return ()
    point = (_set_definition(step.definition, step.certificate_id),) if step.point else ()
    return (*point, _test(step.upn, step.rule, step.definition))


def _set_definition(name: str, certificate_id: str) -> Cmdlet:
    return Cmdlet(
        name="Set-FasCertificateDefinition", parameters={"Name": name, "AuthorizationCertificate": certificate_id}
    )


def _test(upn: str, rule: str, definition: str) -> Cmdlet:
    return Cmdlet(
        name="Test-FasCertificateSigningRequest",
        parameters={"UserPrincipalName": upn, "Rule": rule, "CertificateDefinition": definition},
    )


def _maintenance(*, on: bool) -> Cmdlet:
    return Cmdlet(name="Set-FasServer", parameters={"MaintenanceMode": on})
