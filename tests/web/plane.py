"""The decision plane in this process: real application, journal and configuration, a clock that can be set."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import json
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import structlog
from sqlalchemy import Engine

from evidence_service.access.model import Policy
from evidence_service.adapters.config_store import ConfigStore
from evidence_service.adapters.database import open_database
from evidence_service.adapters.journal import DecisionLine, Journal, find_decisions
from evidence_service.adapters.snapshots import SnapshotHolder
from evidence_service.app import build_app
from evidence_service.demo.idp import ADFS, DemoIdp, new_key, self_signed
from evidence_service.settings import Settings, load_settings
from evidence_service.web.decisions import Refreshes
from idp_certs.metadata import parse_metadata

NOW = datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC)
ALICE = "alice@corp.example"
AUDIENCE = "https://gw.example"
RECIPIENT = "https://gw.example/cgi/samlauth"
IDP = "https://idp.example/saml"
KEY = "k" * 43


@functools.cache
def idp(entity_id: str = IDP) -> DemoIdp:
    """An identity provider; one key for the whole run."""
    key = new_key()
    now = datetime.now(UTC)
    certificate = self_signed("idp", key, not_before=now - timedelta(days=800), not_after=now + timedelta(days=800))
    return DemoIdp(entity_id=entity_id, profile=ADFS, key=key, certificate=certificate)


def evidence(*, upn: str = ALICE, at: datetime = NOW, assertion_id: str = "_a1") -> bytes:
    """A genuine response of that IdP, issued just before `at`."""
    return idp().issue(
        upn=upn,
        issue_instant=at - timedelta(seconds=10),
        audience=AUDIENCE,
        recipient=RECIPIENT,
        assertion_id=assertion_id,
    )


def policy(**changes: Any) -> Policy:
    """A policy that fits."""
    values: dict[str, Any] = {
        "audiences": (AUDIENCE,),
        "recipients": (RECIPIENT,),
        "upn_from": (ADFS.upn_from,),
        "upn_suffixes": ("corp.example",),
        **changes,
    }
    return Policy(**values)


def add_idp(engine: Engine, *, now: datetime = NOW, **changes: Any) -> None:
    """Register the IdP."""
    document = idp().metadata()
    ConfigStore(engine).add_idp(
        metadata=parse_metadata(document)[0], document=document, policy=policy(**changes), now=now, actor="test"
    )


def question(raw: bytes | None, *, upn: str = ALICE, request_id: str = "r-1", **changes: Any) -> dict[str, Any]:
    """The members of a question about this evidence."""
    items = [] if raw is None else [{"type": "SAMLResponse", "value": base64.b64encode(raw).decode()}]
    return {"request_id": request_id, "upn": upn, "evidence": items, **changes}


@dataclass(slots=True, kw_only=True)
class Clock:
    """A clock that stands until it is moved."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        """The time."""
        return self.now


@dataclass(kw_only=True)
class Plane:
    """What a test can reach."""

    engine: Engine
    store: ConfigStore
    holder: SnapshotHolder
    journal: Journal
    app: Any
    clock: Clock
    client: httpx.AsyncClient
    lines: list[dict[str, Any]] = field(default_factory=list)

    async def ask(self, raw: bytes | None, **members: Any) -> httpx.Response:
        """Put one question."""
        return await self.client.post("/v1/decisions", json=question(raw, **members))

    async def answer(self, raw: bytes | None, **members: Any) -> dict[str, Any]:
        """Put one question that is answered with a decision."""
        response = await self.ask(raw, **members)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    def recorded(self) -> tuple[DecisionLine, ...]:
        """All records, newest first."""
        return find_decisions(self.engine)

    def said(self, event: str) -> list[dict[str, Any]]:
        """The log lines of this event."""
        return [line for line in self.lines if line["event"] == event]


@functools.cache
def _prepared(*, with_idp: bool) -> bytes:
    """A database file, made once: migrations take longer than most tests."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "prepared.db"
        engine = open_database(f"sqlite:///{path}")
        if with_idp:
            add_idp(engine)
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        engine.dispose()
        return path.read_bytes()


def prepare(directory: Path, *, with_idp: bool = True) -> None:
    """Put a database with our schema, and the IdP if wanted, where the settings look for it."""
    (directory / "fas-evidence.db").write_bytes(_prepared(with_idp=with_idp))


@contextlib.asynccontextmanager
async def plane(
    directory: Path,
    *,
    at_stage: Callable[[str], None] | None = None,
    rules: Callable[[ConfigStore], None] | None = None,
    with_idp: bool = True,
    refreshes: Callable[[Engine, SnapshotHolder], Refreshes] | None = None,
    busy_timeout: timedelta = timedelta(seconds=30),
    **settings: Any,
) -> AsyncIterator[Plane]:
    """The plane over a fresh database in `directory`; callers are anonymous unless the settings say otherwise.

    Launches wait for new trust only where `refreshes` are given. The deadline is the longest that can be set, and the
    journal waits longer than that for a lock, so that a slow machine denies nothing: where either is what a test is
    about it says how long it is.
    """
    defaults = {"data_dir": directory, "allow_anonymous_loopback": True, "deadline_seconds": 9, "drain_seconds": 0}
    chosen: Settings = load_settings(**{**defaults, **settings})
    prepare(directory, with_idp=with_idp)
    engine = open_database(chosen.effective_database_url)
    store = ConfigStore(engine)
    if rules is not None:
        rules(store)
    holder = SnapshotHolder(engine, secrets_dir=None)
    journal = Journal(engine, busy_timeout=busy_timeout)
    journal.start()
    clock = Clock()
    app = build_app(
        configuration=holder,
        journal=journal,
        settings=chosen,
        clock=clock,
        refreshes=None if refreshes is None else refreshes(engine, holder),
        at_stage=at_stage,
    )
    app.state.health.started = True
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=True)
    structlog.configure(cache_logger_on_first_use=False)
    with structlog.testing.capture_logs() as lines:
        async with httpx.AsyncClient(transport=transport, base_url="http://plane") as client:
            try:
                yield Plane(
                    engine=engine,
                    store=store,
                    holder=holder,
                    journal=journal,
                    app=app,
                    clock=clock,
                    client=client,
                    lines=lines,  # type: ignore[arg-type]
                )
            finally:
                await journal.stop()
                engine.dispose()


def run(scenario: Coroutine[Any, Any, None]) -> None:
    """Run one scenario to its end."""
    asyncio.run(scenario)


def as_json(members: dict[str, Any]) -> bytes:
    """A body."""
    return json.dumps(members).encode()
