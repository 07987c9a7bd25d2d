"""Leases: the right to act alone under a name, fenced by an epoch (promise 55).

A lease alone proves nothing: a process may be stopped for a minute after it looked. So every write names the epoch
under which it was decided, and is refused in the same transaction where that is no longer the one in force.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, Row, insert, select, update
from sqlalchemy import exc as sa_exc

from evidence_service.adapters.database import leases, writing
from evidence_service.renewal.ports import NotLeader


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to act under `name` until `held_until` (UTC). `epoch` is another for each new holder."""

    name: str
    owner: str
    epoch: int
    held_until: datetime


class Leases(Protocol):
    """Who alone may act. Every method may raise StoreUnavailable; every `now` is aware."""

    def acquire(self, name: str, *, owner: str, now: datetime, length: timedelta) -> Lease | None:
        """Take the lease, or extend it where `owner` has it; None while another holds it."""

    def release(self, lease: Lease) -> None:
        """Give it back; nothing happens where another has it by now."""

    def check(self, connection: Connection, name: str, epoch: int, now: datetime) -> None:
        """Whether `epoch` is in force, within the transaction that it guards. Raises NotLeader."""


class DatabaseLeases:
    """Leases as rows of the database.

    The epoch rises with every change of holder, and stays where the same owner extends, late or not: nobody else can
    have acted in between. `owner` must therefore be another one for each process.

    A clock that was set back leaves leases that seem to last longer than anybody may hold one. A process that sees such
    a lease waits until it has stood unchanged for `length` by its own clock: its holder would have extended it.
    """

    def __init__(self, engine: Engine) -> None:
        """Work on an open database."""
        self._engine = engine
        self._seen: dict[str, tuple[int, datetime, datetime]] = {}

    def acquire(self, name: str, *, owner: str, now: datetime, length: timedelta) -> Lease | None:
        """As `Leases` says."""
        try:
            with writing(self._engine) as connection:
                row = lease_row(connection, name)
                over = row is not None and self._has_stood(row, now, length)
                return take(connection, name, owner=owner, now=now, length=length, over=over)
        except sa_exc.IntegrityError:
            return None  # another process made the row in the same instant

    def release(self, lease: Lease) -> None:
        """As `Leases` says."""
        with writing(self._engine) as connection:
            give_back(connection, lease.name, owner=lease.owner, epoch=lease.epoch)

    def check(self, connection: Connection, name: str, epoch: int, now: datetime) -> None:
        """As `Leases` says."""
        row = lease_row(connection, name)
        if row is None or row.epoch != epoch:
            raise NotLeader(f"another process has taken the lease {name!r} since; nothing was written")
        if row.owner is None or row.held_until is None or now >= row.held_until:
            raise NotLeader(f"the lease {name!r} has ended; nothing was written")

    def _has_stood(self, row: Row[Any], now: datetime, length: timedelta) -> bool:
        if row.held_until is None or row.held_until <= now + length:
            self._seen.pop(row.name, None)
            return False
        epoch, held_until, since = self._seen.get(row.name, (None, None, now))
        if (epoch, held_until) != (row.epoch, row.held_until) or now < since:
            since = now
        self._seen[row.name] = (row.epoch, row.held_until, since)
        return now - since >= length


def lease_row(connection: Connection, name: str, *, lock: bool = True) -> Row[Any] | None:
    """The row of a lease. `lock`: it stays as it is until the caller's write transaction ends."""
    statement = select(leases).where(leases.c.name == name)
    return connection.execute(statement.with_for_update() if lock else statement).one_or_none()


def take(
    connection: Connection, name: str, *, owner: str, now: datetime, length: timedelta, over: bool = False
) -> Lease | None:
    """Take or extend a lease within the caller's write transaction; `over`: whatever its row says, it is free."""
    row = lease_row(connection, name)
    until = now + length
    if row is None:
        connection.execute(insert(leases).values(name=name, epoch=1, owner=owner, held_until=until))
        return Lease(name=name, owner=owner, epoch=1, held_until=until)
    is_own = row.owner == owner
    is_held = row.owner is not None and row.held_until is not None and now < row.held_until
    if is_held and not is_own and not over:
        return None
    epoch = row.epoch if is_own else row.epoch + 1
    connection.execute(update(leases).where(leases.c.name == name).values(epoch=epoch, owner=owner, held_until=until))
    return Lease(name=name, owner=owner, epoch=epoch, held_until=until)


def give_back(connection: Connection, name: str, *, owner: str, epoch: int | None = None) -> None:
    """Free a lease that `owner` has, within the caller's write transaction."""
    statement = update(leases).where(leases.c.name == name, leases.c.owner == owner)
    if epoch is not None:
        statement = statement.where(leases.c.epoch == epoch)
    connection.execute(statement.values(owner=None, held_until=None))
