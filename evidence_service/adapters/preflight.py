"""Looks over one FAS server for `evidence_service.renewal.preflight`, each thing by itself.

Nothing is changed. Only with `test` does FAS do something: it enrolls the test user, and keeps no certificate of that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar

from evidence_service.adapters.fas import leaves_open, open_powershell
from evidence_service.adapters.fas_objects import (
    certificate_of,
    definition_of,
    failed_test,
    failures_of,
    installed_of,
    rule_of,
    truth,
    with_installed,
)
from evidence_service.adapters.powershell import CmdletResult, PowerShell, one_line
from evidence_service.adapters.revocation import Revocations
from evidence_service.renewal.cmdlets import Cmdlet, cmdlets_of, failure_events, installed_events
from evidence_service.renewal.dispositions import explain_disposition
from evidence_service.renewal.farm import Farm, FasServer, WinRm, WinRmAuth
from evidence_service.renewal.model import AuthorizationCertificate, EnrollmentTest, Observation, Verify
from evidence_service.renewal.ports import FasAnswerUnknown, FasRefused, FasUnreachable
from evidence_service.renewal.preflight import (
    Authority,
    Enrollment,
    Listed,
    Monitor,
    NotRead,
    PreflightFacts,
    Template,
)

Progress = Callable[[str], None]

_T = TypeVar("_T")
_Properties = Mapping[str, object]

_OF_THE_DOMAIN = frozenset({"Get-FasMsCertificateAuthority", "Get-FasMsTemplate", "Get-FasServer", "Get-WinEvent"})
"""Not about one FAS server: -Address of the first is a CA, and Get-FasServer without it lists all of the policy."""
_JUST_NOW = timedelta(minutes=2)
_DENIED = re.compile(r"access (?:is |was )?denied|not (?:an? )?(?:administrator|authori[sz]ed)", re.IGNORECASE)
_TIME_SPAN = re.compile(r"(?:(\d{1,6})\.)?(\d{1,2}):(\d\d):(\d\d)(?:\.\d+)?")  # [d.]hh:mm:ss, as .NET writes it
_DURATION = re.compile(r"P(?:(\d{1,6})D)?(?:T(?:(\d{1,6})H)?(?:(\d{1,6})M)?(?:(\d{1,6})(?:\.\d+)?S)?)?")  # as XML does


def look_over(
    server: FasServer,
    farm: Farm,
    now: datetime,
    *,
    test: bool = False,
    progress: Progress | None = None,
    approvers: Sequence[str] | None = None,
    opens: Callable[[FasServer], PowerShell] | None = None,
) -> PreflightFacts:
    """What can be found out about this server at `now` (UTC); raises nothing of what FAS or the network does.

    `test` enrolls the test user by every rule. `progress` is told what is looked at. `approvers` are the mail addresses
    of those who approve. `opens` makes the session, by default the configured one.
    """
    progress = progress or _silent
    facts = _nothing_read(server, farm, now, approvers)
    try:
        progress(f"opening a session on {server.name}")
        with (opens or _configured)(server) as opened:
            reader = _Reader(opened, server, progress)
            facts = _read(facts, reader)
            if test:
                facts = replace(facts, enrollments=_enrollments(facts, reader))
    except (FasUnreachable, FasAnswerUnknown) as error:
        return replace(facts, session=NotRead(error=one_line(error)))
    return _with_revocations(facts, farm, progress)


def _nothing_read(server: FasServer, farm: Farm, now: datetime, approvers: Sequence[str] | None) -> PreflightFacts:
    nothing = NotRead(error="there is no session")
    return PreflightFacts(
        server=server,
        farm=farm.servers,
        now=now,
        account=_account(server),
        session=None,
        certificates=nothing,
        definitions=nothing,
        rules=nothing,
        listed=nothing,
        authorities=nothing,
        templates=nothing,
        monitor=nothing,
        approvers=None if approvers is None else tuple(approvers),
    )


class _Reader:
    """A session in which each read fails by itself."""

    def __init__(self, opened: PowerShell, server: FasServer, progress: Progress) -> None:
        self._opened, self._address, self._progress = opened, server.address, progress
        self.reads_events = server.read_events
        self._lost: NotRead | None = None

    def call(self, cmdlet: Cmdlet) -> CmdletResult | NotRead:
        """The answer, or why there is none. After the session broke nothing more is asked in it."""
        if self._lost is not None:
            return self._lost
        self._progress(cmdlet.name)
        if self._address is not None and cmdlet.name not in _OF_THE_DOMAIN:
            cmdlet = replace(cmdlet, parameters={**cmdlet.parameters, "Address": self._address})
        try:
            answer = self._opened.invoke(cmdlet)
        except (FasUnreachable, FasAnswerUnknown) as error:
            self._lost = NotRead(error=one_line(error))
            return self._lost
        return answer

    def read(self, cmdlet: Cmdlet, parse: Callable[[_Properties], _T]) -> tuple[_T, ...] | NotRead:
        """Each object as a value; one that cannot be read makes all of them unknown."""
        answer = self.call(cmdlet)
        if isinstance(answer, NotRead):
            return answer
        if answer.errors:
            return _refusal(answer)
        try:
            return tuple(parse(each) for each in answer.objects)
        except (FasRefused, ValueError) as error:
            return NotRead(error=one_line(error))


def _read(facts: PreflightFacts, reader: _Reader) -> PreflightFacts:
    certificates, full_info = _certificates(facts.server, reader)
    monitors = reader.read(Cmdlet(name="Get-FasRaCertificateMonitor"), _monitor)
    none = NotRead(error="it answered nothing")
    return replace(
        facts,
        certificates=certificates,
        full_info=full_info,
        definitions=reader.read(Cmdlet(name="Get-FasCertificateDefinition"), definition_of),
        rules=reader.read(Cmdlet(name="Get-FasRule"), rule_of),
        listed=reader.read(Cmdlet(name="Get-FasServer"), _listed),
        authorities=reader.read(Cmdlet(name="Get-FasMsCertificateAuthority"), _authority),
        templates=reader.read(Cmdlet(name="Get-FasMsTemplate"), _template),
        monitor=monitors if isinstance(monitors, NotRead) else next(iter(monitors), none),
    )


def _certificates(server: FasServer, reader: _Reader) -> tuple[tuple[AuthorizationCertificate, ...] | NotRead, bool]:
    """All of them, and whether the release knows -FullCertInfo."""
    name, full_info = "Get-FasAuthorizationCertificate", True
    found = reader.read(Cmdlet(name=name, parameters={"FullCertInfo": True}), certificate_of)
    if isinstance(found, NotRead) and found.lacking:
        found, full_info = reader.read(Cmdlet(name=name), certificate_of), False
    if isinstance(found, NotRead) or not server.read_events:
        return found, full_info
    answer = reader.call(installed_events())
    listed = {} if isinstance(answer, NotRead) else installed_of(answer.objects)
    return tuple(with_installed(each, listed) for each in found), full_info


def _enrollments(facts: PreflightFacts, reader: _Reader) -> tuple[Enrollment, ...] | NotRead:
    upn = facts.server.policy.test_upn
    if upn is None:
        return NotRead(error="No test user is set (test_upn), so that no enrollment was tried.")
    if isinstance(facts.rules, NotRead):
        return NotRead(error=f"The rules are not known, so that no enrollment was tried: {facts.rules.error}")
    tests = (EnrollmentTest(rule=rule.name, definition=each) for rule in facts.rules for each in rule.definitions)
    return tuple(_enrollment(each, upn, reader) for each in tests)


def _enrollment(test: EnrollmentTest, upn: str, reader: _Reader) -> Enrollment:
    (cmdlet,) = cmdlets_of(Verify(certificate_id="", tests=(test,), upn=upn))
    answer = reader.call(cmdlet)
    problem: str | NotRead | None
    if isinstance(answer, NotRead):
        problem = answer
    elif answer.errors:
        refusal = _refusal(answer)
        problem = refusal if refusal.lacking or leaves_open(answer) else refusal.error + _logged(reader)
    else:
        said = next(filter(None, map(failed_test, answer.objects)), None)
        problem = None if said is None else said + _logged(reader)
    return Enrollment(rule=test.rule, definition=test.definition, problem=problem)


def _logged(reader: _Reader) -> str:
    """What the CA answered is in S124 alone; whom it names is not kept."""
    answer = reader.call(failure_events(_JUST_NOW)) if reader.reads_events else None
    if answer is None or isinstance(answer, NotRead):
        return ""
    refusals = [each for each in failures_of(answer.objects) if each.event == 124 and each.disposition is not None]
    if not refusals:
        return ""
    last = refusals[-1]
    why = explain_disposition(last.disposition or 0).name
    return f" (S124 in the server's log: {last.certificate_authority} returned {why} (code {last.disposition}))."


def _with_revocations(facts: PreflightFacts, farm: Farm, progress: Progress) -> PreflightFacts:
    issuers = (each.certificate_authority for each in facts.used)
    authorities = {each.casefold(): each for each in (*facts.authorities_in_use, *issuers) if each is not None}
    lists = [each for each in farm.revocation_lists if each.certificate_authority.casefold() in authorities]
    if not lists or isinstance(facts.certificates, NotRead):
        return facts
    progress("the CA's revocation list")
    revocations = Revocations(lists, lambda: facts.now)
    for each in lists:
        revocations.revoked_at(each.certificate_authority, "0")  # so that a list without a question is looked at too
    seen = Observation(
        server=facts.server.name, at=facts.now, certificates=facts.certificates, definitions=(), rules=()
    )
    marked = revocations.mark(seen).certificates
    covered = {each.certificate_authority.casefold() for each in lists}
    bare = tuple(f"No CRL is configured for {each}" for name, each in authorities.items() if name not in covered)
    problems = tuple(each.text for each in revocations.problems())
    return replace(facts, certificates=marked, revocation=(*problems, *bare))


def _authority(found: _Properties) -> Authority:
    published = _value(found, "PublishedTemplates")
    return Authority(
        address=_text(found, "Address"),
        accessible=truth(_value(found, "IsAccessible")),
        published=None if published is None else _texts(published),
    )


def _template(found: _Properties) -> Template:
    """Releases differ in what the property with the SDDL is called, so that it is known by its look too."""
    named = next((each for each in map(str, (_value(found, "SDDL"), _value(found, "Acl"))) if "D:" in each), None)
    looks = next((each for each in found.values() if isinstance(each, str) and re.search(r"D:\S*\(", each)), None)
    return Template(name=_text(found, "Name"), sddl=named or looks)


def _monitor(found: _Properties) -> Monitor:
    threshold = next(
        (_span(value) for name, value in found.items() if name.casefold().startswith("warningthreshold")), None
    )
    return Monitor(enabled=truth(_value(found, "Enabled")), threshold=threshold)


def _listed(found: _Properties) -> Listed:
    modes = (_value(found, each) for each in ("MaintenanceMode", "IsInMaintenanceMode", "Maintenance"))
    known = (truth(each) for each in modes)
    return Listed(address=_text(found, "Address"), maintenance=next((each for each in known if each is not None), None))


def _span(value: object) -> timedelta | None:
    """A TimeSpan as .NET or XML writes it, or a number of days."""
    if isinstance(value, int) and not isinstance(value, bool):
        return timedelta(days=value) if 0 <= value <= 1_000_000 else None
    text = str(value).strip()
    parts = _TIME_SPAN.fullmatch(text) or (_DURATION.fullmatch(text) if len(text) > 1 else None)
    if parts is None:
        return None
    days, hours, minutes, seconds = (int(each or 0) for each in parts.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def _value(found: _Properties, name: str) -> object:
    return next((value for each, value in found.items() if each.casefold() == name.casefold()), None)


def _text(found: _Properties, name: str) -> str:
    value = str(_value(found, name) or "").strip()
    if not value:
        raise ValueError(f"an object without {name}: {one_line(dict(found))}")
    return value


def _texts(value: object) -> tuple[str, ...]:
    items: Iterable[object] = value if isinstance(value, list | tuple) else (value,)
    names = (_value(each, "Name") if isinstance(each, Mapping) else each for each in items)
    return tuple(str(each) for each in names if each)


def _refusal(answer: CmdletResult) -> NotRead:
    ids = [each.error_id.partition(",")[0] for each in answer.errors]
    refused = any(each.category in {"PermissionDenied", "SecurityError"} for each in answer.errors)
    words = one_line("; ".join(each.message.strip() for each in answer.errors))
    return NotRead(
        error=words,
        refused=refused or _DENIED.search(words) is not None,
        lacking=not {"CommandNotFoundException", "NamedParameterNotFound"}.isdisjoint(ids),
    )


def _account(server: FasServer) -> str:
    """Who signs in, as far as the configuration tells."""
    connection = server.connection
    if not isinstance(connection, WinRm):
        return "the account of this service"
    if connection.auth is WinRmAuth.CERTIFICATE or connection.client_certificate:
        return f"the account of the client certificate {connection.client_certificate}"
    return connection.username or "the account of the Kerberos ticket"


def _configured(server: FasServer) -> PowerShell:
    return open_powershell(server.connection)


def _silent(_: str) -> None:
    """Nobody watches."""
