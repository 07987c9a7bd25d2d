"""The process log: one JSON object per line, whatever comes in."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from evidence_service.web.logs import configure_logs
from evidence_service.web.text import shown

HOSTILE = '\r\n{"event":"forged"}\x00\x1b[31m\x85\u2028\u202e%s{}'


@pytest.fixture
def sink() -> Iterator[io.BytesIO]:
    """The bytes that would go to stderr."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    stream = io.BytesIO()
    configure_logs("info", stream)
    yield stream
    root.handlers[:], level = before
    root.setLevel(level)
    structlog.reset_defaults()


def test_h11_hostile_values_are_escaped_and_cut(sink: io.BytesIO) -> None:
    """One line, printable, short, and only one event (H11, promise 68)."""
    structlog.get_logger().info("decision", request_id=HOSTILE, other="A" * 1_000_000)
    raw = sink.getvalue()
    assert raw.count(b"\n") == 1
    assert len(raw) < 2000
    assert raw.decode().rstrip("\n").isprintable()
    line = json.loads(raw)
    assert line["event"] == "decision"
    assert line["request_id"] == shown(HOSTILE)
    assert line["other"] == "A" * 500 + "...(+999500)"


def test_lines_of_libraries_come_out_the_same_way(sink: io.BytesIO) -> None:
    """What uvicorn or asyncio warn of is a JSON line too, and their hostile text is escaped."""
    logging.getLogger("uvicorn.error").warning("got %s", HOSTILE)
    logging.getLogger("uvicorn.error").info("chatter")
    (raw,) = sink.getvalue().splitlines()
    line = json.loads(raw)
    assert (line["logger"], line["level"]) == ("uvicorn.error", "warning")
    assert line["event"].isprintable()


def test_exceptions_are_named_without_their_text(sink: io.BytesIO) -> None:
    """Type and places help to repair; the text may name a person (promise 72)."""
    try:
        _ = json.loads("{}")["alice@corp.example"]
    except KeyError as error:
        structlog.get_logger().error("internal_error", exc_info=error)
        logging.getLogger("library").exception("failed")
    assert b"alice" not in sink.getvalue()
    for raw in sink.getvalue().splitlines():
        line = json.loads(raw)
        assert line["error"] == "KeyError"
        assert any("test_logs.py" in frame for frame in line["frames"])


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("plain", 10, "plain"),
        ("naïve 日本", 20, "naïve 日本"),
        ("a\nb", 10, "a\\u000ab"),
        ("\U000e0001", 10, "\\U000e0001"),
        ("\ud800", 10, "\\ud800"),
        ("abcdef", 3, "abc...(+3)"),
        ("", 3, ""),
    ],
)
def test_shown(text: str, limit: int, expected: str) -> None:
    """Unprintable characters by number, the rest counted."""
    assert shown(text, limit) == expected
