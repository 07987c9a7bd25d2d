"""Whether the CA and the templates let FAS enroll: present, published, and with the rights that FAS needs.

The rights are those of `domain/fas.md` C: Authenticated Users Read; Domain Admins Read, Write, Enroll; the FAS servers
Read and Enroll. Without the last, CAs deny FAS's requests with CR_DISP_DENIED (S124, S123).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from evidence_service.renewal.cmdlets import literal
from evidence_service.renewal.preflight_model import (
    Authority,
    Check,
    CheckCode,
    NotRead,
    PreflightFacts,
    Template,
    Verdict,
    failed,
    ok,
    unknown,
    warning,
)
from evidence_service.renewal.sddl import Dacl, Trustee, Unreadable, parse_dacl

_ADMINISTRATORS = frozenset({"DA", "EA", "BA", "SY", "SA", "LA"})
_EVERYBODY = ("AU", "WD")
_NO_COMPUTERS = frozenset({"DU", "DG"})
"""Groups of a domain's users, to which no computer account belongs."""
_WIDE = {"AU", "WD", "DU", "BU", "DC", "AN", "DG"}
_SECOND_HOP = "(over WinRM the account may have no credentials for this second hop, which says nothing of FAS itself)"


def authority_checks(facts: PreflightFacts) -> Iterator[Check]:
    """The CA that requests go to, and those that definitions name."""
    name, found = "CA", facts.authorities
    if facts.server.policy.offline:
        yield ok(name, "Requests are made as files and signed elsewhere.", CheckCode.CA)
        return
    if isinstance(found, NotRead):
        yield unknown(
            name,
            f"The CAs cannot be listed: {found.error} {_SECOND_HOP}.",
            "Run `Get-FasMsCertificateAuthority` there.",
        )
        return
    if not facts.authorities_in_use:
        yield unknown(
            name,
            "No certificate in use tells which CA a request goes to.",
            r"Set `certificate_authority` of this server to one that `Get-FasMsCertificateAuthority` lists.",
            CheckCode.CA_MISSING,
        )
    for address in facts.authorities_in_use:
        yield _authority(address, found)


def _authority(address: str, found: tuple[Authority, ...]) -> Check:
    name, known = f"CA {address}", authority_of(address, found)
    if known is None:
        listed = ", ".join(each.address for each in found) or "none"
        return failed(
            name,
            f"The domain has no such CA; it has: {listed}.",
            "Set `certificate_authority` to one that `Get-FasMsCertificateAuthority` lists.",
            CheckCode.CA_MISSING,
        )
    if known.accessible is False:
        return warning(
            name,
            f"The CA is there, but this session cannot access it {_SECOND_HOP}.",
            f"Run `certutil -ping -config {literal(known.address)}` on the FAS server; start the CA if it does not "
            "answer.",
            CheckCode.CA_NOT_ACCESSIBLE,
        )
    told = "is accessible" if known.accessible else "is listed; whether it is accessible this release does not tell"
    return ok(name, f"The CA {told}. Which CA is the default (IsDefault) does not matter to FAS.", CheckCode.CA)


def authority_of(address: str, found: tuple[Authority, ...]) -> Authority | None:
    """The CA of this address, whatever its casing."""
    return next((each for each in found if each.address.casefold() == address.casefold()), None)


def template_checks(facts: PreflightFacts) -> Iterator[Check]:
    """Each template that is needed: present, published where it is asked for, and with the right rights."""
    if isinstance(facts.templates, NotRead):
        yield unknown(
            "templates",
            f"The templates cannot be listed: {facts.templates.error} {_SECOND_HOP}.",
            "Run `Get-FasMsTemplate` on the FAS server.",
        )
        return
    templates = {each.name.casefold(): each for each in facts.templates}
    agents = _agent_templates(facts)
    for name, authorities in _wanted(facts).items():
        template = templates.get(name.casefold())
        if template is None:
            yield failed(
                f"template {name}",
                "There is no such template.",
                "Deploy it in the FAS console (Initial Setup, Deploy certificate templates), or correct its name in "
                "the configuration.",
                CheckCode.TEMPLATE_MISSING,
            )
            continue
        for address in authorities:
            yield from _published(template.name, address, facts.authorities)
        yield from rights_checks(template, agent=name in agents)


