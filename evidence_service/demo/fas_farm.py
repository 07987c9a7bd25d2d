"""A farm of simulated FAS servers with its CA, for `fas-evidence demo`, for rehearsals and for tests.

The servers answer the cmdlets of real ones, in process (`SimulatedFarm.powershell`) or by PowerShell remoting
(`evidence_service.demo.winrm`), with the faults that are planted in them. Time is told: `now` moves by `advance`, or
follows the clock that is given. Thread-safe.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Self

from evidence_service.adapters.powershell import CmdletResult, ErrorRecord
from evidence_service.demo.fas_binding import Call, PsObject, run
from evidence_service.demo.fas_ca import SMARTCARD, CaRequest, SimulatedCa
from evidence_service.demo.fas_cmdlets import CMDLETS as CALLABLE
from evidence_service.demo.fas_server import RELEASES, CmdletError, Definition, Rule, SimulatedFas, UserCertificate
from evidence_service.renewal.cmdlets import CMDLETS, READING, Cmdlet
from evidence_service.renewal.ports import FasAnswerUnknown, FasUnreachable

ACCOUNT = r"CORP\svc-fas-renewal"
SERVERS = ("fas1.corp.example", "fas2.corp.example")


@dataclass(frozen=True, slots=True, kw_only=True)
class FarmCall:
    """One cmdlet as it was called. `done`: FAS took it up, whatever it answered and whether or not that arrived."""

    server: str
    name: str
    parameters: Mapping[str, object]
    at: datetime
    account: str
    done: bool = True

    def __str__(self) -> str:
        """The call on one line."""
        parameters = "".join(f" -{name} {value}" for name, value in self.parameters.items())
        return f"{self.at:%Y-%m-%d %H:%M:%SZ} {self.server} {self.name}{parameters}"


@dataclass(slots=True, kw_only=True)
class Faults:
    """What goes wrong with the next calls of cmdlets at one server."""

    hang_next: dict[str, float] = field(default_factory=dict)
    lose_next: set[str] = field(default_factory=set)
    fail_next: dict[str, CmdletError] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What the next answer suffers: it takes so long, or it never arrives."""

    seconds: float = 0.0
    lost: bool = False


class FarmServer(SimulatedFas):
    """A server of the farm: a FAS server with what goes wrong in reaching it.

    Set `unreachable` and nobody reaches it; set `hangs` and no call is answered, or carried out.
    """

    def __init__(self, name: str, *, release: str, ca: SimulatedCa, now: Callable[[], datetime]) -> None:
        """As `SimulatedFas`, without faults."""
        super().__init__(name, release=release, ca=ca, now=now)
        self.hangs = False
        self.faults = Faults()

    def hang_next(self, cmdlet: str, seconds: float) -> None:
        """Let the next such call take so long; it is carried out at its end."""
        self.faults.hang_next[cmdlet] = seconds

    def lose_answer_next(self, cmdlet: str) -> None:
        """Carry the next such call out, and cut the connection before the answer."""
        self.faults.lose_next.add(cmdlet)

    def fail_next(
        self,
        cmdlet: str,
        message: str,
        error_id: str = "",
        category: str = "NotSpecified",
        *,
        terminating: bool = True,
    ) -> None:
        """Answer the next such call with an error, and do nothing."""
        self.faults.fail_next[cmdlet] = CmdletError(message, error_id, category, terminating=terminating)


