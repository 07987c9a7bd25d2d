"""What is known of messages that did not reach people, and the alarm that says so by every other way."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from evidence_service.notices.model import About
from idp_certs.alarms import Alarm, Severity, instant_text, span_text

KIND = "messages_undelivered"
"""The kind of the alarm. What is told of it is not counted as undelivered itself, so that the alarm can end."""
WAITING_ALARM = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Undelivered:
    """What is undelivered on one channel: `waiting` to be sent again, and `abandoned` lately.

    `oldest` (UTC) is when the oldest of these messages was written. `problem` is the last reason, in one line.
    """

    channel: str
    waiting: int
    abandoned: int
    oldest: datetime
    problem: str


def undelivered_alarms(undelivered: tuple[Undelivered, ...], now: datetime) -> tuple[Alarm, ...]:
    """One alarm for each channel on which something waits for more than an hour, or was given up (promise 59)."""
    return tuple(
        Alarm(
            kind=KIND,
            entity_id="fas-evidence",
            key=each.channel,
            severity=Severity.CRITICAL,
            text=_text(each, now),
            about=About.SERVICE.value,
            todo=(
                "See what is undelivered: `fas-evidence notify list`.",
                f"Correct the channel, then try it: `fas-evidence notify test --channel {each.channel}`.",
            ),
        )
        for each in undelivered
        if each.abandoned or now - each.oldest >= WAITING_ALARM
    )


def _text(each: Undelivered, now: datetime) -> str:
    parts = []
    if each.waiting:
        parts.append("1 waits and is tried again" if each.waiting == 1 else f"{each.waiting} wait and are tried again")
    if each.abandoned:
        parts.append(f"{each.abandoned} {'was' if each.abandoned == 1 else 'were'} given up")
    return (
        f"Messages do not reach people by {each.channel} since {instant_text(each.oldest)} "
        f"({span_text(now - each.oldest)}): {' and '.join(parts)}. The last reason: {each.problem.rstrip('.')}."
    )
