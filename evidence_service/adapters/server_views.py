"""What is known of each FAS server at a moment, gathered from where it is stored: what alarms are computed from."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from evidence_service.adapters.renewal_rows import DamagedRow
from evidence_service.adapters.renewal_store import RenewalStore
from evidence_service.renewal.alarms import ServerView, renewal_alarms
from evidence_service.renewal.approvals import host_of
from evidence_service.renewal.farm import Farm, FasServer
from evidence_service.renewal.model import Attempts
from idp_certs.alarms import Alarm


def server_view(store: RenewalStore, server: FasServer) -> ServerView:
    """One configured server as stored. Raises StoreUnavailable, and NotFound for one that was never made known.

    Of one whose rows are damaged what can be read is there, and the damage.
    """
    status = store.status(server.name)
    damage = status.damage
    try:
        attempts = store.attempts(server.name)
    except DamagedRow as problem:
        damage = damage or str(problem)
        attempts = Attempts(jitter=status.jitter, paused_until=status.paused_until, first_usable=status.first_usable)
    return ServerView(
        name=server.name,
        host=host_of(server),
        attempts=attempts,
        observation=status.observation,
        step=status.step,
        step_since=status.step_since,
        problem=status.problem,
        problem_since=status.problem_since,
        misses=status.misses,
        failures=status.failures,
        damage=damage,
    )


def farm_alarms(store: RenewalStore, farm: Farm, now: datetime) -> Iterable[Alarm]:
    """Everything about the configured servers that needs a person at `now` (UTC). Raises StoreUnavailable."""
    for server in farm.servers:
        yield from renewal_alarms(server_view(store, server), server.policy, now)
