"""The durable record of decisions, and the way back from a record to everything that the decision depended on.

One thread writes. It takes all entries that gathered while it was committing the last ones and commits them together
(no waiting window), in the order in which they came: there, holding the database's write lock, is the only place where
the order of two presentations of the same evidence is defined, so there the re-use rule is applied.

In the same transaction it counts whose evidence was allowed (`usage`), so that the count agrees with the records. It
counts what was judged good, not what observe mode let pass.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
import logging
import os
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, Engine, Row, Table, bindparam, func, select, update
from sqlalchemy import exc as sa_exc
from sqlalchemy.dialects.sqlite import insert as upsert

from evidence_service.access.decide import decide
from evidence_service.access.model import (
    AccessRequest,
    Allow,
    AssertionSummary,
    Decision,
    Deny,
    Mode,
    Phase,
    Sighting,
    Snapshot,
    refused,
)
from evidence_service.access.reasons import AccessReason, reason_of
from evidence_service.access.reuse import judge_reuse, sighting_of
from evidence_service.access.upn import fold_upn
from evidence_service.access.verify import VerifiedEvidence
from evidence_service.adapters.config_store import NotFound, printable
from evidence_service.adapters.database import (
    Inserter,
    StoreUnavailable,
    check_file,
    clock,
    connect,
    database_problem,
    decisions,
    evidence,
    from_microseconds,
    reading,
    sightings,
    snapshots,
    to_microseconds,
    usage,
)
from evidence_service.adapters.snapshots import snapshot_document, stored_snapshot
from idp_certs.reasons import Finding, TrustReason

_log = logging.getLogger(__name__)

BUSY_TIMEOUT = timedelta(seconds=1)
"""How long a batch waits for another process's write lock; less than the deadline of a decision."""

MAX_TEXT = 1024
"""Characters of any one text that are stored; of a longer one its beginning, length and digest."""

_MAX_BATCH = 1000
_MAX_REMEMBERED = 20_000
_MAX_UNANSWERED = 20_000
_PROBE_SECONDS = 1.0
_PIECE = 2047  # bytes; hashlib releases the interpreter lock from 2048 on
_SMALL = 16 * _PIECE
_DELETE = b"\x7f"  # the one control character of ASCII that JSON does not escape
_DAY = timedelta(days=1)
_EPOCH = from_microseconds(0)
_FSYNC_FAILED = (sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC)

Answered = Literal["yes", "late"]

_Key = tuple[str, str]
"""Issuer and assertion ID."""

_UseKey = tuple[str, str, int]
"""Entity ID, SHA-256 of the certificate, day."""

_OPTIONAL = (
    "phase",
    "sid",
    "rule",
    "security_context",
    "disposition",
    "storefront",
    "fas_server",
    "correlation_id",
)

# Built once: building a statement costs more than running it.
_READ_MARK = select(clock.c.high_water)
_SET_MARK = update(clock).values(high_water=bindparam("mark"))
_FIND_SIGHTINGS = select(sightings).where(sightings.c.sighting_key.in_(bindparam("keys", expanding=True)))
_FIND_DECISION = select(decisions).where(decisions.c.decision_id == bindparam("id"))
_FIND_EVIDENCE = select(evidence.c.sha256, evidence.c.content).where(
    evidence.c.sha256.in_(bindparam("digests", expanding=True))
)
_SET_LATE = (
    update(decisions)
    .where(decisions.c.decision_id.in_(bindparam("ids", expanding=True)))
    .values(answered=bindparam("late"))
)


def _counting() -> Any:  # noqa: ANN401 - its type says nothing
    add = upsert(usage)
    new = add.excluded
    both = ("sign_ins", "launches", "late_sign_ins")
    return add.on_conflict_do_update(
        index_elements=["entity_id", "certificate_sha256", "day"],
        set_={
            **{name: usage.c[name] + new[name] for name in both},
            "first_sign_in": _either(func.min, usage.c.first_sign_in, new.first_sign_in),
            "last_sign_in": _either(func.max, usage.c.last_sign_in, new.last_sign_in),
        },
    )


def _either(choose: Any, old: Any, new: Any) -> Any:  # noqa: ANN401 - as above
    """The lesser or the greater of two, of which one may be NULL."""
    return choose(func.coalesce(old, new), func.coalesce(new, old))


