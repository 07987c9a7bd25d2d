"""One FAS server, read and changed by its PowerShell cmdlets (implements `evidence_service.renewal.ports.Fas`).

Each observation and each act has a session of its own. What only reads may fail and is read again later. Once a cmdlet
that changes something was sent, every loss of the connection is FasAnswerUnknown, and nothing is sent again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from evidence_service.adapters.fas_objects import (
    Installed,
    Properties,
    certificate_of,
    definition_of,
    failed_test,
    failures_of,
    id_of,
    installed_of,
    maintenance_of,
    record_of,
    rule_of,
    with_installed,
)
from evidence_service.adapters.local_powershell import LocalPowerShell
from evidence_service.adapters.powershell import CmdletResult, ErrorRecord, PowerShell, one_line
from evidence_service.adapters.psrp import WinRmPowerShell
from evidence_service.renewal.cmdlets import (
    MOST_EVENTS,
    READING,
    Cmdlet,
    cmdlets_of,
    failure_events,
    installed_events,
    leftover_removal,
    observing_cmdlets,
    point_of,
)
from evidence_service.renewal.farm import FasServer, Local, WinRm
from evidence_service.renewal.model import (
    USABLE,
    Act,
    AuthorizationCertificate,
    EnterMaintenance,
    Import,
    IssuanceFailure,
    LeaveMaintenance,
    Observation,
    Prove,
    Request,
    Result,
    Retire,
    RollBack,
    Switch,
    Verify,
    Withdraw,
)
from evidence_service.renewal.ports import Fas, FasAnswerUnknown, FasRefused, FasUnreachable, Performed
from evidence_service.renewal.reasons import RenewalReason
from idp_certs.reasons import Finding

_LONGEST_SOAK_READ = timedelta(days=1)
"""How much further than the soak failures to issue are read back."""
_MOST_PAGES = 10
"""Of events about installed certificates, most of which are users': as many as a log of the usual 20 MB holds."""
_UNLISTED = Installed(serial=None, not_before=None)
_SERVERS = "Get-FasServer"
_LOST_ON_THE_WAY = (
    "System.TimeoutException",
    "System.ServiceModel.CommunicationException",
    "System.ServiceModel.CommunicationObject",
    "System.ServiceModel.ProtocolException",
)
"""WCF's exceptions by the beginning of their names; a FaultException is FAS's own answer."""
_DONE = Performed(result=Result.DONE)


def open_powershell(connection: WinRm | Local) -> PowerShell:
    """A session by what is configured; it is opened by `with`."""
    return LocalPowerShell(connection) if isinstance(connection, Local) else WinRmPowerShell(connection)


def open_fas(server: FasServer, at_point: Callable[[str], None] | None = None) -> Fas:
    """The server as configured. `at_point` is told the point before and after each call that changes."""
    return PowerShellFas(server, lambda: open_powershell(server.connection), at_point)


