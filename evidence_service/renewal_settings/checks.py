"""What no table shows alone: servers that are one, an approver who asks, a lead that cannot work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evidence_service.notices.model import Mail, Smtp
from evidence_service.renewal.farm import FasServer, WinRm
from evidence_service.renewal.model import Maintenance, RenewalPolicy
from evidence_service.renewal.timing import lead_findings
from evidence_service.renewal_settings.faults import MemberProblem
from evidence_service.renewal_settings.model import RenewalSettings

_PLAIN_WINRM = 5985


def refuse_repeated(table: str, names: Sequence[str]) -> None:
    """Each name stands once, whatever its capitals. Raises MemberProblem."""
    seen: set[str] = set()
    for name in names:
        if name.casefold() in seen:
            raise MemberProblem(
                table,
                "name" if "revocation" not in table else "certificate_authority",
                f"{name} stands twice; leave one out, or correct the name",
            )
        seen.add(name.casefold())


def refuse_same_machine(servers: Sequence[FasServer]) -> None:
    """One FAS server under two names would be its own healthy neighbour, and be asked for two certificates.

    Raises MemberProblem.
    """
    seen: dict[str, dict[int | None, str]] = {}
    for server in servers:
        host, port = _place_of(server)
        there = seen.setdefault(host.casefold().removesuffix("."), {})
        before = next((name for other, name in there.items() if port is None or other in (None, port)), None)
        if before is not None:
            member = "host" if server.address is None else "address"
            where = host if port is None else f"{host}:{port}"
            problem = f"leads to {where}, as that of {before} does; name each FAS server once"
            raise MemberProblem(f"[[fas_servers]] {server.name},", member, problem)
        there[port] = server.name


def _place_of(server: FasServer) -> tuple[str, int | None]:
    """The machine on which FAS is asked. By WinRM the port counts, as one host may forward several to others."""
    if server.address not in (None, "localhost"):
        return server.address, None
    if isinstance(server.connection, WinRm):
        return server.connection.host, server.connection.port
    return "this machine", None


def refuse_own_approval(mail: Mail, servers: Sequence[FasServer]) -> None:
    """The human check stays human (promise 62): who approves is neither the sender nor an account that requests.

    Raises MemberProblem.
    """
    own = {mail.sender.casefold(): "the sender of this service's mail"}
    if isinstance(mail.transport, Smtp) and mail.transport.username is not None:
        own[mail.transport.username.casefold()] = "the account that sends this service's mail"
    for server in servers:
        if isinstance(server.connection, WinRm) and server.connection.username is not None:
            own[server.connection.username.casefold()] = f"the account that requests on {server.name}"
    by_name = {account.rpartition("\\")[2]: what for account, what in own.items() if "@" not in account}
    for approver in mail.approvers:
        address = approver.casefold()
        what = own.get(address) or by_name.get(address.partition("@")[0])
        if what is not None:
            problem = f"{approver} is {what}; the approver must be a person other than the requester"
            raise MemberProblem("[mail]", "approvers", problem)


def check_policy(table: str, policy: RenewalPolicy) -> None:
    """The numbers of one server fit together. Raises MemberProblem."""
    for finding in lead_findings(policy, policy.lifetime):
        text = f"expected {finding.expected}, not {finding.presented}; correct the lead, or what it must hold"
        raise MemberProblem(table, f"renewal.{finding.where}", text)
    if policy.approval_deadline < policy.approval_time:
        raise MemberProblem(
            table, "renewal.approval_deadline", "is shorter than approval_time; make it as long, or longer"
        )
    if policy.lifetime is not None and policy.lifetime < policy.least_lifetime:
        problem = f"is longer than certificates live ({policy.lifetime.days} days), so that each would be refused"
        raise MemberProblem(table, "renewal.least_lifetime", f"{problem}; make it shorter")
    named = (policy.test_upn, policy.test_rule, policy.test_definition)
    if policy.test_definition is not None and None in named:
        raise MemberProblem(table, "renewal.test_definition", "needs test_rule and test_upn beside it")
    if policy.test_rule is not None and policy.test_definition is None:
        raise MemberProblem(table, "renewal.test_rule", "needs test_definition beside it")


def renewal_warnings(settings: RenewalSettings) -> Iterator[tuple[str, str]]:
    """What can be started with and should still be looked at: subject and one sentence."""
    servers = settings.farm.servers
    for server in servers:
        subject = f"FAS server {server.name}"
        if server.policy.maintenance is Maintenance.REQUIRED and len(servers) == 1:
            text = (
                'maintenance is "required", but no other FAS server is configured, so that it would never be switched; '
                'configure the others, or set maintenance = "skip" where there is only one'
            )
            yield subject, text
        if isinstance(server.connection, WinRm) and server.connection.port == _PLAIN_WINRM:
            text = (
                f"port {_PLAIN_WINRM} is where WinRM listens without TLS, which is never used; "
                "leave port out where it listens for HTTPS on 5986"
            )
            yield subject, text
        if server.policy.test_upn is None:
            yield subject, "no test_upn is set, so that a new certificate is used without a test enrollment"
    if servers and settings.channels.mail is None:
        yield "mail", "none is set, so that no approver is told of a request; it is in the log and the journal alone"
    known = {each.certificate_authority.casefold() for each in settings.farm.revocation_lists}
    unknown = {
        each.policy.certificate_authority
        for each in servers
        if each.policy.certificate_authority is not None and each.policy.certificate_authority.casefold() not in known
    }
    for name in sorted(unknown):
        yield f"CA {name}", "has no entry in [[revocation_lists]], so that a revocation is not noticed"
