"""Random histories of a farm by the real loop and store: faults, restarts, people at the CA and in the console."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evidence_service.demo.fas_ca import MANUAL
from evidence_service.renewal.cmdlets import READING
from evidence_service.renewal.model import AskKind, Request
from evidence_service.renewal_admin.acts import RenewalAdmin
from evidence_service.renewal_settings import RenewalSettings
from tests.renewal.site import DAY, DEFINITIONS, FAS1, FAS2, HOUR, MINUTE, NOW, POLICY, Site, near

CHANGES = (
    "New-FasAuthorizationCertificate",
    "Set-FasCertificateDefinition",
    "Set-FasServer",
    "Test-FasCertificateSigningRequest",
    "Remove-FasAuthorizationCertificate",
)
EAGER = replace(POLICY, poll=6 * HOUR, check=12 * HOUR, soak=DAY, retry_denied=DAY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happens, and how long it is until the next."""

    what: str
    cmdlet: str
    after: timedelta


events = st.builds(
    Event,
    what=st.sampled_from(
        [
            *["time"] * 4,
            *["lose", "fail", "stall", "restart", "issue", "deny", "unreachable", "reachable", "ask", "console"] * 2,
            "neighbour",
            "withdraw",
        ]
    ),
    cmdlet=st.sampled_from(CHANGES),
    after=st.sampled_from([MINUTE, 20 * MINUTE, 6 * HOUR, DAY, 3 * DAY]),
)


def happen(farm: Site, event: Event) -> None:
    """Let it happen."""
    server, other = farm.server(), farm.server(FAS2)
    match event.what:
        case "lose":
            server.lose_answer_next(event.cmdlet)
        case "fail":
            server.fail_next(event.cmdlet, "The service is busy.")
        case "stall":
            server.hang_next(event.cmdlet, 300.0)
        case "restart":
            farm.restart(owner=f"worker:{farm.farm.now.isoformat()}")
        case "unreachable" | "reachable":
            server.unreachable = event.what == "unreachable"
        case "neighbour":
            other.maintenance = not other.maintenance
        case _:
            somebody(farm, event)


def somebody(farm: Site, event: Event) -> None:
    """Let a person do it: the CA manager, an operator, or an administrator in FAS's console."""
    server = farm.server()
    if event.what in ("ask", "withdraw") and not farm.store.attempts(FAS1).asks:
        kind = AskKind.RENEW if event.what == "ask" else AskKind.WITHDRAW
        farm.store.ask(FAS1, kind, now=farm.farm.now, actor="cli:admin")
    for each in farm.farm.ca.pending:
        if event.what == "issue":
            farm.farm.ca.issue(each.number)
        elif event.what == "deny":
            farm.farm.ca.deny(each.number, "not now")
    usable = [each.id for each in server.certificates.values() if server.status(each) == "Ok"]
    if event.what == "console" and usable:
        definition = DEFINITIONS[event.after.seconds % 3]
        farm.farm.call(FAS1, "Set-FasCertificateDefinition", Name=definition, AuthorizationCertificate=usable[-1])


def check(farm: Site, seen: int) -> int:
    """What never is otherwise, at each call of the worker since the last check; how many calls there were."""
    named = {each.authorization_certificate for each in farm.server().definitions.values()}
    assert named <= set(farm.server().certificates), farm.story()
    listed = {each.request.number for each in farm.server().certificates.values() if each.request is not None}
    for each in farm.farm.ca.pending:
        if each.number not in listed:  # withdrawn, which FAS cannot do at the CA: people are told to deny it
            farm.farm.ca.deny(each.number, "withdrawn")
    assert len([each for each in farm.farm.ca.pending if each.requester.endswith("FAS1$")]) <= 1, farm.story()
    removed = [each for each in farm.farm.calls[seen:] if each.name == "Remove-FasAuthorizationCertificate"]
    assert {each.parameters["DeleteUserCerts"] for each in removed} <= {False}
    assert len(farm.server().users) == 5
    return len(farm.farm.calls)


@contextmanager
def fresh(jitter: float = 0.0) -> Iterator[Site]:
    """A farm of its own for each history, whose first server is due in six days."""
    with tempfile.TemporaryDirectory() as name, near(Path(name), policy=EAGER, expires=NOW + 66 * DAY) as farm:
        farm.store.configure([each.name for each in farm.servers.servers], now=NOW, draw=lambda: jitter)
        farm.farm.advance(MINUTE)
        yield farm


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(history=st.lists(events, min_size=5, max_size=20))
def test_no_history_makes_two_requests_or_removes_what_is_in_use(history: list[Event]) -> None:
    """Never two open requests, never a definition without its certificate, never a user's certificate lost.

    When nothing fails any more and people answer, users are served by one certificate in force, out of maintenance
    (promises 44 to 48).
    """
    with fresh() as farm:
        seen = 0
        for event in history:
            happen(farm, event)
            farm.loop.round()
            seen = check(farm, seen)
            farm.farm.advance(event.after)
        settle(farm, seen)

        server = farm.server()
        named = {server.definitions[each].authorization_certificate for each in DEFINITIONS}
        assert not server.maintenance, farm.story()
        assert {server.status(server.certificates[each]) for each in named} == {"Ok"}, farm.story()
        assert len([each for each in farm.farm.ca.pending if each.requester.endswith("FAS1$")]) <= 1


