"""Keeps the authorization certificates of a farm in force: one line per FAS server, under one fenced lease.

Any number of these processes may run; the one that has the lease acts (promise 55). Each server has a thread of its
own while it is looked at, so that one that hangs holds up no other (promise 60). When each is looked at again is in
the database, so that restarts change nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Engine

from evidence_service.adapters.database import StoreUnavailable
from evidence_service.adapters.fas import open_fas
from evidence_service.adapters.lease import DatabaseLeases, Lease
from evidence_service.adapters.renewal_store import LEASE, SPREAD, DamagedRow, RenewalStore
from evidence_service.adapters.revocation import RevocationProblem, Revocations
from evidence_service.renewal.farm import Farm, FasServer
from evidence_service.renewal.model import STEP_KINDS, Rest
from evidence_service.renewal.ports import Fas, NotLeader
from evidence_service.renewal.reasons import RenewalReason
from evidence_service.renewal.tick import AtPoint, Ticked, Ticker
from idp_certs.reasons import Finding

LEASE_LENGTH = timedelta(seconds=30)
EXTEND_SHARE, MARGIN_SHARE = 1 / 3, 1 / 6
"""When a lease is extended, and the last of it, in which nothing is begun: the intent and the cmdlet take a moment."""
KEEP_SECONDS = 0.2
"""How often is looked, while a round waits for a server, whether the lease is to be extended."""
FAILED_SECONDS, DAMAGED_SECONDS = 1.0, 60.0
"""How long a server is left alone after a failure of the database, or of our own."""
_NEIGHBOURS_FIRST = frozenset({RenewalReason.NO_NEIGHBOUR, RenewalReason.NEIGHBOUR_UNSEEN})
MOST_TICKS = 40
"""Looks in a row at one server; whatever is wrong then, others have their turn."""

_log = structlog.get_logger()


class RenewalLoop:
    """Ticks the servers that are due. `clock` answers UTC, `monotonic` seconds."""

    def __init__(
        self,
        engine: Engine,
        farm: Farm,
        *,
        owner: str,
        clock: Callable[[], datetime],
        draw: Callable[[], float],
        told: Callable[[FasServer, Ticked], None],
        opens: Callable[[FasServer, AtPoint | None], Fas] = open_fas,
        at_point: AtPoint | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        lease_length: timedelta = LEASE_LENGTH,
    ) -> None:
        """Work on an open database. `told` is called after each tick, with what came of it."""
        self.store = RenewalStore(engine)
        self._leases = DatabaseLeases(engine)
        self._farm = farm
        self._owner = owner
        self._clock = clock
        self._draw = draw
        self._told = told
        self._opens = opens
        self._at_point = at_point
        self._monotonic = monotonic
        self._lease_length = lease_length
        self._revocations = Revocations(farm.revocation_lists, clock=clock)
        self._lease: Lease | None = None
        self._leads_until = 0.0
        self._extended = float("-inf")
        self._running: dict[str, threading.Thread] = {}
        self._configured = False
        self._spread = SPREAD
        self._held_up: set[str] = set()

    def look(self) -> None:
        """Keep the lease, and start a thread for each server that is due. Raises StoreUnavailable."""
        lease = self._lead()
        if lease is None:
            return
        self._running = {name: thread for name, thread in self._running.items() if thread.is_alive()}
        for name in self.store.due(self._clock()):
            server = self._farm.server(name)
            if server is None or name in self._running:
                continue
            # A daemon: the end of the process does not wait for a FAS server; what it does is reconciled later.
            thread = threading.Thread(target=self._guarded, args=(server, lease), name=f"renewal:{name}", daemon=True)
            self._running[name] = thread
            thread.start()

    def round(self) -> bool:
        """Look at every server that is due, one after the other; whether each answered and none failed.

        Whoever waits for a look at its neighbours is looked at again after them: the next round may be days away.
        Raises StoreUnavailable, and NotLeader where another process has the lease.
        """
        self._extended, self._spread = float("-inf"), timedelta(0)
        lease = self._lead()
        if lease is None:
            raise NotLeader("another process renews this farm's certificates; stop it first, or let it work")
        try:
            self._held_up.clear()
            fine = self._look_at(self.store.due(self._clock()), lease)
            if held_up := sorted(self._held_up):
                hastened = [name for name in self.store.due(self._clock()) if name not in held_up]
                fine = self._look_at([*hastened, *held_up], lease) and fine
        finally:
            self.end(seconds=0)
        return fine

    def _look_at(self, names: Sequence[str], lease: Lease) -> bool:
        servers = [server for name in names if (server := self._farm.server(name)) is not None]
        fine = [self._ticked(server, lease) for server in servers]
        return all(fine)

    def end(self, *, seconds: float) -> Sequence[str]:
        """Give the lease back, after waiting so long for what is under way; the servers that are still asked."""
        until = self._monotonic() + seconds
        for thread in self._running.values():
            thread.join(max(until - self._monotonic(), 0))
        abandoned = sorted(name for name, thread in self._running.items() if thread.is_alive())
        lease, self._lease = self._lease, None
        self._leads_until, self._extended = 0.0, float("-inf")
        # What still runs could act on; the lease then ends by itself, and nobody else begins before.
        if lease is not None and not abandoned:
            self._leases.release(lease)
        return abandoned

    @property
    def leads(self) -> bool:
        """Whether this process has the lease."""
        return self._lease is not None

    def revocation_problems(self) -> Sequence[RevocationProblem]:
        """What is wrong with the CAs' lists as they were asked last."""
        return self._revocations.problems()

    @property
    def running(self) -> Mapping[str, threading.Thread]:
        """The servers that are being looked at."""
        return {name: thread for name, thread in self._running.items() if thread.is_alive()}

    def _lead(self) -> Lease | None:
        asked, length = self._monotonic(), self._lease_length.total_seconds()
        if asked - self._extended < length * EXTEND_SHARE:
            return self._lease
        lease = self._leases.acquire(LEASE, owner=self._owner, now=self._clock(), length=self._lease_length)
        self._extended = asked if lease is not None else asked - length * EXTEND_SHARE + 1.0
        if lease is not None:
            # Counted from before the database was asked, by a clock that nobody sets.
            self._leads_until = asked + length * (1 - MARGIN_SHARE)
            if self._lease is None or self._lease.epoch != lease.epoch:
                _log.info("renewal_leads", owner=self._owner, epoch=lease.epoch)
                self._configured = False
            if not self._configured:
                names = [server.name for server in self._farm.servers]
                self.store.configure(names, now=self._clock(), draw=self._draw, spread=self._spread)
                self._configured = True
        elif self._lease is not None:
            _log.warning("renewal_lead_lost", owner=self._owner)
        self._lease = lease
        return lease

    def _still_leads(self, began_under: Lease) -> bool:
        """Whether nobody else can have led since this lease was taken, nor can now.

        Both clocks are asked: one stands still while a machine is suspended, the other may be set.
        """
        lease = self._lease
        if lease is None or lease.epoch != began_under.epoch:
            return False
        return self._monotonic() < self._leads_until and self._clock() < lease.held_until

    def _checking(self, lease: Lease) -> AtPoint:
        """Asks once more before each cmdlet that changes something: opening a session may have taken long."""

        def at_point(point: str) -> None:
            if self._at_point is not None:
                self._at_point(point)
            if point.endswith(":before") and not self._still_leads(lease):
                raise NotLeader("the lease of this process ended; the cmdlet was not sent")

        return at_point

    def _ticked(self, server: FasServer, lease: Lease) -> bool:
        """Tick one server of a round while the lease is kept; what is wrong with it alone ends no round."""
        ticks: Future[bool] = Future()

        def run() -> None:
            try:
                ticks.set_result(self._ticks(server, lease))
            except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
                ticks.set_exception(error)

        thread = threading.Thread(target=run, name=f"renewal:{server.name}", daemon=True)
        self._running[server.name] = thread
        thread.start()
        while not wait([ticks], KEEP_SECONDS).done:
            self._lead()
        thread.join()
        try:
            return ticks.result()
        except DamagedRow as error:
            _log.error("renewal_failed", fas_server=server.name, problem=str(error))
        except (NotLeader, StoreUnavailable):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, other servers go on
            self._crashed(server, lease, error)
        return False

    def _crashed(self, server: FasServer, lease: Lease, error: Exception) -> None:
        """Say it in the log, and make it known like a server that does not answer: with a back-off and an alarm."""
        _log.error("renewal_failed", fas_server=server.name, problem=type(error).__name__, exc_info=error)
        finding = Finding(
            reason=RenewalReason.NOT_UNDERSTOOD,
            expected="an answer that this service can work with",
            presented=f"{type(error).__name__} in this service; its log says where",
            where=server.name,
        )
        self.store.missed(server.name, finding, epoch=lease.epoch, now=self._clock())

    def _guarded(self, server: FasServer, lease: Lease) -> None:
        try:
            self._ticks(server, lease)
        except NotLeader:
            _log.warning("renewal_not_leader", fas_server=server.name)
        except StoreUnavailable as error:
            _log.error("renewal_failed", fas_server=server.name, problem=str(error))
            # The server is due still, and damage does not mend itself.
            time.sleep(DAMAGED_SECONDS if isinstance(error, DamagedRow) else FAILED_SECONDS)
        except Exception as error:  # noqa: BLE001 - whatever it is, other servers go on
            try:
                self._crashed(server, lease, error)
            except Exception as again:  # noqa: BLE001 - the server is due still
                _log.error("renewal_failed", fas_server=server.name, problem=type(again).__name__)
                time.sleep(DAMAGED_SECONDS)

    def _tell(self, server: FasServer, ticked: Ticked) -> None:
        """Whatever keeps people from being told, certificates are renewed."""
        try:
            self._told(server, ticked)
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - told again after the next tick
            _log.error("renewal_not_told", fas_server=server.name, problem=type(error).__name__, exc_info=error)

    def _ticks(self, server: FasServer, lease: Lease) -> bool:
        """Tick until nothing is to be done at once; whether it answered and nothing failed."""
        ticker = Ticker(
            memory=self.store,
            epoch=lease.epoch,
            leads=lambda: self._still_leads(lease),
            clock=self._clock,
            mark=self._revocations.mark,
            at_point=self._at_point,
        )
        fas = self._opens(server, self._checking(lease))
        for _ in range(MOST_TICKS):
            ticked = ticker.tick(server, fas)
            _say(ticked)
            self._tell(server, ticked)
            if ticked.problem is not None:
                return False
            if ticked.performed is not None and ticked.performed.finding is not None:
                return False
            if ticked.performed is None:
                step = ticked.step
                if isinstance(step, Rest) and step.reason in _NEIGHBOURS_FIRST:
                    self._held_up.add(server.name)
                return True
        return True


def _say(ticked: Ticked) -> None:
    """The one line of a tick."""
    said: dict[str, object] = {"fas_server": ticked.server, "again_at": ticked.again_at.isoformat()}
    if ticked.problem is not None:
        _log.warning("renewal_tick", **said, reason=ticked.problem.reason.value, problem=ticked.problem.presented)
        return
    step = ticked.step
    said["step"] = None if step is None else STEP_KINDS[type(step)].value
    said["reason"] = getattr(step, "reason", None)
    if ticked.performed is None:
        _log.info("renewal_tick", **said)
        return
    finding = ticked.performed.finding
    said["result"] = ticked.performed.result.value
    if finding is None:
        _log.info("renewal_act", **said)
    else:
        _log.warning("renewal_act", **said, finding=finding.reason.value, problem=finding.presented)
