"""Renewals from the first look to the last, by the real loop, and most of them over real PowerShell remoting."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from evidence_service.notices.model import Channels
from evidence_service.renewal.model import AskKind, Maintenance, StepKind, Switch
from evidence_service.renewal.ports import NotLeader
from evidence_service.renewal.reasons import RenewalReason
from evidence_service.renewal.tick import Ticked
from evidence_service.renewal_loop import RenewalLoop
from tests.adapters.post import APPROVERS, OPERATORS, mail_by, mail_server
from tests.renewal.site import DAY, DEFINITIONS, FAS1, FAS2, HOUR, MINUTE, NOW, POLICY, Site, near, site, wait_for

FOUR = tuple(f"fas{number}.corp.example" for number in range(1, 5))
RENEWED = [
    "request done",
    "prove done",
    "enter_maintenance done",
    *["switch done"] * 3,
    "verify done",
    "leave_maintenance done",
    "retire done",
]


def issue(farm: Site) -> None:
    """The CA manager decides."""
    (request,) = farm.farm.ca.pending
    farm.farm.ca.issue(request.number)
    farm.farm.advance(5 * MINUTE)


def removals(farm: Site) -> list[dict[str, object]]:
    """The parameters of each removal of a certificate."""
    return [dict(each.parameters) for each in farm.farm.calls if each.name == "Remove-FasAuthorizationCertificate"]


def test_a_renewal_from_notice_to_removal(tmp_path: Path) -> None:
    """Expiry is noticed, people are told by mail, the approved one is proven and switched to, the old one goes.

    Promises 47, 48, 50, 62.
    """
    with mail_server() as post, site(tmp_path, channels=Channels(mail=mail_by(post.smtp()))) as farm:
        (old,) = farm.used()
        farm.until_step(StepKind.AWAIT_APPROVAL)
        farm.run(until=lambda: farm.farm.now >= farm.ticks[0].again_at + 45 * DAY, stride=5 * DAY)
        reminders = farm.messages("approval_needed")
        issue(farm)
        farm.until_step(StepKind.SOAK)
        (new,) = {each.authorization_certificate for each in farm.server().definitions.values()}
        assert old in farm.server().certificates
        farm.run(until=lambda: old not in farm.server().certificates)
        farm.farm.advance(DAY)
        farm.round()

        assert new != old
        assert farm.acts() == RENEWED
        assert removals(farm) == [{"Id": old, "DeleteUserCerts": False}]
        assert len(farm.server().users) == 5
        assert not farm.server().maintenance
        assert len(reminders) > 2
        assert farm.alarms() == {}
        kinds = [each.kind for each in farm.messages()]
        ended = {dict(each.facts)["Alarm"] for each in farm.messages("alarm_over")}
        assert ended == {"approval_overdue", "authcert_expiring"}
        raised = {*ended, "approval_needed"}
        assert [each for each in kinds if each not in {*raised, "alarm_over"}] == [
            "request_made",
            "certificate_issued",
            *["switched"] * 3,
            "renewal_report",
        ]
        assert len(post.mails) == len(kinds) - 2  # the three definitions are told in one
        asked = next(mail for mail in post.mails if "waits for approval" in str(mail["Subject"]))
        assert APPROVERS[0] in str(asked["To"])
        assert OPERATORS[0] in str(asked["Cc"])
        text = asked.get_body(("plain",))
        assert text is not None
        assert "FAS1$" in text.get_content()
        assert "Pending Requests" in text.get_content()
        assert "renewed" in str(post.mails[-1]["Subject"])


def test_a_denied_request_ends_cleanly(tmp_path: Path) -> None:
    """A denial is told with its reason, asked about once more after a day, and ends after the second (promise 49)."""
    with site(tmp_path) as farm:
        (old,) = farm.used()
        farm.until_step(StepKind.AWAIT_APPROVAL)
        (first,) = farm.farm.ca.pending
        farm.farm.ca.deny(first.number, "who are you?")
        denied_at = farm.farm.now
        farm.run(until=lambda: farm.acts().count("withdraw done") == 1)
        farm.run(until=lambda: bool(farm.farm.ca.pending))
        again_after = farm.farm.now - denied_at
        (second,) = farm.farm.ca.pending
        farm.farm.ca.deny(second.number, "still no")
        farm.run(until=lambda: farm.step() is StepKind.ALERT)
        farm.farm.advance(5 * DAY)
        farm.round()

        assert again_after >= DAY
        assert farm.acts() == ["request done", "withdraw done"] * 2
        assert farm.farm.ca.pending == ()
        assert farm.used() == {old}
        assert "who are you?" in " ".join(farm.messages("withdrawn")[0].paragraphs)
        assert farm.store.status(FAS1).step.reason is RenewalReason.DENIED_REPEATEDLY  # type: ignore[union-attr]
        assert "renewal_denied_repeatedly" in farm.alarms()

        farm.store.ask(FAS1, AskKind.RENEW, now=farm.farm.now, actor="cli:admin", note="settled with the CA")
        farm.run(until=lambda: bool(farm.farm.ca.pending))
        assert "renewal_denied_repeatedly" not in farm.alarms()


def test_a_denied_wish_is_not_asked_again_by_itself(tmp_path: Path) -> None:
    """Nothing is due, so the CA manager's word ends it, which alarm and mail say; a second denial is told too."""
    with near(tmp_path, expires=NOW + 300 * DAY) as farm:
        farm.round()
        for number in (1, 2):
            farm.store.ask(FAS1, AskKind.RENEW, now=farm.farm.now, actor="cli:admin")
            farm.run(until=lambda: bool(farm.farm.ca.pending))
            (request,) = farm.farm.ca.pending
            farm.farm.ca.deny(request.number, f"no, {request.number}")
            farm.run(until=lambda number=number: farm.acts().count("withdraw done") == number)  # type: ignore[misc]
            farm.farm.advance(HOUR)
            farm.round()

            denial = farm.store.status(FAS1).denial
            assert denial is not None
            assert (denial.word, denial.ca_request_id) == (f"no, {request.number}", str(request.number))
            said = f"The CA denied request {request.number} of FAS server {FAS1} (no, {request.number})"
            assert farm.alarms()["renewal_denied"].startswith(said)
            assert "It is not asked again by itself before 20" in farm.messages("withdrawn")[-1].todo[0]

        farm.run(until=lambda: farm.farm.now > NOW + 10 * DAY)
        assert farm.acts() == ["request done", "withdraw done"] * 2
        assert farm.alarms() == {}
        assert farm.store.status(FAS1).denial == denial


