"""What people are told, kept until it has reached them, and the courier that takes it there (promise 59).

A message is written in the transaction of what it tells, and sent from here afterwards: nothing waits for mail. Each is
delivered on each channel at least once, with the same id however often it is sent. What cannot be delivered is tried
again for 14 days, at stored times, and then counts as undelivered.

Where people read, messages of one kind that are due together go out as one, by the id of the first. Which those are is
stored before it is sent, so that it is the same however often it is.
"""

from __future__ import annotations

import json
import queue
import secrets
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from random import SystemRandom
from typing import Any

import msgspec
import structlog
from sqlalchemy import Connection, Engine, Row, and_, delete, exists, func, or_, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from evidence_service.adapters.database import alarms, deliveries, outbox, reading, writing
from evidence_service.adapters.idp_rows import printable
from evidence_service.adapters.sending import Channel, NotDelivered, Outgoing
from evidence_service.notices.combined import MOST_COMBINED, combined, may_be_combined
from evidence_service.notices.model import About, Audience, Message
from evidence_service.notices.undelivered import KIND, WAITING_ALARM, Undelivered
from idp_certs.alarms import Severity

_log = structlog.get_logger(__name__)
_jitter = SystemRandom().random

FIRST_RETRY, LAST_RETRY = timedelta(minutes=1), timedelta(hours=1)
GIVEN_UP_AFTER = timedelta(days=14)
TOLD_ABANDONED = timedelta(days=3)
"""How long what was given up counts as undelivered; it stays in the list."""
KEPT = timedelta(days=90)
LATE_CHANNEL = timedelta(days=1)
"""A channel that is set up later gets the messages of the last day, and not all that ever was."""
_NO_MESSAGE = 2**62
_IN_HAND = timedelta(minutes=5)
"""How long nobody else takes a delivery that is being tried; a process that died has it tried again after that."""
_MAX_DOUBLINGS = 6
TOGETHER = timedelta(minutes=15)
"""How long the next message of a kind waits for others of it, once people have one: a CA that is down is seen by one
FAS server after the other."""
SEND_SECONDS = 120.0
"""How long one channel may keep the others waiting; each step of its protocol has a shorter time of its own."""


class DeliveryState(StrEnum):
    """How far a message is on one channel."""

    QUEUED = "queued"
    DELIVERED = "delivered"
    ABANDONED = "abandoned"
    SKIPPED = "skipped"
    """The channel does not take such messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A message on one channel, or several that go out as one: `seqs` are theirs. Times are UTC."""

    seqs: tuple[int, ...]
    channel: str
    state: DeliveryState
    attempts: int
    jitter: float
    next_attempt_at: datetime
    delivered_at: datetime | None
    problem: str | None
    outgoing: Outgoing


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMessage:
    """A message, and how far it is on each channel. Times are UTC."""

    id: str
    created_at: datetime
    message: Message
    deliveries: tuple[Delivery, ...]


def put(connection: Connection, message: Message, now: datetime) -> int:
    """Write the message in the caller's transaction, unless its fact is written already; answers its `seq`."""
    connection.execute(
        upsert(outbox)
        .values(
            id=secrets.token_hex(16),
            fact=printable(message.fact),
            kind=message.kind,
            about=message.about.value,
            subject=printable(message.subject),
            severity=message.severity.value,
            audience=message.audience.value,
            message=_dump(message),
            created_at=now,
        )
        .on_conflict_do_nothing(index_elements=["fact"])
    )
    return int(connection.execute(select(outbox.c.seq).where(outbox.c.fact == printable(message.fact))).scalar_one())