class PowerShellFas:
    """A FAS server behind any PowerShell."""

    def __init__(
        self,
        server: FasServer,
        powershell: Callable[[], PowerShell],
        at_point: Callable[[str], None] | None = None,
    ) -> None:
        """Open a session for each observation and act by `powershell`."""
        self._server = server
        self._powershell = powershell
        self._at_point = at_point or (lambda _: None)

    def observe(self, now: datetime, before: Observation | None = None) -> Observation:
        """What the server reports. Raises FasUnreachable, FasAnswerUnknown, FasRefused.

        What the log listed `before` of a certificate is known still when users' certificates have pushed it out.
        """
        with self._powershell() as opened:
            session = _Session(opened, self._server.address)
            _, definitions, rules, servers = observing_cmdlets()
            certificates = session.certificates()
            defined, ruled = session.read(definitions), session.read(rules)
            maintenance = self._maintenance(session.call(servers))
            failures = self._failures(session)
            listed = self._installed(session, certificates, () if before is None else before.certificates)
        return Observation(
            server=self._server.name,
            at=now,
            certificates=tuple(with_installed(each, listed) for each in certificates),
            definitions=tuple(map(definition_of, defined)),
            rules=tuple(map(rule_of, ruled)),
            maintenance=maintenance,
            failures=failures,
        )

    def perform(self, act: Act) -> Performed:
        """Do it, with what proves it. Raises FasUnreachable before anything was sent, FasAnswerUnknown after it."""
        if isinstance(act, Prove) and act.findings:
            return Performed(result=Result.FAILED, finding=act.findings[0])
        cmdlets = cmdlets_of(act)
        if not cmdlets:
            return _DONE
        session = None
        try:
            with self._powershell() as opened:
                session = _Session(opened, self._server.address, self._at_point)
                if self._server.policy.offline:
                    session.remove_leftovers()
                return self._performed(session, act, cmdlets)
        except FasRefused as refused:
            if session is not None and session.changed:
                raise FasAnswerUnknown(f"It was done, but could not be read back by {refused}") from refused
            return Performed(result=Result.FAILED, finding=refused.finding)
        except FasUnreachable as error:
            if session is not None and session.changed:
                raise FasAnswerUnknown(str(error)) from error
            raise

    def _performed(self, session: _Session, act: Act, cmdlets: tuple[Cmdlet, ...]) -> Performed:
        if isinstance(act, Import):
            return _imported(session, cmdlets)
        if isinstance(act, (Retire, Withdraw)) and (named_by := _named_by(session, act.certificate_id)) is not None:
            return Performed(result=Result.FAILED, finding=named_by)
        for cmdlet in cmdlets:
            answer = session.call(cmdlet)
            if answer.errors and cmdlet.name != _SERVERS:
                if cmdlet.name in READING:
                    raise FasAnswerUnknown(f"It was done, but could not be read back by {_said(cmdlet, answer)}")
                return _refused(session, act, cmdlet, answer)
            finding = self._contradiction(act, cmdlet, answer)
            if finding is not None:
                return Performed(result=Result.FAILED, finding=finding)
        return _requested(session, act, answer) if isinstance(act, Request) else _DONE

    def _contradiction(self, act: Act, cmdlet: Cmdlet, answer: CmdletResult) -> Finding | None:
        """What an answer without an error says against the act."""
        if cmdlet.name.startswith("Test-"):
            said = next(filter(None, map(failed_test, answer.objects)), None)
            return None if said is None else Finding(reason=_test_reason(act), presented=said, where=cmdlet.name)
        if cmdlet.name == _SERVERS and isinstance(act, (EnterMaintenance, LeaveMaintenance)):
            wanted = isinstance(act, EnterMaintenance)
            found = self._maintenance(answer)
            return None if found in {wanted, None} else _differs(cmdlet, f"maintenance {wanted}", f"{found}")
        if cmdlet.name == "Get-FasCertificateDefinition" and isinstance(act, (Switch, RollBack)):
            definitions = [definition_of(each) for each in answer.objects]
            named = [each.authorization_certificate for each in definitions if each.name == act.definition]
            return (
                None if named == [act.after] else _differs(cmdlet, act.after, ", ".join(named) or "no such definition")
            )
        return None

    def _maintenance(self, servers: CmdletResult) -> bool | None:
        if servers.errors:
            return None  # the list is the machine's policy, which a management machine or a JEA endpoint may lack
        return maintenance_of(servers.objects, self._server.listed_as)

    def _failures(self, session: _Session) -> tuple[IssuanceFailure, ...] | None:
        if not self._server.read_events:
            return None
        failures = _events(session.call(failure_events(self._server.policy.soak + _LONGEST_SOAK_READ)))
        return None if failures is None else failures_of(failures)

    def _installed(
        self,
        session: _Session,
        certificates: Iterable[AuthorizationCertificate],
        before: Iterable[AuthorizationCertificate],
    ) -> dict[str, Installed]:
        """What the log lists, of the newest events, and further back for a certificate that was not there `before`."""
        if not self._server.read_events:
            return {}
        seen = {each.trust_area: Installed(serial=each.serial, not_before=each.not_before) for each in before}
        known = {area: each for area, each in seen.items() if area is not None and each != _UNLISTED}
        wanted = {each.trust_area for each in certificates if each.status in USABLE} - {None, *seen}
        listed: dict[str, Installed] = {}
        last: int | None = None
        for _ in range(_MOST_PAGES):
            page = _events(session.call(installed_events(last))) or ()
            listed = {**installed_of(page), **listed}
            last = min(filter(None, map(record_of, page)), default=None)
            if len(page) < MOST_EVENTS or last is None or wanted <= listed.keys():
                break
        return {**known, **listed}


class _Session:
    """An open session that addresses the right server, and knows whether anything that changes was sent."""

    def __init__(
        self, opened: PowerShell, address: str | None, at_point: Callable[[str], None] = lambda _: None
    ) -> None:
        self._opened, self._address, self._at_point = opened, address, at_point
        self.changed = False

    def call(self, cmdlet: Cmdlet) -> CmdletResult:
        whole = cmdlet
        if self._address is not None and "-Fas" in cmdlet.name:
            whole = replace(cmdlet, parameters={**cmdlet.parameters, "Address": self._address})
        if cmdlet.name in READING:
            return self._opened.invoke(whole)
        self._at_point(point_of(cmdlet, "before"))
        try:
            answer = self._opened.invoke(whole)
        except FasAnswerUnknown:
            self.changed = True
            raise
        self.changed = True
        if leaves_open(answer):
            raise FasAnswerUnknown(_said(cmdlet, answer))
        self._at_point(point_of(cmdlet, "after"))
        return answer

    def remove_leftovers(self) -> None:
        """Remove the files of imports that were cut off.

        Whatever comes of it says nothing of FAS, which is not asked, so that a lost answer leaves nothing unknown.
        """
        try:
            self._opened.invoke(leftover_removal())
        except FasAnswerUnknown as error:
            raise FasUnreachable(str(error)) from error

    def read(self, cmdlet: Cmdlet) -> tuple[Properties, ...]:
        """What must be known. Raises FasRefused where FAS answers with an error."""
        answer = self.call(cmdlet)
        if answer.errors:
            raise FasRefused(_finding(RenewalReason.REFUSED_BY_FAS, cmdlet, answer.errors))
        return answer.objects

    def certificates(self) -> tuple[AuthorizationCertificate, ...]:
        """All of them. A release without -FullCertInfo is asked again without it. Raises FasRefused."""
        cmdlet = observing_cmdlets()[0]
        answer = self.call(cmdlet)
        plain = cmdlet if not _unknown_parameter(answer.errors) else replace(cmdlet, parameters={})
        objects = answer.objects if not answer.errors else self.read(plain)
        return tuple(map(certificate_of, objects))