@pytest.mark.parametrize("cmdlet", ["New-FasAuthorizationCertificate", "Set-FasCertificateDefinition", "Set-FasServer"])
def test_a_lost_answer_is_reconciled(tmp_path: Path, cmdlet: str) -> None:
    """FAS does it and the connection is cut: what it did is found, and nothing is asked for twice (promises 45, 46)."""
    with site(tmp_path) as farm:
        (old,) = farm.used()
        farm.server().lose_answer_next(cmdlet)
        farm.until_step(StepKind.AWAIT_APPROVAL)
        issue(farm)
        farm.run(until=lambda: old not in farm.server().certificates)

        results = farm.acts()
        assert [each for each in results if not each.endswith("not_done")] == RENEWED
        assert [each.name for each in farm.farm.calls].count("New-FasAuthorizationCertificate") == 1
        assert len(farm.used()) == 1


def test_what_fails_after_the_switch_is_rolled_back(tmp_path: Path) -> None:
    """Every definition is back on the old certificate, which stays, and so do users' certificates (promise 47)."""
    with site(tmp_path, policy=replace(POLICY, test_definition=None)) as farm:
        (old,) = farm.used()
        farm.until_step(StepKind.AWAIT_APPROVAL)
        (request,) = farm.farm.ca.pending
        new = next(each for each in farm.server().certificates if each != old)
        farm.server().test_fails = new
        farm.farm.ca.issue(request.number)
        farm.farm.advance(5 * MINUTE)
        farm.until_step(StepKind.ALERT)

        assert farm.used() == {old}
        assert farm.acts()[:7] == [*RENEWED[:2], "enter_maintenance done", *["switch done"] * 4]
        assert farm.acts()[7] == "verify failed"
        assert farm.acts()[8:] == [*["roll_back done"] * 4, "leave_maintenance done"]
        assert removals(farm) == []
        assert len(farm.server().users) == 5
        assert not farm.server().maintenance
        assert "rolled_back" in [each.kind for each in farm.messages()]
        assert "verify_failed" in str(farm.store.status(FAS1).step)
        assert farm.store.status(FAS1).failures == 1

        farm.store.ask(FAS1, AskKind.WITHDRAW, now=farm.farm.now, actor="CORP\\ada")
        farm.run(until=lambda: new not in farm.server().certificates)
        farm.round()
        assert farm.acts()[-1] == "withdraw done"
        status = farm.store.status(FAS1)
        assert (status.failures, status.not_before) == (0, None)
        (told,) = farm.messages("withdrawn")
        assert told.todo[0].startswith("Have the CA revoke the certificate of request ")