_COUNT_USE = _counting()


class JournalUnavailable(Exception):  # noqa: N818 - a state of the world, named as the reason code is
    """The decision could not be made durable; `str()` is one line. It may or may not be stored, as unanswered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A decision to record. `now` is UTC, `took` the time that judging took.

    `judged` is False where the service refused without asking `decide`: such a record cannot be judged again.
    `verified` saves verifying once more where a sighting makes the journal ask `decide` again.
    """

    decision_id: str
    request: AccessRequest
    snapshot: Snapshot
    now: datetime
    decision: Decision
    plugin: str | None = None
    mode: Mode = Mode.ENFORCE
    took: timedelta = timedelta(0)
    judged: bool = True
    verified: VerifiedEvidence | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What is durable now, and what must be answered. `seen` is the first sighting of the same evidence, if any."""

    decision_id: str
    decision: Decision
    seen: Sighting | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionLine:
    """One decision in a list. `upn` is folded and escaped; `entity_id` is the IdP, where it was known."""

    decision_id: str
    now: datetime
    decision: Literal["allow", "deny"]
    reason: str
    upn: str
    entity_id: str | None
    mode: Mode
    plugin: str | None
    answered: Answered


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDecision:
    """One decision as recorded. Never an `Allow`: that is built from evidence, not from a database.

    `answered` is `late` where the caller had gone, or may have, before the record was durable.
    """

    decision_id: str
    request: AccessRequest
    now: datetime
    snapshot_version: str
    seen: Sighting | None
    decision: Literal["allow", "deny"]
    reason: str
    findings: tuple[Finding, ...]
    assertion: AssertionSummary | None
    entity_id: str | None
    rule: str | None
    security_context: str | None
    mode: Mode
    plugin: str | None
    took: timedelta
    judged: bool
    answered: Answered


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What `decide` needs to judge a recorded request again: `decide(request, snapshot, now, seen=seen)`."""

    stored: StoredDecision
    request: AccessRequest
    snapshot: Snapshot
    now: datetime
    seen: Sighting | None


_unused: list[bytes] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unused.clear)


def _random() -> bytes:
    """Ten bytes that nobody can guess. Drawn in stock: each draw gives Python's lock away to a busy writer."""
    while True:
        try:
            return _unused.pop()
        except IndexError:
            stock = os.urandom(10 * 512)
            _unused.extend(stock[start : start + 10] for start in range(0, len(stock), 10))


def _sha256(content: bytes) -> str:
    """The digest, in pieces so small that hashing does not give Python's lock away, where the evidence is small."""
    if len(content) > _SMALL:
        return hashlib.sha256(content).hexdigest()
    digest = hashlib.sha256()
    for start in range(0, len(content), _PIECE):
        digest.update(content[start : start + _PIECE])
    return digest.hexdigest()


