"""The real application over TLS, judging each case of the corpus with that case's clock, trust and earlier sighting.

Which case a question belongs to is told by its correlation id, which takes no part in a decision. Everything behind
that is real: application, journal, database. While it is judged, a case has a database to itself, without the sightings
of earlier ones; it is one of the same instant, because a clock that goes back is rightly not trusted.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import shutil
from collections import defaultdict
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine, delete, insert, select
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Current:
    snapshot: Snapshot
    now: datetime
    journal: Journal


_current: ContextVar[_Current] = ContextVar("current")


class _Journals:
    """Real journals over real databases: as many for an instant as cases of it are judged at a time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        prepare(directory, with_idp=False)
        self._opened: list[tuple[Engine, Journal]] = []
        self._free: dict[str, list[tuple[Engine, Journal]]] = defaultdict(list)

    @contextlib.contextmanager
    def lent(self, case: Case, seen: Sighting | None) -> Iterator[Journal]:
        """One that knows of this sighting and no other."""
        free = self._free[case.at]
        engine, journal = free.pop() if free else self._open()
        _sight(engine, seen)
        journal._known_sightings.clear()  # it rightly takes sightings to stay
        yield journal
        free.append((engine, journal))

    def _open(self) -> tuple[Engine, Journal]:
        path = self._directory / f"{len(self._opened)}.db"
        shutil.copy(self._directory / "fas-evidence.db", path)
        engine = open_database(f"sqlite:///{path}")
        journal = Journal(engine)
        journal.start()
        self._opened.append((engine, journal))
        return engine, journal

    async def close(self) -> None:
        for engine, journal in self._opened:
            await journal.stop()
            engine.dispose()


def _sight(engine: Engine, seen: Sighting | None) -> None:
    with engine.begin() as connection:
        if connection.scalar(select(sightings.c.sighting_key).limit(1)) is not None:
            connection.execute(delete(sightings))
        if seen is None:
            return
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
        case = cases[int(json.loads(body)["correlation_id"])]
        prepared = harness.prepare(case)
        version = hashlib.sha256(snapshot_document(prepared.snapshot).encode()).hexdigest()
        replay = iter(messages)

        async def again() -> Message:
            return next(replay)

        with journals.lent(case, prepared.seen) as journal:
            snapshot = replace(prepared.snapshot, version=version)
            _current.set(_Current(snapshot=snapshot, now=prepared.now, journal=journal))
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