def test_a_new_one_that_fails_its_proof_is_never_used(tmp_path: Path) -> None:
    """Only the definition for tests named it, and names the old one again (promise 47)."""
    with site(tmp_path) as farm:
        (old,) = farm.used()
        farm.until_step(StepKind.AWAIT_APPROVAL)
        new = next(each for each in farm.server().certificates if each != old)
        farm.server().test_fails = new
        issue(farm)
        farm.run(until=lambda: "roll_back done" in farm.acts())

        assert farm.acts() == ["request done", "prove failed", "roll_back done"]
        assert farm.used() == {old}
        assert {each.parameters["Name"] for each in farm.farm.calls if each.name == "Set-FasCertificateDefinition"} == {
            "test_Definition"
        }


def test_a_switch_that_fails_half_way_is_finished_later(tmp_path: Path) -> None:
    """The second definition cannot be set at first: it is set after a back-off, and none stays behind (promise 48)."""
    with near(tmp_path) as farm:
        (old,) = farm.used()
        farm.until_step(StepKind.AWAIT_APPROVAL)
        issue(farm)

        def plant(ticked: Ticked) -> None:
            if isinstance(ticked.step, Switch) and "switch failed" not in farm.acts():
                farm.server().fail_next("Set-FasCertificateDefinition", "The service is busy.")

        farm.watch = plant
        farm.run(until=lambda: old not in farm.server().certificates)

        assert farm.acts()[3:7] == ["switch done", "switch failed", "switch done", "switch done"]
        assert len(farm.used()) == 1
        assert farm.used() != {old}
        assert not farm.server().maintenance


def test_one_server_that_hangs_holds_up_no_other(tmp_path: Path) -> None:
    """Of four servers one never answers: the others are renewed, and it is told of as unreachable (promise 60)."""
    policy = replace(POLICY, poll=HOUR, check=HOUR, soak=timedelta(0))
    with site(tmp_path, names=FOUR, policy=policy, operation_seconds=1.5) as farm:
        farm.server(FOUR[1]).hangs = True
        stop = threading.Event()

        def look() -> None:
            while not stop.wait(0.05):
                farm.loop.look()

        thread = threading.Thread(target=look)
        thread.start()
        try:
            wait_for(lambda: len({each.server for each in farm.ticks}) == 4)
            farm.farm.advance(15 * DAY)
            wait_for(lambda: farm.step() is StepKind.AWAIT_APPROVAL)
            issue(farm)
            farm.farm.advance(HOUR)
            wait_for(lambda: "leave_maintenance done" in farm.acts())
        finally:
            stop.set()
            thread.join()
            farm.loop.end(seconds=10)
        farm.farm.advance(2 * HOUR)
        farm.telling.synchronise(())

        status = farm.store.status(FOUR[1])
        assert status.problem is not None
        assert status.problem.reason is RenewalReason.UNREACHABLE
        assert status.problem_since is not None
        assert "server_unreachable" in farm.alarms()
        assert {each.server for each in farm.ticks if each.observation is not None} == set(FOUR) - {FOUR[1]}


