"""The real application over TLS, judging each case of the corpus with that case's clock, trust and earlier sighting.

Which case a question belongs to is told by its correlation id, which takes no part in a decision. Everything behind
that is real: application, journal, database. A case whose outcome depends on what was recorded before has a database
of its own; the others share one for each instant, because a clock that goes back is rightly not trusted.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine, insert
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from evidence_service.access.model import Sighting, Snapshot
from evidence_service.adapters.database import open_database, sightings
from evidence_service.adapters.journal import Entry, Journal, Recorded, _key_digest
from evidence_service.adapters.snapshots import Plugins, snapshot_document
from evidence_service.app import build_app
from evidence_service.settings import load_settings
from evidence_service.web.tls import ServerTls
from evidence_service.web.transport import TransportLimits
from tests.corpus import harness
from tests.corpus.model import Case
from tests.web.listening import Identity, listening
from tests.web.plane import prepare


def correlation_id(door: str, number: int) -> str:
    """Names the case by its place in the corpus, and the door, so that doors do not see each other's sightings."""
    return f"{door}:{number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Current:
    snapshot: Snapshot
    now: datetime
    journal: Journal


_REUSE = frozenset({"evidence_not_fresh", "evidence_already_used", "replay_conflict"})
_current: ContextVar[_Current] = ContextVar("current")


class _Journals:
    """Real journals over real databases, opened where they are asked for first."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        prepare(directory, with_idp=False)
        self._opened: dict[str, tuple[Engine, Journal]] = {}
        self._lock = threading.Lock()

    def of(self, door: str, case: Case, seen: Sighting | None) -> Journal:
        own = case.decision == "allow" or seen is not None or not _REUSE.isdisjoint(case.reasons)
        key = hashlib.sha256(f"{door} {case.id if own else case.at}".encode()).hexdigest()
        with self._lock:
            if key not in self._opened:
                path = self._directory / f"{key}.db"
                shutil.copy(self._directory / "fas-evidence.db", path)
                engine = open_database(f"sqlite:///{path}")
                if seen is not None:
                    _seed(engine, seen)
                journal = Journal(engine)
                journal.start()
                self._opened[key] = engine, journal
            return self._opened[key][1]

    async def close(self) -> None:
        for engine, journal in self._opened.values():
            await journal.stop()
            engine.dispose()


def _seed(engine: Engine, seen: Sighting) -> None:
    with engine.begin() as connection:
        connection.execute(
            insert(sightings).values(
                sighting_key=_key_digest((seen.issuer, seen.assertion_id)),
                issuer=seen.issuer,
                assertion_id=seen.assertion_id,
                content_sha256=seen.content_sha256,
                upn=seen.upn,
                first_seen=seen.first_seen,
            )
        )


class _Configuration:
    def __init__(self, plugins: Plugins) -> None:
        self.plugins = plugins
        self.age = timedelta(0)

    def current(self) -> Snapshot:
        return _current.get().snapshot


class _CurrentJournal:
    healthy = True

    @property
    def high_water(self) -> datetime | None:
        return _current.get().journal.high_water

    async def record(self, entry: Entry) -> Recorded:
        return await _current.get().journal.record(entry)

    def disown(self, decision_id: str) -> None:
        _current.get().journal.disown(decision_id)


def _choosing(app: ASGIApp, journals: _Journals) -> ASGIApp:
    """Chooses the case by the body, and gives the same body on."""
    cases = harness.cases()

    async def choose(scope: Scope, receive: Receive, send: Send) -> None:
        messages: list[Message] = [await receive()]
        while messages[-1].get("more_body"):
            messages.append(await receive())
        body = b"".join(message.get("body", b"") for message in messages)
        name = json.loads(body)["correlation_id"]
        door, _, number = name.partition(":")
        case = cases[int(number)]
        prepared = harness.prepare(case)
        version = hashlib.sha256(snapshot_document(prepared.snapshot).encode()).hexdigest()
        _current.set(
            _Current(
                snapshot=replace(prepared.snapshot, version=version),
                now=prepared.now,
                journal=journals.of(door, case, prepared.seen),
            )
        )
        replay = iter(messages)

        async def again() -> Message:
            return next(replay)

        await app(scope, again, send)

    return choose


@contextlib.contextmanager
def serving_corpus(directory: Path, server: Identity, client: Identity) -> Iterator[int]:
    """Serve the corpus to this client; gives the port."""
    journals = _Journals(directory)
    fingerprint = hashlib.sha256(client.der).hexdigest()
    # A machine that is busy with other tests must not turn an answer into a deny for time.
    settings = load_settings(data_dir=directory, deadline_seconds=8.0, drain_seconds=0)
    app = build_app(
        configuration=_Configuration(Plugins(by_certificate={fingerprint: "fas1"}, by_key={})),
        journal=_CurrentJournal(),
        settings=settings,
        clock=lambda: _current.get().now,
    )
    tls = ServerTls(server.certificate, server.key)
    assert tls.trust([client.der]) == ()
    try:
        with listening(_choosing(app, journals), TransportLimits(), "auto", tls=tls.context) as port:
            yield port
    finally:
        asyncio.run(journals.close())
