"""What reaches a terminal or a pipe: escaped text, tables, JSON, instants, one-line errors.

Values out of evidence, metadata and the database are hostile. Nothing unprintable (control characters, ANSI
sequences, bidirectional and zero-width formatting, lone surrogates, unusual blanks) is written as it is.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from evidence_service.web.text import shown as harmless

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

SHOWN_CHARACTERS = 300
PIPE_WIDTH = 1000  # off a terminal a row is one line, so that grep and awk can work on it

_WHOLE = frozenset({"", "at", "check", "decision", "finding", "kind", "reason", "state"})  # codes are never broken


class Output(StrEnum):
    """How a reading command prints."""

    TABLE = "table"
    JSON = "json"


def escaped(text: str) -> str:
    """`text` on one line, with every character that is not plainly printable as an escape sequence."""
    return harmless(text, limit=len(text))


def shown(value: object) -> str:
    """Any value as one line for people: instants in UTC to the second, long texts cut."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return instant(value.replace(microsecond=0))
    return harmless(str(value), limit=SHOWN_CHARACTERS)


def instant(value: datetime) -> str:
    """`2026-01-31T12:00:00Z`; a fraction of a second only where there is one. Raises ValueError for naive values."""
    if value.tzinfo is None:
        raise ValueError("an instant without a time zone")
    return value.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def emit_json(value: object) -> None:
    """Print a value as JSON of ASCII only, so that nothing in it can reach a terminal as a control sequence."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=True) + "\n")


def emit_json_line(value: object) -> None:
    """Print a value as one line of JSON and hand it on at once."""
    sys.stdout.write(json.dumps(value, ensure_ascii=True) + "\n")
    sys.stdout.flush()


def console() -> Console:
    """Standard output for people: colour only on a terminal and without NO_COLOR, no markup in values."""
    from rich.console import Console  # noqa: PLC0415 - JSON output and --help do without it

    terminal = sys.stdout.isatty()
    return Console(
        file=sys.stdout,
        force_terminal=terminal,
        width=None if terminal else PIPE_WIDTH,
        no_color="NO_COLOR" in os.environ or not terminal,
        markup=False,
        highlight=False,
        emoji=False,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A value with a style (a rich style name, used on terminals only)."""

    value: object
    style: str = ""


def line(value: object, style: str = "") -> None:
    """Print one line of text for people. Only whole values of our own are passed; others go through `shown`."""
    from rich.text import Text  # noqa: PLC0415

    console().print(Text(escaped(str(value)), style=style), soft_wrap=True)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, nothing: str) -> None:
    """Print rows under headings, or the line `nothing` where there are none."""
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    out = console()
    drawn = Table(box=box.SIMPLE_HEAD if out.is_terminal else None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        drawn.add_column(column, overflow="fold", no_wrap=column in _WHOLE)
    for row in rows:
        cells = (cell if isinstance(cell, Cell) else Cell(value=cell) for cell in row)
        drawn.add_row(*(Text(shown(cell.value), style=cell.style) for cell in cells))
    if drawn.row_count:
        _draw(out, drawn)
    else:
        line(nothing)


def facts(pairs: Iterable[tuple[str, object]]) -> None:
    """Print names and values, one pair a line."""
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    drawn = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    drawn.add_column(no_wrap=True)
    drawn.add_column(overflow="fold")
    for name, value in pairs:
        cell = value if isinstance(value, Cell) else Cell(value=value)
        drawn.add_row(Text(name, style="bold"), Text(shown(cell.value), style=cell.style))
    _draw(console(), drawn)


def _draw(out: Console, drawn: Table) -> None:
    """Print a table; off a terminal without the blanks that fill its last column."""
    if out.is_terminal:
        out.print(drawn)
        return
    with out.capture() as captured:
        out.print(drawn)
    out.file.write("".join(f"{each.rstrip()}\n" for each in captured.get().splitlines()))


def complain(kind: str, text: str) -> None:
    """Write `kind: text` to stderr as exactly one line."""
    sys.stderr.write(f"{kind}: {escaped(' '.join(text.split()))}\n")
    sys.stderr.flush()


def error(text: str) -> None:
    """One line that says what is wrong and what to do next."""
    complain("error", text)


def warning(text: str) -> None:
    """One line on stderr that does not change the outcome."""
    complain("warning", text)


def safe_streams() -> None:
    """Make characters that the stream's encoding lacks (a Windows code page) come out escaped, not as a crash."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