def _agent_templates(facts: PreflightFacts) -> tuple[str, ...]:
    """Whoever enrolls by these can then enroll anybody."""
    policy = facts.server.policy
    return () if policy.offline else (policy.authorization_template, policy.certificate_template)


def _wanted(facts: PreflightFacts) -> dict[str, tuple[str, ...]]:
    """Each template with the CAs that must publish it."""
    wanted = dict.fromkeys(_agent_templates(facts), facts.authorities_in_use)
    for each in () if isinstance(facts.definitions, NotRead) else facts.definitions:
        if each.template:
            more = (*wanted.get(each.template, ()), *each.certificate_authorities)
            wanted[each.template] = tuple(dict.fromkeys(more))
    return wanted


def _published(name: str, address: str, authorities: tuple[Authority, ...] | NotRead) -> Iterator[Check]:
    where = f"template {name} at {address}"
    known = None if isinstance(authorities, NotRead) else authority_of(address, authorities)
    if known is None:
        return  # told once, of the CA
    if known.published is None or known.accessible is False or (not known.published and known.accessible is None):
        yield unknown(
            where,
            "Whether the CA publishes the template is not shown to this session.",
            "See certsrv.msc on the CA, Certificate Templates.",
        )
    elif name.casefold() in {each.casefold() for each in known.published}:
        yield ok(where, "The CA publishes the template.", CheckCode.TEMPLATE)
    else:
        yield failed(
            where,
            "The CA does not publish the template, so that it denies what is asked for by it.",
            f"Run `Publish-FasMsTemplate -Name {literal(name)} -CertificateAuthority {literal(address)}`, or see "
            "certsrv.msc, Certificate Templates, New.",
            CheckCode.TEMPLATE_NOT_PUBLISHED,
        )


def rights_checks(template: Template, *, agent: bool) -> Iterator[Check]:
    """Who may read, write and enroll. `agent`: it makes enrollment agents, so that few should enroll by it."""
    name = f"rights on {template.name}"
    see = f"See certtmpl.msc, {template.name}, Security."
    dacl = Unreadable(problem="it is not shown") if template.sddl is None else parse_dacl(template.sddl)
    if isinstance(dacl, Unreadable):
        yield unknown(name, f"The security descriptor cannot be read: {dacl.problem}.", see, CheckCode.TEMPLATE_RIGHTS)
        return
    if dacl.unrestricted:
        yield failed(
            name,
            "The template has no access list at all, so that anybody may change it and enroll by it.",
            f"Set its rights in certtmpl.msc, {template.name}, Security.",
            CheckCode.TEMPLATE_WIDE,
        )
        return
    found = [
        *_enrolling(name, template, dacl),
        *_wide(name, template, dacl, agent=agent),
        *_admins(name, template, dacl),
    ]
    if dacl.conditional:
        who = " and ".join(each.name for each in dacl.conditional)
        yield unknown(
            name,
            f"Entries for {who} hold under conditions, which are not evaluated here: what they allow is not "
            "counted, and what they deny is.",
            see,
            CheckCode.TEMPLATE_RIGHTS,
        )
        found = [_in_doubt(each) for each in found]
    yield from found
    if not found and not dacl.conditional:
        who = ", ".join(each.name for each in _enrollers(dacl))
        yield ok(name, f"{who} may enroll; make sure that the FAS servers belong to it.", CheckCode.TEMPLATE_RIGHTS)


def _in_doubt(check: Check) -> Check:
    """What is said to be lacking where a condition could grant it."""
    if check.code is CheckCode.TEMPLATE_WIDE:  # that too much is allowed stays true
        return check
    return replace(check, verdict=Verdict.UNKNOWN, text=f"Unless a condition grants it: {check.text}")


