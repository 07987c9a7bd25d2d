"""Cmdlets called one by one in a PowerShell session, with objects coming back: the transports to a FAS server.

No script text is built from values anywhere (decision 14). A transport refuses a cmdlet that is not in
`evidence_service.renewal.cmdlets.CMDLETS`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, Self

from evidence_service.adapters.sending import harmless
from evidence_service.renewal.cmdlets import CMDLETS, Cmdlet

MOST_OBJECTS = 10_000
"""That are taken from one call; the longest that is asked for are 500 events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRecord:
    """One PowerShell error: its message, its fully qualified id, and its category.

    `exceptions` are the names of the .NET types of its exception and of what caused that, the outermost first.
    """

    message: str
    error_id: str = ""
    category: str = ""
    exceptions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CmdletResult:
    """What one call wrote.

    `objects` are the properties by name of each object, or the value under the name "" for a bare string or number.
    Values are str, bool, int, datetime (aware, UTC), bytes, None, and lists and dicts of these; an enumeration is the
    text of its member. With any error the call counts as refused. Warnings and progress say nothing and are left out.
    """

    objects: tuple[Mapping[str, object], ...] = ()
    errors: tuple[ErrorRecord, ...] = ()


class PowerShell(Protocol):
    """One session on a FAS server or a management machine; a context manager that closes it."""

    def __enter__(self) -> Self:
        """Open it. Raises FasUnreachable."""

    def __exit__(self, *exception: object) -> None:
        """Close it; never raises."""

    def invoke(self, cmdlet: Cmdlet) -> CmdletResult:
        """Call one cmdlet.

        Raises FasUnreachable where it was certainly not called, FasAnswerUnknown where it may have been. Raises
        ValueError for a cmdlet that is not allowed.
        """


def allowed(cmdlet: Cmdlet) -> Cmdlet:
    """The cmdlet itself. Raises ValueError for one that this service never calls, before anything is sent."""
    if cmdlet.name not in CMDLETS:
        raise ValueError(f"{cmdlet.name} is not a cmdlet that this service calls.")
    return cmdlet


def instant(text: str) -> datetime | None:
    """A .NET DateTime as XML writes it, in UTC; None for other text, and for what UTC cannot express.

    Without a zone (DateTimeKind.Unspecified) it is taken as UTC, which is what FAS's own certificates are written in.
    """
    if _XML_DATE_TIME.fullmatch(text) is None:
        return None
    try:
        read = datetime.fromisoformat(text)
        return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def one_line(text: object) -> str:
    """Any text without line breaks or anything unprintable, cut to what a person reads."""
    return harmless(" ".join(str(text).split())[:_LONGEST])[:_LONGEST]


_XML_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)?")
_LONGEST = 500
