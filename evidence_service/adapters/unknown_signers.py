"""Writes down which unknown keys signed plausible evidence, without holding up anybody.

Reporting puts into a bounded queue and never waits; one thread aggregates and writes. Nothing depends on a report: one
that is lost costs an early look at metadata, so a full queue drops and a broken store is said once and tried again.
Whoever makes keys cannot fill the table: each IdP has a bounded number of rows, and what is beyond shares one.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine, bindparam, delete, func, select
from sqlalchemy.dialects.sqlite import insert as upsert

from evidence_service.access.plausible import UnknownSigner
from evidence_service.adapters.database import StoreUnavailable, unknown_signers, writing

_log = logging.getLogger(__name__)

MAX_ROWS = 16
"""Rows of one IdP, with the one for further keys, whose `certificate_sha256` is empty."""

KEPT = timedelta(minutes=10)
"""A key not seen for this long makes room for another where there is none.

So does one at any time that was seen less often than the other is at once: whoever makes keys up uses each a few times,
and the IdP's new key signs for everybody.
"""

_MAX_QUEUED = 1024
_PAUSE_SECONDS = 0.1
_PAUSE_AFTER_ERROR_SECONDS = 1.0
_OTHERS = ""

_Key = tuple[str, str]
"""Entity ID, SHA-256 of the certificate."""

_FIND = select(unknown_signers.c.certificate_sha256, unknown_signers.c.last_seen, unknown_signers.c.denials).where(
    unknown_signers.c.entity_id == bindparam("entity_id")
)
_FORGET = delete(unknown_signers).where(
    unknown_signers.c.entity_id == bindparam("of"), unknown_signers.c.certificate_sha256 == bindparam("key")
)
_new = upsert(unknown_signers)
_ADD = _new.on_conflict_do_update(
    index_elements=["entity_id", "certificate_sha256"],
    set_={
        "last_seen": func.max(unknown_signers.c.last_seen, _new.excluded.last_seen),
        "denials": unknown_signers.c.denials + _new.excluded.denials,
    },
)


@dataclass(slots=True, kw_only=True)
class _Seen:
    subject: str
    first_seen: datetime
    last_seen: datetime
    denials: int

    def add(self, other: _Seen) -> None:
        self.first_seen = min(self.first_seen, other.first_seen)
        self.last_seen = max(self.last_seen, other.last_seen)
        self.denials += other.denials


class UnknownSigners:
    """Takes reports from any thread. `start` once, then `report`, then `stop`."""

    def __init__(self, engine: Engine) -> None:
        """Write into an open database."""
        self._engine = engine
        self._queue: queue.Queue[tuple[UnknownSigner, datetime]] = queue.Queue(_MAX_QUEUED)
        self._stopping = threading.Event()
        self._counting = threading.Lock()
        self._waiting: dict[str, dict[str, _Seen]] = {}
        self._broken = False
        self._thread: threading.Thread | None = None
        self.writes = 0
        """Transactions that wrote reports, for the test that they are shared."""
        self.dropped = 0
        """Reports that were dropped because too many waited."""

    def start(self) -> None:
        """Start the writer."""
        self._thread = threading.Thread(target=self._run, name="unknown-signers", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write what was reported, if the store takes it, and end."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def report(self, signer: UnknownSigner, now: datetime) -> None:
        """Evidence that `signer` signed was denied at `now` (UTC). Never waits, never fails."""
        try:
            self._queue.put_nowait((signer, now))
        except queue.Full:
            with self._counting:
                self.dropped += 1

    # The writer's thread, from here on.

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                first = self._queue.get(timeout=_PAUSE_SECONDS)
            except queue.Empty:
                if not self._waiting:
                    continue
            else:
                self._take(first)
            self._write()
            self._stopping.wait(_PAUSE_AFTER_ERROR_SECONDS if self._waiting else _PAUSE_SECONDS)
        with contextlib.suppress(queue.Empty):
            self._take(self._queue.get_nowait())
        self._write()

    def _take(self, report: tuple[UnknownSigner, datetime]) -> None:
        """Aggregate it and everything behind it; in memory the same bound holds as in the table."""
        with contextlib.suppress(queue.Empty):
            while True:
                signer, now = report
                rows = self._waiting.setdefault(signer.entity_id, {})
                key, subject = signer.certificate_sha256, signer.subject
                if key not in rows and len(rows) >= MAX_ROWS:
                    key, subject = _OTHERS, ""
                seen = _Seen(subject=subject, first_seen=now, last_seen=now, denials=1)
                _merge(rows, key, seen)
                report = self._queue.get_nowait()

    def _write(self) -> None:
        """What is in memory, in one transaction; it stays there where that fails."""
        if not self._waiting:
            return
        try:
            with writing(self._engine) as connection:
                for entity_id, rows in self._waiting.items():
                    _store(connection, entity_id, rows)
        except Exception as error:  # noqa: BLE001 - whatever it is, the thread must go on
            if not self._broken:
                problem = str(error) if isinstance(error, StoreUnavailable) else type(error).__name__
                _log.error("unknown signers are not written down: %s", problem)
            self._broken = True
            return
        self._broken = False
        self._waiting.clear()
        self.writes += 1


def _merge(rows: dict[str, _Seen], key: str, seen: _Seen) -> None:
    if key in rows:
        rows[key].add(seen)
    else:
        rows[key] = seen


def _store(connection: Connection, entity_id: str, reported: Mapping[str, _Seen]) -> None:
    named = {
        row.certificate_sha256: (row.denials, row.last_seen)
        for row in connection.execute(_FIND, {"entity_id": entity_id})
        if row.certificate_sha256 != _OTHERS
    }
    for key in named.keys() & reported.keys():
        denials, last_seen = named[key]
        named[key] = denials + reported[key].denials, max(last_seen, reported[key].last_seen)
    rows: dict[str, _Seen] = {}
    for key, seen in reported.items():
        if key != _OTHERS and key not in named:
            if len(named) >= MAX_ROWS - 1:
                least = min(named, key=lambda each: named[each])
                denials, last_seen = named[least]
                if least in reported or (seen.last_seen - last_seen < KEPT and seen.denials <= denials):
                    _merge(rows, _OTHERS, replace(seen, subject=""))
                    continue
                connection.execute(_FORGET, {"of": entity_id, "key": least})
                del named[least]
            named[key] = seen.denials, seen.last_seen
        _merge(rows, key, replace(seen))
    connection.execute(
        _ADD,
        [
            {
                "entity_id": entity_id,
                "certificate_sha256": key,
                "subject": each.subject,
                "first_seen": each.first_seen,
                "last_seen": each.last_seen,
                "denials": each.denials,
            }
            for key, each in rows.items()
        ],
    )