def _enrollers(dacl: Dacl) -> tuple[Trustee, ...]:
    """Those who may enroll and are not administrators: among them must be the FAS servers."""
    return tuple(
        each
        for each in dacl.trustees
        if each.alias not in _ADMINISTRATORS and dacl.rights_of(each, *_everybody(dacl)).enroll and _allows(dacl, each)
    )


def _allows(dacl: Dacl, trustee: Trustee) -> bool:
    """Whether an entry of its own lets it enroll, so that one that Everyone allows counts once."""
    return dacl.rights_of(trustee).enroll


def _everybody(dacl: Dacl) -> tuple[Trustee, ...]:
    return tuple(each for each in dacl.trustees if each.alias in _EVERYBODY)


def _enrolling(name: str, template: Template, dacl: Dacl) -> Iterator[Check]:
    enrollers = _enrollers(dacl)
    cure = (
        f"Give a group of the FAS servers' computer accounts Read and Enroll: certtmpl.msc, {template.name}, Security."
    )
    if all(each.alias in _NO_COMPUTERS for each in enrollers):
        who = " and ".join(("administrators", *(each.name for each in enrollers)))
        yield failed(
            name,
            f"Only {who} may enroll, and no FAS server's computer account, so that the CA denies the FAS servers "
            "(CR_DISP_DENIED, S124 and S123); New-FasMsTemplate without -Acl leaves a template like this.",
            cure,
            CheckCode.TEMPLATE_NOBODY_ENROLLS,
        )
    blind = [each.name for each in enrollers if not dacl.rights_of(each, *_everybody(dacl)).read]
    if blind:
        yield failed(
            name,
            f"{', '.join(blind)} may enroll but not read the template, and FAS needs both.",
            f"Give Authenticated Users Read: certtmpl.msc, {template.name}, Security.",
            CheckCode.TEMPLATE_NOT_READABLE,
        )
    elif not dacl.rights_of_alias(*_EVERYBODY).read:
        yield warning(
            name,
            "Authenticated Users may not read the template, which the CA and the FAS console count on.",
            f"Give Authenticated Users Read: certtmpl.msc, {template.name}, Security.",
            CheckCode.TEMPLATE_NOT_READABLE,
        )


def _wide(name: str, template: Template, dacl: Dacl, *, agent: bool) -> Iterator[Check]:
    wide = [each.name for each in _enrollers(dacl) if each.alias in _WIDE] if agent else []
    if wide:
        yield warning(
            name,
            f"{' and '.join(wide)} may enroll by a template that makes enrollment agents, who can enroll anybody.",
            "Give Enroll to a group that holds only the FAS servers' computer accounts instead: certtmpl.msc, "
            f"{template.name}, Security.",
            CheckCode.TEMPLATE_WIDE,
        )
    writers = [
        each.name
        for each in dacl.trustees
        if each.alias not in _ADMINISTRATORS and each.alias not in {"CO", "ED"} and dacl.rights_of(each).write
    ]
    if writers:
        yield warning(
            name,
            f"{', '.join(writers)} may change the template, and so what it makes.",
            f"Take Write away from all but administrators: certtmpl.msc, {template.name}, Security.",
            CheckCode.TEMPLATE_WIDE,
        )


def _admins(name: str, template: Template, dacl: Dacl) -> Iterator[Check]:
    rights = dacl.rights_of_alias("DA", *_EVERYBODY)
    lacking = [
        word for word, has in (("Read", rights.read), ("Write", rights.write), ("Enroll", rights.enroll)) if not has
    ]
    if lacking:
        yield warning(
            name,
            f"Domain Admins lack {', '.join(lacking)}; FAS itself does not need it, but its console counts on it.",
            f"Give Domain Admins Read, Write and Enroll: certtmpl.msc, {template.name}, Security.",
            CheckCode.TEMPLATE_RIGHTS,
        )
