"""What is stored of a FAS server becomes the alarms that stand about it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import Engine, update

from evidence_service.adapters.database import fas_servers, writing
from evidence_service.adapters.lease import DatabaseLeases
from evidence_service.adapters.renewal_store import LEASE, RenewalStore
from evidence_service.adapters.server_views import farm_alarms
from evidence_service.renewal.farm import Farm, FasServer, Local
from evidence_service.renewal.model import (
    AuthorizationCertificate,
    CertificateDefinition,
    CertificateStatus,
    Observation,
    RenewalPolicy,
    Rest,
)
from evidence_service.renewal.reasons import RenewalReason
from idp_certs.reasons import Finding
from tests.adapters.given import NOW

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
FARM = Farm(servers=tuple(FasServer(name=name, policy=RenewalPolicy(), connection=Local()) for name in ("a", "b")))
OLD = AuthorizationCertificate(id="old", status_word="Ok", status=CertificateStatus.OK, expires=NOW + 20 * DAY)


@pytest.fixture
def store(engine: Engine) -> RenewalStore:
    """The memory of both servers, of which `a` was seen and then did not answer."""
    made = RenewalStore(engine)
    lease = DatabaseLeases(engine).acquire(LEASE, owner="w", now=NOW, length=DAY)
    assert lease is not None
    made.configure(("a", "b"), now=NOW, draw=lambda: 0.0)
    definition = CertificateDefinition(name="d", template="t", authorization_certificate="old")
    seen = Observation(server="a", at=NOW, certificates=(OLD,), definitions=(definition,), rules=())
    rest = Rest(reason=RenewalReason.NOT_DUE, until=NOW + HOUR)
    made.saw(seen, rest, epoch=lease.epoch, now=NOW, next_tick_at=NOW + HOUR)
    problem = Finding(reason=RenewalReason.UNREACHABLE, expected="an answer", presented="no route")
    made.missed("a", problem, epoch=lease.epoch, now=NOW)
    return made


def test_what_is_stored_is_judged(store: RenewalStore) -> None:
    """Expiry from the last observation, and silence since the first miss; a server that was never seen has none."""
    found = {(each.entity_id, each.kind, each.key) for each in farm_alarms(store, FARM, NOW + HOUR)}
    assert found == {
        ("a", "authcert_expiring", "old:21d"),
        ("a", "server_unreachable", ""),
        ("a", "server_unreachable", "urgent"),
    }


def test_damage_at_one_server_is_an_alarm_and_hides_no_other(store: RenewalStore, engine: Engine) -> None:
    """What was changed from outside is told, and the alarms of the rest stand."""
    with writing(engine) as connection:
        connection.execute(update(fas_servers).where(fas_servers.c.name == "b").values(first_usable="{"))
    found = {(each.entity_id, each.kind, each.key) for each in farm_alarms(store, FARM, NOW + HOUR)}
    assert ("b", "renewal_stopped", "damaged") in found
    assert ("a", "authcert_expiring", "old:21d") in found