class Outbox:
    """Reads and changes what is to be told. Every method may raise StoreUnavailable; every `now` is aware."""

    def __init__(self, engine: Engine) -> None:
        """Use this database."""
        self._engine = engine

    def queue(self, channels: Sequence[Channel], now: datetime) -> None:
        """Make each message known to each channel that takes it and does not know it yet.

        That is what was written in the last day, or while nobody delivered after the channel had got its last: a worker
        that was off for long loses nothing.
        """
        wanted = [(channel, self._unknown_to(channel, now)) for channel in channels]
        if not any(rows for _, rows in wanted):
            return
        with writing(self._engine) as connection:
            for channel, rows in wanted:
                for row in rows:
                    taken = channel.takes(load_message(row.message))
                    last = _last_told(connection, channel.name, row) if channel.combines else None
                    values = {
                        "message_seq": row.seq,
                        "channel": channel.name,
                        "state": (DeliveryState.QUEUED if taken else DeliveryState.SKIPPED).value,
                        "next_attempt_at": now if last is None else min(max(now, last + TOGETHER), now + TOGETHER),
                        "jitter": _jitter(),
                    }
                    connection.execute(upsert(deliveries).values(values).on_conflict_do_nothing())

    def _unknown_to(self, channel: Channel, now: datetime) -> Sequence[Row[Any]]:
        known = exists().where(deliveries.c.message_seq == outbox.c.seq, deliveries.c.channel == channel.name)
        queued = exists().where(deliveries.c.message_seq == outbox.c.seq)
        with reading(self._engine) as connection:
            last = select(func.max(deliveries.c.message_seq)).where(deliveries.c.channel == channel.name)
            missed = and_(~queued, outbox.c.seq > (connection.scalar(last) or _NO_MESSAGE))
            statement = select(outbox).where(~known, or_(outbox.c.created_at > now - LATE_CHANNEL, missed))
            return connection.execute(statement.order_by(outbox.c.seq)).all()

    def take(self, now: datetime, channels: Sequence[str], combining: Collection[str] = ()) -> Delivery | None:
        """The next delivery that is due, which nobody else takes for a while; None where none is.

        On the channels `combining` all that is due of its kind goes with it. The attempt is counted before it is made,
        so that a message that ends the process is not tried in a circle.
        """
        due = (
            deliveries.c.state == DeliveryState.QUEUED.value,
            # What is planned for later than we ever plan was planned by a clock that was wrong.
            or_(deliveries.c.next_attempt_at <= now, deliveries.c.next_attempt_at > now + LAST_RETRY),
            deliveries.c.channel.in_(channels),
        )
        with reading(self._engine) as connection:
            if connection.execute(select(deliveries.c.message_seq).where(*due).limit(1)).first() is None:
                return None
        with writing(self._engine) as connection:
            order = (deliveries.c.next_attempt_at, deliveries.c.message_seq)
            row = connection.execute(_joined().where(*due).order_by(*order).limit(1)).first()
            if row is None:
                return None
            together = _joined().where(deliveries.c.channel == row.channel).order_by(deliveries.c.message_seq)
            if row.sent_with is not None:
                same = (deliveries.c.sent_with == row.sent_with, deliveries.c.state == DeliveryState.QUEUED.value)
                rows = connection.execute(together.where(*same)).all()
            elif row.channel in combining and may_be_combined(_audience(row)):
                same = (*due, *_kind_of(row), deliveries.c.sent_with.is_(None))
                rows = connection.execute(together.where(*same).limit(MOST_COMBINED)).all()
            else:
                rows = [row]
            delivery = _delivery(rows, row.attempts + 1)
            values = {
                "attempts": delivery.attempts,
                "next_attempt_at": now + _IN_HAND,
                "sent_with": row.sent_with or rows[0].message_seq,
            }
            connection.execute(update(deliveries).where(*_these(delivery)).values(values))
        return delivery

    def delivered(self, delivery: Delivery, now: datetime) -> None:
        """It has reached the channel."""
        self._set(delivery, state=DeliveryState.DELIVERED.value, delivered_at=now, problem=None)

    def failed(self, delivery: Delivery, problem: str, next_attempt_at: datetime, *, whole_channel: bool) -> None:
        """It is tried again at `next_attempt_at`; so is all else on the channel where that does not answer at all."""
        with writing(self._engine) as connection:
            connection.execute(
                update(deliveries)
                .where(*_these(delivery))
                .values(problem=printable(problem), next_attempt_at=next_attempt_at)
            )
            if whole_channel:
                connection.execute(
                    update(deliveries)
                    .where(
                        deliveries.c.channel == delivery.channel,
                        deliveries.c.state == DeliveryState.QUEUED.value,
                        deliveries.c.next_attempt_at < next_attempt_at,
                    )
                    .values(problem=printable(problem), next_attempt_at=next_attempt_at)
                )

    def separated(self, delivery: Delivery, problem: str, now: datetime) -> None:
        """What was sent as one, and reached nobody, is sent one by one: what is wrong with one holds up no other."""
        own = deliveries.c.message_seq
        self._set(delivery, sent_with=own, next_attempt_at=now, problem=printable(problem))

    def abandoned(self, delivery: Delivery, problem: str) -> None:
        """It is not tried again."""
        self._set(delivery, state=DeliveryState.ABANDONED.value, problem=printable(problem))

    def give_up_others(self, channels: Sequence[str], now: datetime) -> None:
        """What waits for a channel that is configured no more is given up after a day; until then it may come back."""
        old = exists().where(outbox.c.seq == deliveries.c.message_seq, outbox.c.created_at <= now - LATE_CHANNEL)
        waits = (
            deliveries.c.state == DeliveryState.QUEUED.value,
            deliveries.c.channel.not_in(channels),
            old,
        )
        with reading(self._engine) as connection:
            if connection.execute(select(deliveries.c.message_seq).where(*waits).limit(1)).first() is None:
                return
        values = {"state": DeliveryState.ABANDONED.value, "problem": "the channel is configured no more"}
        with writing(self._engine) as connection:
            connection.execute(update(deliveries).where(*waits).values(values))

    def undelivered(self, now: datetime) -> tuple[Undelivered, ...]:
        """What did not reach people, by channel: for the banner, the metrics and the alarm."""
        waits = and_(
            deliveries.c.state == DeliveryState.QUEUED.value,
            deliveries.c.problem.is_not(None) | (outbox.c.created_at <= now - WAITING_ALARM),
        )
        given_up = and_(
            deliveries.c.state == DeliveryState.ABANDONED.value, deliveries.c.next_attempt_at > now - TOLD_ABANDONED
        )
        # What tells of the alarm, and of its end, is not counted itself: it would never end.
        ends = outbox.c.fact.startswith(f"over:alarm:{About.SERVICE}:{KIND}:", autoescape=True)
        statement = _joined().where(waits | given_up, outbox.c.kind != KIND, ~ends)
        found: dict[str, list[Row[Any]]] = {}
        with reading(self._engine) as connection:
            for row in connection.execute(statement.order_by(outbox.c.seq)):
                found.setdefault(row.channel, []).append(row)
        return tuple(
            Undelivered(
                channel=channel,
                waiting=sum(row.state == DeliveryState.QUEUED.value for row in rows),
                abandoned=sum(row.state == DeliveryState.ABANDONED.value for row in rows),
                oldest=rows[0].created_at,
                problem=rows[-1].problem or "nobody tried",
            )
            for channel, rows in sorted(found.items())
        )

    def messages(self, *, limit: int = 50) -> tuple[StoredMessage, ...]:
        """The last messages, newest first, and before them in any case those that are not delivered."""
        undelivered = exists().where(
            deliveries.c.message_seq == outbox.c.seq,
            deliveries.c.state.in_([DeliveryState.QUEUED.value, DeliveryState.ABANDONED.value]),
        )
        newest = select(outbox.c.seq).order_by(outbox.c.seq.desc()).limit(limit).scalar_subquery()
        statement = select(outbox).where(undelivered | outbox.c.seq.in_(newest)).order_by(outbox.c.seq.desc())
        with reading(self._engine) as connection:
            rows = connection.execute(statement).all()
            joined = _joined().where(deliveries.c.message_seq.in_([row.seq for row in rows]))
            states: dict[int, list[Delivery]] = {}
            for row in connection.execute(joined.order_by(deliveries.c.channel)):
                states.setdefault(row.message_seq, []).append(_delivery([row], row.attempts))
        return tuple(
            StoredMessage(
                id=row.id,
                created_at=row.created_at,
                message=load_message(row.message),
                deliveries=tuple(states.get(row.seq, ())),
            )
            for row in rows
        )

    def sent_as(self, id_: str) -> tuple[Outgoing, ...]:
        """What goes out by the ids that begin so: each message with those that are combined with it, uncut."""
        leads = select(outbox.c.seq).where(outbox.c.id.startswith(id_, autoescape=True))
        found = []
        with reading(self._engine) as connection:
            for lead in connection.scalars(leads.order_by(outbox.c.seq).limit(2)).all():
                with_it = select(deliveries.c.message_seq).where(deliveries.c.sent_with == lead)
                statement = select(outbox).where((outbox.c.seq == lead) | outbox.c.seq.in_(with_it))
                rows = connection.execute(statement.order_by(outbox.c.seq)).all()
                found.append(_outgoing(next(row.id for row in rows if row.seq == lead), rows))
        return tuple(found)

    def prune(self, now: datetime) -> int:
        """Forget messages older than 90 days of which nothing waits, nor their alarm's end; returns how many."""
        waits = exists().where(
            deliveries.c.message_seq == outbox.c.seq, deliveries.c.state == DeliveryState.QUEUED.value
        )
        ends = exists().where(alarms.c.told == outbox.c.seq)
        old = (outbox.c.created_at < now - KEPT, ~waits, ~ends)
        with reading(self._engine) as connection:
            if not connection.execute(select(func.count()).select_from(outbox).where(*old)).scalar_one():
                return 0
        with writing(self._engine) as connection:
            seqs = connection.scalars(select(outbox.c.seq).where(*old)).all()
            connection.execute(delete(deliveries).where(deliveries.c.message_seq.in_(seqs)))
            connection.execute(delete(outbox).where(outbox.c.seq.in_(seqs)))
        return len(seqs)

    def _set(self, delivery: Delivery, **values: object) -> None:
        with writing(self._engine) as connection:
            connection.execute(update(deliveries).where(*_these(delivery)).values(values))


