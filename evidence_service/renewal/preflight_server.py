"""Whether one FAS server can be read, by whom, and whether it may be taken out of service for the switch."""

from __future__ import annotations

import re
from collections.abc import Iterator

from evidence_service.renewal.model import Maintenance
from evidence_service.renewal.preflight_model import (
    Check,
    CheckCode,
    NotRead,
    PreflightFacts,
    failed,
    ok,
    unknown,
    warning,
)
from evidence_service.renewal.reasons import RenewalReason

_REMEDY = re.compile(r"(?<=\.) (?=(?:Check|Install|Set) )")


def sign_in_checks(facts: PreflightFacts) -> Iterator[Check]:
    """Whether the server answers, and whether the account is administrator of FAS."""
    name = "sign-in"
    if facts.session is not None:
        cause, remedy = _cause_and_remedy(facts.session.error)
        yield failed(name, f"No session as {facts.account}: {cause}", remedy, RenewalReason.UNREACHABLE)
        return
    reads = {
        "Get-FasAuthorizationCertificate": facts.certificates,
        "Get-FasCertificateDefinition": facts.definitions,
        "Get-FasRule": facts.rules,
    }
    missed = {cmdlet: each for cmdlet, each in reads.items() if isinstance(each, NotRead)}
    refused = next((each for each in missed.values() if each.refused), None)
    if refused is not None:
        yield failed(
            name,
            f"FAS answers {facts.account} with: {refused.error} The account is not administrator of FAS (S001 in the "
            "server's log), or its session is not elevated.",
            "Put the account into the local Administrators group of the FAS server (lusrmgr.msc), and run elevated.",
            CheckCode.NOT_ADMINISTRATOR,
        )
        return
    for cmdlet, each in missed.items():
        yield unknown(name, f"{cmdlet}: {each.error}", f"Run `{cmdlet}` on the FAS server as {facts.account}.")
    if not missed:
        yield ok(name, f"{facts.account} may read FAS, elevated and as its administrator.", CheckCode.SIGN_IN)


def _cause_and_remedy(error: str) -> tuple[str, str]:
    """The transport's own remedy, which begins a sentence of its error, is closer than any that fits all."""
    found = _REMEDY.search(error)
    if found is None:
        return error, RenewalReason.UNREACHABLE.advice.partition(" The renewal")[0]
    return error[: found.start()], error[found.end() :]


def release_checks(facts: PreflightFacts) -> Iterator[Check]:
    """What this release of FAS, or the session configuration, lacks as far as it was seen."""
    if facts.session is not None:
        return
    reads = {
        "Get-FasAuthorizationCertificate": facts.certificates,
        "Get-FasCertificateDefinition": facts.definitions,
        "Get-FasRule": facts.rules,
        "Get-FasServer": facts.listed,
        "Get-FasMsCertificateAuthority": facts.authorities,
        "Get-FasMsTemplate": facts.templates,
        "Get-FasRaCertificateMonitor (FAS 2112 and later)": facts.monitor,
    }
    lacking = [cmdlet for cmdlet, each in reads.items() if isinstance(each, NotRead) and each.lacking]
    if not facts.full_info:
        lacking.append("-FullCertInfo of Get-FasAuthorizationCertificate, which tells when a certificate expires")
    authorities = () if isinstance(facts.authorities, NotRead) else facts.authorities
    if any(each.accessible is None for each in authorities):
        lacking.append("IsAccessible of Get-FasMsCertificateAuthority")
    if lacking:
        yield warning(
            "release",
            f"This FAS release lacks, or the session configuration hides: {'; '.join(lacking)}.",
            "Compare with `Get-Command *-Fas*` on the server, and list the cmdlets in the JEA role if any.",
            CheckCode.RELEASE,
        )
    else:
        yield ok("release", "Everything that is used is there.", CheckCode.RELEASE)


def maintenance_checks(facts: PreflightFacts) -> Iterator[Check]:
    """Whether the server is in maintenance, whether others can serve meanwhile, and whether all are configured."""
    if facts.server.policy.maintenance is Maintenance.REQUIRED and len(facts.farm) < 2:
        yield failed(
            "neighbours",
            "It is to enter maintenance while its definitions switch, but no other FAS server is configured that could "
            "serve meanwhile, so that it would never switch.",
            'Configure the other FAS servers too, or set `maintenance = "skip"` where there is only one.',
            RenewalReason.NO_NEIGHBOUR,
        )
    else:
        yield _neighbours(facts)
    if facts.session is not None:
        return
    if isinstance(facts.listed, NotRead):
        yield unknown(
            "maintenance", f"Get-FasServer: {facts.listed.error}", "Run `Get-FasServer` on the FAS server itself."
        )
        return
    yield _maintenance(facts)
    known = {name for each in facts.farm for name in each.listed_as}
    strange = [each.address for each in facts.listed if not {each.address.casefold()} & known]
    if strange:
        yield warning(
            "list of FAS servers",
            f"The group policy names FAS servers that are not configured here: {', '.join(strange)}; nobody renews "
            "theirs.",
            "Configure them in the renewal file, by the name that `Get-FasServer` shows as their address.",
            CheckCode.NOT_CONFIGURED,
        )


def _neighbours(facts: PreflightFacts) -> Check:
    name = "neighbours"
    if facts.server.policy.maintenance is Maintenance.SKIP:
        said = "The switch needs no other server, as set: it is made without maintenance."
        return ok(name, said, CheckCode.NEIGHBOURS)
    others = [each.name for each in facts.farm if each.name != facts.server.name]
    if facts.away.issuperset(others):
        does = "does not answer" if len(others) == 1 else "do not answer"
        return unknown(
            name,
            f"{' and '.join(others)} {does}: whether one can serve meanwhile is not known.",
            "See why: `fas-evidence authcert preflight` looks at all of them; the switch waits until one serves.",
        )
    there = [each for each in others if each not in facts.away]
    whether = "whether it does" if len(there) == 1 else "whether one does"
    said = f"{' or '.join(there)} can serve meanwhile ({whether} is looked at before the switch)."
    return ok(name, said, CheckCode.NEIGHBOURS)


def _maintenance(facts: PreflightFacts) -> Check:
    listed = () if isinstance(facts.listed, NotRead) else facts.listed
    states = [each.maintenance for each in listed if each.address.casefold() in facts.server.listed_as]
    state = states[0] if states else None
    if state is None:
        return unknown(
            "maintenance",
            "FAS does not tell whether the server is in maintenance.",
            "See the FAS console, or set `address` to the name that `Get-FasServer` shows.",
        )
    if state:
        return warning(
            "maintenance",
            "The server is in maintenance, so that it serves nobody.",
            "Run `Set-FasServer -MaintenanceMode $false` when the work on it is done.",
            CheckCode.MAINTENANCE_ON,
        )
    return ok("maintenance", "The server is not in maintenance.", CheckCode.MAINTENANCE)
