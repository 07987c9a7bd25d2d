"""What every channel is: a message goes out by it, or there is one reason why not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from evidence_service.notices.model import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A message to be sent. `id` stays the same however often it is sent; `created_at` is UTC."""

    id: str
    message: Message
    created_at: datetime


class NotDelivered(Exception):  # noqa: N818 - a state of the world
    """A message was not delivered; `str()` is one line that says why, without secrets.

    `permanent`: trying again cannot help. `whole_channel`: nothing else would be delivered at present either.
    `retry_after`: the channel asks for that much patience. `content`: what was sent may be at fault, so that what was
    combined is better sent one by one; that is so where it is refused for good.
    """

    def __init__(
        self,
        problem: str,
        *,
        permanent: bool = False,
        whole_channel: bool = False,
        retry_after: timedelta | None = None,
        content: bool | None = None,
    ) -> None:
        """`problem` is cut to one line of bounded length."""
        super().__init__(one_line(problem))
        self.permanent = permanent
        self.whole_channel = whole_channel
        self.retry_after = retry_after
        self.content = permanent if content is None else content


class Channel(Protocol):
    """One way to people."""

    @property
    def name(self) -> str:
        """What tells it from others, in the database and in commands."""

    @property
    def combines(self) -> bool:
        """Whether people read it, who rather have several messages of one kind in one."""

    def takes(self, message: Message) -> bool:
        """Whether this message goes out by it."""

    def send(self, outgoing: Outgoing) -> None:
        """Send it now. Raises NotDelivered."""


_MAX_PROBLEM = 300


def one_line(text: str) -> str:
    """What others say, on one line and not at any length; nothing unprintable."""
    return harmless(" ".join(text.split()))[:_MAX_PROBLEM]


def harmless(text: str) -> str:
    """The text on one line, with what would not print (line ends, bidirectional controls) as escape sequences."""
    return text if text.isprintable() else "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
