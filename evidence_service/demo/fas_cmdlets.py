"""The cmdlets of a simulated FAS server: their parameters by release, and the properties of what they write.

Names, parameters and properties are those of `domain/fas.md` A.2 to A.5, the inferred ones among them. What is NOT
FOUND there is made up, and so are `DenyReason` of a denied request, `Oid` and `Sddl` of a template, and `Success` of a
DiagnosticTestResult. Taken and of no effect: -UseTPM, -SecurityContext, -KeyInfo, -ReuseCachedTestKey and -Encoding.
Cmdlets that neither the service nor the stories call are not there.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping
from datetime import timedelta

from cryptography.hazmat.primitives import hashes

from evidence_service.demo.fas_binding import STANDARD, Call, Guid, PsObject, Spec, Word
from evidence_service.demo.fas_server import (
    SUBJECT,
    AuthorizationEntry,
    CmdletError,
    Definition,
    Event,
    Rule,
    SimulatedFas,
)

_IDS = r"\(?EventID=\d+(?: or EventID=\d+)*\)?"
_QUERY = re.compile(
    rf"\*\[System\[Provider\[@Name='(?P<provider>[^']+)'\] and (?P<ids>{_IDS})"
    r"(?: and TimeCreated\[timediff\(@SystemTime\) <= (?P<age>\d{1,15})\])?"
    r"(?: and EventRecordID < (?P<before>\d{1,15}))?\]\]"
)
"""The form of the queries that are answered; a real log answers any."""


def _authorization(server: SimulatedFas, entry: AuthorizationEntry, *, full: bool) -> PsObject:
    shown: dict[str, object] = {
        "Id": Guid(entry.id),
        "Address": entry.address,
        "TrustArea": None if entry.trust_area is None else Guid(entry.trust_area),
        "CertificateRequest": entry.request_pem,
        "Status": Word(server.status(entry)),
    }
    if shown["Status"] == "Denied":
        shown["DenyReason"] = entry.denial
    if full:
        certificate, request = entry.certificate, entry.request
        shown |= {
            "ExpiryDate": None if certificate is None else certificate.not_valid_after_utc,
            "ThumbPrint": None if certificate is None else certificate.fingerprint(hashes.SHA1()).hex().upper(),  # noqa: S303 - Windows' name of a certificate
            "CertificateRequestId": None if request is None else request.number,
            "PrivateKeyProvider": "Microsoft Software Key Storage Provider",
            "PrivateKeyIsCng": True,
            "KeyLength": entry.key.key_size,
            "Exportable": request is not None and request.exportable,
        }
    return shown


def _get_authorization(call: Call) -> Iterable[PsObject]:
    server, address = call.target, call.text("CertificateAuthority")
    full = call.flag("FullCertInfo", default=not server.since("2003"))
    for entry in server.certificates.values():
        if not address or entry.address.casefold() == address.casefold():
            yield _authorization(server, entry, full=full)


def _new_authorization(call: Call) -> Iterable[PsObject]:
    server, template = call.target, call.text("CertificateTemplate")
    authorization = call.text("AuthorizationTemplate", template + "_ManualAuthorization")
    entry = server.request(call.text("CertificateAuthority"), template, authorization, call.account)
    if server.since("2003"):
        yield _authorization(server, entry, full=False)


def _new_request(call: Call) -> Iterable[PsObject]:
    server = call.target
    yield _authorization(server, server.request_offline(call.text("DistinguishedName", SUBJECT)), full=False)


def _import_response(call: Call) -> Iterable[PsObject]:
    path, server = call.text("Pkcs7CertificateFile"), call.target
    data = call.machine.files.get(path.casefold())
    if data is None:
        raise CmdletError(f"Could not find file '{path}'.", "FileNotFound", "ObjectNotFound")
    yield _authorization(server, server.accept(call.text("Id"), data), full=True)


def _remove_authorization(call: Call) -> Iterable[PsObject]:
    call.target.remove(call.text("Id"), call.account, delete_users=call.flag("DeleteUserCerts", default=True))
    return ()


def _get_definition(call: Call) -> Iterable[PsObject]:
    server, name = call.target, call.text("Name")
    for each in (server.definition(name),) if name else server.definitions.values():
        yield {
            "Name": each.name,
            "MsTemplate": each.template,
            "CertificateAuthorities": list(each.certificate_authorities),
            "AuthorizationCertificate": Guid(each.authorization_certificate),
            "PolicyOids": each.policy_oids or None,
            "InSession": each.in_session,
        }


def _set_definition(call: Call) -> Iterable[PsObject]:
    server = call.target
    definition = server.definition(call.text("Name"))
    definition.template = call.text("CertificateTemplate", definition.template)
    definition.authorization_certificate = call.text(
        "AuthorizationCertificate", definition.authorization_certificate
    ).lower()
    definition.certificate_authorities = call.texts("CertificateAuthorities") or definition.certificate_authorities
    definition.policy_oids = call.text("PolicyOids", definition.policy_oids)
    definition.in_session = call.flag("InSession", default=definition.in_session)
    server.administered(7, f"Administrator [{call.account}] updating Certificate Definition [{definition.name}]")
    return ()


def _new_definition(call: Call) -> Iterable[PsObject]:
    server, template = call.target, call.text("CertificateTemplate")
    name = call.text("Name", template)
    if name.casefold() in {each.casefold() for each in server.definitions}:
        raise CmdletError(f"A certificate definition named {name} exists already", category="ResourceExists")
    server.definitions[name] = Definition(
        name=name,
        template=template,
        authorization_certificate=call.text("AuthorizationCertificate").lower(),
        certificate_authorities=call.texts("CertificateAuthorities") or (),
        policy_oids=call.text("PolicyOids"),
        in_session=call.flag("InSession"),
    )
    server.administered(6, f"Administrator [{call.account}] creating Certificate Definition [{name}]")
    return ()


def _remove_definition(call: Call) -> Iterable[PsObject]:
    server = call.target
    name = server.definition(call.text("Name")).name
    del server.definitions[name]
    server.administered(8, f"Administrator [{call.account}] deleting Certificate Definition [{name}]")
    return ()


def _get_rule(call: Call) -> Iterable[PsObject]:
    server, name = call.target, call.text("Name")
    for each in (server.rule(name),) if name else server.rules.values():
        yield {"Name": each.name, "CertificateDefinitions": list(each.definitions), **each.acls}


def _set_rule(call: Call) -> Iterable[PsObject]:
    server = call.target
    rule: Rule = server.rule(call.text("Name"))
    rule.definitions = call.texts("CertificateDefinitions") or rule.definitions
    rule.acls |= {acl: call.text(acl, text) for acl, text in rule.acls.items()}
    server.administered(10, f"Administrator [{call.account}] updating Rule [{rule.name}]")
    return ()


def _get_server(call: Call) -> Iterable[PsObject]:
    servers = (call.target,) if call.text("Address") else call.servers.values()
    return tuple(
        {"Address": each.name, "MaintenanceMode": None if each.unreachable else each.maintenance} for each in servers
    )


def _set_server(call: Call) -> Iterable[PsObject]:
    server = call.target
    if "MaintenanceMode" in call.arguments:
        server.maintenance = call.flag("MaintenanceMode")
        server.administered(3, f"Administrator [{call.account}] setting Maintenance Mode to [{server.maintenance}]")
    return ()


def _test_signing(call: Call) -> Iterable[PsObject]:
    call.target.test(*_asked(call), call.text("CertificateAuthority"))
    yield {"Success": True}


def _new_user(call: Call) -> Iterable[PsObject]:
    server = call.target
    user = server.enroll(*_asked(call))
    server.administered(12, f"Administrator [{call.account}] creating certificate for [{user.upn}]")
    yield {"UserPrincipalName": user.upn, "ExpiryDate": user.expires}


def _get_users(call: Call) -> Iterable[PsObject]:
    for each in call.target.cached(*_asked(call))[: call.number("MaximumRecordCount", 250)]:
        yield {"UserPrincipalName": each.upn, "ExpiryDate": each.expires}


def _asked(call: Call) -> tuple[str, str, str]:
    """Whose certificate, by which rule and definition; "" where that was not said."""
    return call.text("UserPrincipalName"), call.text("Rule"), call.text("CertificateDefinition")


def _get_authority(call: Call) -> Iterable[PsObject]:
    ca, address = call.machine.ca, call.text("Address")
    if address and address.casefold() != ca.address.casefold():
        return
    shown: dict[str, object] = {
        "Address": ca.address,
        "IsDefault": True,
        "PublishedTemplates": sorted(ca.published),
    }
    if call.machine.since("2112"):
        shown["IsAccessible"] = not ca.unreachable
    yield shown


def _get_template(call: Call) -> Iterable[PsObject]:
    name = call.text("Name").casefold()
    for each in call.machine.ca.templates.values():
        if not name or each.name.casefold() == name:
            yield {"Name": each.name, "Oid": each.oid, "Sddl": each.sddl}


def _get_monitor(call: Call) -> Iterable[PsObject]:
    monitor = call.target.monitor
    days, rest = divmod(int(monitor.interval.total_seconds()), 86400)
    hours, minutes = rest // 3600, rest % 3600 // 60
    yield {
        "Enabled": monitor.enabled,
        "WarningThreshold": f"{monitor.warning.days}.00:00:00",
        "CheckInterval": f"{days}.{hours:02}:{minutes:02}:00",
    }


def _get_events(call: Call) -> Iterable[PsObject]:
    found = sorted(_filtered(call), key=lambda each: (each.at, each.record), reverse=True)
    if not found:
        raise CmdletError(
            "No events were found that match the specified selection criteria.",
            "NoMatchingEventsFound,Microsoft.PowerShell.Commands.GetWinEventCommand",
            "ObjectNotFound",
            terminating=False,
        )
    for each in found[: call.number("MaxEvents", len(found))]:
        yield {
            "Message": each.message,
            "Id": each.event,
            "ProviderName": each.provider,
            "LogName": "Application",
            "RecordId": each.record,
            "MachineName": call.machine.name,
            "TimeCreated": each.at,
            "LevelDisplayName": each.level,
        }


def _filtered(call: Call) -> list[Event]:
    """What of the Application log -FilterXPath selects: a provider, its ids, how old they may be, before which."""
    query = _QUERY.fullmatch(call.text("FilterXPath"))
    if query is None or call.texts("LogName") != ("Application",):
        message = "The specified query is invalid"
        raise CmdletError(
            message,
            "System.Diagnostics.Eventing.Reader.EventLogException,Microsoft.PowerShell.Commands.GetWinEventCommand",
        )
    ids = {int(each) for each in re.findall(r"EventID=(\d+)", query["ids"])}
    oldest = None if query["age"] is None else call.now - timedelta(milliseconds=int(query["age"]))
    return [
        each
        for each in call.machine.events
        if each.provider == query["provider"]
        and each.event in ids
        and (oldest is None or each.at >= oldest)
        and (query["before"] is None or each.record < int(query["before"]))
    ]


def _set_content(call: Call) -> Iterable[PsObject]:
    value = call.arguments["Value"]
    call.machine.files[_path(call)] = value if isinstance(value, bytes) else str(value).encode()
    return ()


def _remove_item(call: Call) -> Iterable[PsObject]:
    if "*" in call.text("Path") or "?" in call.text("Path"):
        for each in fnmatch.filter(call.machine.files, _path(call)):
            del call.machine.files[each]
    elif call.machine.files.pop(_path(call), None) is None:
        raise CmdletError(
            f"Cannot find path '{_path(call)}' because it does not exist.",
            "PathNotFound,Microsoft.PowerShell.Commands.RemoveItemCommand",
            "ObjectNotFound",
            terminating=False,
        )
    return ()


def _path(call: Call) -> str:
    return call.text("LiteralPath", call.text("Path")).casefold()


def _add_snapin(call: Call) -> Iterable[PsObject]:
    if call.text("Name") != "Citrix.Authentication.FederatedAuthenticationService.V1":
        message = f"No snap-ins have been registered for the name {call.text('Name')}."
        raise CmdletError(message, "AddPSSnapInRead,Microsoft.PowerShell.Commands.AddPSSnapinCommand")
    return ()


_DEFINITION = {
    "Name": "String",
    "CertificateTemplate": "String",
    "AuthorizationCertificate": "String",
    "CertificateAuthorities": "String[]",
    "PolicyOids": "String",
    "InSession": "Boolean",
}
_USER = {
    "UserPrincipalName": "String",
    "Rule": "String",
    "CertificateDefinition": "String",
    "SecurityContext": "String",
}
_ACLS = ("StoreFrontAcl", "UserAcl", "VdaAcl", "DelegatedAdministrationAcl")

CMDLETS: Mapping[str, Spec] = {
    "Get-FasAuthorizationCertificate": Spec(
        handler=_get_authorization,
        parameters={"CertificateAuthority": "String", "FullCertInfo": "Switch", **STANDARD},
    ),
    "New-FasAuthorizationCertificate": Spec(
        handler=_new_authorization,
        parameters={
            "CertificateAuthority": "String",
            "CertificateTemplate": "String",
            "AuthorizationTemplate": "String",
            **STANDARD,
        },
        mandatory=("CertificateAuthority", "CertificateTemplate"),
    ),
    "Remove-FasAuthorizationCertificate": Spec(
        handler=_remove_authorization,
        parameters={"Id": "String", "DeleteUserCerts": "Boolean", **STANDARD},
        mandatory=("Id",),
    ),
    "New-FasAuthorizationCertificateRequest": Spec(
        handler=_new_request, parameters={"DistinguishedName": "String", "UseTPM": "Boolean", **STANDARD}
    ),
    "Import-FasAuthorizationCertificateResponse": Spec(
        handler=_import_response,
        parameters={"Id": "String", "Pkcs7CertificateFile": "String", **STANDARD},
        mandatory=("Id", "Pkcs7CertificateFile"),
    ),
    "Get-FasCertificateDefinition": Spec(handler=_get_definition, parameters={"Name": "String", **STANDARD}),
    "Set-FasCertificateDefinition": Spec(
        handler=_set_definition, parameters={**_DEFINITION, **STANDARD}, mandatory=("Name",)
    ),
    "New-FasCertificateDefinition": Spec(
        handler=_new_definition,
        parameters={**_DEFINITION, **STANDARD},
        mandatory=("CertificateTemplate", "AuthorizationCertificate", "CertificateAuthorities"),
    ),
    "Remove-FasCertificateDefinition": Spec(
        handler=_remove_definition, parameters={"Name": "String", **STANDARD}, mandatory=("Name",)
    ),
    "Get-FasRule": Spec(handler=_get_rule, parameters={"Name": "String", **STANDARD}),
    "Set-FasRule": Spec(
        handler=_set_rule,
        parameters={
            "Name": "String",
            "CertificateDefinitions": "String[]",
            **dict.fromkeys(_ACLS, "String"),
            **STANDARD,
        },
        mandatory=("Name",),
    ),
    "Get-FasServer": Spec(handler=_get_server, parameters=STANDARD),
    "Set-FasServer": Spec(handler=_set_server, parameters={"MaintenanceMode": "Boolean", **STANDARD}),
    "Test-FasCertificateSigningRequest": Spec(
        handler=_test_signing,
        parameters={**_USER, "CertificateAuthority": "String", "ReuseCachedTestKey": "Boolean", **STANDARD},
        mandatory=("UserPrincipalName", "Rule"),
        since="1906",
    ),
    "New-FasUserCertificate": Spec(
        handler=_new_user,
        parameters={**_USER, **STANDARD},
        mandatory=("UserPrincipalName", "Rule", "CertificateDefinition"),
    ),
    "Get-FasUserCertificate": Spec(
        handler=_get_users,
        parameters={**_USER, "KeyInfo": "Boolean", "MaximumRecordCount": "Int32", **STANDARD},
    ),
    "Get-FasMsCertificateAuthority": Spec(
        handler=_get_authority, parameters={"Address": "String", "Default": "Switch"}, administers=False
    ),
    "Get-FasMsTemplate": Spec(handler=_get_template, parameters={"Name": "String"}, administers=False),
    "Get-FasRaCertificateMonitor": Spec(handler=_get_monitor, parameters=STANDARD, since="2112"),
    "Get-WinEvent": Spec(
        handler=_get_events,
        parameters={
            "LogName": "String[]",
            "FilterXPath": "String",
            "MaxEvents": "Int64",
        },
        mandatory=("LogName", "FilterXPath"),
        administers=False,
    ),
    "Set-Content": Spec(
        handler=_set_content,
        parameters={"LiteralPath": "String", "Path": "String", "Value": "Object", "Encoding": "String"},
        mandatory=("Value",),
        administers=False,
    ),
    "Remove-Item": Spec(
        handler=_remove_item, parameters={"LiteralPath": "String", "Path": "String"}, administers=False
    ),
    "Add-PSSnapin": Spec(handler=_add_snapin, parameters={"Name": "String"}, mandatory=("Name",), administers=False),
}
"""What a session on a FAS server offers; cmdlets only, no scripts."""