def test_the_last_server_that_serves_does_not_enter_maintenance(tmp_path: Path) -> None:
    """With the other in maintenance the switch waits and people are told; then it goes on (promise 61)."""
    with near(tmp_path) as farm:
        (old,) = farm.used()
        farm.until_step(StepKind.AWAIT_APPROVAL)
        farm.server(FAS2).maintenance = True
        issue(farm)
        farm.until_step(StepKind.ALERT)
        told = farm.alarms()["renewal_stopped"]
        assert "No other FAS server serves" in told
        assert farm.acts() == ["request done", "prove done"]
        farm.server(FAS2).maintenance = False
        farm.run(until=lambda: old not in farm.server().certificates)

        assert farm.acts() == RENEWED


def test_a_single_server_switches_without_maintenance_where_that_is_set(tmp_path: Path) -> None:
    """Where there is one FAS server only, `maintenance = "skip"` lets it be renewed."""
    with near(tmp_path, names=(FAS1,), policy=replace(POLICY, maintenance=Maintenance.SKIP)) as farm:
        (old,) = farm.used()
        farm.until_step(StepKind.AWAIT_APPROVAL)
        issue(farm)
        farm.run(until=lambda: old not in farm.server().certificates)

        assert farm.acts() == [each for each in RENEWED if "maintenance" not in each]


def test_a_certificate_that_is_not_valid_yet_is_waited_for(tmp_path: Path) -> None:
    """The CA's clock is ahead: that is patience, not failure (promise 57)."""
    with near(tmp_path) as farm:
        (old,) = farm.used()
        farm.farm.ca.clock_ahead = timedelta(hours=9)
        farm.until_step(StepKind.AWAIT_APPROVAL)
        issue(farm)
        farm.run(until=lambda: "not_yet_valid" in str(farm.ticks[-1].step or farm.ticks[-2].step), most=DAY)
        farm.run(until=lambda: old not in farm.server().certificates)

        assert farm.acts() == RENEWED


def test_what_comes_back_wrong_is_quarantined(tmp_path: Path) -> None:
    """A certificate that ends too soon is never switched to; the alarm names the difference (promise 56)."""
    with near(tmp_path) as farm:
        (old,) = farm.used()
        farm.farm.ca.issue_wrong(lifetime=timedelta(days=20))
        farm.until_step(StepKind.AWAIT_APPROVAL)
        issue(farm)
        farm.until_step(StepKind.ALERT)

        assert farm.acts() == ["request done", "prove failed"]
        assert farm.used() == {old}
        assert farm.messages("proof_failed")[0].facts[-2][0] == "issued_short_life"
        assert "ends too soon" in farm.alarms()["renewal_stopped"]


def test_two_workers_never_act_at_once(tmp_path: Path) -> None:
    """While one has the lease the other does nothing; after it ended the other goes on (promise 55)."""
    with site(tmp_path) as farm:
        farm.until_step(StepKind.AWAIT_APPROVAL)
        clock = lambda: farm.farm.now  # noqa: E731 - short
        first, second = (
            RenewalLoop(farm.engine, farm.servers, owner=owner, clock=clock, draw=lambda: 0.0, told=lambda _, __: None)
            for owner in ("worker:2", "worker:3")
        )
        first.look()
        with pytest.raises(NotLeader, match="another process renews"):
            second.round()
        first.end(seconds=10)
        assert second.round()


def test_an_administrator_in_the_console_does_not_put_it_out_of_step(tmp_path: Path) -> None:
    """Somebody switches a definition by hand meanwhile: the rest follows, and nothing is switched twice."""
    with near(tmp_path) as farm:
        (old,) = farm.used()
        farm.until_step(StepKind.AWAIT_APPROVAL)
        new = next(each for each in farm.server().certificates if each != old)
        issue(farm)
        farm.farm.call(FAS1, "Set-FasCertificateDefinition", Name=DEFINITIONS[0], AuthorizationCertificate=new)
        farm.run(until=lambda: old not in farm.server().certificates)

        assert farm.used() == {new}
        by_us = [
            each for each in farm.farm.calls if each.name == "Set-FasCertificateDefinition" and "svc" in each.account
        ]
        assert DEFINITIONS[0] not in {each.parameters["Name"] for each in by_us}
