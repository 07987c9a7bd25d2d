"""What is to be told is kept until it arrived, or is known not to have arrived (promise 59)."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import Engine, create_engine, func, select, text, update

from evidence_service.adapters import database
from evidence_service.adapters.channels import open_channels
from evidence_service.adapters.database import open_database, writing
from evidence_service.adapters.outbox import Courier, DeliveryState, Outbox, StoredMessage, put
from evidence_service.adapters.sending import NotDelivered, Outgoing
from evidence_service.adapters.trust_store import TrustStore
from evidence_service.notices.model import Audience, Channels, Message
from evidence_service.notices.undelivered import undelivered_alarms
from idp_certs.alarms import Alarm, Severity
from tests.adapters.given import url_of
from tests.adapters.post import MESSAGE, NOW, mail_by, mail_server

SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
FAS, SERVICE = frozenset({"fas_server"}), frozenset({"service"})
ALARM = Alarm(
    kind="server_unreachable", entity_id="FAS1", key="", severity=Severity.WARNING, text="Look.", about="fas_server"
)


@dataclass
class Way:
    """A channel whose answers the test decides, and which keeps what was sent."""

    name: str = "mail"
    problem: NotDelivered | Exception | None = None
    urgent_only: bool = False
    combines: bool = True
    arrived: list[Outgoing] = field(default_factory=list)
    tried: list[datetime] = field(default_factory=list)
    clock: Clock | None = None

    def takes(self, message: Message) -> bool:
        """All, or what is urgent."""
        return message.urgent or not self.urgent_only

    def send(self, outgoing: Outgoing) -> None:
        """Keep it, or fail."""
        if self.clock is not None:
            self.tried.append(self.clock.now)
        if self.problem is not None:
            raise self.problem
        self.arrived.append(outgoing)


@dataclass
class Clock:
    """A clock that a test sets."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        """The time."""
        return self.now


def written(
    engine: Engine,
    *facts: str,
    now: datetime = NOW,
    urgent: bool = False,
    audience: Audience = Audience.APPROVERS,
) -> None:
    """Messages of these facts."""
    with writing(engine) as connection:
        for fact in facts:
            put(connection, replace(MESSAGE, fact=fact, urgent=urgent, audience=audience), now)


def courier(engine: Engine, ways: Sequence[Way], clock: Clock) -> Courier:
    """A courier by these channels, which read the same clock."""
    for each in ways:
        each.clock = clock
    return Courier(engine, ways, clock)


def stored(engine: Engine) -> tuple[StoredMessage, ...]:
    """Everything in the outbox, newest first."""
    return Outbox(engine).messages()


def down() -> NotDelivered:
    """A channel that does not answer."""
    return NotDelivered("no route", whole_channel=True)


def test_a_fact_is_told_once_by_each_channel(engine: Engine) -> None:
    """Written twice it is one message, with one id; delivered, it is not sent again."""
    clock, mail, hook = Clock(), Way(), Way(name="webhook:w")
    written(engine, "a", "a", "b")
    there = courier(engine, (mail, hook), clock)
    assert there.deliver_due() == 4
    clock.now += DAY
    written(engine, "a", now=clock.now)
    assert there.deliver_due() == 0
    assert [each.message.fact for each in mail.arrived] == ["a", "b"]
    assert [each.id for each in hook.arrived] == [each.id for each in mail.arrived]
    assert len({each.id for each in mail.arrived}) == 2


def test_a_message_is_kept_as_it_is(engine: Engine) -> None:
    """Every member comes back, characters that no database takes included."""
    message = replace(MESSAGE, paragraphs=("lone \udc80 surrogate", "ä\u202e"))
    with writing(engine) as connection:
        put(connection, message, NOW)
    (found,) = stored(engine)
    assert found.message == message


def test_what_is_not_committed_is_not_told(engine: Engine) -> None:
    """A message is part of the transaction of what it tells."""

    def fails_after_it() -> None:
        with writing(engine) as connection:
            put(connection, MESSAGE, NOW)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails_after_it()
    assert stored(engine) == ()


def test_a_channel_gets_what_it_takes_and_what_is_new(engine: Engine) -> None:
    """Only urgent messages where that is set; not all of the past where a channel is set up later."""
    clock, mail, hook = Clock(), Way(), Way(name="webhook:w", urgent_only=True)
    written(engine, "long ago", now=NOW - 2 * DAY)
    written(engine, "ordinary")
    written(engine, "urgent", urgent=True)
    courier(engine, (mail, hook), clock).deliver_due()
    assert [each.message.fact for each in mail.arrived] == ["ordinary", "urgent"]
    assert [each.message.fact for each in hook.arrived] == ["urgent"]
    (ordinary,) = (each for each in stored(engine) if each.message.fact == "ordinary")
    assert [each.state for each in ordinary.deliveries] == [DeliveryState.DELIVERED, DeliveryState.SKIPPED]


def test_what_was_written_right_before_a_crash_is_told_however_long_nobody_worked(engine: Engine) -> None:
    """Promise 59: no channel knew it yet, and the worker was off for days; what was long before the channel is not."""
    clock, mail, hook = Clock(), Way(), Way(name="webhook:w")
    written(engine, "before the channel", now=NOW - 2 * DAY)
    written(engine, "first")
    courier(engine, (mail,), clock).deliver_due()
    written(engine, "right before the crash")
    clock.now += 5 * DAY
    there = courier(engine, (mail, hook), clock)

    assert there.deliver_due() == 1
    assert there.deliver_due() == 0
    assert [each.message.fact for each in mail.arrived] == ["first", "right before the crash"]
    assert hook.arrived == []


def test_what_a_slow_server_takes_late_is_not_sent_again(engine: Engine) -> None:
    """It took longer than others wait, and arrived: the next try finds that out, instead of sending one each hour."""
    go_on, done = threading.Event(), threading.Event()

    class Slow(Way):
        def send(self, outgoing: Outgoing) -> None:
            go_on.wait()
            super().send(outgoing)
            done.set()

    clock, mail = Clock(), Slow()
    written(engine, "a")
    there = Courier(engine, (mail,), clock, send_seconds=0.05)
    assert there.deliver_due() == 0
    go_on.set()
    assert done.wait(30)
    for thread in threading.enumerate():
        if thread.name == "sends mail":
            thread.join()
    clock.now += HOUR

    assert there.deliver_due() == 1
    assert [each.message.fact for each in mail.arrived] == ["a"]
    assert stored(engine)[0].deliveries[0].state is DeliveryState.DELIVERED


def test_a_server_that_is_down_for_a_day_delays_and_loses_nothing(engine: Engine) -> None:
    """Promise 59: tried from a minute up to an hour apart, then delivered once with its id; known meanwhile."""
    clock, mail, hook = Clock(), Way(problem=down()), Way(name="webhook:w")
    written(engine, "a", "b")
    there = courier(engine, (mail, hook), clock)
    before = {each.message.fact: each.id for each in stored(engine)}
    while clock.now < NOW + DAY:
        there.deliver_due()
        clock.now += 5 * MINUTE
    assert len(hook.arrived) == 2
    gaps = [later - earlier for earlier, later in zip(mail.tried, mail.tried[1:], strict=False)]
    assert gaps[0] <= 5 * MINUTE
    assert max(gaps) <= HOUR + 5 * MINUTE
    assert 24 <= len(mail.tried) <= 120
    (undelivered,) = Outbox(engine).undelivered(clock.now)
    assert (undelivered.channel, undelivered.waiting, undelivered.abandoned) == ("mail", 2, 0)
    assert (undelivered.oldest, undelivered.problem) == (NOW, "no route")
    mail.problem = None
    clock.now += HOUR
    there.deliver_due()
    assert {each.message.fact: each.id for each in mail.arrived} == before
    assert len(mail.arrived) == 2
    assert Outbox(engine).undelivered(clock.now) == ()


def test_a_channel_that_is_down_is_asked_once_for_all_that_waits(engine: Engine) -> None:
    """A hundred messages do not mean a hundred time-outs, nor a burst after each."""
    clock, mail = Clock(), Way(problem=down())
    written(engine, *map(str, range(100)))
    there = courier(engine, (mail,), clock)
    for _ in range(60):
        there.deliver_due()
        clock.now += SECOND
    assert 1 <= len(mail.tried) <= 3


def test_a_restart_tries_no_sooner(engine: Engine) -> None:
    """Promise 51: when it is tried again is stored."""
    clock, mail = Clock(), Way(problem=down())
    written(engine, "a")
    courier(engine, (mail,), clock).deliver_due()
    for _ in range(10):
        courier(engine, (mail,), clock).deliver_due()
    assert len(mail.tried) == 1


def test_one_message_that_is_refused_for_now_does_not_hold_up_others(engine: Engine) -> None:
    """Promise 59: 4xx for one message is about that message."""
    clock, mail = Clock(), Way(problem=NotDelivered("451 later"))
    written(engine, "a", "b")
    there = courier(engine, (mail,), clock)
    there.deliver_due()
    assert len(mail.tried) == 2


def test_what_is_refused_for_good_is_given_up_at_once_and_known(engine: Engine) -> None:
    """Promise 59: 5xx is not tried again, counts as undelivered for days, and stays in the list."""
    clock, mail = Clock(), Way(problem=NotDelivered("550 no such user", permanent=True))
    written(engine, "a")
    there = courier(engine, (mail,), clock)
    there.deliver_due()
    clock.now += DAY
    there.deliver_due()
    assert len(mail.tried) == 1
    (undelivered,) = Outbox(engine).undelivered(clock.now)
    assert (undelivered.waiting, undelivered.abandoned, undelivered.problem) == (0, 1, "550 no such user")
    assert Outbox(engine).undelivered(clock.now + 7 * DAY) == ()
    ((delivery,),) = (each.deliveries for each in stored(engine))
    assert (delivery.state, delivery.problem) == (DeliveryState.ABANDONED, "550 no such user")


def test_after_14_days_a_message_is_given_up(engine: Engine) -> None:
    """Nothing is tried for ever."""
    clock, mail = Clock(), Way(problem=down())
    written(engine, "a")
    there = courier(engine, (mail,), clock)
    there.deliver_due()
    clock.now = NOW + 14 * DAY
    there.deliver_due()
    (undelivered,) = Outbox(engine).undelivered(clock.now)
    assert undelivered.abandoned == 1
    clock.now += 2 * HOUR
    there.deliver_due()
    assert len(mail.tried) == 2


def test_a_server_that_asks_for_patience_gets_it(engine: Engine) -> None:
    """Retry-After is longer than the back-off, and is kept."""
    clock, mail = Clock(), Way(problem=NotDelivered("429", whole_channel=True, retry_after=30 * MINUTE))
    written(engine, "a")
    there = courier(engine, (mail,), clock)
    there.deliver_due()
    clock.now = NOW + 30 * MINUTE - SECOND
    there.deliver_due()
    assert len(mail.tried) == 1
    clock.now = NOW + 30 * MINUTE
    there.deliver_due()
    assert len(mail.tried) == 2


def test_a_message_that_breaks_a_channel_is_known_and_the_next_goes_out(engine: Engine) -> None:
    """A fault of our own is a failed delivery with its name, and not the end of the courier."""
    clock, mail = Clock(), Way(problem=ZeroDivisionError("x"))
    written(engine, "a", "b")
    courier(engine, (mail,), clock).deliver_due()
    assert len(mail.tried) == 2
    (undelivered,) = Outbox(engine).undelivered(clock.now)
    assert undelivered.problem == "an internal error, ZeroDivisionError; see the log"


def test_a_channel_that_never_ends_keeps_no_other_waiting(engine: Engine) -> None:
    """It is left alone while it hangs, with the reason, and mail goes out."""
    clock, mail = Clock(), Way()
    released, begun = threading.Event(), []

    class Tarpit(Way):
        def send(self, outgoing: Outgoing) -> None:
            begun.append(outgoing)
            released.wait(60)

    hook = Tarpit(name="a:slow")
    written(engine, "a", "b")
    there = Courier(engine, (hook, mail), clock, send_seconds=0.05)
    assert there.deliver_due() == 2
    assert "no end after" in Outbox(engine).undelivered(clock.now)[0].problem
    clock.now += HOUR
    there.deliver_due()
    assert "the attempt before" in Outbox(engine).undelivered(clock.now)[0].problem
    assert (len(begun), len(mail.arrived)) == (1, 2)
    released.set()


@pytest.mark.parametrize("jump", [DAY, 3650 * DAY])
def test_an_attempt_planned_by_a_wrong_clock_is_due(engine: Engine, jump: timedelta) -> None:
    """A clock that was ahead for a moment does not keep messages back."""
    clock, mail = Clock(NOW + jump), Way(problem=down())
    written(engine, "a", now=clock.now)
    there = courier(engine, (mail,), clock)
    there.deliver_due()
    clock.now, mail.problem = NOW, None
    assert there.deliver_due() == 1


def test_a_channel_that_is_configured_no_more_is_no_alarm_for_ever(engine: Engine) -> None:
    """What waits for it is kept for a day, should it come back, then given up, and after that no longer told."""
    clock, hook, mail = Clock(), Way(name="webhook:old", problem=down()), Way()
    written(engine, "a")
    courier(engine, (hook,), clock).deliver_due()
    there = courier(engine, (mail,), clock)
    clock.now += 23 * HOUR
    there.deliver_due()
    assert [each.waiting for each in Outbox(engine).undelivered(clock.now)] == [1]
    clock.now += 2 * HOUR
    there.deliver_due()
    (given_up,) = Outbox(engine).undelivered(clock.now)
    assert (given_up.waiting, given_up.abandoned, given_up.problem) == (0, 1, "the channel is configured no more")
    assert Outbox(engine).undelivered(clock.now + 3 * DAY) == ()


def test_a_message_that_cannot_be_read_is_told_of_and_holds_up_no_other(engine: Engine) -> None:
    """Changed from outside: people hear that there was one, and the rest goes out."""
    mail = Way()
    written(engine, "a", "b")
    with writing(engine) as connection:
        connection.execute(update(database.outbox).where(database.outbox.c.fact == "a").values(message='{"kind": 1}'))
    assert courier(engine, (mail,), Clock()).deliver_due() == 2
    assert [each.message.kind for each in mail.arrived] == ["message_damaged", "approval_needed"]


def test_two_couriers_do_not_send_the_same_message(engine: Engine) -> None:
    """What one has in hand the other leaves alone."""
    written(engine, "a")
    box, way = Outbox(engine), Way()
    box.queue((way,), NOW)
    first = box.take(NOW, ["mail"])
    assert first is not None
    assert box.take(NOW + MINUTE, ["mail"]) is None
    again = box.take(NOW + 6 * MINUTE, ["mail"])
    assert again is not None
    assert (again.outgoing.id, again.attempts) == (first.outgoing.id, 2)


_SEND_AND_DIE = """
import os, sys
from datetime import UTC, datetime
from evidence_service.adapters.channels import open_channels
from evidence_service.adapters.database import open_database
from evidence_service.adapters.outbox import Courier, Outbox
from evidence_service.notices.model import Channels, Smtp, SmtpSecurity
from tests.adapters.post import NOW, mail_by

