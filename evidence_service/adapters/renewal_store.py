"""What is remembered of the renewal of authorization certificates: servers, acts, what people asked for, the schedule.

Every write of the worker is one transaction that checks the epoch of the lease first (promise 55), and each act stands
in the journal twice: what was intended and why, and what came of it.

*The switch token.* One server after another is switched. The token is the lease `switch`, whose owner is the server:
entering maintenance and switching take it or wait; it is given back when maintenance has been left, or when the
server's next step is no part of a switch while the server is not in maintenance. Going back to the old certificate
never waits for it. It lasts `SWITCH_HOLD` after the latest such act, so that a server that died holds up no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Engine, Row, insert, or_, select, update

from evidence_service.adapters.database import fas_servers, journal, reading, renewal_acts, renewal_asks, writing
from evidence_service.adapters.idp_rows import Conflict, NotFound, printable, record_act, write_act
from evidence_service.adapters.lease import DatabaseLeases, Leases, give_back, lease_row, take
from evidence_service.adapters.renewal_rows import (
    SAID,
    DamagedRow,
    HistoryEntry,
    ServerStatus,
    decode_instants,
    decode_observation,
    decode_step,
    digest_of,
    encode,
    encode_finding,
    encode_instants,
    encode_observation,
    encode_step,
    read_ask,
    read_attempt,
    read_attempts,
    read_problem,
    read_said,
    step_detail,
    why,
)
from evidence_service.renewal.memory import in_vain, is_ahead, last_denial
from evidence_service.renewal.model import (
    REPORT_COUNTS,
    SEEN_LATELY,
    STEP_KINDS,
    USABLE,
    Act,
    Ask,
    AskKind,
    Attempt,
    Attempts,
    EnterMaintenance,
    Import,
    Neighbour,
    Observation,
    Prove,
    Request,
    Result,
    Retire,
    RollBack,
    Step,
    StepKind,
    Switch,
    Verify,
    Withdraw,
)
from evidence_service.renewal.ports import Performed, SwitchTaken
from evidence_service.renewal.reasons import RenewalReason
from idp_certs.reasons import Finding

_T = TypeVar("_T")

__all__ = (
    "LEASE",
    "Conflict",
    "DamagedRow",
    "HistoryEntry",
    "NotFound",
    "RenewalStore",
    "ServerStatus",
)

LEASE, SWITCH = "renewal", "switch"
"""The leases: who renews, and which server is being switched."""
SYSTEM = "system:renewal"
"""Who the journal names for what no person did."""
SWITCH_HOLD = timedelta(hours=2)
LONGEST_SLEEP = timedelta(days=1)
"""A server is due at the latest after that, whatever clock the next instant was computed by."""
STANDS = timedelta(hours=1)
"""How long what is remembered is ahead of the clock before that is believed: one that is behind is set right sooner."""
SPREAD = timedelta(minutes=1)
"""Over how long the first looks at new servers are spread."""
KEPT_ACTS = 500
FIRST_WAIT, LONGEST_WAIT, LONGEST_MISS = timedelta(minutes=1), timedelta(hours=6), timedelta(hours=1)

_SWITCHING = {
    StepKind.ENTER_MAINTENANCE,
    StepKind.SWITCH,
    StepKind.VERIFY,
    StepKind.ROLL_BACK,
    StepKind.LEAVE_MAINTENANCE,
}
_WAITS = {StepKind.ENTER_MAINTENANCE, StepKind.SWITCH}
_SUCCESS = {StepKind.VERIFY, StepKind.RETIRE}
"""What ends a renewal well."""
_OPEN = or_(renewal_acts.c.result.is_(None), renewal_acts.c.result == Result.UNKNOWN.value)
_IN_VAIN = or_(
    renewal_acts.c.result == Result.FAILED.value,
    (renewal_acts.c.result == Result.NOT_DONE.value) & renewal_acts.c.finding.is_not(None),
)
"""As `evidence_service.renewal.memory.in_vain` says it."""
_ABOUT: Mapping[type, str] = {
    Import: "certificate_id",
    Prove: "certificate_id",
    EnterMaintenance: "certificate_id",
    Switch: "after",
    Verify: "certificate_id",
    Retire: "certificate_id",
    Withdraw: "certificate_id",
}
"""The new certificate that an act is for, or the old one that it removes: no request has one, and going back
or leaving maintenance must succeed whatever became of it.
"""
_ANSWERED = frozenset({Result.DONE, Result.FAILED})


def back_off(failures: int, longest: timedelta, jitter: float) -> timedelta:
    """How long to wait after so many failures running: doubling from a minute, by up to half longer for `jitter`.

    Servers that fail together come back one by one, and each after the same time whenever it is computed (promise 51).
    """
    doublings = min(failures - 1, 16)  # far beyond the longest
    return min(FIRST_WAIT * (1 << doublings), longest) * (1 + jitter / 2)


class RenewalStore:
    """The memory of renewals (`evidence_service.renewal.ports.RenewalMemory`), and what people see and ask of it.

    Every method may raise StoreUnavailable, and DamagedRow, which is one; every `now` is aware.
    """

    def __init__(self, engine: Engine, leases: Leases | None = None) -> None:
        """Work on an open database."""
        self._engine = engine
        self._leases = DatabaseLeases(engine) if leases is None else leases
        self._active: tuple[str, ...] | None = None

    def configure(
        self, names: Sequence[str], *, now: datetime, draw: Callable[[], float], spread: timedelta = SPREAD
    ) -> None:
        """Work on these servers from now on; what is known of others is kept.

        `draw` gives the jitter (0 to 1) of a new server, once and for ever (promise 52); its first look is within
        `spread`.
        """
        with reading(self._engine) as connection:
            known = set(connection.execute(select(fas_servers.c.name)).scalars())
        if any(name not in known for name in names):
            with writing(self._engine) as connection:
                known = set(connection.execute(select(fas_servers.c.name)).scalars())
                for name in dict.fromkeys(names):
                    if name not in known:
                        _add_server(connection, name, draw(), now, spread)
        self._active = tuple(dict.fromkeys(names))

    def due(self, now: datetime) -> tuple[str, ...]:
        """The configured servers that are to be looked at, the longest due first."""
        schedule = self._schedule()
        return tuple(name for at, name in schedule if at <= now or at > now + LONGEST_SLEEP)

    def next_instant(self) -> datetime | None:
        """When the next configured server is due; None without any."""
        return next((at for at, _ in self._schedule()), None)

    def _schedule(self) -> Sequence[tuple[datetime, str]]:
        statement = select(fas_servers.c.next_tick_at, fas_servers.c.name)
        statement = statement.where(fas_servers.c.name.in_(self._active or ()))
        with reading(self._engine) as connection:
            return sorted((row.next_tick_at, row.name) for row in connection.execute(statement))

    def attempts(self, server: str) -> Attempts:
        """What matters of all that is remembered of one server, and open wishes. Raises NotFound.

        The acts are the latest `KEPT_ACTS`, and as many of those that changed something: however often one fails, the
        request that it belongs to is not forgotten.
        """
        with reading(self._engine) as connection:
            return _attempts(connection, _server_row(connection, server))

    def anchor(self, server: str, *, epoch: int, now: datetime) -> None:
        """As the port says; the journal keeps the instants as they were. Raises NotFound."""
        with writing(self._engine) as connection:
            self._leases.check(connection, LEASE, epoch, now)
            row = _server_row(connection, server)
            just = (renewal_asks.c.server == server, renewal_asks.c.at > now, renewal_asks.c.at <= now + STANDS)
            connection.execute(update(renewal_asks).where(*just).values(at=now))
            since = row.ahead_since
            if not is_ahead(_attempts(connection, row), now):
                _set(connection, server, ahead_since=None)
            elif since is None or since > now:
                _set(connection, server, ahead_since=now)
            elif now - since >= STANDS:
                first = {key: since if at > now else at for key, at in _first_usable(row).items()}
                _set(connection, server, first_usable=encode_instants(first), ahead_since=None)
                for column in (renewal_acts.c.at, renewal_acts.c.result_at, renewal_asks.c.at):
                    later = (column.table.c.server == server, column > now)
                    connection.execute(update(column.table).where(*later).values({column: since}))

    def last_seen(self, server: str) -> Observation | None:
        """As the port says. Raises NotFound."""
        with reading(self._engine) as connection:
            return next(iter(_undamaged([_server_row(connection, server)], _observation, [])), None)

    def neighbours(self, server: str, now: datetime) -> tuple[Neighbour, ...]:
        """The other configured servers as last seen. One whose rows are damaged does not serve."""
        others = [name for name in self._active or () if name != server]
        with reading(self._engine) as connection:
            statement = select(fas_servers).where(fas_servers.c.name.in_(others))
            rows = {row.name: row for row in connection.execute(statement)}
            token = _token_holder(connection, now)
            return tuple(
                Neighbour(
                    name=name,
                    serving=_serves(connection, rows[name], now),
                    seen_lately=_was_seen(rows[name], now, within=SEEN_LATELY),
                    switching=token == name or _is_mid_switch(connection, name, now),
                )
                for name in others
                if name in rows
            )

    def hasten_neighbours(self, server: str, *, unseen_since: datetime, epoch: int, now: datetime) -> bool:
        """As the port says; one that does not answer is known not to serve, and is not hastened."""
        others = [name for name in self._active or () if name != server]
        with writing(self._engine) as connection:
            self._leases.check(connection, LEASE, epoch, now)
            stale = (
                fas_servers.c.name.in_(others),
                fas_servers.c.problem.is_(None),
                or_(
                    fas_servers.c.observed_at.is_(None),
                    fas_servers.c.observed_at < unseen_since,
                    fas_servers.c.observed_at > now,  # by a clock that was ahead
                ),
            )
            return connection.execute(update(fas_servers).where(*stale).values(next_tick_at=now)).rowcount > 0

    def begin(self, server: str, act: Act, *, epoch: int, now: datetime) -> Attempt:
        """As the port says: the intent and the switch token, in one transaction. Raises NotFound."""
        kind = STEP_KINDS[type(act)]
        with writing(self._engine) as connection:
            self._leases.check(connection, LEASE, epoch, now)
            _server_row(connection, server)
            if kind in _SWITCHING:
                _take_token(connection, server, now, waits=kind in _WAITS)
            asked = _ask_behind(act, _asks_of(connection, server), now)
            statement = insert(renewal_acts).values(
                server=server, kind=kind.value, act=encode_step(act), at=now, epoch=epoch
            )
            seq = connection.execute(statement.returning(renewal_acts.c.seq)).scalar_one()
            detail = {"seq": seq, "epoch": epoch, "act": step_detail(act), "why": why(act, asked)}
            if asked is not None:
                detail["asked_by"] = asked.actor
            write_act(connection, now=now, actor=SYSTEM, act=f"renewal_{kind.value}", subject=server, detail=detail)
        return Attempt(seq=seq, step=act, at=now)

    def finish(self, server: str, attempt: Attempt, performed: Performed, *, epoch: int, now: datetime) -> None:
        """As the port says. Raises Conflict for an act that is finished."""
        self._conclude(
            server,
            attempt,
            performed.result,
            performed.certificate_id,
            performed.finding,
            epoch=epoch,
            now=now,
            by="answer",
        )

    def resolve(
        self, server: str, attempt: Attempt, result: Result, certificate_id: str | None, *, epoch: int, now: datetime
    ) -> None:
        """As the port says. Raises Conflict for an act whose result is known."""
        self._conclude(server, attempt, result, certificate_id, attempt.finding, epoch=epoch, now=now, by="reading FAS")

    def _conclude(  # what finish and resolve share
        self,
        server: str,
        attempt: Attempt,
        result: Result,
        certificate_id: str | None,
        finding: Finding | None,
        *,
        epoch: int,
        now: datetime,
        by: str,
    ) -> None:
        kind = STEP_KINDS[type(attempt.step)]
        with writing(self._engine) as connection:
            self._leases.check(connection, LEASE, epoch, now)
            row = _server_row(connection, server)
            _count(
                connection, row, replace(attempt, result=result, finding=finding), now
            )  # looks at what failed before
            changed = connection.execute(
                update(renewal_acts)
                .where(renewal_acts.c.seq == attempt.seq, renewal_acts.c.server == server, _OPEN)
                .values(
                    result=result.value,
                    result_at=now,
                    certificate_id=certificate_id,
                    finding=None if finding is None else encode_finding(finding),
                )
            )
            if changed.rowcount != 1:
                raise Conflict(f"{server}: act {attempt.seq} is no open act of this server")
            settled = _settle_by(connection, server, attempt, result, now)
            if kind is StepKind.LEAVE_MAINTENANCE and result is Result.DONE:
                give_back(connection, SWITCH, owner=server)
            detail = {
                "seq": attempt.seq,
                "kind": kind.value,
                "result": result.value,
                "by": by,
                "certificate_id": certificate_id,
                "finding": None if finding is None else encode(finding),
                "settled": settled,
            }
            write_act(connection, now=now, actor=SYSTEM, act="renewal_result", subject=server, detail=detail)

    def settle(self, server: str, ask: Ask, outcome: str, *, epoch: int, now: datetime) -> None:
        """As the port says; a wish that is settled already stays as it is."""
        with writing(self._engine) as connection:
            self._leases.check(connection, LEASE, epoch, now)
            this = (renewal_asks.c.seq == ask.seq, renewal_asks.c.server == server, renewal_asks.c.settled_at.is_(None))
            values = {"settled_at": now, "outcome": printable(outcome)}
            if connection.execute(update(renewal_asks).where(*this).values(**values)).rowcount == 1:
                detail = {"ask": ask.seq, "kind": ask.kind.value, "asked_by": ask.actor, "outcome": outcome}
                write_act(connection, now=now, actor=SYSTEM, act="renewal_settled", subject=server, detail=detail)

    def saw(self, observation: Observation, step: Step, *, epoch: int, now: datetime, next_tick_at: datetime) -> None:
        """As the port says. `next_tick_at` is at most `LONGEST_SLEEP` away. Raises NotFound."""
        server = observation.server
        with writing(self._engine) as connection:
            self._leases.check(connection, LEASE, epoch, now)
            row = _server_row(connection, server)
            first = _first_usable(row)
            for each in observation.certificates:
                if each.status in USABLE:
                    first.setdefault(each.id, observation.at)
            if STEP_KINDS[type(step)] not in _SWITCHING and not _is_in_maintenance(connection, observation):
                give_back(connection, SWITCH, owner=server)
            values = {
                "observation": encode_observation(observation),
                "observed_at": observation.at,
                "step": encode_step(step),
                "next_tick_at": min(next_tick_at, now + LONGEST_SLEEP),
                "first_usable": encode_instants(first),
                "problem": None,
                "problem_text": None,
                "problem_since": None,
                "misses": 0,
            }
            if row.failures > 0 and _nothing_is_left(connection, row, observation):
                values |= {"failures": 0, "not_before": None}
            if not _is_same_step(row, step) or row.step_since is None or row.step_since > now:
                values["step_since"] = now
            _set(connection, server, **values)

    def missed(self, server: str, finding: Finding, *, epoch: int, now: datetime) -> datetime:
        """As the port says: a minute after the first miss, doubling to an hour. Raises NotFound."""
        with writing(self._engine) as connection:
            self._leases.check(connection, LEASE, epoch, now)
            row = _server_row(connection, server)
            misses = row.misses + 1
            again = now + back_off(misses, LONGEST_MISS, row.jitter)
            _set(
                connection,
                server,
                problem=finding.reason.value,
                problem_text=encode_finding(finding),
                problem_since=min(row.problem_since or now, now),
                misses=misses,
                next_tick_at=again,
            )
            return again

    def ask(
        self,
        server: str,
        kind: AskKind,
        *,
        now: datetime,
        actor: str,
        note: str = "",
        payload: bytes | None = None,
    ) -> Ask:
        """Leave a wish for the worker, which looks at the server at once.

        Raises NotFound for a server that is not configured, and Conflict while a wish of this kind is open.
        """
        if (kind is AskKind.IMPORT) != (payload is not None):
            raise Conflict(f"{kind.value}: a signed answer is given with import, and only there")
        with writing(self._engine) as connection:
            self._known(connection, server)
            if any(each.kind is kind for each in _open_asks(connection, server)):
                raise Conflict(f"{server}: {kind.value} was asked for already and is not settled; see its status")
            values = {"kind": kind.value, "at": now, "actor": printable(actor), "note": printable(note)}
            statement = insert(renewal_asks).values(server=server, payload=payload, **values)
            seq = connection.execute(statement.returning(renewal_asks.c.seq)).scalar_one()
            _set(connection, server, next_tick_at=now)
            detail = {"ask": seq, "kind": kind.value, "note": note, "payload": digest_of(payload)}
            record_act(
                connection, now=now, actor=actor, act="renewal_asked", subject=server, detail=detail, trust=False
            )
        return Ask(seq=seq, kind=kind, at=now, actor=printable(actor), note=printable(note), payload=payload)

    def pause(self, server: str, until: datetime | None, *, now: datetime, actor: str, note: str = "") -> None:
        """Begin nothing at this server until then; None: until a person resumes.

        Raises NotFound for a server that is not configured, and Conflict for an instant that is over.
        """
        if until is not None and until <= now:
            raise Conflict(f"{server}: the pause would end at {until.isoformat()}, which is over")
        end = datetime.max.replace(tzinfo=UTC) if until is None else until
        with writing(self._engine) as connection:
            self._known(connection, server)
            values = {"paused_until": end, "paused_by": printable(actor), "paused_note": printable(note)}
            _set(connection, server, next_tick_at=now, **values)
            detail = {"until": None if until is None else encode(until), "note": note}
            record_act(
                connection, now=now, actor=actor, act="renewal_paused", subject=server, detail=detail, trust=False
            )

    def resume(self, server: str, *, now: datetime, actor: str, note: str = "") -> None:
        """End a pause. Raises NotFound for a server that is not configured, and Conflict for one without a pause."""
        with writing(self._engine) as connection:
            row = self._known(connection, server)
            if row.paused_until is None or row.paused_until <= now:
                raise Conflict(f"{server}: its renewal is not paused")
            _set(connection, server, next_tick_at=now, paused_until=None, paused_by=None, paused_note=None)
            detail = {"note": note, "paused_by": row.paused_by, "paused_note": row.paused_note}
            record_act(
                connection, now=now, actor=actor, act="renewal_resumed", subject=server, detail=detail, trust=False
            )

    def status(self, server: str) -> ServerStatus:
        """One server, configured or not. Raises NotFound."""
        with reading(self._engine) as connection:
            return self._status(connection, _server_row(connection, server))

    def statuses(self) -> tuple[ServerStatus, ...]:
        """All servers that were ever configured: those that are, in their order, then the others by name."""
        order = {name: position for position, name in enumerate(self._active or ())}
        with reading(self._engine) as connection:
            rows = connection.execute(select(fas_servers)).all()
            rows = sorted(rows, key=lambda row: (order.get(row.name, len(order)), row.name))
            return tuple(self._status(connection, row) for row in rows)

    def history(self, server: str | None, limit: int, before: datetime | None = None) -> tuple[HistoryEntry, ...]:
        """The latest at one server, or at all, before an instant, oldest first: acts, and what people said.

        More than `limit` where several share the oldest instant, so that what is older comes before it. Raises
        NotFound, and DamagedRow.
        """
        with reading(self._engine) as connection:
            if server is not None:
                _server_row(connection, server)
            rows = _latest_acts(connection, server, limit, *([] if before is None else [renewal_acts.c.at < before]))
            asks = {name: _asks_of(connection, name) for name in {row.server for row in rows}}
            said = [read_said(row) for row in _latest_said(connection, server, limit, before)]
        acts = [(row.server, read_attempt(row)) for row in rows]
        entries = [*said, *(_entry_of(name, act, _ask_behind(act.step, asks[name], act.at)) for name, act in acts)]
        # A wish comes before the act of the same instant that it leads to.
        found = sorted(entries, key=lambda each: each.at)
        oldest = found[-limit:][:1]
        return tuple(each for each in found if each.at >= oldest[0].at)

    def _known(self, connection: Connection, server: str) -> Row[Any]:
        row = _server_row(connection, server)
        if self._active is not None and server not in self._active:
            raise NotFound(f"the FAS server {server!r} is not configured any more")
        return row

    def _status(self, connection: Connection, row: Row[Any]) -> ServerStatus:
        damage: list[str] = []
        acts = _undamaged(_acts_that_matter(connection, row.name), read_attempt, damage)
        asks = _undamaged(_ask_rows(connection, row.name, only_open=True), read_ask, damage)
        (observation,) = _undamaged([row], _observation, damage) or (None,)
        (step,) = _undamaged([row], _step, damage) or (None,)
        (problem,) = _undamaged([row], read_problem, damage) or (None,)
        (first,) = _undamaged([row], _first_usable, damage) or ({},)
        return ServerStatus(
            name=row.name,
            active=row.name in (self._active or ()),
            jitter=row.jitter,
            next_tick_at=row.next_tick_at,
            observation=observation,
            observed_at=row.observed_at,
            step=step,
            step_since=row.step_since,
            problem=problem,
            problem_since=row.problem_since,
            misses=row.misses,
            failures=row.failures,
            not_before=row.not_before,
            paused_until=row.paused_until,
            paused_by=row.paused_by,
            paused_note=row.paused_note,
            first_usable=first,
            last_act=acts[-1] if acts else None,
            last_failed=next((each for each in reversed(acts) if each.result is Result.FAILED), None),
            denial=last_denial(acts),
            attempts_count=_requests_since_success(acts),
            asks=asks,
            damage="; ".join(damage) or None,
        )


def _add_server(connection: Connection, name: str, jitter: float, now: datetime, spread: timedelta) -> None:
    values = {"name": name, "jitter": jitter, "next_tick_at": now + spread * jitter, "first_usable": "{}"}
    connection.execute(insert(fas_servers).values(**values))
    detail = {"jitter": jitter}
    write_act(connection, now=now, actor=SYSTEM, act="renewal_server_added", subject=name, detail=detail)


def _server_row(connection: Connection, server: str) -> Row[Any]:
    row = connection.execute(select(fas_servers).where(fas_servers.c.name == server)).one_or_none()
    if row is None:
        raise NotFound(f"no FAS server {server!r} is configured")
    return row


def _attempts(connection: Connection, row: Row[Any]) -> Attempts:
    return Attempts(
        jitter=row.jitter,
        acts=read_attempts(_acts_that_matter(connection, row.name)),
        asks=_open_asks(connection, row.name),
        not_before=row.not_before,
        paused_until=row.paused_until,
        first_usable=_first_usable(row),
        ahead_since=row.ahead_since,
    )


def _set(connection: Connection, server: str, **values: object) -> None:
    connection.execute(update(fas_servers).where(fas_servers.c.name == server).values(**values))


def _latest_acts(
    connection: Connection, server: str | None, limit: int, *these: ColumnElement[bool]
) -> Sequence[Row[Any]]:
    statement = select(renewal_acts).where(*these)
    if server is not None:
        statement = statement.where(renewal_acts.c.server == server)
    return connection.execute(statement.order_by(renewal_acts.c.seq.desc()).limit(limit)).all()[::-1]


def _latest_said(connection: Connection, server: str | None, limit: int, before: datetime | None) -> Sequence[Row[Any]]:
    statement = select(journal).where(journal.c.act.in_(SAID))
    if server is not None:
        statement = statement.where(journal.c.subject == printable(server))
    if before is not None:
        statement = statement.where(journal.c.at < before)
    return connection.execute(statement.order_by(journal.c.seq.desc()).limit(limit)).all()[::-1]


def _entry_of(server: str, attempt: Attempt, asked: Ask | None) -> HistoryEntry:
    return HistoryEntry(
        server=server,
        at=attempt.at,
        what=STEP_KINDS[type(attempt.step)].value,
        actor=SYSTEM if asked is None else asked.actor,
        attempt=attempt,
        why=why(attempt.step, asked),
    )


def _acts_that_matter(connection: Connection, server: str) -> Sequence[Row[Any]]:
    latest = _latest_acts(connection, server, KEPT_ACTS)
    if len(latest) < KEPT_ACTS:
        return latest
    in_vain = renewal_acts.c.result.in_((Result.FAILED.value, Result.NOT_DONE.value))
    earlier = renewal_acts.c.seq < latest[0].seq
    return [*_latest_acts(connection, server, KEPT_ACTS, earlier, or_(_OPEN, ~in_vain)), *latest]


def _ask_rows(connection: Connection, server: str, *, only_open: bool = False) -> Sequence[Row[Any]]:
    statement = select(renewal_asks).where(renewal_asks.c.server == server)
    if only_open:
        statement = statement.where(renewal_asks.c.settled_at.is_(None))
    return connection.execute(statement.order_by(renewal_asks.c.seq)).all()


def _asks_of(connection: Connection, server: str) -> tuple[Ask, ...]:
    return tuple(read_ask(row) for row in _ask_rows(connection, server))


def _open_asks(connection: Connection, server: str) -> tuple[Ask, ...]:
    return tuple(read_ask(row) for row in _ask_rows(connection, server, only_open=True))


_ASKED_BY: Mapping[type, AskKind] = {
    Request: AskKind.RENEW,
    RollBack: AskKind.ROLL_BACK,
    Withdraw: AskKind.WITHDRAW,
}


def _ask_behind(act: Act, asks: Iterable[Ask], at: datetime) -> Ask | None:
    """Who wanted this act, if a person did."""
    if isinstance(act, Import):
        return next((each for each in asks if each.seq == act.ask), None)
    kind = _ASKED_BY.get(type(act))
    if kind is None or getattr(act, "reason", None) is not RenewalReason.ASKED:
        return None
    return max((each for each in asks if each.kind is kind and each.at <= at), key=lambda each: each.seq, default=None)


def _settle_by(connection: Connection, server: str, attempt: Attempt, result: Result, now: datetime) -> list[int]:
    """Settle what the act has fulfilled, or answered; the seqs. What is rolled back is settled when all of it is."""
    this: tuple[Any, ...]
    match attempt.step:
        case Import(ask=seq) if result in _ANSWERED:
            this = (renewal_asks.c.seq == seq,)
        case Request() if result is Result.DONE:
            this = (renewal_asks.c.kind == AskKind.RENEW.value,)
        case Withdraw() if result is Result.DONE:
            this = (renewal_asks.c.kind == AskKind.WITHDRAW.value,)
        case _:
            return []
    statement = update(renewal_asks).where(*this, renewal_asks.c.server == server, renewal_asks.c.settled_at.is_(None))
    outcome = f"{STEP_KINDS[type(attempt.step)].value} {result.value}, act {attempt.seq}"
    settled = connection.execute(statement.values(settled_at=now, outcome=outcome).returning(renewal_asks.c.seq))
    return sorted(settled.scalars())


def _count(connection: Connection, row: Row[Any], attempt: Attempt, now: datetime) -> None:
    """Begin a back-off after an act in vain, and end it when what failed succeeds.

    Another act that succeeds does not end it: going back to the old certificate is no reason to try again sooner. What
    failed with a certificate that is gone ends when that is seen.
    """
    act, result = attempt.step, attempt.result
    if in_vain(attempt):
        failures = row.failures + 1
        not_before = now + back_off(failures, LONGEST_WAIT, row.jitter)
        _set(connection, row.name, failures=failures, not_before=not_before)
    elif result is Result.DONE and row.failures > 0:
        failed = _latest_acts(connection, row.name, 1, _IN_VAIN)
        is_over = not failed or _subject(read_attempt(failed[0]).step) == _subject(act)
        if is_over or STEP_KINDS[type(act)] in _SUCCESS:
            _set(connection, row.name, failures=0, not_before=None)


def _nothing_is_left(connection: Connection, row: Row[Any], observation: Observation) -> bool:
    """Whether every act that failed running was about a certificate that is gone, and that no definition names."""
    left = {each.id for each in observation.certificates} | observation.used
    failed = read_attempts(_latest_acts(connection, row.name, row.failures, _IN_VAIN))
    about = [getattr(each.step, _ABOUT.get(type(each.step), ""), None) for each in failed]
    return bool(about) and all(each is not None and each not in left for each in about)


def _subject(act: Act) -> tuple[StepKind, str | None]:
    return STEP_KINDS[type(act)], getattr(act, "definition", None)


def _token_holder(connection: Connection, now: datetime) -> str | None:
    row = lease_row(connection, SWITCH, lock=False)  # the lease of whoever writes is locked already
    if row is None or row.owner is None or row.held_until is None:
        return None
    # What lasts much longer than anybody may hold it was taken by a clock that was wrong.
    return str(row.owner) if now < row.held_until <= now + 2 * SWITCH_HOLD else None


def _take_token(connection: Connection, server: str, now: datetime, *, waits: bool) -> None:
    holder = _token_holder(connection, now)
    if holder in (None, server):
        take(connection, SWITCH, owner=server, now=now, length=SWITCH_HOLD, over=True)
    elif waits:
        raise SwitchTaken(f"{holder} is being switched; {server} waits")


def _is_mid_switch(connection: Connection, server: str, now: datetime) -> bool:
    kinds = [each.value for each in _SWITCHING]
    statement = select(renewal_acts.c.seq).where(
        renewal_acts.c.server == server,
        renewal_acts.c.kind.in_(kinds),
        renewal_acts.c.at > now - SWITCH_HOLD,
        renewal_acts.c.at < now + SWITCH_HOLD,  # later ones were begun by a clock that was wrong
        _OPEN,
    )
    return connection.execute(statement.limit(1)).first() is not None


def _was_seen(row: Row[Any], now: datetime, *, within: timedelta) -> bool:
    return row.observed_at is not None and abs(now - row.observed_at) <= within


def _serves(connection: Connection, row: Row[Any], now: datetime) -> bool:
    if row.problem is not None or not _was_seen(row, now, within=REPORT_COUNTS):
        return False
    try:
        observation = _observation(row)
    except DamagedRow:
        return False
    if observation is None or _is_in_maintenance(connection, observation):
        return False
    if _has_entered(connection, row.name, since=row.observed_at):
        return False
    named = (observation.certificate(each.authorization_certificate) for each in observation.definitions)
    return any(
        each is not None
        and each.status in USABLE
        and each.revoked_at is None
        and (each.expires is None or each.expires > now)
        for each in named
    )


def _is_in_maintenance(connection: Connection, observation: Observation) -> bool:
    """Whether FAS says so; where it does not tell, whether we put the server there and never took it out again."""
    if observation.maintenance is None:
        return _has_entered(connection, observation.server)
    return observation.maintenance


def _has_entered(connection: Connection, server: str, since: datetime | None = None) -> bool:
    """Whether we may have put the server into maintenance, and not taken it out, `since` then or ever."""
    kinds = (StepKind.ENTER_MAINTENANCE.value, StepKind.LEAVE_MAINTENANCE.value)
    statement = select(renewal_acts.c.kind).where(
        renewal_acts.c.server == server,
        renewal_acts.c.kind.in_(kinds),
        or_(_OPEN, renewal_acts.c.result == Result.DONE.value),
    )
    if since is not None:
        statement = statement.where(renewal_acts.c.at >= since)
    latest = connection.execute(statement.order_by(renewal_acts.c.seq.desc()).limit(1)).scalar_one_or_none()
    return latest == StepKind.ENTER_MAINTENANCE.value


def _observation(row: Row[Any]) -> Observation | None:
    where = f"fas_servers row {row.name!r}, observation"
    return None if row.observation is None else decode_observation(row.observation, where)


def _step(row: Row[Any]) -> Step | None:
    return None if row.step is None else decode_step(row.step, f"fas_servers row {row.name!r}, step")


def _first_usable(row: Row[Any]) -> dict[str, datetime]:
    return decode_instants(row.first_usable, f"fas_servers row {row.name!r}, first_usable")


def _is_same_step(row: Row[Any], step: Step) -> bool:
    try:
        before = _step(row)
    except DamagedRow:
        return False
    return before is not None and _kind_of(before) == _kind_of(step)


def _kind_of(step: Step) -> tuple[StepKind, object]:
    return STEP_KINDS[type(step)], getattr(step, "reason", None)


def _requests_since_success(acts: Sequence[Attempt]) -> int:
    requests = 0
    for each in acts:
        kind = STEP_KINDS[type(each.step)]
        if kind is StepKind.REQUEST:
            requests += 1
        elif kind in _SUCCESS and each.result is Result.DONE:
            requests = 0
    return requests


def _undamaged(rows: Iterable[Row[Any]], read: Callable[[Row[Any]], _T], damage: list[str]) -> tuple[_T, ...]:
    found = []
    for row in rows:
        try:
            found.append(read(row))
        except DamagedRow as error:
            damage.append(str(error))
    return tuple(found)
