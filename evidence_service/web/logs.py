"""The process log: one JSON object per line on stderr, without personal data and without line breaks in values.

Logging never raises and never waits. Lines go out through one thread; what a reader that stands still leaves no
room for is dropped, and what could not be written is counted: `dropped` in the next line that gets through. Lines
that strangers can cause are limited per second: `left_out` names how many of which there were beyond.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any, BinaryIO

import msgspec
import structlog
from structlog.typing import EventDict, WrappedLogger

from evidence_service.web.text import shown

MAX_VALUE = 500
MAX_FRAMES = 20
MAX_WAITING = 8192
"""Lines that may wait for the reader."""

PAUSE = 0.02
"""Seconds between writes: each takes the interpreter from those who decide, so lines go out together."""

STRANGERS_PER_SECOND = 10
STRANGERS = frozenset({"caller_refused", "connection_closed", "handshake_refused", "asyncio", "uvicorn.error"})
"""Events, and loggers of libraries, to which nobody needs a credential."""


def _harmless(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Foreign text in any value: escaped and cut, so that it can neither forge nor hide a line."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = shown(value, MAX_VALUE)
    return event


def _failure(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """`exc_info` as type and places: an exception's own text may hold what it failed on."""
    info = event.pop("exc_info", None)
    error = info[1] if isinstance(info, tuple) else info
    if error is True:
        error = sys.exception()
    if isinstance(error, BaseException):
        event["error"] = type(error).__name__
        frames = traceback.extract_tb(error.__traceback__, limit=-MAX_FRAMES)
        event["frames"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    return event


def _as_text(value: object) -> str:
    return shown(repr(value), MAX_VALUE)


_SHARED: list[structlog.typing.Processor] = [
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    _failure,
    _harmless,
]


class _ToStructlog(logging.Handler):
    """Hands the lines of libraries (uvicorn, asyncio, SQLAlchemy) to the same sink."""

    def emit(self, record: logging.LogRecord) -> None:
        """Forward one record."""
        with contextlib.suppress(Exception):  # arguments that do not fit the text, a level that nobody knows
            structlog.get_logger().log(
                record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info or None
            )


class _Throttle:
    """Of what strangers cause, lets through so many lines a second and counts the others."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # an object that is collected meanwhile may log as well
        self._began = time.monotonic()
        self._counts: Counter[str] = Counter()

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        name = event.get("logger", event["event"])
        with self._lock:
            now = time.monotonic()
            if now - self._began >= 1:
                beyond = {each: n - STRANGERS_PER_SECOND for each, n in self._counts.items()}
                if left_out := {each: n for each, n in beyond.items() if n > 0}:
                    event["left_out"] = left_out
                self._began = now
                self._counts.clear()
            if name in STRANGERS:
                self._counts[name] += 1
                if self._counts[name] > STRANGERS_PER_SECOND:
                    raise structlog.DropEvent
        return event


class _Sink:
    """Lines on their way out, and the thread that takes them there."""

    def __init__(self, write: Callable[[memoryview], int], capacity: int) -> None:
        self._write = write
        self._capacity = capacity
        self._waiting: queue.SimpleQueue[tuple[bytes, int] | threading.Event] = queue.SimpleQueue()
        self._lock = threading.RLock()  # as in _Throttle
        self._dropped = 0
        self._torn = False
        threading.Thread(target=self._run, name="log", daemon=True).start()

    def admit(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        """The first processor: no work on what has no room."""
        if self._waiting.qsize() >= self._capacity:
            self.drop(1)
            raise structlog.DropEvent
        return event

    def render(self, _: WrappedLogger, __: str, event: EventDict) -> tuple[tuple[bytes, int], dict[str, Any]]:
        """The last processor: the line, and how many dropped ones it tells of."""
        with self._lock:
            dropped, self._dropped = self._dropped, 0
        try:
            line = msgspec.json.encode({**event, "dropped": dropped} if dropped else event, enc_hook=_as_text)
        except BaseException:
            self.drop(dropped)
            raise
        return (line + b"\n", dropped), {}

    def drop(self, count: int) -> None:
        """Count lines that nobody will read."""
        with self._lock:
            self._dropped += count

    def msg(self, line: bytes, tells_of: int) -> None:
        """Hand over one line."""
        self._waiting.put((line, tells_of))

    log = debug = info = warn = warning = error = critical = fatal = exception = msg

    def flush(self, seconds: float) -> bool:
        """Wait so long at most; answers whether everything was written or dropped."""
        written = threading.Event()
        self._waiting.put(written)
        return written.wait(seconds)

    def _run(self) -> None:
        while True:
            batch = [self._waiting.get()]
            with contextlib.suppress(queue.Empty):
                while len(batch) < self._capacity:
                    batch.append(self._waiting.get_nowait())
            self._put([each for each in batch if not isinstance(each, threading.Event)])
            for each in batch:
                if isinstance(each, threading.Event):
                    each.set()
            time.sleep(PAUSE)

    def _put(self, lines: list[tuple[bytes, int]]) -> None:
        prefix = b"\n" if self._torn else b""
        data = b""
        written = 0
        try:
            data = prefix + b"".join(line for line, _ in lines)
            while written < len(data):
                written += self._write(memoryview(data)[written:])
        except Exception:  # noqa: BLE001 - nobody reads stderr any more, its disk is full; the thread must go on
            missing = sum(len(line) for line, _ in lines) - max(written - len(prefix), 0)
            for line, tells_of in reversed(lines):
                if missing <= 0:
                    break
                missing -= len(line)
                self.drop(1 + tells_of)
        if written:
            self._torn = data[written - 1 : written] != b"\n"


def _to_stderr(data: memoryview) -> int:
    """Past Python's buffers, whose lock a writer that hangs would keep until the end of the process, and beyond."""
    while True:
        try:
            return os.write(sys.stderr.fileno(), data)
        except BlockingIOError:  # somebody else made it non-blocking
            time.sleep(PAUSE)


def configure_logs(
    level: str = "info", stream: BinaryIO | None = None, *, capacity: int = MAX_WAITING
) -> Callable[[float], bool]:
    """Send structlog and the standard library's logging to `stream` (stderr) as JSON lines.

    Answers a function that waits until all lines are out, so many seconds at most, and says whether they are.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    sink = _Sink(_to_stderr if stream is None else stream.write, capacity)

    class Quiet(structlog.make_filtering_bound_logger(number)):  # type: ignore[misc]
        """Whatever goes wrong with a line costs that line."""

        def _proxy_to_logger(self, *args: Any, **values: Any) -> None:
            try:
                super()._proxy_to_logger(*args, **values)
            except Exception:  # noqa: BLE001 - there is no other place to say it
                sink.drop(1)

    structlog.configure(
        processors=[sink.admit, _Throttle(), *_SHARED, sink.render],
        wrapper_class=Quiet,
        logger_factory=lambda *_: sink,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [_ToStructlog()]
    root.setLevel(max(number, logging.WARNING))
    return sink.flush