def settle(farm: Site, seen: int) -> None:
    """From now on everything works: faults that wait are gone, people renew and approve."""
    server = farm.server()
    server.unreachable, farm.server(FAS2).maintenance = False, False
    server.faults.fail_next.clear()
    server.faults.hang_next.clear()
    server.faults.lose_next.clear()
    for number in range(24):
        if number == 4 and not farm.store.attempts(FAS1).asks:
            farm.store.ask(FAS1, AskKind.RENEW, now=farm.farm.now, actor="cli:admin")
        farm.loop.round()
        seen = check(farm, seen)
        for each in farm.farm.ca.pending:
            farm.farm.ca.issue(each.number)
        farm.farm.advance(12 * HOUR)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    jitter=st.floats(0, 0.999),
    looks=st.lists(st.tuples(st.booleans(), st.integers(1, 60)), min_size=3, max_size=12),
)
def test_the_start_is_drawn_once_whatever_restarts(jitter: float, looks: list[tuple[bool, int]]) -> None:
    """It begins within [start, start + jitter], at the instant that was shown all along (promise 52).

    Whatever is drawn after a restart changes nothing.
    """
    with fresh(jitter) as farm:
        farm.servers = replace(
            farm.servers,
            servers=tuple(replace(each, policy=replace(EAGER, jitter=3 * DAY)) for each in farm.servers.servers),
        )
        farm.restart()
        farm.loop.round()
        start, shown = NOW + 6 * DAY, starts(farm)
        begun = None
        for restarts, hours in [*looks, *[(False, 12)] * 20]:
            if restarts:
                farm.restart(owner=f"worker:{farm.farm.now.isoformat()}")
                farm.store.configure([FAS1], now=farm.farm.now, draw=lambda: 0.5)
                farm.restart(owner=f"worker:again:{farm.farm.now.isoformat()}")
            farm.loop.round()
            acts = [each for each in farm.store.attempts(FAS1).acts if isinstance(each.step, Request)]
            if acts:
                begun = acts[0].at
                break
            assert starts(farm) == shown
            assert farm.farm.now < shown + EAGER.check
            farm.farm.advance(timedelta(hours=hours))

        assert begun is not None
        assert start <= shown <= start + 3 * DAY
        assert shown <= begun


def starts(farm: Site) -> datetime:
    """When the renewal of the certificate in use starts, as people are shown it."""
    view = RenewalAdmin(farm.engine, RenewalSettings(farm=farm.servers, channels=farm.channels)).view(
        FAS1, farm.farm.now
    )
    (used,) = [each.renews_at for each in view.used]
    assert used is not None
    return used


def test_servers_that_fail_come_back_as_they_would_have_after_ten_restarts(tmp_path: Path) -> None:
    """FAS refuses all 40; ten restarts in between change no instant, ask nothing, and nothing herds (promise 51)."""
    names = tuple(f"fas{number:02}.corp.example" for number in range(40))
    jitters = iter(number / 40 for number in range(40))
    with near(tmp_path, names=names, policy=EAGER, expires=NOW + 5 * DAY) as farm:
        for server in farm.farm.servers:
            for entry in server.certificates.values():
                server.says[entry.id] = "Expired"
            server.fail_next(CHANGES[0], "The RPC server is unavailable.")
        farm.store.configure(names, now=NOW, draw=lambda: next(jitters))
        farm.farm.advance(2 * MINUTE)
        farm.loop.round()
        failed_at = farm.farm.now
        instants = {each.name: (each.not_before, each.next_tick_at, each.jitter) for each in farm.store.statuses()}
        asked = len(farm.farm.calls)
        for number in range(10):
            farm.restart(owner=f"worker:restarted:{number}")
            farm.loop.round()
        sent = [each for each in farm.farm.calls[asked:] if each.name not in READING | {"Add-PSSnapin"}]
        after = {each.name: (each.not_before, each.next_tick_at, each.jitter) for each in farm.store.statuses()}

        assert sent == []
        assert {name: (each[0], each[2]) for name, each in after.items()} == {
            name: (each[0], each[2]) for name, each in instants.items()
        }
        waits = sorted(each[0] - failed_at for each in instants.values() if each[0] is not None)
        assert len(waits) == 40
        assert len(set(waits)) == 40
        assert waits[0] >= MINUTE
        farm.farm.advance(waits[-1] + MINUTE)
        farm.loop.round()
        assert len([each for each in farm.farm.ca.requests.values() if each.template == MANUAL]) == 40