class Courier:
    """Takes what is due to the channels; for a thread of its own, since a channel may take long to answer."""

    def __init__(
        self,
        engine: Engine,
        channels: Sequence[Channel],
        clock: Callable[[], datetime],
        *,
        send_seconds: float = SEND_SECONDS,
    ) -> None:
        """Deliver by these channels; `clock` answers in UTC. `send_seconds` is for tests."""
        self._outbox = Outbox(engine)
        self._channels = {each.name: each for each in channels}
        self._combining = frozenset(each.name for each in channels if each.combines)
        self._clock = clock
        self._send_seconds = send_seconds
        self._hanging: dict[str, threading.Thread] = {}
        self._late: dict[tuple[str, str], queue.SimpleQueue[NotDelivered | None]] = {}

    def deliver_due(self, stopping: Callable[[], bool] = lambda: False) -> int:
        """Try everything that is due once; returns how many were delivered. Raises StoreUnavailable.

        A channel that does not answer is left alone for the rest of the pass. Ends early when `stopping` says so.
        """
        self._outbox.queue(tuple(self._channels.values()), self._clock())
        self._outbox.give_up_others(tuple(self._channels), self._clock())
        self._outbox.prune(self._clock())
        answering, delivered = set(self._channels), 0
        while answering and not stopping():
            delivery = self._outbox.take(self._clock(), sorted(answering), self._combining)
            if delivery is None:
                break
            problem = self._try(delivery)
            delivered += len(delivery.seqs) if problem is None else 0
            if problem is not None and problem.whole_channel:
                answering.discard(delivery.channel)
        return delivered

    def _try(self, delivery: Delivery) -> NotDelivered | None:
        told = {
            "channel": delivery.channel,
            "message": delivery.outgoing.id,
            "kind": delivery.outgoing.message.kind,
            "messages": len(delivery.seqs),
        }
        problem = self._sent(self._channels[delivery.channel], delivery.outgoing)
        now = self._clock()
        if problem is None:
            self._outbox.delivered(delivery, now)
            _log.info("message_delivered", **told)
        elif problem.content and len(delivery.seqs) > 1:
            self._outbox.separated(delivery, str(problem), now)
            _log.warning("messages_separated", problem=str(problem), **told)
        elif problem.permanent or now - delivery.outgoing.created_at >= GIVEN_UP_AFTER:
            self._outbox.abandoned(delivery, str(problem))
            _log.error("message_abandoned", problem=str(problem), **told)
        else:
            again = now + max(_wait(delivery), problem.retry_after or timedelta(0))
            self._outbox.failed(delivery, str(problem), again, whole_channel=problem.whole_channel)
            _log.warning("message_not_delivered", problem=str(problem), again_at=again.isoformat(), **told)
        return problem

    def _sent(self, channel: Channel, outgoing: Outgoing) -> NotDelivered | None:
        """As `_sent`, for no longer than others may wait, whatever a server, a name or a directory keeps it with.

        What a slow server takes after that has arrived, and is not sent again.
        """
        before = self._hanging.get(channel.name)
        if before is not None and before.is_alive():
            return NotDelivered("it is still kept waiting by the attempt before", whole_channel=True)
        late = self._late.pop((channel.name, outgoing.id), None)
        if late is not None and not late.empty() and late.get() is None:
            return None
        answers: queue.SimpleQueue[NotDelivered | None] = queue.SimpleQueue()
        thread = threading.Thread(
            target=lambda: answers.put(_sent(channel, outgoing)), name=f"sends {channel.name}", daemon=True
        )
        thread.start()
        try:
            return answers.get(timeout=self._send_seconds)
        except queue.Empty:
            self._hanging[channel.name] = thread
            self._late[channel.name, outgoing.id] = answers
            return NotDelivered(f"no end after {self._send_seconds:g} s; see what keeps it", whole_channel=True)