def new_decision_id(now: datetime) -> str:
    """An id that sorts by time and cannot be guessed: a UUID version 7 (RFC 9562) with 74 random bits."""
    value = (to_microseconds(now) // 1000 & (1 << 48) - 1) << 80 | int.from_bytes(_random())
    value = value & ~(0xF << 76) | 7 << 76
    digits = f"{value & ~(3 << 62) | 2 << 62:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


@dataclass(slots=True, kw_only=True, eq=False)
class _Pending:
    """An entry on its way. `values` is its row, ready but for what only the transaction knows."""

    entry: Entry
    values: dict[str, Any]
    contents: dict[str, bytes]
    future: asyncio.Future[Recorded]
    loop: asyncio.AbstractEventLoop
    key: _Key | None
    recorded: Recorded | None = None
    error: Exception | None = None
    given_up: bool = False


@dataclass(slots=True)
class _Use:
    """What one transaction adds to the use of a certificate on a day."""

    launches: int = 0
    sign_ins: int = 0
    late_sign_ins: int = 0
    first_sign_in: datetime | None = None
    last_sign_in: datetime | None = None

    def add(self, now: datetime, *, first: bool, late: bool) -> None:
        """Count one allow; `first` of this evidence, `late` as its certificate was withdrawn by then."""
        self.launches += 1
        if not first:
            return
        self.sign_ins += 1
        self.late_sign_ins += late
        self.first_sign_in = now if self.first_sign_in is None else min(self.first_sign_in, now)
        self.last_sign_in = now if self.last_sign_in is None else max(self.last_sign_in, now)


@dataclass(slots=True, kw_only=True)
class _Work:
    """What one transaction will write."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    contents: dict[str, bytes] = field(default_factory=dict)
    documents: dict[str, str] = field(default_factory=dict)
    first: dict[_Key, Sighting] = field(default_factory=dict)
    uses: dict[_UseKey, _Use] = field(default_factory=dict)
    latest: datetime | None = None

    def judge(self, key: _Key, entry: Entry, seen: dict[_Key, Sighting]) -> Decision:
        """The decision by what was seen; where it is an allow, the use counts, and the first time is remembered."""
        before = seen.get(key)
        decision = _with_sighting(entry, before)
        if isinstance(decision, Allow):
            if before is None:
                seen[key] = self.first[key] = sighting_of(decision, entry.request.upn, entry.now)
            assertion = decision.assertion
            day = assertion.issuer, assertion.certificate_sha256, (entry.now - _EPOCH) // _DAY
            use = self.uses.setdefault(day, _Use())
            use.add(entry.now, first=before is None, late=assertion.retiring_since is not None)
        return decision


_WAKE = object()
_STOP = object()


class Journal:
    """Records decisions. `start` once, then `record` from an event loop, then `stop`."""

    def __init__(self, engine: Engine, *, max_queued: int = 4096, busy_timeout: timedelta = BUSY_TIMEOUT) -> None:
        """Record into an open database; at most `max_queued` entries wait."""
        self._engine = engine
        self._max_queued = max_queued
        self._busy_timeout = busy_timeout
        self._queue: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._depth = 0
        self._thread: threading.Thread | None = None
        self._connection: Connection | None = None
        self._high_water: datetime | None = None
        self._problem: str | None = None
        self._dead = False
        self._committing = False
        self._closing = False
        self._unanswered: deque[str] = deque()
        self._counting = threading.Lock()
        self._known_evidence: dict[str, None] = {}
        # A sighting never changes once it is there, so one that was read or written needs no second look.
        self._known_sightings: dict[_Key, Sighting] = {}
        self._known_snapshots: set[str] = set()
        self._add_evidence = _inserter(engine, evidence, ignore_known=True)
        self._add_snapshots = _inserter(engine, snapshots, ignore_known=True)
        self._add_sightings = _inserter(engine, sightings)
        self._add_decisions = _inserter(engine, decisions, without="seq")
        self.commits = 0
        """Transactions that recorded entries, for the test that they are shared."""
        self.unmarked = 0
        """Decisions that were not given and are not marked so: too many waited for a store that takes nothing."""

    @property
    def healthy(self) -> bool:
        """Whether the last attempt to write succeeded; while not, an attempt is made every second."""
        return self._thread is not None and self._thread.is_alive() and self._problem is None and not self._closing

    @property
    def problem(self) -> str | None:
        """Why it is not healthy, one line; None where it is or was not asked yet."""
        return self._problem

    @property
    def high_water(self) -> datetime | None:
        """The latest instant at which anything was decided, by any process so far (UTC)."""
        return self._high_water

    def start(self) -> None:
        """Load the high-water mark and start the writer. Raises StoreUnavailable."""
        with reading(self._engine) as connection:
            self._high_water = connection.scalar(select(clock.c.high_water))
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Record what was handed in, then end. Later entries raise JournalUnavailable."""
        if self._thread is None or self._closing:
            return
        self._closing = True
        self._queue.put(_STOP)
        await asyncio.to_thread(self._thread.join)
        await asyncio.sleep(0)  # lets the last answers find out who did not wait for them
        await asyncio.to_thread(self._finish)

    async def record(self, entry: Entry) -> Recorded:
        """Make the decision durable and return the one that holds: the re-use rule may turn an allow into a deny.

        A caller that is cancelled has given up: its entry is recorded as a deny `deadline` if its transaction has not
        begun, and otherwise marked as late. Raises JournalUnavailable, and ValueError for an unusable entry.
        """
        if self._thread is None or self._closing:
            raise JournalUnavailable("the journal is not running")
        if self._dead:
            raise JournalUnavailable(self._problem or "the journal is dead")
        if self._depth >= self._max_queued:
            raise JournalUnavailable(f"{self._max_queued} decisions already wait to be recorded")
        loop = asyncio.get_running_loop()
        values, contents = _values(entry)
        pending = _Pending(
            entry=entry,
            values=values,
            contents=contents,
            future=loop.create_future(),
            loop=loop,
            key=_sighting_key(entry.decision),
        )
        self._depth += 1
        self._queue.put(pending)
        try:
            return await pending.future
        except asyncio.CancelledError:
            if not pending.future.cancelled() and pending.future.exception() is None:
                self._mark_unanswered((pending,))
            raise

    def disown(self, decision_id: str) -> None:
        """Mark a recorded decision as one that was not given: the answer failed after it was durable."""
        self._not_given((decision_id,))
        self._queue.put(_WAKE)

    def _mark_unanswered(self, late: Iterable[_Pending]) -> None:
        self._not_given(pending.entry.decision_id for pending in late)
        self._queue.put(_WAKE)

    def _not_given(self, decision_ids: Iterable[str]) -> None:
        """Keep for marking; from any thread."""
        with self._counting:
            for decision_id in decision_ids:
                if len(self._unanswered) < _MAX_UNANSWERED:
                    self._unanswered.append(decision_id)
                    continue
                if self.unmarked == 0:
                    _log.error("more than %d decisions wait to be marked as not given", _MAX_UNANSWERED)
                self.unmarked += 1

    def _settle(self, batch: Sequence[_Pending]) -> None:
        """Answer the callers of a batch; runs in their event loop."""
        late = []
        for pending in batch:
            self._depth -= 1
            if pending.future.cancelled():
                if pending.recorded is not None and not pending.given_up:
                    late.append(pending)
            elif pending.recorded is not None:
                pending.future.set_result(pending.recorded)
            else:
                pending.future.set_exception(pending.error or JournalUnavailable("the journal is not running"))
        if late:
            self._mark_unanswered(late)

    # The writer's thread, from here on.

    def _run(self) -> None:
        going = True
        while going:
            batch, going = self._take()
            try:
                self._write(batch)
            except Exception as error:  # noqa: BLE001
                _log.exception("a batch of %d decisions was not recorded", len(batch))
                self._fail(batch, f"unexpected {type(error).__name__} in the journal")
            by_loop: dict[asyncio.AbstractEventLoop, list[_Pending]] = {}
            for pending in batch:
                by_loop.setdefault(pending.loop, []).append(pending)
            for loop, group in by_loop.items():
                try:
                    loop.call_soon_threadsafe(self._settle, group)
                except RuntimeError:  # the loop is closed: nobody waits for an answer any more
                    self._not_given(pending.entry.decision_id for pending in group)

    def _finish(self) -> None:
        """Mark the last unanswered decisions and close the connection."""
        with contextlib.suppress(Exception):
            while self._unanswered and not self._dead:
                self._commit(())
        self._disconnect()

    def _take(self) -> tuple[list[_Pending], bool]:
        """Everything that waits, at least one thing; and whether to go on after it."""
        try:
            taken = self._queue.get(timeout=None if self._dead else _PROBE_SECONDS)
        except queue.Empty:
            return [], True
        batch: list[_Pending] = []
        while True:
            if isinstance(taken, _Pending):
                batch.append(taken)
            elif taken is _STOP:
                return batch, False
            if len(batch) >= _MAX_BATCH:
                return batch, True
            try:
                taken = self._queue.get_nowait()
            except queue.Empty:
                return batch, True

    def _write(self, batch: Sequence[_Pending], *, alone: bool = False) -> None:
        if self._dead:
            self._fail(batch, self._problem or "the journal is dead")
            return
        try:
            self._commit(batch)
        except (StoreUnavailable, sa_exc.OperationalError, sa_exc.TimeoutError, sqlite3.Error) as error:
            self._broken(batch, error)
        except Exception as error:  # noqa: BLE001
            self._disconnect()
            if alone:
                _log.exception("decision %s could not be recorded", batch[0].entry.decision_id)
                batch[0].error = JournalUnavailable(f"the decision could not be recorded: {type(error).__name__}")
                return
            # One entry that the database refuses must not take the others down. What was remembered to be there may
            # have been purged; having disconnected, everything is offered anew.
            for pending in batch:
                self._write((pending,), alone=True)

    def _broken(self, batch: Sequence[_Pending], error: Exception) -> None:
        self._disconnect()
        original = error.orig if isinstance(error, sa_exc.DBAPIError) else error
        # After a failed fsync the kernel may have dropped the pages: nothing later on this file proves anything.
        self._dead = getattr(original, "sqlite_errorcode", None) in _FSYNC_FAILED
        self._fail(batch, database_problem(self._engine, error))
        if self._committing:  # whether the rows are there is not known; if they are, nobody was told (promise 71)
            self._not_given(pending.entry.decision_id for pending in batch)

    def _fail(self, batch: Sequence[_Pending], problem: str) -> None:
        if problem != self._problem:
            _log.error("decisions cannot be recorded: %s", problem)
        self._problem = problem
        for pending in batch:
            if pending.recorded is None and pending.error is None:
                pending.error = JournalUnavailable(problem)

    def _connect(self) -> Connection:
        if self._connection is None:
            connection = connect(self._engine)
            # Detached: its own time-out must not go back to the pool, nor a broken connection.
            connection.detach()
            self._connection = connection  # from here on it is `_disconnect` that closes it
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {self._busy_timeout // timedelta(milliseconds=1)}")
            connection.rollback()
            connection.execution_options(write=True)
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        # The next connection may be to another file, of which nothing is known.
        self._known_evidence.clear()
        self._known_sightings.clear()
        self._known_snapshots.clear()
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.close()

    def _commit(self, batch: Sequence[_Pending]) -> None:
        """One transaction. Raises whatever the database raises; then nothing is recorded."""
        self._committing = False
        connection = self._connect()
        check_file(connection)
        unanswered = list(itertools.islice(self._unanswered, _MAX_BATCH))
        if not batch and not unanswered and self._problem is None:
            return
        work = _Work()
        with connection.begin():
            # Also a probe when there is nothing to do: it proves that writing works again.
            mark = connection.scalar(_READ_MARK)
            seen = self._sightings(connection, batch)
            results = [(pending, self._judge(pending, seen, work)) for pending in batch]
            self._insert(connection, work)
            if work.latest is not None and (mark is None or work.latest > mark):
                mark = work.latest
            connection.execute(_SET_MARK, {"mark": mark})
            if unanswered:
                connection.execute(_SET_LATE, {"ids": unanswered, "late": "late"})
            self._committing = True
        check_file(connection)
        for pending, recorded in results:
            pending.recorded = recorded
        for _ in unanswered:
            self._unanswered.popleft()
        self._remember(work)
        self._high_water = mark
        self.commits += 1 if batch else 0
        if self._problem is not None:
            _log.info("decisions are recorded again")
        self._problem = None

    def _sightings(self, connection: Connection, batch: Sequence[_Pending]) -> dict[_Key, Sighting]:
        """What was seen before of the evidence of those entries whose outcome depends on it."""
        found: dict[_Key, Sighting] = {}
        unknown = []
        for key in {pending.key for pending in batch if pending.key is not None}:
            if key in self._known_sightings:
                found[key] = self._known_sightings[key]
            else:
                unknown.append(key)
        if not unknown:
            return found
        for row in connection.execute(_FIND_SIGHTINGS, {"keys": [_key_digest(key) for key in unknown]}):
            key = row.issuer, row.assertion_id
            found[key] = self._known_sightings[key] = Sighting(
                issuer=row.issuer,
                assertion_id=row.assertion_id,
                content_sha256=row.content_sha256,
                upn=row.upn,
                first_seen=row.first_seen,
            )
        return found

    def _judge(self, pending: _Pending, seen: dict[_Key, Sighting], work: _Work) -> Recorded:
        """The decision that holds, given what was recorded before; its row and what goes with it into `work`."""
        entry, values = pending.entry, pending.values
        decision, before = entry.decision, None
        pending.given_up = pending.future.cancelled()
        try:
            if pending.given_up:
                decision = refused(AccessReason.DEADLINE)
            elif pending.key is not None:
                before = seen.get(pending.key)
                decision = work.judge(pending.key, entry, seen)
        except Exception:  # noqa: BLE001
            _log.exception("decision %s is denied", entry.decision_id)
            decision, before = refused(AccessReason.INTERNAL_ERROR), None
        if decision is not entry.decision:
            values = values | _outcome(decision) | {"judged": entry.judged and not _is_own(decision)}
        if before is not None:
            seen_at = to_microseconds(before.first_seen)
            values = values | {"seen": _encode((before.content_sha256, before.upn, seen_at))}
        version = entry.snapshot.version
        if version not in self._known_snapshots and version not in work.documents:
            work.documents[version] = _document(entry.snapshot)
        for digest, content in pending.contents.items():
            if digest not in self._known_evidence:
                work.contents[digest] = content
        work.rows.append(values)
        if work.latest is None or entry.now > work.latest:
            work.latest = entry.now
        return Recorded(decision_id=entry.decision_id, decision=decision, seen=before)

    def _insert(self, connection: Connection, work: _Work) -> None:
        if work.latest is None:
            return
        stored_at = to_microseconds(work.latest)
        self._add_evidence.insert(
            connection,
            [
                {"sha256": digest, "content": content, "stored_at": stored_at}
                for digest, content in work.contents.items()
            ],
        )
        self._add_snapshots.insert(
            connection,
            [
                {"version": version, "document": document, "stored_at": stored_at}
                for version, document in work.documents.items()
            ],
        )
        self._add_sightings.insert(
            connection,
            [
                {
                    "sighting_key": _key_digest(key),
                    "issuer": each.issuer,
                    "assertion_id": each.assertion_id,
                    "content_sha256": each.content_sha256,
                    "upn": each.upn,
                    "first_seen": to_microseconds(each.first_seen),
                }
                for key, each in work.first.items()
            ],
        )
        self._add_decisions.insert(connection, work.rows)
        if work.uses:
            connection.execute(
                _COUNT_USE,
                [
                    {
                        "entity_id": entity_id,
                        "certificate_sha256": sha256,
                        "day": day,
                        "sign_ins": use.sign_ins,
                        "launches": use.launches,
                        "late_sign_ins": use.late_sign_ins,
                        "first_sign_in": use.first_sign_in,
                        "last_sign_in": use.last_sign_in,
                    }
                    for (entity_id, sha256, day), use in work.uses.items()
                ],
            )

    def _remember(self, work: _Work) -> None:
        """What need not be offered to the database again."""
        for known in (self._known_evidence, self._known_sightings):
            if len(known) > _MAX_REMEMBERED:
                known.clear()
        self._known_evidence.update(dict.fromkeys(work.contents))
        self._known_sightings.update(work.first)
        self._known_snapshots.update(work.documents)


def find_decisions(
    engine: Engine,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    upn: str | None = None,
    reason: str | None = None,
    decision: Literal["allow", "deny"] | None = None,
    entity_id: str | None = None,
    limit: int = 100,
    before: str | None = None,
) -> tuple[DecisionLine, ...]:
    """Decisions, newest first; `since` inclusive, `until` exclusive. `before` is the last id of the page before.

    Raises NotFound for an unknown `before`, and StoreUnavailable.
    """
    statement = select(decisions).order_by(decisions.c.seq.desc()).limit(limit)
    if since is not None:
        statement = statement.where(decisions.c.now >= since)
    if until is not None:
        statement = statement.where(decisions.c.now < until)
    if upn is not None:
        statement = statement.where(decisions.c.upn == _searchable(upn))
    equal = ((decisions.c.reason, reason), (decisions.c.decision, decision), (decisions.c.issuer, entity_id))
    for column, value in equal:
        if value is not None:
            statement = statement.where(column == value)
    with reading(engine) as connection:
        if before is not None:
            seq = connection.scalar(select(decisions.c.seq).where(decisions.c.decision_id == before))
            if seq is None:
                raise NotFound(f"no decision {before!r} is recorded")
            statement = statement.where(decisions.c.seq < seq)
        return tuple(
            DecisionLine(
                decision_id=row.decision_id,
                now=row.now,
                decision=row.decision,
                reason=row.reason,
                upn=row.upn,
                entity_id=row.issuer,
                mode=Mode(row.mode),
                plugin=row.plugin,
                answered=row.answered,
            )
            for row in connection.execute(statement)
        )


def load_decision(engine: Engine, decision_id: str) -> StoredDecision:
    """One decision with its evidence. Raises NotFound and StoreUnavailable."""
    with reading(engine) as connection:
        row = connection.execute(_FIND_DECISION, {"id": decision_id}).one_or_none()
        if row is None:
            raise NotFound(f"no decision {decision_id!r} is recorded")
        try:
            content = json.loads(row.request)
            stored = connection.execute(_FIND_EVIDENCE, {"digests": content["evidence"]})
            contents = {digest: bytes(each) for digest, each in stored}
            return _stored_decision(row, content, json.loads(row.outcome), contents)
        except (KeyError, TypeError, ValueError) as error:
            raise StoreUnavailable(
                f"the record of decision {decision_id} is damaged or was written by newer software"
            ) from error


def load_replay(engine: Engine, decision_id: str, *, secrets_dir: Path | None = None) -> Replay:
    """Everything that a recorded decision depended on. Raises NotFound and StoreUnavailable."""
    stored = load_decision(engine, decision_id)
    snapshot = stored_snapshot(engine, stored.snapshot_version, secrets_dir=secrets_dir)
    return Replay(stored=stored, request=stored.request, snapshot=snapshot, now=stored.now, seen=stored.seen)


def _inserter(engine: Engine, table: Table, *, ignore_known: bool = False, without: str = "") -> Inserter:
    columns = [column.name for column in table.columns if column.name != without]
    return Inserter(engine, table, columns, ignore_known=ignore_known)


def _with_sighting(entry: Entry, seen: Sighting | None) -> Decision:
    if isinstance(entry.decision, Allow):
        policy = entry.snapshot.policies[entry.decision.assertion.issuer]
        return judge_reuse(entry.decision, policy, entry.request, seen, entry.now)
    if seen is None:
        return entry.decision
    # It was judged as if presented for the first time, and was not.
    return decide(entry.request, entry.snapshot, entry.now, seen=seen, verified=entry.verified)


def _encode(value: object) -> str:
    """JSON on one line of ASCII, whatever the texts hold."""
    with contextlib.suppress(UnicodeEncodeError):  # half a UTF-16 pair
        encoded = msgspec.json.encode(value)
        if encoded.isascii() and _DELETE not in encoded:
            return encoded.decode()
    return json.dumps(value).replace("\x7f", "\\u007f")


def _sighting_key(decision: Decision) -> _Key | None:
    """What to look for, where the outcome can depend on it: an allow, or a deny that a first presentation may earn."""
    if isinstance(decision, Deny) and not any(finding.reason in _FIRST_ONLY for finding in decision.findings):
        return None
    if decision.assertion is None:
        return None
    return decision.assertion.issuer, decision.assertion.assertion_id


_FIRST_ONLY = (AccessReason.EVIDENCE_NOT_FRESH, TrustReason.CERTIFICATE_RETIRED)


def _key_digest(key: _Key) -> str:
    return hashlib.sha256(_encode(key).encode()).hexdigest()


def _is_own(decision: Decision) -> bool:
    """Whether the service itself is the reason, so that `decide` would answer otherwise."""
    return isinstance(decision, Deny) and decision.reason.rank >= AccessReason.DEADLINE.rank


def _document(snapshot: Snapshot) -> str:
    document = snapshot_document(snapshot)
    if hashlib.sha256(document.encode()).hexdigest() != snapshot.version:
        raise ValueError("the snapshot's version is not the digest of its content")
    return document


def _cut(text: str | None) -> str | None:
    if text is None or len(text) <= MAX_TEXT:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{text[:MAX_TEXT]}... [{len(text)} characters, SHA-256 {digest}]"


def _searchable(upn: str) -> str:
    """The UPN as it is searched for: cut, folded, anything that would not print escaped."""
    return printable(fold_upn(str(_cut(upn))))


def _values(entry: Entry) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The row of an entry and its evidence by digest."""
    request = entry.request
    digests = [_sha256(each) for each in request.evidence]
    values: dict[str, Any] = {
        "decision_id": entry.decision_id,
        "now": to_microseconds(entry.now),
        "upn": _searchable(request.upn),
        "mode": entry.mode.value,
        "plugin": entry.plugin,
        "snapshot_version": entry.snapshot.version,
        "evidence_sha256": digests[0] if digests else None,
        "request": _encode(
            {"request_id": _cut(request.request_id), "upn": _cut(request.upn), "evidence": digests}
            | {name: _cut(value) for name in _OPTIONAL if (value := getattr(request, name)) is not None}
        ),
        "seen": None,
        "took_us": entry.took // timedelta(microseconds=1),
        "judged": entry.judged and not _is_own(entry.decision),
        "answered": "yes",
        **_outcome(entry.decision),
    }
    return values, dict(zip(digests, request.evidence, strict=True))


def _outcome(decision: Decision) -> dict[str, Any]:
    """The columns that depend on the decision."""
    assertion = decision.assertion
    outcome: dict[str, Any] = {}
    if assertion is not None:
        outcome["assertion"] = {
            "issuer": assertion.issuer,
            "assertion_id": assertion.assertion_id,
            "content_sha256": assertion.content_sha256,
            "certificate_sha256": assertion.certificate_sha256,
            "signed": assertion.signed,
            "encrypted": assertion.encrypted,
            "upn": _cut(assertion.upn),
            "issue_instant": None if assertion.issue_instant is None else to_microseconds(assertion.issue_instant),
            "authn_instant": None if assertion.authn_instant is None else to_microseconds(assertion.authn_instant),
        }
        if assertion.retiring_since is not None:
            outcome["assertion"]["retiring_since"] = to_microseconds(assertion.retiring_since)
    if isinstance(decision, Allow):
        if decision.rule is not None or decision.security_context is not None:
            outcome["rule"], outcome["security_context"] = decision.rule, decision.security_context
    else:
        outcome["findings"] = [
            [finding.reason.value, _cut(finding.expected), _cut(finding.presented), _cut(finding.where)]
            for finding in decision.findings
        ]
    return {
        "decision": "allow" if isinstance(decision, Allow) else "deny",
        "reason": str(decision.reason),
        "issuer": decision.entity_id,
        "outcome": _encode(outcome),
    }


def _stored_decision(
    row: Row[Any], request: Mapping[str, Any], outcome: Mapping[str, Any], contents: Mapping[str, bytes]
) -> StoredDecision:
    phase = request.get("phase")
    assertion = _assertion_in(outcome["assertion"]) if "assertion" in outcome else None
    seen = None
    if row.seen is not None and assertion is not None:
        content_sha256, upn, first_seen = json.loads(row.seen)
        seen = Sighting(
            issuer=assertion.issuer,
            assertion_id=assertion.assertion_id,
            content_sha256=content_sha256,
            upn=upn,
            first_seen=from_microseconds(first_seen),
        )
    return StoredDecision(
        decision_id=row.decision_id,
        request=AccessRequest(
            **{
                **request,
                "evidence": tuple(contents[digest] for digest in request["evidence"]),
                "phase": None if phase is None else Phase(phase),
            }
        ),
        now=row.now,
        snapshot_version=row.snapshot_version,
        seen=seen,
        decision=row.decision,
        reason=row.reason,
        findings=tuple(
            Finding(reason=reason_of(code), expected=expected, presented=presented, where=where)
            for code, expected, presented, where in outcome.get("findings", ())
        ),
        assertion=assertion,
        entity_id=row.issuer,
        rule=outcome.get("rule"),
        security_context=outcome.get("security_context"),
        mode=Mode(row.mode),
        plugin=row.plugin,
        took=timedelta(microseconds=row.took_us),
        judged=row.judged,
        answered=row.answered,
    )


def _assertion_in(content: Mapping[str, Any]) -> AssertionSummary:
    instants = {
        name: None if (value := content.get(name)) is None else from_microseconds(value)
        for name in ("issue_instant", "authn_instant", "retiring_since")
    }
    return AssertionSummary(**{**content, **instants})
