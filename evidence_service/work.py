"""Keeps trust in identity providers and FAS's authorization certificates current until it is told to stop.

One loop looks, and threads refresh, renew and deliver, so that who does not answer holds up neither the others nor the
end. What was asked when, and who acts now, is in the database: any number of these processes may run (promises 32, 55).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import FrameType

import structlog
from sqlalchemy import Engine

from evidence_service.adapters.config_store import ConfigStore, Conflict, NotFound
from evidence_service.adapters.database import StoreUnavailable, open_database
from evidence_service.adapters.statuses import read_statuses
from evidence_service.adapters.trust_store import Claim, StoredAlarm, TrustStore
from evidence_service.renewal.farm import FasServer
from evidence_service.renewal.ports import NotLeader
from evidence_service.renewal.tick import Ticked
from evidence_service.renewal_loop import RenewalLoop
from evidence_service.renewal_settings import RenewalSettings, renewal_of
from evidence_service.settings import Settings, SettingsError
from evidence_service.telling import Telling
from evidence_service.web.logs import configure_logs
from idp_certs.alarms import trust_alarms
from idp_certs.fetch import FetchRules, fetch
from idp_certs.refresh import Fetch, Outcome, RefreshOutcome, RefreshRules, refresh_once

OK, BAD_INPUT, DEPENDENCY_FAILED = 0, 2, 3

LOOK_SECONDS = 0.1
"""How soon a source that is due, or asked for by evidence of an unknown key, is noticed."""
RENEWAL_LOOK_SECONDS = 0.5
UPKEEP_SECONDS = 5.0
ALARM_SECONDS = 60.0
ALARMS_APART_SECONDS = 2.0
"""So often at most, when refreshes follow each other."""
HEARTBEAT_SECONDS = 60.0
LEASE_BEYOND_FETCH = timedelta(seconds=15)
"""How long judging and publishing may take; then another process may claim the source."""
BUSY_TIMEOUT = timedelta(seconds=2)
"""Shorter than elsewhere, so that a locked database does not delay the end; what failed is tried again."""
LAST_REFRESHES_SECONDS = 1.5
"""How long the end waits for refreshes that may be about to publish."""
LAST_ACTS_SECONDS = 3.0
"""How long the end waits for acts upon FAS servers; what is cut off is reconciled at the next start."""
LAST_LINES_SECONDS = 1.0

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkRules:
    """The numbers of the worker. `metadata_denies`: stale metadata ends trust."""

    refresh: RefreshRules = field(default_factory=RefreshRules)
    cool_down: timedelta = timedelta(seconds=60)
    hasten_budget: int = 10
    fetches: int = 8
    metadata_denies: bool = False

    @property
    def lease(self) -> timedelta:
        """How long a claim holds."""
        return self.refresh.fetch.timeout + LEASE_BEYOND_FETCH


def work_rules(settings: Settings) -> WorkRules:
    """The worker's numbers as they are set."""
    days = settings.metadata_max_valid_days
    return WorkRules(
        refresh=RefreshRules(
            fetch=FetchRules(
                timeout=timedelta(seconds=settings.metadata_timeout_seconds),
                allow_loopback=settings.metadata_allow_loopback,
                allow_private=settings.metadata_allow_private,
            ),
            usual=timedelta(hours=settings.metadata_refresh_hours),
            removal_sightings=settings.metadata_removal_sightings,
            removal_over=timedelta(minutes=settings.metadata_removal_minutes),
            max_validity=None if days is None else timedelta(days=days),
            require_valid_until=settings.metadata_require_valid_until,
        ),
        cool_down=timedelta(seconds=settings.metadata_cool_down_seconds),
        hasten_budget=settings.metadata_hasten_budget,
        fetches=settings.work_fetches,
        metadata_denies=settings.metadata_stale_action == "deny",
    )


