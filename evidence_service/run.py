"""Runs decision plane, worker and admin plane as processes of one parent, for a machine that has one service.

They stay separate processes so that refreshing cannot slow down launches (decision 10). The parent only starts them,
hands signals on, and starts again what died. Where the child that answers launches will not stay up, that ends the
whole, for the service manager to see; any other is tried again at longer intervals, as whoever can bring down the
admin plane or the worker must not bring down launches with it (promise 86).
"""

from __future__ import annotations

import collections
import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType

import structlog

from evidence_service.web.logs import configure_logs

OK, BAD_INPUT, DEPENDENCY_FAILED = 0, 2, 3

RESTARTS = 5
RESTARTS_WITHIN_SECONDS = 300.0
RESTART_AFTER_SECONDS = 1.0
REST_SECONDS = 60.0
"""How long a child that does not stay up is left alone."""
NEEDED = "serve"
"""The child without which the others are of no use."""
END_SECONDS = 12.0
"""Draining ends within 10 s; what has not ended by then is killed."""
LOOK_SECONDS = 0.1
LAST_LINES_SECONDS = 1.0

_log = structlog.get_logger()


def run(commands: Mapping[str, Sequence[str]], *, log_level: str) -> int:
    """Run each of `commands` (name -> arguments) until SIGTERM or SIGINT.

    It ends too where NEEDED cannot be kept running. Answers the exit code of the child that ended it, and after a
    signal the first that is not 0.
    """
    flush_logs = configure_logs(log_level)
    try:
        with _stopped_by_signals() as stop:
            return _supervise([_Child(name, arguments) for name, arguments in commands.items()], stop)
    finally:
        flush_logs(LAST_LINES_SECONDS)


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """An event that every signal sets by which a terminal or a service manager ends a process."""
    stop = threading.Event()

    def handle(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    names = ("SIGTERM", "SIGINT", "SIGHUP", "SIGBREAK")
    numbers = [number for name in names if (number := getattr(signal, name, None)) is not None]
    before = [(number, signal.signal(number, handle)) for number in numbers]
    try:
        yield stop
    finally:
        for number, handler in before:
            signal.signal(number, handler)


class _Child:
    """One process, and when it was started."""

    def __init__(self, name: str, arguments: Sequence[str]) -> None:
        self.name = name
        self._arguments = list(arguments)
        self._starts: collections.deque[float] = collections.deque(maxlen=RESTARTS + 1)
        self._process: subprocess.Popen[bytes] | None = None
        self._start_at = 0.0

    @property
    def is_started(self) -> bool:
        return self._process is not None

    @property
    def wants_start(self) -> bool:
        return self._process is None and time.monotonic() >= self._start_at

    @property
    def is_worn_out(self) -> bool:
        """Whether it was started so often lately that another time would not help."""
        starts = self._starts
        return len(starts) > RESTARTS and time.monotonic() - starts[0] < RESTARTS_WITHIN_SECONDS

    @property
    def is_needed(self) -> bool:
        """Whether nothing works without it."""
        return self.name == NEEDED

    def rest(self) -> None:
        """Start it later than usual."""
        self._start_at = time.monotonic() + REST_SECONDS

    def start(self) -> None:
        """Start it. Raises OSError."""
        # Of its own group: Ctrl+C reaches the parent alone, which hands it on once.
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            self._arguments,
            stdin=subprocess.DEVNULL,
            start_new_session=sys.platform != "win32",
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        self._starts.append(time.monotonic())
        _log.info("started", process=self.name, pid=self._process.pid)

    def ended(self) -> int | None:
        """Its exit code if it ended, in the way of shells for a signal; it may then be started again."""
        if self._process is None or (code := self._process.poll()) is None:
            return None
        self._process = None
        self._start_at = time.monotonic() + RESTART_AFTER_SECONDS
        return code if code >= 0 else 128 - code

    def ask_to_end(self) -> None:
        """As a service manager asks; on Windows by Ctrl+Break."""
        if self._process is not None:
            with contextlib.suppress(OSError):
                self._process.send_signal(getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM))

    def end(self, seconds: float) -> int:
        """Its exit code, killed after so many seconds."""
        if self._process is None:
            return OK
        try:
            code = self._process.wait(max(seconds, 0))
        except subprocess.TimeoutExpired:
            _log.error("killed", process=self.name, problem=f"it did not end within {END_SECONDS:g} s")
            self._process.kill()
            code = self._process.wait()
        return code if code >= 0 else 128 - code


def _supervise(children: Sequence[_Child], stop: threading.Event) -> int:
    decisive = None
    try:
        while decisive is None and not stop.is_set():
            decisive = _look(children)
            stop.wait(LOOK_SECONDS)
    except OSError:
        decisive = DEPENDENCY_FAILED
    for child in children:
        child.ask_to_end()
    until = time.monotonic() + END_SECONDS
    codes = [child.end(until - time.monotonic()) for child in children]
    return decisive if decisive is not None else next((code for code in codes if code != OK), OK)


def _look(children: Sequence[_Child]) -> int | None:
    """Start what is to be started; the exit code of a child that cannot be kept running.

    Raises OSError where the needed one cannot be started at all.
    """
    for child in children:
        code = child.ended()
        if code is not None:
            # What is wrong with its settings does not mend itself.
            tired = code == BAD_INPUT or child.is_worn_out
            final = tired and child.is_needed
            if tired:
                child.rest()
            say = _log.error if tired or code != OK else _log.warning
            say("ended", process=child.name, code=code, restarted=not final)
            if final:
                return code or DEPENDENCY_FAILED
        elif child.wants_start:
            try:
                child.start()
            except OSError as error:
                _log.error("not_started", process=child.name, problem=f"it cannot be started: {error.strerror}")
                if child.is_needed:
                    raise
                child.rest()
    return None
