"""The events that FAS and its VDAs write, by source and number: what each means and what cures it.

The table of `domain/fas.md` C, which paraphrases Citrix's list and field reports.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

FAS_SOURCE = "Citrix.Authentication.FederatedAuthenticationService"
VDA_SOURCE = "Citrix.Authentication.IdentityAssertion"
PKI_SOURCES = ("Citrix.Fas.PkiCore", "Citrix.TrustFabric")
"""The low-level source by its newer and its older name."""

PKI = "pki"
"""Stands for both names of the low-level source in `EVENTS`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What one code means; `causes` and `cures` are sentences, the likeliest first. Without cures nothing is wrong."""

    name: str
    meaning: str
    causes: tuple[str, ...] = ()
    cures: tuple[str, ...] = ()


def _event(name: str, meaning: str, cause: str = "", cure: str = "") -> Explanation:
    return Explanation(name=name, meaning=meaning, causes=(cause,) if cause else (), cures=(cure,) if cure else ())


_ADMINISTRATION = {
    1: _event(
        "S001",
        "An account that is not administrator of FAS tried to administer it.",
        "The account is not in the server's Administrators group, or its process is not elevated.",
        "Put the account into the FAS server's local Administrators group, and run elevated.",
    ),
    2: _event(
        "S002",
        "An account that is not administrator of a rule tried to use it.",
        "The rule's delegated administration leaves the account out.",
        "Set-FasRule -DelegatedAdministrationAcl, or use an administrator's account.",
    ),
    3: _event("S003", "Maintenance mode was set."),
    4: _event("S004", "The server enrolls with a CA: an authorization certificate was asked for."),
    5: _event("S005", "The server dropped a CA: an authorization certificate was removed."),
    6: _event("S006", "A certificate definition was created."),
    7: _event("S007", "A certificate definition was changed."),
    8: _event("S008", "A certificate definition was deleted."),
    9: _event("S009", "A rule was created."),
    10: _event("S010", "A rule was changed."),
    11: _event("S011", "A rule was deleted."),
    12: _event("S012", "An administrator created a user's certificate."),
    13: _event("S013", "An administrator deleted users' certificates."),
    401: _event("S401", "The configuration was upgraded."),
    402: _event(
        "S402",
        "The FAS service does not run as Network Service.",
        "Somebody changed the service's account.",
        "Set the service CitrixFederatedAuthenticationService to Network Service in services.msc.",
    ),
    413: _event(
        "413",
        "FAS's own monitor: an authorization certificate expires soon.",
        cure="See `fas-evidence authcert status`; approve the pending request at the CA if there is one.",
    ),
    414: _event(
        "414",
        "FAS's own monitor: an authorization certificate has expired.",
        cure="If a definition still names it, users cannot log on: see `fas-evidence authcert status` at once.",
    ),
    415: _event("415", "FAS's own monitor has checked the authorization certificates."),
}
_ASSERTION = {
    101: _event(
        "S101",
        "A StoreFront server that the rule does not allow asked FAS to assert an identity.",
        "The rule's StoreFront permissions leave the server out.",
        "Allow the StoreFront server in the rule (FAS console, Rules, or Set-FasRule -StoreFrontAcl).",
    ),
    102: _event(
        "S102",
        "Asserting a user's identity failed with an exception.",
        "Often the user's account is locked or disabled.",
        "Read the exception in the event, and look at the account.",
    ),
    103: _event(
        "S103",
        "The SID that StoreFront gave is not the one that FAS finds for the UPN.",
        "A shadow account or a changed UPN: cloud and directory mean different accounts.",
        "Make the UPN name one account; see the SID of both.",
    ),
    104: _event(
        "S104",
        "The rule does not allow this user.",
        "The rule's user permissions leave the UPN out.",
        "Allow the user's group in the rule (FAS console, Rules, or Set-FasRule -UserAcl).",
    ),
    105: _event("S105", "FAS asserted a user's identity."),
    120: _event("S120", "FAS issues a user's certificate."),
    121: _event("S121", "FAS issues a certificate on behalf of an account."),
    122: _event(
        "S122",
        "The FAS server is overloaded.",
        "More logons than the server or the CA takes.",
        "Spread users over more FAS servers, and look at how fast the CA answers.",
    ),
    123: _event(
        "S123",
        "Every CA of the certificate definition refused a user's request, so the user cannot log on through FAS.",
        "See the S124 of each CA just before: it names the CA and its code.",
        "Cure what S124 says; `fas-evidence authcert preflight --test` repeats such a request.",
    ),
    124: _event(
        "S124",
        "One CA refused a user's request.",
        "The exception in the event says why.",
        "See certsrv.msc on that CA under Failed Requests.",
    ),
}
_USE = {
    201: _event("S201", "A VDA may not read the password.", "The rule's VDA permissions.", "Set-FasRule -VdaAcl."),
    202: _event("S202", "A VDA may not read the certificate.", "The rule's VDA permissions.", "Set-FasRule -VdaAcl."),
    203: _event("S203", "A VDA may not use the logon key.", "The rule's VDA permissions.", "Set-FasRule -VdaAcl."),
    204: _event("S204", "A VDA used the logon key."),
    205: _event(
        "S205",
        "The machine that asked is no VDA of this rule.",
        "The rule's VDA permissions leave the machine out.",
        "Allow the VDA's group in the rule (FAS console, Rules, or Set-FasRule -VdaAcl).",
    ),
    206: _event(
        "S206",
        "The machine that asked is no VDA of any rule.",
        "No rule's VDA permissions name the machine.",
        "Allow the VDA's group in a rule (FAS console, Rules, or Set-FasRule -VdaAcl).",
    ),
    207: _event("S207", "A VDA took up a user's identity."),
    208: _event(
        "S208",
        "An operation with a user's private key failed.",
        "The key is gone, or its provider failed.",
        "Remove the user's certificate (Remove-FasUserCertificate with -UserPrincipalName) and log on again.",
    ),
    301: _event("S301", "In a session, access to a user's certificate was denied."),
    302: _event("S302", "In a session, a smart card was asked for that FAS does not know."),
    303: _event("S303", "In a session, another user's certificate was asked for."),
    304: _event("S304", "In a session, a program used the user's key."),
    305: _event(
        "S305",
        "In a session, an operation with the user's key failed.",
        "The user's certificate or key was deleted meanwhile.",
        "Log off and on again.",
    ),
}
_VDA = {
    101: _event(
        "S101",
        "The VDA does not know the FAS server that StoreFront chose.",
        "The list of FAS servers (GPO) differs between StoreFront and the VDA.",
        "Give StoreFront, FAS servers and VDAs the same list, in the same order, by group policy.",
    ),
    102: _event("S102", "The VDA could not look up the user's SID.", cure="Check that the VDA reaches the domain."),
    103: _event(
        "S103",
        "The SID that the VDA finds differs from the one that FAS gave.",
        cure="Make the UPN name one account; see the SID of both.",
    ),
    104: _event(
        "S104",
        "The VDA cannot reach the FAS server.",
        "A firewall, a stopped service, or lists of FAS servers that differ.",
        "Check port 80 from the VDA to the FAS server, and that both have the same list (GPO).",
    ),
    105: _event("S105", "A user is being logged on."),
    106: _event("S106", "A user is being logged on."),
    107: _event(
        "S107",
        "A logon through FAS failed.",
        "Often the domain controller cannot check the user's certificate: a CRL, or its own certificate.",
        "Read the error in the event; check the domain controllers' certificates and the CA's CRL.",
    ),
    108: _event(
        "S108",
        "FAS denied the VDA access.",
        "The rule's VDA permissions leave the machine out (S205 and S206 on the FAS server).",
        "Allow the VDA's group in the rule (FAS console, Rules, or Set-FasRule -VdaAcl).",
    ),
    201: _event("S201", "A program in the session may use the user's certificate."),
    202: _event("S202", "There is no certificate in the session."),
    203: _event("S203", "A program in the session may not use the user's certificate."),
    204: _event("S204", "Certificates in the session are disabled."),
}
_PKI = {
    1: _event("S0001", "A certificate with its chain is installed; each is listed with serial number and validity."),
    4: _event("S0004", "A certificate was renewed."),
    5: _event("S0005", "A certificate was renewed: the new chain."),
    8: _event("S0008", "The server drops a certificate."),
    14: _event("S0014", "A certificate request (PKCS #10) was made."),
    15: _event("S0015", "A certificate request (PKCS #10) for a renewal was made."),
    18: _event("S0018", "A request waits for approval."),
    19: _event("S0019", "A request waits for approval."),
    20: _event("S0020", "A request waits for approval."),
    104: _event("S0104", "A request was authorized, or authorizing it failed; the event says which."),
    105: _event("S0105", "A certificate was issued."),
    109: _event("S0109", "A request still waits for the CA manager.", cure="Issue or deny it in certsrv.msc."),
    110: _event(
        "S0110",
        "The CA refused a request.",
        "A CA manager denied it, or the FAS server may not enroll by the template.",
        "Ask the CA manager; see certsrv.msc under Failed Requests.",
    ),
    111: _event("S0111", "The CA issued what was asked for."),
    112: _event("S0112", "A request waits for the CA manager.", cure="Issue or deny it in certsrv.msc."),
}
EVENTS: Mapping[tuple[str, int], Explanation] = {
    **{(FAS_SOURCE, number): each for number, each in (_ADMINISTRATION | _ASSERTION | _USE).items()},
    **{(VDA_SOURCE, number): each for number, each in _VDA.items()},
    **{(PKI, number): each for number, each in _PKI.items()},
}