def _refused(session: _Session, act: Act, cmdlet: Cmdlet, answer: CmdletResult) -> Performed:
    if isinstance(act, (Retire, Withdraw)) and _is_gone(session, act.certificate_id):
        return _DONE
    reason = _test_reason(act) if cmdlet.name.startswith("Test-") else RenewalReason.REFUSED_BY_FAS
    return Performed(result=Result.FAILED, finding=_finding(reason, cmdlet, answer.errors))


def _imported(session: _Session, cmdlets: tuple[Cmdlet, ...]) -> Performed:
    """Import, and remove the file whatever came of it; an error in removing it says nothing about the import."""
    *steps, removal = cmdlets
    performed = _DONE
    for cmdlet in steps:
        answer = session.call(cmdlet)
        if answer.errors:
            finding = _finding(RenewalReason.REFUSED_BY_FAS, cmdlet, answer.errors)
            performed = Performed(result=Result.FAILED, finding=finding)
            break
    session.call(removal)
    return performed


def _requested(session: _Session, act: Request, answer: CmdletResult) -> Performed:
    """The new id: the answered one, or what is on the server now and was not before (1906 and older answer nothing).

    `unknown` where that is not exactly one.
    """
    try:
        told = {id_of(each, "New-FasAuthorizationCertificate") for each in answer.objects} - act.known
        new = told or {each.id for each in session.certificates()} - act.known
    except FasRefused:
        new = set()
    if len(new) != 1:
        return Performed(result=Result.UNKNOWN)
    return Performed(result=Result.DONE, certificate_id=new.pop())


def _named_by(session: _Session, certificate_id: str) -> Finding | None:
    """What forbids its removal at the last moment: somebody pointed a definition there since FAS was observed."""
    cmdlet = observing_cmdlets()[1]
    defined = [definition_of(each) for each in session.read(cmdlet)]
    names = [each.name for each in defined if each.authorization_certificate == certificate_id]
    return _differs(cmdlet, f"no definition that names {certificate_id}", ", ".join(names)) if names else None


def _is_gone(session: _Session, certificate_id: str) -> bool:
    try:
        return certificate_id not in {each.id for each in session.certificates()}
    except FasRefused:
        return False


def _events(answer: CmdletResult) -> tuple[Properties, ...] | None:
    """Of the log; None where it cannot be read. That there is none of a kind is an error record in PowerShell."""
    if all(each.error_id.startswith("NoMatchingEventsFound") for each in answer.errors):
        return answer.objects
    return None


def _unknown_parameter(errors: tuple[ErrorRecord, ...]) -> bool:
    return any(each.error_id.startswith("NamedParameterNotFound") for each in errors)


def _expected(cmdlet: Cmdlet, errors: tuple[ErrorRecord, ...]) -> str:
    """What the release, or the session configuration, lacks.

    Without -DeleteUserCerts (7.17) user certificates cannot be kept, so a removal is never asked for again without it.
    """
    if _unknown_parameter(errors):
        return f"a FAS release whose {cmdlet.name} knows the parameter"
    if any(each.error_id.startswith("CommandNotFoundException") for each in errors):
        return f"a FAS release, and a session configuration, that have {cmdlet.name}"
    return ""


def leaves_open(answer: CmdletResult) -> bool:
    """Whether the cmdlet itself lost FAS on the way (WCF): an error that says nothing about what FAS did."""
    return any(
        each.category == "OperationTimeout" or any(name.startswith(_LOST_ON_THE_WAY) for name in _names(each))
        for each in answer.errors
    )


def _names(error: ErrorRecord) -> tuple[str, ...]:
    """What names its kind; an id is that of the cmdlet, or the type of an exception that the cmdlet did not expect."""
    return (error.error_id, *error.exceptions)


def _said(cmdlet: Cmdlet, answer: CmdletResult) -> str:
    return one_line(f"{cmdlet.name}: {answer.errors[0].message}")


def _test_reason(act: Act) -> RenewalReason:
    return RenewalReason.VERIFY_FAILED if isinstance(act, Verify) else RenewalReason.PROOF_FAILED


def _finding(reason: RenewalReason, cmdlet: Cmdlet, errors: tuple[ErrorRecord, ...]) -> Finding:
    words = one_line("; ".join(each.message.strip() for each in errors))
    return Finding(reason=reason, expected=_expected(cmdlet, errors), presented=words, where=cmdlet.name)


def _differs(cmdlet: Cmdlet, expected: str, presented: str) -> Finding:
    return Finding(reason=RenewalReason.NOT_READ_BACK, expected=expected, presented=presented, where=cmdlet.name)
