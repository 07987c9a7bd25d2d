"""Cmdlets called one by one in a PowerShell session, with objects coming back: the transports to a FAS server.

No script text is built from values anywhere (decision 14). A transport refuses a cmdlet that is not in
`evidence_service.renewal.cmdlets.CMDLETS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, Self

from evidence_service.renewal.cmdlets import Cmdlet


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRecord:
    """One PowerShell error: its message, its fully qualified id, and its category."""

    message: str
    error_id: str = ""
    category: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CmdletResult:
    """What one call wrote.

    `objects` are the properties by name of each object, or the value under the name "" for a bare string or number.
    Values are str, bool, int, datetime (aware, UTC), bytes, None, and lists and dicts of these; an enumeration is the
    text of its member. With any error the call counts as refused.
    """

    objects: tuple[Mapping[str, object], ...] = ()
    errors: tuple[ErrorRecord, ...] = ()
    warnings: tuple[str, ...] = ()


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