Outbox.delivered = lambda *_: os.kill(os.getpid(), 9)
smtp = Smtp(host="localhost", port=int(sys.argv[2]), security=SmtpSecurity.NONE)
Courier(open_database(sys.argv[1]), open_channels(Channels(mail=mail_by(smtp))), lambda: NOW).deliver_due()
"""


@pytest.mark.parametrize("facts", [["a"], ["a", "b"]], ids=["one", "two in one"])
def test_a_kill_between_sending_and_writing_sends_again_with_the_same_id(tmp_path: Path, facts: list[str]) -> None:
    """Promise 59: at least once, and a mail program that knows ids shows it once; what came since is another mail."""
    url = url_of(tmp_path / "fas-evidence.db")
    engine = open_database(url)
    written(engine, *facts, audience=Audience.OPERATORS)
    with mail_server() as server:
        command = [sys.executable, "-c", _SEND_AND_DIE, url, str(server.port)]
        died = subprocess.run(command, check=False, capture_output=True, timeout=60)
        assert died.returncode == -9, died.stderr.decode()
        assert len(server.mails) == 1
        clock = Clock(NOW + 10 * MINUTE)
        written(engine, "since", now=clock.now, audience=Audience.OPERATORS)
        (channel,) = open_channels(Channels(mail=mail_by(server.smtp())))
        there = Courier(engine, (channel,), clock)
        assert there.deliver_due() == len(facts) + 1
        assert there.deliver_due() == 0
        first, second, third = sorted(server.contents, key=lambda each: each != server.contents[0])
    engine.dispose()
    assert first == second
    assert third != first


def failing_servers(engine: Engine, numbers: Sequence[int], now: datetime) -> None:
    """The renewal fails on these servers, and goes on doing so."""
    alarms = [
        replace(ALARM, kind="renewal_failing", entity_id=f"FAS{number}", text=f"FAS{number} refuses. See FAS{number}.")
        for number in numbers
    ]
    facts = (("CA", "ca1"),)
    TrustStore(engine).sync_alarms(
        [replace(each, todo=(f"See {each.entity_id}.",), facts=facts) for each in alarms], now, about=FAS
    )


def test_forty_servers_that_fail_at_once_are_one_mail_for_people_and_forty_facts_for_programs(engine: Engine) -> None:
    """A CA is down: one mail lists them all, with what each says; each fact is told once."""
    clock, mail, siem = Clock(), Way(), Way(name="webhook:siem", combines=False)
    failing_servers(engine, range(40), NOW)
    there = courier(engine, (mail, siem), clock)
    assert there.deliver_due() == 80
    (one,) = mail.arrived
    assert one.message.title == "40 FAS servers: the renewal fails"
    assert one.message.paragraphs[0].startswith("40 messages in one, the oldest first, about FAS0, FAS1, FAS2, ")
    assert one.message.paragraphs[0].endswith(" FAS38, FAS39.")
    assert one.message.paragraphs[1:] == ("NAME refuses.",)
    assert one.message.todo == ("See NAME.",)
    assert dict(one.message.facts)["FAS39"] == "CA: ca1; Since: 2026-01-01T12:00:00Z"
    assert [each.message.subject for each in siem.arrived] == [f"FAS{number}" for number in range(40)]
    assert {each.state for message in stored(engine) for each in message.deliveries} == {DeliveryState.DELIVERED}
    clock.now += DAY
    assert there.deliver_due() == 0
    assert Outbox(engine).sent_as(one.id) == (one,)


def test_servers_that_fail_one_after_the_other_are_two_mails(engine: Engine) -> None:
    """The first is told at once; the others wait for each other for a quarter of an hour, across a restart too."""
    clock, mail = Clock(), Way()
    for number in range(10):
        clock.now = NOW + number * MINUTE
        failing_servers(engine, range(number + 1), clock.now)
        courier(engine, (mail,), clock).deliver_due()
    assert [each.message.subject for each in mail.arrived] == ["FAS0"]
    written(engine, "request", now=clock.now)
    courier(engine, (mail,), clock).deliver_due()
    assert mail.arrived[1].message.kind == "approval_needed"
    clock.now = NOW + 15 * MINUTE
    courier(engine, (mail,), clock).deliver_due()
    assert len(mail.arrived) == 3
    assert mail.arrived[2].message.title == "9 FAS servers: the renewal fails"
    assert mail.arrived[2].message.paragraphs[0].startswith("9 messages in one")


def test_each_request_is_told_by_itself(engine: Engine) -> None:
    """Who decides about forty requests decides about each."""
    mail = Way()
    written(engine, "a", "b", "c")
    courier(engine, (mail,), Clock()).deliver_due()
    assert [each.message.fact for each in mail.arrived] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("problem", "tried", "state"),
    [
        (ZeroDivisionError("x"), 4, DeliveryState.QUEUED),
        (NotDelivered("554 spam", permanent=True), 4, DeliveryState.ABANDONED),
        (NotDelivered("others got it", permanent=True, content=False), 1, None),
    ],
    ids=["cannot be rendered", "is refused for good", "reached some"],
)
def test_one_message_that_cannot_be_sent_holds_up_none_that_it_was_combined_with(
    engine: Engine, problem: Exception, tried: int, state: DeliveryState | None
) -> None:
    """They go out one by one, in the same pass; unless some people got what was combined."""
    clock, sent = Clock(), []

    class Picky(Way):
        def send(self, outgoing: Outgoing) -> None:
            sent.append(outgoing.message)
            if "FAS1" in str(outgoing.message):
                raise problem

    failing_servers(engine, range(3), NOW)
    courier(engine, (Picky(),), clock).deliver_due()
    states = {each.message.subject: each.deliveries[0].state for each in stored(engine)}
    assert len(sent) == tried
    if state is None:
        assert set(states.values()) == {DeliveryState.ABANDONED}
    else:
        assert states == {"FAS0": DeliveryState.DELIVERED, "FAS1": state, "FAS2": DeliveryState.DELIVERED}
        assert (
            Outbox(engine).undelivered(clock.now)[0].waiting + Outbox(engine).undelivered(clock.now)[0].abandoned == 1
        )


def test_old_messages_are_forgotten_unless_they_wait(engine: Engine) -> None:
    """After 90 days; what is not delivered stays until it is given up."""
    clock, mail = Clock(), Way()
    written(engine, "delivered")
    there = courier(engine, (mail,), clock)
    there.deliver_due()
    mail.problem = down()
    written(engine, "waits")
    there.deliver_due()
    assert Outbox(engine).prune(NOW + 90 * DAY) == 0
    assert Outbox(engine).prune(NOW + 90 * DAY + SECOND) == 1
    assert [each.message.fact for each in stored(engine)] == ["waits"]
    with database.reading(engine) as connection:
        assert connection.scalar(select(func.count()).select_from(database.deliveries)) == 1


def test_the_list_shows_what_is_undelivered_however_old(engine: Engine) -> None:
    """Newest first, as many as asked for, and what waits in any case."""
    clock, mail = Clock(), Way(problem=down())
    written(engine, "waits")
    there = courier(engine, (mail,), clock)
    there.deliver_due()
    mail.problem = None
    clock.now += SECOND
    written(engine, *map(str, range(5)), now=clock.now)
    there.deliver_due()
    assert [each.message.fact for each in Outbox(engine).messages(limit=2)] == ["4", "3", "waits"]


def test_an_alarm_is_told_once_while_it_stands_and_again_when_it_comes_back(engine: Engine) -> None:
    """Raised, repeated, with another text, cleared and raised again: two messages."""
    store = TrustStore(engine)
    store.sync_alarms([ALARM], NOW, about=FAS)
    store.sync_alarms([ALARM], NOW + HOUR, about=FAS)
    store.sync_alarms([replace(ALARM, text="Look again.")], NOW + 2 * HOUR, about=FAS)
    assert [each.message.kind for each in stored(engine)] == ["server_unreachable"]
    _, cleared = store.sync_alarms([], NOW + 3 * HOUR, about=FAS)
    assert [each.kind for each in cleared] == ["server_unreachable"]
    store.sync_alarms([ALARM], NOW + 4 * HOUR, about=FAS)
    assert len(stored(engine)) == 2


def test_an_alarm_that_becomes_more_severe_is_told_again_once(engine: Engine) -> None:
    """A warning that becomes critical reaches those who are told of what is urgent alone; milder words reach nobody."""
    store, clock = TrustStore(engine), Clock()
    severe = replace(ALARM, severity=Severity.CRITICAL)
    night = Way(name="webhook:night", urgent_only=True)
    for each in (ALARM, severe, severe, ALARM, severe):
        store.sync_alarms([each], clock.now, about=FAS)
        courier(engine, (night,), clock).deliver_due()
        clock.now += MINUTE
    assert [each.message.severity for each in night.arrived] == [Severity.CRITICAL]
    assert [each.message.severity for each in stored(engine)] == [Severity.CRITICAL, Severity.WARNING]


def test_an_alarm_that_comes_and_goes_is_told_once_a_day(engine: Engine) -> None:
    """Who was told hears of no end, so that its return says nothing new; as something worse it does."""
    store = TrustStore(engine)
    for step in range(2 * 24 * 6):
        store.sync_alarms([ALARM] if step % 2 == 0 else [], NOW + step * 10 * MINUTE, about=FAS)
    assert len(stored(engine)) == 2
    store.sync_alarms([replace(ALARM, severity=Severity.CRITICAL)], NOW + 2 * DAY, about=FAS)
    assert next(each.message.severity for each in stored(engine)) is Severity.CRITICAL


def kinds(engine: Engine) -> list[str]:
    """What was told, oldest first."""
    return [each.message.kind for each in reversed(stored(engine))]


def test_who_was_told_of_an_alarm_hears_once_that_it_is_over_and_how_long_it_stood(engine: Engine) -> None:
    """An hour after it ended, with its facts, and with what stands besides; not again, nor after a restart."""
    store = TrustStore(engine)
    other = replace(ALARM, kind="renewal_failing", key="request")
    store.sync_alarms([replace(ALARM, facts=(("CA", "ca1"),)), other], NOW, about=FAS)
    store.sync_alarms([other], NOW + 5 * HOUR, about=FAS)
    store.sync_alarms([other], NOW + 6 * HOUR - SECOND, about=FAS)
    assert kinds(engine) == ["server_unreachable", "renewal_failing"]
    for later in (6 * HOUR, 6 * HOUR + MINUTE, 2 * DAY):
        TrustStore(engine).sync_alarms([other], NOW + later, about=FAS)
    (over,) = (each.message for each in stored(engine) if each.message.kind == "alarm_over")
    assert over.title == "FAS1: over: the FAS server does not answer"
    assert over.paragraphs == (
        "This is over, after 5 hours: the FAS server does not answer.",
        "Another alarm stands: the renewal fails.",
    )
    assert (over.severity, over.urgent, over.todo) == (Severity.NOTICE, False, ())
    facts = dict(over.facts)
    assert (facts["CA"], facts["Alarm"]) == ("ca1", "server_unreachable")
    assert (facts["Since"], facts["Until"]) == ("2026-01-01T12:00:00Z", "2026-01-01T17:00:00Z")


def test_an_alarm_that_comes_and_goes_is_over_once(engine: Engine) -> None:
    """Not told at each flap; the whole time counts, from the first to the last."""
    store = TrustStore(engine)
    for step in range(20):
        store.sync_alarms([ALARM] if step % 2 == 0 else [], NOW + step * 30 * MINUTE, about=FAS)
    end = NOW + 19 * 30 * MINUTE
    for later in (30 * MINUTE, HOUR, 2 * HOUR):
        store.sync_alarms([], end + later, about=FAS)
    assert kinds(engine) == ["server_unreachable", "alarm_over"]
    assert "over, after 9 hours" in stored(engine)[0].message.paragraphs[0]
    store.sync_alarms([ALARM], end + 3 * HOUR, about=FAS)
    assert kinds(engine)[2:] == ["server_unreachable"]


def test_the_end_of_an_alarm_that_nobody_was_told_of_is_not_told(engine: Engine) -> None:
    """One that stood before there were messages ends as silently; so does what tells of an act."""
    store = TrustStore(engine)
    act = replace(ALARM, kind="window_overridden")
    store.sync_alarms([ALARM, act], NOW, about=FAS)
    with writing(engine) as connection:
        connection.execute(update(database.alarms).where(database.alarms.c.kind == ALARM.kind).values(told=None))
    store.sync_alarms([], NOW + HOUR, about=FAS)
    store.sync_alarms([], NOW + 3 * HOUR, about=FAS)
    assert "alarm_over" not in kinds(engine)


def test_a_level_that_gives_way_to_the_next_is_not_over(engine: Engine) -> None:
    """30 days, 7 days, expired: over once, when nothing of it stands, for those too who take what is urgent alone."""
    store = TrustStore(engine)
    month = replace(ALARM, kind="authcert_expiring", key="ab:30d")
    week = replace(month, key="ab:7d", severity=Severity.CRITICAL)
    expired = replace(week, kind="authcert_expired", key="ab")
    for day, alarms in ((0, [month]), (23, [week]), (30, [expired]), (31, []), (32, []), (33, [])):
        store.sync_alarms(alarms, NOW + day * DAY, about=FAS)
        store.sync_alarms(alarms, NOW + day * DAY + 2 * HOUR, about=FAS)
    assert kinds(engine) == ["authcert_expiring", "authcert_expiring", "authcert_expired", "alarm_over"]
    over = stored(engine)[0].message
    assert "over, after 31 days: the authorization certificate has expired" in over.paragraphs[0]
    assert over.urgent


def test_alarms_are_forgotten_90_days_after_they_ended_and_what_told_of_them_not_before(engine: Engine) -> None:
    """One that stands for half a year is over with all that people were told of it."""
    store, clock, mail = TrustStore(engine), Clock(), Way()
    store.sync_alarms([ALARM], NOW, about=FAS)
    there = courier(engine, (mail,), clock)
    there.deliver_due()
    clock.now = NOW + 180 * DAY
    there.deliver_due()
    store.sync_alarms([], clock.now, about=FAS)
    clock.now += 2 * HOUR
    store.sync_alarms([], clock.now, about=FAS)
    there.deliver_due()
    assert [each.message.kind for each in mail.arrived] == ["server_unreachable", "alarm_over"]
    assert "after 180 days" in mail.arrived[1].message.paragraphs[0]
    assert kinds(engine) == ["alarm_over"]
    rows = select(func.count()).select_from(database.alarms)
    for days, left in ((89, 2), (91, 1)):
        store.sync_alarms([ALARM] if days == 89 else [], NOW + (180 + days) * DAY, about=FAS)
        with database.reading(engine) as connection:
            assert connection.scalar(rows) == left


def test_alarms_that_stood_before_there_were_messages_are_not_told_after_the_upgrade(tmp_path: Path) -> None:
    """Revision 0003 keeps open alarms as they are, so that nobody gets a mail for each."""
    url = url_of(tmp_path / "a.db")
    config = database._alembic_config()
    before = create_engine(f"sqlite:///{tmp_path / 'a.db'}")
    with before.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        row = "'metadata_aging', 'https://idp.example', '', 'warning', 'Look.', 1767268800000000"
        connection.execute(text(f"INSERT INTO alarms (kind, entity_id, key, severity, text, raised_at) VALUES ({row})"))
    before.dispose()
    database.upgrade(url)
    engine = open_database(url)
    alarm = replace(ALARM, kind="metadata_aging", entity_id="https://idp.example", about="idp")
    assert TrustStore(engine).sync_alarms([alarm], NOW) == ((), ())
    assert [each.about for each in TrustStore(engine).open_alarms()] == ["idp"]
    assert stored(engine) == ()
    engine.dispose()


def test_a_name_that_no_database_takes_ends_no_alarm(engine: Engine) -> None:
    """A definition may be called anything: its alarm stands, escaped, and so do all others; once."""
    odd = replace(ALARM, key="\ud800", text="Definition \ud800 is odd.")
    store = TrustStore(engine)
    raised, _ = store.sync_alarms([odd, ALARM], NOW, about=FAS)
    assert [each.text for each in raised] == ["Definition \\ud800 is odd.", "Look."]
    assert store.sync_alarms([odd, ALARM], NOW + HOUR, about=FAS) == ((), ())
    assert len(stored(engine)) == 2


def test_who_looks_at_servers_clears_nothing_about_idps(engine: Engine) -> None:
    """Each caller's alarms are its own, also where two kinds of things have one name."""
    store = TrustStore(engine)
    idp = replace(ALARM, about="idp")
    store.sync_alarms([idp], NOW)
    raised, cleared = store.sync_alarms([ALARM], NOW, about=FAS)
    assert ([each.about for each in raised], cleared) == (["fas_server"], ())
    assert [each.about for each in store.open_alarms()] == ["idp", "fas_server"]
    assert [each.about for each in store.open_alarms("FAS1")] == ["idp"]
    assert [each.about for each in store.open_alarms(about=FAS)] == ["fas_server"]
    store.sync_alarms([], NOW + HOUR)
    assert [each.about for each in store.open_alarms()] == ["fas_server"]