def _sent(channel: Channel, outgoing: Outgoing) -> NotDelivered | None:
    """Why it was not delivered; None where it was."""
    try:
        channel.send(outgoing)
    except NotDelivered as problem:
        return problem
    except Exception as error:  # noqa: BLE001 - one message that cannot be sent must not hold up all others
        _log.exception("message_failed", channel=channel.name, message=outgoing.id)
        return NotDelivered(f"an internal error, {type(error).__name__}; see the log", content=True)
    return None


def _wait(delivery: Delivery) -> timedelta:
    """From one minute up to an hour, of which jitter takes off up to half."""
    doubled = FIRST_RETRY * 2 ** min(delivery.attempts - 1, _MAX_DOUBLINGS)
    wait: timedelta = min(doubled, LAST_RETRY)
    return wait * (1 - delivery.jitter / 2)


def _these(delivery: Delivery) -> tuple[Any, ...]:
    return deliveries.c.message_seq.in_(delivery.seqs), deliveries.c.channel == delivery.channel


def _kind_of(row: Row[Any]) -> tuple[Any, ...]:
    return outbox.c.kind == row.kind, outbox.c.audience == row.audience


def _audience(row: Row[Any]) -> Audience:
    return Audience.APPROVERS if row.audience == Audience.APPROVERS.value else Audience.OPERATORS


