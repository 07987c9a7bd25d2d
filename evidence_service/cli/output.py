"""What reaches a terminal or a pipe: escaped text, tables, JSON, instants, one-line errors.

Values out of evidence, metadata and the database are hostile. Nothing unprintable (control characters, ANSI
sequences, bidirectional and zero-width formatting, lone surrogates, unusual blanks) is written as it is.
"""

from __future__ import annotations

import json
import os
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from evidence_service.trust_admin.texts import moment
from evidence_service.web.text import shown as harmless

if TYPE_CHECKING:
    from rich.console import Console

SHOWN_CHARACTERS = 300
SENTENCE_CHARACTERS = 2000  # of our own sentences, whose end says what to do
PIPE_WIDTH = 10_000  # off a terminal a row is one line, so that grep and awk can work on it
SHORT_DIGEST = 12

# What may be broken, between words; all others are whole.
_SENTENCES = frozenset(
    {"act", "delivery", "expected", "finding", "meaning", "next", "presented", "to do", "where", "why"}
    | {"asked", "last act", "last error", "paused", "planned", "problem", "result", "title"}
)
_NARROWEST = 12
_READABLE = 30  # a sentence is not broken into narrower lines
_GAP = 2


class Output(StrEnum):
    """How a reading command prints."""

    TABLE = "table"
    JSON = "json"


def escaped(text: str) -> str:
    """`text` on one line, with every character that is not plainly printable as an escape sequence."""
    return harmless(text, limit=len(text))


def shown(value: object, *, limit: int = SHOWN_CHARACTERS) -> str:
    """Any value as one line for people: instants in UTC to the second, long texts cut."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return moment(value)
    return harmless(str(value), limit=limit)


def _shown_as(name: str, value: object) -> str:
    """The value of this column or name: what is a sentence keeps its end, where the remedy stands."""
    return shown(value, limit=SENTENCE_CHARACTERS if name.strip() in _SENTENCES else SHOWN_CHARACTERS)


def emit_json(value: object) -> None:
    """Print a value as JSON of ASCII only, so that nothing in it can reach a terminal as a control sequence."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=True) + "\n")


def emit_json_line(value: object) -> None:
    """Print a value as one line of JSON and hand it on at once."""
    sys.stdout.write(json.dumps(value, ensure_ascii=True) + "\n")
    sys.stdout.flush()


def on_terminal() -> bool:
    """Whether a person looks at standard output."""
    return sys.stdout.isatty()


def console() -> Console:
    """Standard output for people: colour only on a terminal and without NO_COLOR, no markup in values."""
    from rich.console import Console  # noqa: PLC0415 - JSON output and --help do without it

    terminal = on_terminal()
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


def nothing_changed() -> None:
    """The last line of every dry run."""
    line("Nothing was changed (--dry-run).")


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    nothing: str,
    short_digests: bool = True,
    compact: bool = False,
) -> None:
    """Print rows under headings, or the line `nothing` where there are none.

    On a terminal a column `SHA-256` is shortened unless `short_digests` is off. Names, identifiers and codes are never
    broken, so that they can be copied: rows that do not fit are printed one value a line, digests in full. `compact`
    is for long tables: there the first two values share a line and the others are indented below, without empty ones.
    """
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    cells = [[cell if isinstance(cell, Cell) else Cell(value=cell) for cell in row] for row in rows]
    if not cells:
        line(nothing)
        return
    out = console()
    short = short_digests and out.is_terminal
    texts = [
        [_in_table(name, _shown_as(name, cell.value), short=short) for name, cell in zip(columns, row, strict=True)]
        for row in cells
    ]
    widths = _widths(columns, texts, out.width)
    if widths is None:
        _compact(columns, cells) if compact else _blocks(columns, cells)
        return
    drawn = Table(box=None, header_style="bold underline", pad_edge=False, padding=(0, _GAP, 0, 0))
    for column, width in zip(columns, widths, strict=True):
        drawn.add_column(column, overflow="fold", width=width)
    for row, written in zip(cells, texts, strict=True):
        drawn.add_row(*(Text(text, style=cell.style) for cell, text in zip(row, written, strict=True)))
    if out.is_terminal:
        out.print(drawn)
        return
    with out.capture() as captured:
        out.print(drawn)
    out.file.write("".join(f"{each.rstrip()}\n" for each in captured.get().splitlines()))


def _in_table(column: str, text: str, *, short: bool) -> str:
    return f"{text[:SHORT_DIGEST]}\u2026" if short and column == "SHA-256" and len(text) > SHORT_DIGEST else text


def _widths(columns: Sequence[str], texts: Sequence[Sequence[str]], available: int) -> list[int] | None:
    """How wide each column is drawn; None where whole columns do not fit."""
    from rich.cells import cell_len  # noqa: PLC0415

    wanted, widths = [], []
    for number, column in enumerate(columns):
        written = [column, *(row[number] for row in texts)]
        width = max(map(cell_len, written))
        wanted.append(width)
        if column in _SENTENCES:
            word = max(cell_len(word) for text in written for word in (text.split() or [""]))
            width = min(width, max(word, _NARROWEST))
        widths.append(width)
    left = available - sum(widths) - _GAP * (len(columns) - 1)
    if left < 0:
        return None
    while left and (short := [number for number, width in enumerate(widths) if width < wanted[number]]):
        for number in short[:left]:
            widths[number] += 1
        left -= len(short[:left])
    return widths


def _blocks(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Each row as a block of names and values; one without a heading leads its block."""
    for number, row in enumerate(rows):
        if number:
            line("")
        for column, cell in zip(columns, row, strict=True):
            if not column:
                line(shown(cell.value), cell.style)
        facts((column, cell) for column, cell in zip(columns, row, strict=True) if column and cell.value != "")


def _compact(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Each row as a line of its first two values, and an indented line for each other that is not empty."""
    from rich.text import Text  # noqa: PLC0415

    out = console()
    width = max(len(shown(first.value)) for first, *_ in rows) + _GAP
    for first, second, *others in rows:
        out.print(Text.assemble((shown(first.value).ljust(width), first.style), shown(second.value)), soft_wrap=True)
        indented = ((" " * width + name, cell) for name, cell in zip(columns[2:], others, strict=True) if cell.value)
        facts(indented)


def facts(pairs: Iterable[tuple[str, object]]) -> None:
    """Print names and values, one pair a line; a long value is never broken, so that it can be copied.

    On a terminal a sentence goes on below its beginning.
    """
    from rich.text import Text  # noqa: PLC0415

    known = [(name, value if isinstance(value, Cell) else Cell(value=value)) for name, value in pairs]
    width = max((len(name) for name, _ in known), default=0) + _GAP
    out = console()
    for name, cell in known:
        text = _shown_as(name, cell.value)
        left = out.width - width
        if out.is_terminal and name.strip() in _SENTENCES and left >= _READABLE:
            lines = textwrap.wrap(text, left, break_long_words=False, break_on_hyphens=False)
            text = ("\n" + " " * width).join(lines)
        out.print(Text.assemble((name.ljust(width), "bold"), (text, cell.style)), soft_wrap=True)


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
    """Make the standard streams usable, whatever the process was started with.

    A closed one is replaced by the null device. Characters that a stream's encoding lacks (a Windows code page) come
    out escaped, not as a crash.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - open until the end
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