def run(settings: Settings, *, once: bool = False) -> int:
    """Work until SIGTERM or SIGINT, or with `once` through what is due now; answers the exit code.

    What is wrong at start is one line on stderr. With `once`, 3 says that a source or a FAS server failed.
    """
    flush_logs = configure_logs(settings.log_level)
    try:
        code, problem = _run(settings, once=once)
    finally:
        flush_logs(LAST_LINES_SECONDS)
    if problem is not None:
        with contextlib.suppress(OSError):
            print(f"error: {problem}", file=sys.stderr)  # noqa: T201 - for the person who starts it
    return code


def _run(settings: Settings, *, once: bool) -> tuple[int, str | None]:
    try:
        renewal = renewal_of(settings)
        if not settings.database_url:
            settings.data_dir.mkdir(parents=True, exist_ok=True)
        engine = open_database(settings.effective_database_url, busy_timeout=BUSY_TIMEOUT)
    except SettingsError as error:
        return BAD_INPUT, str(error)
    except OSError as error:
        remedy = "name another, or let this account write there"
        return BAD_INPUT, f"data_dir: {settings.data_dir} cannot be used: {error.strerror}; {remedy}"
    except StoreUnavailable as error:
        return DEPENDENCY_FAILED, str(error)
    worker = Worker(engine, work_rules(settings))
    renewals = Renewals(engine, settings, renewal)
    try:
        if once:
            fine = worker.round()
            return (OK if renewals.round() and fine else DEPENDENCY_FAILED), None
        with _stopped_by_signals() as stop:
            worker.run(stop, renewals)
        return OK, None
    except (StoreUnavailable, NotLeader) as error:
        return DEPENDENCY_FAILED, str(error)
    finally:
        engine.dispose()


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set (on Windows, Ctrl+Break too)."""
    stop = threading.Event()

    def handle(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    numbers = [signal.SIGTERM, signal.SIGINT]
    if sys.platform == "win32":
        numbers.append(signal.SIGBREAK)
    before = [(number, signal.signal(number, handle)) for number in numbers]
    try:
        yield stop
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _now() -> datetime:
    return datetime.now(UTC)


def _owner() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


class Renewals:
    """The renewal of a farm's authorization certificates, and what people are told."""

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        renewal: RenewalSettings,
        *,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        """Work on an open database."""
        self._telling = Telling(engine, settings, renewal, clock=clock)
        self._loop = RenewalLoop(
            engine,
            renewal.farm,
            owner=_owner(),
            clock=clock,
            draw=secrets.SystemRandom().random,
            told=self._told,
        )
        self._ticked = threading.Event()
        self._courier: threading.Thread | None = None

    def start_delivering(self, stop: threading.Event) -> None:
        """Deliver messages in a thread of its own until `stop` is set."""
        self._courier = threading.Thread(target=self._telling.deliver, args=(stop,), name="courier", daemon=True)
        self._courier.start()

    def look(self) -> None:
        """Start what is due. Raises StoreUnavailable."""
        self._loop.look()

    @property
    def has_ticked(self) -> bool:
        """Whether something came of a look since alarms were raised and cleared last."""
        return self._ticked.is_set()

    def synchronise_alarms(self) -> None:
        """Raise and clear alarms, where this process leads. Raises StoreUnavailable."""
        self._ticked.clear()
        if self._loop.leads:
            _say_alarms(*self._telling.synchronise(self._loop.revocation_problems()))

    def round(self) -> bool:
        """Look at each server that is due, raise and clear alarms, deliver; whether nothing failed.

        Raises StoreUnavailable, and NotLeader where another process renews.
        """
        fine = self._loop.round()
        _say_alarms(*self._telling.synchronise(self._loop.revocation_problems()))
        self._telling.deliver_once()
        return fine

    def end(self) -> None:
        """Wait a moment for what is under way, and give the lease back. Raises StoreUnavailable."""
        until = time.monotonic() + LAST_ACTS_SECONDS
        abandoned = self._loop.end(seconds=LAST_ACTS_SECONDS)
        if abandoned:
            _log.warning("renewal_abandoned", fas_servers=abandoned)
        if self._courier is not None:
            self._courier.join(max(until - time.monotonic(), 0))

    def _told(self, server: FasServer, ticked: Ticked) -> None:
        self._telling.of_tick(server, ticked)
        self._ticked.set()


