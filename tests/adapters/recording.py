"""Helpers of the tests of the journal: evidence, entries, and a journal that is stopped in the end."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import Engine

from evidence_service.access.decide import decide
from evidence_service.access.model import AccessRequest, Snapshot
from evidence_service.adapters.journal import Entry, Journal, new_decision_id
from tests.adapters.given import NOW, request
from tests.corpus.good import Launch


@cache
def launch(**changes: Any) -> bytes:
    """A signed response of the corpus with these fields changed."""
    return Launch(**changes).sign().wire()


def entry(
    snapshot: Snapshot,
    asked: AccessRequest | None = None,
    *,
    now: datetime = NOW,
    **changes: Any,
) -> Entry:
    """What the service hands to the journal: the decision of `decide` for a first presentation."""
    asked = asked or request(launch())
    values = {
        "decision_id": new_decision_id(now),
        "request": asked,
        "snapshot": snapshot,
        "now": now,
        "decision": decide(asked, snapshot, now),
        "plugin": "fas1",
    }
    return Entry(**{**values, **changes})


@contextlib.asynccontextmanager
async def running(engine: Engine, **settings: Any) -> AsyncIterator[Journal]:
    """A journal that was started, and is stopped; it waits for a lock until a slow machine has let it go."""
    journal = Journal(engine, **{"busy_timeout": timedelta(seconds=30), **settings})
    journal.start()
    try:
        yield journal
    finally:
        await journal.stop()
