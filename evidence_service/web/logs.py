"""The process log: one JSON object per line on stderr, without personal data and without line breaks in values."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import traceback
from typing import Any, BinaryIO

import msgspec
import structlog
from structlog.typing import EventDict, WrappedLogger

from evidence_service.web.text import shown

MAX_VALUE = 500
MAX_FRAMES = 20


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


def _json(event: EventDict, **_: Any) -> bytes:
    return msgspec.json.encode(event, enc_hook=_as_text)


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
        structlog.get_logger().log(
            record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info or None
        )


class _Sink:
    """Writes lines; in an event loop those of one round go out together, since each flush costs a thread switch."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._waiting = False

    def msg(self, line: bytes) -> None:
        self._stream.write(line + b"\n")
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._stream.flush()
            return
        if not self._waiting:
            self._waiting = True
            loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._waiting = False
        with contextlib.suppress(OSError, ValueError):  # nobody reads stderr any more, and nobody could be told
            self._stream.flush()

    log = debug = info = warn = warning = error = critical = fatal = exception = msg


def configure_logs(level: str = "info", stream: BinaryIO | None = None) -> None:
    """Send structlog and the standard library's logging to `stream` (stderr) as JSON lines."""
    number = logging.getLevelNamesMapping()[level.upper()]
    sink = _Sink(stream or sys.stderr.buffer)
    structlog.configure(
        processors=[*_SHARED, structlog.processors.JSONRenderer(serializer=_json)],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: sink,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [_ToStructlog()]
    root.setLevel(max(number, logging.WARNING))
