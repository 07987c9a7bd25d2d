"""The process log: one JSON object per line, whatever comes in."""

from __future__ import annotations

import io
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from evidence_service.web.logs import STRANGERS_PER_SECOND, configure_logs
from evidence_service.web.text import shown

HOSTILE = '\r\n{"event":"forged"}\x00\x1b[31m\x85\u2028\u202e%s{}'


PATIENCE = 20.0


class Sink:
    """What would go to stderr, and when it is there."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.stream = io.BytesIO()
        self.flush: Callable[[float], bool] = configure_logs("info", self.stream)

    def getvalue(self) -> bytes:
        """All that was logged."""
        assert self.flush(PATIENCE)
        return self.stream.getvalue()


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Logging as it was."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], level = before
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def sink() -> Sink:
    """The bytes that would go to stderr."""
    return Sink()


def test_h11_hostile_values_are_escaped_and_cut(sink: Sink) -> None:
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


def test_lines_of_libraries_come_out_the_same_way(sink: Sink) -> None:
    """What uvicorn or asyncio warn of is a JSON line too, and their hostile text is escaped."""
    logging.getLogger("uvicorn.error").warning("got %s", HOSTILE)
    logging.getLogger("uvicorn.error").info("chatter")
    (raw,) = sink.getvalue().splitlines()
    line = json.loads(raw)
    assert (line["logger"], line["level"]) == ("uvicorn.error", "warning")
    assert line["event"].isprintable()


def test_exceptions_are_named_without_their_text(sink: Sink) -> None:
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


def _lines(raw: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in raw.splitlines() if line]


def _all_of(reading: int) -> bytes:
    """What comes through a pipe until nobody writes any more."""
    with os.fdopen(reading, "rb") as stream:
        return stream.read()


def test_promise_66_a_reader_that_stands_still_holds_nobody() -> None:
    """Lines beyond the bound are dropped at once, and the next that gets through says how many (promises 2, 66)."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb", buffering=0) as stream:
        flush = configure_logs("info", stream, capacity=300)
        log = structlog.get_logger()
        # Most of it fits neither into the pipe nor into the queue; without a bound this would never end.
        writer = threading.Thread(target=lambda: [log.info("decision", pad="A" * 400) for _ in range(2000)])
        writer.start()
        writer.join(PATIENCE)
        assert not writer.is_alive()
        assert not flush(0.05)
        read: list[bytes] = []
        reader = threading.Thread(target=lambda: read.append(_all_of(reading)))
        reader.start()
        assert flush(PATIENCE)
        log.info("after")
        assert flush(PATIENCE)
    reader.join(PATIENCE)
    lines = _lines(read[0])
    assert lines[-1]["event"] == "after"
    dropped = sum(line.get("dropped", 0) for line in lines)
    assert dropped > 0
    assert len(lines) - 1 + dropped == 2000


class Failing:
    """A sink that takes what fits, as a full disk does, until there is room again."""

    def __init__(self) -> None:
        """No room beyond a part of the first line."""
        self.room = 30
        self.taken = b""

    def write(self, data: memoryview) -> int:
        """Take what fits."""
        if not self.room:
            raise OSError
        size = min(self.room, len(data))
        self.room -= size
        self.taken += data[:size]
        return size


def test_promise_35_a_sink_that_fails_costs_its_lines_and_nothing_else() -> None:
    """Nothing is raised, the half line is ended, and the loss is told later (promise 35)."""
    stream = Failing()
    flush = configure_logs("info", stream)  # type: ignore[arg-type] # as much of a stream as is used
    log = structlog.get_logger()
    for _ in range(3):
        log.info("lost")
        assert flush(PATIENCE)
    stream.room = 100_000
    log.info("after")
    assert flush(PATIENCE)
    half, whole, end = stream.taken.split(b"\n")
    assert (len(half), end) == (30, b"")
    line = json.loads(whole)
    assert (line["event"], line["dropped"]) == ("after", 3)


class Unspeakable:
    """A value that cannot be shown."""

    def __repr__(self) -> str:
        """Nothing."""
        raise RuntimeError


def test_promise_35_a_line_that_cannot_be_made_raises_nothing(sink: Sink) -> None:
    """A log call never ends what it reports on; the line lost is counted (promise 35)."""
    structlog.get_logger().info("lost", value=Unspeakable())
    (handler,) = (each for each in logging.getLogger().handlers if type(each).__module__ == configure_logs.__module__)
    handler.handle(logging.makeLogRecord({"msg": "%d", "args": ("no number",), "levelno": logging.WARNING}))
    structlog.get_logger().info("after")
    (line,) = _lines(sink.getvalue())
    assert (line["event"], line["dropped"]) == ("after", 1)


def test_promise_82_strangers_cannot_flood_the_log(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    """What needs no credential is limited by kind per second and counted, decisions are not limited (promise 82)."""
    log, now = structlog.get_logger(), time.monotonic() + 60
    monkeypatch.setattr("time.monotonic", lambda: now)
    for _ in range(500):
        log.warning("caller_refused", why="unknown")
        log.info("connection_closed", why="slow")
        log.info("decision", reason="ok")
        logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    assert len(_lines(sink.getvalue())) == 500 + 3 * STRANGERS_PER_SECOND
    now += 1.1  # what was left out is told once its second is over
    log.info("decision", reason="ok")
    lines = _lines(sink.getvalue())
    assert sum(line["event"] == "decision" for line in lines) == 501
    for name in ("caller_refused", "connection_closed", "uvicorn.error"):
        said = sum(name in (line["event"], line.get("logger")) for line in lines)
        assert said == STRANGERS_PER_SECOND
        assert said + sum(line.get("left_out", {}).get(name, 0) for line in lines) == 500


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