def test_of_levels_reached_at_once_one_message_tells(engine: Engine) -> None:
    """All stand, and the closest is told."""
    levels = [replace(ALARM, kind="certificate_expiring", key=f"ab:{days}d") for days in (60, 30, 14)]
    raised, _ = TrustStore(engine).sync_alarms(levels, NOW, about=FAS)
    assert len(raised) == 3
    (message,) = stored(engine)
    assert ":ab:14d:" in message.message.fact


def test_the_alarm_of_undelivered_messages_ends(engine: Engine) -> None:
    """Promise 59: told once by every way, not told of itself, and gone when what it tells of is."""
    clock, mail = Clock(), Way(problem=NotDelivered("550 no", permanent=True))
    store, box = TrustStore(engine), Outbox(engine)
    written(engine, "a")
    there = courier(engine, (mail,), clock)
    counts = []
    for _ in range(24 * 8):
        there.deliver_due()
        store.sync_alarms(undelivered_alarms(box.undelivered(clock.now), clock.now), clock.now, about=SERVICE)
        counts.append(len(store.open_alarms()))
        clock.now += HOUR
    assert counts[0] == 1
    assert counts[-1] == 0
    assert kinds(engine) == ["approval_needed", "messages_undelivered", "alarm_over"]


def test_a_message_that_nobody_tries_is_noticed(engine: Engine) -> None:
    """Promise 59: where no courier runs any more, what waits is known after an hour."""
    written(engine, "a")
    Outbox(engine).queue((Way(),), NOW)
    assert Outbox(engine).undelivered(NOW + HOUR - SECOND) == ()
    (undelivered,) = Outbox(engine).undelivered(NOW + HOUR)
    assert (undelivered.waiting, undelivered.problem) == (1, "nobody tried")
