"""The channels that are configured, opened; and a message by each to try them."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from evidence_service.adapters.graph import GraphChannel
from evidence_service.adapters.mail import PickupChannel, SmtpChannel
from evidence_service.adapters.sending import Channel, NotDelivered, Outgoing
from evidence_service.adapters.webhook import PREFIX, WebhookChannel
from evidence_service.notices.model import Audience, Channels, Graph, Mail, Smtp
from evidence_service.notices.trial import trial_message

__all__ = ("Channel", "NotDelivered", "Outgoing", "Tried", "find_channels", "open_channels", "send_test")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What came of a test message by one channel; `problem` is one line with the remedy, None where it went out.

    `unusable`: the channel takes nothing at present, whatever the message.
    """

    channel: str
    problem: str | None
    unusable: bool = False


def open_channels(channels: Channels) -> tuple[Channel, ...]:
    """What messages go out by. Nothing is connected before something is sent."""
    mail = () if channels.mail is None else (_mail(channels.mail),)
    return (*mail, *(WebhookChannel(each) for each in channels.webhooks))


def find_channels(channels: Channels, name: str | None) -> tuple[Channel, ...]:
    """The channels of this name, `mail` or that of a webhook; all where it is None."""
    return tuple(each for each in open_channels(channels) if name is None or each.name in (name, f"{PREFIX}{name}"))


def send_test(channels: Sequence[Channel], now: datetime, *, audience: Audience = Audience.OPERATORS) -> list[Tried]:
    """Send a test message by each channel, now and past the outbox."""
    return [_try(each, now, audience) for each in channels]


def _try(channel: Channel, now: datetime, audience: Audience) -> Tried:
    outgoing = Outgoing(id=secrets.token_hex(16), message=trial_message(audience, now), created_at=now)
    try:
        channel.send(outgoing)
    except NotDelivered as problem:
        return Tried(channel=channel.name, problem=str(problem), unusable=problem.whole_channel)
    return Tried(channel=channel.name, problem=None)


def _mail(mail: Mail) -> Channel:
    if isinstance(mail.transport, Smtp):
        return SmtpChannel(mail, mail.transport)
    if isinstance(mail.transport, Graph):
        return GraphChannel(mail, mail.transport)
    return PickupChannel(mail, mail.transport)