def _last_told(connection: Connection, channel: str, row: Row[Any]) -> datetime | None:
    """When people last got a message that this one could have been combined with."""
    if not may_be_combined(_audience(row)):
        return None
    statement = select(deliveries.c.delivered_at).join(outbox, outbox.c.seq == deliveries.c.message_seq)
    same = (*_kind_of(row), deliveries.c.channel == channel, deliveries.c.delivered_at.is_not(None))
    return connection.scalar(statement.where(*same).order_by(deliveries.c.delivered_at.desc()).limit(1))


def _joined() -> Any:  # noqa: ANN401 - its type says nothing
    columns = (outbox.c.id, outbox.c.kind, outbox.c.audience, outbox.c.message, outbox.c.created_at)
    return select(deliveries, *columns).join(outbox, outbox.c.seq == deliveries.c.message_seq)


def _delivery(rows: Sequence[Row[Any]], attempts: int) -> Delivery:
    first = rows[0]
    return Delivery(
        seqs=tuple(row.message_seq for row in rows),
        channel=first.channel,
        state=DeliveryState(first.state),
        attempts=attempts,
        jitter=first.jitter,
        next_attempt_at=first.next_attempt_at,
        delivered_at=first.delivered_at,
        problem=first.problem,
        outgoing=_outgoing(first.id, rows),
    )


def _outgoing(id_: str, rows: Sequence[Row[Any]]) -> Outgoing:
    message = combined([load_message(row.message) for row in rows])
    return Outgoing(id=id_, message=message, created_at=max(row.created_at for row in rows))


def _dump(message: Message) -> str:
    # ASCII, so that a lone surrogate is stored too; what people see is escaped where it is rendered.
    return json.dumps(msgspec.to_builtins(message))


def load_message(text: str) -> Message:
    """A message as it is stored."""
    try:
        return msgspec.convert(json.loads(text), type=Message)
    except ValueError:
        return _DAMAGED  # told in its place, so that it neither vanishes nor holds up all others


_DAMAGED = Message(
    fact="damaged",
    kind="message_damaged",
    about=About.SERVICE,
    subject="fas-evidence",
    severity=Severity.WARNING,
    audience=Audience.OPERATORS,
    title="fas-evidence: a stored message cannot be read",
    paragraphs=("It was changed from outside, or written by a later release. What it told of is in the journal.",),
    todo=("See what stands: `fas-evidence alarm list`.",),
)