class Worker:
    """Refreshes what is due, and keeps trust and alarms up with time and use.

    `clock` answers UTC; how often is looked goes by the monotonic clock. `fetch_` and `at_point` are for tests.
    """

    def __init__(
        self,
        engine: Engine,
        rules: WorkRules,
        *,
        clock: Callable[[], datetime] = _now,
        fetch_: Fetch = fetch,
        at_point: Callable[[str], None] | None = None,
    ) -> None:
        """Work on an open database."""
        self._trust = TrustStore(engine)
        self._config = ConfigStore(engine)
        self._rules = rules
        self._clock = clock
        self._fetch = fetch_
        self._at_point = at_point
        self._owner = _owner()
        self._running: dict[threading.Thread, str] = {}
        self._failing: set[str] = set()
        self._refreshed = threading.Event()

    def run(self, stop: threading.Event, renewals: Renewals | None = None) -> None:
        """Work until `stop` is set. Whatever fails is logged and tried again."""
        _log.info("working", owner=self._owner, fetches=self._rules.fetches)
        upkeep = _Every(UPKEEP_SECONDS)
        alarms, after_refresh = _Every(ALARM_SECONDS), _Every(ALARMS_APART_SECONDS)
        heartbeat = _Every(HEARTBEAT_SECONDS)
        look, renewal_alarms, after_tick = _Every(RENEWAL_LOOK_SECONDS), _Every(ALARM_SECONDS), _Every(1.0)
        if renewals is not None:
            renewals.start_delivering(stop)
        while not stop.is_set():
            self._guarded("claim", self._start_refreshes)
            if renewals is not None and not stop.is_set() and look.is_due():
                self._guarded("renewal", renewals.look)
            if (
                renewals is not None
                and not stop.is_set()
                and (renewal_alarms.is_due() or (renewals.has_ticked and after_tick.is_due()))
            ):
                self._guarded("renewal_alarms", renewals.synchronise_alarms)
            if not stop.is_set() and upkeep.is_due():
                self._guarded("upkeep", self.upkeep)
            if not stop.is_set() and (alarms.is_due() or (self._refreshed.is_set() and after_refresh.is_due())):
                self._refreshed.clear()
                self._guarded("alarms", self.synchronise_alarms)
            if heartbeat.is_due():
                self._guarded("heartbeat", self._beat)
            stop.wait(LOOK_SECONDS)
        if renewals is not None:
            self._guarded("renewal", renewals.end)
        until = time.monotonic() + LAST_REFRESHES_SECONDS
        for thread in list(self._running):
            thread.join(max(until - time.monotonic(), 0))
        abandoned = sorted(entity_id for thread, entity_id in self._running.items() if thread.is_alive())
        _log.info("stopped", abandoned=abandoned)

    def round(self) -> bool:
        """Refresh everything that is due, one after the other, then upkeep and alarms; whether no source failed.

        Raises StoreUnavailable.
        """
        fine = True
        # Each source once: with a very short interval it may be due again before the round ends.
        for _ in range(len(self._trust.list_sources())):
            claim = self._claim()
            if claim is None:
                break
            outcome = self._refresh(claim)
            fine = fine and outcome.outcome not in (Outcome.FAILED, Outcome.NOT_RECORDED)
        self.upkeep()
        self.synchronise_alarms()
        return fine

    def upkeep(self) -> None:
        """What use and time change without any document. Raises StoreUnavailable."""
        for entity_id, change in self._trust.upkeep(self._clock()):
            _log.info(
                "certificate_moved",
                idp=entity_id,
                certificate=change.certificate.sha256,
                event_name=change.event.value,
                before=change.before,
                after=change.certificate.state.value,
            )

    def synchronise_alarms(self) -> None:
        """Raise and clear alarms as what is known says. Raises StoreUnavailable."""
        now = self._clock()
        statuses = read_statuses(self._config, self._trust, denies=self._rules.metadata_denies)
        _say_alarms(*self._trust.sync_alarms((alarm for each in statuses for alarm in trust_alarms(each, now)), now))

    def _start_refreshes(self) -> None:
        self._running = {thread: entity_id for thread, entity_id in self._running.items() if thread.is_alive()}
        while len(self._running) < self._rules.fetches:
            claim = self._claim()
            if claim is None:
                return
            # A daemon: the end of the process does not wait for somebody else's server.
            thread = threading.Thread(target=self._refresh, args=(claim,), name=claim.entity_id, daemon=True)
            self._running[thread] = claim.entity_id
            thread.start()

    def _claim(self) -> Claim | None:
        rules = self._rules
        return self._trust.claim(
            self._clock(),
            owner=self._owner,
            lease=rules.lease,
            cool_down=rules.cool_down,
            hasten_budget=rules.hasten_budget,
        )

    def _refresh(self, claim: Claim) -> RefreshOutcome:
        outcome = refresh_once(
            claim,
            store=self._trust,
            fetch=self._fetch,
            rules=self._rules.refresh,
            now=self._clock(),
            at_point=self._at_point,
        )
        _say(outcome, hastened=claim.hastened)
        self._refreshed.set()
        return outcome

    def _beat(self) -> None:
        now = self._clock()
        instant = self._trust.next_instant(now)
        _log.info(
            "alive",
            sources=len(self._trust.list_sources()),
            refreshing=sorted(self._running.values()),
            next_refresh=None if instant is None else instant.isoformat(),
        )

    def _guarded(self, what: str, work: Callable[[], None]) -> None:
        """Do it; a failure is said once, until it works again."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - whatever it is, the loop goes on
            if what not in self._failing:
                expected = isinstance(error, (StoreUnavailable, NotFound, Conflict))
                _log.error(
                    "work_failed",
                    what=what,
                    problem=str(error) if expected else type(error).__name__,
                    exc_info=None if expected else error,
                )
            self._failing.add(what)
        else:
            if what in self._failing:
                _log.info("work_goes_on", what=what)
            self._failing.discard(what)


def _say_alarms(raised: Sequence[StoredAlarm], cleared: Sequence[StoredAlarm]) -> None:
    for each in raised:
        said = {"kind": each.kind, each.about: each.entity_id, "severity": each.severity}
        _log.warning("alarm", **said, problem=each.text)
    for each in cleared:
        _log.info("alarm_cleared", kind=each.kind, **{each.about: each.entity_id})


def _say(outcome: RefreshOutcome, *, hastened: bool) -> None:
    """The one line of a refresh."""
    finding = outcome.finding
    lines = {Outcome.FAILED: _log.error, Outcome.NOT_RECORDED: _log.error, Outcome.HELD: _log.warning}
    say = lines.get(outcome.outcome, _log.info)
    said: dict[str, object] = {
        "idp": outcome.entity_id,
        "outcome": outcome.outcome.value,
        "reason": None if finding is None else finding.reason.value,
        "next_attempt": None if outcome.next_attempt_at is None else outcome.next_attempt_at.isoformat(),
        "hastened": hastened,
    }
    if finding is not None:
        said |= {"expected": finding.expected, "presented": finding.presented, "where": finding.where}
    if outcome.changes:
        said["changes"] = [
            f"{each.certificate.sha256[:16]} {each.before or 'new'} -> {each.certificate.state.value}"
            for each in outcome.changes
        ]
    if outcome.problems:
        said["problems"] = [each.reason.value for each in outcome.problems]
    if isinstance(outcome.error, (StoreUnavailable, NotFound, Conflict)):
        said["problem"] = str(outcome.error)
    elif outcome.error is not None:
        said["exc_info"] = outcome.error
    say("refreshed", **said)


class _Every:
    """Is due at first, and then whenever so many seconds have passed by the monotonic clock."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._next = time.monotonic()

    def is_due(self) -> bool:
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self._seconds
        return True