class SimulatedFarm:
    """FAS servers and the CA that they share."""

    def __init__(
        self,
        now: datetime,
        *,
        release: str = "2402",
        servers: tuple[str, ...] = SERVERS,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        """Servers by FQDN, all of one release, at the time `now` (UTC), or at that of `clock`.

        Raises ValueError for a release that is not simulated.
        """
        if release not in RELEASES:
            raise ValueError(f"release {release!r} is not simulated; use one of {', '.join(RELEASES)}")
        self.lock = threading.RLock()
        self.calls: list[FarmCall] = []
        self._start, self._clock, self._advanced = now, clock, timedelta(0)
        self._late: list[tuple[datetime, FarmServer, Cmdlet, str]] = []
        self.ca = SimulatedCa(lambda: self.now, self.lock)
        self._servers = {
            name.casefold(): FarmServer(name, release=release, ca=self.ca, now=lambda: self.now) for name in servers
        }

    @property
    def now(self) -> datetime:
        """The farm's time, in UTC."""
        return (self._start if self._clock is None else self._clock()) + self._advanced

    @property
    def servers(self) -> tuple[FarmServer, ...]:
        """All servers, in order."""
        return tuple(self._servers.values())

    def advance(self, by: timedelta) -> None:
        """Let time pass: what FAS does by itself meanwhile is done, and calls that took long end."""
        with self.lock:
            self._advanced += by
            self._catch_up()

    def server(self, name: str) -> FarmServer:
        """The server of this name, at the state of now. Raises KeyError."""
        with self.lock:
            self._catch_up()
            return self._servers[name.casefold()]

    def install(
        self,
        name: str,
        *,
        expires: datetime,
        lifetime: timedelta = timedelta(days=329),
        definitions: tuple[str, ...] = ("default_Definition",),
        rules: Mapping[str, tuple[str, ...]] | None = None,
        user_certificates: int = 0,
        certificate_id: str | None = None,
    ) -> str:
        """Give a server an authorization certificate that these definitions name; its id.

        `rules` are by name with their definitions, the first of which serves logons; None: the rule `default` with all.
        """
        with self.lock:
            server = self._servers[name.casefold()]
            entry = server.add(start=expires - lifetime, end=expires, certificate_id=certificate_id)
            for each in definitions:
                server.definitions[each] = Definition(
                    name=each,
                    template=SMARTCARD,
                    authorization_certificate=entry.id,
                    certificate_authorities=(self.ca.address,),
                )
            for rule, named in ({"default": definitions} if rules is None else rules).items():
                server.rules[rule] = Rule(name=rule, definitions=named)
            server.users += [
                UserCertificate(
                    upn=f"user{number}@corp.example",
                    rule=next(iter(server.rules), ""),
                    definition=next(iter(definitions), ""),
                    expires=self.now + timedelta(days=7),
                    authorization_certificate=entry.id,
                )
                for number in range(user_certificates)
            ]
            return entry.id

    def powershell(self, name: str, *, operation_seconds: float = 180.0, account: str = ACCOUNT) -> FarmSession:
        """A session on a server, in process, that waits so long for one answer."""
        return FarmSession(self, self._servers[name.casefold()], operation_seconds=operation_seconds, account=account)

    def call(self, name: str, cmdlet: str, **parameters: object) -> CmdletResult:
        """Call any of its cmdlets on a server as an administrator at its console: nothing planted comes in between."""
        with self.lock:
            server = self._servers[name.casefold()]
            return _answered(lambda: self._carry_out(server, cmdlet, parameters, r"CORP\fas-admin"))

    def history(self) -> tuple[str, ...]:
        """Each call that changed something, and each decision of the CA, in order, a line each."""
        with self.lock:
            lines = [(each.at, str(each)) for each in self.calls if each.name not in READING]
            lines += [
                (each.decided_at, _decision(self.ca.address, each, each.decided_at))
                for each in self.ca.requests.values()
                if each.decided_at is not None
            ]
            return tuple(line for _, line in sorted(lines, key=lambda each: each[0]))

    def trouble(self, server: FarmServer, cmdlet: str) -> Trouble:
        """Use up what is planted for the next call of a cmdlet, but a failure, which `perform` answers with."""
        with self.lock:
            lost = cmdlet in server.faults.lose_next
            server.faults.lose_next.discard(cmdlet)
            return Trouble(seconds=server.faults.hang_next.pop(cmdlet, 0.0), lost=lost)

    def perform(
        self, server: FarmServer, cmdlet: str, parameters: Mapping[str, object], account: str
    ) -> tuple[PsObject, ...]:
        """Carry a call out now; what it writes. Raises CmdletError where it fails, as planted or by itself."""
        with self.lock:
            planted = server.faults.fail_next.pop(cmdlet, None)
            if planted is not None:
                self._record(server, cmdlet, parameters, account, done=False)
                raise planted
            return self._carry_out(server, cmdlet, parameters, account)

    def postpone(self, server: FarmServer, cmdlet: Cmdlet, account: str, seconds: float) -> None:
        """Carry a call out when so much time has passed."""
        with self.lock:
            self._late.append((self.now + timedelta(seconds=seconds), server, cmdlet, account))

    def _carry_out(
        self, server: FarmServer, cmdlet: str, parameters: Mapping[str, object], account: str
    ) -> tuple[PsObject, ...]:
        self._catch_up()
        self._record(server, cmdlet, parameters, account, done=True)
        return run(
            CALLABLE,
            cmdlet,
            Call(machine=server, servers=self._servers, account=account, now=self.now, arguments=parameters),
        )

    def _record(
        self, server: FarmServer, cmdlet: str, parameters: Mapping[str, object], account: str, *, done: bool
    ) -> None:
        self.calls.append(
            FarmCall(
                server=server.name, name=cmdlet, parameters=dict(parameters), at=self.now, account=account, done=done
            )
        )

    def _catch_up(self) -> None:
        due = [each for each in self._late if each[0] <= self.now]
        self._late = [each for each in self._late if each[0] > self.now]
        for server in self._servers.values():
            server.catch_up()
        for _, server, cmdlet, account in due:
            with suppress(CmdletError):  # nobody waits for the answer any more
                self.perform(server, cmdlet.name, cmdlet.parameters, account)


class FarmSession:
    """A PowerShell session in process (`evidence_service.adapters.powershell.PowerShell`)."""

    def __init__(self, farm: SimulatedFarm, server: FarmServer, *, operation_seconds: float, account: str) -> None:
        """Nothing is opened before `with`."""
        self._farm, self._server = farm, server
        self._operation_seconds, self._account = operation_seconds, account

    def __enter__(self) -> Self:
        """Open it. Raises FasUnreachable."""
        self._check_reachable()
        return self

    def __exit__(self, *exception: object) -> None:
        """Close it."""

    def invoke(self, cmdlet: Cmdlet) -> CmdletResult:
        """Call one cmdlet. Raises as the protocol says: FasUnreachable, FasAnswerUnknown, ValueError."""
        if cmdlet.name not in CMDLETS:
            raise ValueError(f"{cmdlet.name} is not called by this service")
        self._check_reachable()
        if self._server.hangs:
            raise FasAnswerUnknown(f"{cmdlet.name} at {self._server.name}: no answer")
        trouble = self._farm.trouble(self._server, cmdlet.name)
        if trouble.seconds > self._operation_seconds:
            self._farm.postpone(self._server, cmdlet, self._account, trouble.seconds)
            message = f"{cmdlet.name} at {self._server.name}: no answer within {self._operation_seconds:g} s"
            raise FasAnswerUnknown(message)
        result = _answered(lambda: self._farm.perform(self._server, cmdlet.name, cmdlet.parameters, self._account))
        if trouble.lost:
            raise FasAnswerUnknown(f"{cmdlet.name} at {self._server.name}: the connection was cut before an answer")
        return result

    def _check_reachable(self) -> None:
        if self._server.unreachable:
            raise FasUnreachable(f"{self._server.name} refused the connection; check that it runs")


def _decision(address: str, request: CaRequest, at: datetime) -> str:
    what = f"request {request.number} of {request.requester} ({request.template})"
    return f"{at:%Y-%m-%d %H:%M:%SZ} {address} {what}: {request.disposition.name.lower()} by {request.decided_by}"


def _answered(carry_out: Callable[[], tuple[PsObject, ...]]) -> CmdletResult:
    try:
        return CmdletResult(objects=carry_out())
    except CmdletError as error:
        return CmdletResult(errors=(_record_of(error),))


def _record_of(error: CmdletError) -> ErrorRecord:
    return ErrorRecord(message=str(error), error_id=error.error_id, category=error.category)
