"""Promises of renewal under faults that are planted in the farm, by the real loop with the farm asked in process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evidence_service.renewal.cmdlets import READING
from evidence_service.renewal.model import Deadline, Result, StepKind, Switch, Window
from evidence_service.renewal.tick import Ticked
from tests.renewal.site import DAY, DEFINITIONS, FAS1, HOUR, MINUTE, NOW, POLICY, Site, near

REQUEST, SET = "New-FasAuthorizationCertificate", "Set-FasCertificateDefinition"
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


def serving(farm: Site) -> set[str]:
    """The ids that the definitions in use name."""
    return {farm.server().definitions[each].authorization_certificate for each in DEFINITIONS}


def asked(farm: Site, name: str = REQUEST) -> int:
    """How often FAS carried out such a call of the worker."""
    return len([each for each in farm.farm.calls if each.name == name and each.done and "svc" in each.account])


@pytest.mark.parametrize("succeeds", [True, False], ids=["it succeeds", "it fails"])
def test_a_stalled_request_is_unknown_and_only_read_until_it_is_known(tmp_path: Path, *, succeeds: bool) -> None:
    """FAS takes 5 minutes and the worker waits for 3: nothing is sent again before reading tells the end (promise 46).

    What succeeded late is adopted; what failed late counts as not done after the grace, and is asked for anew.
    """
    with near(tmp_path) as farm:
        farm.farm.advance(10 * DAY)
        farm.server().hang_next(REQUEST, 300.0)
        farm.round()
        (attempt,) = farm.store.attempts(FAS1).acts
        assert attempt.result is Result.UNKNOWN
        if not succeeds:
            farm.farm.ca.unreachable = True
        before = len(farm.farm.calls)
        while farm.store.attempts(FAS1).acts[0].result is Result.UNKNOWN:
            assert farm.farm.now < NOW + 11 * DAY
            farm.farm.advance(MINUTE)
            farm.round()
            farm.restart()
            if farm.farm.now >= NOW + 10 * DAY + 6 * MINUTE:
                farm.farm.ca.unreachable = False
        sent = [each for each in farm.farm.calls[before:] if each.name not in READING | {"Add-PSSnapin"}]
        took = farm.farm.now - NOW - 10 * DAY
        farm.until_step(StepKind.AWAIT_APPROVAL)

        results = farm.acts()
        assert len(farm.farm.ca.pending) == 1
        if succeeds:
            assert results == ["request done"]
            assert [each.name for each in sent] == [REQUEST]  # the late one itself
            assert took <= 10 * MINUTE
        else:
            assert results == ["request not_done", "request done"]
            assert took >= POLICY.answer_grace


@pytest.mark.parametrize("times", [1, 9], ids=["once", "always"])
def test_when_the_second_definition_cannot_be_set_all_move_or_none(tmp_path: Path, times: int) -> None:
    """FAS refuses the second of three: once, and all move after a back-off; always, and all go back (promises 47, 48).

    At no tick does a definition name a certificate that is not there.
    """
    with near(tmp_path) as farm:
        (old,) = farm.used()
        refused = []

        def plant(ticked: Ticked) -> None:
            named = {each.authorization_certificate for each in farm.server().definitions.values()}
            assert named <= set(farm.server().certificates)
            if isinstance(ticked.step, Switch) and ticked.performed is not None:
                refused.append(ticked.performed.result)
                if len([each for each in refused if each is Result.FAILED]) < times:
                    farm.server().fail_next(SET, "The service is busy.")

        farm.watch = plant
        farm.until_step(StepKind.AWAIT_APPROVAL)
        issue(farm)
        farm.run(until=lambda: farm.step() in (StepKind.SOAK, StepKind.ALERT))

        failures = [each for each in farm.acts() if each == "switch failed"]
        assert not farm.server().maintenance
        assert old in farm.server().certificates
        assert len(farm.server().users) == 5
        if times == 1:
            assert failures == ["switch failed"]
            assert farm.acts().count("switch done") == 3
            assert len(serving(farm)) == 1
            assert serving(farm) != {old}
        else:
            assert failures == ["switch failed"] * 2
            assert "roll_back done" in farm.acts()
            assert serving(farm) == {old}
            assert "renewal_stopped" in farm.alarms()


WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "another key": ({"other_key": True}, "issued_without_key", "expected a trust area, got none"),
    "no Certificate Request Agent": (
        {"no_eku": True},
        "proof_failed",
        "failed at all configured certificate authorities",
    ),
    "another CA": ({"address": r"test-ca.corp.example\Test CA"}, "issued_other_ca", r"test-ca.corp.example\Test CA"),
    "a short life": ({"lifetime": 20 * DAY}, "issued_short_life", "got 2026-04-01"),
    "an exportable key": ({"exportable": True}, "issued_exportable", "expected False, got True"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_comes_back_wrong_serves_nobody(tmp_path: Path, wrong: str) -> None:
    """It is kept aside, the old one serves on, and the alarm names the difference (promise 56)."""
    given, reason, difference = WRONG[wrong]
    with near(tmp_path) as farm:
        (old,) = farm.used()
        farm.farm.ca.issue_wrong(**given)
        farm.until_step(StepKind.AWAIT_APPROVAL)
        issue(farm)
        farm.until_step(StepKind.ALERT)

        assert farm.acts()[:2] == ["request done", "prove failed"]
        assert serving(farm) == {old}
        assert not farm.server().maintenance
        (told,) = farm.messages("proof_failed")
        assert reason in dict(told.facts)
        assert difference in dict(told.facts)[reason]
        assert difference in farm.alarms()["renewal_stopped"]
        switched = {each.parameters["Name"] for each in farm.farm.calls if each.name == SET}
        assert switched <= {"test_Definition"}


def test_a_window_that_does_not_fit_is_overridden_and_told(tmp_path: Path) -> None:
    """The approval comes when days are left and the next window is after the expiry: switched, warned (promise 54)."""
    expires = NOW + 70 * DAY
    weekday = (expires + DAY).weekday()
    window = Window(weekdays=frozenset({weekday}), start=expires.time(), length=HOUR)
    with near(tmp_path, policy=replace(POLICY, windows=(window,))) as farm:
        (old,) = farm.used()
        farm.until_step(StepKind.AWAIT_APPROVAL)
        farm.farm.advance(expires - 5 * DAY - farm.farm.now)
        farm.round()
        issue(farm)
        farm.run(until=lambda: "switch done" in farm.acts(), most=6 * DAY)
        switched_at = farm.farm.now

        assert serving(farm) != {old}
        assert expires - switched_at >= 4 * DAY
        assert "window_overridden" in farm.alarms()
        assert len(farm.messages("window_overridden")) == 1


def test_a_window_that_fits_is_waited_for(tmp_path: Path) -> None:
    """Nothing that users could notice is done outside of it, and no warning is given (promise 54)."""
    window = Window(weekdays=frozenset({5}), start=NOW.time(), length=3 * HOUR)
    with near(tmp_path, policy=replace(POLICY, windows=(window,))) as farm:
        (old,) = farm.used()
        farm.until_step(StepKind.AWAIT_APPROVAL)
        issue(farm)
        farm.run(until=lambda: old not in farm.server().certificates, stride=HOUR)

        changes = [
            each.at
            for each in farm.farm.calls
            if each.name in (SET, "Set-FasServer") and each.parameters.get("Name") != "test_Definition"
        ]
        assert {each.weekday() for each in changes} == {5}
        assert all(NOW.time() <= each.time() < (NOW + 3 * HOUR).time() for each in changes)
        assert farm.messages("window_overridden") == []


@pytest.mark.parametrize("fate", list(Deadline))
def test_waiting_escalates_by_the_days_that_are_left(tmp_path: Path, fate: Deadline) -> None:
    """Nobody decides: reminders at 30 to 1 days left, rising, and the end that is set (promise 50)."""
    policy = replace(POLICY, on_deadline=fate, approval_deadline=40 * DAY, poll=DAY)
    expires = NOW + 70 * DAY
    with near(tmp_path, policy=policy) as farm:
        (old,) = farm.used()
        farm.run(until=lambda: farm.farm.now >= expires - DAY / 2, most=71 * DAY, stride=DAY / 2)
        reminders = [
            ((expires - message.created_at) / DAY, message.message.severity.value, message.message.urgent)
            for message in farm.stored("approval_needed")
        ]

        assert serving(farm) == {old}
        if fate is Deadline.WITHDRAW:
            assert farm.acts()[:2] == ["request done", "withdraw done"]
            assert farm.messages("withdrawn")[0].todo[0].startswith("Deny request ")
            assert farm.stored("withdrawn")[0].created_at - (NOW + 10 * DAY) >= 40 * DAY
            return
        assert farm.acts() == ["request done"]
        assert [each[1:] for each in reminders[:4]] == [("notice", False)] + [("warning", False)] * 3
        for left in (30, 21, 14, 7, 3, 1):
            assert any(left <= days < left + 2 for days, _, _ in reminders), (left, reminders)
        assert all(urgent == (days < 9) for days, _, urgent in reminders), reminders
        assert "approval_overdue" in farm.alarms()
        assert "Nobody decided for" in farm.alarms()["approval_overdue"]
