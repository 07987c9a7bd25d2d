"""What people are told of alarms: one fact a message, to the right people, and nothing for ever."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from evidence_service.notices.alarms import alarm_message, over_message, worth_telling
from evidence_service.notices.model import About, Audience
from evidence_service.notices.own_certificates import OwnCertificate, own_certificate_alarms
from evidence_service.notices.trial import trial_message
from evidence_service.notices.undelivered import Undelivered, undelivered_alarms
from idp_certs.alarms import Alarm, Severity

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
ALARM = Alarm(
    kind="approval_needed",
    entity_id="FAS1",
    key="ab",
    severity=Severity.WARNING,
    text="Issue it.",
    about="fas_server",
    more=("Because.",),
    facts=(("Pending request", "4711"), ("CA", "ca1\\Corp")),
    todo=("Open the console.",),
)
OWN = OwnCertificate(
    about=About.SERVICE, name="serve", sha256="cd", expires=NOW + 61 * DAY, remedy="Put the next one in its place."
)


def test_an_alarm_becomes_a_message_with_all_that_it_says() -> None:
    """Text, further sentences, facts and steps are there, and the title names server and request."""
    message = alarm_message(ALARM, raised_at=NOW)
    assert message.paragraphs == ("Issue it.", "Because.")
    assert message.todo == ("Open the console.",)
    assert ("CA", "ca1\\Corp") in message.facts
    assert ("FAS server", "FAS1") in message.facts
    assert message.title == "FAS1: an authorization certificate waits for approval (request 4711)"
    assert (message.about, message.audience, message.urgent) == (About.FAS_SERVER, Audience.APPROVERS, False)


def test_what_only_the_farms_people_can_mend_is_told_to_them_and_what_is_critical_is_urgent() -> None:
    """Approvers get what they decide, and nothing else."""
    message = alarm_message(replace(ALARM, kind="renewal_failing", severity=Severity.CRITICAL), raised_at=NOW)
    assert (message.audience, message.urgent) == (Audience.OPERATORS, True)


def test_an_alarm_that_came_back_is_another_fact_and_one_that_stands_is_the_same() -> None:
    """What is told once is known by what it is about, its kind, its key, and since when."""
    fact = alarm_message(ALARM, raised_at=NOW).fact
    assert alarm_message(replace(ALARM, text="Other words."), raised_at=NOW).fact == fact
    others = [
        alarm_message(ALARM, raised_at=NOW + SECOND),
        alarm_message(replace(ALARM, key="cd"), raised_at=NOW),
        alarm_message(replace(ALARM, about="idp"), raised_at=NOW),
        alarm_message(replace(ALARM, kind="approval_overdue"), raised_at=NOW),
        alarm_message(replace(ALARM, entity_id="FAS2"), raised_at=NOW),
    ]
    assert len({fact, *(each.fact for each in others)}) == 6


def test_an_alarm_about_a_thing_of_another_release_is_told_all_the_same() -> None:
    """A kind of thing or alarm that is not known has its own words and goes to the operators."""
    message = alarm_message(replace(ALARM, about="gateway", kind="flux_low", facts=()), raised_at=NOW)
    assert (message.about, message.title) == (About.SERVICE, "FAS1: flux low")


@pytest.mark.parametrize(
    ("kind", "key", "title"),
    [
        ("authcert_expiring", "ab:7d", "FAS1: the authorization certificate expires within 7 days (request 4711)"),
        ("authcert_expiring", "ab:1d", "FAS1: the authorization certificate expires within a day (request 4711)"),
        (
            "approval_needed",
            "ab:14d",
            "FAS1: an authorization certificate waits for approval (request 4711), the old one expires within 14 days",
        ),
        ("metadata_depleting", "25%", "FAS1: metadata expires soon (request 4711)"),
    ],
)
def test_a_title_says_how_many_days_are_left(kind: str, key: str, title: str) -> None:
    """Who sees nothing but subjects tells the first reminder from the last."""
    assert alarm_message(replace(ALARM, kind=kind, key=key), raised_at=NOW).title == title


def test_what_to_do_about_an_identity_provider_names_it_for_a_shell() -> None:
    """An entity ID is a name from elsewhere: pasted, it is one word."""
    message = alarm_message(replace(ALARM, about="idp", entity_id="https://x/?a&b", todo=()), raised_at=NOW)
    assert message.todo == ("See how it stands: `fas-evidence idp show 'https://x/?a&b'`.",)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (["ab:60d", "ab:30d", "ab:14d"], ["ab:14d"]),
        (["ab:60d", "cd:30d"], ["ab:60d", "cd:30d"]),
        (["50%", "25%", "72h"], ["72h"]),
        (["24h", "ab"], ["24h", "ab"]),
        (["", "urgent"], ["urgent"]),
        (["ab", "ab:week 1", "ab:expired"], ["ab:expired"]),
    ],
)
def test_of_levels_reached_at_once_the_closest_is_told(keys: list[str], told: list[str]) -> None:
    """A first look at something that ends soon writes one message and not one for every level."""
    raised = [replace(ALARM, key=key) for key in keys]
    assert [each.key for each in worth_telling(raised)] == told


@pytest.mark.parametrize("days", [60, 30, 14, 7, 3, 1])
def test_a_certificate_of_our_own_is_told_of_at_each_level(days: int) -> None:
    """The level starts exactly then, and is critical from a week on."""
    at = OWN.expires - days * DAY
    assert f"cd:{days}d" not in {each.key for each in own_certificate_alarms((OWN,), at - SECOND)}
    (alarm,) = own_certificate_alarms((OWN,), at)
    assert (alarm.kind, alarm.key, alarm.about) == ("own_certificate_expiring", f"cd:{days}d", "service")
    assert alarm.severity is (Severity.CRITICAL if days <= 7 else Severity.WARNING)
    assert OWN.remedy in alarm.text


def test_a_certificate_that_expired_is_critical_and_its_successor_clears_it() -> None:
    """A plug-in's certificate is told of as the plug-in's."""
    plugin = replace(OWN, about=About.PLUGIN, name="fas1")
    (alarm,) = own_certificate_alarms((plugin,), plugin.expires)
    assert (alarm.kind, alarm.severity, alarm.about) == ("plugin_certificate_expired", Severity.CRITICAL, "plugin")
    assert "The client certificate of plug-in fas1 expired" in alarm.text
    assert "and every logon through it is denied" in alarm.text
    (served,) = own_certificate_alarms((OWN,), OWN.expires)
    assert "The TLS certificate of `serve` expired" in served.text
    assert "and is refused by who asks it" in served.text
    renewed = replace(plugin, sha256="ef", expires=plugin.expires + 365 * DAY)
    assert own_certificate_alarms((renewed,), plugin.expires) == ()


def test_what_does_not_arrive_is_an_alarm_after_an_hour_and_at_once_when_it_is_given_up() -> None:
    """Promise 59: undelivered is known, by channel, with the last reason."""
    waits = Undelivered(channel="mail", waiting=2, abandoned=0, oldest=NOW, problem="no route.")
    assert undelivered_alarms((waits,), NOW + HOUR - SECOND) == ()
    (alarm,) = undelivered_alarms((waits,), NOW + HOUR)
    assert (alarm.kind, alarm.key, alarm.severity) == ("messages_undelivered", "mail", Severity.CRITICAL)
    assert "2 wait and are tried again. The last reason: no route." in alarm.text
    (alarm,) = undelivered_alarms((replace(waits, waiting=0, abandoned=1),), NOW)
    assert "1 was given up" in alarm.text


def test_the_end_of_a_request_says_what_may_be_left_and_to_whom() -> None:
    """To approvers, with the number of the request; it does not claim that nothing is left at the CA."""
    told = alarm_message(replace(ALARM, key="ab:7d"), raised_at=NOW)
    over = over_message(told, raised_at=NOW, cleared_at=NOW + 3 * DAY, urgent=False, standing=())
    assert over.audience is Audience.APPROVERS
    assert over.title == "FAS1: over: an authorization certificate waits for approval (request 4711)"
    assert "issued, denied or withdrawn" in over.paragraphs[1]
    assert over.paragraphs[2] == "No other alarm stands about FAS1."
    assert ("Pending request", "4711") in over.facts
    assert over.fact != told.fact


def test_a_trial_asks_for_nothing() -> None:
    """Who gets a test message sees that it is one."""
    message = trial_message(Audience.APPROVERS, NOW)
    assert (message.kind, message.audience, message.todo) == ("test", Audience.APPROVERS, ())
    assert "nothing is to be done" in message.title
