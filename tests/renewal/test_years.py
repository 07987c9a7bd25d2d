"""Years of a farm by the real loop and the real store, with the farm asked in process."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from evidence_service.demo.fas_ca import CA_MANAGER, MANUAL, Disposition
from evidence_service.renewal.cmdlets import CMDLETS
from evidence_service.renewal_admin.acts import RenewalAdmin
from evidence_service.renewal_settings import RenewalSettings
from evidence_service.web.metrics import Known, exposed, samples
from tests.renewal.site import DAY, DEFINITIONS, FAS1, FAS2, MINUTE, NOW, POLICY, Site, near

YEARLY = replace(POLICY, jitter=DAY, poll=DAY, lead_days=60)


def decide_within(farm: Site, patience: timedelta) -> None:
    """The CA manager issues what has waited so long."""
    for each in farm.farm.ca.pending:
        if farm.farm.now - each.submitted >= patience:
            farm.farm.ca.issue(each.number)
            farm.farm.advance(5 * MINUTE)


def open_requests(farm: Site) -> Counter[str]:
    """How many requests each server has waiting at the CA."""
    return Counter(each.requester for each in farm.farm.ca.pending)


def check(farm: Site) -> None:
    """What holds at any instant."""
    assert all(count == 1 for count in open_requests(farm).values())
    assert sum(each.maintenance for each in farm.farm.servers) <= 1
    for server in farm.farm.servers:
        named = {each.authorization_certificate for each in server.definitions.values()}
        assert named <= set(server.certificates), "a definition names a missing certificate"


def usable(farm: Site, name: str) -> bool:
    """Whether users can be enrolled by every definition of this server."""
    server = farm.server(name)
    return all(
        server.status(server.certificates[each.authorization_certificate]) == "Ok"
        for each in server.definitions.values()
    )


def next_day(farm: Site) -> None:
    """To the next look, or a day on."""
    instant = farm.store.next_instant() or farm.farm.now
    farm.farm.advance(min(max(instant - farm.farm.now, MINUTE), DAY))


def test_400_days_with_a_prompt_approver_and_no_lapse(tmp_path: Path) -> None:
    """Certificates of 120 days, decided about within a day: renewed in time, one by one, also over restarts.

    Never two open requests, never two servers in maintenance, nothing in use removed, and what the CA issued a person
    decided about (promises 44, 47, 48, 60, 61, 62).
    """
    with near(tmp_path, policy=YEARLY, expires=NOW + 100 * DAY) as farm:
        farm.farm.ca.set_lifetime(120 * DAY)
        told_next = NOW
        while farm.farm.now < NOW + 400 * DAY:
            farm.loop.round()
            check(farm)
            assert usable(farm, FAS1), farm.story()
            assert usable(farm, FAS2), farm.story()
            decide_within(farm, DAY)
            if farm.farm.now >= told_next:
                told_next = farm.farm.now + 10 * DAY
                farm.telling.synchronise(())
                farm.restart(owner=f"worker:{told_next.isoformat()}")
            next_day(farm)

        requests = [each for each in farm.farm.ca.requests.values() if each.template == MANUAL]
        assert 5 <= len([each for each in requests if each.requester.endswith("FAS1$")]) <= 8
        assert {each.disposition for each in requests} == {Disposition.ISSUED}
        assert {each.decided_by for each in requests} == {CA_MANAGER}
        assert {each.name for each in farm.farm.calls if "svc" in each.account} <= CMDLETS
        removed = [each.parameters for each in farm.farm.calls if each.name == "Remove-FasAuthorizationCertificate"]
        assert {each["DeleteUserCerts"] for each in removed} == {False}
        assert len(removed) == len(requests)
        assert farm.alarms() == {}
        assert "authcert_expiring" not in {each.kind for each in farm.messages()}


def scraped(farm: Site) -> dict[str, dict[tuple[str, ...], float]]:
    """What Prometheus reads now: values by gauge and labels."""
    now = farm.farm.now
    admin = RenewalAdmin(farm.engine, RenewalSettings(farm=farm.servers, channels=farm.channels), draw=lambda: 0.0)
    families = samples(Known(servers=admin.views(now), alarms=farm.open_alarms()), now)
    assert exposed(families)
    return {
        family.name.removeprefix("fas_evidence_"): {
            tuple(sample.labels.values()): sample.value for sample in family.samples
        }
        for family in families
    }


def test_the_numbers_are_there_and_true_in_every_state_of_a_slow_renewal(tmp_path: Path) -> None:
    """Scraped at each look while the approver takes too long, and once FAS refuses: expiry, start, state and errors.

    The alarm of the expiry stands at least 30 days before it, and clears with the switch (promise 63).
    """
    with near(tmp_path, policy=replace(POLICY, soak=3 * DAY)) as farm:
        (old,) = farm.used()
        expires, raised, cleared = NOW + 70 * DAY, [], []
        states, attempts, errors = set(), [], set()
        farm.server().fail_next("New-FasAuthorizationCertificate", "The RPC server is unavailable.")
        while old in farm.server().certificates:
            farm.round()
            found = scraped(farm)
            now = farm.farm.now
            used = {farm.server().definitions[each].authorization_certificate for each in DEFINITIONS}
            for certificate in used:
                end = farm.server().certificates[certificate].certificate.not_valid_after_utc  # type: ignore[union-attr]
                expiry = found["authorization_certificate_expiry_timestamp_seconds"][FAS1, certificate]
                assert abs(expiry - end.timestamp()) < 1
                assert (FAS1, certificate) in found["authorization_certificate_renew_at_timestamp_seconds"]
            state = {step for (server, step), value in found["renewal_state"].items() if value and server == FAS1}
            assert len(state) == 1
            states |= state
            attempts.append(found["renewal_requests"][FAS1,])
            errors |= {reason for server, reason in found["renewal_last_error_info"] if server == FAS1}
            standing = sum(value for labels, value in found["alarms_open"].items() if labels[1] == "authcert_expiring")
            if standing:
                raised.append(now)
            elif raised:
                cleared.append((now, used))
            decide_within(farm, 35 * DAY)
            assert now < expires
            next_day(farm)

        assert expires - raised[0] >= 30 * DAY
        assert cleared[0][1] == farm.used() != {old}
        assert raised[-1] < cleared[0][0]
        assert states >= {"rest", "await_approval", "soak"}
        assert {"refused_by_fas"} <= errors
        assert attempts[0] == 0
        assert max(attempts) == 2  # the refused one counts
        assert attempts[-1] == 0
